use jiff::{Timestamp, civil::date};

use super::*;
use crate::{
    class::Subscriber,
    compile::{Source, compile},
    sim::{Iccid, Identity, SimState},
};

const TEXT: &str = r#"
schema        = 1
name          = "explained"
serial        = 1
environment   = "lab"
default_class = "garden"

[[hostset]]
name = "ours"
host = [
    { match = "portal.example.com", schemes = ["https"], ports = [8443] },
    { match = "portal.example.com", schemes = ["https"] },
    { match = "*.example.com", schemes = ["http"] },
    { match = ".example.com", schemes = ["https"], expires = 2026-11-22 },
    { match = "pay.example.org", schemes = ["https"] },
]

[[hostset]]
name = "theirs"
host = [{ match = "secret.example.org", schemes = ["https"] }]

[[class]]
name     = "paid"
priority = 1
action   = "open"
match    = [{ apn = ["other"] }, { state = ["active"] }]

[[class]]
name     = "watched"
priority = 2
action   = "observe"
hostsets = ["theirs"]
match    = [{ iccid = ["8988247000100000000-8988247000199999999"] }]

[[class]]
name     = "garden"
priority = 3
action   = "garden"
hostsets = ["ours"]
"#;

fn policy() -> Policy {
    compile(&Source { name: "policy.toml", text: TEXT }, date(2026, 11, 23)).unwrap().policy
}

fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

fn target(text: &str) -> Target {
    Target::parse(text).unwrap()
}

#[test]
fn every_matching_rule_is_weighed_and_the_decisive_one_is_marked() {
    let policy = policy();
    let subject = Subject::Class("garden");
    let told = |text: &str| -> Vec<(String, &'static str, bool)> {
        let explanation = explain(&policy, subject, &target(text), now());
        let weighed = explanation.weighed().iter();
        weighed
            .map(|one| (one.rule.pattern().to_string(), one.reason.label(), one.decisive))
            .collect()
    };
    let row = |pattern: &str, reason, decisive| (pattern.to_owned(), reason, decisive);
    assert_eq!(
        told("https://portal.example.com"),
        [
            row("portal.example.com", "port-not-listed", false),
            row("portal.example.com", "listed", true),
            row("*.example.com", "scheme-not-listed", false),
            row(".example.com", "expired", false),
        ]
    );
    assert_eq!(
        told("http://portal.example.com"),
        [
            row("portal.example.com", "scheme-not-listed", true),
            row("portal.example.com", "scheme-not-listed", false),
            row("*.example.com", "listed", false),
            row(".example.com", "expired", false),
        ]
    );
    assert_eq!(told("https://example.com"), [row(".example.com", "expired", true)]);
    assert_eq!(told("https://192.0.2.1"), []);
}

#[test]
fn the_choice_of_the_class_is_told() {
    let policy = policy();
    let told = |subject: Subject<'_>| {
        let explanation = explain(&policy, subject, &target("dns:a.example"), now());
        let class = explanation.decision().class_label().to_owned();
        match explanation.choice() {
            choice @ (ClassChoice::Asked | ClassChoice::Default | ClassChoice::Nothing) => {
                format!("{class} {}", choice.label())
            }
            ClassChoice::Matched { number, entry } => {
                let keys: Vec<&str> = entry.keys().collect();
                format!("{class} {number} {} {}", entry.line(), keys.join(" "))
            }
        }
    };
    let iccid = Iccid::parse("8988247000100003319").unwrap();
    let someone = Subscriber::at("192.0.2.9".parse().unwrap());
    assert_eq!(told(Subject::Class("garden")), "garden asked");
    assert_eq!(told(Subject::Class("nobody")), "none nothing");
    assert_eq!(told(Subject::Subscriber(&someone)), "garden default");
    let line = |text: &str| TEXT.lines().position(|line| line.contains(text)).unwrap() + 1;
    let watched = someone.clone().with_iccid(iccid);
    let expected = format!("watched 1 {} iccid", line("iccid ="));
    assert_eq!(told(Subject::Subscriber(&watched)), expected);
    let active = someone.with_state(SimState::Active).with_iccid(iccid);
    assert_eq!(told(Subject::Subscriber(&active)), format!("paid 2 {} state", line("state =")));
}

#[test]
fn near_misses_are_those_of_the_class_nearest_first() {
    let policy = policy();
    let told = |class: &str, text: &str| -> Vec<(String, &'static str)> {
        let explanation = explain(&policy, Subject::Class(class), &target(text), now());
        let misses = explanation.misses().iter();
        misses.map(|miss| (miss.rule.pattern().to_string(), miss.nearness.label())).collect()
    };
    let row = |pattern: &str, nearness| (pattern.to_owned(), nearness);
    assert_eq!(told("garden", "https://pya.example.org"), [row("pay.example.org", "spelling")]);
    assert_eq!(told("garden", "https://www.pay.example.org"), [row("pay.example.org", "related")]);
    assert_eq!(
        told("garden", "https://secret.example.org"),
        [row("pay.example.org", "same-domain")]
    );
    assert_eq!(told("garden", "https://www.bing.com"), []);
    assert_eq!(told("paid", "https://pya.example.org"), []);
    assert_eq!(told("garden", "https://portal.example.com"), [], "allowed requests miss nothing");
    assert_eq!(
        told("watched", "https://secrets.example.org"),
        [row("secret.example.org", "spelling")]
    );
}

#[test]
fn near_misses_are_few() {
    let hosts: String = (0..=MAX_MISSES)
        .map(|at| format!("{{ match = \"h{at}.example.org\", schemes = [\"https\"] }},"))
        .collect();
    let text =
        TEXT.replace("host = [{ match = \"secret", &format!("host = [{hosts} {{ match = \"secret"));
    let source = Source { name: "policy.toml", text: &text };
    let policy = compile(&source, date(2026, 11, 23)).unwrap().policy;
    let asked = target("https://h.example.org");
    let explanation = explain(&policy, Subject::Class("watched"), &asked, now());
    assert_eq!(explanation.misses().len(), MAX_MISSES);
}

#[test]
fn an_explanation_never_disagrees_with_the_decision() {
    let policy = policy();
    for class in ["paid", "watched", "garden", "nobody"] {
        for text in
            ["https://portal.example.com", "quic://a.example.com", "tcp://a.b:22", "dns:::1"]
        {
            let target = target(text);
            let explanation = explain(&policy, Subject::Class(class), &target, now());
            let decision = target.decide(&policy, Subject::Class(class), now());
            assert_eq!(explanation.decision().verdict(), decision.verdict(), "{class} {text}");
            assert_eq!(explanation.decision().reason(), decision.reason(), "{class} {text}");
        }
    }
}
