//! Networks steered by redirection, which transparent listeners are not needed for: the same garden and lift.

use lab::World;

use crate::stage::{assert_sealed, kernel, options};

#[test]
fn journeys_are_green_under_redirection() {
    let world = redirected();
    let table = &kernel(&world)["nft -s list ruleset"];
    assert!(table.contains("redirect to :") && !table.contains("tproxy"), "{table}");
    for name in ["unprovisioned-sim", "lift"] {
        // Once lifted, a SIM gets out.
        assert_sealed(&world);
        let steps = lab::perform(lab::find(name).unwrap(), &world, |_, _| {});
        let failed: Vec<_> = steps.iter().filter(|step| step.is_failed()).collect();
        assert!(failed.is_empty(), "{name}: {failed:#?}");
        assert!(steps.iter().all(|step| step.verdict != lab::Verdict::NotShown), "{name}");
    }
}

/// A world whose gateway steers by the kernel's destination NAT.
fn redirected() -> World {
    let world = World::start(lab::Options { start_gateway: false, ..options() }).unwrap();
    let settings = world.settings_text().unwrap();
    assert!(settings.contains("mode = \"tproxy\""), "{settings}");
    world.write_settings(&settings.replace("mode = \"tproxy\"", "mode = \"redirect\"")).unwrap();
    world.gateway().start().unwrap();
    world
}
