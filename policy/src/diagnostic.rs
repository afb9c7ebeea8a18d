//! Findings about a document.

use std::{ops::Range, sync::Arc};

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
    /// Stable code such as `PN0012`; each is described where it is defined.
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
