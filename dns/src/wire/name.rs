//! Domain names as they stand in a message.

use super::cursor::Cursor;

/// A domain name: uncompressed, any octets, letter case kept, at most 255 octets with its root
/// label (RFC 1035 section 3.1).
///
/// Two names are equal if they differ in ASCII case only (RFC 4343).
#[derive(Clone, Debug)]
pub struct Name(Box<[u8]>);

impl Name {
    /// The root.
    #[must_use]
    pub fn root() -> Self {
        Self(Box::new([0]))
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
        (octets.len() <= MAX_NAME).then(|| Self(octets.into_boxed_slice()))
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
    pub(super) fn octets(&self) -> &[u8] {
        &self.0
    }

    /// Reads a name that must stand there whole: a question has nothing before it that a pointer
    /// could mean.
    pub(super) fn read(cursor: &mut Cursor<'_>) -> Option<Self> {
        let mut octets = Vec::with_capacity(MAX_NAME);
        loop {
            let length = cursor.u8()?;
            if length > MAX_LABEL {
                return None;
            }
            octets.push(length);
            if length == 0 {
                break;
            }
            octets.extend_from_slice(cursor.take(usize::from(length))?);
            if octets.len() >= MAX_NAME {
                return None;
            }
        }
        Some(Self(octets.into_boxed_slice()))
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Name {}

/// Steps over a name that may end in a pointer to something earlier.
pub(super) fn skip(cursor: &mut Cursor<'_>) -> Option<()> {
    let start = cursor.at();
    loop {
        let length = cursor.u8()?;
        match length {
            0 => return Some(()),
            1..=MAX_LABEL => {
                cursor.take(usize::from(length))?;
            }
            POINTER..=u8::MAX => {
                let target = usize::from(u16::from_be_bytes([length & !POINTER, cursor.u8()?]));
                return (HEADER..start).contains(&target).then_some(());
            }
            _ => return None,
        }
        if cursor.at() - start >= MAX_NAME {
            return None;
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
