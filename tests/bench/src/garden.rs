//! The garden of the bench: 101 names that all lead to its origin, and a Postern that knows them.

use std::{fmt::Write, net::SocketAddr};

use crate::network::ORIGIN_ADDRESS;

/// The listed names.
#[must_use]
pub fn names() -> Vec<String> {
    (0..NAMES).map(|number| format!("host-{number}.zone-{}.example", number % 7)).collect()
}

/// Names nobody lists.
#[must_use]
pub fn other_names() -> Vec<String> {
    (0..NAMES).map(|number| format!("other-{number}.zone-{}.example", number % 7)).collect()
}

/// A `gateway.toml` with its TLS listener on `near`, and `workers` threads.
#[must_use]
pub fn gateway(near: SocketAddr, workers: usize) -> String {
    format!(
        "node = \"bench\"\nenvironment = \"lab\"\npolicy = \"policy.toml\"\n\
         [steering]\nmode = \"none\"\n\
         [dns]\nlisten = [\"127.0.0.1:5353\"]\nupstreams = [\"udp://127.0.0.1:1\"]\n\
         [proxy]\nhttps = [\"{near}\"]\nworkers = {workers}\n\
         [proxy.limits]\nsessions = 20000\nsessions_per_subscriber = 20000\n\
         sessions_per_second = 1000000\n\
         [admin]\nlisten = \"127.0.0.1:9180\"\n"
    )
}

/// The policy.
#[must_use]
pub fn policy() -> String {
    let mut text = String::from(
        "schema = 1\nname = \"bench\"\nserial = 1\nenvironment = \"lab\"\ndefault_class = \"garden\"\n\
         [http]\ndenied = \"close\"\n\
         [[class]]\nname = \"garden\"\npriority = 1\naction = \"garden\"\nhostsets = [\"many\"]\n\
         [[class.match]]\nnetworks = [\"10.9.1.0/24\"]\n\
         [[hostset]]\nname = \"many\"\nsource = \"bench\"\nreviewed = 2026-01-01\n",
    );
    for name in names() {
        let _ = write!(text, "[[hostset.host]]\nmatch = \"{name}\"\nschemes = [\"https\"]\n");
    }
    text.push_str("[lab]\nnetworks = [\"10.9.2.0/24\"]\n");
    let _ = write!(text, "ports = {{ \"443\" = {PORT} }}\n[lab.resolve]\n");
    for name in names() {
        let _ = writeln!(text, "\"{name}\" = [\"{ORIGIN_ADDRESS}\"]");
    }
    text
}

/// Names of the allowlist.
const NAMES: usize = 101;
/// Where every proxy and the origin listen.
pub const PORT: u16 = 8443;
