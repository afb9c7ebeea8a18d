//! Reload: read, compile, publish; or keep the last good policy and say why.

mod watch;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use policy::{Compiled, Diagnostic, Environment, Policy, Severity, Snapshot, Source};
use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::{
    clock,
    court::Court,
    log::{Audit, Event},
    proxy::Sessions,
    steering::{Steering, SteeringError},
};

pub(crate) use watch::{Watch, WatchError};

/// Brings policies into force, one at a time.
pub(crate) struct Reloader {
    path: PathBuf,
    environment: Environment,
    allow_rollback: bool,
    court: Arc<Court>,
    sessions: Option<Arc<Sessions>>,
    audit: Arc<Audit>,
    metrics: Metrics,
    steering: OnceLock<Arc<Steering>>,
    turn: tokio::sync::Mutex<()>,
}

/// What asks for a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// A call of the admin API.
    Admin,
    /// The file changed.
    File,
    /// SIGHUP.
    Signal,
    /// The program starts.
    Start,
}

/// A reload that did what it should.
#[derive(Clone, Debug)]
pub(crate) enum Reloaded {
    /// The policy came into force.
    Published {
        /// It, in force.
        snapshot: Arc<Snapshot>,
        /// Findings that did not stop it.
        warnings: Vec<Diagnostic>,
        /// Live sessions that it denies, and that were closed.
        closed: usize,
    },
    /// The policy could come into force; nothing was changed.
    Rehearsed {
        /// Its serial.
        serial: u64,
        /// Findings that would not stop it.
        warnings: Vec<Diagnostic>,
        /// Live sessions that it would close.
        would_close: usize,
    },
    /// The file holds what is in force already.
    Unchanged {
        /// What is in force.
        snapshot: Arc<Snapshot>,
    },
}

/// Why the last good policy stays.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReloadError {
    #[error("cannot read the policy {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the policy {} has {length} octets; at most {DOCUMENT_MAX}", path.display())]
    TooLarge { path: PathBuf, length: u64 },
    #[error("the policy {} has {} errors", path.display(), errors(diagnostics))]
    Invalid { path: PathBuf, text: String, diagnostics: Vec<Diagnostic> },
    #[error("the policy is made for {}, this node stands in {}", policy.label(), node.label())]
    Environment { policy: Environment, node: Environment },
    #[error("the policy's serial {offered} is below {running}, which is in force; --allow-rollback lets it in")]
    Rollback { running: u64, offered: u64 },
    #[error("the kernel cannot be told which addresses are open")]
    Steering(#[source] SteeringError),
}

#[derive(Debug)]
struct Metrics {
    info: IntGaugeVec,
    reloads: IntCounterVec,
    succeeded: IntGauge,
    published: IntGauge,
}

impl Reloader {
    /// A reloader of the policy at `path`.
    pub(crate) fn new(
        path: PathBuf,
        environment: Environment,
        allow_rollback: bool,
        court: Arc<Court>,
        sessions: Option<Arc<Sessions>>,
        audit: Arc<Audit>,
        registry: &Registry,
    ) -> prometheus::Result<Self> {
        let metrics = Metrics::register(registry)?;
        Ok(Self {
            path,
            environment,
            allow_rollback,
            court,
            sessions,
            audit,
            metrics,
            steering: OnceLock::new(),
            turn: tokio::sync::Mutex::new(()),
        })
    }

    /// Lets `steering` follow every policy that comes into force from now on.
    pub(crate) fn steer(&self, steering: Arc<Steering>) {
        // Called once, at start.
        let _ = self.steering.set(steering);
    }

    /// The policy file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file and, unless `rehearse`, puts it in force.
    ///
    /// A change of the file alone is not taken as a wish to publish the same text again.
    ///
    /// # Errors
    ///
    /// The file cannot be read or compiled, or may not come into force on this node. The policy
    /// that was in force stays.
    pub(crate) async fn reload(
        &self,
        trigger: Trigger,
        rehearse: bool,
    ) -> Result<Reloaded, ReloadError> {
        let _turn = self.turn.lock().await;
        let result = self.attempt(trigger, rehearse).await;
        if rehearse {
            return result;
        }
        match &result {
            Ok(reloaded) => self.succeeded(trigger, reloaded),
            Err(error) => self.failed(trigger, error),
        }
        result
    }

    async fn attempt(&self, trigger: Trigger, rehearse: bool) -> Result<Reloaded, ReloadError> {
        let Compiled { policy, warnings } = compile_aside(&self.path).await?;
        fits(&policy, self.environment)?;
        let running = self.court.store().current();
        if let Some(running) = &running {
            let (running, offered) = (running.policy().serial(), policy.serial());
            if offered < running && !self.allow_rollback {
                return Err(ReloadError::Rollback { running, offered });
            }
        }
        let sessions = self.sessions.as_deref();
        if rehearse {
            let serial = policy.serial();
            let generation = running.map_or(1, |running| running.generation() + 1);
            let candidate = Snapshot::new(policy, generation);
            let would_close = sessions.map_or(0, |live| live.denied_under(&candidate, &*self.court));
            return Ok(Reloaded::Rehearsed { serial, warnings, would_close });
        }
        match running {
            Some(snapshot)
                if trigger == Trigger::File && snapshot.policy().sha256() == policy.sha256() =>
            {
                Ok(Reloaded::Unchanged { snapshot })
            }
            Some(_) | None => {
                // The kernel first: if it cannot be told what is no longer open, nothing changes.
                let policy = self.tell_kernel(policy).await?;
                let snapshot = self.court.store().publish(policy);
                let closed = sessions.map_or(0, |live| live.rejudge(&snapshot, &*self.court));
                Ok(Reloaded::Published { snapshot, warnings, closed })
            }
        }
    }

    async fn tell_kernel(&self, policy: Policy) -> Result<Policy, ReloadError> {
        let Some(steering) = self.steering.get().map(Arc::clone) else { return Ok(policy) };
        let told = tokio::task::spawn_blocking(move || {
            steering.follow(&policy).map(|()| policy).map_err(ReloadError::Steering)
        });
        told.await.unwrap_or_else(|error| {
            let path = self.path.clone();
            Err(ReloadError::Read { path, source: io::Error::other(error) })
        })
    }

    fn succeeded(&self, trigger: Trigger, reloaded: &Reloaded) {
        self.metrics.succeeded.set(1);
        let Reloaded::Published { snapshot, warnings, closed } = reloaded else {
            self.metrics.reloads.with_label_values(&["unchanged"]).inc();
            return;
        };
        self.metrics.reloads.with_label_values(&["published"]).inc();
        let policy = snapshot.policy();
        let (serial, sha256) = (policy.serial(), policy.sha256().to_string());
        self.metrics.info.reset();
        self.metrics
            .info
            .with_label_values(&[policy.name(), &serial.to_string(), &sha256])
            .set(1);
        self.metrics.published.set(clock::now().as_second());
        let generation = snapshot.generation();
        tracing::info!(
            name = policy.name(), serial, generation, warnings = warnings.len(), closed,
            trigger = trigger.label(), "policy published"
        );
        let name = policy.name();
        let trigger = trigger.label();
        let event = Event::PolicyPublished { name, serial, generation, sha256, trigger };
        self.audit.write(&event, clock::now());
    }

    fn failed(&self, trigger: Trigger, error: &ReloadError) {
        self.metrics.succeeded.set(0);
        self.metrics.reloads.with_label_values(&[error.label()]).inc();
        let cause = std::error::Error::source(error).map(ToString::to_string);
        tracing::warn!(
            %error, cause, trigger = trigger.label(), "policy refused; the last good one stays"
        );
        if let ReloadError::Invalid { diagnostics, text, .. } = error {
            for Diagnostic { code, file, span, message, .. } in diagnostics.iter().take(LOGGED) {
                let line = text.get(..span.start).map_or(1, |before| before.matches('\n').count() + 1);
                tracing::warn!(code, %file, line, message, "finding");
            }
        }
        let event = Event::PolicyRefused { result: error.label(), trigger: trigger.label() };
        self.audit.write(&event, clock::now());
    }
}

/// Whether the policy at `path` could come into force on a node of `environment`.
///
/// # Errors
///
/// Why it could not.
pub(crate) async fn check(path: &Path, environment: Environment) -> Result<(), ReloadError> {
    let compiled = compile_aside(path).await?;
    fits(&compiled.policy, environment)
}

/// Large policies take a while, and the runtime's threads have traffic to carry.
async fn compile_aside(path: &Path) -> Result<Compiled, ReloadError> {
    let owned = path.to_owned();
    match tokio::task::spawn_blocking(move || read_and_compile(&owned)).await {
        Ok(compiled) => compiled,
        Err(error) => {
            Err(ReloadError::Read { path: path.to_owned(), source: io::Error::other(error) })
        }
    }
}

fn fits(policy: &Policy, node: Environment) -> Result<(), ReloadError> {
    let policy = policy.environment();
    if policy == node { Ok(()) } else { Err(ReloadError::Environment { policy, node }) }
}

fn read_and_compile(path: &Path) -> Result<Compiled, ReloadError> {
    let read = |source| ReloadError::Read { path: path.to_owned(), source };
    let length = std::fs::metadata(path).map_err(read)?.len();
    if length > DOCUMENT_MAX {
        return Err(ReloadError::TooLarge { path: path.to_owned(), length });
    }
    let text = std::fs::read_to_string(path).map_err(read)?;
    let name = path.display().to_string();
    policy::compile(&Source { name: &name, text: &text }, clock::today()).map_err(|diagnostics| {
        ReloadError::Invalid { path: path.to_owned(), text, diagnostics }
    })
}

fn errors(diagnostics: &[Diagnostic]) -> usize {
    diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count()
}

impl ReloadError {
    /// The failure's name in metrics and in the audit log.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Read { .. } => "unreadable",
            Self::TooLarge { .. } => "too-large",
            Self::Invalid { .. } => "invalid",
            Self::Environment { .. } => "wrong-environment",
            Self::Rollback { .. } => "rollback",
            Self::Steering(_) => "steering",
        }
    }
}

impl Trigger {
    fn label(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::File => "file",
            Self::Signal => "signal",
            Self::Start => "start",
        }
    }
}

impl Metrics {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        let info = IntGaugeVec::new(
            Opts::new(INFO, "The policy in force; always 1."),
            &["name", "serial", "sha256"],
        )?;
        let reloads = IntCounterVec::new(
            Opts::new(RELOADS, "Reloads by result; every result but published and unchanged keeps the last good policy."),
            &["result"],
        )?;
        for result in RESULTS {
            let _ = reloads.with_label_values(&[result]);
        }
        let succeeded = IntGauge::new(SUCCEEDED, "Whether the last reload succeeded.")?;
        let published =
            IntGauge::new(PUBLISHED, "When the policy in force was published, in seconds since 1970.")?;
        registry.register(Box::new(info.clone()))?;
        registry.register(Box::new(reloads.clone()))?;
        registry.register(Box::new(succeeded.clone()))?;
        registry.register(Box::new(published.clone()))?;
        Ok(Self { info, reloads, succeeded, published })
    }
}

/// Octets of a policy file; 100,000 host entries take about a tenth of it.
const DOCUMENT_MAX: u64 = 64 * 1024 * 1024;
/// Findings that go to the log; the admin API and `postern check` give all.
const LOGGED: usize = 20;
const RESULTS: [&str; 8] = [
    "published", "unchanged", "unreadable", "too-large", "invalid", "wrong-environment", "rollback", "steering",
];

/// The policy in force.
const INFO: &str = "postern_policy_info";
/// Reloads by result.
const RELOADS: &str = "postern_policy_reloads_total";
/// Whether the last reload succeeded.
const SUCCEEDED: &str = "postern_policy_reload_succeeded";
/// When the policy in force was published.
const PUBLISHED: &str = "postern_policy_published_timestamp_seconds";
