//! Replies that were sent lately: a repeated request gets the same one, and is not taken twice
//! (RFC 5080 section 2.2.2).

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

/// Requests of the last seconds, each with its reply as soon as there is one.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    known: HashMap<Key, Entry>,
    order: VecDeque<(Instant, Key, [u8; 16])>,
}

/// The sender's address and port, and the request's identifier.
type Key = (SocketAddr, u8);

#[derive(Debug)]
struct Entry {
    authenticator: [u8; 16],
    reply: Option<Arc<[u8]>>,
}

/// What is to be done with a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It is new.
    New,
    /// It is being worked on; the reply to the first will do.
    Pending,
    /// It was answered so.
    Answered(Arc<[u8]>),
}

impl Replies {
    /// Notes a request and tells whether it was seen before.
    pub(crate) fn note(
        &mut self,
        from: SocketAddr,
        identifier: u8,
        authenticator: [u8; 16],
        now: Instant,
    ) -> Seen {
        self.forget(now);
        let key = (from, identifier);
        match self.known.get(&key) {
            Some(entry) if entry.authenticator == authenticator => {
                return entry.reply.clone().map_or(Seen::Pending, Seen::Answered);
            }
            // The identifier is used again for another request: the sender has its answer.
            Some(_) | None => {}
        }
        self.known.insert(key, Entry { authenticator, reply: None });
        self.order.push_back((now, key, authenticator));
        Seen::New
    }

    /// Keeps the reply to a request.
    pub(crate) fn answer(
        &mut self,
        from: SocketAddr,
        identifier: u8,
        authenticator: [u8; 16],
        reply: Arc<[u8]>,
    ) {
        let entry = self.known.get_mut(&(from, identifier));
        if let Some(entry) = entry.filter(|entry| entry.authenticator == authenticator) {
            entry.reply = Some(reply);
        }
    }

    /// Forgets a request that could not be taken, so that its repetition is tried again.
    pub(crate) fn give_up(&mut self, from: SocketAddr, identifier: u8, authenticator: [u8; 16]) {
        let key = (from, identifier);
        if self.known.get(&key).is_some_and(|entry| entry.authenticator == authenticator) {
            self.known.remove(&key);
        }
    }

    fn forget(&mut self, now: Instant) {
        while let Some((at, key, authenticator)) = self.order.front().copied() {
            let over = now.saturating_duration_since(at) >= KEPT;
            if !over && self.order.len() < REPLIES_MAX {
                break;
            }
            self.order.pop_front();
            self.give_up(key.0, key.1, authenticator);
        }
    }
}

/// How long a reply is kept; repetitions come within seconds (RFC 5080 section 2.2.2).
const KEPT: Duration = Duration::from_secs(10);
/// Requests remembered: ten seconds of them at 13,000 a second.
const REPLIES_MAX: usize = 131_072;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repetition_gets_the_reply_of_the_first_for_ten_seconds() {
        let (mut replies, now) = (Replies::default(), crate::clock::monotonic());
        let from: SocketAddr = "192.0.2.10:1646".parse().unwrap();
        let reply: Arc<[u8]> = [5, 7].into();
        assert_eq!(replies.note(from, 7, [1; 16], now), Seen::New);
        assert_eq!(replies.note(from, 7, [1; 16], now), Seen::Pending);
        replies.answer(from, 7, [1; 16], Arc::clone(&reply));
        assert_eq!(replies.note(from, 7, [1; 16], now), Seen::Answered(reply));
        // Another request under the same number, then the first port's number from another port.
        assert_eq!(replies.note(from, 7, [2; 16], now), Seen::New);
        let other: SocketAddr = "192.0.2.10:1647".parse().unwrap();
        assert_eq!(replies.note(other, 7, [2; 16], now), Seen::New);
        assert_eq!(replies.note(from, 7, [2; 16], now + KEPT), Seen::New);
        replies.give_up(from, 7, [2; 16]);
        assert_eq!(replies.note(from, 7, [2; 16], now + KEPT), Seen::New);
    }

    #[test]
    fn remembers_a_bounded_number() {
        let (mut replies, now) = (Replies::default(), crate::clock::monotonic());
        for at in 0..REPLIES_MAX + 300 {
            let octets = u32::try_from(at).unwrap().to_be_bytes();
            let from = SocketAddr::from((octets, 1646));
            replies.note(from, octets[3], [0; 16], now);
        }
        assert!(replies.known.len() <= REPLIES_MAX + 1, "{}", replies.known.len());
    }
}
