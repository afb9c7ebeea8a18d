//! One question, from its bytes to the bytes of its answer.
//!
//! The order never changes: gate, rate, subscriber, decision, plan, answer. A question that had to wait
//! for an upstream is judged again before its answer leaves, so that nothing is said under a
//! policy, or to a SIM in a state, that no longer holds.

mod rate;
mod step;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
};

use jiff::Timestamp;
use policy::{HostName, Reason, Record, Snapshot, Subscriber};
use tokio::time::Instant;

use crate::{
    limits::Limits,
    metrics::{Metrics, Origin, Transport},
    plan,
    rates::{PLACES, Rate, Rates},
    resolver::{Found, Resolver},
    screen::Family,
    upstream::UpstreamError,
    wire::{self, Answer, Dropped, Gate, MAX_TCP_ANSWER, Notice, Query},
};

/// What the resolver needs from the gateway around it.
pub trait Judge: Send + Sync + 'static {
    /// The policy in force; `None` before the first, which refuses everything.
    fn snapshot(&self) -> Option<Arc<Snapshot>>;

    /// Who is behind a source address.
    fn subscriber(&self, address: IpAddr) -> Subscriber;

    /// The time decisions are taken at.
    fn now(&self) -> Timestamp;

    /// Counts and logs one judgement; called once for each question that was answered by verdict.
    fn record(&self, record: &Record<'_>);
}

/// Answers questions; shared by all listeners.
pub(crate) struct Responder {
    judge: Arc<dyn Judge>,
    resolver: Arc<Resolver>,
    metrics: Arc<Metrics>,
    rates: Mutex<Rates>,
    questions_per_second: u32,
    began: Instant,
}

/// Where a question came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker {
    /// The subscriber's address and port.
    pub(crate) from: SocketAddr,
    /// The address and port the subscriber sent to, where the listener knows it.
    pub(crate) to: Option<SocketAddr>,
    /// How it came.
    pub(crate) transport: Transport,
}

/// What becomes of a message.
#[derive(Debug)]
pub(crate) enum Reply {
    /// Nothing.
    Silence,
    /// These bytes.
    Now(Vec<u8>),
    /// Bytes from [`Responder::finish`].
    Later(Box<Waiting>),
}

/// A question that waits for an upstream.
#[derive(Debug)]
pub(crate) struct Waiting {
    query: Query,
    asker: Asker,
    started: Instant,
    search: Search,
}

/// What has to be asked for before an answer can be given.
#[derive(Debug)]
struct Search {
    snapshot: Arc<Snapshot>,
    host: HostName,
    slot: (Family, bool),
}

/// A search that has ended.
struct Ended {
    host: HostName,
    slot: (Family, bool),
    found: Result<Found, UpstreamError>,
}

/// What is to be done next about a question.
enum Step {
    Say(Answer, Origin),
    Ask(Search),
}

impl Responder {
    pub(crate) fn new(
        judge: Arc<dyn Judge>,
        resolver: Arc<Resolver>,
        metrics: Arc<Metrics>,
        limits: Limits,
    ) -> Self {
        Self {
            judge,
            resolver,
            metrics,
            rates: Mutex::new(Rates::new(PLACES)),
            questions_per_second: limits.questions_per_second,
            began: Instant::now(),
        }
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Answers `message` at once if nobody has to be asked.
    pub(crate) fn take(&self, message: &[u8], asker: Asker) -> Reply {
        let started = Instant::now();
        if !can_be_answered(asker) {
            self.metrics.dropped(Dropped::Source);
            return Reply::Silence;
        }
        let (query, rejected) = match wire::read(message) {
            Gate::Drop(reason) => {
                self.metrics.dropped(reason);
                return Reply::Silence;
            }
            Gate::Reject(query, rcode) => (query, Some(rcode)),
            Gate::Ask(query) => (query, None),
        };
        if let Rate::Over { slips } = self.rate(&query, asker, started) {
            return self.over_rate(&query, slips, asker, started);
        }
        if let Some(rcode) = rejected {
            let answer = Answer::empty(rcode);
            return Reply::Now(self.write(&query, &answer, Origin::Local, asker, started));
        }
        match self.step(&query, asker, None) {
            Step::Say(answer, origin) => {
                Reply::Now(self.write(&query, &answer, origin, asker, started))
            }
            Step::Ask(search) => Reply::Later(Box::new(Waiting { query, asker, started, search })),
        }
    }

    /// Asks the upstreams, judges again, and answers.
    pub(crate) async fn finish(&self, waiting: Waiting) -> Vec<u8> {
        let Waiting { query, asker, started, mut search } = waiting;
        for _ in 0..MAX_SEARCHES {
            let Search { snapshot, host, slot } = search;
            let found = self.resolver.ask(&snapshot, &host, slot).await;
            match self.step(&query, asker, Some(&Ended { host, slot, found })) {
                Step::Say(answer, origin) => {
                    return self.write(&query, &answer, origin, asker, started);
                }
                Step::Ask(next) => search = next,
            }
        }
        let answer = plan::failed(Notice::Other);
        self.write(&query, &answer, Origin::Upstream, asker, started)
    }

    /// Answers `message`, however long that takes; `None` says nothing.
    pub(crate) async fn answer(&self, message: &[u8], asker: Asker) -> Option<Vec<u8>> {
        match self.take(message, asker) {
            Reply::Silence => None,
            Reply::Now(answer) => Some(answer),
            Reply::Later(waiting) => Some(self.finish(*waiting).await),
        }
    }

    /// Says that there is no room to wait.
    pub(crate) fn turn_away(&self, waiting: &Waiting) -> Vec<u8> {
        let Waiting { query, asker, started, search: Search { snapshot, host, .. } } = waiting;
        let subscriber = self.judge.subscriber(asker.from.ip());
        let reason = Reason::Limit;
        let record = Record::denied(&subscriber, PROTOCOL, reason, Some(snapshot), asker.to);
        self.judge.record(&Record { host: Some(host), ..record });
        self.write(query, &plan::failed(Notice::NetworkError), Origin::Local, *asker, *started)
    }

    fn write(
        &self,
        query: &Query,
        answer: &Answer,
        origin: Origin,
        asker: Asker,
        started: Instant,
    ) -> Vec<u8> {
        let limit = match asker.transport {
            Transport::Udp => query.udp_limit(),
            Transport::Tcp | Transport::Tls | Transport::Https => MAX_TCP_ANSWER,
        };
        self.metrics.answered(asker.transport, answer.rcode, origin, started.elapsed());
        answer.write(query, limit)
    }
}

impl std::fmt::Debug for Responder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Responder").finish_non_exhaustive()
    }
}

/// Whether an answer would reach somebody, and not be read as a question by another resolver.
fn can_be_answered(Asker { from, to, .. }: Asker) -> bool {
    let reachable = match from.ip().to_canonical() {
        IpAddr::V4(address) => {
            !(address.is_unspecified() || address.is_broadcast() || address.is_multicast())
        }
        IpAddr::V6(address) => !(address.is_unspecified() || address.is_multicast()),
    };
    reachable && from.port() != 0 && Some(from) != to
}

const PROTOCOL: &str = "dns";

/// Searches for one question: the second, if a new policy gives another portal.
const MAX_SEARCHES: usize = 3;
