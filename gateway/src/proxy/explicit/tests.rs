//! Clients that know the gateway as their proxy, on loopback.

use policy::Verdict;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::*;
use crate::proxy::{
    Limits,
    tests::{Bench, DEAD, DENIED, HTTPS_ONLY, LISTED, Origin, Terms, all, limits, within},
};

#[tokio::test]
async fn connect_leads_to_a_listed_name_and_the_hello_must_name_it_too() {
    let origin = Origin::start().await;
    let bench = Bench::new(origin.address, limits());
    for (asked, named, opens) in [
        (LISTED, LISTED, true),
        (HTTPS_ONLY, HTTPS_ONLY, true),
        (LISTED, DENIED, false),
        (LISTED, HTTPS_ONLY, false),
    ] {
        let stream = connected(&bench, asked, 443).await;
        let name = ServerName::try_from(named.to_owned()).unwrap();
        let tls = within(TlsConnector::from(origin.client()).connect(name, stream)).await;
        assert_eq!(tls.is_ok(), opens, "CONNECT {asked}, hello for {named}");
        if let Ok(mut tls) = tls {
            tls.write_all(b"x").await.unwrap();
            within(tls.read_exact(&mut [0])).await.unwrap();
        } else {
            assert_eq!(bench.judge.last(), Some((Verdict::Deny, Reason::HelloChanged)));
        }
    }
    bench.settled().await;
    assert_eq!(bench.outcomes("https", "policy-denied"), 2.0);
}

#[tokio::test]
async fn connect_to_what_is_not_listed_is_forbidden() {
    let origin = Origin::start().await;
    let bench = Bench::new(origin.address, limits());
    for (host, port, reason) in [
        (DENIED, 443, Reason::NotListed),
        (LISTED, 22, Reason::PortNotListed),
        (LISTED, 80, Reason::PortNotListed),
    ] {
        let answer = ask(&bench, &connect_to(host, port)).await;
        assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{host}:{port}: {answer}");
        assert!(answer.contains(&format!("\r\n\r\n{host} cannot be reached")), "{answer}");
        assert_eq!(bench.judge.last(), Some((Verdict::Deny, reason)), "{host}:{port}");
    }
    let literal = "CONNECT 192.0.2.1:443 HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n";
    assert!(ask(&bench, literal).await.starts_with("HTTP/1.1 400 "));
    assert_eq!(bench.judge.last(), Some((Verdict::Deny, Reason::IpLiteral)));
}

#[tokio::test]
async fn octets_behind_a_connect_are_refused() {
    let origin = Origin::start().await;
    let bench = Bench::new(origin.address, limits());
    let eager = format!("{}\x16\x03\x01", connect_to(LISTED, 443));
    assert!(ask(&bench, &eager).await.starts_with("HTTP/1.1 400 "));
    bench.settled().await;
}

#[tokio::test]
async fn what_follows_a_connect_must_be_tls() {
    let origin = Origin::start().await;
    let bench = Bench::new(origin.address, limits());
    let mut stream = connected(&bench, LISTED, 443).await;
    stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await.unwrap();
    let alert = all(&mut stream).await;
    assert_eq!(alert.first(), Some(&21), "{alert:?}");
    assert_eq!(bench.judge.last(), Some((Verdict::Deny, Reason::NotTls)));
}

#[tokio::test]
async fn requests_in_absolute_form_are_judged_like_those_on_port_80() {
    let origin = Origin::start().await;
    let bench = Bench::new(origin.address, limits());
    let get = |host: &str| format!("GET http://{host}/x HTTP/1.1\r\nHost: {host}\r\n\r\n");
    for host in [DENIED, HTTPS_ONLY, DEAD] {
        let answer = ask(&bench, &get(host)).await;
        let expected = if host == DEAD { "HTTP/1.1 502 " } else { "HTTP/1.1 302 " };
        assert!(answer.starts_with(expected), "{host}: {answer}");
    }
    bench.until(|| bench.outcomes("http", "policy-denied") >= 2.0).await;
    // Dialled, and answered by a server that speaks TLS.
    let answer = ask(&bench, &get(LISTED)).await;
    assert_eq!(bench.judge.last(), Some((Verdict::Allow, Reason::Listed)), "{answer}");
    let other = format!("GET http://{LISTED}:8080/ HTTP/1.1\r\nHost: {LISTED}:8080\r\n\r\n");
    assert!(ask(&bench, &other).await.starts_with("HTTP/1.1 302 "));
    assert_eq!(bench.judge.last(), Some((Verdict::Deny, Reason::PortNotListed)));
}

#[tokio::test]
async fn slow_head_ends_at_its_deadline_and_places_are_bounded() {
    let origin = Origin::start().await;
    let header_time = std::time::Duration::from_secs(3);
    let bench = Bench::new(origin.address, Limits { header_time, ..limits() });
    let (mut slow, mut answers) = (Vec::new(), Vec::new());
    // 32 places at each of two workers' sockets.
    for _ in 0..80 {
        // One over the bound may be reset before it knows that it is connected.
        let Ok(mut stream) = TcpStream::connect(bench.explicit).await else {
            answers.push(Vec::new());
            continue;
        };
        let _ = stream.write_all(b"CONNECT ").await;
        slow.push(stream);
    }
    for stream in &mut slow {
        answers.push(all(stream).await);
    }
    let late = answers.iter().filter(|answer| answer.starts_with(b"HTTP/1.1 408 ")).count();
    let over = answers.iter().filter(|answer| answer.is_empty()).count();
    assert!(over >= 16 && late > 0 && late + over == 80, "{late} too late, {over} over the bound");
    bench.settled().await;
}

#[tokio::test]
async fn limits_on_sessions_hold() {
    let origin = Origin::start().await;
    let bench =
        Bench::with(&Terms { sessions: Some(1), ..Terms::new(origin.address.port()) }, limits());
    let _first = connected(&bench, LISTED, 443).await;
    assert_eq!(ask(&bench, &connect_to(LISTED, 443)).await, "");
    assert_eq!(bench.judge.last(), Some((Verdict::Deny, Reason::Limit)));
}

fn connect_to(host: &str, port: u16) -> String {
    format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n")
}

/// A connection that the gateway has opened.
async fn connected(bench: &Bench, host: &str, port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(bench.explicit).await.unwrap();
    stream.write_all(connect_to(host, port).as_bytes()).await.unwrap();
    let mut answer = vec![0; CONNECTED.len()];
    within(stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(answer, CONNECTED);
    stream
}

/// Everything that comes back for one request.
async fn ask(bench: &Bench, request: &str) -> String {
    let mut stream = TcpStream::connect(bench.explicit).await.unwrap();
    // A refusal may come, and the connection be closed, before everything was sent.
    let _ = stream.write_all(request.as_bytes()).await;
    String::from_utf8_lossy(&all(&mut stream).await).into_owned()
}
