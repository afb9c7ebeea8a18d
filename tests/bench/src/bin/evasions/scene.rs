//! Where it is played: a subscriber, a gateway, servers that record what they are sent, and the
//! name server that everyone asks.

use std::{
    fmt, io,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Child,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use bench::network::{self, GATEWAY, ORIGIN, command, end, inside, ip};
use tempfile::TempDir;

use crate::crafted::hello_retry_request;

/// A place that records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The listed host.
    Listed,
    /// A listed host that asks for a second hello.
    Retry,
    /// A host that is not listed.
    Denied,
    /// A server on the gateway's own loopback, which a listed name leads to.
    Inside,
}

/// One connection to a place, and what it was sent.
#[derive(Clone)]
pub(crate) struct Arrival {
    pub(crate) place: Place,
    octets: Arc<Mutex<Vec<u8>>>,
}

/// Everything that runs beside the program that is tried.
pub(crate) struct Scene {
    folder: TempDir,
    arrivals: Arc<Mutex<Vec<Arrival>>>,
    name_server: Option<Child>,
}

impl Place {
    const EACH: [Self; 4] = [Self::Listed, Self::Retry, Self::Denied, Self::Inside];

    /// In both families.
    pub(crate) fn addresses(self) -> [IpAddr; 2] {
        let addresses = match self {
            Self::Listed => ["10.9.2.10", "fd00:9:2::10"],
            Self::Retry => ["10.9.2.30", "fd00:9:2::30"],
            Self::Denied => ["10.9.2.20", "fd00:9:2::20"],
            Self::Inside => ["127.0.0.1", "::1"],
        };
        addresses.map(|address| address.parse().expect("an address"))
    }

    /// Where the subscriber finds it over IPv4.
    pub(crate) fn at(self, port: u16) -> SocketAddr {
        let [address, _] = self.addresses();
        SocketAddr::new(address, port)
    }

    /// The same over IPv6.
    pub(crate) fn at_v6(self, port: u16) -> SocketAddr {
        let [_, address] = self.addresses();
        SocketAddr::new(address, port)
    }

    fn namespace(self) -> &'static str {
        if self == Self::Inside { GATEWAY } else { ORIGIN }
    }
}

impl Arrival {
    pub(crate) fn octets(&self) -> Vec<u8> {
        self.octets.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether these octets are among those that came.
    pub(crate) fn holds(&self, octets: impl AsRef<[u8]>) -> bool {
        let octets = octets.as_ref();
        self.octets().windows(octets.len().max(1)).any(|window| window == octets)
    }
}

impl Scene {
    /// Makes the namespaces and starts all that records.
    pub(crate) fn set() -> io::Result<Self> {
        network::make()?;
        network::add_ipv6()?;
        let folder = tempfile::tempdir()?;
        let arrivals = Arc::default();
        for place in Place::EACH {
            for address in place.addresses() {
                if place != Place::Inside {
                    let mask = if address.is_ipv4() { 24 } else { 64 };
                    let with_mask = format!("{address}/{mask}");
                    ip(&["-n", ORIGIN, "addr", "add", &with_mask, "dev", "o2", "nodad"])?;
                }
                for port in [80, 443, 853, 25] {
                    record_at(place, SocketAddr::new(address, port), &arrivals)?;
                }
            }
        }
        let mut server = command(ORIGIN, "dnsmasq");
        server.args(["--keep-in-foreground", "--no-resolv", "--no-hosts", "--user=root"]);
        server.args(["--conf-file=/dev/null", "--pid-file", "--local=/example/"]);
        server.arg(format!("--listen-address={NAME_SERVER}"));
        for (name, addresses) in NAMES {
            for address in addresses.split(' ') {
                server.arg(format!("--host-record={name},{address}"));
            }
        }
        let name_server = Some(server.spawn()?);
        Ok(Self { folder, arrivals, name_server })
    }

    /// A folder for the files of programs.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Forgets what was recorded.
    pub(crate) fn forget(&self) {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// What was recorded since.
    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.name_server.take().into_iter().for_each(end);
    }
}

impl fmt::Debug for Arrival {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}: {}", self.place, String::from_utf8_lossy(&self.octets()))
    }
}

/// Serves `address` on a thread of its own.
fn record_at(
    place: Place,
    address: SocketAddr,
    arrivals: &Arc<Mutex<Vec<Arrival>>>,
) -> io::Result<()> {
    let listener = inside(place.namespace(), move || TcpListener::bind(address))?;
    let arrivals = Arc::clone(arrivals);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let arrival = Arrival { place, octets: Arc::default() };
            arrivals.lock().unwrap_or_else(PoisonError::into_inner).push(arrival.clone());
            thread::spawn(move || converse(stream, &arrival, address.port()));
        }
    });
    Ok(())
}

/// Records, and answers as a server of TLS or HTTP begins to; whoever breaks it off has had enough.
fn converse(mut stream: TcpStream, arrival: &Arrival, port: u16) {
    let mut answered = 0;
    let mut place = [0; 16 * 1024];
    while let Ok(length @ 1..) = stream.read(&mut place) {
        let mut octets = arrival.octets.lock().unwrap_or_else(PoisonError::into_inner);
        octets.extend(place.iter().take(length));
        let wanted = if port == 80 { requests(&octets) } else { hellos(&octets) };
        drop(octets);
        while answered < wanted {
            let answer = match (port, arrival.place) {
                (80, _) => PAGE.to_vec(),
                (_, Place::Retry) if answered == 0 => hello_retry_request(),
                _ => bench::hello::server_hello(),
            };
            if stream.write_all(&answer).is_err() {
                return;
            }
            answered += 1;
        }
    }
}

/// Heads that have ended.
fn requests(octets: &[u8]) -> usize {
    octets.windows(4).filter(|window| window == b"\r\n\r\n").count()
}

/// Whole ClientHellos, whatever the records they came in.
fn hellos(octets: &[u8]) -> usize {
    let mut messages = Vec::new();
    let mut rest = octets;
    while let [kind, _, _, high, low, more @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some((content, behind)) = more.split_at_checked(length) else { break };
        if *kind == HANDSHAKE {
            messages.extend(content);
        }
        rest = behind;
    }
    let mut whole = 0;
    let mut rest = messages.as_slice();
    while let [1, _, high, low, more @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some((_, behind)) = more.split_at_checked(length) else { break };
        (whole, rest) = (whole + 1, behind);
    }
    whole
}

/// What every program asks.
pub(crate) const NAME_SERVER: &str = "10.9.2.2";
/// Every name there is, and its addresses; all but the last are listed.
pub(crate) const NAMES: [(&str, &str); 7] = [
    ("listed.example", "10.9.2.10 fd00:9:2::10"),
    // Whom the recorded hellos name.
    ("mps.datamart.windows.com", "10.9.2.10 fd00:9:2::10"),
    ("login.live.com", "10.9.2.10 fd00:9:2::10"),
    ("retry.example", "10.9.2.30 fd00:9:2::30"),
    ("inside.example", "127.0.0.1"),
    ("loop.example", "10.9.1.1"),
    ("denied.example", "10.9.2.20 fd00:9:2::20"),
];
const HANDSHAKE: u8 = 22;
const PAGE: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\npage\n";
