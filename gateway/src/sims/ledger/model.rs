//! The ledger beside a naive oracle: a small network whose messages come late, twice, in any order
//! or never. The oracle sorts all that has come so far by time and plays it from the start.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::sims::{claim::CLAIMS_MAX, prefix::Prefix};

/// One message as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Message {
    at: u32,
    nas: usize,
    word: Word,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Said { kind: Kind, session: u64, sim: u32, address: u32 },
    Restarted,
}

const NAS: [&str; 2] = ["pgw-1", "pgw-2"];
const ADDRESSES: u32 = 3;
const NOW: Seconds = Seconds(100_000);

/// What a network of two NAS and a pool that is too small sends, in the order it happens.
fn network(mut draw: impl FnMut(usize) -> usize) -> Vec<Message> {
    let mut held: BTreeMap<u32, (usize, u64, u32)> = BTreeMap::new();
    let (mut log, mut next) = (Vec::new(), 1);
    let mut sessions = [0; ADDRESSES as usize];
    for step in 0..60 {
        let at = 1_000 + step * 10;
        let address = u32::try_from(draw(3)).unwrap();
        let said = |kind, (nas, session, sim)| Message {
            at,
            nas,
            word: Word::Said { kind, session, sim, address },
        };
        match draw(8) {
            0 => {
                let nas = draw(2);
                held.retain(|_, (of, _, _)| *of != nas);
                log.push(Message { at, nas, word: Word::Restarted });
            }
            1 | 2 => log.extend(held.get(&address).map(|session| said(Kind::Interim, *session))),
            3 => log.extend(held.remove(&address).map(|session| said(Kind::Stop, session))),
            // More than are remembered for one address do not come within the time they are.
            _ if sessions[address as usize] == CLAIMS_MAX => {}
            _ => {
                sessions[address as usize] += 1;
                // The address goes to another SIM within the second.
                log.extend(held.remove(&address).map(|session| said(Kind::Stop, session)));
                let session = (draw(2), next, u32::try_from(draw(5)).unwrap());
                next += 1;
                held.insert(address, session);
                log.push(said(Kind::Start, session));
            }
        }
    }
    log
}

/// By session: the gateway that told it, and when it last did.
type Sessions = BTreeMap<u64, (usize, u32)>;

/// Who has each address after these messages, played in the order they were sent.
///
/// A SIM that has an address by two sessions keeps it until both have ended.
fn oracle(delivered: &[(usize, Message)]) -> BTreeMap<u32, u32> {
    let mut sorted = delivered.to_vec();
    sorted.sort_by_key(|(place, _)| *place);
    sorted.dedup();
    let mut owners: BTreeMap<u32, (u32, Sessions)> = BTreeMap::new();
    for (_, Message { at, nas, word }) in sorted {
        match word {
            Word::Restarted => {
                for (_, sessions) in owners.values_mut() {
                    sessions.retain(|_, (of, last)| *of != nas || *last >= at);
                }
            }
            Word::Said { kind: Kind::Stop, session, address, .. } => {
                if let Some((_, sessions)) = owners.get_mut(&address) {
                    sessions.remove(&session);
                }
            }
            Word::Said { session, sim, address, .. } => {
                let (owner, sessions) = owners.entry(address).or_default();
                if *owner != sim {
                    sessions.clear();
                }
                *owner = sim;
                sessions.insert(session, (nas, at));
            }
        }
    }
    owners.retain(|_, (_, sessions)| !sessions.is_empty());
    owners.into_iter().map(|(address, (sim, _))| (address, sim)).collect()
}

fn prefix(address: u32) -> Prefix {
    Prefix::of(std::net::Ipv4Addr::from_bits(0x6440_0001 + address).into())
}

fn imsi(sim: u32) -> Identities {
    SimId::parse(&format!("imsi:00101{sim:010}")).unwrap().into()
}

fn deliver(ledger: &mut Ledger, Message { at, nas, word }: Message) {
    match word {
        Word::Restarted => ledger.reset(NAS[nas], Seconds(at), NOW).unwrap(),
        Word::Said { kind, session, sim, address } => {
            let record = Record {
                kind,
                nas: NAS[nas],
                session,
                domain: "default",
                prefixes: [prefix(address)].into_iter().collect(),
                identities: imsi(sim),
                apn: None,
                at: Seconds(at),
                lifetime: 0,
            };
            ledger.record(&record, NOW).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn never_the_wrong_sim(seed: u64, lost in 0_usize..4, doubled in 0_usize..4, mixed: bool) {
        let mut state = seed;
        let mut draw = move |bound: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(state >> 33).unwrap() % bound
        };
        let log: Vec<(usize, Message)> = network(&mut draw).into_iter().enumerate().collect();
        let mut arriving: Vec<(usize, Message)> = Vec::new();
        for sent in &log {
            if draw(10) >= lost {
                arriving.push(*sent);
            }
            if draw(10) < doubled {
                arriving.push(*sent);
            }
        }
        if mixed {
            for at in (1..arriving.len()).rev() {
                arriving.swap(at, draw(at + 1));
            }
        } else {
            // Only neighbours overtake each other.
            for at in 1..arriving.len() {
                if draw(2) == 0 {
                    arriving.swap(at - 1, at);
                }
            }
        }
        let mut ledger = Ledger::new(Bounds { bindings: 100, sims: 100 });
        let mut readers: BTreeMap<u32, Identities> = BTreeMap::new();
        for count in 1..=arriving.len() {
            deliver(&mut ledger, arriving[count - 1].1);
            for Turn { place, facts } in ledger.turns() {
                let address = (0..ADDRESSES).find(|at| prefix(*at) == place.prefix).unwrap();
                match facts {
                    Some(facts) => {
                        let who = Identities { imsi: facts.imsi, ..Identities::default() };
                        readers.insert(address, who);
                    }
                    None => drop(readers.remove(&address)),
                }
            }
            let expected = oracle(&arriving[..count]);
            let expected: BTreeMap<u32, Identities> =
                expected.into_iter().map(|(address, sim)| (address, imsi(sim))).collect();
            prop_assert_eq!(&readers, &expected, "after {} messages", count);
        }
    }
}
