//! What has to be stored for an upload to go on after an interruption.

use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use super::descriptor::Descriptor;
use super::keys::{Keys, Root};
use crate::at_rest;
use crate::error::Error;

/// A descriptor and the hashes of all chunks: what [`Sealer::resume`](super::Sealer::resume) holds
/// each chunk against.
///
/// ```text
/// descriptor:74 || SHA-256(C_0):32 || SHA-256(C_1):32 || ..
/// ```
///
/// It is made by a pass over the file that hands out nothing, and stored before the first chunk
/// leaves. If the file changes afterwards, no chunk of the changed file leaves under the same key:
/// two texts under one nonce would tell each other. It takes 32 bytes of memory for each chunk.
///
/// ```
/// use subrosa::file::{self, ChunkSize, Manifest, ManifestBuilder, Sealer};
/// use subrosa::{Error, SystemRng};
///
/// let note = [7; 10_000];
/// let mut builder = ManifestBuilder::new(10_000, ChunkSize::VOICE, &mut SystemRng)?;
/// let mut at = 0;
/// while let Some(length) = builder.next_length() {
///     builder.add(&note[at..at + length])?;
///     at += length;
/// }
/// let stored = builder.finish()?.encode();
///
/// // The upload begins; after 4,096 bytes of the file the network is gone, or the power.
/// let mut sealer = Sealer::resume(Manifest::decode(&stored)?, 1)?;
/// assert_eq!((sealer.position(), sealer.blob_position()), (4_096, 4_112));
/// assert_eq!(sealer.seal(&[8; 4_096]), Err(Error::SourceChanged));
/// let second = sealer.seal(&note[4_096..8_192])?;
/// # drop(second);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Manifest {
    pub(super) descriptor: Descriptor,
    pub(super) hashes: Vec<[u8; 32]>,
}

impl Manifest {
    /// What the readers are told. The blob is complete once every chunk was uploaded.
    #[must_use]
    pub const fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// The state at rest: 74 bytes, and 32 for each chunk. Secret; wiped when dropped.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let hashes = self.hashes.as_flattened();
        let mut bytes =
            Zeroizing::new(Vec::with_capacity(Descriptor::LENGTH.saturating_add(hashes.len())));
        bytes.extend_from_slice(&self.descriptor.encode());
        bytes.extend_from_slice(hashes);
        bytes
    }

    /// From what [`Manifest::encode`] made.
    ///
    /// # Errors
    /// [`Error::BadState`], also where the hashes do not make the descriptor's root.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let (descriptor, hashes) =
            bytes.split_at_checked(Descriptor::LENGTH).ok_or(Error::BadState)?;
        let descriptor = Descriptor::decode(descriptor).map_err(|_| Error::BadState)?;
        let (hashes, []) = hashes.as_chunks() else { return Err(Error::BadState) };
        let layout = descriptor.layout();
        let mut root = Root::new(&layout, &Keys::derive(&descriptor.key, descriptor.chunk_size));
        hashes.iter().for_each(|hash| root.push(hash));
        let is_whole = u64::try_from(hashes.len()) == Ok(layout.count())
            && root.finish().as_ref() == Some(&descriptor.root);
        if is_whole {
            Ok(Self { descriptor, hashes: hashes.to_vec() })
        } else {
            Err(Error::BadState)
        }
    }
}

/// Shows what the descriptor shows.
impl fmt::Debug for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manifest").field("descriptor", &self.descriptor).finish_non_exhaustive()
    }
}

/// As [`Manifest::encode`].
impl Serialize for Manifest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.encode())
    }
}

/// As [`Manifest::decode`].
impl<'de> Deserialize<'de> for Manifest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        at_rest::state::deserialize(deserializer, Self::decode)
    }
}
