//! Choices out of a fuzzer's bytes.

/// What is left of the bytes.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// None at the end.
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    /// 0 at the end.
    pub(crate) fn small(&mut self) -> usize {
        self.byte().map_or(0, usize::from)
    }

    /// Two bytes, the high one first.
    pub(crate) fn number(&mut self) -> usize {
        self.small() * 256 + self.small()
    }

    /// One of so many; at least one.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.number() % bound.max(1)
    }

    /// Two bytes of length, and so many bytes, or as many as there are.
    pub(crate) fn run(&mut self) -> &'a [u8] {
        let length = self.number().min(self.0.len());
        let (run, rest) = self.0.split_at(length);
        self.0 = rest;
        run
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// Other bytes than these, as the input says: some flipped, fewer, or more.
pub(crate) fn changed(bytes: &[u8], input: &mut Input<'_>) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    match input.small() % 4 {
        0 => changed.truncate(input.below(bytes.len())),
        1 => changed.extend_from_slice(&[0; 16][..1 + input.small() % 16]),
        _ => {
            let at = input.below(bytes.len());
            if let Some(byte) = changed.get_mut(at) {
                *byte ^= input.byte().unwrap_or(1).max(1);
            }
        }
    }
    changed
}
