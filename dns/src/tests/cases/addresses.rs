//! What takes the place of learned addresses: the name decides, and one resolution serves answer and
//! dial.

use std::time::Duration;

use hickory_proto::rr::RecordType;
use policy::{HostName, Request, Subject, Subscriber, Verdict, decide};

use crate::{
    cache::Cache,
    screen::{End, Family, Finding},
    tests::{
        scripted::Scripted,
        world::{ASKER, NOW, NXDOMAIN, World, policy, snapshot, told},
    },
};

#[tokio::test]
async fn case_24_asks_again_for_an_answer_that_has_run_out() {
    let slot = (Family::V4, false);
    let (host, now) = (HostName::parse("listed.example").unwrap(), tokio::time::Instant::now());
    let end = End::Addresses(vec!["198.51.100.7".parse().unwrap()]);
    let finding = Finding { aliases: Vec::new(), end, ttl: 30 };
    let mut cache = Cache::new(8);
    cache.put(&host, slot, finding.into(), now);
    assert!(cache.get(&host, slot, now + Duration::from_secs(29)).is_some());
    assert!(cache.get(&host, slot, now + Duration::from_secs(30)).is_none());
}

#[tokio::test]
async fn case_25_and_29_resolves_for_the_proxy_what_no_subscriber_asked_for() {
    let upstream = Scripted::start().await;
    upstream.say("listed.example", RecordType::A, &["listed.example. 30 A 198.51.100.7"]);
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    assert_eq!(dialled(&world, "listed.example").await, ["198.51.100.7"]);
}

#[test]
fn case_26_opens_no_name_for_another_on_the_same_address() {
    let snapshot = snapshot(&policy(NXDOMAIN, ""), 1);
    let subscriber = Subscriber::at("127.0.0.1".parse().unwrap());
    for (host, expected) in
        [("listed.example", Verdict::Allow), ("unlisted.example", Verdict::Deny)]
    {
        let host = HostName::parse(host).unwrap();
        for request in [Request::Https { host: &host, port: 443 }, Request::Dns { host: &host }] {
            let subject = Subject::Subscriber(&subscriber);
            let decision = decide(snapshot.policy(), subject, request, NOW);
            assert_eq!(decision.verdict(), expected, "{host}: an address is no part of it");
        }
    }
}

#[tokio::test]
async fn case_27_bounds_what_is_remembered_and_keeps_what_is_used() {
    let (slot, now) = ((Family::V4, false), tokio::time::Instant::now());
    let host = |n: u32| HostName::parse(&format!("h{n}.example")).unwrap();
    let finding = || Finding { aliases: Vec::new(), end: End::NoData(None), ttl: 30 };
    let mut cache = Cache::new(8);
    for n in 0..1_000 {
        cache.put(&host(n), slot, finding().into(), now);
        assert!(cache.get(&host(0), slot, now).is_some(), "after {n}");
    }
    let kept = (0..1_000).filter(|n| cache.get(&host(*n), slot, now).is_some()).count();
    assert!(kept <= 8, "{kept} are kept");
}

#[tokio::test]
async fn case_28_has_for_the_proxy_what_the_subscriber_was_just_told() {
    let upstream = Scripted::start().await;
    upstream.say("listed.example", RecordType::A, &["listed.example. 30 A 198.51.100.7"]);
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    world.ask("listed.example.", RecordType::A).await;
    upstream.asked();
    assert_eq!(dialled(&world, "listed.example").await, ["198.51.100.7"]);
    assert_eq!(upstream.asked(), ["listed.example. AAAA udp"], "the other family alone");
}

#[tokio::test]
async fn case_30_dials_the_host_itself_whose_address_dns64_made() {
    let upstream = Scripted::start().await;
    upstream.say("listed.example", RecordType::A, &["listed.example. 30 A 198.51.100.7"]);
    let world = World::start_behind("64:ff9b::/96", &upstream).await;
    let answer = world.ask("listed.example.", RecordType::AAAA).await;
    assert_eq!(told(&answer), "NoError listed.example. 30 64:ff9b::c633:6407");
    assert_eq!(dialled(&world, "listed.example").await, ["198.51.100.7"]);
    let chosen = "64:ff9b::c633:6407".parse().unwrap();
    assert_eq!(world.resolver.guard().host_of(chosen).to_string(), "198.51.100.7");
}

/// Where the proxy would dial `host`.
async fn dialled(world: &World, host: &str) -> Vec<String> {
    let snapshot = snapshot(&policy(NXDOMAIN, ""), 1);
    let host = HostName::parse(host).unwrap();
    let found = world.resolver.addresses(&snapshot, ASKER, &host, None).await.unwrap();
    found.iter().map(ToString::to_string).collect()
}
