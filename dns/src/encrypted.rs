//! DNS over TLS and over HTTPS, by the parts of hickory-server, in our own accept loop.
//!
//! hickory's `Server` would take the listener itself. It bounds neither connections nor the streams
//! of one, spins when descriptors run out, ends with the first aborted connection, does not know
//! the address a subscriber chose, and leaves tasks behind at stop. So the loop, TLS and HTTP/2 with
//! their bounds are here; hickory reads the messages, asks our [`Clerk`] and writes what it says.

mod clerk;
mod https;
mod identity;
mod tls;

use std::{io, net::SocketAddr, sync::Arc};

use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use self::clerk::Clerk;
pub use self::identity::{Identity, InvalidIdentity};
use crate::{
    limits::Limits,
    metrics::{Metrics, RefusedConnection},
    respond::Responder,
};

/// Where to listen with encryption, and as whom.
#[derive(Clone, Debug)]
pub struct Encrypted {
    /// Addresses, each bound on TCP; port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// The certificate and its key.
    pub identity: Identity,
    /// The port that subscribers use, if it is steered here whatever address they choose.
    pub steered_port: Option<u16>,
}

/// What is spoken within TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// DNS messages, each behind its length (RFC 7858).
    Tls,
    /// HTTP/2 (RFC 8484).
    Https,
}

/// The way into an encrypted listener.
#[derive(Clone)]
pub(crate) struct Door {
    acceptor: TlsAcceptor,
    dialect: Dialect,
}

impl Door {
    pub(crate) fn new(identity: &Identity, dialect: Dialect) -> Result<Self, InvalidIdentity> {
        let configuration = identity.configuration(dialect.alpn())?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(configuration)), dialect })
    }
}

/// Answers the questions of one connection until the asker closes it, is idle or `stop`.
pub(crate) async fn serve(
    stream: TcpStream,
    from: SocketAddr,
    door: Door,
    responder: Arc<Responder>,
    limits: Limits,
    stop: CancellationToken,
) {
    let _open = Open::new(&responder);
    let Some((stream, to)) = shake_hands(stream, &door, &responder, limits, &stop).await else {
        return;
    };
    let clerk = Arc::new(Clerk::new(Arc::clone(&responder), to));
    let ended = match door.dialect {
        Dialect::Tls => tls::converse(stream, from, clerk, limits, &stop).await,
        Dialect::Https => https::converse(stream, from, clerk, limits, &stop).await,
    };
    // Whatever ended it, the asker sees it closed; there is nobody to tell more.
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

async fn shake_hands(
    stream: TcpStream,
    door: &Door,
    responder: &Responder,
    limits: Limits,
    stop: &CancellationToken,
) -> Option<(TlsStream<TcpStream>, SocketAddr)> {
    let shaken = async {
        stream.set_nodelay(true)?;
        // Under TPROXY this is the address the subscriber chose.
        let to = stream.local_addr()?;
        let stream = timeout(limits.handshake, door.acceptor.accept(stream)).await??;
        Ok::<_, io::Error>((stream, to))
    };
    let shaken = tokio::select! {
        () = stop.cancelled() => return None,
        shaken = shaken => shaken,
    };
    shaken
        .inspect_err(|error| {
            tracing::debug!(%error, "handshake failed");
            responder.metrics().refused_connection(RefusedConnection::Handshake);
        })
        .ok()
}

impl Dialect {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tls => "TLS",
            Self::Https => "HTTPS",
        }
    }

    /// What TLS calls it (RFC 7858 section 3.1, RFC 9113 section 3.2).
    pub(crate) fn alpn(self) -> &'static [u8] {
        match self {
            Self::Tls => b"dot",
            Self::Https => b"h2",
        }
    }

    /// The port where it is without being told (RFC 7858 section 3.1, RFC 9110 section 4.2.2).
    pub(crate) fn port(self) -> u16 {
        match self {
            Self::Tls => 853,
            Self::Https => 443,
        }
    }
}

/// Counts a connection as long as it is open, however it ends.
pub(crate) struct Open<'a>(&'a Metrics);

impl<'a> Open<'a> {
    pub(crate) fn new(responder: &'a Responder) -> Self {
        responder.metrics().connections().inc();
        Self(responder.metrics())
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.connections().dec();
    }
}
