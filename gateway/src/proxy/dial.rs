//! Dials the name: our own resolution of it, never an address the subscriber chose.
//!
//! Every address is held against the guard again at the moment it is dialled. A connection that
//! would come back to the gateway is refused.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;
use policy::{HostName, Reason, Rule, Snapshot};
use socket2::SockRef;
use tokio::{
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::outcome::{OriginEnd, OurEnd, Outcome};

/// Opens connections to origins.
pub(super) struct Dialer {
    listeners: Vec<SocketAddr>,
    own_addresses: ArcSwap<BTreeSet<IpAddr>>,
    dial_time: Duration,
    mark: Option<u32>,
}

/// An open connection to an origin.
pub(super) struct Dialled {
    pub(super) stream: TcpStream,
    /// The address that took the connection.
    pub(super) address: SocketAddr,
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
    pub(super) fn new(listeners: Vec<SocketAddr>, dial_time: Duration, mark: Option<u32>) -> Self {
        let own_addresses = ArcSwap::from_pointee(host_addresses().unwrap_or_default());
        Self { listeners, own_addresses, dial_time, mark }
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
            let candidates = self.screened(&addresses, port, lifted)?;
            let (stream, address) = race(candidates, self.mark).await?;
            // An address the host took since its addresses were last listed.
            if stream.local_addr().is_ok_and(|local| local.ip() == address.ip())
                && !is_lifted(address.ip(), lifted)
            {
                return Err(DialError::Loop);
            }
            Ok(Dialled { stream, address, addresses })
        };
        timeout(limit, dialled).await.unwrap_or(Err(DialError::TimedOut { limit }))
    }

    /// The addresses that may be dialled, in the order to try them.
    fn screened(
        &self,
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
            } else if may || dns::address::refused(ip).is_none() {
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

/// Connects to the candidates in order, each a little after the one before or as soon as that has
/// failed; the first to answer wins (RFC 8305 section 5).
async fn race(
    candidates: Vec<SocketAddr>,
    mark: Option<u32>,
) -> Result<(TcpStream, SocketAddr), DialError> {
    let count = candidates.len();
    let mut waiting = candidates.into_iter();
    let mut tries = JoinSet::new();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        let next = waiting.next();
        let more = next.is_some();
        if let Some(address) = next {
            tries.spawn(connect(address, mark));
        }
        tokio::select! {
            // Cancel-safe: a finished try stays in the set.
            tried = tries.join_next() => match tried {
                Some(Ok(Ok(connected))) => return Ok(connected),
                Some(Ok(Err(error))) => last = error,
                Some(Err(broken)) => last = io::Error::other(broken),
                None if !more => return Err(DialError::Unreachable { count, last }),
                None => {}
            },
            () = sleep(STAGGER), if more => {}
        }
    }
}

async fn connect(address: SocketAddr, mark: Option<u32>) -> io::Result<(TcpStream, SocketAddr)> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    if let Some(mark) = mark {
        SockRef::from(&socket).set_mark(mark)?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok((stream, address))
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
mod tests {
    use super::*;

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
        let dialer = Dialer::new(listeners, Duration::from_secs(1), None);
        for (address, port, networks, expected) in [
            ("192.0.2.1", 443, &lifted[..0], "dialled"),
            ("2001:db8::1", 443, &lifted[..0], "dialled"),
            ("10.0.0.1", 443, &lifted[..0], "refused"),
            ("100.64.0.1", 443, &lifted[..0], "refused"),
            ("169.254.169.254", 443, &lifted[..0], "refused"),
            ("fd00::1", 443, &lifted[..0], "refused"),
            ("::ffff:10.0.0.1", 443, &lifted[..0], "refused"),
            ("64:ff9b::a00:1", 443, &lifted[..0], "refused"),
            ("127.0.0.5", 443, &lifted[..0], "refused"),
            ("127.0.0.5", 443, &lifted, "dialled"),
            // The host's own address, and never its own listener whatever is lifted.
            ("127.0.0.1", 443, &lifted[..0], "loop"),
            ("127.0.0.1", 443, &lifted, "dialled"),
            ("127.0.0.1", 8443, &lifted, "loop"),
            ("127.0.0.5", 8443, &lifted, "loop"),
        ] {
            let screened = dialer.screened(&[address.parse().unwrap()], port, [networks, &[]]);
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
        let (_, address) = race(vec![shut, open], None).await.unwrap();
        assert_eq!(address, open);
        let failed = race(vec![shut], None).await.unwrap_err();
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
        let raced = timeout(STAGGER * 4, race(vec![hung, open], None)).await;
        assert_eq!(raced.expect("waited for the silent one").unwrap().1, open);
    }
}
