//! Text to policy, or every diagnostic at once.

use jiff::civil::Date;

use crate::{diagnostic::Diagnostic, policy::Policy};

/// A document as it was read.
#[derive(Clone, Debug)]
pub struct Source<'a> {
    /// Its name in diagnostics: usually the path.
    pub name: &'a str,
    /// Its text.
    pub text: &'a str,
}

/// A policy with the warnings about its document.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The policy.
    pub policy: Policy,
    /// Findings that do not stop it.
    pub warnings: Vec<Diagnostic>,
}

/// Compiles a document; `today` is what expiry and age are held against.
///
/// # Errors
///
/// Every finding, errors and warnings, in the order of their places, if one of them is an error.
pub fn compile(source: &Source<'_>, today: Date) -> Result<Compiled, Vec<Diagnostic>> {
    let _ = (source, today);
    Err(Vec::new())
}
