//! The listening sockets, and what the kernel knows of an accepted connection.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use nix::sys::socket::{getsockopt, sockopt};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use super::{Protocol, Steering};

/// One bound socket.
pub(super) struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    protocol: Protocol,
    mode: Steering,
}

/// One accepted connection.
pub(super) struct Accepted {
    pub(super) stream: TcpStream,
    /// Whom it came from.
    pub(super) subscriber: IpAddr,
    /// Where the subscriber wanted to go, where the kernel knows it.
    pub(super) destination: Option<SocketAddr>,
    /// The port the subscriber connected to.
    pub(super) port: u16,
}

/// Why there is no accepted connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum AcceptError {
    /// The connection was gone, or not steered here, before it could be asked about.
    #[error("the connection is of no use: {0}")]
    Connection(#[source] io::Error),
    /// The kernel gives no more connections for now; usually out of descriptors.
    #[error("no connection can be accepted: {0}")]
    Listener(#[source] io::Error),
}

/// Why a listener cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    /// Another process holds the port.
    #[error(
        "cannot listen on {address} for {protocol}: another process has the port; stop it, or \
         choose another port in [proxy]",
        protocol = protocol.label()
    )]
    Taken {
        /// The address asked for.
        address: SocketAddr,
        /// What was to be spoken there.
        protocol: Protocol,
    },
    /// The right for a transparent socket is missing.
    #[error(
        "cannot listen on {address} for {protocol}: a transparent socket (steering mode tproxy) \
         needs CAP_NET_ADMIN; grant it (systemd: AmbientCapabilities=CAP_NET_ADMIN), or set \
         [steering] mode to redirect or none",
        protocol = protocol.label()
    )]
    NotTransparent {
        /// The address asked for.
        address: SocketAddr,
        /// What was to be spoken there.
        protocol: Protocol,
    },
    /// The port needs a right that is missing.
    #[error(
        "cannot listen on {address} for {protocol}: ports below 1024 need CAP_NET_BIND_SERVICE; \
         grant it, or choose a higher port in [proxy]",
        protocol = protocol.label()
    )]
    NotPermitted {
        /// The address asked for.
        address: SocketAddr,
        /// What was to be spoken there.
        protocol: Protocol,
    },
    /// The kernel refused for another cause.
    #[error("cannot listen on {address} for {protocol}: {source}", protocol = protocol.label())]
    Socket {
        /// The address asked for.
        address: SocketAddr,
        /// What was to be spoken there.
        protocol: Protocol,
        /// The kernel's word.
        source: io::Error,
    },
}

impl Listener {
    /// Binds and listens.
    pub(super) fn bind(
        protocol: Protocol,
        address: SocketAddr,
        mode: Steering,
    ) -> Result<Self, BindError> {
        let failed = |source| BindError::Socket { address, protocol, source };
        if address.port() != 0 {
            // With SO_REUSEPORT a second gateway would take every other session unnoticed.
            probe(address, mode).map_err(|error| refused(error, protocol, address))?;
        }
        let socket = open(address, mode).map_err(|error| refused(error, protocol, address))?;
        socket.set_reuse_port(true).map_err(failed)?;
        socket.bind(&address.into()).map_err(|error| refused(error, protocol, address))?;
        socket.listen(BACKLOG).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        let socket = TcpListener::from_std(socket.into()).map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Self { socket, address, protocol, mode })
    }

    /// The bound address.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What is spoken on it.
    pub(super) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Accepts one connection. Cancel-safe.
    ///
    /// # Errors
    ///
    /// Tells a connection that failed from a listener that does: only the second is worth a pause.
    pub(super) async fn accept(&self) -> Result<Accepted, AcceptError> {
        let (stream, peer) = self.socket.accept().await.map_err(|error| {
            let kinds = [io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset];
            if kinds.contains(&error.kind()) {
                AcceptError::Connection(error)
            } else {
                AcceptError::Listener(error)
            }
        })?;
        let destination = self.destination(&stream).map_err(AcceptError::Connection)?;
        Ok(Accepted {
            subscriber: peer.ip().to_canonical(),
            port: destination.map_or_else(|| self.protocol.default_port(), |to| to.port()),
            destination,
            stream,
        })
    }

    fn destination(&self, stream: &TcpStream) -> io::Result<Option<SocketAddr>> {
        // Each write is a whole message of the peer; waiting for more would only add delay.
        stream.set_nodelay(true)?;
        match self.mode {
            Steering::Tproxy => stream.local_addr().map(Some),
            Steering::Redirect => redirected(stream, self.address).map(Some),
            Steering::None => Ok(None),
        }
    }
}

/// Closes `stream` by a reset, so that the peer learns of it at once.
pub(super) fn reset(stream: TcpStream) {
    // A socket that cannot be told so is closed anyway.
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    drop(stream);
}

fn probe(address: SocketAddr, mode: Steering) -> io::Result<()> {
    open(address, mode)?.bind(&address.into())
}

fn open(address: SocketAddr, mode: Steering) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if mode == Steering::Tproxy {
        match address {
            SocketAddr::V4(_) => socket.set_ip_transparent_v4(true),
            SocketAddr::V6(_) => socket.set_ip_transparent_v6(true),
        }?;
    }
    Ok(socket)
}

/// Names the cause and the cure.
fn refused(source: io::Error, protocol: Protocol, address: SocketAddr) -> BindError {
    if source.raw_os_error() == Some(nix::libc::EPERM) {
        BindError::NotTransparent { address, protocol }
    } else if source.kind() == io::ErrorKind::AddrInUse {
        BindError::Taken { address, protocol }
    } else if source.kind() == io::ErrorKind::PermissionDenied {
        BindError::NotPermitted { address, protocol }
    } else {
        BindError::Socket { address, protocol, source }
    }
}

/// The destination before `redirect` changed it (netfilter's SO_ORIGINAL_DST).
fn redirected(stream: &TcpStream, listener: SocketAddr) -> io::Result<SocketAddr> {
    match listener {
        SocketAddr::V4(_) => {
            let found = getsockopt(stream, sockopt::OriginalDst)?;
            let address = u32::from_be(found.sin_addr.s_addr).into();
            Ok(SocketAddr::new(IpAddr::V4(address), u16::from_be(found.sin_port)))
        }
        SocketAddr::V6(_) => {
            let found = getsockopt(stream, sockopt::Ip6tOriginalDst)?;
            let address = found.sin6_addr.s6_addr.into();
            Ok(SocketAddr::new(IpAddr::V6(address), u16::from_be(found.sin6_port)))
        }
    }
}

/// Connections the kernel keeps for us until they are accepted; `net.core.somaxconn` caps it.
const BACKLOG: i32 = 4096;
