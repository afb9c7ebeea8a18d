//! One upstream: its connections, and how it has done of late.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use hickory_net::{
    DnsError, NetError, NoRecords,
    xfer::{DnsHandle, FirstAnswer},
};
use hickory_proto::{
    op::{DnsRequest, DnsRequestOptions, DnsResponse, Query, ResponseCode},
    rr::{Name, RecordType},
};
use hickory_resolver::{
    NameServerPool, PoolContext, TlsConfig,
    config::{ConnectionConfig, NameServerConfig, ProtocolConfig, ResolveHosts, ResolverOpts},
};
use tokio::time::{Instant, timeout};

use super::{
    Transport, Trust, Upstream, UpstreamError,
    blame::Blame,
    exchange::MAX_PENDING,
    latency::Latency,
    replies::Replies,
    sockets::{Sockets, Watch},
};
use crate::{
    metrics::UpstreamHandles,
    screen::{self, BadAnswer, Family, Finding},
};

/// One upstream.
pub(super) struct Server {
    address: SocketAddr,
    /// UDP, where that is spoken.
    datagrams: Option<Pool>,
    /// TCP, or what is spoken over it.
    stream: Pool,
    watch: Arc<Watch>,
    latency: Mutex<Latency>,
    /// Milliseconds since the start until which it is asked last, because it failed.
    suspect_until: AtomicU64,
    /// How often in a row another was asked beside it and was faster.
    losses: AtomicU32,
}

type Pool = NameServerPool<Sockets>;

/// What an upstream is asked.
#[derive(Clone, Debug)]
pub(super) struct Asking {
    /// Absolute, or hickory would try a search list.
    pub(super) name: Name,
    pub(super) family: Family,
    pub(super) checking_disabled: bool,
}

impl Server {
    pub(super) fn new(
        upstream: &Upstream,
        trust: &Trust,
        handles: UpstreamHandles,
        started: Instant,
    ) -> Self {
        let watch = Arc::new(Watch { replies: Replies::default(), handles, started });
        watch.handles.is_up(true);
        let pool = |protocol| {
            let tls = TlsConfig { config: trust.config() };
            let context = Arc::new(PoolContext::new(options(), tls));
            let mut connection = ConnectionConfig::new(protocol);
            connection.port = upstream.address.port();
            let server = NameServerConfig::new(upstream.address.ip(), true, vec![connection]);
            Pool::from_config([server], context, Sockets::new(Arc::clone(&watch)))
        };
        let (datagrams, stream) = match &upstream.transport {
            Transport::Udp => (Some(pool(ProtocolConfig::Udp)), ProtocolConfig::Tcp),
            Transport::Tcp => (None, ProtocolConfig::Tcp),
            Transport::Tls { name } => {
                (None, ProtocolConfig::Tls { server_name: Arc::clone(name) })
            }
            Transport::Https { name, path } => {
                let (server_name, path) = (Arc::clone(name), Arc::clone(path));
                (None, ProtocolConfig::Https { server_name, path })
            }
        };
        let stream = pool(stream);
        Self {
            address: upstream.address,
            datagrams,
            stream,
            watch,
            latency: Mutex::new(Latency::new()),
            suspect_until: AtomicU64::new(0),
            losses: AtomicU32::new(0),
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks it, and remembers how that went.
    pub(super) async fn ask(&self, asking: &Asking) -> Result<Finding, UpstreamError> {
        self.watch.handles.asked();
        let mut underway = Underway { server: self, began: Instant::now(), is_over: false };
        let exchange = timeout(TRY, self.exchange(asking)).await;
        let result = exchange.unwrap_or(Err(UpstreamError::Timeout));
        underway.is_over = true;
        let elapsed = underway.began.elapsed();
        match result.as_ref().map_err(UpstreamError::blame) {
            Ok(_) => {
                self.count(elapsed);
                self.watch.handles.answered(elapsed);
                self.suspect_until.store(0, Ordering::Relaxed);
                self.losses.store(0, Ordering::Relaxed);
                self.watch.handles.is_up(true);
            }
            Err(Blame::Zone) => self.count(elapsed),
            Err(Blame::Server | Blame::Path) => self.suspect(),
        }
        result
    }

    /// One exchange: over UDP where that is spoken, and over TCP if the answer did not fit, or if
    /// it could be somebody else's.
    async fn exchange(&self, asking: &Asking) -> Result<Finding, UpstreamError> {
        if let Some(datagrams) = self.datagrams.as_ref().filter(|_| !self.is_distrusted()) {
            let answer = self.send(datagrams, asking).await;
            let is_final = match &answer {
                Ok(_) => true,
                // The second is what hickory says of an answer in other letter case.
                Err(NetError::Truncated | NetError::NoConnections) => false,
                Err(_) => !self.is_distrusted(),
            };
            if is_final {
                return read(asking, answer);
            }
        }
        read(asking, self.send(&self.stream, asking).await)
    }

    async fn send(&self, pool: &Pool, asking: &Asking) -> Result<DnsResponse, NetError> {
        let Asking { name, family, checking_disabled } = asking;
        let mut options = DnsRequestOptions::default();
        options.case_randomization = self.watch.replies.keeps_case(self.watch.started.elapsed());
        options.edns_payload_len = EDNS_PAYLOAD;
        let query = Query::query(name.clone(), RecordType::from(family.record_type()));
        let mut request = DnsRequest::from_query(query, options);
        request.metadata.checking_disabled = *checking_disabled;
        pool.send(request).first_answer().await
    }

    /// How long to wait for it before another is asked as well.
    pub(super) fn patience(&self) -> Duration {
        let latency = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        latency.p95().unwrap_or(UNMEASURED).clamp(LEAST_PATIENCE, TRY)
    }

    pub(super) fn is_suspect(&self) -> bool {
        let now = self.watch.started.elapsed().as_millis();
        u128::from(self.suspect_until.load(Ordering::Relaxed)) > now
    }

    /// Notes that another was asked beside it and was faster. It may be dead: nobody waited for the
    /// end.
    pub(super) fn lose(&self) {
        if self.losses.fetch_add(1, Ordering::Relaxed) + 1 >= LOSSES {
            self.losses.store(0, Ordering::Relaxed);
            self.suspect();
        }
    }

    /// Asks it last for a while.
    fn suspect(&self) {
        let until = self.watch.started.elapsed() + SUSPECT;
        let until = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
        self.suspect_until.store(until, Ordering::Relaxed);
        self.watch.handles.is_up(false);
    }

    fn is_distrusted(&self) -> bool {
        self.watch.replies.is_distrusted(self.watch.started.elapsed())
    }

    fn count(&self, elapsed: Duration) {
        self.latency.lock().unwrap_or_else(PoisonError::into_inner).count(elapsed);
    }
}

/// A question to one server. If nobody waits for it any more, because another server was faster,
/// it counts as an answer that took so long: else a server that always loses would never be
/// measured.
struct Underway<'s> {
    server: &'s Server,
    began: Instant,
    is_over: bool,
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.server.count(self.began.elapsed());
        }
    }
}

fn options() -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.timeout = TRY;
    options.attempts = 1;
    options.num_concurrent_reqs = 1;
    options.max_active_requests = MAX_PENDING;
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    options.edns_payload_len = EDNS_PAYLOAD;
    options
}

fn read(
    Asking { name, family, .. }: &Asking,
    answer: Result<DnsResponse, NetError>,
) -> Result<Finding, UpstreamError> {
    match answer {
        Ok(response) => {
            let rcode = response.metadata.response_code;
            if rcode == ResponseCode::NoError || rcode == ResponseCode::NXDomain {
                Ok(screen::follow(name, *family, &response)?)
            } else {
                Err(UpstreamError::ResponseCode { rcode: rcode.into() })
            }
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(NoRecords {
            soa, ns, response_code, ..
        }))) => {
            if soa.is_none() && ns.is_some() {
                return Err(BadAnswer::Referral.into());
            }
            let soa = soa.filter(|soa| soa.name.zone_of(name));
            Ok(screen::denial(response_code == ResponseCode::NXDomain, soa.as_deref()))
        }
        Err(NetError::Dns(DnsError::ResponseCode(rcode))) => {
            Err(UpstreamError::ResponseCode { rcode: rcode.into() })
        }
        Err(NetError::Timeout) => Err(UpstreamError::Timeout),
        Err(NetError::Busy) => Err(UpstreamError::Busy { limit: MAX_PENDING }),
        Err(NetError::Io(_) | NetError::NoConnections) => Err(UpstreamError::Unreachable),
        // An open enum of a library: whatever else it names, the bytes were of no use.
        Err(_) => Err(UpstreamError::Unreadable),
    }
}

/// Time one server has for one try.
pub(super) const TRY: Duration = Duration::from_millis(1_200);
/// Races lost in a row that make a failure.
const LOSSES: u32 = 3;
/// How long a server that failed is asked last.
const SUSPECT: Duration = Duration::from_secs(10);
/// What the slowest of twenty answers is taken to need until it was measured.
const UNMEASURED: Duration = Duration::from_millis(300);
/// A jitter of the machine is no reason to ask twice.
const LEAST_PATIENCE: Duration = Duration::from_millis(5);
/// Octets of an upstream's answer over UDP (DNS flag day 2020).
const EDNS_PAYLOAD: u16 = 1_232;
