//! How long lifts and walls take, and what they end.

use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, IntCounter, Registry};

use crate::sims::Source;

/// The metrics of lift and wall.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    seconds: HistogramVec,
    failures: IntCounter,
    flows: IntCounter,
}

impl Metrics {
    /// Registers them.
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let options = HistogramOpts::new(LIFT_SECONDS, LIFT_HELP).buckets(BUCKETS.to_vec());
        let seconds = HistogramVec::new(options, &["source"])?;
        let failures = IntCounter::new(FAILURES, "Changes that the kernel refused.")?;
        let flows = IntCounter::new(FLOWS, "Flows of walled SIMs that were ended.")?;
        for source in SOURCES {
            seconds.with_label_values(&[source.label()]);
        }
        registry.register(Box::new(seconds.clone()))?;
        registry.register(Box::new(failures.clone()))?;
        registry.register(Box::new(flows.clone()))?;
        Ok(Self { seconds, failures, flows })
    }

    pub(super) fn lifted(&self, source: Source, took: Duration) {
        self.seconds.with_label_values(&[source.label()]).observe(took.as_secs_f64());
    }

    pub(super) fn failed(&self) {
        self.failures.inc();
    }

    pub(super) fn cut(&self, flows: usize) {
        self.flows.inc_by(u64::try_from(flows).unwrap_or(u64::MAX));
    }
}

/// Whatever changes a verdict.
const SOURCES: [Source; 7] = [
    Source::Ageing,
    Source::Api,
    Source::Coa,
    Source::Mapping,
    Source::Radius,
    Source::Store,
    Source::Webhook,
];
const LIFT_SECONDS: &str = "postern_lift_seconds";
const LIFT_HELP: &str =
    "From an event's acceptance to the kernel's changed verdict, by its source.";
const FAILURES: &str = "postern_lift_failures_total";
const FLOWS: &str = "postern_flows_cut_total";
/// From what a transaction takes to what is an outage; the target is 0.1 s on the node.
const BUCKETS: [f64; 12] =
    [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];
