//! What of an upstream's answer reaches a subscriber.

use hickory_proto::{op::ResponseCode, rr::RecordType};

use super::{
    scripted::{Script, Scripted, zone},
    world::{World, told},
};

#[tokio::test]
async fn case_13_trusts_the_chain_of_a_listed_name_at_first_and_from_the_cache() {
    let upstream = Scripted::start().await;
    upstream.say(
        "listed.example",
        RecordType::A,
        &["listed.example. 30 CNAME edge.cdn.invalid.", "edge.cdn.invalid. 30 A 198.51.100.7"],
    );
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    for _ in 0..2 {
        let answer = world.ask("listed.example.", RecordType::A).await;
        assert_eq!(
            told(&answer),
            "NoError listed.example. 30 CNAME edge.cdn.invalid. edge.cdn.invalid. 30 198.51.100.7"
        );
    }
    assert_eq!(world.judge.records(), ["unprovisioned allow listed listed.example"; 2]);
    let answer = world.ask("edge.cdn.example.", RecordType::A).await;
    assert_eq!(told(&answer), "NXDomain / . 5 SOA 5 EDE 15", "by itself it is not listed");
}

#[tokio::test]
async fn case_17_keeps_the_chain_before_a_denial() {
    let upstream = Scripted::start().await;
    let chain = |name: &str| zone(&[&format!("{name} 30 CNAME gone.example.net.")]);
    let soa = || zone(&["example.net. 900 SOA 3600"]);
    for (name, rcode) in
        [("listed.example", ResponseCode::NXDomain), ("other.example", ResponseCode::NoError)]
    {
        let script = Script::Say(rcode, chain(&format!("{name}.")), soa());
        upstream.script(name, RecordType::A, script);
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
}

/// The DNAME record itself is of no use to a stub resolver and stays away (RFC 6672 section 3.4).
#[tokio::test]
async fn case_18_relays_the_alias_made_of_a_dname() {
    let upstream = Scripted::start().await;
    upstream.say(
        "listed.example",
        RecordType::A,
        &[
            "example. 300 DNAME example.net.",
            "listed.example. 300 CNAME listed.example.net.",
            "listed.example.net. 40 A 198.51.100.7",
        ],
    );
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    assert_eq!(
        told(&world.ask("listed.example.", RecordType::A).await),
        "NoError listed.example. 40 CNAME listed.example.net. \
         listed.example.net. 40 198.51.100.7"
    );
}

#[tokio::test]
async fn case_20_removes_addresses_that_lead_inside_whatever_they_are_wrapped_in() {
    let upstream = Scripted::start().await;
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    for address in [
        "10.0.0.1",
        "127.0.0.1",
        "169.254.1.1",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "::ffff:10.0.0.1",
        "2002:a00:1::1",
        "64:ff9b::10.0.0.1",
        "2001:0:a00:1::1",
        "fe80::1",
        "fd00::1",
    ] {
        let (kind, good, record_type) = if address.contains(':') {
            ("AAAA", "2001:db8::7", RecordType::AAAA)
        } else {
            ("A", "198.51.100.7", RecordType::A)
        };
        let bad = format!("listed.example. 30 {kind} {address}");
        let both = [&bad[..], &format!("listed.example. 30 {kind} {good}")];
        world.begin_anew();
        upstream.say("listed.example", record_type, &both);
        assert_eq!(
            told(&world.ask("listed.example.", record_type).await),
            format!("NoError listed.example. 30 {good}"),
            "{address}"
        );
        world.begin_anew();
        upstream.say("listed.example", record_type, &[&bad]);
        assert_eq!(
            told(&world.ask("listed.example.", record_type).await),
            "NoError / . 5 SOA 5 EDE 15",
            "{address}: no such record, and not no such name"
        );
    }
}

#[tokio::test]
async fn case_21_lets_a_rule_lead_to_its_own_networks() {
    let upstream = Scripted::start().await;
    for name in ["internal.example", "listed.example"] {
        upstream.say(name, RecordType::A, &[&format!("{name}. 30 A 10.20.0.1")]);
    }
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    assert_eq!(
        told(&world.ask("internal.example.", RecordType::A).await),
        "NoError internal.example. 30 10.20.0.1"
    );
    assert_eq!(
        told(&world.ask("listed.example.", RecordType::A).await),
        "NoError / . 5 SOA 5 EDE 15",
        "another rule's networks do not help"
    );
}

#[tokio::test]
async fn case_22_and_23_give_all_records_the_least_lifetime_and_the_policys_ceiling() {
    let upstream = Scripted::start().await;
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    for (records, expected) in [
        (&["listed.example. 0 A 198.51.100.7"][..], "0 198.51.100.7"),
        (&["listed.example. 2147483648 A 198.51.100.7"], "0 198.51.100.7"),
        (&["listed.example. 4294967295 A 198.51.100.7"], "0 198.51.100.7"),
        (&["listed.example. 2147483647 A 198.51.100.7"], "60 198.51.100.7"),
        (
            &["listed.example. 50 A 198.51.100.7", "listed.example. 20 A 198.51.100.8"],
            "20 198.51.100.7 listed.example. 20 198.51.100.8",
        ),
        (
            &["listed.example. 10 CNAME a.example.", "a.example. 50 A 198.51.100.7"],
            "10 CNAME a.example. a.example. 10 198.51.100.7",
        ),
    ] {
        upstream.say("listed.example", RecordType::A, records);
        world.begin_anew();
        let answer = told(&world.ask("listed.example.", RecordType::A).await);
        assert_eq!(answer, format!("NoError listed.example. {expected}"));
    }
    // What may be used once is not kept.
    upstream.say("listed.example", RecordType::A, &["listed.example. 0 A 198.51.100.7"]);
    world.begin_anew();
    upstream.asked();
    for _ in 0..2 {
        world.ask("listed.example.", RecordType::A).await;
    }
    assert_eq!(upstream.asked().len(), 2);
}
