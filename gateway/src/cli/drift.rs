//! `postern drift`.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::Args;
use jiff::Timestamp;
use policy::{Drift, DriftRow, Policy, builtin, drift};
use serde_json::{Value, json};

use super::{
    diff::{Style, header, hosts, hosts_json, requests, requests_json},
    explain::Format,
    policies,
};
use crate::{clock, report};

#[derive(Debug, Args)]
#[command(after_help = "\
For example:
  postern drift policy.toml --class unprovisioned --against builtin:mobile-plans
  postern drift policy.toml --class unprovisioned --against builtin:mobile-plans@2019-04-03 \\
      --allow-extra

Compared is which HTTP and HTTPS requests pass, not how the hosts are listed.

Exit codes: 0 equal, 1 different, 2 could not run.")]
pub(super) struct DriftCommand {
    /// The policy.
    file: PathBuf,
    /// The class whose garden is compared.
    #[arg(long)]
    class: String,
    /// The published table, such as builtin:mobile-plans@2023-12-12; `postern hostsets` lists all.
    #[arg(long, value_name = "TABLE")]
    against: String,
    /// The time of the requests; now, unless given.
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// Hosts beyond the table are shown, but make no difference to the exit code.
    #[arg(long)]
    allow_extra: bool,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(command: DriftCommand) -> ExitCode {
    match compare(&command, &mut io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(line) => {
            report::complain(&line);
            ExitCode::from(2)
        }
    }
}

/// Writes the differences; says whether there is none that counts.
fn compare(command: &DriftCommand, out: &mut impl Write) -> Result<bool, String> {
    let DriftCommand { file, class, against, at, allow_extra, format } = command;
    let now = at.unwrap_or_else(clock::now);
    let bare = against.strip_prefix(builtin::PREFIX).unwrap_or(against);
    let set = builtin::find(bare).map_err(|error| {
        let help = error.help().map_or_else(String::new, |help| format!("; {help}"));
        format!("error: {error}{help}")
    })?;
    let (name, policy) = (file.display().to_string(), policies::compile(file, now)?);
    policies::check_class(&policy, Some(class))?;
    let drift = drift(&policy, class, &set, now).map_err(|error| format!("error: {error}"))?;
    let equal = if *allow_extra {
        drift.missing.is_empty() && drift.changed.is_empty()
    } else {
        drift.is_equal()
    };
    let page = match format {
        Format::Text => text(&drift, &name, class, equal),
        Format::Json => format!("{:#}\n", machine(&drift, &name, &policy, class, *at, equal)),
    };
    out.write_all(page.as_bytes()).map_err(|error| format!("error: cannot write: {error}"))?;
    Ok(equal)
}

fn text(drift: &Drift, file: &str, class: &str, equal: bool) -> String {
    let mut page = format!("{file}, class {class}, against {}{}\n", builtin::PREFIX, drift.against);
    let place = |row: &DriftRow| hosts(&row.region, usize::MAX, Style::Text);
    for row in &drift.missing {
        page += &format!("  missing  {} [{}]\n", place(row), requests(&row.published));
    }
    for row in &drift.changed {
        let (published, allowed) = (requests(&row.published), requests(&row.allowed));
        page += &format!("  changed  {} [{allowed}]: published are [{published}]\n", place(row));
    }
    for row in &drift.extra {
        page += &format!("  extra    {} [{}]\n", place(row), requests(&row.allowed));
    }
    let (missing, changed, extra) = (drift.missing.len(), drift.changed.len(), drift.extra.len());
    let outcome = if equal { "equal" } else { "different" };
    page + &format!("{outcome}: {missing} missing, {changed} changed, {extra} extra\n")
}

fn machine(
    drift: &Drift,
    file: &str,
    policy: &Policy,
    class: &str,
    at: Option<Timestamp>,
    equal: bool,
) -> Value {
    let rows = |rows: &[DriftRow]| {
        let row = |row: &DriftRow| {
            json!({
                "hosts": hosts_json(&row.region),
                "published": requests_json(&row.published),
                "allowed": requests_json(&row.allowed),
            })
        };
        rows.iter().map(row).collect::<Vec<_>>()
    };
    let mut head = header(policy);
    if let Value::Object(head) = &mut head {
        head.insert("file".into(), file.into());
    }
    json!({
        "format_version": 1,
        "outcome": if equal { "equal" } else { "different" },
        "at": at.map(|at| at.to_string()),
        "policy": head,
        "class": class,
        "against": format!("{}{}", builtin::PREFIX, drift.against),
        "missing": rows(&drift.missing),
        "changed": rows(&drift.changed),
        "extra": rows(&drift.extra),
    })
}

#[cfg(test)]
mod tests;
