//! A stand-in for the app's server, in a database of the same browser: device lists, prekeys, and mailboxes.
//!
//! A real one is elsewhere, has its users log in, and limits how many bundles it hands to whom; `examples/relay.rs` is closer to one. What is
//! asked of it here is what an app asks of its own.

use subrosa::store::{Table, Transaction};
use subrosa::{Address, DeviceList, Error, PublishedPrekeys, Upload};

use crate::failure::{Failure, Result};
use crate::rows::Rows;

pub(crate) struct Server {
    rows: Rows,
}

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
    Devices,
    Prekeys,
    Mail,
    Count,
}

impl Server {
    pub(crate) async fn connect() -> Result<Self> {
        Ok(Self { rows: Rows::open("subrosa server").await? })
    }

    /// How many one-time prekeys of a device there are.
    pub(crate) async fn count(&self, of: &Address) -> Result<usize> {
        self.rows.transact(|tx| Ok(prekeys(tx, of)?.map_or(0, |prekeys| prekeys.one_time_count()))).await
    }

    /// A name belongs to the account key that came first. The list with the highest number stays; prekeys are added.
    pub(crate) async fn upload(&self, from: &Address, upload: &Upload) -> Result<()> {
        let list = &upload.devices;
        let is_taken = |known: &DeviceList| known.account() != list.account();
        let accepted = self.rows.transact(|tx| {
            let known = devices(tx, &from.user)?;
            if known.as_ref().is_some_and(is_taken) {
                return Ok(false);
            }
            if known.is_none_or(|known| known.number() < list.number()) {
                tx.put(Table::App, &key(Kind::Devices, &from.user, &[]), &list.encode())?;
            }
            let mut all = prekeys(tx, from)?.unwrap_or_else(|| upload.prekeys.clone());
            all.merge(upload.prekeys.clone());
            put_prekeys(tx, from, &all)?;
            Ok(true)
        });
        if accepted.await? { Ok(()) } else { Err(Failure::Refused("the name is taken")) }
    }

    /// A user's device list.
    pub(crate) async fn devices(&self, user: &str) -> Result<Option<Vec<u8>>> {
        let list = self.rows.transact(|tx| devices(tx, user)).await?;
        Ok(list.map(|list| list.encode()))
    }

    /// A bundle of a device, which nobody else gets.
    pub(crate) async fn bundle(&self, of: &Address) -> Result<Option<Vec<u8>>> {
        let taken = self.rows.transact(|tx| {
            let Some(mut prekeys) = prekeys(tx, of)? else { return Ok(None) };
            let bundle = prekeys.take_bundle();
            put_prekeys(tx, of, &prekeys)?;
            Ok(bundle)
        });
        Ok(taken.await?.map(|bundle| bundle.encode()))
    }

    /// Puts an envelope in the mailbox of a device, if there is such a device.
    pub(crate) async fn send(&self, from: &Address, to: &Address, envelope: &[u8]) -> Result<bool> {
        let sent = self.rows.transact(|tx| {
            if devices(tx, &to.user)?.is_none_or(|list| list.get(to.device).is_none()) {
                return Ok(false);
            }
            let count = tx.get(Table::App, &key(Kind::Count, "", &[]))?;
            let count =
                count.and_then(|count| count.as_slice().try_into().ok()).map_or(0, u64::from_be_bytes);
            let next = count.saturating_add(1).to_be_bytes();
            tx.put(Table::App, &key(Kind::Count, "", &[]), &next)?;
            let mail = postcard::to_allocvec(&(from, envelope)).map_err(|_| Error::BadState)?;
            tx.put(
                Table::App,
                &key(Kind::Mail, &to.user, &[to.device.to_be_bytes().as_slice(), &next].concat()),
                &mail,
            )?;
            Ok(true)
        });
        sent.await
    }

    /// The mail of a device that it has not acknowledged, the oldest first.
    pub(crate) async fn mail(&self, to: &Address) -> Result<Vec<Mail>> {
        let mailbox = key(Kind::Mail, &to.user, &to.device.to_be_bytes());
        let found = self.rows.transact(|tx| {
            // All of it: what the device leaves for later must not hide what comes after. A real server has pages.
            let rows = tx.scan(Table::App, &mailbox, usize::MAX)?.into_iter();
            let mail = rows.map(|(id, row)| {
                let (from, envelope) = postcard::from_bytes(&row).map_err(|_| Error::BadState)?;
                Ok(Mail { id, from, envelope })
            });
            mail.collect()
        });
        found.await
    }

    /// A piece of mail is safe, and can be forgotten.
    pub(crate) async fn acknowledge(&self, mail: &Mail) -> Result<()> {
        self.rows.transact(|tx| tx.delete(Table::App, &mail.id)).await
    }
}

fn key(kind: Kind, user: &str, rest: &[u8]) -> Vec<u8> {
    let kind = match kind {
        Kind::Devices => b'd',
        Kind::Prekeys => b'p',
        Kind::Mail => b'm',
        Kind::Count => b'c',
    };
    // No UTF-8 text has this byte, so no name begins as another one with what follows.
    [&[kind], user.as_bytes(), &[0xff], rest].concat()
}

fn devices(tx: &mut dyn Transaction, user: &str) -> Result<Option<DeviceList>, Error> {
    let row = tx.get(Table::App, &key(Kind::Devices, user, &[]))?;
    row.map(|row| DeviceList::decode(&row)).transpose()
}

fn prekeys(tx: &mut dyn Transaction, of: &Address) -> Result<Option<PublishedPrekeys>, Error> {
    let row = tx.get(Table::App, &key(Kind::Prekeys, &of.user, &of.device.to_be_bytes()))?;
    row.map(|row| PublishedPrekeys::decode(&row)).transpose()
}

fn put_prekeys(tx: &mut dyn Transaction, of: &Address, prekeys: &PublishedPrekeys) -> Result<(), Error> {
    tx.put(Table::App, &key(Kind::Prekeys, &of.user, &of.device.to_be_bytes()), &prekeys.encode())
}
