//! What does it cost that the server does not learn who writes?
//!
//! Prints, for stores in memory with 10 and with 100,000 contacts, and for one on disk, what sending and receiving a
//! message of 64 bytes costs openly and sealed, the ratio of both, and the bytes of an envelope. Open
//! and sealed messages take turns, so that whatever else the machine does falls on both: a ratio of
//! medians is exact to a few hundredths on a busy machine, where two benches after each other are
//! not.
//!
//! ```sh
//! cargo bench --bench sealed [-- MESSAGES]
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_precision_loss,
    clippy::as_conversions,
    reason = "a bench that fails should stop"
)]

use std::time::{Duration, Instant};

use subrosa::Delivery;
use subrosa::store::{Memory, Redb, Store};

#[path = "support/pair.rs"]
#[allow(dead_code, reason = "each bench takes what it needs")]
mod pair;

use pair::{Pair, receive, send};

/// Messages of each kind.
const MESSAGES: usize = 4_000;

/// What one message cost.
#[derive(Default)]
struct Spent {
    send: Vec<Duration>,
    receive: Vec<Duration>,
    bytes: usize,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let messages = arguments.find_map(|argument| argument.parse().ok()).unwrap_or(MESSAGES);
    println!("| store | contacts | | open | sealed | ratio |");
    println!("| --- | ---: | --- | ---: | ---: | ---: |");
    for peers in [10, 100_000] {
        compare("memory", [Memory::new(), Memory::new()], peers, messages);
    }
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| Redb::open(folder.path().join(name)).unwrap();
    // Each is several commits.
    compare("redb", [file("open"), file("sealed")], 10, messages / 10);
}

fn compare<S: Store>(store: &str, stores: [S; 2], peers: usize, messages: usize) {
    let [open, sealed] = stores;
    let mut pairs = [(open, Delivery::Open), (sealed, Delivery::Sealed)]
        .map(|(store, delivery)| (Pair::talking(store, delivery, peers), Spent::default()));
    for turn in 0..messages {
        // Each goes first as often as the other.
        for at in [turn % 2, 1 - turn % 2] {
            let (pair, spent) = &mut pairs[at];
            take_turn(pair, spent);
        }
    }
    let [open, sealed] = pairs.map(|(_, spent)| spent);
    let name = format!("{store} | {peers}");
    line(&name, "send", median(open.send), median(sealed.send));
    line(&name, "receive", median(open.receive), median(sealed.receive));
    println!("| {name} | bytes | {} | {} | |", open.bytes, sealed.bytes);
}

/// Both write, so that nobody runs out of tickets.
fn take_turn<S: Store>(pair: &mut Pair<S>, spent: &mut Spent) {
    let start = Instant::now();
    let envelopes = send(&mut pair.ours, "peer", 1);
    spent.send.push(start.elapsed());
    spent.bytes = envelopes[0].len();
    receive(&mut pair.peer, "ours", &envelopes);
    let envelopes = send(&mut pair.peer, "ours", 1);
    let start = Instant::now();
    receive(&mut pair.ours, "peer", &envelopes);
    spent.receive.push(start.elapsed());
}

fn median(mut all: Vec<Duration>) -> f64 {
    all.sort();
    all[all.len() / 2].as_nanos() as f64 / 1_000.0
}

fn line(name: &str, what: &str, open: f64, sealed: f64) {
    println!("| {name} | {what} | {open:.1} us | {sealed:.1} us | {:.2} |", sealed / open);
}
