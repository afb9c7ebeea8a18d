//! How long one upstream's answers took of late, in counts that fade.

use std::time::Duration;

/// Counts of answers by how long they took, in steps of a quarter of an octave: whatever is read
/// from it is at most a fifth too long.
#[derive(Clone, Debug)]
pub(super) struct Latency {
    counts: [u32; STEPS],
    total: u32,
}

impl Latency {
    pub(super) fn new() -> Self {
        Self { counts: [0; STEPS], total: 0 }
    }

    /// Counts an answer; every [`FADE`] of them, all that was counted weighs half.
    pub(super) fn count(&mut self, elapsed: Duration) {
        if self.total >= FADE {
            for count in &mut self.counts {
                *count /= 2;
            }
            self.total = self.counts.iter().sum();
        }
        if let Some(count) = self.counts.get_mut(step(elapsed)) {
            *count += 1;
            self.total += 1;
        }
    }

    /// What 95 of 100 answers did not take longer than; `None` until there were [`ENOUGH`].
    pub(super) fn p95(&self) -> Option<Duration> {
        if self.total < ENOUGH {
            return None;
        }
        let wanted = self.total - self.total / 20;
        let mut seen = 0;
        let step = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        Some(end(step))
    }
}

/// The step `elapsed` falls in: its octave of microseconds, and the quarter of that.
fn step(elapsed: Duration) -> usize {
    let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX).max(4);
    let octave = micros.ilog2();
    let quarter = micros >> (octave - 2) & 3;
    let step = u64::from(octave) * 4 + quarter;
    usize::try_from(step).unwrap_or(usize::MAX).min(STEPS - 1)
}

/// The first moment after `step`.
fn end(step: usize) -> Duration {
    let (octave, quarter) = (step / 4, u64::try_from(step % 4).unwrap_or_default());
    let quarters = 1_u64.checked_shl(u32::try_from(octave).unwrap_or(u32::MAX).saturating_sub(2));
    Duration::from_micros((quarter + 5) * quarters.unwrap_or(u64::MAX / 8))
}

/// Up to 16 s, far beyond any deadline.
const STEPS: usize = 4 * 24;
/// Answers after which the old ones weigh half.
const FADE: u32 = 1_024;
/// Answers before anything is said.
const ENOUGH: u32 = 20;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{ENOUGH, FADE, Latency, end, step};

    #[test]
    fn steps_follow_each_other_and_hold_what_falls_in_them() {
        for micros in (4..2_000).chain((10..24).map(|bits| 1 << bits)).chain([15_999_999]) {
            let elapsed = Duration::from_micros(micros);
            let step = step(elapsed);
            assert!(elapsed < end(step), "{micros}");
            assert!(step == 8 || elapsed >= end(step - 1), "{micros}");
            assert!(end(step).as_micros() <= u128::from(micros) * 5 / 4, "{micros}");
        }
        assert_eq!(step(Duration::ZERO), step(Duration::from_micros(4)));
        assert_eq!(step(Duration::MAX), super::STEPS - 1);
    }

    #[test]
    fn says_what_most_answers_took_once_there_were_enough() {
        let mut latency = Latency::new();
        for _ in 1..ENOUGH {
            latency.count(Duration::from_millis(10));
        }
        assert_eq!(latency.p95(), None);
        latency.count(Duration::from_secs(1));
        let p95 = latency.p95().unwrap();
        assert!((10..=13).contains(&p95.as_millis()), "{p95:?}: one of 20 may take longer");
        latency.count(Duration::from_secs(1));
        assert!(latency.p95().unwrap() > Duration::from_secs(1), "two may not");
    }

    #[test]
    fn forgets_what_was_long_ago() {
        let mut latency = Latency::new();
        for _ in 0..FADE {
            latency.count(Duration::from_millis(500));
        }
        for _ in 0..4 * FADE {
            latency.count(Duration::from_millis(5));
        }
        assert!(latency.p95().unwrap() < Duration::from_millis(10));
    }
}
