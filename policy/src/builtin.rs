//! The built-in host sets.

use crate::host::HostName;

/// Whether `host` is a connectivity probe of Windows.
pub(crate) fn is_probe(host: &HostName) -> bool {
    PROBES.contains(&host.as_str())
}

/// Names Windows asks to learn whether it is online (Microsoft, "NCSI frequently asked questions").
const PROBES: [&str; 6] = [
    "www.msftconnecttest.com",
    "ipv6.msftconnecttest.com",
    "msftconnecttest.com",
    "www.msftncsi.com",
    "msftncsi.com",
    "dns.msftncsi.com",
];
