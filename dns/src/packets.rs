//! The answers of the last second, as they were written.
//!
//! Only answers about names that pass come in, and none is given out but to a question that was
//! judged anew and came to the same class and the same rule of the same policy: what is kept is the
//! writing, not the verdict. After a second an answer is written anew, with the lifetimes that hold
//! then; one that nobody asks for again is thrown away some seconds later, so that names made up to
//! be asked for once take no room.

use std::{hash::BuildHasher, time::Duration};

use foldhash::fast::RandomState;
use policy::{HostName, Rule};
use tokio::time::Instant;

use crate::{screen::Family, wire::Packet};

/// The packets of one thread, in a table that never grows.
#[derive(Debug)]
pub(crate) struct Packets {
    places: Box<[Option<Entry>]>,
    /// The names are chosen by subscribers.
    seed: RandomState,
    /// The part of the table that is tidied next, and when.
    hand: usize,
    tidied_from: Instant,
}

/// Everything that the records of an answer depend on, but for the time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key<'k> {
    /// Of the policy.
    pub(crate) generation: u64,
    pub(crate) class: &'k str,
    /// The entry that listed the name, of that policy.
    pub(crate) rule: Option<&'k Rule>,
    pub(crate) host: &'k HostName,
    pub(crate) family: Family,
    pub(crate) checking_disabled: bool,
    pub(crate) dnssec_ok: bool,
}

#[derive(Debug)]
struct Entry {
    generation: u64,
    class: Box<str>,
    /// The rule's place in memory: within one generation, its identity.
    rule: Option<usize>,
    host: HostName,
    family: Family,
    checking_disabled: bool,
    dnssec_ok: bool,
    until: Instant,
    packet: Packet,
}

impl Packets {
    /// A table with room for `places` packets, rounded up to a power of two, and whole groups
    /// of four.
    pub(crate) fn new(places: usize, now: Instant) -> Self {
        let places = places.max(GROUP).next_power_of_two();
        let places = std::iter::repeat_with(|| None).take(places).collect();
        Self { places, seed: RandomState::default(), hand: 0, tidied_from: now + TIDY_EVERY }
    }

    /// Throws away what no longer holds in the next part of the table, if it is time for it.
    pub(crate) fn tidy(&mut self, now: Instant) {
        if now < self.tidied_from {
            return;
        }
        self.tidied_from = now + TIDY_EVERY;
        let part = (self.places.len() / TIDY_PARTS).max(1);
        for place in self.places.iter_mut().skip(self.hand * part).take(part) {
            if place.as_ref().is_some_and(|entry| entry.until <= now) {
                *place = None;
            }
        }
        self.hand = (self.hand + 1) % TIDY_PARTS;
    }

    /// The packet for `key` that still holds at `now`.
    pub(crate) fn get(&self, key: Key<'_>, now: Instant) -> Option<&Packet> {
        let mut entries = self.places.get(self.group(key))?.iter().flatten();
        let entry = entries.find(|entry| entry.is_for(key))?;
        (entry.until > now).then_some(&entry.packet)
    }

    /// Keeps `packet`, written from what is `age` old, in the place that is worth least.
    pub(crate) fn put(&mut self, key: Key<'_>, packet: Packet, age: Duration, now: Instant) {
        // Lifetimes are told in whole seconds: until the next one they stay the same.
        let until = now + Duration::from_secs(1) - Duration::from_nanos(age.subsec_nanos().into());
        let group = self.group(key);
        let places = self.places.get_mut(group).unwrap_or_default().iter_mut();
        let place = places.min_by_key(|place| match place {
            Some(entry) if entry.is_for(key) => (0, now),
            None => (1, now),
            Some(entry) => (2, entry.until),
        });
        if let Some(place) = place {
            *place = Some(Entry {
                generation: key.generation,
                class: key.class.into(),
                rule: key.rule.map(identity),
                host: key.host.clone(),
                family: key.family,
                checking_disabled: key.checking_disabled,
                dnssec_ok: key.dnssec_ok,
                until,
                packet,
            });
        }
    }

    fn group(&self, key: Key<'_>) -> std::ops::Range<usize> {
        let Key { generation, class, host, family, checking_disabled, dnssec_ok, rule: _ } = key;
        let hash =
            self.seed.hash_one((generation, class, host, family, checking_disabled, dnssec_ok));
        // What is cut off is not needed.
        #[expect(clippy::cast_possible_truncation, reason = "see above")]
        let start = (hash as usize & (self.places.len() / GROUP - 1)) * GROUP;
        start..start + GROUP
    }
}

impl Entry {
    fn is_for(&self, key: Key<'_>) -> bool {
        self.host == *key.host
            && self.generation == key.generation
            && self.family == key.family
            && self.checking_disabled == key.checking_disabled
            && self.dnssec_ok == key.dnssec_ok
            && self.rule == key.rule.map(identity)
            && *self.class == *key.class
    }
}

fn identity(rule: &Rule) -> usize {
    std::ptr::from_ref(rule).addr()
}

/// The table is tidied in so many parts, one at a time: all of it in six seconds, while names that
/// pass are asked for.
const TIDY_PARTS: usize = 64;
const TIDY_EVERY: Duration = Duration::from_millis(100);
/// Places a packet may stand in.
const GROUP: usize = 4;
/// Packets of one thread; with most answers, 4 MB of them.
pub(crate) const PACKETS: usize = 16_384;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use policy::HostName;
    use tokio::time::Instant;

    use super::{GROUP, Key, Packets, TIDY_EVERY, TIDY_PARTS};
    use crate::{
        screen::Family,
        wire::{Answer, Packet, Query, Rcode},
    };

    const NOTHING: Duration = Duration::ZERO;

    #[test]
    fn forgets_a_packet_once_its_lifetimes_would_be_told_otherwise() {
        let (mut packets, now, host) = (new(8), Instant::now(), host(0));
        packets.put(key(&host), packet(), Duration::from_millis(2_300), now);
        for (millis, is_kept) in [(0, true), (699, true), (700, false), (2_000, false)] {
            let later = now + Duration::from_millis(millis);
            assert_eq!(packets.get(key(&host), later).is_some(), is_kept, "{millis}");
        }
    }

    #[test]
    fn tells_packets_apart_by_everything_they_depend_on() {
        let (mut packets, now, host, other) = (new(8), Instant::now(), host(0), host(1));
        let key = key(&host);
        packets.put(key, packet(), NOTHING, now);
        assert!(packets.get(key, now).is_some());
        for unlike in [
            Key { generation: 2, ..key },
            Key { class: "other", ..key },
            Key { host: &other, ..key },
            Key { family: Family::V6, ..key },
            Key { checking_disabled: true, ..key },
            Key { dnssec_ok: true, ..key },
        ] {
            assert!(packets.get(unlike, now).is_none(), "{unlike:?}");
        }
    }

    #[test]
    fn never_holds_more_than_its_bound() {
        let (mut packets, now) = (new(62), Instant::now());
        for number in 0..10_000 {
            let host = host(number);
            packets.put(key(&host), packet(), NOTHING, now);
            assert!(packets.get(key(&host), now).is_some());
        }
        assert_eq!(packets.places.len(), 64);
        assert!(packets.places.len().is_multiple_of(GROUP));
    }

    #[test]
    fn throws_away_what_nobody_asks_for_again_and_nothing_else() {
        let (mut packets, start) = (new(16_384), Instant::now());
        let kept = |packets: &Packets| packets.places.iter().flatten().count();
        for number in 0..100 {
            packets.put(key(&host(number)), packet(), NOTHING, start);
        }
        for _ in 0..TIDY_PARTS {
            packets.tidied_from = start;
            packets.tidy(start);
        }
        assert_eq!(kept(&packets), 100, "all hold");
        let (later, parts) = (start + Duration::from_secs(2), u32::try_from(TIDY_PARTS).unwrap());
        for part in 0..parts {
            packets.tidy(later + TIDY_EVERY * part);
            packets.tidy(later + TIDY_EVERY * part);
        }
        assert_eq!(kept(&packets), 0);
    }

    fn new(places: usize) -> Packets {
        Packets::new(places, Instant::now())
    }

    fn key(host: &HostName) -> Key<'_> {
        Key {
            generation: 1,
            class: "garden",
            rule: None,
            host,
            family: Family::V4,
            checking_disabled: false,
            dnssec_ok: false,
        }
    }

    fn host(number: u32) -> HostName {
        HostName::parse(&format!("h{number}.example")).unwrap()
    }

    fn packet() -> Packet {
        Packet::of(&Answer::empty(Rcode::NoError), &Query::default()).unwrap()
    }
}
