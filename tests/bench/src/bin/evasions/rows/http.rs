//! What is tried on port 80.

use std::time::Duration;

use crate::{
    client::Talk,
    scene::{Arrival, Place, Scene},
};

use super::{Cell, Way, all_of, each_refused, reached_any, reached_denied, rerouted, verdict};

pub(super) fn forged_address(scene: &Scene) -> Cell {
    let mut talk = Talk::open(Place::Denied.at(80));
    talk.send(get("listed.example").as_bytes());
    rerouted(scene, verdict(scene, &mut talk, reached_any))
}

pub(super) fn second_request(scene: &Scene) -> Cell {
    let mut talk = Talk::open(Place::Listed.at(80));
    talk.send(get("listed.example").as_bytes());
    talk.until(|talk| talk.octets.ends_with(b"page\n"));
    talk.send(get("denied.example").as_bytes());
    answered(scene, &mut talk, 2)
}

pub(super) fn pipelined(scene: &Scene) -> Cell {
    let mut talk = Talk::open(Place::Listed.at(80));
    talk.send([get("listed.example"), get("denied.example")].concat().as_bytes());
    answered(scene, &mut talk, 2)
}

pub(super) fn odd_hosts(scene: &Scene) -> Cell {
    let both = |first: &str, second: &str| {
        format!("GET / HTTP/1.1\r\nHost: {first}\r\nHost: {second}\r\n\r\n")
    };
    let target =
        |target: &str, host: &str| format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let of_denied = [
        both("listed.example", "denied.example"),
        both("denied.example", "listed.example"),
        target("http://denied.example/", "listed.example"),
        target("http://listed.example@denied.example/", "listed.example"),
    ];
    let of_nobody = [String::from("GET / HTTP/1.1\r\n\r\n"), target("/", "")];
    let mut ways = Vec::new();
    ways.extend(of_denied.map(|head| to_listed(head, names_denied)));
    ways.extend(of_nobody.map(|head| to_listed(head, reached_any)));
    each_refused(scene, ways)
}

pub(super) fn connect(scene: &Scene) -> Cell {
    let head = |host: &str| format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let ways = ["listed.example", "denied.example"].map(|host| to_listed(head(host), reached_any));
    each_refused(scene, ways.into())
}

pub(super) fn upgrades(scene: &Scene) -> Cell {
    fn is_upgrade(arrival: &Arrival) -> bool {
        arrival.holds("websocket") || arrival.holds("h2c") || arrival.holds("PRI * HTTP/2.0")
    }
    let head = |protocol: &str| {
        format!(
            "GET / HTTP/1.1\r\nHost: listed.example\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n"
        )
    };
    let prior = String::from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    let heads = [head("websocket"), head("h2c"), prior];
    let ways = heads.map(|head| to_listed(head, is_upgrade));
    refused_or_answered(scene, ways.into())
}

pub(super) fn two_readings(scene: &Scene) -> Cell {
    /// Each as a strict reader never sends it on.
    fn is_odd(arrival: &Arrival) -> bool {
        let odd: [&[u8]; 9] = [
            b"HTTP/1.1\nHost",
            b"a\rHost",
            b"X: a\r\n b",
            b"Host : ",
            b"a\0b",
            b"Length: 1\r\nContent-Length: 2",
            b"Length: +1",
            b"encoding: xchunked",
            b"smuggled",
        ];
        odd.iter().any(|odd| arrival.holds(odd))
    }
    let post = |fields: &str| format!("POST / HTTP/1.1\r\nHost: listed.example\r\n{fields}");
    let ways = [
        String::from("GET / HTTP/1.1\nHost: listed.example\n\n"),
        String::from("GET / HTTP/1.1\r\nHost: listed.example\r\nX: a\rHost: b\r\n\r\n"),
        String::from("GET / HTTP/1.1\r\nHost: listed.example\r\nX: a\r\n b\r\n\r\n"),
        String::from("GET / HTTP/1.1\r\nHost : listed.example\r\n\r\n"),
        String::from("GET / HTTP/1.1\r\nHost: listed.example\r\nX: a\0b\r\n\r\n"),
        post("Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        post("Content-Length: +1\r\n\r\na"),
        post("Transfer-encoding: xchunked\r\n\r\n0\r\n\r\n"),
        // Whoever heeds the length sees one request, whoever heeds the chunks sees two.
        post(
            "Content-Length: 51\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
             GET /smuggled HTTP/1.1\r\nHost: denied.example\r\n\r\n",
        ),
    ];
    refused_or_answered(scene, ways.map(|head| to_listed(head, is_odd)).into())
}

pub(super) fn slow(_: &Scene) -> Cell {
    let head = format!("GET / HTTP/1.1\r\nHost: listed.example\r\nX: {}\r\n\r\n", "a".repeat(200));
    let mut talk = Talk::open(Place::Listed.at(80));
    talk.trickle(head.as_bytes(), Duration::from_millis(500));
    if talk.is_over || !talk.octets.is_empty() { Cell::Cut(talk.lasted()) } else { Cell::Hangs }
}

/// As [`each_refused`], but an answer is as good as an end: a connection may live on behind it.
fn refused_or_answered(scene: &Scene, ways: Vec<Way>) -> Cell {
    all_of(scene, ways, |talk, is_forbidden| {
        let cell = answered(scene, talk, 1);
        let has_passed = cell == Cell::Refused && scene.arrivals().iter().any(is_forbidden);
        if has_passed { Cell::Passed(1, 1) } else { cell }
    })
}

/// Waits for so many answers, or the end; anything for a host that is not listed has passed.
fn answered(scene: &Scene, talk: &mut Talk, count: usize) -> Cell {
    let answers =
        |talk: &Talk| talk.octets.windows(STATUS.len()).filter(|window| *window == STATUS).count();
    let has_passed = || scene.arrivals().iter().any(names_denied);
    talk.until(|talk| answers(talk) >= count || has_passed());
    std::thread::park_timeout(Duration::from_millis(100));
    match (has_passed(), talk.is_over || answers(talk) >= count) {
        (true, _) => Cell::Passed(1, 1),
        (false, true) => Cell::Refused,
        (false, false) => Cell::Hangs,
    }
}

fn names_denied(arrival: &Arrival) -> bool {
    reached_denied(arrival) || arrival.holds("denied.example")
}

fn get(host: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

fn to_listed(head: String, is_forbidden: fn(&Arrival) -> bool) -> Way {
    Way { to: Place::Listed.at(80), octets: head.into_bytes(), is_forbidden }
}

const STATUS: &[u8] = b"HTTP/1.";
