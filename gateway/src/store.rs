//! The snapshot in force; only `publish` can change it.

use std::{sync::Arc, thread, time::Duration};

use arc_swap::ArcSwapOption;
use policy::{Policy, Snapshot};

use crate::aside;

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
        if let Some(before) = self.current.swap(Some(snapshot)) {
            retire(before);
        }
    }
}

/// Sees that a large policy is not taken down by whoever happened to judge by it last: that takes
/// as long as thousands of judgements.
fn retire(snapshot: Arc<Snapshot>) {
    let started = aside::start(move || {
        for _ in 0..LOOKS {
            if Arc::strong_count(&snapshot) == 1 {
                break;
            }
            thread::park_timeout(PAUSE);
        }
    });
    if let Err(error) = started {
        tracing::debug!(%error, "no thread to take a policy down on");
    }
}

/// Traffic holds a snapshot for one judgement, or one batch of them.
const PAUSE: Duration = Duration::from_millis(10);
/// A second in all: what is still held then is held for long, and goes with whoever holds it.
const LOOKS: usize = 100;
