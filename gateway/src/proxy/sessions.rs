//! The live sessions: how many there may be, and who is cut off when a policy is published.
//!
//! A session is counted from accept to close. One whose host is known is judged again by
//! [`Sessions::rejudge`]; one that is not yet named meets the new policy when it names itself.

mod spending;

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use policy::{Decision, HostName, Reason, Snapshot, Subject, Verdict};
use tokio_util::sync::CancellationToken;

use super::{
    Protocol,
    meter::Meter,
    metrics::Metrics,
    outcome::{OurEnd, Outcome, PolicyEnd},
    quota::{Account, QuotaLimit, Quotas, ROOM},
};

/// Bounds of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// From accept to the last byte of the hello.
    pub(crate) hello_time: Duration,
    /// From the first byte of an HTTP head to its last.
    pub(crate) header_time: Duration,
    /// Without a byte in either direction.
    pub(crate) idle_limit: Duration,
    /// From the verdict to a connected origin, resolution included.
    pub(crate) dial_time: Duration,
    /// Sessions of all subscribers together.
    pub(crate) sessions: usize,
    /// Sessions of one subscriber, unless its class says otherwise.
    pub(crate) sessions_per_subscriber: usize,
}

/// Every live session.
pub(crate) struct Sessions {
    limits: Limits,
    metrics: Arc<Metrics>,
    numbers: AtomicU64,
    draining: CancellationToken,
    table: Mutex<Table>,
    quotas: Quotas,
}

#[derive(Default)]
struct Table {
    live: BTreeMap<u64, Arc<Live>>,
    per_subscriber: HashMap<IpAddr, usize>,
}

/// What is known of one live session.
pub(super) struct Live {
    subscriber: IpAddr,
    protocol: Protocol,
    port: u16,
    destination: Option<SocketAddr>,
    account: Option<Arc<Account>>,
    exhausted: AtomicBool,
    named: Mutex<Option<Named>>,
    revoked: CancellationToken,
    closed: CancellationToken,
}

#[derive(Clone)]
struct Named {
    host: HostName,
    generation: u64,
}

/// One session, from accept to close. Dropped without [`Session::end`], it counts as broken.
pub(crate) struct Session {
    sessions: Arc<Sessions>,
    live: Arc<Live>,
    number: u64,
    outcome: Outcome,
}

/// A live session that another policy would judge otherwise.
#[derive(Clone, Debug)]
pub(crate) struct SessionChange {
    /// Whose it is. Personal: shown as a pseudonym only.
    pub(crate) subscriber: IpAddr,
    /// The protocol's name.
    pub(crate) protocol: &'static str,
    /// The host it was allowed.
    pub(crate) host: HostName,
    /// The port the subscriber connected to.
    pub(crate) port: u16,
    /// What holds.
    pub(crate) now: Standing,
    /// What would hold.
    pub(crate) then: Standing,
}

/// How a live session is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The subscriber's class.
    pub(crate) class: String,
    /// The verdict.
    pub(crate) verdict: Verdict,
    /// Why.
    pub(crate) reason: Reason,
}

/// A session limit that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SessionLimit {
    /// All subscribers together.
    #[error("{limit} sessions are open; at most {limit}")]
    Total {
        /// The limit.
        limit: usize,
    },
    /// One subscriber.
    #[error("the subscriber has {limit} sessions open; at most {limit}")]
    Subscriber {
        /// The limit.
        limit: usize,
    },
    /// The bytes of one subscriber.
    #[error(transparent)]
    Quota(#[from] QuotaLimit),
}

impl Sessions {
    pub(super) fn new(limits: Limits, metrics: Arc<Metrics>) -> Self {
        Self {
            limits,
            metrics,
            numbers: AtomicU64::new(1),
            draining: CancellationToken::new(),
            table: Mutex::default(),
            quotas: Quotas::new(ROOM),
        }
    }

    /// Opens a session, if the limits allow one more; `class_limits` are those of the subscriber's
    /// class.
    ///
    /// # Errors
    ///
    /// Says which limit was reached.
    pub(super) fn admit(
        self: &Arc<Self>,
        subscriber: IpAddr,
        protocol: Protocol,
        port: u16,
        destination: Option<SocketAddr>,
        class_limits: policy::Limits,
        now: Timestamp,
    ) -> Result<Session, SessionLimit> {
        let key = subscriber_key(subscriber);
        let account = self.quotas.open(key, class_limits.bytes_per_day, now)?;
        self.metrics.metered(self.quotas.count());
        let class_limit = class_limits.sessions.and_then(|limit| usize::try_from(limit).ok());
        let live = Arc::new(Live {
            subscriber,
            protocol,
            port,
            destination,
            account,
            exhausted: AtomicBool::new(false),
            named: Mutex::default(),
            revoked: CancellationToken::new(),
            closed: CancellationToken::new(),
        });
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        self.table.lock().unwrap_or_else(PoisonError::into_inner).admit(
            number,
            Arc::clone(&live),
            self.limits.sessions,
            class_limit.unwrap_or(self.limits.sessions_per_subscriber),
        )?;
        self.metrics.opened(protocol);
        let outcome = Outcome::Us(OurEnd::Broken);
        Ok(Session { sessions: Arc::clone(self), live, number, outcome })
    }

    /// How many sessions are open.
    pub(crate) fn count(&self) -> usize {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).live.len()
    }

    /// The live sessions whose verdict under `candidate` is another than under `running`, and
    /// those that `candidate` denies; these first, then in the order of their opening.
    pub(crate) fn changed_under(
        &self,
        running: &Snapshot,
        candidate: &Snapshot,
        judge: &dyn dns::Judge,
    ) -> Vec<SessionChange> {
        let now = judge.now();
        let change = |live: Arc<Live>| {
            let Named { host, .. } = live.named()?;
            let subscriber = judge.subscriber(live.subscriber);
            let request = live.protocol.request(&host, live.port);
            let standing = |snapshot: &Snapshot| {
                let subject = Subject::Subscriber(&subscriber);
                Standing::from(policy::decide(snapshot.policy(), subject, request, now))
            };
            let (now, then) = (standing(running), standing(candidate));
            let protocol = request.protocol();
            (now.verdict != then.verdict || !then.passes()).then(|| SessionChange {
                subscriber: live.subscriber,
                protocol,
                port: live.port,
                now,
                then,
                host: host.clone(),
            })
        };
        let mut changes: Vec<SessionChange> = self.live().into_iter().filter_map(change).collect();
        changes.sort_by_key(|change| change.then.passes());
        changes
    }

    /// Judges every live session again under `snapshot` and closes those it denies; the others are
    /// not touched. Says how many were closed.
    pub(crate) fn rejudge(&self, snapshot: &Snapshot, judge: &dyn dns::Judge) -> usize {
        let denied = self.denied(snapshot, judge);
        for live in &denied {
            live.revoked.cancel();
        }
        denied.len() + self.hold_to_limits(snapshot, judge)
    }

    fn denied(&self, snapshot: &Snapshot, judge: &dyn dns::Judge) -> Vec<Arc<Live>> {
        let now = judge.now();
        let denies = |live: &Arc<Live>| {
            let Some(Named { host, generation }) = live.named() else {
                return false;
            };
            let subscriber = judge.subscriber(live.subscriber);
            let request = live.protocol.request(&host, live.port);
            let subject = Subject::Subscriber(&subscriber);
            let decision = policy::decide(snapshot.policy(), subject, request, now);
            if !decision.passes() {
                tracing::debug!(
                    %host,
                    reason = decision.reason().label(),
                    opened = generation,
                    closed = snapshot.generation(),
                    "live session revoked"
                );
            }
            !decision.passes()
        };
        self.live().into_iter().filter(denies).collect()
    }

    /// Copied out, so that accepting goes on while 100,000 sessions are judged.
    fn live(&self) -> Vec<Arc<Live>> {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.live.values().map(Arc::clone).collect()
    }

    /// Asks sessions between two requests to end.
    pub(super) fn drain(&self) {
        self.draining.cancel();
    }

    /// Ends every session.
    pub(super) fn close_all(&self) {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        for live in table.live.values() {
            live.closed.cancel();
        }
    }
}

impl Standing {
    /// Whether the session goes on.
    pub(crate) fn passes(&self) -> bool {
        match self.verdict {
            Verdict::Allow | Verdict::Observe => true,
            Verdict::Deny => false,
        }
    }
}

impl From<Decision<'_>> for Standing {
    fn from(decision: Decision<'_>) -> Self {
        let (verdict, reason) = (decision.verdict(), decision.reason());
        Self { class: decision.class_label().to_owned(), verdict, reason }
    }
}

impl Table {
    fn admit(
        &mut self,
        number: u64,
        live: Arc<Live>,
        total: usize,
        each: usize,
    ) -> Result<(), SessionLimit> {
        if self.live.len() >= total {
            return Err(SessionLimit::Total { limit: total });
        }
        let key = subscriber_key(live.subscriber);
        let count = self.per_subscriber.entry(key).or_default();
        if *count >= each {
            if *count == 0 {
                self.per_subscriber.remove(&key);
            }
            return Err(SessionLimit::Subscriber { limit: each });
        }
        *count += 1;
        self.live.insert(number, live);
        Ok(())
    }

    fn remove(&mut self, number: u64) {
        let Some(live) = self.live.remove(&number) else {
            return;
        };
        let key = subscriber_key(live.subscriber);
        if let Some(count) = self.per_subscriber.get_mut(&key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.per_subscriber.remove(&key);
            }
        }
    }
}

impl Live {
    fn named(&self) -> Option<Named> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Session {
    /// The session's number in this process, from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The subscriber's address.
    pub(super) fn subscriber(&self) -> IpAddr {
        self.live.subscriber
    }

    /// What is spoken.
    pub(super) fn protocol(&self) -> Protocol {
        self.live.protocol
    }

    /// The port the subscriber connected to.
    pub(super) fn port(&self) -> u16 {
        self.live.port
    }

    /// The address the subscriber connected to, where it is known.
    pub(super) fn destination(&self) -> Option<SocketAddr> {
        self.live.destination
    }

    /// What counts the session's bytes.
    pub(super) fn meter(&self, judge: &Arc<dyn dns::Judge>) -> Meter {
        Meter::new(Arc::clone(&self.sessions), Arc::clone(&self.live), Arc::clone(judge))
    }

    /// Says what the session was allowed, and by which generation of the policy.
    pub(super) fn name(&self, host: &HostName, generation: u64) {
        *self.live.named.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Named { host: host.clone(), generation });
    }

    /// Says that nothing allowed is in progress.
    pub(super) fn unname(&self) {
        *self.live.named.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Waits until the session has to end, and says why.
    pub(super) async fn cut(&self) -> Outcome {
        tokio::select! {
            () = self.live.revoked.cancelled() => Outcome::Policy(
                if self.live.exhausted.load(Ordering::Relaxed) {
                    PolicyEnd::Exhausted
                } else {
                    PolicyEnd::Revoked
                },
            ),
            () = self.live.closed.cancelled() => Outcome::Us(OurEnd::Stopped),
        }
    }

    /// Waits until the gateway is about to stop.
    pub(super) async fn draining(&self) {
        self.sessions.draining.cancelled().await;
    }

    /// Closes the session's books.
    pub(super) fn end(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.sessions.table.lock().unwrap_or_else(PoisonError::into_inner).remove(self.number);
        self.sessions.metrics.closed(self.live.protocol, self.outcome);
    }
}

impl Default for Limits {
    /// The bounds where `gateway.toml` says nothing.
    fn default() -> Self {
        Self {
            hello_time: HELLO_TIME,
            header_time: HEADER_TIME,
            idle_limit: IDLE_LIMIT,
            dial_time: DIAL_TIME,
            sessions: SESSIONS,
            sessions_per_subscriber: SESSIONS_PER_SUBSCRIBER,
        }
    }
}

/// A subscriber is one IPv4 address, or one IPv6 /64 (3GPP TS 23.401 section 5.3.1.2.2).
fn subscriber_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
    }
}

const HELLO_TIME: Duration = Duration::from_secs(5);
const HEADER_TIME: Duration = Duration::from_secs(10);
const IDLE_LIMIT: Duration = Duration::from_secs(300);
const DIAL_TIME: Duration = Duration::from_secs(8);
const SESSIONS: usize = 65_536;
const SESSIONS_PER_SUBSCRIBER: usize = 2_048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriber_is_one_ipv4_address_or_one_ipv6_64() {
        for (one, other, same) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", true),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
        ] {
            let key = |text: &str| subscriber_key(text.parse().unwrap());
            assert_eq!(key(one) == key(other), same, "{one} {other}");
        }
    }

    #[test]
    fn limits_trip_and_give_back() {
        let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
        let limits = Limits { sessions: 3, sessions_per_subscriber: 2, ..Limits::default() };
        let sessions = Arc::new(Sessions::new(limits, metrics));
        let admit = |last: u8, limit| {
            let subscriber = IpAddr::from([192, 0, 2, last]);
            let class_limits = policy::Limits { sessions: limit, ..policy::Limits::default() };
            let now = Timestamp::UNIX_EPOCH;
            sessions.admit(subscriber, Protocol::Https, 443, None, class_limits, now)
        };
        let first = admit(1, None).unwrap();
        let _second = admit(1, None).unwrap();
        assert_eq!(admit(1, None).err(), Some(SessionLimit::Subscriber { limit: 2 }));
        assert_eq!(admit(2, Some(0)).err(), Some(SessionLimit::Subscriber { limit: 0 }));
        let _third = admit(2, None).unwrap();
        assert_eq!(admit(3, None).err(), Some(SessionLimit::Total { limit: 3 }));
        drop(first);
        let _fourth = admit(1, Some(7)).unwrap();
        assert_eq!(sessions.count(), 3);
        assert_eq!(sessions.table.lock().unwrap().per_subscriber.len(), 2);
    }
}
