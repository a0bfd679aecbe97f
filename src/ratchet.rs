//! The ratchets.
//!
//! ```text
//!                              triple: K, N, HN of each message
//!                              /                              \
//!       double: DH ratchet, encrypted headers       sparse: one chain for each epoch
//!                 |          \                       /            |
//!                 |           chain: message keys, skipped keys   |
//!            crypto/curve                                    braid: ML-KEM in small pieces
//!                                                                 |
//!                                                            erasure: any N chunks will do
//! ```
//!
//! `sender_key` has the chains of a group: one for each device, over `chain` alone.
//!
//! `message` is what the sparse ratchet puts on the wire, `header` what carries it. Sending moves a
//! ratchet on. Receiving is pure: `receive(&self, ..)` gives the key of a message and a `Step`,
//! which `commit` takes once the message has opened.

mod braid;
pub(crate) mod chain;
mod double;
mod erasure;
mod header;
mod message;
pub(crate) mod sender_key;
mod sparse;
pub(crate) mod triple;
