//! What is tried beside ports 80 and 443 of TCP, and the way back to the gateway.

use std::{io::ErrorKind, time::Duration};

use bench::network::{GATEWAY, command};

use crate::{
    client::{Talk, datagram},
    crafted::Hello,
    scene::{Place, Scene},
};

use super::{Cell, Way, each_refused, reached_denied};

pub(super) fn quic(_: &Scene) -> Cell {
    // An Initial of version 1 as far as anyone without its keys can tell.
    let initial = [&[0xc0, 0, 0, 0, 1, 8][..], &[7; 8], &[0, 0, 0x44, 0xb0], &[9; 1182]].concat();
    match datagram(Place::Denied.at(443), &initial) {
        Err(ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable) => Cell::Refused,
        Err(ErrorKind::PermissionDenied) => Cell::Refused,
        Err(_) => Cell::Hangs,
        Ok(_) => Cell::Passed(1, 1),
    }
}

pub(super) fn dns_over_tls(scene: &Scene) -> Cell {
    connection_to(scene, 853)
}

pub(super) fn other_port(scene: &Scene) -> Cell {
    connection_to(scene, 25)
}

fn connection_to(scene: &Scene, port: u16) -> Cell {
    let to = Place::Denied.at(port);
    each_refused(scene, vec![Way { to, octets: vec![22], is_forbidden: reached_denied }])
}

pub(super) fn question(_: &Scene) -> Cell {
    let header = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    let name = b"\x06denied\x07example\0\0\x01\0\x01";
    // The server outside: the steering brings the question to the gateway.
    let answer = datagram(Place::Denied.at(53), &[&header[..], name].concat());
    match answer.ok().and_then(|answer| answer.get(3).copied()) {
        Some(flags) if flags & 0xf == NXDOMAIN => Cell::Refused,
        Some(_) => Cell::Passed(1, 1),
        None => Cell::Hangs,
    }
}

pub(super) fn back_again(_: &Scene) -> Cell {
    let before = connections();
    let mut talk = Talk::open(Place::Listed.at(443));
    talk.send(&Hello::to("loop.example").octets());
    talk.until(|talk| talk.lasted() > Duration::from_secs(2));
    let grown = connections().saturating_sub(before);
    match (grown > FEW, talk.is_over) {
        (true, _) => Cell::Loops,
        (false, true) => Cell::Refused,
        (false, false) => Cell::Hangs,
    }
}

/// Connections of the gateway, of any state.
fn connections() -> usize {
    let listed = command(GATEWAY, "ss").args(["-Htna"]).output();
    listed.map_or(0, |listed| listed.stdout.split(|octet| *octet == b'\n').count())
}

const NXDOMAIN: u8 = 3;
/// Connections that one session may take.
const FEW: usize = 20;
