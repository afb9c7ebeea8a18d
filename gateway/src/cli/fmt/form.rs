//! The canonical form of a policy's text.
//!
//! Keys of a table stand in the order of the schema, their equals signs below each other, as do the
//! comments behind values; lists are one line if they fit; tables have an empty line before them.
//! What the text means is the same before and after, or it is not touched.

use policy::limits::MAX_DOCUMENT;
use toml_edit::{Array, Decor, DocumentMut, Item, RawString, Table, Value};

/// Why a text cannot be brought in form.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unformed {
    /// It is not TOML.
    #[error("not TOML: {}", .0.message())]
    Syntax(toml_edit::TomlError),
    /// It is longer than any policy.
    #[error("longer than the {MAX_DOCUMENT} bytes of a policy")]
    TooLong,
    /// The canonical form would mean something else.
    #[error("the canonical form would change what it means; look for odd line ends in texts")]
    Changed,
}

/// The text in canonical form.
pub(super) fn format(text: &str) -> Result<String, Unformed> {
    if text.len() > MAX_DOCUMENT {
        return Err(Unformed::TooLong);
    }
    let plain = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let mut document: DocumentMut = plain.parse().map_err(Unformed::Syntax)?;
    form_table(document.as_table_mut(), "");
    space_tables(document.as_table_mut());
    let behind = lines_of(document.trailing().as_str().unwrap_or_default());
    document.set_trailing(behind);
    let mut page = document.to_string().trim_start_matches('\n').to_owned();
    page.truncate(page.trim_end_matches('\n').len());
    page.push('\n');
    let meaning = |text: &str| text.parse::<toml::Table>().ok();
    if meaning(&page).is_some() && meaning(&page) == meaning(text) {
        Ok(page)
    } else {
        Err(Unformed::Changed)
    }
}

/// Orders and aligns the keys of `table`, which is called `path`, and of all tables in it.
fn form_table(table: &mut Table, path: &str) {
    let order = ORDER.iter().find(|(known, _)| *known == path).map_or(&[][..], |(_, keys)| keys);
    let place = |key: &str| order.iter().position(|known| *known == key).unwrap_or(order.len());
    table.sort_values_by(|one, _, other, _| place(one.get()).cmp(&place(other.get())));
    let mut keys = Vec::new();
    for (key, item) in table.iter_mut() {
        let name = key.get().to_owned();
        let inner = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match item {
            Item::Value(value) => {
                form_value(value);
                keys.push(name);
            }
            // Keys with dots stay as they are: whose block they are in cannot be told.
            Item::Table(table) if table.is_dotted() => {}
            Item::Table(table) => form_table(table, &inner),
            Item::ArrayOfTables(tables) => {
                tables.iter_mut().for_each(|table| form_table(table, &inner));
            }
            Item::None => {}
        }
    }
    align(table, &keys);
}

/// Sets equals signs, and comments behind values, below each other in each block of lines.
fn align(table: &mut Table, keys: &[String]) {
    let mut block: Vec<&String> = Vec::new();
    for key in keys {
        let before = table.key(key).map_or("", |key| raw(key.leaf_decor().prefix())).to_owned();
        let lines = lines_of(&before);
        let parted = !block.is_empty() && before.starts_with('\n');
        if parted {
            align_block(table, &block);
            block.clear();
        }
        if let Some(mut key) = table.key_mut(key) {
            let gap = if parted { "\n" } else { "" };
            key.leaf_decor_mut().set_prefix(format!("{gap}{lines}"));
        }
        block.push(key);
    }
    align_block(table, &block);
}

fn align_block(table: &mut Table, keys: &[&String]) {
    let width = |table: &Table, key: &str| {
        table.key(key).map_or(0, |key| key.display_repr().chars().count())
    };
    let widest = keys.iter().map(|key| width(table, key)).max().unwrap_or_default();
    let mut commented = Vec::new();
    for name in keys {
        let pad = widest - width(table, name);
        if let Some(mut key) = table.key_mut(name) {
            key.leaf_decor_mut().set_suffix(" ".repeat(pad + 1));
        }
        let Some(value) = table.get_mut(name).and_then(Item::as_value_mut) else { continue };
        let comment = raw(value.decor().suffix()).trim().to_owned();
        *value.decor_mut() = Decor::new(" ", "");
        if !comment.is_empty() {
            let shown = value.to_string();
            let last = shown.rsplit('\n').next().unwrap_or_default().chars().count();
            commented.push((*name, last, comment));
        }
    }
    let near = commented.iter().map(|(_, column, _)| *column).filter(|column| *column <= FAR);
    let column = near.max().unwrap_or_default();
    for (name, own, comment) in commented {
        if let Some(value) = table.get_mut(name).and_then(Item::as_value_mut) {
            let gap = " ".repeat(column.saturating_sub(own) + 2);
            value.decor_mut().set_suffix(format!("{gap}{comment}"));
        }
    }
}

fn form_value(value: &mut Value) {
    let decor = value.decor().clone();
    match value {
        Value::Array(array) => form_array(array),
        Value::InlineTable(table) => {
            if !table.to_string().contains(['#', '\n']) {
                table.iter_mut().for_each(|(_, value)| form_value(value));
                table.fmt();
            }
        }
        Value::Boolean(_)
        | Value::Datetime(_)
        | Value::Float(_)
        | Value::Integer(_)
        | Value::String(_) => {}
    }
    *value.decor_mut() = decor;
}

/// One line if it fits, else a line for each item. Lists with comments stay as they are.
fn form_array(array: &mut Array) {
    let bare = |text: Option<&RawString>| raw(text).trim().is_empty();
    let plain = array.iter().all(|item| bare(item.decor().prefix()) && bare(item.decor().suffix()))
        && bare(Some(array.trailing()));
    if !plain {
        return;
    }
    array.iter_mut().for_each(form_value);
    array.fmt();
    array.set_trailing_comma(false);
    if array.to_string().chars().count() > LINE && array.len() > 1 {
        for item in array.iter_mut() {
            *item.decor_mut() = Decor::new("\n    ", "");
        }
        array.set_trailing("\n");
        array.set_trailing_comma(true);
    }
}

/// Puts one empty line before each table.
fn space_tables(table: &mut Table) {
    for (_, item) in table.iter_mut() {
        match item {
            Item::Table(inner) => {
                space(inner);
                space_tables(inner);
            }
            Item::ArrayOfTables(tables) => {
                for inner in tables.iter_mut() {
                    space(inner);
                    space_tables(inner);
                }
            }
            Item::Value(_) | Item::None => {}
        }
    }
}

fn space(table: &mut Table) {
    if table.is_dotted() || table.is_implicit() {
        return;
    }
    let before = lines_of(raw(table.decor().prefix()));
    let comment = raw(table.decor().suffix()).trim();
    let gap = if comment.is_empty() { "" } else { "  " };
    let behind = format!("{gap}{comment}");
    *table.decor_mut() = Decor::new(format!("\n{before}"), behind);
}

fn raw(text: Option<&RawString>) -> &str {
    text.and_then(RawString::as_str).unwrap_or_default()
}

/// The comments of what stands between two keys, each on its line without indentation; one empty
/// line where there were some, but none at the ends.
fn lines_of(between: &str) -> String {
    let mut lines = String::new();
    let mut gap = false;
    for line in between.split('\n').map(str::trim) {
        if line.is_empty() {
            gap = !lines.is_empty();
            continue;
        }
        if gap {
            lines.push('\n');
        }
        gap = false;
        lines.push_str(line);
        lines.push('\n');
    }
    // A comment that stands by itself is not the next key's.
    if gap && between.trim_end_matches([' ', '\t']).ends_with("\n\n") {
        lines.push('\n');
    }
    lines
}

/// The keys of each table, in the order of the schema.
const ORDER: [(&str, &[&str]); 12] = [
    ("", &["schema", "name", "serial", "environment", "default_class", "include"]),
    ("dns", &["denied", "denied_ttl", "max_ttl"]),
    ("http", &["denied", "portal"]),
    ("hostset", &["name", "source", "reviewed", "host"]),
    ("hostset.host", &["match", "within", "schemes", "ports", "networks", "expires", "reason"]),
    ("class", &["name", "priority", "action", "hostsets", "ncsi", "on_denial", "limits", "match"]),
    ("class.match", &["networks", "apn", "iccid", "iccid_file", "imsi", "imsi_file", "state"]),
    ("class.limits", &["dns_qps", "sessions", "sessions_per_second", "bytes_per_day"]),
    ("schedule", &["name", "from", "until", "hostsets", "classes"]),
    ("assert", &["name", "class", "allow", "deny"]),
    ("lint.allow", &["code", "hostset", "match", "class", "reason", "until"]),
    ("lab", &["networks", "ports", "resolve"]),
];
/// Characters a list may have on its line.
const LINE: usize = 84;
/// Width behind which a value does not push the comments of its neighbours.
const FAR: usize = 48;

#[cfg(test)]
mod tests;
