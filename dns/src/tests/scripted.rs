//! An upstream that does as it is told.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{DNSClass, Name, RData, Record as DnsRecord, RecordType, rdata},
    serialize::binary::BinEncodable,
};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, UdpSocket},
    sync::Notify,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::world::{PATIENCE, write_framed};

/// What the upstream does with a question.
#[derive(Clone)]
pub(super) enum Script {
    /// These records, in zone file words, and this code.
    Say(ResponseCode, Vec<DnsRecord>, Vec<DnsRecord>),
    /// Truncated over UDP, this over TCP.
    Long(Vec<DnsRecord>),
    /// This address, of whatever name is asked for.
    Address(Ipv4Addr),
    /// This message, with id and question put in.
    Message(Message),
    /// The first octets of an answer.
    Cut(usize),
    /// Truncated, over TCP as well.
    Endless,
    /// An answer for 198.51.100.7 that has so long been under way.
    Late(Duration),
    /// Over UDP so many forged answers for 198.51.100.66, and then perhaps the true one for
    /// 198.51.100.7; over TCP the true one.
    Lie(Lie, usize, bool),
    /// Nothing.
    Silence,
}

/// What is wrong with a forged answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lie {
    Source,
    Id,
    Question,
    LetterCase,
    /// It is a question.
    NoReply,
    /// Of the class CH.
    Class,
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
    /// Codes of the options that came with the questions.
    options: Mutex<Vec<u16>>,
    /// Names as they were asked for.
    spelled: Mutex<Vec<String>>,
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

    /// Every name since the last call, in the letter case it came in.
    pub(super) fn spelled(&self) -> Vec<String> {
        std::mem::take(&mut self.inner.spelled.lock().unwrap())
    }

    /// The codes of all options that came.
    pub(super) fn options(&self) -> Vec<u16> {
        self.inner.options.lock().unwrap().clone()
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
        let socket = Arc::new(socket);
        let mut answering = JoinSet::new();
        let mut buffer = vec![0; 4_096];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            let (inner, socket) = (Arc::clone(&self), Arc::clone(&socket));
            let message = buffer[..length].to_vec();
            answering.spawn(async move {
                let elsewhere =
                    UdpSocket::bind((socket.local_addr().unwrap().ip(), 0)).await.unwrap();
                for (is_elsewhere, answer) in inner.answers(&message, false).await {
                    let socket = if is_elsewhere { &elsewhere } else { &*socket };
                    socket.send_to(&answer, from).await.unwrap();
                }
            });
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
                    for (_, answer) in inner.answers(&message, true).await {
                        write_framed(&mut stream, &answer).await;
                    }
                }
            });
        }
    }

    /// The answers, each with whether it comes from elsewhere.
    async fn answers(&self, message: &[u8], is_tcp: bool) -> Vec<(bool, Vec<u8>)> {
        let asked = Message::from_vec(message).unwrap();
        let query = asked.queries[0].clone();
        let name = query.name().to_lowercase().to_string();
        let transport = if is_tcp { "tcp" } else { "udp" };
        let line = format!("{name} {} {transport}", query.query_type());
        self.asked.lock().unwrap().push(line);
        self.spelled.lock().unwrap().push(query.name().to_string());
        let options = asked.edns.iter().flat_map(|edns| edns.options().as_ref());
        self.options.lock().unwrap().extend(options.map(|(code, _)| u16::from(*code)));
        self.arrived.notify_one();
        let gate = self.gate.lock().unwrap().clone();
        if let Some(gate) = gate {
            gate.notified().await;
        }
        let script = self.scripts.lock().unwrap().get(&(name.clone(), query.query_type())).cloned();
        let script = script.or_else(|| self.otherwise.lock().unwrap().clone());
        let mut answer = Message::response(asked.metadata.id, asked.metadata.op_code);
        answer.metadata.recursion_available = true;
        answer.add_query(query);
        let at = |address: &str| zone(&[&format!("{name} 30 A {address}")]);
        match script {
            Some(Script::Silence) => return Vec::new(),
            Some(Script::Address(address)) => {
                let owner = answer.queries[0].name().clone();
                answer.add_answer(DnsRecord::from_rdata(owner, 30, RData::A(address.into())));
            }
            Some(Script::Message(mut said)) => {
                said.metadata.id = answer.metadata.id;
                said.add_queries(answer.queries);
                return vec![(false, said.to_vec().unwrap())];
            }
            Some(Script::Cut(length)) => {
                answer.add_answers(at(TRUE));
                let mut answer = answer.to_vec().unwrap();
                answer.truncate(length);
                return vec![(false, answer)];
            }
            Some(Script::Late(delay)) => {
                sleep(delay).await;
                answer.add_answers(at(TRUE));
            }
            Some(Script::Lie(lie, count, and_truth)) => {
                let mut forged = answer.clone();
                forged.add_answers(at(FORGED));
                answer.add_answers(at(TRUE));
                let truth = (is_tcp || and_truth).then(|| (false, answer.to_vec().unwrap()));
                let forged = (!is_tcp).then(|| (lie == Lie::Source, lie.told(forged)));
                return forged.into_iter().cycle().take(count).chain(truth).collect();
            }
            Some(Script::Endless) => answer.metadata.truncation = true,
            Some(Script::Long(_)) if !is_tcp => answer.metadata.truncation = true,
            Some(Script::Long(records)) => drop(answer.add_answers(records)),
            Some(Script::Say(rcode, records, authorities)) => {
                answer.metadata.response_code = rcode;
                answer.add_answers(records);
                answer.add_authorities(authorities);
            }
            None => {}
        }
        vec![(false, answer.to_vec().unwrap())]
    }
}

impl Lie {
    /// The octets of an answer that is wrong in this way.
    fn told(self, mut answer: Message) -> Vec<u8> {
        match self {
            Self::Class => answer.answers[0].dns_class = DNSClass::CH,
            Self::LetterCase => {
                let mut query = answer.queries[0].clone();
                query.set_name(query.name().to_lowercase());
                answer.queries = vec![query];
            }
            Self::Source | Self::Id | Self::Question | Self::NoReply => {}
        }
        let mut message = answer.to_vec().unwrap();
        match self {
            Self::Id => message[1] ^= 1,
            Self::NoReply => message[2] &= 0x7f,
            // The first letter of the name.
            Self::Question => message[13] ^= 3,
            Self::Source | Self::LetterCase | Self::Class => {}
        }
        message
    }
}

/// The address a lie tells.
const FORGED: &str = "198.51.100.66";
/// The address the truth tells.
const TRUE: &str = "198.51.100.7";

/// Records from lines `name ttl TYPE data`.
pub(crate) fn zone(lines: &[&str]) -> Vec<DnsRecord> {
    lines.iter().map(|line| record(line)).collect()
}

fn record(line: &str) -> DnsRecord {
    let words: Vec<&str> = line.split(' ').collect();
    let name = |text: &str| Name::from_ascii(text).unwrap();
    let data = match words[2] {
        "A" => RData::A(words[3].parse::<Ipv4Addr>().unwrap().into()),
        "AAAA" => RData::AAAA(words[3].parse::<std::net::Ipv6Addr>().unwrap().into()),
        "DNAME" => RData::Unknown {
            code: RecordType::DNAME,
            rdata: rdata::NULL::with(BinEncodable::to_bytes(&name(words[3])).unwrap()),
        },
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
