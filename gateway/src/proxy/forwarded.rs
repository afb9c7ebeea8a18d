//! The header in which a load balancer tells for whom a connection is: PROXY protocol, version 2.
//!
//! Pure and strict. Only TCP over IPv4 and IPv6 is known; what is extended (type-length-values) is
//! skipped. Source: HAProxy, "The PROXY protocol", section 2.2.

use std::net::{IpAddr, SocketAddr};

/// How far a header has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forwarded {
    /// Everything so far is right; so many octets more are needed at least.
    Incomplete {
        /// Octets.
        more: usize,
    },
    /// The connection is another's.
    For {
        /// Who connected to the load balancer.
        from: SocketAddr,
        /// Where to.
        to: SocketAddr,
    },
    /// The load balancer connects on its own behalf: a health check.
    Own,
    /// No continuation can make this a header that is known here.
    Reject,
}

/// Reads what arrived first on a connection. Asked again with no more than the octets it lacked, it
/// never sees what stands behind the header.
pub(crate) fn read(octets: &[u8]) -> Forwarded {
    let begun = octets.get(..SIGNATURE.len()).unwrap_or(octets);
    if !SIGNATURE.starts_with(begun) {
        return Forwarded::Reject;
    }
    let Some(head) = octets.first_chunk::<HEAD_OCTETS>() else {
        return Forwarded::Incomplete { more: HEAD_OCTETS - octets.len() };
    };
    let [.., command, family, high, low] = *head;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let addresses = match (command, family) {
        (LOCAL, _) => 0,
        (PROXY, TCP_IPV4) => 12,
        (PROXY, TCP_IPV6) => 36,
        _ => return Forwarded::Reject,
    };
    if length < addresses || length > MAX_LENGTH {
        return Forwarded::Reject;
    }
    let Some(rest) = octets.get(HEAD_OCTETS..HEAD_OCTETS + length) else {
        return Forwarded::Incomplete { more: HEAD_OCTETS + length - octets.len() };
    };
    match (command, family) {
        (LOCAL, _) => Forwarded::Own,
        (_, TCP_IPV4) => ends::<4>(rest),
        _ => ends::<16>(rest),
    }
}

/// Both addresses, then both ports.
fn ends<const OCTETS: usize>(rest: &[u8]) -> Forwarded
where
    IpAddr: From<[u8; OCTETS]>,
{
    let address =
        |at: usize| rest.get(at..)?.first_chunk::<OCTETS>().map(|octets| IpAddr::from(*octets));
    let port = |at: usize| rest.get(at..)?.first_chunk().map(|octets| u16::from_be_bytes(*octets));
    let read = || {
        let (from, to) = (address(0)?.to_canonical(), address(OCTETS)?.to_canonical());
        let (source, destination) = (port(2 * OCTETS)?, port(2 * OCTETS + 2)?);
        let whole = !from.is_unspecified() && !to.is_unspecified() && destination != 0;
        whole.then(|| Forwarded::For {
            from: SocketAddr::new(from, source),
            to: SocketAddr::new(to, destination),
        })
    };
    read().unwrap_or(Forwarded::Reject)
}

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, command, family, length.
const HEAD_OCTETS: usize = 16;
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const TCP_IPV4: u8 = 0x11;
const TCP_IPV6: u8 = 0x21;
/// Octets behind the head: both addresses, and room for what load balancers add.
const MAX_LENGTH: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    fn v4() -> Vec<u8> {
        vec![100, 64, 1, 2, 203, 0, 113, 12, 0xc3, 0x50, 1, 0xbb]
    }

    #[test]
    fn tells_both_ends_in_both_families_and_skips_extensions() {
        let found = Forwarded::For {
            from: "100.64.1.2:50000".parse().unwrap(),
            to: "203.0.113.12:443".parse().unwrap(),
        };
        assert_eq!(read(&header(PROXY, TCP_IPV4, &v4())), found);
        let extended = [&v4()[..], &[4, 0, 3, 1, 2, 3]].concat();
        assert_eq!(read(&header(PROXY, TCP_IPV4, &extended)), found);
        let addresses = ["2001:db8:64::2", "2001:db8:113::c"]
            .map(|text| text.parse::<std::net::Ipv6Addr>().unwrap().octets());
        let v6 = [&addresses.concat()[..], &[0xc3, 0x50, 0, 80]].concat();
        let found = Forwarded::For {
            from: "[2001:db8:64::2]:50000".parse().unwrap(),
            to: "[2001:db8:113::c]:80".parse().unwrap(),
        };
        assert_eq!(read(&header(PROXY, TCP_IPV6, &v6)), found);
        assert_eq!(read(&header(LOCAL, 0, &[])), Forwarded::Own);
    }

    #[test]
    fn every_prefix_asks_for_no_octet_behind_the_header() {
        let whole = header(PROXY, TCP_IPV4, &v4());
        for length in 0..whole.len() {
            let Forwarded::Incomplete { more } = read(&whole[..length]) else {
                panic!("{length} octets");
            };
            assert!(more > 0 && length + more <= whole.len(), "{length} and {more}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let mut wrong = header(PROXY, TCP_IPV4, &v4());
        wrong[3] = b'x';
        let mut nobody = v4();
        nobody[..4].fill(0);
        let mut nowhere = v4();
        nowhere[10..].fill(0);
        for octets in [
            b"PROXY TCP4 100.64.1.2 203.0.113.12 50000 443\r\n".to_vec(),
            b"\x16\x03\x01".to_vec(),
            wrong,
            header(0x22, TCP_IPV4, &v4()),
            header(0x11, TCP_IPV4, &v4()),
            // UDP, UNIX, unspecified.
            header(PROXY, 0x12, &v4()),
            header(PROXY, 0x31, &[0; 216]),
            header(PROXY, 0, &[]),
            header(PROXY, TCP_IPV6, &v4()),
            header(PROXY, TCP_IPV4, &v4()[..11]),
            header(PROXY, TCP_IPV4, &[0; 513]),
            header(PROXY, TCP_IPV4, &nobody),
            header(PROXY, TCP_IPV4, &nowhere),
        ] {
            assert_eq!(read(&octets), Forwarded::Reject, "{octets:?}");
        }
    }
}
