//! Settles the servers: on their own addresses in the emulated Internet, or on free ports of the
//! loopback interface.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tokio::{net::UdpSocket, task::JoinSet};

use super::{WorldError, during};
use crate::{
    family::Family,
    namespace::Namespace,
    origin::{self, Origin, Speech},
    upstream::{self, Upstream},
};

/// The running servers of a world.
#[derive(Debug)]
pub(super) struct Residents {
    // Ends before the namespace it runs in.
    _servers: JoinSet<()>,
    namespace: Namespace,
    loopback: Option<Ports>,
}

/// The ports of the loopback form.
#[derive(Debug, Clone)]
pub(super) struct Ports {
    pub(super) http: u16,
    pub(super) https: u16,
    pub(super) dns: u16,
    families: Vec<Family>,
}

impl Residents {
    /// Settles all servers on the well-known ports of every address of the namespace.
    pub(super) fn settle_internet(
        namespace: Namespace,
        origin: Origin,
        upstream: Upstream,
        quic_echo: bool,
    ) -> Result<Self, WorldError> {
        let settled = namespace.run(async move {
            let mut servers = JoinSet::new();
            for any in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
                for (port, speech) in PORTS {
                    let listener = origin::listen(SocketAddr::new(any, port))?;
                    servers.spawn(origin.clone().serve(listener, speech));
                }
            }
            for place in crate::places::places().filter(|place| quic_echo && place.name != TWIN) {
                for family in Family::BOTH {
                    let local = SocketAddr::new(place.address(family), 443);
                    servers.spawn(origin.clone().echo(UdpSocket::bind(local).await?, local));
                }
            }
            for address in upstream::ADDRESSES {
                servers.spawn(upstream.clone().serve_udp(UdpSocket::bind(address).await?));
                servers.spawn(upstream.clone().serve_tcp(origin::listen(address)?));
            }
            Ok(servers)
        });
        let servers = settled.map_err(during("settling the servers of the emulated Internet"))?;
        Ok(Self { _servers: servers, namespace, loopback: None })
    }

    /// Settles HTTP, HTTPS and the resolver on free loopback ports, the same port in both families.
    pub(super) fn settle_loopback(
        namespace: Namespace,
        origin: Origin,
        upstream: Upstream,
    ) -> Result<Self, WorldError> {
        let ports = namespace.run(async move {
            let families = match origin::listen(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), 0)) {
                Ok(_) => Family::BOTH.to_vec(),
                Err(_) => vec![Family::V4],
            };
            let mut servers = JoinSet::new();
            let mut settled = [0; 2];
            for (port, speech) in settled.iter_mut().zip([Speech::Http, Speech::Https]) {
                let listeners = listen_alike(&families)?;
                for listener in listeners {
                    *port = listener.local_addr()?.port();
                    servers.spawn(origin.clone().serve(listener, speech));
                }
            }
            let [http, https] = settled;
            let dns = serve_dns(upstream, &mut servers).await?;
            Ok((servers, Ports { http, https, dns, families }))
        });
        let (servers, ports) =
            ports.map_err(during("settling the servers on the loopback interface"))?;
        Ok(Self { _servers: servers, namespace, loopback: Some(ports) })
    }

    pub(super) fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    pub(super) fn loopback(&self) -> Option<&Ports> {
        self.loopback.as_ref()
    }

    pub(super) fn families(&self) -> Vec<Family> {
        self.loopback.as_ref().map_or_else(|| Family::BOTH.to_vec(), |ports| ports.families.clone())
    }
}

/// Listens on one free port in every family.
fn listen_alike(families: &[Family]) -> io::Result<Vec<tokio::net::TcpListener>> {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let mut port = 0;
        let mut listeners = Vec::new();
        for family in families {
            match origin::listen(SocketAddr::new(localhost(*family), port)) {
                Ok(listener) => {
                    port = listener.local_addr()?.port();
                    listeners.push(listener);
                }
                Err(error) => last = Some(error),
            }
        }
        if listeners.len() == families.len() {
            return Ok(listeners);
        }
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
}

/// Serves the resolver on one free port, UDP and TCP.
async fn serve_dns(upstream: Upstream, servers: &mut JoinSet<()>) -> io::Result<u16> {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = socket.local_addr()?;
        match origin::listen(address) {
            Ok(listener) => {
                servers.spawn(upstream.clone().serve_udp(socket));
                servers.spawn(upstream.serve_tcp(listener));
                return Ok(address.port());
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
}

fn localhost(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    }
}

/// What the emulated Internet listens on: 22 and 853 are there to be refused.
const PORTS: [(u16, Speech); 4] =
    [(80, Speech::Http), (443, Speech::Https), (22, Speech::Silence), (853, Speech::Silence)];
/// Shares its addresses with another place.
const TWIN: &str = "twin.example";
/// How many free ports are tried until one is free in every family or protocol.
const ATTEMPTS: u8 = 16;
