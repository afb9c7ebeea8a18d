//! `postern suggest`.

use std::{
    io::{self, BufReader, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    policies::{check_class, compile},
    replay::{Format, open},
};
use crate::{
    clock,
    replay::{LogLines, Proposal, Proposals},
    report,
};

#[derive(Debug, Args)]
#[command(after_help = "\
For example:
  postern suggest --log decisions.jsonl
  postern suggest --log decisions.jsonl --policy policy.toml --class unprovisioned > proposal.toml

Prints a host set with the evidence for each entry. It is applied nowhere. With --policy, what the
policy allows by now is left out, and a name that is listed otherwise is told with its place.

Exit codes: 0 nothing to propose, 1 a proposal, 2 could not run.")]
pub(super) struct SuggestCommand {
    /// A decision log; `-` is standard input; may be given several times.
    #[arg(long, value_name = "FILE", required = true)]
    log: Vec<PathBuf>,
    /// The policy in force.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Only what was denied to this class.
    #[arg(long)]
    class: Option<String>,
    /// The time at which the policy is asked; now, unless given.
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(command: SuggestCommand) -> ExitCode {
    match suggest(&command, &mut io::stdout().lock()) {
        Ok(true) => ExitCode::from(1),
        Ok(false) => ExitCode::SUCCESS,
        Err(line) => {
            report::complain(&line);
            ExitCode::from(2)
        }
    }
}

/// Writes the proposal; says whether there is one.
fn suggest(command: &SuggestCommand, out: &mut impl Write) -> Result<bool, String> {
    let SuggestCommand { log, policy, class, at, format } = command;
    let at = at.unwrap_or_else(clock::now);
    let policy = policy.as_deref().map(|path| compile(path, at)).transpose()?;
    if let Some(policy) = &policy {
        check_class(policy, class.as_deref())?;
    }
    let mut proposals = Proposals::default();
    let mut bad_lines = 0;
    for path in log {
        let (input, bar) = open(path)?;
        let name = path.display();
        let mut lines = LogLines::new(BufReader::new(input));
        let mut decisions = 0_u64;
        while let Some(line) =
            lines.next().map_err(|error| format!("error: cannot read {name}: {error}"))?
        {
            decisions += 1;
            if class.as_deref().is_none_or(|class| class == &*line.class) {
                proposals.add(line);
            }
            bar.set_position(lines.position());
        }
        bar.finish_and_clear();
        let (bad, _) = lines.bad();
        if decisions == 0 && bad > 0 {
            return Err(format!(
                "error: {name}: not a decision log: none of {bad} lines is a decision"
            ));
        }
        if bad > 0 {
            report::complain(&format!("warning: {name}: {bad} lines are no decisions"));
        }
        bad_lines += bad;
    }
    let (nameless, folded) = (proposals.nameless(), proposals.folded());
    let all = proposals.into_sorted(policy.as_ref(), at);
    let written = match format {
        Format::Text => write!(out, "{}", Proposal::toml(&all)),
        Format::Json => {
            let value = json!({
                "format_version": 1,
                "outcome": if all.is_empty() { "fine" } else { "found" },
                "proposals": all.iter().map(Proposal::json).collect::<Vec<Value>>(),
                "not_judged": { "nameless": nameless, "name-folded": folded, "bad-line": bad_lines },
                "patch": Proposal::toml(&all),
            });
            writeln!(out, "{value:#}")
        }
    };
    written.map_err(|error| format!("error: cannot write: {error}"))?;
    Ok(!all.is_empty())
}

#[cfg(test)]
mod tests;
