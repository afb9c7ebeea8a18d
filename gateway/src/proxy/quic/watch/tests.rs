use super::*;
use crate::proxy::quic::made::{crypto, hello, initial};

/// Whom the hello names.
const HOST: &str = "mps.datamart.windows.com";
const ID: &[u8] = b"original";

/// A datagram with a part of the hello, from a client of version 1.
fn part(number: u8, from: usize, to: usize) -> Vec<u8> {
    initial(1, ID, number, &crypto(from, &hello()[from..to]), 1_200)
}

/// The hello for another host of the same length.
fn other_hello() -> Vec<u8> {
    let mut octets = hello().to_vec();
    let at = octets.windows(3).position(|octets| octets == b"mps").unwrap();
    octets[at..at + 3].copy_from_slice(b"xyz");
    octets
}

/// A 0-RTT packet: its header is that of an Initial one without a token.
fn early() -> Vec<u8> {
    let mut octets = initial(1, ID, 0, &[0; 100], 600);
    octets[0] |= 0x10;
    octets.remove(7 + ID.len());
    octets
}

fn named() -> Step {
    Step::Named(host())
}

fn host() -> HostName {
    HostName::parse(HOST).unwrap()
}

/// A watch over a path that was named.
fn begun() -> Watch {
    let mut watch = Watch::default();
    assert_eq!(watch.push(&part(0, 0, hello().len())), named());
    watch
}

#[test]
fn hello_in_any_number_and_order_of_datagrams_names_the_path_once() {
    let end = hello().len();
    for version in [1, 2] {
        let part = |number, from: usize, to: usize| {
            initial(version, ID, number, &crypto(from, &hello()[from..to]), 1_200)
        };
        let parts = [part(0, 0, 40), part(1, 40, 100), part(2, 100, end)];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut watch = Watch::default();
            let steps = order.map(|at| watch.push(&parts[at]));
            assert_eq!(steps, [Step::Keep, Step::Keep, named()], "{order:?}");
            for again in &parts {
                assert_eq!(watch.push(again), Step::Release, "sent again");
            }
        }
    }
}

#[test]
fn ping_and_padding_and_closing_frames_between_hide_nothing() {
    let end = hello().len();
    let ping = vec![1; 3];
    let padding = vec![0; 7];
    let frames = [
        ping.clone(),
        crypto(100, &hello()[100..end]),
        padding,
        crypto(0, &hello()[..60]),
        ping,
        crypto(60, &hello()[60..100]),
    ];
    let mut watch = Watch::default();
    assert_eq!(watch.push(&initial(1, ID, 7, &frames.concat(), 1_200)), named());
    let close = [0x1c, 2, 0, 3, b'b', b'y', b'e'];
    assert_eq!(watch.push(&initial(1, ID, 8, &close, 1_200)), Step::Release);
}

#[test]
fn coalesced_packets_are_all_opened() {
    let end = hello().len();
    let together = |one: &[u8], other: &[u8]| {
        [initial(1, ID, 0, one, 600), initial(1, ID, 1, other, 600)].concat()
    };
    let (first, second) = (crypto(0, &hello()[..80]), crypto(80, &hello()[80..end]));
    assert_eq!(Watch::default().push(&together(&first, &second)), named());
    // A second hello for another host, behind the first.
    let other = crypto(end, &other_hello());
    let whole = crypto(0, hello());
    let step = Watch::default().push(&together(&whole, &other));
    assert_eq!(step, Step::Reject(Reason::HelloChanged));
    // Behind a packet that is not an Initial one.
    let hidden = [early(), initial(1, ID, 1, &other, 1_200)].concat();
    assert_eq!(begun().push(&hidden), Step::Reject(Reason::HelloChanged));
}

#[test]
fn second_hello_of_a_connection_must_name_the_same_host() {
    let end = hello().len();
    let again = initial(1, ID, 1, &crypto(end, hello()), 1_200);
    let mut watch = begun();
    assert_eq!(watch.push(&again), Step::Release, "after a HelloRetryRequest");
    let third = initial(1, ID, 2, &crypto(2 * end, hello()), 1_200);
    assert_eq!(watch.push(&third), Step::Reject(Reason::HelloChanged), "there is no third");
    let other = initial(1, ID, 1, &crypto(end, &other_hello()), 1_200);
    assert_eq!(begun().push(&other), Step::Reject(Reason::HelloChanged));
    // In pieces it is kept until it is whole.
    let mut watch = begun();
    let pieces = [(end, &other_hello()[..90]), (end + 90, &other_hello()[90..])];
    let steps = pieces.map(|(at, piece)| watch.push(&initial(1, ID, 3, &crypto(at, piece), 1_200)));
    assert_eq!(steps, [Step::Keep, Step::Reject(Reason::HelloChanged)]);
}

#[test]
fn connection_after_a_retry_must_name_the_same_host() {
    let mut watch = begun();
    let again = initial(1, b"chosen by the server", 1, &crypto(0, hello()), 1_200);
    assert_eq!(watch.push(&again), Step::Release);
    let other = initial(1, b"chosen again", 2, &crypto(0, &other_hello()), 1_200);
    assert_eq!(watch.push(&other), Step::Reject(Reason::HelloChanged));
    // The first hello is whole only after the Retry.
    let mut watch = Watch::default();
    assert_eq!(watch.push(&part(0, 0, 90)), Step::Keep);
    let whole = initial(1, b"chosen by the server", 1, &crypto(0, &other_hello()), 1_200);
    assert_eq!(watch.push(&whole), Step::Keep, "the other attempt is not whole");
    assert_eq!(watch.push(&part(2, 90, hello().len())), Step::Reject(Reason::HelloChanged));
}

#[test]
fn part_of_a_hello_is_not_let_through_by_a_whole_one() {
    let mut watch = begun();
    let split = initial(1, b"another", 0, &crypto(0, &other_hello()[..90]), 1_200);
    assert_eq!(watch.push(&split), Step::Keep);
    // Its last attempt's turn comes when others are whole; what was kept stays.
    for number in 1..4 {
        assert_eq!(watch.push(&part(number, 0, hello().len())), Step::Keep);
    }
    assert_eq!(watch.push(&[0x40; 50]), Step::Pass, "a short header");
    let rest = initial(1, b"another", 1, &crypto(90, &other_hello()[90..]), 1_200);
    assert_eq!(watch.push(&rest), Step::Reject(Reason::HelloChanged));
}

#[test]
fn attempts_that_are_not_whole_are_never_forgotten() {
    let mut watch = begun();
    let split = |id: &[u8]| initial(1, id, 0, &crypto(0, &hello()[..90]), 1_200);
    assert_eq!(watch.push(&split(b"one")), Step::Keep);
    assert_eq!(watch.push(&split(b"two")), Step::Keep);
    assert_eq!(watch.push(&split(b"three")), Step::Keep, "in place of the first, which is whole");
    assert_eq!(watch.push(&split(b"four")), Step::Reject(Reason::HelloTooLarge));
}

#[test]
fn octets_that_came_twice_and_differ_end_the_path() {
    let end = hello().len();
    let mut watch = Watch::default();
    assert_eq!(watch.push(&part(0, 30, end)), Step::Keep);
    let changed = initial(1, ID, 1, &crypto(0, &other_hello()), 1_200);
    assert_eq!(watch.push(&changed), Step::Reject(Reason::HelloChanged));
    assert_eq!(begun().push(&changed), Step::Reject(Reason::HelloChanged));
}

#[test]
fn change_of_version_by_the_server_is_followed() {
    let mut watch = begun();
    // The keys of version 2 follow from the connection ID of the first packet.
    let acknowledgement = initial(2, ID, 1, &[2, 0, 0, 0, 0], 1_200);
    assert_eq!(watch.push(&acknowledgement), Step::Release);
    let end = hello().len();
    let other = initial(2, ID, 2, &crypto(end, &other_hello()), 1_200);
    assert_eq!(watch.push(&other), Step::Reject(Reason::HelloChanged));
}

#[test]
fn nothing_passes_before_the_name_and_nothing_unopened_after_it() {
    let small = initial(1, ID, 0, &crypto(0, hello()), 300);
    let mut unopened = part(0, 0, hello().len());
    *unopened.last_mut().unwrap() ^= 1;
    let mut unknown = part(0, 0, hello().len());
    unknown[1..5].copy_from_slice(&[0x0a, 0x1a, 0x2a, 0x3a]);
    let mut retry = part(0, 0, hello().len());
    retry[0] |= 0x30;
    let coalesced = [part(0, 0, hello().len()), vec![0xc0, 0x0a, 0x1a, 0x2a, 0x3a]].concat();
    let strange: [&[u8]; 7] =
        [b"", &[0x40; 100], &[0xff; 100], &small, &unopened, &unknown, &retry];
    for octets in strange {
        assert_eq!(Watch::default().push(octets), Step::Ignore, "{octets:02x?}");
    }
    assert_eq!(Watch::default().push(&coalesced), Step::Ignore);
    for octets in [&unopened, &unknown, &retry, &coalesced] {
        assert_eq!(begun().push(octets), Step::Ignore, "{octets:02x?}");
    }
    assert_eq!(begun().push(&[0x40; 100]), Step::Pass);
}

#[test]
fn early_data_waits_with_the_hello() {
    let early = early();
    assert_eq!(Watch::default().push(&early), Step::Ignore);
    let mut watch = Watch::default();
    assert_eq!(watch.push(&part(0, 0, 90)), Step::Keep);
    assert_eq!(watch.push(&early), Step::Keep);
    assert_eq!(watch.push(&part(1, 90, hello().len())), named());
    assert_eq!(watch.push(&early), Step::Pass);
}

#[test]
fn what_is_kept_is_bounded_in_datagrams_and_octets() {
    let mut watch = Watch::default();
    for number in 0..u8::try_from(MAX_KEPT).unwrap() {
        assert_eq!(watch.push(&part(number, 0, 90)), Step::Keep, "{number}");
    }
    assert_eq!(watch.push(&part(99, 0, 90)), Step::Reject(Reason::HelloTooLarge));
    let far = initial(1, ID, 0, &crypto(16_383, &[7]), 1_200);
    assert_eq!(Watch::default().push(&far), Step::Reject(Reason::HelloTooLarge));
}

#[test]
fn hello_without_a_name_and_frames_of_others_are_refused() {
    for (frames, reason) in [
        (crypto(0, &[2, 0, 0, 1, 0]), Reason::NotTls),
        // STREAM, HANDSHAKE_DONE, a frame beyond the packet's end.
        ([crypto(0, hello()), vec![8, 0, 1]].concat(), Reason::NotTls),
        (vec![0x1e], Reason::NotTls),
        (vec![0; 1_198].into_iter().chain([6, 9]).collect(), Reason::NotTls),
    ] {
        let step = Watch::default().push(&initial(1, ID, 0, &frames, 1_200));
        assert_eq!(step, Step::Reject(reason), "{frames:?}");
    }
}

#[test]
fn refusal_is_for_the_latest_client() {
    assert_eq!(Watch::default().refusal(), None);
    let refusal = begun().refusal().unwrap();
    assert_eq!(refusal[1..5], [0, 0, 0, 1]);
    assert!(refusal.windows(ID.len()).any(|octets| octets == ID));
}

/// The stored inputs of the fuzz targets: datagrams behind their lengths, each raw or the frames of
/// an Initial packet.
#[test]
fn stored_fuzz_inputs_pass_nothing_before_a_name() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fuzz/corpus/quic-initial");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let octets = std::fs::read(entry.unwrap().path()).unwrap();
        let mut rest = octets.as_slice();
        let mut watch = Watch::default();
        let mut is_named = false;
        while let Some((length, behind)) = rest.split_first_chunk::<2>() {
            let length = usize::from(u16::from_be_bytes(*length)).min(behind.len()).min(16_000);
            let (piece, behind) = behind.split_at(length);
            rest = behind;
            let Some((kind, frames)) = piece.split_first() else { continue };
            let datagram = match kind % 8 {
                0 => frames.to_vec(),
                kind => initial(1 + kind % 2, &[b'0' + kind / 3; 8], 0, frames, 1_200),
            };
            let step = watch.push(&datagram);
            assert!(is_named || !matches!(step, Step::Pass | Step::Release));
            is_named |= matches!(step, Step::Named(_));
        }
        count += 1;
    }
    assert!(count > 5, "stored inputs are in their folder");
}
