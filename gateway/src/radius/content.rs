//! What the attributes of a request say (RFC 2865, 2866, 2869, 3162, 4818, 6911; 3GPP TS 29.061
//! section 16.4): addresses, identities and times, or why they cannot be believed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};
use policy::{Apn, Identity, Imsi, Msisdn};
use smallvec::SmallVec;

use super::packet::{Packet, attributes};
use crate::sims::{Identities, InvalidPrefix, Prefix};

/// Everything that a request says and that is used.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content<'p> {
    /// Acct-Status-Type.
    pub(crate) status: Option<u32>,
    /// Acct-Session-Id.
    pub(crate) session: Option<&'p [u8]>,
    /// NAS-Identifier, or the NAS's address as text.
    pub(crate) nas: Option<String>,
    /// Addresses and prefixes of the session.
    pub(crate) prefixes: SmallVec<[Prefix; 3]>,
    /// IMSI and MSISDN.
    pub(crate) identities: Identities,
    /// The access point name.
    pub(crate) apn: Option<Apn>,
    /// Event-Timestamp, in seconds since 1970.
    pub(crate) event: Option<u32>,
    /// Acct-Delay-Time, in seconds.
    pub(crate) delay: u32,
    /// Whether 3GPP-Session-Stop-Indicator is there.
    pub(crate) last_bearer: bool,
    /// Filter-Id: the state that an order sets.
    pub(crate) filter: Option<&'p [u8]>,
}

/// Why nothing of a request is used; also the metric label. The content is never repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unusable {
    /// An attribute has another length than its kind has.
    #[error("attribute {kind} has a length that it cannot have")]
    Length {
        /// The attribute's number.
        kind: u8,
    },
    /// An address that no subscriber has, or a prefix wider than a site's.
    #[error("an address cannot be a subscriber's")]
    Address(#[from] InvalidPrefix),
    /// An identity that is none.
    #[error("the IMSI cannot be one")]
    Identity,
    /// More addresses than a session has.
    #[error("more than {PREFIXES_MAX} addresses in one session")]
    TooMany,
}

impl Unusable {
    /// The fault's name in metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Length { .. } => "bad-attribute",
            Self::Address(_) => "bad-address",
            Self::Identity => "bad-identity",
            Self::TooMany => "too-many-addresses",
        }
    }
}

impl<'p> Content<'p> {
    /// Reads the attributes that are used; others are passed over.
    ///
    /// # Errors
    ///
    /// One of those that are used says something it cannot.
    pub(crate) fn read(packet: &Packet<'p>) -> Result<Self, Unusable> {
        let mut content = Self::default();
        let (mut name, mut address) = (None, None);
        for attribute in packet.attributes() {
            let (kind, value) = (attribute.kind, attribute.value);
            match kind {
                4 => address = Some(IpAddr::V4(ipv4(kind, value)?)),
                8 => content.framed(ipv4(kind, value)?)?,
                11 => content.filter = Some(value),
                26 => content.vendor(value)?,
                // The number is a help, and some networks put other things here.
                31 => content.identities.msisdn = text(value).and_then(|t| Msisdn::parse(t).ok()),
                30 => content.apn = text(value).filter(|name| name.len() <= APN_MAX).map(Apn::new),
                32 => name = text(value).map(str::to_owned),
                40 => content.status = Some(number(kind, value)?),
                41 => content.delay = number(kind, value)?,
                44 if !value.is_empty() => content.session = Some(value),
                55 => content.event = Some(number(kind, value)?),
                95 => address = Some(IpAddr::V6(ipv6(kind, value)?)),
                97 | 123 => content.add(IpNet::V6(prefix(kind, value)?))?,
                168 => content.add(IpNet::from(IpAddr::V6(ipv6(kind, value)?)))?,
                // 96, the interface identifier, tells apart what one SIM's /64 holds.
                _ => {}
            }
        }
        content.nas = name.or_else(|| address.map(|address| address.to_string()));
        Ok(content)
    }

    fn vendor(&mut self, value: &'p [u8]) -> Result<(), Unusable> {
        let (vendor, rest) = value.split_first_chunk().ok_or(Unusable::Length { kind: 26 })?;
        if u32::from_be_bytes(*vendor) != VENDOR_3GPP {
            return Ok(());
        }
        for attribute in attributes(rest) {
            match attribute.kind {
                1 => {
                    let digits = text(attribute.value).ok_or(Unusable::Identity)?;
                    let imsi = Imsi::parse(digits.trim_end_matches('\0'));
                    self.identities.imsi = Some(imsi.map_err(|_| Unusable::Identity)?);
                }
                11 => self.last_bearer = true,
                _ => {}
            }
        }
        Ok(())
    }

    /// An IPv4 address; the two that leave the choice to others (RFC 2865 section 5.8) are none.
    fn framed(&mut self, address: Ipv4Addr) -> Result<(), Unusable> {
        if [u32::MAX, u32::MAX - 1].contains(&address.to_bits()) {
            return Ok(());
        }
        self.add(IpNet::from(IpAddr::V4(address)))
    }

    fn add(&mut self, network: IpNet) -> Result<(), Unusable> {
        let prefix = Prefix::new(network)?;
        if !self.prefixes.contains(&prefix) {
            if self.prefixes.len() >= PREFIXES_MAX {
                return Err(Unusable::TooMany);
            }
            self.prefixes.push(prefix);
        }
        Ok(())
    }
}

fn number(kind: u8, value: &[u8]) -> Result<u32, Unusable> {
    value.try_into().map(u32::from_be_bytes).map_err(|_| Unusable::Length { kind })
}

fn ipv4(kind: u8, value: &[u8]) -> Result<Ipv4Addr, Unusable> {
    number(kind, value).map(Ipv4Addr::from_bits)
}

fn ipv6(kind: u8, value: &[u8]) -> Result<Ipv6Addr, Unusable> {
    let octets: [u8; 16] = value.try_into().map_err(|_| Unusable::Length { kind })?;
    Ok(octets.into())
}

/// A prefix: an octet that means nothing, the length, as many octets as are sent (RFC 3162
/// section 2.3).
fn prefix(kind: u8, value: &[u8]) -> Result<Ipv6Net, Unusable> {
    let wrong = Unusable::Length { kind };
    let (head, sent) = value.split_first_chunk::<2>().ok_or(wrong)?;
    let length = head[1];
    let needed = usize::from(length).div_ceil(8);
    let mut octets = [0; 16];
    octets
        .get_mut(..sent.len())
        .filter(|_| sent.len() >= needed)
        .ok_or(wrong)?
        .copy_from_slice(sent);
    Ipv6Net::new(octets.into(), length).map_err(|_| wrong)
}

fn text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value).ok().filter(|text| !text.is_empty())
}

/// The vendor number of 3GPP.
const VENDOR_3GPP: u32 = 10_415;
/// Addresses of one session: IPv4, a /64, delegated prefixes.
const PREFIXES_MAX: usize = 8;
/// Characters of an access point name (3GPP TS 23.003 section 9.1).
const APN_MAX: usize = 100;

#[cfg(test)]
mod tests;
