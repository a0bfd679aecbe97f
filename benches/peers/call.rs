//! What does a frame of a call cost, beside the bare AEAD and beside the crate `sframe`?
//!
//! | row | what |
//! | --- | --- |
//! | `seal-120`, `open-120` | a frame of Opus |
//! | `seal-1200`, `open-1200` | a picture as small as they get, or a packet |
//! | `seal-16k`, `open-16k` | a key frame |
//!
//! The suite is `AES_256_GCM_SHA512_128` in all columns. The floor is the crate `aes-gcm` with its key
//! prepared, over the same bytes in place. `sframe` has the same crate beneath it. Each row is timed in
//! rounds, and in each round the columns one right after the other.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    reason = "a bench that fails should stop"
)]

use std::hint::black_box;
use std::time::Duration;

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit};
use sframe::CipherSuite;
use sframe::frame::{EncryptedFrameView, MediaFrameView, MonotonicCounter};
use sframe::key::{DecryptionKey, EncryptionKey};
use subrosa::call::{Opener, Sealer, Suite};

#[path = "../support/timing.rs"]
#[allow(dead_code, reason = "each bench takes what it needs")]
mod timing;

use timing::{Group, column};

const ROUNDS: usize = 3;
const KEY: [u8; 32] = [7; 32];
const KID: u64 = 4_098;

fn main() {
    let mut criterion = timing::criterion(Duration::from_millis(300), Duration::from_millis(1_200));
    for (name, length) in [("120", 120), ("1200", 1_200), ("16k", 16 << 10)] {
        for round in 1..=ROUNDS {
            let mut group = criterion.benchmark_group(format!("seal-{name}.{round}"));
            seal(&mut group, length);
            group.finish();
            let mut group = criterion.benchmark_group(format!("open-{name}.{round}"));
            open(&mut group, length);
            group.finish();
        }
    }
    criterion.final_summary();
}

/// Frames that wait, as they do in an app: what was just copied is slow to read.
const FRAMES: usize = 128;

/// Copies of a frame, or of each of several, with room for what sealing adds.
fn waiting(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let with_room = |at: usize| {
        let frame = &frames[at % frames.len()];
        let mut copy = Vec::with_capacity(frame.len() + 64);
        copy.extend_from_slice(frame);
        copy
    };
    (0..FRAMES).map(with_room).collect()
}

fn seal(group: &mut Group<'_>, length: usize) {
    let texts = [vec![7; length]];
    let count = FRAMES as u64;
    let mut sealer = Sealer::new(Suite::Aes256Gcm, KID, &KEY);
    column(group, "ours", |bencher| {
        timing::steps(
            bencher,
            count,
            || waiting(&texts),
            |frames, at| {
                sealer.seal(0, black_box(&mut frames[at])).unwrap();
            },
        );
    });
    let key = Aes256Gcm::new(&KEY.into());
    let mut counter = 0_u64;
    column(group, "floor", |bencher| {
        timing::steps(
            bencher,
            count,
            || waiting(&texts),
            |frames, at| {
                let frame = black_box(&mut frames[at]);
                counter += 1;
                let nonce = nonce(counter).into();
                let tag = key.encrypt_inout_detached(&nonce, &[0; 8], (&mut frame[..]).into());
                frame.extend_from_slice(&tag.unwrap());
            },
        );
    });
    let key = EncryptionKey::derive_from(CipherSuite::AesGcm256Sha512, KID, KEY).unwrap();
    let mut counter = MonotonicCounter::default();
    let mut sealed = Vec::with_capacity(length + 64);
    column(group, "sframe", |bencher| {
        timing::steps(
            bencher,
            count,
            || waiting(&texts),
            |frames, at| {
                let media = MediaFrameView::try_new(&mut counter, black_box(&frames[at])).unwrap();
                sealed.clear();
                media.encrypt_into(&key, &mut sealed).unwrap();
            },
        );
    });
}

fn open(group: &mut Group<'_>, length: usize) {
    let count = FRAMES as u64;
    let mut frames = waiting(&[vec![7; length]]);
    let mut sealer = Sealer::new(Suite::Aes256Gcm, KID, &KEY);
    frames.iter_mut().for_each(|frame| sealer.seal(0, frame).unwrap());
    column(group, "ours", |bencher| {
        let setup = || (Opener::new(Suite::Aes256Gcm, KID, &KEY), waiting(&frames));
        timing::steps(bencher, count, setup, |(opener, frames), at| {
            opener.open(0, black_box(&mut frames[at])).unwrap();
        });
    });
    let key = Aes256Gcm::new(&KEY.into());
    let sealed: Vec<(Vec<u8>, aes_gcm::Tag)> = (0..count)
        .map(|at| {
            let mut text = vec![7; length];
            let nonce = nonce(at).into();
            let tag = key.encrypt_inout_detached(&nonce, &[0; 8], (&mut text[..]).into()).unwrap();
            (text, tag)
        })
        .collect();
    let (texts, tags): (Vec<_>, Vec<_>) = sealed.into_iter().unzip();
    column(group, "floor", |bencher| {
        timing::steps(
            bencher,
            count,
            || waiting(&texts),
            |frames, at| {
                let nonce = nonce(at as u64).into();
                let text = (&mut black_box(&mut frames[at])[..]).into();
                key.decrypt_inout_detached(&nonce, &[0; 8], text, &tags[at]).unwrap();
            },
        );
    });
    let key = DecryptionKey::derive_from(CipherSuite::AesGcm256Sha512, KID, KEY).unwrap();
    let mut opened = Vec::with_capacity(length + 64);
    column(group, "sframe", |bencher| {
        timing::steps(
            bencher,
            count,
            || waiting(&frames),
            |frames, at| {
                let sealed = EncryptedFrameView::try_new(black_box(&frames[at])).unwrap();
                opened.clear();
                sealed.decrypt_into(&key, &mut opened).unwrap();
            },
        );
    });
}

fn nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [3; 12];
    nonce[4..].copy_from_slice(&counter.to_be_bytes());
    nonce
}
