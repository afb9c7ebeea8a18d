//! The counters of judgements, one for each protocol, class, verdict and reason.
//!
//! A judgement is counted for each DNS question. Its counter is found by place, not by its four
//! labels: that look-up would cost as much as the judgement.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use policy::{Reason, Record, Verdict};
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// All of them.
#[derive(Debug)]
pub(super) struct Decisions {
    counters: IntCounterVec,
    classes: ArcSwap<Vec<Arc<OfClass>>>,
}

/// The counters of one class that were needed so far.
#[derive(Debug)]
struct OfClass {
    name: Box<str>,
    /// By protocol, verdict and reason.
    places: Box<[OnceLock<IntCounter>]>,
}

impl Decisions {
    /// Enters the counters in `registry`.
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let counters = IntCounterVec::new(
            Opts::new(DECISIONS, "Judgements by protocol, class, verdict and reason."),
            &["protocol", "class", "verdict", "reason"],
        )?;
        registry.register(Box::new(counters.clone()))?;
        Ok(Self { counters, classes: ArcSwap::default() })
    }

    /// Counts one judgement.
    pub(super) fn count(&self, record: &Record<'_>) {
        let classes = self.classes.load();
        let kept = classes.iter().find(|class| *class.name == *record.class);
        let place = kept.and_then(|class| class.places.get(place(record)?));
        match place {
            Some(place) => place.get_or_init(|| self.counter(record)).inc(),
            None => {
                self.counter(record).inc();
                self.keep(record.class);
            }
        }
    }

    fn counter(&self, Record { protocol, class, verdict, reason, .. }: &Record<'_>) -> IntCounter {
        self.counters.with_label_values(&[protocol, class, verdict.label(), reason.label()])
    }

    /// Makes places for a class that has none, unless there are as many as any policy has use for.
    fn keep(&self, class: &str) {
        self.classes.rcu(|classes| {
            let is_kept = classes.iter().any(|kept| *kept.name == *class);
            if is_kept || classes.len() >= MAX_CLASSES {
                return Arc::clone(classes);
            }
            let places = PROTOCOLS.len() * VERDICTS * Reason::ALL.len();
            let places = (0..places).map(|_| OnceLock::new()).collect();
            let class = Arc::new(OfClass { name: class.into(), places });
            Arc::new(classes.iter().cloned().chain([class]).collect())
        });
    }
}

/// The place of a judgement's counter among those of its class.
fn place(record: &Record<'_>) -> Option<usize> {
    let protocol = PROTOCOLS.iter().position(|protocol| *protocol == record.protocol)?;
    let verdict = match record.verdict {
        Verdict::Allow => 0,
        Verdict::Deny => 1,
        Verdict::Observe => 2,
    };
    Some((protocol * VERDICTS + verdict) * Reason::ALL.len() + record.reason as usize)
}

const PROTOCOLS: [&str; 5] = ["dns", "http", "https", "quic", "tcp"];
const VERDICTS: usize = 3;
/// Classes whose counters are found by place; more are counted as well, at more cost.
const MAX_CLASSES: usize = 256;
/// Judgements by protocol, class, verdict and reason.
const DECISIONS: &str = "postern_decisions_total";

#[cfg(test)]
mod tests {
    use policy::Subscriber;

    use super::*;

    #[test]
    fn counts_each_judgement_under_its_own_labels() {
        let registry = Registry::new();
        let decisions = Decisions::new(&registry).unwrap();
        let subscriber = Subscriber::default();
        let classes: Vec<String> = (0..2 * MAX_CLASSES).map(|n| format!("class-{n}")).collect();
        let verdicts = [Verdict::Allow, Verdict::Deny, Verdict::Observe];
        for class in classes.iter().map(String::as_str).chain(["class-0", "none"]) {
            for (protocol, verdict) in PROTOCOLS.iter().zip(verdicts.iter().cycle()) {
                let reason = Reason::ALL[class.len() % Reason::ALL.len()];
                let record = Record::denied(&subscriber, protocol, reason, None, None);
                decisions.count(&Record { class, verdict: *verdict, ..record });
            }
        }
        assert_eq!(decisions.classes.load().len(), MAX_CLASSES);
        let families = registry.gather();
        let series = families[0].get_metric();
        assert_eq!(series.len(), (2 * MAX_CLASSES + 1) * PROTOCOLS.len());
        for one in series {
            let twice = one.get_label().iter().any(|label| label.value() == "class-0");
            let expected = if twice { 2.0 } else { 1.0 };
            assert_eq!(one.get_counter().get_value(), expected, "{:?}", one.get_label());
        }
    }

    #[test]
    fn every_reason_has_a_place_of_its_own() {
        let subscriber = Subscriber::default();
        let places = Reason::ALL
            .map(|reason| place(&Record::denied(&subscriber, "tcp", reason, None, None)).unwrap());
        let room = PROTOCOLS.len() * VERDICTS * Reason::ALL.len();
        assert!(places.is_sorted_by(|a, b| a < b) && places.iter().all(|place| *place < room));
    }
}
