//! `decide` and `compile` by number of patterns: `cargo run --release --package bench --bin decide`.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark measures, prints, and ends where it cannot go on"
)]

use std::{hint::black_box, ops::ControlFlow, time::Instant};

use bench::{
    Numbers, peak_memory_mib, percentile,
    policies::{document, name, written},
};
use jiff::Timestamp;
use policy::{
    HostName, HostPattern, HostTable, Policy, Request, Source, Subject, Subscriber, compile, decide,
};

fn main() {
    println!("seed {SEED}; a figure is the mean of {GROUP} calls in a row, {GROUPS} of them");
    println!(
        "{:>9}  {:>10}  {:>22}  {:>22}",
        "patterns", "compile ms", "listed ns p50 / p99", "other ns p50 / p99"
    );
    for count in [100, 1_000, 10_000, 100_000] {
        let text = document(count);
        let begun = Instant::now();
        let policy =
            compile(&Source { name: "bench.toml", text: &text }, jiff::civil::date(2026, 1, 1))
                .unwrap()
                .policy;
        let compiled = begun.elapsed().as_secs_f64() * 1e3;
        let (listed, other) = (names(count, true), names(count, false));
        let (listed, other) = (calls(&policy, &listed), calls(&policy, &other));
        println!("{count:>9}  {compiled:>10.1}  {listed:>22}  {other:>22}");
    }
    let table = table(1_000_000);
    let (listed, other) = (names(1_000_000, true), names(1_000_000, false));
    let look = |host: &HostName| {
        let found = table.visit(host, |values| ControlFlow::Break(values.count()));
        black_box(found);
    };
    println!(
        "{:>9}  {:>10}  {:>22}  {:>22}  (the table alone)",
        1_000_000,
        "–",
        timed(&listed, look),
        timed(&other, look)
    );
    println!("peak memory {} MiB", peak_memory_mib().unwrap_or(0));
}

fn calls(policy: &Policy, hosts: &[HostName]) -> String {
    let subscriber = Subscriber::at("100.64.7.7".parse().unwrap());
    let now = Timestamp::UNIX_EPOCH;
    timed(hosts, |host| {
        let request = Request::Https { host, port: 443 };
        let _ = black_box(decide(policy, Subject::Subscriber(&subscriber), request, now));
    })
}

fn timed(hosts: &[HostName], mut call: impl FnMut(&HostName)) -> String {
    let mut numbers = Numbers::new(SEED);
    let mut nanoseconds: Vec<f64> = (0..GROUPS)
        .map(|_| {
            // Copied, since a name that is asked about was read from the wire just now.
            let group: Vec<HostName> =
                (0..GROUP).filter_map(|_| hosts.get(numbers.below(hosts.len())).cloned()).collect();
            let begun = Instant::now();
            for host in &group {
                call(host);
            }
            begun.elapsed().as_nanos() as f64 / GROUP as f64
        })
        .collect();
    nanoseconds.sort_by(f64::total_cmp);
    format!("{:.0} / {:.0}", percentile(&nanoseconds, 0.5), percentile(&nanoseconds, 0.99))
}

fn names(count: usize, listed: bool) -> Vec<HostName> {
    let prefix = if listed { "" } else { "x" };
    (0..count.min(100_000))
        .map(|place| place * (count / count.min(100_000)))
        .map(|number| match (number % 10, listed) {
            (0, true) => format!("www.{}", name(number)),
            _ => format!("{prefix}{}", name(number)),
        })
        .map(|text| HostName::parse(&text).unwrap())
        .collect()
}

fn table(count: usize) -> HostTable<usize> {
    let mut table = HostTable::default();
    for number in 0..count {
        table.insert(&HostPattern::parse(&written(number), None).unwrap(), number);
    }
    table
}

const SEED: u64 = 20_261_123;
const GROUP: usize = 20;
const GROUPS: usize = 20_000;
