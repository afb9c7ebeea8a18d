//! A hash table in many parts, each of which grows by itself: whoever waits for the ledger never
//! waits for a million entries to be moved.

use hashbrown::HashTable;

/// Entries found by a hash that the caller makes.
#[derive(Debug)]
pub(super) struct Split<T> {
    parts: Box<[HashTable<T>]>,
}

impl<T> Split<T> {
    pub(super) fn find(&self, hash: u64, is_it: impl FnMut(&T) -> bool) -> Option<&T> {
        self.parts.get(part_of(hash))?.find(hash, is_it)
    }

    /// Every entry that may have been put in with `hash`.
    pub(super) fn each(&self, hash: u64) -> impl Iterator<Item = &T> {
        self.parts.get(part_of(hash)).into_iter().flat_map(move |part| part.iter_hash(hash))
    }

    /// Puts an entry in that is not there yet; `rehash` makes the hash of one that is.
    pub(super) fn insert(&mut self, hash: u64, entry: T, rehash: impl Fn(&T) -> u64) {
        if let Some(part) = self.parts.get_mut(part_of(hash)) {
            part.insert_unique(hash, entry, rehash);
        }
    }

    pub(super) fn remove(&mut self, hash: u64, is_it: impl FnMut(&T) -> bool) {
        let Some(part) = self.parts.get_mut(part_of(hash)) else { return };
        if let Ok(entry) = part.find_entry(hash, is_it) {
            entry.remove();
        }
    }
}

impl<T> Default for Split<T> {
    fn default() -> Self {
        Self { parts: std::iter::repeat_with(HashTable::new).take(PARTS).collect() }
    }
}

/// Which of [`PARTS`] an entry is in. Within a part, tables go by the other end of the hash.
pub(super) fn part_of(hash: u64) -> usize {
    usize::try_from(hash >> 32).unwrap_or_default() % PARTS
}

/// Of a million entries, each part has 12,500: a table of that size grows within a millisecond, and
/// is full to seven eighths, as full as it may be, shortly after.
pub(super) const PARTS: usize = 80;
