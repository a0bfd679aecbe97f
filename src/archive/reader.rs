//! An archive that is read, frame by frame.

use std::io::{ErrorKind, Read, Result, Seek, SeekFrom};

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use zeroize::Zeroizing;

use super::frame::{
    self, ACCOUNT, APP, BLOCKED, CONTACT, Contact, END, Frame, GROUP, INFO, Info, MAX_FRAME,
    SKIPPED,
};
use super::header::{ArchiveKind, Header};
use super::writer::LEAST;
use crate::codec;
use crate::crypto::mark;
use crate::error::Error;
use crate::file::Stream;
use crate::lock::Lock;
use crate::padding;

/// An archive that a lock opened.
///
/// It yields its frames in order, each chunk checked before anything of it comes out. Whether all
/// of it is there shows at the end: [`Archive::check`] goes through it, and nothing should be used
/// before.
///
/// It holds one chunk and one frame. An error of `inner` loses nothing: the call can be repeated.
/// The crate's own errors are inside the [`std::io::Error`], from which
/// `downcast::<subrosa::Error>()` takes them.
pub struct Archive<R> {
    inner: R,
    kind: ArchiveKind,
    id: [u8; 16],
    info: Info,
    chunks: Chunks,
    at: Position,
}

/// What [`Archive::check`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checked {
    /// Whether the account's key is in it, so that [`Client::restore`](crate::Client::restore) can
    /// bring the account back.
    pub account: bool,
    /// Contacts.
    pub contacts: u64,
    /// Users whose mail is refused.
    pub blocked: u64,
    /// Frames of the app's own.
    pub app_frames: u64,
}

/// Where the next frame begins.
#[derive(Clone, Copy, Default)]
struct Position {
    byte: u64,
    frames: u64,
    is_ended: bool,
}

/// What is left of the chunks once a frame is taken away.
enum Taken {
    Frame(Frame),
    Skipped,
    End,
}

impl<R: Read + Seek> Archive<R> {
    /// Opens the archive that begins where `inner` is, and goes on to its end.
    ///
    /// With a passphrase it takes as long as the maker of the archive chose, at most a few seconds
    /// and 1 GiB of memory for each of the slots.
    ///
    /// # Errors
    /// [`Error::WrongPassphrase`]: the lock opens nothing here. [`Error::DamagedArchive`]: it does,
    /// and something else is damaged. [`Error::NewerArchive`]: a later version made it.
    /// [`Error::Malformed`]: it is no archive. Those of `inner`.
    pub fn open(mut inner: R, lock: Lock<'_>) -> Result<Self> {
        let start = inner.stream_position()?;
        let header = Header::read(&mut inner, lock)?;
        let start = start.saturating_add(u64::try_from(header.bytes.len()).unwrap_or(u64::MAX));
        let length = inner.seek(SeekFrom::End(0))?.saturating_sub(start);
        let mut chunks = Chunks::new(Stream::new(&header.file_key), start, length)?;
        let mut at = Position::default();
        let (kind, body) = chunks.frame(&mut inner, &mut at)?;
        if kind != INFO {
            return Err(Error::Malformed.into());
        }
        let info = Info::decode(&body)?;
        Ok(Self { inner, kind: header.kind, id: header.id, info, chunks, at })
    }

    /// What it is for.
    #[must_use]
    pub const fn kind(&self) -> ArchiveKind {
        self.kind
    }

    /// The name of the archive: 16 bytes, drawn.
    #[must_use]
    pub const fn id(&self) -> &[u8; 16] {
        &self.id
    }

    /// What it is of, and when it was made.
    #[must_use]
    pub const fn info(&self) -> &Info {
        &self.info
    }

    /// Reads all of it, from the start: whether it is whole, and as it was written. Afterwards the
    /// first frame is the next.
    ///
    /// # Errors
    /// As [`Archive::next_frame`].
    pub fn check(&mut self) -> Result<Checked> {
        self.rewind();
        let mut checked = Checked::default();
        while let Some(frame) = self.next_frame()? {
            match frame {
                Frame::Account(_) => checked.account = true,
                Frame::Contact(_) => checked.contacts = checked.contacts.saturating_add(1),
                Frame::Blocked(_) => checked.blocked = checked.blocked.saturating_add(1),
                Frame::App(_) => checked.app_frames = checked.app_frames.saturating_add(1),
            }
        }
        self.rewind();
        Ok(checked)
    }

    /// The next frame; `None` at the end, once it is certain that it is the end. Frames that may be
    /// skipped are.
    ///
    /// # Errors
    /// [`Error::DamagedArchive`]: look for another copy. [`Error::NewerArchive`]: a later version
    /// made it. [`Error::Malformed`]: its maker did not make an archive. Those of `inner`.
    pub fn next_frame(&mut self) -> Result<Option<Frame>> {
        while !self.at.is_ended {
            let mut at = self.at;
            let (kind, body) = self.chunks.frame(&mut self.inner, &mut at)?;
            let read = self.read(kind, body, &mut at)?;
            self.at = at;
            if let Taken::Frame(frame) = read {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    /// The first frame is the next one again.
    pub fn rewind(&mut self) {
        let info = frame::HEAD.saturating_add(self.info.encode().len());
        let byte = u64::try_from(info).unwrap_or(u64::MAX);
        self.at = Position { byte, frames: 1, is_ended: false };
    }

    /// How many frames were taken, the first one and those that were skipped included.
    pub(crate) const fn frames(&self) -> u64 {
        self.at.frames
    }

    fn read(&mut self, kind: u16, body: Zeroizing<Vec<u8>>, at: &mut Position) -> Result<Taken> {
        let is_backup = self.kind == ArchiveKind::Backup;
        Ok(match kind {
            ACCOUNT if at.frames == 2 && is_backup => {
                let key = frame::account(&body)?;
                if mark::public(key.public_key() != self.info.list.account()) {
                    return Err(Error::Malformed.into());
                }
                Taken::Frame(Frame::Account(key))
            }
            CONTACT => {
                let contact = Contact::decode(&body)?;
                if contact.verified && !is_backup {
                    return Err(Error::Malformed.into());
                }
                Taken::Frame(Frame::Contact(alloc::boxed::Box::new(contact)))
            }
            APP => Taken::Frame(Frame::App(body)),
            // A device that offers its history has no say in whose mail another one takes.
            BLOCKED if is_backup => Taken::Frame(Frame::Blocked(frame::blocked(&body)?)),
            END => {
                if frame::end(&body)? != at.frames.saturating_sub(1) {
                    return Err(Error::Malformed.into());
                }
                self.chunks.end(&mut self.inner, at.byte)?;
                at.is_ended = true;
                Taken::End
            }
            GROUP | SKIPPED.. => Taken::Skipped,
            0 | INFO | ACCOUNT => return Err(Error::Malformed.into()),
            _ => return Err(Error::NewerArchive.into()),
        })
    }
}

/// The sealed part, of which one chunk is open.
struct Chunks {
    stream: Stream,
    /// Where the first one begins.
    start: u64,
    /// Of all of them, sealed.
    length: u64,
    count: u64,
    open: Option<u64>,
    buffer: Zeroizing<Vec<u8>>,
}

impl Chunks {
    fn new(stream: Stream, start: u64, length: u64) -> Result<Self> {
        let count = length.div_ceil(SEALED);
        let most = Stream::MAX_SIZE.div_ceil(CHUNK).saturating_mul(SEALED);
        if count == 0 || length > most {
            return Err(Error::DamagedArchive { chunk: count.checked_sub(1) }.into());
        }
        let buffer = Zeroizing::new(Vec::new());
        Ok(Self { stream, start, length, count, open: None, buffer })
    }

    /// Bytes of all chunks, once they are open.
    fn size(&self) -> u64 {
        self.length.saturating_sub(self.count.saturating_mul(TAG))
    }

    /// Reads the frame that begins at a position, and moves that to the next.
    fn frame(
        &mut self,
        inner: &mut (impl Read + Seek),
        at: &mut Position,
    ) -> Result<(u16, Zeroizing<Vec<u8>>)> {
        let mut head = [0; frame::HEAD];
        self.take(inner, &mut at.byte, &mut head)?;
        let mut reader = codec::Reader::new(&head);
        let (kind, length) = (reader.u16()?, reader.u32()?);
        let length = usize::try_from(length).map_err(|_| Error::Malformed)?;
        if length > MAX_FRAME {
            return Err(Error::Malformed.into());
        }
        let mut body = Zeroizing::new(vec![0; length]);
        self.take(inner, &mut at.byte, &mut body)?;
        at.frames = at.frames.saturating_add(1);
        Ok((kind, body))
    }

    /// Only zeros are left, and as many as there should be.
    fn end(&mut self, inner: &mut (impl Read + Seek), from: u64) -> Result<()> {
        if self.size() != padding::padme(from.max(LEAST)) {
            return Err(Error::Malformed.into());
        }
        let mut byte = from;
        let mut block = [0; 4_096];
        while byte < self.size() {
            let left = usize::try_from(self.size().saturating_sub(byte)).unwrap_or(usize::MAX);
            let (block, _) = block.split_at_mut(left.min(4_096));
            self.take(inner, &mut byte, block)?;
            let any = block.iter().fold(0, |any, byte| any | byte);
            if mark::public(any != 0) {
                return Err(Error::Malformed.into());
            }
        }
        Ok(())
    }

    /// The bytes at a position, which moves on.
    fn take(
        &mut self,
        inner: &mut (impl Read + Seek),
        byte: &mut u64,
        mut out: &mut [u8],
    ) -> Result<()> {
        while !out.is_empty() {
            let (index, skip) = (byte.div_euclid(CHUNK), byte.rem_euclid(CHUNK));
            if index >= self.count {
                return Err(Error::Malformed.into());
            }
            self.load(inner, index)?;
            let skip = usize::try_from(skip).map_err(|_| Error::Malformed)?;
            let text = self.buffer.get(skip..).unwrap_or_default();
            if text.is_empty() {
                return Err(Error::Malformed.into());
            }
            let (now, rest) = out.split_at_mut(text.len().min(out.len()));
            now.iter_mut().zip(text).for_each(|(out, byte)| *out = *byte);
            *byte = byte.saturating_add(u64::try_from(now.len()).unwrap_or(u64::MAX));
            out = rest;
        }
        Ok(())
    }

    /// Reads a chunk and opens it.
    fn load(&mut self, inner: &mut (impl Read + Seek), index: u64) -> Result<()> {
        if self.open == Some(index) {
            return Ok(());
        }
        self.open = None;
        let damaged = || Error::DamagedArchive { chunk: Some(index) };
        let before = index.saturating_mul(SEALED);
        let length = self.length.saturating_sub(before).min(SEALED);
        let length = usize::try_from(length).map_err(|_| damaged())?;
        inner.seek(SeekFrom::Start(self.start.saturating_add(before)))?;
        self.buffer.clear();
        self.buffer.reserve_exact(length);
        self.buffer.resize(length, 0);
        inner.read_exact(&mut self.buffer).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => damaged().into(),
            _ => error,
        })?;
        let is_last = index.saturating_add(1) == self.count;
        self.stream.open(index, is_last, &mut self.buffer).map_err(|_| damaged())?;
        self.open = Some(index);
        Ok(())
    }
}

/// Of a chunk, before it is sealed and after.
const CHUNK: u64 = 1 << 16;
const TAG: u64 = 16;
const SEALED: u64 = CHUNK + TAG;

/// Shows what it is of.
impl<R> fmt::Debug for Archive<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Archive")
            .field("kind", &self.kind)
            .field("user", &self.info.user)
            .field("created_at", &self.info.created_at)
            .finish_non_exhaustive()
    }
}
