//! The end: in order it leaves nothing behind, and a crash leaves the garden shut.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use lab::{Fetch, Outcome, Question, Seen, World};

use crate::stage::{
    BING, Family, LOGIN, PORTAL, address, assert_garden, assert_reached, assert_refused,
    assert_sealed, at, eventually, kernel, options, world,
};

#[test]
fn stop_leaves_the_kernel_as_it_was() {
    let mut options = options();
    options.start_gateway = false;
    let world = World::start(options).unwrap();
    let before = kernel(&world);
    for _ in 0..2 {
        world.gateway().start().unwrap();
        let steered = kernel(&world);
        for (what, state) in &steered {
            assert_ne!(before.get(what), Some(state), "{what} is the same with a running gateway");
        }
        assert_garden(&world);
        let status = world.gateway().stop().unwrap();
        assert_eq!(status.code(), Some(0), "{}", world.gateway().log_tail());
        assert_eq!(kernel(&world), before);
    }
}

#[test]
fn stop_lets_sessions_drain_and_takes_no_new_ones() {
    let world = world();
    let held: Vec<_> = Family::BOTH
        .map(|family| Fetch::https(PORTAL, family))
        .into_iter()
        .map(|page| (world.ue(1).open(&page).unwrap(), page))
        .collect();
    thread::scope(|scope| {
        let stopping = scope.spawn(|| world.gateway().stop().unwrap());
        for family in Family::BOTH {
            let page = Fetch::https(PORTAL, family).at(address(PORTAL, family));
            eventually("no new session", || world.ue(2).open(&page).is_err().then_some(()));
        }
        for (session, page) in &held {
            assert_reached(PORTAL, &session.send(page));
        }
        drop(held);
        assert_eq!(stopping.join().unwrap().code(), Some(0));
    });
    assert_eq!(world.leaked_packets().unwrap(), Some(0));
}

#[test]
fn kill_while_a_sim_connects_lets_nothing_out() {
    let world = world();
    let dead = AtomicBool::new(false);
    let enough = AtomicBool::new(false);
    let (alive_tries, dead_tries) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for sim in [1, 2] {
            let (world, dead, enough) = (&world, &dead, &enough);
            let (alive_tries, dead_tries) = (&alive_tries, &dead_tries);
            scope.spawn(move || {
                while !enough.load(Ordering::Acquire) {
                    let was_dead = dead.load(Ordering::Acquire);
                    for (what, seen) in attempts(world, sim) {
                        let open =
                            matches!(seen.outcome, Outcome::Connected | Outcome::Answered(_));
                        assert!(!(was_dead && open), "{what} after the kill: {seen}");
                        // At the moment of the kill an attempt may hang in the air; not later.
                        if was_dead {
                            assert_refused(what, &seen);
                        }
                        let tries = if was_dead { dead_tries } else { alive_tries };
                        tries.fetch_add(1, Ordering::AcqRel);
                    }
                }
            });
        }
        let tried = |tries: &AtomicU64| (tries.load(Ordering::Acquire) >= TRIES).then_some(());
        eventually("attempts on a living gateway", || tried(&alive_tries));
        world.gateway().kill();
        dead.store(true, Ordering::Release);
        eventually("attempts on a dead gateway", || tried(&dead_tries));
        enough.store(true, Ordering::Release);
    });
    assert_sealed(&world);
}

#[test]
fn kill_with_open_sessions_lets_nothing_out() {
    let world = world();
    let pages = Family::BOTH.map(|family| Fetch::https(PORTAL, family));
    let held: Vec<_> = pages.iter().map(|page| world.ue(1).open(page).unwrap()).collect();
    world.gateway().kill();
    for (session, page) in held.iter().zip(&pages) {
        let seen = session.send(page);
        assert!(seen.is_refused_at_once(), "{seen}");
    }
    assert_sealed(&world);
}

#[test]
fn restart_after_a_kill_replaces_what_was_left() {
    let mut options = options();
    options.start_gateway = false;
    let world = World::start(options).unwrap();
    let before = kernel(&world);
    world.gateway().start().unwrap();
    let first = kernel(&world);
    for _ in 0..3 {
        world.gateway().kill();
        assert_eq!(kernel(&world), first, "a killed gateway leaves its steering");
        world.gateway().start().unwrap();
        assert_eq!(kernel(&world), first, "nothing stands twice");
    }
    assert_garden(&world);
    assert_eq!(world.gateway().stop().unwrap().code(), Some(0));
    assert_eq!(kernel(&world), before, "as before the first start");
}

/// One attempt of every kind in each family.
fn attempts(world: &World, sim: u8) -> Vec<(&'static str, Seen)> {
    let sim = world.ue(sim);
    let mut seen = Vec::new();
    for family in Family::BOTH {
        for (what, port) in [("SSH", 22), ("DNS over TLS", 853)] {
            seen.push((what, sim.connect(at(BING, family, port))));
        }
        for (what, page) in
            [("HTTP", Fetch::http(LOGIN, family)), ("HTTPS", Fetch::https(LOGIN, family))]
        {
            seen.push((what, sim.fetch(&page.clone().at(address(LOGIN, family)))));
            seen.push((what, sim.fetch(&page.at(address(BING, family)))));
        }
        let quic: SocketAddr = at(BING, family, 443);
        seen.push(("QUIC", sim.send_datagram(quic, b"hello")));
        for name in [LOGIN, BING] {
            let answer = sim.ask(&Question::address(name, family));
            seen.push(("DNS", Seen { outcome: answer.outcome, elapsed: answer.elapsed }));
        }
    }
    seen
}

/// Attempts of each kind before and after the kill.
const TRIES: u64 = 100;
