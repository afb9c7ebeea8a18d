//! Ranges of SIMs, and classes that an earlier one leaves nobody.

use toml::Spanned;

use crate::{
    class::ClassMatch,
    code::Code,
    compile::Terms,
    diagnostic::{Fault, Findings},
    document::{Class, Document},
    sim::{Iccid, Identity, IdentityRange, IdentitySet},
};

pub(super) fn review(document: &Document<'_>, terms: &Terms, findings: &mut Findings) {
    for class in &document.classes {
        let name = class.name.as_ref().map_or("", |name| *name.get_ref());
        for entry in &class.matches {
            blocks(name, &entry.iccid.ranges, findings);
            overlapping(name, &entry.iccid.ranges, terms, findings);
            overlapping(name, &entry.imsi.ranges, terms, findings);
        }
    }
    for class in &document.classes {
        overshadowed(class, document, terms, findings);
    }
}

/// Metadata is matched in blocks of 100 (Microsoft, "COSA database submission").
fn blocks(class: &str, ranges: &[Spanned<IdentityRange<Iccid>>], findings: &mut Findings) {
    for range in ranges {
        let (start, end) = (range.get_ref().start(), range.get_ref().end());
        if !range.get_ref().is_single() && (start.last_two() != 0 || end.last_two() != 99) {
            let message = "the range does not lie on blocks of 100: it begins with …00 and ends \
                           with …99 where Microsoft matches it";
            let help = "widen it to whole blocks, or list the SIMs one by one";
            let fault = Fault::new(Code::OffBlocks, message).help(help);
            findings.add(range.span(), fault.of_class(class));
        }
    }
}

fn overlapping<I: Identity>(
    class: &str,
    ranges: &[Spanned<IdentityRange<I>>],
    terms: &Terms,
    findings: &mut Findings,
) {
    let mut sorted: Vec<&Spanned<IdentityRange<I>>> = ranges.iter().collect();
    sorted.sort_by_key(|range| (*range.get_ref(), range.span().start));
    let mut widest: Option<&Spanned<IdentityRange<I>>> = None;
    for range in sorted {
        if let Some(known) = widest.filter(|known| known.get_ref().overlaps(range.get_ref())) {
            let (earlier, later) = if known.span().start <= range.span().start {
                (known, range)
            } else {
                (range, known)
            };
            let there = terms.layout.words(earlier.span().start, later.span().start);
            let message = format!("the range overlaps one {there}");
            let fault = Fault::new(Code::OverlappingRanges, message).help("make one of the two");
            findings.add(later.span(), fault.of_class(class));
        }
        if widest.is_none_or(|known| known.get_ref().end() < range.get_ref().end()) {
            widest = Some(range);
        }
    }
}

/// Reports `class` if each of its entries lies in an entry of a class that is asked before it.
fn overshadowed(
    class: &Class<'_>,
    document: &Document<'_>,
    terms: &Terms,
    findings: &mut Findings,
) {
    let (Some(name), Some(priority)) = (&class.name, &class.priority) else { return };
    let earlier: Vec<&Class<'_>> = document
        .classes
        .iter()
        .filter(|other| other.priority.as_ref().is_some_and(|it| it.get_ref() < priority.get_ref()))
        .collect();
    let taker = |entry: &ClassMatch| {
        earlier.iter().find(|other| other.matches.iter().any(|wide| within(entry, &wide.entry)))
    };
    let takers: Option<Vec<_>> = class.matches.iter().map(|entry| taker(&entry.entry)).collect();
    let Some(first) = takers.as_ref().and_then(|takers| takers.first()) else { return };
    let there = terms.layout.words(first.span.start, name.span().start);
    let message = format!(
        "class `{}` holds nobody: classes with a lower priority number take all its subscribers, \
         the first one {there}",
        name.get_ref()
    );
    let help = "give it a lower number than theirs, or remove it";
    let fault = Fault::new(Code::OvershadowedClass, message).help(help);
    let default = document.default_class.as_ref().map(|name| *name.get_ref());
    if default != Some(*name.get_ref()) {
        findings.add(name.span(), fault.of_class(name.get_ref()));
    }
}

/// Whether everyone who matches `narrow` matches `wide`.
fn within(narrow: &ClassMatch, wide: &ClassMatch) -> bool {
    let ClassMatch { networks, iccid, imsi, apn, state, line: _ } = wide;
    inside(narrow.networks.as_deref(), networks.as_deref(), |one, all| {
        all.iter().any(|network| network.contains(one))
    }) && inside(narrow.apn.as_deref(), apn.as_deref(), |one, all| all.contains(one))
        && inside(narrow.state.as_deref(), state.as_deref(), |one, all| all.contains(one))
        && identities(narrow.iccid.as_ref(), iccid.as_ref())
        && identities(narrow.imsi.as_ref(), imsi.as_ref())
}

fn inside<T>(narrow: Option<&[T]>, wide: Option<&[T]>, holds: impl Fn(&T, &[T]) -> bool) -> bool {
    match (narrow, wide) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(narrow), Some(wide)) => narrow.iter().all(|one| holds(one, wide)),
    }
}

fn identities<I: Identity>(narrow: Option<&IdentitySet<I>>, wide: Option<&IdentitySet<I>>) -> bool {
    match (narrow, wide) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(narrow), Some(wide)) => narrow.is_within(wide),
    }
}
