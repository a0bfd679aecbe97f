//! What does it cost to become reachable, to write to somebody for the first time, and to be written to?
//!
//! | row | from | to |
//! | --- | --- | --- |
//! | `prekeys-100` | nothing | 100 one-time sets (X25519 and ML-KEM-1024), their secrets, and the public halves, signed |
//! | `handshake-initiator` | the bytes of a bundle | the session, and the bytes of its first message |
//! | `handshake-responder` | the bytes of that message and the stored prekeys | the session, and the plaintext |
//!
//! The first message is part of the initiator's row, as the first plaintext is of the responder's: a handshake that
//! has sent nothing is of no use, and the ratchet defers its first key generations to that message.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a bench that fails should stop"
)]

use std::hint::black_box;

use criterion::{BatchSize, Bencher};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use libcrux_ml_kem::mlkem1024;
use subrosa::SystemRng;
use subrosa::protocol::{IdentityKeyPair, Message, Prekeys, Session};

#[path = "support/floor.rs"]
#[allow(dead_code, reason = "each bench takes what it needs")]
mod floor;
#[path = "support/parties.rs"]
#[allow(dead_code, reason = "each bench takes what it needs")]
mod parties;
#[path = "support/timing.rs"]
#[allow(dead_code, reason = "each bench takes what it needs")]
mod timing;

use criterion::measurement::WallTime;
use floor::Chains;
use parties::{Device, NOW, initiate};
use timing::{Group, Row, column};

pub(crate) const ROWS: [Row; 3] = [
    ("prekeys-100", prekeys),
    ("handshake-initiator", initiator),
    ("handshake-responder", responder),
];

fn main() {
    timing::run(&ROWS);
}

/// What is signed of a signed prekey, and of a KEM prekey: label, kind, id, time, encoded key.
const SIGNED: usize = 17 + 1 + 4 + 8 + 1 + 32;
const SIGNED_KEM: usize = 17 + 1 + 4 + 8 + 1 + 1568;

fn prekeys(group: &mut Group<'_>) {
    let identity = IdentityKeyPair::generate(&mut SystemRng);
    column(group, "ours", |bencher| {
        let make = |()| {
            let mut prekeys = Prekeys::new();
            prekeys.refill(0, 100, NOW, &mut SystemRng).unwrap();
            let published = prekeys.publish(&identity);
            (prekeys, published)
        };
        bencher.iter_batched(|| (), make, BatchSize::PerIteration);
    });
    column(group, "floor", prekeys_floor);
}

/// 100 times: an X25519 and an ML-KEM-1024 key generated from fresh randomness, a signature of 1,599 bytes.
fn prekeys_floor(bencher: &mut Bencher<'_, WallTime>) {
    let identity = SigningKey::from_bytes(&floor::draw());
    let make = |()| {
        let mut published = Vec::with_capacity(100);
        let mut message = [7; SIGNED_KEM];
        for _ in 0..100 {
            let public = floor::public_key(&floor::draw());
            let (secret, kem_public) = mlkem1024::generate_key_pair(floor::draw()).into_parts();
            black_box(&secret);
            message[SIGNED_KEM - 1568..].copy_from_slice(kem_public.as_slice());
            published.push((public, kem_public, identity.sign(&message)));
        }
        published
    };
    bencher.iter_batched(|| (), make, BatchSize::PerIteration);
}

fn initiator(group: &mut Group<'_>) {
    let identity = IdentityKeyPair::generate(&mut SystemRng);
    let bundle = Device::new(100).bundle();
    column(group, "ours", |bencher| {
        let make = |()| {
            let mut session = initiate(&identity, black_box(&bundle));
            let message = parties::encrypt(&mut session, &[7; 64]);
            (session, message)
        };
        bencher.iter_batched(|| (), make, BatchSize::SmallInput);
    });
    column(group, "floor", initiator_floor);
}

/// Bundle: an identity decoded, two signatures verified (of 63 and 1,599 bytes), an ML-KEM-1024 key checked.
/// Handshake: two X25519 keys converted, one generated, four exchanges; one encapsulation; 94 compressions.
/// The identity sealed: 60 compressions, an AEAD of 32 bytes.
/// First message: an X25519 key generated and one exchange with a key that is converted already; a root step, 12
/// compressions; the first key of the post-quantum ratchet, an ML-KEM-768 generation and 5 compressions; the message.
fn initiator_floor(bencher: &mut Bencher<'_, WallTime>) {
    let responder = SigningKey::from_bytes(&floor::draw());
    let messages: [&[u8]; 2] = [&[7; SIGNED], &[7; SIGNED_KEM]];
    let signatures = messages.map(|message| responder.sign(message));
    let key = responder.verifying_key().to_bytes();
    let [signed, one_time] = [floor::public_key(&floor::draw()), floor::public_key(&floor::draw())];
    let (_, kem) = mlkem1024::generate_key_pair(floor::draw()).into_parts();
    let identity: [u8; 32] = floor::draw();
    bencher.iter(|| {
        let verifying = decode_identity(black_box(&key));
        verify(&verifying, black_box(messages), &signatures);
        assert!(mlkem1024::validate_public_key(black_box(&kem)));

        let [signed, one_time] = [&signed, &one_time].map(|key| floor::point(black_box(key)));
        let dh1 = floor::exchange(&signed, &identity);
        let ephemeral = floor::draw();
        let dh2 = floor::exchange(&verifying.to_edwards(), &ephemeral);
        let dh3 = floor::exchange(&signed, &ephemeral);
        let dh4 = floor::exchange(&one_time, &ephemeral);
        let (ciphertext, shared) = mlkem1024::encapsulate(&kem, floor::draw());
        black_box((dh1, dh2, dh3, dh4, &ciphertext, floor::public_key(&ephemeral)));
        black_box(floor::Sealing::new(&floor::words(&shared)).seal(&key));
        let (mut root, mut chains) = floor::session_keys(&floor::words(&shared));

        let ratchet: [u8; 32] = floor::draw();
        let ratchet_key = floor::public_key(&ratchet);
        chains.double = floor::root_step(&mut root, &floor::exchange(&signed, &ratchet));
        black_box(floor::begin_epoch(&chains.double));
        floor::seal_message(&mut chains, floor::INITIAL, &ratchet_key, &[7; 64])
    });
}

fn responder(group: &mut Group<'_>) {
    let identity = IdentityKeyPair::generate(&mut SystemRng);
    let device = Device::new(100);
    let stored = device.prekeys.encode();
    let message = parties::encrypt(&mut initiate(&identity, &device.bundle()), &[7; 64]);
    column(group, "ours", |bencher| {
        let answer = |mut prekeys| {
            let message = Message::decode(black_box(&message)).unwrap();
            let answered = Session::respond(&device.identity, &mut prekeys, &message, b"").unwrap();
            (answered, prekeys)
        };
        bencher.iter_batched(|| Prekeys::decode(&stored).unwrap(), answer, BatchSize::SmallInput);
    });
    column(group, "floor", responder_floor);
}

/// Handshake: an identity decoded, one X25519 key converted, four exchanges; an ML-KEM-1024 key expanded from its seed
/// (which is what a prekey is at rest: 64 bytes in place of 3,168), one decapsulation; 94 compressions.
/// The identity opened: 60 compressions, an AEAD of 32 bytes.
/// First message: an X25519 key converted, one exchange; a root step, 12 compressions; the message, its header under
/// the first key tried.
fn responder_floor(bencher: &mut Bencher<'_, WallTime>) {
    let initiator = SigningKey::from_bytes(&floor::draw()).verifying_key().to_bytes();
    let [identity, signed, one_time] = [floor::draw(), floor::draw(), floor::draw()];
    let [ephemeral, ratchet] =
        [floor::public_key(&floor::draw()), floor::public_key(&floor::draw())];
    let seed = floor::draw();
    let (ciphertext, shared) = {
        let (_, kem) = mlkem1024::generate_key_pair(seed).into_parts();
        mlkem1024::encapsulate(&kem, floor::draw())
    };
    let sealed = floor::Sealing::new(&floor::words(&shared)).seal(&initiator);
    // The exchange that the keys of the message come from, and so the message.
    let (mut root, mut chains) = floor::session_keys(&floor::words(&shared));
    chains.double = floor::root_step(&mut root, &floor::exchange(&floor::point(&ratchet), &signed));
    let message = floor::seal_message(&mut chains, floor::INITIAL, &ratchet, &[7; 64]);
    bencher.iter(|| {
        let ephemeral = floor::point(black_box(&ephemeral));
        let dh2 = floor::exchange(&ephemeral, &identity);
        let dh3 = floor::exchange(&ephemeral, &signed);
        let dh4 = floor::exchange(&ephemeral, &one_time);
        let (secret, kem) = mlkem1024::generate_key_pair(black_box(seed)).into_parts();
        let shared = mlkem1024::decapsulate(&secret, black_box(&ciphertext));
        let initiator =
            floor::Sealing::new(&floor::words(&shared)).open(black_box(&sealed)).unwrap();
        let dh1 = floor::exchange(&decode_identity(&initiator).to_edwards(), &signed);
        black_box((dh1, dh2, dh3, dh4, &kem));
        let (mut root, mut chains) = floor::session_keys(&floor::words(&shared));

        let message = black_box(message.as_slice());
        let ratchet_key =
            floor::open_header(&[&floor::HEADER_KEY], message, floor::INITIAL).unwrap();
        let shared = floor::exchange(&floor::point(&ratchet_key), &signed);
        chains.double = floor::root_step(&mut root, &shared);
        let keys = Chains::step(&mut chains);
        floor::open_payload(&keys, message, floor::INITIAL, 64)
    });
}

/// The point of a canonical encoding, free of torsion.
fn decode_identity(bytes: &[u8; 32]) -> VerifyingKey {
    let key = VerifyingKey::from_bytes(bytes).unwrap();
    assert!(key.to_edwards().is_torsion_free());
    key
}

fn verify(key: &VerifyingKey, messages: [&[u8]; 2], signatures: &[Signature; 2]) {
    for (message, signature) in messages.into_iter().zip(signatures) {
        key.verify_strict(message, signature).unwrap();
    }
}
