//! The run for programs: JSON, JUnit and TAP.

use policy::Held;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use serde_json::{Value, json};

use super::{Run, title, why};

pub(super) fn json(run: &Run<'_>) -> Value {
    let Run { policy, at, held, coverage, min_coverage } = run;
    json!({
        "format_version": 1,
        "outcome": if run.holds() { "held" } else { "broken" },
        "policy": {
            "name": policy.name(),
            "serial": policy.serial(),
            "sha256": policy.sha256().to_string(),
        },
        "at": at.map(|at| at.to_string()),
        "results": held.iter().map(result).collect::<Vec<_>>(),
        "coverage": {
            "entries": coverage.total(),
            "touched": coverage.touched(),
            "percent": coverage.percent(),
            "least": min_coverage,
            "untouched": coverage.untouched().map(|rule| json!({
                "file": *rule.place().file,
                "line": rule.place().line,
                "match": rule.pattern().to_string(),
                "hostset": rule.hostset(),
            })).collect::<Vec<_>>(),
        },
    })
}

fn result(held: &Held<'_, '_>) -> Value {
    let (case, expectation, decision) = (held.case(), held.expectation(), held.decision());
    json!({
        "case": case.name(),
        "file": *expectation.place().file,
        "line": expectation.place().line,
        "at": case.at().map(|at| at.to_string()),
        "target": expectation.target().as_str(),
        "expected": expectation.promised().label(),
        "holds": held.holds(),
        "class": decision.class_label(),
        "verdict": decision.verdict().label(),
        "reason": decision.reason().label(),
        "rule": decision.rule().map(|rule| json!({
            "match": rule.pattern().to_string(),
            "file": *rule.place().file,
            "line": rule.place().line,
        })),
    })
}

/// A suite for each file, a test for each target, and one for the coverage if it is asked for.
pub(super) fn junit(run: &Run<'_>) -> Result<String, String> {
    let mut report = Report::new(format!("postern test of {}", run.policy.name()));
    let files = run.held.iter().map(|held| &*held.expectation().place().file);
    let mut files: Vec<&str> = files.collect();
    files.dedup();
    for file in files {
        let mut suite = TestSuite::new(file);
        let of_file = |held: &&Held<'_, '_>| *held.expectation().place().file == *file;
        suite.add_test_cases(run.held.iter().filter(of_file).map(test_case));
        report.add_test_suite(suite);
    }
    if run.min_coverage.is_some() {
        let mut suite = TestSuite::new("coverage");
        let mut case = TestCase::new("host entries", verdict(run.covers(), &run.covered()));
        case.set_classname("coverage");
        suite.add_test_case(case);
        report.add_test_suite(suite);
    }
    report.to_string().map_err(|error| format!("error: cannot write: {error}"))
}

fn test_case(held: &Held<'_, '_>) -> TestCase {
    let line = held.expectation().place().line;
    let name = format!("line {line}: {}", title(held));
    let mut case = TestCase::new(name, verdict(held.holds(), &why(held)));
    case.set_classname(held.decision().class_label());
    case
}

fn verdict(holds: bool, why: &str) -> TestCaseStatus {
    if holds {
        return TestCaseStatus::success();
    }
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
    status.set_message(why);
    status
}

pub(super) fn tap(run: &Run<'_>) -> String {
    let tests = run.held.len() + usize::from(run.min_coverage.is_some());
    let mut page = format!("TAP version 13\n1..{tests}\n");
    let mut add = |number: usize, holds: bool, name: &str, why: &str| {
        let mark = if holds { "ok" } else { "not ok" };
        // A hash would begin a directive.
        page.push_str(&format!(
            "{mark} {number} - {}\n",
            name.replace('\\', "\\\\").replace('#', "\\#")
        ));
        if !holds {
            // A JSON string is a YAML one.
            page.push_str(&format!("  ---\n  message: {}\n  ...\n", json!(why)));
        }
    };
    for (index, held) in run.held.iter().enumerate() {
        let name = format!("{} {}", held.expectation().place(), title(held));
        add(index + 1, held.holds(), &name, &why(held));
    }
    let covered = run.covered();
    if run.min_coverage.is_some() {
        add(tests, run.covers(), "coverage", &covered);
    }
    page.push_str(&format!("# {covered}\n"));
    page
}
