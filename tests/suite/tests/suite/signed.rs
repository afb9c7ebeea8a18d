//! Signed policies: what nobody trusted has signed never comes into force, nor does what is older than the last good one, also across a restart.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::tool::{finish, postern, succeed};

/// A folder with keys, settings and policies, and what stays of one start to the next.
struct Desk {
    folder: TempDir,
}

/// A running gateway; killed with this value.
struct Running {
    child: Child,
    admin: String,
    token: PathBuf,
}

impl Desk {
    fn new() -> Self {
        let desk = Self { folder: tempfile::tempdir().unwrap() };
        fs::write(desk.path("gateway.toml"), GATEWAY).unwrap();
        fs::write(desk.path("admin.token"), "0123456789abcdef0123456789abcdef\n").unwrap();
        for key in ["release.key", "other.key"] {
            succeed(postern().args(["policy", "keygen"]).arg(desk.path(key)));
        }
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, serial: u64, host: &str) {
        let text = POLICY.replace("SERIAL", &serial.to_string()).replace("HOST", host);
        fs::write(self.path("policy.toml"), text).unwrap();
    }

    fn sign(&self, key: &str) {
        let mut sign = postern();
        succeed(
            sign.args(["policy", "sign", "--key"]).args([self.path(key), self.path("policy.toml")]),
        );
    }

    fn verify(&self, key: &str) -> i32 {
        let mut verify = postern();
        finish(
            verify
                .args(["policy", "verify", "--key"])
                .args([self.path(key), self.path("policy.toml")]),
        )
        .0
    }

    fn command(&self) -> Command {
        let mut command = postern();
        command.args(["run", "--config"]).arg(self.path("gateway.toml"));
        command
    }

    fn start(&self) -> Running {
        let log = fs::File::create(self.path("log")).unwrap();
        let mut command = self.command();
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let (mut listening, mut ready) = (String::new(), String::new());
        stdout.read_line(&mut listening).unwrap();
        stdout.read_line(&mut ready).unwrap();
        let running = Running {
            admin: listening
                .split_whitespace()
                .find_map(|part| part.strip_prefix("admin="))
                .map(|address| format!("http://{address}"))
                .unwrap_or_default(),
            child,
            token: self.path("admin.token"),
        };
        assert_eq!(ready, "READY\n", "{}", fs::read_to_string(self.path("log")).unwrap());
        running
    }
}

impl Running {
    fn ask(&self, arguments: &[&str]) -> (i32, String) {
        let mut command = postern();
        command.args(arguments).args(["--admin", &self.admin]).arg("--token-file").arg(&self.token);
        finish(&mut command)
    }

    fn status(&self) -> Value {
        let (code, said) = self.ask(&["status", "--format", "json"]);
        assert_eq!(code, 0, "{said}");
        serde_json::from_str(&said).unwrap()
    }

    /// Serial in force, whether it is the kept copy, and how often a reload came to `result`.
    fn standing(&self, result: &str) -> (u64, bool, u64) {
        let status = self.status();
        let number = |value: &Value| value.as_u64().unwrap();
        (
            number(&status["policy"]["serial"]),
            status["last_good_restored"].as_bool().unwrap(),
            number(&status["reloads"][result]),
        )
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn unsigned_policy_neither_starts_nor_replaces_a_signed_one() {
    let desk = Desk::new();
    desk.write(5, "one.example.com");
    let (code, said) = finish(&mut desk.command());
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("is not signed, and this node demands it"), "{said}");

    desk.sign("other.key");
    assert_eq!((desk.verify("release.key.pub"), desk.verify("other.key.pub")), (1, 0));
    let (code, said) = finish(&mut desk.command());
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("which is not among the trusted ones"), "{said}");

    desk.sign("release.key");
    let node = desk.start();
    assert_eq!(node.standing("published"), (5, false, 1));
    fs::remove_file(desk.path("policy.toml.sig")).unwrap();
    desk.write(6, "two.example.com");
    let (code, said) = node.ask(&["reload"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.starts_with("refused: the last good policy stays: "), "{said}");
    let (serial, _, unsigned) = node.standing("unsigned");
    assert!(serial == 5 && unsigned > 0, "{serial} {unsigned}");
    desk.sign("other.key");
    assert_eq!(node.ask(&["reload"]).0, 1);
    let (serial, _, wrong) = node.standing("bad-signature");
    assert!(serial == 5 && wrong > 0, "{serial} {wrong}");

    desk.sign("release.key");
    let (code, said) = node.ask(&["reload"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(node.standing("published").0, 6);
}

#[test]
fn last_good_policy_outlives_a_restart_and_an_older_one_does_not_come_back() {
    let desk = Desk::new();
    desk.write(5, "one.example.com");
    desk.sign("release.key");
    let old = ["policy.toml", "policy.toml.sig"].map(|name| fs::read(desk.path(name)).unwrap());
    drop(desk.start());
    desk.write(6, "two.example.com");
    desk.sign("release.key");
    drop(desk.start());

    fs::write(desk.path("policy.toml"), "schema = 1\n").unwrap();
    let node = desk.start();
    assert_eq!(node.standing("bad-signature"), (6, true, 1));
    let (code, said) = node.ask(&["status"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("the kept copy of the last good one is in force"), "{said}");
    assert!(readyz(&node).contains("\nnote the policy file was refused"), "{}", readyz(&node));
    drop(node);

    for (name, bytes) in ["policy.toml", "policy.toml.sig"].iter().zip(&old) {
        fs::write(desk.path(name), bytes).unwrap();
    }
    assert_eq!(desk.verify("release.key.pub"), 0, "the old policy is well signed");
    let node = desk.start();
    assert_eq!(node.standing("rollback"), (6, true, 1));
    desk.write(7, "three.example.com");
    desk.sign("release.key");
    assert_eq!(node.ask(&["reload"]).0, 0);
    let (serial, restored, _) = node.standing("published");
    assert_eq!((serial, restored), (7, false));
    assert!(!readyz(&node).contains("note"));
    drop(node);

    fs::remove_file(desk.path("last-good.json")).unwrap();
    fs::write(desk.path("policy.toml"), "schema = 1\n").unwrap();
    assert_eq!(finish(&mut desk.command()).0, 2);
}

#[test]
fn rehearsal_names_the_classes_that_change_and_changes_nothing() {
    let desk = Desk::new();
    desk.write(5, "one.example.com");
    desk.sign("release.key");
    let node = desk.start();
    let (code, said) = node.ask(&["reload", "--dry-run"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.starts_with("serial 5 can come into force; no verdict changes\n"), "{said}");

    let other = Desk::new();
    for key in ["release.key", "release.key.pub"] {
        fs::copy(desk.path(key), other.path(key)).unwrap();
    }
    let candidate = other.path("policy.toml");
    let rehearse = || node.ask(&["reload", "--dry-run", "--policy", candidate.to_str().unwrap()]);
    other.write(6, "two.example.com");
    let (code, said) = rehearse();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("is not signed, and this node demands it"), "{said}");
    other.sign("release.key");
    let (code, said) = rehearse();
    assert_eq!(code, 1, "{said}");
    for part in [
        "serial 6 can come into force, and changes:",
        "class unprovisioned: 1 open, 1 close",
        "opens     two.example.com",
        "closes    one.example.com",
        "0 live sessions change verdict, 0 of them close",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    other.write(4, "two.example.com");
    other.sign("release.key");
    let (code, said) = rehearse();
    assert_eq!((code, said.contains("serial 4 is below 5")), (1, true), "{said}");
    assert_eq!(node.standing("published"), (5, false, 1));
}

#[test]
fn token_that_is_wrong_or_absent_is_one_clear_line() {
    let desk = Desk::new();
    desk.write(5, "one.example.com");
    desk.sign("release.key");
    let mut node = desk.start();
    node.token = desk.path("wrong.token");
    fs::write(&node.token, "ffffffffffffffffffffffffffffffff").unwrap();
    let (code, said) = node.ask(&["reload"]);
    assert_eq!(
        (code, said.trim()),
        (2, "error: no valid token: send the admin token: Authorization: Bearer …")
    );
    let (code, said) =
        finish(postern().args(["status", "--config"]).arg(desk.path("gateway.toml")));
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("has port 0; give the real one with --admin"), "{said}");
    let gone = std::mem::take(&mut node.admin);
    drop(node);
    let (code, said) = finish(postern().args(["status", "--admin", &gone]));
    assert_eq!(code, 2, "{said}");
    assert!(said.starts_with("error: cannot reach 127.0.0.1:"), "{said}");
}

fn readyz(node: &Running) -> String {
    use std::io::Write;
    let address = node.admin.strip_prefix("http://").unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream
        .write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

const GATEWAY: &str = r#"
node              = "suite"
environment       = "lab"
policy            = "policy.toml"
require_signature = ["release.key.pub"]
last_good         = "last-good.json"
[steering]
mode        = "none"
[dns]
listen      = ["127.0.0.1:0", "[::1]:0"]
upstreams   = ["udp://127.0.0.1:1"]
[admin]
listen      = "127.0.0.1:0"
token_file  = "admin.token"
"#;

const POLICY: &str = r#"
schema        = 1
name          = "suite"
serial        = SERIAL
environment   = "lab"
default_class = "unprovisioned"
[[hostset]]
name = "ours"
[[hostset.host]]
match   = "HOST"
schemes = ["https"]
[[class]]
name     = "unprovisioned"
priority = 100
action   = "garden"
hostsets = ["ours"]
"#;
