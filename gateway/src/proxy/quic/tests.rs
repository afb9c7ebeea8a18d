//! Whole paths on loopback, between real clients and a real origin.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use policy::{Quic, Reason, Verdict};
use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, Incoming, ServerConfig, VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use rustls::{
    RootCertStore,
    crypto::{
        CryptoProvider,
        ring::{default_provider, kx_group},
    },
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
};
use tokio::{net::UdpSocket, task::JoinSet, time::timeout};

use super::made::{crypto, hello, initial};
use crate::proxy::tests::{
    Bench, DEAD, DENIED, GUARDED, HTTPS_ONLY, LISTED, Terms, limits, within,
};

#[tokio::test]
async fn listed_host_is_reached_in_both_families_and_counted() {
    for loopback in LOOPBACK {
        let origin = Origin::start(loopback, Greeting::Accept);
        let bench = bench(&origin);
        let client = client(loopback);
        let connection = within(connect(&client, &bench, origin.trusted(), LISTED)).await.unwrap();
        assert_eq!(echoed(&connection, b"hello").await, b"hello");
        assert_eq!(bench.metric("postern_sessions", &[("protocol", "quic")]), 1.0);
        assert!(bench.metric("postern_session_bytes_total", &[]) > 2_000.0);
        assert_eq!(bench.judge.last(), Some((Verdict::Allow, Reason::Listed)));
        // A second connection to the same host, between the same ports.
        let second = within(connect(&client, &bench, origin.trusted(), LISTED)).await.unwrap();
        assert_eq!(echoed(&second, b"again").await, b"again");
        assert_eq!(echoed(&connection, b"still").await, b"still");
        assert_eq!(bench.metric("postern_sessions", &[("protocol", "quic")]), 1.0, "one path");
    }
}

#[tokio::test]
async fn bulk_passes_whole() {
    let origin = Origin::start(LOOPBACK[0], Greeting::Accept);
    let bench = bench(&origin);
    let client = client(LOOPBACK[0]);
    let connection = within(connect(&client, &bench, origin.trusted(), LISTED)).await.unwrap();
    let sent: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_le_bytes()[1]).collect();
    assert!(echoed(&connection, &sent).await == sent);
}

#[tokio::test]
async fn what_is_not_allowed_is_refused_at_once_and_reaches_nobody() {
    for loopback in LOOPBACK {
        let origin = Origin::start(loopback, Greeting::Accept);
        let bench = bench(&origin);
        for (host, reason) in [
            (DENIED, Reason::NotListed),
            (GUARDED, Reason::UpstreamAddressRefused),
            ("192.0.2.7", Reason::NoSni),
        ] {
            assert_refused(&bench, &origin, host).await;
            assert_eq!(bench.judge.last(), Some((Verdict::Deny, reason)), "{host}");
        }
        bench.settled().await;
        assert_eq!(origin.accepted.load(Ordering::Relaxed), 0);
    }
}

#[tokio::test]
async fn host_where_nobody_listens_is_refused_at_once() {
    let origin = Origin::start(LOOPBACK[0], Greeting::Accept);
    let bench = bench(&origin);
    assert_refused(&bench, &origin, DEAD).await;
    bench.settled().await;
    assert_eq!(bench.outcomes("quic", "origin-unreachable"), 1.0);
}

#[tokio::test]
async fn hello_that_is_asked_for_again_passes() {
    for greeting in [Greeting::Retry, Greeting::Accept] {
        let origin = Origin::start(LOOPBACK[0], greeting);
        let bench = bench(&origin);
        // A HelloRetryRequest comes first where the origin has no such group.
        let groups = vec![kx_group::SECP384R1, kx_group::X25519];
        let trusting = origin.trusted_with(groups);
        let client = client(LOOPBACK[0]);
        let connection = within(connect(&client, &bench, trusting, LISTED)).await.unwrap();
        assert_eq!(echoed(&connection, b"x").await, b"x");
    }
}

#[tokio::test]
async fn second_name_between_the_same_ports_ends_the_path() {
    let origin = Origin::start(LOOPBACK[0], Greeting::Accept);
    let bench = bench(&origin);
    let client = client(LOOPBACK[0]);
    let first = within(connect(&client, &bench, origin.trusted(), LISTED)).await.unwrap();
    let refused = within(connect(&client, &bench, origin.trusted(), DENIED)).await;
    assert!(is_refusal(&refused.unwrap_err()));
    assert_eq!(bench.judge.last(), Some((Verdict::Deny, Reason::HelloChanged)));
    bench.settled().await;
    assert_eq!(bench.outcomes("quic", "policy-denied"), 1.0);
    assert_eq!(origin.accepted.load(Ordering::Relaxed), 1);
    drop(first);
}

#[tokio::test]
async fn path_is_cut_when_a_new_policy_denies_its_name() {
    let origin = Origin::start(LOOPBACK[0], Greeting::Accept);
    let bench = bench(&origin);
    let client = client(LOOPBACK[0]);
    let connection = within(connect(&client, &bench, origin.trusted(), LISTED)).await.unwrap();
    assert_eq!(echoed(&connection, b"x").await, b"x");
    let without = Terms { listed: false, ..terms(&origin) };
    let snapshot = bench.judge.publish(&without, 2);
    assert_eq!(bench.sessions.rejudge(&snapshot, &*bench.judge), 1);
    bench.settled().await;
    assert_eq!(bench.outcomes("quic", "policy-revoked"), 1.0);
}

#[tokio::test]
async fn limits_on_sessions_and_bytes_hold() {
    let origin = Origin::start(LOOPBACK[0], Greeting::Accept);
    let limited = Terms { sessions: Some(1), bytes_per_day: Some("100kB"), ..terms(&origin) };
    let bench = Bench::with(&limited, limits());
    let client = client(LOOPBACK[0]);
    let connection = within(connect(&client, &bench, origin.trusted(), LISTED)).await.unwrap();
    assert_refused(&bench, &origin, LISTED).await;
    assert_eq!(bench.judge.last(), Some((Verdict::Deny, Reason::Limit)));
    let flood = async {
        let (mut into, _) = connection.open_bi().await.unwrap();
        let _ = into.write_all(&[7; 300_000]).await;
        bench.settled().await;
    };
    within(flood).await;
    assert_eq!(bench.outcomes("quic", "policy-exhausted"), 1.0);
}

#[tokio::test]
async fn part_of_a_hello_is_given_up_in_time_and_no_subscriber_takes_all_places() {
    let origin = Origin::start(LOOPBACK[0], Greeting::Accept);
    let hello_time = Duration::from_secs(2);
    let bench = Bench::with(&terms(&origin), crate::proxy::Limits { hello_time, ..limits() });
    let part = initial(1, b"original", 0, &crypto(0, &hello()[..50]), 1_200);
    let mut waiting = JoinSet::new();
    // More than the 32 places at each of two workers' sockets. Each is sent until it is answered, as
    // clients do: those over the bound at once, the others when their time is over.
    for _ in 0..80 {
        let socket = UdpSocket::bind((LOOPBACK[0], 0)).await.unwrap();
        socket.connect(bench.quic.unwrap()).await.unwrap();
        let part = part.clone();
        waiting.spawn(async move {
            let mut answer = [0; 100];
            loop {
                socket.send(&part).await.unwrap();
                let again = hello_time / 10;
                if let Ok(length) = timeout(again, socket.recv(&mut answer)).await {
                    break answer[..length.unwrap()].to_vec();
                }
            }
        });
    }
    let mut most = 0;
    let all = async {
        while let Some(answer) = waiting.join_next().await {
            let answer = answer.unwrap();
            assert_eq!(answer[1..5], [0, 0, 0, 1], "{answer:?}");
            most = most.max(bench.sessions.count());
        }
    };
    within(all).await;
    let over = || bench.outcomes("quic", "us-limit");
    let late = || bench.outcomes("quic", "subscriber-malformed");
    bench.until(|| over() + late() >= 80.0).await;
    assert!(most <= 64, "{most} at once");
    assert!(over() > 0.0 && late() > 0.0, "{} over the bound, {} too late", over(), late());
    assert_eq!(origin.accepted.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn other_versions_are_told_which_there_are_and_garbage_is_ignored() {
    let origin = Origin::start(LOOPBACK[0], Greeting::Accept);
    let bench = bench(&origin);
    let socket = UdpSocket::bind((LOOPBACK[0], 0)).await.unwrap();
    socket.connect(bench.quic.unwrap()).await.unwrap();
    for garbage in [&b"x"[..], &[0x40; 1_200], &[0xc0, 0, 0, 0, 1], &[0xff; 40]] {
        socket.send(garbage).await.unwrap();
    }
    let mut other = initial(1, b"original", 0, &crypto(0, hello()), 1_200);
    other[1..5].copy_from_slice(&[0x0a, 0x1a, 0x2a, 0x3a]);
    socket.send(&other).await.unwrap();
    let mut answer = [0; 100];
    let length = within(socket.recv(&mut answer)).await.unwrap();
    assert_eq!(answer[1..5], [0; 4], "a Version Negotiation packet");
    assert_eq!(&answer[length - 8..length], [0, 0, 0, 1, 0x6b, 0x33, 0x43, 0xcf]);
    assert_eq!(bench.judge.last(), Some((Verdict::Deny, Reason::Quic)));
    let unclear = bench.metric("postern_quic_ignored_datagrams_total", &[("cause", "unclear")]);
    assert_eq!(unclear, 5.0);
    assert_eq!(bench.sessions.count(), 0);
}

#[tokio::test]
async fn idle_paths_do_not_hold_up_the_stop() {
    let origin = Origin::start(LOOPBACK[0], Greeting::Accept);
    let bench = bench(&origin);
    let client = client(LOOPBACK[0]);
    let connection = within(connect(&client, &bench, origin.trusted(), LISTED)).await.unwrap();
    assert_eq!(echoed(&connection, b"x").await, b"x");
    let sessions = Arc::clone(&bench.sessions);
    within(bench.stop()).await;
    assert_eq!(sessions.count(), 0);
}

fn terms(origin: &Origin) -> Terms {
    let loopback = origin.address.ip();
    Terms { quic: Quic::Inspect, loopback, ..Terms::new(origin.address.port()) }
}

fn bench(origin: &Origin) -> Bench {
    Bench::with(&terms(origin), limits())
}

fn client(loopback: IpAddr) -> Endpoint {
    Endpoint::client(SocketAddr::new(loopback, 0)).unwrap()
}

async fn connect(
    client: &Endpoint,
    bench: &Bench,
    trusting: ClientConfig,
    host: &str,
) -> Result<Connection, ConnectionError> {
    client.connect_with(trusting, bench.quic.unwrap(), host).unwrap().await
}

async fn assert_refused(bench: &Bench, origin: &Origin, host: &str) {
    let client = client(origin.address.ip());
    let refused = within(connect(&client, bench, origin.trusted(), host)).await;
    let error = refused.expect_err(host);
    assert!(is_refusal(&error), "{host}: {error:?}");
}

/// Whether it is the gateway's CONNECTION_REFUSED.
fn is_refusal(error: &ConnectionError) -> bool {
    matches!(
        error,
        ConnectionError::ConnectionClosed(close)
            if u64::from(close.error_code) == 2 && close.reason.is_empty()
    )
}

/// What comes back for octets on a stream.
async fn echoed(connection: &Connection, octets: &[u8]) -> Vec<u8> {
    let exchange = async {
        let (mut into, mut from) = connection.open_bi().await.unwrap();
        let speak = async {
            into.write_all(octets).await.unwrap();
            into.finish().unwrap();
        };
        let (_, heard) = tokio::join!(speak, from.read_to_end(octets.len() + 1));
        heard.unwrap()
    };
    within(exchange).await
}

/// How an origin meets a client.
#[derive(Clone, Copy)]
enum Greeting {
    Accept,
    /// With a Retry first.
    Retry,
}

/// A QUIC server that sends every octet back.
struct Origin {
    address: SocketAddr,
    certificate: CertificateDer<'static>,
    accepted: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Origin {
    fn start(loopback: IpAddr, greeting: Greeting) -> Self {
        let hosts = [LISTED, HTTPS_ONLY, DENIED].map(str::to_owned).to_vec();
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(hosts).unwrap();
        let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
        let tls = rustls::ServerConfig::builder_with_provider(provider(vec![kx_group::X25519]))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key.into())
            .unwrap();
        let tls = QuicServerConfig::try_from(tls).unwrap();
        let configuration = ServerConfig::with_crypto(Arc::new(tls));
        let endpoint = Endpoint::server(configuration, SocketAddr::new(loopback, 0)).unwrap();
        let address = endpoint.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        let count = Arc::clone(&accepted);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Some(incoming) = endpoint.accept().await {
                match greeting {
                    Greeting::Retry if !incoming.remote_address_validated() => {
                        incoming.retry().unwrap();
                    }
                    Greeting::Retry | Greeting::Accept => {
                        count.fetch_add(1, Ordering::Relaxed);
                        connections.spawn(echo(incoming));
                    }
                }
            }
        });
        Self { address, certificate: cert.der().clone(), accepted, _tasks: tasks }
    }

    /// What a client needs to trust it.
    fn trusted(&self) -> ClientConfig {
        self.trusted_with(vec![kx_group::X25519])
    }

    fn trusted_with(
        &self,
        groups: Vec<&'static dyn rustls::crypto::SupportedKxGroup>,
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let tls = rustls::ClientConfig::builder_with_provider(provider(groups))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()))
    }
}

async fn echo(incoming: Incoming) {
    let Ok(connection) = incoming.await else { return };
    while let Ok((mut into, mut from)) = connection.accept_bi().await {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(Some(length)) = from.read(&mut buffer).await {
            if into.write_all(&buffer[..length]).await.is_err() {
                break;
            }
        }
        let _ = into.finish();
    }
    connection.close(VarInt::from_u32(0), b"");
}

fn provider(kx_groups: Vec<&'static dyn rustls::crypto::SupportedKxGroup>) -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { kx_groups, ..default_provider() })
}

const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
