//! Dated lists of names that lint knows: data files with their source, read once.

use std::{ops::ControlFlow, sync::LazyLock};

use toml::{Value, value::Datetime};

use crate::host::{HostName, HostPattern, HostTable, PatternKind};

/// A list of names with the day on which it was compared with its sources.
#[derive(Debug)]
pub(super) struct Names {
    /// When.
    pub(super) reviewed: String,
    /// In order; with a leading dot, a name stands for all below it too.
    patterns: Vec<HostPattern>,
    /// The same, by the names they stand for: every entry of a document is looked up.
    table: HostTable<HostName>,
}

/// Networks that serve many owners from one set of addresses.
pub(super) static SHARED_CDNS: LazyLock<Names> =
    LazyLock::new(|| read(include_str!("data/shared-cdns.toml")));
/// Outer names of Encrypted Client Hello.
pub(super) static ECH_NAMES: LazyLock<Names> =
    LazyLock::new(|| read(include_str!("data/ech-names.toml")));
/// Public resolvers over HTTPS.
pub(super) static DOH_HOSTS: LazyLock<Names> =
    LazyLock::new(|| read(include_str!("data/doh-hosts.toml")));
/// Hosts of revocation lists and of OCSP.
pub(super) static REVOCATION: LazyLock<Names> =
    LazyLock::new(|| read(include_str!("data/revocation.toml")));

impl Names {
    /// The name of the list that is `name`, or stands for it.
    pub(super) fn holding(&self, name: &HostName) -> Option<&HostName> {
        self.table.visit(name, |mut known| ControlFlow::Break(known.next())).flatten()
    }

    /// A name of the list that `pattern` matches, or that stands for what it matches.
    pub(super) fn reached(&self, pattern: &HostPattern) -> Option<&HostName> {
        let wide = || match pattern.kind() {
            PatternKind::Exact => None,
            PatternKind::Below | PatternKind::Both | PatternKind::Suffix => {
                self.patterns.iter().map(HostPattern::base).find(|name| pattern.matches(name))
            }
        };
        self.holding(pattern.base()).or_else(wide)
    }
}

/// A file with a fault gives an empty list; the tests read every file.
fn read(text: &str) -> Names {
    let table: toml::Table = text.parse().unwrap_or_default();
    let reviewed = table.get("reviewed").and_then(Value::as_datetime).map(Datetime::to_string);
    let names = table.get("names").and_then(Value::as_array).into_iter().flatten();
    let mut patterns: Vec<HostPattern> =
        names.filter_map(|name| HostPattern::parse(name.as_str()?, None).ok()).collect();
    patterns.sort_unstable();
    let mut table = HostTable::default();
    for pattern in &patterns {
        table.insert(pattern, pattern.base().clone());
    }
    Names { patterns, table, reviewed: reviewed.unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_data_file_is_read_whole() {
        for text in [
            include_str!("data/shared-cdns.toml"),
            include_str!("data/ech-names.toml"),
            include_str!("data/doh-hosts.toml"),
            include_str!("data/revocation.toml"),
        ] {
            let table: toml::Table = text.parse().unwrap();
            let read = read(text);
            assert!(!read.reviewed.is_empty() && table["source"].is_str());
            assert_eq!(read.patterns.len(), table["names"].as_array().unwrap().len());
            assert!(!read.patterns.is_empty());
        }
    }
}
