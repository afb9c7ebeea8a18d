//! The command line as people and scripts meet it: help that teaches, completions, exit codes, formats.

use std::{fs, path::PathBuf, process::Command};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    repository::{text, top},
    tool::{finish, postern, succeed},
};

#[test]
fn completions_are_scripts_of_their_shells() {
    for (shell, mark) in [
        ("bash", "complete -F _postern"),
        ("zsh", "#compdef postern"),
        ("fish", "complete -c postern"),
    ] {
        let script = succeed(postern().args(["completions", shell]));
        assert!(script.contains(mark), "{shell}");
        for command in commands(&[]) {
            assert!(script.contains(&command), "{shell}: {command}");
        }
    }
}

#[test]
fn bash_takes_its_completions() {
    let (_folder, path) = file("postern.bash", &succeed(postern().args(["completions", "bash"])));
    let script = "source \"$1\"; COMP_WORDS=(postern che); COMP_CWORD=1; COMP_LINE='postern che'; \
                  _postern postern che postern; echo \"${COMPREPLY[*]}\"";
    let said = succeed(Command::new("bash").args(["-c", script, "bash"]).arg(path));
    assert_eq!(said.trim(), "check");
}

#[test]
fn help_of_every_command_has_an_example() {
    let mut taught = 0;
    for command in commands(&[]) {
        let help = succeed(postern().args([command.as_str(), "--help"]));
        let example = format!("\n  postern {command}");
        assert!(help.contains(&example), "postern {command} --help has no example:\n{help}");
        taught += 1;
    }
    assert!(taught >= 6, "{taught} commands");
    let help = succeed(postern().arg("--help"));
    assert!(help.contains("\n  postern lab run"), "{help}");
}

#[test]
fn version_is_the_workspaces() {
    let version = text("Cargo.toml");
    let version = version.lines().find_map(|line| line.strip_prefix("version = ")).unwrap();
    assert_eq!(
        succeed(postern().arg("--version")).trim(),
        format!("postern {}", version.trim_matches('"'))
    );
}

#[test]
fn exit_code_tells_fine_from_found_from_could_not_run() {
    let (_good_folder, good) = file("good.toml", &text("deploy/config/policy.toml"));
    let (_bad_folder, bad) = file("bad.toml", "schema = 1\n");
    let (good, bad) = (good.to_str().unwrap(), bad.to_str().unwrap());
    let class = class_of_the_sample();
    let explain = ["explain", "--class", &class, "--policy"];
    let cases: Vec<(Vec<&str>, i32)> = vec![
        (vec!["check", good], 0),
        (vec!["check", bad], 1),
        (vec!["check", "/nowhere/policy.toml"], 2),
        (vec!["check", "/"], 2),
        (vec!["check"], 2),
        ([&explain[..], &[good, "https://login.live.com"]].concat(), 0),
        ([&explain[..], &[good, "https://www.bing.com"]].concat(), 1),
        ([&explain[..], &[good, "https://login.live.com", "dns:www.bing.com"]].concat(), 1),
        ([&explain[..], &[bad, "https://login.live.com"]].concat(), 2),
        ([&explain[..], &["/nowhere/policy.toml", "https://login.live.com"]].concat(), 2),
        ([&explain[..], &[good, "gopher://login.live.com"]].concat(), 2),
        (vec!["explain", "--policy", good, "--class", "nobody", "https://login.live.com"], 2),
        (vec!["explain", "--policy", good, "https://login.live.com"], 2),
        (vec!["hostsets"], 0),
        (vec!["hostsets", "list"], 0),
        (vec!["hostsets", "show", "mobile-plans@2018-01-05"], 0),
        (vec!["hostsets", "show", "no-such-table"], 2),
        (vec!["hostsets", "export", "mobile-plans", "--format", "csv"], 0),
        (vec!["hostsets", "export", "ts43-entitlement"], 2),
        (vec!["hostsets", "import", bad], 2),
        (vec!["test", good], 0),
        (vec!["test", "--min-coverage", "100", good], 1),
        (vec!["test", bad], 2),
        (vec!["policy", "verify", "--key", "/nowhere/key.pub", good], 2),
        (vec!["reload", "--config", "/nowhere/gateway.toml"], 2),
        (vec!["status", "--admin", "http://192.0.2.1:9180"], 2),
        (vec!["lab", "list"], 0),
        (vec!["lab", "run", "no-such-journey"], 2),
        (vec!["completions", "no-such-shell"], 2),
        (vec!["no-such-command"], 2),
        (vec![], 2),
        (vec!["--help"], 0),
    ];
    for (arguments, expected) in cases {
        let (code, said) = finish(postern().args(&arguments));
        assert_eq!(code, expected, "postern {}\n{said}", arguments.join(" "));
        assert!(!said.contains("panicked"), "postern {}\n{said}", arguments.join(" "));
        assert!(!said.trim().is_empty(), "postern {} says nothing", arguments.join(" "));
    }
}

#[test]
fn warning_is_found_only_if_asked_for() {
    let path = top().join("tests/data/policies/bad/warnings.toml");
    let check = |more: &[&str]| finish(postern().arg("check").args(more).arg(&path)).0;
    assert_eq!(check(&[]), 0);
    assert_eq!(check(&["--fail-on", "error"]), 0);
    assert_eq!(check(&["--fail-on", "warning"]), 1);
}

#[test]
fn findings_are_the_same_in_every_format() {
    let path = top().join("tests/data/policies/bad/hosts.toml");
    let check = |format: &str| {
        let (code, said) = finish(postern().args(["check", "--format", format]).arg(&path));
        assert_eq!(code, 1, "{format}: {said}");
        said
    };
    let json: Value = serde_json::from_str(&check("json")).unwrap();
    assert_eq!((&json["format_version"], &json["outcome"]), (&1.into(), &"found".into()));
    let found: Vec<(String, u64)> = json["diagnostics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|found| (found["code"].as_str().unwrap().to_owned(), found["line"].as_u64().unwrap()))
        .collect();
    assert!(found.len() > 5, "{found:?}");

    let sarif: Value = serde_json::from_str(&check("sarif")).unwrap();
    assert_eq!(sarif["version"], "2.1.0");
    let run = &sarif["runs"][0];
    let results: Vec<(String, u64)> = run["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| {
            let line = &result["locations"][0]["physicalLocation"]["region"]["startLine"];
            (result["ruleId"].as_str().unwrap().to_owned(), line.as_u64().unwrap())
        })
        .collect();
    assert_eq!(results, found);
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    for (code, _) in &found {
        assert!(rules.iter().any(|rule| rule["id"] == code.as_str()), "{code} is not a rule");
    }

    let github = check("github");
    assert_eq!(github.lines().count(), found.len(), "{github}");
    for (line, (code, number)) in github.lines().zip(&found) {
        assert!(line.starts_with("::error ") || line.starts_with("::warning "), "{line}");
        assert!(line.contains(&format!("line={number},")), "{line}");
        assert!(line.contains(&format!("title={code}::")), "{line}");
    }

    let text = check("text");
    for (code, number) in &found {
        assert!(text.contains(&format!("[{code}]")), "{code}");
        assert!(text.contains(&format!("hosts.toml:{number}:")), "line {number}");
    }
}

#[test]
fn output_to_a_closed_pipe_is_no_panic() {
    for arguments in ["completions bash", "hostsets show mobile-plans", "--help"] {
        let script = format!("\"$1\" {arguments} | true; echo \"${{PIPESTATUS[0]}}\"");
        let mut shell = Command::new("bash");
        shell.args(["-c", &script, "bash"]).arg(postern().get_program());
        let said = succeed(&mut shell);
        assert!(!said.contains("panicked"), "{arguments}: {said}");
    }
}

/// The commands that `--help` lists.
fn commands(path: &[&str]) -> Vec<String> {
    let help = succeed(postern().args(path).arg("--help"));
    let (_, list) = help.split_once("Commands:\n").unwrap();
    list.lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

/// The class of the shipped sample that a SIM without a plan is in.
fn class_of_the_sample() -> String {
    let policy: toml::Table = text("deploy/config/policy.toml").parse().unwrap();
    policy["default_class"].as_str().unwrap().to_owned()
}

fn file(name: &str, text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    (folder, path)
}
