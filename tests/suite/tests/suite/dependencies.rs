//! What `.deny.toml` says, held without cargo-deny: it takes longer to build than the whole check.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    repository::text,
    tool::{cargo, succeed},
};

#[test]
fn licences_are_allowed() {
    let rules = rules();
    let allowed: BTreeSet<&str> = strings(&rules["licenses"]["allow"]).collect();
    for package in packages() {
        let (name, licence) = (&package["name"], package["license"].as_str());
        let licence = licence.unwrap_or_else(|| panic!("{name} names no licence"));
        assert!(satisfied(licence, &allowed), "{name}: {licence}");
    }
}

#[test]
fn banned_crates_are_not_there() {
    let rules = rules();
    let names: Vec<String> =
        packages().iter().map(|package| package["name"].as_str().unwrap().to_owned()).collect();
    let bans = rules["bans"]["deny"].as_array().unwrap();
    assert!(!bans.is_empty());
    for ban in bans {
        let banned = ban["name"].as_str().unwrap();
        let allowed = usize::from(ban.get("deny-multiple-versions").is_some());
        let found = names.iter().filter(|name| *name == banned).count();
        assert!(found <= allowed, "{banned}: {found} versions, at most {allowed}");
    }
}

#[test]
fn every_crate_comes_from_here_or_the_registry() {
    for line in text("Cargo.lock").lines().filter(|line| line.starts_with("source = ")) {
        assert!(line.starts_with("source = \"registry+"), "{line}");
    }
}

#[test]
fn licence_expressions_are_understood() {
    let allowed = BTreeSet::from(["MIT", "ISC"]);
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/MIT", true),
        ("MIT AND ISC", true),
        ("MIT AND GPL-3.0", false),
        ("(MIT OR GPL-3.0) AND ISC", true),
        ("(MIT OR ISC) AND GPL-3.0", false),
        ("Apache-2.0 WITH LLVM-exception OR ISC", true),
    ] {
        assert_eq!(satisfied(expression, &allowed), expected, "{expression}");
    }
}

fn rules() -> toml::Table {
    text(".deny.toml").parse().unwrap()
}

fn strings(array: &toml::Value) -> impl Iterator<Item = &str> {
    array.as_array().unwrap().iter().filter_map(toml::Value::as_str)
}

/// Every package that a build for this kind of machine uses.
fn packages() -> Vec<Value> {
    let metadata = succeed(cargo().args([
        "metadata",
        "--locked",
        "--quiet",
        "--format-version",
        "1",
        "--filter-platform",
        "x86_64-unknown-linux-gnu",
    ]));
    let metadata: Value = serde_json::from_str(metadata.trim()).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// Whether an SPDX expression (or the older form with slashes) can be met by `allowed`.
///
/// AND binds tighter than OR; parentheses stand around whole operands.
fn satisfied(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let expression = expression.replace('/', " OR ");
    let any = |operands: Vec<&str>| operands.iter().any(|all| every(all, allowed));
    any(split(&expression, " OR "))
}

fn every(operand: &str, allowed: &BTreeSet<&str>) -> bool {
    split(operand, " AND ").into_iter().all(|term| {
        let term = term.trim();
        match term.strip_prefix('(').and_then(|term| term.strip_suffix(')')) {
            Some(inner) => satisfied(inner, allowed),
            None => allowed.contains(term),
        }
    })
}

/// Splits at `operator` outside of parentheses.
fn split<'a>(expression: &'a str, operator: &str) -> Vec<&'a str> {
    let mut parts = Vec::new();
    let mut start = 0;
    for (at, _) in expression.match_indices(operator) {
        let before = &expression[start..at];
        if before.matches('(').count() == before.matches(')').count() {
            parts.push(before);
            start = at + operator.len();
        }
    }
    parts.push(&expression[start..]);
    parts
}
