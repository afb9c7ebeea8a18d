//! Answers: what one may hold, and its bytes.
//!
//! An answer is a chain of aliases that starts at the question, the addresses at its end, and
//! perhaps an SOA; anything else cannot be said. Owner names follow from the chain, so that a
//! record for another name cannot be written.

use std::net::IpAddr;

use super::{
    CLASS_IN, EDNS_DNSSEC_OK, FLAG_CHECKING_DISABLED, FLAG_RECURSION_AVAILABLE,
    FLAG_RECURSION_DESIRED, FLAG_RESPONSE, FLAG_TRUNCATED, MAX_UDP_ANSWER, Name, OPCODE_SHIFT,
    Query, TYPE_A, TYPE_AAAA, TYPE_CNAME, TYPE_OPT, TYPE_SOA,
};

/// What is said to one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The response code.
    pub rcode: Rcode,
    /// The aliases, from the question's name on.
    pub aliases: Vec<Alias>,
    /// Addresses of the last alias, or of the question's name.
    pub addresses: Vec<IpAddr>,
    /// Seconds that aliases and addresses may be kept.
    pub ttl: u32,
    /// The zone that denies, in a negative answer.
    pub authority: Option<Authority>,
    /// The extended error, told only to those who speak EDNS.
    pub notice: Option<Notice>,
}

/// One CNAME record; its owner is the alias before it, or the question's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// The canonical name.
    pub target: Name,
}

/// The SOA record of a negative answer (RFC 2308 section 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// The zone.
    pub zone: Name,
    /// Its primary server.
    pub server: Name,
    /// Its responsible person.
    pub person: Name,
    /// Serial, refresh, retry, expire.
    pub numbers: [u32; 4],
    /// Seconds that the denial may be kept; the record's TTL and its MINIMUM alike.
    pub ttl: u32,
}

/// Response codes we give (RFC 1035 section 4.1.1, RFC 6891 section 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rcode {
    /// Fine, or no such record.
    NoError,
    /// The question could not be read.
    FormatError,
    /// We or the upstream failed.
    ServerFailure,
    /// There is no such name.
    NameError,
    /// Another opcode than QUERY.
    NotImplemented,
    /// We will not say.
    Refused,
    /// An EDNS version other than 0.
    BadVersion,
}

/// Extended DNS errors we give (RFC 8914 section 4).
///
/// The text never names a rule or a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Notice {
    /// The upstream's answer was of no use.
    Other,
    /// The address is ours, not the name's.
    Forged,
    /// No policy is loaded.
    NotReady,
    /// The policy does not list it.
    Blocked,
    /// Nobody we serve.
    Prohibited,
    /// The subscriber asks more than its class may.
    TooMany,
    /// No upstream gave an answer.
    NoReachableAuthority,
    /// We are too busy to ask.
    NetworkError,
}

impl Answer {
    /// A bare response code.
    #[must_use]
    pub fn empty(rcode: Rcode) -> Self {
        Self {
            rcode,
            aliases: Vec::new(),
            addresses: Vec::new(),
            ttl: 0,
            authority: None,
            notice: None,
        }
    }

    /// Writes the answer to `query` in at most `limit` octets, which must hold a question and an
    /// OPT record.
    ///
    /// If it does not fit, the notice's text goes first, then the notice; then the answer is header,
    /// question and OPT with TC set, and no part of a record.
    #[must_use]
    pub fn write(&self, query: &Query, limit: usize) -> Vec<u8> {
        let attempts = match self.notice {
            Some(notice) => [(true, Some((notice, notice.text()))), (true, Some((notice, "")))],
            None => [(true, None); 2],
        };
        for (records, notice) in attempts.into_iter().chain([(true, None)]) {
            let message = self.attempt(query, records, notice);
            if message.len() <= limit {
                return message;
            }
        }
        self.attempt(query, false, None)
    }

    /// Tells the asker to ask again over a connection: no records, and TC set.
    pub(crate) fn truncated(query: &Query) -> Vec<u8> {
        Self::empty(Rcode::NoError).attempt(query, false, None)
    }

    fn attempt(&self, query: &Query, records: bool, notice: Option<(Notice, &str)>) -> Vec<u8> {
        let mut writer = Writer(Vec::with_capacity(MAX_UDP_ANSWER));
        let mut flags = FLAG_RESPONSE
            | FLAG_RECURSION_AVAILABLE
            | u16::from(query.opcode) << OPCODE_SHIFT
            | self.rcode.code() & HEADER_RCODE_MASK;
        if query.recursion_desired {
            flags |= FLAG_RECURSION_DESIRED;
        }
        if query.checking_disabled {
            flags |= FLAG_CHECKING_DISABLED;
        }
        if !records {
            flags |= FLAG_TRUNCATED;
        }
        let answers = if records { self.aliases.len() + self.addresses.len() } else { 0 };
        let authority = self.authority.as_ref().filter(|_| records);
        writer.u16(query.id);
        writer.u16(flags);
        writer.u16(u16::from(query.question.is_some()));
        // More records than the count can say do not fit any message either.
        writer.u16(u16::try_from(answers).unwrap_or(u16::MAX));
        writer.u16(u16::from(authority.is_some()));
        writer.u16(u16::from(query.edns.is_some()));
        if let Some(question) = &query.question {
            writer.octets(question.name.octets());
            writer.u16(question.record_type);
            writer.u16(question.class);
        }
        if records {
            self.write_answers(&mut writer);
        }
        if let Some(authority) = authority {
            authority.write(&mut writer);
        }
        if let Some(edns) = query.edns {
            writer.octets(&[0]);
            writer.u16(TYPE_OPT);
            writer.u16(u16::try_from(MAX_UDP_ANSWER).unwrap_or(u16::MAX));
            let [_, extended] = (self.rcode.code() >> HEADER_RCODE_BITS).to_be_bytes();
            let flags = if edns.dnssec_ok { EDNS_DNSSEC_OK } else { 0 };
            writer.octets(&[extended, 0, flags, 0]);
            writer.data(|writer| {
                if let Some((notice, text)) = notice {
                    writer.u16(OPTION_EXTENDED_ERROR);
                    writer.data(|writer| {
                        writer.u16(notice.code());
                        writer.octets(text.as_bytes());
                    });
                }
            });
        }
        writer.0
    }

    fn write_answers(&self, writer: &mut Writer) {
        // The question stands right after the header, each later owner in the alias before it.
        let mut owner = Owner::At(QUESTION);
        for alias in &self.aliases {
            writer.record(&owner, TYPE_CNAME, self.ttl);
            let at = writer.0.len() + 2;
            writer.data(|writer| writer.octets(alias.target.octets()));
            owner = Owner::new(at, &alias.target);
        }
        for address in &self.addresses {
            match address {
                IpAddr::V4(address) => {
                    writer.record(&owner, TYPE_A, self.ttl);
                    writer.data(|writer| writer.octets(&address.octets()));
                }
                IpAddr::V6(address) => {
                    writer.record(&owner, TYPE_AAAA, self.ttl);
                    writer.data(|writer| writer.octets(&address.octets()));
                }
            }
        }
    }
}

impl Authority {
    fn write(&self, writer: &mut Writer) {
        writer.record(&Owner::Whole(&self.zone), TYPE_SOA, self.ttl);
        writer.data(|writer| {
            writer.octets(self.server.octets());
            writer.octets(self.person.octets());
            for number in self.numbers.into_iter().chain([self.ttl]) {
                writer.octets(&number.to_be_bytes());
            }
        });
    }
}

impl Rcode {
    /// The code, extended ones included.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::NoError => 0,
            Self::FormatError => 1,
            Self::ServerFailure => 2,
            Self::NameError => 3,
            Self::NotImplemented => 4,
            Self::Refused => 5,
            Self::BadVersion => 16,
        }
    }

    /// The code's name as a metric label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::NoError => "noerror",
            Self::FormatError => "formerr",
            Self::ServerFailure => "servfail",
            Self::NameError => "nxdomain",
            Self::NotImplemented => "notimp",
            Self::Refused => "refused",
            Self::BadVersion => "badvers",
        }
    }
}

impl Notice {
    /// The INFO-CODE.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Other => 0,
            Self::Forged => 4,
            Self::NotReady => 14,
            Self::Blocked => 15,
            Self::Prohibited | Self::TooMany => 18,
            Self::NoReachableAuthority => 22,
            Self::NetworkError => 23,
        }
    }

    /// The EXTRA-TEXT.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Other => "unusable upstream answer",
            Self::Forged => "address of the portal",
            Self::NotReady => "no policy loaded",
            Self::Blocked => "not reachable without a plan",
            Self::Prohibited => "unknown subscriber",
            Self::TooMany => "too many questions",
            Self::NoReachableAuthority => "no upstream answered",
            Self::NetworkError => "too busy",
        }
    }
}

/// Where a record's owner name is.
enum Owner<'a> {
    /// Earlier in the message.
    At(u16),
    /// Nowhere a pointer could reach.
    Whole(&'a Name),
}

impl<'a> Owner<'a> {
    fn new(at: usize, name: &'a Name) -> Self {
        match u16::try_from(at) {
            Ok(at) if at < POINTER => Self::At(at),
            Ok(_) | Err(_) => Self::Whole(name),
        }
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn octets(&mut self, octets: &[u8]) {
        self.0.extend_from_slice(octets);
    }

    fn u16(&mut self, number: u16) {
        self.octets(&number.to_be_bytes());
    }

    /// Everything of a record before its data.
    fn record(&mut self, owner: &Owner<'_>, record_type: u16, ttl: u32) {
        match owner {
            Owner::At(at) => self.u16(POINTER | at),
            Owner::Whole(name) => self.octets(name.octets()),
        }
        self.u16(record_type);
        self.u16(CLASS_IN);
        self.octets(&ttl.to_be_bytes());
    }

    /// A length of two octets, and that many octets.
    fn data(&mut self, fill: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.u16(0);
        fill(self);
        let length = u16::try_from(self.0.len() - start - 2).unwrap_or(u16::MAX);
        if let Some(place) = self.0.get_mut(start..start + 2) {
            place.copy_from_slice(&length.to_be_bytes());
        }
    }
}

/// Offset of the question.
const QUESTION: u16 = 12;
/// The two bits that make a length a pointer (RFC 1035 section 4.1.4).
const POINTER: u16 = 0xc000;
/// Of a response code, the bits that stand in the header (RFC 6891 section 6.1.3).
const HEADER_RCODE_MASK: u16 = 0xf;
const HEADER_RCODE_BITS: u32 = 4;
/// RFC 8914 section 2.
const OPTION_EXTENDED_ERROR: u16 = 15;
