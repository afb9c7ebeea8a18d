//! The snapshot in force; only `publish` can change it.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use policy::{Policy, Snapshot};

/// Holds the policy in force. Empty until the first is published: then everything is denied.
#[derive(Debug, Default)]
pub(crate) struct Store {
    current: ArcSwapOption<Snapshot>,
}

impl Store {
    /// The snapshot in force.
    pub(crate) fn current(&self) -> Option<Arc<Snapshot>> {
        self.current.load_full()
    }

    /// `policy` as the next generation, not in force yet. Callers take turns: see the reloader.
    pub(crate) fn prepare(&self, policy: Policy) -> Arc<Snapshot> {
        let generation = self.current.load().as_ref().map_or(0, |before| before.generation()) + 1;
        Arc::new(Snapshot::new(policy, generation))
    }

    /// Puts `snapshot` in force.
    pub(crate) fn publish(&self, snapshot: Arc<Snapshot>) {
        self.current.store(Some(snapshot));
    }
}
