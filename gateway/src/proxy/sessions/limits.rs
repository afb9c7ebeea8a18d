//! What the proxy takes at most, and waits for at most.

use std::time::Duration;

/// Bounds of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// From accept to the last byte of the hello.
    pub(crate) hello_time: Duration,
    /// From the first byte of an HTTP head to its last.
    pub(crate) header_time: Duration,
    /// Without a byte in either direction.
    pub(crate) idle_limit: Duration,
    /// From the verdict to a connected origin, resolution included.
    pub(crate) dial_time: Duration,
    /// From the publication that denies a session of a class that drains to its end.
    pub(crate) leave_time: Duration,
    /// Sessions of all subscribers together.
    pub(crate) sessions: usize,
    /// Sessions of all subscribers together that have not said yet whom they want to reach.
    pub(crate) hellos: usize,
    /// Sessions of one subscriber, unless its class says otherwise.
    pub(crate) sessions_per_subscriber: usize,
    /// New sessions a second of one subscriber, unless its class says otherwise.
    pub(crate) sessions_per_second: u32,
}

impl Default for Limits {
    /// The bounds where `gateway.toml` says nothing.
    fn default() -> Self {
        Self {
            hello_time: HELLO_TIME,
            header_time: HEADER_TIME,
            idle_limit: IDLE_LIMIT,
            dial_time: DIAL_TIME,
            leave_time: LEAVE_TIME,
            sessions: SESSIONS,
            hellos: HELLOS,
            sessions_per_subscriber: SESSIONS_PER_SUBSCRIBER,
            sessions_per_second: SESSIONS_PER_SECOND,
        }
    }
}

const HELLO_TIME: Duration = Duration::from_secs(5);
const HEADER_TIME: Duration = Duration::from_secs(10);
const IDLE_LIMIT: Duration = Duration::from_secs(300);
const DIAL_TIME: Duration = Duration::from_secs(8);
const LEAVE_TIME: Duration = Duration::from_secs(10);
const SESSIONS: usize = 65_536;
const HELLOS: usize = 16_384;
const SESSIONS_PER_SUBSCRIBER: usize = 2_048;
const SESSIONS_PER_SECOND: u32 = 200;
