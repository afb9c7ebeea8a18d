//! Malformed hellos, each with the one reason it must be refused for.

use super::{
    super::*,
    samples::{Sample, entry, handshake, records, server_name, vector},
};

fn expect(case: &str, octets: &[u8], reason: Reason) {
    assert_eq!(HelloReader::new().push(octets), Progress::Reject(reason), "{case}");
}

#[test]
fn refuses_what_is_not_tls() {
    let good = Sample::default().record();
    let message = Sample::default().message();
    let (first, rest) = message.split_at(10);
    let between = |record: &[u8]| [&records(first, [10]), record, &records(rest, [999])].concat();
    let cases: [(&str, Vec<u8>); 14] = [
        ("HTTP", b"GET / HTTP/1.1\r\n".to_vec()),
        ("SSH", b"SSH-2.0-x\r\n".to_vec()),
        ("SSLv2 hello", vec![0x80, 0x2e, 1, 3, 1]),
        ("alert", vec![21, 3, 1, 0, 2, 2, 40]),
        ("major version 2", [&[22, 2], &good[2..]].concat()),
        ("major version 4", vec![22, 4]),
        ("empty handshake record", vec![22, 3, 1, 0, 0]),
        ("empty record within the hello", between(&[22, 3, 1, 0, 0])),
        ("record longer than 2^14", vec![22, 3, 1, 0x40, 0x01]),
        ("ChangeCipherSpec within the hello", between(&[20, 3, 3, 0, 1, 1])),
        ("alert within the hello", between(&[21, 3, 3, 0, 2, 1, 0])),
        ("application data within the hello", between(&[23, 3, 3, 0, 0])),
        ("ServerHello", vec![22, 3, 1, 0, 4, 2]),
        ("second hello in the same record", records(&message.repeat(2), [16_384])),
    ];
    for (case, octets) in cases {
        expect(case, &octets, Reason::NotTls);
    }
}

#[test]
fn refuses_a_body_whose_lengths_do_not_fit() {
    let good = Sample::default();
    let no_extensions = Sample { extensions: None, ..good.clone() };
    let cases: [(&str, Vec<u8>); 13] = [
        ("empty body", vec![]),
        ("legacy version 2", Sample { version: [2, 0], ..good.clone() }.body()),
        ("legacy version 0x7f1c", Sample { version: [0x7f, 0x1c], ..good.clone() }.body()),
        ("session id of 33", Sample { session_id: vec![0; 33], ..good.clone() }.body()),
        ("no cipher suite", Sample { cipher_suites: vec![], ..good.clone() }.body()),
        ("half a cipher suite", Sample { cipher_suites: vec![0; 3], ..good.clone() }.body()),
        ("no compression method", Sample { compression_methods: vec![], ..good.clone() }.body()),
        ("ends in the random", good.body()[..20].to_vec()),
        ("one octet of an extension block", [no_extensions.body(), vec![0]].concat()),
        ("octet behind the extensions", [good.body(), vec![0]].concat()),
        ("last octet missing", good.body()[..good.body().len() - 1].to_vec()),
        ("half an extension header", [no_extensions.body(), vector(&[0, 0, 0])].concat()),
        ("extension longer than its block", [no_extensions.body(), vector(&[0, 1, 0, 9])].concat()),
    ];
    for (case, body) in cases {
        expect(case, &records(&handshake(1, &body), [16_384]), Reason::NotTls);
    }
}

#[test]
fn refuses_a_hello_without_server_name() {
    let none = Sample { extensions: None, ..Sample::default() };
    expect("no extension block", &none.record(), Reason::NoSni);
    let empty = Sample { extensions: Some(vec![]), ..Sample::default() };
    expect("empty extension block", &empty.record(), Reason::NoSni);
    let others = Sample { extensions: Some(vec![(10, vec![0, 2, 0, 29])]), ..Sample::default() };
    expect("other extensions", &others.record(), Reason::NoSni);
}

#[test]
fn refuses_any_extension_that_stands_twice() {
    let same = Sample::default().extension(0, server_name("a.example"));
    expect("same name twice", &same.record(), Reason::DuplicateExtension);
    let other = Sample::default().extension(0, server_name("b.example"));
    expect("two names", &other.record(), Reason::DuplicateExtension);
    let groups = Sample::default().extension(10, vec![0, 2, 0, 29]);
    expect("groups twice", &groups.record(), Reason::DuplicateExtension);
    let grease = Sample::default().extension(0x0a0a, vec![]).extension(0x0a0a, vec![1]);
    expect("unknown type twice", &grease.record(), Reason::DuplicateExtension);
}

#[test]
fn refuses_a_server_name_list_that_is_not_one_host_name() {
    let list = |entries: &[Vec<u8>]| vector(&entries.concat());
    let one = entry(0, b"a.example");
    let cases: [(&str, Vec<u8>, Reason); 12] = [
        ("empty extension", vec![], Reason::BadSni),
        ("half a length", vec![0], Reason::BadSni),
        ("empty list", list(&[]), Reason::BadSni),
        ("list too short", vec![0, 3, 0, 0, 9], Reason::BadSni),
        ("list longer than the extension", vec![0, 9, 0, 0, 1, b'a'], Reason::BadSni),
        (
            "octet behind the list",
            [list(std::slice::from_ref(&one)), vec![0]].concat(),
            Reason::BadSni,
        ),
        ("octet behind the name", vector(&[&one[..], &[0]].concat()), Reason::BadSni),
        ("name longer than the list", vector(&[0, 0, 9, b'a']), Reason::BadSni),
        ("name of another type", list(&[entry(1, b"a.example")]), Reason::BadSni),
        ("another type behind", list(&[one.clone(), entry(1, b"x")]), Reason::BadSni),
        ("another type before", list(&[entry(1, b"x"), one.clone()]), Reason::BadSni),
        ("two host names", list(&[one.clone(), one.clone()]), Reason::DuplicateExtension),
    ];
    for (case, content, reason) in cases {
        expect(case, &Sample::default().server_name(content).record(), reason);
    }
}

#[test]
fn refuses_a_server_name_that_is_no_host_name() {
    let long_label = format!("{}.example", "a".repeat(64));
    let long_name = format!("{}example", "abcdefg.".repeat(31));
    let cases: [&[u8]; 22] = [
        b"",
        b".",
        b"a.example.",
        b".a.example",
        b"a..example",
        b"a.example:443",
        b"a.example/",
        b"user@a.example",
        b"*.example",
        b"a example",
        b" a.example",
        b"a.example\0",
        b"a.example\0.b.example",
        b"a.example\r\n",
        b"a\x1b[31m.example",
        "b\u{fc}cher.example".as_bytes(),
        b"\xff.example",
        b"a.example\x80",
        b"1.2.3.4.",
        b"1.2.3.4:443",
        long_label.as_bytes(),
        long_name.as_bytes(),
    ];
    for name in cases {
        let case = String::from_utf8_lossy(name);
        expect(&case, &Sample::default().named(name).record(), Reason::BadSni);
    }
}

#[test]
fn refuses_an_address_as_server_name() {
    for name in
        ["192.0.2.1", "2001:db8::1", "[2001:db8::1]", "::ffff:192.0.2.1", "127.1", "0x7f000001"]
    {
        expect(name, &Sample::default().named(name).record(), Reason::IpLiteral);
    }
}

#[test]
fn folds_case_only() {
    for name in ["A.Example", "a.example", "xn--bcher-kva.example", "_a-b.example"] {
        let progress = HelloReader::new().push(&Sample::default().named(name).record());
        let Progress::Complete(hello) = progress else { panic!("{name}: {progress:?}") };
        assert_eq!(hello.server_name().as_str(), name.to_ascii_lowercase());
    }
}

#[test]
fn takes_any_minor_version() {
    for minor in 0..=u8::MAX {
        let mut octets = Sample { version: [3, minor], ..Sample::default() }.record();
        octets[2] = minor;
        assert!(matches!(HelloReader::new().push(&octets), Progress::Complete(_)));
    }
}

#[test]
fn notes_ech_without_refusing_it() {
    let progress = HelloReader::new().push(&Sample::default().extension(0xfe0d, vec![1]).record());
    let Progress::Complete(hello) = progress else { panic!("{progress:?}") };
    assert!(hello.ech());
}
