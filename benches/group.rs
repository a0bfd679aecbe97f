//! What does a message to a group cost, whatever its size?
//!
//! | row | what |
//! | --- | --- |
//! | `group-encrypt-64`, `-64k` | one more message of the chain: content to envelope |
//! | `group-decrypt-64`, `-64k` | one more message of another device's chain: its label, its hint, its content, its signature |
//! | `group-reverse-1000` | 1,000 messages of one chain, the last first |
//! | `group-jump-999` | one message that skips so many, whose keys are kept |
//! | `group-backlog-64` | 64 messages of 64 bytes, in order |
//!
//! The floor has the protocol's signature, over what is signed, and its symmetric part.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a bench that fails should stop"
)]

use std::hint::black_box;

use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit};
use criterion::BatchSize;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};
use subrosa::group::{Distribution, Envelope, LabelKey, Sender, SenderKey, SenderKeyRecord};
use subrosa::protocol::IdentityKeyPair;
use subrosa::{Address, IdentityKey, SystemRng, UnixTime};

#[path = "support/floor.rs"]
#[allow(dead_code, reason = "each bench takes what it needs")]
mod floor;
#[path = "support/timing.rs"]
#[allow(dead_code, reason = "each bench takes what it needs")]
mod timing;

use floor::{Chains, HmacKey, TAG, Words};
use timing::{Group, Row, column, steps};

pub(crate) const ROWS: [Row; 7] = [
    ("group-encrypt-64", |group| encrypt(group, 64)),
    ("group-encrypt-64k", |group| encrypt(group, 1 << 16)),
    ("group-decrypt-64", |group| decrypt(group, 64)),
    ("group-decrypt-64k", |group| decrypt(group, 1 << 16)),
    ("group-reverse-1000", reverse),
    ("group-jump-999", jump),
    ("group-backlog-64", backlog),
];

fn main() {
    timing::run(&ROWS);
    figures();
}

/// Messages from one copy of a chain.
pub(crate) const STEPS: u64 = 64;

const GROUP: [u8; 32] = [1; 32];
const MEMBER: [u8; 16] = [2; 16];

/// A device that writes, and what another one has of it.
struct Parties {
    identity: IdentityKey,
    address: Address,
    key: SenderKey,
    record: SenderKeyRecord,
}

impl Parties {
    fn new() -> Self {
        let rng = &mut SystemRng;
        let identity = IdentityKeyPair::generate(rng).public_key();
        let now = UnixTime::from_secs(1_800_000_000).unwrap();
        let key = SenderKey::new(&GROUP, LabelKey::random(rng), now, rng);
        let given = key.distribution(&GROUP, &[3; 8], &[GROUP]).unwrap();
        let mut record = SenderKeyRecord::new();
        record.take(Distribution::decode(&given).unwrap(), now);
        Self { identity, address: Address::new("alice", 1), key, record }
    }

    fn sender(&self) -> Sender<'_> {
        sender(&self.identity, &self.address)
    }

    fn write(&mut self, count: usize, length: usize) -> Vec<Vec<u8>> {
        let Self { identity, address, key, .. } = self;
        let sender = sender(identity, address);
        let content = vec![7; length];
        (0..count).map(|_| key.seal(&sender, &content, &mut SystemRng).unwrap().envelope).collect()
    }
}

const fn sender<'a>(identity: &'a IdentityKey, address: &'a Address) -> Sender<'a> {
    Sender { group: &GROUP, member: &MEMBER, identity, address }
}

fn receive(record: &mut SenderKeyRecord, sender: &Sender<'_>, envelope: &[u8]) -> Vec<u8> {
    let envelope = Envelope::decode(envelope).unwrap();
    black_box(envelope.label());
    let hint = record.label_keys().find_map(|key| envelope.hint(key)).unwrap();
    let opened = record.receive(&envelope, &hint, sender).unwrap();
    record.commit(opened.step);
    opened.content
}

fn encrypt(group: &mut Group<'_>, length: usize) {
    let parties = Parties::new();
    let (stored, content, sender) = (parties.key.encode(), vec![7; length], parties.sender());
    column(group, "ours", |bencher| {
        let setup = || SenderKey::decode(&stored).unwrap();
        steps(bencher, STEPS, setup, |key, _| {
            key.seal(&sender, black_box(&content), &mut SystemRng).unwrap().envelope
        });
    });
    column(group, "floor", |bencher| {
        steps(bencher, STEPS, Floor::new, |floor, _| floor.seal(black_box(&content)));
    });
}

fn decrypt(group: &mut Group<'_>, length: usize) {
    let mut parties = Parties::new();
    let messages = parties.write(usize::try_from(STEPS).unwrap(), length);
    let (stored, sender) = (parties.record.encode(), parties.sender());
    column(group, "ours", |bencher| {
        let setup = || SenderKeyRecord::decode(&stored).unwrap();
        steps(bencher, STEPS, setup, |record, at| {
            receive(record, &sender, black_box(&messages[at]))
        });
    });
    let mut floor = Floor::new();
    let messages: Vec<_> = (0..STEPS).map(|_| floor.seal(&vec![7; length])).collect();
    column(group, "floor", |bencher| {
        let setup = || floor.again();
        steps(bencher, STEPS, setup, |floor, at| floor.open(black_box(&messages[at]), length));
    });
}

const LENGTH: usize = 64;

fn reverse(group: &mut Group<'_>) {
    let mut parties = Parties::new();
    let messages = parties.write(1_000, LENGTH);
    let (stored, sender) = (parties.record.encode(), parties.sender());
    column(group, "ours", |bencher| {
        let all = |record: &mut SenderKeyRecord| {
            for message in messages.iter().rev() {
                black_box(receive(record, &sender, message));
            }
        };
        let setup = || SenderKeyRecord::decode(&stored).unwrap();
        bencher.iter_batched_ref(setup, all, BatchSize::PerIteration);
    });
    let mut floor = Floor::new();
    let messages: Vec<_> = (0..1_000).map(|_| floor.seal(&[7; LENGTH])).collect();
    column(group, "floor", |bencher| {
        let all = |mut floor: Floor| {
            let mut keys = floor.walk(1_000);
            for message in messages.iter().rev() {
                let (_, key) = keys.pop().unwrap();
                black_box(floor.open_with(&floor::words(&key), message, LENGTH));
            }
        };
        bencher.iter_batched(|| floor.again(), all, BatchSize::PerIteration);
    });
}

fn jump(group: &mut Group<'_>) {
    let mut parties = Parties::new();
    let message = parties.write(1_000, LENGTH).pop().unwrap();
    let (stored, sender) = (parties.record.encode(), parties.sender());
    column(group, "ours", |bencher| {
        let one = |record: &mut SenderKeyRecord| receive(record, &sender, black_box(&message));
        let setup = || SenderKeyRecord::decode(&stored).unwrap();
        bencher.iter_batched_ref(setup, one, BatchSize::PerIteration);
    });
    let mut floor = Floor::new();
    let message = (0..1_000).map(|_| floor.seal(&[7; LENGTH])).last().unwrap();
    column(group, "floor", |bencher| {
        let one = |mut floor: Floor| {
            let kept = floor.walk(999);
            (floor.open(black_box(&message), LENGTH), kept)
        };
        bencher.iter_batched(|| floor.again(), one, BatchSize::PerIteration);
    });
}

fn backlog(group: &mut Group<'_>) {
    let mut parties = Parties::new();
    let messages = parties.write(64, LENGTH);
    let (stored, sender) = (parties.record.encode(), parties.sender());
    column(group, "ours", |bencher| {
        let all = |record: &mut SenderKeyRecord| {
            messages.iter().for_each(|message| drop(black_box(receive(record, &sender, message))));
        };
        let setup = || SenderKeyRecord::decode(&stored).unwrap();
        bencher.iter_batched_ref(setup, all, BatchSize::PerIteration);
    });
    let mut floor = Floor::new();
    let messages: Vec<_> = (0..64).map(|_| floor.seal(&[7; LENGTH])).collect();
    column(group, "floor", |bencher| {
        let all = |mut floor: Floor| {
            messages.iter().for_each(|message| drop(black_box(floor.open(message, LENGTH))));
        };
        bencher.iter_batched(|| floor.again(), all, BatchSize::PerIteration);
    });
}

/// Bytes that a message of 64 has beside them.
pub(crate) fn figures() {
    let mut parties = Parties::new();
    let envelope = parties.write(1, LENGTH).pop().unwrap();
    timing::figure("group-overhead", "ours", envelope.len() - LENGTH, "bytes");
    timing::figure("group-record", "ours", parties.record.encode().len(), "bytes");
}

/// Bare primitives: KDF_CK, 6 compressions; the pads of the label key and two MACs of a block, 6; K and N, 9; a hash of
/// the content; a signature over 237 bytes; the AEAD with 131 bytes of associated data; 16 bytes drawn; one allocation,
/// and one copy of the text.
struct Floor {
    chain: Chains,
    signing: SigningKey,
    verifying: VerifyingKey,
}

const HEAD: usize = 58;
const ASSOCIATED_DATA: usize = HEAD + 32 + 32 + 4 + 5;
const SIGNED: usize = 34 + ASSOCIATED_DATA + 16 + 24 + 32;
const INFO: usize = b"Subrosa v1 group message".len() + 16;

impl Floor {
    fn new() -> Self {
        let signing = SigningKey::from_bytes(&[5; 32]);
        let verifying = signing.verifying_key();
        Self { chain: Chains::start(), signing, verifying }
    }

    /// From the start of the chain.
    fn again(&self) -> Self {
        Self { chain: Chains::start(), signing: self.signing.clone(), verifying: self.verifying }
    }

    /// Steps over so many messages, and writes down their keys.
    fn walk(&mut self, count: u32) -> Vec<(u32, [u8; 32])> {
        let mut keys = Vec::with_capacity(count.try_into().unwrap());
        keys.extend((0..count).map(|number| (number, floor::bytes(&self.chain.step_double()))));
        keys
    }

    fn seal(&mut self, content: &[u8]) -> Vec<u8> {
        let mut head = [9; HEAD];
        head[..16].copy_from_slice(&floor::draw::<16>());
        let (key, nonce) = keys(&self.chain.step_double());
        black_box(hint(&[4; 8]));
        let signature = self.signing.sign(&signed(content)).to_bytes();
        let length = floor::padded(content.len() + signature.len());
        let mut envelope = Vec::with_capacity(HEAD + length + TAG);
        envelope.extend_from_slice(&head);
        envelope.extend_from_slice(content);
        envelope.extend_from_slice(&signature);
        envelope.resize(HEAD + length, 0);
        let (text, associated_data) = (&mut envelope[HEAD..], [9; ASSOCIATED_DATA]);
        let tag = if floor::is_short(text, &associated_data) {
            floor::seal_short(&key, &nonce, text, &associated_data)
        } else {
            let cipher = ChaCha20Poly1305::new(&key.into());
            cipher
                .encrypt_inout_detached(&nonce.into(), &associated_data, text.into())
                .unwrap()
                .into()
        };
        envelope.extend_from_slice(&tag);
        envelope
    }

    fn open(&mut self, envelope: &[u8], length: usize) -> Vec<u8> {
        let message_key = self.chain.step_double();
        self.open_with(&message_key, envelope, length)
    }

    fn open_with(&self, message_key: &Words, envelope: &[u8], length: usize) -> Vec<u8> {
        black_box(hint(&[4; 8]));
        let (key, nonce) = keys(message_key);
        let (encrypted, tag) = envelope[HEAD..].split_last_chunk::<TAG>().unwrap();
        let associated_data = [9; ASSOCIATED_DATA];
        let mut text;
        if floor::is_short(encrypted, &associated_data) {
            text = encrypted.to_vec();
            assert!(floor::open_short(&key, &nonce, &mut text, tag, &associated_data));
        } else {
            text = vec![0; encrypted.len()];
            let cipher = ChaCha20Poly1305::new(&key.into());
            let inout = InOutBuf::new(encrypted, &mut text).unwrap();
            cipher
                .decrypt_inout_detached(&nonce.into(), &associated_data, inout, tag.into())
                .unwrap();
        }
        let signature = Signature::from_bytes(text[length..].first_chunk().unwrap());
        self.verifying.verify_strict(&signed(&text[..length]), &signature).unwrap();
        text.truncate(length);
        text
    }
}

fn keys(message_key: &Words) -> ([u8; 32], [u8; 12]) {
    let [key, nonce] = floor::hkdf(&HmacKey::ZERO, message_key, 32, INFO);
    (floor::bytes(&key), *floor::bytes(&nonce).first_chunk().unwrap())
}

/// The check and the mask.
fn hint(label_key: &Words) -> Words {
    let key = HmacKey::new(black_box(label_key));
    let check = key.mac(label_key, 5 + 26 + 24);
    key.mac(&check, 4 + 16 + 8)
}

fn signed(content: &[u8]) -> [u8; SIGNED] {
    let mut signed = [9; SIGNED];
    signed[SIGNED - 32..].copy_from_slice(&Sha256::digest(content));
    signed
}
