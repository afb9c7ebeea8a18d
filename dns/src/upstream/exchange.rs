//! Asking the upstreams: in order, with one hedge, under one deadline.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use hickory_proto::rr::Name;
use policy::HostName;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep_until, timeout},
};

use super::{
    InvalidUpstream, Trust, Upstream, UpstreamError,
    blame::Blame,
    hedges::Hedges,
    server::{Asking, Server},
};
use crate::{
    metrics::{Hedge, Metrics},
    screen::{BadAnswer, Family, Finding},
};

/// The upstreams, each with its own pool.
pub(crate) struct Upstreams {
    servers: Vec<Server>,
    hedges: Hedges,
    pending: Semaphore,
    metrics: Arc<Metrics>,
}

/// Why a server is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Nobody else is.
    Own,
    /// Another takes long.
    Hedge,
}

impl Upstreams {
    pub(crate) fn new(
        upstreams: &[Upstream],
        trust: &Trust,
        metrics: Arc<Metrics>,
    ) -> Result<Self, InvalidUpstream> {
        if upstreams.is_empty() {
            return Err(InvalidUpstream::None);
        }
        let started = Instant::now();
        let server = |(number, upstream): (usize, &Upstream)| {
            let handles = metrics.upstreams().of(number + 1);
            Server::new(upstream, trust, handles, started)
        };
        let servers = upstreams.iter().enumerate().map(server).collect();
        Ok(Self { servers, hedges: Hedges::new(), pending: Semaphore::new(MAX_PENDING), metrics })
    }

    pub(crate) fn addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.servers.iter().map(Server::address)
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
        let Ok(mut name) = Name::from_labels(host.labels().map(str::as_bytes)) else {
            return Err(UpstreamError::BadAnswer(BadAnswer::UnwritableName));
        };
        name.set_fqdn(true);
        let asking = Asking { name, family, checking_disabled };
        timeout(DEADLINE, self.race(&asking)).await.unwrap_or(Err(UpstreamError::Timeout))
    }

    /// Asks one server after the other until one answers; and one more beside the first, if that
    /// takes longer than nearly all of its answers do.
    async fn race(&self, asking: &Asking) -> Result<Finding, UpstreamError> {
        self.hedges.earn();
        let mut waiting: VecDeque<_> =
            self.in_order().into_iter().map(|server| (server, TRIES)).collect();
        let mut asked = FuturesUnordered::new();
        let mut may_hedge = true;
        let mut hedge_at = Instant::now();
        let mut last = UpstreamError::Timeout;
        let mut slow = None;
        loop {
            if asked.is_empty() {
                let Some((server, tries)) = waiting.pop_front() else { return Err(last) };
                hedge_at = Instant::now() + server.patience();
                slow = Some(server);
                asked.push(ask(server, tries, Turn::Own, asking));
            }
            let ended = tokio::select! {
                biased;
                ended = asked.next() => ended,
                () = sleep_until(hedge_at), if may_hedge && !waiting.is_empty() => None,
            };
            let Some((server, tries, turn, result)) = ended else {
                may_hedge = false;
                if !self.hedges.spend() {
                    self.metrics.upstreams().hedged(Hedge::Spared);
                } else if let Some((server, tries)) = waiting.pop_front() {
                    self.metrics.upstreams().hedged(Hedge::Asked);
                    asked.push(ask(server, tries, Turn::Hedge, asking));
                }
                continue;
            };
            let error = match result {
                Ok(finding) => {
                    if turn == Turn::Hedge {
                        self.metrics.upstreams().hedged(Hedge::Won);
                        slow.inspect(|slow| slow.lose());
                    }
                    return Ok(finding);
                }
                Err(error) => error,
            };
            self.metrics.upstream_failed(&error);
            tracing::debug!(%error, "upstream failed");
            match error.blame() {
                Blame::Zone => return Err(error),
                Blame::Path if tries > 1 => waiting.push_back((server, tries - 1)),
                Blame::Path | Blame::Server => {}
            }
            last = error;
        }
    }

    /// As configured, but those that failed of late at the end.
    fn in_order(&self) -> Vec<&Server> {
        let (suspect, trusted): (Vec<_>, Vec<_>) =
            self.servers.iter().partition(|server| server.is_suspect());
        trusted.into_iter().chain(suspect).collect()
    }
}

async fn ask<'s>(
    server: &'s Server,
    tries: usize,
    turn: Turn,
    asking: &Asking,
) -> (&'s Server, usize, Turn, Result<Finding, UpstreamError>) {
    (server, tries, turn, server.ask(asking).await)
}

impl std::fmt::Debug for Upstreams {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Upstreams").field("servers", &self.servers.len()).finish()
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

/// Time all servers together have; a stub resolver gives up at 5 s.
const DEADLINE: Duration = Duration::from_secs(4);
/// How often one server is asked, if the way to it may be what failed.
const TRIES: usize = 2;
/// Questions under way to all upstreams together.
pub(crate) const MAX_PENDING: usize = 4_096;

#[cfg(test)]
mod tests {
    use policy::HostName;
    use prometheus::Registry;

    use super::{MAX_PENDING, Upstreams};
    use crate::{
        Metrics,
        screen::Family,
        upstream::{Trust, UpstreamError},
    };

    #[tokio::test]
    async fn asks_nobody_when_too_many_questions_are_under_way() {
        let metrics = Metrics::register(&Registry::new()).unwrap();
        let servers = ["udp://192.0.2.1".parse().unwrap()];
        let trust = Trust::web().unwrap();
        let upstreams = Upstreams::new(&servers, &trust, metrics.clone()).unwrap();
        let _room = upstreams.pending.acquire_many(MAX_PENDING.try_into().unwrap()).await;
        let host = HostName::parse("listed.example").unwrap();
        let busy = UpstreamError::Busy { limit: MAX_PENDING };
        assert_eq!(upstreams.ask(&host, Family::V4, false).await, Err(busy));
        assert_eq!(metrics.pending().get(), 0);
    }
}
