//! Asking the upstreams: in order, one after the other, under one deadline.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hickory_net::{
    DnsError, NetError, NoRecords,
    runtime::TokioRuntimeProvider,
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
use policy::HostName;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use super::{InvalidUpstream, Transport, Upstream, UpstreamError};
use crate::{
    metrics::Metrics,
    screen::{self, BadAnswer, Family, Finding},
};

/// The upstreams, each with its own pool.
pub(crate) struct Upstreams {
    servers: Vec<Server>,
    pending: Semaphore,
    metrics: Arc<Metrics>,
    started: Instant,
}

struct Server {
    address: SocketAddr,
    pool: NameServerPool<TokioRuntimeProvider>,
    /// Milliseconds since the start until which it is asked last, because it failed.
    suspect_until: AtomicU64,
}

impl Upstreams {
    pub(crate) fn new(
        upstreams: &[Upstream],
        metrics: Arc<Metrics>,
    ) -> Result<Self, InvalidUpstream> {
        if upstreams.is_empty() {
            return Err(InvalidUpstream::None);
        }
        let servers = upstreams.iter().map(Server::new).collect::<Result<_, _>>()?;
        let pending = Semaphore::new(MAX_PENDING);
        Ok(Self { servers, pending, metrics, started: Instant::now() })
    }

    pub(crate) fn addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.servers.iter().map(|server| server.address)
    }

    /// Asks for the addresses of `host` in one family.
    ///
    /// NXDOMAIN and NODATA are answers. After anything else the next server is asked, until
    /// [`DEADLINE`]; the error is that of the last one asked.
    pub(crate) async fn ask(
        &self,
        host: &HostName,
        family: Family,
        checking_disabled: bool,
    ) -> Result<Finding, UpstreamError> {
        let Ok(_permit) = self.pending.try_acquire() else {
            let error = UpstreamError::Busy { limit: MAX_PENDING };
            self.metrics.upstream_failed(&error);
            return Err(error);
        };
        let _pending = Pending::new(&self.metrics);
        // Absolute, or the search list would be tried.
        let labels = host.labels().map(str::as_bytes);
        let Ok(mut name) = Name::from_labels(labels) else {
            return Err(UpstreamError::BadAnswer(BadAnswer::UnwritableName));
        };
        name.set_fqdn(true);
        let deadline = Instant::now() + DEADLINE;
        let mut last = UpstreamError::Timeout;
        let mut servers = self.in_order();
        for _ in 0..ROUNDS {
            let mut again = Vec::new();
            for server in servers {
                let asked = Instant::now();
                let asking = server.ask(&name, family, checking_disabled);
                let error = match timeout_at(deadline, asking).await {
                    Ok(Ok(finding)) => {
                        server.trust();
                        self.metrics.upstream_answered(asked.elapsed());
                        return Ok(finding);
                    }
                    Ok(Err(error)) => error,
                    Err(_elapsed) => UpstreamError::Timeout,
                };
                self.metrics.upstream_failed(&error);
                tracing::debug!(%error, "upstream failed");
                let blame = blame(&error);
                last = error;
                match blame {
                    Blame::Zone => return Err(last),
                    Blame::Server => server.suspect(self.started.elapsed()),
                    Blame::Path => {
                        server.suspect(self.started.elapsed());
                        again.push(server);
                    }
                }
                if Instant::now() >= deadline {
                    return Err(last);
                }
            }
            servers = again;
        }
        Err(last)
    }

    /// As configured, but those that failed of late at the end.
    fn in_order(&self) -> Vec<&Server> {
        let now = self.started.elapsed();
        let (suspect, trusted): (Vec<_>, Vec<_>) =
            self.servers.iter().partition(|server| server.is_suspect(now));
        trusted.into_iter().chain(suspect).collect()
    }
}

impl std::fmt::Debug for Upstreams {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Upstreams").field("servers", &self.servers.len()).finish()
    }
}

impl Server {
    fn new(upstream: &Upstream) -> Result<Self, InvalidUpstream> {
        let mut options = ResolverOpts::default();
        options.timeout = TRY;
        options.attempts = 1;
        options.num_concurrent_reqs = 1;
        options.max_active_requests = MAX_PENDING;
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        options.case_randomization = true;
        options.edns_payload_len = EDNS_PAYLOAD;
        let tls = TlsConfig::new().map_err(|_| InvalidUpstream::Tls)?;
        let context = Arc::new(PoolContext::new(options, tls));
        let connection = |protocol| {
            let mut connection = ConnectionConfig::new(protocol);
            connection.port = upstream.address.port();
            connection
        };
        let connections = match &upstream.transport {
            Transport::Udp => {
                vec![connection(ProtocolConfig::Udp), connection(ProtocolConfig::Tcp)]
            }
            Transport::Tcp => vec![connection(ProtocolConfig::Tcp)],
            Transport::Tls { name } => {
                vec![connection(ProtocolConfig::Tls { server_name: Arc::clone(name) })]
            }
            Transport::Https { name, path } => vec![connection(ProtocolConfig::Https {
                server_name: Arc::clone(name),
                path: Arc::clone(path),
            })],
        };
        let server = NameServerConfig::new(upstream.address.ip(), true, connections);
        let pool = NameServerPool::from_config([server], context, TokioRuntimeProvider::default());
        Ok(Self { address: upstream.address, pool, suspect_until: AtomicU64::new(0) })
    }

    async fn ask(
        &self,
        name: &Name,
        family: Family,
        checking_disabled: bool,
    ) -> Result<Finding, UpstreamError> {
        let record_type = RecordType::from(family.record_type());
        let mut options = DnsRequestOptions::default();
        options.case_randomization = true;
        options.edns_payload_len = EDNS_PAYLOAD;
        let query = Query::query(name.clone(), record_type);
        let mut request = DnsRequest::from_query(query, options);
        request.metadata.checking_disabled = checking_disabled;
        let answer = self.pool.send(request).first_answer().await;
        read(name, family, answer)
    }

    fn is_suspect(&self, now: Duration) -> bool {
        u128::from(self.suspect_until.load(Ordering::Relaxed)) > now.as_millis()
    }

    fn suspect(&self, now: Duration) {
        let until = u64::try_from((now + SUSPECT).as_millis()).unwrap_or(u64::MAX);
        self.suspect_until.store(until, Ordering::Relaxed);
    }

    fn trust(&self) {
        self.suspect_until.store(0, Ordering::Relaxed);
    }
}

fn read(
    name: &Name,
    family: Family,
    answer: Result<DnsResponse, NetError>,
) -> Result<Finding, UpstreamError> {
    match answer {
        Ok(response) => {
            let rcode = response.metadata.response_code;
            if rcode == ResponseCode::NoError || rcode == ResponseCode::NXDomain {
                Ok(screen::follow(name, family, &response)?)
            } else {
                Err(UpstreamError::ResponseCode { rcode: rcode.into() })
            }
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(NoRecords { soa, response_code, .. }))) => {
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

/// Whose fault a failure is, and so who is asked next.
enum Blame {
    /// Nobody would answer better.
    Zone,
    /// The next server may.
    Server,
    /// So may this one, at the second try.
    Path,
}

fn blame(error: &UpstreamError) -> Blame {
    match error {
        UpstreamError::Busy { .. } | UpstreamError::Timeout | UpstreamError::Unreachable => {
            Blame::Path
        }
        UpstreamError::ResponseCode { .. }
        | UpstreamError::Unreadable
        | UpstreamError::BadAnswer(BadAnswer::OtherQuestion) => Blame::Server,
        UpstreamError::BadAnswer(
            BadAnswer::Loop
            | BadAnswer::TooLong
            | BadAnswer::TwoAliases
            | BadAnswer::TooMany
            | BadAnswer::UnwritableName,
        ) => Blame::Zone,
    }
}

/// Counts a question as long as it is under way, however it ends.
struct Pending<'a>(&'a Metrics);

impl<'a> Pending<'a> {
    fn new(metrics: &'a Metrics) -> Self {
        metrics.pending().inc();
        Self(metrics)
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.pending().dec();
    }
}

/// Time one server has for one try.
const TRY: Duration = Duration::from_millis(1_200);
/// Time all servers together have; a stub resolver gives up at 5 s.
const DEADLINE: Duration = Duration::from_secs(4);
/// How often the servers are gone through.
const ROUNDS: usize = 2;
/// How long a server that failed is asked last.
const SUSPECT: Duration = Duration::from_secs(10);
/// Questions under way to all upstreams together.
pub(crate) const MAX_PENDING: usize = 4_096;
/// Octets of an upstream's answer over UDP (DNS flag day 2020).
const EDNS_PAYLOAD: u16 = 1_232;

#[cfg(test)]
mod tests {
    use policy::HostName;
    use prometheus::Registry;

    use super::{MAX_PENDING, Upstreams};
    use crate::{Metrics, screen::Family, upstream::UpstreamError};

    #[tokio::test]
    async fn asks_nobody_when_too_many_questions_are_under_way() {
        let metrics = Metrics::register(&Registry::new()).unwrap();
        let upstreams =
            Upstreams::new(&["udp://192.0.2.1".parse().unwrap()], metrics.clone()).unwrap();
        let _room = upstreams.pending.acquire_many(MAX_PENDING.try_into().unwrap()).await;
        let host = HostName::parse("listed.example").unwrap();
        let busy = UpstreamError::Busy { limit: MAX_PENDING };
        assert_eq!(upstreams.ask(&host, Family::V4, false).await, Err(busy));
        assert_eq!(metrics.pending().get(), 0);
    }
}
