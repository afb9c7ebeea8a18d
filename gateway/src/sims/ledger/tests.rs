use policy::{Identity, Imsi};

use super::*;
use crate::sims::prefix::Prefix;

fn imsi(number: u32) -> Identities {
    SimId::Imsi(Imsi::parse(&format!("00101{number:010}")).unwrap()).into()
}

fn prefix(text: &str) -> Prefix {
    Prefix::new(text.parse().unwrap()).unwrap()
}

fn record(kind: Kind, session: u64, prefixes: &[&str], at: u32) -> Record<'static> {
    Record {
        kind,
        nas: "pgw-1",
        session,
        domain: "default",
        prefixes: prefixes.iter().map(|text| prefix(text)).collect(),
        identities: imsi(u32::try_from(session).unwrap()),
        apn: None,
        at: Seconds(at),
        lifetime: 0,
    }
}

fn ledger() -> Ledger {
    Ledger::new(Bounds { bindings: 100, sims: 100 })
}

/// The IMSI's last digits behind a place, from what readers were told.
struct Readers(std::collections::HashMap<Place, Facts>);

impl Readers {
    fn follow(&mut self, ledger: &mut Ledger) {
        for Turn { place, facts } in ledger.turns() {
            match facts {
                Some(facts) => self.0.insert(place, facts),
                None => self.0.remove(&place),
            };
        }
    }

    fn who(&self, text: &str) -> Option<Identities> {
        let facts = self.0.get(&Place { domain: 0, prefix: prefix(text) })?;
        Some(Identities { iccid: facts.iccid, imsi: facts.imsi, msisdn: None })
    }
}

fn readers() -> Readers {
    Readers(std::collections::HashMap::new())
}

const NOW: Seconds = Seconds(10_000);

#[test]
fn a_stop_takes_all_addresses_of_its_session_and_no_other() {
    let (mut ledger, mut readers) = (ledger(), readers());
    ledger.record(&record(Kind::Start, 1, &["100.64.0.1/32"], 100), NOW).unwrap();
    ledger.record(&record(Kind::Interim, 1, &["2001:db8:1:2::/64"], 110), NOW).unwrap();
    ledger.record(&record(Kind::Start, 2, &["100.64.0.1/32"], 200), NOW).unwrap();
    readers.follow(&mut ledger);
    assert_eq!(readers.who("2001:db8:1:2::/64"), Some(imsi(1)));
    ledger.record(&record(Kind::Stop, 1, &[], 150), NOW).unwrap();
    readers.follow(&mut ledger);
    assert_eq!(
        (readers.who("100.64.0.1/32"), readers.who("2001:db8:1:2::/64")),
        (Some(imsi(2)), None)
    );
}

#[test]
fn a_restarted_nas_loses_its_bindings_and_no_other_s() {
    let (mut ledger, mut readers) = (ledger(), readers());
    ledger.record(&record(Kind::Start, 1, &["100.64.0.1/32"], 100), NOW).unwrap();
    let other = Record { nas: "pgw-2", ..record(Kind::Start, 2, &["100.64.0.2/32"], 100) };
    ledger.record(&other, NOW).unwrap();
    ledger.reset("pgw-1", Seconds(150), NOW).unwrap();
    readers.follow(&mut ledger);
    assert_eq!((readers.who("100.64.0.1/32"), readers.who("100.64.0.2/32")), (None, Some(imsi(2))));
    // The same news again is no news.
    ledger.reset("pgw-1", Seconds(150), NOW).unwrap();
    assert!(ledger.turns().is_empty());
    ledger.record(&record(Kind::Start, 1, &["100.64.0.1/32"], 160), NOW).unwrap();
    readers.follow(&mut ledger);
    assert_eq!(readers.who("100.64.0.1/32"), Some(imsi(1)));
}

#[test]
fn a_time_to_come_outranks_nothing() {
    let (mut ledger, mut readers) = (ledger(), readers());
    ledger.record(&record(Kind::Start, 1, &["100.64.0.1/32"], 90_000), NOW).unwrap();
    ledger
        .record(&record(Kind::Start, 2, &["100.64.0.1/32"], NOW.0 + 1), Seconds(NOW.0 + 1))
        .unwrap();
    readers.follow(&mut ledger);
    assert_eq!(readers.who("100.64.0.1/32"), Some(imsi(2)));
}

#[test]
fn states_follow_the_sim_over_its_addresses() {
    let (mut ledger, mut readers) = (ledger(), readers());
    let id = imsi(1).primary().unwrap();
    ledger.set_state(id, SimState::Active, Source::Api, 1).unwrap();
    ledger
        .record(&record(Kind::Start, 1, &["100.64.0.1/32", "2001:db8:1:2::/64"], 100), NOW)
        .unwrap();
    readers.follow(&mut ledger);
    let states = |readers: &Readers| -> Vec<Option<SimState>> {
        readers.0.values().map(|facts| facts.state).collect()
    };
    assert_eq!(states(&readers), [Some(SimState::Active); 2]);
    let change = ledger.set_state(id, SimState::Exhausted, Source::Api, 2).unwrap();
    assert_eq!((change.before, change.addresses), (Some(SimState::Active), 2));
    readers.follow(&mut ledger);
    assert_eq!(states(&readers), [Some(SimState::Exhausted); 2]);
    // What another node knew before is no news; what it knew after is.
    assert_eq!(ledger.merge_state(imsi(1), SimState::Active, Source::Store, 2), Ok(false));
    assert_eq!(ledger.merge_state(imsi(1), SimState::Active, Source::Store, 3), Ok(true));
    readers.follow(&mut ledger);
    assert_eq!(states(&readers), [Some(SimState::Active); 2]);
}

#[test]
fn a_mapping_reaches_bindings_that_were_there_before() {
    let (mut ledger, mut readers) = (ledger(), readers());
    ledger.record(&record(Kind::Start, 1, &["100.64.0.1/32"], 100), NOW).unwrap();
    let iccid = SimId::parse("iccid:8988247000100003319").unwrap();
    ledger.set_state(iccid, SimState::Active, Source::Api, 1).unwrap();
    ledger.learn(imsi(1).or(iccid.into())).unwrap();
    readers.follow(&mut ledger);
    let facts = readers.0.values().next().unwrap();
    assert_eq!((facts.iccid.map(SimId::Iccid), facts.state), (Some(iccid), Some(SimState::Active)));
}

#[test]
fn two_records_of_one_sim_become_one_with_all_addresses() {
    let (mut ledger, mut readers) = (ledger(), readers());
    let iccid = SimId::parse("iccid:8988247000100003319").unwrap();
    ledger.record(&record(Kind::Start, 1, &["100.64.0.1/32"], 100), NOW).unwrap();
    let ordered =
        Record { identities: iccid.into(), ..record(Kind::Start, 7, &["100.64.0.7/32"], 100) };
    ledger.record(&ordered, NOW).unwrap();
    ledger.learn(imsi(1).or(iccid.into())).unwrap();
    readers.follow(&mut ledger);
    let both = imsi(1).or(iccid.into());
    assert_eq!(
        (readers.who("100.64.0.1/32"), readers.who("100.64.0.7/32")),
        (Some(both), Some(both))
    );
    assert_eq!(ledger.set_state(iccid, SimState::Active, Source::Api, 1).unwrap().addresses, 2);
}

#[test]
fn what_lapsed_goes_and_leaves_nothing_behind() {
    let (mut ledger, mut readers) = (ledger(), readers());
    let short = Record { lifetime: 60, ..record(Kind::Start, 1, &["100.64.0.1/32"], 9_000) };
    ledger.record(&short, NOW).unwrap();
    readers.follow(&mut ledger);
    for (later, held) in [(59, true), (60, false)] {
        ledger.age(100, Seconds(NOW.0 + later));
        ledger.age(100, Seconds(NOW.0 + later));
        readers.follow(&mut ledger);
        assert_eq!(readers.who("100.64.0.1/32").is_some(), held, "{later} s");
    }
    for _ in 0..3 {
        ledger.age(100, Seconds(NOW.0 + 60 + crate::sims::claim::REMEMBERED));
    }
    assert_eq!((ledger.table.len(), ledger.registry.len()), (0, 0));
    assert!(ledger.table.of_session(Session { nas: 0, id: 1 }).is_empty());
}

#[test]
fn refuses_one_binding_too_many_and_keeps_the_rest() {
    let mut ledger = Ledger::new(Bounds { bindings: 1, sims: 100 });
    ledger.record(&record(Kind::Start, 1, &["100.64.0.1/32"], 100), NOW).unwrap();
    let refused = ledger.record(&record(Kind::Start, 2, &["100.64.0.2/32"], 100), NOW);
    assert_eq!(refused, Err(Refusal::Bindings { limit: 1 }));
    assert!(ledger.record(&record(Kind::Interim, 1, &["100.64.0.1/32"], 110), NOW).is_ok());
}
