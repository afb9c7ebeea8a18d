//! The one place where the program reads the wall clock.

use jiff::{Timestamp, civil::Date};

/// The present moment.
#[expect(clippy::disallowed_methods, reason = "the shell's one marked place")]
pub(crate) fn now() -> Timestamp {
    // The system's clock lies within the type's range; 1970 would make every expiry void, so a
    // clock that does not is taken as the far end, where expired entries stay shut.
    Timestamp::try_from(std::time::SystemTime::now()).unwrap_or(Timestamp::MAX)
}

/// The present moment for measuring spans.
#[expect(clippy::disallowed_methods, reason = "the shell's one marked place")]
pub(crate) fn monotonic() -> std::time::Instant {
    std::time::Instant::now()
}

/// The day in UTC.
pub(crate) fn today() -> Date {
    jiff::tz::Offset::UTC.to_datetime(now()).date()
}
