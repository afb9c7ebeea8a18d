//! The command line. Exit codes are those of `diff(1)`: 0 fine, 1 found, 2 could not run.

mod check;
mod completions;
mod diff;
mod document;
mod drift;
mod emergency;
mod explain;
mod fmt;
mod hostsets;
mod lab;
mod man;
mod node;
mod policies;
mod policy;
mod reload;
mod replay;
mod run;
mod sim;
mod status;
mod suggest;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A walled-garden gateway for mobile operators: a SIM without a plan reaches the hosts it needs
/// to buy one, and nothing else.
#[derive(Debug, Parser)]
#[command(name = "postern", version, max_term_width = 100, after_help = FIRST_STEPS)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway.
    Run(run::RunCommand),
    /// Run the emulated world: a fake Microsoft, a fake operator, fake SIMs.
    Lab(lab::LabCommand),
    /// Check a policy or a gateway.toml and report every mistake at once.
    Check(check::CheckCommand),
    /// Write policies in the canonical form; comments stay.
    Fmt(fmt::FmtCommand),
    /// Say what becomes of a request, by which rule, and why.
    Explain(explain::ExplainCommand),
    /// Hold a policy to its asserts and to case files, and say what none of them comes to.
    Test(test::TestCommand),
    /// Say what a new policy opens and closes, for each class, by verdict.
    Diff(diff::DiffCommand),
    /// Hold the garden of a class against a published table.
    Drift(drift::DriftCommand),
    /// Judge captured traffic again, under one policy or two.
    Replay(replay::ReplayCommand),
    /// Propose entries for what a decision log says was denied.
    Suggest(suggest::SuggestCommand),
    /// List, show and export the built-in host sets; import a published table.
    Hostsets(hostsets::HostsetsCommand),
    /// Make keys, sign a policy, verify its signature.
    Policy(policy::PolicyCommand),
    /// Let a running gateway read its policy again, or say what that would change.
    Reload(reload::ReloadCommand),
    /// Say what a running gateway does: policy, readiness, sessions, counts.
    Status(status::StatusCommand),
    /// Show SIMs of a running gateway, set their states, give them grants.
    Sim(sim::SimCommand),
    /// Open a class for a while although the policy walls it, or close it again.
    Emergency(emergency::EmergencyCommand),
    /// Print a completion script for a shell.
    Completions(completions::CompletionsCommand),
    /// Write the manual pages.
    #[command(hide = true)]
    Man(man::ManCommand),
}

/// Runs the program; the process ends with what it returns.
#[must_use]
pub fn main() -> ExitCode {
    // clap ends the process itself: 0 for --help, 2 for a wrong call.
    match Arguments::parse().command {
        Command::Run(command) => run::run(command),
        Command::Lab(command) => lab::run(command),
        Command::Check(command) => check::run(command),
        Command::Fmt(command) => fmt::run(command),
        Command::Explain(command) => explain::run(command),
        Command::Test(command) => test::run(command),
        Command::Diff(command) => diff::run(command),
        Command::Drift(command) => drift::run(command),
        Command::Replay(command) => replay::run(command),
        Command::Suggest(command) => suggest::run(command),
        Command::Hostsets(command) => hostsets::run(command),
        Command::Policy(command) => policy::run(command),
        Command::Reload(command) => reload::run(command),
        Command::Status(command) => status::run(command),
        Command::Sim(command) => sim::run(command),
        Command::Emergency(command) => emergency::run(command),
        Command::Man(command) => man::run(command),
        Command::Completions(command) => completions::run(command),
    }
}

const FIRST_STEPS: &str = "\
First steps:
  postern lab run                                  see a garden work, on this machine alone
  postern check policy.toml                        find every mistake in a policy
  postern explain --policy policy.toml --class unprovisioned https://www.bing.com
  postern run --config gateway.toml                serve

Exit codes: 0 fine, allowed, equal; 1 found, denied, different; 2 could not run.";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Arguments;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }
}
