//! The watch over one QUIC path: which datagrams of a client may pass to the origin.
//!
//! Pure. Every Initial packet of the client's whole life on the path is opened: the first hello
//! names the path, and no later one may name another, be it after a Retry, after a
//! HelloRetryRequest, or of a second connection between the same ports. What cannot be opened or
//! read does not pass.

use policy::{HostName, Reason};

use super::{
    initial::{Crypto, Frames, Kind, Next, Opener, Packet, next, read_frames},
    refusal,
};
use crate::proxy::hello::{Progress, message_length, read_handshake};

/// What was seen of the clients on one path.
#[derive(Default)]
pub(crate) struct Watch {
    /// The connections whose Initial packets can be opened; the latest last.
    attempts: Vec<Attempt>,
    name: Option<HostName>,
    /// Whether the name was handed out, to be judged.
    is_named: bool,
    /// Datagrams kept back since the last release.
    kept: usize,
}

/// One connection as far as its first flight: the client chose the keys.
struct Attempt {
    version: u32,
    destination_id: Vec<u8>,
    source_id: Vec<u8>,
    /// One for each version: the server may change it once (RFC 9368 section 2).
    openers: Vec<Opener>,
    crypto: Crypto,
    /// Octets of CRYPTO frames that belong to whole hellos, and how many these are.
    read: usize,
    hellos: usize,
    /// Whether nothing has come that is not part of a whole hello.
    is_whole: bool,
}

/// What becomes of a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It passes; those that are kept stay.
    Pass,
    /// It is kept, until every hello is whole.
    Keep,
    /// It passes, behind those that were kept.
    Release,
    /// As [`Step::Release`], once this name of the first hello has been judged. Comes once, and
    /// before it nothing passes.
    Named(HostName),
    /// It is thrown away: nothing is known that it could belong to.
    Ignore,
    /// The path ends.
    Reject(Reason),
}

impl Watch {
    /// Takes a datagram of the client.
    pub(crate) fn push(&mut self, datagram: &[u8]) -> Step {
        let step = self.weigh(datagram);
        match &step {
            Step::Keep => self.kept += 1,
            Step::Release | Step::Named(_) => self.kept = 0,
            Step::Pass | Step::Ignore | Step::Reject(_) => {}
        }
        if self.kept > MAX_KEPT { Step::Reject(Reason::HelloTooLarge) } else { step }
    }

    /// A datagram that tells the client of the latest connection that it is refused.
    pub(crate) fn refusal(&self) -> Option<Vec<u8>> {
        let Attempt { version, destination_id, source_id, .. } = self.attempts.last()?;
        refusal::close(*version, destination_id, source_id)
    }

    fn weigh(&mut self, datagram: &[u8]) -> Step {
        let mut rest = datagram;
        let mut begins = false;
        loop {
            match next(&mut rest) {
                Next::Long(packet) if packet.kind == Kind::Initial => {
                    begins = true;
                    if let Err(step) = self.take(&packet, datagram.len()) {
                        return step;
                    }
                }
                Next::Long(_) => {}
                Next::Short | Next::End => break,
                Next::Unclear => return Step::Ignore,
            }
        }
        if !begins {
            // Early data may come before the rest of the hello; it waits with it.
            return match (self.is_named, self.attempts.is_empty()) {
                (true, _) => Step::Pass,
                (false, false) => Step::Keep,
                (false, true) => Step::Ignore,
            };
        }
        for attempt in &mut self.attempts {
            if let Err(reason) = attempt.read_hellos(&mut self.name) {
                return Step::Reject(reason);
            }
        }
        // What was kept belongs to any of them: none of it passes while a hello is not whole.
        if !self.attempts.iter().all(|attempt| attempt.is_whole) {
            return Step::Keep;
        }
        match &self.name {
            Some(name) if !self.is_named => {
                self.is_named = true;
                Step::Named(name.clone())
            }
            Some(_) => Step::Release,
            None => Step::Ignore,
        }
    }

    /// Opens an Initial packet and takes its frames.
    fn take(&mut self, packet: &Packet<'_>, datagram: usize) -> Result<(), Step> {
        let mut known = self.attempts.iter_mut().rev();
        let opened =
            known.find_map(|attempt| attempt.open(packet).map(|payload| (attempt, payload)));
        if let Some((attempt, payload)) = opened {
            return attempt.take(&payload);
        }
        // RFC 9000 section 14.1: a server ignores a first packet in a smaller datagram.
        let begun = (datagram >= MIN_DATAGRAM).then(|| Attempt::begin(packet)).flatten();
        let (mut attempt, payload) = begun.ok_or(Step::Ignore)?;
        attempt.take(&payload)?;
        if self.attempts.len() >= MAX_ATTEMPTS {
            // One that is not whole would begin again without the octets that were kept of it.
            let old = self.attempts.iter().position(|attempt| attempt.is_whole);
            self.attempts.remove(old.ok_or(Step::Reject(Reason::HelloTooLarge))?);
        }
        self.attempts.push(attempt);
        Ok(())
    }
}

impl Attempt {
    /// Begins with a packet that opens with the keys it brings itself.
    fn begin(packet: &Packet<'_>) -> Option<(Self, Vec<u8>)> {
        let opener = Opener::new(packet.version, packet.destination_id)?;
        let payload = opener.open(packet)?;
        let attempt = Self {
            version: packet.version,
            destination_id: packet.destination_id.to_vec(),
            source_id: packet.source_id.to_vec(),
            openers: vec![opener],
            crypto: Crypto::default(),
            read: 0,
            hellos: 0,
            is_whole: false,
        };
        Some((attempt, payload))
    }

    fn take(&mut self, payload: &[u8]) -> Result<(), Step> {
        self.is_whole = false;
        match read_frames(payload, &mut self.crypto) {
            Frames::Taken => Ok(()),
            Frames::Conflict => Err(Step::Reject(Reason::HelloChanged)),
            Frames::Foreign => Err(Step::Reject(Reason::NotTls)),
        }
    }

    /// Reads what is whole of the hellos, each of which must name `name`; the first one sets it.
    fn read_hellos(&mut self, name: &mut Option<HostName>) -> Result<(), Reason> {
        while !self.is_whole {
            let rest = self.crypto.front().get(self.read..).unwrap_or_default();
            match read_handshake(rest) {
                Progress::Complete(hello) => {
                    let named = hello.server_name();
                    if name.get_or_insert_with(|| named.clone()) != named {
                        return Err(Reason::HelloChanged);
                    }
                    self.read += message_length(rest).unwrap_or_default();
                    self.hellos += 1;
                    // One after a HelloRetryRequest (RFC 8446 section 4.1.4); there is no third.
                    if self.hellos > MAX_HELLOS {
                        return Err(Reason::HelloChanged);
                    }
                }
                Progress::Reject(reason) => return Err(reason),
                Progress::Incomplete if self.crypto.overflowed() => {
                    return Err(Reason::HelloTooLarge);
                }
                Progress::Incomplete => {
                    self.is_whole = self.hellos > 0 && rest.is_empty() && !self.crypto.has_gap();
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn open(&mut self, packet: &Packet<'_>) -> Option<Vec<u8>> {
        if let Some(payload) = self.openers.iter().find_map(|opener| opener.open(packet)) {
            return Some(payload);
        }
        if packet.version == self.version || self.openers.len() > 1 {
            return None;
        }
        let opener = Opener::new(packet.version, &self.destination_id)?;
        let payload = opener.open(packet)?;
        self.openers.push(opener);
        Some(payload)
    }
}

/// Octets of the smallest datagram that begins a connection.
const MIN_DATAGRAM: usize = 1_200;
/// Connections whose first flight is remembered.
const MAX_ATTEMPTS: usize = 3;
const MAX_HELLOS: usize = 2;
/// Datagrams that wait for the rest of a hello. One with a post-quantum key share and tickets takes
/// three; the rest is room for what is sent again.
pub(crate) const MAX_KEPT: usize = 16;

#[cfg(test)]
mod tests;
