//! A store in memory.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{Row, Store, Table, Transaction, Value};
use crate::error::Error;

/// A store in memory, for tests and short-lived programs: gone when dropped, and wiped then. A clone is a backup; an account must not go on in
/// both.
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
    rows: BTreeMap<(Table, Vec<u8>), Value>,
}

impl Memory {
    /// An empty store.
    #[must_use]
    pub const fn new() -> Self {
        Self { rows: BTreeMap::new() }
    }
}

impl Store for Memory {
    fn transact<T, E: From<Error>>(
        &mut self,
        work: impl FnOnce(&mut dyn Transaction) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut staged = Staged { rows: &self.rows, changed: BTreeMap::new() };
        let done = work(&mut staged)?;
        for (key, value) in staged.changed {
            match value {
                Some(value) => drop(self.rows.insert(key, value)),
                None => drop(self.rows.remove(&key)),
            }
        }
        Ok(done)
    }
}

/// What a transaction changed, over the rows as they were.
struct Staged<'a> {
    rows: &'a BTreeMap<(Table, Vec<u8>), Value>,
    changed: BTreeMap<(Table, Vec<u8>), Option<Value>>,
}

impl Transaction for Staged<'_> {
    fn get(&mut self, table: Table, key: &[u8]) -> Result<Option<Value>, Error> {
        let key = (table, key.to_vec());
        match self.changed.get(&key) {
            Some(changed) => Ok(changed.clone()),
            None => Ok(self.rows.get(&key).cloned()),
        }
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
        let from = (table, prefix.to_vec());
        let begins = |key: &(Table, Vec<u8>)| key.0 == table && key.1.starts_with(prefix);
        let mut stored = self.rows.range(from.clone()..).take_while(|row| begins(row.0)).peekable();
        let mut changed = self.changed.range(from..).take_while(|row| begins(row.0)).peekable();
        let mut found = Vec::new();
        // Both are in order: the smaller key is next, and a changed row stands for the stored one.
        while found.len() < most {
            let from_stored = match (stored.peek(), changed.peek()) {
                (None, None) => break,
                (Some(stored), Some(changed)) => stored.0 < changed.0,
                (stored, _) => stored.is_some(),
            };
            if from_stored {
                found.extend(stored.next().map(|(key, value)| (key.1.clone(), value.clone())));
            } else if let Some((key, value)) = changed.next() {
                stored.next_if(|row| row.0 == key);
                found.extend(value.clone().map(|value| (key.1.clone(), value)));
            }
        }
        Ok(found)
    }
}

/// Shows how many rows there are.
impl core::fmt::Debug for Memory {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Memory({} rows)", self.rows.len())
    }
}
