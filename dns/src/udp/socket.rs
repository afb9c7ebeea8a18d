//! A UDP socket that knows where each datagram was sent, and answers from there.
//!
//! A socket on a wildcard address would otherwise answer from whatever address the route prefers,
//! and the asker would throw the answer away.

use std::{
    collections::HashMap,
    io::{self, IoSlice, IoSliceMut},
    net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::{AsRawFd, RawFd},
    sync::{Arc, Mutex, PoisonError},
};

use nix::{
    cmsg_space, libc,
    sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage,
        recvmsg, sendmsg, setsockopt, sockopt,
    },
};
use socket2::{Domain, Protocol, Type};
use tokio::{io::Interest, net::UdpSocket};

use crate::bind::BindError;

/// A bound socket.
#[derive(Debug)]
pub(crate) struct Socket {
    socket: UdpSocket,
    local: SocketAddr,
    transparent: Option<Mutex<Replies>>,
}

/// One datagram in a buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Datagram {
    length: usize,
    is_whole: bool,
    pub(crate) path: Path,
}

/// The way a datagram came, and its answer goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) from: SocketAddr,
    /// The address it was sent to.
    pub(crate) to: Option<SocketAddr>,
    /// The interface it came in by; only link-local addresses need it.
    interface: u32,
}

/// Sockets for the answers to steered questions: one for each address that was asked, because an
/// answer must come from there and from port 53, on which nobody listens.
///
/// Steering finds the listener by its port and never these, unless they shared it.
#[derive(Debug)]
struct Replies {
    sockets: HashMap<SocketAddr, (Arc<std::net::UdpSocket>, u64)>,
    uses: u64,
}

impl Socket {
    pub(crate) fn bind(address: SocketAddr, transparent: bool) -> Result<Self, BindError> {
        let failed = |error: io::Error| BindError::Udp { address, source: Arc::new(error) };
        let socket = open(address).map_err(failed)?;
        if transparent {
            let refused =
                |error: io::Error| BindError::Transparent { address, source: Arc::new(error) };
            make_transparent(&socket, address).map_err(refused)?;
        }
        let wish = || -> io::Result<()> {
            match (address, transparent) {
                (SocketAddr::V4(_), true) => setsockopt(&socket, sockopt::Ipv4OrigDstAddr, &true)?,
                (SocketAddr::V6(_), true) => setsockopt(&socket, sockopt::Ipv6OrigDstAddr, &true)?,
                _ => {}
            }
            match address {
                SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
                SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
            }
            socket.bind(&address.into())
        };
        wish().map_err(failed)?;
        // As much as the node allows: a burst should wait, not be lost.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
        let socket = UdpSocket::from_std(socket.into()).map_err(failed)?;
        let local = socket.local_addr().map_err(failed)?;
        let transparent = transparent.then(|| Mutex::new(Replies::new()));
        Ok(Self { socket, local, transparent })
    }

    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }

    /// Waits for a datagram. Nothing is lost if the wait is given up.
    pub(crate) async fn receive(&self, buffer: &mut [u8]) -> io::Result<Datagram> {
        let descriptor = self.socket.as_raw_fd();
        let port = self.local.port();
        self.socket.async_io(Interest::READABLE, || receive(descriptor, buffer, port)).await
    }

    /// Sends an answer back the way the question came, or gives up if the kernel has no room.
    pub(crate) fn send(&self, answer: &[u8], path: Path) -> io::Result<()> {
        match (&self.transparent, path.to) {
            (Some(replies), Some(to)) if to.port() != self.local.port() => {
                let socket =
                    replies.lock().unwrap_or_else(PoisonError::into_inner).from(to, reply)?;
                socket.send_to(answer, path.from).map(drop)
            }
            _ => send(self.socket.as_raw_fd(), answer, path),
        }
    }
}

impl Datagram {
    /// The message in `buffer`; `None` if it was cut because it was longer.
    pub(crate) fn message<'b>(&self, buffer: &'b [u8]) -> Option<&'b [u8]> {
        buffer.get(..self.length).filter(|_| self.is_whole)
    }
}

impl Replies {
    fn new() -> Self {
        Self { sockets: HashMap::new(), uses: 0 }
    }

    fn from(
        &mut self,
        address: SocketAddr,
        open: impl FnOnce(SocketAddr) -> io::Result<std::net::UdpSocket>,
    ) -> io::Result<Arc<std::net::UdpSocket>> {
        self.uses += 1;
        if let Some((socket, used)) = self.sockets.get_mut(&address) {
            *used = self.uses;
            return Ok(Arc::clone(socket));
        }
        if self.sockets.len() >= MAX_REPLIES {
            let oldest = self.sockets.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(oldest) = oldest.map(|(address, _)| *address) {
                self.sockets.remove(&oldest);
            }
        }
        let socket = Arc::new(open(address)?);
        self.sockets.insert(address, (Arc::clone(&socket), self.uses));
        Ok(socket)
    }
}

/// A socket that only sends, from an address that need not be ours.
fn reply(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = open(address)?;
    make_transparent(&socket, address)?;
    // Nothing is ever read from it.
    socket.set_recv_buffer_size(0)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn open(address: SocketAddr) -> io::Result<socket2::Socket> {
    let socket =
        socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn make_transparent(socket: &socket2::Socket, address: SocketAddr) -> io::Result<()> {
    match address {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
        SocketAddr::V6(_) => socket.set_ip_transparent_v6(true)?,
    }
    // An address that was asked may be bound on the listener's port by its wildcard.
    socket.set_reuse_address(true)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "an open enum; nothing else was asked for")]
fn receive(descriptor: RawFd, buffer: &mut [u8], port: u16) -> io::Result<Datagram> {
    let mut control = cmsg_space!(libc::in6_pktinfo, libc::sockaddr_in6);
    let mut parts = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let received = recvmsg::<SockaddrStorage>(descriptor, &mut parts, Some(&mut control), flags)?;
    let from = received.address.and_then(socket_address).ok_or(io::ErrorKind::InvalidData)?;
    let (mut arrived_at, mut sent_to, mut interface) = (None, None, 0);
    for message in received.cmsgs()? {
        match message {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                let octets = info.ipi_addr.s_addr.to_ne_bytes();
                arrived_at = Some(SocketAddr::new(IpAddr::from(octets), port));
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                arrived_at = Some(SocketAddr::new(IpAddr::from(info.ipi6_addr.s6_addr), port));
                interface = info.ipi6_ifindex;
            }
            ControlMessageOwned::Ipv4OrigDstAddr(address) => {
                sent_to = Some(SocketAddr::V4(SockaddrIn::from(address).into()));
            }
            ControlMessageOwned::Ipv6OrigDstAddr(address) => {
                sent_to = Some(SocketAddr::V6(SockaddrIn6::from(address).into()));
            }
            _ => {}
        }
    }
    Ok(Datagram {
        length: received.bytes,
        is_whole: !received.flags.contains(MsgFlags::MSG_TRUNC),
        path: Path { from, to: sent_to.or(arrived_at), interface },
    })
}

fn send(descriptor: RawFd, answer: &[u8], path: Path) -> io::Result<()> {
    let parts = [IoSlice::new(answer)];
    let flags = MsgFlags::MSG_DONTWAIT;
    match (path.from, path.to.map(|to| to.ip())) {
        (SocketAddr::V4(from), Some(IpAddr::V4(to))) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(to.octets()) },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            let control = [ControlMessage::Ipv4PacketInfo(&info)];
            sendmsg(descriptor, &parts, &control, flags, Some(&SockaddrIn::from(from)))?;
        }
        (SocketAddr::V6(from), Some(IpAddr::V6(to))) => {
            let link_local = to.is_unicast_link_local();
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr { s6_addr: to.octets() },
                ipi6_ifindex: if link_local { path.interface } else { 0 },
            };
            let control = [ControlMessage::Ipv6PacketInfo(&info)];
            sendmsg(descriptor, &parts, &control, flags, Some(&SockaddrIn6::from(from)))?;
        }
        (from, _) => {
            sendmsg(descriptor, &parts, &[], flags, Some(&SockaddrStorage::from(from)))?;
        }
    }
    Ok(())
}

fn socket_address(address: SockaddrStorage) -> Option<SocketAddr> {
    if let Some(address) = address.as_sockaddr_in() {
        return Some(SocketAddr::V4(SocketAddrV4::from(*address)));
    }
    address.as_sockaddr_in6().map(|address| SocketAddr::V6(SocketAddrV6::from(*address)))
}

/// Sockets for answers to steered questions.
const MAX_REPLIES: usize = 256;
/// Octets the kernel may hold for a listener.
const RECEIVE_BUFFER: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

    use super::{MAX_REPLIES, Replies};

    #[test]
    fn keeps_no_more_reply_sockets_than_its_bound_and_those_in_use() {
        let mut replies = Replies::new();
        let open = |_| UdpSocket::bind("127.0.0.1:0");
        let address =
            |n: usize| SocketAddr::from((Ipv4Addr::from_bits(u32::try_from(n).unwrap()), 53));
        let used = replies.from(address(0), open).unwrap().local_addr().unwrap();
        for n in 1..2 * MAX_REPLIES {
            replies.from(address(n), open).unwrap();
            assert!(replies.sockets.len() <= MAX_REPLIES);
            let again = replies.from(address(0), open).unwrap();
            assert_eq!(again.local_addr().unwrap(), used);
        }
    }
}
