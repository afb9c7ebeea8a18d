//! The record layer of TLS before encryption: where one record ends and the next begins.
//!
//! It holds no octet of the stream and looks into no record. Server and client agree with it on
//! every boundary, because whatever both sides could read differently is refused.

/// Follows the record boundaries of one direction of a connection, in pieces of any size.
#[derive(Debug)]
pub(crate) struct Records {
    place: Place,
    count: usize,
}

/// A run of octets that belong to one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// A part of the five octets before the content.
    Header(ContentType, &'a [u8]),
    /// A part of the content, never empty.
    Content(ContentType, &'a [u8]),
}

/// What a record carries (RFC 8446 section 5.1). Every other type is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContentType {
    ChangeCipherSpec,
    Alert,
    Handshake,
    ApplicationData,
}

/// The octets are not a TLS record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InvalidRecord;

#[derive(Clone, Copy, Debug)]
enum Place {
    Type,
    Major(ContentType),
    Minor(ContentType),
    LengthHigh(ContentType),
    LengthLow(ContentType, u8),
    Content(ContentType, usize),
}

impl Records {
    /// Content of a record before encryption, in octets (RFC 8446 section 5.1).
    pub(crate) const MAX_PLAINTEXT: usize = 1 << 14;
    /// Content of a record that may be encrypted, in octets (RFC 8446 section 5.2).
    pub(crate) const MAX_CIPHERTEXT: usize = Self::MAX_PLAINTEXT + 256;

    pub(crate) fn new() -> Self {
        Self { place: Place::Type, count: 0 }
    }

    /// Takes the next piece off the front of `input`; `None` when `input` is empty.
    ///
    /// # Errors
    ///
    /// An unknown content type, a version other than 3.x, a length that the content type may not
    /// have. Each is found at the octet that shows it. The reader stays where it was.
    pub(crate) fn next<'a>(
        &mut self,
        input: &mut &'a [u8],
    ) -> Result<Option<Piece<'a>>, InvalidRecord> {
        let wanted = match self.place {
            Place::Content(_, left) => left.min(input.len()),
            Place::Type
            | Place::Major(_)
            | Place::Minor(_)
            | Place::LengthHigh(_)
            | Place::LengthLow(..) => 1,
        };
        let Some((taken, rest)) = input.split_at_checked(wanted) else { return Ok(None) };
        let Some(&first) = taken.first() else { return Ok(None) };

        let (content, next) = match self.place {
            Place::Type => {
                let content = ContentType::parse(first)?;
                self.count = self.count.saturating_add(1);
                (content, Place::Major(content))
            }
            Place::Major(content) if first == MAJOR_VERSION => (content, Place::Minor(content)),
            Place::Major(_) => return Err(InvalidRecord),
            Place::Minor(content) => (content, Place::LengthHigh(content)),
            Place::LengthHigh(content) => (content, Place::LengthLow(content, first)),
            Place::LengthLow(content, high) => {
                let length = usize::from(u16::from_be_bytes([high, first]));
                (content, content.admit(length)?)
            }
            Place::Content(content, left) => {
                *input = rest;
                self.place = match left.saturating_sub(taken.len()) {
                    0 => Place::Type,
                    left => Place::Content(content, left),
                };
                return Ok(Some(Piece::Content(content, taken)));
            }
        };
        *input = rest;
        self.place = next;
        Ok(Some(Piece::Header(content, taken)))
    }

    /// Whether the next octet is the first of a record.
    pub(crate) fn at_boundary(&self) -> bool {
        matches!(self.place, Place::Type)
    }

    /// Octets of the current record that have not been seen; 0 within a header.
    pub(crate) fn left(&self) -> usize {
        match self.place {
            Place::Content(_, left) => left,
            Place::Type
            | Place::Major(_)
            | Place::Minor(_)
            | Place::LengthHigh(_)
            | Place::LengthLow(..) => 0,
        }
    }

    /// Records begun so far.
    pub(crate) fn count(&self) -> usize {
        self.count
    }
}

impl ContentType {
    /// Reads the first octet of a record.
    ///
    /// # Errors
    ///
    /// Any type but the four. An SSLv2 hello (RFC 5246 appendix E.2) ends here as well.
    pub(crate) fn parse(octet: u8) -> Result<Self, InvalidRecord> {
        match octet {
            20 => Ok(Self::ChangeCipherSpec),
            21 => Ok(Self::Alert),
            22 => Ok(Self::Handshake),
            23 => Ok(Self::ApplicationData),
            _ => Err(InvalidRecord),
        }
    }

    /// Checks a length; only application data may be empty (RFC 8446 section 5.1).
    fn admit(self, length: usize) -> Result<Place, InvalidRecord> {
        let (least, most) = match self {
            Self::ChangeCipherSpec | Self::Alert | Self::Handshake => (1, Records::MAX_PLAINTEXT),
            Self::ApplicationData => (0, Records::MAX_CIPHERTEXT),
        };
        match length {
            _ if length < least || length > most => Err(InvalidRecord),
            0 => Ok(Place::Type),
            left => Ok(Place::Content(self, left)),
        }
    }
}

const MAJOR_VERSION: u8 = 3;
