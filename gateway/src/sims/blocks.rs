//! Values by number, in blocks of a fixed size: to grow moves nothing and leaves no holes behind.

/// Values that keep their number until they are taken out.
#[derive(Debug)]
pub(super) struct Blocks<T> {
    blocks: Vec<Box<[Option<T>]>>,
    /// Numbers that were taken out.
    free: Vec<u32>,
    /// Numbers ever given.
    given: u32,
}

impl<T> Blocks<T> {
    /// Puts a value in; `None` if there is no number left.
    pub(super) fn insert(&mut self, value: T) -> Option<u32> {
        let at = self.free.pop().map_or_else(|| self.next(), Some)?;
        *self.place(at)? = Some(value);
        Some(at)
    }

    pub(super) fn get(&self, at: u32) -> Option<&T> {
        let (block, place) = split(at);
        self.blocks.get(block)?.get(place)?.as_ref()
    }

    pub(super) fn remove(&mut self, at: u32) -> Option<T> {
        let value = self.place(at)?.take()?;
        self.free.push(at);
        Some(value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.blocks.iter().flatten().flatten()
    }

    /// A number that was never given, in a block that is there.
    fn next(&mut self) -> Option<u32> {
        let at = self.given;
        self.given = at.checked_add(1)?;
        if split(at).0 == self.blocks.len() {
            self.blocks.push(std::iter::repeat_with(|| None).take(BLOCK).collect());
        }
        Some(at)
    }

    fn place(&mut self, at: u32) -> Option<&mut Option<T>> {
        let (block, place) = split(at);
        self.blocks.get_mut(block)?.get_mut(place)
    }
}

impl<T> Default for Blocks<T> {
    fn default() -> Self {
        Self { blocks: Vec::new(), free: Vec::new(), given: 0 }
    }
}

fn split(at: u32) -> (usize, usize) {
    let at = usize::try_from(at).unwrap_or(usize::MAX);
    (at / BLOCK, at % BLOCK)
}

/// Values of one block.
const BLOCK: usize = 256;

#[cfg(test)]
mod tests {
    use super::{BLOCK, Blocks};

    #[test]
    fn keeps_numbers_and_gives_those_again_that_were_taken_out() {
        let mut blocks = Blocks::default();
        let numbers: Vec<u32> = (0..3 * BLOCK).map(|value| blocks.insert(value).unwrap()).collect();
        assert_eq!(blocks.remove(numbers[300]), Some(300));
        assert_eq!(blocks.remove(numbers[300]), None);
        assert_eq!(blocks.get(numbers[300]), None);
        assert_eq!((blocks.get(numbers[299]), blocks.get(numbers[301])), (Some(&299), Some(&301)));
        assert_eq!(blocks.iter().count(), 3 * BLOCK - 1);
        assert_eq!(blocks.insert(7), Some(numbers[300]));
        assert_eq!(blocks.blocks.len(), 3);
    }
}
