//! The matcher: patterns filed by label, rightmost first; the most specific entry speaks first.

use std::{collections::BTreeMap, ops::ControlFlow};

use super::{HostName, HostPattern, PatternKind};

/// Values filed under host patterns.
///
/// Specificity is the length of the fixed text; for equal text exact, then below, then both, then
/// suffix. An empty table matches nothing.
#[derive(Clone, Debug)]
pub struct HostTable<T> {
    root: Node<T>,
}

#[derive(Clone, Debug)]
struct Node<T> {
    children: BTreeMap<Box<str>, Self>,
    exact: Vec<T>,
    below: Vec<T>,
    both: Vec<T>,
    /// Ends of a label, longest first.
    suffixes: Vec<(Box<str>, Vec<T>)>,
}

impl<T> HostTable<T> {
    /// Files `value` under `pattern`, after the values that are there already.
    pub fn insert(&mut self, pattern: &HostPattern, value: T) {
        let mut labels: Vec<&str> = pattern.base().labels().collect();
        let tail = match pattern.kind() {
            PatternKind::Suffix if !labels.is_empty() => Some(labels.remove(0)),
            PatternKind::Suffix | PatternKind::Exact | PatternKind::Below | PatternKind::Both => {
                None
            }
        };
        let mut node = &mut self.root;
        for label in labels.into_iter().rev() {
            node = node.children.entry(label.into()).or_default();
        }
        match (pattern.kind(), tail) {
            (PatternKind::Exact, _) => node.exact.push(value),
            (PatternKind::Below, _) => node.below.push(value),
            (PatternKind::Both, _) => node.both.push(value),
            (PatternKind::Suffix, tail) => node.file_suffix(tail.unwrap_or_default(), value),
        }
    }

    /// Shows the values of every pattern that matches `host`, most specific pattern first, until
    /// `visit` breaks.
    pub fn visit<'t, B>(
        &'t self,
        host: &HostName,
        mut visit: impl FnMut(&'t [T]) -> ControlFlow<B>,
    ) -> Option<B> {
        match descend(&self.root, host.as_str(), &mut visit) {
            ControlFlow::Break(found) => Some(found),
            ControlFlow::Continue(()) => None,
        }
    }
}

impl<T> Default for HostTable<T> {
    fn default() -> Self {
        Self { root: Node::default() }
    }
}

impl<T> Node<T> {
    fn file_suffix(&mut self, tail: &str, value: T) {
        if let Some((_, values)) = self.suffixes.iter_mut().find(|(known, _)| &**known == tail) {
            values.push(value);
            return;
        }
        let at = self.suffixes.partition_point(|(known, _)| known.len() >= tail.len());
        self.suffixes.insert(at, (tail.into(), vec![value]));
    }
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self {
            children: BTreeMap::new(),
            exact: Vec::new(),
            below: Vec::new(),
            both: Vec::new(),
            suffixes: Vec::new(),
        }
    }
}

/// `rest` is the part of the name left of the labels already consumed; empty when none is left.
/// The depth is bounded by the labels of a [`HostName`], at most 127.
fn descend<'t, T, B>(
    node: &'t Node<T>,
    rest: &str,
    visit: &mut impl FnMut(&'t [T]) -> ControlFlow<B>,
) -> ControlFlow<B> {
    if rest.is_empty() {
        show(&node.exact, visit)?;
        return show(&node.both, visit);
    }
    let (left, label) = rest.rsplit_once('.').unwrap_or(("", rest));
    if let Some(child) = node.children.get(label) {
        descend(child, left, visit)?;
    }
    for (tail, values) in &node.suffixes {
        if label.ends_with(&**tail) {
            show(values, visit)?;
        }
    }
    show(&node.below, visit)?;
    show(&node.both, visit)
}

fn show<'t, T, B>(
    values: &'t [T],
    visit: &mut impl FnMut(&'t [T]) -> ControlFlow<B>,
) -> ControlFlow<B> {
    if values.is_empty() { ControlFlow::Continue(()) } else { visit(values) }
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
            seen.extend_from_slice(values);
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
            let mut seen = Vec::new();
            let _: Option<()> = table.visit(&host, |values| {
                seen.extend_from_slice(values);
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
