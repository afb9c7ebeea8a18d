//! TLS sessions from a real client through the proxy to a real server.

use std::{
    io,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use policy::{Reason, Verdict};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, HandshakeKind, pki_types::ServerName,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsConnector;

use crate::proxy::{
    Limits,
    relay::send_last,
    tests::{
        Bench, DEAD, DENIED, GUARDED, LISTED, LOOPING, Origin, Terms, all, limits, packets_in,
        within,
    },
};

#[tokio::test]
async fn carries_an_allowed_session_to_the_origin_and_back() {
    let origin = Origin::start().await;
    let bench = Bench::new(origin.address, limits());
    let mut session = within(bench.tls(LISTED, &origin)).await.unwrap();
    let sent: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let (mut read, mut write) = tokio::io::split(&mut session);
    let mut got = vec![0; sent.len()];
    let both = async {
        tokio::try_join!(
            async {
                write.write_all(&sent).await?;
                write.flush().await
            },
            read.read_exact(&mut got)
        )
    };
    within(both).await.unwrap();
    assert_eq!(got, sent);
    assert_eq!(bench.judge.last(), Some((Verdict::Allow, Reason::Listed)));
    for way in ["to-origin", "to-subscriber"] {
        let moved = || bench.metric("postern_session_bytes_total", &[("direction", way)]);
        bench.until(|| moved() > 1e6).await;
    }
    assert_eq!(bench.metric("postern_sessions", &[("protocol", "https")]), 1.0);
}

#[tokio::test]
async fn passes_on_a_half_close_and_still_carries_the_answer() {
    let origin = Origin::start().await;
    let bench = Bench::new(origin.address, limits());
    let mut session = within(bench.tls(LISTED, &origin)).await.unwrap();
    session.shutdown().await.unwrap();
    let mut rest = Vec::new();
    within(session.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest, b"bye");
    drop(session);
    bench.settled().await;
    assert_eq!(bench.outcomes("https", "finished"), 1.0);
}

#[tokio::test]
async fn refuses_name_outside_garden_by_an_alert() {
    let origin = Origin::start().await;
    let bench = Bench::new(origin.address, limits());
    let error = within(bench.tls(DENIED, &origin)).await.unwrap_err();
    assert_eq!(alert(&error), Some(AlertDescription::UnrecognisedName));
    assert_eq!(bench.judge.last(), Some((Verdict::Deny, Reason::NotListed)));
    bench.settled().await;
    assert_eq!(bench.outcomes("https", "policy-denied"), 1.0);
}

#[tokio::test]
async fn refuses_everything_without_a_policy() {
    let origin = Origin::start().await;
    let bench = Bench::new(origin.address, limits());
    bench.judge.withdraw();
    let error = within(bench.tls(LISTED, &origin)).await.unwrap_err();
    assert_eq!(alert(&error), Some(AlertDescription::AccessDenied));
    assert_eq!(bench.judge.last(), Some((Verdict::Deny, Reason::NoPolicy)));
}

#[tokio::test]
async fn tells_an_origin_that_cannot_be_reached_from_a_denial() {
    let origin = Origin::start().await;
    let bench = Bench::new(origin.address, limits());
    let error = within(bench.tls(DEAD, &origin)).await.unwrap_err();
    assert_eq!(alert(&error), Some(AlertDescription::InternalError));
    bench.settled().await;
    assert_eq!(bench.outcomes("https", "origin-unreachable"), 1.0);
}

#[tokio::test]
async fn never_dials_an_address_that_the_guard_refuses() {
    let origin = Origin::start().await;
    let bench = Bench::new(origin.address, limits());
    let error = within(bench.tls(GUARDED, &origin)).await.unwrap_err();
    assert_eq!(alert(&error), Some(AlertDescription::InternalError));
    assert_eq!(bench.judge.last(), Some((Verdict::Deny, Reason::UpstreamAddressRefused)));
    bench.settled().await;
    assert_eq!(bench.outcomes("https", "us-address-refused"), 1.0);
}

#[tokio::test]
async fn never_dials_its_own_listener() {
    let origin = Origin::start().await;
    let bench = Bench::new(origin.address, limits());
    bench.judge.publish(&Terms::new(bench.https.port()), 2);
    let error = within(bench.tls(LOOPING, &origin)).await.unwrap_err();
    assert_eq!(alert(&error), Some(AlertDescription::InternalError));
    assert_eq!(bench.judge.last(), Some((Verdict::Deny, Reason::Loop)));
    bench.settled().await;
    assert_eq!(bench.outcomes("https", "us-loop"), 1.0);
}

#[tokio::test]
async fn garbage_gets_an_alert_and_a_close() {
    let origin = Origin::start().await;
    let bench = Bench::new(origin.address, limits());
    let mut stream = bench.dial().await;
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(all(&mut stream).await, [21, 3, 3, 0, 2, 2, 10]);
    assert_eq!(bench.judge.last(), Some((Verdict::Deny, Reason::NotTls)));
}

#[tokio::test]
async fn hello_that_is_too_slow_is_refused() {
    let origin = Origin::start().await;
    let hello_time = std::time::Duration::from_millis(50);
    let bench = Bench::new(origin.address, Limits { hello_time, ..limits() });
    let mut stream = bench.dial().await;
    stream.write_all(&[22, 3, 1]).await.unwrap();
    assert_eq!(all(&mut stream).await, [21, 3, 3, 0, 2, 2, 40]);
    assert_eq!(bench.judge.last(), Some((Verdict::Deny, Reason::HelloTimeout)));
}

#[tokio::test]
async fn refusal_of_an_origin_reaches_its_subscriber_in_one_packet() {
    const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 40];
    let hello = hello(Origin::start().await.client(), LISTED);
    let origin = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bench = Bench::new(origin.local_addr().unwrap(), limits());
    let mut fewest = u32::MAX;
    // A machine that is busy may acknowledge the hello before it is answered: not each time.
    for _ in 0..20 {
        let mut subscriber = bench.dial().await;
        let before = packets_in(&subscriber);
        let refuses = async {
            let (mut stream, _) = origin.accept().await.unwrap();
            stream.read_exact(&mut vec![0; hello.len()]).await.unwrap();
            // With the end that follows at once.
            send_last(&stream, &ALERT).unwrap();
        };
        let asks = async {
            subscriber.write_all(&hello).await.unwrap();
            all(&mut subscriber).await
        };
        let (said, ()) = tokio::join!(asks, within(refuses));
        assert_eq!(said, ALERT);
        fewest = fewest.min(packets_in(&subscriber) - before);
    }
    assert_eq!(fewest, 1, "hello acknowledged, alert and end together");
}

#[tokio::test]
async fn silent_session_ends_at_the_idle_limit() {
    let origin = Origin::start().await;
    let idle_limit = std::time::Duration::from_millis(80);
    let bench = Bench::new(origin.address, Limits { idle_limit, ..limits() });
    let mut session = within(bench.tls(LISTED, &origin)).await.unwrap();
    assert!(within(session.read(&mut [0])).await.is_err());
    bench.settled().await;
    assert_eq!(bench.outcomes("https", "us-idle"), 1.0);
}

#[tokio::test]
async fn publication_closes_what_it_denies_and_nothing_else() {
    let origin = Origin::start().await;
    let terms = Terms::new(origin.address.port());
    let bench = Bench::with(&terms, limits());
    let mut revoked = within(bench.tls(LISTED, &origin)).await.unwrap();
    let mut kept = within(bench.tls("secure.example", &origin)).await.unwrap();
    let same = bench.judge.publish(&terms, 2);
    assert_eq!(bench.sessions.rejudge(&same, &*bench.judge), 0);
    let narrower = bench.judge.publish(&Terms { listed: false, ..terms }, 3);
    let changes = bench.sessions.changed_under(&same, &narrower, &*bench.judge);
    let [change] = changes.as_slice() else { panic!("{changes:?}") };
    assert_eq!((change.host.as_str(), change.protocol, change.port), (LISTED, "https", 443));
    assert_eq!((change.now.verdict, change.then.verdict), (Verdict::Allow, Verdict::Deny));
    assert!(bench.sessions.changed_under(&same, &same, &*bench.judge).is_empty());
    assert_eq!(bench.sessions.rejudge(&narrower, &*bench.judge), 1);
    assert!(within(revoked.read(&mut [0])).await.is_err());
    kept.write_all(b"x").await.unwrap();
    within(kept.read_exact(&mut [0])).await.unwrap();
    bench.until(|| bench.sessions.count() == 1).await;
    assert_eq!(bench.outcomes("https", "policy-revoked"), 1.0);
}

#[tokio::test]
async fn denied_session_of_a_class_that_drains_gets_its_time_and_no_more() {
    let origin = Origin::start().await;
    let terms = Terms { on_denial: "drain", ..Terms::new(origin.address.port()) };
    let leave_time = std::time::Duration::from_millis(900);
    let bench = Bench::with(&terms, Limits { leave_time, ..limits() });
    let mut session = within(bench.tls(LISTED, &origin)).await.unwrap();
    let narrower = bench.judge.publish(&Terms { listed: false, ..terms }, 2);
    assert_eq!(bench.sessions.rejudge(&narrower, &*bench.judge), 1);
    session.write_all(b"x").await.unwrap();
    within(session.read_exact(&mut [0])).await.unwrap();
    assert!(within(bench.tls(LISTED, &origin)).await.is_err(), "a new session has no time");
    // A publication in between gives no more time.
    bench.sessions.rejudge(&narrower, &*bench.judge);
    assert!(within(session.read(&mut [0])).await.is_err());
    bench.settled().await;
    assert_eq!(bench.outcomes("https", "policy-revoked"), 1.0);
}

#[tokio::test]
async fn one_subscriber_is_judged_again_and_no_other() {
    let origin = Origin::start().await;
    let terms = Terms::new(origin.address.port());
    let bench = Bench::with(&terms, limits());
    let mut session = within(bench.tls(LISTED, &origin)).await.unwrap();
    let judge_again =
        |network: &str| bench.sessions.rejudge_behind(&[network.parse().unwrap()], &*bench.judge);
    assert_eq!(judge_again("127.0.0.1/32"), 0, "nothing changed");
    bench.judge.publish(&Terms { listed: false, ..terms }, 2);
    assert_eq!(judge_again("127.0.0.9/32"), 0);
    assert_eq!(judge_again("127.0.0.1/32"), 1);
    assert!(within(session.read(&mut [0])).await.is_err());
    bench.judge.withdraw();
    assert_eq!(judge_again("127.0.0.1/32"), 0);
}

#[tokio::test]
async fn publication_between_verdict_and_session_is_not_missed() {
    let origin = Origin::start().await;
    let terms = Terms::new(origin.address.port());
    let bench = Bench::with(&terms, limits());
    bench.judge.publish_behind_verdict(&Terms { listed: false, ..terms }, 2);
    let error = within(bench.tls(LISTED, &origin)).await.unwrap_err();
    assert_eq!(alert(&error), Some(AlertDescription::UnrecognisedName));
    assert_eq!(bench.judge.last(), Some((Verdict::Deny, Reason::NotListed)));
}

#[tokio::test]
async fn ipv6_is_served_like_ipv4() {
    let loopback = IpAddr::V6(Ipv6Addr::LOCALHOST);
    let origin = Origin::start_on(loopback).await;
    let bench = Bench::with(&Terms { loopback, ..Terms::new(origin.address.port()) }, limits());
    let mut session = within(bench.tls(LISTED, &origin)).await.unwrap();
    session.write_all(b"x").await.unwrap();
    within(session.read_exact(&mut [0])).await.unwrap();
    let error = within(bench.tls(DENIED, &origin)).await.unwrap_err();
    assert_eq!(alert(&error), Some(AlertDescription::UnrecognisedName));
    let error = within(bench.tls(GUARDED, &origin)).await.unwrap_err();
    assert_eq!(alert(&error), Some(AlertDescription::InternalError));
    assert_eq!(bench.judge.last(), Some((Verdict::Deny, Reason::UpstreamAddressRefused)));
}

#[tokio::test]
async fn mere_connect_and_close_is_no_denial() {
    let origin = Origin::start().await;
    let bench = Bench::new(origin.address, limits());
    drop(bench.dial().await);
    bench.until(|| bench.outcomes("https", "subscriber-gone") == 1.0).await;
    assert_eq!(bench.judge.count(), 0);
}

#[tokio::test]
async fn unused_connection_is_closed_without_a_verdict() {
    let origin = Origin::start().await;
    let hello_time = std::time::Duration::from_millis(50);
    let bench = Bench::new(origin.address, Limits { hello_time, ..limits() });
    let mut stream = bench.dial().await;
    assert!(all(&mut stream).await.is_empty());
    bench.settled().await;
    assert_eq!(bench.outcomes("https", "subscriber-idle"), 1.0);
    assert_eq!(bench.judge.count(), 0);
}

#[tokio::test]
async fn carries_a_session_through_a_hello_retry_request() {
    let origin = Origin::start().await;
    let bench = Bench::new(origin.address, limits());
    let connector = TlsConnector::from(origin.retried_client());
    let name = ServerName::try_from(LISTED).unwrap();
    let mut session = within(connector.connect(name, bench.dial().await)).await.unwrap();
    let kind = session.get_ref().1.handshake_kind();
    assert_eq!(kind, Some(HandshakeKind::FullWithHelloRetryRequest));
    session.write_all(b"x").await.unwrap();
    within(session.read_exact(&mut [0])).await.unwrap();
}

#[tokio::test]
async fn second_hello_for_another_name_is_refused() {
    let origin = Origin::start().await;
    let bench = Bench::new(origin.address, limits());
    let mut stream = bench.dial().await;
    stream.write_all(&hello(origin.retried_client(), LISTED)).await.unwrap();
    let mut retry = [0; 1024];
    let length = within(stream.read(&mut retry)).await.unwrap();
    assert_eq!(retry[..length].first(), Some(&22), "a HelloRetryRequest");
    stream.write_all(&hello(origin.retried_client(), DENIED)).await.unwrap();
    let rest = all(&mut stream).await;
    assert!(rest.ends_with(&[21, 3, 3, 0, 2, 2, 47]), "{rest:?}");
    assert_eq!(bench.judge.last(), Some((Verdict::Deny, Reason::HelloChanged)));
}

/// The first octets of a client that asks for `host`.
fn hello(client: Arc<ClientConfig>, host: &'static str) -> Vec<u8> {
    let name = ServerName::try_from(host).unwrap();
    let mut octets = Vec::new();
    ClientConnection::new(client, name).unwrap().write_tls(&mut octets).unwrap();
    octets
}

/// The alert a rustls client got.
fn alert(error: &io::Error) -> Option<AlertDescription> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    if let rustls::Error::AlertReceived(alert) = error { Some(*alert) } else { None }
}
