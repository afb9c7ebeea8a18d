use jiff::{Timestamp, civil::date};

use super::*;
use crate::{
    compile::{Source, compile, compile_unproven},
    diagnostic::Diagnostic,
};

const POLICY: &str = r#"
schema        = 1
name          = "example"
serial        = 1
environment   = "lab"
default_class = "unprovisioned"

[[hostset]]
name = "ours"
[[hostset.host]]
match   = "portal.example.com"
schemes = ["https"]
[[hostset.host]]
match   = "*.pay.example.com"
schemes = ["https"]
expires = 2027-03-31
[[hostset.host]]
match   = "never.example.com"
schemes = ["http"]

[[class]]
name     = "paid"
priority = 10
action   = "open"
[[class.match]]
state    = ["active"]

[[class]]
name     = "unprovisioned"
priority = 100
action   = "garden"
hostsets = ["ours"]

[[assert]]
name  = "the portal is open"
class = "unprovisioned"
allow = ["https://portal.example.com"]
deny  = ["http://portal.example.com", "https://www.bing.com"]
"#;

fn policy(text: &str) -> Policy {
    compile_unproven(&Source { name: "policy.toml", text }, date(2026, 11, 23)).unwrap().policy
}

fn cases(text: &str) -> Result<Vec<Case>, Vec<Diagnostic>> {
    read_cases(&Source { name: "cases.toml", text }, &policy(POLICY))
}

fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

#[test]
fn a_policy_carries_its_asserts_as_cases() {
    let policy = policy(POLICY);
    let [assert] = policy.asserts() else { panic!("one assert") };
    assert_eq!(assert.name(), Some("the portal is open"));
    let held: Vec<_> = assert
        .hold(&policy, now())
        .map(|held| {
            (held.expectation().target().as_str(), held.holds(), held.expectation().place().line)
        })
        .collect();
    let expected = [
        ("https://portal.example.com", true, 37),
        ("http://portal.example.com", true, 38),
        ("https://www.bing.com", true, 38),
    ];
    assert_eq!(held, expected);
}

#[test]
fn a_broken_promise_stops_compile_and_not_the_report() {
    let text = POLICY.replace("\"https://www.bing.com\"]", "\"https://a.pay.example.com\"]");
    let source = Source { name: "policy.toml", text: &text };
    let found = compile(&source, date(2026, 11, 23)).unwrap_err();
    assert!(found.iter().any(|found| found.code == "PN0037"), "{found:?}");
    let policy = policy(&text);
    let broken: Vec<bool> = policy
        .asserts()
        .iter()
        .flat_map(|case| case.hold(&policy, now()))
        .map(|held| held.holds())
        .collect();
    assert_eq!(broken, [true, true, false]);
}

#[test]
fn cases_speak_of_classes_subscribers_and_times() {
    let text = r#"
[[case]]
name  = "the last day"
class = "unprovisioned"
at    = 2027-03-31T23:59:59Z
allow = ["https://a.pay.example.com"]
[[case]]
class = "unprovisioned"
at    = 2027-04-01T00:00:00Z
deny  = ["https://a.pay.example.com"]
[[case]]
state = "active"
ip    = "2001:db8::1"
allow = ["https://www.bing.com"]
[[case]]
iccid = "8988247000100000003"
imsi  = "001010000000001"
apn   = "windows.acme"
deny  = ["https://www.bing.com"]
"#;
    let policy = policy(POLICY);
    let cases = cases(text).unwrap();
    let all: Vec<bool> =
        cases.iter().flat_map(|case| case.hold(&policy, now())).map(|held| held.holds()).collect();
    assert_eq!(all, [true; 4]);
}

#[test]
fn coverage_names_the_entries_no_case_came_to() {
    let policy = policy(POLICY);
    let mut coverage = Coverage::of(&policy);
    assert_eq!((coverage.touched(), coverage.total(), coverage.percent()), (0, 3, 0));
    for held in policy.asserts().iter().flat_map(|case| case.hold(&policy, now())) {
        coverage.touch(&held.decision());
    }
    let left: Vec<_> = coverage
        .untouched()
        .map(|rule| (rule.pattern().to_string(), rule.place().to_string()))
        .collect();
    let expected =
        [("*.pay.example.com", "policy.toml:14"), ("never.example.com", "policy.toml:18")];
    assert_eq!(left, expected.map(|(host, place)| (host.to_owned(), place.to_owned())));
    assert_eq!((coverage.touched(), coverage.percent()), (1, 33));
}

#[test]
fn every_mistake_of_a_case_file_is_reported() {
    for (text, code, line) in [
        ("", "PN0004", 1),
        ("[[case]\n", "PN0001", 1),
        ("[[case]]\nclass = \"unprovisionde\"\nallow = [\"https://a.example\"]", "PN0033", 2),
        ("[[case]]\nallow = [\"https://a.example\"]", "PN0004", 1),
        (
            "[[case]]\nclass = \"paid\"\nip = \"192.0.2.1\"\nallow = [\"https://a.example\"]",
            "PN0003",
            2,
        ),
        ("[[case]]\nclass = \"paid\"", "PN0017", 1),
        ("[[case]]\nclass = \"paid\"\ndeny = [\"a.example\"]", "PN0036", 3),
        (
            "[[case]]\nclass = \"paid\"\nalow = [\"https://a.example\"]\ndeny = [\"https://a.example\"]",
            "PN0003",
            3,
        ),
        ("[[case]]\nip = \"192.0.2\"\ndeny = [\"https://a.example\"]", "PN0020", 2),
        ("[[case]]\niccid = 89\ndeny = [\"https://a.example\"]", "PN0005", 2),
        ("[[case]]\nstate = \"actve\"\ndeny = [\"https://a.example\"]", "PN0006", 2),
        (
            "[[case]]\nclass = \"paid\"\nat = 2026-08-22\ndeny = [\"https://a.example\"]",
            "PN0023",
            3,
        ),
    ] {
        let found = cases(text).unwrap_err();
        let lines = crate::lines::LineIndex::new(text);
        let seen: Vec<_> =
            found.iter().map(|found| (found.code, lines.line(found.span.start))).collect();
        assert!(seen.contains(&(code, line)), "{text}: {seen:?}");
    }
}
