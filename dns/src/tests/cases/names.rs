//! Record types, and names that are answered here.

use std::net::Ipv6Addr;

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{RData, RecordType},
};
use jiff::civil::date;

use crate::tests::{
    scripted::{Script, Scripted, zone},
    world::{HOST, NXDOMAIN, WILD, World, ask, ask_raw, policy, question, told},
};

const NO_DATA: &str = "NoError / . 5 SOA 5 EDE 15";

#[tokio::test]
async fn case_40_and_43_gives_nothing_but_addresses_for_a_listed_name() {
    let upstream = Scripted::start().await;
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    for record_type in [
        RecordType::HTTPS,
        RecordType::SVCB,
        RecordType::TXT,
        RecordType::MX,
        RecordType::SRV,
        RecordType::NAPTR,
        RecordType::CNAME,
        RecordType::PTR,
        RecordType::NULL,
        RecordType::DNSKEY,
        RecordType::Unknown(65_280),
    ] {
        let answer = world.ask("listed.example.", record_type).await;
        assert_eq!(told(&answer), NO_DATA, "{record_type}");
    }
    assert_eq!(upstream.asked(), [""; 0], "nothing to strip, and nobody to wait for");
}

#[tokio::test]
async fn case_41_answers_any_with_one_small_record() {
    let upstream = Scripted::start().await;
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    let answer = world.ask("listed.example.", RecordType::ANY).await;
    assert_eq!(told(&answer), "NoError listed.example. 60 HINFO RFC8482 ");
    assert_eq!(
        told(&world.ask("www.bing.com.", RecordType::ANY).await),
        "NXDomain / . 5 SOA 5 EDE 15"
    );
    assert_eq!(upstream.asked(), [""; 0]);
}

#[tokio::test]
async fn case_42_and_50_answers_no_class_but_the_internets_and_no_transfers() {
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
async fn case_44_names_no_resolver_but_itself_to_those_who_can_verify_it() {
    let upstream = Scripted::start().await;
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    let designation = |answer: &Message| -> Vec<String> {
        let data = answer.answers.iter().map(|record| record.data.to_string());
        data.map(|text| text.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    };
    let own = format!("_dns.{HOST}.");
    for name in ["_dns.resolver.arpa.", own.as_str()] {
        let answer = world.ask(name, RecordType::SVCB).await;
        let (tls, https) = (world.tls.port(), world.https.port());
        assert_eq!(
            designation(&answer),
            [
                format!("1 {HOST}. alpn=dot, port={tls} ipv4hint=127.0.0.1,"),
                format!(
                    "2 {HOST}. alpn=h2, port={https} ipv4hint=127.0.0.1, unknown7=\"/dns-query{{?dns}}\","
                ),
            ],
            "{name}"
        );
    }
    let answer = world.ask(&format!("{HOST}."), RecordType::A).await;
    assert_eq!(told(&answer), format!("NoError {HOST}. 60 127.0.0.1"));
    for (name, record_type) in [
        ("_dns.resolver.arpa.", RecordType::A),
        ("a.resolver.arpa.", RecordType::SVCB),
        (&own, RecordType::TXT),
        (HOST, RecordType::AAAA),
    ] {
        let answer = world.ask(&format!("{name}."), record_type).await;
        assert_eq!(told(&answer), "NoError / . 5 SOA 5", "{name}");
    }
    let answer = world.ask("resolver.arpa.", RecordType::Unknown(261)).await;
    let RData::Unknown { rdata, .. } = &answer.answers[0].data else { panic!("{answer}") };
    assert_eq!(&rdata.anything[1..], b"exterr=0,3-4,14-15,18-19,22-23");
    assert_eq!(upstream.asked(), [""; 0], "never forwarded");
    world.stop().await;

    // Asked at an address the certificate does not hold, none is named.
    let world = World::start("0.0.0.0:0", &[&upstream]).await;
    let elsewhere = (std::net::Ipv4Addr::new(127, 0, 0, 2), world.address.port()).into();
    let answer = ask(elsewhere, &question("_dns.resolver.arpa.", RecordType::SVCB)).await;
    assert_eq!(told(&answer.unwrap()), "NoError / . 5 SOA 5");
    // A policy that lists the name means the host of that name.
    let listed = policy(NXDOMAIN, "").replace("listed.example", HOST);
    upstream.say(HOST, RecordType::A, &[&format!("{HOST}. 30 A 198.51.100.9")]);
    world.judge.publish(&listed);
    let answer = world.ask(&format!("{HOST}."), RecordType::A).await;
    assert_eq!(told(&answer), format!("NoError {HOST}. 30 198.51.100.9"));
}

#[tokio::test]
async fn case_45_and_46_and_49_answers_special_names_itself() {
    let upstream = Scripted::start().await;
    upstream.say("ocsp.internal", RecordType::A, &["ocsp.internal. 30 A 198.51.100.9"]);
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    for (name, record_type, expected) in [
        (
            "ipv4only.arpa.",
            RecordType::A,
            "NoError ipv4only.arpa. 60 192.0.0.170 ipv4only.arpa. 60 192.0.0.171",
        ),
        ("_dns.resolver.arpa.", RecordType::A, "NoError / . 5 SOA 5"),
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
    // The switch is the name itself: a wildcard over many does not turn the canary off.
    for (pattern, expected) in [
        (".icloud.com", "NXDomain / . 5 SOA 5"),
        ("mask.icloud.com", "NoError mask.icloud.com. 30 198.51.100.9"),
    ] {
        world.judge.publish(&policy(NXDOMAIN, "").replace("listed.example", pattern));
        let answer = world.ask("mask.icloud.com.", RecordType::A).await;
        assert_eq!(told(&answer), expected, "{pattern}");
    }
}

#[tokio::test]
async fn case_46_tells_the_nat64_prefix_of_the_node_or_of_its_upstream() {
    let upstream = Scripted::start().await;
    let (wkp, own) = ("64:ff9b::c000:aa", "2001:db8:64::c000:ab");
    let records = [wkp, own, "2001:db8::1", "fd00::1"]
        .map(|address| format!("ipv4only.arpa. 600 AAAA {address}"));
    let records = records.each_ref().map(String::as_str);
    upstream.say("ipv4only.arpa", RecordType::AAAA, &records);
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    let answer = world.ask("ipv4only.arpa.", RecordType::AAAA).await;
    let expected = format!("NoError ipv4only.arpa. 60 {wkp} ipv4only.arpa. 60 {own}");
    assert_eq!(told(&answer), expected, "only what tells a prefix");
    assert_eq!(upstream.asked(), ["ipv4only.arpa. AAAA udp"]);

    let world = World::start_behind("2001:db8:64::/96", &upstream).await;
    let answer = world.ask("ipv4only.arpa.", RecordType::AAAA).await;
    let expected = "NoError ipv4only.arpa. 60 2001:db8:64::c000:aa \
                    ipv4only.arpa. 60 2001:db8:64::c000:ab";
    assert_eq!(told(&answer), expected);
    let answer = world.ask("ipv4only.arpa.", RecordType::TXT).await;
    assert_eq!(told(&answer), "NoError / . 5 SOA 5");
    assert_eq!(upstream.asked(), [""; 0]);
}

#[tokio::test]
async fn case_47_makes_addresses_where_there_are_none_and_nowhere_else() {
    let upstream = Scripted::start().await;
    let soa = || zone(&["example. 20 SOA 900"]);
    let none = || Script::Say(ResponseCode::NoError, Vec::new(), soa());
    let world = World::start_behind("64:ff9b::/96", &upstream).await;
    let alias =
        ["listed.example. 300 CNAME cdn.example.net.", "cdn.example.net. 300 A 198.51.100.7"];
    upstream.say("listed.example", RecordType::A, &alias);
    upstream.script("listed.example", RecordType::AAAA, none());
    let made =
        "NoError listed.example. 20 CNAME cdn.example.net. cdn.example.net. 20 64:ff9b::c633:6407";
    for _ in 0..2 {
        let answer = world.ask("listed.example.", RecordType::AAAA).await;
        assert_eq!(told(&answer), made, "the chain is kept, the lifetime is the least of all");
        assert!(!answer.metadata.authentic_data);
    }
    assert_eq!(upstream.asked(), ["listed.example. AAAA udp", "listed.example. A udp"]);

    let says = |rcode| Script::Say(rcode, Vec::new(), soa());
    let holds = |record: &str| Script::Say(ResponseCode::NoError, zone(&[record]), Vec::new());
    world.judge.publish(&policy(NXDOMAIN, WILD));
    for (host, script, expected) in [
        (
            "own.wild.example",
            holds("own.wild.example. 30 AAAA 2001:db8::8"),
            "NoError own.wild.example. 30 2001:db8::8",
        ),
        ("gone.wild.example", says(ResponseCode::NXDomain), "NXDomain / example. 20 SOA 20"),
        (
            "lame.wild.example",
            says(ResponseCode::Refused),
            "NoError lame.wild.example. 30 64:ff9b::c633:6408",
        ),
        (
            "mapped.wild.example",
            holds("mapped.wild.example. 30 AAAA ::ffff:198.51.100.8"),
            "NoError mapped.wild.example. 30 64:ff9b::c633:6408",
        ),
    ] {
        upstream.script(host, RecordType::AAAA, script);
        upstream.say(host, RecordType::A, &[&format!("{host}. 30 A 198.51.100.8")]);
        let answer = world.ask(&format!("{host}."), RecordType::AAAA).await;
        assert_eq!(told(&answer), expected, "{host}");
    }

    // For a validating asker nothing is made: CD and DO.
    upstream.script("other.example", RecordType::AAAA, none());
    upstream.say("other.example", RecordType::A, &["other.example. 30 A 198.51.100.8"]);
    let mut asked = question("other.example.", RecordType::AAAA);
    asked[3] |= 0x10;
    let place = asked.len() - 4;
    asked[place] |= 0x80;
    let answer = ask(world.address, &asked).await.unwrap();
    assert_eq!(told(&answer), "NoError / example. 20 SOA 20");

    // Nothing private is reached through the NAT64, not even what a rule lifts.
    upstream.script("internal.example", RecordType::AAAA, none());
    for (address, expected) in
        [("10.20.0.1", "NoError / example. 20 SOA 20"), ("10.9.0.1", NO_DATA)]
    {
        let record = format!("internal.example. 30 A {address}");
        upstream.say("internal.example", RecordType::A, &[&record]);
        world.begin_anew();
        assert_eq!(told(&world.ask("internal.example.", RecordType::AAAA).await), expected);
    }
    // Nor does an upstream lead there with a made address of its own.
    let hostile = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0x0a00, 1);
    upstream.say(
        "other.example",
        RecordType::AAAA,
        &[&format!("other.example. 30 AAAA {hostile}")],
    );
    upstream.say("other.example", RecordType::A, &["other.example. 30 A 10.0.0.1"]);
    world.begin_anew();
    assert_eq!(told(&world.ask("other.example.", RecordType::AAAA).await), NO_DATA);
}

#[tokio::test]
async fn case_48_maps_reverse_names_of_the_nat64_and_keeps_private_ones_here() {
    let upstream = Scripted::start().await;
    let world = World::start_behind("64:ff9b::/96", &upstream).await;
    let reverse = |nibbles: &str| {
        format!("{nibbles}.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.b.9.f.f.4.6.0.0.ip6.arpa.")
    };
    let name = reverse("7.0.4.6.3.3.6.c");
    let answer = world.ask(&name, RecordType::PTR).await;
    let alias = format!("{name} 5 CNAME 7.100.51.198.in-addr.arpa.");
    assert_eq!(told(&answer), format!("NXDomain {alias} / . 5 SOA 5 EDE 15"));
    let private = reverse("1.0.0.0.0.0.a.0");
    let alias = format!("{private} 5 CNAME 1.0.0.10.in-addr.arpa.");
    let answer = world.ask(&private, RecordType::PTR).await;
    assert_eq!(told(&answer), format!("NXDomain {alias} / . 5 SOA 5"));
    for name in ["1.0.0.10.in-addr.arpa.", "1.1.64.100.in-addr.arpa.", "d.f.ip6.arpa."] {
        let answer = world.ask(name, RecordType::PTR).await;
        assert_eq!(told(&answer), "NXDomain / . 5 SOA 5", "{name}");
    }
    let answer = world.ask("8.8.8.8.in-addr.arpa.", RecordType::PTR).await;
    assert_eq!(told(&answer), "NXDomain / . 5 SOA 5 EDE 15", "as any name that is not listed");
    assert_eq!(upstream.asked(), [""; 0]);
}

#[test]
fn case_51_warns_of_every_entry_that_reaches_a_public_resolver() {
    for (entry, is_warned) in [
        ("dns.google", true),
        ("*.google", true),
        (".cloudflare-dns.com", true),
        ("mozilla.cloudflare-dns.com", true),
        ("www.example", false),
    ] {
        let text = policy(NXDOMAIN, "").replace("listed.example", entry);
        let source = policy::Source { name: "test.toml", text: &text };
        // An entry that is refused altogether reaches nothing.
        let Ok(compiled) = policy::compile(&source, date(2026, 9, 1)) else { continue };
        let is_told = compiled.warnings.iter().any(|warning| warning.code == "PN0117");
        assert_eq!(is_told, is_warned, "{entry}");
    }
}
