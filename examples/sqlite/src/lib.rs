//! A store over SQLite: the client's rows are in a table beside the app's own, and one transaction
//! changes both.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use rusqlite::{
    CachedStatement, Connection, ErrorCode, OptionalExtension, TransactionBehavior, params,
};
use subrosa::Error;
use subrosa::store::{Row, Store, StoreFault, Table, Transaction, Value, check_limits};

/// A database with a table `subrosa`; the other tables are the app's.
pub struct Sqlite(Connection);

impl Sqlite {
    /// Opens the database, or makes it. WAL, so that readers do not wait, and FULL, so that what
    /// was committed survives a loss of power: with WAL and NORMAL the last commits would be lost,
    /// and message keys used twice.
    ///
    /// # Errors
    /// [`Error::Store`]
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let connection = Connection::open(path).map_err(error)?;
        connection.busy_timeout(Duration::from_secs(5)).map_err(error)?;
        connection
            .execute_batch(
                "pragma journal_mode = wal; pragma synchronous = full;
                create table if not exists subrosa (name text not null, key blob not null, value blob not null,
                    primary key (name, key)) strict, without rowid;",
            )
            .map_err(error)?;
        Ok(Self(connection))
    }

    /// As [`Store::transact`], with the transaction of SQLite for the app's own tables. IMMEDIATE
    /// takes the write lock at once, so that transactions of several processes come one after
    /// another.
    ///
    /// # Errors
    /// Those of `work`; [`Error::Store`].
    pub fn with<T, E: From<Error>>(
        &mut self,
        work: impl FnOnce(&rusqlite::Transaction<'_>, &mut dyn Transaction) -> Result<T, E>,
    ) -> Result<T, E> {
        // Rolled back where it is dropped without a commit: on an error, and on a panic.
        let sql =
            self.0.transaction_with_behavior(TransactionBehavior::Immediate).map_err(error)?;
        let done = work(&sql, &mut Rows(&sql))?;
        sql.commit().map_err(error)?;
        Ok(done)
    }
}

impl Store for Sqlite {
    fn transact<T, E: From<Error>>(
        &mut self,
        work: impl FnOnce(&mut dyn Transaction) -> Result<T, E>,
    ) -> Result<T, E> {
        self.with(|_, rows| work(rows))
    }
}

struct Rows<'a>(&'a Connection);

impl Rows<'_> {
    /// Prepares a statement. Where the disk is full, SQLite takes a transaction back by itself, and
    /// what came after that would be committed at once, alone.
    fn prepare(&self, statement: &str) -> Result<CachedStatement<'_>, Error> {
        if self.0.is_autocommit() {
            return Err(Error::store(StoreFault::Other, "SQLite took the transaction back"));
        }
        self.0.prepare_cached(statement).map_err(error)
    }
}

impl Transaction for Rows<'_> {
    fn get(&mut self, table: Table, key: &[u8]) -> Result<Option<Value>, Error> {
        let get = "select value from subrosa where name = ? and key = ?";
        let mut get = self.prepare(get)?;
        let found = get.query_row(params![table.name(), key], |row| row.get(0).map(Value::new));
        found.optional().map_err(error)
    }

    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), Error> {
        check_limits(key, value)?;
        let put = "insert or replace into subrosa values (?, ?, ?)";
        let mut put = self.prepare(put)?;
        put.execute(params![table.name(), key, value]).map(drop).map_err(error)
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), Error> {
        let delete = "delete from subrosa where name = ? and key = ?";
        let mut delete = self.prepare(delete)?;
        delete.execute(params![table.name(), key]).map(drop).map_err(error)
    }

    fn scan(&mut self, table: Table, prefix: &[u8], most: usize) -> Result<Vec<Row>, Error> {
        // Blobs are compared by their bytes, as a scan is.
        let scan = "select key, value from subrosa
            where name = ?1 and key >= ?2 and (?3 is null or key < ?3) order by key limit ?4";
        let mut scan = self.prepare(scan)?;
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let rows = scan.query_map(params![table.name(), prefix, after(prefix), most], |row| {
            Ok((row.get(0)?, Value::new(row.get(1)?)))
        });
        rows.and_then(Iterator::collect).map_err(error)
    }
}

/// What comes after all keys that begin with this. Nothing does where all its bytes are 0xff.
fn after(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut after = prefix.to_vec();
    while let Some(last) = after.pop() {
        if let Some(next) = last.checked_add(1) {
            after.push(next);
            return Some(after);
        }
    }
    None
}

/// The fault tells the app what to do, and the cause what happened.
fn error(cause: rusqlite::Error) -> Error {
    let fault = match cause.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreFault::Locked,
        Some(ErrorCode::DiskFull) => StoreFault::Full,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreFault::Corrupt,
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
            StoreFault::Path
        }
        Some(ErrorCode::SystemIoFailure) => StoreFault::Io,
        _ => StoreFault::Other,
    };
    Error::store(fault, cause)
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sqlite")
    }
}
