//! DNS64: IPv6 addresses for hosts that have only IPv4 ones, behind the operator's NAT64 (RFC 6147).
//!
//! An address is made only of one that passed the screening of its own family, so that nothing is
//! reached through the NAT64 that could not be reached without it.

use std::net::IpAddr;

use policy::HostName;

use crate::{
    nat64::Nat64,
    resolver::Told,
    reverse::{self, Reverse},
    screen::Screened,
    upstream::UpstreamError,
    wire::{Alias, Name},
};

/// Whether a question for IPv6 addresses that ended so is answered with made ones.
///
/// An upstream that answers with an error gets the same as one that has no address, because many
/// name servers fail at AAAA alone (RFC 6147 section 5.1.2). One that does not answer would not be
/// quicker about IPv4.
pub(crate) fn may_synthesize(own: &Result<Told, UpstreamError>) -> bool {
    match own {
        Ok(told) => match told.screened {
            // Addresses that are refused are those of the exclusion set (RFC 6147 section 5.1.4).
            Screened::NoData { .. } | Screened::Refused => true,
            Screened::Addresses { .. } | Screened::NoName { .. } => false,
        },
        Err(UpstreamError::ResponseCode { .. }) => true,
        Err(
            UpstreamError::Busy { .. }
            | UpstreamError::Timeout
            | UpstreamError::Unreachable
            | UpstreamError::Unreadable
            | UpstreamError::BadAnswer(_),
        ) => false,
    }
}

/// The addresses of `v4` behind `nat64`, in place of `own`, which had none; `None` leaves that as it
/// is (RFC 6147 section 5.1.6).
pub(crate) fn synthesize(
    nat64: Nat64,
    own: &Result<Told, UpstreamError>,
    v4: Result<Told, UpstreamError>,
) -> Option<Told> {
    let Told { found, screened } = v4.ok()?;
    let screened = match screened {
        Screened::Addresses { addresses, ttl } => {
            let behind = |address| match address {
                IpAddr::V4(address) => nat64.embed(address).map(IpAddr::V6),
                IpAddr::V6(_) => None,
            };
            let addresses: Vec<IpAddr> = addresses.into_iter().filter_map(behind).collect();
            if addresses.is_empty() {
                return None;
            }
            Screened::Addresses { addresses, ttl: ttl.min(lifetime(own)) }
        }
        Screened::Refused => Screened::Refused,
        Screened::NoData { .. } | Screened::NoName { .. } => return None,
    };
    Some(Told { found, screened })
}

/// The reverse name of the IPv4 host behind `nat64` that `host` is the reverse name of, and the
/// alias that leads there (RFC 6147 section 5.3.1).
pub(crate) fn mapped(nat64: Nat64, host: &HostName) -> Option<(HostName, Alias)> {
    let IpAddr::V6(address) = Reverse::of(host)?.address()? else { return None };
    let host = reverse::name_of(nat64.extract(address)?)?;
    let target = Name::from_host(&host)?;
    Some((host, Alias { target }))
}

/// How long it may be taken for granted that there is no IPv6 address (RFC 6147 section 5.1.7).
fn lifetime(own: &Result<Told, UpstreamError>) -> u32 {
    match own {
        Ok(Told { screened: Screened::NoData { authority: Some(_), ttl }, .. }) => *ttl,
        Ok(_) | Err(_) => UNTOLD_LIFETIME,
    }
}

/// Seconds, where no SOA says it.
const UNTOLD_LIFETIME: u32 = 600;
