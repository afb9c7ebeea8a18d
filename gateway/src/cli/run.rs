//! `postern run`.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    app::{App, Hangup, StartError},
    config::ConfigError,
    log::{LogFormat, start_program_log},
    reload::ReloadError,
    report,
};

/// Run the gateway.
#[derive(Debug, Args)]
#[command(after_help = "\
For example:
  postern run --config gateway.toml
  postern run --config gateway.toml --log info,gateway::proxy=debug

Prints one line with every bound address, then READY; the log goes to standard error.
SIGHUP reloads the policy. SIGTERM drains, removes the steering and ends.

For example:
  postern run --config gateway.toml

A killed gateway leaves its nftables table behind: the garden stays shut.")]
pub(super) struct RunCommand {
    /// The node's settings.
    #[arg(long, value_name = "FILE", default_value = "/etc/postern/gateway.toml")]
    config: PathBuf,
    /// Accept a policy whose serial is below the one in force.
    #[arg(long)]
    allow_rollback: bool,
    /// What to log: a level, or a list such as `info,gateway::proxy=debug`.
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log: String,
    /// How to log.
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
}

pub(super) fn run(command: RunCommand) -> ExitCode {
    let RunCommand { config, allow_rollback, log, log_format } = command;
    if let Err(error) = start_program_log(&log, log_format) {
        report::complain(&format!("--log {log}: {error}"));
        return ExitCode::from(2);
    }
    raise_descriptor_limit();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            report::complain(&format!("cannot start: {error}"));
            return ExitCode::from(2);
        }
    };
    runtime.block_on(async {
        let app = match App::start(&config, allow_rollback).await {
            Ok(app) => app,
            Err(error) => {
                explain(&error);
                return ExitCode::from(2);
            }
        };
        match serve(app).await {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(2),
            Err(error) => {
                report::complain(&format!("cannot take signals: {error}"));
                ExitCode::from(2)
            }
        }
    })
}

async fn serve(app: App) -> io::Result<bool> {
    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let hangup = signal(SignalKind::hangup())?;
    {
        let mut out = io::stdout().lock();
        // Whoever started us may not care to read; that is no reason to stop.
        let _ = writeln!(out, "{}\nREADY", app.listening());
        let _ = out.flush();
    }
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    let signalled = stop.clone();
    let ((), sound) = tokio::join!(
        async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                () = signalled.cancelled() => return,
                () = feed_watchdog() => {}
            }
            let _ = sd_notify::notify(&[NotifyState::Stopping]);
            signalled.cancel();
        },
        app.run(stop, hangup),
    );
    Ok(sound)
}

/// Tells systemd, twice as often as it asks for, that the runtime still turns.
async fn feed_watchdog() {
    let Some(every) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    let mut ticks = tokio::time::interval((every / 2).max(Duration::from_millis(100)));
    loop {
        ticks.tick().await;
        let _ = sd_notify::notify(&[NotifyState::Watchdog]);
    }
}

impl Hangup for Signal {
    async fn next(&mut self) {
        if self.recv().await.is_none() {
            std::future::pending().await
        }
    }
}

/// A session takes two descriptors; the usual soft limit of 1024 would end at 500 sessions.
fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

fn explain(error: &StartError) {
    match error {
        StartError::Config(ConfigError::Invalid { text, diagnostics, .. }) => {
            report::diagnostics_to_stderr(diagnostics, text);
        }
        StartError::Policy(ReloadError::Invalid { parts, diagnostics, .. }) => {
            report::diagnostics_to_stderr(diagnostics, &**parts);
        }
        StartError::Admin(_)
        | StartError::Config(ConfigError::Read { .. })
        | StartError::Dns(_)
        | StartError::Identity(_)
        | StartError::Key(_)
        | StartError::Log(_)
        | StartError::Metrics(_)
        | StartError::NotPublished
        | StartError::Policy(_)
        | StartError::Proxy(_)
        | StartError::Resolver(_)
        | StartError::Steering(_)
        | StartError::Cookies(_)
        | StartError::Token(_)
        | StartError::Trust(_)
        | StartError::Watch(_) => {}
    }
    report::complain_with_causes(error);
}
