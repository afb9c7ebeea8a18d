//! How often a second upstream may be asked although the first has not failed.

use std::sync::atomic::{AtomicU32, Ordering};

/// An allowance of one hedge in [`SHARE`] questions: a slow upstream must not double the load of
/// the next.
#[derive(Debug)]
pub(super) struct Hedges {
    /// In parts of [`SHARE`] to the hedge.
    saved: AtomicU32,
}

impl Hedges {
    pub(super) fn new() -> Self {
        Self { saved: AtomicU32::new(MOST) }
    }

    /// Saves a question's share.
    pub(super) fn earn(&self) {
        let saved = |saved: u32| Some((saved + 1).min(MOST));
        // It always succeeds: there is always something to store.
        let _ = self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, saved);
    }

    /// Takes one hedge, if there is one.
    pub(super) fn spend(&self) -> bool {
        let spent = |saved: u32| saved.checked_sub(SHARE);
        self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spent).is_ok()
    }
}

/// Questions that pay for one hedge.
pub(super) const SHARE: u32 = 20;
/// What can be saved: five hedges, for the first questions after a quiet time.
const MOST: u32 = 5 * SHARE;

#[cfg(test)]
mod tests {
    use super::{Hedges, MOST, SHARE};

    #[test]
    fn gives_one_hedge_in_twenty_questions() {
        let hedges = Hedges::new();
        let count = (0..10_000).filter(|_| {
            hedges.earn();
            hedges.spend()
        });
        let most = (10_000 + MOST) / SHARE;
        assert!((most - 1..=most).contains(&u32::try_from(count.count()).unwrap()));
        for _ in 0..10_000 {
            hedges.earn();
        }
        assert_eq!((0..100).filter(|_| hedges.spend()).count(), (MOST / SHARE) as usize);
    }
}
