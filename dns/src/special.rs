//! Names that are answered here, listed or not.
//!
//! | name | answer | source |
//! |---|---|---|
//! | `localhost` and below | the loopback addresses | RFC 6761 section 6.3 |
//! | `invalid`, `onion`, `alt` and below | no such name | RFC 6761 section 6.4, RFC 7686, RFC 9476 |
//! | `ipv4only.arpa` | 192.0.0.170 and .171; AAAA behind our NAT64, else as upstream says | RFC 7050, RFC 8880 |
//! | `_dns.resolver.arpa` | our encrypted listeners, to those who can verify them | RFC 9462 section 4 |
//! | `resolver.arpa` and below | what we can do, and no such record: no other resolver is named | RFC 9462 section 6.1, RFC 9606 |
//! | reverse names of private addresses | no such name | RFC 6303 section 4, RFC 7793 |
//! | `use-application-dns.net` | no such name | Mozilla, "Canary domain": DNS over HTTPS stays off |
//! | `mask.icloud.com`, `mask-h2.icloud.com` | no such name | Apple, "Prepare your network for iCloud Private Relay" |
//! | `test`, `local`, `internal`, `home.arpa` and below | no such name, unless the policy lists them | RFC 6761, RFC 6762, RFC 8375 |
//!
//! The canaries tell a phone to keep to this resolver. A policy that lists one by its full name
//! turns it off for the class; a wildcard does not, and who is in an open class may use what it
//! likes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use policy::{HostName, Probe};

use crate::reverse::Reverse;

/// What is said about a special name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Special {
    /// There is no such name.
    NoName,
    /// There is no such name, unless the policy lists this very name.
    Canary,
    /// There is no such name, unless it is listed.
    NoNameUnlessListed,
    /// The loopback addresses, and no other record.
    Loopback,
    /// The addresses by which a phone finds out about NAT64.
    Ipv4Only,
    /// The encrypted listeners.
    Designation,
    /// What the resolver can do, and no other record.
    Resolver,
}

/// What is special about `host`, if anything.
pub(crate) fn special(host: &HostName) -> Option<Special> {
    match host.as_str() {
        "use-application-dns.net" | "mask.icloud.com" | "mask-h2.icloud.com" => {
            return Some(Special::Canary);
        }
        "ipv4only.arpa" => return Some(Special::Ipv4Only),
        "_dns.resolver.arpa" => return Some(Special::Designation),
        _ => {}
    }
    // Most names end in none of these, and this is looked at for every question.
    let (before, last) = split_last(host.as_str());
    let parent = || before.map(|before| split_last(before).1);
    match last {
        "localhost" => Some(Special::Loopback),
        "invalid" | "onion" | "alt" => Some(Special::NoName),
        "test" | "local" | "internal" => Some(Special::NoNameUnlessListed),
        "arpa" => match parent()? {
            "resolver" => Some(Special::Resolver),
            "home" => Some(Special::NoNameUnlessListed),
            "in-addr" | "ip6" => {
                Reverse::of(host).filter(Reverse::is_private).map(|_| Special::NoName)
            }
            _ => None,
        },
        _ => None,
    }
}

/// What stands before the last dot, and the label behind it.
fn split_last(name: &str) -> (Option<&str>, &str) {
    let dot = name.bytes().rposition(|octet| octet == b'.');
    let split = dot.and_then(|dot| Some((name.get(..dot)?, name.get(dot + 1..)?)));
    split.map_or((None, name), |(before, last)| (Some(before), last))
}

/// The addresses of a connectivity probe that the gateway answers itself or leads to the portal.
///
/// A web probe may be sent anywhere, because the proxy takes it whatever its destination; it gets
/// documentation addresses, which lead nowhere without the proxy.
pub(crate) fn probe(host: &HostName) -> Option<[IpAddr; 2]> {
    match Probe::of(host)? {
        Probe::Dns { addresses } => Some(addresses),
        Probe::Web { .. } => Some(WEB_PROBE),
        Probe::Former => None,
    }
}

/// RFC 6761 section 6.3.
pub(crate) const LOOPBACK: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

const WEB_PROBE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 80)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x80)),
];

#[cfg(test)]
mod tests {
    use policy::HostName;

    use super::{Special, special};

    #[test]
    fn knows_the_names_that_are_answered_here() {
        for (host, expected) in [
            ("localhost", Some(Special::Loopback)),
            ("a.localhost", Some(Special::Loopback)),
            ("localhost.example", None),
            ("a.invalid", Some(Special::NoName)),
            ("a.onion", Some(Special::NoName)),
            ("ipv4only.arpa", Some(Special::Ipv4Only)),
            ("a.ipv4only.arpa", None),
            ("_dns.resolver.arpa", Some(Special::Designation)),
            ("a._dns.resolver.arpa", Some(Special::Resolver)),
            ("resolver.arpa", Some(Special::Resolver)),
            ("1.0.0.10.in-addr.arpa", Some(Special::NoName)),
            ("168.192.in-addr.arpa", Some(Special::NoName)),
            ("8.8.8.8.in-addr.arpa", None),
            ("8.e.f.ip6.arpa", Some(Special::NoName)),
            ("use-application-dns.net", Some(Special::Canary)),
            ("mask.icloud.com", Some(Special::Canary)),
            ("mask-h2.icloud.com", Some(Special::Canary)),
            ("icloud.com", None),
            ("ocsp.corp.internal", Some(Special::NoNameUnlessListed)),
            ("printer.local", Some(Special::NoNameUnlessListed)),
            ("router.home.arpa", Some(Special::NoNameUnlessListed)),
            ("www.example.test", Some(Special::NoNameUnlessListed)),
            ("www.example", None),
        ] {
            assert_eq!(special(&HostName::parse(host).unwrap()), expected, "{host}");
        }
    }
}
