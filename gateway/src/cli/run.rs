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

use crate::{
    app::{App, Outside, StartError, Wish},
    config::ConfigError,
    handover::Inherited,
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
SIGHUP reloads the policy. SIGTERM drains, removes the steering and ends; a second one
ends at once. SIGUSR2 starts this program's file again and hands over to it: the new
process serves, this one lets its sessions end.

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
    /// Take over from a running gateway. It starts its successor so, at SIGUSR2.
    #[arg(long, hide = true)]
    upgrade: bool,
    /// What to log: a level, or a list such as `info,gateway::proxy=debug`.
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log: String,
    /// How to log.
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
}

pub(super) fn run(command: RunCommand) -> ExitCode {
    let RunCommand { config, allow_rollback, upgrade, log, log_format } = command;
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
        let inherited = if upgrade { Inherited::receive() } else { Ok(Inherited::default()) };
        let started = match inherited {
            Ok(inherited) => App::start(&config, allow_rollback, inherited).await,
            Err(error) => Err(error.into()),
        };
        let app = match started {
            Ok(app) => app,
            Err(error) => {
                explain(&error);
                return ExitCode::from(2);
            }
        };
        match serve(app, upgrade).await {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(2),
            Err(error) => {
                report::complain(&format!("cannot take signals: {error}"));
                ExitCode::from(2)
            }
        }
    })
}

async fn serve(app: App, upgrade: bool) -> io::Result<bool> {
    let signals = Signals::take()?;
    {
        let mut out = io::stdout().lock();
        // Whoever started us may not care to read; that is no reason to stop.
        let _ = writeln!(out, "{}\nREADY", app.listening());
        let _ = out.flush();
    }
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    if upgrade {
        Inherited::tell_predecessor();
    }
    tokio::select! {
        sound = app.run(signals) => Ok(sound),
        () = feed_watchdog() => Ok(false),
    }
}

/// The signals of an operator, and the word to systemd.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    upgrade: Signal,
}

impl Signals {
    fn take() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            upgrade: signal(SignalKind::user_defined2())?,
        })
    }
}

impl Outside for Signals {
    async fn next(&mut self) -> Wish {
        tokio::select! {
            Some(()) = self.hangup.recv() => Wish::Reload,
            Some(()) = self.upgrade.recv() => Wish::Upgrade,
            Some(()) = self.terminate.recv() => stopping(),
            Some(()) = self.interrupt.recv() => stopping(),
            else => std::future::pending().await,
        }
    }

    fn replaced(&mut self, pid: u32) {
        let _ = sd_notify::notify(&[NotifyState::MainPid(pid)]);
    }
}

fn stopping() -> Wish {
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    Wish::Stop
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
        | StartError::Inherit(_)
        | StartError::Journal(_)
        | StartError::Key(_)
        | StartError::Keeper(_)
        | StartError::Log(_)
        | StartError::Metrics(_)
        | StartError::NotPublished
        | StartError::PassOn(_)
        | StartError::Policy(_)
        | StartError::Proxy(_)
        | StartError::Radius(_)
        | StartError::Secret(_)
        | StartError::Source(_)
        | StartError::Resolver(_)
        | StartError::Steering(_)
        | StartError::Cookies(_)
        | StartError::Token(_)
        | StartError::Trust(_)
        | StartError::Watch(_)
        | StartError::WebhookKey(_)
        | StartError::WebhookTarget(_) => {}
    }
    report::complain_with_causes(error);
}
