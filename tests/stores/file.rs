//! One file: who may have it, what else may lie there, and a disk that is full.

use std::fs;
#[cfg(unix)]
use std::{path::Path, process::Command};

use subrosa::Error;
use subrosa::store::{Redb, Store, StoreFault, Table};

use crate::scan;

/// Says what another process is to do, and with which file.
const TASK: &str = "SUBROSA_TEST_TASK";
const FILE: &str = "SUBROSA_TEST_FILE";

/// What the other process is.
#[test]
#[ignore = "other tests run it, in a process of its own"]
fn another_process() {
    let (Ok(task), Ok(path)) = (std::env::var(TASK), std::env::var(FILE)) else { return };
    match task.as_str() {
        "open" => {
            let opened = Redb::open(path).map(|mut store| scan(&mut store, Table::Inbox, &[], 9).len());
            println!("\nsaid: {opened:?}");
        }
        "fill" => {
            let mut store = Redb::open(path).unwrap();
            let mut committed = 0_u32;
            let value = [0x77; 100_000];
            let error = loop {
                let key = committed.to_be_bytes();
                match store.transact(|tx| tx.put(Table::Inbox, &key, &value)) {
                    Ok(()) => committed += 1,
                    Err(error) => break error,
                }
                assert!(committed < 10_000, "the disk is not full");
            };
            println!("\nsaid: {committed} {error:?}");
        }
        other => panic!("{other}"),
    }
}

/// What the other process says. `before` is what a shell does first.
#[cfg(unix)]
fn ask_another_process(task: &str, path: &Path, before: &str) -> String {
    let program = std::env::current_exe().unwrap();
    let done = Command::new("sh")
        .args(["-c", &format!("{before} exec \"$0\" \"$@\"")])
        .arg(program)
        .args(["--exact", "file::another_process", "--ignored", "--nocapture", "--test-threads=1"])
        .env(TASK, task)
        .env(FILE, path)
        .output()
        .unwrap();
    let said = String::from_utf8(done.stdout).unwrap();
    let line = said.lines().find_map(|line| line.strip_prefix("said: "));
    line.unwrap_or_else(|| panic!("{said}{}", String::from_utf8_lossy(&done.stderr))).into()
}

#[cfg(unix)]
const LOCKED: Error = Error::Store(StoreFault::Locked);

#[cfg(unix)]
#[test]
fn a_second_process_is_refused_and_harms_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chat");
    let mut store = Redb::open(&path).unwrap();
    store.transact(|tx| tx.put(Table::Inbox, b"1", b"before")).unwrap();
    assert_eq!(ask_another_process("open", &path, ""), format!("{:?}", Err::<usize, _>(LOCKED)));
    assert_eq!(Redb::open(&path).err(), Some(LOCKED));
    store.transact(|tx| tx.put(Table::Inbox, b"2", b"after")).unwrap();
    assert_eq!(scan(&mut store, Table::Inbox, &[], 9).len(), 2);
    drop(store);
    assert_eq!(ask_another_process("open", &path, ""), "Ok(2)");
    assert_eq!(scan(&mut Redb::open(&path).unwrap(), Table::Inbox, &[], 9).len(), 2);
}

#[cfg(unix)]
#[test]
fn a_full_disk_is_an_error_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chat");
    // No file may grow beyond some MiB: a write that does fails, where the signal is ignored.
    let said = ask_another_process("fill", &path, "trap '' XFSZ; ulimit -f 16384;");
    let (committed, error) = said.split_once(' ').unwrap();
    assert_eq!(error, format!("{:?}", Error::Store(StoreFault::Full)));
    let committed: u32 = committed.parse().unwrap();
    assert!(committed > 10, "{said}");

    let mut store = Redb::open(&path).unwrap();
    let rows = scan(&mut store, Table::Inbox, &[], usize::MAX);
    let keys: Vec<_> = rows.iter().map(|(key, _)| key.clone()).collect();
    let expected: Vec<_> = (0..committed).map(|key| key.to_be_bytes().to_vec()).collect();
    assert_eq!(keys, expected);
    assert!(rows.iter().all(|(_, value)| value == &[0x77; 100_000]));
    store.transact(|tx| tx.put(Table::Inbox, b"more", &[1; 100_000])).unwrap();
    assert_eq!(scan(&mut store, Table::Inbox, b"more", 9).len(), 1);
}

#[test]
fn some_other_file_is_refused_and_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("letter");
    for text in [&b"dear diary"[..], &[0; 4_096], &[0xa5; 100_000]] {
        fs::write(&path, text).unwrap();
        assert_eq!(Redb::open(&path).err(), Some(Error::Store(StoreFault::Corrupt)), "{} bytes", text.len());
        assert!(fs::read(&path).unwrap() == text, "{} bytes", text.len());
    }
}

#[test]
fn a_truncated_file_is_refused_and_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chat");
    let mut store = Redb::open(&path).unwrap();
    for key in 0..20_u8 {
        store.transact(|tx| tx.put(Table::Inbox, &[key], &[key; 50_000])).unwrap();
    }
    drop(store);
    let whole = fs::read(&path).unwrap();
    for length in [1, 9, 64, 320, 4_095, 4_096, 8_192, 65_536, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        let opened = Redb::open(&path);
        assert_eq!(
            opened.err(),
            Some(Error::Store(StoreFault::Corrupt)),
            "{length} of {} bytes",
            whole.len()
        );
        assert!(fs::read(&path).unwrap() == whole[..length], "{length} of {} bytes", whole.len());
    }
    fs::write(&path, &whole).unwrap();
    assert_eq!(scan(&mut Redb::open(&path).unwrap(), Table::Inbox, &[], 99).len(), 20);
}

#[test]
fn where_no_file_can_be_nothing_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let io = Some(Error::Store(StoreFault::Io));
    assert_eq!(Redb::open(folder.path()).err(), io);
    assert_eq!(Redb::open(folder.path().join("nowhere/chat")).err(), io);
    assert_eq!(Redb::open("").err(), io);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[cfg(unix)]
#[test]
fn only_its_owner_can_read_the_file() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chat");
    drop(Redb::open(&path).unwrap());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}
