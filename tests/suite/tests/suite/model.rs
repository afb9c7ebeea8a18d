//! `decide` and `delta` beside a deliberately dumb reading of the same documents.
//!
//! `POSTERN_MODEL_CASES` is the number of requests, `POSTERN_MODEL_SEED` replays a run.

mod naive;
mod sample;

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

use policy::{
    Change, Channel, Delta, HostName, Iccid, Identity, Imsi, Policy, ReachChange, Severity,
    SimState, Source, Subject, Subscriber, compile, decide, delta,
};

use naive::{Facts, Reading, Who};
use sample::{Ask, Dice, asks, documents};

/// Requests asked of one pair of documents.
const ASKED_OF_A_PAIR: u64 = 250;

const DEFAULT_CASES: u64 = 60_000;

#[test]
fn decide_and_delta_agree_with_the_naive_reading() {
    let number = |name: &str| -> Option<u64> {
        std::env::var_os(name).map(|value| value.to_str().unwrap().parse().unwrap())
    };
    let cases = number("POSTERN_MODEL_CASES").unwrap_or(DEFAULT_CASES);
    let seed = number("POSTERN_MODEL_SEED").unwrap_or_else(|| RandomState::new().hash_one(0));
    println!("POSTERN_MODEL_SEED={seed} POSTERN_MODEL_CASES={cases}");
    let pairs = cases.div_ceil(ASKED_OF_A_PAIR);
    let (next, differing) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, Into::into) {
            scope.spawn(|| {
                loop {
                    let pair = next.fetch_add(1, Ordering::Relaxed);
                    if pair >= pairs {
                        return;
                    }
                    differing.fetch_add(check_pair(seed, pair), Ordering::Relaxed);
                }
            });
        }
    });
    let (asked, differing) = (pairs * ASKED_OF_A_PAIR, differing.into_inner());
    println!("{asked} requests of {pairs} pairs of policies, {differing} with another verdict");
    // A model that hardly ever sees a difference would prove nothing about differences.
    assert!(differing > asked / 100, "only {differing} of {asked} requests differ");
}

/// Asks one pair of documents; how many requests change their verdict.
fn check_pair(seed: u64, pair: u64) -> u64 {
    let mut dice = Dice::new(seed, pair);
    let (old, new, now) = documents(&mut dice);
    let place = format!("seed {seed}, pair {pair}, at {now}");
    let (readings, policies) = (
        [&old, &new].map(|text| Reading::of(text)),
        [&old, &new].map(|text| compiled(text, &place)),
    );
    let [before, after] = &policies;
    let delta = delta(before, after, now.parse().unwrap());
    let mut differing = 0;
    let mut seen = false;
    for _ in 0..ASKED_OF_A_PAIR {
        let ask = asks(&mut dice);
        let case = || format!("{place}: {ask:?}\n--- old\n{old}\n--- new\n{new}");
        let naive = readings.each_ref().map(|reading| reading.decide(&ask, now));
        let ours = policies.each_ref().map(|policy| verdict(policy, &ask, now));
        assert_eq!(ours, naive.each_ref().map(|(verdict, _)| *verdict), "{}", case());
        let [(was, from), (is, to)] = naive;
        let rows = rows(&delta, &ask, from.as_deref(), to.as_deref())
            .unwrap_or_else(|said| panic!("{said}\n{}", case()));
        let host = HostName::parse(&ask.host).unwrap();
        let told: Vec<&Change> = rows
            .iter()
            .filter(|row| row.change.is_of_verdict() && row.covers(&host, ask.channel, ask.port))
            .map(|row| &row.change)
            .collect();
        let expected = match (was, is) {
            ("deny", "allow" | "observe") => vec![&Change::Opens],
            ("allow" | "observe", "deny") => vec![&Change::Closes],
            ("allow", "observe") => vec![&Change::Observed],
            ("observe", "allow") => vec![&Change::Listed],
            _ => Vec::new(),
        };
        assert_eq!(told, expected, "{}", case());
        if was != is {
            differing += 1;
        }
        seen |= was != is || from != to;
    }
    assert!(!(seen && delta.is_equal()), "{place}: a difference between equals");
    differing
}

/// The rows that speak of the request: those of the class, or of the move between two classes.
fn rows<'d>(
    delta: &'d Delta,
    ask: &Ask,
    from: Option<&str>,
    to: Option<&str>,
) -> Result<&'d [ReachChange], String> {
    let facts = match &ask.who {
        Who::Class(_) => None,
        Who::Facts(facts) => Some(facts),
    };
    let groups: Vec<_> = facts.map_or_else(Vec::new, |facts| {
        let subscriber = subscriber(facts);
        let moves = delta.moves().expect("few match entries");
        let groups =
            moves.iter().flat_map(|moved| moved.who.iter().map(move |group| (moved, group)));
        groups.filter(|(_, group)| group.holds(&subscriber)).map(|(moved, _)| moved).collect()
    });
    let name = match &ask.who {
        Who::Class(name) => Some(name.as_str()),
        Who::Facts(_) if from == to => from,
        Who::Facts(_) => {
            return match groups[..] {
                [moved] if moved.from.as_deref() == from && moved.to.as_deref() == to => {
                    Ok(&moved.changes)
                }
                _ => Err(format!("from {from:?} to {to:?}, but the delta says {groups:?}")),
            };
        }
    };
    if !groups.is_empty() {
        return Err(format!("stays in {from:?}, but the delta says {groups:?}"));
    }
    let class = delta.classes().iter().find(|class| Some(&*class.name) == name);
    Ok(class.map_or(&[], |class| &class.changes))
}

fn compiled(text: &str, place: &str) -> Policy {
    let source = Source { name: "policy.toml", text };
    match compile(&source, jiff::civil::date(2026, 11, 23)) {
        Ok(compiled) => compiled.policy,
        Err(mut found) => {
            found.retain(|found| found.severity == Severity::Error);
            panic!("{place}: {found:#?}\n{text}")
        }
    }
}

fn verdict(policy: &Policy, ask: &Ask, now: &str) -> &'static str {
    let host = HostName::parse(&ask.host).unwrap();
    let request = ask.channel.request(&host, ask.port);
    let now = now.parse().unwrap();
    let decision = match &ask.who {
        Who::Class(name) => decide(policy, Subject::Class(name), request, now),
        Who::Facts(facts) => decide(policy, Subject::Subscriber(&subscriber(facts)), request, now),
    };
    decision.verdict().label()
}

fn subscriber(facts: &Facts) -> Subscriber {
    let Facts { address, iccid, imsi, apn, state } = facts;
    let mut subscriber = address
        .map_or_else(Subscriber::default, |address| Subscriber::at(address.parse().unwrap()));
    if let Some(iccid) = iccid {
        subscriber = subscriber.with_iccid(Iccid::parse(iccid).unwrap());
    }
    if let Some(imsi) = imsi {
        subscriber = subscriber.with_imsi(Imsi::parse(imsi).unwrap());
    }
    if let Some(apn) = apn {
        subscriber = subscriber.with_apn(policy::Apn::new(apn));
    }
    if let Some(state) = state {
        let state = SimState::from_label(state).unwrap();
        subscriber = subscriber.with_state(state);
    }
    subscriber
}

#[test]
fn channels_are_those_the_naive_reading_knows() {
    let labels = Channel::ALL.map(Channel::label);
    assert_eq!(labels, ["dns", "http", "https", "quic", "tcp"]);
}
