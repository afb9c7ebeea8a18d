//! Names that are answered here, listed or not.
//!
//! | name | answer | source |
//! |---|---|---|
//! | `localhost` and below | the loopback addresses | RFC 6761 section 6.3 |
//! | `invalid`, `onion`, `alt` and below | no such name | RFC 6761 section 6.4, RFC 7686, RFC 9476 |
//! | `ipv4only.arpa` | 192.0.0.170 and .171, no AAAA | RFC 7050, RFC 8880 |
//! | `resolver.arpa` and below | no such record | RFC 9462 section 6.1: no other resolver is named |
//! | `use-application-dns.net` | no such name | Mozilla, "Canary domain": DNS over HTTPS stays off |
//! | `mask.icloud.com`, `mask-h2.icloud.com` | no such name | Apple, "Prepare your network for iCloud Private Relay" |
//! | `test`, `local`, `internal`, `home.arpa` and below | no such name, unless the policy lists them | RFC 6761, RFC 6762, RFC 8375 |

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use policy::{HostName, Probe};

/// What is said about a special name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Special {
    /// There is no such name.
    NoName,
    /// There is no such name, which tells the asker to keep to this resolver. Those who are in an
    /// open class may use what they like.
    Canary,
    /// There is no such name, unless it is listed.
    NoNameUnlessListed,
    /// These addresses, and no other record.
    Addresses(Vec<IpAddr>),
}

/// What is special about `host`, if anything.
pub(crate) fn special(host: &HostName) -> Option<Special> {
    let v4 = |a, b, c, d| IpAddr::V4(Ipv4Addr::new(a, b, c, d));
    match host.as_str() {
        "use-application-dns.net" | "mask.icloud.com" | "mask-h2.icloud.com" => {
            return Some(Special::Canary);
        }
        "ipv4only.arpa" => {
            return Some(Special::Addresses(vec![v4(192, 0, 0, 170), v4(192, 0, 0, 171)]));
        }
        _ => {}
    }
    let mut labels = host.labels().rev();
    match (labels.next()?, labels.next()) {
        ("localhost", _) => {
            Some(Special::Addresses(vec![v4(127, 0, 0, 1), IpAddr::V6(Ipv6Addr::LOCALHOST)]))
        }
        ("invalid" | "onion" | "alt", _) => Some(Special::NoName),
        ("arpa", Some("resolver")) => Some(Special::Addresses(Vec::new())),
        ("test" | "local" | "internal", _) | ("arpa", Some("home")) => {
            Some(Special::NoNameUnlessListed)
        }
        _ => None,
    }
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
            ("localhost", Some("127.0.0.1 ::1")),
            ("a.localhost", Some("127.0.0.1 ::1")),
            ("localhost.example", None),
            ("a.invalid", Some("no name")),
            ("a.onion", Some("no name")),
            ("ipv4only.arpa", Some("192.0.0.170 192.0.0.171")),
            ("a.ipv4only.arpa", None),
            ("_dns.resolver.arpa", Some("")),
            ("resolver.arpa", Some("")),
            ("1.0.0.10.in-addr.arpa", None),
            ("use-application-dns.net", Some("canary")),
            ("mask.icloud.com", Some("canary")),
            ("mask-h2.icloud.com", Some("canary")),
            ("icloud.com", None),
            ("ocsp.corp.internal", Some("no name unless listed")),
            ("printer.local", Some("no name unless listed")),
            ("router.home.arpa", Some("no name unless listed")),
            ("www.example.test", Some("no name unless listed")),
            ("www.example", None),
        ] {
            let found = special(&HostName::parse(host).unwrap()).map(|special| match special {
                Special::NoName => "no name".to_owned(),
                Special::Canary => "canary".to_owned(),
                Special::NoNameUnlessListed => "no name unless listed".to_owned(),
                Special::Addresses(addresses) => {
                    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
                }
            });
            assert_eq!(found.as_deref(), expected, "{host}");
        }
    }
}
