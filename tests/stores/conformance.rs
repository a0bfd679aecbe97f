//! Our stores keep the rules, and a store that breaks one of them is told which.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use subrosa::Error;
use subrosa::store::conformance::{Failure, Rule, check, check_durable, check_shared};
use subrosa::store::{
    Change, Lock, Memory, Overlay, Ran, Redb, Row, Store, StoreFault, Table, Transaction, Value,
    Vault,
};

use crate::network::Seeded;
use crate::{cheap, read};

const LOCK: Lock<'_> = Lock::Key(&[3; 32]);

fn vault<S: Store>(store: S) -> Vault<S> {
    Vault::open_with(store, LOCK, cheap(), &mut Seeded::new(1, "conformance")).unwrap()
}

/// A file each time.
fn files(folder: &tempfile::TempDir) -> impl FnMut() -> Redb {
    let mut names = 0..;
    move || Redb::open(folder.path().join(names.next().unwrap().to_string())).unwrap()
}

#[test]
fn our_stores_keep_the_rules() {
    let folder = tempfile::tempdir().unwrap();
    let mut new_file = files(&folder);
    assert_eq!(check(Memory::new), Ok(()));
    assert_eq!(check(&mut new_file), Ok(()));
    assert_eq!(check(|| vault(Memory::new())), Ok(()));
    assert_eq!(check(|| vault(new_file())), Ok(()));
    assert_eq!(check(Overlaid::default), Ok(()));
    assert_eq!(check(|| vault(Overlaid::default())), Ok(()));
}

#[test]
fn our_files_are_durable() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name| folder.path().join(name);
    assert_eq!(check_durable(|| Redb::open(path("plain")).unwrap()), Ok(()));
    assert_eq!(check_durable(|| vault(Redb::open(path("vault")).unwrap())), Ok(()));
}

/// Rows in memory, reached through an overlay. As the work of a store's transaction can be done
/// once only, what it did before is done again with each thing that it does.
#[derive(Default)]
struct Overlaid(Memory);

struct Replayed<'a> {
    memory: &'a mut Memory,
    overlay: Overlay,
    done: Vec<Change>,
}

impl Replayed<'_> {
    fn run<T>(
        &mut self,
        mut last: impl FnMut(&mut dyn Transaction) -> Result<T, Error>,
    ) -> Result<(T, Vec<Change>), Error> {
        loop {
            let done = &self.done;
            let ran = self.overlay.run(|tx| {
                for change in done {
                    match &change.value {
                        Some(value) => tx.put(change.table, &change.key, value)?,
                        None => tx.delete(change.table, &change.key)?,
                    }
                }
                last(tx)
            });
            match ran {
                Ran::Done(done, changes) => return done.map(|done| (done, changes.into_writes())),
                Ran::Missing(missing) => {
                    for missing in missing {
                        let rows = self.memory.transact(|tx| read(tx, &missing))?;
                        self.overlay.supply(missing, rows);
                    }
                }
            }
        }
    }

    fn change(&mut self, table: Table, key: &[u8], value: Option<&[u8]>) -> Result<(), Error> {
        self.run(|tx| match value {
            Some(value) => tx.put(table, key, value),
            None => tx.delete(table, key),
        })?;
        let value = value.map(|value| Value::new(value.to_vec()));
        self.done.push(Change { table, key: key.to_vec(), value });
        Ok(())
    }
}

impl Store for Overlaid {
    fn transact<T, E: From<Error>>(
        &mut self,
        work: impl FnOnce(&mut dyn Transaction) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut replayed =
            Replayed { memory: &mut self.0, overlay: Overlay::new(), done: Vec::new() };
        let done = work(&mut replayed)?;
        let (_, writes) = replayed.run(|_| Ok(()))?;
        self.0.transact(|tx| {
            for change in writes {
                match change.value {
                    Some(value) => tx.put(change.table, &change.key, &value)?,
                    None => tx.delete(change.table, &change.key)?,
                }
            }
            Ok(())
        })?;
        Ok(done)
    }
}

impl Transaction for Replayed<'_> {
    fn get(&mut self, table: Table, key: &[u8]) -> Result<Option<Value>, Error> {
        self.run(|tx| tx.get(table, key)).map(|done| done.0)
    }

    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.change(table, key, Some(value))
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), Error> {
        self.change(table, key, None)
    }

    fn scan(&mut self, table: Table, prefix: &[u8], most: usize) -> Result<Vec<Row>, Error> {
        self.run(|tx| tx.scan(table, prefix, most)).map(|done| done.0)
    }

    fn peek(&mut self, table: Table, prefix: &[u8], most: usize) -> Result<Vec<Row>, Error> {
        self.run(|tx| tx.peek(table, prefix, most)).map(|done| done.0)
    }

    fn prefetch(&mut self, rows: &[(Table, &[u8])]) -> Result<(), Error> {
        self.run(|tx| tx.prefetch(rows)).map(|done| done.0)
    }
}

/// What is wrong with a store.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Plant {
    LosesReplacedValues,
    DeletingNothingIsAnError,
    ReadsWhatWasCommitted,
    DescendingOrder,
    SignedBytes,
    PrefixOf0xffIsOneKey,
    PrefixIsAMinimum,
    NoneMeansAll,
    OneTooMany,
    ScansWhatWasCommitted,
    DeletedRowsCount,
    EmptyValuesAreNone,
    EmptyKeysAreLost,
    KeysAreCut,
    ValuesAreCut,
    NoRoomForAVault,
    NoLimits,
    TwoTablesAreOne,
    NoAppTable,
    PrefetchWrites,
    PrefetchHidesWrites,
    PrefetchHidesCommits,
    LooksFindNothing,
    LooksFindAll,
    CaseDoesNotMatter,
    SpacesAreCut,
    PrefixIsAPattern,
    AThousandRowsAtMost,
    ThreeMegabytesAtMost,
    CommitsOnError,
    HidesTheError,
    CommitsOnPanic,
    CatchesPanics,
}

struct Broken {
    rows: Memory,
    plant: Plant,
    announced: BTreeMap<(Table, Vec<u8>), Option<Value>>,
}

struct Bad<'a> {
    tx: &'a mut dyn Transaction,
    committed: Memory,
    plant: Plant,
    /// What was announced, as it was then.
    announced: &'a mut BTreeMap<(Table, Vec<u8>), Option<Value>>,
    /// What is put out of the transaction, for [`Plant::CommitsOnPanic`].
    escaped: &'a mut BTreeMap<(Table, Vec<u8>), Option<Vec<u8>>>,
}

impl Store for Broken {
    fn transact<T, E: From<Error>>(
        &mut self,
        work: impl FnOnce(&mut dyn Transaction) -> Result<T, E>,
    ) -> Result<T, E> {
        use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

        let Self { rows, plant, announced } = self;
        if *plant != Plant::PrefetchHidesCommits {
            announced.clear();
        }
        let (committed, mut escaped) = (rows.clone(), BTreeMap::new());
        let done = catch_unwind(AssertUnwindSafe(|| {
            rows.transact(|tx| {
                let (plant, escaped) = (*plant, &mut escaped);
                work(&mut Bad { tx, committed, plant, announced, escaped })
            })
        }));
        let escapes = match &done {
            Ok(Ok(_)) => false,
            Ok(Err(_)) => *plant == Plant::CommitsOnError,
            Err(_) => *plant == Plant::CommitsOnPanic,
        };
        if escapes {
            rows.transact(|tx| {
                escaped.into_iter().try_for_each(|((table, key), value)| match value {
                    Some(value) => tx.put(table, &key, &value),
                    None => tx.delete(table, &key),
                })
            })?;
        }
        match done {
            Ok(Err(_)) if *plant == Plant::HidesTheError => {
                Err(Error::from(StoreFault::Other).into())
            }
            Ok(done) => done,
            Err(_) if *plant == Plant::CatchesPanics => Err(Error::from(StoreFault::Other).into()),
            Err(panic) => resume_unwind(panic),
        }
    }
}

impl Bad<'_> {
    fn row(&self, table: Table, key: &[u8]) -> (Table, Vec<u8>) {
        let table = match self.plant {
            Plant::TwoTablesAreOne if table == Table::Task => Table::Draft,
            _ => table,
        };
        let key = match self.plant {
            Plant::KeysAreCut => key[..key.len().min(127)].to_vec(),
            Plant::CaseDoesNotMatter => key.to_ascii_lowercase(),
            Plant::SpacesAreCut => key.trim_ascii_end().to_vec(),
            _ => key.to_vec(),
        };
        (table, key)
    }
}

impl Transaction for Bad<'_> {
    fn get(&mut self, table: Table, key: &[u8]) -> Result<Option<Value>, Error> {
        let (table, key) = self.row(table, key);
        if self.plant == Plant::ReadsWhatWasCommitted {
            return self.committed.transact(|tx| tx.get(table, &key));
        }
        let hides = matches!(self.plant, Plant::PrefetchHidesWrites | Plant::PrefetchHidesCommits);
        if let Some(announced) = self.announced.get(&(table, key.clone())).filter(|_| hides) {
            return Ok(announced.clone());
        }
        self.tx.get(table, &key)
    }

    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), Error> {
        let (table, key) = self.row(table, key);
        let mut value = value.to_vec();
        match self.plant {
            Plant::LosesReplacedValues if self.tx.get(table, &key)?.is_some() => return Ok(()),
            Plant::EmptyValuesAreNone if value.is_empty() => return self.tx.delete(table, &key),
            Plant::EmptyKeysAreLost if key.is_empty() => return Ok(()),
            Plant::NoAppTable if table == Table::App => return Ok(()),
            Plant::ValuesAreCut => value.truncate((2 << 20) - 1),
            Plant::NoRoomForAVault if value.len() > 2 << 20 => {
                return Err(StoreFault::TooLarge.into());
            }
            Plant::NoLimits if key.len() > 128 || value.len() > 2 << 20 => {
                value.truncate((2 << 20) + 64);
                return self.tx.put(table, &key[..key.len().min(128)], &value);
            }
            _ => {}
        }
        self.tx.put(table, &key, &value)?;
        self.escaped.insert((table, key), Some(value));
        Ok(())
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), Error> {
        let (table, key) = self.row(table, key);
        if self.plant == Plant::DeletingNothingIsAnError && self.tx.get(table, &key)?.is_none() {
            return Err(StoreFault::Other.into());
        }
        self.tx.delete(table, &key)?;
        self.escaped.insert((table, key), None);
        Ok(())
    }

    fn scan(&mut self, table: Table, prefix: &[u8], most: usize) -> Result<Vec<Row>, Error> {
        let (table, prefix) = self.row(table, prefix);
        match self.plant {
            Plant::ScansWhatWasCommitted => {
                self.committed.transact(|tx| tx.scan(table, &prefix, most))
            }
            Plant::DescendingOrder => {
                let mut rows = self.tx.scan(table, &prefix, usize::MAX)?;
                rows.reverse();
                rows.truncate(most);
                Ok(rows)
            }
            Plant::SignedBytes => {
                let mut rows = self.tx.scan(table, &prefix, usize::MAX)?;
                let signed =
                    |key: &[u8]| key.iter().map(|byte| byte.cast_signed()).collect::<Vec<_>>();
                rows.sort_by_key(|(key, _)| signed(key));
                rows.truncate(most);
                Ok(rows)
            }
            Plant::PrefixOf0xffIsOneKey if prefix == [0xff] => {
                let value = self.tx.get(table, &prefix)?;
                Ok(value.map(|value| (prefix, value)).into_iter().take(most).collect())
            }
            Plant::PrefixIsAMinimum => {
                let rows = self.tx.scan(table, &[], usize::MAX)?.into_iter();
                Ok(rows.filter(|(key, _)| *key >= prefix).take(most).collect())
            }
            Plant::PrefixIsAPattern => {
                let fits = |key: &[u8]| {
                    let mut pairs = prefix.iter().zip(key);
                    key.len() >= prefix.len() && pairs.all(|(of, byte)| of == byte || *of == b'_')
                };
                let rows = self.tx.scan(table, &[], usize::MAX)?.into_iter();
                Ok(rows.filter(|(key, _)| fits(key)).take(most).collect())
            }
            Plant::AThousandRowsAtMost => self.tx.scan(table, &prefix, most.min(1_000)),
            Plant::ThreeMegabytesAtMost => {
                let mut bytes = 0;
                let rows = self.tx.scan(table, &prefix, most)?.into_iter();
                let fits = |(_, value): &Row| {
                    bytes += value.len();
                    bytes <= 3 << 20
                };
                Ok(rows.take_while(fits).collect())
            }
            Plant::NoneMeansAll if most == 0 => self.tx.scan(table, &prefix, usize::MAX),
            Plant::OneTooMany => self.tx.scan(table, &prefix, most.saturating_add(1)),
            Plant::DeletedRowsCount => {
                let mut before = self.committed.transact(|tx| tx.scan(table, &prefix, most))?;
                let now = self.tx.scan(table, &prefix, usize::MAX)?;
                let deleted =
                    before.extract_if(.., |row| !now.iter().any(|other| other.0 == row.0)).count();
                Ok(now.into_iter().take(most.saturating_sub(deleted)).collect())
            }
            _ => self.tx.scan(table, &prefix, most),
        }
    }

    fn peek(&mut self, table: Table, prefix: &[u8], most: usize) -> Result<Vec<Row>, Error> {
        match self.plant {
            Plant::LooksFindNothing => Ok(Vec::new()),
            Plant::LooksFindAll => self.tx.scan(table, &[], most),
            _ => self.scan(table, prefix, most),
        }
    }

    fn prefetch(&mut self, rows: &[(Table, &[u8])]) -> Result<(), Error> {
        for (table, key) in rows {
            let value = self.tx.get(*table, key)?;
            self.announced.insert((*table, key.to_vec()), value);
        }
        if self.plant == Plant::PrefetchWrites {
            for (table, key) in rows {
                if self.tx.get(*table, key)?.is_none() {
                    self.tx.put(*table, key, b"")?;
                }
            }
        }
        self.tx.prefetch(rows)
    }
}

#[test]
fn a_store_that_breaks_a_rule_is_told_which() {
    use Plant as P;

    for (plant, rule) in [
        (P::LosesReplacedValues, Rule::Rows),
        (P::DeletingNothingIsAnError, Rule::Rows),
        (P::ReadsWhatWasCommitted, Rule::OwnWrites),
        (P::DescendingOrder, Rule::Order),
        (P::SignedBytes, Rule::Order),
        (P::PrefixOf0xffIsOneKey, Rule::Prefix),
        (P::PrefixIsAMinimum, Rule::Prefix),
        (P::NoneMeansAll, Rule::Most),
        (P::OneTooMany, Rule::Most),
        (P::ScansWhatWasCommitted, Rule::Merge),
        (P::DeletedRowsCount, Rule::Merge),
        (P::EmptyValuesAreNone, Rule::Empty),
        (P::EmptyKeysAreLost, Rule::Empty),
        (P::KeysAreCut, Rule::Long),
        (P::ValuesAreCut, Rule::Long),
        (P::NoRoomForAVault, Rule::Long),
        (P::NoLimits, Rule::Limits),
        (P::TwoTablesAreOne, Rule::Tables),
        (P::NoAppTable, Rule::Tables),
        (P::PrefetchWrites, Rule::Prefetch),
        (P::PrefetchHidesWrites, Rule::Prefetch),
        (P::PrefetchHidesCommits, Rule::Prefetch),
        (P::LooksFindNothing, Rule::Peek),
        (P::LooksFindAll, Rule::Peek),
        (P::CaseDoesNotMatter, Rule::Rows),
        (P::SpacesAreCut, Rule::Rows),
        (P::PrefixIsAPattern, Rule::Prefix),
        (P::AThousandRowsAtMost, Rule::Most),
        (P::ThreeMegabytesAtMost, Rule::Long),
        (P::CommitsOnError, Rule::Error),
        (P::HidesTheError, Rule::Error),
        (P::CommitsOnPanic, Rule::Panic),
        (P::CatchesPanics, Rule::Panic),
    ] {
        let found = check(|| Broken { rows: Memory::new(), plant, announced: BTreeMap::new() });
        let failure: Failure = found.expect_err(&format!("{plant:?}"));
        println!("{plant:?}: {failure}");
        assert_eq!(failure.rule, rule, "{plant:?}: {failure}");
        assert!(failure.to_string().len() < 1_000, "{failure}");
    }
}

/// What is forgotten on the way to the disk.
#[derive(Clone, Copy, Debug)]
enum Forgets {
    Nothing,
    Everything,
    KeysThatAreNoText,
    EmptyKeys,
    ATable,
    WhatReplaces,
    Deletions,
}

type Disk = Rc<RefCell<Vec<Change>>>;

/// Rows in memory, with what was committed on a disk.
struct Saved {
    rows: Memory,
    disk: Disk,
    forgets: Forgets,
}

impl Saved {
    fn open(disk: &Disk, forgets: Forgets) -> Self {
        let mut rows = Memory::new();
        let read = rows.transact(|tx| {
            disk.borrow().iter().try_for_each(|Change { table, key, value }| match value {
                Some(value) => tx.put(*table, key, value),
                None => tx.delete(*table, key),
            })
        });
        read.unwrap();
        Self { rows, disk: Rc::clone(disk), forgets }
    }
}

struct Logged<'a> {
    tx: &'a mut dyn Transaction,
    log: Vec<Change>,
    forgets: Forgets,
}

impl Logged<'_> {
    fn log(&mut self, table: Table, key: &[u8], value: Option<&[u8]>) -> Result<(), Error> {
        let is_forgotten = match self.forgets {
            Forgets::Nothing => false,
            Forgets::Everything => true,
            Forgets::KeysThatAreNoText => std::str::from_utf8(key).is_err(),
            Forgets::EmptyKeys => key.is_empty(),
            Forgets::ATable => table == Table::Ticket,
            Forgets::WhatReplaces => self.tx.get(table, key)?.is_some() && value.is_some(),
            Forgets::Deletions => value.is_none(),
        };
        if !is_forgotten {
            let value = value.map(|value| Value::new(value.to_vec()));
            self.log.push(Change { table, key: key.to_vec(), value });
        }
        Ok(())
    }
}

impl Store for Saved {
    fn transact<T, E: From<Error>>(
        &mut self,
        work: impl FnOnce(&mut dyn Transaction) -> Result<T, E>,
    ) -> Result<T, E> {
        let (disk, forgets) = (&self.disk, self.forgets);
        self.rows.transact(|tx| {
            let mut logged = Logged { tx, log: Vec::new(), forgets };
            let done = work(&mut logged)?;
            disk.borrow_mut().append(&mut logged.log);
            Ok(done)
        })
    }
}

impl Transaction for Logged<'_> {
    fn get(&mut self, table: Table, key: &[u8]) -> Result<Option<Value>, Error> {
        self.tx.get(table, key)
    }

    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.log(table, key, Some(value))?;
        self.tx.put(table, key, value)
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), Error> {
        self.log(table, key, None)?;
        self.tx.delete(table, key)
    }

    fn scan(&mut self, table: Table, prefix: &[u8], most: usize) -> Result<Vec<Row>, Error> {
        self.tx.scan(table, prefix, most)
    }
}

#[test]
fn a_store_that_forgets_something_of_its_commits_is_told_so() {
    use Forgets as F;

    let partly = [F::KeysThatAreNoText, F::EmptyKeys, F::ATable, F::WhatReplaces, F::Deletions];
    for forgets in [F::Everything].into_iter().chain(partly) {
        let disk = Disk::default();
        let found = check_durable(|| Saved::open(&disk, forgets));
        let failure = found.expect_err(&format!("{forgets:?}"));
        assert_eq!(failure.rule, Rule::Durable, "{forgets:?}");
    }
}

#[test]
fn a_store_that_forgets_its_commits_is_told_so() {
    let failure = check_durable(Memory::new).unwrap_err();
    assert_eq!(failure.rule, Rule::Durable);
    assert!(failure.to_string().contains("opened again"), "{failure}");
}

/// How rows are shared.
#[derive(Clone, Copy, Debug)]
enum Sharing {
    /// One transaction after the other.
    Serial,
    /// Each reads what was there when it began, and the last one that writes a row counts.
    Snapshots,
    /// As before, but a row that another one wrote meanwhile is refused.
    SnapshotsThatCompareWrites,
}

/// Rows that several threads have.
struct Shared {
    rows: Arc<Mutex<Memory>>,
    sharing: Sharing,
}

impl Store for Shared {
    fn transact<T, E: From<Error>>(
        &mut self,
        work: impl FnOnce(&mut dyn Transaction) -> Result<T, E>,
    ) -> Result<T, E> {
        if let Sharing::Serial = self.sharing {
            return self.rows.lock().unwrap().transact(work);
        }
        let mut snapshot = self.rows.lock().unwrap().clone();
        let mut before = snapshot.clone();
        let (done, log) = snapshot.transact(|tx| {
            let mut logged = Logged { tx, log: Vec::new(), forgets: Forgets::Nothing };
            work(&mut logged).map(|done| (done, logged.log))
        })?;
        let mut rows = self.rows.lock().unwrap();
        for Change { table, key, value } in log {
            let now = rows.transact(|tx| tx.get(table, &key))?;
            let was = before.transact(|tx| tx.get(table, &key))?;
            if matches!(self.sharing, Sharing::SnapshotsThatCompareWrites) && now != was {
                return Err(Error::from(StoreFault::Locked).into());
            }
            rows.transact(|tx| match value {
                Some(value) => tx.put(table, &key, &value),
                None => tx.delete(table, &key),
            })?;
        }
        Ok(done)
    }
}

/// One thread has the file, and the other one panics: the first does not wait for it.
#[test]
fn a_store_that_is_for_one_alone_ends_the_check() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chat");
    let checked = std::panic::catch_unwind(|| check_shared(|| Redb::open(&path).unwrap()));
    assert!(checked.is_err());
}

#[test]
fn a_store_whose_transactions_come_between_each_other_is_told_so() {
    for (sharing, is_right) in [
        (Sharing::Serial, true),
        (Sharing::Snapshots, false),
        (Sharing::SnapshotsThatCompareWrites, false),
    ] {
        let rows = Arc::default();
        let found = check_shared(|| Shared { rows: Arc::clone(&rows), sharing });
        assert_eq!(found.is_ok(), is_right, "{sharing:?}: {found:?}");
        assert!(found.err().is_none_or(|failure| failure.rule == Rule::Isolated));
    }
}
