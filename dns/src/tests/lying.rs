//! Upstreams that lie, and others that answer in their place.

use std::time::Duration;

use hickory_proto::{op::ResponseCode, rr::RecordType};

use super::{
    scripted::{Lie, Script, Scripted, zone},
    world::{NXDOMAIN, WILD, World, policy, told},
};

#[tokio::test]
async fn case_63_ignores_and_counts_replies_that_do_not_fit() {
    for (lie, kind) in [
        (Lie::Source, "source"),
        (Lie::Id, "id"),
        (Lie::NoReply, "id"),
        (Lie::Question, "question"),
    ] {
        let upstream = Scripted::start().await;
        let world = World::start("127.0.0.1:0", &[&upstream]).await;
        upstream.otherwise(Script::Lie(lie, 5, true));
        let answer = world.ask("listed.example.", RecordType::A).await;
        assert_eq!(told(&answer), "NoError listed.example. 30 198.51.100.7", "{lie:?}");
        assert_eq!(world.metric("postern_dns_upstream_bad_replies_total", kind), 5.0, "{lie:?}");
        assert_eq!(upstream.asked(), ["listed.example. A udp"]);
    }
}

#[tokio::test]
async fn case_63_asks_by_tcp_when_somebody_guesses_at_the_replies() {
    let upstream = Scripted::start().await;
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    upstream.otherwise(Script::Lie(Lie::Id, 100, true));
    let answer = world.ask("listed.example.", RecordType::A).await;
    assert_eq!(told(&answer), "NoError listed.example. 30 198.51.100.7");
    assert_eq!(world.metric("postern_dns_upstream_bad_replies_total", "id"), 8.0);
    world.ask("other.example.", RecordType::A).await;
    assert_eq!(
        upstream.asked(),
        ["listed.example. A udp", "listed.example. A tcp", "other.example. A tcp"]
    );
}

#[tokio::test]
async fn case_63_draws_letter_case_until_an_upstream_is_found_not_to_keep_it() {
    let upstream = Scripted::start().await;
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    world.judge.publish(&policy(NXDOMAIN, WILD));
    upstream.otherwise(Script::Lie(Lie::LetterCase, 1, false));
    for number in 0..5 {
        let name = format!("letters-enough-{number}.wild.example.");
        let answer = world.ask(&name, RecordType::A).await;
        let by_tcp = upstream.asked().iter().any(|line| line.ends_with("tcp"));
        let spelled = upstream.spelled();
        if number < 3 {
            assert_eq!(told(&answer), format!("NoError {name} 30 198.51.100.7"));
            assert!(by_tcp && spelled[0] != name, "{spelled:?}");
        } else {
            // What was sent in small letters cannot come back in others: the forger is believed
            // here, who would have had to guess id and port.
            assert!(!by_tcp && spelled == [name], "{spelled:?}");
        }
    }
    assert_eq!(world.metric("postern_dns_upstream_bad_replies_total", "letter-case"), 3.0);
}

#[tokio::test]
async fn case_19_throws_records_of_another_class_away() {
    let (first, second) = (Scripted::start().await, Scripted::start().await);
    first.otherwise(Script::Lie(Lie::Class, 1, false));
    second.otherwise(Script::Late(Duration::ZERO));
    let world = World::start("127.0.0.1:0", &[&first, &second]).await;
    let answer = world.ask("listed.example.", RecordType::A).await;
    assert_eq!(told(&answer), "NoError listed.example. 30 198.51.100.7", "the next one's");
}

#[tokio::test]
async fn case_15_relays_no_record_that_was_smuggled_in() {
    let upstream = Scripted::start().await;
    let answers = zone(&[
        "listed.example. 30 A 198.51.100.7",
        "www.bing.com. 30 A 198.51.100.66",
        "listed.example. 30 NS ns.example.",
    ]);
    let authorities =
        zone(&["listed.example. 30 NS ns.example.", "listed.example. 30 A 198.51.100.66"]);
    upstream.script(
        "listed.example",
        RecordType::A,
        Script::Say(ResponseCode::NoError, answers, authorities),
    );
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    let answer = world.ask("listed.example.", RecordType::A).await;
    assert_eq!(told(&answer), "NoError listed.example. 30 198.51.100.7");
    assert!(answer.additionals.is_empty());
    assert_eq!(
        told(&world.ask("www.bing.com.", RecordType::A).await),
        "NXDomain / . 5 SOA 5 EDE 15"
    );
}
