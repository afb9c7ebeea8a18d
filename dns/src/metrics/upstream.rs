//! The metrics of the upstreams. An upstream is named by its place in the configuration.

use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

use super::BUCKETS;
use crate::upstream::BadReply;

/// The metrics of all upstreams.
#[derive(Debug)]
pub(crate) struct UpstreamMetrics {
    seconds: HistogramVec,
    questions: IntCounterVec,
    bad_replies: IntCounterVec,
    up: IntGaugeVec,
    hedges: IntCounterVec,
}

/// Those of one upstream.
#[derive(Debug)]
pub(crate) struct UpstreamHandles {
    seconds: Histogram,
    questions: IntCounter,
    bad_replies: [(BadReply, IntCounter); 4],
    up: IntGauge,
}

/// What became of the wish to ask a second upstream because the first takes long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hedge {
    /// It was asked.
    Asked,
    /// It was asked, and answered first.
    Won,
    /// It was not asked: too many others were.
    Spared,
}

impl UpstreamMetrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter =
            |name, help, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        let metrics = Self {
            seconds: HistogramVec::new(
                HistogramOpts::new(SECONDS, SECONDS_HELP).buckets(BUCKETS.to_vec()),
                &["upstream"],
            )?,
            questions: counter(QUESTIONS, QUESTIONS_HELP, &["upstream"])?,
            bad_replies: counter(BAD_REPLIES, BAD_REPLIES_HELP, &["upstream", "kind"])?,
            up: IntGaugeVec::new(Opts::new(UP, UP_HELP), &["upstream"])?,
            hedges: counter(HEDGES, HEDGES_HELP, &["result"])?,
        };
        for result in [Hedge::Asked, Hedge::Won, Hedge::Spared] {
            metrics.hedges.with_label_values(&[result.label()]);
        }
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.questions.clone()))?;
        registry.register(Box::new(metrics.bad_replies.clone()))?;
        registry.register(Box::new(metrics.up.clone()))?;
        registry.register(Box::new(metrics.hedges.clone()))?;
        Ok(metrics)
    }

    /// The metrics of the upstream at `place`, the first being 1.
    pub(crate) fn of(&self, place: usize) -> UpstreamHandles {
        let place = place.to_string();
        let place = place.as_str();
        UpstreamHandles {
            seconds: self.seconds.with_label_values(&[place]),
            questions: self.questions.with_label_values(&[place]),
            bad_replies: BadReply::ALL
                .map(|how| (how, self.bad_replies.with_label_values(&[place, how.label()]))),
            up: self.up.with_label_values(&[place]),
        }
    }

    pub(crate) fn hedged(&self, result: Hedge) {
        self.hedges.with_label_values(&[result.label()]).inc();
    }
}

impl UpstreamHandles {
    pub(crate) fn asked(&self) {
        self.questions.inc();
    }

    pub(crate) fn answered(&self, elapsed: Duration) {
        self.seconds.observe(elapsed.as_secs_f64());
    }

    pub(crate) fn bad_reply(&self, how: BadReply) {
        for (_, counter) in self.bad_replies.iter().filter(|(kind, _)| *kind == how) {
            counter.inc();
        }
    }

    pub(crate) fn is_up(&self, is_up: bool) {
        self.up.set(i64::from(is_up));
    }
}

impl Hedge {
    fn label(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Won => "won",
            Self::Spared => "spared",
        }
    }
}

const SECONDS: &str = "postern_dns_upstream_seconds";
const SECONDS_HELP: &str = "Time an upstream resolver took for an answer, by upstream.";
const QUESTIONS: &str = "postern_dns_upstream_questions_total";
const QUESTIONS_HELP: &str = "Questions put to an upstream resolver, by upstream.";
const BAD_REPLIES: &str = "postern_dns_upstream_bad_replies_total";
const BAD_REPLIES_HELP: &str = "Datagrams that claimed to be an upstream's reply and did not fit the question, by upstream and by what did not fit.";
const UP: &str = "postern_dns_upstream_up";
const UP_HELP: &str =
    "Whether the last question to an upstream resolver was answered, by upstream.";
const HEDGES: &str = "postern_dns_upstream_hedges_total";
const HEDGES_HELP: &str =
    "Slow questions that were put to a second upstream as well, or would have been, by result.";
