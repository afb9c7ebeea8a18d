//! IP packets put together from their fragments, within bounds.
//!
//! Fragments that overlap make the packet void (RFC 5722): two readers could see two packets.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::{
    Note, Notes,
    packet::{Fragment, FragmentOf},
};

/// Packets of which some fragments have come.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    parts: HashMap<FragmentOf, Parts>,
    order: VecDeque<FragmentOf>,
}

#[derive(Debug, Default)]
struct Parts {
    pieces: BTreeMap<usize, Vec<u8>>,
    octets: usize,
    /// Octets of the whole, once the last fragment has come.
    length: Option<usize>,
}

impl Fragments {
    /// Takes a fragment; the whole payload if it was the last that was missing.
    pub(super) fn take(&mut self, fragment: Fragment<'_>, notes: &mut Notes) -> Option<Vec<u8>> {
        let Fragment { of, offset, more, payload } = fragment;
        if !self.parts.contains_key(&of) {
            while self.parts.len() >= MAX_PACKETS {
                self.forget_oldest(notes);
            }
            self.order.push_back(of);
        }
        let parts = self.parts.entry(of).or_default();
        let end = offset.saturating_add(payload.len());
        let before = parts.pieces.range(..end).next_back();
        let repeated = parts.pieces.get(&offset).is_some_and(|known| known == payload);
        if repeated {
            return None;
        }
        let overlaps = before.is_some_and(|(start, piece)| start + piece.len() > offset);
        let too_long = end > MAX_PACKET || parts.pieces.len() >= MAX_PIECES;
        if overlaps || too_long || payload.is_empty() {
            self.forget(&of, notes);
            return None;
        }
        parts.octets += payload.len();
        parts.pieces.insert(offset, payload.to_vec());
        if !more {
            parts.length = Some(end);
        }
        let length = parts.length?;
        if parts.octets < length {
            return None;
        }
        let parts = self.parts.remove(&of)?;
        self.order.retain(|kept| *kept != of);
        let whole: Vec<u8> = parts.pieces.into_values().flatten().collect();
        (whole.len() == length).then_some(whole)
    }

    /// Counts what never became whole.
    pub(super) fn finish(&mut self, notes: &mut Notes) {
        while !self.parts.is_empty() {
            self.forget_oldest(notes);
        }
    }

    fn forget_oldest(&mut self, notes: &mut Notes) {
        match self.order.front().copied() {
            Some(oldest) => self.forget(&oldest, notes),
            None => self.parts.clear(),
        }
    }

    fn forget(&mut self, of: &FragmentOf, notes: &mut Notes) {
        if let Some(parts) = self.parts.remove(of) {
            let pieces = u64::try_from(parts.pieces.len()).unwrap_or(u64::MAX);
            notes.add_many(Note::FragmentLost, pieces.max(1));
        }
        self.order.retain(|kept| kept != of);
    }
}

/// Packets put together at once.
const MAX_PACKETS: usize = 256;
/// Fragments of one packet.
const MAX_PIECES: usize = 128;
/// Octets of one packet (RFC 791 section 3.1).
const MAX_PACKET: usize = 65_535;
