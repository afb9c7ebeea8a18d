//! `postern hostsets`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{Args, Subcommand};
use policy::builtin::{self, BuiltinEntry, BuiltinSet};
use serde_json::{Value, json};

use super::explain::Format;
use crate::report;

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
For example:
  postern hostsets
  postern hostsets show mobile-plans --format json
  postern hostsets show 'ts43-entitlement(001,01)'

A policy names them builtin:NAME; without a date the newest is meant."
)]
pub(super) struct HostsetsCommand {
    #[command(subcommand)]
    what: Option<What>,
    /// How to print.
    #[arg(long, value_enum, default_value_t, global = true)]
    format: Format,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List every table.
    List,
    /// Show the rows of one table.
    Show {
        /// Its name, such as mobile-plans or mobile-plans@2018-01-05.
        name: String,
    },
}

pub(super) fn run(command: HostsetsCommand) -> ExitCode {
    let HostsetsCommand { what, format } = command;
    let mut out = io::stdout().lock();
    let written = match what {
        None | Some(What::List) => list(format, &mut out),
        Some(What::Show { name }) => {
            let bare = name.strip_prefix(builtin::PREFIX).unwrap_or(&name);
            match builtin::find(bare) {
                Ok(set) => show(&set, format, &mut out),
                Err(error) => {
                    let help = error.help().map_or_else(String::new, |help| format!("; {help}"));
                    report::complain(&format!("error: {error}{help}"));
                    return ExitCode::from(2);
                }
            }
        }
    };
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::complain(&format!("error: cannot write: {error}"));
            ExitCode::from(2)
        }
    }
}

fn list(format: Format, out: &mut impl Write) -> io::Result<()> {
    match format {
        Format::Text => builtin::all().iter().try_for_each(|set| {
            let (name, date, rows) = (set.name(), set.date(), set.entries().len());
            writeln!(out, "{name:<25} {date} {rows:>3}  {}", set.source())
        }),
        Format::Json => {
            let sets: Vec<Value> = builtin::all()
                .iter()
                .map(|set| {
                    json!({
                        "name": set.name(),
                        "date": set.date().to_string(),
                        "source": set.source(),
                        "hosts": set.entries().len(),
                        "takes_network_codes": set.is_template(),
                    })
                })
                .collect();
            let value = json!({ "format_version": 1, "outcome": "fine", "hostsets": sets });
            writeln!(out, "{value:#}")
        }
    }
}

fn show(set: &BuiltinSet, format: Format, out: &mut impl Write) -> io::Result<()> {
    match format {
        Format::Text => {
            writeln!(out, "{}  ({})\n{}\n", set.name(), set.date(), set.source())?;
            set.entries().iter().try_for_each(|entry| {
                let (host, schemes) = (entry.printed(), schemes(entry).join(" "));
                writeln!(out, "{host:<40} {schemes:<11} {}", entry.reason().unwrap_or_default())
            })
        }
        Format::Json => {
            let value = json!({
                "format_version": 1,
                "outcome": "fine",
                "hostset": {
                    "name": set.name(),
                    "date": set.date().to_string(),
                    "source": set.source(),
                    "takes_network_codes": set.is_template(),
                    "hosts": set.entries().iter().map(host).collect::<Vec<_>>(),
                },
            });
            writeln!(out, "{value:#}")
        }
    }
}

fn host(entry: &BuiltinEntry) -> Value {
    let ports = match entry.ports() {
        [] => entry.schemes().iter().map(|scheme| scheme.default_port()).collect(),
        ports => ports.to_vec(),
    };
    json!({
        "match": entry.printed(),
        "pattern": entry.pattern().to_string(),
        "schemes": schemes(entry),
        "ports": ports,
        "reason": entry.reason(),
        "line": entry.place().line,
    })
}

fn schemes(entry: &BuiltinEntry) -> Vec<&'static str> {
    entry.schemes().iter().map(|scheme| scheme.label()).collect()
}

#[cfg(test)]
mod tests;
