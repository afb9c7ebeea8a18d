//! Host sets to rules: those of the document and the built-in ones, as classes ask for them.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use jiff::ToSpan;
use toml::Spanned;

use super::Terms;
use crate::{
    builtin::{self, BuiltinSet},
    code::Code,
    diagnostic::{Fault, Findings},
    document::{Class, Document, Host, HostSet},
    limits::{EXPIRY_DAYS, REVIEW_DAYS},
    nearest::suggest,
    rule::{Place, Rule, Scheme},
};

/// Host sets by name, and the rules of those that were asked for.
#[derive(Debug)]
pub(super) struct Sets<'d> {
    terms: &'d Terms,
    declared: BTreeMap<&'d str, &'d HostSet<'d>>,
    rules: Vec<Rule>,
    made: BTreeMap<Arc<str>, Range<usize>>,
    /// A name was asked for that is not there: it may be one of the declared ones, misspelt.
    unresolved: bool,
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
        Self { terms, declared, rules: Vec::new(), made: BTreeMap::new(), unresolved: false }
    }

    /// The full name and the rules of the host set a class calls `name`.
    pub(super) fn resolve(
        &mut self,
        name: &Spanned<&str>,
        findings: &mut Findings,
    ) -> Option<(Arc<str>, Range<usize>)> {
        let written = *name.get_ref();
        if let Some(called) = written.strip_prefix(builtin::PREFIX) {
            return match builtin::resolve(called) {
                Ok(set) => Some(self.builtin(&set)),
                Err(error) => {
                    let help = error.help();
                    let fault = Fault::new(Code::UnknownBuiltin, error.to_string());
                    findings.add(name.span(), fault.maybe_help(help));
                    None
                }
            };
        }
        let Some((known, set)) = self.declared.get_key_value(written) else {
            let message = format!("no host set is named `{}`", crate::document::short(written));
            let help = if builtin::find(written).is_ok() {
                Some(format!("built-in host sets are written `{}{written}`", builtin::PREFIX))
            } else {
                suggest(written, self.declared.keys().copied())
            };
            let fault = Fault::new(Code::UnknownHostSet, message).maybe_help(help);
            findings.add(name.span(), fault);
            self.unresolved = true;
            return None;
        };
        let (full, set): (Arc<str>, &HostSet<'_>) = ((*known).into(), set);
        if let Some(range) = self.made.get(&full) {
            return Some((full, range.clone()));
        }
        let start = self.rules.len();
        let terms = self.terms;
        self.rules.extend(set.hosts.iter().filter_map(|host| rule(&full, host, terms)));
        Some(self.keep(full, start))
    }

    fn builtin(&mut self, set: &BuiltinSet) -> (Arc<str>, Range<usize>) {
        let full: Arc<str> = format!("{}{}", builtin::PREFIX, set.name()).into();
        if let Some(range) = self.made.get(&full) {
            return (full, range.clone());
        }
        let start = self.rules.len();
        self.rules.extend(set.entries().iter().map(|entry| Rule {
            hostset: full.clone(),
            pattern: entry.pattern().clone(),
            schemes: Scheme::lists(entry.schemes()),
            ports: entry.ports().to_vec(),
            expires: None,
            networks: Vec::new(),
            reason: entry.reason().map(Into::into),
            place: entry.place().clone(),
        }));
        self.keep(full, start)
    }

    fn keep(&mut self, full: Arc<str>, start: usize) -> (Arc<str>, Range<usize>) {
        let range = start..self.rules.len();
        self.made.insert(full.clone(), range.clone());
        (full, range)
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
            if let (false, Some(written)) = (self.made.contains_key(*name), &set.name) {
                let message = format!("no class uses host set `{name}`");
                let help = "name it in the `hostsets` of a class, or remove it";
                let fault = Fault::new(Code::UnusedHostSet, message).help(help);
                findings.add(written.span(), fault);
            }
        }
    }

    pub(super) fn into_rules(self) -> Vec<Rule> {
        self.rules
    }
}

fn rule(hostset: &Arc<str>, host: &Host<'_>, terms: &Terms) -> Option<Rule> {
    let span = host.written.as_ref()?.span();
    Some(Rule {
        hostset: hostset.clone(),
        pattern: host.pattern.clone()?,
        schemes: Scheme::lists(&host.schemes),
        ports: host.ports.clone(),
        expires: host.expires.as_ref().map(|last| *last.get_ref()),
        networks: host.networks.clone(),
        reason: host.reason.map(Into::into),
        place: Place { file: terms.file.clone(), line: terms.lines.line(span.start), span },
    })
}

/// What can be said about a host set by itself.
fn review(set: &HostSet<'_>, terms: &Terms, findings: &mut Findings) {
    let (today, lines) = (terms.today, &terms.lines);
    let oldest = today.saturating_sub(REVIEW_DAYS.days());
    if let Some(reviewed) = set.reviewed.as_ref().filter(|day| *day.get_ref() < oldest) {
        let message = format!(
            "the host set was last reviewed on {}, over {REVIEW_DAYS} days ago",
            reviewed.get_ref()
        );
        let help = "compare it with its source and set `reviewed` to that day";
        findings.add(reviewed.span(), Fault::new(Code::StaleReview, message).help(help));
    }
    let soon = today.saturating_add(EXPIRY_DAYS.days());
    let mut seen = BTreeMap::new();
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
            findings.add(last.span(), Fault::new(code, message).help(help));
        }
    }
    for host in &set.hosts {
        let (Some(pattern), Some(written)) = (&host.pattern, &host.written) else { continue };
        let what =
            (pattern, &host.schemes, &host.ports, host.expires.as_ref().map(Spanned::get_ref));
        if let Some(first) = seen.insert(what, written.span()) {
            let line = lines.line(first.start);
            let message = format!("`{pattern}` is listed with the same meaning in line {line}");
            let fault = Fault::new(Code::DuplicateEntry, message).help("remove one of the two");
            findings.add(written.span(), fault);
        }
    }
}
