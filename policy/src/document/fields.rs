//! Typed access to a parsed table: each key that is asked for is known, the rest are findings.

use std::{fmt, ops::Range};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{
    code::Code,
    diagnostic::{Fault, Findings},
    nearest::suggest,
};

/// One table while it is read.
#[derive(Debug)]
pub(crate) struct Fields<'t> {
    what: &'static str,
    table: &'t DeTable<'t>,
    span: Range<usize>,
    known: Vec<&'static str>,
    /// Any key may stand here.
    free: bool,
}

impl<'t> Fields<'t> {
    /// The document's top.
    pub(crate) fn root(table: &'t DeTable<'t>) -> Self {
        Self { what: "the document", table, span: 0..0, known: Vec::new(), free: false }
    }

    /// Where the table is, or its header.
    pub(crate) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Whether the key is written, well or badly.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The value of `key`, if it is there and can be read.
    pub(crate) fn get<T>(
        &mut self,
        key: &'static str,
        findings: &mut Findings,
        read: impl FnOnce(&'t DeValue<'t>) -> Result<T, Fault>,
    ) -> Option<Spanned<T>> {
        let value = self.value(key)?;
        match read(value.get_ref()) {
            Ok(read) => Some(Spanned::new(value.span(), read)),
            Err(fault) => {
                findings.add(value.span(), fault);
                None
            }
        }
    }

    /// As [`Fields::get`]; a key that is absent is a finding.
    pub(crate) fn require<T>(
        &mut self,
        key: &'static str,
        findings: &mut Findings,
        read: impl FnOnce(&'t DeValue<'t>) -> Result<T, Fault>,
    ) -> Option<Spanned<T>> {
        if !self.has(key) {
            let message = format!("`{key}` is missing in {}", self.what);
            findings.add(self.span(), Fault::new(Code::MissingKey, message));
        }
        self.get(key, findings, read)
    }

    /// The items of the array `key` that can be read; empty if it is absent.
    pub(crate) fn list<T>(
        &mut self,
        key: &'static str,
        most: usize,
        findings: &mut Findings,
        read: impl FnMut(&'t DeValue<'t>) -> Result<T, Fault>,
    ) -> Vec<Spanned<T>> {
        self.value(key).map_or_else(Vec::new, |value| spanned(value, most, findings, read))
    }

    /// The table `key`, if it is there.
    pub(crate) fn table<T>(
        &mut self,
        key: &'static str,
        what: &'static str,
        findings: &mut Findings,
        read: impl FnOnce(&mut Self, &mut Findings) -> T,
    ) -> Option<T> {
        let value = self.value(key)?;
        Self::open(what, value, findings, read)
    }

    /// Every table of the array of tables `key`; empty if it is absent.
    pub(crate) fn tables<T>(
        &mut self,
        key: &'static str,
        what: &'static str,
        most: usize,
        findings: &mut Findings,
        mut read: impl FnMut(&mut Self, &mut Findings) -> T,
    ) -> Vec<T> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let Some(items) = value.get_ref().as_array() else {
            let fault = wrong_type("an array of tables", value.get_ref())
                .help(format!("write `{what}` with two brackets"));
            findings.add(value.span(), fault);
            return Vec::new();
        };
        limit(items.len(), most, what, value.span(), findings);
        items
            .iter()
            .take(most)
            .filter_map(|item| Self::open(what, item, findings, &mut read))
            .collect()
    }

    /// Every key and value of a table whose keys are free.
    pub(crate) fn every<K>(
        &mut self,
        most: usize,
        findings: &mut Findings,
        read: impl Fn(&str) -> Result<K, Fault>,
    ) -> Vec<(K, &'t Spanned<DeValue<'t>>)> {
        limit(self.table.len(), most, self.what, self.span(), findings);
        let mut found = Vec::new();
        for (key, value) in self.table.iter().take(most) {
            match read(key.get_ref()) {
                Ok(read) => found.push((read, value)),
                Err(fault) => findings.add(key.span(), fault),
            }
        }
        self.free = true;
        found
    }

    /// Reports the keys nobody asked for.
    pub(crate) fn finish(self, findings: &mut Findings) {
        for key in self.table.keys() {
            let written: &str = key.get_ref();
            if self.free || self.known.contains(&written) {
                continue;
            }
            let message = format!("unknown key `{}` in {}", Short(written), self.what);
            let help = suggest(written, self.known.iter().copied());
            findings.add(key.span(), Fault::new(Code::UnknownKey, message).maybe_help(help));
        }
    }

    fn value(&mut self, key: &'static str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.known.push(key);
        self.table.get(key)
    }

    fn open<T>(
        what: &'static str,
        value: &'t Spanned<DeValue<'t>>,
        findings: &mut Findings,
        read: impl FnOnce(&mut Self, &mut Findings) -> T,
    ) -> Option<T> {
        let Some(table) = value.get_ref().as_table() else {
            findings.add(value.span(), wrong_type("a table", value.get_ref()));
            return None;
        };
        let mut fields = Self { what, table, span: value.span(), known: Vec::new(), free: false };
        let read = read(&mut fields, findings);
        fields.finish(findings);
        Some(read)
    }
}

/// At most a line's worth of a text that came from outside.
struct Short<'a>(&'a str);

impl fmt::Display for Short<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut letters = self.0.chars();
        for letter in letters.by_ref().take(MAX_ECHO) {
            write!(formatter, "{}", letter.escape_debug())?;
        }
        if letters.next().is_some() { formatter.write_str("…") } else { Ok(()) }
    }
}

/// Characters of a faulty text that a message repeats.
const MAX_ECHO: usize = 80;

/// The text at most a line long, control characters escaped.
pub(crate) fn short(text: &str) -> impl fmt::Display + '_ {
    Short(text)
}

/// The items of an array that can be read, without their places.
pub(crate) fn items<'t, T>(
    value: &'t Spanned<DeValue<'t>>,
    most: usize,
    findings: &mut Findings,
    read: impl FnMut(&'t DeValue<'t>) -> Result<T, Fault>,
) -> Vec<T> {
    spanned(value, most, findings, read).into_iter().map(Spanned::into_inner).collect()
}

fn spanned<'t, T>(
    value: &'t Spanned<DeValue<'t>>,
    most: usize,
    findings: &mut Findings,
    mut read: impl FnMut(&'t DeValue<'t>) -> Result<T, Fault>,
) -> Vec<Spanned<T>> {
    let Some(items) = value.get_ref().as_array() else {
        findings.add(value.span(), wrong_type("an array", value.get_ref()));
        return Vec::new();
    };
    limit(items.len(), most, "items", value.span(), findings);
    if items.is_empty() {
        findings.add(value.span(), Fault::new(Code::EmptyList, "the list is empty"));
    }
    let mut found = Vec::with_capacity(items.len().min(most));
    for item in items.iter().take(most) {
        match read(item.get_ref()) {
            Ok(read) => found.push(Spanned::new(item.span(), read)),
            Err(fault) => findings.add(item.span(), fault),
        }
    }
    found
}

/// Reports `count` things of a kind if they are more than `most`.
pub(crate) fn limit(
    count: usize,
    most: usize,
    what: &str,
    span: Range<usize>,
    findings: &mut Findings,
) {
    if count > most {
        let message = format!("{count} {what}; at most {most} are allowed");
        findings.add(span, Fault::new(Code::TooMany, message));
    }
}

/// Reads a string.
pub(crate) fn text<'t>(value: &'t DeValue<'t>) -> Result<&'t str, Fault> {
    value.as_str().ok_or_else(|| wrong_type("a string", value))
}

/// Reads a whole number between two bounds, both included.
pub(crate) fn whole<'t, N>(least: N, most: N) -> impl Fn(&'t DeValue<'t>) -> Result<N, Fault>
where
    N: TryFrom<i128> + PartialOrd + Copy + fmt::Display,
{
    move |value| {
        let number = value.as_integer().ok_or_else(|| wrong_type("a whole number", value))?;
        i128::from_str_radix(number.as_str(), number.radix())
            .ok()
            .and_then(|wide| N::try_from(wide).ok())
            .filter(|read| (least..=most).contains(read))
            .ok_or_else(|| {
                let message = format!(
                    "{} is outside the bounds; {least} to {most} are allowed",
                    Short(number.as_str())
                );
                Fault::new(Code::OutOfRange, message)
            })
    }
}

/// Reads one word of a closed list.
pub(crate) fn choice<T: Copy>(value: &DeValue<'_>, all: &[(&str, T)]) -> Result<T, Fault> {
    let written = value.as_str().ok_or_else(|| wrong_type("a string", value))?;
    if let Some((_, found)) = all.iter().find(|(word, _)| *word == written) {
        return Ok(*found);
    }
    let message = format!("`{}` is not one of the values allowed here", Short(written));
    let help = suggest(written, all.iter().map(|(word, _)| *word));
    Err(Fault::new(Code::UnknownValue, message).maybe_help(help))
}

/// Reads a calendar date without a time.
pub(crate) fn date(value: &DeValue<'_>) -> Result<jiff::civil::Date, Fault> {
    let fault = || {
        Fault::new(Code::InvalidDate, "this is not a date without a time")
            .help("write it bare, such as 2026-08-22")
    };
    let datetime = value
        .as_datetime()
        .ok_or_else(|| wrong_type("a date", value).help("write it bare, such as 2026-08-22"))?;
    let (Some(date), None, None) = (datetime.date, datetime.time, datetime.offset) else {
        return Err(fault());
    };
    let year = i16::try_from(date.year).map_err(|_| fault())?;
    let month = i8::try_from(date.month).map_err(|_| fault())?;
    let day = i8::try_from(date.day).map_err(|_| fault())?;
    jiff::civil::Date::new(year, month, day).map_err(|_| fault())
}

/// The fault of a value that is not of the type it must be.
pub(crate) fn wrong_type(expected: &str, value: &DeValue<'_>) -> Fault {
    Fault::new(Code::WrongType, format!("expected {expected}, found {}", value.type_str()))
}
