//! The resolver the gateway asks: authoritative for every place of the emulated Internet, NXDOMAIN
//! for the rest, and a memory of every question, so that a test can prove which names never left
//! the garden.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME, SOA},
    },
};
use tokio::{
    io::{self, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinSet,
};

use crate::{family::Family, places::place};

/// The upstream resolver.
#[derive(Debug, Clone)]
pub(crate) struct Upstream(Arc<State>);

#[derive(Debug)]
struct State {
    ground: Ground,
    questions: Mutex<BTreeMap<(String, String), u64>>,
}

/// Which addresses the places have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ground {
    /// Their own, in the emulated Internet.
    Internet,
    /// All on the loopback interface.
    Loopback,
}

impl Upstream {
    pub(crate) fn new(ground: Ground) -> Self {
        Self(Arc::new(State { ground, questions: Mutex::default() }))
    }

    /// How often a name was asked for, by any type or by one (`"A"`, `"AAAA"`, …).
    pub(crate) fn questions(&self, name: &str, kind: Option<&str>) -> u64 {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let questions = self.0.questions.lock().unwrap();
        questions
            .iter()
            .filter(|((asked, asked_kind), _)| {
                *asked == name && kind.is_none_or(|kind| kind == asked_kind)
            })
            .map(|(_, count)| count)
            .sum()
    }

    /// Answers datagrams for ever.
    pub(crate) async fn serve_udp(self, socket: UdpSocket) {
        let mut buffer = vec![0; MESSAGE_LIMIT];
        loop {
            let Ok((length, peer)) = socket.recv_from(&mut buffer).await else {
                continue;
            };
            let asked = buffer.get(..length).unwrap_or_default();
            if let Some(reply) = self.answer(asked) {
                let _ = socket.send_to(&reply, peer).await;
            }
        }
    }

    /// Answers TCP questions for ever.
    pub(crate) async fn serve_tcp(self, listener: TcpListener) {
        let mut sessions = JoinSet::new();
        loop {
            if let Ok((stream, _)) = listener.accept().await {
                let upstream = self.clone();
                sessions.spawn(async move { upstream.serve_stream(stream).await });
            }
            while sessions.try_join_next().is_some() {}
        }
    }

    async fn serve_stream(self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let length = stream.read_u16().await?;
            let mut asked = vec![0; usize::from(length)];
            stream.read_exact(&mut asked).await?;
            let Some(reply) = self.answer(&asked) else {
                return Ok(());
            };
            stream.write_u16(u16::try_from(reply.len()).unwrap_or(u16::MAX)).await?;
            stream.write_all(&reply).await?;
        }
    }

    fn answer(&self, asked: &[u8]) -> Option<Vec<u8>> {
        let asked = Message::from_vec(asked).ok()?;
        let query = asked.queries.first()?;
        let name = query.name().to_ascii();
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let kind = query.query_type();
        *self.0.questions.lock().unwrap().entry((name.clone(), kind.to_string())).or_default() += 1;

        let mut reply = Message::new(asked.metadata.id, MessageType::Response, OpCode::Query);
        reply.metadata.recursion_desired = asked.metadata.recursion_desired;
        reply.metadata.recursion_available = true;
        reply.add_query(query.clone());
        match self.0.ground.records(&name, query.name(), kind) {
            Some(records) if records.is_empty() => {
                reply.add_authority(soa(query.name()));
            }
            Some(records) => {
                reply.add_answers(records);
            }
            None => {
                reply.metadata.response_code = ResponseCode::NXDomain;
                reply.add_authority(soa(query.name()));
            }
        }
        if asked.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(EDNS_PAYLOAD);
            reply.set_edns(edns);
        }
        reply.to_vec().ok()
    }
}

impl Ground {
    /// The records of a name, chain included; `None` when the name does not exist.
    fn records(self, name: &str, owner: &Name, kind: RecordType) -> Option<Vec<Record>> {
        let chain: &[&str] = match (name, kind) {
            (NCSI_HOST, RecordType::AAAA) => &[NCSI_STEERING, NCSI_EDGE_V6],
            (NCSI_HOST, _) => &[NCSI_STEERING, NCSI_EDGE_V4],
            (_, _) => &[],
        };
        let host = if [NCSI_STEERING, NCSI_EDGE_V4, NCSI_EDGE_V6].contains(&name) {
            NCSI_HOST
        } else {
            name
        };
        let (v4, v6) = self.addresses(host)?;
        let mut records = Vec::new();
        let mut owner = owner.clone();
        for target in chain {
            let target =
                Name::from_ascii(format!("{target}.")).expect("our own names are well formed");
            records.push(Record::from_rdata(owner, TTL, RData::CNAME(CNAME(target.clone()))));
            owner = target;
        }
        if kind == RecordType::A {
            records.push(Record::from_rdata(owner, TTL, RData::A(A(v4))));
        } else if kind == RecordType::AAAA {
            records.push(Record::from_rdata(owner, TTL, RData::AAAA(AAAA(v6))));
        }
        Some(records)
    }

    fn addresses(self, host: &str) -> Option<(Ipv4Addr, Ipv6Addr)> {
        if host == NCSI_DNS_PROBE {
            return Some((NCSI_DNS_V4, NCSI_DNS_V6));
        }
        let place = place(host)?;
        match self {
            Self::Loopback => Some((Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST)),
            Self::Internet => match (place.address(Family::V4), place.address(Family::V6)) {
                (IpAddr::V4(v4), IpAddr::V6(v6)) => Some((v4, v6)),
                (_, _) => None,
            },
        }
    }
}

/// The addresses the resolver listens on in the emulated Internet; port 53.
pub(crate) const ADDRESSES: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 53)), 53),
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x53)), 53),
];

fn soa(name: &Name) -> Record {
    let zone = name.base_name();
    let server = Name::from_ascii("ns.lab.example.").expect("our own names are well formed");
    let data = SOA::new(server.clone(), server, 1, 3600, 600, 86400, 300);
    Record::from_rdata(zone, TTL, RData::SOA(data))
}

/// The NCSI probe host; Microsoft's FAQ notes that it resolves through a chain.
const NCSI_HOST: &str = "www.msftconnecttest.com";
const NCSI_STEERING: &str = "ncsi-geo.trafficmanager.example";
const NCSI_EDGE_V4: &str = "4-c-0003.c-msedge.net";
const NCSI_EDGE_V6: &str = "6-c-0003.c-msedge.net";
/// The NCSI name whose addresses, not its server, are what Windows compares.
const NCSI_DNS_PROBE: &str = "dns.msftncsi.com";
const NCSI_DNS_V4: Ipv4Addr = Ipv4Addr::new(131, 107, 255, 255);
const NCSI_DNS_V6: Ipv6Addr = Ipv6Addr::new(0xfd3e, 0x4f5a, 0x5b81, 0, 0, 0, 0, 1);

/// Seconds; above the garden's ceiling of a minute, so that clamping shows.
const TTL: u32 = 300;
const MESSAGE_LIMIT: usize = 4096;
const EDNS_PAYLOAD: u16 = 1232;

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(name: &str, kind: RecordType) -> Option<Vec<(String, RecordType)>> {
        let owner = Name::from_ascii(format!("{name}.")).unwrap();
        let records = Ground::Internet.records(name, &owner, kind)?;
        Some(records.iter().map(|r| (r.name.to_ascii(), r.record_type())).collect())
    }

    #[test]
    fn the_ncsi_name_has_a_chain_of_two_links_that_differs_by_family() {
        let v6 = kinds(NCSI_HOST, RecordType::AAAA).unwrap();
        let expected = [
            ("www.msftconnecttest.com.", RecordType::CNAME),
            ("ncsi-geo.trafficmanager.example.", RecordType::CNAME),
            ("6-c-0003.c-msedge.net.", RecordType::AAAA),
        ];
        assert_eq!(v6, expected.map(|(name, kind)| (name.to_owned(), kind)));
        let v4 = kinds(NCSI_HOST, RecordType::A).unwrap();
        assert_eq!(v4.last().unwrap().0, "4-c-0003.c-msedge.net.");
    }

    #[test]
    fn a_place_has_addresses_and_nothing_else_and_a_stranger_does_not_exist() {
        assert_eq!(kinds("login.live.com", RecordType::TXT), Some(Vec::new()));
        assert_eq!(kinds("login.live.com", RecordType::A).unwrap().len(), 1);
        assert_eq!(kinds("nobody-lives-here.example", RecordType::A), None);
    }
}
