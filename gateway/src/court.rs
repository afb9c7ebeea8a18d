//! The court: the snapshot in force, who is behind an address, and the record of each verdict.
//!
//! Every part that judges traffic asks here, so that DNS and the proxy cannot disagree.

use std::{net::IpAddr, sync::Arc};

use policy::{Record, Snapshot, Subscriber, Verdict};
use prometheus::{IntCounterVec, Opts, Registry};

use crate::{clock, log::DecisionLog, store::Store};

/// Shared by the resolver, the proxy and the admin API.
#[derive(Debug)]
pub(crate) struct Court {
    store: Store,
    decisions: IntCounterVec,
    log: Option<DecisionLog>,
}

impl Court {
    /// A court without a policy; it denies everything until one is published.
    pub(crate) fn new(registry: &Registry, log: Option<DecisionLog>) -> prometheus::Result<Self> {
        let decisions = IntCounterVec::new(
            Opts::new(DECISIONS, "Judgements by protocol, class, verdict and reason."),
            &["protocol", "class", "verdict", "reason"],
        )?;
        registry.register(Box::new(decisions.clone()))?;
        Ok(Self { store: Store::default(), decisions, log })
    }

    /// The policy in force.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }
}

impl dns::Judge for Court {
    fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.store.current()
    }

    fn subscriber(&self, address: IpAddr) -> Subscriber {
        Subscriber::at(address)
    }

    fn now(&self) -> jiff::Timestamp {
        clock::now()
    }

    fn record(&self, record: &Record<'_>) {
        let Record { protocol, class, verdict, reason, .. } = record;
        self.decisions.with_label_values(&[protocol, class, verdict.label(), reason.label()]).inc();
        if let Some(log) = &self.log {
            log.write(record, clock::now());
        }
        match verdict {
            Verdict::Allow => tracing::trace!(protocol, class, reason = reason.label(), "allowed"),
            Verdict::Deny | Verdict::Observe => tracing::debug!(
                protocol,
                class,
                reason = reason.label(),
                verdict = verdict.label(),
                host = record.host.map(tracing::field::display),
                "denied"
            ),
        }
    }
}

/// Judgements by protocol, class, verdict and reason.
const DECISIONS: &str = "postern_decisions_total";
