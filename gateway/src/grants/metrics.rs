//! How many grants begin, end and are refused.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

use super::ledger::GrantRefused;

/// The metrics of grants.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    begun: IntCounter,
    ended: IntCounterVec,
    refused: IntCounterVec,
    bytes: IntCounter,
}

impl Metrics {
    /// Registers them.
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let begun = IntCounter::new(BEGUN, "Grants that began.")?;
        let ended = IntCounterVec::new(Opts::new(ENDED, "Grants that ended, by what."), &["by"])?;
        let refused =
            IntCounterVec::new(Opts::new(REFUSED, "Grants refused, by the bound."), &["reason"])?;
        let bytes = IntCounter::new(BYTES, "Bytes that ended grants had used.")?;
        for by in [CANCELLED, BY_BYTES, BY_TIME] {
            ended.with_label_values(&[by]);
        }
        for reason in GrantRefused::LABELS {
            refused.with_label_values(&[reason]);
        }
        registry.register(Box::new(begun.clone()))?;
        registry.register(Box::new(ended.clone()))?;
        registry.register(Box::new(refused.clone()))?;
        registry.register(Box::new(bytes.clone()))?;
        Ok(Self { begun, ended, refused, bytes })
    }

    pub(super) fn begun(&self) {
        self.begun.inc();
    }

    pub(super) fn ended(&self, by: &str, used: u64) {
        self.ended.with_label_values(&[by]).inc();
        self.bytes.inc_by(used);
    }

    pub(super) fn refused(&self, refused: &GrantRefused) {
        self.refused.with_label_values(&[refused.label()]).inc();
    }
}

/// What ended a grant.
pub(super) const CANCELLED: &str = "cancelled";
pub(super) const BY_BYTES: &str = "bytes";
pub(super) const BY_TIME: &str = "time";
const BEGUN: &str = "postern_grants_begun_total";
const ENDED: &str = "postern_grants_ended_total";
const REFUSED: &str = "postern_grants_refused_total";
const BYTES: &str = "postern_grant_bytes_total";
