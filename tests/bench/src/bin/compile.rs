//! What it costs to take in a document: `cargo run --release --package bench --bin compile`.
//!
//! With the path of a `postern` as argument, `check` of 10,000 hosts by that binary as well.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a benchmark measures, prints, and ends where it cannot go on"
)]

use std::{
    env,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use bench::{peak_memory_mib, peak_memory_of_children_mib, percentile, policies::document};
use policy::{Source, compile};

fn main() {
    println!("{:>9}  {:>10}  {:>16}  {:>10}", "entries", "octets", "ms p50 / worst", "peak MiB");
    for count in [1_000, 10_000, 100_000] {
        let text = document(count);
        let times = times(|| {
            compile(&Source { name: "bench.toml", text: &text }, jiff::civil::date(2026, 1, 1))
                .unwrap();
        });
        let peak = peak_memory_mib().unwrap_or(0);
        println!("{count:>9}  {:>10}  {times:>16}  {peak:>10}", text.len());
    }
    if let Some(postern) = env::args_os().nth(1) {
        check(Path::new(&postern));
    }
}

/// `postern check` as an operator calls it: the whole process, from start to exit.
fn check(postern: &Path) {
    let path = env::temp_dir().join(format!("postern-bench-{}.toml", std::process::id()));
    std::fs::write(&path, document(CHECKED)).unwrap();
    let times = times(|| {
        let status = Command::new(postern)
            .arg("check")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "{status}");
    });
    let peak = peak_memory_of_children_mib().unwrap_or(0);
    println!("check of {CHECKED} hosts: {times} ms p50 / worst, {peak} MiB at most");
    std::fs::remove_file(&path).unwrap();
}

fn times(mut work: impl FnMut()) -> String {
    let mut milliseconds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            work();
            begun.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    milliseconds.sort_by(f64::total_cmp);
    format!("{:.1} / {:.1}", percentile(&milliseconds, 0.5), percentile(&milliseconds, 1.0))
}

const ROUNDS: usize = 7;
const CHECKED: usize = 10_000;
