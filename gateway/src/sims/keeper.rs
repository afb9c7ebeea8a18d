//! The keeper: brings the table to its store and back, lets bindings lapse, reads the mapping.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};
use tokio::{sync::mpsc, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{
    Sims,
    mapping::{self, InvalidMapping},
    rows::Batch,
    store::{Store, StoreError, embedded::Embedded, redis::Redis},
    transfer::{self, Order, Transfer},
};
use crate::{
    clock,
    config::{StateConfig, StateEngine},
};

/// Keeps one table.
#[derive(Debug)]
pub(crate) struct Keeper {
    sims: Arc<Sims>,
    engine: Option<StateEngine>,
    /// Absent without an engine, and while it cannot be opened or is given away.
    store: Option<Store>,
    orders: mpsc::Receiver<Order>,
    /// Whether another process has everything.
    given: bool,
    stale_max: Duration,
    mapping: Option<MappingFile>,
    metrics: KeeperMetrics,
    /// What could not be written yet.
    unsaved: Batch,
    /// When the store last did as it was told.
    sound: Instant,
}

/// Handles of the metrics of table and store.
#[derive(Clone, Debug)]
pub(crate) struct KeeperMetrics {
    bindings: IntGaugeVec,
    sims: IntGauge,
    healthy: IntGauge,
    stale: IntGauge,
    skew: Gauge,
    commits: Histogram,
    loads: IntCounterVec,
}

/// Why the state of a node cannot be taken up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeeperError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the process before gave cannot be read.
    #[error("what the running gateway knows of SIMs cannot be read")]
    Given(#[from] postcard::Error),
    /// The mapping file cannot be read.
    #[error("cannot read the mapping of identities {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It says something it may not.
    #[error("the mapping of identities {} cannot be used", path.display())]
    Mapping {
        /// The file.
        path: PathBuf,
        /// Why.
        source: InvalidMapping,
    },
}

#[derive(Debug)]
struct MappingFile {
    path: PathBuf,
    /// When it was written, and how long it was, as it was read.
    read: Option<(SystemTime, u64)>,
}

impl Keeper {
    /// Opens the store, and fills the table from it, from what the process before this one gave, and
    /// from the mapping.
    ///
    /// # Errors
    ///
    /// A file cannot be used. A server that is away is no error: it may come.
    pub(crate) async fn open(
        config: &StateConfig,
        sims: Arc<Sims>,
        metrics: KeeperMetrics,
        given: &[Vec<u8>],
    ) -> Result<(Self, Transfer), KeeperError> {
        let store = match &config.engine {
            None => None,
            Some(StateEngine::Embedded { path }) => {
                let store = Embedded::open(path).map_err(StoreError::from)?;
                let mut refused = 0;
                let take = |rows: &[_]| refused += sims.merge(rows, clock::now());
                let unreadable = store.load(take).map_err(StoreError::from)?;
                if unreadable + refused > 0 {
                    tracing::error!(unreadable, refused, "rows of the state file were left out");
                }
                // What was just read need not be written.
                drop(sims.batch());
                Some(Store::Embedded(store))
            }
            Some(StateEngine::Redis(server)) => {
                let store = Redis::open(server, Arc::clone(&sims)).await;
                drop(sims.batch());
                Some(Store::Redis(store))
            }
        };
        if store.is_some() {
            sims.journal.keep();
        }
        for packet in given {
            sims.merge(&transfer::unpack(packet)?, clock::now());
        }
        if !given.is_empty() {
            sims.soil_all();
        }
        let (transfer, orders) = Transfer::new();
        let mapping = config.identities.clone().map(|path| MappingFile { path, read: None });
        let mut keeper = Self {
            sims,
            engine: config.engine.clone(),
            store,
            orders,
            given: false,
            stale_max: config.stale_max,
            mapping,
            metrics,
            unsaved: Batch::default(),
            sound: clock::monotonic(),
        };
        keeper.read_mapping()?;
        keeper.count();
        Ok((keeper, transfer))
    }

    /// Keeps the table until `stop`, then writes what is left.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let sims = Arc::clone(&self.sims);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = sims.journal.work() => {}
                _ = tick.tick() => self.tick(),
                Some(order) = self.orders.recv() => match order {
                    Order::Give(answer) => drop(answer.send(self.give().await)),
                    Order::TakeBack => self.take_back(),
                },
            }
            self.save().await;
        }
        self.save().await;
    }

    /// Writes what changed. One write at a time; what comes meanwhile goes with the next.
    async fn save(&mut self) {
        if self.given {
            return;
        }
        if self.engine.is_none() {
            self.sims.clean();
            return;
        }
        if self.store.is_none() {
            self.open_again().await;
        }
        let Some(store) = &mut self.store else { return };
        let retried = !self.unsaved.rows.is_empty();
        if !retried {
            self.unsaved = self.sims.batch();
        }
        let began = clock::monotonic();
        match store.commit(&self.unsaved).await {
            Ok(()) => {
                self.sound = clock::monotonic();
                self.metrics.commits.observe((self.sound - began).as_secs_f64());
                if self.metrics.healthy.get() == 0 {
                    tracing::info!("the store takes changes");
                }
                self.metrics.healthy.set(1);
                self.metrics.skew.set(store.skew());
                self.sims.journal.done(self.unsaved.mark);
                self.unsaved.rows.clear();
                if retried {
                    // What came meanwhile waits for no other sign.
                    self.sims.journal.nudge();
                }
            }
            Err(error) => {
                if self.metrics.healthy.get() != 0 {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::error!(%error, cause, "the store takes no changes");
                }
                self.metrics.healthy.set(0);
                // Not sooner: a store that is away gets one try in a while.
                tokio::time::sleep(RETRY).await;
            }
        }
        self.judge_age();
    }

    /// Lets go of the store, and tells what it does not hold.
    async fn give(&mut self) -> Vec<Vec<u8>> {
        self.sims.journal.hold();
        // What waited, and what came since.
        self.save().await;
        self.save().await;
        self.given = true;
        let is_saved = self.store.take().is_some() && self.unsaved.rows.is_empty();
        if is_saved {
            return Vec::new();
        }
        self.sims.soil_all();
        let rows = self.sims.batch().rows.into_iter().filter_map(|(_, row)| row);
        transfer::pack(rows).unwrap_or_else(|error| {
            tracing::error!(%error, "bindings are not given to the next process");
            Vec::new()
        })
    }

    fn take_back(&mut self) {
        if std::mem::take(&mut self.given) {
            self.sims.soil_all();
            self.sims.journal.release(self.engine.is_some());
        }
    }

    async fn open_again(&mut self) {
        let opened = match &self.engine {
            None => return,
            Some(StateEngine::Embedded { path }) => Embedded::open(path).map(Store::Embedded),
            Some(StateEngine::Redis(server)) => {
                Ok(Store::Redis(Redis::open(server, Arc::clone(&self.sims)).await))
            }
        };
        match opened {
            Ok(store) => self.store = Some(store),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(%error, cause, "the store cannot be opened again");
                self.metrics.healthy.set(0);
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    fn tick(&mut self) {
        let now = clock::now();
        self.sims.age(AGED.max(self.sims.len() / ROUNDS), now);
        if let Err(error) = self.read_mapping() {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(%error, cause, "the mapping of identities before stays");
        }
        self.count();
        self.judge_age();
    }

    /// A store that is away for too long makes everybody unknown: what paid and what ran out is
    /// told to others, not to us.
    fn judge_age(&self) {
        let silent = clock::monotonic().saturating_duration_since(self.sound);
        let stale = self.engine.is_some() && silent >= self.stale_max;
        self.sims.set_stale(stale);
        self.metrics.stale.set(i64::from(stale));
    }

    /// Reads the mapping file if it is another than the one that was read last.
    fn read_mapping(&mut self) -> Result<(), KeeperError> {
        let Some(file) = &mut self.mapping else { return Ok(()) };
        let path = || file.path.clone();
        let wrong = |source| KeeperError::Read { path: path(), source };
        let look = || {
            let metadata = std::fs::metadata(&file.path)?;
            Ok((metadata.modified()?, metadata.len()))
        };
        let found: (SystemTime, u64) = match look() {
            Ok(found) => found,
            // Told once, not every second.
            Err(_) if file.read == Some(ABSENT) => return Ok(()),
            Err(source) => {
                let error = wrong(source);
                file.read = Some(ABSENT);
                self.metrics.loads.with_label_values(&["unreadable"]).inc();
                return Err(error);
            }
        };
        if file.read == Some(found) {
            return Ok(());
        }
        let read = std::fs::read_to_string(&file.path).map_err(wrong);
        let parsed = read.and_then(|text| {
            mapping::read(&text).map_err(|source| KeeperError::Mapping { path: path(), source })
        });
        file.read = Some(found);
        let mapping = parsed.inspect_err(|_| {
            self.metrics.loads.with_label_values(&["refused"]).inc();
        })?;
        let refused = self.sims.load(&mapping, clock::now());
        self.metrics.loads.with_label_values(&["taken"]).inc();
        tracing::info!(sims = mapping.len(), refused, "mapping of identities taken");
        Ok(())
    }

    fn count(&self) {
        for (state, total) in self.sims.totals() {
            self.metrics.bindings.with_label_values(&[state]).set(total);
        }
        self.metrics.sims.set(i64::try_from(self.sims.known()).unwrap_or(i64::MAX));
    }
}

impl KeeperMetrics {
    /// Registers them.
    ///
    /// # Errors
    ///
    /// A name is taken.
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self {
            bindings: IntGaugeVec::new(
                Opts::new(BINDINGS, "Addresses with a SIM behind them, by the SIM's state."),
                &["state"],
            )?,
            sims: IntGauge::new(SIMS, "SIMs that are known, bound or not.")?,
            healthy: IntGauge::new(HEALTHY, "Whether the store took what it was last given.")?,
            stale: IntGauge::new(
                STALE,
                "Whether the store is away for so long that every subscriber counts as unknown.",
            )?,
            skew: Gauge::new(
                SKEW,
                "Seconds that this node's clock is ahead of the shared store's; 0 without one.",
            )?,
            commits: Histogram::with_opts(
                HistogramOpts::new(COMMITS, "Time the store took for a batch of changes.")
                    .buckets(vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0]),
            )?,
            loads: IntCounterVec::new(
                Opts::new(LOADS, "Readings of the mapping of identities, by result."),
                &["result"],
            )?,
        };
        registry.register(Box::new(metrics.bindings.clone()))?;
        registry.register(Box::new(metrics.sims.clone()))?;
        registry.register(Box::new(metrics.healthy.clone()))?;
        registry.register(Box::new(metrics.stale.clone()))?;
        registry.register(Box::new(metrics.skew.clone()))?;
        registry.register(Box::new(metrics.commits.clone()))?;
        registry.register(Box::new(metrics.loads.clone()))?;
        for result in ["taken", "refused", "unreadable"] {
            metrics.loads.with_label_values(&[result]);
        }
        metrics.healthy.set(1);
        Ok(metrics)
    }
}

/// How often bindings are looked at.
const TICK: Duration = Duration::from_secs(1);
/// Ticks for a round through all bindings.
const ROUNDS: usize = 16;
/// Bindings looked at in a tick, at least.
const AGED: usize = 1024;
/// How long a store that failed is left alone.
const RETRY: Duration = Duration::from_millis(500);
/// What stands for a file that is not there.
const ABSENT: (SystemTime, u64) = (SystemTime::UNIX_EPOCH, u64::MAX);

const BINDINGS: &str = "postern_bindings";
const SIMS: &str = "postern_sims";
const HEALTHY: &str = "postern_store_healthy";
const SKEW: &str = "postern_store_clock_skew_seconds";
const STALE: &str = "postern_store_stale";
const COMMITS: &str = "postern_store_commit_seconds";
const LOADS: &str = "postern_mapping_loads_total";
