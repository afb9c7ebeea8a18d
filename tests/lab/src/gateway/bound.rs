//! The gateway's first line: where it listens.

use std::{collections::BTreeMap, net::SocketAddr};

/// Addresses by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Bound(BTreeMap<String, Vec<SocketAddr>>);

impl Bound {
    /// Reads `listening dns=0.0.0.0:5353,[::]:5353 admin=127.0.0.1:9180`; `None` for any other
    /// line.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        if words.next()? != "listening" {
            return None;
        }
        let mut bound = BTreeMap::new();
        for word in words {
            let (key, addresses) = word.split_once('=')?;
            let addresses: Result<Vec<SocketAddr>, _> =
                addresses.split(',').map(str::parse).collect();
            bound.insert(key.to_owned(), addresses.ok()?);
        }
        Some(Self(bound))
    }

    /// The addresses of one key.
    pub(crate) fn of(&self, key: &str) -> &[SocketAddr] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_read_whole_or_not_at_all() {
        let bound =
            Bound::parse("listening dns=0.0.0.0:5353,[::]:5353 admin=127.0.0.1:9180").unwrap();
        assert_eq!(bound.of("dns"), ["0.0.0.0:5353", "[::]:5353"].map(|a| a.parse().unwrap()));
        assert_eq!(bound.of("admin").len(), 1);
        assert!(bound.of("http").is_empty());
        assert_eq!(Bound::parse("READY"), None);
        assert_eq!(Bound::parse("listening dns=nowhere"), None);
    }
}
