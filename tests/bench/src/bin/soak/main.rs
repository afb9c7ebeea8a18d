//! Mixed good and hostile load for as long as wanted, at a share of what the machine can do:
//! `tests/bench/soak` starts it in namespaces of its own. It fails when memory or descriptors grow,
//! when an attempt ends as it should not, and when the gateway counts an outcome that nobody caused.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    reason = "a benchmark measures, prints, and ends where it cannot go on"
)]

mod attempt;
mod pace;
mod watch;

use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, ExitCode, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use bench::{
    Numbers,
    garden::{self, PORT},
    load,
    network::{self, CLIENT, GATEWAY, GATEWAY_ADDRESS, ORIGIN, ORIGIN_ADDRESS, command, end},
    origin,
};
use tokio::{sync::Semaphore, task::JoinSet};

use attempt::Kind;
use pace::Pace;
use watch::{Sample, Verdict};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let address = |text: &str| -> SocketAddr { text.parse().expect("an address") };
    match words.as_slice() {
        ["origin", on] => runtime.block_on(origin::serve(address(on))).expect("serve"),
        ["capacity", to] => {
            let run = load::connections(address(to), garden::names(), 20_000, 32, 1024);
            let run = runtime.block_on(run);
            assert!(run.bad == 0, "{} connections failed", run.bad);
            println!("{}", run.good as f64 / run.seconds);
        }
        [word @ ("trial" | "attempts"), to, rate, seconds, seed] => {
            let rate = rate.parse().expect("a number");
            let lasting = Duration::from_secs(seconds.parse().expect("a number"));
            let seed = seed.parse().expect("a number");
            let pace = if *word == "trial" { Pace::whatever(rate) } else { Pace::at_best(rate) };
            runtime.block_on(attempts(address(to), pace, lasting, seed));
        }
        [seconds, rest @ ..] if rest.len() <= 2 => {
            let number = |text: Option<&&str>, otherwise: u64| {
                text.map_or(otherwise, |text| text.parse().expect("a whole number"))
            };
            let seconds = seconds.parse().expect("seconds");
            return conduct(seconds, number(rest.first(), 80), number(rest.get(1), 1));
        }
        _ => {
            println!("usage: tests/bench/soak SECONDS [PERCENT OF CAPACITY] [SEED]");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

fn conduct(seconds: u64, percent: u64, seed: u64) -> ExitCode {
    network::make().expect("namespaces; run tests/bench/soak");
    let folder = tempfile::tempdir().expect("a folder");
    let this = env::current_exe().expect("this program");
    let near: SocketAddr = format!("{GATEWAY_ADDRESS}:{PORT}").parse().expect("an address");
    let mut origin = command(ORIGIN, &this);
    let origin = origin.args(["origin", &format!("{ORIGIN_ADDRESS}:{PORT}")]).spawn();
    let origin = origin.expect("the origin");
    assert!(network::listens(ORIGIN, PORT), "the origin does not listen");
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("a file of the run");
        path
    };
    file("policy.toml", garden::policy());
    let settings = file("gateway.toml", garden::gateway(near, WORKERS));
    let mut postern = command(GATEWAY, env::var_os("POSTERN_BIN").expect("POSTERN_BIN"));
    postern.args(["run", "--log", "warn", "--config"]).arg(settings).stdout(Stdio::null());
    let postern = postern.spawn().expect("Postern");
    assert!(network::listens(GATEWAY, PORT), "Postern does not listen");

    let capacity = command(CLIENT, &this).args(["capacity", &near.to_string()]).output();
    let capacity = String::from_utf8_lossy(&capacity.expect("a client").stdout).into_owned();
    let capacity: f64 = capacity.trim().parse().expect("the capacity");
    // Attempts cost more than mere connections: as many are the capacity as are made of too many.
    let mut client = attempting(&this, "trial", near, capacity, TRIAL, seed);
    let said = client.stdout.take().map(BufReader::new).expect("a pipe").lines();
    let made: u64 = said.last().and_then(Result::ok).map_or(0, |line| watch::ended(&line));
    let _ = client.wait();
    let mixed = made as f64 / TRIAL as f64;
    let rate = mixed * percent as f64 / 100.0;
    println!(
        "capacity {capacity:.0} connections/s, {mixed:.0} attempts/s; load {rate:.0}/s ({percent} %), seed {seed}"
    );
    Sample::settle();
    let before = Sample::take(postern.id(), &[]);
    println!("{}", Sample::head());
    let mut client = attempting(&this, "attempts", near, rate, seconds, seed);
    let begun = Instant::now();
    let mut verdict = Verdict::new(before);
    let mut lines = BufReader::new(client.stdout.take().expect("a pipe")).lines();
    // The client says what it came to every ten seconds, and ends with the whole.
    while let Some(Ok(line)) = lines.next() {
        let sample = Sample::take(postern.id(), &[client.id(), origin.id()]);
        println!("{}", sample.row(begun.elapsed(), &line));
        verdict.add(sample, line);
    }
    let ended = client.wait().is_ok_and(|status| status.success());
    Sample::settle();
    let after = Sample::take(postern.id(), &[]);
    println!("{}", after.row(begun.elapsed(), "at rest"));
    let mut faults = verdict.faults(&after, ended);
    let made = verdict.attempts() / (mixed * seconds as f64) * 100.0;
    println!("load {made:.0} % of the capacity");
    // However it came about: a load that was taken back shows nothing of the one that was asked for.
    if made < percent as f64 - ALLOWANCE {
        faults.push(format!("the load was {made:.0} % of the capacity, not {percent} %"));
    }
    for fault in &faults {
        println!("FAILED: {fault}");
    }
    println!("{}", after.outcomes());
    end(postern);
    end(origin);
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Starts a client that makes `rate` attempts a second at `to`.
fn attempting(
    this: &Path,
    word: &str,
    to: SocketAddr,
    rate: f64,
    seconds: u64,
    seed: u64,
) -> Child {
    let [to, rate] = [to.to_string(), rate.to_string()];
    let mut client = command(CLIENT, this);
    client.args([word, &to, &rate, &seconds.to_string(), &seed.to_string()]);
    client.stdout(Stdio::piped()).spawn().expect("a client")
}

/// Makes attempts at this pace, drawn from `seed`, and says every ten seconds how they ended.
async fn attempts(to: SocketAddr, mut pace: Pace, lasting: Duration, seed: u64) {
    let mut numbers = Numbers::new(seed);
    let names = Arc::new((garden::names(), garden::other_names()));
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    let mut ended: BTreeMap<String, u64> = BTreeMap::new();
    let begun = Instant::now();
    let mut ticks = tokio::time::interval(TICK);
    let (mut made, mut due, mut told, mut late) = (0.0, 0.0, 0, 0_u64);
    let mut before = Duration::ZERO;
    while begun.elapsed() < lasting {
        ticks.tick().await;
        let now = begun.elapsed();
        due += pace.due(now.saturating_sub(before), AT_ONCE - places.available_permits());
        before = now;
        while made < due {
            made += 1.0;
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                late += 1;
                continue;
            };
            let (kind, draw) = (Kind::draw(&mut numbers), numbers.draw());
            let names = Arc::clone(&names);
            running.spawn(async move {
                let _place = place;
                kind.make(to, &names.0, &names.1, draw).await
            });
        }
        while let Some(done) = running.try_join_next() {
            *ended.entry(done.unwrap_or_else(|error| error.to_string())).or_default() += 1;
        }
        let tens = begun.elapsed().as_secs() / REPORT;
        if tens > told {
            told = tens;
            println!("{} {pace} late={late}", watch::said(&ended));
        }
    }
    while let Some(done) = running.join_next().await {
        *ended.entry(done.unwrap_or_else(|error| error.to_string())).or_default() += 1;
    }
    println!("{} {pace} late={late}", watch::said(&ended));
}

const WORKERS: usize = 2;
/// Seconds for which too many attempts are made, to learn how many can be.
const TRIAL: u64 = 20;
/// Attempts that may be open at once; those beyond are not made, and counted as late.
const AT_ONCE: usize = 4_000;
/// Percent of the capacity that a load may fall short by.
const ALLOWANCE: f64 = 2.0;
const TICK: Duration = Duration::from_millis(5);
/// Seconds from one line to the next.
const REPORT: u64 = 10;
