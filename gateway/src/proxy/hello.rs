//! The ClientHello reader: octets of a new connection in, the server name or a refusal out.
//!
//! Pure, incremental and strict. It never decides whether a name is allowed, never changes or
//! drops an octet, and never reads past the hello. What it cannot read with certainty it refuses:
//! there is no result that means "unknown, go on".

mod message;
mod record;

use policy::{HostName, Reason};

pub(crate) use message::{message_length, read_handshake};
pub(crate) use record::{ContentType, Piece, Records};

/// Collects the first octets of a TLS connection until the ClientHello is whole.
///
/// Keeps every octet, so that the origin gets exactly the octets that were judged.
#[derive(Debug)]
pub(crate) struct HelloReader {
    octets: Vec<u8>,
    read: usize,
    records: Records,
    message: Vec<u8>,
}

/// How far a hello has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Everything so far is right; more octets are needed.
    Incomplete,
    /// The hello is whole.
    Complete(Hello),
    /// No continuation can make this a hello that may pass: [`Reason::NotTls`],
    /// [`Reason::HelloTooLarge`], [`Reason::NoSni`], [`Reason::BadSni`], [`Reason::IpLiteral`] or
    /// [`Reason::DuplicateExtension`].
    Reject(Reason),
}

/// The facts of a ClientHello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    server_name: HostName,
    ech: bool,
}

impl HelloReader {
    pub(crate) fn new() -> Self {
        Self { octets: Vec::new(), read: 0, records: Records::new(), message: Vec::new() }
    }

    /// Takes what arrived. The result depends on the octets so far, never on how they were cut.
    ///
    /// Until the hello is whole at most [`MAX_HELLO_OCTETS`] and [`MAX_HELLO_RECORDS`] record
    /// headers are kept; whoever goes on pushing after a [`Progress::Complete`] bounds that alone.
    pub(crate) fn push(&mut self, octets: &[u8]) -> Progress {
        self.octets.extend_from_slice(octets);
        loop {
            match read_handshake(&self.message) {
                Progress::Complete(_) if self.has_more_in_record() => {
                    return Progress::Reject(Reason::NotTls);
                }
                judged @ (Progress::Complete(_) | Progress::Reject(_)) => return judged,
                Progress::Incomplete => {}
            }
            match self.read_piece() {
                Ok(true) => {}
                Ok(false) => return Progress::Incomplete,
                Err(reason) => return Progress::Reject(reason),
            }
        }
    }

    /// Whether nothing has arrived yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    /// Whether nothing came behind the hello.
    pub(crate) fn is_spent(&self) -> bool {
        self.read == self.octets.len()
    }

    /// Everything that arrived, unchanged: the records of the hello, then what came behind them
    /// (early data, for one), which nobody has judged.
    pub(crate) fn into_parts(mut self) -> (Vec<u8>, Vec<u8>) {
        let behind = self.octets.split_off(self.read.min(self.octets.len()));
        (self.octets, behind)
    }

    /// Moves one piece of a record into the message; false when all octets have been read.
    fn read_piece(&mut self) -> Result<bool, Reason> {
        let mut unread = self.octets.get(self.read..).unwrap_or_default();
        let before = unread.len();
        let piece = self.records.next(&mut unread).map_err(|_| Reason::NotTls)?;
        match piece {
            None => return Ok(false),
            Some(Piece::Header(ContentType::Handshake, _)) => {}
            Some(Piece::Content(ContentType::Handshake, content)) => {
                self.message.extend_from_slice(content);
            }
            // RFC 8446 section 5.1: no other record stands between those of one message.
            Some(Piece::Header(..) | Piece::Content(..)) => return Err(Reason::NotTls),
        }
        self.read += before - unread.len();
        if self.records.count() > MAX_HELLO_RECORDS {
            return Err(Reason::HelloTooLarge);
        }
        Ok(true)
    }

    /// A second message in the record of the hello would pass unjudged, and no client sends one.
    fn has_more_in_record(&self) -> bool {
        self.records.left() > 0 || message_length(&self.message) != Some(self.message.len())
    }
}

impl Hello {
    /// The server name (RFC 6066 section 3), in normal form.
    pub(crate) fn server_name(&self) -> &HostName {
        &self.server_name
    }

    /// Whether the hello carries an encrypted one, real or for show (RFC 9849 sections 5 and 6.2).
    /// The server name is the outer one, and the only one that counts here.
    pub(crate) fn ech(&self) -> bool {
        self.ech
    }
}

/// Octets of a ClientHello without record headers. A hello with a post-quantum key share has about
/// 1,800; the rest is room for session tickets.
pub(crate) const MAX_HELLO_OCTETS: usize = 16 * 1024;

/// Records a ClientHello may be spread over. The longest hello in the smallest records that a
/// client can negotiate (RFC 6066 section 4: 512 octets) needs 32.
pub(crate) const MAX_HELLO_RECORDS: usize = 64;

#[cfg(test)]
mod tests;
