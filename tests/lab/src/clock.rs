//! The one place where the lab reads the clocks.
#![expect(clippy::disallowed_methods, reason = "the lab is a shell; this is its marked place")]

use std::time::{Duration, Instant, SystemTime};

/// Reads the monotonic clock.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Reads the wall clock; certificates need it.
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}

/// Lets other processes go on for a moment, where they say nothing when they are ready.
pub(crate) fn pause() {
    std::thread::sleep(POLL);
}

/// How often what cannot be waited for is looked at.
const POLL: Duration = Duration::from_millis(10);
