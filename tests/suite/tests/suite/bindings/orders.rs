//! Orders (RFC 5176) that are old, or that somebody heard and says again.

use std::time::Duration;

use super::{
    nas::order,
    node::{EMBEDDED, Node, SECRET},
};
use crate::stage::{eventually, now};

#[test]
fn an_order_counts_once_and_within_its_window() {
    let node = Node::start(EMBEDDED);
    assert!(node.nas().start(1, 1));
    let dated = |state: &str, identifier: u8, offset: i64| {
        let at = u32::try_from(now().as_second() + offset).unwrap();
        order(1, state, identifier).with(55, &at.to_be_bytes()).signed(SECRET)
    };
    for offset in [-400, 400] {
        refused(&node, &dated("active", 1, offset), "stale");
    }
    let paid = dated("active", 2, 0);
    assert_eq!(node.orders().ask(&paid), Some(44));
    assert_eq!(node.class("100.64.0.1"), "paid");
    let used_up = dated("exhausted", 3, 0);
    let system = node.orders();
    assert_eq!(system.ask(&used_up), Some(44));
    // The sender's repetition gets the answer that was lost.
    assert_eq!(system.ask(&used_up), Some(44));
    assert_eq!(node.class("100.64.0.1"), "bound");
    // Heard on the way and sent again by another, within the window and well signed.
    refused(&node, &paid, "replayed");
    // A node that restarted has forgotten what counted: what was signed before counts no more.
    let signed = now();
    eventually("two more seconds", || (now().duration_since(signed).as_secs() >= 2).then_some(()));
    node.restart();
    refused(&node, &paid, "stale");
    assert_eq!(node.class("100.64.0.1"), "bound");
}

#[test]
fn an_order_without_a_time_is_refused_where_one_is_demanded() {
    let node = Node::start(EMBEDDED);
    assert!(node.nas().start(1, 1));
    assert!(node.orders().order(1, "active"));
    node.rewrite(
        "secret_file = \"secret\"",
        "secret_file = \"secret\", require_event_timestamp = true",
    );
    node.restart();
    assert_eq!(node.class("100.64.0.1"), "paid");
    refused(&node, &order(1, "exhausted", 9).signed(SECRET), "missing-attribute");
    assert_eq!(node.class("100.64.0.1"), "paid");
}

/// The order is not answered, changes nothing, and is counted.
#[track_caller]
fn refused(node: &Node, order: &[u8], reason: &str) {
    let count = || node.metric("postern_radius_requests_total", &[("result", reason)]);
    let before = (count(), node.class("100.64.0.1"));
    let attacker = node.orders();
    attacker.say(order);
    eventually(reason, || (count() > before.0).then_some(()));
    attacker.be_patient(Duration::from_millis(100));
    assert_eq!(attacker.heard(), None, "an answer to an order that is {reason}");
    assert_eq!(node.class("100.64.0.1"), before.1);
}
