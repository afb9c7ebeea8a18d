//! Octets that mean nothing, on every port, in both families: refused, counted, and forgotten.

use std::{
    fs,
    io::Read,
    net::{IpAddr, SocketAddr},
};

use lab::{Sim, World};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    task::JoinSet,
    time::timeout,
};

use crate::{
    hello::Hello,
    stage::{Family, LOGIN, assert_garden, assert_sealed, at, eventually, metric, world},
};

#[test]
fn garbage_is_refused_counted_and_forgotten() {
    let mut dice = Dice::new();
    let world = world();
    // The first round warms up what is allocated once.
    round(&world, &mut dice);
    settled(&world);
    let before = (memory(&world), metric(&world, "process_open_fds", &[]));
    for _ in 0..ROUNDS {
        let ended = sessions_ended(&world);
        let connections = round(&world, &mut dice);
        settled(&world);
        eventually("every session is counted", || {
            (sessions_ended(&world) - ended >= connections as f64).then_some(())
        });
        assert_eq!(sessions_ended(&world) - ended, connections as f64, "each counts once");
    }
    let grown = memory(&world) - before.0;
    assert!(grown < GROWTH_MAX, "{grown} octets more after {ROUNDS} rounds");
    eventually("descriptors are given back", || {
        let open = metric(&world, "process_open_fds", &[]);
        (open <= before.1 + DESCRIPTORS_MAX).then_some(())
    });

    let log = fs::read_to_string(world.gateway().log_file()).unwrap();
    assert!(world.gateway().is_running() && !log.contains("panicked"), "{log}");
    for (protocol, reason) in [("https", "not-tls"), ("http", "no-host")] {
        let labels = [("protocol", protocol), ("verdict", "deny"), ("reason", reason)];
        assert!(metric(&world, "postern_decisions_total", &labels) > 0.0, "{protocol} {reason}");
    }
    assert!(
        metric(&world, "postern_session_outcomes_total", &[("outcome", "subscriber-malformed")])
            > 0.0
    );
    assert_eq!(metric(&world, "postern_session_outcomes_total", &[("outcome", "us-broken")]), 0.0);
    assert!(metric(&world, "postern_dns_dropped_total", &[]) > 0.0);
    assert_garden_sealed(&world);
}

#[test]
fn garbage_on_the_admin_port_is_refused() {
    let mut dice = Dice::new();
    let world = world();
    let admin = world.gateway().admin_address().unwrap();
    for _ in 0..ROUNDS {
        let jobs = (0..EACH).map(|_| (admin, dice.of(ADMIN))).collect();
        world.gateway().namespace().run(streams(jobs));
    }
    let log = fs::read_to_string(world.gateway().log_file()).unwrap();
    assert!(world.gateway().is_running() && !log.contains("panicked"), "{log}");
    assert_garden(&world);
}

/// Garbage on every port once; how many sessions of the proxy it was.
fn round(world: &World, dice: &mut Dice) -> usize {
    let hello = Hello::to(LOGIN).octets();
    let mut sessions = 0;
    for family in Family::BOTH {
        let to = |port| at(LOGIN, family, port);
        let mut jobs = Vec::new();
        let mut datagrams = Vec::new();
        for _ in 0..EACH {
            jobs.push((to(80), dice.of(REQUEST)));
            jobs.push((to(443), dice.of(&hello)));
            jobs.push((to(53), dice.of(&[&[0, 28], QUESTION].concat())));
            datagrams.push((to(53), dice.of(QUESTION)));
            datagrams.push((to(443), dice.of(&hello)));
        }
        sessions += 2 * EACH;
        world.ue(1).namespace().run(streams(jobs));
        world.ue(1).namespace().run(async move {
            let any: IpAddr = match family {
                Family::V4 => "0.0.0.0".parse().unwrap(),
                Family::V6 => "::".parse().unwrap(),
            };
            let socket = UdpSocket::bind((any, 0)).await.unwrap();
            for (to, octets) in datagrams {
                // The kernel may report the refusal of the one before.
                let _ = socket.send_to(&octets, to).await;
            }
        });
    }
    sessions
}

/// Sends each on a connection of its own, a few at a time, and reads until the far side closes.
async fn streams(jobs: Vec<(SocketAddr, Vec<u8>)>) {
    let mut running = JoinSet::new();
    for (to, octets) in jobs {
        if running.len() >= AT_ONCE {
            running.join_next().await.unwrap().unwrap();
        }
        running.spawn(async move {
            // The gateway may refuse more sessions a second of one SIM, and counts that too.
            let Ok(mut stream) = TcpStream::connect(to).await else { return };
            let talk = async {
                // The far side may have closed before everything is said.
                let _ = stream.write_all(&octets).await;
                let _ = stream.shutdown().await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
            };
            let ended = timeout(Sim::PATIENCE, talk).await;
            assert!(ended.is_ok(), "{to} holds on to {} octets: {octets:02x?}", octets.len());
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
}

/// Waits until nothing of a round is left.
fn settled(world: &World) {
    for gauge in ["postern_sessions", "postern_dns_connections", "postern_dns_pending"] {
        eventually(gauge, || (metric(world, gauge, &[]) == 0.0).then_some(()));
    }
}

fn sessions_ended(world: &World) -> f64 {
    metric(world, "postern_session_outcomes_total", &[])
}

fn memory(world: &World) -> f64 {
    metric(world, "process_resident_memory_bytes", &[])
}

/// The garden is as it was; what was mutated into a listed name may have reached its host.
fn assert_garden_sealed(world: &World) {
    assert_sealed(world);
    assert_garden(world);
}

/// Chance with a seed (splitmix64).
struct Dice(u64);

impl Dice {
    /// A new seed, printed; `POSTERN_SEED` repeats one.
    fn new() -> Self {
        let given = std::env::var_os("POSTERN_SEED").and_then(|seed| seed.to_str()?.parse().ok());
        let seed = given.unwrap_or_else(|| {
            let mut octets = [0; 8];
            fs::File::open("/dev/urandom").unwrap().read_exact(&mut octets).unwrap();
            u64::from_le_bytes(octets)
        });
        println!("POSTERN_SEED={seed}");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit.max(1)).unwrap()).unwrap()
    }

    fn octet(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    /// Pure chance, or `seed` with a few octets changed, left out, doubled, or its end cut off.
    fn of(&mut self, seed: &[u8]) -> Vec<u8> {
        if self.below(3) == 0 {
            let length = self.below(LENGTH_MAX);
            return (0..length).map(|_| self.octet()).collect();
        }
        let mut octets = seed.to_vec();
        for _ in 0..=self.below(4) {
            let place = self.below(octets.len());
            match self.below(4) {
                0 if place < octets.len() => octets[place] = self.octet(),
                1 if place < octets.len() => drop(octets.remove(place)),
                2 => octets.truncate(place),
                _ => {
                    let end = (place + self.below(16)).min(octets.len());
                    octets.extend_from_within(place..end);
                }
            }
        }
        octets
    }
}

const ROUNDS: usize = 4;
/// Pieces of garbage on each port, in each family and round.
const EACH: usize = 150;
const AT_ONCE: usize = 32;
const LENGTH_MAX: usize = 4096;
/// Octets; an allocator keeps some of what it had.
const GROWTH_MAX: f64 = 16.0 * 1024.0 * 1024.0;
/// More than before: connections of the scrapes themselves, a question to the upstream.
const DESCRIPTORS_MAX: f64 = 4.0;
const REQUEST: &[u8] =
    b"GET /connecttest.txt HTTP/1.1\r\nHost: no-such-host.example\r\nX: y\r\n\r\n";
const ADMIN: &[u8] = b"POST /v1/policy/reload?dry_run=1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x\r\n\r\n";
const QUESTION: &[u8] =
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x05login\x04live\x03com\x00\x00\x01\x00\x01";
