//! One question, from its bytes to the bytes of its answer.
//!
//! The order never changes: gate, subscriber, decision, plan, answer. A question that had to wait
//! for an upstream is judged again before its answer leaves, so that nothing is said under a
//! policy, or to a SIM in a state, that no longer holds.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use jiff::Timestamp;
use policy::{HostName, Policy, Reason, Record, Request, Snapshot, Subject, Subscriber, decide};
use tokio::time::Instant;

use crate::{
    metrics::{Metrics, Origin, Transport},
    plan::{self, Plan},
    resolver::{Found, Resolver, weigh},
    screen::{Family, Screened},
    upstream::UpstreamError,
    wire::{self, Answer, Dropped, Gate, MAX_TCP_ANSWER, Notice, Query, Question},
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

enum Step {
    Say(Answer, Origin),
    Ask(Search),
}

impl Responder {
    pub(crate) fn new(
        judge: Arc<dyn Judge>,
        resolver: Arc<Resolver>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { judge, resolver, metrics }
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
        let query = match wire::read(message) {
            Gate::Drop(reason) => {
                self.metrics.dropped(reason);
                return Reply::Silence;
            }
            Gate::Reject(query, rcode) => {
                let answer = Answer::empty(rcode);
                return Reply::Now(self.write(&query, &answer, Origin::Local, asker, started));
            }
            Gate::Ask(query) => query,
        };
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

    /// Says that there is no room to wait.
    pub(crate) fn turn_away(&self, waiting: &Waiting) -> Vec<u8> {
        let Waiting { query, asker, started, .. } = waiting;
        self.write(query, &plan::failed(Notice::NetworkError), Origin::Local, *asker, *started)
    }

    /// Judges the question under the policy in force, with what has been found so far.
    fn step(&self, query: &Query, asker: Asker, result: Option<&Ended>) -> Step {
        let Some(question) = query.question() else {
            return Step::Say(Answer::empty(wire::Rcode::FormatError), Origin::Local);
        };
        let subscriber = self.judge.subscriber(asker.from.ip());
        let Some(snapshot) = self.judge.snapshot() else {
            let record = Record::denied(&subscriber, PROTOCOL, Reason::NoPolicy, None, asker.to);
            self.judge.record(&record);
            return Step::Say(plan::refused(Notice::NotReady), Origin::Local);
        };
        let policy = snapshot.policy();
        let Ok(host) = HostName::from_wire_labels(question.name.labels()) else {
            let record =
                Record::denied(&subscriber, PROTOCOL, Reason::BadHost, Some(&snapshot), asker.to);
            self.judge.record(&record);
            return Step::Say(no_host(policy, &record, question), Origin::Local);
        };
        let subject = Subject::Subscriber(&subscriber);
        let now = self.judge.now();
        let request = Request::Dns { host: &host };
        let decision = decide(policy, subject, request, now);
        let record = Record::decided(&subscriber, &request, &decision, &snapshot, asker.to);
        let search = |host: HostName, family| Search {
            snapshot: Arc::clone(&snapshot),
            host,
            slot: (family, query.checking_disabled()),
        };
        match plan::plan(policy, &decision, &host, question.record_type) {
            Plan::Special(answer) => Step::Say(answer, Origin::Local),
            Plan::Answer(answer) => {
                self.judge.record(&record);
                Step::Say(answer, Origin::Local)
            }
            Plan::Resolve { family, rule, otherwise } => {
                let search = search(host.clone(), family);
                match (self.look(&search, result), otherwise) {
                    (None, _) => Step::Ask(search),
                    (Some(Err(_)), Some(address)) => {
                        self.judge.record(&record);
                        let ttl = policy.dns().denied_ttl;
                        Step::Say(plan::at(vec![address], ttl, ttl), Origin::Local)
                    }
                    (Some(Err(error)), None) => {
                        self.judge.record(&record);
                        Step::Say(plan::failed(notice(&error)), Origin::Upstream)
                    }
                    (Some(Ok(found)), _) => {
                        let screened = weigh(&found, policy, rule);
                        if screened == Screened::Refused {
                            self.judge.record(&Record {
                                verdict: policy::Verdict::Deny,
                                reason: Reason::UpstreamAddressRefused,
                                ..record
                            });
                        } else {
                            self.judge.record(&record);
                        }
                        let answer = plan::resolved(policy, &found.finding.aliases, screened);
                        Step::Say(answer, found.origin)
                    }
                }
            }
            Plan::Portal { family } => {
                let portal = portal(policy).filter(|portal| *portal != host);
                let Some(portal) = portal else {
                    self.judge.record(&record);
                    return Step::Say(plan::at_portal(policy, None), Origin::Local);
                };
                // The portal is resolved as a listed name is, or not at all.
                let decision = decide(policy, subject, Request::Dns { host: &portal }, now);
                let search = search(portal.clone(), family);
                let looked = if decision.passes() {
                    self.look(&search, result)
                } else {
                    Some(Err(UpstreamError::Unreachable))
                };
                let Some(found) = looked else { return Step::Ask(search) };
                self.judge.record(&record);
                let screened = found.ok().map(|found| weigh(&found, policy, decision.rule()));
                Step::Say(plan::at_portal(policy, screened), Origin::Local)
            }
        }
    }

    /// What is known about what `search` is for: the result at hand, else what needs no asking.
    fn look(
        &self,
        search: &Search,
        result: Option<&Ended>,
    ) -> Option<Result<Found, UpstreamError>> {
        let at_hand =
            result.filter(|result| result.host == search.host && result.slot == search.slot);
        match at_hand {
            Some(result) => Some(result.found.clone()),
            None => self.resolver.known(&search.snapshot, &search.host, search.slot).map(Ok),
        }
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
            Transport::Tcp => MAX_TCP_ANSWER,
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

/// A name that is no host name is denied to everybody; those we do not serve are told so.
fn no_host(policy: &Policy, record: &Record<'_>, question: &Question) -> Answer {
    if policy.class_of(Subject::Subscriber(record.subscriber)).is_none() {
        return plan::refused(Notice::Prohibited);
    }
    plan::no_host(policy, &question.name, question.record_type)
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

/// The host of the portal's URL.
fn portal(policy: &Policy) -> Option<HostName> {
    let url = policy.http().portal.as_deref()?;
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once(':').map_or(authority, |(host, _port)| host);
    HostName::parse(host).ok()
}

fn notice(error: &UpstreamError) -> Notice {
    match error {
        UpstreamError::Busy { .. } => Notice::NetworkError,
        UpstreamError::Timeout
        | UpstreamError::Unreachable
        | UpstreamError::ResponseCode { .. }
        | UpstreamError::Unreadable => Notice::NoReachableAuthority,
        UpstreamError::BadAnswer(_) => Notice::Other,
    }
}

const PROTOCOL: &str = "dns";

/// Searches for one question: the second, if a new policy gives another portal.
const MAX_SEARCHES: usize = 3;
