//! The files of one document, laid end to end: one offset tells the file and the place in it.

use std::{ops::Range, sync::Arc};

use crate::{lines::LineIndex, rule::Place};

/// Files side by side. There is always one.
#[derive(Debug)]
pub(crate) struct Layout {
    first: Laid,
    rest: Vec<Laid>,
}

#[derive(Debug)]
struct Laid {
    start: usize,
    end: usize,
    file: Arc<str>,
    lines: LineIndex,
}

impl Layout {
    /// A document of one file.
    pub(crate) fn new(file: Arc<str>, text: &str) -> Self {
        Self { first: Laid::new(0, file, text), rest: Vec::new() }
    }

    /// Lays another file behind the others; says at which offset it begins.
    pub(crate) fn add(&mut self, file: Arc<str>, text: &str) -> usize {
        // The offset behind the last byte still belongs to the file before.
        let start = self.rest.last().unwrap_or(&self.first).end + 1;
        self.rest.push(Laid::new(start, file, text));
        start
    }

    /// Where `span` is, in the file that holds its beginning.
    pub(crate) fn place(&self, span: &Range<usize>) -> Place {
        let laid = self.holding(span.start);
        let (start, end) = (span.start - laid.start, span.end.saturating_sub(laid.start));
        Place {
            file: laid.file.clone(),
            line: laid.lines.line(start),
            span: start..end.min(laid.end - laid.start),
        }
    }

    /// Where `place` lies in the document, if its file is one of it.
    pub(crate) fn span(&self, place: &Place) -> Option<Range<usize>> {
        let laid = std::iter::once(&self.first).chain(&self.rest);
        let start = laid.into_iter().find(|laid| laid.file == place.file)?.start;
        Some(place.span.start + start..place.span.end + start)
    }

    /// The place of `there`, in words for a reader who looks at `here`.
    pub(crate) fn words(&self, there: usize, here: usize) -> String {
        let laid = self.holding(there);
        let line = laid.lines.line(there - laid.start);
        if laid.start == self.holding(here).start {
            format!("in line {line}")
        } else {
            format!("in {}:{line}", laid.file)
        }
    }

    /// The offset behind the last byte of the first file.
    pub(crate) fn end(&self) -> usize {
        self.first.end
    }

    fn holding(&self, offset: usize) -> &Laid {
        let after = self.rest.partition_point(|laid| laid.start <= offset);
        after.checked_sub(1).and_then(|index| self.rest.get(index)).unwrap_or(&self.first)
    }
}

impl Laid {
    fn new(start: usize, file: Arc<str>, text: &str) -> Self {
        Self { start, end: start + text.len(), file, lines: LineIndex::new(text) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_tells_file_line_and_place() {
        let mut layout = Layout::new("a".into(), "1\n2");
        assert_eq!((layout.add("b".into(), ""), layout.add("c".into(), "x\ny\n")), (4, 5));
        for (span, file, line, local) in [
            (0..1, "a", 1, 0..1),
            (2..3, "a", 2, 2..3),
            (3..3, "a", 2, 3..3),
            (4..4, "b", 1, 0..0),
            (7..8, "c", 2, 2..3),
            (9..9, "c", 3, 4..4),
        ] {
            let place = layout.place(&span);
            assert_eq!((&*place.file, place.line, place.span), (file, line, local), "{span:?}");
        }
        assert_eq!(layout.words(2, 0), "in line 2");
        assert_eq!(layout.words(2, 7), "in a:2");
    }
}
