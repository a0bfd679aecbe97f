//! Whether a store keeps the rules that this crate relies on: run it in a test of every store that
//! you implement.
//!
//! ```
//! use subrosa::store::{Memory, conformance};
//!
//! conformance::check(Memory::new)?;
//! # Ok::<(), conformance::Failure>(())
//! ```
//!
//! [`check_durable`] is for a store that outlives its process, and `check_shared` (feature `std`)
//! for one that several processes or threads share. What no test can see is left to you: that a
//! commit survives a loss of power.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use super::{MAX_KEY, MAX_VALUE, Row, Store, StoreFault, Table, Transaction, VAULT_OVERHEAD};
use crate::error::Error;

/// Checks every [`Rule`] but [`Rule::Durable`]. `new_store` gives an empty store each time; it is
/// called once a rule.
///
/// # Errors
/// The first rule that is broken. A store that panics takes the test down with it.
pub fn check<S: Store>(mut new_store: impl FnMut() -> S) -> Result<(), Failure> {
    let rules: [(Rule, Check); 14] = [
        (Rule::Rows, rows),
        (Rule::OwnWrites, own_writes),
        (Rule::Order, order),
        (Rule::Prefix, prefix),
        (Rule::Most, most),
        (Rule::Merge, merge),
        (Rule::Empty, empty),
        (Rule::Long, long),
        (Rule::Tables, tables),
        (Rule::Error, rolls_back_on_an_error),
        (Rule::Panic, rolls_back_on_a_panic),
        (Rule::Limits, limits),
        (Rule::Prefetch, prefetch),
        (Rule::Peek, peek),
    ];
    rules.into_iter().try_for_each(|(rule, check)| {
        check(&mut new_store()).map_err(|trouble| Failure::new(rule, trouble))
    })
}

/// Checks [`Rule::Durable`]. `open` opens the same store each time, empty at first; the one before
/// is dropped.
///
/// # Errors
/// What was committed is not there, or what failed is.
pub fn check_durable<S: Store>(mut open: impl FnMut() -> S) -> Result<(), Failure> {
    durable(&mut || Box::new(open())).map_err(|trouble| Failure::new(Rule::Durable, trouble))
}

/// Checks [`Rule::Isolated`]. `open` opens the same store each time, empty at first, in two threads
/// that do transactions at the same time. What is refused as [`StoreFault::Locked`] is done again.
///
/// # Errors
/// What two transactions did at the same time is not what they do one after the other; or one of
/// them failed.
#[cfg(feature = "std")]
pub fn check_shared<S: Store>(open: impl Fn() -> S + Sync) -> Result<(), Failure> {
    shared(&|| Box::new(open())).map_err(|trouble| Failure::new(Rule::Isolated, trouble))
}

/// What a store has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// A row that was put is there after the commit, with its last value, until it is deleted.
    /// Deleting a row that is not there is no error. Keys that differ in a case or in a space at
    /// their end are of different rows.
    Rows,
    /// A transaction sees what it put and deleted itself.
    OwnWrites,
    /// A scan gives rows by their keys' bytes, as unsigned numbers, in ascending order.
    Order,
    /// A scan gives the rows whose keys begin with the prefix, and no others: a prefix may be a
    /// whole key, and its bytes may be 0xff, or those that stand for others in patterns.
    Prefix,
    /// A scan gives the first rows, at most as many as asked for: none for 0, all for `usize::MAX`,
    /// of thousands too.
    Most,
    /// A scan sees what its transaction put, replaced and deleted. Deleted rows do not count.
    Merge,
    /// Keys, prefixes and values may be empty. A row with an empty value is there.
    Empty,
    /// Keys of 128 bytes and values of 2 MiB come back whole, several of them in one scan, and so
    /// do 64 bytes more, which a [`Vault`](super::Vault) adds.
    Long,
    /// A key that is longer than 128 bytes, or a value than 2 MiB and 64 bytes, is refused with
    /// [`StoreFault::TooLarge`], and changes nothing. [`check_limits`](super::check_limits) does
    /// it.
    Limits,
    /// Each of [`Table::ALL`] has rows of its own. The app's table is one of them.
    Tables,
    /// [`Transaction::prefetch`] changes nothing, whether or not the rows are there, and hides
    /// nothing that is changed afterwards.
    Prefetch,
    /// [`Transaction::peek`] gives rows of the prefix and no others, in ascending order, at most as
    /// many as asked for; and it finds what was committed before.
    Peek,
    /// An error of the work comes back as it is, and nothing of the transaction stays.
    Error,
    /// A panic of the work goes on, and nothing of the transaction stays. It is checked with
    /// feature `std`, where panics unwind.
    Panic,
    /// What was committed is there when the store is opened again, and what was not is not.
    Durable,
    /// Transactions at the same time do what they do one after the other: none rests on rows that
    /// another one has changed since, whether it read them one by one or in a scan.
    Isolated,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rows => "a row is there from its put to its delete",
            Self::OwnWrites => "a transaction sees its own changes",
            Self::Order => "a scan is in ascending order of the keys' bytes",
            Self::Prefix => "a scan gives the rows of its prefix and no others",
            Self::Most => "a scan gives at most as many rows as asked for",
            Self::Merge => "a scan sees the changes of its transaction",
            Self::Empty => "keys, prefixes and values may be empty",
            Self::Long => "keys of 128 bytes and values of 2 MiB (and 64 bytes) are kept whole",
            Self::Limits => "longer keys and values are refused as too large",
            Self::Tables => "every table has rows of its own",
            Self::Prefetch => "announcing rows changes nothing, and hides no change",
            Self::Peek => "a look finds the rows of its prefix and no others",
            Self::Error => "an error of the work comes back, and nothing of the transaction stays",
            Self::Panic => "a panic of the work goes on, and nothing of the transaction stays",
            Self::Durable => "what was committed is there when the store is opened again",
            Self::Isolated => "transactions at the same time are as if one came after the other",
        })
    }
}

/// The rule that a store breaks, with what was expected and what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// The rule.
    pub rule: Rule,
    /// What should have been found, for people.
    pub expected: String,
    /// What was found, for people.
    pub found: String,
}

impl Failure {
    fn new(rule: Rule, trouble: Trouble) -> Self {
        match trouble {
            Trouble::Differs { expected, found } => Self { rule, expected, found },
            Trouble::Failed(error) => {
                Self { rule, expected: "no error".into(), found: format!("{error}") }
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, found {}", self.rule, self.expected, self.found)
    }
}

impl core::error::Error for Failure {}

/// Why a check did not go well.
#[derive(Debug, PartialEq)]
enum Trouble {
    Differs { expected: String, found: String },
    Failed(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

type Outcome = Result<(), Trouble>;

const NOT_PERMITTED: Outcome = Err(Trouble::Failed(Error::NotPermitted));

/// A store of any type, so that the checks are compiled once.
trait AnyStore {
    fn run(&mut self, work: &mut dyn FnMut(&mut dyn Transaction) -> Outcome) -> Outcome;
}

impl<S: Store> AnyStore for S {
    fn run(&mut self, work: &mut dyn FnMut(&mut dyn Transaction) -> Outcome) -> Outcome {
        self.transact(work)
    }
}

impl dyn AnyStore + '_ {
    fn transact<T, E: Into<Trouble>>(
        &mut self,
        work: impl FnOnce(&mut dyn Transaction) -> Result<T, E>,
    ) -> Result<T, Trouble> {
        let (mut work, mut done) = (Some(work), None);
        self.run(&mut |tx| {
            done = work.take().map(|work| work(tx).map_err(Into::into)).transpose()?;
            Ok(())
        })?;
        done.ok_or_else(|| Trouble::Differs {
            expected: "that the work is done".into(),
            found: "success without it".into(),
        })
    }
}

type Check = fn(&mut dyn AnyStore) -> Outcome;
type Expected<'a> = [(&'a [u8], &'a [u8])];

fn rows(store: &mut dyn AnyStore) -> Outcome {
    let key = b"key";
    for value in [&b"first"[..], b"second", b"a longer third one"] {
        store.transact(|tx| tx.put(Table::Inbox, key, value))?;
        store.transact(|tx| row_is(tx, Table::Inbox, key, Some(value)))?;
        store.transact(|tx| rows_are(tx, Table::Inbox, &[], usize::MAX, &[(key, value)]))?;
    }
    for _ in 0..2 {
        store.transact(|tx| tx.delete(Table::Inbox, key))?;
        store.transact(|tx| row_is(tx, Table::Inbox, key, None))?;
        store.transact(|tx| rows_are(tx, Table::Inbox, &[], usize::MAX, &[]))?;
    }
    fill(store)?;
    KEYS.iter().try_for_each(|key| store.transact(|tx| row_is(tx, Table::User, key, Some(key))))
}

fn own_writes(store: &mut dyn AnyStore) -> Outcome {
    store.transact(|tx| tx.put(Table::Session, b"key", b"before"))?;
    store.transact(|tx| {
        tx.put(Table::Session, b"key", b"now")?;
        row_is(tx, Table::Session, b"key", Some(b"now"))?;
        tx.delete(Table::Session, b"key")?;
        row_is(tx, Table::Session, b"key", None)?;
        tx.put(Table::Session, b"key", b"again")?;
        row_is(tx, Table::Session, b"key", Some(b"again"))
    })?;
    store.transact(|tx| row_is(tx, Table::Session, b"key", Some(b"again")))
}

/// In ascending order.
const KEYS: [&[u8]; 13] = [
    &[0],
    b"%",
    b"A",
    b"_",
    b"a",
    b"a\0",
    b"a ",
    b"ab",
    b"b",
    &[0xfe, 0xff],
    &[0xff],
    &[0xff, 0xff],
    &[0xff, 0xff, 0],
];

/// All of [`KEYS`], in an order that is none of theirs; their values are the keys.
fn fill(store: &mut dyn AnyStore) -> Outcome {
    let odd = KEYS.iter().skip(1).step_by(2);
    for key in KEYS.iter().rev().step_by(2).chain(odd) {
        store.transact(|tx| tx.put(Table::User, key, key))?;
    }
    // Neighbours, which no scan of the table may see.
    store.transact(|tx| tx.put(Table::Account, b"b", b""))?;
    store.transact(|tx| tx.put(Table::Device, &[0], b""))
}

fn of_keys(prefix: &[u8], most: usize) -> Vec<(&'static [u8], &'static [u8])> {
    KEYS.into_iter()
        .filter(|key| key.starts_with(prefix))
        .take(most)
        .map(|key| (key, key))
        .collect()
}

fn order(store: &mut dyn AnyStore) -> Outcome {
    fill(store)?;
    store.transact(|tx| rows_are(tx, Table::User, &[], usize::MAX, &of_keys(&[], usize::MAX)))
}

fn prefix(store: &mut dyn AnyStore) -> Outcome {
    fill(store)?;
    let others: [&[u8]; 5] = [b"ab", b"c", b"A", b"%", b"_"];
    let at_the_end: [&[u8]; 4] = [&[0xfe], &[0xff], &[0xff, 0xff], &[0xff, 0xff, 0xff]];
    for prefix in [&b"a"[..]].into_iter().chain(others).chain(at_the_end) {
        let expected = of_keys(prefix, usize::MAX);
        store.transact(|tx| rows_are(tx, Table::User, prefix, usize::MAX, &expected))?;
    }
    Ok(())
}

fn most(store: &mut dyn AnyStore) -> Outcome {
    fill(store)?;
    for prefix in [&[][..], b"a", &[0xff]] {
        for most in [0, 1, 2, 100, usize::MAX] {
            let expected = of_keys(prefix, most);
            store.transact(|tx| rows_are(tx, Table::User, prefix, most, &expected))?;
        }
    }
    // More than a page of any database.
    let keys: Vec<[u8; 2]> = (0..2_100_u16).map(u16::to_be_bytes).collect();
    for page in keys.chunks(100) {
        store.transact(|tx| page.iter().try_for_each(|key| tx.put(Table::Seen, key, key)))?;
    }
    let expected: Vec<(&[u8], &[u8])> = keys.iter().map(|key| (&key[..], &key[..])).collect();
    store.transact(|tx| rows_are(tx, Table::Seen, &[], usize::MAX, &expected))
}

fn merge(store: &mut dyn AnyStore) -> Outcome {
    store.transact(|tx| -> Outcome {
        [b"1", b"3", b"5", b"7"].iter().try_for_each(|key| tx.put(Table::Outbox, *key, b"old"))?;
        Ok(())
    })?;
    let (five, seven): (&[u8], &[u8]) = (b"5", b"7");
    store.transact(|tx| {
        tx.put(Table::Outbox, b"2", b"new")?;
        tx.put(Table::Outbox, b"3", b"new")?;
        tx.delete(Table::Outbox, b"1")?;
        rows_are(tx, Table::Outbox, &[], 2, &[(b"2", b"new"), (b"3", b"new")])?;
        tx.delete(Table::Outbox, b"2")?;
        tx.delete(Table::Outbox, b"3")?;
        rows_are(tx, Table::Outbox, &[], 2, &[(five, b"old"), (seven, b"old")])?;
        tx.put(Table::Outbox, b"9", b"new")?;
        rows_are(tx, Table::Outbox, &[], 9, &[(five, b"old"), (seven, b"old"), (b"9", b"new")])
    })?;
    let all: &Expected<'_> = &[(five, b"old"), (seven, b"old"), (b"9", b"new")];
    store.transact(|tx| rows_are(tx, Table::Outbox, &[], 9, all))
}

fn empty(store: &mut dyn AnyStore) -> Outcome {
    store.transact(|tx| {
        tx.put(Table::Seen, b"empty", b"")?;
        tx.put(Table::Seen, b"", b"no key")
    })?;
    let all: &Expected<'_> = &[(b"", b"no key"), (b"empty", b"")];
    store.transact(|tx| {
        row_is(tx, Table::Seen, b"empty", Some(b""))?;
        row_is(tx, Table::Seen, b"", Some(b"no key"))?;
        rows_are(tx, Table::Seen, b"", usize::MAX, all)
    })?;
    store.transact(|tx| tx.delete(Table::Seen, b""))?;
    store.transact(|tx| rows_are(tx, Table::Seen, b"", 9, &[(b"empty", b"")]))
}

fn long(store: &mut dyn AnyStore) -> Outcome {
    // Two that differ in the last byte alone.
    let keys =
        [[&[0xff; MAX_KEY - 1][..], &[0]].concat(), [&[0xff; MAX_KEY - 1][..], &[1]].concat()];
    for key in &keys {
        store.transact(|tx| tx.put(Table::Session, key, key))?;
    }
    let expected: Vec<(&[u8], &[u8])> = keys.iter().map(|key| (&**key, &**key)).collect();
    store.transact(|tx| rows_are(tx, Table::Session, &[], 9, &expected))?;
    let value = pattern(MAX_VALUE);
    store.transact(|tx| tx.put(Table::Session, b"long", &value))?;
    store.transact(|tx| row_is(tx, Table::Session, b"long", Some(&value)))?;
    let keys: [&[u8]; 3] = [b"1", b"2", b"3"];
    keys.iter().try_for_each(|key| store.transact(|tx| tx.put(Table::Log, key, &value)))?;
    let expected = keys.map(|key| (key, &value[..]));
    store.transact(|tx| rows_are(tx, Table::Log, &[], 9, &expected))?;
    if has(store, Table::Vault)? {
        let value = pattern(MAX_VALUE.saturating_add(VAULT_OVERHEAD));
        store.transact(|tx| tx.put(Table::Vault, b"sealed", &value))?;
        store.transact(|tx| row_is(tx, Table::Vault, b"sealed", Some(&value)))?;
    }
    Ok(())
}

fn limits(store: &mut dyn AnyStore) -> Outcome {
    let longer = MAX_VALUE.saturating_add(VAULT_OVERHEAD).saturating_add(1);
    let rows = [(vec![1; MAX_KEY.saturating_add(1)], Vec::new()), (vec![1], vec![0; longer])];
    for (key, value) in rows {
        let found = store.transact(|tx| tx.put(Table::Session, &key, &value));
        same("refused as too large", &Err(Trouble::Failed(StoreFault::TooLarge.into())), &found)?;
        store.transact(|tx| rows_are(tx, Table::Session, &[], 9, &[]))?;
    }
    Ok(())
}

fn tables(store: &mut dyn AnyStore) -> Outcome {
    let mut there = Vec::new();
    for &table in Table::ALL {
        if has(store, table)? {
            there.push(table);
        }
    }
    for table in &there {
        store.transact(|tx| tx.put(*table, b"key", table.name().as_bytes()))?;
    }
    for table in &there {
        let expected: &Expected<'_> = &[(b"key", table.name().as_bytes())];
        store.transact(|tx| rows_are(tx, *table, &[], usize::MAX, expected))?;
    }
    if let Some((first, others)) = there.split_first() {
        store.transact(|tx| tx.delete(*first, b"key"))?;
        for table in others {
            store.transact(|tx| row_is(tx, *table, b"key", Some(table.name().as_bytes())))?;
        }
    }
    Ok(())
}

fn prefetch(store: &mut dyn AnyStore) -> Outcome {
    store.transact(|tx| tx.put(Table::Device, b"there", b"value"))?;
    let announced: &[(Table, &[u8])] = &[
        (Table::Device, b"there"),
        (Table::Device, b"missing"),
        (Table::Device, b"new"),
        (Table::Device, b"missing"),
        (Table::App, b""),
    ];
    store.transact(|tx| {
        tx.put(Table::Device, b"new", b"mine")?;
        tx.prefetch(announced)?;
        tx.prefetch(&[])?;
        row_is(tx, Table::Device, b"there", Some(b"value"))?;
        row_is(tx, Table::Device, b"missing", None)?;
        row_is(tx, Table::Device, b"new", Some(b"mine"))
    })?;
    let all: &Expected<'_> = &[(b"new", b"mine"), (b"there", b"value")];
    store.transact(|tx| rows_are(tx, Table::Device, &[], 9, all))?;
    store.transact(|tx| rows_are(tx, Table::App, &[], 9, &[]))?;
    // What changes after it was announced is what is there, in this transaction and the next.
    store.transact(|tx| {
        tx.prefetch(announced)?;
        tx.put(Table::Device, b"missing", b"found")?;
        tx.put(Table::Device, b"there", b"other")?;
        tx.delete(Table::Device, b"new")?;
        row_is(tx, Table::Device, b"missing", Some(b"found"))?;
        row_is(tx, Table::Device, b"there", Some(b"other"))?;
        row_is(tx, Table::Device, b"new", None)
    })?;
    store.transact(|tx| tx.prefetch(announced))?;
    store.transact(|tx| tx.delete(Table::Device, b"missing"))?;
    store.transact(|tx| row_is(tx, Table::Device, b"missing", None))
}

fn peek(store: &mut dyn AnyStore) -> Outcome {
    fill(store)?;
    for prefix in [&[][..], b"a", b"_", b"c", &[0xff]] {
        for most in [0, 1, 2, usize::MAX] {
            let expected = of_keys(prefix, most);
            store.transact(|tx| {
                let found = tx.peek(Table::User, prefix, most)?;
                same_rows(&found, (Table::User, prefix, most), &expected)
            })?;
        }
    }
    Ok(())
}

/// What an atomicity check begins with, and what has to be left.
const BEFORE: &Expected<'static> = &[(b"deleted", b"before"), (b"put", b"before")];

fn change(tx: &mut dyn Transaction) -> Result<(), Error> {
    tx.put(Table::Allowance, b"put", b"after")?;
    tx.put(Table::Allowance, b"new", b"after")?;
    tx.put(Table::App, b"new", b"after")?;
    tx.delete(Table::Allowance, b"deleted")
}

fn is_as_before(store: &mut dyn AnyStore) -> Outcome {
    store.transact(|tx| {
        rows_are(tx, Table::Allowance, &[], 9, BEFORE)?;
        rows_are(tx, Table::App, &[], 9, &[])
    })
}

fn rolls_back_on_an_error(store: &mut dyn AnyStore) -> Outcome {
    store.transact(|tx| {
        BEFORE.iter().try_for_each(|(key, value)| tx.put(Table::Allowance, key, value))
    })?;
    let found = store.transact(|tx| change(tx).and(Err::<(), _>(Error::NotPermitted)));
    same("the error of the work", &NOT_PERMITTED, &found)?;
    is_as_before(store)?;
    store.transact(change)?;
    store.transact(|tx| row_is(tx, Table::Allowance, b"deleted", None))
}

#[cfg(all(feature = "std", panic = "unwind"))]
fn rolls_back_on_a_panic(store: &mut dyn AnyStore) -> Outcome {
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    struct OnPurpose;

    store.transact(|tx| {
        BEFORE.iter().try_for_each(|(key, value)| tx.put(Table::Allowance, key, value))
    })?;
    let found = catch_unwind(AssertUnwindSafe(|| {
        store.transact(|tx| {
            change(tx)?;
            // No hook speaks of it.
            resume_unwind(Box::new(OnPurpose));
            #[expect(unreachable_code, reason = "it says of which type the transaction is")]
            Ok::<(), Error>(())
        })
    }));
    let found = match found {
        Err(panic) if panic.is::<OnPurpose>() => "the panic of the work",
        Err(_) => "another panic",
        Ok(Ok(())) => "a commit",
        Ok(Err(_)) => "an error",
    };
    same("the panic of the work", &"the panic of the work", &found)?;
    is_as_before(store)?;
    store.transact(change)?;
    store.transact(|tx| row_is(tx, Table::Allowance, b"deleted", None))
}

#[cfg(not(all(feature = "std", panic = "unwind")))]
const fn rolls_back_on_a_panic(_: &mut dyn AnyStore) -> Outcome {
    Ok(())
}

fn durable<'s>(open: &mut dyn FnMut() -> Box<dyn AnyStore + 's>) -> Outcome {
    let value = pattern(100_000);
    let mut store = open();
    let mut there = Vec::new();
    for &table in Table::ALL {
        if has(store.as_mut(), table)? {
            there.push(table);
        }
    }
    store.transact(|tx| -> Outcome {
        tx.put(Table::Session, b"deleted", b"")?;
        tx.put(Table::Session, b"replaced", b"before")?;
        tx.put(Table::Session, b"long", &value)?;
        tx.put(Table::Seen, b"", b"no key")?;
        KEYS.iter().try_for_each(|key| tx.put(Table::User, key, key))?;
        there.iter().try_for_each(|table| tx.put(*table, b"kept", b""))?;
        Ok(())
    })?;
    drop(store);
    let mut store = open();
    store.transact(|tx| {
        tx.put(Table::Session, b"replaced", b"after")?;
        tx.delete(Table::Session, b"deleted")
    })?;
    let refused = store.transact(|tx| {
        tx.put(Table::Session, b"refused", b"")?;
        Err::<(), _>(Error::NotPermitted)
    });
    same("the error of the work", &NOT_PERMITTED, &refused)?;
    drop(store);
    let mut store = open();
    store.transact(|tx| {
        let all: &Expected<'_> = &[(b"kept", b""), (b"long", &value), (b"replaced", b"after")];
        rows_are(tx, Table::Session, &[], 9, all)?;
        rows_are(tx, Table::Seen, &[], 9, &[(b"", b"no key"), (b"kept", b"")])?;
        KEYS.iter().try_for_each(|key| row_is(tx, Table::User, key, Some(key)))?;
        there.iter().try_for_each(|table| row_is(tx, *table, b"kept", Some(b"")))
    })
}

/// Transactions of each of two threads.
#[cfg(feature = "std")]
const ROUNDS: u8 = 50;

/// How often one is done again that is refused for the other's sake.
#[cfg(feature = "std")]
const MOST_TRIES: u32 = 10_000;

#[cfg(feature = "std")]
fn shared<'s>(open: &(dyn Fn() -> Box<dyn AnyStore + 's> + Sync)) -> Outcome {
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    use std::sync::Barrier;
    use std::thread;

    // It may have to be made.
    drop(open());
    let together = Barrier::new(2);
    let work = |me: u8| {
        let (mut store, mut done) = match catch_unwind(AssertUnwindSafe(open)) {
            Ok(store) => (Some(store), Ok(Ok(()))),
            Err(panic) => (None, Err(panic)),
        };
        let mut step = |work: &dyn Fn(&mut dyn Transaction) -> Result<(), Error>| {
            together.wait();
            // Where one fails, or panics, the other one does not wait for it for ever.
            if let (Some(store), Ok(Ok(()))) = (&mut store, &done) {
                done = catch_unwind(AssertUnwindSafe(|| patiently(store.as_mut(), work)));
            }
        };
        for round in 0..ROUNDS {
            step(&|tx| claim(tx, round, me));
            step(&count);
        }
        done.unwrap_or_else(|panic| resume_unwind(panic))
    };
    thread::scope(|scope| {
        let other = scope.spawn(|| work(1));
        work(0).and(other.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })?;
    let mut store = open();
    for round in 0..ROUNDS {
        let rows = store.transact(|tx| tx.scan(Table::Seen, &[round], 9))?;
        same("rows that were put where there was none", &1, &rows.len())?;
    }
    let counted = store.transact(|tx| tx.get(Table::Session, COUNT))?;
    same("a count", &Some(vec![2 * ROUNDS]), &counted.as_deref().cloned())
}

/// Does a transaction until the other one is not in its way.
#[cfg(feature = "std")]
fn patiently(
    store: &mut dyn AnyStore,
    work: &dyn Fn(&mut dyn Transaction) -> Result<(), Error>,
) -> Outcome {
    let locked = Err(Trouble::Failed(StoreFault::Locked.into()));
    let mut done = store.transact(work);
    for _ in 0..MOST_TRIES {
        if done != locked {
            break;
        }
        std::thread::yield_now();
        done = store.transact(work);
    }
    done
}

/// Puts a row of this round where there is none.
#[cfg(feature = "std")]
fn claim(tx: &mut dyn Transaction, round: u8, me: u8) -> Result<(), Error> {
    if tx.scan(Table::Seen, &[round], 9)?.is_empty() {
        std::thread::sleep(core::time::Duration::from_millis(1));
        tx.put(Table::Seen, &[round, me], b"")?;
    }
    Ok(())
}

#[cfg(feature = "std")]
const COUNT: &[u8] = b"count";

#[cfg(feature = "std")]
fn count(tx: &mut dyn Transaction) -> Result<(), Error> {
    let count = tx.get(Table::Session, COUNT)?.and_then(|row| row.first().copied()).unwrap_or(0);
    std::thread::sleep(core::time::Duration::from_millis(1));
    tx.put(Table::Session, COUNT, &[count.saturating_add(1)])
}

/// Whether rows of this table can be kept here: those of the locks cannot in a vault.
fn has(store: &mut dyn AnyStore, table: Table) -> Result<bool, Trouble> {
    match store.transact(|tx| tx.get(table, b"key")) {
        Ok(_) => Ok(true),
        Err(Trouble::Failed(Error::NotPermitted)) if table == Table::Vault => Ok(false),
        Err(trouble) => Err(trouble),
    }
}

fn row_is(tx: &mut dyn Transaction, table: Table, key: &[u8], expected: Option<&[u8]>) -> Outcome {
    let found = tx.get(table, key)?;
    let found = found.as_deref().map(Vec::as_slice);
    if found == expected {
        return Ok(());
    }
    let show = |value: Option<&[u8]>| match value {
        Some(value) => format!("{} under {} in {}", Short(value), Short(key), table.name()),
        None => format!("no row {} in {}", Short(key), table.name()),
    };
    Err(Trouble::Differs { expected: show(expected), found: show(found) })
}

fn rows_are(
    tx: &mut dyn Transaction,
    table: Table,
    prefix: &[u8],
    most: usize,
    expected: &Expected<'_>,
) -> Outcome {
    let found = tx.scan(table, prefix, most)?;
    same_rows(&found, (table, prefix, most), expected)
}

fn same_rows(
    found: &[Row],
    (table, prefix, most): (Table, &[u8], usize),
    expected: &Expected<'_>,
) -> Outcome {
    let found: Vec<(&[u8], &[u8])> =
        found.iter().map(|(key, value): &Row| (&**key, &***value)).collect();
    if found == expected {
        return Ok(());
    }
    let show = |rows: &Expected<'_>| {
        let each = rows.iter().map(|(key, value)| format!("{} = {}", Short(key), Short(value)));
        let each: Vec<String> = match rows.len().checked_sub(SHOWN) {
            None | Some(0) => each.collect(),
            Some(more) => each.take(SHOWN).chain([format!("{more} more")]).collect(),
        };
        let most = if most == usize::MAX { "all".into() } else { format!("the first {most}") };
        format!("{} of {} in {}: [{}]", most, Short(prefix), table.name(), each.join(", "))
    };
    Err(Trouble::Differs { expected: show(expected), found: show(&found) })
}

/// Of more rows, so many are shown.
const SHOWN: usize = 16;

fn same<T: PartialEq + fmt::Debug>(what: &str, expected: &T, found: &T) -> Outcome {
    if expected == found {
        return Ok(());
    }
    Err(Trouble::Differs { expected: format!("{what}: {expected:?}"), found: format!("{found:?}") })
}

/// Bytes that differ where they lie.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 251).unwrap_or_default()).collect()
}

/// The first bytes in hexadecimal, and how long it is where that is not all.
struct Short<'a>(&'a [u8]);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<")?;
        self.0.iter().take(12).try_for_each(|byte| write!(f, "{byte:02x}"))?;
        if self.0.len() > 12 {
            write!(f, ".. {} bytes", self.0.len())?;
        }
        f.write_str(">")
    }
}
