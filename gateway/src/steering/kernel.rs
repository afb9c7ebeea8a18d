//! What the kernel knows of networks, SIMs and grants, and how it is told.
//!
//! The kernel follows one policy. A SIM is judged under it with what is known at that moment, not
//! with what an event said: changes may come late, twice or in any order.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ipnet::IpNet;
use policy::{Action, Policy, Snapshot, Subject, Subscriber};

use super::{
    granted::Granted,
    netlink::{Edit, Netlink, NetlinkError},
    passage::{Passage, Passages, is_wide},
    residents::{Pass, Resident, Residents},
    ruleset::TABLE,
};

/// The kernel's sets, as they were filled.
pub(super) struct Kernel {
    netlink: Netlink,
    told: Told,
    snapshot: Arc<Snapshot>,
    residents: Arc<dyn Residents>,
}

/// What the kernel was told.
#[derive(Default)]
struct Told {
    passages: Passages,
    granted: Granted,
}

impl Kernel {
    /// Fills the sets of a table that was just loaded.
    pub(super) fn fill(
        snapshot: Arc<Snapshot>,
        residents: Arc<dyn Residents>,
    ) -> Result<Self, NetlinkError> {
        let (netlink, told) = (Netlink::open()?, Told::default());
        let mut kernel = Self { netlink, told, snapshot, residents };
        kernel.refill()?;
        Ok(kernel)
    }

    /// Fills every set anew under `snapshot`; returns the SIMs' blocks that are forwarded no more. If
    /// the kernel refuses, it follows the former policy on.
    pub(super) fn follow(&mut self, snapshot: Arc<Snapshot>) -> Result<Vec<IpNet>, NetlinkError> {
        let before = std::mem::replace(&mut self.snapshot, snapshot);
        self.refill().inspect_err(|_| self.snapshot = before)
    }

    /// Says who is at `blocks`; returns those that are forwarded no more.
    pub(super) fn refresh(&mut self, blocks: &[IpNet]) -> Result<Vec<IpNet>, NetlinkError> {
        let policy = self.snapshot.policy();
        let delegated = self.told.passages.delegates();
        let mut noted = BTreeMap::new();
        let mut edits = Vec::new();
        let mut walled = Vec::new();
        for block in blocks.iter().copied().collect::<BTreeSet<_>>() {
            let resident = self.residents.at(block);
            let passed = self.told.passes(block, policy);
            let pass = resident.as_ref().and_then(|resident| grant(policy, resident));
            edits.extend(self.told.granted.note(block, pass));
            let subscriber = resident.as_ref().map(|resident| &resident.subscriber);
            noted.insert(block, self.told.passages.note(block, subscriber, policy));
            if passed && !self.told.passes(block, policy) {
                walled.push(block);
            }
        }
        if self.told.passages.delegates() && !delegated {
            // From the first delegated prefix on, each /64 is named: see `Passages::note`.
            walled.extend(self.refill()?);
            return Ok(walled);
        }
        let mut all = self.told.passages.edits(&noted, policy);
        all.extend(edits);
        if let Err(error) = self.netlink.apply(&all, TABLE) {
            // Somebody else changed the table: start from nothing.
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::warn!(%error, cause, "the kernel's sets are filled anew");
            walled.extend(self.refill()?);
        }
        Ok(walled)
    }

    /// Whether the kernel forwards packets of whoever is at `block`, a SIM's.
    pub(super) fn passes(&self, block: IpNet) -> bool {
        self.told.passes(block, self.snapshot.policy())
    }

    /// The bytes used of each grant the kernel counts; quotas that nothing refers to are removed.
    pub(super) fn grants_used(&mut self) -> Result<Vec<(u64, u64)>, NetlinkError> {
        for (number, edit) in self.told.granted.unused() {
            // An element that just expired refers to it until the kernel collects it: next time.
            if self.netlink.apply(&[edit], TABLE).is_ok() {
                self.told.granted.forget(number);
            }
        }
        used(&mut self.netlink)
    }

    /// Fills every set anew; returns the SIMs' blocks that are forwarded no more.
    pub(super) fn refill(&mut self) -> Result<Vec<IpNet>, NetlinkError> {
        let policy = self.snapshot.policy();
        let (told, grants) = Told::of(policy, &*self.residents);
        let mut edits = told.passages.everything(policy);
        edits.extend(Granted::flush());
        edits.extend(grants);
        self.netlink.apply(&edits, TABLE)?;
        let before = std::mem::replace(&mut self.told, told);
        // What was told of these went beyond their addresses, so the policy before is not asked.
        let passed = before.blocks().filter(|block| before.passes(*block, policy));
        Ok(passed.filter(|block| !self.told.passes(*block, policy)).collect())
    }
}

/// The elements of the sets of passages, as nft reads them.
pub(super) fn elements(policy: &Policy, residents: &dyn Residents) -> String {
    let (Told { passages, .. }, _) = Told::of(policy, residents);
    passages.text(policy)
}

impl Told {
    /// What is to be told of everybody, and the edits that give their grants.
    fn of(policy: &Policy, residents: &dyn Residents) -> (Self, Vec<Edit>) {
        let mut told = Self::default();
        let mut grants = Vec::new();
        // Delegated prefixes first: what lies in them is told apart from them.
        for wide in [true, false] {
            residents.each(&mut |block, resident| {
                if is_wide(block) == wide {
                    told.passages.note(block, Some(&resident.subscriber), policy);
                    grants.extend(told.granted.note(block, grant(policy, resident)));
                }
            });
        }
        (told, grants)
    }

    /// Whether the kernel forwards packets of whoever is at `block`, a SIM's.
    fn passes(&self, block: IpNet, policy: &Policy) -> bool {
        let alone = || Passage::of(policy, &Subscriber::at(block.network()));
        self.granted.has(block) || self.passages.get(block).unwrap_or_else(alone) != Passage::Walled
    }

    /// Every block that was ever mentioned.
    fn blocks(&self) -> impl Iterator<Item = IpNet> {
        self.passages.blocks().chain(self.granted.blocks())
    }
}

/// The bytes used of each grant in the table that is loaded, whoever loaded it.
pub(super) fn grants_used_before() -> Result<Vec<(u64, u64)>, NetlinkError> {
    used(&mut Netlink::open()?)
}

fn used(netlink: &mut Netlink) -> Result<Vec<(u64, u64)>, NetlinkError> {
    let quotas = netlink.quotas(TABLE)?;
    Ok(quotas.iter().filter_map(|(name, used)| Some((Granted::number(name)?, *used))).collect())
}

/// The grant that opens the garden for a resident. It opens nothing for whom the operator shuts out,
/// and is not used up by whom the policy lets pass.
fn grant<'r>(policy: &Policy, resident: &'r Resident) -> Option<&'r Pass> {
    let class = policy.class_of(Subject::Subscriber(&resident.subscriber))?;
    match class.action() {
        Action::Garden | Action::Observe => resident.grant.as_ref(),
        Action::Drop | Action::Open => None,
    }
}

#[cfg(test)]
mod tests;
