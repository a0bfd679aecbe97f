//! What does a file of 4 MiB or 256 MiB cost, in chunks of 64 KiB and in memory?
//!
//! | row | what |
//! | --- | --- |
//! | `seal-4m`, `open-4m`, `seal-256m`, `open-256m` | on one thread |
//! | `seal-4m-2`, `open-4m-2`, `seal-256m-2`, `open-256m-2` | on two threads |
//!
//! The floor is the bare AEAD and SHA-256 over each chunk on one thread, in every row: a row on two threads shows how
//! far below it falls.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    reason = "a bench that fails should stop"
)]

use std::hint::black_box;
use std::num::NonZeroUsize;

use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit};
use criterion::Throughput;
use sha2::{Digest, Sha256};
use subrosa::SystemRng;
use subrosa::file::{self, ChunkSize, Descriptor, Opener, Sealer};

#[path = "support/timing.rs"]
#[allow(dead_code, reason = "each bench takes what it needs")]
mod timing;

use timing::{Group, Row, column};

pub(crate) const ROWS: [Row; 8] = [
    ("seal-4m", |group| seal(group, SHORT, 1)),
    ("open-4m", |group| open(group, SHORT, 1)),
    ("seal-4m-2", |group| seal(group, SHORT, 2)),
    ("open-4m-2", |group| open(group, SHORT, 2)),
    ("seal-256m", |group| seal(group, LONG, 1)),
    ("open-256m", |group| open(group, LONG, 1)),
    ("seal-256m-2", |group| seal(group, LONG, 2)),
    ("open-256m-2", |group| open(group, LONG, 2)),
];

fn main() {
    timing::run(&ROWS);
}

pub(crate) const SHORT: usize = 4 << 20;
pub(crate) const LONG: usize = 256 << 20;
const CHUNK: usize = 1 << 16;

/// How a file of this size is timed: a long one takes a good part of a second each time.
pub(crate) fn prepare(group: &mut Group<'_>, size: usize) {
    group.throughput(Throughput::Bytes(size.try_into().unwrap()));
    if size == LONG {
        group.sample_size(10);
    }
}

fn seal(group: &mut Group<'_>, size: usize, threads: usize) {
    prepare(group, size);
    let content = vec![7; size];
    let threads = NonZeroUsize::new(threads).unwrap();
    column(group, "ours", |bencher| {
        bencher.iter(|| {
            let size = size.try_into().unwrap();
            let mut sealer = Sealer::new(size, ChunkSize::DEFAULT, &mut SystemRng).unwrap();
            let blob = sealer.seal_parallel(black_box(&content), threads).unwrap();
            (sealer.finish().unwrap(), blob)
        });
    });
    column(group, "floor", |bencher| bencher.iter(|| seal_floor(black_box(&content))));
}

fn open(group: &mut Group<'_>, size: usize, threads: usize) {
    prepare(group, size);
    let content = vec![7; size];
    let (descriptor, blob) = file::seal(&content, ChunkSize::DEFAULT, &mut SystemRng).unwrap();
    let threads = NonZeroUsize::new(threads).unwrap();
    column(group, "ours", |bencher| {
        bencher.iter(|| open_on(&descriptor, black_box(&blob), threads))
    });
    let (blob, _) = seal_floor(&content);
    column(group, "floor", |bencher| bencher.iter(|| open_floor(black_box(&blob))));
}

fn open_on(descriptor: &Descriptor, blob: &[u8], threads: NonZeroUsize) -> Vec<u8> {
    let opener = Opener::new(descriptor);
    let mut verifier = opener.verifier();
    let content = opener.open_parallel(&mut verifier, blob, threads).unwrap();
    verifier.finish().unwrap();
    content
}

fn seal_floor(content: &[u8]) -> (Vec<u8>, [u8; 32]) {
    let mut blob = vec![0; content.len() + 16 * content.len() / CHUNK];
    let mut root = Sha256::new();
    for ((sealed, text), number) in
        blob.chunks_mut(CHUNK + 16).zip(content.chunks(CHUNK)).zip(0_u64..)
    {
        let (encrypted, tag) = sealed.split_at_mut(CHUNK);
        encrypted.copy_from_slice(text);
        let made =
            cipher().encrypt_inout_detached(&nonce(number).into(), b"", encrypted.into()).unwrap();
        tag.copy_from_slice(&made);
        root.update(Sha256::digest(sealed));
    }
    (blob, root.finalize().into())
}

fn open_floor(blob: &[u8]) -> (Vec<u8>, [u8; 32]) {
    let mut content = vec![0; blob.len() - 16 * blob.len() / (CHUNK + 16)];
    let mut root = Sha256::new();
    for ((sealed, text), number) in
        blob.chunks(CHUNK + 16).zip(content.chunks_mut(CHUNK)).zip(0_u64..)
    {
        root.update(Sha256::digest(sealed));
        let (encrypted, tag) = sealed.split_last_chunk::<16>().unwrap();
        let text = InOutBuf::new(encrypted, text).unwrap();
        cipher().decrypt_inout_detached(&nonce(number).into(), b"", text, tag.into()).unwrap();
    }
    (content, root.finalize().into())
}

fn cipher() -> ChaCha20Poly1305 {
    ChaCha20Poly1305::new(&[3; 32].into())
}

fn nonce(number: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    let (_, counter) = nonce.split_at_mut(4);
    counter.copy_from_slice(&number.to_be_bytes());
    nonce
}
