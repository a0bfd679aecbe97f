//! Out into an archive: a backup, or the history for a new device.

use std::io::{Result, Write};

use alloc::vec::Vec;

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::doors;
use super::transaction::Open;
use super::{Client, Scope};
use crate::archive::{self, ArchiveKind, Argon2Cost, Contact, Info, Lock};
use crate::error::Error;
use crate::sesame::{Mark, UserRecord};
use crate::store::{Row, Table};
use crate::time::UnixTime;

/// What goes into a backup, beside the app's own frames.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Contents {
    /// The account's key: true. Everybody who opens the archive can then be the account. It takes a
    /// device that holds the key, and locks that nobody guesses: keys, recovery codes and generated
    /// passphrases.
    pub account: bool,
    /// Every user who is known, with their device list, and whether people compared their account
    /// key; and those whose mail is refused: true.
    pub contacts: bool,
    /// What Argon2id costs for each passphrase.
    pub cost: Argon2Cost,
}

impl Default for Contents {
    fn default() -> Self {
        Self { account: true, contacts: true, cost: Argon2Cost::default() }
    }
}

impl<S: Scope> Client<S> {
    /// Writes a backup of the account, which each of these locks opens, one to four. `app_frames`
    /// are the app's own, at most 2^20 bytes each: its history, say. They come back in their order.
    ///
    /// It takes the memory of a chunk (64 KiB) and of the longest frame, however much there is.
    /// Where the store is of many users, it is read in several transactions. Afterwards open what
    /// was written, and [`check`](archive::Archive::check) it.
    ///
    /// # Errors
    /// [`Error::WeakPassphrase`]: a passphrase that a person thought up does not guard the account
    /// key; [`Passphrase::generate`](archive::Passphrase::generate) one, or leave the key out
    /// ([`Contents::account`]). [`Error::NotPermitted`]: this device does not hold the account key.
    /// [`Error::BadLocks`], [`Error::TooLong`], [`Error::IdentityChanged`], [`Error::Store`]; those
    /// of `app_frames` and of `writer`. Delete what was written.
    pub fn export<W: Write, B: AsRef<[u8]>>(
        &mut self,
        locks: &[Lock<'_>],
        contents: &Contents,
        app_frames: impl IntoIterator<Item = Result<B>>,
        writer: W,
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<W> {
        let (info, key) = self.run(|open| {
            let info = info(open, now)?;
            let key = if contents.account { Some(open.account_key()?) } else { None };
            // One that waits to be accepted is not the account's.
            match &key {
                Some(key) if key.public_key() != info.list.account() => {
                    Err(Error::IdentityChanged(info.user.as_str().into()))
                }
                _ => Ok((info, key)),
            }
        })?;
        if key.is_some() && !locks.iter().all(|lock| lock.is_random()) {
            return Err(Error::WeakPassphrase.into());
        }
        let kind = ArchiveKind::Backup;
        let mut out = archive::Writer::new(writer, kind, locks, contents.cost, info, rng)?;
        if let Some(key) = &key {
            out.account(key)?;
        }
        if contents.contacts {
            self.run(doors::blocked)?.iter().try_for_each(|user| out.blocked(user))?;
            let page = |walk: &mut Walk| self.run(|open| walk.page(open));
            run_through(page, |contact| out.contact(contact))?;
        }
        app_frames.into_iter().try_for_each(|frame| out.app(frame?.as_ref()))?;
        out.finish()
    }

    /// Writes the history for a device that was linked lately, and gives the key that opens it. It
    /// has contacts, without marks, and the app's own frames; it has no account key.
    ///
    /// Write it to a file of this device, seal that with [`file::Writer`](crate::file::Writer),
    /// upload the blob, and [`offer`](Client::offer_history) it. Draws 112 bytes.
    ///
    /// # Errors
    /// [`Error::Unlinked`], [`Error::TooLong`], [`Error::Store`]; those of `app_frames` and of
    /// `writer`. Delete what was written.
    pub fn export_history<W: Write, B: AsRef<[u8]>>(
        &mut self,
        app_frames: impl IntoIterator<Item = Result<B>>,
        writer: W,
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<(W, Zeroizing<[u8; 32]>)> {
        let info = self.run(|open| info(open, now))?;
        let mut key = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *key);
        let (kind, locks) = (ArchiveKind::Transfer, [Lock::Key(&key)]);
        let mut out = archive::Writer::new(writer, kind, &locks, Argon2Cost::default(), info, rng)?;
        let page = |walk: &mut Walk| self.run(|open| walk.page(open));
        run_through(page, |contact| out.contact(contact))?;
        app_frames.into_iter().try_for_each(|frame| out.app(frame?.as_ref()))?;
        Ok((out.finish()?, key))
    }
}

/// Every user who is known, but for the account's own.
fn run_through(
    mut page: impl FnMut(&mut Walk) -> core::result::Result<Vec<Contact>, Error>,
    mut take: impl FnMut(&Contact) -> Result<()>,
) -> Result<()> {
    let mut walk = Walk::default();
    while !walk.is_done {
        page(&mut walk)?.iter().try_for_each(&mut take)?;
    }
    Ok(())
}

fn info(open: &mut Open<'_>, now: UnixTime) -> core::result::Result<Info, Error> {
    let own = open.linked()?;
    Info::new(&own.user.name, now, own.user.list.clone())
}

/// A walk through the rows of the users, a page at a time. A scan has a prefix and no beginning:
/// where a prefix has few rows they are taken, and the next one of the same length follows; where
/// it has more, a longer one does.
#[derive(Default)]
struct Walk {
    prefix: Vec<u8>,
    is_done: bool,
}

impl Walk {
    /// Rows read at once: at most 240 KiB.
    const AT_ONCE: usize = 32;

    fn page(&mut self, open: &mut Open<'_>) -> core::result::Result<Vec<Contact>, Error> {
        let rows = open.scan(Table::User, &self.prefix, Self::AT_ONCE.saturating_add(1))?;
        if rows.len() <= Self::AT_ONCE {
            self.advance();
            return contacts(open, &rows);
        }
        match rows.first().and_then(|(key, _)| key.get(self.prefix.len())) {
            Some(next) => self.prefix.push(*next),
            // It has no row below it: no two keys are alike.
            None => return Err(Error::BadState),
        }
        Ok(Vec::new())
    }

    fn advance(&mut self) {
        while let Some(last) = self.prefix.pop() {
            if let Some(next) = last.checked_add(1) {
                return self.prefix.push(next);
            }
        }
        self.is_done = true;
    }
}

fn contacts(open: &Open<'_>, rows: &[Row]) -> core::result::Result<Vec<Contact>, Error> {
    let mut contacts = Vec::with_capacity(rows.len());
    for (_, row) in rows {
        let UserRecord { name, list, mark, unvouched, .. } = UserRecord::decode(row)?;
        // A name that nobody vouches for would be believed where the archive is restored.
        if !open.is_own(&name) && !unvouched {
            contacts.push(Contact::new(&name, list, mark == Mark::Verified)?);
        }
    }
    Ok(contacts)
}
