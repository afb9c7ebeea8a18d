//! An upstream that does as it is told.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{Name, RData, Record as DnsRecord, RecordType, rdata},
};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, UdpSocket},
    sync::Notify,
    task::JoinSet,
    time::timeout,
};

use super::world::{PATIENCE, write_framed};

/// What the upstream does with a question.
#[derive(Clone)]
pub(super) enum Script {
    /// These records, in zone file words, and this code.
    Say(ResponseCode, Vec<DnsRecord>, Vec<DnsRecord>),
    /// Truncated over UDP, this over TCP.
    Long(Vec<DnsRecord>),
    /// The first octets of an answer.
    Cut(usize),
    /// Nothing.
    Silence,
}

/// A scripted upstream on loopback, over UDP and TCP.
pub(super) struct Scripted {
    address: SocketAddr,
    inner: Arc<Inner>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Inner {
    scripts: Mutex<HashMap<(String, RecordType), Script>>,
    otherwise: Mutex<Option<Script>>,
    asked: Mutex<Vec<String>>,
    /// While set, answers wait.
    gate: Mutex<Option<Arc<Notify>>>,
    arrived: Notify,
}

impl Scripted {
    pub(super) async fn start() -> Self {
        Self::start_at("127.0.0.1:0").await
    }

    pub(super) async fn start_at(address: &str) -> Self {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind(address).await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let inner = Arc::new(Inner::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&inner).serve_udp(udp));
        tasks.spawn(Arc::clone(&inner).serve_tcp(tcp));
        Self { address, inner, _tasks: tasks }
    }

    pub(super) fn url(&self) -> String {
        format!("udp://{}", self.address)
    }

    pub(super) fn script(&self, name: &str, record_type: RecordType, script: Script) {
        self.inner.scripts.lock().unwrap().insert((format!("{name}."), record_type), script);
    }

    /// What is done about names without a script.
    pub(super) fn otherwise(&self, script: Script) {
        *self.inner.otherwise.lock().unwrap() = Some(script);
    }

    /// Answers the question with these records, in the words of a zone file.
    pub(super) fn say(&self, name: &str, record_type: RecordType, records: &[&str]) {
        let script = Script::Say(ResponseCode::NoError, zone(records), Vec::new());
        self.script(name, record_type, script);
    }

    /// Every question since the last call, as `name. TYPE transport`.
    pub(super) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.inner.asked.lock().unwrap())
    }

    /// Holds every answer back until the returned signal is given.
    pub(super) fn hold(&self) -> Arc<Notify> {
        let gate = Arc::new(Notify::new());
        *self.inner.gate.lock().unwrap() = Some(Arc::clone(&gate));
        gate
    }

    /// Waits for the next question.
    pub(super) async fn arrival(&self) {
        timeout(PATIENCE, self.inner.arrived.notified()).await.expect("a question");
    }
}

impl Inner {
    async fn serve_udp(self: Arc<Self>, socket: UdpSocket) {
        let mut buffer = vec![0; 4_096];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            if let Some(answer) = self.answer(&buffer[..length], false).await {
                socket.send_to(&answer, from).await.unwrap();
            }
        }
    }

    async fn serve_tcp(self: Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let inner = Arc::clone(&self);
            connections.spawn(async move {
                while let Ok(length) = stream.read_u16().await {
                    let mut message = vec![0; usize::from(length)];
                    stream.read_exact(&mut message).await.unwrap();
                    if let Some(answer) = inner.answer(&message, true).await {
                        write_framed(&mut stream, &answer).await;
                    }
                }
            });
        }
    }

    async fn answer(&self, message: &[u8], is_tcp: bool) -> Option<Vec<u8>> {
        let asked = Message::from_vec(message).unwrap();
        let query = asked.queries[0].clone();
        let name = query.name().to_lowercase().to_string();
        let transport = if is_tcp { "tcp" } else { "udp" };
        let line = format!("{name} {} {transport}", query.query_type());
        self.asked.lock().unwrap().push(line);
        self.arrived.notify_one();
        let gate = self.gate.lock().unwrap().clone();
        if let Some(gate) = gate {
            gate.notified().await;
        }
        let script = self.scripts.lock().unwrap().get(&(name, query.query_type())).cloned();
        let script = script.or_else(|| self.otherwise.lock().unwrap().clone());
        let mut answer = Message::response(asked.metadata.id, asked.metadata.op_code);
        answer.add_query(query);
        match script {
            Some(Script::Silence) => return None,
            Some(Script::Cut(length)) => {
                answer.add_answers(zone(&["listed.example. 30 A 198.51.100.7"]));
                let mut answer = answer.to_vec().unwrap();
                answer.truncate(length);
                return Some(answer);
            }
            Some(Script::Long(_)) if !is_tcp => answer.metadata.truncation = true,
            Some(Script::Long(records)) => drop(answer.add_answers(records)),
            Some(Script::Say(rcode, records, authorities)) => {
                answer.metadata.response_code = rcode;
                answer.add_answers(records);
                answer.add_authorities(authorities);
            }
            None => {}
        }
        Some(answer.to_vec().unwrap())
    }
}

/// Records from lines `name ttl TYPE data`.
pub(crate) fn zone(lines: &[&str]) -> Vec<DnsRecord> {
    lines.iter().map(|line| record(line)).collect()
}

fn record(line: &str) -> DnsRecord {
    let words: Vec<&str> = line.split(' ').collect();
    let name = |text: &str| Name::from_ascii(text).unwrap();
    let data = match words[2] {
        "A" => RData::A(words[3].parse::<std::net::Ipv4Addr>().unwrap().into()),
        "AAAA" => RData::AAAA(words[3].parse::<std::net::Ipv6Addr>().unwrap().into()),
        "CNAME" => RData::CNAME(rdata::CNAME(name(words[3]))),
        "NS" => RData::NS(rdata::NS(name(words[3]))),
        "SOA" => RData::SOA(rdata::SOA::new(
            name("ns.example."),
            name("who.example."),
            7,
            1,
            2,
            3,
            words[3].parse().unwrap(),
        )),
        other => panic!("the type {other}"),
    };
    DnsRecord::from_rdata(name(words[0]), words[1].parse().unwrap(), data)
}
