//! What does a message cost, on a chain that exists and where the conversation turns?
//!
//! | row | what |
//! | --- | --- |
//! | `encrypt-64`, `-1k`, `-64k` | one more message of the sending chain: plaintext to bytes |
//! | `decrypt-64`, `-1k`, `-64k` | one more message of the receiving chain: bytes to plaintext |
//! | `ping-pong` | 87 round trips of 64 bytes: 174 messages, which is two epochs of the post-quantum ratchet, so that each side has had each part in it; every message takes a Diffie-Hellman ratchet step at both ends |
//! | `ping-pong-worst` | the worst single message of those 174, encrypting and decrypting together |
//!
//! The chains are timed in the longest phase of the post-quantum ratchet, in which each message carries a chunk of the
//! encapsulation key.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a bench that fails should stop"
)]

use std::hint::black_box;
use std::time::Instant;

use criterion::Bencher;
use criterion::measurement::WallTime;
use curve25519_dalek::edwards::EdwardsPoint;
use subrosa::protocol::Session;

#[path = "support/floor.rs"]
#[allow(dead_code, reason = "each bench takes what it needs")]
mod floor;
#[path = "support/parties.rs"]
#[allow(dead_code, reason = "each bench takes what it needs")]
mod parties;
#[path = "support/timing.rs"]
#[allow(dead_code, reason = "each bench takes what it needs")]
mod timing;

use floor::{Chains, REGULAR, Words};
use parties::Pair;
use timing::{Group, Row, column, steps};

pub(crate) const ROWS: [Row; 7] = [
    ("encrypt-64", |group| encrypt(group, 64)),
    ("encrypt-1k", |group| encrypt(group, 1 << 10)),
    ("encrypt-64k", |group| encrypt(group, 1 << 16)),
    ("decrypt-64", |group| decrypt(group, 64)),
    ("decrypt-1k", |group| decrypt(group, 1 << 10)),
    ("decrypt-64k", |group| decrypt(group, 1 << 16)),
    ("ping-pong", ping_pong),
];

fn main() {
    timing::run(&ROWS);
    worst_message();
}

/// Messages from one copy of a session: the phase lasts 36.
const STEPS: u64 = 32;

fn encrypt(group: &mut Group<'_>, length: usize) {
    let plaintext = vec![7; length];
    let stored = Pair::midway().initiator.encode();
    // What a session expands again after it was stored, it expands with the first message.
    let setup = || {
        let mut session = Session::decode(&stored).unwrap();
        parties::encrypt(&mut session, b"");
        session
    };
    column(group, "ours", |bencher| {
        steps(bencher, STEPS, setup, |session, _| parties::encrypt(session, black_box(&plaintext)));
    });
    column(group, "floor", |bencher| encrypt_floor(bencher, &plaintext));
}

/// The keys of a message, 25 compressions; a header of 88 bytes sealed over 2 bytes of associated data, and the padded
/// text over 154; one allocation, one copy of the text.
fn encrypt_floor(bencher: &mut Bencher<'_, WallTime>, plaintext: &[u8]) {
    let mut chains = Chains::start();
    bencher.iter(|| floor::seal_message(&mut chains, REGULAR, &[7; 32], black_box(plaintext)));
}

fn decrypt(group: &mut Group<'_>, length: usize) {
    let mut pair = Pair::midway();
    let stored = pair.responder.encode();
    let messages = pair.send(usize::try_from(STEPS).unwrap(), &vec![7; length]);
    let setup = || Session::decode(&stored).unwrap();
    column(group, "ours", |bencher| {
        steps(bencher, STEPS, setup, |session, at| {
            parties::decrypt(session, black_box(&messages[at]))
        });
    });
    column(group, "floor", |bencher| decrypt_floor(bencher, length));
}

/// As [`encrypt_floor`], opened instead of sealed; the header opens under the first key tried.
pub(crate) fn decrypt_floor(bencher: &mut Bencher<'_, WallTime>, length: usize) {
    let message = floor::seal_message(&mut Chains::start(), REGULAR, &[7; 32], &vec![7; length]);
    bencher.iter(|| {
        // From the same chain keys each time, so that the message opens each time.
        let mut chains = black_box(Chains::start());
        floor::open_message(&mut chains, REGULAR, black_box(&message), length)
    });
}

/// Two epochs take 174 messages, 87 there and 87 back.
pub(crate) const ROUND_TRIPS: usize = 87;

fn ping_pong(group: &mut Group<'_>) {
    let mut pair = Pair::answered();
    group.sample_size(30);
    column(group, "ours", |bencher| {
        bencher.iter(|| {
            for _ in 0..ROUND_TRIPS {
                pair.ask();
                pair.answer();
            }
        });
    });
    column(group, "floor", ping_pong_floor);
}

/// For each of 174 messages. Sending: an X25519 key generated, one exchange; a root step, 12 compressions; the message,
/// 25. Receiving: its header under the second key tried (the first is that of the chain before); an X25519 key
/// converted, one exchange; a root step, 12 compressions; the message, 25. For each of two epochs: one ML-KEM-768 key
/// generation, encapsulation, check of a key and decapsulation; 112 compressions. Nothing of the erasure code: without
/// losses its chunks are the message itself.
fn ping_pong_floor(bencher: &mut Bencher<'_, WallTime>) {
    let [mut one, mut other] = End::pair();
    let mut epoch_secret = [9; 8];
    bencher.iter(|| {
        for trip in 0..ROUND_TRIPS {
            other.receive(&one.send());
            one.receive(&other.send());
            if trip % (ROUND_TRIPS / 2) == 1 {
                epoch_secret = floor::epoch(&epoch_secret);
            }
        }
    });
}

/// One end of a conversation of bare primitives.
struct End {
    root: Words,
    secret: [u8; 32],
    remote: EdwardsPoint,
    sending: Chains,
    receiving: Chains,
}

impl End {
    fn pair() -> [Self; 2] {
        let [one, other] = [floor::draw(), floor::draw()];
        let new = |secret, other| {
            let remote = floor::point(&floor::public_key(&other));
            Self {
                root: [8; 8],
                secret,
                remote,
                sending: Chains::start(),
                receiving: Chains::start(),
            }
        };
        [new(one, other), new(other, one)]
    }

    fn send(&mut self) -> Vec<u8> {
        self.secret = floor::draw();
        let ratchet_key = floor::public_key(&self.secret);
        let shared = floor::exchange(&self.remote, &self.secret);
        self.sending.double = floor::root_step(&mut self.root, &shared);
        floor::seal_message(&mut self.sending, REGULAR, &ratchet_key, &[7; 64])
    }

    fn receive(&mut self, message: &[u8]) {
        let header_keys = [&floor::OTHER_HEADER_KEY, &floor::HEADER_KEY];
        self.remote = floor::point(&floor::open_header(&header_keys, message, REGULAR).unwrap());
        let shared = floor::exchange(&self.remote, &self.secret);
        self.receiving.double = floor::root_step(&mut self.root, &shared);
        let keys = self.receiving.step();
        black_box(floor::open_payload(&keys, message, REGULAR, 64));
    }
}

/// Two epochs over and over: of each of their 174 messages the median, and of those the worst.
pub(crate) fn worst_message() {
    const CYCLES: usize = 41;
    let mut pair = Pair::answered();
    // The first epoch is one message shorter: it ends here, and the figures begin with an epoch.
    (0..84).for_each(|number| one_message(&mut pair, number % 2 == 0));
    let mut times = vec![Vec::new(); 2 * ROUND_TRIPS];
    for _ in 0..CYCLES {
        for (number, times) in times.iter_mut().enumerate() {
            let start = Instant::now();
            one_message(&mut pair, number % 2 == 0);
            times.push(start.elapsed().as_nanos());
        }
    }
    let medians = times.iter_mut().map(|times| *times.select_nth_unstable(CYCLES / 2).1);
    let worst = medians.max().unwrap();
    timing::figure("ping-pong-worst", "ours", worst, "ns");
}

fn one_message(pair: &mut Pair, ask: bool) {
    if ask { pair.ask() } else { pair.answer() }
}
