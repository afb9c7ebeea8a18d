//! A canary: a few SIMs, by their ICCIDs, are under the next version of a class first.

use lab::{Fetch, World};

use super::bind;
use crate::stage::{
    Family, PORTAL, STATUS, address, assert_reached, assert_refused, metric, options,
};

#[test]
fn a_canary_is_tried_on_a_range_of_iccids_promoted_and_rolled_back() {
    let world = World::start(lab::Options { start_gateway: false, ..options() }).unwrap();
    let settings = world.settings_text().unwrap();
    world.write_settings(&format!("{settings}[state]\nidentities = \"api\"\n")).unwrap();
    world.gateway().start().unwrap();
    for number in [1, 2] {
        bind(&world, number);
    }
    let stable = world.policy_text().to_owned();
    assert_open(&world, &[]);
    let first = world.ue(1).iccid();
    let canary = format!(
        "[[hostset]]\nname = \"next\"\n[[hostset.host]]\nmatch = \"{STATUS}\"\nschemes = [\"https\"]\n\
         [[class]]\nname = \"canary\"\npriority = 50\naction = \"garden\"\n\
         hostsets = [\"builtin:mobile-plans\", \"acme\", \"next\"]\n\
         [[class.match]]\niccid = [\"{first}-{first}\"]\n"
    );
    publish(&world, 2, &format!("{stable}{canary}"));
    assert_open(&world, &[1]);
    let decisions = |class: &str, verdict: &str| {
        metric(&world, "postern_decisions_total", &[("class", class), ("verdict", verdict)])
    };
    assert!(decisions("canary", "allow") > 0.0, "metrics are split by the canary's class");
    assert!(decisions("unprovisioned", "deny") > 0.0);
    // Promoted: the class itself is the next version, nobody is a canary.
    let (head, tail) = canary.split_once("[[class]]").unwrap();
    assert!(tail.contains("canary"));
    let promoted = stable.replace("\"acme\"]", "\"acme\", \"next\"]");
    assert_ne!(promoted, stable);
    publish(&world, 3, &format!("{promoted}{head}"));
    assert_open(&world, &[1, 2]);
    // Rolled back: sessions to what is listed no more are cut, those to the portal go on.
    let open = |host: &str| world.ue(2).open(&Fetch::https(host, Family::V6)).unwrap();
    let (status, portal) = (open(STATUS), open(PORTAL));
    publish(&world, 4, &stable);
    assert_refused(STATUS, &status.send(&Fetch::https(STATUS, Family::V6)));
    assert_reached(PORTAL, &portal.send(&Fetch::https(PORTAL, Family::V6)));
    assert_open(&world, &[]);
}

#[track_caller]
fn publish(world: &World, serial: u64, text: &str) {
    let text = text.replacen("serial = 1\n", &format!("serial = {serial}\n"), 1);
    world.write_policy(&text).unwrap();
    world.gateway().wait_for_serial(serial).unwrap();
}

/// The status page opens for these SIMs and for no other.
#[track_caller]
fn assert_open(world: &World, sims: &[u8]) {
    for number in [1, 2] {
        for family in Family::BOTH {
            let page = Fetch::https(STATUS, family).at(address(STATUS, family));
            let seen = world.ue(number).fetch(&page);
            if sims.contains(&number) {
                assert_reached(STATUS, &seen);
            } else {
                assert_refused(STATUS, &seen);
            }
        }
    }
}
