//! Reload: read, compile, publish; or keep the last good policy and say why.

mod bundle;
mod intake;
mod source;
mod times;
mod watch;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use policy::{Compiled, Diagnostic, Environment, Parts, Policy, Severity, Snapshot};
use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::{
    clock,
    court::Court,
    emergency::Openings,
    log::{Audit, Event},
    proxy::{SessionChange, Sessions},
    report,
    signature::InvalidSignature,
    steering::{Steering, SteeringError},
};

use bundle::Trust;
use intake::Candidate;

pub(crate) use bundle::Bundle;
pub(crate) use intake::Intake;
pub(crate) use source::{Metrics as SourceMetrics, PolicySource};
pub(crate) use watch::{Watch, WatchError};

/// Brings policies into force, one at a time.
pub(crate) struct Reloader {
    intake: Intake,
    allow_rollback: bool,
    court: Arc<Court>,
    sessions: Option<Arc<Sessions>>,
    audit: Arc<Audit>,
    metrics: Metrics,
    files: tokio::sync::watch::Sender<Vec<PathBuf>>,
    steering: OnceLock<Arc<Steering>>,
    openings: Openings,
    /// The generation in force.
    published: tokio::sync::watch::Sender<u64>,
    /// What is in force is the kept copy, because the file was refused.
    restored: AtomicBool,
    turn: tokio::sync::Mutex<()>,
}

/// What asks for a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// A call of the admin API.
    Admin,
    /// The file changed.
    File,
    /// The file was refused at start, and a copy of the last good policy is kept.
    Kept,
    /// SIGHUP.
    Signal,
    /// The policy source has another one.
    Source,
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
        /// It, as it would be in force.
        candidate: Arc<Snapshot>,
        /// What is in force; `None` before the first policy.
        running: Option<Arc<Snapshot>>,
        /// Findings that would not stop it.
        warnings: Vec<Diagnostic>,
        /// Live sessions that it would judge otherwise; those it would close first.
        sessions: Vec<SessionChange>,
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
    Invalid { path: PathBuf, parts: Box<Parts<'static>>, diagnostics: Vec<Diagnostic> },
    #[error("the policy is made for {}, this node stands in {}", policy.label(), node.label())]
    Environment { policy: Environment, node: Environment },
    #[error(
        "the class `{class}` asks for ICCIDs, and nothing here maps them: [state] identities = \"FILE\", or \"api\""
    )]
    NoMapping { class: String },
    #[error(
        "the policy's serial {offered} is below {running}, which is in force; --allow-rollback lets it in"
    )]
    Rollback { running: u64, offered: u64 },
    #[error("the policy {} is not signed, and this node demands it", path.display())]
    Unsigned { path: PathBuf },
    #[error("the signature of the policy {} does not hold", path.display())]
    BadSignature { path: PathBuf, source: InvalidSignature },
    #[error("the kernel cannot be told which addresses are open")]
    Steering(#[source] SteeringError),
}

#[derive(Debug)]
struct Metrics {
    info: IntGaugeVec,
    reloads: IntCounterVec,
    succeeded: IntGauge,
    restored: IntGauge,
    published: IntGauge,
}

impl Reloader {
    /// A reloader of what comes in at `intake`.
    pub(crate) fn new(
        intake: Intake,
        allow_rollback: bool,
        court: Arc<Court>,
        sessions: Option<Arc<Sessions>>,
        audit: Arc<Audit>,
        registry: &Registry,
    ) -> prometheus::Result<Self> {
        let metrics = Metrics::register(registry)?;
        let openings = Openings::load(intake.last_good(), registry, clock::now())?;
        Ok(Self {
            intake,
            allow_rollback,
            court,
            sessions,
            audit,
            metrics,
            files: tokio::sync::watch::Sender::default(),
            steering: OnceLock::new(),
            openings,
            published: tokio::sync::watch::Sender::default(),
            restored: AtomicBool::new(false),
            turn: tokio::sync::Mutex::new(()),
        })
    }

    /// Lets `steering` follow every policy that comes into force from now on.
    pub(crate) fn steer(&self, steering: Arc<Steering>) {
        // Called once, at start.
        let _ = self.steering.set(steering);
    }

    /// The files that were read last, as soon as they are others than before.
    pub(crate) fn files(&self) -> tokio::sync::watch::Receiver<Vec<PathBuf>> {
        self.files.subscribe()
    }

    /// The policy file.
    pub(crate) fn path(&self) -> &Path {
        self.intake.path()
    }

    /// Whether the kept copy is in force, because the file was refused at start.
    pub(crate) fn restored(&self) -> bool {
        self.restored.load(Ordering::Acquire)
    }

    /// Reads the file and, unless `rehearse`, puts it in force.
    ///
    /// A change of the file alone is not taken as a wish to publish the same text again. At start,
    /// the kept copy of the last good policy comes into force if the file may not.
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
        match result {
            Ok(reloaded) => {
                self.succeeded(trigger, &reloaded);
                Ok(reloaded)
            }
            Err(error) => {
                self.failed(trigger, &error);
                if trigger == Trigger::Start {
                    self.fall_back().await.ok_or(error)
                } else {
                    Err(error)
                }
            }
        }
    }

    /// Puts a policy in force that came from elsewhere, as if it lay in the place of the policy
    /// file; what is in force already is let be.
    ///
    /// # Errors
    ///
    /// As [`Reloader::reload`].
    pub(crate) async fn take(&self, bundle: Bundle) -> Result<Reloaded, ReloadError> {
        let _turn = self.turn.lock().await;
        let result = async {
            let candidate = self.intake.weigh(bundle).await?;
            self.admit(candidate, true).await
        };
        let result = result.await;
        match &result {
            Ok(reloaded) => self.succeeded(Trigger::Source, reloaded),
            Err(error) => self.failed(Trigger::Source, error),
        }
        result
    }

    /// Says what `candidate` would change, as if it lay in the place of the policy file.
    ///
    /// # Errors
    ///
    /// It may not come into force on this node.
    pub(crate) async fn rehearse(&self, candidate: Bundle) -> Result<Reloaded, ReloadError> {
        let _turn = self.turn.lock().await;
        let candidate = self.intake.weigh(candidate).await?;
        let running = self.check_serial(&candidate.compiled.policy).await?;
        Ok(self.rehearsed(candidate.compiled, running))
    }

    async fn attempt(&self, trigger: Trigger, rehearse: bool) -> Result<Reloaded, ReloadError> {
        let read = self.intake.read().await;
        self.note_files(&read);
        let candidate = read?;
        if rehearse {
            let running = self.check_serial(&candidate.compiled.policy).await?;
            return Ok(self.rehearsed(candidate.compiled, running));
        }
        self.admit(candidate, trigger == Trigger::File).await
    }

    /// Puts `candidate` in force; `if_new`: unless it is.
    async fn admit(&self, candidate: Candidate, if_new: bool) -> Result<Reloaded, ReloadError> {
        let Candidate { compiled, bundle, trust } = candidate;
        let running = self.check_serial(&compiled.policy).await?;
        let Compiled { policy, warnings } = compiled;
        match running {
            Some(snapshot)
                if if_new && snapshot.policy().sha256() == policy.sha256() && !self.restored() =>
            {
                Ok(Reloaded::Unchanged { snapshot })
            }
            Some(_) | None => {
                let (snapshot, closed) = self.put_in_force(policy).await?;
                self.kept(bundle, trust).await;
                Ok(Reloaded::Published { snapshot, warnings, closed })
            }
        }
    }

    /// Tells who watches which files the policy is made of, sound or not.
    fn note_files(&self, read: &Result<Candidate, ReloadError>) {
        let files: Vec<PathBuf> = if let Ok(candidate) = read {
            candidate.bundle.parts.iter().map(|part| PathBuf::from(&part.name)).collect()
        } else if let Err(ReloadError::Invalid { parts, .. }) = read {
            parts.names().map(PathBuf::from).collect()
        } else {
            // Which files it would name is not known: those of before are watched on.
            return;
        };
        self.files.send_if_modified(|known| {
            let modified = *known != files;
            *known = files;
            modified
        });
    }

    /// What is in force, unless the serial of `policy` is below it.
    async fn check_serial(&self, policy: &Policy) -> Result<Option<Arc<Snapshot>>, ReloadError> {
        let running = self.court.store().current();
        if !self.allow_rollback {
            let (floor, offered) = (self.floor(running.as_deref()).await, policy.serial());
            if let Some(running) = floor.filter(|floor| offered < *floor) {
                return Err(ReloadError::Rollback { running, offered });
            }
        }
        Ok(running)
    }

    fn rehearsed(&self, compiled: Compiled, running: Option<Arc<Snapshot>>) -> Reloaded {
        let Compiled { mut policy, warnings } = compiled;
        self.openings.apply(&mut policy);
        let generation = running.as_ref().map_or(1, |running| running.generation() + 1);
        let candidate = Arc::new(Snapshot::new(policy, generation));
        let sessions = match (self.sessions.as_deref(), &running) {
            (Some(live), Some(running)) => live.changed_under(running, &candidate, &*self.court),
            (Some(_) | None, _) => Vec::new(),
        };
        Reloaded::Rehearsed { candidate, running, warnings, sessions }
    }

    async fn put_in_force(
        &self,
        mut policy: Policy,
    ) -> Result<(Arc<Snapshot>, usize), ReloadError> {
        self.openings.apply(&mut policy);
        // The kernel first: if it cannot be told what is no longer open, nothing changes.
        let snapshot = self.court.store().prepare(policy);
        self.tell_kernel(Arc::clone(&snapshot)).await?;
        self.court.store().publish(Arc::clone(&snapshot));
        let sessions = self.sessions.as_deref();
        let closed = sessions.map_or(0, |live| live.rejudge(&snapshot, &*self.court));
        self.openings.show(snapshot.policy());
        self.published.send_replace(snapshot.generation());
        Ok((snapshot, closed))
    }

    async fn kept(&self, bundle: Bundle, trust: Trust) {
        match trust {
            Trust::NotAsked => {}
            Trust::Signed(key) => tracing::info!(%key, "policy signature holds"),
        }
        self.restored.store(false, Ordering::Release);
        self.intake.keep(bundle).await;
    }

    /// The serial below which no policy is let in: of the one in force, or of the kept copy.
    async fn floor(&self, running: Option<&Snapshot>) -> Option<u64> {
        match running {
            Some(running) => Some(running.policy().serial()),
            None => {
                let kept = self.intake.restore().await.ok().flatten();
                kept.map(|kept| kept.compiled.policy.serial())
            }
        }
    }

    /// Puts the kept copy in force.
    async fn fall_back(&self) -> Option<Reloaded> {
        let Candidate { compiled: Compiled { policy, warnings }, .. } =
            match self.intake.restore().await {
                Ok(kept) => kept?,
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(%error, cause, "the kept copy cannot be used either");
                    return None;
                }
            };
        let (snapshot, closed) = match self.put_in_force(policy).await {
            Ok(done) => done,
            Err(error) => {
                tracing::warn!(%error, "the kept copy cannot be put in force");
                return None;
            }
        };
        self.restored.store(true, Ordering::Release);
        self.note(Trigger::Kept, &snapshot, warnings.len(), closed);
        tracing::warn!(
            serial = snapshot.policy().serial(),
            "the policy file was refused: the kept copy of the last good one is in force"
        );
        Some(Reloaded::Published { snapshot, warnings, closed })
    }

    async fn tell_kernel(&self, snapshot: Arc<Snapshot>) -> Result<(), ReloadError> {
        let Some(steering) = self.steering.get().map(Arc::clone) else { return Ok(()) };
        let told = tokio::task::spawn_blocking(move || {
            steering.follow(snapshot).map_err(ReloadError::Steering)
        });
        told.await.unwrap_or_else(|error| {
            let path = self.path().to_owned();
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
        self.note(trigger, snapshot, warnings.len(), *closed);
    }

    /// Tells the metrics and the logs what is in force.
    fn note(&self, trigger: Trigger, snapshot: &Snapshot, warnings: usize, closed: usize) {
        let policy = snapshot.policy();
        let (serial, sha256) = (policy.serial(), policy.sha256().to_string());
        self.metrics.info.reset();
        self.metrics.info.with_label_values(&[policy.name(), &serial.to_string(), &sha256]).set(1);
        self.metrics.restored.set(i64::from(self.restored()));
        self.metrics.published.set(clock::now().as_second());
        let generation = snapshot.generation();
        tracing::info!(
            name = policy.name(),
            serial,
            generation,
            warnings,
            closed,
            trigger = trigger.label(),
            "policy published"
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
        if let ReloadError::Invalid { diagnostics, parts, .. } = error {
            for Diagnostic { code, file, span, message, .. } in diagnostics.iter().take(LOGGED) {
                let (line, _) = report::place(parts.text(file), span.start);
                tracing::warn!(code, %file, line, message, "finding");
            }
        }
        let event = Event::PolicyRefused { result: error.label(), trigger: trigger.label() };
        self.audit.write(&event, clock::now());
    }
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
            Self::NoMapping { .. } => "no-mapping",
            Self::Rollback { .. } => "rollback",
            Self::Unsigned { .. } => "unsigned",
            Self::BadSignature { .. } => "bad-signature",
            Self::Steering(_) => "steering",
        }
    }
}

impl Trigger {
    fn label(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::File => "file",
            Self::Kept => "kept",
            Self::Signal => "signal",
            Self::Source => "source",
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
            Opts::new(
                RELOADS,
                "Reloads by result; every result but published and unchanged keeps the last good policy.",
            ),
            &["result"],
        )?;
        for result in RESULTS {
            let _ = reloads.with_label_values(&[result]);
        }
        let succeeded = IntGauge::new(SUCCEEDED, "Whether the last reload succeeded.")?;
        let restored = IntGauge::new(
            RESTORED,
            "Whether the kept copy of the last good policy is in force, because the file was refused at start.",
        )?;
        let published = IntGauge::new(
            PUBLISHED,
            "When the policy in force was published, in seconds since 1970.",
        )?;
        registry.register(Box::new(info.clone()))?;
        registry.register(Box::new(reloads.clone()))?;
        registry.register(Box::new(succeeded.clone()))?;
        registry.register(Box::new(restored.clone()))?;
        registry.register(Box::new(published.clone()))?;
        Ok(Self { info, reloads, succeeded, restored, published })
    }
}

/// Octets of a policy file; 100,000 host entries take about a tenth of it.
const DOCUMENT_MAX: u64 = 64 * 1024 * 1024;
/// Findings that go to the log; the admin API and `postern check` give all.
const LOGGED: usize = 20;
const RESULTS: [&str; 10] = [
    "published",
    "unchanged",
    "unreadable",
    "too-large",
    "unsigned",
    "bad-signature",
    "invalid",
    "wrong-environment",
    "rollback",
    "steering",
];

/// The policy in force.
const INFO: &str = "postern_policy_info";
/// Reloads by result.
const RELOADS: &str = "postern_policy_reloads_total";
/// Whether the last reload succeeded.
const SUCCEEDED: &str = "postern_policy_reload_succeeded";
/// Whether the kept copy is in force.
const RESTORED: &str = "postern_policy_restored";
/// When the policy in force was published.
const PUBLISHED: &str = "postern_policy_published_timestamp_seconds";
