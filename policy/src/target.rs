//! Targets: what asserts, reports and the command line ask about, written like a URL.

use std::{fmt, net::IpAddr, str::FromStr};

use crate::{
    decide::{Decision, Request, Subject, decide, decide_nameless},
    host::{HostName, InvalidHostName},
    policy::Policy,
    reason::Reason,
};

/// Something a subscriber might try to reach.
///
/// | written | asks for |
/// |---|---|
/// | `https://host[:port]` | a TLS session, port 443 unless written |
/// | `http://host[:port][/path]` | an HTTP request, port 80 unless written; the path decides nothing |
/// | `dns:host[/TYPE]` | a DNS question; the type decides nothing |
/// | `quic://host[:port]` | a QUIC connection, port 443 unless written |
/// | `tcp://host:port` | a connection that carries no name |
///
/// An address in place of the host is a target too: it is denied with `ip-literal`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    text: Box<str>,
    protocol: Protocol,
    host: Host,
    port: u16,
}

/// Why a text is not a target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTarget {
    /// No scheme, or another one.
    #[error("a target begins with https://, http://, dns:, quic:// or tcp://")]
    Scheme,
    /// The host is neither a name nor an address.
    #[error(transparent)]
    Host(#[from] InvalidHostName),
    /// The port is not a number from 1 to 65535.
    #[error("a port is a number from 1 to 65535")]
    Port,
    /// `tcp://` without a port.
    #[error("tcp:// has no usual port; write tcp://host:port")]
    NoPort,
    /// The part behind the host belongs to no target of this scheme.
    #[error("{scheme} targets end with the host and its port")]
    Tail {
        /// The scheme.
        scheme: &'static str,
    },
    /// The record type is not letters and digits.
    #[error("a record type is 1 to {} letters and digits", Target::MAX_TYPE)]
    RecordType,
    /// The text is too long.
    #[error("target has {length} octets; at most {}", Target::MAX_LENGTH)]
    TooLong {
        /// Its length in octets.
        length: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Dns,
    Http,
    Https,
    Quic,
    Tcp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Name(HostName),
    /// An address in some spelling; `None` if the spelling is not the usual one.
    Address(Option<IpAddr>),
}

impl Target {
    /// Octets in a target.
    pub const MAX_LENGTH: usize = 2_048;
    /// Octets in a record type.
    pub const MAX_TYPE: usize = 16;

    /// Reads a target.
    ///
    /// # Errors
    ///
    /// Says which part of the text is not what the type allows.
    pub fn parse(text: &str) -> Result<Self, InvalidTarget> {
        if text.len() > Self::MAX_LENGTH {
            return Err(InvalidTarget::TooLong { length: text.len() });
        }
        let (protocol, rest) = Protocol::ALL
            .into_iter()
            .find_map(|protocol| Some((protocol, strip_scheme(text, protocol.prefix())?)))
            .ok_or(InvalidTarget::Scheme)?;
        let (host, port) = match protocol {
            Protocol::Dns => {
                let (host, record) = rest.split_once('/').unwrap_or((rest, "A"));
                let fits = record.bytes().all(|octet| octet.is_ascii_alphanumeric());
                if !fits || record.is_empty() || record.len() > Self::MAX_TYPE {
                    return Err(InvalidTarget::RecordType);
                }
                (host, None)
            }
            Protocol::Http => {
                let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
                split_port(rest.get(..end).unwrap_or(rest))?
            }
            Protocol::Https | Protocol::Quic | Protocol::Tcp => {
                let bare = rest.strip_suffix('/').unwrap_or(rest);
                if bare.contains(['/', '?', '#']) {
                    return Err(InvalidTarget::Tail { scheme: protocol.prefix() });
                }
                split_port(bare)?
            }
        };
        let port = port.or_else(|| protocol.usual_port()).ok_or(InvalidTarget::NoPort)?;
        let host = match HostName::parse(host) {
            Ok(name) => Host::Name(name),
            Err(InvalidHostName::IpLiteral) => {
                Host::Address(host.trim_matches(['[', ']']).parse().ok())
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Self { text: text.into(), protocol, host, port })
    }

    /// The text it was read from.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host name, unless it is an address.
    #[must_use]
    pub fn host(&self) -> Option<&HostName> {
        match &self.host {
            Host::Name(name) => Some(name),
            Host::Address(_) => None,
        }
    }

    /// The address in place of the host name, where it is spelt in the usual way.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        match &self.host {
            Host::Name(_) => None,
            Host::Address(address) => *address,
        }
    }

    /// The protocol's name in metrics and logs.
    #[must_use]
    pub fn protocol(&self) -> &'static str {
        match self.protocol {
            Protocol::Dns => "dns",
            Protocol::Http => "http",
            Protocol::Https => "https",
            Protocol::Quic => "quic",
            Protocol::Tcp => "tcp",
        }
    }

    /// The question [`decide`] is asked; `None` for an address.
    #[must_use]
    pub fn request(&self) -> Option<Request<'_>> {
        let (host, port) = (self.host()?, self.port);
        Some(match self.protocol {
            Protocol::Dns => Request::Dns { host },
            Protocol::Http => Request::Http { host, port },
            Protocol::Https => Request::Https { host, port },
            Protocol::Quic => Request::Quic { host, port },
            Protocol::Tcp => Request::Tcp { host, port },
        })
    }

    /// Judges the target for `subject` at `now`.
    pub fn decide<'p>(
        &self,
        policy: &'p Policy,
        subject: Subject<'_>,
        now: jiff::Timestamp,
    ) -> Decision<'p> {
        match self.request() {
            Some(request) => decide(policy, subject, request, now),
            None => decide_nameless(policy, subject, Reason::IpLiteral, now),
        }
    }
}

impl Protocol {
    const ALL: [Self; 5] = [Self::Dns, Self::Http, Self::Https, Self::Quic, Self::Tcp];

    fn prefix(self) -> &'static str {
        match self {
            Self::Dns => "dns:",
            Self::Http => "http://",
            Self::Https => "https://",
            Self::Quic => "quic://",
            Self::Tcp => "tcp://",
        }
    }

    fn usual_port(self) -> Option<u16> {
        match self {
            Self::Dns => Some(53),
            Self::Http => Some(80),
            Self::Https | Self::Quic => Some(443),
            Self::Tcp => None,
        }
    }
}

impl FromStr for Target {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// Schemes are compared without case (RFC 3986 section 3.1).
fn strip_scheme<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let (head, rest) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// Parts `host[:port]`.
pub(crate) fn split_port(authority: &str) -> Result<(&str, Option<u16>), InvalidTarget> {
    // An IPv6 address keeps its colons inside brackets (RFC 3986 section 3.2.2).
    let brackets = authority.rfind(']').map_or(0, |at| at + 1);
    let (fixed, tail) = authority.split_at_checked(brackets).unwrap_or(("", authority));
    let Some(colon) = tail.rfind(':') else { return Ok((authority, None)) };
    let (Some(host), Some(port)) = (authority.get(..fixed.len() + colon), tail.get(colon + 1..))
    else {
        return Err(InvalidTarget::Port);
    };
    let digits = !port.is_empty() && port.bytes().all(|octet| octet.is_ascii_digit());
    match port.parse() {
        Ok(port) if digits && port > 0 => Ok((host, Some(port))),
        Ok(_) | Err(_) => Err(InvalidTarget::Port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_kind() {
        let name = HostName::parse("a.example").unwrap();
        let host = &name;
        for (text, request) in [
            ("https://a.example", Request::Https { host, port: 443 }),
            ("HTTPS://A.Example:8443/", Request::Https { host, port: 8443 }),
            ("http://a.example/b/c?d#e", Request::Http { host, port: 80 }),
            ("http://a.example:8080/x:y", Request::Http { host, port: 8080 }),
            ("dns:a.example", Request::Dns { host }),
            ("dns:a.example./AAAA", Request::Dns { host }),
            ("quic://a.example", Request::Quic { host, port: 443 }),
            ("tcp://a.example:22", Request::Tcp { host, port: 22 }),
        ] {
            assert_eq!(Target::parse(text).unwrap().request(), Some(request), "{text}");
        }
    }

    #[test]
    fn an_address_is_a_target_without_a_name() {
        for (text, address) in [
            ("https://192.0.2.1", "192.0.2.1".parse().ok()),
            ("https://[2001:db8::1]:8443", "2001:db8::1".parse().ok()),
            ("dns:192.0.2.1", "192.0.2.1".parse().ok()),
            ("http://0x7f000001/", None),
        ] {
            let target = Target::parse(text).unwrap();
            assert_eq!((target.request(), target.address()), (None, address), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_not_a_target() {
        let long = format!("http://a.example/{}", "x".repeat(Target::MAX_LENGTH));
        for (text, expected) in [
            ("", InvalidTarget::Scheme),
            ("a.example", InvalidTarget::Scheme),
            ("ftp://a.example", InvalidTarget::Scheme),
            ("https://", InvalidTarget::Host(InvalidHostName::Empty)),
            ("https://a..b", InvalidTarget::Host(InvalidHostName::EmptyLabel)),
            ("https://a.example:0", InvalidTarget::Port),
            ("https://a.example:65536", InvalidTarget::Port),
            ("https://a.example:+443", InvalidTarget::Port),
            ("https://a.example:", InvalidTarget::Port),
            ("https://a.example/path", InvalidTarget::Tail { scheme: "https://" }),
            ("tcp://a.example", InvalidTarget::NoPort),
            ("dns:a.example/", InvalidTarget::RecordType),
            ("dns:a.example/A-A", InvalidTarget::RecordType),
            ("dns:a.example/SEVENTEENLETTERSX", InvalidTarget::RecordType),
            (&long, InvalidTarget::TooLong { length: long.len() }),
        ] {
            assert_eq!(Target::parse(text), Err(expected), "{text}");
        }
    }
}
