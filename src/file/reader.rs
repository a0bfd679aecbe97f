//! A blob that is read, and comes out as its file.

use std::io::{ErrorKind, Read, Result};

use alloc::vec::Vec;
use core::fmt;
use core::mem;

use zeroize::Zeroizing;

use super::descriptor::Descriptor;
use super::layout::Chunk;
use super::opener::{Opener, Verifier};
use crate::error::Error;

/// Reads a blob from its start to its end, and yields its file.
///
/// No byte comes out before the whole chunk that it is in was found genuine. The last chunk of the
/// file comes out after the root held and `inner` was at its end: where all of the file was read
/// without an error, it is the one of the descriptor. It holds one chunk, at the end two.
///
/// `inner` is to end with the blob. On damage each further read fails in the same way; an error of
/// `inner` loses nothing. The crate's error is inside the [`std::io::Error`], from which
/// `downcast::<subrosa::Error>()` takes it.
///
/// [`subrosa::file`](crate::file) has an example.
pub struct Reader<R> {
    inner: R,
    opener: Opener,
    verifier: Verifier,
    /// The chunk that comes in.
    sealed: Zeroizing<Vec<u8>>,
    filled: usize,
    /// Content that is genuine.
    text: Zeroizing<Vec<u8>>,
    taken: usize,
    state: State,
}

enum State {
    /// What is in `text` may be taken.
    Reading,
    /// The last bytes of the file are in `text`, and wait for the root.
    Ending,
    Verified,
    Failed(Error),
}

/// What came of a chunk.
enum Filled {
    Whole,
    /// `inner` is at its end.
    Short,
}

impl<R: Read> Reader<R> {
    /// For a blob that `inner` reads from its start.
    pub fn new(inner: R, descriptor: &Descriptor) -> Self {
        let opener = Opener::new(descriptor);
        let (sealed, text) = (Zeroizing::new(Vec::new()), Zeroizing::new(Vec::new()));
        let (verifier, state) = (opener.verifier(), State::Reading);
        Self { inner, opener, verifier, sealed, filled: 0, text, taken: 0, state }
    }

    /// What is left of `inner`.
    pub fn into_inner(self) -> R {
        self.inner
    }

    /// Reads and opens the next chunk, or ends.
    fn advance(&mut self) -> Result<()> {
        let result = match self.opener.layout.chunk(self.verifier.next()) {
            Some(chunk) => match self.fill(&chunk)? {
                Filled::Whole => self.open(&chunk),
                Filled::Short => Err(Error::DamagedFile),
            },
            None => match read_some(&mut self.inner, &mut [0])? {
                0 => self.verifier.check().map(|()| self.state = State::Verified),
                _ => Err(Error::DamagedFile),
            },
        };
        if let Err(error) = result {
            self.state = State::Failed(error);
        }
        Ok(())
    }

    /// Reads to the end of the chunk. What has come stays where `inner` fails.
    fn fill(&mut self, chunk: &Chunk) -> Result<Filled> {
        if self.filled == 0 {
            if matches!(self.state, State::Reading) {
                // All of it was taken: there is one buffer until the end.
                mem::swap(&mut self.sealed, &mut self.text);
                self.text.clear();
                self.taken = 0;
            }
            self.sealed.clear();
            self.sealed.reserve_exact(chunk.sealed());
            self.sealed.resize(chunk.sealed(), 0);
        }
        while let Some(room) = self.sealed.get_mut(self.filled..).filter(|room| !room.is_empty()) {
            match read_some(&mut self.inner, room)? {
                0 => return Ok(Filled::Short),
                more => self.filled = self.filled.saturating_add(more),
            }
        }
        Ok(Filled::Whole)
    }

    fn open(&mut self, chunk: &Chunk) -> core::result::Result<(), Error> {
        self.filled = 0;
        self.verifier.add(&self.sealed)?;
        self.opener.keys.open_in_place(chunk, &mut self.sealed)?;
        if chunk.content != 0 {
            self.sealed.truncate(chunk.content);
            mem::swap(&mut self.sealed, &mut self.text);
        }
        let end = chunk.start.saturating_add(u64::try_from(chunk.padded).unwrap_or(u64::MAX));
        if end >= self.opener.layout.size {
            self.state = State::Ending;
        }
        Ok(())
    }
}

impl<R: Read> Read for Reader<R> {
    /// [`Error::DamagedChunk`] and [`Error::DamagedFile`] besides what `inner` says.
    fn read(&mut self, out: &mut [u8]) -> Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            let rest = self.text.get(self.taken..).unwrap_or_default();
            match &self.state {
                State::Failed(error) => return Err(error.clone().into()),
                State::Reading | State::Verified if !rest.is_empty() => {
                    let length = rest.len().min(out.len());
                    out.iter_mut().zip(rest).for_each(|(out, byte)| *out = *byte);
                    self.taken = self.taken.saturating_add(length);
                    return Ok(length);
                }
                State::Verified => return Ok(0),
                State::Reading | State::Ending => self.advance()?,
            }
        }
    }
}

/// Reads once, and again where a signal came in between.
fn read_some(inner: &mut impl Read, out: &mut [u8]) -> Result<usize> {
    loop {
        match inner.read(out) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Shows what the opener shows.
impl<R> fmt::Debug for Reader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("opener", &self.opener).finish_non_exhaustive()
    }
}
