//! Several tasks share an account whose rows are behind an asynchronous interface: each operation
//! is run over what was read, and committed if that is still there.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a panic is how a test fails"
)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::{future, thread};

use subrosa::store::{Change, Memory, Missing, Overlay, Ran, Row, Store, Table, Value};
use subrosa::{
    Action, Address, Answer, Client, Error, Item, Open, Policy, Received, Task as Job, UnixTime,
};

#[path = "overlay/life.rs"]
mod life;
#[path = "support/network.rs"]
mod network;
#[path = "support/post.rs"]
mod post;

use network::{NOW, Seed, Seeded};
use post::Post;

/// Which rows were found, by key, and which version of each: a version is never given to a second
/// value.
type Versions = Vec<(Vec<u8>, u64)>;

/// Each with its version.
type Rows = BTreeMap<(Table, Vec<u8>), (u64, Value)>;

/// An account's rows, behind an asynchronous interface.
struct Database {
    rows: Mutex<Rows>,
    last_version: AtomicU64,
    /// Whether a commit looks if what was relied on is still there.
    careful: bool,
    conflicts: AtomicUsize,
}

impl Database {
    fn of(mut memory: Memory, careful: bool) -> Self {
        let mut rows = Rows::new();
        for &table in Table::ALL {
            let all = memory.transact(|tx| tx.scan(table, &[], usize::MAX)).unwrap();
            rows.extend(all.into_iter().map(|(key, value)| ((table, key), (0, value))));
        }
        Self {
            rows: Mutex::new(rows),
            last_version: AtomicU64::new(0),
            careful,
            conflicts: AtomicUsize::new(0),
        }
    }

    /// What a table has by now.
    fn count(&self, table: Table) -> usize {
        self.rows.lock().unwrap().keys().filter(|key| key.0 == table).count()
    }

    async fn read(&self, wanted: &Missing, rng: &mut Seeded) -> (Versions, Vec<Row>) {
        travel(rng).await;
        let found = find(&self.rows.lock().unwrap(), wanted);
        travel(rng).await;
        found
    }

    /// Whether it could be.
    async fn commit(
        &self,
        relied_on: &[(Missing, Versions)],
        writes: &[Change],
        rng: &mut Seeded,
    ) -> bool {
        travel(rng).await;
        let mut rows = self.rows.lock().unwrap();
        if self.careful && relied_on.iter().any(|(what, versions)| find(&rows, what).0 != *versions)
        {
            return false;
        }
        for change in writes {
            let version = self.last_version.fetch_add(1, Ordering::SeqCst) + 1;
            let key = (change.table, change.key.clone());
            match &change.value {
                Some(value) => drop(rows.insert(key, (version, value.clone()))),
                None => drop(rows.remove(&key)),
            }
        }
        true
    }

    /// Does this, as often as it takes.
    async fn within<T>(
        &self,
        rng: &mut Seeded,
        mut work: impl FnMut(&mut Client<Open<'_>>, &mut Seeded) -> Result<T, Error>,
    ) -> Result<(T, Effort), Error> {
        let policy = Policy::default();
        loop {
            let mut overlay = Overlay::new();
            let (mut reads, mut versions) = (0, BTreeMap::new());
            let (done, changes) = loop {
                // A refusal, too, may come of rows that do not belong together: it is a result like
                // any other.
                let ran = overlay.run(|tx| Client::within(tx, &policy, |client| work(client, rng)));
                match ran {
                    Ran::Done(done, changes) => break (done, changes),
                    Ran::Missing(missing) => {
                        for missing in missing {
                            let (found, rows) = self.read(&missing, rng).await;
                            reads += 1;
                            for ((key, version), (_, value)) in found.into_iter().zip(&rows) {
                                versions.insert((missing.table(), key, value.to_vec()), version);
                            }
                            overlay.supply(missing, rows);
                        }
                    }
                }
            };
            let effort = Effort { read: reads, written: changes.writes().len() };
            // A row that it relies on may be one of those that a scan or a look found.
            let relied_on = changes.relied_on().iter().map(|(what, rows)| {
                let version =
                    |(key, value): &Row| versions[&(what.table(), key.clone(), value.to_vec())];
                (
                    what.clone(),
                    rows.iter().map(|row| (row.0.clone(), version(row))).collect::<Versions>(),
                )
            });
            if self.commit(&relied_on.collect::<Vec<_>>(), changes.writes(), rng).await {
                return done.map(|done| (done, effort));
            }
            self.conflicts.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What an operation took when nobody came between: it ran once more than it read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Effort {
    read: usize,
    written: usize,
}

/// Others come first, or not.
async fn travel(rng: &mut Seeded) {
    for _ in 0..rng.below(4) {
        let mut others_first = true;
        future::poll_fn(|_| {
            if std::mem::take(&mut others_first) { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }
}

fn find(rows: &Rows, wanted: &Missing) -> (Versions, Vec<Row>) {
    let exact = matches!(wanted, Missing::Row { .. });
    let (table, key) = (wanted.table(), wanted.key());
    let within =
        rows.range((table, key.to_vec())..).take(wanted.most()).take_while(|((of, found), _)| {
            *of == table && if exact { found == key } else { found.starts_with(key) }
        });
    within
        .map(|((_, key), (version, value))| ((key.clone(), *version), (key.clone(), value.clone())))
        .unzip()
}

const USERS: [&str; 2] = ["alice", "bob"];
const WORKERS: usize = 3;
const TEXTS: usize = 12;

/// More than it ever takes.
const ROUNDS: usize = 100_000;

/// Two accounts, a transport between them, and what came of it.
struct World {
    databases: [Database; 2],
    mail: [Mutex<Vec<Vec<u8>>>; 2],
    written: AtomicUsize,
    /// Envelopes that nobody has received yet.
    on_the_way: AtomicUsize,
    /// Every envelope that went out.
    wire: Mutex<Vec<Vec<u8>>>,
    shown: [Mutex<Vec<Vec<u8>>>; 2],
    duplicates: AtomicUsize,
    /// What each operation took.
    efforts: Mutex<BTreeMap<&'static str, BTreeSet<Effort>>>,
}

impl World {
    /// Alice has a bundle of Bob's; he hears of her by her first message.
    fn new(seed: u64, careful: bool) -> Self {
        let rng = &mut Seeded::new(seed, "accounts");
        let mut post = Post::default();
        let [mut alice, bob] = USERS.map(|user| {
            let mut client = Client::create(Memory::new(), user, now(), rng).unwrap();
            post.settle(&mut client, now(), rng);
            client
        });
        let bobs = post.users.get_mut("bob").unwrap();
        alice.update_devices("bob", &bobs.list().unwrap().encode(), now(), rng).unwrap();
        let bundle = bobs.bundle(1, "alice", NOW).unwrap().encode();
        alice.add_bundle(&Address::new("bob", 1), &bundle, now(), rng).unwrap();
        Self {
            databases: [alice, bob].map(|client| Database::of(client.into_store(), careful)),
            mail: Default::default(),
            written: AtomicUsize::new(0),
            on_the_way: AtomicUsize::new(0),
            wire: Mutex::default(),
            shown: Default::default(),
            duplicates: AtomicUsize::new(0),
            efforts: Mutex::default(),
        }
    }

    fn note(&self, what: &'static str, effort: Effort) {
        self.efforts.lock().unwrap().entry(what).or_default().insert(effort);
    }

    /// Whether there was a session to write in.
    async fn write(&self, side: usize, text: &str, rng: &mut Seeded) -> Result<bool, Error> {
        let (to, text) = (USERS[1 - side], text.as_bytes());
        match self.databases[side]
            .within(rng, |client, rng| client.encrypt(to, text, now(), rng))
            .await
        {
            Ok((_, effort)) => {
                self.written.fetch_add(1, Ordering::SeqCst);
                self.note("encrypt", effort);
            }
            // Alice has one from the beginning, whatever others change while the rows are read.
            Err(Error::DevicesNeeded(_) | Error::BundlesNeeded(_)) if side == 1 => {
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    /// What one has taken to send, no other does at the same time.
    async fn post(&self, side: usize, rng: &mut Seeded) -> Result<(), Error> {
        let database = &self.databases[side];
        let (jobs, effort) =
            database.within(rng, |client, rng| client.tasks(2, now(), rng)).await?;
        self.note("tasks", effort);
        for Job { id, action, .. } in jobs {
            let Action::Send { envelope, .. } = action else { panic!("{action:?}") };
            self.on_the_way.fetch_add(1, Ordering::SeqCst);
            self.wire.lock().unwrap().push(envelope.clone());
            self.mail[1 - side].lock().unwrap().push(envelope);
            travel(rng).await;
            let complete = |client: &mut Client<Open<'_>>, rng: &mut Seeded| {
                client.complete(&id, Answer::Done, now(), rng)
            };
            let (_, effort) = database.within(rng, complete).await?;
            self.note("complete", effort);
        }
        Ok(())
    }

    /// In whatever order.
    async fn receive(&self, side: usize, rng: &mut Seeded) -> Result<(), Error> {
        let envelope = {
            let mut mail = self.mail[side].lock().unwrap();
            if mail.is_empty() {
                return Ok(());
            }
            let at = rng.below(mail.len());
            mail.swap_remove(at)
        };
        let from = Address::new(USERS[1 - side], 1);
        let receive = |client: &mut Client<Open<'_>>, rng: &mut Seeded| {
            client.receive(Some(&from), &envelope, now(), rng)
        };
        match self.databases[side].within(rng, receive).await? {
            (Received::Incoming(_), effort) => self.note("receive", effort),
            (Received::Duplicate, _) => drop(self.duplicates.fetch_add(1, Ordering::Relaxed)),
            (Received::Handled, _) => {}
            (other, _) => panic!("{other:?}"),
        }
        self.on_the_way.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }

    /// In one transaction, so that no other task takes it too.
    async fn take(&self, side: usize, rng: &mut Seeded) -> Result<(), Error> {
        let take = |client: &mut Client<Open<'_>>, _: &mut Seeded| {
            let Some(incoming) = client.inbox(1)?.pop() else { return Ok(None) };
            client.acknowledge(incoming.id)?;
            match incoming.item {
                Item::Text(text) => Ok(Some(text.text)),
                other => panic!("{other:?}"),
            }
        };
        let (taken, effort) = self.databases[side].within(rng, take).await?;
        if let Some(text) = taken {
            self.shown[side].lock().unwrap().push(text.to_vec());
            self.note("take", effort);
        }
        Ok(())
    }

    /// Everything is written, nothing is on the way, and nothing waits.
    fn is_finished(&self) -> bool {
        let waiting =
            |database: &Database| database.count(Table::Inbox) + database.count(Table::Outbox);
        self.written.load(Ordering::SeqCst) == 2 * WORKERS * TEXTS
            && self.on_the_way.load(Ordering::SeqCst) == 0
            && self.databases.iter().map(waiting).sum::<usize>() == 0
    }

    /// One of the tasks of an account.
    async fn work(self: Arc<Self>, seed: u64, side: usize, worker: usize) -> Result<(), Error> {
        let rng = &mut Seeded::new(seed, &format!("{side}, {worker}"));
        let mut texts: Vec<String> = (0..TEXTS).map(|text| name(side, worker, text)).collect();
        for _ in 0..ROUNDS {
            match rng.below(4) {
                0 => {
                    if let Some(text) = texts.pop()
                        && !self.write(side, &text, rng).await?
                    {
                        texts.push(text);
                    }
                }
                1 => self.post(side, rng).await?,
                2 => self.receive(side, rng).await?,
                _ => self.take(side, rng).await?,
            }
            if self.is_finished() {
                return Ok(());
            }
            travel(rng).await;
        }
        panic!("there is no end of it");
    }

    /// Nonces with which more than one envelope was made: each is made from its message's key.
    fn keys_used_twice(&self) -> usize {
        let mut by_nonce: BTreeMap<[u8; 12], BTreeSet<Vec<u8>>> = BTreeMap::new();
        for envelope in self.wire.lock().unwrap().iter() {
            let before = 18 + if envelope[19] == 2 { 2 + 1660 } else { 2 };
            let nonce = *envelope[before..].first_chunk().unwrap();
            by_nonce.entry(nonce).or_default().insert(envelope.clone());
        }
        by_nonce.values().filter(|envelopes| envelopes.len() > 1).count()
    }

    fn conflicts(&self) -> usize {
        self.databases.iter().map(|database| database.conflicts.load(Ordering::Relaxed)).sum()
    }
}

fn now() -> UnixTime {
    UnixTime::from_secs(NOW).unwrap()
}

fn name(side: usize, worker: usize, text: usize) -> String {
    format!("text {text} of worker {worker} of {}", USERS[side])
}

type Task<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Runs tasks to their ends on so many threads. Those of one thread take turns: each is polled
/// until it waits.
fn run_all<T: Send>(threads: usize, tasks: Vec<Task<T>>) -> Vec<T> {
    let mut shares: Vec<VecDeque<Task<T>>> = (0..threads).map(|_| VecDeque::new()).collect();
    tasks.into_iter().enumerate().for_each(|(at, task)| shares[at % threads].push_back(task));
    let take_turns = |mut tasks: VecDeque<Task<T>>| {
        let mut done = Vec::new();
        while let Some(mut task) = tasks.pop_front() {
            match task.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(value) => done.push(value),
                Poll::Pending => tasks.push_back(task),
            }
        }
        done
    };
    thread::scope(|scope| {
        let running: Vec<_> =
            shares.into_iter().map(|share| scope.spawn(move || take_turns(share))).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

/// All workers of both accounts, on so many threads, until everything is read or one of them fails.
fn run(threads: usize, seed: u64, careful: bool) -> (Arc<World>, Result<(), Error>) {
    let world = Arc::new(World::new(seed, careful));
    let tasks = (0..2 * WORKERS)
        .map(|task| -> Task<_> { Box::pin(world.clone().work(seed, task % 2, task / 2)) });
    let done = run_all(threads, tasks.collect()).into_iter().collect();
    (world, done)
}

fn check(threads: usize, seed: u64) {
    let seed = Seed(seed);
    let (world, done) = run(threads, seed.0, true);
    done.unwrap();
    for (side, user) in USERS.into_iter().enumerate() {
        let mut shown = world.shown[side].lock().unwrap().clone();
        shown.sort();
        let sent = (0..WORKERS)
            .flat_map(|worker| (0..TEXTS).map(move |text| name(1 - side, worker, text)));
        let mut sent: Vec<_> = sent.map(String::into_bytes).collect();
        sent.sort();
        assert!(shown == sent, "{} shown to {}, {} sent", shown.len(), user, sent.len());
    }
    assert_eq!(world.keys_used_twice(), 0);
    let duplicates = world.duplicates.load(Ordering::Relaxed);
    println!("seed {}: {} conflicts, {duplicates} duplicates", seed.0, world.conflicts());
    for (what, efforts) in world.efforts.lock().unwrap().iter() {
        println!("{what}: {:?} to {:?}", efforts.first().unwrap(), efforts.last().unwrap());
    }
    // Else nothing was shown.
    assert!(world.conflicts() > 0);
}

#[test]
fn tasks_share_an_account() {
    for seed in Seed::chosen_or(1..6) {
        check(1, seed);
    }
}

#[test]
fn tasks_on_several_threads_share_an_account() {
    for seed in Seed::chosen_or(6..8) {
        check(4, seed);
    }
}

/// So the check is what does it, and these tests would see it fail.
#[test]
fn without_the_check_keys_would_be_used_twice() {
    let used_twice: usize = (1..4)
        .map(|seed| {
            let world = Arc::new(World::new(seed, false));
            let write = |worker: usize| -> Task<()> {
                let world = world.clone();
                Box::pin(async move {
                    let rng = &mut Seeded::new(seed, &format!("{worker}"));
                    for text in 0..TEXTS {
                        world.write(0, &name(0, worker, text), rng).await.unwrap();
                        world.post(0, rng).await.unwrap();
                    }
                })
            };
            run_all(1, (0..WORKERS).map(write).collect());
            world.keys_used_twice()
        })
        .sum();
    assert!(used_twice > 0);
}

#[test]
fn work_that_fails_changes_nothing_and_says_what_that_rests_on() {
    let mut overlay = Overlay::new();
    overlay.supply(row(b"key"), Vec::new());
    let ran = overlay.run(|tx| {
        tx.put(Table::Inbox, b"other", b"")?;
        tx.get(Table::Inbox, b"key")?.map(drop).ok_or(Error::NoAccount)
    });
    let Ran::Done(Err(Error::NoAccount), changes) = ran else { panic!("{ran:?}") };
    assert_eq!(changes.relied_on(), [(row(b"key"), Vec::new())]);
    assert!(changes.writes().is_empty());
}

#[test]
fn work_that_hides_what_is_missing_is_run_again() {
    let mut overlay = Overlay::new();
    let work = |overlay: &Overlay| {
        overlay.run(|tx| {
            let found = tx.get(Table::Inbox, b"key").ok().flatten();
            tx.put(Table::Inbox, b"other", b"").map(|()| found.is_some())
        })
    };
    let Ran::Missing::<_, Error>(missing) = work(&overlay) else { panic!("nothing was read") };
    assert_eq!(missing, [row(b"key")]);
    overlay.supply(row(b"key"), vec![(b"key".to_vec(), Value::default())]);
    let Ran::Done(Ok(true), changes) = work(&overlay) else { panic!("it was read") };
    assert_eq!((changes.relied_on().len(), changes.writes().len()), (1, 1));
}

#[test]
fn rows_that_are_announced_are_missing_at_once() {
    let mut overlay = Overlay::new();
    let work = |overlay: &Overlay| {
        overlay.run(|tx| {
            tx.put(Table::Inbox, b"mine", b"")?;
            tx.prefetch(&[
                (Table::Inbox, b"b"),
                (Table::Inbox, b"mine"),
                (Table::Inbox, b"a"),
                (Table::Inbox, b"b"),
                (Table::Inbox, b"read"),
            ])?;
            tx.get(Table::Inbox, b"a")?;
            tx.get(Table::Inbox, b"mine")?;
            tx.get(Table::Inbox, b"later").map(drop)
        })
    };
    overlay.supply(row(b"read"), Vec::new());
    let Ran::Missing::<_, Error>(missing) = work(&overlay) else { panic!("nothing was read") };
    assert_eq!(missing, [row(b"a"), row(b"b")]);
    overlay.supply_all(missing.into_iter().map(|row| (row, Vec::new())));
    let Ran::Missing(missing) = work(&overlay) else { panic!("one was not announced") };
    assert_eq!(missing, [row(b"later")]);
    overlay.supply_all([(row(b"later"), Vec::new())]);
    let Ran::Done(Ok(()), changes) = work(&overlay) else { panic!("all was read") };
    // What was announced and not asked for is nothing that the changes rest on.
    assert_eq!(changes.relied_on(), [(row(b"a"), Vec::new()), (row(b"later"), Vec::new())]);
}

#[test]
fn an_announcement_that_is_hidden_is_fetched_all_the_same() {
    let overlay = Overlay::new();
    let ran = overlay.run(|tx| {
        drop(tx.prefetch(&[(Table::Inbox, b"a"), (Table::Inbox, b"b")]));
        drop(tx.get(Table::Inbox, b"c"));
        Ok::<_, Error>(())
    });
    let Ran::Missing(missing) = ran else { panic!("{ran:?}") };
    assert_eq!(missing, [row(b"a"), row(b"b")]);
}

#[test]
fn rows_are_found_in_whatever_order_a_database_returned_them() {
    let mut overlay = Overlay::new();
    let rows = [b"ac", b"ab", b"aa"].map(|key| (key.to_vec(), Value::default()));
    let most = 9;
    overlay.supply(Missing::Scan { table: Table::Inbox, prefix: b"a".to_vec(), most }, rows.into());
    let ran = overlay.run(|tx| {
        let is_there = tx.get(Table::Inbox, b"aa")?.is_some();
        let found = tx.scan(Table::Inbox, b"a", most)?.into_iter().map(|(key, _)| key);
        Ok::<_, Error>((is_there, found.collect::<Vec<_>>()))
    });
    let Ran::Done(Ok((true, found)), _) = ran else { panic!("{ran:?}") };
    assert_eq!(found, [b"aa", b"ab", b"ac"]);
}

#[test]
fn what_was_looked_at_before_a_refusal_is_looked_at_anew() {
    let mut overlay = Overlay::new();
    let look = Missing::Peek { table: Table::Outbox, prefix: vec![0], most: 9 };
    overlay.supply(look.clone(), Vec::new());
    let work = |overlay: &Overlay| overlay.run(|tx| tx.peek(Table::Outbox, &[0], 9));
    let Ran::Done::<_, Error>(Ok(_), changes) = work(&overlay) else { panic!("it was read") };
    overlay.refused(&changes);
    let Ran::Missing(missing) = work(&overlay) else { panic!("it may be otherwise by now") };
    assert_eq!(missing, [look]);
}

/// A text has a new name each time that its operation is run: no row may be missing by that name.
#[test]
fn how_far_a_text_is_can_be_asked_in_the_operation_that_writes_it() {
    let mut memory = Memory::new();
    let mut rng = Seeded::new(1, "progress");
    let mut alice = Client::create(&mut memory, "alice", now(), &mut rng).unwrap();
    let group = alice.create_group(&[], b"roses", now(), &mut rng).unwrap();
    drop(alice);
    let database = Database::of(memory, true);
    for to in [None, Some(group)] {
        let mut overlay = Overlay::new();
        let mut write = |client: &mut Client<Open<'_>>| {
            let message = match to {
                Some(group) => client.write_to_group(group, b"hello", now(), &mut rng)?,
                None => client.write("bob", b"hello", now(), &mut rng)?,
            };
            client.progress(message)
        };
        let policy = Policy::default();
        let is_done =
            (0..50).any(|_| match overlay.run(|tx| Client::within(tx, &policy, &mut write)) {
                Ran::Done(done, _) => done.is_ok(),
                Ran::Missing(all) => {
                    for missing in all {
                        let (_, rows) = find(&database.rows.lock().unwrap(), &missing);
                        overlay.supply(missing, rows);
                    }
                    false
                }
            });
        assert!(is_done, "{to:?}");
    }
}

fn row(key: &[u8]) -> Missing {
    Missing::Row { table: Table::Inbox, key: key.to_vec() }
}
