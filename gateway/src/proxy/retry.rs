//! The watch for a second ClientHello: from the moment the hello went to the origin until the
//! origin has answered it for good.
//!
//! A server may answer a hello with a HelloRetryRequest, and some servers then act on the server
//! name of the second hello alone. So until a ServerHello or a fatal alert has been seen no
//! plaintext handshake octet of the subscriber passes before it has been judged. Octets are held or
//! passed on, never changed. A server that does not speak TLS keeps the watch on for good.

mod server;

use std::mem;

use policy::{HostName, Reason};

use super::hello::{ContentType, Hello, HelloReader, Piece, Progress, Records};
use server::ServerStart;

/// Watches both directions of one session between the hello and the server's answer.
///
/// Octets of the origin are shown to [`RetryWatch::server`] *before* they go to the subscriber:
/// then no honest client can have answered a ServerHello that the watch has not seen.
#[derive(Debug)]
pub(crate) struct RetryWatch {
    server_name: HostName,
    second_hello: SecondHello,
    records: Records,
    server: ServerStart,
}

/// What the origin's octets mean for the watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerStep {
    /// A second hello may still come.
    Watching,
    /// The server name is settled: what is held goes out, everything behind it is opaque.
    Over,
}

#[derive(Debug)]
enum SecondHello {
    NotSeen,
    Held(HelloReader),
    Passed,
}

impl RetryWatch {
    /// Begins the watch when `reader` has found `hello`, and gives the octets that go to the origin
    /// first: the hello, and what may pass of the octets that came behind it.
    ///
    /// # Errors
    ///
    /// As [`RetryWatch::client`].
    pub(crate) fn begin(hello: &Hello, reader: HelloReader) -> Result<(Self, Vec<u8>), Reason> {
        let mut watch = Self {
            server_name: hello.server_name().clone(),
            second_hello: SecondHello::NotSeen,
            records: Records::new(),
            server: ServerStart::new(),
        };
        let (mut out, behind) = reader.into_parts();
        watch.client(&behind, &mut out)?;
        Ok((watch, out))
    }

    /// Takes octets of the subscriber and appends to `out` those that may go to the origin now.
    ///
    /// Early data, ChangeCipherSpec and alerts pass at once (RFC 8446 section 4.2.10 and appendix
    /// D.4). A handshake record is held until it is a whole ClientHello for the same server.
    ///
    /// # Errors
    ///
    /// [`Reason::HelloChanged`] when a second hello names another server, or none, or cannot be
    /// read, or is followed by a third; [`Reason::NotTls`] when the octets are not TLS records.
    /// The session ends: what is in `out` by then must not be sent either.
    pub(crate) fn client(&mut self, mut octets: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
        while !octets.is_empty() {
            octets = match mem::replace(&mut self.second_hello, SecondHello::Passed) {
                SecondHello::Held(reader) => self.judge(reader, octets, out)?,
                SecondHello::NotSeen if self.is_handshake_next(octets) => {
                    self.judge(HelloReader::new(), octets, out)?
                }
                SecondHello::Passed if self.is_handshake_next(octets) => {
                    return Err(Reason::HelloChanged);
                }
                unchanged @ (SecondHello::NotSeen | SecondHello::Passed) => {
                    self.second_hello = unchanged;
                    self.pass(octets, out)?
                }
            }
        }
        Ok(())
    }

    /// Looks at octets of the origin, which go to the subscriber unchanged.
    pub(crate) fn server(&mut self, octets: &[u8]) -> ServerStep {
        self.server.read(octets)
    }

    /// Ends the watch: the octets of the subscriber that are held, to be sent to the origin next.
    pub(crate) fn into_held(self) -> Vec<u8> {
        match self.second_hello {
            SecondHello::Held(reader) => {
                let (mut held, behind) = reader.into_parts();
                held.extend_from_slice(&behind);
                held
            }
            SecondHello::NotSeen | SecondHello::Passed => Vec::new(),
        }
    }

    fn is_handshake_next(&self, octets: &[u8]) -> bool {
        let kind = octets.first().map(|&octet| ContentType::parse(octet));
        self.records.at_boundary() && kind == Some(Ok(ContentType::Handshake))
    }

    /// Holds `octets` in `reader` until the second hello is whole; gives back those behind it.
    fn judge<'a>(
        &mut self,
        mut reader: HelloReader,
        octets: &'a [u8],
        out: &mut Vec<u8>,
    ) -> Result<&'a [u8], Reason> {
        match reader.push(octets) {
            Progress::Incomplete => {
                self.second_hello = SecondHello::Held(reader);
                Ok(&[])
            }
            Progress::Complete(hello) if *hello.server_name() == self.server_name => {
                let (second, behind) = reader.into_parts();
                out.extend_from_slice(&second);
                let taken = octets.len().saturating_sub(behind.len());
                Ok(octets.get(taken..).unwrap_or_default())
            }
            Progress::Complete(_) | Progress::Reject(_) => Err(Reason::HelloChanged),
        }
    }

    /// Passes one piece of a record that is no handshake; gives back the octets behind it.
    fn pass<'a>(&mut self, mut octets: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], Reason> {
        match self.records.next(&mut octets) {
            Ok(Some(Piece::Header(_, piece) | Piece::Content(_, piece))) => {
                out.extend_from_slice(piece);
                Ok(octets)
            }
            Ok(None) => Ok(&[]),
            Err(_) => Err(Reason::NotTls),
        }
    }
}

#[cfg(test)]
mod tests;
