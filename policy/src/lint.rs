//! Lint: what a sound policy says that somebody should look at all the same.
//!
//! Nothing here changes a verdict. Every finding is a warning, names what it speaks of, and can be
//! allowed by `[[lint.allow]]` with a reason and a last day.

mod data;
mod entries;
mod overlaps;
mod revocation;
mod subscribers;
mod suppress;
mod vendor;

use crate::{
    class::{Action, Class},
    compile::Terms,
    diagnostic::Findings,
    document::Document,
    host::HostPattern,
    policy::Policy,
};

pub(crate) use suppress::suppress;

/// Adds every warning about `document`, which compiles to `policy`.
pub(crate) fn review(
    document: &Document<'_>,
    policy: &Policy,
    terms: &Terms,
    findings: &mut Findings,
) {
    entries::review(document, findings);
    overlaps::review(document, policy, terms, findings);
    revocation::review(document, policy, findings);
    vendor::review(document, policy, findings);
    subscribers::review(document, terms, findings);
}

/// A host entry as it was written, with what names it.
struct Entry<'d> {
    hostset: &'d str,
    pattern: &'d HostPattern,
    written: &'d str,
    span: std::ops::Range<usize>,
}

/// Every host entry of the document that can be read.
fn written<'d>(document: &'d Document<'_>) -> impl Iterator<Item = Entry<'d>> {
    document.hostsets.iter().flat_map(|set| {
        let hostset = set.name.as_ref().map_or("", |name| *name.get_ref());
        set.hosts.iter().filter_map(move |host| {
            let written = host.written.as_ref()?;
            Some(Entry {
                hostset,
                pattern: host.pattern.as_ref()?,
                written: written.get_ref(),
                span: written.span(),
            })
        })
    })
}

/// The classes that ask host sets, as written and as compiled.
fn gardens<'d>(
    document: &'d Document<'_>,
    policy: &'d Policy,
) -> impl Iterator<Item = (&'d crate::document::Class<'d>, &'d Class)> {
    document.classes.iter().filter_map(|written| {
        let class = policy.class(written.name.as_ref()?.get_ref())?;
        match class.action {
            Action::Garden | Action::Observe => Some((written, class)),
            Action::Open | Action::Drop => None,
        }
    })
}

#[cfg(test)]
mod tests;
