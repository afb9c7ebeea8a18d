//! `postern lab`: the emulated world, driven by the lab library.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand, ValueEnum};

use crate::report;

/// Run the emulated world: a fake Microsoft, a fake operator, fake SIMs.
#[derive(Debug, Args)]
#[command(after_help = "\
The world lives in network namespaces of its own and needs no root; everything it makes is gone when
it ends. Where namespaces are not allowed, a smaller form runs on the loopback interface.

For example:
  postern lab run                                        every journey, each step checked
  postern lab run unprovisioned-sim --junit journey.xml
  postern lab up                                         keep a world, until Ctrl-C
  postern lab list                                       the journeys
  postern lab shell ue1                                  be a SIM, in another terminal
  postern lab shell ue1 -- curl -v https://login.live.com")]
pub(crate) struct LabCommand {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run journeys: 0 if every step passed, 1 if one failed, 2 if there was no world.
    Run {
        /// Journeys by name; all when none is named.
        journeys: Vec<String>,
        /// Write a JUnit report here.
        #[arg(long, value_name = "FILE")]
        junit: Option<PathBuf>,
        /// How to print the result.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
        /// Take the loopback form even where namespaces are allowed.
        #[arg(long)]
        loopback: bool,
    },
    /// Build a world, say how to use it, and keep it until Ctrl-C.
    Up {
        /// Take the loopback form even where namespaces are allowed.
        #[arg(long)]
        loopback: bool,
    },
    /// List the journeys.
    List {
        /// How to print them.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Be in one place of the world that is up: a shell, or one command.
    Shell {
        /// The place: ue1, ue2, gw or net.
        place: String,
        /// The command, after `--`; a shell when absent.
        #[arg(last = true)]
        command: Vec<OsString>,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// For machines.
    Json,
}

pub(crate) fn run(command: LabCommand) -> ExitCode {
    match command.verb {
        Verb::Run { journeys, junit, format, loopback } => match binary() {
            Ok(binary) => lab::run(&lab::RunOptions {
                journeys,
                junit,
                format: format.into(),
                loopback,
                binary,
            }),
            Err(code) => code,
        },
        Verb::Up { loopback } => match binary() {
            Ok(binary) => lab::up(&binary, loopback),
            Err(code) => code,
        },
        Verb::List { format } => lab::list(format.into()),
        Verb::Shell { place, command } => {
            report::complain_with_causes(&lab::visit(&place, &command));
            ExitCode::from(2)
        }
    }
}

/// The lab starts the very program it is part of.
fn binary() -> Result<PathBuf, ExitCode> {
    std::env::current_exe().map_err(|error| {
        report::complain(&format!("the path of this program is not known: {error}"));
        ExitCode::from(2)
    })
}

impl From<Format> for lab::Format {
    fn from(format: Format) -> Self {
        match format {
            Format::Text => Self::Text,
            Format::Json => Self::Json,
        }
    }
}
