//! What the resolver says about the node it runs on: its NAT64, and where it is reached with
//! encryption (discovery of designated resolvers, RFC 9462).

use std::net::{IpAddr, SocketAddr};

use policy::HostName;

use crate::{
    address::{self, RefusedAddress},
    encrypted::{Dialect, Identity},
    nat64::Nat64,
    wire::{Data, Name, TYPE_RESINFO, TYPE_SVCB},
};

/// The node, as far as answers tell of it.
#[derive(Debug, Default)]
pub(crate) struct Site {
    pub(crate) nat64: Option<Nat64>,
    /// The best first.
    pub(crate) doors: Vec<PublicDoor>,
    /// The proxy, where answers have to lead to it.
    pub(crate) leads_to: Vec<IpAddr>,
}

/// An encrypted listener that may be named to subscribers.
#[derive(Debug)]
pub(crate) struct PublicDoor {
    dialect: Dialect,
    identity: Identity,
    /// The first name of the certificate; no door is named without one.
    name: HostName,
    at: SocketAddr,
    /// The port subscribers use; every destination leads here.
    steered_port: Option<u16>,
}

/// A name of the node itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnName {
    /// What the certificate names.
    Host,
    /// `_dns.` before that (RFC 9462 section 5).
    Designation,
}

impl Site {
    /// What `host` is of ours, if anything.
    pub(crate) fn own(&self, host: &HostName) -> Option<OwnName> {
        self.doors.iter().find_map(|door| {
            if *host == door.name {
                return Some(OwnName::Host);
            }
            let rest = host.as_str().strip_prefix(DESIGNATION)?;
            (rest == door.name.as_str()).then_some(OwnName::Designation)
        })
    }

    /// The records that name our encrypted listeners to someone who asked `to`, those called
    /// `only` or all. A listener is named only to those who can verify it: its certificate must
    /// hold the address that was asked (RFC 9462 section 4.2), unless that is a private one
    /// (section 4.3).
    pub(crate) fn designation(&self, to: Option<IpAddr>, only: Option<&str>) -> Vec<Data> {
        let doors =
            self.doors.iter().filter(|door| only.is_none_or(|name| name == door.name.as_str()));
        let Some(to) = to.map(|to| to.to_canonical()) else { return Vec::new() };
        doors
            .filter(|door| door.serves(to) && door.can_be_verified(to))
            .zip(1..)
            .filter_map(|(door, priority)| door.record(priority, to))
            .collect()
    }

    /// Where our own host is for someone who asked `to`: there.
    pub(crate) fn address(&self, host: &HostName, to: Option<IpAddr>) -> Option<IpAddr> {
        let to = to?.to_canonical();
        self.doors.iter().any(|door| *host == door.name && door.serves(to)).then_some(to)
    }

    /// What the resolver can do (RFC 9606 section 5): which extended errors it tells.
    pub(crate) fn information() -> Data {
        let mut octets = Vec::new();
        push_counted(&mut octets, EXTENDED_ERRORS);
        Data { record_type: TYPE_RESINFO, octets }
    }
}

impl PublicDoor {
    /// The listener `at`, if its certificate has a name that can be told.
    pub(crate) fn new(
        dialect: Dialect,
        identity: &Identity,
        at: SocketAddr,
        steered_port: Option<u16>,
    ) -> Option<Self> {
        let (identity, name) = (identity.clone(), identity.name()?);
        Some(Self { dialect, identity, name, at, steered_port })
    }

    /// Whether what is sent to the address `to` arrives here.
    fn serves(&self, to: IpAddr) -> bool {
        let listens = self.at.ip() == to
            || self.at.ip().is_unspecified() && self.at.is_ipv4() == to.is_ipv4();
        listens || self.steered_port.is_some() && self.at.is_ipv4() == to.is_ipv4()
    }

    fn can_be_verified(&self, to: IpAddr) -> bool {
        let is_private = match address::refused(to) {
            Some(
                RefusedAddress::Private | RefusedAddress::UniqueLocal | RefusedAddress::LinkLocal,
            ) => true,
            Some(_) | None => false,
        };
        is_private || self.identity.holds(to)
    }

    /// The SVCB record (RFC 9460 section 2.2, RFC 9461).
    fn record(&self, priority: u16, to: IpAddr) -> Option<Data> {
        let mut octets = priority.to_be_bytes().to_vec();
        octets.extend_from_slice(Name::from_host(&self.name)?.octets());
        let mut parameter = |key: u16, value: &[u8]| {
            octets.extend_from_slice(&key.to_be_bytes());
            octets.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
            octets.extend_from_slice(value);
        };
        let mut protocols = Vec::new();
        push_counted(&mut protocols, self.dialect.alpn());
        parameter(KEY_ALPN, &protocols);
        let port = self.steered_port.unwrap_or_else(|| self.at.port());
        if port != self.dialect.port() {
            parameter(KEY_PORT, &port.to_be_bytes());
        }
        match to {
            IpAddr::V4(to) => parameter(KEY_IPV4_HINT, &to.octets()),
            IpAddr::V6(to) => parameter(KEY_IPV6_HINT, &to.octets()),
        }
        if self.dialect == Dialect::Https {
            parameter(KEY_DOH_PATH, DOH_PATH);
        }
        Some(Data { record_type: TYPE_SVCB, octets })
    }
}

/// A text of at most 255 octets behind its length.
fn push_counted(octets: &mut Vec<u8>, text: &[u8]) {
    octets.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    octets.extend(text.iter().take(usize::from(u8::MAX)));
}

/// What stands before the name of a resolver in a question for its designation (RFC 9462 section 5).
pub(crate) const DESIGNATION: &str = "_dns.";
/// RFC 9460 section 14.3.2.
const KEY_ALPN: u16 = 1;
const KEY_PORT: u16 = 3;
const KEY_IPV4_HINT: u16 = 4;
const KEY_IPV6_HINT: u16 = 6;
/// RFC 9461 section 5.
const KEY_DOH_PATH: u16 = 7;
/// The path of [`crate::encrypted`], as a template (RFC 6570).
const DOH_PATH: &[u8] = b"/dns-query{?dns}";
/// The codes of [`crate::wire::Notice`].
const EXTENDED_ERRORS: &[u8] = b"exterr=0,3-4,14-15,18-19,22-23";
