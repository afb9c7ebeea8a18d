//! A listener of the gateway's own pages, the admin API's and the captive-portal API's: plain on
//! loopback, TLS elsewhere; bounded in connections and time.

use std::{
    fs::File,
    io::{self, BufReader},
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{Extension, Router};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use socket2::{Domain, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::places::Places;

/// A bound listener.
pub(crate) struct Listener {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Why an API cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    #[error(
        "cannot listen on {address} for an API; if another process has the port, stop it or choose another in [admin] or [captive_portal]"
    )]
    Bind { address: SocketAddr, source: io::Error },
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} holds no usable PEM of a {kind}", path.display())]
    Pem { path: PathBuf, kind: &'static str },
    #[error("the certificate and key of an API do not work together")]
    Tls(#[from] rustls::Error),
}

impl Listener {
    /// Binds, or goes on with the socket of the process before.
    ///
    /// With certificate and key, TLS is spoken.
    pub(crate) fn bind(
        address: SocketAddr,
        tls: Option<(&Path, &Path)>,
        inherited: Option<OwnedFd>,
    ) -> Result<Self, AdminError> {
        let failed = |source| AdminError::Bind { address, source };
        let tls = tls.map(|(certificate, key)| acceptor(certificate, key)).transpose()?;
        let listener = match inherited {
            Some(socket) => socket.into(),
            None => bound(address).map_err(failed)?,
        };
        listener.set_nonblocking(true).map_err(failed)?;
        let listener = TcpListener::from_std(listener).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, tls })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The socket once more, for a successor.
    pub(crate) fn copy(&self) -> io::Result<OwnedFd> {
        self.listener.as_fd().try_clone_to_owned()
    }

    /// Serves `routes` until `stop`; whoever finds no place is closed.
    pub(crate) async fn serve(self, routes: Router, places: Places, stop: CancellationToken) {
        let tasks = TaskTracker::new();
        while let Some((stream, peer)) = self.accept(&stop).await {
            let Some(place) = places.enter(peer.ip()) else {
                continue; // dropped: closed at once
            };
            let routes = routes.clone().layer(Extension(Peer(peer)));
            let (tls, stop) = (self.tls.clone(), stop.clone());
            tasks.spawn(async move {
                let _place = place;
                match tls {
                    None => speak(stream, routes, stop).await,
                    Some(tls) => {
                        if let Ok(Ok(stream)) = timeout(HANDSHAKE_TIME, tls.accept(stream)).await {
                            speak(stream, routes, stop).await;
                        }
                    }
                }
            });
        }
        tasks.close();
        let _ = timeout(STOP_TIME, tasks.wait()).await;
    }

    /// The next connection; `None` once `stop` is asked for. No error ends the listener.
    async fn accept(&self, stop: &CancellationToken) -> Option<(TcpStream, SocketAddr)> {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return None,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok(accepted) => return Some(accepted),
                Err(error) => {
                    tracing::debug!(%error, "admin accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn speak<S>(stream: S, routes: Router, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIME).max_buf_size(HEADER_MAX);
    let service = TowerToHyperService::new(routes);
    let connection = http.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let served = timeout(CONNECTION_TIME, async {
        tokio::select! {
            served = connection.as_mut() => served,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.as_mut().await
            }
        }
    });
    if let Ok(Err(error)) = served.await {
        tracing::debug!(%error, "admin connection");
    }
}

/// An IPv6 socket takes no IPv4.
fn bound(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor, AdminError> {
    let pem = |path: &Path, kind| AdminError::Pem { path: path.to_owned(), kind };
    let certificates = CertificateDer::pem_reader_iter(open(certificate)?)
        .collect::<Result<Vec<_>, _>>()
        .ok()
        .filter(|chain| !chain.is_empty())
        .ok_or_else(|| pem(certificate, "certificate"))?;
    let key = PrivateKeyDer::from_pem_reader(open(key)?).map_err(|_| pem(key, "private key"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn open(path: &Path) -> Result<BufReader<File>, AdminError> {
    File::open(path)
        .map(BufReader::new)
        .map_err(|source| AdminError::Read { path: path.to_owned(), source })
}

/// Connections the kernel keeps until they are accepted.
const BACKLOG: i32 = 128;
/// Octets of a request's header.
const HEADER_MAX: usize = 16 * 1024;
/// From the first octet of a request's header to its end, and between requests.
const HEADER_TIME: Duration = Duration::from_secs(10);
/// A whole TLS handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(5);
/// A whole connection, with all its requests.
const CONNECTION_TIME: Duration = Duration::from_secs(300);
/// What open connections get to end by themselves at stop.
const STOP_TIME: Duration = Duration::from_secs(2);
/// Without it, running out of descriptors would burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
