//! A SIM's web requests: what it asks for, the connection it holds, what it reads.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Bytes,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::Mutex,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{Answer, Outcome, Seen, Sim};
use crate::{clock, family::Family, namespace::Namespace};

/// A page to fetch, and how.
#[derive(Debug, Clone)]
pub struct Fetch {
    tls: bool,
    host: String,
    family: Family,
    address: Option<IpAddr>,
    port: Option<u16>,
    sni: Option<String>,
    host_header: Option<String>,
    method: Method,
    path: String,
    body: Bytes,
}

impl Fetch {
    /// `GET https://host/`.
    #[must_use]
    pub fn https(host: &str, family: Family) -> Self {
        Self { tls: true, ..Self::http(host, family) }
    }

    /// `GET http://host/`.
    #[must_use]
    pub fn http(host: &str, family: Family) -> Self {
        Self {
            tls: false,
            host: host.to_owned(),
            family,
            address: None,
            port: None,
            sni: None,
            host_header: None,
            method: Method::GET,
            path: "/".to_owned(),
            body: Bytes::new(),
        }
    }

    /// Connects to this address without asking DNS; the family is the address's.
    #[must_use]
    pub fn at(mut self, address: IpAddr) -> Self {
        self.family = if address.is_ipv6() { Family::V6 } else { Family::V4 };
        self.address = Some(address);
        self
    }

    /// Connects to this port instead of 80 or 443.
    #[must_use]
    pub fn on_port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Names another host in the TLS hello, and in `Host` unless that is set too.
    #[must_use]
    pub fn with_sni(mut self, name: &str) -> Self {
        self.sni = Some(name.to_owned());
        self
    }

    /// Names another host in `Host`.
    #[must_use]
    pub fn with_host(mut self, name: &str) -> Self {
        self.host_header = Some(name.to_owned());
        self
    }

    /// Asks for this path.
    #[must_use]
    pub fn path(mut self, path: &str) -> Self {
        self.path = path.to_owned();
        self
    }

    /// Posts this body.
    #[must_use]
    pub fn post(mut self, body: &str) -> Self {
        self.method = Method::POST;
        self.body = Bytes::copy_from_slice(body.as_bytes());
        self
    }

    /// The address of the page, for reading.
    #[must_use]
    pub fn title(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.host)
    }

    /// Whether the page is fetched over TLS.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.tls
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn family_wanted(&self) -> Family {
        self.family
    }

    pub(super) fn address_forced(&self) -> Option<IpAddr> {
        self.address
    }

    pub(super) fn port(&self) -> u16 {
        self.port.unwrap_or(if self.tls { 443 } else { 80 })
    }

    fn sni(&self) -> &str {
        self.sni.as_ref().unwrap_or(&self.host)
    }

    fn host_header(&self) -> &str {
        self.host_header.as_deref().unwrap_or_else(|| self.sni())
    }
}

/// A connection a SIM holds open; closed when dropped.
#[derive(Debug)]
pub struct Held {
    connection: Arc<Connection>,
    namespace: Arc<Namespace>,
    opening: Duration,
}

impl Held {
    pub(super) fn new(
        connection: Connection,
        namespace: Arc<Namespace>,
        opening: Duration,
    ) -> Self {
        Self { connection: Arc::new(connection), namespace, opening }
    }

    /// Sends a request on the connection; only its method, path, body and `Host` matter.
    #[must_use]
    pub fn send(&self, fetch: &Fetch) -> Seen {
        let connection = Arc::clone(&self.connection);
        let fetch = fetch.clone();
        self.namespace.run(async move {
            let start = clock::now();
            let sent = timeout(Sim::PATIENCE, connection.send(&fetch)).await;
            Seen { outcome: sent.unwrap_or(Outcome::TimedOut), elapsed: start.elapsed() }
        })
    }

    /// The time it took to open.
    #[must_use]
    pub fn opening(&self) -> Duration {
        self.opening
    }
}

#[derive(Debug)]
pub(super) struct Connection {
    sender: Mutex<SendRequest<Full<Bytes>>>,
    // Drives the connection; ends with it.
    _driver: JoinSet<()>,
}

impl Connection {
    async fn start<S>(stream: S) -> Result<Self, Outcome>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Outcome::of_http(&error))?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // Whoever waits for an answer is told.
            let _ = connection.await;
        });
        Ok(Self { sender: Mutex::new(sender), _driver: driver })
    }

    async fn send(&self, fetch: &Fetch) -> Outcome {
        let request = Request::builder()
            .method(fetch.method.clone())
            .uri(&fetch.path)
            .header("host", fetch.host_header())
            .header("user-agent", "postern-lab")
            .body(Full::from(fetch.body.clone()));
        let request = match request {
            Ok(request) => request,
            Err(error) => return Outcome::Broken(error.to_string()),
        };
        let mut sender = self.sender.lock().await;
        if let Err(error) = sender.ready().await {
            return Outcome::of_http(&error);
        }
        let answered = async {
            let response = sender.send_request(request).await?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok(Answer { status: parts.status, headers: parts.headers, body })
        };
        match answered.await {
            Ok(answer) => Outcome::Answered(Box::new(answer)),
            Err(error) => Outcome::of_http(&error),
        }
    }
}

pub(super) async fn open(
    fetch: &Fetch,
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
) -> Result<Connection, Outcome> {
    timeout(Sim::PATIENCE, async {
        let failed = |error: io::Error| Outcome::of_socket(&error);
        let stream = TcpStream::connect(address).await.map_err(failed)?;
        let Some(tls) = tls else {
            return Connection::start(stream).await;
        };
        let name = ServerName::try_from(fetch.sni().to_owned())
            .map_err(|error| Outcome::Broken(error.to_string()))?;
        let stream = TlsConnector::from(tls).connect(name, stream).await.map_err(failed)?;
        Connection::start(stream).await
    })
    .await
    .unwrap_or(Err(Outcome::TimedOut))
}
