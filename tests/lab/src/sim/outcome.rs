//! How an attempt of a SIM ended, as the SIM could tell.

use std::{
    fmt,
    io::{self, ErrorKind},
    time::Duration,
};

use http::{HeaderMap, StatusCode};
use hyper::body::Bytes;

use crate::origin::{ADDRESS_HEADER, HOST_HEADER};

/// How an attempt ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// An HTTP answer came, from a host or from the gateway itself.
    Answered(Box<Answer>),
    /// A connection was made, or a datagram was answered.
    Connected,
    /// DNS gave no address.
    NoName {
        /// The response code, as in `NXDOMAIN`.
        rcode: String,
        /// The extended error, if one came (RFC 8914).
        ede: Option<u16>,
    },
    /// A TLS alert with this number came.
    TlsAlert(u8),
    /// The network or the far end refused.
    Refused(ErrorKind),
    /// The connection was closed without an answer.
    Closed,
    /// Nothing happened within the SIM's patience.
    TimedOut,
    /// Something a phone would not expect, such as a certificate of another host.
    Broken(String),
}

/// An HTTP answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

/// An outcome and the time it took.
#[derive(Debug, Clone)]
pub struct Seen {
    /// How it ended.
    pub outcome: Outcome,
    /// Time from the first packet of the attempt.
    pub elapsed: Duration,
}

impl Answer {
    /// The host of the emulated Internet that answered; `None` if the gateway did.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.header(HOST_HEADER)
    }

    /// The address and port of the emulated Internet the request came in on.
    #[must_use]
    pub fn address(&self) -> Option<&str> {
        self.header(ADDRESS_HEADER)
    }

    /// One header as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Seen {
    /// The host of the emulated Internet that answered.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Answered(answer) => answer.host(),
            Outcome::Connected
            | Outcome::NoName { .. }
            | Outcome::TlsAlert(_)
            | Outcome::Refused(_)
            | Outcome::Closed
            | Outcome::TimedOut
            | Outcome::Broken(_) => None,
        }
    }

    /// Whether the attempt was turned away in a way a phone notices, within
    /// [`AT_ONCE`](Self::AT_ONCE). An answer counts if the gateway gave it and no host did.
    #[must_use]
    pub fn is_refused_at_once(&self) -> bool {
        let refused = match &self.outcome {
            Outcome::Answered(answer) => answer.host().is_none() && !answer.status.is_success(),
            Outcome::NoName { .. }
            | Outcome::TlsAlert(_)
            | Outcome::Refused(_)
            | Outcome::Closed => true,
            Outcome::Connected | Outcome::TimedOut | Outcome::Broken(_) => false,
        };
        refused && self.elapsed < Self::AT_ONCE
    }

    /// What "at once" means. A silent drop costs an app tens of seconds; this is generous for a
    /// machine under load.
    pub const AT_ONCE: Duration = Duration::from_millis(500);
}

impl Outcome {
    /// Reads the error of a socket, with a TLS alert inside if there is one.
    pub(crate) fn of_socket(error: &io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(tls) = tls {
            if let rustls::Error::AlertReceived(alert) = tls {
                return Self::TlsAlert(u8::from(*alert));
            }
            return Self::Broken(tls.to_string());
        }
        let kind = error.kind();
        if kind == ErrorKind::TimedOut {
            Self::TimedOut
        } else if CLOSINGS.contains(&kind) {
            Self::Closed
        } else {
            Self::Refused(kind)
        }
    }

    /// Reads the error of an HTTP client.
    pub(crate) fn of_http(error: &hyper::Error) -> Self {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(inner) = cause {
            if let Some(socket) = inner.downcast_ref::<io::Error>() {
                return Self::of_socket(socket);
            }
            cause = inner.source();
        }
        if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
            return Self::Closed;
        }
        Self::Broken(error.to_string())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(answer) => match answer.host() {
                Some(host) => write!(f, "{} from {host}", answer.status.as_u16()),
                None => write!(f, "{} from the gateway", answer.status.as_u16()),
            },
            Self::Connected => f.write_str("connected"),
            Self::NoName { rcode, ede: Some(ede) } => write!(f, "{rcode}, EDE {ede}"),
            Self::NoName { rcode, ede: None } => write!(f, "{rcode}, no EDE"),
            Self::TlsAlert(alert) => write!(f, "TLS alert {alert}"),
            Self::Refused(kind) => write!(f, "refused: {kind}"),
            Self::Closed => f.write_str("closed"),
            Self::TimedOut => f.write_str("nothing, timed out"),
            Self::Broken(what) => write!(f, "broken: {what}"),
        }
    }
}

/// How an end of a connection shows in a socket that was open.
const CLOSINGS: [ErrorKind; 3] =
    [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} after {} ms", self.outcome, self.elapsed.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, host: Option<&str>) -> Outcome {
        let mut headers = HeaderMap::new();
        if let Some(host) = host {
            headers.insert(HOST_HEADER, host.parse().unwrap());
        }
        let status = StatusCode::from_u16(status).unwrap();
        Outcome::Answered(Box::new(Answer { status, headers, body: Bytes::new() }))
    }

    fn refused(outcome: Outcome, elapsed: Duration) -> bool {
        Seen { outcome, elapsed }.is_refused_at_once()
    }

    #[test]
    fn only_a_refusal_that_a_phone_notices_in_time_is_one() {
        let soon = Seen::AT_ONCE - Duration::from_millis(1);
        assert!(refused(Outcome::TlsAlert(112), soon));
        assert!(!refused(Outcome::TlsAlert(112), Seen::AT_ONCE));
        assert!(refused(Outcome::Refused(ErrorKind::ConnectionRefused), soon));
        assert!(refused(Outcome::Closed, soon));
        assert!(!refused(Outcome::TimedOut, soon));
        assert!(!refused(Outcome::Connected, soon));
    }

    #[test]
    fn an_answer_refuses_only_if_the_gateway_gave_it() {
        assert!(refused(answer(302, None), Duration::ZERO));
        assert!(!refused(answer(302, Some("www.bing.com")), Duration::ZERO));
        assert!(!refused(answer(200, None), Duration::ZERO));
    }

    #[test]
    fn an_alert_is_found_inside_a_socket_error() {
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::UnrecognisedName);
        let outcome = Outcome::of_socket(&io::Error::new(ErrorKind::InvalidData, alert));
        assert!(matches!(outcome, Outcome::TlsAlert(112)), "{outcome}");
        let reset = Outcome::of_socket(&ErrorKind::ConnectionReset.into());
        assert!(matches!(reset, Outcome::Closed), "{reset}");
    }
}
