//! A transaction over rows that were read before, for stores that answer later: a browser's, a database server.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use super::{Row, StoreFault, Table, Transaction, Value};
use crate::error::Error;

/// Runs an operation over rows that were read before, and gives back what it changes as a value.
///
/// Where the operation asks for what has not been read, [`Overlay::run`] says what is missing: read it, supply it, run the
/// operation again. Nothing that an unfinished run made leaves, so running again is safe. At the end commit the changes in one
/// transaction of the real store, **if what was read is still what is there** ([`Changes::relied_on`] says what to compare, where
/// the database does not); if it is not, begin again with a new overlay. So any number of workers share an account.
///
/// An operation of a client reads seven to ten rows, one run for each that is missing. Supply those that the last one relied on beforehand, with
/// one query, and it takes one or two. Each operation that changes something changes the account's row of counters, so that workers of one
/// account take turns: where there are many, a lock for each account saves them the repeating. What two of them take from the outbox at once is sent twice, which does no
/// harm: whoever receives it shows it once.
///
/// To keep it encrypted, unlock a [`VaultKey`](super::VaultKey), and work [`within`](super::VaultKey::within) it.
///
/// ```
/// use subrosa::store::{Overlay, Ran, Table};
/// use subrosa::Error;
///
/// // What stands for a database: in an app, `await` goes where this is called.
/// let read = |key: &[u8]| (key == b"counter").then(|| vec![41]);
///
/// let mut overlay = Overlay::new();
/// let (result, changes) = loop {
///     let ran = overlay.run(|tx| {
///         let counter = tx.get(Table::Account, b"counter")?.map_or(0, |value| value[0]);
///         tx.put(Table::Account, b"counter", &[counter + 1])
///     });
///     match ran {
///         Ran::Missing(missing) => {
///             let found = read(missing.key()).map(|value| (missing.key().to_vec(), value.into()));
///             overlay.supply(missing, found.into_iter().collect());
///         }
///         Ran::Done(result, changes) => break (result, changes),
///     }
/// };
/// // Compare `changes.relied_on()` with what is there now, and write `changes.writes()`, in one transaction. Then:
/// result?;
/// assert_eq!(changes.writes()[0].value.as_deref(), Some(&vec![42]));
/// # Ok::<(), Error>(())
/// ```
#[derive(Default)]
pub struct Overlay {
    read: BTreeMap<Missing, Vec<Row>>,
}

/// What an operation asked for that has not been read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Missing {
    /// The row of a key, if there is one.
    Row {
        /// Its table.
        table: Table,
        /// Its key.
        key: Vec<u8>,
    },
    /// The first rows, at most `most`, whose keys begin with `prefix`, in ascending order.
    Scan {
        /// Their table.
        table: Table,
        /// How their keys begin.
        prefix: Vec<u8>,
        /// How many at most. To some databases 0 means all: here it means none.
        most: usize,
    },
}

impl Missing {
    /// The table to read.
    #[must_use]
    pub const fn table(&self) -> Table {
        match self {
            Self::Row { table, .. } | Self::Scan { table, .. } => *table,
        }
    }

    /// The key to read, or what the keys begin with.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        match self {
            Self::Row { key, .. } => key,
            Self::Scan { prefix, .. } => prefix,
        }
    }
}

/// How a run of an operation ended.
#[derive(Debug)]
pub enum Ran<T, E> {
    /// With what it returned, and what to commit: nothing where that is an error. Rows that were read one after another may not belong
    /// together, so that what is returned, an error too, is right only where [`Changes::relied_on`] still is.
    Done(Result<T, E>, Changes),
    /// It asked for this, which has not been read.
    Missing(Missing),
}

/// What an operation changes, and what that rests on.
pub struct Changes {
    relied_on: Vec<(Missing, Vec<Row>)>,
    writes: Vec<Change>,
}

impl Changes {
    /// What was read, with what was found. The changes are right only where that is still what is there.
    #[must_use]
    pub fn relied_on(&self) -> &[(Missing, Vec<Row>)] {
        &self.relied_on
    }

    /// The rows to write, each once.
    #[must_use]
    pub fn writes(&self) -> &[Change] {
        &self.writes
    }
}

/// Shows how many reads and writes there are.
impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Changes({} reads, {} writes)", self.relied_on.len(), self.writes.len())
    }
}

/// One row to write.
pub struct Change {
    /// Its table.
    pub table: Table,
    /// Its key.
    pub key: Vec<u8>,
    /// Its new value; none where it is to be deleted.
    pub value: Option<Value>,
}

/// Shows where, not what.
impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.value.is_some() { "put" } else { "delete" };
        write!(f, "Change({what} in {})", self.table.name())
    }
}

impl Overlay {
    /// Nothing read yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { read: BTreeMap::new() }
    }

    /// What was read: the row, or none; the rows of a scan.
    pub fn supply(&mut self, missing: Missing, rows: Vec<Row>) {
        self.read.insert(missing, rows);
    }

    /// Runs an operation. It changes nothing anywhere.
    pub fn run<T, E>(&self, work: impl FnOnce(&mut dyn Transaction) -> Result<T, E>) -> Ran<T, E> {
        let mut over =
            Over { read: &self.read, used: BTreeMap::new(), changed: BTreeMap::new(), missing: None };
        let done = work(&mut over);
        if let Some(missing) = over.missing {
            return Ran::Missing(missing);
        }
        if done.is_err() {
            over.changed.clear();
        }
        let relied_on = over.used.into_iter().map(|(what, rows)| (what.clone(), rows.clone())).collect();
        let write = |((table, key), value)| Change { table, key, value };
        Ran::Done(done, Changes { relied_on, writes: over.changed.into_iter().map(write).collect() })
    }
}

/// Shows how much was read.
impl fmt::Debug for Overlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Overlay({} reads)", self.read.len())
    }
}

struct Over<'a> {
    read: &'a BTreeMap<Missing, Vec<Row>>,
    used: BTreeMap<&'a Missing, &'a Vec<Row>>,
    changed: BTreeMap<(Table, Vec<u8>), Option<Value>>,
    missing: Option<Missing>,
}

impl<'a> Over<'a> {
    fn rows(&mut self, wanted: Missing) -> Result<&'a [Row], Error> {
        match self.read.get_key_value(&wanted) {
            Some((what, rows)) => {
                self.used.insert(what, rows);
                Ok(rows)
            }
            None => {
                self.missing.get_or_insert(wanted);
                Err(Error::Store(StoreFault::Unread))
            }
        }
    }
}

impl Transaction for Over<'_> {
    fn get(&mut self, table: Table, key: &[u8]) -> Result<Option<Value>, Error> {
        if let Some(changed) = self.changed.get(&(table, key.to_vec())) {
            return Ok(changed.clone());
        }
        let rows = self.rows(Missing::Row { table, key: key.to_vec() })?;
        Ok(rows.first().map(|(_, value)| value.clone()))
    }

    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.changed.insert((table, key.to_vec()), Some(Value::new(value.to_vec())));
        Ok(())
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), Error> {
        self.changed.insert((table, key.to_vec()), None);
        Ok(())
    }

    fn scan(&mut self, table: Table, prefix: &[u8], most: usize) -> Result<Vec<Row>, Error> {
        let ours = self.changed.range((table, prefix.to_vec())..);
        let ours = ours.take_while(|((in_table, key), _)| *in_table == table && key.starts_with(prefix));
        let ours: BTreeMap<Vec<u8>, Option<Value>> =
            ours.map(|((_, key), value)| (key.clone(), value.clone())).collect();
        // Rows that were deleted here leave room for as many more.
        let deleted = ours.values().filter(|value| value.is_none()).count();
        let most_stored = most.saturating_add(deleted);
        let stored = self.rows(Missing::Scan { table, prefix: prefix.to_vec(), most: most_stored })?;
        let mut rows: BTreeMap<Vec<u8>, Option<Value>> =
            stored.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect();
        rows.extend(ours);
        let held = rows.into_iter().filter_map(|(key, value)| value.map(|value| (key, value)));
        Ok(held.take(most).collect())
    }
}
