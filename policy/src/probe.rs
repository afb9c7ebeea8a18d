//! The connectivity probes of Windows (NCSI): the one list of their names and what they expect.
//!
//! Source: Microsoft, "Network Connectivity Status Indicator: frequently asked questions".

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::host::HostName;

/// What Windows asks of a host to find out whether it is online.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Resolved only: online means these addresses, one of each family.
    Dns {
        /// The addresses.
        addresses: [IpAddr; 2],
    },
    /// A name of older tables that is not asked for today.
    Former,
    /// Asked by HTTP: online means this body at this path.
    Web {
        /// The path of the request.
        path: &'static str,
        /// The whole body.
        body: &'static str,
    },
}

impl Probe {
    /// What `host` is to Windows, if it is a probe.
    #[must_use]
    pub fn of(host: &HostName) -> Option<Self> {
        PROBES.iter().find(|(name, _)| *name == host.as_str()).map(|(_, probe)| *probe)
    }

    /// The names of all probes.
    pub(crate) fn names() -> impl Iterator<Item = HostName> {
        PROBES.iter().filter_map(|(name, _)| HostName::parse(name).ok())
    }
}

const CONNECT_TEST: Probe = Probe::Web { path: "/connecttest.txt", body: "Microsoft Connect Test" };

const PROBES: [(&str, Probe); 6] = [
    ("www.msftconnecttest.com", CONNECT_TEST),
    ("ipv6.msftconnecttest.com", CONNECT_TEST),
    ("msftconnecttest.com", Probe::Former),
    ("www.msftncsi.com", Probe::Web { path: "/ncsi.txt", body: "Microsoft NCSI" }),
    ("msftncsi.com", Probe::Former),
    (
        "dns.msftncsi.com",
        Probe::Dns {
            addresses: [
                IpAddr::V4(Ipv4Addr::new(131, 107, 255, 255)),
                IpAddr::V6(Ipv6Addr::new(0xfd3e, 0x4f5a, 0x5b81, 0, 0, 0, 0, 1)),
            ],
        },
    ),
];
