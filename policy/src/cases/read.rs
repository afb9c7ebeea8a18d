//! Case files: TOML with one `[[case]]` table a case.

use std::{ops::Range, sync::Arc};

use jiff::Timestamp;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{Case, Expectation, Who};
use crate::{
    class::{Apn, Class, Subscriber},
    code::Code,
    compile::Source,
    decide::Verdict,
    diagnostic::{Diagnostic, Fault, Findings},
    document::{Fields, short},
    layout::Layout,
    limits::{MAX_CASES, MAX_DOCUMENT, MAX_TARGETS},
    nearest::suggest,
    policy::Policy,
    rule::Place,
    sim::{Iccid, Identity, Imsi, SimState},
    target::Target,
};

/// Reads the cases of a file that are to be held against `policy`.
///
/// ```toml
/// [[case]]
/// name  = "the bank's page opens on the last day"
/// class = "unprovisioned"       # or what is known of a subscriber: ip, iccid, imsi, apn, state
/// at    = 2027-03-31T12:00:00Z  # if absent, the time of the run
/// allow = ["https://acs.pay.psp.example"]
/// deny  = ["https://www.bing.com"]
/// ```
///
/// # Errors
///
/// Every finding about the file, in the order of their places. Case files have no warnings.
pub fn read_cases(source: &Source<'_>, policy: &Policy) -> Result<Vec<Case>, Vec<Diagnostic>> {
    let layout = Arc::new(Layout::new(source.name.into(), source.text));
    let mut findings = Findings::new(Arc::clone(&layout));
    if source.text.len() > MAX_DOCUMENT {
        let message = format!("the file has {} bytes; at most {MAX_DOCUMENT}", source.text.len());
        findings.add(0..0, Fault::new(Code::DocumentTooLarge, message));
        return Err(findings.into_sorted());
    }
    let (root, errors) = DeTable::parse_recoverable(source.text);
    if !errors.is_empty() {
        for error in errors {
            findings.add(error.span().unwrap_or(0..0), Fault::new(Code::Syntax, error.message()));
        }
        return Err(findings.into_sorted());
    }
    let place = |span: Range<usize>| layout.place(&span);
    let mut fields = Fields::root("the case file", root.get_ref(), 0);
    if !fields.has("case") {
        let fault = Fault::new(Code::MissingKey, "the file holds no `[[case]]`");
        findings.add(0..0, fault);
    }
    let cases = fields.tables("case", "[[case]]", MAX_CASES, &mut findings, |fields, findings| {
        read_case(fields, policy, &place, findings)
    });
    fields.finish(&mut findings);
    if findings.has_errors() {
        return Err(findings.into_sorted());
    }
    Ok(cases.into_iter().flatten().collect())
}

fn read_case<'t>(
    fields: &mut Fields<'t>,
    policy: &Policy,
    place: &impl Fn(Range<usize>) -> Place,
    findings: &mut Findings,
) -> Option<Case> {
    let span = fields.span();
    let name = fields.get("name", findings, text).map(|name| (*name.get_ref()).into());
    let who = read_who(fields, policy, findings);
    let at = fields.get("at", findings, moment).map(Spanned::into_inner);
    let allow = fields.list("allow", MAX_TARGETS, findings, target);
    let deny = fields.list("deny", MAX_TARGETS, findings, target);
    if !fields.has("allow") && !fields.has("deny") {
        let message = "the case expects nothing: neither `allow` nor `deny` is there";
        findings.add(span.clone(), Fault::new(Code::EmptyList, message));
    }
    let all = allow
        .into_iter()
        .map(|target| (target, Verdict::Allow))
        .chain(deny.into_iter().map(|target| (target, Verdict::Deny)));
    let expectations = all.map(|(target, promised)| {
        let place = place(target.span());
        Expectation { target: target.into_inner(), promised, place }
    });
    Some(Case { name, who: who?, at, expectations: expectations.collect(), place: place(span) })
}

/// A class, or what is known of a subscriber; never both.
fn read_who(fields: &mut Fields<'_>, policy: &Policy, findings: &mut Findings) -> Option<Who> {
    let class = fields.get("class", findings, text);
    let facts = FACTS.iter().any(|key| fields.has(key));
    let subscriber = read_subscriber(fields, findings);
    match (class, facts) {
        (Some(class), false) => {
            let name = *class.get_ref();
            if policy.class(name).is_some() {
                return Some(Who::Class(name.into()));
            }
            let message = format!("no class is named `{}`", short(name));
            let help = suggest(name, policy.classes().iter().map(Class::name));
            findings.add(class.span(), Fault::new(Code::UnknownClass, message).maybe_help(help));
            None
        }
        (None, true) => Some(Who::Subscriber(Box::new(subscriber))),
        (Some(class), true) => {
            let message = "a case is for a class or for a subscriber, not for both";
            let help = "remove `class`, or what is said of the subscriber";
            findings.add(class.span(), Fault::new(Code::UnknownKey, message).help(help));
            None
        }
        (None, false) if fields.has("class") => None,
        (None, false) => {
            let message = "the case does not say for whom";
            let help = format!("give it `class`, or one of `{}`", FACTS.join("`, `"));
            findings.add(fields.span(), Fault::new(Code::MissingKey, message).help(help));
            None
        }
    }
}

fn read_subscriber(fields: &mut Fields<'_>, findings: &mut Findings) -> Subscriber {
    let address = fields.get("ip", findings, |value| {
        let text = text(value)?;
        let fault = || {
            let message = format!("`{}` is not an IPv4 or IPv6 address", short(text));
            Fault::new(Code::InvalidAddress, message)
        };
        text.parse().map_err(|_| fault())
    });
    let mut subscriber =
        address.map_or_else(Subscriber::default, |address| Subscriber::at(address.into_inner()));
    if let Some(iccid) = fields.get("iccid", findings, identity::<Iccid>) {
        subscriber = subscriber.with_iccid(iccid.into_inner());
    }
    if let Some(imsi) = fields.get("imsi", findings, identity::<Imsi>) {
        subscriber = subscriber.with_imsi(imsi.into_inner());
    }
    if let Some(apn) = fields.get("apn", findings, text) {
        subscriber = subscriber.with_apn(Apn::new(apn.get_ref()));
    }
    let state = fields.get("state", findings, |value| {
        let text = text(value)?;
        SimState::from_label(text).ok_or_else(|| {
            let message = format!("`{}` is not a SIM state", short(text));
            Fault::new(Code::UnknownValue, message)
                .maybe_help(suggest(text, SimState::ALL.map(SimState::label)))
        })
    });
    match state {
        Some(state) => subscriber.with_state(state.into_inner()),
        None => subscriber,
    }
}

fn text<'t>(value: &'t DeValue<'t>) -> Result<&'t str, Fault> {
    value.as_str().ok_or_else(|| wrong_type("a string", value))
}

/// The digits are never repeated in a message.
fn identity<I: Identity>(value: &DeValue<'_>) -> Result<I, Fault> {
    let text = value
        .as_str()
        .ok_or_else(|| wrong_type("a string", value).help("put the digits between quotes"))?;
    I::parse(text).map_err(|error| Fault::new(Code::InvalidIdentity, error.to_string()))
}

fn target(value: &DeValue<'_>) -> Result<Target, Fault> {
    let text = value.as_str().ok_or_else(|| wrong_type("a string", value))?;
    Target::parse(text).map_err(|error| Fault::new(Code::InvalidTarget, error.to_string()))
}

fn moment(value: &DeValue<'_>) -> Result<Timestamp, Fault> {
    let help = "write date, time and offset bare, such as 2026-08-22T12:00:00Z";
    let written =
        value.as_datetime().ok_or_else(|| wrong_type("a date with time", value).help(help))?;
    written.to_string().parse().map_err(|_| {
        Fault::new(Code::InvalidDate, "this is not a date with time and offset").help(help)
    })
}

fn wrong_type(expected: &str, value: &DeValue<'_>) -> Fault {
    Fault::new(Code::WrongType, format!("expected {expected}, found {}", value.type_str()))
}

/// What a case may know of a subscriber.
const FACTS: [&str; 5] = ["ip", "iccid", "imsi", "apn", "state"];
