//! Answers: what one may hold, and its bytes.
//!
//! An answer is a chain of aliases that starts at the question, the addresses or other records at
//! its end, and perhaps an SOA; anything else cannot be said. Owner names follow from the chain, so
//! that a record for another name cannot be written.

use std::net::IpAddr;

use super::{
    MAX_UDP_ANSWER, Name, Query, TYPE_A, TYPE_AAAA, TYPE_CNAME, TYPE_SOA,
    frame::Frame,
    writer::{Owner, Writer},
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
    /// Other records of the same name.
    pub data: Vec<Data>,
    /// Seconds that aliases, addresses and other records may be kept.
    pub ttl: u32,
    /// The zone that denies, in a negative answer.
    pub authority: Option<Authority>,
    /// The extended error, told only to those who speak EDNS.
    pub notice: Option<Notice>,
    /// What the notice says instead of its own text: JSON for an asker that reads it
    /// (draft-ietf-dnsop-structured-dns-error section 4).
    pub structured: Option<Box<str>>,
}

/// A record that is no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    /// The type.
    pub record_type: u16,
    /// The data as it stands in a message, names in it written whole.
    pub octets: Vec<u8>,
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
    /// The asker must first show that it gets our answers (RFC 7873 section 5.2.3).
    BadCookie,
}

/// Extended DNS errors we give (RFC 8914 section 4).
///
/// The text never names a rule or a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Notice {
    /// The upstream's answer was of no use.
    Other,
    /// No upstream answers; this is what it said before.
    Stale,
    /// So is that there is no such name.
    StaleNoName,
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
            data: Vec::new(),
            ttl: 0,
            authority: None,
            notice: None,
            structured: None,
        }
    }

    /// Writes the answer to `query` in at most `limit` octets, which must hold a question and an
    /// OPT record.
    ///
    /// If it does not fit, the notice's text goes first, the structured one before the plain one,
    /// then the notice; then the answer is header, question and OPT with TC set, and no part of a
    /// record.
    #[must_use]
    pub fn write(&self, query: &Query, limit: usize) -> Vec<u8> {
        let mut message = Vec::with_capacity(MAX_UDP_ANSWER);
        self.write_to(query, limit, &mut message);
        message
    }

    /// As [`write`](Self::write), in place of what `message` holds.
    pub(crate) fn write_to(&self, query: &Query, limit: usize, message: &mut Vec<u8>) {
        let frame = self.frame();
        let structured = self.structured.as_deref();
        let texts = self.notice.into_iter().flat_map(|notice| {
            let texts = structured.into_iter().chain([notice.text(), ""]);
            texts.map(move |text| Some((notice, text)))
        });
        for notice in texts.chain([None]) {
            frame.write(query, notice, message, |writer| self.write_records(writer));
            if message.len() <= limit {
                return;
            }
            if notice.is_none() {
                break;
            }
        }
        Frame::truncated(self.rcode).write(query, None, message, |_| {});
    }

    /// Tells the asker to ask again over a connection: no records, and TC set.
    pub(crate) fn truncated(query: &Query, message: &mut Vec<u8>) {
        Frame::truncated(Rcode::NoError).write(query, None, message, |_| {});
    }

    pub(super) fn frame(&self) -> Frame {
        // More records than a count can say do not fit any message either.
        let answers = self.aliases.len() + self.addresses.len() + self.data.len();
        let answers = u16::try_from(answers).unwrap_or(u16::MAX);
        let authorities = u16::from(self.authority.is_some());
        Frame { rcode: self.rcode, answers, authorities, is_truncated: false }
    }

    pub(super) fn write_records(&self, writer: &mut Writer<'_>) {
        self.write_answers(writer);
        if let Some(authority) = &self.authority {
            authority.write(writer);
        }
    }

    fn write_answers(&self, writer: &mut Writer<'_>) {
        // The question stands right after the header, each later owner in the alias before it.
        let mut owner = Owner::At(QUESTION);
        for alias in &self.aliases {
            writer.record(&owner, TYPE_CNAME, self.ttl);
            let at = writer.len() + 2;
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
        for data in &self.data {
            writer.record(&owner, data.record_type, self.ttl);
            writer.data(|writer| writer.octets(&data.octets));
        }
    }
}

impl Authority {
    fn write(&self, writer: &mut Writer<'_>) {
        writer.record(&Owner::Whole(&self.zone), TYPE_SOA, self.ttl);
        writer.data(|writer| {
            writer.octets(self.server.octets());
            writer.octets(self.person.octets());
            writer.u32s(self.numbers);
            writer.u32s([self.ttl]);
        });
    }
}

impl Rcode {
    /// Every code.
    pub(crate) const ALL: [Self; 8] = [
        Self::NoError,
        Self::FormatError,
        Self::ServerFailure,
        Self::NameError,
        Self::NotImplemented,
        Self::Refused,
        Self::BadVersion,
        Self::BadCookie,
    ];

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
            Self::BadCookie => 23,
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
            Self::BadCookie => "badcookie",
        }
    }
}

impl Notice {
    /// The INFO-CODE.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Other => 0,
            Self::Stale => 3,
            Self::Forged => 4,
            Self::NotReady => 14,
            Self::Blocked => 15,
            Self::Prohibited | Self::TooMany => 18,
            Self::StaleNoName => 19,
            Self::NoReachableAuthority => 22,
            Self::NetworkError => 23,
        }
    }

    /// The EXTRA-TEXT.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Other => "unusable upstream answer",
            Self::Stale | Self::StaleNoName => "no upstream answers at the moment",
            Self::Forged => "not the name's own address",
            Self::NotReady => "no policy loaded",
            Self::Blocked => "not reachable without a plan",
            Self::Prohibited => "unknown subscriber",
            Self::TooMany => "too many questions",
            Self::NoReachableAuthority => "no upstream answered",
            Self::NetworkError => "too busy",
        }
    }
}

/// Offset of the question.
const QUESTION: u16 = 12;
