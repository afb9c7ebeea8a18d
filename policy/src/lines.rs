//! Byte offsets to lines and columns.

/// Where the lines of a text begin.
#[derive(Clone, Debug)]
pub struct LineIndex {
    starts: Vec<usize>,
}

impl LineIndex {
    /// Indexes `text`; lines end with a line feed.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let after = text.bytes().enumerate().filter(|(_, octet)| *octet == b'\n');
        Self { starts: std::iter::once(0).chain(after.map(|(at, _)| at + 1)).collect() }
    }

    /// The line of the byte at `offset`, from 1. Offsets behind the end are in the last line.
    #[must_use]
    pub fn line(&self, offset: usize) -> u32 {
        let line = self.starts.partition_point(|start| *start <= offset);
        u32::try_from(line).unwrap_or(u32::MAX)
    }

    /// The column of the byte at `offset` in bytes, from 1.
    #[must_use]
    pub fn column(&self, offset: usize) -> u32 {
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = line.checked_sub(1).and_then(|index| self.starts.get(index)).copied();
        u32::try_from(offset - start.unwrap_or(0) + 1).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::LineIndex;

    #[test]
    fn counts_lines_and_columns_from_one() {
        let index = LineIndex::new("ab\n\nc");
        let seen: Vec<_> = (0..6).map(|at| (index.line(at), index.column(at))).collect();
        assert_eq!(seen, [(1, 1), (1, 2), (1, 3), (2, 1), (3, 1), (3, 2)]);
    }
}
