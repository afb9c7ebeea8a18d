//! The kernel's tables over netlink: the sets of our nftables table, and conntrack.
//!
//! A change is one transaction and takes well under a millisecond, where a program started for it
//! would take ten. The kernel answers before `send` returns, so nothing here waits.

mod flows;
mod message;

use std::{io, net::IpAddr, time::Duration};

use ipnet::IpNet;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_REQUEST, NetlinkBuffer, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    none::ControlMessage,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use nix::{
    errno::Errno,
    sys::socket::{setsockopt, sockopt::SndBufForce},
};

pub(super) use flows::Connection;

/// A socket to netfilter, of the network namespace it was made in.
pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
    /// Octets of one transaction that the socket takes.
    room: usize,
}

type Message = NetlinkMessage<NetfilterMessage>;

/// One change of our table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Edit {
    /// Empties a set.
    Flush(&'static str),
    /// Puts elements in a set; one that is there already stays.
    Add(&'static str, Vec<Element>),
    /// Takes elements out of a set; each must be there.
    Remove(&'static str, Vec<Element>),
    /// Makes a byte quota, of which `used` is gone.
    Quota { name: String, bytes: u64, used: u64 },
    /// Removes a byte quota that no element refers to.
    DropQuota(String),
}

/// One element of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Element {
    key: IpAddr,
    kind: ElementKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum ElementKind {
    /// An address, or the first of an interval.
    Plain,
    /// The address behind the last of an interval.
    End,
    /// One that the kernel removes by itself after this time.
    Lasting(Duration),
    /// As before, in a map to byte quotas.
    Metered(Duration, String),
}

/// Why the kernel's tables could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetlinkError {
    /// The socket failed.
    #[error("the netlink socket failed")]
    Socket(#[from] io::Error),
    /// The kernel refused the transaction, all of it.
    #[error("the kernel refused the change")]
    Refused(#[source] io::Error),
    /// The kernel's answer has another form than expected.
    #[error("the kernel's answer cannot be read: {0}")]
    Unreadable(netlink_packet_core::DecodeError),
    /// The kernel did not say that the change is done.
    #[error("the kernel confirmed nothing")]
    Silent,
}

impl Element {
    /// The addresses of a block, which a set by address (IPv4) or by /64 (IPv6) names by the first.
    pub(super) fn of(block: IpNet) -> Self {
        Self { key: block.network(), kind: ElementKind::Plain }
    }

    /// The two ends of an interval.
    pub(super) fn interval(first: IpAddr, last: IpAddr) -> impl Iterator<Item = Self> {
        let behind = match last {
            IpAddr::V4(last) => last.to_bits().checked_add(1).map(|bits| IpAddr::V4(bits.into())),
            IpAddr::V6(last) => last.to_bits().checked_add(1).map(|bits| IpAddr::V6(bits.into())),
        };
        // An interval without end reaches to the last address there is.
        let end = behind.map(|key| Self { key, kind: ElementKind::End });
        std::iter::once(Self { key: first, kind: ElementKind::Plain }).chain(end)
    }

    /// Its key, and whether something begins there; an end comes before a beginning.
    #[cfg(test)]
    pub(super) fn bound(&self) -> (IpAddr, bool) {
        (self.key, self.kind != ElementKind::End)
    }

    /// As [`Element::of`], for this time only.
    pub(super) fn lasting(block: IpNet, time: Duration) -> Self {
        Self { key: block.network(), kind: ElementKind::Lasting(time) }
    }

    /// As [`Element::lasting`], mapped to the quota of this name.
    pub(super) fn metered(block: IpNet, time: Duration, quota: &str) -> Self {
        Self { key: block.network(), kind: ElementKind::Metered(time, quota.to_owned()) }
    }
}

impl Netlink {
    /// Opens the socket.
    pub(super) fn open() -> Result<Self, NetlinkError> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_non_blocking(true)?;
        // Errors without a copy of what was sent.
        socket.set_cap_ack(true)?;
        // Rootless, the system's own bound holds, and large changes go in pieces.
        let forced = setsockopt(&socket, SndBufForce, &SEND_BUFFER);
        let room = if forced.is_ok() { SEND_BUFFER / 2 } else { ROOM_UNPRIVILEGED };
        Ok(Self { socket, sequence: 0, room })
    }

    /// Applies the edits in their order: all in one transaction if they fit, else each piece by
    /// itself.
    ///
    /// # Errors
    ///
    /// The kernel refused a piece; none of it holds, nor of those after it.
    pub(super) fn apply(&mut self, edits: &[Edit], table: &str) -> Result<(), NetlinkError> {
        let mut piece = Vec::new();
        let mut octets = 0;
        for (flags, message) in edits.iter().flat_map(|edit| message::messages(edit, table)) {
            let message = self.numbered(flags, message);
            if octets + message.buffer_len() > self.room && !piece.is_empty() {
                self.transact(std::mem::take(&mut piece))?;
                octets = 0;
            }
            octets += message.buffer_len();
            piece.push(message);
        }
        self.transact(piece)
    }

    /// The quotas of `table`, with the bytes used of each.
    pub(super) fn quotas(&mut self, table: &str) -> Result<Vec<(String, u64)>, NetlinkError> {
        let mut found = Vec::new();
        self.dump(message::list_quotas(table), |message| found.extend(message::quota(message)))?;
        Ok(found)
    }

    /// Sends one transaction; the kernel takes all of it or nothing.
    fn transact(&mut self, mut edits: Vec<Message>) -> Result<(), NetlinkError> {
        let Some(last) = edits.last_mut() else { return Ok(()) };
        last.header.flags |= NLM_F_ACK;
        let awaited = last.header.sequence_number;
        let mut batch = Vec::new();
        append(&mut batch, &self.numbered(0, control(ControlMessage::BatchBegin)));
        edits.iter().for_each(|edit| append(&mut batch, edit));
        append(&mut batch, &self.numbered(0, control(ControlMessage::BatchEnd)));
        self.socket.send(&batch, 0)?;
        let mut done = false;
        self.receive(|message| {
            if let NetlinkPayload::Error(error) = message.payload {
                match error.code {
                    Some(_) => return Err(NetlinkError::Refused(error.to_io())),
                    None => done |= message.header.sequence_number == awaited,
                }
            }
            Ok(())
        })?;
        if done { Ok(()) } else { Err(NetlinkError::Silent) }
    }

    fn dump(
        &mut self,
        (flags, message): (u16, NetfilterMessage),
        mut each: impl FnMut(&NetfilterMessage),
    ) -> Result<(), NetlinkError> {
        let mut question = Vec::new();
        append(&mut question, &self.numbered(flags, message));
        self.socket.send(&question, 0)?;
        self.receive(|message| {
            if let NetlinkPayload::InnerMessage(message) = &message.payload {
                each(message);
            }
            if let NetlinkPayload::Error(error) = &message.payload
                && error.code.is_some()
            {
                return Err(NetlinkError::Refused(error.to_io()));
            }
            Ok(())
        })
    }

    /// Hands out every message that waits at the socket; the first failure is returned once all
    /// are read, so that none is taken for an answer to the next question.
    fn receive(
        &mut self,
        mut each: impl FnMut(Message) -> Result<(), NetlinkError>,
    ) -> Result<(), NetlinkError> {
        let mut buffer = Vec::with_capacity(RECEIVE_BUFFER);
        let mut result = Ok(());
        loop {
            buffer.clear();
            match self.socket.recv(&mut buffer, 0) {
                Ok(_) => {
                    let read = messages(&buffer, &mut each);
                    result = result.and(read);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return result,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Answers were lost; those that were not are still to be read.
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                    result = result.and_then(|()| Err(error.into()));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn numbered(&mut self, flags: u16, message: NetfilterMessage) -> Message {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        message
    }
}

fn control(message: ControlMessage) -> NetfilterMessage {
    // The batch is for the subsystem named in `res_id`: nftables.
    let header = NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, message::NFTABLES);
    NetfilterMessage::new(header, NetfilterMessageInner::None(message))
}

fn append(buffer: &mut Vec<u8>, message: &Message) {
    let start = buffer.len();
    // Every message is a multiple of four octets long: its attributes are padded.
    buffer.resize(start + message.buffer_len(), 0);
    if let Some(place) = buffer.get_mut(start..) {
        message.serialize(place);
    }
}

fn messages(
    mut octets: &[u8],
    each: &mut impl FnMut(Message) -> Result<(), NetlinkError>,
) -> Result<(), NetlinkError> {
    let mut result = Ok(());
    while !octets.is_empty() {
        let length = NetlinkBuffer::new_checked(octets).map_err(NetlinkError::Unreadable)?.length();
        let message = NetlinkMessage::deserialize(octets).map_err(NetlinkError::Unreadable)?;
        let read = each(message);
        result = result.and(read);
        let length = usize::try_from(length).unwrap_or(usize::MAX).next_multiple_of(4);
        octets = octets.get(length..).unwrap_or_default();
    }
    result
}

/// Octets of the socket's send buffer; the kernel counts each twice.
const SEND_BUFFER: usize = 16 * 1024 * 1024;
/// Octets of one transaction without the right to a larger buffer (`net.core.wmem_default`).
const ROOM_UNPRIVILEGED: usize = 96 * 1024;
/// Octets of one read; the kernel's dumps come in pieces of at most 32 KiB.
const RECEIVE_BUFFER: usize = 64 * 1024;

#[cfg(test)]
mod tests;
