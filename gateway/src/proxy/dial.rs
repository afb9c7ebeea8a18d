//! Dials the name: our own resolution of it, never an address the subscriber chose.
//!
//! Every address is held against the guard again at the moment it is dialled. A connection that
//! would come back to the gateway is refused.

mod origins;

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use futures_util::{StreamExt, stream::FuturesUnordered};
use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;
use policy::{HostName, Reason, Rule, Snapshot};
use tokio::{
    io::Interest,
    net::{TcpStream, UdpSocket},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

pub(crate) use self::origins::Egress;
use self::origins::local_ports;
pub(super) use self::origins::{Counted, Origins};
use super::{
    metrics::Metrics,
    outcome::{OriginEnd, OurEnd, Outcome, PolicyEnd},
};

/// Opens connections to origins.
pub(super) struct Dialer {
    listeners: Vec<SocketAddr>,
    own_addresses: ArcSwap<BTreeSet<IpAddr>>,
    dial_time: Duration,
    origins: Origins,
    turns: AtomicUsize,
    metrics: Arc<Metrics>,
}

/// An open connection to an origin.
pub(super) struct Dialled {
    pub(super) stream: TcpStream,
    /// The address that took the connection.
    pub(super) address: SocketAddr,
    /// Every address the name has.
    pub(super) addresses: Vec<IpAddr>,
    /// To be kept as long as the connection.
    pub(super) counted: Counted,
}

/// Where a name may be dialled.
pub(super) struct Candidates {
    /// What may be dialled, in the order to try it.
    pub(super) to: Vec<SocketAddr>,
    /// Every address the name has.
    pub(super) addresses: Vec<IpAddr>,
}

/// Why no connection could be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    /// The name does not resolve.
    #[error("the name cannot be resolved")]
    Unresolved(#[source] dns::ResolveError),
    /// The name resolves only to addresses that must not be dialled.
    #[error("every address of the name is refused by the dial guard")]
    AddressRefused,
    /// The subscriber had too many names below the wildcard looked up.
    #[error("the subscriber had too many names below one wildcard looked up")]
    TooManyNames,
    /// The name leads back to the gateway.
    #[error("the name leads back to the gateway")]
    Loop,
    /// No address took the connection.
    #[error("none of {count} addresses took the connection")]
    Unreachable {
        /// Addresses tried.
        count: usize,
        /// The last failure.
        #[source]
        last: io::Error,
    },
    /// Nothing answered in time.
    #[error("no connection within {limit:?}")]
    TimedOut {
        /// The limit.
        limit: Duration,
    },
}

impl Dialer {
    pub(super) fn new(
        listeners: Vec<SocketAddr>,
        dial_time: Duration,
        origins: Origins,
        metrics: Arc<Metrics>,
    ) -> Self {
        let own_addresses = ArcSwap::from_pointee(host_addresses().unwrap_or_default());
        metrics.local_ports(local_ports() * origins.width());
        let turns = AtomicUsize::new(0);
        Self { listeners, own_addresses, dial_time, origins, turns, metrics }
    }

    /// Resolves `host` for the subscriber at `asker` and connects to `port` of one of its addresses,
    /// or to the port the lab's policy puts in its place.
    ///
    /// # Errors
    ///
    /// As [`DialError`] says; resolution and connection together take at most the dial time.
    pub(super) async fn dial(
        &self,
        resolver: &dns::Resolver,
        snapshot: &Snapshot,
        asker: IpAddr,
        host: &HostName,
        rule: Option<&Rule>,
        port: u16,
    ) -> Result<Dialled, DialError> {
        let limit = self.dial_time;
        let dialled = async {
            let Candidates { to, addresses } =
                self.candidates(resolver, snapshot, asker, host, rule, port).await?;
            let counted = Counted::new(self.metrics.origin_connections());
            let (stream, address) = self.race(to, asker).await?;
            let lifted = lifted(snapshot, rule);
            // An address the host took since its addresses were last listed.
            if stream.local_addr().is_ok_and(|local| local.ip() == address.ip())
                && !is_lifted(address.ip(), lifted)
            {
                return Err(DialError::Loop);
            }
            Ok(Dialled { stream, address, addresses, counted })
        };
        timeout(limit, dialled).await.unwrap_or(Err(DialError::TimedOut { limit }))
    }

    /// Resolves `host` for the subscriber at `asker` and says where to dial it.
    ///
    /// # Errors
    ///
    /// As [`DialError`] says; it takes at most the dial time.
    pub(super) async fn candidates(
        &self,
        resolver: &dns::Resolver,
        snapshot: &Snapshot,
        asker: IpAddr,
        host: &HostName,
        rule: Option<&Rule>,
        port: u16,
    ) -> Result<Candidates, DialError> {
        let limit = self.dial_time;
        let resolved = timeout(limit, resolver.addresses(snapshot, asker, host, rule)).await;
        let addresses = match resolved.map_err(|_| DialError::TimedOut { limit })? {
            Ok(addresses) => addresses,
            Err(dns::ResolveError::AddressesRefused) => return Err(DialError::AddressRefused),
            Err(dns::ResolveError::TooManyNames) => return Err(DialError::TooManyNames),
            Err(error) => return Err(DialError::Unresolved(error)),
        };
        let port = snapshot.policy().lab().ports.get(&port).copied().unwrap_or(port);
        let mut to = self.screened(resolver.guard(), &addresses, port, lifted(snapshot, rule))?;
        to.retain(|address| self.origins.reach(*address, asker));
        Ok(Candidates { to, addresses })
    }

    /// A socket for datagrams of the subscriber at `asker` to and from `address`, one of those that
    /// [`Self::candidates`] gave; counted as long as the second is kept.
    pub(super) fn datagrams(
        &self,
        address: SocketAddr,
        asker: IpAddr,
    ) -> io::Result<(UdpSocket, Counted)> {
        let counted = Counted::new(self.metrics.origin_connections());
        let socket = self.origins.datagrams(address, asker, self.turn());
        Ok((socket.inspect_err(|error| self.note(error))?, counted))
    }

    /// The addresses that may be dialled, in the order to try them.
    fn screened(
        &self,
        guard: &dns::address::Guard,
        addresses: &[IpAddr],
        port: u16,
        lifted: [&[IpNet]; 2],
    ) -> Result<Vec<SocketAddr>, DialError> {
        let own = self.own_addresses.load();
        let mut looped = false;
        let mut kept = Vec::new();
        for ip in addresses.iter().map(IpAddr::to_canonical) {
            let address = SocketAddr::new(ip, port);
            let may = is_lifted(ip, lifted);
            if self.listens_on(address, &own) || (own.contains(&ip) && !may) {
                looped = true;
            } else if may || guard.refused(ip).is_none() {
                kept.push(address);
            }
        }
        match (kept.is_empty(), looped) {
            (false, _) => Ok(interleaved(kept)),
            (true, true) => Err(DialError::Loop),
            (true, false) => Err(DialError::AddressRefused),
        }
    }

    /// Whether a connection to `address` would arrive at one of our own listeners.
    fn listens_on(&self, address: SocketAddr, own: &BTreeSet<IpAddr>) -> bool {
        self.listeners.iter().any(|listener| {
            listener.port() == address.port()
                && (listener.ip() == address.ip()
                    || (listener.ip().is_unspecified()
                        && listener.is_ipv4() == address.is_ipv4()
                        && (own.contains(&address.ip()) || address.ip().is_loopback())))
        })
    }

    /// Connects to the candidates in order, each a little after the one before or as soon as that
    /// has failed; the first to answer wins (RFC 8305 section 5).
    async fn race(
        &self,
        candidates: Vec<SocketAddr>,
        asker: IpAddr,
    ) -> Result<(TcpStream, SocketAddr), DialError> {
        // The usual case has nobody to race against; a race needs far more room.
        if let [only] = *candidates {
            let connected = self.connect(only, asker).await;
            return connected.map_err(|last| DialError::Unreachable { count: 1, last });
        }
        Box::pin(self.race_all(candidates, asker)).await
    }

    async fn race_all(
        &self,
        candidates: Vec<SocketAddr>,
        asker: IpAddr,
    ) -> Result<(TcpStream, SocketAddr), DialError> {
        let count = candidates.len();
        let mut waiting = candidates.into_iter();
        let mut tries = FuturesUnordered::new();
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        loop {
            let next = waiting.next();
            let more = next.is_some();
            if let Some(address) = next {
                tries.push(self.connect(address, asker));
            }
            tokio::select! {
                biased;
                // Cancel-safe: a finished try stays in the set.
                tried = tries.next() => match tried {
                    Some(Ok(connected)) => return Ok(connected),
                    Some(Err(error)) => last = error,
                    None if !more => return Err(DialError::Unreachable { count, last }),
                    None => {}
                },
                () = sleep(STAGGER), if more => {}
            }
        }
    }

    async fn connect(
        &self,
        address: SocketAddr,
        asker: IpAddr,
    ) -> io::Result<(TcpStream, SocketAddr)> {
        let connecting = async {
            let stream = self.origins.connect(address, asker, self.turn())?;
            // The kernel tells a failure with it: most need not be asked for one.
            let ready = stream.ready(Interest::WRITABLE).await?;
            let error = if ready.is_write_closed() { stream.take_error()? } else { None };
            error.map_or(Ok(stream), Err)
        };
        let stream = connecting.await.inspect_err(|error| self.note(error))?;
        Ok((stream, address))
    }

    fn turn(&self) -> usize {
        self.turns.fetch_add(1, Ordering::Relaxed)
    }

    /// Counts a failure that more egress addresses would cure.
    fn note(&self, error: &io::Error) {
        if error.kind() == io::ErrorKind::AddrNotAvailable {
            self.metrics.local_ports_exhausted();
        }
    }

    /// Keeps the list of the host's own addresses fresh until `stop`.
    pub(super) async fn watch_own_addresses(&self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(OWN_ADDRESSES_REFRESH) => {}
            }
            // The last known list stays where the kernel cannot be asked.
            if let Ok(found) = host_addresses() {
                self.own_addresses.store(Arc::new(found));
            }
        }
    }
}

impl DialError {
    /// How the session ends.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Unresolved(_) => Outcome::Origin(OriginEnd::Unresolved),
            Self::AddressRefused => Outcome::Us(OurEnd::AddressRefused),
            Self::TooManyNames => Outcome::Policy(PolicyEnd::Denied(Reason::Limit)),
            Self::Loop => Outcome::Us(OurEnd::Loop),
            Self::Unreachable { .. } | Self::TimedOut { .. } => {
                Outcome::Origin(OriginEnd::Unreachable)
            }
        }
    }

    /// The reason to record, where the failure is a denial of ours.
    pub(super) fn reason(&self) -> Option<Reason> {
        match self {
            Self::AddressRefused => Some(Reason::UpstreamAddressRefused),
            Self::TooManyNames => Some(Reason::Limit),
            Self::Loop => Some(Reason::Loop),
            Self::Unresolved(_) | Self::Unreachable { .. } | Self::TimedOut { .. } => None,
        }
    }
}

/// The networks that may be dialled although they are refused otherwise.
fn lifted<'s>(snapshot: &'s Snapshot, rule: Option<&'s Rule>) -> [&'s [IpNet]; 2] {
    [&snapshot.policy().lab().networks, rule.map_or(&[], Rule::networks)]
}

fn is_lifted(ip: IpAddr, lifted: [&[IpNet]; 2]) -> bool {
    lifted.into_iter().flatten().any(|network| network.contains(&ip))
}

/// IPv6 first, then the families in turn (RFC 8305 section 4).
fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    if addresses.len() == 1 {
        return addresses;
    }
    let (v6, v4): (Vec<_>, Vec<_>) = addresses.into_iter().partition(SocketAddr::is_ipv6);
    let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
    let mut ordered = Vec::new();
    loop {
        match (v6.next(), v4.next()) {
            (None, None) => break,
            (first, second) => ordered.extend(first.into_iter().chain(second)),
        }
    }
    ordered.truncate(MAX_CANDIDATES);
    ordered
}

/// Every address of the host's interfaces.
fn host_addresses() -> io::Result<BTreeSet<IpAddr>> {
    let addresses = getifaddrs()?.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|found| IpAddr::V4(found.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|found| IpAddr::V6(found.ip())))
    });
    Ok(addresses.collect())
}

/// From one try to the next (RFC 8305 section 5, "Connection Attempt Delay").
const STAGGER: Duration = Duration::from_millis(250);
/// Addresses tried for one session.
const MAX_CANDIDATES: usize = 8;
const OWN_ADDRESSES_REFRESH: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
