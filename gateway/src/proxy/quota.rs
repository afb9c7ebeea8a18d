//! How many bytes each subscriber moved today, in bounded memory.
//!
//! The day is that of UTC by the clock that is passed in. Every session counts, limited or not, so
//! that a limit that comes with a new policy finds the day's bytes. Counts outlive policies and
//! sessions, but not the process. A subscriber for whom there is no room is refused if it is
//! limited; a full table never opens anything.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;

/// The accounts of all subscribers.
#[derive(Debug)]
pub(super) struct Quotas {
    room: usize,
    book: Mutex<Book>,
}

/// One subscriber's bytes.
#[derive(Debug, Default)]
pub(super) struct Account(Mutex<Usage>);

/// Where a subscriber stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Balance {
    /// It may go on.
    Within,
    /// Its limit was reached by what was counted last.
    Reached,
    /// Its limit had been reached before.
    Over,
}

/// Why a subscriber may not open a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QuotaLimit {
    /// It moved as many bytes as its class allows for today.
    #[error("the subscriber moved {limit} bytes today; at most {limit}")]
    Bytes {
        /// The limit.
        limit: u64,
    },
    /// It is limited, and its bytes cannot be counted.
    #[error("the bytes of {limit} subscribers are counted; at most {limit}")]
    Room {
        /// The limit.
        limit: usize,
    },
}

#[derive(Debug, Default)]
struct Book {
    day: Day,
    accounts: HashMap<IpAddr, Arc<Account>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    day: Day,
    bytes: u64,
    limit: Option<u64>,
}

/// Days since 1970 in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Day(i64);

impl Quotas {
    /// Accounts for at most `room` subscribers.
    pub(super) fn new(room: usize) -> Self {
        Self { room, book: Mutex::default() }
    }

    /// The account of `subscriber`, held to `limit` from now on; `None` if there is no room for
    /// one and no limit that would need it.
    ///
    /// # Errors
    ///
    /// The limit is reached, or cannot be watched.
    pub(super) fn open(
        &self,
        subscriber: IpAddr,
        limit: Option<u64>,
        now: Timestamp,
    ) -> Result<Option<Arc<Account>>, QuotaLimit> {
        let account = self.book.lock().unwrap_or_else(PoisonError::into_inner).account(
            subscriber,
            self.room,
            Day::of(now),
        );
        match (account, limit) {
            (None, None) => Ok(None),
            (None, Some(_)) => Err(QuotaLimit::Room { limit: self.room }),
            (Some(account), limit) => match (account.hold_to(limit, now), limit) {
                (Balance::Within, _) | (_, None) => Ok(Some(account)),
                (Balance::Reached | Balance::Over, Some(limit)) => Err(QuotaLimit::Bytes { limit }),
            },
        }
    }

    /// How many subscribers have an account.
    pub(super) fn count(&self) -> usize {
        self.book.lock().unwrap_or_else(PoisonError::into_inner).accounts.len()
    }
}

impl Book {
    fn account(&mut self, subscriber: IpAddr, room: usize, today: Day) -> Option<Arc<Account>> {
        if today > self.day {
            self.day = today;
            // Live sessions go on counting in the accounts they have.
            self.accounts.retain(|_, account| Arc::strong_count(account) > 1);
        }
        if let Some(account) = self.accounts.get(&subscriber) {
            return Some(Arc::clone(account));
        }
        (self.accounts.len() < room)
            .then(|| Arc::clone(self.accounts.entry(subscriber).or_default()))
    }
}

impl Account {
    /// Counts `bytes` that were moved.
    pub(super) fn spend(&self, bytes: u64, now: Timestamp) -> Balance {
        let mut usage = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        usage.begin(Day::of(now));
        let before = usage.is_over();
        usage.bytes = usage.bytes.saturating_add(bytes);
        match (before, usage.is_over()) {
            (true, _) => Balance::Over,
            (false, true) => Balance::Reached,
            (false, false) => Balance::Within,
        }
    }

    /// Holds the subscriber to `limit` bytes a day, and says where it stands.
    pub(super) fn hold_to(&self, limit: Option<u64>, now: Timestamp) -> Balance {
        let mut usage = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        usage.begin(Day::of(now));
        usage.limit = limit;
        if usage.is_over() { Balance::Over } else { Balance::Within }
    }
}

impl Usage {
    /// A clock that goes back gives no bytes back.
    fn begin(&mut self, today: Day) {
        if today > self.day {
            self.day = today;
            self.bytes = 0;
        }
    }

    fn is_over(&self) -> bool {
        self.limit.is_some_and(|limit| self.bytes >= limit)
    }
}

impl Day {
    fn of(now: Timestamp) -> Self {
        Self(now.as_second().div_euclid(SECONDS_A_DAY))
    }
}

const SECONDS_A_DAY: i64 = 86_400;

/// Subscribers whose bytes are counted, on one node and one day; about 130 MB if all come.
pub(super) const ROOM: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn subscriber(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn says_once_that_the_limit_is_reached_and_refuses_new_sessions() {
        let (quotas, now) = (Quotas::new(8), at("2026-09-01T12:00:00Z"));
        let account = quotas.open(subscriber(1), Some(100), now).unwrap().unwrap();
        let again = quotas.open(subscriber(1), Some(100), now).unwrap().unwrap();
        assert_eq!(account.spend(60, now), Balance::Within);
        assert_eq!(again.spend(40, now), Balance::Reached, "both directions, all sessions");
        assert_eq!(account.spend(1, now), Balance::Over);
        let refused = quotas.open(subscriber(1), Some(100), now).unwrap_err();
        assert_eq!(refused, QuotaLimit::Bytes { limit: 100 });
        assert!(quotas.open(subscriber(2), Some(100), now).is_ok(), "another subscriber");
    }

    #[test]
    fn a_new_day_in_utc_begins_with_nothing_and_a_clock_set_back_gives_nothing_back() {
        let (quotas, night) = (Quotas::new(8), at("2026-09-01T23:59:59Z"));
        let account = quotas.open(subscriber(1), Some(100), night).unwrap().unwrap();
        assert_eq!(account.spend(100, night), Balance::Reached);
        assert!(quotas.open(subscriber(1), Some(100), at("2026-08-31T12:00:00Z")).is_err());
        let morning = at("2026-09-02T00:00:00Z");
        assert_eq!(account.spend(99, morning), Balance::Within, "a live session");
        let same = quotas.open(subscriber(1), Some(100), morning).unwrap().unwrap();
        assert_eq!(same.spend(1, morning), Balance::Reached, "it kept its account");
    }

    #[test]
    fn a_new_limit_holds_for_what_was_moved_before_it() {
        let (quotas, now) = (Quotas::new(8), at("2026-09-01T12:00:00Z"));
        let account = quotas.open(subscriber(1), None, now).unwrap().unwrap();
        assert_eq!(account.spend(1_000, now), Balance::Within);
        assert_eq!(account.hold_to(Some(1_001), now), Balance::Within);
        assert_eq!(account.hold_to(Some(1_000), now), Balance::Over);
        assert_eq!(account.hold_to(None, now), Balance::Within);
    }

    #[test]
    fn a_full_table_refuses_the_limited_and_is_emptied_by_the_day() {
        let (quotas, now) = (Quotas::new(2), at("2026-09-01T12:00:00Z"));
        let held = quotas.open(subscriber(1), Some(100), now).unwrap();
        assert!(quotas.open(subscriber(2), Some(100), now).unwrap().is_some());
        let refused = quotas.open(subscriber(3), Some(100), now).unwrap_err();
        assert_eq!(refused, QuotaLimit::Room { limit: 2 });
        assert!(quotas.open(subscriber(3), None, now).unwrap().is_none());
        assert_eq!(quotas.count(), 2);
        let tomorrow = at("2026-09-02T12:00:00Z");
        assert!(quotas.open(subscriber(3), Some(100), tomorrow).unwrap().is_some());
        assert_eq!(quotas.count(), 2, "one is in use, one is new");
        drop(held);
    }
}
