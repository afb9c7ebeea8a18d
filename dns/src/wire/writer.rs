//! Writing forward: names, numbers, records.

use super::{CLASS_IN, Name};

/// Where a record's owner name is.
pub(super) enum Owner<'a> {
    /// Earlier in the message.
    At(u16),
    /// Nowhere a pointer could reach.
    Whole(&'a Name),
}

impl<'a> Owner<'a> {
    pub(super) fn new(at: usize, name: &'a Name) -> Self {
        match u16::try_from(at) {
            Ok(at) if at < POINTER => Self::At(at),
            Ok(_) | Err(_) => Self::Whole(name),
        }
    }
}

/// Writes at the end of a message.
pub(super) struct Writer<'m>(&'m mut Vec<u8>);

impl<'m> Writer<'m> {
    /// Writes a message in place of what `message` holds.
    pub(super) fn new(message: &'m mut Vec<u8>) -> Self {
        message.clear();
        Self(message)
    }

    /// Octets written so far.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn octets(&mut self, octets: &[u8]) {
        self.0.extend_from_slice(octets);
    }

    pub(super) fn u16(&mut self, number: u16) {
        self.octets(&number.to_be_bytes());
    }

    /// Several numbers at once, which is faster than one after the other.
    pub(super) fn u16s<const N: usize>(&mut self, numbers: [u16; N]) {
        self.octets(numbers.map(u16::to_be_bytes).as_flattened());
    }

    /// As [`u16s`](Self::u16s).
    pub(super) fn u32s<const N: usize>(&mut self, numbers: [u32; N]) {
        self.octets(numbers.map(u32::to_be_bytes).as_flattened());
    }

    /// Everything of a record before its data.
    pub(super) fn record(&mut self, owner: &Owner<'_>, record_type: u16, ttl: u32) {
        match owner {
            Owner::At(at) => self.u16(POINTER | at),
            Owner::Whole(name) => self.octets(name.octets()),
        }
        self.u16s([record_type, CLASS_IN]);
        self.u32s([ttl]);
    }

    /// A length of two octets, and that many octets.
    pub(super) fn data(&mut self, fill: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.u16(0);
        fill(self);
        let length = u16::try_from(self.0.len() - start - 2).unwrap_or(u16::MAX);
        if let Some(place) = self.0.get_mut(start..start + 2) {
            place.copy_from_slice(&length.to_be_bytes());
        }
    }
}

/// The two bits that make a length a pointer (RFC 1035 section 4.1.4).
const POINTER: u16 = 0xc000;
