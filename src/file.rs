//! Files and voice notes: a blob that can lie anywhere, and the 74 bytes that open it
//! (docs/files.md).
//!
//! ```text
//! K:32 || C:32 = HKDF(0, F, "Subrosa v1 file" || version:u8 = 1 || k:u8, 64)     F: 32 random bytes
//! P    = file || zeros, |P| = Padme(max(size, 1024)), in n chunks P_i of 2^k bytes, the last of 1 to 2^k
//! C_i  = ChaCha20-Poly1305(K, 0:3 || i:u64 || last:u8, P_i)                      blob = C_0 || C_1 || ..
//! root = SHA-256("Subrosa v1 file root" || version || k || size:u64 || C || SHA-256(C_0) || ..)
//! ```
//!
//! The blob goes to any server; the [`Descriptor`] goes to the readers in an encrypted message. A
//! thumbnail is a blob of its own.
//!
//! | | |
//! | --- | --- |
//! | [`seal`], [`open`] | a file in memory |
//! | `Writer`, `Reader` | a stream, with the memory of two chunks (feature `std`) |
//! | `SeekReader` | any part of a file, as a video player asks for it (feature `std`) |
//! | [`Sealer`], [`Opener`], [`Verifier`] | chunk in, chunk out, without I/O and without `std` |
//! | `Sealer::seal_parallel`, `Opener::open_parallel` | the same on several threads (feature `std`) |
//! | [`Manifest`] | an upload that goes on after an interruption |
//!
//! What is opened is genuine chunk by chunk: encrypted by somebody who holds the key, in this place
//! of this file. Whether it is the very file that the descriptor was made for shows when all chunks
//! have been seen: [`open`] and `Reader` check that before the end, [`Verifier`] when it is asked.
//!
//! ```
//! # #[cfg(feature = "std")] {
//! use std::io::{Read, Write};
//! use subrosa::SystemRng;
//! use subrosa::file::{ChunkSize, Reader, Sealer, Writer};
//!
//! # fn main() -> std::io::Result<()> {
//! let voice_note = [7; 10_000];
//! let sealer = Sealer::new(10_000, ChunkSize::VOICE, &mut SystemRng)?;
//! let mut writer = Writer::new(Vec::new(), sealer); // a file, or a request to the server
//! writer.write_all(&voice_note)?;
//! let (descriptor, blob) = writer.finish()?;
//!
//! let mut text = Vec::new();
//! Reader::new(&blob[..], &descriptor).read_to_end(&mut text)?;
//! assert_eq!(text, voice_note);
//! # Ok(())
//! # }
//! # }
//! ```

use alloc::vec::Vec;

use rand_core::CryptoRng;

use crate::error::Error;

mod builder;
mod descriptor;
mod keys;
mod layout;
mod manifest;
mod opener;
#[cfg(feature = "std")]
mod parallel;
#[cfg(feature = "std")]
mod reader;
mod sealer;
#[cfg(feature = "std")]
mod seek;
#[cfg(feature = "std")]
mod stream;
#[cfg(feature = "std")]
mod writer;

pub use builder::ManifestBuilder;
pub use descriptor::{Descriptor, Span};
pub use layout::ChunkSize;
pub use manifest::Manifest;
pub use opener::{Opener, Verifier};
#[cfg(feature = "std")]
pub use reader::Reader;
pub use sealer::Sealer;
#[cfg(feature = "std")]
pub use seek::SeekReader;
#[cfg(feature = "std")]
pub(crate) use stream::Stream;
#[cfg(feature = "std")]
pub use writer::Writer;

/// The longest file: 2^40 bytes.
pub const MAX_SIZE: u64 = layout::MAX_SIZE;

/// Seals a file that is in memory: what goes to its readers, and the blob. Draws 32 bytes.
///
/// # Errors
/// [`Error::TooLong`] above [`MAX_SIZE`].
pub fn seal(
    file: &[u8],
    chunk_size: ChunkSize,
    rng: &mut dyn CryptoRng,
) -> Result<(Descriptor, Vec<u8>), Error> {
    let size = u64::try_from(file.len()).map_err(|_| Error::TooLong)?;
    let mut sealer = Sealer::new(size, chunk_size, rng)?;
    let length = usize::try_from(sealer.blob_length()).map_err(|_| Error::TooLong)?;
    let mut blob = Vec::with_capacity(length);
    let mut rest = file;
    while let Some(length) = sealer.next_length() {
        let (content, after) = rest.split_at_checked(length).ok_or(Error::SourceChanged)?;
        sealer.seal_to(content, &mut blob)?;
        rest = after;
    }
    Ok((sealer.finish()?, blob))
}

/// Opens a whole blob that is in memory, and checks that it is the one of the descriptor.
///
/// # Errors
/// [`Error::DamagedFile`], [`Error::DamagedChunk`]
pub fn open(descriptor: &Descriptor, blob: &[u8]) -> Result<Vec<u8>, Error> {
    if u64::try_from(blob.len()) != Ok(descriptor.blob_length()) {
        return Err(Error::DamagedFile);
    }
    let opener = Opener::new(descriptor);
    let mut verifier = opener.verifier();
    let mut file =
        Vec::with_capacity(usize::try_from(descriptor.size()).map_err(|_| Error::TooLong)?);
    let (mut rest, mut index) = (blob, 0_u64);
    while let Some(length) = verifier.next_length() {
        let (sealed, after) = rest.split_at_checked(length).ok_or(Error::DamagedFile)?;
        opener.open_to(index, sealed, &mut file)?;
        verifier.add(sealed)?;
        (rest, index) = (after, index.saturating_add(1));
    }
    verifier.finish()?;
    Ok(file)
}
