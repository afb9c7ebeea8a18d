use jiff::{Timestamp, civil::date};

use super::*;
use crate::{
    class::Apn,
    compile::{Source, compile, compile_parts},
    parts::Parts,
    sim::{Iccid, Identity, Imsi, SimState},
    target::Target,
};

const TEXT: &str = r#"
schema        = 1
name          = "decided"
serial        = 1
environment   = "lab"
default_class = "garden"

[[hostset]]
name = "one"
host = [
    { match = "both.example.com", schemes = ["http"] },
    { match = "plain.example.com", schemes = ["http"] },
    { match = "*.wide.example.com", schemes = ["https"] },
    { match = "deep.wide.example.com", schemes = ["https"], expires = 2026-11-23 },
    { match = "ended.example.com", schemes = ["https"], expires = 2026-11-22 },
    { match = "port.example.com", schemes = ["https"], ports = [8443] },
    { match = "www.msftconnecttest.com", schemes = ["http"] },
]

[[hostset]]
name = "two"
host = [{ match = "both.example.com", schemes = ["https"] }]

[[class]]
name     = "barred"
priority = 1
action   = "drop"
match    = [{ state = ["barred"] }]

[[class]]
name     = "paid"
priority = 2
action   = "open"
match    = [{ state = ["active"], networks = ["100.64.0.0/16", "2001:db8:64::/48"] }]

[[class]]
name     = "watched"
priority = 3
action   = "observe"
hostsets = ["one"]
match    = [
    { iccid = ["8988247000100000000-8988247000199999999"] },
    { imsi = ["001010000000007"] },
    { apn = ["Watch.Example"] },
]

[[class]]
name     = "quiet"
priority = 4
action   = "garden"
hostsets = ["one"]
ncsi     = "deny"
match    = [{ networks = ["100.65.0.0/16"] }]

[[class]]
name     = "garden"
priority = 5
action   = "garden"
hostsets = ["one", "two"]
"#;

fn policy(text: &str) -> Policy {
    compile(&Source { name: "policy.toml", text }, date(2026, 11, 23)).unwrap().policy
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn told(policy: &Policy, subject: Subject<'_>, target: &str) -> String {
    let now = at("2026-11-23T23:59:59Z");
    let decision = Target::parse(target).unwrap().decide(policy, subject, now);
    let rule = decision.rule().map_or_else(String::new, |rule| format!(" {}", rule.hostset()));
    format!("{} {}{rule}", decision.verdict().label(), decision.reason())
}

#[test]
fn a_garden_allows_what_is_listed_and_nothing_else() {
    let policy = policy(TEXT);
    for (target, expected) in [
        ("http://both.example.com", "allow listed one"),
        ("https://both.example.com", "allow listed two"),
        ("https://plain.example.com", "deny scheme-not-listed one"),
        ("http://plain.example.com:8080", "deny port-not-listed one"),
        ("https://port.example.com", "deny port-not-listed one"),
        ("https://port.example.com:8443", "allow listed one"),
        ("http://port.example.com:8443", "deny scheme-not-listed one"),
        ("dns:port.example.com/TXT", "allow listed one"),
        ("https://a.b.wide.example.com", "allow listed one"),
        ("https://wide.example.com", "deny not-listed"),
        ("https://deep.wide.example.com", "allow listed one"),
        ("https://ended.example.com", "deny expired one"),
        ("dns:ended.example.com", "deny expired one"),
        ("https://www.bing.com", "deny not-listed"),
        ("dns:www.bing.com", "deny not-listed"),
        ("quic://both.example.com", "deny quic"),
        ("quic://www.bing.com", "deny quic"),
        ("tcp://both.example.com:22", "deny port-not-listed one"),
        ("tcp://both.example.com:443", "deny port-not-listed one"),
        ("tcp://www.bing.com:22", "deny not-listed"),
        ("https://192.0.2.1", "deny ip-literal"),
        ("http://www.msftconnecttest.com", "allow listed one"),
    ] {
        assert_eq!(told(&policy, Subject::Class("garden"), target), expected, "{target}");
    }
}

#[test]
fn a_node_that_looks_into_quic_judges_it_as_it_judges_tls() {
    let rejecting = policy(TEXT);
    let parts = Parts::alone(&Source { name: "policy.toml", text: TEXT }).for_node(Quic::Inspect);
    let inspecting = compile_parts(&parts, date(2026, 11, 23)).unwrap().policy;
    let garden = Subject::Class("garden");
    for target in [
        "both.example.com",
        "plain.example.com",
        "port.example.com",
        "port.example.com:8443",
        "ended.example.com",
        "deep.wide.example.com",
        "www.bing.com",
    ] {
        let (quic, https) = (format!("quic://{target}"), format!("https://{target}"));
        assert_eq!(told(&inspecting, garden, &quic), told(&inspecting, garden, &https), "{target}");
        assert_eq!(told(&rejecting, garden, &quic), "deny quic", "{target}");
    }
    let watched = Subject::Class("watched");
    assert_eq!(told(&inspecting, watched, "quic://www.bing.com"), "observe not-listed");
}

#[test]
fn an_expired_entry_falls_through_to_the_wider_one() {
    let policy = policy(TEXT);
    let host = &HostName::parse("deep.wide.example.com").unwrap();
    for (now, pattern) in [
        ("2026-11-23T23:59:59Z", "deep.wide.example.com"),
        ("2026-11-24T00:00:00Z", "*.wide.example.com"),
    ] {
        let request = Request::Https { host, port: 443 };
        let decision = decide(&policy, Subject::Class("garden"), request, at(now));
        assert_eq!(decision.reason(), Reason::Listed);
        assert_eq!(decision.rule().unwrap().pattern().to_string(), pattern, "{now}");
    }
}

#[test]
fn the_action_of_the_class_frames_the_verdict() {
    let policy = policy(TEXT);
    for (class, target, expected) in [
        ("barred", "http://both.example.com", "deny barred"),
        ("barred", "https://192.0.2.1", "deny barred"),
        ("paid", "https://www.bing.com", "allow open"),
        ("paid", "quic://www.bing.com", "allow open"),
        ("paid", "https://192.0.2.1", "allow open"),
        ("watched", "http://both.example.com", "allow listed one"),
        ("watched", "https://both.example.com", "observe scheme-not-listed one"),
        ("watched", "https://www.bing.com", "observe not-listed"),
        ("watched", "https://192.0.2.1", "observe ip-literal"),
        ("quiet", "http://www.msftconnecttest.com", "deny ncsi"),
        ("quiet", "dns:www.msftconnecttest.com", "deny ncsi"),
        ("quiet", "dns:dns.msftncsi.com", "deny ncsi"),
        ("quiet", "http://plain.example.com", "allow listed one"),
        ("nobody", "http://plain.example.com", "deny unknown-subscriber"),
        ("nobody", "https://192.0.2.1", "deny unknown-subscriber"),
    ] {
        assert_eq!(told(&policy, Subject::Class(class), target), expected, "{class} {target}");
    }
}

#[test]
fn a_subscriber_falls_in_the_first_class_that_holds_it() {
    let policy = policy(TEXT);
    let at = |text: &str| Subscriber::at(text.parse().unwrap());
    let iccid = |text| Iccid::parse(text).unwrap();
    let imsi = |text| Imsi::parse(text).unwrap();
    let watched = iccid("8988247000100003319");
    for (subscriber, class) in [
        (at("192.0.2.1"), "garden"),
        (at("100.64.0.1"), "garden"),
        (at("100.64.0.1").with_state(SimState::Active), "paid"),
        (at("::ffff:100.64.0.1").with_state(SimState::Active), "paid"),
        (at("2001:db8:64:ffff::1").with_state(SimState::Active), "paid"),
        (at("2001:db8:65::1").with_state(SimState::Active), "garden"),
        (at("100.65.0.1").with_state(SimState::Active), "quiet"),
        (at("100.64.0.1").with_state(SimState::Barred), "barred"),
        (at("100.65.0.1").with_iccid(watched), "watched"),
        (Subscriber::default().with_iccid(watched), "watched"),
        (at("192.0.2.1").with_iccid(iccid("8988247000199999999")), "watched"),
        (at("192.0.2.1").with_iccid(iccid("8988247000200000000")), "garden"),
        (at("192.0.2.1").with_imsi(imsi("001010000000007")), "watched"),
        (at("192.0.2.1").with_imsi(imsi("001010000000008")), "garden"),
        (at("192.0.2.1").with_apn(Apn::new("WATCH.example")), "watched"),
        (at("192.0.2.1").with_apn(Apn::new("watch.example.org")), "garden"),
        (Subscriber::default(), "garden"),
    ] {
        let found = policy.class_of(Subject::Subscriber(&subscriber)).map(Class::name);
        assert_eq!(found, Some(class), "{subscriber:?}");
    }
}

#[test]
fn without_a_default_class_unknown_subscribers_are_denied() {
    let policy = policy(&TEXT.replace("default_class = \"garden\"\n", "").replace(
        "hostsets = [\"one\", \"two\"]",
        "hostsets = [\"one\", \"two\"]\nmatch = [{ networks = [\"100.66.0.0/16\"] }]",
    ));
    let nobody = Subscriber::at("192.0.2.1".parse().unwrap());
    let told = told(&policy, Subject::Subscriber(&nobody), "http://plain.example.com");
    assert_eq!(told, "deny unknown-subscriber");
}

#[test]
fn every_spelling_of_a_name_is_judged_alike() {
    let policy = policy(TEXT);
    for host in ["plain.example.com", "PLAIN.Example.COM", "plain.example.com."] {
        let told = told(&policy, Subject::Class("garden"), &format!("http://{host}"));
        assert_eq!(told, "allow listed one", "{host}");
    }
    for host in ["xplain.example.com", "a.plain.example.com", "plain.example.com.evil.example"] {
        let told = told(&policy, Subject::Class("garden"), &format!("http://{host}"));
        assert_eq!(told, "deny not-listed", "{host}");
    }
}
