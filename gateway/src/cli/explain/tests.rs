use std::path::Path;

use clap::Parser;
use policy::{Scheme, builtin};
use serde_json::Value;

use super::*;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    command: ExplainCommand,
}

fn policy() -> String {
    let path = "../tests/data/policies/good/acme-mobile.toml";
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).to_str().unwrap().to_owned()
}

/// Whether all pass, and what is printed.
fn told(arguments: &[&str]) -> Result<(bool, String), String> {
    let policy = policy();
    let head = ["explain", "--policy", &policy, "--at", "2026-11-23T12:00:00Z"];
    let line =
        Line::try_parse_from(head.iter().chain(arguments)).map_err(|error| error.to_string())?;
    let mut page = Vec::new();
    let passes = explain_all(&line.command, &mut page)?;
    Ok((passes, String::from_utf8(page).unwrap()))
}

fn results(arguments: &[&str]) -> Vec<Value> {
    let (_, page) = told(&[&["--format", "json"], arguments].concat()).unwrap();
    let page: Value = serde_json::from_str(&page).unwrap();
    assert_eq!(page["format_version"], 1);
    page["results"].as_array().unwrap().clone()
}

#[test]
fn quic_is_explained_as_the_node_treats_it() {
    for (arguments, passes, reason) in [
        (&["quic://portal.acme.example"][..], false, "quic"),
        (&["--quic", "reject", "quic://portal.acme.example"], false, "quic"),
        (&["--quic", "inspect", "quic://portal.acme.example"], true, "listed"),
        (&["--quic", "inspect", "quic://portal.acme.example:8443"], false, "port-not-listed"),
        (&["--quic", "inspect", "quic://www.bing.com"], false, "not-listed"),
    ] {
        let arguments = [&["--class", "unprovisioned"], arguments].concat();
        let result = &results(&arguments)[0];
        assert_eq!(result["reason"], reason, "{arguments:?}");
        assert_eq!(told(&arguments).unwrap().0, passes, "{arguments:?}");
    }
}

#[test]
fn each_row_of_the_current_table_is_judged_by_its_scheme() {
    let set = builtin::find("mobile-plans").unwrap();
    assert_eq!(set.entries().len(), 15);
    for entry in set.entries() {
        for scheme in Scheme::ALL {
            let host = entry.printed().replace('*', "nav-edge.");
            let target = format!("{scheme}://{host}");
            let result = &results(&["--class", "unprovisioned", &target])[0];
            let listed = entry.schemes().contains(&scheme);
            let expected = if listed { ("allow", "listed") } else { ("deny", "scheme-not-listed") };
            assert_eq!(
                (result["verdict"].as_str(), result["reason"].as_str()),
                (Some(expected.0), Some(expected.1)),
                "{target}"
            );
            assert_eq!(result["rule"]["match"], entry.pattern().to_string(), "{target}");
            assert_eq!(result["rule"]["file"], "builtin:mobile-plans@2023-12-12", "{target}");
            assert_eq!(result["rule"]["line"], entry.place().line, "{target}");
        }
    }
}

#[test]
fn all_targets_must_pass() {
    let (open, shut) = ("https://portal.acme.example", "https://www.bing.com");
    for (targets, expected) in [(&[open][..], true), (&[shut], false), (&[open, shut], false)] {
        let (passes, page) = told(&[&["--class", "unprovisioned"], targets].concat()).unwrap();
        assert_eq!(passes, expected, "{page}");
    }
    assert!(told(&["--state", "active", shut]).unwrap().0);
}

#[test]
fn people_are_told_the_rule_its_line_and_the_class() {
    let (_, page) = told(&[
        "--ip",
        "2001:db8:64:1::7",
        "https://portl.acme.example",
        "https://x.pay.psp.example",
    ])
    .unwrap();
    for part in [
        "deny    https://portl.acme.example\n  reason  not-listed\n  rule    none\n",
        "holds (networks)",
        "near    portal.acme.example [https 443] in mo-direct at ",
        ": 1 letter apart",
        "allow   https://x.pay.psp.example\n  reason  listed\n  rule    *.pay.psp.example [https 443,8443] in mo-direct at ",
        "acme-mobile.toml:",
    ] {
        assert!(page.contains(part), "{part} in {page}");
    }
}

#[test]
fn what_cannot_be_asked_is_refused_without_repeating_identities() {
    let target = "https://www.bing.com";
    for (arguments, part) in [
        (&[target][..], "required"),
        (&["--class", "unprovisioned"], "required"),
        (&["--class", "nobody", target], "there are: paid, unprovisioned"),
        (&["--class", "paid", "--ip", "192.0.2.1", target], "cannot be used with"),
        (&["--iccid", "8988247", target], "ICCID has 7 digits"),
        (&["--imsi", "00101x", target], "IMSI may hold digits only"),
        (&["--state", "payed", target], "one of active"),
        (&["--ip", "192.0.2.1", "www.bing.com"], "a target begins with"),
    ] {
        let error = told(arguments).unwrap_err();
        assert!(error.contains(part), "{part} in {error}");
        assert!(!error.contains("8988247") && !error.contains("00101x"), "{error}");
    }
}
