//! The pass over a file before it is uploaded.

use alloc::vec::Vec;
use core::fmt;

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::layout::ChunkSize;
use super::manifest::Manifest;
use super::sealer::Sealer;
use crate::error::Error;

/// Makes a [`Manifest`] from a file, chunk by chunk. Nothing that it seals is handed out.
pub struct ManifestBuilder {
    sealer: Sealer,
    buffer: Zeroizing<Vec<u8>>,
    hashes: Vec<[u8; 32]>,
}

impl ManifestBuilder {
    /// For a new file of `size` bytes. Draws 32 bytes, its key.
    ///
    /// # Errors
    /// [`Error::TooLong`] above 2^40 bytes.
    pub fn new(size: u64, chunk_size: ChunkSize, rng: &mut dyn CryptoRng) -> Result<Self, Error> {
        let sealer = Sealer::new(size, chunk_size, rng)?;
        Ok(Self { sealer, buffer: Zeroizing::new(Vec::new()), hashes: Vec::new() })
    }

    /// As [`Sealer::next_length`].
    #[must_use]
    pub fn next_length(&self) -> Option<usize> {
        self.sealer.next_length()
    }

    /// The next chunk, of [`ManifestBuilder::next_length`] bytes.
    ///
    /// # Errors
    /// [`Error::SourceChanged`] if it has another length.
    pub fn add(&mut self, content: &[u8]) -> Result<(), Error> {
        self.buffer.clear();
        self.buffer.reserve_exact(content.len().saturating_add(ROOM));
        self.buffer.extend_from_slice(content);
        let hash = self.sealer.seal_in_place(&mut self.buffer)?;
        self.hashes.push(hash);
        Ok(())
    }

    /// The manifest, once all chunks were added.
    ///
    /// # Errors
    /// [`Error::SourceChanged`] if the file ended early.
    pub fn finish(self) -> Result<Manifest, Error> {
        Ok(Manifest { descriptor: self.sealer.finish()?, hashes: self.hashes })
    }
}

/// For the tag, so that a full chunk does not move in memory and leave a copy behind.
const ROOM: usize = 16;

/// Shows what the sealer shows.
impl fmt::Debug for ManifestBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManifestBuilder").field("sealer", &self.sealer).finish_non_exhaustive()
    }
}
