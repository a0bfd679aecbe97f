//! Where state is kept: rows in named tables, four verbs, and transactions that happen whole or not at all.
//!
//! | type | what |
//! | --- | --- |
//! | [`Store`] | something that can do a transaction; an app with a database of its own implements it |
//! | [`Memory`] | for tests and short-lived programs |
//! | [`Redb`] | the embedded default: one file, durable commits (feature `redb`) |
//! | [`Vault`] | any store, encrypted at rest under a passphrase or a key |
//! | [`Overlay`] | rows that were read before, changes as a value: for asynchronous stores |

use alloc::vec::Vec;

use zeroize::Zeroizing;

use crate::error::Error;

mod memory;
mod overlay;
#[cfg(feature = "redb")]
mod redb;
mod vault;

pub use crate::error::StoreFault;
pub use memory::Memory;
pub use overlay::{Change, Changes, Missing, Overlay, Ran};
#[cfg(feature = "redb")]
pub use redb::Redb;
pub use vault::{Argon2Cost, Lock, Vault, VaultKey};

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
    /// What was sent lately, to be sent again to a device that could not read it.
    Sent,
    /// Which envelopes were opened lately.
    Seen,
    /// What the app should fetch.
    Needed,
    /// How much of its allowance a sender has used up.
    Allowance,
    /// What a [`Vault`] is locked with.
    Vault,
    /// The app's own rows, which this crate never touches.
    App,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 12] = [
        Self::Account,
        Self::User,
        Self::Device,
        Self::Session,
        Self::Inbox,
        Self::Outbox,
        Self::Sent,
        Self::Seen,
        Self::Needed,
        Self::Allowance,
        Self::Vault,
        Self::App,
    ];

    /// A name for a database, in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::User => "user",
            Self::Device => "device",
            Self::Session => "session",
            Self::Inbox => "inbox",
            Self::Outbox => "outbox",
            Self::Sent => "sent",
            Self::Seen => "seen",
            Self::Needed => "needed",
            Self::Allowance => "allowance",
            Self::Vault => "vault",
            Self::App => "app",
        }
    }
}

/// A value, wiped when dropped: many are secret.
pub type Value = Zeroizing<Vec<u8>>;

/// A key and its value.
pub type Row = (Vec<u8>, Value);

/// One transaction: sees all that was committed before and its own changes, and nothing of any other.
///
/// Keys are at most 128 bytes, values at most 2 MiB. Implement it on your database's own transaction, and an app's rows are
/// committed together with this crate's.
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

    /// The first rows whose keys begin with `prefix`, at most `most`, by their keys' bytes in ascending order.
    ///
    /// # Errors
    /// [`Error::Store`]
    fn scan(&mut self, table: Table, prefix: &[u8], most: usize) -> Result<Vec<Row>, Error>;
}

/// Something that can do a transaction.
pub trait Store {
    /// Does `work` in a transaction of its own: commits durably on `Ok`, and changes nothing on `Err` or where it panics.
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
