//! The garden: every listed host by its listed scheme, nothing else, and the same in the words of the tools.

use std::{fs, process::Command};

use lab::{LISTED, Schemes};
use serde_json::Value;

use crate::{
    repository::text,
    stage::{PORTAL, assert_sealed, options, world},
    tool::{finish, postern, succeed},
};

#[test]
fn journey_of_an_unprovisioned_sim_is_green() {
    let world = world();
    let journey = lab::find("unprovisioned-sim").unwrap();
    let steps = lab::perform(journey, &world, |_, _| {});
    let failed: Vec<_> = steps.iter().filter(|step| step.is_failed()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(steps.len() > 4 * LISTED.len(), "{} steps only", steps.len());
    assert!(steps.iter().all(|step| step.verdict != lab::Verdict::NotShown));
    assert_sealed(&world);
}

#[test]
fn shipped_table_is_the_published_one_row_by_row() {
    let shown = succeed(postern().args(["hostsets", "show", "mobile-plans", "--format", "json"]));
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let rows: Vec<_> = shown["hostset"]["hosts"].as_array().unwrap().iter().map(row).collect();
    let published: Vec<_> = LISTED
        .iter()
        .map(|row| {
            let Schemes { http, https } = row.schemes;
            let schemes = [(http, "http", 80), (https, "https", 443)].into_iter();
            let (schemes, ports) = schemes
                .filter(|(listed, _, _)| *listed)
                .map(|(_, name, port)| (name.to_owned(), port))
                .unzip();
            (row.printed.to_owned(), schemes, ports)
        })
        .collect();
    assert_eq!(rows, published);
    assert_eq!(shown["hostset"]["date"], "2023-12-12");
}

#[test]
fn every_row_and_scheme_is_explained_with_its_line() {
    let file = "policy/src/builtin/mobile-plans@2023-12-12.toml";
    let table = text(file);
    let policy = Policy::new();
    for row in LISTED {
        for (scheme, listed) in [("http", row.schemes.http), ("https", row.schemes.https)] {
            let target = format!("{scheme}://{}", row.name);
            let (code, explained) = policy.explain(&target);
            assert_eq!(explained["target"], target.as_str());
            let (verdict, reason) =
                if listed { ("allow", "listed") } else { ("deny", "scheme-not-listed") };
            assert_eq!(code, i32::from(!listed), "{target}");
            assert_eq!(explained["verdict"], verdict, "{target}");
            assert_eq!(explained["reason"], reason, "{target}");
            let rule = &explained["rule"];
            assert_eq!(rule["file"], "builtin:mobile-plans@2023-12-12", "{target}");
            let line = usize::try_from(rule["line"].as_u64().unwrap()).unwrap();
            let entry = format!("match   = \"{}\"", row.printed);
            assert_eq!(table.lines().nth(line - 1), Some(entry.as_str()), "{target}: line {line}");
        }
    }
}

#[test]
fn rule_of_the_policy_itself_is_explained_with_its_line() {
    let policy = Policy::new();
    let (code, explained) = policy.explain(&format!("https://{PORTAL}"));
    assert_eq!((code, &explained["verdict"]), (0, &Value::from("allow")));
    let rule = &explained["rule"];
    assert_eq!(rule["file"].as_str(), policy.path.to_str());
    let line = usize::try_from(rule["line"].as_u64().unwrap()).unwrap();
    let entry = format!("match = \"{PORTAL}\"");
    assert_eq!(policy.text.lines().nth(line - 1), Some(entry.as_str()), "line {line}");
}

#[test]
fn unlisted_host_is_explained_as_denied_without_a_rule() {
    let (code, explained) = Policy::new().explain("https://www.bing.com");
    assert_eq!(code, 1);
    assert_eq!(explained["verdict"], "deny");
    assert_eq!(explained["reason"], "not-listed");
    assert_eq!(explained["rule"], Value::Null);
}

#[test]
fn running_gateway_explains_as_the_command_does() {
    let world = world();
    let policy = Policy::new();
    for target in ["https://login.live.com", "https://crl.microsoft.com", "https://www.bing.com"] {
        for ip in ["100.64.1.2", "2001:db8:64:1::2"] {
            let path = format!("/v1/explain?ip={ip}&target={target}");
            let reply = world.gateway().admin(http::Method::GET, &path, "").unwrap();
            let told: Value = serde_json::from_str(&reply.body).unwrap();
            let (_, explained) = policy.explain(target);
            for key in ["verdict", "reason"] {
                assert_eq!(told[key], explained[key], "{target} {ip} {key}");
            }
            assert_eq!(told["rule"]["line"], explained["rule"]["line"], "{target} {ip}");
        }
    }
}

/// The lab's policy in a file of its own.
struct Policy {
    text: String,
    path: std::path::PathBuf,
    _folder: tempfile::TempDir,
}

impl Policy {
    fn new() -> Self {
        let mut options = options();
        options.start_gateway = false;
        let text = lab::World::start(options).unwrap().policy_text().to_owned();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.toml");
        fs::write(&path, &text).unwrap();
        Self { text, path, _folder: folder }
    }

    /// The exit code of `postern explain`, and what it says of one target.
    fn explain(&self, target: &str) -> (i32, Value) {
        let mut command: Command = postern();
        command.args(["explain", "--class", "unprovisioned", "--format", "json", "--policy"]);
        let (code, said) = finish(command.arg(&self.path).arg(target));
        let said: Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}"));
        assert_eq!(said["outcome"], if code == 0 { "allowed" } else { "denied" });
        (code, said["results"][0].clone())
    }
}

/// Name, schemes and ports of one row.
fn row(host: &Value) -> (String, Vec<String>, Vec<u64>) {
    let words = |key: &str| host[key].as_array().unwrap().clone();
    (
        host["match"].as_str().unwrap().to_owned(),
        words("schemes").iter().map(|scheme| scheme.as_str().unwrap().to_owned()).collect(),
        words("ports").iter().map(|port| port.as_u64().unwrap()).collect(),
    )
}
