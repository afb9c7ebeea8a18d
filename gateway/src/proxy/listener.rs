//! The listening sockets, and what the kernel knows of an accepted connection.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsRawFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use nix::sys::socket::{getsockopt, sockopt};
use rustix::net::{SocketFlags, acceptfrom_with, sockopt::set_tcp_quickack};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::unix::AsyncFd;

use super::{Protocol, Steering};

/// One bound address: a socket or more for each worker, among which the kernel spreads connections.
pub(super) struct Listener {
    sockets: Vec<Arc<TcpListener>>,
    address: SocketAddr,
    protocol: Protocol,
    mode: Steering,
}

/// One worker's socket of a listener, registered with that worker's runtime.
pub(super) struct Door {
    socket: AsyncFd<Arc<TcpListener>>,
    address: SocketAddr,
    protocol: Protocol,
    mode: Steering,
}

/// One accepted connection, registered with no runtime yet.
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
    /// Binds and listens, with a socket for each of `workers`; or goes on with the sockets of the
    /// process before, all of them: connections may wait in each.
    pub(super) fn bind(
        protocol: Protocol,
        address: SocketAddr,
        mode: Steering,
        workers: usize,
        inherited: Vec<OwnedFd>,
    ) -> Result<Self, BindError> {
        let failed = |source| BindError::Socket { address, protocol, source };
        if address.port() != 0 && inherited.is_empty() {
            // With SO_REUSEPORT a second gateway would take every other session unnoticed.
            probe(address, mode).map_err(|error| refused(error, protocol, address))?;
        }
        let mut sockets: Vec<_> =
            inherited.into_iter().map(|socket| Arc::new(TcpListener::from(socket))).collect();
        let mut bound = match sockets.first() {
            Some(socket) => socket.local_addr().map_err(failed)?,
            None => address,
        };
        while sockets.len() < workers.max(1) {
            let socket = listen(protocol, bound, mode)?;
            // Port 0 is any port for the first, and that port for the others.
            bound = socket.local_addr().map_err(failed)?;
            sockets.push(Arc::new(socket));
        }
        Ok(Self { sockets, address: bound, protocol, mode })
    }

    /// The bound address.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What is spoken on it.
    pub(super) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The sockets, at least one for each worker.
    pub(super) fn sockets(&self) -> &[Arc<TcpListener>] {
        &self.sockets
    }

    /// Registers the sockets of one of `workers` with the runtime it runs in.
    pub(super) fn doors(&self, worker: usize, workers: usize) -> io::Result<Vec<Door>> {
        let Self { address, protocol, mode, .. } = *self;
        let own = self.sockets.iter().skip(worker).step_by(workers.max(1));
        own.map(|socket| {
            #[expect(
                deprecated,
                reason = "the descriptor lives as long as what is registered; the other way in \
                          would be unsafe code"
            )]
            let socket = AsyncFd::new(Arc::clone(socket))?;
            Ok(Door { socket, address, protocol, mode })
        })
        .collect()
    }
}

impl Door {
    /// What is spoken on it.
    pub(super) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Waits until there are connections, and gives each to `take`; says whether there were more
    /// than it takes at once. Cancel-safe.
    ///
    /// # Errors
    ///
    /// Tells a connection that failed from a listener that does: only the second is worth a pause.
    pub(super) async fn accept(&self, mut take: impl FnMut(Accepted)) -> Result<bool, AcceptError> {
        let mut ready = self.socket.readable().await.map_err(AcceptError::Listener)?;
        for _ in 0..BURST {
            let Ok(accepted) = ready.try_io(|socket| accept(socket.get_ref())) else {
                return Ok(false);
            };
            let (stream, peer) = accepted.map_err(|error| {
                let kinds = [io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset];
                if kinds.contains(&error.kind()) {
                    AcceptError::Connection(error)
                } else {
                    AcceptError::Listener(error)
                }
            })?;
            let destination = self.destination(&stream).map_err(AcceptError::Connection)?;
            take(Accepted {
                subscriber: peer.ip().to_canonical(),
                port: destination.map_or_else(|| self.protocol.default_port(), |to| to.port()),
                destination,
                stream,
            });
        }
        Ok(true)
    }

    fn destination(&self, stream: &TcpStream) -> io::Result<Option<SocketAddr>> {
        match self.mode {
            Steering::Tproxy => stream.local_addr().map(Some),
            Steering::Redirect => redirected(stream, self.address).map(Some),
            Steering::None => Ok(None),
        }
    }
}

/// One connection, in one system call.
fn accept(socket: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (stream, peer) = acceptfrom_with(socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    // The kernel gives no address for a peer that is gone already.
    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
    Ok((stream.into(), peer.ok_or(io::ErrorKind::ConnectionAborted)?))
}

/// Closes `stream` by a reset, so that the peer learns of it at once.
pub(super) fn reset(stream: TcpStream) {
    // A socket that cannot be told so is closed anyway.
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    drop(stream);
}

fn listen(
    protocol: Protocol,
    address: SocketAddr,
    mode: Steering,
) -> Result<TcpListener, BindError> {
    let failed = |source| BindError::Socket { address, protocol, source };
    let socket = open(address, mode).map_err(|error| refused(error, protocol, address))?;
    socket.set_reuse_port(true).map_err(failed)?;
    // Accepted connections inherit it. Each write is a whole message of a peer; waiting for more
    // would only add delay.
    socket.set_tcp_nodelay(true).map_err(failed)?;
    socket.bind(&address.into()).map_err(|error| refused(error, protocol, address))?;
    socket.listen(BACKLOG).map_err(failed)?;
    // So is this one, but only from here on: the answer acknowledges the hello with it, a packet less
    // (tcp(7)).
    let _ = set_tcp_quickack(&socket, false);
    let (level, option) = (nix::libc::IPPROTO_TCP, nix::libc::TCP_DEFER_ACCEPT);
    // Where the kernel cannot do so, connections are merely accepted sooner.
    let _ = uapi::setsockopt(socket.as_raw_fd(), level, option, &SILENCE);
    socket.set_nonblocking(true).map_err(failed)?;
    Ok(socket.into())
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
        dns::make_transparent(&socket, address)?;
    }
    Ok(socket)
}

/// Names the cause and the cure.
pub(super) fn refused(source: io::Error, protocol: Protocol, address: SocketAddr) -> BindError {
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

/// Seconds for which a connection stays with the kernel, as a request, until the client has said
/// something (tcp(7), TCP_DEFER_ACCEPT). All that we serve begins with the client: it is accepted
/// with its hello at hand, and whoever connects and is silent costs nothing here for that long.
const SILENCE: i32 = 1;
/// Connections the kernel keeps for us until they are accepted; `net.core.somaxconn` caps it.
const BACKLOG: i32 = 4096;
/// Connections accepted before the sessions that are open get a turn.
const BURST: usize = 64;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn whoever_says_nothing_is_accepted_after_whoever_does() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let socket = listen(Protocol::Https, any.parse().unwrap(), Steering::None).unwrap();
            let address = socket.local_addr().unwrap();
            let silent = TcpStream::connect(address).unwrap();
            let mut speaks = TcpStream::connect(address).unwrap();
            speaks.write_all(b"hello").unwrap();
            socket.set_nonblocking(false).unwrap();
            let (_, first) = accept(&socket).unwrap();
            assert_eq!(first, speaks.local_addr().unwrap());
            let (_, second) = accept(&socket).unwrap();
            assert_eq!(second, silent.local_addr().unwrap());
        }
    }
}
