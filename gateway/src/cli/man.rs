//! `postern man`.

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, CommandFactory};

use crate::report;

#[derive(Debug, Args)]
#[command(after_help = "\
For example:
  postern man /usr/share/man/man1

Exit codes: 0 written, 2 could not write.")]
pub(super) struct ManCommand {
    /// The folder for the pages; it is made if it is not there.
    folder: PathBuf,
}

pub(super) fn run(command: ManCommand) -> ExitCode {
    match write(&command.folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let folder = command.folder.display();
            report::complain(&format!("error: cannot write the pages to {folder}: {error}"));
            ExitCode::from(2)
        }
    }
}

/// Writes a page for the program and one for every command that `--help` shows.
fn write(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(super::Arguments::command(), folder)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn pages() -> BTreeMap<String, String> {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path()).unwrap();
        let entries = folder.path().read_dir().unwrap().map(|entry| entry.unwrap());
        let read = |entry: std::fs::DirEntry| {
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read_to_string(entry.path()).unwrap())
        };
        entries.map(read).collect()
    }

    #[test]
    fn every_command_has_a_page() {
        let pages = pages();
        for command in super::super::Arguments::command().get_subcommands() {
            let name = format!("postern-{}.1", command.get_name());
            assert_eq!(pages.contains_key(&name), !command.is_hide_set(), "{name}");
        }
        for name in ["postern.1", "postern-policy-sign.1", "postern-hostsets-import.1"] {
            assert!(pages.contains_key(name), "{name} in {:?}", pages.keys());
        }
        for (name, page) in &pages {
            assert!(page.contains(".SH NAME") && page.contains(".SH SYNOPSIS"), "{name}");
            assert!(page.contains("postern"), "{name}");
        }
    }

    #[test]
    fn every_command_shows_an_example() {
        fn help(command: &clap::Command) -> String {
            command.get_after_help().map(ToString::to_string).unwrap_or_default()
        }
        fn examine(parent: &clap::Command, path: &str, missing: &mut Vec<String>) {
            for command in parent.get_subcommands() {
                let path = format!("{path} {}", command.get_name());
                examine(command, &path, missing);
                if !help(command).contains(&path) && !help(parent).contains(&path) {
                    missing.push(path);
                }
            }
        }
        let mut missing = Vec::new();
        examine(&super::super::Arguments::command(), "postern", &mut missing);
        assert_eq!(missing, EXEMPT);
    }

    #[test]
    fn the_same_pages_come_out() {
        assert_eq!(pages(), pages());
    }

    /// What its parent does without a subcommand.
    const EXEMPT: [&str; 1] = ["postern hostsets list"];
}
