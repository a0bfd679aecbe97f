//! ratchetx2: the Double Ratchet with encrypted headers, on primitives in assembly and C (ring),
//! without a post-quantum part.
//!
//! What it cannot do: its handshake and prekeys come with its gRPC feature alone; it skips 1,024
//! messages at most, which leaves out both jumps and 2,000 held keys; and its state cannot be
//! stored.

use std::collections::VecDeque;
use std::future::{Ready, ready};
use std::hint::black_box;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use criterion::BatchSize;
use ratchetx2::agreement::{EphemeralPrivateKey, X25519};
use ratchetx2::error::Error;
use ratchetx2::rand::SystemRandom;
use ratchetx2::transport::Transport;
use ratchetx2::{Party, SharedKeys};

use crate::ratchet::ROUND_TRIPS;
use crate::timing::{Group, Row, column, figure, steps};

const NAME: &str = "ratchetx2";

pub(crate) const ROWS: [Row; 11] = [
    ("encrypt-64", |group| encrypt(group, 64)),
    ("encrypt-1k", |group| encrypt(group, 1 << 10)),
    ("encrypt-64k", |group| encrypt(group, 1 << 16)),
    ("decrypt-64", |group| decrypt(group, 64)),
    ("decrypt-1k", |group| decrypt(group, 1 << 10)),
    ("decrypt-64k", |group| decrypt(group, 1 << 16)),
    ("ping-pong", ping_pong),
    ("reverse-1000", reverse),
    ("reject-1", |group| reject(group, vec![Pair::midway()])),
    ("reject-16-chains", |group| reject(group, vec![with_old_chains()])),
    ("reject-5-sessions", |group| reject(group, (0..5).map(|_| Pair::midway()).collect())),
];

const STEPS: usize = 32;

/// Messages on their way. Each fetch takes one, so that each is decrypted by itself.
type Queue = Arc<Mutex<VecDeque<Vec<u8>>>>;

/// A transport that costs next to nothing: its own are a channel behind a lock, and gRPC.
#[derive(Debug)]
struct Mailbox {
    outgoing: Queue,
    incoming: Queue,
}

impl Transport for Mailbox {
    fn push_bytes(
        &mut self,
        bytes: Vec<u8>,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'static {
        self.outgoing.lock().unwrap().push_back(bytes);
        ready(Ok(()))
    }

    fn fetch_bytes(
        &mut self,
        _limit: Option<usize>,
    ) -> impl Future<Output = Result<Vec<Vec<u8>>, Error>> + Send + 'static {
        let fetched: Ready<Result<Vec<_>, Error>> =
            ready(Ok(self.incoming.lock().unwrap().pop_front().into_iter().collect()));
        fetched
    }
}

/// Nothing here ever waits.
fn finish<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("the mailbox is always ready"),
    }
}

struct Pair {
    one: Party<Mailbox>,
    other: Party<Mailbox>,
    /// From one to the other.
    there: Queue,
}

impl Pair {
    fn new() -> Self {
        let keys =
            SharedKeys { secret_key: [0; 32], header_key_alice: [1; 32], header_key_bob: [2; 32] };
        let secret = EphemeralPrivateKey::generate(&X25519, &SystemRandom::new()).unwrap();
        let other = keys.bob(secret);
        let one = keys.alice(&other.public_key());
        let [there, back] = [Queue::default(), Queue::default()];
        let boxes = [
            Mailbox { outgoing: there.clone(), incoming: back.clone() },
            Mailbox { outgoing: back, incoming: there.clone() },
        ];
        let [one_box, other_box] = boxes;
        Self {
            one: Party::new(one, one_box, [0; 32]),
            other: Party::new(other, other_box, [0; 32]),
            there,
        }
    }

    /// After seven messages, the initiator's turn.
    fn midway() -> Self {
        let mut pair = Self::new();
        pair.ask();
        for _ in 0..3 {
            pair.answer();
            pair.ask();
        }
        pair
    }

    fn ask(&mut self) {
        deliver(&mut self.one, &mut self.other);
    }

    fn answer(&mut self) {
        deliver(&mut self.other, &mut self.one);
    }
}

fn send(party: &mut Party<Mailbox>, plaintext: &[u8]) {
    finish(party.push(plaintext)).unwrap();
}

fn receive(party: &mut Party<Mailbox>) -> Vec<u8> {
    finish(party.fetch()).unwrap().remove(0).unwrap()
}

fn deliver(from: &mut Party<Mailbox>, to: &mut Party<Mailbox>) {
    send(from, &[7; 64]);
    receive(to);
}

/// It cannot be copied: the chain goes on and on.
fn encrypt(group: &mut Group<'_>, length: usize) {
    let plaintext = vec![7; length];
    let Pair { mut one, there, .. } = Pair::midway();
    column(group, NAME, |bencher| {
        let setup = || there.lock().unwrap().clear();
        steps(bencher, STEPS as u64, setup, |(), _| send(&mut one, black_box(&plaintext)));
    });
}

fn decrypt(group: &mut Group<'_>, length: usize) {
    let plaintext = vec![7; length];
    let Pair { mut one, mut other, there } = Pair::midway();
    column(group, NAME, |bencher| {
        let setup = || {
            while there.lock().unwrap().len() < STEPS {
                send(&mut one, &plaintext);
            }
        };
        steps(bencher, STEPS as u64, setup, |(), _| receive(&mut other));
    });
}

fn ping_pong(group: &mut Group<'_>) {
    let mut pair = Pair::midway();
    column(group, NAME, |bencher| {
        bencher.iter(|| {
            for _ in 0..ROUND_TRIPS {
                pair.answer();
                pair.ask();
            }
        });
    });
}

fn reverse(group: &mut Group<'_>) {
    column(group, NAME, |bencher| {
        let setup = || {
            let mut pair = Pair::midway();
            (0..1_000).for_each(|_| send(&mut pair.one, &[7; 64]));
            pair.there.lock().unwrap().make_contiguous().reverse();
            pair.other
        };
        let receive_all = |party: &mut Party<Mailbox>| {
            for _ in 0..1_000 {
                black_box(receive(party));
            }
        };
        bencher.iter_batched_ref(setup, receive_all, BatchSize::PerIteration);
    });
}

/// Holds a skipped key of each of 16 chains.
fn with_old_chains() -> Pair {
    let mut pair = Pair::midway();
    for _ in 0..16 {
        pair.answer();
        send(&mut pair.one, &[7; 64]);
        pair.there.lock().unwrap().clear();
        pair.ask();
    }
    pair.answer();
    pair.ask();
    pair
}

/// A header and a text of noise.
fn reject(group: &mut Group<'_>, mut pairs: Vec<Pair>) {
    send(&mut pairs[0].one, &[7; 64]);
    let mut forged = pairs[0].there.lock().unwrap().pop_back().unwrap();
    // length:u8 || header || length:u8 || text
    let header = usize::from(forged[0]);
    forged[1..=header].fill(9);
    forged[header + 2..].fill(9);
    column(group, NAME, |bencher| {
        bencher.iter(|| {
            for pair in &mut pairs {
                pair.there.lock().unwrap().push_back(forged.clone());
                assert!(finish(pair.other.fetch()).unwrap().remove(0).is_err());
            }
        });
    });
}

pub(crate) fn figures() {
    let mut pair = Pair::midway();
    send(&mut pair.one, &[7; 64]);
    figure("overhead-regular", NAME, pair.there.lock().unwrap()[0].len() - 64, "bytes");
}
