//! What `postern check --format sarif` prints, held against the schema that OASIS publishes for it.

use serde_json::{Value, json};

use crate::{
    repository::{files, text, top},
    tool::{finish, postern},
};

#[test]
fn findings_of_every_bad_policy_are_valid_sarif() {
    let schema = validator();
    let mut checked = 0;
    for path in files("tests/data/policies/bad") {
        if path.extension().is_none_or(|it| it != "toml") {
            continue;
        }
        let path = path.to_str().unwrap();
        let log = sarif(path);
        assert_valid(&schema, &log, path);
        assert_ne!(log["runs"][0]["results"], json!([]), "{path}");
        checked += 1;
    }
    assert!(checked >= 60, "{checked}");
}

#[test]
fn no_finding_at_all_is_valid_sarif() {
    let path = "tests/data/policies/good/acme-mobile.toml";
    assert_valid(&validator(), &sarif(path), path);
}

#[test]
fn schema_refuses_what_is_no_sarif() {
    let schema = validator();
    let sample = sarif("tests/data/policies/bad/hosts.toml");
    for (place, value) in [
        ("/version", json!("2.0.0")),
        ("/runs/0/tool/driver/name", json!(1)),
        ("/runs/0/results/0/level", json!("fatal")),
        ("/runs/0/results/0/message", json!({})),
        ("/runs/0/results/0/locations/0/physicalLocation/region/startLine", json!(0)),
        ("/runs/0/results/0/locations/0/physicalLocation/artifactLocation/uri", json!("a b")),
    ] {
        let mut odd = sample.clone();
        *odd.pointer_mut(place).unwrap() = value;
        assert!(!schema.is_valid(&odd), "{place}");
    }
}

fn sarif(path: &str) -> Value {
    let (code, said) = finish(postern().args(["check", "--format", "sarif"]).arg(top().join(path)));
    assert!(code == 0 || code == 1, "{path}: {code}: {said}");
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{path}: {error}: {said}"))
}

fn validator() -> jsonschema::Validator {
    let mut schema: Value =
        serde_json::from_str(&text("tests/data/schema/sarif-2.1.0.json")).unwrap();
    for part in ["run", "toolComponent"] {
        let place = format!("/definitions/{part}/properties/language/pattern");
        *schema.pointer_mut(&place).unwrap() = LANGUAGE.into();
    }
    jsonschema::options().should_validate_formats(true).build(&schema).unwrap()
}

#[track_caller]
fn assert_valid(schema: &jsonschema::Validator, log: &Value, name: &str) {
    let errors: Vec<String> = schema
        .iter_errors(log)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{name}: {errors:#?}");
}

/// A language, as erratum 01 has it: a bracket too many makes the first edition's no expression.
const LANGUAGE: &str = "^[a-zA-Z]{2}(-[a-zA-Z]{2})?$";
