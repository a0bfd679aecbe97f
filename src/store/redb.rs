//! The embedded store: one file, by the crate redb.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::vec::Vec;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::Path;

use redb::backends::FileBackend;
use redb::{Database, ReadableTable, TableDefinition, WriteTransaction};

use super::{Row, Store, StoreFault, Table, Transaction, Value};
use crate::error::Error;

/// A store in one file: transactions are durable when they return, a crash at any moment leaves the last one that did.
/// Feature `redb`, on by default.
///
/// The file is locked while it is open, so that two processes cannot use one account by mistake; the second one gets
/// [`StoreFault::Locked`]. It is readable for its owner alone, and not encrypted: put a [`Vault`](super::Vault) on top. That also notices
/// every value that was damaged on the disk; redb by itself does not look, and may give another value or panic.
///
/// ```
/// use subrosa::store::{Redb, Store, Table};
/// use subrosa::Error;
///
/// # let folder = tempfile::tempdir().expect("a place for it");
/// # let path = folder.path().join("chat.redb");
/// let mut store = Redb::open(&path)?;
/// store.transact(|tx| tx.put(Table::Inbox, b"key", b"value"))?;
/// # Ok::<(), Error>(())
/// ```
pub struct Redb {
    database: Database,
}

impl Redb {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// [`Error::Store`]: [`StoreFault::Locked`], [`StoreFault::Corrupt`] (it is some other file), [`StoreFault::Io`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path).map_err(|error| io_fault(error.kind()))?;
        let file = FileBackend::new(file).map_err(|error| fault(error.into()))?;
        let mut builder = Database::builder();
        let opened = builder.set_cache_size(CACHE).create_with_backend(file);
        Ok(Self { database: opened.map_err(|error| fault(error.into()))? })
    }
}

/// Pages kept in memory, in bytes. Most of an account fits; a phone has more to do than to hold all of it.
const CACHE: usize = 16 << 20;

impl Store for Redb {
    fn transact<T, E: From<Error>>(
        &mut self,
        work: impl FnOnce(&mut dyn Transaction) -> Result<T, E>,
    ) -> Result<T, E> {
        let transaction = self.database.begin_write().map_err(|error| fault(error.into()))?;
        // Dropped without a commit, it changes nothing: on an error here or in `work`, and on a panic.
        let mut open = Open { transaction: &transaction, tables: BTreeMap::new(), changed: false };
        let done = work(&mut open)?;
        let changed = open.changed;
        drop(open);
        if changed {
            transaction.commit().map_err(|error| fault(error.into()))?;
        } else {
            transaction.abort().map_err(|error| fault(error.into()))?;
        }
        Ok(done)
    }
}

type Bytes = &'static [u8];

struct Open<'a> {
    transaction: &'a WriteTransaction,
    tables: BTreeMap<Table, redb::Table<'a, Bytes, Bytes>>,
    changed: bool,
}

impl<'a> Open<'a> {
    fn table(&mut self, table: Table) -> Result<&mut redb::Table<'a, Bytes, Bytes>, Error> {
        match self.tables.entry(table) {
            Entry::Occupied(open) => Ok(open.into_mut()),
            Entry::Vacant(closed) => {
                let definition: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new(table.name());
                let opened = self.transaction.open_table(definition);
                Ok(closed.insert(opened.map_err(|error| fault(error.into()))?))
            }
        }
    }
}

impl Transaction for Open<'_> {
    fn get(&mut self, table: Table, key: &[u8]) -> Result<Option<Value>, Error> {
        let found = self.table(table)?.get(key).map_err(|error| fault(error.into()))?;
        Ok(found.map(|value| Value::new(value.value().to_vec())))
    }

    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.changed = true;
        self.table(table)?.insert(key, value).map_err(|error| fault(error.into()))?;
        Ok(())
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), Error> {
        self.changed = true;
        self.table(table)?.remove(key).map_err(|error| fault(error.into()))?;
        Ok(())
    }

    fn scan(&mut self, table: Table, prefix: &[u8], most: usize) -> Result<Vec<Row>, Error> {
        let rows = self.table(table)?.range(prefix..).map_err(|error| fault(error.into()))?;
        let mut found = Vec::new();
        for row in rows.take(most) {
            let (key, value) = row.map_err(|error| fault(error.into()))?;
            if !key.value().starts_with(prefix) {
                break;
            }
            found.push((key.value().to_vec(), Value::new(value.value().to_vec())));
        }
        Ok(found)
    }
}

fn fault(error: redb::Error) -> Error {
    Error::Store(match error {
        redb::Error::DatabaseAlreadyOpen => StoreFault::Locked,
        redb::Error::Corrupted(_) | redb::Error::RepairAborted | redb::Error::UpgradeRequired(_) => {
            StoreFault::Corrupt
        }
        redb::Error::Io(error) => return io_fault(error.kind()),
        redb::Error::PreviousIo | redb::Error::DatabaseClosed => StoreFault::Io,
        _ => StoreFault::Other,
    })
}

const fn io_fault(kind: ErrorKind) -> Error {
    Error::Store(match kind {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => StoreFault::Full,
        ErrorKind::InvalidData | ErrorKind::UnexpectedEof => StoreFault::Corrupt,
        ErrorKind::WouldBlock => StoreFault::Locked,
        _ => StoreFault::Io,
    })
}

/// Shows nothing of what is in it.
impl core::fmt::Debug for Redb {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Redb")
    }
}
