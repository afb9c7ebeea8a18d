//! The proxy: takes steered sessions, judges the name on the wire, dials our own answer, relays.
//!
//! The address a subscriber chose is never dialled and never trusted; the name decides. A session
//! that cannot be read, judged or dialled is refused, never passed on.

mod alert;
mod dial;
mod explicit;
mod farewell;
mod forwarded;
mod greeting;
pub(crate) mod hello;
pub(crate) mod http;
mod judge;
mod listener;
mod meter;
mod metrics;
mod outcome;
mod pipes;
pub(crate) mod quic;
mod quota;
mod relay;
pub(crate) mod retry;
mod sessions;
mod share;
mod tls;
mod worker;

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ipnet::IpNet;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) use self::{
    dial::Egress,
    listener::BindError,
    metrics::Metrics,
    sessions::{Limits, SessionChange, Sessions, Standing, subscriber_key},
};
use self::{
    dial::{Dialer, Origins},
    greeting::Balancers,
    http::HttpService,
    listener::Listener,
    worker::Worker,
};
use crate::handover::{Inherited, Service, Sockets};

/// How subscribers' traffic comes to the listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Steering {
    /// nftables `tproxy`: the accepted socket bears the subscriber's chosen destination.
    Tproxy,
    /// nftables `redirect`: connection tracking knows the chosen destination.
    Redirect,
    /// Plain connections: the destination is not known, the port is the scheme's.
    None,
}

/// What the steering diverts to a listener, and so what is spoken on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Protocol {
    /// HTTP/1, port 80.
    Http,
    /// TLS, port 443.
    Https,
    /// QUIC, UDP port 443.
    Quic,
}

/// Where the proxy listens, and its bounds.
#[derive(Clone, Debug)]
pub(crate) struct ProxySettings {
    /// Addresses for HTTP; port 0 takes any free port.
    pub(crate) http: Vec<SocketAddr>,
    /// Addresses for TLS; port 0 takes any free port.
    pub(crate) https: Vec<SocketAddr>,
    /// Addresses for clients that know the gateway as their proxy; port 0 takes any free port.
    pub(crate) explicit: Vec<SocketAddr>,
    /// Load balancers: their connections begin by saying for whom they are.
    pub(crate) balancers: Vec<IpNet>,
    /// Whether QUIC is looked into, on the addresses for TLS.
    pub(crate) inspect_quic: bool,
    /// How traffic comes here.
    pub(crate) mode: Steering,
    /// Bounds of every session.
    pub(crate) limits: Limits,
    /// Threads that serve.
    pub(crate) workers: usize,
    /// The addresses that origins are dialled from.
    pub(crate) egress: Egress,
    /// Mark (`SO_MARK`) of outgoing sockets, for an operator's own routing. Needs `CAP_NET_ADMIN`.
    pub(crate) mark: Option<u32>,
}

/// When and how the proxy ends.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    /// Accept nothing more, and let live sessions end.
    pub(crate) stop: CancellationToken,
    /// Another process has taken over: live sessions need not hurry.
    pub(crate) is_replaced: Arc<AtomicBool>,
    /// Wait no longer for live sessions.
    pub(crate) hurry: CancellationToken,
    /// What live sessions get at a stop.
    pub(crate) drain_time: Duration,
    /// What they get in a process that was replaced.
    pub(crate) upgrade_time: Duration,
}

/// The bound proxy.
pub(crate) struct Proxy {
    bound: Bound,
    workers: usize,
    parts: Arc<Parts>,
    http: Arc<HttpService>,
}

/// Everything the proxy listens on.
struct Bound {
    steered: Vec<Listener>,
    explicit: Vec<Listener>,
    quic: Vec<quic::Listener>,
}

/// What every session uses.
struct Parts {
    judge: Arc<dyn dns::Judge>,
    resolver: Arc<dns::Resolver>,
    dialer: Dialer,
    sessions: Arc<Sessions>,
    limits: Limits,
    balancers: Balancers,
    metrics: Arc<Metrics>,
}

impl Proxy {
    /// Binds every address of `settings`, or none.
    ///
    /// # Errors
    ///
    /// An address cannot be bound, or the right for transparent sockets is missing. Nothing stays
    /// bound.
    pub(crate) fn bind(
        settings: &ProxySettings,
        judge: Arc<dyn dns::Judge>,
        resolver: Arc<dns::Resolver>,
        metrics: Arc<Metrics>,
        inherited: &mut Inherited,
    ) -> Result<Self, BindError> {
        let workers = settings.workers;
        let mut listen = |service, protocol, mode, addresses: &[SocketAddr]| {
            let mut bind = |address: &SocketAddr| {
                let sockets = inherited.take(service, *address);
                Listener::bind(protocol, *address, mode, workers, sockets)
            };
            addresses.iter().map(&mut bind).collect::<Result<Vec<_>, _>>()
        };
        let mode = settings.mode;
        let mut steered = listen(Service::Http, Protocol::Http, mode, &settings.http)?;
        steered.extend(listen(Service::Https, Protocol::Https, mode, &settings.https)?);
        let explicit =
            listen(Service::Explicit, Protocol::Http, Steering::None, &settings.explicit)?;
        let tls = steered.iter().filter(|listener| listener.protocol() == Protocol::Https);
        let quic = tls
            .filter(|_| settings.inspect_quic)
            .map(|listener| {
                let address = listener.address();
                let sockets = inherited.take(Service::Quic, address);
                quic::Listener::bind(address, mode, workers, sockets)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let addresses = steered.iter().chain(&explicit).map(Listener::address).collect();
        let origins = Origins { mark: settings.mark, egress: settings.egress.clone() };
        let dialer =
            Dialer::new(addresses, settings.limits.dial_time, origins, Arc::clone(&metrics));
        let parts = Arc::new(Parts {
            judge,
            resolver,
            dialer,
            sessions: Arc::new(Sessions::new(settings.limits, Arc::clone(&metrics))),
            limits: settings.limits,
            balancers: Balancers::new(settings.balancers.clone()),
            metrics,
        });
        let http = HttpService::new(Arc::clone(&parts));
        Ok(Self { bound: Bound { steered, explicit, quic }, workers, parts, http })
    }

    /// The bound addresses for HTTP.
    pub(crate) fn http_addresses(&self) -> Vec<SocketAddr> {
        self.addresses(Protocol::Http)
    }

    /// The bound addresses for TLS.
    pub(crate) fn https_addresses(&self) -> Vec<SocketAddr> {
        self.addresses(Protocol::Https)
    }

    /// The bound addresses for QUIC; none where it is refused.
    pub(crate) fn quic_addresses(&self) -> Vec<SocketAddr> {
        self.bound.quic.iter().map(quic::Listener::address).collect()
    }

    /// The bound addresses for clients that know the gateway as their proxy.
    pub(crate) fn explicit_addresses(&self) -> Vec<SocketAddr> {
        self.bound.explicit.iter().map(Listener::address).collect()
    }

    fn addresses(&self, protocol: Protocol) -> Vec<SocketAddr> {
        let spoken = self.bound.steered.iter().filter(|listener| listener.protocol() == protocol);
        spoken.map(Listener::address).collect()
    }

    /// Adds the listening sockets to those that a successor gets.
    pub(crate) fn pass_on(&self, sockets: &mut Sockets) -> io::Result<()> {
        let Bound { steered, explicit, quic } = &self.bound;
        let steered = steered.iter().map(|listener| (listener.protocol().service(), listener));
        let explicit = explicit.iter().map(|listener| (Service::Explicit, listener));
        for (service, listener) in steered.chain(explicit) {
            for socket in listener.sockets() {
                sockets.add(service, listener.address(), copy(socket)?);
            }
        }
        for listener in quic {
            for socket in listener.sockets() {
                sockets.add(Service::Quic, listener.address(), copy(socket)?);
            }
        }
        Ok(())
    }

    /// The live sessions, to judge them again when a policy is published.
    pub(crate) fn sessions(&self) -> Arc<Sessions> {
        Arc::clone(&self.parts.sessions)
    }

    /// Serves until it has to stop; then accepts nothing more, gives live sessions time to end, and
    /// closes the rest.
    ///
    /// Each worker is a thread with a runtime and listening sockets of its own: a session lives
    /// and ends on the core that accepted it.
    pub(crate) async fn run(self, ending: Ending) {
        let Self { bound, workers, parts, http } = self;
        // Whatever ends this task, the threads end as well.
        let _stopping = [&ending.stop, &ending.hurry].map(|token| token.clone().drop_guard());
        let bound = Arc::new(bound);
        let mut watching = JoinSet::new();
        let (watched, watch) = (Arc::clone(&parts), ending.stop.clone());
        watching.spawn(async move { watched.dialer.watch_own_addresses(watch).await });
        let drained = CancellationToken::new();
        let (watched, watch) = (Arc::clone(&parts), drained.clone());
        watching.spawn(async move { watched.sessions.watch_leaving(watch).await });
        let mut working = JoinSet::new();
        for number in 0..workers {
            let worker = Worker::new(Arc::clone(&parts), Arc::clone(&http));
            let (bound, ending) = (Arc::clone(&bound), ending.clone());
            working.spawn_blocking(move || worker.run(bound, (number, workers), &ending));
        }
        drop(bound);
        while let Some(ended) = working.join_next().await {
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "a worker cannot run"),
                Err(broken) => tracing::error!(%broken, "a worker broke"),
            }
            if !ending.stop.is_cancelled() {
                // The connections of its sockets would wait for ever: whoever watches must know.
                break;
            }
        }
        drained.cancel();
        while watching.join_next().await.is_some() {}
    }
}

/// The socket once more, for a successor.
fn copy(socket: &impl AsFd) -> io::Result<Arc<OwnedFd>> {
    Ok(Arc::new(socket.as_fd().try_clone_to_owned()?))
}

impl Ending {
    /// Ends with `stop`, where live sessions get `drain_time`.
    pub(crate) fn new(
        stop: CancellationToken,
        drain_time: Duration,
        upgrade_time: Duration,
    ) -> Self {
        let (is_replaced, hurry) = (Arc::default(), CancellationToken::new());
        Self { stop, is_replaced, hurry, drain_time, upgrade_time }
    }

    fn is_replaced(&self) -> bool {
        self.is_replaced.load(Ordering::Acquire)
    }

    fn time(&self) -> Duration {
        if self.is_replaced() { self.upgrade_time } else { self.drain_time }
    }
}

impl Protocol {
    /// The protocol's name in metrics, logs and decision records.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Quic => "quic",
        }
    }

    fn service(self) -> Service {
        match self {
            Self::Http => Service::Http,
            Self::Https => Service::Https,
            Self::Quic => Service::Quic,
        }
    }

    /// The request to judge.
    fn request(self, host: &policy::HostName, port: u16) -> policy::Request<'_> {
        match self {
            Self::Http => policy::Request::Http { host, port },
            Self::Https => policy::Request::Https { host, port },
            Self::Quic => policy::Request::Quic { host, port },
        }
    }

    /// The port of a session whose destination is not known.
    fn default_port(self) -> u16 {
        match self {
            Self::Http => policy::Scheme::Http.default_port(),
            Self::Https | Self::Quic => policy::Scheme::Https.default_port(),
        }
    }
}

#[cfg(test)]
mod tests;
