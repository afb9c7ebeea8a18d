//! `[[class.match]]`: who falls in a class.

use ipnet::IpNet;
use toml::{Spanned, de::DeValue};

use super::fields::{Fields, choice, short, text};
use crate::{
    class::ClassMatch,
    code::Code,
    diagnostic::{Fault, Findings},
    limits::{MAX_APN, MAX_MATCH_VALUES},
    sim::{Identity, IdentityRange, SimState},
};

pub(super) fn read_match(fields: &mut Fields<'_>, findings: &mut Findings) -> ClassMatch {
    let (span, before) = (fields.span(), KEYS.iter().any(|key| fields.has(key)));
    let entry = ClassMatch {
        networks: values(fields, "networks", findings, network),
        iccid: values(fields, "iccid", findings, identities),
        imsi: values(fields, "imsi", findings, identities),
        apn: values(fields, "apn", findings, apn),
        state: values(fields, "state", findings, |value| {
            let all =
                [SimState::Active, SimState::Barred, SimState::Exhausted, SimState::Unprovisioned];
            choice(value, &all.map(|state| (state.label(), state)))
        }),
        ..ClassMatch::default()
    };
    if !before {
        let message = "the match entry asks nothing, so nobody matches it";
        let help = format!("give it one of {}", KEYS.map(|key| format!("`{key}`")).join(", "));
        findings.add(span, Fault::new(Code::EmptyList, message).help(help));
    }
    entry
}

fn values<'t, T>(
    fields: &mut Fields<'t>,
    key: &'static str,
    findings: &mut Findings,
    read: impl FnMut(&'t DeValue<'t>) -> Result<T, Fault>,
) -> Option<Vec<T>> {
    let read = fields.list(key, MAX_MATCH_VALUES, findings, read);
    fields.has(key).then(|| read.into_iter().map(Spanned::into_inner).collect())
}

/// Reads an address range. Bits behind the prefix are refused: they show that one of the two
/// numbers is not the one that was meant.
pub(super) fn network(value: &DeValue<'_>) -> Result<IpNet, Fault> {
    let text = value.as_str().ok_or_else(|| super::fields::wrong_type("a string", value))?;
    let Ok(network) = text.parse::<IpNet>() else {
        let fault =
            Fault::new(Code::InvalidNetwork, format!("`{}` is not an address range", short(text)));
        let bare: Option<std::net::IpAddr> = text.parse().ok();
        return Err(match bare {
            Some(address) => fault.help(format!("write `{}`", IpNet::from(address))),
            None => fault.help("write address/prefix, such as 100.64.0.0/16 or 2001:db8::/32"),
        });
    };
    if network.trunc() != network {
        let message = format!("`{}` has bits behind its prefix", short(text));
        return Err(Fault::new(Code::InvalidNetwork, message)
            .help(format!("did you mean `{}`?", network.trunc())));
    }
    if let IpNet::V6(range) = network
        && range.network().to_ipv4_mapped().is_some()
        && range.prefix_len() >= 96
    {
        let message = "mapped addresses are folded to IPv4 and never match an IPv6 range";
        return Err(Fault::new(Code::InvalidNetwork, message).help("write the IPv4 range"));
    }
    Ok(network)
}

fn identities<I: Identity>(value: &DeValue<'_>) -> Result<IdentityRange<I>, Fault> {
    let text = value.as_str().ok_or_else(|| {
        super::fields::wrong_type("a string", value).help("put the digits between quotes")
    })?;
    IdentityRange::parse(text).map_err(|error| Fault::new(Code::InvalidIdentity, error.to_string()))
}

fn apn<'t>(value: &'t DeValue<'t>) -> Result<Box<str>, Fault> {
    let text = text(value)?;
    let fits = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'.';
    if text.is_empty() || text.len() > MAX_APN || !text.bytes().all(fits) {
        let message = format!(
            "`{}` is not an access point name: 1 to {MAX_APN} letters, digits, '-' and '.'",
            short(text)
        );
        return Err(Fault::new(Code::InvalidName, message));
    }
    Ok(text.to_ascii_lowercase().into())
}

const KEYS: [&str; 5] = ["networks", "iccid", "imsi", "apn", "state"];
