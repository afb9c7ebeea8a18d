//! UDP sockets that share one address, and the way each answer goes back.
//!
//! A socket on a wildcard address would answer from whatever address the route prefers, and the
//! asker would throw the answer away.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    sync::{Arc, Mutex, PoisonError},
};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Type};

use super::replies::Replies;
use crate::{bind::BindError, transparent::make_transparent};

/// A bound socket, one of those among which the kernel shares the questions to an address out.
#[derive(Debug)]
pub(crate) struct Socket {
    socket: UdpSocket,
    local: SocketAddr,
    replies: Option<Arc<Mutex<Replies>>>,
}

/// The way a datagram came, and its answer goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Path {
    /// Where it came in, and the answer goes out.
    pub(super) door: Door,
    pub(crate) from: SocketAddr,
}

/// Where a datagram came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Door {
    /// The address it was sent to.
    pub(super) to: SocketAddr,
    /// The interface; only link-local addresses need it.
    pub(super) interface: u32,
}

/// How the source of an answer is set.
pub(super) enum Source {
    /// The socket has no other.
    Bound,
    /// By the address that was asked, which is one of ours.
    Chosen,
    /// By a socket of that address.
    Reply(Arc<UdpSocket>),
}

impl Socket {
    /// Binds `count` sockets to `address`, on `interface` only if it is given; or goes on with those
    /// that are `inherited`, all of them: questions may wait in each.
    pub(crate) fn bind(
        address: SocketAddr,
        interface: Option<&str>,
        transparent: bool,
        count: usize,
        inherited: Vec<OwnedFd>,
    ) -> Result<Vec<Self>, BindError> {
        let failed = |error: io::Error| BindError::Udp { address, source: Arc::new(error) };
        let replies = transparent.then(|| Arc::new(Mutex::new(Replies::new())));
        let mut sockets: Vec<Self> = Vec::new();
        for socket in inherited {
            let socket = UdpSocket::from(socket);
            let local = socket.local_addr().map_err(failed)?;
            sockets.push(Self { socket, local, replies: replies.clone() });
        }
        let missing = if sockets.is_empty() { count.max(1) } else { 0 };
        for _ in 0..missing {
            let socket = open(address).map_err(failed)?;
            if transparent {
                stand_in(&socket, address)
                    .map_err(|error| BindError::Transparent { address, source: Arc::new(error) })?;
            }
            let first = sockets.first().map(|first| first.local);
            prepare(&socket, address, interface, transparent)
                .and_then(|()| join(&socket, address, first))
                .map_err(failed)?;
            let local = socket.local_addr().map_err(failed)?;
            let local =
                local.as_socket().ok_or_else(|| failed(io::ErrorKind::InvalidData.into()))?;
            sockets.push(Self { socket: socket.into(), local, replies: replies.clone() });
        }
        Ok(sockets)
    }

    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Whether each datagram must say where it was sent.
    pub(super) fn has_many_doors(&self) -> bool {
        self.replies.is_some() || self.local.ip().is_unspecified()
    }

    /// How answers to what came in by `door` get their source.
    pub(super) fn source(&self, door: Door) -> io::Result<Source> {
        match &self.replies {
            Some(replies) if door.to.port() != self.local.port() => replies
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .from(door.to, super::replies::open)
                .map(Source::Reply),
            Some(_) => Ok(Source::Chosen),
            None if self.has_many_doors() => Ok(Source::Chosen),
            None => Ok(Source::Bound),
        }
    }
}

/// A socket that is not bound yet.
pub(super) fn open(address: SocketAddr) -> io::Result<socket2::Socket> {
    let socket =
        socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// Lets `socket` have an address that is not the host's, beside the listener's own socket.
pub(super) fn stand_in(socket: &socket2::Socket, address: SocketAddr) -> io::Result<()> {
    make_transparent(socket, address)?;
    // An address that was asked may be bound on the listener's port by its wildcard.
    socket.set_reuse_address(true)
}

fn prepare(
    socket: &socket2::Socket,
    address: SocketAddr,
    interface: Option<&str>,
    transparent: bool,
) -> io::Result<()> {
    socket.bind_device(interface.map(str::as_bytes))?;
    match (address, transparent) {
        (SocketAddr::V4(_), true) => setsockopt(socket, sockopt::Ipv4OrigDstAddr, &true)?,
        (SocketAddr::V6(_), true) => setsockopt(socket, sockopt::Ipv6OrigDstAddr, &true)?,
        (SocketAddr::V4(_) | SocketAddr::V6(_), false) => {}
    }
    if transparent || address.ip().is_unspecified() {
        match address {
            SocketAddr::V4(_) => setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?,
            SocketAddr::V6(_) => setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?,
        }
    }
    // As much as the node allows: a burst should wait, not be lost.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    socket.set_read_timeout(Some(GLANCE))
}

/// Binds a socket to `address`, or to that of the first one.
///
/// The first one is bound alone, so that a port that is taken is noticed, and shares it from then on.
fn join(
    socket: &socket2::Socket,
    address: SocketAddr,
    first: Option<SocketAddr>,
) -> io::Result<()> {
    match first {
        None => {
            socket.bind(&address.into())?;
            socket.set_reuse_port(true)
        }
        Some(first) => {
            socket.set_reuse_port(true)?;
            socket.bind(&first.into())
        }
    }
}

/// Octets the kernel may hold for a socket.
const RECEIVE_BUFFER: usize = 4 << 20;
/// How long a thread waits for questions before it looks whether it should stop.
const GLANCE: std::time::Duration = std::time::Duration::from_millis(100);
