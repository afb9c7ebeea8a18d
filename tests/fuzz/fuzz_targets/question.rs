//! Any octets as a DNS message: no panic, no question passes that hickory refuses or reads otherwise
//! without a second reader agreeing, and every error we answer can be read.

#![no_main]

use dns::wire::{Answer, Gate, MAX_UDP_ANSWER, Rcode, read};
use domain::base::Message as DomainMessage;
use hickory_proto::op::Message;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    let (query, rcode) = match read(octets) {
        Gate::Drop(_) => return,
        Gate::Reject(query, rcode) => (query, rcode),
        Gate::Ask(query) => {
            let question = query.question().expect("what passes has a question");
            let ours: Vec<&[u8]> = question.name.labels().collect();
            let hickory = Message::from_vec(octets).ok().filter(|read| read.queries.len() == 1);
            if let Some(message) = &hickory {
                let theirs: Vec<&[u8]> = message.queries[0].name().iter().collect();
                assert_eq!(ours, theirs);
            }
            let domain = DomainMessage::from_octets(octets).ok().and_then(|message| {
                message.iter().try_for_each(|record| record.map(drop)).ok()?;
                message.sole_question().ok().map(|question| question.qname().to_string())
            });
            assert!(hickory.is_some() || domain.is_some());
            (query, Rcode::NoError)
        }
    };
    let answer = Answer::empty(rcode).write(&query, MAX_UDP_ANSWER);
    assert!(answer.len() <= MAX_UDP_ANSWER);
    let read = Message::from_vec(&answer).expect("an answer of ours");
    assert_eq!(u16::from(read.metadata.response_code), rcode.code());
});
