//! The servers of the emulated Internet. Each listens on every port for every host, so that
//! whatever the garden should have refused would be answered, and says in a header who answered.

use std::{net::SocketAddr, sync::Arc};

use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    header::{ALT_SVC, CONTENT_TYPE, HOST},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rustls::{ServerConfig, server::Acceptor};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::{self, AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinSet,
};
use tokio_rustls::LazyConfigAcceptor;

use crate::{authority::Authority, family::Family, hits::Hits, places::places};

mod pages;

pub(crate) use pages::UNANSWERED;
pub use pages::octets;

/// Header that names the host whose server answered.
pub(crate) const HOST_HEADER: &str = "x-lab-host";
/// Header with the address and port the request came in on.
pub(crate) const ADDRESS_HEADER: &str = "x-lab-address";

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speech {
    /// HTTP/1.1.
    Http,
    /// HTTP/1.1 in TLS.
    Https,
    /// Takes the connection, says nothing and closes.
    Silence,
}

/// All servers of one world.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    authority: Arc<Authority>,
    tls: Arc<ServerConfig>,
    hits: Hits,
}

impl Origin {
    pub(crate) fn new(authority: Arc<Authority>, hits: Hits) -> Self {
        let tls = authority.server();
        Self { authority, tls, hits }
    }

    /// Accepts for ever.
    pub(crate) async fn serve(self, listener: TcpListener, speech: Speech) {
        let mut sessions = JoinSet::new();
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                continue;
            };
            let Ok(local) = stream.local_addr() else {
                continue;
            };
            self.hits.connection(local);
            let origin = self.clone();
            sessions.spawn(async move {
                // A session that breaks is the client's affair; it sees its own error.
                let _ = match speech {
                    Speech::Http => origin.speak(stream, local).await,
                    Speech::Https => origin.speak_tls(stream, local).await,
                    Speech::Silence => Ok(()),
                };
            });
            while sessions.try_join_next().is_some() {}
        }
    }

    /// Echoes datagrams for ever: whoever reaches it gets an answer.
    pub(crate) async fn echo(self, socket: UdpSocket, local: SocketAddr) {
        let mut buffer = [0; 2048];
        loop {
            if let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
                self.hits.connection(local);
                let _ = socket.send_to(buffer.get(..length).unwrap_or_default(), peer).await;
            }
        }
    }

    async fn speak_tls(self, stream: TcpStream, local: SocketAddr) -> io::Result<()> {
        let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        if let Some(name) = start.client_hello().server_name() {
            self.hits.hello(name);
        }
        let stream = start.into_stream(Arc::clone(&self.tls)).await?;
        self.speak(stream, local).await
    }

    async fn speak<S>(self, stream: S, local: SocketAddr) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(move |request| {
            let origin = self.clone();
            async move { origin.answer(request, local).await }
        });
        hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .await
            .map_err(io::Error::other)
    }

    async fn answer(
        self,
        request: Request<Incoming>,
        local: SocketAddr,
    ) -> Result<Response<Full<Bytes>>, hyper::Error> {
        let asked = request.headers().get(HOST).and_then(|host| host.to_str().ok());
        let asked = asked.unwrap_or_default().to_owned();
        let asked = asked.split(':').next().unwrap_or_default();
        self.hits.request(asked);
        if request.uri().path() == UNANSWERED {
            std::future::pending::<()>().await;
        }
        let host = resident(asked, local);
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let page = pages::page(host, &parts, &body, self.authority.crl());
        let response = Response::builder()
            .status(page.status)
            .header(CONTENT_TYPE, page.kind)
            .header(HOST_HEADER, host)
            .header(ADDRESS_HEADER, local.to_string())
            // As the real ones do; nothing of the lab speaks HTTP/3.
            .header(ALT_SVC, "h3=\":443\"")
            .body(Full::from(page.body))
            .expect("our own headers are well formed");
        Ok(response)
    }
}

/// Who lives at this address: the host asked for if it does, else whoever does.
fn resident(asked: &str, local: SocketAddr) -> &'static str {
    let ip = local.ip().to_canonical();
    let here = |place: &crate::places::Place| {
        ip.is_loopback() || Family::BOTH.into_iter().any(|family| place.address(family) == ip)
    };
    places()
        .filter(here)
        .find(|place| place.name.eq_ignore_ascii_case(asked))
        .or_else(|| places().find(here))
        .map_or("nobody", |place| place.name)
}

/// Listens on one address; an IPv6 socket takes IPv6 only.
///
/// # Errors
/// When the address is taken or not ours.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

const BACKLOG: i32 = 1024;
