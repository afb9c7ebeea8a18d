use proptest::prelude::*;

use super::*;

struct Resets(Vec<u32>);

impl Standing for Resets {
    fn reset(&self, nas: u16) -> Seconds {
        Seconds(self.0.get(usize::from(nas)).copied().unwrap_or_default())
    }
}

fn session(id: u64) -> Session {
    Session { nas: 0, id }
}

fn sim(number: u32) -> Option<SimIndex> {
    NonZeroU32::new(number).map(SimIndex)
}

/// What one message says of a session, with the SIM of the session's number.
fn say(claims: &mut Claims, id: u64, word: &str, at: u32) {
    claims.admit(session(id));
    let claim = claims.get_mut(session(id)).unwrap();
    claim.seen = claim.seen.max(Seconds(at));
    match word {
        "stop" => claim.stopped = claim.stopped.max(Seconds(at)),
        "start" | "interim" => {
            if word == "start" {
                claim.started = claim.started.max(Seconds(at));
            }
            claim.first =
                if claim.first == Seconds(0) { Seconds(at) } else { claim.first.min(Seconds(at)) };
            claim.asserted = claim.asserted.max(Seconds(at));
            claim.sim = sim(u32::try_from(id).unwrap());
        }
        _ => unreachable!("{word}"),
    }
}

/// The SIM that owns the address after `words`, each `SESSION WORD AT`; `?` when contested.
fn owner(words: &str, now: u32) -> String {
    let mut claims = Claims::default();
    for word in words.split(", ") {
        let parts: Vec<&str> = word.split(' ').collect();
        say(&mut claims, parts[0].parse().unwrap(), parts[1], parts[2].parse().unwrap());
    }
    match claims.owner(&Resets(vec![50]), Seconds(now)) {
        Owner::Nobody => "-".to_owned(),
        Owner::Contested => "?".to_owned(),
        Owner::Held(claim) => { claim.session.id }.to_string(),
    }
}

#[test]
fn owner_is_who_got_the_address_last() {
    for (words, expected) in [
        ("1 start 100", "1"),
        ("1 interim 100", "1"),
        ("1 start 100, 1 stop 200", "-"),
        ("1 stop 200, 1 start 100", "-"),
        // The address goes to another SIM, the Stop is late, lost or overtaken.
        ("1 start 100, 2 start 200, 1 stop 190", "2"),
        ("1 start 100, 2 start 200, 1 stop 210", "2"),
        ("2 start 200, 1 start 100", "2"),
        ("1 start 100, 2 start 200", "2"),
        // What was superseded does not come back when the other ends.
        ("1 start 100, 2 start 200, 2 stop 300", "-"),
        // A late Interim of what was superseded, and of what has ended.
        ("1 start 100, 2 start 200, 1 interim 150", "2"),
        ("1 start 100, 1 stop 200, 1 interim 250", "-"),
        ("1 start 100, 1 stop 200, 1 start 300", "1"),
        // The newest word holds where two sessions say they go on.
        ("1 start 100, 2 start 200, 1 interim 300", "1"),
        // Within one second nobody can say who came last, unless one has gone.
        ("1 start 100, 2 start 100", "?"),
        ("1 start 100, 2 start 100, 1 stop 100", "2"),
        ("1 start 100, 2 start 100, 2 interim 130", "2"),
        // Before the NAS restarted, and in the second it did.
        ("1 start 49", "-"),
        ("1 start 50", "1"),
        ("1 start 40, 1 interim 60", "1"),
    ] {
        assert_eq!(owner(words, 1000), expected, "{words}");
    }
}

#[test]
fn sessions_of_one_sim_do_not_supersede_each_other() {
    let mut claims = Claims::default();
    say(&mut claims, 1, "start", 100);
    say(&mut claims, 2, "start", 200);
    claims.get_mut(session(2)).unwrap().sim = sim(1);
    say(&mut claims, 2, "stop", 300);
    let Owner::Held(claim) = claims.owner(&Resets(Vec::new()), Seconds(300)) else { panic!() };
    assert_eq!(claim.sim, sim(1), "a second bearer ended, the first goes on");
}

#[test]
fn claims_lapse_without_a_word() {
    let mut claims = Claims::default();
    say(&mut claims, 1, "start", 100);
    claims.get_mut(session(1)).unwrap().lifetime = 60;
    let held = |now| matches!(claims.owner(&Resets(Vec::new()), Seconds(now)), Owner::Held(_));
    assert_eq!([held(159), held(160)], [true, false]);
}

#[test]
fn an_ended_claim_is_forgotten_only_after_what_it_superseded() {
    let mut claims = Claims::default();
    let standing = Resets(Vec::new());
    say(&mut claims, 1, "start", 100);
    say(&mut claims, 2, "start", 200);
    say(&mut claims, 2, "stop", 300);
    // A late word of the first one: forgetting the second would bring the first back.
    claims.get_mut(session(1)).unwrap().seen = Seconds(400);
    assert_eq!(claims.forget(&standing, Seconds(300 + REMEMBERED)), None);
    let gone = claims.forget(&standing, Seconds(400 + REMEMBERED)).map(|claim| claim.session.id);
    assert_eq!(gone, Some(1));
    let gone = claims.forget(&standing, Seconds(400 + REMEMBERED)).map(|claim| claim.session.id);
    assert_eq!(gone, Some(2));
}

#[test]
fn one_address_has_a_bounded_number_of_claims() {
    let mut claims = Claims::default();
    for id in 1..=u64::try_from(CLAIMS_MAX).unwrap() + 3 {
        say(&mut claims, id, "start", 100 + u32::try_from(id).unwrap());
    }
    assert_eq!(claims.all().len(), CLAIMS_MAX);
    let Owner::Held(claim) = claims.owner(&Resets(Vec::new()), Seconds(500)) else { panic!() };
    assert_eq!({ claim.session.id }, u64::try_from(CLAIMS_MAX).unwrap() + 3);
}

proptest! {
    /// The same messages in any order, some twice, give the same owner.
    #[test]
    fn order_and_repetition_change_nothing(
        words in proptest::collection::vec((1_u64..4, 0_usize..3, 100_u32..120), 1..8),
        order in proptest::collection::vec(any::<proptest::sample::Index>(), 8..20),
    ) {
        let kinds = ["start", "interim", "stop"];
        let apply = |order: &[usize]| {
            let mut claims = Claims::default();
            for at in order {
                let (id, kind, at) = words[*at];
                say(&mut claims, id, kinds[kind], at);
            }
            match claims.owner(&Resets(vec![105]), Seconds(200)) {
                Owner::Nobody => None,
                Owner::Contested => Some(None),
                Owner::Held(claim) => Some(claim.sim),
            }
        };
        let straight: Vec<usize> = (0..words.len()).collect();
        let mut shuffled: Vec<usize> = order.iter().map(|index| index.index(words.len())).collect();
        shuffled.extend(straight.iter().rev());
        prop_assert_eq!(apply(&straight), apply(&shuffled));
    }
}
