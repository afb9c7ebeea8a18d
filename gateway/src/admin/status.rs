//! `GET /v1/status`: the node on one page, from the same numbers as `/metrics`.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, extract::State};
use dns::Judge;
use prometheus::proto::MetricFamily;
use serde_json::{Value, json};

use super::{Desk, api::description};

pub(super) async fn status(State(desk): State<Arc<Desk>>) -> Json<Value> {
    let snapshot = desk.court.snapshot();
    let checks = desk.readiness.checks(snapshot.is_some());
    let failed: Vec<&str> =
        checks.iter().filter(|(_, holds)| !holds).map(|(name, _)| *name).collect();
    let families = desk.registry.gather();
    let sums = |metric, label| sums(&families, metric, label);
    Json(json!({
        "node": desk.node,
        "version": env!("CARGO_PKG_VERSION"),
        "ready": failed.is_empty(),
        "failed_checks": failed,
        "policy": snapshot.as_deref().map(description),
        "last_good_restored": desk.reloader.restored(),
        "policy_pulls": sums("postern_policy_pulls_total", "result"),
        "emergency": desk.reloader.openings(),
        "sessions": desk.sessions.as_ref().map(|sessions| sessions.count()),
        "sessions_by_protocol": sums("postern_sessions", "protocol"),
        "decisions": sums("postern_decisions_total", "verdict"),
        "reasons": sums("postern_decisions_total", "reason"),
        "reloads": sums("postern_policy_reloads_total", "result"),
        "upstream_failures": sums("postern_upstream_failures_total", "kind"),
    }))
}

/// The values of `metric`, added up over all labels but `label`.
fn sums(families: &[MetricFamily], metric: &str, label: &str) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for family in families.iter().filter(|family| family.name() == metric) {
        for sample in family.get_metric() {
            let value = sample
                .get_label()
                .iter()
                .find(|pair| pair.name() == label)
                .map(|pair| pair.value().to_owned());
            let counted = sample.get_counter().get_value() + sample.get_gauge().get_value();
            *sums.entry(value.unwrap_or_default()).or_default() += whole(counted);
        }
    }
    sums
}

/// Counters are kept as floating point; below 2^53 they are exact.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast of a float saturates"
)]
fn whole(value: f64) -> u64 {
    value as u64
}
