//! Any text as a policy, alone and with files around it: no panic, findings inside the text, in
//! order, and a policy only where there is no error.

#![no_main]

use libfuzzer_sys::fuzz_target;
use policy::{Diagnostic, File, Parts, Severity, Source, compile, compile_parts};

fuzz_target!(|octets: &[u8]| {
    let Ok(text) = std::str::from_utf8(octets) else { return };
    let today = jiff::civil::date(2026, 11, 23);
    match compile(&Source { name: "fuzz", text }, today) {
        Ok(compiled) => {
            let warning = |found: &Diagnostic| found.severity == Severity::Warning;
            assert!(compiled.warnings.iter().all(warning));
            assert!(compiled.warnings.iter().all(|found| text.get(found.span.clone()).is_some()));
        }
        Err(found) => {
            assert!(found.iter().any(|found| found.severity == Severity::Error));
            assert!(found.iter().all(|found| text.get(found.span.clone()).is_some()));
            assert!(found.is_sorted_by_key(|found| found.span.start));
        }
    }
    // A form feed parts the files; each is named by its place.
    let mut files = text.split('\u{c}');
    let first = files.next().unwrap_or_default();
    let rest: Vec<&str> = files.collect();
    let source = Source { name: "fuzz", text: first };
    let parts = Parts::gather(&source, &mut |wanted| {
        let place: usize = wanted.path.parse().map_err(|_| policy::Unreadable::Absent)?;
        let text = rest.get(place).ok_or(policy::Unreadable::Absent)?;
        Ok(File { name: place.to_string(), text: (*text).to_owned() })
    });
    let found = compile_parts(&parts, today);
    for found in found.map_or_else(|found| found, |compiled| compiled.warnings) {
        assert!(parts.text(&found.file).get(found.span).is_some());
    }
});
