//! The app's own rows, committed together with the client's.

use alloc::vec::Vec;

use super::Client;
use super::transaction::Open;
use crate::error::Error;
use crate::store::{Row, Table, Transaction, Value};

/// The app's own rows in a transaction: see [`Client::rows`].
pub struct Rows<'a> {
    tx: &'a mut dyn Transaction,
}

impl<'t> Client<Open<'t>> {
    /// The app's own rows, in [`Table::App`]: what is changed there is committed with the rest.
    ///
    /// ```
    /// # use subrosa::{Client, Error, Item, SystemRng, UnixTime, store::Memory};
    /// # let (now, rng) = (UnixTime::now()?, &mut SystemRng);
    /// # let mut client = Client::create(Memory::new(), "alice", now, rng)?;
    /// // From the inbox into the app's history: a text is in one of them, whatever happens.
    /// client.transact(|client| {
    ///     for incoming in client.inbox(100)? {
    ///         let line = match &incoming.item {
    ///             Item::Text(text) => text.text.to_vec(),
    ///             Item::Late(text) => [b"late: ", &text.text[..]].concat(),
    ///             Item::Group(text) => [b"group: ", &text.text.text[..]].concat(),
    ///             other => format!("{other:?}").into_bytes(),
    ///         };
    ///         client.rows().put(incoming.id.as_bytes(), &line)?;
    ///         client.acknowledge(incoming.id)?;
    ///     }
    ///     Ok::<(), Error>(())
    /// })?;
    /// # Ok::<(), Error>(())
    /// ```
    pub fn rows(&mut self) -> Rows<'_> {
        Rows { tx: self.scope.app_rows() }
    }
}

impl<'a> Rows<'a> {
    #[cfg(feature = "std")]
    pub(super) fn over(tx: &'a mut dyn Transaction) -> Self {
        Self { tx }
    }
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
