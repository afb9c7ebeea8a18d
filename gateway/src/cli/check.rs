//! `postern check`.

mod machine;

use std::{
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, ValueEnum};
use policy::{Diagnostic, Parts, Severity, limits::MAX_DOCUMENT};

use super::document::{Document, QuicMode};
use crate::{clock, config::Config, report};

#[derive(Debug, Args)]
#[command(after_help = "\
For example:
  postern check policy.toml
  postern check --format sarif --fail-on warning policy.toml > policy.sarif

Exit codes: 0 fine, 1 found something, 2 could not read the file.")]
pub(super) struct CheckCommand {
    /// A policy, or a gateway.toml.
    file: PathBuf,
    /// What the node does with QUIC.
    #[arg(long, value_enum, default_value_t)]
    quic: QuicMode,
    /// How to print what is found.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// From which severity on the exit code is 1.
    #[arg(long, value_enum, default_value_t)]
    fail_on: FailOn,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    /// Line, caret, code and help.
    #[default]
    Text,
    /// One object.
    Json,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
    /// Annotations of GitHub Actions.
    Github,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum FailOn {
    #[default]
    Error,
    Warning,
}

pub(super) fn run(command: CheckCommand) -> ExitCode {
    let CheckCommand { file, quic, format, fail_on } = command;
    let document = match Document::read(&file) {
        Ok(document) => document,
        Err(error) => {
            report::complain_with_causes(&error);
            return ExitCode::from(2);
        }
    };
    if document.text.len() > MAX_DOCUMENT {
        report::complain(&format!(
            "error: {} has more than {MAX_DOCUMENT} bytes; no policy has",
            document.name
        ));
        return ExitCode::from(2);
    }
    let parts = document.parts_for(quic);
    let found = findings(&file, &document, &parts);
    let fails = found.iter().any(|found| match (found.severity, fail_on) {
        (Severity::Error, FailOn::Error | FailOn::Warning) => true,
        (Severity::Warning, FailOn::Warning) => true,
        (Severity::Warning, FailOn::Error) => false,
    });
    let stdout = io::stdout();
    let styled = stdout.is_terminal();
    match write(&found, &parts, fails, format, styled, &mut stdout.lock()) {
        Ok(()) if fails => ExitCode::from(1),
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::complain(&format!("error: cannot write: {error}"));
            ExitCode::from(2)
        }
    }
}

fn findings(path: &Path, document: &Document, parts: &Parts<'_>) -> Vec<Diagnostic> {
    if is_gateway(&document.text) {
        return match Config::parse(path, &document.text) {
            Ok((_, warnings)) => warnings,
            Err(found) => found,
        };
    }
    match policy::compile_parts(parts, clock::today()) {
        Ok(compiled) => compiled.warnings,
        Err(found) => found,
    }
}

/// A `gateway.toml` says which node it is for and where its policy lies; a policy says neither.
fn is_gateway(text: &str) -> bool {
    let (root, _) = toml::de::DeTable::parse_recoverable(text);
    let root = root.get_ref();
    root.contains_key("policy") && root.contains_key("node") && !root.contains_key("schema")
}

fn write(
    found: &[Diagnostic],
    parts: &Parts<'_>,
    fails: bool,
    format: Format,
    styled: bool,
    out: &mut impl Write,
) -> io::Result<()> {
    let name = parts.names().next().unwrap_or_default();
    match format {
        Format::Text => {
            write!(out, "{}", report::diagnostics(found, parts, styled))?;
            let count = |severity| found.iter().filter(|found| found.severity == severity).count();
            let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
            match (errors, warnings) {
                (0, 0) => writeln!(out, "{name}: fine"),
                (_, _) => writeln!(
                    out,
                    "{name}: {}, {}",
                    counted(errors, "error"),
                    counted(warnings, "warning")
                ),
            }
        }
        Format::Json => writeln!(out, "{:#}", machine::json(found, name, parts, fails)),
        Format::Sarif => writeln!(out, "{:#}", machine::sarif(found, parts)),
        Format::Github => write!(out, "{}", machine::github(found, parts)),
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests;
