//! One packet: addresses, ports and the octets of the transport.

use std::net::{IpAddr, SocketAddr};

use etherparse::{IpNumber, Ipv6ExtensionSlice, LaxIpSlice, TcpSlice, UdpSlice};

use super::Note;

/// What an IP packet is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Parsed<'a> {
    /// A whole TCP segment or UDP datagram.
    Packet(Packet<'a>),
    /// A part of one.
    Fragment(Fragment<'a>),
}

/// A TCP segment or a UDP datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packet<'a> {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    pub(super) transport: Transport,
    pub(super) payload: &'a [u8],
    /// Whether the capture kept less than was sent.
    pub(super) cut: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp { sequence: u32, syn: bool, ack: bool },
    Udp,
}

/// A fragment of an IP packet (RFC 791 section 3.2, RFC 8200 section 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fragment<'a> {
    pub(super) of: FragmentOf,
    /// In octets.
    pub(super) offset: usize,
    pub(super) more: bool,
    pub(super) payload: &'a [u8],
}

/// Which packet a fragment is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FragmentOf {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) identification: u32,
    pub(super) protocol: u8,
}

/// Reads an IP packet.
///
/// # Errors
///
/// Why it cannot be judged.
pub(super) fn parse(octets: &[u8]) -> Result<Parsed<'_>, Note> {
    let (ip, _) = LaxIpSlice::from_slice(octets).map_err(|_| Note::Malformed)?;
    let (source, destination) =
        (ip.source_addr().to_canonical(), ip.destination_addr().to_canonical());
    let payload = ip.payload();
    if is_local(destination) || source.is_unspecified() {
        return Err(Note::Local);
    }
    let protocol = payload.ip_number;
    if !matches!(protocol, IpNumber::TCP | IpNumber::UDP | IpNumber::IPV6_FRAGMENTATION_HEADER) {
        return Err(Note::OtherTransport);
    }
    if payload.fragmented {
        let (identification, offset, more) = place(&ip).ok_or(Note::Malformed)?;
        if payload.incomplete {
            return Err(Note::Cut);
        }
        let of = FragmentOf { source, destination, identification, protocol: protocol.0 };
        return Ok(Parsed::Fragment(Fragment { of, offset, more, payload: payload.payload }));
    }
    let cut = payload.incomplete;
    transport(source, destination, protocol.0, payload.payload, cut).map(Parsed::Packet)
}

/// Reads the transport's header.
///
/// # Errors
///
/// Why it cannot be judged.
pub(super) fn transport(
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    octets: &[u8],
    cut: bool,
) -> Result<Packet<'_>, Note> {
    let broken = if cut { Note::Cut } else { Note::Malformed };
    let (from, to, transport, payload) = match IpNumber(protocol) {
        IpNumber::TCP => {
            let tcp = TcpSlice::from_slice(octets).map_err(|_| broken)?;
            let sequence = tcp.sequence_number();
            let transport = Transport::Tcp { sequence, syn: tcp.syn(), ack: tcp.ack() };
            (tcp.source_port(), tcp.destination_port(), transport, tcp.payload())
        }
        IpNumber::UDP => {
            let udp = UdpSlice::from_slice_lax(octets).map_err(|_| broken)?;
            (udp.source_port(), udp.destination_port(), Transport::Udp, udp.payload())
        }
        _ => return Err(Note::OtherTransport),
    };
    let (source, destination) = (SocketAddr::new(source, from), SocketAddr::new(destination, to));
    Ok(Packet { source, destination, transport, payload, cut })
}

/// Identification, offset in octets, and whether more fragments follow.
fn place(ip: &LaxIpSlice<'_>) -> Option<(u32, usize, bool)> {
    match ip {
        LaxIpSlice::Ipv4(ip) => {
            let header = ip.header();
            let offset = usize::from(header.fragments_offset().value()) * 8;
            Some((header.identification().into(), offset, header.more_fragments()))
        }
        LaxIpSlice::Ipv6(ip) => ip.extensions().clone().into_iter().find_map(|extension| {
            let Ipv6ExtensionSlice::Fragment(header) = extension else { return None };
            let offset = usize::from(header.fragment_offset().value()) * 8;
            Some((header.identification(), offset, header.more_fragments()))
        }),
    }
}

/// Whether no gateway ever sees what is sent there.
fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            address.is_multicast() || address.is_broadcast() || address.is_link_local()
        }
        IpAddr::V6(address) => address.is_multicast() || address.is_unicast_link_local(),
    }
}
