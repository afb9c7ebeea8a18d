use clap::Parser;
use policy::Source;

use super::*;

const POLICY: &str = r#"schema        = 1
name          = "example"
serial        = 1
environment   = "lab"
default_class = "unprovisioned"
[[hostset]]
name = "ours"
[[hostset.host]]
match   = "portal.example.com"
schemes = ["https"]
[[hostset.host]]
match   = "*.pay.example.com"
schemes = ["https"]
expires = 2027-03-31
[[class]]
name     = "unprovisioned"
priority = 100
action   = "garden"
hostsets = ["ours"]
[[assert]]
name  = "the portal <&\"> is open # really\nyes"
class = "unprovisioned"
allow = ["https://portal.example.com"]
deny  = ["https://www.bing.com", "https://a.pay.example.com"]
"#;

const CASES: &str = r#"
[[case]]
name  = "after the last day"
class = "unprovisioned"
at    = 2027-04-01T00:00:00Z
deny  = ["https://a.pay.example.com"]
"#;

#[derive(Debug, Parser)]
struct Called {
    #[command(flatten)]
    test: TestCommand,
}

/// The policy and the cases in files, and what the command makes of them.
fn called(policy: &str, arguments: &[&str]) -> (Result<bool, String>, String) {
    let folder = tempfile::tempdir().unwrap();
    let (file, cases) = (folder.path().join("policy.toml"), folder.path().join("cases.toml"));
    std::fs::write(&file, policy).unwrap();
    std::fs::write(&cases, CASES).unwrap();
    let fixed = ["test", "--at", "2026-11-23T12:00:00Z", "--cases"];
    let fixed = fixed.into_iter().chain([cases.to_str().unwrap(), file.to_str().unwrap()]);
    let called = Called::parse_from(fixed.chain(arguments.iter().copied()));
    let mut page = Vec::new();
    let result = test(&called.test, &mut page);
    let folder = format!("{}/", folder.path().display());
    (result, String::from_utf8(page).unwrap().replace(&folder, ""))
}

#[test]
fn every_promise_is_reported_with_what_came_of_it() {
    let (result, page) = called(POLICY, &[]);
    assert_eq!(result, Ok(false));
    let expected = "\
ok    policy.toml:23  the portal <&\"> is open # really yes: allow https://portal.example.com
ok    policy.toml:24  the portal <&\"> is open # really yes: deny https://www.bing.com
FAIL  policy.toml:24  the portal <&\"> is open # really yes: deny https://a.pay.example.com
      the verdict for class unprovisioned is allow: listed (`*.pay.example.com` in policy.toml:12)
ok    cases.toml:6  after the last day: deny https://a.pay.example.com

3 held, 1 did not; 2 of 2 host entries covered (100 %)
";
    assert_eq!(page, expected);
}

#[test]
fn too_little_coverage_fails() {
    let policy = POLICY.replace(", \"https://a.pay.example.com\"]", "]").replace(
        "[[class]]",
        "[[hostset.host]]\nmatch = \"never.example.com\"\nschemes = [\"http\"]\n[[class]]",
    );
    let (result, page) = called(&policy, &["--min-coverage", "66"]);
    assert_eq!(result, Ok(true), "{page}");
    let (result, page) = called(&policy, &["--min-coverage", "67"]);
    assert_eq!(result, Ok(false), "{page}");
    let ends = "\nhost entries that no case came to:\n  policy.toml:16  never.example.com in ours\n\n\
                3 held, 0 did not; 2 of 3 host entries covered (66 %), but at least 67 % are asked\n";
    assert!(page.ends_with(ends), "{page}");
}

#[test]
fn json_says_the_same() {
    let (_, page) = called(POLICY, &["--format", "json"]);
    let page: serde_json::Value = serde_json::from_str(&page).unwrap();
    assert_eq!((&page["format_version"], &page["outcome"]), (&1.into(), &"broken".into()));
    let holds: Vec<_> = page["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["holds"].as_bool().unwrap())
        .collect();
    assert_eq!(holds, [true, true, false, true]);
    assert_eq!(page["results"][2]["rule"]["line"], 12);
    assert_eq!(page["results"][3]["at"], "2027-04-01T00:00:00Z");
    assert_eq!(page["coverage"]["percent"], 100);
}

#[test]
fn junit_is_read_by_another_reader() {
    let (_, page) = called(POLICY, &["--format", "junit", "--min-coverage", "100"]);
    let read = junit_parser::from_reader(page.as_bytes()).unwrap();
    let suites: Vec<_> = read
        .suites
        .iter()
        .map(|suite| (suite.name.as_str(), suite.tests, suite.failures))
        .collect();
    assert_eq!(suites, [("policy.toml", 3, 1), ("cases.toml", 1, 0), ("coverage", 1, 0)]);
    assert_eq!((read.tests, read.failures), (5, 1));
    let case = &read.suites[0].cases[2];
    assert!(case.name.contains("the portal <&\"> is open"), "{}", case.name);
    assert!(case.status.is_failure(), "{case:?}");
}

#[test]
fn tap_counts_and_escapes() {
    let (_, page) = called(POLICY, &["--format", "tap", "--min-coverage", "100"]);
    let mut lines = page.lines();
    assert_eq!((lines.next(), lines.next()), (Some("TAP version 13"), Some("1..5")));
    let marks: Vec<_> = page
        .lines()
        .filter(|line| line.starts_with("ok ") || line.starts_with("not ok "))
        .map(|line| line.split(" - ").next().unwrap())
        .collect();
    assert_eq!(marks, ["ok 1", "ok 2", "not ok 3", "ok 4", "ok 5"]);
    assert!(page.contains("is open \\# really"), "{page}");
    assert!(page.contains("  ---\n  message: \"the verdict for class"), "{page}");
}

#[test]
fn the_same_run_gives_the_same_bytes() {
    for format in ["text", "json", "junit", "tap"] {
        assert_eq!(called(POLICY, &["--format", format]), called(POLICY, &["--format", format]));
    }
}

#[test]
fn a_policy_or_case_file_that_cannot_be_read_stops_the_run() {
    let (result, page) = called("schema = 1", &[]);
    assert!(result.unwrap_err().ends_with("policy.toml is not a policy that can be used"));
    assert_eq!(page, "");
    let (result, _) = called(POLICY, &["--cases", "/nowhere/cases.toml"]);
    assert!(result.unwrap_err().starts_with("error: cannot read /nowhere/cases.toml: "));
    let (result, _) = called(&POLICY.replace("\"unprovisioned\"", "\"fresh\""), &[]);
    assert!(result.unwrap_err().contains("cases.toml is not a file of cases for example"));
}

#[test]
fn the_example_in_the_help_is_a_case_file() {
    use clap::CommandFactory;
    let help = Called::command().get_after_help().unwrap().to_string();
    let text: String = help
        .lines()
        .skip_while(|line| !line.contains("[[case]]"))
        .take_while(|line| !line.is_empty())
        .map(|line| format!("{line}\n"))
        .collect();
    let source = Source { name: "policy.toml", text: POLICY };
    let policy = policy::compile_unproven(&source, jiff::civil::date(2026, 11, 23)).unwrap().policy;
    assert_eq!(read_cases(&Source { name: "help", text: &text }, &policy).unwrap().len(), 1);
}
