//! Domain names as they stand in a message.

use std::borrow::Cow;

use super::cursor::Cursor;

/// A domain name: uncompressed, any octets, letter case kept, at most 255 octets with its root
/// label (RFC 1035 section 3.1).
///
/// Two names are equal if they differ in ASCII case only (RFC 4343).
#[derive(Clone, Debug)]
pub struct Name(Cow<'static, [u8]>);

impl Name {
    /// The root.
    #[must_use]
    pub fn root() -> Self {
        Self::fixed(b"\0")
    }

    /// A name that stands in the program as it stands in a message.
    pub(crate) const fn fixed(octets: &'static [u8]) -> Self {
        Self(Cow::Borrowed(octets))
    }

    /// A name of these labels, leftmost first; `None` if one is empty or too long, or all are.
    #[must_use]
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let mut octets = Vec::new();
        for label in labels {
            let length = u8::try_from(label.len()).ok().filter(|n| (1..=MAX_LABEL).contains(n))?;
            octets.push(length);
            octets.extend_from_slice(label);
        }
        octets.push(0);
        (octets.len() <= MAX_NAME).then_some(Self(Cow::Owned(octets)))
    }

    /// The name of a host.
    #[must_use]
    pub fn from_host(host: &policy::HostName) -> Option<Self> {
        Self::from_labels(host.labels().map(str::as_bytes))
    }

    /// The labels, leftmost first, without the root.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut cursor = Cursor::new(&self.0);
        std::iter::from_fn(move || {
            let length = cursor.u8().filter(|length| *length > 0)?;
            cursor.take(usize::from(length))
        })
    }

    /// Whether it is the root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.len() == 1
    }

    /// The name as it stands in a message.
    pub(crate) fn octets(&self) -> &[u8] {
        &self.0
    }

    /// Reads a name that must stand there whole, in place of this one: a question has nothing before
    /// it that a pointer could mean.
    pub(super) fn read(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        let octets = whole(cursor)?;
        let place = self.0.to_mut();
        place.clear();
        place.extend_from_slice(octets);
        Some(())
    }
}

impl Default for Name {
    fn default() -> Self {
        Self::root()
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Name {}

/// Takes a name that ends in its root label, with no pointer in it.
fn whole<'a>(cursor: &mut Cursor<'a>) -> Option<&'a [u8]> {
    let rest = cursor.rest();
    let mut length = 0;
    loop {
        let label = *rest.get(length)?;
        if label > MAX_LABEL {
            return None;
        }
        length += 1 + usize::from(label);
        if length > MAX_NAME {
            return None;
        }
        if label == 0 {
            return cursor.take(length);
        }
    }
}

/// Steps over a name that may end in a pointer to an earlier one, which may end in another.
pub(super) fn skip(cursor: &mut Cursor<'_>) -> Option<()> {
    let mut start = cursor.at();
    let (mut octets, mut target) = labels(cursor)?;
    // Always backwards, so that there is an end to it.
    while let Some(place) = target {
        if !(HEADER..start).contains(&place) {
            return None;
        }
        start = place;
        let (more, next) = labels(&mut cursor.at_place(place))?;
        (octets, target) = (octets + more, next);
    }
    (octets <= MAX_NAME).then_some(())
}

/// Steps over labels to the root, or to a pointer: how many octets they have, and where it leads.
fn labels(cursor: &mut Cursor<'_>) -> Option<(usize, Option<usize>)> {
    let start = cursor.at();
    loop {
        let octets = cursor.at() - start;
        match cursor.u8()? {
            0 => return Some((octets + 1, None)),
            length @ 1..=MAX_LABEL => drop(cursor.take(usize::from(length))?),
            high @ POINTER..=u8::MAX => {
                let place = u16::from_be_bytes([high & !POINTER, cursor.u8()?]);
                return Some((octets, Some(usize::from(place))));
            }
            _ => return None,
        }
    }
}

/// Octets of one label.
const MAX_LABEL: u8 = 63;
/// Octets of a name on the wire.
const MAX_NAME: usize = 255;
/// The two bits that make a length a pointer (RFC 1035 section 4.1.4).
const POINTER: u8 = 0xc0;
/// Octets of the header, which no pointer may mean.
const HEADER: usize = 12;
