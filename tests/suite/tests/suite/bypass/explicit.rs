//! Ways around the garden for clients that know the gateway as their proxy, and through load
//! balancers in front of it.

use std::net::SocketAddr;

use lab::{Sim, World};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    hello::Hello,
    stage::{
        BING, Family, HTTP_ONLY, LOGIN, assert_garden, assert_sealed, gateway_address, metric,
        options,
    },
};

#[test]
fn row_18_connect_with_another_name_inside_is_refused() {
    let world = world("");
    for family in Family::BOTH {
        let opened = |hello: Hello| {
            let (answer, inside) = connect(&world, 1, family, &connect_to(LOGIN, 443), &hello);
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            inside
        };
        assert!(matches!(opened(Hello::to(LOGIN))[..], [22, 3, _, _, _, 2]), "{family}");
        assert_eq!(opened(Hello::to(BING)), [21, 3, 3, 0, 2, 2], "{family}");
        assert_eq!(opened(Hello::nameless()), [21, 3, 3, 0, 2, 2], "{family}");
        // Listed as well, but not what was asked for.
        assert_eq!(opened(Hello::to("mps.datamart.windows.com")), [21, 3, 3, 0, 2, 2], "{family}");
    }
    let changed = [("protocol", "https"), ("reason", "hello-changed")];
    assert_eq!(metric(&world, "postern_decisions_total", &changed), 4.0);
    assert_garden(&world);
}

#[test]
fn row_18_connect_to_what_is_not_listed_is_forbidden() {
    let world = world("");
    for family in Family::BOTH {
        for (host, port) in [(BING, 443), (LOGIN, 22), (LOGIN, 80), (HTTP_ONLY, 443)] {
            let request = connect_to(host, port);
            let (answer, inside) = connect(&world, 1, family, &request, &Hello::to(LOGIN));
            assert!(answer.starts_with("HTTP/1.1 403 "), "{host}:{port}: {answer}");
            assert_eq!(inside, [0_u8; 0]);
        }
        let get = |host: &str| {
            format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
        };
        assert!(
            ask(&world, 1, family, get(LOGIN).as_bytes()).contains("x-lab-host: login.live.com")
        );
        assert!(ask(&world, 1, family, get(BING).as_bytes()).starts_with("HTTP/1.1 302 "));
        let other = get(LOGIN).replace("Host: login.live.com", "Host: www.bing.com");
        assert!(ask(&world, 1, family, other.as_bytes()).starts_with("HTTP/1.1 400 "));
    }
    assert_sealed(&world);
}

#[test]
fn subscriber_is_whom_a_trusted_load_balancer_names_and_nobody_else_may() {
    // The first SIM plays the load balancer of a subscriber that no class holds but the default.
    let world = world("proxy_protocol = [\"100.64.1.2/32\", \"2001:db8:64:1::2/128\"]");
    let get = format!("GET http://{BING}/ HTTP/1.1\r\nHost: {BING}\r\n\r\n").into_bytes();
    for family in Family::BOTH {
        let header = header(family);
        let through = ask(&world, 1, family, &[&header[..], &get].concat());
        assert!(through.starts_with("HTTP/1.1 302 "), "{family}: {through}");
        assert_eq!(ask(&world, 1, family, &get), "", "{family}: a balancer without a header");
        let forged = ask(&world, 2, family, &[&header[..], &get].concat());
        assert!(forged.starts_with("HTTP/1.1 400 "), "{family}: {forged}");
        assert!(ask(&world, 2, family, &get).starts_with("HTTP/1.1 302 "), "{family}");
    }
    assert_eq!(metric(&world, "postern_accept_failures_total", &[]), 2.0);
    assert_sealed(&world);
}

#[test]
fn clients_are_served_by_the_process_that_takes_over() {
    let world = world("");
    let successor = world.gateway().upgrade().unwrap();
    world.gateway().wait_for_end(Sim::PATIENCE).unwrap();
    for family in Family::BOTH {
        let hello = Hello::to(LOGIN);
        let (answer, inside) = connect(&world, 1, family, &connect_to(LOGIN, 443), &hello);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(matches!(inside[..], [22, 3, _, _, _, 2]), "{family}");
        let request = connect_to(BING, 443);
        let (answer, _) = connect(&world, 1, family, &request, &hello);
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    }
    successor.stop().unwrap();
}

/// A world whose gateway is a proxy that its clients know of.
fn world(more: &str) -> World {
    let mut options = options();
    options.start_gateway = false;
    let world = World::start(options).unwrap();
    let settings = world.settings_text().unwrap();
    let explicit =
        format!("quic = \"reject\"\nexplicit = [\"0.0.0.0:3128\", \"[::]:3128\"]\n{more}");
    world.write_settings(&settings.replace("quic = \"reject\"", &explicit)).unwrap();
    world.gateway().start().unwrap();
    world
}

fn connect_to(host: &str, port: u16) -> String {
    format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n")
}

/// The answer to a CONNECT, and the first octets that come back for a hello behind it.
fn connect(
    world: &World,
    sim: u8,
    family: Family,
    request: &str,
    hello: &Hello,
) -> (String, Vec<u8>) {
    let (to, request, hello) = (proxy(sim, family), request.to_owned(), hello.octets());
    world.ue(sim).namespace().run(async move {
        let talk = async {
            let mut stream = TcpStream::connect(to).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\n") {
                answer.push(stream.read_u8().await.unwrap());
            }
            let answer = String::from_utf8(answer).unwrap();
            if !answer.starts_with("HTTP/1.1 200 ") {
                return (answer, Vec::new());
            }
            stream.write_all(&hello).await.unwrap();
            let mut first = [0; 6];
            stream.read_exact(&mut first).await.unwrap();
            (answer, first.to_vec())
        };
        timeout(Sim::PATIENCE, talk).await.unwrap()
    })
}

fn ask(world: &World, sim: u8, family: Family, octets: &[u8]) -> String {
    let (answer, _) = world.ue(sim).send_bytes(proxy(sim, family), octets.to_vec());
    String::from_utf8_lossy(&answer).into_owned()
}

/// The proxy, by the gateway's own address towards this SIM.
fn proxy(sim: u8, family: Family) -> SocketAddr {
    let address = gateway_address(family);
    let address = match sim {
        1 => address,
        _ => match family {
            Family::V4 => "100.64.2.1".parse().unwrap(),
            Family::V6 => "2001:db8:64:2::1".parse().unwrap(),
        },
    };
    SocketAddr::new(address, 3128)
}

/// A PROXY header of version 2, for a subscriber of documentation addresses.
fn header(family: Family) -> Vec<u8> {
    let signature = *b"\r\n\r\n\0\r\nQUIT\n\x21";
    let ports = [0xc3, 0x50, 0, 80];
    match family {
        Family::V4 => {
            let addresses = [192, 0, 2, 77, 203, 0, 113, 12];
            [&signature[..], &[0x11, 0, 12], &addresses, &ports].concat()
        }
        Family::V6 => {
            let address = |last: u8| {
                let mut octets = [0; 16];
                octets[..4].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
                octets[15] = last;
                octets
            };
            [&signature[..], &[0x21, 0, 36], &address(7), &address(12), &ports].concat()
        }
    }
}
