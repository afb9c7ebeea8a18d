//! Lift and wall: from a change behind an address to the kernel's sets, live sessions and flows.
//!
//! The local table is what decides; this part makes the kernel agree with it. Whatever it does, it
//! does from what the table says at that moment, so that doing it twice, or late, is harmless.

mod house;
mod metrics;

use std::{collections::HashSet, sync::Arc, time::Duration};

use dns::Judge;
use ipnet::IpNet;
use policy::{Snapshot, Subject, Subscriber};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::{
    clock,
    court::Court,
    grants::Grants,
    proxy::Sessions,
    sims::{Change, Feed, Identities, News, Sims, Source},
    steering::{NetlinkError, Steering},
    webhook::outbox::{Message, Outbox},
};

pub(crate) use house::House;
pub(crate) use metrics::Metrics;

/// Makes kernel and sessions agree with the local table.
pub(crate) struct Lift {
    sims: Arc<Sims>,
    grants: Arc<Grants>,
    court: Arc<Court>,
    sessions: Option<Arc<Sessions>>,
    /// Absent where this program installs none: then the listeners alone decide.
    steering: Option<Arc<Steering>>,
    outbox: Option<Outbox>,
    metrics: Metrics,
}

impl Lift {
    /// A lift for the parts it joins.
    pub(crate) fn new(
        court: Arc<Court>,
        grants: Arc<Grants>,
        sessions: Option<Arc<Sessions>>,
        steering: Option<Arc<Steering>>,
        outbox: Option<Outbox>,
        metrics: Metrics,
    ) -> Self {
        let sims = Arc::clone(court.sims());
        Self { sims, grants, court, sessions, steering, outbox, metrics }
    }

    /// Whether the kernel is told: without that there are no grants.
    pub(crate) fn steers(&self) -> bool {
        self.steering.is_some()
    }

    /// Follows `feed` until `stop`: in batches, so that a storm costs a transaction for hundreds.
    pub(crate) async fn run(self: Arc<Self>, mut feed: Feed, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(GRANT_WATCH);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => self.account().await,
                news = feed.next() => {
                    let Some(news) = news else { return };
                    let batch = gather(news, &mut feed).await;
                    self.take(batch).await;
                }
            }
        }
    }

    /// Ends the flows of whoever was walled, until `stop`: beside the lifts, because it is slow.
    pub(crate) async fn cut_flows(self: Arc<Self>, stop: CancellationToken) {
        // A part that ends before the stop would end the gateway.
        let Some(steering) = &self.steering else { return stop.cancelled().await };
        loop {
            let walled = tokio::select! {
                () = stop.cancelled() => return,
                walled = steering.walled() => walled,
            };
            let steering = Arc::clone(steering);
            let cut = tokio::task::spawn_blocking(move || steering.cut_flows(&walled)).await;
            match cut {
                Ok(Ok(count)) => self.metrics.cut(count),
                Ok(Err(error)) => {
                    tracing::warn!(%error, "flows of walled SIMs are not ended by conntrack; their packets are refused")
                }
                Err(_) => {}
            }
        }
    }

    /// Makes kernel and sessions agree with who is behind `networks`. Once this returns, they do.
    ///
    /// # Errors
    ///
    /// The kernel refused: it lets pass whom it let pass before.
    pub(crate) async fn settle(&self, networks: Vec<IpNet>) -> Result<(), NetlinkError> {
        if networks.is_empty() {
            return Ok(());
        }
        if let Some(sessions) = &self.sessions {
            sessions.rejudge_behind(&networks, &*self.court);
        }
        let Some(steering) = self.steering.as_ref().map(Arc::clone) else { return Ok(()) };
        blocking(move || steering.refresh(&networks)).await
    }

    async fn take(&self, batch: Batch) {
        let done = match &batch {
            Batch::Changes(changes) => {
                self.settle(changes.iter().map(|change| change.network).collect()).await
            }
            Batch::Everything => self.settle_everybody().await,
        };
        if let Err(error) = done {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(%error, cause, "the kernel cannot be told who is lifted and walled");
            self.metrics.failed();
            return;
        }
        if let Batch::Changes(changes) = &batch {
            self.tell(changes);
        }
        if let (Batch::Changes(changes), Some(snapshot)) = (batch, self.court.snapshot()) {
            let now = clock::now();
            for change in changes.iter().filter(|change| changes_class(change, &snapshot)) {
                let took = now.duration_since(change.at).try_into().unwrap_or_default();
                self.metrics.lifted(change.source, took);
            }
        }
    }

    /// Tells other systems of states that the network changed. The admin API tells of its own, the
    /// node that a change was made on tells of what comes by the store.
    fn tell(&self, changes: &[Arc<Change>]) {
        let Some(outbox) = &self.outbox else { return };
        let mut told = HashSet::new();
        for Change { before, after, source, at, .. } in changes.iter().map(|change| &**change) {
            let (iccid, imsi) = (after.iccid(), after.imsi());
            let sim = Identities { iccid, imsi, msisdn: None }.primary();
            if let (Source::Coa, Some(sim), Some(state)) = (source, sim, after.state())
                && before.state() != Some(state)
                && told.insert((sim, state))
            {
                let (before, source, at) = (before.state(), *source, *at);
                outbox.put(Message { sim, before, after: state, source, at });
            }
        }
    }

    async fn settle_everybody(&self) -> Result<(), NetlinkError> {
        if let (Some(sessions), Some(snapshot)) = (&self.sessions, self.court.snapshot()) {
            sessions.rejudge(&snapshot, &*self.court);
        }
        let Some(steering) = self.steering.as_ref().map(Arc::clone) else { return Ok(()) };
        blocking(move || steering.refill()).await
    }

    /// Reads from the kernel what grants have used, and ends those that are over.
    async fn account(&self) {
        let Some(steering) = self.steering.as_ref().map(Arc::clone) else { return };
        if self.grants.is_idle() {
            return;
        }
        let used = match blocking(move || steering.grants_used()).await {
            Ok(used) => used.into_iter().collect(),
            Err(error) => {
                tracing::warn!(%error, "the bytes of grants cannot be read; the kernel holds them to their bounds");
                return;
            }
        };
        let ended = self.grants.account(&used, clock::now());
        let networks = ended.into_iter().filter_map(|sim| self.sims.sim(sim));
        let networks = networks.flat_map(|sim| sim.networks).collect();
        if let Err(error) = self.settle(networks).await {
            tracing::warn!(%error, "the kernel ends grants by itself");
        }
    }
}

/// News that came together.
enum Batch {
    Changes(Vec<Arc<Change>>),
    Everything,
}

/// What waits behind `first`, up to a bound.
async fn gather(first: News, feed: &mut Feed) -> Batch {
    let mut changes = Vec::new();
    let mut next = Some(first);
    while let Some(news) = next {
        match news {
            News::Everything => return Batch::Everything,
            News::Change(change) => changes.push(change),
        }
        if changes.len() >= BATCH_MAX {
            break;
        }
        next = tokio::select! {
            biased;
            news = feed.next() => news,
            () = std::future::ready(()) => None,
        };
    }
    Batch::Changes(changes)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NetlinkError> + Send + 'static,
) -> Result<T, NetlinkError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(NetlinkError::Socket(std::io::Error::other(error))))
}

fn changes_class(change: &Change, snapshot: &Snapshot) -> bool {
    let class = |subscriber: &Subscriber| {
        snapshot.policy().class_of(Subject::Subscriber(subscriber)).map(policy::Class::name)
    };
    class(&change.before) != class(&change.after)
}

/// How often the bytes of grants are read while there are any. The kernel counts and refuses by
/// itself; what waits for this is the way back to the garden.
const GRANT_WATCH: Duration = Duration::from_millis(250);
/// Changes that go in one transaction.
const BATCH_MAX: usize = 1024;
