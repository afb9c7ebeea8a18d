//! Kills under accounting load: what was answered is there after the next start, and the store
//! opens every time.

use super::{
    nas::address,
    node::{EMBEDDED, Node},
};

#[test]
fn nothing_answered_is_lost_by_a_kill() {
    let kills = std::env::var_os("POSTERN_KILLS").map_or(KILLS, |count| {
        count.to_str().and_then(|count| count.parse().ok()).expect("POSTERN_KILLS is a number")
    });
    let node = Node::start(EMBEDDED);
    let mut answered = Vec::new();
    for kill in 0..kills {
        let first = kill * RECORDS + 1;
        // A reply is waited for while the next records are on their way, then comes the end: after
        // another share of the load each time.
        let enough = 100 + usize::try_from(kill * 37 % 200).unwrap();
        answered.extend(node.nas().storm(first..first + RECORDS, enough));
        // A state that the admin API confirmed, and one that an order did.
        let (called, ordered) = (first, first + 1);
        assert_eq!(node.set(called, "active"), 200);
        assert!(node.orders().order(ordered, "active"));
        node.restart();
        for number in [called, ordered] {
            assert_eq!(node.class(&address(number)), "paid", "{number} after kill {kill}");
        }
        // Those of the last round, and some of all before.
        let recent = answered.iter().rev().take(enough);
        for number in recent.chain(answered.iter().step_by(answered.len().div_ceil(SAMPLES))) {
            assert_ne!(node.class(&address(*number)), "unknown", "{number} after kill {kill}");
        }
    }
    for number in &answered {
        assert_ne!(node.class(&address(*number)), "unknown", "{number} at the end");
    }
    println!("{kills} kills, {} records answered, none lost", answered.len());
}

/// Kills of a run; a hundred with `POSTERN_KILLS=100`.
const KILLS: u32 = 5;
/// Records sent before a kill.
const RECORDS: u32 = 400;
/// Earlier records looked at after each kill.
const SAMPLES: usize = 200;
