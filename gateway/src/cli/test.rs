//! `postern test`.

mod machine;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use policy::{Case, Coverage, Held, Policy, read_cases};

use super::document::{Document, QuicMode};
use crate::{clock, report};

#[derive(Debug, Args)]
#[command(after_help = "\
For example:
  postern test policy.toml
  postern test --cases checkout.toml --min-coverage 80 --format junit policy.toml > test.xml

A case file holds tables such as:
  [[case]]
  name  = \"the step-up page opens on its last day\"
  class = \"unprovisioned\"        # or what is known of a subscriber: ip, iccid, imsi, apn, state
  at    = 2027-03-31T12:00:00Z   # if absent: --at, else the present
  allow = [\"https://acs.pay.psp.example\"]
  deny  = [\"https://www.bing.com\"]

Exit codes: 0 all held, 1 one did not or too little is covered, 2 could not run.")]
pub(super) struct TestCommand {
    /// The policy.
    file: PathBuf,
    /// A file of further cases; may be given several times.
    #[arg(long, value_name = "FILE")]
    cases: Vec<PathBuf>,
    /// The time of the requests; now, unless given. Cases with a time of their own keep it.
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// Least part of the host entries, in percent, that some case must come to.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    min_coverage: Option<u8>,
    /// What the node does with QUIC.
    #[arg(long, value_enum, default_value_t)]
    quic: QuicMode,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    /// A line each.
    #[default]
    Text,
    /// One object.
    Json,
    /// JUnit XML, for build servers.
    Junit,
    /// The Test Anything Protocol, version 13.
    Tap,
}

/// Everything that was held, and what it came to.
struct Run<'r> {
    policy: &'r Policy,
    /// The time, if it was given: the present one is not printed, so that the output stays.
    at: Option<Timestamp>,
    held: Vec<Held<'r, 'r>>,
    coverage: Coverage<'r>,
    min_coverage: Option<u8>,
}

pub(super) fn run(command: TestCommand) -> ExitCode {
    match test(&command, &mut io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(line) => {
            report::complain(&line);
            ExitCode::from(2)
        }
    }
}

/// Writes the report; says whether everything held.
fn test(command: &TestCommand, out: &mut impl Write) -> Result<bool, String> {
    let TestCommand { file, cases, at, min_coverage, quic, format } = command;
    let now = at.unwrap_or_else(clock::now);
    let policy = compile(file, *quic, now)?;
    let mut all = policy.asserts().to_vec();
    for path in cases {
        all.extend(read(path, &policy)?);
    }
    let run = Run::new(&policy, &all, *at, now, *min_coverage);
    let page = match format {
        Format::Text => run.text(),
        Format::Json => format!("{:#}\n", machine::json(&run)),
        Format::Junit => machine::junit(&run)?,
        Format::Tap => machine::tap(&run),
    };
    out.write_all(page.as_bytes()).map_err(|error| format!("error: cannot write: {error}"))?;
    Ok(run.holds())
}

/// Compiles without holding the asserts: each is reported below.
fn compile(path: &std::path::Path, quic: QuicMode, now: Timestamp) -> Result<Policy, String> {
    let document =
        Document::read(path).map_err(|error| format!("error: {}", report::with_causes(&error)))?;
    let day = jiff::tz::Offset::UTC.to_datetime(now).date();
    let parts = document.parts_for(quic);
    let compiled = policy::compile_parts_unproven(&parts, day).map_err(|found| {
        report::diagnostics_to_stderr(&found, &parts);
        format!("error: {} is not a policy that can be used", document.name)
    })?;
    Ok(compiled.policy)
}

fn read(path: &std::path::Path, policy: &Policy) -> Result<Vec<Case>, String> {
    let document =
        Document::read(path).map_err(|error| format!("error: {}", report::with_causes(&error)))?;
    read_cases(&document.source(), policy).map_err(|found| {
        report::diagnostics_to_stderr(&found, &document.text);
        format!("error: {} is not a file of cases for {}", document.name, policy.name())
    })
}

impl<'r> Run<'r> {
    fn new(
        policy: &'r Policy,
        cases: &'r [Case],
        at: Option<Timestamp>,
        now: Timestamp,
        min_coverage: Option<u8>,
    ) -> Self {
        let held: Vec<_> = cases.iter().flat_map(|case| case.hold(policy, now)).collect();
        let mut coverage = Coverage::of(policy);
        for held in &held {
            coverage.touch(&held.decision());
        }
        Self { policy, at, held, coverage, min_coverage }
    }

    fn failures(&self) -> usize {
        self.held.iter().filter(|held| !held.holds()).count()
    }

    fn covers(&self) -> bool {
        self.min_coverage.is_none_or(|least| self.coverage.percent() >= least)
    }

    fn holds(&self) -> bool {
        self.failures() == 0 && self.covers()
    }

    fn text(&self) -> String {
        let mut page = String::new();
        for held in &self.held {
            let mark = if held.holds() { "ok  " } else { "FAIL" };
            page.push_str(&format!("{mark}  {}  {}\n", held.expectation().place(), title(held)));
            if !held.holds() {
                page.push_str(&format!("      {}\n", why(held)));
            }
        }
        let left: Vec<_> = self.coverage.untouched().collect();
        if !left.is_empty() {
            page.push_str("\nhost entries that no case came to:\n");
        }
        for rule in left {
            page.push_str(&format!(
                "  {}  {} in {}\n",
                rule.place(),
                rule.pattern(),
                rule.hostset()
            ));
        }
        let failures = self.failures();
        page.push_str(&format!(
            "\n{} held, {failures} did not; {}\n",
            self.held.len() - failures,
            self.covered(),
        ));
        page
    }

    fn covered(&self) -> String {
        let (touched, total) = (self.coverage.touched(), self.coverage.total());
        let least = match self.min_coverage {
            Some(least) if self.covers() => format!(", at least {least} % are asked"),
            Some(least) => format!(", but at least {least} % are asked"),
            None => String::new(),
        };
        format!("{touched} of {total} host entries covered ({} %){least}", self.coverage.percent())
    }
}

/// What was expected, on one line.
fn title(held: &Held<'_, '_>) -> String {
    let (target, promised) = (held.expectation().target(), held.expectation().promised().label());
    match held.case().name() {
        Some(name) => format!("{}: {promised} {target}", one_line(name)),
        None => format!("{promised} {target}"),
    }
}

/// What came of it, on one line.
fn why(held: &Held<'_, '_>) -> String {
    let decision = held.decision();
    let rule = decision
        .rule()
        .map(|rule| format!(" (`{}` in {})", rule.pattern(), rule.place()))
        .unwrap_or_default();
    format!(
        "the verdict for class {} is {}: {}{rule}",
        decision.class_label(),
        decision.verdict().label(),
        decision.reason(),
    )
}

/// Names come from a document, which may write what it likes.
fn one_line(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

#[cfg(test)]
mod tests;
