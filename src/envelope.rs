//! The outermost bytes (docs/client.md, 2; docs/sealed.md, 1).
//!
//! ```text
//! open   = version:u8 = 1 || kind:u8 = 1 || reference:16 || message (protocol.md, 8)
//! sealed = version:u8 = 1 || kind:u8 = 3 || reference:16 || ticket:16 || message
//! ```
//!
//! A message is bound to the head of its envelope, its sender and its receiver: its associated data
//! is `head || device:u32 || length:u8 || user || device:u32 || user`, the head being all before
//! the message, and the sender first. So nobody's message passes for somebody else's, and a ticket
//! belongs to one message. A sealed initial message names its sender inside: it is bound to the
//! device 0 of a user without a name.

use alloc::string::String;
use alloc::vec::Vec;

use crate::address::Address;
use crate::codec::Reader;
use crate::error::Error;
use crate::reference::Reference;
use crate::session::Message;
use crate::ticket::Ticket;

/// An envelope that was received.
pub(crate) struct Envelope<'a> {
    pub(crate) reference: Reference,
    /// What a sealed one shows in the place of its sender; none of an open one.
    pub(crate) ticket: Option<Ticket>,
    /// What comes before the message.
    pub(crate) head: &'a [u8],
    pub(crate) message: Message<'a>,
}

/// What comes before the message.
pub(crate) struct Head {
    bytes: [u8; SEALED_LENGTH],
    length: usize,
}

const VERSION: u8 = 1;

/// The kind of an envelope whose sender the transport names.
const OPEN: u8 = 1;

/// The kind of an envelope whose sender the receiver alone finds out. Group envelopes will be kind
/// 2.
const SEALED: u8 = 3;

/// The length of the head of an open envelope, and of a sealed one.
const OPEN_LENGTH: usize = 18;
const SEALED_LENGTH: usize = OPEN_LENGTH + Ticket::LENGTH;

/// What a message is bound to. No sender: that of a sealed initial message.
pub(crate) fn bound_to(head: &[u8], from: Option<&Address>, to: &Address) -> Vec<u8> {
    let nobody = Address { user: String::new(), device: 0 };
    let from = from.unwrap_or(&nobody);
    let length = u8::try_from(from.user.len()).unwrap_or(u8::MAX);
    let from_parts: [&[u8]; 3] = [&from.device.to_be_bytes(), &[length], from.user.as_bytes()];
    let to_parts: [&[u8]; 2] = [&to.device.to_be_bytes(), to.user.as_bytes()];
    [head, &from_parts.concat(), &to_parts.concat()].concat()
}

/// Whether these are the bytes of an envelope that says itself who sent it.
pub(crate) fn is_sealed(bytes: &[u8]) -> bool {
    bytes.starts_with(&[VERSION, SEALED])
}

impl<'a> Envelope<'a> {
    /// # Errors
    /// [`Error::UnsupportedVersion`]: of a version or a kind that this crate does not know.
    /// [`Error::Malformed`].
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return Err(Error::UnsupportedVersion);
        }
        let length = match reader.u8()? {
            OPEN => OPEN_LENGTH,
            SEALED => SEALED_LENGTH,
            _ => return Err(Error::UnsupportedVersion),
        };
        let reference = Reference(*reader.array()?);
        let ticket = if length == SEALED_LENGTH { Some(Ticket(*reader.array()?)) } else { None };
        let (head, message) = bytes.split_at_checked(length).ok_or(Error::Malformed)?;
        Ok(Self { reference, ticket, head, message: Message::decode(message)? })
    }
}

impl Head {
    /// Of an open envelope; of a sealed one where there is a ticket.
    pub(crate) fn new(reference: Reference, ticket: Option<Ticket>) -> Self {
        let mut bytes = [0; SEALED_LENGTH];
        let (kind, length) = match ticket {
            Some(_) => (SEALED, SEALED_LENGTH),
            None => (OPEN, OPEN_LENGTH),
        };
        let ticket = ticket.map_or([0; Ticket::LENGTH], |ticket| ticket.0);
        let parts = [&[VERSION, kind], &reference.0[..], &ticket];
        for (byte, part) in bytes.iter_mut().zip(parts.into_iter().flatten()) {
            *byte = *part;
        }
        Self { bytes, length }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&self.bytes)
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
            all.iter().flat_map(|from| all.iter().map(move |to| bound_to(b"head", Some(from), to)));
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
        for kind in [0, 2, 4, 255] {
            bytes[1] = kind;
            assert_eq!(Envelope::decode(&bytes).err(), Some(Error::UnsupportedVersion));
        }
        bytes[1] = 3;
        assert_eq!(Envelope::decode(&bytes[..33]).err(), Some(Error::Malformed));
        assert_eq!(Envelope::decode(&[]).err(), Some(Error::Malformed));
    }

    #[test]
    fn a_sealed_envelope_is_16_bytes_longer_and_all_of_its_head_is_bound() {
        let vectors = crate::testing::vectors("sealed.json");
        for case in vectors["envelopes"].as_array().unwrap() {
            let bytes = crate::testing::bytes(&case["envelope"]);
            let envelope = Envelope::decode(&bytes).unwrap();
            assert_eq!(crate::testing::hex(envelope.head), case["head"]);
            assert_eq!(crate::testing::hex(&envelope.reference.0), case["reference"]);
            let ticket = envelope.ticket.map(|ticket| crate::testing::hex(&ticket.0));
            assert_eq!(ticket.as_deref(), case["ticket"].as_str());
            assert_eq!(is_sealed(&bytes), ticket.is_some());
            let head = Head::new(envelope.reference, envelope.ticket);
            assert_eq!(head.as_slice(), envelope.head);
            let address = |of: &serde_json::Value| {
                let user = of["user"].as_str()?;
                Some(Address::new(user, crate::testing::number(&of["device"])))
            };
            let (from, to) = (address(&case["from"]), address(&case["to"]).unwrap());
            let bound = bound_to(envelope.head, from.as_ref(), &to);
            assert_eq!(crate::testing::hex(&bound), case["bound"]);
        }
    }

    #[test]
    fn an_envelope_of_a_later_version_is_unsupported_though_its_message_is_known() {
        // A regular message (protocol.md, 8).
        let mut bytes = [0; 184];
        (bytes[0], bytes[1], bytes[18], bytes[19]) = (1, 1, 1, 1);
        assert!(Envelope::decode(&bytes).is_ok());
        bytes[0] = 2;
        assert_eq!(Envelope::decode(&bytes).err(), Some(Error::UnsupportedVersion));
    }
}
