//! Who is behind an address, told by RADIUS to the real binary: class by state, restarts, kills.

mod radius;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

use self::radius::{Nas, imsi};
use crate::tool::postern;

/// Kills under load; a hundred are run by hand.
const KILLS: u32 = 3;

#[test]
fn accounting_binds_and_an_order_changes_the_class() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path(), "embedded");
    let nas = Nas::at(gateway.address("radius"), SECRET);
    let orders = Nas::at(gateway.address("coa"), SECRET);
    assert_eq!(gateway.class("100.64.0.1"), "unknown");
    assert!(nas.start(1, 1));
    assert_eq!(gateway.class("100.64.0.1"), "bound");
    assert!(orders.order(1, "active"));
    assert_eq!(gateway.class("100.64.0.1"), "paid");
    assert!(nas.stop(1, 1));
    assert_eq!(gateway.class("100.64.0.1"), "unknown");
    // The state is the SIM's, not the address's.
    assert!(nas.start(1, 2));
    assert_eq!(gateway.class("100.64.0.2"), "paid");
    gateway.assert_says_nothing_of(&[&imsi(1), "100.64.0.2", "suite-secret"]);
}

#[test]
fn radclient_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path(), "embedded");
    let record = "Acct-Status-Type = Start\nAcct-Session-Id = \"one\"\nNAS-IP-Address = 192.0.2.10\n\
                  Framed-IP-Address = 100.64.0.9\n3GPP-IMSI = \"001010000000009\"\n\
                  Proxy-State = 0x01\nProxy-State = 0x02\nMessage-Authenticator = 0x00\n";
    for (secret, answered) in [(SECRET, true), ("wrong", false)] {
        let mut client = Command::new("radclient")
            .args(["-r", "1", "-t", "2", &gateway.address("radius").to_string(), "acct", secret])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        client.stdin.take().unwrap().write_all(record.as_bytes()).unwrap();
        assert_eq!(client.wait().unwrap().success(), answered, "{secret}");
    }
    assert_eq!(gateway.class("100.64.0.9"), "bound");
}

#[test]
fn nothing_answered_is_lost_by_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut answered = Vec::new();
    for kill in 0..KILLS {
        let gateway = Gateway::start(folder.path(), "embedded");
        let nas = Nas::at(gateway.address("radius"), SECRET);
        for number in &answered {
            assert_eq!(gateway.class(&radius::address(*number)), "bound", "after kill {kill}");
        }
        let first = kill * 1000 + 1;
        // The reply to one record is waited for while the next are on their way, then comes the end.
        answered.extend(nas.storm(first..first + 300, 200));
        drop(gateway);
    }
    assert!(answered.len() >= 200 * usize::try_from(KILLS).unwrap());
}

#[test]
fn two_nodes_share_states_and_outlive_their_server() {
    let server = Server::start();
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let engine = format!("redis\"\nservers = [\"redis://{}\"]\n#\"", server.address);
    let first = Gateway::start(one.path(), &engine);
    let second = Gateway::start(two.path(), &engine);
    let nas = Nas::at(first.address("radius"), SECRET);
    assert!(nas.start(1, 1));
    assert!(Nas::at(first.address("coa"), SECRET).order(1, "active"));
    second.wait_for("100.64.0.1", "paid");
    // The other direction, and a third node that comes later.
    assert!(Nas::at(second.address("coa"), SECRET).order(1, "exhausted"));
    first.wait_for("100.64.0.1", "bound");
    assert!(Nas::at(second.address("coa"), SECRET).order(1, "active"));
    first.wait_for("100.64.0.1", "paid");
    // Away: known SIMs keep their state, on both nodes; new ones are known to who was told.
    let address = server.stop();
    for gateway in [&first, &second] {
        assert_eq!(gateway.class("100.64.0.1"), "paid");
        assert_eq!(gateway.class("100.64.0.77"), "unknown");
    }
    // Back, and empty: what the nodes know is written again.
    let _server = Server::start_at(address);
    let three = tempfile::tempdir().unwrap();
    let third = Gateway::start(three.path(), &engine);
    third.wait_for("100.64.0.1", "paid");
}

/// A gateway of this test's own, killed at the end.
struct Gateway {
    child: Child,
    listening: String,
    log: std::path::PathBuf,
    _stdout: BufReader<ChildStdout>,
}

impl Gateway {
    fn start(folder: &Path, engine: &str) -> Self {
        let config = GATEWAY.replace("ENGINE", engine);
        fs::write(folder.join("gateway.toml"), config).unwrap();
        fs::write(folder.join("policy.toml"), POLICY).unwrap();
        fs::write(folder.join("secret"), SECRET).unwrap();
        let log = folder.join("log");
        let mut child = postern()
            .args(["run", "--config"])
            .arg(folder.join("gateway.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let (mut listening, mut ready) = (String::new(), String::new());
        stdout.read_line(&mut listening).unwrap();
        stdout.read_line(&mut ready).unwrap();
        assert_eq!(ready, "READY\n", "{}", fs::read_to_string(&log).unwrap());
        Self { child, listening, log, _stdout: stdout }
    }

    fn address(&self, service: &str) -> SocketAddr {
        let mut parts = self.listening.split_whitespace().filter_map(|part| part.split_once('='));
        parts.find(|(name, _)| *name == service).unwrap().1.parse().unwrap()
    }

    /// The class that a subscriber's address falls in.
    fn class(&self, address: &str) -> String {
        let mut stream = TcpStream::connect(self.address("admin")).unwrap();
        let path = format!("/v1/explain?ip={address}&target=https://www.example.com");
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        let body = &body[body.find('{').unwrap()..=body.rfind('}').unwrap()];
        let report: serde_json::Value = serde_json::from_str(body).unwrap();
        let class = &report["class"];
        class["name"].as_str().or(class.as_str()).unwrap_or("none").to_owned()
    }

    fn wait_for(&self, address: &str, class: &str) {
        let mut found = String::new();
        // Each look is a round trip on loopback.
        for _ in 0..20_000 {
            found = self.class(address);
            if found == class {
                return;
            }
        }
        let log = fs::read_to_string(&self.log).unwrap();
        panic!("{address} is `{found}`, not `{class}`:\n{log}");
    }

    fn assert_says_nothing_of(&self, secrets: &[&str]) {
        let log = fs::read_to_string(&self.log).unwrap();
        for secret in secrets {
            assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A Redis server of this test's own; it keeps nothing on disk.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start() -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Self::start_at(free)
    }

    fn start_at(address: SocketAddr) -> Self {
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"])
            .arg(address.port().to_string())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, address };
        let answers = (0..200_000).any(|_| TcpStream::connect(address).is_ok());
        assert!(answers, "no server at {address}");
        server
    }

    fn stop(self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const SECRET: &str = "suite-secret";

const GATEWAY: &str = r#"
node        = "suite"
environment = "lab"
policy      = "policy.toml"
[steering]
mode        = "none"
[dns]
listen      = ["127.0.0.1:0"]
upstreams   = ["udp://127.0.0.1:1"]
[admin]
listen      = "127.0.0.1:0"
[radius]
listen      = ["127.0.0.1:0"]
coa         = ["127.0.0.1:0"]
clients     = [{ name = "pgw-1", address = "127.0.0.1", secret_file = "secret" }]
[state]
engine      = "ENGINE"
"#;

const POLICY: &str = r#"
schema        = 1
name          = "suite"
serial        = 1
environment   = "lab"
default_class = "unknown"
[[hostset]]
name     = "ours"
source   = "test"
[[hostset.host]]
match    = "portal.acme.example"
schemes  = ["https"]
[[class]]
name     = "paid"
priority = 10
action   = "open"
match    = [{ state = ["active"] }]
[[class]]
name     = "bound"
priority = 20
action   = "garden"
hostsets = ["ours"]
match    = [{ imsi = ["001010000000000-001019999999999"] }]
[[class]]
name     = "unknown"
priority = 30
action   = "garden"
hostsets = ["ours"]
match    = [{ networks = ["10.0.0.0/8"] }]
"#;
