//! Which addresses fall in which kind of class when nothing but the address is known.
//!
//! The kernel forwards such addresses by itself, so it must be told them as ranges.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{
    class::{Action, Class},
    policy::Policy,
};

/// Addresses from a first to a last, both included, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressRange {
    /// The first address.
    pub first: IpAddr,
    /// The last address.
    pub last: IpAddr,
}

impl Policy {
    /// The addresses whose class has this action, in order and without overlap, if nothing but the
    /// address is known of a subscriber.
    ///
    /// Agrees with [`Policy::class_of`] for such subscribers, address by address.
    #[must_use]
    pub fn territory(&self, action: Action) -> Vec<AddressRange> {
        [Family::V4, Family::V6]
            .into_iter()
            .flat_map(|family| self.territory_of(family, action))
            .collect()
    }

    fn territory_of(&self, family: Family, action: Action) -> Vec<AddressRange> {
        let mut free = vec![family.whole()];
        let mut held = Vec::new();
        let claims = self.classes.iter().map(|class| (class.action(), family.claims(class)));
        let default = self.default_class.and_then(|index| self.classes.get(index));
        let rest = default.map(|class| (class.action(), vec![family.whole()]));
        for (owner, spans) in claims.chain(rest) {
            for span in spans {
                let (taken, left) = split(&free, span);
                free = left;
                if owner == action {
                    held.extend(taken);
                }
            }
        }
        held.sort_unstable();
        held.into_iter().map(|span| family.range(span)).collect()
    }
}

/// Addresses as numbers, both ends included.
type Span = (u128, u128);

#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn whole(self) -> Span {
        match self {
            Self::V4 => (0, u128::from(u32::MAX)),
            Self::V6 => (0, u128::MAX),
        }
    }

    /// The spans of the matches of `class` that an address alone can satisfy.
    fn claims(self, class: &Class) -> Vec<Span> {
        let by_address = class.matches.iter().filter(|entry| {
            entry.iccid.is_none()
                && entry.imsi.is_none()
                && entry.apn.is_none()
                && entry.state.is_none()
        });
        let networks = by_address.filter_map(|entry| entry.networks.as_deref()).flatten();
        networks.filter_map(|network| self.span(network)).collect()
    }

    fn span(self, network: &IpNet) -> Option<Span> {
        match (self, network) {
            (Self::V4, IpNet::V4(network)) => {
                Some((network.network().to_bits().into(), network.broadcast().to_bits().into()))
            }
            (Self::V6, IpNet::V6(network)) => {
                Some((network.network().to_bits(), network.broadcast().to_bits()))
            }
            (Self::V4, IpNet::V6(_)) | (Self::V6, IpNet::V4(_)) => None,
        }
    }

    fn range(self, (first, last): Span) -> AddressRange {
        let address = |bits: u128| match self {
            Self::V4 => IpAddr::V4(u32::try_from(bits).unwrap_or(u32::MAX).into()),
            Self::V6 => IpAddr::V6(bits.into()),
        };
        AddressRange { first: address(first), last: address(last) }
    }
}

/// What of `free` lies in `span`, and what does not.
fn split(free: &[Span], (first, last): Span) -> (Vec<Span>, Vec<Span>) {
    let (mut taken, mut left) = (Vec::new(), Vec::new());
    for &(start, end) in free {
        let (from, to) = (start.max(first), end.min(last));
        if from > to {
            left.push((start, end));
            continue;
        }
        taken.push((from, to));
        if start < from {
            left.push((start, from - 1));
        }
        if to < end {
            left.push((to + 1, end));
        }
    }
    (taken, left)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Source, Subject, Subscriber, compile};

    const ACTIONS: [Action; 4] = [Action::Drop, Action::Garden, Action::Observe, Action::Open];

    fn policy(classes: &[(Action, Vec<String>)]) -> Policy {
        let mut text = String::from(
            "schema = 1\nname = \"t\"\nserial = 1\nenvironment = \"lab\"\ndefault_class = \"rest\"\n\
             [http]\ndenied = \"close\"\n[[class]]\nname = \"rest\"\npriority = 999\naction = \"garden\"\n",
        );
        for (index, (action, networks)) in classes.iter().enumerate() {
            text.push_str(&format!(
                "[[class]]\nname = \"c{index}\"\npriority = {index}\naction = \"{}\"\n[[class.match]]\nnetworks = {networks:?}\n",
                action.label()
            ));
        }
        compile(&Source { name: "t", text: &text }, jiff::civil::date(2026, 1, 1)).unwrap().policy
    }

    proptest! {
        #[test]
        fn agrees_with_the_class_of_every_address(
            classes in proptest::collection::vec(
                (
                    proptest::sample::select(&ACTIONS[..]),
                    proptest::collection::vec((0_u32..16, 28_u8..=32), 1..3),
                    proptest::collection::vec((0_u32..16, 124_u8..=128), 0..3),
                ),
                0..5,
            ),
        ) {
            let classes: Vec<(Action, Vec<String>)> = classes
                .into_iter()
                .map(|(action, v4, v6)| {
                    let v4 = v4.into_iter().map(|(host, prefix)| {
                        ipnet::Ipv4Net::new((0x6440_0000 + host).into(), prefix).unwrap().trunc().to_string()
                    });
                    let v6 = v6.into_iter().map(|(host, prefix)| {
                        let address = std::net::Ipv6Addr::from_bits((0x2001_0db8 << 96) + u128::from(host));
                        ipnet::Ipv6Net::new(address, prefix).unwrap().trunc().to_string()
                    });
                    (action, v4.chain(v6).collect())
                })
                .collect();
            let policy = policy(&classes);
            let v4 = (0..18_u32).map(|host| IpAddr::V4((0x6440_0000 + host).into()));
            let v6 = (0..18_u128).map(|host| IpAddr::V6(((0x2001_0db8 << 96) + host).into()));
            for address in v4.chain(v6) {
                let subscriber = Subscriber::at(address);
                let class = policy.class_of(Subject::Subscriber(&subscriber)).unwrap();
                for action in ACTIONS {
                    let inside = policy
                        .territory(action)
                        .iter()
                        .filter(|range| range.first.is_ipv4() == address.is_ipv4())
                        .filter(|range| (range.first..=range.last).contains(&address))
                        .count();
                    prop_assert_eq!(inside, usize::from(class.action() == action), "{} {:?}", address, action);
                }
            }
        }
    }
}
