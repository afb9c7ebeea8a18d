use std::{fmt::Write, time::Duration};

use jiff::civil::{Date, date};
use proptest::prelude::*;

use super::{Compiled, Source, compile};
use crate::{
    class::{Action, Ncsi},
    code::Code,
    decide::{Request, Subject, Verdict, decide},
    diagnostic::Diagnostic,
    host::HostName,
    limits,
    policy::{DnsDenial, DnsTerms, Environment, HttpDenial, Policy},
};

const TODAY: Date = date(2026, 11, 23);
const SAMPLE: &str = include_str!("../../../tests/data/policies/good/acme-mobile.toml");
const LAB: &str = include_str!("../../../tests/data/policies/good/lab.toml");
const LEAST: &str = "schema = 1\nname = \"x\"\nserial = 1\nenvironment = \"lab\"\n";

fn compiled(text: &str) -> Result<Compiled, Vec<Diagnostic>> {
    compile(&Source { name: "policy.toml", text }, TODAY)
}

fn policy(text: &str) -> Policy {
    compiled(text).unwrap().policy
}

fn codes(text: &str) -> Vec<&'static str> {
    match compiled(text) {
        Ok(compiled) => compiled.warnings.iter().map(|found| found.code).collect(),
        Err(found) => found.iter().map(|found| found.code).collect(),
    }
}

#[test]
fn compiles_the_sample() {
    let Compiled { policy, warnings } = compiled(SAMPLE).unwrap();
    assert_eq!(warnings, []);
    assert_eq!((policy.name(), policy.serial()), ("acme-mobile", 42));
    assert_eq!(policy.environment(), Environment::Production);
    let expected = DnsTerms { denied: DnsDenial::Nxdomain, denied_ttl: 5, max_ttl: 60 };
    assert_eq!(policy.dns(), expected);
    assert_eq!(policy.http().denied, HttpDenial::Redirect);
    assert_eq!(policy.http().portal.as_deref(), Some("https://portal.acme.example/start"));
    let classes: Vec<_> =
        policy.classes().iter().map(|class| (class.name(), class.action())).collect();
    assert_eq!(classes, [("paid", Action::Open), ("unprovisioned", Action::Garden)]);
    let garden = policy.class("unprovisioned").unwrap();
    assert_eq!(
        garden.hostsets().collect::<Vec<_>>(),
        ["builtin:mobile-plans@2023-12-12", "builtin:gsma-rsp", "mo-direct"]
    );
    let limits = garden.limits();
    assert_eq!(
        (limits.dns_qps, limits.sessions, limits.bytes_per_day),
        (Some(20), Some(64), Some(50_000_000))
    );
    assert_eq!(policy.rules().len(), 15 + 4 + 3);
    let rule = policy.rules().iter().find(|rule| rule.hostset() == "mo-direct").unwrap();
    let line = SAMPLE.lines().nth(rule.place().line as usize - 1).unwrap();
    assert!(line.contains("portal.acme.example"), "{line}");
    assert_eq!(&SAMPLE[rule.place().span.clone()], "\"portal.acme.example\"");
}

#[test]
fn compiles_what_only_a_lab_may_say() {
    let policy = policy(LAB);
    let lab = policy.lab();
    let portal = HostName::parse("portal.lab.example").unwrap();
    assert_eq!(
        lab.resolve[&portal],
        ["127.0.0.1".parse::<std::net::IpAddr>().unwrap(), "::1".parse().unwrap()]
    );
    assert_eq!((lab.ports[&443], lab.ports[&80], lab.networks.len()), (20443, 20080, 2));
    assert_eq!(policy.class("watched").unwrap().ncsi(), Ncsi::Answer);
    let networks = policy.rules().iter().find(|rule| !rule.networks().is_empty()).unwrap();
    assert_eq!(networks.networks().len(), 2);
}

#[test]
fn the_least_policy_denies_everything() {
    let Compiled { policy, warnings } = compiled(LEAST).unwrap();
    assert_eq!(warnings, []);
    assert_eq!((policy.rules().len(), policy.classes().len()), (0, 0));
    assert_eq!(policy.http().denied, HttpDenial::Close);
    assert_eq!(policy.dns().denied_ttl, limits::DEFAULT_DENIED_TTL);
    assert_eq!(policy.dns().max_ttl, limits::DEFAULT_MAX_TTL);
    let host = &HostName::parse("login.live.com").unwrap();
    let decision = decide(
        &policy,
        Subject::Class("unprovisioned"),
        Request::Dns { host },
        jiff::Timestamp::UNIX_EPOCH,
    );
    assert_eq!(decision.verdict(), Verdict::Deny);
}

#[test]
fn the_digest_is_that_of_the_text() {
    assert_ne!(policy(LEAST).sha256(), policy(&format!("{LEAST}\n")).sha256());
    assert_eq!(policy(LEAST).sha256(), policy(LEAST).sha256());
    assert_eq!(policy(LEAST).sha256().to_string().len(), 64);
}

#[test]
fn duplicate_keys_do_not_hide_the_rest() {
    let text = format!("{LEAST}serial = 2\ncolour = 1\n[dns]\n[dns]\n");
    assert_eq!(codes(&text), ["PN0002", "PN0003", "PN0002"]);
}

#[test]
fn classes_come_in_rising_priority_whatever_their_order() {
    let class = |name: &str, priority: u32| {
        format!(
            "[[class]]\nname = \"{name}\"\npriority = {priority}\naction = \"drop\"\n\
             match = [{{ apn = [\"{name}\"] }}]\n"
        )
    };
    let text = format!("{LEAST}{}{}{}", class("c", 3), class("a", 1), class("b", 2));
    let policy = policy(&text);
    assert_eq!(policy.classes().iter().map(|class| class.name()).collect::<String>(), "abc");
}

#[test]
fn equal_priorities_may_stand_side_by_side_only_if_nobody_matches_both() {
    for (one, other, ambiguous) in [
        (r#"networks = ["10.0.0.0/8"]"#, r#"networks = ["10.1.0.0/16"]"#, true),
        (r#"networks = ["10.0.0.0/9"]"#, r#"networks = ["10.128.0.0/9"]"#, false),
        (r#"networks = ["0.0.0.0/0"]"#, r#"networks = ["::/0"]"#, false),
        (r#"networks = ["192.0.2.0/24", "10.0.0.0/8"]"#, r#"networks = ["10.9.9.0/24"]"#, true),
        (r#"networks = ["10.0.0.0/8"]"#, r#"state = ["active"]"#, true),
        (r#"state = ["active", "barred"]"#, r#"state = ["exhausted", "barred"]"#, true),
        (r#"state = ["active"]"#, r#"state = ["barred"]"#, false),
        (r#"apn = ["a", "B"]"#, r#"apn = ["b"]"#, true),
        (
            r#"networks = ["10.0.0.0/8"], state = ["active"]"#,
            r#"networks = ["10.0.0.0/8"], state = ["barred"]"#,
            false,
        ),
        (
            r#"iccid = ["8900000000000000000-8900000000000000099"]"#,
            r#"iccid = ["8900000000000000099-8900000000000000101"]"#,
            true,
        ),
        (
            r#"iccid = ["8900000000000000000-8900000000000000099"]"#,
            r#"iccid = ["8900000000000000099"]"#,
            false,
        ),
        (
            r#"iccid = ["8900000000000000000-8900000000000000099"]"#,
            r#"iccid = ["8900000000000000100", "890000000000000005"]"#,
            false,
        ),
    ] {
        let class = |name: &str, entry: &str| {
            format!(
                "[[class]]\nname = \"{name}\"\npriority = 1\naction = \"drop\"\n\
                 match = [{{ {entry} }}]\n"
            )
        };
        let text = format!("{LEAST}{}{}", class("one", one), class("other", other));
        let found = codes(&text).contains(&Code::AmbiguousClasses.id());
        assert_eq!(found, ambiguous, "{one} {other}");
    }
}

/// Documents that go one beyond a limit, and the code that says so.
#[test]
fn every_limit_is_enforced() {
    let many = |count: usize, item: &dyn Fn(usize) -> String| -> String {
        (0..count).map(item).collect::<Vec<_>>().join(", ")
    };
    let hosts = |count: usize| {
        let host =
            |at: usize| format!("{{ match = \"h{at}.example.com\", schemes = [\"https\"] }}");
        format!("{LEAST}[[hostset]]\nname = \"s\"\nhost = [{}]\n", many(count, &host))
    };
    let class = |rest: &str| {
        format!("{LEAST}[[class]]\nname = \"c\"\npriority = 1\naction = \"garden\"\n{rest}\n")
    };
    let targets = |count| many(count, &|at| format!("\"dns:h{at}.example.com\""));
    let too_many = Code::TooMany.id();
    for (what, text, code) in [
        ("document", " ".repeat(limits::MAX_DOCUMENT + 1), Code::DocumentTooLarge.id()),
        ("hosts", hosts(limits::MAX_HOSTS + 1), too_many),
        (
            "host sets",
            (0..=limits::MAX_HOSTSETS).fold(LEAST.to_owned(), |text, at| {
                format!("{text}[[hostset]]\nname = \"s{at}\"\n")
            }),
            too_many,
        ),
        (
            "classes",
            (0..=limits::MAX_CLASSES).fold(LEAST.to_owned(), |text, at| {
                format!("{text}[[class]]\nname = \"c{at}\"\npriority = {at}\naction = \"drop\"\n")
            }),
            too_many,
        ),
        (
            "host sets of a class",
            class(&format!(
                "hostsets = [{}]",
                many(limits::MAX_CLASS_HOSTSETS + 1, &|at| format!("\"s{at}\""))
            )),
            too_many,
        ),
        (
            "match entries",
            class(&format!(
                "match = [{}]",
                many(limits::MAX_MATCHES + 1, &|at| format!("{{ apn = [\"a{at}\"] }}"))
            )),
            too_many,
        ),
        (
            "match values",
            class(&format!(
                "match = [{{ apn = [{}] }}]",
                many(limits::MAX_MATCH_VALUES + 1, &|at| format!("\"a{at}\""))
            )),
            too_many,
        ),
        (
            "targets",
            class(&format!(
                "[[assert]]\nclass = \"c\"\nallow = [{}]",
                targets(limits::MAX_TARGETS + 1)
            )),
            too_many,
        ),
        (
            "asserts",
            (0..=limits::MAX_ASSERTS).fold(class(""), |text, _| {
                format!("{text}[[assert]]\nclass = \"c\"\ndeny = [\"dns:a.example\"]\n")
            }),
            too_many,
        ),
        (
            "lab networks",
            format!(
                "{LEAST}[lab]\nnetworks = [{}]",
                many(limits::MAX_NETWORKS + 1, &|_| "\"::1/128\"".to_owned())
            ),
            too_many,
        ),
        (
            "lab names",
            format!(
                "{LEAST}[lab]\nresolve = {{ {} }}",
                many(limits::MAX_LAB_ENTRIES + 1, &|at| format!("\"h{at}\" = [\"::1\"]"))
            ),
            too_many,
        ),
        (
            "ports",
            format!(
                "{LEAST}[[hostset]]\nname = \"s\"\nhost = [{{ match = \"a.example\", schemes = \
                 [\"http\"], ports = [{}] }}]",
                many(limits::MAX_PORTS + 1, &|at| (at + 1).to_string())
            ),
            too_many,
        ),
        (
            "words",
            format!(
                "{LEAST}[[hostset]]\nname = \"s\"\nsource = \"{}\"",
                "x".repeat(limits::MAX_WORDS + 1)
            ),
            too_many,
        ),
        ("name", LEAST.replace('x', &"x".repeat(limits::MAX_NAME + 1)), Code::InvalidName.id()),
        (
            "apn",
            class(&format!("match = [{{ apn = [\"{}\"] }}]", "x".repeat(limits::MAX_APN + 1))),
            Code::InvalidName.id(),
        ),
        (
            "portal",
            format!(
                "{LEAST}[http]\nportal = \"http://a.example/{}\"",
                "x".repeat(limits::MAX_PORTAL)
            ),
            Code::InvalidPortal.id(),
        ),
        (
            "duration",
            format!("{LEAST}[dns]\nmax_ttl = \"{}s\"", limits::MAX_SECONDS + 1),
            Code::OutOfRange.id(),
        ),
        (
            "denied_ttl",
            format!("{LEAST}[dns]\ndenied_ttl = \"{}s\"", limits::MAX_DENIED_TTL + 1),
            Code::LongDenial.id(),
        ),
        (
            "findings",
            (0..=limits::MAX_FINDINGS)
                .fold(LEAST.to_owned(), |text, at| format!("{text}k{at} = 1\n")),
            too_many,
        ),
    ] {
        let found = compiled(&text).unwrap_err();
        assert!(found.iter().any(|found| found.code == code), "{what}: {found:?}");
        assert!(found.len() <= limits::MAX_FINDINGS + 1, "{what}");
    }
}

#[test]
fn review_and_expiry_are_held_against_the_day() {
    let set = |reviewed: Date, expires: Date| {
        format!(
            "{LEAST}default_class = \"c\"\n[[class]]\nname = \"c\"\npriority = 1\n\
             action = \"garden\"\nhostsets = [\"s\"]\n\
             [[hostset]]\nname = \"s\"\nreviewed = {reviewed}\n\
             [[hostset.host]]\nmatch = \"a.example\"\nschemes = [\"https\"]\nexpires = {expires}\n"
        )
    };
    let far = date(2030, 1, 1);
    for (reviewed, expires, expected) in [
        (date(2026, 5, 27), far, &[][..]),
        (date(2026, 5, 26), far, &["PN0101"]),
        (TODAY, date(2026, 11, 22), &["PN0102"]),
        (TODAY, TODAY, &["PN0103"]),
        (TODAY, date(2026, 12, 7), &["PN0103"]),
        (TODAY, date(2026, 12, 8), &[]),
    ] {
        let mut found = codes(&set(reviewed, expires));
        found.retain(|code| *code != Code::RevocationUnreachable.id());
        assert_eq!(found, expected, "{reviewed} {expires}");
    }
}

#[test]
fn no_prefix_of_the_sample_stops_the_compiler() {
    for text in [SAMPLE, LAB] {
        for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
            let prefix = &text[..end];
            if let Err(found) = compiled(prefix) {
                assert!(!found.is_empty());
                assert!(found.iter().all(|found| prefix.get(found.span.clone()).is_some()));
            }
        }
    }
}

/// Release builds take about a fifth of a second here; the bound only catches what is not linear.
#[test]
fn a_hundred_thousand_patterns_compile_quickly() {
    const PATTERNS: usize = 100_000;
    let mut text = format!(
        "{LEAST}default_class = \"c\"\n[[class]]\nname = \"c\"\npriority = 1\naction = \"garden\"\n\
         hostsets = [\"s\"]\n[[hostset]]\nname = \"s\"\n"
    );
    for at in 0..PATTERNS {
        let sign = ["", "*.", "."][at % 3];
        let _ = writeln!(
            text,
            "[[hostset.host]]\nmatch = \"{sign}h{at}.zone{}.example.com\"\nschemes = [\"https\"]",
            at % 977
        );
    }
    #[expect(clippy::disallowed_methods, reason = "a measurement is what this test is about")]
    let start = std::time::Instant::now();
    let policy = policy(&text);
    let took = start.elapsed();
    println!("{PATTERNS} patterns, {} bytes: {took:?}", text.len());
    assert_eq!(policy.rules().len(), PATTERNS);
    // Something that is quadratic would take hours.
    assert!(took < Duration::from_secs(120), "{took:?}");
    let host = &HostName::parse("a.h99999.zone345.example.com").unwrap();
    let now = jiff::Timestamp::UNIX_EPOCH;
    let decision = decide(&policy, Subject::Class("c"), Request::Https { host, port: 443 }, now);
    assert_eq!(decision.verdict() == Verdict::Allow, 99_999 % 3 != 0);
}

fn mutation() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "",
        "\"",
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        "=",
        ",",
        "#",
        "\n",
        ".",
        "*",
        "0",
        "-1",
        "'''",
        "\"\"\"",
        "\\u0000",
        "é",
        "\u{1F600}",
        "schema = 2\n",
        "[lab]\n",
        "[[class]]\n",
        "inf",
        "2026-13-40",
        "1e999",
        "0x",
        "true",
        "builtin:",
        "https://",
        "::/0",
        "name = ",
        "99999999999999999999",
        "\r",
        "\0",
    ]);
    let edit = (any::<prop::sample::Index>(), 0_usize..40, pieces);
    prop::collection::vec(edit, 1..6).prop_map(|edits| {
        let mut letters: Vec<char> = SAMPLE.chars().collect();
        for (at, cut, piece) in edits {
            let start = at.index(letters.len() + 1);
            let end = (start + cut).min(letters.len());
            letters.splice(start..end, piece.chars());
        }
        letters.into_iter().collect()
    })
}

proptest! {
    #[test]
    fn mutated_documents_never_panic_and_always_explain_themselves(text in mutation()) {
        match compiled(&text) {
            Ok(Compiled { warnings, .. }) => {
                prop_assert!(warnings.iter().all(|found| text.get(found.span.clone()).is_some()));
            }
            Err(found) => {
                prop_assert!(!found.is_empty());
                prop_assert!(found.is_sorted_by_key(|found| found.span.start));
                prop_assert!(found.iter().all(|found| text.get(found.span.clone()).is_some()));
            }
        }
    }

    #[test]
    fn any_text_is_read_without_panic(text in "\\PC{0,200}|[\\[\\]{}=\"'a-z0-9.,#\n -]{0,200}") {
        let _ = compiled(&text);
    }
}
