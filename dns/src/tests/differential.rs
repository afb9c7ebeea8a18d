//! Our reader of questions beside two others, on damaged messages.
//!
//! It may refuse what they read; it must never pass what both refuse, and never see another
//! question than they do. `POSTERN_QUESTION_CASES` is the number of messages,
//! `POSTERN_QUESTION_SEED` replays a run.

use std::{
    hash::{BuildHasher, RandomState},
    num::Wrapping,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use domain::base::Message as DomainMessage;
use hickory_proto::op::Message as HickoryMessage;

use crate::wire::{Gate, read};

/// The labels of a name, its type and its class.
type Asked = (Vec<Vec<u8>>, u16, u16);

/// How the readers judged the messages.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    passed_by_us: u64,
    refused_by_us_alone: u64,
    read_by_hickory: u64,
    read_by_domain: u64,
}

#[test]
fn passes_nothing_that_two_other_readers_refuse_and_sees_no_other_name() {
    let number = |name: &str| -> Option<u64> {
        std::env::var_os(name).map(|value| value.to_str().unwrap().parse().unwrap())
    };
    let cases = number("POSTERN_QUESTION_CASES").unwrap_or(DEFAULT_CASES);
    let seed = number("POSTERN_QUESTION_SEED").unwrap_or_else(|| RandomState::new().hash_one(0));
    println!("POSTERN_QUESTION_SEED={seed} POSTERN_QUESTION_CASES={cases}");
    let (batches, next) = (cases.div_ceil(BATCH), AtomicU64::new(0));
    let counts = Mutex::new(Counts::default());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, Into::into) {
            scope.spawn(|| {
                let mut mine = Counts::default();
                loop {
                    let batch = next.fetch_add(1, Ordering::Relaxed);
                    if batch >= batches {
                        break;
                    }
                    check(seed, batch, &mut mine);
                }
                counts.lock().unwrap().add(mine);
            });
        }
    });
    let counts = counts.into_inner().unwrap();
    println!("{} messages: {counts:?}", batches * BATCH);
    // Damage that nobody survives would prove nothing.
    assert!(counts.passed_by_us > cases / 20 && counts.refused_by_us_alone > cases / 100);
}

/// The stored inputs of the fuzz target.
#[test]
fn judges_stored_fuzz_inputs_as_others_do() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fuzz/corpus/question");
    let mut counts = Counts::default();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        compare(&std::fs::read(&path).unwrap(), &mut counts, || path.display().to_string());
    }
    assert!(counts.passed_by_us > 5, "stored inputs are in their folder");
}

fn check(seed: u64, batch: u64, counts: &mut Counts) {
    let mut dice = Dice(Wrapping(seed ^ batch.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    for number in 0..BATCH {
        let message = damaged(&mut dice);
        let place = || format!("seed {seed}, batch {batch}, message {number}: {message:02x?}");
        compare(&message, counts, place);
    }
}

fn compare(message: &[u8], counts: &mut Counts, place: impl Fn() -> String) {
    let (hickory, domain) = (by_hickory(message), by_domain(message));
    counts.read_by_hickory += u64::from(hickory.is_some());
    counts.read_by_domain += u64::from(domain.is_some());
    let Gate::Ask(query) = read(message) else {
        counts.refused_by_us_alone += u64::from(hickory.is_some() && domain.is_some());
        return;
    };
    counts.passed_by_us += 1;
    let question = query.question().unwrap();
    let labels = question.name.labels().map(<[u8]>::to_vec).collect();
    let ours = (labels, question.record_type, question.class);
    assert!(hickory.is_some() || domain.is_some(), "both refuse {}", place());
    for theirs in [hickory, domain].into_iter().flatten() {
        assert_eq!(ours, theirs, "{}", place());
    }
}

fn by_hickory(message: &[u8]) -> Option<Asked> {
    let message = HickoryMessage::from_vec(message).ok()?;
    let [query] = message.queries.as_slice() else { return None };
    let labels = query.name().iter().map(<[u8]>::to_vec).collect();
    Some((labels, query.query_type().into(), query.query_class().into()))
}

fn by_domain(message: &[u8]) -> Option<Asked> {
    let message = DomainMessage::from_octets(message).ok()?;
    let question = message.sole_question().ok()?;
    message.iter().try_for_each(|record| record.map(drop)).ok()?;
    let labels = question.qname().iter().map(|label| label.as_slice().to_vec());
    let labels = labels.filter(|label| !label.is_empty()).collect();
    Some((labels, question.qtype().to_int(), question.qclass().to_int()))
}

/// A whole message with up to four things done to it.
fn damaged(dice: &mut Dice) -> Vec<u8> {
    let mut message = SOUND[dice.below(SOUND.len())].to_vec();
    message[0] = dice.octet();
    for _ in 0..dice.below(5) {
        let at = dice.below(message.len().max(1));
        match dice.below(9) {
            0 => message.truncate(at),
            1 => message.insert(at.min(message.len()), dice.octet()),
            2 => drop((at < message.len()).then(|| message.remove(at))),
            // One of the counts, or the flags.
            3 => put(&mut message, 2 + dice.below(10), &[[0, 1, 2, 0xff][dice.below(4)]]),
            // A pointer, mostly to somewhere near.
            4 => put(&mut message, at, &[0xc0, u8::try_from(dice.below(40)).unwrap()]),
            5 => put(&mut message, at, &[[0, 1, 0x3f, 0x40, 0x80, 0xc0, 0xff][dice.below(7)]]),
            6 => {
                let from = dice.below(message.len().max(1)).min(at);
                let copied = message.get(from..at).unwrap_or_default().to_vec();
                message.extend(copied);
            }
            7 => message.extend_from_slice(RECORDS[dice.below(RECORDS.len())]),
            _ => put(&mut message, at, &[dice.octet()]),
        }
    }
    message
}

fn put(message: &mut [u8], at: usize, octets: &[u8]) {
    for (place, octet) in message.iter_mut().skip(at).zip(octets) {
        *place = *octet;
    }
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.passed_by_us += other.passed_by_us;
        self.refused_by_us_alone += other.refused_by_us_alone;
        self.read_by_hickory += other.read_by_hickory;
        self.read_by_domain += other.read_by_domain;
    }
}

/// SplitMix64.
struct Dice(Wrapping<u64>);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 += 0x9e37_79b9_7f4a_7c15;
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)) * Wrapping(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)) * Wrapping(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.roll() % u64::try_from(bound).unwrap()).unwrap()
    }

    fn octet(&mut self) -> u8 {
        self.roll().to_le_bytes()[0]
    }
}

/// Messages that every reader takes.
const SOUND: [&[u8]; 5] = [
    b"\0\x34\x01\0\0\x01\0\0\0\0\0\0\x03www\x07Example\0\0\x01\0\x01",
    b"\0\x34\x01\0\0\x01\0\0\0\0\0\x01\x03www\x07Example\0\0\x1c\0\x01\
      \0\0\x29\x10\0\0\0\x80\0\0\0",
    b"\0\x34\x01\x20\0\x01\0\0\0\0\0\x01\x01a\x03b-c\x07example\x03com\0\0\x41\0\x01\
      \0\0\x29\x04\xd0\0\0\0\0\0\x18\0\x0a\0\x0812345678\0\x0f\0\0\0\x08\0\0\0\0\0",
    b"\0\x34\x01\0\0\x01\0\0\0\0\0\x02\x04host\x07example\0\0\x01\0\x01\
      \xc0\x0c\0\x01\0\x01\0\0\0\x01\0\x04\x7f\0\0\x01\0\0\x29\x04\xd0\0\0\0\0\0\0",
    b"\0\x34\x01\0\0\x01\0\x01\0\x01\0\0\x04HOST\x07example\0\0\x10\0\x01\
      \xc0\x11\0\x02\0\x01\0\0\0\x01\0\x02\xc0\x0c\0\0\x05\0\x01\0\0\0\x01\0\x02\xc0\x11",
];

/// Records that may be put behind a message.
const RECORDS: [&[u8]; 3] = [
    b"\0\0\x29\x04\xd0\0\0\0\0\0\0",
    b"\x01a\0\0\x01\0\x01\0\0\0\x01\0\x04\x7f\0\0\x01",
    b"\xc0\x0c\0\x05\0\x01\0\0\0\x01\0\x02\xc0\x0c",
];

/// Messages that one seed makes.
const BATCH: u64 = 1_000;
/// Messages of an ordinary run.
const DEFAULT_CASES: u64 = 50_000;
