//! The rows: what is tried, and what a cell says of it.

mod http;
mod rest;
mod tls;

use std::{fmt, time::Duration};

use crate::{
    client::{LONG_PATIENCE, Talk},
    programs::Program,
    scene::{Arrival, Place, Scene},
};

/// One thing that is tried.
pub(crate) struct Row {
    /// The evasion's number in the table the suite's tests are named for.
    pub(crate) number: u8,
    pub(crate) what: &'static str,
    part: Part,
    wanted: Wanted,
    tried: fn(&Scene) -> Cell,
}

/// What a program has to do with to be tried at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Tls,
    Http,
    /// Where a listed name leads. A name that leads back is tried last: not everyone survives it.
    Resolution,
    /// What is neither port 80 nor port 443 over TCP.
    Rest,
}

/// What a program that holds does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// Nothing forbidden gets through, and the subscriber is told.
    Refusal,
    /// What is allowed works, however odd it looks.
    Service,
}

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    /// Nothing forbidden reached a server, and the connection was ended.
    Refused,
    /// So many of so many forbidden things reached a server.
    Passed(usize, usize),
    /// Nothing reached a server, and nothing was said within the client's patience.
    Hangs,
    /// The listed host was reached in the place of the forbidden one.
    Rerouted,
    /// What is allowed worked.
    Works,
    /// The connection was ended after so long.
    Cut(Duration),
    /// The program dials itself again and again.
    Loops,
    /// It is not the program's part.
    NotItsPart,
}

/// Every row, in the order of trying.
pub(crate) const ROWS: &[Row] = &[
    refused(1, "listed name at another server's address", Part::Tls, tls::forged_address),
    refused(1, "the same over HTTP", Part::Http, http::forged_address),
    refused(2, "second hello, after a retry request, names another", Part::Tls, tls::changed_hello),
    works(2, "honest second hello", Part::Tls, tls::honest_retry),
    refused(4, "unlisted name over records of eight octets", Part::Tls, tls::denied_in_records),
    refused(4, "unlisted name, listed one behind a record's end", Part::Tls, tls::two_faced),
    works(4, "listed name over records of eight octets", Part::Tls, tls::listed_in_records),
    works(4, "recorded hello of OpenSSL in three records", Part::Tls, tls::recorded_in_records),
    works(5, "listed name in segments of one octet", Part::Tls, tls::listed_in_segments),
    works(5, "hello of 1.8 kB in two segments", Part::Tls, tls::large_in_two),
    works(5, "hello of 12 kB", Part::Tls, tls::very_large),
    refused(7, "two names, three ways", Part::Tls, tls::two_names),
    refused(8, "no name", Part::Tls, tls::no_name),
    refused(9, "name that is none, nine ways", Part::Tls, tls::odd_names),
    works(10, "listed name in capitals", Part::Tls, tls::capitals),
    refused(11, "what is not TLS, five ways", Part::Tls, tls::not_tls),
    works(14, "recorded hellos of six clients", Part::Tls, tls::recorded),
    refused(
        15,
        "second request of a connection for another host",
        Part::Http,
        http::second_request,
    ),
    refused(16, "the same, pipelined", Part::Http, http::pipelined),
    refused(17, "two hosts, none, or one in the target, six ways", Part::Http, http::odd_hosts),
    refused(18, "CONNECT", Part::Http, http::connect),
    refused(19, "upgrade, HTTP/2", Part::Http, http::upgrades),
    refused(20, "head to be read in two ways, nine ways", Part::Http, http::two_readings),
    refused(21, "hello, an octet each half second", Part::Tls, tls::slow),
    refused(21, "request head, an octet each half second", Part::Http, http::slow),
    refused(22, "QUIC", Part::Rest, rest::quic),
    refused(24, "DNS over TLS to a server outside", Part::Rest, rest::dns_over_tls),
    refused(25, "question for an unlisted name", Part::Rest, rest::question),
    refused(26, "another port", Part::Rest, rest::other_port),
    refused(27, "unlisted name over IPv6", Part::Tls, tls::denied_v6),
    works(27, "listed name over IPv6", Part::Tls, tls::listed_v6),
    refused(28, "listed name that leads to the gateway's loopback", Part::Resolution, tls::inside),
    works(30, "octets behind the hello", Part::Tls, tls::early_data),
    refused(29, "listed name that leads back to the gateway", Part::Resolution, rest::back_again),
];

const fn refused(number: u8, what: &'static str, part: Part, tried: fn(&Scene) -> Cell) -> Row {
    Row { number, what, part, wanted: Wanted::Refusal, tried }
}

const fn works(number: u8, what: &'static str, part: Part, tried: fn(&Scene) -> Cell) -> Row {
    Row { number, what, part, wanted: Wanted::Service, tried }
}

impl Row {
    /// Tries it on the program that runs.
    pub(crate) fn tried(&self, scene: &Scene, program: Program) -> Cell {
        if !program.does(self.part) {
            return Cell::NotItsPart;
        }
        scene.forget();
        (self.tried)(scene)
    }

    /// Whether this is what a program that holds does.
    pub(crate) fn is_well(&self, cell: Cell) -> bool {
        match (cell, self.wanted) {
            (Cell::Refused | Cell::Rerouted | Cell::NotItsPart, Wanted::Refusal)
            | (Cell::Works | Cell::NotItsPart, Wanted::Service) => true,
            (Cell::Cut(after), Wanted::Refusal) => after < LONG_PATIENCE,
            (
                Cell::Refused
                | Cell::Rerouted
                | Cell::Cut(_)
                | Cell::Passed(..)
                | Cell::Hangs
                | Cell::Works
                | Cell::Loops,
                _,
            ) => false,
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => out.write_str("refused"),
            Self::Passed(1, 1) => out.write_str("**passed**"),
            Self::Passed(count, of) => write!(out, "**passed** {count} of {of}"),
            Self::Hangs => out.write_str("hangs"),
            Self::Rerouted => out.write_str("rerouted"),
            Self::Works => out.write_str("works"),
            Self::Cut(after) => write!(out, "cut after {:.0} s", after.as_secs_f64()),
            Self::Loops => out.write_str("**loops**"),
            Self::NotItsPart => out.write_str("–"),
        }
    }
}

/// One way of a row: what is sent where, and what must not reach a server.
struct Way {
    to: std::net::SocketAddr,
    octets: Vec<u8>,
    is_forbidden: fn(&Arrival) -> bool,
}

/// Tries every way; what is worst counts.
fn each_refused(scene: &Scene, ways: Vec<Way>) -> Cell {
    all_of(scene, ways, |talk, is_forbidden| verdict(scene, talk, is_forbidden))
}

/// The same, with a judgement of one's own.
fn all_of(
    scene: &Scene,
    ways: Vec<Way>,
    judged: impl Fn(&mut Talk, fn(&Arrival) -> bool) -> Cell,
) -> Cell {
    let cells: Vec<Cell> = ways
        .into_iter()
        .map(|Way { to, octets, is_forbidden }| {
            scene.forget();
            let mut talk = Talk::open(to);
            talk.send(&octets);
            judged(&mut talk, is_forbidden)
        })
        .collect();
    let passed = cells.iter().filter(|cell| matches!(cell, Cell::Passed(..))).count();
    if passed > 0 {
        Cell::Passed(passed, cells.len())
    } else if cells.contains(&Cell::Hangs) {
        Cell::Hangs
    } else {
        Cell::Refused
    }
}

/// What came through to the listed host, and to no other, does no harm.
fn rerouted(scene: &Scene, cell: Cell) -> Cell {
    let is_listed = scene.arrivals().iter().all(|arrival| arrival.place == Place::Listed);
    if cell == Cell::Passed(1, 1) && is_listed { Cell::Rerouted } else { cell }
}

/// How what was said ends.
fn verdict(scene: &Scene, talk: &mut Talk, is_forbidden: fn(&Arrival) -> bool) -> Cell {
    let has_passed = || scene.arrivals().iter().any(is_forbidden);
    // An answer is as good as an end: a connection may live on behind it.
    talk.until(|talk| has_passed() || !talk.octets.is_empty());
    if !has_passed() {
        // What was under way when the connection ended.
        std::thread::park_timeout(Duration::from_millis(100));
    }
    match (has_passed(), talk.is_over || !talk.octets.is_empty()) {
        (true, _) => Cell::Passed(1, 1),
        (false, true) => Cell::Refused,
        (false, false) => Cell::Hangs,
    }
}

/// Whether a server answered, as servers of TLS do.
fn served(talk: &mut Talk) -> Cell {
    let is_answered = |talk: &Talk| talk.octets.first() == Some(&HANDSHAKE);
    talk.until(|talk| !talk.octets.is_empty());
    match (is_answered(talk), talk.is_over || !talk.octets.is_empty()) {
        (true, _) => Cell::Works,
        (false, true) => Cell::Refused,
        (false, false) => Cell::Hangs,
    }
}

/// Whether it is a connection to where no listed name leads, or octets for there.
fn reached_denied(arrival: &Arrival) -> bool {
    arrival.place == Place::Denied
}

/// Whether any server was sent anything.
fn reached_any(arrival: &Arrival) -> bool {
    reached_denied(arrival) || !arrival.octets().is_empty()
}

const HANDSHAKE: u8 = 22;
