//! Live sessions judged again: when a policy is published, and when something is learnt about a
//! subscriber.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use ipnet::IpNet;
use policy::{OnDenial, Snapshot, Subject};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Fate, Live, Named, Sessions, subscriber_key};

/// Sessions that were denied while they were open, of classes that let them finish.
#[derive(Default)]
pub(super) struct Leaving(Mutex<Vec<(Instant, Weak<Live>)>>);

impl Sessions {
    /// Judges every live session again under `snapshot`. Those it denies are closed, or get the
    /// leave time to end by themselves where their class drains; the others are not touched. Says
    /// how many were denied.
    pub(crate) fn rejudge(&self, snapshot: &Snapshot, judge: &dyn dns::Judge) -> usize {
        self.judge_again(&self.live(), snapshot, judge)
    }

    /// Judges the live sessions of whoever is behind `networks` again, because their SIMs, classes
    /// or grants are others than before. Says how many were denied.
    pub(crate) fn rejudge_behind(&self, networks: &[IpNet], judge: &dyn dns::Judge) -> usize {
        let Some(snapshot) = judge.snapshot() else { return 0 };
        let own: HashSet<_> =
            networks.iter().map(|network| subscriber_key(network.network())).collect();
        // Delegated prefixes: several subscribers' worth of addresses.
        let wide: Vec<_> = networks
            .iter()
            .filter(|network| {
                subscriber_key(network.network()) != subscriber_key(network.broadcast())
            })
            .collect();
        let live = self.live_where(|live| {
            own.contains(&subscriber_key(live.subscriber))
                || wide.iter().any(|network| network.contains(&live.subscriber))
        });
        self.judge_again(&live, &snapshot, judge)
    }

    fn judge_again(
        &self,
        live: &[Arc<Live>],
        snapshot: &Snapshot,
        judge: &dyn dns::Judge,
    ) -> usize {
        let now = judge.now();
        let mut denied = 0;
        for live in live {
            let Some(Named { host, generation }) = live.named() else { continue };
            let subscriber = judge.subscriber(live.subscriber);
            let request = live.protocol.request(&host, live.port);
            let subject = Subject::Subscriber(&subscriber);
            let decision = policy::decide(snapshot.policy(), subject, request, now);
            if decision.passes() {
                continue;
            }
            let class = snapshot.policy().class_of(subject);
            let on_denial = class.map_or(OnDenial::Cut, policy::Class::on_denial);
            tracing::debug!(
                %host,
                reason = decision.reason().label(),
                opened = generation,
                closed = snapshot.generation(),
                drains = on_denial == OnDenial::Drain,
                "live session revoked"
            );
            denied += 1;
            match on_denial {
                OnDenial::Cut => {
                    live.end(Fate::Revoked);
                }
                OnDenial::Drain => self.leaving.add(live, self.limits.leave_time),
            }
        }
        denied + self.hold_to_limits(live, snapshot, judge)
    }

    /// Ends the sessions whose time to leave is over, until `stop`.
    pub(in crate::proxy) async fn watch_leaving(&self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(LEAVING_TICK);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                now = ticks.tick() => self.leaving.end(now),
            }
        }
    }
}

impl Leaving {
    fn add(&self, live: &Arc<Live>, time: Duration) {
        let mut leaving = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The first denial counts: publications must not keep a session alive.
        if !leaving.iter().any(|(_, known)| std::ptr::eq(known.as_ptr(), Arc::as_ptr(live))) {
            leaving.push((Instant::now() + time, Arc::downgrade(live)));
        }
    }

    fn end(&self, now: Instant) {
        let mut leaving = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        leaving.retain(|(until, live)| {
            let Some(live) = live.upgrade() else { return false };
            if *until <= now {
                live.end(Fate::Revoked);
            }
            *until > now
        });
    }
}

/// How often the sessions that leave are looked at.
const LEAVING_TICK: Duration = Duration::from_millis(250);
