//! QUIC Initial packets of versions 1 and 2, opened for the ClientHello in them.
//!
//! Their keys follow from the first connection identifier (RFC 9001 section 5.2, RFC 9369 section
//! 3.3), so that whoever sees the first packet can read the hello. Only the client's are opened.

use policy::{HostName, Reason};
use rustls::{
    Side,
    crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
    quic::{DirectionalKeys, Version},
};

use crate::proxy::hello::{MAX_HELLO_OCTETS, Progress, read_handshake};

/// The first flight of one QUIC connection.
pub(super) struct Initials {
    keys: Option<DirectionalKeys>,
    crypto: Crypto,
    datagrams: usize,
}

/// How far the hello has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Opened {
    /// More datagrams are needed.
    Incomplete,
    /// The hello names this server.
    Named(HostName),
    /// No continuation can name a server.
    Nameless(Reason),
}

/// What one datagram showed beside the hello.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Initial packets that did not open.
    pub(super) unopened: u64,
    /// Whether octets of the hello came twice and differed.
    pub(super) conflict: bool,
}

/// The octets of CRYPTO frames, in any order (RFC 9000 section 19.6).
#[derive(Default)]
struct Crypto {
    octets: Vec<u8>,
    known: Vec<bool>,
}

/// Whether a datagram begins with a long header: the start of a connection, of any version.
pub(super) fn is_long_header(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|first| first & FORM_LONG != 0) && version(datagram).is_some()
}

/// Whether a datagram begins with a packet of a version that is opened here.
pub(super) fn is_known_version(datagram: &[u8]) -> bool {
    is_long_header(datagram)
        && matches!(version(datagram), Some(version) if known(version).is_some())
}

impl Initials {
    pub(super) fn new() -> Self {
        Self { keys: None, crypto: Crypto::default(), datagrams: 0 }
    }

    /// Takes a datagram of the client.
    pub(super) fn push(&mut self, datagram: &[u8], seen: &mut Seen) -> Opened {
        self.datagrams += 1;
        let mut rest = datagram;
        while let Some(packet) = Packet::split(&mut rest) {
            if !packet.is_initial {
                continue;
            }
            match self.open(&packet) {
                Some(payload) => seen.conflict |= read_frames(&payload, &mut self.crypto),
                None => seen.unopened += 1,
            }
        }
        match read_handshake(self.crypto.front()) {
            Progress::Complete(hello) => Opened::Named(hello.server_name().clone()),
            Progress::Reject(reason) => Opened::Nameless(reason),
            Progress::Incomplete if self.crypto.overflowed() => {
                Opened::Nameless(Reason::HelloTooLarge)
            }
            Progress::Incomplete if self.datagrams >= MAX_DATAGRAMS => {
                Opened::Nameless(Reason::HelloTimeout)
            }
            Progress::Incomplete => Opened::Incomplete,
        }
    }

    /// Octets in memory.
    pub(super) fn held(&self) -> usize {
        self.crypto.octets.len() * 2
    }

    /// Whether a part of the hello has come.
    pub(super) fn has_begun(&self) -> bool {
        !self.crypto.octets.is_empty()
    }

    fn open(&mut self, packet: &Packet<'_>) -> Option<Vec<u8>> {
        if let Some(payload) = self.keys.as_ref().and_then(|keys| packet.open(keys)) {
            return Some(payload);
        }
        // The first packet, or the first after a Retry, which chooses new keys.
        let suite = TLS13_AES_128_GCM_SHA256.tls13()?;
        let keys =
            suite.quic_suite()?.keys(packet.destination_id, Side::Server, packet.version).remote;
        let payload = packet.open(&keys)?;
        self.keys = Some(keys);
        Some(payload)
    }
}

/// One packet with a long header inside a datagram (RFC 9000 sections 12.2 and 17.2).
struct Packet<'a> {
    version: Version,
    is_initial: bool,
    destination_id: &'a [u8],
    /// From the first octet to the end of the payload.
    octets: &'a [u8],
    /// Where the packet number begins.
    number_at: usize,
}

impl<'a> Packet<'a> {
    /// Takes the next packet off the front of a datagram; `None` if what remains is not one.
    fn split(rest: &mut &'a [u8]) -> Option<Self> {
        let whole = *rest;
        let mut octets = Octets { whole, at: 0 };
        let first = octets.u8()?;
        if first & FORM_LONG == 0 || first & FIXED_BIT == 0 {
            return None;
        }
        let number = u32::from_be_bytes(*octets.take(4)?.first_chunk()?);
        let (version, initial, retry) = known(number)?;
        let kind = first >> 4 & 3;
        let length = usize::from(octets.u8()?);
        let destination_id = octets.take(length).filter(|id| id.len() <= MAX_ID_OCTETS)?;
        let length = usize::from(octets.u8()?);
        octets.take(length).filter(|id| id.len() <= MAX_ID_OCTETS)?;
        if kind == retry {
            return None;
        }
        if kind == initial {
            let token = octets.varint()?;
            octets.take(token)?;
        }
        let length = octets.varint()?;
        let number_at = octets.at;
        octets.take(length)?;
        let (octets, behind) = whole.split_at_checked(octets.at)?;
        *rest = behind;
        Some(Self { version, is_initial: kind == initial, destination_id, octets, number_at })
    }

    /// Removes header and packet protection (RFC 9001 sections 5.3 and 5.4).
    fn open(&self, keys: &DirectionalKeys) -> Option<Vec<u8>> {
        let mut octets = self.octets.to_vec();
        let sample_at = self.number_at + MAX_NUMBER_OCTETS;
        let sample_end = sample_at + keys.header.sample_len();
        let sample = octets.get(sample_at..sample_end)?.to_vec();
        let (head, rest) = octets.split_at_mut_checked(self.number_at)?;
        let first = head.first_mut()?;
        let number = rest.get_mut(..MAX_NUMBER_OCTETS)?;
        let protected = *<&[u8; MAX_NUMBER_OCTETS]>::try_from(&*number).ok()?;
        keys.header.decrypt_in_place(&sample, first, number).ok()?;
        let length = usize::from(*first & 3) + 1;
        // What lies behind a short packet number belongs to the payload.
        number.get_mut(length..)?.copy_from_slice(protected.get(length..)?);
        let number = number
            .get(..length)?
            .iter()
            .fold(0_u64, |number, octet| number << 8 | u64::from(*octet));
        let (header, payload) = octets.split_at_mut_checked(self.number_at + length)?;
        // Initial packet numbers begin at zero and stay small: none is cut short.
        let length = keys.packet.decrypt_in_place(number, header, payload).ok()?.len();
        payload.get(..length).map(<[u8]>::to_vec)
    }
}

/// Reads the frames that an Initial packet may hold (RFC 9000 section 12.4); whether octets of
/// CRYPTO frames differed from what came before.
fn read_frames(payload: &[u8], crypto: &mut Crypto) -> bool {
    let mut octets = Octets { whole: payload, at: 0 };
    let mut conflict = false;
    while let Some(kind) = octets.varint() {
        let read = match kind {
            FRAME_PADDING | FRAME_PING => Some(()),
            FRAME_ACK | FRAME_ACK_ECN => octets.skip_ack(kind == FRAME_ACK_ECN),
            FRAME_CRYPTO => octets.crypto().map(|(offset, data)| {
                conflict |= crypto.put(offset, data);
            }),
            _ => None,
        };
        if read.is_none() {
            break;
        }
    }
    conflict
}

impl Crypto {
    /// Puts octets in their place; whether one was there and was another. The first copy stays.
    fn put(&mut self, offset: usize, data: &[u8]) -> bool {
        let end = offset.saturating_add(data.len()).min(MAX_CRYPTO_OCTETS);
        if self.octets.len() < end {
            self.octets.resize(end, 0);
            self.known.resize(end, false);
        }
        let places = self.octets.iter_mut().zip(&mut self.known).skip(offset);
        let mut conflict = false;
        for ((octet, known), data) in places.zip(data) {
            conflict |= *known && octet != data;
            if !*known {
                (*octet, *known) = (*data, true);
            }
        }
        conflict
    }

    /// The octets up to the first that is missing.
    fn front(&self) -> &[u8] {
        let length = self.known.iter().position(|known| !known).unwrap_or(self.known.len());
        self.octets.get(..length).unwrap_or_default()
    }

    fn overflowed(&self) -> bool {
        self.octets.len() >= MAX_CRYPTO_OCTETS
    }
}

/// Reading forward; whatever does not fit is `None`.
struct Octets<'a> {
    whole: &'a [u8],
    at: usize,
}

impl<'a> Octets<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length)?;
        let taken = self.whole.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    /// RFC 9000 section 16.
    fn varint(&mut self) -> Option<usize> {
        let first = self.u8()?;
        let more = (1_usize << (first >> 6)) - 1;
        let start = u64::from(first & 0x3f);
        let value =
            self.take(more)?.iter().fold(start, |value, octet| value << 8 | u64::from(*octet));
        usize::try_from(value).ok()
    }

    fn skip_ack(&mut self, ecn: bool) -> Option<()> {
        let (_largest, _delay, ranges) = (self.varint()?, self.varint()?, self.varint()?);
        self.varint()?;
        for _ in 0..ranges {
            self.varint()?;
            self.varint()?;
        }
        for _ in 0..if ecn { 3 } else { 0 } {
            self.varint()?;
        }
        Some(())
    }

    fn crypto(&mut self) -> Option<(usize, &'a [u8])> {
        let (offset, length) = (self.varint()?, self.varint()?);
        Some((offset, self.take(length)?))
    }
}

fn version(datagram: &[u8]) -> Option<u32> {
    datagram.get(1..).and_then(|rest| rest.first_chunk()).map(|octets| u32::from_be_bytes(*octets))
}

/// A version with the packet types of Initial and Retry (RFC 9000 section 17.2, RFC 9369 section
/// 3.2).
fn known(version: u32) -> Option<(Version, u8, u8)> {
    match version {
        VERSION_1 => Some((Version::V1, 0, 3)),
        VERSION_2 => Some((Version::V2, 1, 0)),
        _ => None,
    }
}

const FORM_LONG: u8 = 0x80;
const FIXED_BIT: u8 = 0x40;
const VERSION_1: u32 = 1;
const VERSION_2: u32 = 0x6b33_43cf;
const MAX_ID_OCTETS: usize = 20;
const MAX_NUMBER_OCTETS: usize = 4;
/// Datagrams within which a hello must be whole.
const MAX_DATAGRAMS: usize = 64;
/// Octets of CRYPTO frames that are kept: what no hello is longer than.
const MAX_CRYPTO_OCTETS: usize = MAX_HELLO_OCTETS;
const FRAME_PADDING: usize = 0;
const FRAME_PING: usize = 1;
const FRAME_ACK: usize = 2;
const FRAME_ACK_ECN: usize = 3;
const FRAME_CRYPTO: usize = 6;
