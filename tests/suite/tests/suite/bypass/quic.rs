//! Ways around the garden by QUIC, where the node looks into it.

use std::{net::SocketAddr, sync::Arc};

use lab::{Fetch, Seen, World};
use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, ServerConfig,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use rustls::{
    RootCertStore,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
};
use tokio::{net::UdpSocket, task::JoinSet, time::timeout};

use crate::stage::{
    BING, Family, HTTP_ONLY, LOGIN, PORTAL, address, assert_reached, assert_refused, assert_sealed,
    at, eventually, metric, options,
};

#[test]
fn row_23_listed_name_passes_and_every_other_is_refused_at_once() {
    let (world, origin) = world();
    for family in Family::BOTH {
        for host in [LOGIN, PORTAL] {
            // Whatever address was chosen, the name's own is dialled.
            let to = at(if host == LOGIN { LOGIN } else { BING }, family, 443);
            let connected = connect(&world, to, host, &origin);
            assert!(connected.is_ok(), "{host} over {family}: {connected:?}");
        }
        for host in [BING, HTTP_ONLY, "203.0.113.12"] {
            // A client that hears nothing would ask again, and time out long after that.
            let refused = connect(&world, at(LOGIN, family, 443), host, &origin);
            assert!(is_refusal(&refused), "{host} over {family}: {refused:?}");
        }
    }
    let mismatch = metric(&world, "postern_destination_mismatch_total", &[]);
    assert_eq!(mismatch, 2.0, "the portal, on an address of a decoy");
    let allowed = [("protocol", "quic"), ("verdict", "allow"), ("reason", "listed")];
    assert_eq!(metric(&world, "postern_decisions_total", &allowed), 4.0);
    assert_sealed(&world);
}

#[test]
fn row_23_second_name_on_a_path_is_cut() {
    let (world, origin) = world();
    for family in Family::BOTH {
        let to = at(LOGIN, family, 443);
        let trusting = origin.trusted();
        let (first, second) = world.ue(1).namespace().run(async move {
            let client = Endpoint::client(any(to)).unwrap();
            let first = within(&client, trusting.clone(), to, LOGIN).await;
            (first.map(drop), within(&client, trusting, to, BING).await.map(drop))
        });
        assert!(first.is_ok(), "{family}: {first:?}");
        assert!(is_refusal(&second), "{family}: {second:?}");
    }
    let changed = [("protocol", "quic"), ("reason", "hello-changed")];
    assert_eq!(metric(&world, "postern_decisions_total", &changed), 2.0);
    eventually("both paths are over", || {
        (metric(&world, "postern_sessions", &[]) == 0.0).then_some(())
    });
    assert_sealed(&world);
}

#[test]
fn row_23_path_belongs_to_its_four_ends() {
    let (world, origin) = world();
    for family in Family::BOTH {
        let (to, other) = (at(LOGIN, family, 443), at(BING, family, 443));
        let trusting = origin.trusted();
        world.ue(1).namespace().run(async move {
            let client = Endpoint::client(any(to)).unwrap();
            let connection = within(&client, trusting, to, LOGIN).await.unwrap();
            // The client goes on from another port: nothing of that passes, for it begins nothing.
            client.rebind(std::net::UdpSocket::bind(any(to)).unwrap()).unwrap();
            let stream = timeout(Seen::AT_ONCE, echoed(&connection)).await;
            assert!(stream.is_err(), "the path moved with its client: {stream:?}");
            // Nor does what is sent to another address.
            let stray = UdpSocket::bind(any(to)).await.unwrap();
            stray.send_to(&[0x40; 100], other).await.unwrap();
        });
    }
    let ignored = [("cause", "unclear")];
    eventually("what belongs to no path is ignored", || {
        let ignored = metric(&world, "postern_quic_ignored_datagrams_total", &ignored);
        (ignored >= 4.0).then_some(())
    });
    assert_sealed(&world);
}

#[test]
fn row_23_unknown_versions_and_garbage_reach_nobody() {
    let (world, _origin) = world();
    for family in Family::BOTH {
        let to = at(LOGIN, family, 443);
        let answer = world.ue(1).namespace().run(async move {
            let socket = UdpSocket::bind(any(to)).await.unwrap();
            socket.connect(to).await.unwrap();
            for garbage in [&b"data"[..], &[0x40; 1_300], &[0xc0, 0, 0, 0, 1, 0, 0, 0]] {
                socket.send(garbage).await.unwrap();
            }
            // A long header of a version nobody speaks (RFC 9000 section 15).
            let mut other = [0; 1_200];
            other[..5].copy_from_slice(&[0xc0, 0x0a, 0x1a, 0x2a, 0x3a]);
            socket.send(&other).await.unwrap();
            let mut answer = [0; 64];
            timeout(lab::Sim::PATIENCE, socket.recv(&mut answer)).await.unwrap().unwrap();
            answer
        });
        assert_eq!(answer[1..5], [0; 4], "{family}: a Version Negotiation packet");
    }
    assert_eq!(world.connections_to(at(LOGIN, Family::V4, 443)), 0);
    assert_eq!(metric(&world, "postern_session_outcomes_total", &[("protocol", "quic")]), 0.0);
    assert_sealed(&world);
}

#[test]
fn row_22_quic_of_an_inspecting_gateway_that_is_gone_is_refused_at_once() {
    let (world, _origin) = world();
    world.gateway().kill();
    for family in Family::BOTH {
        for host in [LOGIN, BING] {
            let seen = world.ue(1).send_datagram(at(host, family, 443), b"data");
            assert_refused("QUIC without a gateway", &seen);
        }
    }
    assert_sealed(&world);
}

#[test]
fn live_paths_stay_with_a_process_that_is_replaced_and_new_ones_go_to_the_next() {
    let (world, origin) = world();
    let live: Vec<_> = Family::BOTH
        .into_iter()
        .map(|family| {
            let (to, trusting) = (at(LOGIN, family, 443), origin.trusted());
            world.ue(1).namespace().run(async move {
                let client = Endpoint::client(any(to)).unwrap();
                let connection = within(&client, trusting, to, LOGIN).await.unwrap();
                (client, connection)
            })
        })
        .collect();
    let successor = world.gateway().upgrade().unwrap();
    for (_, connection) in &live {
        let connection = connection.clone();
        let echo = async move { timeout(lab::Sim::PATIENCE, echoed(&connection)).await };
        assert!(world.ue(1).namespace().run(echo).is_ok(), "a live path was cut");
    }
    for family in Family::BOTH {
        let to = at(LOGIN, family, 443);
        assert!(connect(&world, to, LOGIN, &origin).is_ok(), "{family}");
        assert!(is_refusal(&connect(&world, to, BING, &origin)), "{family}");
    }
    assert!(world.gateway().is_running(), "it keeps its paths");
    assert_sealed(&world);
    world.gateway().kill();
    successor.stop().unwrap();
}

#[test]
fn tls_and_http_go_on_beside_quic() {
    let (world, _origin) = world();
    for family in Family::BOTH {
        assert_reached(LOGIN, &world.ue(1).fetch(&Fetch::https(LOGIN, family)));
        assert_reached(LOGIN, &world.ue(1).fetch(&Fetch::http(LOGIN, family)));
        let bing = Fetch::https(BING, family).at(address(BING, family));
        assert_refused(BING, &world.ue(1).fetch(&bing));
    }
    assert_sealed(&world);
}

#[test]
fn origins_dialled_from_the_subscribers_own_address_answer_it_by_way_of_the_gateway() {
    let (world, origin) = world_with("source = \"subscriber\"\n");
    let mut seen = world.leaked_packets().unwrap();
    let mut is_seen = |what: &str, family| {
        let now = world.leaked_packets().unwrap();
        assert!(now > seen, "{what} over {family}: no packet from the SIM's address");
        seen = now;
    };
    for family in Family::BOTH {
        for page in [Fetch::https(LOGIN, family), Fetch::http(LOGIN, family)] {
            assert_reached(LOGIN, &world.ue(1).fetch(&page));
            is_seen(&page.title(), family);
        }
        connect(&world, at(LOGIN, family, 443), LOGIN, &origin).unwrap();
        is_seen("QUIC", family);
        let bing = Fetch::https(BING, family).at(address(BING, family));
        assert_refused(BING, &world.ue(1).fetch(&bing));
    }
    let hits = world.hits(BING);
    assert_eq!((hits.connections, hits.hellos, hits.requests), (0, 0, 0));
}

/// A world whose gateway looks into QUIC, with a QUIC server in place of the echo of two hosts.
fn world() -> (World, Origin) {
    world_with("")
}

/// The same, with these lines in `[proxy]`.
fn world_with(lines: &str) -> (World, Origin) {
    let mut options = options();
    options.start_gateway = false;
    options.quic_echo = false;
    let world = World::start(options).unwrap();
    let settings = world.settings_text().unwrap();
    let settings = settings.replace("\"reject\"", "\"inspect\"");
    let proxy = format!("[proxy]\n{lines}");
    world.write_settings(&settings.replace("[proxy]\n", &proxy)).unwrap();
    world.gateway().start().unwrap();
    let origin = Origin::start(&world);
    (world, origin)
}

fn connect(
    world: &World,
    to: SocketAddr,
    host: &'static str,
    origin: &Origin,
) -> Result<(), ConnectionError> {
    let trusting = origin.trusted();
    world.ue(1).namespace().run(async move {
        let client = Endpoint::client(any(to)).unwrap();
        let connection = within(&client, trusting, to, host).await?;
        timeout(lab::Sim::PATIENCE, echoed(&connection)).await.unwrap();
        Ok(())
    })
}

async fn within(
    client: &Endpoint,
    trusting: ClientConfig,
    to: SocketAddr,
    host: &str,
) -> Result<Connection, ConnectionError> {
    let connecting = client.connect_with(trusting, to, host).unwrap();
    timeout(lab::Sim::PATIENCE, connecting).await.unwrap()
}

/// Asserts that a stream comes back as it was sent.
async fn echoed(connection: &Connection) {
    let (mut into, mut from) = connection.open_bi().await.unwrap();
    into.write_all(b"echo").await.unwrap();
    into.finish().unwrap();
    assert_eq!(from.read_to_end(16).await.unwrap(), b"echo");
}

/// Whether it is the gateway's CONNECTION_REFUSED.
fn is_refusal<T>(connected: &Result<T, ConnectionError>) -> bool {
    matches!(
        connected,
        Err(ConnectionError::ConnectionClosed(close)) if u64::from(close.error_code) == 2
    )
}

fn any(to: SocketAddr) -> SocketAddr {
    if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().unwrap()
}

/// QUIC servers that send everything back.
struct Origin {
    certificate: CertificateDer<'static>,
    _tasks: JoinSet<()>,
}

impl Origin {
    fn start(world: &World) -> Self {
        let hosts = [LOGIN, PORTAL].map(str::to_owned).to_vec();
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(hosts).unwrap();
        let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
        let tls = rustls::ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key.into())
            .unwrap();
        let tls = Arc::new(QuicServerConfig::try_from(tls).unwrap());
        let places = Family::BOTH
            .into_iter()
            .flat_map(|family| [LOGIN, PORTAL].map(|host| at(host, family, 443)));
        let places: Vec<SocketAddr> = places.collect();
        let tasks = world.net().run(async move {
            let mut tasks = JoinSet::new();
            for place in places {
                let configuration = ServerConfig::with_crypto(Arc::clone(&tls) as _);
                let endpoint = Endpoint::server(configuration, place).unwrap();
                tasks.spawn(serve(endpoint));
            }
            tasks
        });
        Self { certificate: cert.der().clone(), _tasks: tasks }
    }

    fn trusted(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()))
    }
}

async fn serve(endpoint: Endpoint) {
    let mut connections = JoinSet::new();
    while let Some(incoming) = endpoint.accept().await {
        connections.spawn(async move {
            let Ok(connection) = incoming.await else { return };
            while let Ok((mut into, mut from)) = connection.accept_bi().await {
                let heard = from.read_to_end(1_024).await.unwrap_or_default();
                let _ = into.write_all(&heard).await;
                let _ = into.finish();
            }
        });
    }
}
