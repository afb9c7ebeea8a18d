//! Classes: their order, their rules, and what can be wrong between two of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;
use toml::Spanned;

use super::{Terms, need_portal, sets::Sets, value};
use crate::{
    class::{Action, Class, ClassMatch, Ncsi, OnDenial},
    code::Code,
    diagnostic::{Fault, Findings},
    document::{self, Document},
    host::HostTable,
    nearest::suggest,
    policy::{Environment, Policy},
    probe::Probe,
    rule::Listing,
    sim::{Identity, IdentitySet, Meeting},
};

/// The classes that can be made, in rising priority.
pub(super) fn build(
    document: &Document<'_>,
    sets: &mut Sets<'_>,
    terms: &Terms,
    findings: &mut Findings,
) -> Vec<Class> {
    report_duplicates(document, terms, findings);
    report_unreachable(document, findings);
    report_ambiguous(document, terms, findings);
    let mut classes: Vec<Class> = document
        .classes
        .iter()
        .filter_map(|class| {
            if value(class.ncsi.as_ref(), Ncsi::Pass) == Ncsi::Redirect
                && let Some(ncsi) = &class.ncsi
            {
                need_portal(document, ncsi.span(), "`ncsi = \"redirect\"`", findings);
            }
            build_one(class, sets, terms, findings)
        })
        .collect();
    classes.sort_by_key(Class::priority);
    classes
}

fn build_one(
    class: &document::Class<'_>,
    sets: &mut Sets<'_>,
    terms: &Terms,
    findings: &mut Findings,
) -> Option<Class> {
    let mut hostsets: Vec<Arc<str>> = Vec::new();
    let mut table = HostTable::default();
    for written in &class.hostsets {
        let Some((full, range)) = sets.resolve(written, findings) else { continue };
        if hostsets.contains(&full) {
            let message = format!("the class names host set `{full}` a second time");
            let fault = Fault::new(Code::DuplicateEntry, message).help("remove one of the two");
            findings.add(written.span(), fault.of_hostset(&full));
            continue;
        }
        file(&mut table, range, sets);
        hostsets.push(full);
    }
    let name = class.name.as_ref()?;
    let scheduled = sets.scheduled(name.get_ref(), asks(class));
    for (_, _, range) in &scheduled {
        file(&mut table, range.clone(), sets);
    }
    let matches = class.matches.iter().map(|entry| ClassMatch {
        line: terms.layout.place(&entry.span).line,
        ..entry.entry.clone()
    });
    Some(Class {
        name: (*name.get_ref()).into(),
        priority: *class.priority.as_ref()?.get_ref(),
        action: *class.action.as_ref()?.get_ref(),
        ncsi: value(class.ncsi.as_ref(), Ncsi::Pass),
        on_denial: value(class.on_denial.as_ref(), OnDenial::Cut),
        limits: class.limits,
        matches: matches.collect(),
        hostsets,
        scheduled: scheduled.into_iter().map(|(set, window, _)| (set, window)).collect(),
        table,
        place: terms.layout.place(&name.span()),
    })
}

/// Files the rules of a host set.
fn file(table: &mut HostTable<Listing>, range: std::ops::Range<usize>, sets: &Sets<'_>) {
    for (index, rule) in range.clone().zip(sets.rules().get(range).unwrap_or_default()) {
        // Far more entries than a document may hold would not fit.
        if let Ok(place) = u32::try_from(index) {
            table.insert(&rule.pattern, Listing::new(place, rule));
        }
    }
}

/// Whether the class asks host sets.
fn asks(class: &document::Class<'_>) -> bool {
    match class.action.as_ref().map(Spanned::get_ref) {
        Some(Action::Garden | Action::Observe) => true,
        Some(Action::Open | Action::Drop) | None => false,
    }
}

/// The default class among `classes`, which must not let unknown subscribers out.
pub(super) fn default_class(
    document: &Document<'_>,
    classes: &[Class],
    findings: &mut Findings,
) -> Option<usize> {
    let written = document.default_class.as_ref()?;
    let name = *written.get_ref();
    let declared =
        document.classes.iter().filter_map(|class| Some(*class.name.as_ref()?.get_ref()));
    if !declared.clone().any(|known| known == name) {
        let message = format!("no class is named `{}`", document::short(name));
        let help = suggest(name, declared.collect::<Vec<_>>());
        findings.add(written.span(), Fault::new(Code::UnknownClass, message).maybe_help(help));
        return None;
    }
    let index = classes.iter().position(|class| class.name() == name)?;
    let help = "choose a class with `action = \"garden\"` or `\"drop\"`";
    match classes.get(index)?.action {
        Action::Drop | Action::Garden => {}
        Action::Open => {
            let message = format!("default class `{name}` is open: unknown subscribers would pass");
            findings.add(written.span(), Fault::new(Code::OpenDefault, message).help(help));
        }
        Action::Observe => {
            let lab = document
                .environment
                .as_ref()
                .is_some_and(|environment| *environment.get_ref() == Environment::Lab);
            let code = if lab { Code::ObservingDefault } else { Code::OpenDefault };
            let message =
                format!("default class `{name}` only observes: unknown subscribers would pass");
            findings.add(written.span(), Fault::new(code, message).help(help).of_class(name));
        }
    }
    Some(index)
}

/// What can be said about classes once they are complete.
pub(super) fn review(document: &Document<'_>, policy: &Policy, findings: &mut Findings) {
    for written in &document.classes {
        let Some(name) = &written.name else { continue };
        let Some(class) = policy.class(name.get_ref()) else { continue };
        match class.action {
            Action::Open | Action::Drop => {
                if let Some(first) = written.hostsets.first() {
                    let message = format!(
                        "action `{}` never asks the host sets of the class",
                        class.action.label()
                    );
                    let help = "remove `hostsets`, or choose another action";
                    let fault = Fault::new(Code::IdleHostSets, message).help(help);
                    findings.add(first.span(), fault.of_class(class.name()));
                }
            }
            Action::Garden | Action::Observe => {
                if class.hostsets.is_empty() {
                    let message = format!("class `{}` lists no host, so it denies all", class.name);
                    let fault = Fault::new(Code::EmptyGarden, message).help("add `hostsets`");
                    findings.add(name.span(), fault.of_class(class.name()));
                }
                report_ncsi(written, class, findings);
            }
        }
    }
}

fn report_ncsi(written: &document::Class<'_>, class: &Class, findings: &mut Findings) {
    let Some(ncsi) = written.ncsi.as_ref().filter(|mode| *mode.get_ref() == Ncsi::Deny) else {
        return;
    };
    let listed: Vec<String> = Probe::names()
        .filter(|probe| class.table.visit(probe, |_| std::ops::ControlFlow::Break(())).is_some())
        .map(|probe| format!("`{probe}`"))
        .collect();
    if !listed.is_empty() {
        let message = format!(
            "connectivity probes are denied although the host sets list {}",
            listed.join(", ")
        );
        let help = "the denial wins; `ncsi = \"pass\"` follows the host sets";
        let fault = Fault::new(Code::NcsiConflict, message).help(help);
        findings.add(ncsi.span(), fault.of_class(class.name()));
    }
}

fn report_duplicates(document: &Document<'_>, terms: &Terms, findings: &mut Findings) {
    let mut seen = BTreeMap::new();
    for name in document.classes.iter().filter_map(|class| class.name.as_ref()) {
        if let Some(first) = seen.insert(*name.get_ref(), name.span()) {
            let there = terms.layout.words(first.start, name.span().start);
            let message = format!("class `{}` is declared {there} already", name.get_ref());
            findings.add(name.span(), Fault::new(Code::DuplicateClass, message));
        }
    }
}

fn report_unreachable(document: &Document<'_>, findings: &mut Findings) {
    let default = document.default_class.as_ref().map(|name| *name.get_ref());
    for class in document.classes.iter().filter(|class| class.matches.is_empty()) {
        let Some(name) = &class.name else { continue };
        if default != Some(*name.get_ref()) {
            let message =
                format!("class `{}` matches nobody and is not the default", name.get_ref());
            let help = "add `[[class.match]]`, or name it in `default_class`";
            let fault = Fault::new(Code::UnreachableClass, message).help(help);
            findings.add(name.span(), fault);
        }
    }
}

fn report_ambiguous(document: &Document<'_>, terms: &Terms, findings: &mut Findings) {
    for (index, later) in document.classes.iter().enumerate() {
        let Some(priority) = &later.priority else { continue };
        for earlier in document.classes.iter().take(index) {
            let equal = earlier.priority.as_ref().map(Spanned::get_ref) == Some(priority.get_ref());
            let both = || {
                earlier
                    .matches
                    .iter()
                    .any(|one| later.matches.iter().any(|other| overlap(&one.entry, &other.entry)))
            };
            if equal && both() {
                let there = terms.layout.words(earlier.span.start, priority.span().start);
                let message = format!(
                    "priority {} is shared with the class {there}, and one subscriber can match \
                     both",
                    priority.get_ref()
                );
                let help = "give them different priorities; the lower number wins";
                let fault = Fault::new(Code::AmbiguousClasses, message).help(help);
                findings.add(priority.span(), fault);
            }
        }
    }
}

/// Whether one subscriber can match both entries, and neither by a list where the other has a
/// range: no key that both ask for keeps them apart.
fn overlap(one: &ClassMatch, other: &ClassMatch) -> bool {
    let ClassMatch { networks, iccid, imsi, apn, state, line: _ } = one;
    let iccid = meeting(iccid.as_ref(), other.iccid.as_ref());
    let imsi = meeting(imsi.as_ref(), other.imsi.as_ref());
    both(networks.as_deref(), other.networks.as_deref(), networks_meet)
        && both(apn.as_deref(), other.apn.as_deref(), words_meet)
        && both(state.as_deref(), other.state.as_deref(), words_meet)
        && match (iccid, imsi) {
            (Some(Meeting::Apart), _) | (_, Some(Meeting::Apart)) => false,
            (Some(Meeting::ListedHere), None | Some(Meeting::ListedHere)) => {
                lists(other.imsi.as_ref())
            }
            (Some(Meeting::ListedThere), None | Some(Meeting::ListedThere)) => {
                lists(one.imsi.as_ref())
            }
            (None, Some(Meeting::ListedHere)) => lists(other.iccid.as_ref()),
            (None, Some(Meeting::ListedThere)) => lists(one.iccid.as_ref()),
            (
                None | Some(Meeting::Tied | Meeting::ListedHere | Meeting::ListedThere),
                None | Some(Meeting::Tied | Meeting::ListedHere | Meeting::ListedThere),
            ) => true,
        }
}

/// How the identities of two entries meet; `None` unless both ask for some.
fn meeting<I: Identity>(
    one: Option<&IdentitySet<I>>,
    other: Option<&IdentitySet<I>>,
) -> Option<Meeting> {
    one.zip(other).map(|(one, other)| one.meet(other))
}

fn lists<I: Identity>(set: Option<&IdentitySet<I>>) -> bool {
    set.is_some_and(|set| !set.lists_none())
}

fn both<T>(one: Option<&[T]>, other: Option<&[T]>, meet: fn(&[T], &[T]) -> bool) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => meet(one, other),
        (None, _) | (_, None) => true,
    }
}

fn words_meet<T: Ord>(one: &[T], other: &[T]) -> bool {
    let words: BTreeSet<&T> = one.iter().collect();
    other.iter().any(|word| words.contains(word))
}

fn networks_meet(one: &[IpNet], other: &[IpNet]) -> bool {
    let bounds = |network: &IpNet| -> (IpAddr, IpAddr) { (network.network(), network.broadcast()) };
    intervals_meet(one.iter().map(bounds).collect(), other.iter().map(bounds).collect())
}

/// Whether an interval of one list shares a point with one of the other.
fn intervals_meet<T: Ord + Copy>(mut one: Vec<(T, T)>, mut other: Vec<(T, T)>) -> bool {
    one.sort_unstable();
    other.sort_unstable();
    let (mut left, mut right) = (one.into_iter().peekable(), other.into_iter().peekable());
    while let (Some((start, end)), Some((from, to))) = (left.peek(), right.peek()) {
        if start <= to && from <= end {
            return true;
        }
        // Whichever ends first can meet nothing that comes later in the other list.
        if end < to {
            left.next();
        } else {
            right.next();
        }
    }
    false
}
