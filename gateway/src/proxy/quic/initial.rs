//! Initial packets of QUIC clients: opened, and their CRYPTO frames put in order.
//!
//! Pure. Initial packets are protected with keys that follow from the connection ID the client
//! chose (RFC 9001 section 5.2), so whoever sees the first packet can read the hello. Only the
//! client's are opened; what a packet means is for others to say.

use rustls::{
    Side,
    crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
    quic::{DirectionalKeys, Keys, Version},
};

use crate::proxy::hello::MAX_HELLO_OCTETS;

/// What stands next in a client's datagram.
pub(crate) enum Next<'a> {
    /// A packet with a long header, of a version that is known.
    Long(Packet<'a>),
    /// A packet with a short header: the rest of the datagram.
    Short,
    /// The end of the datagram.
    End,
    /// Octets that are no packet a client may send in a known version.
    Unclear,
}

/// A type of packet with a long header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Initial,
    ZeroRtt,
    Handshake,
}

/// What protects the Initial packets of one connection in one version.
pub(crate) struct Opener {
    version: u32,
    keys: DirectionalKeys,
}

/// What the frames of an Initial packet did to the CRYPTO octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frames {
    /// They were taken.
    Taken,
    /// Octets came twice, and differed.
    Conflict,
    /// A frame is none that a client's Initial packet may hold.
    Foreign,
}

/// The octets of CRYPTO frames, in any order (RFC 9000 section 19.6). The first copy of an octet
/// stays.
#[derive(Default)]
pub(crate) struct Crypto {
    octets: Vec<u8>,
    known: Vec<bool>,
}

/// Whether a datagram begins with a long header: the start of a connection, of any version.
pub(crate) fn is_long_header(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|first| first & FORM_LONG != 0) && version(datagram).is_some()
}

/// Whether a datagram begins with a packet of a version that is opened here.
pub(crate) fn is_known_version(datagram: &[u8]) -> bool {
    is_long_header(datagram)
        && matches!(version(datagram), Some(version) if known(version).is_some())
}

/// Takes the next packet off the front of a datagram (RFC 9000 section 12.2).
pub(crate) fn next<'a>(rest: &mut &'a [u8]) -> Next<'a> {
    match rest.first() {
        None => Next::End,
        Some(first) if first & FORM_LONG == 0 => Next::Short,
        Some(_) => Packet::split(rest).map_or(Next::Unclear, Next::Long),
    }
}

/// The keys of the Initial packets of a connection, on the server's side.
pub(super) fn initial_keys(version: u32, first_destination: &[u8]) -> Option<Keys> {
    let (version, ..) = known(version)?;
    let suite = TLS13_AES_128_GCM_SHA256.tls13()?;
    Some(suite.quic_suite()?.keys(first_destination, Side::Server, version))
}

impl Opener {
    /// Opens what a client sends that chose `first_destination` for its first packet.
    pub(crate) fn new(version: u32, first_destination: &[u8]) -> Option<Self> {
        Some(Self { version, keys: initial_keys(version, first_destination)?.remote })
    }

    /// The payload of an Initial packet, if it is protected with these keys.
    pub(crate) fn open(&self, packet: &Packet<'_>) -> Option<Vec<u8>> {
        (packet.version == self.version).then(|| packet.open(&self.keys)).flatten()
    }
}

/// One packet with a long header inside a datagram (RFC 9000 sections 12.2 and 17.2).
pub(crate) struct Packet<'a> {
    pub(crate) kind: Kind,
    pub(crate) version: u32,
    pub(crate) destination_id: &'a [u8],
    pub(crate) source_id: &'a [u8],
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
        let version = u32::from_be_bytes(*octets.take(4)?.first_chunk()?);
        let (_, initial, retry) = known(version)?;
        let kind = first >> 4 & 3;
        let length = usize::from(octets.u8()?);
        let destination_id = octets.take(length).filter(|id| id.len() <= MAX_ID_OCTETS)?;
        let length = usize::from(octets.u8()?);
        let source_id = octets.take(length).filter(|id| id.len() <= MAX_ID_OCTETS)?;
        if kind == retry {
            return None;
        }
        // After Initial come 0-RTT and Handshake, in both versions.
        let kind = match kind.wrapping_sub(initial) & 3 {
            0 => Kind::Initial,
            1 => Kind::ZeroRtt,
            _ => Kind::Handshake,
        };
        if kind == Kind::Initial {
            let token = octets.varint()?;
            octets.take(token)?;
        }
        let length = octets.varint()?;
        let number_at = octets.at;
        octets.take(length)?;
        let (octets, behind) = whole.split_at_checked(octets.at)?;
        *rest = behind;
        Some(Self { kind, version, destination_id, source_id, octets, number_at })
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

/// Reads the frames of a client's Initial packet (RFC 9000 section 12.4).
pub(crate) fn read_frames(payload: &[u8], crypto: &mut Crypto) -> Frames {
    let mut octets = Octets { whole: payload, at: 0 };
    let mut frames = Frames::Taken;
    while let Some(kind) = octets.varint() {
        let read = match kind {
            FRAME_PADDING | FRAME_PING => Some(()),
            FRAME_ACK | FRAME_ACK_ECN => octets.skip_ack(kind == FRAME_ACK_ECN),
            FRAME_CRYPTO => octets.crypto().map(|(offset, data)| {
                if crypto.put(offset, data) {
                    frames = Frames::Conflict;
                }
            }),
            FRAME_CLOSE => octets.skip_close(),
            _ => None,
        };
        if read.is_none() {
            return Frames::Foreign;
        }
    }
    if octets.at == payload.len() { frames } else { Frames::Foreign }
}

impl Crypto {
    /// Puts octets in their place; whether one was there and was another.
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
    pub(crate) fn front(&self) -> &[u8] {
        let length = self.known.iter().position(|known| !known).unwrap_or(self.known.len());
        self.octets.get(..length).unwrap_or_default()
    }

    /// Whether nothing has come.
    pub(crate) fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    /// Whether octets are missing before the last that came.
    pub(crate) fn has_gap(&self) -> bool {
        self.front().len() < self.octets.len()
    }

    /// Whether there is room for no more.
    pub(crate) fn overflowed(&self) -> bool {
        self.octets.len() >= MAX_CRYPTO_OCTETS
    }

    /// Octets in memory.
    pub(crate) fn held(&self) -> usize {
        self.octets.len() * 2
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

    /// RFC 9000 section 19.19.
    fn skip_close(&mut self) -> Option<()> {
        let (_code, _frame, length) = (self.varint()?, self.varint()?, self.varint()?);
        self.take(length).map(drop)
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

pub(super) const FORM_LONG: u8 = 0x80;
pub(super) const FIXED_BIT: u8 = 0x40;
pub(super) const VERSION_1: u32 = 1;
pub(super) const VERSION_2: u32 = 0x6b33_43cf;
/// Octets of a connection ID in the known versions (RFC 9000 section 17.2).
const MAX_ID_OCTETS: usize = 20;
const MAX_NUMBER_OCTETS: usize = 4;
/// Octets of CRYPTO frames that are kept: what no hello is longer than.
const MAX_CRYPTO_OCTETS: usize = MAX_HELLO_OCTETS;
const FRAME_PADDING: usize = 0;
const FRAME_PING: usize = 1;
const FRAME_ACK: usize = 2;
const FRAME_ACK_ECN: usize = 3;
const FRAME_CRYPTO: usize = 6;
const FRAME_CLOSE: usize = 0x1c;
