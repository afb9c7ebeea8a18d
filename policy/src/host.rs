//! The host name: the only thing in this program that can be matched.
//!
//! Text becomes a [`HostName`] once, at the border, and is in normal form from then on: A-labels,
//! lower case, no trailing dot. DNS questions, TLS server names, HTTP hosts, policy files and the
//! command line all go through [`HostName::parse`]; there is no second normaliser.

mod pattern;
mod table;

use std::{borrow::Cow, fmt, str::FromStr};

pub use pattern::{HostPattern, InvalidHostPattern, PatternKind};
pub use table::{HostTable, Values};

/// A checked host name in normal form.
///
/// Letters are lower case, labels are A-labels, one trailing dot has been removed. At most
/// [`HostName::MAX_LENGTH`] octets, labels of 1 to [`HostName::MAX_LABEL`] octets of
/// `a-z 0-9 - _` (RFC 1035 section 2.3.4; the underscore is in use for service names). Never an
/// address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(String);

impl HostName {
    /// Octets in a name without its trailing dot (RFC 1035 section 3.1: 255 on the wire).
    pub const MAX_LENGTH: usize = 253;
    /// Octets in one label (RFC 1035 section 2.3.1).
    pub const MAX_LABEL: usize = 63;

    /// Reads a name from text. Letters outside ASCII are turned into A-labels (UTS 46).
    ///
    /// # Errors
    ///
    /// Says which rule of the type the text breaks.
    pub fn parse(text: &str) -> Result<Self, InvalidHostName> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let ascii = if text.is_ascii() {
            Cow::Borrowed(text)
        } else {
            Cow::Owned(idna::domain_to_ascii(text).map_err(|_| InvalidHostName::NotIdna)?)
        };
        if ascii.is_empty() {
            return Err(InvalidHostName::Empty);
        }
        if is_v6_literal(&ascii) {
            return Err(InvalidHostName::IpLiteral);
        }
        if ascii.len() > Self::MAX_LENGTH {
            return Err(InvalidHostName::TooLong { length: ascii.len() });
        }
        let labels = ascii.as_bytes().split(|octet| *octet == b'.');
        Ok(Self(normal(labels, &mut [b'.'; Self::MAX_LENGTH])?.to_owned()))
    }

    /// Reads a name from the labels of a DNS question, which may hold any octet.
    ///
    /// # Errors
    ///
    /// As [`HostName::parse`]; a label with a dot or an octet above 127 is refused, never decoded.
    pub fn from_wire_labels<'a>(
        labels: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Self, InvalidHostName> {
        let mut memory = HostMemory::default();
        memory.read_wire_labels(labels)?;
        Ok(memory.0)
    }

    /// The name as text, in normal form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name has at least one label more than `parent`, and ends in it at a label
    /// boundary.
    #[must_use]
    pub fn is_below(&self, parent: &Self) -> bool {
        self.0.strip_suffix(&*parent.0).is_some_and(|rest| rest.ends_with('.'))
    }

    /// The labels, leftmost first.
    pub fn labels(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('.')
    }
}

/// Memory for one name at a time: reading the next one takes no more unless it is longer than all
/// before.
#[derive(Debug)]
pub struct HostMemory(HostName);

impl HostMemory {
    /// As [`HostName::from_wire_labels`], in place of the name before.
    ///
    /// # Errors
    ///
    /// As [`HostName::from_wire_labels`].
    pub fn read_wire_labels<'a>(
        &mut self,
        labels: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<&HostName, InvalidHostName> {
        let mut octets = [b'.'; HostName::MAX_LENGTH];
        let name = normal(labels, &mut octets)?;
        self.0.0.clear();
        self.0.0.push_str(name);
        Ok(&self.0)
    }
}

impl Default for HostMemory {
    fn default() -> Self {
        // Room for most names.
        Self(HostName(String::with_capacity(64)))
    }
}

/// Order and equality are those of the text.
impl std::borrow::Borrow<str> for HostName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, formatter)
    }
}

impl FromStr for HostName {
    type Err = InvalidHostName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// Why a text is not a host name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHostName {
    /// Nothing, or a lone dot.
    #[error("host name is empty")]
    Empty,
    /// Two dots in a row, or a leading dot.
    #[error("host name has an empty label")]
    EmptyLabel,
    /// An octet that no host name may hold.
    #[error(
        "host name holds the octet 0x{octet:02x}; only letters, digits, '-' and '_' may stand in a label"
    )]
    ForbiddenOctet {
        /// The first such octet.
        octet: u8,
    },
    /// An IPv4 or IPv6 address, in any spelling a client library would accept.
    #[error("host name is an address literal")]
    IpLiteral,
    /// A label is too long.
    #[error("host name has {length} octets in one label; at most {}", HostName::MAX_LABEL)]
    LabelTooLong {
        /// Its length in octets.
        length: usize,
    },
    /// Letters outside ASCII that UTS 46 does not allow.
    #[error("host name has letters that no A-label can stand for")]
    NotIdna,
    /// The name is too long.
    #[error("host name has {length} octets; at most {}", HostName::MAX_LENGTH)]
    TooLong {
        /// Its length in octets.
        length: usize,
    },
}

/// Writes the labels in normal form, a dot between each two, over the dots in `octets`.
fn normal<'a, 'o>(
    labels: impl IntoIterator<Item = &'a [u8]>,
    octets: &'o mut [u8; HostName::MAX_LENGTH],
) -> Result<&'o str, InvalidHostName> {
    let (mut length, mut last) = (0, None);
    for label in labels {
        if label.is_empty() {
            return Err(InvalidHostName::EmptyLabel);
        }
        if label.len() > HostName::MAX_LABEL {
            return Err(InvalidHostName::LabelTooLong { length: label.len() });
        }
        let start = last.map_or(0, |_| length + 1);
        length = start + label.len();
        let place = octets.get_mut(start..length).ok_or(InvalidHostName::TooLong { length })?;
        let mut is_clean = true;
        for (place, octet) in place.iter_mut().zip(label) {
            *place = NORMAL.get(usize::from(*octet)).copied().unwrap_or(FORBIDDEN);
            is_clean &= *place != FORBIDDEN;
        }
        if !is_clean {
            let octet = label.iter().copied().find(|octet| normal_octet(*octet) == FORBIDDEN);
            return Err(InvalidHostName::ForbiddenOctet { octet: octet.unwrap_or_default() });
        }
        last = Some(label);
    }
    // A last label that is a number makes the whole an IPv4 address to client libraries, which
    // take 127.1 and 0x7f000001 as well (WHATWG URL, "ends in a number checker").
    match last {
        None => return Err(InvalidHostName::Empty),
        Some(label) if is_number(label) => return Err(InvalidHostName::IpLiteral),
        Some(_) => {}
    }
    let name = octets.get(..length).and_then(|octets| std::str::from_utf8(octets).ok());
    name.ok_or(InvalidHostName::NotIdna)
}

/// What stands in normal form for an octet of a label.
const fn normal_octet(octet: u8) -> u8 {
    match octet {
        b'A'..=b'Z' => octet.to_ascii_lowercase(),
        b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => octet,
        _ => FORBIDDEN,
    }
}

#[expect(clippy::indexing_slicing, reason = "done by the compiler; it could not be done wrongly")]
const NORMAL: [u8; 256] = {
    let mut table = [FORBIDDEN; 256];
    let mut octet = u8::MAX;
    while octet > 0 {
        table[octet as usize] = normal_octet(octet);
        octet -= 1;
    }
    table
};

/// Stands for what no label may hold.
const FORBIDDEN: u8 = 0;

fn is_v6_literal(text: &str) -> bool {
    let inside = text.trim_start_matches('[').trim_end_matches(']');
    inside.contains(':') && inside.parse::<std::net::Ipv6Addr>().is_ok()
}

fn is_number(label: &[u8]) -> bool {
    if label.iter().all(u8::is_ascii_digit) {
        return true;
    }
    label
        .strip_prefix(b"0x")
        .or_else(|| label.strip_prefix(b"0X"))
        .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
}

#[cfg(test)]
mod tests;
