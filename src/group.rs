//! Groups alone, without a client (docs/groups.md).
//!
//! [`Roster`] is who is in a group: a set of signed changes that converges in whatever order they
//! come, with no server that could add anybody.
//!
//! Messages need no roster: each device encrypts for all others with a chain of its
//! own, which it hands to each of them in a message of their session.
//!
//! ```text
//! sender_key: the chain of this device        record: what another device gave us
//!        |            \                        /          |
//!        |             distribution: how a chain is handed over
//!     message: one envelope for all                       |
//!                                     \                   |
//!                                      label: what finds a group, and says who wrote
//! ```
//!
//! These are values: they do no I/O and know no clock. [`SenderKey`] is this device's chain,
//! [`SenderKeyRecord`] what one device gave us, [`Envelope`] what travels. Whether somebody is in
//! the group, and may have a chain, is for the caller to know.
//!
//! ```
//! use subrosa::group::{Distribution, Envelope, LabelKey, Sender, SenderKey, SenderKeyRecord};
//! use subrosa::protocol::IdentityKeyPair;
//! use subrosa::{Address, SystemRng, UnixTime};
//!
//! let (rng, now) = (&mut SystemRng, UnixTime::from_secs(1_800_000_000)?);
//! let (group, member) = ([1; 32], [2; 16]);
//! let (alice, address) = (IdentityKeyPair::generate(rng), Address::new("alice", 1));
//! let alice =
//!     Sender { group: &group, member: &member, identity: &alice.public_key(), address: &address };
//!
//! // Alice gives her chain to each device of the group, in a message of their session.
//! let mut key = SenderKey::new(&group, LabelKey::random(rng), now, rng);
//! let given = key.distribution(&group, &[3; 8], &[group])?;
//! let mut bobs = SenderKeyRecord::new();
//! bobs.take(Distribution::decode(&given)?, now);
//!
//! // Then one envelope is for all of them.
//! let sealed = key.seal(&alice, b"hello, all", rng)?;
//! let envelope = Envelope::decode(&sealed.envelope)?;
//! let hint = bobs.label_keys().find_map(|label_key| envelope.hint(label_key)).expect("hers");
//! assert_eq!((hint.member(), hint.device(), hint.number()), (&[2; 8], 1, 0));
//! let opened = bobs.receive(&envelope, &hint, &alice)?;
//! assert_eq!(opened.content, b"hello, all");
//! bobs.commit(opened.step);
//! # Ok::<(), subrosa::Error>(())
//! ```

mod bits;
mod change;
mod distribution;
mod history;
mod id;
mod label;
mod message;
mod record;
mod removed;
mod roster;
mod sender_key;
mod state;
mod voided;

pub use crate::ratchet::sender_key::ChainId;
pub use change::{Change, GroupRole, Op};
pub use distribution::Distribution;
pub use id::{ChangeId, GroupId, MemberId};
pub use label::{Hint, Label, LabelKey};
pub use message::{Envelope, Sender};
pub use record::{Opened, SenderKeyRecord, Step, Taken};
pub use roster::{Merged, Roster};
pub use sender_key::{Sealed, SenderKey};
pub use state::GroupMember;
pub use voided::Voided;
