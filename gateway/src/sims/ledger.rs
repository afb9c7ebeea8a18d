//! The ledger: which SIM is behind which addresses, as accounting, the API and the stores tell it.
//!
//! It only computes: time is an argument, and what readers must learn is left in [`Ledger::turns`].
//! Late and doubled messages leave it as the messages in their right order would
//! (see [`Claims`](super::claim::Claims)).

mod owners;

use std::collections::{BTreeMap, HashSet};

use policy::{Apn, SimState};

pub(crate) use owners::{Facts, Turn};

use super::{
    claim::{Claim, Seconds, Session, SimIndex, Standing},
    identity::{Identities, SimId},
    names::Names,
    record::{Kind, Place, Record, Refusal},
    registry::{Full, ORDERED, Registry, Source},
    table::{Slot, Table},
};

/// All bindings and SIMs of one node.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(super) table: Table,
    pub(super) registry: Registry,
    pub(super) domains: Names,
    pub(super) apns: Names,
    apn_texts: Vec<Apn>,
    pub(super) nas: NasTable,
    /// What grants there are, as their own part writes them.
    pub(super) grants: BTreeMap<SimId, Box<[u8]>>,
    /// Counts loads of the mapping file.
    load: u8,
    limit: usize,
    cursor: usize,
    turns: Vec<Turn>,
    dirty: Dirty,
}

/// What differs from the store since it was last taken.
#[derive(Debug, Default)]
pub(crate) struct Dirty {
    pub(crate) places: HashSet<Place>,
    pub(crate) sims: HashSet<SimId>,
    /// NAS that restarted, by their place among the names.
    pub(crate) nas: HashSet<u16>,
    pub(crate) grants: HashSet<SimId>,
}

/// How a SIM's state was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StateChange {
    /// What it was.
    pub(crate) before: Option<SimState>,
    /// What it is.
    pub(crate) after: SimState,
    /// How many addresses are under the new state.
    pub(crate) addresses: usize,
}

/// Bounds of a ledger.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Addresses with at least one claim.
    pub(crate) bindings: usize,
    /// SIMs, bound or not.
    pub(crate) sims: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { bindings: 2_000_000, sims: 4_000_000 }
    }
}

/// The names of NAS, and when each last restarted.
#[derive(Debug)]
pub(super) struct NasTable {
    pub(super) names: Names,
    pub(super) resets: Vec<Seconds>,
}

impl Standing for NasTable {
    fn reset(&self, nas: u16) -> Seconds {
        self.resets.get(usize::from(nas)).copied().unwrap_or_default()
    }
}

impl Ledger {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            table: Table::default(),
            registry: Registry::new(bounds.sims),
            domains: Names::new(DOMAINS_MAX),
            apns: Names::new(APNS_MAX),
            apn_texts: Vec::new(),
            nas: NasTable { names: Names::new(NAS_MAX), resets: Vec::new() },
            grants: BTreeMap::new(),
            load: 0,
            limit: bounds.bindings,
            cursor: 0,
            turns: Vec::new(),
            dirty: Dirty::default(),
        }
    }

    /// Addresses with at least one claim.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// The SIMs.
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The routing domain of this name, made if need be.
    ///
    /// # Errors
    ///
    /// There are too many.
    pub(crate) fn domain(&mut self, name: &str) -> Result<u16, Refusal> {
        self.domains.place(name).ok_or(Refusal::Names)
    }

    /// What readers must learn since this was last asked, in order.
    pub(crate) fn turns(&mut self) -> Vec<Turn> {
        std::mem::take(&mut self.turns)
    }

    /// What the store must learn since this was last asked.
    pub(crate) fn take_dirty(&mut self) -> Dirty {
        std::mem::take(&mut self.dirty)
    }

    /// Takes one message of a session: Start, Interim and Stop all say what is true at their time.
    ///
    /// # Errors
    ///
    /// There is no room; nothing changed.
    pub(crate) fn record(&mut self, record: &Record<'_>, now: Seconds) -> Result<(), Refusal> {
        let nas = self.nas_place(record.nas)?;
        let domain = self.domain(record.domain)?;
        let session = Session { nas, id: record.session };
        let places = record.prefixes.iter().map(|prefix| Place { domain, prefix: *prefix });
        let new = places.clone().filter(|place| self.table.find(*place).is_none()).count();
        if self.table.len() + new > self.limit {
            return Err(Refusal::Bindings { limit: self.limit });
        }
        let sim = match record.kind {
            Kind::Stop => None,
            Kind::Start | Kind::Interim if record.identities.is_empty() => None,
            Kind::Start | Kind::Interim => Some(self.learn(record.identities)?),
        };
        let apn = record.apn.as_ref().and_then(|apn| self.apn_place(apn));
        let mut slots: Vec<Slot> =
            places.filter_map(|place| self.table.find_or_insert(place)).collect();
        // A session that ends loses all it has; one that goes on keeps what it does not name.
        if record.kind == Kind::Stop || slots.is_empty() {
            let held = self.table.of_session(session);
            slots.extend(held.into_iter().filter(|slot| !slots.contains(slot)).collect::<Vec<_>>());
        }
        for slot in slots {
            if let Some(evicted) = self.table.admit(session, slot) {
                self.count_claim(evicted.sim, None);
            }
            self.amend(slot, session, record, sim, apn, now);
            self.dirty.places.extend(self.table.get(slot).map(|address| address.place));
            self.settle(slot, now);
        }
        if let Some(sim) = sim {
            self.registry.forget(sim);
        }
        Ok(())
    }

    /// Takes the news that a NAS restarted or goes away: its sessions of before are no more.
    ///
    /// # Errors
    ///
    /// The NAS is new and there is no room for its name.
    pub(crate) fn reset(&mut self, nas: &str, at: Seconds, now: Seconds) -> Result<(), Refusal> {
        let nas = self.nas_place(nas)?;
        let at = at.min(now);
        match self.nas.resets.get_mut(usize::from(nas)) {
            Some(reset) if *reset < at => *reset = at,
            Some(_) | None => return Ok(()),
        }
        self.dirty.nas.insert(nas);
        let of_nas = self.table.iter().filter(|(_, address)| {
            address.claims.all().iter().any(|claim| claim.session.nas == nas)
        });
        let slots: Vec<Slot> = of_nas.map(|(slot, _)| slot).collect();
        for slot in slots {
            self.settle(slot, now);
        }
        Ok(())
    }

    /// Ends every claim on a place; returns whether somebody had it. Sessions that go on get it
    /// back only by a new Start.
    pub(crate) fn vacate(&mut self, place: Place, now: Seconds) -> bool {
        let Some(slot) = self.table.find(place) else { return false };
        let Some(address) = self.table.get_mut(slot) else { return false };
        for claim in address.claims.all_mut() {
            claim.stopped = claim.stopped.max(now);
            claim.seen = now;
        }
        let held = address.shown.is_some();
        self.dirty.places.insert(place);
        self.settle(slot, now);
        held
    }

    /// Sets the state of the SIM of this name, known before or not.
    ///
    /// # Errors
    ///
    /// It would be one SIM too many.
    pub(crate) fn set_state(
        &mut self,
        id: SimId,
        state: SimState,
        source: Source,
        at_ms: i64,
    ) -> Result<StateChange, Full> {
        let sim = match self.registry.find(id) {
            Some(sim) => sim,
            None => self.registry.learn(id.into())?.sim,
        };
        let before = self.registry.get_mut(sim).and_then(|sim| {
            // A clock that went back must not make an order void.
            sim.changed = at_ms.max(sim.changed.saturating_add(1));
            sim.source = source;
            sim.state.replace(state)
        });
        self.soil(sim);
        let addresses = self.addresses_of(sim).len();
        if before != Some(state) {
            self.show_all(sim);
        }
        Ok(StateChange { before, after: state, addresses })
    }

    /// Takes a state that another node or the store tells; the newest word holds. Returns whether
    /// it was news.
    ///
    /// # Errors
    ///
    /// It would be one SIM too many.
    pub(crate) fn merge_state(
        &mut self,
        identities: Identities,
        state: SimState,
        source: Source,
        at_ms: i64,
    ) -> Result<bool, Refusal> {
        let index = self.learn(identities)?;
        let Some(sim) = self.registry.get_mut(index) else { return Ok(false) };
        if sim.state.is_some() && sim.changed >= at_ms {
            return Ok(false);
        }
        let before = sim.state.replace(state);
        (sim.changed, sim.source) = (at_ms, source);
        if before != Some(state) {
            self.show_all(index);
        }
        Ok(true)
    }

    /// Takes identities as those of one SIM.
    ///
    /// # Errors
    ///
    /// It would be one SIM too many.
    pub(crate) fn learn(&mut self, identities: Identities) -> Result<SimIndex, Refusal> {
        let learned = self.registry.learn(identities)?;
        if let Some(merged) = learned.merged {
            self.repoint(merged, learned.sim);
        }
        if learned.changed {
            for robbed in learned.robbed {
                self.show_all(robbed);
                self.soil(robbed);
            }
            self.show_all(learned.sim);
            self.soil(learned.sim);
        }
        Ok(learned.sim)
    }

    /// Takes identities as those of one SIM by a mapping: the load it belongs to, or [`ORDERED`].
    ///
    /// # Errors
    ///
    /// It would be one SIM too many.
    pub(super) fn map(&mut self, identities: Identities, by: u8) -> Result<(), Refusal> {
        let index = self.learn(identities)?;
        if let Some(sim) = self.registry.get_mut(index).filter(|sim| sim.mapped != ORDERED) {
            sim.mapped = by;
        }
        self.soil(index);
        Ok(())
    }

    /// Takes a whole mapping file in place of the one before: what it does not say any more is
    /// forgotten. The number of SIMs that found no room is returned.
    pub(crate) fn load(&mut self, mapping: &[Identities]) -> usize {
        self.load = if self.load + 1 == ORDERED { 1 } else { self.load + 1 };
        let load = self.load;
        let refused = mapping.iter().filter(|one| self.map(**one, load).is_err()).count();
        let old = |mapped| ![0, load, ORDERED].contains(&mapped);
        let gone: Vec<SimIndex> =
            self.registry.iter().filter(|(_, sim)| old(sim.mapped)).map(|(at, _)| at).collect();
        for index in gone {
            let Some(sim) = self.registry.get_mut(index) else { continue };
            sim.mapped = 0;
            // The network goes on to tell the others.
            let iccid = sim.identities.iccid.filter(|_| sim.identities.imsi.is_some());
            if let Some(iccid) = iccid {
                self.registry.detach(index, SimId::Iccid(iccid));
            }
            self.show_all(index);
            self.soil(index);
            self.registry.forget(index);
        }
        refused
    }

    /// Keeps or drops what the grants' own part wants kept of a SIM.
    ///
    /// # Errors
    ///
    /// There are too many.
    pub(crate) fn keep_grant(&mut self, id: SimId, content: Option<Box<[u8]>>) -> Result<(), Full> {
        match content {
            Some(_) if self.grants.len() >= GRANTS_MAX && !self.grants.contains_key(&id) => {
                return Err(Full { limit: GRANTS_MAX });
            }
            Some(content) => drop(self.grants.insert(id, content)),
            None => drop(self.grants.remove(&id)),
        }
        self.dirty.grants.insert(id);
        Ok(())
    }

    /// Takes a claim that a store knows: it grows to hold both words.
    pub(super) fn merge_claim(
        &mut self,
        place: Place,
        stored: Claim,
        now: Seconds,
    ) -> Result<(), Refusal> {
        if self.table.find(place).is_none() && self.table.len() >= self.limit {
            return Err(Refusal::Bindings { limit: self.limit });
        }
        let Some(slot) = self.table.find_or_insert(place) else { return Ok(()) };
        if let Some(evicted) = self.table.admit(stored.session, slot) {
            self.count_claim(evicted.sim, None);
        }
        let address = self.table.get_mut(slot);
        let claim = address.and_then(|address| address.claims.get_mut(stored.session));
        if let Some(claim) = claim {
            let before = claim.sim;
            claim.merge(&stored);
            let after = claim.sim;
            self.count_claim(before, after);
        }
        self.settle(slot, now);
        Ok(())
    }

    /// Adds to what the store must learn.
    pub(super) fn soil_with(&mut self, dirty: Dirty) {
        let Dirty { places, sims, nas, grants } = dirty;
        self.dirty.places.extend(places);
        self.dirty.sims.extend(sims);
        self.dirty.nas.extend(nas);
        self.dirty.grants.extend(grants);
    }

    /// Looks at the next `count` addresses: lapsed bindings go, ended claims are forgotten.
    pub(crate) fn age(&mut self, count: usize, now: Seconds) {
        for _ in 0..count {
            let Some((slot, next)) = self.table.next(self.cursor) else {
                self.cursor = 0;
                return;
            };
            self.cursor = next;
            self.settle(slot, now);
            while let Some(address) = self.table.get_mut(slot)
                && let Some(claim) = address.claims.forget(&self.nas, now)
            {
                let (place, empty) = (address.place, address.claims.all().is_empty());
                self.dirty.places.insert(place);
                self.table.unindex(claim.session, slot);
                self.count_claim(claim.sim, None);
                if empty {
                    self.table.remove(slot);
                }
            }
        }
    }

    /// Writes a message into the claim of its session.
    fn amend(
        &mut self,
        slot: Slot,
        session: Session,
        record: &Record<'_>,
        sim: Option<SimIndex>,
        apn: Option<u16>,
        now: Seconds,
    ) {
        let address = self.table.get_mut(slot);
        let Some(claim) = address.and_then(|address| address.claims.get_mut(session)) else {
            return;
        };
        // A time to come would outrank everything until then.
        let at = record.at.min(now).max(Seconds(1));
        claim.seen = claim.seen.max(now);
        match record.kind {
            Kind::Stop => {
                claim.stopped = claim.stopped.max(at);
                return;
            }
            Kind::Start => claim.started = claim.started.max(at),
            Kind::Interim => {}
        }
        let newer = claim.asserted <= at;
        if claim.first == Seconds(0) || claim.first > at {
            claim.first = at;
        }
        claim.asserted = claim.asserted.max(at);
        claim.lifetime = record.lifetime;
        claim.apn = apn.filter(|_| newer).or(claim.apn);
        if let Some(sim) = sim.filter(|_| newer || claim.sim.is_none()) {
            let before = claim.sim.replace(sim);
            self.count_claim(before, Some(sim));
        }
    }

    /// Notes that the store must learn about a SIM.
    fn soil(&mut self, sim: SimIndex) {
        let Some(sim) = self.registry.get(sim) else { return };
        if sim.is_stored() {
            // Under every name it may have been stored by.
            self.dirty.sims.extend(sim.identities.all());
        }
    }

    fn count_claim(&mut self, before: Option<SimIndex>, after: Option<SimIndex>) {
        if before == after {
            return;
        }
        if let Some(sim) = after.and_then(|sim| self.registry.get_mut(sim)) {
            sim.claims += 1;
        }
        if let Some(index) = before {
            if let Some(sim) = self.registry.get_mut(index) {
                sim.claims = sim.claims.saturating_sub(1);
            }
            self.registry.forget(index);
        }
    }

    /// Lets every claim of one SIM speak of another: the two were one all along.
    fn repoint(&mut self, from: SimIndex, into: SimIndex) {
        let slots: Vec<Slot> = self.table.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            let Some(address) = self.table.get_mut(slot) else { continue };
            for claim in address.claims.all_mut().iter_mut().filter(|c| c.sim == Some(from)) {
                claim.sim = Some(into);
            }
            let Some(shown) = address.shown.as_mut().filter(|shown| shown.sim == Some(from)) else {
                continue;
            };
            shown.sim = Some(into);
            self.link(into, slot);
        }
    }

    pub(super) fn nas_place(&mut self, name: &str) -> Result<u16, Refusal> {
        let place = self.nas.names.place(name).ok_or(Refusal::Names)?;
        if self.nas.resets.len() <= usize::from(place) {
            self.nas.resets.resize(usize::from(place) + 1, Seconds(0));
        }
        Ok(place)
    }

    /// Names beyond the bound are not known: no class that asks for them holds.
    pub(super) fn apn_place(&mut self, apn: &Apn) -> Option<u16> {
        let place = self.apns.place(apn.as_str())?;
        if self.apn_texts.len() <= usize::from(place) {
            self.apn_texts.push(apn.clone());
        }
        Some(place)
    }
}

/// Grants that are kept at a time.
const GRANTS_MAX: usize = 100_000;
/// Routing domains of one node.
const DOMAINS_MAX: u16 = 256;
/// Access point names of one node.
const APNS_MAX: u16 = 4096;
/// NAS, each behind whatever forwards for it.
const NAS_MAX: u16 = 4096;

#[cfg(test)]
mod tests;

#[cfg(test)]
mod model;
