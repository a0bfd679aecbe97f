//! The outermost bytes, and what is inside a message of the client.
//!
//! ```text
//! envelope = version:u8 = 1 || kind:u8 = 1 || reference:16 || message (protocol.md, 8)
//! ```
//!
//! A message is bound to what is before it, to who sends it and whom it is for: its associated data is `version || kind || reference ||
//! device:u32 || length:u8 || user || device:u32 || user`, the sender first, so that nobody's message is taken for somebody else's. The reference means something to the sender alone, who is asked by it for the message
//! again: `nonce:8 || (place:u64 XOR HMAC(reference key, nonce)[..8])`, so that two envelopes of one message show no likeness.
//!
//! ```text
//! content = kind:u8 || flags:u8 || number:u64 || known:u64 || [resent:16] || [length:u16 || device list] || body
//! ```
//!
//! `number` is that of the sender's device list, `known` that of the receiver's as the sender knows it; flag 1 says that `resent` is there
//! (the reference of the envelope that this stands for), flag 2 the sender's device list.
//!
//! | kind | body |
//! | --- | --- |
//! | 1 message | `id:16 \|\| text` |
//! | 2 copy of what was sent, for one's other devices | `id:16 \|\| length:u8 \|\| user \|\| text` |
//! | 3 retry request | `references, 16 bytes each` |
//! | 4 none; the sender's device list | |
//! | 5 the account's new key, for one's other devices | `present:u8 (0\|1) [\|\| seed:32]` |

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::codec::{self, Reader, Writer};
use crate::crypto::kdf::HmacKey;
use crate::crypto::secret::Secret;
use crate::error::Error;
use crate::session::Message;
use rand_core::CryptoRng;

/// What an envelope is called by its sender. Means nothing to others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Reference(#[serde(with = "codec::array")] pub(crate) [u8; 16]);

impl Reference {
    pub(crate) const LENGTH: usize = 16;

    /// To a place in the log of what was sent. Draws 8 bytes.
    pub(crate) fn new(key: &Secret<32>, place: u64, rng: &mut impl CryptoRng) -> Self {
        let mut nonce = [0; 8];
        rng.fill_bytes(&mut nonce);
        Self::masked(key, nonce, place.to_be_bytes())
    }

    /// The place that it was made with, if it is ours; any number if not.
    pub(crate) fn place(self, key: &Secret<32>) -> u64 {
        let [mut nonce, mut masked] = [[0; 8]; 2];
        nonce.copy_from_slice(&self.0[..8]);
        masked.copy_from_slice(&self.0[8..]);
        let Self(unmasked) = Self::masked(key, nonce, masked);
        let mut place = [0; 8];
        place.copy_from_slice(&unmasked[8..]);
        u64::from_be_bytes(place)
    }

    fn masked(key: &Secret<32>, nonce: [u8; 8], place: [u8; 8]) -> Self {
        let mask = HmacKey::new(key).mac(&[&nonce]);
        let mut reference = [0; 16];
        reference[..8].copy_from_slice(&nonce);
        for (byte, (place, mask)) in reference[8..].iter_mut().zip(place.iter().zip(mask.expose())) {
            *byte = place ^ mask;
        }
        Self(reference)
    }
}

impl core::fmt::Debug for Reference {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        codec::hex(f, &self.0)
    }
}

/// An envelope that was received.
pub(crate) struct Envelope<'a> {
    pub(crate) reference: Reference,
    /// What the message is bound to.
    pub(crate) head: &'a [u8],
    pub(crate) message: Message<'a>,
}

const VERSION: u8 = 1;
const SESSION: u8 = 1;

/// What a message is bound to: what is before it, who sends it, and whom it is for.
pub(crate) fn bound_to(head: &[u8], from: &Address, to: &Address) -> Vec<u8> {
    let length = u8::try_from(from.user.len()).unwrap_or(u8::MAX);
    let from_parts: [&[u8]; 3] = [&from.device.to_be_bytes(), &[length], from.user.as_bytes()];
    let to_parts: [&[u8]; 2] = [&to.device.to_be_bytes(), to.user.as_bytes()];
    [head, &from_parts.concat(), &to_parts.concat()].concat()
}

/// What is before the message.
pub(crate) const HEAD_LENGTH: usize = 18;

impl<'a> Envelope<'a> {
    /// # Errors
    /// [`Error::UnsupportedVersion`], [`Error::Malformed`]
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, Error> {
        let (head, message) = bytes.split_at_checked(HEAD_LENGTH).ok_or(Error::Malformed)?;
        let mut reader = Reader::new(head);
        if reader.u8()? != VERSION {
            return Err(Error::UnsupportedVersion);
        }
        if reader.u8()? != SESSION {
            return Err(Error::Malformed);
        }
        let reference = Reference(*reader.array()?);
        Ok(Self { reference, head, message: Message::decode(message)? })
    }

    pub(crate) fn head(reference: Reference) -> [u8; HEAD_LENGTH] {
        let mut head = [0; HEAD_LENGTH];
        head[..2].copy_from_slice(&[VERSION, SESSION]);
        head[2..].copy_from_slice(&reference.0);
        head
    }
}

/// The name of a message, the same for everyone who gets it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MessageId(#[serde(with = "codec::array")] [u8; 16]);

impl MessageId {
    /// Draws 16 bytes.
    pub(crate) fn random(rng: &mut impl CryptoRng) -> Self {
        let mut id = [0; 16];
        rng.fill_bytes(&mut id);
        Self(id)
    }

    /// The 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl core::fmt::Display for MessageId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        codec::hex(f, &self.0)
    }
}

impl core::fmt::Debug for MessageId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "MessageId({self})")
    }
}

/// What is inside a message.
pub(crate) struct Content<'a> {
    pub(crate) number: u64,
    pub(crate) known: u64,
    pub(crate) resent: Option<Reference>,
    pub(crate) list: Option<&'a [u8]>,
    pub(crate) body: Body<'a>,
}

pub(crate) enum Body<'a> {
    Message { id: MessageId, text: &'a [u8] },
    Copy { id: MessageId, to: &'a str, text: &'a [u8] },
    Retry(&'a [u8]),
    Devices,
    Account(Option<&'a [u8; 32]>),
}

impl Body<'_> {
    /// What names the message, whichever envelope it comes in.
    pub(crate) const fn name(&self) -> Option<Reference> {
        match self {
            Self::Message { id, .. } | Self::Copy { id, .. } => Some(Reference(id.0)),
            _ => None,
        }
    }

    /// Whether it says nothing but which devices the sender has.
    pub(crate) const fn is_about_devices(&self) -> bool {
        matches!(self, Self::Devices | Self::Account(_))
    }
}

const RESENT: u8 = 1;
const LIST: u8 = 2;

impl<'a> Content<'a> {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (kind, length) = match &self.body {
            Body::Message { text, .. } => (1, text.len()),
            Body::Copy { to, text, .. } => (2, text.len().saturating_add(to.len())),
            Body::Retry(references) => (3, references.len()),
            Body::Devices => (4, 0),
            Body::Account(_) => (5, 0),
        };
        let flags = self.resent.map_or(0, |_| RESENT) | self.list.map_or(0, |_| LIST);
        let list = self.list.map_or(0, <[u8]>::len);
        let out = Writer::with_capacity(length.saturating_add(list).saturating_add(96)).u8(kind).u8(flags);
        let out = out.u64(self.number).u64(self.known);
        let out = self.resent.iter().fold(out, |out, reference| out.bytes(&reference.0));
        let out = self.list.iter().fold(out, |out, list| {
            out.u16(u16::try_from(list.len()).expect("a list of 32 devices has 1,294 bytes")).bytes(list)
        });
        match &self.body {
            Body::Message { id, text } => out.bytes(&id.0).bytes(text),
            Body::Copy { id, to, text } => {
                let length = u8::try_from(to.len()).expect("names have at most 255 bytes");
                out.bytes(&id.0).u8(length).bytes(to.as_bytes()).bytes(text)
            }
            Body::Retry(references) => out.bytes(references),
            Body::Devices => out,
            Body::Account(None) => out.u8(0),
            Body::Account(Some(seed)) => out.u8(1).bytes(*seed),
        }
        .done()
    }

    /// # Errors
    /// [`Error::Malformed`]
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let (kind, flags) = (reader.u8()?, reader.u8()?);
        if flags & !(RESENT | LIST) != 0 {
            return Err(Error::Malformed);
        }
        let (number, known) = (reader.u64()?, reader.u64()?);
        let resent = if flags & RESENT == 0 { None } else { Some(Reference(*reader.array()?)) };
        let list = if flags & LIST == 0 {
            None
        } else {
            let length = usize::from(reader.u16()?);
            Some(reader.bytes(length)?)
        };
        let body = match kind {
            1 => Body::Message { id: MessageId(*reader.array()?), text: reader.rest() },
            2 => {
                let id = MessageId(*reader.array()?);
                let length = usize::from(reader.u8()?);
                let to = core::str::from_utf8(reader.bytes(length)?).map_err(|_| Error::Malformed)?;
                Body::Copy { id, to, text: reader.rest() }
            }
            3 => Body::Retry(reader.rest()),
            4 => Body::Devices,
            5 => match reader.u8()? {
                0 => Body::Account(None),
                1 => Body::Account(Some(reader.array()?)),
                _ => return Err(Error::Malformed),
            },
            _ => return Err(Error::Malformed),
        };
        Ok(Self { number, known, resent, list, body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Replay;

    const ID: MessageId = MessageId([7; 16]);

    fn bodies() -> [Body<'static>; 6] {
        [
            Body::Message { id: ID, text: b"text" },
            Body::Copy { id: ID, to: "bob", text: b"" },
            Body::Retry(&[9; 32]),
            Body::Devices,
            Body::Account(None),
            Body::Account(Some(&[5; 32])),
        ]
    }

    #[test]
    fn what_is_read_is_what_was_written() {
        for resent in [None, Some(Reference([3; 16]))] {
            for list in [None, Some(&b"a list"[..])] {
                for body in bodies() {
                    let content = Content { number: 1, known: u64::MAX, resent, list, body };
                    let bytes = content.encode();
                    let read = Content::decode(&bytes).unwrap();
                    assert_eq!(
                        (read.number, read.known, read.resent, read.list),
                        (1, u64::MAX, resent, list)
                    );
                    assert_eq!(read.encode(), bytes);
                    for length in 0..bytes.len() {
                        // Shorter, it is refused, or says something shorter.
                        if let Ok(read) = Content::decode(&bytes[..length]) {
                            assert_eq!(read.encode(), bytes[..length]);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_kind_or_flag_that_nobody_knows_is_malformed() {
        for (kind, flags) in [(0, 0), (6, 0), (255, 0), (4, 4), (4, 128)] {
            let bytes = [&[kind, flags][..], &[0; 200]].concat();
            assert_eq!(Content::decode(&bytes).err(), Some(Error::Malformed));
        }
    }

    #[test]
    fn a_reference_leads_its_sender_back_and_nobody_else() {
        let rng = &mut Replay::counting();
        let (key, other) = (Secret::random(rng), Secret::random(rng));
        for place in [0, 1, 0x0123_4567_89ab_cdef, u64::MAX] {
            let (one, two) = (Reference::new(&key, place, rng), Reference::new(&key, place, rng));
            assert_ne!(one.0[8..], two.0[8..]);
            assert_eq!((one.place(&key), two.place(&key)), (place, place));
            assert_ne!(one.place(&other), place);
        }
    }

    #[test]
    fn no_two_pairs_of_addresses_are_bound_alike() {
        let names = ["a", "b", "ab", "a\0\0\0\u{1}b", "\u{1}a"];
        let all = names.iter().flat_map(|name| [1, 0x0101_0101].map(|device| Address::new(name, device)));
        let all: Vec<Address> = all.collect();
        let pairs = all.iter().flat_map(|from| all.iter().map(move |to| bound_to(b"head", from, to)));
        let bound: alloc::collections::BTreeSet<Vec<u8>> = pairs.collect();
        assert_eq!(bound.len(), all.len() * all.len());
    }

    #[test]
    fn an_envelope_of_another_version_or_kind_is_refused() {
        let mut bytes = [0; 300];
        assert_eq!(Envelope::decode(&bytes).err(), Some(Error::UnsupportedVersion));
        bytes[0] = 1;
        assert_eq!(Envelope::decode(&bytes).err(), Some(Error::Malformed));
        bytes[1] = 1;
        assert_eq!(Envelope::decode(&bytes).err(), Some(Error::UnsupportedVersion), "of the message");
        assert_eq!(Envelope::decode(&bytes[..17]).err(), Some(Error::Malformed));
    }
}
