//! The addresses that anybody claims, found by place and by session.

use std::{hash::BuildHasher, num::NonZeroU32};

use foldhash::fast::RandomState;
use slab::Slab;

use super::{
    claim::{Claim, Claims, Session, SimIndex},
    record::Place,
    split::Split,
};

/// Where an address stands in the table, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot(NonZeroU32);

/// One address that somebody claims.
#[derive(Debug)]
pub(super) struct Address {
    pub(super) place: Place,
    pub(super) claims: Claims,
    /// What readers were told last.
    pub(super) shown: Option<Shown>,
    /// The next address of the same SIM.
    pub(super) next: Option<Slot>,
}

/// What readers were told of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) sim: Option<SimIndex>,
    pub(super) apn: Option<u16>,
}

/// All addresses with a claim.
#[derive(Debug, Default)]
pub(super) struct Table {
    addresses: Slab<Address>,
    by_place: Split<Slot>,
    by_session: Split<Entry>,
    hasher: RandomState,
}

/// One claim in the index: the hash is kept, because an address can have claims of many sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    hash: u32,
    slot: Slot,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.addresses.len()
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&Address> {
        self.addresses.get(slot.index())
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut Address> {
        self.addresses.get_mut(slot.index())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, &Address)> {
        self.addresses.iter().filter_map(|(at, address)| Some((Slot::new(at)?, address)))
    }

    /// The first slot at or behind the `at`th that is taken, and where to go on.
    pub(super) fn next(&self, at: usize) -> Option<(Slot, usize)> {
        let taken = (at..self.addresses.capacity()).find(|at| self.addresses.contains(*at))?;
        Some((Slot::new(taken)?, taken + 1))
    }

    pub(super) fn find(&self, place: Place) -> Option<Slot> {
        let same = |slot: &Slot| self.get(*slot).is_some_and(|address| address.place == place);
        self.by_place.find(self.hasher.hash_one(place), same).copied()
    }

    pub(super) fn find_or_insert(&mut self, place: Place) -> Option<Slot> {
        if let Some(slot) = self.find(place) {
            return Some(slot);
        }
        let address = Address { place, claims: Claims::default(), shown: None, next: None };
        let slot = Slot::new(self.addresses.insert(address))?;
        let Self { addresses, by_place, hasher, .. } = self;
        let rehash = |slot: &Slot| {
            let place = addresses.get(slot.index()).map(|address| address.place);
            place.map(|place| hasher.hash_one(place)).unwrap_or_default()
        };
        by_place.insert(hasher.hash_one(place), slot, rehash);
        Some(slot)
    }

    /// The addresses that a session claims.
    pub(super) fn of_session(&self, session: Session) -> Vec<Slot> {
        let (hash, place) = self.session_hash(session);
        let claims = |slot: Slot| {
            self.get(slot).is_some_and(|address| address.claims.get(session).is_some())
        };
        let same = self.by_session.each(place).filter(|entry| entry.hash == hash);
        same.map(|entry| entry.slot).filter(|slot| claims(*slot)).collect()
    }

    /// Makes the session's claim on an address if there is none; returns one that made room.
    pub(super) fn admit(&mut self, session: Session, slot: Slot) -> Option<Claim> {
        let claims = &mut self.get_mut(slot)?.claims;
        if claims.get(session).is_some() {
            return None;
        }
        let evicted = claims.admit(session);
        if let Some(evicted) = &evicted {
            self.unindex(evicted.session, slot);
        }
        let (hash, place) = self.session_hash(session);
        let Self { by_session, hasher, .. } = self;
        by_session.insert(place, Entry { hash, slot }, |entry| hasher.hash_one(entry.hash));
        evicted
    }

    /// Takes a forgotten claim out of the index.
    pub(super) fn unindex(&mut self, session: Session, slot: Slot) {
        let (hash, place) = self.session_hash(session);
        let entry = Entry { hash, slot };
        self.by_session.remove(place, |known| *known == entry);
    }

    /// Takes out an address that nobody claims.
    pub(super) fn remove(&mut self, slot: Slot) {
        let Some(address) = self.addresses.try_remove(slot.index()) else { return };
        let hash = self.hasher.hash_one(address.place);
        self.by_place.remove(hash, |known| *known == slot);
    }

    fn session_hash(&self, session: Session) -> (u32, u64) {
        let [upper @ .., _, _, _, _] = self.hasher.hash_one(session).to_be_bytes();
        let hash = u32::from_be_bytes(upper);
        (hash, self.hasher.hash_one(hash))
    }
}

impl Slot {
    fn new(at: usize) -> Option<Self> {
        u32::try_from(at).ok().and_then(|at| NonZeroU32::MIN.checked_add(at)).map(Self)
    }

    fn index(self) -> usize {
        usize::try_from(self.0.get() - 1).unwrap_or(usize::MAX)
    }
}
