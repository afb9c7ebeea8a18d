//! Many datagrams at a time: one system call takes what has arrived, one sends what is said.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::{AsRawFd, RawFd},
};

use nix::{
    cmsg_space, libc,
    sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrIn,
        SockaddrIn6, SockaddrStorage, recvmmsg, sendmmsg, sendmsg,
    },
};

use super::socket::{Door, Path, Socket, Source};
use crate::wire::{MAX_QUESTION, MAX_UDP_ANSWER};

/// Room for the datagrams of one system call.
#[derive(Debug)]
pub(super) struct Inbox {
    headers: MultiHeaders<SockaddrStorage>,
    buffers: Vec<u8>,
}

/// What [`Inbox::receive`] waits for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wait {
    /// The first datagram, for a while; the others are taken if they are there.
    ForOne,
    /// Nothing.
    ForNone,
}

/// One datagram that arrived.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival<'b> {
    /// `None` if it was cut because it was longer than any question.
    pub(super) message: Option<&'b [u8]>,
    pub(super) path: Path,
}

/// Answers that leave together.
#[derive(Debug)]
pub(super) struct Outbox {
    letters: Vec<Letter>,
    sealed: usize,
    /// Whom the letters of one call go to.
    addresses: Vec<Option<SockaddrStorage>>,
    plain: MultiHeaders<SockaddrStorage>,
    v4: MultiHeaders<SockaddrStorage>,
    v6: MultiHeaders<SockaddrStorage>,
}

#[derive(Debug)]
struct Letter {
    message: Vec<u8>,
    path: Path,
}

impl Inbox {
    pub(super) fn new(socket: &Socket) -> Self {
        Self { headers: receiving(socket), buffers: vec![0; BATCH * STRIDE] }
    }

    /// Gives all datagrams that have arrived to `take`, but no more than [`BATCH`], and returns how
    /// many they were. The error is [`io::ErrorKind::WouldBlock`] if there was none.
    pub(super) fn receive(
        &mut self,
        socket: &Socket,
        wait: Wait,
        take: impl FnOnce(&mut dyn Iterator<Item = Arrival<'_>>),
    ) -> io::Result<usize> {
        let mut buffers = self.buffers.chunks_exact_mut(STRIDE);
        let mut slices: [[IoSliceMut<'_>; 1]; BATCH] = std::array::from_fn(|_| {
            let buffer = buffers.next().and_then(|buffer| buffer.get_mut(..MAX_QUESTION));
            [IoSliceMut::new(buffer.unwrap_or_default())]
        });
        let flags = match wait {
            Wait::ForOne => MsgFlags::MSG_WAITFORONE,
            Wait::ForNone => MsgFlags::MSG_DONTWAIT,
        };
        let received =
            recvmmsg(socket.descriptor(), &mut self.headers, slices.iter_mut(), flags, None)?;
        let (mut count, mut is_doorless) = (0, false);
        take(&mut received.filter_map(|message| {
            count += 1;
            let path = path(&message, socket);
            is_doorless |= path.is_none();
            let is_whole = !message.flags.contains(MsgFlags::MSG_TRUNC);
            let octets = message.iovs().next().unwrap_or_default();
            Some(Arrival { message: is_whole.then_some(octets), path: path? })
        }));
        if is_doorless {
            // The library gives the kernel no more room for where a datagram was sent than the one
            // before it took.
            self.headers = receiving(socket);
        }
        Ok(count)
    }
}

impl Outbox {
    pub(super) fn new(socket: &Socket) -> Self {
        let nowhere = Door { to: socket.local(), interface: 0 };
        let path = Path { door: nowhere, from: socket.local() };
        let letter = || Letter { message: Vec::with_capacity(MAX_UDP_ANSWER), path };
        let headers = |control| MultiHeaders::preallocate(BATCH, control);
        Self {
            letters: std::iter::repeat_with(letter).take(BATCH).collect(),
            sealed: 0,
            addresses: Vec::with_capacity(BATCH),
            plain: headers(None),
            v4: headers(Some(cmsg_space!(libc::in_pktinfo))),
            v6: headers(Some(cmsg_space!(libc::in6_pktinfo))),
        }
    }

    /// Where the next answer is written. There is one for each datagram of a batch.
    pub(super) fn blank(&mut self) -> Option<&mut Vec<u8>> {
        self.letters.get_mut(self.sealed).map(|letter| &mut letter.message)
    }

    /// Keeps what was written last, to go by `path`.
    pub(super) fn seal(&mut self, path: Path) {
        if let Some(letter) = self.letters.get_mut(self.sealed) {
            letter.path = path;
            self.sealed += 1;
        }
    }

    /// Sends everything; returns how much could not be sent.
    pub(super) fn send(&mut self, socket: &Socket) -> usize {
        let sealed = std::mem::take(&mut self.sealed);
        let letters = self.letters.get_mut(..sealed).unwrap_or_default();
        let is_one_door = letters.is_sorted_by(|a, b| a.path.door == b.path.door);
        if !is_one_door {
            letters.sort_unstable_by_key(|letter| letter.path.door);
        }
        let mut unsent = 0;
        for letters in letters.chunk_by(|a, b| a.path.door == b.path.door) {
            let Some(door) = letters.first().map(|letter| letter.path.door) else { continue };
            self.addresses.clear();
            let addresses = letters.iter().map(|letter| Some(letter.path.from.into()));
            self.addresses.extend(addresses);
            let addresses = &self.addresses;
            let sent = from(socket, door, |descriptor, control| {
                let headers = match control {
                    [] => &mut self.plain,
                    [ControlMessage::Ipv4PacketInfo(_), ..] => &mut self.v4,
                    [_, ..] => &mut self.v6,
                };
                send(descriptor, letters, addresses, headers, control)
            });
            unsent += sent.unwrap_or_else(|error| {
                tracing::debug!(%error, "no socket to answer from");
                letters.len()
            });
        }
        unsent
    }
}

/// Sends one answer by itself.
pub(super) fn send_one(socket: &Socket, message: &[u8], path: Path) -> io::Result<()> {
    from(socket, path.door, |descriptor, control| {
        let (parts, to) = ([IoSlice::new(message)], SockaddrStorage::from(path.from));
        let sent = sendmsg(descriptor, &parts, control, MsgFlags::MSG_DONTWAIT, Some(&to));
        Ok(sent.map(drop)?)
    })?
}

/// Has `send` send from the address that was asked.
fn from<R>(
    socket: &Socket,
    door: Door,
    send: impl FnOnce(RawFd, &[ControlMessage<'_>]) -> R,
) -> io::Result<R> {
    Ok(match (socket.source(door)?, door.to.ip()) {
        (Source::Reply(reply), _) => send(reply.as_raw_fd(), &[]),
        (Source::Bound, _) => send(socket.descriptor(), &[]),
        (Source::Chosen, IpAddr::V4(from)) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(from.octets()) },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            send(socket.descriptor(), &[ControlMessage::Ipv4PacketInfo(&info)])
        }
        (Source::Chosen, IpAddr::V6(from)) => {
            let link_local = from.is_unicast_link_local();
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr { s6_addr: from.octets() },
                ipi6_ifindex: if link_local { door.interface } else { 0 },
            };
            send(socket.descriptor(), &[ControlMessage::Ipv6PacketInfo(&info)])
        }
    })
}

/// Sends `letters`, all of which came in by one door; returns how many the kernel did not take.
fn send(
    descriptor: RawFd,
    letters: &[Letter],
    addresses: &[Option<SockaddrStorage>],
    headers: &mut MultiHeaders<SockaddrStorage>,
    control: &[ControlMessage<'_>],
) -> usize {
    let mut messages = letters.iter().map(|letter| letter.message.as_slice());
    let slices: [[IoSlice<'_>; 1]; BATCH] =
        std::array::from_fn(|_| [IoSlice::new(messages.next().unwrap_or_default())]);
    let slices = slices.get(..letters.len()).unwrap_or_default();
    let (mut at, mut unsent) = (0, 0);
    while let (Some(slices), Some(addresses)) = (slices.get(at..), addresses.get(at..))
        && !slices.is_empty()
    {
        let flags = MsgFlags::MSG_DONTWAIT;
        match sendmmsg(descriptor, headers, slices, addresses, control, flags) {
            Ok(sent) => at += sent.count().max(1),
            Err(error) => {
                // It is about the first; the others may fare better.
                tracing::debug!(%error, "answer not sent");
                (at, unsent) = (at + 1, unsent + 1);
            }
        }
    }
    unsent
}

fn receiving(socket: &Socket) -> MultiHeaders<SockaddrStorage> {
    let control =
        socket.has_many_doors().then(|| cmsg_space!(libc::in6_pktinfo, libc::sockaddr_in6));
    MultiHeaders::preallocate(BATCH, control)
}

/// The way `message` came; `None` if the kernel did not say.
#[expect(clippy::wildcard_enum_match_arm, reason = "an open enum; nothing else was asked for")]
fn path(message: &RecvMsg<'_, '_, SockaddrStorage>, socket: &Socket) -> Option<Path> {
    let from = message.address.and_then(socket_address)?;
    let local = socket.local();
    if !socket.has_many_doors() {
        return Some(Path { door: Door { to: local, interface: 0 }, from });
    }
    let (mut arrived_at, mut sent_to, mut interface) = (None, None, 0);
    for control in message.cmsgs().ok()? {
        match control {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                let octets = info.ipi_addr.s_addr.to_ne_bytes();
                arrived_at = Some(SocketAddr::new(IpAddr::from(octets), local.port()));
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                arrived_at =
                    Some(SocketAddr::new(IpAddr::from(info.ipi6_addr.s6_addr), local.port()));
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
    Some(Path { door: Door { to: sent_to.or(arrived_at)?, interface }, from })
}

fn socket_address(address: SockaddrStorage) -> Option<SocketAddr> {
    if let Some(address) = address.as_sockaddr_in() {
        return Some(SocketAddr::V4(SocketAddrV4::from(*address)));
    }
    address.as_sockaddr_in6().map(|address| SocketAddr::V6(SocketAddrV6::from(*address)))
}

/// Datagrams of one system call: beyond, more gain nothing (measured).
pub(super) const BATCH: usize = 64;
/// From one buffer to the next. Were it a power of two, the beginnings of all would share the few
/// lines of the processor's cache that such addresses fall in.
const STRIDE: usize = MAX_QUESTION + 128;
