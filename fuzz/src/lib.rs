//! What is fuzzed: each target is a function of bytes that panics where the crate breaks a promise.

mod conversation;
mod decode;
mod household;
mod input;
mod linking;
mod receive;
mod rows;
pub mod seeds;
mod society;
mod vault;

#[path = "../../tests/support/network.rs"]
mod network;
#[path = "../../tests/support/server.rs"]
mod server;

pub use conversation::conversation;
pub use decode::{bundle, devices, identity, identity_key, message, prekeys, published, session};
pub use linking::{grant, link};
pub use receive::receive;
pub use rows::rows;
pub use society::society;
pub use vault::vault;

/// A function of bytes that panics where the crate breaks a promise.
pub type Target = fn(&[u8]);

/// Every target.
pub const TARGETS: [(&str, Target); 15] = [
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
    ("conversation", conversation),
    ("society", society),
];
