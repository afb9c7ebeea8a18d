//! Against the kernel, in a network namespace of the test's own.

use std::{
    io::Write,
    net::{SocketAddr, TcpListener, UdpSocket},
    process::{Command, Stdio},
    time::Duration,
};

use socket2::{Domain, Socket, Type};

use super::{Connection, Edit, Element, IpAddr, IpNet, Netlink, NetlinkError};

const TABLE: &str = "postern";
const SETS: &str = "table inet postern {
  set open4 { type ipv4_addr; flags interval; }
  set sim_open4 { type ipv4_addr; }
  set sim_open6 { type ipv6_addr; }
  set granted4 { type ipv4_addr; flags timeout; }
  map grant4 { type ipv4_addr : quota; flags timeout; }
  map grant6 { type ipv6_addr : quota; flags timeout; }
  chain tracked { type filter hook input priority 0; ct state established accept; }
}
";

/// Runs `check` on a table that was just loaded.
fn with_table(check: impl FnOnce(Netlink)) {
    lab::private::test(|| {
        if lab::private::is_inside() {
            let up = Command::new("/usr/sbin/ip").args(["link", "set", "lo", "up"]).status();
            assert!(up.unwrap().success());
            nft(SETS);
            check(Netlink::open().unwrap());
        }
    });
}

fn nft(script: &str) {
    let mut child =
        Command::new("/usr/sbin/nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

fn listed(set: &str) -> String {
    let listed = Command::new("/usr/sbin/nft").args(["list", "set", "inet", TABLE, set]).output();
    String::from_utf8(listed.unwrap().stdout).unwrap()
}

fn elements_of(set: &str) -> Vec<String> {
    let listing = listed(set);
    let Some((_, rest)) = listing.split_once("elements = {") else { return Vec::new() };
    let (inside, _) = rest.split_once('}').unwrap();
    inside.split(',').map(|element| element.trim().to_owned()).collect()
}

fn block(text: &str) -> IpNet {
    text.parse().unwrap()
}

#[test]
fn elements_come_and_go_as_nft_would_show_them() {
    with_table(|mut netlink| {
        let (one, two) = (Element::of(block("100.64.0.1/32")), Element::of(block("100.64.0.2/32")));
        let six = Element::of(block("2001:db8:64:7::/64"));
        let range =
            Element::interval("100.64.0.0".parse().unwrap(), "100.64.0.255".parse().unwrap());
        netlink
            .apply(
                &[
                    Edit::Add("sim_open4", vec![one.clone(), two.clone()]),
                    Edit::Add("sim_open6", vec![six]),
                    Edit::Add("open4", range.collect()),
                ],
                TABLE,
            )
            .unwrap();
        assert_eq!(elements_of("sim_open4"), ["100.64.0.1", "100.64.0.2"]);
        assert_eq!(elements_of("sim_open6"), ["2001:db8:64:7::"]);
        assert_eq!(elements_of("open4"), ["100.64.0.0/24"]);
        netlink.apply(&[Edit::Remove("sim_open4", vec![one])], TABLE).unwrap();
        netlink.apply(&[Edit::Add("sim_open4", vec![two])], TABLE).unwrap();
        assert_eq!(elements_of("sim_open4"), ["100.64.0.2"]);
        netlink.apply(&[Edit::Flush("sim_open4"), Edit::Flush("sim_open6")], TABLE).unwrap();
        assert_eq!(elements_of("sim_open4").len() + elements_of("sim_open6").len(), 0);
        netlink.apply(&[], TABLE).unwrap();
    });
}

#[test]
fn a_refused_transaction_changes_nothing_and_the_next_one_counts() {
    with_table(|mut netlink| {
        let (one, two) = (Element::of(block("100.64.0.1/32")), Element::of(block("100.64.0.2/32")));
        let edits =
            [Edit::Add("sim_open4", vec![one.clone()]), Edit::Remove("sim_open4", vec![two])];
        let error = netlink.apply(&edits, TABLE).unwrap_err();
        assert!(matches!(error, NetlinkError::Refused(_)), "{error}");
        assert_eq!(elements_of("sim_open4"), [""; 0]);
        netlink.apply(&[Edit::Add("sim_open4", vec![one])], TABLE).unwrap();
        assert_eq!(elements_of("sim_open4"), ["100.64.0.1"]);
        let error = netlink.apply(&[Edit::Flush("sim_open4")], "other").unwrap_err();
        assert!(matches!(error, NetlinkError::Refused(_)), "{error}");
    });
}

#[test]
fn more_than_one_transaction_holds_goes_in_pieces() {
    with_table(|mut netlink| {
        netlink.room = 8 * 1024;
        let elements = (0..5_000_u32)
            .map(|number| Element::of(IpNet::from(IpAddr::V4((0x6440_0000 + number).into()))));
        netlink.apply(&[Edit::Add("sim_open4", elements.collect())], TABLE).unwrap();
        assert_eq!(elements_of("sim_open4").len(), 5_000);
    });
}

#[test]
fn grants_share_one_quota_and_end_by_themselves() {
    with_table(|mut netlink| {
        let second = Duration::from_secs(1);
        let name = "grant-7";
        let (four, six) = (block("100.64.0.1/32"), block("2001:db8:64:7::/64"));
        netlink
            .apply(
                &[
                    Edit::Quota { name: name.into(), bytes: 5_000_000, used: 1234 },
                    Edit::Add("grant4", vec![Element::metered(four, second, name)]),
                    Edit::Add("grant6", vec![Element::metered(six, second, name)]),
                    Edit::Add("granted4", vec![Element::lasting(four, second)]),
                ],
                TABLE,
            )
            .unwrap();
        assert_eq!(netlink.quotas(TABLE).unwrap(), [(name.to_owned(), 1234)]);
        let error = netlink.apply(&[Edit::DropQuota(name.into())], TABLE).unwrap_err();
        assert!(matches!(error, NetlinkError::Refused(_)), "{error}");
        let listing = listed("granted4");
        assert!(listing.contains("100.64.0.1 timeout 1s expires"), "{listing}");
        // The kernel says when: this waits for it, however long it takes.
        while !elements_of("granted4").is_empty() || !elements_of("grant6").is_empty() {}
        // Each transaction makes it begin anew to collect what expired: asked by nothing else, it
        // would never end.
        while netlink.apply(&[Edit::DropQuota(name.into())], TABLE).is_err() {
            for _ in 0..10 {
                listed("grant4");
            }
        }
        assert_eq!(netlink.quotas(TABLE).unwrap(), []);
    });
}

#[test]
fn flows_of_a_source_are_found_and_ended_and_no_others() {
    with_table(|mut netlink| {
        let flow = |source: &str| {
            let server =
                UdpSocket::bind(if source.contains(':') { "[::1]:0" } else { "127.0.0.1:0" });
            let server = server.unwrap();
            let socket = UdpSocket::bind((source, 0)).unwrap();
            socket.connect(server.local_addr().unwrap()).unwrap();
            socket.send(b"x").unwrap();
            server.recv(&mut [0; 8]).unwrap();
            (server, socket)
        };
        let _flows = ["127.0.0.1", "127.0.0.2", "127.0.0.2", "::1"].map(flow);
        let cut = |netlink: &mut Netlink, text: &str| {
            let flows = netlink.flows(&[block(text)]).unwrap();
            for flow in &flows {
                assert_eq!((flow.block, flow.connection), (block(text), None));
                netlink.end(flow).unwrap();
            }
            flows.len()
        };
        assert_eq!(cut(&mut netlink, "127.0.0.3/32"), 0);
        assert_eq!(cut(&mut netlink, "127.0.0.2/32"), 2);
        assert_eq!(cut(&mut netlink, "127.0.0.2/32"), 0);
        assert_eq!(cut(&mut netlink, "::/48"), 1);
        assert_eq!(cut(&mut netlink, "127.0.0.1/32"), 1);
    });
}

#[test]
fn both_ends_of_a_connection_are_told() {
    with_table(|mut netlink| {
        for (server, source) in [("127.0.0.1", "127.0.0.2/32"), ("::1", "::/64")] {
            let listener = TcpListener::bind((server, 0)).unwrap();
            let peer = listener.local_addr().unwrap();
            let socket = Socket::new(Domain::for_address(peer), Type::STREAM, None).unwrap();
            if peer.is_ipv4() {
                socket.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).unwrap();
            }
            socket.connect(&peer.into()).unwrap();
            let subscriber = socket.local_addr().unwrap().as_socket().unwrap();
            let found = netlink.flows(&[block(source)]).unwrap();
            let ends: Vec<_> = found.iter().map(|flow| flow.connection).collect();
            assert_eq!(ends, [Some(Connection { subscriber, peer })]);
        }
    });
}
