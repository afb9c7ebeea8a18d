use proptest::prelude::*;

use super::*;

/// A request with these attributes, signed with `secret`.
pub(crate) fn request(
    code: u8,
    attributes: &[(u8, &[u8])],
    secret: &[u8],
    signed: bool,
) -> Vec<u8> {
    let mut packet = vec![code, 7, 0, 0];
    packet.extend([0; 16]);
    if signed {
        packet.extend([80, 18]);
        packet.extend([0; 16]);
    }
    for (kind, value) in attributes {
        packet.extend([*kind, u8::try_from(value.len() + 2).unwrap()]);
        packet.extend(*value);
    }
    let length = u16::try_from(packet.len()).unwrap();
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    if signed {
        let mut mac = keyed(&Secret(secret.into()));
        mac.update(&packet);
        packet[22..38].copy_from_slice(&mac.finalize().into_bytes());
    }
    let digest = Md5::new().chain_update(&packet).chain_update(secret).finalize();
    packet[4..20].copy_from_slice(&digest);
    packet
}

fn secret() -> Secret {
    Secret::new(b" xyzzy5461\n").unwrap()
}

#[test]
fn believes_only_what_the_secret_signed() {
    let signed = request(4, &[(40, &[0, 0, 0, 1])], b"xyzzy5461", true);
    let plain = request(4, &[(40, &[0, 0, 0, 1])], b"xyzzy5461", false);
    let verify = |bytes: &[u8], demanded| Packet::parse(bytes).unwrap().verify(&secret(), demanded);
    assert_eq!(verify(&signed, true), Ok(()));
    assert_eq!(verify(&signed, false), Ok(()));
    assert_eq!(verify(&plain, false), Ok(()));
    assert_eq!(verify(&plain, true), Err(Malformed::MessageAuthenticator));
    let other = request(4, &[(40, &[0, 0, 0, 1])], b"other", true);
    assert_eq!(verify(&other, false), Err(Malformed::Authenticator));
    for at in 0..signed.len() {
        let mut bent = signed.clone();
        bent[at] ^= 1;
        let believed =
            Packet::parse(&bent).is_ok_and(|packet| packet.verify(&secret(), true).is_ok());
        assert!(!believed, "octet {at}");
    }
    // A wrong Message-Authenticator under a right Request Authenticator.
    let mut bent = signed;
    bent[25] ^= 1;
    bent[4..20].fill(0);
    let digest = Md5::new().chain_update(&bent).chain_update(b"xyzzy5461").finalize();
    bent[4..20].copy_from_slice(&digest);
    assert_eq!(verify(&bent, false), Err(Malformed::MessageAuthenticator));
}

#[test]
fn every_prefix_is_refused_and_padding_is_not_read() {
    let whole = request(4, &[(40, &[0, 0, 0, 1]), (44, b"one")], b"xyzzy5461", true);
    for length in 0..whole.len() {
        assert_eq!(Packet::parse(&whole[..length]).err(), Some(Malformed::Truncated), "{length}");
    }
    let mut padded = whole;
    padded.extend([1, 0, 0]);
    assert_eq!(Packet::parse(&padded).unwrap().attributes().count(), 3);
    for (bytes, fault) in [
        ([4, 0, 0, 19].as_slice(), Malformed::Length),
        (&[4, 0, 0x10, 1], Malformed::Length),
        (&[1, 0, 0, 20], Malformed::Code),
        (&[4, 0, 0, 22], Malformed::Attribute),
    ] {
        let mut packet = bytes.to_vec();
        packet.resize(PACKET_MAX + 1, 0);
        assert_eq!(Packet::parse(&packet).err(), Some(fault));
    }
}

#[test]
fn the_longest_packet_is_read() {
    let value = [7; 253];
    let many: Vec<(u8, &[u8])> = (0..15).map(|_| (33, value.as_slice())).collect();
    let mut packet = request(4, &[&many[..], &[(33, &[7; 249])]].concat(), b"xyzzy5461", false);
    assert_eq!(packet.len(), PACKET_MAX);
    let read = Packet::parse(&packet).unwrap();
    assert_eq!(read.verify(&secret(), false), Ok(()));
    assert!(read.reply(&secret(), None).len() <= PACKET_MAX);
    packet.push(0);
    assert!(Packet::parse(&packet).is_ok(), "padding");
}

/// The stored inputs of the fuzz target, an order among them that leaves no room for a cause.
#[test]
fn answers_stored_fuzz_inputs_within_bounds_and_with_their_states() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fuzz/corpus/radius");
    let states = |packet: &Packet<'_>| -> Vec<Vec<u8>> {
        let states = packet.attributes().filter(|attribute| attribute.kind == PROXY_STATE);
        states.map(|attribute| attribute.value.to_vec()).collect()
    };
    let mut read = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let octets = std::fs::read(entry.unwrap().path()).unwrap();
        let Ok(packet) = Packet::parse(&octets) else { continue };
        read += 1;
        let _ = super::super::content::Content::read(&packet);
        for refused in [None, Some(ErrorCause::NotFound)] {
            let mut reply = packet.reply(&secret(), refused);
            assert!(reply.len() <= PACKET_MAX, "{} octets", reply.len());
            reply[0] = 4;
            assert_eq!(states(&Packet::parse(&reply).unwrap()), states(&packet));
        }
    }
    assert!(read >= 10, "{read} inputs");
}

#[test]
fn replies_carry_every_proxy_state_in_order_and_their_own_signatures() {
    let states: [(u8, &[u8]); 3] = [(33, b"a"), (40, &[0, 0, 0, 3]), (33, b"b")];
    for signed in [false, true] {
        for (code, cause, expected) in
            [(4, None, 5), (40, Some(ErrorCause::NotFound), 42), (43, None, 44)]
        {
            let bytes = request(code, &states, b"xyzzy5461", signed);
            let packet = Packet::parse(&bytes).unwrap();
            let reply = packet.reply(&secret(), cause);
            assert_eq!((reply[0], reply[1]), (expected, 7));
            assert_eq!(usize::from(u16::from_be_bytes([reply[2], reply[3]])), reply.len());
            let found: Vec<&[u8]> = attributes(&reply[HEADER..])
                .filter(|attribute| attribute.kind == 33)
                .map(|attribute| attribute.value)
                .collect();
            assert_eq!(found, [b"a", b"b"]);
            let mut asked = reply.clone();
            asked[4..20].copy_from_slice(&bytes[4..20]);
            let digest = Md5::new().chain_update(&asked).chain_update(b"xyzzy5461").finalize();
            assert_eq!(reply[4..20], digest[..]);
            let is_signed = attributes(&reply[HEADER..]).any(|attribute| attribute.kind == 80);
            assert_eq!(is_signed, signed && code != 4, "accounting is answered unsigned");
            if is_signed {
                let tag = asked[22..38].to_vec();
                asked[22..38].fill(0);
                let mut mac = keyed(&secret());
                mac.update(&asked);
                assert!(mac.verify_slice(&tag).is_ok());
            }
        }
    }
}

#[test]
fn secrets_never_print() {
    assert_eq!(format!("{:?}", secret()), "Secret(…)");
    assert!(Secret::new(b" \n").is_none());
}

proptest! {
    #[test]
    fn any_octets_are_read_without_a_fault(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(packet) = Packet::parse(&bytes) {
            let _ = packet.verify(&secret(), true);
            let _ = packet.reply(&secret(), None);
        }
    }
}
