//! The live sessions: how many there may be, and who is cut off when a policy is published.
//!
//! A session is counted from accept to close. One whose host is known is judged again by
//! [`Sessions::rejudge`]; one that is not yet named meets the new policy when it names itself.

mod limits;
mod spending;
mod watch;

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;
use jiff::Timestamp;
use policy::{Decision, HostName, Reason, Snapshot, Subject, Verdict};
use tokio_util::sync::CancellationToken;

pub(crate) use limits::Limits;

use super::{
    Protocol,
    meter::{Flow, Meter},
    metrics::{Direction, Metrics},
    outcome::{OurEnd, Outcome, PolicyEnd},
    quota::{Account, QuotaLimit, Quotas, ROOM},
    share,
};

/// Every live session.
pub(crate) struct Sessions {
    limits: Limits,
    metrics: Arc<Metrics>,
    numbers: AtomicU64,
    open: Shared,
    unjudged: Shared,
    draining: CancellationToken,
    stopping: CancellationToken,
    parts: Box<[Mutex<Part>]>,
    quotas: Quotas,
    leaving: watch::Leaving,
}

/// Live sessions under one lock, by their numbers.
type Part = HashMap<u64, Arc<Live>>;

/// How much of something is taken, and by how many subscribers.
#[derive(Default)]
struct Shared {
    total: AtomicUsize,
    holders: AtomicUsize,
}

/// What is known of one live session.
pub(super) struct Live {
    subscriber: IpAddr,
    protocol: Protocol,
    port: u16,
    destination: Option<SocketAddr>,
    account: Arc<Account>,
    is_unjudged: AtomicBool,
    named: Mutex<Option<Named>>,
    fate: AtomicU8,
    waker: AtomicWaker,
}

/// Whether a session has to end, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It goes on.
    None,
    /// The policy denies it.
    Revoked,
    /// Its subscriber may move no more bytes.
    Exhausted,
    /// The gateway stops.
    Closed,
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
    /// All subscribers together, or this one's share of what is left.
    #[error("{open} sessions are open; at most {limit}, and less than an equal share at the end")]
    Total {
        /// How many are open.
        open: usize,
        /// The limit.
        limit: usize,
    },
    /// All subscribers together, before a verdict.
    #[error(
        "{open} sessions wait for a hello; at most {limit}, and less than an equal share at the end"
    )]
    Hellos {
        /// How many wait.
        open: usize,
        /// The limit.
        limit: usize,
    },
    /// One subscriber.
    #[error("the subscriber has {limit} sessions open; at most {limit}")]
    Subscriber {
        /// The limit.
        limit: usize,
    },
    /// The bytes or the pace of one subscriber.
    #[error(transparent)]
    Quota(#[from] QuotaLimit),
}

impl Sessions {
    pub(super) fn new(limits: Limits, metrics: Arc<Metrics>) -> Self {
        Self {
            limits,
            metrics,
            numbers: AtomicU64::new(first_number()),
            open: Shared::default(),
            unjudged: Shared::default(),
            draining: CancellationToken::new(),
            stopping: CancellationToken::new(),
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
            quotas: Quotas::new(ROOM),
            leaving: watch::Leaving::default(),
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
        let pace = class_limits.sessions_per_second.unwrap_or(self.limits.sessions_per_second);
        let account = self.quotas.open(key, class_limits.bytes_per_day, pace, now)?;
        self.metrics.metered(self.quotas.count());
        let each = class_limits.sessions.and_then(|limit| usize::try_from(limit).ok());
        self.take(&account, each.unwrap_or(self.limits.sessions_per_subscriber))
            .inspect_err(|_| self.quotas.close(key, &account))?;
        let live = Arc::new(Live {
            subscriber,
            protocol,
            port,
            destination,
            account,
            is_unjudged: AtomicBool::new(true),
            named: Mutex::default(),
            fate: AtomicU8::new(Fate::None.number()),
            waker: AtomicWaker::new(),
        });
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        self.part(number).insert(number, Arc::clone(&live));
        self.metrics.opened(protocol);
        let outcome = Outcome::Us(OurEnd::Broken);
        Ok(Session { sessions: Arc::clone(self), live, number, outcome })
    }

    /// Takes a place for one session of `account`, which may have `each` of them.
    fn take(&self, account: &Account, each: usize) -> Result<(), SessionLimit> {
        let own = account.open.load(Ordering::Relaxed);
        if own >= each {
            return Err(SessionLimit::Subscriber { limit: each });
        }
        let limit = self.limits.sessions;
        if let Err(open) = self.open.admits(own, limit) {
            return Err(SessionLimit::Total { open, limit });
        }
        let limit = self.limits.hellos;
        if let Err(open) = self.unjudged.admits(account.unjudged.load(Ordering::Relaxed), limit) {
            return Err(SessionLimit::Hellos { open, limit });
        }
        self.open.take(&account.open);
        self.unjudged.take(&account.unjudged);
        Ok(())
    }

    /// How many sessions are open.
    pub(crate) fn count(&self) -> usize {
        self.open.total.load(Ordering::Relaxed)
    }

    /// Counts a session as one that has its verdict; once.
    fn is_judged(&self, live: &Live) {
        if live.is_unjudged.swap(false, Ordering::Relaxed) {
            self.unjudged.give_back(&live.account.unjudged);
        }
    }

    fn part(&self, number: u64) -> MutexGuard<'_, Part> {
        let place = usize::try_from(number).unwrap_or_default() % PARTS;
        #[expect(clippy::indexing_slicing, reason = "the place is below the number of parts")]
        self.parts[place].lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Every live session in the order of opening; copied out, so that accepting goes on while
    /// 100,000 sessions are judged.
    fn live(&self) -> Vec<Arc<Live>> {
        self.live_where(|_| true)
    }

    fn live_where(&self, is_wanted: impl Fn(&Live) -> bool) -> Vec<Arc<Live>> {
        let mut live: Vec<(u64, Arc<Live>)> = Vec::new();
        for part in &self.parts {
            let part = part.lock().unwrap_or_else(PoisonError::into_inner);
            let wanted = part.iter().filter(|(_, live)| is_wanted(live));
            live.extend(wanted.map(|(number, live)| (*number, Arc::clone(live))));
        }
        live.sort_unstable_by_key(|(number, _)| *number);
        live.into_iter().map(|(_, live)| live).collect()
    }

    /// Asks sessions between two requests to end; and where no other process takes this
    /// one's place, those that may have ended unseen.
    pub(super) fn drain(&self, is_replaced: bool) {
        self.draining.cancel();
        if !is_replaced {
            self.stopping.cancel();
        }
    }

    /// Ends every session.
    pub(super) fn close_all(&self) {
        for live in self.live() {
            live.end(Fate::Closed);
        }
    }
}

impl Shared {
    /// # Errors
    ///
    /// How many are taken.
    fn admits(&self, own: usize, limit: usize) -> Result<(), usize> {
        let total = self.total.load(Ordering::Relaxed);
        // Whoever asks for the first place will be a holder too.
        let holders = self.holders.load(Ordering::Relaxed) + usize::from(own == 0);
        if share::admits(own, total, holders, limit) { Ok(()) } else { Err(total) }
    }

    fn take(&self, own: &AtomicUsize) {
        self.total.fetch_add(1, Ordering::Relaxed);
        if own.fetch_add(1, Ordering::AcqRel) == 0 {
            self.holders.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn give_back(&self, own: &AtomicUsize) {
        self.total.fetch_sub(1, Ordering::Relaxed);
        if own.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.holders.fetch_sub(1, Ordering::Relaxed);
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

impl Fate {
    const fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Revoked => 1,
            Self::Exhausted => 2,
            Self::Closed => 3,
        }
    }

    /// How a session of this fate ends.
    fn outcome(number: u8) -> Option<Outcome> {
        const REVOKED: u8 = Fate::Revoked.number();
        const EXHAUSTED: u8 = Fate::Exhausted.number();
        const CLOSED: u8 = Fate::Closed.number();
        match number {
            REVOKED => Some(Outcome::Policy(PolicyEnd::Revoked)),
            EXHAUSTED => Some(Outcome::Policy(PolicyEnd::Exhausted)),
            CLOSED => Some(Outcome::Us(OurEnd::Stopped)),
            _ => None,
        }
    }
}

impl Live {
    fn named(&self) -> Option<Named> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the session for this cause, unless it has to end for another. Says whether that is
    /// news.
    fn end(&self, fate: Fate) -> bool {
        let (none, order) = (Fate::None.number(), Ordering::AcqRel);
        let is_news =
            self.fate.compare_exchange(none, fate.number(), order, Ordering::Relaxed).is_ok();
        self.waker.wake();
        is_news
    }
}

impl Session {
    /// The session's number: the next one each, from a first one by chance, so that it is not given
    /// twice by processes that follow each other.
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

    /// Counts bytes that were moved.
    pub(super) fn moved(&self, judge: &dyn dns::Judge, direction: Direction, bytes: usize) -> Flow {
        self.sessions.moved(&self.live, judge, direction, bytes)
    }

    /// Says what the session was allowed, and by which generation of the policy.
    pub(super) fn name(&self, host: &HostName, generation: u64) {
        *self.live.named.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Named { host: host.clone(), generation });
        self.sessions.is_judged(&self.live);
    }

    /// Whether what the session was allowed is another host.
    pub(super) fn is_for_other_than(&self, host: &HostName) -> bool {
        let named = self.live.named.lock().unwrap_or_else(PoisonError::into_inner);
        named.as_ref().is_some_and(|named| named.host != *host)
    }

    /// Says that nothing allowed is in progress.
    pub(super) fn unname(&self) {
        *self.live.named.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Waits until the session has to end, and says why. For one task only.
    pub(super) async fn cut(&self) -> Outcome {
        std::future::poll_fn(|context| self.poll_cut(context)).await
    }

    fn poll_cut(&self, context: &Context<'_>) -> Poll<Outcome> {
        self.live.waker.register(context.waker());
        let fate = Fate::outcome(self.live.fate.load(Ordering::Acquire));
        fate.map_or(Poll::Pending, Poll::Ready)
    }

    /// Waits until the gateway is about to stop, or was replaced.
    pub(super) async fn draining(&self) {
        self.sessions.draining.cancelled().await;
    }

    /// Waits until the gateway is about to stop, and nobody takes its place.
    pub(super) async fn stopping(&self) {
        self.sessions.stopping.cancelled().await;
    }

    /// Closes the session's books.
    pub(super) fn end(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Self { sessions, live, number, outcome } = self;
        // Whoever sees the session gone sees how it ended.
        sessions.metrics.closed(live.protocol, *outcome);
        sessions.is_judged(live);
        sessions.part(*number).remove(number);
        sessions.open.give_back(&live.account.open);
        sessions.quotas.close(subscriber_key(live.subscriber), &live.account);
    }
}

/// Short enough to be read aloud, as hexadecimal digits.
fn first_number() -> u64 {
    let chance = getrandom::u64().unwrap_or_default();
    chance >> 24
}

/// A subscriber is one IPv4 address, or one IPv6 /64 (3GPP TS 23.401 section 5.3.1.2.2).
pub(crate) fn subscriber_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
    }
}

/// Locks over the live sessions.
const PARTS: usize = 64;

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

    fn sessions(limits: Limits) -> Arc<Sessions> {
        let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
        Arc::new(Sessions::new(limits, metrics))
    }

    fn admit(
        sessions: &Arc<Sessions>,
        last: u8,
        class_limits: policy::Limits,
    ) -> Result<Session, SessionLimit> {
        let subscriber = IpAddr::from([192, 0, 2, last]);
        let now = Timestamp::UNIX_EPOCH;
        sessions.admit(subscriber, Protocol::Https, 443, None, class_limits, now)
    }

    #[test]
    fn limits_trip_and_give_back() {
        let limits = Limits { sessions: 3, sessions_per_subscriber: 2, ..Limits::default() };
        let sessions = sessions(limits);
        let admit = |last: u8, limit| {
            admit(&sessions, last, policy::Limits { sessions: limit, ..policy::Limits::default() })
        };
        let first = admit(1, None).unwrap();
        let _second = admit(1, None).unwrap();
        assert_eq!(admit(1, None).err(), Some(SessionLimit::Subscriber { limit: 2 }));
        assert_eq!(admit(2, Some(0)).err(), Some(SessionLimit::Subscriber { limit: 0 }));
        let _third = admit(2, None).unwrap();
        assert_eq!(admit(3, None).err(), Some(SessionLimit::Total { open: 3, limit: 3 }));
        drop(first);
        let _fourth = admit(1, Some(7)).unwrap();
        assert_eq!(sessions.count(), 3);
        assert_eq!(sessions.live().len(), 3);
        assert_eq!(sessions.open.holders.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn pace_of_a_class_or_of_the_node_holds() {
        let sessions = sessions(Limits { sessions_per_second: 2, ..Limits::default() });
        let none = policy::Limits::default();
        let own = policy::Limits { sessions_per_second: Some(3), ..none };
        for (last, class_limits, pace) in [(1, none, 2), (2, own, 3)] {
            for _ in 0..pace {
                drop(admit(&sessions, last, class_limits).unwrap());
            }
            let refused = admit(&sessions, last, class_limits).err();
            let expected = SessionLimit::Quota(QuotaLimit::Pace { limit: pace });
            assert_eq!(refused, Some(expected));
        }
    }

    #[test]
    fn hellos_that_do_not_come_leave_room_for_other_subscribers() {
        let sessions = sessions(Limits { hellos: 16, ..Limits::default() });
        let none = policy::Limits::default();
        let slow: Vec<_> = std::iter::from_fn(|| admit(&sessions, 1, none).ok()).collect();
        assert_eq!(slow.len(), 16, "alone, it may have all");
        drop(slow);
        let _light = admit(&sessions, 2, none).unwrap();
        let slow: Vec<_> = std::iter::from_fn(|| admit(&sessions, 1, none).ok()).collect();
        assert_eq!(slow.len(), 13, "up to the reserve");
        let refused = admit(&sessions, 1, none).err();
        assert_eq!(refused, Some(SessionLimit::Hellos { open: 14, limit: 16 }));
        let second = admit(&sessions, 2, none).unwrap();
        // With its verdict a session gives its place to the next hello.
        let host = HostName::parse("listed.example").unwrap();
        second.name(&host, 1);
        for session in &slow {
            session.name(&host, 1);
        }
        assert_eq!(sessions.unjudged.total.load(Ordering::Relaxed), 1);
        admit(&sessions, 1, none).unwrap();
        drop((slow, second));
        assert_eq!(sessions.unjudged.total.load(Ordering::Relaxed), 1);
        assert_eq!(sessions.unjudged.holders.load(Ordering::Relaxed), 1);
    }
}
