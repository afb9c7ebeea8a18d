//! Datagrams that tell a QUIC client at once that it is refused.
//!
//! Pure. Each is shorter than the datagram it answers, so that nobody can be flooded by it.

use rustls::quic::Keys;

use super::initial::{FIXED_BIT, FORM_LONG, VERSION_1, VERSION_2, initial_keys};

/// A CONNECTION_CLOSE in an Initial packet (RFC 9000 section 10.2.3), for a client that chose
/// `destination_id` and calls itself `source_id`.
pub(crate) fn close(version: u32, destination_id: &[u8], source_id: &[u8]) -> Option<Vec<u8>> {
    let Keys { local, .. } = initial_keys(version, destination_id)?;
    let kind = if version == VERSION_2 { 1 } else { 0 };
    let mut payload = vec![FRAME_CLOSE, CONNECTION_REFUSED, 0, 0];
    let mut packet = vec![FORM_LONG | FIXED_BIT | kind << 4 | (NUMBER_OCTETS - 1)];
    packet.extend(version.to_be_bytes());
    for id in [source_id, destination_id] {
        packet.push(u8::try_from(id.len()).ok()?);
        packet.extend(id);
    }
    // No token.
    packet.push(0);
    let length = usize::from(NUMBER_OCTETS) + payload.len() + local.packet.tag_len();
    packet.push(u8::try_from(length).ok().filter(|length| *length < 0x40)?);
    let number_at = packet.len();
    packet.extend(NUMBER.to_be_bytes());
    let tag = local.packet.encrypt_in_place(NUMBER.into(), &packet, &mut payload).ok()?;
    packet.extend(payload);
    packet.extend(tag.as_ref());
    let sample_at = number_at + usize::from(NUMBER_OCTETS);
    let sample = packet.get(sample_at..sample_at + local.header.sample_len())?.to_vec();
    let (head, rest) = packet.split_at_mut_checked(number_at)?;
    let number = rest.get_mut(..usize::from(NUMBER_OCTETS))?;
    local.header.encrypt_in_place(&sample, head.first_mut()?, number).ok()?;
    Some(packet)
}

/// A Version Negotiation packet (RFC 9000 section 17.2.1) for a datagram of a version that is not
/// known here; `None` for any other datagram, and for one too short to begin a connection.
pub(crate) fn versions(datagram: &[u8]) -> Option<Vec<u8>> {
    let (head, rest) = datagram.split_at_checked(5)?;
    let (first, version) = head.split_first()?;
    let version = u32::from_be_bytes(*version.first_chunk()?);
    if first & FORM_LONG == 0
        || [0, VERSION_1, VERSION_2].contains(&version)
        || datagram.len() < MIN_DATAGRAM
    {
        return None;
    }
    let (destination_id, rest) = identifier(rest)?;
    let (source_id, _) = identifier(rest)?;
    let mut packet = vec![FORM_LONG | FIXED_BIT, 0, 0, 0, 0];
    for id in [source_id, destination_id] {
        packet.push(u8::try_from(id.len()).ok()?);
        packet.extend(id);
    }
    packet.extend(VERSION_1.to_be_bytes());
    packet.extend(VERSION_2.to_be_bytes());
    Some(packet)
}

fn identifier(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = octets.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

const FRAME_CLOSE: u8 = 0x1c;
/// The server refuses to accept a connection (RFC 9000 section 20.1).
const CONNECTION_REFUSED: u8 = 2;
const NUMBER_OCTETS: u8 = 4;
/// Beyond the numbers of an origin that has answered already: a number that came before is ignored.
const NUMBER: u32 = 0x00ff_ffff;
/// Octets of the smallest datagram that begins a connection.
const MIN_DATAGRAM: usize = 1_200;

#[cfg(test)]
mod tests {
    use rustls::{
        Side,
        crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
        quic::{Keys, Version},
    };

    use super::*;

    #[test]
    fn refusal_is_an_initial_packet_of_the_server_that_the_client_can_open() {
        for (number, version) in [(VERSION_1, Version::V1), (VERSION_2, Version::V2)] {
            let packet = close(number, b"original", b"client").unwrap();
            assert_eq!(packet[1..5], number.to_be_bytes());
            assert_eq!(&packet[5..21], b"\x06client\x08original");
            assert!(packet.len() < MIN_DATAGRAM / 10);
            let suite = TLS13_AES_128_GCM_SHA256.tls13().unwrap();
            let quic = suite.quic_suite().unwrap().quic;
            let keys = Keys::initial(version, suite, quic, b"original", Side::Client).remote;
            let mut opened = packet;
            let number_at = 23;
            let sample = opened[number_at + 4..number_at + 20].to_vec();
            let (head, tail) = opened.split_at_mut(number_at);
            keys.header.decrypt_in_place(&sample, &mut head[0], &mut tail[..4]).unwrap();
            assert_eq!(head[0] & 3, 3);
            let (header, payload) = opened.split_at_mut(number_at + 4);
            let plain = keys.packet.decrypt_in_place(NUMBER.into(), header, payload).unwrap();
            assert_eq!(plain, [FRAME_CLOSE, CONNECTION_REFUSED, 0, 0]);
        }
    }

    #[test]
    fn versions_are_offered_to_whom_another_one_is_spoken() {
        let mut datagram =
            [&[0xc0, 0x0a, 0x1a, 0x2a, 0x3a, 2, 7, 8, 3, 4, 5, 6][..], &[0; 1_200]].concat();
        let offered = versions(&datagram).unwrap();
        let expected =
            [&[0xc0, 0, 0, 0, 0, 3, 4, 5, 6, 2, 7, 8][..], &[0, 0, 0, 1, 0x6b, 0x33, 0x43, 0xcf]];
        assert_eq!(offered, expected.concat());
        assert_eq!(versions(&datagram[..1_199]), None, "it may be a forged source");
        datagram[1..5].copy_from_slice(&[0, 0, 0, 1]);
        assert_eq!(versions(&datagram), None, "a known version");
        datagram[0] = 0x40;
        assert_eq!(versions(&datagram), None, "a short header");
    }
}
