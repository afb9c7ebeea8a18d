//! UDP sockets of QUIC paths: where they begin, and one each way for the rest of their life.
//!
//! The socket towards a subscriber is bound to the address it sent to and connected to its own, so
//! that the kernel pins the path: no datagram of another address or port ever arrives there.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    cmsg_space, libc,
    sys::socket::{
        ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage, recvmsg,
        setsockopt, sockopt,
    },
};
use socket2::{Domain, Protocol as Transport, SockRef, Socket, Type};
use tokio::{io::Interest, net::UdpSocket};

use crate::proxy::{
    Protocol, Steering,
    listener::{BindError, refused},
};

/// One bound address: a socket or more for each worker, among which the kernel spreads paths.
pub(in crate::proxy) struct Listener {
    sockets: Vec<std::net::UdpSocket>,
    address: SocketAddr,
    mode: Steering,
}

/// One worker's socket of a listener, on which paths begin.
pub(in crate::proxy) struct Door {
    socket: UdpSocket,
    mode: Steering,
}

/// The first datagram of a path, in a buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) length: usize,
    pub(super) path: Path,
}

/// Between whom a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Path {
    /// The subscriber.
    pub(super) from: SocketAddr,
    /// Where it sent to: its choice under TPROXY, else an address of ours.
    pub(super) to: SocketAddr,
}

impl Listener {
    /// Binds `address`, with a socket for each of `workers`; or goes on with the sockets of the
    /// process before, all of them: datagrams may wait in each.
    pub(in crate::proxy) fn bind(
        address: SocketAddr,
        mode: Steering,
        workers: usize,
        inherited: Vec<OwnedFd>,
    ) -> Result<Self, BindError> {
        let bound = || -> io::Result<Self> {
            if address.port() != 0 && inherited.is_empty() {
                // A second gateway would take half of the paths unnoticed.
                open(address, mode)?.bind(&address.into())?;
            }
            let mut sockets: Vec<_> =
                inherited.into_iter().map(std::net::UdpSocket::from).collect();
            let mut address = match sockets.first() {
                Some(socket) => socket.local_addr()?,
                None => address,
            };
            while sockets.len() < workers.max(1) {
                let socket = listen(address, mode)?;
                // Port 0 is any port for the first, and that port for the others.
                address = socket.local_addr()?;
                sockets.push(socket);
            }
            Ok(Self { sockets, address, mode })
        };
        bound().map_err(|error| refused(error, Protocol::Quic, address))
    }

    pub(in crate::proxy) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The sockets, at least one for each worker.
    pub(in crate::proxy) fn sockets(&self) -> &[std::net::UdpSocket] {
        &self.sockets
    }

    /// Registers the sockets of one of `workers` with the runtime it runs in.
    pub(in crate::proxy) fn doors(&self, worker: usize, workers: usize) -> io::Result<Vec<Door>> {
        let own = self.sockets.iter().skip(worker).step_by(workers.max(1));
        own.map(|socket| {
            let socket = UdpSocket::from_std(socket.try_clone()?)?;
            Ok(Door { socket, mode: self.mode })
        })
        .collect()
    }
}

impl Door {
    /// Whether a path's second address is one that the subscriber chose.
    pub(super) fn knows_destinations(&self) -> bool {
        self.mode == Steering::Tproxy
    }

    /// Waits for a datagram; those that do not fit are skipped. Cancel-safe.
    pub(super) async fn receive(&self, buffer: &mut [u8]) -> io::Result<Arrival> {
        let descriptor = self.socket.as_raw_fd();
        loop {
            let received =
                self.socket.async_io(Interest::READABLE, || receive(descriptor, buffer)).await?;
            if let Some(arrival) = received {
                return Ok(arrival);
            }
        }
    }

    /// The socket that a path goes on with, towards its subscriber.
    pub(super) fn near(&self, path: Path) -> io::Result<UdpSocket> {
        let socket = open(path.to, self.mode)?;
        share(&socket, self.mode)?;
        socket.bind(&path.to.into())?;
        socket.connect(&path.from.into())?;
        UdpSocket::from_std(socket.into())
    }
}

/// A socket on which paths begin.
fn listen(address: SocketAddr, mode: Steering) -> io::Result<std::net::UdpSocket> {
    let socket = open(address, mode)?;
    socket.set_reuse_port(true)?;
    share(&socket, mode)?;
    match address {
        SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4OrigDstAddr, &true)?,
        SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6OrigDstAddr, &true)?,
    }
    socket.bind(&address.into())?;
    // As much as the node allows: a burst should wait, not be lost.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    Ok(socket.into())
}

/// Sends a datagram on a connected socket at once, whether the runtime knows of the socket yet or
/// not; says how many octets went out. Without room a datagram is lost, as on any network, and other
/// errors are read with the next datagram.
pub(super) fn send(socket: &UdpSocket, datagram: &[u8]) -> usize {
    SockRef::from(socket).send(datagram).unwrap_or_default()
}

fn open(address: SocketAddr, mode: Steering) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Transport::UDP))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if mode == Steering::Tproxy {
        dns::make_transparent(&socket, address)?;
    }
    Ok(socket)
}

/// Lets sockets stand beside each other on one address: those of the paths to one origin, or, where
/// nothing is steered, those of all paths and the door.
fn share(socket: &Socket, mode: Steering) -> io::Result<()> {
    match mode {
        Steering::Tproxy => socket.set_reuse_address(true),
        Steering::Redirect | Steering::None => socket.set_reuse_port(true),
    }
}

/// `None` for a datagram that is of no use: it was cut, or nobody knows whence or where to.
#[expect(clippy::wildcard_enum_match_arm, reason = "an open enum; nothing else was asked for")]
fn receive(descriptor: i32, buffer: &mut [u8]) -> io::Result<Option<Arrival>> {
    let mut control = cmsg_space!(libc::sockaddr_in6);
    let mut parts = [io::IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let received = recvmsg::<SockaddrStorage>(descriptor, &mut parts, Some(&mut control), flags)?;
    let to = received.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::Ipv4OrigDstAddr(address) => {
            Some(SocketAddr::V4(SockaddrIn::from(address).into()))
        }
        ControlMessageOwned::Ipv6OrigDstAddr(address) => {
            Some(SocketAddr::V6(SockaddrIn6::from(address).into()))
        }
        _ => None,
    });
    let from = received.address.and_then(|address| {
        let v4 = address.as_sockaddr_in().map(|found| SocketAddr::V4((*found).into()));
        v4.or_else(|| address.as_sockaddr_in6().map(|found| SocketAddr::V6((*found).into())))
    });
    let (Some(from), Some(to), false) = (from, to, received.flags.contains(MsgFlags::MSG_TRUNC))
    else {
        return Ok(None);
    };
    Ok(Some(Arrival { length: received.bytes, path: Path { from, to } }))
}

/// Octets the kernel may hold for a door.
const RECEIVE_BUFFER: usize = 4 << 20;
