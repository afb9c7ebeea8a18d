//! What of an upstream's answer may be passed on.
//!
//! [`follow`] keeps the chain of aliases that starts at the question and the addresses at its end;
//! everything else in the message is dropped. [`screen`] then removes addresses that must not be
//! dialled and bounds the lifetime. The first does not depend on the policy and may be cached, the
//! second is done for every answer.

use std::{net::IpAddr, time::Duration};

use hickory_proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{self, RData, Record, rdata::SOA},
};
use ipnet::IpNet;

use crate::{
    address::Guard,
    wire::{Alias, Authority, Name, TYPE_A, TYPE_AAAA},
};

/// The two kinds of address a name may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Family {
    V4,
    V6,
}

/// What an upstream says about a name, cleaned but not yet weighed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) aliases: Vec<Alias>,
    pub(crate) end: End,
    /// Seconds it holds from when it was found; the least of all its records.
    pub(crate) ttl: u32,
}

/// Where the chain of aliases ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// At these addresses, never none.
    Addresses(Vec<IpAddr>),
    /// At a name without such a record.
    NoData(Option<Authority>),
    /// At a name that does not exist (RFC 6604 section 3).
    NoName(Option<Authority>),
}

/// Why an upstream's answer was thrown away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAnswer {
    /// An alias leads back to a name of its own chain.
    #[error("the chain of aliases is a loop")]
    Loop,
    /// The chain is too long.
    #[error("the chain has more than {MAX_ALIASES} aliases")]
    TooLong,
    /// A name has two different aliases (RFC 2181 section 10.1).
    #[error("a name has two aliases")]
    TwoAliases,
    /// More addresses than any name has use for.
    #[error("the answer has more than {MAX_ADDRESSES} addresses")]
    TooMany,
    /// It repeats another question than ours, or is no answer.
    #[error("the answer is to another question")]
    OtherQuestion,
    /// It names other servers and answers nothing: whoever sent it does not resolve.
    #[error("the answer only refers to other servers")]
    Referral,
    /// A name in it cannot be written.
    #[error("a name in the answer is too long")]
    UnwritableName,
}

/// The outcome of [`screen`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Screened {
    /// Addresses, never none, for this many seconds.
    Addresses { addresses: Vec<IpAddr>, ttl: u32 },
    /// There were addresses, and every one is refused.
    Refused,
    /// There is none, for this many seconds.
    NoData { authority: Option<Authority>, ttl: u32 },
    /// The name does not exist, for this many seconds.
    NoName { authority: Option<Authority>, ttl: u32 },
}

/// Reads what `message` says about `name`.
pub(crate) fn follow(
    name: &rr::Name,
    family: Family,
    message: &Message,
) -> Result<Finding, BadAnswer> {
    let asked = message.queries.first().filter(|_| message.queries.len() == 1);
    let is_ours = asked.is_some_and(|query| {
        query.name() == name && u16::from(query.query_type()) == family.record_type()
    });
    if !is_ours || message.metadata.message_type != MessageType::Response {
        return Err(BadAnswer::OtherQuestion);
    }
    let mut ttl = MAX_KEPT;
    let mut chain = vec![name];
    while let Some((target, alias_ttl)) = alias_of(chain.last().copied(), message)? {
        if chain.contains(&target) {
            return Err(BadAnswer::Loop);
        }
        if chain.len() > MAX_ALIASES {
            return Err(BadAnswer::TooLong);
        }
        ttl = ttl.min(alias_ttl);
        chain.push(target);
    }
    let aliases = chain
        .iter()
        .skip(1)
        .map(|target| write_name(target).map(|target| Alias { target }))
        .collect::<Result<Vec<_>, _>>()?;
    let last = chain.last().copied().unwrap_or(name);
    let mut addresses = Vec::new();
    for record in message.answers.iter().filter(|record| record.name == *last) {
        if let Some(address) = address_of(record, family) {
            if addresses.len() == MAX_ADDRESSES {
                return Err(BadAnswer::TooMany);
            }
            ttl = ttl.min(lifetime(record.ttl));
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    if !addresses.is_empty() {
        return Ok(Finding { aliases, end: End::Addresses(addresses), ttl });
    }
    let soa = message.authorities.iter().find_map(|record| {
        let RData::SOA(soa) = &record.data else { return None };
        record.name.zone_of(last).then_some((&record.name, soa, record.ttl))
    });
    let rcode = message.metadata.response_code;
    Ok(negative(aliases, rcode == ResponseCode::NXDomain, soa, ttl))
}

/// What a denial without a message of its own says.
pub(crate) fn denial(is_no_name: bool, soa: Option<&Record<SOA>>) -> Finding {
    let soa = soa.map(|record| (&record.name, &record.data, record.ttl));
    negative(Vec::new(), is_no_name, soa, MAX_KEPT)
}

fn negative(
    aliases: Vec<Alias>,
    is_no_name: bool,
    soa: Option<(&rr::Name, &SOA, u32)>,
    ttl: u32,
) -> Finding {
    let authority = soa.and_then(|(zone, soa, ttl)| authority(zone, soa, ttl));
    // A denial without SOA must not be kept (RFC 2308 section 5).
    let ttl = authority.as_ref().map_or(0, |authority| authority.ttl.min(ttl));
    let end = if is_no_name { End::NoName(authority) } else { End::NoData(authority) };
    Finding { aliases, end, ttl }
}

/// Weighs what was found `age` ago: addresses in no network of `lifted` that `guard` refuses are
/// removed, and nothing may be kept longer than `max_ttl` seconds.
pub(crate) fn screen<'a>(
    finding: &Finding,
    age: Duration,
    max_ttl: u32,
    guard: &Guard,
    lifted: impl Iterator<Item = &'a IpNet> + Clone,
) -> Screened {
    let age = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
    let ttl = finding.ttl.saturating_sub(age).min(max_ttl);
    let bounded = |authority: &Option<Authority>| {
        authority.clone().map(|authority| Authority { ttl, ..authority })
    };
    match &finding.end {
        End::Addresses(found) => {
            let addresses: Vec<IpAddr> = found
                .iter()
                .copied()
                .filter(|address| guard.refused_unless(*address, lifted.clone()).is_none())
                .collect();
            if addresses.is_empty() {
                Screened::Refused
            } else {
                Screened::Addresses { addresses, ttl }
            }
        }
        End::NoData(authority) => Screened::NoData { authority: bounded(authority), ttl },
        End::NoName(authority) => Screened::NoName { authority: bounded(authority), ttl },
    }
}

/// The alias of `name` with its lifetime, if it has one.
fn alias_of<'m>(
    name: Option<&rr::Name>,
    message: &'m Message,
) -> Result<Option<(&'m rr::Name, u32)>, BadAnswer> {
    let mut found: Option<(&rr::Name, u32)> = None;
    for record in message.answers.iter().filter(|record| Some(&record.name) == name) {
        let RData::CNAME(target) = &record.data else { continue };
        match found {
            Some((known, _)) if known != &target.0 => return Err(BadAnswer::TwoAliases),
            Some(_) => {}
            None => found = Some((&target.0, lifetime(record.ttl))),
        }
    }
    Ok(found)
}

fn address_of(record: &Record, family: Family) -> Option<IpAddr> {
    let address = match (&record.data, family) {
        (RData::A(address), Family::V4) => IpAddr::V4(address.0),
        (RData::AAAA(address), Family::V6) => IpAddr::V6(address.0),
        (_, Family::V4 | Family::V6) => return None,
    };
    Some(address)
}

fn authority(zone: &rr::Name, soa: &SOA, ttl: u32) -> Option<Authority> {
    let signed = |number: i32| u32::try_from(number).unwrap_or_default();
    Some(Authority {
        zone: write_name(zone).ok()?,
        server: write_name(&soa.mname).ok()?,
        person: write_name(&soa.rname).ok()?,
        numbers: [soa.serial, signed(soa.refresh), signed(soa.retry), signed(soa.expire)],
        ttl: lifetime(ttl).min(lifetime(soa.minimum)),
    })
}

fn write_name(name: &rr::Name) -> Result<Name, BadAnswer> {
    Name::from_labels(name.iter()).ok_or(BadAnswer::UnwritableName)
}

/// A TTL with the top bit set counts as 0 (RFC 2181 section 8).
fn lifetime(ttl: u32) -> u32 {
    if ttl > i32::MAX.unsigned_abs() { 0 } else { ttl }
}

impl Family {
    pub(crate) fn of(record_type: u16) -> Option<Self> {
        match record_type {
            TYPE_A => Some(Self::V4),
            TYPE_AAAA => Some(Self::V6),
            _ => None,
        }
    }

    pub(crate) fn record_type(self) -> u16 {
        match self {
            Self::V4 => TYPE_A,
            Self::V6 => TYPE_AAAA,
        }
    }

    pub(crate) fn holds(self, address: &IpAddr) -> bool {
        match self {
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
        }
    }
}

/// Aliases in one chain; unbound's bound as well.
pub(crate) const MAX_ALIASES: usize = 11;
/// Addresses of one name.
pub(crate) const MAX_ADDRESSES: usize = 64;
/// Seconds anything is kept, whatever its TTL.
const MAX_KEPT: u32 = 3_600;

#[cfg(test)]
mod tests;
