//! Sets of ports that may leave nearly all of them in.

use std::{collections::BTreeSet, fmt};

/// Ports, told by the few that matter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ports {
    /// These.
    Only(BTreeSet<u16>),
    /// All but these.
    Except(BTreeSet<u16>),
}

impl Ports {
    /// Whether `port` is one of them.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        match self {
            Self::Only(ports) => ports.contains(&port),
            Self::Except(ports) => !ports.contains(&port),
        }
    }

    /// Of the ports that matter, `listed`, and one that stands for all the others, those for which
    /// `holds`.
    pub(super) fn that(listed: &BTreeSet<u16>, holds: impl Fn(u16) -> bool) -> Option<Self> {
        let chosen: BTreeSet<u16> = listed.iter().copied().filter(|port| holds(*port)).collect();
        match other(listed) {
            Some(port) if holds(port) => {
                Some(Self::Except(listed.difference(&chosen).copied().collect()))
            }
            Some(_) | None => (!chosen.is_empty()).then_some(Self::Only(chosen)),
        }
    }
}

/// The port that stands for all that are not `listed`; `None` if they all are.
pub(super) fn other(listed: &BTreeSet<u16>) -> Option<u16> {
    (1..=u16::MAX).find(|port| !listed.contains(port))
}

impl fmt::Display for Ports {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list =
            |ports: &BTreeSet<u16>| ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Self::Only(ports) => formatter.write_str(&list(ports)),
            Self::Except(ports) if ports.is_empty() => formatter.write_str("every port"),
            Self::Except(ports) => write!(formatter, "every port but {}", list(ports)),
        }
    }
}
