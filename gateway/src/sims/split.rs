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

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        hash::{BuildHasher, RandomState},
    };

    use proptest::{collection::vec, prelude::*};

    use super::{PARTS, Split, part_of};

    proptest! {
        /// The same as a plain set, whatever is put in and taken out.
        #[test]
        fn holds_what_was_put_in_and_not_taken_out(
            steps in vec((any::<bool>(), 0..300_u64, 0..4_u8), 0..2_000),
            narrow in 1..400_u64,
        ) {
            // Hashes that many keys share, in all parts and in few.
            let seeds = RandomState::new();
            let hash = |key: u64| seeds.hash_one(key % narrow);
            let (mut split, mut plain) = (Split::default(), BTreeSet::new());
            for (is_put_in, key, value) in steps {
                let entry = (key, value);
                let is_it = |held: &(u64, u8)| *held == entry;
                prop_assert_eq!(
                    split.find(hash(key), is_it).is_some(),
                    plain.contains(&entry)
                );
                if is_put_in && !plain.contains(&entry) {
                    split.insert(hash(key), entry, |(key, _)| hash(*key));
                    plain.insert(entry);
                } else if !is_put_in {
                    split.remove(hash(key), is_it);
                    plain.remove(&entry);
                }
            }
            for key in 0..300 {
                let mut held: Vec<_> =
                    split.each(hash(key)).filter(|(held, _)| *held == key).copied().collect();
                held.sort_unstable();
                let wanted: Vec<_> =
                    plain.iter().filter(|(held, _)| *held == key).copied().collect();
                prop_assert_eq!(held, wanted);
            }
        }
    }

    #[test]
    fn every_part_has_its_share() {
        let seeds = RandomState::new();
        let mut shares = [0_u32; PARTS];
        for key in 0..100_000_u32 {
            shares[part_of(seeds.hash_one(key))] += 1;
        }
        // 1,250 each, give or take ten standard deviations.
        assert!(shares.iter().all(|share| (900..1_600).contains(share)), "{shares:?}");
    }
}
