//! Messages that came from nowhere, and what must not come out of one.

use std::{net::SocketAddr, sync::Arc};

use hickory_proto::{
    op::{Message, OpCode},
    rr::RecordType,
};
use prometheus::{Registry, TextEncoder};

use crate::{
    Limits, Metrics,
    metrics::Transport,
    respond::{Asker, Reply, Responder},
    site::Site,
    tests::{
        scripted::{Script, Scripted, zone},
        world::{World, question, told, with_option},
    },
};

#[tokio::test]
async fn case_62_says_nothing_to_a_source_that_cannot_be_answered() {
    let upstream = Scripted::start().await;
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    let registry = Registry::new();
    let metrics = Metrics::register(&registry).unwrap();
    let (judge, resolver) = (Arc::clone(&world.judge), Arc::clone(&world.resolver));
    let (site, limits) = (Site::default(), Limits::default());
    let responder = Responder::new(judge, resolver, site, metrics, limits);
    let to: SocketAddr = "127.0.0.1:53".parse().unwrap();
    for from in [
        "127.0.0.1:0",
        "127.0.0.1:53",
        "0.0.0.0:53",
        "255.255.255.255:53",
        "224.0.0.251:5353",
        "[::]:53",
        "[ff02::fb]:5353",
        "[::ffff:224.0.0.1]:53",
    ] {
        let asker = Asker { from: from.parse().unwrap(), to: Some(to), transport: Transport::Udp };
        let reply = responder.take(&question("listed.example.", RecordType::A), asker);
        assert!(matches!(reply, Reply::Silence), "{from}");
    }
    let scraped = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    assert!(scraped.contains("postern_dns_dropped_total{reason=\"source\"} 8"), "{scraped}");
    assert_eq!(upstream.asked(), [""; 0]);
}

#[tokio::test]
async fn case_59_neither_relays_nor_echoes_a_client_subnet() {
    let upstream = Scripted::start().await;
    upstream.say("listed.example", RecordType::A, &["listed.example. 30 A 198.51.100.7"]);
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    let subnets = [[0, 1, 24, 0, 192, 0, 2], [0, 1, 24, 0, 198, 51, 100]];
    for subnet in subnets {
        let asked = with_option(&question("listed.example.", RecordType::A), 8, &subnet);
        let answer = crate::tests::world::ask(world.address, &asked).await.unwrap();
        assert_eq!(told(&answer), "NoError listed.example. 30 198.51.100.7");
        let options = answer.edns.as_ref().unwrap().options().as_ref();
        assert!(options.is_empty(), "{options:?}");
    }
    assert_eq!(upstream.asked(), ["listed.example. A udp"], "one entry of the cache for all");
}

#[tokio::test]
async fn case_78_lets_no_text_from_the_wire_into_metrics_and_records() {
    let upstream = Scripted::start().await;
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    let longest = format!("{}.hostile.example.", "x".repeat(63));
    for name in [
        "hostile\\034\\010\\092.example.",
        "\\255\\254hostile.example.",
        "hostile{label}.example.",
        &longest,
    ] {
        assert_eq!(told(&world.ask(name, RecordType::A).await), "NXDomain / . 5 SOA 5 EDE 15");
    }
    let scraped = TextEncoder::new().encode_to_string(&world.registry.gather()).unwrap();
    assert!(!scraped.contains("hostile") && !scraped.contains("127.0.0.1"), "{scraped}");
    let records = world.judge.records();
    let longest = format!("unprovisioned deny not-listed {}", longest.trim_end_matches('.'));
    let nameless = "unprovisioned deny bad-host -".to_owned();
    assert_eq!(records, [nameless.clone(), nameless.clone(), nameless, longest]);
}

#[tokio::test]
async fn case_14_does_not_open_a_name_that_a_listed_one_is_an_alias_of() {
    let upstream = Scripted::start().await;
    let chain = ["listed.example. 30 CNAME www.bing.com.", "www.bing.com. 30 A 198.51.100.7"];
    upstream.say("listed.example", RecordType::A, &chain);
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    let expected = "NoError listed.example. 30 CNAME www.bing.com. www.bing.com. 30 198.51.100.7";
    for _ in 0..2 {
        assert_eq!(told(&world.ask("listed.example.", RecordType::A).await), expected);
        let answer = world.ask("www.bing.com.", RecordType::A).await;
        assert_eq!(told(&answer), "NXDomain / . 5 SOA 5 EDE 15", "the policy lists no chain");
    }
}

#[tokio::test]
async fn case_70_asks_for_nothing_that_nobody_asked_for() {
    let upstream = Scripted::start().await;
    upstream.say("listed.example", RecordType::A, &["listed.example. 0 A 198.51.100.7"]);
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    world.ask("www.bing.com.", RecordType::A).await;
    assert_eq!(upstream.asked(), [""; 0], "no name is warmed up");
    world.ask("listed.example.", RecordType::A).await;
    world.ask("www.bing.com.", RecordType::A).await;
    assert_eq!(upstream.asked(), ["listed.example. A udp"], "nor kept alive");
}

#[tokio::test]
async fn case_71_claims_no_validation_and_lets_the_asker_validate() {
    let upstream = Scripted::start().await;
    let mut said = Message::response(0, OpCode::Query);
    said.metadata.authentic_data = true;
    said.add_answers(zone(&["listed.example. 30 A 198.51.100.7"]));
    upstream.script("listed.example", RecordType::A, Script::Message(said));
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    let asked = question("listed.example.", RecordType::A);
    let mut unchecked = asked.clone();
    unchecked[3] |= 0x10;
    for message in [&asked, &unchecked] {
        let answer = crate::tests::world::ask(world.address, message).await.unwrap();
        assert!(!answer.metadata.authentic_data);
    }
    assert_eq!(upstream.asked(), ["listed.example. A udp"; 2], "CD is asked for apart");
}
