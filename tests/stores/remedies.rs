//! Each fault of a store has a remedy, and following it to the letter helps.

use std::cell::Cell;
use std::error::Error as _;
use std::fs;
use std::rc::Rc;

use subrosa::store::{
    Lock, Memory, Missing, Overlay, Ran, Redb, Store, StoreFault, Table, Transaction, Vault,
};
use subrosa::{Error, Remedy};

use crate::network::Seeded;
use crate::{cheap, get};

fn write(store: &mut impl Store) -> Result<(), Error> {
    store.transact(|tx| tx.put(Table::Inbox, b"key", b"value"))
}

fn refused<T>(done: Result<T, Error>, fault: StoreFault, remedy: Remedy) {
    let error = done.err().unwrap();
    assert_eq!(error, fault.into());
    assert_eq!(error.remedy(), remedy);
}

#[test]
fn a_locked_store_opens_when_what_holds_it_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chat");
    let holder = Redb::open(&path).unwrap();
    refused(Redb::open(&path), StoreFault::Locked, Remedy::Retry);
    drop(holder);
    write(&mut Redb::open(&path).unwrap()).unwrap();
}

/// Fails once it failed, until it is opened again, as many databases do.
struct Stuck {
    rows: Memory,
    disk_fails: Rc<Cell<bool>>,
    stuck: bool,
}

impl Store for Stuck {
    fn transact<T, E: From<Error>>(
        &mut self,
        work: impl FnOnce(&mut dyn Transaction) -> Result<T, E>,
    ) -> Result<T, E> {
        self.stuck |= self.disk_fails.get();
        if self.stuck {
            return Err(Error::store(StoreFault::Io, "the disk went away").into());
        }
        self.rows.transact(work)
    }
}

#[test]
fn a_store_that_could_not_be_read_or_written_works_when_it_is_opened_again() {
    let disk_fails = Rc::new(Cell::new(true));
    let open = || Stuck { rows: Memory::new(), disk_fails: disk_fails.clone(), stuck: false };
    let mut store = open();
    refused(write(&mut store), StoreFault::Io, Remedy::Reopen);
    disk_fails.set(false);
    refused(write(&mut store), StoreFault::Io, Remedy::Reopen);
    drop(store);
    write(&mut open()).unwrap();
}

#[test]
fn a_damaged_store_is_replaced_by_another_copy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chat");
    write(&mut Redb::open(&path).unwrap()).unwrap();
    let copy = fs::read(&path).unwrap();
    fs::write(&path, &copy[..copy.len() / 2]).unwrap();
    refused(Redb::open(&path), StoreFault::Corrupt, Remedy::RestoreState);
    fs::write(&path, copy).unwrap();
    assert_eq!(get(&mut Redb::open(&path).unwrap(), Table::Inbox, b"key"), Some(b"value".to_vec()));
}

#[test]
fn a_missing_folder_is_for_the_app_to_make() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing/chat");
    refused(Redb::open(&path), StoreFault::Path, Remedy::FixCall);
    fs::create_dir(path.parent().unwrap()).unwrap();
    write(&mut Redb::open(&path).unwrap()).unwrap();
}

#[test]
fn a_plain_store_is_no_vault_and_says_so() {
    let rng = &mut Seeded::new(1, "remedies");
    let lock = Lock::Key(&[1; 32]);
    let mut plain = Memory::new();
    write(&mut plain).unwrap();
    refused(
        Vault::open_with(&mut plain, lock, cheap(), rng).map(drop),
        StoreFault::NotAVault,
        Remedy::FixCall,
    );
    assert_eq!(get(&mut plain, Table::Inbox, b"key"), Some(b"value".to_vec()));
    Vault::open_with(Memory::new(), lock, cheap(), rng).unwrap();
}

#[test]
fn a_row_that_was_not_read_is_for_the_app_to_read() {
    let mut overlay = Overlay::new();
    let mut said = None;
    let mut work = |tx: &mut dyn Transaction| {
        let read = tx.get(Table::Inbox, b"key").map(drop);
        said = read.clone().err();
        read
    };
    let Ran::Missing(missing) = overlay.run(&mut work) else { panic!("nothing was read") };
    overlay.supply_all(missing.into_iter().map(|row: Missing| (row, Vec::new())));
    assert!(matches!(overlay.run(|tx| tx.get(Table::Inbox, b"key")), Ran::Done(Ok(None), _)));
    refused::<()>(Err(said.unwrap()), StoreFault::Unread, Remedy::FixCall);
}

#[test]
fn the_cause_is_for_people_and_the_fault_for_the_program() {
    let cause = std::io::Error::from_raw_os_error(5);
    let text = cause.to_string();
    let error = Error::store(StoreFault::Io, cause);
    assert_eq!(error, Error::from(StoreFault::Io));
    assert_ne!(error, Error::from(StoreFault::Full));
    let again = error.clone();
    drop(error);
    let error = again;
    assert_eq!(error.source().unwrap().to_string(), text);
    assert!(error.to_string().ends_with(&text), "{error}");
    assert!(Error::from(StoreFault::Io).source().is_none());
    assert!(Error::NoAccount.source().is_none());
}

#[test]
fn a_row_that_is_too_long_goes_in_when_it_is_shorter() {
    let rng = &mut Seeded::new(1, "remedies");
    let mut vault = Vault::open_with(Memory::new(), Lock::Key(&[1; 32]), cheap(), rng).unwrap();
    let mut value = vec![1; (2 << 20) + 1];
    let mut put = |key: &[u8], value: &[u8]| vault.transact(|tx| tx.put(Table::App, key, value));
    refused(put(b"key", &value), StoreFault::TooLarge, Remedy::FixCall);
    value.pop();
    put(b"key", &value).unwrap();
    refused(put(&[1; 129], b""), StoreFault::TooLarge, Remedy::FixCall);
    put(&[1; 128], b"").unwrap();
}
