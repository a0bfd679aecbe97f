//! An archive that is written, frame by frame.

use std::io::{self, Result, Write};

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::frame::{self, ACCOUNT, APP, BLOCKED, CONTACT, Contact, END, INFO, Info, MAX_FRAME};
use super::header::{ArchiveKind, Header};
use crate::error::Error;
use crate::file::Stream;
use crate::identity::IdentityKeyPair;
use crate::lock::{Argon2Cost, Lock};
use crate::padding;

/// Writes an archive to `inner`. [`Client::export`](crate::Client::export) writes that of an
/// account.
///
/// It holds one chunk. An error ends it: delete what was written, and begin anew. So does dropping
/// it before [`Writer::finish`]: what is there then is refused as damaged. The crate's own errors
/// are inside the [`std::io::Error`], from which `downcast::<subrosa::Error>()` takes them.
pub struct Writer<W> {
    inner: W,
    kind: ArchiveKind,
    info: Info,
    /// Nobody guesses a lock of it.
    is_guarded: bool,
    stream: Stream,
    /// Of the next chunk.
    buffer: Zeroizing<Vec<u8>>,
    index: u64,
    size: u64,
    frames: u64,
    is_broken: bool,
}

impl<W: Write> Writer<W> {
    /// Begins an archive that each of these locks opens, one to four. `cost` is for passphrases,
    /// and has at most as many passes as make 4 GiB. Draws 48 bytes, and 32 for each lock.
    ///
    /// # Errors
    /// [`Error::BadLocks`], [`Error::WeakPassphrase`]; those of `inner`.
    pub fn new(
        mut inner: W,
        kind: ArchiveKind,
        locks: &[Lock<'_>],
        cost: Argon2Cost,
        info: Info,
        rng: &mut dyn CryptoRng,
    ) -> Result<Self> {
        let header = Header::new(kind, locks, cost, rng)?;
        inner.write_all(&header.bytes)?;
        let mut writer = Self {
            inner,
            kind,
            info,
            is_guarded: locks.iter().all(|lock| lock.is_random()),
            stream: Stream::new(&header.file_key),
            // At once: a buffer that grows leaves copies behind.
            buffer: Zeroizing::new(Vec::with_capacity(Stream::CHUNK.saturating_add(Stream::TAG))),
            index: 0,
            size: 0,
            frames: 0,
            is_broken: false,
        };
        let info = writer.info.encode();
        writer.frame(INFO, &info)?;
        Ok(writer)
    }

    /// The account's key, before anything else.
    ///
    /// # Errors
    /// [`Error::WeakPassphrase`]: a lock is a passphrase that a person thought up, and could be
    /// guessed. [`Error::NotPermitted`]: it is a transfer, another account's key, or not the first
    /// frame. Those of `inner`.
    pub fn account(&mut self, key: &IdentityKeyPair) -> Result<()> {
        if !self.is_guarded {
            return Err(Error::WeakPassphrase.into());
        }
        let is_own = key.public_key() == self.info.list.account();
        if self.kind != ArchiveKind::Backup || self.frames != 1 || !is_own {
            return Err(Error::NotPermitted.into());
        }
        self.frame(ACCOUNT, key.seed().expose())
    }

    /// A contact. A transfer has no marks.
    ///
    /// # Errors
    /// Those of `inner`.
    pub fn contact(&mut self, contact: &Contact) -> Result<()> {
        let is_backup = self.kind == ArchiveKind::Backup;
        let contact = Contact { verified: contact.verified && is_backup, ..contact.clone() };
        self.frame(CONTACT, &contact.encode())
    }

    /// A user whose mail is refused. A transfer says nothing of that: readers of one skip it.
    ///
    /// # Errors
    /// [`Error::BadName`]: the name is empty or longer than 255 bytes. Those of `inner`.
    pub fn blocked(&mut self, user: &str) -> Result<()> {
        self.frame(BLOCKED, &frame::of_blocked(user)?)
    }

    /// A frame of the app's own, of at most [`MAX_FRAME`] bytes.
    ///
    /// # Errors
    /// [`Error::TooLong`]; those of `inner`.
    pub fn app(&mut self, body: &[u8]) -> Result<()> {
        self.frame(APP, body)
    }

    /// Writes the end, flushes, and gives `inner` back.
    ///
    /// # Errors
    /// Those of `inner`; [`Error::TooLong`]: it has more than 2^40 bytes.
    pub fn finish(mut self) -> Result<W> {
        let frames = self.frames.to_be_bytes();
        self.frame(END, &frames)?;
        let mut zeros = padding::padme(self.size.max(LEAST)).saturating_sub(self.size);
        let block = [0; 4_096];
        while zeros > 0 {
            let length = usize::try_from(zeros).unwrap_or(block.len()).min(block.len());
            let (some, _) = block.split_at(length);
            self.push(some)?;
            zeros = zeros.saturating_sub(u64::try_from(length).unwrap_or(u64::MAX));
        }
        self.seal(true)?;
        self.inner.flush()?;
        Ok(self.inner)
    }

    fn frame(&mut self, kind: u16, body: &[u8]) -> Result<()> {
        if self.is_broken {
            return Err(io::Error::other("writing the archive failed before"));
        }
        let length = u32::try_from(body.len()).map_err(|_| Error::TooLong)?;
        if body.len() > MAX_FRAME {
            return Err(Error::TooLong.into());
        }
        let mut head = vec![0; frame::HEAD];
        let (of_kind, of_length) = head.split_at_mut(2);
        of_kind.copy_from_slice(&kind.to_be_bytes());
        of_length.copy_from_slice(&length.to_be_bytes());
        // Until all of it is there.
        self.is_broken = true;
        self.push(&head)?;
        self.push(body)?;
        self.is_broken = false;
        self.frames = self.frames.saturating_add(1);
        Ok(())
    }

    fn push(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.size = self.size.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        if self.size > Stream::MAX_SIZE {
            return Err(Error::TooLong.into());
        }
        while !bytes.is_empty() {
            // A full chunk stays until there is more: it may be the last one.
            if self.buffer.len() >= Stream::CHUNK {
                self.seal(false)?;
            }
            let room = Stream::CHUNK.saturating_sub(self.buffer.len()).min(bytes.len());
            let (now, rest) = bytes.split_at(room);
            self.buffer.extend_from_slice(now);
            bytes = rest;
        }
        Ok(())
    }

    fn seal(&mut self, is_last: bool) -> Result<()> {
        self.stream.seal(self.index, is_last, &mut self.buffer);
        self.inner.write_all(&self.buffer)?;
        self.buffer.clear();
        self.index = self.index.saturating_add(1);
        Ok(())
    }
}

/// A shorter archive is padded to this.
pub(super) const LEAST: u64 = 1_024;

/// Shows what it is of and how long it is.
impl<W> fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("kind", &self.kind)
            .field("user", &self.info.user)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}
