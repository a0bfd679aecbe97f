//! A store that fails at one operation, and what is expected of a client then.

use subrosa::store::{Memory, Row, Store, StoreFault, Table, Transaction, Value};
use subrosa::{Actions, Error, Policy};

pub(crate) const FAULT: Error = Error::Store(StoreFault::Io);

/// Memory, of which one operation fails: a get, a put, a delete, a scan, or the commit. Those after it go well, so that nothing is
/// saved by a store that stays broken.
#[derive(Clone, Default)]
pub(crate) struct Faulty {
    rows: Memory,
    fault: Fault,
}

#[derive(Clone, Default)]
struct Fault {
    /// So many operations go well before the one that fails.
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
                self.left = left.map(|left| left - 1);
                Ok(())
            }
        }
    }
}

/// All rows.
pub(crate) type Dump = Vec<(Table, Row)>;

impl Faulty {
    pub(crate) fn fail_after(&mut self, operations: usize) {
        self.fault = Fault { left: Some(operations), struck: false };
    }

    /// Whether an operation failed. None does from now on.
    pub(crate) fn mend(&mut self) -> bool {
        std::mem::take(&mut self.fault).struck
    }

    pub(crate) fn dump(&mut self) -> Dump {
        let dumped = self.rows.transact(|tx| {
            let mut all = Vec::new();
            for table in Table::ALL {
                all.extend(tx.scan(table, b"", usize::MAX)?.into_iter().map(|row| (table, row)));
            }
            Ok::<_, Error>(all)
        });
        dumped.unwrap()
    }
}

impl Store for Faulty {
    fn transact<T, E: From<Error>>(
        &mut self,
        work: impl FnOnce(&mut dyn Transaction) -> Result<T, E>,
    ) -> Result<T, E> {
        let Self { rows, fault } = self;
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
}

/// Does `work`, failing at its first operation, at its second, and so on, until it has no more of them. Each time the store's error is
/// what it returns, and the store is what it was. Returns what it returned at last, and how often it failed.
pub(crate) fn through_every_failure<T>(
    store: &mut Faulty,
    what: &str,
    mut work: impl FnMut(&mut Faulty) -> Result<T, Error>,
) -> (Result<T, Error>, usize) {
    let before = store.dump();
    for operations in 0.. {
        store.fail_after(operations);
        let done = work(store);
        if !store.mend() {
            return (done, operations);
        }
        assert_eq!(done.err(), Some(FAULT), "{what}, operation {operations}");
        assert!(store.dump() == before, "{what} left something when operation {operations} failed");
    }
    unreachable!("there are not that many operations")
}

/// As above, where the app takes no notice of the error and lets the transaction be committed: then it is refused, or nothing of the
/// intention is in it. The store is left alone.
pub(crate) fn though_nobody_notices<T>(
    store: &mut Faulty,
    policy: &Policy,
    what: &str,
    mut intention: impl FnMut(&mut Actions<'_>) -> Result<T, Error>,
) {
    let before = store.dump();
    let counted = counted(store.clone(), policy);
    for operations in 0.. {
        let mut trial = store.clone();
        trial.fail_after(operations);
        let mut swallowed = None;
        let done = trial.transact(|tx| {
            Actions::within(tx, policy, |actions| {
                swallowed = Some(intention(actions).err());
                Ok::<(), Error>(())
            })
        });
        if !trial.mend() {
            return;
        }
        let after = trial.dump();
        match done {
            Err(error) => {
                assert_eq!(error, FAULT, "{what}, operation {operations}");
                assert!(after == before, "{what} left something when operation {operations} failed");
            }
            Ok(()) => {
                assert_eq!(swallowed, Some(Some(FAULT)), "{what} hid that operation {operations} failed");
                let nothing = after == before || after == counted;
                assert!(nothing, "half of {what} was committed when operation {operations} failed");
            }
        }
    }
}

/// The rows after a transaction that changes nothing but the count of transactions.
fn counted(mut store: Faulty, policy: &Policy) -> Dump {
    let done = store.transact(|tx| Actions::within(tx, policy, |actions| actions.forget("nobody")));
    done.unwrap();
    store.dump()
}
