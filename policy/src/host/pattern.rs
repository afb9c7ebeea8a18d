//! Host patterns: the four shapes a rule may take, each with one written meaning.

use std::fmt;

use super::{HostName, InvalidHostName};

/// What a rule says about names.
///
/// | written | kind | `a.x` | `b.a.x` | `x` | `ax` |
/// |---|---|---|---|---|---|
/// | `x` | exact | – | – | yes | – |
/// | `*.x` | below | yes | yes | – | – |
/// | `.x` | both | yes | yes | yes | – |
/// | `*x` `within` a parent | suffix | yes | yes | yes | yes |
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPattern {
    base: HostName,
    kind: PatternKind,
}

/// The shape of a [`HostPattern`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PatternKind {
    /// The name itself.
    Exact,
    /// One or more labels below the name, not the name itself.
    Below,
    /// The name and everything below it.
    Both,
    /// Every name that ends in this text, also inside a label.
    Suffix,
}

impl HostPattern {
    /// Reads a pattern; `within` is the name that every match of a suffix pattern must lie below.
    ///
    /// # Errors
    ///
    /// The text is not a pattern, or `within` is missing, superfluous, or does not hold the
    /// pattern at a label boundary.
    pub fn parse(text: &str, within: Option<&HostName>) -> Result<Self, InvalidHostPattern> {
        let (rest, kind) = if let Some(rest) = text.strip_prefix("*.") {
            (rest, PatternKind::Below)
        } else if let Some(rest) = text.strip_prefix('*') {
            (rest, PatternKind::Suffix)
        } else if let Some(rest) = text.strip_prefix('.') {
            (rest, PatternKind::Both)
        } else {
            (text, PatternKind::Exact)
        };
        if rest.contains('*') {
            return Err(InvalidHostPattern::InnerStar);
        }
        if rest.is_empty() && kind != PatternKind::Exact {
            return Err(InvalidHostPattern::EveryName);
        }
        let base = HostName::parse(rest)?;
        match (kind, within) {
            (PatternKind::Suffix, None) => return Err(InvalidHostPattern::SuffixNeedsWithin),
            (PatternKind::Suffix, Some(parent)) if !base.is_below(parent) => {
                return Err(InvalidHostPattern::OutsideWithin { within: parent.clone() });
            }
            (PatternKind::Exact | PatternKind::Below | PatternKind::Both, Some(_)) => {
                return Err(InvalidHostPattern::WithinOnlyForSuffix);
            }
            (PatternKind::Suffix, Some(_))
            | (PatternKind::Exact | PatternKind::Below | PatternKind::Both, None) => {}
        }
        Ok(Self { base, kind })
    }

    /// The fixed text of the pattern, as a name.
    #[must_use]
    pub fn base(&self) -> &HostName {
        &self.base
    }

    /// Whether `host` is one of the names it stands for. One pattern by itself, for reports; what
    /// decides is the [`HostTable`](super::HostTable).
    #[must_use]
    pub fn matches(&self, host: &HostName) -> bool {
        self.kind.holds(&self.base, host)
    }

    /// The shape of the pattern.
    #[must_use]
    pub fn kind(&self) -> PatternKind {
        self.kind
    }
}

impl PatternKind {
    /// Whether a pattern of this shape and fixed text stands for `host`.
    pub(crate) fn holds(self, base: &HostName, host: &HostName) -> bool {
        match self {
            Self::Exact => host == base,
            Self::Below => host.is_below(base),
            Self::Both => host == base || host.is_below(base),
            Self::Suffix => host.as_str().ends_with(base.as_str()),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.kind {
            PatternKind::Exact => "",
            PatternKind::Below => "*.",
            PatternKind::Both => ".",
            PatternKind::Suffix => "*",
        };
        write!(formatter, "{sign}{}", self.base)
    }
}

impl fmt::Debug for HostPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "\"{self}\"")
    }
}

/// Why a text is not a host pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHostPattern {
    /// `*`, `*.` or `.`: no name is left to match.
    #[error("the pattern matches every name")]
    EveryName,
    /// A star that is not the first character.
    #[error("a star may only be the first character")]
    InnerStar,
    /// The part behind the star is not a name.
    #[error(transparent)]
    Name(#[from] InvalidHostName),
    /// The text behind the star does not begin inside a label below `within`.
    #[error("the pattern can match names outside {within}")]
    OutsideWithin {
        /// The declared parent.
        within: HostName,
    },
    /// `*x` without `within`.
    #[error("a star without a dot is not bound to a label; it needs `within`")]
    SuffixNeedsWithin,
    /// `within` beside a pattern that is bound to labels by its shape.
    #[error("`within` belongs to patterns such as `*x.example.com` only")]
    WithinOnlyForSuffix,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_four_shapes() {
        let parent = HostName::parse("microsoft.com").unwrap();
        for (text, within, kind, base) in [
            ("A.example", None, PatternKind::Exact, "a.example"),
            ("*.a.example", None, PatternKind::Below, "a.example"),
            (".a.example", None, PatternKind::Both, "a.example"),
            (
                "*smartscreen.microsoft.com",
                Some(&parent),
                PatternKind::Suffix,
                "smartscreen.microsoft.com",
            ),
        ] {
            let pattern = HostPattern::parse(text, within).unwrap();
            assert_eq!((pattern.kind(), pattern.base().as_str()), (kind, base), "{text}");
            assert_eq!(pattern.to_string(), text.to_ascii_lowercase());
        }
    }

    #[test]
    fn refuses_patterns_that_reach_too_far() {
        let parent = HostName::parse("microsoft.com").unwrap();
        for (text, within) in [
            ("*", None),
            ("*.", None),
            (".", None),
            ("", None),
            ("*x.example", None),
            ("*microsoft.com", Some(&parent)),
            ("*t.com", Some(&parent)),
            ("*x.microsoft.com.evil.example", Some(&parent)),
            ("*x.notmicrosoft.com", Some(&parent)),
            ("*.a.microsoft.com", Some(&parent)),
            ("a.microsoft.com", Some(&parent)),
            ("a.*.example", None),
            ("*.*.example", None),
            ("**.example", None),
            ("*.192.0.2.1", None),
        ] {
            assert!(HostPattern::parse(text, within).is_err(), "{text}");
        }
    }
}
