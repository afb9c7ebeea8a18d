//! What a subscriber is told about everything else. Nothing of it reaches an upstream.

use hickory_proto::rr::RecordType;

use super::{
    scripted::{Script, Scripted, zone},
    world::{NXDOMAIN, World, ask, ask_raw, policy, question, told},
};

#[tokio::test]
async fn denies_names_outside_the_garden_in_the_policys_way() {
    let upstream = Scripted::start().await;
    upstream.say("portal.example", RecordType::A, &["portal.example. 30 A 198.51.100.30"]);
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    for (denied, a, https) in [
        ("nxdomain", "NXDomain / . 3 SOA 3 EDE 15", "NXDomain / . 3 SOA 3 EDE 15"),
        ("nodata", "NoError / . 3 SOA 3 EDE 15", "NoError / . 3 SOA 3 EDE 15"),
        ("refused", "Refused EDE 15", "Refused EDE 15"),
        ("sinkhole", "NoError www.bing.com. 3 198.51.100.30 EDE 4", "NoError / . 3 SOA 3 EDE 15"),
    ] {
        let dns = format!("denied = \"{denied}\"\ndenied_ttl = \"3s\"\nmax_ttl = \"60s\"");
        world.judge.publish(&policy(&dns, ""));
        assert_eq!(told(&world.ask("www.bing.com.", RecordType::A).await), a);
        assert_eq!(told(&world.ask("www.bing.com.", RecordType::HTTPS).await), https);
        assert_eq!(
            world.judge.records(),
            ["unprovisioned deny not-listed www.bing.com"; 2],
            "{denied}"
        );
    }
    // The portal has no IPv6 address: no such record, and nobody else's address.
    let answer = world.ask("www.bing.com.", RecordType::AAAA).await;
    assert_eq!(told(&answer), "NoError / . 3 SOA 3 EDE 15");
    let asked = upstream.asked();
    assert!(asked.iter().all(|line| line.starts_with("portal.example. ")), "{asked:?}");
}

#[tokio::test]
async fn says_the_extended_error_only_to_those_who_speak_edns() {
    let upstream = Scripted::start().await;
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    let mut bytes = question("www.bing.com.", RecordType::A);
    bytes.truncate(bytes.len() - 11);
    bytes[11] = 0;
    let answer = ask(world.address, &bytes).await.unwrap();
    assert_eq!(told(&answer), "NXDomain / . 5 SOA 5");
    assert!(answer.edns.is_none());
}

#[tokio::test]
async fn refuses_everything_before_the_first_policy() {
    let upstream = Scripted::start().await;
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    world.judge.forget();
    for name in ["listed.example.", "www.bing.com.", "ipv4only.arpa.", "a\\001b.example."] {
        assert_eq!(told(&world.ask(name, RecordType::A).await), "Refused EDE 14", "{name}");
    }
    assert_eq!(world.judge.records(), ["none deny no-policy -"; 4]);
    assert_eq!(upstream.asked(), [""; 0]);
}

#[tokio::test]
async fn refuses_subscribers_no_class_holds() {
    let upstream = Scripted::start().await;
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    world.judge.publish(&policy(NXDOMAIN, "").replace("127.0.0.0/8", "100.64.0.0/16"));
    for name in ["listed.example.", "www.bing.com.", "ipv4only.arpa.", "a\\001b.example."] {
        assert_eq!(told(&world.ask(name, RecordType::A).await), "Refused EDE 18", "{name}");
    }
    assert_eq!(upstream.asked(), [""; 0]);
}

#[tokio::test]
async fn denies_what_is_no_host_name_and_never_the_root() {
    let upstream = Scripted::start().await;
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    for name in ["a\\001b.listed.example.", "listed\\.example.", "\\255.example.", "10.0.0.1."] {
        let answer = world.ask(name, RecordType::A).await;
        assert_eq!(told(&answer), "NXDomain / . 5 SOA 5 EDE 15", "{name}");
    }
    assert_eq!(told(&world.ask(".", RecordType::NS).await), "NoError / . 5 SOA 5 EDE 15");
    assert_eq!(world.judge.records(), ["unprovisioned deny bad-host -"; 5]);
    assert_eq!(upstream.asked(), [""; 0]);
}

#[tokio::test]
async fn answers_special_names_itself() {
    let upstream = Scripted::start().await;
    upstream.say("ocsp.internal", RecordType::A, &["ocsp.internal. 30 A 198.51.100.9"]);
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    for (name, record_type, expected) in [
        (
            "ipv4only.arpa.",
            RecordType::A,
            "NoError ipv4only.arpa. 60 192.0.0.170 ipv4only.arpa. 60 192.0.0.171",
        ),
        ("ipv4only.arpa.", RecordType::AAAA, "NoError / . 5 SOA 5"),
        ("_dns.resolver.arpa.", RecordType::SVCB, "NoError / . 5 SOA 5"),
        ("use-application-dns.net.", RecordType::A, "NXDomain / . 5 SOA 5"),
        ("mask.icloud.com.", RecordType::A, "NXDomain / . 5 SOA 5"),
        ("mask-h2.icloud.com.", RecordType::HTTPS, "NXDomain / . 5 SOA 5"),
        ("localhost.", RecordType::A, "NoError localhost. 60 127.0.0.1"),
        ("a.localhost.", RecordType::AAAA, "NoError a.localhost. 60 ::1"),
        ("a.invalid.", RecordType::A, "NXDomain / . 5 SOA 5"),
        ("printer.local.", RecordType::A, "NXDomain / . 5 SOA 5"),
    ] {
        assert_eq!(told(&world.ask(name, record_type).await), expected);
    }
    assert_eq!(upstream.asked(), [""; 0]);
    let answer = world.ask("ocsp.internal.", RecordType::A).await;
    assert_eq!(told(&answer), "NoError ocsp.internal. 30 198.51.100.9", "listed by the operator");
    upstream.say("mask.icloud.com", RecordType::A, &["mask.icloud.com. 30 A 198.51.100.9"]);
    let open = policy(NXDOMAIN, "")
        .replace("action = \"garden\"\nhostsets = [\"listed\"]", "action = \"open\"");
    world.judge.publish(&open);
    let answer = world.ask("mask.icloud.com.", RecordType::A).await;
    assert_eq!(told(&answer), "NoError mask.icloud.com. 30 198.51.100.9", "an open class");
}

#[tokio::test]
async fn answers_no_class_but_the_internets_and_no_transfers() {
    let upstream = Scripted::start().await;
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    // VERSION.BIND CH TXT, and class ANY: the class stands before the OPT record.
    for class in [3, 255] {
        let mut bytes = question("listed.example.", RecordType::A);
        let place = bytes.len() - 11 - 1;
        bytes[place] = class;
        let answer = ask_raw(world.address, &bytes).await.unwrap();
        assert_eq!(answer[3] & 0xf, 5, "class {class}");
    }
    for record_type in [RecordType::AXFR, RecordType::IXFR] {
        assert_eq!(told(&world.ask("listed.example.", record_type).await), "Refused");
        let answer = world.ask_by_tcp("listed.example.", record_type).await;
        assert_eq!(told(&answer), "Refused");
    }
    assert_eq!(upstream.asked(), [""; 0]);
}

#[tokio::test]
async fn lifts_no_guard_for_a_portal_that_is_not_listed() {
    let upstream = Scripted::start().await;
    let records = zone(&["portal.example. 30 A 198.51.100.30"]);
    upstream.otherwise(Script::Say(hickory_proto::op::ResponseCode::NoError, records, Vec::new()));
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    let dns = "denied = \"sinkhole\"\ndenied_ttl = \"5s\"\nmax_ttl = \"60s\"";
    let text = policy(dns, "").replace("match = \"portal.example\"", "match = \"p.example\"");
    world.judge.publish(&text);
    let answer = world.ask("www.bing.com.", RecordType::A).await;
    assert_eq!(told(&answer), "NoError / . 5 SOA 5 EDE 15");
    assert_eq!(upstream.asked(), [""; 0]);
}

#[tokio::test]
async fn leads_probes_to_where_they_are_answered() {
    let upstream = Scripted::start().await;
    upstream.otherwise(Script::Say(
        hickory_proto::op::ResponseCode::ServFail,
        Vec::new(),
        Vec::new(),
    ));
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    let web = "www.msftconnecttest.com.";
    let dns = "dns.msftncsi.com.";
    for (ncsi, listed, name, record_type, expected, record) in [
        ("pass", false, web, RecordType::A, "NXDomain / . 5 SOA 5 EDE 15", "deny not-listed"),
        ("pass", true, web, RecordType::A, "ServFail EDE 22", "allow listed"),
        ("deny", true, web, RecordType::A, "NXDomain / . 5 SOA 5 EDE 15", "deny ncsi"),
        ("answer", false, web, RecordType::A, "NoError {} 5 192.0.2.80", "allow ncsi"),
        ("answer", false, web, RecordType::AAAA, "NoError {} 5 2001:db8::80", "allow ncsi"),
        ("answer", true, web, RecordType::A, "NoError {} 5 192.0.2.80", "allow ncsi"),
        ("answer", false, web, RecordType::HTTPS, "NoError / . 5 SOA 5", "allow ncsi"),
        ("answer", false, dns, RecordType::A, "NoError {} 5 131.107.255.255", "allow ncsi"),
        ("answer", false, dns, RecordType::AAAA, "NoError {} 5 fd3e:4f5a:5b81::1", "allow ncsi"),
        ("redirect", false, web, RecordType::A, "NoError {} 5 192.0.2.80", "allow ncsi"),
        ("redirect", false, dns, RecordType::A, "NXDomain / . 5 SOA 5 EDE 15", "deny not-listed"),
    ] {
        let text = policy(NXDOMAIN, "")
            .replace("action = \"garden\"", &format!("action = \"garden\"\nncsi = \"{ncsi}\""));
        let place = if listed { web.trim_end_matches('.') } else { "never.example" };
        world.judge.publish(&text.replace("listed.example", place));
        let answer = world.ask(name, record_type).await;
        let case = format!("{ncsi} {listed} {name} {record_type}");
        assert_eq!(told(&answer), expected.replace("{}", name), "{case}");
        let host = name.trim_end_matches('.');
        assert_eq!(world.judge.records(), [format!("unprovisioned {record} {host}")], "{case}");
    }
}
