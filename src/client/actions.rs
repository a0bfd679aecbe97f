//! One transaction of the client: what it knows, and its rows.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::Policy;
use crate::address::Address;
use crate::codec;
use crate::crypto::secret::Secret;
use crate::envelope::Reference;
use crate::error::Error;
use crate::identity::{self, IdentityKey, IdentityKeyPair};
use crate::prekey::Prekeys;
use crate::sesame::{Device, Entry, Needed, Place, Tag, User};
use crate::session::Session;
use crate::store::{Row, Table, Transaction, Value};

/// The intentions of a client inside one transaction: see [`Client::transact`](crate::Client::transact).
///
/// Over a transaction of your own, or an [`Overlay`](crate::store::Overlay), [`Actions::within`] gives them.
pub struct Actions<'t> {
    tx: &'t mut dyn Transaction,
    pub(super) policy: &'t Policy,
    pub(super) account: Account,
    pub(super) commit: Commit,
    /// How many rows were written.
    writes: u64,
    /// How many inbox and outbox rows were made.
    made: u32,
    /// What failed after something was written already: then nothing of the transaction may stay.
    broken: Option<Error>,
}

/// The app's own rows in a transaction: see [`Actions::rows`].
pub struct Rows<'a> {
    tx: &'a mut dyn Transaction,
}

impl Rows<'_> {
    /// As [`Transaction::get`].
    ///
    /// # Errors
    /// [`Error::Store`]
    pub fn get(&mut self, key: &[u8]) -> Result<Option<Value>, Error> {
        self.tx.get(Table::App, key)
    }

    /// As [`Transaction::put`].
    ///
    /// # Errors
    /// [`Error::Store`]
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.tx.put(Table::App, key, value)
    }

    /// As [`Transaction::delete`].
    ///
    /// # Errors
    /// [`Error::Store`]
    pub fn delete(&mut self, key: &[u8]) -> Result<(), Error> {
        self.tx.delete(Table::App, key)
    }

    /// As [`Transaction::scan`].
    ///
    /// # Errors
    /// [`Error::Store`]
    pub fn scan(&mut self, prefix: &[u8], most: usize) -> Result<Vec<Row>, Error> {
        self.tx.scan(Table::App, prefix, most)
    }
}

/// Shows nothing of them.
impl core::fmt::Debug for Rows<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Rows")
    }
}

/// What this device is. Changes when it is linked, and never after.
#[derive(Serialize, Deserialize)]
pub(super) struct Account {
    pub(super) user: String,
    pub(super) device: u32,
    #[serde(with = "identity::checked")]
    pub(super) identity: IdentityKey,
    tag_key: Secret<32>,
    pub(super) reference_key: Secret<32>,
}

impl Account {
    pub(super) fn new(
        user: String,
        device: u32,
        identity: IdentityKey,
        [tag_key, reference_key]: [Secret<32>; 2],
    ) -> Self {
        Self { user, device, identity, tag_key, reference_key }
    }
}

/// What moves with every transaction.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Commit {
    /// How many transactions changed something.
    pub(super) generation: u64,
    /// How many messages were logged.
    pub(super) logged: u64,
    /// How often the store was found to be restored from a copy.
    pub(super) epoch: u32,
    /// What was uploaded: prekeys up to this id, and the device list of this number.
    pub(super) uploaded: (u32, u64),
}

const ACCOUNT: &[u8] = b"account";
const COMMIT: &[u8] = b"commit";
const IDENTITY: &[u8] = b"identity";
const ACCOUNT_KEY: &[u8] = b"account key";
const PREKEYS: &[u8] = b"prekeys";

/// What an allowance is for, and how much: `burst` at once, and one more every `period` seconds.
pub(super) struct Allowance {
    pub(super) kind: u8,
    pub(super) burst: u64,
    pub(super) period: u64,
}

impl<'t> Actions<'t> {
    /// Does `work` inside a transaction of your own, which you commit if this returns `Ok`, and abort if it does not.
    ///
    /// # Errors
    /// Those of `work`; [`Error::NoAccount`]: the store is empty; [`Error::Store`].
    pub fn within<T, E: From<Error>>(
        tx: &'t mut dyn Transaction,
        policy: &'t Policy,
        work: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut actions = Self::begin(tx, policy)?;
        let done = work(&mut actions)?;
        actions.finish()?;
        Ok(done)
    }

    fn begin(tx: &'t mut dyn Transaction, policy: &'t Policy) -> Result<Self, Error> {
        let account = tx.get(Table::Account, ACCOUNT)?.ok_or(Error::NoAccount)?;
        let account = codec::state::decode(1, &account)?;
        let commit = tx.get(Table::Account, COMMIT)?.ok_or(Error::BadState)?;
        let commit = codec::state::decode(1, &commit)?;
        Ok(Self { tx, policy, account, commit, writes: 0, made: 0, broken: None })
    }

    /// In a store that has no account yet.
    pub(super) fn first(
        tx: &'t mut dyn Transaction,
        policy: &'t Policy,
        account: Account,
    ) -> Result<Self, Error> {
        if tx.get(Table::Account, ACCOUNT)?.is_some() {
            return Err(Error::AccountExists);
        }
        tx.put(Table::Account, ACCOUNT, &codec::state::encode(1, &account, 512))?;
        let commit = Commit { epoch: 1, ..Commit::default() };
        Ok(Self { tx, policy, account, commit, writes: 1, made: 0, broken: None })
    }

    pub(super) fn finish(mut self) -> Result<(), Error> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        if self.writes > 0 {
            self.commit.generation = self.commit.generation.checked_add(1).ok_or(Error::Exhausted)?;
            self.tx.put(Table::Account, COMMIT, &codec::state::encode(1, &self.commit, 64))?;
        }
        Ok(())
    }

    /// Does one intention whole: where it fails after something was written, the transaction cannot be committed any more, even
    /// if the app goes on as if nothing had happened.
    pub(super) fn whole<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        let before = self.writes;
        let done = work(self);
        if let Err(error) = &done
            && self.writes != before
        {
            self.broken.get_or_insert_with(|| error.clone());
        }
        done
    }

    /// The app's own rows, in [`Table::App`]: what is changed there is committed with the rest.
    ///
    /// ```
    /// # use subrosa::{Client, Error, SystemRng, store::Memory};
    /// # let (now, rng) = (1_800_000_000, &mut SystemRng);
    /// # let mut client = Client::create(Memory::new(), "alice", now, rng)?;
    /// // From the inbox into the app's history: a message is in one of them, whatever happens.
    /// client.transact(|actions| {
    ///     for incoming in actions.inbox(100)? {
    ///         actions.rows().put(incoming.id.as_bytes(), &incoming.text)?;
    ///         actions.done(incoming.id)?;
    ///     }
    ///     Ok::<(), Error>(())
    /// })?;
    /// # Ok::<(), Error>(())
    /// ```
    pub const fn rows(&mut self) -> Rows<'_> {
        Rows { tx: self.tx }
    }

    pub(super) fn get(&mut self, table: Table, key: &[u8]) -> Result<Option<Value>, Error> {
        self.tx.get(table, key)
    }

    pub(super) fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.writes = self.writes.saturating_add(1);
        self.tx.put(table, key, value)
    }

    pub(super) fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), Error> {
        self.writes = self.writes.saturating_add(1);
        self.tx.delete(table, key)
    }

    pub(super) fn scan(&mut self, table: Table, prefix: &[u8], most: usize) -> Result<Vec<Row>, Error> {
        self.tx.scan(table, prefix, most)
    }

    /// A key for the next row of the inbox or the outbox: they are in the order in which they were made.
    pub(super) fn next_key(&mut self) -> [u8; 12] {
        let mut key = [0; 12];
        key[..8].copy_from_slice(&self.commit.generation.to_be_bytes());
        key[8..].copy_from_slice(&self.made.to_be_bytes());
        self.made = self.made.saturating_add(1);
        key
    }

    pub(super) fn tag(&self, user: &str) -> Result<Tag, Error> {
        Tag::new(&self.account.tag_key, user)
    }

    pub(super) fn place(&self, address: &Address) -> Result<Place, Error> {
        Ok(Place { tag: self.tag(&address.user)?, device: address.device })
    }

    pub(super) fn user(&mut self, tag: Tag) -> Result<Option<User>, Error> {
        self.get(Table::User, &tag.0)?.map(|row| User::decode(&row)).transpose()
    }

    /// # Errors
    /// [`Error::DevicesNeeded`]
    pub(super) fn known_user(&mut self, name: &str) -> Result<(Tag, User), Error> {
        let tag = self.tag(name)?;
        let user = self.user(tag)?.ok_or_else(|| Error::DevicesNeeded(name.into()))?;
        Ok((tag, user))
    }

    /// One's own user.
    pub(super) fn own_user(&mut self) -> Result<(Tag, User), Error> {
        let tag = self.tag(&self.account.user)?;
        Ok((tag, self.user(tag)?.ok_or(Error::BadState)?))
    }

    pub(super) fn put_user(&mut self, tag: Tag, user: &User) -> Result<(), Error> {
        self.put(Table::User, &tag.0, &user.encode())
    }

    pub(super) fn device(&mut self, place: Place) -> Result<Device, Error> {
        let row = self.get(Table::Device, &place.key())?;
        row.map_or_else(|| Ok(Device::default()), |row| Device::decode(&row))
    }

    pub(super) fn put_device(&mut self, place: Place, device: &Device) -> Result<(), Error> {
        if device.is_empty() {
            return self.delete(Table::Device, &place.key());
        }
        self.put(Table::Device, &place.key(), &device.encode())
    }

    /// None where it is not there, or cannot be read: then it is as good as lost, and what needs it heals.
    pub(super) fn session(&mut self, place: Place, entry: &Entry) -> Result<Option<Session>, Error> {
        let row = self.get(Table::Session, &place.key_with(entry.id.as_bytes()))?;
        Ok(row.and_then(|row| Session::decode(&row).ok()))
    }

    pub(super) fn put_session(&mut self, place: Place, session: &Session) -> Result<(), Error> {
        self.put(Table::Session, &place.key_with(session.id().as_bytes()), &session.encode())
    }

    pub(super) fn delete_session(&mut self, place: Place, entry: &Entry) -> Result<(), Error> {
        self.delete(Table::Session, &place.key_with(entry.id.as_bytes()))
    }

    /// Puts a session in front, and the device's row.
    pub(super) fn activate(&mut self, place: Place, device: &mut Device, entry: Entry) -> Result<(), Error> {
        for dropped in device.activate(entry, self.policy.seen / 2) {
            self.delete_session(place, &dropped)?;
        }
        self.put_device(place, device)
    }

    pub(super) fn identity(&mut self) -> Result<IdentityKeyPair, Error> {
        let row = self.get(Table::Account, IDENTITY)?.ok_or(Error::BadState)?;
        IdentityKeyPair::decode(&row)
    }

    pub(super) fn put_identity(&mut self, identity: &IdentityKeyPair) -> Result<(), Error> {
        self.put(Table::Account, IDENTITY, &identity.encode())
    }

    /// # Errors
    /// [`Error::NotPermitted`]: this device does not hold it.
    pub(super) fn account_key(&mut self) -> Result<IdentityKeyPair, Error> {
        let row = self.get(Table::Account, ACCOUNT_KEY)?.ok_or(Error::NotPermitted)?;
        IdentityKeyPair::decode(&row)
    }

    pub(super) fn put_account_key(&mut self, key: Option<&IdentityKeyPair>) -> Result<(), Error> {
        match key {
            Some(key) => self.put(Table::Account, ACCOUNT_KEY, &key.encode()),
            None => self.delete(Table::Account, ACCOUNT_KEY),
        }
    }

    pub(super) fn prekeys(&mut self) -> Result<Prekeys, Error> {
        let row = self.get(Table::Account, PREKEYS)?.ok_or(Error::BadState)?;
        Prekeys::decode(&row)
    }

    pub(super) fn put_prekeys(&mut self, prekeys: &Prekeys) -> Result<(), Error> {
        self.put(Table::Account, PREKEYS, &prekeys.encode())
    }

    /// What was uploaded, which is in the commit row.
    pub(super) fn set_uploaded(&mut self, uploaded: (u32, u64)) {
        self.commit.uploaded = uploaded;
        self.writes = self.writes.saturating_add(1);
    }

    /// Whether an envelope was opened before.
    pub(super) fn seen(&mut self, place: Place, reference: Reference) -> Result<bool, Error> {
        Ok(self.get(Table::Seen, &seen_key(place, reference))?.is_some())
    }

    /// Remembers that an envelope was opened, by its reference and whatever else names what is in it, and forgets the one that was so long
    /// ago. The device's row is to be put.
    pub(super) fn see(
        &mut self,
        place: Place,
        device: &mut Device,
        names: &[Reference],
    ) -> Result<(), Error> {
        let turn = |number: u64| place.key_with(&[&[1], &number.to_be_bytes()[..]].concat());
        for name in names {
            self.put(Table::Seen, &seen_key(place, *name), &[])?;
        }
        let names: Vec<u8> = names.iter().flat_map(|name| name.0).collect();
        self.put(Table::Seen, &turn(device.opened), &names)?;
        if let Some(old) = device.opened.checked_sub(self.policy.seen.max(1)) {
            let names = self.get(Table::Seen, &turn(old))?.unwrap_or_default();
            for name in names.as_chunks().0 {
                self.delete(Table::Seen, &seen_key(place, Reference(*name)))?;
            }
            self.delete(Table::Seen, &turn(old))?;
        }
        device.opened = device.opened.saturating_add(1);
        Ok(())
    }

    /// Notes what the app should fetch.
    pub(super) fn need(&mut self, needed: &Needed) -> Result<(), Error> {
        let key = self.needed_key(needed)?;
        self.put(Table::Needed, &key, &codec::state::encode(1, needed, 300))
    }

    /// It is there.
    pub(super) fn need_no_more(&mut self, needed: &Needed) -> Result<(), Error> {
        let key = self.needed_key(needed)?;
        match self.get(Table::Needed, &key)? {
            Some(_) => self.delete(Table::Needed, &key),
            None => Ok(()),
        }
    }

    fn needed_key(&self, needed: &Needed) -> Result<Vec<u8>, Error> {
        match needed {
            Needed::Bundle(address) => Ok(self.place(address)?.key_with(&[1])),
            Needed::Devices(user) => Ok(Place { tag: self.tag(user)?, device: 0 }.key_with(&[2])),
        }
    }

    /// Takes one from an allowance, if there is one left.
    ///
    /// The row says when the allowance will be whole again. A clock that was ahead does not lock anybody out: a time later than a whole allowance takes is not
    /// believed.
    pub(super) fn allow(&mut self, allowance: &Allowance, bucket: [u8; 2], now: u64) -> Result<bool, Error> {
        let key = [allowance.kind, bucket[0], bucket[1]];
        let all = allowance.burst.saturating_mul(allowance.period);
        let row = self.get(Table::Allowance, &key)?;
        let stored = row.and_then(|row| row.as_slice().try_into().ok()).map_or(0, u64::from_be_bytes);
        let latest = now.saturating_add(all);
        let whole_at = if stored > latest { now } else { stored.max(now) };
        let after = whole_at.saturating_add(allowance.period);
        if after > latest {
            return Ok(false);
        }
        self.put(Table::Allowance, &key, &after.to_be_bytes())?;
        Ok(true)
    }
}

fn seen_key(place: Place, reference: Reference) -> Vec<u8> {
    place.key_with(&[&[0], &reference.0[..]].concat())
}

/// State at rest of some plain value.
pub(super) fn encode(value: &impl Serialize, capacity: usize) -> Zeroizing<Vec<u8>> {
    codec::state::encode(1, value, capacity)
}

/// Shows whose it is.
impl core::fmt::Debug for Actions<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let address = Address::new(&self.account.user, self.account.device);
        f.debug_struct("Actions").field("address", &address).finish_non_exhaustive()
    }
}
