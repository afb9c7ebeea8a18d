//! Host sets to rules: those of the document and the built-in ones, as classes ask for them.

use std::{borrow::Cow, collections::BTreeMap, hash::BuildHasher, ops::Range, sync::Arc};

use foldhash::fast::FixedState;
use hashbrown::{HashTable, hash_table::Entry};
use jiff::{ToSpan, civil::Date};
use toml::Spanned;

use super::Terms;
use crate::{
    builtin::{self, BuiltinSet},
    code::Code,
    diagnostic::{Fault, Findings},
    document::{Class, Document, Host, HostSet, Schedule},
    host::HostPattern,
    limits::{EXPIRY_DAYS, REVIEW_DAYS},
    nearest::suggest,
    rule::{Rule, Scheme, Window},
};

/// Host sets by name, and the rules of those that were asked for.
#[derive(Debug)]
pub(super) struct Sets<'d> {
    terms: &'d Terms,
    declared: BTreeMap<&'d str, &'d HostSet<'d>>,
    rules: Vec<Rule>,
    made: BTreeMap<Arc<str>, Range<usize>>,
    schedules: Vec<Added<'d>>,
    /// A name was asked for that is not there: it may be one of the declared ones, misspelt.
    unresolved: bool,
}

/// What a schedule adds.
#[derive(Debug)]
struct Added<'d> {
    schedule: &'d Schedule<'d>,
    sets: Vec<Scheduled>,
}

/// A host set's name, when it is added, and its rules.
pub(super) type Scheduled = (Arc<str>, Arc<Window>, Range<usize>);

/// Where a host set was found.
enum Known<'d> {
    Builtin(Cow<'static, BuiltinSet>),
    Declared(&'d HostSet<'d>),
}

impl<'d> Sets<'d> {
    pub(super) fn new(
        document: &'d Document<'_>,
        terms: &'d Terms,
        findings: &mut Findings,
    ) -> Self {
        let mut declared = BTreeMap::new();
        for set in &document.hostsets {
            review(set, terms, findings);
            let Some(name) = &set.name else { continue };
            if declared.insert(*name.get_ref(), set).is_some() {
                let message = format!("host set `{}` is declared a second time", name.get_ref());
                let help = "give it another name, or move its hosts to the first";
                let fault = Fault::new(Code::DuplicateHostSet, message).help(help);
                findings.add(name.span(), fault);
            }
        }
        let (rules, made, schedules) = (Vec::new(), BTreeMap::new(), Vec::new());
        let mut sets = Self { terms, declared, rules, made, schedules, unresolved: false };
        for schedule in &document.schedules {
            sets.schedule(schedule, document, findings);
        }
        sets
    }

    /// The full name and the rules of the host set a class calls `name`.
    pub(super) fn resolve(
        &mut self,
        name: &Spanned<&str>,
        findings: &mut Findings,
    ) -> Option<(Arc<str>, Range<usize>)> {
        let (full, known) = self.find(name, findings)?;
        if let Some(range) = self.made.get(&full) {
            return Some((full, range.clone()));
        }
        let range = self.make(&full, &known, None);
        self.made.insert(full.clone(), range.clone());
        Some((full, range))
    }

    /// What schedules add to the class called `class`, which asks host sets or does not.
    pub(super) fn scheduled(&self, class: &str, asks: bool) -> Vec<Scheduled> {
        let applies = |added: &&Added<'_>| match &added.schedule.classes {
            Some(names) => names.iter().any(|name| *name.get_ref() == class),
            None => asks,
        };
        self.schedules.iter().filter(applies).flat_map(|added| added.sets.clone()).collect()
    }

    fn schedule(
        &mut self,
        schedule: &'d Schedule<'_>,
        document: &Document<'_>,
        findings: &mut Findings,
    ) {
        let names =
            || document.classes.iter().filter_map(|class| Some(*class.name.as_ref()?.get_ref()));
        for written in schedule.classes.iter().flatten() {
            let name = *written.get_ref();
            if !names().any(|known| known == name) {
                let message = format!("no class is named `{}`", crate::document::short(name));
                let help = suggest(name, names().collect::<Vec<_>>());
                let fault = Fault::new(Code::UnknownClass, message).maybe_help(help);
                findings.add(written.span(), fault);
            }
        }
        let (Some(name), Some(from), Some(until)) =
            (&schedule.name, &schedule.from, &schedule.until)
        else {
            return;
        };
        if self.terms.midnight().is_some_and(|midnight| *until.get_ref() <= midnight) {
            let message = format!("the window of `{}` is over for good", name.get_ref());
            let fault = Fault::new(Code::PastSchedule, message).help("remove the schedule");
            findings.add(until.span(), fault);
        }
        let window = Arc::new(Window {
            schedule: (*name.get_ref()).into(),
            from: *from.get_ref(),
            until: *until.get_ref(),
        });
        let mut sets = Vec::new();
        for written in &schedule.hostsets {
            if let Some((full, known)) = self.find(written, findings) {
                let range = self.make(&full, &known, Some(&window));
                sets.push((full, window.clone(), range));
            }
        }
        self.schedules.push(Added { schedule, sets });
    }

    fn find(
        &mut self,
        name: &Spanned<&str>,
        findings: &mut Findings,
    ) -> Option<(Arc<str>, Known<'d>)> {
        let written = *name.get_ref();
        if let Some(called) = written.strip_prefix(builtin::PREFIX) {
            return match builtin::resolve(called) {
                Ok(set) => {
                    let full = format!("{}{}", builtin::PREFIX, set.name()).into();
                    Some((full, Known::Builtin(set)))
                }
                Err(error) => {
                    let help = error.help();
                    let fault = Fault::new(Code::UnknownBuiltin, error.to_string());
                    findings.add(name.span(), fault.maybe_help(help));
                    None
                }
            };
        }
        if let Some(set) = self.declared.get(written) {
            return Some((written.into(), Known::Declared(set)));
        }
        let message = format!("no host set is named `{}`", crate::document::short(written));
        let help = if builtin::find(written).is_ok() {
            Some(format!("built-in host sets are written `{}{written}`", builtin::PREFIX))
        } else {
            suggest(written, self.declared.keys().copied())
        };
        let fault = Fault::new(Code::UnknownHostSet, message).maybe_help(help);
        findings.add(name.span(), fault);
        self.unresolved = true;
        None
    }

    /// Makes the rules of a host set, which hold in `window`.
    fn make(
        &mut self,
        full: &Arc<str>,
        known: &Known<'_>,
        window: Option<&Arc<Window>>,
    ) -> Range<usize> {
        let start = self.rules.len();
        let terms = self.terms;
        match known {
            Known::Builtin(set) => self.rules.extend(set.entries().iter().map(|entry| Rule {
                hostset: full.clone(),
                pattern: entry.pattern().clone(),
                schemes: Scheme::lists(entry.schemes()),
                ports: entry.ports().to_vec(),
                expires: None,
                window: window.cloned(),
                networks: Vec::new(),
                reason: entry.reason().map(Into::into),
                place: entry.place().clone(),
            })),
            Known::Declared(set) => {
                let made = set.hosts.iter().filter_map(|host| rule(full, host, window, terms));
                self.rules.extend(made);
            }
        }
        start..self.rules.len()
    }

    /// The rules made so far.
    pub(super) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Reports the host sets that no class asked for.
    pub(super) fn report_unused(&self, document: &Document<'_>, findings: &mut Findings) {
        // A class whose host sets could not be read may have named any of them.
        let unread = |class: &Class<'_>| class.has_hostsets && class.hostsets.is_empty();
        if self.unresolved || document.classes.iter().any(unread) {
            return;
        }
        for (name, set) in &self.declared {
            let scheduled = || {
                let mut added = self.schedules.iter().flat_map(|added| &added.sets);
                added.any(|(full, _, _)| **full == **name)
            };
            if let Some(written) = set.name.as_ref()
                && !self.made.contains_key(*name)
                && !scheduled()
            {
                let message = format!("no class uses host set `{name}`");
                let help = "name it in the `hostsets` of a class, or remove it";
                let fault = Fault::new(Code::UnusedHostSet, message).help(help);
                findings.add(written.span(), fault.of_hostset(name));
            }
        }
    }

    pub(super) fn into_rules(self) -> Vec<Rule> {
        self.rules
    }
}

fn rule(
    hostset: &Arc<str>,
    host: &Host<'_>,
    window: Option<&Arc<Window>>,
    terms: &Terms,
) -> Option<Rule> {
    Some(Rule {
        hostset: hostset.clone(),
        pattern: host.pattern.clone()?,
        schemes: Scheme::lists(&host.schemes),
        ports: host.ports.clone(),
        expires: host.expires.as_ref().map(|last| *last.get_ref()),
        window: window.cloned(),
        networks: host.networks.clone(),
        reason: host.reason.map(Into::into),
        place: terms.layout.place(&host.written.as_ref()?.span()),
    })
}

/// What can be said about a host set by itself.
fn review(set: &HostSet<'_>, terms: &Terms, findings: &mut Findings) {
    let today = terms.today;
    let name = set.name.as_ref().map_or("", |name| *name.get_ref());
    let oldest = today.saturating_sub(REVIEW_DAYS.days());
    if let Some(reviewed) = set.reviewed.as_ref().filter(|day| *day.get_ref() < oldest) {
        let message = format!(
            "the host set was last reviewed on {}, over {REVIEW_DAYS} days ago",
            reviewed.get_ref()
        );
        let help = "compare it with its source and set `reviewed` to that day";
        let fault = Fault::new(Code::StaleReview, message).help(help);
        findings.add(reviewed.span(), fault.of_hostset(name));
    }
    let soon = today.saturating_add(EXPIRY_DAYS.days());
    for host in &set.hosts {
        if let Some(last) = &host.expires {
            let (code, message) = match *last.get_ref() {
                day if day < today => {
                    (Code::ExpiredEntry, format!("the entry ended on {day} and allows nothing"))
                }
                day if day <= soon => (Code::ExpiringEntry, format!("the entry ends after {day}")),
                _ => continue,
            };
            let help = "remove the entry, or move `expires`";
            let fault = Fault::new(code, message).help(help).of_hostset(name);
            let pattern = host.pattern.as_ref();
            let fault = match pattern {
                Some(pattern) => fault.of_pattern(pattern),
                None => fault,
            };
            findings.add(last.span(), fault);
        }
    }
    report_repeated(set, name, terms, findings);
}

/// Reports every entry that means what an earlier one of the set does.
fn report_repeated(set: &HostSet<'_>, name: &str, terms: &Terms, findings: &mut Findings) {
    let hasher = FixedState::with_seed(0);
    let hash = |host: &Host<'_>| hasher.hash_one(meaning(host));
    // Only probed: what is reported follows the order of the document.
    let mut seen: HashTable<&Host<'_>> = HashTable::with_capacity(set.hosts.len());
    for host in &set.hosts {
        let (Some(pattern), Some(written)) = (&host.pattern, &host.written) else { continue };
        let same = |known: &&Host<'_>| meaning(known) == meaning(host);
        let mut known = match seen.entry(hash(host), same, |known| hash(known)) {
            Entry::Occupied(known) => known,
            Entry::Vacant(place) => {
                place.insert(host);
                continue;
            }
        };
        let Some(first) = &std::mem::replace(known.get_mut(), host).written else { continue };
        let there = terms.layout.words(first.span().start, written.span().start);
        let message = format!("`{pattern}` is listed with the same meaning {there}");
        let fault = Fault::new(Code::DuplicateEntry, message).help("remove one of the two");
        findings.add(written.span(), fault.of_hostset(name).of_pattern(pattern));
    }
}

/// What an entry says, but for its words.
fn meaning<'h>(
    host: &'h Host<'_>,
) -> (Option<&'h HostPattern>, &'h [Scheme], &'h [u16], Option<&'h Date>) {
    let expires = host.expires.as_ref().map(Spanned::get_ref);
    (host.pattern.as_ref(), &host.schemes, &host.ports, expires)
}
