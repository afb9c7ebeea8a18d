//! The operator's NAT64: the prefix under which IPv4 hosts are reached over IPv6 (RFC 6052).

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use ipnet::Ipv6Net;

use crate::address::{self, RefusedAddress};

/// A prefix that a translator puts in front of IPv4 addresses, of 32, 40, 48, 56, 64 or 96 bits
/// (RFC 6052 section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nat64(Ipv6Net);

/// Why a text is no prefix of a NAT64.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNat64 {
    /// It is not `ADDRESS/LENGTH`.
    #[error("not an IPv6 prefix with its length, such as 64:ff9b::/96")]
    NotAPrefix,
    /// The length is not one of RFC 6052.
    #[error("the prefix has {length} bits; a NAT64 has 32, 40, 48, 56, 64 or 96")]
    Length {
        /// Bits of the prefix.
        length: u8,
    },
    /// Bits behind the prefix are set.
    #[error("bits are set behind the prefix; {prefix} has none")]
    HostBits {
        /// The prefix without them.
        prefix: Ipv6Net,
    },
    /// Bits 64 to 71, which belong to nobody, are set (RFC 6052 section 2.2).
    #[error("bits 64 to 71 of the prefix are set; they must be 0")]
    ReservedBits,
    /// Nothing can be reached there.
    #[error("the prefix lies among {kind} addresses")]
    Unusable {
        /// What is there.
        kind: RefusedAddress,
    },
}

impl Nat64 {
    /// The IPv6 address that leads to `address`.
    ///
    /// `None` if the prefix is the well-known one and the address is not global: such an address
    /// must not be written so (RFC 6052 section 3.1).
    #[must_use]
    pub fn embed(&self, address: Ipv4Addr) -> Option<Ipv6Addr> {
        let is_global = address::refused(IpAddr::V4(address)).is_none();
        (is_global || self.0 != WELL_KNOWN).then(|| self.write(address))
    }

    /// The two addresses from which a phone reads the prefix (RFC 7050 section 3, RFC 8880).
    #[must_use]
    pub fn discovery(&self) -> [Ipv6Addr; 2] {
        DISCOVERY.map(|address| self.write(address))
    }

    /// The IPv4 address that `address` leads to, if it has the prefix.
    #[must_use]
    pub fn extract(&self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        self.0.contains(&address).then(|| read(address, self.0.prefix_len()))
    }

    fn write(&self, address: Ipv4Addr) -> Ipv6Addr {
        let mut octets = self.0.network().octets();
        for (place, octet) in places(self.0.prefix_len()).zip(address.octets()) {
            if let Some(there) = octets.get_mut(place) {
                *there = octet;
            }
        }
        Ipv6Addr::from(octets)
    }
}

/// Whether `address` tells a NAT64 prefix: one of the discovery addresses stands behind it,
/// whatever its length (RFC 7050 section 3).
pub(crate) fn tells_prefix(address: Ipv6Addr) -> bool {
    LENGTHS.into_iter().any(|length| DISCOVERY.contains(&read(address, length)))
}

fn read(address: Ipv6Addr, length: u8) -> Ipv4Addr {
    let octets = address.octets();
    let mut found = [0; 4];
    for (octet, place) in found.iter_mut().zip(places(length)) {
        *octet = octets.get(place).copied().unwrap_or_default();
    }
    Ipv4Addr::from(found)
}

/// Where the octets of the IPv4 address stand: right behind the prefix, but never in octet 8.
fn places(length: u8) -> impl Iterator<Item = usize> {
    (usize::from(length / 8)..).filter(|place| *place != RESERVED_OCTET)
}

impl FromStr for Nat64 {
    type Err = InvalidNat64;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let prefix: Ipv6Net = text.parse().map_err(|_| InvalidNat64::NotAPrefix)?;
        let length = prefix.prefix_len();
        if !LENGTHS.contains(&length) {
            return Err(InvalidNat64::Length { length });
        }
        if prefix.trunc() != prefix {
            return Err(InvalidNat64::HostBits { prefix: prefix.trunc() });
        }
        if prefix.addr().octets().get(RESERVED_OCTET) != Some(&0) {
            return Err(InvalidNat64::ReservedBits);
        }
        match address::refused(IpAddr::V6(prefix.addr())) {
            // A translator may well be reached by a local prefix (RFC 8215) or a private one.
            None | Some(RefusedAddress::Transition | RefusedAddress::UniqueLocal) => {
                Ok(Self(prefix))
            }
            Some(kind) => Err(InvalidNat64::Unusable { kind }),
        }
    }
}

impl fmt::Display for Nat64 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// RFC 6052 section 2.1.
const WELL_KNOWN: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);
/// Bits of a prefix (RFC 6052 section 2.2).
const LENGTHS: [u8; 6] = [32, 40, 48, 56, 64, 96];
/// Bits 64 to 71 (RFC 6052 section 2.2).
const RESERVED_OCTET: usize = 8;
/// The addresses of `ipv4only.arpa` (RFC 7050 section 8.2).
pub(crate) const DISCOVERY: [Ipv4Addr; 2] =
    [Ipv4Addr::new(192, 0, 0, 170), Ipv4Addr::new(192, 0, 0, 171)];

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::{Nat64, tells_prefix};

    /// The table of RFC 6052 section 2.4.
    const EXAMPLES: [(&str, &str); 6] = [
        ("2001:db8::/32", "2001:db8:c000:221::"),
        ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
        ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
        ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
        ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
        ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"),
    ];

    #[test]
    fn writes_and_reads_as_the_standards_examples() {
        let v4 = Ipv4Addr::new(192, 0, 2, 33);
        for (prefix, expected) in EXAMPLES {
            let nat64: Nat64 = prefix.parse().unwrap();
            let expected: Ipv6Addr = expected.parse().unwrap();
            assert_eq!(nat64.embed(v4), Some(expected), "{prefix}");
            assert_eq!(nat64.extract(expected), Some(v4), "{prefix}");
            assert_eq!(nat64.extract("2001:db9::1".parse().unwrap()), None, "{prefix}");
            assert_eq!(nat64.to_string(), prefix);
            assert!(!tells_prefix(expected), "{prefix}");
            assert!(nat64.discovery().into_iter().all(tells_prefix), "{prefix}");
        }
    }

    #[test]
    fn well_known_prefix_carries_global_addresses_only() {
        let nat64: Nat64 = "64:ff9b::/96".parse().unwrap();
        assert!(nat64.embed(Ipv4Addr::new(198, 51, 100, 7)).is_some());
        for private in [[10, 0, 0, 1], [100, 64, 0, 1], [127, 0, 0, 1], [192, 0, 0, 170]] {
            assert_eq!(nat64.embed(private.into()), None);
            let own: Nat64 = "2001:db8:64::/96".parse().unwrap();
            assert!(own.embed(private.into()).is_some());
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, expected) in [
            ("64:ff9b::", "not an IPv6 prefix"),
            ("10.0.0.0/8", "not an IPv6 prefix"),
            ("64:ff9b::/97", "97 bits"),
            ("64:ff9b::1/96", "64:ff9b::/96 has none"),
            ("2001:db8:0:0:100::/96", "bits 64 to 71"),
            ("ff00::/32", "multicast"),
            ("fe80::/64", "link-local"),
            ("::ffff:0:0/96", "mapped"),
        ] {
            let message = text.parse::<Nat64>().unwrap_err().to_string();
            assert!(message.contains(expected), "{text}: {message}");
        }
        for text in ["64:ff9b:1:fffe::/96", "fd00:64::/96"] {
            assert!(text.parse::<Nat64>().is_ok(), "{text}");
        }
    }
}
