//! A file in, a blob out, chunk by chunk.

use alloc::vec::Vec;
use core::fmt;

use rand_core::CryptoRng;
use zeroize::Zeroize;

use super::descriptor::Descriptor;
use super::keys::{Keys, Root, is_same};
use super::layout::{Chunk, ChunkSize, Layout};
use super::manifest::Manifest;
use crate::crypto::secret::Secret;
use crate::error::Error;

/// Seals the chunks of one file, in order, each once: no two texts ever meet one nonce.
///
/// It cannot be copied or stored, and an upload that is interrupted begins anew with another key,
/// unless a [`Manifest`] was stored before the first chunk left.
///
/// ```
/// use subrosa::SystemRng;
/// use subrosa::file::{self, ChunkSize, Sealer};
///
/// let note = [7; 10_000];
/// let mut sealer = Sealer::new(10_000, ChunkSize::VOICE, &mut SystemRng)?;
/// let (mut at, mut blob) = (0, Vec::new());
/// while let Some(length) = sealer.next_length() {
///     blob.extend(sealer.seal(&note[at..at + length])?);
///     at += length;
/// }
/// let descriptor = sealer.finish()?;
/// assert_eq!(file::open(&descriptor, &blob)?, note);
/// # Ok::<(), subrosa::Error>(())
/// ```
pub struct Sealer {
    layout: Layout,
    file_key: Secret<32>,
    pub(super) keys: Keys,
    next: u64,
    goal: Goal,
}

/// What the chunks lead to.
enum Goal {
    /// A root that only comes of them.
    Unknown(Root),
    /// They are to be these.
    Known { hashes: Vec<[u8; 32]>, root: Secret<32> },
}

impl Sealer {
    /// For a new file of `size` bytes. Draws 32 bytes, its key.
    ///
    /// # Errors
    /// [`Error::TooLong`] above 2^40 bytes.
    pub fn new(size: u64, chunk_size: ChunkSize, rng: &mut dyn CryptoRng) -> Result<Self, Error> {
        let layout = Layout::new(chunk_size, size).ok_or(Error::TooLong)?;
        let file_key = Secret::random(rng);
        let keys = Keys::derive(&file_key, chunk_size);
        let goal = Goal::Unknown(Root::new(&layout, &keys));
        Ok(Self { layout, file_key, keys, next: 0, goal })
    }

    /// For the rest of a file, from chunk number `from` on. Each chunk is compared with what the
    /// manifest says of it before it is handed out.
    ///
    /// # Errors
    /// [`Error::Malformed`] if there are fewer chunks.
    pub fn resume(manifest: Manifest, from: u64) -> Result<Self, Error> {
        let Manifest { descriptor: Descriptor { chunk_size, size, key, root }, hashes } = manifest;
        let layout = Layout::new(chunk_size, size).ok_or(Error::TooLong)?;
        if from > layout.count() {
            return Err(Error::Malformed);
        }
        let keys = Keys::derive(&key, chunk_size);
        Ok(Self { layout, file_key: key, keys, next: from, goal: Goal::Known { hashes, root } })
    }

    /// How many bytes the whole blob has: known before anything is sealed.
    #[must_use]
    pub fn blob_length(&self) -> u64 {
        self.layout.blob_length()
    }

    /// Where in the blob the next chunk goes.
    #[must_use]
    pub fn blob_position(&self) -> u64 {
        self.next_chunk().map_or(self.layout.blob_length(), |chunk| chunk.in_blob().start)
    }

    /// Where in the file the next chunk begins. At most the file's size.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.next_chunk().map_or(self.layout.size, |chunk| chunk.start.min(self.layout.size))
    }

    /// How many bytes of the file the next chunk takes: 0 if it is padding alone, `None` at the
    /// end.
    #[must_use]
    pub fn next_length(&self) -> Option<usize> {
        self.next_chunk().map(|chunk| chunk.content)
    }

    /// Seals the next chunk. `content` has [`Sealer::next_length`] bytes.
    ///
    /// # Errors
    /// [`Error::SourceChanged`] if it has not, or is not what the manifest says. Nothing was handed
    /// out then, and the sealer is as before.
    pub fn seal(&mut self, content: &[u8]) -> Result<Vec<u8>, Error> {
        let mut sealed = Vec::new();
        self.seal_to(content, &mut sealed)?;
        Ok(sealed)
    }

    /// What the readers are told, once all chunks are sealed.
    ///
    /// # Errors
    /// [`Error::SourceChanged`] if the file ended early.
    pub fn finish(self) -> Result<Descriptor, Error> {
        if self.next != self.layout.count() {
            return Err(Error::SourceChanged);
        }
        let root = match self.goal {
            Goal::Unknown(root) => root.finish().ok_or(Error::SourceChanged)?,
            Goal::Known { root, .. } => root,
        };
        let Layout { chunk_size, size } = self.layout;
        Ok(Descriptor { chunk_size, size, key: self.file_key, root })
    }

    /// Seals the next chunk, to the end of `blob`.
    pub(super) fn seal_to(&mut self, content: &[u8], blob: &mut Vec<u8>) -> Result<(), Error> {
        let chunk = self.next_of(content.len())?;
        let before = blob.len();
        blob.reserve_exact(chunk.sealed());
        blob.extend_from_slice(content);
        blob.resize(before.saturating_add(chunk.sealed()), 0);
        let (_, sealed) = blob.split_at_mut(before);
        let hash = self.keys.seal(&chunk, sealed);
        let accepted = self.accept(&[hash]);
        if accepted.is_err() {
            sealed.zeroize();
            blob.truncate(before);
        }
        accepted
    }

    /// Seals the next chunk where its content is. The hash of the result.
    pub(super) fn seal_in_place(&mut self, buffer: &mut Vec<u8>) -> Result<[u8; 32], Error> {
        let chunk = self.next_of(buffer.len())?;
        buffer.resize(chunk.sealed(), 0);
        let hash = self.keys.seal(&chunk, buffer);
        self.accept(&[hash]).inspect_err(|_| buffer.zeroize())?;
        Ok(hash)
    }

    /// Chunks were sealed that have these hashes, and may be handed out.
    pub(super) fn accept(&mut self, new: &[[u8; 32]]) -> Result<(), Error> {
        match &mut self.goal {
            Goal::Unknown(root) => new.iter().for_each(|hash| root.push(hash)),
            Goal::Known { hashes, .. } => {
                let from = usize::try_from(self.next).map_err(|_| Error::SourceChanged)?;
                let known = hashes.get(from..).unwrap_or_default();
                if known.len() < new.len()
                    || !new.iter().zip(known).all(|(new, known)| is_same(new, known))
                {
                    return Err(Error::SourceChanged);
                }
            }
        }
        self.next = self.next.saturating_add(u64::try_from(new.len()).unwrap_or(u64::MAX));
        Ok(())
    }

    #[cfg(feature = "std")]
    pub(super) const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The next chunk with its padding and tag.
    #[cfg(feature = "std")]
    pub(super) fn next_sealed_length(&self) -> usize {
        self.next_chunk().map_or(0, |chunk| chunk.sealed())
    }

    /// The number of the next chunk.
    #[cfg(feature = "std")]
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    fn next_chunk(&self) -> Option<Chunk> {
        self.layout.chunk(self.next)
    }

    fn next_of(&self, content: usize) -> Result<Chunk, Error> {
        self.next_chunk().filter(|chunk| chunk.content == content).ok_or(Error::SourceChanged)
    }
}

/// Shows the length of the blob and how far it is.
impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("Sealer");
        f.field("blob_length", &self.blob_length())
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}
