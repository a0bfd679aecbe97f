//! The embedded store: one file, by the crate redb.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::string::String;
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{
    Database, ReadableDatabase, ReadableTable, TableDefinition, TableHandle, WriteTransaction,
};

use super::{Row, Store, StoreFault, Table, Transaction, Value, check_limits};
use crate::crypto::stack;
use crate::error::Error;

/// A store in one file: transactions are durable when they return, a crash at any moment leaves the
/// last one that did. Feature `redb`, on by default.
///
/// The file is locked while it is open, which is as long as the store, or a client over it, lives:
/// two processes cannot use one account by mistake, and the second one gets [`StoreFault::Locked`].
/// iOS ends an app that is suspended with a lock on a file in a shared container: drop the client
/// when the app goes to the background, and open it again later.
///
/// After a failure (a full disk, a cable that was pulled) the next transaction opens the file again
/// by itself, so that the store works as soon as the disk does.
///
/// The file is readable for its owner alone, and not encrypted: put a [`Vault`](super::Vault) on
/// top. That also notices every value that was damaged on the disk. redb by itself does not look:
/// it may give another value, or panic over a page that makes no sense. Where panics unwind, such a
/// panic becomes [`StoreFault::Corrupt`] here (the program's panic hook sees it first); a panic of
/// your own work goes on as it is.
///
/// ```
/// use subrosa::store::{Redb, Store, Table};
/// use subrosa::Error;
///
/// # let folder = tempfile::tempdir().expect("a place for it");
/// # let path = folder.path().join("chat.redb");
/// let mut store = Redb::open(&path)?;
/// store.transact(|tx| tx.put(Table::Inbox, b"key", b"value"))?;
/// # let path = folder.path().join("backup.redb");
/// store.copy_to(&path)?;
/// # Ok::<(), Error>(())
/// ```
pub struct Redb {
    path: PathBuf,
    /// None after a failure: the next transaction opens it again.
    database: Option<Database>,
}

impl Redb {
    /// Opens the file, or makes it. Its folder must be there. Nothing is at `path` before the file
    /// is whole; until then it has that name with `.new` behind it.
    ///
    /// # Errors
    /// [`StoreFault::Locked`]: another process, or another `Redb`, has it open.
    /// [`StoreFault::Path`]: the folder is missing, or access is denied. [`StoreFault::Corrupt`]:
    /// it is some other file, or damaged. [`StoreFault::Full`], [`StoreFault::Io`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let database = match file(path, &mut OpenOptions::new()) {
            Ok(file) => over(path, file)?,
            Err(error) if error.kind() == ErrorKind::NotFound => make(path)?,
            Err(error) => return Err(At::io(path, error)),
        };
        Ok(Self { path: path.into(), database: Some(database) })
    }

    /// Makes a copy of the file, whole and as it is now, for instance as a backup. Nothing is at
    /// `path` before it is complete. What is there already is not replaced.
    ///
    /// An account must not go on in both: a copy is opened as docs/client.md, section 7, says.
    ///
    /// # Errors
    /// [`StoreFault::Path`]: there is such a file, or its folder is missing. [`StoreFault::Full`],
    /// and then nothing is left of the copy. As [`Redb::open`].
    pub fn copy_to(&mut self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        if fs::exists(path).map_err(|error| At::io(path, error))? {
            let exists = std::io::Error::from(ErrorKind::AlreadyExists);
            return Err(At::error(path, StoreFault::Path, exists));
        }
        let unfinished = beside(path, ".part");
        // That of a copy that a crash ended.
        drop(fs::remove_file(&unfinished));
        let copied = self.copy_rows(&unfinished).and_then(|()| {
            fs::rename(&unfinished, path).map_err(|error| At::io(path, error))?;
            sync_folder(path);
            Ok(())
        });
        copied.inspect_err(|_| drop(fs::remove_file(&unfinished)))
    }

    fn copy_rows(&mut self, to: &Path) -> Result<(), Error> {
        let copy = open(to, OpenOptions::new().create_new(true))?;
        let copied = guarded(&self.path, || {
            let from = database(&self.path, &mut self.database)?;
            copy_tables(from, &copy, &self.path, to)
        });
        if copied.is_err() {
            close(&mut self.database);
        }
        copied
    }

    fn begin(&mut self) -> Result<WriteTransaction, Error> {
        let begun = guarded(&self.path, || {
            let database = database(&self.path, &mut self.database)?;
            database.begin_write().map_err(|error| self::error(&self.path, error))
        });
        begun.inspect_err(|_| close(&mut self.database))
    }

    /// Commits, or not. What failed before, or fails now, closes the file.
    fn end(
        &mut self,
        transaction: WriteTransaction,
        commits: Result<bool, Error>,
    ) -> Result<(), Error> {
        let ended = guarded(&self.path, || {
            if matches!(commits, Ok(true)) {
                transaction.commit().map_err(|error| self::error(&self.path, error))
            } else {
                transaction.abort().map_err(|error| self::error(&self.path, error))
            }
        });
        let ended = commits.and(ended);
        if ended.is_err() {
            close(&mut self.database);
        }
        ended
    }
}

/// Pages kept in memory, in bytes. Most of an account fits; a phone has more to do than to hold all
/// of it.
const CACHE: usize = 16 << 20;

/// The file beside this one whose name goes on like that.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut beside = std::ffi::OsString::from(path);
    beside.push(ending);
    beside.into()
}

/// Makes a file, which has its name once it is whole: no crash leaves a part of one there.
fn make(path: &Path) -> Result<Database, Error> {
    // A copy that is being made has another name.
    let unfinished = beside(path, ".new");
    let io = |error| At::io(path, error);
    let begun = file(&unfinished, OpenOptions::new().create(true)).map_err(io)?;
    let made = guarded(path, || {
        let same = begun.try_clone().map_err(io)?;
        let locked = FileBackend::new(begun).map_err(|error| self::error(path, error))?;
        if fs::exists(path).map_err(io)? {
            // Another process was faster.
            return open(path, &mut OpenOptions::new());
        }
        // What a crash left of it.
        same.set_len(0).map_err(io)?;
        let database = with_backend(path, locked)?;
        fs::rename(&unfinished, path).map_err(io)?;
        sync_folder(path);
        Ok(database)
    });
    made.inspect_err(|error| {
        if *error != StoreFault::Locked.into() {
            drop(fs::remove_file(&unfinished));
        }
    })
}

fn open(path: &Path, options: &mut OpenOptions) -> Result<Database, Error> {
    over(path, file(path, options).map_err(|error| At::io(path, error))?)
}

fn file(path: &Path, options: &mut OpenOptions) -> std::io::Result<File> {
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options.open(path)
}

fn over(path: &Path, file: File) -> Result<Database, Error> {
    guarded(path, || {
        let file = FileBackend::new(file).map_err(|error| self::error(path, error))?;
        with_backend(path, file)
    })
}

fn with_backend(path: &Path, file: FileBackend) -> Result<Database, Error> {
    let opened = Database::builder().set_cache_size(CACHE).create_with_backend(file);
    opened.map_err(|error| self::error(path, error))
}

/// The open database. It is opened again after a failure, and not made anew where the file is gone.
fn database<'a>(path: &Path, database: &'a mut Option<Database>) -> Result<&'a Database, Error> {
    match database {
        Some(database) => Ok(database),
        None => Ok(database.insert(open(path, &mut OpenOptions::new())?)),
    }
}

/// Lets go of a database that failed. What it does at the end may fail like all the rest.
fn close(database: &mut Option<Database>) {
    let database = database.take();
    drop(catch_unwind(AssertUnwindSafe(|| drop(database))));
}

fn copy_tables(
    from: &Database,
    to: &Database,
    from_path: &Path,
    to_path: &Path,
) -> Result<(), Error> {
    let reading = from.begin_read().map_err(|error| self::error(from_path, error))?;
    let writing = to.begin_write().map_err(|error| self::error(to_path, error))?;
    for table in reading.list_tables().map_err(|error| self::error(from_path, error))? {
        let definition: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new(table.name());
        let rows = reading.open_table(definition).map_err(|error| self::error(from_path, error))?;
        let mut copy =
            writing.open_table(definition).map_err(|error| self::error(to_path, error))?;
        for row in rows.iter().map_err(|error| self::error(from_path, error))? {
            let (key, value) = row.map_err(|error| self::error(from_path, error))?;
            copy.insert(key.value(), value.value()).map_err(|error| self::error(to_path, error))?;
        }
    }
    writing.commit().map_err(|error| self::error(to_path, error))
}

/// So that the name of a new file survives a loss of power, where a folder can be synced.
fn sync_folder(path: &Path) {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    // That of a bare name is the one that the process is in.
    if let Ok(folder) = File::open(folder.unwrap_or(Path::new("."))) {
        drop(folder.sync_all());
    }
}

/// What redb does, with a panic of its own as an error.
fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(At::panic(path, panic.as_ref())))
}

impl Store for Redb {
    fn transact<T, E: From<Error>>(
        &mut self,
        work: impl FnOnce(&mut dyn Transaction) -> Result<T, E>,
    ) -> Result<T, E> {
        let transaction = self.begin()?;
        let mut open = Open::new(&self.path, &transaction);
        let done = catch_unwind(AssertUnwindSafe(|| work(&mut open)));
        let changed = open.close();
        let is_wanted = matches!(done, Ok(Ok(_)));
        let ended = self.end(transaction, changed.map(|changed| changed && is_wanted));
        let done = done.unwrap_or_else(|panic| resume_unwind(panic))?;
        ended?;
        Ok(done)
    }
}

type Bytes = &'static [u8];

struct Open<'a> {
    path: &'a Path,
    transaction: &'a WriteTransaction,
    tables: BTreeMap<Table, redb::Table<'a, Bytes, Bytes>>,
    changed: bool,
    /// What redb said first. Only opening the file again mends it, and nothing of this transaction
    /// is committed.
    failure: Option<Error>,
}

impl<'a> Open<'a> {
    const fn new(path: &'a Path, transaction: &'a WriteTransaction) -> Self {
        Self { path, transaction, tables: BTreeMap::new(), changed: false, failure: None }
    }

    /// Closes the tables. Says whether anything changed, or what failed first.
    fn close(self) -> Result<bool, Error> {
        let Self { path, tables, changed, failure, .. } = self;
        let closed = guarded(path, || {
            drop(tables);
            Ok(())
        });
        failure.map_or(closed, Err).map(|()| changed)
    }

    /// Does this with a table. A failure is noted, so that the file is opened again.
    fn with<T>(
        &mut self,
        table: Table,
        work: impl FnOnce(&mut redb::Table<'a, Bytes, Bytes>) -> Result<T, redb::StorageError>,
    ) -> Result<T, Error> {
        let (path, transaction, tables) = (self.path, self.transaction, &mut self.tables);
        // redb keeps open tables in nodes on the heap, which have room to spare.
        stack::wipe();
        let done = guarded(path, || {
            let table = match tables.entry(table) {
                Entry::Occupied(open) => open.into_mut(),
                Entry::Vacant(closed) => {
                    let definition: TableDefinition<'_, Bytes, Bytes> =
                        TableDefinition::new(table.name());
                    let opened = transaction.open_table(definition);
                    closed.insert(opened.map_err(|error| self::error(path, error))?)
                }
            };
            work(table).map_err(|error| self::error(path, error))
        });
        self.failure = self.failure.take().or_else(|| done.as_ref().err().cloned());
        done
    }
}

impl Transaction for Open<'_> {
    fn get(&mut self, table: Table, key: &[u8]) -> Result<Option<Value>, Error> {
        self.with(table, |rows| Ok(rows.get(key)?.map(|value| Value::new(value.value().to_vec()))))
    }

    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), Error> {
        check_limits(key, value)?;
        self.changed = true;
        self.with(table, |rows| rows.insert(key, value).map(drop))
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), Error> {
        self.changed = true;
        self.with(table, |rows| rows.remove(key).map(drop))
    }

    fn scan(&mut self, table: Table, prefix: &[u8], most: usize) -> Result<Vec<Row>, Error> {
        self.with(table, |rows| {
            let mut found = Vec::new();
            for row in rows.range(prefix..)?.take(most) {
                let (key, value) = row?;
                if !key.value().starts_with(prefix) {
                    break;
                }
                found.push((key.value().to_vec(), Value::new(value.value().to_vec())));
            }
            Ok(found)
        })
    }
}

/// An error of a store, and which file it is about.
#[derive(Debug)]
struct At<E> {
    path: PathBuf,
    cause: E,
}

impl<E: core::error::Error + Send + Sync + 'static> At<E> {
    fn error(path: &Path, fault: StoreFault, cause: E) -> Error {
        Error::store(fault, Self { path: path.into(), cause })
    }
}

impl At<std::io::Error> {
    /// Of a file that is opened, made or renamed.
    fn io(path: &Path, error: std::io::Error) -> Error {
        Self::error(path, io_fault(error.kind(), Doing::Opening), error)
    }
}

impl At<Panic> {
    fn panic(path: &Path, panic: &(dyn Any + Send)) -> Error {
        let text = panic.downcast_ref::<&str>().map(|text| String::from(*text));
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Self::error(path, StoreFault::Corrupt, Panic(text.into()))
    }
}

/// What redb said when it panicked.
#[derive(Debug)]
struct Panic(Box<str>);

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the database panicked: {}", self.0)
    }
}

impl core::error::Error for Panic {}

impl<E: fmt::Display> fmt::Display for At<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.cause)
    }
}

impl<E: core::error::Error + 'static> core::error::Error for At<E> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(&self.cause)
    }
}

fn error(path: &Path, error: impl Into<redb::Error>) -> Error {
    let error = error.into();
    At::error(path, fault(&error), error)
}

fn fault(error: &redb::Error) -> StoreFault {
    match error {
        redb::Error::DatabaseAlreadyOpen => StoreFault::Locked,
        redb::Error::Corrupted(_)
        | redb::Error::RepairAborted
        | redb::Error::UpgradeRequired(_) => StoreFault::Corrupt,
        redb::Error::Io(error) => io_fault(error.kind(), Doing::Working),
        redb::Error::PreviousIo
        | redb::Error::DatabaseClosed
        | redb::Error::TransactionPoisoned
        | redb::Error::LockPoisoned(_) => StoreFault::Io,
        _ => StoreFault::Other,
    }
}

/// A file that cannot be opened may have another path; one that was open before does not.
#[derive(Clone, Copy)]
enum Doing {
    Opening,
    Working,
}

const fn io_fault(kind: ErrorKind, doing: Doing) -> StoreFault {
    match kind {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            StoreFault::Full
        }
        ErrorKind::InvalidData | ErrorKind::UnexpectedEof => StoreFault::Corrupt,
        ErrorKind::WouldBlock => StoreFault::Locked,
        ErrorKind::NotFound
        | ErrorKind::AlreadyExists
        | ErrorKind::PermissionDenied
        | ErrorKind::IsADirectory
        | ErrorKind::NotADirectory
        | ErrorKind::ReadOnlyFilesystem
        | ErrorKind::InvalidInput
        | ErrorKind::InvalidFilename
            if matches!(doing, Doing::Opening) =>
        {
            StoreFault::Path
        }
        _ => StoreFault::Io,
    }
}

/// Shows nothing of what is in it.
impl fmt::Debug for Redb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redb")
    }
}
