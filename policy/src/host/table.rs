//! The matcher: patterns filed by the name they end in; the most specific entry speaks first.

use std::{hash::BuildHasher, ops::ControlFlow, slice};

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use smallvec::SmallVec;

use super::{HostName, HostPattern, PatternKind};

/// Values filed under host patterns.
///
/// Specificity is the length of the fixed text; for equal text exact, then below, then both, then
/// suffix. An empty table matches nothing. A look-up takes one probe for each label of the name,
/// up to as many labels as the longest pattern has, whatever the number of patterns.
#[derive(Clone, Debug)]
pub struct HostTable<T> {
    /// By name. Only probed, never walked, so its order shows nowhere. What is in it comes from the
    /// policy's author: no key of a subscriber's choice can crowd it.
    ends: HashTable<End<T>>,
    /// Labels of the longest name in `ends`.
    depth: usize,
    /// What suffix patterns ask of a label; see [`Shape::Suffix`].
    tails: Vec<Box<str>>,
}

/// The values of one pattern, in the order in which they were filed.
#[derive(Clone, Debug)]
pub struct Values<'t, T>(slice::Iter<'t, Filed<T>>);

/// A name that some patterns end in, at a label boundary.
///
/// What is usual lies in place: a name of up to 32 octets, one value of 8. In a large table each
/// step to other memory costs a hundred nanoseconds, so such an end is one line of the cache.
#[derive(Clone, Debug)]
#[repr(align(64))]
struct End<T> {
    name: SmallVec<[u8; 32]>,
    /// By rank: exact, suffixes with the longest first, below, both.
    filed: SmallVec<[Filed<T>; 1]>,
}

#[derive(Clone, Debug)]
struct Filed<T> {
    shape: Shape,
    value: T,
}

/// How a pattern goes on to the left of its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Exact,
    /// The label to the left ends in the tail at this place.
    Suffix(u32),
    Below,
    Both,
}

impl<T> HostTable<T> {
    /// Files `value` under `pattern`, after the values that are there already.
    pub fn insert(&mut self, pattern: &HostPattern, value: T) {
        let base = pattern.base().as_str();
        let (name, shape) = match (pattern.kind(), base.split_once('.')) {
            (PatternKind::Exact, _) => (base, Shape::Exact),
            (PatternKind::Below, _) => (base, Shape::Below),
            (PatternKind::Both, _) => (base, Shape::Both),
            (PatternKind::Suffix, Some((label, parent))) => (parent, self.suffix(label)),
            // A suffix lies below its `within`, so there is a dot; without one it matches nothing.
            (PatternKind::Suffix, None) => return,
        };
        self.depth = self.depth.max(name.split('.').count());
        let Self { ends, tails, .. } = self;
        ends.entry(hash(name), |end| end.is(name), |end| hash_octets(&end.name))
            .or_insert_with(|| End { name: name.as_bytes().into(), filed: SmallVec::new() })
            .into_mut()
            .file(Filed { shape, value }, tails);
    }

    /// Shows the values of every pattern that matches `host`, most specific pattern first, until
    /// `visit` breaks.
    pub fn visit<'t, B>(
        &'t self,
        host: &HostName,
        mut visit: impl FnMut(Values<'t, T>) -> ControlFlow<B>,
    ) -> Option<B> {
        match self.walk(host.as_str(), &mut visit) {
            ControlFlow::Break(found) => Some(found),
            ControlFlow::Continue(()) => None,
        }
    }

    /// From the longest end of `host` that can be filed to the shortest.
    fn walk<'t, B>(
        &'t self,
        host: &str,
        visit: &mut impl FnMut(Values<'t, T>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let mut left = start_of_last_labels(host, self.depth);
        while let Some((before, end)) = host.split_at_checked(left) {
            if let Some(found) = self.ends.find(hash(end), |known| known.is(end)) {
                let label = before
                    .strip_suffix('.')
                    .map(|before| before.rsplit_once('.').map_or(before, |(_, label)| label));
                found.show(label, &self.tails, visit)?;
            }
            match end.bytes().position(|octet| octet == b'.') {
                Some(dot) => left += dot + 1,
                None => break,
            }
        }
        ControlFlow::Continue(())
    }

    /// The shape of a suffix pattern that asks `tail` of a label.
    fn suffix(&mut self, tail: &str) -> Shape {
        let known = self.tails.iter().position(|known| **known == *tail);
        let place = known.unwrap_or_else(|| {
            self.tails.push(tail.into());
            self.tails.len() - 1
        });
        // A document holds far fewer entries than there are numbers; a tail that is not there
        // matches nothing.
        Shape::Suffix(u32::try_from(place).unwrap_or(u32::MAX))
    }
}

impl<T> End<T> {
    fn is(&self, name: &str) -> bool {
        *self.name == *name.as_bytes()
    }

    fn file(&mut self, new: Filed<T>, tails: &[Box<str>]) {
        let rank = new.shape.rank(tails);
        let at = self.filed.partition_point(|known| known.shape.rank(tails) <= rank);
        self.filed.insert(at, new);
    }

    /// `label` is the one to the left of this end; none if the end is the whole name.
    fn show<'t, B>(
        &'t self,
        label: Option<&str>,
        tails: &[Box<str>],
        visit: &mut impl FnMut(Values<'t, T>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        for filed in self.filed.chunk_by(|one, next| one.shape == next.shape) {
            let Some(Filed { shape, .. }) = filed.first() else { continue };
            let matches = match (shape, label) {
                (Shape::Exact, label) => label.is_none(),
                (Shape::Both, _) | (Shape::Below, Some(_)) => true,
                (Shape::Suffix(place), Some(label)) => {
                    tail(*place, tails).is_some_and(|tail| label.ends_with(tail))
                }
                (Shape::Below | Shape::Suffix(_), None) => false,
            };
            if matches {
                visit(Values(filed.iter()))?;
            }
        }
        ControlFlow::Continue(())
    }
}

impl Shape {
    /// The order in which the patterns of one end speak; longer suffixes before shorter ones, and
    /// equal ones side by side.
    fn rank(self, tails: &[Box<str>]) -> (u8, usize, u32) {
        match self {
            Self::Exact => (0, 0, 0),
            Self::Suffix(place) => (1, usize::MAX - tail(place, tails).map_or(0, str::len), place),
            Self::Below => (2, 0, 0),
            Self::Both => (3, 0, 0),
        }
    }
}

fn tail(place: u32, tails: &[Box<str>]) -> Option<&str> {
    usize::try_from(place).ok().and_then(|place| tails.get(place)).map(|tail| &**tail)
}

impl<'t, T> Iterator for Values<'t, T> {
    type Item = &'t T;

    fn next(&mut self) -> Option<&'t T> {
        self.0.next().map(|filed| &filed.value)
    }
}

impl<T> Default for HostTable<T> {
    fn default() -> Self {
        Self { ends: HashTable::new(), depth: 0, tails: Vec::new() }
    }
}

/// Where the last `count` labels of `host` begin: a name may have 127 labels, and those beyond the
/// longest pattern are not worth a probe each.
fn start_of_last_labels(host: &str, count: usize) -> usize {
    let Some(before) = count.checked_sub(1) else { return host.len() };
    let dots = host.bytes().enumerate().rev().filter(|(_, octet)| *octet == b'.');
    dots.map(|(dot, _)| dot + 1).nth(before).unwrap_or(0)
}

fn hash(name: &str) -> u64 {
    hash_octets(name.as_bytes())
}

fn hash_octets(name: &[u8]) -> u64 {
    FixedState::with_seed(0).hash_one(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> HostPattern {
        let within = text
            .strip_prefix('*')
            .filter(|rest| !rest.starts_with('.'))
            .and_then(|rest| rest.split_once('.'))
            .map(|(_, parent)| HostName::parse(parent).unwrap());
        HostPattern::parse(text, within.as_ref()).unwrap()
    }

    fn table(patterns: &[&'static str]) -> HostTable<&'static str> {
        let mut table = HostTable::default();
        for text in patterns {
            table.insert(&pattern(text), *text);
        }
        table
    }

    fn order(table: &HostTable<&'static str>, host: &str) -> Vec<&'static str> {
        let mut seen = Vec::new();
        let host = HostName::parse(host).unwrap();
        let _: Option<()> = table.visit(&host, |values| {
            seen.extend(values);
            ControlFlow::Continue(())
        });
        seen
    }

    #[test]
    fn the_most_specific_pattern_speaks_first() {
        let table = table(&[
            ".com",
            "*.com",
            "*ft.example.com",
            ".example.com",
            "*.example.com",
            "*soft.example.com",
            "soft.example.com",
            "*.soft.example.com",
            ".soft.example.com",
        ]);
        assert_eq!(
            order(&table, "soft.example.com"),
            [
                "soft.example.com",
                ".soft.example.com",
                "*soft.example.com",
                "*ft.example.com",
                "*.example.com",
                ".example.com",
                "*.com",
                ".com",
            ],
        );
        assert_eq!(
            order(&table, "a.soft.example.com"),
            [
                "*.soft.example.com",
                ".soft.example.com",
                "*soft.example.com",
                "*ft.example.com",
                "*.example.com",
                ".example.com",
                "*.com",
                ".com",
            ],
        );
        assert_eq!(order(&table, "example.com"), [".example.com", "*.com", ".com"]);
        assert_eq!(order(&table, "example.net"), Vec::<&str>::new());
    }

    #[test]
    fn label_boundaries_hold() {
        let table = table(&["*.x.example", "y.example", "*smartscreen.microsoft.com"]);
        for (host, expected) in [
            ("a.x.example", 1),
            ("b.a.x.example", 1),
            ("x.example", 0),
            ("bad-x.example", 0),
            ("a.y.example", 0),
            ("smartscreen.microsoft.com", 1),
            ("nav-edge.smartscreen.microsoft.com", 1),
            ("foosmartscreen.microsoft.com", 1),
            ("a.foosmartscreen.microsoft.com", 1),
            ("x.smartscreen-prod.microsoft.com", 0),
            ("smartscreen.microsoft.com.evil.example", 0),
            ("microsoft.com", 0),
        ] {
            assert_eq!(order(&table, host).len(), expected, "{host}");
        }
    }

    #[test]
    fn an_empty_table_matches_nothing() {
        assert!(order(&HostTable::default(), "example.com").is_empty());
    }

    /// The rule of the pattern table, written down without any structure.
    fn naive(pattern: &HostPattern, host: &HostName) -> bool {
        let (host, base) = (host.as_str(), pattern.base().as_str());
        let below = host.ends_with(&format!(".{base}"));
        match pattern.kind() {
            PatternKind::Exact => host == base,
            PatternKind::Below => below,
            PatternKind::Both => host == base || below,
            PatternKind::Suffix => host.ends_with(base),
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_naive_reading(
            patterns in proptest::collection::vec("(\\*\\.|\\.|\\*)?[ab]{1,2}(\\.[ab]{1,2}){1,3}", 1..12),
            host in "[ab]{1,3}(\\.[ab]{1,2}){0,4}",
        ) {
            let host = HostName::parse(&host).unwrap();
            let mut table = HostTable::default();
            let patterns: Vec<HostPattern> = patterns.iter().map(|text| pattern(text)).collect();
            for (index, pattern) in patterns.iter().enumerate() {
                table.insert(pattern, index);
            }
            let mut seen: Vec<usize> = Vec::new();
            let _: Option<()> = table.visit(&host, |values| {
                seen.extend(values);
                ControlFlow::Continue(())
            });
            let lengths: Vec<usize> =
                seen.iter().map(|index| patterns[*index].base().as_str().len()).collect();
            prop_assert!(lengths.is_sorted_by(|a, b| a >= b), "{lengths:?}");
            seen.sort_unstable();
            let expected: Vec<usize> =
                (0..patterns.len()).filter(|index| naive(&patterns[*index], &host)).collect();
            prop_assert_eq!(seen, expected);
        }
    }
}
