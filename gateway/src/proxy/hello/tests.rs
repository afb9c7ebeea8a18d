//! The reader against captured hellos, hand-made faults, and rustls as a second opinion.

mod differential;
mod faults;
mod samples;

use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;
use samples::{CAPTURED, Sample, records};

#[test]
fn reads_every_captured_hello() {
    for (file, octets, name, ech) in CAPTURED {
        let Progress::Complete(hello) = HelloReader::new().push(octets) else {
            panic!("{file} is a hello");
        };
        assert_eq!((hello.server_name().as_str(), hello.ech()), (name, ech), "{file}");
    }
}

#[test]
fn needs_the_last_octet_of_every_captured_hello() {
    for (file, octets, ..) in CAPTURED {
        let whole = HelloReader::new().push(octets);
        for length in 0..octets.len() {
            let progress = HelloReader::new().push(&octets[..length]);
            assert_eq!(progress, Progress::Incomplete, "{file}, {length} octets");
        }
        let mut reader = HelloReader::new();
        let (last, before) = octets.split_last().unwrap();
        for octet in before {
            assert_eq!(reader.push(&[*octet]), Progress::Incomplete, "{file}");
        }
        assert_eq!(reader.push(&[*last]), whole, "{file}");
    }
}

#[test]
fn keeps_what_comes_behind_the_hello_unread() {
    for (file, octets, ..) in CAPTURED {
        for behind in [&[20, 3, 3, 0, 1, 1][..], &[0xff; 40_000], octets] {
            let mut reader = HelloReader::new();
            let sent = [octets, behind].concat();
            assert_eq!(reader.push(&sent), HelloReader::new().push(octets), "{file}");
            assert_eq!(reader.into_parts(), (octets.to_vec(), behind.to_vec()), "{file}");
        }
    }
}

#[test]
fn chromium_sends_a_post_quantum_key_share_and_ech() {
    let octets = samples::captured("chromium.bin");
    assert!(octets.len() > 1500);
    assert!(octets.windows(4).any(|part| part == [0x11, 0xec, 0x04, 0xc0]), "X25519MLKEM768");
}

#[test]
fn is_empty_until_the_first_octet() {
    let mut reader = HelloReader::new();
    reader.push(&[]);
    assert!(reader.is_empty());
    reader.push(&[22]);
    assert!(!reader.is_empty());
}

#[test]
fn rejects_a_wrong_first_octet_at_once() {
    for octet in (0..=u8::MAX).filter(|octet| *octet != 22) {
        assert_eq!(HelloReader::new().push(&[octet]), Progress::Reject(Reason::NotTls));
    }
}

#[test]
fn stays_with_a_refusal() {
    let good = Sample::default().record();
    for bad in [&[21][..], &[22, 3, 1, 0, 0], &[22, 3, 1, 0, 1, 2]] {
        let mut reader = HelloReader::new();
        assert_eq!(reader.push(bad), Progress::Reject(Reason::NotTls));
        assert_eq!(reader.push(&good), Progress::Reject(Reason::NotTls));
    }
}

#[test]
fn reads_the_handshake_layer_alone() {
    let message = Sample::default().message();
    for length in 0..message.len() {
        assert_eq!(read_handshake(&message[..length]), Progress::Incomplete);
    }
    let longer = [&message[..], &[1, 2, 3]].concat();
    assert_eq!(read_handshake(&message), read_handshake(&longer));
    assert!(matches!(read_handshake(&message), Progress::Complete(_)));
}

#[test]
fn takes_a_hello_of_the_largest_size_and_refuses_one_more() {
    let sized = |length: usize| {
        let empty = Sample::default().padding(0).message().len();
        let message = Sample::default().padding(length - empty).message();
        assert_eq!(message.len(), length);
        records(&message, [1000])
    };
    assert!(matches!(HelloReader::new().push(&sized(MAX_HELLO_OCTETS)), Progress::Complete(_)));
    let over = sized(MAX_HELLO_OCTETS + 1);
    assert_eq!(HelloReader::new().push(&over), Progress::Reject(Reason::HelloTooLarge));
    assert_eq!(HelloReader::new().push(&over[..9]), Progress::Reject(Reason::HelloTooLarge));
}

#[test]
fn takes_as_many_records_as_allowed_and_refuses_one_more() {
    let message = Sample::default().message();
    let split = |count: usize| {
        let mut sizes = vec![1; count - 1];
        sizes.push(message.len());
        records(&message, sizes)
    };
    let progress = HelloReader::new().push(&split(MAX_HELLO_RECORDS));
    assert!(matches!(progress, Progress::Complete(_)));
    let progress = HelloReader::new().push(&split(MAX_HELLO_RECORDS + 1));
    assert_eq!(progress, Progress::Reject(Reason::HelloTooLarge));
}

#[test]
fn keeps_no_more_than_the_limits_while_incomplete() {
    let message = Sample::default().padding(MAX_HELLO_OCTETS).message();
    for sizes in [vec![1], vec![200], vec![16_384]] {
        let mut reader = HelloReader::new();
        for octet in records(&message, sizes) {
            if reader.push(&[octet]) != Progress::Incomplete {
                break;
            }
        }
        assert!(reader.octets.len() <= MAX_HELLO_OCTETS + MAX_HELLO_RECORDS * 5);
    }
}

/// The stored inputs of the fuzz targets: whatever they are, cutting them changes nothing.
#[test]
fn reads_stored_fuzz_inputs_the_same_whole_and_cut() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fuzz/corpus/hello");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let octets = std::fs::read(entry.unwrap().path()).unwrap();
        assert_eq!(push_each(octets.chunks(1)), HelloReader::new().push(&octets));
        count += 1;
    }
    assert!(count > 5, "stored inputs are in their folder");
}

proptest! {
    #[test]
    fn cutting_changes_nothing(
        chosen: Index,
        sizes in vec(1_usize..600, 1..40),
        chunks in vec(1_usize..900, 1..40),
        change in proptest::option::of((any::<Index>(), any::<u8>())),
    ) {
        let (_, octets, ..) = *chosen.get(&CAPTURED);
        let mut message = samples::message(octets);
        if let Some((place, octet)) = change {
            *place.get_mut(&mut message) = octet;
        }
        let expected = HelloReader::new().push(&records(&message, [message.len()]));
        let mut whole = sizes;
        whole.push(message.len());
        let split = records(&message, whole);
        prop_assert_eq!(&HelloReader::new().push(&split), &expected);
        let mut rest = &split[..];
        let cut = chunks.into_iter().cycle().map_while(|size| {
            let (chunk, behind) = rest.split_at(size.min(rest.len()));
            rest = behind;
            (!chunk.is_empty()).then_some(chunk)
        });
        prop_assert_eq!(push_each(cut), expected);
    }

    #[test]
    fn survives_any_octets(octets in vec(any::<u8>(), 0..400)) {
        let whole = HelloReader::new().push(&octets);
        prop_assert_eq!(push_each(octets.chunks(1)), whole);
        let framed = records(&octets, [octets.len().max(1)]);
        prop_assert_eq!(push_each(framed.chunks(1)), HelloReader::new().push(&framed));
    }
}

fn push_each<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Progress {
    let mut reader = HelloReader::new();
    let mut progress = Progress::Incomplete;
    for chunk in chunks {
        progress = reader.push(chunk);
        if progress != Progress::Incomplete {
            break;
        }
    }
    progress
}
