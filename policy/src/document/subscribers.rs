//! `[[class.match]]`: who falls in a class.

use std::ops::Range;

use ipnet::IpNet;
use toml::{Spanned, de::DeValue};

use super::{
    fields::{Fields, choice, short, text},
    path,
};
use crate::{
    class::ClassMatch,
    code::Code,
    diagnostic::{Fault, Findings},
    limits::{MAX_APN, MAX_MATCH_VALUES},
    sim::{Iccid, Identity, IdentityRange, Imsi, SimState, read_ranges},
};

/// One match entry, as it was written.
#[derive(Debug)]
pub(crate) struct Match<'t> {
    pub(crate) span: Range<usize>,
    /// Everything but the identities, which may stand in files.
    pub(crate) entry: ClassMatch,
    pub(crate) iccid: Identities<'t, Iccid>,
    pub(crate) imsi: Identities<'t, Imsi>,
}

/// Identities of one kind: those of the document, and the file that holds more.
#[derive(Debug)]
pub(crate) struct Identities<'t, I> {
    /// Whether one of the two keys is written, well or badly.
    pub(crate) written: bool,
    pub(crate) ranges: Vec<Spanned<IdentityRange<I>>>,
    pub(crate) file: Option<Spanned<&'t str>>,
}

pub(super) fn read_match<'t>(fields: &mut Fields<'t>, findings: &mut Findings) -> Match<'t> {
    let (span, before) = (fields.span(), KEYS.iter().any(|key| fields.has(key)));
    let entry = Match {
        entry: ClassMatch {
            networks: values(fields, "networks", findings, network),
            apn: values(fields, "apn", findings, apn),
            state: values(fields, "state", findings, |value| {
                choice(value, &SimState::ALL.map(|state| (state.label(), state)))
            }),
            ..ClassMatch::default()
        },
        iccid: Identities::read("iccid", "iccid_file", fields, findings),
        imsi: Identities::read("imsi", "imsi_file", fields, findings),
        span: span.clone(),
    };
    if !before {
        let message = "the match entry asks nothing, so nobody matches it";
        let help = format!("give it one of {}", KEYS.map(|key| format!("`{key}`")).join(", "));
        findings.add(span, Fault::new(Code::EmptyList, message).help(help));
    }
    entry
}

impl<'t, I: Identity> Identities<'t, I> {
    fn read(
        key: &'static str,
        file: &'static str,
        fields: &mut Fields<'t>,
        findings: &mut Findings,
    ) -> Self {
        let read = fields.list(key, MAX_MATCH_VALUES, findings, |value| {
            let text = value.as_str().ok_or_else(|| {
                super::fields::wrong_type("a string", value).help("put the digits between quotes")
            })?;
            read_ranges(text).map_err(|error| Fault::new(Code::InvalidIdentity, error.to_string()))
        });
        let ranges = read.into_iter().flat_map(|read| {
            let span = read.span();
            read.into_inner().into_iter().map(move |range| Spanned::new(span.clone(), range))
        });
        Self {
            ranges: ranges.collect(),
            file: fields.get(file, findings, path),
            written: fields.has(key) || fields.has(file),
        }
    }
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

const KEYS: [&str; 7] = ["networks", "iccid", "iccid_file", "imsi", "imsi_file", "apn", "state"];
