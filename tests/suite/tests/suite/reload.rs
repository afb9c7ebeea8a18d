//! Reload: a good file comes into force without a dropped session, whatever way it came; a bad one
//! changes nothing.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::symlink,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use http::Method;
use lab::{Fetch, Held, Outcome, World};
use serde_json::Value;

use crate::stage::{
    self, Family, LOGIN, PORTAL, STATUS, address, assert_garden, assert_reached, assert_refused,
    eventually, generation, metric, options, world,
};

#[test]
fn thousand_sessions_outlive_twenty_reloads() {
    let world = world();
    let page = |family| Fetch::https(PORTAL, family).at(address(PORTAL, family));
    let mut held: Vec<(Family, Held)> = Vec::new();
    for sim in [1, 2] {
        for family in Family::BOTH {
            held.extend((0..SESSIONS / 4).map(|number| {
                let session = world.ue(sim).open(&page(family));
                (
                    family,
                    session.unwrap_or_else(|seen| panic!("SIM {sim}, session {number}: {seen}")),
                )
            }));
        }
    }
    assert_eq!(held.len(), SESSIONS);
    assert_eq!(open_sessions(&world), SESSIONS as f64);

    for reload in 0..RELOADS {
        let serial = 2 + reload;
        world
            .write_policy(&listing(&with_serial(&world, serial), &format!("h{reload}.example")))
            .unwrap();
        match reload % 3 {
            0 => assert_eq!(world.gateway().reload().unwrap().status, 200),
            1 => world.gateway().hang_up().unwrap(),
            // The watch over the file notices by itself.
            _ => {}
        }
        world.gateway().wait_for_serial(serial).unwrap();
        if reload == RELOADS / 2 {
            broken_file_changes_nothing(&world);
        }
    }

    assert_eq!(open_sessions(&world), SESSIONS as f64, "sessions were dropped");
    for (number, (family, session)) in held.iter().enumerate() {
        let seen = session.send(&page(*family).path("/plans"));
        assert_eq!(seen.host(), Some(PORTAL), "session {number} after the reloads: {seen}");
    }
}

#[test]
fn broken_file_is_refused_and_the_old_policy_decides() {
    let world = world();
    broken_file_changes_nothing(&world);
    assert_garden(&world);
}

#[test]
fn deleted_file_changes_nothing() {
    let world = world();
    let before = generation(&world);
    let refused = refusals(&world);
    fs::remove_file(world.policy_file()).unwrap();
    eventually("the loss is counted", || (refusals(&world) > refused).then_some(()));
    assert_eq!(reload_refused(&world), 409);
    assert_eq!(generation(&world), before);
    assert_eq!(metric(&world, "postern_policy_reload_succeeded", &[]), 0.0);
    assert_garden(&world);

    world.write_policy(&with_serial(&world, 2)).unwrap();
    world.gateway().wait_for_serial(2).unwrap();
    assert_eq!(metric(&world, "postern_policy_reload_succeeded", &[]), 1.0);
    assert_garden(&world);
}

#[test]
fn half_written_file_changes_nothing_until_it_is_whole() {
    let world = world();
    let before = generation(&world);
    let text = listing(&with_serial(&world, 2), STATUS);
    // In the middle of a line.
    let (half, rest) = text.split_at(text.find("schemes").unwrap() + 3);
    let refused = refusals(&world);
    let mut file = File::create(world.policy_file()).unwrap();
    file.write_all(half.as_bytes()).unwrap();
    eventually("half a file is refused", || (refusals(&world) > refused).then_some(()));
    assert_eq!(generation(&world), before);
    assert_garden(&world);

    for piece in rest.as_bytes().chunks(16) {
        file.write_all(piece).unwrap();
    }
    drop(file);
    world.gateway().wait_for_serial(2).unwrap();
    assert_open(&world, STATUS);
}

#[test]
fn renamed_file_comes_into_force_by_itself() {
    let world = world();
    assert_shut(&world, STATUS);
    for serial in 2..6 {
        world.write_policy(&listing(&with_serial(&world, serial), STATUS)).unwrap();
        world.gateway().wait_for_serial(serial).unwrap();
    }
    assert_open(&world, STATUS);
}

#[test]
fn switched_link_comes_into_force_by_itself() {
    let world = world();
    let folder = world.directory();
    // As a mounted ConfigMap does: the file is a link into a folder that is a link.
    for version in ["v1", "v2", "v3"] {
        fs::create_dir(folder.join(version)).unwrap();
    }
    let serial = |serial| listing(&with_serial(&world, serial), STATUS);
    for (version, number) in [("v1", 2), ("v2", 3), ("v3", 4)] {
        fs::write(folder.join(version).join("policy.toml"), serial(number)).unwrap();
    }
    symlink("v1", folder.join("..data")).unwrap();
    symlink("..data/policy.toml", folder.join("link")).unwrap();
    fs::rename(folder.join("link"), world.policy_file()).unwrap();
    world.gateway().wait_for_serial(2).unwrap();
    for (version, number) in [("v2", 3), ("v3", 4)] {
        symlink(version, folder.join("..next")).unwrap();
        fs::rename(folder.join("..next"), folder.join("..data")).unwrap();
        world.gateway().wait_for_serial(number).unwrap();
    }
    assert_open(&world, STATUS);
}

#[test]
fn file_that_changes_during_the_start_is_not_missed() {
    let mut options = options();
    options.start_gateway = false;
    let world = World::start(options).unwrap();
    let mut serial = 1;
    for _ in 0..STARTS {
        let started = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                world.gateway().start().unwrap();
                started.store(true, Ordering::Release);
            });
            while !started.load(Ordering::Acquire) {
                serial += 1;
                world.write_policy(&with_serial(&world, serial)).unwrap();
            }
        });
        world.gateway().wait_for_serial(serial).unwrap();
        world.gateway().stop().unwrap();
    }
}

#[test]
fn hangup_publishes_again() {
    let world = world();
    let (serial, before) = generation(&world);
    world.gateway().hang_up().unwrap();
    eventually("a new generation", || (generation(&world) == (serial, before + 1)).then_some(()));
}

#[test]
fn change_through_the_admin_api_needs_the_token() {
    let world = world();
    let before = generation(&world);
    let path = "/v1/policy/reload";
    for token in [None, Some(""), Some("guess")] {
        let reply = world.gateway().admin_with(token, Method::POST, path, "").unwrap();
        assert_eq!(reply.status, 401, "{token:?}: {}", reply.body);
        let problem: Value = serde_json::from_str(&reply.body).unwrap();
        assert_eq!(problem["status"], 401);
    }
    assert_eq!(generation(&world), before);
    assert_eq!(world.gateway().reload().unwrap().status, 200);
    assert_eq!(generation(&world), (before.0, before.1 + 1));
}

#[test]
fn refused_reload_answers_with_every_finding() {
    let world = world();
    world.write_policy(&broken(&world)).unwrap();
    let reply = world.gateway().reload().unwrap();
    assert_eq!(reply.status, 409, "{}", reply.body);
    let problem: Value = serde_json::from_str(&reply.body).unwrap();
    let found = problem["diagnostics"].as_array().unwrap();
    assert_eq!(found.len(), BREAKS.len(), "{problem:#}");
    for (finding, (_, wrong)) in found.iter().zip(BREAKS) {
        let line = usize::try_from(finding["line"].as_u64().unwrap()).unwrap();
        let text = fs::read_to_string(world.policy_file()).unwrap();
        assert_eq!(text.lines().nth(line - 1), Some(wrong), "{finding:#}");
    }
}

#[test]
fn session_whose_host_is_no_longer_listed_is_cut() {
    let world = world();
    for (serial, family) in (2..).step_by(2).zip(Family::BOTH) {
        let (portal, login) = (Fetch::https(PORTAL, family), Fetch::https(LOGIN, family));
        let (cut, kept) = (world.ue(1).open(&portal).unwrap(), world.ue(1).open(&login).unwrap());
        assert_reached(PORTAL, &cut.send(&portal));
        let text = with_serial(&world, serial);
        world.write_policy(&text.replace(PORTAL_ENTRY, "")).unwrap();
        world.gateway().wait_for_serial(serial).unwrap();
        let seen = cut.send(&portal);
        assert!(matches!(seen.outcome, Outcome::Closed), "{seen}");
        assert_reached(LOGIN, &kept.send(&login));
        assert_shut(&world, PORTAL);

        world.write_policy(&with_serial(&world, serial + 1)).unwrap();
        world.gateway().wait_for_serial(serial + 1).unwrap();
        assert_open(&world, PORTAL);
    }
    let revoked = [("outcome", "policy-revoked")];
    assert_eq!(metric(&world, "postern_session_outcomes_total", &revoked), 2.0);
}

#[test]
fn session_is_cut_when_the_window_of_its_host_closes() {
    let world = world();
    let now = stage::now();
    let (from, until) = (now - jiff::SignedDuration::from_hours(1), now + WINDOW);
    let window = format!(
        "[[hostset]]\nname = \"maintenance\"\n[[hostset.host]]\nmatch = \"{STATUS}\"\n\
         schemes = [\"https\"]\n[[schedule]]\nname = \"window\"\nfrom = {from}\nuntil = {until}\n\
         hostsets = [\"maintenance\"]\n\n[[class]]"
    );
    let text = with_serial(&world, 2).replacen("[[class]]", &window, 1);
    world.write_policy(&text).unwrap();
    world.gateway().wait_for_serial(2).unwrap();
    let (held, kept) = (Fetch::https(STATUS, Family::V6), Fetch::https(LOGIN, Family::V6));
    let (cut, other) = (world.ue(1).open(&held).unwrap(), world.ue(1).open(&kept).unwrap());
    assert_reached(STATUS, &cut.send(&held));
    let revoked =
        || metric(&world, "postern_session_outcomes_total", &[("outcome", "policy-revoked")]);
    eventually("the window has closed", || (revoked() == 1.0).then_some(()));
    assert!(stage::now() >= until, "cut before the end of the window");
    assert!(matches!(cut.send(&held).outcome, Outcome::Closed));
    assert_reached(LOGIN, &other.send(&kept));
    assert_shut(&world, STATUS);
}

#[test]
fn lower_serial_is_refused() {
    let world = world();
    world.write_policy(&with_serial(&world, 7)).unwrap();
    world.gateway().wait_for_serial(7).unwrap();
    let before = generation(&world);
    world.write_policy(&listing(&with_serial(&world, 6), STATUS)).unwrap();
    assert_eq!(reload_refused(&world), 409);
    assert_eq!(generation(&world), before);
    assert!(reloads(&world, "rollback") >= 1.0);
    assert_shut(&world, STATUS);
}

#[test]
fn rehearsal_tells_and_changes_nothing() {
    let world = world();
    let portal = Fetch::https(PORTAL, Family::V6);
    let held = world.ue(1).open(&portal).unwrap();
    let before = generation(&world);
    // Outside the folder that is watched, so that nothing but the rehearsal reads it.
    let aside = tempfile::tempdir().unwrap();
    let file = aside.path().join("policy.toml");
    fs::write(&file, world.policy_text()).unwrap();
    symlink(&file, world.directory().join("link")).unwrap();
    fs::rename(world.directory().join("link"), world.policy_file()).unwrap();
    eventually("the link is seen", || (reloads(&world, "unchanged") > 0.0).then_some(()));

    fs::write(&file, with_serial(&world, 2).replace(PORTAL_ENTRY, "")).unwrap();
    let rehearse =
        || world.gateway().admin(Method::POST, "/v1/policy/reload?dry_run=1", "").unwrap();
    let reply = rehearse();
    assert_eq!(reply.status, 200, "{}", reply.body);
    let told: Value = serde_json::from_str(&reply.body).unwrap();
    assert_eq!((&told["outcome"], &told["serial"]), (&"rehearsed".into(), &2.into()), "{told:#}");
    assert_eq!(told["sessions_to_close"], 1, "{told:#}");
    let session = &told["sessions"][0];
    assert!(session["protocol"] == "https" && session["host"] == PORTAL, "{told:#}");
    assert!(session["closes"] == true && session["now"]["verdict"] == "allow", "{told:#}");
    // The subscriber is a pseudonym: 128 bits, in hexadecimal.
    assert!(session["subscriber"].as_str().is_some_and(|name| name.len() == 32), "{told:#}");
    assert_eq!(told["classes"][0]["name"], "unprovisioned", "{told:#}");
    fs::write(&file, broken(&world)).unwrap();
    assert_eq!(rehearse().status, 409);
    assert_eq!(generation(&world), before);
    assert_reached(PORTAL, &held.send(&portal));
}

/// Two mistakes reported at once, counted, and the generation that was in force stays in force.
#[track_caller]
fn broken_file_changes_nothing(world: &World) {
    let before = generation(world);
    let invalid = reloads(world, "invalid");
    let good = fs::read_to_string(world.policy_file()).unwrap();
    world.write_policy(&broken(world)).unwrap();
    eventually("the watch refuses it", || (reloads(world, "invalid") > invalid).then_some(()));
    assert_eq!(reload_refused(world), 409);
    let invalid = reloads(world, "invalid");
    world.gateway().hang_up().unwrap();
    eventually("the signal refuses it", || (reloads(world, "invalid") > invalid).then_some(()));
    assert_eq!(generation(world), before);
    world.write_policy(&good).unwrap();
    let succeeded = || metric(world, "postern_policy_reload_succeeded", &[]) > 0.0;
    eventually("the good file is back", || succeeded().then_some(()));
    assert_eq!(generation(world), before);
}

/// The world's policy with another serial.
fn with_serial(world: &World, serial: u64) -> String {
    let text = world.policy_text().replacen("serial = 1\n", &format!("serial = {serial}\n"), 1);
    assert!(text.contains(&format!("\nserial = {serial}\n")));
    text
}

/// A policy that lists one more host.
fn listing(text: &str, host: &str) -> String {
    let entry = format!("[[hostset.host]]\nmatch = \"{host}\"\nschemes = [\"https\"]\n\n[[class]]");
    text.replacen("[[class]]", &entry, 1)
}

/// A policy with every mistake of [`BREAKS`].
fn broken(world: &World) -> String {
    BREAKS.iter().fold(world.policy_text().to_owned(), |text, (right, wrong)| {
        assert!(text.contains(right), "{right}");
        text.replacen(right, wrong, 1)
    })
}

fn reload_refused(world: &World) -> u16 {
    world.gateway().reload().unwrap().status.as_u16()
}

fn reloads(world: &World, result: &str) -> f64 {
    metric(world, "postern_policy_reloads_total", &[("result", result)])
}

/// Reloads that kept the last good policy.
fn refusals(world: &World) -> f64 {
    let all = metric(world, "postern_policy_reloads_total", &[]);
    all - reloads(world, "published") - reloads(world, "unchanged")
}

fn open_sessions(world: &World) -> f64 {
    metric(world, "postern_sessions", &[("protocol", "https")])
}

#[track_caller]
fn assert_open(world: &World, host: &str) {
    for family in Family::BOTH {
        assert_reached(host, &world.ue(1).fetch(&Fetch::https(host, family)));
    }
}

#[track_caller]
fn assert_shut(world: &World, host: &str) {
    for family in Family::BOTH {
        let page = Fetch::https(host, family).at(address(host, family));
        assert_refused(host, &world.ue(1).fetch(&page));
    }
}

const SESSIONS: usize = 1_000;
const RELOADS: u64 = 20;
/// Long enough to open a session in, also on a busy machine.
const WINDOW: jiff::SignedDuration = jiff::SignedDuration::from_secs(8);
const STARTS: usize = 5;
const PORTAL_ENTRY: &str =
    "[[hostset.host]]\nmatch = \"portal.acme.example\"\nschemes = [\"https\"]\n";
/// Lines of the lab's policy, and what is wrong there afterwards; in the order of the file.
const BREAKS: [(&str, &str); 2] = [
    ("denied_ttl = \"5s\"", "denied_ttl = \"soon\""),
    ("action = \"garden\"", "action = \"gardn\""),
];
