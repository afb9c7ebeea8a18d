//! Grants: a little open access, bounded by time and bytes, for what no host list can foresee.
//!
//! The ledger says who may have one; the kernel holds each to its bytes and its time.

mod journal;
mod ledger;
mod metrics;

use std::{
    collections::HashMap,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use policy::Subscriber;

use crate::{
    sims::{Identities, SimId},
    steering::Pass,
};

pub(crate) use journal::JournalError;
pub(crate) use ledger::{Grant, GrantLimits, GrantRefused};
pub(crate) use metrics::Metrics;

use self::{journal::Journal, ledger::Ledger};

/// Every grant of this node.
pub(crate) struct Grants {
    books: Mutex<Books>,
    metrics: Metrics,
}

struct Books {
    ledger: Ledger<SimId>,
    journal: Option<Journal>,
}

impl Grants {
    /// The grants that the journal remembers; without one, none outlives a restart.
    pub(crate) fn open(
        limits: GrantLimits,
        journal: Option<&Path>,
        metrics: Metrics,
    ) -> Result<Self, JournalError> {
        let mut ledger = Ledger::new(limits);
        let mut books = None;
        if let Some(path) = journal {
            let (journal, known) = Journal::open(path)?;
            known.into_iter().for_each(|(sim, history)| ledger.restore(sim, history));
            books = Some(journal);
        }
        Ok(Self { books: Mutex::new(Books { ledger, journal: books }), metrics })
    }

    /// Begins a grant for the SIM of these names.
    ///
    /// # Errors
    ///
    /// Says which bound stands against it; nothing changed.
    pub(crate) fn begin(
        &self,
        identities: Identities,
        seconds: u32,
        bytes: u64,
        now: Timestamp,
    ) -> Result<Grant, GrantRefused> {
        let begun = name(identities).ok_or(GrantRefused::Nameless).and_then(|sim| {
            let number = number().ok_or(GrantRefused::Random)?;
            let mut books = self.books();
            let grant = books.ledger.begin(sim, number, seconds, bytes, now)?;
            // Not written down, it would be given again after a restart.
            books.write(sim).map_err(|_| GrantRefused::Unwritten).inspect_err(|_| {
                books.ledger.end(sim);
            })?;
            Ok(grant)
        });
        match &begun {
            Ok(_) => self.metrics.begun(),
            Err(refused) => self.metrics.refused(refused),
        }
        begun
    }

    /// Ends the grant of the SIM of these names; `None`: it had none.
    pub(crate) fn end(&self, identities: Identities, now: Timestamp) -> Option<Grant> {
        let sim = name(identities)?;
        let mut books = self.books();
        let ended = books.ledger.end(sim).filter(|grant| !grant.is_over(now))?;
        books.write_or_warn(sim);
        self.metrics.ended(metrics::CANCELLED, ended.used);
        Some(ended)
    }

    /// The grant in force of the SIM of these names.
    pub(crate) fn active(&self, identities: Identities, now: Timestamp) -> Option<Grant> {
        self.books().ledger.active(name(identities)?, now).cloned()
    }

    /// What is left of the grant of a subscriber.
    pub(crate) fn pass(&self, subscriber: &Subscriber, now: Timestamp) -> Option<Pass> {
        let Books { ledger, .. } = &*self.books();
        if ledger.is_empty() {
            return None;
        }
        let (iccid, imsi) = (subscriber.iccid(), subscriber.imsi());
        let sim = name(Identities { iccid, imsi, msisdn: None })?;
        let Grant { number, ends, bytes, used } = *ledger.active(sim, now)?;
        let left = ends.duration_since(now).try_into().unwrap_or_default();
        Some(Pass { number, left, bytes, used })
    }

    /// Notes what grants have used; returns the SIMs whose grant is over.
    pub(crate) fn account(&self, used: &HashMap<u64, u64>, now: Timestamp) -> Vec<SimId> {
        let mut books = self.books();
        let over = books.ledger.account(used, now);
        for (sim, grant) in &over {
            books.write_or_warn(*sim);
            let by_bytes = grant.used >= grant.bytes;
            let why = if by_bytes { metrics::BY_BYTES } else { metrics::BY_TIME };
            self.metrics.ended(why, grant.used);
        }
        over.into_iter().map(|(sim, _)| sim).collect()
    }

    /// Whether none has to be watched.
    pub(crate) fn is_idle(&self) -> bool {
        self.books().ledger.is_idle()
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn write(&mut self, sim: SimId) -> std::io::Result<()> {
        let Self { ledger, journal } = self;
        match (journal, ledger.history(sim)) {
            (Some(journal), Some(history)) => journal.append(sim, history, || ledger.histories()),
            (Some(_) | None, _) => Ok(()),
        }
    }

    /// For an end: at worst, what is left of its time is given again after a restart.
    fn write_or_warn(&mut self, sim: SimId) {
        if let Err(error) = self.write(sim) {
            tracing::error!(%error, "the end of a grant cannot be written down");
        }
    }
}

/// What a grant is kept under: Microsoft counts by ICCID; without a mapping there is the IMSI.
fn name(Identities { iccid, imsi, msisdn: _ }: Identities) -> Option<SimId> {
    iccid.map(SimId::Iccid).or_else(|| imsi.map(SimId::Imsi))
}

/// A number that no other node gives.
fn number() -> Option<u64> {
    let mut octets = [0; 8];
    getrandom::fill(&mut octets).ok()?;
    Some(u64::from_be_bytes(octets))
}
