//! Policies that a command asks.

use std::path::Path;

use jiff::Timestamp;
use policy::Policy;

use super::document::Document;
use crate::report;

/// Reads and compiles the policy at `path`; a line that says why not.
pub(super) fn compile(path: &Path, at: Timestamp) -> Result<Policy, String> {
    let document =
        Document::read(path).map_err(|error| format!("error: {}", report::with_causes(&error)))?;
    let day = jiff::tz::Offset::UTC.to_datetime(at).date();
    let parts = document.parts();
    let compiled = policy::compile_parts(&parts, day).map_err(|found| {
        report::diagnostics_to_stderr(&found, &parts);
        format!("error: {} is not a policy that can be used", document.name)
    })?;
    Ok(compiled.policy)
}

/// A class that is not there would deny everything, which is never what was meant.
pub(super) fn check_class(policy: &Policy, class: Option<&str>) -> Result<(), String> {
    match class {
        Some(class) if policy.class(class).is_none() => {
            let known: Vec<&str> = policy.classes().iter().map(policy::Class::name).collect();
            let (name, known) = (policy.name(), known.join(", "));
            Err(format!("error: no class `{class}` in the policy {name}; there are: {known}"))
        }
        Some(_) | None => Ok(()),
    }
}
