//! Dials the name: our own resolution of it, never an address the subscriber chose.
//!
//! Every address is held against the guard again at the moment it is dialled. A connection that
//! would come back to the gateway is refused.

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
use nix::{
    ifaddrs::getifaddrs,
    sys::socket::{setsockopt, sockopt},
};
use policy::{HostName, Reason, Rule, Snapshot};
use prometheus::IntGauge;
use socket2::SockRef;
use tokio::{
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    metrics::Metrics,
    outcome::{OriginEnd, OurEnd, Outcome},
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

/// How sockets towards origins are made.
#[derive(Clone, Debug, Default)]
pub(super) struct Origins {
    /// Mark (`SO_MARK`).
    pub(super) mark: Option<u32>,
    /// Addresses to dial from, in turn; the kernel's choice for a family that has none here.
    pub(super) egress: Vec<IpAddr>,
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

/// One connection in the gauge of those to origins.
#[derive(Debug)]
pub(super) struct Counted(IntGauge);

/// Why no connection could be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    /// The name does not resolve.
    #[error("the name cannot be resolved")]
    Unresolved(#[source] dns::ResolveError),
    /// The name resolves only to addresses that must not be dialled.
    #[error("every address of the name is refused by the dial guard")]
    AddressRefused,
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
        metrics.local_ports(local_ports() * origins.egress.len().max(1));
        let turns = AtomicUsize::new(0);
        Self { listeners, own_addresses, dial_time, origins, turns, metrics }
    }

    /// Resolves `host` and connects to `port` of one of its addresses, or to the port the lab's
    /// policy puts in its place.
    ///
    /// # Errors
    ///
    /// As [`DialError`] says; resolution and connection together take at most the dial time.
    pub(super) async fn dial(
        &self,
        resolver: &dns::Resolver,
        snapshot: &Snapshot,
        host: &HostName,
        rule: Option<&Rule>,
        port: u16,
    ) -> Result<Dialled, DialError> {
        let limit = self.dial_time;
        let dialled = async {
            let addresses = match resolver.addresses(snapshot, host, rule).await {
                Ok(addresses) => addresses,
                Err(dns::ResolveError::AddressesRefused) => return Err(DialError::AddressRefused),
                Err(error) => return Err(DialError::Unresolved(error)),
            };
            let lab = snapshot.policy().lab();
            let port = lab.ports.get(&port).copied().unwrap_or(port);
            let lifted = [lab.networks.as_slice(), rule.map_or(&[], Rule::networks)];
            let candidates = self.screened(resolver.guard(), &addresses, port, lifted)?;
            let counted = Counted::new(self.metrics.origin_connections());
            let (stream, address) = self.race(candidates).await?;
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
    ) -> Result<(TcpStream, SocketAddr), DialError> {
        let count = candidates.len();
        let mut waiting = candidates.into_iter();
        let mut tries = FuturesUnordered::new();
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        loop {
            let next = waiting.next();
            let more = next.is_some();
            if let Some(address) = next {
                tries.push(self.connect(address));
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

    async fn connect(&self, address: SocketAddr) -> io::Result<(TcpStream, SocketAddr)> {
        let connecting = async {
            let socket =
                self.origins.socket(address, self.turns.fetch_add(1, Ordering::Relaxed))?;
            socket.connect(address).await
        };
        let stream = connecting.await.inspect_err(|error| {
            if error.kind() == io::ErrorKind::AddrNotAvailable {
                self.metrics.local_ports_exhausted();
            }
        })?;
        Ok((stream, address))
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

impl Origins {
    /// A socket for a connection to `address`.
    fn socket(&self, address: SocketAddr, turn: usize) -> io::Result<TcpSocket> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        // Each write is a whole message of the subscriber.
        socket.set_nodelay(true)?;
        if let Some(mark) = self.mark {
            SockRef::from(&socket).set_mark(mark)?;
        }
        let same = || self.egress.iter().filter(|from| from.is_ipv4() == address.is_ipv4());
        if let Some(from) = turn.checked_rem(same().count()).and_then(|turn| same().nth(turn)) {
            // The port is chosen with the connection, when the origin is known: ports are counted
            // for each origin, not for all together (ip(7)).
            setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
            socket.bind(SocketAddr::new(*from, 0))?;
        }
        Ok(socket)
    }
}

impl Counted {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Dialled {
    /// Whether `address`, which the subscriber chose, is one of the name's: by itself, or as what
    /// DNS64 makes of one.
    pub(super) fn is_at(&self, address: IpAddr, guard: &dns::address::Guard) -> bool {
        [address, guard.host_of(address)].iter().any(|address| self.addresses.contains(address))
    }
}

impl DialError {
    /// How the session ends.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Unresolved(_) => Outcome::Origin(OriginEnd::Unresolved),
            Self::AddressRefused => Outcome::Us(OurEnd::AddressRefused),
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
            Self::Loop => Some(Reason::Loop),
            Self::Unresolved(_) | Self::Unreachable { .. } | Self::TimedOut { .. } => None,
        }
    }
}

fn is_lifted(ip: IpAddr, lifted: [&[IpNet]; 2]) -> bool {
    lifted.into_iter().flatten().any(|network| network.contains(&ip))
}

/// IPv6 first, then the families in turn (RFC 8305 section 4).
fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
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

/// Ports the kernel may choose from for one local address.
fn local_ports() -> usize {
    let text = std::fs::read_to_string(LOCAL_PORT_RANGE).unwrap_or_default();
    let mut bounds = text.split_whitespace().filter_map(|bound| bound.parse::<usize>().ok());
    match (bounds.next(), bounds.next()) {
        (Some(first), Some(last)) => (last + 1).saturating_sub(first),
        _ => 0,
    }
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
const LOCAL_PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const OWN_ADDRESSES_REFRESH: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn dialer(listeners: Vec<SocketAddr>, origins: Origins) -> Dialer {
        let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
        Dialer::new(listeners, Duration::from_secs(1), origins, metrics)
    }

    #[tokio::test]
    async fn egress_addresses_are_used_in_turn_and_each_port_more_than_once() {
        let egress = ["127.0.0.7", "127.0.0.8", "::1"].map(|from| from.parse().unwrap()).to_vec();
        let dialer = dialer(Vec::new(), Origins { egress, ..Origins::default() });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap();
        let mut from = Vec::new();
        for _ in 0..4 {
            let (stream, _) = dialer.connect(open).await.unwrap();
            from.push(stream.local_addr().unwrap().ip().to_string());
        }
        assert_eq!(from, ["127.0.0.7", "127.0.0.8", "127.0.0.7", "127.0.0.8"]);
        let listener = tokio::net::TcpListener::bind("[::1]:0").await.unwrap();
        let (stream, _) = dialer.connect(listener.local_addr().unwrap()).await.unwrap();
        assert!(stream.local_addr().unwrap().is_ipv6());
        // Only a port of the whole address would be taken with the bind.
        let range = local_ports();
        assert!(range > 1_000, "{range}");
    }

    #[tokio::test]
    async fn egress_address_that_is_not_ours_is_counted_as_no_port() {
        let egress = vec!["192.0.2.7".parse().unwrap()];
        let dialer = dialer(Vec::new(), Origins { egress, ..Origins::default() });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        assert!(dialer.connect(listener.local_addr().unwrap()).await.is_err());
        assert_eq!(dialer.metrics.exhausted(), 1);
    }

    #[test]
    fn families_take_turns_and_ipv6_is_first() {
        let addresses = ["192.0.2.1:1", "192.0.2.2:1", "[2001:db8::1]:1", "192.0.2.3:1"];
        let ordered = interleaved(addresses.map(|text| text.parse().unwrap()).to_vec());
        let expected = ["[2001:db8::1]:1", "192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1"];
        assert_eq!(ordered, expected.map(|text| text.parse::<SocketAddr>().unwrap()));
        let many = (0..100).map(|port| SocketAddr::from(([192, 0, 2, 1], port))).collect();
        assert_eq!(interleaved(many).len(), MAX_CANDIDATES);
    }

    #[test]
    fn guard_holds_at_the_dial() {
        let lifted: [IpNet; 1] = ["127.0.0.0/8".parse().unwrap()];
        let listeners = vec!["0.0.0.0:8443".parse().unwrap(), "[::]:8443".parse().unwrap()];
        let dialer = dialer(listeners, Origins::default());
        let guard = dns::address::Guard::new(Some("2001:db8:64::/96".parse().unwrap()));
        for (address, port, networks, expected) in [
            ("192.0.2.1", 443, &lifted[..0], "dialled"),
            ("2001:db8::1", 443, &lifted[..0], "dialled"),
            ("10.0.0.1", 443, &lifted[..0], "refused"),
            ("100.64.0.1", 443, &lifted[..0], "refused"),
            ("169.254.169.254", 443, &lifted[..0], "refused"),
            ("fd00::1", 443, &lifted[..0], "refused"),
            ("::ffff:10.0.0.1", 443, &lifted[..0], "refused"),
            ("64:ff9b::a00:1", 443, &lifted[..0], "refused"),
            ("2001:db8:64::a00:1", 443, &lifted[..0], "refused"),
            ("2001:db8:64::c633:6407", 443, &lifted[..0], "dialled"),
            ("127.0.0.5", 443, &lifted[..0], "refused"),
            ("127.0.0.5", 443, &lifted, "dialled"),
            // The host's own address, and never its own listener whatever is lifted.
            ("127.0.0.1", 443, &lifted[..0], "loop"),
            ("127.0.0.1", 443, &lifted, "dialled"),
            ("127.0.0.1", 8443, &lifted, "loop"),
            ("127.0.0.5", 8443, &lifted, "loop"),
        ] {
            let addresses = [address.parse().unwrap()];
            let screened = dialer.screened(&guard, &addresses, port, [networks, &[]]);
            let found = match screened {
                Ok(kept) if kept.len() == 1 => "dialled",
                Err(DialError::Loop) => "loop",
                Err(DialError::AddressRefused) => "refused",
                other => panic!("{address}: {other:?}"),
            };
            assert_eq!(found, expected, "{address} port {port} lifted {networks:?}");
        }
    }

    #[tokio::test]
    async fn next_address_is_tried_when_one_fails() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap();
        let shut = SocketAddr::from(([127, 0, 0, 2], open.port()));
        let dialer = dialer(Vec::new(), Origins::default());
        let (_, address) = dialer.race(vec![shut, open]).await.unwrap();
        assert_eq!(address, open);
        let failed = dialer.race(vec![shut]).await.unwrap_err();
        assert!(matches!(failed, DialError::Unreachable { count: 1, .. }), "{failed:?}");
    }

    #[tokio::test]
    async fn silent_address_does_not_hold_up_the_next() {
        // A full backlog answers nothing: connections to it hang.
        let silent =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        silent.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        silent.listen(0).unwrap();
        let hung = silent.local_addr().unwrap().as_socket().unwrap();
        let mut fill = Vec::new();
        while let Ok(Ok(filled)) = timeout(STAGGER / 2, TcpStream::connect(hung)).await {
            fill.push(filled);
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap();
        let dialer = dialer(Vec::new(), Origins::default());
        let raced = timeout(STAGGER * 4, dialer.race(vec![hung, open])).await;
        assert_eq!(raced.expect("waited for the silent one").unwrap().1, open);
    }
}
