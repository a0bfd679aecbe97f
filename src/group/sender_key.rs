//! The chain of this device in a group, and what it is labelled with.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::distribution::{self, Given, Keys, Previous};
use super::label::LabelKey;
use super::message::{self, Sender};
use crate::at_rest;
use crate::error::Error;
use crate::ratchet::sender_key::{self, ChainId, SendingChain};
use crate::time::UnixTime;

/// What this device encrypts with in a group.
///
/// As with a session: it is stored before what it sealed leaves, and two copies that both seal
/// would use numbers twice. They would use no key twice, since the reference of each envelope is
/// drawn.
#[must_use = "a chain that is not stored cannot go on"]
pub struct SenderKey {
    /// So that one that is moved leaves no copy of its keys where it was.
    state: Box<State>,
}

#[derive(Serialize, Deserialize)]
struct State {
    chain: SendingChain,
    label_key: LabelKey,
    previous: Option<Previous>,
    begun: UnixTime,
}

/// An envelope for all, and what it is known by.
#[derive(Debug)]
pub struct Sealed {
    /// The name of the envelope.
    pub reference: [u8; 16],
    /// The chain that it is of.
    pub chain: ChainId,
    /// Its number in the chain.
    pub number: u32,
    /// The bytes to send.
    pub envelope: Vec<u8>,
}

impl SenderKey {
    /// A content is at most so long: 2^20 bytes.
    pub const MAX_CONTENT: usize = message::MAX_CONTENT;

    /// The most messages of one chain.
    pub const MAX_MESSAGES: u32 = sender_key::MAX_MESSAGES;

    /// The first chain of this device in a group. Draws 32 bytes, the chain key, then 32, the seed
    /// of the signing key.
    pub fn new(
        group: &[u8; 32],
        label_key: LabelKey,
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Self {
        Self::after(None, group, label_key, now, rng)
    }

    /// The next chain, which ends this one. Draws as [`SenderKey::new`] does.
    pub fn renewed(
        &self,
        group: &[u8; 32],
        label_key: LabelKey,
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Self {
        let previous = Previous { chain: self.chain(), end: self.number() };
        Self::after(Some(previous), group, label_key, now, rng)
    }

    fn after(
        previous: Option<Previous>,
        group: &[u8; 32],
        label_key: LabelKey,
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Self {
        let chain = SendingChain::new(group, rng);
        Self { state: Box::new(State { chain, label_key, previous, begun: now }) }
    }

    /// The chain's name.
    #[must_use]
    pub const fn chain(&self) -> ChainId {
        self.state.chain.id()
    }

    /// The number of the next message.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.state.chain.number()
    }

    /// What the envelopes are labelled with.
    #[must_use]
    pub const fn label_key(&self) -> &LabelKey {
        &self.state.label_key
    }

    /// When the chain began.
    #[must_use]
    pub const fn begun(&self) -> UnixTime {
        self.state.begun
    }

    /// Whether the chain had `most` messages, or is older than `seconds`. One that began as long
    /// after now was begun by a clock that was ahead, and would never grow old.
    #[must_use]
    pub const fn is_worn(&self, most: u32, seconds: u64, now: UnixTime) -> bool {
        self.number() >= most || now.apart(self.state.begun) >= seconds
    }

    /// The body that gives the chain as it stands to a device whose user's list has this digest.
    ///
    /// # Errors
    /// [`Error::Malformed`]: no heads, or more than 16, or not in ascending order.
    /// [`Error::Exhausted`]: the chain has no next message; renew it.
    pub fn distribution(
        &self,
        group: &[u8; 32],
        list: &[u8; 8],
        heads: &[[u8; 32]],
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let chain = &self.state.chain;
        chain.can_send()?;
        let keys = Keys {
            number: chain.number(),
            chain_key: chain.chain_key(),
            verifying_key: chain.verifying_key(),
            label_key: &self.state.label_key,
            previous: self.state.previous,
        };
        distribution::encode(&Given { group, list, heads }, &keys)
    }

    /// Seals a content for all who have the chain, and moves it on. Draws 16 bytes, the reference.
    ///
    /// # Errors
    /// Nothing changed, nothing was drawn. [`Error::TooLong`]: more than
    /// [`SenderKey::MAX_CONTENT`]. [`Error::Exhausted`]: renew the chain.
    pub fn seal(
        &mut self,
        sender: &Sender<'_>,
        content: &[u8],
        rng: &mut dyn CryptoRng,
    ) -> Result<Sealed, Error> {
        message::check_length(content)?;
        self.state.chain.can_send()?;
        let reference = message::reference(rng);
        let (chain, number) = (self.chain(), self.number());
        let State { chain: sending, label_key, .. } = &mut *self.state;
        let envelope = message::seal(sending, label_key, sender, &reference, content)?;
        Ok(Sealed { reference, chain, number, envelope })
    }

    /// The state at rest: a version byte, then the state, 200 bytes at most. Secret; wiped when
    /// dropped.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        at_rest::state::encode(VERSION, &*self.state, 200)
    }

    /// From what [`SenderKey::encode`] made.
    ///
    /// # Errors
    /// [`Error::BadState`]
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let state: Box<State> = at_rest::state::decode(VERSION, bytes)?;
        if state.chain.is_sound() { Ok(Self { state }) } else { Err(Error::BadState) }
    }
}

/// The version of the stored form.
const VERSION: u8 = 1;

/// Shows where its chain stands, and no key.
impl fmt::Debug for SenderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SenderKey").field(&self.state.chain).finish()
    }
}
