//! How often a NAS may say that it restarted. Each time, all its subscribers fall to the garden.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// The restarts of the last minute, by NAS.
#[derive(Debug, Default)]
pub(crate) struct Resets(HashMap<String, (Instant, u32)>);

impl Resets {
    /// Whether `nas` may say so once more. What is refused is not answered: it comes again.
    pub(crate) fn admit(&mut self, nas: &str, now: Instant) -> bool {
        let over = |since: Instant| now.saturating_duration_since(since) >= WINDOW;
        if let Some((since, count)) = self.0.get_mut(nas) {
            if over(*since) {
                (*since, *count) = (now, 0);
            }
            *count += 1;
            return *count <= RESETS_MAX;
        }
        if self.0.len() >= NAS_MAX {
            self.0.retain(|_, (since, _)| !over(*since));
        }
        let room = self.0.len() < NAS_MAX;
        if room {
            self.0.insert(nas.to_owned(), (now, 1));
        }
        room
    }
}

const WINDOW: Duration = Duration::from_secs(60);
/// Restarts of one NAS in a minute.
const RESETS_MAX: u32 = 10;
/// NAS that are watched.
const NAS_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nas_restarts_ten_times_a_minute_and_no_more() {
        let (mut resets, now) = (Resets::default(), crate::clock::monotonic());
        let admitted = (0..15).filter(|_| resets.admit("pgw-1", now)).count();
        assert_eq!((admitted, resets.admit("pgw-2", now)), (10, true));
        assert!(resets.admit("pgw-1", now + WINDOW));
    }

    #[test]
    fn watches_a_bounded_number_of_nas() {
        let (mut resets, now) = (Resets::default(), crate::clock::monotonic());
        let admitted = (0..NAS_MAX + 5).filter(|at| resets.admit(&at.to_string(), now)).count();
        assert_eq!(admitted, NAS_MAX);
        assert!(resets.admit("new", now + WINDOW));
    }
}
