//! The conductor: starts the origin, Postern and the subscribers, and holds the whole against what it
//! should be.
//!
//! The load is a share of what the machine can do, and a shared machine can do more in one minute than
//! in another: so that is measured again for every part of the run, by more than it can do.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ExitCode, Stdio},
    time::Instant,
};

use bench::{
    garden::{self, PORT},
    network::{self, CLIENT, GATEWAY, GATEWAY_ADDRESS, ORIGIN, ORIGIN_ADDRESS, command, end},
};

use crate::watch::{self, Sample, Verdict};

pub(crate) fn conduct(seconds: u64, percent: u64, seed: u64) -> ExitCode {
    network::make().expect("namespaces; run tests/bench/soak");
    let folder = tempfile::tempdir().expect("a folder");
    let near: SocketAddr = format!("{GATEWAY_ADDRESS}:{PORT}").parse().expect("an address");
    let mut subscribers =
        Subscribers { this: env::current_exe().expect("this program"), near, seed };
    let mut origin = command(ORIGIN, &subscribers.this);
    let origin = origin.args(["origin", &format!("{ORIGIN_ADDRESS}:{PORT}")]).spawn();
    let origin = origin.expect("the origin");
    assert!(network::listens(ORIGIN, PORT), "the origin does not listen");
    let postern = postern(folder.path(), near);
    assert!(network::listens(GATEWAY, PORT), "Postern does not listen");

    let capacity = subscribers.capacity();
    println!("{capacity:.0} connections/s; load {percent} % of the attempts/s, seed {seed}");
    // Pools and tables fill, and are filled at rest as well.
    subscribers.trial(capacity);
    Sample::settle();
    let mut verdict = Verdict::new(Sample::take(postern.id(), &[]));
    println!("{}", Sample::head());
    let begun = Instant::now();
    let (mut left, mut whole, mut possible) = (seconds, true, 0.0);
    while left > 0 {
        let part = left.min(PART);
        left -= part;
        // The same attempts in every part would find the same faults.
        subscribers.seed += 1;
        let lasting = part.saturating_sub(TRIAL).max(1);
        let mixed = subscribers.trial(capacity);
        let rate = mixed * percent as f64 / 100.0;
        println!(
            "{:>7}  {mixed:.0} attempts/s can be made, {rate:.0} will be",
            begun.elapsed().as_secs()
        );
        possible += mixed * lasting as f64;
        let mut client = subscribers.attempting("attempts", rate, lasting);
        // The client says what it came to every ten seconds, and ends with the whole.
        let lines = BufReader::new(client.stdout.take().expect("a pipe")).lines();
        for line in lines.map_while(Result::ok) {
            let sample = Sample::take(postern.id(), &[client.id(), origin.id()]);
            println!("{}", sample.row(begun.elapsed(), &line));
            verdict.add(sample, &line);
        }
        whole &= client.wait().is_ok_and(|status| status.success());
        verdict.end_part();
    }
    Sample::settle();
    let after = Sample::take(postern.id(), &[]);
    println!("{}", after.row(begun.elapsed(), "at rest"));
    println!("{verdict}");
    let mut faults = verdict.faults(&after, whole);
    let made = verdict.attempts() / possible * 100.0;
    println!("load {made:.1} % of the capacity");
    // However it came about: a load that was taken back shows nothing of the one that was asked for.
    if made < percent as f64 - ALLOWANCE {
        faults.push(format!("the load was {made:.1} % of the capacity, not {percent} %"));
    }
    for fault in &faults {
        println!("FAILED: {fault}");
    }
    println!("{}", after.outcomes());
    end(postern);
    end(origin);
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn postern(folder: &Path, near: SocketAddr) -> Child {
    let file = |name: &str, text: String| {
        let path = folder.join(name);
        fs::write(&path, text).expect("a file of the run");
        path
    };
    file("policy.toml", garden::policy());
    let settings = file("gateway.toml", garden::gateway(near, WORKERS));
    let mut postern = command(GATEWAY, env::var_os("POSTERN_BIN").expect("POSTERN_BIN"));
    postern.args(["run", "--log", "error", "--config"]).arg(settings).stdout(Stdio::null());
    postern.spawn().expect("Postern")
}

/// Starts this program as the subscribers.
struct Subscribers {
    this: PathBuf,
    near: SocketAddr,
    seed: u64,
}

impl Subscribers {
    /// Mere connections a second, with few at once.
    fn capacity(&self) -> f64 {
        let mut client = command(CLIENT, &self.this);
        let said = client.args(["capacity", &self.near.to_string()]).output();
        let said = String::from_utf8_lossy(&said.expect("a client").stdout).into_owned();
        said.trim().parse().expect("the capacity")
    }

    /// How many attempts a second end when too many are made: they cost more than mere connections.
    fn trial(&self, capacity: f64) -> f64 {
        let mut client = self.attempting("trial", capacity, TRIAL);
        let said = client.stdout.take().map(BufReader::new).expect("a pipe").lines();
        let made = said.last().and_then(Result::ok).map_or(0, |line| watch::ended(&line));
        let _ = client.wait();
        made as f64 / TRIAL as f64
    }

    /// Starts a client that makes `rate` attempts a second.
    fn attempting(&self, word: &str, rate: f64, seconds: u64) -> Child {
        let [to, rate] = [self.near.to_string(), rate.to_string()];
        let mut client = command(CLIENT, &self.this);
        client.args([word, &to, &rate, &seconds.to_string(), &self.seed.to_string()]);
        client.stdout(Stdio::piped()).spawn().expect("a client")
    }
}

const WORKERS: usize = 2;
/// Seconds of one part, with the trial before it.
const PART: u64 = 300;
/// Seconds for which too many attempts are made, to learn how many can be.
const TRIAL: u64 = 20;
/// Percent of the capacity that a load may fall short by.
const ALLOWANCE: f64 = 2.0;
