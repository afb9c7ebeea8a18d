//! `[[lint.allow]]`: warnings that somebody has looked at, with the reason and a last day.

use jiff::civil::Date;
use toml::Spanned;

use super::{
    fields::{Fields, date, short, text},
    host::words,
};
use crate::{
    code::Code,
    diagnostic::{Fault, Findings, Severity},
    nearest::suggest,
};

/// One allowed kind of finding, as it was written.
#[derive(Debug)]
pub(crate) struct Suppression<'t> {
    pub(crate) code: Option<Spanned<Code>>,
    pub(crate) hostset: Option<Spanned<&'t str>>,
    /// The text of `match`.
    pub(crate) pattern: Option<Spanned<&'t str>>,
    pub(crate) class: Option<Spanned<&'t str>>,
    pub(crate) until: Option<Spanned<Date>>,
}

impl<'t> Suppression<'t> {
    pub(super) fn read(fields: &mut Fields<'t>, findings: &mut Findings) -> Self {
        let read = Self {
            code: fields.require("code", findings, code),
            hostset: fields.get("hostset", findings, text),
            pattern: fields.get("match", findings, text),
            class: fields.get("class", findings, text),
            until: fields.require("until", findings, date),
        };
        fields.require("reason", findings, |value| match words(value)?.trim() {
            "" => Err(Fault::new(Code::EmptyList, "the reason is empty")
                .help("say who looked at it and why it may stay")),
            _ => Ok(()),
        });
        read
    }
}

fn code(value: &toml::de::DeValue<'_>) -> Result<Code, Fault> {
    let written = text(value)?;
    let known = Code::ALL.iter().find(|code| code.id() == written || code.name() == written);
    match known {
        Some(code) if code.severity() == Severity::Warning => Ok(*code),
        Some(_) => {
            let message = format!("`{}` is an error; only warnings can be allowed", short(written));
            Err(Fault::new(Code::UnknownValue, message))
        }
        None => {
            let message = format!("no finding has the code `{}`", short(written));
            let warnings = Code::ALL.iter().filter(|code| code.severity() == Severity::Warning);
            let names: Vec<&str> = warnings.flat_map(|code| [code.id(), code.name()]).collect();
            Err(Fault::new(Code::UnknownValue, message).maybe_help(suggest(written, names)))
        }
    }
}
