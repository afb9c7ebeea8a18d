//! What is tried on port 443.

use std::{fs, time::Duration};

use crate::{
    client::Talk,
    crafted::{
        Hello, SERVER_NAME, fragments, record, server_names, two_faced as crafted_two_faced,
    },
    scene::{Arrival, Place, Scene},
};

use super::{Cell, Way, each_refused, reached_any, reached_denied, rerouted, served, verdict};

pub(super) fn forged_address(scene: &Scene) -> Cell {
    let mut talk = Talk::open(Place::Denied.at(443));
    talk.send(&Hello::to(LISTED).octets());
    rerouted(scene, verdict(scene, &mut talk, reached_any))
}

pub(super) fn changed_hello(scene: &Scene) -> Cell {
    fn names_denied(arrival: &Arrival) -> bool {
        arrival.holds(DENIED)
    }
    let mut talk = Talk::open(Place::Retry.at(443));
    talk.send(&Hello::to("retry.example").octets());
    talk.until(|talk| !talk.octets.is_empty());
    if talk.octets.first() != Some(&super::HANDSHAKE) {
        return Cell::NotItsPart;
    }
    talk.octets.clear();
    talk.send(&Hello::to(DENIED).octets());
    verdict(scene, &mut talk, names_denied)
}

pub(super) fn honest_retry(_: &Scene) -> Cell {
    let hello = Hello::to("retry.example").octets();
    let mut talk = Talk::open(Place::Retry.at(443));
    talk.send(&hello);
    talk.until(|talk| !talk.octets.is_empty());
    // What makes a middlebox see TLS 1.2 (RFC 8446 appendix D.4).
    talk.send(&[20, 3, 3, 0, 1, 1]);
    talk.send(&hello);
    let retry = talk.octets.len();
    talk.until(|talk| talk.octets.len() > retry);
    if talk.octets.len() > retry { Cell::Works } else { served_never(&talk) }
}

fn served_never(talk: &Talk) -> Cell {
    if talk.is_over { Cell::Refused } else { Cell::Hangs }
}

pub(super) fn denied_in_records(scene: &Scene) -> Cell {
    each_refused(scene, vec![to_denied(fragments(&Hello::to(DENIED).message(), 8))])
}

pub(super) fn two_faced(scene: &Scene) -> Cell {
    each_refused(scene, vec![to_listed(crafted_two_faced(DENIED, LISTED))])
}

pub(super) fn listed_in_records(_: &Scene) -> Cell {
    served_by_listed(&fragments(&Hello::to(LISTED).message(), 8))
}

pub(super) fn listed_in_segments(_: &Scene) -> Cell {
    let mut talk = Talk::open(Place::Listed.at(443));
    talk.trickle(&Hello::to(LISTED).octets(), Duration::from_millis(1));
    served(&mut talk)
}

pub(super) fn large_in_two(_: &Scene) -> Cell {
    let hello = Hello::to(LISTED).padded(1600).octets();
    let (first, second) = hello.split_at_checked(1400).unwrap_or_default();
    let mut talk = Talk::open(Place::Listed.at(443));
    talk.send(first);
    std::thread::park_timeout(Duration::from_millis(300));
    talk.send(second);
    served(&mut talk)
}

pub(super) fn very_large(_: &Scene) -> Cell {
    served_by_listed(&Hello::to(LISTED).padded(12_000).octets())
}

pub(super) fn two_names(scene: &Scene) -> Cell {
    let both = |names: &[&[u8]]| Hello::nameless().and(SERVER_NAME, server_names(names)).octets();
    let twice = |first: &str, second: &str| {
        Hello::to(second).and(SERVER_NAME, server_names(&[first.as_bytes()])).octets()
    };
    let ways = [
        both(&[LISTED.as_bytes(), DENIED.as_bytes()]),
        twice(LISTED, DENIED),
        twice(DENIED, LISTED),
    ];
    each_refused(scene, ways.map(to_listed).into())
}

pub(super) fn no_name(scene: &Scene) -> Cell {
    each_refused(scene, vec![to_listed(Hello::nameless().octets())])
}

pub(super) fn odd_names(scene: &Scene) -> Cell {
    let long = format!("{}{LISTED}", "a.".repeat(130));
    let names = [
        "",
        "10.9.2.10",
        "listed.example:443",
        "listed.example\0.denied.example",
        "denied.example\0listed.example",
        "listed.example\n",
        " listed.example",
        "listed.example.denied.example",
        &long,
    ];
    each_refused(scene, names.map(|name| to_listed(Hello::to(name).octets())).into())
}

pub(super) fn capitals(_: &Scene) -> Cell {
    served_by_listed(&Hello::to("LISTED.Example").octets())
}

pub(super) fn not_tls(scene: &Scene) -> Cell {
    // A hello of SSL 2.0 that offers TLS 1.2 and names nobody.
    let old = [&[0x80, 0x2e, 1, 3, 3, 0, 21, 0, 0, 0, 16][..], &[0; 37]].concat();
    let ways = [
        b"GET / HTTP/1.1\r\nHost: listed.example\r\n\r\n".to_vec(),
        b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
        old,
        // A record that holds something else than a hello.
        record(&[2, 0, 0, 4, 3, 3, 0, 0]),
        [&[23, 3, 3, 0, 32][..], &[7; 32]].concat(),
    ];
    each_refused(scene, ways.map(to_listed).into())
}

pub(super) fn recorded(_: &Scene) -> Cell {
    let names = ["chromium", "curl-openssl", "firefox", "gnutls", "openssl-tls12", "rustls"];
    let cells = names.map(|name| served_by_listed(&hello_of(name)));
    cells.into_iter().find(|cell| *cell != Cell::Works).unwrap_or(Cell::Works)
}

pub(super) fn recorded_in_records(_: &Scene) -> Cell {
    served_by_listed(&hello_of("openssl-fragments"))
}

fn hello_of(client: &str) -> Vec<u8> {
    fs::read(format!("tests/data/hello/{client}.bin")).expect("a recorded hello")
}

pub(super) fn slow(_: &Scene) -> Cell {
    let mut talk = Talk::open(Place::Listed.at(443));
    talk.trickle(&Hello::to(LISTED).padded(400).octets(), Duration::from_millis(500));
    if talk.is_over { Cell::Cut(talk.lasted()) } else { Cell::Hangs }
}

pub(super) fn denied_v6(scene: &Scene) -> Cell {
    let to = Place::Denied.at_v6(443);
    each_refused(scene, vec![Way { to, ..to_denied(Hello::to(DENIED).octets()) }])
}

pub(super) fn listed_v6(_: &Scene) -> Cell {
    let mut talk = Talk::open(Place::Listed.at_v6(443));
    talk.send(&Hello::to(LISTED).octets());
    served(&mut talk)
}

pub(super) fn inside(scene: &Scene) -> Cell {
    each_refused(scene, vec![to_listed(Hello::to("inside.example").octets())])
}

pub(super) fn early_data(scene: &Scene) -> Cell {
    let early = [&[23, 3, 3, 0, 64][..], &[0xe5; 64]].concat();
    let cell = served_by_listed(&[Hello::to(LISTED).octets(), early.clone()].concat());
    std::thread::park_timeout(Duration::from_millis(100));
    let is_whole = scene.arrivals().iter().any(|arrival| arrival.holds(&early));
    if cell == Cell::Works && !is_whole { Cell::Refused } else { cell }
}

fn served_by_listed(octets: &[u8]) -> Cell {
    let mut talk = Talk::open(Place::Listed.at(443));
    talk.send(octets);
    served(&mut talk)
}

/// Nothing of it may reach any server.
fn to_listed(octets: Vec<u8>) -> Way {
    Way { to: Place::Listed.at(443), octets, is_forbidden: reached_any }
}

fn to_denied(octets: Vec<u8>) -> Way {
    Way { to: Place::Denied.at(443), octets, is_forbidden: reached_denied }
}

const LISTED: &str = "listed.example";
const DENIED: &str = "denied.example";
