//! Askers that may be made up: cookies, and how little they are sent.

use std::net::{IpAddr, SocketAddr};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{RecordType, rdata::opt::EdnsOption},
};
use policy::{HostName, Request, Subject, Subscriber, decide};
use tokio::net::UdpSocket;

use super::{
    scripted::{Script, Scripted},
    world::{ASKER, NOW, NXDOMAIN, WILD, World, ask_raw, policy, question, snapshot, told},
};
use crate::{CookieSecrets, Limits, ResolveError};

/// Slow enough that no second question fits into a test.
const ONE_A_SECOND: &str = "[class.limits]\ndns_qps = 1\n";

#[tokio::test]
async fn case_58_gives_a_cookie_and_knows_it_again() {
    let upstream = Scripted::start().await;
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    world.judge.publish(&(policy(NXDOMAIN, "") + ONE_A_SECOND));
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(world.address).await.unwrap();
    let first = exchange(&socket, &with_cookie(b"client-c")).await.unwrap();
    let cookie = cookie_of(&first);
    assert!(cookie.starts_with(b"client-c") && cookie.len() == 24);
    // Over the rate. Who has only a client cookie is told to come back with both, every second time.
    let second = exchange(&socket, &with_cookie(b"client-c")).await.unwrap();
    assert_eq!(second.metadata.response_code, ResponseCode::BADCOOKIE);
    assert_eq!(cookie_of(&second).len(), 24);
    // Who has both is counted apart, and answered in words.
    let third = exchange(&socket, &with_cookie(&cookie)).await.unwrap();
    assert_eq!(told(&third), "NXDomain / . 5 SOA 5 EDE 15");
    let fourth = exchange(&socket, &with_cookie(&cookie)).await.unwrap();
    assert_eq!(told(&fourth), "Refused EDE 18");
    // A cookie with one bit changed proves nothing.
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    socket.connect(world.address).await.unwrap();
    let cookie = cookie_of(&exchange(&socket, &with_cookie(b"client-c")).await.unwrap());
    let mut forged = cookie.clone();
    forged[20] ^= 1;
    assert_eq!(text_of(&exchange(&socket, &with_cookie(&forged)).await.unwrap()), "");
    let known = exchange(&socket, &with_cookie(&cookie)).await.unwrap();
    assert_eq!(text_of(&known), "not reachable without a plan");
}

#[tokio::test]
async fn case_58_refuses_a_cookie_of_a_length_that_none_has() {
    let upstream = Scripted::start().await;
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    for (length, expected) in [
        (0, "FormErr"),
        (7, "FormErr"),
        (8, "NXDomain / . 5 SOA 5 EDE 15"),
        (9, "FormErr"),
        (15, "FormErr"),
        (16, "NXDomain / . 5 SOA 5 EDE 15"),
        (40, "NXDomain / . 5 SOA 5 EDE 15"),
        (41, "FormErr"),
    ] {
        let answer = ask_raw(world.address, &with_cookie(&vec![7; length])).await.unwrap();
        assert_eq!(told(&Message::from_vec(&answer).unwrap()), expected, "{length}");
    }
}

#[tokio::test]
async fn case_58_is_shared_by_nodes_that_share_their_secrets() {
    let upstream = Scripted::start().await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, b"e5e973e5a6b2a43f48e7dc849e37bfcf\n").unwrap();
    let secrets = CookieSecrets::load(file.path()).unwrap();
    let (first, second) = (
        World::start("127.0.0.1:0", &[&upstream]).await,
        World::start("127.0.0.1:0", &[&upstream]).await,
    );
    let told_by = async |at: SocketAddr, cookie: &[u8]| {
        Message::from_vec(&ask_raw(at, &with_cookie(cookie)).await.unwrap()).unwrap()
    };
    let alone = cookie_of(&told_by(first.address, b"client-c").await);
    assert_eq!(text_of(&told_by(second.address, &alone).await), "", "another node's");
    first.responder.share_cookies(secrets.clone());
    second.responder.share_cookies(secrets);
    let shared = cookie_of(&told_by(first.address, b"client-c").await);
    let known = told_by(second.address, &shared).await;
    assert_eq!(text_of(&known), "not reachable without a plan");
}

#[tokio::test]
async fn case_59_leaves_client_subnets_out_both_ways() {
    let upstream = Scripted::start().await;
    upstream.otherwise(Script::Late(std::time::Duration::ZERO));
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    let subnet = [0, 1, 24, 0, 198, 51, 100];
    for name in ["listed.example.", "www.bing.com."] {
        let asked = with_option(name, 8, &subnet);
        let answer = Message::from_vec(&ask_raw(world.address, &asked).await.unwrap()).unwrap();
        assert!(options(&answer).iter().all(|(code, _)| *code != 8));
    }
    assert_eq!(upstream.options(), [0_u16; 0], "nor does any other option go on");
}

/// Names a telephone asks for by itself.
const ASKED_BY_ITSELF: [&str; 12] = [
    "android.clients.google.com.",
    "app-measurement.com.",
    "connectivitycheck.example.net.",
    "edge.microsoft.com.",
    "firebaselogging-pa.googleapis.com.",
    "gateway.icloud.com.",
    "graph.facebook.com.",
    "mtalk.google.com.",
    "settings-win.data.microsoft.com.",
    "time.android.com.",
    "www.bing.com.",
    "www.googleapis.com.",
];

#[tokio::test]
async fn case_77_sends_little_more_than_it_was_sent_whatever_the_denial() {
    let upstream = Scripted::start().await;
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    println!("denied with       octets asked  octets said  factor  with IPv4 and UDP headers");
    let (mut all, mut kinds) = (0.0, 0.0);
    for denied in ["nxdomain", "nodata", "refused", "sinkhole", "rate", "nobody"] {
        let terms = |kind| format!("denied = \"{kind}\"\ndenied_ttl = \"5s\"\nmax_ttl = \"60s\"");
        let text = match denied {
            "rate" => policy(NXDOMAIN, "") + "[class.limits]\ndns_qps = 1\n",
            "nobody" => policy(NXDOMAIN, "").replace("127.0.0.0/8", "192.0.2.0/24"),
            kind => policy(&terms(kind), ""),
        };
        world.judge.publish(&text);
        upstream.say("portal.example", RecordType::A, &["portal.example. 30 A 198.51.100.30"]);
        let (mut asked, mut said, mut count) = (0, 0, 0);
        for name in ASKED_BY_ITSELF {
            for record_type in [RecordType::A, RecordType::AAAA, RecordType::HTTPS] {
                let message = question(name, record_type);
                let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                socket.connect(world.address).await.unwrap();
                socket.send(&message).await.unwrap();
                let mut buffer = [0; 2_048];
                // Over the rate every second one is met with silence.
                let patience =
                    std::time::Duration::from_millis(if denied == "rate" { 200 } else { 8_000 });
                let received = tokio::time::timeout(patience, socket.recv(&mut buffer)).await;
                said += received.map_or(0, |length| length.unwrap() + HEADERS);
                asked += message.len() + HEADERS;
                count += 1;
            }
        }
        let whole = said as f64 / asked as f64;
        let bare =
            (said - count.min(said / HEADERS) * HEADERS) as f64 / (asked - count * HEADERS) as f64;
        println!("{denied:16} {asked:13} {said:12} {bare:7.2} {whole:10.2}");
        assert!(whole <= 1.5, "{denied}: {whole}");
        (all, kinds) = (all + bare, kinds + 1.0);
    }
    let average: f64 = all / kinds;
    println!("average of all kinds, without headers: {average:.2}");
    assert!(average <= 1.5, "{average}");
}

#[tokio::test]
async fn case_73_bounds_the_names_below_a_wildcard_that_one_subscriber_has_looked_up() {
    let upstream = Scripted::start().await;
    upstream.otherwise(Script::Late(std::time::Duration::ZERO));
    let limits = Limits { wildcard_names_per_minute: 5, ..Limits::default() };
    let world = World::start_with("127.0.0.1:0", &[&upstream], limits).await;
    world.judge.publish(&policy(NXDOMAIN, WILD));
    let told_of = async |name: &str| told(&world.ask(name, RecordType::A).await);
    for number in 0..8 {
        let name = format!("n{number}.wild.example.");
        let expected = if number < 5 {
            format!("NoError {name} 30 198.51.100.7")
        } else {
            "Refused EDE 18".into()
        };
        assert_eq!(told_of(&name).await, expected);
    }
    assert_eq!(upstream.asked().len(), 5);
    // What is known stays free, and names listed as they stand are not counted.
    assert_eq!(told_of("n0.wild.example.").await, "NoError n0.wild.example. 30 198.51.100.7");
    assert_eq!(told_of("listed.example.").await, "NoError listed.example. 30 198.51.100.7");
    let limited = |line: &String| line.starts_with("unprovisioned deny limit n");
    assert_eq!(world.judge.records().iter().filter(|line| limited(line)).count(), 3);
}

#[tokio::test]
async fn case_73_bounds_the_names_that_sessions_have_looked_up_as_well() {
    let upstream = Scripted::start().await;
    upstream.otherwise(Script::Late(std::time::Duration::ZERO));
    let limits = Limits { wildcard_names_per_minute: 5, ..Limits::default() };
    let world = World::start_with("127.0.0.1:0", &[&upstream], limits).await;
    let snapshot = snapshot(&policy(NXDOMAIN, WILD), 1);
    let addresses = async |asker: IpAddr, host: &str| {
        let host: HostName = host.parse().unwrap();
        let request = Request::Dns { host: &host };
        let subscriber = Subscriber::at(asker);
        let subject = Subject::Subscriber(&subscriber);
        let decision = decide(snapshot.policy(), subject, request, NOW);
        world
            .resolver
            .addresses(&snapshot, asker, &host, decision.rule())
            .await
            .map(|all| all.len())
    };
    for number in 0..8 {
        let expected = if number < 5 { Ok(1) } else { Err(ResolveError::TooManyNames) };
        assert_eq!(addresses(ASKER, &format!("n{number}.wild.example")).await, expected);
    }
    assert_eq!(upstream.asked().len(), 10, "both families of five names");
    assert_eq!(addresses(ASKER, "n0.wild.example").await, Ok(1));
    assert_eq!(addresses(ASKER, "listed.example").await, Ok(1));
    let other = "127.0.0.8".parse().unwrap();
    assert_eq!(addresses(other, "n7.wild.example").await, Ok(1));
}

#[tokio::test]
async fn case_75_has_no_types_below_a_wildcard_that_tunnels_use() {
    let upstream = Scripted::start().await;
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    world.judge.publish(&policy(NXDOMAIN, WILD));
    for record_type in [
        RecordType::TXT,
        RecordType::NULL,
        RecordType::KEY,
        RecordType::CNAME,
        RecordType::MX,
        RecordType::SRV,
        RecordType::Unknown(65_399),
    ] {
        let answer = world.ask("data.wild.example.", record_type).await;
        assert_eq!(told(&answer), "NoError / . 5 SOA 5 EDE 15", "{record_type}");
    }
    assert_eq!(upstream.asked(), [""; 0]);
}

async fn exchange(socket: &UdpSocket, message: &[u8]) -> Option<Message> {
    socket.send(message).await.unwrap();
    let mut buffer = [0; 2_048];
    let length = socket.recv(&mut buffer).await.unwrap();
    Message::from_vec(&buffer[..length]).ok()
}

fn with_cookie(cookie: &[u8]) -> Vec<u8> {
    with_option("www.bing.com.", 10, cookie)
}

/// A question with one option, which hickory might not write.
fn with_option(name: &str, code: u16, data: &[u8]) -> Vec<u8> {
    let mut message = question(name, RecordType::A);
    let length = u16::try_from(data.len()).unwrap();
    let place = message.len() - 2;
    message.truncate(place);
    message.extend((length + 4).to_be_bytes());
    message.extend(code.to_be_bytes());
    message.extend(length.to_be_bytes());
    message.extend(data);
    message
}

fn options(message: &Message) -> Vec<(u16, EdnsOption)> {
    let edns = message.edns.as_ref().unwrap();
    edns.options().as_ref().iter().map(|(code, option)| ((*code).into(), option.clone())).collect()
}

fn cookie_of(message: &Message) -> Vec<u8> {
    let options = options(message);
    let (_, option) = options.iter().find(|(code, _)| *code == 10).expect("a cookie");
    let EdnsOption::Unknown(_, data) = option else { panic!("{option:?}") };
    data.clone()
}

/// The words of the extended error.
fn text_of(message: &Message) -> String {
    let options = options(message);
    let (_, option) = options.iter().find(|(code, _)| *code == 15).expect("an extended error");
    let EdnsOption::Unknown(_, data) = option else { panic!("{option:?}") };
    String::from_utf8(data[2..].to_vec()).unwrap()
}

/// Octets of an IPv4 and a UDP header.
const HEADERS: usize = 28;
