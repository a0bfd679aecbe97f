//! The Triple Ratchet: the Double Ratchet and the Sparse Post-Quantum Ratchet side by side, the key
//! of each message mixed from both (Double Ratchet, section 6). Who would read a message must break
//! both.

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use super::double::{self, DoubleRatchet, OpenedBy};
pub(crate) use super::header::SEALED_HEADER_LENGTH;
use super::header::{Header, MAX_CARRIED};
use super::message::{MAX_MESSAGE, Message};
use super::sparse::{self, SparseRatchet};
use crate::crypto::aead::{MessageKey, NONCE_LENGTH};
use crate::crypto::curve::{Point, PublicKey, SecretKey};
use crate::crypto::kdf::{self, HmacKey};
use crate::crypto::secret::Secret;
use crate::error::Error;

const _: () = assert!(MAX_MESSAGE <= MAX_CARRIED);

/// One side of the ratchet.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TripleRatchet {
    double: DoubleRatchet,
    sparse: SparseRatchet,
}

/// The header of a message as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SealedHeader {
    pub(crate) nonce: [u8; NONCE_LENGTH],
    pub(crate) bytes: [u8; SEALED_HEADER_LENGTH],
}

/// A header that opened.
pub(crate) struct OpenedHeader {
    opened_by: OpenedBy,
    header: Header,
}

/// What receiving changes. Nothing does before [`TripleRatchet::commit`].
pub(crate) struct Step {
    double: double::Step,
    sparse: sparse::Step,
}

impl TripleRatchet {
    /// The initiator, from the handshake's secret and the responder's signed prekey.
    pub(crate) fn initiator(
        session_secret: &Secret<32>,
        signed_prekey: PublicKey,
        point: Point,
    ) -> Self {
        let [root_key, ours, theirs, pq] = session_keys(session_secret);
        let double = DoubleRatchet::initiator(root_key, ours, theirs, signed_prekey, point);
        Self { double, sparse: SparseRatchet::initiator(&pq) }
    }

    /// The responder, from the handshake's secret and the signed prekey that was used.
    pub(crate) fn responder(session_secret: &Secret<32>, signed_prekey: SecretKey) -> Self {
        let [root_key, theirs, ours, pq] = session_keys(session_secret);
        let double = DoubleRatchet::responder(root_key, theirs, ours, signed_prekey);
        Self { double, sparse: SparseRatchet::responder(&pq) }
    }

    /// Whether what was stored is something that this type made.
    pub(crate) fn is_sound(&self) -> bool {
        self.double.is_sound() && self.sparse.is_sound()
    }

    /// An upper bound of the stored form, in bytes: 2.2 KB in the worst phase of the braid, and
    /// what is kept of skipped messages.
    pub(crate) fn most_bytes(&self) -> usize {
        self.double.most_bytes().saturating_add(self.sparse.most_bytes())
    }

    /// How many post-quantum epochs are complete on this side.
    pub(crate) const fn completed_epochs(&self) -> u64 {
        self.sparse.completed_epochs()
    }

    /// The key of the next message, and its header, sealed with `header_data` as associated data.
    ///
    /// Draws what the Double Ratchet draws (32 bytes where a ratchet key is due), then what the
    /// braid draws.
    ///
    /// # Errors
    /// [`Error::Exhausted`] at the end of a chain, before anything is drawn.
    pub(crate) fn send(
        &mut self,
        header_data: &[u8],
        rng: &mut dyn CryptoRng,
    ) -> Result<(MessageKey, SealedHeader), Error> {
        self.double.can_send()?;
        self.sparse.can_send()?;
        self.double.prepare_to_send(rng)?;
        let sparse = self.sparse.send(rng)?;
        let sent = self.double.send(sparse.message.as_slice())?;
        let (key, nonce) = mix(&sent.message_key, &sparse.message_key);
        let bytes = self.double.seal_header(&sent, &nonce, header_data)?;
        Ok((key, SealedHeader { nonce, bytes }))
    }

    /// Opens the header of a message. Nothing changes.
    ///
    /// # Errors
    /// [`Error::UnknownHeader`], [`Error::Malformed`]
    #[inline(always)]
    pub(crate) fn open_header(
        &self,
        header: &SealedHeader,
        header_data: &[u8],
    ) -> Result<OpenedHeader, Error> {
        let (opened_by, header) =
            self.double.open_header(&header.nonce, &header.bytes, header_data)?;
        Ok(OpenedHeader { opened_by, header })
    }

    /// How many messages one with this header skips.
    pub(crate) fn skipped_by(&self, opened: &OpenedHeader) -> u64 {
        self.double.skipped_by(opened.opened_by, &opened.header)
    }

    /// Whether the sender of a message had read one of those that this side sends now: its ratchet
    /// took a step since.
    pub(crate) fn is_answer(opened: &OpenedHeader) -> bool {
        opened.opened_by == OpenedBy::Next
    }

    /// The key of a received message, and what receiving it changes.
    ///
    /// # Errors
    /// Those of protocol.md, section 9, that come before the payload.
    // What it returns is some 200 bytes, which need not be moved once more.
    #[inline(always)]
    pub(crate) fn receive_opened(
        &self,
        opened: &OpenedHeader,
    ) -> Result<(MessageKey, Step), Error> {
        let message = Message::decode(opened.header.carried())?;
        let (message_key, double) = self.double.receive(opened.opened_by, &opened.header)?;
        let (pq_message_key, sparse) = self.sparse.receive(&message)?;
        let (key, _) = mix(&message_key, &pq_message_key);
        Ok((key, Step { double, sparse }))
    }

    pub(crate) fn commit(&mut self, step: Step) {
        self.double.commit(step.double);
        self.sparse.commit(step.sparse);
    }
}

/// `HKDF-Expand(SK, "Subrosa v1 session", 128) = RK || HK_A || HK_B || PQ`
fn session_keys(session_secret: &Secret<32>) -> [Secret<32>; 4] {
    kdf::expand(session_secret, &[b"Subrosa v1 session"])
}

/// `HKDF(salt = pq_mk, ikm = mk, "Subrosa v1 message", 56) = K:32 || N:12 || HN:12`: KDF_HYBRID,
/// and the nonces.
fn mix(message_key: &Secret<32>, pq_message_key: &Secret<32>) -> (MessageKey, [u8; NONCE_LENGTH]) {
    let [key, nonces] =
        kdf::hkdf(&HmacKey::new(pq_message_key), &[message_key.expose()], &[b"Subrosa v1 message"]);
    let [mut nonce, mut header_nonce] = [[0; NONCE_LENGTH]; 2];
    nonce.copy_from_slice(&nonces.expose()[..12]);
    header_nonce.copy_from_slice(&nonces.expose()[12..24]);
    (MessageKey { key, nonce }, header_nonce)
}

#[cfg(test)]
impl TripleRatchet {
    /// The state in the form of the vectors.
    pub(crate) fn vector_state(&self) -> serde_json::Value {
        serde_json::json!({ "dr": self.double.vector_state(), "pq": self.sparse.vector_state() })
    }

    /// Sends as [`TripleRatchet::send`] does, and compares every value on the way with those of a
    /// vector.
    pub(crate) fn check_send(&mut self, event: &serde_json::Value, rng: &mut dyn CryptoRng) {
        use crate::testing::{array, hex};
        self.double.prepare_to_send(rng).unwrap();
        let sparse = self.sparse.send(rng).unwrap();
        assert_eq!(hex(sparse.message.as_slice()), event["pq_msg"]);
        assert_eq!(sparse.message_key, Secret::new(array(&event["pq_mk"])));
        let sent = self.double.send(sparse.message.as_slice()).unwrap();
        assert_eq!(sent.message_key, Secret::new(array(&event["mk"])));
        assert_eq!(self.double.vector_state()["HKs"], event["HKs"]);
        assert_eq!(hex(&sent.header_bytes()), event["header"]);
        let (key, header_nonce) = mix(&sent.message_key, &sparse.message_key);
        assert_eq!(key.key, Secret::new(array(&event["K"])));
        assert_eq!(key.nonce, array(&event["N"]));
        assert_eq!(header_nonce, array(&event["HN"]));
    }

    /// As [`TripleRatchet::receive`], with the values on the way.
    pub(crate) fn check_receive(
        &self,
        event: &serde_json::Value,
        header: &SealedHeader,
        header_data: &[u8],
    ) {
        use crate::testing::array;
        let (opened_by, opened) =
            self.double.open_header(&header.nonce, &header.bytes, header_data).unwrap();
        let name = match opened_by {
            OpenedBy::Current => "HKr",
            OpenedBy::Next => "NHKr",
            OpenedBy::Older(_) => "skipped",
        };
        assert_eq!(event["header_key"], name);
        let (message_key, _) = self.double.receive(opened_by, &opened).unwrap();
        assert_eq!(message_key, Secret::new(array(&event["mk"])));
        let message = Message::decode(opened.carried()).unwrap();
        let (pq_message_key, _) = self.sparse.receive(&message).unwrap();
        assert_eq!(pq_message_key, Secret::new(array(&event["pq_mk"])));
        let (key, _) = mix(&message_key, &pq_message_key);
        assert_eq!(key.key, Secret::new(array(&event["K"])));
        assert_eq!(key.nonce, array(&event["N"]));
    }
}
