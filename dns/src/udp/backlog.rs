//! What a thread has taken over and not answered yet, while more arrives than it can answer.
//!
//! A node that stood still for a moment finds questions waiting that are late already. Were they answered
//! in the order they came, every later one would be late as well until all is worked off. So once many
//! wait, the newest go first, and the late ones in between. Where that happens all the time it would
//! only let some wait for long: few may go before others, the rest keep their order.

use std::collections::VecDeque;

use super::{
    batch::{Arrival, BATCH},
    socket::Path,
};

/// Datagrams that wait, in the bundles they came in.
#[derive(Debug)]
pub(super) struct Backlog {
    /// The oldest first.
    waiting: VecDeque<Bundle>,
    /// Empty ones, whose memory is used again.
    spare: Vec<Bundle>,
    datagrams: usize,
    octets: usize,
    /// Answers that have not been paid for with a question that went before others.
    credit: usize,
}

/// Datagrams that were taken over together.
#[derive(Debug)]
pub(super) struct Bundle {
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
    pub(super) fn new() -> Self {
        let (waiting, spare) = (VecDeque::new(), Vec::new());
        Self { waiting, spare, datagrams: 0, octets: 0, credit: MAX_JUMPS * PRICE }
    }

    /// Whether as much as arrives at once can be kept; if not, it is better left to the kernel.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < MAX_BUNDLES && self.octets < MAX_OCTETS
    }

    /// Keeps what has arrived.
    pub(super) fn keep(&mut self, arrivals: &mut dyn Iterator<Item = Arrival<'_>>) {
        let mut bundle = self.spare.pop().unwrap_or_else(Bundle::new);
        for Arrival { message, path } in arrivals {
            bundle.octets.extend_from_slice(message.unwrap_or_default());
            bundle.datagrams.push(Datagram { length: message.map(<[u8]>::len), path });
        }
        self.datagrams += bundle.datagrams.len();
        self.octets += bundle.octets.len();
        self.waiting.push_back(bundle);
    }

    /// Takes out what is to be answered next, until [`Backlog::done`].
    pub(super) fn next(&mut self) -> Option<Bundle> {
        let price = self.waiting.back()?.datagrams.len() * PRICE;
        let bundle = match self.credit.checked_sub(price).filter(|_| self.datagrams > SOON) {
            Some(rest) => {
                self.credit = rest;
                self.waiting.pop_back()
            }
            None => self.waiting.pop_front(),
        }?;
        self.datagrams -= bundle.datagrams.len();
        self.octets -= bundle.octets.len();
        self.answered(bundle.datagrams.len());
        Some(bundle)
    }

    /// Takes note that so many are answered.
    pub(super) fn answered(&mut self, datagrams: usize) {
        self.credit = (self.credit + datagrams).min(MAX_JUMPS * PRICE);
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
    fn new() -> Self {
        Self { octets: Vec::with_capacity(ORDINARY), datagrams: Vec::with_capacity(BATCH) }
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
/// Of so many answers, one may go before older questions.
const PRICE: usize = 64;
/// Questions that may go before older ones in a row: those of some ten milliseconds.
const MAX_JUMPS: usize = 4_096;
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
        fn keep_many(&mut self, what: &[u8], count: usize) {
            let arrival = Arrival { message: Some(what), path: PATH };
            self.keep(&mut std::iter::repeat_n(arrival, count));
        }

        /// What the next bundle says.
        fn answer(&mut self) -> Option<u8> {
            let bundle = self.next()?;
            let said = bundle.arrivals().next()?.message?.first().copied();
            self.done(bundle);
            said
        }

        fn answer_all(&mut self) -> Vec<u8> {
            std::iter::from_fn(|| self.answer()).collect()
        }
    }

    #[test]
    fn few_go_in_the_order_they_came() {
        let mut backlog = Backlog::new();
        backlog.keep_many(b"a", BATCH);
        backlog.keep_many(b"b", BATCH - 1);
        backlog.keep_many(b"c", 1);
        assert_eq!(backlog.answer_all(), b"abc");
        assert_eq!((backlog.datagrams, backlog.octets), (0, 0));
    }

    #[test]
    fn of_many_the_newest_go_first() {
        let mut backlog = Backlog::new();
        for what in b"abcd" {
            backlog.keep_many(&[*what], BATCH);
        }
        assert_eq!(backlog.answer(), Some(b'd'));
        backlog.keep_many(b"e", 3);
        assert_eq!(backlog.answer_all(), b"ecab");
    }

    /// Always as much arrives as is answered, and always many wait.
    #[test]
    fn where_many_always_wait_they_keep_their_order_and_none_waits_for_ever() {
        let mut backlog = Backlog::new();
        for _ in 0..3 {
            backlog.keep_many(&[OLD], BATCH);
        }
        let (mut jumps, mut last_old) = (0, 0);
        for number in 0..10_000 {
            let newest = u8::try_from(number % usize::from(OLD)).unwrap();
            backlog.keep_many(&[newest], BATCH);
            let answered = backlog.answer().unwrap();
            jumps += usize::from(answered == newest);
            last_old = if answered == OLD { number } else { last_old };
        }
        let in_a_row = MAX_JUMPS / BATCH;
        assert!((in_a_row..=in_a_row + 10_000 / PRICE).contains(&jumps), "{jumps}");
        assert!(last_old <= in_a_row + 5, "{last_old}");
    }

    const OLD: u8 = 255;

    #[test]
    fn takes_no_more_than_its_bounds() {
        let mut backlog = Backlog::new();
        for _ in 0..MAX_BUNDLES {
            assert!(backlog.has_room());
            backlog.keep_many(b"a", 1);
        }
        assert!(!backlog.has_room());
        assert_eq!(backlog.answer(), Some(b'a'));
        assert!(backlog.has_room());

        let (mut backlog, long) = (Backlog::new(), vec![b'l'; 4_096]);
        while backlog.has_room() {
            backlog.keep_many(&long, BATCH);
        }
        assert!(backlog.octets < MAX_OCTETS + BATCH * long.len(), "{}", backlog.octets);
        backlog.answer_all();
        let kept: usize = backlog.spare.iter().map(|bundle| bundle.octets.capacity()).sum();
        assert!(kept <= MAX_BUNDLES * ORDINARY, "{kept} octets kept for nothing");
    }

    #[test]
    fn gives_back_every_message_with_its_path() {
        let mut backlog = Backlog::new();
        let path = |port| Path { from: (Ipv4Addr::LOCALHOST, port).into(), ..PATH };
        let messages: [Option<&[u8]>; 4] = [Some(b"one"), None, Some(b""), Some(b"three")];
        let arrivals = || {
            messages
                .into_iter()
                .zip(1..)
                .map(|(message, port)| Arrival { message, path: path(port) })
        };
        backlog.keep(&mut arrivals());
        let bundle = backlog.next().unwrap();
        let same = bundle.arrivals().map(|arrival| (arrival.message, arrival.path));
        assert!(same.eq(arrivals().map(|arrival| (arrival.message, arrival.path))));
    }
}
