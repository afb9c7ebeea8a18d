//! The bench: a whole proxy on loopback between real clients and real origins.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::AsRawFd,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use policy::{Parts, Quic, Reason, Record, Snapshot, Source, Subscriber, Verdict, compile_parts};
use prometheus::Registry;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{
        CryptoProvider,
        ring::{default_provider, kx_group},
    },
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;

mod quota;

use super::{Ending, Inherited, Limits, Metrics, Proxy, ProxySettings, Sessions, Steering};

/// The only listed host.
pub(super) const LISTED: &str = "listed.example";
/// Listed by https only.
pub(super) const HTTPS_ONLY: &str = "secure.example";
/// Listed, on an address where nothing listens.
pub(super) const DEAD: &str = "dead.example";
/// Listed, on an address that the guard refuses.
pub(super) const GUARDED: &str = "guarded.example";
/// Listed, on the gateway's own listener.
pub(super) const LOOPING: &str = "looping.example";
/// Not listed.
pub(super) const DENIED: &str = "denied.example";

/// A proxy on loopback, with what it is asked to judge by.
pub(super) struct Bench {
    pub(super) judge: Arc<Bailiff>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) https: SocketAddr,
    pub(super) http: SocketAddr,
    pub(super) explicit: SocketAddr,
    /// `None` where QUIC is refused.
    pub(super) quic: Option<SocketAddr>,
    registry: Registry,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

/// A judge whose policy the test sets, and who remembers what was recorded.
#[derive(Default)]
pub(super) struct Bailiff {
    snapshot: ArcSwapOption<Snapshot>,
    records: Mutex<Vec<(Verdict, Reason)>>,
    /// The session of the last verdict that had one.
    session: Mutex<Option<u64>>,
    /// Whom the last verdict was about, and where it wanted to go.
    ends: Mutex<Option<(IpAddr, SocketAddr)>>,
    /// How many days went by.
    days: AtomicI64,
    /// Takes the place of the policy as soon as a verdict was recorded.
    successor: Mutex<Option<Arc<Snapshot>>>,
}

impl dns::Judge for Bailiff {
    fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.snapshot.load_full()
    }

    fn subscriber(&self, address: IpAddr) -> Subscriber {
        Subscriber::at(address)
    }

    fn now(&self) -> Timestamp {
        let days = SignedDuration::from_hours(24 * self.days.load(Ordering::Relaxed));
        NOW.parse::<Timestamp>().unwrap() + days
    }

    fn record(&self, record: &Record<'_>) {
        self.records.lock().unwrap().push((record.verdict, record.reason));
        *self.session.lock().unwrap() = record.session;
        *self.ends.lock().unwrap() = record.subscriber.address().zip(record.destination);
        if let Some(successor) = self.successor.lock().unwrap().take() {
            self.snapshot.store(Some(successor));
        }
    }
}

impl Bailiff {
    pub(super) fn publish(&self, terms: &Terms, generation: u64) -> Arc<Snapshot> {
        let snapshot = terms.snapshot(generation);
        self.snapshot.store(Some(Arc::clone(&snapshot)));
        snapshot
    }

    /// Lets a day go by.
    pub(super) fn sleep_over_it(&self) {
        self.days.fetch_add(1, Ordering::Relaxed);
    }

    /// Publishes right after the next verdict.
    pub(super) fn publish_behind_verdict(&self, terms: &Terms, generation: u64) {
        *self.successor.lock().unwrap() = Some(terms.snapshot(generation));
    }

    pub(super) fn withdraw(&self) {
        self.snapshot.store(None);
    }

    /// The last verdict.
    pub(super) fn last(&self) -> Option<(Verdict, Reason)> {
        self.records.lock().unwrap().last().copied()
    }

    /// The session in which the last verdict was given.
    pub(super) fn last_session(&self) -> Option<u64> {
        *self.session.lock().unwrap()
    }

    /// Whom the last verdict was about, and where it wanted to go.
    pub(super) fn last_ends(&self) -> Option<(IpAddr, SocketAddr)> {
        *self.ends.lock().unwrap()
    }

    /// How many verdicts there were.
    pub(super) fn count(&self) -> usize {
        self.records.lock().unwrap().len()
    }
}

/// What a test's policy says.
pub(super) struct Terms {
    pub(super) listed: bool,
    pub(super) http: &'static str,
    pub(super) ncsi: &'static str,
    pub(super) on_denial: &'static str,
    pub(super) origin_port: u16,
    pub(super) sessions: Option<u32>,
    pub(super) bytes_per_day: Option<&'static str>,
    /// Where the proxy listens and the origins are.
    pub(super) loopback: IpAddr,
    pub(super) quic: Quic,
    pub(super) balancers: Vec<IpNet>,
}

impl Terms {
    pub(super) fn new(origin_port: u16) -> Self {
        Self {
            listed: true,
            http: "redirect",
            ncsi: "pass",
            on_denial: "cut",
            origin_port,
            sessions: None,
            bytes_per_day: None,
            loopback: IpAddr::V4(Ipv4Addr::LOCALHOST),
            quic: Quic::Reject,
            balancers: Vec::new(),
        }
    }

    fn snapshot(&self, generation: u64) -> Arc<Snapshot> {
        let text = &self.text();
        let parts = Parts::alone(&Source { name: "test", text }).for_node(self.quic);
        let compiled = compile_parts(&parts, TODAY.parse().unwrap());
        let policy = compiled.unwrap_or_else(|found| panic!("{found:#?}\n{text}")).policy;
        Arc::new(Snapshot::new(policy, generation))
    }

    fn text(&self) -> String {
        let Self { listed, http, ncsi, on_denial, origin_port, .. } = self;
        let Self { sessions, bytes_per_day, loopback, .. } = self;
        let listed = if *listed { LISTED } else { "other.example" };
        let sessions = sessions.map(|sessions| format!("sessions = {sessions}\n"));
        let bytes = bytes_per_day.map(|bytes| format!("bytes_per_day = \"{bytes}\"\n"));
        let limits: String = sessions.into_iter().chain(bytes).collect();
        format!(
            r#"
schema = 1
name = "bench"
serial = 1
environment = "lab"
default_class = "garden"
[http]
denied = "{http}"
portal = "https://{HTTPS_ONLY}/start"
[[hostset]]
name = "set"
source = "the bench"
reviewed = {TODAY}
[[hostset.host]]
match = "{listed}"
schemes = ["http", "https"]
[[hostset.host]]
match = "{HTTPS_ONLY}"
schemes = ["https"]
[[hostset.host]]
match = "{DEAD}"
schemes = ["http", "https"]
networks = ["127.0.0.0/8"]
[[hostset.host]]
match = "{GUARDED}"
schemes = ["http", "https"]
[[hostset.host]]
match = "{LOOPING}"
schemes = ["http", "https"]
[[class]]
name = "garden"
priority = 1
action = "garden"
hostsets = ["set"]
ncsi = "{ncsi}"
on_denial = "{on_denial}"
[[class.match]]
networks = ["127.0.0.0/8", "::1/128"]
[class.limits]
{limits}
[lab]
networks = ["127.0.0.1/32", "127.0.0.2/32", "::1/128"]
ports = {{ "443" = {origin_port}, "80" = {origin_port} }}
[lab.resolve]
"{LISTED}" = ["{loopback}"]
"{HTTPS_ONLY}" = ["{loopback}"]
"{DEAD}" = ["127.0.0.2"]
"{GUARDED}" = ["10.0.0.1", "fd00::1"]
"{LOOPING}" = ["{loopback}"]
"#
        )
    }
}

impl Bench {
    /// A proxy whose policy sends every allowed session to `origin`.
    pub(super) fn new(origin: SocketAddr, limits: Limits) -> Self {
        Self::with(&Terms::new(origin.port()), limits)
    }

    pub(super) fn with(terms: &Terms, limits: Limits) -> Self {
        let registry = Registry::new();
        let judge = Arc::new(Bailiff::default());
        judge.publish(terms, 1);
        let upstream = "udp://127.0.0.1:9".parse().unwrap();
        let resolver = dns::Resolver::new(
            &[upstream],
            &dns::Trust::web().unwrap(),
            dns::Metrics::register(&registry).unwrap(),
        )
        .unwrap();
        let any = SocketAddr::from((terms.loopback, 0));
        let settings = ProxySettings {
            http: vec![any],
            https: vec![any],
            explicit: vec![any],
            balancers: terms.balancers.clone(),
            inspect_quic: terms.quic == Quic::Inspect,
            mode: Steering::None,
            workers: 2,
            egress: super::Egress::default(),
            limits,
            mark: None,
        };
        let metrics = Metrics::register(&registry).unwrap();
        let proxy = Proxy::bind(
            &settings,
            Arc::clone(&judge) as _,
            Arc::new(resolver),
            metrics,
            &mut Inherited::default(),
        )
        .unwrap();
        let (https, http) = (proxy.https_addresses()[0], proxy.http_addresses()[0]);
        let quic = proxy.quic_addresses().first().copied();
        let explicit = proxy.explicit_addresses()[0];
        let sessions = proxy.sessions();
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(proxy.run(Ending::new(stop.clone(), DRAIN, DRAIN)));
        Self { judge, sessions, https, http, explicit, quic, registry, stop, tasks }
    }

    /// Connects to the TLS listener.
    pub(super) async fn dial(&self) -> TcpStream {
        TcpStream::connect(self.https).await.unwrap()
    }

    /// Opens a TLS session to `host` through the proxy.
    pub(super) async fn tls(
        &self,
        host: &str,
        origin: &Origin,
    ) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).unwrap();
        // A session that is refused at once may be reset before the connection is noticed.
        let stream = TcpStream::connect(self.https).await?;
        TlsConnector::from(origin.client()).connect(name, stream).await
    }

    /// Stops and waits until everything has ended.
    pub(super) async fn stop(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }

    /// Waits until no session is open.
    pub(super) async fn settled(&self) {
        self.until(|| self.sessions.count() == 0).await;
    }

    /// Waits for what the workers do in their own time.
    pub(super) async fn until(&self, is_so: impl Fn() -> bool) {
        within(async {
            while !is_so() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// The value of a counter or gauge, summed over the labels that are not given.
    pub(super) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let fits = |metric: &prometheus::proto::Metric| {
            labels.iter().all(|(key, value)| {
                metric
                    .get_label()
                    .iter()
                    .any(|label| label.name() == *key && label.value() == *value)
            })
        };
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name);
        family.map_or(0.0, |family| {
            let fitting = family.get_metric().iter().filter(|metric| fits(metric));
            fitting
                .map(|metric| metric.get_counter().get_value() + metric.get_gauge().get_value())
                .sum()
        })
    }

    pub(super) fn outcomes(&self, protocol: &str, outcome: &str) -> f64 {
        let labels = [("protocol", protocol), ("outcome", outcome)];
        self.metric("postern_session_outcomes_total", &labels)
    }
}

/// A TLS server that sends every byte back, and closes its side when the client does.
pub(super) struct Origin {
    pub(super) address: SocketAddr,
    certificate: CertificateDer<'static>,
    _tasks: JoinSet<()>,
}

impl Origin {
    pub(super) async fn start() -> Self {
        Self::start_on(IpAddr::V4(Ipv4Addr::LOCALHOST)).await
    }

    pub(super) async fn start_on(loopback: IpAddr) -> Self {
        let hosts = [LISTED, HTTPS_ONLY, DENIED].map(str::to_owned).to_vec();
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(hosts).unwrap();
        let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
        let configuration = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key.into())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(configuration));
        let listener = TcpListener::bind((loopback, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut sessions = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                sessions.spawn(async move {
                    let mut stream = acceptor.accept(stream).await?;
                    let mut buffer = [0; 4096];
                    loop {
                        let length = stream.read(&mut buffer).await?;
                        if length == 0 {
                            stream.write_all(b"bye").await?;
                            return stream.shutdown().await;
                        }
                        stream.write_all(&buffer[..length]).await?;
                        stream.flush().await?;
                    }
                });
            }
        });
        Self { address, certificate: cert.der().clone(), _tasks: tasks }
    }

    /// A client that this server understands at once.
    pub(super) fn client(&self) -> Arc<ClientConfig> {
        self.client_with(provider())
    }

    /// A client that this server answers with a HelloRetryRequest: it offers a key of another
    /// group first.
    pub(super) fn retried_client(&self) -> Arc<ClientConfig> {
        let mut provider = CryptoProvider::clone(&provider());
        provider.kx_groups = vec![kx_group::SECP384R1, kx_group::X25519];
        self.client_with(Arc::new(provider))
    }

    fn client_with(&self, provider: Arc<CryptoProvider>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let configuration = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(configuration)
    }
}

fn provider() -> Arc<CryptoProvider> {
    let kx_groups = vec![kx_group::X25519];
    Arc::new(CryptoProvider { kx_groups, ..default_provider() })
}

/// Waits for `done`, but not for ever.
pub(super) async fn within<T>(done: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), done).await.expect("nothing came of it")
}

/// Everything until the peer closes.
pub(super) async fn all(stream: &mut TcpStream) -> Vec<u8> {
    let mut octets = Vec::new();
    // A reset after the last octet ends it as well.
    let _ = within(stream.read_to_end(&mut octets)).await;
    octets
}

/// Packets that a connection took in: `tcpi_segs_in` of the kernel's `struct tcp_info`.
pub(super) fn packets_in(stream: &TcpStream) -> u32 {
    let (level, option) = (nix::libc::IPPROTO_TCP, nix::libc::TCP_INFO);
    let mut info = [0_u8; 144];
    uapi::getsockopt(stream.as_raw_fd(), level, option, &mut info).unwrap();
    u32::from_ne_bytes(info[140..].try_into().unwrap())
}

/// Bounds that no test trips by accident.
pub(super) fn limits() -> Limits {
    Limits::default()
}

const NOW: &str = "2026-08-22T12:00:00Z";
const TODAY: &str = "2026-08-22";
const DRAIN: Duration = Duration::from_millis(200);

#[test]
fn second_listener_on_a_taken_port_is_refused_with_the_cure() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let first =
        super::Listener::bind(super::Protocol::Https, any, Steering::None, 2, Vec::new()).unwrap();
    let second = super::Listener::bind(
        super::Protocol::Https,
        first.address(),
        Steering::None,
        2,
        Vec::new(),
    );
    let message = second.err().expect("two listeners share a port").to_string();
    assert!(message.contains("another process has the port"), "{message}");
    assert!(message.contains(&first.address().to_string()), "{message}");
}

#[tokio::test]
async fn stop_closes_what_does_not_end_by_itself() {
    let origin = Origin::start().await;
    let bench = Bench::new(origin.address, limits());
    let mut session = within(bench.tls(LISTED, &origin)).await.unwrap();
    session.write_all(b"x").await.unwrap();
    session.read_exact(&mut [0]).await.unwrap();
    let sessions = Arc::clone(&bench.sessions);
    within(bench.stop()).await;
    assert_eq!(sessions.count(), 0);
}

#[tokio::test]
async fn session_over_the_total_is_reset_and_counted() {
    let origin = Origin::start().await;
    let bench = Bench::new(origin.address, Limits { sessions: 1, ..limits() });
    let _first = within(bench.tls(LISTED, &origin)).await.unwrap();
    assert!(within(bench.tls(LISTED, &origin)).await.is_err());
    assert_eq!(bench.judge.last(), Some((Verdict::Deny, Reason::Limit)));
    assert!(bench.outcomes("https", "us-limit") >= 1.0);
}

#[tokio::test]
async fn class_limit_on_sessions_holds() {
    let origin = Origin::start().await;
    let terms = Terms { sessions: Some(1), ..Terms::new(origin.address.port()) };
    let bench = Bench::with(&terms, limits());
    let first = within(bench.tls(LISTED, &origin)).await.unwrap();
    assert!(within(bench.tls(LISTED, &origin)).await.is_err());
    drop(first);
    bench.settled().await;
    within(bench.tls(LISTED, &origin)).await.unwrap();
}
