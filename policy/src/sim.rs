//! SIM identities and states. Identities are personal data: they never print whole.

mod set;

use std::{fmt, num::NonZeroU8};

pub(crate) use set::{IdentitySet, Meeting, read_list, read_ranges};

/// Integrated circuit card identifier: 18 to 20 digits (ITU-T E.118; no check digit is demanded,
/// because the ends of published ranges cannot have one).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Iccid(Digits);

/// International mobile subscriber identity: 14 or 15 digits (3GPP TS 23.003 section 2.2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Imsi(Digits);

/// Telephone number of a subscriber: 5 to 15 digits (ITU-T E.164), without `+`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Msisdn(Digits);

/// Whether a SIM has a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SimState {
    /// A plan is in force.
    Active,
    /// The operator shuts this SIM out.
    Barred,
    /// The plan's data or time is used up.
    Exhausted,
    /// No plan was bought yet.
    Unprovisioned,
}

/// From one identity to another, both included; the two have the same number of digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IdentityRange<I> {
    start: I,
    end: I,
}

/// Why a text is not an identity or a range of identities. The text itself is never repeated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIdentity {
    /// Something other than digits.
    #[error("{kind} may hold digits only")]
    NotDigits {
        /// Which identity was asked for.
        kind: &'static str,
    },
    /// Too few or too many digits.
    #[error("{kind} has {length} digits; {minimum} to {maximum} are allowed")]
    Length {
        /// Which identity was asked for.
        kind: &'static str,
        /// Digits found.
        length: usize,
        /// Fewest digits allowed.
        minimum: usize,
        /// Most digits allowed.
        maximum: usize,
    },
    /// The two ends differ in length.
    #[error("the two ends of the range have {start} and {end} digits; they must have equally many")]
    UnequalEnds {
        /// Digits of the first end.
        start: usize,
        /// Digits of the second end.
        end: usize,
    },
    /// The range ends before it begins.
    #[error("the range ends before it begins")]
    UpsideDown,
}

/// An identity made of decimal digits.
pub trait Identity: Copy + Ord + fmt::Debug {
    /// Reads the identity.
    ///
    /// # Errors
    ///
    /// The text has other characters than digits, too few or too many.
    fn parse(text: &str) -> Result<Self, InvalidIdentity>;

    /// Number of digits.
    fn length(self) -> usize;

    /// The last two digits as a number: identities are matched in blocks of 100.
    fn last_two(self) -> u8;

    /// All the digits: for the operator's own stores and systems, never for a log or a report.
    fn whole(self) -> String;

    /// Its place among all identities of the kind, short ones first: neighbours differ by one.
    fn ordinal(self) -> u128;
}

/// Digits as a number together with how many there are, so that leading zeros count.
///
/// Ten octets, present or absent, wherever they stand: a gateway holds millions of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(Rust, packed)]
struct Digits {
    length: NonZeroU8,
    /// The number's bits above the lower 64; 20 digits have 67.
    high: u8,
    low: u64,
}

impl Digits {
    fn parse(
        kind: &'static str,
        text: &str,
        minimum: usize,
        maximum: usize,
    ) -> Result<Self, InvalidIdentity> {
        if !text.bytes().all(|octet| octet.is_ascii_digit()) {
            return Err(InvalidIdentity::NotDigits { kind });
        }
        let wrong_length = InvalidIdentity::Length { kind, length: text.len(), minimum, maximum };
        if !(minimum..=maximum).contains(&text.len()) {
            return Err(wrong_length);
        }
        let length = u8::try_from(text.len()).ok().and_then(NonZeroU8::new);
        let value: Option<u128> = text.parse().ok();
        let high = value.and_then(|value| u8::try_from(value >> 64).ok());
        let low = value.and_then(|value| u64::try_from(value & u128::from(u64::MAX)).ok());
        match (length, high, low) {
            (Some(length), Some(high), Some(low)) => Ok(Self { length, high, low }),
            (None, _, _) | (_, None, _) | (_, _, None) => Err(wrong_length),
        }
    }

    fn value(self) -> u128 {
        (u128::from(self.high) << 64) | u128::from(self.low)
    }

    fn ordinal(self) -> u128 {
        self.value() + shorter(self.length.get())
    }

    fn whole(self) -> String {
        format!("{:0width$}", self.value(), width = usize::from(self.length.get()))
    }

    /// All but the last four digits hidden.
    fn redacted(self, kind: &str, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{kind}(…{:04})", self.value() % 10_000)
    }
}

/// How many texts of digits are shorter than `length`.
fn shorter(length: u8) -> u128 {
    (0..length).fold(0_u128, |below, _| below.saturating_mul(10).saturating_add(1))
}

/// The last four digits of the identity at this place, as reports show it.
pub(crate) fn hint(ordinal: u128) -> String {
    let length = (0..=20).rfind(|length| shorter(*length) <= ordinal).unwrap_or_default();
    format!("…{:04}", (ordinal - shorter(length)) % 10_000)
}

macro_rules! identity {
    ($name:ident, $kind:literal, $minimum:literal, $maximum:literal, $prepare:expr) => {
        impl Identity for $name {
            fn parse(text: &str) -> Result<Self, InvalidIdentity> {
                let prepare: fn(&str) -> &str = $prepare;
                Digits::parse($kind, prepare(text), $minimum, $maximum).map(Self)
            }

            fn length(self) -> usize {
                usize::from(self.0.length.get())
            }

            fn last_two(self) -> u8 {
                u8::try_from(self.0.value() % 100).unwrap_or_default()
            }

            fn whole(self) -> String {
                self.0.whole()
            }

            fn ordinal(self) -> u128 {
                self.0.ordinal()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.redacted($kind, formatter)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.redacted($kind, formatter)
            }
        }
    };
}

// Windows pads a 19-digit ICCID with one F to fill the last octet.
identity!(Iccid, "ICCID", 18, 20, |text| text.strip_suffix(['F', 'f']).unwrap_or(text));
identity!(Imsi, "IMSI", 14, 15, |text| text);
identity!(Msisdn, "MSISDN", 5, 15, |text| text.strip_prefix('+').unwrap_or(text));

impl<I: Identity> IdentityRange<I> {
    /// Reads `start-end`, or one identity alone.
    ///
    /// # Errors
    ///
    /// An end is not an identity, the ends differ in length, or the range is upside down.
    pub fn parse(text: &str) -> Result<Self, InvalidIdentity> {
        let (start, end) = text.split_once('-').unwrap_or((text, text));
        let (start, end) = (I::parse(start.trim())?, I::parse(end.trim())?);
        if start.length() != end.length() {
            return Err(InvalidIdentity::UnequalEnds { start: start.length(), end: end.length() });
        }
        if end < start {
            return Err(InvalidIdentity::UpsideDown);
        }
        Ok(Self { start, end })
    }

    /// The first identity of the range.
    #[must_use]
    pub fn start(&self) -> I {
        self.start
    }

    /// The last identity of the range.
    #[must_use]
    pub fn end(&self) -> I {
        self.end
    }

    /// Whether `identity` lies between the two ends, with as many digits as they have.
    #[must_use]
    pub fn contains(&self, identity: I) -> bool {
        self.start <= identity && identity <= self.end
    }

    /// Whether it is one identity.
    #[must_use]
    pub fn is_single(&self) -> bool {
        self.start == self.end
    }

    /// Whether some identity lies in both ranges.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.start <= other.end && other.start <= self.end
    }
}

impl SimState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Active, Self::Barred, Self::Exhausted, Self::Unprovisioned];

    /// The state of this name.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.label() == label)
    }

    /// The state's name in documents, metrics and the admin API.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Barred => "barred",
            Self::Exhausted => "exhausted",
            Self::Unprovisioned => "unprovisioned",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_never_print_whole() {
        let iccid = Iccid::parse("8988247000100003319F").unwrap();
        assert_eq!(format!("{iccid:?} {iccid}"), "ICCID(…3319) ICCID(…3319)");
        let error = Iccid::parse("89882470001000033x9").unwrap_err();
        assert!(!error.to_string().contains("8988"), "{error}");
    }

    #[test]
    fn ranges_compare_at_equal_length() {
        let range: IdentityRange<Iccid> =
            IdentityRange::parse("8988247000100000000-8988247000199999999").unwrap();
        for (text, inside) in [
            ("8988247000100000000", true),
            ("8988247000199999999", true),
            ("8988247000200000000", false),
            ("08988247000100000000", false),
            ("898824700010000000", false),
        ] {
            assert_eq!(range.contains(Iccid::parse(text).unwrap()), inside, "{text}");
        }
    }

    #[test]
    fn digits_are_kept_whole_in_ten_octets() {
        for text in ["00000000000000000001", "99999999999999999999", "18446744073709551616"] {
            assert_eq!(Iccid::parse(text).unwrap().whole(), text);
        }
        let parse = |text| Iccid::parse(text).unwrap();
        assert!(parse("18446744073709551616") > parse("18446744073709551615"));
        assert_eq!(size_of::<Option<Iccid>>(), 10);
    }

    #[test]
    fn places_follow_length_and_value() {
        let place = |text| Iccid::parse(text).unwrap().ordinal();
        assert_eq!(place("000000000000000001") - place("000000000000000000"), 1);
        assert_eq!(place("0000000000000000000") - place("999999999999999999"), 1);
        assert_eq!(hint(place("8988247000100003319")), "…3319");
        assert_eq!(hint(place("99999999999999999999")), "…9999");
    }

    #[test]
    fn refuses_ranges_that_cannot_be() {
        for (text, expected) in [
            ("8988247000199999999-8988247000100000000", InvalidIdentity::UpsideDown),
            (
                "8988247000100000000-89882470001999999990",
                InvalidIdentity::UnequalEnds { start: 19, end: 20 },
            ),
            (
                "89-90",
                InvalidIdentity::Length { kind: "ICCID", length: 2, minimum: 18, maximum: 20 },
            ),
            ("", InvalidIdentity::Length { kind: "ICCID", length: 0, minimum: 18, maximum: 20 }),
        ] {
            assert_eq!(IdentityRange::<Iccid>::parse(text), Err(expected), "{text}");
        }
    }
}
