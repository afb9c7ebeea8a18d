//! `[[hostset]]` and `[[hostset.host]]`, in policies and in the built-in tables alike.

use std::ops::Range;

use toml::Spanned;

use super::{
    Host, HostSet,
    fields::{self, Fields, choice, date, text},
    name, subscribers,
};
use crate::{
    code::Code,
    diagnostic::{Fault, Findings},
    host::{HostName, HostPattern, InvalidHostName, InvalidHostPattern, PatternKind},
    limits::{MAX_HOSTS, MAX_NETWORKS, MAX_PORTS, MAX_WORDS},
    rule::Scheme,
};

/// Reads one host set of a policy.
pub(crate) fn read_hostset<'t>(fields: &mut Fields<'t>, findings: &mut Findings) -> HostSet<'t> {
    HostSet {
        name: fields.require("name", findings, name),
        source: fields.get("source", findings, words),
        reviewed: fields.get("reviewed", findings, date),
        hosts: fields.tables("host", "[[hostset.host]]", MAX_HOSTS, findings, read_host),
    }
}

fn read_host<'t>(fields: &mut Fields<'t>, findings: &mut Findings) -> Host<'t> {
    let written = fields.require("match", findings, text);
    let within = fields.get("within", findings, |value| {
        HostName::parse(text(value)?)
            .map_err(|error| Fault::new(Code::InvalidHost, error.to_string()))
    });
    let broken_within = fields.has("within") && within.is_none();
    let pattern = written.as_ref().filter(|_| !broken_within).and_then(|written| {
        let read = read_pattern(written.get_ref(), within.as_ref().map(Spanned::get_ref));
        read.map_err(|fault| findings.add(written.span(), fault)).ok()
    });
    if let (Some(pattern), Some(written)) = (&pattern, &written) {
        check_public_suffix(pattern, written.span(), within.as_ref(), findings);
    }
    let schemes = read_schemes(fields, findings);
    let ports = read_ports(fields, &schemes, findings);
    Host {
        pattern,
        schemes,
        ports,
        expires: fields.get("expires", findings, date),
        networks: fields
            .list("networks", MAX_NETWORKS, findings, subscribers::network)
            .into_iter()
            .map(Spanned::into_inner)
            .collect(),
        reason: fields.get("reason", findings, words).map(Spanned::into_inner),
        written,
    }
}

fn read_schemes(fields: &mut Fields<'_>, findings: &mut Findings) -> Vec<Scheme> {
    fields.require("schemes", findings, |_| Ok(()));
    let read = fields.list("schemes", Scheme::ALL.len(), findings, |value| {
        choice(value, &Scheme::ALL.map(|scheme| (scheme.label(), scheme)))
    });
    let mut schemes: Vec<Scheme> = read.into_iter().map(Spanned::into_inner).collect();
    schemes.sort_unstable();
    schemes.dedup();
    schemes
}

fn read_ports(fields: &mut Fields<'_>, schemes: &[Scheme], findings: &mut Findings) -> Vec<u16> {
    let read = fields.list("ports", MAX_PORTS, findings, fields::whole(1, u16::MAX));
    if schemes.len() > 1
        && let (Some(first), Some(last)) = (read.first(), read.last())
    {
        let span = first.span().start..last.span().end;
        let message = "`ports` would hold for both schemes, plain and encrypted";
        let fault = Fault::new(Code::PortsOfTwoSchemes, message);
        findings.add(span, fault.help("write two entries, one for each scheme"));
    }
    let mut ports: Vec<u16> = read.into_iter().map(Spanned::into_inner).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

fn read_pattern(written: &str, within: Option<&HostName>) -> Result<HostPattern, Fault> {
    HostPattern::parse(written, within).map_err(|error| {
        let code = match &error {
            InvalidHostPattern::Name(InvalidHostName::IpLiteral) => Code::AddressPattern,
            InvalidHostPattern::Name(_)
            | InvalidHostPattern::EveryName
            | InvalidHostPattern::InnerStar
            | InvalidHostPattern::OutsideWithin { .. }
            | InvalidHostPattern::SuffixNeedsWithin
            | InvalidHostPattern::WithinOnlyForSuffix => Code::InvalidPattern,
        };
        let help = match &error {
            InvalidHostPattern::Name(InvalidHostName::IpLiteral) => {
                Some("a garden lists names; where a name may lead belongs in `networks`".to_owned())
            }
            InvalidHostPattern::Name(_) => host_in_url(written)
                .map(|host| format!("write the host alone: `{host}`; schemes and ports are keys")),
            InvalidHostPattern::InnerStar => {
                Some("write `host`, `*.host`, `.host` or `*host` with `within`".to_owned())
            }
            InvalidHostPattern::SuffixNeedsWithin => {
                let rest = written.trim_start_matches('*');
                Some(format!("`*.{rest}` needs none, if whole labels are meant"))
            }
            InvalidHostPattern::EveryName
            | InvalidHostPattern::OutsideWithin { .. }
            | InvalidHostPattern::WithinOnlyForSuffix => None,
        };
        Fault::new(code, error.to_string()).maybe_help(help)
    })
}

fn host_in_url(written: &str) -> Option<HostName> {
    let (_, rest) = written.split_once("://").unwrap_or(("", written));
    let end = rest.find(['/', ':', '?', '#']).unwrap_or(rest.len());
    HostName::parse(rest.get(..end)?).ok()
}

/// Refuses patterns with a star or a leading dot that hold every name of a public suffix: below
/// one, names belong to owners who have nothing in common.
pub(crate) fn check_public_suffix(
    pattern: &HostPattern,
    span: Range<usize>,
    within: Option<&Spanned<HostName>>,
    findings: &mut Findings,
) {
    match pattern.kind() {
        PatternKind::Exact => {}
        PatternKind::Below | PatternKind::Both => {
            if reaches_public_suffix(pattern.base()) {
                let message = format!(
                    "`{pattern}` reaches names of every owner: `{}` is a public suffix or above one",
                    pattern.base()
                );
                findings.add(span, Fault::new(Code::PublicSuffix, message).help(NARROWER));
            }
        }
        PatternKind::Suffix => {
            if let Some(within) = within.filter(|within| reaches_public_suffix(within.get_ref())) {
                let message = format!(
                    "`{}` is a public suffix or above one, so it binds `{pattern}` to no owner",
                    within.get_ref()
                );
                findings.add(within.span(), Fault::new(Code::PublicSuffix, message).help(NARROWER));
            }
        }
    }
}

const NARROWER: &str = "name a registered domain, such as `*.example.com`";

/// Whether `base` is a public suffix, or every name one label below it is one.
fn reaches_public_suffix(base: &HostName) -> bool {
    let is_suffix = |name: &str| psl::suffix_str(name).is_some_and(|suffix| suffix == name);
    is_suffix(base.as_str()) || is_suffix(&format!("a-name-nobody-has.{base}"))
}

pub(super) fn words<'t>(value: &'t toml::de::DeValue<'t>) -> Result<&'t str, Fault> {
    let text = text(value)?;
    if text.len() > MAX_WORDS {
        let message = format!("the text has {} octets; at most {MAX_WORDS}", text.len());
        return Err(Fault::new(Code::TooMany, message));
    }
    Ok(text)
}
