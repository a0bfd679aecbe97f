//! Every store does the same, and a transaction happens whole or not at all.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a panic is how a test fails"
)]

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use subrosa::Error;
use subrosa::store::{
    Argon2Cost, Lock, Memory, Missing, Overlay, Ran, Redb, Row, Store, Table, Transaction, Vault,
};

#[path = "stores/conformance.rs"]
mod conformance;
#[path = "stores/file.rs"]
mod file;
#[path = "stores/locks.rs"]
mod locks;
#[path = "support/network.rs"]
mod network;
#[path = "support/post.rs"]
mod post;
#[path = "stores/remedies.rs"]
mod remedies;
#[path = "stores/rotation.rs"]
mod rotation;
#[path = "stores/vault.rs"]
mod vault;

use network::{Seed, Seeded};

/// The least that there is: where a passphrase's strength is not the point.
fn cheap() -> Argon2Cost {
    Argon2Cost::new(8, 1)
}

type Work<'a> = dyn FnMut(&mut dyn Transaction) -> Result<(), Error> + 'a;

/// What can do a transaction, if need be by doing the work several times.
trait Subject {
    fn run(&mut self, work: &mut Work<'_>) -> Result<(), Error>;
}

impl<S: Store> Subject for S {
    fn run(&mut self, work: &mut Work<'_>) -> Result<(), Error> {
        self.transact(work)
    }
}

/// Rows in memory, reached through an overlay.
struct Overlaid(Memory);

impl Subject for Overlaid {
    fn run(&mut self, work: &mut Work<'_>) -> Result<(), Error> {
        let mut overlay = Overlay::new();
        loop {
            match overlay.run(&mut *work) {
                Ran::Missing(missing) => {
                    for missing in missing {
                        let rows = self.0.transact(|tx| read(tx, &missing))?;
                        overlay.supply(missing, rows);
                    }
                }
                Ran::Done(done, changes) => {
                    done?;
                    return self.0.transact(|tx| {
                        for (relied_on, rows) in changes.relied_on() {
                            assert_eq!(&read(tx, relied_on)?, rows, "{relied_on:?}");
                        }
                        for change in changes.writes() {
                            match &change.value {
                                Some(value) => tx.put(change.table, &change.key, value)?,
                                None => tx.delete(change.table, &change.key)?,
                            }
                        }
                        Ok(())
                    });
                }
            }
        }
    }
}

fn read(tx: &mut dyn Transaction, missing: &Missing) -> Result<Vec<Row>, Error> {
    match missing {
        Missing::Row { table, key } => {
            let value = tx.get(*table, key)?;
            Ok(value.map(|value| (key.clone(), value)).into_iter().collect())
        }
        Missing::Scan { table, prefix, most } | Missing::Peek { table, prefix, most } => {
            tx.scan(*table, prefix, *most)
        }
        other => panic!("{other:?}"),
    }
}

/// Does this with an empty store of each kind.
fn each(check: impl Fn(&mut dyn Subject)) {
    let folder = tempfile::tempdir().unwrap();
    let redb = |name: &str| Redb::open(folder.path().join(name)).unwrap();
    let rng = &mut Seeded::new(0, "each");
    let lock = Lock::Passphrase("under the rose");
    let in_memory = Vault::open_with(Memory::new(), lock, cheap(), rng).unwrap();
    let in_a_file = Vault::open_with(redb("vault"), lock, cheap(), rng).unwrap();
    let kinds: [(&str, Box<dyn Subject>); 5] = [
        ("Memory", Box::new(Memory::new())),
        ("Redb", Box::new(redb("redb"))),
        ("Vault<Memory>", Box::new(in_memory)),
        ("Vault<Redb>", Box::new(in_a_file)),
        ("Overlay", Box::new(Overlaid(Memory::new()))),
    ];
    for (name, mut store) in kinds {
        // Shown where it fails.
        println!("{name}");
        check(store.as_mut());
    }
}

type Rows = Vec<(Vec<u8>, Vec<u8>)>;

fn get(store: &mut dyn Subject, table: Table, key: &[u8]) -> Option<Vec<u8>> {
    let mut found = None;
    store
        .run(&mut |tx| {
            found = tx.get(table, key)?.map(|value| value.to_vec());
            Ok(())
        })
        .unwrap();
    found
}

fn scan(store: &mut dyn Subject, table: Table, prefix: &[u8], most: usize) -> Rows {
    let mut found = Vec::new();
    store
        .run(&mut |tx| {
            found = plain(tx.scan(table, prefix, most)?);
            Ok(())
        })
        .unwrap();
    found
}

fn plain(rows: Vec<Row>) -> Rows {
    rows.into_iter().map(|(key, value)| (key, value.to_vec())).collect()
}

#[test]
fn what_is_put_is_there_until_it_is_deleted() {
    each(|store| {
        for key in [&[0][..], &[0xff], &[7; 128], &[0xff; 128]] {
            for length in [0, 1, 2 << 20] {
                let value = vec![0xa5; length];
                store.run(&mut |tx| tx.put(Table::Log, key, &value)).unwrap();
                assert!(
                    get(store, Table::Log, key).as_ref() == Some(&value),
                    "{length} bytes at {key:?}"
                );
                assert_eq!(get(store, Table::Seen, key), None);
            }
            store.run(&mut |tx| tx.delete(Table::Log, key)).unwrap();
            assert_eq!(get(store, Table::Log, key), None);
            store.run(&mut |tx| tx.delete(Table::Log, key)).unwrap();
        }
    });
}

#[test]
fn every_table_has_rows_of_its_own() {
    let tables = || Table::ALL.iter().copied().filter(|table| *table != Table::Vault);
    each(|store| {
        for table in tables() {
            store.run(&mut |tx| tx.put(table, b"key", table.name().as_bytes())).unwrap();
        }
        for table in tables() {
            let row = (b"key".to_vec(), table.name().as_bytes().to_vec());
            assert_eq!(scan(store, table, &[], usize::MAX), [row]);
        }
    });
}

#[test]
fn a_scan_gives_the_first_keys_of_its_prefix_in_order() {
    let keys: [&[u8]; 9] =
        [&[0], b"a", b"a\0", b"ab", b"b", &[0xfe, 0xff], &[0xff], &[0xff, 0xff], &[0xff, 0xff, 0]];
    each(|store| {
        for key in keys.iter().rev() {
            store.run(&mut |tx| tx.put(Table::User, key, key)).unwrap();
        }
        for prefix in
            [&[][..], b"a", b"ab", b"c", &[0xfe], &[0xff], &[0xff, 0xff], &[0xff, 0xff, 0xff]]
        {
            for most in [0, 1, 2, usize::MAX] {
                let within = keys.iter().filter(|key| key.starts_with(prefix)).take(most);
                let expected: Rows = within.map(|key| (key.to_vec(), key.to_vec())).collect();
                assert_eq!(
                    scan(store, Table::User, prefix, most),
                    expected,
                    "{most} of {prefix:?}"
                );
            }
        }
    });
}

#[test]
fn a_transaction_sees_its_own_changes() {
    each(|store| {
        store
            .run(&mut |tx| {
                [b"1", b"3", b"5"].into_iter().try_for_each(|key| tx.put(Table::Inbox, key, b"old"))
            })
            .unwrap();
        store
            .run(&mut |tx| {
                tx.put(Table::Inbox, b"2", b"new")?;
                tx.put(Table::Inbox, b"3", b"new")?;
                tx.delete(Table::Inbox, b"1")?;
                assert_eq!(tx.get(Table::Inbox, b"1")?, None);
                let rows = plain(tx.scan(Table::Inbox, &[], 2)?);
                assert_eq!(
                    rows,
                    [(b"2".to_vec(), b"new".to_vec()), (b"3".to_vec(), b"new".to_vec())]
                );
                for (key, _) in rows {
                    tx.delete(Table::Inbox, &key)?;
                }
                assert_eq!(
                    plain(tx.scan(Table::Inbox, &[], 2)?),
                    [(b"5".to_vec(), b"old".to_vec())]
                );
                Ok(())
            })
            .unwrap();
        assert_eq!(scan(store, Table::Inbox, &[], 9), [(b"5".to_vec(), b"old".to_vec())]);
    });
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Commit,
    Error,
    Panic,
}

#[derive(Debug)]
enum Step {
    Get(Table, Vec<u8>),
    Put(Table, Vec<u8>, Vec<u8>),
    Delete(Table, Vec<u8>),
    Scan(Table, Vec<u8>, usize),
}

type Model = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

impl Step {
    fn draw(rng: &mut Seeded) -> Self {
        // Few enough that they meet.
        let table = [Table::Device, Table::Session][rng.below(2)];
        let key =
            |rng: &mut Seeded, length| (0..length).map(|_| [0, b'a', 0xff][rng.below(3)]).collect();
        match rng.below(8) {
            0 => {
                let length = 1 + rng.below(3);
                Self::Get(table, key(rng, length))
            }
            1..4 => {
                let (length, value) = (1 + rng.below(3), vec![0x5a; rng.below(40)]);
                Self::Put(
                    table,
                    key(rng, length),
                    [&rng.below(256).to_be_bytes()[..], &value].concat(),
                )
            }
            4..6 => {
                let length = 1 + rng.below(3);
                Self::Delete(table, key(rng, length))
            }
            _ => {
                let (length, most) = (rng.below(3), [0, 1, 3, usize::MAX][rng.below(4)]);
                Self::Scan(table, key(rng, length), most)
            }
        }
    }

    /// What is read.
    fn take(&self, tx: &mut dyn Transaction) -> Result<Rows, Error> {
        match self {
            Self::Get(table, key) => Ok(tx
                .get(*table, key)?
                .map(|value| (key.clone(), value.to_vec()))
                .into_iter()
                .collect()),
            Self::Put(table, key, value) => tx.put(*table, key, value).map(|()| Vec::new()),
            Self::Delete(table, key) => tx.delete(*table, key).map(|()| Vec::new()),
            Self::Scan(table, prefix, most) => tx.scan(*table, prefix, *most).map(plain),
        }
    }

    /// What should be.
    fn expected(&self, model: &mut Model) -> Rows {
        let found = |(key, value): (&(Table, Vec<u8>), &Vec<u8>)| (key.1.clone(), value.clone());
        match self {
            Self::Get(table, key) => {
                model.get_key_value(&(*table, key.clone())).map(found).into_iter().collect()
            }
            Self::Put(table, key, value) => {
                model.insert((*table, key.clone()), value.clone());
                Vec::new()
            }
            Self::Delete(table, key) => {
                model.remove(&(*table, key.clone()));
                Vec::new()
            }
            Self::Scan(table, prefix, most) => {
                let within =
                    model.iter().filter(|((of, key), _)| of == table && key.starts_with(prefix));
                within.take(*most).map(found).collect()
            }
        }
    }
}

/// What the steps read.
fn attempt(store: &mut dyn Subject, steps: &[Step], end: End) -> Vec<Rows> {
    let mut seen = Vec::new();
    let work = &mut |tx: &mut dyn Transaction| {
        seen.clear();
        for step in steps {
            seen.push(step.take(tx)?);
        }
        match end {
            End::Commit => Ok(()),
            End::Error => Err(Error::NotPermitted),
            End::Panic => resume_unwind(Box::new("on purpose")),
        }
    };
    let done = catch_unwind(AssertUnwindSafe(|| store.run(work)));
    match end {
        End::Commit => assert_eq!(done.unwrap(), Ok(())),
        End::Error => assert_eq!(done.unwrap(), Err(Error::NotPermitted)),
        End::Panic => assert_eq!(done.unwrap_err().downcast_ref(), Some(&"on purpose")),
    }
    seen
}

#[test]
fn nothing_changes_on_an_error_or_a_panic() {
    each(|store| {
        let rows = || [(b"key".to_vec(), b"value".to_vec())];
        store.run(&mut |tx| tx.put(Table::Seen, b"key", b"value")).unwrap();
        for end in [End::Error, End::Panic] {
            let steps = [
                Step::Put(Table::Seen, b"key".to_vec(), b"other".to_vec()),
                Step::Put(Table::Seen, b"new".to_vec(), b"value".to_vec()),
                Step::Delete(Table::Seen, b"key".to_vec()),
            ];
            attempt(store, &steps, end);
            assert_eq!(scan(store, Table::Seen, &[], 9), rows(), "{end:?}");
        }
        store.run(&mut |tx| tx.put(Table::Seen, b"key", b"value")).unwrap();
        assert_eq!(scan(store, Table::Seen, &[], 9), rows());
    });
}

#[test]
fn whatever_is_done_is_what_a_map_would_do() {
    for seed in Seed::chosen_or(1..4) {
        let seed = Seed(seed);
        each(|store| {
            let rng = &mut Seeded::new(seed.0, "stores");
            let mut model = Model::new();
            for turn in 0..80 {
                let steps: Vec<Step> = (0..1 + rng.below(16)).map(|_| Step::draw(rng)).collect();
                let end =
                    [End::Commit, End::Commit, End::Commit, End::Error, End::Panic][rng.below(5)];
                let mut changed = model.clone();
                let expected: Vec<Rows> =
                    steps.iter().map(|step| step.expected(&mut changed)).collect();
                assert_eq!(attempt(store, &steps, end), expected, "turn {turn}: {steps:?}");
                if end == End::Commit {
                    model = changed;
                }
                for table in [Table::Device, Table::Session] {
                    let all = Step::Scan(table, Vec::new(), usize::MAX).expected(&mut model);
                    assert_eq!(
                        scan(store, table, &[], usize::MAX),
                        all,
                        "turn {turn}: {steps:?}, {end:?}"
                    );
                }
            }
        });
    }
}
