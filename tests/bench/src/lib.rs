//! What the benchmarks share: seeded numbers, percentiles, peak memory, loads.
//!
//! Benchmarks are run by hand, never by a test: the machines are shared, and a time that is
//! asserted there fails for no reason. Each prints the figures and the seed they were made with.

#![expect(clippy::expect_used, reason = "a benchmark ends where it cannot go on")]

pub mod api;
pub mod garden;
pub mod hello;
pub mod load;
pub mod nas;
pub mod network;
pub mod origin;
pub mod policies;
pub mod usage;

/// A seeded sequence of numbers (SplitMix64): the same seed gives the same benchmark.
#[derive(Clone, Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// Starts the sequence of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    }

    /// The next number below `bound`; 0 for a bound of 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.draw() % bound).unwrap_or(0)
    }
}

/// The value below which `share` (0 to 1) of the sorted values lie.
#[must_use]
pub fn percentile(sorted: &[f64], share: f64) -> f64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a place in a list that is held in memory"
    )]
    let place = ((sorted.len().saturating_sub(1)) as f64 * share).round() as usize;
    sorted.get(place).copied().unwrap_or(f64::NAN)
}

/// The most memory the process held at once, in MiB.
#[must_use]
pub fn peak_memory_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib / 1024)
}

/// The most memory any process that this one started and waited for held at once, in MiB.
#[must_use]
pub fn peak_memory_of_children_mib() -> Option<u64> {
    use nix::sys::resource::{UsageWho, getrusage};
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).ok()?;
    u64::try_from(usage.max_rss()).ok().map(|kib| kib / 1024)
}
