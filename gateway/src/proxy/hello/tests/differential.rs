//! rustls reads the same octets: where both accept, both see the same name.

use proptest::{collection::vec, prelude::*, sample::Index};
use rustls::server::Acceptor;

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

fn ours(octets: &[u8]) -> Progress {
    HelloReader::new().push(octets)
}

#[test]
fn agrees_with_rustls_on_captured_hellos() {
    for (file, octets, name, _) in CAPTURED {
        assert_eq!(oracle(octets), Some(Some(name.to_owned())), "{file}");
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
    fn never_sees_another_name_than_rustls(
        chosen: Index,
        changes in vec((any::<Index>(), any::<u8>()), 0..4),
        size in 100_usize..2000,
    ) {
        let mut message = message(chosen.get(&CAPTURED).1);
        for (place, octet) in changes {
            *place.get_mut(&mut message) = octet;
        }
        agree(&records(&message, [size]))?;
    }

    #[test]
    fn never_sees_another_name_than_rustls_among_names(
        name in "[a-zA-Z0-9._:\\[\\]*-]{0,20}",
        second in proptest::option::of("[a-z.]{1,9}"),
    ) {
        let mut sample = Sample::default().named(&name);
        if let Some(second) = second {
            sample = sample.extension(0, server_name(second));
        }
        agree(&sample.record())?;
    }
}

fn agree(octets: &[u8]) -> Result<(), TestCaseError> {
    if let (Progress::Complete(hello), Some(theirs)) = (ours(octets), oracle(octets)) {
        let theirs = theirs.map(|name| name.to_ascii_lowercase());
        prop_assert_eq!(Some(hello.server_name().as_str()), theirs.as_deref());
    }
    Ok(())
}

#[test]
fn the_oracle_reads_several_records() {
    let split = records(&message(captured("chromium.bin")), [500]);
    assert!(oracle(&split).is_some());
}
