//! Host entries of one class that lie in each other, and probes that a wide entry lets through.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    ops::{ControlFlow, Range},
};

use super::gardens;
use crate::{
    builtin,
    class::Class,
    code::Code,
    compile::Terms,
    diagnostic::{Fault, Findings},
    document::Document,
    host::{HostName, HostPattern, PatternKind, Values},
    policy::Policy,
    probe::Probe,
    rule::{Listing, Rule, Scheme},
};

pub(super) fn review(
    document: &Document<'_>,
    policy: &Policy,
    terms: &Terms,
    findings: &mut Findings,
) {
    // An entry that several classes use is reported once.
    let mut reported = BTreeMap::new();
    for (_, class) in gardens(document, policy) {
        let used: BTreeSet<&str> = class.hostsets().collect();
        for (index, rule) in policy.rules().iter().enumerate() {
            let looked_at = is_ours(rule) && rule.window.is_none() && used.contains(rule.hostset());
            if looked_at
                && let Some(fault) = overlap(policy, class, index, rule)
                && let Some(span) = span(rule, terms)
            {
                reported.entry((span.start, fault.code)).or_insert((span, fault));
            }
        }
        for (rule, fault) in probes(policy, class) {
            if let Some(span) = span(rule, terms) {
                reported.entry((span.start, fault.code)).or_insert((span, fault));
            }
        }
    }
    for (span, fault) in reported.into_values() {
        findings.add(span, fault);
    }
}

/// Whether the entry stands in the document.
fn is_ours(rule: &Rule) -> bool {
    !rule.hostset().starts_with(builtin::PREFIX)
}

fn span(rule: &Rule, terms: &Terms) -> Option<Range<usize>> {
    terms.layout.span(rule.place())
}

/// What the other entries of the class make of the one at `index`.
fn overlap(policy: &Policy, class: &Class, index: usize, rule: &Rule) -> Option<Fault> {
    let sample = sample(&rule.pattern)?;
    let mut equal: Vec<(usize, &Rule)> = Vec::new();
    let mut wider: Option<Values<'_, Listing>> = None;
    let _: Option<()> = class.table.visit(&sample, |indices| {
        let mut rules = indices
            .clone()
            .filter_map(|at| Some((usize::try_from(at.rule).ok()?, policy.rule_of(at)?)));
        let Some((_, first)) = rules.clone().next() else { return ControlFlow::Continue(()) };
        if first.pattern == rule.pattern {
            equal.extend(rules.by_ref().filter(|(at, _)| *at != index));
            return ControlFlow::Continue(());
        }
        if covers(&first.pattern, &rule.pattern) {
            wider = Some(indices);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    if equal.is_empty() && wider.is_none() {
        return None;
    }
    let own = allowed(rule);
    let about = |fault: Fault| fault.of_hostset(rule.hostset()).of_pattern(&rule.pattern);
    let outlives = |other: &Rule| {
        other.window.is_none()
            && other.expires.is_none_or(|last| rule.expires.is_some_and(|own| own <= last))
            && rule.networks.iter().all(|network| other.networks.contains(network))
    };
    let twin = equal.iter().find(|(at, other)| {
        let other_allows = allowed(other);
        // Of two that say the same, the later one is reported; within a set, as a duplicate.
        outlives(other)
            && own.is_subset(&other_allows)
            && (own != other_allows
                || !is_ours(other)
                || (*at < index && other.hostset != rule.hostset))
    });
    if let Some((_, twin)) = twin {
        return Some(about(shadowed(rule, twin)));
    }
    let wider = wider.into_iter().flatten().filter_map(|at| policy.rule_of(at));
    let wider: Vec<&Rule> = wider.filter(|wide| wide.window.is_none()).collect();
    let first = *wider.first()?;
    let wide: BTreeSet<(Scheme, u16)> = wider.iter().copied().flat_map(allowed).collect();
    let here: BTreeSet<(Scheme, u16)> =
        equal.iter().flat_map(|(_, other)| allowed(other)).chain(own.iter().copied()).collect();
    let lost: Vec<String> =
        wide.difference(&here).map(|(scheme, port)| format!("{scheme} on port {port}")).collect();
    if !lost.is_empty() && rule.expires.is_none() {
        let message = format!(
            "`{}` takes away what `{}` in {} allows: {}",
            rule.pattern,
            first.pattern,
            first.place,
            lost.join(", ")
        );
        let help = "the most specific entry decides alone; list there all that is meant";
        return Some(about(Fault::new(Code::NarrowedEntry, message).help(help)));
    }
    let whole = wider.iter().find(|wide| outlives(wide) && own.is_subset(&allowed(wide)));
    let whole = whole.filter(|_| equal.is_empty() && lost.is_empty())?;
    Some(about(shadowed(rule, whole)))
}

fn shadowed(rule: &Rule, by: &Rule) -> Fault {
    let message =
        format!("`{}` in {} allows all that `{}` does", by.pattern, by.place, rule.pattern);
    Fault::new(Code::ShadowedEntry, message).help("remove the entry, or the wider one")
}

/// The scheme and port pairs an entry lets through.
fn allowed(rule: &Rule) -> BTreeSet<(Scheme, u16)> {
    let pairs = |scheme: &Scheme| {
        let scheme = *scheme;
        rule.ports(scheme).map(move |port| (scheme, port)).collect::<Vec<_>>()
    };
    rule.schemes.iter().flat_map(pairs).collect()
}

/// A name that stands for all of a pattern: what matches every name of it matches this one.
fn sample(pattern: &HostPattern) -> Option<Cow<'_, HostName>> {
    match pattern.kind() {
        PatternKind::Exact => Some(Cow::Borrowed(pattern.base())),
        PatternKind::Below | PatternKind::Both | PatternKind::Suffix => {
            HostName::parse(&format!("{NOBODY}.{}", pattern.base())).ok().map(Cow::Owned)
        }
    }
}

/// Whether `wide` matches every name that `narrow` does.
fn covers(wide: &HostPattern, narrow: &HostPattern) -> bool {
    let (outer, inner) = (wide.base(), narrow.base());
    let below = inner.is_below(outer);
    match (wide.kind(), narrow.kind()) {
        (PatternKind::Exact, PatternKind::Exact) => inner == outer,
        (PatternKind::Exact, PatternKind::Below | PatternKind::Both | PatternKind::Suffix) => false,
        (PatternKind::Below, PatternKind::Below) => below || inner == outer,
        (PatternKind::Below, PatternKind::Exact | PatternKind::Both | PatternKind::Suffix) => below,
        (PatternKind::Both, PatternKind::Exact | PatternKind::Below | PatternKind::Both) => {
            below || inner == outer
        }
        (PatternKind::Both, PatternKind::Suffix) => below,
        (
            PatternKind::Suffix,
            PatternKind::Exact | PatternKind::Below | PatternKind::Both | PatternKind::Suffix,
        ) => PatternKind::Suffix.holds(outer, inner),
    }
}

/// Entries of the document that let a connectivity probe through without naming it.
fn probes<'p>(policy: &'p Policy, class: &'p Class) -> Vec<(&'p Rule, Fault)> {
    let others = OTHER_PROBES.iter().filter_map(|name| HostName::parse(name).ok());
    let mut found = Vec::new();
    for probe in Probe::names().chain(others) {
        let decisive = class.table.visit(&probe, |indices| {
            let mut rules = indices.filter_map(|at| policy.rule_of(at));
            match rules.find(|rule| rule.schemes.contains(&Scheme::Http)) {
                Some(rule) => ControlFlow::Break(rule),
                None => ControlFlow::Continue(()),
            }
        });
        let Some(rule) = decisive.filter(|rule| is_ours(rule)) else { continue };
        if rule.pattern.kind() != PatternKind::Exact {
            let message = format!(
                "`{}` lets the connectivity probe `{probe}` through: devices take themselves for \
                 online",
                rule.pattern
            );
            let help = "list the hosts that are meant, and the probe by its own name if it is";
            let fault = Fault::new(Code::ShadowedProbe, message).help(help);
            let fault = fault.of_hostset(rule.hostset()).of_pattern(&rule.pattern);
            found.push((rule, fault.of_class(class.name())));
        }
    }
    found
}

/// Probes of systems other than Windows.
const OTHER_PROBES: [&str; 4] = [
    "captive.apple.com",
    "connectivitycheck.gstatic.com",
    "detectportal.firefox.com",
    "play.googleapis.com",
];
/// A label that no pattern names.
const NOBODY: &str = "a-name-nobody-has";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> HostPattern {
        let within = text
            .strip_prefix('*')
            .filter(|rest| !rest.starts_with('.'))
            .and_then(|rest| rest.split_once('.'))
            .map(|(_, parent)| HostName::parse(parent).unwrap());
        HostPattern::parse(text, within.as_ref()).unwrap()
    }

    proptest! {
        #[test]
        fn a_wide_pattern_matches_all_that_the_narrow_one_does(
            wide in "(\\*\\.|\\.|\\*)?[ab]{1,2}(\\.[ab]{1,2}){1,2}",
            narrow in "(\\*\\.|\\.|\\*)?[ab]{1,2}(\\.[ab]{1,2}){1,3}",
            host in "[ab]{1,3}(\\.[ab]{1,2}){0,4}",
        ) {
            let (wide, narrow) = (pattern(&wide), pattern(&narrow));
            let host = HostName::parse(&host).unwrap();
            if covers(&wide, &narrow) {
                prop_assert!(!narrow.matches(&host) || wide.matches(&host));
                prop_assert!(wide.matches(&sample(&narrow).unwrap()));
            }
        }
    }
}
