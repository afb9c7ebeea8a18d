//! Which blocks pass by a grant, and the byte quota they share.
//!
//! A grant is one named quota of the kernel, whatever the number and family of its addresses, so
//! that its bytes are counted together. The kernel ends it by itself, by time and by bytes: a grant
//! outlives neither the gateway nor a failure of it.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use ipnet::IpNet;

use super::{
    netlink::{Edit, Element},
    residents::Pass,
};

/// The grants the kernel knows.
#[derive(Clone, Debug, Default)]
pub(super) struct Granted {
    blocks: HashMap<IpNet, u64>,
    quotas: HashSet<u64>,
}

impl Granted {
    /// Whether `block` passes by a grant.
    pub(super) fn has(&self, block: IpNet) -> bool {
        self.blocks.contains_key(&block)
    }

    /// The blocks that pass by a grant.
    pub(super) fn blocks(&self) -> impl Iterator<Item = IpNet> {
        self.blocks.keys().copied()
    }

    /// The edits after which `block` passes by `pass`, or by none.
    pub(super) fn note(&mut self, block: IpNet, pass: Option<&Pass>) -> Vec<Edit> {
        let (before, now) = (self.blocks.get(&block).copied(), pass.map(|pass| pass.number));
        let mut edits = Vec::new();
        if before == now {
            return edits;
        }
        if let Some(number) = before {
            self.blocks.remove(&block);
            // The kernel may have removed it by itself, and removes nothing that is not there.
            edits.extend(given(block, number, Duration::ZERO));
            edits.extend(taken(block, number));
        }
        if let Some(Pass { number, left, bytes, used }) = pass.copied() {
            self.blocks.insert(block, number);
            if self.quotas.insert(number) {
                edits.push(Edit::Quota { name: quota(number), bytes, used });
            }
            edits.extend(given(block, number, left));
        }
        edits
    }

    /// The grants that no block passes by, with the edits that remove their quotas.
    pub(super) fn unused(&self) -> Vec<(u64, Edit)> {
        let used: HashSet<u64> = self.blocks.values().copied().collect();
        let unused = self.quotas.difference(&used);
        unused.map(|number| (*number, Edit::DropQuota(quota(*number)))).collect()
    }

    /// Notes that the quota of grant `number` is gone.
    pub(super) fn forget(&mut self, number: u64) {
        self.quotas.remove(&number);
    }

    /// The edits that take away every grant.
    pub(super) fn flush() -> impl Iterator<Item = Edit> {
        SETS.into_iter().flat_map(|(passing, metered)| [passing, metered]).map(Edit::Flush)
    }

    /// The number of the grant whose quota has this name.
    pub(super) fn number(name: &str) -> Option<u64> {
        u64::from_str_radix(name.strip_prefix(PREFIX)?, 16).ok()
    }
}

fn given(block: IpNet, number: u64, left: Duration) -> [Edit; 2] {
    let (passing, metered) = sets(block);
    [
        Edit::Add(metered, vec![Element::metered(block, left, &quota(number))]),
        Edit::Add(passing, vec![Element::lasting(block, left)]),
    ]
}

fn taken(block: IpNet, number: u64) -> [Edit; 2] {
    let (passing, metered) = sets(block);
    let element = Element::metered(block, Duration::ZERO, &quota(number));
    [Edit::Remove(passing, vec![Element::of(block)]), Edit::Remove(metered, vec![element])]
}

/// The set of those that are not steered, and the map to their quotas.
fn sets(block: IpNet) -> (&'static str, &'static str) {
    let [v4, v6] = SETS;
    if block.network().is_ipv4() { v4 } else { v6 }
}

/// The name of a grant's quota: nothing of the SIM is in it.
fn quota(number: u64) -> String {
    format!("{PREFIX}{number:016x}")
}

const PREFIX: &str = "grant-";
const SETS: [(&str, &str); 2] = [("granted4", "grant4"), ("granted6", "grant6")];
