use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use jiff::civil::date;
use policy::{Code, Diagnostic, Parts, Severity, Source, Unreadable, compile, compile_parts};

use super::{Document, Format, is_gateway, write};
use crate::{config, files};

/// Every policy of a folder, with what is found on a fixed day.
fn policies(folder: &str) -> Vec<(PathBuf, Parts<'static>, Vec<Diagnostic>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/policies").join(folder);
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    let read = paths.into_iter().map(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        let source = Source { name, text: &fs::read_to_string(&path).unwrap() };
        // Names are kept short: reports must not tell where the repository lies.
        let parts = Parts::gather(&source, &mut |wanted| {
            let name = files::resolve(&wanted);
            let text = fs::read_to_string(folder.join(&name)).map_err(|_| Unreadable::Absent)?;
            Ok(policy::File { name: name.display().to_string(), text })
        })
        .into_owned();
        let found = match compile_parts(&parts, date(2026, 11, 23)) {
            Ok(compiled) => compiled.warnings,
            Err(found) => {
                assert!(found.iter().any(|found| found.severity == Severity::Error), "{path:?}");
                found
            }
        };
        (path, parts, found)
    });
    read.collect()
}

fn printed(found: &[Diagnostic], parts: &Parts<'_>, format: Format) -> String {
    let mut page = Vec::new();
    write(found, parts, !found.is_empty(), format, false, &mut page).unwrap();
    String::from_utf8(page).unwrap()
}

#[test]
fn good_policies_have_no_findings() {
    for (path, _, found) in policies("good") {
        assert_eq!(found, [], "{path:?}");
    }
}

/// `UPDATE_GOLDEN=1` writes the reports anew.
#[test]
fn bad_policies_have_the_expected_reports() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let all = policies("bad");
    assert!(all.len() >= 60, "{} bad policies", all.len());
    for (path, parts, found) in all {
        assert!(!found.is_empty(), "{path:?}");
        let page = printed(&found, &parts, Format::Text);
        let golden = path.with_extension("expected");
        if update {
            fs::write(&golden, &page).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        assert!(page == expected, "{golden:?}; UPDATE_GOLDEN=1 writes it anew; now:\n{page}");
    }
}

#[test]
fn every_code_has_a_bad_policy() {
    let all = policies("bad");
    let shown: BTreeSet<&str> =
        all.iter().flat_map(|(_, _, found)| found.iter().map(|found| found.code)).collect();
    // Limits are tripped by long documents, which nobody wants to read as files.
    let limits = [Code::DocumentTooLarge.id(), Code::TooMany.id()];
    for code in Code::ALL.iter().map(|code| code.id()).filter(|code| !limits.contains(code)) {
        assert!(shown.contains(code), "{code}");
    }
}

#[test]
fn findings_are_in_order_and_inside_the_text() {
    for (path, parts, found) in policies("bad") {
        let names: Vec<&str> = parts.names().collect();
        let place = |found: &Diagnostic| {
            (names.iter().position(|name| **name == *found.file), found.span.start)
        };
        assert!(found.is_sorted_by_key(place), "{path:?}");
        for finding in &found {
            let text = parts.text(&finding.file);
            assert!(text.get(finding.span.clone()).is_some(), "{path:?} {finding:?}");
        }
    }
}

#[test]
fn programs_get_every_finding_with_its_place() {
    let all = policies("bad");
    let (_, document, found) = all.iter().find(|(path, _, _)| path.ends_with("sets.toml")).unwrap();
    let json: serde_json::Value =
        serde_json::from_str(&printed(found, document, Format::Json)).unwrap();
    assert_eq!((&json["format_version"], &json["outcome"]), (&1.into(), &"found".into()));
    assert_eq!(json["diagnostics"].as_array().unwrap().len(), found.len());
    assert_eq!(json["diagnostics"][0]["line"], 15);

    let sarif: serde_json::Value =
        serde_json::from_str(&printed(found, document, Format::Sarif)).unwrap();
    let run = &sarif["runs"][0];
    assert_eq!(run["results"].as_array().unwrap().len(), found.len());
    assert_eq!(run["results"][0]["locations"][0]["physicalLocation"]["region"]["startLine"], 15);
    assert_eq!(
        run["tool"]["driver"]["rules"].as_array().unwrap().len(),
        Code::ALL.len() + config::CODES.len()
    );

    let github = printed(found, document, Format::Github);
    assert_eq!(github.lines().count(), found.len());
    assert!(github.starts_with("::error file=sets.toml,line=15,"), "{github}");
}

#[test]
fn tells_a_gateway_from_a_policy() {
    let gateway = "node = \"edge-1\"\nenvironment = \"lab\"\npolicy = \"policy.toml\"\n";
    assert!(is_gateway(gateway));
    assert!(is_gateway(&format!("{gateway}[dns\n")));
    assert!(!is_gateway("schema = 1\nname = \"x\"\n"));
    assert!(!is_gateway(""));
}

#[test]
fn an_oversized_policy_is_found_without_reading_it_whole() {
    let document = Document { name: "big.toml".into(), text: " ".repeat((16 << 20) + 1) };
    let source: Source<'_> = document.source();
    let found = compile(&source, date(2026, 11, 23)).unwrap_err();
    assert_eq!(found[0].code, Code::DocumentTooLarge.id());
}

/// `UPDATE_GOLDEN=1` writes the page anew.
#[test]
fn the_page_of_codes_lists_every_code() {
    let mut page = String::from(
        "# Findings\n\nWhat `postern check` and every reload say about a policy (`PN`) or a \
         `gateway.toml` (`GW`). Numbers and names are stable.\nErrors stop a document. A warning \
         can be allowed, with a reason and a last day:\n\n```toml\n[[lint.allow]]\ncode    = \
         \"wide-suffix\"               # or PN0113\nhostset = \"mo-direct\"                 # also \
         `match` and `class`; all that are there must fit\nreason  = \"the vendor's table prints it \
         so\"\nuntil   = 2027-03-31                  # the last day\n```\n\n| code | name | \
         severity | meaning |\n|---|---|---|---|\n",
    );
    let policy = Code::ALL
        .iter()
        .map(|code| (code.id(), code.name(), code.meaning(), code.severity()))
        .chain(config::CODES);
    for (id, name, meaning, severity) in policy {
        page.push_str(&format!("| `{id}` | `{name}` | {} | {meaning} |\n", severity.label()));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/LINTS.md");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &page).unwrap();
    }
    assert!(fs::read_to_string(&path).unwrap_or_default() == page, "now:\n{page}");
}

/// The parts of SARIF 2.1.0 that its schema demands of what is written here.
#[test]
fn sarif_is_complete_and_every_result_has_its_rule() {
    for (path, parts, found) in policies("bad") {
        let log: serde_json::Value =
            serde_json::from_str(&printed(&found, &parts, Format::Sarif)).unwrap();
        assert_eq!(log["version"], "2.1.0");
        let run = &log["runs"][0];
        let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
        let ids: BTreeSet<&str> = rules.iter().map(|rule| rule["id"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), rules.len());
        for rule in rules {
            assert!(!rule["shortDescription"]["text"].as_str().unwrap().is_empty());
            let level = rule["defaultConfiguration"]["level"].as_str().unwrap();
            assert!(["error", "warning"].contains(&level));
        }
        for result in run["results"].as_array().unwrap() {
            assert!(ids.contains(result["ruleId"].as_str().unwrap()), "{path:?}");
            assert!(["error", "warning"].contains(&result["level"].as_str().unwrap()));
            assert!(!result["message"]["text"].as_str().unwrap().is_empty());
            let place = &result["locations"][0]["physicalLocation"];
            let uri = place["artifactLocation"]["uri"].as_str().unwrap();
            assert!(!uri.is_empty() && uri.is_ascii() && !uri.contains(' '));
            let number = |key: &str| place["region"][key].as_u64().unwrap();
            let start = (number("startLine"), number("startColumn"));
            assert!(start >= (1, 1) && start <= (number("endLine"), number("endColumn")));
        }
    }
}

/// A sparse file of 100 MB: a clear line, and no more of it in memory than a policy may have.
#[test]
fn a_file_of_a_hundred_megabytes_is_not_read_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.toml");
    fs::File::create(&path).unwrap().set_len(100_000_000).unwrap();
    let document = Document::read(&path).unwrap();
    assert_eq!(document.text.len(), policy::limits::MAX_DOCUMENT + 1);
    let found = compile_parts(&document.parts(), date(2026, 11, 23)).unwrap_err();
    assert_eq!(found.iter().map(|found| found.code).collect::<Vec<_>>(), ["PN0007"]);
}
