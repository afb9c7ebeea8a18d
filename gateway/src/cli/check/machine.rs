//! Findings for programs: JSON, SARIF 2.1.0 and the workflow commands of GitHub Actions.

use policy::{Code, Diagnostic, Parts, Severity};
use serde_json::{Value, json};

use crate::{
    config,
    report::{place, placed_diagnostic},
};

/// One object; `outcome` is `found` where the exit code is 1.
pub(super) fn json(found: &[Diagnostic], file: &str, parts: &Parts<'_>, fails: bool) -> Value {
    json!({
        "format_version": 1,
        "outcome": if fails { "found" } else { "fine" },
        "file": file,
        "diagnostics": found
            .iter()
            .map(|found| placed_diagnostic(found, parts))
            .collect::<Vec<_>>(),
    })
}

/// A log of the Static Analysis Results Interchange Format, version 2.1.0.
pub(super) fn sarif(found: &[Diagnostic], parts: &Parts<'_>) -> Value {
    let rule = |id: &str, name: &str, meaning: &str, severity: Severity| {
        json!({
            "id": id,
            "name": name,
            "shortDescription": { "text": meaning },
            "defaultConfiguration": { "level": severity.label() },
        })
    };
    let rules = Code::ALL
        .iter()
        .map(|code| rule(code.id(), code.name(), code.meaning(), code.severity()))
        .chain(
            config::CODES.map(|(id, name, meaning, severity)| rule(id, name, meaning, severity)),
        );
    let results = found.iter().map(|found| {
        let text = parts.text(&found.file);
        let (line, column) = place(text, found.span.start);
        let (end_line, end_column) = place(text, found.span.end);
        let message = match &found.help {
            Some(help) => format!("{}; {help}", found.message),
            None => found.message.clone(),
        };
        json!({
            "ruleId": found.code,
            "level": found.severity.label(),
            "message": { "text": message },
            "locations": [{ "physicalLocation": {
                "artifactLocation": { "uri": uri(&found.file) },
                "region": {
                    "startLine": line,
                    "startColumn": column,
                    "endLine": end_line,
                    "endColumn": end_column,
                },
            } }],
        })
    });
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "postern",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules.collect::<Vec<_>>(),
            } },
            "columnKind": "unicodeCodePoints",
            "results": results.collect::<Vec<_>>(),
        }],
    })
}

/// A path as a reference of RFC 3986: what may not stand in one is written in percent.
fn uri(path: &str) -> String {
    let plain = |octet: u8| octet.is_ascii_alphanumeric() || b"/-._~".contains(&octet);
    path.bytes().fold(String::new(), |mut uri, octet| {
        if plain(octet) {
            uri.push(char::from(octet));
        } else {
            uri.push_str(&format!("%{octet:02X}"));
        }
        uri
    })
}

/// One workflow command a line.
pub(super) fn github(found: &[Diagnostic], parts: &Parts<'_>) -> String {
    let mut page = String::new();
    for found in found {
        let text = parts.text(&found.file);
        let (line, column) = place(text, found.span.start);
        let (end_line, _) = place(text, found.span.end);
        let level = match found.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let message = match &found.help {
            Some(help) => format!("{}\nhelp: {help}", found.message),
            None => found.message.clone(),
        };
        let file = escape(&found.file).replace(':', "%3A").replace(',', "%2C");
        let places = format!("file={file},line={line},endLine={end_line},col={column}");
        page.push_str(&format!("::{level} {places},title={}::{}\n", found.code, escape(&message)));
    }
    page
}

fn escape(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}
