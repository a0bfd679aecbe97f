//! The primitives, each through one door.
//!
//! | room | primitive | crate | document |
//! | --- | --- | --- | --- |
//! | `mark` | what is public, what is wiped: for the checks of `checks/leaks/` | | |
//! | `secret` | key bytes: wiped, compared in constant time, never printed | zeroize, subtle | |
//! | `stack` | what keys left on the stack is wiped | | |
//! | `assembly` | the next two, where the processor can (feature `graviola`) | graviola | |
//! | `curve` | X25519 | curve25519-dalek | RFC 7748 |
//! | `signature` | Ed25519, strict | ed25519-dalek | RFC 8032 |
//! | `kem` | ML-KEM-1024 whole, ML-KEM-768 in two halves | libcrux-ml-kem | FIPS 203 |
//! | `aead` | ChaCha20-Poly1305 | chacha20poly1305; chacha20, libcrux-poly1305 | RFC 8439 |
//! | `gcm` | AES-GCM, for frames of calls (feature `calls`) | aes-gcm | NIST SP 800-38D |
//! | `hash` | SHA-256 of long bytes | sha2 | FIPS 180-4 |
//! | `kdf` | HMAC-SHA-256, HKDF-SHA-256, SHA-256 | sha2 | RFC 2104, RFC 5869, FIPS 180-4 |
//! | `hkdf512` | HKDF-SHA-512, for frames of calls (feature `calls`) | hkdf, sha2 | RFC 5869 |

pub(crate) mod aead;
#[cfg_attr(
    not(all(feature = "graviola", any(target_arch = "x86_64", target_arch = "aarch64"))),
    path = "crypto/no_assembly.rs"
)]
pub(crate) mod assembly;
pub(crate) mod curve;
#[cfg(feature = "calls")]
pub(crate) mod gcm;
pub(crate) mod hash;
#[cfg(feature = "calls")]
pub(crate) mod hkdf512;
pub(crate) mod kdf;
pub(crate) mod kem;
#[cfg_attr(subrosa_leaks, path = "../checks/leaks/mark.rs")]
pub(crate) mod mark;
pub(crate) mod secret;
pub(crate) mod signature;
pub(crate) mod stack;
