//! How long answers take at 70 % of what each server can do.
//!
//! A virtual machine is stopped by its host now and then, and every answer with it, for milliseconds. So
//! three things are told: all of it; how much of the time the servers' core was not there; and what
//! answers took in the windows in which it was.

use std::{path::Path, time::Duration};

use crate::{
    SECONDS, SEED, TERMS,
    client::{self, always, milliseconds},
    keeper::Keeper,
    load, loads,
    names::{denied, listed, policy},
    sentinel::{Sentinel, Standstill},
    servers,
};

/// `keep` begins what keeps the core from the servers meanwhile, if anything does.
pub(crate) fn run(folder: &Path, keep: impl Fn() -> Option<Keeper>) {
    let names = listed();
    let mut servers = vec![servers::postern(folder, &policy(1, TERMS, names.iter().cloned()))];
    servers.extend(servers::peers(folder, &names));
    println!("{} s each, windows of {} ms; milliseconds", LENGTH.as_secs(), milliseconds(WINDOW));
    for (name, questions) in loads(folder).iter().take(2) {
        let asked = if *name == "allowed" { names.clone() } else { denied(10_000, SEED) };
        for server in &servers {
            load::run(server, questions, 1, &[]);
            let most = load::run(server, questions, SECONDS, &[]).qps;
            let rate = most * SHARE;
            let sentinel = Sentinel::start();
            let keeper = keep();
            let told = client::ask(server.address, &asked, rate, LENGTH, |_, _| {});
            drop(keeper);
            let windows = Windows::of(told.span(), &sentinel.end());
            println!(
                "{name:<8} {:<9} {rate:.0} of {most:.0} qps: p50 {:.3}, p99 {:.3}, p99.9 {:.3}; {} of {} lost; \
                 core gone {:.2} %, client {:.2} %; {} of {} windows with it: p99 {:.3}, p99.9 {:.3}",
                server.name,
                told.within(0.5, always),
                told.within(0.99, always),
                told.within(0.999, always),
                told.lost(),
                told.lost() + told.answered(),
                windows.gone,
                told.missed(),
                windows.calm.iter().filter(|calm| **calm).count(),
                windows.calm.len(),
                told.within(0.99, |at| windows.is_calm(at)),
                told.within(0.999, |at| windows.is_calm(at)),
            );
        }
    }
}

/// The time of a run, cut in windows.
struct Windows {
    begun: Duration,
    /// Whether the core was there all the time, in the window and the one before: what has piled up
    /// is worked off for a while.
    calm: Vec<bool>,
    /// Percent of the time for which it was not.
    gone: f64,
}

impl Windows {
    fn of((begun, end): (Duration, Duration), standstills: &[Standstill]) -> Self {
        let number = |at: Duration| window(at.saturating_sub(begun));
        let mut calm = vec![true; number(end) + 1];
        let mut gone = Duration::ZERO;
        for (from, to) in standstills.iter().filter(|(from, to)| *to > begun && *from < end) {
            gone += *to - *from;
            for window in number(*from)..=number(*to) + 1 {
                if let Some(calm) = calm.get_mut(window) {
                    *calm = false;
                }
            }
        }
        let gone = gone.as_secs_f64() / (end - begun).as_secs_f64() * 100.0;
        Self { begun, calm, gone }
    }

    fn is_calm(&self, at: Duration) -> bool {
        self.calm.get(window(at.saturating_sub(self.begun))).copied().unwrap_or_default()
    }
}

fn window(at: Duration) -> usize {
    usize::try_from(at.as_nanos() / WINDOW.as_nanos()).unwrap()
}

/// Of the maximum.
const SHARE: f64 = 0.7;
const LENGTH: Duration = Duration::from_secs(15);
const WINDOW: Duration = Duration::from_millis(50);
