//! `postern explain`.

use std::{
    io::{self, Write},
    net::IpAddr,
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, ValueEnum};
use http::StatusCode;
use jiff::Timestamp;
use policy::{Iccid, Identity, Imsi, SimState, Subject, Subscriber, Target, explain};
use serde_json::{Value, json};

use super::{
    document::{Document, QuicMode},
    node::{Node, Question, problem},
};
use crate::{clock, report};

#[derive(Debug, Args)]
#[command(after_help = "\
For example:
  postern explain --policy policy.toml --class unprovisioned https://www.bing.com
  postern explain --policy policy.toml --ip 100.64.0.7 http://crl.microsoft.com/x dns:login.live.com
  postern explain --policy policy.toml --ip 100.64.0.7 --live https://www.bing.com    whoever has it now

Targets:
  https://host[:port]   http://host[:port][/path]   dns:host[/TYPE]
  quic://host[:port]    tcp://host:port

Exit codes: 0 all allowed, 1 any denied, 2 could not run.")]
pub(super) struct ExplainCommand {
    /// The policy.
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    #[command(flatten)]
    who: Who,
    /// Ask the running gateway who has the address, or what is known of the SIM.
    #[arg(long, conflicts_with = "class")]
    live: bool,
    #[command(flatten)]
    node: Node,
    /// The time of the request; now, unless given.
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// What the node does with QUIC.
    #[arg(long, value_enum, default_value_t)]
    quic: QuicMode,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// What is asked for.
    #[arg(required = true, value_name = "TARGET")]
    targets: Vec<Target>,
}

/// Facts of one subscriber may be combined; a class stands alone.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Who {
    /// Any subscriber of this class.
    #[arg(long, conflicts_with_all = ["ip", "iccid", "imsi", "apn", "state"])]
    class: Option<String>,
    /// The subscriber at this address.
    #[arg(long)]
    ip: Option<IpAddr>,
    /// The SIM with this ICCID.
    #[arg(long)]
    iccid: Option<String>,
    /// The SIM with this IMSI.
    #[arg(long)]
    imsi: Option<String>,
    /// A subscriber at this access point.
    #[arg(long)]
    apn: Option<String>,
    /// A SIM in this state.
    #[arg(long, value_parser = state)]
    state: Option<SimState>,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(super) enum Format {
    #[default]
    Text,
    Json,
}

pub(super) fn run(command: ExplainCommand) -> ExitCode {
    match explain_all(&command, &mut io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(line) => {
            report::complain(&line);
            ExitCode::from(2)
        }
    }
}

/// Writes every explanation; says whether all targets pass.
fn explain_all(command: &ExplainCommand, out: &mut impl Write) -> Result<bool, String> {
    let ExplainCommand { policy, who, live, node, at, quic, format, targets } = command;
    let now = at.unwrap_or_else(clock::now);
    let document = Document::read(policy)
        .map_err(|error| format!("error: {}", report::with_causes(&error)))?;
    let day = jiff::tz::Offset::UTC.to_datetime(now).date();
    let parts = document.parts_for(*quic);
    let compiled = policy::compile_parts(&parts, day).map_err(|found| {
        report::diagnostics_to_stderr(&found, &parts);
        format!("error: {} is not a policy that can be used", document.name)
    })?;
    let policy = compiled.policy;
    let known = if *live { who.ask(node)? } else { Value::Null };
    let subscriber = who.subscriber(&known)?;
    let subject = match &who.class {
        Some(class) if policy.class(class).is_none() => {
            let known: Vec<&str> = policy.classes().iter().map(policy::Class::name).collect();
            return Err(format!("error: no class `{class}`; there are: {}", known.join(", ")));
        }
        Some(class) => Subject::Class(class),
        None => Subject::Subscriber(&subscriber),
    };
    let all: Vec<_> =
        targets.iter().map(|target| (target, explain(&policy, subject, target, now))).collect();
    let passes = all.iter().all(|(_, explanation)| explanation.decision().passes());
    let written = match format {
        Format::Text => all.iter().enumerate().try_for_each(|(index, (target, explanation))| {
            let gap = if index > 0 { "\n" } else { "" };
            write!(out, "{gap}{}", report::explanation_text(target, explanation))
        }),
        Format::Json => {
            let value = json!({
                "format_version": 1,
                "outcome": if passes { "allowed" } else { "denied" },
                "policy": {
                    "name": policy.name(),
                    "serial": policy.serial(),
                    "sha256": policy.sha256().to_string(),
                },
                "at": now.to_string(),
                "results": all
                    .iter()
                    .map(|(target, explanation)| report::explanation(target, explanation))
                    .collect::<Vec<_>>(),
            });
            writeln!(out, "{value:#}")
        }
    };
    written.map_err(|error| format!("error: cannot write: {error}"))?;
    Ok(passes)
}

impl Who {
    /// What the running gateway knows; nothing, if it knows nobody of that name or address.
    fn ask(&self, node: &Node) -> Result<Value, String> {
        let path = match (self.ip, &self.iccid, &self.imsi) {
            (Some(ip), _, _) => format!("/v1/bindings/{ip}"),
            (None, Some(iccid), _) => format!("/v1/sims/iccid:{iccid}"),
            (None, None, Some(imsi)) => format!("/v1/sims/imsi:{imsi}"),
            (None, None, None) => return Err("error: --live needs --ip, --iccid or --imsi".into()),
        };
        let answer = node.ask(Question::Get(path))?;
        match answer.status {
            StatusCode::OK => Ok(answer.body),
            StatusCode::NOT_FOUND => Ok(Value::Null),
            _ => Err(format!("error: {}", problem(&answer))),
        }
    }

    /// The identities are never repeated in an error.
    fn subscriber(&self, known: &Value) -> Result<Subscriber, String> {
        let told = |key: &str| known[key].as_str().map(str::to_owned);
        let address = known["addresses"].as_array().and_then(|all| all.first()?.as_str());
        let address = address.and_then(|first| first.parse::<ipnet::IpNet>().ok());
        let ip = self.ip.or_else(|| address.map(|network| network.addr()));
        let mut subscriber = ip.map_or_else(Subscriber::default, Subscriber::at);
        if let Some(text) = &self.iccid.clone().or_else(|| told("iccid")) {
            let iccid = Iccid::parse(text).map_err(|error| format!("error: --iccid: {error}"))?;
            subscriber = subscriber.with_iccid(iccid);
        }
        if let Some(text) = &self.imsi.clone().or_else(|| told("imsi")) {
            let imsi = Imsi::parse(text).map_err(|error| format!("error: --imsi: {error}"))?;
            subscriber = subscriber.with_imsi(imsi);
        }
        if let Some(apn) = &self.apn.clone().or_else(|| told("apn")) {
            subscriber = subscriber.with_apn(policy::Apn::new(apn));
        }
        let known_state = known["state"].as_str().and_then(SimState::from_label);
        if let Some(state) = self.state.or(known_state) {
            subscriber = subscriber.with_state(state);
        }
        Ok(subscriber)
    }
}

/// Reads a SIM state; also of `postern sim`.
pub(super) fn state(text: &str) -> Result<SimState, String> {
    SimState::from_label(text)
        .ok_or_else(|| format!("one of {}", SimState::ALL.map(SimState::label).join(", ")))
}

#[cfg(test)]
mod tests;
