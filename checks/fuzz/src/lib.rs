//! What is fuzzed: each target is a function of bytes that panics where the crate breaks a promise.

// There are no unit tests, and those of the erasure code are the crate's own.
#![cfg(not(test))]

extern crate alloc;

mod conversation;
mod decode;
mod directory;
mod door;
mod erasure;
mod household;
mod input;
mod linking;
mod receive;
mod rows;
pub mod seeds;
mod society;
mod tasks;
mod vault;

#[path = "../../../tests/support/network.rs"]
mod network;
#[path = "../../../tests/support/post.rs"]
mod post;

// What the crate's erasure code stands on, which is private there.
#[path = "../../../src/at_rest.rs"]
#[expect(dead_code, reason = "the erasure code takes a part of it")]
mod at_rest;
mod error {
    pub(crate) use subrosa::Error;
}

pub use conversation::conversation;
pub use decode::{bundle, devices, identity, identity_key, message, prekeys, published, session};
pub use directory::{directory, summary, upload};
pub use erasure::erasure;
pub use linking::{grant, link};
pub use receive::{content, receive};
pub use rows::rows;
pub use society::society;
pub use tasks::tasks;
pub use vault::vault;

/// A function of bytes that panics where the crate breaks a promise.
pub type Target = fn(&[u8]);

/// Every target.
pub const TARGETS: [(&str, Target); 21] = [
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
    ("upload", upload),
    ("summary", summary),
    ("directory", directory),
    ("receive", receive),
    ("content", content),
    ("tasks", tasks),
    ("rows", rows),
    ("vault", vault),
    ("erasure", erasure),
    ("conversation", conversation),
    ("society", society),
];
