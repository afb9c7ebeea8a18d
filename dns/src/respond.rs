//! One question, from its bytes to the bytes of its answer.
//!
//! The order never changes: gate, subscriber, rate, decision, plan, answer. A question that had to
//! wait for an upstream is judged again before its answer leaves, so that nothing is said under a
//! policy, or to a SIM in a state, that no longer holds. All transports come here; a thread that
//! answers many questions brings a [`Slate`] of its own, on which nothing needs to be allocated.

mod proof;
mod rate;
mod step;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, RwLock},
    time::Duration,
};

use jiff::Timestamp;
use policy::{Class, HostMemory, HostName, Reason, Record, Snapshot, Subject, Subscriber};
use tokio::time::Instant;

use crate::{
    cookies::CookieSecrets,
    limits::Limits,
    metrics::{Metrics, Origin, Said, Transport},
    packets::{PACKETS, Packets},
    plan,
    rates::{Asking, PLACES, Rate, Rates},
    resolver::{Found, Resolver},
    screen::Family,
    site::Site,
    upstream::UpstreamError,
    wire::{Answer, Dropped, MAX_TCP_ANSWER, Notice, Query, Reading},
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
    site: Site,
    metrics: Arc<Metrics>,
    rates: Mutex<Rates<Asking>>,
    /// None if the system has no random octets; then nobody gets a cookie.
    cookies: RwLock<Option<CookieSecrets>>,
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

/// What questions are judged by: the policy in force at one moment, and that moment.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    snapshot: Option<Arc<Snapshot>>,
    now: Timestamp,
    started: Instant,
}

/// The memory one question is worked out in, kept from one to the next.
#[derive(Debug, Default)]
pub(crate) struct Slate {
    query: Query,
    host: HostMemory,
    packets: Option<Packets>,
}

/// Who asks, and when.
#[derive(Clone, Copy, Debug)]
struct Sitting<'s> {
    asker: Asker,
    subscriber: &'s Subscriber,
    /// The subscriber's class, under the moment's policy.
    class: Option<&'s Class>,
    /// Whether the asker is who its address says.
    is_proven: bool,
    moment: &'s Moment,
}

/// What became of a message so far.
#[derive(Debug)]
pub(crate) enum Begun {
    /// It gets no answer.
    Silence,
    /// Its answer is written.
    Said(Said),
    /// Its answer comes from [`Responder::finish`].
    Later(Box<Waiting>),
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
    is_proven: bool,
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
    /// Nothing: the answer lay ready and is written.
    Written(Said),
    Ask(Search),
}

impl Responder {
    pub(crate) fn new(
        judge: Arc<dyn Judge>,
        resolver: Arc<Resolver>,
        site: Site,
        metrics: Arc<Metrics>,
        limits: Limits,
    ) -> Self {
        Self {
            judge,
            resolver,
            site,
            metrics,
            rates: Mutex::new(Rates::new(PLACES)),
            cookies: RwLock::new(CookieSecrets::random().ok()),
            questions_per_second: limits.questions_per_second,
            began: Instant::now(),
        }
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The present moment.
    pub(crate) fn moment(&self) -> Moment {
        let (snapshot, now) = (self.judge.snapshot(), self.judge.now());
        Moment { snapshot, now, started: Instant::now() }
    }

    /// Writes the answer to `message` in place of what `answer` holds, if nobody has to be asked.
    /// Whoever calls counts it.
    pub(crate) fn begin(
        &self,
        message: &[u8],
        asker: Asker,
        moment: &Moment,
        slate: &mut Slate,
        answer: &mut Vec<u8>,
    ) -> Begun {
        if !can_be_answered(asker) {
            self.metrics.dropped(Dropped::Source);
            return Begun::Silence;
        }
        let rejected = match slate.query.read(message) {
            Reading::Drop(reason) => {
                self.metrics.dropped(reason);
                return Begun::Silence;
            }
            Reading::Reject(rcode) => Some(rcode),
            Reading::Ask => None,
        };
        let subscriber = &self.judge.subscriber(asker.from.ip());
        let is_proven = self.prove(&mut slate.query, asker, moment);
        let class = moment.class_of(subscriber);
        let sitting = Sitting { asker, subscriber, class, is_proven, moment };
        if let Rate::Over { slips } = self.rate(&slate.query, sitting) {
            return self.over_rate(&slate.query, slips, sitting, answer);
        }
        let step = match rejected {
            Some(rcode) => Step::Say(Answer::empty(rcode), Origin::Local),
            None => self.step(slate, sitting, &[], answer),
        };
        match step {
            Step::Say(said, origin) => {
                Begun::Said(write(&slate.query, &said, origin, asker.transport, answer))
            }
            Step::Written(said) => Begun::Said(said),
            Step::Ask(search) => {
                let (query, started) = (slate.query.clone(), moment.started);
                Begun::Later(Box::new(Waiting { query, asker, is_proven, started, search }))
            }
        }
    }

    /// Answers `message` at once if nobody has to be asked.
    pub(crate) fn take(&self, message: &[u8], asker: Asker) -> Reply {
        let (moment, mut answer) = (self.moment(), Vec::new());
        match self.begin(message, asker, &moment, &mut Slate::default(), &mut answer) {
            Begun::Silence => Reply::Silence,
            Begun::Said(said) => {
                self.metrics.answered(asker.transport, said, moment.started.elapsed());
                Reply::Now(answer)
            }
            Begun::Later(waiting) => Reply::Later(waiting),
        }
    }

    /// Asks the upstreams, judges again, and answers.
    pub(crate) async fn finish(&self, waiting: Waiting) -> Vec<u8> {
        let Waiting { query, asker, is_proven, started, mut search } = waiting;
        let (mut slate, mut answer) = (Slate { query, ..Slate::default() }, Vec::new());
        let mut last = (plan::failed(Notice::Other), Origin::Upstream);
        let mut ended = Vec::new();
        while ended.len() < MAX_SEARCHES {
            let Search { host, slot, .. } = search;
            let found = self.resolver.ask(&host, slot).await;
            ended.push(Ended { host, slot, found });
            let (moment, subscriber) = (self.moment(), self.judge.subscriber(asker.from.ip()));
            let (subscriber, moment) = (&subscriber, &moment);
            let class = moment.class_of(subscriber);
            let sitting = Sitting { asker, subscriber, class, is_proven, moment };
            match self.step(&mut slate, sitting, &ended, &mut answer) {
                Step::Say(answer, origin) => {
                    last = (answer, origin);
                    break;
                }
                Step::Written(said) => {
                    self.metrics.answered(asker.transport, said, started.elapsed());
                    return answer;
                }
                Step::Ask(next) => search = next,
            }
        }
        let (said, origin) = last;
        let said = write(&slate.query, &said, origin, asker.transport, &mut answer);
        self.metrics.answered(asker.transport, said, started.elapsed());
        answer
    }

    /// Answers `message`, however long that takes; `None` says nothing.
    pub(crate) async fn answer(&self, message: &[u8], asker: Asker) -> Option<Vec<u8>> {
        match self.take(message, asker) {
            Reply::Silence => None,
            Reply::Now(answer) => Some(answer),
            Reply::Later(waiting) => Some(self.finish(*waiting).await),
        }
    }

    /// Writes that there is no room to wait. Whoever calls counts it.
    pub(crate) fn turn_away(&self, waiting: &Waiting, answer: &mut Vec<u8>) -> Said {
        let Waiting { query, asker, search: Search { snapshot, host, .. }, .. } = waiting;
        let subscriber = self.judge.subscriber(asker.from.ip());
        let reason = Reason::Limit;
        let record = Record::denied(&subscriber, PROTOCOL, reason, Some(snapshot), asker.to);
        self.judge.record(&Record { host: Some(host), ..record });
        let said = plan::failed(Notice::NetworkError);
        write(query, &said, Origin::Local, asker.transport, answer)
    }
}

impl Moment {
    fn class_of(&self, subscriber: &Subscriber) -> Option<&Class> {
        let snapshot = self.snapshot.as_deref()?;
        snapshot.policy().class_of(Subject::Subscriber(subscriber))
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }
}

impl Waiting {
    /// How long it waits already.
    pub(crate) fn waited(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Slate {
    /// With room for answers that lie ready.
    pub(crate) fn with_packets() -> Self {
        Self { packets: Some(Packets::new(PACKETS, Instant::now())), ..Self::default() }
    }
}

/// Writes `said` in place of what `answer` holds.
fn write(
    query: &Query,
    said: &Answer,
    origin: Origin,
    transport: Transport,
    answer: &mut Vec<u8>,
) -> Said {
    said.write_to(query, limit(query, transport), answer);
    Said { rcode: said.rcode, origin }
}

/// Octets of the longest answer to `query`.
fn limit(query: &Query, transport: Transport) -> usize {
    match transport {
        Transport::Udp => query.udp_limit(),
        Transport::Tcp | Transport::Tls | Transport::Https => MAX_TCP_ANSWER,
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

/// Searches for one question: one in each family for DNS64, and the same again if a new policy gives
/// another portal.
const MAX_SEARCHES: usize = 4;
