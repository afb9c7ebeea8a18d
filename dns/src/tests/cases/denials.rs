//! What a subscriber is told about everything else. Nothing of it reaches an upstream.

use hickory_proto::{
    op::{Edns, Message, OpCode, ResponseCode},
    rr::{RecordType, rdata::opt::EdnsOption},
};

use crate::tests::{
    scripted::{Script, Scripted, zone},
    world::{NXDOMAIN, World, ask, policy, question, told, with_option},
};

#[tokio::test]
async fn case_31_and_32_and_33_denies_in_the_policys_way_for_seconds() {
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
async fn case_37_says_the_extended_error_only_to_those_who_speak_edns() {
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
async fn case_34_leads_to_the_portal_only_where_the_policy_says_so_and_lists_it() {
    let upstream = Scripted::start().await;
    let records = zone(&["portal.example. 30 A 198.51.100.30"]);
    upstream.otherwise(Script::Say(ResponseCode::NoError, records, Vec::new()));
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    let defaults = policy("", "");
    world.judge.publish(&defaults);
    let answer = world.ask("www.bing.com.", RecordType::A).await;
    assert!(told(&answer).starts_with("NXDomain "), "the default: {}", told(&answer));
    let dns = "denied = \"sinkhole\"\ndenied_ttl = \"5s\"\nmax_ttl = \"60s\"";
    let text = policy(dns, "").replace("match = \"portal.example\"", "match = \"p.example\"");
    world.judge.publish(&text);
    let answer = world.ask("www.bing.com.", RecordType::A).await;
    assert_eq!(told(&answer), "NoError / . 5 SOA 5 EDE 15");
    assert_eq!(upstream.asked(), [""; 0]);
}

#[tokio::test]
async fn case_35_treats_connectivity_probes_as_the_class_says() {
    let upstream = Scripted::start().await;
    upstream.otherwise(Script::Say(ResponseCode::ServFail, Vec::new(), Vec::new()));
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    let web = "www.msftconnecttest.com.";
    let ipv6 = "ipv6.msftconnecttest.com.";
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
        ("answer", false, ipv6, RecordType::AAAA, "NoError {} 5 2001:db8::80", "allow ncsi"),
        ("answer", false, ipv6, RecordType::A, "NoError {} 5 192.0.2.80", "allow ncsi"),
        ("redirect", false, ipv6, RecordType::AAAA, "NoError {} 5 2001:db8::80", "allow ncsi"),
        ("deny", false, dns, RecordType::A, "NXDomain / . 5 SOA 5 EDE 15", "deny ncsi"),
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

#[tokio::test]
async fn case_36_gives_one_code_and_a_text_that_names_no_rule() {
    let upstream = Scripted::start().await;
    let refusal = Script::Say(ResponseCode::Refused, Vec::new(), Vec::new());
    upstream.script("other.example", RecordType::A, refusal);
    upstream.say("portal.example", RecordType::A, &["portal.example. 30 A 198.51.100.30"]);
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    for (denied, name, code, text) in [
        ("nxdomain", "www.bing.com.", 15, "not reachable without a plan"),
        ("sinkhole", "www.bing.com.", 4, "not the name's own address"),
        ("nxdomain", "other.example.", 22, "no upstream answered"),
    ] {
        let dns = format!("denied = \"{denied}\"\ndenied_ttl = \"3s\"\nmax_ttl = \"60s\"");
        world.judge.publish(&policy(&dns, ""));
        let answer = world.ask_by_tcp(name, RecordType::A).await;
        assert_eq!(extended_error_texts(&answer), [(code, text.to_owned())], "{name}");
        assert!(!text.contains('\0'));
    }
}

#[tokio::test]
async fn case_38_explains_in_json_to_those_who_ask_and_can_believe_it() {
    let upstream = Scripted::start().await;
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    let plain = question("www.bing.com.", RecordType::A);
    let asked = with_option(&plain, 15, &[0, 0]);
    let text = |answer: &Message| extended_error_texts(answer).remove(0).1;
    let json = r#"{"c":["https://portal.example/start"],"j":"not reachable without a plan","s":5}"#;
    for dns in [NXDOMAIN, "denied = \"sinkhole\"\ndenied_ttl = \"5s\"\nmax_ttl = \"60s\""] {
        world.judge.publish(&policy(dns, ""));
        assert_eq!(text(&world.ask_by_tls(&asked).await), json);
    }
    // Nobody else: not who did not ask, nor who cannot tell it from a forgery.
    world.judge.publish(&policy(NXDOMAIN, ""));
    assert_eq!(text(&world.ask_by_tls(&plain).await), "not reachable without a plan");
    let answer = ask(world.address, &asked).await.unwrap();
    assert_eq!(text(&answer), "");
    // What is allowed has nothing to explain.
    upstream.say("listed.example", RecordType::A, &["listed.example. 30 A 198.51.100.7"]);
    let allowed = with_option(&question("listed.example.", RecordType::A), 15, &[0, 0]);
    assert_eq!(extended_error_texts(&world.ask_by_tls(&allowed).await), []);
}

#[tokio::test]
async fn case_39_relays_no_extended_error_of_the_upstream() {
    let upstream = Scripted::start().await;
    let mut said = Message::response(0, OpCode::Query);
    said.add_answers(zone(&["listed.example. 30 A 198.51.100.7"]));
    let mut edns = Edns::new();
    edns.options_mut().insert(EdnsOption::Unknown(15, b"\0\x11secret list".to_vec()));
    said.set_edns(edns);
    upstream.script("listed.example", RecordType::A, Script::Message(said));
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    let answer = world.ask("listed.example.", RecordType::A).await;
    assert_eq!(told(&answer), "NoError listed.example. 30 198.51.100.7");
    assert_eq!(extended_error_texts(&answer), []);
}

/// Code and text of every extended error in an answer.
fn extended_error_texts(answer: &Message) -> Vec<(u16, String)> {
    let options = answer.edns.as_ref().unwrap().options().as_ref().iter();
    let errors = options.filter_map(|(_, option)| {
        let EdnsOption::Unknown(15, data) = option else { return None };
        Some(data)
    });
    errors
        .map(|data| {
            let (code, text) = data.split_at(2);
            (u16::from_be_bytes([code[0], code[1]]), String::from_utf8(text.to_vec()).unwrap())
        })
        .collect()
}
