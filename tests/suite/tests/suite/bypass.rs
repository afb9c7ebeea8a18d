//! Ways around the garden, one test each. Every one goes through the real steering and the real gateway, in both
//! families, to servers that would answer; afterwards no decoy may have seen anything.

use std::{
    io::{self, Read},
    net::{SocketAddr, TcpListener, UdpSocket},
    time::Duration,
};

use lab::{Fetch, Outcome, Question, Seen, Transport, World};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    hello::{Hello, alert},
    stage::{
        BING, Family, HTTP_ONLY, LOGIN, PORTAL, TWIN, address, assert_reached, assert_refused,
        assert_sealed, at, gateway_address, metric, world,
    },
};

#[test]
fn second_request_of_a_connection_is_judged() {
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
fn pipelined_request_is_judged() {
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
fn request_smuggled_in_a_body_is_not_one() {
    let hidden = get("/", &[BING]);
    let length = format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", hidden.len() + 5);
    let request =
        [format!("POST / HTTP/1.1\r\nHost: {LOGIN}\r\n{length}\r\n0\r\n\r\n").as_bytes(), &hidden]
            .concat();
    assert_turned_away("both framings", &request);
}

#[test]
fn request_without_host_is_refused() {
    assert_turned_away("no Host", &get("/", &[]));
    assert_turned_away("no Host in HTTP/1.0", b"GET / HTTP/1.0\r\n\r\n");
    assert_turned_away("an empty Host", &get("/", &[""]));
}

#[test]
fn request_with_two_hosts_is_refused() {
    assert_turned_away("two Hosts", &get("/", &[LOGIN, BING]));
    assert_turned_away("two Hosts, reversed", &get("/", &[BING, LOGIN]));
}

#[test]
fn absolute_form_that_names_another_host_is_refused() {
    assert_turned_away("absolute form", &get(&format!("http://{BING}/"), &[LOGIN]));
    assert_turned_away("absolute form, reversed", &get(&format!("http://{LOGIN}/"), &[BING]));
}

#[test]
fn host_that_is_an_address_is_refused() {
    for literal in ["203.0.113.12", "[2001:db8:113::c]", "3405803788", "0xcb.0.0x71.0xc"] {
        assert_turned_away(literal, &get("/", &[literal]));
    }
}

#[test]
fn connect_is_refused() {
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
fn upgrade_is_refused() {
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\n";
    let request = format!("GET / HTTP/1.1\r\nHost: {LOGIN}\r\n{upgrade}\r\n");
    assert_turned_away("an upgrade", request.as_bytes());
}

#[test]
fn http_2_on_port_80_is_refused() {
    assert_turned_away("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
}

#[test]
fn forged_name_on_a_decoys_address_reaches_the_real_host() {
    let world = world();
    for family in Family::BOTH {
        for page in [Fetch::https(LOGIN, family), Fetch::http(LOGIN, family)] {
            let seen = world.ue(1).fetch(&page.at(address(BING, family)));
            assert_reached(LOGIN, &seen);
            let Outcome::Answered(answer) = &seen.outcome else { unreachable!() };
            let own = Family::BOTH.map(|family| address(LOGIN, family));
            let came_in: SocketAddr = answer.address().unwrap().parse().unwrap();
            assert!(own.contains(&came_in.ip().to_canonical()), "{came_in}");
        }
    }
    assert!(metric(&world, "postern_destination_mismatch_total", &[]) >= 4.0);
    assert_sealed(&world);
}

#[test]
fn twin_on_the_same_address_is_refused() {
    let world = world();
    for family in Family::BOTH {
        let login = address(LOGIN, family);
        assert_reached(LOGIN, &world.ue(1).fetch(&Fetch::https(LOGIN, family).at(login)));
        assert_alert("TLS", &world.ue(1).fetch(&Fetch::https(TWIN, family).at(login)));
        assert_refused("HTTP", &world.ue(1).fetch(&Fetch::http(TWIN, family).at(login)));
    }
    assert_sealed(&world);
}

#[test]
fn host_inside_tls_does_not_save_a_denied_name() {
    let world = world();
    for family in Family::BOTH {
        let page = Fetch::https(LOGIN, family).with_sni(BING).with_host(LOGIN);
        assert_alert("a front", &world.ue(1).fetch(&page));
    }
    assert_eq!(world.hits(LOGIN).connections, 0);
    assert_sealed(&world);
}

#[test]
fn hello_without_a_name_is_refused() {
    assert_hello_refused("no name", &Hello::nameless());
}

#[test]
fn hello_that_names_an_address_is_refused() {
    for family in Family::BOTH {
        assert_hello_refused("an address", &Hello::to(&address(LOGIN, family).to_string()));
    }
}

#[test]
fn hello_with_two_names_is_refused() {
    assert_hello_refused("two names", &Hello::to(LOGIN).and(BING));
    assert_hello_refused("two names, reversed", &Hello::to(BING).and(LOGIN));
    assert_hello_refused("one name twice", &Hello::to(LOGIN).and(LOGIN));
}

#[test]
fn hello_with_a_disguised_name_is_refused() {
    for name in [
        "login.live.com\0.www.bing.com",
        "www.bing.com\0.login.live.com",
        "login.live.com..",
        ".login.live.com",
        "login.live.com.www.bing.com",
        "evil-login.live.com",
        "login.live.com:443",
        "login。live。com",
        "smartscreen.microsoft.com.www.bing.com",
    ] {
        assert_hello_refused(name, &Hello::to(name));
    }
}

#[test]
fn second_hello_for_another_name_is_cut() {
    let world = world();
    for family in Family::BOTH {
        let first = Hello::to(LOGIN).without_share();
        let honest = after_retry(&world, family, &first, &Hello::to(LOGIN));
        assert_eq!(honest.first(), Some(&HANDSHAKE), "the origin goes on: {honest:?}");
        let hellos = world.hits(LOGIN).hellos;
        let forged = after_retry(&world, family, &first, &Hello::to(BING));
        assert_ne!(forged.first(), Some(&HANDSHAKE), "{family}: {forged:?}");
        assert_eq!(world.hits(LOGIN).hellos, hellos + 1, "the first hello was forwarded");
    }
    let changed = [("reason", "hello-changed")];
    assert_eq!(metric(&world, "postern_decisions_total", &changed), 2.0);
    assert_sealed(&world);
}

#[test]
fn other_scheme_of_a_listed_host_is_refused_within_100_ms() {
    let world = world();
    for family in Family::BOTH {
        for page in [Fetch::https(HTTP_ONLY, family), Fetch::http(PORTAL, family)] {
            let page =
                page.clone().at(address(if page.is_secure() { HTTP_ONLY } else { PORTAL }, family));
            let seen: Vec<Seen> = (0..5).map(|_| world.ue(1).fetch(&page)).collect();
            seen.iter().for_each(|seen| assert_refused(&page.title(), seen));
            // The quickest counts: the machine may be busy with other tests.
            let quickest = seen.iter().map(|seen| seen.elapsed).min().unwrap();
            assert!(quickest < Duration::from_millis(100), "{}: {quickest:?}", page.title());
        }
    }
    for host in [HTTP_ONLY, PORTAL] {
        assert_eq!(world.hits(host).connections, 0, "{host}");
    }
    assert_sealed(&world);
}

#[test]
fn own_ports_of_the_gateway_are_shut() {
    let world = world();
    let ports = ["dns", "http", "https"].map(|service| {
        let bound = world.gateway().listening(service);
        bound.first().unwrap_or_else(|| panic!("no {service}")).port()
    });
    for family in Family::BOTH {
        for host in [gateway_address(family), address(LOGIN, family), address(BING, family)] {
            for port in ports {
                let to = SocketAddr::new(host, port);
                assert_refused(&to.to_string(), &world.ue(1).connect(to));
                assert_refused(&to.to_string(), &world.ue(1).send_datagram(to, DATAGRAM));
            }
            let admin = SocketAddr::new(host, world.gateway().admin_address().unwrap().port());
            assert_refused("the admin port", &world.ue(1).connect(admin));
        }
    }
    assert_sealed(&world);
}

#[test]
fn other_ports_are_refused_at_once() {
    let world = world();
    for family in Family::BOTH {
        for host in [LOGIN, BING] {
            for port in [22, 25, 853, 1080, 3128, 8080] {
                let to = at(host, family, port);
                assert_refused(&to.to_string(), &world.ue(1).connect(to));
            }
            for port in [123, 500, 853, 1194, 51820] {
                let to = at(host, family, port);
                assert_refused(&to.to_string(), &world.ue(1).send_datagram(to, DATAGRAM));
            }
        }
    }
    assert_sealed(&world);
}

#[test]
fn burst_of_quic_is_refused_at_once() {
    let world = world();
    for family in Family::BOTH {
        let to = at(LOGIN, family, 443);
        let refused = world.ue(1).namespace().call(move || {
            let sockets: Vec<UdpSocket> = (0..BURST).map(|_| connected(to)).collect();
            for socket in &sockets {
                socket.send(DATAGRAM).unwrap();
            }
            let refused = |socket: &&UdpSocket| {
                let error = socket.recv(&mut [0; 16]).map_err(|error| error.kind());
                error == Err(io::ErrorKind::ConnectionRefused)
            };
            sockets.iter().take_while(refused).count()
        });
        assert_eq!(refused, BURST, "{family}: after that many there was silence");
    }
    assert_sealed(&world);
}

#[test]
fn question_to_a_server_of_the_sims_choice_is_answered_here() {
    let world = world();
    for family in Family::BOTH {
        for transport in [Transport::Udp, Transport::Tcp] {
            let ask = |name| {
                let question = Question::address(name, family).over(transport);
                world.ue(1).ask(&question.to(at(BING, family, 53)))
            };
            let login = ask(LOGIN);
            assert_eq!(login.addresses().collect::<Vec<_>>(), [address(LOGIN, family)], "{login}");
            let bing = ask(BING);
            assert!(bing.is_denied(), "{bing}");
        }
    }
    assert_eq!(world.upstream_questions(BING, None), 0);
    assert_sealed(&world);
}

#[test]
fn data_in_the_name_of_a_question_does_not_leave() {
    let world = world();
    for family in Family::BOTH {
        for name in ["c2VjcmV0.tunnel.example", "c2VjcmV0.login.live.com", "c2VjcmV0.twin.example"]
        {
            for kind in ["A", "AAAA", "TXT", "NULL", "CNAME", "HTTPS"] {
                let answer = world.ue(1).ask(&Question::address(name, family).of_kind(kind));
                assert!(answer.answers.is_empty(), "{name} {kind}: {answer}");
                assert_eq!(world.upstream_questions(name, None), 0, "{name} {kind}");
            }
        }
    }
    assert_sealed(&world);
}

#[test]
fn ping_is_not_forwarded() {
    let world = world();
    for family in Family::BOTH {
        let to = at(BING, family, 0);
        let refusal = world.ue(1).namespace().call(move || ping(to)).unwrap();
        assert_eq!(refusal, family_of(family, (3, 13), (1, 1)), "admin-prohibited, {family}");
    }
    assert_sealed(&world);
}

#[test]
fn sims_do_not_reach_each_other() {
    let world = world();
    for family in Family::BOTH {
        let other = SocketAddr::new(world.ue(2).address(family), 0);
        let (stream, datagram) = world.ue(2).namespace().call(move || {
            let (stream, datagram) =
                (TcpListener::bind(other).unwrap(), UdpSocket::bind(other).unwrap());
            stream.set_nonblocking(true).unwrap();
            datagram.set_nonblocking(true).unwrap();
            (stream, datagram)
        });
        let to = stream.local_addr().unwrap();
        assert_refused("TCP", &world.ue(1).connect(to));
        let to = datagram.local_addr().unwrap();
        assert_refused("UDP", &world.ue(1).send_datagram(to, DATAGRAM));
        for came in [stream.accept().map(drop), datagram.recv(&mut [0; 16]).map(drop)] {
            assert_eq!(came.map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
        }
    }
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
    for family in Family::BOTH {
        let (answer, seen) = http(&world, family, request);
        assert_refused(what, &seen);
        assert!(!answer.contains("x-lab-host"), "{what}: {answer}");
        assert!(!answer.starts_with("HTTP/1.1 2"), "{what}: {answer}");
    }
    // Others on the way refuse some of these too; they must not be asked.
    assert_eq!(world.hits(LOGIN).connections, 0, "{what}: the host was dialled");
    assert_sealed(&world);
}

/// The hello gets an alert, at once, and no host a connection.
#[track_caller]
fn assert_hello_refused(what: &str, hello: &Hello) {
    let world = world();
    for family in Family::BOTH {
        for host in [LOGIN, BING] {
            let (answer, seen) = world.ue(1).send_bytes(at(host, family, 443), hello.octets());
            assert_refused(what, &seen);
            assert!(alert(&answer).is_some(), "{what}: {answer:?}");
        }
    }
    assert_eq!(world.hits(LOGIN).connections, 0, "{what}: the host was dialled");
    assert_sealed(&world);
}

#[track_caller]
fn assert_alert(what: &str, seen: &Seen) {
    assert_refused(what, seen);
    assert!(matches!(seen.outcome, Outcome::TlsAlert(_)), "{what}: {seen}");
}

/// What the server sends after a second hello that it asked for.
fn after_retry(world: &World, family: Family, first: &Hello, second: &Hello) -> Vec<u8> {
    let (first, second) = (first.octets(), second.octets());
    let to = at(LOGIN, family, 443);
    world.ue(1).namespace().run(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let talk = async {
            let mut stream = tokio::net::TcpStream::connect(to).await.unwrap();
            stream.write_all(&first).await.unwrap();
            let retry = record(&mut stream).await.unwrap();
            assert_eq!(retry[6..38], RETRY_RANDOM[..], "a HelloRetryRequest: {retry:?}");
            stream.write_all(&second).await.unwrap();
            let mut answer = Vec::new();
            loop {
                match record(&mut stream).await {
                    // For middleboxes; says nothing.
                    Ok(record) if record.is_empty() => {}
                    Ok(record) => {
                        answer.push(HANDSHAKE);
                        answer.extend(record);
                        return answer;
                    }
                    Err(_) => return answer,
                }
            }
        };
        /// The content of a handshake record; empty for a change of cipher.
        async fn record(stream: &mut tokio::net::TcpStream) -> io::Result<Vec<u8>> {
            let mut header = [0; 5];
            stream.read_exact(&mut header).await?;
            let mut content = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
            stream.read_exact(&mut content).await?;
            match header[0] {
                HANDSHAKE => Ok(content),
                CHANGE_CIPHER => Ok(Vec::new()),
                other => Err(io::Error::other(format!("a record of type {other}"))),
            }
        }
        tokio::time::timeout(lab::Sim::PATIENCE, talk).await.unwrap()
    })
}

/// Sends an echo request and reads type and code of what comes back.
fn ping(to: SocketAddr) -> io::Result<(u8, u8)> {
    let (protocol, request, header) = match to {
        SocketAddr::V4(_) => (Protocol::ICMPV4, [8, 0, 0xf7, 0xfe, 0, 1, 0, 0], IPV4_HEADER),
        // The kernel fills in the checksum.
        SocketAddr::V6(_) => (Protocol::ICMPV6, [128, 0, 0, 0, 0, 1, 0, 0], 0),
    };
    let mut socket = Socket::new(Domain::for_address(to), Type::RAW, Some(protocol))?;
    socket.set_read_timeout(Some(lab::Sim::PATIENCE))?;
    socket.send_to(&request, &to.into())?;
    loop {
        let mut octets = [0; 256];
        let length = socket.read(&mut octets)?;
        assert!(length >= header + 2, "{length} octets");
        let kind = (octets[header], octets[header + 1]);
        if kind.0 != request[0] {
            return Ok(kind);
        }
    }
}

fn connected(to: SocketAddr) -> UdpSocket {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).unwrap();
    socket.connect(to).unwrap();
    socket.set_read_timeout(Some(Seen::AT_ONCE)).unwrap();
    socket
}

fn family_of<T>(family: Family, v4: T, v6: T) -> T {
    match family {
        Family::V4 => v4,
        Family::V6 => v6,
    }
}

const HANDSHAKE: u8 = 22;
const CHANGE_CIPHER: u8 = 20;
/// What makes a ServerHello a HelloRetryRequest (RFC 8446 section 4.1.3).
const RETRY_RANDOM: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];
const DATAGRAM: &[u8] = b"not a QUIC packet";
/// Datagrams at once, each from a port of its own.
const BURST: usize = 200;
/// A raw IPv4 socket gives the header too.
const IPV4_HEADER: usize = 20;
