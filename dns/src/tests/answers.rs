//! What a subscriber is told about listed names.

use std::net::SocketAddr;

use hickory_proto::{op::ResponseCode, rr::RecordType};

use super::{
    scripted::{Script, Scripted, zone},
    world::{ASKER, NXDOMAIN, World, ask, policy, question, told},
};

#[tokio::test]
async fn resolves_a_listed_name_in_both_families_over_both_transports() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let upstream = Scripted::start_at(address).await;
        upstream.say("listed.example", RecordType::A, &["listed.example. 30 A 198.51.100.7"]);
        upstream.say("listed.example", RecordType::AAAA, &["listed.example. 30 AAAA 2001:db8::7"]);
        let world = World::start(address, &[&upstream]).await;
        let answer = world.ask("LISTED.example.", RecordType::A).await;
        assert_eq!(told(&answer), "NoError LISTED.example. 30 198.51.100.7");
        assert_eq!(answer.queries[0].name().to_string(), "LISTED.example.");
        assert!(answer.metadata.recursion_available && answer.metadata.recursion_desired);
        assert!(!answer.metadata.authoritative && !answer.metadata.authentic_data);
        assert_eq!(answer.edns.unwrap().max_payload(), 1_232);
        let answer = world.ask_by_tcp("listed.example.", RecordType::AAAA).await;
        assert_eq!(told(&answer), "NoError listed.example. 30 2001:db8::7");
        assert_eq!(
            world.judge.records(),
            ["unprovisioned allow listed listed.example"; 2],
            "one record a question"
        );
        world.stop().await;
    }
}

#[tokio::test]
async fn case_60_answers_from_the_address_that_was_asked() {
    let upstream = Scripted::start().await;
    let world = World::start("0.0.0.0:0", &[&upstream]).await;
    for address in ["127.0.0.1", "127.0.0.2", "127.1.2.3"] {
        let asked = SocketAddr::new(address.parse().unwrap(), world.address.port());
        let answer = ask(asked, &question("www.bing.com.", RecordType::A)).await;
        assert_eq!(told(&answer.expect(address)), "NXDomain / . 5 SOA 5 EDE 15");
    }
}

#[tokio::test]
async fn leads_to_the_proxy_whoever_is_in_the_garden() {
    let upstream = Scripted::start().await;
    let world = World::start_leading_to(&["192.0.2.1", "2001:db8::1"], &upstream).await;
    let told = async |name: &str, kind| told(&world.ask(name, kind).await);
    let (v4, v6) = (RecordType::A, RecordType::AAAA);
    assert_eq!(told("listed.example.", v4).await, "NoError listed.example. 5 192.0.2.1");
    assert_eq!(told("listed.example.", v6).await, "NoError listed.example. 5 2001:db8::1");
    assert_eq!(told("www.bing.com.", v4).await, "NXDomain / . 5 SOA 5 EDE 15");
    let sinkhole = "denied = \"sinkhole\"\ndenied_ttl = \"5s\"\nmax_ttl = \"60s\"";
    world.judge.publish(&policy(sinkhole, ""));
    assert_eq!(told("www.bing.com.", v4).await, "NoError www.bing.com. 5 192.0.2.1 EDE 4");
    let open = policy(NXDOMAIN, "").replace("action = \"garden\"", "action = \"open\"");
    let open = open.replace("default_class", "#").replace("hostsets = [\"listed\"]\n", "");
    upstream.say("listed.example", v4, &["listed.example. 30 A 198.51.100.7"]);
    world.judge.publish(&open);
    assert_eq!(told("listed.example.", v4).await, "NoError listed.example. 30 198.51.100.7");
    world.stop().await;
}

#[tokio::test]
async fn keeps_the_chain_and_nothing_else() {
    let upstream = Scripted::start().await;
    let answers = zone(&[
        "cdn.example.net. 300 A 198.51.100.8",
        "listed.example. 20 CNAME edge.example.net.",
        "unrelated.example. 300 A 198.51.100.66",
        "edge.example.net. 300 CNAME cdn.example.net.",
        "cdn.example.net. 40 A 198.51.100.9",
        "cdn.example.net. 300 AAAA 2001:db8::66",
    ]);
    let authorities = zone(&["example.net. 300 NS ns.example.net."]);
    let script = Script::Say(ResponseCode::NoError, answers, authorities);
    upstream.script("listed.example", RecordType::A, script);
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    let answer = world.ask("listed.example.", RecordType::A).await;
    assert_eq!(
        told(&answer),
        "NoError listed.example. 20 CNAME edge.example.net. \
         edge.example.net. 20 CNAME cdn.example.net. \
         cdn.example.net. 20 198.51.100.8 cdn.example.net. 20 198.51.100.9"
    );
    assert_eq!(upstream.asked().len(), 1);
}

#[tokio::test]
async fn keeps_the_chain_before_a_denial() {
    let upstream = Scripted::start().await;
    for (name, rcode) in
        [("listed.example", ResponseCode::NXDomain), ("other.example", ResponseCode::NoError)]
    {
        let answers = zone(&[&format!("{name}. 30 CNAME gone.example.net.")]);
        let authorities = zone(&["example.net. 900 SOA 3600"]);
        upstream.script(name, RecordType::A, Script::Say(rcode, answers, authorities));
    }
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    assert_eq!(
        told(&world.ask("listed.example.", RecordType::A).await),
        "NXDomain listed.example. 30 CNAME gone.example.net. / example.net. 30 SOA 30"
    );
    assert_eq!(
        told(&world.ask("other.example.", RecordType::A).await),
        "NoError other.example. 30 CNAME gone.example.net. / example.net. 30 SOA 30"
    );
    assert_eq!(upstream.asked().len(), 2, "the chain is not chased again");
}

#[tokio::test]
async fn clamps_lifetimes_up_to_the_policy() {
    let upstream = Scripted::start().await;
    upstream.say("listed.example", RecordType::A, &["listed.example. 86400 A 198.51.100.7"]);
    let authorities = zone(&["example. 86400 SOA 86400"]);
    let script = Script::Say(ResponseCode::NXDomain, Vec::new(), authorities);
    upstream.script("other.example", RecordType::A, script);
    upstream.say(
        "internal.example",
        RecordType::A,
        &["internal.example. 2147483648 A 198.51.100.7"],
    );
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    let told_of = async |name| told(&world.ask(name, RecordType::A).await);
    assert_eq!(told_of("listed.example.").await, "NoError listed.example. 60 198.51.100.7");
    assert_eq!(told_of("other.example.").await, "NXDomain / example. 60 SOA 60");
    assert_eq!(told_of("internal.example.").await, "NoError internal.example. 0 198.51.100.7");
}

#[tokio::test]
async fn case_10_answers_again_from_the_cache_but_decides_anew() {
    let upstream = Scripted::start().await;
    upstream.say("listed.example", RecordType::A, &["listed.example. 300 A 198.51.100.7"]);
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    for _ in 0..3 {
        let answer = world.ask("listed.example.", RecordType::A).await;
        assert_eq!(told(&answer), "NoError listed.example. 60 198.51.100.7");
    }
    assert_eq!(upstream.asked(), ["listed.example. A udp"]);
    assert_eq!(world.judge.records().len(), 3);
    assert_eq!(world.metric("postern_dns_cache_total", "hit"), 2.0);
    world.judge.publish(&policy(NXDOMAIN, "").replace("listed.example", "changed.example"));
    let answer = world.ask("listed.example.", RecordType::A).await;
    assert_eq!(told(&answer), "NXDomain / . 5 SOA 5 EDE 15");
    // What upstreams said is no policy's: it is told again in the words of the next one.
    world.judge.publish(&policy(&NXDOMAIN.replace("60s", "7s"), ""));
    let answer = world.ask("listed.example.", RecordType::A).await;
    assert_eq!(told(&answer), "NoError listed.example. 7 198.51.100.7");
    assert!(upstream.asked().is_empty(), "a publication is no reason to ask again");
}

#[tokio::test]
async fn removes_addresses_that_must_not_be_dialled() {
    let upstream = Scripted::start().await;
    upstream.say(
        "listed.example",
        RecordType::A,
        &["listed.example. 30 A 10.20.0.1", "listed.example. 30 A 198.51.100.7"],
    );
    upstream.say("other.example", RecordType::A, &["other.example. 30 A 127.0.0.1"]);
    upstream.say("other.example", RecordType::AAAA, &["other.example. 30 AAAA 64:ff9b::a00:1"]);
    upstream.say("internal.example", RecordType::A, &["internal.example. 30 A 10.20.0.1"]);
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    let answer = world.ask("listed.example.", RecordType::A).await;
    assert_eq!(told(&answer), "NoError listed.example. 30 198.51.100.7");
    assert_eq!(world.judge.records(), ["unprovisioned allow listed listed.example"]);
    for record_type in [RecordType::A, RecordType::AAAA] {
        let answer = world.ask("other.example.", record_type).await;
        assert_eq!(told(&answer), "NoError / . 5 SOA 5 EDE 15");
        assert_eq!(
            world.judge.records(),
            ["unprovisioned deny upstream-address-refused other.example"]
        );
    }
    let answer = world.ask("internal.example.", RecordType::A).await;
    assert_eq!(told(&answer), "NoError internal.example. 30 10.20.0.1");
}

#[tokio::test]
async fn gives_the_proxy_the_same_addresses_as_the_subscriber() {
    let upstream = Scripted::start().await;
    upstream.say(
        "listed.example",
        RecordType::A,
        &["listed.example. 30 A 198.51.100.7", "listed.example. 30 A 192.168.0.1"],
    );
    upstream.say("listed.example", RecordType::AAAA, &["listed.example. 30 AAAA 2001:db8::7"]);
    upstream.say("other.example", RecordType::A, &["other.example. 30 A 127.0.0.1"]);
    let failure = Script::Say(ResponseCode::ServFail, Vec::new(), Vec::new());
    upstream.script("internal.example", RecordType::A, failure.clone());
    upstream.script("internal.example", RecordType::AAAA, failure);
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    let snapshot = super::world::snapshot(&policy(NXDOMAIN, ""), 1);
    let addresses = async |host: &str| {
        let found = world.resolver.addresses(&snapshot, ASKER, &host.parse().unwrap(), None).await;
        found.map(|found| found.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    assert_eq!(addresses("listed.example").await.unwrap(), ["2001:db8::7", "198.51.100.7"]);
    assert_eq!(addresses("other.example").await.unwrap_err().label(), "addresses-refused");
    assert_eq!(addresses("absent.example").await.unwrap_err().label(), "no-address");
    assert_eq!(addresses("internal.example").await.unwrap_err().label(), "response-code");
    world.ask("listed.example.", RecordType::A).await;
    let asked = upstream.asked();
    let times = asked.iter().filter(|line| *line == "listed.example. A udp").count();
    assert_eq!(times, 1, "one cache for both");
}

#[tokio::test]
async fn answers_lab_names_without_the_upstream() {
    let upstream = Scripted::start().await;
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    let lab =
        "[lab]\nresolve = { \"listed.example\" = [\"127.0.0.9\"] }\nnetworks = [\"127.0.0.0/8\"]";
    world.judge.publish(&policy(NXDOMAIN, lab));
    let answer = world.ask("listed.example.", RecordType::A).await;
    assert_eq!(told(&answer), "NoError listed.example. 60 127.0.0.9");
    let answer = world.ask("listed.example.", RecordType::AAAA).await;
    assert_eq!(told(&answer), "NoError / . 5 SOA 5");
    assert_eq!(upstream.asked(), [""; 0]);
}

#[tokio::test]
async fn case_57_truncates_over_udp_and_tells_all_over_tcp() {
    let upstream = Scripted::start().await;
    let records: Vec<String> =
        (0..60).map(|n| format!("listed.example. 30 AAAA 2001:db8::{n:x}")).collect();
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    upstream.script("listed.example", RecordType::AAAA, Script::Long(zone(&records)));
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    let answer = world.ask("listed.example.", RecordType::AAAA).await;
    assert!(answer.metadata.truncation);
    assert_eq!(told(&answer), "NoError");
    assert!(answer.edns.is_some());
    let answer = world.ask_by_tcp("listed.example.", RecordType::AAAA).await;
    assert!(!answer.metadata.truncation);
    assert_eq!(answer.answers.len(), 60);
    assert_eq!(upstream.asked(), ["listed.example. AAAA udp", "listed.example. AAAA tcp"]);
}

#[tokio::test]
async fn case_11_judges_an_answer_that_was_under_way_by_the_new_policy() {
    let upstream = Scripted::start().await;
    upstream.say("listed.example", RecordType::A, &["listed.example. 30 A 198.51.100.7"]);
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    let gate = upstream.hold();
    let bytes = question("listed.example.", RecordType::A);
    let asking = ask(world.address, &bytes);
    let changing = async {
        upstream.arrival().await;
        world.judge.publish(&policy(NXDOMAIN, "").replace("listed.example", "changed.example"));
        gate.notify_one();
    };
    let (answer, ()) = tokio::join!(asking, changing);
    assert_eq!(told(&answer.unwrap()), "NXDomain / . 5 SOA 5 EDE 15");
    assert_eq!(world.judge.records(), ["unprovisioned deny not-listed listed.example"]);
}
