//! What does a message cost through the client, durably?
//!
//! Rows `client-STORE-PEERS`, each for a message of 64 bytes:
//!
//! | column | what |
//! | --- | --- |
//! | `send` | written, handed out as a task, completed: three commits |
//! | `receive` | received, listed, acknowledged: two commits |
//! | `send-100`, `receive-100` | 100 messages in one commit; divide by 100 |
//! | `commit` | a commit that writes one small row and nothing else |
//!
//! `memory-sealed` is memory with sealed mail, to be compared with `memory` of as many peers.
//! `redb` is a file, `vault` the same encrypted, `memory` neither. The peers beside the one that is
//! talked with are rows of the same size.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a bench that fails should stop"
)]

use std::time::{Duration, Instant};

use criterion::Criterion;
use subrosa::store::{Lock, Memory, Redb, Store, Table, Vault};
use subrosa::{Delivery, Error, SystemRng};

#[path = "support/pair.rs"]
mod pair;
#[path = "support/timing.rs"]
#[allow(dead_code, reason = "each bench takes what it needs")]
mod timing;

use pair::{MANY, Pair, receive, send};

fn main() {
    let mut criterion = timing::criterion(Duration::from_secs(1), Duration::from_secs(2));
    for peers in [1, 100, 10_000] {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| Redb::open(folder.path().join(name)).unwrap();
        let vault = Vault::open(file("vault"), Lock::Key(&[7; 32]), &mut SystemRng).unwrap();
        through_client(&mut criterion, "memory", (Memory::new(), Delivery::Open), peers);
        through_client(&mut criterion, "redb", (file("redb"), Delivery::Open), peers);
        through_client(&mut criterion, "vault", (vault, Delivery::Open), peers);
    }
    // What a ticket stands for does not cost more where there are more contacts.
    for peers in [10, 100_000] {
        through_client(&mut criterion, "memory", (Memory::new(), Delivery::Open), peers);
        through_client(&mut criterion, "memory-sealed", (Memory::new(), Delivery::Sealed), peers);
    }
    criterion.final_summary();
}

fn through_client<S: Store>(
    criterion: &mut Criterion,
    name: &str,
    (store, delivery): (S, Delivery),
    peers: usize,
) {
    let mut pair = Pair::talking(store, delivery, peers);
    let mut group = criterion.benchmark_group(format!("client-{name}-{peers}"));
    let mut column = |name: &str, turn: &mut dyn FnMut(&mut Pair<S>) -> Duration| {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|turns| (0..turns).map(|_| turn(&mut pair)).sum());
        });
    };
    column("send", &mut |pair| {
        let start = Instant::now();
        let envelopes = send(&mut pair.ours, "peer", 1);
        let spent = start.elapsed();
        receive(&mut pair.peer, "ours", &envelopes);
        spent
    });
    column("receive", &mut |pair| {
        let envelopes = send(&mut pair.peer, "ours", 1);
        let start = Instant::now();
        receive(&mut pair.ours, "peer", &envelopes);
        start.elapsed()
    });
    column("send-100", &mut |pair| {
        let start = Instant::now();
        let envelopes =
            pair.ours.transact(|ours| Ok::<_, Error>(send(ours, "peer", MANY))).unwrap();
        let spent = start.elapsed();
        receive(&mut pair.peer, "ours", &envelopes);
        spent
    });
    column("receive-100", &mut |pair| {
        let envelopes = send(&mut pair.peer, "ours", MANY);
        let start = Instant::now();
        pair.ours
            .transact(|ours| {
                receive(ours, "peer", &envelopes);
                Ok::<(), Error>(())
            })
            .unwrap();
        start.elapsed()
    });
    let mut store = pair.ours.into_store();
    group.bench_function("commit", |bencher| {
        bencher.iter(|| store.transact(|tx| tx.put(Table::App, b"bench", b"a small row")).unwrap());
    });
    group.finish();
}
