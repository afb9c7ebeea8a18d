//! Where the dialer goes, from which address, and where it never goes.

use super::*;

fn dialer(listeners: Vec<SocketAddr>, origins: Origins) -> Dialer {
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    Dialer::new(listeners, Duration::from_secs(1), origins, metrics)
}

#[tokio::test]
async fn egress_addresses_are_used_in_turn_and_each_port_more_than_once() {
    let egress = ["127.0.0.7", "127.0.0.8", "::1"].map(|from| from.parse().unwrap()).to_vec();
    let dialer =
        dialer(Vec::new(), Origins { egress: Egress::Gateway(egress), ..Origins::default() });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let open = listener.local_addr().unwrap();
    let mut from = Vec::new();
    for _ in 0..4 {
        let (stream, _) = dialer.connect(open, ASKER).await.unwrap();
        from.push(stream.local_addr().unwrap().ip().to_string());
    }
    assert_eq!(from, ["127.0.0.7", "127.0.0.8", "127.0.0.7", "127.0.0.8"]);
    let listener = tokio::net::TcpListener::bind("[::1]:0").await.unwrap();
    let (stream, _) = dialer.connect(listener.local_addr().unwrap(), ASKER).await.unwrap();
    assert!(stream.local_addr().unwrap().is_ipv6());
    // Only a port of the whole address would be taken with the bind.
    let range = local_ports();
    assert!(range > 1_000, "{range}");
}

#[tokio::test]
async fn datagrams_leave_from_an_egress_address_and_are_counted_while_they_may() {
    let egress = vec!["127.0.0.7".parse().unwrap()];
    let dialer =
        dialer(Vec::new(), Origins { egress: Egress::Gateway(egress), ..Origins::default() });
    let origin = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (socket, counted) = dialer.datagrams(origin.local_addr().unwrap(), ASKER).unwrap();
    assert_eq!(socket.local_addr().unwrap().ip().to_string(), "127.0.0.7");
    assert_eq!(dialer.metrics.origin_connections().get(), 1);
    drop(counted);
    assert_eq!(dialer.metrics.origin_connections().get(), 0);
}

#[tokio::test]
async fn egress_address_that_is_not_ours_is_counted_as_no_port() {
    let egress = vec!["192.0.2.7".parse().unwrap()];
    let dialer =
        dialer(Vec::new(), Origins { egress: Egress::Gateway(egress), ..Origins::default() });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    assert!(dialer.connect(listener.local_addr().unwrap(), ASKER).await.is_err());
    assert_eq!(dialer.metrics.exhausted(), 1);
}

#[test]
fn families_take_turns_and_ipv6_is_first() {
    let addresses = ["192.0.2.1:1", "192.0.2.2:1", "[2001:db8::1]:1", "192.0.2.3:1"];
    let ordered = interleaved(addresses.map(|text| text.parse().unwrap()).to_vec());
    let expected = ["[2001:db8::1]:1", "192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1"];
    assert_eq!(ordered, expected.map(|text| text.parse::<SocketAddr>().unwrap()));
    let many = (0..100).map(|port| SocketAddr::from(([192, 0, 2, 1], port))).collect();
    assert_eq!(interleaved(many).len(), MAX_CANDIDATES);
}

#[test]
fn guard_holds_at_the_dial() {
    let lifted: [IpNet; 1] = ["127.0.0.0/8".parse().unwrap()];
    let listeners = vec!["0.0.0.0:8443".parse().unwrap(), "[::]:8443".parse().unwrap()];
    let dialer = dialer(listeners, Origins::default());
    let guard = dns::address::Guard::new(Some("2001:db8:64::/96".parse().unwrap()));
    for (address, port, networks, expected) in [
        ("192.0.2.1", 443, &lifted[..0], "dialled"),
        ("2001:db8::1", 443, &lifted[..0], "dialled"),
        ("10.0.0.1", 443, &lifted[..0], "refused"),
        ("100.64.0.1", 443, &lifted[..0], "refused"),
        ("169.254.169.254", 443, &lifted[..0], "refused"),
        ("fd00::1", 443, &lifted[..0], "refused"),
        ("::ffff:10.0.0.1", 443, &lifted[..0], "refused"),
        ("64:ff9b::a00:1", 443, &lifted[..0], "refused"),
        ("2001:db8:64::a00:1", 443, &lifted[..0], "refused"),
        ("2001:db8:64::c633:6407", 443, &lifted[..0], "dialled"),
        ("127.0.0.5", 443, &lifted[..0], "refused"),
        ("127.0.0.5", 443, &lifted, "dialled"),
        // The host's own address, and never its own listener whatever is lifted.
        ("127.0.0.1", 443, &lifted[..0], "loop"),
        ("127.0.0.1", 443, &lifted, "dialled"),
        ("127.0.0.1", 8443, &lifted, "loop"),
        ("127.0.0.5", 8443, &lifted, "loop"),
    ] {
        let addresses = [address.parse().unwrap()];
        let screened = dialer.screened(&guard, &addresses, port, [networks, &[]]);
        let found = match screened {
            Ok(kept) if kept.len() == 1 => "dialled",
            Err(DialError::Loop) => "loop",
            Err(DialError::AddressRefused) => "refused",
            other => panic!("{address}: {other:?}"),
        };
        assert_eq!(found, expected, "{address} port {port} lifted {networks:?}");
    }
}

#[tokio::test]
async fn next_address_is_tried_when_one_fails() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let open = listener.local_addr().unwrap();
    let shut = SocketAddr::from(([127, 0, 0, 2], open.port()));
    let dialer = dialer(Vec::new(), Origins::default());
    let (_, address) = dialer.race(vec![shut, open], ASKER).await.unwrap();
    assert_eq!(address, open);
    let failed = dialer.race(vec![shut], ASKER).await.unwrap_err();
    assert!(matches!(failed, DialError::Unreachable { count: 1, .. }), "{failed:?}");
}

#[tokio::test]
async fn silent_address_does_not_hold_up_the_next() {
    // A full backlog answers nothing: connections to it hang.
    let silent = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    silent.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    silent.listen(0).unwrap();
    let hung = silent.local_addr().unwrap().as_socket().unwrap();
    let mut fill = Vec::new();
    while let Ok(Ok(filled)) = timeout(STAGGER / 2, TcpStream::connect(hung)).await {
        fill.push(filled);
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let open = listener.local_addr().unwrap();
    let dialer = dialer(Vec::new(), Origins::default());
    let raced = timeout(STAGGER * 4, dialer.race(vec![hung, open], ASKER)).await;
    assert_eq!(raced.expect("waited for the silent one").unwrap().1, open);
}

const ASKER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(100, 64, 0, 1));
