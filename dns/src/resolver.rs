//! Listed names to addresses: lab entries, cache, upstreams, screening.
//!
//! A question is put to the upstreams once, however many wait for its answer. Where there is none
//! in time, what was known of the name before is told instead, if that is not too long ago; every
//! answer is decided anew, so that this helps listed names only.

mod budget;
mod flights;
mod memory;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ipnet::{IpNet, Ipv6Net};
use policy::{HostName, Policy, Rule, Snapshot};
use tokio::time::{Instant, timeout};

use crate::{
    address::Guard,
    cache::{Cache, MAX_HOSTS},
    limits::Limits,
    metrics::{Metrics, Origin},
    nat64::Nat64,
    screen::{End, Family, Finding, Screened, screen},
    upstream::{InvalidUpstream, Trust, Upstream, UpstreamError, Upstreams},
};

use budget::Budgets;
use flights::{Flight, Flights};
use memory::{Key, Memory};

/// The one way from a listed name to its addresses, for answers and for the proxy alike.
#[derive(Debug)]
pub struct Resolver {
    upstreams: Arc<Upstreams>,
    guard: Guard,
    store: Arc<Store>,
    flights: Flights<Key, Ended>,
    budgets: Budgets,
    metrics: Arc<Metrics>,
}

/// What is known without asking; flights add to it when nobody waits for them any more.
#[derive(Debug)]
struct Store {
    cache: Mutex<Cache>,
    memory: Mutex<Memory>,
}

/// How a search among the upstreams ended.
type Ended = Result<Arc<Finding>, UpstreamError>;

/// Why a listed name has no address to dial.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The upstream says that there is none, in either family.
    #[error("the name has no address")]
    NoAddress,
    /// Every address is one that must not be dialled.
    #[error("the name leads only to addresses that must not be dialled")]
    AddressesRefused,
    /// The subscriber had as many names below the wildcard looked up as it may.
    #[error("the subscriber had too many names below one wildcard looked up")]
    TooManyNames,
    /// The upstreams did not say.
    #[error("the name could not be resolved")]
    Failed(#[source] UpstreamError),
}

/// A finding, how old it is, and where it was.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) finding: Arc<Finding>,
    pub(crate) age: Duration,
    pub(crate) origin: Origin,
}

/// A finding, and what of it may be told.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) found: Found,
    pub(crate) screened: Screened,
}

impl Resolver {
    /// A resolver over `upstreams`, asked in this order; encrypted ones are held to `trust`. Must
    /// be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn new(
        upstreams: &[Upstream],
        trust: &Trust,
        metrics: Arc<Metrics>,
    ) -> Result<Self, InvalidUpstream> {
        let upstreams = Arc::new(Upstreams::new(upstreams, trust, Arc::clone(&metrics))?);
        let store =
            Store { cache: Mutex::new(Cache::new(MAX_HOSTS)), memory: Mutex::new(Memory::new()) };
        let (store, flights) = (Arc::new(store), Flights::new());
        let budgets = Budgets::new(Limits::default().wildcard_names_per_minute);
        Ok(Self { upstreams, guard: Guard::default(), store, flights, budgets, metrics })
    }

    /// The same, with these limits on what one subscriber may have looked up.
    #[must_use]
    pub fn within(self, limits: &Limits) -> Self {
        Self { budgets: Budgets::new(limits.wildcard_names_per_minute), ..self }
    }

    /// The same for an operator with a NAT64: IPv4 hosts get IPv6 addresses behind it (DNS64, RFC
    /// 6147), and what is behind it is screened as they are.
    #[must_use]
    pub fn behind(self, nat64: Option<Nat64>) -> Self {
        Self { guard: Guard::new(nat64), ..self }
    }

    /// The addresses of `host`, to dial: both families, IPv6 and IPv4 in turn (RFC 8305 section
    /// 4), screened as answers are. `rule` is the entry that listed it; its networks and those of
    /// a lab policy are dialled although they are refused otherwise. What is not known yet is taken
    /// from the budget of the subscriber at `asker`.
    ///
    /// If one family fails and the other has addresses, those are given.
    ///
    /// # Errors
    ///
    /// There is no address, none may be dialled, the subscriber asked for too many, or the upstreams
    /// failed.
    pub async fn addresses(
        &self,
        snapshot: &Snapshot,
        asker: IpAddr,
        host: &HostName,
        rule: Option<&Rule>,
    ) -> Result<Vec<IpAddr>, ResolveError> {
        let policy = snapshot.policy();
        let known = [Family::V6, Family::V4].map(|family| {
            let slot = (family, false);
            (slot, self.known(snapshot, host, slot))
        });
        // One family says that the name was looked up; not all that is said of the other is kept.
        let is_known = known.iter().any(|(_, found)| found.is_some());
        if !is_known && !self.may_search(asker, host, rule, Instant::now()) {
            return Err(ResolveError::TooManyNames);
        }
        let [v6, v4] = known.map(async |(slot, found)| match found {
            Some(found) => Ok(found),
            // On the heap, because it needs far more room than what is known already.
            None => Box::pin(self.ask(host, slot)).await,
        });
        let (v6, v4) = tokio::join!(v6, v4);
        let mut error = ResolveError::NoAddress;
        let mut weigh = |found: Result<Found, UpstreamError>| match found {
            Ok(found) => match self.weigh(&found, policy, rule) {
                Screened::Addresses { addresses, .. } => addresses,
                Screened::Refused => {
                    error = ResolveError::AddressesRefused;
                    Vec::new()
                }
                Screened::NoData { .. } | Screened::NoName { .. } => Vec::new(),
            },
            Err(failure) => {
                if error == ResolveError::NoAddress {
                    error = ResolveError::Failed(failure);
                }
                Vec::new()
            }
        };
        let addresses = in_turn(weigh(v6), weigh(v4));
        if addresses.is_empty() { Err(error) } else { Ok(addresses) }
    }

    /// The guard that screens every address.
    #[must_use]
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Where the upstreams are.
    pub(crate) fn upstreams(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.upstreams.addresses()
    }

    /// Takes a search for `host`, which `rule` lists, from the budget of the subscriber at `asker`;
    /// whether that had room for it. A name listed as it stands always has.
    pub(crate) fn may_search(
        &self,
        asker: IpAddr,
        host: &HostName,
        rule: Option<&Rule>,
        now: Instant,
    ) -> bool {
        self.budgets.may_search(asker, host, rule, now)
    }

    /// What is known about `host` without asking.
    pub(crate) fn known(
        &self,
        snapshot: &Snapshot,
        host: &HostName,
        slot: (Family, bool),
    ) -> Option<Found> {
        let (family, _) = slot;
        if let Some(addresses) = snapshot.policy().lab().resolve.get(host) {
            let finding = Arc::new(from_lab(addresses, family));
            return Some(Found { finding, age: Duration::ZERO, origin: Origin::Local });
        }
        let cached = self.store.cached(host, slot, Instant::now());
        self.metrics.cache(cached.is_some());
        cached.map(|(finding, age)| Found { finding, age, origin: Origin::Cache })
    }

    /// Asks the upstreams about `host`, and keeps what they say for its lifetime.
    ///
    /// A name that could not be resolved a moment ago is not asked about again yet. Without an
    /// answer, or before one that takes too long, what was known before is told.
    pub(crate) async fn ask(
        &self,
        host: &HostName,
        slot: (Family, bool),
    ) -> Result<Found, UpstreamError> {
        let key = (host.clone(), slot);
        let (failure, past) = self.store.remembered(&key, Instant::now());
        let ended = match (failure, &past) {
            (Some(error), _) => Err(error),
            (None, None) => self.flight(&key).land().await.unwrap_or(Err(FALLEN)),
            (None, Some(_)) => match timeout(PATIENCE, self.flight(&key).land()).await {
                Ok(landed) => landed.unwrap_or(Err(FALLEN)),
                Err(_elapsed) => Err(UpstreamError::Timeout),
            },
        };
        let age = Duration::ZERO;
        match (ended, past) {
            (Ok(finding), _) => Ok(Found { finding, age, origin: Origin::Upstream }),
            (Err(_), Some(finding)) => Ok(Found { finding, age, origin: Origin::Stale }),
            (Err(error), None) => Err(error),
        }
    }

    /// The search for `key`, begun if it is not under way.
    fn flight(&self, key: &Key) -> Flight<Ended> {
        self.flights.join(key.clone(), || {
            let (upstreams, store) = (Arc::clone(&self.upstreams), Arc::clone(&self.store));
            let key = key.clone();
            async move {
                let (host, (family, checking_disabled)) = &key;
                let ended = upstreams.ask(host, *family, *checking_disabled).await.map(Arc::new);
                if let Ok(finding) = &ended {
                    store.keep(&key, finding, Instant::now());
                }
                store.note(key, &ended, Instant::now());
                ended
            }
        })
    }

    /// Screens what was found under the policy that holds for the answer.
    pub(crate) fn weigh(&self, found: &Found, policy: &Policy, rule: Option<&Rule>) -> Screened {
        let of_rule: &[IpNet] = rule.map_or(&[], Rule::networks);
        let lifted = of_rule.iter().chain(&policy.lab().networks);
        screen(&found.finding, found.age, policy.dns().max_ttl, &self.guard, lifted)
    }
}

#[cfg(test)]
impl Resolver {
    /// As if every finding had outlived itself.
    pub(crate) fn forget_findings(&self) {
        *self.store.cache.lock().unwrap() = Cache::new(MAX_HOSTS);
    }
}

impl Store {
    fn cached(
        &self,
        host: &HostName,
        slot: (Family, bool),
        now: Instant,
    ) -> Option<(Arc<Finding>, Duration)> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.get(host, slot, now)
    }

    fn keep(&self, key: &Key, finding: &Arc<Finding>, now: Instant) {
        let (host, slot) = key;
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.put(host, *slot, Arc::clone(finding), now);
    }

    fn remembered(&self, key: &Key, now: Instant) -> (Option<UpstreamError>, Option<Arc<Finding>>) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        (memory.failure(key, now), memory.past(key, now))
    }

    fn note(&self, key: Key, ended: &Ended, now: Instant) {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).note(key, ended, now);
    }
}

impl Found {
    /// What was found, of a name whose addresses are no hosts.
    pub(crate) fn unscreened(&self, policy: &Policy) -> Screened {
        let everything = [IpNet::from(Ipv6Net::default())];
        screen(&self.finding, self.age, policy.dns().max_ttl, &Guard::default(), everything.iter())
    }
}

fn from_lab(addresses: &[IpAddr], family: Family) -> Finding {
    let addresses: Vec<IpAddr> =
        addresses.iter().copied().filter(|address| family.holds(address)).collect();
    let end = if addresses.is_empty() { End::NoData(None) } else { End::Addresses(addresses) };
    Finding { aliases: Vec::new(), end, ttl: u32::MAX }
}

fn in_turn(first: Vec<IpAddr>, second: Vec<IpAddr>) -> Vec<IpAddr> {
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut mixed = Vec::with_capacity(first.len() + second.len());
    while first.len() + second.len() > 0 {
        mixed.extend(first.next());
        mixed.extend(second.next());
    }
    mixed
}

impl ResolveError {
    /// The error's name as a metric label.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::NoAddress => "no-address",
            Self::AddressesRefused => "addresses-refused",
            Self::TooManyNames => "too-many-names",
            Self::Failed(error) => error.label(),
        }
    }
}

/// How long an asker waits for the upstreams if there is something older to tell (RFC 8767 section
/// 5).
const PATIENCE: Duration = Duration::from_millis(1_800);
/// What is said of a search that broke off by a fault of ours.
const FALLEN: UpstreamError = UpstreamError::Unreadable;
