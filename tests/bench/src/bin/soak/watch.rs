//! What the gateway uses and counts, over time.

use std::{collections::BTreeMap, fmt, process::Command, time::Duration};

use bench::{
    network::{GATEWAY, command},
    usage::{cpu_seconds, descriptors, ended_cpu_seconds, resident_octets},
};

/// One look at the gateway.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    resident: u64,
    descriptors: usize,
    /// Processor seconds so far, and those of the client and the origin.
    spent: (f64, f64),
    sessions: f64,
    outcomes: BTreeMap<String, f64>,
}

/// The samples of a run, and what is wrong with them.
pub(crate) struct Verdict {
    before: Sample,
    samples: Vec<Sample>,
    /// Of the parts that have ended.
    counts: BTreeMap<String, u64>,
    /// Of the one that has not.
    said: String,
}

impl Sample {
    /// Looks at the process and at those around it, and asks it for its metrics.
    pub(crate) fn take(pid: u32, around: &[u32]) -> Self {
        let mut curl = command(GATEWAY, "curl");
        let metrics = curl.args(["-s", "http://127.0.0.1:9180/metrics"]).output();
        let text = metrics.map(|found| String::from_utf8_lossy(&found.stdout).into_owned());
        let mut sample = Self {
            resident: resident_octets(pid),
            descriptors: descriptors(pid),
            spent: (
                cpu_seconds(pid),
                ended_cpu_seconds() + around.iter().copied().map(cpu_seconds).sum::<f64>(),
            ),
            ..Self::default()
        };
        for line in text.unwrap_or_default().lines() {
            let Some((name, value)) = line.rsplit_once(' ') else { continue };
            let value: f64 = value.parse().unwrap_or_default();
            if name.starts_with("postern_sessions{") {
                sample.sessions += value;
            }
            let outcome = name
                .strip_prefix("postern_session_outcomes_total{outcome=\"")
                .and_then(|rest| rest.split('"').next());
            if let Some(outcome) = outcome.filter(|_| value > 0.0) {
                *sample.outcomes.entry(outcome.to_owned()).or_default() += value;
            }
        }
        sample
    }

    /// Gives everything that was begun the time to end.
    pub(crate) fn settle() {
        let _ = Command::new("sleep").arg("8").status();
    }

    pub(crate) fn head() -> String {
        format!(
            "{:>7} {:>6} {:>9} {:>6} {:>8}  attempts so far, by kind and fault",
            "s", "CPU s", "RSS MiB", "fds", "sessions"
        )
    }

    pub(crate) fn row(&self, time: Duration, said: &str) -> String {
        format!(
            "{:>7} {:>6.1} {:>9.1} {:>6} {:>8}  {said}",
            time.as_secs(),
            self.spent.0,
            self.resident as f64 / f64::from(1 << 20),
            self.descriptors,
            self.sessions,
        )
    }

    /// Processor time since `earlier`, as a share of the others'.
    fn cost_since(&self, earlier: &Self) -> f64 {
        (self.spent.0 - earlier.spent.0) / (self.spent.1 - earlier.spent.1)
    }

    pub(crate) fn outcomes(&self) -> String {
        let each = self.outcomes.iter().map(|(outcome, count)| format!("{outcome} {count}"));
        format!("outcomes: {}", each.collect::<Vec<_>>().join(", "))
    }
}

impl Verdict {
    pub(crate) fn new(before: Sample) -> Self {
        Self { before, samples: Vec::new(), counts: BTreeMap::new(), said: String::new() }
    }

    pub(crate) fn add(&mut self, sample: Sample, said: &str) {
        self.samples.push(sample);
        said.clone_into(&mut self.said);
    }

    pub(crate) fn end_part(&mut self) {
        for (how, count) in counts(&std::mem::take(&mut self.said)) {
            *self.counts.entry(how.to_owned()).or_default() += count;
        }
    }

    /// How many attempts ended.
    pub(crate) fn attempts(&self) -> f64 {
        ended(&said(&self.counts)) as f64
    }

    fn count(&self, how: &str) -> u64 {
        self.counts.get(how).copied().unwrap_or_default()
    }

    /// Everything that should not be.
    pub(crate) fn faults(&self, after: &Sample, is_whole: bool) -> Vec<String> {
        let mut faults = Vec::new();
        if !is_whole {
            faults.push("the client broke off".to_owned());
        }
        for (how, count) in self.counts.iter().filter(|(how, _)| how.contains('!')) {
            faults.push(format!("attempts that ended as they should not: {how}={count}"));
        }
        let late = self.count("late");
        if late > 0 {
            faults.push(format!("{late} attempts found no place"));
        }
        let missed = self.count("missed");
        if missed as f64 > self.attempts() / MISSABLE {
            faults.push(format!("the client stood still for {missed} attempts"));
        }
        // A machine that does less does less for all; one that grows slower by itself costs more
        // beside the others.
        let third = self.samples.len() / 3;
        let early = (self.samples.first(), self.samples.get(third));
        let late = (self.samples.get(2 * third), self.samples.iter().rev().nth(1));
        if let ((Some(first), Some(second)), (Some(third), Some(last))) = (early, late)
            && last.cost_since(third) > second.cost_since(first) * DEARER
        {
            let (early, late) = (second.cost_since(first), last.cost_since(third));
            faults
                .push(format!("it took {early:.2} of the others' processor time, then {late:.2}"));
        }
        let outcomes = |outcome: &&String| !EXPLAINED.contains(&outcome.as_str());
        for outcome in after.outcomes.keys().filter(outcomes) {
            faults.push(format!(
                "{} sessions ended {outcome}",
                after.outcomes.get(outcome).unwrap_or(&0.0)
            ));
        }
        if after.sessions > 0.0 {
            faults.push(format!("{} sessions never ended", after.sessions));
        }
        let grown = after.descriptors.saturating_sub(self.before.descriptors);
        if grown > DESCRIPTORS {
            faults.push(format!("{grown} descriptors more than before the load"));
        }
        // The first third fills pools and tables; from then on nothing may grow.
        let (early, late) = self.samples.split_at(self.samples.len() / 3);
        let most = |samples: &[Sample]| samples.iter().map(|sample| sample.resident).max();
        if let (Some(early), Some(late)) = (most(early), most(late))
            && late > early + early / 10 + GROWTH
        {
            faults.push(format!("memory grew from {early} to {late} octets"));
        }
        faults
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&said(&self.counts))
    }
}

/// Attempts by how they ended, in one line.
pub(crate) fn said(ended: &BTreeMap<String, u64>) -> String {
    ended.iter().map(|(how, count)| format!("{how}={count}")).collect::<Vec<_>>().join(" ")
}

/// How many attempts such a line tells of.
pub(crate) fn ended(said: &str) -> u64 {
    counts(said)
        .filter(|(how, _)| !["late", "missed", "slowed"].contains(how))
        .map(|(_, count)| count)
        .sum()
}

fn counts(said: &str) -> impl Iterator<Item = (&str, u64)> {
    let counts = said.split_whitespace().filter_map(|word| word.split_once('='));
    counts.filter_map(|(how, count)| Some((how, count.parse().ok()?)))
}

/// Outcomes that the attempts cause.
const EXPLAINED: [&str; 6] = [
    "finished",
    "policy-denied",
    "subscriber-gone",
    "subscriber-idle",
    "subscriber-malformed",
    "subscriber-reset",
];
/// Descriptors that stay behind a load: two pools of 64 pipes, and a few.
const DESCRIPTORS: usize = 2 * 64 * 2 + 16;
/// By so much may its share of the processor time grow.
const DEARER: f64 = 1.2;
/// Of so many attempts, one may be missed because the whole machine stood still.
const MISSABLE: f64 = 1_000.0;
/// Octets that memory may move by.
const GROWTH: u64 = 4 << 20;
