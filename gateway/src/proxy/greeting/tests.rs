//! Load balancers in front of the gateway, on loopback.

use std::net::SocketAddr;

use policy::{Reason, Verdict};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{Balancers, MAX_GREETINGS};
use crate::proxy::tests::{Bench, DENIED, LISTED, Origin, Terms, all, limits, within};

#[tokio::test]
async fn subscriber_and_destination_are_those_of_the_header() {
    let origin = Origin::start().await;
    let bench = behind(&origin, "127.0.0.0/8");
    // The one is of the bench's class, the other of none but the default.
    for (from, to) in [("127.0.0.9:50000", "203.0.113.1:80"), ("[::1]:50000", "[2001:db8::1]:80")] {
        let answer = ask(&bench, &[&header(from, to)[..], &get(DENIED)].concat()).await;
        assert!(answer.starts_with(b"HTTP/1.1 302 "), "{from}: {answer:?}");
        assert_eq!(
            bench.judge.last_ends(),
            Some((from.parse::<SocketAddr>().unwrap().ip(), to.parse().unwrap()))
        );
    }
    // The port is the one that was connected to at the load balancer.
    let request = [&header("127.0.0.9:50000", "203.0.113.1:81")[..], &get(LISTED)].concat();
    assert!(ask(&bench, &request).await.starts_with(b"HTTP/1.1 302 "));
    assert_eq!(bench.judge.last(), Some((Verdict::Deny, Reason::PortNotListed)));
}

#[tokio::test]
async fn load_balancer_that_does_not_say_for_whom_is_refused() {
    let origin = Origin::start().await;
    let bench = behind(&origin, "127.0.0.0/8");
    let mut unknown = header("127.0.0.9:50000", "203.0.113.1:80");
    unknown[12] = 0x11;
    for octets in [get(LISTED), unknown, b"PROXY TCP4 127.0.0.9 203.0.113.1 1 80\r\n".to_vec()] {
        assert!(ask(&bench, &octets).await.is_empty(), "{octets:?}");
    }
    // Nothing at all.
    let mut silent = TcpStream::connect(bench.http).await.unwrap();
    assert!(within(async { all(&mut silent).await }).await.is_empty());
    bench.until(|| bench.metric("postern_accept_failures_total", &[]) >= 4.0).await;
    assert_eq!(bench.judge.count(), 0);
}

#[tokio::test]
async fn header_of_anybody_else_is_no_request() {
    let origin = Origin::start().await;
    let bench = behind(&origin, "192.0.2.0/24");
    let request = [&header("127.0.0.9:50000", "203.0.113.1:80")[..], &get(LISTED)].concat();
    assert!(ask(&bench, &request).await.starts_with(b"HTTP/1.1 400 "));
    assert!(ask(&bench, &get(DENIED)).await.starts_with(b"HTTP/1.1 302 "), "without a header");
}

#[test]
fn those_that_have_not_said_for_whom_are_bounded() {
    let balancers = Balancers::new(Vec::new());
    let mut places: Vec<_> =
        (0..MAX_GREETINGS).map(|_| balancers.place().expect("a free place")).collect();
    assert!(balancers.place().is_none());
    places.pop();
    assert!(balancers.place().is_some());
}

fn behind(origin: &Origin, balancers: &str) -> Bench {
    let balancers = vec![balancers.parse().unwrap()];
    Bench::with(&Terms { balancers, ..Terms::new(origin.address.port()) }, limits())
}

/// A header of version 2.
fn header(from: &str, to: &str) -> Vec<u8> {
    let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
    let (family, addresses) = match (from, to) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            (0x11, [&from.ip().octets()[..], &to.ip().octets()].concat())
        }
        (SocketAddr::V6(from), SocketAddr::V6(to)) => {
            (0x21, [&from.ip().octets()[..], &to.ip().octets()].concat())
        }
        (_, _) => panic!("two families"),
    };
    let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    let length = u16::try_from(addresses.len() + ports.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[0x21, family][..], &length, &addresses, &ports].concat()
}

fn get(host: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").into_bytes()
}

async fn ask(bench: &Bench, octets: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(bench.http).await.unwrap();
    let _ = stream.write_all(octets).await;
    all(&mut stream).await
}
