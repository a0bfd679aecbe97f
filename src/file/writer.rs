//! A file that is written, and comes out as its blob.

use std::io::{Result, Write};

use alloc::vec::Vec;
use core::fmt;

use zeroize::Zeroizing;

use super::descriptor::Descriptor;
use super::sealer::Sealer;
use crate::error::Error;

/// Seals what is written to it, and writes the blob to `inner`.
///
/// It holds one chunk. A writer that is dropped before [`Writer::finish`] leaves bytes that nothing
/// opens: a new file has no descriptor yet, and of a resumed one the last chunk is missing.
///
/// An error of `inner` loses nothing: the call can be repeated. An error of the crate is inside the
/// [`std::io::Error`], from which `downcast::<subrosa::Error>()` takes it.
///
/// [`subrosa::file`](crate::file) has an example.
pub struct Writer<W> {
    inner: W,
    sealer: Sealer,
    buffer: Zeroizing<Vec<u8>>,
    state: State,
}

enum State {
    /// The buffer is content of the next chunk.
    Filling,
    /// The buffer is a sealed chunk, of which this many bytes are written.
    Sending(usize),
}

impl<W: Write> Writer<W> {
    /// Takes the file from [`Sealer::position`] on, and writes the blob from
    /// [`Sealer::blob_position`] on.
    pub fn new(inner: W, sealer: Sealer) -> Self {
        Self { inner, sealer, buffer: Zeroizing::new(Vec::new()), state: State::Filling }
    }

    /// Seals the padding, flushes, and gives back the descriptor and `inner`.
    ///
    /// # Errors
    /// Those of `inner`; [`Error::SourceChanged`] if fewer bytes were written than the sealer's
    /// size.
    pub fn finish(mut self) -> Result<(Descriptor, W)> {
        self.send()?;
        while let Some(length) = self.sealer.next_length() {
            if length != 0 || !self.buffer.is_empty() {
                return Err(Error::SourceChanged.into());
            }
            self.seal()?;
            self.send()?;
        }
        self.inner.flush()?;
        Ok((self.sealer.finish()?, self.inner))
    }

    fn seal(&mut self) -> Result<()> {
        self.sealer.seal_in_place(&mut self.buffer)?;
        self.state = State::Sending(0);
        Ok(())
    }

    /// What is sealed goes to `inner`.
    fn send(&mut self) -> Result<()> {
        while let State::Sending(sent) = &mut self.state {
            let rest = self.buffer.get(*sent..).unwrap_or_default();
            if rest.is_empty() {
                self.buffer.clear();
                self.state = State::Filling;
                return Ok(());
            }
            match self.inner.write(rest) {
                Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
                Ok(more) => *sent = sent.saturating_add(more),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl<W: Write> Write for Writer<W> {
    /// [`Error::SourceChanged`] for more bytes than the sealer's size, and for bytes that are not
    /// those of a resumed file.
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.send()?;
        let Some(length) =
            self.sealer.next_length().filter(|length| *length != 0 || bytes.is_empty())
        else {
            return if bytes.is_empty() { Ok(0) } else { Err(Error::SourceChanged.into()) };
        };
        let room = length.saturating_sub(self.buffer.len());
        let (now, _) = bytes.split_at(room.min(bytes.len()));
        if self.buffer.is_empty() {
            // At once: a buffer that grows leaves copies behind.
            self.buffer.reserve_exact(self.sealer.next_sealed_length());
        }
        self.buffer.extend_from_slice(now);
        if now.len() == room && room != 0 {
            self.seal()?;
        }
        Ok(now.len())
    }

    /// Content of less than a chunk stays here until there is more, or [`Writer::finish`].
    fn flush(&mut self) -> Result<()> {
        self.send()?;
        self.inner.flush()
    }
}

/// Shows what the sealer shows.
impl<W> fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("sealer", &self.sealer).finish_non_exhaustive()
    }
}
