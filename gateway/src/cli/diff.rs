//! `postern diff`.

mod machine;
mod page;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use policy::{Delta, Policy, delta};

pub(super) use machine::{header, hosts as hosts_json, requests as requests_json};
pub(super) use page::{Style, hosts, requests};

use super::policies;
use crate::{clock, report};

#[derive(Debug, Args)]
#[command(after_help = "\
For example:
  postern diff policy.toml policy-next.toml
  postern diff --class unprovisioned --format markdown policy.toml policy-next.toml > ticket.md

Compared is what becomes of every request, not the text. For the same output at any time of day
give the time with --at; entries may end in between otherwise.

Exit codes: 0 equal, 1 different, 2 could not run.")]
pub(super) struct DiffCommand {
    /// The policy before.
    old: PathBuf,
    /// The policy after.
    new: PathBuf,
    /// Only what concerns this class.
    #[arg(long)]
    class: Option<String>,
    /// The time of the requests; now, unless given.
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Most rows of one kind for one class, and most names in one row; 0 is no limit. JSON is
    /// always complete.
    #[arg(long, value_name = "ROWS", default_value_t = 20)]
    limit: usize,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    /// A summary to read.
    #[default]
    Text,
    /// One object.
    Json,
    /// For a change ticket.
    Markdown,
}

/// Two policies and what is between them.
struct Comparison {
    old: Side,
    new: Side,
    delta: Delta,
    /// The time, if it was given: the present one is not printed, so that the output stays.
    at: Option<Timestamp>,
}

struct Side {
    file: String,
    policy: Policy,
}

pub(super) fn run(command: DiffCommand) -> ExitCode {
    match diff(&command, &mut io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(line) => {
            report::complain(&line);
            ExitCode::from(2)
        }
    }
}

/// Writes the comparison; says whether nothing differs.
fn diff(command: &DiffCommand, out: &mut impl Write) -> Result<bool, String> {
    let DiffCommand { old, new, class, at, format, limit } = command;
    let now = at.unwrap_or_else(clock::now);
    let (old, new) = (Side::read(old, now), Side::read(new, now));
    let (old, new) = (old?, new?);
    if let Some(class) = class
        && old.policy.class(class).is_none()
        && new.policy.class(class).is_none()
    {
        return Err(format!("error: neither policy has a class `{class}`"));
    }
    let delta = delta(&old.policy, &new.policy, now);
    let delta = match class {
        Some(class) => delta.of_class(class),
        None => delta,
    };
    let comparison = Comparison { old, new, delta, at: *at };
    let most = if *limit == 0 { usize::MAX } else { *limit };
    let page = match format {
        Format::Text => page::text(&comparison, most),
        Format::Json => format!("{:#}\n", machine::json(&comparison)),
        Format::Markdown => page::markdown(&comparison, most),
    };
    out.write_all(page.as_bytes()).map_err(|error| format!("error: cannot write: {error}"))?;
    Ok(comparison.delta.is_equal())
}

impl Side {
    fn read(path: &Path, now: Timestamp) -> Result<Self, String> {
        Ok(Self { file: path.display().to_string(), policy: policies::compile(path, now)? })
    }
}

#[cfg(test)]
mod tests;
