//! Who has each address, the addresses of each SIM, and what readers must learn of both.

use policy::{Apn, Iccid, Imsi, SimState};

use super::Ledger;
use crate::sims::{
    claim::{Owner, Seconds, SimIndex},
    record::Place,
    table::{Shown, Slot},
};

/// What readers must learn: who is behind a place from this moment on.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    /// The addresses.
    pub(crate) place: Place,
    /// Who is behind them; `None`: nobody is known.
    pub(crate) facts: Option<Facts>,
}

/// What a decision may ask of a binding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) iccid: Option<Iccid>,
    pub(crate) imsi: Option<Imsi>,
    pub(crate) apn: Option<Apn>,
    pub(crate) state: Option<SimState>,
}

impl Ledger {
    /// Works out the owner of an address again, and tells readers if it is another one.
    pub(super) fn settle(&mut self, slot: Slot, now: Seconds) {
        let Some(address) = self.table.get(slot) else { return };
        let shown = match address.claims.owner(&self.nas, now) {
            Owner::Nobody | Owner::Contested => None,
            Owner::Held(claim) => Some(Shown { sim: claim.sim, apn: claim.apn }),
        };
        let before = address.shown;
        if shown == before {
            return;
        }
        if let Some(sim) = before.and_then(|shown| shown.sim) {
            self.unlink(sim, slot);
        }
        if let Some(address) = self.table.get_mut(slot) {
            address.shown = shown;
        }
        if let Some(sim) = shown.and_then(|shown| shown.sim) {
            self.link(sim, slot);
        }
        self.show(slot);
        if let Some(sim) = before.and_then(|shown| shown.sim) {
            self.registry.forget(sim);
        }
    }

    /// The addresses a SIM owns.
    pub(in crate::sims) fn addresses_of(&self, sim: SimIndex) -> Vec<Slot> {
        let mut next = self.registry.get(sim).and_then(|sim| sim.first);
        let mut slots = Vec::new();
        while let Some(slot) = next {
            slots.push(slot);
            next = self.table.get(slot).and_then(|address| address.next);
        }
        slots
    }

    /// What a decision may ask about whoever has the address.
    pub(in crate::sims) fn facts(&self, shown: Shown) -> Facts {
        let sim = shown.sim.and_then(|sim| self.registry.get(sim));
        let identities = sim.map(|sim| sim.identities).unwrap_or_default();
        Facts {
            iccid: identities.iccid,
            imsi: identities.imsi,
            apn: shown.apn.and_then(|apn| self.apn_texts.get(usize::from(apn))).cloned(),
            state: sim.and_then(|sim| sim.state),
        }
    }

    pub(super) fn link(&mut self, sim: SimIndex, slot: Slot) {
        let Some(entry) = self.registry.get_mut(sim) else { return };
        let next = entry.first.replace(slot);
        if let Some(address) = self.table.get_mut(slot) {
            address.next = next;
        }
    }

    fn unlink(&mut self, sim: SimIndex, slot: Slot) {
        let next = self.table.get_mut(slot).and_then(|address| address.next.take());
        let before = self.addresses_of(sim).into_iter().find(|before| {
            self.table.get(*before).is_some_and(|address| address.next == Some(slot))
        });
        match before.and_then(|before| self.table.get_mut(before)) {
            Some(before) => before.next = next,
            None => {
                if let Some(entry) = self.registry.get_mut(sim).filter(|s| s.first == Some(slot)) {
                    entry.first = next;
                }
            }
        }
    }

    fn show(&mut self, slot: Slot) {
        let Some(address) = self.table.get(slot) else { return };
        let facts = address.shown.map(|shown| self.facts(shown));
        self.turns.push(Turn { place: address.place, facts });
    }

    pub(super) fn show_all(&mut self, sim: SimIndex) {
        for slot in self.addresses_of(sim) {
            self.show(slot);
        }
    }
}
