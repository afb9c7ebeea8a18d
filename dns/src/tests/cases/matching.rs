//! Which rule a name falls under, and for whom.

use std::{net::SocketAddr, sync::Arc};

use hickory_proto::rr::RecordType;
use jiff::civil::date;
use policy::{Source, Subject, Subscriber, compile, explain};
use prometheus::Registry;

use crate::{
    Limits, Metrics,
    metrics::Transport,
    respond::{Asker, Reply, Responder},
    site::Site,
    tests::{
        scripted::{Script, Scripted},
        world::{
            NOW, NXDOMAIN, World, any_name, ask, policy, question, snapshot, told, with_option,
        },
    },
};

const DENIED: &str = "NXDomain / . 5 SOA 5 EDE 15";

#[tokio::test]
async fn case_01_and_02_and_03_keep_to_label_boundaries_whatever_the_letter_case() {
    let upstream = Scripted::start().await;
    upstream.otherwise(Script::Address("198.51.100.7".parse().unwrap()));
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    for (pattern, passing, denied) in [
        (
            "www.apex.example",
            &["www.apex.example.", "WWW.Apex.EXAMPLE."][..],
            &["apex.example.", "a.www.apex.example.", "badwww.apex.example."][..],
        ),
        (
            "*.apex.example",
            &["a.apex.example.", "B.a.apex.example."],
            &["apex.example.", "badapex.example.", "a\\.apex.example.", "\\255.apex.example."],
        ),
        (
            ".apex.example",
            &["apex.example.", "b.a.apex.example."],
            &["badapex.example.", "a\\.b.apex.example.", "apex.example.evil."],
        ),
    ] {
        world.judge.publish(&policy(NXDOMAIN, "").replace("listed.example", pattern));
        for name in passing {
            let answer = world.ask(name, RecordType::A).await;
            assert_eq!(told(&answer), format!("NoError {name} 30 198.51.100.7"), "{pattern}");
        }
        for name in denied {
            let answer = world.ask(name, RecordType::A).await;
            assert_eq!(told(&answer), DENIED, "{pattern}: {name}");
            assert_eq!(*answer.queries[0].name(), any_name(name), "{pattern}: {name}");
        }
    }
}

#[test]
fn case_04_and_05_take_names_as_they_stand_on_the_wire_and_no_public_suffix() {
    let compiled = |pattern: &str| {
        let text = policy(NXDOMAIN, "").replace("listed.example", pattern);
        compile(&Source { name: "test.toml", text: &text }, date(2026, 9, 1))
    };
    let world = compiled("bücher.example").unwrap().policy;
    let subscriber = Subscriber::at("127.0.0.1".parse().unwrap());
    for (target, passes) in [("dns:xn--bcher-kva.example", true), ("dns:bucher.example", false)] {
        let subject = Subject::Subscriber(&subscriber);
        let explanation = explain(&world, subject, &target.parse().unwrap(), NOW);
        assert_eq!(explanation.decision().passes(), passes, "{target}");
    }
    for pattern in ["*.com", "*.co.uk", ".github.io", "*"] {
        assert!(compiled(pattern).is_err(), "{pattern}");
    }
}

#[test]
fn case_06_lets_the_most_specific_entry_speak_whatever_the_order() {
    let listed = |first: &str, second: &str| {
        let entries: Vec<String> =
            [first, second].iter().map(|entry| format!("[[hostset.host]]\n{entry}\n")).collect();
        snapshot(&policy(NXDOMAIN, &entries.concat()), 1)
    };
    let wide = "match = \"*.apex.example\"\nschemes = [\"https\", \"http\"]";
    let narrow = "match = \"old.apex.example\"\nschemes = [\"https\"]";
    let subscriber = Subscriber::at("127.0.0.1".parse().unwrap());
    for snapshot in [listed(wide, narrow), listed(narrow, wide)] {
        for (target, passes) in [
            ("http://new.apex.example", true),
            ("https://old.apex.example", true),
            ("http://old.apex.example", false),
        ] {
            let subject = Subject::Subscriber(&subscriber);
            let target = target.parse().unwrap();
            let explanation = explain(snapshot.policy(), subject, &target, NOW);
            assert_eq!(explanation.decision().passes(), passes, "{target}");
        }
    }
}

#[tokio::test]
async fn case_07_refuses_whom_no_class_holds_and_asks_nobody() {
    let upstream = Scripted::start().await;
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    world.judge.publish(&policy(NXDOMAIN, "").replace("127.0.0.0/8", "100.64.0.0/16"));
    for name in ["listed.example.", "www.bing.com.", "ipv4only.arpa.", "a\\001b.example."] {
        assert_eq!(told(&world.ask(name, RecordType::A).await), "Refused EDE 18", "{name}");
    }
    assert_eq!(upstream.asked(), [""; 0]);
}

#[test]
fn case_08_knows_a_mapped_source_by_its_ipv4_address() {
    let snapshot = snapshot(&policy(NXDOMAIN, "").replace("\"::1/128\"", "\"2001:db8::/32\""), 1);
    for (source, class) in [
        ("127.0.0.1", Some("unprovisioned")),
        ("::ffff:127.0.0.1", Some("unprovisioned")),
        ("::ffff:192.0.2.1", None),
    ] {
        let subscriber = Subscriber::at(source.parse().unwrap());
        let found = snapshot.policy().class_of(Subject::Subscriber(&subscriber));
        assert_eq!(found.map(policy::Class::name), class, "{source}");
    }
}

#[tokio::test]
async fn case_09_knows_the_asker_by_its_source_alone() {
    let upstream = Scripted::start().await;
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    let elsewhere = policy(NXDOMAIN, "").replace("127.0.0.0/8", "100.64.0.0/16");
    world.judge.publish(&elsewhere);
    // A client subnet (RFC 7871) of the class's network, from a source outside it.
    let subnet = [0, 1, 32, 0, 100, 64, 0, 1];
    let asked = with_option(&question("listed.example.", RecordType::A), 8, &subnet);
    let answer = ask(world.address, &asked).await.unwrap();
    assert_eq!(told(&answer), "Refused EDE 18");
    assert_eq!(upstream.asked(), [""; 0]);
}

#[tokio::test]
async fn case_12_answers_as_explain_says() {
    let upstream = Scripted::start().await;
    let limits = Limits {
        questions_per_second: u32::MAX,
        wildcard_names_per_minute: u32::MAX,
        ..Limits::default()
    };
    let world = World::start_with("127.0.0.1:0", &[&upstream], limits).await;
    let lab = "[lab.resolve]\n\"listed.example\" = [\"198.51.100.7\"]\n";
    let text = policy(NXDOMAIN, lab)
        .replace("\"listed.example\"\nschemes", "\".listed.example\"\nschemes");
    world.judge.publish(&text);
    let snapshot = snapshot(&text, 1);
    let (judge, resolver) = (Arc::clone(&world.judge), Arc::clone(&world.resolver));
    let metrics = Metrics::register(&Registry::new()).unwrap();
    let responder = Responder::new(judge, resolver, Site::default(), metrics, limits);
    let labels = ["listed", "example", "bing", "com", "a", "www", "LISTED", "Example", "arpa"];
    let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |limit: usize| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        usize::try_from(dice % u64::try_from(limit).unwrap()).unwrap()
    };
    let (mut allowed, sources) = (0, ["127.0.0.1:53", "192.0.2.1:53", "[::1]:53"]);
    for _ in 0..CASES {
        let name: String = if below(4) == 0 {
            "listed.example.".to_owned()
        } else {
            (0..=below(4)).map(|_| format!("{}.", labels[below(labels.len())])).collect()
        };
        let record_type = [RecordType::A, RecordType::AAAA, RecordType::TXT][below(3)];
        let from: SocketAddr = sources[below(3)].parse().unwrap();
        let subscriber = Subscriber::at(from.ip());
        let target = format!("dns:{}", name.trim_end_matches('.')).parse().unwrap();
        let explained = explain(snapshot.policy(), Subject::Subscriber(&subscriber), &target, NOW);
        let passes = explained.decision().passes();
        allowed += usize::from(passes);
        let asker = Asker { from, to: None, transport: Transport::Udp };
        let denied = match responder.take(&question(&name, record_type), asker) {
            // A name that passes and is no lab's has to be asked for.
            Reply::Later(_) => false,
            Reply::Now(answer) => matches!(answer[3] & 0xf, 3 | 5),
            Reply::Silence => panic!("no answer about {name}"),
        };
        assert_eq!(denied, !passes, "{name} {record_type} from {from}");
    }
    assert!((1..CASES).contains(&allowed), "{allowed} of {CASES} are allowed");
}

/// A million takes minutes without optimisation.
const CASES: usize = if cfg!(debug_assertions) { 20_000 } else { 1_000_000 };
