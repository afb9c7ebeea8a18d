//! The operator's own resolvers: where they are, how they are asked, in which order.
//!
//! Transport, ports, ids and 0x20 are hickory's, one pool a server. Order, failover, the hedge and
//! the overall deadline are ours, because a pool of several servers takes the first SERVFAIL for
//! an answer.

mod blame;
mod exchange;
mod hedges;
mod latency;
mod replies;
mod server;
mod sockets;
mod trust;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

pub(crate) use exchange::Upstreams;
pub(crate) use replies::BadReply;
pub use trust::{InvalidTrust, Trust};

use crate::screen::BadAnswer;

/// One far resolver, read from `udp://A[:P]`, `tcp://A[:P]`, `tls://NAME@A[:P]` or
/// `https://NAME@A[:P][/PATH]`.
///
/// `A` is an address, IPv6 in brackets. The default ports are 53, 53, 853 and 443. The certificate
/// of an encrypted upstream must be valid for `NAME` under [`Trust`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    address: SocketAddr,
    transport: Transport,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Transport {
    /// UDP, and TCP for answers that were truncated.
    Udp,
    Tcp,
    Tls {
        name: Arc<str>,
    },
    Https {
        name: Arc<str>,
        path: Arc<str>,
    },
}

/// Why a text is not an upstream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUpstream {
    /// No `scheme://` in front.
    #[error("upstream has no scheme; write udp://, tcp://, tls:// or https://")]
    NoScheme,
    /// A scheme that does not exist.
    #[error("upstream has the scheme {scheme:?}; udp, tcp, tls and https are known")]
    UnknownScheme {
        /// The text before `://`.
        scheme: Box<str>,
    },
    /// What should be an address is something else.
    #[error(
        "upstream address {address:?} is not an address with an optional port; a name cannot be used, because it would have to be resolved by this upstream"
    )]
    NotAnAddress {
        /// The text in place of the address.
        address: Box<str>,
    },
    /// An encrypted upstream without the name its certificate must have.
    #[error("encrypted upstream has no name; write NAME@ before the address")]
    NoName,
    /// The name is not one a certificate can have.
    #[error("upstream name {name:?} is not a host name")]
    NotAHostName {
        /// The text in place of the name.
        name: Box<str>,
    },
    /// Something after the address that the scheme has no use for.
    #[error("upstream ends in {rest:?}, which has no meaning for its scheme")]
    Superfluous {
        /// The text that is too much.
        rest: Box<str>,
    },
    /// No upstream at all.
    #[error("no upstream is given; at least one is needed")]
    None,
}

/// Why the upstreams gave no usable answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// As many questions are under way as the limit allows.
    #[error("{limit} questions are already under way")]
    Busy {
        /// The limit.
        limit: usize,
    },
    /// No answer in time.
    #[error("no upstream answered in time")]
    Timeout,
    /// The upstream could not be reached, or closed the connection.
    #[error("the upstream could not be reached")]
    Unreachable,
    /// The upstream failed by its own account.
    #[error("the upstream answered with rcode {rcode}")]
    ResponseCode {
        /// RFC 1035 section 4.1.1, extended by RFC 6891.
        rcode: u16,
    },
    /// The answer was truncated over TCP as well, or could not be read.
    #[error("the upstream's answer could not be read")]
    Unreadable,
    /// The answer does not follow from the question.
    #[error("the upstream's answer does not fit the question")]
    BadAnswer(#[from] BadAnswer),
}

impl Upstream {
    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl FromStr for Upstream {
    type Err = InvalidUpstream;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text.split_once("://").ok_or(InvalidUpstream::NoScheme)?;
        let (default_port, named) = match scheme {
            "udp" | "tcp" => (53, false),
            "tls" => (853, true),
            "https" => (443, true),
            other => return Err(InvalidUpstream::UnknownScheme { scheme: other.into() }),
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        if !path.is_empty() && scheme != "https" {
            return Err(InvalidUpstream::Superfluous { rest: path.into() });
        }
        let (name, address) = match authority.split_once('@') {
            Some((name, address)) if named => (Some(name), address),
            Some((name, _)) => {
                return Err(InvalidUpstream::Superfluous { rest: format!("{name}@").into() });
            }
            None if named => return Err(InvalidUpstream::NoName),
            None => (None, authority),
        };
        let address = read_address(address, default_port)?;
        let name = name.map(read_name).transpose()?;
        let transport = match (scheme, name) {
            ("tcp", _) => Transport::Tcp,
            ("tls", Some(name)) => Transport::Tls { name },
            ("https", Some(name)) => {
                let path = if path.is_empty() { DEFAULT_PATH } else { path };
                Transport::Https { name, path: path.into() }
            }
            _ => Transport::Udp,
        };
        Ok(Self { address, transport })
    }
}

fn read_address(text: &str, default_port: u16) -> Result<SocketAddr, InvalidUpstream> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, default_port));
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Ok(address),
        Ok(_) | Err(_) => Err(InvalidUpstream::NotAnAddress { address: text.into() }),
    }
}

fn read_name(text: &str) -> Result<Arc<str>, InvalidUpstream> {
    match policy::HostName::parse(text) {
        Ok(name) => Ok(name.as_str().into()),
        Err(_) => Err(InvalidUpstream::NotAHostName { name: text.into() }),
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.address;
        match &self.transport {
            Transport::Udp => write!(formatter, "udp://{address}"),
            Transport::Tcp => write!(formatter, "tcp://{address}"),
            Transport::Tls { name } => write!(formatter, "tls://{name}@{address}"),
            Transport::Https { name, path } => write!(formatter, "https://{name}@{address}{path}"),
        }
    }
}

impl UpstreamError {
    /// The kinds of failure, as the metric label.
    pub const LABELS: [&'static str; 6] =
        ["busy", "timeout", "unreachable", "response-code", "unreadable", "bad-answer"];

    /// The kind of failure, as the metric label.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Busy { .. } => "busy",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::ResponseCode { .. } => "response-code",
            Self::Unreadable => "unreadable",
            Self::BadAnswer(_) => "bad-answer",
        }
    }
}

/// RFC 8484 section 4.1.1 leaves the path open; this one is what everybody uses.
const DEFAULT_PATH: &str = "/dns-query";

#[cfg(test)]
mod tests {
    use super::Upstream;

    #[test]
    fn reads_every_form() {
        for (text, expected) in [
            ("udp://198.51.100.53", "udp://198.51.100.53:53"),
            ("udp://198.51.100.53:5353", "udp://198.51.100.53:5353"),
            ("udp://2001:db8::53", "udp://[2001:db8::53]:53"),
            ("udp://[2001:db8::53]", "udp://[2001:db8::53]:53"),
            ("tcp://[2001:db8::53]:54", "tcp://[2001:db8::53]:54"),
            ("tls://Dns.Example@198.51.100.53", "tls://dns.example@198.51.100.53:853"),
            (
                "https://dns.example@198.51.100.53",
                "https://dns.example@198.51.100.53:443/dns-query",
            ),
            (
                "https://dns.example@[2001:db8::1]:8443/q",
                "https://dns.example@[2001:db8::1]:8443/q",
            ),
        ] {
            let upstream: Upstream = text.parse().unwrap();
            assert_eq!(upstream.to_string(), expected);
            assert_eq!(expected.parse::<Upstream>().unwrap(), upstream);
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, expected) in [
            ("198.51.100.53", "no scheme"),
            ("dns://198.51.100.53", "\"dns\""),
            ("udp://dns.example", "not an address"),
            ("udp://198.51.100.53:0", "not an address"),
            ("udp://198.51.100.53/path", "\"/path\""),
            ("udp://name@198.51.100.53", "\"name@\""),
            ("tls://198.51.100.53", "no name"),
            ("tls://a b@198.51.100.53", "not a host name"),
            ("https://@198.51.100.53", "not a host name"),
        ] {
            let message = text.parse::<Upstream>().unwrap_err().to_string();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }
}
