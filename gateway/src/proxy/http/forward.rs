//! Carries one judged request to its origin and the response back. The only file that names
//! pingora.
//!
//! Pingora's HTTP proxy is driven one request at a time: it accepts, resolves, dials, pools and
//! retries nothing. It gets a request our own reader has judged and a connection that was dialled
//! for it, and it must find the same host in the request as that reader did.

use std::{
    any::Any,
    fmt,
    net::SocketAddr,
    os::fd::AsRawFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use pingora::{
    Error, ErrorSource, ErrorType,
    apps::HttpServerApp,
    connectors::l4::Connect,
    http::{RequestHeader, ResponseHeader},
    protocols::{
        GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
        TimingDigest, UniqueID, UniqueIDType,
        http::ServerSession,
        l4::{self, stream::Stream},
        raw_connect::ProxyDigest,
    },
    proxy::{FailToProxy, HttpProxy, ProxyHttp, Session},
    server::configuration::ServerConf,
    upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy},
};
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::watch};

use super::{
    head::{self, Head},
    wire::Wire,
};
use crate::proxy::{
    dial::{Counted, Dialled},
    outcome::{OriginEnd, OurEnd, Outcome, SubscriberEnd},
    sessions::Limits,
};

/// Carries requests to origins.
pub(super) struct Forwarder {
    proxy: Arc<HttpProxy<Carrier>>,
    limits: Limits,
    /// Pingora asks it whether the process stops; sessions are drained by their owner instead.
    stopping: watch::Sender<bool>,
}

/// One judged request, with the connection it goes out on.
pub(super) struct Errand {
    head: Head,
    port: u16,
    address: SocketAddr,
    origin: Mutex<Option<TcpStream>>,
    _counted: Counted,
    outcome: Mutex<Outcome>,
}

impl Forwarder {
    pub(super) fn new(limits: Limits) -> Self {
        let configuration = ServerConf {
            // A second try would be a second dial, which nobody has judged.
            max_retries: 1,
            upstream_keepalive_pool_size: 1,
            ..ServerConf::default()
        };
        let carrier = Carrier { idle_limit: limits.idle_limit, errands: AtomicU64::new(0) };
        let mut proxy = HttpProxy::new(carrier, Arc::new(configuration));
        proxy.handle_init_modules();
        Self { proxy: Arc::new(proxy), limits, stopping: watch::Sender::new(false) }
    }

    /// Carries one request, and gives the subscriber's connection back if another may follow.
    pub(super) async fn forward(&self, wire: Wire, errand: Errand) -> (Outcome, Option<Wire>) {
        let errand = Arc::new(errand);
        let mut request = ServerSession::new_http1(Box::new(wire));
        request.set_read_timeout(Some(self.limits.idle_limit));
        request.set_write_timeout(Some(self.limits.idle_limit));
        request.set_total_drain_timeout(Some(self.limits.header_time));
        request.set_connection_user_context(Some(Box::new(Arc::clone(&errand))));
        let reused = self.proxy.process_new_http(request, &self.stopping.subscribe()).await;
        let wire = reused.and_then(|reused| {
            let (stream, _) = reused.consume();
            stream.into_any().downcast::<Wire>().ok().map(|wire| *wire)
        });
        (errand.outcome(), wire)
    }
}

impl Errand {
    pub(super) fn new(head: Head, port: u16, dialled: Dialled) -> Self {
        Self {
            head,
            port,
            address: dialled.address,
            origin: Mutex::new(Some(dialled.stream)),
            _counted: dialled.counted,
            // Pingora refuses a request by itself only before it calls back for the first time.
            outcome: Mutex::new(Outcome::Subscriber(SubscriberEnd::BadRequest)),
        }
    }

    fn end(&self, outcome: Outcome) {
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = outcome;
    }

    fn outcome(&self) -> Outcome {
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether `request`, as pingora has read it, asks for what was judged.
    fn is_for(&self, request: &RequestHeader) -> bool {
        let mut hosts = request.headers.get_all("host").iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return false;
        };
        head::authority(host.as_bytes(), self.port) == Ok(self.head.host.clone())
    }
}

/// What pingora calls back for each request.
struct Carrier {
    idle_limit: Duration,
    errands: AtomicU64,
}

#[async_trait]
impl ProxyHttp for Carrier {
    type CTX = Option<Arc<Errand>>;

    fn new_ctx(&self) -> Self::CTX {
        None
    }

    fn on_connection_reuse(
        &self,
        _session: &mut Session,
        errand: &mut Self::CTX,
        handed: Box<dyn Any + Send + Sync>,
    ) {
        *errand = handed.downcast().ok().map(|errand| *errand);
    }

    async fn request_filter(
        &self,
        session: &mut Session,
        errand: &mut Self::CTX,
    ) -> pingora::Result<bool> {
        match errand {
            Some(errand) if errand.is_for(session.req_header()) => Ok(false),
            Some(_) | None => Error::e_explain(ErrorType::HTTPStatus(400), "the host changed"),
        }
    }

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        errand: &mut Self::CTX,
    ) -> pingora::Result<Box<HttpPeer>> {
        let errand = errand.as_ref().ok_or_else(|| Error::new(ErrorType::InternalError))?;
        let mut peer = HttpPeer::new(errand.address, false, String::new());
        // A number of its own for each request: no connection is ever shared.
        peer.group_key = self.errands.fetch_add(1, Ordering::Relaxed);
        peer.options.custom_l4 = Some(Arc::new(Handover(Arc::clone(errand))));
        peer.options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
        peer.options.read_timeout = Some(self.idle_limit);
        peer.options.write_timeout = Some(self.idle_limit);
        peer.options.idle_timeout = Some(Duration::ZERO);
        Ok(Box::new(peer))
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        request: &mut RequestHeader,
        errand: &mut Self::CTX,
    ) -> pingora::Result<()> {
        // Absolute form is for proxies; an origin gets the path (RFC 9112 section 3.2.1).
        if let Some(errand) = errand
            && request.raw_path() != errand.head.path.as_bytes()
        {
            request.set_raw_path(errand.head.path.as_bytes())?;
        }
        // Meant for a proxy, and nobody's affair beyond it (RFC 9110 section 11.7.2).
        request.remove_header("proxy-authorization");
        request.remove_header("proxy-connection");
        request.insert_header("connection", "close")
    }

    async fn response_filter(
        &self,
        _session: &mut Session,
        response: &mut ResponseHeader,
        _errand: &mut Self::CTX,
    ) -> pingora::Result<()> {
        // Both invite the subscriber to a protocol or a port that is not judged here.
        response.remove_header("alt-svc");
        response.remove_header("upgrade");
        Ok(())
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        _errand: &mut Self::CTX,
    ) -> FailToProxy {
        let status = match (error.etype(), error.esource()) {
            (ErrorType::HTTPStatus(status), _) => *status,
            (_, ErrorSource::Upstream) => 502,
            (_, ErrorSource::Downstream) => 400,
            (_, ErrorSource::Internal | ErrorSource::Unset) => 500,
        };
        if let Ok(answer) = refusal(status) {
            // A subscriber that is gone cannot be told.
            let _ = session.as_downstream_mut().write_error_response(answer, Bytes::new()).await;
        }
        FailToProxy { error_code: status, can_reuse_downstream: false }
    }

    async fn logging(&self, _session: &mut Session, error: Option<&Error>, errand: &mut Self::CTX) {
        let outcome = match error.map(|error| (error.etype(), error.esource())) {
            None => Outcome::Finished,
            Some((ErrorType::HTTPStatus(_), _)) => Outcome::Subscriber(SubscriberEnd::BadRequest),
            Some((_, ErrorSource::Upstream)) => Outcome::Origin(OriginEnd::Reset),
            Some((_, ErrorSource::Downstream)) => Outcome::Subscriber(SubscriberEnd::Reset),
            Some((_, ErrorSource::Internal | ErrorSource::Unset)) => Outcome::Us(OurEnd::Broken),
        };
        if let Some(error) = error {
            tracing::debug!(%error, outcome = outcome.label(), "request failed");
        }
        if let Some(errand) = errand {
            errand.end(outcome);
        }
    }

    /// Pingora would log each failure with the request's host, as an error.
    fn suppress_error_log(&self, _: &Session, _: &Self::CTX, _: &Error) -> bool {
        true
    }
}

/// Hands out the connection that was dialled for an errand, once.
struct Handover(Arc<Errand>);

#[async_trait]
impl Connect for Handover {
    async fn connect(&self, _address: &l4::socket::SocketAddr) -> pingora::Result<Stream> {
        let origin = self.0.origin.lock().unwrap_or_else(PoisonError::into_inner).take();
        origin.map(Stream::from).ok_or_else(|| Error::new(ErrorType::ConnectError))
    }
}

impl fmt::Debug for Handover {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Handover")
    }
}

/// An answer that does not name the software.
fn refusal(status: u16) -> pingora::Result<ResponseHeader> {
    let mut answer = ResponseHeader::build(status, Some(3))?;
    answer.insert_header("content-length", "0")?;
    answer.insert_header("cache-control", "no-store")?;
    answer.insert_header("connection", "close")?;
    Ok(answer)
}

#[async_trait]
impl Shutdown for Wire {
    async fn shutdown(&mut self) {
        // A subscriber that is gone needs no close.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for Wire {
    fn id(&self) -> UniqueIDType {
        self.stream().as_raw_fd()
    }
}

impl Ssl for Wire {}

impl Peek for Wire {}

impl GetTimingDigest for Wire {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Wire {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Wire {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}
