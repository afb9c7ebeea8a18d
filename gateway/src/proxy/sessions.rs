//! The live sessions: how many there may be, and who is cut off when a policy is published.
//!
//! A session is counted from accept to close. One whose host is known is judged again by
//! [`Sessions::rejudge`]; one that is not yet named meets the new policy when it names itself.

mod limits;
mod session;
mod spending;
mod watch;

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
};

use futures_util::task::AtomicWaker;
use jiff::Timestamp;
use policy::{Decision, HostName, Reason, Snapshot, Subject, Verdict};
use tokio_util::sync::CancellationToken;

pub(crate) use limits::Limits;
pub(crate) use session::Session;

use super::{
    Protocol,
    metrics::Metrics,
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
mod tests;
