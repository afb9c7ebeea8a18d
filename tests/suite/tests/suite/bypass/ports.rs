//! Ways around the garden on other ports and protocols, and through names.

use std::{
    io::{self, Read},
    net::{SocketAddr, TcpListener, UdpSocket},
};

use lab::{Fetch, Outcome, Question, Seen, Transport};
use socket2::{Domain, Protocol, Socket, Type};

use crate::stage::{
    BING, Family, LOGIN, address, assert_reached, assert_refused, assert_sealed, at,
    gateway_address, world,
};

#[test]
fn row_29_own_ports_of_the_gateway_are_shut() {
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
fn row_26_other_ports_are_refused_at_once() {
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
fn row_22_burst_of_quic_is_refused_at_once() {
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
fn row_23_no_shape_of_quic_begins_anything_while_it_is_refused() {
    let world = world();
    for family in Family::BOTH {
        let to = at(LOGIN, family, 443);
        for datagram in [
            // Initial packets of versions 1 and 2, of one that nobody speaks, a short header.
            &[0xc0, 0, 0, 0, 1, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0x44, 0x9e][..],
            &[0xd0, 0x6b, 0x33, 0x43, 0xcf, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0x44, 0x9e],
            &[0xc0, 0x0a, 0x1a, 0x2a, 0x3a, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0],
            &[0x40, 1, 2, 3, 4, 5, 6, 7, 8],
        ] {
            assert_refused("QUIC", &world.ue(1).send_datagram(to, datagram));
        }
        assert_eq!(world.connections_to(to), 0);
    }
    assert_sealed(&world);
}

#[test]
fn row_22_answer_on_port_80_does_not_invite_to_quic() {
    let world = world();
    for family in Family::BOTH {
        let seen = world.ue(1).fetch(&Fetch::http(LOGIN, family));
        assert_reached(LOGIN, &seen);
        let Outcome::Answered(answer) = &seen.outcome else { unreachable!() };
        assert_eq!(answer.header("alt-svc"), None);
        // The origin says so to those it can be sure of.
        let seen = world.ue(1).fetch(&Fetch::https(LOGIN, family));
        let Outcome::Answered(answer) = &seen.outcome else { panic!("{seen}") };
        assert_eq!(answer.header("alt-svc"), Some("h3=\":443\""));
    }
}

#[test]
fn row_24_resolvers_of_the_sims_choice_are_out_of_reach() {
    let world = world();
    for family in Family::BOTH {
        // Port 853 is refused with the other ports.
        for host in ["dns.google", "cloudflare-dns.com", "mozilla.cloudflare-dns.com"] {
            let page = Fetch::https(host, family).at(address(BING, family));
            assert_refused(host, &world.ue(1).fetch(&page));
        }
        // Where the answer is that there is none, Firefox and Windows leave their own resolver be.
        for (name, kind) in [("use-application-dns.net", "A"), ("_dns.resolver.arpa", "SVCB")] {
            let answer = world.ue(1).ask(&Question::address(name, family).of_kind(kind));
            assert!(answer.answers.is_empty(), "{name}: {answer}");
            assert_eq!(world.upstream_questions(name, None), 0, "{name}");
        }
    }
    assert_sealed(&world);
}

#[test]
fn row_26_other_protocols_are_not_forwarded() {
    let world = world();
    for family in Family::BOTH {
        for host in [LOGIN, BING] {
            let to = at(host, family, 0);
            // IP in IP, GRE, ESP, AH, SCTP.
            let after = world.ue(1).namespace().call(move || {
                for protocol in [4, 47, 50, 51, 132] {
                    raw(to, protocol, &[0; 40]).unwrap();
                }
                ping(to)
            });
            // What was sent before has been dealt with.
            assert!(after.is_ok(), "{after:?}");
        }
    }
    assert_sealed(&world);
}

#[test]
fn row_27_extension_headers_open_nothing() {
    let world = world();
    let to = at(BING, Family::V6, 0);
    let udp = [&[0x9c, 0x40, 1, 0xbb, 0, 12, 0, 0][..], b"data"].concat();
    let options = [&[17, 0, 1, 4, 0, 0, 0, 0][..], &udp].concat();
    let fragment = [&[17, 0, 0, 0, 0, 0, 0, 1][..], &udp].concat();
    let after = world.ue(1).namespace().call(move || {
        for (protocol, octets) in [(DESTINATION_OPTIONS, options), (FRAGMENT, fragment)] {
            raw(to, protocol, &octets).unwrap();
        }
        ping(to)
    });
    assert!(after.is_ok(), "{after:?}");
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
fn row_25_data_in_the_name_of_a_question_does_not_leave() {
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
fn row_26_ping_is_not_forwarded() {
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

/// Sends octets behind an IP header of this protocol.
fn raw(to: SocketAddr, protocol: i32, octets: &[u8]) -> io::Result<usize> {
    let socket = Socket::new(Domain::for_address(to), Type::RAW, Some(Protocol::from(protocol)))?;
    socket.send_to(octets, &to.into())
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

const DATAGRAM: &[u8] = b"not a QUIC packet";

/// Datagrams at once, each from a port of its own.
const BURST: usize = 200;

/// Extension headers of IPv6 (RFC 8200 sections 4.5 and 4.6).
const FRAGMENT: i32 = 44;
const DESTINATION_OPTIONS: i32 = 60;

/// A raw IPv4 socket gives the header too.
const IPV4_HEADER: usize = 20;
