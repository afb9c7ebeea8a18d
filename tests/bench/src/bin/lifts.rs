//! How long a lift takes: 1,000 SIMs of one node, each by a call of the admin API, while 5,000
//! others are open in the kernel; and the first packet of one SIM after its lift, 200 times.
//!
//! `POSTERN_BIN` names the gateway to measure; without it, the one built beside this program.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement that fails has failed"
)]
#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use http::{Method, StatusCode};
use lab::{
    Family, Options, Outcome, World, place,
    private::{self, Entry},
};

fn main() -> ExitCode {
    match private::enter(false, |_| {}) {
        Entry::Inside(inside) => inside.end_when_released(),
        Entry::Done(code) => return code,
        Entry::Failed(error) => {
            println!("no private environment: {error}");
            return ExitCode::from(2);
        }
    }
    let world = World::start(Options::of_this_build()).unwrap();
    let open = OPEN_SIMS;
    let began = Instant::now();
    for number in 0..open {
        bind(&world, number, "active");
    }
    println!("{open} SIMs bound and lifted in {:.1} s", began.elapsed().as_secs_f64());
    for number in open..open + LIFTS {
        bind(&world, number, "unprovisioned");
    }
    let times = (open..open + LIFTS).map(|number| {
        let began = Instant::now();
        set(&world, number, "active");
        began.elapsed()
    });
    let p99 = tell("lift by the admin API, called to answered (kernel told)", times.collect());
    let metrics = world.gateway().metrics().unwrap();
    for bound in ["0.0005", "0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1"] {
        let labels = [("source", "api"), ("le", bound)];
        let below = metrics.sum("postern_lift_seconds_bucket", &labels).unwrap_or_default();
        let all = metrics.sum("postern_lift_seconds_count", &[("source", "api")]).unwrap();
        println!("  postern_lift_seconds: {:6.2} % within {bound} s", 100.0 * below / all);
    }
    let first = (0..CYCLES).map(|_| first_packet(&world)).collect();
    tell("first connection of a SIM through the kernel, from the call on", first);
    ExitCode::from(u8::from(p99 > TARGET))
}

/// Puts a SIM behind an address of its own, in this state.
fn bind(world: &World, number: u32, state: &str) {
    let [_, high, middle, low] = (number + 1).to_be_bytes();
    let path = format!("/v1/bindings/10.{high}.{middle}.{low}");
    let body = format!(r#"{{"imsi":"{}"}}"#, imsi(number));
    let reply = world.gateway().admin(Method::PUT, &path, &body).unwrap();
    assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
    set(world, number, state);
}

fn set(world: &World, number: u32, state: &str) {
    let path = format!("/v1/sims/imsi:{}", imsi(number));
    let body = format!(r#"{{"state":"{state}"}}"#);
    let reply = world.gateway().admin(Method::PUT, &path, &body).unwrap();
    assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
}

fn imsi(number: u32) -> String {
    format!("00101{number:010}")
}

/// From the call that lifts to a connection past the proxy.
fn first_packet(world: &World) -> Duration {
    let sim = world.ue(1);
    let address = sim.address(Family::V4);
    let path = format!("/v1/bindings/{address}");
    let body = r#"{"imsi":"001019999999999"}"#;
    assert_eq!(world.gateway().admin(Method::PUT, &path, body).unwrap().status, StatusCode::OK);
    let state = |state: &str| {
        let body = format!(r#"{{"state":"{state}"}}"#);
        let path = "/v1/sims/imsi:001019999999999";
        assert_eq!(world.gateway().admin(Method::PUT, path, &body).unwrap().status, StatusCode::OK);
    };
    state("exhausted");
    // A port the garden refuses and the decoy serves.
    let far = (place("www.bing.com").unwrap().address(Family::V4), 22).into();
    assert!(!matches!(sim.connect(far).outcome, Outcome::Connected));
    let began = Instant::now();
    state("active");
    let seen = sim.connect(far);
    assert!(matches!(seen.outcome, Outcome::Connected), "{seen}");
    began.elapsed()
}

fn tell(what: &str, mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    let at = |part: usize| times.get(times.len() * part / 1000).copied().unwrap_or_default();
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    let [median, p99, max] = [at(500), at(990), at(999)].map(milliseconds);
    println!(
        "{what}: {} times, median {median:.2} ms, p99 {p99:.2} ms, max {max:.2} ms",
        times.len()
    );
    at(990)
}

const OPEN_SIMS: u32 = 5_000;
const LIFTS: u32 = 1_000;
const CYCLES: usize = 200;
/// The design's p99 of a lift on one node.
const TARGET: Duration = Duration::from_millis(100);
