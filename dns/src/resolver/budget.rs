//! How many names below one wildcard a subscriber may have looked up.
//!
//! Whoever owns a name below a listed wildcard could carry data in the names that are asked for.
//! What is in the cache costs nothing; each name that an upstream has to be asked about does.

use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use policy::{HostName, PatternKind, Rule};
use tokio::time::Instant;

use crate::{
    rates::{Allowance, Rate, Rates},
    sources::source,
};

/// The budgets of all subscribers, spent by their questions and their sessions alike.
#[derive(Debug)]
pub(super) struct Budgets {
    /// By subscriber, and the rule by its hash.
    spent: Mutex<Rates<(IpAddr, u64)>>,
    seed: RandomState,
    names_per_minute: u32,
    began: Instant,
}

impl Budgets {
    pub(super) fn new(names_per_minute: u32) -> Self {
        Self {
            spent: Mutex::new(Rates::new(BUDGETS)),
            seed: RandomState::new(),
            names_per_minute,
            began: Instant::now(),
        }
    }

    /// See [`super::Resolver::may_search`].
    pub(super) fn may_search(
        &self,
        address: IpAddr,
        host: &HostName,
        rule: Option<&Rule>,
        now: Instant,
    ) -> bool {
        let is_wild = |rule: &&Rule| rule.pattern().kind() != PatternKind::Exact;
        let Some(rule) = rule.filter(is_wild) else { return true };
        let key = (source(address), self.seed.hash_one((rule.hostset(), rule.pattern().base())));
        let now = now.saturating_duration_since(self.began);
        let allowance = Allowance { count: self.names_per_minute, period: MINUTE };
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let (rate, _is_taken_over) = spent.take(key, weight(host), allowance, now);
        rate == Rate::Within
    }
}

/// What a name takes from the budget: one with much room for data more. Names of content networks
/// are long as well, so that length alone refuses nothing.
fn weight(host: &HostName) -> u32 {
    let has_long_label = host.labels().any(|label| label.len() > LONG_LABEL);
    if has_long_label || host.as_str().len() > LONG_NAME { LONG_WEIGHT } else { 1 }
}

const MINUTE: Duration = Duration::from_secs(60);
/// Subscribers and rules whose budget is watched at once.
const BUDGETS: usize = 16_384;
/// Octets of a label that is not long.
const LONG_LABEL: usize = 40;
/// Octets of a name that is not long.
const LONG_NAME: usize = 100;
/// Names that a long one counts as.
const LONG_WEIGHT: u32 = 4;

#[cfg(test)]
mod tests {
    use policy::HostName;

    use super::weight;

    #[test]
    fn case_74_counts_names_with_much_room_more() {
        let label = |length: usize| "a".repeat(length);
        let long = format!("{0}.{0}.{0}.wild.example", label(31));
        for (host, expected) in [
            (format!("{}.wild.example", label(40)), 1),
            (format!("{}.wild.example", label(41)), 4),
            (long, 4),
            ("edge-star-shv-01-fra3.wild.example".to_owned(), 1),
        ] {
            assert_eq!(weight(&HostName::parse(&host).unwrap()), expected, "{host}");
        }
    }
}
