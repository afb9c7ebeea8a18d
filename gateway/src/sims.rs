//! Who is behind an address, and whether that SIM has a plan: the node's local table.
//!
//! A decision reads memory only ([`Sims::subscriber`]). Whatever changes it, accounting, the admin
//! API, another node, goes through the one [`Ledger`] behind one lock; readers and listeners learn
//! of it in the same order. Losing anything (a store, a feed, a message) errs towards the garden.

mod blocks;
mod claim;
mod feed;
mod identity;
mod journal;
mod keeper;
mod ledger;
mod mapping;
mod names;
mod prefix;
mod record;
mod registry;
mod rows;
mod seats;
mod split;
pub(crate) mod store;
mod table;
mod transfer;
mod view;

use std::{
    net::IpAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ipnet::IpNet;
use jiff::Timestamp;
use policy::{SimState, Subscriber};

pub(crate) use self::{
    claim::Seconds,
    feed::{Change, Feed, News},
    identity::{Identities, InvalidSimId, SimId},
    keeper::{Keeper, KeeperError, KeeperMetrics},
    ledger::{Bounds, StateChange},
    prefix::{InvalidPrefix, Prefix},
    record::{Kind, Place, Record, Refusal},
    registry::{Full, Source},
    transfer::Transfer,
    view::{Binding, SimView},
};
use self::{
    journal::Journal,
    ledger::Ledger,
    rows::{Batch, Row},
    seats::Seats,
};

/// The local table, shared by everything that asks or tells who is behind an address.
#[derive(Debug)]
pub(crate) struct Sims {
    ledger: Mutex<Ledger>,
    seats: Seats,
    feed: feed::Sender,
    /// The routing domain of the traffic that passes this node.
    domain: u16,
    domain_name: Box<str>,
    /// Bindings are too old to be believed: everybody is unknown.
    stale: AtomicBool,
    journal: Journal,
}

impl Sims {
    /// An empty table for traffic of the routing domain `domain`.
    pub(crate) fn new(bounds: Bounds, domain: &str) -> Self {
        let mut ledger = Ledger::new(bounds);
        // The first name of an empty list always has a place.
        let place = ledger.domain(domain).unwrap_or_default();
        Self {
            ledger: Mutex::new(ledger),
            seats: Seats::new(),
            feed: feed::Sender::new(),
            domain: place,
            domain_name: domain.into(),
            stale: AtomicBool::new(false),
            journal: Journal::new(),
        }
    }

    /// Who is behind `address`. Without a binding, only the address is known.
    pub(crate) fn subscriber(&self, address: IpAddr) -> Subscriber {
        if self.stale.load(Ordering::Acquire) {
            return Subscriber::at(address);
        }
        self.seats.subscriber(self.domain, address)
    }

    /// Changes from here on, in order.
    pub(crate) fn watch(&self) -> Feed {
        self.feed.feed()
    }

    /// Every binding of this node's routing domain. To follow the table, [`Sims::watch`] first.
    pub(crate) fn each(&self, visit: impl FnMut(IpNet, Subscriber)) {
        if !self.stale.load(Ordering::Acquire) {
            self.seats.each(self.domain, visit);
        }
    }

    /// The binding that `address` falls under.
    pub(crate) fn binding(&self, address: IpAddr, now: Timestamp) -> Option<Binding> {
        self.ledger().binding(self.domain, Prefix::of(address), seconds(now))
    }

    /// One SIM, with its addresses.
    pub(crate) fn sim(&self, id: SimId) -> Option<SimView> {
        self.ledger().sim(id)
    }

    /// Whoever is bound to exactly `network`.
    pub(crate) fn at(&self, network: IpNet) -> Option<Subscriber> {
        let prefix = Prefix::new(network).ok()?;
        let place = Place { domain: self.domain, prefix };
        if self.stale.load(Ordering::Acquire) { None } else { self.seats.at(place) }
    }

    /// SIMs from the `after`th on, at most `limit`, of one state or of all; and where to go on.
    pub(crate) fn list(
        &self,
        after: usize,
        limit: usize,
        state: Option<SimState>,
    ) -> (Vec<SimView>, Option<usize>) {
        self.ledger().list(after, limit, state)
    }

    /// Bindings by the state of their SIM, for metrics.
    pub(crate) fn totals(&self) -> [(&'static str, i64); 5] {
        self.seats.totals()
    }

    /// Sets the state of a SIM, bound or not; readers see it before this returns.
    ///
    /// # Errors
    ///
    /// It would be one SIM too many.
    pub(crate) fn set_state(
        &self,
        id: SimId,
        state: SimState,
        source: Source,
        now: Timestamp,
    ) -> Result<StateChange, Full> {
        self.change(source, now, |ledger| ledger.set_state(id, state, source, now.as_millisecond()))
    }

    /// Takes one message about a session.
    ///
    /// # Errors
    ///
    /// There is no room; nothing changed.
    pub(crate) fn record(
        &self,
        record: &Record<'_>,
        source: Source,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        self.change(source, now, |ledger| ledger.record(record, seconds(now)))
    }

    /// Takes the news that a NAS restarted: its bindings of before `at` are no more.
    ///
    /// # Errors
    ///
    /// The NAS is new and there is no room for its name.
    pub(crate) fn reset(
        &self,
        nas: &str,
        at: Seconds,
        source: Source,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        self.change(source, now, |ledger| ledger.reset(nas, at, seconds(now)))
    }

    /// Puts a SIM behind a place of this node's domain, by order of somebody who knows.
    ///
    /// `lifetime` in seconds; 0: until it is taken away.
    ///
    /// # Errors
    ///
    /// There is no room; nothing changed.
    pub(crate) fn bind(
        &self,
        prefix: Prefix,
        identities: Identities,
        lifetime: u32,
        source: Source,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let record = Record {
            kind: Kind::Start,
            nas: ORDERED,
            session: 0,
            domain: &self.domain_name,
            prefixes: [prefix].into_iter().collect(),
            identities,
            apn: None,
            at: seconds(now),
            lifetime,
        };
        self.record(&record, source, now)
    }

    /// Takes whoever is behind a place of this node's domain away; returns whether somebody was.
    pub(crate) fn unbind(&self, prefix: Prefix, source: Source, now: Timestamp) -> bool {
        let place = Place { domain: self.domain, prefix };
        self.change(source, now, |ledger| ledger.vacate(place, seconds(now)))
    }

    /// Takes identities as those of one SIM.
    ///
    /// # Errors
    ///
    /// It would be one SIM too many.
    pub(crate) fn learn(
        &self,
        identities: Identities,
        source: Source,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        self.change(source, now, |ledger| ledger.map(identities, registry::ORDERED))
    }

    /// Takes a whole mapping file in place of the one before; returns how many SIMs of it found no
    /// room.
    pub(crate) fn load(&self, mapping: &[Identities], now: Timestamp) -> usize {
        self.change(Source::Mapping, now, |ledger| ledger.load(mapping))
    }

    /// Keeps in the store what the grants' own part wants kept of a SIM, or drops it.
    ///
    /// # Errors
    ///
    /// There are too many.
    pub(crate) fn keep_grant(
        &self,
        id: SimId,
        content: Option<Box<[u8]>>,
        now: Timestamp,
    ) -> Result<(), Full> {
        self.change(Source::Grant, now, |ledger| ledger.keep_grant(id, content))
    }

    /// What was kept of grants, by [`Sims::keep_grant`] here or before the last start.
    pub(crate) fn grants(&self) -> Vec<(SimId, Box<[u8]>)> {
        self.ledger().grants.iter().map(|(id, content)| (*id, content.clone())).collect()
    }

    /// Addresses with at least one claim.
    fn len(&self) -> usize {
        self.ledger().len()
    }

    /// SIMs that are known.
    fn known(&self) -> usize {
        self.ledger().registry().len()
    }

    /// Everything that changed so far, to be waited for with [`Sims::stored`].
    pub(crate) fn mark(&self) -> u64 {
        self.journal.mark()
    }

    /// Waits until all up to `mark` is stored. Safe to drop while it waits.
    pub(crate) async fn stored(&self, mark: u64) {
        self.journal.stored(mark).await;
    }

    /// Waits while another process has what this one knew. Safe to drop while it waits.
    pub(crate) async fn released(&self) {
        self.journal.released().await;
    }

    /// Takes what a store or another node knows; returns how many rows could not be read.
    fn merge<'r>(&self, rows: impl IntoIterator<Item = &'r Row>, now: Timestamp) -> usize {
        self.change(Source::Store, now, |ledger| {
            let merged = rows.into_iter().map(|row| ledger.merge(row, seconds(now)));
            merged.filter(|merged| merged.is_err()).count()
        })
    }

    /// Lets the store learn everything again.
    fn soil_all(&self) {
        self.ledger().soil_all();
        self.journal.note();
    }

    /// Forgets what a store would have to learn: there is none.
    fn clean(&self) {
        drop(self.ledger().take_dirty());
    }

    /// What the store must learn, as it is.
    fn batch(&self) -> Batch {
        let mut ledger = self.ledger();
        let dirty = ledger.take_dirty();
        Batch { rows: ledger.rows(dirty), mark: self.journal.mark() }
    }

    /// Looks at the next `count` bindings and takes away those that lapsed.
    pub(crate) fn age(&self, count: usize, now: Timestamp) {
        self.change(Source::Ageing, now, |ledger| ledger.age(count, seconds(now)));
    }

    /// Says whether bindings are too old to be believed. While they are, everybody is unknown.
    pub(crate) fn set_stale(&self, stale: bool) {
        if self.stale.swap(stale, Ordering::AcqRel) != stale {
            self.feed.send(News::Everything);
        }
    }

    /// Changes the ledger, then what readers see, then tells listeners: all in one order.
    fn change<T>(
        &self,
        source: Source,
        now: Timestamp,
        change: impl FnOnce(&mut Ledger) -> T,
    ) -> T {
        let mut ledger = self.ledger();
        let outcome = change(&mut ledger);
        self.journal.note();
        for turn in ledger.turns() {
            let network = turn.place.prefix.network();
            let heard = self.feed.is_heard() && turn.place.domain == self.domain;
            let seen = || self.seats.subscriber(self.domain, network.addr());
            let before = heard.then(seen);
            self.seats.set(turn.place, turn.facts.as_ref());
            let Some(before) = before else { continue };
            let after = seen();
            if before != after {
                let change = Change { network, before, after, source, at: now };
                self.feed.send(News::Change(change.into()));
            }
        }
        outcome
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The seconds of a moment, within what they can count.
pub(crate) fn seconds(at: Timestamp) -> Seconds {
    Seconds(u32::try_from(at.as_second().max(1)).unwrap_or(u32::MAX))
}

/// How long a change may take to be stored before its sender had better send it again.
pub(crate) const STORE_TIME: Duration = Duration::from_secs(5);
/// The routing domain of traffic and NAS that name none.
pub(crate) const HOME: &str = "default";
/// What stands for a NAS where a person or a system gave the order.
const ORDERED: &str = "order";
