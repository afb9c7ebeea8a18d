//! What is remembered of a name beyond the lifetime of its answers: that it cannot be resolved at
//! the moment (RFC 9520), and what was last known of it (RFC 8767).

use std::{sync::Arc, time::Duration};

use policy::HostName;
use tokio::time::Instant;

use crate::{
    recent::Recent,
    screen::{Family, Finding},
    upstream::UpstreamError,
};

/// A name, the family, and whether answers that fail validation are wanted as well.
pub(super) type Key = (HostName, (Family, bool));

/// Failures and past findings, bounded.
#[derive(Debug)]
pub(super) struct Memory {
    failures: Recent<Key, Failure>,
    past: Recent<Key, (Arc<Finding>, Instant)>,
}

/// A name that could not be resolved, and when it may be tried again.
#[derive(Debug)]
struct Failure {
    error: UpstreamError,
    until: Instant,
    pause: Duration,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self { failures: Recent::new(MAX_FAILURES), past: Recent::new(MAX_PAST) }
    }

    /// Why `key` is not to be asked about yet.
    pub(super) fn failure(&mut self, key: &Key, now: Instant) -> Option<UpstreamError> {
        let failure = self.failures.get(key).filter(|failure| now < failure.until)?;
        Some(failure.error.clone())
    }

    /// What was known about `key`, fit to be told although it is too old.
    pub(super) fn past(&mut self, key: &Key, now: Instant) -> Option<Arc<Finding>> {
        let (finding, found) = self.past.get(key)?;
        if now.saturating_duration_since(*found) >= MAX_STALE {
            self.past.remove(key);
            return None;
        }
        Some(Arc::new(Finding { ttl: STALE_TTL, ..Finding::clone(finding) }))
    }

    /// Keeps in mind how a search ended.
    ///
    /// That we were too busy to ask says nothing about the name.
    pub(super) fn note(
        &mut self,
        key: Key,
        result: &Result<Arc<Finding>, UpstreamError>,
        now: Instant,
    ) {
        match result {
            Ok(finding) => {
                self.failures.remove(&key);
                if finding.ttl > 0 {
                    self.past.put(key, (Arc::clone(finding), now));
                }
            }
            Err(UpstreamError::Busy { .. }) => {}
            Err(error) => {
                let before = self.failures.get(&key).map(|failure| failure.pause);
                let pause = before.map_or(FIRST_PAUSE, |pause| (pause * 2).min(LAST_PAUSE));
                let failure = Failure { error: error.clone(), until: now + pause, pause };
                self.failures.put(key, failure);
            }
        }
    }
}

/// How long a name is not asked about after the first failure (RFC 9520 section 3.2: at least a
/// second).
pub(super) const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// And after the fifth in a row; short, because a purchase may wait for it.
pub(super) const LAST_PAUSE: Duration = Duration::from_secs(16);
/// How long an answer may still be told when there is no other (RFC 8767 section 5: one to three
/// days).
pub(super) const MAX_STALE: Duration = Duration::from_secs(86_400);
/// Seconds such an answer may be kept (RFC 8767 section 4).
pub(super) const STALE_TTL: u32 = 30;
/// Names whose failure is remembered.
const MAX_FAILURES: usize = 4_096;
/// Names whose last finding is remembered.
const MAX_PAST: usize = 16_384;

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use tokio::time::Instant;

    use super::{FIRST_PAUSE, Key, LAST_PAUSE, MAX_STALE, Memory, STALE_TTL};
    use crate::{
        screen::{End, Family, Finding},
        upstream::UpstreamError,
    };

    #[test]
    fn case_68_pauses_twice_as_long_after_each_failure_and_not_after_a_success() {
        let (mut memory, mut now) = (Memory::new(), Instant::now());
        let mut pause = FIRST_PAUSE;
        for _ in 0..8 {
            memory.note(key(), &Err(UpstreamError::Timeout), now);
            let last = now + pause - Duration::from_millis(1);
            assert_eq!(memory.failure(&key(), last), Some(UpstreamError::Timeout));
            now += pause;
            assert_eq!(memory.failure(&key(), now), None);
            pause = (pause * 2).min(LAST_PAUSE);
        }
        memory.note(key(), &Ok(finding(30)), now);
        memory.note(key(), &Err(UpstreamError::Timeout), now);
        assert_eq!(memory.failure(&key(), now + FIRST_PAUSE), None);
        memory.note(key(), &Err(UpstreamError::Busy { limit: 1 }), now + FIRST_PAUSE);
        assert_eq!(memory.failure(&key(), now + FIRST_PAUSE), None, "that was our doing");
    }

    #[test]
    fn case_69_knows_for_a_day_what_was_and_lets_it_be_kept_for_seconds() {
        let (mut memory, start) = (Memory::new(), Instant::now());
        assert_eq!(memory.past(&key(), start), None);
        memory.note(key(), &Ok(finding(300)), start);
        memory.note(key(), &Err(UpstreamError::Timeout), start);
        let last = start + MAX_STALE - Duration::from_secs(1);
        assert_eq!(memory.past(&key(), last).unwrap().ttl, STALE_TTL);
        assert_eq!(memory.past(&key(), start + MAX_STALE), None);
        memory.note(key(), &Ok(finding(0)), start);
        assert_eq!(memory.past(&key(), start), None, "what must not be kept is not");
    }

    fn key() -> Key {
        ("listed.example".parse().unwrap(), (Family::V4, false))
    }

    fn finding(ttl: u32) -> Arc<Finding> {
        Arc::new(Finding { aliases: Vec::new(), end: End::NoData(None), ttl })
    }
}
