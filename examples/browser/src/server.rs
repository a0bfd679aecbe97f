//! A stand-in for the app's server, in a database of the same browser: a directory of each user,
//! a mailbox of each device, and the blobs of files.
//!
//! A real one is elsewhere, and has its users log in: `docs/server.md`. What is asked of it here is
//! what an app asks of its own.

use rand_core::Rng;
use subrosa::directory::Directory;
use subrosa::store::{Table, Transaction};
use subrosa::{Address, Error, SystemRng, UnixTime};

use crate::failure::Result;
use crate::rows::Rows;

pub(crate) struct Server {
    rows: Rows,
}

/// What a blob is called: 16 bytes that are drawn, and that only its readers are told.
pub(crate) type BlobId = [u8; 16];

/// A piece of mail.
pub(crate) struct Mail {
    /// What to acknowledge.
    pub(crate) id: Vec<u8>,
    pub(crate) from: Address,
    pub(crate) envelope: Vec<u8>,
}

/// Where things are, in one table.
#[derive(Clone, Copy)]
enum Kind {
    User,
    Device,
    Mail,
}

impl Server {
    pub(crate) async fn connect() -> Result<Self> {
        Ok(Self { rows: Rows::open("subrosa server").await? })
    }

    /// What is held of a device.
    pub(crate) async fn summary(&self, of: &Address) -> Result<Vec<u8>> {
        self.rows.transact(|tx| Ok(directory(tx, of)?.summary(of.device).encode())).await
    }

    /// Takes in what a device uploads. Says whether it did.
    pub(crate) async fn upload(&self, from: &Address, upload: &[u8]) -> Result<bool> {
        let accepted = self.rows.transact(|tx| {
            let mut directory = directory(tx, from)?;
            let Ok(accepted) = directory.upload(from.device, upload) else { return Ok(false) };
            for device in accepted.removed {
                let gone = Address::new(&from.user, device);
                tx.delete(Table::App, &key(Kind::Device, &gone, &[]))?;
                for (id, _) in tx.scan(Table::App, &key(Kind::Mail, &gone, &[]), usize::MAX)? {
                    tx.delete(Table::App, &id)?;
                }
            }
            if let Some(row) = directory.encode_user() {
                tx.put(Table::App, &user_key(&from.user), &row)?;
            }
            put_device(tx, &directory, from)?;
            Ok(true)
        });
        accepted.await
    }

    /// A user's device list.
    pub(crate) async fn devices(&self, user: &str) -> Result<Option<Vec<u8>>> {
        let list = self.rows.transact(|tx| tx.get(Table::App, &user_key(user))).await?;
        Ok(list.map(|list| list.to_vec()))
    }

    /// A bundle of a device, for `asker`.
    pub(crate) async fn bundle(
        &self,
        of: &Address,
        asker: &str,
        now: UnixTime,
    ) -> Result<Option<Vec<u8>>> {
        let bundle = self.rows.transact(|tx| {
            let mut directory = directory(tx, of)?;
            let Ok(bundle) = directory.bundle(of.device, asker, now.as_secs()) else {
                return Ok(None);
            };
            put_device(tx, &directory, of)?;
            Ok(Some(bundle.encode()))
        });
        bundle.await
    }

    /// Puts an envelope in the mailbox of a device, if there is such a device. Says whether there
    /// is.
    pub(crate) async fn send(&self, from: &Address, to: &Address, envelope: &[u8]) -> Result<bool> {
        let sent = self.rows.transact(|tx| {
            let directory = directory(tx, to)?;
            if directory.list().is_none_or(|list| list.get(to.device).is_none()) {
                return Ok(false);
            }
            let count = tx.get(Table::App, COUNT)?;
            let count = count
                .and_then(|count| count.as_slice().try_into().ok())
                .map_or(0, u64::from_be_bytes);
            let next = count.saturating_add(1).to_be_bytes();
            tx.put(Table::App, COUNT, &next)?;
            let mail = postcard::to_allocvec(&(from, envelope)).map_err(|_| Error::BadState)?;
            tx.put(Table::App, &key(Kind::Mail, to, &next), &mail)?;
            Ok(true)
        });
        sent.await
    }

    /// The mail of a device that it has not acknowledged, the oldest first. None where the server
    /// does not know the device: it has not registered, or was removed.
    pub(crate) async fn mail(&self, to: &Address) -> Result<Option<Vec<Mail>>> {
        let mailbox = key(Kind::Mail, to, &[]);
        let found = self.rows.transact(|tx| {
            if directory(tx, to)?.list().is_none_or(|list| list.get(to.device).is_none()) {
                return Ok(None);
            }
            // All of it: what the device leaves for later must not hide what comes after. A real
            // server has pages.
            let rows = tx.scan(Table::App, &mailbox, usize::MAX)?.into_iter();
            let mail = rows.map(|(id, row)| {
                let (from, envelope) = postcard::from_bytes(&row).map_err(|_| Error::BadState)?;
                Ok(Mail { id, from, envelope })
            });
            mail.collect::<Result<_, Error>>().map(Some)
        });
        found.await
    }

    /// Keeps a blob, which this server cannot read. A real one counts what a user has, and deletes
    /// by age.
    pub(crate) async fn put_blob(&self, blob: &[u8]) -> Result<BlobId> {
        let mut id = [0; 16];
        SystemRng.fill_bytes(&mut id);
        for (number, part) in (0_u32..).zip(blob.chunks(BLOB_PART)) {
            let key = blob_key(&id, &number.to_be_bytes());
            self.rows.transact(|tx| tx.put(Table::App, &key, part)).await?;
        }
        Ok(id)
    }

    /// A blob, as far as it is here.
    pub(crate) async fn blob(&self, id: &BlobId) -> Result<Vec<u8>> {
        let parts = self.rows.transact(|tx| tx.scan(Table::App, &blob_key(id, &[]), usize::MAX));
        Ok(parts.await?.iter().flat_map(|(_, part)| part.iter().copied()).collect())
    }

    /// A piece of mail is safe, and can be forgotten.
    pub(crate) async fn acknowledge(&self, mail: &Mail) -> Result<()> {
        self.rows.transact(|tx| tx.delete(Table::App, &mail.id)).await
    }
}

const COUNT: &[u8] = b"count";

/// Bytes of a blob in one row.
const BLOB_PART: usize = 1 << 20;

fn blob_key(id: &BlobId, rest: &[u8]) -> Vec<u8> {
    [&b"b"[..], id, rest].concat()
}

fn key(kind: Kind, of: &Address, rest: &[u8]) -> Vec<u8> {
    let kind = match kind {
        Kind::User => b'u',
        Kind::Device => b'd',
        Kind::Mail => b'm',
    };
    // No UTF-8 text has this byte, so no name begins as another one with what follows.
    [&[kind], of.user.as_bytes(), &[0xff], of.device.to_be_bytes().as_slice(), rest].concat()
}

fn user_key(user: &str) -> Vec<u8> {
    key(Kind::User, &Address::new(user, 0), &[])
}

/// What is held of a user and of one device.
fn directory(tx: &mut dyn Transaction, of: &Address) -> Result<Directory, Error> {
    let (user_key, device_key) = (user_key(&of.user), key(Kind::Device, of, &[]));
    tx.prefetch(&[(Table::App, &user_key), (Table::App, &device_key)])?;
    let Some(user) = tx.get(Table::App, &user_key)? else { return Ok(Directory::new()) };
    let device = tx.get(Table::App, &device_key)?;
    Directory::decode(&user, device.iter().map(|row| (of.device, row.as_slice())))
}

fn put_device(tx: &mut dyn Transaction, directory: &Directory, of: &Address) -> Result<(), Error> {
    match directory.encode_device(of.device) {
        Some(row) => tx.put(Table::App, &key(Kind::Device, of, &[]), &row),
        None => Ok(()),
    }
}
