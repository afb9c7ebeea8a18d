//! The dial guard: addresses that no name may lead to unless the policy says so.
//!
//! A listed name is under somebody else's control; its answers must not lead into the operator's
//! own network, to the gateway itself or back to other subscribers. Documentation ranges are not
//! refused: nothing is there in a live network, and labs use them.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;

use crate::nat64::Nat64;

/// Why an address must not be dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusedAddress {
    /// `0.0.0.0/8`, `::` (RFC 1122 section 3.2.1.3, RFC 4291 section 2.5.2).
    Unspecified,
    /// `127.0.0.0/8`, `::1`.
    Loopback,
    /// `169.254.0.0/16`, `fe80::/10` (RFC 3927, RFC 4291 section 2.5.6).
    LinkLocal,
    /// `10.0.0.0/8`, `172.16.0.0/12`, `192.168.0.0/16` (RFC 1918), `fec0::/10` (RFC 3879).
    Private,
    /// `100.64.0.0/10` (RFC 6598).
    CarrierGrade,
    /// `fc00::/7` (RFC 4193).
    UniqueLocal,
    /// `224.0.0.0/4`, `ff00::/8`.
    Multicast,
    /// `255.255.255.255` and the rest of `240.0.0.0/4` (RFC 1112 section 4).
    Reserved,
    /// `192.0.0.0/24`, `198.18.0.0/15`, `100::/64`: protocol assignments, benchmarks, discard
    /// (RFC 6890, RFC 2544, RFC 6666).
    SpecialPurpose,
    /// An IPv4 address written as IPv6: `::ffff:0:0/96`, `::/96` (RFC 4291 section 2.5.5).
    Mapped,
    /// 6to4, Teredo or NAT64 around an IPv4 address that is refused itself, and NAT64 with a
    /// local prefix (RFC 3056, RFC 4380, RFC 6052, RFC 8215).
    Transition,
}

/// Says why `address` must not be dialled, if so.
#[must_use]
pub fn refused(address: IpAddr) -> Option<RefusedAddress> {
    match address {
        IpAddr::V4(address) => refused_v4(address),
        IpAddr::V6(address) => refused_v6(address),
    }
}

/// The guard of one node, which knows its NAT64: behind that prefix there are IPv4 hosts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Guard {
    nat64: Option<Nat64>,
}

impl Guard {
    /// The guard of a node with this NAT64, if it has one.
    #[must_use]
    pub fn new(nat64: Option<Nat64>) -> Self {
        Self { nat64 }
    }

    /// The node's NAT64.
    #[must_use]
    pub fn nat64(&self) -> Option<Nat64> {
        self.nat64
    }

    /// As [`refused`], and an address behind the NAT64 is the IPv4 address it leads to.
    #[must_use]
    pub fn refused(&self, address: IpAddr) -> Option<RefusedAddress> {
        match self.behind_nat64(address) {
            Some(behind) => refused_v4(behind).map(|_| RefusedAddress::Transition),
            None => refused(address),
        }
    }

    /// Says why `address` must not be dialled, unless it lies in one of `lifted`.
    #[must_use]
    pub fn refused_unless<'a>(
        &self,
        address: IpAddr,
        lifted: impl IntoIterator<Item = &'a IpNet>,
    ) -> Option<RefusedAddress> {
        self.refused(address)
            .filter(|_| !lifted.into_iter().any(|network| network.contains(&address)))
    }

    /// The host that `address` leads to: itself, or the IPv4 host behind the NAT64.
    #[must_use]
    pub fn host_of(&self, address: IpAddr) -> IpAddr {
        self.behind_nat64(address).map_or(address, IpAddr::V4)
    }

    fn behind_nat64(&self, address: IpAddr) -> Option<Ipv4Addr> {
        match (address, self.nat64) {
            (IpAddr::V6(address), Some(nat64)) => nat64.extract(address),
            (IpAddr::V6(_), None) | (IpAddr::V4(_), _) => None,
        }
    }
}

fn refused_v4(address: Ipv4Addr) -> Option<RefusedAddress> {
    match address.octets() {
        [0, ..] => Some(RefusedAddress::Unspecified),
        [127, ..] => Some(RefusedAddress::Loopback),
        [169, 254, ..] => Some(RefusedAddress::LinkLocal),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Some(RefusedAddress::Private),
        [100, 64..=127, ..] => Some(RefusedAddress::CarrierGrade),
        [192, 0, 0, _] | [198, 18..=19, ..] => Some(RefusedAddress::SpecialPurpose),
        [224..=239, ..] => Some(RefusedAddress::Multicast),
        [240..=255, ..] => Some(RefusedAddress::Reserved),
        _ => None,
    }
}

fn refused_v6(address: Ipv6Addr) -> Option<RefusedAddress> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some(RefusedAddress::Unspecified),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some(RefusedAddress::Loopback),
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] => Some(RefusedAddress::Mapped),
        // IPv4-translated (RFC 2765 section 2.1).
        [0, 0, 0, 0, 0xffff, 0, ..] => Some(RefusedAddress::Mapped),
        [0xfe80..=0xfebf, ..] => Some(RefusedAddress::LinkLocal),
        [0xfec0..=0xfeff, ..] => Some(RefusedAddress::Private),
        [0xfc00..=0xfdff, ..] => Some(RefusedAddress::UniqueLocal),
        [0xff00..=0xffff, ..] => Some(RefusedAddress::Multicast),
        [0x100, 0, 0, 0, ..] => Some(RefusedAddress::SpecialPurpose),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        [0x64, 0xff9b, 1, ..] => Some(RefusedAddress::Transition),
        [0x2002, high, low, ..] => embedded(high, low),
        // Teredo hides the address of the client in the last 32 bits, inverted, and that of its
        // server in bits 32 to 63.
        [0x2001, 0, server_high, server_low, _, _, high, low] => {
            embedded(!high, !low).or_else(|| embedded(server_high, server_low))
        }
        _ => None,
    }
}

fn embedded(high: u16, low: u16) -> Option<RefusedAddress> {
    let [a, b] = high.to_be_bytes();
    let [c, d] = low.to_be_bytes();
    refused_v4(Ipv4Addr::new(a, b, c, d)).map(|_| RefusedAddress::Transition)
}

impl RefusedAddress {
    /// The reason's name in logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Loopback => "loopback",
            Self::LinkLocal => "link-local",
            Self::Private => "private",
            Self::CarrierGrade => "carrier-grade",
            Self::UniqueLocal => "unique-local",
            Self::Multicast => "multicast",
            Self::Reserved => "reserved",
            Self::SpecialPurpose => "special-purpose",
            Self::Mapped => "mapped",
            Self::Transition => "transition",
        }
    }
}

impl fmt::Display for RefusedAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.label())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::{Guard, RefusedAddress, refused};
    use crate::nat64::Nat64;

    #[test]
    fn refuses_what_a_listed_name_must_not_lead_to() {
        for (address, expected) in [
            ("0.0.0.0", Some("unspecified")),
            ("0.1.2.3", Some("unspecified")),
            ("10.0.0.1", Some("private")),
            ("100.63.255.255", None),
            ("100.64.0.1", Some("carrier-grade")),
            ("100.127.255.255", Some("carrier-grade")),
            ("100.128.0.0", None),
            ("127.0.0.1", Some("loopback")),
            ("169.254.169.254", Some("link-local")),
            ("172.15.255.255", None),
            ("172.16.0.0", Some("private")),
            ("172.31.255.255", Some("private")),
            ("172.32.0.0", None),
            ("192.0.0.171", Some("special-purpose")),
            ("192.0.2.1", None),
            ("192.168.1.1", Some("private")),
            ("198.18.0.1", Some("special-purpose")),
            ("198.51.100.1", None),
            ("203.0.113.1", None),
            ("224.0.0.251", Some("multicast")),
            ("240.0.0.1", Some("reserved")),
            ("255.255.255.255", Some("reserved")),
            ("13.107.4.52", None),
            ("::", Some("unspecified")),
            ("::1", Some("loopback")),
            ("::ffff:198.51.100.1", Some("mapped")),
            ("::198.51.100.1", Some("mapped")),
            ("::ffff:0:198.51.100.1", Some("mapped")),
            ("64:ff9b::198.51.100.1", None),
            ("64:ff9b::10.0.0.1", Some("transition")),
            ("64:ff9b::100.64.0.1", Some("transition")),
            ("64:ff9b:1::198.51.100.1", Some("transition")),
            ("100::1", Some("special-purpose")),
            ("2001:0:c633:6401::39cc:9bfe", None),
            ("2001:0:c633:6401::f5ff:fffe", Some("transition")),
            ("2001:0:a00:1::39cc:9bfe", Some("transition")),
            ("2001:db8::1", None),
            ("2002:c633:6401::1", None),
            ("2002:c0a8:101::1", Some("transition")),
            ("2606:4700::1111", None),
            ("fc00::1", Some("unique-local")),
            ("fd3e:4f5a:5b81::1", Some("unique-local")),
            ("fe80::1", Some("link-local")),
            ("fec0::1", Some("private")),
            ("ff02::fb", Some("multicast")),
        ] {
            let found = refused(address.parse().unwrap()).map(|reason| reason.label());
            assert_eq!(found, expected, "{address}");
        }
    }

    #[test]
    fn lifts_only_the_networks_named() {
        let lifted = ["10.20.0.0/16".parse().unwrap(), "::1/128".parse().unwrap()];
        let guard = Guard::default();
        let refused =
            |address: &str| guard.refused_unless(address.parse().unwrap(), &lifted).is_some();
        assert!(!refused("10.20.3.4"));
        assert!(!refused("::1"));
        assert!(refused("10.21.0.1"));
        assert!(refused("127.0.0.1"));
    }

    #[test]
    fn looks_behind_the_nodes_own_nat64() {
        for prefix in ["64:ff9b::/96", "2001:db8:64::/96", "64:ff9b:1:fffe::/96", "fd00:64::/64"] {
            let nat64: Nat64 = prefix.parse().unwrap();
            let guard = Guard::new(Some(nat64));
            let discovery: IpAddr = nat64.discovery()[0].into();
            assert_eq!(guard.refused(discovery), Some(RefusedAddress::Transition), "{prefix}");
            let public = Ipv4Addr::new(198, 51, 100, 7);
            let address = nat64.embed(public).unwrap().into();
            assert_eq!(guard.refused(address), None, "{prefix}");
            assert_eq!(guard.host_of(address), IpAddr::V4(public), "{prefix}");
        }
        let own = Guard::new(Some("2001:db8:64::/96".parse().unwrap()));
        for address in ["2001:db8:64::10.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b:1::1", "fd00::1"] {
            assert!(own.refused(address.parse().unwrap()).is_some(), "{address}");
        }
    }
}
