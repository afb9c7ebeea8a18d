//! `postern hostsets export`.

use policy::{
    PatternKind,
    builtin::{BuiltinEntry, BuiltinSet},
};

use super::text::{Row, Sheet};

/// A built-in host set as one of a policy, under a name that documents may write.
pub(super) fn sheet(set: &BuiltinSet) -> Sheet {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    let name: String =
        set.name().chars().map(|letter| if fits(letter) { letter } else { '-' }).collect();
    Sheet {
        name: name.trim_end_matches('-').to_owned(),
        source: set.source().to_owned(),
        reviewed: Some(set.date()),
        rows: set.entries().iter().map(row).collect(),
    }
}

fn row(entry: &BuiltinEntry) -> Row {
    let pattern = entry.pattern();
    // The parent is not kept; the nearest one says the same.
    let within = match pattern.kind() {
        PatternKind::Suffix => {
            pattern.base().as_str().split_once('.').map(|(_, rest)| rest.to_owned())
        }
        PatternKind::Exact | PatternKind::Below | PatternKind::Both => None,
    };
    Row {
        host: entry.printed().to_owned(),
        within,
        schemes: entry.schemes().to_vec(),
        ports: entry.ports().to_vec(),
        reason: entry.reason().map(str::to_owned),
    }
}
