//! Known answers for the primitives of the vault. Those of the protocol have theirs in the tests of
//! each crypto room.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

use argon2::{Algorithm, Argon2, AssociatedData, ParamsBuilder, Version};
use chacha20poly1305::{AeadInOut, KeyInit, Tag, XChaCha20Poly1305, XNonce};

#[path = "support/replay.rs"]
mod replay;

use replay::{bytes, wycheproof};

#[test]
fn xchacha20_poly1305_is_wycheproofs() {
    let (mut taken, mut refused, mut other_nonces) = (0, 0, 0);
    for test in wycheproof("xchacha20_poly1305") {
        let [key, nonce, aad, plain, ct, tag] =
            ["key", "iv", "aad", "msg", "ct", "tag"].map(|field| bytes(&test[field]));
        let valid = test["result"] != "invalid";
        let Ok(nonce) = XNonce::try_from(&nonce[..]) else {
            assert!(!valid, "case {}", test["tcId"]);
            other_nonces += 1;
            continue;
        };
        let cipher = XChaCha20Poly1305::new_from_slice(&key).unwrap();
        let tag = Tag::try_from(&tag[..]).unwrap();
        let mut text = ct.clone();
        let opened = cipher.decrypt_inout_detached(&nonce, &aad, text.as_mut_slice().into(), &tag);
        if !valid {
            assert!(opened.is_err(), "case {}", test["tcId"]);
            refused += 1;
        } else {
            assert_eq!((opened, &text[..]), (Ok(()), &plain[..]), "case {}", test["tcId"]);
            let made = cipher.encrypt_inout_detached(&nonce, &aad, text.as_mut_slice().into());
            assert_eq!((made, &text[..]), (Ok(tag), &ct[..]), "case {}", test["tcId"]);
            taken += 1;
        }
    }
    assert_eq!((taken, refused, other_nonces), (246, 60, 9));
}

/// RFC 9106, 5.3.
#[test]
fn argon2id_is_rfc_9106s() {
    let mut params = ParamsBuilder::new();
    params
        .m_cost(32)
        .t_cost(3)
        .p_cost(4)
        .output_len(32)
        .data(AssociatedData::new(&[4; 12]).unwrap());
    let params = params.build().unwrap();
    let argon2 =
        Argon2::new_with_secret(&[3; 8], Algorithm::Argon2id, Version::V0x13, params).unwrap();
    let mut tag = [0; 32];
    argon2.hash_password_into(&[1; 32], &[2; 16], &mut tag).unwrap();
    let expected = [
        0x0d, 0x64, 0x0d, 0xf5, 0x8d, 0x78, 0x76, 0x6c, 0x08, 0xc0, 0x37, 0xa3, 0x4a, 0x8b, 0x53,
        0xc9, 0xd0, 0x1e, 0xf0, 0x45, 0x2d, 0x75, 0xb6, 0x5e, 0xb5, 0x25, 0x20, 0xe9, 0x6b, 0x01,
        0xe6, 0x59,
    ];
    assert_eq!(tag, expected);
}
