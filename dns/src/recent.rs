//! A bounded store of what was used of late.

use std::{borrow::Borrow, collections::HashMap, hash::Hash};

/// Holds so many values, the least used forgotten first.
///
/// Two halves: what is put or got is moved into the young one; once that is full, the old one is
/// forgotten whole and the young one takes its place. The hash is seeded, because the keys are
/// chosen by subscribers.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    half: usize,
}

impl<K: Eq + Hash, V> Recent<K, V> {
    /// A store of `bound` values.
    pub(crate) fn new(bound: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), half: bound / 2 }
    }

    /// The value of `key`.
    pub(crate) fn get<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        if !self.young.contains_key(key) {
            let (key, value) = self.old.remove_entry(key)?;
            self.put(key, value);
        }
        self.young.get_mut(key)
    }

    /// Keeps `value`.
    pub(crate) fn put(&mut self, key: K, value: V) {
        self.old.remove(&key);
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            // Both keep their room, which would be had anew each time.
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert(key, value);
    }

    /// Forgets the value of `key`.
    pub(crate) fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        self.young.remove(key);
        self.old.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::Recent;

    #[test]
    fn never_holds_more_than_its_bound_and_keeps_what_is_used() {
        let mut recent = Recent::new(8);
        recent.put(0, 0);
        for number in 1..1_000 {
            recent.put(number, number);
            assert_eq!(recent.get(&0), Some(&mut 0), "after {number}");
            assert!(recent.young.len() + recent.old.len() <= 8, "after {number}");
        }
        assert_eq!(recent.get(&1), None);
        recent.remove(&0);
        assert_eq!(recent.get(&0), None);
    }
}
