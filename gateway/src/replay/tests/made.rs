//! Captures made here: frames from octets, files from frames.

pub(super) use crate::proxy::quic::made::{crypto, hello, initial};

pub(super) const SUBSCRIBER: [u8; 4] = [100, 64, 0, 9];
pub(super) const SERVER: [u8; 4] = [192, 0, 2, 10];
pub(super) const RAW: u32 = 101;

/// A pcap file, little endian, microseconds.
pub(super) fn pcap(link: u32, frames: &[Vec<u8>]) -> Vec<u8> {
    pcap_as(link, frames, 0xa1b2_c3d4, u32::to_le_bytes, u16::to_le_bytes)
}

pub(super) fn pcap_as(
    link: u32,
    frames: &[Vec<u8>],
    magic: u32,
    long: fn(u32) -> [u8; 4],
    short: fn(u16) -> [u8; 2],
) -> Vec<u8> {
    let mut file = [&long(magic)[..], &short(2), &short(4)].concat();
    for value in [0, 0, 262_144, link] {
        file.extend(long(value));
    }
    for frame in frames {
        let length = u32::try_from(frame.len()).unwrap();
        for value in [1_700_000_000, 5, length, length] {
            file.extend(long(value));
        }
        file.extend(frame);
    }
    file
}

/// A pcapng file with two sections; the frames of the link types in turn, as enhanced packets and,
/// of the first interface, as simple ones.
pub(super) fn pcapng(
    frames: &[(u16, Vec<u8>)],
    long: fn(u32) -> [u8; 4],
    short: fn(u16) -> [u8; 2],
) -> Vec<u8> {
    let block = |kind: u32, body: &[u8]| {
        let padding = vec![0; body.len().next_multiple_of(4) - body.len()];
        let length = u32::try_from(12 + body.len() + padding.len()).unwrap();
        [&long(kind)[..], &long(length), body, &padding, &long(length)].concat()
    };
    let mut file = Vec::new();
    for half in frames.chunks(frames.len().div_ceil(2)) {
        let section = [&long(0x1a2b_3c4d)[..], &short(1), &short(0), &[0xff; 8]].concat();
        file.extend(block(0x0a0d_0d0a, &section));
        let mut links: Vec<u16> = half.iter().map(|(link, _)| *link).collect();
        links.dedup();
        for link in &links {
            file.extend(block(1, &[&short(*link)[..], &short(0), &long(0)].concat()));
        }
        file.extend(block(0x0bad, b"a block that nobody knows"));
        for (number, (link, frame)) in half.iter().enumerate() {
            let length = long(u32::try_from(frame.len()).unwrap());
            let interface = links.iter().position(|known| known == link).unwrap();
            if interface == 0 && number % 2 == 0 {
                file.extend(block(3, &[&length[..], frame].concat()));
            } else {
                let interface = long(u32::try_from(interface).unwrap());
                let head = [interface, long(0), long(5), length, length].concat();
                file.extend(block(6, &[&head[..], frame].concat()));
            }
        }
    }
    file
}

pub(super) fn ipv4(protocol: u8, from: [u8; 4], to: [u8; 4], payload: &[u8]) -> Vec<u8> {
    ipv4_fragment(protocol, from, to, payload, 0)
}

/// `place` is the field with the flags and the offset.
pub(super) fn ipv4_fragment(
    protocol: u8,
    from: [u8; 4],
    to: [u8; 4],
    payload: &[u8],
    place: u16,
) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    let place = place.to_be_bytes();
    let head = [0x45, 0, length[0], length[1], 0, 7, place[0], place[1], 64, protocol, 0, 0];
    [&head[..], &from, &to, payload].concat()
}

pub(super) fn udp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap().to_be_bytes();
    [&from.to_be_bytes()[..], &to.to_be_bytes(), &length, &[0, 0], payload].concat()
}

/// A datagram of the subscriber to the server, as a raw IP frame.
pub(super) fn datagram(to: u16, payload: &[u8]) -> Vec<u8> {
    ipv4(17, SUBSCRIBER, SERVER, &udp(50_000, to, payload))
}

/// Flags of a TCP header.
pub(super) const SYN: u8 = 2;
pub(super) const ACK: u8 = 16;

pub(super) fn tcp(from: u16, to: u16, sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let (from, to, sequence) = (from.to_be_bytes(), to.to_be_bytes(), sequence.to_be_bytes());
    let rest = [0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0];
    [&from[..], &to, &sequence, &rest, payload].concat()
}

/// A segment of the subscriber to the server, as a raw IP frame.
pub(super) fn segment(from: u16, to: u16, sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    ipv4(6, SUBSCRIBER, SERVER, &tcp(from, to, sequence, flags, payload))
}

/// A connection that opens at `first` and sends these parts, each at its place.
pub(super) fn connection(from: u16, to: u16, first: u32, parts: &[(u32, &[u8])]) -> Vec<Vec<u8>> {
    let mut frames = vec![segment(from, to, first, SYN, b"")];
    frames.extend(parts.iter().map(|(at, octets)| {
        segment(from, to, first.wrapping_add(1).wrapping_add(*at), ACK, octets)
    }));
    frames
}

/// A DNS question for the addresses of `name`.
pub(super) fn question(name: &str) -> Vec<u8> {
    let mut message = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend(label.bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}
