//! SQLite keeps the rules of a store.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::error::Error as _;

use subrosa::store::conformance::{check, check_durable, check_shared};
use subrosa::store::{Lock, Store, StoreFault, Table, Vault};
use subrosa::{Error, Remedy, SystemRng};
use subrosa_sqlite::Sqlite;

#[test]
fn it_keeps_the_rules() {
    let folder = tempfile::tempdir().unwrap();
    let mut names = 0..;
    let mut new =
        || Sqlite::open(folder.path().join(names.next().unwrap_or_default().to_string())).unwrap();
    assert_eq!(check(&mut new), Ok(()));
    assert_eq!(check(|| Vault::open(new(), Lock::Key(&[1; 32]), &mut SystemRng).unwrap()), Ok(()));
}

#[test]
fn several_connections_share_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chat.db");
    assert_eq!(check_shared(|| Sqlite::open(&path).unwrap()), Ok(()));
}

#[test]
fn it_is_durable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chat.db");
    assert_eq!(check_durable(|| Sqlite::open(&path).unwrap()), Ok(()));
    let mut store = Sqlite::open(&path).unwrap();
    // 2 is FULL.
    let pragmas = store.with(|sql, _| {
        let synchronous: u32 = sql.query_row("pragma synchronous", [], |row| row.get(0)).unwrap();
        let journal: String = sql.query_row("pragma journal_mode", [], |row| row.get(0)).unwrap();
        Ok::<_, Error>((synchronous, journal))
    });
    assert_eq!(pragmas, Ok((2, "wal".into())));
}

#[test]
fn the_rows_of_the_app_and_of_the_client_change_together() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Sqlite::open(folder.path().join("chat.db")).unwrap();
    store
        .with(|sql, _| {
            sql.execute_batch("create table mine (text text)").unwrap();
            Ok::<_, Error>(())
        })
        .unwrap();
    for (refused, expected) in [(true, (0, 0)), (false, (1, 1))] {
        let done = store.with(|sql, rows| {
            sql.execute("insert into mine values ('a row')", []).unwrap();
            rows.put(Table::App, b"key", b"value")?;
            if refused { Err(Error::NotPermitted) } else { Ok(()) }
        });
        assert_eq!(done.is_err(), refused);
        let counts = store.with(|sql, rows| {
            let mine: u32 =
                sql.query_row("select count(*) from mine", [], |row| row.get(0)).unwrap();
            Ok::<_, Error>((mine, rows.scan(Table::App, &[], 9)?.len()))
        });
        assert_eq!(counts, Ok(expected));
    }
}

#[test]
fn its_errors_say_what_to_do_and_what_happened() {
    let folder = tempfile::tempdir().unwrap();
    let error = Sqlite::open(folder.path().join("nowhere/chat.db")).unwrap_err();
    assert_eq!((error.remedy(), &error), (Remedy::FixCall, &StoreFault::Path.into()));
    assert!(error.source().is_some_and(|cause| cause.is::<rusqlite::Error>()));
    std::fs::write(folder.path().join("letter"), [0xa5; 10_000]).unwrap();
    let error = Sqlite::open(folder.path().join("letter")).unwrap_err();
    assert_eq!(error, StoreFault::Corrupt.into());
}

/// SQLite takes a transaction back by itself where the disk is full, and what comes after it would
/// be committed row by row.
#[test]
fn nothing_of_a_transaction_stays_where_the_disk_is_full_and_the_work_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Sqlite::open(folder.path().join("chat.db")).unwrap();
    store.transact(|tx| tx.put(Table::App, b"before", b"value")).unwrap();
    let most = |store: &mut Sqlite, pages: u32| {
        let set = format!("pragma max_page_count = {pages}");
        store.with(|sql, _| {
            sql.query_row(&set, [], |row| row.get::<_, u32>(0)).unwrap();
            Ok::<_, Error>(())
        })
    };
    most(&mut store, 40).unwrap();
    let mut refused = 0;
    let done = store.transact(|tx| {
        for number in 0..100_u8 {
            let done = tx.put(Table::App, &[number], &[number; 3_000]);
            refused += u32::from(done.is_err());
        }
        tx.put(Table::App, b"after", b"value")
    });
    assert!(refused > 0);
    assert!(done.is_err());
    most(&mut store, 1_000_000).unwrap();
    let rows = store.transact(|tx| tx.scan(Table::App, &[], 200)).unwrap();
    let keys: Vec<_> = rows.into_iter().map(|row| row.0).collect();
    assert_eq!(keys, [b"before".to_vec()]);
}
