//! Sealed mail: what the server learns of who writes, and what others can do with that it does not
//! (docs/sealed.md).
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a panic is how a test fails"
)]

#[path = "sealed/adversary.rs"]
mod adversary;
#[path = "sealed/doors.rs"]
mod doors;
#[path = "sealed/forgers.rs"]
mod forgers;
#[path = "support/network.rs"]
mod network;
#[path = "support/post.rs"]
mod post;
#[path = "sealed/silence.rs"]
mod silence;
#[path = "sealed/who.rs"]
mod who;
#[path = "sealed/world.rs"]
mod world;
