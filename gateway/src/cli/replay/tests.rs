//! Exit codes, and what is printed.

use clap::Parser;

use super::*;

const POLICY: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/policies/good/acme-mobile.toml");
const CURL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/captures/curl.pcap");
const SPLIT: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/captures/record-split.pcap");
const AT: &str = "2026-11-23T12:00:00Z";

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    command: ReplayCommand,
}

/// The exit code, as `ExitCode` can be compared: by its form.
fn ask(arguments: &[&str]) -> Result<(String, String), String> {
    let line = ["replay", "--at", AT, "--policy", POLICY];
    let line = Line::try_parse_from(line.iter().chain(arguments)).unwrap();
    let mut out = Vec::new();
    let code = replay(&line.command, &mut out)?;
    Ok((format!("{code:?}"), String::from_utf8(out).unwrap()))
}

fn code(number: u8) -> String {
    format!("{:?}", ExitCode::from(number))
}

#[test]
fn exit_code_says_whether_anything_is_denied() {
    let (exit, page) = ask(&["--pcap", CURL]).unwrap();
    assert_eq!(exit, code(1));
    assert!(page.contains("deny"), "{page}");
    assert_eq!(ask(&["--pcap", SPLIT]).unwrap().0, code(0));
    assert_eq!(ask(&["--pcap", CURL]).unwrap().1, page, "same inputs, same bytes");
    assert_eq!(ask(&["--pcap", CURL, "--from", "203.0.113.0/24"]).unwrap().0, code(0));
    assert_eq!(ask(&["--pcap", CURL, "--class", "paid"]).unwrap().0, code(0));
    for wrong in [
        &["--pcap", CURL, "--class", "nobody"][..],
        &["--pcap", POLICY],
        &["--log", POLICY],
        &["--pcap", "/does/not/exist"],
    ] {
        assert!(ask(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn what_a_new_policy_opens_and_closes_stands_first() {
    let text = std::fs::read_to_string(POLICY).unwrap();
    let new = tempfile::NamedTempFile::new().unwrap();
    let entry = "[[hostset.host]]\nmatch = \"www.bing.com\"\nschemes = [\"https\"]\n\n[[class]]";
    let text = text.replacen("[[class]]", entry, 1).replace("\"builtin:mobile-plans\", ", "");
    let (text, _) = text.split_once("[[assert]]").unwrap();
    std::fs::write(new.path(), text).unwrap();
    let new = new.path().to_str().unwrap();
    let (exit, page) = ask(&["--pcap", CURL, "--against", new]).unwrap();
    assert_eq!(exit, code(1), "{page}");
    let changes: Vec<&str> =
        page.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let expected = ["change", "newly-allowed", "newly-denied"];
    assert_eq!(changes[..3], expected, "{page}");
    assert_eq!(ask(&["--pcap", CURL, "--against", POLICY]).unwrap().0, code(0));
}

#[test]
fn cut_capture_is_judged_as_far_as_it_goes() {
    let octets = std::fs::read(CURL).unwrap();
    let cut = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(cut.path(), &octets[..octets.len() - 5]).unwrap();
    let arguments = ["--pcap", cut.path().to_str().unwrap(), "--format", "json"];
    let (exit, page) = ask(&arguments).unwrap();
    assert_eq!(exit, code(2));
    let value: Value = serde_json::from_str(&page).unwrap();
    assert_eq!(value["truncated"], true);
    assert_eq!(value["outcome"], "incomplete");
    assert!(value["inputs"][0]["fault"].as_str().unwrap().contains("offset"), "{page}");
    assert_eq!(value["rows"].as_array().unwrap().len(), 6);
}

#[test]
fn log_is_judged_by_the_class_it_names() {
    let line = |host: &str, verdict: &str| {
        format!(
            r#"{{"time":"2026-11-23T10:00:00Z","node":"n","protocol":"https","class":"unprovisioned","subscriber":"{host}","host":"{host}","port":443,"verdict":"{verdict}","reason":"not-listed","missing_before":2}}"#
        )
    };
    let log = tempfile::NamedTempFile::new().unwrap();
    let lines = [line("login.live.com", "deny"), "half a li".into(), line("www.bing.com", "deny")];
    std::fs::write(log.path(), lines.join("\n")).unwrap();
    let arguments = ["--log", log.path().to_str().unwrap(), "--format", "json"];
    let (exit, page) = ask(&arguments).unwrap();
    assert_eq!(exit, code(1));
    let value: Value = serde_json::from_str(&page).unwrap();
    let told = |row: usize| (&value["rows"][row]["host"], &value["rows"][row]["now"]["verdict"]);
    assert_eq!(told(0), (&json!("www.bing.com"), &json!("deny")));
    assert_eq!(told(1), (&json!("login.live.com"), &json!("allow")));
    assert_eq!(value["rows"][1]["logged"], json!({ "deny": 1 }));
    assert_eq!(value["not_judged"], json!({ "bad-line": 1, "missing-line": 4 }));
    assert_eq!(value["inputs"][0]["bad_lines"], json!([2]));
}
