//! From decision and record type to what is done: one table.
//!
//! | subscriber, name | A, AAAA | ANY | other types |
//! |---|---|---|---|
//! | unknown subscriber | REFUSED, EDE 18 | REFUSED, EDE 18 | REFUSED, EDE 18 |
//! | special name | see [`special`] | no such record | no such record |
//! | the node's own name, unless it is listed | where it was asked | no such record | its encrypted listeners |
//! | connectivity probe that the gateway answers itself | where it is answered | no such record | no such record |
//! | denied | as the policy says, EDE 15 | as the policy says, EDE 15 | as the policy says, EDE 15 |
//! | passes, where answers lead to the proxy | the proxy | HINFO | no such record, EDE 15 |
//! | passes | resolved | HINFO (RFC 8482 section 4.2) | no such record, EDE 15 |
//!
//! HTTPS and SVCB records are among the other types. None of what they say is of use behind a proxy
//! that goes by name: `ech` hides the name, HTTP/3 is refused, hints and alternative ports lead past
//! the decision, and what remains, HTTP/2, TLS itself finds out. Every asker does without
//! (RFC 9460 section 3), at once: for a browser, no record is faster than an emptied one that had to
//! be fetched.

use std::net::IpAddr;

use policy::{Decision, DnsDenial, HostName, PatternKind, Policy, Reason, Rule};

use crate::{
    nat64::{DISCOVERY, tells_prefix},
    screen::{Family, Screened},
    site::{DESIGNATION, OwnName, Site},
    special::{self, LOOPBACK, Special},
    wire::{
        Alias, Answer, Authority, Data, Name, Notice, Rcode, TYPE_ANY, TYPE_HINFO, TYPE_RESINFO,
        TYPE_SVCB,
    },
};

/// What is done about a question.
#[derive(Clone, Debug)]
pub(crate) enum Plan<'p> {
    /// Say this; the name is answered here for everybody, no verdict was needed.
    Special(Answer),
    /// Say this.
    Answer(Answer),
    /// Resolve the name, and say what is found.
    Resolve { family: Family, rule: Option<&'p Rule> },
    /// Ask the upstream for its NAT64 prefix, and say what is found.
    Prefix,
    /// Resolve the portal's name, and say where it is.
    Portal { family: Family },
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) host: &'a HostName,
    pub(crate) record_type: u16,
    /// The address the question was sent to, where the listener knows it.
    pub(crate) to: Option<IpAddr>,
}

/// What is done about a question.
pub(crate) fn plan<'p>(
    site: &Site,
    policy: &Policy,
    decision: &Decision<'p>,
    asked: Asked<'_>,
) -> Plan<'p> {
    if decision.reason() == Reason::UnknownSubscriber {
        return Plan::Answer(refused(Notice::Prohibited));
    }
    if let Some(plan) = about_special(site, policy, decision, asked) {
        return plan;
    }
    if let Some(answer) = about_ourselves(site, policy, decision, asked) {
        return Plan::Special(answer);
    }
    let denied_ttl = policy.dns().denied_ttl;
    let family = Family::of(asked.record_type);
    let at_proxy = |family: Family| {
        let addresses = of_family(site.leads_to.iter().copied(), Some(family));
        // It is forgotten as soon as a denial: whoever leaves the garden is led elsewhere.
        at(addresses, denied_ttl, denied_ttl)
    };
    // What an open class asks for goes its own way.
    let is_led = !site.leads_to.is_empty() && decision.reason() != Reason::Open;
    match (decision.passes(), decision.reason(), family) {
        (true, Reason::Ncsi, family) => {
            let addresses = special::probe(asked.host).into_iter().flatten();
            Plan::Answer(at(of_family(addresses, family), denied_ttl, denied_ttl))
        }
        (true, _, Some(family)) if is_led => Plan::Answer(at_proxy(family)),
        (true, _, Some(family)) => Plan::Resolve { family, rule: listing(decision) },
        (true, _, None) if asked.record_type == TYPE_ANY => {
            Plan::Answer(records(vec![any()], policy.dns().max_ttl, denied_ttl))
        }
        (true, _, None) => {
            Plan::Answer(Answer { notice: Some(Notice::Blocked), ..no_data(denied_ttl) })
        }
        (false, _, _) => match denied(policy, asked.record_type) {
            // The proxy shows the way to the portal.
            Plan::Portal { family } if is_led => {
                Plan::Answer(Answer { notice: Some(Notice::Forged), ..at_proxy(family) })
            }
            plan @ (Plan::Special(_)
            | Plan::Answer(_)
            | Plan::Resolve { .. }
            | Plan::Prefix
            | Plan::Portal { .. }) => plan,
        },
    }
}

fn about_special<'p>(
    site: &Site,
    policy: &Policy,
    decision: &Decision<'p>,
    asked: Asked<'_>,
) -> Option<Plan<'p>> {
    let (max_ttl, denied_ttl) = (policy.dns().max_ttl, policy.dns().denied_ttl);
    let family = Family::of(asked.record_type);
    let addresses = |addresses: &mut dyn Iterator<Item = IpAddr>| {
        at(of_family(addresses, family), max_ttl, denied_ttl)
    };
    let answer = match special::special(asked.host)? {
        Special::NoName => no_name(denied_ttl),
        Special::Canary if !lists_by_name(decision) => no_name(denied_ttl),
        Special::NoNameUnlessListed if !decision.passes() => no_name(denied_ttl),
        Special::Canary | Special::NoNameUnlessListed => return None,
        Special::Loopback => addresses(&mut LOOPBACK.into_iter()),
        Special::Ipv4Only => match (family, site.nat64) {
            (Some(Family::V6), None) => return Some(Plan::Prefix),
            (_, nat64) => {
                let behind = nat64.into_iter().flat_map(|nat64| nat64.discovery());
                let v4 = DISCOVERY.into_iter().map(IpAddr::V4);
                addresses(&mut v4.chain(behind.map(IpAddr::V6)))
            }
        },
        Special::Designation if asked.record_type == TYPE_SVCB => {
            records(site.designation(asked.to, None), max_ttl, denied_ttl)
        }
        Special::Resolver
            if asked.record_type == TYPE_RESINFO && asked.host.as_str() == RESOLVER =>
        {
            records(vec![Site::information()], max_ttl, denied_ttl)
        }
        Special::Designation | Special::Resolver => no_data(denied_ttl),
    };
    Some(Plan::Special(answer))
}

/// What is said about the node's own name. A policy that lists it means the host of that name.
fn about_ourselves(
    site: &Site,
    policy: &Policy,
    decision: &Decision<'_>,
    asked: Asked<'_>,
) -> Option<Answer> {
    let (max_ttl, denied_ttl) = (policy.dns().max_ttl, policy.dns().denied_ttl);
    match site.own(asked.host)? {
        OwnName::Designation => {
            let is_asked = asked.record_type == TYPE_SVCB;
            let name = asked.host.as_str().strip_prefix(DESIGNATION).filter(|_| is_asked);
            let designation = name.map(|name| site.designation(asked.to, Some(name)));
            Some(records(designation.unwrap_or_default(), max_ttl, denied_ttl))
        }
        OwnName::Host if decision.passes() => None,
        OwnName::Host if asked.record_type == TYPE_RESINFO => {
            Some(records(vec![Site::information()], max_ttl, denied_ttl))
        }
        OwnName::Host => {
            let address = site.address(asked.host, asked.to).into_iter();
            Some(at(of_family(address, Family::of(asked.record_type)), max_ttl, denied_ttl))
        }
    }
}

/// Whether the class means this very name: by its whole name, not by a wildcard over many; or it
/// means every name.
fn lists_by_name(decision: &Decision<'_>) -> bool {
    let is_exact = |rule: &Rule| rule.pattern().kind() == PatternKind::Exact;
    decision.reason() == Reason::Open || listing(decision).is_some_and(is_exact)
}

fn of_family(addresses: impl Iterator<Item = IpAddr>, family: Option<Family>) -> Vec<IpAddr> {
    addresses.filter(|address| family.is_some_and(|family| family.holds(address))).collect()
}

/// These records, or that there is none.
fn records(data: Vec<Data>, ttl: u32, denied_ttl: u32) -> Answer {
    if data.is_empty() {
        return no_data(denied_ttl);
    }
    Answer { data, ttl, ..Answer::empty(Rcode::NoError) }
}

/// What every question for ANY gets: one small record that says where it comes from.
fn any() -> Data {
    let octets = [&[7][..], b"RFC8482", &[0]].concat();
    Data { record_type: TYPE_HINFO, octets }
}

/// What is done about a denied question.
pub(crate) fn denied(policy: &Policy, record_type: u16) -> Plan<'static> {
    let terms = policy.dns();
    let answer = match (terms.denied, Family::of(record_type)) {
        (DnsDenial::Sinkhole, Some(family)) => return Plan::Portal { family },
        (DnsDenial::Nodata, _) | (DnsDenial::Sinkhole, None) => no_data(terms.denied_ttl),
        (DnsDenial::Nxdomain, _) => no_name(terms.denied_ttl),
        (DnsDenial::Refused, _) => Answer::empty(Rcode::Refused),
    };
    Plan::Answer(Answer { notice: Some(Notice::Blocked), ..answer })
}

/// What is said to a question for a name that is no host name.
///
/// The root is never said not to exist: nothing could be below it then (RFC 8020).
pub(crate) fn no_host(policy: &Policy, name: &Name, record_type: u16) -> Answer {
    match denied(policy, record_type) {
        Plan::Answer(answer) if !(name.is_root() && answer.rcode == Rcode::NameError) => answer,
        Plan::Answer(_)
        | Plan::Portal { .. }
        | Plan::Special(_)
        | Plan::Resolve { .. }
        | Plan::Prefix => {
            Answer { notice: Some(Notice::Blocked), ..no_data(policy.dns().denied_ttl) }
        }
    }
}

/// The entry that listed the name; not the nearest one that did not, whose networks must not count.
pub(crate) fn listing<'p>(decision: &Decision<'p>) -> Option<&'p Rule> {
    decision.rule().filter(|_| decision.reason() == Reason::Listed)
}

/// What is said about a name that passes and was resolved.
pub(crate) fn resolved(policy: &Policy, aliases: &[Alias], screened: Screened) -> Answer {
    let denied_ttl = policy.dns().denied_ttl;
    let answer = |rcode, addresses, ttl, authority| Answer {
        aliases: aliases.to_vec(),
        addresses,
        ttl,
        authority,
        ..Answer::empty(rcode)
    };
    let ours = |authority: Option<Authority>| authority.or_else(|| Some(ours(denied_ttl)));
    match screened {
        Screened::Addresses { addresses, ttl } => answer(Rcode::NoError, addresses, ttl, None),
        Screened::Refused => Answer { notice: Some(Notice::Blocked), ..no_data(denied_ttl) },
        Screened::NoData { authority, ttl } => {
            answer(Rcode::NoError, Vec::new(), ttl, ours(authority))
        }
        Screened::NoName { authority, ttl } => {
            answer(Rcode::NameError, Vec::new(), ttl, ours(authority))
        }
    }
}

/// What is told beside an answer that is too old (RFC 8914 sections 4.4 and 4.20).
pub(crate) fn stale(rcode: Rcode) -> Notice {
    if rcode == Rcode::NameError { Notice::StaleNoName } else { Notice::Stale }
}

/// What is said about the upstream's NAT64: only what is a prefix of one (RFC 7050 section 3).
pub(crate) fn prefix(policy: &Policy, screened: Screened) -> Answer {
    let denied_ttl = policy.dns().denied_ttl;
    match screened {
        Screened::Addresses { addresses, ttl } => {
            let tells = |address: &IpAddr| match address {
                IpAddr::V6(address) => tells_prefix(*address),
                IpAddr::V4(_) => false,
            };
            at(addresses.into_iter().filter(tells).collect(), ttl, denied_ttl)
        }
        Screened::Refused | Screened::NoData { .. } | Screened::NoName { .. } => {
            no_data(denied_ttl)
        }
    }
}

/// The denial `answer` behind an alias of the question's name, if there is one.
pub(crate) fn behind(alias: Option<&Alias>, answer: Answer) -> Answer {
    match (alias, &answer.authority) {
        // With nothing after it, the alias lives as long as the denial.
        (Some(alias), Some(authority)) => {
            Answer { aliases: vec![alias.clone()], ttl: authority.ttl, ..answer }
        }
        (_, _) => answer,
    }
}

/// `answer` for an asker that reads structured errors: what is blocked is explained, with the
/// portal to turn to.
pub(crate) fn structured(policy: &Policy, answer: Answer) -> Answer {
    match (answer.notice, policy.http().portal.as_deref()) {
        (Some(notice @ Notice::Blocked), Some(portal)) => {
            let explanation = serde_json::json!({
                "c": [portal],
                "j": notice.text(),
                "s": NETWORK_OPERATOR_POLICY,
            });
            Answer { structured: Some(explanation.to_string().into()), ..answer }
        }
        _ => answer,
    }
}

/// What is said to a denied question about where the portal is, found or not.
pub(crate) fn at_portal(policy: &Policy, screened: Option<Screened>) -> Answer {
    let denied_ttl = policy.dns().denied_ttl;
    match screened {
        Some(Screened::Addresses { addresses, .. }) => {
            Answer { notice: Some(Notice::Forged), ..at(addresses, denied_ttl, denied_ttl) }
        }
        Some(Screened::Refused | Screened::NoData { .. } | Screened::NoName { .. }) | None => {
            Answer { notice: Some(Notice::Blocked), ..no_data(denied_ttl) }
        }
    }
}

/// These addresses, or that there is none.
pub(crate) fn at(addresses: Vec<IpAddr>, ttl: u32, denied_ttl: u32) -> Answer {
    if addresses.is_empty() {
        return no_data(denied_ttl);
    }
    Answer { addresses, ttl, ..Answer::empty(Rcode::NoError) }
}

/// We will not say, and why.
pub(crate) fn refused(notice: Notice) -> Answer {
    Answer { notice: Some(notice), ..Answer::empty(Rcode::Refused) }
}

/// We cannot say, and why.
pub(crate) fn failed(notice: Notice) -> Answer {
    Answer { notice: Some(notice), ..Answer::empty(Rcode::ServerFailure) }
}

fn no_name(ttl: u32) -> Answer {
    Answer { authority: Some(ours(ttl)), ..Answer::empty(Rcode::NameError) }
}

fn no_data(ttl: u32) -> Answer {
    Answer { authority: Some(ours(ttl)), ..Answer::empty(Rcode::NoError) }
}

/// The zone in whose name we deny: the root, so that it holds every name. Without an SOA a
/// denial could not be remembered even for seconds (RFC 2308 section 5), and would be asked for
/// again and again. It is as short as one can be: the asker may be made up.
fn ours(ttl: u32) -> Authority {
    let (server, person) = (Name::root(), Name::root());
    Authority { zone: Name::root(), server, person, numbers: [1, ttl, ttl, ttl], ttl }
}

/// The name that stands for whatever resolver is asked (RFC 9462 section 4).
const RESOLVER: &str = "resolver.arpa";
/// draft-ietf-dnsop-structured-dns-error section 7.1.
const NETWORK_OPERATOR_POLICY: u8 = 5;
