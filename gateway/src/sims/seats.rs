//! Who is behind an address, for the packet path: a short look into one of many small tables.
//!
//! One writer at a time (whoever holds the ledger), any number of readers. A reader waits for at
//! most one write of one entry, copies what a decision needs, and allocates nothing.

use std::{
    hash::BuildHasher,
    net::IpAddr,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use ipnet::IpNet;
use policy::{Apn, Iccid, Imsi, SimState, Subscriber};

use super::{
    blocks::Blocks,
    ledger::Facts,
    prefix::Prefix,
    record::Place,
    split::{PARTS, part_of},
};

/// Every binding that holds.
#[derive(Debug)]
pub(super) struct Seats {
    shards: Vec<RwLock<Shard>>,
    hasher: RandomState,
    /// Lengths of delegated prefixes that are bound, one bit each.
    lengths: AtomicU64,
    /// How many are of each length.
    of_length: [AtomicI64; 64],
    totals: [AtomicI64; TOTALS],
}

#[derive(Debug, Default)]
struct Shard {
    seats: Blocks<Seat>,
    by_place: HashTable<u32>,
    /// Names of access points, few; seats say which.
    apns: Vec<Apn>,
}

#[derive(Debug)]
struct Seat {
    place: Place,
    apn: Option<u8>,
    state: Option<SimState>,
    iccid: Option<Iccid>,
    imsi: Option<Imsi>,
}

impl Seats {
    pub(super) fn new() -> Self {
        Self {
            shards: (0..PARTS).map(|_| RwLock::default()).collect(),
            hasher: RandomState::default(),
            lengths: AtomicU64::new(0),
            of_length: std::array::from_fn(|_| AtomicI64::new(0)),
            totals: std::array::from_fn(|_| AtomicI64::new(0)),
        }
    }

    /// Who is behind `address` in a routing domain, as far as bindings tell: the longest prefix.
    pub(super) fn subscriber(&self, domain: u16, address: IpAddr) -> Subscriber {
        let subscriber = Subscriber::at(address);
        let own = Prefix::of(address);
        if let Some(known) = self.look(Place { domain, prefix: own }, &subscriber) {
            return known;
        }
        let mut lengths = if own.is_ipv4() { 0 } else { self.lengths.load(Ordering::Acquire) };
        while let Some(length) = lengths.checked_ilog2() {
            lengths &= !(1 << length);
            let prefix = own.widened(u8::try_from(length).unwrap_or_default());
            if let Some(known) = self.look(Place { domain, prefix }, &subscriber) {
                return known;
            }
        }
        subscriber
    }

    /// Who is behind exactly this place.
    pub(super) fn at(&self, place: Place) -> Option<Subscriber> {
        self.look(place, &Subscriber::at(place.prefix.network().addr()))
    }

    /// Puts somebody behind a place, or nobody.
    pub(super) fn set(&self, place: Place, facts: Option<&Facts>) {
        let hash = self.hasher.hash_one(place);
        let Some(shard) = self.shards.get(part_of(hash)) else { return };
        let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
        let before = shard.take(place, hash);
        self.count(before.as_ref(), -1);
        if let Some(facts) = facts {
            let seat = Seat {
                place,
                apn: facts.apn.as_ref().and_then(|apn| shard.apn(apn)),
                state: facts.state,
                iccid: facts.iccid,
                imsi: facts.imsi,
            };
            self.count(Some(&seat), 1);
            shard.put(seat, hash, &self.hasher);
        }
    }

    /// Calls `visit` with every binding of a domain, a shard at a time: writers are not kept out,
    /// so what changes meanwhile may be seen as it was or as it is.
    pub(super) fn each(&self, domain: u16, mut visit: impl FnMut(IpNet, Subscriber)) {
        for shard in &self.shards {
            let found: Vec<(IpNet, Subscriber)> = {
                let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
                let seats = shard.seats.iter().filter(|seat| seat.place.domain == domain);
                let subscriber = |seat: &Seat| {
                    let network = seat.place.prefix.network();
                    (network, shard.describe(seat, Subscriber::at(network.addr())))
                };
                seats.map(subscriber).collect()
            };
            for (network, subscriber) in found {
                visit(network, subscriber);
            }
        }
    }

    /// Bindings by the state of their SIM.
    pub(super) fn totals(&self) -> [(&'static str, i64); TOTALS] {
        std::array::from_fn(|at| {
            let state = SimState::ALL.get(at).map_or("unknown", |state| state.label());
            (state, self.totals.get(at).map_or(0, |total| total.load(Ordering::Relaxed)))
        })
    }

    fn look(&self, place: Place, subscriber: &Subscriber) -> Option<Subscriber> {
        let hash = self.hasher.hash_one(place);
        let shard = self.shards.get(part_of(hash))?;
        let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
        let seat = shard.find(place, hash)?;
        Some(shard.describe(seat, subscriber.clone()))
    }

    fn count(&self, seat: Option<&Seat>, change: i64) {
        let Some(seat) = seat else { return };
        let state = seat.state.and_then(|state| SimState::ALL.iter().position(|s| *s == state));
        if let Some(total) = self.totals.get(state.unwrap_or(TOTALS - 1)) {
            total.fetch_add(change, Ordering::Relaxed);
        }
        let length = seat.place.prefix.length();
        // IPv4 addresses and /64s are always looked for first, by themselves.
        if seat.place.prefix.is_ipv4() || length >= 64 {
            return;
        }
        let Some(count) = self.of_length.get(usize::from(length)) else { return };
        // Writers take turns: no other one moves the bit between.
        if count.fetch_add(change, Ordering::Relaxed) + change > 0 {
            self.lengths.fetch_or(1 << length, Ordering::Release);
        } else {
            self.lengths.fetch_and(!(1 << length), Ordering::Release);
        }
    }
}

impl Shard {
    fn find(&self, place: Place, hash: u64) -> Option<&Seat> {
        let same = |at: &u32| self.seat(*at).is_some_and(|seat| seat.place == place);
        self.by_place.find(hash, same).and_then(|at| self.seat(*at))
    }

    fn take(&mut self, place: Place, hash: u64) -> Option<Seat> {
        let Self { seats, by_place, .. } = self;
        let same = |at: &u32| seats.get(*at).is_some_and(|seat| seat.place == place);
        let entry = by_place.find_entry(hash, same).ok()?;
        let (at, _) = entry.remove();
        seats.remove(at)
    }

    fn put(&mut self, seat: Seat, hash: u64, hasher: &RandomState) {
        let Self { seats, by_place, .. } = self;
        // A ledger bounds its bindings far below the count of numbers.
        let Some(at) = seats.insert(seat) else { return };
        let rehash =
            |at: &u32| seats.get(*at).map(|seat| hasher.hash_one(seat.place)).unwrap_or_default();
        by_place.insert_unique(hash, at, rehash);
    }

    fn seat(&self, at: u32) -> Option<&Seat> {
        self.seats.get(at)
    }

    /// The place of a name among this shard's. One too many is not known: no class holds by it.
    fn apn(&mut self, apn: &Apn) -> Option<u8> {
        let known = self.apns.iter().position(|known| known == apn);
        let at = known.unwrap_or(self.apns.len());
        let place = u8::try_from(at).ok()?;
        if known.is_none() {
            // A text of the shard's own: cores that read different shards share no count.
            self.apns.push(Apn::new(apn.as_str()));
        }
        Some(place)
    }

    fn describe(&self, seat: &Seat, subscriber: Subscriber) -> Subscriber {
        let subscriber = match seat.iccid {
            Some(iccid) => subscriber.with_iccid(iccid),
            None => subscriber,
        };
        let subscriber = match seat.imsi {
            Some(imsi) => subscriber.with_imsi(imsi),
            None => subscriber,
        };
        let subscriber = match seat.state {
            Some(state) => subscriber.with_state(state),
            None => subscriber,
        };
        match seat.apn.and_then(|at| self.apns.get(usize::from(at))) {
            Some(apn) => subscriber.with_apn(apn.clone()),
            None => subscriber,
        }
    }
}

fn shard_of(hash: u64) -> usize {
    // The table within the shard uses the other end of the hash.
    usize::try_from((hash >> 32) % SHARDS).unwrap_or_default()
}

/// Enough that a table of a million grows in steps of a millisecond.
const SHARDS: u64 = 96;
/// The states, and none.
const TOTALS: usize = SimState::ALL.len() + 1;

#[cfg(test)]
mod tests;
