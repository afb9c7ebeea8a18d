//! The metrics of RADIUS.

use prometheus::{IntCounterVec, IntGauge, Opts, Registry};

/// Handles of every RADIUS metric.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    requests: IntCounterVec,
    last: IntGauge,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    ///
    /// A name is taken.
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let requests = IntCounterVec::new(
            Opts::new(REQUESTS, "RADIUS requests by what became of them."),
            &["result"],
        )?;
        let last = IntGauge::new(
            LAST,
            "When the last accounting record was taken, in seconds since 1970.",
        )?;
        for result in RESULTS {
            requests.with_label_values(&[result]);
        }
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(last.clone()))?;
        Ok(Self { requests, last })
    }

    /// Counts one request.
    pub(crate) fn count(&self, result: &'static str) {
        self.requests.with_label_values(&[result]).inc();
    }

    /// Notes when a record was taken.
    pub(crate) fn taken(&self, seconds: i64) {
        self.last.set(seconds);
    }
}

/// What becomes of requests: taken, refused by an answer, or dropped without one.
const RESULTS: [&str; 31] = [
    "start",
    "interim",
    "stop",
    "bearer-stop",
    "on",
    "off",
    "ignored",
    "duplicate",
    "state",
    "disconnect",
    "refused",
    "unknown-client",
    "wrong-port",
    "missing-attribute",
    "resets-limited",
    "stale",
    "replayed",
    "memory-full",
    "truncated",
    "bad-length",
    "bad-code",
    "bad-attribute",
    "bad-authenticator",
    "bad-message-authenticator",
    "bad-address",
    "bad-identity",
    "too-many-addresses",
    "bindings-full",
    "sims-full",
    "names-full",
    "not-stored",
];
const REQUESTS: &str = "postern_radius_requests_total";
const LAST: &str = "postern_radius_last_record_timestamp_seconds";
