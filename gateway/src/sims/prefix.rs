//! What a SIM's packets can come from: an IPv4 address, an IPv6 /64, or a delegated prefix.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Addresses that belong to one SIM at a time, within a routing domain.
///
/// A host gets a whole IPv6 /64 (RFC 7278 section 3), so nothing longer is ever told apart. Nine
/// octets: there are millions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(Rust, packed)]
pub(crate) struct Prefix {
    /// The upper 64 bits of an IPv6 prefix, or an IPv4 address.
    bits: u64,
    /// 32 for IPv4, 128 plus the length for IPv6: one octet tells the families apart.
    kind: u8,
}

/// Why a network cannot be one SIM's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidPrefix {
    /// Several IPv4 addresses.
    #[error("an IPv4 binding is one address, not a /{length}")]
    Ipv4Network {
        /// The length given.
        length: u8,
    },
    /// More than a site is ever given (RFC 6177 section 2).
    #[error("a delegated prefix has at least {SHORTEST} bits; this one has {length}")]
    Short {
        /// The length given.
        length: u8,
    },
    /// No address of a subscriber: unspecified, loopback, link-local, multicast or broadcast.
    #[error("the address is not one of a subscriber")]
    NoSubscriber,
}

impl Prefix {
    /// The prefix that packets from `address` belong to by themselves: the address, or its /64.
    ///
    /// An IPv4 address mapped into IPv6 is folded to IPv4 (RFC 4291 section 2.5.5.2).
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self { bits: u64::from(address.to_bits()), kind: IPV4 },
            IpAddr::V6(address) => Self::v6(address, 64),
        }
    }

    /// A binding's prefix.
    ///
    /// # Errors
    ///
    /// The network is wider than what one SIM is given, or holds no subscribers.
    pub(crate) fn new(network: IpNet) -> Result<Self, InvalidPrefix> {
        let length = network.prefix_len();
        let prefix = match network {
            IpNet::V4(_) if length < 32 => return Err(InvalidPrefix::Ipv4Network { length }),
            IpNet::V4(network) => Self::of(network.addr().into()),
            IpNet::V6(network) if network.addr().to_ipv4_mapped().is_some() => {
                Self::of(network.addr().into())
            }
            IpNet::V6(_) if length < SHORTEST => return Err(InvalidPrefix::Short { length }),
            IpNet::V6(network) => Self::v6(network.addr(), length.min(64)),
        };
        if prefix.is_strange() { Err(InvalidPrefix::NoSubscriber) } else { Ok(prefix) }
    }

    /// The longer prefixes of IPv6 come first when a packet's owner is sought.
    pub(crate) fn widened(self, length: u8) -> Self {
        if self.is_ipv4() {
            self
        } else {
            Self { bits: self.bits & mask(length), kind: IPV6 + length }
        }
    }

    /// Whether it is one IPv4 address.
    pub(crate) fn is_ipv4(self) -> bool {
        self.kind == IPV4
    }

    /// Leading bits that count: 32 for IPv4, up to 64 for IPv6.
    pub(crate) fn length(self) -> u8 {
        if self.is_ipv4() { 32 } else { self.kind - IPV6 }
    }

    /// As a network, for rule sets and reports.
    pub(crate) fn network(self) -> IpNet {
        let address = if self.is_ipv4() {
            let [_, _, _, _, octets @ ..] = self.bits.to_be_bytes();
            IpAddr::V4(Ipv4Addr::from(octets))
        } else {
            IpAddr::V6(Ipv6Addr::from_bits(u128::from(self.bits) << 64))
        };
        // The length is within the family's by construction.
        IpNet::new(address, self.length()).unwrap_or_else(|_| IpNet::from(address))
    }

    fn v6(address: Ipv6Addr, length: u8) -> Self {
        let [upper @ .., _, _, _, _, _, _, _, _] = address.octets();
        Self { bits: u64::from_be_bytes(upper) & mask(length), kind: IPV6 + length }
    }

    fn is_strange(self) -> bool {
        match self.network().addr() {
            IpAddr::V4(address) => {
                address.is_unspecified()
                    || address.is_loopback()
                    || address.is_link_local()
                    || address.is_multicast()
                    || address.is_broadcast()
            }
            IpAddr::V6(address) => {
                // A /64 of zeros holds the unspecified and the loopback address.
                self.bits == 0 || address.is_unicast_link_local() || address.is_multicast()
            }
        }
    }
}

/// Addresses of subscribers never reach a log by accident.
impl std::fmt::Debug for Prefix {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Prefix(…/{})", self.length())
    }
}

/// The bits of a prefix of this length, of the upper 64.
fn mask(length: u8) -> u64 {
    if length == 0 { 0 } else { u64::MAX << (64 - length.min(64)) }
}

const IPV4: u8 = 32;
const IPV6: u8 = 128;
/// Bits of the widest prefix that a site is given (RFC 6177 section 2).
pub(crate) const SHORTEST: u8 = 48;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_ipv4_address_one_ipv6_64_or_a_delegated_prefix() {
        for (text, expected) in [
            ("100.64.0.1/32", Ok("100.64.0.1/32")),
            ("::ffff:100.64.0.1/128", Ok("100.64.0.1/32")),
            ("2001:db8:1:2::/64", Ok("2001:db8:1:2::/64")),
            ("2001:db8:1:2::77/128", Ok("2001:db8:1:2::/64")),
            ("2001:db8:1:23ff::/56", Ok("2001:db8:1:2300::/56")),
            ("100.64.0.0/31", Err(InvalidPrefix::Ipv4Network { length: 31 })),
            ("2001:db8::/47", Err(InvalidPrefix::Short { length: 47 })),
            ("::/0", Err(InvalidPrefix::Short { length: 0 })),
            ("::1/128", Err(InvalidPrefix::NoSubscriber)),
            ("fe80::1/64", Err(InvalidPrefix::NoSubscriber)),
            ("0.0.0.0/32", Err(InvalidPrefix::NoSubscriber)),
            ("255.255.255.255/32", Err(InvalidPrefix::NoSubscriber)),
        ] {
            let network: IpNet = text.parse().unwrap();
            let found = Prefix::new(network).map(|prefix| prefix.network().to_string());
            assert_eq!(found, expected.map(str::to_owned), "{text}");
        }
    }

    #[test]
    fn packets_of_a_64_have_one_prefix_and_wider_ones_hold_it() {
        let of = |text: &str| Prefix::of(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        let delegated = Prefix::new("2001:db8:1:200::/56".parse().unwrap()).unwrap();
        assert_eq!(of("2001:db8:1:2ab::1").widened(56), delegated);
        assert_ne!(of("2001:db8:1:3ab::1").widened(56), delegated);
        assert_eq!(of("::ffff:100.64.0.1"), of("100.64.0.1"));
        assert_eq!(of("100.64.0.1").widened(56), of("100.64.0.1"));
    }

    #[test]
    fn never_prints_an_address() {
        assert_eq!(format!("{:?}", Prefix::of("100.64.0.1".parse().unwrap())), "Prefix(…/32)");
    }
}
