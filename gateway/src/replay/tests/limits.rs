//! Every bound, reached.

use policy::{Source, Verdict, compile};

use super::{made::*, *};

#[test]
fn oldest_flow_is_given_up_when_there_are_too_many() {
    let mut frames = Vec::new();
    for port in 1_000..1_010 {
        frames.extend(connection(port, 443, 5, &[(0, &[22, 3])]));
    }
    let limits = ReaderLimits { flows: 4, ..ReaderLimits::default() };
    let found = read_within(&pcap(RAW, &frames), limits);
    assert_eq!(found.notes.of(Note::Evicted), 6);
    assert_eq!(found.notes.of(Note::Unfinished), 10);
}

#[test]
fn oldest_flow_is_given_up_when_too_much_waits() {
    let mut frames = Vec::new();
    for port in 1_000..1_010 {
        frames.extend(connection(port, 443, 5, &[(10, &[0; 1_000])]));
    }
    let limits = ReaderLimits { octets: 5_000, ..ReaderLimits::default() };
    let found = read_within(&pcap(RAW, &frames), limits);
    assert_eq!((found.notes.of(Note::Evicted), found.notes.of(Note::Gap)), (5, 10));
}

#[test]
fn judged_flows_cost_no_memory_for_what_follows() {
    let hello = include_bytes!("../../../../tests/data/hello/rustls.bin");
    let mut reader = Reader::new(ReaderLimits { flows: 8, octets: 1 });
    let mut parts: Vec<(u32, &[u8])> = vec![(0, hello)];
    parts.extend((0..1_000).map(|part| (251 + part * 1_400, &[0_u8; 1_400][..])));
    let file = pcap(RAW, &connection(1_000, 443, 5, &parts));
    let mut frames = Frames::new(file.as_slice()).unwrap();
    while let Some(frame) = frames.next().unwrap() {
        reader.take(frame);
    }
    reader.finish();
    assert_eq!(reader.sightings().count(), 1);
    assert_eq!(*reader.notes(), Notes::default());
}

#[test]
fn hello_longer_than_the_limit_is_refused_as_the_gateway_does() {
    let mut record = vec![22, 3, 1, 0x40, 0];
    record.extend([1, 0, 0x7f, 0xff]);
    record.resize(1_000, 0);
    let found = read(&pcap(RAW, &connection(1_000, 443, 5, &[(0, &record)])));
    assert_eq!(found.names(), ["100.64.0.9 https -hello-too-large 443"]);
}

#[test]
fn quic_connection_that_never_shows_its_hello_ends() {
    let frames: Vec<Vec<u8>> = (0..70)
        .map(|number| datagram(443, &initial(1, b"abcdefgh", number, &crypto(9, &[7]), 1_100)))
        .collect();
    let found = read(&pcap(RAW, &frames));
    assert_eq!(found.names(), ["100.64.0.9 quic -hello-timeout 443"]);
    let frames = [datagram(443, &initial(1, b"abcdefgh", 0, &crypto(16_383, &[7]), 1_100))];
    let found = read(&pcap(RAW, &frames));
    assert_eq!(found.names(), ["100.64.0.9 quic -hello-too-large 443"]);
}

#[test]
fn fragments_are_bounded_and_overlaps_make_the_packet_void() {
    let whole = udp(50_000, 53, &question("a.example"));
    let fragment = |at: usize, to: usize, more: u16| {
        let place = u16::try_from(at / 8).unwrap() | more << 13;
        ipv4_fragment(17, SUBSCRIBER, SERVER, &whole[at..to], place)
    };
    let end = whole.len();
    for (frames, expected) in [
        (vec![fragment(0, 16, 1), fragment(16, end, 0)], 1),
        (vec![fragment(16, end, 0), fragment(0, 16, 1)], 1),
        (vec![fragment(0, 16, 1), fragment(0, 16, 1), fragment(16, end, 0)], 1),
        (vec![fragment(0, 16, 1), fragment(8, 24, 1), fragment(24, end, 0)], 0),
        (vec![fragment(0, 16, 1)], 0),
    ] {
        let found = read(&pcap(RAW, &frames));
        assert_eq!(found.asked.len(), expected, "{frames:?}");
        assert_eq!(found.notes.of(Note::FragmentLost) > 0, expected == 0, "{frames:?}");
    }
    let many: Vec<Vec<u8>> = (0..300_u16)
        .map(|host| {
            let [high, low] = host.to_be_bytes();
            ipv4_fragment(17, [100, 64, high, low], SERVER, &whole[..16], 1 << 13)
        })
        .collect();
    assert_eq!(read(&pcap(RAW, &many)).notes.of(Note::FragmentLost), 300);
}

#[test]
fn names_and_subscribers_beyond_the_bound_are_judged_without_being_told_apart() {
    let text = "schema = 1\nname = \"t\"\nserial = 1\nenvironment = \"lab\"\n\
                default_class = \"c\"\n[http]\ndenied = \"close\"\n[[hostset]]\nname = \"s\"\n\
                [[hostset.host]]\nmatch = \"*.good.example\"\nschemes = [\"https\"]\n\
                [[class]]\nname = \"c\"\npriority = 1\naction = \"garden\"\nhostsets = [\"s\"]\n";
    let source = Source { name: "t", text };
    let policy = compile(&source, jiff::civil::date(2026, 1, 1)).unwrap().policy;
    let limits = TallyLimits { rows: 2, subscribers: 3, pairs: 4 };
    let mut tally = Tally::new(&policy, None, None, Timestamp::UNIX_EPOCH, limits);
    for number in 0..10_u8 {
        for zone in ["good", "bad"] {
            let host = HostName::parse(&format!("n{number}.{zone}.example")).unwrap();
            tally.add([100, 64, 0, number].into(), Asked::named(Protocol::Https, host, 443));
        }
    }
    let (rows, notes) = tally.into_rows();
    let told: Vec<_> =
        rows.iter().map(|row| (row.host(), row.now.verdict, row.count, row.at_least)).collect();
    assert_eq!(
        told,
        [
            ("n0.bad.example", Verdict::Deny, 1, false),
            ("(more)", Verdict::Deny, 9, true),
            ("n0.good.example", Verdict::Allow, 1, false),
            ("(more)", Verdict::Allow, 9, true),
        ]
    );
    assert_eq!(notes.of(Note::RowFolded), 18);
    // Whoever is not remembered is met anew each time.
    assert_eq!(notes.of(Note::SubscriberFolded), 14);
}
