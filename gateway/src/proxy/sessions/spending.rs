//! Live sessions and the bytes their subscribers may move in a day.

use std::sync::Arc;

use policy::{Reason, Record, Snapshot, Subject};

use super::{Fate, Live, Sessions, subscriber_key};
use crate::proxy::{meter::Flow, metrics::Direction, quota::Balance};

impl Sessions {
    /// Holds `live` sessions to the daily bytes of their subscribers' classes, and says how many
    /// were over them.
    pub(super) fn hold_to_limits(
        &self,
        live: &[Arc<Live>],
        snapshot: &Snapshot,
        judge: &dyn dns::Judge,
    ) -> usize {
        let now = judge.now();
        let exhausts = |live: &Arc<Live>| {
            let subscriber = judge.subscriber(live.subscriber);
            let class = snapshot.policy().class_of(Subject::Subscriber(&subscriber));
            let limit = class.and_then(|class| class.limits().bytes_per_day);
            live.account.hold_to(limit, now) != Balance::Within && live.end(Fate::Exhausted)
        };
        live.iter().filter(|live| exhausts(live)).count()
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
        match live.account.spend(u64::try_from(bytes).unwrap_or(u64::MAX), judge.now()) {
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
                    live.end(Fate::Exhausted);
                }
            }
            Balance::Over => {}
        }
        // Again for a session that was opened meanwhile.
        live.end(Fate::Exhausted);
        Flow::Over
    }
}
