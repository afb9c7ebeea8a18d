//! Captures of real clients, whole, cut and bent; how each was made: `tests/data/captures`.

use pcap_parser::Linktype;
use proptest::prelude::*;

use super::{made::*, *};

const AIOQUIC: &[u8] = include_bytes!("../../../../tests/data/captures/aioquic-v2.pcap");
const CHROMIUM: &[u8] = include_bytes!("../../../../tests/data/captures/chromium.pcapng");
const CURL: &[u8] = include_bytes!("../../../../tests/data/captures/curl.pcap");
const DNS: &[u8] = include_bytes!("../../../../tests/data/captures/dns.pcap");
const FRAGMENTS: &[u8] = include_bytes!("../../../../tests/data/captures/fragments.pcap");
const PIPELINED: &[u8] = include_bytes!("../../../../tests/data/captures/pipelined-sll.pcap");
const QUINN: &[u8] = include_bytes!("../../../../tests/data/captures/quinn-sll2.pcap");
const SPLIT: &[u8] = include_bytes!("../../../../tests/data/captures/record-split.pcap");

/// Each capture, and everything in it that is asked for.
const CAPTURED: [(&[u8], &[&str]); 8] = [
    (AIOQUIC, &["100.64.0.7 quic v2.example 443", "2001:db8:64::7 quic v2-six.example 443"]),
    (
        CHROMIUM,
        &[
            "100.64.0.7 http clients2.google.com 80",
            "100.64.0.7 https accounts.google.com 443",
            "100.64.0.7 https update.googleapis.com 443",
            "100.64.0.7 quic quic.example 443",
            "2001:db8:64::7 http clients2.google.com 80",
            "2001:db8:64::7 https accounts.google.com 443",
            "2001:db8:64::7 https tls.example 443",
            "2001:db8:64::7 https update.googleapis.com 443",
        ],
    ),
    (
        CURL,
        &[
            "100.64.0.7 http ctldl.windowsupdate.com 80",
            "100.64.0.7 http www.msn.com 80",
            "100.64.0.7 https login.live.com 443",
            "100.64.0.7 https www.bing.com 443",
            "2001:db8:64::7 http crl.microsoft.com 80",
            "2001:db8:64::7 https mps.datamart.windows.com 443",
        ],
    ),
    (
        DNS,
        &[
            "100.64.0.7 dns login.live.com 53",
            "100.64.0.7 dns mps.datamart.windows.com 53",
            "100.64.0.7 dns www.bing.com 53",
            "2001:db8:64::7 dns login.live.com 53",
            "2001:db8:64::7 dns www.bing.com 53",
        ],
    ),
    (FRAGMENTS, &["100.64.0.7 dns padded.example 53", "2001:db8:64::7 dns padded6.example 53"]),
    (
        PIPELINED,
        &[
            "100.64.0.7 http a.example 80",
            "100.64.0.7 http b.example 80",
            "100.64.0.7 http c.example 80",
        ],
    ),
    (
        QUINN,
        &[
            "100.64.0.7 quic long-v1.example 443",
            "100.64.0.7 quic retried.example 8443",
            "100.64.0.7 quic v1.example 443",
            "2001:db8:64::7 quic long6-v1.example 443",
        ],
    ),
    (SPLIT, &["100.64.0.7 https mps.datamart.windows.com 443"]),
];

#[test]
fn finds_every_name_that_real_clients_asked_for() {
    for (capture, expected) in CAPTURED {
        let found = read(capture);
        assert!(found.error.is_none(), "{:?}", found.error);
        assert_eq!(found.names(), expected);
    }
    assert_eq!(read(CURL).asked["100.64.0.7 http ctldl.windowsupdate.com 80"], 2);
}

#[test]
fn every_prefix_is_judged_as_far_as_it_goes() {
    for capture in [DNS, FRAGMENTS, PIPELINED, SPLIT] {
        let whole = read(capture);
        let mut longest = 0;
        for end in (0..capture.len()).step_by(if capture.len() > 3_000 { 7 } else { 1 }) {
            let found = read(&capture[..end]);
            assert!(found.asked.len() >= longest, "{end}");
            longest = found.asked.len();
            for name in found.names() {
                assert!(whole.asked.contains_key(name), "{name} at {end}");
            }
            match found.error {
                None | Some(CaptureError::Cut { .. }) => {}
                Some(CaptureError::Format) if end < 4 => {}
                Some(error) => panic!("{error:?} at {end}"),
            }
        }
    }
    for capture in [CHROMIUM, CURL, QUINN, AIOQUIC] {
        for end in (0..capture.len()).step_by(97) {
            let found = read(&capture[..end]);
            assert!(!matches!(found.error, Some(CaptureError::Malformed { .. })), "{end}");
        }
    }
}

#[test]
fn cut_capture_says_where() {
    let cut = &DNS[..DNS.len() - 1];
    let Some(CaptureError::Cut { offset }) = read(cut).error else { panic!("not cut") };
    let last = frames(DNS).pop().unwrap().1;
    assert_eq!(offset, DNS.len() - last.len() - 16);
}

#[test]
fn file_format_and_link_type_make_no_difference() {
    for (capture, expected) in [(CURL, CAPTURED[2].1), (DNS, CAPTURED[3].1)] {
        let frames: Vec<Vec<u8>> = frames(capture)
            .into_iter()
            .filter(|(_, frame)| frame[12..14] == [8, 0] || frame[12..14] == [0x86, 0xdd])
            .map(|(_, frame)| frame)
            .collect();
        let tag = |tags: &[u8]| -> Vec<Vec<u8>> {
            let tagged = |frame: &Vec<u8>| [&frame[..12], tags, &frame[12..]].concat();
            frames.iter().map(tagged).collect()
        };
        let headed = |head: &dyn Fn(&[u8]) -> Vec<u8>| -> Vec<Vec<u8>> {
            frames.iter().map(|frame| [&head(&frame[12..14])[..], &frame[14..]].concat()).collect()
        };
        let raw = headed(&|_| Vec::new());
        let sll = headed(&|kind| [&[0; 14][..], kind].concat());
        let sll2 = headed(&|kind| [kind, &[0; 18]].concat());
        let null = headed(&|kind| vec![if kind[0] == 8 { 2 } else { 10 }, 0, 0, 0]);
        let files = [
            pcap(1, &frames),
            pcap(1, &tag(&[0x81, 0, 0, 5])),
            pcap(1, &tag(&[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6])),
            pcap(RAW, &raw),
            pcap(113, &sll),
            pcap(276, &sll2),
            pcap(0, &null),
            pcap(108, &null),
            pcap_as(1, &frames, 0xa1b2_3c4d, u32::to_le_bytes, u16::to_le_bytes),
            pcap_as(1, &frames, 0xa1b2_c3d4, u32::to_be_bytes, u16::to_be_bytes),
            pcap_as(1, &frames, 0xa1b2_3c4d, u32::to_be_bytes, u16::to_be_bytes),
        ];
        for (number, file) in files.iter().enumerate() {
            let found = read(file);
            assert!(found.error.is_none(), "{number}: {:?}", found.error);
            assert_eq!(found.names(), expected, "{number}");
        }
        let half = frames.len() / 2;
        let mixed: Vec<(u16, Vec<u8>)> = (0..frames.len())
            .map(|at| if at < half { (1, frames[at].clone()) } else { (101, raw[at].clone()) })
            .collect();
        for file in [
            pcapng(&mixed, u32::to_le_bytes, u16::to_le_bytes),
            pcapng(&mixed, u32::to_be_bytes, u16::to_be_bytes),
        ] {
            let found = read(&file);
            assert!(found.error.is_none(), "{:?}", found.error);
            assert_eq!(found.names(), expected);
        }
    }
}

#[test]
fn packets_of_unknown_interfaces_and_endless_blocks_end_the_reading() {
    let mut file =
        pcapng(&[(1, vec![0; 60]), (1, vec![0; 60])], u32::to_le_bytes, u16::to_le_bytes);
    let section = 28;
    file.drain(section..section + 20);
    assert!(matches!(read(&file).error, Some(CaptureError::Interface { .. })));
    let mut file = pcap(RAW, &[]);
    file.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 0, 0, 0, 0x7f]);
    file.resize(40 << 20, 0);
    assert!(matches!(read(&file).error, Some(CaptureError::TooLong { offset: 24 })));
    assert!(matches!(read(b"GIF89a").error, Some(CaptureError::Format)));
    assert!(matches!(read(b"").error, Some(CaptureError::Format)));
}

#[test]
fn hello_in_any_order_of_segments_is_read_and_a_second_copy_does_not_count() {
    let hello = include_bytes!("../../../../tests/data/hello/openssl-fragments.bin");
    let other = vec![b'x'; hello.len()];
    let (a, b, c) = (&hello[..500], &hello[500..1_000], &hello[1_000..]);
    for (first, parts, conflicts) in [
        (7, vec![(1_000, c), (500, b), (0, a)], 0),
        (u32::MAX - 600, vec![(500, b), (1_000, c), (500, b), (0, a)], 0),
        (7, vec![(0, a), (0, &other[..500]), (500, b), (1_000, c)], 1),
        (7, vec![(500, b), (400, &other[..200]), (0, a), (1_000, c)], 2),
    ] {
        let found = read(&pcap(RAW, &connection(1_000, 8_443, first, &parts)));
        let names = found.names();
        assert_eq!(names, ["100.64.0.9 https mps.datamart.windows.com 8443"]);
        assert_eq!(found.notes.of(Note::Conflict), conflicts);
    }
}

#[test]
fn answers_of_servers_are_not_asked_for() {
    let hello = include_bytes!("../../../../tests/data/hello/rustls.bin");
    let answer = |sequence, flags, octets: &[u8]| {
        ipv4(6, SERVER, SUBSCRIBER, &tcp(443, 1_000, sequence, flags, octets))
    };
    let mut frames = connection(1_000, 443, 5, &[]);
    frames.push(answer(99, SYN | ACK, b""));
    frames.push(answer(100, ACK, hello));
    frames.extend(connection(1_000, 443, 5, &[(0, hello)]));
    let found = read(&pcap(RAW, &frames));
    assert_eq!(found.names(), ["100.64.0.9 https mps.datamart.windows.com 443"]);

    let found = read(&pcap(RAW, &[answer(100, ACK, b"\x16\x03\x03\0\x04\x02\0\0\0")]));
    assert_eq!(found.names(), [""; 0]);
    assert_eq!(found.notes.of(Note::Midstream), 1);
}

#[test]
fn connections_without_a_name_are_told_by_port() {
    let mut frames = connection(1_000, 22, 5, &[(0, b"SSH-2.0-x\r\n")]);
    frames.extend(connection(1_001, 25, 5, &[]));
    frames.extend(connection(1_002, 443, 5, &[(0, b"SSH-2.0-x\r\n")]));
    frames.extend(connection(1_003, 443, 5, &[]));
    frames.extend(connection(
        1_004,
        8_080,
        5,
        &[(0, b"GE"), (2, b"T / HTTP/1.1\r\nHost: h.example:8080\r\n\r\n")],
    ));
    frames.push(datagram(123, &[0x23; 48]));
    frames.push(datagram(443, &[0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 0, 0, 0]));
    let found = read(&pcap(RAW, &frames));
    assert_eq!(
        found.names(),
        [
            "100.64.0.9 http h.example 8080",
            "100.64.0.9 https -not-tls 443",
            "100.64.0.9 quic -quic 443",
            "100.64.0.9 tcp -port-not-listed 22",
            "100.64.0.9 tcp -port-not-listed 25",
            "100.64.0.9 udp -port-not-listed 123",
        ]
    );
    assert_eq!(found.notes.of(Note::Idle), 1);
}

#[test]
fn quic_hello_in_any_order_of_datagrams_is_read() {
    let hello = hello();
    let (a, b, c) = (&hello[..100], &hello[100..200], &hello[200..]);
    let (a, b, c) = (crypto(0, a), crypto(100, b), crypto(200, c));
    let noise = [0, 0, 1, 2, 0, 0, 0, 0, 3, 1, 0, 1, 0, 0, 0, 1, 1, 1];
    for version in [1, 2] {
        let id = b"\x83\x94\xc8\xf0\x3e\x51\x57\x08";
        let packet = |number, parts: &[&[u8]]| initial(version, id, number, &parts.concat(), 60);
        let (one, two) = (packet(0, &[&noise, &c]), packet(1, &[&b, &noise]));
        let three = packet(2, &[&a, &a]);
        let orders = [
            vec![one.clone(), two.clone(), three.clone()],
            vec![three.clone(), one.clone(), two.clone()],
            vec![[one.clone(), two.clone()].concat(), [three.clone(), vec![0; 40]].concat()],
        ];
        for datagrams in orders {
            let frames: Vec<Vec<u8>> =
                datagrams.iter().map(|octets| datagram(443, octets)).collect();
            let found = read(&pcap(RAW, &frames));
            assert_eq!(found.names(), ["100.64.0.9 quic mps.datamart.windows.com 443"]);
            assert_eq!(found.notes, Notes::default());
        }
        let other = crypto(0, &[1, 9, 9]);
        let frames = [packet(0, &[&a, &other]), two, one].map(|octets| datagram(443, &octets));
        let found = read(&pcap(RAW, &frames));
        assert_eq!(found.names(), ["100.64.0.9 quic mps.datamart.windows.com 443"]);
        assert_eq!(found.notes.of(Note::Conflict), 1);
    }
}

/// The stored inputs of the fuzz target: whatever they are, they are read to an end, and the same
/// again.
#[test]
fn reads_stored_fuzz_inputs_the_same_again() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fuzz/corpus/capture");
    let limits = || ReaderLimits { flows: 64, octets: 1 << 16 };
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let capture = std::fs::read(&path).unwrap();
        let (first, again) = (read_within(&capture, limits()), read_within(&capture, limits()));
        assert_eq!((first.asked, first.notes), (again.asked, again.notes), "{path:?}");
        count += 1;
    }
    assert!(count > 5, "stored inputs are in their folder");
}

proptest! {
    #[test]
    fn bent_captures_never_panic(
        which in 0..CAPTURED.len(),
        bends in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut capture = CAPTURED[which].0.to_vec();
        for (at, octet) in bends {
            let at = at.index(capture.len());
            capture[at] = octet;
        }
        let _ = read(&capture);
        capture.truncate(cut.index(capture.len()));
        let _ = read(&capture);
    }
}

fn frames(capture: &[u8]) -> Vec<(Linktype, Vec<u8>)> {
    let mut frames = Frames::new(capture).unwrap();
    let mut all = Vec::new();
    while let Some(frame) = frames.next().unwrap() {
        all.push((frame.link, frame.octets.to_vec()));
    }
    all
}
