use std::{fs, path::Path};

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    command: DiffCommand,
}

/// The outcome of `postern diff` in the folder of samples, and the page.
fn run_on(arguments: &[&str]) -> (Result<bool, String>, String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/diff");
    let line =
        ["diff", "--at", "2026-11-23T12:00:00Z"].into_iter().chain(arguments.iter().copied());
    let mut command = Line::try_parse_from(line).unwrap().command;
    for path in [&mut command.old, &mut command.new] {
        *path = folder.join(&path);
    }
    let mut page = Vec::new();
    let outcome = diff(&command, &mut page);
    let folder = format!("{}/", folder.display());
    (outcome, String::from_utf8(page).unwrap().replace(&folder, ""))
}

/// `UPDATE_GOLDEN=1` writes the reports anew.
#[test]
fn reports_are_the_expected_ones() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/diff");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    for (golden, arguments) in [
        ("text.expected", &["old.toml", "new.toml"][..]),
        ("markdown.expected", &["--format", "markdown", "old.toml", "new.toml"]),
        (
            "json.expected",
            &["--class", "field-test", "--limit", "1", "--format", "json", "old.toml", "new.toml"],
        ),
        ("back.expected", &["new.toml", "old.toml"]),
        ("limit.expected", &["--limit", "2", "old.toml", "new.toml"]),
        ("class.expected", &["--class", "paid", "old.toml", "new.toml"]),
    ] {
        let (outcome, page) = run_on(arguments);
        assert_eq!(outcome, Ok(false), "{golden}");
        let path = folder.join(golden);
        if update {
            fs::write(&path, &page).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        assert!(page == expected, "{golden}; UPDATE_GOLDEN=1 writes it anew; now:\n{page}");
    }
}

#[test]
fn a_policy_equals_itself() {
    for format in ["text", "json", "markdown"] {
        let (outcome, page) = run_on(&["--format", format, "old.toml", "old.toml"]);
        assert_eq!(outcome, Ok(true), "{page}");
        assert!(page.contains("equal") && !page.contains("different"), "{page}");
    }
}

#[test]
fn what_cannot_be_compared_is_said() {
    let (outcome, page) = run_on(&["--class", "nobody", "old.toml", "new.toml"]);
    assert_eq!(outcome, Err("error: neither policy has a class `nobody`".to_owned()));
    assert_eq!(page, "");
    let (outcome, _) = run_on(&["old.toml", "absent.toml"]);
    assert!(outcome.unwrap_err().contains("absent.toml"));
    let (outcome, _) = run_on(&["old.toml", "../policies/bad/schema.toml"]);
    assert!(outcome.unwrap_err().contains("not a policy that can be used"));
}

#[test]
fn markdown_cannot_be_broken_out_of() {
    for (text, expected) in [
        ("a.example", "`a.example`"),
        ("a|b\nc", "`a\\|b c`"),
        ("a`b", "`` a`b ``"),
        ("``", "``` `` ```"),
    ] {
        assert_eq!(Style::Markdown.set_off(text), expected);
    }
}
