//! Where state is kept: rows in named tables, four verbs, and transactions that happen whole or not
//! at all.
//!
//! | type | what |
//! | --- | --- |
//! | [`Store`] | something that can do a transaction; an app with a database of its own implements it |
//! | [`Memory`] | for tests and short-lived programs |
//! | [`Redb`] | the embedded default: one file, durable commits (feature `redb`) |
//! | [`Vault`] | any store, encrypted at rest under passphrases, keys and recovery codes |
//! | [`Overlay`] | rows that were read before, changes as a value: for asynchronous stores |
//! | [`conformance`] | whether a store keeps the rules: for who implements one |

use alloc::vec::Vec;

use zeroize::Zeroizing;

use crate::error::Error;

pub mod conformance;
mod lock_row;
mod memory;
mod overlay;
#[cfg(feature = "redb")]
mod redb;
mod rotation;
mod sealed;
mod staged;
mod tables;
mod vault;

pub use crate::error::{StoreError, StoreFault};
pub use crate::lock::{Argon2Cost, Lock, LockKind, Passphrase, RecoveryCode};
pub use lock_row::{ListedLock, LockId};
pub use memory::Memory;
pub use overlay::{Change, Changes, Missing, Overlay, Ran};
#[cfg(feature = "redb")]
pub use redb::Redb;
pub use rotation::Rotation;
pub use vault::{Vault, VaultKey};

/// The tables of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Table {
    /// The account: a handful of rows.
    Account,
    /// One row for each user known, by a tag of the name.
    User,
    /// One row for each device of a user: which sessions there are.
    Device,
    /// One row for each session.
    Session,
    /// Messages received that the app has not taken yet, the oldest first.
    Inbox,
    /// Envelopes made that the app has not sent yet, the oldest first.
    Outbox,
    /// Messages sent lately, which a device that could not read one may ask for again.
    Log,
    /// Retry requests that this device made.
    Request,
    /// Texts that wait to be encrypted, the oldest first.
    Draft,
    /// What the network should do next: how often it was tried, and when it is due.
    Task,
    /// One row for each prekey whose secret is still needed.
    Prekey,
    /// Which envelopes were opened lately.
    Seen,
    /// How much of its allowance a sender has used up.
    Allowance,
    /// Sealed mail: tickets that were given and got, and whom they stand for.
    Ticket,
    /// What is known of groups: rosters, chains, and what waits for whom.
    Group,
    /// What a [`Vault`] is locked with.
    Vault,
    /// The app's own rows, which this crate never touches.
    App,
}

impl Table {
    /// Every table. Later versions may have more.
    pub const ALL: &'static [Self] = &[
        Self::Account,
        Self::User,
        Self::Device,
        Self::Session,
        Self::Inbox,
        Self::Outbox,
        Self::Log,
        Self::Request,
        Self::Draft,
        Self::Task,
        Self::Prekey,
        Self::Seen,
        Self::Allowance,
        Self::Ticket,
        Self::Group,
        Self::Vault,
        Self::App,
    ];

    /// A name for a database: lower-case ASCII letters, at most 16. Names are stable: no later
    /// version gives a table another name, or a name to another table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::User => "user",
            Self::Device => "device",
            Self::Session => "session",
            Self::Inbox => "inbox",
            Self::Outbox => "outbox",
            Self::Log => "log",
            Self::Request => "request",
            Self::Draft => "draft",
            Self::Task => "task",
            Self::Prekey => "prekey",
            Self::Seen => "seen",
            Self::Allowance => "allowance",
            Self::Ticket => "ticket",
            Self::Group => "group",
            Self::Vault => "vault",
            Self::App => "app",
        }
    }
}

/// A value, wiped when dropped: many are secret.
pub type Value = Zeroizing<Vec<u8>>;

/// A key and its value.
pub type Row = (Vec<u8>, Value);

/// The longest key, in bytes.
pub const MAX_KEY: usize = 128;

/// The longest value, in bytes: 2 MiB. What a [`Vault`] adds is on top.
pub const MAX_VALUE: usize = 2 << 20;

/// What a [`Vault`] adds to a value at most, in bytes.
pub const VAULT_OVERHEAD: usize = 64;

/// Refuses a row that is longer than a store takes: a key beyond [`MAX_KEY`], a value beyond
/// [`MAX_VALUE`] and [`VAULT_OVERHEAD`]. The first line of every [`Transaction::put`].
///
/// # Errors
/// [`StoreFault::TooLarge`]
pub fn check_limits(key: &[u8], value: &[u8]) -> Result<(), Error> {
    if key.len() > MAX_KEY || value.len() > MAX_VALUE.saturating_add(VAULT_OVERHEAD) {
        return Err(StoreFault::TooLarge.into());
    }
    Ok(())
}

/// One transaction: sees all that was committed before and its own changes, and nothing of any
/// other.
///
/// Implement it on your database's own transaction, and an app's rows are committed together with
/// this crate's. Run [`conformance::check`] on it; these are the rules:
///
/// - **Bytes.** Keys, prefixes and values are any bytes, and may be empty. A row with an empty
///   value is there. Keys are ordered by their bytes as unsigned numbers.
/// - **Limits.** Keys have at most 128 bytes, values at most 2 MiB, and 64 bytes more where a
///   [`Vault`] adds them. A store refuses what is longer ([`check_limits`]), so that what works on
///   one works on all.
/// - **Names.** [`Table::name`] is stable, and so it may name a table or a column of the database.
/// - **Failures.** Where an operation fails, and not for a row that is too long, nothing of the
///   transaction is committed, even if the work goes on after the error. Some databases end the
///   transaction by themselves then, and commit alone what comes after (SQLite, where the disk is
///   full).
/// - **Isolation.** Transactions are serializable: the result is that of some order of them, one
///   after another. A store that one process holds alone has that for nothing. Where several
///   processes share one, take the database's write lock at the beginning (SQLite: `BEGIN
///   IMMEDIATE`), or its level SERIALIZABLE, and repeat what it refuses. Anything weaker uses
///   message keys twice. [`conformance`] has a check for a store that is shared.
pub trait Transaction {
    /// The value of a row.
    ///
    /// # Errors
    /// [`Error::Store`]
    fn get(&mut self, table: Table, key: &[u8]) -> Result<Option<Value>, Error>;

    /// Writes a row, in place of the one that has the key.
    ///
    /// # Errors
    /// [`Error::Store`]
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), Error>;

    /// Removes a row, if there is one.
    ///
    /// # Errors
    /// [`Error::Store`]
    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), Error>;

    /// The first rows whose keys begin with `prefix`, at most `most`, by their keys' bytes in
    /// ascending order.
    ///
    /// # Errors
    /// [`Error::Store`]
    fn scan(&mut self, table: Table, prefix: &[u8], most: usize) -> Result<Vec<Row>, Error>;

    /// As [`scan`](Self::scan), to look for rows that the work then gets one by one: it does not
    /// rely on finding all of them, nor on their values. A store that compares afterwards what was
    /// read leaves this out, so that a row that somebody adds meanwhile is no conflict.
    ///
    /// The default scans. A store that wraps another forwards the call.
    ///
    /// # Errors
    /// [`Error::Store`]
    fn peek(&mut self, table: Table, prefix: &[u8], most: usize) -> Result<Vec<Row>, Error> {
        self.scan(table, prefix, most)
    }

    /// Announces rows that [`get`](Self::get) is about to ask for. It reads nothing and changes
    /// nothing.
    ///
    /// A store that has all rows at hand ignores this, as the default does. One that fetches rows
    /// from afar fetches these with one query. A store that wraps another forwards the call.
    ///
    /// # Errors
    /// [`Error::Store`]
    fn prefetch(&mut self, rows: &[(Table, &[u8])]) -> Result<(), Error> {
        let _ = rows;
        Ok(())
    }
}

/// Something that can do a transaction.
///
/// **Commits are durable**: what returned `Ok` survives a crash and a loss of power. An envelope
/// leaves the device after the commit that made it; a store that forgets the commit makes the next
/// message with the same key, and forgets messages that the server was told to delete. So SQLite in
/// WAL mode takes `PRAGMA synchronous = FULL`: with NORMAL it loses the last commits when the power
/// goes.
pub trait Store {
    /// Does `work` in a transaction of its own: commits durably on `Ok`, and changes nothing on
    /// `Err` or where it panics.
    ///
    /// # Errors
    /// Those of `work`; [`Error::Store`] where the commit fails, and then nothing changed.
    fn transact<T, E: From<Error>>(
        &mut self,
        work: impl FnOnce(&mut dyn Transaction) -> Result<T, E>,
    ) -> Result<T, E>;
}

impl<S: Store> Store for &mut S {
    fn transact<T, E: From<Error>>(
        &mut self,
        work: impl FnOnce(&mut dyn Transaction) -> Result<T, E>,
    ) -> Result<T, E> {
        (**self).transact(work)
    }
}
