//! From text to tables: a key that nobody knows hides no other finding.

use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::Findings;

/// Reads the whole text; `None`, with findings, if what is there cannot be looked at further.
pub(super) fn read<T: DeserializeOwned>(text: &str, findings: &mut Findings) -> Option<T> {
    let mut root = match DeTable::parse(text) {
        Ok(root) => root,
        Err(error) => {
            findings.error("GW0001", error.span().unwrap_or_default(), error.message(), None);
            return None;
        }
    };
    for _ in 0..MAX_UNKNOWN {
        let error = match T::deserialize(Deserializer::from(root.clone())) {
            Ok(read) => return Some(read),
            Err(error) => error,
        };
        let span = error.span().unwrap_or_default();
        findings.error("GW0001", span.clone(), error.message(), None);
        // serde stops at the first: without it, the next is found. Each round takes a key away.
        if !(error.message().starts_with(UNKNOWN) && remove(root.get_mut(), &span)) {
            return None;
        }
    }
    None
}

/// Removes the key that stands at `span`; whether there was one.
fn remove(table: &mut DeTable<'_>, span: &Range<usize>) -> bool {
    let found = table.keys().find(|key| key.span() == *span).cloned();
    match found {
        Some(key) => table.remove(&key).is_some(),
        None => table.iter_mut().any(|(_, value)| remove_below(value.get_mut(), span)),
    }
}

fn remove_below(value: &mut DeValue<'_>, span: &Range<usize>) -> bool {
    match value {
        DeValue::Table(table) => remove(table, span),
        DeValue::Array(items) => items.iter_mut().any(|item| remove_below(item.get_mut(), span)),
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => false,
    }
}

/// Unknown keys that are told of; each costs a reading of the whole.
const MAX_UNKNOWN: usize = 64;
/// How serde calls a key that it does not know.
const UNKNOWN: &str = "unknown field";
