//! What steps expect, said once.

use std::net::SocketAddr;

use crate::{
    family::Family,
    places::place,
    sim::{DnsAnswer, Outcome, Seen},
    world::{Form, World},
};

/// The host itself answered, on its own address, with success.
pub(super) fn reached(world: &World, host: &str, seen: &Seen) -> Result<String, String> {
    let Outcome::Answered(answer) = &seen.outcome else {
        return Err(format!("expected an answer of {host}, saw {seen}"));
    };
    if answer.host() != Some(host) || !answer.status.is_success() {
        return Err(format!("expected an answer of {host}, saw {seen}"));
    }
    // The gateway dials the name, so the family towards the host is its own choice.
    let came_in: Option<SocketAddr> = answer.address().and_then(|address| address.parse().ok());
    let came_in = came_in.map(|address| address.ip().to_canonical());
    let own = Family::BOTH.map(|family| place(host).map(|place| place.address(family)));
    if world.form() == Form::Namespaces && !own.contains(&came_in) {
        return Err(format!("{host} was reached on a strange address: {:?}", answer.address()));
    }
    Ok(seen.to_string())
}

/// The SIM was turned away, at once.
pub(super) fn refused(seen: &Seen) -> Result<String, String> {
    if seen.is_refused_at_once() {
        return Ok(seen.to_string());
    }
    let limit = Seen::AT_ONCE.as_millis();
    Err(format!("expected a refusal within {limit} ms, saw {seen}"))
}

/// The connection attempt got a TLS alert, at once.
pub(super) fn alerted(seen: &Seen) -> Result<String, String> {
    match seen.outcome {
        Outcome::TlsAlert(_) => refused(seen),
        Outcome::Answered(_)
        | Outcome::Connected
        | Outcome::NoName { .. }
        | Outcome::Refused(_)
        | Outcome::Closed
        | Outcome::TimedOut
        | Outcome::Broken(_) => Err(format!("expected a TLS alert, saw {seen}")),
    }
}

/// The name was denied as the garden denies names: at once, with an SOA, and for no longer than
/// five seconds.
pub(super) fn denied(answer: &DnsAnswer) -> Result<String, String> {
    let Some(soa) = &answer.soa else {
        return Err(format!("expected NXDOMAIN with an SOA, saw {answer}"));
    };
    if !answer.is_denied() || answer.elapsed >= Seen::AT_ONCE {
        return Err(format!("expected NXDOMAIN with EDE 15 at once, saw {answer}"));
    }
    if soa.ttl > DENIED_TTL {
        return Err(format!("the denial lives {} s, at most {DENIED_TTL} s expected", soa.ttl));
    }
    Ok(answer.to_string())
}

/// The name has exactly its own address, for no longer than a minute.
pub(super) fn resolved(
    world: &World,
    host: &str,
    family: Family,
    answer: &DnsAnswer,
) -> Result<String, String> {
    let addresses: Vec<_> = answer.addresses().collect();
    let right = match world.form() {
        Form::Namespaces => place(host).is_some_and(|place| addresses == [place.address(family)]),
        Form::Loopback => matches!(addresses.as_slice(), [address] if address.is_loopback()),
    };
    if !right {
        return Err(format!("expected the address of {host}, saw {answer}"));
    }
    if let Some(record) = answer.answers.iter().find(|record| record.ttl > GARDEN_TTL) {
        return Err(format!(
            "{} lives {} s, at most {GARDEN_TTL} s expected",
            record.name, record.ttl
        ));
    }
    Ok(answer.to_string())
}

/// `[dns] denied_ttl` of the lab's policy, seconds.
const DENIED_TTL: u32 = 5;
/// `[dns] max_ttl` of the lab's policy, seconds.
pub(super) const GARDEN_TTL: u32 = 60;
