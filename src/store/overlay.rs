//! A transaction over rows that were read before, for stores that answer later: a browser's, a
//! database server.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::fmt;

use super::staged::Staged;
use super::{Row, StoreFault, Table, Transaction, Value};
use crate::error::Error;

/// Runs an operation over rows that were read before, and gives back what it changes as a value.
///
/// Where the operation asks for what has not been read, [`Overlay::run`] says what is missing: read
/// it, supply it, run the operation again. Nothing that an unfinished run made leaves, so running
/// again is safe. At the end commit the changes in one transaction of the real store, **if what was
/// read is still what is there** ([`Changes::relied_on`] says what to compare, where the database
/// does not); if it is not, begin again with a new overlay. So any number of workers share an
/// account.
///
/// An operation announces the rows that it is about to read ([`Transaction::prefetch`]), and all of
/// them are missing at once, so that one query fetches them. Supply beforehand what the last
/// operation relied on, fresh or as it was then, and this one takes fewer runs still.
///
/// No row is written by every operation. Two workers of one account are in each other's way only
/// where they work for the same peer at the same time, or take the same tasks: what one of them
/// relied on has changed then, and it begins again. What an operation only looks through for
/// something to do ([`Transaction::peek`]) is not among what it relied on, and may be old.
///
/// To keep it encrypted, unlock a [`VaultKey`](super::VaultKey), and work
/// [`within`](super::VaultKey::within) it.
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
///             for row in missing {
///                 let found = read(row.key()).map(|value| (row.key().to_vec(), value.into()));
///                 overlay.supply(row, found.into_iter().collect());
///             }
///         }
///         Ran::Done(result, changes) => break (result, changes),
///     }
/// };
/// // Compare `changes.relied_on()` with what is there now, and write `changes.writes()`, in one
/// // transaction. Then:
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
    /// As a scan, of rows that the operation does not rely on: an older reading will do.
    Peek {
        /// Their table.
        table: Table,
        /// How their keys begin.
        prefix: Vec<u8>,
        /// How many at most.
        most: usize,
    },
}

impl Missing {
    /// The table to read.
    #[must_use]
    pub const fn table(&self) -> Table {
        match self {
            Self::Row { table, .. } | Self::Scan { table, .. } | Self::Peek { table, .. } => *table,
        }
    }

    /// The key to read, or what the keys begin with.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        match self {
            Self::Row { key, .. } => key,
            Self::Scan { prefix, .. } | Self::Peek { prefix, .. } => prefix,
        }
    }

    /// How many rows to read at most.
    #[must_use]
    pub const fn most(&self) -> usize {
        match self {
            Self::Row { .. } => 1,
            Self::Scan { most, .. } | Self::Peek { most, .. } => *most,
        }
    }
}

/// How a run of an operation ended.
#[derive(Debug)]
pub enum Ran<T, E> {
    /// With what it returned, and what to commit: nothing where that is an error. Rows that were
    /// read one after another may not belong together, so that what is returned, an error too, is
    /// right only where [`Changes::relied_on`] still is.
    Done(Result<T, E>, Changes),
    /// It asked for these, which have not been read: at least one, each once, in ascending order.
    Missing(Vec<Missing>),
}

/// What an operation changes, and what that rests on.
pub struct Changes {
    relied_on: Vec<(Missing, Vec<Row>)>,
    writes: Vec<Change>,
}

impl Changes {
    /// What was read, with what was found. The changes are right only where that is still what is
    /// there.
    #[must_use]
    pub fn relied_on(&self) -> &[(Missing, Vec<Row>)] {
        &self.relied_on
    }

    /// The rows to write, each once.
    #[must_use]
    pub fn writes(&self) -> &[Change] {
        &self.writes
    }

    /// The rows to write, each once.
    #[must_use]
    pub fn into_writes(self) -> Vec<Change> {
        self.writes
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
    pub fn supply(&mut self, missing: Missing, mut rows: Vec<Row>) {
        rows.sort_by(|one, other| one.0.cmp(&other.0));
        self.read.insert(missing, rows);
    }

    /// As [`Overlay::supply`], for all that one query found.
    pub fn supply_all(&mut self, read: impl IntoIterator<Item = (Missing, Vec<Row>)>) {
        read.into_iter().for_each(|(missing, rows)| self.supply(missing, rows));
    }

    /// An operation's changes were committed: what it relied on, and what it wrote, is now as it
    /// left it. So one overlay serves for the next operation as well, which then reads only what is
    /// new to it.
    ///
    /// What nobody will ask for again stays until [`Overlay::retain`].
    pub fn committed(&mut self, changes: &Changes) {
        for (what, rows) in &changes.relied_on {
            if matches!(what, Missing::Row { .. }) {
                self.supply(what.clone(), rows.clone());
            }
        }
        for Change { table, key, value } in &changes.writes {
            let rows = value.iter().map(|value| (key.clone(), value.clone())).collect();
            self.supply(Missing::Row { table: *table, key: key.clone() }, rows);
        }
        self.forget_scans();
    }

    /// What an operation relied on is not there any more: it is read anew.
    pub fn refused(&mut self, changes: &Changes) {
        for (what, _) in &changes.relied_on {
            self.read.remove(what);
        }
        // A row that it relied on may have been found by any of them.
        self.forget_scans();
        self.retain(|what| !matches!(what, Missing::Peek { .. }));
    }

    /// Which rows a prefix has may be another matter by now, those of scans that ended in nothing
    /// to commit too.
    fn forget_scans(&mut self) {
        self.retain(|what| !matches!(what, Missing::Scan { .. }));
    }

    /// Forgets what was read but for what `keep` says: to look anew ([`Missing::Peek`]), or to make
    /// room.
    pub fn retain(&mut self, mut keep: impl FnMut(&Missing) -> bool) {
        self.read.retain(|what, _| keep(what));
    }

    /// Runs an operation. It changes nothing anywhere.
    pub fn run<T, E>(&self, work: impl FnOnce(&mut dyn Transaction) -> Result<T, E>) -> Ran<T, E> {
        let mut over = Over {
            read: &self.read,
            used: BTreeMap::new(),
            staged: Staged::new(),
            missing: BTreeSet::new(),
        };
        let done = work(&mut over);
        if !over.missing.is_empty() {
            return Ran::Missing(over.missing.into_iter().collect());
        }
        if done.is_err() {
            over.staged.clear();
        }
        let relied_on = over.used.into_iter().collect();
        let write = |(table, key, value)| Change { table, key, value };
        Ran::Done(
            done,
            Changes { relied_on, writes: over.staged.into_changes().map(write).collect() },
        )
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
    used: BTreeMap<Missing, Vec<Row>>,
    staged: Staged,
    /// What the first read, or the first announcement, that could not be answered asked for. What
    /// comes after it may come of work that went on without an answer.
    missing: BTreeSet<Missing>,
}

impl<'a> Over<'a> {
    /// What was read, if it was; what is missing otherwise.
    fn rows(&mut self, wanted: &Missing) -> Result<&'a [Row], Error> {
        if let Some(rows) = self.read.get(wanted) {
            return Ok(rows);
        }
        if self.missing.is_empty() {
            self.missing.insert(wanted.clone());
        }
        Err(Error::from(StoreFault::Unread))
    }

    fn rely_on(&mut self, what: Missing, rows: &[Row]) {
        self.used.entry(what).or_insert_with(|| rows.to_vec());
    }

    /// A row among those that a scan found, or a look that is not relied on otherwise.
    fn scanned(&self, table: Table, key: &[u8]) -> Option<&'a Row> {
        let first = Missing::Scan { table, prefix: Vec::new(), most: 0 };
        let scans = self.read.range(first..);
        let scans = scans.filter(|(what, _)| what.table() == table && key.starts_with(what.key()));
        scans.into_iter().find_map(|(_, rows)| {
            let at = rows.binary_search_by(|(found, _)| found.as_slice().cmp(key)).ok()?;
            rows.get(at)
        })
    }

    fn is_known(&self, row: &Missing) -> bool {
        self.read.contains_key(row) || self.scanned(row.table(), row.key()).is_some()
    }

    /// What a look read: this one, or any that read as much of the prefix.
    fn peeked(&self, table: Table, prefix: &[u8], most: usize) -> Option<&'a [Row]> {
        let first = Missing::Peek { table, prefix: prefix.to_vec(), most: 0 };
        let looks = self.read.range(first..);
        let looks = looks.take_while(|(what, _)| what.table() == table && what.key() == prefix);
        let enough = |what: &Missing, rows: &[Row]| what.most() >= most || rows.len() < what.most();
        looks.into_iter().find(|(what, rows)| enough(what, rows)).map(|(_, rows)| rows.as_slice())
    }

    fn merge(&self, table: Table, prefix: &[u8], most: usize, stored: &[Row]) -> Vec<Row> {
        self.staged.merge(table, prefix, most, stored.iter().map(|(key, value)| (key, value)))
    }

    /// Rows of the prefix that were deleted here leave room for as many more.
    fn most_stored(&self, table: Table, prefix: &[u8], most: usize) -> usize {
        most.saturating_add(self.staged.deleted(table, prefix))
    }
}

impl Transaction for Over<'_> {
    fn get(&mut self, table: Table, key: &[u8]) -> Result<Option<Value>, Error> {
        if let Some(changed) = self.staged.get(table, key) {
            return Ok(changed.clone());
        }
        let row = Missing::Row { table, key: key.to_vec() };
        let rows = match (self.read.get(&row), self.scanned(table, key)) {
            (None, Some(row)) => core::slice::from_ref(row),
            _ => self.rows(&row)?,
        };
        self.rely_on(row, rows);
        Ok(rows.first().map(|(_, value)| value.clone()))
    }

    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.staged.put(table, key, value)
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), Error> {
        self.staged.delete(table, key);
        Ok(())
    }

    fn scan(&mut self, table: Table, prefix: &[u8], most: usize) -> Result<Vec<Row>, Error> {
        let most_stored = self.most_stored(table, prefix, most);
        let wanted = Missing::Scan { table, prefix: prefix.to_vec(), most: most_stored };
        let stored = self.rows(&wanted)?;
        self.rely_on(wanted, stored);
        Ok(self.merge(table, prefix, most, stored))
    }

    fn peek(&mut self, table: Table, prefix: &[u8], most: usize) -> Result<Vec<Row>, Error> {
        let most_stored = self.most_stored(table, prefix, most);
        let stored = match self.peeked(table, prefix, most_stored) {
            Some(stored) => stored,
            None => {
                self.rows(&Missing::Peek { table, prefix: prefix.to_vec(), most: most_stored })?
            }
        };
        Ok(self.merge(table, prefix, most, stored))
    }

    fn prefetch(&mut self, rows: &[(Table, &[u8])]) -> Result<(), Error> {
        let stored = rows.iter().filter(|(table, key)| self.staged.get(*table, key).is_none());
        let wanted = stored.map(|(table, key)| Missing::Row { table: *table, key: key.to_vec() });
        let unread: BTreeSet<Missing> = wanted.filter(|row| !self.is_known(row)).collect();
        if unread.is_empty() {
            return Ok(());
        }
        if self.missing.is_empty() {
            self.missing = unread;
        }
        Err(Error::from(StoreFault::Unread))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn peek(prefix: &[u8], most: usize) -> Missing {
        Missing::Peek { table: Table::Outbox, prefix: prefix.to_vec(), most }
    }

    fn row(key: &[u8]) -> Missing {
        Missing::Row { table: Table::Outbox, key: key.to_vec() }
    }

    fn stored(keys: &[&[u8]]) -> Vec<Row> {
        keys.iter().map(|key| (key.to_vec(), Value::new(key.to_vec()))).collect()
    }

    /// What a work relies on, once `overlay` has what it looks at.
    fn relied_on(
        overlay: &Overlay,
        work: impl FnOnce(&mut dyn Transaction) -> Result<(), Error>,
    ) -> Vec<(Missing, Vec<Row>)> {
        let Ran::Done(Ok(()), changes) = overlay.run(work) else { panic!("something is missing") };
        changes.relied_on().to_vec()
    }

    #[test]
    fn a_look_is_not_relied_on_and_the_rows_that_are_got_are() {
        let mut overlay = Overlay::new();
        let work = |tx: &mut dyn Transaction| {
            assert_eq!(tx.peek(Table::Outbox, b"a", 9)?, stored(&[b"a1", b"a2"]));
            assert_eq!(tx.get(Table::Outbox, b"a2")?.as_deref(), Some(&b"a2".to_vec()));
            tx.prefetch(&[(Table::Outbox, b"a1")])
        };
        let Ran::Missing(missing) = overlay.run(work) else { panic!("nothing was read") };
        assert_eq!(missing, [peek(b"a", 9)]);
        overlay.supply(peek(b"a", 9), stored(&[b"a1", b"a2"]));
        // The row is among those that were looked at: it takes no other query.
        assert_eq!(relied_on(&overlay, work), [(row(b"a2"), stored(&[b"a2"]))]);
    }

    #[test]
    fn an_overlay_that_is_kept_has_what_was_committed_and_not_what_was_refused() {
        let mut overlay = Overlay::new();
        let scan = Missing::Scan { table: Table::Outbox, prefix: b"s".to_vec(), most: 9 };
        for key in [b"a", b"b", b"c"] {
            overlay.supply(row(key), stored(&[key]));
        }
        overlay.supply(scan.clone(), stored(&[b"s"]));
        let work = |tx: &mut dyn Transaction| {
            for key in [b"a", b"b", b"c"] {
                tx.get(Table::Outbox, key)?;
            }
            tx.scan(Table::Outbox, b"s", 9)?;
            tx.put(Table::Outbox, b"a", b"new")?;
            tx.delete(Table::Outbox, b"b")
        };
        let Ran::Done::<_, Error>(Ok(()), changes) = overlay.run(work) else {
            panic!("all was read")
        };
        overlay.committed(&changes);
        let look = |tx: &mut dyn Transaction| {
            let keys = [b"a", b"b", b"c"];
            keys.into_iter()
                .map(|key| tx.get(Table::Outbox, key))
                .collect::<Result<Vec<_>, Error>>()
        };
        let Ran::Done(Ok(rows), changes) = overlay.run(look) else { panic!("it forgot something") };
        let values = [Some(b"new".to_vec()), None, Some(b"c".to_vec())];
        assert_eq!(rows, values.map(|value| value.map(Value::new)));
        // Which rows a prefix has was changed perhaps.
        let Ran::Missing::<_, Error>(missing) = overlay.run(|tx| tx.scan(Table::Outbox, b"s", 9))
        else {
            panic!("it was kept")
        };
        assert_eq!(missing, [scan]);
        overlay.refused(&changes);
        let Ran::Missing(missing) = overlay.run(look) else { panic!("it was kept") };
        assert_eq!(missing, [row(b"a")]);
    }

    /// What stands for a database, and another worker that wrote after the first reading.
    fn read_anew(overlay: &mut Overlay, missing: Vec<Missing>) {
        for what in missing {
            overlay.supply(what, Vec::from([(b"p1".to_vec(), Value::new(b"new".to_vec()))]));
        }
    }

    #[test]
    fn what_a_scan_found_that_was_for_nothing_is_read_anew_once_it_was_refused() {
        let mut overlay = Overlay::new();
        let scan = Missing::Scan { table: Table::Outbox, prefix: b"p".to_vec(), most: 9 };
        // An operation that had nothing to commit.
        overlay.supply(scan, stored(&[b"p1"]));
        let work = |tx: &mut dyn Transaction| tx.get(Table::Outbox, b"p1");
        let Ran::Done::<_, Error>(Ok(Some(old)), changes) = overlay.run(work) else {
            panic!("the scan found it")
        };
        assert_eq!(*old, b"p1");
        overlay.refused(&changes);
        let Ran::Missing(missing) = overlay.run(work) else { panic!("it is as it was") };
        assert_eq!(missing, [row(b"p1")]);
        read_anew(&mut overlay, missing);
        let Ran::Done(Ok(Some(value)), _) = overlay.run(work) else { panic!("it was read") };
        assert_eq!(*value, b"new");
    }

    #[test]
    fn what_was_written_without_a_look_is_known_once_it_is_committed() {
        let mut overlay = Overlay::new();
        overlay.supply(row(b"a"), stored(&[b"a"]));
        overlay.supply(row(b"b"), stored(&[b"b"]));
        let scan = Missing::Scan { table: Table::Outbox, prefix: b"".to_vec(), most: 9 };
        overlay.supply(scan.clone(), stored(&[b"a", b"b"]));
        let write = |tx: &mut dyn Transaction| {
            tx.put(Table::Outbox, b"a", b"new")?;
            tx.delete(Table::Outbox, b"b")?;
            tx.put(Table::Outbox, b"c", b"new")
        };
        let Ran::Done::<_, Error>(Ok(()), changes) = overlay.run(write) else {
            panic!("it reads nothing")
        };
        overlay.committed(&changes);
        for (key, value) in
            [(b"a", Some(b"new".to_vec())), (b"b", None), (b"c", Some(b"new".into()))]
        {
            let ran = overlay.run(|tx| tx.get(Table::Outbox, key));
            let Ran::Done::<_, Error>(Ok(found), _) = ran else { panic!("it was written here") };
            assert_eq!(found, value.map(Value::new));
        }
        let ran = overlay.run(|tx| tx.scan(Table::Outbox, b"", 9));
        let Ran::Missing::<_, Error>(missing) = ran else { panic!("it is another by now") };
        assert_eq!(missing, [scan]);
    }

    #[test]
    fn an_own_reading_of_a_row_counts_before_what_a_look_found() {
        let mut overlay = Overlay::new();
        overlay.supply(peek(b"", 9), stored(&[b"a"]));
        overlay.supply(row(b"a"), Vec::new());
        let relied_on = relied_on(&overlay, |tx| {
            assert_eq!(tx.get(Table::Outbox, b"a")?, None);
            Ok(())
        });
        assert_eq!(relied_on, [(row(b"a"), Vec::new())]);
    }

    #[test]
    fn a_look_that_read_as_much_serves_for_another() {
        let mut overlay = Overlay::new();
        overlay.supply(peek(b"", 3), stored(&[b"a", b"b", b"c"]));
        let look = |overlay: &Overlay, most: usize| {
            overlay.run(|tx| tx.peek(Table::Outbox, b"", most).map(|rows| rows.len()))
        };
        assert!(matches!(look(&overlay, 2), Ran::Done::<_, Error>(Ok(2), _)));
        let Ran::Missing(missing) = look(&overlay, 4) else { panic!("there may be more") };
        assert_eq!(missing, [peek(b"", 4)]);
        // All there are.
        overlay.supply(peek(b"", 9), stored(&[b"a", b"b", b"c"]));
        assert!(matches!(look(&overlay, 100), Ran::Done::<_, Error>(Ok(3), _)));
        let deleted = overlay.run(|tx| {
            tx.delete(Table::Outbox, b"a")?;
            tx.put(Table::Outbox, b"d", b"d")?;
            tx.peek(Table::Outbox, b"", 100)
        });
        let Ran::Done::<_, Error>(Ok(rows), _) = deleted else { panic!("all was read") };
        assert_eq!(rows, stored(&[b"b", b"c", b"d"]));
    }

    #[test]
    fn a_scan_is_relied_on_and_an_old_look_does_not_stand_for_it() {
        let mut overlay = Overlay::new();
        overlay.supply(peek(b"", 9), stored(&[b"a"]));
        let work = |tx: &mut dyn Transaction| tx.scan(Table::Outbox, b"", 9).map(drop);
        let scan = Missing::Scan { table: Table::Outbox, prefix: vec![], most: 9 };
        let Ran::Missing(missing) = overlay.run(work) else { panic!("a look is no scan") };
        assert_eq!(missing, std::slice::from_ref(&scan));
        overlay.supply(scan.clone(), stored(&[b"a"]));
        assert_eq!(relied_on(&overlay, work), [(scan, stored(&[b"a"]))]);
    }
}
