//! Text to policy, or every diagnostic at once.

mod asserts;
mod classes;
mod lists;
mod portal;
mod sets;

use std::{ops::Range, sync::Arc};

use jiff::{Timestamp, civil::Date};
use toml::{Spanned, de::DeTable};

use crate::{
    code::Code,
    diagnostic::{Diagnostic, Fault, Findings},
    document::Document,
    layout::Layout,
    limits::{DEFAULT_DENIED_TTL, DEFAULT_MAX_TTL, MAX_DENIED_TTL, MAX_DOCUMENT, MAX_FINDINGS},
    lines::LineIndex,
    lint,
    parts::{PartKind, Parts},
    policy::{DnsDenial, DnsTerms, Environment, HttpDenial, HttpTerms, LabTerms, Policy},
};

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

/// What the parts of compilation share: where things are, and the day.
#[derive(Debug)]
pub(crate) struct Terms {
    pub(crate) layout: Arc<Layout>,
    pub(crate) today: Date,
    promises: Promises,
}

/// Compiles a document of one file; `today` is what expiry and age are held against.
///
/// # Errors
///
/// Every finding, errors and warnings, in the order of their places, if one of them is an error.
pub fn compile(source: &Source<'_>, today: Date) -> Result<Compiled, Vec<Diagnostic>> {
    compile_with(&Parts::alone(source), today, Promises::Held)
}

/// As [`compile`], but the document's asserts are not held: whoever calls this holds them itself
/// and reports each, see [`Policy::asserts`].
///
/// # Errors
///
/// As [`compile`], broken promises excepted.
pub fn compile_unproven(source: &Source<'_>, today: Date) -> Result<Compiled, Vec<Diagnostic>> {
    compile_with(&Parts::alone(source), today, Promises::Listed)
}

/// Compiles a document of several files; `today` is what expiry and age are held against.
///
/// # Errors
///
/// As [`compile`]; the findings of the first file come first, then those of the others in the
/// order in which they were read.
pub fn compile_parts(parts: &Parts<'_>, today: Date) -> Result<Compiled, Vec<Diagnostic>> {
    compile_with(parts, today, Promises::Held)
}

/// As [`compile_unproven`], for a document of several files.
///
/// # Errors
///
/// As [`compile_parts`], broken promises excepted.
pub fn compile_parts_unproven(parts: &Parts<'_>, today: Date) -> Result<Compiled, Vec<Diagnostic>> {
    compile_with(parts, today, Promises::Listed)
}

/// What becomes of the asserts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Promises {
    /// Held: a broken one is an error.
    Held,
    /// Only listed.
    Listed,
}

fn compile_with(
    parts: &Parts<'_>,
    today: Date,
    promises: Promises,
) -> Result<Compiled, Vec<Diagnostic>> {
    let mut layout: Option<Layout> = None;
    let mut bases = Vec::new();
    for part in parts.all() {
        match &mut layout {
            None => {
                layout = Some(Layout::new(part.name.clone(), &part.text));
                bases.push(0);
            }
            Some(layout) => bases.push(layout.add(part.name.clone(), &part.text)),
        }
    }
    let layout = Arc::new(layout.unwrap_or_else(|| Layout::new("".into(), "")));
    let terms = Terms { layout: layout.clone(), today, promises };
    let mut findings = Findings::new(layout.clone());
    if layout.end() > MAX_DOCUMENT {
        let message = format!("the document has {} bytes; at most {MAX_DOCUMENT}", layout.end());
        findings.add(0..0, Fault::new(Code::DocumentTooLarge, message));
        return Err(findings.into_sorted());
    }
    for (index, span, fault) in &parts.faults {
        let base = bases.get(*index).copied().unwrap_or_default();
        findings.add(span.start + base..span.end + base, fault.clone());
    }
    let mut damaged = false;
    let mut roots = Vec::new();
    for (part, base) in parts.all().zip(bases.iter().copied()) {
        if part.kind == PartKind::Document {
            let (root, errors) = DeTable::parse_recoverable(&part.text);
            let damage = Damage::report(errors, &part.text, base, &mut findings);
            roots.push((root, damage, base, base + part.text.len()));
        }
    }
    let mut document = None;
    for (root, damage, base, end) in &roots {
        match &mut document {
            None => document = Document::read(root.get_ref(), &mut findings),
            Some(document) => document.include(root.get_ref(), *base, &mut findings),
        }
        damaged |= !damage.lines.is_empty();
        damage.forget_consequences(*base..*end, &layout, &mut findings);
        if document.is_none() {
            break;
        }
    }
    let Some(mut document) = document.filter(|_| !damaged) else {
        return Err(findings.into_sorted());
    };
    document.limit(&mut findings);
    lists::fill(&mut document, parts, &bases, &mut findings);
    let policy = build(&document, parts, &terms, &mut findings);
    lint::suppress(&document, &terms, &mut findings);
    match policy {
        Some(policy) if !findings.has_errors() => {
            Ok(Compiled { policy, warnings: findings.into_sorted() })
        }
        Some(_) | None => Err(findings.into_sorted()),
    }
}

impl Terms {
    /// The first moment of the day, in UTC.
    pub(crate) fn midnight(&self) -> Option<Timestamp> {
        jiff::tz::Offset::UTC.to_timestamp(self.today.at(0, 0, 0, 0)).ok()
    }
}

/// Places where the text of a file itself is damaged.
#[derive(Debug, Default)]
struct Damage {
    lines: Vec<u32>,
    /// From here on it is not certain which table a key belongs to.
    uncertain: Option<u32>,
}

impl Damage {
    /// Adds what the TOML parser says about the file that begins at `base`.
    fn report(
        errors: Vec<toml::de::Error>,
        text: &str,
        base: usize,
        findings: &mut Findings,
    ) -> Self {
        let mut damage = Self::default();
        if errors.is_empty() {
            return damage;
        }
        let lines = LineIndex::new(text);
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            let shifted = span.start + base..span.end + base;
            if error.message() == DUPLICATE {
                let message = "the key or table is written a second time";
                findings.add(shifted, Fault::new(Code::DuplicateKey, message));
                continue;
            }
            let line = lines.line(span.start);
            if damage.lines.contains(&line) {
                continue;
            }
            let before = text.get(..span.start).unwrap_or_default();
            let start = before.rfind('\n').map_or(0, |at| at + 1);
            let written = text.get(start..).unwrap_or_default();
            let header = written.trim_start_matches([' ', '\t']).starts_with('[');
            if header || error.message().contains(UNCLOSED) {
                damage.uncertain = Some(damage.uncertain.map_or(line, |known| known.min(line)));
            }
            damage.lines.push(line);
            findings.add(shifted, Fault::new(Code::Syntax, error.message()));
            if damage.lines.len() >= MAX_FINDINGS {
                break;
            }
        }
        damage
    }

    /// Removes what may only be a consequence: absent keys, odd values in a damaged line, and
    /// whatever comes after a damaged header. `file` is where the damaged file lies.
    fn forget_consequences(&self, file: Range<usize>, layout: &Layout, findings: &mut Findings) {
        if self.lines.is_empty() {
            return;
        }
        findings.retain(|found| {
            let line = layout.place(&found.span).line;
            let code = found.fault.code;
            !(file.start..=file.end).contains(&found.span.start)
                || code == Code::Syntax
                || (code != Code::MissingKey
                    && !self.lines.contains(&line)
                    && self.uncertain.is_none_or(|from| line < from))
        });
    }
}

/// How the TOML parser calls a key that is there already.
const DUPLICATE: &str = "duplicate key";
/// How it calls a bracket or quote whose end it did not find.
const UNCLOSED: &str = "unclosed";

fn build(
    document: &Document<'_>,
    parts: &Parts<'_>,
    terms: &Terms,
    findings: &mut Findings,
) -> Option<Policy> {
    let dns = dns_terms(document, findings);
    let http = http_terms(document, findings);
    check_lab(document, findings);
    let mut rules = sets::Sets::new(document, terms, findings);
    let classes = classes::build(document, &mut rules, terms, findings);
    let default_class = classes::default_class(document, &classes, findings);
    rules.report_unused(document, findings);
    let policy = Policy {
        name: (*document.name.as_ref()?.get_ref()).into(),
        serial: *document.serial.as_ref()?.get_ref(),
        environment: *document.environment.as_ref()?.get_ref(),
        dns,
        http,
        lab: lab_terms(document),
        quic: parts.quic,
        rules: rules.into_rules(),
        classes,
        default_class,
        asserts: asserts::list(document, terms),
        sha256: parts.sha256(),
    };
    if !findings.has_errors() {
        asserts::check(document, &policy, terms, findings);
        classes::review(document, &policy, findings);
        portal::review(document, &policy, terms, findings);
        lint::review(document, &policy, terms, findings);
    }
    Some(policy)
}

fn dns_terms(document: &Document<'_>, findings: &mut Findings) -> DnsTerms {
    let dns = &document.dns;
    if let Some(ttl) = dns.denied_ttl.as_ref().filter(|ttl| *ttl.get_ref() > MAX_DENIED_TTL) {
        let message =
            format!("a denial is remembered for {} s; at most {MAX_DENIED_TTL} s", ttl.get_ref());
        let help = "a SIM that has just paid must not meet a denial from before";
        findings.add(ttl.span(), Fault::new(Code::LongDenial, message).help(help));
    }
    if let Some(denied) = &dns.denied
        && *denied.get_ref() == DnsDenial::Sinkhole
    {
        need_portal(document, denied.span(), "`denied = \"sinkhole\"`", findings);
    }
    DnsTerms {
        denied: value(dns.denied.as_ref(), DnsDenial::Nxdomain),
        denied_ttl: value(dns.denied_ttl.as_ref(), DEFAULT_DENIED_TTL),
        max_ttl: value(dns.max_ttl.as_ref(), DEFAULT_MAX_TTL),
    }
}

fn http_terms(document: &Document<'_>, findings: &mut Findings) -> HttpTerms {
    let http = &document.http;
    if let Some(denied) = &http.denied
        && *denied.get_ref() == HttpDenial::Redirect
    {
        need_portal(document, denied.span(), "`denied = \"redirect\"`", findings);
    }
    if let Some(portal) = &http.portal
        && let Err(fault) = portal::parse(portal.get_ref())
    {
        findings.add(portal.span(), fault);
    }
    HttpTerms {
        denied: value(http.denied.as_ref(), HttpDenial::Close),
        portal: http.portal.as_ref().map(|portal| (*portal.get_ref()).into()),
    }
}

/// Reports that `what` leads to the portal, if none is named.
fn need_portal(document: &Document<'_>, span: Range<usize>, what: &str, findings: &mut Findings) {
    if document.http.portal.is_none() {
        let message = format!("{what} leads to the portal, but `http.portal` is missing");
        let help = "add `portal = \"https://…\"` below `[http]`";
        findings.add(span, Fault::new(Code::MissingPortal, message).help(help));
    }
}

fn check_lab(document: &Document<'_>, findings: &mut Findings) {
    let elsewhere = document.environment.as_ref().filter(|it| *it.get_ref() != Environment::Lab);
    if let (Some(lab), Some(environment)) = (&document.lab, elsewhere) {
        let message = format!(
            "`[lab]` stands in a policy for environment `{}`",
            environment.get_ref().label()
        );
        let help = "remove it; names resolve through the upstreams outside the lab";
        findings.add(lab.span.clone(), Fault::new(Code::LabOutsideLab, message).help(help));
    }
}

fn lab_terms(document: &Document<'_>) -> LabTerms {
    document.lab.as_ref().map_or_else(LabTerms::default, |lab| LabTerms {
        resolve: lab.resolve.iter().cloned().collect(),
        ports: lab.ports.iter().copied().collect(),
        networks: lab.networks.clone(),
    })
}

fn value<T: Copy>(written: Option<&Spanned<T>>, default: T) -> T {
    written.map_or(default, |written| *written.get_ref())
}

#[cfg(test)]
mod tests;
