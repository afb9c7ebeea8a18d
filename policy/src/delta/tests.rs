use jiff::civil::date;
use proptest::prelude::*;

use super::*;
use crate::{
    Apn, Iccid, Identity, Imsi, SimState, Source, Subject, Subscriber, Verdict, compile, decide,
    host::HostName,
};

/// A policy with one garden of these entries, each `PATTERN SCHEMES [PORTS [EXPIRES]]`.
fn garden(entries: &[&str]) -> Policy {
    let hosts: Vec<String> = entries.iter().map(|entry| host(entry)).collect();
    policy(&format!(
        "[[hostset]]\nname = \"ours\"\n{}[[class]]\nname = \"garden\"\npriority = 9\n\
         action = \"garden\"\nhostsets = [\"ours\"]\n",
        hosts.concat()
    ))
}

fn host(entry: &str) -> String {
    let mut parts = entry.split(' ');
    let pattern = parts.next().unwrap();
    let schemes = match parts.next().unwrap() {
        "h" => "\"http\"",
        "s" => "\"https\"",
        _ => "\"http\", \"https\"",
    };
    let mut text = format!("[[hostset.host]]\nmatch = \"{pattern}\"\nschemes = [{schemes}]\n");
    if pattern.starts_with('*') && !pattern.starts_with("*.") {
        text += &format!("within = \"{}\"\n", pattern.split_once('.').unwrap().1);
    }
    for (key, value) in ["ports", "expires", "networks"].into_iter().zip(parts) {
        if value != "-" {
            text += &format!("{key} = {value}\n");
        }
    }
    text
}

fn policy(rest: &str) -> Policy {
    let default = if rest.contains("\"rest\"") { "rest" } else { "garden" };
    let text = format!(
        "schema = 1\nname = \"p\"\nserial = 1\nenvironment = \"production\"\n\
         default_class = \"{default}\"\n{rest}"
    );
    let source = Source { name: "p.toml", text: &text };
    match compile(&source, date(2026, 11, 23)) {
        Ok(compiled) => compiled.policy,
        Err(found) => panic!("{text}\n{found:#?}"),
    }
}

fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

/// The rows of the class, one line each.
fn rows(old: &[&str], new: &[&str]) -> Vec<String> {
    lines(&delta(&garden(old), &garden(new), now()).classes()[0].changes)
}

fn lines(changes: &[ReachChange]) -> Vec<String> {
    let line = |row: &ReachChange| {
        let list = |parts: Vec<String>, between| parts.join(between);
        let covers = |covers: &[Cover]| list(covers.iter().map(Cover::pattern).collect(), " ");
        let except = if row.region.except.is_empty() {
            String::new()
        } else {
            format!(" except {}", covers(&row.region.except))
        };
        let access = list(row.access.iter().map(ToString::to_string).collect(), "; ");
        format!("{} {}{except}: {access}", row.change.label(), row.region.cover.pattern())
    };
    changes.iter().map(line).collect()
}

#[test]
fn nothing_differs_from_itself() {
    let entries = ["a.test s", "*.b.test h", ".c.test s [443,8443]", "*ft.d.test s"];
    let (old, mut turned) = (garden(&entries), entries);
    turned.reverse();
    assert!(delta(&old, &garden(&turned), now()).is_equal());
}

#[test]
fn tells_what_opens_and_closes() {
    for (old, new, expected) in [
        (
            &["a.test s"][..],
            &["a.test h"][..],
            &["opens a.test: http 80", "closes a.test: https 443"][..],
        ),
        (&[], &["a.b.test s [443,8443]"], &["opens a.b.test: dns; https 443, 8443"]),
        (
            &["*.b.test s"],
            &[".b.test s"],
            &["opens b.test: dns; https 443", "words *.b.test: dns; https 443"],
        ),
        (
            &["*.b.test s"],
            &["*.b.test s", "x.b.test h"],
            &["opens x.b.test: http 80", "closes x.b.test: https 443", "words x.b.test: dns"],
        ),
        (
            &["*.b.test s"],
            &["x.b.test s"],
            &["closes *.b.test except x.b.test: dns; https 443", "words x.b.test: dns; https 443"],
        ),
        (
            &[],
            &["*ft.b.test s", "*soft.b.test h"],
            &[
                "opens *ft.b.test: dns",
                "opens *ft.b.test except *soft.b.test: https 443",
                "opens *soft.b.test: http 80",
            ],
        ),
        (
            &["*.b.test s", "soft.b.test h"],
            &["*ft.b.test s"],
            &[
                "opens soft.b.test: https 443",
                "closes *.b.test except *ft.b.test: dns; https 443",
                "closes soft.b.test: http 80",
                "words *ft.b.test except soft.b.test: dns; https 443",
                "words soft.b.test: dns",
            ],
        ),
    ] {
        assert_eq!(rows(old, new), expected, "{old:?} {new:?}");
    }
}

#[test]
fn ports_behind_the_listed_ones_count_when_a_class_opens() {
    let old = garden(&["a.test s"]);
    let new = policy(
        "[[class]]\nname = \"garden\"\npriority = 9\naction = \"open\"\n[[class.match]]\n\
         state = [\"active\"]\n[[class]]\nname = \"rest\"\npriority = 10\naction = \"drop\"\n",
    );
    let delta = delta(&old, &new, now());
    assert_eq!(
        lines(&delta.classes()[0].changes),
        [
            "opens *: http every port; quic every port; tcp every port",
            "opens * except a.test: dns; https every port",
            "opens a.test: https every port but 443",
        ]
    );
    assert_eq!(delta.classes()[1].presence, Presence::Added);
}

#[test]
fn an_end_that_moves_is_told() {
    let day = "2027-03-31";
    assert_eq!(rows(&["a.test s - 2027-03-31"], &["a.test s"]), ["until a.test: dns; https 443"]);
    let old = garden(&["a.test s - 2027-03-31", "*.test.test s"]);
    let new = garden(&["a.test s - 2027-04-30", "*.test.test s"]);
    let delta = delta(&old, &new, now());
    let Change::Until { old, new } = &delta.classes()[0].changes[0].change else { panic!() };
    assert_eq!(
        (old.unwrap().to_string(), new.unwrap().to_string()),
        (day.into(), "2027-04-30".into())
    );
    assert!(!delta.is_equal());
}

#[test]
fn an_entry_that_outlives_another_hides_its_end() {
    let entries = [".b.test s", "a.b.test s - 2027-03-31"];
    let delta = delta(&garden(&entries), &garden(&[".b.test s"]), now());
    assert!(delta.is_equal(), "{:?}", lines(&delta.classes()[0].changes));
}

#[test]
fn a_window_that_is_still_shut_is_told() {
    let scheduled = |last: &str| {
        policy(&format!(
            "[[hostset]]\nname = \"ours\"\n{}[[class]]\nname = \"garden\"\npriority = 9\n\
             action = \"garden\"\n[[schedule]]\nname = \"sale\"\nclasses = [\"garden\"]\n\
             hostsets = [\"ours\"]\nfrom = 2026-12-01T00:00:00Z\nuntil = {last}T00:00:00Z\n",
            host("a.test s")
        ))
    };
    let (short, long) = (scheduled("2026-12-10"), scheduled("2026-12-12"));
    assert!(delta(&long, &long, now()).is_equal());
    let delta = delta(&short, &long, now());
    let class = &delta.classes()[0];
    assert!(class.changes.is_empty() && !delta.is_equal());
    let [(at, rows)] = &class.later[..] else { panic!("{:?}", class.later) };
    assert_eq!(at.to_string(), "2026-12-10T00:00:00Z");
    assert_eq!(lines(rows), ["opens a.test: dns; https 443"]);
}

#[test]
fn a_hole_in_the_dial_guard_is_told() {
    let old = ["a.test s"];
    let new = ["a.test s - - [\"10.20.0.0/16\"]"];
    assert_eq!(rows(&old, &new), ["addresses a.test: dns; https 443"]);
    assert_eq!(
        rows(&[], &new),
        ["opens a.test: dns; https 443", "addresses a.test: dns; https 443"]
    );
}

#[test]
fn cells_without_a_name_are_skipped() {
    let label = "a".repeat(HostName::MAX_LABEL);
    // Below this parent only labels of one letter are left, and each is listed.
    let parent = format!("{label}.{label}.{label}.{}.test", "b".repeat(54));
    let room = HostName::MAX_LENGTH - parent.len() - 1;
    assert_eq!(room, 1);
    let letters = "abcdefghijklmnopqrstuvwxyz0123456789-_";
    let each: Vec<String> = letters.chars().map(|letter| format!("{letter}.{parent} s")).collect();
    let each: Vec<&str> = each.iter().map(String::as_str).collect();
    let all = format!("*.{parent} s");
    let delta = delta(&garden(&[&all]), &garden(&each), now());
    assert!(delta.is_equal(), "{:?}", lines(&delta.classes()[0].changes));
}

#[test]
fn who_moves_is_told_by_every_fact() {
    let old = policy(
        "[[class]]\nname = \"paid\"\npriority = 1\naction = \"open\"\n[[class.match]]\n\
         state = [\"active\"]\n\
         [[class]]\nname = \"rest\"\npriority = 9\naction = \"garden\"\n",
    );
    let new = policy(
        "[[class]]\nname = \"paid\"\npriority = 1\naction = \"open\"\n[[class.match]]\n\
         state = [\"active\"]\n[[class.match]]\nnetworks = [\"10.0.0.0/8\", \"2001:db8::/32\"]\n\
         iccid = [\"8988247000100000000-8988247000199999999\"]\n\
         [[class]]\nname = \"rest\"\npriority = 9\naction = \"garden\"\n",
    );
    let delta = delta(&old, &new, now());
    let [moved] = delta.moves().unwrap() else { panic!("{:?}", delta.moves()) };
    assert_eq!((moved.from.as_deref(), moved.to.as_deref()), (Some("rest"), Some("paid")));
    let told: Vec<String> = moved.who[0]
        .conditions()
        .iter()
        .map(|it| format!("{} {} {}", it.key, it.within, it.values.join(" ")))
        .collect();
    assert_eq!(
        told,
        [
            "networks true 10.0.0.0/8 2001:db8::/32",
            "iccid true …0000 to …9999 (100000000 SIMs)",
            "state false active",
        ]
    );
    assert_eq!(
        lines(&moved.changes),
        ["opens *: dns; http every port; https every port; quic every port; tcp every port"]
    );
}

#[test]
fn too_many_overlaps_are_said_and_not_cut() {
    // Three facts an entry, each of the numbers with one bit set: every entry cuts every box.
    let entry = |bit: u32| {
        let list = |write: fn(u32) -> String| {
            let chosen = (0..512_u32).filter(|number| number >> bit & 1 == 1).map(write);
            chosen.map(|text| format!("\"{text}\"")).collect::<Vec<_>>().join(",")
        };
        format!(
            "[[class.match]]\nnetworks = [{}]\niccid = [{}]\nimsi = [{}]\n",
            list(|number| format!("10.0.{}.{}/32", number >> 8, number & 255)),
            list(|number| format!("{number:019}")),
            list(|number| format!("{number:015}"))
        )
    };
    let rest = "[[class]]\nname = \"rest\"\npriority = 99\naction = \"drop\"\n";
    let entries: String = (0..9).map(entry).collect();
    let old = format!("[[class]]\nname = \"c\"\npriority = 1\naction = \"drop\"\n{entries}{rest}");
    let delta = delta(&policy(&old), &policy(rest), now());
    assert!(delta.moves().is_none() && !delta.is_equal());
}

/// A small world of names, in which every cell of small policies has several.
fn names() -> Vec<HostName> {
    let labels = ["a", "b", "ab", "ba", "x"];
    let mut names = vec!["test".to_owned(), "a.b".to_owned(), "msftncsi.com".to_owned()];
    let mut last = vec!["z.test".to_owned()];
    for _ in 0..3 {
        names.extend(last.clone());
        last = last
            .iter()
            .flat_map(|name| labels.iter().map(move |label| format!("{label}.{name}")))
            .collect();
    }
    names.extend(last);
    names.iter().map(|name| HostName::parse(name).unwrap()).collect()
}

fn entry() -> impl Strategy<Value = String> {
    let pattern = "(\\*\\.|\\.|\\*|)((a|b|ab|ba)\\.){1,2}z\\.test";
    let ports = prop_oneof![Just("-"), Just("[443]"), Just("[80,8443]")];
    let expires = prop_oneof![Just("-"), Just("2026-11-22"), Just("2027-01-01")];
    (pattern, prop_oneof![Just("h"), Just("s"), Just("hs")], ports, expires).prop_map(
        |(pattern, schemes, ports, expires)| {
            // Ports belong to one scheme.
            let ports = if schemes == "hs" { "-" } else { ports };
            format!("{pattern} {schemes} {ports} {expires}")
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// The verdict of each request differs exactly where the delta says so.
    #[test]
    fn covers_what_differs_and_nothing_else(
        shared in proptest::collection::vec(entry(), 0..4),
        old in proptest::collection::vec(entry(), 0..4),
        new in proptest::collection::vec(entry(), 0..4),
    ) {
        let side = |own: &[String]| {
            let entries: Vec<&str> = shared.iter().chain(own).map(String::as_str).collect();
            garden(&entries)
        };
        let (old, new) = (side(&old), side(&new));
        let delta = delta(&old, &new, now());
        let changes = &delta.classes()[0].changes;
        for host in names() {
            for channel in Channel::ALL {
                for port in [80, 443, 8443, 22] {
                    let ask = |policy| {
                        let request = channel.request(&host, port);
                        decide(policy, Subject::Class("garden"), request, now()).verdict()
                    };
                    let expected = match (ask(&old), ask(&new)) {
                        (Verdict::Deny, Verdict::Allow) => Some(Change::Opens),
                        (Verdict::Allow, Verdict::Deny) => Some(Change::Closes),
                        _ => None,
                    };
                    let told: Vec<&Change> = changes
                        .iter()
                        .filter(|row| row.change.is_of_verdict())
                        .filter(|row| row.covers(&host, channel, port))
                        .map(|row| &row.change)
                        .collect();
                    prop_assert_eq!(told, expected.iter().collect::<Vec<_>>(), "{} {:?} {}", host, channel, port);
                }
            }
        }
    }

    /// A subscriber falls in another class exactly where a move says so.
    #[test]
    fn moves_hold_whoever_changes_class(
        old in proptest::collection::vec(proptest::collection::vec(0_usize..24, 1..4), 1..4),
        new in proptest::collection::vec(proptest::collection::vec(0_usize..24, 1..4), 1..4),
    ) {
        let (old, new) = (crowd(&old), crowd(&new));
        let delta = delta(&old, &new, now());
        let moves = delta.moves().unwrap();
        for subscriber in subscribers() {
            let class = |policy: &Policy| {
                policy.class_of(Subject::Subscriber(&subscriber)).map(|class| class.name().to_owned())
            };
            let (from, to) = (class(&old), class(&new));
            let told: Vec<_> = moves
                .iter()
                .flat_map(|moved| moved.who.iter().map(move |group| (moved, group)))
                .filter(|(_, group)| group.holds(&subscriber))
                .map(|(moved, _)| (moved.from.as_deref(), moved.to.as_deref()))
                .collect();
            if from == to {
                prop_assert_eq!(told, []);
            } else {
                prop_assert_eq!(told, [(from.as_deref(), to.as_deref())]);
            }
        }
    }
}

const FACTS: [&str; 8] = [
    "networks = [\"10.0.0.0/8\"]",
    "networks = [\"10.1.0.0/16\", \"2001:db8::/32\"]",
    "networks = [\"::/0\"]",
    "iccid = [\"8988247000100000000-8988247000199999999\"]",
    "imsi = [\"001010000000001-001010000000005\"]",
    "apn = [\"one\", \"two\"]",
    "state = [\"active\", \"barred\"]",
    "state = [\"unprovisioned\"]",
];

/// Classes whose entries ask one fact, or two of different kinds.
fn crowd(classes: &[Vec<usize>]) -> Policy {
    let mut text = String::new();
    for (index, entries) in classes.iter().enumerate() {
        text +=
            &format!("[[class]]\nname = \"c{index}\"\npriority = {index}\naction = \"garden\"\n");
        for entry in entries {
            let (one, other) = (FACTS[entry % 8], FACTS[(entry / 8 * 3 + 3) % 8]);
            text += &format!("[[class.match]]\n{one}\n");
            if one.split(' ').next() != other.split(' ').next() && entry / 8 > 0 {
                text += &format!("{other}\n");
            }
        }
    }
    policy(&format!("{text}[[class]]\nname = \"rest\"\npriority = 99\naction = \"drop\"\n"))
}

fn subscribers() -> Vec<Subscriber> {
    let mut all = Vec::new();
    for address in [
        None,
        Some("10.0.0.1"),
        Some("10.1.255.255"),
        Some("11.0.0.0"),
        Some("2001:db8::1"),
        Some("::1"),
    ] {
        for iccid in [None, Some("8988247000199999999"), Some("8988247000200000000")] {
            for imsi in [None, Some("001010000000001"), Some("001010000000006")] {
                for apn in [None, Some("TWO"), Some("three")] {
                    for state in [
                        None,
                        Some(SimState::Active),
                        Some(SimState::Exhausted),
                        Some(SimState::Unprovisioned),
                    ] {
                        let mut subscriber = address.map_or_else(Subscriber::default, |address| {
                            Subscriber::at(address.parse().unwrap())
                        });
                        if let Some(iccid) = iccid {
                            subscriber = subscriber.with_iccid(Iccid::parse(iccid).unwrap());
                        }
                        if let Some(imsi) = imsi {
                            subscriber = subscriber.with_imsi(Imsi::parse(imsi).unwrap());
                        }
                        if let Some(apn) = apn {
                            subscriber = subscriber.with_apn(Apn::new(apn));
                        }
                        if let Some(state) = state {
                            subscriber = subscriber.with_state(state);
                        }
                        all.push(subscriber);
                    }
                }
            }
        }
    }
    all
}
