//! What a thread has taken over and not answered yet, while more arrives than it can answer.
//!
//! A node that stood still for a moment, or is asked more than it can answer for a while, finds
//! questions waiting that are late already. Were they answered in the order they came, every later one
//! would be late as well until all is worked off. So once many wait, the newest go first, and the
//! late ones in between; nobody waits for ever.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::{
    batch::{Arrival, BATCH},
    socket::Path,
};

/// Datagrams that wait, in the bundles they came in.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// The oldest first.
    waiting: VecDeque<Bundle>,
    /// Empty ones, whose memory is used again.
    spare: Vec<Bundle>,
    datagrams: usize,
    octets: usize,
}

/// Datagrams that were taken over together.
#[derive(Debug)]
pub(super) struct Bundle {
    taken: Instant,
    /// One message behind the other.
    octets: Vec<u8>,
    datagrams: Vec<Datagram>,
}

#[derive(Debug)]
struct Datagram {
    /// Octets of the message; `None` if it was too long to be kept.
    length: Option<usize>,
    path: Path,
}

impl Backlog {
    /// Whether as much as arrives at once can be kept; if not, it is better left to the kernel.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < MAX_BUNDLES && self.octets < MAX_OCTETS
    }

    /// Keeps what has arrived at `now`.
    pub(super) fn keep(&mut self, arrivals: &mut dyn Iterator<Item = Arrival<'_>>, now: Instant) {
        let mut bundle = self.spare.pop().unwrap_or_else(|| Bundle::new(now));
        bundle.taken = now;
        for Arrival { message, path } in arrivals {
            bundle.octets.extend_from_slice(message.unwrap_or_default());
            bundle.datagrams.push(Datagram { length: message.map(<[u8]>::len), path });
        }
        self.datagrams += bundle.datagrams.len();
        self.octets += bundle.octets.len();
        self.waiting.push_back(bundle);
    }

    /// Takes out what is to be answered next at `now`, until [`Backlog::done`].
    pub(super) fn next(&mut self, now: Instant) -> Option<Bundle> {
        let oldest = self.waiting.front()?;
        let in_order = self.datagrams <= SOON;
        let is_overdue = now.saturating_duration_since(oldest.taken) >= OVERDUE;
        let bundle = match in_order || is_overdue {
            true => self.waiting.pop_front(),
            false => self.waiting.pop_back(),
        }?;
        self.datagrams -= bundle.datagrams.len();
        self.octets -= bundle.octets.len();
        Some(bundle)
    }

    /// Takes the memory of an answered bundle back.
    pub(super) fn done(&mut self, mut bundle: Bundle) {
        bundle.octets.clear();
        bundle.datagrams.clear();
        bundle.octets.shrink_to(ORDINARY);
        self.spare.push(bundle);
    }
}

impl Bundle {
    fn new(taken: Instant) -> Self {
        let (octets, datagrams) = (Vec::with_capacity(ORDINARY), Vec::with_capacity(BATCH));
        Self { taken, octets, datagrams }
    }

    pub(super) fn arrivals(&self) -> impl Iterator<Item = Arrival<'_>> {
        let mut rest = self.octets.as_slice();
        self.datagrams.iter().map(move |Datagram { length, path }| {
            let (message, others) = rest.split_at_checked(length.unwrap_or(0)).unwrap_or_default();
            rest = others;
            Arrival { message: length.map(|_| message), path: *path }
        })
    }
}

/// So many are answered within a millisecond, whatever their order.
const SOON: usize = 2 * BATCH;
/// Bundles of one thread: questions of some ten milliseconds.
const MAX_BUNDLES: usize = 32;
/// Octets of one thread; one bundle may go beyond.
const MAX_OCTETS: usize = 512 << 10;
/// What has waited so long goes first. As the bundles are few, that takes little from the newest.
const OVERDUE: Duration = Duration::from_millis(100);
/// Octets of a bundle of ordinary questions.
const ORDINARY: usize = BATCH * 128;

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};

    use super::*;
    use crate::udp::socket::Door;

    const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 53);
    const PATH: Path = Path { door: Door { to: NOWHERE, interface: 0 }, from: NOWHERE };

    impl Backlog {
        /// Keeps `count` datagrams that say `what`.
        fn keep_many(&mut self, what: &[u8], count: usize, now: Instant) {
            let arrival = Arrival { message: Some(what), path: PATH };
            self.keep(&mut std::iter::repeat_n(arrival, count), now);
        }

        /// What the next bundle says.
        fn answer(&mut self, now: Instant) -> Option<u8> {
            let bundle = self.next(now)?;
            let said =
                bundle.arrivals().next().and_then(|arrival| arrival.message?.first().copied());
            self.done(bundle);
            said
        }
    }

    fn all(backlog: &mut Backlog, now: Instant) -> Vec<u8> {
        std::iter::from_fn(|| backlog.answer(now)).collect()
    }

    #[test]
    fn few_go_in_the_order_they_came() {
        let (mut backlog, now) = (Backlog::default(), Instant::now());
        backlog.keep_many(b"a", BATCH, now);
        backlog.keep_many(b"b", BATCH - 1, now);
        backlog.keep_many(b"c", 1, now);
        assert_eq!(all(&mut backlog, now), b"abc");
        assert_eq!((backlog.datagrams, backlog.octets), (0, 0));
    }

    #[test]
    fn of_many_the_newest_go_first() {
        let (mut backlog, now) = (Backlog::default(), Instant::now());
        for what in b"abcd" {
            backlog.keep_many(&[*what], BATCH, now);
        }
        assert_eq!(backlog.answer(now), Some(b'd'));
        backlog.keep_many(b"e", 3, now);
        assert_eq!(all(&mut backlog, now), b"ecab");
    }

    #[test]
    fn what_is_overdue_goes_before_the_newest() {
        let (mut backlog, then) = (Backlog::default(), Instant::now());
        let now = then + OVERDUE;
        backlog.keep_many(b"a", BATCH, then);
        backlog.keep_many(b"b", BATCH, then + Duration::from_nanos(1));
        for what in b"cd" {
            backlog.keep_many(&[*what], BATCH, now);
        }
        assert_eq!(all(&mut backlog, now), b"adbc");
    }

    #[test]
    fn takes_no_more_than_its_bounds() {
        let (mut backlog, now) = (Backlog::default(), Instant::now());
        for _ in 0..MAX_BUNDLES {
            assert!(backlog.has_room());
            backlog.keep_many(b"a", 1, now);
        }
        assert!(!backlog.has_room());
        assert_eq!(backlog.answer(now), Some(b'a'));
        assert!(backlog.has_room());

        let (mut backlog, long) = (Backlog::default(), vec![b'l'; 4_096]);
        while backlog.has_room() {
            backlog.keep_many(&long, BATCH, now);
        }
        assert!(backlog.octets < MAX_OCTETS + BATCH * long.len(), "{}", backlog.octets);
        while let Some(bundle) = backlog.next(now) {
            backlog.done(bundle);
        }
        let kept: usize = backlog.spare.iter().map(|bundle| bundle.octets.capacity()).sum();
        assert!(kept <= MAX_BUNDLES * ORDINARY, "{kept} octets kept for nothing");
    }

    #[test]
    fn gives_back_every_message_with_its_path() {
        let mut backlog = Backlog::default();
        let path = |port| Path { from: (Ipv4Addr::LOCALHOST, port).into(), ..PATH };
        let messages: [Option<&[u8]>; 4] = [Some(b"one"), None, Some(b""), Some(b"three")];
        let arrivals = || {
            messages
                .into_iter()
                .zip(1..)
                .map(|(message, port)| Arrival { message, path: path(port) })
        };
        backlog.keep(&mut arrivals(), Instant::now());
        let bundle = backlog.next(Instant::now()).unwrap();
        let same = bundle.arrivals().map(|arrival| (arrival.message, arrival.path));
        assert!(same.eq(arrivals().map(|arrival| (arrival.message, arrival.path))));
    }
}
