//! A set of small numbers.

use alloc::vec::Vec;

/// A set of small numbers, a bit each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    /// The empty set, with room for the numbers below `most`.
    pub(super) fn with_room(most: usize) -> Self {
        Self(alloc::vec![0; most.div_ceil(WORD)])
    }

    pub(super) fn contains(&self, number: usize) -> bool {
        self.0.get(number / WORD).is_some_and(|word| word & bit(number) != 0)
    }

    pub(super) fn insert(&mut self, number: usize) {
        let at = number / WORD;
        if at >= self.0.len() {
            self.0.resize(at.saturating_add(1), 0);
        }
        if let Some(word) = self.0.get_mut(at) {
            *word |= bit(number);
        }
    }

    pub(super) fn extend(&mut self, other: &Self) {
        if other.0.len() > self.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
    }
}

fn bit(number: usize) -> u64 {
    1_u64.rotate_left(u32::try_from(number % WORD).unwrap_or(0))
}

const WORD: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_into_it() {
        let (mut some, mut others) = (Bits::with_room(10), Bits::default());
        [0, 63, 64, 200].into_iter().for_each(|number| some.insert(number));
        [1, 63, 500].into_iter().for_each(|number| others.insert(number));
        some.extend(&others);
        let held: Vec<usize> = (0..1_000).filter(|number| some.contains(*number)).collect();
        assert_eq!(held, [0, 1, 63, 64, 200, 500]);
        assert_eq!(some.0.iter().map(|word| word.count_ones()).sum::<u32>(), 6);
    }
}
