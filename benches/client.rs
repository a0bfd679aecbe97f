//! What does a message cost through the client, durably?
//!
//! Rows `client-STORE-SESSIONS`, with columns for a message of 64 bytes encrypted or decrypted in a commit of its own (`encrypt`, `decrypt`) and 100 in one
//! commit (`encrypt-100`, `decrypt-100`; divide by 100), and for a commit that writes one small row and nothing else (`commit`). `redb` is a file, `vault` the same
//! encrypted, `memory` neither. The sessions beside the one that is used are rows of the same size.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "a bench that fails should stop")]

use std::time::{Duration, Instant};

use criterion::Criterion;
use subrosa::store::{Lock, Memory, Redb, Store, Table, Transaction, Vault};
use subrosa::{Actions, Address, Client, Error, SystemRng};

#[path = "support/timing.rs"]
#[allow(dead_code, reason = "each bench takes what it needs")]
mod timing;

/// Seconds since the Unix epoch.
const NOW: u64 = 1_800_000_000;

fn main() {
    let mut criterion = timing::criterion(Duration::from_secs(1), Duration::from_secs(2));
    for sessions in [10, 1_000, 100_000] {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| Redb::open(folder.path().join(name)).unwrap();
        let vault = Vault::open(file("vault"), Lock::Key(&[7; 32]), &mut SystemRng).unwrap();
        through_client(&mut criterion, "memory", Memory::new(), sessions);
        through_client(&mut criterion, "redb", file("redb"), sessions);
        through_client(&mut criterion, "vault", vault, sessions);
    }
    criterion.final_summary();
}

/// Messages in one commit.
const MANY: usize = 100;

const TEXT: [u8; 64] = [7; 64];

fn through_client<S: Store>(criterion: &mut Criterion, name: &str, store: S, sessions: usize) {
    let (mut ours, mut peer) = talking(store);
    let mut store = ours.into_store();
    fill(&mut store, sessions);
    ours = Client::open(store).unwrap();
    let mut group = criterion.benchmark_group(format!("client-{name}-{sessions}"));
    for (count, suffix) in [(1, ""), (MANY, "-100")] {
        group.bench_function(format!("encrypt{suffix}"), |bencher| {
            bencher.iter_custom(|turns| {
                let mut spent = Duration::ZERO;
                for _ in 0..turns {
                    let start = Instant::now();
                    encrypt(&mut ours, "peer", count);
                    spent += start.elapsed();
                    carry(&mut ours, None::<&mut Client<Memory>>);
                }
                spent
            });
        });
        group.bench_function(format!("decrypt{suffix}"), |bencher| {
            bencher.iter_custom(|turns| {
                let mut spent = Duration::ZERO;
                for _ in 0..turns {
                    encrypt(&mut peer, "ours", count);
                    let envelopes = outbox(&mut peer);
                    let start = Instant::now();
                    receive(&mut ours, "peer", &envelopes);
                    spent += start.elapsed();
                    empty_inbox(&mut ours);
                }
                spent
            });
        });
    }
    let mut store = ours.into_store();
    group.bench_function("commit", |bencher| {
        bencher.iter(|| store.transact(|tx| tx.put(Table::Needed, b"bench", b"a small row")).unwrap());
    });
    group.finish();
}

/// Two accounts with a session that was answered.
fn talking<S: Store>(store: S) -> (Client<S>, Client<Memory>) {
    let rng = &mut SystemRng;
    let mut ours = Client::create(store, "ours", NOW, rng).unwrap();
    let mut peer = Client::create(Memory::new(), "peer", NOW, rng).unwrap();
    let mut upload = peer.upload(0, NOW, rng).unwrap().unwrap();
    ours.take_devices("peer", &upload.devices.encode()).unwrap();
    let bundle = upload.prekeys.take_bundle().unwrap().encode();
    ours.take_bundle(&Address::new("peer", 1), &bundle, NOW, rng).unwrap();
    encrypt(&mut ours, "peer", 1);
    carry(&mut ours, Some(&mut peer));
    encrypt(&mut peer, "ours", 1);
    carry(&mut peer, Some(&mut ours));
    empty_inbox(&mut ours);
    (ours, peer)
}

/// Rows of the size of a session, its device and its user, under keys that nobody asks for.
fn fill<S: Store>(store: &mut S, sessions: usize) {
    let value = |store: &mut S, table| {
        store.transact::<_, Error>(|tx| Ok(tx.scan(table, &[], 1)?.remove(0).1)).unwrap()
    };
    let rows = [Table::Session, Table::Device, Table::User].map(|table| (table, value(store, table)));
    let numbers: Vec<usize> = (1..sessions).collect();
    for numbers in numbers.chunks(5_000) {
        let work = |tx: &mut dyn Transaction| {
            for number in numbers {
                // Spread over all keys, as tags are.
                let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
                let key = [&spread[..], &[0; 12]].concat();
                rows.iter().try_for_each(|(table, value)| tx.put(*table, &key, value))?;
            }
            Ok::<(), Error>(())
        };
        store.transact(work).unwrap();
    }
}

fn encrypt<S: Store>(from: &mut Client<S>, to: &str, count: usize) {
    let work = |actions: &mut Actions<'_>| {
        (0..count).try_for_each(|_| actions.encrypt(to, &TEXT, NOW, &mut SystemRng).map(drop))
    };
    from.transact(work).unwrap();
}

fn receive<S: Store>(to: &mut Client<S>, from: &str, envelopes: &[Vec<u8>]) {
    let from = Address::new(from, 1);
    let work = |actions: &mut Actions<'_>| {
        envelopes
            .iter()
            .try_for_each(|envelope| actions.receive(&from, envelope, NOW, &mut SystemRng).map(drop))
    };
    to.transact(work).unwrap();
}

/// What is in the outbox, which is empty then.
fn outbox<S: Store>(from: &mut Client<S>) -> Vec<Vec<u8>> {
    let work = |actions: &mut Actions<'_>| {
        let all = actions.outbox(MANY)?;
        all.iter().try_for_each(|outgoing| actions.sent(outgoing.id))?;
        Ok::<_, Error>(all.into_iter().map(|outgoing| outgoing.envelope).collect())
    };
    from.transact(work).unwrap()
}

/// To the other side, or nowhere.
fn carry<S: Store, T: Store>(from: &mut Client<S>, to: Option<&mut Client<T>>) {
    let name = from.address().clone().user;
    let envelopes = outbox(from);
    if let Some(to) = to {
        receive(to, &name, &envelopes);
    }
}

fn empty_inbox<S: Store>(of: &mut Client<S>) {
    let work = |actions: &mut Actions<'_>| {
        actions.inbox(MANY)?.iter().try_for_each(|incoming| actions.done(incoming.id))
    };
    of.transact(work).unwrap();
}
