//! Ways to make the gateway dial what it must not: listed names that lead astray.

use lab::{Fetch, World};

use crate::stage::{Family, LOGIN, address, assert_refused, assert_sealed, metric, options};

#[test]
fn row_28_listed_name_that_leads_inside_is_not_dialled() {
    for astray in [
        "10.0.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "100.64.2.2",
        "::1",
        "fd00::1",
        "fe80::1",
        "2002:a00:1::",
        "64:ff9b::a00:1",
    ] {
        assert_not_dialled(&[astray], "upstream-address-refused");
    }
}

#[test]
fn row_29_listed_name_that_leads_back_to_the_gateway_is_not_dialled() {
    assert_not_dialled(&["192.0.2.1"], "loop");
    assert_not_dialled(&["2001:db8:ffff::1"], "loop");
}

#[track_caller]
fn assert_not_dialled(addresses: &[&str], reason: &str) {
    let mut options = options();
    options.start_gateway = false;
    let world = World::start(options).unwrap();
    let resolve = format!("[lab.resolve]\n\"{LOGIN}\" = {addresses:?}\n");
    world.write_policy(&format!("{}{resolve}", world.policy_text())).unwrap();
    world.gateway().start().unwrap();
    for family in Family::BOTH {
        for page in [Fetch::https(LOGIN, family), Fetch::http(LOGIN, family)] {
            let page = page.at(address(LOGIN, family));
            let seen = world.ue(1).fetch(&page);
            assert_refused(&format!("{addresses:?} {}", page.title()), &seen);
        }
    }
    for protocol in ["http", "https"] {
        let labels = [("protocol", protocol), ("reason", reason)];
        assert_eq!(metric(&world, "postern_decisions_total", &labels), 2.0, "{addresses:?}");
    }
    assert_eq!(world.hits(LOGIN).connections, 0);
    assert_sealed(&world);
}
