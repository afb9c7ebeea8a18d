//! `postern man`.

use std::{io, path::{Path, PathBuf}, process::ExitCode};

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
        fn examine(command: &clap::Command, path: &str) {
            for command in command.get_subcommands() {
                let path = format!("{path} {}", command.get_name());
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                if command.has_subcommands() {
                    examine(command, &path);
                } else if !EXEMPT.contains(&path.as_str()) {
                    assert!(help.contains(&path), "{path} shows no example of itself:\n{help}");
                }
            }
        }
        examine(&super::super::Arguments::command(), "postern");
    }

    #[test]
    fn the_same_pages_come_out() {
        assert_eq!(pages(), pages());
    }

    /// Their parent's help shows them at work, or they take nothing.
    const EXEMPT: [&str; 1] = ["postern hostsets list"];
}
