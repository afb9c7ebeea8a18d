//! Parts of the name space in the words of patterns, and how cells are put together to them.

use std::{cmp::Ordering, collections::BTreeSet, fmt};

use super::cells::{Area, Cell, Cells, Part};
use crate::host::{HostName, PatternKind};

/// Names that one pattern stands for. In order of the names, all names first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cover {
    /// Every name there is.
    Everything,
    /// The name itself.
    Exact(HostName),
    /// One or more labels below the name.
    Below(HostName),
    /// The name and everything below it.
    Both(HostName),
    /// Every name that ends in this text, also inside a label.
    Suffix(HostName),
}

/// Names that one pattern stands for, less those of a few others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Region {
    /// What it covers at most.
    pub cover: Cover,
    /// What of that it leaves out; each lies within the cover.
    pub except: Vec<Cover>,
}

impl Cover {
    /// Whether `host` is one of the names.
    #[must_use]
    pub fn contains(&self, host: &HostName) -> bool {
        match self {
            Self::Everything => true,
            Self::Exact(name) => PatternKind::Exact.holds(name, host),
            Self::Below(name) => PatternKind::Below.holds(name, host),
            Self::Both(name) => PatternKind::Both.holds(name, host),
            Self::Suffix(name) => PatternKind::Suffix.holds(name, host),
        }
    }

    /// As documents write it; `*` for every name, which no document may write.
    #[must_use]
    pub fn pattern(&self) -> String {
        match self {
            Self::Everything => "*".to_owned(),
            Self::Exact(name) => name.to_string(),
            Self::Below(name) => format!("*.{name}"),
            Self::Both(name) => format!(".{name}"),
            Self::Suffix(name) => format!("*{name}"),
        }
    }
}

impl Cover {
    /// The name it is told by, and the place of the shape among those of one name.
    fn rank(&self) -> (Option<&HostName>, u8) {
        match self {
            Self::Everything => (None, 0),
            Self::Exact(name) => (Some(name), 0),
            Self::Below(name) => (Some(name), 1),
            Self::Both(name) => (Some(name), 2),
            Self::Suffix(name) => (Some(name), 3),
        }
    }
}

impl PartialOrd for Cover {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Cover {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl fmt::Display for Cover {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => write!(formatter, "every host"),
            Self::Exact(name) => write!(formatter, "{name}"),
            Self::Below(name) => write!(formatter, "everything below {name}"),
            Self::Both(name) => write!(formatter, "{name} and everything below it"),
            Self::Suffix(name) => write!(formatter, "every name ending in {name}"),
        }
    }
}

impl Region {
    /// Whether `host` is one of the names.
    #[must_use]
    pub fn contains(&self, host: &HostName) -> bool {
        self.cover.contains(host) && !self.except.iter().any(|except| except.contains(host))
    }
}

/// The regions that hold exactly the names of `members`.
pub(super) fn regions(cells: &Cells, members: &BTreeSet<Cell>) -> Vec<Region> {
    let mut marked = BTreeSet::new();
    for member in members {
        let mut at = Some(member.area);
        while let Some(area) = at.filter(|area| marked.insert(*area)) {
            at = cells.area(area).and_then(|area| area.parent);
        }
    }
    let mut painter = Painter { cells, members, marked, regions: Vec::new() };
    painter.paint(0, None);
    painter.regions.iter_mut().for_each(|region| region.except.sort_unstable());
    painter.regions
}

/// Walks the areas, outside or inside the region that was begun last on the way down.
struct Painter<'c> {
    cells: &'c Cells,
    members: &'c BTreeSet<Cell>,
    /// Areas that hold a member.
    marked: BTreeSet<usize>,
    regions: Vec<Region>,
}

impl Painter<'_> {
    fn paint(&mut self, index: usize, inside: Option<usize>) {
        if inside.is_none() && !self.marked.contains(&index) {
            return;
        }
        let Some(area) = self.cells.area(index) else { return };
        let member = |part| self.members.contains(&Cell { area: index, part });
        let apex = area.apex.as_ref().map(|_| member(Part::Apex));
        let rest = area.rest.as_ref().map(|_| member(Part::Rest));
        let inside = match inside {
            Some(region) => {
                let left_out = cover(area, apex == Some(false), rest == Some(false));
                if let (Some(left_out), Some(region)) = (left_out, self.regions.get_mut(region)) {
                    region.except.push(left_out);
                }
                (rest != Some(false)).then_some(region)
            }
            None => cover(area, apex == Some(true), rest == Some(true)).and_then(|cover| {
                self.regions.push(Region { cover, except: Vec::new() });
                (rest == Some(true)).then_some(self.regions.len() - 1)
            }),
        };
        for child in &area.children {
            self.paint(*child, inside);
        }
    }
}

/// The cover of the parts of `area` that are meant, with everything within.
fn cover(area: &Area, apex: bool, rest: bool) -> Option<Cover> {
    match (&area.apex, apex, rest) {
        (_, false, false) => None,
        (None, _, true) => Some(area.cover.clone()),
        (None, true, false) => None,
        (Some(_), true, true) => Some(area.cover.clone()),
        (Some(name), true, false) => Some(Cover::Exact(name.clone())),
        (Some(name), false, true) => Some(Cover::Below(name.clone())),
    }
}
