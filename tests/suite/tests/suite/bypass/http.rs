//! Ways around the garden on port 80.

use lab::{Fetch, Outcome, Seen, World};

use crate::stage::{BING, Family, LOGIN, assert_reached, assert_refused, assert_sealed, at, world};

#[test]
fn row_15_second_request_of_a_connection_is_judged() {
    let world = world();
    for family in Family::BOTH {
        let page = Fetch::http(LOGIN, family);
        let held = world.ue(1).open(&page).unwrap();
        assert_reached(LOGIN, &held.send(&page));
        assert_refused("the second request", &held.send(&page.clone().with_host(BING)));
    }
    assert_sealed(&world);
}

#[test]
fn row_16_pipelined_request_is_judged() {
    let world = world();
    for family in Family::BOTH {
        let requests = [get("/", &[LOGIN]), get("/", &[BING]), get("/", &[LOGIN])].concat();
        let (answer, seen) = http(&world, family, &requests);
        assert!(matches!(seen.outcome, Outcome::Closed), "{seen}: {answer}");
        assert_eq!(answer.matches("x-lab-host: login.live.com").count(), 1, "{answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 2, "{answer}");
    }
    assert_eq!(world.hits(LOGIN).requests, 2, "what follows a denial is not sent on");
    assert_sealed(&world);
}

#[test]
fn row_20_request_smuggled_in_a_body_is_not_one() {
    let hidden = get("/", &[BING]);
    let length = format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", hidden.len() + 5);
    let request =
        [format!("POST / HTTP/1.1\r\nHost: {LOGIN}\r\n{length}\r\n0\r\n\r\n").as_bytes(), &hidden]
            .concat();
    assert_turned_away("both framings", &request);
}

#[test]
fn row_20_head_that_can_be_read_in_two_ways_is_refused() {
    let world = world();
    let host = format!("Host: {LOGIN}\r\n");
    for (what, request) in [
        ("bare line feeds", format!("GET / HTTP/1.1\nHost: {LOGIN}\n\n")),
        ("a bare carriage return", format!("GET / HTTP/1.1\r\n{host}X: a\rHost: {BING}\r\n\r\n")),
        ("a folded line", format!("GET / HTTP/1.1\r\n{host}X: a\r\n b\r\n\r\n")),
        ("a space before the colon", format!("GET / HTTP/1.1\r\nHost : {LOGIN}\r\n\r\n")),
        ("a NUL", format!("GET / HTTP/1.1\r\n{host}X: a\0b\r\n\r\n")),
        ("a control in the target", format!("GET /\x07 HTTP/1.1\r\n{host}\r\n")),
        (
            "two lengths",
            format!("POST / HTTP/1.1\r\n{host}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        ),
        ("a signed length", format!("POST / HTTP/1.1\r\n{host}Content-Length: +1\r\n\r\na")),
        (
            "chunks in HTTP/1.0",
            format!("POST / HTTP/1.0\r\n{host}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ),
        (
            "another coding",
            format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
        ),
    ] {
        turned_away(&world, what, request.as_bytes());
    }
    assert_sealed(&world);
}

#[test]
fn row_17_request_without_host_is_refused() {
    assert_turned_away("no Host", &get("/", &[]));
    assert_turned_away("no Host in HTTP/1.0", b"GET / HTTP/1.0\r\n\r\n");
    assert_turned_away("an empty Host", &get("/", &[""]));
}

#[test]
fn row_17_request_with_two_hosts_is_refused() {
    assert_turned_away("two Hosts", &get("/", &[LOGIN, BING]));
    assert_turned_away("two Hosts, reversed", &get("/", &[BING, LOGIN]));
}

#[test]
fn row_17_absolute_form_that_names_another_host_is_refused() {
    assert_turned_away("absolute form", &get(&format!("http://{BING}/"), &[LOGIN]));
    assert_turned_away("absolute form, reversed", &get(&format!("http://{LOGIN}/"), &[BING]));
}

#[test]
fn row_17_host_that_is_an_address_is_refused() {
    for literal in ["203.0.113.12", "[2001:db8:113::c]", "3405803788", "0xcb.0.0x71.0xc"] {
        assert_turned_away(literal, &get("/", &[literal]));
    }
}

#[test]
fn row_18_connect_is_refused() {
    for host in [LOGIN, BING] {
        let target = format!("{host}:443");
        let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        assert_turned_away("CONNECT", request.as_bytes());
        let request = format!("CONNECT {host}:80 HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_turned_away("CONNECT to port 80", request.as_bytes());
        let request = format!("CONNECT / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_turned_away("CONNECT with a path", request.as_bytes());
    }
}

#[test]
fn row_19_upgrade_is_refused() {
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\n";
    let request = format!("GET / HTTP/1.1\r\nHost: {LOGIN}\r\n{upgrade}\r\n");
    assert_turned_away("an upgrade", request.as_bytes());
}

#[test]
fn row_19_http_2_on_port_80_is_refused() {
    assert_turned_away("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
}

/// A request with any number of `Host` fields.
fn get(target: &str, hosts: &[&str]) -> Vec<u8> {
    let hosts: String = hosts.iter().map(|host| format!("Host: {host}\r\n")).collect();
    format!("GET {target} HTTP/1.1\r\n{hosts}\r\n").into_bytes()
}

/// What comes back for octets sent to port 80 of a listed host.
fn http(world: &World, family: Family, request: &[u8]) -> (String, Seen) {
    let (answer, seen) = world.ue(1).send_bytes(at(LOGIN, family, 80), request.to_vec());
    (String::from_utf8_lossy(&answer).into_owned(), seen)
}

/// The gateway answers the request itself, at once, and closes; no host sees anything.
#[track_caller]
fn assert_turned_away(what: &str, request: &[u8]) {
    let world = world();
    turned_away(&world, what, request);
    assert_sealed(&world);
}

#[track_caller]
fn turned_away(world: &World, what: &str, request: &[u8]) {
    for family in Family::BOTH {
        let (answer, seen) = http(world, family, request);
        assert_refused(what, &seen);
        assert!(!answer.contains("x-lab-host"), "{what}: {answer}");
        assert!(!answer.starts_with("HTTP/1.1 2"), "{what}: {answer}");
    }
    // Others on the way refuse some of these too; they must not be asked.
    assert_eq!(world.hits(LOGIN).connections, 0, "{what}: the host was dialled");
}
