//! `postern sim`: one SIM of a running gateway, by ICCID, IMSI or MSISDN.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{Args, Subcommand};
use http::StatusCode;
use policy::SimState;
use serde_json::{Map, Value, json};

use super::{
    explain::state,
    node::{Format, Node, Question, problem},
};
use crate::{client::Answer, report, sims::SimId};

#[derive(Debug, Args)]
#[command(after_help = "\
For example:
  postern sim show iccid:8988247000100003319
  postern sim set imsi:001010000000001 active
  postern sim set iccid:8988247000100003319 unprovisioned --imsi 001010000000001 --create
  postern sim grant iccid:8988247000100003319 --seconds 300 --bytes 5000000
  postern sim grant iccid:8988247000100003319 --cancel
  postern sim list --state active --format json

A SIM is named iccid:…, imsi:… or msisdn:…. Once `set` and `grant` return, the kernel has the new verdict.

Exit codes: 0 done, 1 no such SIM or refused, 2 could not ask.")]
pub(super) struct SimCommand {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// What is known of a SIM: state, class, addresses, grant.
    Show {
        /// The SIM.
        #[arg(value_name = "SIM", value_parser = sim)]
        sim: SimId,
        #[command(flatten)]
        asking: Asking,
    },
    /// Set the state of a SIM, and say which names are of one SIM.
    Set {
        /// The SIM.
        #[arg(value_name = "SIM", value_parser = sim)]
        sim: SimId,
        /// active, barred, exhausted or unprovisioned.
        #[arg(value_name = "STATE", value_parser = state)]
        state: SimState,
        /// Its ICCID, if it is named otherwise.
        #[arg(long, value_name = "DIGITS")]
        iccid: Option<String>,
        /// Its IMSI, if it is named otherwise.
        #[arg(long, value_name = "DIGITS")]
        imsi: Option<String>,
        /// Its number, if it is named otherwise.
        #[arg(long, value_name = "DIGITS")]
        msisdn: Option<String>,
        /// Make the SIM known if it is not.
        #[arg(long)]
        create: bool,
        #[command(flatten)]
        asking: Asking,
    },
    /// Give a SIM open access bounded by time and bytes, or take it back.
    Grant {
        /// The SIM.
        #[arg(value_name = "SIM", value_parser = sim)]
        sim: SimId,
        /// How long it lasts at most.
        #[arg(long, default_value_t = 300)]
        seconds: u32,
        /// How many bytes it has at most, both directions together.
        #[arg(long, default_value_t = 5_000_000)]
        bytes: u64,
        /// Take the grant back: the flow was cancelled.
        #[arg(long, conflicts_with_all = ["seconds", "bytes"])]
        cancel: bool,
        #[command(flatten)]
        asking: Asking,
    },
    /// List the SIMs that are known.
    List {
        /// Only those in this state.
        #[arg(long, value_name = "STATE", value_parser = state)]
        state: Option<SimState>,
        /// At most so many.
        #[arg(long, value_name = "COUNT", default_value_t = 100)]
        limit: usize,
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

/// What the node said, for printing.
enum Told {
    Done(Value),
    Refused(String),
}

pub(super) fn run(command: SimCommand) -> ExitCode {
    match tell(command.verb, &mut io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(line) => {
            report::complain(&line);
            ExitCode::from(2)
        }
    }
}

fn tell(verb: Verb, out: &mut impl Write) -> Result<bool, String> {
    let (told, format, page): (_, _, fn(&Value) -> String) = match verb {
        Verb::Show { sim, asking } => {
            (ask(&asking, Question::Get(path(sim)))?, asking.format, page_of_sim)
        }
        Verb::Set { sim, state, iccid, imsi, msisdn, create, asking } => {
            let named = [("iccid", iccid), ("imsi", imsi), ("msisdn", msisdn)].into_iter();
            let named = named.filter_map(|(key, digits)| Some((key.to_owned(), digits?.into())));
            let mut body: Map<String, Value> = named.collect();
            body.insert("state".into(), state.label().into());
            body.insert("create".into(), create.into());
            let question = Question::Put(path(sim), Value::from(body).to_string().into_bytes());
            (ask(&asking, question)?, asking.format, page_of_sim)
        }
        Verb::Grant { sim, seconds, bytes, cancel, asking } => {
            let path = format!("{}/grants", path(sim));
            let question = if cancel {
                Question::Delete(path)
            } else {
                let body = json!({ "seconds": seconds, "bytes": bytes });
                Question::Post(path, body.to_string().into_bytes())
            };
            (ask(&asking, question)?, asking.format, page_of_grant)
        }
        Verb::List { state, limit, asking } => {
            (Told::Done(list(&asking, state, limit)?), asking.format, page_of_list)
        }
    };
    let (done, text) = match (told, format) {
        (Told::Done(value), Format::Json) => (
            true,
            format!("{:#}\n", json!({ "format_version": 1, "outcome": "done", "result": value })),
        ),
        (Told::Done(value), Format::Text) => (true, page(&value)),
        (Told::Refused(why), Format::Json) => (
            false,
            format!("{:#}\n", json!({ "format_version": 1, "outcome": "refused", "why": why })),
        ),
        (Told::Refused(why), Format::Text) => (false, format!("refused: {why}\n")),
    };
    out.write_all(text.as_bytes()).map_err(|error| format!("error: cannot write: {error}"))?;
    Ok(done)
}

/// Asks; what the node will not do is an answer too, unless it is for want of a token.
fn ask(asking: &Asking, question: Question) -> Result<Told, String> {
    told(asking.node.ask(question)?)
}

fn told(answer: Answer) -> Result<Told, String> {
    match answer.status {
        StatusCode::OK | StatusCode::CREATED => Ok(Told::Done(answer.body)),
        StatusCode::NOT_FOUND
        | StatusCode::CONFLICT
        | StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_REQUEST => Ok(Told::Refused(problem(&answer))),
        _ => Err(format!("error: {}", problem(&answer))),
    }
}

/// Page after page, up to `limit`.
fn list(asking: &Asking, state: Option<SimState>, limit: usize) -> Result<Value, String> {
    let mut sims = Vec::new();
    let mut after = Some(0);
    while let (Some(from), true) = (after, sims.len() < limit) {
        let state = state.map(|state| format!("&state={}", state.label())).unwrap_or_default();
        let wanted = (limit - sims.len()).min(1000);
        let path = format!("/v1/sims?after={from}&limit={wanted}{state}");
        let page = match ask(asking, Question::Get(path))? {
            Told::Done(page) => page,
            Told::Refused(why) => return Err(format!("error: {why}")),
        };
        sims.extend(page.get("sims").and_then(Value::as_array).cloned().unwrap_or_default());
        after = page.get("next").and_then(Value::as_u64);
    }
    Ok(json!({ "sims": sims, "more": after.is_some() }))
}

fn path(sim: SimId) -> String {
    format!("/v1/sims/{}", sim.whole())
}

/// The text is not repeated: it may be nearly an identity.
fn sim(text: &str) -> Result<SimId, String> {
    SimId::parse(text).map_err(|error| error.to_string())
}

fn page_of_sim(sim: &Value) -> String {
    let part = |key: &str| plain(&sim[key]);
    let addresses: Vec<String> =
        sim["addresses"].as_array().into_iter().flatten().map(plain).collect();
    let state = match sim["state"].as_str() {
        Some(state) => format!("{state}, by {} at {}", part("source"), part("changed")),
        None => "not known".to_owned(),
    };
    let mut rows =
        vec![("iccid", part("iccid")), ("imsi", part("imsi")), ("msisdn", part("msisdn"))];
    rows.retain(|(_, digits)| !digits.is_empty());
    rows.push(("state", state));
    if let Some(before) = sim["before"].as_str() {
        rows.push(("before", before.to_owned()));
    }
    rows.push(("class", format!("{}, {}", part("class"), part("action"))));
    rows.push((
        "addresses",
        if addresses.is_empty() { "none".into() } else { addresses.join(", ") },
    ));
    rows.push(("grant", grant(&sim["grant"])));
    rows.into_iter().map(|(key, value)| format!("{key:<10} {value}\n")).collect()
}

fn page_of_grant(answer: &Value) -> String {
    match answer.get("ended") {
        Some(ended) => format!("ended      {}\n", grant(ended)),
        None => format!("grant      {}\n", grant(&answer["grant"])),
    }
}

fn page_of_list(list: &Value) -> String {
    let mut text = String::new();
    for sim in list["sims"].as_array().into_iter().flatten() {
        let name = ["iccid", "imsi", "msisdn"].into_iter().find(|key| sim[*key].is_string());
        let name = name.map(|key| format!("{key}:{}", plain(&sim[key]))).unwrap_or_default();
        let state = sim["state"].as_str().unwrap_or("not known");
        text.push_str(&format!("{name:<27} {state:<14} {}\n", plain(&sim["class"])));
    }
    if list["more"].as_bool() == Some(true) {
        text.push_str("there are more; see --limit\n");
    }
    text
}

fn grant(grant: &Value) -> String {
    if grant.is_null() {
        return "none".to_owned();
    }
    let (used, bytes) = (plain(&grant["used"]), plain(&grant["bytes"]));
    format!("{used} of {bytes} bytes used, until {}", plain(&grant["ends"]))
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(_) | Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_a_sim_and_its_grant() {
        let value = json!({
            "iccid": "8988247000100003319", "imsi": null, "msisdn": null,
            "state": "active", "source": "api", "changed": "2026-11-26T18:00:00Z", "before": "unprovisioned",
            "class": "paid", "action": "open", "addresses": ["100.64.0.1/32", "2001:db8:64:1::/64"],
            "grant": null,
        });
        assert_eq!(
            page_of_sim(&value),
            "iccid      8988247000100003319\n\
             state      active, by api at 2026-11-26T18:00:00Z\n\
             before     unprovisioned\n\
             class      paid, open\n\
             addresses  100.64.0.1/32, 2001:db8:64:1::/64\n\
             grant      none\n"
        );
        let grant =
            json!({ "grant": { "used": 12, "bytes": 100, "ends": "2026-11-26T18:05:00Z" } });
        let expected = "grant      12 of 100 bytes used, until 2026-11-26T18:05:00Z\n";
        assert_eq!(page_of_grant(&grant), expected);
    }

    #[test]
    fn what_the_node_will_not_do_is_no_failure_to_ask() {
        for (status, done) in [
            (StatusCode::OK, Ok(true)),
            (StatusCode::CREATED, Ok(true)),
            (StatusCode::NOT_FOUND, Ok(false)),
            (StatusCode::TOO_MANY_REQUESTS, Ok(false)),
            (StatusCode::UNAUTHORIZED, Err(())),
            (StatusCode::SERVICE_UNAVAILABLE, Err(())),
        ] {
            let answer = Answer { status, body: json!({ "title": "t", "detail": "d" }) };
            let told = told(answer).map(|told| matches!(told, Told::Done(_))).map_err(drop);
            assert_eq!(told, done, "{status}");
        }
    }
}
