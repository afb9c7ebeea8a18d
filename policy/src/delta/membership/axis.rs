//! The five things that can be known of a subscriber, each as points on a line.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Subnets, Ipv6Subnets};

use crate::{
    class::Subscriber,
    policy::Policy,
    sim::{self, Identity, SimState},
};

/// One thing that is asked of a subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The key, as documents write it.
    pub key: &'static str,
    /// Whether the fact must be known and lie in `values`; otherwise it must not lie there, be it
    /// known or not.
    pub within: bool,
    /// The values. Empty: the fact is not known, or, outside of none, known.
    pub values: Vec<String>,
}

/// Points of one axis: what may be known, in order and without overlap, and whether it may be
/// unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Points {
    spans: Vec<(u128, u128)>,
    unknown: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Axis {
    Address,
    Iccid,
    Imsi,
    Apn,
    State,
}

/// What the axes of two policies have in common: access points count by their place in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Axes {
    apns: Vec<Box<str>>,
}

pub(super) const AXES: usize = 5;

/// Where IPv6 maps IPv4.
pub(super) const MAPPED: (u128, u128) = (0xffff_0000_0000, 0xffff_ffff_ffff);

impl Points {
    pub(super) fn known(spans: impl IntoIterator<Item = (u128, u128)>) -> Self {
        Self::default().with(spans)
    }

    pub(super) fn with(self, more: impl IntoIterator<Item = (u128, u128)>) -> Self {
        let mut all: Vec<(u128, u128)> = self.spans.into_iter().chain(more).collect();
        all.sort_unstable();
        let mut spans: Vec<(u128, u128)> = Vec::new();
        for (first, last) in all {
            match spans.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                Some(_) | None => spans.push((first, last)),
            }
        }
        Self { spans, unknown: self.unknown }
    }

    fn all(last: u128) -> Self {
        Self { spans: vec![(0, last)], unknown: true }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.spans.is_empty() && !self.unknown
    }

    pub(super) fn contains(&self, fact: Option<u128>) -> bool {
        fact.map_or(self.unknown, |at| {
            self.spans.iter().any(|(first, last)| (*first..=*last).contains(&at))
        })
    }

    pub(super) fn meet(&self, other: &Self) -> Self {
        let mut spans = Vec::new();
        let (mut left, mut right) = (self.spans.iter().peekable(), other.spans.iter().peekable());
        while let (Some((start, end)), Some((from, to))) = (left.peek(), right.peek()) {
            let (first, last) = (*start.max(from), *end.min(to));
            if first <= last {
                spans.push((first, last));
            }
            if end < to {
                left.next();
            } else {
                right.next();
            }
        }
        Self { spans, unknown: self.unknown && other.unknown }
    }

    pub(super) fn without(&self, other: &Self) -> Self {
        let mut gaps = Vec::new();
        let mut from = Some(0);
        for (first, last) in &other.spans {
            if let (Some(from), Some(before)) = (from, first.checked_sub(1))
                && from <= before
            {
                gaps.push((from, before));
            }
            from = last.checked_add(1);
        }
        gaps.extend(from.map(|from| (from, u128::MAX)));
        self.meet(&Self { spans: gaps, unknown: !other.unknown })
    }
}

impl Axes {
    pub(super) fn of(old: &Policy, new: &Policy) -> Self {
        let classes = old.classes().iter().chain(new.classes());
        let entries = classes.flat_map(|class| &class.matches);
        let mut apns: Vec<Box<str>> =
            entries.filter_map(|entry| entry.apn.as_ref()).flatten().cloned().collect();
        apns.sort_unstable();
        apns.dedup();
        Self { apns }
    }

    /// The place of an access point; every one that no policy names is behind the last.
    pub(super) fn apn(&self, name: &str) -> u128 {
        let at = self.apns.binary_search_by(|known| (**known).cmp(name));
        at.unwrap_or(self.apns.len()).try_into().unwrap_or(u128::MAX)
    }

    pub(super) fn whole(&self) -> [Points; AXES] {
        Axis::ALL.map(|axis| Points::all(self.last(axis)))
    }

    fn last(&self, axis: Axis) -> u128 {
        match axis {
            Axis::Address | Axis::Iccid | Axis::Imsi => u128::MAX,
            Axis::Apn => self.apns.len().try_into().unwrap_or(u128::MAX),
            Axis::State => 3,
        }
    }

    pub(super) fn facts(&self, subscriber: &Subscriber) -> [Option<u128>; AXES] {
        Axis::ALL.map(|axis| match axis {
            Axis::Address => subscriber.address.map(|address| match address {
                IpAddr::V4(address) => mapped(address),
                IpAddr::V6(address) => address.to_bits(),
            }),
            Axis::Iccid => subscriber.iccid.map(Identity::ordinal),
            Axis::Imsi => subscriber.imsi.map(Identity::ordinal),
            Axis::Apn => subscriber.apn.as_deref().map(|name| self.apn(name)),
            Axis::State => subscriber.state.map(state),
        })
    }

    pub(super) fn conditions(&self, points: &[Points; AXES]) -> Vec<Condition> {
        let asked = Axis::ALL.into_iter().zip(points);
        asked
            .filter(|(axis, points)| **points != Points::all(self.last(*axis)))
            .map(|(axis, points)| {
                let all = Points::all(self.last(axis));
                let outside = all.without(points);
                let (within, told) = match (points.unknown, points.spans.is_empty()) {
                    (true, true) => (true, &[][..]),
                    (false, _) if points.spans == all.spans => (false, &[][..]),
                    (false, _) => (true, &*points.spans),
                    (true, false) => (false, &*outside.spans),
                };
                let values = told.iter().flat_map(|span| self.tell(axis, *span)).collect();
                Condition { key: axis.key(), within, values }
            })
            .collect()
    }

    fn tell(&self, axis: Axis, (first, last): (u128, u128)) -> Vec<String> {
        let list = |names: &dyn Fn(usize) -> Option<String>| -> Vec<String> {
            (first..=last).filter_map(|at| names(usize::try_from(at).ok()?)).collect()
        };
        match axis {
            Axis::Address => ranges(first, last),
            Axis::Iccid | Axis::Imsi => vec![sims(first, last)],
            Axis::Apn => list(&|at| match self.apns.get(at) {
                Some(name) => Some(name.to_string()),
                None => Some("any other".to_owned()),
            }),
            Axis::State => list(&|at| SimState::ALL.get(at).map(|state| state.label().to_owned())),
        }
    }
}

/// A range of identities by the last digits of its ends.
fn sims(first: u128, last: u128) -> String {
    let count = last.saturating_sub(first).saturating_add(1);
    if count == 1 {
        return sim::hint(first);
    }
    format!("{} to {} ({count} SIMs)", sim::hint(first), sim::hint(last))
}

/// A range of addresses as networks where one says it all, else by its ends.
fn ranges(first: u128, last: u128) -> Vec<String> {
    let (low, high) = MAPPED;
    let mut told = Vec::new();
    if first < low {
        told.push(range_v6(first.into(), last.min(low - 1).into()));
    }
    if first <= high && last >= low {
        let address = |bits: u128| Ipv4Addr::from_bits((bits - low).try_into().unwrap_or(u32::MAX));
        let (first, last) = (address(first.max(low)), address(last.min(high)));
        let mut networks = Ipv4Subnets::new(first, last, 0);
        told.push(match (networks.next(), networks.next()) {
            (Some(network), None) => network.to_string(),
            _ => format!("{first}-{last}"),
        });
    }
    if last > high {
        told.push(range_v6(first.max(high + 1).into(), last.into()));
    }
    told
}

fn range_v6(first: Ipv6Addr, last: Ipv6Addr) -> String {
    let mut networks = Ipv6Subnets::new(first, last, 0);
    match (networks.next(), networks.next()) {
        (Some(network), None) => network.to_string(),
        _ => format!("{first}-{last}"),
    }
}

pub(super) fn mapped(address: Ipv4Addr) -> u128 {
    address.to_ipv6_mapped().to_bits()
}

pub(super) fn state(state: SimState) -> u128 {
    match state {
        SimState::Active => 0,
        SimState::Barred => 1,
        SimState::Exhausted => 2,
        SimState::Unprovisioned => 3,
    }
}

impl Axis {
    pub(super) const ALL: [Self; AXES] =
        [Self::Address, Self::Iccid, Self::Imsi, Self::Apn, Self::State];

    pub(super) fn index(self) -> usize {
        match self {
            Self::Address => 0,
            Self::Iccid => 1,
            Self::Imsi => 2,
            Self::Apn => 3,
            Self::State => 4,
        }
    }

    fn key(self) -> &'static str {
        match self {
            Self::Address => "networks",
            Self::Iccid => "iccid",
            Self::Imsi => "imsi",
            Self::Apn => "apn",
            Self::State => "state",
        }
    }
}
