//! Hellos of real clients, as they were recorded: forwarded octet for octet where the name is
//! listed, refused where not.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use lab::{Form, Sim, World};

use crate::{
    hello::alert,
    repository::{files, top},
    stage::{Family, assert_sealed, at, metric, options, world},
};

#[test]
fn listed_hello_reaches_the_origin_octet_for_octet() {
    let origin = Origin::new();
    let world = on_loopback(&origin, "builtin:mobile-plans");
    for (name, hello) in captured() {
        for gateway in world.gateway().listening("https") {
            for piece in [1, 100, hello.len()] {
                let mut subscriber = subscriber(gateway);
                send_in_pieces(&mut subscriber, &hello, piece);
                let mut far = origin.accept();
                let mut came = vec![0; hello.len()];
                far.read_exact(&mut came).unwrap();
                assert_eq!(came, hello, "{name} in pieces of {piece} to {gateway}");
                // And back: what the origin says comes as it was said.
                far.write_all(&GOODBYE).unwrap();
                drop(far);
                let mut answer = Vec::new();
                subscriber.read_to_end(&mut answer).unwrap();
                assert_eq!(answer, GOODBYE, "{name}");
            }
        }
    }
}

#[test]
fn unlisted_hello_gets_an_alert_and_reaches_nobody() {
    let origin = Origin::new();
    let world = on_loopback(&origin, "builtin:gsma-rsp");
    for (name, hello) in captured() {
        for gateway in world.gateway().listening("https") {
            let mut subscriber = subscriber(gateway);
            subscriber.write_all(&hello).unwrap();
            let mut answer = Vec::new();
            subscriber.read_to_end(&mut answer).unwrap();
            assert!(alert(&answer).is_some(), "{name}: {answer:?}");
        }
    }
    assert!(origin.nobody_came());
    let denied = [("protocol", "https"), ("verdict", "deny"), ("reason", "not-listed")];
    let expected = 2.0 * captured().len() as f64;
    assert_eq!(metric(&world, "postern_decisions_total", &denied), expected);
}

#[test]
fn captured_hello_starts_a_handshake_through_the_steering() {
    let world = world();
    for (name, hello) in captured() {
        for family in Family::BOTH {
            let to = at("mps.datamart.windows.com", family, 443);
            let hello = hello.clone();
            let first = world.ue(1).namespace().call(move || {
                let mut stream = subscriber(to);
                stream.write_all(&hello).unwrap();
                let mut header = [0; 6];
                stream.read_exact(&mut header).map(|()| header).ok()
            });
            // A handshake record that begins with a ServerHello.
            assert!(matches!(first, Some([22, 3, _, _, _, 2])), "{name}, {family}: {first:?}");
        }
    }
    assert_sealed(&world);
}

#[test]
fn part_of_a_hello_reaches_nobody() {
    let origin = Origin::new();
    let world = on_loopback(&origin, "builtin:mobile-plans");
    for (name, hello) in captured() {
        for gateway in world.gateway().listening("https") {
            for length in [1, 5, 9, hello.len() / 2, hello.len() - 1] {
                let mut subscriber = subscriber(gateway);
                subscriber.write_all(&hello[..length]).unwrap();
                subscriber.shutdown(std::net::Shutdown::Write).unwrap();
                let mut answer = Vec::new();
                let _ = subscriber.read_to_end(&mut answer);
                assert!(
                    answer.is_empty() || alert(&answer).is_some(),
                    "{name} {length}: {answer:?}"
                );
            }
        }
    }
    assert!(origin.nobody_came());
    assert!(world.gateway().is_running());
}

/// A server that stands for every host, in both families.
pub(crate) struct Origin(TcpListener);

impl Origin {
    pub(crate) fn new() -> Self {
        Self(TcpListener::bind("[::]:0").unwrap())
    }

    fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    /// The next connection from the gateway.
    pub(crate) fn accept(&self) -> TcpStream {
        self.0.set_nonblocking(true).unwrap();
        let stream = crate::stage::eventually("the gateway dials", || self.0.accept().ok()).0;
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(Sim::PATIENCE)).unwrap();
        stream
    }

    fn nobody_came(&self) -> bool {
        self.0.set_nonblocking(true).unwrap();
        self.0.accept().is_err()
    }
}

/// A gateway on loopback whose every listed host is `origin`.
pub(crate) fn on_loopback(origin: &Origin, hostset: &str) -> World {
    let mut options = options();
    options.form = Form::Loopback;
    let port = origin.port();
    options.policy = Some(format!(
        r#"schema = 1
name = "hellos"
serial = 1
environment = "lab"
default_class = "unprovisioned"
[dns]
denied = "nxdomain"
denied_ttl = "5s"
max_ttl = "60s"
[http]
denied = "511"
[[class]]
name = "unprovisioned"
priority = 100
action = "garden"
hostsets = ["{hostset}"]
[[class.match]]
networks = ["127.0.0.0/8", "::1/128"]
[lab]
networks = ["127.0.0.0/8", "::1/128"]
ports = {{ "443" = {port} }}
[lab.resolve]
"mps.datamart.windows.com" = ["127.0.0.1", "::1"]
"login.live.com" = ["::1"]
"#
    ));
    World::start(options).unwrap()
}

pub(crate) fn subscriber(gateway: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(gateway).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Sim::PATIENCE)).unwrap();
    stream
}

/// Octets that leave in segments of their own, as far as the kernel lets them.
fn send_in_pieces(stream: &mut TcpStream, octets: &[u8], piece: usize) {
    for piece in octets.chunks(piece) {
        stream.write_all(piece).unwrap();
        thread::park_timeout(Duration::from_micros(10));
    }
}

/// Every recorded hello with its file's name.
fn captured() -> Vec<(String, Vec<u8>)> {
    let hellos: Vec<_> = files("tests/data/hello")
        .into_iter()
        .filter(|path| path.parent().is_some_and(|folder| folder.ends_with("hello")))
        .filter(|path| path.extension().is_some_and(|extension| extension == "bin"))
        .map(|path| (path.display().to_string(), fs::read(top().join(&path)).unwrap()))
        .collect();
    assert!(hellos.len() >= 4, "{} hellos", hellos.len());
    hellos
}

/// A fatal alert, handshake_failure: an origin may say so, and the gateway passes it on.
const GOODBYE: [u8; 7] = [21, 3, 3, 0, 2, 2, 40];
