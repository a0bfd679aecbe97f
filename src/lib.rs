#![doc = include_str!("../README.md")]
//!
//! # Rooms and their documents
//!
//! Bottom to top; a room knows only those above it in this table. `docs/protocol.md` and `docs/client.md` have every byte on the wire.
//!
//! | room | what | document |
//! | --- | --- | --- |
//! | `address` | [`Address`] | |
//! | `error` | [`Error`], by [`Remedy`] | protocol.md 9 |
//! | `codec` | bytes in a fixed order; the stored form | |
//! | `crypto` | X25519, Ed25519, ML-KEM, ChaCha20-Poly1305, HKDF | RFC 7748, 8032, 8439, 5869; FIPS 203 |
//! | `random` | [`SystemRng`] | |
//! | [`store`] | [`Store`](store::Store), [`Transaction`](store::Transaction), and stores | client.md 7 |
//! | `identity` | [`IdentityKeyPair`], [`IdentityKey`] | protocol.md 2 |
//! | `prekey` | [`Prekeys`], [`PublishedPrekeys`], [`Bundle`], [`VerifiedBundle`] | PQXDH 3.2; protocol.md 3 |
//! | `pqxdh` | the handshake | PQXDH; protocol.md 4 |
//! | `ratchet` | chains, Double Ratchet, ML-KEM Braid, Triple Ratchet | Double Ratchet 2 to 6, ML-KEM Braid; protocol.md 5 to 7, spqr.md |
//! | `padding` | Padmé | protocol.md 8 |
//! | `session` | [`Session`], [`Message`] | protocol.md 8, 9 |
//! | `envelope` | the outermost bytes, and what is in a message | client.md 2, 3 |
//! | `sesame` | [`DeviceList`], [`NewDevice`]; users, devices, sessions | Sesame; client.md 4 |
//! | `client` | [`Client`], [`Actions`] | client.md 1, 5, 6 |
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, reason = "an overflow fails the test"))]

extern crate alloc;
#[cfg(any(test, feature = "redb"))]
extern crate std;

mod address;
mod client;
mod codec;
mod crypto;
mod envelope;
mod error;
mod identity;
mod padding;
mod pqxdh;
mod prekey;
#[cfg(feature = "getrandom")]
mod random;
mod ratchet;
mod sesame;
mod session;
pub mod store;
#[cfg(test)]
#[path = "../tests/support/replay.rs"]
mod testing;

pub use address::Address;
pub use client::{
    Actions, Client, InboxId, Incoming, OutboxId, Outgoing, Policy, Reached, Received, Rows, Safety,
    SessionInfo, Trust, Upload,
};
pub use envelope::MessageId;
pub use error::{Error, Remedy};
pub use identity::{IdentityKey, IdentityKeyPair};
pub use prekey::{Bundle, Prekeys, PublishedPrekeys, VerifiedBundle};
#[cfg(feature = "getrandom")]
pub use random::SystemRng;
pub use sesame::Needed;
pub use sesame::devices::{DeviceList, ListedDevice};
pub use sesame::link::NewDevice;
pub use session::{Message, MessageKind, Session, SessionId};
/// What stored secrets come in: bytes that are wiped when dropped.
pub use zeroize::Zeroizing;
