//! One conversation with one device.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use rand_core::CryptoRng;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::{Zeroize, Zeroizing};

use crate::at_rest;
use crate::codec;
use crate::crypto::curve::PublicKey;
use crate::error::Error;
use crate::identity::{self, IdentityKey, IdentityKeyPair};
use crate::padding;
use crate::pqxdh::{self, HANDSHAKE_LENGTH, Handshake};
use crate::prekey::{Prekeys, VerifiedBundle};
use crate::ratchet::triple::{OpenedHeader, SealedHeader, TripleRatchet};

mod message;
#[cfg(test)]
mod tests;

pub use message::{Message, MessageKind};

/// One conversation with one device of somebody.
///
/// A session is a value: it does no I/O, knows no clock and draws from no generator but the one it
/// is given. What it takes to make that safe:
///
/// - **Store before you send.** [`Session::encrypt`] moves the session on; store it
///   ([`Session::encode`]) before the message leaves. A message encrypted again from an older copy
///   would use its keys a second time.
/// - **Store with what you read.** [`Session::decrypt`] gives a plaintext once; store it together
///   with the session.
/// - **An error changes nothing.** Whatever fails leaves the session as it was.
///
/// It is not `Clone`: two copies that both encrypt would use keys twice.
///
/// ```
/// use subrosa::protocol::{Bundle, IdentityKeyPair, Message, Prekeys, Session};
/// use subrosa::SystemRng;
///
/// let rng = &mut SystemRng;
/// let now = 1_800_000_000; // seconds since the Unix epoch
/// let (alice, bob) = (IdentityKeyPair::generate(rng), IdentityKeyPair::generate(rng));
/// let mut bobs_prekeys = Prekeys::generate(10, now, rng)?;
/// let bundle = bobs_prekeys.publish(&bob).pop_bundle().expect("there are prekeys");
///
/// let bundle = Bundle::decode(&bundle.encode())?.verify(&alice.public_key(), now)?;
/// let mut to_bob = Session::initiate(&alice, &bundle, rng)?;
/// let message = to_bob.encrypt(b"hello", b"", rng)?;
///
/// let (mut to_alice, plaintext) = Session::respond(&bob, &mut bobs_prekeys, &message, b"")?;
/// assert_eq!(plaintext, b"hello");
/// assert_eq!(to_alice.peer(), alice.public_key());
/// let answer = to_alice.encrypt(b"hi", b"", rng)?;
/// assert_eq!(to_bob.decrypt(&answer, b"")?, b"hi");
/// # Ok::<(), subrosa::Error>(())
/// ```
#[must_use = "a session that is not stored cannot go on"]
pub struct Session {
    /// So that a session that is moved leaves no copy of its keys where it was.
    state: Box<State>,
}

#[derive(Serialize, Deserialize)]
struct State {
    id: SessionId,
    #[serde(with = "identity::checked")]
    peer: IdentityKey,
    ephemeral_key: PublicKey,
    /// The handshake that every message repeats until the first answer.
    unanswered: Option<Repeated>,
    ratchet: TripleRatchet,
}

#[derive(Serialize, Deserialize)]
struct Repeated(#[serde(with = "boxed_handshake")] Box<[u8; HANDSHAKE_LENGTH]>);

impl Session {
    /// A plaintext is at most so long: 2^20 bytes. Larger things travel as attachments.
    pub const MAX_PLAINTEXT: usize = 1 << 20;

    /// Associated data is at most so long: 2^16 bytes.
    pub const MAX_ASSOCIATED_DATA: usize = 1 << 16;

    /// Begins a session with the device that left a bundle.
    ///
    /// Draws 32 bytes (the ephemeral key), then 32 (to encapsulate with).
    ///
    /// # Errors
    /// [`Error::InvalidKey`]: a key of the bundle is of small order; fetch another.
    /// [`Error::OwnIdentity`]: the bundle is one's own.
    pub fn initiate(
        identity: &IdentityKeyPair,
        bundle: &VerifiedBundle,
        rng: &mut dyn CryptoRng,
    ) -> Result<Self, Error> {
        let initiated = pqxdh::initiate(identity, bundle, rng)?;
        let point = bundle.signed_point.clone();
        let state = State {
            id: SessionId(initiated.session_secret.transcript),
            peer: bundle.identity(),
            ephemeral_key: initiated.ephemeral_key,
            unanswered: Some(Repeated(initiated.handshake)),
            ratchet: TripleRatchet::initiator(
                &initiated.session_secret.secret,
                bundle.signed.key,
                point,
            ),
        };
        Ok(Self { state: Box::new(state) })
    }

    /// Answers an initial message that belongs to no session yet (see [`Session::matches`]): the
    /// session, and the plaintext.
    ///
    /// The one-time prekeys that it used are deleted from `prekeys`, since the message opened.
    /// Store the session, the prekeys and the plaintext together.
    ///
    /// # Errors
    /// Nothing changed. [`Error::UnknownPrekey`], [`Error::Replay`]: the prekey was used, so ask
    /// [`Session::matches`] first; if there is no such session, the sender needs a fresh bundle.
    /// [`Error::InvalidKey`], [`Error::UnknownHeader`], [`Error::Decrypt`], ..: a forgery, or meant
    /// for someone else. [`Error::Malformed`]: it is not an initial message.
    pub fn respond(
        identity: &IdentityKeyPair,
        prekeys: &mut Prekeys,
        message: &Message<'_>,
        associated_data: &[u8],
    ) -> Result<(Self, Vec<u8>), Error> {
        check_length(associated_data, Self::MAX_ASSOCIATED_DATA)?;
        let mut session = Self::answering(identity, prekeys, message)?;
        let plaintext = session.decrypt(message, associated_data)?;
        Self::consume(prekeys, message)?;
        Ok((session, plaintext))
    }

    /// The session that an initial message begins. The message was not opened in it, so nothing is
    /// known of it yet: it may be a forgery.
    ///
    /// # Errors
    /// As [`Session::respond`].
    pub(crate) fn answering(
        identity: &IdentityKeyPair,
        prekeys: &Prekeys,
        message: &Message<'_>,
    ) -> Result<Self, Error> {
        let handshake = Handshake::decode(message.handshake().ok_or(Error::Malformed)?)?;
        let responded = pqxdh::respond(identity, prekeys, &handshake)?;
        let state = State {
            id: SessionId(responded.session_secret.transcript),
            peer: responded.initiator,
            ephemeral_key: handshake.ephemeral_key,
            unanswered: None,
            ratchet: TripleRatchet::responder(
                &responded.session_secret.secret,
                responded.signed_prekey,
            ),
        };
        Ok(Self { state: Box::new(state) })
    }

    /// Deletes the one-time prekeys that an initial message used, since it opened.
    ///
    /// # Errors
    /// [`Error::Malformed`]: it is not an initial message.
    pub(crate) fn consume(prekeys: &mut Prekeys, message: &Message<'_>) -> Result<(), Error> {
        let handshake = Handshake::decode(message.handshake().ok_or(Error::Malformed)?)?;
        prekeys.consume(&handshake.ids, &handshake.ephemeral_key);
        Ok(())
    }

    /// Encrypts a message and moves the session on: store it before the message leaves.
    ///
    /// `associated_data` is what the message must arrive with, say the ids of a chat; it does not
    /// travel. What is drawn from `rng`: 32 bytes where a turn of the conversation begins, 32 or 64
    /// where the post-quantum ratchet needs them, else nothing.
    ///
    /// # Errors
    /// Nothing changed, nothing was drawn. [`Error::TooLong`]: more than [`Session::MAX_PLAINTEXT`]
    /// or [`Session::MAX_ASSOCIATED_DATA`]. [`Error::Exhausted`]: 2^32 - 1 messages without an
    /// answer.
    pub fn encrypt(
        &mut self,
        plaintext: &[u8],
        associated_data: &[u8],
        rng: &mut dyn CryptoRng,
    ) -> Result<Message<'static>, Error> {
        check_length(plaintext, Self::MAX_PLAINTEXT)?;
        check_length(associated_data, Self::MAX_ASSOCIATED_DATA)?;
        let padded = padding::padded_length(plaintext.len());
        let handshake = self.state.unanswered.as_ref().map(|repeated| &*repeated.0);
        let mut draft = message::Draft::new(handshake, padded);
        let (key, header) = self.state.ratchet.send(draft.header_data(), rng)?;
        draft.push_header(&header);
        let data = AssociatedData::new(&self.state.id, associated_data, draft.written());
        let payload = draft.payload(plaintext);
        padding::pad(payload, plaintext.len());
        key.seal(payload, data.as_slice());
        Ok(draft.done())
    }

    /// Decrypts a message, initial or regular, in whatever order messages come.
    ///
    /// # Errors
    /// Nothing changed. By [`Error::remedy`]: [`Error::Duplicate`], [`Error::Decrypt`],
    /// [`Error::Malformed`],
    /// [`Error::InvalidKey`]: drop it.
    /// [`Error::UnknownHeader`]: try another session with the sender, then drop it.
    /// [`Error::TooOld`], [`Error::TooFarAhead`]: the message is lost, a new session goes on.
    /// [`Error::TooLong`]: `associated_data`.
    pub fn decrypt(
        &mut self,
        message: &Message<'_>,
        associated_data: &[u8],
    ) -> Result<Vec<u8>, Error> {
        check_length(associated_data, Self::MAX_ASSOCIATED_DATA)?;
        let header = self.open_header(message)?;
        self.decrypt_opened(message, &header, associated_data)
    }

    /// As [`Session::decrypt`], of a message whose header was opened here.
    ///
    /// # Errors
    /// As [`Session::decrypt`].
    pub(crate) fn decrypt_opened(
        &mut self,
        message: &Message<'_>,
        header: &OpenedHeader,
        associated_data: &[u8],
    ) -> Result<Vec<u8>, Error> {
        check_length(associated_data, Self::MAX_ASSOCIATED_DATA)?;
        let parts = message.parts()?;
        let (key, step) = self.state.ratchet.receive_opened(header)?;
        let data = AssociatedData::new(&self.state.id, associated_data, parts.before_payload);
        let mut plaintext = key.open(parts.payload, data.as_slice())?;
        match padding::unpad(&plaintext) {
            Ok(length) => plaintext.truncate(length),
            Err(error) => {
                plaintext.zeroize();
                return Err(error);
            }
        }
        // The message is genuine: only now anything changes.
        self.state.ratchet.commit(step);
        self.state.unanswered = None;
        Ok(plaintext)
    }

    /// Opens the header of a message, which changes nothing.
    ///
    /// # Errors
    /// [`Error::UnknownHeader`], [`Error::Malformed`]
    pub(crate) fn open_header(&self, message: &Message<'_>) -> Result<OpenedHeader, Error> {
        let parts = message.parts()?;
        let header = SealedHeader { nonce: *parts.nonce, bytes: *parts.header };
        self.state.ratchet.open_header(&header, parts.header_data)
    }

    /// How many messages one with this header skips: what decrypting it costs, in chain steps.
    pub(crate) fn skipped_by(&self, header: &OpenedHeader) -> u64 {
        self.state.ratchet.skipped_by(header)
    }

    /// Whether the sender of a message with this header had read something that was sent since the
    /// last such message. It says nothing of a message that begins a session.
    pub(crate) fn is_answer(header: &OpenedHeader) -> bool {
        TripleRatchet::is_answer(header)
    }

    /// Whether this is the session that an initial message belongs to: the one made from the same
    /// handshake, by initiating or by responding. False for regular messages, which do not say.
    #[must_use]
    pub fn matches(&self, message: &Message<'_>) -> bool {
        message.ephemeral_key().is_some_and(|key| key == self.state.ephemeral_key.as_bytes())
    }

    /// EK_A: what initial messages of the session show.
    pub(crate) const fn ephemeral_key(&self) -> &[u8; 32] {
        self.state.ephemeral_key.as_bytes()
    }

    /// The name of the session, the same on both sides.
    #[must_use]
    pub const fn id(&self) -> SessionId {
        self.state.id
    }

    /// The identity of the device at the other end.
    #[must_use]
    pub const fn peer(&self) -> IdentityKey {
        self.state.peer
    }

    /// Whether a message of the peer has been decrypted. Until then an initiator's messages repeat
    /// the handshake.
    #[must_use]
    pub const fn is_answered(&self) -> bool {
        self.state.unanswered.is_none()
    }

    /// How many epochs of the post-quantum ratchet are complete on this side: each renews the keys
    /// of both with a fresh ML-KEM secret.
    #[must_use]
    pub const fn post_quantum_epochs(&self) -> u64 {
        self.state.ratchet.completed_epochs()
    }

    /// The state at rest: a version byte, then the state. Secret; wiped when dropped.
    ///
    /// At most 2.5 KB; 1.6 KB more while the handshake is repeated; 76 bytes more for each message
    /// that was skipped and has not come yet, of which 2,000 are kept, and 36 for each of the at
    /// most 16 older chains that they are of. Where a tenth of all messages never arrives that is 3
    /// to 4 KB.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        at_rest::state::encode(VERSION, &*self.state, self.state.most_bytes())
    }

    /// From what [`Session::encode`] made.
    ///
    /// # Errors
    /// [`Error::BadState`]
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let state: Box<State> = at_rest::state::decode(VERSION, bytes)?;
        if state.ratchet.is_sound() { Ok(Self { state }) } else { Err(Error::BadState) }
    }
}

/// The version of the stored form.
const VERSION: u8 = 1;

impl State {
    /// An upper bound of the stored form.
    fn most_bytes(&self) -> usize {
        let handshake = self.unanswered.as_ref().map_or(0, |_| HANDSHAKE_LENGTH);
        self.ratchet.most_bytes().saturating_add(handshake).saturating_add(128)
    }
}

/// The name of a session: the digest T of its handshake's transcript, 32 bytes, the same on both
/// sides.
///
/// It is not secret. Two devices that see the same id have the same session, with nobody in between
/// who is not one of the two identities.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(#[serde(with = "at_rest::array")] [u8; 32]);

impl SessionId {
    /// The smallest there is.
    pub(crate) const MIN: Self = Self([0; 32]);

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// As [`SessionId::as_bytes`].
impl AsRef<[u8]> for SessionId {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        codec::hex(f, &self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({self})")
    }
}

/// Shows the id and the peer.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Session");
        shown.field("id", &self.id()).field("peer", &self.peer()).finish_non_exhaustive()
    }
}

/// As [`Session::encode`], version byte included.
impl Serialize for Session {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.encode())
    }
}

/// As [`Session::decode`].
impl<'de> Deserialize<'de> for Session {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        at_rest::state::deserialize(deserializer, Self::decode)
    }
}

/// What a payload is bound to:
/// `T || length:u32 || associated data || prefix || [handshake] || HN || encrypted header`.
///
/// That of a regular message with little of the application's fits on the stack.
struct AssociatedData {
    short: [u8; 256],
    length: usize,
    long: Vec<u8>,
}

impl AssociatedData {
    fn new(id: &SessionId, application: &[u8], before_payload: &[u8]) -> Self {
        let count = u32::try_from(application.len()).unwrap_or(u32::MAX).to_be_bytes();
        let parts: [&[u8]; 4] = [&id.0, &count, application, before_payload];
        let length = parts.iter().map(|part| part.len()).fold(0, usize::saturating_add);
        let mut short = [0; 256];
        if length > short.len() {
            return Self { short, length, long: parts.concat() };
        }
        let mut rest = short.as_mut_slice();
        for part in parts {
            let (now, later) = rest.split_at_mut(part.len());
            now.copy_from_slice(part);
            rest = later;
        }
        Self { short, length, long: Vec::new() }
    }

    fn as_slice(&self) -> &[u8] {
        self.short.get(..self.length).unwrap_or(&self.long)
    }
}

const fn check_length(bytes: &[u8], most: usize) -> Result<(), Error> {
    if bytes.len() > most { Err(Error::TooLong) } else { Ok(()) }
}

/// State at rest: a handshake as one run of bytes.
mod boxed_handshake {
    use super::{Box, Deserializer, HANDSHAKE_LENGTH, Serializer, at_rest};

    pub(super) fn serialize<S: Serializer>(
        handshake: &[u8; HANDSHAKE_LENGTH],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        at_rest::array::serialize(handshake, serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Box<[u8; HANDSHAKE_LENGTH]>, D::Error> {
        at_rest::array::deserialize(deserializer).map(Box::new)
    }
}
