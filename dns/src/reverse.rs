//! Reverse names: which address one stands for, and which name stands for an address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use policy::HostName;

use crate::address;

/// The addresses below a reverse name: one, or as many as its missing labels leave open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reverse {
    first: IpAddr,
    last: IpAddr,
}

impl Reverse {
    /// Reads a name under `in-addr.arpa` (RFC 1035 section 3.5) or `ip6.arpa` (RFC 3596 section
    /// 2.5); `None` for any other, and for one whose labels are no digits of an address.
    pub(crate) fn of(host: &HostName) -> Option<Self> {
        let mut labels = host.labels().rev();
        if labels.next()? != "arpa" {
            return None;
        }
        match labels.next()? {
            "in-addr" => {
                let (first, last) = fill::<4>(labels.map(decimal), |octet| octet)?;
                Some(Self {
                    first: Ipv4Addr::from(first).into(),
                    last: Ipv4Addr::from(last).into(),
                })
            }
            "ip6" => {
                let (first, last) = fill::<32>(labels.map(nibble), |octet| octet & 0xf)?;
                let address = |nibbles: [u8; 32]| {
                    let bits =
                        nibbles.iter().fold(0, |bits, nibble| bits << 4 | u128::from(*nibble));
                    Ipv6Addr::from_bits(bits).into()
                };
                Some(Self { first: address(first), last: address(last) })
            }
            _ => None,
        }
    }

    /// The address, if it is one.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        (self.first == self.last).then_some(self.first)
    }

    /// Whether the public DNS knows nothing about it: every address below is one that no name may
    /// lead to (RFC 6303 section 4, RFC 7793).
    pub(crate) fn is_private(&self) -> bool {
        let kind = address::refused(self.first);
        kind.is_some() && kind == address::refused(self.last)
    }
}

/// The reverse name of `address`.
pub(crate) fn name_of(address: Ipv4Addr) -> Option<HostName> {
    let [a, b, c, d] = address.octets();
    HostName::parse(&format!("{d}.{c}.{b}.{a}.in-addr.arpa")).ok()
}

/// The lowest and the highest address with these digits, which come highest first; `None` if one
/// is no digit, or they are too many.
fn fill<const DIGITS: usize>(
    digits: impl Iterator<Item = Option<u8>>,
    highest: impl Fn(u8) -> u8,
) -> Option<([u8; DIGITS], [u8; DIGITS])> {
    let (mut first, mut last) = ([0; DIGITS], [highest(u8::MAX); DIGITS]);
    for (place, digit) in digits.enumerate() {
        let digit = digit?;
        (*first.get_mut(place)?, *last.get_mut(place)?) = (digit, digit);
    }
    Some((first, last))
}

fn decimal(label: &str) -> Option<u8> {
    let is_plain = label.bytes().all(|octet| octet.is_ascii_digit()) && !label.starts_with("00");
    label.parse().ok().filter(|_| is_plain)
}

fn nibble(label: &str) -> Option<u8> {
    (label.len() == 1).then(|| u8::from_str_radix(label, 16).ok())?
}

#[cfg(test)]
mod tests {
    use policy::HostName;

    use super::{Reverse, name_of};

    #[test]
    fn reads_addresses_and_ranges_of_both_families() {
        let of = |host: &str| Reverse::of(&HostName::parse(host).unwrap());
        let v6 = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
        for (host, address, is_private) in [
            ("1.2.0.192.in-addr.arpa", Some("192.0.2.1"), false),
            ("8.8.8.8.in-addr.arpa", Some("8.8.8.8"), false),
            ("1.0.168.192.in-addr.arpa", Some("192.168.0.1"), true),
            ("1.1.64.100.in-addr.arpa", Some("100.64.1.1"), true),
            ("170.0.0.192.in-addr.arpa", Some("192.0.0.170"), true),
            ("10.in-addr.arpa", None, true),
            ("168.192.in-addr.arpa", None, true),
            // Partly public: what is below may exist.
            ("192.in-addr.arpa", None, false),
            ("172.in-addr.arpa", None, false),
            ("in-addr.arpa", None, false),
            (v6, Some("2001:db8::1"), false),
            ("d.f.ip6.arpa", None, true),
            ("8.e.f.ip6.arpa", None, true),
            ("e.f.ip6.arpa", None, false),
            ("ip6.arpa", None, false),
        ] {
            let reverse = of(host).unwrap();
            let expected = address.map(|text| text.parse().unwrap());
            assert_eq!((reverse.address(), reverse.is_private()), (expected, is_private), "{host}");
        }
        for host in [
            "1.2.3.4.5.in-addr.arpa",
            "256.in-addr.arpa",
            "a.in-addr.arpa",
            "10.ip6.arpa",
            "g.ip6.arpa",
            "b._dns-sd._udp.0.0.10.in-addr.arpa",
            "10.in-addr.arpa.example",
            "home.arpa",
            "www.example",
        ] {
            assert_eq!(of(host), None, "{host}");
        }
    }

    #[test]
    fn writes_what_it_reads() {
        let address = "198.51.100.7".parse().unwrap();
        let name = name_of(address).unwrap();
        assert_eq!(name.as_str(), "7.100.51.198.in-addr.arpa");
        assert_eq!(Reverse::of(&name).unwrap().address(), Some(address.into()));
    }
}
