//! What is known of a binding or a SIM, for the admin API.

use ipnet::IpNet;
use policy::{Apn, SimState};

use super::{
    claim::{Owner, Seconds, SimIndex},
    identity::{Identities, SimId},
    ledger::Ledger,
    prefix::Prefix,
    record::Place,
    registry::Source,
};

/// One binding that holds.
#[derive(Clone, Debug)]
pub(crate) struct Binding {
    /// The addresses.
    pub(crate) network: IpNet,
    /// Whose they are.
    pub(crate) identities: Identities,
    /// Whether that SIM has a plan, where anybody said so.
    pub(crate) state: Option<SimState>,
    /// The access point name.
    pub(crate) apn: Option<Apn>,
    /// The NAS that said so.
    pub(crate) nas: String,
    /// When the session got the addresses.
    pub(crate) since: Seconds,
    /// The NAS's last word.
    pub(crate) seen: Seconds,
    /// When it lapses without another word; absent: never.
    pub(crate) expires: Option<Seconds>,
}

/// One SIM.
#[derive(Clone, Debug)]
pub(crate) struct SimView {
    /// What names it.
    pub(crate) identities: Identities,
    /// Whether it has a plan, where anybody said so.
    pub(crate) state: Option<SimState>,
    /// Who said so.
    pub(crate) source: Source,
    /// When, in milliseconds since 1970.
    pub(crate) changed: i64,
    /// The addresses it has.
    pub(crate) networks: Vec<IpNet>,
}

impl Ledger {
    /// The binding that a prefix falls under: the longest that holds it.
    pub(crate) fn binding(&self, domain: u16, prefix: Prefix, now: Seconds) -> Option<Binding> {
        let lengths = (super::prefix::SHORTEST..=prefix.length()).rev();
        lengths
            .map(|length| Place { domain, prefix: prefix.widened(length) })
            .chain(prefix.is_ipv4().then_some(Place { domain, prefix }))
            .find_map(|place| self.binding_at(place, now))
    }

    /// The SIM of this name.
    pub(crate) fn sim(&self, id: SimId) -> Option<SimView> {
        self.registry.find(id).and_then(|index| self.view(index))
    }

    /// SIMs from the `after`th place on, and the place to go on from if there are more.
    pub(crate) fn list(
        &self,
        after: usize,
        limit: usize,
        state: Option<SimState>,
    ) -> (Vec<SimView>, Option<usize>) {
        let wanted = self.registry.iter().enumerate().skip(after);
        let mut wanted =
            wanted.filter(|(_, (_, sim))| state.is_none_or(|state| sim.state == Some(state)));
        let found = wanted.by_ref().take(limit).filter_map(|(_, (index, _))| self.view(index));
        let found = found.collect();
        (found, wanted.next().map(|(at, _)| at))
    }

    /// What is known of a SIM.
    pub(crate) fn view(&self, index: SimIndex) -> Option<SimView> {
        let sim = self.registry.get(index)?;
        let networks = self.addresses_of(index).into_iter();
        let networks =
            networks.filter_map(|slot| Some(self.table.get(slot)?.place.prefix.network()));
        Some(SimView {
            identities: sim.identities,
            state: sim.state,
            source: sim.source,
            changed: sim.changed,
            networks: networks.collect(),
        })
    }

    fn binding_at(&self, place: Place, now: Seconds) -> Option<Binding> {
        let address = self.table.get(self.table.find(place)?)?;
        let Owner::Held(claim) = address.claims.owner(&self.nas, now) else { return None };
        let facts = self.facts(address.shown?);
        let sim = claim.sim.and_then(|sim| self.registry.get(sim));
        Some(Binding {
            network: place.prefix.network(),
            identities: sim.map(|sim| sim.identities).unwrap_or_default(),
            state: facts.state,
            apn: facts.apn,
            nas: self.nas.names.text(claim.session.nas)?.to_string(),
            since: claim.begin(),
            seen: claim.seen,
            expires: (claim.lifetime != 0)
                .then(|| Seconds(claim.seen.0.saturating_add(claim.lifetime))),
        })
    }
}
