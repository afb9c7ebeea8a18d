//! The actors: a policy text, a judge, a scripted upstream and an asker.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use hickory_proto::{
    op::{DnsRequestOptions, Edns, Message, Query, ResponseCode},
    rr::{Name, RData, Record as DnsRecord, RecordType, rdata},
};
use jiff::{Timestamp, civil::date};
use policy::{Record, Snapshot, Source, Subscriber, compile};
use prometheus::Registry;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Notify,
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{Judge, Limits, Metrics, Resolver, Server, Settings, Upstream};

/// A gateway's stand-in around a running resolver.
pub(super) struct World {
    pub(super) address: SocketAddr,
    pub(super) judge: Arc<Bench>,
    pub(super) resolver: Arc<Resolver>,
    pub(super) registry: Registry,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

/// The judge: a policy that tests may change, and the judgements so far.
#[derive(Default)]
pub(super) struct Bench {
    snapshot: Mutex<Option<Arc<Snapshot>>>,
    records: Mutex<Vec<String>>,
}

impl Bench {
    pub(super) fn publish(&self, text: &str) {
        let mut place = self.snapshot.lock().unwrap();
        let generation = place.as_ref().map_or(1, |snapshot| snapshot.generation() + 1);
        *place = Some(snapshot(text, generation));
    }

    pub(super) fn forget(&self) {
        *self.snapshot.lock().unwrap() = None;
    }

    /// Every judgement since the last call, as `class verdict reason host`.
    pub(super) fn records(&self) -> Vec<String> {
        std::mem::take(&mut self.records.lock().unwrap())
    }
}

impl Judge for Bench {
    fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.snapshot.lock().unwrap().clone()
    }

    fn subscriber(&self, address: IpAddr) -> Subscriber {
        Subscriber::at(address)
    }

    fn now(&self) -> Timestamp {
        NOW
    }

    fn record(&self, record: &Record<'_>) {
        assert_eq!(record.protocol, "dns");
        let host = record.host.map_or("-", |host| host.as_str());
        let line =
            format!("{} {} {} {host}", record.class, record.verdict.label(), record.reason);
        self.records.lock().unwrap().push(line);
    }
}

pub(super) fn snapshot(text: &str, generation: u64) -> Arc<Snapshot> {
    let source = Source { name: "test.toml", text };
    let compiled = compile(&source, date(2026, 9, 1)).expect("the policy compiles");
    Arc::new(Snapshot::new(compiled.policy, generation))
}

/// A policy that lists `listed.example`, `other.example` and `internal.example` for loopback.
pub(super) fn policy(dns: &str, more: &str) -> String {
    format!(
        r#"
schema = 1
name = "test"
serial = 1
environment = "lab"
[dns]
{dns}
[http]
denied = "redirect"
portal = "https://portal.example/start"
[[hostset]]
name = "listed"
source = "test"
reviewed = 2026-08-22
[[hostset.host]]
match = "listed.example"
schemes = ["https"]
[[hostset.host]]
match = "other.example"
schemes = ["https"]
[[hostset.host]]
match = "portal.example"
schemes = ["https"]
[[hostset.host]]
match = "ocsp.internal"
schemes = ["http"]
[[hostset.host]]
match = "internal.example"
schemes = ["https"]
networks = ["10.20.0.0/16"]
{more}
[[class]]
name = "unprovisioned"
priority = 100
action = "garden"
hostsets = ["listed"]
[[class.match]]
networks = ["127.0.0.0/8", "::1/128"]
"#
    )
}

pub(super) const NXDOMAIN: &str = "denied = \"nxdomain\"\ndenied_ttl = \"5s\"\nmax_ttl = \"60s\"";

/// Noon of 1 September 2026.
const NOW: Timestamp = Timestamp::constant(1_788_264_000, 0);

impl World {
    /// Starts a resolver on `listen` over `upstreams`, with [`policy`] in force.
    pub(super) async fn start(listen: &str, upstreams: &[&Scripted]) -> Self {
        Self::start_with(listen, upstreams, Limits::default()).await
    }

    pub(super) async fn start_with(listen: &str, upstreams: &[&Scripted], limits: Limits) -> Self {
        let upstreams: Vec<Upstream> =
            upstreams.iter().map(|upstream| upstream.url().parse().unwrap()).collect();
        Self::start_over(listen, &upstreams, limits).await
    }

    pub(super) async fn start_over(listen: &str, upstreams: &[Upstream], limits: Limits) -> Self {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        let resolver = Arc::new(Resolver::new(upstreams, Arc::clone(&metrics)).unwrap());
        let judge = Arc::new(Bench::default());
        judge.publish(&policy(NXDOMAIN, ""));
        let settings =
            Settings { listen: vec![listen.parse().unwrap()], transparent: false, limits };
        let (dyn_judge, shared) = (Arc::clone(&judge), Arc::clone(&resolver));
        let server = Server::bind(&settings, dyn_judge, shared, metrics).await.unwrap();
        let address = server.addresses()[0];
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(server.run(stop.clone()));
        Self { address, judge, resolver, registry, stop, tasks }
    }

    /// Stops the server and waits until it is gone.
    pub(super) async fn stop(mut self) {
        self.stop.cancel();
        timeout(PATIENCE, self.tasks.join_next()).await.expect("the server stops").unwrap().unwrap();
    }

    pub(super) async fn ask(&self, name: &str, record_type: RecordType) -> Message {
        ask(self.address, &question(name, record_type)).await.expect("an answer")
    }

    pub(super) async fn ask_by_tcp(&self, name: &str, record_type: RecordType) -> Message {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        write_framed(&mut stream, &question(name, record_type)).await;
        Message::from_vec(&read_framed(&mut stream).await.expect("an answer")).unwrap()
    }

    /// The value of one metric, all labels summed that contain `label`.
    pub(super) fn metric(&self, name: &str, label: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name).expect(name);
        let has = |metric: &&prometheus::proto::Metric| {
            label.is_empty() || metric.get_label().iter().any(|pair| pair.value() == label)
        };
        family
            .get_metric()
            .iter()
            .filter(has)
            .map(|metric| metric.get_counter().get_value() + metric.get_gauge().get_value())
            .sum()
    }
}

pub(super) fn question(name: &str, record_type: RecordType) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), record_type));
    let mut edns = Edns::new();
    edns.set_max_payload(DnsRequestOptions::default().edns_payload_len);
    message.set_edns(edns);
    message.to_vec().unwrap()
}

/// Sends `message` over UDP; `None` if there is no answer for a while.
pub(super) async fn ask_raw(address: SocketAddr, message: &[u8]) -> Option<Vec<u8>> {
    let local = if address.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
    let socket = UdpSocket::bind(local).await.unwrap();
    // Connected: an answer from another address or port is not seen.
    socket.connect(address).await.unwrap();
    socket.send(message).await.unwrap();
    let mut buffer = vec![0; 65_535];
    let length = timeout(PATIENCE, socket.recv(&mut buffer)).await.ok()?.unwrap();
    buffer.truncate(length);
    Some(buffer)
}

/// As [`ask_raw`], with the answer read by hickory, which must not find a fault in it.
pub(super) async fn ask(address: SocketAddr, message: &[u8]) -> Option<Message> {
    let answer = ask_raw(address, message).await?;
    assert_eq!(answer[..2], message[..2], "the id");
    Some(Message::from_vec(&answer).expect("a well-formed answer"))
}

pub(super) async fn write_framed(stream: &mut TcpStream, message: &[u8]) {
    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length, message].concat()).await.unwrap();
}

/// One message from a connection; `None` if it was closed.
pub(super) async fn read_framed(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let read = async {
        let mut message = vec![0; usize::from(stream.read_u16().await.ok()?)];
        stream.read_exact(&mut message).await.ok()?;
        Some(message)
    };
    timeout(PATIENCE, read).await.expect("an answer or the end of the connection")
}

/// What an answer says, in one line: `RCODE answer… / authority… [EDE]`.
pub(super) fn told(message: &Message) -> String {
    let mut words = vec![format!("{:?}", message.metadata.response_code)];
    for record in &message.answers {
        words.push(format!("{} {} {}", record.name, record.ttl, data(&record.data)));
    }
    for record in &message.authorities {
        words.push(format!("/ {} {} {}", record.name, record.ttl, data(&record.data)));
    }
    if let Some(code) = extended_error(message) {
        words.push(format!("EDE {code}"));
    }
    words.join(" ")
}

pub(super) fn extended_error(message: &Message) -> Option<u16> {
    let options = message.edns.as_ref()?.options();
    options.as_ref().iter().find_map(|(code, option)| match option {
        rdata::opt::EdnsOption::Unknown(15, data) if u16::from(*code) == 15 => {
            Some(u16::from_be_bytes([data[0], data[1]]))
        }
        _ => None,
    })
}

fn data(data: &RData) -> String {
    match data {
        RData::SOA(soa) => format!("SOA {}", soa.minimum),
        RData::A(_) | RData::AAAA(_) => data.to_string(),
        _ => format!("{} {data}", data.record_type()),
    }
}

/// What the upstream does with a question.
#[derive(Clone)]
pub(super) enum Script {
    /// These records, in zone file words, and this code.
    Say(ResponseCode, Vec<DnsRecord>, Vec<DnsRecord>),
    /// Truncated over UDP, this over TCP.
    Long(Vec<DnsRecord>),
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
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
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
pub(super) fn zone(lines: &[&str]) -> Vec<DnsRecord> {
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

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(8);
