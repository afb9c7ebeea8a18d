//! The listeners: bound together or not at all, stopped together.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    sync::Arc,
};

use socket2::Type;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    bind::BindError,
    cookies::CookieSecrets,
    encrypted::{Dialect, Door, Encrypted},
    inherited::{self, Inherited},
    limits::Limits,
    metrics::Metrics,
    resolver::Resolver,
    respond::{Judge, Responder},
    site::{PublicDoor, Site},
    stream, udp,
};

/// Where to listen, and how much to take on.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Addresses, each bound on UDP and TCP; port 0 takes a free one, the same for both. An IPv6
    /// address takes no IPv4.
    pub listen: Vec<SocketAddr>,
    /// Interfaces by which questions are taken, each with listeners of its own; empty means all.
    pub interfaces: Vec<String>,
    /// DNS over TLS (RFC 7858), if it is served.
    pub tls: Option<Encrypted>,
    /// DNS over HTTPS (RFC 8484), if it is served; at `/dns-query`, for whoever was told its name.
    /// It is never steered to.
    pub https: Option<Encrypted>,
    /// Packets arrive by TPROXY: they keep the destination the subscriber chose, and the answer
    /// leaves from there. Needs `CAP_NET_ADMIN`.
    pub transparent: bool,
    /// Addresses of the proxy, where nothing but the answers leads subscribers to it: every listed
    /// name is said to be there. Usually none.
    pub leads_to: Vec<IpAddr>,
    /// The bounds.
    pub limits: Limits,
}

/// The resolver, bound and not yet serving.
pub struct Server {
    listeners: Vec<Listener>,
    tls: Vec<(TcpListener, SocketAddr, Door)>,
    https: Vec<(TcpListener, SocketAddr, Door)>,
    responder: Arc<Responder>,
    limits: Limits,
}

/// One address on UDP and TCP.
struct Listener {
    address: SocketAddr,
    /// They share the address.
    udp: Vec<Arc<udp::Socket>>,
    tcp: TcpListener,
}

impl Server {
    /// Binds every address on UDP and TCP, or goes on with the sockets that are `inherited`.
    ///
    /// # Errors
    ///
    /// The first address that cannot be had, or that is one of the upstreams.
    #[expect(clippy::unused_async, reason = "sockets are registered with the runtime it needs")]
    pub async fn bind(
        settings: &Settings,
        inherited: &mut Inherited,
        judge: Arc<dyn Judge>,
        resolver: Arc<Resolver>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, BindError> {
        let listeners = places(settings, &settings.listen)
            .map(|place| bind_pair(place, settings.limits.udp_threads, inherited))
            .collect::<Result<Vec<_>, _>>()?;
        let (tls, https) = (
            bind_encrypted(settings, settings.tls.as_ref(), Dialect::Tls, inherited)?,
            bind_encrypted(settings, settings.https.as_ref(), Dialect::Https, inherited)?,
        );
        let plain = listeners.iter().map(|listener| listener.address);
        let encrypted = tls.iter().chain(&https).map(|(_, address, _)| *address);
        for address in plain.chain(encrypted) {
            if let Some(upstream) = resolver.upstreams().find(|to| leads_to(*to, address)) {
                return Err(BindError::Loop { address, upstream });
            }
        }
        let doors = public_doors(settings, &tls, &https);
        let leads_to = settings.leads_to.clone();
        let site = Site { nat64: resolver.guard().nat64(), doors, leads_to };
        let responder = Arc::new(Responder::new(judge, resolver, site, metrics, settings.limits));
        Ok(Self { listeners, tls, https, responder, limits: settings.limits })
    }

    #[cfg(test)]
    pub(crate) fn responder(&self) -> Arc<Responder> {
        Arc::clone(&self.responder)
    }

    /// Knows server cookies by `secrets`, which other nodes may share, instead of by one of its own.
    pub fn share_cookies(&self, secrets: CookieSecrets) {
        self.responder.share_cookies(secrets);
    }

    /// The bound addresses, in the order of the settings.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|listener| listener.address).collect()
    }

    /// The bound addresses of DNS over TLS, in the order of the settings.
    #[must_use]
    pub fn tls_addresses(&self) -> Vec<SocketAddr> {
        self.tls.iter().map(|(_, address, _)| *address).collect()
    }

    /// The bound addresses of DNS over HTTPS, in the order of the settings.
    #[must_use]
    pub fn https_addresses(&self) -> Vec<SocketAddr> {
        self.https.iter().map(|(_, address, _)| *address).collect()
    }

    /// One more descriptor of every listening socket, for a successor.
    ///
    /// # Errors
    ///
    /// There are no descriptors left.
    pub fn sockets(&self) -> io::Result<Vec<OwnedFd>> {
        let mut sockets = Vec::new();
        for Listener { udp, tcp, .. } in &self.listeners {
            for socket in udp {
                sockets.push(inherited::copy(&socket.as_fd())?);
            }
            sockets.push(inherited::copy(tcp)?);
        }
        for (listener, ..) in self.tls.iter().chain(&self.https) {
            sockets.push(inherited::copy(listener)?);
        }
        Ok(sockets)
    }

    /// Serves until `stop`, then finishes what is under way within `DRAIN`.
    pub async fn run(self, stop: CancellationToken) {
        let Self { listeners, tls, https, responder, limits } = self;
        let mut loops = JoinSet::new();
        let mut streams = Vec::new();
        for Listener { udp, tcp, .. } in listeners {
            loops.spawn(udp::serve(udp, Arc::clone(&responder), limits, stop.clone()));
            streams.push((tcp, None));
        }
        let encrypted = tls.into_iter().chain(https);
        streams.extend(encrypted.map(|(listener, _, door)| (listener, Some(door))));
        for (listener, door) in streams {
            let (responder, stop) = (Arc::clone(&responder), stop.clone());
            loops.spawn(stream::serve(listener, door, responder, limits, stop));
        }
        while let Some(ended) = loops.join_next().await {
            // A listener that broke must not be missed by nobody.
            if let Err(error) = ended
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses = [self.addresses(), self.tls_addresses(), self.https_addresses()];
        formatter.debug_tuple("Server").field(&addresses).finish()
    }
}

/// Where to bind, and how.
#[derive(Clone, Copy)]
struct Place<'s> {
    address: SocketAddr,
    interface: Option<&'s str>,
    transparent: bool,
}

/// Every address of `listen` on every interface that is asked for.
fn places<'s>(settings: &'s Settings, listen: &'s [SocketAddr]) -> impl Iterator<Item = Place<'s>> {
    let interfaces = settings.interfaces.iter().map(|interface| Some(interface.as_str()));
    let everywhere = settings.interfaces.is_empty().then_some(None);
    let interfaces: Vec<_> = interfaces.chain(everywhere).collect();
    listen.iter().flat_map(move |address| {
        let place =
            |interface| Place { address: *address, interface, transparent: settings.transparent };
        interfaces.clone().into_iter().map(place)
    })
}

fn bind_encrypted(
    settings: &Settings,
    wanted: Option<&Encrypted>,
    dialect: Dialect,
    inherited: &mut Inherited,
) -> Result<Vec<(TcpListener, SocketAddr, Door)>, BindError> {
    let Some(Encrypted { listen, identity, .. }) = wanted else { return Ok(Vec::new()) };
    let protocol = dialect.name();
    let door =
        Door::new(identity, dialect).map_err(|source| BindError::Identity { protocol, source })?;
    let mut bind = |place: Place<'_>| {
        let address = place.address;
        let failed = |error: io::Error| BindError::Tcp { address, source: Arc::new(error) };
        // DNS over HTTPS is never steered to.
        let transparent = place.transparent && dialect == Dialect::Tls;
        let taken = inherited.take(Type::STREAM, address, place.interface).pop();
        let listener = stream::bind(address, place.interface, transparent, taken)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok((listener, address, door.clone()))
    };
    places(settings, listen).map(&mut bind).collect()
}

/// The encrypted listeners that may be named to subscribers.
fn public_doors(
    settings: &Settings,
    tls: &[(TcpListener, SocketAddr, Door)],
    https: &[(TcpListener, SocketAddr, Door)],
) -> Vec<PublicDoor> {
    let mut doors = Vec::new();
    for (wanted, bound, dialect) in
        [(&settings.tls, tls, Dialect::Tls), (&settings.https, https, Dialect::Https)]
    {
        let Some(Encrypted { identity, steered_port, .. }) = wanted else { continue };
        let at = bound.iter().map(|(_, at, _)| *at);
        doors.extend(at.filter_map(|at| PublicDoor::new(dialect, identity, at, *steered_port)));
    }
    doors
}

/// Whether what is sent to `upstream` surely arrives at `local`.
fn leads_to(upstream: SocketAddr, local: SocketAddr) -> bool {
    let (to, at) = (upstream.ip(), local.ip());
    let is_ours = to == at
        || at.is_unspecified()
            && to.is_ipv4() == at.is_ipv4()
            && (to.is_loopback() || to.is_unspecified());
    is_ours && upstream.port() == local.port()
}

/// One port on UDP and TCP. With port 0, UDP takes any and TCP may find it taken: then again.
fn bind_pair(
    place: Place<'_>,
    threads: usize,
    inherited: &mut Inherited,
) -> Result<Listener, BindError> {
    let Place { address, interface, transparent } = place;
    let mut attempt = 1;
    loop {
        let taken = inherited.take(Type::DGRAM, address, interface);
        let udp = udp::Socket::bind(address, interface, transparent, threads, taken)?;
        let address = udp.first().map_or(address, udp::Socket::local);
        let taken = inherited.take(Type::STREAM, address, interface).pop();
        match stream::bind(address, interface, transparent, taken) {
            Ok(tcp) => {
                let udp = udp.into_iter().map(Arc::new).collect();
                return Ok(Listener { address, udp, tcp });
            }
            Err(_) if place.address.port() == 0 && attempt < PORT_ATTEMPTS => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Tries to find a port that is free on both transports.
const PORT_ATTEMPTS: u32 = 8;
