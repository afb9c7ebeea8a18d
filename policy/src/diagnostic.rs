//! Findings about a document.

use std::{ops::Range, sync::Arc};

use crate::{code::Code, host::HostPattern, layout::Layout, limits::MAX_FINDINGS, rule::Place};

/// How grave a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The document cannot be used.
    Error,
    /// The document can be used, but somebody should look.
    Warning,
}

/// One finding about a document: what, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Stable code such as `PN0012`; each is described at [`Code`].
    pub code: &'static str,
    /// How grave it is.
    pub severity: Severity,
    /// The document's name.
    pub file: Arc<str>,
    /// The bytes it speaks of; empty span at 0 for the whole document.
    pub span: Range<usize>,
    /// What is wrong: lower case, no full stop, with the limit it broke.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

/// Findings as they are gathered from one document.
#[derive(Debug)]
pub(crate) struct Findings {
    layout: Arc<Layout>,
    list: Vec<Found>,
    left_out: usize,
    errors: usize,
}

/// A finding and where it is, in offsets over all files.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) span: Range<usize>,
    pub(crate) fault: Fault,
}

/// A finding whose place is known to the caller.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
    pub(crate) about: About,
}

/// What a finding speaks of, by name: the handles by which it can be allowed.
#[derive(Clone, Debug, Default)]
pub(crate) struct About {
    pub(crate) hostset: Option<Box<str>>,
    pub(crate) pattern: Option<HostPattern>,
    pub(crate) class: Option<Box<str>>,
}

impl Severity {
    /// The severity's name in reports.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

impl Findings {
    /// No findings yet about the document laid out so.
    pub(crate) fn new(layout: Arc<Layout>) -> Self {
        Self { layout, list: Vec::new(), left_out: 0, errors: 0 }
    }

    /// Adds one at `span`.
    pub(crate) fn add(&mut self, span: Range<usize>, fault: Fault) {
        self.errors += usize::from(fault.code.severity() == Severity::Error);
        if self.list.len() >= MAX_FINDINGS {
            self.left_out += 1;
            return;
        }
        self.list.push(Found { span, fault });
    }

    /// Whether an error was added.
    pub(crate) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Removes those that do not pass.
    pub(crate) fn retain(&mut self, keep: impl FnMut(&Found) -> bool) {
        self.list.retain(keep);
    }

    /// The findings in the order of their places: the first file's, then those of the others in
    /// the order in which they were read.
    pub(crate) fn into_sorted(mut self) -> Vec<Diagnostic> {
        self.list.sort_by(|a, b| {
            (a.span.start, a.span.end, a.fault.code.id(), &a.fault.message).cmp(&(
                b.span.start,
                b.span.end,
                b.fault.code.id(),
                &b.fault.message,
            ))
        });
        // Two classes may name one list, and meet the same mistakes in it.
        self.list.dedup_by(|a, b| {
            a.span == b.span && a.fault.code == b.fault.code && a.fault.message == b.fault.message
        });
        let severity = if self.errors > 0 { Severity::Error } else { Severity::Warning };
        let layout = self.layout;
        let mut all: Vec<Diagnostic> =
            self.list.into_iter().map(|found| found.diagnostic(&layout)).collect();
        if self.left_out > 0 {
            let message = format!(
                "{} more findings are not shown; at most {MAX_FINDINGS} are",
                self.left_out
            );
            let fault = Fault::new(Code::TooMany, message);
            let found = Found { span: layout.end()..layout.end(), fault };
            all.push(Diagnostic { severity, ..found.diagnostic(&layout) });
        }
        all
    }
}

impl Found {
    fn diagnostic(self, layout: &Layout) -> Diagnostic {
        let Fault { code, message, help, about: _ } = self.fault;
        let Place { file, line: _, span } = layout.place(&self.span);
        Diagnostic { code: code.id(), severity: code.severity(), file, span, message, help }
    }
}

impl Fault {
    /// A fault without advice.
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), help: None, about: About::default() }
    }

    /// Adds what to do about it.
    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// Adds what to do about it, if there is something.
    pub(crate) fn maybe_help(self, help: Option<String>) -> Self {
        Self { help, ..self }
    }

    /// Adds the host set it speaks of.
    pub(crate) fn of_hostset(mut self, name: &str) -> Self {
        self.about.hostset = Some(name.into());
        self
    }

    /// Adds the pattern it speaks of.
    pub(crate) fn of_pattern(mut self, pattern: &HostPattern) -> Self {
        self.about.pattern = Some(pattern.clone());
        self
    }

    /// Adds the class it speaks of.
    pub(crate) fn of_class(mut self, name: &str) -> Self {
        self.about.class = Some(name.into());
        self
    }
}
