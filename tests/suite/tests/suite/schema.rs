//! The schema for editors beside the reader of policies: one must not know what the other does not.

use std::{collections::BTreeSet, fs};

use policy::{Source, compile};
use serde_json::{Value, json};

use crate::repository::{fenced, files, text, top};

const SCHEMA: &str = "deploy/schema/policy.schema.json";

#[test]
fn every_sound_policy_is_valid() {
    let schema = validator();
    let mut checked = 0;
    let samples = files("deploy/config").into_iter().chain(files("tests/data/policies/good"));
    for path in samples.filter(|path| path.extension().is_some_and(|it| it == "toml")) {
        let document = text(path.to_str().unwrap());
        if !document.contains("\nschema") {
            continue;
        }
        assert_valid(&schema, &document, path.to_str().unwrap());
        checked += 1;
    }
    for document in fenced(&text("README.md"), "toml policy") {
        assert_valid(&schema, &document, "README.md");
        checked += 1;
    }
    assert!(checked >= 4, "{checked}");
}

#[test]
fn every_table_has_the_keys_that_the_reader_knows() {
    let schema: Value = serde_json::from_str(&text(SCHEMA)).unwrap();
    for (place, table) in [
        ("", "ODD = 1"),
        ("/properties/dns", "[dns]\nODD = 1"),
        ("/properties/http", "[http]\nODD = 1"),
        ("/properties/hostset/items", "[[hostset]]\nODD = 1"),
        ("/properties/hostset/items/properties/host/items", "[[hostset]]\nhost = [{ ODD = 1 }]"),
        ("/properties/class/items", "[[class]]\nODD = 1"),
        ("/properties/class/items/properties/match/items", "[[class]]\nmatch = [{ ODD = 1 }]"),
        ("/properties/class/items/properties/limits", "[[class]]\nlimits = { ODD = 1 }"),
        ("/properties/schedule/items", "[[schedule]]\nODD = 1"),
        ("/properties/assert/items", "[[assert]]\nODD = 1"),
        ("/properties/lint", "[lint]\nODD = 1"),
        ("/properties/lint/properties/allow/items", "[[lint.allow]]\nODD = 1"),
        ("/properties/lab", "[lab]\nODD = 1"),
    ] {
        let odd = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
        let document = format!("schema = 1\n{}\n", table.replace("ODD", odd));
        let today = jiff::civil::date(2026, 11, 23);
        let found = compile(&Source { name: "p", text: &document }, today).unwrap_err();
        let unknown = found.iter().find(|found| found.code == "PN0003").unwrap();
        let help = unknown.help.as_deref().unwrap().strip_prefix("known here: ").unwrap();
        let known: BTreeSet<&str> = help.split(", ").map(|key| key.trim_matches('`')).collect();
        let part = schema.pointer(place).unwrap();
        assert_eq!(part["additionalProperties"], false, "{place}");
        let listed: BTreeSet<&str> =
            part["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(listed, known, "{place}");
    }
}

#[test]
fn a_policy_with_a_key_too_many_or_too_few_is_not_valid() {
    let schema = validator();
    let sample = json_of(&text("tests/data/policies/good/acme-mobile.toml"));
    assert!(schema.is_valid(&sample));
    for (place, key) in [
        ("", "schema"),
        ("/hostset/0", "name"),
        ("/hostset/0/host/0", "schemes"),
        ("/class/0", "action"),
        ("/assert/0", "class"),
        ("/lint/allow/0", "reason"),
    ] {
        let mut odd = sample.clone();
        let table = odd.pointer_mut(place).unwrap().as_object_mut().unwrap();
        table.insert("odd".into(), json!(1));
        assert!(!schema.is_valid(&odd), "{place} takes any key");
        let mut bare = sample.clone();
        bare.pointer_mut(place).unwrap().as_object_mut().unwrap().remove(key).unwrap();
        assert!(!schema.is_valid(&bare), "{place} does without {key}");
    }
}

fn validator() -> jsonschema::Validator {
    let schema = serde_json::from_str(&fs::read_to_string(top().join(SCHEMA)).unwrap()).unwrap();
    jsonschema::validator_for(&schema).unwrap()
}

#[track_caller]
fn assert_valid(schema: &jsonschema::Validator, document: &str, name: &str) {
    let value = json_of(document);
    let errors: Vec<String> = schema
        .iter_errors(&value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{name}: {errors:#?}");
}

/// TOML as editors give it to the schema: dates are texts.
fn json_of(document: &str) -> Value {
    fn value(toml: toml::Value) -> Value {
        match toml {
            toml::Value::Array(items) => items.into_iter().map(value).collect(),
            toml::Value::Table(table) => {
                table.into_iter().map(|(key, item)| (key, value(item))).collect()
            }
            toml::Value::Datetime(datetime) => datetime.to_string().into(),
            toml::Value::String(text) => text.into(),
            toml::Value::Integer(number) => number.into(),
            toml::Value::Float(number) => number.into(),
            toml::Value::Boolean(truth) => truth.into(),
        }
    }
    value(toml::Value::Table(document.parse().unwrap()))
}
