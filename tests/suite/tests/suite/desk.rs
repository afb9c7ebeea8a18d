//! A gateway on loopback that takes signed policies, with the folder that outlives its starts.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::tool::{finish, postern, succeed};

/// A folder with keys, settings and policies, and what stays of one start to the next.
pub(crate) struct Desk {
    folder: TempDir,
}

/// A running gateway; killed with this value.
pub(crate) struct Running {
    child: Child,
    /// The URL of its admin API.
    pub(crate) admin: String,
    /// The file with the token that calls carry.
    pub(crate) token: PathBuf,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let desk = Self { folder: tempfile::tempdir().unwrap() };
        fs::write(desk.path("gateway.toml"), GATEWAY).unwrap();
        fs::write(desk.path("admin.token"), "0123456789abcdef0123456789abcdef\n").unwrap();
        for key in ["release.key", "other.key"] {
            succeed(postern().args(["policy", "keygen"]).arg(desk.path(key)));
        }
        desk
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, serial: u64, host: &str) {
        let text = POLICY.replace("SERIAL", &serial.to_string()).replace("HOST", host);
        fs::write(self.path("policy.toml"), text).unwrap();
    }

    pub(crate) fn sign(&self, key: &str) {
        let mut sign = postern();
        succeed(
            sign.args(["policy", "sign", "--key"]).args([self.path(key), self.path("policy.toml")]),
        );
    }

    pub(crate) fn verify(&self, key: &str) -> i32 {
        let mut verify = postern();
        finish(
            verify
                .args(["policy", "verify", "--key"])
                .args([self.path(key), self.path("policy.toml")]),
        )
        .0
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = postern();
        command.args(["run", "--config"]).arg(self.path("gateway.toml"));
        command
    }

    pub(crate) fn start(&self) -> Running {
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
    pub(crate) fn ask(&self, arguments: &[&str]) -> (i32, String) {
        let mut command = postern();
        command.args(arguments).args(["--admin", &self.admin]).arg("--token-file").arg(&self.token);
        finish(&mut command)
    }

    pub(crate) fn status(&self) -> Value {
        let (code, said) = self.ask(&["status", "--format", "json"]);
        assert_eq!(code, 0, "{said}");
        serde_json::from_str(&said).unwrap()
    }

    /// Serial in force, whether it is the kept copy, and how often a reload came to `result`.
    pub(crate) fn standing(&self, result: &str) -> (u64, bool, u64) {
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
[log]
audit       = "audit.jsonl"
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
[[class]]
name     = "barred"
priority = 10
action   = "drop"
[[class.match]]
networks = ["192.0.2.0/24"]
"#;
