//! `postern fmt`.

mod form;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;

use super::document::Document;
use crate::report;

#[derive(Debug, Args)]
#[command(after_help = "\
For example:
  postern fmt policy.toml
  postern fmt --check policy.toml more.toml

What a policy means never changes; comments and the order of tables stay.

Exit codes: 0 done, or in form already; 1 with --check, a file is not in form; 2 could not.")]
pub(super) struct FmtCommand {
    /// Say which files are not in form, and change none.
    #[arg(long)]
    check: bool,
    /// Policies, and the files they include.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

pub(super) fn run(command: FmtCommand) -> ExitCode {
    let (mut unable, mut found) = (false, false);
    for file in &command.files {
        match bring(file, command.check) {
            Ok(changed) => found |= changed,
            Err(line) => {
                report::complain(&line);
                unable = true;
            }
        }
    }
    match (unable, found && command.check) {
        (true, _) => ExitCode::from(2),
        (false, true) => ExitCode::from(1),
        (false, false) => ExitCode::SUCCESS,
    }
}

/// Brings one file in form; whether it was not.
fn bring(file: &Path, check: bool) -> Result<bool, String> {
    let document =
        Document::read(file).map_err(|error| format!("error: {}", report::with_causes(&error)))?;
    let name = &document.name;
    let text = form::format(&document.text).map_err(|error| format!("error: {name}: {error}"))?;
    if text == document.text {
        return Ok(false);
    }
    if check {
        report::complain(&format!("{name}: not in form"));
    } else {
        replace(file, &text).map_err(|error| format!("error: cannot write {name}: {error}"))?;
    }
    Ok(true)
}

/// A node that watches the file must never read half of it.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    let real = fs::canonicalize(file)?;
    let mut fresh = real.as_os_str().to_owned();
    fresh.push(".new");
    fs::write(&fresh, text)?;
    fs::set_permissions(&fresh, fs::metadata(&real)?.permissions())?;
    fs::rename(&fresh, &real)
}
