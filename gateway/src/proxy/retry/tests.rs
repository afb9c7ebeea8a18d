//! The watch on recorded OpenSSL exchanges, and on what an evader would make of them.

mod live;

use super::*;
use server::HELLO_RETRY_REQUEST;

/// First octets of both directions of one connection. How made: `tests/data/hello`.
struct Exchange {
    client: &'static [u8],
    server: &'static [u8],
    /// Octets of the server after which the watch is over.
    over: usize,
}

macro_rules! exchange {
    ($name:literal, $over:literal) => {
        Exchange {
            client: include_bytes!(concat!(
                "../../../../tests/data/hello/exchange/openssl-",
                $name,
                ".client.bin"
            )),
            server: include_bytes!(concat!(
                "../../../../tests/data/hello/exchange/openssl-",
                $name,
                ".server.bin"
            )),
            over: $over,
        }
    };
}

/// A HelloRetryRequest of 88 octets, ChangeCipherSpec, then ServerHello.
const RETRY: Exchange = exchange!("retry", 142);
const EARLY_RETRY: Exchange = exchange!("early-retry", 142);
const EARLY: Exchange = exchange!("early", 43);
const TLS13: Exchange = exchange!("tls13", 43);
const TLS12: Exchange = exchange!("tls12", 43);

#[test]
fn passes_every_octet_of_honest_clients_however_cut() {
    for exchange in [RETRY, EARLY_RETRY, EARLY, TLS13] {
        let (hello, rest) = exchange.split();
        for size in [1, 2, 3, 5, 7, 100, 5000] {
            let (mut watch, mut out) = begin(hello);
            assert_eq!(out, hello);
            for octets in rest.chunks(size) {
                assert_eq!(watch.client(octets, &mut out), Ok(()));
            }
            assert_eq!(out, exchange.client);
            assert!(watch.into_held().is_empty());
        }
    }
}

#[test]
fn passes_what_came_together_with_the_hello() {
    for exchange in [RETRY, EARLY_RETRY, EARLY, TLS13] {
        assert_eq!(begin(exchange.client).1, exchange.client);
    }
}

#[test]
fn passes_early_data_before_the_server_has_spoken() {
    let (hello, rest) = EARLY.split();
    assert_eq!(rest.first_chunk(), Some(&[20, 3, 3, 0, 1, 1, 23]));
    let (mut watch, mut out) = begin(hello);
    assert_eq!(watch.client(&rest[..20], &mut out), Ok(()));
    assert_eq!(out, [hello, &rest[..20]].concat());
}

#[test]
fn ends_with_the_octet_that_settles_the_server_hello() {
    for exchange in [RETRY, EARLY_RETRY, EARLY, TLS13, TLS12] {
        let (mut watch, _) = begin(exchange.split().0);
        for octet in &exchange.server[..exchange.over - 1] {
            assert_eq!(watch.server(&[*octet]), ServerStep::Watching);
        }
        assert_eq!(watch.server(&exchange.server[exchange.over - 1..]), ServerStep::Over);
        let (mut watch, _) = begin(exchange.split().0);
        assert_eq!(watch.server(exchange.server), ServerStep::Over);
    }
}

#[test]
fn refuses_a_second_hello_for_another_server() {
    assert_refused(|second| replace(second, b"mps.", b"www."));
    assert_refused(|second| replace(second, b"windows.com", b"windows.net"));
}

#[test]
fn refuses_a_second_hello_without_server_name() {
    assert_refused(|second| {
        let name = position(second, b"mps.");
        // The low octet of the type of the extension that holds the name.
        second[name - 8] = 0xff;
    });
}

#[test]
fn refuses_a_second_hello_with_two_server_names() {
    assert_refused(|second| {
        let session_ticket = position(second, &[0, 35, 0, 0]);
        second[session_ticket + 1] = 0;
    });
}

#[test]
fn refuses_a_second_hello_that_cannot_be_read() {
    assert_refused(|second| second[5] = 2);
    assert_refused(|second| second[6] = 1);
    assert_refused(|second| second[9] = 2);
}

#[test]
fn takes_a_second_hello_whose_name_differs_in_case() {
    let (hello, _) = RETRY.split();
    let mut second = RETRY.second_hello();
    replace(&mut second, b"mps.", b"MPS.");
    let (mut watch, mut out) = begin(hello);
    assert_eq!(watch.client(&second, &mut out), Ok(()));
    assert_eq!(out, [hello, &second].concat());
}

#[test]
fn judges_a_second_hello_in_many_records() {
    let (hello, _) = RETRY.split();
    let mut second = fragment(&RETRY.second_hello()[5..], 40);
    let (mut watch, mut out) = begin(hello);
    assert_eq!(watch.client(&second, &mut out), Ok(()));
    assert_eq!(out, [hello, &second].concat());

    replace(&mut second, b"mps", b"www");
    let (mut watch, mut out) = begin(hello);
    assert_eq!(watch.client(&second, &mut out), Err(Reason::HelloChanged));
    assert_eq!(out, hello);
}

#[test]
fn refuses_a_second_hello_over_the_limits_of_the_first() {
    let (hello, _) = RETRY.split();
    let (mut watch, mut out) = begin(hello);
    let second = fragment(&RETRY.second_hello()[5..], 2);
    assert_eq!(watch.client(&second, &mut out), Err(Reason::HelloChanged));
    assert_eq!(out, hello);
}

#[test]
fn holds_a_second_hello_until_its_last_octet() {
    let (hello, _) = RETRY.split();
    let second = RETRY.second_hello();
    for length in 1..second.len() {
        let (mut watch, mut out) = begin(hello);
        assert_eq!(watch.client(&second[..length], &mut out), Ok(()));
        assert_eq!(out, hello);
        assert_eq!(watch.server(RETRY.server), ServerStep::Over);
        assert_eq!(watch.into_held(), &second[..length]);
    }
}

#[test]
fn refuses_a_third_hello() {
    let (hello, _) = RETRY.split();
    let second = RETRY.second_hello();
    let (mut watch, mut out) = begin(hello);
    assert_eq!(watch.client(&second, &mut out), Ok(()));
    assert_eq!(watch.server(&RETRY.server[..99]), ServerStep::Watching);
    assert_eq!(watch.client(&second[..1], &mut out), Err(Reason::HelloChanged));
}

#[test]
fn refuses_another_record_within_a_second_hello() {
    let (hello, _) = RETRY.split();
    let second = fragment(&RETRY.second_hello()[5..], 100);
    for record in [&[20, 3, 3, 0, 1, 1][..], &[23, 3, 3, 0, 0], &[21, 3, 3, 0, 2, 1, 0]] {
        let (mut watch, mut out) = begin(hello);
        let octets = [&second[..105], record, &second[105..]].concat();
        assert_eq!(watch.client(&octets, &mut out), Err(Reason::HelloChanged));
        assert_eq!(out, hello);
    }
}

#[test]
fn refuses_records_that_are_not_tls() {
    let too_long = u16::try_from(Records::MAX_CIPHERTEXT + 1).unwrap().to_be_bytes();
    let cases = [
        &b"GET /"[..],
        &[24, 3, 3, 0, 1, 1],
        &[23, 2],
        &[23, 3, 3, too_long[0], too_long[1]],
        &[20, 3, 3, 0, 0],
        &[21, 3, 3, 0, 0],
    ];
    for octets in cases {
        let (mut watch, mut out) = begin(RETRY.split().0);
        assert_eq!(watch.client(octets, &mut out), Err(Reason::NotTls), "{octets:?}");
    }
}

#[test]
fn passes_the_largest_and_the_smallest_early_data() {
    let (hello, _) = RETRY.split();
    let length = u16::try_from(Records::MAX_CIPHERTEXT).unwrap().to_be_bytes();
    let mut early =
        [&[23, 3, 3, length[0], length[1]][..], &[22; Records::MAX_CIPHERTEXT]].concat();
    early.extend([23, 3, 3, 0, 0]);
    early.extend(RETRY.second_hello());
    for size in [1, 1000, 100_000] {
        let (mut watch, mut out) = begin(hello);
        for octets in early.chunks(size) {
            assert_eq!(watch.client(octets, &mut out), Ok(()));
        }
        assert_eq!(out, [hello, &early].concat());
    }
}

#[test]
fn reads_a_retry_in_records_of_one_octet_and_a_second_one() {
    let (retry, answer) = (&RETRY.server[5..93], &RETRY.server[99..]);
    assert_eq!(retry[6..38], HELLO_RETRY_REQUEST);
    let (mut watch, _) = begin(RETRY.split().0);
    assert_eq!(watch.server(&fragment(retry, 1)), ServerStep::Watching);
    assert_eq!(watch.server(&fragment(retry, 50)), ServerStep::Watching);
    assert_eq!(watch.server(answer), ServerStep::Over);
}

#[test]
fn ends_with_a_fatal_alert_and_not_with_a_warning() {
    for cut in 0..7 {
        let (mut watch, _) = begin(RETRY.split().0);
        let (warning, fatal) = ([21, 3, 3, 0, 2, 1, 112], [21, 3, 3, 0, 2, 2, 40]);
        assert_eq!(watch.server(&warning[..cut]), ServerStep::Watching);
        assert_eq!(watch.server(&warning[cut..]), ServerStep::Watching);
        assert_eq!(watch.server(&fatal[..cut.min(5)]), ServerStep::Watching);
        assert_eq!(watch.server(&fatal[cut.min(5)..]), ServerStep::Over);
    }
    let (mut watch, _) = begin(RETRY.split().0);
    assert_eq!(watch.server(&[21, 3, 3, 0, 2, 1]), ServerStep::Watching);
    assert_eq!(watch.server(&[2]), ServerStep::Watching);
}

#[test]
fn goes_on_for_good_when_the_server_does_not_speak_tls() {
    let cases = [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        &[23, 3, 3, 0, 1, 1],
        &[22, 4],
        &fragment(&[0; 38], 38),
        &fragment(&[2, 0, 0, 34, 3, 3], 6),
    ];
    for octets in cases {
        let (mut watch, mut out) = begin(RETRY.split().0);
        assert_eq!(watch.server(octets), ServerStep::Watching);
        assert_eq!(watch.server(RETRY.server), ServerStep::Watching);
        let mut second = RETRY.second_hello();
        replace(&mut second, b"mps", b"www");
        assert_eq!(watch.client(&second, &mut out), Err(Reason::HelloChanged));
    }
}

/// The stored inputs of the fuzz target, without the two octets that say how to cut them.
#[test]
fn reads_stored_fuzz_inputs_the_same_whole_and_cut() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fuzz/corpus/retry");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let octets = std::fs::read(entry.unwrap().path()).unwrap().split_off(2);
        let (mut whole, mut out) = begin(RETRY.split().0);
        let expected = whole.client(&octets, &mut out);
        let (mut cut, mut out) = begin(RETRY.split().0);
        let end = octets.chunks(1).find_map(|octet| cut.client(octet, &mut out).err());
        assert_eq!(end, expected.err());
        count += 1;
    }
    assert!(count > 3, "stored inputs are in their folder");
}

/// The bent second hello is refused in any cut, before and after the server's request, behind
/// early data and with it, and not one of its octets passes.
fn assert_refused(bend: impl Fn(&mut Vec<u8>)) {
    for exchange in [RETRY, EARLY_RETRY] {
        let (hello, rest) = exchange.split();
        let mut second = exchange.second_hello();
        let before = &rest[..position(rest, &second)];
        bend(&mut second);
        let changed = [before, &second].concat();
        for size in [1, 3, 64, changed.len()] {
            for said in [0, 20, 93, 99] {
                let (mut watch, mut out) = begin(hello);
                assert_eq!(watch.server(&exchange.server[..said]), ServerStep::Watching);
                let end =
                    changed.chunks(size).find_map(|octets| watch.client(octets, &mut out).err());
                assert_eq!(end, Some(Reason::HelloChanged));
                assert_eq!(out, [hello, before].concat());
            }
        }
        let mut reader = HelloReader::new();
        let Progress::Complete(first) = reader.push(&[hello, &changed].concat()) else {
            panic!("the first hello is good");
        };
        assert_eq!(RetryWatch::begin(&first, reader).err(), Some(Reason::HelloChanged));
    }
}

impl Exchange {
    /// The first hello, and what the client sent behind it.
    fn split(&self) -> (&'static [u8], &'static [u8]) {
        self.client.split_at(record_length(self.client))
    }

    fn second_hello(&self) -> Vec<u8> {
        let (_, mut rest) = self.split();
        while rest[0] != 22 {
            rest = &rest[record_length(rest)..];
        }
        rest[..record_length(rest)].to_vec()
    }
}

fn begin(octets: &[u8]) -> (RetryWatch, Vec<u8>) {
    let mut reader = HelloReader::new();
    let Progress::Complete(hello) = reader.push(octets) else { panic!("a hello is first") };
    RetryWatch::begin(&hello, reader).unwrap()
}

fn record_length(octets: &[u8]) -> usize {
    5 + usize::from(u16::from_be_bytes([octets[3], octets[4]]))
}

fn fragment(message: &[u8], size: usize) -> Vec<u8> {
    let record = |content: &[u8]| {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[22, 3, 3], &length[..], content].concat()
    };
    message.chunks(size).flat_map(record).collect()
}

fn position(octets: &[u8], part: &[u8]) -> usize {
    octets.windows(part.len()).position(|window| window == part).unwrap()
}

fn replace(octets: &mut [u8], part: &[u8], by: &[u8]) {
    let place = position(octets, part);
    octets[place..place + by.len()].copy_from_slice(by);
}
