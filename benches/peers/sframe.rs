//! The crate `sframe` at the other end: each opens what the other sealed, in both suites.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a panic is how a test fails"
)]

use sframe::CipherSuite;
use sframe::frame::{EncryptedFrameView, MediaFrameView, MonotonicCounter};
use sframe::key::{DecryptionKey, EncryptionKey};
use subrosa::call::{MAX_CLEAR, Opener, Sealer, Suite};

const SUITES: [(Suite, CipherSuite); 2] = [
    (Suite::Aes128Gcm, CipherSuite::AesGcm128Sha256),
    (Suite::Aes256Gcm, CipherSuite::AesGcm256Sha512),
];
const KIDS: [u64; 6] = [0, 7, 8, 255, 1 << 20, (1 << 34) - 1];

/// Frames of every length up to 100, some bytes of each in the clear.
fn frames() -> impl Iterator<Item = (usize, Vec<u8>)> {
    (0..100_u8).map(|length| {
        let clear = usize::from(length) * 7 % (MAX_CLEAR + 1);
        (clear.min(usize::from(length)), (0..length).collect())
    })
}

#[test]
fn it_opens_what_was_sealed_here() {
    for (suite, theirs) in SUITES {
        for kid in KIDS {
            let mut sealer = Sealer::new(suite, kid, &[9; 32]);
            let key = DecryptionKey::derive_from(theirs, kid, [9; 32]).unwrap();
            for (number, (clear, text)) in frames().enumerate() {
                let mut frame = text.clone();
                sealer.seal(clear, &mut frame).unwrap();
                let (metadata, sealed) = frame.split_at(clear);
                let view = EncryptedFrameView::try_with_meta_data(sealed, metadata).unwrap();
                assert_eq!(view.header().key_id(), kid);
                assert_eq!(view.header().counter(), u64::try_from(number).unwrap());
                let mut buffer = Vec::new();
                let opened = view.decrypt_into(&key, &mut buffer).unwrap();
                assert_eq!((opened.meta_data(), opened.payload()), text.split_at(clear));
            }
        }
    }
}

#[test]
fn what_it_sealed_opens_here() {
    for (suite, theirs) in SUITES {
        for kid in KIDS {
            let key = EncryptionKey::derive_from(theirs, kid, [9; 32]).unwrap();
            let mut counter = MonotonicCounter::default();
            let mut opener = Opener::new(suite, kid, &[9; 32]);
            for (clear, text) in frames() {
                let (metadata, payload) = text.split_at(clear);
                let media =
                    MediaFrameView::try_with_meta_data(&mut counter, payload, metadata).unwrap();
                let mut buffer = Vec::new();
                let sealed = media.encrypt_into(&key, &mut buffer).unwrap();
                let mut frame = [metadata, sealed.sframe_cipher_text()].concat();
                opener.open(clear, &mut frame).unwrap();
                assert_eq!(frame, text);
            }
        }
    }
}
