//! `postern hostsets`.

mod export;
mod import;
mod text;

use std::{
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand, ValueEnum};
use jiff::civil::Date;
use policy::{
    builtin::{self, BuiltinEntry, BuiltinSet},
    limits::MAX_DOCUMENT,
};
use serde_json::{Value, json};

use super::document::Document;
use crate::{clock, report};
use import::{Labels, Mistake};

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
For example:
  postern hostsets
  postern hostsets show mobile-plans --format json
  postern hostsets show 'ts43-entitlement(001,01)'
  postern hostsets export mobile-plans > mobile-plans.toml
  postern hostsets import --name vendor page.md > vendor.toml

A policy names them builtin:NAME; without a date the newest is meant.

Exit codes: 0 done; 1 the page has rows that cannot be read; 2 could not run."
)]
pub(super) struct HostsetsCommand {
    #[command(subcommand)]
    what: Option<What>,
    /// How to print: text or json; export knows toml, csv and json.
    #[arg(long, value_enum, global = true)]
    format: Option<Format>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// To read.
    Text,
    /// One object.
    Json,
    /// A host set for a policy.
    Toml,
    /// A line for each entry.
    Csv,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List every table.
    List,
    /// Show the rows of one table.
    #[command(after_help = "For example:\n  postern hostsets show mobile-plans@2018-01-05")]
    Show {
        /// Its name, such as mobile-plans or mobile-plans@2018-01-05.
        name: String,
    },
    /// Write a table as a host set of a policy, to be changed by hand.
    #[command(after_help = "For example:\n  postern hostsets export mobile-plans --format csv")]
    Export {
        /// Its name, such as mobile-plans or mobile-plans@2018-01-05.
        name: String,
    },
    /// Make a host set from a page with a table of hosts and protocols, in Markdown or HTML.
    #[command(after_help = "\
For example:
  postern hostsets import --name mobile-plans-next --reviewed 2026-11-23 page.md > next.toml

A row that cannot be read is reported with its line, and then nothing is written.")]
    Import {
        /// The page; - is standard input.
        #[arg(value_name = "FILE")]
        page: PathBuf,
        /// The name of the host set.
        #[arg(long, default_value = "imported")]
        name: String,
        /// Where the page is from; its path, unless given.
        #[arg(long, value_name = "TEXT")]
        source: Option<String>,
        /// The day on which the page was compared with its source.
        #[arg(long, value_name = "DATE")]
        reviewed: Option<Date>,
    },
}

/// Why nothing, or not everything, could be done.
enum Failure {
    /// The page has rows that cannot be read: exit 1.
    Found(String),
    /// It could not run: exit 2.
    Unable(String),
}

pub(super) fn run(command: HostsetsCommand) -> ExitCode {
    match act(command, &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Found(lines)) => {
            report::complain(&lines);
            ExitCode::from(1)
        }
        Err(Failure::Unable(line)) => {
            report::complain(&line);
            ExitCode::from(2)
        }
    }
}

fn act(command: HostsetsCommand, out: &mut impl Write) -> Result<(), Failure> {
    let HostsetsCommand { what, format } = command;
    let what = what.unwrap_or(What::List);
    let format = format.unwrap_or(match what {
        What::List | What::Show { .. } => Format::Text,
        What::Export { .. } | What::Import { .. } => Format::Toml,
    });
    let unknown = |known| Failure::Unable(format!("error: this is printed as {known} only"));
    let written = match (what, format) {
        (What::List, Format::Text | Format::Json) => list(format, out),
        (What::Show { name }, Format::Text | Format::Json) => show(&*find(&name)?, format, out),
        (What::Export { name }, Format::Toml | Format::Csv | Format::Json) => {
            let set = find(&name)?;
            if set.is_template() {
                let line = format!("error: `{name}` needs the network codes: `{name}(MCC,MNC)`");
                return Err(Failure::Unable(line));
            }
            export(&set, format, out)
        }
        (What::Import { page, name, source, reviewed }, Format::Toml) => {
            let text = read(&page)?;
            let source = source.unwrap_or_else(|| page.display().to_string());
            let labels = Labels { name, source, reviewed };
            let sheet = import::read(&text, labels, clock::today())
                .map_err(|mistakes| refusal(&page, &mistakes))?;
            out.write_all(sheet.toml().0.as_bytes())
        }
        (What::List | What::Show { .. }, Format::Toml | Format::Csv) => {
            return Err(unknown("text and json"));
        }
        (What::Export { .. }, Format::Text) => return Err(unknown("toml, csv and json")),
        (What::Import { .. }, Format::Text | Format::Json | Format::Csv) => {
            return Err(unknown("toml"));
        }
    };
    written.map_err(|error| Failure::Unable(format!("error: cannot write: {error}")))
}

fn find(name: &str) -> Result<std::borrow::Cow<'static, BuiltinSet>, Failure> {
    let bare = name.strip_prefix(builtin::PREFIX).unwrap_or(name);
    builtin::find(bare).map_err(|error| {
        let help = error.help().map_or_else(String::new, |help| format!("; {help}"));
        Failure::Unable(format!("error: {error}{help}"))
    })
}

fn refusal(page: &Path, mistakes: &[Mistake]) -> Failure {
    let page = page.display();
    match mistakes {
        [Mistake::NoTable] => Failure::Unable(format!("error: {page}: {}", Mistake::NoTable)),
        mistakes => {
            let lines: Vec<String> =
                mistakes.iter().map(|mistake| format!("error: {page}: {mistake}")).collect();
            Failure::Found(lines.join("\n"))
        }
    }
}

/// The text of a page, up to the length of the longest policy.
fn read(page: &Path) -> Result<String, Failure> {
    let unable = |error: &dyn std::error::Error| {
        Failure::Unable(format!("error: {}", report::with_causes(error)))
    };
    let text = if page == Path::new("-") {
        let mut text = String::new();
        let most = u64::try_from(MAX_DOCUMENT).unwrap_or(u64::MAX).saturating_add(1);
        io::stdin().lock().take(most).read_to_string(&mut text).map_err(|error| unable(&error))?;
        text
    } else {
        Document::read(page).map_err(|error| unable(&error))?.text
    };
    if text.len() > MAX_DOCUMENT {
        let line = format!("error: {} has more than {MAX_DOCUMENT} bytes", page.display());
        return Err(Failure::Unable(line));
    }
    Ok(text)
}

fn export(set: &BuiltinSet, format: Format, out: &mut impl Write) -> io::Result<()> {
    match format {
        Format::Toml => {
            writeln!(out, "# Exported from {}{}.\n", builtin::PREFIX, set.name())?;
            out.write_all(export::sheet(set).toml().0.as_bytes())
        }
        Format::Csv => out.write_all(export::sheet(set).csv().as_bytes()),
        Format::Text | Format::Json => show(set, Format::Json, out),
    }
}

fn list(format: Format, out: &mut impl Write) -> io::Result<()> {
    match format {
        Format::Text => builtin::all().iter().try_for_each(|set| {
            let (name, date, rows) = (set.name(), set.date(), set.entries().len());
            writeln!(out, "{name:<25} {date} {rows:>3}  {}", set.source())
        }),
        Format::Json | Format::Toml | Format::Csv => {
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
        Format::Json | Format::Toml | Format::Csv => {
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
