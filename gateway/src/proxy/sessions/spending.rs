//! Live sessions and the bytes their subscribers may move in a day.

use std::sync::{Arc, atomic::Ordering};

use policy::{Reason, Record, Snapshot, Subject};

use super::{Live, Sessions, subscriber_key};
use crate::proxy::{meter::Flow, metrics::Direction, quota::Balance};

impl Sessions {
    /// Holds every live session to the daily bytes of its subscriber's class, and says how many
    /// were over them.
    pub(super) fn hold_to_limits(&self, snapshot: &Snapshot, judge: &dyn dns::Judge) -> usize {
        let now = judge.now();
        let exhausts = |live: &Arc<Live>| {
            let subscriber = judge.subscriber(live.subscriber);
            let class = snapshot.policy().class_of(Subject::Subscriber(&subscriber));
            let limit = class.and_then(|class| class.limits().bytes_per_day);
            let is_within = match &live.account {
                Some(account) => account.hold_to(limit, now) == Balance::Within,
                // Nobody counted.
                None => limit.is_none(),
            };
            !is_within && live.exhaust()
        };
        self.live().iter().filter(|live| exhausts(live)).count()
    }

    /// Counts bytes of `live` that were moved. With the last its subscriber may move, every
    /// session of that subscriber is cut.
    pub(in crate::proxy) fn moved(
        &self,
        live: &Live,
        judge: &dyn dns::Judge,
        direction: Direction,
        bytes: usize,
    ) -> Flow {
        self.metrics.moved(direction, bytes);
        let Some(account) = &live.account else { return Flow::On };
        match account.spend(u64::try_from(bytes).unwrap_or(u64::MAX), judge.now()) {
            Balance::Within => return Flow::On,
            Balance::Reached => {
                let snapshot = judge.snapshot();
                let subscriber = judge.subscriber(live.subscriber);
                let (label, reason) = (live.protocol.label(), Reason::Limit);
                let snapshot = snapshot.as_deref();
                let record = Record::denied(&subscriber, label, reason, snapshot, live.destination);
                judge.record(&record);
                let key = subscriber_key(live.subscriber);
                let all = self.live();
                for live in all.iter().filter(|live| subscriber_key(live.subscriber) == key) {
                    live.exhaust();
                }
            }
            Balance::Over => {}
        }
        // Again for a session that was opened meanwhile.
        live.exhaust();
        Flow::Over
    }
}

impl Live {
    /// Cuts the session, because its subscriber may move no more bytes. Says whether that is news.
    fn exhaust(&self) -> bool {
        let is_news = !self.exhausted.swap(true, Ordering::Relaxed) && !self.revoked.is_cancelled();
        self.revoked.cancel();
        is_news
    }
}
