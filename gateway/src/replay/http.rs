//! The requests of one HTTP/1 connection, every one of them; bodies are stepped over.

use policy::{HostName, Reason};

use crate::proxy::http::head::{Body, HeadFault, HeadProgress, HeadReader};

/// Reads requests one after the other.
#[derive(Debug)]
pub(super) struct Requests {
    port: u16,
    state: State,
    /// Octets of the head that is being read.
    held: usize,
}

#[derive(Debug)]
enum State {
    Head(HeadReader),
    Body(u64),
    Chunks(Chunk),
}

/// Where in a chunked body we are (RFC 9112 section 7.1).
#[derive(Clone, Copy, Debug)]
enum Chunk {
    Size {
        value: u64,
        digits: bool,
    },
    Extension {
        value: u64,
    },
    Data(u64),
    /// Octets of the trailer's present line.
    Trailer(u32),
}

impl Requests {
    pub(super) fn new(port: u16) -> Self {
        Self { port, state: State::Head(HeadReader::default()), held: 0 }
    }

    /// Takes what arrived; the host of each head that ended in it, to `hosts`.
    ///
    /// # Errors
    ///
    /// A request that the gateway would refuse; nothing behind it can be read.
    pub(super) fn push(&mut self, octets: &[u8], hosts: &mut Vec<HostName>) -> Result<(), Reason> {
        let mut behind;
        let mut rest = octets;
        while !rest.is_empty() {
            match &mut self.state {
                State::Body(0) => self.state = State::Head(HeadReader::default()),
                State::Body(left) => {
                    let step = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left = left.saturating_sub(u64::try_from(step).unwrap_or(u64::MAX));
                    rest = rest.get(step..).unwrap_or_default();
                }
                State::Chunks(chunk) => {
                    if chunk.step(&mut rest).ok_or(Reason::NoHost)? {
                        self.state = State::Head(HeadReader::default());
                    }
                }
                State::Head(reader) => match reader.push(rest, self.port) {
                    HeadProgress::Incomplete => {
                        self.held = self.held.saturating_add(rest.len());
                        return Ok(());
                    }
                    HeadProgress::Reject(fault) => return Err(reason(fault)),
                    HeadProgress::Complete(head) => {
                        hosts.push(head.host);
                        let next = match head.body {
                            Body::Length(length) => State::Body(length),
                            Body::Chunked => State::Chunks(Chunk::START),
                        };
                        let State::Head(reader) = std::mem::replace(&mut self.state, next) else {
                            return Ok(());
                        };
                        behind = reader.into_octets();
                        self.held = 0;
                        rest = behind.get(head.length..).unwrap_or_default();
                    }
                },
            }
        }
        Ok(())
    }

    /// Octets in memory.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Whether a request has begun and not ended its head.
    pub(super) fn is_inside_head(&self) -> bool {
        matches!(&self.state, State::Head(reader) if !reader.is_empty())
    }
}

impl Chunk {
    const START: Self = Self::Size { value: 0, digits: false };

    /// Takes from `rest`; whether the body ended. `None` if this is no chunked body.
    fn step(&mut self, rest: &mut &[u8]) -> Option<bool> {
        if let Self::Data(left) = self {
            let step = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
            *left -= u64::try_from(step).ok()?;
            *rest = rest.get(step..)?;
            if *left == 0 {
                *self = Self::START;
            }
            return Some(false);
        }
        let (&octet, behind) = rest.split_first()?;
        *rest = behind;
        *self = match (*self, octet) {
            (Self::Data(left), _) => Self::Data(left),
            (Self::Size { value, .. }, octet) if octet.is_ascii_hexdigit() => {
                let digit = u64::from(char::from(octet).to_digit(16)?);
                Self::Size { value: value.checked_mul(16)?.checked_add(digit)?, digits: true }
            }
            (Self::Size { digits: true, value }, b'\n') | (Self::Extension { value }, b'\n') => {
                match value {
                    0 => Self::Trailer(0),
                    // The line end behind the data belongs to it.
                    value => Self::Data(value.checked_add(2)?),
                }
            }
            (Self::Size { digits: true, value }, b'\r' | b';' | b' ' | b'\t') => {
                Self::Extension { value }
            }
            (Self::Size { .. }, _) => return None,
            (Self::Extension { value }, _) => Self::Extension { value },
            (Self::Trailer(0), b'\n') => return Some(true),
            (Self::Trailer(_), b'\n') => Self::Trailer(0),
            (Self::Trailer(length), b'\r') => Self::Trailer(length),
            (Self::Trailer(length), _) => Self::Trailer(length.saturating_add(1)),
        };
        Some(false)
    }
}

fn reason(fault: HeadFault) -> Reason {
    match fault {
        HeadFault::Malformed | HeadFault::Version => Reason::NoHost,
        HeadFault::TooLarge => Reason::Limit,
        HeadFault::Method => Reason::MethodNotAllowed,
        HeadFault::Host(reason) => reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIPELINE: &[u8] = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n\
        POST / HTTP/1.1\r\nHost: b.example\r\nContent-Length: 5\r\n\r\nGET /\
        POST / HTTP/1.1\r\nHost: c.example\r\nTransfer-Encoding: chunked\r\n\r\n\
        4;x=y\r\nGET \r\na\r\n0123456789\r\n0\r\nX: y\r\n\r\n\
        GET / HTTP/1.1\r\nHost: d.example:80\r\n\r\n";

    #[test]
    fn finds_the_host_of_every_request_however_it_is_cut() {
        for size in 1..PIPELINE.len() {
            let (mut requests, mut hosts) = (Requests::new(80), Vec::new());
            for part in PIPELINE.chunks(size) {
                requests.push(part, &mut hosts).unwrap();
            }
            let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
            assert_eq!(hosts, ["a.example", "b.example", "c.example", "d.example"], "{size}");
            assert!(!requests.is_inside_head());
        }
    }

    #[test]
    fn ends_at_what_the_gateway_refuses() {
        for (text, expected) in [
            (
                "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n",
                Reason::MethodNotAllowed,
            ),
            ("GET / HTTP/1.1\r\n\r\n", Reason::NoHost),
            ("GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n", Reason::BadHost),
            ("GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n", Reason::IpLiteral),
            ("PRI * HTTP/2.0\r\n\r\n", Reason::NoHost),
        ] {
            let (mut requests, mut hosts) = (Requests::new(80), Vec::new());
            assert_eq!(requests.push(text.as_bytes(), &mut hosts), Err(expected), "{text}");
            assert!(hosts.is_empty());
        }
    }
}
