//! The fast path: whatever lies ready, it says what would be said without, and it allocates nothing.

use std::{net::IpAddr, sync::Arc};

use hickory_proto::rr::RecordType;
use jiff::Timestamp;
use policy::{Record, Snapshot, Subscriber};
use prometheus::Registry;
use tokio::net::UdpSocket;

use super::{
    scripted::Scripted,
    world::{NXDOMAIN, World, ask, policy, question, snapshot, told},
};
use crate::{
    BindError, Judge, Limits, Metrics, Server, Settings,
    metrics::Transport,
    respond::{Asker, Begun, Responder, Slate},
    site::Site,
};

/// A judge that keeps nothing.
struct Silent(Arc<Snapshot>);

impl Judge for Silent {
    fn snapshot(&self) -> Option<Arc<Snapshot>> {
        Some(Arc::clone(&self.0))
    }

    fn subscriber(&self, address: IpAddr) -> Subscriber {
        Subscriber::at(address)
    }

    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn record(&self, _record: &Record<'_>) {}
}

/// A responder with what `world` has found, under `text` as policy.
fn responder(world: &World, text: &str, generation: u64) -> (Responder, Arc<Metrics>) {
    let metrics = Metrics::register(&Registry::new()).unwrap();
    let limits = Limits { questions_per_second: u32::MAX, ..Limits::default() };
    let judge = Arc::new(Silent(snapshot(text, generation)));
    let resolver = Arc::clone(&world.resolver);
    (Responder::new(judge, resolver, Site::default(), Arc::clone(&metrics), limits), metrics)
}

fn asker(from: &str) -> Asker {
    Asker { from: from.parse().unwrap(), to: None, transport: Transport::Udp }
}

/// The same message with other letter case, OPT record, flags and bits, by `seed`.
fn varied(message: &[u8], seed: u64) -> Vec<u8> {
    let mut message = message.to_vec();
    let end = message.len() - 11;
    for (place, octet) in message[12..end].iter_mut().enumerate() {
        if octet.is_ascii_alphabetic() && seed >> (place % 13) & 1 == 1 {
            *octet ^= 0x20;
        }
    }
    message[0] = seed.to_be_bytes()[7];
    message[2] = if seed & 1 == 1 { 1 } else { 0 };
    message[3] = if seed & 2 == 2 { 0x10 } else { 0 };
    // The DO bit, and the payload.
    message[end + 7] = if seed & 4 == 4 { 0x80 } else { 0 };
    message[end + 3..end + 5].copy_from_slice(&[b'\x02', seed.to_be_bytes()[6]]);
    match seed >> 3 & 7 {
        0 => {
            message.truncate(end);
            message[11] = 0;
        }
        // Something that is wrong: a bit anywhere.
        1 => {
            let place = usize::try_from(seed).unwrap() % message.len();
            message[place] ^= 1 << (seed % 8);
        }
        _ => {}
    }
    message
}

#[tokio::test]
async fn what_lies_ready_says_what_writing_anew_says() {
    let upstream = Scripted::start().await;
    let addresses: Vec<String> =
        (1..60).map(|n| format!("other.example. 3600 A 198.51.100.{n}")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    upstream.say("other.example", RecordType::A, &addresses);
    let alias = ["listed.example. 3600 CNAME a.example.net.", "a.example.net. 3600 A 198.51.100.7"];
    upstream.say("listed.example", RecordType::A, &alias);
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    let names = ["listed.example.", "other.example.", "portal.example.", "www.bing.com.", "."];
    let types = [RecordType::A, RecordType::AAAA, RecordType::HTTPS, RecordType::ANY];
    let questions: Vec<Vec<u8>> = names
        .iter()
        .flat_map(|name| types.map(|record_type| question(name, record_type)))
        .collect();
    for (generation, terms) in [(1, NXDOMAIN), (2, "denied = \"nodata\"\nmax_ttl = \"7s\"")] {
        let (responder, metrics) = responder(&world, &policy(terms, ""), generation);
        for message in &questions {
            for checking_disabled in [0, 0x10] {
                let mut message = message.clone();
                message[3] = checking_disabled;
                responder.answer(&message, asker("127.0.0.1:4000")).await;
            }
        }
        let mut ready = Slate::with_packets();
        let (mut numbers, mut said) = (fastrand(SEED), 0);
        let (mut silent, mut later) = (0, 0);
        for number in 0..20_000 {
            let seed = numbers();
            let message = varied(&questions[number % questions.len()], seed);
            let asker = asker(if seed & 64 == 64 { "127.0.0.1:4000" } else { "[::1]:4000" });
            let (moment, mut first, mut second) = (responder.moment(), Vec::new(), Vec::new());
            let fast = responder.begin(&message, asker, &moment, &mut ready, &mut first);
            let slow =
                responder.begin(&message, asker, &moment, &mut Slate::default(), &mut second);
            match (fast, slow) {
                (Begun::Said(fast), Begun::Said(slow)) => {
                    assert_eq!((fast, &first), (slow, &second), "{message:02x?}");
                    said += 1;
                }
                (Begun::Silence, Begun::Silence) => silent += 1,
                (Begun::Later(_), Begun::Later(_)) => later += 1,
                (fast, slow) => panic!("{fast:?}, {slow:?}: {message:02x?}"),
            }
        }
        assert!(said > 15_000, "{said} said, {silent} silent, {later} later");
        assert!(metrics.packet_hits() > 500, "{}", metrics.packet_hits());
    }
}

#[tokio::test]
async fn denials_and_what_lies_ready_take_no_memory() {
    let upstream = Scripted::start().await;
    upstream.say("listed.example", RecordType::A, &["listed.example. 3600 A 198.51.100.7"]);
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    let (responder, _) = responder(&world, &policy(NXDOMAIN, ""), 1);
    let long = format!("{}.{}.bing.com.", "a".repeat(63), "b".repeat(63));
    let listed = question("listed.example.", RecordType::A);
    responder.answer(&listed, asker("127.0.0.1:4000")).await;
    let broken = listed[..20].to_vec();
    for message in [listed, question(&long, RecordType::A), broken] {
        let (mut slate, mut answer) = (Slate::with_packets(), Vec::new());
        let moment = responder.moment();
        let mut begin =
            || responder.begin(&message, asker("127.0.0.1:4000"), &moment, &mut slate, &mut answer);
        assert!(matches!(begin(), Begun::Said(_)));
        let taken = allocation_counter::measure(|| {
            for _ in 0..100 {
                let _ = begin();
            }
        });
        assert_eq!(taken.count_total, 0, "{message:02x?}");
    }
}

#[tokio::test]
async fn says_nothing_of_a_name_that_a_new_policy_no_longer_lists() {
    let upstream = Scripted::start().await;
    upstream.say("listed.example", RecordType::A, &["listed.example. 3600 A 198.51.100.7"]);
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    for _ in 0..5 {
        let answer = world.ask("listed.example.", RecordType::A).await;
        assert_eq!(told(&answer), "NoError listed.example. 60 198.51.100.7");
    }
    let without =
        policy(NXDOMAIN, "").replace("match = \"listed.example\"", "match = \"un.example\"");
    world.judge.publish(&without);
    let answer = world.ask("listed.example.", RecordType::A).await;
    assert_eq!(told(&answer), "NXDomain / . 5 SOA 5 EDE 15");
}

#[tokio::test]
async fn many_threads_share_an_address_and_each_answers_from_where_it_was_asked() {
    let upstream = Scripted::start().await;
    let limits = Limits { udp_threads: 4, ..Limits::default() };
    for (listen, asked) in [("0.0.0.0:0", "127.0.0.1"), ("[::]:0", "::1")] {
        let world = World::start_with(listen, &[&upstream], limits).await;
        let address = (asked.parse::<IpAddr>().unwrap(), world.address.port()).into();
        for _ in 0..64 {
            let answer = ask(address, &question("www.bing.com.", RecordType::A)).await;
            assert_eq!(told(&answer.unwrap()), "NXDomain / . 5 SOA 5 EDE 15");
        }
        assert_eq!(world.metric("postern_dns_responses_total", "nxdomain"), 64.0);
        world.stop().await;
    }
}

/// One socket that asks two addresses of the listener in one burst: both kinds of answer go out of
/// one batch.
#[tokio::test]
async fn one_batch_may_have_been_sent_to_several_addresses() {
    let upstream = Scripted::start().await;
    let limits = Limits { udp_threads: 1, ..Limits::default() };
    let world = World::start_with("0.0.0.0:0", &[&upstream], limits).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let message = question("www.bing.com.", RecordType::A);
    for number in 0..100 {
        let to = format!("127.0.0.{}:{}", number % 3 + 1, world.address.port());
        socket.send_to(&message, to).await.unwrap();
    }
    let (mut counts, mut buffer) = ([0; 3], [0; 512]);
    for _ in 0..100 {
        let (_, from) = socket.recv_from(&mut buffer).await.unwrap();
        let IpAddr::V4(from) = from.ip() else { panic!("{from}") };
        counts[usize::from(from.octets()[3]) - 1] += 1;
    }
    assert_eq!(counts, [34, 33, 33]);
}

#[tokio::test]
async fn listens_by_the_named_interfaces_only() {
    let upstream = Scripted::start().await;
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    let bind = async |interface: &str| {
        let settings = Settings {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            interfaces: vec![interface.to_owned()],
            tls: None,
            https: None,
            transparent: false,
            leads_to: Vec::new(),
            limits: Limits::default(),
        };
        let (judge, resolver) = (Arc::clone(&world.judge), Arc::clone(&world.resolver));
        let metrics = Metrics::register(&Registry::new()).unwrap();
        Server::bind(&settings, &mut crate::Inherited::default(), judge, resolver, metrics).await
    };
    assert_eq!(bind("lo").await.unwrap().addresses().len(), 1);
    let error = bind("nosuch0").await.unwrap_err();
    assert!(matches!(error, BindError::Udp { .. }), "{error}");
}

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// Numbers of a seed (xorshift).
fn fastrand(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}
