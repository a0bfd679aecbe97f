//! What is fuzzed: each target is a function of bytes that panics where the crate breaks a promise.

// There are no unit tests, and those of the erasure code are the crate's own.
#![cfg(not(test))]

extern crate alloc;

mod conversation;
mod decode;
mod erasure;
mod household;
mod input;
mod linking;
mod receive;
mod rows;
pub mod seeds;
mod society;
mod vault;

#[path = "../../../tests/support/network.rs"]
mod network;
#[path = "../../../tests/support/server.rs"]
mod server;

// What the crate's erasure code stands on, which is private there.
#[path = "../../../src/codec.rs"]
#[expect(dead_code, reason = "the erasure code takes a part of it")]
mod codec;
mod error {
    pub(crate) use subrosa::Error;
}

pub use conversation::conversation;
pub use decode::{bundle, devices, identity, identity_key, message, prekeys, published, session};
pub use erasure::erasure;
pub use linking::{grant, link};
pub use receive::receive;
pub use rows::rows;
pub use society::society;
pub use vault::vault;

/// A function of bytes that panics where the crate breaks a promise.
pub type Target = fn(&[u8]);

/// Every target.
pub const TARGETS: [(&str, Target); 16] = [
    ("message", message),
    ("bundle", bundle),
    ("published", published),
    ("session", session),
    ("prekeys", prekeys),
    ("identity", identity),
    ("identity_key", identity_key),
    ("devices", devices),
    ("link", link),
    ("grant", grant),
    ("receive", receive),
    ("rows", rows),
    ("vault", vault),
    ("erasure", erasure),
    ("conversation", conversation),
    ("society", society),
];
