//! Listed names to addresses: lab entries, cache, upstreams, screening.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ipnet::IpNet;
use policy::{HostName, Policy, Rule, Snapshot};
use tokio::time::Instant;

use crate::{
    cache::{Cache, MAX_HOSTS},
    metrics::{Metrics, Origin},
    screen::{End, Family, Finding, Screened, screen},
    upstream::{InvalidUpstream, Upstream, UpstreamError, Upstreams},
};

/// The one way from a listed name to its addresses, for answers and for the proxy alike.
#[derive(Debug)]
pub struct Resolver {
    upstreams: Upstreams,
    cache: Mutex<Cache>,
    metrics: Arc<Metrics>,
}

/// Why a listed name has no address to dial.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The upstream says that there is none, in either family.
    #[error("the name has no address")]
    NoAddress,
    /// Every address is one that must not be dialled.
    #[error("the name leads only to addresses that must not be dialled")]
    AddressesRefused,
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

impl Resolver {
    /// A resolver over `upstreams`, asked in this order. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// There is none, or TLS towards them cannot be set up.
    pub fn new(upstreams: &[Upstream], metrics: Arc<Metrics>) -> Result<Self, InvalidUpstream> {
        let upstreams = Upstreams::new(upstreams, Arc::clone(&metrics))?;
        Ok(Self { upstreams, cache: Mutex::new(Cache::new(MAX_HOSTS)), metrics })
    }

    /// The addresses of `host`, to dial: both families, IPv6 and IPv4 in turn (RFC 8305 section
    /// 4), screened as answers are. `rule` is the entry that listed it; its networks and those of
    /// a lab policy are dialled although they are refused otherwise.
    ///
    /// If one family fails and the other has addresses, those are given.
    ///
    /// # Errors
    ///
    /// There is no address, none may be dialled, or the upstreams failed.
    pub async fn addresses(
        &self,
        snapshot: &Snapshot,
        host: &HostName,
        rule: Option<&Rule>,
    ) -> Result<Vec<IpAddr>, ResolveError> {
        let policy = snapshot.policy();
        let (v6, v4) = tokio::join!(
            self.find(snapshot, host, (Family::V6, false)),
            self.find(snapshot, host, (Family::V4, false)),
        );
        let mut error = ResolveError::NoAddress;
        let mut weigh = |found: Result<Found, UpstreamError>| match found {
            Ok(found) => match weigh(&found, policy, rule) {
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

    /// Where the upstreams are.
    pub(crate) fn upstreams(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.upstreams.addresses()
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
        let cached = self.cache.lock().unwrap_or_else(PoisonError::into_inner).get(
            snapshot.generation(),
            host,
            slot,
            Instant::now(),
        );
        self.metrics.cache(cached.is_some());
        cached.map(|(finding, age)| Found { finding, age, origin: Origin::Cache })
    }

    /// Asks the upstreams about `host`, and keeps what they say for this policy's time.
    pub(crate) async fn ask(
        &self,
        snapshot: &Snapshot,
        host: &HostName,
        slot: (Family, bool),
    ) -> Result<Found, UpstreamError> {
        let (family, checking_disabled) = slot;
        let finding = Arc::new(self.upstreams.ask(host, family, checking_disabled).await?);
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).put(
            snapshot.generation(),
            host,
            slot,
            Arc::clone(&finding),
            Instant::now(),
        );
        Ok(Found { finding, age: Duration::ZERO, origin: Origin::Upstream })
    }

    async fn find(
        &self,
        snapshot: &Snapshot,
        host: &HostName,
        slot: (Family, bool),
    ) -> Result<Found, UpstreamError> {
        match self.known(snapshot, host, slot) {
            Some(found) => Ok(found),
            None => self.ask(snapshot, host, slot).await,
        }
    }
}

/// Screens what was found under the policy that holds for the answer.
pub(crate) fn weigh(found: &Found, policy: &Policy, rule: Option<&Rule>) -> Screened {
    let of_rule: &[IpNet] = rule.map_or(&[], Rule::networks);
    let lifted = of_rule.iter().chain(&policy.lab().networks);
    screen(&found.finding, found.age, policy.dns().max_ttl, lifted)
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
            Self::Failed(error) => error.label(),
        }
    }
}
