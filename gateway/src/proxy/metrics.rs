//! Every metric of the proxy.

use std::{collections::BTreeMap, sync::Arc};

use prometheus::{
    IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, core::Collector,
};

use super::{Protocol, outcome::Outcome};

/// The proxy's metrics, registered once.
pub(crate) struct Metrics {
    http: Handles,
    https: Handles,
    quic: Handles,
    to_origin: IntCounter,
    to_subscriber: IntCounter,
    destination_mismatch: IntCounter,
    metered: IntGauge,
    requests: BTreeMap<&'static str, IntCounter>,
    origin_connections: IntGauge,
    local_ports: IntGauge,
    local_ports_exhausted: IntCounter,
    unclear: IntCounter,
    full: IntCounter,
}

struct Handles {
    open: IntGauge,
    accept_failures: IntCounter,
    outcomes: BTreeMap<&'static str, IntCounter>,
}

/// Which way bytes were relayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the subscriber to the origin.
    ToOrigin,
    /// From the origin to the subscriber.
    ToSubscriber,
}

/// Why a datagram was thrown away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ignored {
    /// It belongs to no path and begins none.
    Unclear,
    /// Its path has too many waiting.
    Full,
}

impl Metrics {
    /// Registers every metric of the proxy in `registry`.
    ///
    /// # Errors
    ///
    /// A name is taken.
    pub(crate) fn register(registry: &Registry) -> Result<Arc<Self>, prometheus::Error> {
        let open = registered(registry, IntGaugeVec::new(opts(SESSIONS), &["protocol"])?)?;
        let failures =
            registered(registry, IntCounterVec::new(opts(ACCEPT_FAILURES), &["protocol"])?)?;
        let bytes = registered(registry, IntCounterVec::new(opts(BYTES), &["direction"])?)?;
        let outcomes = IntCounterVec::new(opts(OUTCOMES), &["protocol", "outcome"])?;
        let outcomes = registered(registry, outcomes)?;
        let requests = registered(registry, IntCounterVec::new(opts(REQUESTS), &["outcome"])?)?;
        let ignored = registered(registry, IntCounterVec::new(opts(IGNORED), &["cause"])?)?;
        // Made once: they are there from the start, so that a rate over the first one is not lost,
        // and no session has to look them up.
        let each = |counter: &dyn Fn(&str) -> IntCounter| {
            Outcome::EACH
                .map(Outcome::label)
                .into_iter()
                .map(|label| (label, counter(label)))
                .collect()
        };
        let handles = |protocol: Protocol| Handles {
            open: open.with_label_values(&[protocol.label()]),
            accept_failures: failures.with_label_values(&[protocol.label()]),
            outcomes: each(&|outcome| outcomes.with_label_values(&[protocol.label(), outcome])),
        };
        Ok(Arc::new(Self {
            http: handles(Protocol::Http),
            https: handles(Protocol::Https),
            quic: handles(Protocol::Quic),
            to_origin: bytes.with_label_values(&[Direction::ToOrigin.label()]),
            to_subscriber: bytes.with_label_values(&[Direction::ToSubscriber.label()]),
            destination_mismatch: registered(
                registry,
                IntCounter::with_opts(opts(DESTINATION_MISMATCH))?,
            )?,
            metered: registered(registry, IntGauge::with_opts(opts(METERED))?)?,
            requests: each(&|outcome| requests.with_label_values(&[outcome])),
            origin_connections: registered(
                registry,
                IntGauge::with_opts(opts(ORIGIN_CONNECTIONS))?,
            )?,
            local_ports: registered(registry, IntGauge::with_opts(opts(LOCAL_PORTS))?)?,
            local_ports_exhausted: registered(
                registry,
                IntCounter::with_opts(opts(LOCAL_PORTS_EXHAUSTED))?,
            )?,
            unclear: ignored.with_label_values(&[Ignored::Unclear.label()]),
            full: ignored.with_label_values(&[Ignored::Full.label()]),
        }))
    }

    pub(super) fn opened(&self, protocol: Protocol) {
        self.handles(protocol).open.inc();
    }

    pub(super) fn closed(&self, protocol: Protocol, outcome: Outcome) {
        self.handles(protocol).open.dec();
        self.ended(protocol, outcome);
    }

    /// Counts the end of a session, or of one that was never opened.
    pub(super) fn ended(&self, protocol: Protocol, outcome: Outcome) {
        if let Some(counter) = self.handles(protocol).outcomes.get(outcome.label()) {
            counter.inc();
        }
    }

    /// Counts one HTTP request.
    pub(super) fn requested(&self, outcome: Outcome) {
        if let Some(counter) = self.requests.get(outcome.label()) {
            counter.inc();
        }
    }

    pub(super) fn accept_failed(&self, protocol: Protocol) {
        self.handles(protocol).accept_failures.inc();
    }

    pub(super) fn moved(&self, direction: Direction, bytes: usize) {
        let counter = match direction {
            Direction::ToOrigin => &self.to_origin,
            Direction::ToSubscriber => &self.to_subscriber,
        };
        counter.inc_by(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// Says of how many subscribers bytes are counted.
    pub(super) fn metered(&self, subscribers: usize) {
        self.metered.set(i64::try_from(subscribers).unwrap_or(i64::MAX));
    }

    /// The gauge of connections to origins.
    pub(super) fn origin_connections(&self) -> &IntGauge {
        &self.origin_connections
    }

    /// Says how many connections to one origin address there is room for.
    pub(super) fn local_ports(&self, ports: usize) {
        self.local_ports.set(i64::try_from(ports).unwrap_or(i64::MAX));
    }

    pub(super) fn local_ports_exhausted(&self) {
        self.local_ports_exhausted.inc();
    }

    #[cfg(test)]
    pub(super) fn exhausted(&self) -> u64 {
        self.local_ports_exhausted.get()
    }

    pub(super) fn destination_mismatched(&self) {
        self.destination_mismatch.inc();
    }

    /// Counts a datagram that was thrown away.
    pub(super) fn ignored(&self, cause: Ignored) {
        match cause {
            Ignored::Unclear => &self.unclear,
            Ignored::Full => &self.full,
        }
        .inc();
    }

    fn handles(&self, protocol: Protocol) -> &Handles {
        match protocol {
            Protocol::Http => &self.http,
            Protocol::Https => &self.https,
            Protocol::Quic => &self.quic,
        }
    }
}

impl Direction {
    fn label(self) -> &'static str {
        match self {
            Self::ToOrigin => "to-origin",
            Self::ToSubscriber => "to-subscriber",
        }
    }
}

impl Ignored {
    fn label(self) -> &'static str {
        match self {
            Self::Unclear => "unclear",
            Self::Full => "full",
        }
    }
}

fn opts((name, help): (&str, &str)) -> Opts {
    Opts::new(name, help)
}

fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

const SESSIONS: (&str, &str) = ("postern_sessions", "Sessions open, by protocol.");
const OUTCOMES: (&str, &str) = (
    "postern_session_outcomes_total",
    "Sessions ended, by protocol and outcome; the outcome names first whose doing it was.",
);
const REQUESTS: (&str, &str) =
    ("postern_http_requests_total", "HTTP requests ended, by outcome; a session holds many.");
const BYTES: (&str, &str) =
    ("postern_session_bytes_total", "Bytes relayed between subscribers and origins, by direction.");
const DESTINATION_MISMATCH: (&str, &str) = (
    "postern_destination_mismatch_total",
    "Allowed sessions whose subscriber had chosen an address the name does not resolve to here; \
     the name's own address was dialled instead.",
);
const ORIGIN_CONNECTIONS: (&str, &str) =
    ("postern_origin_connections", "Connections to origins that are open or being opened.");
const LOCAL_PORTS: (&str, &str) = (
    "postern_local_ports",
    "Local ports for connections to one origin address and port, all egress addresses together.",
);
const LOCAL_PORTS_EXHAUSTED: (&str, &str) = (
    "postern_local_ports_exhausted_total",
    "Connections to origins that found no local port; more egress addresses are the cure.",
);
const METERED: (&str, &str) = (
    "postern_metered_subscribers",
    "Subscribers whose bytes of the day are counted; there is room for 1048576.",
);
const IGNORED: (&str, &str) = (
    "postern_quic_ignored_datagrams_total",
    "Datagrams thrown away where QUIC is looked into, by cause: unclear belongs to no path and \
     begins none, full found too many waiting.",
);
const ACCEPT_FAILURES: (&str, &str) =
    ("postern_accept_failures_total", "Failed accepts, by protocol; usually out of descriptors.");
