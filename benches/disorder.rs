//! What does it cost when messages come late, in the wrong order, or from somebody who forges them?
//!
//! | row | what |
//! | --- | --- |
//! | `reverse-1000` | 1,000 messages of one chain, the last first |
//! | `jump-2000`, `jump-25000` | one message that skips so many, whose keys are kept (the newest 2,000 of them) |
//! | `decrypt-holding` | the next message of a chain, while the keys of 2,000 skipped ones are held; beside it, as `without`, the same while none is |
//! | `reject-1` | a forged message, tried on one session without skipped chains |
//! | `reject-16-chains` | the same on a session that holds skipped keys of 16 older chains |
//! | `reject-5-sessions` | the same on five sessions without skipped chains |
//!
//! Forged is a message of the right layout, the rest noise: what somebody can make who knows no keys.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a bench that fails should stop"
)]

use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{BatchSize, Bencher};
use subrosa::Error;
use subrosa::protocol::{Message, Session};

#[path = "support/floor.rs"]
#[allow(dead_code, reason = "each bench takes what it needs")]
mod floor;
#[path = "support/parties.rs"]
#[allow(dead_code, reason = "each bench takes what it needs")]
mod parties;
#[path = "support/timing.rs"]
#[allow(dead_code, reason = "each bench takes what it needs")]
mod timing;

use floor::{Chains, REGULAR};
use parties::{Pair, copy, decrypt, encrypt};
use timing::{Group, Row, column, steps};

pub(crate) const ROWS: [Row; 7] = [
    ("reverse-1000", reverse),
    ("jump-2000", |group| jump(group, 2_000)),
    ("jump-25000", |group| jump(group, 25_000)),
    ("decrypt-holding", holding),
    ("reject-1", |group| reject(group, &mut [Pair::midway().responder], 2)),
    ("reject-16-chains", |group| reject(group, &mut [with_old_chains()], 18)),
    ("reject-5-sessions", |group| {
        reject(group, &mut [(); 5].map(|()| Pair::midway().responder), 10)
    }),
];

fn main() {
    timing::run(&ROWS);
}

const PLAINTEXT: [u8; 64] = [7; 64];

/// The most keys that either ratchet keeps.
const KEPT: usize = 2_000;

/// What is kept of a skipped message: its number and its key.
type Record = (u32, [u8; 32]);

fn reverse(group: &mut Group<'_>) {
    let mut pair = Pair::midway();
    let stored = pair.responder.encode();
    let messages = pair.send(1_000, &PLAINTEXT);
    column(group, "ours", |bencher| {
        let receive = |session: &mut Session| {
            for message in messages.iter().rev() {
                black_box(decrypt(session, message));
            }
        };
        bencher.iter_batched_ref(
            || Session::decode(&stored).unwrap(),
            receive,
            BatchSize::PerIteration,
        );
    });
    column(group, "floor", reverse_floor);
}

/// 999 steps of both chains, 15 compressions each, and their keys written down. Then 1,000 messages: 10 compressions,
/// a header under the first key tried, a payload, one allocation; for the first, 15 compressions more.
fn reverse_floor(bencher: &mut Bencher<'_, WallTime>) {
    let mut chains = Chains::start();
    let messages: Vec<_> = (0..1_000)
        .map(|_| floor::seal_message(&mut chains, REGULAR, &[7; 32], &PLAINTEXT))
        .collect();
    bencher.iter(|| {
        let mut chains = black_box(Chains::start());
        let [double, sparse] = walk(&mut chains, 999);
        let mut later = messages.iter().rev();
        let last = later.next().unwrap();
        black_box(floor::open_message(&mut chains, REGULAR, black_box(last), PLAINTEXT.len()));
        for ((message, double), sparse) in later.zip(double.iter().rev()).zip(sparse.iter().rev()) {
            floor::open_header(&[&floor::HEADER_KEY], message, REGULAR).unwrap();
            let keys = floor::message_keys(&floor::words(&double.1), &floor::words(&sparse.1));
            black_box(floor::open_payload(&keys, message, REGULAR, PLAINTEXT.len()));
        }
    });
}

/// Steps over `count` messages and writes down the newest keys: 15 compressions each. The keys of either ratchet.
fn walk(chains: &mut Chains, count: usize) -> [Vec<Record>; 2] {
    let [mut double, mut sparse] = [(); 2].map(|()| Vec::with_capacity(count.min(KEPT)));
    for (number, left) in (0..count).rev().enumerate() {
        let number = u32::try_from(number).unwrap();
        let (one, other) = (chains.step_double(), chains.step_sparse());
        if left < KEPT {
            double.push((number, floor::bytes(&one)));
            sparse.push((number, floor::bytes(&other)));
        }
    }
    [double, sparse]
}

fn jump(group: &mut Group<'_>, skipped: usize) {
    let mut pair = Pair::midway();
    let stored = pair.responder.encode();
    let message = pair.send(skipped + 1, &PLAINTEXT).pop().unwrap();
    if skipped > KEPT {
        group.sample_size(20);
    }
    column(group, "ours", |bencher| {
        let receive = |session: &mut Session| decrypt(session, black_box(&message));
        bencher.iter_batched_ref(
            || Session::decode(&stored).unwrap(),
            receive,
            BatchSize::PerIteration,
        );
    });
    column(group, "floor", |bencher| jump_floor(bencher, skipped));
}

/// So many steps of both chains, 15 compressions each, the newest 2,000 keys of either written down; and the message.
fn jump_floor(bencher: &mut Bencher<'_, WallTime>, skipped: usize) {
    let mut chains = Chains::start();
    walk(&mut chains, skipped);
    let message = floor::seal_message(&mut chains, REGULAR, &[7; 32], &PLAINTEXT);
    let receive = |()| {
        let mut chains = black_box(Chains::start());
        let kept = walk(&mut chains, skipped);
        let text = floor::open_message(&mut chains, REGULAR, black_box(&message), PLAINTEXT.len());
        (kept, text)
    };
    bencher.iter_batched(|| (), receive, BatchSize::PerIteration);
}

/// Messages from one copy of a session.
const STEPS: u64 = 16;

fn holding(group: &mut Group<'_>) {
    let mut pair = Pair::midway();
    let messages = pair.send(KEPT + 20, &PLAINTEXT);
    let (skipped, rest) = messages.split_at(KEPT);
    // Both stand at the same place of the same chain.
    let mut without = copy(&pair.responder);
    skipped.iter().for_each(|message| drop(decrypt(&mut without, message)));
    let mut with = pair.responder;
    for session in [&mut without, &mut with] {
        decrypt(session, &rest[0]);
    }
    for (name, session) in [("ours", &with), ("without", &without)] {
        let stored = session.encode();
        let setup = || Session::decode(&stored).unwrap();
        column(group, name, |bencher| {
            steps(bencher, STEPS, setup, |session, at| decrypt(session, black_box(&rest[at + 1])));
        });
    }
    column(group, "floor", holding_floor);
}

/// The keys of a message, 25 compressions; its header under the first key tried, its payload; one allocation.
fn holding_floor(bencher: &mut Bencher<'_, WallTime>) {
    let message = floor::seal_message(&mut Chains::start(), REGULAR, &[7; 32], &PLAINTEXT);
    bencher.iter(|| {
        let mut chains = black_box(Chains::start());
        floor::open_message(&mut chains, REGULAR, black_box(&message), PLAINTEXT.len())
    });
}

/// A session that holds a skipped key of each of 16 receiving chains, and none of the current one.
fn with_old_chains() -> Session {
    let mut pair = Pair::answered();
    for _ in 0..16 {
        let _lost = encrypt(&mut pair.initiator, &PLAINTEXT);
        pair.ask();
        pair.answer();
    }
    pair.ask();
    pair.responder
}

fn reject(group: &mut Group<'_>, sessions: &mut [Session], trials: usize) {
    let message = parties::forged();
    column(group, "ours", |bencher| {
        bencher.iter(|| {
            let message = Message::decode(black_box(&message)).unwrap();
            for session in sessions.iter_mut() {
                assert_eq!(session.decrypt(&message, b""), Err(Error::UnknownHeader));
            }
        });
    });
    column(group, "floor", |bencher| reject_floor(bencher, &message, trials));
}

/// A header of 104 bytes refused by so many keys, each with one block of ChaCha20 and 128 bytes of Poly1305: for each
/// session the key of its receiving chain, the next one, and those of the older chains.
fn reject_floor(bencher: &mut Bencher<'_, WallTime>, message: &[u8], trials: usize) {
    // The last is tried as one that fits is.
    let keys = vec![&floor::OTHER_HEADER_KEY; trials];
    bencher.iter(|| {
        assert_eq!(floor::open_header(black_box(&keys), black_box(message), REGULAR), None)
    });
}
