//! The resolver beside its peers: `tests/bench/dns`, which says what it takes and prints.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark measures, prints, and ends where it cannot go on"
)]

mod client;
mod keeper;
mod latency;
mod load;
mod names;
mod reload;
mod sentinel;
mod servers;

use std::{
    fs,
    path::{Path, PathBuf},
};

use keeper::Keeper;
use load::Run;
use names::{denied, listed, policy};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("sentinel") => return sentinel::watch(),
        Some("keeper") => return keeper::keep(),
        _ => {}
    }
    let folder = tempfile::tempdir_in("/run").unwrap();
    let folder = folder.path();
    let _upstream = servers::upstream(folder);
    match arguments.first().map(String::as_str) {
        None => compare(folder),
        Some("latency") => latency::run(folder, || None),
        Some("stops") => latency::run(folder, || Some(Keeper::start())),
        Some("reload") => reload::run(folder),
        Some("memory") => {
            let minutes = arguments.get(1).map_or(10, |minutes| minutes.parse().unwrap());
            memory(folder, minutes);
        }
        Some(other) => panic!("{other}: say nothing, latency, stops, reload or memory"),
    }
}

/// Every server under every load, in turn, so that what else the machine does meets all alike.
fn compare(folder: &Path) {
    let names = listed();
    let mut servers = vec![servers::postern(folder, &policy(1, TERMS, names.iter().cloned()))];
    servers.extend(servers::peers(folder, &names));
    let loads = loads(folder);
    let mut runs: Vec<Vec<Vec<Run>>> = Vec::new();
    for (_, questions) in &loads {
        let mut rounds: Vec<Vec<Run>> = servers.iter().map(|_| Vec::new()).collect();
        for round in 0..=ROUNDS {
            for (server, runs) in servers.iter().zip(&mut rounds) {
                let run = load::run(server, questions, SECONDS, &[]);
                // The first fills the caches.
                if round > 0 {
                    runs.push(run);
                }
            }
        }
        runs.push(rounds);
    }
    println!("best of {ROUNDS} runs of {SECONDS} s; server on one core, dnsperf on the other");
    println!(
        "{:<8} {:<9} {:>9} {:>8} {:>9} {:>9} {:>6}",
        "load", "server", "qps", "of best", "user µs", "system µs", "lost"
    );
    for ((name, _), rounds) in loads.iter().zip(&runs) {
        let best_of = |runs: &Vec<Run>| runs.iter().map(|run| run.qps).fold(0.0, f64::max);
        let best_peer = rounds[1..].iter().map(best_of).fold(0.0, f64::max);
        for (server, runs) in servers.iter().zip(rounds) {
            let run = runs.iter().max_by(|a, b| a.qps.total_cmp(&b.qps)).unwrap();
            println!(
                "{name:<8} {:<9} {:>9.0} {:>8.2} {:>9.2} {:>9.2} {:>6}",
                server.name,
                run.qps,
                run.qps / best_peer,
                run.user,
                run.system,
                run.lost
            );
        }
    }
}

/// Memory of ours under names that were never asked before, half of them below a wildcard, so that an
/// upstream knows them: every store is full within seconds, and turned over all the time.
fn memory(folder: &Path, minutes: u32) {
    let hosts = listed().into_iter().chain(["*.wild.bench.example".to_owned()]);
    let server = servers::postern(folder, &policy(1, TERMS, hosts));
    println!("minute  resident MiB");
    for minute in 0..=minutes {
        println!("{minute:>6}  {:>12.1}", server.memory_kib() as f64 / 1024.0);
        if minute == minutes {
            break;
        }
        let random = denied(200_000, SEED + u64::from(minute));
        let wild = random.iter().map(|name| name.replace("elsewhere", "wild.bench"));
        let asked: Vec<String> = random.iter().cloned().chain(wild).collect();
        let questions = write(folder, "random", asked.iter().map(String::as_str), "A");
        let run = load::run(&server, &questions, 60, &["-Q", "6000"]);
        println!("        {:.0} answered at {:.0} qps, {} lost", run.completed, run.qps, run.lost);
    }
}

/// Files of questions: allowed, denied, and both with some odd ones.
fn loads(folder: &Path) -> [(&'static str, PathBuf); 3] {
    let (listed, denied) = (listed(), denied(10_000, SEED));
    let allowed = write(folder, "allowed", listed.iter().map(String::as_str), "A");
    let refused = write(folder, "denied", denied.iter().map(String::as_str), "A");
    let mut mixed = String::new();
    for (number, name) in denied.iter().enumerate() {
        let host = &listed[number % listed.len()];
        mixed += &format!("{host} A\n");
        mixed += &match number % 20 {
            0 => format!("{host} HTTPS\n"),
            10 => format!("{host} TXT\n"),
            _ => format!("{name} A\n"),
        };
    }
    let both = folder.join("mixed.questions");
    fs::write(&both, mixed).unwrap();
    [("allowed", allowed), ("denied", refused), ("mixed", both)]
}

fn write<'n>(
    folder: &Path,
    load: &str,
    names: impl Iterator<Item = &'n str>,
    record_type: &str,
) -> PathBuf {
    let file = folder.join(load).with_extension("questions");
    let lines: String = names.map(|name| format!("{name} {record_type}\n")).collect();
    fs::write(&file, lines).unwrap();
    file
}

const TERMS: &str = "denied = \"nxdomain\"\ndenied_ttl = \"5s\"\nmax_ttl = \"60s\"";
const ROUNDS: usize = 2;
/// Of one run.
const SECONDS: u32 = 3;
const SEED: u64 = 7;
