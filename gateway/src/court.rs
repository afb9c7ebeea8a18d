//! The court: the snapshot in force, who is behind an address, and the record of each verdict.
//!
//! Every part that judges traffic asks here, so that DNS and the proxy cannot disagree.

mod decisions;

use std::{net::IpAddr, sync::Arc};

use policy::{Record, Snapshot, Subscriber, Verdict};
use prometheus::Registry;

use decisions::Decisions;

use crate::{clock, log::DecisionLog, sims::Sims, store::Store};

/// Shared by the resolver, the proxy and the admin API.
#[derive(Debug)]
pub(crate) struct Court {
    store: Store,
    decisions: Decisions,
    log: Option<DecisionLog>,
    sims: Arc<Sims>,
}

impl Court {
    /// A court without a policy; it denies everything until one is published.
    pub(crate) fn new(
        registry: &Registry,
        log: Option<DecisionLog>,
        sims: Arc<Sims>,
    ) -> prometheus::Result<Self> {
        Ok(Self { store: Store::default(), decisions: Decisions::new(registry)?, log, sims })
    }

    /// Who is behind which address.
    pub(crate) fn sims(&self) -> &Arc<Sims> {
        &self.sims
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
        self.sims.subscriber(address)
    }

    fn now(&self) -> jiff::Timestamp {
        clock::now()
    }

    fn record(&self, record: &Record<'_>) {
        let Record { protocol, class, verdict, reason, .. } = record;
        self.decisions.count(record);
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
