//! The origin's first octets: ServerHello, HelloRetryRequest or alert.

use super::{
    super::hello::{ContentType, Piece, Records},
    ServerStep,
};

/// Reads just enough of what a server says to know that it has settled for a hello.
#[derive(Debug)]
pub(super) struct ServerStart {
    records: Records,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Collecting the start of a handshake message, at most [`START_OCTETS`].
    Message(Vec<u8>),
    /// Within a HelloRetryRequest, with so many octets to go.
    Retry(usize),
    /// The server does not speak TLS as we know it. Nothing it says ends the watch.
    Unknown,
    Over,
}

impl ServerStart {
    pub(super) fn new() -> Self {
        Self { records: Records::new(), state: State::Message(Vec::new()) }
    }

    /// Takes the next octets of the server.
    pub(super) fn read(&mut self, mut octets: &[u8]) -> ServerStep {
        loop {
            match self.state {
                State::Message(_) | State::Retry(_) => {}
                State::Unknown => return ServerStep::Watching,
                State::Over => return ServerStep::Over,
            }
            match self.records.next(&mut octets) {
                Ok(None) => return ServerStep::Watching,
                Ok(Some(Piece::Content(ContentType::Handshake, content))) => {
                    self.read_handshake(content);
                }
                // An alert stands in one record of two octets (RFC 8446 section 6); the first is
                // its level. A warning, as for a name that an old server does not know, is no end.
                Ok(Some(Piece::Content(ContentType::Alert, content))) => {
                    let is_whole = content.len() + self.records.left() == ALERT_OCTETS;
                    if is_whole && content.first() == Some(&FATAL) {
                        self.state = State::Over;
                    }
                }
                Ok(Some(
                    Piece::Header(
                        ContentType::Handshake | ContentType::Alert | ContentType::ChangeCipherSpec,
                        _,
                    )
                    | Piece::Content(ContentType::ChangeCipherSpec, _),
                )) => {}
                Ok(Some(
                    Piece::Header(ContentType::ApplicationData, _)
                    | Piece::Content(ContentType::ApplicationData, _),
                ))
                | Err(_) => self.state = State::Unknown,
            }
        }
    }

    fn read_handshake(&mut self, mut content: &[u8]) {
        while !content.is_empty() {
            match &mut self.state {
                State::Message(start) => {
                    let wanted = START_OCTETS.saturating_sub(start.len()).min(content.len());
                    let Some((taken, rest)) = content.split_at_checked(wanted) else { return };
                    start.extend_from_slice(taken);
                    content = rest;
                    if let Some(start) = start.first_chunk() {
                        self.state = judge(start);
                    }
                }
                State::Retry(left) => {
                    let wanted = content.len().min(*left);
                    content = content.get(wanted..).unwrap_or_default();
                    *left -= wanted;
                    if *left == 0 {
                        self.state = State::Message(Vec::new());
                    }
                }
                State::Unknown | State::Over => return,
            }
        }
    }
}

/// RFC 8446 section 4.1.3: a HelloRetryRequest is a ServerHello with this random.
fn judge(start: &[u8; START_OCTETS]) -> State {
    let [kind, high, middle, low, major, _minor, random @ ..] = start;
    let length = usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low);
    match length.checked_sub(VERSION_AND_RANDOM_OCTETS) {
        _ if (*kind, *major) != (SERVER_HELLO, MAJOR_VERSION) => State::Unknown,
        None | Some(0) => State::Unknown,
        Some(left) if *random == HELLO_RETRY_REQUEST => State::Retry(left),
        Some(_) => State::Over,
    }
}

const SERVER_HELLO: u8 = 2;
const MAJOR_VERSION: u8 = 3;
const ALERT_OCTETS: usize = 2;
const FATAL: u8 = 2;
const VERSION_AND_RANDOM_OCTETS: usize = 34;
/// Octets of a ServerHello up to the end of its random.
const START_OCTETS: usize = 4 + VERSION_AND_RANDOM_OCTETS;
/// SHA-256 of `HelloRetryRequest` (RFC 8446 section 4.1.3).
pub(super) const HELLO_RETRY_REQUEST: [u8; 32] = [
    0xCF, 0x21, 0xAD, 0x74, 0xE5, 0x9A, 0x61, 0x11, 0xBE, 0x1D, 0x8C, 0x02, 0x1E, 0x65, 0xB8, 0x91,
    0xC2, 0xA2, 0x11, 0x16, 0x7A, 0xBB, 0x8C, 0x5E, 0x07, 0x9E, 0x09, 0xE2, 0xC8, 0xA8, 0x33, 0x9C,
];
