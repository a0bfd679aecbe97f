//! What a transaction changed, over rows as they were: what is put or deleted here stands for what
//! is stored.

use alloc::vec::Vec;

use super::tables::Tables;
use super::{Row, Table, Value, check_limits};
use crate::error::Error;

/// The changes of a transaction. A row that was deleted has no value.
#[derive(Default)]
pub(super) struct Staged {
    changed: Tables<Option<Value>>,
}

impl Staged {
    pub(super) const fn new() -> Self {
        Self { changed: Tables::new() }
    }

    /// The row's change, if there is one: its new value, or none where it was deleted.
    pub(super) fn get(&self, table: Table, key: &[u8]) -> Option<&Option<Value>> {
        self.changed.get(table, key)
    }

    pub(super) fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), Error> {
        check_limits(key, value)?;
        self.changed.insert(table, key.to_vec(), Some(Value::new(value.to_vec())));
        Ok(())
    }

    pub(super) fn delete(&mut self, table: Table, key: &[u8]) {
        self.changed.insert(table, key.to_vec(), None);
    }

    /// Rows of this prefix that were deleted. As many more stored ones have to be read to fill a
    /// scan.
    pub(super) fn deleted(&self, table: Table, prefix: &[u8]) -> usize {
        self.changed.within(table, prefix).filter(|(_, value)| value.is_none()).count()
    }

    /// The first rows of a prefix, at most `most`: these changes over the stored rows of the
    /// prefix, which come in ascending order.
    pub(super) fn merge<'a>(
        &self,
        table: Table,
        prefix: &[u8],
        most: usize,
        stored: impl Iterator<Item = (&'a Vec<u8>, &'a Value)>,
    ) -> Vec<Row> {
        let (mut stored, mut changed) =
            (stored.peekable(), self.changed.within(table, prefix).peekable());
        let mut found = Vec::new();
        // Both are in order: the smaller key is next, and a changed row stands for the stored one.
        while found.len() < most {
            let from_stored = match (stored.peek(), changed.peek()) {
                (None, None) => break,
                (Some(stored), Some(changed)) => stored.0 < changed.0,
                (stored, _) => stored.is_some(),
            };
            if from_stored {
                found.extend(stored.next().map(|(key, value)| (key.clone(), value.clone())));
            } else if let Some((key, value)) = changed.next() {
                stored.next_if(|row| row.0 == key);
                found.extend(value.clone().map(|value| (key.clone(), value)));
            }
        }
        found
    }

    pub(super) fn clear(&mut self) {
        self.changed.clear();
    }

    pub(super) fn into_changes(self) -> impl Iterator<Item = (Table, Vec<u8>, Option<Value>)> {
        self.changed.into_rows()
    }
}
