//! Which signed messages are new. Pure: the time is an argument.
//!
//! A message counts within the window around its signed time, and once. A sender that heard no
//! answer sends it again under the same id with a new time, and is told that it was done; the very
//! same octets again are somebody else's.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

/// The messages of the last two windows.
#[derive(Debug)]
pub(crate) struct Gate {
    window: SignedDuration,
    began: Timestamp,
    known: HashMap<Box<str>, Seen>,
    swept: Timestamp,
    limit: usize,
}

/// One message that was let in.
#[derive(Clone, Copy, Debug)]
struct Seen {
    signed: Timestamp,
    body: [u8; 32],
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// New: it counts.
    New,
    /// The sender's repetition of one that counted.
    Repeated,
}

/// Why a message does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotNew {
    #[error("the message was signed outside the window of {} s around this moment, or before this node began", window.as_secs())]
    Stale { window: SignedDuration },
    #[error("the same message was here before")]
    Replayed,
    #[error("another message was here under the same id")]
    IdTaken,
    #[error("{limit} messages are remembered; at most {limit}")]
    Full { limit: usize },
}

impl Gate {
    /// A gate that remembers nothing from before `now`: what was signed earlier may have counted.
    pub(crate) fn new(window: SignedDuration, limit: usize, now: Timestamp) -> Self {
        Self { window, began: now, known: HashMap::new(), swept: now, limit }
    }

    /// Whether the message may count; it is remembered only by [`Gate::remember`].
    ///
    /// # Errors
    ///
    /// Says why not.
    pub(crate) fn admit(
        &mut self,
        id: &str,
        signed: Timestamp,
        body: [u8; 32],
        now: Timestamp,
    ) -> Result<Arrival, NotNew> {
        let window = self.window;
        // The signed time has whole seconds.
        let begin = self.began.saturating_sub(SignedDuration::from_secs(1)).unwrap_or(self.began);
        if now.duration_since(signed).abs() > window || signed <= begin {
            return Err(NotNew::Stale { window });
        }
        match self.known.get(id) {
            Some(seen) if seen.body != body => Err(NotNew::IdTaken),
            Some(seen) if seen.signed == signed => Err(NotNew::Replayed),
            Some(_) => Ok(Arrival::Repeated),
            None => {
                self.sweep(now);
                if self.known.len() >= self.limit {
                    return Err(NotNew::Full { limit: self.limit });
                }
                Ok(Arrival::New)
            }
        }
    }

    /// Remembers a message that counted.
    pub(crate) fn remember(&mut self, id: &str, signed: Timestamp, body: [u8; 32]) {
        self.known.insert(id.into(), Seen { signed, body });
    }

    /// Forgets a message that did not count after all: its repetition may.
    pub(crate) fn forget(&mut self, id: &str) {
        self.known.remove(id);
    }

    /// Forgets what is outside the window anyhow; a repetition may come as late as that again.
    fn sweep(&mut self, now: Timestamp) {
        if now.duration_since(self.swept) < self.window && self.known.len() < self.limit {
            return;
        }
        let window = self.window;
        self.known.retain(|_, seen| now.duration_since(seen.signed) <= window + window);
        self.swept = now;
    }
}

impl NotNew {
    /// The refusal's name in metrics and problems.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Stale { .. } => "stale",
            Self::Replayed => "replayed",
            Self::IdTaken => "id-taken",
            Self::Full { .. } => "memory-full",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: SignedDuration = SignedDuration::from_secs(300);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn pass(
        gate: &mut Gate,
        id: &str,
        signed: i64,
        body: u8,
        now: i64,
    ) -> Result<Arrival, &'static str> {
        let arrival = gate.admit(id, at(signed), [body; 32], at(now)).map_err(NotNew::label)?;
        gate.remember(id, at(signed), [body; 32]);
        Ok(arrival)
    }

    #[test]
    fn counts_once_within_the_window() {
        let mut gate = Gate::new(WINDOW, 100, at(-1000));
        assert_eq!(pass(&mut gate, "a", 0, 1, 0), Ok(Arrival::New));
        assert_eq!(pass(&mut gate, "a", 0, 1, 1), Err("replayed"));
        assert_eq!(pass(&mut gate, "a", 0, 1, 301), Err("stale"));
        assert_eq!(pass(&mut gate, "a", 10, 1, 11), Ok(Arrival::Repeated));
        assert_eq!(pass(&mut gate, "a", 20, 2, 21), Err("id-taken"));
        assert_eq!(pass(&mut gate, "b", 330, 1, 30), Ok(Arrival::New));
        assert_eq!(pass(&mut gate, "c", 331, 1, 30), Err("stale"));
    }

    #[test]
    fn what_may_have_counted_before_a_restart_does_not_count() {
        let mut gate = Gate::new(WINDOW, 100, at(0));
        assert_eq!(pass(&mut gate, "a", -1, 1, 5), Err("stale"));
        assert_eq!(pass(&mut gate, "a", 0, 1, 5), Ok(Arrival::New));
    }

    #[test]
    fn a_full_memory_refuses_until_the_windows_are_over() {
        let mut gate = Gate::new(WINDOW, 2, at(-1000));
        for id in ["a", "b"] {
            assert_eq!(pass(&mut gate, id, 0, 1, 0), Ok(Arrival::New));
        }
        assert_eq!(pass(&mut gate, "c", 1, 1, 1), Err("memory-full"));
        assert_eq!(pass(&mut gate, "a", 1, 1, 1), Ok(Arrival::Repeated));
        assert_eq!(pass(&mut gate, "c", 700, 1, 700), Ok(Arrival::New));
    }
}
