//! A store encrypted at rest: who opens it, and what somebody who can write to it can do.

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;

use subrosa::store::{
    Argon2Cost, Lock, Memory, Redb, Store, StoreError, StoreFault, Table, Transaction, Vault,
};
use subrosa::{Client, Error, UnixTime};

use crate::network::{NOW, Seeded};
use crate::post::Post;
use crate::{Rows, cheap, get, plain, scan};

const CORRUPT: Error = Error::Store(StoreError::new(StoreFault::Corrupt));
const KEY: [u8; 32] = [9; 32];

fn rng() -> Seeded {
    Seeded::new(1, "vault")
}

/// A vault with some rows, and its store.
fn filled(lock: Lock<'_>) -> Memory {
    let mut memory = Memory::new();
    let mut vault = Vault::open_with(&mut memory, lock, cheap(), &mut rng()).unwrap();
    for (table, key, value) in [
        (Table::Inbox, b"a", "first"),
        (Table::Inbox, b"b", "second"),
        (Table::Outbox, b"a", "third"),
    ] {
        vault.transact(|tx| tx.put(table, key, value.as_bytes())).unwrap();
    }
    memory
}

fn open(store: &mut Memory, lock: Lock<'_>) -> Result<Rows, Error> {
    let mut vault = Vault::open_with(store, lock, cheap(), &mut rng())?;
    vault.transact(|tx| tx.scan(Table::Inbox, &[], 9)).map(plain)
}

fn all(store: &mut impl Store) -> Vec<(Table, Rows)> {
    Table::ALL.iter().map(|table| (*table, scan(store, *table, &[], usize::MAX))).collect()
}

fn lock_row(store: &mut Memory) -> Vec<u8> {
    get(store, Table::Vault, b"lock").unwrap()
}

fn with_lock_row(store: &Memory, row: &[u8]) -> Memory {
    let mut store = store.clone();
    store.transact(|tx| tx.put(Table::Vault, b"lock", row)).unwrap();
    store
}

#[test]
fn only_what_it_is_locked_with_opens_it() {
    for (right, wrong) in [
        (
            Lock::Passphrase("rose"),
            [Lock::Passphrase("Rose"), Lock::Passphrase(""), Lock::Key(&KEY)],
        ),
        (Lock::Key(&KEY), [Lock::Key(&[8; 32]), Lock::Key(&[0; 32]), Lock::Passphrase("rose")]),
    ] {
        let mut store = filled(right);
        let before = all(&mut store);
        for wrong in wrong {
            assert_eq!(
                open(&mut store, wrong),
                Err(Error::WrongPassphrase),
                "{right:?}, {wrong:?}"
            );
        }
        assert!(all(&mut store) == before);
        let expected = [(b"a".to_vec(), b"first".to_vec()), (b"b".to_vec(), b"second".to_vec())];
        assert_eq!(open(&mut store, right).unwrap(), expected);
    }
}

#[test]
fn another_lock_rewrites_one_row() {
    let locks = [Lock::Passphrase("one"), Lock::Key(&KEY), Lock::Passphrase("two")];
    let mut store = filled(locks[0]);
    for pair in locks.windows(2) {
        let before = all(&mut store);
        let mut vault = Vault::open_with(&mut store, pair[0], cheap(), &mut rng()).unwrap();
        vault.change_lock(pair[1], &mut Seeded::new(2, "another lock")).unwrap();
        // It goes on as before.
        vault.transact(|tx| tx.put(Table::Seen, b"new", b"row")).unwrap();
        vault.transact(|tx| tx.delete(Table::Seen, b"new")).unwrap();
        assert_eq!(open(&mut store, pair[0]), Err(Error::WrongPassphrase));
        assert_eq!(open(&mut store, pair[1]).unwrap().len(), 2);
        let changed: Vec<Table> = before
            .iter()
            .zip(all(&mut store))
            .filter(|(old, new)| *old != new)
            .map(|(old, _)| old.0)
            .collect();
        assert_eq!(changed, [Table::Vault]);
        assert_eq!(scan(&mut store, Table::Vault, &[], 9).len(), 1);
    }
}

/// Memory in KiB and passes.
fn stored_cost(store: &mut Memory) -> (u32, u32) {
    let row = lock_row(store);
    let number = |at: usize| u32::from_be_bytes(*row[at..].first_chunk().unwrap());
    (number(23), number(27))
}

#[test]
fn the_cost_is_raised_when_it_is_opened_and_never_lowered() {
    let lock = Lock::Passphrase("rose");
    let mut store = filled(lock);
    assert_eq!(stored_cost(&mut store), (8 << 10, 1));
    for (cost, stored) in [
        (Argon2Cost::new(16, 2), (16 << 10, 2)),
        (Argon2Cost::new(8, 1), (16 << 10, 2)),
        (Argon2Cost::new(8, 3), (16 << 10, 3)),
        (Argon2Cost::new(0, 0), (16 << 10, 3)),
    ] {
        drop(Vault::open_with(&mut store, lock, cost, &mut rng()).unwrap());
        assert_eq!(stored_cost(&mut store), stored, "{cost:?}");
        assert_eq!(open(&mut store, lock).unwrap().len(), 2);
    }
    let before = all(&mut store);
    let wrong =
        Vault::open_with(&mut store, Lock::Passphrase("?"), Argon2Cost::new(32, 2), &mut rng());
    assert_eq!(wrong.err(), Some(Error::WrongPassphrase));
    assert!(all(&mut store) == before);
}

#[test]
fn a_damaged_lock_opens_nothing() {
    for lock in [Lock::Passphrase("rose"), Lock::Key(&KEY)] {
        let mut store = filled(lock);
        let row = lock_row(&mut store);
        for at in 0..row.len() {
            for flip in [0x01, 0x80] {
                let mut damaged = row.clone();
                damaged[at] ^= flip;
                let error = open(&mut with_lock_row(&store, &damaged), lock).unwrap_err();
                let newer = at == 0 && error == StoreFault::Newer.into();
                assert!(
                    newer || [Error::WrongPassphrase, CORRUPT].contains(&error),
                    "{lock:?}, byte {at}: {error:?}"
                );
            }
            let error = open(&mut with_lock_row(&store, &row[..at]), lock).unwrap_err();
            assert!(
                [Error::WrongPassphrase, CORRUPT].contains(&error),
                "{lock:?}, {at} bytes: {error:?}"
            );
        }
        let longer = [&row[..], &[0]].concat();
        assert!(open(&mut with_lock_row(&store, &longer), lock).is_err());
        assert_eq!(open(&mut store, lock).unwrap().len(), 2);
    }
}

#[test]
fn an_absurd_cost_is_refused_before_it_is_paid() {
    let mut store = filled(Lock::Passphrase("rose"));
    let row = lock_row(&mut store);
    // Where the number is, and what it is made: memory, passes, lanes.
    let (memory, passes, lanes) = (23, 27, 31);
    for (at, number) in [
        (memory, u32::MAX),
        (memory, (1 << 20) + 1),
        (memory, 0),
        (memory, 7),
        (passes, u32::MAX),
        (passes, 65),
        (passes, 0),
        (lanes, u32::MAX),
        (lanes, 17),
        (lanes, 0),
    ] {
        let mut absurd = row.clone();
        absurd[at..at + 4].copy_from_slice(&number.to_be_bytes());
        let opened = open(&mut with_lock_row(&store, &absurd), Lock::Passphrase("rose"));
        assert_eq!(opened, Err(CORRUPT), "{number} at {at}");
    }
}

#[test]
fn rows_without_a_lock_are_no_vault() {
    let mut store = filled(Lock::Key(&KEY));
    store.transact(|tx| tx.delete(Table::Vault, b"lock")).unwrap();
    let before = all(&mut store);
    assert_eq!(open(&mut store, Lock::Key(&KEY)), Err(StoreFault::NotAVault.into()));
    assert!(all(&mut store) == before);
}

/// Fails from this transaction on.
struct Failing<'a>(&'a mut Memory, usize);

impl Store for Failing<'_> {
    fn transact<T, E: From<Error>>(
        &mut self,
        work: impl FnOnce(&mut dyn Transaction) -> Result<T, E>,
    ) -> Result<T, E> {
        self.1 = self.1.checked_sub(1).ok_or(Error::from(StoreFault::Io))?;
        self.0.transact(work)
    }
}

#[test]
fn a_first_opening_that_was_interrupted_can_be_done_again() {
    let mut memory = Memory::new();
    let mut after = 0;
    // Interrupted before each of its transactions.
    while let Err(error) =
        Vault::open_with(Failing(&mut memory, after), Lock::Key(&KEY), cheap(), &mut rng())
    {
        assert_eq!(error, Error::from(StoreFault::Io));
        assert!(all(&mut memory).iter().all(|(_, rows)| rows.is_empty()));
        after += 1;
    }
    assert!(after > 0);
    assert_eq!(open(&mut memory, Lock::Key(&[1; 32])), Err(Error::WrongPassphrase));
    assert_eq!(open(&mut memory, Lock::Key(&KEY)), Ok(Vec::new()));
}

/// What the vault reads, after somebody did this to its store.
fn after(
    tamper: impl FnOnce(&mut dyn Transaction) -> Result<(), Error>,
) -> [Result<Rows, Error>; 2] {
    let mut store = filled(Lock::Key(&KEY));
    store.transact(tamper).unwrap();
    let mut vault = Vault::open(&mut store, Lock::Key(&KEY), &mut rng()).unwrap();
    let got = vault.transact(|tx| tx.get(Table::Inbox, b"a"));
    let got =
        got.map(|value| value.map(|value| (b"a".to_vec(), value.to_vec())).into_iter().collect());
    [got, vault.transact(|tx| tx.scan(Table::Inbox, b"a", 9)).map(plain)]
}

#[test]
fn a_row_that_is_not_in_its_place_is_corrupt() {
    let intact = || Ok(vec![(b"a".to_vec(), b"first".to_vec())]);
    assert_eq!(after(|_| Ok(())), [intact(), intact()]);
    // From another key, and from another table.
    for (table, key) in [(Table::Inbox, b"b"), (Table::Outbox, b"a")] {
        let read = after(|tx| {
            let other = tx.get(table, key)?.unwrap();
            tx.put(Table::Inbox, b"a", &other)
        });
        assert_eq!(read, [Err(CORRUPT), Err(CORRUPT)], "{table:?}");
    }
    // From the same place in another vault.
    let mut other = Memory::new();
    let mut vault = Vault::open(&mut other, Lock::Key(&KEY), &mut Seeded::new(2, "vault")).unwrap();
    vault.transact(|tx| tx.put(Table::Inbox, b"a", b"first")).unwrap();
    let foreign = get(&mut other, Table::Inbox, b"a").unwrap();
    assert_eq!(after(|tx| tx.put(Table::Inbox, b"a", &foreign)), [Err(CORRUPT), Err(CORRUPT)]);
}

#[test]
fn a_damaged_row_is_corrupt() {
    let row = get(&mut filled(Lock::Key(&KEY)), Table::Inbox, b"a").unwrap();
    for at in 0..row.len() {
        let mut flipped = row.clone();
        flipped[at] ^= 0x10;
        for damaged in [&flipped, &row[..at]] {
            assert_eq!(
                after(|tx| tx.put(Table::Inbox, b"a", damaged)),
                [Err(CORRUPT), Err(CORRUPT)],
                "{at}"
            );
        }
    }
}

#[test]
fn the_lock_is_not_for_the_app() {
    let mut store = filled(Lock::Key(&KEY));
    let mut vault = Vault::open(&mut store, Lock::Key(&KEY), &mut rng()).unwrap();
    let refused = Err(Error::NotPermitted);
    assert_eq!(vault.transact(|tx| tx.put(Table::Vault, b"lock", b"")), refused);
    assert_eq!(vault.transact(|tx| tx.delete(Table::Vault, b"lock")), refused);
    assert_eq!(vault.transact(|tx| tx.get(Table::Vault, b"lock").map(drop)), refused);
    assert_eq!(vault.transact(|tx| tx.scan(Table::Vault, &[], 1).map(drop)), refused);
}

#[test]
fn no_two_values_are_sealed_under_one_nonce() {
    let mut store = filled(Lock::Key(&KEY));
    let mut nonces = BTreeSet::new();
    let rng = &mut rng();
    for _ in 0..3 {
        let mut vault = Vault::open(&mut store, Lock::Key(&KEY), rng).unwrap();
        for key in 0..50_u8 {
            vault.transact(|tx| tx.put(Table::Log, &[key], b"the same")).unwrap();
        }
        let rows = scan(&mut store, Table::Log, &[], usize::MAX);
        nonces.extend(rows.into_iter().map(|(_, sealed)| sealed[4..28].to_vec()));
    }
    assert_eq!(nonces.len(), 150);
}

/// Which of these words are in the file after a conversation.
fn words_at_rest<S: Store>(name: &str, wrap: impl FnOnce(Redb) -> S) -> Vec<&'static str> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    let rng = &mut rng();
    let (now, post) = (UnixTime::from_secs(NOW).unwrap(), &mut Post::default());
    let mut alice =
        Client::create(wrap(Redb::open(&path).unwrap()), "alice-wonderland", now, rng).unwrap();
    let mut bob = Client::create(Memory::new(), "bob-the-builder", now, rng).unwrap();
    post.settle(&mut bob, now, rng);
    alice.write("bob-the-builder", b"meet me under the rose", now, rng).unwrap();
    post.settle(&mut alice, now, rng);
    drop(post.fetch(&mut bob, now, rng));
    bob.write("alice-wonderland", b"at nine o'clock", now, rng).unwrap();
    post.settle(&mut bob, now, rng);
    drop(post.fetch(&mut alice, now, rng));
    assert_eq!(alice.inbox(9).unwrap().len(), 1);
    drop(alice);
    let file = fs::read(&path).unwrap();
    let words = ["alice-wonderland", "bob-the-builder", "under the rose", "nine o'clock"];
    let is_there = |word: &&str| file.windows(word.len()).any(|bytes| bytes == word.as_bytes());
    words.into_iter().filter(is_there).collect()
}

#[test]
fn nothing_of_a_conversation_can_be_read_in_the_file() {
    let sealed =
        words_at_rest("vault", |redb| Vault::open(redb, Lock::Key(&KEY), &mut rng()).unwrap());
    assert_eq!(sealed, [""; 0]);
    // So it would have been found.
    assert_eq!(words_at_rest("plain", |redb| redb).len(), 4);
}

/// redb checks no sums where it reads, and panics over some pages that make no sense: the vault's
/// tags are what notices.
#[test]
fn a_damaged_file_gives_no_wrong_value() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chat");
    let lock = Lock::Key(&KEY);
    let mut vault = Vault::open(Redb::open(&path).unwrap(), lock, &mut rng()).unwrap();
    let write = |tx: &mut dyn Transaction| {
        (0..100).try_for_each(|key| tx.put(Table::Inbox, &[key], &[key; 500]))
    };
    vault.transact(write).unwrap();
    drop(vault);
    let whole = fs::read(&path).unwrap();
    let used: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
    let rng = &mut rng();
    let (mut read, mut noticed) = (0, 0);
    for turn in 0..60 {
        let mut damaged = whole.clone();
        let at = used[rng.below(used.len())];
        damaged[at] ^= [1, 0x10, 0xff][rng.below(3)];
        fs::write(&path, &damaged).unwrap();
        let read_all = || -> Result<Rows, Error> {
            let mut vault = Vault::open(Redb::open(&path)?, lock, &mut self::rng())?;
            vault.transact(|tx| tx.scan(Table::Inbox, &[], usize::MAX)).map(plain)
        };
        match catch_unwind(read_all) {
            Ok(Ok(rows)) => {
                read += 1;
                let is_right = |(key, value): &(Vec<u8>, Vec<u8>)| *value == [key[0]; 500];
                assert!(rows.iter().all(is_right), "turn {turn}, byte {at}");
            }
            Ok(Err(_)) | Err(_) => noticed += 1,
        }
    }
    assert!(read > 0 && noticed > 0, "{read} read, {noticed} noticed");
    println!("{read} read, {noticed} noticed");
}
