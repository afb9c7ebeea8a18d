//! Grants: who may have one, and who has one. Pure: the time is an argument.
//!
//! Microsoft calls it a microbalance: a little open access for what no host list can foresee, such
//! as the bank's page of 3-D Secure. At most one at a time, and so many an hour and a day for each
//! SIM, by its longest-lasting name.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// The bounds of all grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GrantLimits {
    /// Grants begun within any 60 minutes.
    pub(crate) per_hour: usize,
    /// Grants begun within any 24 hours.
    pub(crate) per_day: usize,
    /// Longest time of one, in seconds.
    pub(crate) seconds: u32,
    /// Most bytes of one, both directions together.
    pub(crate) bytes: u64,
    /// SIMs that are remembered.
    pub(crate) sims: usize,
}

/// One grant that is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Grant {
    /// Its number: random, so that two nodes do not give the same.
    pub(crate) number: u64,
    /// When its time is over.
    pub(crate) ends: Timestamp,
    /// Bytes it was given.
    pub(crate) bytes: u64,
    /// Bytes it has used, as they were last read from the kernel.
    pub(crate) used: u64,
}

/// What is remembered of one SIM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct History {
    /// When grants began within the last day, the oldest first.
    pub(crate) begun: Vec<Timestamp>,
    /// The one in force.
    pub(crate) active: Option<Grant>,
}

/// Why a grant is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GrantRefused {
    #[error("a grant is in force until {ends}; at most one is at a time")]
    Active { ends: Timestamp },
    #[error("{limit} grants began within the last hour; at most {limit}, the next at {next}")]
    Hour { limit: usize, next: Timestamp },
    #[error("{limit} grants began within the last day; at most {limit}, the next at {next}")]
    Day { limit: usize, next: Timestamp },
    #[error("a grant lasts 1 to {limit} seconds, not {seconds}")]
    Seconds { limit: u32, seconds: u32 },
    #[error("a grant has 1 to {limit} bytes, not {bytes}")]
    Bytes { limit: u64, bytes: u64 },
    #[error("all {limit} places for SIMs with grants are taken")]
    Full { limit: usize },
    #[error("neither an ICCID nor an IMSI of the SIM is known")]
    Nameless,
    #[error("the system gives no random octets for a grant's number")]
    Random,
    #[error("the grant cannot be written down")]
    Unwritten,
}

/// Every grant, by the SIM's name.
#[derive(Debug)]
pub(crate) struct Ledger<K> {
    limits: GrantLimits,
    sims: HashMap<K, History>,
}

impl<K: std::hash::Hash + Eq + Copy> Ledger<K> {
    /// An empty ledger.
    pub(crate) fn new(limits: GrantLimits) -> Self {
        Self { limits, sims: HashMap::new() }
    }

    /// Begins a grant.
    ///
    /// # Errors
    ///
    /// Says which bound stands against it; nothing changed.
    pub(crate) fn begin(
        &mut self,
        sim: K,
        number: u64,
        seconds: u32,
        bytes: u64,
        now: Timestamp,
    ) -> Result<Grant, GrantRefused> {
        let limits = self.limits;
        if !(1..=limits.seconds).contains(&seconds) {
            return Err(GrantRefused::Seconds { limit: limits.seconds, seconds });
        }
        if !(1..=limits.bytes).contains(&bytes) {
            return Err(GrantRefused::Bytes { limit: limits.bytes, bytes });
        }
        self.forget_old(now);
        if !self.sims.contains_key(&sim) && self.sims.len() >= limits.sims {
            return Err(GrantRefused::Full { limit: limits.sims });
        }
        let history = self.sims.entry(sim).or_default();
        if let Some(grant) = history.active(now) {
            return Err(GrantRefused::Active { ends: grant.ends });
        }
        if let Some(next) = history.full(HOUR, limits.per_hour, now) {
            return Err(GrantRefused::Hour { limit: limits.per_hour, next });
        }
        if let Some(next) = history.full(DAY, limits.per_day, now) {
            return Err(GrantRefused::Day { limit: limits.per_day, next });
        }
        let ends = now.saturating_add(SignedDuration::from_secs(seconds.into())).unwrap_or(now);
        let grant = Grant { number, ends, bytes, used: 0 };
        history.begun.push(now);
        history.active = Some(grant.clone());
        Ok(grant)
    }

    /// Ends the grant of `sim`; what it used stays on its account.
    pub(crate) fn end(&mut self, sim: K) -> Option<Grant> {
        self.sims.get_mut(&sim)?.active.take()
    }

    /// The grant of `sim` that is in force at `now`.
    pub(crate) fn active(&self, sim: K, now: Timestamp) -> Option<&Grant> {
        self.sims.get(&sim)?.active(now)
    }

    /// Notes the bytes that grants have used, by their numbers, and ends what is over by time or
    /// bytes. Returns what ended.
    pub(crate) fn account(&mut self, used: &HashMap<u64, u64>, now: Timestamp) -> Vec<(K, Grant)> {
        let mut over = Vec::new();
        for (sim, history) in &mut self.sims {
            let Some(grant) = &mut history.active else { continue };
            // A kernel that was told anew counts on from what it was told.
            grant.used = used.get(&grant.number).copied().unwrap_or_default().max(grant.used);
            if grant.is_over(now) {
                over.extend(history.active.take().map(|grant| (*sim, grant)));
            }
        }
        over
    }

    /// Takes in what a store remembered of `sim`; what is known here and there holds.
    pub(crate) fn restore(&mut self, sim: K, stored: History) {
        let history = self.sims.entry(sim).or_default();
        history.begun.extend(stored.begun);
        history.begun.sort_unstable();
        history.begun.dedup();
        if history.active.is_none() {
            history.active = stored.active;
        }
    }

    /// What is remembered of `sim`.
    pub(crate) fn history(&self, sim: K) -> Option<&History> {
        self.sims.get(&sim)
    }

    /// What is remembered of every SIM.
    pub(crate) fn histories(&self) -> HashMap<K, History> {
        self.sims.clone()
    }

    /// Whether nothing is remembered.
    pub(crate) fn is_empty(&self) -> bool {
        self.sims.is_empty()
    }

    /// Whether no grant has to be watched.
    pub(crate) fn is_idle(&self) -> bool {
        self.sims.values().all(|history| history.active.is_none())
    }

    fn forget_old(&mut self, now: Timestamp) {
        self.sims.retain(|_, history| {
            history.begun.retain(|begun| now.duration_since(*begun) < DAY);
            history.active.is_some() || !history.begun.is_empty()
        });
    }
}

impl History {
    fn active(&self, now: Timestamp) -> Option<&Grant> {
        self.active.as_ref().filter(|grant| !grant.is_over(now))
    }

    /// When the next may begin, if `limit` have begun within the last `span`.
    fn full(&self, span: SignedDuration, limit: usize, now: Timestamp) -> Option<Timestamp> {
        let within: Vec<_> =
            self.begun.iter().filter(|begun| now.duration_since(**begun) < span).collect();
        let at = within.len().checked_sub(limit)?;
        // A limit of 0 lets none begin, ever.
        let oldest = within.get(at).copied().copied().unwrap_or(now);
        Some(oldest.saturating_add(span).unwrap_or(Timestamp::MAX))
    }
}

impl Grant {
    /// Whether its time or its bytes are used up.
    pub(crate) fn is_over(&self, now: Timestamp) -> bool {
        self.ends <= now || self.used >= self.bytes
    }
}

impl GrantRefused {
    /// Every name that [`GrantRefused::label`] gives.
    pub(crate) const LABELS: [&'static str; 9] = [
        "grant-active",
        "grant-hour",
        "grant-day",
        "grant-seconds",
        "grant-bytes",
        "grant-full",
        "grant-nameless",
        "grant-random",
        "grant-unwritten",
    ];

    /// The refusal's name in metrics and problems.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Active { .. } => "grant-active",
            Self::Hour { .. } => "grant-hour",
            Self::Day { .. } => "grant-day",
            Self::Seconds { .. } => "grant-seconds",
            Self::Bytes { .. } => "grant-bytes",
            Self::Full { .. } => "grant-full",
            Self::Nameless => "grant-nameless",
            Self::Random => "grant-random",
            Self::Unwritten => "grant-unwritten",
        }
    }
}

impl Default for GrantLimits {
    /// Microsoft's figures of 2017, where `gateway.toml` says nothing; five minutes and 5 MB is what
    /// it asks for at least, an hour what it recommends.
    fn default() -> Self {
        Self { per_hour: 6, per_day: 10, seconds: 3600, bytes: 100_000_000, sims: 1_000_000 }
    }
}

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const DAY: SignedDuration = SignedDuration::from_hours(24);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn ledger() -> Ledger<u8> {
        Ledger::new(GrantLimits::default())
    }

    #[test]
    fn the_seventh_of_an_hour_and_the_eleventh_of_a_day_are_refused() {
        let mut ledger = ledger();
        let mut begin = |second: i64| {
            let begun = ledger.begin(1, u64::try_from(second).unwrap(), 10, 5_000_000, at(second));
            ledger.end(1);
            begun
        };
        for second in 0..6 {
            begin(second * 60).unwrap();
        }
        assert_eq!(begin(3599), Err(GrantRefused::Hour { limit: 6, next: at(3600) }));
        for second in 0..4 {
            begin(3600 + second * 60).unwrap();
        }
        assert_eq!(begin(7200), Err(GrantRefused::Day { limit: 10, next: at(86_400) }));
        begin(86_400).unwrap();
        // Nobody else is kept from one.
        ledger.begin(2, 99, 10, 1, at(7200)).unwrap();
    }

    #[test]
    fn one_at_a_time_until_its_time_or_bytes_are_over() {
        let mut ledger = ledger();
        let grant = ledger.begin(1, 7, 300, 1000, at(0)).unwrap();
        assert_eq!(
            ledger.begin(1, 8, 300, 1000, at(1)),
            Err(GrantRefused::Active { ends: at(300) })
        );
        let used = |bytes| HashMap::from([(7, bytes)]);
        assert_eq!(ledger.account(&used(999), at(3)), []);
        assert_eq!(ledger.active(1, at(3)).map(|grant| grant.used), Some(999));
        assert_eq!(ledger.account(&used(1000), at(4)), [(1, Grant { used: 1000, ..grant })]);
        assert!(ledger.is_idle());
        ledger.begin(1, 9, 300, 1000, at(5)).unwrap();
        assert_eq!(ledger.active(1, at(304)).map(|grant| grant.number), Some(9));
        assert_eq!(ledger.active(1, at(305)), None);
        ledger.begin(1, 10, 300, 1000, at(305)).unwrap();
    }

    #[test]
    fn outside_its_bounds_nothing_begins() {
        let limits = GrantLimits { sims: 1, per_hour: 2, ..GrantLimits::default() };
        let mut ledger = Ledger::new(limits);
        for (seconds, bytes, label) in [
            (0, 1, "grant-seconds"),
            (3601, 1, "grant-seconds"),
            (1, 0, "grant-bytes"),
            (1, 100_000_001, "grant-bytes"),
        ] {
            assert_eq!(ledger.begin(1, 1, seconds, bytes, at(0)).unwrap_err().label(), label);
        }
        ledger.begin(1, 1, 3600, 100_000_000, at(0)).unwrap();
        assert_eq!(ledger.begin(2, 2, 1, 1, at(1)).unwrap_err().label(), "grant-full");
        // A day later the first is forgotten.
        ledger.end(1);
        ledger.begin(2, 2, 1, 1, at(86_400)).unwrap();
    }

    #[test]
    fn a_restart_neither_renews_nor_loses_a_grant() {
        let mut before = ledger();
        before.begin(1, 7, 300, 1000, at(0)).unwrap();
        before.account(&HashMap::from([(7, 400)]), at(1));
        let mut after = ledger();
        after.restore(1, before.history(1).unwrap().clone());
        assert_eq!(after.histories(), before.histories());
        assert_eq!(after.begin(1, 8, 300, 1, at(2)).unwrap_err().label(), "grant-active");
        // The kernel's count of the same quota goes on, and never back.
        after.account(&HashMap::from([(7, 300)]), at(2));
        assert_eq!(after.active(1, at(2)).map(|grant| grant.used), Some(400));
    }
}
