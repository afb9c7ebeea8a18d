//! The wires: a namespace per SIM, one for the gateway, one for the emulated Internet, veth pairs
//! between them.
//!
//! Every address is from a documentation or a shared range and there is no default route out, so a
//! leak can only reach the emulated Internet, where it is counted.

use std::{fmt::Write, fs};

use super::{WorldError, during, tool};
use crate::namespace::Namespace;

/// The namespaces of one world; dropping it removes them.
#[derive(Debug)]
pub(super) struct Wiring {
    prefix: String,
    names: Vec<String>,
}

impl Wiring {
    /// Makes the namespaces and connects them.
    pub(super) fn build(prefix: &str, sims: u8) -> Result<Self, WorldError> {
        let places = (1..=sims).map(|number| format!("ue{number}"));
        let names: Vec<_> = places
            .chain(["gw".to_owned(), "net".to_owned()])
            .map(|p| format!("{prefix}{p}"))
            .collect();
        let wiring = Self { prefix: prefix.to_owned(), names };
        let made = wiring.names.iter().fold(String::new(), |mut script, name| {
            let _ = writeln!(script, "netns add {name}");
            script
        });
        tool::run("ip", &["-batch", "-"], &made)?;
        for name in &wiring.names {
            set_kernel(name)?;
        }
        tool::run("ip", &["-batch", "-"], &wires(prefix, sims))?;
        for number in 1..=sims {
            wiring.batch(&format!("ue{number}"), &sim_side(number))?;
        }
        wiring.batch("gw", &gateway_side(sims))?;
        wiring.batch("net", &internet_side())?;
        let net = Namespace::enter(&wiring.name("net")).map_err(during("entering net"))?;
        // An IPv6 socket may not be bound to an address that is local by route only.
        net.call(|| fs::write("/proc/sys/net/ipv6/ip_nonlocal_bind", "1"))
            .map_err(during("allowing servers on every address of the emulated Internet"))?;
        net.call(|| tool::run("nft", &["-f", "-"], LEAK_COUNTERS))?;
        Ok(wiring)
    }

    /// The full name of a namespace.
    pub(super) fn name(&self, place: &str) -> String {
        format!("{}{place}", self.prefix)
    }

    /// Packets with a SIM's source address seen by the emulated Internet.
    pub(super) fn leaked_packets(&self) -> Result<u64, WorldError> {
        let net = Namespace::enter(&self.name("net")).map_err(during("entering net"))?;
        let listing = net.call(|| tool::run("nft", &["list", "counters"], ""))?;
        Ok(packets(&listing))
    }

    fn batch(&self, place: &str, script: &str) -> Result<(), WorldError> {
        tool::run("ip", &["-n", &self.name(place), "-batch", "-"], script).map(drop)
    }
}

impl Drop for Wiring {
    fn drop(&mut self) {
        for name in &self.names {
            // The namespace goes with the private environment at the latest.
            let _ = tool::run("ip", &["netns", "del", name], "");
        }
    }
}

/// Sets what must hold before the first interface comes up.
fn set_kernel(name: &str) -> Result<(), WorldError> {
    let namespace = Namespace::enter(name).map_err(during("entering a namespace"))?;
    namespace
        .call(|| {
            for (file, value) in KERNEL {
                fs::write(file, value)?;
            }
            Ok(())
        })
        .map_err(during("setting the kernel's network options of a namespace"))
}

fn wires(prefix: &str, sims: u8) -> String {
    let mut script = String::new();
    for n in 1..=sims {
        let _ = writeln!(
            script,
            "link add ue{n} address {} netns {prefix}gw type veth peer name eth0 address {} netns {prefix}ue{n}",
            gateway_mac(n),
            sim_mac(n),
        );
    }
    let _ = writeln!(
        script,
        "link add net0 address {} netns {prefix}gw type veth peer name eth0 address {} netns {prefix}net",
        gateway_mac(TRANSIT),
        sim_mac(TRANSIT),
    );
    script
}

fn sim_side(n: u8) -> String {
    let mac = gateway_mac(n);
    format!(
        "link set lo up\n\
         addr add 100.64.{n}.2/24 dev eth0\n\
         addr add 2001:db8:64:{n}::2/64 dev eth0 nodad\n\
         link set eth0 up\n\
         neigh replace 100.64.{n}.1 lladdr {mac} dev eth0 nud permanent\n\
         neigh replace 2001:db8:64:{n}::1 lladdr {mac} dev eth0 nud permanent\n\
         route add default via 100.64.{n}.1\n\
         route add default via 2001:db8:64:{n}::1\n"
    )
}

fn gateway_side(sims: u8) -> String {
    let mut script = String::from("link set lo up\n");
    for n in 1..=sims {
        let mac = sim_mac(n);
        let _ = write!(
            script,
            "addr add 100.64.{n}.1/24 dev ue{n}\n\
             addr add 2001:db8:64:{n}::1/64 dev ue{n} nodad\n\
             link set ue{n} up\n\
             neigh replace 100.64.{n}.2 lladdr {mac} dev ue{n} nud permanent\n\
             neigh replace 2001:db8:64:{n}::2 lladdr {mac} dev ue{n} nud permanent\n"
        );
    }
    let mac = sim_mac(TRANSIT);
    let _ = write!(
        script,
        "addr add 192.0.2.1/30 dev net0\n\
         addr add 2001:db8:ffff::1/64 dev net0 nodad\n\
         link set net0 up\n\
         neigh replace 192.0.2.2 lladdr {mac} dev net0 nud permanent\n\
         neigh replace 2001:db8:ffff::2 lladdr {mac} dev net0 nud permanent\n\
         route add default via 192.0.2.2\n\
         route add default via 2001:db8:ffff::2\n"
    );
    script
}

/// Every address of the emulated Internet is local here, and there is a way back to the SIMs: a
/// leak would work.
fn internet_side() -> String {
    let mac = gateway_mac(TRANSIT);
    format!(
        "link set lo up\n\
         addr add 192.0.2.2/30 dev eth0\n\
         addr add 2001:db8:ffff::2/64 dev eth0 nodad\n\
         link set eth0 up\n\
         neigh replace 192.0.2.1 lladdr {mac} dev eth0 nud permanent\n\
         neigh replace 2001:db8:ffff::1 lladdr {mac} dev eth0 nud permanent\n\
         route add local 203.0.113.0/24 dev lo\n\
         route add local 198.51.100.0/24 dev lo\n\
         route add local 2001:db8:113::/48 dev lo\n\
         route add 100.64.0.0/16 via 192.0.2.1\n\
         route add 2001:db8:64::/48 via 2001:db8:ffff::1\n"
    )
}

/// Adds the packet counts of an `nft list counters` listing.
fn packets(listing: &str) -> u64 {
    let mut words = listing.split_whitespace();
    let mut sum = 0;
    while let Some(word) = words.next() {
        if word == "packets" {
            sum += words.next().and_then(|count| count.parse::<u64>().ok()).unwrap_or_default();
        }
    }
    sum
}

// Fixed neighbours: the first packet of an interface that just came up would wait a second for
// neighbour discovery.
fn gateway_mac(n: u8) -> String {
    format!("02:00:00:00:{n:02x}:01")
}

fn sim_mac(n: u8) -> String {
    format!("02:00:00:00:{n:02x}:02")
}

/// The number of the wire between the gateway and the emulated Internet; no SIM has it.
const TRANSIT: u8 = 255;

const KERNEL: [(&str, &str); 4] = [
    ("/proc/sys/net/ipv6/conf/all/accept_dad", "0"),
    ("/proc/sys/net/ipv6/conf/default/accept_dad", "0"),
    ("/proc/sys/net/ipv4/ip_forward", "1"),
    ("/proc/sys/net/ipv6/conf/all/forwarding", "1"),
];

const LEAK_COUNTERS: &str = "\
table inet lab_leak {
  counter sims4 { }
  counter sims6 { }
  chain arriving {
    type filter hook prerouting priority raw; policy accept;
    ip saddr 100.64.0.0/16 counter name sims4
    ip6 saddr 2001:db8:64::/48 counter name sims6
  }
}
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaks_of_both_families_are_added() {
        let listing = "table inet lab_leak {\n\tcounter sims4 {\n\t\tpackets 3 bytes 180\n\t}\n\
                       \tcounter sims6 {\n\t\tpackets 4 bytes 320\n\t}\n}\n";
        assert_eq!(packets(listing), 7);
        assert_eq!(packets(""), 0);
    }
}
