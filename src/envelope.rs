//! The outermost bytes (docs/client.md, 2).
//!
//! ```text
//! envelope = version:u8 = 1 || kind:u8 = 1 || reference:16 || message (protocol.md, 8)
//! ```
//!
//! A message is bound to the head of its envelope, its sender and its receiver: its associated data
//! is `version || kind || reference || device:u32 || length:u8 || user || device:u32 || user`, the
//! sender first. So nobody's message passes for somebody else's.

use alloc::vec::Vec;

use crate::address::Address;
use crate::codec::Reader;
use crate::error::Error;
use crate::reference::Reference;
use crate::session::Message;

/// An envelope that was received.
pub(crate) struct Envelope<'a> {
    pub(crate) reference: Reference,
    /// What comes before the message.
    pub(crate) head: &'a [u8],
    pub(crate) message: Message<'a>,
}

const VERSION: u8 = 1;

/// The kind of an envelope whose sender the transport names. Group and sealed envelopes will be
/// other kinds.
const OPEN: u8 = 1;

/// The length of the head.
pub(crate) const HEAD_LENGTH: usize = 18;

/// What a message is bound to.
pub(crate) fn bound_to(head: &[u8], from: &Address, to: &Address) -> Vec<u8> {
    let length = u8::try_from(from.user.len()).unwrap_or(u8::MAX);
    let from_parts: [&[u8]; 3] = [&from.device.to_be_bytes(), &[length], from.user.as_bytes()];
    let to_parts: [&[u8]; 2] = [&to.device.to_be_bytes(), to.user.as_bytes()];
    [head, &from_parts.concat(), &to_parts.concat()].concat()
}

impl<'a> Envelope<'a> {
    /// # Errors
    /// [`Error::UnsupportedVersion`]: of a version or a kind that this crate does not know.
    /// [`Error::Malformed`].
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        if (reader.u8()?, reader.u8()?) != (VERSION, OPEN) {
            return Err(Error::UnsupportedVersion);
        }
        let reference = Reference(*reader.array()?);
        let (head, message) = bytes.split_at_checked(HEAD_LENGTH).ok_or(Error::Malformed)?;
        Ok(Self { reference, head, message: Message::decode(message)? })
    }

    pub(crate) fn head(reference: Reference) -> [u8; HEAD_LENGTH] {
        let mut head = [0; HEAD_LENGTH];
        head[..2].copy_from_slice(&[VERSION, OPEN]);
        head[2..].copy_from_slice(&reference.0);
        head
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_pairs_of_addresses_are_bound_alike() {
        let names = ["a", "b", "ab", "a\0\0\0\u{1}b", "\u{1}a"];
        let all =
            names.iter().flat_map(|name| [1, 0x0101_0101].map(|device| Address::new(name, device)));
        let all: Vec<Address> = all.collect();
        let pairs =
            all.iter().flat_map(|from| all.iter().map(move |to| bound_to(b"head", from, to)));
        let bound: alloc::collections::BTreeSet<Vec<u8>> = pairs.collect();
        assert_eq!(bound.len(), all.len() * all.len());
    }

    #[test]
    fn an_envelope_of_another_version_or_kind_is_unsupported() {
        let mut bytes = [0; 300];
        assert_eq!(Envelope::decode(&bytes).err(), Some(Error::UnsupportedVersion));
        bytes[0] = 1;
        assert_eq!(Envelope::decode(&bytes).err(), Some(Error::UnsupportedVersion));
        bytes[1] = 1;
        assert_eq!(
            Envelope::decode(&bytes).err(),
            Some(Error::UnsupportedVersion),
            "of the message"
        );
        assert_eq!(Envelope::decode(&bytes[..17]).err(), Some(Error::Malformed));
        assert_eq!(Envelope::decode(&[]).err(), Some(Error::Malformed));
    }
}
