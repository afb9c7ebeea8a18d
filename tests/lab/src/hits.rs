//! What the servers of the emulated Internet saw: connections by the address they came in on, names
//! by what was asked.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
};

/// What one host saw.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HitCount {
    /// TCP connections and UDP datagrams to its addresses, on any port. Hosts that share an address
    /// share this number, and in the loopback form all hosts do.
    pub connections: u64,
    /// TLS hellos that named it.
    pub hellos: u64,
    /// HTTP requests that named it, over TLS or not.
    pub requests: u64,
}

/// The counters all servers write to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hits(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    connections: BTreeMap<(IpAddr, u16), u64>,
    hellos: BTreeMap<String, u64>,
    requests: BTreeMap<String, u64>,
}

impl Hits {
    pub(crate) fn connection(&self, local: SocketAddr) {
        let key = (local.ip().to_canonical(), local.port());
        *self.0.lock().unwrap().connections.entry(key).or_default() += 1;
    }

    pub(crate) fn hello(&self, name: &str) {
        *self.0.lock().unwrap().hellos.entry(name.to_ascii_lowercase()).or_default() += 1;
    }

    pub(crate) fn request(&self, name: &str) {
        *self.0.lock().unwrap().requests.entry(name.to_ascii_lowercase()).or_default() += 1;
    }

    /// Counts of a host with these addresses.
    pub(crate) fn of(&self, name: &str, addresses: &[IpAddr]) -> HitCount {
        let counts = self.0.lock().unwrap();
        let name = name.to_ascii_lowercase();
        HitCount {
            connections: counts
                .connections
                .iter()
                .filter(|((ip, _), _)| addresses.contains(ip))
                .map(|(_, count)| count)
                .sum(),
            hellos: counts.hellos.get(&name).copied().unwrap_or_default(),
            requests: counts.requests.get(&name).copied().unwrap_or_default(),
        }
    }

    /// Connections to one address and port.
    pub(crate) fn connections_to(&self, local: SocketAddr) -> u64 {
        let key = (local.ip().to_canonical(), local.port());
        self.0.lock().unwrap().connections.get(&key).copied().unwrap_or_default()
    }
}
