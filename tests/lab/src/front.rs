//! What `postern lab` does: run journeys, list them, keep a world up. It prints; nothing else in
//! the lab does.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use crate::{
    clock,
    journey::{self, Journey},
    private::{self, Entry, Inside},
    report::{self, JourneyReport, Progress},
    visit::{self, Standing},
    world::{Form, Options, World},
};

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// What to run.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Names of journeys; all when empty.
    pub journeys: Vec<String>,
    /// Where a JUnit report goes.
    pub junit: Option<PathBuf>,
    /// How the result is printed.
    pub format: Format,
    /// Whether the loopback form is wanted even where namespaces are possible.
    pub loopback: bool,
    /// The gateway's binary.
    pub binary: PathBuf,
}

/// Runs journeys, each in a world of its own. Exit code 0 if every step passed, 1 if one failed, 2
/// if there was no world.
#[must_use]
pub fn run(options: &RunOptions) -> ExitCode {
    let journeys = match chosen(&options.journeys) {
        Ok(journeys) => journeys,
        Err(unknown) => {
            tell(&format!("no journey is called {unknown:?}; `postern lab list` names them"));
            return ExitCode::from(COULD_NOT_RUN);
        }
    };
    let inside = match private::enter(options.loopback, |_| {}) {
        Entry::Inside(inside) => inside,
        Entry::Done(code) => return code,
        Entry::Failed(error) => return failed(&format!("the lab could not be started: {error}")),
    };
    announce(&inside);
    let directory = inside.directory().to_owned();
    inside.end_when_released();
    let mut reports = Vec::new();
    for journey in journeys {
        match live(journey, &options.binary, &directory) {
            Ok(report) => reports.push(report),
            Err(code) => return code,
        }
    }
    publish(&reports, options)
}

/// Lists the journeys.
#[must_use]
pub fn list(format: Format) -> ExitCode {
    match format {
        Format::Text => {
            for journey in journey::journeys() {
                say(&format!("{:20} {}", journey.name, journey.about));
            }
        }
        Format::Json => {
            let journeys: Vec<_> = journey::journeys()
                .iter()
                .map(|journey| serde_json::json!({ "name": journey.name, "about": journey.about }))
                .collect();
            say(&document("fine", "journeys", journeys.into()));
        }
    }
    ExitCode::SUCCESS
}

/// Builds a world and keeps it until interrupted.
#[must_use]
pub fn up(binary: &Path, loopback: bool) -> ExitCode {
    let mut standing = None;
    // The inner process must not take the outer one's world for another.
    if !private::is_started()
        && let Some(other) = Standing::find()
    {
        return failed(&format!(
            "a lab is up already (process {}); enter it with `postern lab shell ue1` or end it first",
            other.pid()
        ));
    }
    let entry = private::enter(loopback, |started| {
        if started.own_network {
            match Standing::declare(started) {
                Ok(declared) => standing = Some(declared),
                Err(error) => tell(&format!("`postern lab shell` will not find this lab: {error}")),
            }
        }
    });
    let inside = match entry {
        Entry::Inside(inside) => inside,
        Entry::Done(code) => {
            drop(standing);
            return code;
        }
        Entry::Failed(error) => return failed(&format!("the lab could not be started: {error}")),
    };
    announce(&inside);
    let options = Options {
        plain_names: true,
        directory: Some(inside.directory().to_owned()),
        ..Options::new(binary)
    };
    let world = match World::start(options) {
        Ok(world) => world,
        Err(error) => return failed(&error.to_string()),
    };
    say(&visit::guide(&world));
    inside.wait_for_release();
    if world.gateway().is_running()
        && let Err(error) = world.gateway().stop()
    {
        tell(&error.to_string());
    }
    drop(world);
    inside.remove_directory();
    ExitCode::SUCCESS
}

fn chosen(names: &[String]) -> Result<Vec<&'static Journey>, &String> {
    if names.is_empty() {
        return Ok(journey::journeys().iter().collect());
    }
    names.iter().map(|name| journey::find(name).ok_or(name)).collect()
}

fn live(
    journey: &'static Journey,
    binary: &Path,
    directory: &Path,
) -> Result<JourneyReport, ExitCode> {
    let start = clock::now();
    let options = Options { directory: Some(directory.to_owned()), ..Options::new(binary) };
    let world = World::start(options).map_err(|error| failed(&error.to_string()))?;
    let mut progress = Progress::new();
    let steps = journey::perform(journey, &world, |total, step| progress.step(total, step));
    progress.end();
    let report = JourneyReport { name: journey.name, steps, elapsed: start.elapsed() };
    if report.failures() > 0 {
        tell(&format!("the end of the gateway's log:\n{}", world.gateway().log_tail()));
    }
    if world.gateway().is_running()
        && let Err(error) = world.gateway().stop()
    {
        tell(&error.to_string());
    }
    Ok(report)
}

fn publish(reports: &[JourneyReport], options: &RunOptions) -> ExitCode {
    let failures: usize = reports.iter().map(JourneyReport::failures).sum();
    match options.format {
        Format::Text => {
            for report in reports {
                say(&report.text());
            }
        }
        Format::Json => {
            let outcome = if failures == 0 { "fine" } else { "found" };
            let journeys: Vec<_> = reports.iter().map(JourneyReport::json).collect();
            say(&document(outcome, "journeys", journeys.into()));
        }
    }
    if let Some(file) = &options.junit {
        let written = report::junit(reports)
            .map_err(|error| error.to_string())
            .and_then(|text| fs::write(file, text).map_err(|error| error.to_string()));
        if let Err(error) = written {
            return failed(&format!("{} could not be written: {error}", file.display()));
        }
    }
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::from(FOUND) }
}

fn announce(inside: &Inside) {
    if Options::new("").form == Form::Loopback {
        let why = inside.refusal().unwrap_or("no private environment");
        tell(&format!(
            "no network namespaces here ({why}); the loopback form runs: without steering, packet counters and addresses of its own"
        ));
    }
}

fn document(outcome: &str, key: &str, value: serde_json::Value) -> String {
    let document = serde_json::json!({ "format_version": 1, "outcome": outcome, key: value });
    format!("{document:#}")
}

fn failed(message: &str) -> ExitCode {
    tell(&format!("postern lab: {message}"));
    ExitCode::from(COULD_NOT_RUN)
}

/// Prints a result. Whoever started us may not care to read; that is no reason to stop.
fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// Prints what is going on.
pub(crate) fn tell(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Exit codes of the contract, after `diff(1)`.
const FOUND: u8 = 1;
const COULD_NOT_RUN: u8 = 2;
