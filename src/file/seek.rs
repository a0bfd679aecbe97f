//! Any part of a file, in any order.

use std::io::{ErrorKind, Read, Result, Seek, SeekFrom};

use alloc::vec::Vec;
use core::fmt;

use zeroize::Zeroizing;

use super::descriptor::Descriptor;
use super::opener::Opener;
use crate::error::Error;

/// Reads a file from any place of its blob, as a video player does. **Not verified as a whole.**
///
/// Every byte is genuine: encrypted by somebody who holds the key, in this place of this file,
/// whose length the descriptor says. What it cannot see by itself is whether a sender showed others
/// another file under the same descriptor; [`SeekReader::verify`] reads all of the blob to tell.
/// What only reads from start to end uses [`Reader`](super::Reader), which is always verified.
///
/// It holds one chunk.
///
/// ```
/// use std::io::{Cursor, Read, Seek, SeekFrom};
/// use subrosa::SystemRng;
/// use subrosa::file::{self, ChunkSize, SeekReader};
///
/// # fn main() -> std::io::Result<()> {
/// let (descriptor, blob) = file::seal(&[7; 10_000], ChunkSize::VOICE, &mut SystemRng)?;
/// let mut reader = SeekReader::new(Cursor::new(blob), &descriptor)?;
/// reader.seek(SeekFrom::End(-1_000))?;
/// let mut end = Vec::new();
/// reader.read_to_end(&mut end)?;
/// assert_eq!(end, [7; 1_000]);
/// reader.verify()?;
/// # Ok(())
/// # }
/// ```
pub struct SeekReader<R> {
    inner: R,
    opener: Opener,
    position: u64,
    /// The chunk that is open.
    open: Option<u64>,
    buffer: Zeroizing<Vec<u8>>,
}

impl<R: Read + Seek> SeekReader<R> {
    /// For a blob that begins at the start of `inner`.
    ///
    /// # Errors
    /// Those of `inner`; [`Error::DamagedFile`] if it has another length.
    pub fn new(mut inner: R, descriptor: &Descriptor) -> Result<Self> {
        if inner.seek(SeekFrom::End(0))? != descriptor.blob_length() {
            return Err(Error::DamagedFile.into());
        }
        let buffer = Zeroizing::new(Vec::new());
        Ok(Self { inner, opener: Opener::new(descriptor), position: 0, open: None, buffer })
    }

    /// Reads all of the blob: whether it is the one that the descriptor was made for. The position
    /// stays.
    ///
    /// # Errors
    /// Those of `inner`; [`Error::DamagedFile`].
    pub fn verify(&mut self) -> Result<()> {
        self.open = None;
        self.inner.rewind()?;
        let mut verifier = self.opener.verifier();
        while let Some(length) = verifier.next_length() {
            self.read_sealed(length)?;
            verifier.add(&self.buffer)?;
        }
        Ok(verifier.finish()?)
    }

    /// Opens the chunk at the position. How many of its bytes come before the position; `None` at
    /// the end of the file.
    fn open(&mut self) -> Result<Option<usize>> {
        let layout = self.opener.layout;
        let chunk =
            layout.chunk(layout.index_of(self.position)).filter(|_| self.position < layout.size);
        let Some(chunk) = chunk else { return Ok(None) };
        if self.open != Some(chunk.index) {
            self.open = None;
            self.inner.seek(SeekFrom::Start(chunk.in_blob().start))?;
            self.read_sealed(chunk.sealed())?;
            self.opener.keys.open_in_place(&chunk, &mut self.buffer)?;
            self.buffer.truncate(chunk.content);
            self.open = Some(chunk.index);
        }
        Ok(usize::try_from(self.position.saturating_sub(chunk.start)).ok())
    }

    /// Reads `length` bytes into the buffer.
    fn read_sealed(&mut self, length: usize) -> Result<()> {
        self.buffer.clear();
        self.buffer.reserve_exact(length);
        self.buffer.resize(length, 0);
        self.inner.read_exact(&mut self.buffer).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => Error::DamagedFile.into(),
            _ => error,
        })
    }
}

impl<R: Read + Seek> Read for SeekReader<R> {
    /// [`Error::DamagedChunk`] besides what `inner` says; the position stays.
    fn read(&mut self, out: &mut [u8]) -> Result<usize> {
        let Some(before) = self.open()? else { return Ok(0) };
        let rest = self.buffer.get(before..).unwrap_or_default();
        let length = rest.len().min(out.len());
        out.iter_mut().zip(rest).for_each(|(out, byte)| *out = *byte);
        self.position = self.position.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
        Ok(length)
    }
}

impl<R: Read + Seek> Seek for SeekReader<R> {
    /// In the file, not in the blob. Its end is where the descriptor says.
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(by) => self.opener.layout.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = position.ok_or(ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

/// Shows what the opener shows.
impl<R> fmt::Debug for SeekReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SeekReader").field("opener", &self.opener).finish_non_exhaustive()
    }
}
