//! The upgrade: another process takes over, and no subscriber notices.

use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use http::{Method, StatusCode};
use lab::{Fetch, Options, Outcome, World, octets};

use crate::stage::{
    BING, Family, LOGIN, PORTAL, address, assert_garden, assert_reached, eventually, kernel,
    options, world,
};

#[test]
fn sessions_and_transfers_go_on_while_another_process_takes_over() {
    let mut options = options();
    options.start_gateway = false;
    let world = World::start(options).unwrap();
    let dark = kernel(&world);
    world.gateway().start().unwrap();
    let steered = kernel(&world);
    let idle: Vec<_> = Family::BOTH
        .map(|family| Fetch::https(PORTAL, family))
        .into_iter()
        .map(|page| (world.ue(1).open(&page).unwrap(), page))
        .collect();
    let over = AtomicBool::new(false);
    let counts: [AtomicU64; 4] = Default::default();
    let progress = |what: &str| {
        let seen = counts.each_ref().map(|count| count.load(Ordering::Acquire));
        eventually(what, || {
            let now = counts.each_ref().map(|count| count.load(Ordering::Acquire));
            seen.iter().zip(now).all(|(seen, now)| now >= seen + 2).then_some(())
        });
    };
    let successor = thread::scope(|scope| {
        let mut kinds = [1, 2].into_iter().flat_map(|sim| Family::BOTH.map(|family| (sim, family)));
        for count in &counts {
            let (sim, family) = kinds.next().unwrap();
            let (world, over) = (&world, &over);
            scope.spawn(move || transfer(world, sim, family, count, over));
        }
        progress("transfers before");
        let successor = world.gateway().upgrade().unwrap();
        assert_garden(&world);
        progress("transfers after");
        assert!(world.gateway().is_running(), "sessions are left to the first process");
        over.store(true, Ordering::Release);
        successor
    });
    for (session, page) in idle {
        assert_reached(PORTAL, &session.send(&page));
    }
    world.gateway().wait_for_end(PATIENCE).unwrap();
    assert_eq!(kernel(&world), steered, "the steering stays");
    assert_garden(&world);
    successor.stop().unwrap();
    assert_eq!(kernel(&world), dark, "the second process takes it away");
}

#[test]
fn process_that_cannot_take_over_changes_nothing() {
    let world = world();
    let steered = kernel(&world);
    let page = Fetch::https(PORTAL, Family::V4);
    let session = world.ue(1).open(&page).unwrap();
    let settings = world.settings_text().unwrap();
    world.write_settings(&settings.replace("[admin]", "[admin]\nunknown = 1")).unwrap();
    assert!(world.gateway().upgrade().is_err());
    assert!(world.gateway().is_running());
    assert_reached(PORTAL, &session.send(&page));
    assert_garden(&world);
    assert_eq!(kernel(&world), steered);
    let log = fs::read_to_string(world.gateway().log_file()).unwrap();
    assert!(log.contains("no successor"), "{log}");
    world.write_settings(&settings).unwrap();
    let successor = world.gateway().upgrade().unwrap();
    assert_reached(PORTAL, &session.send(&page));
    drop(session);
    world.gateway().wait_for_end(PATIENCE).unwrap();
    successor.stop().unwrap();
}

#[test]
fn bindings_and_accounting_pass_to_the_next_process_with_and_without_a_store() {
    for state in ["", "[state]\nengine = \"embedded\"\n"] {
        let world = World::start(Options { start_gateway: false, ..options() }).unwrap();
        let settings = format!("{}{state}", world.settings_text().unwrap());
        world.write_settings(&settings).unwrap();
        world.gateway().start().unwrap();
        let first = world.pgw().attach(world.ue(1)).unwrap();
        pay(&world, 1);
        assert_online(&world, 1, true);
        // One that fails after it was given everything gives it back.
        world.write_settings(&settings.replace("\"shop.key\"", "\"no.key\"")).unwrap();
        assert!(world.gateway().upgrade().is_err());
        let second = world.pgw().attach(world.ue(2)).unwrap();
        pay(&world, 2);
        assert_online(&world, 2, true);
        world.write_settings(&settings).unwrap();
        let successor = world.gateway().upgrade().unwrap();
        world.gateway().wait_for_end(PATIENCE).unwrap();
        for number in [1, 2] {
            assert_online(&world, number, true);
        }
        world.pgw().detach(&first).unwrap();
        assert_online(&world, 1, false);
        world.pgw().attach(world.ue(1)).unwrap();
        assert_online(&world, 1, true);
        world.pgw().detach(&second).unwrap();
        assert_online(&world, 2, false);
        successor.stop().unwrap();
    }
}

fn pay(world: &World, number: u8) {
    let path = format!("/v1/sims/imsi:{}", world.ue(number).imsi());
    let reply = world.gateway().admin(Method::PUT, &path, r#"{"state":"active"}"#).unwrap();
    assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
}

/// The whole Internet opens for a SIM, in both families, or is shut.
fn assert_online(world: &World, number: u8, online: bool) {
    for family in Family::BOTH {
        let page = Fetch::https(BING, family).at(address(BING, family));
        eventually(&format!("SIM {number} is online: {online}, {family}"), || {
            let seen = world.ue(number).fetch(&page);
            (matches!(seen.outcome, Outcome::Answered(_)) == online).then_some(())
        });
    }
}

/// One session that takes a page again and again, every octet of it checked, until all is `over`.
fn transfer(world: &World, sim: u8, family: Family, count: &AtomicU64, over: &AtomicBool) {
    let expected = octets(PAGE);
    let page = Fetch::https(LOGIN, family).path(&format!("/octets/{PAGE}"));
    let session = world.ue(sim).open(&page).unwrap();
    while !over.load(Ordering::Acquire) {
        let seen = session.send(&page);
        let Outcome::Answered(answer) = &seen.outcome else { panic!("{seen}") };
        assert!(answer.body == expected, "octets differ");
        count.fetch_add(1, Ordering::AcqRel);
    }
}

/// Octets of a page that is transferred: more than a pipe holds.
const PAGE: usize = 2 << 20;
/// For the first process to end, once its last session has.
const PATIENCE: Duration = Duration::from_secs(20);
