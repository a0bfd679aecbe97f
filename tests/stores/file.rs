//! One file: who may have it, what else may lie there, and a disk that is full.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
#[cfg(unix)]
use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use subrosa::store::{Lock, Redb, Store, StoreError, StoreFault, Table, Vault};
use subrosa::{Client, Error, UnixTime};

use crate::network::Seeded;
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
            let opened =
                Redb::open(path).map(|mut store| scan(&mut store, Table::Inbox, &[], 9).len());
            let opened = opened.map_err(|error| fault(&error));
            println!("\nsaid: {opened:?}");
        }
        "make" => {
            println!("\nsaid: now");
            drop(Redb::open(path).unwrap());
            println!("\nsaid: made");
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
            println!("\nsaid: {committed} {:?}", fault(&error));
        }
        other => panic!("{other}"),
    }
}

fn fault(error: &Error) -> StoreFault {
    let Error::Store(error) = error else { panic!("{error:?}") };
    error.fault
}

/// Another process. `before` is what a shell does first.
#[cfg(unix)]
fn to_do(task: &str, path: &Path, before: &str) -> Command {
    let mut process = Command::new("sh");
    process
        .args(["-c", &format!("{before} exec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "file::another_process", "--ignored", "--nocapture", "--test-threads=1"])
        .env(TASK, task)
        .env(FILE, path);
    process
}

/// What the other process says.
#[cfg(unix)]
fn ask_another_process(task: &str, path: &Path, before: &str) -> String {
    let done = to_do(task, path, before).output().unwrap();
    let said = String::from_utf8(done.stdout).unwrap();
    let line = said.lines().find_map(|line| line.strip_prefix("said: "));
    line.unwrap_or_else(|| panic!("{said}{}", String::from_utf8_lossy(&done.stderr))).into()
}

#[cfg(unix)]
const LOCKED: Error = Error::Store(StoreError::new(StoreFault::Locked));

#[cfg(unix)]
#[test]
fn a_second_process_is_refused_and_harms_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chat");
    let mut store = Redb::open(&path).unwrap();
    store.transact(|tx| tx.put(Table::Inbox, b"1", b"before")).unwrap();
    assert_eq!(
        ask_another_process("open", &path, ""),
        format!("{:?}", Err::<usize, _>(StoreFault::Locked))
    );
    assert_eq!(Redb::open(&path).err(), Some(LOCKED));
    store.transact(|tx| tx.put(Table::Inbox, b"2", b"after")).unwrap();
    assert_eq!(scan(&mut store, Table::Inbox, &[], 9).len(), 2);
    drop(store);
    assert_eq!(ask_another_process("open", &path, ""), "Ok(2)");
    assert_eq!(scan(&mut Redb::open(&path).unwrap(), Table::Inbox, &[], 9).len(), 2);
}

#[cfg(unix)]
#[test]
fn a_process_that_is_killed_while_it_makes_a_file_leaves_none_that_cannot_be_opened() {
    let folder = tempfile::tempdir().unwrap();
    let (mut early, mut late) = (0, 0);
    // Each a little later, until some are late: the file is made.
    for run in 0..1_000 {
        let path = folder.path().join(format!("chat {run}"));
        let mut process = to_do("make", &path, "").stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
        assert!(said.any(|line| line.unwrap() == "said: now"));
        std::thread::sleep(Duration::from_micros(100) * run);
        process.kill().unwrap();
        process.wait().unwrap();
        early += usize::from(!path.exists());
        late += usize::from(said.any(|line| line.unwrap() == "said: made"));
        let mut store = Redb::open(&path).unwrap();
        store.transact(|tx| tx.put(Table::Inbox, b"1", b"one")).unwrap();
        drop(store);
        assert_eq!(scan(&mut Redb::open(&path).unwrap(), Table::Inbox, &[], 9).len(), 1);
        fs::remove_file(&path).unwrap();
        if late == 3 {
            break;
        }
    }
    assert!(early > 3 && late == 3, "{early} {late}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[cfg(unix)]
#[test]
fn a_full_disk_is_an_error_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chat");
    // No file may grow beyond some MiB: a write that does fails, where the signal is ignored.
    let said = ask_another_process("fill", &path, "trap '' XFSZ; ulimit -f 16384;");
    let (committed, error) = said.split_once(' ').unwrap();
    assert_eq!(error, "Full");
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
        assert_eq!(
            Redb::open(&path).err(),
            Some(Error::from(StoreFault::Corrupt)),
            "{} bytes",
            text.len()
        );
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
            Some(Error::from(StoreFault::Corrupt)),
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
    let path = Some(Error::from(StoreFault::Path));
    assert_eq!(Redb::open(folder.path()).err(), path);
    assert_eq!(Redb::open(folder.path().join("nowhere/chat")).err(), path);
    assert_eq!(Redb::open("").err(), path);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn an_error_names_the_path_and_keeps_the_cause() {
    use std::error::Error as _;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nowhere/chat");
    let error = Redb::open(&path).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("nowhere/chat") && text.contains("os error 2"), "{text}");
    let cause = error.source().unwrap();
    let system: &std::io::Error = cause.source().unwrap().downcast_ref().unwrap();
    assert_eq!(system.kind(), std::io::ErrorKind::NotFound);

    let held = Redb::open(folder.path().join("chat")).unwrap();
    let text = Redb::open(folder.path().join("chat")).unwrap_err().to_string();
    assert!(text.starts_with("the store is open elsewhere: ") && text.contains("chat"), "{text}");
    drop(held);
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

#[test]
fn a_vault_is_copied_and_locked_anew_while_a_client_is_in_use() {
    let (folder, rng) = (tempfile::tempdir().unwrap(), &mut Seeded::new(1, "in use"));
    let [path, copy] = ["chat", "copy"].map(|name| folder.path().join(name));
    let [old, new] = [[7; 32], [8; 32]];
    let open = |path: &Path, key: &[u8; 32]| {
        let vault =
            Vault::open(Redb::open(path).unwrap(), Lock::Key(key), &mut Seeded::new(2, "open"));
        vault.map(|vault| Client::open(vault).map(|mut client| client.inbox(9).unwrap().len()))
    };
    let now = UnixTime::from_secs(1_800_000_000).unwrap();
    let vault = Vault::open(Redb::open(&path).unwrap(), Lock::Key(&old), rng).unwrap();
    let mut client = Client::create(vault, "alice", now, rng).unwrap();
    client.store().store().copy_to(&copy).unwrap();
    client.store().change_lock(Lock::Key(&new), rng).unwrap();
    client.write("alice", b"a note to my other devices", now, rng).unwrap();
    drop(client);
    assert_eq!(open(&copy, &old), Ok(Ok(0)));
    assert_eq!(open(&copy, &new), Err(Error::WrongPassphrase));
    assert_eq!(open(&path, &old), Err(Error::WrongPassphrase));
    assert_eq!(open(&path, &new), Ok(Ok(0)));
}

#[test]
fn a_copy_is_whole_while_the_store_is_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let [path, copy] = ["chat", "copy"].map(|name| folder.path().join(name));
    let mut store = Redb::open(&path).unwrap();
    store
        .transact(|tx| (0..100).try_for_each(|key| tx.put(Table::Inbox, &[key], &[key; 5_000])))
        .unwrap();
    store.transact(|tx| tx.put(Table::App, b"", b"mine")).unwrap();
    store.copy_to(&copy).unwrap();
    store.transact(|tx| tx.put(Table::Inbox, &[100], b"later")).unwrap();

    let mut copied = Redb::open(&copy).unwrap();
    assert_eq!(scan(&mut copied, Table::Inbox, &[], 999), scan(&mut store, Table::Inbox, &[], 100));
    assert_eq!(scan(&mut copied, Table::App, &[], 9), [(Vec::new(), b"mine".to_vec())]);
    assert_eq!(scan(&mut store, Table::Inbox, &[], 999).len(), 101);
    // Another copy in its place is refused, and so is one where no file can be.
    let path = Err(Error::from(StoreFault::Path));
    assert_eq!(store.copy_to(&copy), path);
    assert_eq!(store.copy_to(folder.path().join("nowhere/copy")), path);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        drop(copied);
        assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(ask_another_process("open", &copy, ""), "Ok(9)");
    }
}

/// A disk of some MiB, unmounted when dropped; none where this may not be.
#[cfg(target_os = "linux")]
struct Disk(tempfile::TempDir);

#[cfg(target_os = "linux")]
impl Disk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"])
            .arg(folder.path())
            .output();
        let mounted = done.is_ok_and(|done| done.status.success());
        if !mounted {
            println!("no disk can be mounted here: skipped");
        }
        mounted.then_some(Self(folder))
    }
}

#[cfg(target_os = "linux")]
impl Drop for Disk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.0.path()).status());
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_store_works_again_when_there_is_room_again() {
    use subrosa::Remedy;

    let Some(disk) = Disk::mount() else { return };
    let (path, filler) = (disk.0.path().join("chat"), disk.0.path().join("filler"));
    let mut store = Redb::open(&path).unwrap();
    let mut put =
        |key: u32| store.transact(|tx| tx.put(Table::Inbox, &key.to_be_bytes(), &[7; 100_000]));
    put(0).unwrap();
    fs::write(&filler, vec![0; 4 << 20]).unwrap();
    let (committed, error) =
        (1..).find_map(|key| put(key).err().map(|error| (key, error))).unwrap();
    assert_eq!((fault(&error), error.remedy()), (StoreFault::Full, Remedy::Retry));
    assert!(error.to_string().contains("chat"), "{error}");
    // Work that takes no notice of it is not committed either.
    let hidden = store.transact(|tx| {
        (0..100_u8).for_each(|key| drop(tx.put(Table::Outbox, &[key], &[7; 100_000])));
        Ok::<(), Error>(())
    });
    assert_eq!(hidden.map_err(|error| fault(&error)), Err(StoreFault::Full));
    assert_eq!(scan(&mut store, Table::Outbox, &[], 9).len(), 0);
    let mut put =
        |key: u32| store.transact(|tx| tx.put(Table::Inbox, &key.to_be_bytes(), &[7; 100_000]));
    // There is no more room, however often it is tried.
    for _ in 0..3 {
        assert_eq!(put(committed).map_err(|error| fault(&error)), Err(StoreFault::Full));
    }
    fs::remove_file(&filler).unwrap();
    put(committed).unwrap();
    let rows = scan(&mut store, Table::Inbox, &[], usize::MAX);
    let keys: Vec<_> = rows.iter().map(|(key, _)| key.clone()).collect();
    assert_eq!(keys, (0..=committed).map(|key| key.to_be_bytes().to_vec()).collect::<Vec<_>>());
    assert!(rows.iter().all(|(_, value)| value == &[7; 100_000]));
    drop(store);
    assert_eq!(
        scan(&mut Redb::open(&path).unwrap(), Table::Inbox, &[], usize::MAX).len(),
        rows.len()
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_store_that_found_no_room_to_begin_begins_when_there_is_room() {
    let Some(disk) = Disk::mount() else { return };
    let (path, filler) = (disk.0.path().join("chat"), disk.0.path().join("filler"));
    assert!(fs::write(&filler, vec![0; 16 << 20]).is_err());
    for _ in 0..2 {
        assert_eq!(Redb::open(&path).map_err(|error| fault(&error)).err(), Some(StoreFault::Full));
    }
    fs::remove_file(&filler).unwrap();
    let mut store = Redb::open(&path).unwrap();
    store.transact(|tx| tx.put(Table::Inbox, b"key", b"value")).unwrap();
}

#[test]
fn a_copy_that_a_crash_ended_is_in_nobodys_way() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Redb::open(folder.path().join("chat")).unwrap();
    store.transact(|tx| tx.put(Table::Inbox, b"key", b"value")).unwrap();
    let copy = folder.path().join("copy");
    fs::write(folder.path().join("copy.part"), [0; 5_000]).unwrap();
    store.copy_to(&copy).unwrap();
    assert_eq!(scan(&mut Redb::open(&copy).unwrap(), Table::Inbox, &[], 9).len(), 1);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[cfg(target_os = "linux")]
#[test]
fn a_copy_that_finds_no_room_leaves_nothing() {
    let Some(disk) = Disk::mount() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut store = Redb::open(folder.path().join("chat")).unwrap();
    store
        .transact(|tx| (0..100).try_for_each(|key| tx.put(Table::Inbox, &[key], &[key; 100_000])))
        .unwrap();
    let copied = store.copy_to(disk.0.path().join("copy"));
    assert_eq!(copied.map_err(|error| fault(&error)), Err(StoreFault::Full));
    assert_eq!(fs::read_dir(disk.0.path()).unwrap().count(), 0);
    assert_eq!(scan(&mut store, Table::Inbox, &[], usize::MAX).len(), 100);
}

#[cfg(unix)]
#[test]
fn a_file_that_is_taken_away_is_not_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chat");
    let mut store = Redb::open(&path).unwrap();
    store.transact(|tx| tx.put(Table::Inbox, b"key", b"value")).unwrap();
    // A disk that is taken away, as far as a program sees.
    fs::rename(&path, folder.path().join("away")).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(store.copy_to(&path).map_err(|error| fault(&error)), Err(StoreFault::Path));
    store.transact(|tx| tx.put(Table::Inbox, b"key", b"value")).unwrap();
    assert_eq!(scan(&mut store, Table::Inbox, &[], 9).len(), 1);
}

/// Of 137 pages, 96 made redb panic.
#[test]
fn a_page_of_zeros_is_an_error_and_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chat");
    let mut store = Redb::open(&path).unwrap();
    for key in 0..200_u8 {
        store.transact(|tx| tx.put(Table::Inbox, &[key], &[key; 1_500])).unwrap();
    }
    drop(store);
    let whole = fs::read(&path).unwrap();
    let used: Vec<usize> = (0..whole.len() / 4_096)
        .filter(|page| whole[page * 4_096..(page + 1) * 4_096].iter().any(|byte| *byte != 0))
        .collect();
    let (mut refused, mut panicked) = (0, 0);
    for page in &used {
        let mut damaged = whole.clone();
        damaged[page * 4_096..(page + 1) * 4_096].fill(0);
        fs::write(&path, &damaged).unwrap();
        let work = || -> Result<(), Error> {
            let mut store = Redb::open(&path)?;
            store.transact(|tx| tx.scan(Table::Inbox, &[], usize::MAX).map(drop))?;
            store.transact(|tx| tx.put(Table::Outbox, b"new", &[1; 9_000]))?;
            store.transact(|tx| tx.get(Table::Inbox, &[77]).map(drop))
        };
        let done =
            catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| panic!("page {page} panics"));
        if let Err(error) = done {
            assert_eq!(fault(&error), StoreFault::Corrupt, "page {page}: {error}");
            refused += 1;
            panicked += usize::from(error.to_string().contains("panicked"));
        }
    }
    println!("{} pages: {refused} refused, {panicked} of them by a panic inside", used.len());
    assert!(refused > 0 && panicked > 0, "{refused}, {panicked}");
    fs::write(&path, &whole).unwrap();
    assert_eq!(scan(&mut Redb::open(&path).unwrap(), Table::Inbox, &[], 999).len(), 200);
}

#[test]
fn a_panic_of_the_work_goes_on_and_the_store_works_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Redb::open(folder.path().join("chat")).unwrap();
    let panic = catch_unwind(AssertUnwindSafe(|| {
        store.transact(|tx| {
            tx.put(Table::Inbox, b"key", b"value")?;
            "ten".parse::<u8>().expect("of the app");
            Ok::<(), Error>(())
        })
    }));
    let panic = panic.unwrap_err();
    assert!(panic.downcast_ref::<String>().unwrap().starts_with("of the app"));
    assert_eq!(scan(&mut store, Table::Inbox, &[], 9).len(), 0);
    store.transact(|tx| tx.put(Table::Inbox, b"key", b"value")).unwrap();
    assert_eq!(scan(&mut store, Table::Inbox, &[], 9).len(), 1);
}
