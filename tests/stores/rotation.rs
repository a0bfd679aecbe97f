//! The keys of a vault are renewed, row by row, while it is used.

use std::collections::BTreeMap;

use subrosa::store::{
    Lock, Memory, Overlay, Ran, Rotation, Store, StoreFault, Table, Transaction, Vault, VaultKey,
};
use subrosa::{Error, Remedy};

use crate::network::Seeded;
use crate::{cheap, get, read, scan};

const OLD: Lock<'_> = Lock::Key(&[1; 32]);
const NEW: Lock<'_> = Lock::Key(&[2; 32]);

fn rng(seed: u64) -> Seeded {
    Seeded::new(seed, "rotation")
}

fn open<S: Store>(store: S, lock: Lock<'_>, seed: u64) -> Vault<S> {
    Vault::open_with(store, lock, cheap(), &mut rng(seed)).unwrap()
}

type Rows = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// Keys of every shape: none, one byte, numbers, long ones with one beginning, and the highest.
fn keys() -> Vec<(Table, Vec<u8>)> {
    let mut keys =
        vec![(Table::Account, vec![]), (Table::App, vec![0xff]), (Table::App, vec![0xff; 128])];
    keys.extend((0..200_u64).map(|number| (Table::Inbox, number.to_be_bytes().to_vec())));
    keys.extend((0..=255).map(|byte| (Table::Seen, vec![byte])));
    keys.extend((0..40).map(|byte| (Table::Session, [&[9; 127][..], &[byte]].concat())));
    keys.extend((1..=64).map(|length| (Table::Device, vec![0xff; length])));
    keys
}

fn filled(vault: &mut impl Store) -> Rows {
    let rows: Rows =
        keys().into_iter().enumerate().map(|(at, row)| (row, at.to_be_bytes().to_vec())).collect();
    vault
        .transact(|tx| rows.iter().try_for_each(|((table, key), value)| tx.put(*table, key, value)))
        .unwrap();
    rows
}

fn all(store: &mut impl Store) -> Rows {
    let tables = Table::ALL.iter().copied().filter(|table| *table != Table::Vault);
    let rows = tables.flat_map(|table| {
        scan(store, table, &[], usize::MAX)
            .into_iter()
            .map(move |(key, value)| ((table, key), value))
    });
    rows.collect()
}

/// How many rows are sealed under each key.
fn numbers(store: &mut Memory) -> BTreeMap<u32, usize> {
    let mut count = BTreeMap::new();
    for sealed in all(store).values() {
        *count.entry(u32::from_be_bytes(*sealed.first_chunk().unwrap())).or_default() += 1;
    }
    count
}

#[test]
fn every_row_is_under_the_new_key_in_the_end_however_often_it_is_opened_between() {
    for most in [3, 50, 10_000] {
        let mut store = Memory::new();
        let mut rows = filled(&mut open(&mut store, OLD, 1));
        open(&mut store, OLD, 2).change_lock(NEW, &mut rng(3)).unwrap();
        assert_eq!(numbers(&mut store), [(1, rows.len())].into());
        let (mut steps, mut last, mut before) = (0, 0, rows.len());
        loop {
            let mut vault = open(&mut store, NEW, 4 + steps);
            // Each time would take a minute.
            if steps % 40 == 0 {
                assert!(all(&mut vault) == rows, "step {steps}");
            }
            // It is used meanwhile.
            let key = steps.to_be_bytes().to_vec();
            vault.transact(|tx| tx.put(Table::Outbox, &key, b"meanwhile")).unwrap();
            rows.insert((Table::Outbox, key), b"meanwhile".to_vec());
            match vault.rotate(most).unwrap() {
                Rotation::Unfinished { rows: done, .. } => {
                    // A step that finds no rows behind long keys has gone on all the same: there is
                    // an end.
                    assert!(done >= last, "{done} after {last}");
                    let old = *numbers(&mut store).get(&1).unwrap_or(&0);
                    assert!(old + most + 16 >= before, "{old} of {before}: more than asked for");
                    before = old;
                    last = done;
                }
                _ => break,
            }
            steps += 1;
            assert!(steps < 10_000);
        }
        println!("{most} at once: {steps} steps");
        assert_eq!(numbers(&mut store), [(2, rows.len())].into());
        assert!(all(&mut open(&mut store, NEW, 0)) == rows);
        // The older key is gone, and there is nothing left of the work.
        assert_eq!(get(&mut store, Table::Vault, b"lock").unwrap().len(), 22 + 125 + 1 + 32);
        assert_eq!(scan(&mut store, Table::Vault, &[], 9).len(), 1);
        assert_eq!(open(&mut store, NEW, 0).rotate(1), Ok(Rotation::Finished));
    }
}

#[test]
fn a_step_that_is_not_committed_is_done_again() {
    let mut store = Memory::new();
    let rows = filled(&mut open(&mut store, OLD, 1));
    open(&mut store, OLD, 2).change_lock(NEW, &mut rng(3)).unwrap();
    let mut key = store.transact(|tx| VaultKey::unlock(tx, NEW, cheap(), &mut rng(4))).unwrap();
    let mut finished = false;
    while !finished {
        let crashed =
            store.transact(|tx| key.rotate(tx, 100).and(Err::<(), _>(Error::NotPermitted)));
        assert_eq!(crashed, Err(Error::NotPermitted));
        assert!(all(&mut open(&mut store, NEW, 5)) == rows);
        finished = store.transact(|tx| key.rotate(tx, 100)).unwrap() == Rotation::Finished;
    }
    assert_eq!(numbers(&mut store), [(2, rows.len())].into());
    assert!(all(&mut open(&mut store, NEW, 5)) == rows);
}

#[test]
fn keys_that_are_renewed_again_before_the_end_all_go() {
    let mut store = Memory::new();
    let mut vault = open(&mut store, OLD, 1);
    let mut rows = filled(&mut vault);
    for turn in 0..4_u8 {
        vault
            .change_lock(if turn % 2 == 0 { NEW } else { OLD }, &mut rng(u64::from(turn) + 2))
            .unwrap();
        vault.transact(|tx| tx.put(Table::Draft, &[turn], b"new")).unwrap();
        rows.insert((Table::Draft, vec![turn]), b"new".to_vec());
        assert!(vault.rotate(150).unwrap() != Rotation::Finished);
        assert!(all(&mut vault) == rows);
    }
    drop(vault);
    let mut vault = open(&mut store, OLD, 9);
    assert!(all(&mut vault) == rows);
    while vault.rotate(150).unwrap() != Rotation::Finished {}
    drop(vault);
    assert_eq!(numbers(&mut store), [(5, rows.len())].into());
    assert!(all(&mut open(&mut store, OLD, 9)) == rows);
}

#[test]
fn a_damaged_row_does_not_hold_it_up() {
    let mut store = Memory::new();
    let rows = filled(&mut open(&mut store, OLD, 1));
    let key = 7_u64.to_be_bytes();
    let mut sealed = get(&mut store, Table::Inbox, &key).unwrap();
    sealed[40] ^= 1;
    store.transact(|tx| tx.put(Table::Inbox, &key, &sealed)).unwrap();
    let mut vault = open(&mut store, OLD, 2);
    vault.change_lock(NEW, &mut rng(3)).unwrap();
    while vault.rotate(100).unwrap() != Rotation::Finished {}
    assert_eq!(vault.transact(|tx| tx.get(Table::Inbox, &key)), Err(StoreFault::Corrupt.into()));
    drop(vault);
    assert_eq!(get(&mut store, Table::Inbox, &key), Some(sealed));
    assert_eq!(numbers(&mut store), [(1, 1), (2, rows.len() - 1)].into());
}

#[test]
fn a_key_that_was_renewed_elsewhere_writes_nothing_until_it_is_unlocked_again() {
    let mut store = Memory::new();
    let [mut one, mut other] = [1, 2].map(|seed| {
        store.transact(|tx| VaultKey::unlock(tx, OLD, cheap(), &mut rng(seed))).unwrap()
    });
    let mut write = |key: &mut VaultKey| {
        store.transact(|tx| key.within(tx, |tx| tx.put(Table::Inbox, b"key", b"value")))
    };
    write(&mut one).unwrap();
    write(&mut other).unwrap();
    one = store.transact(|tx| one.set_locks(tx, &[NEW], &mut rng(3))).unwrap();
    let mut write = |key: &mut VaultKey| {
        store.transact(|tx| key.within(tx, |tx| tx.put(Table::Inbox, b"key", b"later")))
    };
    let refused = write(&mut other).unwrap_err();
    assert_eq!((refused.remedy(), refused), (Remedy::Reopen, StoreFault::Relocked.into()));
    write(&mut one).unwrap();
    let read = store.transact(|tx| other.within(tx, |tx| tx.get(Table::Inbox, b"key")));
    assert_eq!(read, Err(StoreFault::Relocked.into()));
    let relocked = Err(StoreFault::Relocked.into());
    assert_eq!(store.transact(|tx| other.rotate(tx, 1).map(drop)), relocked);
    assert_eq!(store.transact(|tx| other.add_lock(tx, OLD, &mut rng(4)).map(drop)), relocked);
    other = store.transact(|tx| VaultKey::unlock(tx, NEW, cheap(), &mut rng(5))).unwrap();
    let read = store.transact(|tx| other.within(tx, |tx| tx.get(Table::Inbox, b"key"))).unwrap();
    assert_eq!(read.unwrap().as_slice(), b"later");
}

#[test]
fn what_is_announced_over_an_overlay_is_read_at_once_with_the_lock() {
    let mut store = Memory::new();
    let mut key = store.transact(|tx| VaultKey::unlock(tx, OLD, cheap(), &mut rng(1))).unwrap();
    let mut overlay = Overlay::new();
    let mut runs = 0;
    let changes = loop {
        runs += 1;
        let ran = overlay.run(|tx: &mut dyn Transaction| {
            key.within(tx, |tx| {
                tx.prefetch(&[(Table::Inbox, b"a"), (Table::Inbox, b"b")])?;
                tx.get(Table::Inbox, b"a")?;
                tx.get(Table::Inbox, b"b")?;
                tx.put(Table::Inbox, b"a", b"value")
            })
        });
        match ran {
            Ran::Missing(missing) => {
                assert_eq!(missing.len(), 3);
                for missing in missing {
                    let rows = store.transact(|tx| read(tx, &missing)).unwrap();
                    overlay.supply(missing, rows);
                }
            }
            Ran::Done(done, changes) => {
                done.unwrap();
                break changes;
            }
        }
    };
    assert_eq!(runs, 2);
    // So a writer whose key is old conflicts with who renewed it.
    assert!(changes.relied_on().iter().any(|(what, _)| what.table() == Table::Vault));
}
