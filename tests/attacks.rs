//! Attackers: programs that know the protocol and break its rules, tried against the client.
//!
//! Each file is a kind of attacker. `liar` is the device that most of them use: it holds real keys
//! and sessions and says what it likes in them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]
#![allow(dead_code, reason = "each attacker uses a part of the world")]

#[path = "support/counting.rs"]
mod counting;
#[path = "support/network.rs"]
mod network;
#[path = "support/post.rs"]
mod post;

#[path = "attacks/group.rs"]
mod group;
#[path = "attacks/liar.rs"]
mod liar;
#[path = "attacks/masked.rs"]
mod masked;
#[path = "attacks/peer.rs"]
mod peer;
#[path = "attacks/proposals.rs"]
mod proposals;
#[path = "attacks/server.rs"]
mod server;
#[path = "attacks/sibling.rs"]
mod sibling;
#[path = "attacks/stranger.rs"]
mod stranger;
#[path = "attacks/successors.rs"]
mod successors;
#[path = "attacks/thief.rs"]
mod thief;
#[path = "attacks/world.rs"]
mod world;
