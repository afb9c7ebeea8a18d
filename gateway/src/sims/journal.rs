//! How far the store has come: who changed the table can wait until the change is kept.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::{Notify, watch};

/// Counts changes, and how many of them are stored.
#[derive(Debug)]
pub(super) struct Journal {
    /// Changes so far.
    made: AtomicU64,
    /// Whether there is a store at all.
    kept: AtomicBool,
    /// Whether everything was given to another process, which may not serve yet.
    held: watch::Sender<bool>,
    work: Notify,
    stored: watch::Sender<u64>,
}

impl Journal {
    pub(super) fn new() -> Self {
        Self {
            made: AtomicU64::new(0),
            kept: AtomicBool::new(false),
            held: watch::Sender::new(false),
            work: Notify::new(),
            stored: watch::Sender::new(0),
        }
    }

    /// From here on changes count as stored only when a store says so.
    pub(super) fn keep(&self) {
        self.kept.store(true, Ordering::Release);
    }

    /// Everything is given away as it is: what changes from here on counts as stored only once it
    /// was taken back and kept, if ever.
    pub(super) fn hold(&self) {
        self.held.send_replace(true);
        self.keep();
    }

    /// It was taken back. Without a store of its own, nothing has to be kept.
    pub(super) fn release(&self, has_store: bool) {
        self.held.send_replace(false);
        self.kept.store(has_store, Ordering::Release);
        if !has_store {
            self.done(self.mark());
        }
        self.nudge();
    }

    /// Waits while everything is given away. Safe to drop while it waits.
    pub(super) async fn released(&self) {
        // The sender lives as long as this does.
        let _ = self.held.subscribe().wait_for(|held| !held).await;
    }

    pub(super) fn is_kept(&self) -> bool {
        self.kept.load(Ordering::Acquire)
    }

    /// Notes a change. The caller holds the ledger.
    pub(super) fn note(&self) {
        self.made.fetch_add(1, Ordering::AcqRel);
        self.work.notify_one();
    }

    /// Wakes who stores, although nothing changed.
    pub(super) fn nudge(&self) {
        self.work.notify_one();
    }

    /// Everything changed so far.
    pub(super) fn mark(&self) -> u64 {
        self.made.load(Ordering::Acquire)
    }

    /// Waits for something to store. Safe to drop while it waits.
    pub(super) async fn work(&self) {
        self.work.notified().await;
    }

    /// Says that all up to `mark` is stored.
    pub(super) fn done(&self, mark: u64) {
        self.stored.send_if_modified(|stored| {
            let later = *stored < mark;
            *stored = mark.max(*stored);
            later
        });
    }

    /// Waits until all up to `mark` is stored; at once where there is no store.
    pub(super) async fn stored(&self, mark: u64) {
        if !self.is_kept() {
            return;
        }
        // The sender lives as long as this does.
        let _ = self.stored.subscribe().wait_for(|stored| *stored >= mark).await;
    }
}
