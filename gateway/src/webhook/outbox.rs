//! Messages out: when a SIM's state changes here, other systems are told.
//!
//! Nothing waits for them. The queue is bounded, and what it has no room for is counted and lost:
//! whoever must not miss a change asks the admin API again.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use policy::SimState;
use prometheus::{IntCounterVec, IntGauge, Opts, Registry};
use serde_json::json;
use tokio::{sync::mpsc, task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use super::seal::{Seal, SealError};
use crate::{
    client::{Client, ClientError},
    clock,
    config::WebhookTarget,
    sims::{SimId, Source},
};

/// Where changes are put.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    queue: mpsc::Sender<Arc<Message>>,
    metrics: Metrics,
}

/// Takes the messages to where they go.
pub(crate) struct Courier {
    queue: mpsc::Receiver<Arc<Message>>,
    targets: Vec<Arc<Target>>,
    metrics: Metrics,
    node: String,
}

/// One change.
#[derive(Debug)]
pub(crate) struct Message {
    /// Whose state changed.
    pub(crate) sim: SimId,
    /// What it was, where it was known.
    pub(crate) before: Option<SimState>,
    /// What it is.
    pub(crate) after: SimState,
    /// What changed it.
    pub(crate) source: Source,
    /// When.
    pub(crate) at: Timestamp,
}

struct Target {
    client: Client,
    path: String,
    seal: Seal,
}

/// Why nobody can be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutboxError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Seal(#[from] SealError),
}

#[derive(Clone, Debug)]
struct Metrics {
    sent: IntCounterVec,
    waiting: IntGauge,
}

impl Outbox {
    /// An outbox and the courier that empties it; `None` when nobody is to be told.
    pub(crate) fn new(
        targets: &[WebhookTarget],
        node: &str,
        registry: &Registry,
    ) -> Result<Option<(Self, Courier)>, OutboxError> {
        let Ok(metrics) = Metrics::register(registry) else { return Ok(None) };
        if targets.is_empty() {
            return Ok(None);
        }
        let (sender, queue) = mpsc::channel(QUEUE);
        let targets = targets.iter().map(Target::new).collect::<Result<_, _>>()?;
        let courier = Courier { queue, targets, metrics: metrics.clone(), node: node.to_owned() };
        Ok(Some((Self { queue: sender, metrics }, courier)))
    }

    /// Puts a change in the queue, if there is room.
    pub(crate) fn put(&self, message: Message) {
        match self.queue.try_send(Arc::new(message)) {
            Ok(()) => self.metrics.waiting.inc(),
            Err(_) => self.metrics.sent.with_label_values(&["no-room"]).inc(),
        }
    }
}

impl Courier {
    /// Delivers until `stop`; what was not delivered by then is lost.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut ways = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(_) = ways.join_next() => {}
                Some(message) = self.queue.recv(), if ways.len() < IN_FLIGHT => {
                    self.metrics.waiting.dec();
                    let body: Arc<[u8]> = message.body(&self.node).into();
                    for target in &self.targets {
                        let (target, body) = (Arc::clone(target), Arc::clone(&body));
                        let metrics = self.metrics.clone();
                        ways.spawn(async move {
                            let outcome = target.deliver(&body).await;
                            metrics.sent.with_label_values(&[outcome]).inc();
                        });
                    }
                }
            }
        }
    }
}

impl Message {
    fn body(&self, node: &str) -> Vec<u8> {
        let Self { sim, before, after, source, at } = self;
        let message = json!({
            "type": "sim.state.changed",
            "timestamp": at.to_string(),
            "data": {
                "sim": sim.whole(),
                "before": before.map(SimState::label),
                "state": after.label(),
                "source": source.label(),
                "node": node,
            },
        });
        message.to_string().into_bytes()
    }
}

impl Target {
    fn new(target: &WebhookTarget) -> Result<Arc<Self>, OutboxError> {
        let WebhookTarget { origin, path, key_file, ca_file } = target;
        let client = Client::to(origin, ca_file.as_deref(), None)?;
        Ok(Arc::new(Self { client, path: path.clone(), seal: Seal::load(key_file)? }))
    }

    /// Tries until it is taken, refused for good, or too late; the metric's label says which.
    async fn deliver(&self, body: &[u8]) -> &'static str {
        let Some(id) = id() else { return "failed" };
        let mut pause = PAUSE;
        for attempt in 1..=ATTEMPTS {
            // The same id with a new time: the receiver knows a repetition, and it is never stale.
            let timestamp = clock::now().as_second().to_string();
            let headers = [
                ("content-type", "application/json".to_owned()),
                ("webhook-id", id.clone()),
                ("webhook-signature", self.seal.sign(&id, &timestamp, body)),
                ("webhook-timestamp", timestamp),
            ];
            match self.client.deliver(&self.path, &headers, body.to_vec().into()).await {
                Ok(status) if status.is_success() => return "delivered",
                // Gone for good (Standard Webhooks, "delivery").
                Ok(status) if status == http::StatusCode::GONE => return "refused",
                Ok(status) => tracing::debug!(%status, attempt, "webhook not taken"),
                Err(error) => tracing::debug!(%error, attempt, "webhook not delivered"),
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        tracing::warn!(attempts = ATTEMPTS, "a webhook was not delivered and is given up");
        "failed"
    }
}

impl Metrics {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        let options = Opts::new(SENT, "Webhooks out, by what became of them.");
        let sent = IntCounterVec::new(options, &["result"])?;
        for result in ["delivered", "refused", "failed", "no-room"] {
            sent.with_label_values(&[result]);
        }
        let waiting = IntGauge::new(WAITING, "Webhooks that wait to be sent.")?;
        registry.register(Box::new(sent.clone()))?;
        registry.register(Box::new(waiting.clone()))?;
        Ok(Self { sent, waiting })
    }
}

fn id() -> Option<String> {
    let mut octets = [0_u8; 16];
    getrandom::fill(&mut octets).ok()?;
    Some(octets.iter().fold("msg_".to_owned(), |text, octet| format!("{text}{octet:02x}")))
}

/// Changes that wait.
const QUEUE: usize = 10_000;
/// Deliveries at once.
const IN_FLIGHT: usize = 16;
/// Attempts at one delivery; with the pauses between them about eight minutes.
const ATTEMPTS: u32 = 9;
/// Before the second attempt; doubled each time.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(240);
const SENT: &str = "postern_webhooks_total";
const WAITING: &str = "postern_webhooks_waiting";
