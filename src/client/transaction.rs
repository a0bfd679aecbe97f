//! One transaction of the client: the account in it, its rows, and the names of those.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use rand_core::CryptoRng;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Policy;
use crate::address::Address;
use crate::at_rest;
use crate::crypto::kdf::HmacKey;
use crate::crypto::mark;
use crate::crypto::secret::Secret;
use crate::devices::ListedDevice;
use crate::error::Error;
use crate::identity::{self, IdentityKey, IdentityKeyPair};
use crate::reference::ReferenceKeys;
use crate::sesame::{DeviceRecord, UserRecord};
use crate::session::{Session, SessionId};
use crate::store::{Row, StoreFault, Table, Transaction, Value};
use crate::time::UnixTime;

/// A client's account in an open transaction: what [`Client::transact`](crate::Client::transact)
/// and [`Client::within`](crate::Client::within) hand to a closure, as a `Client<Open<'_>>`.
pub struct Open<'t> {
    tx: &'t mut dyn Transaction,
    pub(super) policy: &'t Policy,
    pub(super) account: Arc<Account>,
    /// How often this store was found restored from a copy.
    pub(super) restorations: u32,
    /// When it was found so last.
    restored_at: Option<UnixTime>,
    own_tag: Option<Tag>,
    own: Option<Rc<OwnUser>>,
    /// How many rows were written.
    writes: u64,
    /// How many rows with a drawn name were made.
    named: u16,
    /// Seconds by which the network is asked later for what came sealed: none while an open
    /// envelope is looked at.
    pub(super) quiet: u64,
    /// Whether an envelope is looked at once more that was set aside.
    pub(super) is_again: bool,
    /// What failed after something was written: nothing of the transaction may stay.
    broken: Option<Error>,
}

/// What this device is. It is written once, when the account is made or joined.
#[derive(Serialize, Deserialize)]
pub(crate) struct Account {
    pub(super) user: String,
    pub(super) device: u32,
    #[serde(with = "identity::checked")]
    pub(super) identity: IdentityKey,
    row_key: RowKey,
    pub(super) references: ReferenceKeys,
}

/// What names in keys of rows are made with: a stored secret, ready for use.
struct RowKey {
    secret: Secret<32>,
    prepared: HmacKey,
}

impl From<Secret<32>> for RowKey {
    fn from(secret: Secret<32>) -> Self {
        let prepared = HmacKey::new(&secret);
        Self { secret, prepared }
    }
}

impl Serialize for RowKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.secret.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RowKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Secret::deserialize(deserializer).map(Self::from)
    }
}

/// The account's own user, as its other devices and peers see it.
pub(super) struct OwnUser {
    pub(super) tag: Tag,
    pub(super) user: Arc<UserRecord>,
}

/// What stands for a user's name in keys of rows: `HMAC(row key, "user" || name)[..16]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Tag(#[serde(with = "at_rest::array")] pub(super) [u8; 16]);

/// Where the rows of a device are: the tag of its user, and
/// `HMAC(row key, "device" || identity)[..16]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) tag: Tag,
    pub(super) device: [u8; 16],
}

impl Place {
    pub(super) fn key(self) -> [u8; 32] {
        let mut key = [0; 32];
        let (tag, device) = key.split_at_mut(16);
        tag.copy_from_slice(&self.tag.0);
        device.copy_from_slice(&self.device);
        key
    }

    pub(super) fn read(key: &[u8; 32]) -> Self {
        let [tag, device] = halves(*key);
        Self { tag: Tag(tag), device }
    }

    pub(super) fn key_with(self, more: &[u8]) -> Vec<u8> {
        [&self.key(), more].concat()
    }
}

/// The row that says that what is known of a user changed: `12 || tag:16` in the table of groups.
pub(super) fn changed_user(tag: Tag) -> [u8; 17] {
    let mut key = [CHANGED_USER; 17];
    key[1..].copy_from_slice(&tag.0);
    key
}

pub(super) const CHANGED_USER: u8 = 12;

/// The name of a row of the inbox or outbox: `time:u64 || number:u64 || count:u16 || drawn:6`. The
/// rows are in the order of their names; no two are alike, even in a store that was restored from
/// a copy.
pub(super) type RowName = [u8; 24];

/// The format of a store. It changes when a version of this crate cannot read what an older one
/// wrote.
const FORMAT: u32 = 1;

const FORMAT_ROW: &[u8] = b"format";
/// How far the restoration of an archive into this store is; there is no account before its end.
pub(super) const RESTORATION: &[u8] = b"restoration";
const ACCOUNT: &[u8] = b"account";
const RESTORATIONS: &[u8] = b"restorations";
const IDENTITY: &[u8] = b"identity";
const ACCOUNT_KEY: &[u8] = b"account key";

/// How often a store was found restored from a copy, and when last.
#[derive(Default, Serialize, Deserialize)]
struct Restorations {
    count: u32,
    last: Option<UnixTime>,
}

/// Seconds after a restoration in which mail of somebody unknown may be that of a contact: 30 days.
const MAY_HAVE_FORGOTTEN: u64 = 30 * 24 * 60 * 60;

impl Account {
    /// Draws 96 bytes.
    pub(super) fn new(
        user: &str,
        device: u32,
        identity: IdentityKey,
        rng: &mut dyn CryptoRng,
    ) -> Self {
        let row_key = RowKey::from(Secret::random(rng));
        let references = ReferenceKeys::random(rng);
        Self { user: user.into(), device, identity, row_key, references }
    }

    /// Reads the account of a store.
    ///
    /// # Errors
    /// [`Error::NoAccount`]; [`Error::Store`] with [`StoreFault::Newer`]; [`Error::BadState`]
    pub(super) fn load(tx: &mut dyn Transaction) -> Result<Self, Error> {
        tx.prefetch(&[FORMAT_ROW, ACCOUNT, RESTORATIONS].map(|key| (Table::Account, key)))?;
        let Some(format) = tx.get(Table::Account, FORMAT_ROW)? else {
            // An account without a format is one of no released version.
            let exists = tx.get(Table::Account, ACCOUNT)?.is_some();
            let is_begun = tx.get(Table::Account, RESTORATION)?.is_some();
            return Err(match (exists, is_begun) {
                (true, _) => Error::BadState,
                (false, true) => Error::UnfinishedRestoration,
                (false, false) => Error::NoAccount,
            });
        };
        match format.as_slice().try_into().map(u32::from_be_bytes) {
            Ok(FORMAT) => {}
            Ok(_) => return Err(StoreFault::Newer.into()),
            Err(_) => return Err(Error::BadState),
        }
        let account = tx.get(Table::Account, ACCOUNT)?.ok_or(Error::NoAccount)?;
        at_rest::state::decode(1, &account)
    }

    pub(super) fn address(&self) -> Address {
        Address::new(&self.user, self.device)
    }

    fn name(&self, label: &[u8], of: &[u8]) -> [u8; 32] {
        mark::public(*self.row_key.prepared.mac(&[label, of]).expose())
    }

    fn short_name(&self, label: &[u8], of: &[u8]) -> [u8; 16] {
        let [name, _] = halves(self.name(label, of));
        name
    }
}

fn halves(bytes: [u8; 32]) -> [[u8; 16]; 2] {
    let mut halves = [[0; 16]; 2];
    for (half, bytes) in halves.iter_mut().zip(bytes.as_chunks().0) {
        *half = *bytes;
    }
    halves
}

impl<'t> Open<'t> {
    /// Opens an account that was loaded from this store.
    pub(super) fn begin(
        tx: &'t mut dyn Transaction,
        policy: &'t Policy,
        account: Arc<Account>,
    ) -> Result<Self, Error> {
        let row = tx.get(Table::Account, RESTORATIONS)?;
        let row = row.map(|row| at_rest::state::decode(1, &row)).transpose()?;
        let Restorations { count, last } = row.unwrap_or_default();
        Ok(Self {
            tx,
            policy,
            account,
            restorations: count,
            restored_at: last,
            own_tag: None,
            own: None,
            writes: 0,
            named: 0,
            quiet: 0,
            is_again: false,
            broken: None,
        })
    }

    /// Makes the account of an empty store.
    pub(super) fn first(
        tx: &'t mut dyn Transaction,
        policy: &'t Policy,
        account: Account,
    ) -> Result<Self, Error> {
        if tx.get(Table::Account, FORMAT_ROW)?.is_some()
            || tx.get(Table::Account, ACCOUNT)?.is_some()
        {
            return Err(Error::AccountExists);
        }
        if tx.get(Table::Account, RESTORATION)?.is_some() {
            return Err(Error::UnfinishedRestoration);
        }
        tx.put(Table::Account, FORMAT_ROW, &FORMAT.to_be_bytes())?;
        tx.put(Table::Account, ACCOUNT, &at_rest::state::encode(1, &account, 512))?;
        let account = Arc::new(account);
        Ok(Self {
            tx,
            policy,
            account,
            restorations: 0,
            restored_at: None,
            own_tag: None,
            own: None,
            writes: 2,
            named: 0,
            quiet: 0,
            is_again: false,
            broken: None,
        })
    }

    /// What keeps the transaction from being committed.
    pub(super) fn finish(self) -> Result<(), Error> {
        self.broken.map_or(Ok(()), Err)
    }

    /// Does one intention whole: where it fails after something was written, the transaction cannot
    /// be committed any more, even if the app goes on as if nothing had happened.
    pub(super) fn whole<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let before = self.writes;
        let done = work(self);
        if let Err(error) = &done
            && self.writes != before
        {
            self.broken.get_or_insert_with(|| error.clone());
            self.own = None;
        }
        done
    }

    pub(super) fn app_rows(&mut self) -> &mut dyn Transaction {
        self.tx
    }

    // ---- Rows.

    pub(super) fn get(&mut self, table: Table, key: &[u8]) -> Result<Option<Value>, Error> {
        self.tx.get(table, key)
    }

    /// As [`Open::get`], of a row that can be done without: none where it was damaged, as a vault
    /// says.
    pub(super) fn get_readable(
        &mut self,
        table: Table,
        key: &[u8],
    ) -> Result<Option<Value>, Error> {
        match self.get(table, key) {
            Err(error) if error == StoreFault::Corrupt.into() => Ok(None),
            row => row,
        }
    }

    pub(super) fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.writes = self.writes.saturating_add(1);
        self.tx.put(table, key, value)
    }

    pub(super) fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), Error> {
        self.writes = self.writes.saturating_add(1);
        self.tx.delete(table, key)
    }

    pub(super) fn scan(
        &mut self,
        table: Table,
        prefix: &[u8],
        most: usize,
    ) -> Result<Vec<Row>, Error> {
        self.tx.scan(table, prefix, most)
    }

    /// Rows that are looked through for something to do: what is done rests on [`Open::get`].
    pub(super) fn peek(
        &mut self,
        table: Table,
        prefix: &[u8],
        most: usize,
    ) -> Result<Vec<Row>, Error> {
        self.tx.peek(table, prefix, most)
    }

    pub(super) fn prefetch(&mut self, rows: &[(Table, &[u8])]) -> Result<(), Error> {
        self.tx.prefetch(rows)
    }

    pub(super) fn get_as<T: DeserializeOwned>(
        &mut self,
        table: Table,
        key: &[u8],
    ) -> Result<Option<T>, Error> {
        self.get(table, key)?.map(|row| at_rest::state::decode(1, &row)).transpose()
    }

    /// `capacity`: an upper bound of the stored form, so that it never moves while it grows.
    pub(super) fn put_as(
        &mut self,
        table: Table,
        key: &[u8],
        value: &impl Serialize,
        capacity: usize,
    ) -> Result<(), Error> {
        self.put(table, key, &at_rest::state::encode(1, value, capacity))
    }

    /// Deletes every row whose key begins with `prefix`, a page at a time.
    pub(super) fn delete_all(&mut self, table: Table, prefix: &[u8]) -> Result<(), Error> {
        const PAGE: usize = 64;
        loop {
            let rows = self.scan(table, prefix, PAGE)?;
            for (key, _) in &rows {
                self.delete(table, key)?;
            }
            if rows.len() < PAGE {
                return Ok(());
            }
        }
    }

    /// A name for the next row of the inbox or the outbox.
    pub(super) fn row_name(
        &mut self,
        now: UnixTime,
        number: u64,
        rng: &mut dyn CryptoRng,
    ) -> RowName {
        let mut name = [0; 24];
        rng.fill_bytes(&mut name);
        name[..8].copy_from_slice(&now.as_secs().to_be_bytes());
        name[8..16].copy_from_slice(&number.to_be_bytes());
        name[16..18].copy_from_slice(&self.named.to_be_bytes());
        self.named = self.named.saturating_add(1);
        name
    }

    /// A name for a row that comes before all that [`Open::row_name`] names:
    /// `0:8 || time:u40 || number:u24 || count:u16 || drawn:6`.
    pub(super) fn first_row_name(
        &mut self,
        now: UnixTime,
        number: u64,
        rng: &mut dyn CryptoRng,
    ) -> RowName {
        let mut name = self.row_name(now, number, rng);
        let order = now.as_secs() << 24 | number & 0x00ff_ffff;
        name[..8].copy_from_slice(&[0; 8]);
        name[8..16].copy_from_slice(&order.to_be_bytes());
        name
    }

    // ---- Names.

    /// # Errors
    /// [`Error::BadName`]
    pub(super) fn tag(&self, user: &str) -> Result<Tag, Error> {
        if !(1..=255).contains(&user.len()) {
            return Err(Error::BadName);
        }
        Ok(Tag(self.account.short_name(b"user", user.as_bytes())))
    }

    /// The tag of the account's own user. It is made once in a transaction.
    pub(super) fn own_tag(&mut self) -> Result<Tag, Error> {
        if let Some(tag) = self.own_tag {
            return Ok(tag);
        }
        let tag = self.tag(&self.account.user)?;
        self.own_tag = Some(tag);
        Ok(tag)
    }

    /// What stands for a group in keys of rows: `HMAC(row key, "group" || id)[..16]`.
    pub(super) fn group_tag(&self, group: &[u8; 32]) -> Tag {
        Tag(self.account.short_name(b"group", group))
    }

    /// What a group is founded with:
    /// `HMAC(row key, "founding" || attempt:u64 || hour:u64 || restorations:u32)[..16]`.
    pub(super) fn founding(&self, now: UnixTime, attempt: u64) -> [u8; 16] {
        let hour = now.as_secs() / 3600;
        let (attempt, hour) = (attempt.to_be_bytes(), hour.to_be_bytes());
        let of = [&attempt[..], &hour, &self.restorations.to_be_bytes()].concat();
        self.account.short_name(b"founding", &of)
    }

    /// Leaves `most` of these, beginning with another one each second: no one of them can keep
    /// another one waiting for good. `HMAC(row key, "turn" || now:u64)[..8]` says with which.
    pub(super) fn by_turns<T>(&self, all: &mut Vec<T>, most: usize, now: UnixTime) {
        if all.len() <= most {
            return;
        }
        let name = self.account.short_name(b"turn", &now.as_secs().to_be_bytes());
        let turn = name.first_chunk().map_or(0, |turn| u64::from_be_bytes(*turn));
        let of = u64::try_from(all.len()).unwrap_or(u64::MAX);
        let first = turn.checked_rem(of).and_then(|first| usize::try_from(first).ok());
        all.rotate_left(first.unwrap_or(0));
        all.truncate(most);
    }

    /// What stands for a member of a group in keys of rows: `HMAC(row key, "member" || id)[..16]`.
    pub(super) fn member_tag(&self, member: &[u8; 16]) -> Tag {
        Tag(self.account.short_name(b"member", member))
    }

    pub(super) fn place(&self, tag: Tag, identity: &IdentityKey) -> Place {
        Place { tag, device: self.account.short_name(b"device", identity.as_bytes()) }
    }

    /// The device on a user's list whose place this is.
    pub(super) fn listed_at(&self, user: &UserRecord, place: Place) -> Option<ListedDevice> {
        let mut devices = user.list.devices().iter();
        devices.find(|listed| self.place(place.tag, &listed.identity) == place).copied()
    }

    pub(super) fn is_own(&self, user: &str) -> bool {
        user == self.account.user
    }

    fn session_key(&self, place: Place, id: &SessionId) -> Vec<u8> {
        place.key_with(&self.account.short_name(b"session", id.as_bytes()))
    }

    pub(super) fn seen_key(&self, place: Place, name: &[u8; 16]) -> Vec<u8> {
        place.key_with(&[&[0], &self.account.short_name(b"seen", name)[..]].concat())
    }

    /// The row that says which session an initial message began:
    /// `HANDSHAKE || HMAC(row key, "handshake" || EK_A)[..16]`.
    pub(super) fn handshake_key(&self, ephemeral_key: &[u8; 32]) -> Vec<u8> {
        const HANDSHAKE: u8 = 3;
        [&[HANDSHAKE][..], &self.account.short_name(b"handshake", ephemeral_key)].concat()
    }

    /// A number that tickets are made with:
    /// `HMAC(row key, "contact" || place:32 || attempt:u8)[..5]`.
    pub(super) fn contact_number(&self, place: Place, attempt: u8) -> [u8; 5] {
        let of = place.key_with(&[attempt]);
        let [a, b, c, d, e, ..] = self.account.short_name(b"contact", &of);
        [a, b, c, d, e]
    }

    /// What an envelope that could not be opened is called:
    /// `HMAC(row key, "envelope" || device:u32 || reference:16 || user)[..16]`.
    pub(super) fn envelope_name(&self, from: &Address, reference: &[u8; 16]) -> [u8; 16] {
        let of = [&from.device.to_be_bytes()[..], reference, from.user.as_bytes()].concat();
        self.account.short_name(b"envelope", &of)
    }

    // ---- Users, devices, sessions.

    pub(super) fn user(&mut self, tag: Tag) -> Result<Option<UserRecord>, Error> {
        self.get(Table::User, &tag.0)?.map(|row| UserRecord::decode(&row)).transpose()
    }

    /// # Errors
    /// [`Error::DevicesNeeded`], [`Error::BadName`]
    pub(super) fn known_user(&mut self, name: &str) -> Result<(Tag, UserRecord), Error> {
        let tag = self.tag(name)?;
        let user = self.user(tag)?.ok_or_else(|| Error::DevicesNeeded(name.into()))?;
        Ok((tag, user))
    }

    /// Refuses the account's own user.
    ///
    /// # Errors
    /// [`Error::OwnIdentity`]
    pub(super) fn refuse_own(&self, user: &str) -> Result<(), Error> {
        if self.is_own(user) { Err(Error::OwnIdentity) } else { Ok(()) }
    }

    pub(super) fn put_user(&mut self, tag: Tag, user: &UserRecord) -> Result<(), Error> {
        if self.is_own(&user.name) {
            self.own = None;
        }
        // Chains of groups are given to the devices that are listed now.
        self.put(Table::Group, &changed_user(tag), &[])?;
        self.put(Table::User, &tag.0, &user.encode())
    }

    /// The account's own user. It is read once in a transaction.
    pub(super) fn own(&mut self) -> Result<Rc<OwnUser>, Error> {
        if let Some(own) = &self.own {
            return Ok(Rc::clone(own));
        }
        let tag = self.own_tag()?;
        let user = self.user(tag)?.ok_or(Error::BadState)?;
        let own = Rc::new(OwnUser { tag, user: Arc::new(user) });
        self.own = Some(Rc::clone(&own));
        Ok(own)
    }

    /// The account's own user, of whom this device must still be one.
    ///
    /// # Errors
    /// [`Error::Unlinked`]
    pub(super) fn linked(&mut self) -> Result<Rc<OwnUser>, Error> {
        let own = self.own()?;
        let listed = own.user.list.device_of(&self.account.identity);
        if listed.is_none_or(|listed| listed.device != self.account.device) {
            return Err(Error::Unlinked);
        }
        Ok(own)
    }

    /// What is known of a device. Where the store was restored from a copy since the record was
    /// written, its sessions are closed.
    pub(super) fn record(
        &mut self,
        place: Place,
        identity: &IdentityKey,
    ) -> Result<DeviceRecord, Error> {
        let row = self.get(Table::Device, &place.key())?;
        let mut record = match row {
            Some(row) => DeviceRecord::decode(&row)?,
            None => DeviceRecord::new(*identity, self.restorations),
        };
        if record.restorations != self.restorations {
            record.close_all();
            record.restorations = self.restorations;
        }
        Ok(record)
    }

    pub(super) fn put_record(&mut self, place: Place, record: &DeviceRecord) -> Result<(), Error> {
        self.put(Table::Device, &place.key(), &record.encode())
    }

    /// None where the row is not there or cannot be read: the session is lost then, and heals.
    pub(super) fn session(
        &mut self,
        place: Place,
        id: &SessionId,
    ) -> Result<Option<Session>, Error> {
        let key = self.session_key(place, id);
        let row = self.get_readable(Table::Session, &key)?;
        Ok(row.and_then(|row| Session::decode(&row).ok()).filter(|session| session.id() == *id))
    }

    pub(super) fn prefetch_sessions(&mut self, of: &[(Place, SessionId)]) -> Result<(), Error> {
        let keys: Vec<Vec<u8>> =
            of.iter().map(|(place, id)| self.session_key(*place, id)).collect();
        let rows: Vec<(Table, &[u8])> =
            keys.iter().map(|key| (Table::Session, key.as_slice())).collect();
        self.prefetch(&rows)
    }

    pub(super) fn put_session(&mut self, place: Place, session: &Session) -> Result<(), Error> {
        let key = self.session_key(place, &session.id());
        self.put(Table::Session, &key, &session.encode())
    }

    pub(super) fn delete_sessions(&mut self, place: Place, ids: &[SessionId]) -> Result<(), Error> {
        for id in ids {
            if let Some(session) = self.session(place, id)? {
                let began = self.handshake_key(session.ephemeral_key());
                if self.get(Table::Ticket, &began)?.is_some() {
                    self.delete(Table::Ticket, &began)?;
                }
            }
            let key = self.session_key(place, id);
            self.delete(Table::Session, &key)?;
        }
        Ok(())
    }

    // ---- The account's keys.

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

    /// The store proved to be restored from a copy: from now on every session is closed.
    pub(super) fn count_restoration(&mut self, now: UnixTime) -> Result<(), Error> {
        self.restorations = self.restorations.saturating_add(1);
        self.restored_at = Some(now);
        let row = Restorations { count: self.restorations, last: self.restored_at };
        self.put_as(Table::Account, RESTORATIONS, &row, 16)
    }

    /// Whether this device may have forgotten somebody who writes to it.
    pub(super) fn may_have_forgotten(&self, now: UnixTime) -> bool {
        self.restored_at.is_some_and(|at| now.apart(at) <= MAY_HAVE_FORGOTTEN)
    }
}

/// Shows whose it is.
impl core::fmt::Debug for Open<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Open").field("address", &self.account.address()).finish_non_exhaustive()
    }
}
