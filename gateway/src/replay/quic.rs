//! The first flight of a QUIC client in a capture, and the hello in it.

use policy::{HostName, Reason};

use crate::proxy::{
    hello::{Progress, read_handshake},
    quic::initial::{Crypto, Frames, Kind, Next, Opener, Packet, next, read_frames},
};

/// The first flight of one QUIC connection.
pub(super) struct Initials {
    opener: Option<Opener>,
    crypto: Crypto,
    datagrams: usize,
}

/// How far the hello has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Opened {
    /// More datagrams are needed.
    Incomplete,
    /// The hello names this server.
    Named(HostName),
    /// No continuation can name a server.
    Nameless(Reason),
}

/// What one datagram showed beside the hello.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Initial packets that did not open.
    pub(super) unopened: u64,
    /// Whether octets of the hello came twice and differed.
    pub(super) conflict: bool,
}

impl Initials {
    pub(super) fn new() -> Self {
        Self { opener: None, crypto: Crypto::default(), datagrams: 0 }
    }

    /// Takes a datagram of the client.
    pub(super) fn push(&mut self, datagram: &[u8], seen: &mut Seen) -> Opened {
        self.datagrams += 1;
        let mut rest = datagram;
        while let Next::Long(packet) = next(&mut rest) {
            if packet.kind != Kind::Initial {
                continue;
            }
            match self.open(&packet) {
                Some(payload) => {
                    seen.conflict |= read_frames(&payload, &mut self.crypto) == Frames::Conflict;
                }
                None => seen.unopened += 1,
            }
        }
        match read_handshake(self.crypto.front()) {
            Progress::Complete(hello) => Opened::Named(hello.server_name().clone()),
            Progress::Reject(reason) => Opened::Nameless(reason),
            Progress::Incomplete if self.crypto.overflowed() => {
                Opened::Nameless(Reason::HelloTooLarge)
            }
            Progress::Incomplete if self.datagrams >= MAX_DATAGRAMS => {
                Opened::Nameless(Reason::HelloTimeout)
            }
            Progress::Incomplete => Opened::Incomplete,
        }
    }

    /// Octets in memory.
    pub(super) fn held(&self) -> usize {
        self.crypto.held()
    }

    /// Whether a part of the hello has come.
    pub(super) fn has_begun(&self) -> bool {
        !self.crypto.is_empty()
    }

    fn open(&mut self, packet: &Packet<'_>) -> Option<Vec<u8>> {
        if let Some(payload) = self.opener.as_ref().and_then(|opener| opener.open(packet)) {
            return Some(payload);
        }
        // The first packet, or the first after a Retry, which chooses new keys.
        let opener = Opener::new(packet.version, packet.destination_id)?;
        let payload = opener.open(packet)?;
        self.opener = Some(opener);
        Some(payload)
    }
}

/// Datagrams within which a hello must be whole.
const MAX_DATAGRAMS: usize = 64;
