//! How many bytes does it take, on the wire and at rest?
//!
//! | figure | what |
//! | --- | --- |
//! | `overhead-regular`, `overhead-initial` | a message's length, less its plaintext of 64 bytes (72 as padded) |
//! | `bundle` | with one-time prekeys |
//! | `session-fresh` | a stored session of which one message went each way |
//! | `session-worst` | the longest that a stored session becomes in 4 epochs without losses, at either end, after sending or receiving |
//! | `session-skipped` | what one skipped message adds: a key in each of the two ratchets |
//!
//! Nothing is timed here.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    reason = "a bench that fails should stop"
)]

use subrosa::SystemRng;
use subrosa::protocol::IdentityKeyPair;

#[path = "support/parties.rs"]
#[allow(dead_code, reason = "each bench takes what it needs")]
mod parties;
#[path = "support/timing.rs"]
#[allow(dead_code, reason = "each bench takes what it needs")]
mod timing;

use parties::{Device, Pair, decrypt, encrypt, initiate};
use timing::figure;

const PLAINTEXT: [u8; 64] = [7; 64];

fn main() {
    figures();
}

pub(crate) fn figures() {
    let mut pair = Pair::answered();
    let bundle = Device::new(1).bundle();
    let mut initiator = initiate(&IdentityKeyPair::generate(&mut SystemRng), &bundle);
    figure(
        "overhead-regular",
        "ours",
        encrypt(&mut pair.initiator, &PLAINTEXT).len() - PLAINTEXT.len(),
        "bytes",
    );
    figure(
        "overhead-initial",
        "ours",
        encrypt(&mut initiator, &PLAINTEXT).len() - PLAINTEXT.len(),
        "bytes",
    );
    figure("bundle", "ours", bundle.len(), "bytes");
    figure("session-fresh", "ours", Pair::answered().initiator.encode().len(), "bytes");
    figure("session-worst", "ours", worst(), "bytes");
    figure("session-skipped", "ours", skipped(), "bytes");
}

fn worst() -> usize {
    let mut pair = Pair::answered();
    let mut worst = 0;
    for _ in 0..174 {
        for turn in [Pair::ask, Pair::answer] {
            turn(&mut pair);
            let ends = [&pair.initiator, &pair.responder];
            worst = ends.into_iter().map(|session| session.encode().len()).fold(worst, usize::max);
        }
    }
    worst
}

fn skipped() -> usize {
    let mut pair = Pair::midway();
    let messages = pair.send(1_001, &PLAINTEXT);
    let mut session = parties::copy(&pair.responder);
    messages.iter().for_each(|message| drop(decrypt(&mut session, message)));
    let without = session.encode().len();
    decrypt(&mut pair.responder, messages.last().unwrap());
    (pair.responder.encode().len() - without) / 1_000
}
