//! Messages as they travel (protocol.md, 8).

use alloc::borrow::Cow;
use alloc::vec::Vec;

use crate::codec::Reader;
use crate::crypto::aead::{NONCE_LENGTH, TAG_LENGTH};
use crate::error::Error;
use crate::padding;
use crate::pqxdh::{HANDSHAKE_LENGTH, Handshake};
use crate::prekey::RowKey;
use crate::ratchet::triple::{SEALED_HEADER_LENGTH, SealedHeader};

/// An encrypted message.
///
/// ```text
/// prefix  = version:u8 = 1 || kind:u8 (1 = regular, 2 = initial)
/// regular = prefix || HN:12 || encrypted header:104 || encrypted payload
/// initial = prefix || handshake:1660 || HN:12 || encrypted header:104 || encrypted payload
/// ```
///
/// The payload is the padded plaintext and a tag of 16 bytes: a regular message is 134 bytes and
/// the padded length (32 at least), an initial one 1,660 bytes more (protocol.md, section 8). All
/// of a regular message looks random, but its first two bytes.
///
/// ```
/// use subrosa::protocol::Message;
/// use subrosa::Error;
///
/// assert_eq!(Message::decode(b"not a message").unwrap_err(), Error::UnsupportedVersion);
/// ```
#[must_use = "a message that is not sent is a gap at the other end"]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    bytes: Cow<'a, [u8]>,
    kind: MessageKind,
}

/// The kinds of message.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// For a session that both sides have.
    Regular,
    /// Carries the handshake, for a peer that may not have the session yet.
    Initial,
}

/// As [`Message::as_bytes`].
impl AsRef<[u8]> for Message<'_> {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

/// As [`Message::decode`].
impl<'a> TryFrom<&'a [u8]> for Message<'a> {
    type Error = Error;

    fn try_from(bytes: &'a [u8]) -> Result<Self, Error> {
        Self::decode(bytes)
    }
}

/// Where the parts of a message are.
pub(super) struct Parts<'a> {
    /// What the header is bound to: prefix and handshake.
    pub(super) header_data: &'a [u8],
    pub(super) nonce: &'a [u8; NONCE_LENGTH],
    pub(super) header: &'a [u8; SEALED_HEADER_LENGTH],
    /// All of the above.
    pub(super) before_payload: &'a [u8],
    pub(super) payload: &'a [u8],
}

const VERSION: u8 = 1;
const PREFIX_LENGTH: usize = 2;
const REGULAR: u8 = 1;
const INITIAL: u8 = 2;

/// Of a regular message, up to its payload.
const HEAD_LENGTH: usize = PREFIX_LENGTH + NONCE_LENGTH + SEALED_HEADER_LENGTH;

/// The payload of the longest plaintext.
const MAX_PAYLOAD: usize = padding::padded_length(super::Session::MAX_PLAINTEXT) + TAG_LENGTH;

impl<'a> Message<'a> {
    /// From bytes, of which the layout is checked. Nothing is copied.
    ///
    /// # Errors
    /// [`Error::UnsupportedVersion`], [`Error::Malformed`]
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return Err(Error::UnsupportedVersion);
        }
        let kind = match reader.u8()? {
            REGULAR => MessageKind::Regular,
            INITIAL => MessageKind::Initial,
            _ => return Err(Error::Malformed),
        };
        let message = Self { bytes: Cow::Borrowed(bytes), kind };
        let payload = message.parts()?.payload.len();
        if (TAG_LENGTH..=MAX_PAYLOAD).contains(&payload) {
            Ok(message)
        } else {
            Err(Error::Malformed)
        }
    }

    /// The bytes to send. Nothing is copied where the message was just encrypted.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        self.bytes.into_owned()
    }

    /// The bytes to send.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Of which kind it is. An initial message may begin a session; both kinds go on with one.
    #[must_use]
    pub const fn kind(&self) -> MessageKind {
        self.kind
    }

    /// The message with bytes of its own.
    pub fn into_owned(self) -> Message<'static> {
        Message { bytes: Cow::Owned(self.bytes.into_owned()), kind: self.kind }
    }

    /// The initiator's ephemeral key in an initial message. It names the session: one that was made
    /// from it has the same ([`Session::matches`](super::Session::matches)).
    #[must_use]
    pub fn ephemeral_key(&self) -> Option<&[u8; 32]> {
        self.handshake()?.first_chunk()
    }

    /// The rows of [`Prekeys`](crate::protocol::Prekeys) that an initial message needs in order to
    /// be answered: with those of them that exist, [`Session::respond`](super::Session::respond)
    /// gives what it gives with all.
    pub(crate) fn prekey_rows(&self) -> Option<Vec<RowKey>> {
        let handshake = Handshake::decode(self.handshake()?).ok()?;
        Some(RowKey::of_handshake(&handshake.ids, &handshake.ephemeral_key))
    }

    pub(super) fn handshake(&self) -> Option<&[u8; HANDSHAKE_LENGTH]> {
        match self.kind {
            MessageKind::Regular => None,
            MessageKind::Initial => self.bytes.get(PREFIX_LENGTH..)?.first_chunk(),
        }
    }

    pub(super) fn parts(&self) -> Result<Parts<'_>, Error> {
        let header_length = match self.kind {
            MessageKind::Regular => PREFIX_LENGTH,
            MessageKind::Initial => PREFIX_LENGTH + HANDSHAKE_LENGTH,
        };
        let (header_data, sealed) =
            self.bytes.split_at_checked(header_length).ok_or(Error::Malformed)?;
        let mut reader = Reader::new(sealed);
        let (nonce, header) = (reader.array()?, reader.array()?);
        let payload = reader.rest();
        let before = self.bytes.len().saturating_sub(payload.len());
        let before_payload = self.bytes.get(..before).ok_or(Error::Malformed)?;
        Ok(Parts { header_data, nonce, header, before_payload, payload })
    }
}

/// A message that is being written, in one buffer of the right length.
pub(super) struct Draft {
    bytes: Vec<u8>,
    kind: MessageKind,
    length: usize,
}

impl Draft {
    /// Begins with the prefix and the handshake, if there is one to repeat.
    pub(super) fn new(handshake: Option<&[u8; HANDSHAKE_LENGTH]>, padded_length: usize) -> Self {
        let (kind, byte) = match handshake {
            Some(_) => (MessageKind::Initial, INITIAL),
            None => (MessageKind::Regular, REGULAR),
        };
        let handshake = handshake.map_or(&[][..], <[u8; HANDSHAKE_LENGTH]>::as_slice);
        let head = HEAD_LENGTH.saturating_add(handshake.len());
        let length = head.saturating_add(padded_length).saturating_add(TAG_LENGTH);
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(&[VERSION, byte]);
        bytes.extend_from_slice(handshake);
        Self { bytes, kind, length }
    }

    /// What the header is bound to: all that is written so far.
    pub(super) fn header_data(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn push_header(&mut self, header: &SealedHeader) {
        self.bytes.extend_from_slice(&header.nonce);
        self.bytes.extend_from_slice(&header.bytes);
    }

    /// All that is written so far.
    pub(super) fn written(&self) -> &[u8] {
        &self.bytes
    }

    /// The plaintext, and zeros up to the end of the tag: what is to be padded and sealed in place.
    pub(super) fn payload(&mut self, plaintext: &[u8]) -> &mut [u8] {
        let before = self.bytes.len();
        self.bytes.extend_from_slice(plaintext);
        self.bytes.resize(self.length, 0);
        self.bytes.get_mut(before..).unwrap_or_default()
    }

    pub(super) fn done(self) -> Message<'static> {
        Message { bytes: Cow::Owned(self.bytes), kind: self.kind }
    }
}
