//! Any two texts as a pattern and a host: no panic, what is printed is read again as the same, and
//! the table agrees with the pattern by itself.

#![no_main]

use std::ops::ControlFlow;

use libfuzzer_sys::fuzz_target;
use policy::{HostName, HostPattern, HostTable, PatternKind};

fuzz_target!(|octets: &[u8]| {
    let Ok(text) = std::str::from_utf8(octets) else { return };
    let mut lines = text.split('\n');
    let (written, within) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let within = HostName::parse(within).ok();
    let Ok(pattern) = HostPattern::parse(written, within.as_ref()) else { return };
    let again = HostPattern::parse(&pattern.to_string(), within.as_ref());
    assert_eq!(again.as_ref(), Ok(&pattern));
    if let Some(parent) = &within {
        assert_eq!(pattern.kind(), PatternKind::Suffix);
        assert!(pattern.base().as_str().ends_with(&format!(".{parent}")));
    }
    let mut table = HostTable::default();
    table.insert(&pattern, ());
    for line in lines {
        let Ok(host) = HostName::parse(line) else { continue };
        assert_eq!(HostName::parse(host.as_str()).as_ref(), Ok(&host));
        let seen = table.visit(&host, |_| ControlFlow::Break(())).is_some();
        assert_eq!(seen, pattern.matches(&host), "{pattern} {host}");
    }
});
