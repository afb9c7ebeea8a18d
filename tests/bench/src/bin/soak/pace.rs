//! How many attempts are due: a steady number a second, and fewer while the machine can do less than
//! it could when it was measured; without this, the load would be all it can do, and more, from then
//! on. What was taken back counts: a run whose load fell short fails.

use std::{fmt, time::Duration};

/// The pace of a load.
pub(crate) struct Pace {
    full: f64,
    rate: f64,
    /// So many open attempts are too many.
    crowd: usize,
    /// Since the rate was last looked at.
    since: Duration,
    missed: f64,
    slowed: u64,
}

impl Pace {
    /// So many attempts a second, whatever becomes of them.
    pub(crate) fn whatever(full: f64) -> Self {
        Self { crowd: usize::MAX, ..Self::at_best(full) }
    }

    /// At best `full` attempts a second.
    pub(crate) fn at_best(full: f64) -> Self {
        Self { full, rate: full, crowd: CROWD, since: Duration::ZERO, missed: 0.0, slowed: 0 }
    }

    /// How many are due after `elapsed` more, while `open` have not ended.
    pub(crate) fn due(&mut self, elapsed: Duration, open: usize) -> f64 {
        let due = self.rate * elapsed.as_secs_f64();
        // Whoever stood still itself cannot blame others, nor make it all up at once.
        if elapsed > STANDSTILL {
            self.missed += due;
            return 0.0;
        }
        self.since += elapsed;
        if self.since >= SECOND {
            self.since = Duration::ZERO;
            let is_crowded = open > self.crowd;
            self.slowed += u64::from(is_crowded);
            self.rate = if is_crowded { self.rate * LESS } else { self.full.min(self.rate * MORE) };
        }
        due
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slowed={} missed={:.0}", self.slowed, self.missed)
    }
}

/// A client that was not run for so long was stopped with its machine: at a share of what that can
/// do, no other process takes it for so long.
const STANDSTILL: Duration = Duration::from_millis(200);
/// Attempts that are open only where more are made than end; the slow ones alone are 300.
const CROWD: usize = 1_000;
const SECOND: Duration = Duration::from_secs(1);
const LESS: f64 = 0.9;
const MORE: f64 = 1.02;
