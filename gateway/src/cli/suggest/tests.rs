//! What is proposed.

use clap::Parser;
use policy::{HostName, Source, Subject};

use super::*;
use crate::replay::{Asked, Protocol};

const POLICY: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/policies/good/acme-mobile.toml");

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    command: SuggestCommand,
}

fn log() -> tempfile::NamedTempFile {
    let line = |hour: u8, sim: u8, protocol: &str, host: &str, port: u16, reason: &str| {
        format!(
            r#"{{"time":"2026-11-23T{hour:02}:00:00Z","node":"n","protocol":"{protocol}","class":"unprovisioned","subscriber":"s{sim}","host":"{host}","port":{port},"verdict":"deny","reason":"{reason}"}}"#
        )
    };
    let lines = [
        line(9, 1, "dns", "bank.example", 53, "not-listed"),
        line(10, 1, "https", "bank.example", 443, "not-listed"),
        line(11, 2, "https", "bank.example", 8443, "not-listed"),
        line(11, 2, "http", "bank.example", 80, "not-listed"),
        line(12, 1, "dns", "only-asked.azurewebsites.net", 53, "not-listed"),
        line(13, 1, "http", "portal.acme.example", 80, "scheme-not-listed"),
        line(14, 1, "https", "login.live.com", 443, "not-listed"),
        line(15, 1, "https", "a.example", 443, "limit"),
    ];
    let log = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(log.path(), lines.join("\n")).unwrap();
    log
}

fn ask(log: &tempfile::NamedTempFile, arguments: &[&str]) -> (bool, String) {
    let line = ["suggest", "--at", "2026-11-23T12:00:00Z", "--log", log.path().to_str().unwrap()];
    let line = Line::try_parse_from(line.iter().chain(arguments)).unwrap();
    let mut out = Vec::new();
    let found = suggest(&line.command, &mut out).unwrap();
    (found, String::from_utf8(out).unwrap())
}

#[test]
fn proposal_compiles_and_allows_what_was_denied_and_nothing_else() {
    let log = log();
    let (found, page) = ask(&log, &["--policy", POLICY]);
    assert!(found);
    assert!(page.contains("# shared zone: anybody can register names under azurewebsites.net"));
    assert!(page.contains("# change: portal.acme.example is named at "), "{page}");
    assert!(!page.contains("login.live.com"), "{page}");
    let text = std::fs::read_to_string(POLICY).unwrap();
    let text = text.replace("\"mo-direct\"]", "\"mo-direct\", \"suggested\"]") + &page;
    let source = Source { name: "p", text: &text };
    let policy = policy::compile(&source, jiff::civil::date(2026, 11, 23)).unwrap().policy;
    for (protocol, host, port, passes) in [
        (Protocol::Https, "bank.example", 443, true),
        (Protocol::Https, "bank.example", 8443, true),
        (Protocol::Http, "bank.example", 80, true),
        (Protocol::Http, "bank.example", 8443, false),
        (Protocol::Https, "only-asked.azurewebsites.net", 443, true),
        (Protocol::Https, "other.azurewebsites.net", 443, false),
        (Protocol::Http, "portal.acme.example", 80, false),
    ] {
        let asked = Asked::named(protocol, HostName::parse(host).unwrap(), port);
        let decision =
            asked.decide(&policy, Subject::Class("unprovisioned"), Timestamp::UNIX_EPOCH);
        assert_eq!(decision.passes(), passes, "{host} {port}\n{page}");
    }
    assert_eq!(ask(&log, &["--policy", POLICY]).1, page, "same inputs, same bytes");
}

#[test]
fn without_a_policy_the_log_speaks() {
    let log = log();
    let (_, page) = ask(&log, &["--format", "json"]);
    let value: Value = serde_json::from_str(&page).unwrap();
    let hosts: Vec<&str> = value["proposals"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["match"].as_str().unwrap())
        .collect();
    let expected =
        ["bank.example", "login.live.com", "only-asked.azurewebsites.net", "portal.acme.example"];
    assert_eq!(hosts, expected);
    assert_eq!(value["proposals"][0]["subscribers"], 2);
    let (found, page) = ask(&log, &["--class", "paid"]);
    assert!(!found && page.starts_with("# Nothing"), "{page}");
}
