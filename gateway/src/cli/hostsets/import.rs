//! `postern hostsets import`: a published table of hosts and protocols, as a host set.
//!
//! Nothing is guessed and nothing is left out silently: a row that cannot be read is a finding,
//! and then nothing is written.

mod html;
mod markdown;
mod table;

use std::fmt;

use jiff::civil::Date;
use policy::{Diagnostic, HostPattern, PatternKind, Scheme, Severity, Source};

use super::text::{Row, Sheet};
use table::Table;

/// How the host set is to be called, and what is known of it.
#[derive(Clone, Debug)]
pub(super) struct Labels {
    pub(super) name: String,
    pub(super) source: String,
    pub(super) reviewed: Option<Date>,
}

/// What is wrong with a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mistake {
    /// No table has a column of hosts and one of protocols.
    NoTable,
    /// A row cannot be read.
    Row {
        /// Its line, from 1.
        line: usize,
        message: String,
    },
}

/// A row of the page, read.
struct Listed {
    line: usize,
    row: Row,
}

/// The host set that the tables of `page` list; or every mistake, in the order of the lines.
pub(super) fn read(page: &str, labels: Labels, today: Date) -> Result<Sheet, Vec<Mistake>> {
    let mut tables = markdown::tables(page);
    if tables.is_empty() {
        tables = html::tables(page);
    }
    if tables.is_empty() {
        return Err(vec![Mistake::NoTable]);
    }
    let (mut listed, mut mistakes) = (Vec::<Listed>::new(), Vec::new());
    for table in &tables {
        for row in &table.rows {
            match entries(table, row) {
                Ok(rows) => {
                    listed.extend(
                        rows.into_iter().map(|entry| Listed { line: row.line, row: entry }),
                    );
                }
                Err(message) => mistakes.push(Mistake::Row { line: row.line, message }),
            }
        }
    }
    mistakes.extend(repetitions(&listed));
    let Labels { name, source, reviewed } = labels;
    let lines: Vec<usize> = listed.iter().map(|listed| listed.line).collect();
    let rows = listed.into_iter().map(|listed| listed.row).collect();
    let sheet = Sheet { name, source, reviewed, rows };
    if mistakes.is_empty() {
        mistakes = refused(&sheet, &lines, today);
    }
    if mistakes.is_empty() {
        return Ok(sheet);
    }
    mistakes.sort_by_key(|mistake| match mistake {
        Mistake::NoTable => 0,
        Mistake::Row { line, .. } => *line,
    });
    Err(mistakes)
}

/// The entries of one row: it may name several hosts.
fn entries(table: &Table, row: &table::Row) -> Result<Vec<Row>, String> {
    let (hosts, protocols) = table.columns(row)?;
    let schemes = schemes(protocols)?;
    let mut entries = Vec::new();
    for written in
        hosts.split([' ', '\t', '\n', ',', ';', '\u{a0}']).filter(|part| !part.is_empty())
    {
        entries.push(entry(written, &schemes)?);
    }
    if entries.is_empty() {
        return Err("the row names no host".to_owned());
    }
    Ok(entries)
}

fn entry(written: &str, schemes: &[Scheme]) -> Result<Row, String> {
    let (scheme, host) = match written.split_once("://") {
        Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
        None => (None, written),
    };
    if let Some(scheme) = scheme
        && !schemes.iter().any(|listed| listed.label() == scheme)
    {
        return Err(format!(
            "`{}` is not of a protocol that the row lists",
            written.escape_debug()
        ));
    }
    let host = host.strip_suffix('/').unwrap_or(host);
    let within = within(host);
    let parent = within.as_deref().and_then(|parent| policy::HostName::parse(parent).ok());
    let pattern = HostPattern::parse(host, parent.as_ref())
        .map_err(|error| format!("`{}`: {error}", written.escape_debug()))?;
    // A word of the page, not a host of the Internet.
    if pattern.kind() == PatternKind::Exact && pattern.base().labels().nth(1).is_none() {
        return Err(format!("`{}`: host name has one label; at least 2", written.escape_debug()));
    }
    Ok(Row {
        host: host.to_owned(),
        within,
        schemes: schemes.to_vec(),
        ports: Vec::new(),
        reason: None,
    })
}

/// What a pattern that begins inside a label stays within: the domain somebody registered.
fn within(host: &str) -> Option<String> {
    let rest = host.strip_prefix('*').filter(|rest| !rest.starts_with('.'))?;
    psl::domain_str(rest).map(str::to_ascii_lowercase)
}

/// In order, without repetition.
fn schemes(written: &str) -> Result<Vec<Scheme>, String> {
    let mut schemes = Vec::new();
    let separators = |letter: char| letter.is_whitespace() || ",;/&+\u{a0}".contains(letter);
    for word in written.split(separators).filter(|word| !word.is_empty()) {
        match word.to_ascii_lowercase().as_str() {
            "http" => schemes.push(Scheme::Http),
            "https" => schemes.push(Scheme::Https),
            "http(s)" => schemes.extend(Scheme::ALL),
            "and" | "or" => {}
            _ => {
                return Err(format!(
                    "`{}` is not a protocol; HTTP and HTTPS are",
                    word.escape_debug()
                ));
            }
        }
    }
    schemes.sort_unstable();
    schemes.dedup();
    if schemes.is_empty() { Err("the row names no protocol".to_owned()) } else { Ok(schemes) }
}

/// A host that two rows list: which of them holds is for a person to say.
fn repetitions(listed: &[Listed]) -> Vec<Mistake> {
    let mut seen = std::collections::BTreeMap::new();
    let mut mistakes = Vec::new();
    for Listed { line, row } in listed {
        if let Some(first) = seen.insert(row.host.to_ascii_lowercase(), *line) {
            let message = format!("`{}` is listed in line {first} already", row.host);
            mistakes.push(Mistake::Row { line: *line, message });
        }
    }
    mistakes
}

/// What compiling the host set finds against its rows.
fn refused(sheet: &Sheet, lines: &[usize], today: Date) -> Vec<Mistake> {
    let (text, starts) = sheet.toml();
    let head = format!("{TRIAL}hostsets = [\"{}\"]\n\n", sheet.name);
    let text = format!("{head}{text}");
    let mistake = |found: Diagnostic| {
        let at = found.span.start.saturating_sub(head.len());
        let index = starts.partition_point(|start| *start <= at).checked_sub(1);
        let line = index.and_then(|index| lines.get(index)).copied().unwrap_or(1);
        Mistake::Row { line, message: found.message }
    };
    match policy::compile(&Source { name: &sheet.name, text: &text }, today) {
        Ok(_) => Vec::new(),
        Err(found) => found
            .into_iter()
            .filter(|found| found.severity == Severity::Error)
            .map(mistake)
            .collect(),
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTable => formatter.write_str(
                "no table has a column of hosts and a column of protocols, in Markdown or in HTML",
            ),
            Self::Row { line, message } => write!(formatter, "line {line}: {message}"),
        }
    }
}

/// The smallest policy; a host set is put to the test in it.
const TRIAL: &str = "\
schema        = 1
name          = \"trial\"
serial        = 1
environment   = \"production\"
default_class = \"trial\"

[[class]]
name     = \"trial\"
priority = 1
action   = \"garden\"
";

#[cfg(test)]
mod tests;
