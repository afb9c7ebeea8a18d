use std::path::Path;

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    command: DriftCommand,
}

/// The outcome of `postern drift` on a sample of the folder `diff`, and the page.
fn run_on(file: &str, arguments: &[&str]) -> (Result<bool, String>, String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/diff");
    let line = ["drift", file, "--at", "2026-11-23T12:00:00Z"]
        .into_iter()
        .chain(arguments.iter().copied());
    let mut command = Line::try_parse_from(line).unwrap().command;
    command.file = folder.join(&command.file);
    let mut page = Vec::new();
    let outcome = compare(&command, &mut page);
    let folder = format!("{}/", folder.display());
    (outcome, String::from_utf8(page).unwrap().replace(&folder, ""))
}

const NEWEST: &str = "builtin:mobile-plans@2023-12-12";

#[test]
fn rows_are_told_apart() {
    let (outcome, page) = run_on("old.toml", &["--class", "unprovisioned", "--against", NEWEST]);
    assert_eq!(outcome, Ok(false));
    assert_eq!(
        page,
        "old.toml, class unprovisioned, against builtin:mobile-plans@2023-12-12\n\
         \x20 missing  every name ending in smartscreen.microsoft.com [https 443]\n\
         \x20 extra    dogfood.datamart.windows.com [https 443]\n\
         \x20 extra    help.acme.example [https 443]\n\
         \x20 extra    mps-service.datamart.windows.com [http 80; https 443]\n\
         \x20 extra    mps-staging.datamart.windows.com [http 80; https 443]\n\
         \x20 extra    everything below pay.psp.example [https 443, 8443]\n\
         \x20 extra    portal.acme.example [https 443]\n\
         \x20 extra    service.datamart.windows.com [https 443]\n\
         \x20 extra    terms.acme.example [http 80; https 443]\n\
         \x20 extra    windows.policies.live.net [https 443]\n\
         different: 1 missing, 0 changed, 9 extra\n"
    );
}

#[test]
fn hosts_beyond_the_table_may_be_allowed() {
    let table = "builtin:mobile-plans@2019-04-03";
    let arguments = ["--class", "unprovisioned", "--against", table, "--allow-extra"];
    let (outcome, page) = run_on("old.toml", &arguments);
    assert_eq!(outcome, Ok(true), "{page}");
    assert!(page.contains("  extra    ") && page.ends_with("extra\n"), "{page}");
    assert_eq!(run_on("old.toml", &arguments[..4]).0, Ok(false));
}

#[test]
fn json_names_everything() {
    let arguments = ["--class", "unprovisioned", "--against", NEWEST, "--format", "json"];
    let (outcome, page) = run_on("old.toml", &arguments);
    assert_eq!(outcome, Ok(false));
    let value: Value = serde_json::from_str(&page).unwrap();
    assert_eq!(value["outcome"], "different");
    assert_eq!(value["missing"][0]["hosts"]["cover"], "*smartscreen.microsoft.com");
    assert_eq!(value["missing"][0]["published"], json!([{ "channel": "https", "ports": [443] }]));
    assert_eq!(value["extra"].as_array().unwrap().len(), 9);
}

#[test]
fn what_cannot_be_compared_is_said() {
    for (class, against, said) in [
        ("nobody", NEWEST, "error: no class `nobody` in"),
        ("unprovisioned", "mobile-plan", "did you mean `mobile-plans`?"),
        ("unprovisioned", "ts43-entitlement", "needs the network codes"),
    ] {
        let (outcome, page) = run_on("old.toml", &["--class", class, "--against", against]);
        assert!(outcome.as_ref().unwrap_err().contains(said), "{outcome:?}");
        assert_eq!(page, "");
    }
}
