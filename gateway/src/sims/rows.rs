//! What a store keeps: bindings with their claims, SIMs with their states, restarts of NAS, grants.
//!
//! Rows merge as claims do: taken twice, late or in another order, they leave the same table. So a
//! store may lose its last writes, and two nodes may write the same row.

use ipnet::IpNet;
use policy::{Apn, Iccid, Identity, Imsi, Msisdn, SimState};
use serde::{Deserialize, Serialize};

use super::{
    claim::{Claim, Seconds, Session},
    identity::{Identities, SimId},
    ledger::{Dirty, Ledger},
    prefix::Prefix,
    record::{Place, Refusal},
    registry::{ORDERED, Source},
};

/// One row of a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Row {
    /// The claims on an address.
    Address(AddressRow),
    /// A SIM with a state, or with identities that were ordered to belong together.
    Sim(SimRow),
    /// A NAS that restarted.
    Nas(NasRow),
    /// A grant, as its own part writes it.
    Grant(GrantRow),
}

/// The claims on an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AddressRow {
    domain: String,
    network: IpNet,
    pub(crate) claims: Vec<ClaimRow>,
}

/// One session's claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClaimRow {
    nas: String,
    /// Sixteen hexadecimal digits: some readers know no whole numbers of 64 bits.
    session: String,
    sim: IdentitiesRow,
    apn: Option<String>,
    first: u32,
    started: u32,
    asserted: u32,
    stopped: u32,
    seen: u32,
    lifetime: u32,
}

/// What names a SIM, in digits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IdentitiesRow {
    iccid: Option<String>,
    imsi: Option<String>,
    msisdn: Option<String>,
}

/// One SIM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SimRow {
    sim: IdentitiesRow,
    state: Option<String>,
    source: String,
    pub(crate) changed: i64,
    ordered: bool,
}

/// One NAS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NasRow {
    name: String,
    pub(crate) reset: u32,
}

/// One grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GrantRow {
    sim: String,
    content: Vec<u8>,
}

/// Rows to be written together, by their keys; `None`: the row is to go.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) rows: Vec<(String, Option<Row>)>,
    /// What is stored once they are.
    pub(crate) mark: u64,
}

/// Why a row cannot be taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidRow {
    /// Something in it is not what it should be; it is not repeated.
    #[error("a stored row cannot be read")]
    Unreadable,
    /// No room for it.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl Row {
    /// Seconds after which a store may forget the row; `None`: never by itself.
    pub(crate) fn lifetime(&self) -> Option<u32> {
        match self {
            Self::Address(row) => row
                .claims
                .iter()
                .map(|claim| (claim.lifetime > 0).then_some(claim.lifetime))
                .try_fold(super::claim::REMEMBERED, |longest, lifetime| {
                    lifetime.map(|lifetime| longest.max(lifetime))
                }),
            Self::Sim(_) | Self::Nas(_) | Self::Grant(_) => None,
        }
    }

    /// Whether it tells of a time to come, as a node does whose clock is ahead: that would outrank
    /// everything until then.
    pub(crate) fn is_ahead(&self, now: Seconds) -> bool {
        let bound = now.0.saturating_add(AHEAD_MAX);
        match self {
            Self::Address(row) => row.claims.iter().any(|claim| {
                claim.started.max(claim.asserted).max(claim.stopped).max(claim.seen) > bound
            }),
            Self::Nas(row) => row.reset > bound,
            Self::Sim(_) | Self::Grant(_) => false,
        }
    }
}

impl Ledger {
    /// The rows of everything in `dirty`, as they are.
    pub(crate) fn rows(&self, dirty: Dirty) -> Vec<(String, Option<Row>)> {
        let Dirty { places, sims, nas, grants } = dirty;
        let places = places.into_iter().filter_map(|place| self.address_row(place));
        let sims = sims.into_iter().map(|id| self.sim_row(id));
        let nas = nas.into_iter().filter_map(|nas| self.nas_row(nas));
        let grants = grants.into_iter().map(|id| self.grant_row(id));
        nas.chain(sims).chain(places).chain(grants).collect()
    }

    /// Everything that a store should have.
    pub(crate) fn soil_all(&mut self) {
        let dirty = Dirty {
            places: self.table.iter().map(|(_, address)| address.place).collect(),
            sims: self
                .registry
                .iter()
                .filter(|(_, sim)| sim.is_stored())
                .filter_map(|(_, sim)| sim.identities.primary())
                .collect(),
            nas: (0..u16::try_from(self.nas.resets.len()).unwrap_or(u16::MAX))
                .filter(|nas| super::claim::Standing::reset(&self.nas, *nas) != Seconds(0))
                .collect(),
            grants: self.grants.keys().copied().collect(),
        };
        self.soil_with(dirty);
    }

    /// Takes what a store or another node knows.
    ///
    /// # Errors
    ///
    /// The row cannot be read, or there is no room for it; the rest stands.
    pub(crate) fn merge(&mut self, row: &Row, now: Seconds) -> Result<(), InvalidRow> {
        match row {
            Row::Address(row) => self.merge_address(row, now),
            Row::Sim(row) => self.merge_sim(row),
            Row::Nas(row) => Ok(self.reset(&row.name, Seconds(row.reset), now)?),
            Row::Grant(row) => {
                let id = SimId::parse(&row.sim).map_err(|_| InvalidRow::Unreadable)?;
                self.grants.insert(id, row.content.clone().into());
                Ok(())
            }
        }
    }

    fn address_row(&self, place: Place) -> Option<(String, Option<Row>)> {
        let domain = self.domains.text(place.domain)?.to_string();
        let network = place.prefix.network();
        let key = format!("a|{domain}|{network}");
        let Some(address) = self.table.find(place).and_then(|slot| self.table.get(slot)) else {
            return Some((key, None));
        };
        let claims =
            address.claims.all().iter().filter_map(|claim| self.claim_row(claim)).collect();
        Some((key, Some(Row::Address(AddressRow { domain, network, claims }))))
    }

    fn claim_row(&self, claim: &Claim) -> Option<ClaimRow> {
        let sim = claim.sim.and_then(|sim| self.registry.get(sim));
        let apn = claim.apn.and_then(|apn| self.apns.text(apn));
        Some(ClaimRow {
            nas: self.nas.names.text(claim.session.nas)?.to_string(),
            session: format!("{:016x}", { claim.session.id }),
            sim: sim.map(|sim| sim.identities.into()).unwrap_or_default(),
            apn: apn.map(|apn| apn.to_string()),
            first: claim.first.0,
            started: claim.started.0,
            asserted: claim.asserted.0,
            stopped: claim.stopped.0,
            seen: claim.seen.0,
            lifetime: claim.lifetime,
        })
    }

    /// The row of a SIM stands under the longest-lasting of its identities only.
    fn sim_row(&self, id: SimId) -> (String, Option<Row>) {
        let sim = self.registry.find(id).and_then(|sim| self.registry.get(sim));
        let sim = sim.filter(|sim| sim.is_stored() && sim.identities.primary() == Some(id));
        let row = sim.map(|sim| {
            Row::Sim(SimRow {
                sim: sim.identities.into(),
                state: sim.state.map(|state| state.label().to_owned()),
                source: sim.source.label().to_owned(),
                changed: sim.changed,
                ordered: sim.mapped == ORDERED,
            })
        });
        (format!("s|{}", id.whole()), row)
    }

    fn nas_row(&self, nas: u16) -> Option<(String, Option<Row>)> {
        let name = self.nas.names.text(nas)?.to_string();
        let reset = super::claim::Standing::reset(&self.nas, nas).0;
        Some((format!("n|{name}"), Some(Row::Nas(NasRow { name, reset }))))
    }

    fn grant_row(&self, id: SimId) -> (String, Option<Row>) {
        let sim = id.whole();
        let content = self.grants.get(&id).map(|content| content.to_vec());
        let key = format!("g|{sim}");
        (key, content.map(|content| Row::Grant(GrantRow { sim, content })))
    }

    fn merge_address(&mut self, row: &AddressRow, now: Seconds) -> Result<(), InvalidRow> {
        let prefix = Prefix::new(row.network).map_err(|_| InvalidRow::Unreadable)?;
        let place = Place { domain: self.domain(&row.domain)?, prefix };
        for stored in &row.claims {
            let id =
                u64::from_str_radix(&stored.session, 16).map_err(|_| InvalidRow::Unreadable)?;
            let session = Session { nas: self.nas_place(&stored.nas)?, id };
            let identities = Identities::try_from(&stored.sim)?;
            let sim = if identities.is_empty() { None } else { Some(self.learn(identities)?) };
            let apn = stored.apn.as_deref().and_then(|apn| self.apn_place(&Apn::new(apn)));
            self.merge_claim(
                place,
                Claim {
                    session,
                    sim,
                    apn,
                    first: Seconds(stored.first),
                    started: Seconds(stored.started),
                    asserted: Seconds(stored.asserted),
                    stopped: Seconds(stored.stopped),
                    seen: Seconds(stored.seen),
                    lifetime: stored.lifetime,
                },
                now,
            )?;
        }
        Ok(())
    }

    fn merge_sim(&mut self, row: &SimRow) -> Result<(), InvalidRow> {
        let identities = Identities::try_from(&row.sim)?;
        let source = Source::from_label(&row.source).ok_or(InvalidRow::Unreadable)?;
        if row.ordered {
            self.map(identities, ORDERED)?;
        }
        if let Some(state) = &row.state {
            let state = SimState::from_label(state).ok_or(InvalidRow::Unreadable)?;
            self.merge_state(identities, state, source, row.changed)?;
        }
        Ok(())
    }
}

impl From<Identities> for IdentitiesRow {
    fn from(identities: Identities) -> Self {
        Self {
            iccid: identities.iccid.map(Identity::whole),
            imsi: identities.imsi.map(Identity::whole),
            msisdn: identities.msisdn.map(Identity::whole),
        }
    }
}

impl TryFrom<&IdentitiesRow> for Identities {
    type Error = InvalidRow;

    fn try_from(row: &IdentitiesRow) -> Result<Self, InvalidRow> {
        fn read<I: Identity>(text: Option<&String>) -> Result<Option<I>, InvalidRow> {
            text.map(|text| I::parse(text)).transpose().map_err(|_| InvalidRow::Unreadable)
        }
        Ok(Self {
            iccid: read::<Iccid>(row.iccid.as_ref())?,
            imsi: read::<Imsi>(row.imsi.as_ref())?,
            msisdn: read::<Msisdn>(row.msisdn.as_ref())?,
        })
    }
}

/// Seconds that clocks of nodes may differ by.
const AHEAD_MAX: u32 = 5;
