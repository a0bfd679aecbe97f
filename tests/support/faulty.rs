//! A store that fails at one operation.
#![allow(dead_code, reason = "each test crate uses a part of it")]

use std::cell::RefCell;
use std::rc::Rc;

use subrosa::Error;
use subrosa::store::{Memory, Row, Store, StoreError, StoreFault, Table, Transaction, Value};

pub(crate) const FAULT: Error = Error::Store(StoreError::new(StoreFault::Io));

/// Memory, of which one operation fails: a get, a put, a delete, a scan, or the commit. Those after
/// it go well, so that nothing is saved by a store that stays broken.
///
/// A clone is another handle to the same rows: the test keeps one, and the client has one.
#[derive(Clone, Default)]
pub(crate) struct Faulty(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    rows: Memory,
    fault: Fault,
}

#[derive(Default)]
struct Fault {
    /// How many operations go well before the one that fails.
    left: Option<usize>,
    struck: bool,
}

impl Fault {
    fn pass(&mut self) -> Result<(), Error> {
        match self.left {
            Some(0) => {
                *self = Self { left: None, struck: true };
                Err(FAULT)
            }
            left => {
                self.left = left.map(|left| left.saturating_sub(1));
                Ok(())
            }
        }
    }
}

/// All rows.
pub(crate) type Dump = Vec<(Table, Row)>;

impl Faulty {
    /// Over these rows.
    pub(crate) fn over(rows: Memory) -> Self {
        Self(Rc::new(RefCell::new(State { rows, fault: Fault::default() })))
    }

    /// A copy of the rows, which fails when it is told to.
    pub(crate) fn fork(&self) -> Self {
        Self::over(self.0.borrow().rows.clone())
    }

    pub(crate) fn fail_after(&self, operations: usize) {
        self.0.borrow_mut().fault = Fault { left: Some(operations), struck: false };
    }

    /// Whether an operation failed. None does from now on.
    pub(crate) fn mend(&self) -> bool {
        std::mem::take(&mut self.0.borrow_mut().fault).struck
    }

    pub(crate) fn dump(&self) -> Dump {
        dump(&mut self.0.borrow_mut().rows)
    }
}

/// All rows of a store.
pub(crate) fn dump(store: &mut impl Store) -> Dump {
    let dumped = store.transact(|tx| {
        let mut all = Vec::new();
        for &table in Table::ALL {
            all.extend(tx.scan(table, b"", usize::MAX)?.into_iter().map(|row| (table, row)));
        }
        Ok::<_, Error>(all)
    });
    dumped.unwrap()
}

impl Store for Faulty {
    fn transact<T, E: From<Error>>(
        &mut self,
        work: impl FnOnce(&mut dyn Transaction) -> Result<T, E>,
    ) -> Result<T, E> {
        let State { rows, fault } = &mut *self.0.borrow_mut();
        rows.transact(|tx| {
            let done = work(&mut Failing { tx, fault })?;
            // The commit.
            fault.pass()?;
            Ok(done)
        })
    }
}

struct Failing<'a> {
    tx: &'a mut dyn Transaction,
    fault: &'a mut Fault,
}

impl Transaction for Failing<'_> {
    fn get(&mut self, table: Table, key: &[u8]) -> Result<Option<Value>, Error> {
        self.fault.pass()?;
        self.tx.get(table, key)
    }

    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.fault.pass()?;
        self.tx.put(table, key, value)
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), Error> {
        self.fault.pass()?;
        self.tx.delete(table, key)
    }

    fn scan(&mut self, table: Table, prefix: &[u8], most: usize) -> Result<Vec<Row>, Error> {
        self.fault.pass()?;
        self.tx.scan(table, prefix, most)
    }

    fn peek(&mut self, table: Table, prefix: &[u8], most: usize) -> Result<Vec<Row>, Error> {
        self.fault.pass()?;
        self.tx.peek(table, prefix, most)
    }

    fn prefetch(&mut self, rows: &[(Table, &[u8])]) -> Result<(), Error> {
        self.fault.pass()?;
        self.tx.prefetch(rows)
    }
}

/// Does `work`, failing at its first operation, at its second, and so on, until it has no more of
/// them. Each time the store's error is what it returns, and the store is what it was. Returns what
/// it returned at last, and how often it failed.
pub(crate) fn through_every_failure<T>(
    store: &Faulty,
    what: &str,
    mut work: impl FnMut() -> Result<T, Error>,
) -> (Result<T, Error>, usize) {
    let before = store.dump();
    for operations in 0.. {
        store.fail_after(operations);
        let done = work();
        if !store.mend() {
            return (done, operations);
        }
        assert_eq!(done.err(), Some(FAULT), "{what}, operation {operations}");
        assert!(store.dump() == before, "{what} left something when operation {operations} failed");
    }
    unreachable!("there are not that many operations")
}

/// As above, in copies of the store, by an app that takes no notice of the error and lets the
/// transaction be committed: then the commit is refused, or nothing of the intention is in it.
pub(crate) fn though_nobody_notices(
    store: &Faulty,
    what: &str,
    mut transact: impl FnMut(&mut Faulty, &mut Option<Error>) -> Result<(), Error>,
) {
    let before = store.dump();
    for operations in 0.. {
        let mut trial = store.fork();
        trial.fail_after(operations);
        let mut swallowed = None;
        let done = transact(&mut trial, &mut swallowed);
        if !trial.mend() {
            return;
        }
        assert!(trial.dump() == before, "half of {what} was committed, operation {operations}");
        match done {
            Err(error) => assert_eq!(error, FAULT, "{what}, operation {operations}"),
            Ok(()) => {
                assert_eq!(swallowed, Some(FAULT), "{what} hid that operation {operations} failed")
            }
        }
    }
}
