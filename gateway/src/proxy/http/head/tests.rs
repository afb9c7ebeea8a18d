use proptest::prelude::*;

use super::*;

#[test]
fn reads_heads_in_order() {
    for (head, host, path, body) in [
        ("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", "a.example", "/", Body::Length(0)),
        ("GET /x?y HTTP/1.0\r\nhOsT:A.Example.:80\r\n\r\n", "a.example", "/x?y", Body::Length(0)),
        (
            "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 12\r\n\r\n",
            "a.example",
            "/",
            Body::Length(12),
        ),
        (
            "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: Chunked\r\n\r\n",
            "a.example",
            "/",
            Body::Chunked,
        ),
        (
            "GET http://A.example:80/x HTTP/1.1\r\nHost: a.example\r\n\r\n",
            "a.example",
            "/x",
            Body::Length(0),
        ),
        (
            "GET HTTP://a.example?x HTTP/1.1\r\nHost: a.example\r\n\r\n",
            "a.example",
            "/?x",
            Body::Length(0),
        ),
        ("OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n", "a.example", "*", Body::Length(0)),
        (
            "GET / HTTP/1.1\r\nHost: a.example\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n\r\n",
            "a.example",
            "/",
            Body::Length(0),
        ),
        (
            "GET / HTTP/1.1\r\nHost:\ta.example \r\nX:\u{e9}\t \r\nY:\r\n\r\n",
            "a.example",
            "/",
            Body::Length(0),
        ),
    ] {
        let HeadProgress::Complete(read) = read(head.as_bytes()) else {
            panic!("{head:?}: {:?}", read(head.as_bytes()));
        };
        assert_eq!(
            (read.host.as_str(), read.path.as_str(), read.body, read.length),
            (host, path, body, head.len()),
            "{head:?}"
        );
    }
}

#[test]
fn refuses_heads_that_could_be_read_in_two_ways() {
    use HeadFault::{Host, Malformed, Method, Version};
    for (head, fault) in [
        // Ends of lines.
        ("GET / HTTP/1.1\nHost: a.example\n\n", Malformed),
        ("GET / HTTP/1.1\r\nHost: a.example\nX: y\r\n\r\n", Malformed),
        ("GET / HTTP/1.1\r\nHost: a.example\rX: y\r\n\r\n", Malformed),
        ("\r\nGET / HTTP/1.1\r\nHost: a.example\r\n\r\n", Malformed),
        // Control octets and spaces.
        ("GET / HTTP/1.1\r\nHost: a.example\r\nX: \0\r\n\r\n", Malformed),
        ("GET / HTTP/1.1\r\nHost: a.example\r\nX: \x7f\r\n\r\n", Malformed),
        ("GET / HTTP/1.1\r\nHost : a.example\r\n\r\n", Malformed),
        ("GET / HTTP/1.1\r\n Host: a.example\r\n\r\n", Malformed),
        ("GET / HTTP/1.1\r\nX: y\r\n Host: b.example\r\nHost: a.example\r\n\r\n", Malformed),
        ("GET / HTTP/1.1\r\nHost: a.example\r\nno colon\r\n\r\n", Malformed),
        ("GET / HTTP/1.1\r\nHost: a.example\r\n: no name\r\n\r\n", Malformed),
        // Request lines.
        ("GET  / HTTP/1.1\r\nHost: a.example\r\n\r\n", Malformed),
        ("GET\t/ HTTP/1.1\r\nHost: a.example\r\n\r\n", Malformed),
        ("GET / x HTTP/1.1\r\nHost: a.example\r\n\r\n", Malformed),
        ("GET /\r\nHost: a.example\r\n\r\n", Malformed),
        ("GET / ICY/1.1\r\nHost: a.example\r\n\r\n", Malformed),
        ("GET /\u{e9} HTTP/1.1\r\nHost: a.example\r\n\r\n", Malformed),
        ("GET /#x HTTP/1.1\r\nHost: a.example\r\n\r\n", Malformed),
        ("GET x HTTP/1.1\r\nHost: a.example\r\n\r\n", Malformed),
        ("GET * HTTP/1.1\r\nHost: a.example\r\n\r\n", Malformed),
        ("GET https://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", Malformed),
        ("GET http:/\\a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", Malformed),
        ("GET / HTTP/2.0\r\nHost: a.example\r\n\r\n", Version),
        ("GET / HTTP/1.2\r\nHost: a.example\r\n\r\n", Version),
        ("PRI * HTTP/2.0\r\n\r\n", Version),
        // Lengths.
        (
            "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            Malformed,
        ),
        ("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 1, 1\r\n\r\n", Malformed),
        ("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: +1\r\n\r\n", Malformed),
        ("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length:\r\n\r\n", Malformed),
        (
            "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 99999999999999999999\r\n\r\n",
            Malformed,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            Malformed,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            Malformed,
        ),
        ("POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: xchunked\r\n\r\n", Malformed),
        (
            "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n",
            Malformed,
        ),
        ("POST / HTTP/1.0\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n", Malformed),
        // Hosts.
        ("GET / HTTP/1.1\r\n\r\n", Host(Reason::NoHost)),
        ("GET / HTTP/1.0\r\n\r\n", Host(Reason::NoHost)),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", Host(Reason::NoHost)),
        ("GET / HTTP/1.1\r\nHost: a.example\r\nHost: a.example\r\n\r\n", Host(Reason::BadHost)),
        ("GET / HTTP/1.1\r\nHost: a.example, b.example\r\n\r\n", Host(Reason::BadHost)),
        ("GET / HTTP/1.1\r\nHost: a.example:443\r\n\r\n", Host(Reason::BadHost)),
        ("GET / HTTP/1.1\r\nHost: a.example:\r\n\r\n", Host(Reason::BadHost)),
        ("GET / HTTP/1.1\r\nHost: a.example:+80\r\n\r\n", Host(Reason::BadHost)),
        ("GET / HTTP/1.1\r\nHost: x@a.example\r\n\r\n", Host(Reason::BadHost)),
        ("GET / HTTP/1.1\r\nHost: a.example/x\r\n\r\n", Host(Reason::BadHost)),
        ("GET / HTTP/1.1\r\nHost: \u{e9}.example\r\n\r\n", Host(Reason::BadHost)),
        ("GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n", Host(Reason::IpLiteral)),
        ("GET / HTTP/1.1\r\nHost: 0x7f.1:80\r\n\r\n", Host(Reason::IpLiteral)),
        ("GET / HTTP/1.1\r\nHost: [2001:db8::1]\r\n\r\n", Host(Reason::IpLiteral)),
        ("GET http://b.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", Host(Reason::BadHost)),
        (
            "GET http://a.example@b.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
            Host(Reason::BadHost),
        ),
        // Other protocols.
        ("CONNECT a.example:80 HTTP/1.1\r\nHost: a.example:80\r\n\r\n", Method),
        ("GET / HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\n\r\n", Method),
        ("GET / HTTP/1.1\r\nHost: a.example\r\nUpgrade: h2c, websocket\r\n\r\n", Method),
    ] {
        assert_eq!(read(head.as_bytes()), HeadProgress::Reject(fault), "{head:?}");
    }
}

#[test]
fn tls_on_this_port_is_refused_at_its_first_octet() {
    assert_eq!(read(&[22]), HeadProgress::Reject(HeadFault::Malformed));
}

#[test]
fn every_prefix_is_incomplete_and_what_follows_changes_nothing() {
    let head = b"POST /x HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\n";
    for end in 0..head.len() {
        assert_eq!(read(&head[..end]), HeadProgress::Incomplete, "{end}");
    }
    let mut longer = head.to_vec();
    longer.extend_from_slice(b"abcGET / HTTP/1.1\r\n\0");
    assert_eq!(read(&longer), read(head));
}

#[test]
fn trips_at_the_limits() {
    let fields = |count: usize| {
        let fields: String = (1..count).map(|n| format!("x{n}: y\r\n")).collect();
        read(format!("GET / HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n").as_bytes())
    };
    assert!(matches!(fields(MAX_FIELDS), HeadProgress::Complete(_)));
    assert_eq!(fields(MAX_FIELDS + 1), HeadProgress::Reject(HeadFault::TooLarge));
    let start = "GET / HTTP/1.1\r\nHost: a.example\r\nX: ";
    let long = |length: usize| {
        let end = "\r\n\r\n";
        let filler = "y".repeat(length - start.len() - end.len());
        read(format!("{start}{filler}{end}").as_bytes())
    };
    assert!(matches!(long(MAX_HEAD_OCTETS), HeadProgress::Complete(_)));
    assert_eq!(long(MAX_HEAD_OCTETS + 1), HeadProgress::Reject(HeadFault::TooLarge));
    assert_eq!(read(&vec![b'y'; MAX_HEAD_OCTETS + 1]), HeadProgress::Reject(HeadFault::TooLarge));
}

proptest! {
    #[test]
    fn how_octets_are_cut_does_not_matter(
        octets in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..64),
            "(GET|POST) [/*a-z:]{1,8} HTTP/1\\.[01]\r\n(Host: ?[a-z.:0-9]{0,9}\r\n){0,2}(X ?: y\r?\n)?\r\n.{0,5}"
                .prop_map(String::into_bytes),
        ],
        size in 1_usize..9,
    ) {
        let whole = read(&octets);
        let mut reader = HeadReader::default();
        let mut progress = HeadProgress::Incomplete;
        for piece in octets.chunks(size) {
            progress = reader.push(piece, 80);
            if progress != HeadProgress::Incomplete {
                break;
            }
        }
        prop_assert_eq!(progress, whole);
    }
}

fn read(octets: &[u8]) -> HeadProgress {
    HeadReader::default().push(octets, 80)
}

#[test]
fn request_to_a_proxy_names_host_and_port() {
    let read = |text: &str| HeadReader::default().push_to_proxy(text.as_bytes());
    let host = HostName::parse("a.example").unwrap();
    for (text, port) in [
        ("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n", 443),
        ("CONNECT A.Example:8443 HTTP/1.1\r\nHost: a.example\r\n\r\n", 8443),
        ("CONNECT a.example:443 HTTP/1.0\r\n\r\n", 443),
    ] {
        assert_eq!(read(text), ProxyProgress::Connect(host.clone(), port), "{text}");
    }
    for (text, port, path) in [
        ("GET http://a.example/b?c HTTP/1.1\r\nHost: a.example\r\n\r\n", 80, "/b?c"),
        ("GET http://a.example:8080 HTTP/1.1\r\nHost: a.example:8080\r\n\r\n", 8080, "/"),
        ("GET HTTP://a.example:8080?d HTTP/1.1\r\nHost: a.example\r\n\r\n", 8080, "/?d"),
        ("GET /b HTTP/1.1\r\nHost: a.example:81\r\n\r\n", 81, "/b"),
    ] {
        let ProxyProgress::Carry(head, found) = read(text) else { panic!("{text}") };
        assert_eq!((head.host, head.path.as_str(), found), (host.clone(), path, port), "{text}");
    }
}

#[test]
fn request_to_a_proxy_that_names_two_places_or_none_is_refused() {
    let bad = HeadFault::Host(Reason::BadHost);
    for (text, fault) in [
        ("CONNECT a.example:443 HTTP/1.1\r\nHost: b.example:443\r\n\r\n", bad),
        ("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:22\r\n\r\n", bad),
        ("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\nHost: a.example\r\n\r\n", bad),
        ("CONNECT a.example:443 HTTP/1.1\r\n\r\n", HeadFault::Host(Reason::NoHost)),
        ("CONNECT a.example HTTP/1.1\r\nHost: a.example\r\n\r\n", bad),
        ("CONNECT a.example:0 HTTP/1.1\r\nHost: a.example\r\n\r\n", bad),
        ("CONNECT a.example:+443 HTTP/1.1\r\nHost: a.example\r\n\r\n", bad),
        ("CONNECT u@a.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n", bad),
        (
            "CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: a.example\r\n\r\n",
            HeadFault::Host(Reason::IpLiteral),
        ),
        (
            "CONNECT 192.0.2.1:443 HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n",
            HeadFault::Host(Reason::IpLiteral),
        ),
        (
            "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\nContent-Length: 9\r\n\r\n",
            HeadFault::Malformed,
        ),
        ("GET https://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", HeadFault::Malformed),
        ("GET http://a.example:81/ HTTP/1.1\r\nHost: a.example:82\r\n\r\n", bad),
        ("GET http://u@a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", bad),
    ] {
        let progress = HeadReader::default().push_to_proxy(text.as_bytes());
        assert_eq!(progress, ProxyProgress::Reject(fault), "{text}");
    }
}

/// The stored inputs of the fuzz targets: whatever they are, cutting them changes nothing.
#[test]
fn reads_stored_fuzz_inputs_the_same_whole_and_cut() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fuzz/corpus/http-head");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let octets = std::fs::read(entry.unwrap().path()).unwrap();
        let mut reader = HeadReader::default();
        let mut cut = octets.chunks(1).map(|octet| reader.push(octet, 80));
        let cut = cut.find(|progress| *progress != HeadProgress::Incomplete);
        let whole = HeadReader::default().push(&octets, 80);
        assert_eq!(cut.unwrap_or(HeadProgress::Incomplete), whole);
        let _ = HeadReader::default().push_to_proxy(&octets);
        count += 1;
    }
    assert!(count > 5, "stored inputs are in their folder");
}
