//! One direction of a TCP connection, put back in order.
//!
//! Of octets that came twice the first copy counts, as it does for most receivers; a second copy
//! that differs is told, because it is what an evasion looks like.

use std::collections::BTreeMap;

/// The octets of one direction, in order as far as they have come.
#[derive(Debug)]
pub(super) struct Stream {
    /// Sequence number of the first octet.
    first: u32,
    /// Octets handed on.
    passed: u64,
    /// The first octets handed on, to compare repetitions with.
    kept: Vec<u8>,
    /// What came too early, by its place; without overlap.
    early: BTreeMap<u64, Vec<u8>>,
    early_octets: usize,
}

/// What became of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// An octet came again and was another.
    pub(super) conflict: bool,
    /// More is missing than is waited for.
    pub(super) gap: bool,
}

impl Stream {
    /// A stream whose first octet has this sequence number.
    pub(super) fn new(first: u32) -> Self {
        Self { first, passed: 0, kept: Vec::new(), early: BTreeMap::new(), early_octets: 0 }
    }

    /// Takes a segment; hands on to `out` whatever is in order.
    pub(super) fn push(&mut self, sequence: u32, octets: &[u8], out: &mut Vec<u8>) -> Taken {
        let Some((start, octets)) = self.place(sequence, octets) else { return Taken::default() };
        let mut taken = Taken { conflict: self.differs(start, octets), gap: false };
        let behind = usize::try_from(self.passed.saturating_sub(start)).unwrap_or(usize::MAX);
        let Some(fresh) = octets.get(behind..).filter(|fresh| !fresh.is_empty()) else {
            return taken;
        };
        let start = start.max(self.passed);
        if self.early.is_empty() && start == self.passed {
            self.pass(fresh, out);
            return taken;
        }
        taken.conflict |= self.keep_early(start, fresh);
        while let Some(next) = self.early.remove(&self.passed) {
            self.early_octets = self.early_octets.saturating_sub(next.len());
            self.pass(&next, out);
        }
        taken.gap = self.early_octets > MAX_EARLY_OCTETS || self.early.len() > MAX_EARLY_SEGMENTS;
        taken
    }

    /// Octets handed on so far.
    pub(super) fn passed(&self) -> u64 {
        self.passed
    }

    /// Whether something came that could not be handed on.
    pub(super) fn has_gap(&self) -> bool {
        !self.early.is_empty()
    }

    /// The sequence number of the first octet.
    pub(super) fn first(&self) -> u32 {
        self.first
    }

    /// Octets in memory.
    pub(super) fn held(&self) -> usize {
        self.kept.len() + self.early_octets
    }

    /// The place of a segment in the stream, without what lies before the first octet.
    fn place<'o>(&self, sequence: u32, octets: &'o [u8]) -> Option<(u64, &'o [u8])> {
        let low = u32::try_from(self.passed & u64::from(u32::MAX)).unwrap_or_default();
        let next = self.first.wrapping_add(low);
        // Sequence numbers wrap; what is nearer behind than ahead is behind (RFC 9293 section 3.4).
        let distance = i64::from(sequence.wrapping_sub(next).cast_signed());
        let start = i64::try_from(self.passed).ok()?.checked_add(distance)?;
        match u64::try_from(start) {
            Ok(start) => Some((start, octets)),
            Err(_) => {
                let before = usize::try_from(start.unsigned_abs()).ok()?;
                octets.get(before..).map(|octets| (0, octets))
            }
        }
    }

    fn differs(&self, start: u64, octets: &[u8]) -> bool {
        let known = usize::try_from(start).ok().and_then(|start| self.kept.get(start..));
        known.is_some_and(|known| known.iter().zip(octets).any(|(known, octet)| known != octet))
    }

    fn pass(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        self.passed = self.passed.saturating_add(u64::try_from(octets.len()).unwrap_or(u64::MAX));
        let room = MAX_KEPT_OCTETS.saturating_sub(self.kept.len()).min(octets.len());
        self.kept.extend_from_slice(octets.get(..room).unwrap_or_default());
        out.extend_from_slice(octets);
    }

    /// Keeps what of the segment is not there yet; says whether the rest differs.
    fn keep_early(&mut self, start: u64, octets: &[u8]) -> bool {
        let length = |octets: &[u8]| u64::try_from(octets.len()).unwrap_or(u64::MAX);
        let end = start.saturating_add(length(octets));
        let part = |from: u64, to: u64| {
            let from = usize::try_from(from.saturating_sub(start)).unwrap_or(usize::MAX);
            let to = usize::try_from(to.saturating_sub(start)).unwrap_or(usize::MAX);
            octets.get(from..to).unwrap_or_default()
        };
        let (mut at, mut conflict, mut holes) = (start, false, Vec::new());
        for (&known_start, known) in &self.early {
            let known_end = known_start.saturating_add(length(known));
            if known_end <= at {
                continue;
            }
            if known_start >= end {
                break;
            }
            if at < known_start {
                holes.push((at, known_start));
                at = known_start;
            }
            let skip = usize::try_from(at - known_start).unwrap_or(usize::MAX);
            let known = known.get(skip..).unwrap_or_default();
            let again = part(at, end.min(known_end));
            conflict |= known.iter().zip(again).any(|(known, octet)| known != octet);
            at = known_end.min(end);
        }
        if at < end {
            holes.push((at, end));
        }
        for (from, to) in holes {
            let piece = part(from, to).to_vec();
            self.early_octets += piece.len();
            self.early.insert(from, piece);
        }
        conflict
    }
}

/// Octets that may wait for a missing segment.
const MAX_EARLY_OCTETS: usize = 64 * 1024;
/// Segments that may wait for a missing one.
const MAX_EARLY_SEGMENTS: usize = 128;
/// First octets of a stream that repetitions are compared with: the longest hello with its headers.
const MAX_KEPT_OCTETS: usize = 17 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(first: u32, segments: &[(u32, &[u8])]) -> (Vec<u8>, Vec<Taken>) {
        let (mut stream, mut out) = (Stream::new(first), Vec::new());
        let taken =
            segments.iter().map(|(at, octets)| stream.push(*at, octets, &mut out)).collect();
        (out, taken)
    }

    #[test]
    fn first_copy_wins_and_a_second_that_differs_is_told() {
        for first in [0, 1_000, u32::MAX - 2] {
            let at = |offset: u32| first.wrapping_add(offset);
            let (out, taken) = run(first, &[(at(0), b"abc"), (at(1), b"bXd")]);
            assert_eq!((out.as_slice(), taken[1].conflict), (&b"abcd"[..], true));
            let (out, taken) = run(first, &[(at(2), b"cd"), (at(0), b"abXY"), (at(3), b"de")]);
            assert_eq!(out, b"abcde");
            assert_eq!(taken.iter().map(|t| t.conflict).collect::<Vec<_>>(), [false, true, false]);
        }
    }

    #[test]
    fn gives_up_when_too_much_is_missing() {
        let (mut stream, mut out) = (Stream::new(0), Vec::new());
        let taken = stream.push(10, &vec![0; MAX_EARLY_OCTETS], &mut out);
        assert!(!taken.gap);
        assert!(stream.push(100_000, &[0], &mut out).gap);
        assert!(out.is_empty());
        let (mut stream, mut out) = (Stream::new(0), Vec::new());
        let gaps = (1..300_u32).filter(|n| stream.push(n * 2, &[0], &mut out).gap).count();
        assert_eq!(gaps, 299 - MAX_EARLY_SEGMENTS);
    }

    proptest! {
        #[test]
        fn any_order_of_true_segments_gives_the_stream(
            text in proptest::collection::vec(any::<u8>(), 1..200),
            cuts in proptest::collection::vec((0_usize..200, 1_usize..50), 0..40),
            first in any::<u32>(),
        ) {
            let (mut stream, mut out) = (Stream::new(first), Vec::new());
            let whole = (0..text.len()).map(|at| (at, 1));
            for (at, length) in cuts.into_iter().chain(whole) {
                let at = at.min(text.len());
                let piece = &text[at..(at + length).min(text.len())];
                let sequence = first.wrapping_add(u32::try_from(at).unwrap());
                let taken = stream.push(sequence, piece, &mut out);
                prop_assert_eq!(taken, Taken::default());
            }
            prop_assert_eq!(out, text);
            prop_assert_eq!(stream.early_octets, 0);
        }
    }
}
