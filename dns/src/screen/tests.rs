use std::time::Duration;

use hickory_proto::{
    op::{Message, Query},
    rr::{Name, RecordType},
};
use proptest::prelude::*;

use super::{BadAnswer, End, Family, Finding, MAX_ADDRESSES, Screened, follow, screen};
use crate::{address::Guard, tests::zone};

#[test]
fn refuses_answers_that_do_not_fit() {
    let addresses: Vec<String> =
        (0..=MAX_ADDRESSES).map(|n| format!("a. 1 A 198.51.100.{n}")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    for (records, expected) in [
        (&["a. 1 CNAME a."][..], BadAnswer::Loop),
        (&["a. 1 CNAME b.", "b. 1 CNAME a."], BadAnswer::Loop),
        (&["a. 1 CNAME b.", "b. 1 CNAME c.", "c. 1 CNAME b."], BadAnswer::Loop),
        (&["a. 1 CNAME b.", "a. 1 CNAME c."], BadAnswer::TwoAliases),
        (&addresses, BadAnswer::TooMany),
    ] {
        assert_eq!(followed(records), Err(expected), "{records:?}");
    }
    let name = Name::from_ascii("a.").unwrap();
    for (asked, record_type) in [("b.", RecordType::A), ("a.", RecordType::AAAA)] {
        let mut message = answer(&["a. 1 A 198.51.100.7"]);
        let query = Query::query(Name::from_ascii(asked).unwrap(), record_type);
        message.queries = vec![query.clone()];
        assert_eq!(follow(&name, Family::V4, &message), Err(BadAnswer::OtherQuestion));
        message.queries = Vec::new();
        assert_eq!(follow(&name, Family::V4, &message), Err(BadAnswer::OtherQuestion));
    }
}

#[test]
fn follows_names_in_any_letter_case() {
    let finding = followed(&["A. 9 CNAME B.", "b. 5 A 198.51.100.7"]).unwrap();
    assert_eq!((finding.aliases.len(), finding.ttl), (1, 5));
    assert_eq!(finding.end, End::Addresses(vec!["198.51.100.7".parse().unwrap()]));
}

#[test]
fn ages_and_bounds_lifetimes() {
    let finding = followed(&["a. 100 A 198.51.100.7"]).unwrap();
    for (age, max_ttl, expected) in
        [(0, 60, 60), (0, 200, 100), (70, 60, 30), (100, 60, 0), (900, 60, 0)]
    {
        let screened =
            screen(&finding, Duration::from_secs(age), max_ttl, &Guard::default(), [].iter());
        let Screened::Addresses { ttl, .. } = screened else { panic!("{screened:?}") };
        assert_eq!(ttl, expected, "{age} {max_ttl}");
    }
}

#[test]
fn keeps_no_denial_without_soa() {
    assert_eq!(followed(&["a. 100 CNAME b."]).unwrap().ttl, 0);
}

proptest! {
    #[test]
    fn follows_any_answer_to_an_end(
        edges in proptest::collection::vec((0..14_u8, 0..14_u8, 0..3_u8), 0..40)
    ) {
        let lines: Vec<String> = edges.iter().map(|(from, to, kind)| match kind {
            0 => format!("n{from}. 30 A 198.51.100.{to}"),
            1 => format!("n{from}. 30 CNAME n{to}."),
            _ => format!("n{from}. 30 AAAA 2001:db8::{to}"),
        }).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let name = Name::from_ascii("n0.").unwrap();
        let mut message = answer(&lines);
        message.queries = vec![Query::query(name.clone(), RecordType::A)];
        if let Ok(Finding { aliases, end: End::Addresses(addresses), .. }) =
            follow(&name, Family::V4, &message)
        {
            prop_assert!(aliases.len() <= super::MAX_ALIASES);
            prop_assert!(!addresses.is_empty());
            prop_assert!(addresses.iter().all(std::net::IpAddr::is_ipv4));
        }
    }
}

fn followed(records: &[&str]) -> Result<Finding, BadAnswer> {
    follow(&Name::from_ascii("a.").unwrap(), Family::V4, &answer(records))
}

fn answer(records: &[&str]) -> Message {
    let mut message = Message::response(1, hickory_proto::op::OpCode::Query);
    message.add_query(Query::query(Name::from_ascii("a.").unwrap(), RecordType::A));
    message.add_answers(zone(records));
    message
}
