//! A blob in, a file out, chunk by chunk in any order.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use zeroize::Zeroizing;

use super::descriptor::Descriptor;
use super::keys::{Keys, Root};
use super::layout::Layout;
use crate::crypto::hash;
use crate::crypto::secret::Secret;
use crate::error::Error;

/// Opens the chunks of one blob, in any order, from any number of threads.
///
/// A chunk that opens is genuine and in its place. That all of them together are the file of the
/// descriptor, and not another one that its sender made under the same key, is what a [`Verifier`]
/// sees.
///
/// ```
/// use subrosa::SystemRng;
/// use subrosa::file::{self, ChunkSize, Opener};
///
/// let (descriptor, blob) = file::seal(&[7; 10_000], ChunkSize::VOICE, &mut SystemRng)?;
/// let opener = Opener::new(&descriptor);
/// let mut verifier = opener.verifier();
/// for (index, sealed) in (0..).zip(blob.chunks(4_112)) {
///     verifier.add(sealed)?;
///     let content = opener.open(index, sealed)?; // play it
/// #   drop(content);
/// }
/// verifier.finish()?; // now say that it has arrived
/// # Ok::<(), subrosa::Error>(())
/// ```
pub struct Opener {
    pub(super) layout: Layout,
    pub(super) keys: Keys,
    root: Secret<32>,
}

impl Opener {
    /// For the blob of this descriptor.
    #[must_use]
    pub fn new(descriptor: &Descriptor) -> Self {
        let keys = Keys::derive(&descriptor.key, descriptor.chunk_size);
        Self { layout: descriptor.layout(), keys, root: descriptor.root.clone() }
    }

    /// How many bytes of the blob chunk number `index` has; `None` if there is no such chunk.
    #[must_use]
    pub fn sealed_length(&self, index: u64) -> Option<usize> {
        self.layout.chunk(index).map(|chunk| chunk.sealed())
    }

    /// The bytes of the file that are in chunk number `index`; none if it is padding alone.
    ///
    /// # Errors
    /// [`Error::DamagedChunk`]
    pub fn open(&self, index: u64, sealed: &[u8]) -> Result<Vec<u8>, Error> {
        let mut content = Vec::new();
        self.open_to(index, sealed, &mut content)?;
        Ok(content)
    }

    /// Whether this is the whole blob that the descriptor was made for. Its chunks are not opened.
    ///
    /// # Errors
    /// [`Error::DamagedFile`]
    pub fn verify(&self, blob: &[u8]) -> Result<(), Error> {
        if u64::try_from(blob.len()) != Ok(self.layout.blob_length()) {
            return Err(Error::DamagedFile);
        }
        let mut verifier = self.verifier();
        let mut rest = blob;
        while let Some(length) = verifier.next_length() {
            let (sealed, after) = rest.split_at_checked(length).ok_or(Error::DamagedFile)?;
            verifier.add(sealed)?;
            rest = after;
        }
        verifier.finish()
    }

    /// What sees all chunks in order.
    pub fn verifier(&self) -> Verifier {
        let root = Root::new(&self.layout, &self.keys);
        Verifier { layout: self.layout, next: 0, root, expected: self.root.clone() }
    }

    /// As [`Opener::open`], to the end of `file`, which is as before where it fails.
    pub(super) fn open_to(
        &self,
        index: u64,
        sealed: &[u8],
        file: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let chunk = self.layout.chunk(index).ok_or(Error::DamagedChunk(index))?;
        let before = file.len();
        let end = before.saturating_add(chunk.content);
        // Padding goes elsewhere, so that the file does not grow beyond its size.
        if chunk.content == chunk.padded {
            file.resize(end, 0);
            let (_, text) = file.split_at_mut(before);
            return self.keys.open(&chunk, sealed, text).inspect_err(|_| file.truncate(before));
        }
        let mut text = Zeroizing::new(vec![0; chunk.padded]);
        self.keys.open(&chunk, sealed, &mut text)?;
        file.extend_from_slice(text.get(..chunk.content).unwrap_or_default());
        Ok(())
    }
}

/// Sees all chunks of a blob in order, and knows at the end whether they are those of the
/// descriptor.
#[must_use]
pub struct Verifier {
    layout: Layout,
    next: u64,
    root: Root,
    expected: Secret<32>,
}

impl Verifier {
    /// How many bytes of the blob the next chunk has; `None` at the end.
    #[must_use]
    pub fn next_length(&self) -> Option<usize> {
        self.layout.chunk(self.next).map(|chunk| chunk.sealed())
    }

    /// The next chunk, as it is in the blob.
    ///
    /// # Errors
    /// [`Error::DamagedChunk`] if it has another length than the chunk that comes next; the
    /// verifier is as before.
    pub fn add(&mut self, sealed: &[u8]) -> Result<(), Error> {
        if self.next_length() != Some(sealed.len()) {
            return Err(Error::DamagedChunk(self.next));
        }
        self.push(&[hash::of(sealed)]);
        Ok(())
    }

    /// Whether they were all chunks of the file.
    ///
    /// # Errors
    /// [`Error::DamagedFile`]
    pub fn finish(self) -> Result<(), Error> {
        self.check()
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let is_whole = self.next == self.layout.count();
        // Both are secret, and compared as such.
        let holds = self.root.finish().as_ref() == Some(&self.expected);
        if is_whole && holds { Ok(()) } else { Err(Error::DamagedFile) }
    }

    /// The hashes of the next chunks.
    pub(super) fn push(&mut self, hashes: &[[u8; 32]]) {
        hashes.iter().for_each(|hash| self.root.push(hash));
        self.next = self.next.saturating_add(u64::try_from(hashes.len()).unwrap_or(u64::MAX));
    }

    /// The number of the next chunk.
    #[cfg(feature = "std")]
    pub(super) const fn next(&self) -> u64 {
        self.next
    }
}

/// Shows the length of the blob.
impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener")
            .field("blob_length", &self.layout.blob_length())
            .finish_non_exhaustive()
    }
}

/// Shows the length of the blob and how far it is.
impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("Verifier");
        f.field("blob_length", &self.layout.blob_length())
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}
