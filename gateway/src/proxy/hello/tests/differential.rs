//! Two others read the same octets, rustls and tls-parser: where both accept, both see the same name,
//! however the octets are cut.

use proptest::{collection::vec, prelude::*, sample::Index};
use rustls::server::Acceptor;
use tls_parser::{
    TlsExtension, TlsMessage, TlsMessageHandshake, parse_tls_client_hello_extensions,
    parse_tls_message_handshake,
};

use super::{
    super::*,
    samples::{CAPTURED, Sample, captured, message, records, server_name},
};

/// What rustls makes of the octets: the name, or nothing when it refuses or wants more.
fn oracle(mut octets: &[u8]) -> Option<Option<String>> {
    let mut acceptor = Acceptor::default();
    while !octets.is_empty() {
        acceptor.read_tls(&mut octets).ok()?;
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                return Some(accepted.client_hello().server_name().map(str::to_owned));
            }
            Ok(None) => {}
            Err(_) => return None,
        }
    }
    None
}

/// What tls-parser makes of the handshake message: the names, or nothing when it refuses.
fn second_oracle(message: &[u8]) -> Option<Vec<String>> {
    let (_, message) = parse_tls_message_handshake(message).ok()?;
    let TlsMessage::Handshake(TlsMessageHandshake::ClientHello(hello)) = message else {
        return None;
    };
    let (rest, extensions) = parse_tls_client_hello_extensions(hello.ext?).ok()?;
    let names = extensions.iter().filter_map(|extension| {
        let TlsExtension::SNI(names) = extension else { return None };
        Some(names.iter().map(|(_, name)| *name))
    });
    let text = |name: &[u8]| String::from_utf8_lossy(name).to_ascii_lowercase();
    rest.is_empty().then(|| names.flatten().map(text).collect())
}

fn ours(octets: &[u8]) -> Progress {
    HelloReader::new().push(octets)
}

/// The same, from octets that arrive in pieces of these sizes.
fn ours_in_pieces(mut octets: &[u8], sizes: &[usize]) -> Progress {
    let mut reader = HelloReader::new();
    let mut progress = Progress::Incomplete;
    for size in sizes.iter().cycle() {
        let (piece, rest) = octets.split_at(octets.len().min(*size));
        octets = rest;
        progress = reader.push(piece);
        if progress != Progress::Incomplete || octets.is_empty() {
            break;
        }
    }
    progress
}

#[test]
fn agrees_with_both_on_captured_hellos() {
    for (file, octets, name, _) in CAPTURED {
        assert_eq!(oracle(octets), Some(Some(name.to_owned())), "{file}");
        assert_eq!(second_oracle(&message(octets)), Some(vec![name.to_owned()]), "{file}");
    }
}

/// Everything that this reader accepts and rustls does not, with the reason why it may pass: the
/// gateway is not the one that has to speak TLS with such a client.
#[test]
fn accepts_more_than_rustls_only_where_the_name_is_certain() {
    let without = |kind: u16| {
        let mut sample = Sample::default();
        sample.extensions.as_mut().unwrap().retain(|extension| extension.0 != kind);
        sample
    };
    let cases = [
        ("TLS before 1.2 has no signature algorithms", without(13).record()),
        (
            "compression is the affair of both ends",
            Sample { compression_methods: vec![1], ..Sample::default() }.record(),
        ),
        (
            "a malformed extension that is not the name",
            Sample::default().extension(43, vec![9]).record(),
        ),
    ];
    for (why, octets) in cases {
        assert!(matches!(ours(&octets), Progress::Complete(_)), "{why}");
        assert_eq!(oracle(&octets), None, "{why}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn never_sees_another_name_than_the_others(
        chosen: Index,
        changes in vec((any::<Index>(), any::<u8>()), 0..4),
        size in 100_usize..2000,
        pieces in vec(1_usize..900, 1..12),
    ) {
        let mut message = message(chosen.get(&CAPTURED).1);
        for (place, octet) in changes {
            *place.get_mut(&mut message) = octet;
        }
        agree(&message, size, &pieces)?;
    }

    #[test]
    fn never_sees_another_name_than_the_others_among_names(
        name in "[a-zA-Z0-9._:\\[\\]*-]{0,20}",
        second in proptest::option::of("[a-z.]{1,9}"),
        pieces in vec(1_usize..200, 1..12),
    ) {
        let mut sample = Sample::default().named(&name);
        if let Some(second) = second {
            sample = sample.extension(0, server_name(second));
        }
        agree(&sample.message(), 16_000, &pieces)?;
    }
}

/// Holds the three readers against each other, for a message in records of at most `size` octets
/// that arrive in `pieces`.
fn agree(message: &[u8], size: usize, pieces: &[usize]) -> Result<(), TestCaseError> {
    let octets = &records(message, [size]);
    let progress = ours(octets);
    prop_assert_eq!(&ours_in_pieces(octets, pieces), &progress);
    let Progress::Complete(hello) = progress else { return Ok(()) };
    let name = hello.server_name().as_str();
    if let Some(theirs) = oracle(octets) {
        let theirs = theirs.map(|name| name.to_ascii_lowercase());
        prop_assert_eq!(Some(name), theirs.as_deref());
    }
    if let Some(theirs) = second_oracle(message) {
        prop_assert_eq!(vec![name.to_owned()], theirs);
    }
    Ok(())
}

#[test]
fn the_oracle_reads_several_records() {
    let split = records(&message(captured("chromium.bin")), [500]);
    assert!(oracle(&split).is_some());
}
