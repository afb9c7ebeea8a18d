//! The bounds of the listeners.

use std::{num::NonZero, time::Duration};

/// Bounds of the listeners. [`Limits::default`] suits a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Threads that answer what arrives at one UDP address, with a socket each.
    pub udp_threads: usize,
    /// Questions a second of one subscriber whose class does not say; one second's worth may come
    /// at once. UDP and connections are counted apart.
    pub questions_per_second: u32,
    /// Names below one wildcard that an upstream is asked about for one subscriber in a minute; beyond,
    /// REFUSED. A long name counts as four.
    pub wildcard_names_per_minute: u32,
    /// Questions of one UDP listener that wait for an upstream; beyond, SERVFAIL at once.
    pub udp_pending: usize,
    /// Those of one source address (IPv6: one /64).
    pub udp_pending_per_source: usize,
    /// TCP connections of one listener; beyond, the newest is closed.
    pub connections: usize,
    /// TCP connections of one source address (IPv6: one /64).
    pub connections_per_source: usize,
    /// Questions of one TCP connection under way at once; beyond, it is not read from.
    pub pending_per_connection: usize,
    /// How long TLS, and HTTP/2 within it, may take to come about.
    pub handshake: Duration,
    /// How long a TCP connection may take for its next question, and to take an answer.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            udp_threads: std::thread::available_parallelism().map_or(1, NonZero::get),
            questions_per_second: 200,
            wildcard_names_per_minute: 60,
            udp_pending: 2_048,
            udp_pending_per_source: 64,
            connections: 1_024,
            connections_per_source: 16,
            pending_per_connection: 16,
            handshake: Duration::from_secs(5),
            idle: Duration::from_secs(10),
        }
    }
}

/// How long questions under way may take to finish once the server stops.
pub(crate) const DRAIN: Duration = Duration::from_secs(2);
