//! A store in memory.

use alloc::vec::Vec;

use super::staged::Staged;
use super::tables::Tables;
use super::{Row, Store, Table, Transaction, Value};
use crate::error::Error;

/// A store in memory, for tests and short-lived programs: gone when dropped, and wiped then. A
/// clone is a backup; an account must not go on in both.
///
/// ```
/// use subrosa::store::{Memory, Store, Table};
/// use subrosa::Error;
///
/// let mut store = Memory::new();
/// store.transact(|tx| tx.put(Table::Inbox, b"key", b"value"))?;
/// let value = store.transact(|tx| tx.get(Table::Inbox, b"key"))?;
/// assert_eq!(value.as_deref().map(Vec::as_slice), Some(&b"value"[..]));
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Memory {
    rows: Tables<Value>,
}

impl Memory {
    /// An empty store.
    #[must_use]
    pub const fn new() -> Self {
        Self { rows: Tables::new() }
    }
}

impl Store for Memory {
    fn transact<T, E: From<Error>>(
        &mut self,
        work: impl FnOnce(&mut dyn Transaction) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut open = Open { rows: &self.rows, staged: Staged::new() };
        let done = work(&mut open)?;
        for (table, key, value) in open.staged.into_changes() {
            match value {
                Some(value) => self.rows.insert(table, key, value),
                None => self.rows.remove(table, &key),
            }
        }
        Ok(done)
    }
}

struct Open<'a> {
    rows: &'a Tables<Value>,
    staged: Staged,
}

impl Transaction for Open<'_> {
    fn get(&mut self, table: Table, key: &[u8]) -> Result<Option<Value>, Error> {
        Ok(match self.staged.get(table, key) {
            Some(changed) => changed.clone(),
            None => self.rows.get(table, key).cloned(),
        })
    }

    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.staged.put(table, key, value)
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), Error> {
        self.staged.delete(table, key);
        Ok(())
    }

    fn scan(&mut self, table: Table, prefix: &[u8], most: usize) -> Result<Vec<Row>, Error> {
        Ok(self.staged.merge(table, prefix, most, self.rows.within(table, prefix)))
    }
}

/// Shows how many rows there are.
impl core::fmt::Debug for Memory {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Memory({} rows)", self.rows.len())
    }
}
