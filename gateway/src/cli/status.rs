//! `postern status`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Args;
use http::StatusCode;
use serde_json::{Value, json};

use super::node::{Format, Node, Question, problem};
use crate::{client::Answer, report};

#[derive(Debug, Args)]
#[command(after_help = "\
For example:
  postern status
  postern status --config gateway.toml --format json
  postern status --admin http://127.0.0.1:9180

Exit codes: 0 ready, 1 not ready, 2 could not ask.")]
pub(super) struct StatusCommand {
    #[command(flatten)]
    node: Node,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(command: StatusCommand) -> ExitCode {
    let StatusCommand { node, format } = command;
    let told = node
        .ask(Question::Get("/v1/status".into()))
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

/// Writes what the node said; whether it is ready.
fn tell(answer: &Answer, format: Format, out: &mut impl Write) -> Result<bool, String> {
    if answer.status != StatusCode::OK {
        return Err(format!("error: {}", problem(answer)));
    }
    let body = &answer.body;
    let ready = body["ready"].as_bool() == Some(true);
    let page = match format {
        Format::Json => {
            let outcome = if ready { "ready" } else { "not-ready" };
            let mut value = json!({ "format_version": 1, "outcome": outcome });
            if let (Value::Object(value), Value::Object(body)) = (&mut value, body) {
                value.extend(body.iter().map(|(key, item)| (key.clone(), item.clone())));
            }
            format!("{value:#}\n")
        }
        Format::Text => page(body, ready),
    };
    out.write_all(page.as_bytes()).map_err(|error| format!("error: cannot write: {error}"))?;
    Ok(ready)
}

fn page(body: &Value, ready: bool) -> String {
    let failed = body["failed_checks"].as_array().map(Vec::as_slice).unwrap_or_default();
    let failed: Vec<&str> = failed.iter().filter_map(Value::as_str).collect();
    let readiness =
        if ready { "ready".to_owned() } else { format!("not ready: {}", failed.join(", ")) };
    let mut rows = vec![
        ("node", format!("{}, {readiness}", text(&body["node"]))),
        ("version", text(&body["version"]).to_owned()),
    ];
    match body["policy"].as_object() {
        Some(policy) => {
            let part = |key| policy.get(key).map(plain).unwrap_or_default();
            let (name, serial, generation) = (part("name"), part("serial"), part("generation"));
            rows.push((
                "policy",
                format!(
                    "{name}, serial {serial}, generation {generation}, {}",
                    part("environment")
                ),
            ));
            rows.push(("sha256", part("sha256")));
        }
        None => rows.push(("policy", "none: everything is denied".to_owned())),
    }
    if body["last_good_restored"].as_bool() == Some(true) {
        let note = "the policy file was refused; the kept copy of the last good one is in force";
        rows.push(("note", note.to_owned()));
    }
    let openings = body["emergency"].as_array().map(Vec::as_slice).unwrap_or_default();
    for opening in openings {
        let (class, until) = (text(&opening["class"]), text(&opening["until"]));
        let reason = text(&opening["reason"]);
        rows.push(("EMERGENCY", format!("class {class} is open until {until}: {reason}")));
    }
    rows.push(("sessions", sums(&body["sessions_by_protocol"])));
    rows.push(("decisions", sums(&body["decisions"])));
    rows.push(("reasons", sums(&body["reasons"])));
    rows.push(("reloads", sums(&body["reloads"])));
    rows.push(("upstream", sums(&body["upstream_failures"])));
    rows.into_iter().map(|(key, value)| format!("{key:<10} {value}\n")).collect()
}

/// Counts that are not zero, in the order of their names.
fn sums(value: &Value) -> String {
    let counts = value.as_object().map(|counts| {
        let counted = counts.iter().filter(|(_, count)| count.as_u64() != Some(0));
        counted.map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>()
    });
    match counts {
        Some(counts) if !counts.is_empty() => counts.join(", "),
        Some(_) | None => "none".to_owned(),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_in_force_and_whether_it_is_ready() {
        let body = json!({
            "node": "edge-1", "version": "0.1.0", "ready": false, "failed_checks": ["not-stopping"],
            "policy": { "name": "acme", "serial": 42, "generation": 3, "environment": "lab", "sha256": "ab" },
            "last_good_restored": true,
            "emergency": [{
                "class": "walled", "since": "2026-11-26T12:00:00Z", "until": "2026-11-26T12:30:00Z",
                "reason": "the payment provider is down",
            }],
            "sessions_by_protocol": { "http": 0, "https": 7 },
            "decisions": { "allow": 10, "deny": 2 }, "reasons": {}, "reloads": { "published": 3 },
            "upstream_failures": {},
        });
        let mut written = Vec::new();
        let answer = Answer { status: StatusCode::OK, body };
        assert_eq!(tell(&answer, Format::Text, &mut written), Ok(false));
        let expected = "\
node       edge-1, not ready: not-stopping
version    0.1.0
policy     acme, serial 42, generation 3, lab
sha256     ab
note       the policy file was refused; the kept copy of the last good one is in force
EMERGENCY  class walled is open until 2026-11-26T12:30:00Z: the payment provider is down
sessions   https 7
decisions  allow 10, deny 2
reasons    none
reloads    published 3
upstream   none
";
        assert_eq!(String::from_utf8(written).unwrap(), expected);
    }
}
