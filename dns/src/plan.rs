//! From decision and record type to what is done: one table.
//!
//! | subscriber, name | A, AAAA | other types |
//! |---|---|---|
//! | unknown subscriber | REFUSED, EDE 18 | REFUSED, EDE 18 |
//! | special name | see [`special`] | no such record |
//! | connectivity probe that the gateway answers itself | where it is answered | no such record |
//! | denied | as the policy says, EDE 15 | as the policy says, EDE 15 |
//! | passes | resolved | no such record, EDE 15 |
//!
//! HTTPS and SVCB records are among the other types: they would carry keys and addresses past the
//! proxy. ANY gets the same (RFC 8482 section 4.1 allows any one answer).

use std::net::IpAddr;

use policy::{Decision, DnsDenial, HostName, Policy, Reason, Rule};

use crate::{
    screen::{Family, Screened},
    special::{self, Special},
    wire::{Alias, Answer, Authority, Name, Notice, Rcode},
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
    /// Resolve the portal's name, and say where it is.
    Portal { family: Family },
}

/// What is done about a question for `host` of type `record_type`.
pub(crate) fn plan<'p>(
    policy: &Policy,
    decision: &Decision<'p>,
    host: &HostName,
    record_type: u16,
) -> Plan<'p> {
    let denied_ttl = policy.dns().denied_ttl;
    if decision.reason() == Reason::UnknownSubscriber {
        return Plan::Answer(refused(Notice::Prohibited));
    }
    let family = Family::of(record_type);
    match special::special(host) {
        Some(Special::NoName) => return Plan::Special(no_name(denied_ttl)),
        Some(Special::Canary) if decision.reason() != Reason::Open => {
            return Plan::Special(no_name(denied_ttl));
        }
        Some(Special::NoNameUnlessListed) if !decision.passes() => {
            return Plan::Special(no_name(denied_ttl));
        }
        Some(Special::Addresses(addresses)) => {
            let fits = |address: &IpAddr| family.is_some_and(|family| family.holds(address));
            let addresses: Vec<IpAddr> = addresses.into_iter().filter(fits).collect();
            return Plan::Special(at(addresses, policy.dns().max_ttl, denied_ttl));
        }
        Some(Special::Canary | Special::NoNameUnlessListed) | None => {}
    }
    let nothing = || Answer { notice: Some(Notice::Blocked), ..no_data(denied_ttl) };
    match (decision.passes(), decision.reason(), family) {
        (true, Reason::Ncsi, family) => {
            let addresses = special::probe(host).into_iter().flatten();
            let fits = |address: &IpAddr| family.is_some_and(|family| family.holds(address));
            Plan::Answer(at(addresses.filter(fits).collect(), denied_ttl, denied_ttl))
        }
        (true, _, Some(family)) => Plan::Resolve { family, rule: listing(decision) },
        (true, _, None) => Plan::Answer(nothing()),
        (false, _, _) => denied(policy, record_type),
    }
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
        Plan::Answer(_) | Plan::Portal { .. } | Plan::Special(_) | Plan::Resolve { .. } => {
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
        rcode,
        aliases: aliases.to_vec(),
        addresses,
        ttl,
        authority,
        notice: None,
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
