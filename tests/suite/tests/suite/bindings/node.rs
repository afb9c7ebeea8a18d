//! A gateway on loopback that takes RADIUS, with the folder that outlives its starts.

use std::{fs, net::SocketAddr, path::PathBuf};

use http::Method;
use lab::Gateway;
use tempfile::TempDir;

use super::nas::{Nas, imsi};
use crate::{stage::eventually, tool::postern};

/// A running gateway; it ends with this value.
pub(crate) struct Node {
    gateway: Gateway,
    folder: TempDir,
}

impl Node {
    /// A node with these lines in its table `[state]`.
    pub(crate) fn start(state: &str) -> Self {
        Self::start_as(postern().get_program().into(), state)
    }

    /// As [`start`](Self::start), by another program.
    pub(crate) fn start_as(program: PathBuf, state: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("gateway.toml", GATEWAY.replace("STATE", state).as_str()),
            ("policy.toml", POLICY),
            ("secret", SECRET),
            ("admin.token", "0123456789abcdef0123456789abcdef"),
        ] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let gateway = Gateway::at(program, folder.path()).unwrap();
        gateway.start().unwrap();
        Self { gateway, folder }
    }

    /// Kills the process and starts another one.
    pub(crate) fn restart(&self) {
        self.gateway.kill();
        self.gateway.start().unwrap();
    }

    /// Changes a text of `gateway.toml`; the next start reads it.
    pub(crate) fn rewrite(&self, from: &str, into: &str) {
        let path = self.folder.path().join("gateway.toml");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(path, text.replacen(from, into, 1)).unwrap();
    }

    pub(crate) fn kill(&self) {
        self.gateway.kill();
    }

    /// The port that takes accounting.
    pub(crate) fn accounting(&self) -> SocketAddr {
        self.gateway.listening("radius")[0]
    }

    /// A NAS that speaks to this node.
    pub(crate) fn nas(&self) -> Nas {
        Nas::at(self.accounting())
    }

    /// A system that gives this node orders.
    pub(crate) fn orders(&self) -> Nas {
        Nas::at(self.gateway.listening("coa")[0])
    }

    /// The class that a subscriber's address falls in.
    pub(crate) fn class(&self, address: &str) -> String {
        let path = format!("/v1/explain?ip={address}&target=https://www.example.com");
        let reply = self.gateway.admin(Method::GET, &path, "").unwrap();
        let report: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
        let class = &report["class"];
        class["name"].as_str().or(class.as_str()).unwrap_or("none").to_owned()
    }

    /// Sets the state of a SIM by the admin API; the status of the answer.
    pub(crate) fn set(&self, sim: u32, state: &str) -> u16 {
        let (path, body) =
            (format!("/v1/sims/imsi:{}", imsi(sim)), format!(r#"{{"state":"{state}"}}"#));
        self.gateway.admin(Method::PUT, &path, &body).unwrap().status.as_u16()
    }

    #[track_caller]
    pub(crate) fn wait_for(&self, address: &str, class: &str) {
        eventually(&format!("{address} is {class}"), || {
            (self.class(address) == class).then_some(())
        });
    }

    /// The sum of a metric; 0 while there is no sample.
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let reply = self.gateway.admin(Method::GET, "/metrics", "").unwrap();
        lab::Metrics::parse(&reply.body).sum(name, labels).unwrap_or_default()
    }

    #[track_caller]
    pub(crate) fn assert_says_nothing_of(&self, secrets: &[&str]) {
        let log = fs::read_to_string(self.gateway.log_file()).unwrap();
        for secret in secrets {
            assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
        }
    }
}

/// What every NAS shares with the nodes.
pub(crate) const SECRET: &str = "suite-secret";
/// The lines of a node that keeps its table in a file.
pub(crate) const EMBEDDED: &str = "engine = \"embedded\"";

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
token_file  = "admin.token"
[radius]
listen      = ["127.0.0.1:0"]
coa         = ["127.0.0.1:0"]
clients     = [{ name = "pgw-1", address = "127.0.0.1", secret_file = "secret" }]
[state]
STATE
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
