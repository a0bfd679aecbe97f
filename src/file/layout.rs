//! Which bytes of a file are in which chunk, and where in the blob that chunk is.

use core::ops::Range;

use crate::crypto::aead::TAG_LENGTH;
use crate::padding;

/// How long the chunks of a file are: `2^k` bytes, `k` from 12 to 20.
///
/// Nothing of a chunk can be read before all of it has come. Each chunk adds 16 bytes to the blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkSize(u8);

impl ChunkSize {
    /// 64 KiB: the tags add 0.02 %, and a video can be played from any place at once.
    pub const DEFAULT: Self = Self(16);

    /// 4 KiB, for what is played while it arrives: 1.4 seconds of a voice note of 24 kbit/s, where
    /// 64 KiB would be 22 seconds.
    pub const VOICE: Self = Self(12);

    /// Chunks of `2^k` bytes. `None` unless `k` is from 12 to 20.
    #[must_use]
    pub const fn new(k: u8) -> Option<Self> {
        if k < 12 || k > 20 { None } else { Some(Self(k)) }
    }

    /// `k`
    #[must_use]
    pub const fn exponent(self) -> u8 {
        self.0
    }

    /// `2^k` bytes.
    #[must_use]
    pub fn bytes(self) -> usize {
        1_usize.wrapping_shl(self.0.into())
    }
}

/// [`ChunkSize::DEFAULT`]
impl Default for ChunkSize {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What follows from the size of a file and of its chunks.
///
/// ```text
/// |P| = Padme(max(size, 1024))        n = ceil(|P| / 2^k)        |blob| = |P| + 16 * n
/// ```
#[derive(Clone, Copy)]
pub(super) struct Layout {
    pub(super) chunk_size: ChunkSize,
    pub(super) size: u64,
}

/// The longest file: 2^40 bytes.
pub(super) const MAX_SIZE: u64 = 1 << 40;

/// A shorter file is padded to this: most thumbnails and short notes look alike.
const LEAST: u64 = 1024;

impl Layout {
    /// `None` if the file is longer than [`MAX_SIZE`].
    pub(super) const fn new(chunk_size: ChunkSize, size: u64) -> Option<Self> {
        if size > MAX_SIZE { None } else { Some(Self { chunk_size, size }) }
    }

    pub(super) fn count(&self) -> u64 {
        self.padded().div_ceil(self.step())
    }

    pub(super) fn blob_length(&self) -> u64 {
        self.padded().saturating_add(self.count().saturating_mul(TAG))
    }

    /// `None` from the end on.
    pub(super) fn chunk(&self, index: u64) -> Option<Chunk> {
        let last = self.count().checked_sub(1)?;
        let before = index.checked_mul(self.step())?;
        let padded = self.padded().checked_sub(before)?.min(self.step());
        let content = self.size.saturating_sub(before).min(padded);
        (index <= last).then(|| Chunk {
            index,
            is_last: index == last,
            start: before,
            content: length(content),
            padded: length(padded),
        })
    }

    /// The number of the chunk that holds this byte of the file.
    pub(super) fn index_of(&self, position: u64) -> u64 {
        position.wrapping_shr(self.chunk_size.0.into())
    }

    /// The chunks from number `from` on that hold the next `bytes` bytes of the file; with its last
    /// byte goes the padding. `None` unless these are whole chunks.
    #[cfg(feature = "std")]
    pub(super) fn run(&self, from: u64, bytes: usize) -> Option<Range<u64>> {
        let start = from.checked_mul(self.step())?.min(self.size);
        let end = start.checked_add(u64::try_from(bytes).ok()?)?;
        let until = if end == self.size { self.count() } else { self.index_of(end) };
        let is_whole =
            end == self.size || (end < self.size && until.checked_mul(self.step()) == Some(end));
        (is_whole && from <= until).then_some(from..until)
    }

    fn padded(&self) -> u64 {
        padding::padme(self.size.max(LEAST))
    }

    fn step(&self) -> u64 {
        1_u64.wrapping_shl(self.chunk_size.0.into())
    }
}

/// One chunk of a file.
pub(super) struct Chunk {
    pub(super) index: u64,
    pub(super) is_last: bool,
    /// Where it begins in the file.
    pub(super) start: u64,
    /// How many bytes of the file are in it.
    pub(super) content: usize,
    /// With the zeros after them.
    pub(super) padded: usize,
}

impl Chunk {
    /// With the tag: its length in the blob.
    pub(super) const fn sealed(&self) -> usize {
        self.padded.saturating_add(TAG_LENGTH)
    }

    /// Its bytes in the blob.
    pub(super) fn in_blob(&self) -> Range<u64> {
        let start = self.start.saturating_add(self.index.saturating_mul(TAG));
        let length = u64::try_from(self.sealed()).unwrap_or(u64::MAX);
        start..start.saturating_add(length)
    }
}

const TAG: u64 = 16;

fn length(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a chunk is at most 2^20 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chunks_of_a_file_follow_one_another_and_are_all_of_it() {
        let sizes = (0..5)
            .chain(1_020..1_030)
            .chain(4_090..4_100)
            .chain(8_190..8_200)
            .chain([70_000, 300_001, 1_048_575, 1_048_576, 1_048_577, 9_999_999]);
        for size in sizes {
            for k in [12, 13, 16, 20] {
                let layout = Layout::new(ChunkSize::new(k).unwrap(), size).unwrap();
                let (mut content, mut blob, mut count) = (0, 0, 0);
                while let Some(chunk) = layout.chunk(count) {
                    assert_eq!(chunk.in_blob().start, blob);
                    assert!(chunk.content == 0 || chunk.start == content);
                    assert!((1..=1 << k).contains(&chunk.padded) && chunk.content <= chunk.padded);
                    assert_eq!(chunk.is_last, count + 1 == layout.count());
                    assert!(chunk.is_last || chunk.padded == 1 << k);
                    (blob, count) = (chunk.in_blob().end, count + 1);
                    content += u64::try_from(chunk.content).unwrap();
                }
                assert_eq!((content, blob, count), (size, layout.blob_length(), layout.count()));
            }
        }
    }

    #[test]
    fn the_longest_file_is_two_to_the_40_bytes() {
        let layout = Layout::new(ChunkSize::VOICE, MAX_SIZE).unwrap();
        assert_eq!((layout.count(), layout.blob_length()), (1 << 28, (1 << 40) + (1 << 32)));
        assert!(layout.chunk((1 << 28) - 1).unwrap().is_last);
        assert!(layout.chunk(1 << 28).is_none() && layout.chunk(u64::MAX).is_none());
        assert!(Layout::new(ChunkSize::VOICE, MAX_SIZE + 1).is_none());
    }

    #[test]
    fn no_other_exponent_is_a_chunk_size() {
        for k in 0..=u8::MAX {
            assert_eq!(ChunkSize::new(k).is_some(), (12..=20).contains(&k), "{k}");
        }
    }
}
