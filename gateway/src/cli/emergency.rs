//! `postern emergency`.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use clap::{Args, Subcommand};
use http::StatusCode;
use serde_json::{Value, json};

use super::node::{Format, Node, Question, problem};
use crate::{client::Answer, config::duration, report};

#[derive(Debug, Args)]
#[command(after_help = "\
For example:
  postern emergency open --class unprovisioned --for 30m --reason \"payment provider down, INC-7\"
  postern emergency show
  postern emergency close

While it lasts, everybody of the class reaches everything. It ends by itself, also across a restart, after
12 hours at most; a class whose action is `drop` stays barred. Alarms are on until it is over.

Exit codes: 0 done, nothing is open; 1 refused, something is open; 2 could not ask.")]
pub(super) struct EmergencyCommand {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Open a class for a while.
    Open {
        /// The class.
        #[arg(long, value_name = "CLASS")]
        class: String,
        /// For how long, such as 30m or 2h.
        #[arg(long = "for", value_name = "TIME", value_parser = time)]
        time: Duration,
        /// Why; it goes into the audit log.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        asking: Asking,
    },
    /// Close what is open, at once.
    Close {
        /// Only this class.
        #[arg(long, value_name = "CLASS")]
        class: Option<String>,
        #[command(flatten)]
        asking: Asking,
    },
    /// Say what is open.
    Show {
        #[command(flatten)]
        asking: Asking,
    },
}

#[derive(Debug, Args)]
struct Asking {
    #[command(flatten)]
    node: Node,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(command: EmergencyCommand) -> ExitCode {
    let (asking, question) = match command.verb {
        Verb::Open { class, time, reason, asking } => {
            let body = json!({ "class": class, "seconds": time.as_secs(), "reason": reason });
            (asking, Question::Post(PATH.to_owned(), body.to_string().into_bytes()))
        }
        Verb::Close { class, asking } => {
            let which = class.map(|class| format!("?class={class}")).unwrap_or_default();
            (asking, Question::Delete(format!("{PATH}{which}")))
        }
        Verb::Show { asking } => (asking, Question::Get(PATH.to_owned())),
    };
    let Asking { node, format } = asking;
    let told =
        node.ask(question).and_then(|answer| tell(&answer, format, &mut io::stdout().lock()));
    match told {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(line) => {
            report::complain(&line);
            ExitCode::from(2)
        }
    }
}

/// Writes what the node said; whether it did what it was asked, or nothing is open.
fn tell(answer: &Answer, format: Format, out: &mut impl Write) -> Result<bool, String> {
    let Answer { status, body } = answer;
    let refused =
        [StatusCode::BAD_REQUEST, StatusCode::NOT_FOUND, StatusCode::CONFLICT].contains(status);
    if *status != StatusCode::OK && !refused {
        return Err(format!("error: {}", problem(answer)));
    }
    let opened = body.get("opening").map(std::slice::from_ref);
    let list = |key: &str| body[key].as_array().map(Vec::as_slice);
    let (openings, closed) = (list("openings"), list("closed"));
    let outcome = match openings {
        _ if refused => "refused",
        Some([]) => "nothing-open",
        Some(_) => "open",
        None => body["outcome"].as_str().unwrap_or_default(),
    };
    let page = match format {
        Format::Json => {
            let mut value = json!({ "format_version": 1, "outcome": outcome });
            if let (Value::Object(value), Value::Object(body)) = (&mut value, body) {
                let rest = body.iter().filter(|(key, _)| *key != "outcome");
                value.extend(rest.map(|(key, item)| (key.clone(), item.clone())));
            }
            format!("{value:#}\n")
        }
        Format::Text if refused => format!("refused: {}\n", problem(answer)),
        Format::Text => {
            let shown = opened.or(openings).unwrap_or_default();
            let lines = shown.iter().map(open).chain(closed.unwrap_or_default().iter().map(shut));
            match lines.collect::<String>() {
                none if none.is_empty() => "nothing is open\n".to_owned(),
                lines => lines,
            }
        }
    };
    out.write_all(page.as_bytes()).map_err(|error| format!("error: cannot write: {error}"))?;
    Ok(!refused && openings.is_none_or(<[Value]>::is_empty))
}

fn open(opening: &Value) -> String {
    let part = |key: &str| opening[key].as_str().unwrap_or_default();
    let (class, until, reason) = (part("class"), part("until"), part("reason"));
    format!("class {class} is open until {until}: {reason}\n")
}

fn shut(opening: &Value) -> String {
    format!("class {} is closed\n", opening["class"].as_str().unwrap_or_default())
}

fn time(text: &str) -> Result<Duration, String> {
    duration(text)
        .filter(|time| time.subsec_nanos() == 0)
        .ok_or_else(|| "write whole seconds, such as 90s, 30m or 2h".to_owned())
}

const PATH: &str = "/v1/emergency";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_open_and_what_was_refused() {
        let opening = json!({
            "class": "walled", "since": "2026-11-26T12:00:00Z", "until": "2026-11-26T12:30:00Z",
            "reason": "payment down",
        });
        let open = "class walled is open until 2026-11-26T12:30:00Z: payment down\n";
        for (status, body, result, page) in [
            (200, json!({ "outcome": "opened", "opening": opening }), Ok(true), open),
            (200, json!({ "openings": [opening] }), Ok(false), open),
            (200, json!({ "openings": [] }), Ok(true), "nothing is open\n"),
            (
                200,
                json!({ "outcome": "closed", "closed": [opening] }),
                Ok(true),
                "class walled is closed\n",
            ),
            (
                200,
                json!({ "outcome": "nothing-open", "closed": [] }),
                Ok(true),
                "nothing is open\n",
            ),
            (
                404,
                json!({ "title": "nothing is changed", "detail": "no class" }),
                Ok(false),
                "refused: nothing is changed: no class\n",
            ),
            (401, json!({ "title": "no", "detail": "token" }), Err("error: no: token".into()), ""),
        ] {
            let answer = Answer { status: StatusCode::from_u16(status).unwrap(), body };
            let mut written = Vec::new();
            assert_eq!(tell(&answer, Format::Text, &mut written), result);
            assert_eq!(String::from_utf8(written).unwrap(), page);
        }
    }
}
