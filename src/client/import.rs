//! From an archive into a client that there is already.

use std::io::{Read, Result, Seek};

use alloc::vec::Vec;

use super::devices;
use super::doors;
use super::offer::HistoryOffer;
use super::rows::Rows;
use super::transaction::Open;
use super::{Client, Scope};
use crate::archive::{Archive, ArchiveKind, Checked, Contact, Frame, Lock};
use crate::error::Error;
use crate::file::SeekReader;
use crate::sesame::{Mark, UserRecord};
use crate::store::Table;
use crate::time::UnixTime;

impl<S: Scope> Client<S> {
    /// Takes contacts and the app's own frames from an archive into this account: from a backup,
    /// where the account itself could not be [restored](Client::restore). Users who are known
    /// already stay as they are, and no contact is marked as verified. Mail of those who are not
    /// known is refused where it was.
    ///
    /// The archive is checked as a whole before anything is taken. Then it goes in pieces, each in
    /// a transaction; `app` gets each of the app's frames, and what it writes into the rows is
    /// committed together with the note of how far the import is. Interrupted, the same call goes
    /// on where it was. Once it is done, another call begins from the start: where each frame says
    /// itself under which key it goes, that changes nothing.
    ///
    /// # Errors
    /// [`Error::NotPermitted`]: it is a transfer to a device of another user.
    /// [`Error::DamagedArchive`], [`Error::NewerArchive`], [`Error::Malformed`]; [`Error::Store`];
    /// those of `app` and of the archive's reader.
    pub fn import<R: Read + Seek>(
        &mut self,
        archive: &mut Archive<R>,
        mut app: impl FnMut(&mut Rows<'_>, &[u8]) -> core::result::Result<(), Error>,
        now: UnixTime,
    ) -> Result<Checked> {
        import(self, archive, &mut app, now)
    }

    /// Takes the history that another device of the account offered, from its blob. It is held
    /// against what the device said of it before anything is taken; then it goes as in
    /// [`Client::import`].
    ///
    /// # Errors
    /// [`Error::DamagedFile`], [`Error::DamagedChunk`]: fetch the blob again.
    /// [`Error::Malformed`], [`Error::WrongPassphrase`], [`Error::NotPermitted`]: the device does
    /// not offer the history of this account. Others as [`Client::import`].
    pub fn take_history<R: Read + Seek>(
        &mut self,
        offer: &HistoryOffer,
        blob: R,
        mut app: impl FnMut(&mut Rows<'_>, &[u8]) -> core::result::Result<(), Error>,
        now: UnixTime,
    ) -> Result<Checked> {
        let mut reader = SeekReader::new(blob, offer.descriptor())?;
        reader.verify()?;
        let mut archive = Archive::open(reader, Lock::Key(offer.key().expose()))?;
        if archive.kind() != ArchiveKind::Transfer {
            return Err(Error::NotPermitted.into());
        }
        import(self, &mut archive, &mut app, now)
    }
}

fn import<S: Scope, R: Read + Seek>(
    client: &mut Client<S>,
    archive: &mut Archive<R>,
    app: &mut impl FnMut(&mut Rows<'_>, &[u8]) -> core::result::Result<(), Error>,
    now: UnixTime,
) -> Result<Checked> {
    if archive.kind() == ArchiveKind::Transfer && archive.info().user != client.account.user {
        return Err(Error::NotPermitted.into());
    }
    let checked = archive.check()?;
    let key = [IMPORT, archive.id()].concat();
    let done = client.run(|open| {
        let row = open.get(Table::Account, &key)?;
        row.map_or(Ok(0), |row| cursor(&row))
    })?;
    skip(archive, done)?;
    loop {
        let batch = Batch::read(archive)?;
        let cursor = archive.frames().to_be_bytes();
        client.run(|open| {
            open.whole(|open| {
                if batch.is_last {
                    open.delete(Table::Account, &key)?;
                } else {
                    open.put(Table::Account, &key, &cursor)?;
                }
                batch.apply(open, Marks::Left, app, now)
            })
        })?;
        if batch.is_last {
            return Ok(checked);
        }
    }
}

/// `"import" || the archive's id`: how many of its frames were taken.
const IMPORT: &[u8] = b"import";

/// Whether the marks of contacts count.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Marks {
    Taken,
    Left,
}

/// What one transaction takes from an archive.
pub(super) struct Batch {
    frames: Vec<Frame>,
    pub(super) is_last: bool,
}

impl Batch {
    const MOST_FRAMES: usize = 256;
    const MOST_BYTES: usize = 1 << 18;

    /// The next frames of an archive.
    pub(super) fn read<R: Read + Seek>(archive: &mut Archive<R>) -> Result<Self> {
        let (mut frames, mut bytes) = (Vec::new(), 0_usize);
        while frames.len() < Self::MOST_FRAMES && bytes < Self::MOST_BYTES {
            let Some(frame) = archive.next_frame()? else {
                return Ok(Self { frames, is_last: true });
            };
            if let Frame::App(body) = &frame {
                bytes = bytes.saturating_add(body.len());
            }
            frames.push(frame);
        }
        Ok(Self { frames, is_last: false })
    }

    /// Writes users who are not known yet, and gives the app's own frames to the app.
    pub(super) fn apply(
        &self,
        open: &mut Open<'_>,
        marks: Marks,
        app: &mut impl FnMut(&mut Rows<'_>, &[u8]) -> core::result::Result<(), Error>,
        now: UnixTime,
    ) -> core::result::Result<(), Error> {
        for frame in &self.frames {
            match frame {
                Frame::Contact(contact) => add(open, contact, marks, now)?,
                Frame::Blocked(user) => block(open, user, marks)?,
                Frame::App(body) => app(&mut Rows::over(open.app_rows()), body)?,
                Frame::Account(_) => {}
            }
        }
        Ok(())
    }
}

fn add(
    open: &mut Open<'_>,
    contact: &Contact,
    marks: Marks,
    now: UnixTime,
) -> core::result::Result<(), Error> {
    let tag = open.tag(&contact.user)?;
    if open.is_own(&contact.user) || open.user(tag)?.is_some() {
        return Ok(());
    }
    let mut user = UserRecord::new(&contact.user, contact.list.clone());
    if contact.verified && marks == Marks::Taken {
        user.mark = Mark::Verified;
    }
    open.put_user(tag, &user)?;
    devices::look_again(open, &user, now)
}

/// A person who brings an old archive into an account may think otherwise by now of users who are
/// known there.
fn block(open: &mut Open<'_>, user: &str, marks: Marks) -> core::result::Result<(), Error> {
    let tag = open.tag(user)?;
    let is_news = marks == Marks::Taken || open.user(tag)?.is_none();
    if is_news && !open.is_own(user) { doors::put_blocked(open, user) } else { Ok(()) }
}

/// How many frames a row says.
pub(super) fn cursor(row: &[u8]) -> core::result::Result<u64, Error> {
    row.try_into().map(u64::from_be_bytes).map_err(|_| Error::BadState)
}

/// Goes over frames that were taken before.
pub(super) fn skip<R: Read + Seek>(archive: &mut Archive<R>, frames: u64) -> Result<()> {
    archive.rewind();
    while archive.frames() < frames && archive.next_frame()?.is_some() {}
    Ok(())
}
