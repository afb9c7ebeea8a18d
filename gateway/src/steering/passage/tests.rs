//! The sets against `class_of`, address by address, after any sequence of changes.

use std::collections::BTreeSet;

use jiff::civil::date;
use policy::{Iccid, Identity, SimState, Source, compile};
use proptest::prelude::*;

use super::*;

/// Networks of every kind, and SIMs that are judged otherwise than their addresses.
const POLICY: &str = r#"
schema = 1
name = "t"
serial = 1
environment = "lab"
default_class = "rest"
[http]
denied = "close"
[[class]]
name = "barred"
priority = 1
action = "drop"
[[class.match]]
state = ["barred"]
[[class]]
name = "paid"
priority = 2
action = "open"
[[class.match]]
state = ["active"]
[[class]]
name = "new"
priority = 3
action = "garden"
[[class.match]]
state = ["unprovisioned"]
[[class]]
name = "watched"
priority = 4
action = "observe"
[[class.match]]
state = ["exhausted"]
[[class.match]]
networks = ["100.64.0.4/30", "2001:db8:0:8::/62"]
[[class]]
name = "staff"
priority = 5
action = "open"
[[class.match]]
networks = ["100.64.0.0/29", "2001:db8::/60"]
[[class]]
name = "rest"
priority = 9
action = "garden"
[[class.match]]
networks = ["100.64.0.0/10", "2001:db8::/32"]
"#;

fn policy() -> Policy {
    compile(&Source { name: "t", text: POLICY }, date(2026, 1, 1)).unwrap().policy
}

/// Sets as the kernel would hold them: elements with their ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sets(BTreeMap<&'static str, BTreeSet<(IpAddr, bool)>>);

impl Sets {
    fn apply(&mut self, edits: &[Edit]) {
        for edit in edits {
            match edit {
                Edit::Flush(set) => self.0.entry(set).or_default().clear(),
                Edit::Add(set, elements) => {
                    let held = self.0.entry(set).or_default();
                    held.extend(elements.iter().map(Element::bound));
                }
                Edit::Remove(set, elements) => {
                    for element in elements {
                        assert!(self.0.entry(set).or_default().remove(&element.bound()), "{set}");
                    }
                }
                Edit::Quota { .. } | Edit::DropQuota(_) => panic!("no grants here"),
            }
        }
    }

    /// What the rules of the table make of a packet from `address`.
    fn passage(&self, address: IpAddr) -> Passage {
        let (family, key) = match address {
            IpAddr::V4(_) => ("4", address),
            IpAddr::V6(v6) => ("6", Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into()),
        };
        let of = |set: &str| self.0.get(format!("{set}{family}").as_str());
        let hashed = |set| of(set).is_some_and(|held| held.contains(&(key, true)));
        let ranged = |set| {
            let last =
                of(set).and_then(|held| held.iter().rev().find(|(bound, _)| *bound <= address));
            last.is_some_and(|(_, begins)| *begins)
        };
        if hashed("sim_open") {
            Passage::Open
        } else if hashed("sim_walled") {
            Passage::Walled
        } else if hashed("sim_watched") {
            Passage::Watched
        } else if ranged("open") {
            Passage::Open
        } else if ranged("watched") {
            Passage::Watched
        } else {
            Passage::Walled
        }
    }
}

fn blocks() -> Vec<IpNet> {
    let v4 = (0..10).map(|host| format!("100.64.0.{host}/32"));
    let v6 = (0..20).map(|net| format!("2001:db8:0:{net:x}::/64"));
    let wide = ["2001:db8::/60", "2001:db8:0:10::/60", "2001:db8::/56", "2001:db8::/48"];
    v4.chain(v6).chain(wide.map(str::to_owned)).map(|text| text.parse().unwrap()).collect()
}

/// Who is behind an address: the SIM of the longest prefix.
fn resident(bound: &BTreeMap<IpNet, SimState>, address: IpAddr) -> Subscriber {
    let longest = bound
        .iter()
        .filter(|(block, _)| block.contains(&address))
        .max_by_key(|(block, _)| block.prefix_len());
    let subscriber = Subscriber::at(address);
    match longest {
        Some((_, state)) => {
            subscriber.with_state(*state).with_iccid(Iccid::parse("8988247000100003319").unwrap())
        }
        None => subscriber,
    }
}

proptest! {
    #[test]
    fn every_address_passes_as_its_class_says(
        changes in proptest::collection::vec(
            (0..blocks().len(), proptest::option::of(0..SimState::ALL.len())),
            0..40,
        ),
    ) {
        let (policy, blocks) = (policy(), blocks());
        let (mut passages, mut sets) = (Passages::default(), Sets::default());
        sets.apply(&passages.everything(&policy));
        let mut bound = BTreeMap::new();
        for (block, state) in changes {
            let block = blocks[block];
            match state {
                Some(state) => bound.insert(block, SimState::ALL[state]),
                None => bound.remove(&block),
            };
            let subscriber = |block: IpNet| {
                let state = bound.get(&block)?;
                Some(Subscriber::at(block.network()).with_state(*state))
            };
            let delegated = passages.delegates();
            let before = passages.note(block, subscriber(block).as_ref(), &policy);
            if passages.delegates() && !delegated {
                for known in bound.keys() {
                    passages.note(*known, subscriber(*known).as_ref(), &policy);
                }
                sets.apply(&passages.everything(&policy));
            } else {
                sets.apply(&passages.edits(&BTreeMap::from([(block, before)]), &policy));
            }
            for block in &blocks {
                for address in [block.network(), block.broadcast()] {
                    let expected = Passage::of(&policy, &resident(&bound, address));
                    prop_assert_eq!(sets.passage(address), expected, "{} {:?}", address, &bound);
                }
            }
        }
        let mut anew = Sets::default();
        anew.apply(&passages.everything(&policy));
        sets.0.retain(|_, elements| !elements.is_empty());
        anew.0.retain(|_, elements| !elements.is_empty());
        prop_assert_eq!(sets, anew);
    }
}

#[test]
fn a_sim_that_its_address_explains_takes_no_room() {
    let (policy, mut passages) = (policy(), Passages::default());
    let block: IpNet = "100.64.9.1/32".parse().unwrap();
    let at = |state| Subscriber::at(block.network()).with_state(state);
    assert_eq!(passages.note(block, Some(&at(SimState::Unprovisioned)), &policy), None);
    assert_eq!(passages.get(block), None);
    assert_eq!(passages.note(block, Some(&at(SimState::Active)), &policy), None);
    assert_eq!(passages.get(block), Some(Passage::Open));
    assert_eq!(passages.note(block, None, &policy), Some(Passage::Open));
    assert!(passages.held.is_empty());
}
