//! The client of the admin API, for commands that speak to a running gateway.
//!
//! A token never leaves the machine in clear: plain HTTP is for loopback alone. Over TLS the node
//! is known by the certificate in its own `gateway.toml`, or by a certificate authority that is
//! given; the machine's list of authorities is not asked.

mod pinned;

use std::{
    fs::File,
    io::{self, BufReader},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, InvalidDnsNameError, ServerName, pem::PemObject},
};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::config::AdminConfig;

/// How to reach one node's admin API.
pub(crate) struct Client {
    /// Host and port, as they are dialled and named in the request.
    authority: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    token: Option<String>,
}

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Page {
    /// The status.
    pub(crate) status: StatusCode,
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// The body.
    pub(crate) body: Bytes,
}

/// An answer of the admin API.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: StatusCode,
    /// The body; what is no JSON is a string.
    pub(crate) body: Value,
}

/// Why a node could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// The address cannot be used.
    #[error("`{url}` is not http://ADDRESS:PORT or https://HOST:PORT")]
    Url { url: String },
    /// The token would cross a network in clear.
    #[error("{authority} is not loopback; give it as https://")]
    Clear { authority: String },
    /// The port is chosen at start and cannot be known.
    #[error("the admin address {address} has port 0; give the real one with --admin")]
    AnyPort { address: SocketAddr },
    /// Over TLS, nothing says which certificate is the node's.
    #[error("https:// needs --ca with the certificate authority of the node")]
    NoAuthority,
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// The file holds no certificate.
    #[error("{} holds no certificate that can be used", path.display())]
    Certificate { path: PathBuf },
    /// No connection.
    #[error("cannot reach {authority}")]
    Connect { authority: String, source: io::Error },
    /// The exchange broke off.
    #[error("{authority} broke off")]
    Broken { authority: String, source: hyper::Error },
    /// The answer was cut off while it was read.
    #[error("the answer of {authority} cannot be read")]
    Answer { authority: String },
    /// The answer was cut off at the limit.
    #[error("the answer of {authority} is too long; at most {most} octets are read")]
    TooLarge { authority: String, most: usize },
    /// No answer in time.
    #[error("{authority} gave no answer within {} s", limit.as_secs())]
    Slow { authority: String, limit: Duration },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// The host cannot be in a certificate.
    #[error("the host of {authority} is neither a name nor an address")]
    Name { authority: String, source: InvalidDnsNameError },
}

impl Client {
    /// For the node whose `gateway.toml` says `config`, on this machine.
    ///
    /// # Errors
    ///
    /// The token or the certificate cannot be read, or the port is 0.
    pub(crate) fn of(config: &AdminConfig) -> Result<Self, ClientError> {
        let AdminConfig { listen, token_file, tls } = config;
        if listen.port() == 0 {
            return Err(ClientError::AnyPort { address: *listen });
        }
        // Bound to every address, a node is reached by loopback.
        let address = match (listen.ip(), listen.ip().is_unspecified()) {
            (IpAddr::V4(_), true) => Ipv4Addr::LOCALHOST.into(),
            (IpAddr::V6(_), true) => Ipv6Addr::LOCALHOST.into(),
            (address, false) => address,
        };
        let tls = match tls {
            Some(tls) => {
                let own = certificates(&tls.certificate)?.into_iter().next();
                let own =
                    own.ok_or_else(|| ClientError::Certificate { path: tls.certificate.clone() })?;
                Some((pinned::connector(own)?, ServerName::from(address)))
            }
            None => None,
        };
        let authority = SocketAddr::new(address, listen.port()).to_string();
        Ok(Self { authority, tls, token: token(token_file.as_deref())? })
    }

    /// For the node at `url`.
    ///
    /// # Errors
    ///
    /// The address would show the token to others, or a file cannot be read.
    pub(crate) fn to(
        url: &str,
        authority_file: Option<&Path>,
        token_file: Option<&Path>,
    ) -> Result<Self, ClientError> {
        let wrong = || ClientError::Url { url: url.to_owned() };
        let (scheme, authority) = url.split_once("://").ok_or_else(wrong)?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let parsed: http::uri::Authority = authority.parse().map_err(|_| wrong())?;
        if parsed.port_u16().is_none() || authority.contains('@') {
            return Err(wrong());
        }
        let host = parsed.host().trim_matches(['[', ']']).to_owned();
        let authority = authority.to_owned();
        let tls = match scheme {
            "http" => {
                let loopback = host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
                if !loopback {
                    return Err(ClientError::Clear { authority });
                }
                None
            }
            "https" => {
                let file = authority_file.ok_or(ClientError::NoAuthority)?;
                Some((connector(file)?, server_name(&host, &authority)?))
            }
            _ => return Err(wrong()),
        };
        Ok(Self { authority, tls, token: token(token_file)? })
    }

    /// For a server that is told no secret, and whose word is not taken: what it serves is signed.
    ///
    /// # Errors
    ///
    /// The authority file cannot be read, or is missing where TLS is spoken.
    pub(crate) fn anonymous(url: &Uri, authority_file: Option<&Path>) -> Result<Self, ClientError> {
        let wrong = || ClientError::Url { url: url.to_string() };
        let is_tls = match url.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) | None => return Err(wrong()),
        };
        let host = url.host().ok_or_else(wrong)?;
        let authority =
            format!("{host}:{}", url.port_u16().unwrap_or(if is_tls { 443 } else { 80 }));
        let tls = if is_tls {
            let file = authority_file.ok_or(ClientError::NoAuthority)?;
            Some((connector(file)?, server_name(host, &authority)?))
        } else {
            None
        };
        Ok(Self { authority, tls, token: None })
    }

    /// Reads `path`, at most `most` octets of it.
    pub(crate) async fn fetch(
        &self,
        path: &str,
        headers: &[(&'static str, String)],
        most: usize,
    ) -> Result<Page, ClientError> {
        let exchange = self.exchange(Method::GET, path, headers, Bytes::new(), most);
        self.in_time(EXCHANGE_TIME, exchange).await
    }

    /// Reads `path`.
    pub(crate) async fn get(&self, path: &str) -> Result<Answer, ClientError> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    /// Posts `body` to `path`.
    pub(crate) async fn post(&self, path: &str, body: Bytes) -> Result<Answer, ClientError> {
        self.ask(Method::POST, path, body).await
    }

    /// Puts `body` at `path`.
    pub(crate) async fn put(&self, path: &str, body: Bytes) -> Result<Answer, ClientError> {
        self.ask(Method::PUT, path, body).await
    }

    /// Deletes what is at `path`.
    pub(crate) async fn delete(&self, path: &str) -> Result<Answer, ClientError> {
        self.ask(Method::DELETE, path, Bytes::new()).await
    }

    /// Posts `body` with headers of the caller's to a system that is no node of ours.
    pub(crate) async fn deliver(
        &self,
        path: &str,
        headers: &[(&'static str, String)],
        body: Bytes,
    ) -> Result<StatusCode, ClientError> {
        let exchange = self.exchange(Method::POST, path, headers, body, ANSWER_MAX);
        Ok(self.in_time(DELIVERY_TIME, exchange).await?.status)
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<Answer, ClientError> {
        let exchange = self.exchange(method, path, &[], body, ANSWER_MAX);
        let Page { status, body, .. } = self.in_time(EXCHANGE_TIME, exchange).await?;
        Ok(Answer { status, body: value(&body) })
    }

    async fn in_time(
        &self,
        limit: Duration,
        exchange: impl Future<Output = Result<Page, ClientError>>,
    ) -> Result<Page, ClientError> {
        let slow = || ClientError::Slow { authority: self.authority.clone(), limit };
        timeout(limit, exchange).await.unwrap_or_else(|_| Err(slow()))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, String)],
        body: Bytes,
        most: usize,
    ) -> Result<Page, ClientError> {
        let authority = || self.authority.clone();
        let failed = |source| ClientError::Connect { authority: authority(), source };
        let stream = TcpStream::connect(&self.authority).await.map_err(failed)?;
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.authority)
            .header(header::CONNECTION, "close");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request =
            request.body(Full::new(body)).map_err(|error| failed(io::Error::other(error)))?;
        match &self.tls {
            None => self.speak(stream, request, most).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await.map_err(failed)?;
                self.speak(stream, request, most).await
            }
        }
    }

    async fn speak<S>(
        &self,
        stream: S,
        request: Request<Full<Bytes>>,
        most: usize,
    ) -> Result<Page, ClientError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let authority = || self.authority.clone();
        let broken = |source| ClientError::Broken { authority: authority(), source };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(broken)?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, most).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    ClientError::TooLarge { authority: authority(), most }
                } else {
                    ClientError::Answer { authority: authority() }
                }
            });
            Ok(Page { status: head.status, headers: head.headers, body: body?.to_bytes() })
        };
        let mut exchange = std::pin::pin!(exchange);
        tokio::select! {
            answer = &mut exchange => answer,
            // What had arrived by then can still be read.
            _ = connection => exchange.await,
        }
    }
}

/// Whom the certificate must name; an IPv6 address stands in brackets in a URL.
fn server_name(host: &str, authority: &str) -> Result<ServerName<'static>, ClientError> {
    let host = host.trim_matches(['[', ']']).to_owned();
    ServerName::try_from(host)
        .map_err(|source| ClientError::Name { authority: authority.to_owned(), source })
}

fn value(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_else(|_| String::from_utf8_lossy(body).into())
}

fn token(file: Option<&Path>) -> Result<Option<String>, ClientError> {
    let read = |path: &Path| {
        crate::signature::text_of(path)
            .map(|text| text.trim().to_owned())
            .map_err(|source| ClientError::Read { path: path.to_owned(), source })
    };
    file.map(read).transpose()
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let file =
        File::open(path).map_err(|source| ClientError::Read { path: path.to_owned(), source })?;
    CertificateDer::pem_reader_iter(BufReader::new(file))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| ClientError::Certificate { path: path.to_owned() })
}

fn connector(authorities: &Path) -> Result<TlsConnector, ClientError> {
    let unusable = || ClientError::Certificate { path: authorities.to_owned() };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(authorities)? {
        roots.add(certificate).map_err(|_| unusable())?;
    }
    if roots.is_empty() {
        return Err(unusable());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// From the dial to the last octet of the answer; a reload compiles in between.
const EXCHANGE_TIME: Duration = Duration::from_secs(60);
/// The same, where nobody compiles in between.
const DELIVERY_TIME: Duration = Duration::from_secs(10);
/// Octets of an answer.
const ANSWER_MAX: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests;
