//! Rows of several tables in memory, each table in the order of its keys.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Bound;

use super::Table;

/// Rows with values of this type.
#[derive(Clone)]
pub(super) struct Tables<V> {
    tables: BTreeMap<Table, BTreeMap<Vec<u8>, V>>,
}

impl<V> Tables<V> {
    pub(super) const fn new() -> Self {
        Self { tables: BTreeMap::new() }
    }

    pub(super) fn get(&self, table: Table, key: &[u8]) -> Option<&V> {
        self.tables.get(&table)?.get(key)
    }

    pub(super) fn insert(&mut self, table: Table, key: Vec<u8>, value: V) {
        self.tables.entry(table).or_default().insert(key, value);
    }

    pub(super) fn remove(&mut self, table: Table, key: &[u8]) {
        if let Some(rows) = self.tables.get_mut(&table) {
            rows.remove(key);
        }
    }

    /// The rows of a table whose keys begin with `prefix`, in ascending order.
    pub(super) fn within<'a>(
        &'a self,
        table: Table,
        prefix: &'a [u8],
    ) -> impl Iterator<Item = (&'a Vec<u8>, &'a V)> {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let rows = self.tables.get(&table).into_iter();
        rows.flat_map(move |rows| rows.range::<[u8], _>(from))
            .take_while(move |(key, _)| key.starts_with(prefix))
    }

    pub(super) fn len(&self) -> usize {
        self.tables.values().map(BTreeMap::len).sum()
    }

    pub(super) fn clear(&mut self) {
        self.tables.clear();
    }

    /// All rows, table by table, each in the order of its keys.
    pub(super) fn into_rows(self) -> impl Iterator<Item = (Table, Vec<u8>, V)> {
        self.tables
            .into_iter()
            .flat_map(|(table, rows)| rows.into_iter().map(move |(key, value)| (table, key, value)))
    }
}

impl<V> Default for Tables<V> {
    fn default() -> Self {
        Self::new()
    }
}
