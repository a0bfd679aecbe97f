//! What seals and opens chunks, and the one hash over all of them.

use subtle::ConstantTimeEq;

use super::descriptor::VERSION;
use super::layout::{Chunk, ChunkSize, Layout};
use crate::crypto::aead::{self, NONCE_LENGTH};
use crate::crypto::hash::{self, Hash};
use crate::crypto::secret::Secret;
use crate::crypto::{kdf, mark};
use crate::error::Error;

/// `K:32 || C:32 = HKDF(0, F, "Subrosa v1 file" || version:u8 || k:u8, 64)`
pub(super) struct Keys {
    key: Secret<32>,
    /// `C` goes into the root, so that it holds for one key alone: ChaCha20-Poly1305 does not see
    /// to it.
    commitment: Secret<32>,
}

impl Keys {
    pub(super) fn derive(file_key: &Secret<32>, chunk_size: ChunkSize) -> Self {
        let info: [&[u8]; 2] = [b"Subrosa v1 file", &[VERSION, chunk_size.exponent()]];
        let [key, commitment] = kdf::derive(&[0; 32], &[file_key.expose()], &info);
        Self { key, commitment }
    }

    /// Seals in place: content, zeros to the end, of which the last 16 become the tag. The hash of
    /// the result.
    pub(super) fn seal(&self, chunk: &Chunk, buffer: &mut [u8]) -> [u8; 32] {
        aead::seal(&self.key, &nonce(chunk), buffer, b"");
        hash::of(buffer)
    }

    /// As [`Keys::seal`], where nobody asks for the hash.
    #[cfg(feature = "std")]
    pub(super) fn seal_alone(&self, chunk: &Chunk, buffer: &mut [u8]) {
        aead::seal(&self.key, &nonce(chunk), buffer, b"");
    }

    /// Opens `sealed` into `text`, which is as long as the chunk with its padding.
    pub(super) fn open(&self, chunk: &Chunk, sealed: &[u8], text: &mut [u8]) -> Result<(), Error> {
        let damaged = Error::DamagedChunk(chunk.index);
        if sealed.len() != chunk.sealed() {
            return Err(damaged);
        }
        aead::open(&self.key, &nonce(chunk), sealed, b"", text).map_err(|_| damaged)?;
        check_padding(chunk, text)
    }

    /// As [`Keys::open`], in place. The text is what comes before the tag.
    #[cfg(feature = "std")]
    pub(super) fn open_in_place(&self, chunk: &Chunk, sealed: &mut [u8]) -> Result<(), Error> {
        let damaged = Error::DamagedChunk(chunk.index);
        if sealed.len() != chunk.sealed() {
            return Err(damaged);
        }
        aead::open_in_place(&self.key, &nonce(chunk), sealed, b"").map_err(|_| damaged)?;
        let (text, _) = sealed.split_at(chunk.padded);
        check_padding(chunk, text)
    }
}

/// `0:3 || i:u64 || last:u8`
fn nonce(chunk: &Chunk) -> [u8; NONCE_LENGTH] {
    let mut nonce = [0; NONCE_LENGTH];
    let [_, _, _, index @ .., last] = &mut nonce;
    *index = chunk.index.to_be_bytes();
    *last = u8::from(chunk.is_last);
    nonce
}

fn check_padding(chunk: &Chunk, text: &[u8]) -> Result<(), Error> {
    let any = text.iter().skip(chunk.content).fold(0, |any, byte| any | byte);
    // Whether it is genuine is what is asked.
    if mark::public(any == 0) { Ok(()) } else { Err(Error::DamagedChunk(chunk.index)) }
}

/// `root = H("Subrosa v1 file root" || version || k || size:u64 || C || H(C_0) || H(C_1) || ..)`
#[derive(Clone)]
pub(super) struct Root {
    /// All before `H(C_1)`, in one piece: the hash would keep a part of `C` until its block is
    /// full.
    head: Secret<94>,
    hash: Option<Hash>,
}

impl Root {
    pub(super) fn new(layout: &Layout, keys: &Keys) -> Self {
        let mut head = Secret::new([0; 94]);
        let size = layout.size.to_be_bytes();
        let parts: [&[u8]; 4] = [
            b"Subrosa v1 file root",
            &[VERSION, layout.chunk_size.exponent()],
            &size,
            keys.commitment.expose(),
        ];
        head.expose_mut()
            .iter_mut()
            .zip(parts.iter().copied().flatten())
            .for_each(|(to, from)| *to = *from);
        Self { head, hash: None }
    }

    /// The hash of the next chunk.
    pub(super) fn push(&mut self, chunk: &[u8; 32]) {
        match &mut self.hash {
            Some(hash) => hash.update(chunk),
            None => {
                if let Some(room) = self.head.expose_mut().last_chunk_mut() {
                    *room = *chunk;
                }
                let mut hash = Hash::new();
                hash.update(self.head.expose());
                self.hash = Some(hash);
            }
        }
    }

    /// `None` before the first chunk; no file has none.
    pub(super) fn finish(&self) -> Option<Secret<32>> {
        self.hash.clone().map(|hash| Secret::new(hash.finish()))
    }
}

/// Whether a chunk has the hash that was stored of it.
pub(super) fn is_same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    mark::public(one.ct_eq(other).into())
}
