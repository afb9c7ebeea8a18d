//! `postern completions`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

#[derive(Debug, Args)]
#[command(after_help = "\
For example:
  postern completions bash > /etc/bash_completion.d/postern")]
pub(super) struct CompletionsCommand {
    /// The shell.
    shell: Shell,
}

pub(super) fn run(command: CompletionsCommand) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(
        command.shell,
        &mut super::Arguments::command(),
        "postern",
        &mut script,
    );
    match io::stdout().write_all(&script) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(2),
    }
}
