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
    /// Where the table's file begins in the document.
    base: usize,
    span: Range<usize>,
    known: Vec<&'static str>,
    /// Any key may stand here.
    free: bool,
}

impl<'t> Fields<'t> {
    /// The top of a file that begins at `base`.
    pub(crate) fn root(what: &'static str, table: &'t DeTable<'t>, base: usize) -> Self {
        Self { what, table, base, span: base..base, known: Vec::new(), free: false }
    }

    /// Where the table is, or its header.
    pub(crate) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Where the table's file begins in the document.
    pub(crate) fn base(&self) -> usize {
        self.base
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
        let span = shift(value.span(), self.base);
        match read(value.get_ref()) {
            Ok(read) => Some(Spanned::new(span, read)),
            Err(fault) => {
                findings.add(span, fault);
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
        let base = self.base;
        self.value(key).map_or_else(Vec::new, |value| spanned(value, base, most, findings, read))
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
        Self::open(what, value, self.base, findings, read)
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
            findings.add(shift(value.span(), self.base), fault);
            return Vec::new();
        };
        limit(items.len(), most, what, shift(value.span(), self.base), findings);
        items
            .iter()
            .take(most)
            .filter_map(|item| Self::open(what, item, self.base, findings, &mut read))
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
                Err(fault) => findings.add(shift(key.span(), self.base), fault),
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
            let fault = Fault::new(Code::UnknownKey, message).maybe_help(help);
            findings.add(shift(key.span(), self.base), fault);
        }
    }

    fn value(&mut self, key: &'static str) -> Option<&'t Spanned<DeValue<'t>>> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.table.get(key)
    }

    fn open<T>(
        what: &'static str,
        value: &'t Spanned<DeValue<'t>>,
        base: usize,
        findings: &mut Findings,
        read: impl FnOnce(&mut Self, &mut Findings) -> T,
    ) -> Option<T> {
        let span = shift(value.span(), base);
        let Some(table) = value.get_ref().as_table() else {
            findings.add(span, wrong_type("a table", value.get_ref()));
            return None;
        };
        let mut fields = Self { what, table, base, span, known: Vec::new(), free: false };
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
    base: usize,
    most: usize,
    findings: &mut Findings,
    read: impl FnMut(&'t DeValue<'t>) -> Result<T, Fault>,
) -> Vec<T> {
    spanned(value, base, most, findings, read).into_iter().map(Spanned::into_inner).collect()
}

fn spanned<'t, T>(
    value: &'t Spanned<DeValue<'t>>,
    base: usize,
    most: usize,
    findings: &mut Findings,
    mut read: impl FnMut(&'t DeValue<'t>) -> Result<T, Fault>,
) -> Vec<Spanned<T>> {
    let whole = shift(value.span(), base);
    let Some(items) = value.get_ref().as_array() else {
        findings.add(whole, wrong_type("an array", value.get_ref()));
        return Vec::new();
    };
    limit(items.len(), most, "items", whole.clone(), findings);
    if items.is_empty() {
        findings.add(whole, Fault::new(Code::EmptyList, "the list is empty"));
    }
    let mut found = Vec::with_capacity(items.len().min(most));
    for item in items.iter().take(most) {
        let span = shift(item.span(), base);
        match read(item.get_ref()) {
            Ok(read) => found.push(Spanned::new(span, read)),
            Err(fault) => findings.add(span, fault),
        }
    }
    found
}

/// A span of a file, as one of the document.
fn shift(span: Range<usize>, base: usize) -> Range<usize> {
    span.start + base..span.end + base
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

/// Reads a moment: a date and a time with an offset from UTC.
pub(crate) fn moment(value: &DeValue<'_>) -> Result<jiff::Timestamp, Fault> {
    let help = "write it bare and with its offset, such as 2026-09-05T01:00:00Z";
    let fault = |message: &str| Fault::new(Code::InvalidTime, message).help(help);
    let datetime =
        value.as_datetime().ok_or_else(|| wrong_type("a date and time", value).help(help))?;
    if datetime.date.is_none() || datetime.time.is_none() {
        return Err(fault("this is not a date and a time"));
    }
    if datetime.offset.is_none() {
        return Err(fault("the time has no offset, so it is another moment in each time zone"));
    }
    let written = datetime.to_string();
    written.parse().map_err(|_| fault("there is no such moment"))
}

/// The fault of a value that is not of the type it must be.
pub(crate) fn wrong_type(expected: &str, value: &DeValue<'_>) -> Fault {
    Fault::new(Code::WrongType, format!("expected {expected}, found {}", value.type_str()))
}
