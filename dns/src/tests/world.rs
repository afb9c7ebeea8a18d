//! The actors: a policy text, a judge, a scripted upstream and an asker.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use hickory_proto::{
    op::{DnsRequestOptions, Edns, Message, Query},
    rr::{Name, RData, RecordType, rdata},
};
use jiff::{Timestamp, civil::date};
use policy::{Record, Snapshot, Source, Subscriber, compile};
use prometheus::Registry;
use rustls::pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::scripted::Scripted;
use crate::{
    Encrypted, Identity, Judge, Limits, Metrics, Nat64, Resolver, Server, Settings, Trust,
    Upstream, respond::Responder,
};

/// A gateway's stand-in around a running resolver.
pub(super) struct World {
    pub(super) address: SocketAddr,
    /// Of DNS over TLS.
    pub(super) tls: SocketAddr,
    /// Of DNS over HTTPS.
    pub(super) https: SocketAddr,
    /// What both show.
    pub(super) certificate: CertificateDer<'static>,
    pub(super) judge: Arc<Bench>,
    pub(super) resolver: Arc<Resolver>,
    pub(super) responder: Arc<Responder>,
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
        let line = format!("{} {} {} {host}", record.class, record.verdict.label(), record.reason);
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

/// More of a policy: every name below `wild.example` is listed.
pub(super) const WILD: &str = "[[hostset.host]]\nmatch = \"*.wild.example\"\nschemes = [\"https\"]";

/// Who asks where no socket does.
pub(super) const ASKER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 7));
/// Noon of 1 September 2026.
pub(super) const NOW: Timestamp = Timestamp::constant(1_788_264_000, 0);

impl World {
    /// Puts [`policy`] in force with nothing found yet; what was known in the past stays known.
    pub(super) fn begin_anew(&self) {
        self.resolver.forget_findings();
        self.judge.publish(&policy(NXDOMAIN, ""));
    }

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
        Self::start_trusting(listen, upstreams, &Trust::web().unwrap(), limits).await
    }

    pub(super) async fn start_trusting(
        listen: &str,
        upstreams: &[Upstream],
        trust: &Trust,
        limits: Limits,
    ) -> Self {
        Self::start_as(listen, upstreams, trust, limits, None, Vec::new()).await
    }

    /// One for an operator with a NAT64 of this prefix.
    pub(super) async fn start_behind(nat64: &str, upstream: &Scripted) -> Self {
        let upstreams = [upstream.url().parse().unwrap()];
        let (trust, limits) = (Trust::web().unwrap(), Limits::default());
        let nat64 = Some(nat64.parse().unwrap());
        Self::start_as("127.0.0.1:0", &upstreams, &trust, limits, nat64, Vec::new()).await
    }

    /// One whose answers lead to a proxy.
    pub(super) async fn start_leading_to(proxy: &[&str], upstream: &Scripted) -> Self {
        let upstreams = [upstream.url().parse().unwrap()];
        let (trust, limits) = (Trust::web().unwrap(), Limits::default());
        let leads_to = proxy.iter().map(|address| address.parse().unwrap()).collect();
        Self::start_as("127.0.0.1:0", &upstreams, &trust, limits, None, leads_to).await
    }

    async fn start_as(
        listen: &str,
        upstreams: &[Upstream],
        trust: &Trust,
        limits: Limits,
        nat64: Option<Nat64>,
        leads_to: Vec<IpAddr>,
    ) -> Self {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        let resolver =
            Resolver::new(upstreams, trust, Arc::clone(&metrics)).unwrap().within(&limits);
        let resolver = Arc::new(resolver.behind(nat64));
        let judge = Arc::new(Bench::default());
        judge.publish(&policy(NXDOMAIN, ""));
        let listen: Vec<SocketAddr> = vec![listen.parse().unwrap()];
        let any = vec![SocketAddr::new(listen[0].ip(), 0)];
        let (identity, certificate) = identity();
        let encrypted = Encrypted { listen: any, identity, steered_port: None };
        let (tls, https) = (Some(encrypted.clone()), Some(encrypted));
        let (interfaces, transparent) = (Vec::new(), false);
        let settings = Settings { listen, interfaces, tls, https, transparent, leads_to, limits };
        let (dyn_judge, shared) = (Arc::clone(&judge), Arc::clone(&resolver));
        let server =
            Server::bind(&settings, &mut crate::Inherited::default(), dyn_judge, shared, metrics)
                .await
                .unwrap();
        let address = server.addresses()[0];
        let (tls, https) = (server.tls_addresses()[0], server.https_addresses()[0]);
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let responder = server.responder();
        tasks.spawn(server.run(stop.clone()));
        Self { address, tls, https, certificate, judge, resolver, responder, registry, stop, tasks }
    }

    /// Asks the server to stop.
    pub(super) fn begin_to_stop(&self) {
        self.stop.cancel();
    }

    /// Stops the server and waits until it is gone.
    pub(super) async fn stop(mut self) {
        self.stop.cancel();
        timeout(PATIENCE, self.tasks.join_next())
            .await
            .expect("the server stops")
            .unwrap()
            .unwrap();
    }

    pub(super) async fn ask(&self, name: &str, record_type: RecordType) -> Message {
        ask(self.address, &question(name, record_type)).await.expect("an answer")
    }

    pub(super) async fn ask_by_tcp(&self, name: &str, record_type: RecordType) -> Message {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        write_framed(&mut stream, &question(name, record_type)).await;
        Message::from_vec(&read_framed(&mut stream).await.expect("an answer")).unwrap()
    }

    /// Asks once over DNS over TLS.
    pub(super) async fn ask_by_tls(&self, question: &[u8]) -> Message {
        let mut stream = self.connect(self.tls, b"dot").await;
        write_framed(&mut stream, question).await;
        Message::from_vec(&read_framed(&mut stream).await.expect("an answer")).unwrap()
    }

    /// Waits until a metric has a value, which nothing tells us.
    pub(super) async fn eventually(&self, name: &str, label: &str, value: f64) {
        let reached = async {
            while self.metric(name, label) != value {
                tokio::task::yield_now().await;
            }
        };
        let is_reached = timeout(PATIENCE, reached).await.is_ok();
        assert!(is_reached, "{name} {label} is {}", self.metric(name, label));
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
    message.add_query(Query::query(any_name(name), record_type));
    let mut edns = Edns::new();
    edns.set_max_payload(DnsRequestOptions::default().edns_payload_len);
    message.set_edns(edns);
    message.to_vec().unwrap()
}

/// `question`, which ends in an OPT record without options, with an option.
pub(super) fn with_option(question: &[u8], code: u16, data: &[u8]) -> Vec<u8> {
    let length = |octets: usize| u16::try_from(octets).unwrap().to_be_bytes();
    let (before, _) = question.split_at(question.len() - 2);
    let head = [code.to_be_bytes(), length(data.len())].concat();
    [before, &length(head.len() + data.len()), &head, data].concat()
}

/// A name from text in which `\\DDD` and `\\.` stand for octets hickory would not read.
pub(super) fn any_name(text: &str) -> Name {
    let (mut labels, mut label, mut rest) = (Vec::new(), Vec::new(), text.as_bytes());
    while let Some((&octet, after)) = rest.split_first() {
        rest = after;
        match octet {
            b'.' => labels.extend((!label.is_empty()).then(|| std::mem::take(&mut label))),
            b'\\' if rest[0].is_ascii_digit() => {
                label.push(std::str::from_utf8(&rest[..3]).unwrap().parse().unwrap());
                rest = &rest[3..];
            }
            b'\\' => {
                label.push(rest[0]);
                rest = &rest[1..];
            }
            octet => label.push(octet),
        }
    }
    let mut name = Name::from_labels(labels.iter().map(Vec::as_slice)).unwrap();
    name.set_fqdn(true);
    name
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

/// A certificate for [`HOST`] on loopback, made for this test.
fn identity() -> (Identity, CertificateDer<'static>) {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed([HOST, "127.0.0.1", "::1"].map(str::to_owned)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("dns.pem"), folder.path().join("dns.key"));
    std::fs::write(&certificate, cert.pem()).unwrap();
    std::fs::write(&key, signing_key.serialize_pem()).unwrap();
    (Identity::load(&certificate, &key).unwrap(), cert.der().clone())
}

pub(super) async fn write_framed<S: AsyncWrite + Unpin>(stream: &mut S, message: &[u8]) {
    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length, message].concat()).await.unwrap();
}

/// One message from a connection; `None` if it was closed.
pub(super) async fn read_framed<S: AsyncRead + Unpin>(stream: &mut S) -> Option<Vec<u8>> {
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
    options.as_ref().iter().find_map(|(_, option)| {
        let rdata::opt::EdnsOption::Unknown(15, data) = option else { return None };
        Some(u16::from_be_bytes([data[0], data[1]]))
    })
}

fn data(data: &RData) -> String {
    if let RData::SOA(soa) = data {
        return format!("SOA {}", soa.minimum);
    }
    if data.ip_addr().is_some() {
        return data.to_string();
    }
    format!("{} {data}", data.record_type())
}

/// The resolver's own name.
pub(super) const HOST: &str = "dns.operator.example";

/// How long a test waits for what must happen.
pub(super) const PATIENCE: Duration = Duration::from_secs(8);
