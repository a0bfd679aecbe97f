//! A store that counts what is written to it.
#![allow(dead_code, reason = "each test crate uses a part of it")]

use std::cell::Cell;
use std::rc::Rc;

use subrosa::Error;
use subrosa::store::{Memory, Row, Store, Table, Transaction, Value};

/// What was done to a store.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) transactions: u64,
    /// Rows and bytes that were written.
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    /// Times that something was read.
    pub(crate) reads: u64,
}

/// Counts, for a store and those who ask what was done to it.
pub(crate) type Counter = Rc<Cell<Cost>>;

/// Memory that counts.
#[derive(Default)]
pub(crate) struct Counting {
    rows: Memory,
    pub(crate) counter: Counter,
}

impl Store for Counting {
    fn transact<T, E: From<Error>>(
        &mut self,
        work: impl FnOnce(&mut dyn Transaction) -> Result<T, E>,
    ) -> Result<T, E> {
        let counter = &self.counter;
        self.rows.transact(|tx| work(&mut Counted::begin(tx, counter)))
    }
}

/// A transaction that is counted.
pub(crate) struct Counted<'t> {
    tx: &'t mut dyn Transaction,
    counter: &'t Cell<Cost>,
}

impl<'t> Counted<'t> {
    pub(crate) fn begin(tx: &'t mut dyn Transaction, counter: &'t Cell<Cost>) -> Self {
        let cost = counter.get();
        counter.set(Cost { transactions: cost.transactions + 1, ..cost });
        Self { tx, counter }
    }
}

impl Transaction for Counted<'_> {
    fn get(&mut self, table: Table, key: &[u8]) -> Result<Option<Value>, Error> {
        let cost = self.counter.get();
        self.counter.set(Cost { reads: cost.reads + 1, ..cost });
        self.tx.get(table, key)
    }

    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), Error> {
        let cost = self.counter.get();
        let bytes = cost.bytes + (key.len() + value.len()) as u64;
        self.counter.set(Cost { rows: cost.rows + 1, bytes, ..cost });
        self.tx.put(table, key, value)
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), Error> {
        self.tx.delete(table, key)
    }

    fn scan(&mut self, table: Table, prefix: &[u8], most: usize) -> Result<Vec<Row>, Error> {
        self.tx.scan(table, prefix, most)
    }
}
