//! From a backup into an empty store: the account comes back, as a new device.

use std::io::{Read, Result, Seek};

use alloc::sync::Arc;

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use super::account::{self, Founding, RENEWAL};
use super::import::{Batch, Marks, cursor, skip};
use super::rows::Rows;
use super::transaction::{Account, Open, RESTORATION};
use super::{Client, Policy};
use crate::archive::{Archive, Frame};
use crate::at_rest;
use crate::crypto::stack;
use crate::devices::{DeviceList, Others};
use crate::error::Error;
use crate::identity::IdentityKeyPair;
use crate::sesame::UserRecord;
use crate::store::{Store, Table, Transaction};
use crate::time::UnixTime;

impl<S: Store> Client<S> {
    /// Brings an account back from a backup, into an empty store. This device is a new one of the
    /// account, and a manager; no session, no message and no prekey comes back. Show
    /// [`Info::created_at`](crate::archive::Info) first: everything is as it was then.
    ///
    /// `own_list` is the device list of the user [`Info::user`](crate::archive::Info), fetched from
    /// the server just now; `None` where the server does not know the user. The other devices in it
    /// stay, or are removed, and then the account gets another key, which everybody who knows the
    /// user has to accept.
    ///
    /// The archive is checked as a whole before anything is written. Then it goes in pieces, each
    /// in a transaction; `app` gets each of the app's frames in their order, and what it writes
    /// into the rows is committed together with the note of how far the restoration is.
    /// Interrupted, the same call with the same archive goes on where it was, in the middle of the
    /// frames: a frame has to say itself under which key it goes. No client can be opened before it
    /// is done.
    ///
    /// ```
    /// # use std::io::Cursor;
    /// # use subrosa::archive::Archive;
    /// # use subrosa::store::{Lock, Memory};
    /// # use subrosa::{Client, Contents, Error, Others, SystemRng, UnixTime};
    /// # fn main() -> std::io::Result<()> {
    /// # let (now, rng) = (UnixTime::now()?, &mut SystemRng);
    /// # let mut old = Client::create(Memory::new(), "rosa", now, rng)?;
    /// # let key = Lock::Key(&[7; 32]);
    /// # let lines = [Ok(b"name: a line".to_vec())];
    /// # let file = old.export(&[key], &Contents::default(), lines, Vec::new(), now, rng)?;
    /// # let list = old.devices("rosa")?;
    /// let mut archive = Archive::open(Cursor::new(file), key)?;
    /// println!("{}, as of {}", archive.info().user, archive.info().created_at);
    /// let (store, list) = (Memory::new(), list.as_ref()); // from the server
    /// let mut client = Client::restore(store, &mut archive, list, Others::Remove, |rows, frame| {
    ///     let (name, line) = frame.split_at_checked(4).ok_or(Error::Malformed)?;
    ///     rows.put(name, line)
    /// }, now, rng)?;
    /// assert_eq!(client.address().to_string(), "rosa/2");
    /// # let rows = client.transact(|client| client.rows().scan(b"name", 9))?;
    /// # assert_eq!(rows.len(), 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::AccountExists`]: the store is not empty. [`Error::UnfinishedRestoration`]: another
    /// archive is being restored into it. [`Error::NotPermitted`]: the archive has no account key,
    /// or is none of a backup; [`Client::import`] takes contacts and frames from it.
    /// [`Error::AccountReplaced`]: `own_list` is of another account key; the one in the archive is
    /// not stored. [`Error::TooManyDevices`]: the account has 32, and they are to stay.
    /// [`Error::DamagedArchive`], [`Error::NewerArchive`], [`Error::Malformed`]. [`Error::Store`].
    /// Those of `app` and of the archive's reader.
    pub fn restore<R: Read + Seek>(
        mut store: S,
        archive: &mut Archive<R>,
        own_list: Option<&DeviceList>,
        others: Others,
        mut app: impl FnMut(&mut Rows<'_>, &[u8]) -> core::result::Result<(), Error>,
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<Self> {
        let (policy, id) = (Policy::default(), *archive.id());
        // What is wrong with the store, nobody waits for a long check to hear.
        store.transact(|tx| is_for(tx, &id).map(drop))?;
        let key = account_key(archive)?;
        if own_list.is_some_and(|list| list.account() != key.public_key()) {
            return Err(Error::AccountReplaced.into());
        }
        let user = archive.info().user.clone();
        // Whether there is room for the device, before anything is written.
        place(archive, own_list, &key, &IdentityKeyPair::generate(rng), others)?;
        let done = store.transact(|tx| match is_for(tx, &id)? {
            Some(done) => Ok::<_, Error>(done),
            None => begin(tx, &id, &user, rng).map(|()| 0),
        })?;
        skip(archive, done)?;
        loop {
            let batch = Batch::read(archive)?;
            let cursor = archive.frames();
            let finish = |tx: &mut dyn Transaction, rng: &mut dyn CryptoRng| {
                let restoring = Restoring::load(tx)?;
                let (list, device) = place(archive, own_list, &key, &restoring.identity, others)?;
                let was = base(archive, own_list).clone();
                restoring.finish(tx, &policy, (was, list, device), (key.clone(), others), now, rng)
            };
            let account = store.transact(|tx| {
                let own = Arc::new(Restoring::load(tx)?.own);
                let mut open = Open::begin(tx, &policy, own)?;
                batch.apply(&mut open, Marks::Taken, &mut app, now)?;
                open.finish()?;
                if batch.is_last {
                    finish(tx, rng)?;
                    return Account::load(tx).map(Some);
                }
                note(tx, &id, cursor).map(|()| None)
            })?;
            stack::wipe();
            if let Some(account) = account {
                return Ok(Self::over(store, account));
            }
        }
    }
}

/// The key of the account, in an archive that is whole.
fn account_key<R: Read + Seek>(archive: &mut Archive<R>) -> Result<IdentityKeyPair> {
    archive.check()?;
    // It is the first frame, which no archive but a backup has.
    match archive.next_frame()? {
        // A copy, so that the one on the heap is wiped there.
        Some(Frame::Account(key)) => Ok(IdentityKeyPair::clone(&key)),
        _ => Err(Error::NotPermitted.into()),
    }
}

/// The list that was there before: the newer one of the server's and the archive's.
fn base<'a, R: Read + Seek>(
    archive: &'a Archive<R>,
    own_list: Option<&'a DeviceList>,
) -> &'a DeviceList {
    let archived = &archive.info().list;
    own_list.filter(|list| list.version() >= archived.version()).unwrap_or(archived)
}

/// The list with this device, and the number of the device.
fn place<R: Read + Seek>(
    archive: &Archive<R>,
    own_list: Option<&DeviceList>,
    key: &IdentityKeyPair,
    identity: &IdentityKeyPair,
    others: Others,
) -> core::result::Result<(DeviceList, u32), Error> {
    let base = base(archive, own_list);
    let other = own_list.unwrap_or(&archive.info().list);
    // Neither of the two is to be ahead.
    let above = if core::ptr::eq(base, other) { &archive.info().list } else { other };
    base.restored(above, key, identity.public_key(), others)
}

/// What this device will be, drawn at the beginning: the names of all rows follow from it.
#[derive(Serialize, Deserialize)]
struct Restoring {
    own: Account,
    identity: IdentityKeyPair,
}

/// The row of a [`Restoring`].
const RESTORING: &[u8] = b"restoring";

/// How many frames were taken of this archive; none where the store is empty.
fn is_for(tx: &mut dyn Transaction, id: &[u8; 16]) -> core::result::Result<Option<u64>, Error> {
    let Some(row) = tx.get(Table::Account, RESTORATION)? else {
        return match Account::load(tx) {
            Err(Error::NoAccount) => Ok(None),
            Err(error @ Error::Store(_)) => Err(error),
            _ => Err(Error::AccountExists),
        };
    };
    let (archive, done) = row.split_first_chunk::<16>().ok_or(Error::BadState)?;
    if archive == id { cursor(done).map(Some) } else { Err(Error::UnfinishedRestoration) }
}

fn note(tx: &mut dyn Transaction, id: &[u8; 16], cursor: u64) -> core::result::Result<(), Error> {
    tx.put(Table::Account, RESTORATION, &[&id[..], &cursor.to_be_bytes()].concat())
}

/// Draws 128 bytes.
fn begin(
    tx: &mut dyn Transaction,
    id: &[u8; 16],
    user: &str,
    rng: &mut dyn CryptoRng,
) -> core::result::Result<(), Error> {
    let identity = IdentityKeyPair::generate(rng);
    // Its number is known at the end.
    let own = Account::new(user, 0, identity.public_key(), rng);
    let restoring = Restoring { own, identity };
    tx.put(Table::Account, RESTORING, &at_rest::state::encode(1, &restoring, 640))?;
    note(tx, id, 0)
}

impl Restoring {
    fn load(tx: &mut dyn Transaction) -> core::result::Result<Self, Error> {
        let row = tx.get(Table::Account, RESTORING)?.ok_or(Error::BadState)?;
        at_rest::state::decode(1, &row)
    }

    /// From here on it is a client.
    fn finish(
        self,
        tx: &mut dyn Transaction,
        policy: &Policy,
        (before, list, device): (DeviceList, DeviceList, u32),
        (key, others): (IdentityKeyPair, Others),
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> core::result::Result<(), Error> {
        let Self { mut own, identity } = self;
        own.device = device;
        // As if the list before had been known here: its devices, where they are gone, are
        // remembered as such.
        let mut user = UserRecord::new(&own.user, before);
        user.replace(list, now);
        tx.delete(Table::Account, RESTORATION)?;
        tx.delete(Table::Account, RESTORING)?;
        if others == Others::Remove {
            tx.put(Table::Account, RENEWAL, &[])?;
        }
        account::found(tx, policy, Founding { own, identity, user, key: Some(key) }, now, rng)
    }
}
