//! DNS over TLS and over HTTPS: the same verdicts, and what must not get through.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use h2::client::SendRequest;
use hickory_proto::{op::Message, rr::RecordType};
use http::{Request, StatusCode};
use rustls::{ClientConfig, RootCertStore, crypto::ring::default_provider, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    scripted::Scripted,
    world::{HOST, NXDOMAIN, PATIENCE, World, policy, question, read_framed, told, write_framed},
};
use crate::{Identity, Limits};

const DENIED: &str = "NXDomain / . 5 SOA 5 EDE 15";
const LISTED: &str = "NoError listed.example. 30 198.51.100.7";

#[tokio::test]
async fn gives_the_same_verdicts_whatever_the_transport() {
    let upstream = listed().await;
    for listen in ["127.0.0.1:0", "[::1]:0"] {
        let world = World::start(listen, &[&upstream]).await;
        let mut tls = world.connect(world.tls, b"dot").await;
        let (mut https, _driven) = world.http().await;
        for (name, record_type, expected) in [
            ("listed.example.", RecordType::A, LISTED),
            ("LISTED.example.", RecordType::A, "NoError LISTED.example. 30 198.51.100.7"),
            ("www.bing.com.", RecordType::A, DENIED),
            ("listed.example.", RecordType::HTTPS, "NoError / . 5 SOA 5 EDE 15"),
            ("listed.example.", RecordType::AXFR, "Refused"),
            ("a\\001b.example.", RecordType::A, DENIED),
            ("_dns.resolver.arpa.", RecordType::A, "NoError / . 5 SOA 5"),
        ] {
            let asked = question(name, record_type);
            assert_eq!(told(&ask_by_tls(&mut tls, &asked).await), expected, "{name} by TLS");
            let answer = post(&mut https, &asked).await.expect("an answer");
            assert_eq!(answer[..2], asked[..2], "the id");
            let answer = Message::from_vec(&answer).unwrap();
            assert_eq!(told(&answer), expected, "{name} by HTTPS");
            assert!(answer.metadata.recursion_available && !answer.metadata.truncation);
            assert_eq!(told(&get(&mut https, &asked).await), expected, "{name} by GET");
        }
        let records = world.judge.records();
        assert_eq!(records.iter().filter(|line| line.contains("allow listed")).count(), 9);
        for (transport, count) in [("tls", 7.0), ("https", 14.0)] {
            assert_eq!(world.metric("postern_dns_responses_total", transport), count);
        }
    }
}

#[tokio::test]
async fn answers_a_later_question_over_tls_before_one_that_waits() {
    let upstream = listed().await;
    let gate = upstream.hold();
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    let mut tls = world.connect(world.tls, b"dot").await;
    let asked =
        [question("listed.example.", RecordType::A), question("www.bing.com.", RecordType::A)];
    for asked in &asked {
        write_framed(&mut tls, asked).await;
    }
    assert_eq!(told(&next(&mut tls).await), DENIED);
    upstream.arrival().await;
    // What is under way is answered even if the gateway is asked to stop.
    world.begin_to_stop();
    gate.notify_one();
    assert_eq!(told(&next(&mut tls).await), LISTED);
    world.stop().await;
    assert_eq!(read_framed(&mut tls).await, None);
}

#[tokio::test]
async fn answers_what_is_under_way_over_https_and_stops() {
    let upstream = listed().await;
    let gate = upstream.hold();
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    let (mut https, _driven) = world.http().await;
    let asked = question("listed.example.", RecordType::A);
    let asking = async {
        let answer = post(&mut https, &asked).await.expect("an answer");
        assert_eq!(told(&Message::from_vec(&answer).unwrap()), LISTED);
    };
    let stopping = async {
        upstream.arrival().await;
        world.begin_to_stop();
        gate.notify_one();
    };
    tokio::join!(asking, stopping);
    world.stop().await;
}

#[tokio::test]
async fn survives_garbage_before_and_after_the_handshake() {
    let upstream = Scripted::start().await;
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    for address in [world.tls, world.https] {
        let mut plain = TcpStream::connect(address).await.unwrap();
        plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut rest = Vec::new();
        // An alert and the end, or a reset.
        let _ = timeout(PATIENCE, plain.read_to_end(&mut rest)).await.expect("closed");
        assert!(world.try_connect(address, b"http/1.1").await.is_err(), "another protocol");
    }
    let mut https = world.connect(world.https, b"h2").await;
    https.write_all(&[0x55; 100]).await.unwrap();
    let _ = timeout(PATIENCE, https.read_to_end(&mut Vec::new())).await.expect("closed");
    world.eventually("postern_dns_refused_connections_total", "handshake", 5.0).await;

    // Readable as frames: refused in words, silence for what is no question, the end for more
    // than a question can be.
    let mut tls = world.connect(world.tls, b"dot").await;
    for message in [&[7; 12][..], &[0, 9, 1, 0, 0, 2, 0, 0, 0, 0, 0, 0]] {
        write_framed(&mut tls, message).await;
        let answer = next(&mut tls).await;
        assert!(["FormErr", "NotImp"].contains(&told(&answer).as_str()), "{}", told(&answer));
    }
    let mut response = question("www.bing.com.", RecordType::A);
    response[2] |= 0x80;
    write_framed(&mut tls, &response).await;
    write_framed(&mut tls, &[1, 2, 3]).await;
    assert_eq!(
        told(&ask_by_tls(&mut tls, &question("www.bing.com.", RecordType::A)).await),
        DENIED
    );
    write_framed(&mut tls, &vec![0; 5_000]).await;
    assert_eq!(read_framed(&mut tls).await, None);
    for (label, count) in [("response", 1.0), ("short", 1.0), ("long", 1.0)] {
        assert_eq!(world.metric("postern_dns_dropped_total", label), count, "{label}");
    }
    world.eventually("postern_dns_connections", "", 0.0).await;
}

#[tokio::test]
async fn refuses_requests_that_are_no_questions() {
    let upstream = Scripted::start().await;
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    let (mut https, _driven) = world.http().await;
    let asked = question("www.bing.com.", RecordType::A);
    let mut response = asked.clone();
    response[2] |= 0x80;
    let message = "application/dns-message";
    for (method, path, content_type, body, expected) in [
        ("POST", "/", message, &asked, StatusCode::NOT_FOUND),
        ("PUT", "/dns-query", message, &asked, StatusCode::METHOD_NOT_ALLOWED),
        ("POST", "/dns-query", "text/plain", &asked, StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("POST", "/dns-query", message, &vec![0; 4_097], StatusCode::PAYLOAD_TOO_LARGE),
        ("POST", "/dns-query", message, &response, StatusCode::BAD_REQUEST),
        ("POST", "/dns-query", message, &vec![1, 2, 3], StatusCode::BAD_REQUEST),
        ("POST", "/dns-query", message, &vec![7; 12], StatusCode::OK),
        ("GET", "/dns-query", message, &vec![], StatusCode::BAD_REQUEST),
        ("GET", "/dns-query?dns=%%", message, &vec![], StatusCode::BAD_REQUEST),
        ("POST", "/dns-query", message, &asked, StatusCode::OK),
    ] {
        let uri = format!("https://{HOST}{path}");
        let request =
            Request::builder().method(method).uri(uri).header("content-type", content_type);
        let (status, _) = exchange(&mut https, request.body(()).unwrap(), body).await;
        assert_eq!(status, expected, "{method} {path} {content_type} {}", body.len());
    }
}

#[tokio::test]
async fn one_connection_carries_more_questions_than_its_window_has_octets() {
    let upstream = Scripted::start().await;
    let limits = Limits { questions_per_second: u32::MAX, ..Limits::default() };
    let world = World::start_with("127.0.0.1:0", &[&upstream], limits).await;
    let (mut https, _driven) = world.http().await;
    let mut tls = world.connect(world.tls, b"dot").await;
    let asked = question("www.bing.com.", RecordType::A);
    for _ in 0..=65_535 / asked.len() {
        let answer = post(&mut https, &asked).await.expect("an answer");
        assert_eq!(told(&Message::from_vec(&answer).unwrap()), DENIED);
        assert_eq!(told(&ask_by_tls(&mut tls, &asked).await), DENIED);
    }
}

#[tokio::test]
async fn bounds_the_streams_and_the_questions_of_one_connection() {
    let upstream = listed().await;
    let gate = upstream.hold();
    let limits = Limits { pending_per_connection: 2, ..Limits::default() };
    let world = World::start_with("127.0.0.1:0", &[&upstream], limits).await;
    let (mut https, _driven) = world.http().await;
    let asked = question("www.bing.com.", RecordType::A);
    post(&mut https, &asked).await.expect("an answer");
    assert_eq!(https.current_max_send_streams(), 2);

    let mut tls = world.connect(world.tls, b"dot").await;
    for name in ["listed.example.", "listed.example.", "www.bing.com."] {
        write_framed(&mut tls, &question(name, RecordType::A)).await;
    }
    upstream.arrival().await;
    gate.notify_one();
    for expected in [LISTED, LISTED, DENIED] {
        assert_eq!(told(&next(&mut tls).await), expected, "the third had to wait");
    }
}

#[tokio::test]
async fn a_storm_of_connections_holds_no_more_than_its_share() {
    let upstream = Scripted::start().await;
    let limits = Limits { connections_per_source: 4, ..Limits::default() };
    let world = World::start_with("127.0.0.1:0", &[&upstream], limits).await;
    for address in [world.tls, world.https] {
        let mut storm = Vec::new();
        for _ in 0..200 {
            storm.push(TcpStream::connect(address).await.unwrap());
        }
        let refused = if address == world.tls { 196.0 } else { 2.0 * 196.0 };
        world.eventually("postern_dns_refused_connections_total", "source", refused).await;
        assert!(world.metric("postern_dns_connections", "") <= 8.0);
    }
    world.eventually("postern_dns_connections", "", 0.0).await;
    let mut tls = world.connect(world.tls, b"dot").await;
    let asked = question("www.bing.com.", RecordType::A);
    assert_eq!(told(&ask_by_tls(&mut tls, &asked).await), DENIED, "nothing is left of it");
}

#[tokio::test]
async fn cuts_off_who_shakes_no_hands_and_who_asks_nothing() {
    let upstream = Scripted::start().await;
    let short = Duration::from_millis(100);
    let limits = Limits { handshake: short, idle: short, ..Limits::default() };
    let world = World::start_with("127.0.0.1:0", &[&upstream], limits).await;
    for address in [world.tls, world.https] {
        let mut silent = TcpStream::connect(address).await.unwrap();
        let read = timeout(PATIENCE, silent.read(&mut [0])).await.expect("cut off");
        assert_eq!(read.unwrap_or_default(), 0);
        if let Ok(mut idle) = world.try_connect(address, alpn(&world, address)).await {
            let _ = timeout(PATIENCE, idle.read_to_end(&mut Vec::new())).await.expect("cut off");
        }
    }
    world.eventually("postern_dns_connections", "", 0.0).await;
}

#[tokio::test]
async fn refuses_in_words_who_asks_too_much() {
    let upstream = Scripted::start().await;
    let world = World::start("127.0.0.1:0", &[&upstream]).await;
    world.judge.publish(&(policy(NXDOMAIN, "") + "[class.limits]\ndns_qps = 1\n"));
    let asked = question("www.bing.com.", RecordType::A);
    let (mut https, _driven) = world.http().await;
    let mut other = https.clone();
    // At once, so that no time passes in between; either may come first.
    let (one, other) = tokio::join!(get(&mut https, &asked), get(&mut other, &asked));
    let mut answers = [told(&one), told(&other)];
    answers.sort_unstable();
    assert_eq!(answers, [DENIED, "Refused EDE 18"]);
}

#[test]
fn says_what_is_wrong_with_a_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for name in ["one", "other"] {
        let made = rcgen::generate_simple_self_signed([HOST.to_owned()]).unwrap();
        std::fs::write(path(&format!("{name}.pem")), made.cert.pem()).unwrap();
        std::fs::write(path(&format!("{name}.key")), made.signing_key.serialize_pem()).unwrap();
    }
    for (certificate, key, expected) in [
        ("none.pem", "one.key", "cannot read"),
        ("one.pem", "none.key", "cannot read"),
        ("one.key", "one.key", "no usable PEM of a certificate"),
        ("one.pem", "one.pem", "no usable PEM of a private key"),
        ("one.pem", "other.key", "do not work together"),
    ] {
        let error = Identity::load(&path(certificate), &path(key)).unwrap_err().to_string();
        assert!(error.contains(expected), "{certificate} {key}: {error}");
    }
}

impl World {
    pub(super) async fn connect(
        &self,
        address: SocketAddr,
        protocol: &[u8],
    ) -> TlsStream<TcpStream> {
        self.try_connect(address, protocol).await.expect("a handshake")
    }

    async fn try_connect(
        &self,
        address: SocketAddr,
        protocol: &[u8],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let mut client = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = vec![protocol.to_vec()];
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from(HOST).unwrap();
        TlsConnector::from(Arc::new(client)).connect(name, stream).await
    }

    /// An HTTP/2 connection, and the task that drives it.
    async fn http(&self) -> (SendRequest<Bytes>, JoinSet<()>) {
        let stream = self.connect(self.https, b"h2").await;
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        let mut driven = JoinSet::new();
        driven.spawn(async move { drop(connection.await) });
        (client, driven)
    }
}

async fn listed() -> Scripted {
    let upstream = Scripted::start().await;
    upstream.say("listed.example", RecordType::A, &["listed.example. 30 A 198.51.100.7"]);
    upstream
}

fn alpn(world: &World, address: SocketAddr) -> &'static [u8] {
    if address == world.tls { b"dot" } else { b"h2" }
}

async fn ask_by_tls(stream: &mut TlsStream<TcpStream>, asked: &[u8]) -> Message {
    write_framed(stream, asked).await;
    let answer = read_framed(stream).await.expect("an answer");
    assert_eq!(answer[..2], asked[..2], "the id");
    Message::from_vec(&answer).unwrap()
}

async fn next(stream: &mut TlsStream<TcpStream>) -> Message {
    Message::from_vec(&read_framed(stream).await.expect("an answer")).unwrap()
}

async fn post(https: &mut SendRequest<Bytes>, asked: &[u8]) -> Option<Vec<u8>> {
    let request = Request::post(format!("https://{HOST}/dns-query"))
        .header("content-type", "application/dns-message")
        .header("accept", "application/dns-message")
        .body(())
        .unwrap();
    let (status, answer) = exchange(https, request, asked).await;
    (status == StatusCode::OK).then_some(answer)
}

async fn get(https: &mut SendRequest<Bytes>, asked: &[u8]) -> Message {
    let asked = data_encoding::BASE64URL_NOPAD.encode(asked);
    let request = Request::get(format!("https://{HOST}/dns-query?dns={asked}")).body(()).unwrap();
    let (status, answer) = exchange(https, request, &[]).await;
    assert_eq!(status, StatusCode::OK);
    Message::from_vec(&answer).unwrap()
}

async fn exchange(
    https: &mut SendRequest<Bytes>,
    request: Request<()>,
    body: &[u8],
) -> (StatusCode, Vec<u8>) {
    let exchanged = async {
        let mut ready = https.clone().ready().await.unwrap();
        let (response, mut sending) = ready.send_request(request, body.is_empty()).unwrap();
        if !body.is_empty() {
            sending.send_data(Bytes::copy_from_slice(body), true).unwrap();
        }
        let response = response.await.unwrap();
        let status = response.status();
        if status == StatusCode::OK {
            assert_eq!(response.headers()["content-type"], "application/dns-message");
            assert_eq!(response.headers()["cache-control"], "no-store");
        }
        let (mut body, mut answer) = (response.into_body(), Vec::new());
        while let Some(part) = body.data().await {
            let part = part.unwrap();
            body.flow_control().release_capacity(part.len()).unwrap();
            answer.extend_from_slice(&part);
        }
        (status, answer)
    };
    timeout(PATIENCE, exchanged).await.expect("an answer")
}
