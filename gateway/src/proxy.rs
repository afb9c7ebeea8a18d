//! The proxy: takes steered sessions, judges the name on the wire, dials our own answer, relays.
//!
//! The address a subscriber chose is never dialled and never trusted; the name decides. A session
//! that cannot be read, judged or dialled is refused, never passed on.

mod alert;
mod dial;
mod farewell;
pub(crate) mod hello;
pub(crate) mod http;
mod judge;
mod listener;
mod meter;
mod metrics;
mod outcome;
mod quota;
mod relay;
pub(crate) mod retry;
mod sessions;
mod tls;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, debug, debug_span, info, warn};

use self::{
    dial::Dialer,
    http::HttpService,
    listener::{AcceptError, Accepted, Listener},
    outcome::{OurEnd, Outcome},
};
pub(crate) use self::{
    listener::BindError,
    metrics::Metrics,
    sessions::{Limits, SessionChange, Sessions, Standing},
};

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
}

/// Where the proxy listens, and its bounds.
#[derive(Clone, Debug)]
pub(crate) struct ProxySettings {
    /// Addresses for HTTP; port 0 takes any free port.
    pub(crate) http: Vec<SocketAddr>,
    /// Addresses for TLS; port 0 takes any free port.
    pub(crate) https: Vec<SocketAddr>,
    /// How traffic comes here.
    pub(crate) mode: Steering,
    /// Bounds of every session.
    pub(crate) limits: Limits,
    /// Mark (`SO_MARK`) of outgoing sockets, for an operator's own routing. Needs `CAP_NET_ADMIN`.
    pub(crate) mark: Option<u32>,
}

/// The bound proxy.
pub(crate) struct Proxy {
    listeners: Vec<Listener>,
    parts: Arc<Parts>,
    http: Arc<HttpService>,
}

/// What every session uses.
struct Parts {
    judge: Arc<dyn dns::Judge>,
    resolver: Arc<dns::Resolver>,
    dialer: Dialer,
    sessions: Arc<Sessions>,
    limits: Limits,
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
    ) -> Result<Self, BindError> {
        let listen = |protocol, addresses: &[SocketAddr]| {
            addresses
                .iter()
                .map(|address| Listener::bind(protocol, *address, settings.mode))
                .collect::<Result<Vec<_>, _>>()
        };
        let mut listeners = listen(Protocol::Http, &settings.http)?;
        listeners.extend(listen(Protocol::Https, &settings.https)?);
        let bound = listeners.iter().map(Listener::address).collect();
        let parts = Arc::new(Parts {
            judge,
            resolver,
            dialer: Dialer::new(bound, settings.limits.dial_time, settings.mark),
            sessions: Arc::new(Sessions::new(settings.limits, Arc::clone(&metrics))),
            limits: settings.limits,
            metrics,
        });
        let http = HttpService::new(Arc::clone(&parts));
        Ok(Self { listeners, parts, http })
    }

    /// The bound addresses for HTTP.
    pub(crate) fn http_addresses(&self) -> Vec<SocketAddr> {
        self.addresses(Protocol::Http)
    }

    /// The bound addresses for TLS.
    pub(crate) fn https_addresses(&self) -> Vec<SocketAddr> {
        self.addresses(Protocol::Https)
    }

    fn addresses(&self, protocol: Protocol) -> Vec<SocketAddr> {
        let spoken = self.listeners.iter().filter(|listener| listener.protocol() == protocol);
        spoken.map(Listener::address).collect()
    }

    /// The live sessions, to judge them again when a policy is published.
    pub(crate) fn sessions(&self) -> Arc<Sessions> {
        Arc::clone(&self.parts.sessions)
    }

    /// Serves until `stop`; then accepts nothing more, gives live sessions `drain` to end, and
    /// closes the rest.
    pub(crate) async fn run(self, stop: CancellationToken, drain: Duration) {
        let accepting = TaskTracker::new();
        let serving = TaskTracker::new();
        for listener in self.listeners {
            let (parts, http) = (Arc::clone(&self.parts), Arc::clone(&self.http));
            let (stop, serving) = (stop.clone(), serving.clone());
            accepting.spawn(accept(listener, parts, http, stop, serving));
        }
        let watch = stop.clone();
        let parts = Arc::clone(&self.parts);
        accepting.spawn(async move { parts.dialer.watch_own_addresses(watch).await });
        accepting.close();
        accepting.wait().await;
        serving.close();
        info!(sessions = self.parts.sessions.count(), "proxy drains");
        self.parts.sessions.drain();
        if timeout(drain, serving.wait()).await.is_err() {
            self.parts.sessions.close_all();
            serving.wait().await;
        }
    }
}

/// Accepts on one listener until `stop`. No error of the network ends it.
async fn accept(
    listener: Listener,
    parts: Arc<Parts>,
    http: Arc<HttpService>,
    stop: CancellationToken,
    serving: TaskTracker,
) {
    let protocol = listener.protocol();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(accepted) => admit(accepted, protocol, &parts, &http, &serving),
            Err(error @ AcceptError::Connection(_)) => {
                parts.metrics.accept_failed(protocol);
                debug!(%error, "accept failed");
            }
            Err(error @ AcceptError::Listener(_)) => {
                parts.metrics.accept_failed(protocol);
                warn!(%error, "accept failed");
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                }
            }
        }
    }
}

/// Opens a session for `accepted` in a task of its own, or refuses it by a reset.
fn admit(
    accepted: Accepted,
    protocol: Protocol,
    parts: &Arc<Parts>,
    http: &Arc<HttpService>,
    serving: &TaskTracker,
) {
    let Accepted { stream, subscriber, destination, port } = accepted;
    let (limits, now) = (judge::class_limits(parts, subscriber), parts.judge.now());
    let admission = parts.sessions.admit(subscriber, protocol, port, destination, limits, now);
    let session = match admission {
        Ok(session) => session,
        Err(limit) => {
            judge::refused(parts, subscriber, protocol, destination, policy::Reason::Limit);
            parts.metrics.ended(protocol, Outcome::Us(OurEnd::Limit));
            debug!(%limit, "session refused");
            listener::reset(stream);
            return;
        }
    };
    let span = debug_span!("session", number = session.number());
    let (parts, http) = (Arc::clone(parts), Arc::clone(http));
    let serve = async move {
        let outcome = match protocol {
            // On the heap, so that it does not make the tasks of TLS sessions larger.
            Protocol::Http => Box::pin(http.serve(stream, &session)).await,
            Protocol::Https => tls::serve(stream, &session, &parts).await,
        };
        debug!(outcome = outcome.label(), "session ended");
        session.end(outcome);
    };
    serving.spawn(serve.instrument(span));
}

impl Protocol {
    /// The protocol's name in metrics, logs and decision records.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The request to judge.
    fn request(self, host: &policy::HostName, port: u16) -> policy::Request<'_> {
        match self {
            Self::Http => policy::Request::Http { host, port },
            Self::Https => policy::Request::Https { host, port },
        }
    }

    /// The port of a session whose destination is not known.
    fn default_port(self) -> u16 {
        match self {
            Self::Http => policy::Scheme::Http.default_port(),
            Self::Https => policy::Scheme::Https.default_port(),
        }
    }
}

/// Pause after a failed accept: without it, running out of descriptors would burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
