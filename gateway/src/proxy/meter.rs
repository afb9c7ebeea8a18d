//! Counts the bytes of one session against its subscriber's day.
//!
//! Bytes are counted once they were moved, a buffer at a time: a subscriber may exceed its limit by
//! what its sessions hold at that moment, at most one buffer a session and direction.

use std::{fmt, future::pending, sync::Arc};

use super::{
    metrics::Direction,
    sessions::{Live, Sessions},
};

/// Whether a session may move more bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Flow {
    /// It may.
    On,
    /// It may not, and is cut as soon as it waits for anything.
    Over,
}

/// The meter of one session.
#[derive(Clone)]
pub(super) struct Meter {
    sessions: Arc<Sessions>,
    live: Arc<Live>,
    judge: Arc<dyn dns::Judge>,
}

impl Meter {
    pub(super) fn new(
        sessions: Arc<Sessions>,
        live: Arc<Live>,
        judge: Arc<dyn dns::Judge>,
    ) -> Self {
        Self { sessions, live, judge }
    }

    /// Counts bytes that were moved.
    pub(super) fn count(&self, direction: Direction, bytes: usize) -> Flow {
        self.sessions.moved(&self.live, &*self.judge, direction, bytes)
    }

    /// Counts bytes that were moved, and never returns if they were the last.
    pub(super) async fn moved(&self, direction: Direction, bytes: usize) {
        match self.count(direction, bytes) {
            Flow::On => {}
            Flow::Over => pending().await,
        }
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whose bytes it counts is not for logs.
        formatter.debug_struct("Meter").finish_non_exhaustive()
    }
}
