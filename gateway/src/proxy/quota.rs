//! How many bytes each subscriber moved today, in bounded memory.
//!
//! The day is that of UTC by the clock that is passed in. Every session counts, limited or not, so
//! that a limit that comes with a new policy finds the day's bytes. Counts outlive policies and
//! sessions, but not the process. A subscriber for whom there is no room is refused if it is
//! limited; a full table never opens anything. New sessions a second are counted beside the bytes.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use jiff::Timestamp;

/// The accounts of all subscribers, in parts of which each has a lock of its own.
#[derive(Debug)]
pub(super) struct Quotas {
    room: usize,
    kept: AtomicUsize,
    parts: Box<[Mutex<Book>]>,
    seed: RandomState,
}

/// One subscriber's books: bytes of the day, sessions of this moment.
#[derive(Debug, Default)]
pub(super) struct Account {
    usage: Mutex<Usage>,
    /// Sessions that are open.
    pub(super) open: AtomicUsize,
    /// Open sessions without a verdict.
    pub(super) unjudged: AtomicUsize,
    /// There was no room for it: it is given up with its last session.
    is_passing: bool,
}

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
    /// It opened as many sessions within a second as it may.
    #[error("the subscriber opened {limit} sessions within a second; at most {limit}")]
    Pace {
        /// The limit.
        limit: u32,
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
    /// When a second's worth of new sessions may be opened again, in nanoseconds since 1970.
    full_at: i128,
}

/// Days since 1970 in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Day(i64);

impl Quotas {
    /// Accounts for at most `room` subscribers, and for those with open sessions.
    pub(super) fn new(room: usize) -> Self {
        let parts = (0..PARTS).map(|_| Mutex::default()).collect();
        Self { room, kept: AtomicUsize::new(0), parts, seed: RandomState::new() }
    }

    /// The account of `subscriber`, held to `limit` bytes a day and `pace` new sessions a second,
    /// of which this is one.
    ///
    /// # Errors
    ///
    /// A limit is reached, or cannot be watched.
    pub(super) fn open(
        &self,
        subscriber: IpAddr,
        limit: Option<u64>,
        pace: u32,
        now: Timestamp,
    ) -> Result<Arc<Account>, QuotaLimit> {
        let account = self.account(subscriber, limit.is_some(), Day::of(now))?;
        let mut usage = account.usage.lock().unwrap_or_else(PoisonError::into_inner);
        usage.begin(Day::of(now));
        usage.limit = limit;
        if let Some(limit) = limit.filter(|_| usage.is_over()) {
            return Err(QuotaLimit::Bytes { limit });
        }
        if !usage.keeps(pace, now) {
            return Err(QuotaLimit::Pace { limit: pace });
        }
        drop(usage);
        Ok(account)
    }

    /// Gives up the account of `subscriber` if there was no room for it and nobody uses it.
    pub(super) fn close(&self, subscriber: IpAddr, account: &Arc<Account>) {
        if account.is_passing && account.open.load(Ordering::Acquire) == 0 {
            let mut book = self.book(subscriber);
            if book.accounts.get(&subscriber).is_some_and(|kept| Arc::ptr_eq(kept, account))
                && account.open.load(Ordering::Acquire) == 0
            {
                book.accounts.remove(&subscriber);
            }
        }
    }

    /// For how many subscribers an account is kept.
    pub(super) fn count(&self) -> usize {
        self.kept.load(Ordering::Relaxed)
    }

    fn book(&self, subscriber: IpAddr) -> std::sync::MutexGuard<'_, Book> {
        let hash = usize::try_from(self.seed.hash_one(subscriber) >> 32).unwrap_or_default();
        #[expect(clippy::indexing_slicing, reason = "the place is below the number of parts")]
        self.parts[hash % PARTS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn account(
        &self,
        subscriber: IpAddr,
        is_limited: bool,
        today: Day,
    ) -> Result<Arc<Account>, QuotaLimit> {
        let mut book = self.book(subscriber);
        if today > book.day {
            book.day = today;
            // Live sessions go on counting in the accounts they have.
            let mut given_up = 0;
            book.accounts.retain(|_, account| {
                let is_used = Arc::strong_count(account) > 1;
                given_up += usize::from(!is_used && !account.is_passing);
                is_used
            });
            self.kept.fetch_sub(given_up, Ordering::Relaxed);
        }
        if let Some(account) = book.accounts.get(&subscriber) {
            return if account.is_passing && is_limited {
                Err(QuotaLimit::Room { limit: self.room })
            } else {
                Ok(Arc::clone(account))
            };
        }
        let is_passing = self.kept.load(Ordering::Relaxed) >= self.room;
        if is_passing && is_limited {
            return Err(QuotaLimit::Room { limit: self.room });
        }
        if !is_passing {
            self.kept.fetch_add(1, Ordering::Relaxed);
        }
        let account = Arc::new(Account { is_passing, ..Account::default() });
        book.accounts.insert(subscriber, Arc::clone(&account));
        Ok(account)
    }
}

impl Account {
    /// Counts `bytes` that were moved.
    pub(super) fn spend(&self, bytes: u64, now: Timestamp) -> Balance {
        let mut usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
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
        let mut usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        usage.begin(Day::of(now));
        usage.limit = limit;
        // What was not counted from the start cannot be held to a limit.
        if usage.is_over() || (self.is_passing && limit.is_some()) {
            Balance::Over
        } else {
            Balance::Within
        }
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

    /// Counts a new session at `now`, unless there were `pace` within a second (the virtual
    /// scheduling algorithm of ITU-T I.371 annex A). A clock that goes back costs at most a second.
    fn keeps(&mut self, pace: u32, now: Timestamp) -> bool {
        let now = now.as_nanosecond();
        let Some(interval) = NANOSECONDS.checked_div(i128::from(pace)) else { return false };
        self.full_at = self.full_at.clamp(now, now + NANOSECONDS);
        let keeps = self.full_at + interval <= now + NANOSECONDS;
        if keeps {
            self.full_at += interval;
        }
        keeps
    }
}

impl Day {
    fn of(now: Timestamp) -> Self {
        Self(now.as_second().div_euclid(SECONDS_A_DAY))
    }
}

const SECONDS_A_DAY: i64 = 86_400;
const NANOSECONDS: i128 = 1_000_000_000;
/// Locks over all accounts.
const PARTS: usize = 64;

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
        let account = quotas.open(subscriber(1), Some(100), MANY, now).unwrap();
        let again = quotas.open(subscriber(1), Some(100), MANY, now).unwrap();
        assert_eq!(account.spend(60, now), Balance::Within);
        assert_eq!(again.spend(40, now), Balance::Reached, "both directions, all sessions");
        assert_eq!(account.spend(1, now), Balance::Over);
        let refused = quotas.open(subscriber(1), Some(100), MANY, now).unwrap_err();
        assert_eq!(refused, QuotaLimit::Bytes { limit: 100 });
        assert!(quotas.open(subscriber(2), Some(100), MANY, now).is_ok(), "another subscriber");
    }

    #[test]
    fn a_new_day_in_utc_begins_with_nothing_and_a_clock_set_back_gives_nothing_back() {
        let (quotas, night) = (Quotas::new(8), at("2026-09-01T23:59:59Z"));
        let account = quotas.open(subscriber(1), Some(100), MANY, night).unwrap();
        assert_eq!(account.spend(100, night), Balance::Reached);
        assert!(quotas.open(subscriber(1), Some(100), MANY, at("2026-08-31T12:00:00Z")).is_err());
        let morning = at("2026-09-02T00:00:00Z");
        assert_eq!(account.spend(99, morning), Balance::Within, "a live session");
        let same = quotas.open(subscriber(1), Some(100), MANY, morning).unwrap();
        assert_eq!(same.spend(1, morning), Balance::Reached, "it kept its account");
    }

    #[test]
    fn a_new_limit_holds_for_what_was_moved_before_it() {
        let (quotas, now) = (Quotas::new(8), at("2026-09-01T12:00:00Z"));
        let account = quotas.open(subscriber(1), None, MANY, now).unwrap();
        assert_eq!(account.spend(1_000, now), Balance::Within);
        assert_eq!(account.hold_to(Some(1_001), now), Balance::Within);
        assert_eq!(account.hold_to(Some(1_000), now), Balance::Over);
        assert_eq!(account.hold_to(None, now), Balance::Within);
    }

    #[test]
    fn a_full_table_refuses_the_limited_and_is_emptied_by_the_day() {
        let (quotas, now) = (Quotas::new(2), at("2026-09-01T12:00:00Z"));
        let held = quotas.open(subscriber(1), Some(100), MANY, now).unwrap();
        quotas.open(subscriber(2), Some(100), MANY, now).unwrap();
        let refused = quotas.open(subscriber(3), Some(100), MANY, now).unwrap_err();
        assert_eq!(refused, QuotaLimit::Room { limit: 2 });
        let passing = quotas.open(subscriber(3), None, MANY, now).unwrap();
        assert!(quotas.open(subscriber(3), Some(100), MANY, now).is_err(), "it was not counted");
        assert_eq!(passing.hold_to(Some(100), now), Balance::Over);
        let again = quotas.open(subscriber(3), None, MANY, now).unwrap();
        assert!(Arc::ptr_eq(&passing, &again), "its sessions are counted together");
        quotas.close(subscriber(3), &passing);
        assert_eq!(quotas.count(), 2);
        let tomorrow = at("2026-09-02T12:00:00Z");
        let day = |last| quotas.open(subscriber(last), Some(100), MANY, tomorrow);
        day(1).unwrap();
        day(2).unwrap();
        assert_eq!(quotas.count(), 2, "one is in use, one is new");
        drop(held);
    }

    #[test]
    fn a_second_holds_as_many_new_sessions_as_the_pace_says() {
        let (quotas, now) = (Quotas::new(8), at("2026-09-01T12:00:00Z"));
        let open = |last, now| quotas.open(subscriber(last), None, 4, now).map(drop);
        for _ in 0..4 {
            open(1, now).unwrap();
        }
        assert_eq!(open(1, now), Err(QuotaLimit::Pace { limit: 4 }));
        open(2, now).unwrap();
        let later = at("2026-09-01T12:00:00.25Z");
        open(1, later).unwrap();
        assert!(open(1, later).is_err(), "one fits into a quarter of a second");
        let hour_before = at("2026-09-01T11:00:00Z");
        assert!(open(1, hour_before).is_err());
        open(1, at("2026-09-01T11:00:01Z")).unwrap();
    }

    const MANY: u32 = 1_000;
}
