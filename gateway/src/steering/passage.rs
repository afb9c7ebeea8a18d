//! What the kernel does with a SIM's packets, and which of its sets say so.
//!
//! A SIM's class is always the one `class_of` gives. The kernel is told of a SIM only where its
//! class says otherwise than its address alone: a garden SIM in a garden network needs no element.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv6Addr},
};

use ipnet::IpNet;
use policy::{Action, AddressRange, Policy, Subject, Subscriber};

use super::{
    netlink::{Edit, Element},
    ruleset::TABLE,
};

/// What the kernel does with a subscriber's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Passage {
    /// Forwards them, unseen by us.
    Open,
    /// Steers what the listeners take, refuses the rest.
    Walled,
    /// Steers what the listeners take, forwards the rest.
    Watched,
}

/// The SIMs the kernel knows, as it was told.
#[derive(Clone, Debug, Default)]
pub(super) struct Passages {
    /// IPv4 addresses and IPv6 /64s: elements of the hashed sets.
    held: HashMap<IpNet, Passage>,
    /// Delegated prefixes, wider than a /64: they are part of the networks' intervals.
    wide: BTreeMap<IpNet, Passage>,
}

impl Passage {
    /// The passage of whoever `subscriber` is. Nobody's class means walled.
    pub(crate) fn of(policy: &Policy, subscriber: &Subscriber) -> Self {
        match policy.class_of(Subject::Subscriber(subscriber)).map(policy::Class::action) {
            Some(Action::Open) => Self::Open,
            Some(Action::Observe) => Self::Watched,
            Some(Action::Drop | Action::Garden) | None => Self::Walled,
        }
    }

    fn set(self, block: IpNet) -> &'static str {
        match (self, block) {
            (Self::Open, IpNet::V4(_)) => "sim_open4",
            (Self::Open, IpNet::V6(_)) => "sim_open6",
            (Self::Walled, IpNet::V4(_)) => "sim_walled4",
            (Self::Walled, IpNet::V6(_)) => "sim_walled6",
            (Self::Watched, IpNet::V4(_)) => "sim_watched4",
            (Self::Watched, IpNet::V6(_)) => "sim_watched6",
        }
    }
}

impl Passages {
    /// The passage of the SIM at `block` by this table; `None`: as its address alone says.
    pub(super) fn get(&self, block: IpNet) -> Option<Passage> {
        self.held.get(&block).or_else(|| self.wide.get(&block)).copied()
    }

    /// Notes who is at `block` (`None`: nobody), and says what was known of it before.
    pub(super) fn note(
        &mut self,
        block: IpNet,
        subscriber: Option<&Subscriber>,
        policy: &Policy,
    ) -> Option<Passage> {
        let alone = Passage::of(policy, &Subscriber::at(block.network()));
        let wanted = subscriber
            .map(|subscriber| Passage::of(policy, subscriber))
            // A delegated prefix lies around networks and other SIMs' blocks, and hides them.
            .filter(|wanted| {
                let among_delegated = block.network().is_ipv6() && self.delegates();
                is_wide(block) || *wanted != alone || among_delegated
            });
        let before = self.get(block);
        match (wanted, is_wide(block)) {
            (Some(passage), true) => self.wide.insert(block, passage),
            (None, true) => self.wide.remove(&block),
            (Some(passage), false) => self.held.insert(block, passage),
            (None, false) => self.held.remove(&block),
        };
        before
    }

    /// The blocks whose passage is another than their addresses alone would say.
    pub(super) fn blocks(&self) -> impl Iterator<Item = IpNet> {
        self.held.keys().chain(self.wide.keys()).copied()
    }

    /// Whether some prefix wider than a /64 is known.
    pub(super) fn delegates(&self) -> bool {
        !self.wide.is_empty()
    }

    /// The edits that bring the kernel to this table at the blocks that were noted, given what was
    /// known of each before. If the change goes in pieces, it errs towards the garden: what closes
    /// comes first, what opens last.
    pub(super) fn edits(
        &self,
        noted: &BTreeMap<IpNet, Option<Passage>>,
        policy: &Policy,
    ) -> Vec<Edit> {
        let changed = || noted.iter().filter(|(block, before)| self.get(**block) != **before);
        let narrow = || changed().filter(|(block, _)| !is_wide(**block));
        let removed = grouped(narrow().filter_map(|(block, before)| Some((*block, (*before)?))));
        let added = grouped(narrow().filter_map(|(block, _)| Some((*block, self.get(*block)?))));
        let (opened, closed): (Vec<_>, Vec<_>) =
            added.into_iter().partition(|((passage, _), _)| *passage == Passage::Open);
        let networks = if changed().any(|(block, _)| is_wide(*block)) {
            self.networks(policy)
        } else {
            Vec::new()
        };
        let add = |((_, set), elements)| Edit::Add(set, elements);
        let removed = removed.into_iter().map(|((_, set), elements)| Edit::Remove(set, elements));
        let closed = closed.into_iter().map(add).chain(networks);
        closed.chain(removed).chain(opened.into_iter().map(add)).collect()
    }

    /// The edits that fill every set anew, in the same order.
    pub(super) fn everything(&self, policy: &Policy) -> Vec<Edit> {
        let all = grouped(self.held.iter().map(|(block, passage)| (*block, *passage)));
        let (opened, closed): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|((passage, _), _)| *passage == Passage::Open);
        let add = |((_, set), elements)| Edit::Add(set, elements);
        let emptied = NETWORK_SETS.iter().map(|(set, _)| *set).chain(SIM_SETS).map(Edit::Flush);
        let closed = closed.into_iter().map(add).chain(self.networks(policy));
        emptied.chain(closed).chain(opened.into_iter().map(add)).collect()
    }

    /// The elements of every set, as nft reads them.
    pub(super) fn text(&self, policy: &Policy) -> String {
        let mut sets: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (block, passage) in &self.held {
            sets.entry(passage.set(*block)).or_default().push(block.network().to_string());
        }
        for (first, last, passage) in self.painting(policy).ranges() {
            let wanted = (passage, first.is_ipv4());
            let set = NETWORK_SETS.iter().find(|(_, held)| *held == wanted);
            if let Some((set, _)) = set {
                sets.entry(set).or_default().push(format!("{first}-{last}"));
            }
        }
        let line = |(set, elements): (&str, Vec<String>)| {
            format!("add element inet {TABLE} {set} {{ {} }}\n", elements.join(", "))
        };
        sets.into_iter().map(line).collect()
    }

    /// The passages of networks: what addresses alone say, and over it the wide blocks, the widest
    /// first, so that the longest prefix holds.
    fn painting(&self, policy: &Policy) -> Painting {
        let mut painting = Painting::default();
        for (action, passage) in
            [(Action::Open, Passage::Open), (Action::Observe, Passage::Watched)]
        {
            for AddressRange { first, last } in policy.territory(action) {
                painting.paint(first, last, passage);
            }
        }
        let mut wide: Vec<_> = self.wide.iter().collect();
        wide.sort_by_key(|(block, _)| block.prefix_len());
        for (block, passage) in wide {
            painting.paint(block.network(), block.broadcast(), *passage);
        }
        painting
    }

    /// The edits that fill the sets of networks anew.
    fn networks(&self, policy: &Policy) -> Vec<Edit> {
        let painting = self.painting(policy);
        let mut edits: Vec<Edit> = NETWORK_SETS.iter().map(|(set, _)| Edit::Flush(set)).collect();
        for (set, (wanted, is_v4)) in NETWORK_SETS {
            let elements: Vec<Element> = painting
                .ranges()
                .filter(|(first, _, passage)| *passage == wanted && first.is_ipv4() == is_v4)
                .flat_map(|(first, last, _)| Element::interval(first, last))
                .collect();
            if !elements.is_empty() {
                edits.push(Edit::Add(set, elements));
            }
        }
        edits
    }
}

/// The elements of each set.
fn grouped(
    blocks: impl Iterator<Item = (IpNet, Passage)>,
) -> BTreeMap<(Passage, &'static str), Vec<Element>> {
    let mut sets: BTreeMap<_, Vec<Element>> = BTreeMap::new();
    for (block, passage) in blocks {
        sets.entry((passage, passage.set(block))).or_default().push(Element::of(block));
    }
    sets
}

/// Addresses with their passage, in ranges without overlap; what is painted later covers.
#[derive(Default)]
struct Painting {
    /// From the first address of a range to its last; IPv4 and IPv6 do not compare equal.
    ranges: BTreeMap<IpAddr, (IpAddr, Passage)>,
}

impl Painting {
    fn paint(&mut self, first: IpAddr, last: IpAddr, passage: Passage) {
        let family = first.is_ipv4();
        let touched: Vec<_> = self
            .ranges
            .range(..=last)
            .rev()
            .map(|(start, (end, painted))| (*start, *end, *painted))
            .take_while(|(start, end, _)| start.is_ipv4() == family && *end >= first)
            .collect();
        for (start, end, painted) in touched {
            self.ranges.remove(&start);
            if let Some(before) = neighbour(first, false).filter(|before| start <= *before) {
                self.ranges.insert(start, (before, painted));
            }
            if let Some(after) = neighbour(last, true).filter(|after| *after <= end) {
                self.ranges.insert(after, (end, painted));
            }
        }
        self.ranges.insert(first, (last, passage));
    }

    fn ranges(&self) -> impl Iterator<Item = (IpAddr, IpAddr, Passage)> {
        self.ranges.iter().map(|(first, (last, passage))| (*first, *last, *passage))
    }
}

/// The address behind, or before, this one.
fn neighbour(address: IpAddr, behind: bool) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => {
            let bits = address.to_bits();
            let next = if behind { bits.checked_add(1) } else { bits.checked_sub(1) };
            next.map(|bits| IpAddr::V4(bits.into()))
        }
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            let next = if behind { bits.checked_add(1) } else { bits.checked_sub(1) };
            next.map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits)))
        }
    }
}

/// Whether a block is more than a /64. No SIM has more than one IPv4 address in a binding.
pub(super) fn is_wide(block: IpNet) -> bool {
    block.network().is_ipv6() && block.prefix_len() < 64
}

const SIM_SETS: [&str; 6] =
    ["sim_walled4", "sim_walled6", "sim_watched4", "sim_watched6", "sim_open4", "sim_open6"];
/// With the passage of their elements, and whether they hold IPv4.
const NETWORK_SETS: [(&str, (Passage, bool)); 4] = [
    ("open4", (Passage::Open, true)),
    ("open6", (Passage::Open, false)),
    ("watched4", (Passage::Watched, true)),
    ("watched6", (Passage::Watched, false)),
];

#[cfg(test)]
mod tests;
