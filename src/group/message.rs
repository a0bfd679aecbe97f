//! The envelope of a group message: one for all devices of all members (docs/groups.md, 2).
//!
//! ```text
//! envelope  = version:u8 = 1 || kind:u8 = 2 || reference:16 || label:8 || hint:32 ||
//!             AEAD(K, N, padded(content || signature:64), ad)
//! K:32 || N:12 = HKDF(0, mk, "Subrosa v1 group message" || reference, 44)
//! ad        = all before the AEAD || group:32 || identity:32 || device:u32 || user
//! signature = Ed25519(chain's key, "Subrosa v1 group message signature" || ad || member:16 || p ||
//!             H(content))
//! ```
//!
//! The signature is inside the AEAD, so that who is outside has nothing to break. It is over a hash
//! of the content and not over the tag: every member knows K, and a Poly1305 tag under a known key
//! commits to nothing.

use alloc::vec::Vec;

use rand_core::CryptoRng;
use zeroize::Zeroize;

use super::label::{Front, HINT_LENGTH, Hint, Label, LabelKey, PLAIN_LENGTH};
use crate::address::Address;
use crate::codec::Reader;
use crate::crypto::aead::{MessageKey, NONCE_LENGTH, TAG_LENGTH};
use crate::crypto::kdf::{self, NO_SALT};
use crate::crypto::secret::Secret;
use crate::crypto::signature::VerifyingKey;
use crate::crypto::{hash, mark};
use crate::error::Error;
use crate::identity::IdentityKey;
use crate::padding;
use crate::ratchet::sender_key::SendingChain;

/// A group envelope that was received. Nothing of it is known to be genuine yet.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    head: &'a [u8; HEAD_LENGTH],
    sealed: &'a [u8],
}

/// Whose message it is, as both ends know.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'a> {
    /// The group's id.
    pub group: &'a [u8; 32],
    /// The member's whole id.
    pub member: &'a [u8; 16],
    /// The identity key of the device.
    pub identity: &'a IdentityKey,
    /// Where the device writes from.
    pub address: &'a Address,
}

/// A content is at most so long: 2^20 bytes.
pub(super) const MAX_CONTENT: usize = 1 << 20;

const VERSION: u8 = 1;

/// The kind of an envelope that a whole group gets.
const GROUP: u8 = 2;

/// `version || kind || reference || label || hint`
const HEAD_LENGTH: usize = 58;

const SIGNATURE_LENGTH: usize = 64;

/// An empty content, its signature and the mark of the padding.
const MIN_SEALED: usize = SIGNATURE_LENGTH + 1 + TAG_LENGTH;

const MAX_SEALED: usize = padding::padded_length(MAX_CONTENT + SIGNATURE_LENGTH) + TAG_LENGTH;

impl<'a> Envelope<'a> {
    /// Whether these bytes begin as the envelope of a group does.
    pub(crate) fn is_one(bytes: &[u8]) -> bool {
        bytes.starts_with(&[VERSION, GROUP])
    }

    /// From bytes that were received.
    ///
    /// # Errors
    /// [`Error::UnsupportedVersion`]: of a version or a kind that this is not.
    /// [`Error::Malformed`]: shorter than 139 bytes, or longer than 1,081,418.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        if (reader.u8()?, reader.u8()?) != (VERSION, GROUP) {
            return Err(Error::UnsupportedVersion);
        }
        let (head, sealed) = bytes.split_first_chunk().ok_or(Error::Malformed)?;
        if (MIN_SEALED..=MAX_SEALED).contains(&sealed.len()) {
            Ok(Self { head, sealed })
        } else {
            Err(Error::Malformed)
        }
    }

    /// The name of the envelope, which its sender drew.
    #[must_use]
    pub fn reference(&self) -> [u8; 16] {
        let mut reference = [0; 16];
        reference.copy_from_slice(&self.head[2..18]);
        reference
    }

    /// What leads to the label keys to try.
    #[must_use]
    pub fn label(&self) -> Label {
        let mut label = [0; 8];
        label.copy_from_slice(&self.head[18..26]);
        Label(label)
    }

    /// Which message of which device it says to be; `None` where no holder of this label key made
    /// it.
    #[must_use]
    pub fn hint(&self, label_key: &LabelKey) -> Option<Hint> {
        let (front, hint) = self.head.split_first_chunk::<26>()?;
        label_key.open(front, hint.first_chunk()?)
    }

    /// Opens it with the key of its message, and verifies who wrote it.
    ///
    /// # Errors
    /// [`Error::Decrypt`]: its hint names another device, it was not sealed by somebody who has the
    /// chain, or was changed.
    /// [`Error::BadSignature`]: somebody who has the chain sealed it, and not its owner.
    pub(super) fn open(
        &self,
        hint: &Hint,
        sender: &Sender<'_>,
        message_key: &Secret<32>,
        verifying_key: &VerifyingKey,
    ) -> Result<Vec<u8>, Error> {
        if !hint.names(sender.member, sender.address.device) {
            return Err(Error::Decrypt);
        }
        let (bound, associated_data) = bound_to(self.head, sender);
        let associated_data = bound.get(associated_data).unwrap_or_default();
        let key = key(message_key, &self.reference());
        let mut text = key.open(self.sealed, associated_data)?;
        match verified(&text, bound, sender, hint, verifying_key) {
            Ok(length) => text.truncate(length),
            Err(error) => {
                text.zeroize();
                return Err(error);
            }
        }
        Ok(text)
    }
}

/// The length of the content in a text that opened.
fn verified(
    text: &[u8],
    bound: Vec<u8>,
    sender: &Sender<'_>,
    hint: &Hint,
    verifying_key: &VerifyingKey,
) -> Result<usize, Error> {
    let (unpadded, _) = text.split_at(padding::unpad(text)?);
    let (content, signature) = unpadded.split_last_chunk().ok_or(Error::Decrypt)?;
    let signed = signed(bound, sender, hint, content);
    // Who holds the key made it, or another member who knows it anyway.
    verifying_key.verify(&signed, &mark::public(*signature))?;
    Ok(content.len())
}

/// # Errors
/// [`Error::TooLong`]
pub(super) const fn check_length(content: &[u8]) -> Result<(), Error> {
    if content.len() > MAX_CONTENT { Err(Error::TooLong) } else { Ok(()) }
}

/// Draws 16 bytes.
pub(super) fn reference(rng: &mut dyn CryptoRng) -> [u8; 16] {
    let mut reference = [0; 16];
    rng.fill_bytes(&mut reference);
    reference
}

/// The envelope of the next message of a chain, in one buffer of the right length.
///
/// # Errors
/// [`Error::Exhausted`], and nothing changes.
pub(super) fn seal(
    chain: &mut SendingChain,
    label_key: &LabelKey,
    sender: &Sender<'_>,
    reference: &[u8; 16],
    content: &[u8],
) -> Result<Vec<u8>, Error> {
    let hint = Hint::new(sender.member, sender.address.device, chain.id(), chain.number());
    let message_key = chain.send()?;
    let head = head(reference, label_key, &hint);
    let (bound, associated_data) = bound_to(&head, sender);
    let signed = signed(bound, sender, &hint, content);
    let signature = chain.sign(&signed);

    let length = content.len().saturating_add(SIGNATURE_LENGTH);
    let all = padding::padded_length(length).saturating_add(HEAD_LENGTH + TAG_LENGTH);
    let mut envelope = Vec::with_capacity(all);
    envelope.extend_from_slice(&head);
    envelope.extend_from_slice(content);
    envelope.extend_from_slice(&signature);
    envelope.resize(all, 0);
    let payload = envelope.get_mut(HEAD_LENGTH..).unwrap_or_default();
    padding::pad(payload, length);
    let associated_data = signed.get(associated_data).unwrap_or_default();
    key(&message_key, reference).seal(payload, associated_data);
    Ok(envelope)
}

fn head(reference: &[u8; 16], label_key: &LabelKey, hint: &Hint) -> [u8; HEAD_LENGTH] {
    let mut front: Front = [0; 26];
    front[..2].copy_from_slice(&[VERSION, GROUP]);
    front[2..18].copy_from_slice(reference);
    front[18..].copy_from_slice(&label_key.label().0);
    let mut head = [0; HEAD_LENGTH];
    head[..26].copy_from_slice(&front);
    head[26..].copy_from_slice(&label_key.seal(&front, hint));
    head
}

const SIGNATURE_LABEL: &[u8] = b"Subrosa v1 group message signature";

/// The label of the signature and the associated data, and where in it the latter is. There is room
/// for all that is signed.
fn bound_to(head: &[u8; HEAD_LENGTH], sender: &Sender<'_>) -> (Vec<u8>, core::ops::Range<usize>) {
    let device = sender.address.device.to_be_bytes();
    let parts: [&[u8]; 6] = [
        SIGNATURE_LABEL,
        head,
        sender.group,
        sender.identity.as_bytes(),
        &device,
        sender.address.user.as_bytes(),
    ];
    let after = const { 16 + PLAIN_LENGTH + 32 };
    let length = parts.iter().fold(after, |length, part| length.saturating_add(part.len()));
    let mut bound = Vec::with_capacity(length);
    parts.iter().for_each(|part| bound.extend_from_slice(part));
    let end = bound.len();
    (bound, SIGNATURE_LABEL.len()..end)
}

/// All that the signature is over.
fn signed(mut bound: Vec<u8>, sender: &Sender<'_>, hint: &Hint, content: &[u8]) -> Vec<u8> {
    bound.extend_from_slice(sender.member);
    bound.extend_from_slice(&hint.encode());
    // The time of a verification depends on the hash, and so tells no more of the content.
    bound.extend_from_slice(&mark::public(hash::of(content)));
    bound
}

/// `K || N`
fn key(message_key: &Secret<32>, reference: &[u8; 16]) -> MessageKey {
    let info: [&[u8]; 2] = [b"Subrosa v1 group message", reference];
    let [key, nonces] = kdf::hkdf(&NO_SALT, &[message_key.expose()], &info);
    let mut nonce = [0; NONCE_LENGTH];
    nonce.copy_from_slice(&nonces.expose()[..NONCE_LENGTH]);
    MessageKey { key, nonce }
}

const _: () = assert!(HEAD_LENGTH == 2 + 16 + 8 + HINT_LENGTH);
