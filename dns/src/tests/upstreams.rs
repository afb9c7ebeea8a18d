//! What happens when upstreams fail.

use std::{sync::Arc, time::Duration};

use hickory_proto::{op::ResponseCode, rr::RecordType};
use prometheus::Registry;
use tokio::{
    net::{TcpListener, UdpSocket},
    task::JoinSet,
    time::Instant,
};

use super::{
    scripted::{Script, Scripted, zone},
    world::{Bench, NXDOMAIN, WILD, World, ask, policy, question, told},
};
use crate::{BindError, Limits, Metrics, Resolver, Server, Settings, Trust, Upstream};

const FAILURE: Script = Script::Say(ResponseCode::ServFail, Vec::new(), Vec::new());

#[tokio::test]
async fn case_64_asks_the_next_upstream_after_a_failure() {
    let (first, second) = (Scripted::start().await, Scripted::start().await);
    second.otherwise(Script::Say(
        ResponseCode::NoError,
        zone(&["listed.example. 0 A 198.51.100.7", "other.example. 0 A 198.51.100.8"]),
        Vec::new(),
    ));
    let said = |rcode| Script::Say(rcode, Vec::new(), Vec::new());
    let referral =
        Script::Say(ResponseCode::NoError, Vec::new(), zone(&["example. 30 NS ns.example."]));
    for failure in [
        FAILURE,
        said(ResponseCode::Refused),
        said(ResponseCode::NotImp),
        said(ResponseCode::FormErr),
        referral,
    ] {
        let world = World::start("127.0.0.1:0", &[&first, &second]).await;
        first.otherwise(failure);
        let answer = world.ask("listed.example.", RecordType::A).await;
        assert_eq!(told(&answer), "NoError listed.example. 0 198.51.100.7");
        assert_eq!(first.asked(), ["listed.example. A udp"]);
        assert_eq!(world.metric("postern_dns_upstream_up", "1"), 0.0);
        // Once bitten, it is asked last.
        let answer = world.ask("other.example.", RecordType::A).await;
        assert_eq!(told(&answer), "NoError other.example. 0 198.51.100.8");
        assert_eq!(first.asked(), [""; 0]);
    }
}

#[tokio::test]
async fn case_65_takes_a_denial_for_an_answer() {
    let (first, second) = (Scripted::start().await, Scripted::start().await);
    let denial = Script::Say(ResponseCode::NXDomain, Vec::new(), zone(&["example. 30 SOA 30"]));
    first.otherwise(denial);
    let world = World::start("127.0.0.1:0", &[&first, &second]).await;
    for name in ["listed.example.", "other.example."] {
        let answer = world.ask(name, RecordType::A).await;
        assert_eq!(told(&answer), "NXDomain / example. 30 SOA 30");
    }
    assert_eq!(second.asked(), [""; 0]);
    assert_eq!(world.metric("postern_dns_upstream_up", "1"), 1.0);
}

#[tokio::test]
async fn case_67_asks_one_more_beside_a_slow_upstream_within_a_budget() {
    let (first, second) = (Scripted::start().await, Scripted::start().await);
    first.otherwise(Script::Silence);
    second.otherwise(Script::Late(Duration::ZERO));
    let world = World::start("127.0.0.1:0", &[&first, &second]).await;
    world.judge.publish(&policy(NXDOMAIN, WILD));
    let started = Instant::now();
    let answer = world.ask("slow0.wild.example.", RecordType::A).await;
    assert_eq!(told(&answer), "NoError slow0.wild.example. 30 198.51.100.7");
    assert!(started.elapsed() < Duration::from_secs(1), "not after the first was given up");
    for number in 1..3 {
        world.ask(&format!("slow{number}.wild.example."), RecordType::A).await;
    }
    assert_eq!(world.metric("postern_dns_upstream_hedges_total", "asked"), 3.0);
    assert_eq!(world.metric("postern_dns_upstream_hedges_total", "won"), 3.0);
    // Three races lost in a row: it is taken to be dead, and asked last.
    first.asked();
    world.ask("slow3.wild.example.", RecordType::A).await;
    assert_eq!(first.asked(), [""; 0]);
}

#[tokio::test]
async fn case_66_asks_the_same_upstream_by_tcp_and_never_takes_the_cut_answer() {
    let (first, second) = (Scripted::start().await, Scripted::start().await);
    let whole = zone(&["listed.example. 30 A 198.51.100.7"]);
    first.script("listed.example", RecordType::A, Script::Long(whole));
    first.script("other.example", RecordType::A, Script::Endless);
    second.otherwise(Script::Late(Duration::ZERO));
    let world = World::start("127.0.0.1:0", &[&first, &second]).await;
    let answer = world.ask("listed.example.", RecordType::A).await;
    assert_eq!(told(&answer), "NoError listed.example. 30 198.51.100.7");
    assert_eq!(first.asked(), ["listed.example. A udp", "listed.example. A tcp"]);
    assert_eq!(second.asked(), [""; 0]);
    let answer = world.ask("other.example.", RecordType::A).await;
    assert_eq!(told(&answer), "NoError other.example. 30 198.51.100.7", "the next one's");
    let asked = first.asked();
    assert_eq!(asked[..2], ["other.example. A udp", "other.example. A tcp"]);
}

#[tokio::test]
async fn case_64_goes_on_at_once_if_nobody_listens() {
    let (free, second) = (UdpSocket::bind("127.0.0.1:0").await.unwrap(), Scripted::start().await);
    let closed = format!("udp://{}", free.local_addr().unwrap()).parse().unwrap();
    drop(free);
    second.otherwise(Script::Late(Duration::ZERO));
    let upstreams = [closed, second.url().parse().unwrap()];
    let world = World::start_over("127.0.0.1:0", &upstreams, Limits::default()).await;
    let answer = world.ask("listed.example.", RecordType::A).await;
    assert_eq!(told(&answer), "NoError listed.example. 30 198.51.100.7");
    assert_eq!(world.metric("postern_upstream_failures_total", "unreachable"), 1.0);
    assert_eq!(world.metric("postern_dns_upstream_hedges_total", "asked"), 0.0);
}

#[tokio::test]
async fn puts_one_question_for_many_who_ask_it() {
    let upstream = Scripted::start().await;
    upstream.otherwise(Script::Late(Duration::ZERO));
    let gate = upstream.hold();
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    let mut askers = JoinSet::new();
    for _ in 0..50 {
        let address = world.address;
        askers
            .spawn(async move { ask(address, &question("listed.example.", RecordType::A)).await });
    }
    upstream.arrival().await;
    world.eventually("postern_dns_cache_total", "miss", 50.0).await;
    gate.notify_one();
    gate.notify_waiters();
    while let Some(answer) = askers.join_next().await {
        let answer = told(&answer.unwrap().unwrap());
        assert_eq!(answer, "NoError listed.example. 30 198.51.100.7");
    }
    assert_eq!(world.metric("postern_dns_upstream_questions_total", "1"), 1.0);
}

#[tokio::test]
async fn says_so_when_all_upstreams_fail_and_goes_on_denying() {
    let (first, second) = (Scripted::start().await, Scripted::start().await);
    first.otherwise(FAILURE);
    second.otherwise(Script::Silence);
    let world = World::start("127.0.0.1:0", &[&first, &second]).await;
    let started = Instant::now();
    let answer = world.ask("listed.example.", RecordType::A).await;
    assert_eq!(told(&answer), "ServFail EDE 22");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(
        world.judge.records(),
        ["unprovisioned allow listed listed.example"],
        "a failure is not a denial"
    );
    assert!(world.metric("postern_upstream_failures_total", "response-code") >= 1.0);
    assert!(world.metric("postern_upstream_failures_total", "timeout") >= 1.0);
    let answer = world.ask("www.bing.com.", RecordType::A).await;
    assert_eq!(told(&answer), "NXDomain / . 5 SOA 5 EDE 15");
}

#[tokio::test]
async fn case_16_refuses_loops_and_endless_chains_after_one_question() {
    let upstream = Scripted::start().await;
    upstream.say(
        "listed.example",
        RecordType::A,
        &["listed.example. 30 CNAME a.example.", "a.example. 30 CNAME listed.example."],
    );
    let long: Vec<String> =
        (0..12).map(|n| format!("c{n}.example. 30 CNAME c{}.example.", n + 1)).collect();
    let mut long: Vec<&str> = long.iter().map(String::as_str).collect();
    long.extend(["other.example. 30 CNAME c0.example.", "c12.example. 30 A 198.51.100.7"]);
    upstream.say("other.example", RecordType::A, &long);
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    for name in ["listed.example.", "other.example."] {
        assert_eq!(told(&world.ask(name, RecordType::A).await), "ServFail EDE 0", "{name}");
        assert_eq!(upstream.asked().len(), 1);
    }
    assert_eq!(world.metric("postern_upstream_failures_total", "bad-answer"), 2.0);
}

#[tokio::test]
async fn turns_questions_away_when_too_many_wait() {
    let upstream = Scripted::start().await;
    upstream.say("listed.example", RecordType::A, &["listed.example. 30 A 198.51.100.7"]);
    for limits in [
        Limits { udp_pending: 1, ..Limits::default() },
        Limits { udp_pending_per_source: 1, ..Limits::default() },
    ] {
        let gate = upstream.hold();
        let world = World::start_with("127.0.0.1:0", &[&upstream], limits).await;
        let waiting = world.ask("listed.example.", RecordType::A);
        let turned_away = async {
            upstream.arrival().await;
            let answer = world.ask("other.example.", RecordType::A).await;
            gate.notify_one();
            answer
        };
        let (waited, turned_away) = tokio::join!(waiting, turned_away);
        assert_eq!(told(&turned_away), "ServFail EDE 23");
        let records = world.judge.records();
        assert_eq!(records[0], "unprovisioned deny limit other.example");
        assert_eq!(told(&waited), "NoError listed.example. 30 198.51.100.7");
    }
}

#[tokio::test]
async fn does_not_start_as_its_own_upstream() {
    let (free, judge) = (UdpSocket::bind("127.0.0.1:0").await.unwrap(), Bench::default());
    let address = free.local_addr().unwrap();
    drop(free);
    let metrics = Metrics::register(&Registry::new()).unwrap();
    let upstream = format!("udp://{address}").parse().unwrap();
    let resolver =
        Resolver::new(&[upstream], &Trust::web().unwrap(), Arc::clone(&metrics)).unwrap();
    let limits = Limits::default();
    let listen = vec![address];
    let settings = Settings {
        listen,
        interfaces: Vec::new(),
        tls: None,
        https: None,
        transparent: false,
        leads_to: Vec::new(),
        limits,
    };
    let bound = Server::bind(
        &settings,
        &mut crate::Inherited::default(),
        Arc::new(judge),
        Arc::new(resolver),
        metrics,
    )
    .await;
    assert!(matches!(bound, Err(BindError::Loop { .. })));
}

#[tokio::test]
async fn survives_damaged_answers() {
    let upstream = Scripted::start().await;
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    world.judge.publish(&policy(NXDOMAIN, WILD));
    // Header and question are 34 octets, the record 16, and none of them may be missing or wrong.
    for length in [12, 33].into_iter().chain(34..50) {
        upstream.otherwise(Script::Cut(length));
        let answer = world.ask(&format!("c{length}.wild.example."), RecordType::A).await;
        assert_eq!(told(&answer), "ServFail EDE 22", "{length}");
    }
    upstream.say("listed.example", RecordType::A, &["listed.example. 30 A 198.51.100.7"]);
    let answer = world.ask("listed.example.", RecordType::A).await;
    assert_eq!(told(&answer), "NoError listed.example. 30 198.51.100.7");
}

#[tokio::test]
async fn gives_up_in_time_on_upstreams_that_never_speak() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    for url in ["tcp://", "tls://dns.example@", "https://dns.example@"] {
        let upstream: Upstream = format!("{url}{address}").parse().unwrap();
        tasks.spawn(async move {
            let world = World::start_over("127.0.0.1:0", &[upstream], Limits::default()).await;
            let started = Instant::now();
            let answer = world.ask("listed.example.", RecordType::A).await;
            (told(&answer), started.elapsed())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        let (told, elapsed) = ended.unwrap();
        assert_eq!(told, "ServFail EDE 22");
        assert!(elapsed < Duration::from_secs(5), "{elapsed:?}");
    }
}
