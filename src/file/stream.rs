//! Chunks of a file whose size nobody knows when the first is sealed, and that has no descriptor:
//! an archive is one.

use alloc::vec::Vec;

use super::keys::Keys;
use super::layout::{self, Chunk, ChunkSize};
use crate::crypto::aead::TAG_LENGTH;
use crate::crypto::secret::Secret;
use crate::error::Error;

/// Seals and opens such chunks, of 2^16 bytes each; the last has 1 to 2^16.
///
/// Who seals sees to it that each number comes once.
pub(crate) struct Stream(Keys);

impl Stream {
    pub(crate) const CHUNK: usize = 1 << 16;
    pub(crate) const TAG: usize = TAG_LENGTH;
    pub(crate) const MAX_SIZE: u64 = layout::MAX_SIZE;

    pub(crate) fn new(file_key: &Secret<32>) -> Self {
        Self(Keys::derive(file_key, ChunkSize::DEFAULT))
    }

    /// Seals in place; the tag comes behind.
    pub(crate) fn seal(&self, index: u64, is_last: bool, buffer: &mut Vec<u8>) {
        let chunk = chunk(index, is_last, buffer.len());
        buffer.resize(chunk.sealed(), 0);
        self.0.seal_alone(&chunk, buffer);
    }

    /// Opens in place, and takes the tag away.
    ///
    /// # Errors
    /// [`Error::DamagedChunk`]
    pub(crate) fn open(
        &self,
        index: u64,
        is_last: bool,
        buffer: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let length = buffer.len().checked_sub(TAG_LENGTH).filter(|length| *length != 0);
        let length = length.ok_or(Error::DamagedChunk(index))?;
        self.0.open_in_place(&chunk(index, is_last, length), buffer)?;
        buffer.truncate(length);
        Ok(())
    }
}

fn chunk(index: u64, is_last: bool, length: usize) -> Chunk {
    let start = index.saturating_mul(1 << 16);
    Chunk { index, is_last, start, content: length, padded: length }
}
