//! What the sender of a file says of it to those who may read it.

use alloc::vec::Vec;
use core::fmt;
use core::ops::{Bound, Range, RangeBounds};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use super::layout::{ChunkSize, Layout};
use crate::at_rest;
use crate::codec::Reader;
use crate::crypto::secret::Secret;
use crate::error::Error;

/// What opens a blob: its key, and what tells it from every other blob.
///
/// ```text
/// version:u8 = 1 || k:u8 || size:u64 || F:32 || root:32
/// ```
///
/// 74 bytes, all of them secret. It travels in a message, encrypted; the blob may lie anywhere. A
/// descriptor that exists is a plausible one, but only the blob shows whether there is a file to it
/// (docs/files.md).
///
/// ```
/// use subrosa::SystemRng;
/// use subrosa::file::{self, ChunkSize, Descriptor};
///
/// let (descriptor, blob) = file::seal(b"a photograph", ChunkSize::DEFAULT, &mut SystemRng)?;
/// let received = Descriptor::decode(&descriptor.encode())?;
/// assert_eq!((received.size(), received.blob_length()), (12, 1_040));
/// assert_eq!(file::open(&received, &blob)?, b"a photograph");
/// # Ok::<(), subrosa::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Descriptor {
    pub(super) chunk_size: ChunkSize,
    pub(super) size: u64,
    pub(super) key: Secret<32>,
    pub(super) root: Secret<32>,
}

impl Descriptor {
    /// The length of [`Descriptor::encode`]: 74 bytes.
    pub const LENGTH: usize = 74;

    /// The bytes that travel. Secret; wiped when dropped.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(Self::LENGTH));
        bytes.extend_from_slice(&[VERSION, self.chunk_size.exponent()]);
        bytes.extend_from_slice(&self.size.to_be_bytes());
        bytes.extend_from_slice(self.key.expose());
        bytes.extend_from_slice(self.root.expose());
        bytes
    }

    /// From what [`Descriptor::encode`] made.
    ///
    /// # Errors
    /// [`Error::UnsupportedVersion`]; [`Error::Malformed`] unless it is 74 bytes, `k` from 12 to 20
    /// and the size at most 2^40.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return Err(Error::UnsupportedVersion);
        }
        let chunk_size = ChunkSize::new(reader.u8()?).ok_or(Error::Malformed)?;
        let size = reader.u64()?;
        let (key, root) = (Secret::new(*reader.array()?), Secret::new(*reader.array()?));
        reader.end()?;
        Layout::new(chunk_size, size).ok_or(Error::Malformed)?;
        Ok(Self { chunk_size, size, key, root })
    }

    /// How many bytes the file has, without padding: at most 2^40.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// How long the chunks are.
    #[must_use]
    pub const fn chunk_size(&self) -> ChunkSize {
        self.chunk_size
    }

    /// How many bytes the blob has. A blob of another length is not this file's.
    #[must_use]
    pub fn blob_length(&self) -> u64 {
        self.layout().blob_length()
    }

    /// How many chunks the blob has, at least one.
    #[must_use]
    pub fn chunk_count(&self) -> u64 {
        self.layout().count()
    }

    /// Which part of the blob holds these bytes of the file: what to ask for with an HTTP range.
    ///
    /// A range that reaches beyond the file ends with it.
    ///
    /// ```
    /// # use subrosa::SystemRng;
    /// # use subrosa::file::{self, ChunkSize, Opener};
    /// # let (descriptor, blob) = file::seal(&[7; 10_000], ChunkSize::VOICE, &mut SystemRng)?;
    /// let span = descriptor.locate(5_000..);
    /// assert_eq!(span.chunks, 1..3);
    /// assert_eq!(span.blob, 4_112..10_288); // Range: bytes=4112-10287
    /// assert_eq!(span.skip, 904);
    /// # let fetched = &blob[4_112..];
    /// let opener = Opener::new(&descriptor);
    /// let first = opener.open(1, &fetched[..4_112])?;
    /// assert_eq!(first[span.skip..], [7; 3_192]);
    /// # Ok::<(), subrosa::Error>(())
    /// ```
    #[must_use]
    pub fn locate(&self, bytes: impl RangeBounds<u64>) -> Span {
        let start = match bytes.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match bytes.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => self.size,
        };
        self.span(start, end.min(self.size)).unwrap_or_default()
    }

    /// `None` if there are no bytes between.
    fn span(&self, start: u64, end: u64) -> Option<Span> {
        let layout = self.layout();
        let last = end.checked_sub(1).filter(|last| start <= *last)?;
        let (first, last) =
            (layout.chunk(layout.index_of(start))?, layout.chunk(layout.index_of(last))?);
        Some(Span {
            chunks: first.index..last.index.saturating_add(1),
            blob: first.in_blob().start..last.in_blob().end,
            skip: usize::try_from(start.saturating_sub(first.start)).ok()?,
        })
    }

    pub(super) const fn layout(&self) -> Layout {
        Layout { chunk_size: self.chunk_size, size: self.size }
    }
}

pub(super) const VERSION: u8 = 1;

/// A part of a blob, in whole chunks. Empty where there is nothing to fetch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The numbers of the chunks, for [`Opener::open`](super::Opener::open).
    pub chunks: Range<u64>,
    /// Their bytes in the blob.
    pub blob: Range<u64>,
    /// How many bytes of the first chunk's content come before those that were asked for.
    pub skip: usize,
}

/// Shows the length of the blob alone, which everybody who sees the blob knows.
impl fmt::Debug for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Descriptor")
            .field("blob_length", &self.blob_length())
            .finish_non_exhaustive()
    }
}

/// As [`Descriptor::decode`].
impl TryFrom<&[u8]> for Descriptor {
    type Error = Error;

    fn try_from(bytes: &[u8]) -> Result<Self, Error> {
        Self::decode(bytes)
    }
}

/// As [`Descriptor::encode`].
impl Serialize for Descriptor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.encode())
    }
}

/// As [`Descriptor::decode`].
impl<'de> Deserialize<'de> for Descriptor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        at_rest::state::deserialize(deserializer, Self::decode)
    }
}
