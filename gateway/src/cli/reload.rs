//! `postern reload`.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use http::StatusCode;
use serde_json::{Value, json};

use super::{
    document::Document,
    node::{Format, Node, Question, problem},
};
use crate::{
    client::Answer,
    reload::Bundle,
    report,
    signature::{signature_path, text_of},
};

#[derive(Debug, Args)]
#[command(after_help = "\
For example:
  postern reload --dry-run --policy policy.toml.new
  postern reload --config /etc/postern/gateway.toml
  postern reload --admin https://edge-1.acme.example:9180 --ca ca.pem --token-file admin.token

A dry run takes the given policy, or the file of the node as it lies there, verifies and compiles it,
holds its asserts, and says which classes and which live sessions would be judged otherwise. Nothing
is changed. A node that watches its file takes a good one by itself: rehearse before it is put there.

Exit codes: 0 published, or a dry run in which nothing changes; 1 refused, or a dry run in which
something changes; 2 could not ask.")]
pub(super) struct ReloadCommand {
    #[command(flatten)]
    node: Node,
    /// Say what would change, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// A policy that is not in its place yet; its signature is beside it, as FILE.sig.
    #[arg(long, value_name = "FILE", requires = "dry_run")]
    policy: Option<PathBuf>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(command: ReloadCommand) -> ExitCode {
    let ReloadCommand { node, dry_run, policy, format } = command;
    let path = if dry_run { "/v1/policy/reload?dry_run=1" } else { "/v1/policy/reload" };
    let told = policy
        .map_or_else(|| Ok(Vec::new()), |policy| candidate(&policy))
        .and_then(|body| node.ask(Question::Post(path.to_owned(), body)))
        .and_then(|answer| tell(&answer, format, &mut io::stdout().lock()));
    match told {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(line) => {
            report::complain(&line);
            ExitCode::from(2)
        }
    }
}

/// The policy at `path` with everything it is made of.
fn candidate(path: &Path) -> Result<Vec<u8>, String> {
    let unreadable =
        |error: &dyn std::error::Error| format!("error: {}", report::with_causes(error));
    let document = Document::read(path).map_err(|error| unreadable(&error))?;
    let signature = match text_of(&signature_path(path)) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            return Err(format!("error: cannot read the signature of {}: {error}", path.display()));
        }
    };
    Bundle::of(&document.parts(), signature).to_json().map_err(|error| unreadable(&error))
}

/// Writes what the node said; whether all is well, or why it did not do what was asked.
fn tell(answer: &Answer, format: Format, out: &mut impl Write) -> Result<bool, String> {
    let refused = answer.status == StatusCode::CONFLICT;
    if answer.status != StatusCode::OK && !refused {
        return Err(format!("error: {}", problem(answer)));
    }
    let body = &answer.body;
    let changes = body["changes_verdicts"].as_bool() == Some(true)
        || body["sessions_changed"].as_u64().is_some_and(|sessions| sessions > 0);
    let page = match format {
        Format::Json => {
            let outcome = if refused { json!("refused") } else { body["outcome"].clone() };
            let mut value = json!({ "format_version": 1, "outcome": outcome });
            if let (Value::Object(value), Value::Object(body)) = (&mut value, body) {
                let rest = body.iter().filter(|(key, _)| *key != "outcome");
                value.extend(rest.map(|(key, item)| (key.clone(), item.clone())));
            }
            format!("{value:#}\n")
        }
        Format::Text if refused => refusal(answer),
        Format::Text => match text(body, "outcome") {
            "rehearsed" => rehearsal(body, changes),
            "unchanged" => format!("unchanged: {}\n", policy(&body["policy"])),
            _ => published(body),
        },
    };
    out.write_all(page.as_bytes()).map_err(|error| format!("error: cannot write: {error}"))?;
    Ok(!refused && !changes)
}

fn published(body: &Value) -> String {
    let closed = number(body, "sessions_closed");
    let mut page =
        format!("published: {}; {closed} live sessions closed\n", policy(&body["policy"]));
    page.push_str(&findings(&body["warnings"]));
    page
}

fn refusal(answer: &Answer) -> String {
    format!(
        "refused: {}\n{}",
        problem(answer),
        findings(answer.body.get("diagnostics").unwrap_or(&Value::Null))
    )
}

fn rehearsal(body: &Value, changes: bool) -> String {
    let serial = number(body, "serial");
    let mut page = if changes {
        format!("serial {serial} can come into force, and changes:\n")
    } else {
        format!("serial {serial} can come into force; no verdict changes\n")
    };
    for class in items(&body["classes"]) {
        let (name, presence) = (text(class, "name"), text(class, "presence"));
        let (opens, closes) = (number(class, "opens"), number(class, "closes"));
        let presence = if presence == "both" { String::new() } else { format!(" ({presence})") };
        page.push_str(&format!("\nclass {name}{presence}: {opens} open, {closes} close\n"));
        let changes = items(&class["changes"]);
        for row in changes {
            let except: Vec<&str> = strings(&row["except"]).collect();
            let except = match except.as_slice() {
                [] => String::new(),
                except => format!(" except {}", except.join(", ")),
            };
            let requests: Vec<&str> = strings(&row["requests"]).collect();
            let (change, hosts) = (text(row, "change"), text(row, "hosts"));
            page.push_str(&format!("  {change:<9} {hosts}{except}  {}\n", requests.join("; ")));
        }
        page.push_str(&more(number(class, "changed"), changes.len()));
    }
    for moved in items(&body["moves"]) {
        let name = |key| moved[key].as_str().unwrap_or("no class").to_owned();
        page.push_str(&format!("\nsubscribers move from {} to {}\n", name("from"), name("to")));
    }
    for setting in items(&body["settings"]) {
        let class =
            setting["class"].as_str().map(|class| format!("class {class}: ")).unwrap_or_default();
        let (key, old, new) = (text(setting, "key"), text(setting, "old"), text(setting, "new"));
        page.push_str(&format!("\n{class}{key}: {old} -> {new}\n"));
    }
    let (changed, closing) = (number(body, "sessions_changed"), number(body, "sessions_to_close"));
    page.push_str(&format!("\n{changed} live sessions change verdict, {closing} of them close\n"));
    let sessions = items(&body["sessions"]);
    for session in sessions {
        let standing = |key: &str| {
            let standing = &session[key];
            let (class, verdict, reason) =
                (text(standing, "class"), text(standing, "verdict"), text(standing, "reason"));
            format!("{verdict} ({reason}, {class})")
        };
        page.push_str(&format!(
            "  {}://{}:{}  subscriber {}  {} -> {}\n",
            text(session, "protocol"),
            text(session, "host"),
            number(session, "port"),
            text(session, "subscriber"),
            standing("now"),
            standing("then"),
        ));
    }
    page.push_str(&more(changed, sessions.len()));
    page.push_str(&findings(&body["warnings"]));
    page
}

fn findings(found: &Value) -> String {
    let line = |found: &Value| {
        let (severity, code, file, message) = (
            text(found, "severity"),
            text(found, "code"),
            text(found, "file"),
            text(found, "message"),
        );
        let line = found["line"].as_u64().map(|line| format!(":{line}")).unwrap_or_default();
        format!("{file}{line}: {severity}[{code}]: {message}\n")
    };
    items(found).iter().map(line).collect()
}

fn policy(policy: &Value) -> String {
    let (name, serial, generation) =
        (text(policy, "name"), number(policy, "serial"), number(policy, "generation"));
    format!("{name}, serial {serial}, generation {generation}")
}

fn more(all: u64, shown: usize) -> String {
    match all.saturating_sub(u64::try_from(shown).unwrap_or(u64::MAX)) {
        0 => String::new(),
        left => format!("  and {left} more\n"),
    }
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    items(value).iter().filter_map(Value::as_str)
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: u16, body: Value) -> (Result<bool, String>, String) {
        let answer = Answer { status: StatusCode::from_u16(status).unwrap(), body };
        let mut page = Vec::new();
        let result = tell(&answer, Format::Text, &mut page);
        (result, String::from_utf8(page).unwrap())
    }

    #[test]
    fn a_rehearsal_names_classes_and_sessions() {
        let (result, page) = told(
            200,
            json!({
                "outcome": "rehearsed",
                "serial": 43,
                "changes_verdicts": true,
                "classes": [{
                    "name": "unprovisioned", "presence": "both", "opens": 1, "closes": 1, "changed": 3,
                    "changes": [
                        { "change": "opens", "hosts": "*.a.example", "except": ["b.a.example"], "requests": ["https 443", "dns"] },
                        { "change": "closes", "hosts": "c.example", "except": [], "requests": ["http 80"] },
                    ],
                }],
                "moves": [{ "from": null, "to": "paid" }],
                "settings": [{ "class": "paid", "key": "action", "old": "garden", "new": "open" }],
                "sessions_to_close": 1,
                "sessions_changed": 2,
                "sessions": [{
                    "subscriber": "ab12", "protocol": "https", "host": "c.example", "port": 443, "closes": true,
                    "now": { "class": "unprovisioned", "verdict": "allow", "reason": "listed" },
                    "then": { "class": "unprovisioned", "verdict": "deny", "reason": "not-listed" },
                }],
                "warnings": [{ "severity": "warning", "code": "PN0104", "file": "policy.toml", "message": "no class uses it" }],
            }),
        );
        assert_eq!(result, Ok(false));
        let expected = "\
serial 43 can come into force, and changes:

class unprovisioned: 1 open, 1 close
  opens     *.a.example except b.a.example  https 443; dns
  closes    c.example  http 80
  and 1 more

subscribers move from no class to paid

class paid: action: garden -> open

2 live sessions change verdict, 1 of them close
  https://c.example:443  subscriber ab12  allow (listed, unprovisioned) -> deny (not-listed, unprovisioned)
  and 1 more
policy.toml: warning[PN0104]: no class uses it
";
        assert_eq!(page, expected);
    }

    #[test]
    fn outcomes_have_their_exit_codes() {
        let quiet = json!({
            "outcome": "rehearsed", "serial": 1, "changes_verdicts": false, "sessions_changed": 0,
        });
        let published = json!({
            "outcome": "published", "sessions_closed": 2,
            "policy": { "name": "a", "serial": 2, "generation": 3 },
        });
        let problem = json!({
            "title": "the last good policy stays", "detail": "the policy p has 1 errors",
            "diagnostics": [{ "severity": "error", "code": "PN0003", "file": "p", "line": 7, "message": "unknown key" }],
        });
        for (status, body, result, begins) in [
            (200, quiet, Ok(true), "serial 1 can come into force; no verdict changes"),
            (
                200,
                published,
                Ok(true),
                "published: a, serial 2, generation 3; 2 live sessions closed",
            ),
            (
                409,
                problem,
                Ok(false),
                "refused: the last good policy stays: the policy p has 1 errors\np:7: error[PN0003]",
            ),
            (
                401,
                json!({ "title": "no valid token", "detail": "send it" }),
                Err("error: no valid token: send it".into()),
                "",
            ),
            (502, json!("nonsense"), Err("error: the node answered 502 Bad Gateway".into()), ""),
        ] {
            let (told, page) = told(status, body);
            assert_eq!(told, result);
            assert!(page.starts_with(begins), "{page}");
        }
    }
}
