//! Two policies of 100,000 names in turn, one every second, under load: every answer must be wholly
//! of one of them.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use crate::{
    client::{self, always},
    load,
    names::{LISTED, policy},
    servers::{self, ADMIN},
};

/// What one answer says: its response code and the lifetime of its first record.
type Told = (u8, u32);

/// The names asked for: one in both policies, one in each, one in none.
const ASKED: [&str; 4] = ["both", "first", "second", "none"];

pub(crate) fn run(folder: &Path) {
    let texts = [text(1, 0), text(1, 1)];
    let server = servers::postern(folder, &texts[0]);
    let names: Vec<String> = ASKED.iter().map(|name| format!("{name}.bench.example")).collect();
    let questions = folder.join("reload.questions");
    fs::write(&questions, names.iter().map(|name| format!("{name} A\n")).collect::<String>())
        .unwrap();
    load::run(&server, &questions, 1, &[]);
    let most = load::run(&server, &questions, 3, &[]).qps;
    let rate = most * SHARE;
    let still = client::ask(server.address, &names, rate, LENGTH, |_, _| {});

    let (mut of, mut failed, mut mixed) = ([0_u64; 2], 0_u64, 0_u64);
    let (stop, replaced) = (AtomicBool::new(false), AtomicU64::new(0));
    let before = reloads();
    let moving = std::thread::scope(|scope| {
        scope.spawn(|| {
            let begun = Instant::now();
            for number in 0_u32.. {
                let next = begun + Duration::from_secs(1) * number;
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                // Made before: on two cores the making would be in the way of the measuring.
                let text = &texts[usize::try_from(number + 1).unwrap() % 2];
                replace(
                    folder,
                    &text.replacen("serial = 1\n", &format!("serial = {}\n", number + 3), 1),
                );
                replaced.fetch_add(1, Ordering::Relaxed);
            }
        });
        let told = client::ask(server.address, &names, rate, LENGTH, |place, answer| {
            match (0..2).find(|policy| may_say(*policy, place).contains(&told(answer))) {
                Some(policy) => of[policy] += 1,
                // No policy says that: more waited for the upstream than one source may have.
                None if told(answer) == FAILED => failed += 1,
                None => mixed += 1,
            }
        });
        stop.store(true, Ordering::Relaxed);
        told
    });
    println!("{rate:.0} of {most:.0} qps, policies of {NAMES} names");
    for (what, told) in [("still", &still), ("reloading", &moving)] {
        println!(
            "{what:<9}  p50 {:.3} ms, p99 {:.3} ms, p99.9 {:.3} ms, {} of {} lost, client stopped {:.2} %",
            told.within(0.5, always),
            told.within(0.99, always),
            told.within(0.999, always),
            told.lost(),
            told.lost() + told.answered(),
            told.missed()
        );
    }
    println!(
        "{} policies written, {} put in force; {} answers under the first, {} under the second, {failed} failed, {mixed} mixed; p99 moved {:.3} ms",
        replaced.load(Ordering::Relaxed),
        reloads() - before,
        of[0],
        of[1],
        moving.within(0.99, always) - still.within(0.99, always)
    );
}

/// What `policy` may say about the name at `place`. Everything differs between the two.
fn may_say(policy: usize, place: usize) -> Vec<Told> {
    let listed = matches!((policy, place), (_, 0) | (0, 1) | (1, 2));
    match (policy, listed) {
        (0, true) => vec![(0, 31)],
        (0, false) => vec![(3, 3)],
        (_, true) => vec![(0, 47)],
        (_, false) => vec![(0, 4)],
    }
}

fn told(answer: &[u8]) -> Told {
    let rcode = answer[3] & 0xf;
    let name = answer[12..].iter().position(|octet| *octet == 0).unwrap();
    let record = &answer[12 + name + 5..];
    // The owner is a pointer, or the root of a denial.
    let owner = if record[0] == 0 { 1 } else { 2 };
    (rcode, u32::from_be_bytes(record[owner + 4..owner + 8].try_into().unwrap()))
}

fn text(serial: u64, which: usize) -> String {
    let (terms, own) = match which {
        0 => ("denied = \"nxdomain\"\ndenied_ttl = \"3s\"\nmax_ttl = \"31s\"", "first"),
        _ => ("denied = \"nodata\"\ndenied_ttl = \"4s\"\nmax_ttl = \"47s\"", "second"),
    };
    let more = ["both", own].map(|name| format!("{name}.bench.example"));
    policy(serial, terms, (0..NAMES).map(LISTED).chain(more))
}

fn replace(folder: &Path, text: &str) {
    fs::write(folder.join("policy.new"), text).unwrap();
    fs::rename(folder.join("policy.new"), folder.join("policy.toml")).unwrap();
}

/// Policies put in force so far.
fn reloads() -> u64 {
    let mut stream = TcpStream::connect(("127.0.0.1", ADMIN)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    let prefix = "postern_policy_reloads_total{result=\"published\"} ";
    let value = page.lines().find_map(|line| line.strip_prefix(prefix));
    value.map_or(0, |value| value.trim().parse().unwrap())
}

/// SERVFAIL, with an OPT record in place of the first.
const FAILED: Told = (2, 0);
const NAMES: usize = 100_000;
const LENGTH: Duration = Duration::from_secs(15);
/// Of the maximum.
const SHARE: f64 = 0.7;
