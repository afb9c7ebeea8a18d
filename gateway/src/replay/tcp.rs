//! What one client asks for on one TCP connection.

use policy::Reason;

use super::{Asked, Note, Notes, Protocol, flows::read_question, http::Requests, stream::Stream};
use crate::proxy::hello::{HelloReader, Progress};

/// The client's direction of a connection.
#[derive(Debug)]
pub(super) struct Client {
    stream: Stream,
    port: u16,
    reader: Reader,
}

#[derive(Debug)]
enum Reader {
    /// Too few octets have come to tell.
    Unknown(Vec<u8>),
    Hello(HelloReader),
    Requests(Requests),
    Questions(Vec<u8>),
}

/// Whether more is to be read of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interest {
    Goes,
    Ends,
}

impl Client {
    /// A connection to `port` whose first octet has this sequence number.
    pub(super) fn new(first: u32, port: u16) -> Self {
        Self { stream: Stream::new(first), port, reader: Reader::Unknown(Vec::new()) }
    }

    /// Takes a segment; what was asked, to `asked`.
    pub(super) fn push(
        &mut self,
        sequence: u32,
        octets: &[u8],
        asked: &mut Vec<Asked>,
        notes: &mut Notes,
    ) -> Interest {
        let mut fresh = Vec::new();
        let taken = self.stream.push(sequence, octets, &mut fresh);
        if taken.conflict {
            notes.add(Note::Conflict);
        }
        if !fresh.is_empty() && self.read(&fresh, asked, notes) == Interest::Ends {
            return Interest::Ends;
        }
        if taken.gap {
            notes.add(Note::Gap);
            return Interest::Ends;
        }
        Interest::Goes
    }

    /// Counts what never became whole, and says what a connection without an octet was for.
    pub(super) fn finish(&self, asked: &mut Vec<Asked>, notes: &mut Notes) {
        if self.stream.passed() == 0 {
            if self.stream.has_gap() {
                notes.add(Note::Gap);
            } else if NAMED_PORTS.contains(&self.port) {
                notes.add(Note::Idle);
            } else {
                asked.push(Asked::nameless(Protocol::Tcp, Reason::PortNotListed, self.port));
            }
            return;
        }
        let inside = match &self.reader {
            Reader::Unknown(_) | Reader::Hello(_) => true,
            Reader::Requests(requests) => requests.is_inside_head(),
            Reader::Questions(message) => !message.is_empty(),
        };
        if inside {
            notes.add(Note::Unfinished);
        } else if self.stream.has_gap() {
            notes.add(Note::Gap);
        }
    }

    /// The sequence number of the first octet.
    pub(super) fn first(&self) -> u32 {
        self.stream.first()
    }

    /// Octets in memory.
    pub(super) fn held(&self) -> usize {
        let passed = usize::try_from(self.stream.passed()).unwrap_or(usize::MAX);
        let reader = match &self.reader {
            // The octets, and the message in them.
            Reader::Hello(_) => passed.saturating_mul(2),
            Reader::Requests(requests) => requests.held(),
            Reader::Questions(octets) | Reader::Unknown(octets) => octets.len(),
        };
        reader.saturating_add(self.stream.held())
    }

    fn read(&mut self, fresh: &[u8], asked: &mut Vec<Asked>, notes: &mut Notes) -> Interest {
        if let Reader::Unknown(start) = &mut self.reader {
            start.extend_from_slice(fresh);
            let start = std::mem::take(start);
            match tell(&start, self.port) {
                Told::NotYet => {
                    self.reader = Reader::Unknown(start);
                    return Interest::Goes;
                }
                Told::Nameless(protocol, reason) => {
                    asked.push(Asked::nameless(protocol, reason, self.port));
                    return Interest::Ends;
                }
                Told::Hello => self.reader = Reader::Hello(HelloReader::new()),
                Told::Requests => self.reader = Reader::Requests(Requests::new(self.port)),
                Told::Questions => self.reader = Reader::Questions(Vec::new()),
            }
            return self.read_known(&start, asked, notes);
        }
        self.read_known(fresh, asked, notes)
    }

    fn read_known(&mut self, fresh: &[u8], asked: &mut Vec<Asked>, notes: &mut Notes) -> Interest {
        let port = self.port;
        match &mut self.reader {
            Reader::Unknown(_) => Interest::Goes,
            Reader::Hello(reader) => match reader.push(fresh) {
                Progress::Incomplete => Interest::Goes,
                Progress::Complete(hello) => {
                    let host = hello.server_name().clone();
                    asked.push(Asked::named(Protocol::Https, host, port));
                    Interest::Ends
                }
                Progress::Reject(reason) => {
                    asked.push(Asked::nameless(Protocol::Https, reason, port));
                    Interest::Ends
                }
            },
            Reader::Requests(requests) => {
                let mut hosts = Vec::new();
                let read = requests.push(fresh, &mut hosts);
                asked
                    .extend(hosts.into_iter().map(|host| Asked::named(Protocol::Http, host, port)));
                match read {
                    Ok(()) => Interest::Goes,
                    Err(reason) => {
                        asked.push(Asked::nameless(Protocol::Http, reason, port));
                        Interest::Ends
                    }
                }
            }
            Reader::Questions(octets) => {
                octets.extend_from_slice(fresh);
                read_questions(octets, asked, notes)
            }
        }
    }
}

enum Told {
    NotYet,
    Hello,
    Requests,
    Questions,
    Nameless(Protocol, Reason),
}

/// What a connection is, by its port and its first octets.
fn tell(start: &[u8], port: u16) -> Told {
    match (port, start.first()) {
        (DNS_PORT, _) => Told::Questions,
        (_, None) => Told::NotYet,
        (_, Some(&HANDSHAKE_RECORD)) => Told::Hello,
        (HTTP_PORT, _) => Told::Requests,
        (HTTPS_PORT, _) => Told::Nameless(Protocol::Https, Reason::NotTls),
        (_, _) if METHODS.iter().any(|method| start.starts_with(method)) => Told::Requests,
        (_, _) if METHODS.iter().any(|method| method.starts_with(start)) => Told::NotYet,
        (_, _) => Told::Nameless(Protocol::Tcp, Reason::PortNotListed),
    }
}

/// Whether these octets, met in the middle of a connection, begin what a client says.
pub(super) fn begins(start: &[u8]) -> bool {
    let hello = matches!(start, [HANDSHAKE_RECORD, 3, _, _, _, CLIENT_HELLO, ..]);
    hello || METHODS.iter().any(|method| start.starts_with(method))
}

/// Takes every whole message with its length in front (RFC 1035 section 4.2.2).
fn read_questions(octets: &mut Vec<u8>, asked: &mut Vec<Asked>, notes: &mut Notes) -> Interest {
    let mut rest = octets.as_slice();
    while let Some((length, behind)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length));
        if length > dns::wire::MAX_QUESTION {
            notes.add(Note::DnsUnreadable);
            return Interest::Ends;
        }
        let Some((message, behind)) = behind.split_at_checked(length) else { break };
        asked.extend(read_question(message, notes));
        rest = behind;
    }
    *octets = rest.to_vec();
    Interest::Goes
}

const HANDSHAKE_RECORD: u8 = 22;
const CLIENT_HELLO: u8 = 1;
pub(super) const DNS_PORT: u16 = 53;
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;
/// Ports where a connection without an octet is no attempt at anything: clients open spare ones.
const NAMED_PORTS: [u16; 3] = [DNS_PORT, HTTP_PORT, HTTPS_PORT];
/// Methods by which HTTP is told on other ports (RFC 9110 section 9.3, RFC 5789).
const METHODS: [&[u8]; 8] =
    [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"CONNECT ", b"OPTIONS ", b"PATCH "];
