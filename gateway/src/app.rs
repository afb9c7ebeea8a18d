//! The only place where the parts meet.
//!
//! Everything that can fail at start fails here, before the first subscriber is served; what was
//! bound until then is let go.

use std::{fmt::Write as _, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use policy::{Diagnostic, Snapshot};
use prometheus::Registry;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    admin::{Admin, AdminError, Desk, Readiness, Token, TokenError},
    clock,
    config::{Config, ConfigError, EncryptedConfig, ProxyConfig, SteeringMode},
    court::Court,
    log::{Audit, DecisionLog, Event, LogError, OpenError, Pseudonyms},
    proxy::{self, Proxy, ProxySettings},
    reload::{Intake, ReloadError, Reloaded, Reloader, Trigger, Watch, WatchError},
    signature::KeyError,
    sims::{Bounds, HOME, Sims},
    steering::{Ports, Steering, SteeringError},
};

/// The gateway, bound and steered to, not yet serving.
pub(crate) struct App {
    node: String,
    dns: dns::Server,
    proxy: Option<(Proxy, Duration)>,
    admin: Admin,
    desk: Arc<Desk>,
    reloader: Arc<Reloader>,
    watch: Option<Watch>,
    audit: Arc<Audit>,
    steering: Option<Arc<Steering>>,
    addresses: Addresses,
}

/// Every bound address.
#[derive(Clone, Debug)]
struct Addresses {
    ports: Ports,
    admin: SocketAddr,
}

/// Why the gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the secrets of DNS cookies cannot be used")]
    Cookies(#[from] dns::InvalidCookieSecrets),
    #[error(transparent)]
    Dns(#[from] dns::BindError),
    #[error("the resolver's certificate cannot be used")]
    Identity(#[from] dns::InvalidIdentity),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("a metric cannot be registered")]
    Metrics(#[from] prometheus::Error),
    #[error("the policy could not be put in force")]
    NotPublished,
    #[error(transparent)]
    Policy(#[from] ReloadError),
    #[error(transparent)]
    Proxy(#[from] proxy::BindError),
    #[error(transparent)]
    Resolver(#[from] dns::InvalidUpstream),
    #[error(transparent)]
    Steering(#[from] SteeringError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("the upstreams' certificate authorities cannot be used")]
    Trust(#[from] dns::InvalidTrust),
    #[error(transparent)]
    Watch(#[from] WatchError),
}

impl App {
    /// Reads the files, binds the listeners, loads the steering.
    ///
    /// # Errors
    ///
    /// Says what is in the way. Nothing stays bound, and no steering is left behind.
    pub(crate) async fn start(path: &Path, allow_rollback: bool) -> Result<Self, StartError> {
        let (config, warnings) = Config::load(path)?;
        warn(&warnings);
        let registry = Registry::new();
        register_process(&registry)?;
        let token = config.admin.token_file.as_deref().map(Token::load).transpose()?;
        let audit = Arc::new(Audit::open(config.log.audit.as_deref())?);
        let pseudonyms = Pseudonyms::new(config.log.pseudonym_key_file.as_deref())
            .map_err(LogError::Pseudonym)?;
        let log = decision_log(&config, pseudonyms.clone(), &registry)?;
        let sims = Arc::new(Sims::new(Bounds::default(), HOME));
        let court = Arc::new(Court::new(&registry, log, sims)?);
        let judge: Arc<dyn dns::Judge> = Arc::clone(&court) as _;

        let dns_metrics = dns::Metrics::register(&registry)?;
        let trust = match &config.dns.upstream_authorities {
            Some(path) => dns::Trust::load(path)?,
            None => dns::Trust::web()?,
        };
        let upstreams = &config.dns.upstreams;
        let resolver = Arc::new(dns::Resolver::new(upstreams, &trust, Arc::clone(&dns_metrics))?);
        let transparent = config.steering.mode == SteeringMode::Tproxy;
        // The policy is checked before anything is bound: a wrong one leaves no trace.
        let intake = Intake::new(&config)?;
        intake.check().await?;
        let dns_settings = dns::Settings {
            listen: config.dns.listen.clone(),
            interfaces: config.dns.interfaces.clone(),
            tls: encrypted(config.dns.tls.as_ref())?,
            https: encrypted(config.dns.https.as_ref())?,
            transparent,
            limits: config.dns.limits,
        };
        let (asked, resolving) = (Arc::clone(&judge), Arc::clone(&resolver));
        let dns = dns::Server::bind(&dns_settings, asked, resolving, dns_metrics).await?;
        if let Some(path) = &config.dns.cookie_secrets {
            dns.share_cookies(dns::CookieSecrets::load(path)?);
        }
        let proxy = match &config.proxy {
            None => None,
            Some(wanted) => {
                let settings = settings(wanted, config.steering.mode);
                let metrics = proxy::Metrics::register(&registry)?;
                Some((Proxy::bind(&settings, judge, resolver, metrics)?, wanted.drain_time))
            }
        };
        let sessions = proxy.as_ref().map(|(proxy, _)| proxy.sessions());
        let reloader = Arc::new(Reloader::new(
            intake,
            allow_rollback,
            Arc::clone(&court),
            sessions.clone(),
            Arc::clone(&audit),
            &registry,
        )?);
        // Before the file is read: what changes after that is not missed.
        let watch = Watch::begin(Arc::clone(&reloader))
            .inspect_err(|error| tracing::warn!(%error, "reload by signal or admin API only"))
            .ok();
        let Some(snapshot) = published(reloader.reload(Trigger::Start, false).await?) else {
            return Err(StartError::NotPublished);
        };
        let desk = Arc::new(Desk {
            node: config.node.clone(),
            court,
            sessions,
            pseudonyms,
            reloader: Arc::clone(&reloader),
            registry,
            token,
            audit: Arc::clone(&audit),
            readiness: Readiness::default(),
        });
        let admin = Admin::bind(&config.admin, Arc::clone(&desk))?;
        let ports = Ports {
            dns: dns.addresses(),
            dot: dns.tls_addresses(),
            doh: dns.https_addresses(),
            http: proxy.as_ref().map(|(proxy, _)| proxy.http_addresses()).unwrap_or_default(),
            https: proxy.as_ref().map(|(proxy, _)| proxy.https_addresses()).unwrap_or_default(),
        };
        let steering = config
            .steering
            .install
            .then(|| Steering::install(&config.steering, &ports, snapshot.policy()))
            .transpose()?
            .map(Arc::new);
        if let Some(steering) = &steering {
            reloader.steer(Arc::clone(steering));
        }
        let addresses = Addresses { ports, admin: admin.address() };
        let node = config.node;
        Ok(Self { node, dns, proxy, admin, desk, reloader, watch, audit, steering, addresses })
    }

    /// One line with every bound address.
    pub(crate) fn listening(&self) -> String {
        let Addresses { ports: Ports { dns, dot, doh, http, https }, admin } = &self.addresses;
        let mut line = "listening".to_owned();
        for (service, addresses) in [
            ("dns", dns.as_slice()),
            ("dot", dot),
            ("doh", doh),
            ("http", http),
            ("https", https),
            ("admin", &[*admin]),
        ] {
            if !addresses.is_empty() {
                let list: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
                // Writing to a string cannot fail.
                let _ = write!(line, " {service}={}", list.join(","));
            }
        }
        line
    }

    /// Serves until `stop`, then drains and takes the steering away. Reloads on `hangup`.
    ///
    /// Returns whether everything ended as it should. If a part broke, the steering stays.
    pub(crate) async fn run(self, stop: CancellationToken, mut hangup: impl Hangup) -> bool {
        let Self { node, dns, proxy, admin, desk, reloader, watch, audit, steering, .. } = self;
        let mut serving = JoinSet::new();
        if let Some(watch) = watch {
            serving.spawn(watch.run(stop.clone()));
        }
        serving.spawn(dns.run(stop.clone()));
        if let Some((proxy, drain_time)) = proxy {
            serving.spawn(proxy.run(stop.clone(), drain_time));
        }
        // The admin API answers until the last session has drained.
        let closing = CancellationToken::new();
        let mut answering = JoinSet::new();
        answering.spawn(admin.run(closing.clone()));
        desk.readiness.listening();
        audit.write(&Event::Started { node: &node }, clock::now());

        let mut sound = true;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = hangup.next() => drop(reloader.reload(Trigger::Signal, false).await),
                ended = serving.join_next() => {
                    // Asked to stop, every part ends; only before is that a fault.
                    if stop.is_cancelled() {
                        sound &= !matches!(ended, Some(Err(_)));
                        break;
                    }
                    tracing::error!(panicked = matches!(ended, Some(Err(_))), "a part ended by itself");
                    sound = false;
                    break;
                }
            }
        }
        desk.readiness.stopping();
        stop.cancel();
        while let Some(ended) = serving.join_next().await {
            sound &= ended.is_ok();
        }
        closing.cancel();
        while answering.join_next().await.is_some() {}
        match steering {
            // As after a killed process: what nobody serves is shut, not open.
            Some(_) if !sound => tracing::error!("the steering stays: everything is refused"),
            Some(steering) => {
                if let Err(error) = steering.remove() {
                    tracing::error!(%error, "steering not removed");
                    sound = false;
                }
            }
            None => {}
        }
        audit.write(&Event::Stopped { node: &node }, clock::now());
        sound
    }
}

/// Something that asks for a reload now and then.
pub(crate) trait Hangup {
    /// Waits for the next wish.
    fn next(&mut self) -> impl Future<Output = ()>;
}

fn published(reloaded: Reloaded) -> Option<Arc<Snapshot>> {
    match reloaded {
        Reloaded::Published { snapshot, warnings, .. } => {
            warn(&warnings);
            Some(snapshot)
        }
        Reloaded::Rehearsed { .. } | Reloaded::Unchanged { .. } => None,
    }
}

fn settings(wanted: &ProxyConfig, mode: SteeringMode) -> ProxySettings {
    ProxySettings {
        http: wanted.http.clone(),
        https: wanted.https.clone(),
        mode: match mode {
            SteeringMode::None => proxy::Steering::None,
            SteeringMode::Redirect => proxy::Steering::Redirect,
            SteeringMode::Tproxy => proxy::Steering::Tproxy,
        },
        limits: wanted.limits,
        mark: None,
    }
}

fn encrypted(
    wanted: Option<&EncryptedConfig>,
) -> Result<Option<dns::Encrypted>, dns::InvalidIdentity> {
    let load = |EncryptedConfig { listen, certificate, key }: &EncryptedConfig| {
        let identity = dns::Identity::load(certificate, key)?;
        Ok(dns::Encrypted { listen: listen.clone(), identity })
    };
    wanted.map(load).transpose()
}

fn decision_log(
    config: &Config,
    pseudonyms: Pseudonyms,
    registry: &Registry,
) -> Result<Option<DecisionLog>, StartError> {
    let Some(path) = &config.log.decisions else { return Ok(None) };
    match DecisionLog::open(path, &config.node, config.log.allow_sample, pseudonyms, registry) {
        Ok(log) => Ok(Some(log)),
        Err(OpenError::Log(error)) => Err(error.into()),
        Err(OpenError::Metrics(error)) => Err(error.into()),
    }
}

fn register_process(registry: &Registry) -> prometheus::Result<()> {
    let process = prometheus::process_collector::ProcessCollector::for_self();
    registry.register(Box::new(process))
}

fn warn(diagnostics: &[Diagnostic]) {
    for Diagnostic { code, file, message, .. } in diagnostics {
        tracing::warn!(code, %file, message, "finding");
    }
}
