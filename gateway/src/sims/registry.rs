//! Every SIM that is known: its identities, its state, and which of its identities belong together.
//!
//! RADIUS speaks of IMSI and MSISDN, Microsoft and the operator's shop of ICCID: the mapping between
//! them comes from a file or the admin API, and is kept here.

use std::{hash::BuildHasher, num::NonZeroU32};

use foldhash::fast::RandomState;
use policy::SimState;
use slab::Slab;

use super::{
    claim::SimIndex,
    identity::{Identities, SimId},
    split::Split,
    table::Slot,
};

/// Where a fact came from; also the metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// A lifetime ran out.
    Ageing,
    /// The admin API.
    Api,
    /// A change of authorisation by RADIUS (RFC 5176).
    Coa,
    /// A grant began or ended.
    Grant,
    /// The mapping of identities.
    Mapping,
    /// RADIUS accounting.
    Radius,
    /// Another node, by way of the shared store; or this one before it restarted.
    Store,
    /// A signed message of the operator's systems.
    Webhook,
}

/// One SIM.
#[derive(Clone, Debug)]
pub(crate) struct Sim {
    /// What names it.
    pub(crate) identities: Identities,
    /// Whether it has a plan, where anybody said so.
    pub(crate) state: Option<SimState>,
    /// Who said so last.
    pub(crate) source: Source,
    /// When the state changed, in milliseconds since 1970; the newest word holds.
    pub(crate) changed: i64,
    /// The mapping that names it, by a count of loads, or [`ORDERED`]; 0: none.
    pub(super) mapped: u8,
    /// How many claims speak of it.
    pub(super) claims: u32,
    /// The first address it owns; the rest hang on it.
    pub(super) first: Option<Slot>,
}

/// All SIMs, by each of their identities.
#[derive(Debug)]
pub(crate) struct Registry {
    sims: Slab<Sim>,
    by: [Split<SimIndex>; 3],
    hasher: RandomState,
    limit: usize,
}

/// What became of identities that were said to belong together.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Learned {
    /// The SIM they name.
    pub(crate) sim: SimIndex,
    /// A SIM with claims that turned out to be the same one, and is no more: what spoke of it
    /// speaks of `sim`.
    pub(crate) merged: Option<SimIndex>,
    /// SIMs that lost an identity to `sim`.
    pub(crate) robbed: Vec<SimIndex>,
    /// Whether anything became known.
    pub(crate) changed: bool,
}

/// There is no room for another SIM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all {limit} places for SIMs are taken")]
pub(crate) struct Full {
    /// How many there may be.
    pub(crate) limit: usize,
}

impl Registry {
    pub(crate) fn new(limit: usize) -> Self {
        Self { sims: Slab::new(), by: Default::default(), hasher: RandomState::default(), limit }
    }

    /// How many SIMs are known.
    pub(crate) fn len(&self) -> usize {
        self.sims.len()
    }

    /// The SIM of this name.
    pub(crate) fn find(&self, id: SimId) -> Option<SimIndex> {
        let hash = self.hasher.hash_one(id);
        let table = self.by.get(kind(id))?;
        table.find(hash, |index| self.get(*index).is_some_and(|sim| sim.has(id))).copied()
    }

    pub(crate) fn get(&self, index: SimIndex) -> Option<&Sim> {
        self.sims.get(slot(index))
    }

    pub(super) fn get_mut(&mut self, index: SimIndex) -> Option<&mut Sim> {
        self.sims.get_mut(slot(index))
    }

    /// Every SIM.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (SimIndex, &Sim)> {
        self.sims.iter().filter_map(|(slot, sim)| Some((index(slot)?, sim)))
    }

    /// Takes `identities` as those of one SIM, and finds or makes it. The newest word holds: an
    /// identity that another SIM had is taken from it, its state is not.
    ///
    /// # Errors
    ///
    /// It would be one SIM too many; nothing changed.
    pub(crate) fn learn(&mut self, identities: Identities) -> Result<Learned, Full> {
        let sim = match self.named(identities) {
            Some(sim) => sim,
            None if self.sims.len() >= self.limit => return Err(Full { limit: self.limit }),
            None => self.insert().ok_or(Full { limit: self.limit })?,
        };
        let mut learned = Learned { sim, merged: None, robbed: Vec::new(), changed: false };
        let ours = self.get(sim).map(|sim| sim.identities).unwrap_or_default();
        if identities.or(ours) == ours {
            return Ok(learned);
        }
        learned.changed = true;
        let mut merged = false;
        for id in identities.all() {
            let Some(other) = self.find(id).filter(|other| *other != sim) else { continue };
            let theirs = self.get(other).map(|other| other.identities).unwrap_or_default();
            // One record that knew the shop's names of a SIM, another that knew the network's.
            if !merged && theirs.agrees(identities.or(ours)) {
                learned.merged = self.merge(other, sim).then_some(other);
                merged = true;
            } else {
                self.detach(other, id);
                learned.robbed.push(other);
            }
        }
        let known = self.get(sim).map(|sim| sim.identities).unwrap_or_default();
        let wanted = identities.or(known);
        for id in known.all().filter(|id| !wanted.all().any(|wanted| wanted == *id)) {
            self.detach(sim, id);
        }
        for id in wanted.all() {
            self.attach(sim, id);
        }
        Ok(learned)
    }

    /// Takes an identity from a SIM.
    pub(crate) fn detach(&mut self, sim: SimIndex, id: SimId) {
        let hash = self.hasher.hash_one(id);
        let Some(entry) = self.sims.get_mut(slot(sim)).filter(|entry| entry.has(id)) else {
            return;
        };
        match id {
            SimId::Iccid(_) => entry.identities.iccid = None,
            SimId::Imsi(_) => entry.identities.imsi = None,
            SimId::Msisdn(_) => entry.identities.msisdn = None,
        }
        if let Some(table) = self.by.get_mut(kind(id)) {
            table.remove(hash, |known| *known == sim);
        }
    }

    /// Forgets a SIM of which nothing is left to know.
    pub(crate) fn forget(&mut self, sim: SimIndex) -> Option<Sim> {
        let entry = self.get(sim)?;
        if entry.claims > 0 || entry.state.is_some() || entry.mapped != 0 || entry.first.is_some() {
            return None;
        }
        self.remove(sim)
    }

    /// The SIM that has the longest-lasting of these identities, or another of them and none that
    /// differs.
    fn named(&self, identities: Identities) -> Option<SimIndex> {
        let fits =
            |sim: &SimIndex| self.get(*sim).is_some_and(|sim| sim.identities.agrees(identities));
        identities
            .primary()
            .and_then(|id| self.find(id))
            .or_else(|| identities.all().filter_map(|id| self.find(id)).find(fits))
    }

    fn insert(&mut self) -> Option<SimIndex> {
        index(self.sims.insert(Sim {
            identities: Identities::default(),
            state: None,
            source: Source::Radius,
            changed: 0,
            mapped: 0,
            claims: 0,
            first: None,
        }))
    }

    fn attach(&mut self, sim: SimIndex, id: SimId) {
        let Self { sims, by, hasher, .. } = self;
        let Some(entry) = sims.get_mut(slot(sim)).filter(|entry| !entry.has(id)) else { return };
        match id {
            SimId::Iccid(iccid) => entry.identities.iccid = Some(iccid),
            SimId::Imsi(imsi) => entry.identities.imsi = Some(imsi),
            SimId::Msisdn(msisdn) => entry.identities.msisdn = Some(msisdn),
        }
        let place = kind(id);
        let rehash = |known: &SimIndex| {
            let identities = sims.get(slot(*known)).map(|sim| sim.identities);
            let id = identities.unwrap_or_default().all().find(|id| kind(*id) == place);
            id.map(|id| hasher.hash_one(id)).unwrap_or_default()
        };
        if let Some(table) = by.get_mut(place) {
            table.insert(hasher.hash_one(id), sim, rehash);
        }
    }

    /// Moves everything but the addresses from one SIM to another, and forgets the first; returns
    /// whether claims speak of it.
    fn merge(&mut self, from: SimIndex, into: SimIndex) -> bool {
        let Some(from) = self.remove(from) else { return false };
        let Some(into_sim) = self.get_mut(into) else { return false };
        into_sim.claims += from.claims;
        into_sim.mapped = into_sim.mapped.max(from.mapped);
        if from.state.is_some() && (into_sim.state.is_none() || from.changed > into_sim.changed) {
            (into_sim.state, into_sim.source) = (from.state, from.source);
            into_sim.changed = from.changed;
        }
        for id in from.identities.all() {
            self.attach(into, id);
        }
        from.claims > 0
    }

    fn remove(&mut self, sim: SimIndex) -> Option<Sim> {
        let identities = self.get(sim)?.identities;
        for id in identities.all() {
            self.detach(sim, id);
        }
        let gone = self.sims.try_remove(slot(sim))?;
        Some(Sim { identities, ..gone })
    }
}

impl Sim {
    /// Whether a store keeps it: what the mapping file says is there at every start.
    pub(super) fn is_stored(&self) -> bool {
        self.state.is_some() || self.mapped == ORDERED
    }

    fn has(&self, id: SimId) -> bool {
        self.identities.all().any(|known| known == id)
    }
}

impl Source {
    const ALL: [Self; 8] = [
        Self::Ageing,
        Self::Api,
        Self::Coa,
        Self::Grant,
        Self::Mapping,
        Self::Radius,
        Self::Store,
        Self::Webhook,
    ];

    /// The source of this name.
    pub(crate) fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.label() == label)
    }

    /// The source's name in metrics, logs and reports.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Ageing => "ageing",
            Self::Api => "api",
            Self::Coa => "coa",
            Self::Grant => "grant",
            Self::Mapping => "mapping",
            Self::Radius => "radius",
            Self::Store => "store",
            Self::Webhook => "webhook",
        }
    }
}

/// The mapping of those identities that were ordered to belong together, not read from the file.
pub(super) const ORDERED: u8 = u8::MAX;

fn kind(id: SimId) -> usize {
    match id {
        SimId::Iccid(_) => 0,
        SimId::Imsi(_) => 1,
        SimId::Msisdn(_) => 2,
    }
}

fn slot(index: SimIndex) -> usize {
    usize::try_from(index.0.get() - 1).unwrap_or(usize::MAX)
}

fn index(slot: usize) -> Option<SimIndex> {
    u32::try_from(slot).ok().and_then(|slot| NonZeroU32::MIN.checked_add(slot)).map(SimIndex)
}

#[cfg(test)]
mod tests;
