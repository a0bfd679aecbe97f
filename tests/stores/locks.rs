//! The locks of a vault: several, none too many, and what an old one still opens.

use subrosa::Error;
use subrosa::store::{Lock, LockKind, Memory, RecoveryCode, Store, StoreFault, Table, Vault};

use crate::network::Seeded;
use crate::{cheap, get};

fn rng() -> Seeded {
    Seeded::new(1, "locks")
}

fn open(store: &mut Memory, lock: Lock<'_>) -> Result<Vault<Memory>, Error> {
    Vault::open_with(store.clone(), lock, cheap(), &mut rng())
}

fn put(vault: &mut impl Store, key: &[u8]) {
    vault.transact(|tx| tx.put(Table::Inbox, key, b"a secret")).unwrap();
}

fn read(vault: &mut impl Store, key: &[u8]) -> Result<bool, Error> {
    vault.transact(|tx| tx.get(Table::Inbox, key)).map(|value| value.is_some())
}

const CORRUPT: StoreFault = StoreFault::Corrupt;

#[test]
fn each_of_several_locks_opens_it_and_a_removed_one_does_not() {
    let rng = &mut rng();
    let code = RecoveryCode::generate(rng);
    let (passphrase, key) = (Lock::Passphrase("rose"), Lock::Key(&[7; 32]));
    let mut store = Memory::new();
    let mut vault = Vault::open_with(&mut store, passphrase, cheap(), rng).unwrap();
    put(&mut vault, b"1");
    let of_key = vault.add_lock(key, rng).unwrap();
    let of_code = vault.add_lock(Lock::Code(&code), rng).unwrap();
    let kinds: Vec<_> = vault.locks().unwrap().iter().map(|lock| lock.kind).collect();
    assert_eq!(kinds, [LockKind::Passphrase, LockKind::Key, LockKind::Code]);
    put(&mut vault, b"2");
    for lock in [passphrase, key, Lock::Code(&code)] {
        let mut vault = open(&mut store, lock).unwrap();
        assert_eq!(
            (read(&mut vault, b"1"), read(&mut vault, b"2")),
            (Ok(true), Ok(true)),
            "{lock:?}"
        );
    }
    let other = RecoveryCode::generate(rng);
    for wrong in [Lock::Passphrase("rosa"), Lock::Key(&[8; 32]), Lock::Code(&other)] {
        assert_eq!(open(&mut store, wrong).err(), Some(Error::WrongPassphrase), "{wrong:?}");
    }

    let mut vault = Vault::open_with(&mut store, Lock::Code(&code), cheap(), rng).unwrap();
    vault.remove_lock(of_key).unwrap();
    assert_eq!(vault.remove_lock(of_key), Err(Error::BadLocks));
    assert_eq!(open(&mut store, key).err(), Some(Error::WrongPassphrase));
    let mut vault = Vault::open_with(&mut store, passphrase, cheap(), rng).unwrap();
    vault.remove_lock(of_code).unwrap();
    let [last] = vault.locks().unwrap()[..] else { panic!("one is left") };
    assert_eq!(vault.remove_lock(last.id), Err(Error::BadLocks));
    put(&mut vault, b"3");
    assert_eq!(read(&mut open(&mut store, passphrase).unwrap(), b"3"), Ok(true));
}

#[test]
fn there_are_eight_locks_at_most() {
    let rng = &mut rng();
    let keys: Vec<[u8; 32]> = (0..9).map(|key| [key; 32]).collect();
    let mut store = Memory::new();
    let mut vault = Vault::open_with(&mut store, Lock::Key(&keys[0]), cheap(), rng).unwrap();
    for key in &keys[1..8] {
        vault.add_lock(Lock::Key(key), rng).unwrap();
    }
    assert_eq!(vault.add_lock(Lock::Key(&keys[8]), rng), Err(Error::BadLocks));
    let all: Vec<Lock<'_>> = keys.iter().map(Lock::Key).collect();
    assert_eq!(vault.set_locks(&all, rng), Err(Error::BadLocks));
    assert_eq!(vault.set_locks(&[], rng), Err(Error::BadLocks));
    assert_eq!(vault.locks().unwrap().len(), 8);
    vault.set_locks(&all[1..], rng).unwrap();
    let opens: Vec<bool> = all.iter().map(|lock| open(&mut store, *lock).is_ok()).collect();
    assert_eq!(opens, [[false].as_slice(), &[true; 8]].concat());
}

#[test]
fn a_passphrase_of_no_or_one_character_locks_nothing() {
    let rng = &mut rng();
    let mut store = Memory::new();
    for weak in ["", "x", "ß"] {
        let opened = Vault::open_with(&mut store, Lock::Passphrase(weak), cheap(), rng);
        assert_eq!(opened.err(), Some(Error::WeakPassphrase), "{weak:?}");
        assert_eq!(get(&mut store, Table::Vault, b"lock"), None);
    }
    let mut vault = Vault::open_with(&mut store, Lock::Passphrase("xy"), cheap(), rng).unwrap();
    for weak in ["", "x"] {
        assert_eq!(vault.add_lock(Lock::Passphrase(weak), rng), Err(Error::WeakPassphrase));
        assert_eq!(vault.change_lock(Lock::Passphrase(weak), rng), Err(Error::WeakPassphrase));
    }
    put(&mut vault, b"1");
    assert!(open(&mut store, Lock::Passphrase("xy")).is_ok());
}

/// The right passphrase and a damaged row: never "wrong passphrase", or people would look for
/// another one.
#[test]
fn what_is_damaged_behind_a_right_lock_is_corrupt() {
    let mut store = Memory::new();
    let lock = Lock::Passphrase("rose");
    drop(Vault::open_with(&mut store, lock, cheap(), &mut rng()).unwrap());
    let row = get(&mut store, Table::Vault, b"lock").unwrap();
    // version || id || number || count, a slot of 125 bytes, a count and the commitment.
    assert_eq!(row.len(), 22 + 125 + 1 + 32);
    let damaged = |at: usize| {
        let (mut store, mut row) = (store.clone(), row.clone());
        row[at] ^= 1;
        store.transact(|tx| tx.put(Table::Vault, b"lock", &row)).unwrap();
        open(&mut store, lock).err()
    };
    let (number, sealed) = (17..21, 22 + 77..22 + 125);
    for at in number.chain(sealed).chain(148..row.len()) {
        assert_eq!(damaged(at), Some(CORRUPT.into()), "byte {at}");
    }
    // The vault's id, the salt and the check: another passphrase would be right.
    for at in (1..17).chain(22 + 13..22 + 77) {
        assert_eq!(damaged(at), Some(Error::WrongPassphrase), "byte {at}");
    }
}

#[test]
fn a_lock_of_another_vault_opens_nothing_here() {
    let lock = Lock::Key(&[7; 32]);
    let [mut one, mut other] = [1, 2].map(|seed| {
        let mut store = Memory::new();
        let rng = &mut Seeded::new(seed, "locks");
        put(&mut Vault::open_with(&mut store, lock, cheap(), rng).unwrap(), b"1");
        store
    });
    let row = get(&mut other, Table::Vault, b"lock").unwrap();
    one.transact(|tx| tx.put(Table::Vault, b"lock", &row)).unwrap();
    assert_eq!(read(&mut open(&mut one, lock).unwrap(), b"1"), Err(CORRUPT.into()));
    // The slot of one under the id of the other.
    let mut mixed = get(&mut open_row(&mut one, &row), Table::Vault, b"lock").unwrap();
    mixed[1] ^= 1;
    one.transact(|tx| tx.put(Table::Vault, b"lock", &mixed)).unwrap();
    assert_eq!(open(&mut one, lock).err(), Some(Error::WrongPassphrase));
}

fn open_row(store: &mut Memory, row: &[u8]) -> Memory {
    let mut store = store.clone();
    store.transact(|tx| tx.put(Table::Vault, b"lock", row)).unwrap();
    store
}

/// A thief has the lock row from an old backup and the old passphrase, and gets the store as it is
/// now.
#[test]
fn an_old_lock_row_opens_nothing_that_was_written_after_the_lock_was_changed() {
    let rng = &mut rng();
    let (old, new) = (Lock::Passphrase("old one"), Lock::Passphrase("new one"));
    let mut store = Memory::new();
    let mut vault = Vault::open_with(&mut store, old, cheap(), rng).unwrap();
    put(&mut vault, b"before");
    drop(vault);
    let old_row = get(&mut store, Table::Vault, b"lock").unwrap();
    let mut vault = Vault::open_with(&mut store, old, cheap(), rng).unwrap();
    vault.change_lock(new, rng).unwrap();
    put(&mut vault, b"after");
    assert_eq!(read(&mut vault, b"before"), Ok(true));
    drop(vault);

    let mut thief = open(&mut open_row(&mut store, &old_row), old).unwrap();
    assert_eq!(read(&mut thief, b"after"), Err(CORRUPT.into()));
    // As the documentation says.
    assert_eq!(read(&mut thief, b"before"), Ok(true));
    let mut vault = Vault::open_with(&mut store, new, cheap(), rng).unwrap();
    while vault.rotate(1).unwrap() != subrosa::store::Rotation::Finished {}
    drop(vault);
    let mut thief = open(&mut open_row(&mut store, &old_row), old).unwrap();
    assert_eq!(read(&mut thief, b"before"), Err(CORRUPT.into()));
    let mut vault = open(&mut store, new).unwrap();
    assert_eq!((read(&mut vault, b"before"), read(&mut vault, b"after")), (Ok(true), Ok(true)));
}

/// As the documentation says: this is what `remove_lock` does not do, and `set_locks` does.
#[test]
fn an_old_lock_row_opens_what_was_written_after_its_lock_was_removed() {
    let rng = &mut rng();
    let (kept, lost) = (Lock::Key(&[1; 32]), Lock::Key(&[2; 32]));
    let mut store = Memory::new();
    let mut vault = Vault::open_with(&mut store, kept, cheap(), rng).unwrap();
    let id = vault.add_lock(lost, rng).unwrap();
    drop(vault);
    let old_row = get(&mut store, Table::Vault, b"lock").unwrap();
    let mut vault = Vault::open_with(&mut store, kept, cheap(), rng).unwrap();
    vault.remove_lock(id).unwrap();
    put(&mut vault, b"1");
    vault.set_locks(&[kept], rng).unwrap();
    put(&mut vault, b"2");
    let mut thief = open(&mut open_row(&mut store, &old_row), lost).unwrap();
    assert_eq!((read(&mut thief, b"1"), read(&mut thief, b"2")), (Ok(true), Err(CORRUPT.into())));
}

#[test]
fn a_recovery_code_forgives_form_and_no_typos() {
    let code = RecoveryCode::generate(&mut rng());
    let text = code.to_text();
    assert_eq!(format!("{code:?}"), "RecoveryCode");
    assert_eq!(text.split('-').map(str::len).collect::<Vec<_>>(), [4; 10]);
    for typed in
        [text.to_uppercase(), text.replace('-', ""), format!("  {}\n", text.replace('-', " - "))]
    {
        assert!(typed.parse::<RecoveryCode>().unwrap() == code, "{typed}");
    }
    let letters: Vec<char> = text.chars().collect();
    for at in (0..letters.len()).filter(|at| letters[*at] != '-') {
        for other in ['a', 'b', '7', '0', 'é'] {
            let mut typed = letters.clone();
            typed[at] = other;
            let parsed = typed.iter().collect::<String>().parse::<RecoveryCode>();
            if other == letters[at] {
                assert!(parsed.unwrap() == code);
            } else {
                assert_eq!(parsed.err(), Some(Error::BadRecoveryCode), "{other} at {at}");
            }
        }
    }
    for wrong in ["", "aaaa", &text[..48], &format!("{}a", *text)] {
        assert_eq!(wrong.parse::<RecoveryCode>().err(), Some(Error::BadRecoveryCode), "{wrong}");
    }
}
