//! A gateway on loopback without steering: the real binary, every port chosen by the kernel.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, ChildStdout, Stdio},
};

use tempfile::TempDir;

use crate::tool::postern;

/// A running gateway; it ends with this value.
pub(crate) struct Node {
    child: Child,
    /// The line that names every bound address.
    listening: String,
    folder: TempDir,
    /// Kept open: a closed pipe is not what an operator's terminal looks like.
    _stdout: BufReader<ChildStdout>,
}

impl Node {
    /// Starts a gateway and waits until it is ready.
    pub(crate) fn start() -> Self {
        Self::start_with(GATEWAY, POLICY)
    }

    /// As [`start`](Self::start), with these files.
    pub(crate) fn start_with(gateway: &str, policy: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("gateway.toml"), gateway).unwrap();
        fs::write(folder.path().join("policy.toml"), policy).unwrap();
        fs::write(folder.path().join("admin.token"), TOKEN).unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let mut child = postern()
            .args(["run", "--config"])
            .arg(folder.path().join("gateway.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut listening = String::new();
        let mut ready = String::new();
        stdout.read_line(&mut listening).unwrap();
        stdout.read_line(&mut ready).unwrap();
        if ready != "READY\n" {
            let _ = child.kill();
            let _ = child.wait();
            let log = fs::read_to_string(folder.path().join("log")).unwrap();
            panic!("the gateway did not get ready: {listening}{ready}{log}");
        }
        Self { child, listening, folder, _stdout: stdout }
    }

    /// The resolver's address.
    pub(crate) fn dns(&self) -> SocketAddr {
        self.address("dns")
    }

    /// The address for port 80.
    pub(crate) fn http(&self) -> SocketAddr {
        self.address("http")
    }

    /// The address for port 443.
    pub(crate) fn https(&self) -> SocketAddr {
        self.address("https")
    }

    /// The text of `/metrics`.
    pub(crate) fn scrape(&self) -> String {
        self.call("GET /metrics")
    }

    /// Puts `policy` in the place of the one before, and in force.
    pub(crate) fn replace_policy(&self, policy: &str) {
        let file = self.folder.path().join("policy.toml");
        fs::write(file.with_extension("new"), policy).unwrap();
        fs::rename(file.with_extension("new"), file).unwrap();
        self.call("POST /v1/policy/reload");
    }

    /// What the admin API answers to `request`.
    fn call(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address("admin")).unwrap();
        let head = "Host: localhost\r\nContent-Length: 0\r\nConnection: close";
        let words =
            format!("{request} HTTP/1.1\r\n{head}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
        stream.write_all(words.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        answer
    }

    /// The first bound address of `service`.
    fn address(&self, service: &str) -> SocketAddr {
        let addresses = self.addresses(service);
        *addresses.first().unwrap_or_else(|| panic!("no {service} in: {}", self.listening))
    }

    /// Every bound address of `service`.
    pub(crate) fn addresses(&self, service: &str) -> Vec<SocketAddr> {
        self.listening
            .split_whitespace()
            .filter_map(|part| part.split_once('='))
            .filter(|(name, _)| *name == service)
            .flat_map(|(_, addresses)| addresses.split(','))
            .map(|address| address.parse().unwrap())
            .collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// For a gateway that names `admin.token`.
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// The upstream's port is one that nothing listens on.
const GATEWAY: &str = r#"
node        = "suite"
environment = "lab"
policy      = "policy.toml"
[steering]
mode        = "none"
[dns]
listen      = ["127.0.0.1:0", "[::1]:0"]
upstreams   = ["udp://127.0.0.1:1"]
[proxy]
http        = ["127.0.0.1:0", "[::1]:0"]
https       = ["127.0.0.1:0", "[::1]:0"]
[admin]
listen      = "127.0.0.1:0"
[log]
decisions   = "decisions.jsonl"
"#;

const POLICY: &str = r#"
schema        = 1
name          = "suite"
serial        = 1
environment   = "lab"
default_class = "unprovisioned"
[dns]
denied        = "nxdomain"
denied_ttl    = "5s"
max_ttl       = "60s"
[http]
denied        = "511"
[[class]]
name     = "unprovisioned"
priority = 100
action   = "garden"
hostsets = ["builtin:mobile-plans"]
[[class.match]]
networks = ["127.0.0.0/8", "::1/128"]
"#;
