//! Labels and hints: which group an envelope is of, and which message of which device it is, for
//! those alone who hold a label key (docs/groups.md, 2).
//!
//! ```text
//! label = HMAC(label key, "label")[..8]
//! p     = member[..8] || device:u32 || chain:8 || number:u32
//! c     = HMAC(label key, "check" || version || kind || reference || label || p)[..8]
//! hint  = c || (p XOR HMAC(label key, "hint" || reference || c)[..24])
//! ```

use core::fmt;

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use crate::at_rest;
use crate::codec::Reader;
use crate::crypto::kdf::HmacKey;
use crate::crypto::mark;
use crate::crypto::secret::Secret;
use crate::error::Error;
use crate::ratchet::sender_key::ChainId;

/// What a device finds the group of an envelope by: the same on all envelopes under one label key.
///
/// It is not secret. A member can give one label key in several groups, so a label can lead to more
/// than one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Label(#[serde(with = "at_rest::array")] pub(crate) [u8; 8]);

/// What labels and hints are made with: 32 bytes that all members have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelKey(Secret<32>);

/// Which message of which device an envelope says to be: what a holder of the label key wrote. Any
/// member can write it of any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint {
    member: [u8; 8],
    device: u32,
    chain: ChainId,
    number: u32,
}

pub(super) const HINT_LENGTH: usize = 32;
pub(super) const PLAIN_LENGTH: usize = 24;

/// What a hint is bound to: `version || kind || reference || label`.
pub(super) type Front = [u8; 26];

impl Label {
    /// The 8 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl LabelKey {
    /// Draws 32 bytes.
    pub fn random(rng: &mut dyn CryptoRng) -> Self {
        Self(Secret::random(rng))
    }

    pub(super) const fn new(key: Secret<32>) -> Self {
        Self(key)
    }

    pub(super) const fn secret(&self) -> &Secret<32> {
        &self.0
    }

    /// The label of all envelopes under this key.
    #[must_use]
    pub fn label(&self) -> Label {
        Label(first(&HmacKey::new(&self.0).mac(&[b"label"])))
    }

    pub(super) fn seal(&self, front: &Front, hint: &Hint) -> [u8; HINT_LENGTH] {
        let key = HmacKey::new(&self.0);
        let plain = hint.encode();
        let c = check(&key, front, &plain);
        let mut sealed = [0; HINT_LENGTH];
        let (before, after) = sealed.split_at_mut(c.len());
        before.copy_from_slice(&c);
        after.copy_from_slice(&mask(&key, front, &c, &plain));
        mark::public(sealed)
    }

    /// `None`: nobody who holds this key made it for this envelope.
    pub(super) fn open(&self, front: &Front, sealed: &[u8; HINT_LENGTH]) -> Option<Hint> {
        let (c, masked) = sealed.split_first_chunk()?;
        let key = HmacKey::new(&self.0);
        let plain = mask(&key, front, c, masked.first_chunk()?);
        // Whether it is genuine is what is asked.
        let genuine: bool = mark::public(check(&key, front, &plain).ct_eq(c).into());
        genuine.then(|| Hint::decode(&plain).ok())?
    }
}

impl Hint {
    pub(super) fn new(member: &[u8; 16], device: u32, chain: ChainId, number: u32) -> Self {
        Self { member: front_of(member), device, chain, number }
    }

    /// The first 8 bytes of the member's id.
    #[must_use]
    pub const fn member(&self) -> &[u8; 8] {
        &self.member
    }

    /// The number of the device in the member's device list.
    #[must_use]
    pub const fn device(&self) -> u32 {
        self.device
    }

    /// The chain that the message is of.
    #[must_use]
    pub const fn chain(&self) -> ChainId {
        self.chain
    }

    /// The message's number in the chain.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// Whether it says to be of this device of this member.
    pub(crate) fn names(&self, member: &[u8; 16], device: u32) -> bool {
        (self.member, self.device) == (front_of(member), device)
    }

    /// `p`
    pub(super) fn encode(&self) -> [u8; PLAIN_LENGTH] {
        let mut plain = [0; PLAIN_LENGTH];
        let (device, number) = (self.device.to_be_bytes(), self.number.to_be_bytes());
        let parts: [&[u8]; 4] = [&self.member, &device, &self.chain.0, &number];
        plain.iter_mut().zip(parts.into_iter().flatten()).for_each(|(to, from)| *to = *from);
        plain
    }

    fn decode(plain: &[u8; PLAIN_LENGTH]) -> Result<Self, Error> {
        // Genuine: it says what its sender wants us to know.
        let plain = mark::public(*plain);
        let mut reader = Reader::new(&plain);
        let (member, device) = (*reader.array()?, reader.u32()?);
        Ok(Self { member, device, chain: ChainId(*reader.array()?), number: reader.u32()? })
    }
}

/// `c`
fn check(key: &HmacKey, front: &Front, plain: &[u8; PLAIN_LENGTH]) -> [u8; 8] {
    first(&key.mac(&[b"check", front, plain]))
}

/// Masks and unmasks.
fn mask(
    key: &HmacKey,
    front: &Front,
    c: &[u8; 8],
    bytes: &[u8; PLAIN_LENGTH],
) -> [u8; PLAIN_LENGTH] {
    let [_, _, reference @ ..] = front;
    let (reference, _) = reference.split_at(16);
    let mask = key.mac(&[b"hint", reference, c]);
    let mut masked = *bytes;
    masked.iter_mut().zip(mask.expose()).for_each(|(byte, mask)| *byte ^= mask);
    masked
}

fn first(mac: &Secret<32>) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = *mac.expose();
    mark::public([a, b, c, d, e, f, g, h])
}

const fn front_of(member: &[u8; 16]) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = *member;
    [a, b, c, d, e, f, g, h]
}

/// In hexadecimal.
impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::codec::hex(f, &self.0)
    }
}
