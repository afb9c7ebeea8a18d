//! The one place where the lab reads the clocks.
#![expect(clippy::disallowed_methods, reason = "the lab is a shell; this is its marked place")]

use std::time::{Instant, SystemTime};

/// Reads the monotonic clock.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Reads the wall clock; certificates need it.
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}
