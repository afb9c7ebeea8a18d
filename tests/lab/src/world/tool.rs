//! Runs the programs the lab needs and turns their failure into one line with the cure.

use std::{
    io::{ErrorKind, Write},
    process::{Command, Stdio},
};

use super::WorldError;

/// Runs a program with a text on its standard input and returns its standard output.
pub(super) fn run(
    program: &'static str,
    arguments: &[&str],
    input: &str,
) -> Result<String, WorldError> {
    let spawned = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = spawned.map_err(|source| {
        if source.kind() == ErrorKind::NotFound {
            return WorldError::Missing { program, package: package(program) };
        }
        WorldError::Io { what: "starting a program", source }
    })?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that stops reading reports why on its standard error.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(super::during("waiting for a program"))?;
    if !output.status.success() {
        return Err(WorldError::Failed {
            command: format!("{program} {}", arguments.join(" ")),
            message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn package(program: &str) -> &'static str {
    match program {
        "ip" => "iproute2",
        "nft" => "nftables",
        "unshare" | "nsenter" => "util-linux",
        _ => "of that name",
    }
}
