//! The one place where the lab reads the clock.

use std::time::Instant;

/// Reads the monotonic clock.
pub(crate) fn now() -> Instant {
    Instant::now()
}
