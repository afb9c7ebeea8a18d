//! What is told while no upstream answers.

use std::time::Duration;

use hickory_proto::{op::ResponseCode, rr::RecordType};
use tokio::time::Instant;

use super::{
    scripted::{Script, Scripted, zone},
    world::{NXDOMAIN, WILD, World, policy, told},
};

const FAILURE: Script = Script::Say(ResponseCode::ServFail, Vec::new(), Vec::new());

/// A resolver that has seen `listed.example`, `other.example` and `portal.example`, at an upstream
/// that fails from then on, and has forgotten what is in its cache: its answers held one policy's
/// time.
async fn after_the_upstream_failed(failure: Script) -> (Scripted, World) {
    let upstream = Scripted::start().await;
    upstream.say("listed.example", RecordType::A, &["listed.example. 300 A 198.51.100.7"]);
    let denial = Script::Say(ResponseCode::NXDomain, Vec::new(), zone(&["example. 30 SOA 30"]));
    upstream.script("other.example", RecordType::A, denial);
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    for name in ["listed.example.", "other.example."] {
        world.ask(name, RecordType::A).await;
    }
    for name in ["listed.example", "other.example"] {
        upstream.script(name, RecordType::A, failure.clone());
    }
    upstream.otherwise(failure);
    upstream.asked();
    world.begin_anew();
    (upstream, world)
}

#[tokio::test]
async fn case_69_tells_what_was_known_when_the_upstream_fails() {
    let (upstream, world) = after_the_upstream_failed(FAILURE).await;
    let told_of = async |name| told(&world.ask(name, RecordType::A).await);
    assert_eq!(told_of("listed.example.").await, "NoError listed.example. 30 198.51.100.7 EDE 3");
    assert_eq!(told_of("other.example.").await, "NXDomain / example. 30 SOA 30 EDE 19");
    assert_eq!(told_of("portal.example.").await, "ServFail EDE 22", "nothing is known of it");
    assert_eq!(upstream.asked().len(), 3);
    // Not asked again at once, and never told of a name that is not listed any more.
    assert_eq!(told_of("listed.example.").await, "NoError listed.example. 30 198.51.100.7 EDE 3");
    assert_eq!(upstream.asked(), [""; 0]);
    world.judge.publish(&policy(NXDOMAIN, "").replace("listed.example", "changed.example"));
    assert_eq!(told_of("listed.example.").await, "NXDomain / . 5 SOA 5 EDE 15");
}

#[tokio::test]
async fn case_69_does_not_let_askers_wait_for_a_silent_upstream() {
    let (upstream, world) = after_the_upstream_failed(Script::Silence).await;
    let started = Instant::now();
    let answer = world.ask("listed.example.", RecordType::A).await;
    assert_eq!(told(&answer), "NoError listed.example. 30 198.51.100.7 EDE 3");
    let elapsed = started.elapsed();
    assert!((1_700..3_000).contains(&elapsed.as_millis()), "{elapsed:?}");
    // The search goes on without an asker, and what it finds is told from then on.
    upstream.say("listed.example", RecordType::A, &["listed.example. 300 A 198.51.100.8"]);
    world.eventually("postern_dns_pending", "", 0.0).await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let answer = world.ask("listed.example.", RecordType::A).await;
    assert_eq!(told(&answer), "NoError listed.example. 60 198.51.100.8");
}

#[tokio::test]
async fn case_68_does_not_ask_again_at_once_about_a_name_that_failed() {
    let upstream = Scripted::start().await;
    upstream.otherwise(FAILURE);
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    for _ in 0..5 {
        let answer = world.ask("listed.example.", RecordType::A).await;
        assert_eq!(told(&answer), "ServFail EDE 22", "and never NXDOMAIN");
    }
    world.ask("listed.example.", RecordType::AAAA).await;
    assert_eq!(
        upstream.asked(),
        ["listed.example. A udp", "listed.example. AAAA udp"],
        "each type by itself"
    );
}

#[tokio::test]
async fn case_80_denies_at_full_speed_and_answers_in_time_without_any_upstream() {
    let (_upstream, world) = after_the_upstream_failed(Script::Silence).await;
    world.judge.publish(&policy(NXDOMAIN, WILD));
    let started = Instant::now();
    let answer = world.ask("unseen.wild.example.", RecordType::A).await;
    assert_eq!(told(&answer), "ServFail EDE 22");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let started = Instant::now();
    for _ in 0..200 {
        let answer = world.ask("www.bing.com.", RecordType::A).await;
        assert_eq!(told(&answer), "NXDomain / . 5 SOA 5 EDE 15");
    }
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    assert_eq!(world.metric("postern_dns_pending", ""), 0.0);
}
