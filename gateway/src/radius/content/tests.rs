use super::*;
use crate::radius::packet::tests::request;

fn with<T>(
    attributes: &[(u8, &[u8])],
    check: impl FnOnce(Result<Content<'_>, Unusable>) -> T,
) -> T {
    let bytes = request(4, attributes, b"secret", false);
    check(Content::read(&Packet::parse(&bytes).unwrap()))
}

/// A vendor's attribute.
fn vendor(kind: u8, value: &[u8]) -> Vec<u8> {
    let mut all = VENDOR_3GPP.to_be_bytes().to_vec();
    all.extend([kind, u8::try_from(value.len() + 2).unwrap()]);
    all.extend(value);
    all
}

#[test]
fn reads_what_a_packet_gateway_sends() {
    let (imsi, stop) = (vendor(1, b"001010000000001"), vendor(11, &[0xff]));
    let v6 = [0, 64, 0x20, 1, 0x0d, 0xb8, 0, 1, 0, 2];
    let delegated = [0, 56, 0x20, 1, 0x0d, 0xb8, 0, 9, 0x12];
    let attributes: [(u8, &[u8]); 13] = [
        (40, &[0, 0, 0, 1]),
        (44, b"0A0B"),
        (4, &[192, 0, 2, 10]),
        (8, &[100, 64, 0, 1]),
        (97, &v6),
        (96, &[0, 0, 0, 0, 0, 0, 0, 9]),
        (123, &delegated),
        (30, b"Internet"),
        (31, b"4915112345678"),
        (26, &imsi),
        (26, &stop),
        (55, &[0x60, 0, 0, 0]),
        (41, &[0, 0, 0, 5]),
    ];
    with(&attributes, |content| {
        let content = content.unwrap();
        let networks: Vec<String> =
            content.prefixes.iter().map(|prefix| prefix.network().to_string()).collect();
        assert_eq!(networks, ["100.64.0.1/32", "2001:db8:1:2::/64", "2001:db8:9:1200::/56"]);
        assert_eq!(content.nas.as_deref(), Some("192.0.2.10"));
        assert_eq!(content.apn.as_ref().map(Apn::as_str), Some("internet"));
        assert_eq!(content.identities.all().count(), 2);
        assert_eq!((content.delay, content.last_bearer), (5, true));
        assert_eq!(content.event, Some(0x6000_0000));
    });
    with(&[(4, &[192, 0, 2, 10]), (32, b"pgw-1")], |content| {
        assert_eq!(content.unwrap().nas.as_deref(), Some("pgw-1"));
    });
}

#[test]
fn refuses_attributes_that_lie() {
    let (letters, foreign) = (vendor(1, b"00101000000000x"), [0, 0, 0, 9, 1, 3, b'x']);
    let cases: [(u8, &[u8], Option<&str>); 12] = [
        (8, &[100, 64, 0], Some("bad-attribute")),
        (8, &[127, 0, 0, 1], Some("bad-address")),
        (8, &[255, 255, 255, 254], None),
        (97, &[0], Some("bad-attribute")),
        (97, &[0, 129, 1], Some("bad-attribute")),
        (97, &[0, 64, 0x20, 1], Some("bad-attribute")),
        (97, &[0, 0], Some("bad-address")),
        (123, &[0, 32, 0x20, 1, 0x0d, 0xb8], Some("bad-address")),
        (40, &[1], Some("bad-attribute")),
        (26, &[0, 0, 0x28], Some("bad-attribute")),
        (26, &letters, Some("bad-identity")),
        (26, &foreign, None),
    ];
    for (kind, value, expected) in cases {
        let found = with(&[(kind, value)], |content| content.err().map(Unusable::label));
        assert_eq!(found, expected, "{kind} {value:?}");
    }
    let many: Vec<[u8; 4]> = (0..9).map(|last| [100, 64, 0, last]).collect();
    let many: Vec<(u8, &[u8])> = many.iter().map(|value| (8, value.as_slice())).collect();
    with(&many, |content| assert_eq!(content.err(), Some(Unusable::TooMany)));
}
