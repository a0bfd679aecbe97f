//! Which frames under a key were opened: the last 1,024.

/// The frames up to this far behind the newest are told apart.
pub(super) const WIDTH: u64 = 1_024;

const WORDS: usize = 16;

/// A replay window. It is looked at before a frame is opened, and marked once that was genuine.
pub(super) struct Window {
    /// One above the highest counter that was marked.
    end: u64,
    /// Bit `counter % 1,024` stands for the counter within the window.
    marked: [u64; WORDS],
}

impl Window {
    pub(super) const fn new() -> Self {
        Self { end: 0, marked: [0; WORDS] }
    }

    /// Whether a frame may be opened: it is not too far behind, and was not opened before.
    #[inline]
    pub(super) fn is_open(&self, counter: u64) -> bool {
        if counter >= self.end {
            return true;
        }
        let behind = self.end.saturating_sub(counter);
        let (word, bit) = place(counter);
        behind <= WIDTH && self.marked.get(word).is_some_and(|word| word & bit == 0)
    }

    /// A frame was genuine.
    #[inline]
    pub(super) fn mark(&mut self, counter: u64) {
        if counter >= self.end {
            // What comes into the window was not seen yet.
            let first = self.end.max(counter.saturating_sub(WIDTH).saturating_add(1));
            if counter.saturating_sub(self.end) >= WIDTH {
                self.marked = [0; WORDS];
            } else {
                for passed in first..counter {
                    self.set(passed, false);
                }
            }
            self.end = counter.saturating_add(1);
        }
        self.set(counter, true);
    }

    #[inline]
    fn set(&mut self, counter: u64, is_marked: bool) {
        let (word, bit) = place(counter);
        if let Some(word) = self.marked.get_mut(word) {
            *word = if is_marked { *word | bit } else { *word & !bit };
        }
    }
}

#[inline]
fn place(counter: u64) -> (usize, u64) {
    let word = usize::try_from(counter / 64 % 16).unwrap_or_default();
    (word, 1_u64.wrapping_shl(u32::try_from(counter % 64).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    #[test]
    fn it_agrees_with_a_set_of_all_that_was_marked() {
        for seed in 1..200_u64 {
            let (mut window, mut all, mut highest) = (Window::new(), BTreeSet::new(), None);
            let mut state = seed;
            for _ in 0..2_000 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let near = highest.unwrap_or(0_u64);
                let counter = match state >> 61 {
                    0 => near.saturating_sub(state >> 40 & 0xfff),
                    1 => near + (state >> 40 & 0xfff),
                    2 => near.saturating_sub(WIDTH - 1),
                    3 => near.saturating_sub(WIDTH),
                    4 => near.saturating_sub(state >> 40 & 0x3f),
                    _ => near + (state >> 40 & 3),
                };
                let is_near = highest.is_none_or(|highest| counter + WIDTH > highest);
                let expected = is_near && !all.contains(&counter);
                assert_eq!(window.is_open(counter), expected, "seed {seed}, counter {counter}");
                if expected {
                    window.mark(counter);
                    all.insert(counter);
                    highest = highest.max(Some(counter));
                }
            }
        }
    }

    #[test]
    fn the_last_counter_of_all_does_no_harm() {
        let mut window = Window::new();
        window.mark(u64::MAX);
        assert!(!window.is_open(0));
        assert!(!window.is_open(u64::MAX - WIDTH));
    }
}
