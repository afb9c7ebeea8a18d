//! Names that repeat a million times, kept once: NAS, access points, routing domains.

use std::{collections::HashMap, sync::Arc};

/// Up to `limit` names, each with a place that stays.
#[derive(Debug)]
pub(crate) struct Names {
    texts: Vec<Arc<str>>,
    places: HashMap<Arc<str>, u16>,
    limit: u16,
}

impl Names {
    pub(crate) fn new(limit: u16) -> Self {
        Self { texts: Vec::new(), places: HashMap::new(), limit }
    }

    /// The place of `text`; `None` when it is new and there is no room.
    pub(crate) fn place(&mut self, text: &str) -> Option<u16> {
        if let Some(place) = self.places.get(text) {
            return Some(*place);
        }
        let place = u16::try_from(self.texts.len()).ok().filter(|place| *place < self.limit)?;
        let text: Arc<str> = text.into();
        self.texts.push(Arc::clone(&text));
        self.places.insert(text, place);
        Some(place)
    }

    /// The place of `text` if it is known.
    pub(crate) fn known(&self, text: &str) -> Option<u16> {
        self.places.get(text).copied()
    }

    /// The name at `place`.
    pub(crate) fn text(&self, place: u16) -> Option<&Arc<str>> {
        self.texts.get(usize::from(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_place_and_a_full_list_takes_no_new_one() {
        let mut names = Names::new(2);
        assert_eq!(
            [names.place("a"), names.place("b"), names.place("a")],
            [Some(0), Some(1), Some(0)]
        );
        assert_eq!((names.place("c"), names.known("c"), names.known("b")), (None, None, Some(1)));
        assert_eq!(names.text(1).map(|text| &**text), Some("b"));
    }
}
