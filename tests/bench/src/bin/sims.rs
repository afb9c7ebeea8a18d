//! Accounting against the real binary: a recovery storm of a million Starts, the memory of a
//! million bindings, 10,000 records a second with the delay of the replies, and the restart:
//! `cargo run --release --package bench --bin sims -- none|embedded|redis [BINDINGS]`.
//!
//! `POSTERN_BIN` names the gateway to measure; without it, the one built beside this program.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a benchmark measures, prints, and ends where it cannot go on"
)]

use std::{
    fs,
    process::ExitCode,
    time::{Duration, Instant},
};

use bench::{
    nas::{Nas, SECRET},
    percentile,
    usage::resident_octets,
};
use lab::{Gateway, Options, Redis, radius::Status};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let engine = arguments.next().unwrap_or_else(|| "embedded".to_owned());
    let bindings: u32 = arguments.next().map_or(1_000_000, |text| text.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let server = (engine == "redis").then(|| Redis::start().unwrap());
    let state = match (&server, engine.as_str()) {
        (Some(server), _) => {
            format!("engine = \"redis\"\nservers = [\"redis://{}\"]", server.address())
        }
        (None, "none") => String::new(),
        (None, engine) => format!("engine = \"{engine}\""),
    };
    for (name, text) in [
        ("gateway.toml", GATEWAY.replace("STATE", &state).as_str()),
        ("policy.toml", POLICY),
        ("secret", SECRET),
    ] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let gateway = Gateway::at(Options::of_this_build().binary, folder.path()).unwrap();
    gateway.start().unwrap();
    let memory = || resident_octets(gateway.pid().unwrap()) / 1_000_000;
    let empty = memory();
    let nas = Nas::at(gateway.listening("radius").first().copied().unwrap()).unwrap();
    let repeated = nas.tell(Status::Start, 0..bindings).unwrap();
    let (took, full) = (nas.seconds(), memory());
    println!(
        "{engine}: {bindings} Starts in {took:.1} s, {:.0} a second, {repeated} sent again; memory \
         {empty} MB empty, {full} MB full",
        f64::from(bindings) / took
    );
    let mut delays = nas.interims(0..bindings, RATE, STEADY).unwrap();
    delays.sort_by(f64::total_cmp);
    let p99 = percentile(&delays, 0.99);
    println!(
        "{engine}: {} replies of {} Interims at {RATE} a second; delay ms p50 {:.1} p99 {p99:.1} \
         most {:.1}; memory {} MB",
        delays.len(),
        u64::from(RATE) * STEADY.as_secs(),
        percentile(&delays, 0.5),
        percentile(&delays, 1.0),
        memory()
    );
    if engine != "none" {
        gateway.kill();
        let begun = Instant::now();
        gateway.start().unwrap();
        let took = begun.elapsed().as_secs_f64();
        println!("{engine}: READY {took:.1} s after a kill; memory {} MB", memory());
        let file = fs::metadata(folder.path().join("state.redb"));
        file.iter().for_each(|file| println!("{engine}: file {} MB", file.len() / 1_000_000));
    }
    ExitCode::from(u8::from(engine == "none" && full > MEMORY_MB))
}

/// Records a second.
const RATE: u32 = 10_000;
/// How long that is kept up.
const STEADY: Duration = Duration::from_secs(20);
/// The design's bound for a million bindings, in millions of octets.
const MEMORY_MB: u64 = 250;

const GATEWAY: &str = r#"
node        = "bench"
environment = "lab"
policy      = "policy.toml"
[steering]
mode        = "none"
[dns]
listen      = ["127.0.0.1:0"]
upstreams   = ["udp://127.0.0.1:1"]
[admin]
listen      = "127.0.0.1:0"
[radius]
listen      = ["127.0.0.1:0"]
clients     = [{ name = "bench", address = "127.0.0.1", secret_file = "secret" }]
[state]
STATE
"#;

const POLICY: &str = r#"
schema        = 1
name          = "bench"
serial        = 1
environment   = "lab"
default_class = "garden"
[[hostset]]
name     = "ours"
source   = "bench"
[[hostset.host]]
match    = "portal.acme.example"
schemes  = ["https"]
[[class]]
name     = "garden"
priority = 10
action   = "garden"
hostsets = ["ours"]
match    = [{ networks = ["10.0.0.0/8"] }]
"#;
