//! Sockets towards origins: whence they come, how they are marked and how they are counted.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use nix::{
    errno::Errno,
    sys::socket::{setsockopt, sockopt},
};
use prometheus::IntGauge;
use rustix::net::sockopt::set_tcp_quickack;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpStream, UdpSocket};

/// How sockets towards origins are made.
#[derive(Clone, Debug, Default)]
pub(in crate::proxy) struct Origins {
    /// Mark (`SO_MARK`).
    pub(in crate::proxy) mark: Option<u32>,
    /// Whence they come.
    pub(in crate::proxy) egress: Egress,
}

/// The addresses that origins are dialled from.
#[derive(Clone, Debug)]
pub(crate) enum Egress {
    /// The gateway's: these in turn; the kernel's choice for a family that has none here.
    Gateway(Vec<IpAddr>),
    /// The subscriber's own, in its family only: what the origin answers has to be steered here.
    /// Needs `CAP_NET_ADMIN`.
    Subscriber,
}

/// One connection in the gauge of those to origins.
#[derive(Debug)]
pub(in crate::proxy) struct Counted(IntGauge);

impl Origins {
    /// Whether a subscriber can be brought to `address`.
    pub(super) fn reach(&self, address: SocketAddr, subscriber: IpAddr) -> bool {
        match self.egress {
            Egress::Gateway(_) => true,
            Egress::Subscriber => subscriber.is_ipv4() == address.is_ipv4(),
        }
    }

    /// How many local addresses connections to one address share out.
    pub(super) fn width(&self) -> usize {
        match &self.egress {
            Egress::Gateway(addresses) => addresses.len().max(1),
            Egress::Subscriber => 1,
        }
    }

    /// Begins a connection to `address`: it is open, or has failed, once it is ready to be written to.
    pub(super) fn connect(
        &self,
        address: SocketAddr,
        subscriber: IpAddr,
        turn: usize,
    ) -> io::Result<TcpStream> {
        let kind = Type::STREAM.nonblocking();
        let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
        // Each write is a whole message of the subscriber.
        socket.set_tcp_nodelay(true)?;
        // Its first octets are sent at once, and acknowledge the handshake with them (tcp(7)).
        set_tcp_quickack(&socket, false)?;
        if let Some(mark) = self.mark {
            socket.set_mark(mark)?;
        }
        if let Some(from) = self.egress_to(address, subscriber, turn) {
            self.make_transparent(&socket, from)?;
            // The port is chosen with the connection, when the origin is known: ports are counted
            // for each origin, not for all together (ip(7)).
            setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
            socket.bind(&from.into())?;
        }
        match socket.connect(&address.into()) {
            Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => Err(error),
            _ => TcpStream::from_std(socket.into()),
        }
    }

    /// A socket for datagrams to and from `address` alone.
    pub(super) fn datagrams(
        &self,
        address: SocketAddr,
        subscriber: IpAddr,
        turn: usize,
    ) -> io::Result<UdpSocket> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        if let Some(mark) = self.mark {
            socket.set_mark(mark)?;
        }
        if let Some(from) = self.egress_to(address, subscriber, turn) {
            self.make_transparent(&socket, from)?;
            socket.bind(&from.into())?;
        }
        socket.connect(&address.into())?;
        UdpSocket::from_std(socket.into())
    }

    /// Whence to go to `address`, with any port; `None` leaves it to the kernel.
    fn egress_to(
        &self,
        address: SocketAddr,
        subscriber: IpAddr,
        turn: usize,
    ) -> Option<SocketAddr> {
        let from = match &self.egress {
            Egress::Gateway(addresses) => {
                let same = || addresses.iter().filter(|from| from.is_ipv4() == address.is_ipv4());
                *turn.checked_rem(same().count()).and_then(|turn| same().nth(turn))?
            }
            Egress::Subscriber => subscriber,
        };
        Some(SocketAddr::new(from, 0))
    }

    /// Lets `socket` have an address that is not the host's, where it is to have one.
    fn make_transparent(&self, socket: &Socket, from: SocketAddr) -> io::Result<()> {
        match self.egress {
            Egress::Gateway(_) => Ok(()),
            Egress::Subscriber => dns::make_transparent(socket, from),
        }
    }
}

impl Default for Egress {
    fn default() -> Self {
        Self::Gateway(Vec::new())
    }
}

impl Counted {
    pub(super) fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Ports the kernel may choose from for one local address.
pub(super) fn local_ports() -> usize {
    let text = std::fs::read_to_string(LOCAL_PORT_RANGE).unwrap_or_default();
    let mut bounds = text.split_whitespace().filter_map(|bound| bound.parse::<usize>().ok());
    match (bounds.next(), bounds.next()) {
        (Some(first), Some(last)) => (last + 1).saturating_sub(first),
        _ => 0,
    }
}

const LOCAL_PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
