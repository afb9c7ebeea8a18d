//! What processes use, as the kernel counts it.

use std::{collections::BTreeMap, fs};

/// A process and all it started, by its number.
#[must_use]
pub fn family(root: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // The name, in parentheses, may hold anything.
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1));
        if let Some(parent) = parent.and_then(|parent| parent.parse().ok()) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = vec![root];
    let mut at = 0;
    while let Some(pid) = found.get(at) {
        found.extend(children.remove(pid).unwrap_or_default());
        at += 1;
    }
    found
}

/// Seconds of processor time of every thread of the family, user and system together.
#[must_use]
pub fn cpu_seconds(root: u32) -> f64 {
    let mut nanoseconds = 0;
    for pid in family(root) {
        for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let text = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
            let first = text.split_whitespace().next().and_then(|text| text.parse::<u64>().ok());
            nanoseconds += first.unwrap_or_default();
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a figure to print")]
    let seconds = nanoseconds as f64 / 1e9;
    seconds
}

/// The same of every program this one started and waited for.
#[must_use]
pub fn ended_cpu_seconds() -> f64 {
    use nix::sys::{
        resource::{UsageWho, getrusage},
        time::TimeValLike as _,
    };
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).ok();
    let spent = usage.map(|usage| usage.user_time() + usage.system_time());
    #[expect(clippy::cast_precision_loss, reason = "a figure to print")]
    let seconds = spent.map_or(0, |spent| spent.num_microseconds()) as f64 / 1e6;
    seconds
}

/// Resident memory of the family in octets.
#[must_use]
pub fn resident_octets(root: u32) -> u64 {
    let of = |pid: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:").map(str::to_owned));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or_default() * 1024
    };
    family(root).into_iter().map(of).sum()
}

/// Open descriptors of one process.
#[must_use]
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}
