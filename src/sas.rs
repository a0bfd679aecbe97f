//! Short authentication strings: seven emoji or three numbers that two people who see or hear each
//! other compare (docs/verification.md, 4).
//!
//! ```text
//! T       = H("Subrosa v1 sas" || id:16 || length:u8 || user || account:32 || device:32 ||
//!           length:u8 || user || account:32 || device:32)                 the starter first
//! starter:  H("Subrosa v1 sas commit" || T || nA:32)
//! other:    nB:32
//! starter:  nA:32
//! value   = HKDF(salt = T, ikm = nA || nB, info = "Subrosa v1 sas value", 11)
//! ```
//!
//! The starter is bound to nA before it sees nB, and the other side chose nB before it sees nA. So
//! somebody in between has one guess at 42 bits for each time that people compare (Pasini and
//! Vaudenay, 2006). This is the side of one device, as a value: it sends nothing, reads no clock.

use alloc::boxed::Box;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::at_rest;
use crate::codec::Writer;
use crate::crypto::kdf;
use crate::crypto::mark;
use crate::crypto::secret::Secret;
use crate::identity::{self, IdentityKey};
use crate::safety_number::Party;

mod emoji;

pub use emoji::Emoji;

/// What two people compare: the same on both screens, unless somebody is in between.
///
/// Show the emoji with their names, or the numbers; either will do. No number leaves a try to an
/// attacker that the other does not: 2^-42 for the emoji, 2^-39 for the numbers.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SasValue(#[serde(with = "at_rest::array")] [u8; 11]);

impl SasValue {
    /// Seven emoji: the first 42 bits, six for each, the highest first.
    ///
    /// ```
    /// # fn show(value: subrosa::SasValue) {
    /// for emoji in value.emoji() {
    ///     println!("{} {}", emoji.symbol(), emoji.name());
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn emoji(&self) -> [Emoji; 7] {
        let [a, b, c, d, e, f, ..] = self.0;
        let bits = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        [42, 36, 30, 24, 18, 12, 6].map(|shift: u32| Emoji::of(bits.wrapping_shr(shift)))
    }

    /// Three numbers of four digits, 1,000 to 9,191: bytes 6 to 10, 13 bits for each, the highest
    /// first.
    #[must_use]
    pub fn numbers(&self) -> [u16; 3] {
        let [.., a, b, c, d, e] = self.0;
        let bits = u64::from_be_bytes([0, 0, 0, a, b, c, d, e]);
        [27, 14, 1].map(|shift: u32| {
            let number = bits.wrapping_shr(shift) & 0x1fff;
            u16::try_from(number).unwrap_or_default().saturating_add(1_000)
        })
    }
}

/// Shows nothing of it: a reader of a log should not be able to say it to somebody.
impl fmt::Debug for SasValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SasValue")
    }
}

/// Where a comparison stands at this device: [`Client::sas`](crate::Client::sas).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SasStage {
    /// This device began it. Nobody has answered yet.
    Started,
    /// The other user wants to compare: [`Client::accept_sas`](crate::Client::accept_sas).
    Asked,
    /// The person here wants to as well. The other device has not opened its part yet.
    Answered,
    /// Show this, and let people say whether it is the same on the other screen:
    /// [`Client::confirm_sas`](crate::Client::confirm_sas),
    /// [`Client::reject_sas`](crate::Client::reject_sas).
    Compare(SasValue),
    /// The person here said that it is the same.
    Confirmed,
}

/// Whom a comparison is between, as this device knows them.
#[derive(Clone, Copy)]
pub(crate) struct Pair<'a> {
    pub(crate) own: Party<'a>,
    /// This device's identity.
    pub(crate) device: &'a IdentityKey,
    pub(crate) other: Party<'a>,
}

/// One comparison, at one device.
#[derive(Serialize, Deserialize)]
pub(crate) struct Sas {
    #[serde(with = "at_rest::array")]
    pub(crate) id: [u8; 16],
    state: State,
}

/// How far it is.
#[derive(Serialize, Deserialize)]
enum State {
    /// This device committed itself to its nonce, to every device of the other user.
    Started { nonce: Box<Secret<32>> },
    /// A device of the other user committed itself. Nothing was answered.
    Asked {
        by: Device,
        #[serde(with = "at_rest::array")]
        commitment: [u8; 32],
    },
    /// This device answered with its nonce.
    Answered {
        to: Device,
        #[serde(with = "at_rest::array")]
        commitment: [u8; 32],
        nonce: Box<Secret<32>>,
    },
    /// Both nonces are known, and fit. `opened`: where this device is the starter, both nonces.
    Compared { with: Device, value: SasValue, opened: Option<Opened> },
    /// People found the value to be the same.
    Confirmed { with: Device },
}

/// The device at the other end.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Device(#[serde(with = "identity::checked")] IdentityKey);

/// The nonces, once the starter's is no secret any more.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Opened {
    #[serde(with = "at_rest::array")]
    own: [u8; 32],
    #[serde(with = "at_rest::array")]
    other: [u8; 32],
}

/// What a nonce that came led to.
pub(crate) enum Heard {
    /// The value can be compared. `reveal`: this device is the starter, and its nonce goes to the
    /// device that answered, and to no other ever.
    Compare { next: Sas, reveal: Option<[u8; 32]> },
    /// The same nonce once more: the same answer once more.
    Again([u8; 32]),
    /// Another device answered first.
    Taken,
    /// The starter committed itself to another nonce.
    Forged,
    /// It does not belong here.
    Ignored,
}

/// The last thing that a device is to know of this side.
pub(crate) enum LastMove {
    Start([u8; 32]),
    Nonce([u8; 32]),
}

impl Sas {
    /// This device begins one.
    pub(crate) fn start(id: [u8; 16], nonce: Secret<32>) -> Self {
        Self { id, state: State::Started { nonce: Box::new(nonce) } }
    }

    /// A device of the other user begins one.
    pub(crate) const fn asked(id: [u8; 16], commitment: [u8; 32], by: IdentityKey) -> Self {
        Self { id, state: State::Asked { by: Device(by), commitment } }
    }

    /// The person here wants to compare: what goes to the device that asked. None where nobody
    /// asks.
    pub(crate) fn answer(self, nonce: Secret<32>) -> Option<(Self, [u8; 32])> {
        let State::Asked { by, commitment } = self.state else { return None };
        let sent = mark::public(*nonce.expose());
        let state = State::Answered { to: by, commitment, nonce: Box::new(nonce) };
        Some((Self { state, ..self }, sent))
    }

    /// The people found that the value is the same. None where it is not the one that is shown.
    pub(crate) fn confirm(self, value: &SasValue) -> Option<Self> {
        match self.state {
            State::Compared { with, value: shown, .. } if shown == *value => {
                Some(Self { state: State::Confirmed { with }, ..self })
            }
            _ => None,
        }
    }

    pub(crate) const fn stage(&self) -> SasStage {
        match &self.state {
            State::Started { .. } => SasStage::Started,
            State::Asked { .. } => SasStage::Asked,
            State::Answered { .. } => SasStage::Answered,
            State::Compared { value, .. } => SasStage::Compare(*value),
            State::Confirmed { .. } => SasStage::Confirmed,
        }
    }

    /// The device at the other end. None: any of the other user's may still answer.
    pub(crate) const fn with(&self) -> Option<IdentityKey> {
        match &self.state {
            State::Started { .. } => None,
            State::Asked { by: Device(with), .. }
            | State::Answered { to: Device(with), .. }
            | State::Compared { with: Device(with), .. }
            | State::Confirmed { with: Device(with) } => Some(*with),
        }
    }

    /// A nonce came from a device of the other user. This changes nothing: `next` is what would be.
    pub(crate) fn hear(&self, pair: Pair<'_>, from: &IdentityKey, nonce: &[u8; 32]) -> Heard {
        match &self.state {
            State::Started { nonce: own } => {
                let own = mark::public(*own.expose());
                let transcript = self.transcript(pair, from, Role::Starter);
                let value = value(&transcript, &own, nonce);
                let opened = Some(Opened { own, other: *nonce });
                let state = State::Compared { with: Device(*from), value, opened };
                Heard::Compare { next: Self { id: self.id, state }, reveal: Some(own) }
            }
            State::Answered { to, commitment, nonce: own } if to.0 == *from => {
                let transcript = self.transcript(pair, from, Role::Other);
                if self::commitment(&transcript, nonce) != *commitment {
                    return Heard::Forged;
                }
                let value = value(&transcript, nonce, own.expose());
                let state = State::Compared { with: *to, value, opened: None };
                Heard::Compare { next: Self { id: self.id, state }, reveal: None }
            }
            State::Compared { with, opened: Some(opened), .. } if with.0 == *from => {
                if opened.other == *nonce { Heard::Again(opened.own) } else { Heard::Ignored }
            }
            State::Compared { opened: Some(_), .. } => Heard::Taken,
            _ => Heard::Ignored,
        }
    }

    /// What to send to a device that may have missed it.
    pub(crate) fn last_move(&self, pair: Pair<'_>, to: &IdentityKey) -> Option<LastMove> {
        match &self.state {
            State::Started { nonce } => {
                let transcript = self.transcript(pair, to, Role::Starter);
                Some(LastMove::Start(commitment(&transcript, nonce.expose())))
            }
            State::Answered { to: with, nonce, .. } if with.0 == *to => {
                Some(LastMove::Nonce(mark::public(*nonce.expose())))
            }
            State::Compared { with, opened: Some(opened), .. } if with.0 == *to => {
                Some(LastMove::Nonce(opened.own))
            }
            _ => None,
        }
    }

    fn transcript(&self, pair: Pair<'_>, theirs: &IdentityKey, role: Role) -> [u8; 32] {
        let Pair { own, device, other } = pair;
        match role {
            Role::Starter => transcript(&self.id, (own, device), (other, theirs)),
            Role::Other => transcript(&self.id, (other, theirs), (own, device)),
        }
    }
}

#[derive(Clone, Copy)]
enum Role {
    Starter,
    Other,
}

const LABEL: &[u8] = b"Subrosa v1 sas";
const COMMIT_LABEL: &[u8] = b"Subrosa v1 sas commit";
const VALUE_LABEL: &[u8] = b"Subrosa v1 sas value";

/// T: what is compared, and between whom.
fn transcript(
    id: &[u8; 16],
    starter: (Party<'_>, &IdentityKey),
    other: (Party<'_>, &IdentityKey),
) -> [u8; 32] {
    let mut out = Writer::with_capacity(700).bytes(LABEL).bytes(id);
    for (Party { user, account }, device) in [starter, other] {
        let length = u8::try_from(user.len()).expect("names have at most 255 bytes");
        out = out.u8(length).bytes(user.as_bytes());
        out = out.bytes(account.as_bytes()).bytes(device.as_bytes());
    }
    kdf::hash(&[&out.done()])
}

fn commitment(transcript: &[u8; 32], nonce: &[u8; 32]) -> [u8; 32] {
    mark::public(kdf::hash(&[COMMIT_LABEL, transcript, nonce]))
}

fn value(transcript: &[u8; 32], starters: &[u8; 32], others: &[u8; 32]) -> SasValue {
    let [block] = kdf::derive(transcript, &[starters, others], &[VALUE_LABEL]);
    let mut value = [0; 11];
    for (byte, of) in value.iter_mut().zip(block.expose()) {
        *byte = *of;
    }
    // It is there to be shown.
    SasValue(mark::public(value))
}

#[cfg(test)]
mod tests;
