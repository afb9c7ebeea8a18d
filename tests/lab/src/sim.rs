//! A fake SIM: it asks DNS questions, opens connections and sends datagrams as a phone would, with
//! real client stacks, and reports what it saw.

use std::{
    fs,
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    process::{Command, Output},
    sync::Arc,
    time::Duration,
};

use rustls::ClientConfig;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use crate::{clock, family::Family, gateway::Gateway, namespace::Namespace, upstream::ADDRESSES};

mod dns;
mod outcome;
mod web;

pub use dns::{DnsAnswer, Question, Record, Transport};
pub use outcome::{Answer, Outcome, Seen};
pub use web::{Fetch, Held};

/// A fake SIM.
#[derive(Debug)]
pub struct Sim {
    number: u8,
    namespace: Arc<Namespace>,
    way: Way,
    tls: Arc<ClientConfig>,
}

/// How a SIM's packets come to the gateway.
#[derive(Debug, Clone)]
pub(crate) enum Way {
    /// By routing and steering, whatever address the SIM chose.
    Routed,
    /// By connecting to the gateway's own listeners.
    Loopback(Arc<Gateway>),
}

impl Sim {
    pub(crate) fn new(
        number: u8,
        namespace: Arc<Namespace>,
        way: Way,
        tls: Arc<ClientConfig>,
    ) -> Self {
        Self { number, namespace, way, tls }
    }

    /// The longest a SIM waits for anything before it reports [`Outcome::TimedOut`].
    pub const PATIENCE: Duration = Duration::from_secs(5);

    /// Its number, from 1.
    #[must_use]
    pub fn number(&self) -> u8 {
        self.number
    }

    /// Its own address. In the loopback form all SIMs share the loopback address.
    #[must_use]
    pub fn address(&self, family: Family) -> IpAddr {
        let n = self.number;
        match (&self.way, family) {
            (Way::Routed, Family::V4) => Ipv4Addr::new(100, 64, n, 2).into(),
            (Way::Routed, Family::V6) => {
                // The subnet is written with the number's decimal digits.
                let subnet = u16::from_str_radix(&n.to_string(), 16).unwrap_or_default();
                Ipv6Addr::new(0x2001, 0xdb8, 0x64, subnet, 0, 0, 0, 2).into()
            }
            (Way::Loopback(_), Family::V4) => Ipv4Addr::LOCALHOST.into(),
            (Way::Loopback(_), Family::V6) => Ipv6Addr::LOCALHOST.into(),
        }
    }

    /// Its ICCID, which the shop and Microsoft know it by.
    #[must_use]
    pub fn iccid(&self) -> String {
        format!("8988247000100{:06}", self.number)
    }

    /// Its IMSI, which the network knows it by.
    #[must_use]
    pub fn imsi(&self) -> String {
        format!("00101{:010}", self.number)
    }

    /// Its number.
    #[must_use]
    pub fn msisdn(&self) -> String {
        format!("4915100{:06}", self.number)
    }

    /// The namespace it lives in, for what this type cannot do.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Octets that its connections sent and nobody has acknowledged yet.
    pub(crate) fn unacknowledged(&self) -> u64 {
        self.namespace.call(|| {
            let tables = ["tcp", "tcp6"].map(|table| format!("/proc/thread-self/net/{table}"));
            let text: String =
                tables.iter().filter_map(|table| fs::read_to_string(table).ok()).collect();
            let queues = text.lines().filter_map(|line| line.split_whitespace().nth(4));
            let sent = queues.filter_map(|queues| queues.split(':').next());
            sent.filter_map(|octets| u64::from_str_radix(octets, 16).ok()).sum()
        })
    }

    /// Asks a DNS question.
    #[must_use]
    pub fn ask(&self, question: &Question) -> DnsAnswer {
        let server = question.server.or_else(|| self.resolver(question.family));
        let Some(server) = server else {
            return DnsAnswer::none(Outcome::Broken("the gateway does not listen for DNS".into()));
        };
        let question = question.clone();
        self.namespace.run(async move { dns::ask(&question, server).await })
    }

    /// Fetches one page: resolves the name, connects, speaks, closes.
    #[must_use]
    pub fn fetch(&self, fetch: &Fetch) -> Seen {
        match self.open(fetch) {
            Ok(held) => {
                let mut seen = held.send(fetch);
                seen.elapsed += held.opening();
                seen
            }
            Err(seen) => seen,
        }
    }

    /// Opens a connection for a page (for HTTPS up to the end of the handshake) and holds it open.
    ///
    /// # Errors
    /// What the SIM saw instead of a connection.
    pub fn open(&self, fetch: &Fetch) -> Result<Held, Seen> {
        let start = clock::now();
        let address = match self.destination(fetch) {
            Ok(address) => address,
            Err(outcome) => {
                return Err(Seen { outcome, elapsed: start.elapsed() });
            }
        };
        let tls = fetch.is_secure().then(|| Arc::clone(&self.tls));
        let fetch = fetch.clone();
        let opened = self.namespace.run(async move { web::open(&fetch, address, tls).await });
        match opened {
            Ok(connection) => {
                Ok(Held::new(connection, Arc::clone(&self.namespace), start.elapsed()))
            }
            Err(outcome) => Err(Seen { outcome, elapsed: start.elapsed() }),
        }
    }

    /// Connects by TCP, then closes. [`Outcome::Connected`] if it could.
    #[must_use]
    pub fn connect(&self, address: SocketAddr) -> Seen {
        self.timed(async move {
            match TcpStream::connect(address).await {
                Ok(_) => Outcome::Connected,
                Err(error) => Outcome::of_socket(&error),
            }
        })
    }

    /// Sends bytes as they are to port 80 or 443 of an address and reads until the far end closes.
    /// Returns what was read, and [`Outcome::Closed`] if the far end closed in order.
    #[must_use]
    pub fn send_bytes(&self, address: SocketAddr, bytes: Vec<u8>) -> (Vec<u8>, Seen) {
        let address = match self.route(address) {
            Ok(address) => address,
            Err(outcome) => return (Vec::new(), Seen { outcome, elapsed: Duration::ZERO }),
        };
        self.namespace.run(async move {
            let start = clock::now();
            let mut read = Vec::new();
            let exchange = timeout(Self::PATIENCE, async {
                let mut stream = TcpStream::connect(address).await?;
                stream.write_all(&bytes).await?;
                stream.read_to_end(&mut read).await
            });
            let outcome = match exchange.await {
                Ok(Ok(_)) => Outcome::Closed,
                Ok(Err(error)) => Outcome::of_socket(&error),
                Err(_) => Outcome::TimedOut,
            };
            (read, Seen { outcome, elapsed: start.elapsed() })
        })
    }

    /// Sends a datagram from a connected socket and waits for an answer or for the ICMP error the
    /// kernel reports.
    #[must_use]
    pub fn send_datagram(&self, address: SocketAddr, payload: &'static [u8]) -> Seen {
        self.timed(async move {
            let any: IpAddr = if address.is_ipv6() {
                Ipv6Addr::UNSPECIFIED.into()
            } else {
                Ipv4Addr::UNSPECIFIED.into()
            };
            let exchange = async {
                let socket = UdpSocket::bind((any, 0)).await?;
                socket.connect(address).await?;
                socket.send(payload).await?;
                socket.recv(&mut [0; 2048]).await
            };
            match exchange.await {
                Ok(_) => Outcome::Connected,
                Err(error) => Outcome::of_socket(&error),
            }
        })
    }

    /// Runs a program where this SIM lives.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn command(&self, mut command: Command) -> std::io::Result<Output> {
        self.namespace.call(move || command.output())
    }

    fn timed<F>(&self, attempt: F) -> Seen
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        self.namespace.run(async move {
            let start = clock::now();
            let outcome = timeout(Self::PATIENCE, attempt).await.unwrap_or(Outcome::TimedOut);
            Seen { outcome, elapsed: start.elapsed() }
        })
    }

    /// Where to connect for a page: the address it insists on, or the first of the DNS answer; in
    /// the loopback form the gateway's own listener, after the same question.
    fn destination(&self, fetch: &Fetch) -> Result<SocketAddr, Outcome> {
        let family = fetch.family_wanted();
        let address = match fetch.address_forced() {
            Some(address) => address,
            None => {
                let answer = self.ask(&Question::address(fetch.host(), family));
                let first = answer.addresses().next();
                first.ok_or(answer.outcome)?
            }
        };
        self.route(SocketAddr::new(address, fetch.port()))
    }

    /// Where a connection must go to reach the gateway: anywhere by steering, to its own listeners
    /// on loopback.
    fn route(&self, address: SocketAddr) -> Result<SocketAddr, Outcome> {
        let Way::Loopback(gateway) = &self.way else {
            return Ok(address);
        };
        let family = if address.is_ipv6() { Family::V6 } else { Family::V4 };
        let key = if address.port() == 80 { "http" } else { "https" };
        gateway.listening_in(key, family).ok_or(Outcome::Refused(ErrorKind::AddrNotAvailable))
    }

    /// The resolver a SIM believes in: the operator's. In the garden any address would do, because
    /// steering takes every question; outside it, this one answers.
    fn resolver(&self, family: Family) -> Option<SocketAddr> {
        match (&self.way, family) {
            (Way::Routed, family) => {
                ADDRESSES.into_iter().find(|a| a.is_ipv6() == (family == Family::V6))
            }
            (Way::Loopback(gateway), family) => gateway.listening_in("dns", family),
        }
    }
}
