//! People who make sure that nobody is in between, and somebody who is.
//!
//! The ceremonies as an app does them, with what goes wrong on the way; then devices that lie in
//! them. The values themselves are in the vectors, and every strategy of one try in `src/sas`.
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
#![allow(dead_code, reason = "each test crate uses a part of the world")]

#[path = "support/counting.rs"]
mod counting;
#[path = "support/network.rs"]
mod network;
#[path = "support/post.rs"]
mod post;

#[path = "verification/ceremonies.rs"]
mod ceremonies;
#[path = "attacks/liar.rs"]
mod liar;
#[path = "verification/lies.rs"]
mod lies;
#[path = "attacks/world.rs"]
mod world;
