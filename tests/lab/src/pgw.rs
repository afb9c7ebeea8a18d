//! A fake packet gateway (PGW): it tells the gateway by RADIUS accounting which SIM has which
//! address, as the operator's core does.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use tokio::{net::UdpSocket, time::timeout};

use crate::{
    clock,
    family::Family,
    gateway::Gateway,
    radius::{Request, Status},
    sim::Sim,
};

/// A fake PGW, next to the gateway.
#[derive(Debug)]
pub struct Pgw {
    gateway: Arc<Gateway>,
    numbers: AtomicU32,
}

/// A session of one SIM: from attach to detach.
#[derive(Debug, Clone)]
pub struct Attached {
    session: String,
    imsi: String,
    addresses: [IpAddr; 2],
}

impl fmt::Display for Attached {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "session {}", self.session)
    }
}

impl Pgw {
    pub(crate) fn new(gateway: Arc<Gateway>) -> Self {
        Self { gateway, numbers: AtomicU32::new(1) }
    }

    /// Attaches a SIM with its own addresses, and waits for the gateway's answer.
    ///
    /// # Errors
    /// When no answer comes, or not the right one.
    pub fn attach(&self, sim: &Sim) -> io::Result<Attached> {
        let attached = Attached {
            session: format!("{:08x}", self.number()),
            imsi: sim.imsi(),
            addresses: Family::BOTH.map(|family| sim.address(family)),
        };
        self.tell(Status::Start, &attached).map(|()| attached)
    }

    /// Detaches it.
    ///
    /// # Errors
    /// When no answer comes, or not the right one.
    pub fn detach(&self, attached: &Attached) -> io::Result<()> {
        self.tell(Status::Stop, attached)
    }

    fn tell(&self, status: Status, attached: &Attached) -> io::Result<()> {
        let [.., identifier] = self.number().to_be_bytes();
        let now = clock::wall().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let now = u32::try_from(now).unwrap_or(u32::MAX);
        let mut request = Request::accounting(identifier, status)
            .authenticated()
            .with(32, b"pgw-1")
            .with(44, attached.session.as_bytes())
            .with(30, b"internet.acme.example")
            .with(55, &now.to_be_bytes())
            .with_imsi(&attached.imsi);
        for address in attached.addresses {
            request = request.with_address(address);
        }
        let octets = request.signed(SECRET);
        let server = self.gateway.listening("radius").first().copied();
        let server = server.ok_or_else(|| io::Error::other("the gateway takes no accounting"))?;
        let answer = self.gateway.namespace().run(async move {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            socket.connect(server).await?;
            socket.send(&octets).await?;
            let mut answer = vec![0; 4096];
            let length = timeout(PATIENCE, socket.recv(&mut answer)).await??;
            answer.truncate(length);
            io::Result::Ok(answer)
        })?;
        match answer.as_slice() {
            [ACCOUNTING_RESPONSE, answered, ..] if *answered == identifier => Ok(()),
            _ => Err(io::Error::other("the answer is not an Accounting-Response to the request")),
        }
    }

    fn number(&self) -> u32 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }
}

/// The file with the secret.
pub(crate) const SECRET_FILE: &str = "pgw-1.secret";
/// What the fake PGW and the gateway share.
pub(crate) const SECRET: &str = "the lab's own secret, not a real one";
/// For an answer; a NAS would send again.
const PATIENCE: Duration = Duration::from_secs(5);
const ACCOUNTING_RESPONSE: u8 = 5;
