use hickory_proto::op::Message;
use proptest::prelude::*;

use super::{
    Alias, Answer, Authority, Data, Dropped, Gate, MAX_TCP_ANSWER, MIN_UDP_ANSWER, Name, Notice,
    Query, Rcode, read,
};

/// `www.Example` A IN with the id 0x1234 and RD.
const QUESTION: &[u8] = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07Example\x00\
    \x00\x01\x00\x01";
/// An OPT record: 4,096 octets, version 0, DO, no options.
const OPT: &[u8] = b"\x00\x00\x29\x10\x00\x00\x00\x80\x00\x00\x00";

#[test]
fn case_55_and_59_ignores_options_and_flags_it_does_not_know() {
    for (what, message) in [
        ("plain", QUESTION.to_vec()),
        ("with OPT", with_additional(&[OPT])),
        ("with a cookie", with_additional(&[&option(10, b"12345678")])),
        ("with a client subnet", with_additional(&[&option(8, b"\x00\x01\x18\x00\xc0\x00\x02")])),
        ("with an unknown option", with_additional(&[&option(65_001, b"x")])),
        ("with another record first", with_additional(&[RECORD, OPT])),
        ("with Z, AD and CD", patched(QUESTION, 3, 0x70)),
    ] {
        let Gate::Ask(query) = read(&message) else { panic!("{what}") };
        let question = query.question().unwrap();
        let labels: Vec<&[u8]> = question.name.labels().collect();
        assert_eq!(labels, [&b"www"[..], b"Example"], "{what}");
        assert_eq!((question.record_type, question.class), (1, 1), "{what}");
    }
}

#[test]
fn case_52_and_53_and_55_refuses_what_breaks_the_rules() {
    let other_class = patched(QUESTION, QUESTION.len() - 1, 3);
    let two_questions = patched(&[QUESTION, &QUESTION[12..]].concat(), 5, 2);
    let pointer = [&QUESTION[..12], b"\xc0\x0c\x00\x01\x00\x01"].concat();
    let pointer_after_label = [&QUESTION[..12], b"\x01a\xc0\x0c\x00\x01\x00\x01"].concat();
    let extended_label = [&QUESTION[..12], b"\x41a\x00\x00\x01\x00\x01"].concat();
    let longest = [&QUESTION[..12], &b"\x3f".repeat(256)[..], b"\x00\x00\x01\x00\x01"].concat();
    let opt_as_answer = patched(&[QUESTION, OPT].concat(), 7, 1);
    let opt_as_authority = patched(&[QUESTION, OPT].concat(), 9, 1);
    let opt_with_name = [b"\x01a", OPT].concat();
    for (what, message, expected) in [
        ("opcode NOTIFY", patched(QUESTION, 2, 0x20), Rcode::NotImplemented),
        ("opcode UPDATE", patched(QUESTION, 2, 0x28), Rcode::NotImplemented),
        ("opcode 15", patched(QUESTION, 2, 0x78), Rcode::NotImplemented),
        ("no question", QUESTION[..12].to_vec(), Rcode::FormatError),
        ("QDCOUNT 0", patched(QUESTION, 5, 0), Rcode::FormatError),
        ("two questions", two_questions, Rcode::FormatError),
        ("a pointer for a name", pointer, Rcode::FormatError),
        ("a pointer in a name", pointer_after_label, Rcode::FormatError),
        ("a label of type 01", extended_label, Rcode::FormatError),
        ("a name of more than 255 octets", longest, Rcode::FormatError),
        ("a trailing octet", [QUESTION, b"\x00"].concat(), Rcode::FormatError),
        (
            "a trailing octet after OPT",
            [&with_additional(&[OPT])[..], b"x"].concat(),
            Rcode::FormatError,
        ),
        ("an OPT that is not counted", [QUESTION, OPT].concat(), Rcode::FormatError),
        ("two OPTs", with_additional(&[OPT, OPT]), Rcode::FormatError),
        ("an OPT among the answers", opt_as_answer, Rcode::FormatError),
        ("an OPT among the authorities", opt_as_authority, Rcode::FormatError),
        ("an OPT that is not at the root", with_additional(&[&opt_with_name]), Rcode::FormatError),
        (
            "an option that is cut",
            with_additional(&[&raw_opt(b"\x00\x0a\x00\x08abc")]),
            Rcode::FormatError,
        ),
        ("EDNS version 1", with_additional(&[&patched(OPT, 6, 1)]), Rcode::BadVersion),
        ("class CH", other_class, Rcode::Refused),
        ("class ANY", patched(QUESTION, QUESTION.len() - 1, 255), Rcode::Refused),
        ("AXFR", patched(QUESTION, QUESTION.len() - 3, 252), Rcode::Refused),
        ("IXFR", patched(QUESTION, QUESTION.len() - 3, 251), Rcode::Refused),
        ("type OPT", patched(QUESTION, QUESTION.len() - 3, 41), Rcode::FormatError),
    ] {
        let Gate::Reject(query, rcode) = read(&message) else { panic!("{what}") };
        assert_eq!(rcode, expected, "{what}");
        let answer = Answer::empty(rcode).write(&query, MIN_UDP_ANSWER);
        assert_eq!(answer[..2], message[..2], "{what}: id");
        assert_eq!(answer[2], 0x80 | message[2] & 0x79, "{what}: QR, opcode and RD");
        assert_eq!(answer[3] & 0xef, 0x80 | u8::try_from(rcode.code() & 0xf).unwrap(), "{what}");
        let parsed = Message::from_vec(&answer).unwrap();
        assert_eq!(u16::from(parsed.metadata.response_code), rcode.code(), "{what}");
    }
}

#[test]
fn case_54_drops_what_must_not_be_answered() {
    assert_eq!(read(b""), Gate::Drop(Dropped::Short));
    assert_eq!(read(&QUESTION[..11]), Gate::Drop(Dropped::Short));
    assert_eq!(read(&patched(QUESTION, 2, 0x81)), Gate::Drop(Dropped::Response));
}

#[test]
fn no_prefix_of_a_question_passes() {
    let whole = with_additional(&[RECORD, &option(10, b"12345678")]);
    assert!(matches!(read(&whole), Gate::Ask(_)));
    for length in 0..whole.len() {
        match read(&whole[..length]) {
            Gate::Drop(Dropped::Short) => assert!(length < 12),
            Gate::Reject(_, Rcode::FormatError) => assert!(length >= 12),
            gate @ (Gate::Drop(_) | Gate::Reject(..) | Gate::Ask(_)) => {
                panic!("{length}: {gate:?}")
            }
        }
    }
}

#[test]
fn case_56_bounds_answers_by_what_the_asker_takes() {
    for (payload, expected) in
        [(0, 512), (511, 512), (1_000, 1_000), (1_232, 1_232), (65_535, 1_232)]
    {
        let [high, low] = u16::to_be_bytes(payload);
        let opt = patched(&patched(OPT, 3, high), 4, low);
        assert_eq!(asked(&with_additional(&[&opt])).udp_limit(), expected);
    }
    assert_eq!(asked(QUESTION).udp_limit(), 512);
}

#[test]
fn case_55_copies_do_and_cd_and_clears_the_rest() {
    let query = asked(&patched(&with_additional(&[OPT]), 3, 0x70));
    let answer = Message::from_vec(&Answer::empty(Rcode::NoError).write(&query, 512)).unwrap();
    assert!(answer.metadata.checking_disabled);
    assert!(!answer.metadata.authentic_data);
    let edns = answer.edns.unwrap();
    assert!(edns.flags().dnssec_ok);
    assert_eq!((edns.version(), edns.max_payload(), edns.flags().z), (0, 1_232, 0));
}

#[test]
fn case_37_and_57_gives_up_the_notice_before_any_record() {
    let query = asked(&with_additional(&[OPT]));
    let answer = Answer {
        addresses: vec!["198.51.100.7".parse().unwrap()],
        notice: Some(Notice::Blocked),
        ..Answer::empty(Rcode::NoError)
    };
    let full = answer.write(&query, MAX_TCP_ANSWER).len();
    let text = Notice::Blocked.text().len();
    let structured = Answer { structured: Some("{}".repeat(text).into()), ..answer.clone() };
    assert_eq!(structured.write(&query, MAX_TCP_ANSWER).len(), full + text);
    assert_eq!(structured.write(&query, full), answer.write(&query, full));
    for (limit, expected) in
        [(full, full), (full - 1, full - text), (full - text - 1, full - text - 6)]
    {
        let message = answer.write(&query, limit);
        assert_eq!(message.len(), expected);
        let message = Message::from_vec(&message).unwrap();
        assert_eq!((message.answers.len(), message.metadata.truncation), (1, false));
    }
    let cut = answer.write(&query, full - text - 7);
    assert_eq!(cut.len(), QUESTION.len() + OPT.len());
    let cut = Message::from_vec(&cut).unwrap();
    assert!(cut.metadata.truncation && cut.edns.is_some() && cut.answers.is_empty());
}

proptest! {
    #[test]
    fn never_panics_and_answers_garbage_with_errors_only(
        message in proptest::collection::vec(any::<u8>(), 0..600)
    ) {
        answer_of(&message);
    }

    #[test]
    fn never_panics_on_damaged_questions(
        place in 0..usize::MAX, octet: u8, length in 0..200_usize
    ) {
        let mut message = with_additional(&[RECORD, &option(10, b"12345678")]);
        let place = place % message.len();
        message[place] = octet;
        message.truncate(length);
        answer_of(&message);
    }

    #[test]
    fn hickory_reads_every_answer(
        aliases in proptest::collection::vec(label(), 0..11),
        v4 in proptest::collection::vec(any::<[u8; 4]>(), 0..70),
        v6 in proptest::collection::vec(any::<[u8; 16]>(), 0..70),
        data in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..70), 0..4),
        ttl: u32,
        has_authority: bool,
        is_udp: bool,
    ) {
        let query = asked(&with_additional(&[OPT]));
        let name = |label: &[u8]| Name::from_labels([label, b"example"]).unwrap();
        let answer = Answer {
            aliases: aliases.iter().map(|label| Alias { target: name(label) }).collect(),
            addresses: v4.iter().map(|octets| (*octets).into())
                .chain(v6.iter().map(|octets| (*octets).into())).collect(),
            data: data.iter().map(|octets| {
                Data { record_type: 65_280, octets: octets.clone() }
            }).collect(),
            ttl,
            authority: has_authority.then(|| Authority {
                zone: name(b"zone"), server: name(b"server"), person: name(b"person"),
                numbers: [1, 2, 3, 4], ttl,
            }),
            notice: Some(Notice::NoReachableAuthority),
            ..Answer::empty(Rcode::NameError)
        };
        let limit = if is_udp { query.udp_limit() } else { MAX_TCP_ANSWER };
        let bytes = answer.write(&query, limit);
        prop_assert!(bytes.len() <= limit);
        let message = Message::from_vec(&bytes).unwrap();
        prop_assert_eq!(message.metadata.response_code, hickory_proto::op::ResponseCode::NXDomain);
        if message.metadata.truncation {
            prop_assert_eq!(bytes.len(), QUESTION.len() + OPT.len());
        } else {
            prop_assert_eq!(message.answers.len(), aliases.len() + v4.len() + v6.len() + data.len());
            prop_assert_eq!(message.authorities.len(), usize::from(has_authority));
        }
        // The owner of each record is the alias before it.
        let mut owner = message.queries[0].name().clone();
        for record in &message.answers {
            prop_assert_eq!(&record.name, &owner);
            if let hickory_proto::rr::RData::CNAME(target) = &record.data {
                owner = target.0.clone();
            }
        }
    }
}

/// What passes must be a question to hickory as well; what does not gets an error it can read.
fn answer_of(message: &[u8]) {
    match read(message) {
        Gate::Drop(_) => {}
        Gate::Reject(query, rcode) => {
            assert_ne!(rcode, Rcode::NoError);
            Message::from_vec(&Answer::empty(rcode).write(&query, 512)).unwrap();
        }
        Gate::Ask(query) => {
            Message::from_vec(&Answer::empty(Rcode::NoError).write(&query, 512)).unwrap();
            let question = query.question().unwrap();
            if let Ok(parsed) = Message::from_vec(message) {
                assert_eq!(parsed.queries.len(), 1);
                let labels: Vec<&[u8]> = parsed.queries[0].name().iter().collect();
                assert_eq!(question.name.labels().collect::<Vec<_>>(), labels);
            }
        }
    }
}

fn label() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(b'a'..=b'z', 1..=63)
}

/// `a` A IN, lifetime 1, 127.0.0.1.
const RECORD: &[u8] = b"\x01a\x00\x00\x01\x00\x01\x00\x00\x00\x01\x00\x04\x7f\x00\x00\x01";

fn asked(message: &[u8]) -> Query {
    match read(message) {
        Gate::Ask(query) => query,
        gate @ (Gate::Drop(_) | Gate::Reject(..)) => panic!("{gate:?}"),
    }
}

fn with_additional(records: &[&[u8]]) -> Vec<u8> {
    patched(&[QUESTION, &records.concat()].concat(), 11, u8::try_from(records.len()).unwrap())
}

fn option(code: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap().to_be_bytes();
    raw_opt(&[&code.to_be_bytes()[..], &length, data].concat())
}

fn raw_opt(options: &[u8]) -> Vec<u8> {
    let length = u16::try_from(options.len()).unwrap().to_be_bytes();
    [&OPT[..9], &length, options].concat()
}

fn patched(message: &[u8], place: usize, octet: u8) -> Vec<u8> {
    let mut message = message.to_vec();
    message[place] = octet;
    message
}
