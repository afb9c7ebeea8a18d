//! Who falls in another class than before.
//!
//! What is known of a subscriber is one point on each of five axes, or nothing on some of them. A
//! match entry is a box of such points; the first box that holds a point names the class. So the
//! boxes of either policy are made free of overlap, in order, and laid over each other: no
//! subscriber is left out, and none is sampled.

mod axis;

use ipnet::IpNet;

pub use axis::Condition;
use axis::{AXES, Axes, Axis, Points};

use crate::{
    class::{Class, ClassMatch, Subscriber},
    policy::Policy,
    sim::{Identity, IdentityRange},
};

/// Subscribers of whom the same is known: every condition must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    points: [Points; AXES],
    axes: Axes,
}

/// Subscribers who fall in another class, by the names of the classes; `None` is no class.
#[derive(Debug)]
pub(super) struct Crossing {
    pub(super) from: Option<Box<str>>,
    pub(super) to: Option<Box<str>>,
    pub(super) who: Vec<Group>,
}

/// The subscribers who fall in another class; `None` if the entries of the classes overlap in so
/// many ways that more than [`MAX_BOXES`] would have to be kept apart.
pub(super) fn crossings(old: &Policy, new: &Policy) -> Option<Vec<Crossing>> {
    let axes = Axes::of(old, new);
    let (before, after) = (parts(old, &axes)?, parts(new, &axes)?);
    let mut crossings: Vec<Crossing> = Vec::new();
    let mut kept = 0_usize;
    for (from, one) in &before {
        for (to, other) in after.iter().filter(|(to, _)| from != to) {
            let Some(points) = meet(one, other) else { continue };
            kept += 1;
            if kept > MAX_BOXES {
                return None;
            }
            let group = Group { points, axes: axes.clone() };
            let known = crossings
                .iter_mut()
                .find(|known| known.from.as_deref() == *from && known.to.as_deref() == *to);
            match known {
                Some(known) => known.who.push(group),
                None => crossings.push(Crossing {
                    from: from.map(Into::into),
                    to: to.map(Into::into),
                    who: vec![group],
                }),
            }
        }
    }
    Some(crossings)
}

/// Boxes kept apart at once. Policies in use need a few dozen.
pub(crate) const MAX_BOXES: usize = 20_000;

type Box5 = [Points; AXES];

/// Disjoint boxes that hold every subscriber, with the class each falls in.
fn parts<'p>(policy: &'p Policy, axes: &Axes) -> Option<Vec<(Option<&'p str>, Box5)>> {
    let mut free: Vec<Box5> = vec![axes.whole()];
    let mut parts = Vec::new();
    for (class, claim) in claims(policy, axes) {
        let mut left = Vec::new();
        for piece in free {
            if let Some(taken) = meet(&piece, &claim) {
                parts.push((Some(class), taken));
                without(piece, &claim, &mut left);
            } else {
                left.push(piece);
            }
        }
        free = left;
        if free.len() + parts.len() > MAX_BOXES {
            return None;
        }
    }
    let default = policy.default_class.and_then(|index| policy.classes.get(index));
    let default = default.map(|class| class.name());
    parts.extend(free.into_iter().map(|piece| (default, piece)));
    Some(parts)
}

/// The subscribers an entry holds.
fn claim(entry: &ClassMatch, axes: &Axes) -> Box5 {
    let ClassMatch { networks, iccid, imsi, apn, state, line: _ } = entry;
    let mut claim = axes.whole();
    let mut ask = |axis: Axis, points: Option<Points>| {
        if let (Some(points), Some(slot)) = (points, claim.get_mut(axis.index())) {
            *slot = points;
        }
    };
    ask(Axis::Address, networks.as_deref().map(addresses));
    ask(Axis::Iccid, iccid.as_ref().map(|set| identities(set.ranges())));
    ask(Axis::Imsi, imsi.as_ref().map(|set| identities(set.ranges())));
    ask(
        Axis::Apn,
        apn.as_deref().map(|names| {
            Points::known(names.iter().map(|name| {
                let at = axes.apn(name);
                (at, at)
            }))
        }),
    );
    ask(
        Axis::State,
        state.as_deref().map(|states| {
            Points::known(states.iter().map(|state| {
                let at = axis::state(*state);
                (at, at)
            }))
        }),
    );
    claim
}

fn identities<I: Identity>(ranges: impl Iterator<Item = IdentityRange<I>>) -> Points {
    Points::known(ranges.map(|range| (range.start().ordinal(), range.end().ordinal())))
}

/// The classes' claims, in the order in which they are asked. Among classes of equal priority,
/// those that list a SIM by itself come first.
fn claims<'p>(policy: &'p Policy, axes: &Axes) -> Vec<(&'p str, Box5)> {
    let mut claims = Vec::new();
    for equals in policy.classes().chunk_by(|one, other| one.priority() == other.priority()) {
        let asked =
            |class: &'p Class| class.matches.iter().filter(|entry| entry.keys().next().is_some());
        if equals.len() > 1 {
            for class in equals {
                claims.extend(asked(class).flat_map(|entry| {
                    let iccid = entry
                        .iccid
                        .as_ref()
                        .map(|set| ClassMatch { iccid: Some(set.only_listed()), ..entry.clone() });
                    let imsi = entry
                        .imsi
                        .as_ref()
                        .map(|set| ClassMatch { imsi: Some(set.only_listed()), ..entry.clone() });
                    iccid.into_iter().chain(imsi).map(|entry| (class.name(), claim(&entry, axes)))
                }));
            }
        }
        for class in equals {
            claims.extend(asked(class).map(|entry| (class.name(), claim(entry, axes))));
        }
    }
    claims
}

/// IPv4 lies where IPv6 maps it (RFC 4291 section 2.5.5.2): no IPv6 subscriber is there.
fn addresses(networks: &[IpNet]) -> Points {
    let v6 = Points::known(networks.iter().filter_map(|network| match network {
        IpNet::V6(network) => Some((network.network().to_bits(), network.broadcast().to_bits())),
        IpNet::V4(_) => None,
    }));
    let v4 = networks.iter().filter_map(|network| match network {
        IpNet::V4(network) => {
            Some((axis::mapped(network.network()), axis::mapped(network.broadcast())))
        }
        IpNet::V6(_) => None,
    });
    v6.without(&Points::known([axis::MAPPED])).with(v4)
}

fn meet(one: &Box5, other: &Box5) -> Option<Box5> {
    let mut both = one.clone();
    for (points, other) in both.iter_mut().zip(other) {
        *points = points.meet(other);
        if points.is_empty() {
            return None;
        }
    }
    Some(both)
}

/// Adds what of `piece` lies outside `claim` to `left`, in at most one box an axis.
fn without(mut piece: Box5, claim: &Box5, left: &mut Vec<Box5>) {
    for index in 0..AXES {
        let (Some(points), Some(claimed)) = (piece.get(index), claim.get(index)) else { return };
        let (outside, inside) = (points.without(claimed), points.meet(claimed));
        if !outside.is_empty() {
            let mut apart = piece.clone();
            if let Some(slot) = apart.get_mut(index) {
                *slot = outside;
            }
            left.push(apart);
        }
        if let Some(slot) = piece.get_mut(index) {
            *slot = inside;
        }
    }
}

impl Group {
    /// Whether `subscriber` is one of them.
    #[must_use]
    pub fn holds(&self, subscriber: &Subscriber) -> bool {
        let facts = self.axes.facts(subscriber);
        self.points.iter().zip(facts).all(|(points, fact)| points.contains(fact))
    }

    /// What is asked of them; nothing if everybody is meant. SIMs are told by the last digits.
    #[must_use]
    pub fn conditions(&self) -> Vec<Condition> {
        self.axes.conditions(&self.points)
    }
}
