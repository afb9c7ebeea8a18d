//! Every DNS metric. Labels come from closed lists; no name and no address ever becomes one.

mod upstream;

use std::{sync::Arc, time::Duration};

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    local::LocalHistogram,
};

pub(crate) use upstream::{Hedge, UpstreamHandles, UpstreamMetrics};

use crate::{
    upstream::UpstreamError,
    wire::{Dropped, Rcode},
};

/// The handles of the DNS metrics, made once.
#[derive(Debug)]
pub struct Metrics {
    /// By origin.
    query_seconds: [Histogram; Origin::ALL.len()],
    /// By transport and response code.
    responses: [[IntCounter; Rcode::ALL.len()]; Transport::ALL.len()],
    /// By reason.
    dropped: [IntCounter; Dropped::ALL.len()],
    cache_hits: IntCounter,
    cache_misses: IntCounter,
    packets: IntCounter,
    pending: IntGauge,
    rate_buckets: IntGauge,
    rate_takeovers: IntCounter,
    connections: IntGauge,
    refused_connections: IntCounterVec,
    upstreams: UpstreamMetrics,
    upstream_failures: IntCounterVec,
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Local,
    Cache,
    Upstream,
    /// The upstreams said it once, and now say nothing.
    Stale,
}

/// What was said to a question, as far as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) rcode: Rcode,
    pub(crate) origin: Origin,
}

/// What one thread counted since it was added up. Counters that threads share cost each of them more
/// than an answer does.
#[derive(Debug)]
pub(crate) struct Tally {
    transport: Transport,
    /// By origin and response code.
    said: [[u64; Rcode::ALL.len()]; Origin::ALL.len()],
    query_seconds: [LocalHistogram; Origin::ALL.len()],
}

/// How a question came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
    Tls,
    Https,
}

/// Why a connection was closed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefusedConnection {
    /// As many as the node takes are open.
    Total,
    /// As many as one source may have are open.
    Source,
    /// The kernel failed to hand one over.
    Accept,
    /// TLS, or the HTTP/2 within it, did not come about.
    Handshake,
}

impl Metrics {
    /// Makes the metrics and enters them in `registry`.
    ///
    /// # Errors
    ///
    /// One of the names is already in the registry.
    pub fn register(registry: &Registry) -> Result<Arc<Self>, prometheus::Error> {
        let counter = |name, help, label| IntCounterVec::new(Opts::new(name, help), label);
        let query_seconds = HistogramVec::new(
            HistogramOpts::new(QUERY_SECONDS, QUERY_SECONDS_HELP).buckets(BUCKETS.to_vec()),
            &["source"],
        )?;
        let responses = counter(RESPONSES, RESPONSES_HELP, &["transport", "rcode"])?;
        let dropped = counter(DROPPED, DROPPED_HELP, &["reason"])?;
        let cache = counter(CACHE, CACHE_HELP, &["result"])?;
        let metrics = Self {
            query_seconds: Origin::ALL
                .map(|origin| query_seconds.with_label_values(&[origin.label()])),
            responses: Transport::ALL.map(|transport| {
                let transport = transport.label();
                Rcode::ALL.map(|rcode| responses.with_label_values(&[transport, rcode.label()]))
            }),
            dropped: Dropped::ALL.map(|reason| dropped.with_label_values(&[reason.label()])),
            cache_hits: cache.with_label_values(&["hit"]),
            cache_misses: cache.with_label_values(&["miss"]),
            packets: IntCounter::new(PACKETS, PACKETS_HELP)?,
            pending: IntGauge::new(PENDING, PENDING_HELP)?,
            rate_buckets: IntGauge::new(RATE_BUCKETS, RATE_BUCKETS_HELP)?,
            rate_takeovers: IntCounter::new(RATE_TAKEOVERS, RATE_TAKEOVERS_HELP)?,
            connections: IntGauge::new(CONNECTIONS, CONNECTIONS_HELP)?,
            refused_connections: counter(
                REFUSED_CONNECTIONS,
                REFUSED_CONNECTIONS_HELP,
                &["reason"],
            )?,
            upstreams: UpstreamMetrics::register(registry)?,
            upstream_failures: counter(UPSTREAM_FAILURES, UPSTREAM_FAILURES_HELP, &["kind"])?,
        };
        // A series that was never touched would be missing from the first scrape, and an alert
        // on its rise would not see it.
        for kind in UpstreamError::LABELS {
            metrics.upstream_failures.with_label_values(&[kind]);
        }
        for reason in RefusedConnection::ALL {
            metrics.refused_connections.with_label_values(&[reason.label()]);
        }
        registry.register(Box::new(query_seconds))?;
        registry.register(Box::new(responses))?;
        registry.register(Box::new(dropped))?;
        registry.register(Box::new(cache))?;
        registry.register(Box::new(metrics.packets.clone()))?;
        registry.register(Box::new(metrics.pending.clone()))?;
        registry.register(Box::new(metrics.rate_buckets.clone()))?;
        registry.register(Box::new(metrics.rate_takeovers.clone()))?;
        registry.register(Box::new(metrics.connections.clone()))?;
        registry.register(Box::new(metrics.refused_connections.clone()))?;
        registry.register(Box::new(metrics.upstream_failures.clone()))?;
        Ok(Arc::new(metrics))
    }

    /// Counts one answer.
    pub(crate) fn answered(&self, transport: Transport, said: Said, elapsed: Duration) {
        let Said { rcode, origin } = said;
        if let Some(counter) = self.response(transport, rcode) {
            counter.inc();
        }
        if let Some(histogram) = self.query_seconds.get(origin as usize) {
            histogram.observe(elapsed.as_secs_f64());
        }
    }

    /// A tally of what one thread answers over `transport`.
    pub(crate) fn tally(&self, transport: Transport) -> Tally {
        Tally {
            transport,
            said: [[0; Rcode::ALL.len()]; Origin::ALL.len()],
            query_seconds: self.query_seconds.each_ref().map(Histogram::local),
        }
    }

    /// Adds up what `tally` counted, whose answers took `elapsed`.
    pub(crate) fn add(&self, tally: &mut Tally, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        for (counts, histogram) in tally.said.iter_mut().zip(&tally.query_seconds) {
            for (rcode, count) in Rcode::ALL.into_iter().zip(counts) {
                let count = std::mem::take(count);
                if let Some(counter) = self.response(tally.transport, rcode).filter(|_| count > 0) {
                    counter.inc_by(count);
                    (0..count).for_each(|_| histogram.observe(seconds));
                }
            }
            histogram.flush();
        }
    }

    fn response(&self, transport: Transport, rcode: Rcode) -> Option<&IntCounter> {
        self.responses.get(transport as usize)?.get(rcode as usize)
    }

    pub(crate) fn dropped(&self, reason: Dropped) {
        if let Some(counter) = self.dropped.get(reason as usize) {
            counter.inc();
        }
    }

    pub(crate) fn cache(&self, hit: bool) {
        if hit { &self.cache_hits } else { &self.cache_misses }.inc();
    }

    /// Counts an answer that lay ready as a packet.
    pub(crate) fn packet_hit(&self) {
        self.cache_hits.inc();
        self.packets.inc();
    }

    #[cfg(test)]
    pub(crate) fn packet_hits(&self) -> u64 {
        self.packets.get()
    }

    pub(crate) fn pending(&self) -> &IntGauge {
        &self.pending
    }

    /// How many rate buckets are in use, and whether one of them was just taken over.
    pub(crate) fn rated(&self, used: usize, is_taken_over: bool) {
        self.rate_buckets.set(i64::try_from(used).unwrap_or(i64::MAX));
        if is_taken_over {
            self.rate_takeovers.inc();
        }
    }

    pub(crate) fn connections(&self) -> &IntGauge {
        &self.connections
    }

    pub(crate) fn refused_connection(&self, reason: RefusedConnection) {
        self.refused_connections.with_label_values(&[reason.label()]).inc();
    }

    pub(crate) fn upstreams(&self) -> &UpstreamMetrics {
        &self.upstreams
    }

    pub(crate) fn upstream_failed(&self, error: &UpstreamError) {
        self.upstream_failures.with_label_values(&[error.label()]).inc();
    }
}

impl Tally {
    /// Counts one answer.
    pub(crate) fn answered(&mut self, Said { rcode, origin }: Said) {
        if let Some(count) =
            self.said.get_mut(origin as usize).and_then(|said| said.get_mut(rcode as usize))
        {
            *count += 1;
        }
    }
}

impl Origin {
    const ALL: [Self; 4] = [Self::Local, Self::Cache, Self::Upstream, Self::Stale];

    fn label(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Cache => "cache",
            Self::Upstream => "upstream",
            Self::Stale => "stale",
        }
    }
}

impl Transport {
    const ALL: [Self; 4] = [Self::Udp, Self::Tcp, Self::Tls, Self::Https];

    /// Whether nobody on the way can read or change what is said.
    pub(crate) fn is_encrypted(self) -> bool {
        match self {
            Self::Udp | Self::Tcp => false,
            Self::Tls | Self::Https => true,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Https => "https",
        }
    }
}

impl RefusedConnection {
    const ALL: [Self; 4] = [Self::Total, Self::Source, Self::Accept, Self::Handshake];

    fn label(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Source => "source",
            Self::Accept => "accept",
            Self::Handshake => "handshake",
        }
    }
}

const QUERY_SECONDS: &str = "postern_dns_query_seconds";
const QUERY_SECONDS_HELP: &str =
    "Time from reading a DNS question to its answer, by where the answer came from.";
const RESPONSES: &str = "postern_dns_responses_total";
const RESPONSES_HELP: &str = "DNS answers sent, by transport and response code.";
const DROPPED: &str = "postern_dns_dropped_total";
const DROPPED_HELP: &str = "DNS messages that got no answer, by reason.";
const CACHE: &str = "postern_dns_cache_total";
const CACHE_HELP: &str = "Listed names looked for in the answer cache, by result.";
const PACKETS: &str = "postern_dns_packet_hits_total";
const PACKETS_HELP: &str = "Hits of the DNS answer cache whose answer lay ready as it was written.";
const PENDING: &str = "postern_dns_pending";
const PENDING_HELP: &str = "DNS questions that wait for an upstream.";
const RATE_BUCKETS: &str = "postern_dns_rate_buckets";
const RATE_BUCKETS_HELP: &str =
    "Subscribers whose rate of DNS questions is watched; the table has room for 65536.";
const RATE_TAKEOVERS: &str = "postern_dns_rate_takeovers_total";
const RATE_TAKEOVERS_HELP: &str =
    "Subscribers that found the table of rates full and share what another had left.";
const CONNECTIONS: &str = "postern_dns_connections";
const CONNECTIONS_HELP: &str = "DNS connections that are open, encrypted or not.";
const REFUSED_CONNECTIONS: &str = "postern_dns_refused_connections_total";
const REFUSED_CONNECTIONS_HELP: &str =
    "DNS connections closed before the first question, by reason.";
const UPSTREAM_FAILURES: &str = "postern_upstream_failures_total";
const UPSTREAM_FAILURES_HELP: &str = "Failed questions to an upstream resolver, by kind.";

/// In seconds: from a local answer to the overall deadline.
const BUCKETS: [f64; 14] = [
    0.000_01, 0.000_05, 0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 4.0,
];
