//! `[[schedule]]`: windows of time in which host sets are added.

use jiff::Timestamp;
use toml::Spanned;

use super::{
    fields::{Fields, moment, text},
    name,
};
use crate::{
    code::Code,
    diagnostic::{Fault, Findings},
    limits::{MAX_CLASS_HOSTSETS, MAX_CLASSES},
};

/// One window, as it was written.
#[derive(Debug)]
pub(crate) struct Schedule<'t> {
    pub(crate) name: Option<Spanned<&'t str>>,
    pub(crate) from: Option<Spanned<Timestamp>>,
    pub(crate) until: Option<Spanned<Timestamp>>,
    pub(crate) hostsets: Vec<Spanned<&'t str>>,
    /// `None`: every class that asks host sets.
    pub(crate) classes: Option<Vec<Spanned<&'t str>>>,
}

impl<'t> Schedule<'t> {
    pub(super) fn read(fields: &mut Fields<'t>, findings: &mut Findings) -> Self {
        let schedule = Self {
            name: fields.require("name", findings, name),
            from: fields.require("from", findings, moment),
            until: fields.require("until", findings, moment),
            hostsets: {
                fields.require("hostsets", findings, |_| Ok(()));
                fields.list("hostsets", MAX_CLASS_HOSTSETS, findings, text)
            },
            classes: {
                let read = fields.list("classes", MAX_CLASSES, findings, text);
                fields.has("classes").then_some(read)
            },
        };
        if let (Some(from), Some(until)) = (&schedule.from, &schedule.until)
            && until.get_ref() <= from.get_ref()
        {
            let message = "the window ends before it begins, so it is never open";
            let help = "`from` is its first moment, `until` the first one after it";
            findings.add(until.span(), Fault::new(Code::EmptyWindow, message).help(help));
        }
        schedule
    }
}
