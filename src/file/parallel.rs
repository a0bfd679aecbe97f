//! Several chunks at once, on several threads. The bytes are those of one thread.

use std::sync::{Mutex, PoisonError};
use std::thread;

use alloc::vec;
use alloc::vec::Vec;
use core::num::NonZeroUsize;
use core::{iter, mem};

use zeroize::Zeroizing;

use super::opener::{Opener, Verifier};
use super::sealer::Sealer;
use crate::crypto::hash;
use crate::error::Error;

impl Sealer {
    /// Seals the chunks that come next, on up to `threads` threads, this one among them.
    ///
    /// `content` is any number of whole chunks, or reaches to the end of the file; then the padding
    /// is sealed too. Some megabytes at a time keep all threads busy.
    ///
    /// ```
    /// use std::num::NonZeroUsize;
    /// use subrosa::SystemRng;
    /// use subrosa::file::{ChunkSize, Opener, Sealer};
    ///
    /// let photograph = vec![7; 3_000_000];
    /// let two = NonZeroUsize::new(2).unwrap();
    /// let mut sealer = Sealer::new(3_000_000, ChunkSize::DEFAULT, &mut SystemRng)?;
    /// let blob = sealer.seal_parallel(&photograph, two)?;
    /// let descriptor = sealer.finish()?;
    ///
    /// let opener = Opener::new(&descriptor);
    /// let mut verifier = opener.verifier();
    /// let opened = opener.open_parallel(&mut verifier, &blob, two)?;
    /// verifier.finish()?;
    /// assert_eq!(opened, photograph);
    /// # Ok::<(), subrosa::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Sealer::seal`]; nothing was handed out, and the sealer is as before.
    pub fn seal_parallel(
        &mut self,
        content: &[u8],
        threads: NonZeroUsize,
    ) -> Result<Vec<u8>, Error> {
        let layout = *self.layout();
        let run = layout.run(self.next(), content.len()).ok_or(Error::SourceChanged)?;
        let chunks: Vec<_> = run.map_while(|index| layout.chunk(index)).collect();
        let length =
            chunks.iter().fold(0_usize, |length, chunk| length.saturating_add(chunk.sealed()));
        let (mut blob, mut hashes) = (vec![0; length], vec![[0; 32]; chunks.len()]);
        let step = layout.chunk_size.bytes();
        let contents = content.chunks(step).chain(iter::repeat(&[][..]));
        let places = blob.chunks_mut(step.saturating_add(TAG)).zip(&mut hashes);
        let keys = &self.keys;
        let threads = threads.get().min(chunks.len());
        across(
            threads,
            chunks.iter().zip(contents).zip(places),
            |((chunk, content), (sealed, hash))| {
                sealed.iter_mut().zip(content).for_each(|(sealed, byte)| *sealed = *byte);
                *hash = keys.seal(chunk, sealed);
            },
        );
        self.accept(&hashes)?;
        Ok(blob)
    }
}

impl Opener {
    /// Opens the chunks that the verifier sees next, on up to `threads` threads, this one among
    /// them: the bytes of the file that are in them. `sealed` is any number of whole chunks.
    ///
    /// # Errors
    /// [`Error::DamagedChunk`], with the first that is; the verifier is as before.
    pub fn open_parallel(
        &self,
        verifier: &mut Verifier,
        sealed: &[u8],
        threads: NonZeroUsize,
    ) -> Result<Vec<u8>, Error> {
        let step = self.layout.chunk_size.bytes();
        let pieces = sealed.chunks(step.saturating_add(TAG));
        let length = sealed.len().saturating_sub(pieces.len().saturating_mul(TAG));
        let from = verifier.next();
        let chunks: Vec<_> =
            (from..).map_while(|index| self.layout.chunk(index)).take(pieces.len()).collect();
        if chunks.len() < pieces.len() {
            return Err(Error::DamagedFile);
        }
        let (mut file, mut hashes) = (Zeroizing::new(vec![0; length]), vec![None; chunks.len()]);
        let places = file.chunks_mut(step).zip(&mut hashes);
        let threads = threads.get().min(chunks.len());
        across(
            threads,
            chunks.iter().zip(pieces).zip(places),
            |((chunk, sealed), (text, hash))| {
                *hash = self.keys.open(chunk, sealed, text).map(|()| hash::of(sealed)).ok();
            },
        );
        let mut all = Vec::with_capacity(hashes.len());
        for (chunk, hash) in chunks.iter().zip(hashes) {
            all.push(hash.ok_or(Error::DamagedChunk(chunk.index))?);
        }
        verifier.push(&all);
        // What comes after the content was found to be zeros.
        file.truncate(
            chunks.iter().fold(0_usize, |length, chunk| length.saturating_add(chunk.content)),
        );
        Ok(mem::take(&mut *file))
    }
}

const TAG: usize = 16;

/// Does each job once, on up to `threads` threads. If the system has no more of them, fewer do it.
fn across<J: Send>(threads: usize, jobs: impl Iterator<Item = J> + Send, work: impl Fn(J) + Sync) {
    let jobs = Mutex::new(jobs);
    let next = || jobs.lock().unwrap_or_else(PoisonError::into_inner).next();
    let labour = || {
        while let Some(job) = next() {
            work(job);
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            if thread::Builder::new().spawn_scoped(scope, labour).is_err() {
                break;
            }
        }
        labour();
    });
}
