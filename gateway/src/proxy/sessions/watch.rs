//! Live sessions judged again: when a policy is published, and when something is learnt about a
//! subscriber.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

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

    /// Judges the live sessions of whoever is behind `address` again, because its SIM, its class
    /// or its grants are others than before. Says how many were denied.
    #[cfg_attr(not(test), expect(dead_code, reason = "for what learns of SIMs and grants"))]
    pub(crate) fn rejudge_subscriber(&self, address: IpAddr, judge: &dyn dns::Judge) -> usize {
        let Some(snapshot) = judge.snapshot() else { return 0 };
        let key = subscriber_key(address);
        let mut live = self.live();
        live.retain(|live| subscriber_key(live.subscriber) == key);
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
