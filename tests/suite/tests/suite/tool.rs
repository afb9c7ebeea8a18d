//! Programs that the suite runs: the gateway's binary, cargo, and the checkers of shipped files.

use std::{
    ffi::OsString,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use crate::repository::top;

/// The built gateway.
pub(crate) fn postern() -> Command {
    let path = std::env::var_os("POSTERN_BIN")
        .map_or_else(|| top().join("target/debug/postern"), PathBuf::from);
    assert!(path.is_file(), "{} is not built; tests/run builds it", path.display());
    Command::new(path)
}

/// Cargo, on this workspace and without a network.
pub(crate) fn cargo() -> Command {
    let mut command =
        Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.current_dir(top()).env("CARGO_NET_OFFLINE", "true");
    command
}

/// A checker; `None`, with a word about it, where it is not installed.
///
/// In CI a missing checker is a failure: `tests/run` installs them all.
pub(crate) fn checker(program: &str) -> Option<Command> {
    let found = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    if found {
        return Some(Command::new(program));
    }
    assert!(std::env::var_os("CI").is_none(), "{program} is not installed; tests/run installs it");
    println!("not checked: {program} is not installed");
    None
}

/// Runs `command` to its end; the exit code and everything it said.
pub(crate) fn finish(command: &mut Command) -> (i32, String) {
    let Output { status, stdout, stderr } = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    (status.code().unwrap_or(-1), said)
}

/// Runs `command` and demands exit code 0; what it said.
pub(crate) fn succeed(command: &mut Command) -> String {
    let (code, said) = finish(command);
    assert_eq!(code, 0, "{command:?} ended with {code}:\n{said}");
    said
}
