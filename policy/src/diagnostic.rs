//! Findings about a document.

use std::{ops::Range, sync::Arc};

use crate::code::Code;
use crate::limits::MAX_FINDINGS;

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
    file: Arc<str>,
    end: usize,
    list: Vec<Diagnostic>,
    left_out: usize,
    errors: usize,
}

/// A finding whose place is known to the caller.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
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
    /// No findings yet about the document `file`, which is `end` bytes long.
    pub(crate) fn new(file: Arc<str>, end: usize) -> Self {
        Self { file, end, list: Vec::new(), left_out: 0, errors: 0 }
    }

    /// Adds one at `span`.
    pub(crate) fn add(&mut self, span: Range<usize>, fault: Fault) {
        let Fault { code, message, help } = fault;
        let severity = code.severity();
        self.errors += usize::from(severity == Severity::Error);
        if self.list.len() >= MAX_FINDINGS {
            self.left_out += 1;
            return;
        }
        self.list.push(Diagnostic {
            code: code.id(),
            severity,
            file: self.file.clone(),
            span,
            message,
            help,
        });
    }

    /// Whether an error was added.
    pub(crate) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Removes those that do not pass.
    pub(crate) fn retain(&mut self, keep: impl FnMut(&Diagnostic) -> bool) {
        self.list.retain(keep);
    }

    /// The findings in the order of their places.
    pub(crate) fn into_sorted(mut self) -> Vec<Diagnostic> {
        self.list.sort_by(|a, b| {
            (a.span.start, a.span.end, a.code, &a.message).cmp(&(
                b.span.start,
                b.span.end,
                b.code,
                &b.message,
            ))
        });
        if self.left_out > 0 {
            let severity = if self.errors > 0 { Severity::Error } else { Severity::Warning };
            self.list.push(Diagnostic {
                code: Code::TooMany.id(),
                severity,
                file: self.file,
                span: self.end..self.end,
                message: format!(
                    "{} more findings are not shown; at most {MAX_FINDINGS} are",
                    self.left_out
                ),
                help: None,
            });
        }
        self.list
    }
}

impl Fault {
    /// A fault without advice.
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), help: None }
    }

    /// Adds what to do about it.
    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// Adds what to do about it, if there is something.
    pub(crate) fn maybe_help(self, help: Option<String>) -> Self {
        Self { help, ..self }
    }
}
