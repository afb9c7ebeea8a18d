//! The space of host names, cut where any pattern of either policy cuts it.
//!
//! A table walks a name from the right and leaves the tree of patterns at the first label that no
//! pattern spells out; what lies further left is not looked at. So all names that leave the tree
//! at one place, by labels with the same ends, meet the same rules: they are one cell, and one
//! name of the cell speaks for all. The cells are finite in number and leave no name out.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use super::region::Cover;
use crate::{
    host::{HostName, HostPattern, PatternKind},
    policy::Policy,
    rule::Scheme,
};

/// Every cell, filed by area; the first area is that of all names.
#[derive(Debug)]
pub(super) struct Cells {
    areas: Vec<Area>,
}

/// A part of the name space that one pattern could stand for.
#[derive(Debug)]
pub(super) struct Area {
    /// The whole of it.
    pub(super) cover: Cover,
    /// The name at its top, where it has one: a cell of its own.
    pub(super) apex: Option<HostName>,
    /// A name that lies in no smaller area and is not the top; `None` if there is no such name.
    pub(super) rest: Option<HostName>,
    /// The ports that some rule for names in the area lists, with the default ones.
    pub(super) ports: Arc<BTreeSet<u16>>,
    /// The areas directly within.
    pub(super) children: Vec<usize>,
    pub(super) parent: Option<usize>,
}

/// One of the two cells of an area.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cell {
    pub(super) area: usize,
    pub(super) part: Part,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Apex,
    Rest,
}

impl Cells {
    /// The cells of the patterns of both policies.
    pub(super) fn of(old: &Policy, new: &Policy) -> Self {
        let mut root = Node::default();
        for rule in old.rules().iter().chain(new.rules()) {
            root.file(rule.pattern(), &rule.ports);
        }
        // A class may deny the probes by name, whatever its rules say.
        for probe in crate::probe::Probe::names() {
            root.reach(probe.labels().rev());
        }
        let defaults = Scheme::ALL.map(Scheme::default_port);
        let mut cells = Self { areas: Vec::new() };
        cells.add(Cover::Everything, None, None, Arc::new(defaults.into()));
        cells.grow(0, &root, None);
        cells
    }

    pub(super) fn area(&self, index: usize) -> Option<&Area> {
        self.areas.get(index)
    }

    /// Every cell that holds a name, with that name and the ports that matter to it.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Cell, &HostName, &BTreeSet<u16>)> {
        self.areas.iter().enumerate().flat_map(|(index, area)| {
            [(Part::Apex, &area.apex), (Part::Rest, &area.rest)].into_iter().filter_map(
                move |(part, witness)| {
                    Some((Cell { area: index, part }, witness.as_ref()?, &*area.ports))
                },
            )
        })
    }

    fn add(
        &mut self,
        cover: Cover,
        parent: Option<usize>,
        apex: Option<HostName>,
        ports: Arc<BTreeSet<u16>>,
    ) -> usize {
        let index = self.areas.len();
        self.areas.push(Area { cover, apex, rest: None, ports, children: Vec::new(), parent });
        if let Some(area) = parent.and_then(|parent| self.areas.get_mut(parent)) {
            area.children.push(index);
        }
        index
    }

    /// Adds what lies in area `top`, whose labels to the right are those of `name`. The depth is
    /// bounded by the octets of a name.
    fn grow(&mut self, top: usize, node: &Node, name: Option<&HostName>) {
        let mut areas: BTreeMap<&str, usize> = BTreeMap::from([("", top)]);
        // Short ends first: a longer end lies within the shorter one it ends in.
        let mut tails: Vec<(&str, &BTreeSet<u16>)> =
            node.tails.iter().map(|(tail, ports)| (&**tail, ports)).collect();
        tails.sort_by_key(|(tail, _)| (tail.len(), *tail));
        for (tail, ports) in tails {
            let parent = longest_end(tail, &areas);
            let Some(base) = below(tail, name) else { continue };
            let ports = self.ports(parent, ports);
            let area = self.add(Cover::Suffix(base), Some(parent), None, ports);
            areas.insert(tail, area);
        }
        for (tail, index) in &areas {
            let rest = witness(tail, node, name);
            if let Some(area) = self.areas.get_mut(*index) {
                area.rest = rest;
            }
        }
        for (label, child) in &node.children {
            let parent = longest_end(label, &areas);
            let Some(apex) = below(label, name) else { continue };
            let ports = self.ports(parent, &child.ports);
            let area = self.add(Cover::Both(apex.clone()), Some(parent), Some(apex.clone()), ports);
            self.grow(area, child, Some(&apex));
        }
    }

    /// The ports of the area `parent` and `more`.
    fn ports(&self, parent: usize, more: &BTreeSet<u16>) -> Arc<BTreeSet<u16>> {
        let known = self.areas.get(parent).map(|area| area.ports.clone()).unwrap_or_default();
        if more.is_subset(&known) { known } else { Arc::new(known.union(more).copied().collect()) }
    }
}

/// The patterns of both policies by label, rightmost first.
#[derive(Debug, Default)]
struct Node {
    children: BTreeMap<Box<str>, Self>,
    /// Ports listed by patterns whose text ends here.
    ports: BTreeSet<u16>,
    /// Ends of labels, with the ports of their patterns.
    tails: BTreeMap<Box<str>, BTreeSet<u16>>,
}

impl Node {
    fn file(&mut self, pattern: &HostPattern, ports: &[u16]) {
        let labels = pattern.base().labels();
        match pattern.kind() {
            PatternKind::Exact | PatternKind::Below | PatternKind::Both => {
                self.reach(labels.rev()).ports.extend(ports);
            }
            PatternKind::Suffix => {
                let mut labels = labels;
                let tail = labels.next().unwrap_or_default();
                let node = self.reach(labels.rev());
                node.tails.entry(tail.into()).or_default().extend(ports);
            }
        }
    }

    fn reach<'n>(&mut self, labels: impl Iterator<Item = &'n str>) -> &mut Self {
        labels.fold(self, |node, label| node.children.entry(label.into()).or_default())
    }
}

/// The value of the longest key that `label` ends in, and is not; the empty key always fits.
fn longest_end(label: &str, areas: &BTreeMap<&str, usize>) -> usize {
    let ends = label.char_indices().map(|(at, _)| label.get(at..).unwrap_or_default());
    ends.chain([""]).find_map(|end| areas.get(end).copied()).unwrap_or_default()
}

fn below(label: &str, name: Option<&HostName>) -> Option<HostName> {
    match name {
        Some(name) => HostName::parse(&format!("{label}.{name}")).ok(),
        None => HostName::parse(label).ok(),
    }
}

/// The shortest name directly below `name` whose label ends in `tail`, but in no longer tail of
/// the node, and is none of its children. `None`: every such label is taken or too long.
fn witness(tail: &str, node: &Node, name: Option<&HostName>) -> Option<HostName> {
    let room = name.map_or(HostName::MAX_LENGTH, |name| {
        HostName::MAX_LENGTH.saturating_sub(name.as_str().len() + 1)
    });
    let mut candidates = VecDeque::from([tail.to_owned()]);
    while let Some(label) = candidates.pop_front() {
        if label.len() > HostName::MAX_LABEL.min(room) {
            return None;
        }
        // Whatever ends in a longer tail belongs to that one's cell, with all that ends in it.
        if label.len() > tail.len() && node.tails.contains_key(label.as_str()) {
            continue;
        }
        if !node.children.contains_key(label.as_str())
            && let Some(name) = below(&label, name)
        {
            return Some(name);
        }
        // Only labels that are taken, and those that make a name look like an address, are
        // lengthened, so this ends soon after the last child.
        candidates.extend(LETTERS.chars().map(|letter| format!("{letter}{label}")));
    }
    None
}

/// What may stand in a label, what reads best first.
const LETTERS: &str = "xabcdefghijklmnopqrstuvwyz0123456789-_";
