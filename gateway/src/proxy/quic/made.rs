//! Initial packets of clients, made for tests.

use rustls::{
    Side,
    crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
    quic::{Keys, Version},
};

/// The handshake octets of a hello of rustls for `mps.datamart.windows.com`.
pub(crate) fn hello() -> &'static [u8] {
    &include_bytes!("../../../../tests/data/hello/rustls.bin")[5..]
}

/// A protected Initial packet whose payload is `frames`, padded to `length`.
pub(crate) fn initial(version: u8, id: &[u8], number: u8, frames: &[u8], length: usize) -> Vec<u8> {
    let (wire, kind, version) = match version {
        1 => (1_u32, 0xc0_u8, Version::V1),
        _ => (0x6b33_43cf, 0xd0, Version::V2),
    };
    let suite = TLS13_AES_128_GCM_SHA256.tls13().unwrap();
    let quic = suite.quic_suite().unwrap().quic;
    let keys = Keys::initial(version, suite, quic, id, Side::Client).local;
    let mut payload = frames.to_vec();
    payload.resize(payload.len().max(length), 0);
    let mut packet = vec![kind];
    packet.extend(wire.to_be_bytes());
    packet.push(u8::try_from(id.len()).unwrap());
    packet.extend(id);
    packet.extend([0, 0]);
    let rest = u16::try_from(1 + payload.len() + 16).unwrap();
    packet.extend((0x4000 | rest).to_be_bytes());
    let number_at = packet.len();
    packet.push(number);
    let tag = keys.packet.encrypt_in_place(number.into(), &packet, &mut payload).unwrap();
    packet.extend(payload);
    packet.extend(tag.as_ref());
    let sample = packet[number_at + 4..number_at + 20].to_vec();
    let (head, tail) = packet.split_at_mut(number_at);
    keys.header.encrypt_in_place(&sample, &mut head[0], &mut tail[..1]).unwrap();
    packet
}

/// A CRYPTO frame.
pub(crate) fn crypto(offset: usize, data: &[u8]) -> Vec<u8> {
    let varint = |value: usize| (0x4000 | u16::try_from(value).unwrap()).to_be_bytes();
    [&[6][..], &varint(offset), &varint(data.len()), data].concat()
}
