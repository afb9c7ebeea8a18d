//! A SIM's DNS questions, over UDP and TCP, with the answer in plain words.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use hickory_proto::{
    op::{Edns, Message, Query},
    rr::{
        Name, RecordType,
        rdata::opt::{EdnsCode, EdnsOption},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use super::{Outcome, Sim};
use crate::{clock, family::Family};

/// What carries a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// One datagram.
    Udp,
    /// One connection.
    Tcp,
}

/// One question.
#[derive(Debug, Clone)]
pub struct Question {
    /// The name, in any case, with or without its last dot.
    pub name: String,
    /// The record type, as in `A`, `AAAA`, `HTTPS`.
    pub kind: String,
    /// UDP or TCP.
    pub transport: Transport,
    /// The family the question travels in.
    pub family: Family,
    /// The server; where the SIM is configured to ask when absent.
    pub server: Option<SocketAddr>,
}

/// One record of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Owner, without its last dot.
    pub name: String,
    /// Type, as in `CNAME`.
    pub kind: String,
    /// Seconds.
    pub ttl: u32,
    /// Data in presentation form.
    pub data: String,
    address: Option<IpAddr>,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct DnsAnswer {
    /// [`Outcome::NoName`] with the response code if an answer came without an address,
    /// [`Outcome::Connected`] if it had one, anything else if no answer came.
    pub outcome: Outcome,
    /// Response code, as in `NOERROR`; empty if no answer came.
    pub rcode: String,
    /// Answer section in order.
    pub answers: Vec<Record>,
    /// The start-of-authority record of the authority section.
    pub soa: Option<Record>,
    /// Extended error code and text (RFC 8914).
    pub ede: Option<(u16, String)>,
    /// Whether the answer was cut to fit a datagram.
    pub truncated: bool,
    /// Time from question to answer.
    pub elapsed: Duration,
}

impl Question {
    /// An address question of one family, over UDP, to the SIM's own resolver in that family.
    #[must_use]
    pub fn address(name: &str, family: Family) -> Self {
        let kind = match family {
            Family::V4 => "A",
            Family::V6 => "AAAA",
        };
        Self {
            name: name.to_owned(),
            kind: kind.to_owned(),
            transport: Transport::Udp,
            family,
            server: None,
        }
    }

    /// The same question over another transport.
    #[must_use]
    pub fn over(self, transport: Transport) -> Self {
        Self { transport, ..self }
    }

    /// The same question for another record type.
    #[must_use]
    pub fn of_kind(self, kind: &str) -> Self {
        Self { kind: kind.to_owned(), ..self }
    }

    /// The same question to a server of the SIM's choice.
    #[must_use]
    pub fn to(self, server: SocketAddr) -> Self {
        Self { server: Some(server), ..self }
    }
}

impl DnsAnswer {
    pub(super) fn none(outcome: Outcome) -> Self {
        Self {
            outcome,
            rcode: String::new(),
            answers: Vec::new(),
            soa: None,
            ede: None,
            truncated: false,
            elapsed: Duration::ZERO,
        }
    }

    /// The addresses of the answer section in order.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.answers.iter().filter_map(|record| record.address)
    }

    /// Whether the name was denied as the garden denies: NXDOMAIN with the extended error "blocked"
    /// (RFC 8914 §4.16).
    #[must_use]
    pub fn is_denied(&self) -> bool {
        self.rcode == "NXDOMAIN" && self.ede.as_ref().is_some_and(|(code, _)| *code == BLOCKED)
    }
}

impl fmt::Display for DnsAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rcode.is_empty() {
            return write!(f, "{} after {} ms", self.outcome, self.elapsed.as_millis());
        }
        write!(f, "{}", self.rcode)?;
        if let Some((code, text)) = &self.ede {
            write!(f, ", EDE {code} {text:?}")?;
        }
        for record in &self.answers {
            write!(f, ", {} {} {} {}", record.name, record.ttl, record.kind, record.data)?;
        }
        write!(f, " after {} ms", self.elapsed.as_millis())
    }
}

pub(super) async fn ask(question: &Question, server: SocketAddr) -> DnsAnswer {
    let start = clock::now();
    let exchange = timeout(Sim::PATIENCE, exchange(question, server)).await;
    let elapsed = start.elapsed();
    match exchange {
        Ok(Ok(message)) => read(&message, elapsed),
        Ok(Err(error)) => DnsAnswer { elapsed, ..DnsAnswer::none(Outcome::of_socket(&error)) },
        Err(_) => DnsAnswer { elapsed, ..DnsAnswer::none(Outcome::TimedOut) },
    }
}

async fn exchange(question: &Question, server: SocketAddr) -> io::Result<Message> {
    let query = write(question)?;
    let reply = match question.transport {
        Transport::Udp => {
            let any: IpAddr = match server {
                SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            let socket = UdpSocket::bind((any, 0)).await?;
            socket.connect(server).await?;
            socket.send(&query).await?;
            let mut reply = vec![0; usize::from(u16::MAX)];
            let length = socket.recv(&mut reply).await?;
            reply.truncate(length);
            reply
        }
        Transport::Tcp => {
            let mut stream = TcpStream::connect(server).await?;
            stream.write_u16(u16::try_from(query.len()).map_err(io::Error::other)?).await?;
            stream.write_all(&query).await?;
            let length = stream.read_u16().await?;
            let mut reply = vec![0; usize::from(length)];
            stream.read_exact(&mut reply).await?;
            reply
        }
    };
    Message::from_vec(&reply).map_err(io::Error::other)
}

fn write(question: &Question) -> io::Result<Vec<u8>> {
    let mut name = Name::from_ascii(&question.name).map_err(io::Error::other)?;
    name.set_fqdn(true);
    let kind: RecordType = question.kind.parse().map_err(io::Error::other)?;
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, kind));
    let mut edns = Edns::new();
    edns.set_max_payload(EDNS_PAYLOAD);
    message.set_edns(edns);
    message.to_vec().map_err(io::Error::other)
}

fn read(message: &Message, elapsed: Duration) -> DnsAnswer {
    let answers: Vec<_> = message.answers.iter().map(record).collect();
    let soa = message.authorities.iter().find(|found| found.record_type() == RecordType::SOA);
    let ede = message.edns.as_ref().and_then(|edns| match edns.option(EdnsCode::from(EDE)) {
        Some(EdnsOption::Unknown(_, data)) => extended_error(data),
        Some(_) | None => None,
    });
    let rcode = match message.metadata.response_code.low() {
        0 => "NOERROR".to_owned(),
        1 => "FORMERR".to_owned(),
        2 => "SERVFAIL".to_owned(),
        3 => "NXDOMAIN".to_owned(),
        4 => "NOTIMP".to_owned(),
        5 => "REFUSED".to_owned(),
        other => format!("RCODE{other}"),
    };
    let outcome = if answers.iter().any(|answer| answer.address.is_some()) {
        Outcome::Connected
    } else {
        Outcome::NoName { rcode: rcode.clone(), ede: ede.as_ref().map(|(code, _)| *code) }
    };
    DnsAnswer {
        outcome,
        rcode,
        answers,
        soa: soa.map(record),
        ede,
        truncated: message.metadata.truncation,
        elapsed,
    }
}

fn record(record: &hickory_proto::rr::Record) -> Record {
    Record {
        name: record.name.to_ascii().trim_end_matches('.').to_owned(),
        kind: record.record_type().to_string(),
        ttl: record.ttl,
        data: record.data.to_string().trim_end_matches('.').to_owned(),
        address: record.data.ip_addr(),
    }
}

fn extended_error(data: &[u8]) -> Option<(u16, String)> {
    let (code, text) = data.split_first_chunk()?;
    Some((u16::from_be_bytes(*code), String::from_utf8_lossy(text).into_owned()))
}

/// Option code of an extended DNS error (RFC 8914 §2).
const EDE: u16 = 15;
/// Extended error "blocked" (RFC 8914 §4.16).
const BLOCKED: u16 = 15;
const EDNS_PAYLOAD: u16 = 1232;
