//! The only place where the parts meet.
//!
//! Everything that can fail at start fails here, before the first subscriber is served; what was
//! bound until then is let go.

mod settings;

use std::{
    fmt::Write as _,
    io,
    net::SocketAddr,
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use policy::{Diagnostic, Snapshot};
use prometheus::Registry;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    admin::{Admin, AdminError, Desk, Readiness, RefusalCount, Token, TokenError},
    captive::CaptivePortal,
    client::ClientError,
    clock,
    config::{Config, ConfigError, GrantConfig, SteeringMode},
    court::Court,
    grants::{self, Grants, JournalError},
    handover::{InheritError, Inherited, Service, Sockets},
    lift::{self, House, Lift},
    log::{Audit, Event, LogError, Pseudonyms},
    proxy::{self, Ending, Proxy},
    radius,
    reload::{
        Intake, PolicySource, ReloadError, Reloaded, Reloader, SourceMetrics, Trigger, Watch,
        WatchError,
    },
    signature::KeyError,
    sims::{Feed, Keeper, KeeperError, KeeperMetrics, Sims, Transfer},
    steering::{Ports, Steering, SteeringError},
    webhook::{
        outbox::{Courier, Outbox, OutboxError},
        seal::SealError,
    },
};

/// The gateway, bound and steered to, not yet serving.
pub(crate) struct App {
    node: String,
    dns: dns::Server,
    proxy: Option<Proxy>,
    ending: Ending,
    admin: Admin,
    captive: Option<CaptivePortal>,
    desk: Arc<Desk>,
    reloader: Arc<Reloader>,
    watch: Option<Watch>,
    source: Option<PolicySource>,
    keeper: Keeper,
    transfer: Transfer,
    radius: Option<radius::Server>,
    audit: Arc<Audit>,
    steering: Option<Arc<Steering>>,
    sockets: Sockets,
    lift: Arc<Lift>,
    feed: Feed,
    courier: Option<Courier>,
    addresses: Addresses,
}

/// Every bound address.
#[derive(Clone, Debug)]
struct Addresses {
    ports: Ports,
    admin: SocketAddr,
    radius: Vec<SocketAddr>,
    coa: Vec<SocketAddr>,
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
    Inherit(#[from] InheritError),
    #[error(transparent)]
    Keeper(#[from] KeeperError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("a metric cannot be registered")]
    Metrics(#[from] prometheus::Error),
    #[error("the listening sockets cannot be kept for a successor")]
    PassOn(#[source] io::Error),
    #[error("the policy could not be put in force")]
    NotPublished,
    #[error(transparent)]
    Policy(#[from] ReloadError),
    #[error(transparent)]
    Proxy(#[from] proxy::BindError),
    #[error(transparent)]
    Radius(#[from] radius::BindError),
    #[error(transparent)]
    Secret(#[from] radius::SecretError),
    #[error(transparent)]
    Resolver(#[from] dns::InvalidUpstream),
    #[error(transparent)]
    Steering(#[from] SteeringError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("the upstreams' certificate authorities cannot be used")]
    Trust(#[from] dns::InvalidTrust),
    #[error("the policy source cannot be used")]
    Source(#[source] ClientError),
    #[error(transparent)]
    Watch(#[from] WatchError),
    #[error(transparent)]
    WebhookKey(#[from] SealError),
    #[error("nobody can be told of changes")]
    WebhookTarget(#[from] OutboxError),
}

impl App {
    /// Reads the files, binds the listeners or takes over those `inherited`, loads the steering.
    ///
    /// # Errors
    ///
    /// Says what is in the way. Nothing stays bound, and no steering is left behind.
    pub(crate) async fn start(
        path: &Path,
        allow_rollback: bool,
        mut inherited: Inherited,
    ) -> Result<Self, StartError> {
        let (config, warnings) = Config::load(path)?;
        warn(&warnings);
        let registry = Registry::new();
        register_process(&registry)?;
        let token = config.admin.token_file.as_deref().map(Token::load).transpose()?;
        let audit = Arc::new(Audit::open(config.log.audit.as_deref())?);
        let pseudonyms = Pseudonyms::new(config.log.pseudonym_key_file.as_deref())
            .map_err(LogError::Pseudonym)?;
        let log = settings::decision_log(&config, pseudonyms.clone(), &registry)?;
        let sims = Arc::new(Sims::new(config.state.bounds, &config.state.domain));
        let court = Arc::new(Court::new(&registry, log, Arc::clone(&sims))?);
        let judge: Arc<dyn dns::Judge> = Arc::clone(&court) as _;

        let dns_metrics = dns::Metrics::register(&registry)?;
        let trust = match &config.dns.upstream_authorities {
            Some(path) => dns::Trust::load(path)?,
            None => dns::Trust::web()?,
        };
        let upstreams = &config.dns.upstreams;
        let resolver = dns::Resolver::new(upstreams, &trust, Arc::clone(&dns_metrics))?;
        let resolver = resolver.behind(config.dns.dns64).within(&config.dns.limits);
        let resolver = Arc::new(resolver);
        let steered_port = (config.steering.mode != SteeringMode::None).then_some(DOT_PORT);
        let transparent = config.steering.mode == SteeringMode::Tproxy;
        // The policy is checked before anything is bound: a wrong one leaves no trace.
        let intake = Intake::new(&config)?;
        intake.check().await?;
        // Who was known before is known again before the first question.
        let metrics = KeeperMetrics::register(&registry)?;
        let given = inherited.take_state()?;
        let (keeper, transfer) =
            Keeper::open(&config.state, Arc::clone(&sims), metrics, &given).await?;
        drop(given);
        let radius = settings::listen_for_records(&config, sims, &registry, &mut inherited)?;
        let dns_settings = dns::Settings {
            listen: config.dns.listen.clone(),
            interfaces: config.dns.interfaces.clone(),
            tls: settings::encrypted(config.dns.tls.as_ref(), steered_port)?,
            https: settings::encrypted(config.dns.https.as_ref(), None)?,
            transparent,
            leads_to: config.steering.addresses.clone(),
            limits: config.dns.limits,
        };
        let (asked, resolving) = (Arc::clone(&judge), Arc::clone(&resolver));
        let dns = dns::Server::bind(
            &dns_settings,
            &mut inherited.take_dns(),
            asked,
            resolving,
            dns_metrics,
        )
        .await?;
        if let Some(path) = &config.dns.cookie_secrets {
            dns.share_cookies(dns::CookieSecrets::load(path)?);
        }
        let proxy = match &config.proxy {
            None => None,
            Some(wanted) => {
                let settings = settings::of_proxy(wanted, config.steering.mode);
                let metrics = proxy::Metrics::register(&registry)?;
                Some(Proxy::bind(&settings, judge, resolver, metrics, &mut inherited)?)
            }
        };
        let ending = settings::ending(config.proxy.as_ref());
        let sessions = proxy.as_ref().map(Proxy::sessions);
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
        let metrics = SourceMetrics::register(&registry)?;
        let source = config.policy_source.as_ref();
        let source = source
            .map(|source| PolicySource::new(source, Arc::clone(&reloader), metrics))
            .transpose()
            .map_err(StartError::Source)?;
        let Some(snapshot) = published(reloader.reload(Trigger::Start, false).await?) else {
            return Err(StartError::NotPublished);
        };
        let admin = Admin::bind(&config.admin, &mut inherited)?;
        let mut captive = |portal| CaptivePortal::bind(portal, Arc::clone(&court), &mut inherited);
        let captive = config.captive_portal.as_ref().map(&mut captive).transpose()?;
        let sockets = sockets(&admin, captive.as_ref(), &dns, proxy.as_ref(), radius.as_ref());
        let sockets = sockets.map_err(StartError::PassOn)?;
        let ports = Ports {
            dns: dns.addresses(),
            dot: dns.tls_addresses(),
            doh: dns.https_addresses(),
            http: proxy.as_ref().map(Proxy::http_addresses).unwrap_or_default(),
            https: proxy.as_ref().map(Proxy::https_addresses).unwrap_or_default(),
            quic: proxy.as_ref().map(Proxy::quic_addresses).unwrap_or_default(),
            explicit: proxy.as_ref().map(Proxy::explicit_addresses).unwrap_or_default(),
            captive: captive.as_ref().map(CaptivePortal::addresses).unwrap_or_default(),
        };
        let GrantConfig { limits, journal } = &config.grants;
        let grants =
            Grants::open(*limits, journal.as_deref(), grants::Metrics::register(&registry)?)?;
        if config.steering.install {
            // Before the table is replaced: a killed process wrote down less than the kernel counted.
            grants.account(&Steering::grants_used_before().into_iter().collect(), clock::now());
        }
        let grants = Arc::new(grants);
        let (outbox, courier) = Outbox::new(&config.webhook.to, &config.node, &registry)?.unzip();
        let hook = settings::hook(&config.webhook)?;
        let refusals = RefusalCount::register(&registry)?;
        let lift_metrics = lift::Metrics::register(&registry)?;
        // Before the kernel is told who is where: what changes after that is not missed.
        let feed = court.sims().watch();
        let steering = if config.steering.install {
            let house = House::new(Arc::clone(court.sims()), Arc::clone(&grants));
            Some(Arc::new(Steering::install(&config.steering, &ports, snapshot, Arc::new(house))?))
        } else {
            None
        };
        if let Some(steering) = &steering {
            reloader.steer(Arc::clone(steering));
        }
        let lift = Arc::new(Lift::new(
            Arc::clone(&court),
            Arc::clone(&grants),
            sessions.clone(),
            steering.clone(),
            outbox.clone(),
            lift_metrics,
        ));
        let desk = Arc::new(Desk {
            node: config.node.clone(),
            court,
            sessions,
            pseudonyms,
            reloader: Arc::clone(&reloader),
            grants,
            lift: Arc::clone(&lift),
            hook,
            outbox,
            refusals,
            registry,
            token,
            audit: Arc::clone(&audit),
            readiness: Readiness::default(),
        });
        let of =
            |service| radius.as_ref().map(|radius| radius.addresses(service)).unwrap_or_default();
        let addresses = Addresses {
            ports,
            admin: admin.address(),
            radius: of(radius::Service::Accounting),
            coa: of(radius::Service::Orders),
        };
        let node = config.node;
        Ok(Self {
            node,
            dns,
            proxy,
            ending,
            admin,
            captive,
            desk,
            reloader,
            watch,
            source,
            keeper,
            transfer,
            radius,
            audit,
            steering,
            sockets,
            lift,
            feed,
            courier,
            addresses,
        })
    }

    /// One line with every bound address.
    pub(crate) fn listening(&self) -> String {
        let Addresses { ports, admin, radius, coa } = &self.addresses;
        let Ports { dns, dot, doh, http, https, quic, explicit, captive } = ports;
        let mut line = "listening".to_owned();
        for (service, addresses) in [
            ("dns", dns.as_slice()),
            ("dot", dot),
            ("doh", doh),
            ("http", http),
            ("https", https),
            ("quic", quic),
            ("explicit", explicit),
            ("captive", captive),
            ("radius", radius),
            ("coa", coa),
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

    /// Serves until it is asked to stop or another process has taken over; then drains. At a stop
    /// it takes the steering away.
    ///
    /// Returns whether everything ended as it should. If a part broke, the steering stays.
    pub(crate) async fn run(self, mut outside: impl Outside) -> bool {
        let Self { node, dns, proxy, ending, admin, desk, reloader, watch, keeper, radius, .. } =
            self;
        let Self {
            audit, steering, sockets, transfer, lift, feed, courier, source, captive, ..
        } = self;
        let mut serving = JoinSet::new();
        serving.spawn(Arc::clone(&lift).run(feed, ending.stop.clone()));
        serving.spawn(lift.cut_flows(ending.stop.clone()));
        if let Some(courier) = courier {
            serving.spawn(courier.run(ending.stop.clone()));
        }
        serving.spawn(Arc::clone(&reloader).follow_clock(ending.stop.clone()));
        serving.spawn(dns.run(ending.stop.clone()));
        serving.spawn(keeper.run(ending.stop.clone()));
        if let Some(radius) = radius {
            serving.spawn(radius.run(ending.stop.clone()));
        }
        if let Some(captive) = captive {
            serving.spawn(captive.run(ending.stop.clone()));
        }
        if let Some(proxy) = proxy {
            serving.spawn(proxy.run(ending.clone()));
        }
        // The policy is followed, and the admin API answers, until the last session has drained.
        let closing = CancellationToken::new();
        let drained = CancellationToken::new();
        let mut answering = JoinSet::new();
        answering.spawn(admin.run(Arc::clone(&desk), closing.clone()));
        if let Some(watch) = watch {
            answering.spawn(watch.run(drained.clone()));
        }
        if let Some(source) = source {
            answering.spawn(source.run(drained.clone()));
        }
        desk.readiness.listening();
        audit.write(&Event::Started { node: &node }, clock::now());

        let mut sound = true;
        let mut successor = JoinSet::new();
        let mut replaced = None;
        loop {
            tokio::select! {
                wish = outside.next() => match wish {
                    Wish::Stop => {
                        // Nobody would stop a successor that is half way.
                        if let Some(Ok(Ok(pid))) = successor.join_next().await {
                            replaced = Some(pid);
                        }
                        break;
                    }
                    Wish::Reload => drop(reloader.reload(Trigger::Signal, false).await),
                    Wish::Upgrade if successor.is_empty() => {
                        start_successor(&sockets, &transfer, &mut successor);
                    }
                    Wish::Upgrade => tracing::warn!("an upgrade is under way already"),
                },
                Some(ended) = successor.join_next() => match ended {
                    Ok(Ok(pid)) => {
                        replaced = Some(pid);
                        break;
                    }
                    Ok(Err(error)) => tracing::error!(%error, "no successor; this process goes on"),
                    Err(error) => tracing::error!(%error, "no successor; this process goes on"),
                },
                ended = serving.join_next() => {
                    tracing::error!(panicked = matches!(ended, Some(Err(_))), "a part ended by itself");
                    sound = false;
                    break;
                }
            }
        }
        drop(sockets);
        match replaced {
            Some(pid) => {
                tracing::info!(pid, "another process serves; this one drains");
                ending.is_replaced.store(true, Ordering::Release);
                if let Some(steering) = &steering {
                    steering.let_go();
                }
                audit.write(&Event::Replaced { node: &node, pid }, clock::now());
                outside.replaced(pid);
                closing.cancel();
            }
            None => desk.readiness.stopping(),
        }
        ending.stop.cancel();
        loop {
            tokio::select! {
                ended = serving.join_next() => match ended {
                    Some(ended) => sound &= ended.is_ok(),
                    None => break,
                },
                wish = outside.next() => match wish {
                    Wish::Stop => ending.hurry.cancel(),
                    Wish::Reload => drop(reloader.reload(Trigger::Signal, false).await),
                    Wish::Upgrade => tracing::warn!("this process ends"),
                },
            }
        }
        closing.cancel();
        drained.cancel();
        while answering.join_next().await.is_some() {}
        match steering {
            Some(_) if replaced.is_some() => {}
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

/// What is around the process: wishes come in, and word goes out about who serves.
pub(crate) trait Outside {
    /// Waits for the next wish.
    fn next(&mut self) -> impl Future<Output = Wish>;

    /// Says that `pid` serves in place of this process.
    fn replaced(&mut self, pid: u32);
}

/// What is asked of a running gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Read the policy again.
    Reload,
    /// End; asked again, at once.
    Stop,
    /// Start another process and let it take over.
    Upgrade,
}

/// Starts another process, and tells its number once it serves.
fn start_successor(
    sockets: &Sockets,
    transfer: &Transfer,
    successor: &mut JoinSet<io::Result<u32>>,
) {
    let (sockets, transfer) = (sockets.clone(), transfer.clone());
    successor.spawn_blocking(move || {
        let mut successor = sockets.start_successor()?;
        tracing::info!(pid = successor.pid(), "a successor starts");
        let serves = successor.wait_until_it_serves(|| transfer.give());
        serves.inspect_err(|_| transfer.take_back())?;
        Ok(successor.pid())
    });
}

/// Every listening socket, for a successor.
fn sockets(
    admin: &Admin,
    captive: Option<&CaptivePortal>,
    dns: &dns::Server,
    proxy: Option<&Proxy>,
    radius: Option<&radius::Server>,
) -> io::Result<Sockets> {
    let mut sockets = Sockets::default();
    for socket in dns.sockets()? {
        sockets.add(Service::Dns, SocketAddr::from(([0, 0, 0, 0], 0)), Arc::new(socket));
    }
    admin.pass_on(&mut sockets)?;
    if let Some(captive) = captive {
        captive.pass_on(&mut sockets)?;
    }
    if let Some(proxy) = proxy {
        proxy.pass_on(&mut sockets)?;
    }
    if let Some(radius) = radius {
        radius.pass_on(&mut sockets)?;
    }
    Ok(sockets)
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

fn register_process(registry: &Registry) -> prometheus::Result<()> {
    let process = prometheus::process_collector::ProcessCollector::for_self();
    registry.register(Box::new(process))
}

fn warn(diagnostics: &[Diagnostic]) {
    for Diagnostic { code, file, message, .. } in diagnostics {
        tracing::warn!(code, %file, message, "finding");
    }
}

/// The port of DNS over TLS (RFC 7858 section 3.1), which is steered whatever its address.
const DOT_PORT: u16 = 853;
