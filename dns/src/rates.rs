//! How many questions a second each subscriber may ask, in a table that never grows.
//!
//! Each subscriber in the table has a bucket that holds one second's worth of questions and fills
//! at its rate; what is kept of it is the one moment at which it will be full again (the virtual
//! scheduling algorithm of ITU-T I.371 annex A). A bucket that is full says nothing and gives its
//! place up. When a newcomer finds no such place it takes over the bucket that is nearest to full,
//! as it stands: a crowd of made-up addresses gains no question by pushing others out.

use std::{
    hash::{BuildHasher, Hash},
    net::IpAddr,
    time::Duration,
};

use foldhash::fast::RandomState;

/// The buckets of all subscribers.
#[derive(Debug)]
pub(crate) struct Rates<K> {
    places: Box<[Option<Bucket<K>>]>,
    /// Addresses are chosen by whoever sends.
    seed: RandomState,
    used: usize,
    hand: usize,
}

/// Whose questions are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Asking {
    /// The subscriber's address, or the /64 it is in.
    pub(crate) source: IpAddr,
    /// Whether the source took part in a handshake. What others ask over UDP in a subscriber's
    /// name must not use up what it asks over a connection.
    pub(crate) is_proven: bool,
}

/// How much may be taken: all of it at once, then as it fills again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowance {
    pub(crate) count: u32,
    /// In which it fills from nothing.
    pub(crate) period: Duration,
}

/// What becomes of one question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rate {
    /// It is within the rate.
    Within,
    /// It is over the rate; every second one of a bucket slips.
    Over {
        /// Whether it should be told to ask again over a connection, and not meet silence.
        slips: bool,
    },
}

#[derive(Clone, Copy, Debug)]
struct Bucket<K> {
    key: K,
    full_at: Duration,
    slips: bool,
}

impl<K: Copy + Eq + Hash> Rates<K> {
    /// A table with room for `places` subscribers, rounded up to a power of two, and whole
    /// groups of eight.
    pub(crate) fn new(places: usize) -> Self {
        let places = places.max(GROUP).next_power_of_two();
        Self {
            places: vec![None; places].into_boxed_slice(),
            seed: RandomState::default(),
            used: 0,
            hand: 0,
        }
    }

    /// Counts a question of `key`, which may ask `per_second` a second, at `now` since whenever.
    ///
    /// Also says whether it had to take over a bucket that was not full.
    pub(crate) fn count(&mut self, key: K, per_second: u32, now: Duration) -> (Rate, bool) {
        let allowance = Allowance { count: per_second, period: Duration::from_secs(1) };
        self.take(key, 1, allowance, now)
    }

    /// As [`count`](Self::count), for something that weighs as much as `weight` questions.
    pub(crate) fn take(
        &mut self,
        key: K,
        weight: u32,
        allowance: Allowance,
        now: Duration,
    ) -> (Rate, bool) {
        self.tidy(now);
        let (bucket, is_new, is_taken_over) = self.bucket(key, now);
        let due = allowance
            .period
            .checked_div(allowance.count)
            .map(|interval| bucket.full_at.max(now) + interval * weight)
            .filter(|due| *due <= now + allowance.period);
        let rate = if let Some(due) = due {
            bucket.full_at = due;
            Rate::Within
        } else {
            bucket.slips = !bucket.slips;
            Rate::Over { slips: bucket.slips }
        };
        self.used += usize::from(is_new);
        (rate, is_taken_over)
    }

    /// How many buckets are in use, at most as many as there are places.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// The bucket of `key`, whether it stands in an empty place, and whether it was another's.
    fn bucket(&mut self, key: K, now: Duration) -> (&mut Bucket<K>, bool, bool) {
        let last = self.places.len() / GROUP - 1;
        // What is cut off is not needed. A mask, because a division takes as long as all the rest.
        #[expect(clippy::cast_possible_truncation, reason = "see above")]
        let group = self.seed.hash_one(key) as usize & last;
        let places = self.places.iter_mut().skip(group * GROUP).take(GROUP);
        let fresh = Bucket { key, full_at: now, slips: false };
        // Its own place, else an empty one, else the one nearest to full.
        let place = places.min_by_key(|place| match place {
            Some(bucket) if bucket.key == key => (0, Duration::ZERO),
            None => (1, Duration::ZERO),
            Some(bucket) => (2, bucket.full_at),
        });
        #[expect(clippy::expect_used, reason = "the table is made of whole groups, at least one")]
        let place = place.expect("a group has places");
        let is_new = place.is_none();
        let bucket = place.get_or_insert(fresh);
        let is_anothers = bucket.key != key;
        let is_taken_over = is_anothers && bucket.full_at > now;
        if is_anothers {
            *bucket = Bucket { full_at: bucket.full_at, ..fresh };
        }
        (bucket, is_new, is_taken_over)
    }

    /// Looks at the next place of the table, and empties it if its bucket is full: the number of
    /// buckets in use follows the number of subscribers that ask.
    fn tidy(&mut self, now: Duration) {
        self.hand = (self.hand + 1) & (self.places.len() - 1);
        if let Some(place) = self.places.get_mut(self.hand)
            && place.is_some_and(|bucket| bucket.full_at <= now)
        {
            *place = None;
            self.used -= 1;
        }
    }
}

/// Places a subscriber's bucket may stand in.
const GROUP: usize = 8;
/// Places of a node's table, 4 MB of them.
pub(crate) const PLACES: usize = 65_536;

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use proptest::prelude::*;

    use super::{Asking, Bucket, Duration, PLACES, Rate, Rates};

    fn asking(number: u32) -> Asking {
        Asking { source: IpAddr::V4(Ipv4Addr::from_bits(number)), is_proven: false }
    }

    fn millis(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    #[test]
    fn lets_a_seconds_worth_through_at_once_and_then_as_many_as_the_rate_says() {
        for rate in [1, 3, 20, 200] {
            let mut rates = Rates::new(64);
            let passes = |rates: &mut Rates<Asking>, now| {
                rates.count(asking(1), rate, now).0 == Rate::Within
            };
            let passed = (0..1_000).filter(|_| passes(&mut rates, millis(0))).count();
            assert_eq!(passed, rate as usize);
            let passed = (1..=10_000).filter(|now| passes(&mut rates, millis(*now))).count();
            assert!((rate as usize * 10 - 1..=rate as usize * 10).contains(&passed), "{passed}");
        }
    }

    #[test]
    fn lets_every_second_question_over_the_rate_slip() {
        let mut rates = Rates::new(64);
        let said: Vec<Rate> = (0..5).map(|_| rates.count(asking(1), 1, millis(0)).0).collect();
        let over = |slips| Rate::Over { slips };
        assert_eq!(said, [Rate::Within, over(true), over(false), over(true), over(false)]);
        assert_eq!(rates.count(asking(1), 0, millis(9_000)).0, over(true), "a rate of nothing");
    }

    #[test]
    fn counts_subscribers_apart_and_what_is_proven_apart() {
        let mut rates = Rates::new(64);
        let proven = Asking { is_proven: true, ..asking(1) };
        for asking in [asking(1), asking(2), proven] {
            assert_eq!(rates.count(asking, 1, millis(0)), (Rate::Within, false));
            assert_ne!(rates.count(asking, 1, millis(0)).0, Rate::Within);
        }
        assert_eq!(rates.used(), 3);
    }

    #[test]
    fn a_newcomer_in_a_full_table_gains_nothing() {
        let mut rates = Rates::new(8);
        for number in 0..8 {
            assert_eq!(rates.count(asking(number), 1, millis(0)), (Rate::Within, false));
        }
        for number in 8..10_000 {
            let (rate, is_taken_over) = rates.count(asking(number), 1, millis(0));
            assert!(matches!(rate, Rate::Over { .. }) && is_taken_over);
        }
        assert_eq!((rates.used(), rates.places.len()), (8, 8));
        assert_eq!(rates.count(asking(1), 1, millis(1_000)), (Rate::Within, false), "all are full");
    }

    #[test]
    fn a_million_sources_take_no_more_room_and_leave_again() {
        let mut rates = Rates::new(PLACES);
        for number in 0..1_000_000 {
            rates.count(asking(number), 20, millis(u64::from(number) / 1_000));
        }
        assert!(rates.used() <= PLACES && rates.places.len() == PLACES);
        for _ in 0..PLACES {
            rates.count(asking(1), 20, millis(60_000));
        }
        assert!(rates.used() <= 2, "{}", rates.used());
        assert!(size_of::<Option<Bucket<Asking>>>() * PLACES <= 4 << 20);
    }

    proptest! {
        /// Over any stretch of time, no more than the rate and one second's worth.
        #[test]
        fn never_lets_more_through_than_the_rate(
            rate in 1_u32..50,
            pauses in prop::collection::vec(0_u64..300, 1..400),
        ) {
            let mut rates = Rates::new(8);
            let (mut now, mut passed) = (0, 0_u64);
            for pause in pauses {
                now += pause;
                passed += u64::from(rates.count(asking(7), rate, millis(now)).0 == Rate::Within);
            }
            prop_assert!(passed * 1_000 <= u64::from(rate) * (now + 1_000) + 1_000);
        }
    }
}
