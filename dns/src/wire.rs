//! DNS messages as bytes: the gate every question passes, and the writing of every answer.
//!
//! [`read`] never panics, never allocates more than the question, and never lets two readers of
//! the same bytes disagree: what is not wholly understood is refused. Records that were not read
//! are never copied into an answer.

mod answer;
mod cookie;
mod cursor;
mod frame;
mod name;
mod packet;
mod writer;

pub use answer::{Alias, Answer, Authority, Data, Notice, Rcode};
pub use cookie::{Cookie, SERVER};
pub use name::Name;
pub(crate) use packet::Packet;

use cursor::Cursor;

/// What to do with a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Nothing: an answer would only feed a loop or an attack.
    Drop(Dropped),
    /// Answer with this error.
    Reject(Query, Rcode),
    /// Judge it.
    Ask(Query),
}

/// Why a message got no answer. The metric label is [`label`](Self::label).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dropped {
    /// Shorter than a header.
    Short,
    /// A response, not a question.
    Response,
    /// The source cannot be answered: port 0, broadcast, multicast, unspecified, or ourselves.
    Source,
    /// Longer than any question has reason to be.
    Long,
    /// The subscriber asks more than its class may.
    Rate,
    /// The answer could not be sent.
    Unsent,
    /// The gateway was stopping.
    Stopping,
}

/// What to do with the message a [`Query`] was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    Drop(Dropped),
    Reject(Rcode),
    Ask,
}

/// What is kept of a question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    id: u16,
    opcode: u8,
    recursion_desired: bool,
    checking_disabled: bool,
    question: Question,
    has_question: bool,
    edns: Option<Edns>,
}

/// The one question of a query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// The name, in the asker's letter case.
    pub name: Name,
    /// The type.
    pub record_type: u16,
    /// The class.
    pub class: u16,
}

/// What is kept of a query's OPT record (RFC 6891 section 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Edns {
    payload: u16,
    version: u8,
    dnssec_ok: bool,
    wants_structure: bool,
    cookie: Option<Cookie>,
    /// The server cookie that goes with the answer.
    given: Option<[u8; SERVER]>,
    /// Whether words of ours stay away.
    is_brief: bool,
}

/// Reads a message.
#[must_use]
pub fn read(message: &[u8]) -> Gate {
    let mut query = Query::default();
    match query.read(message) {
        Reading::Drop(reason) => Gate::Drop(reason),
        Reading::Reject(rcode) => Gate::Reject(query, rcode),
        Reading::Ask => Gate::Ask(query),
    }
}

fn counts(cursor: &mut Cursor<'_>) -> Option<[u16; 4]> {
    Some([cursor.u16()?, cursor.u16()?, cursor.u16()?, cursor.u16()?])
}

/// Reads everything after the header; `None` if any of it is malformed.
fn body(cursor: &mut Cursor<'_>, counts: [u16; 4], query: &mut Query) -> Option<()> {
    let [questions, answers, authorities, additionals] = counts;
    if questions != 1 {
        return None;
    }
    query.question.name.read(cursor)?;
    (query.question.record_type, query.question.class) = (cursor.u16()?, cursor.u16()?);
    query.has_question = true;
    for _ in 0..u32::from(answers) + u32::from(authorities) {
        if record(cursor)?.record_type == TYPE_OPT {
            return None;
        }
    }
    for _ in 0..additionals {
        let record = record(cursor)?;
        if record.record_type != TYPE_OPT {
            continue;
        }
        if query.edns.is_some() || !record.at_root {
            return None;
        }
        let Options { cookie, wants_structure } = options(record.data)?;
        let [_, version, flags, _] = record.ttl.to_be_bytes();
        let dnssec_ok = flags & EDNS_DNSSEC_OK != 0;
        let (payload, given, is_brief) = (record.class, None, false);
        let edns = Edns { payload, version, dnssec_ok, wants_structure, cookie, given, is_brief };
        query.edns = Some(edns);
    }
    cursor.is_at_end().then_some(())
}

struct RawRecord<'a> {
    at_root: bool,
    record_type: u16,
    class: u16,
    ttl: u32,
    data: &'a [u8],
}

fn record<'a>(cursor: &mut Cursor<'a>) -> Option<RawRecord<'a>> {
    let at_root = cursor.peek() == Some(0);
    name::skip(cursor)?;
    let (record_type, class, ttl) = (cursor.u16()?, cursor.u16()?, cursor.u32()?);
    let length = cursor.u16()?;
    let data = cursor.take(usize::from(length))?;
    Some(RawRecord { at_root, record_type, class, ttl, data })
}

/// What is of interest among the options of an OPT record.
#[derive(Default)]
struct Options {
    cookie: Option<Cookie>,
    /// An extended error, by which an asker says that it reads structured ones.
    wants_structure: bool,
}

/// Reads the options; `None` if they do not fill the data exactly.
fn options(data: &[u8]) -> Option<Options> {
    let mut cursor = Cursor::new(data);
    let mut options = Options::default();
    while !cursor.is_at_end() {
        let (code, length) = (cursor.u16()?, cursor.u16()?);
        let data = cursor.take(usize::from(length))?;
        // All cookies but the first are ignored (RFC 7873 section 5.2).
        if code == cookie::OPTION_COOKIE && options.cookie.is_none() {
            options.cookie = Some(Cookie::read(data)?);
        }
        options.wants_structure |= code == OPTION_EXTENDED_ERROR;
    }
    Some(options)
}

impl Query {
    /// Reads a message in place of the one before, into the memory that one took.
    pub(crate) fn read(&mut self, message: &[u8]) -> Reading {
        (self.has_question, self.edns) = (false, None);
        let mut cursor = Cursor::new(message);
        let (Some(id), Some(flags), Some(counts)) =
            (cursor.u16(), cursor.u16(), counts(&mut cursor))
        else {
            return Reading::Drop(Dropped::Short);
        };
        if flags & FLAG_RESPONSE != 0 {
            return Reading::Drop(Dropped::Response);
        }
        self.id = id;
        self.opcode = u8::try_from(flags >> OPCODE_SHIFT & OPCODE_MASK).unwrap_or_default();
        self.recursion_desired = flags & FLAG_RECURSION_DESIRED != 0;
        self.checking_disabled = flags & FLAG_CHECKING_DISABLED != 0;
        if self.opcode != OPCODE_QUERY {
            return Reading::Reject(Rcode::NotImplemented);
        }
        match body(&mut cursor, counts, self) {
            Some(()) => self.refusal().map_or(Reading::Ask, Reading::Reject),
            None => {
                // Without a whole reading there is no telling whether the OPT record was one.
                self.edns = None;
                Reading::Reject(Rcode::FormatError)
            }
        }
    }

    /// The question; absent only if it could not be read.
    #[must_use]
    pub fn question(&self) -> Option<&Question> {
        self.has_question.then_some(&self.question)
    }

    /// Whether the asker wants answers that fail validation as well (RFC 4035 section 3.2.2).
    #[must_use]
    pub fn checking_disabled(&self) -> bool {
        self.checking_disabled
    }

    /// Whether the asker wants the records that prove an answer (RFC 3225 section 3).
    #[must_use]
    pub fn dnssec_ok(&self) -> bool {
        self.edns.is_some_and(|edns| edns.dnssec_ok)
    }

    /// Whether the asker reads structured errors (draft-ietf-dnsop-structured-dns-error section
    /// 5.1).
    #[must_use]
    pub fn wants_structure(&self) -> bool {
        self.edns.is_some_and(|edns| edns.wants_structure)
    }

    /// The cookie that came with it.
    #[must_use]
    pub fn cookie(&self) -> Option<Cookie> {
        self.edns.and_then(|edns| edns.cookie)
    }

    /// Sends the asker this server cookie with its answer.
    pub(crate) fn give_cookie(&mut self, cookie: [u8; SERVER]) {
        if let Some(edns) = &mut self.edns {
            edns.given = Some(cookie);
        }
    }

    /// Leaves the text of an extended error away: an answer to somebody who may be made up is to be
    /// little longer than the question.
    pub(crate) fn be_brief(&mut self) {
        if let Some(edns) = &mut self.edns {
            edns.is_brief = true;
        }
    }

    /// Octets of the longest answer over UDP: what the asker takes, at least 512, at most
    /// [`MAX_UDP_ANSWER`].
    #[must_use]
    pub fn udp_limit(&self) -> usize {
        let payload = self.edns.map_or(0, |edns| usize::from(edns.payload));
        payload.clamp(MIN_UDP_ANSWER, MAX_UDP_ANSWER)
    }

    /// The error a well-formed query gets whatever its name is.
    fn refusal(&self) -> Option<Rcode> {
        if self.edns.is_some_and(|edns| edns.version > 0) {
            return Some(Rcode::BadVersion);
        }
        match self.question() {
            Some(question) if question.class == CLASS_IN => match question.record_type {
                TYPE_IXFR..=TYPE_MAILA => Some(Rcode::Refused),
                TYPE_OPT | TYPE_TKEY | TYPE_TSIG | 0 => Some(Rcode::FormatError),
                _ => None,
            },
            Some(_) => Some(Rcode::Refused),
            None => Some(Rcode::FormatError),
        }
    }
}

impl Dropped {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::Short,
        Self::Response,
        Self::Source,
        Self::Long,
        Self::Rate,
        Self::Unsent,
        Self::Stopping,
    ];

    /// The reason's name as a metric label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Response => "response",
            Self::Source => "source",
            Self::Long => "long",
            Self::Rate => "rate",
            Self::Unsent => "unsent",
            Self::Stopping => "stopping",
        }
    }
}

/// Octets of the longest question read: padding comes in blocks of 128 (RFC 8467 section 4.1),
/// cookies and the like take tens.
pub const MAX_QUESTION: usize = 4_096;
/// Octets of the longest answer to an unauthenticated source, and the payload we advertise: what
/// crosses every path unfragmented (DNS flag day 2020).
pub const MAX_UDP_ANSWER: usize = 1_232;
/// RFC 1035 section 4.2.1.
pub const MIN_UDP_ANSWER: usize = 512;
/// Octets of the longest answer over TCP (RFC 1035 section 4.2.2).
pub const MAX_TCP_ANSWER: usize = 65_535;

/// Address, IPv4 (RFC 1035 section 3.4.1).
pub const TYPE_A: u16 = 1;
pub(crate) const TYPE_CNAME: u16 = 5;
pub(crate) const TYPE_SOA: u16 = 6;
/// Address, IPv6 (RFC 3596 section 2.1).
pub const TYPE_AAAA: u16 = 28;
pub(crate) const TYPE_PTR: u16 = 12;
pub(crate) const TYPE_HINFO: u16 = 13;
pub(crate) const TYPE_SVCB: u16 = 64;
pub(crate) const TYPE_ANY: u16 = 255;
pub(crate) const TYPE_RESINFO: u16 = 261;
const TYPE_OPT: u16 = 41;
const TYPE_TKEY: u16 = 249;
const TYPE_TSIG: u16 = 250;
/// IXFR, AXFR, MAILB, MAILA: transfers and their obsolete kin (RFC 5936, RFC 1035 section 3.2.3).
const TYPE_IXFR: u16 = 251;
const TYPE_MAILA: u16 = 254;
pub(crate) const CLASS_IN: u16 = 1;

const FLAG_RESPONSE: u16 = 0x8000;
const FLAG_TRUNCATED: u16 = 0x0200;
const FLAG_RECURSION_DESIRED: u16 = 0x0100;
const FLAG_RECURSION_AVAILABLE: u16 = 0x0080;
const FLAG_CHECKING_DISABLED: u16 = 0x0010;
const OPCODE_SHIFT: u32 = 11;
const OPCODE_MASK: u16 = 0xf;
const OPCODE_QUERY: u8 = 0;
const EDNS_DNSSEC_OK: u8 = 0x80;
/// RFC 8914 section 2.
const OPTION_EXTENDED_ERROR: u16 = 15;

#[cfg(test)]
mod tests;
