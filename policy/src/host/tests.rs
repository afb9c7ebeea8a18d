use proptest::prelude::*;

use super::{HostName, InvalidHostName};

#[test]
fn folds_every_spelling_to_one_normal_form() {
    for (text, expected) in [
        ("example.com", "example.com"),
        ("WWW.Example.COM.", "www.example.com"),
        ("Ocsp.digicert.com", "ocsp.digicert.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("_dns.resolver.arpa", "_dns.resolver.arpa"),
        ("1.2.3.4.in-addr.arpa", "1.2.3.4.in-addr.arpa"),
        ("a-.example", "a-.example"),
        ("localhost", "localhost"),
    ] {
        assert_eq!(HostName::parse(text).unwrap().as_str(), expected, "{text}");
    }
}

#[test]
fn refuses_what_is_not_a_host_name() {
    let label = "a".repeat(64);
    let long = format!("{}a", "a.".repeat(127));
    for (text, expected) in [
        ("", InvalidHostName::Empty),
        (".", InvalidHostName::Empty),
        ("..", InvalidHostName::EmptyLabel),
        (".example", InvalidHostName::EmptyLabel),
        ("a..b", InvalidHostName::EmptyLabel),
        ("example.com..", InvalidHostName::EmptyLabel),
        ("example.com:443", InvalidHostName::ForbiddenOctet { octet: b':' }),
        ("user@example.com", InvalidHostName::ForbiddenOctet { octet: b'@' }),
        ("a b", InvalidHostName::ForbiddenOctet { octet: b' ' }),
        ("a\0.example", InvalidHostName::ForbiddenOctet { octet: 0 }),
        ("*.example.com", InvalidHostName::ForbiddenOctet { octet: b'*' }),
        ("192.0.2.1", InvalidHostName::IpLiteral),
        ("192.0.2.1.", InvalidHostName::IpLiteral),
        ("127.1", InvalidHostName::IpLiteral),
        ("0x7f000001", InvalidHostName::IpLiteral),
        ("2130706433", InvalidHostName::IpLiteral),
        ("a.0x", InvalidHostName::IpLiteral),
        ("[2001:db8::1]", InvalidHostName::IpLiteral),
        ("2001:db8::1", InvalidHostName::IpLiteral),
        ("::ffff:192.0.2.1", InvalidHostName::IpLiteral),
        (&label, InvalidHostName::LabelTooLong { length: 64 }),
        (&long, InvalidHostName::TooLong { length: 255 }),
    ] {
        assert_eq!(HostName::parse(text), Err(expected), "{text:?}");
    }
}

#[test]
fn accepts_names_at_the_limits() {
    let longest = format!("{}{}", format!("{}.", "a".repeat(63)).repeat(3), "a".repeat(61));
    assert_eq!(longest.len(), HostName::MAX_LENGTH);
    assert!(HostName::parse(&longest).is_ok());
    assert!(HostName::parse(&format!("{longest}.")).is_ok());
    assert!(HostName::parse(&format!("{longest}a")).is_err());
}

#[test]
fn reads_wire_labels_without_decoding_them() {
    let name = HostName::from_wire_labels([b"WWW".as_slice(), b"Example", b"com"]).unwrap();
    assert_eq!(name.as_str(), "www.example.com");
    for label in [b"a.example".as_slice(), b"\xff", b"\xc3\xbc", b""] {
        assert!(HostName::from_wire_labels([label, b"com"]).is_err(), "{label:?}");
    }
}

proptest! {
    #[test]
    fn normal_form_is_a_fixed_point(text in "[ -~]{0,80}|[a-zA-Z0-9._-]{1,80}|\\PC{0,20}") {
        if let Ok(name) = HostName::parse(&text) {
            prop_assert_eq!(&HostName::parse(name.as_str()).unwrap(), &name);
            prop_assert!(!name.as_str().ends_with('.') && name.as_str().is_ascii());
            let wire = HostName::from_wire_labels(name.labels().map(str::as_bytes)).unwrap();
            prop_assert_eq!(wire, name);
        }
    }
}
