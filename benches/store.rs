//! What does it cost to store a session and to load it again, as an app does around every message?
//!
//! | row | what |
//! | --- | --- |
//! | `store-fresh` | a session of which one message went each way: to bytes and back |
//! | `store-1000` | the same with 1,000 skipped keys, which each of the two ratchets holds |
//!
//! There is no floor: nothing of it is cryptography. Dropping (and so wiping) the bytes and the session is not timed.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    reason = "a bench that fails should stop"
)]

use std::hint::black_box;

use criterion::BatchSize;
use subrosa::protocol::Session;

#[path = "support/parties.rs"]
#[allow(dead_code, reason = "each bench takes what it needs")]
mod parties;
#[path = "support/timing.rs"]
#[allow(dead_code, reason = "each bench takes what it needs")]
mod timing;

use parties::{Pair, decrypt};
use timing::{Group, Row, column};

pub(crate) const ROWS: [Row; 2] = [
    ("store-fresh", |group| store(group, &Pair::answered().initiator)),
    ("store-1000", |group| store(group, &holding(1_000))),
];

fn main() {
    timing::run(&ROWS);
}

fn store(group: &mut Group<'_>, session: &Session) {
    column(group, "ours", |bencher| {
        let turn = |()| {
            let bytes = black_box(session).encode();
            let session = Session::decode(&bytes).unwrap();
            (bytes, session)
        };
        bencher.iter_batched(|| (), turn, BatchSize::NumIterations(8));
    });
}

/// A session that holds so many skipped keys.
pub(crate) fn holding(skipped: usize) -> Session {
    let mut pair = Pair::midway();
    let last = pair.send(skipped.saturating_add(1), &[7; 64]).pop().unwrap();
    decrypt(&mut pair.responder, &last);
    pair.responder
}
