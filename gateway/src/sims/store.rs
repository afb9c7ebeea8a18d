//! Where the table is kept beyond the process: one trait-less choice of two engines.
//!
//! A store is an aid, never asked for a decision. What it loses is told again by accounting.

pub(crate) mod embedded;
pub(crate) mod redis;

use self::{embedded::Embedded, redis::Redis};
use super::rows::Batch;

/// The engine in use.
#[derive(Debug)]
pub(super) enum Store {
    /// A file on this node.
    Embedded(Embedded),
    /// A server of the Redis protocol, shared by several nodes.
    Redis(Redis),
}

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The file of the embedded store.
    #[error(transparent)]
    Embedded(#[from] embedded::EmbeddedError),
    /// The server, or the way to it.
    #[error(transparent)]
    Redis(#[from] redis::RedisError),
}

impl Store {
    /// Seconds that our clock is ahead of the store's, where the store has one.
    pub(super) fn skew(&self) -> f64 {
        match self {
            Self::Embedded(_) => 0.0,
            Self::Redis(store) => store.skew(),
        }
    }

    /// Writes a batch, whole.
    ///
    /// # Errors
    ///
    /// Nothing of it may be counted on; it can be written again.
    pub(super) async fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        match self {
            Self::Embedded(store) => Ok(store.commit(batch).await?),
            Self::Redis(store) => Ok(store.commit(batch).await?),
        }
    }
}
