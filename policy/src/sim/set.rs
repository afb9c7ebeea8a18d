//! Many identities: those listed one by one and those that lie in ranges, kept apart, because a
//! list beats a range.

use std::ops::Range;

use super::{Identity, IdentityRange, InvalidIdentity};

/// Identities of a match entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct IdentitySet<I> {
    /// In order, without repetition.
    listed: Vec<I>,
    /// In order, none touching another.
    ranges: Vec<IdentityRange<I>>,
}

/// How two sets of identities lie to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meeting {
    /// No identity is in both.
    Apart,
    /// All that are in both are listed here and in a range there.
    ListedHere,
    /// All that are in both are in a range here and listed there.
    ListedThere,
    /// Some identity is listed in both, or in a range of both.
    Tied,
}

impl<I: Identity> IdentitySet<I> {
    /// The set of all identities in `all`; ranges of one identity count as listed.
    pub(crate) fn new(all: impl IntoIterator<Item = IdentityRange<I>>) -> Self {
        let (mut listed, mut wide) = (Vec::new(), Vec::new());
        for range in all {
            if range.is_single() { listed.push(range.start) } else { wide.push(range) }
        }
        listed.sort_unstable();
        listed.dedup();
        wide.sort_unstable();
        let mut ranges: Vec<IdentityRange<I>> = Vec::with_capacity(wide.len());
        for range in wide {
            match ranges.last_mut() {
                // Identities of another length never lie between two of one length.
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                Some(_) | None => ranges.push(range),
            }
        }
        Self { listed, ranges }
    }

    /// Whether `identity` is listed, or lies in a range.
    pub(crate) fn contains(&self, identity: I) -> bool {
        self.lists(identity) || in_range(&self.ranges, identity)
    }

    /// Whether `identity` is listed by itself.
    pub(crate) fn lists(&self, identity: I) -> bool {
        self.listed.binary_search(&identity).is_ok()
    }

    /// Whether nothing is listed by itself.
    pub(crate) fn lists_none(&self) -> bool {
        self.listed.is_empty()
    }

    /// The identities that are listed by themselves, without the ranges.
    pub(crate) fn only_listed(&self) -> Self {
        Self { listed: self.listed.clone(), ranges: Vec::new() }
    }

    /// Everything in the set as ranges.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = IdentityRange<I>> + '_ {
        let single = self.listed.iter().map(|one| IdentityRange { start: *one, end: *one });
        single.chain(self.ranges.iter().copied())
    }

    /// How this set and `other` lie to each other.
    pub(crate) fn meet(&self, other: &Self) -> Meeting {
        let both_listed = self.listed.iter().any(|one| other.lists(*one));
        let both_ranges = self.ranges.iter().any(|range| touches(&other.ranges, range));
        let here = self.listed.iter().any(|one| in_range(&other.ranges, *one));
        let there = other.listed.iter().any(|one| in_range(&self.ranges, *one));
        match (both_listed || both_ranges, here, there) {
            (true, _, _) | (false, true, true) => Meeting::Tied,
            (false, true, false) => Meeting::ListedHere,
            (false, false, true) => Meeting::ListedThere,
            (false, false, false) => Meeting::Apart,
        }
    }

    /// Whether every identity of this set is in `other`.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        self.listed.iter().all(|one| other.contains(*one))
            && self.ranges.iter().all(|range| {
                let after = other.ranges.partition_point(|wide| wide.start <= range.start);
                let wide = after.checked_sub(1).and_then(|index| other.ranges.get(index));
                wide.is_some_and(|wide| range.end <= wide.end)
            })
    }
}

/// Reads `start-end; start-end`, the text of Microsoft's configuration sheets: ranges and single
/// identities, semicolons between them.
///
/// # Errors
///
/// The first one that is not a range.
pub(crate) fn read_ranges<I: Identity>(
    text: &str,
) -> Result<Vec<IdentityRange<I>>, InvalidIdentity> {
    let text = text.trim();
    let text = text.strip_suffix(';').unwrap_or(text);
    text.split(';').map(IdentityRange::parse).collect()
}

/// A place in a list and what stands there.
pub(crate) type Listed<I> = (Range<usize>, Result<IdentityRange<I>, InvalidIdentity>);

/// Reads a list: one identity or range a line, or several with semicolons between them; `#` begins
/// a comment.
pub(crate) fn read_list<I: Identity>(text: &str) -> impl Iterator<Item = Listed<I>> + '_ {
    let mut next = 0;
    let lines = text.split_inclusive('\n').map(move |line| {
        let start = next;
        next += line.len();
        (start, line.split('#').next().unwrap_or_default())
    });
    let items = lines.flat_map(|(start, line)| {
        let mut next = start;
        line.split(';').map(move |piece| {
            let from = next + (piece.len() - piece.trim_start().len());
            next += piece.len() + 1;
            (from, piece.trim())
        })
    });
    items
        .filter(|(_, item)| !item.is_empty())
        .map(|(from, item)| (from..from + item.len(), IdentityRange::parse(item)))
}

fn in_range<I: Identity>(ranges: &[IdentityRange<I>], identity: I) -> bool {
    let after = ranges.partition_point(|range| range.start <= identity);
    let before = after.checked_sub(1).and_then(|index| ranges.get(index));
    before.is_some_and(|range| range.contains(identity))
}

fn touches<I: Identity>(ranges: &[IdentityRange<I>], range: &IdentityRange<I>) -> bool {
    let after = ranges.partition_point(|known| known.end < range.start);
    ranges.get(after).is_some_and(|known| known.overlaps(range))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sim::{Iccid, Imsi};

    fn imsi(number: u8) -> Imsi {
        Imsi::parse(&format!("001010000000{number:03}")).unwrap()
    }

    fn range((start, length): (u8, u8)) -> IdentityRange<Imsi> {
        IdentityRange { start: imsi(start), end: imsi(start + length) }
    }

    #[test]
    fn reads_the_text_of_configuration_sheets() {
        let text =
            "1212123000100295352-1212123000100295360; 1212123000100295782-1212123000100295832";
        for text in [text.to_owned(), format!(" {text} ; ")] {
            let read: Vec<IdentityRange<Iccid>> = read_ranges(&text).unwrap();
            assert_eq!((read.len(), read[0].is_single()), (2, false));
        }
        for text in ["", ";", "1212123000100295352;;1212123000100295353", "1212123000100295352,"] {
            assert!(read_ranges::<Iccid>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn reads_lists_with_comments_and_places() {
        let text = "# ours; x\r\n001010000000001\r\n\n 001010000000002-001010000000003 ; x # y; z\n\
                    001010000000004";
        let read: Vec<_> = read_list::<Imsi>(text).collect();
        let written: Vec<&str> = read.iter().map(|(span, _)| &text[span.clone()]).collect();
        assert_eq!(
            written,
            ["001010000000001", "001010000000002-001010000000003", "x", "001010000000004"]
        );
        let sound: Vec<bool> = read.iter().map(|(_, range)| range.is_ok()).collect();
        assert_eq!(sound, [true, true, false, true]);
    }

    proptest! {
        #[test]
        fn agrees_with_a_search_through_all(
            one in proptest::collection::vec((0_u8..60, 0_u8..4), 0..6),
            other in proptest::collection::vec((0_u8..60, 0_u8..4), 0..6),
        ) {
            let sets = [&one, &other].map(|list| IdentitySet::new(list.iter().copied().map(range)));
            let [here, there] = &sets;
            for number in 0..64 {
                for (list, set) in [&one, &other].into_iter().zip(&sets) {
                    let inside = list.iter().any(|item| range(*item).contains(imsi(number)));
                    let listed = list.contains(&(number, 0));
                    prop_assert_eq!(set.contains(imsi(number)), inside);
                    prop_assert_eq!(set.lists(imsi(number)), listed);
                }
            }
            let shared: Vec<Imsi> = (0..64)
                .map(imsi)
                .filter(|one| here.contains(*one) && there.contains(*one))
                .collect();
            let meeting = here.meet(there);
            prop_assert_eq!(meeting == Meeting::Apart, shared.is_empty());
            if meeting == Meeting::ListedHere {
                prop_assert!(shared.iter().all(|one| here.lists(*one) && !there.lists(*one)));
            }
            if here.is_within(there) {
                prop_assert!(
                    (0..64).map(imsi).all(|one| !here.contains(one) || there.contains(one))
                );
            }
        }
    }
}
