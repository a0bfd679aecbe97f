#![doc = include_str!("../README.md")]
//!
//! # Where things are
//!
//! | | |
//! | --- | --- |
//! | [`Client`] | an account with several devices in a store: what a chat app embeds |
//! | [`guide`] | how to build an app on it, a page for each question |
//! | [`store`] | where a client keeps what it knows |
//! | [`mod@file`] | files and voice notes: a blob that can lie anywhere, and the 74 bytes that open it |
//! | [`group`] | groups alone: who is in, by signed changes; chains, and how they are handed over; envelopes |
//! | `archive` | backups, and history that moves to a new device (feature `std`) |
//! | `call` | audio and video calls: keys, and frames that no server can read (feature `calls`) |
//! | [`directory`] | what a server keeps of its users |
//! | [`protocol`] | the session protocol alone |
//! | [`Loopback`] | a server in memory, for tests |
//! | [`Error`] | what went wrong, and its [`Remedy`] |
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, reason = "an overflow fails the test"))]

extern crate alloc;
#[cfg(any(test, feature = "std"))]
extern crate std;

mod address;
#[cfg(feature = "std")]
pub mod archive;
mod at_rest;
#[cfg(feature = "calls")]
pub mod call;
mod certificate;
mod client;
mod codec;
mod content;
mod crypto;
mod devices;
pub mod directory;
mod envelope;
mod error;
pub mod file;
pub mod group;
pub mod guide;
mod identity;
mod link;
mod lock;
mod loopback;
mod padding;
mod pqxdh;
mod prekey;
#[cfg(feature = "getrandom")]
mod random;
mod ratchet;
mod reference;
mod safety_number;
mod sas;
mod scan;
mod sesame;
mod session;
mod signal;
pub mod store;
#[cfg(test)]
#[path = "../tests/support/replay.rs"]
mod testing;
mod ticket;
mod time;

pub use address::Address;
pub use certificate::{SenderCertificate, ServerKey};
#[cfg(feature = "std")]
pub use client::Contents;
pub use client::{
    Action, Admins, Answer, Audit, Client, Completed, Continued, Delivery, EnvelopeId, Event,
    FounderRole, GroupChange, GroupEvent, GroupInfo, GroupIntention, GroupPreview, GroupStanding,
    GroupText, HistoryOffer, InboxId, Incoming, Item, MemberInfo, Open, Outgoing, Pass, Policy,
    Progress, Proposal, Received, Rows, SasEnd, Scope, SessionInfo, Task, TaskId, Text, UserTrust,
    VoidedChange,
};
pub use content::{Attachment, MessageId, ProposedChange};
pub use devices::{DeviceList, ListedDevice, Others, Role};
pub use error::{Error, Remedy};
pub use identity::IdentityKey;
pub use link::NewDevice;
pub use loopback::Loopback;
#[cfg(feature = "getrandom")]
pub use random::SystemRng;
pub use safety_number::SafetyNumber;
pub use sas::{Emoji, SasStage, SasValue};
pub use scan::Scanned;
pub use sesame::Trust;
pub use signal::{CallId, Members, ReceivedSignal, Signal, SignalKind};
pub use time::UnixTime;
/// What stored secrets come in: bytes that are wiped when dropped.
pub use zeroize::Zeroizing;

pub mod protocol {
    //! The session protocol alone: one conversation between two devices, without users, store,
    //! clock or global randomness (docs/protocol.md).
    //!
    //! ```
    //! use subrosa::SystemRng;
    //! use subrosa::protocol::{Bundle, IdentityKeyPair, Message, Prekeys, Session};
    //!
    //! let (rng, now) = (&mut SystemRng, 1_800_000_000);
    //! let (alice, bob) = (IdentityKeyPair::generate(rng), IdentityKeyPair::generate(rng));
    //! let mut prekeys = Prekeys::generate(100, now, rng)?;
    //! let bundle = prekeys.publish(&bob).pop_bundle().expect("there are prekeys").encode();
    //!
    //! let bundle = Bundle::decode(&bundle)?.verify(&alice.public_key(), now)?;
    //! let mut to_bob = Session::initiate(&alice, &bundle, rng)?;
    //! let sent = to_bob.encrypt(b"meet me under the rose", b"", rng)?.encode();
    //!
    //! let (mut to_alice, text) = Session::respond(&bob, &mut prekeys, &Message::decode(&sent)?, b"")?;
    //! assert_eq!(text, b"meet me under the rose");
    //! assert_eq!(to_alice.peer(), alice.public_key()); // who wrote: compare it with what you know
    //! let answer = to_alice.encrypt(b"at nine", b"", rng)?.encode();
    //! assert_eq!(to_bob.decrypt(&Message::decode(&answer)?, b"")?, b"at nine");
    //! # Ok::<(), subrosa::Error>(())
    //! ```
    //!
    //! - **Store before you send.** A session moves on with each message. Store
    //!   [`Session::encode`] (and [`Prekeys::encode`] when they changed) before what was encrypted
    //!   leaves, and together with what was decrypted.
    //! - **When a message comes**, decode it. Give a regular one to the sessions with its sender:
    //!   the first that does not say [`Error::UnknownHeader`](crate::Error::UnknownHeader) is its
    //!   own. Give an initial one to the session for which [`Session::matches`] is true, and where
    //!   there is none to [`Session::respond`].
    //! - **Associated data** binds what must arrive with a message and does not travel in it, such
    //!   as a chat's id. Both sides give the same, or the message does not open.

    pub use crate::identity::IdentityKeyPair;
    pub use crate::prekey::{Bundle, Prekeys, PublishedPrekeys, VerifiedBundle};
    pub use crate::session::{Message, MessageKind, Session, SessionId};
}
