//! The resolver by itself: a node without a proxy, its addresses, its interfaces, and a policy that
//! is replaced under load.

use std::{
    net::{SocketAddr, UdpSocket},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use crate::node::Node;

/// The names asked for: one in both policies, one in each, one in none.
const NAMES: [&str; 4] = ["both", "first", "second", "none"];

#[test]
fn answers_at_every_address_without_a_proxy() {
    let upstream = Upstream::start();
    let node = Node::start_with(&gateway(&upstream, ""), &policy(1));
    assert!(node.addresses("http").is_empty() && node.addresses("https").is_empty());
    let addresses = node.addresses("dns");
    assert_eq!(addresses.len(), 3);
    for address in addresses {
        let asker = Asker::new(address);
        for (place, name) in NAMES.iter().enumerate() {
            assert_eq!(asker.ask(place), expected(1, place), "{address}, {name}");
        }
    }
}

#[test]
fn no_answer_is_made_under_two_policies() {
    let upstream = Upstream::start();
    let node = Node::start_with(&gateway(&upstream, ""), &policy(1));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let stopping = Stopping(&stop);
        let askers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let (asker, mut counts) = (Asker::new(node.dns()), [0; 2]);
                    while !stop.load(Ordering::Relaxed) {
                        for (place, name) in NAMES.iter().enumerate() {
                            let told = asker.ask(place);
                            let of = (0..2).find(|serial| expected(*serial, place) == told);
                            let of = of.unwrap_or_else(|| panic!("{name}: {told:?}"));
                            counts[usize::try_from(of).unwrap()] += 1;
                        }
                    }
                    counts
                })
            })
            .collect();
        let asker = Asker::new(node.dns());
        for serial in 2..=RELOADS {
            node.replace_policy(&policy(serial));
            // From the moment the reload is answered, nothing is said under the policy before.
            for place in 0..NAMES.len() {
                assert_eq!(asker.ask(place), expected(serial, place), "after reload {serial}");
            }
        }
        drop(stopping);
        for counts in askers.into_iter().map(|asker| asker.join().unwrap()) {
            assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
        }
    });
}

#[test]
fn hears_only_what_comes_in_by_its_interfaces() {
    let upstream = Upstream::start();
    // The names are of this test alone; the namespaces go with the test binary's own.
    for command in [
        "ip netns add scoped",
        "ip link add scoped0 type veth peer name ue netns scoped",
        "ip address add 10.77.0.1/24 dev scoped0",
        "ip link set scoped0 up",
        "ip -n scoped address add 10.77.0.2/24 dev ue",
        "ip -n scoped link set ue up",
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        assert!(Command::new(words[0]).args(&words[1..]).status().unwrap().success(), "{command}");
    }
    for (interface, from_sim, from_here) in [("scoped0", true, false), ("lo", false, true)] {
        let scoped = gateway(&upstream, &format!("interfaces = [\"{interface}\"]"));
        let scoped = scoped.replace(", \"[::1]:0\"", "");
        let node = Node::start_with(&scoped, &policy(1));
        let port = node.dns().port();
        for (transport, tcp) in [("UDP", "+notcp"), ("TCP", "+tcp")] {
            let port = format!("{port}");
            let ask = |prefix: &[&str], server: &str| {
                let words = [prefix, &["kdig", server, "-p", &port, "+timeout=1", "+retry=0", tcp]];
                let words = [&words.concat()[..], &["both.example", "A"]].concat();
                let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
                String::from_utf8_lossy(&output.stdout).contains("198.51.100.7")
            };
            let heard = ask(&["ip", "netns", "exec", "scoped"], "@10.77.0.1");
            assert_eq!(heard, from_sim, "from outside by {interface} over {transport}");
            assert_eq!(ask(&[], "@127.0.0.1"), from_here, "from here by {interface}, {transport}");
        }
    }
}

/// What an answer says: its response code and the lifetime of its first record.
type Told = (u8, u32);

/// What the policy of `serial` says about the name at `place`: nothing is the same in both kinds.
fn expected(serial: u32, place: usize) -> Told {
    let is_listed = matches!((serial % 2, place), (_, 0) | (1, 1) | (0, 2));
    match (serial % 2, is_listed) {
        (1, true) => (0, 31),
        (1, false) => (3, 3),
        (_, true) => (0, 47),
        (_, false) => (0, 4),
    }
}

fn policy(serial: u32) -> String {
    let (terms, own) = match serial % 2 {
        1 => ("denied = \"nxdomain\"\ndenied_ttl = \"3s\"\nmax_ttl = \"31s\"", "first"),
        _ => ("denied = \"nodata\"\ndenied_ttl = \"4s\"\nmax_ttl = \"47s\"", "second"),
    };
    let more = (0..MORE_NAMES).map(|number| format!("h{number}"));
    let hosts: String = ["both".to_owned(), own.to_owned()]
        .into_iter()
        .chain(more)
        .map(|host| {
            format!("[[hostset.host]]\nmatch = \"{host}.example\"\nschemes = [\"https\"]\n")
        })
        .collect();
    format!(
        "schema = 1\nname = \"swap\"\nserial = {serial}\nenvironment = \"lab\"\n\
         default_class = \"garden\"\n[dns]\n{terms}\n[[hostset]]\nname = \"swap\"\n\
         source = \"suite\"\nreviewed = 2026-08-22\n{hosts}[[class]]\nname = \"garden\"\n\
         priority = 100\naction = \"garden\"\nhostsets = [\"swap\"]\n[class.limits]\n\
         dns_qps = 1000000\n[[class.match]]\nnetworks = [\"0.0.0.0/0\", \"::/0\"]\n"
    )
}

fn gateway(upstream: &Upstream, more: &str) -> String {
    format!(
        "node = \"suite\"\nenvironment = \"lab\"\npolicy = \"policy.toml\"\n[dns]\n\
         listen = [\"0.0.0.0:0\", \"127.0.0.1:0\", \"[::1]:0\"]\nupstreams = [\"udp://{}\"]\n{more}\n\
         [admin]\nlisten = \"127.0.0.1:0\"\ntoken_file = \"admin.token\"\n",
        upstream.0
    )
}

/// Stops the askers when it goes, also by a failed assertion: the scope waits for them.
struct Stopping<'s>(&'s AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One who asks over UDP, one question after the other.
struct Asker(UdpSocket);

impl Asker {
    fn new(server: SocketAddr) -> Self {
        let any = if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let socket = UdpSocket::bind(any).unwrap();
        let server = if server.ip().is_unspecified() {
            ([127, 0, 0, 1], server.port()).into()
        } else {
            server
        };
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self(socket)
    }

    fn ask(&self, place: usize) -> Told {
        let name = NAMES[place];
        let length = u8::try_from(name.len()).unwrap();
        let head = b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00";
        let tail = b"\x07example\x00\x00\x01\x00\x01";
        let question = [&head[..], &[length], name.as_bytes(), tail].concat();
        self.0.send(&question).unwrap();
        let mut answer = [0; 512];
        let received = self.0.recv(&mut answer).unwrap();
        let record = &answer[question.len()..received];
        // The owner is a pointer, or the root of a denial.
        let owner = if record[0] == 0 { 1 } else { 2 };
        let lifetime = record[owner + 4..owner + 8].try_into().unwrap();
        (answer[3] & 0xf, u32::from_be_bytes(lifetime))
    }
}

/// A resolver that says of every name that it is at 198.51.100.7 for an hour.
struct Upstream(SocketAddr);

impl Upstream {
    fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        // It ends with the process.
        thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let name = buffer[12..length].iter().position(|octet| *octet == 0).unwrap();
                let mut answer = buffer[..12 + name + 5].to_vec();
                answer[2] = 0x81;
                answer[3] = 0x80;
                answer[7] = 1;
                answer[11] = 0;
                answer.extend_from_slice(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x0e\x10\x00\x04");
                answer.extend_from_slice(&[198, 51, 100, 7]);
                let _ = socket.send_to(&answer, from);
            }
        });
        Self(address)
    }
}

const RELOADS: u32 = 20;
const MORE_NAMES: usize = 2_000;
