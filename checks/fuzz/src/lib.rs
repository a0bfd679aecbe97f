//! What is fuzzed: each target is a function of bytes that panics where the crate breaks a promise.

// There are no unit tests, and those of the erasure code are the crate's own.
#![cfg(not(test))]

extern crate alloc;

mod archive;
mod assembly;
mod calls;
mod changes;
mod conversation;
mod decode;
mod directory;
mod door;
mod erasure;
mod files;
mod groups;
mod household;
mod input;
mod linking;
mod receive;
mod rows;
mod sealed;
pub mod seeds;
mod society;
mod tasks;
mod transport;
mod vault;
mod verifying;

#[path = "../../../tests/support/network.rs"]
mod network;
#[path = "../../../tests/support/post.rs"]
mod post;
#[path = "../../../tests/support/replay.rs"]
mod replay;
#[path = "../../../tests/support/sender_keys.rs"]
mod sender_keys;

// What the crate's erasure code stands on, which is private there.
#[path = "../../../src/at_rest.rs"]
#[expect(dead_code, reason = "the erasure code takes a part of it")]
mod at_rest;
mod error {
    pub(crate) use subrosa::Error;
}

pub use archive::{archive, archive_frames};
pub use assembly::assembly;
pub use calls::{frame, signal};
pub use changes::group_change;
pub use conversation::conversation;
pub use decode::{
    bundle, certificate, devices, identity, identity_key, message, prekeys, published, session,
};
pub use directory::{directory, summary, upload};
pub use erasure::erasure;
pub use files::file;
pub use groups::{group_distribution, group_envelope, sender_key_record};
pub use linking::{grant, link};
pub use receive::{content, receive};
pub use rows::rows;
pub use sealed::{doors, sealed};
pub use society::society;
pub use tasks::tasks;
pub use vault::vault;
pub use verifying::{moves, scan};

/// A function of bytes that panics where the crate breaks a promise.
pub type Target = fn(&[u8]);

/// Every target.
pub const TARGETS: [(&str, Target); 36] = [
    ("message", message),
    ("bundle", bundle),
    ("published", published),
    ("session", session),
    ("prekeys", prekeys),
    ("identity", identity),
    ("identity_key", identity_key),
    ("devices", devices),
    ("certificate", certificate),
    ("link", link),
    ("grant", grant),
    ("upload", upload),
    ("summary", summary),
    ("directory", directory),
    ("receive", receive),
    ("content", content),
    ("sealed", sealed),
    ("doors", doors),
    ("tasks", tasks),
    ("rows", rows),
    ("vault", vault),
    ("archive", archive),
    ("archive_frames", archive_frames),
    ("erasure", erasure),
    ("file", file),
    ("conversation", conversation),
    ("society", society),
    ("assembly", assembly),
    ("scan", scan),
    ("moves", moves),
    ("group_change", group_change),
    ("group_envelope", group_envelope),
    ("group_distribution", group_distribution),
    ("sender_key_record", sender_key_record),
    ("frame", frame),
    ("signal", signal),
];
