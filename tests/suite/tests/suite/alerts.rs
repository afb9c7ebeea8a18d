//! The alert rules: they parse, fire when they should, and speak of metrics that exist.

use std::collections::BTreeSet;

use crate::{
    metrics::documented,
    repository::{text, top},
    tool::{checker, succeed},
};

const RULES: &str = "deploy/prometheus/alerts.yml";
const CASES: &str = "deploy/prometheus/alerts_test.yml";

#[test]
fn rules_parse() {
    let Some(mut promtool) = checker("promtool") else { return };
    succeed(promtool.args(["check", "rules"]).arg(top().join(RULES)));
}

#[test]
fn rules_fire_as_their_cases_say() {
    let Some(mut promtool) = checker("promtool") else { return };
    succeed(promtool.args(["test", "rules"]).arg(top().join(CASES)));
}

#[test]
fn each_rule_has_a_case_and_a_runbook_entry() {
    let (rules, cases, runbook) = (text(RULES), text(CASES), text("deploy/README.md"));
    let names: Vec<&str> = values(&rules, "alert: ").collect();
    assert!(names.len() >= 5, "{names:?}");
    for name in names {
        assert!(values(&cases, "alertname: ").any(|case| case == name), "{name} has no case");
        assert!(runbook.contains(&format!("### {name}\n")), "{name} is not in the runbook");
    }
}

#[test]
fn rules_name_only_documented_metrics() {
    let documented = documented();
    for metric in metrics(&text(RULES)) {
        let plain = ["_bucket", "_count", "_sum"]
            .iter()
            .find_map(|suffix| metric.strip_suffix(suffix))
            .unwrap_or(&metric);
        assert!(documented.contains_key(plain), "{metric} is not in METRICS.md");
    }
}

/// What stands after `key`, on every line that has it.
fn values<'a>(text: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().filter_map(move |line| Some(line.split_once(key)?.1.trim()))
}

/// Every word of `text` that looks like one of our metrics.
fn metrics(text: &str) -> BTreeSet<String> {
    text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .filter(|word| word.starts_with("postern_"))
        .map(str::to_owned)
        .collect()
}
