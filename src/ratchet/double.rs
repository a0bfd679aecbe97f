//! The Double Ratchet with header encryption (Double Ratchet, sections 3 and 4), its new ratchet
//! keys deferred to the next message sent (section 8.5).
//!
//! A header says which ratchet key a message was sent under and its number; it is encrypted under
//! the header key of its chain, so that the wire shows neither. The header also carries some bytes
//! that mean nothing here.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem;

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use super::chain::{self, KeptKeys, Link, MAX_SKIP};
use super::header::{HEADER_LENGTH, Header, SEALED_HEADER_LENGTH};
use crate::crypto::aead::{self, NONCE_LENGTH};
use crate::crypto::curve::{Point, PublicKey, SecretKey};
use crate::crypto::kdf::{self, HmacKey};
use crate::crypto::mark;
use crate::crypto::secret::Secret;
use crate::error::Error;

/// The most receiving chains whose skipped keys are kept. Each is one more header key to try on a
/// message that no newer one opens; a message that late has been overtaken by 16 turns of the
/// conversation.
const MAX_CHAINS: usize = 16;

/// One side of the ratchet. In brackets the names of section 4.3.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DoubleRatchet {
    /// \[RK\]
    root_key: Secret<32>,
    /// \[DHr\] None before the responder's first message.
    remote: Option<Box<RemoteKey>>,
    sending: Sending,
    /// \[PN\] How many messages the previous sending chain had.
    previous: u32,
    /// None before the first message.
    receiving: Option<Box<Receiving>>,
    /// \[NHKr\]
    next_header_key: Secret<32>,
    /// \[MKSKIPPED\] The chains before the receiving one, of which keys are kept, the oldest first.
    #[expect(clippy::vec_box, reason = "moving the keys would leave copies of them behind")]
    older: Vec<Box<OlderChain>>,
}

/// The peer's ratchet key, and in memory its form for exchanges.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct RemoteKey {
    key: PublicKey,
    #[serde(skip)]
    point: Option<Point>,
}

/// Each in a box of its own: where an enum has room to spare there would be what the stack held
/// before, old keys too.
#[derive(Debug, Serialize, Deserialize)]
enum Sending {
    /// The responder before its first message.
    Awaiting(Box<Awaiting>),
    /// The next message sent begins a chain, under this header key \[HKs\] and a new ratchet key.
    Due(Box<Secret<32>>),
    Chain(Box<SendingChain>),
}

#[derive(Debug, Serialize, Deserialize)]
struct Awaiting {
    /// \[DHs\] Its signed prekey.
    secret: SecretKey,
    next_header_key: Secret<32>,
}

/// \[DHs, CKs, HKs, NHKs, Ns\]
#[derive(Debug, Serialize, Deserialize)]
struct SendingChain {
    secret: SecretKey,
    public: PublicKey,
    chain_key: Secret<32>,
    header_key: Secret<32>,
    next_header_key: Secret<32>,
    number: u32,
}

/// The receiving chain.
#[derive(Debug, Serialize, Deserialize)]
struct Receiving {
    /// \[CKr\]
    chain_key: Secret<32>,
    /// \[HKr\]
    header_key: Secret<32>,
    /// \[Nr\]
    number: u32,
    kept: KeptKeys,
}

#[derive(Debug, Serialize, Deserialize)]
struct OlderChain {
    header_key: Secret<32>,
    /// Never empty.
    kept: KeptKeys,
}

/// What encrypts one message, and its header before that.
pub(crate) struct Sent {
    pub(crate) message_key: Secret<32>,
    header: Header,
}

/// Which header key opened a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenedBy {
    /// HKr
    Current,
    /// NHKr: the message begins a new receiving chain.
    Next,
    /// That of an older chain.
    Older(usize),
}

/// What receiving changes. Nothing does before [`DoubleRatchet::commit`].
pub(crate) enum Step {
    /// A kept key of the receiving chain is used.
    Take { number: u32 },
    /// A kept key of an older chain is used.
    TakeOlder { chain: usize, number: u32 },
    /// The receiving chain moves on.
    Advance { chain_key: Secret<32>, number: u32, skipped: KeptKeys },
    /// A new receiving chain begins.
    Ratchet(Box<Ratchet>),
}

/// A new receiving chain, and the end of the one before it.
pub(crate) struct Ratchet {
    skipped_before: KeptKeys,
    /// Never None.
    remote: Option<Box<RemoteKey>>,
    root_key: Secret<32>,
    /// Never None.
    receiving: Option<Box<Receiving>>,
    next_header_key: Secret<32>,
}

impl DoubleRatchet {
    /// The initiator: knows the responder's first ratchet key, the signed prekey.
    pub(crate) fn initiator(
        root_key: Secret<32>,
        header_key: Secret<32>,
        next_header_key: Secret<32>,
        signed_prekey: PublicKey,
        point: Point,
    ) -> Self {
        let remote = Some(Box::new(RemoteKey { key: signed_prekey, point: Some(point) }));
        Self::new(root_key, remote, Sending::Due(Box::new(header_key)), next_header_key)
    }

    /// The responder: its signed prekey is its first ratchet key.
    pub(crate) fn responder(
        root_key: Secret<32>,
        remote_header_key: Secret<32>,
        next_header_key: Secret<32>,
        signed_prekey: SecretKey,
    ) -> Self {
        let sending = Awaiting { secret: signed_prekey, next_header_key };
        Self::new(root_key, None, Sending::Awaiting(Box::new(sending)), remote_header_key)
    }

    fn new(
        root_key: Secret<32>,
        remote: Option<Box<RemoteKey>>,
        sending: Sending,
        next_header_key: Secret<32>,
    ) -> Self {
        let older = Vec::new();
        Self { root_key, remote, sending, previous: 0, receiving: None, next_header_key, older }
    }

    /// Whether what was stored is something that this type made.
    pub(crate) fn is_sound(&self) -> bool {
        let current =
            self.receiving.as_ref().map_or(0, |receiving| usize::from(!receiving.kept.is_empty()));
        let older =
            self.older.iter().all(|chain| !chain.kept.is_empty() && chain.kept.is_sound(u32::MAX));
        let receiving =
            self.receiving.as_ref().is_none_or(|chain| chain.kept.is_sound(chain.number));
        let sending = self.remote.is_some() || matches!(self.sending, Sending::Awaiting(_));
        older
            && receiving
            && sending
            && self.older.len().saturating_add(current) <= MAX_CHAINS
            && self.kept() <= chain::MAX_KEPT
    }

    /// An upper bound of the stored form, in bytes: ten keys with their lengths and some numbers,
    /// 40 for each older chain and what is kept.
    pub(crate) fn most_bytes(&self) -> usize {
        let chains = self.older.len().saturating_add(1).saturating_mul(50);
        self.kept()
            .saturating_mul(KeptKeys::RECORD_LENGTH)
            .saturating_add(chains)
            .saturating_add(400)
    }

    /// Whether another message can be sent.
    ///
    /// # Errors
    /// [`Error::Exhausted`] at the end of a chain of 2^32 - 1 messages.
    pub(crate) const fn can_send(&self) -> Result<(), Error> {
        match &self.sending {
            Sending::Chain(chain) if chain.number == u32::MAX => Err(Error::Exhausted),
            Sending::Awaiting(_) => Err(Error::BadState),
            _ => Ok(()),
        }
    }

    /// Begins a sending chain where one is due. Draws 32 bytes, the ratchet key, if so.
    ///
    /// # Errors
    /// As [`DoubleRatchet::can_send`], before anything is drawn. [`Error::BadState`]: the peer's
    /// ratchet key is not one that receiving lets in.
    pub(crate) fn prepare_to_send(&mut self, rng: &mut dyn CryptoRng) -> Result<(), Error> {
        self.can_send()?;
        let Sending::Due(header_key) = &self.sending else { return Ok(()) };
        let remote = self.remote.as_mut().ok_or(Error::BadState)?;
        let secret = SecretKey::generate(rng);
        let point = remote.point.get_or_insert_with(|| remote.key.point());
        let shared = secret.diffie_hellman(point).map_err(|_| Error::BadState)?;
        let [root_key, chain_key, next_header_key] = root_step(&self.root_key, &shared);
        let (public, header_key) = (secret.public_key(), Secret::clone(header_key));
        self.root_key = root_key;
        let chain =
            SendingChain { secret, public, chain_key, header_key, next_header_key, number: 0 };
        self.sending = Sending::Chain(Box::new(chain));
        Ok(())
    }

    /// The key of the next message of the chain that [`DoubleRatchet::prepare_to_send`] saw to.
    pub(crate) fn send(&mut self, carried: &[u8]) -> Result<Sent, Error> {
        let Sending::Chain(chain) = &mut self.sending else { return Err(Error::BadState) };
        // An epoch whose number takes more room than a header has is never reached.
        let header = Header::new(chain.public, self.previous, chain.number, carried);
        let header = header.ok_or(Error::Exhausted)?;
        let link = chain::kdf_ck(&chain.chain_key);
        chain.number = chain.number.checked_add(1).ok_or(Error::Exhausted)?;
        chain.chain_key = link.next;
        Ok(Sent { message_key: link.message_key, header })
    }

    /// Encrypts the header of a message just sent, under \[HKs\].
    pub(crate) fn seal_header(
        &self,
        sent: &Sent,
        nonce: &[u8; NONCE_LENGTH],
        associated_data: &[u8],
    ) -> Result<[u8; SEALED_HEADER_LENGTH], Error> {
        let Sending::Chain(chain) = &self.sending else { return Err(Error::BadState) };
        let mut sealed = [0; SEALED_HEADER_LENGTH];
        sealed[..HEADER_LENGTH].copy_from_slice(&sent.header.encode());
        aead::seal(&chain.header_key, nonce, &mut sealed, associated_data);
        Ok(sealed)
    }

    /// Tries the header keys: that of the receiving chain, the next one, those of older chains, the
    /// newest first.
    ///
    /// # Errors
    /// [`Error::UnknownHeader`] where none opens it: at most 18 trials of 104 bytes.
    /// [`Error::Malformed`] where what was opened is not a header.
    pub(crate) fn open_header(
        &self,
        nonce: &[u8; NONCE_LENGTH],
        sealed: &[u8; SEALED_HEADER_LENGTH],
        associated_data: &[u8],
    ) -> Result<(OpenedBy, Header), Error> {
        let current = self.receiving.iter().map(|chain| (OpenedBy::Current, &chain.header_key));
        let next = (OpenedBy::Next, &self.next_header_key);
        let older = self.older.iter().enumerate().rev();
        let older = older.map(|(at, chain)| (OpenedBy::Older(at), &chain.header_key));
        let mut header = [0; HEADER_LENGTH];
        for (opened_by, key) in current.chain([next]).chain(older) {
            if aead::open(key, nonce, sealed, associated_data, &mut header).is_ok() {
                // Genuine, and what it says is between the two: numbers, and public keys.
                return Ok((opened_by, Header::decode(&mark::public(header))?));
            }
        }
        Err(Error::UnknownHeader)
    }

    /// How many messages one with this header skips: so many chain steps does it cost.
    pub(crate) fn skipped_by(&self, opened_by: OpenedBy, header: &Header) -> u64 {
        let number = self.receiving.as_ref().map(|chain| chain.number);
        let [in_this, in_next] = match opened_by {
            OpenedBy::Older(_) => [0, 0],
            OpenedBy::Current => [header.number.saturating_sub(number.unwrap_or(0)), 0],
            OpenedBy::Next => {
                [number.map_or(0, |number| header.previous.saturating_sub(number)), header.number]
            }
        };
        u64::from(in_this).saturating_add(u64::from(in_next))
    }

    /// The key of a received message, and what receiving it changes.
    ///
    /// # Errors
    /// [`Error::TooFarAhead`], [`Error::TooOld`], [`Error::Duplicate`]: its number.
    /// [`Error::InvalidKey`]: its ratchet key. [`Error::Decrypt`]: a ratchet step that answers no
    /// key of ours.
    pub(crate) fn receive(
        &self,
        opened_by: OpenedBy,
        header: &Header,
    ) -> Result<(Secret<32>, Step), Error> {
        let number = header.number;
        match opened_by {
            OpenedBy::Older(chain) => {
                let kept = &self.older.get(chain).ok_or(Error::UnknownHeader)?.kept;
                Ok((kept.get(number)?, Step::TakeOlder { chain, number }))
            }
            OpenedBy::Next => self.receive_ratchet(header),
            OpenedBy::Current => {
                let receiving = self.receiving.as_ref().ok_or(Error::UnknownHeader)?;
                let Some(skipped) = number.checked_sub(receiving.number) else {
                    return Ok((receiving.kept.get(number)?, Step::Take { number }));
                };
                within_limit(skipped, 0)?;
                let after = number.checked_add(1).ok_or(Error::Decrypt)?;
                let (link, skipped) = advance(&receiving.chain_key, receiving.number, number);
                let step = Step::Advance { chain_key: link.next, number: after, skipped };
                Ok((link.message_key, step))
            }
        }
    }

    /// The receiving half of DHRatchetHE.
    fn receive_ratchet(&self, header: &Header) -> Result<(Secret<32>, Step), Error> {
        let secret = match &self.sending {
            Sending::Awaiting(awaiting) => &awaiting.secret,
            Sending::Chain(chain) => &chain.secret,
            Sending::Due(_) => return Err(Error::Decrypt),
        };
        let before = self.receiving.as_ref();
        let skipped_before = before.map_or(0, |chain| header.previous.saturating_sub(chain.number));
        within_limit(skipped_before, header.number)?;
        let after = header.number.checked_add(1).ok_or(Error::Decrypt)?;

        let point = header.ratchet_key.point();
        let shared = secret.diffie_hellman(&point)?;
        let [root_key, chain_key, next_header_key] = root_step(&self.root_key, &shared);
        let (link, kept) = advance(&chain_key, 0, header.number);
        let skipped_before = before.map_or_else(KeptKeys::default, |chain| {
            chain::walk(&chain.chain_key, chain.number, header.previous, |key, _| {
                chain::kdf_ck(key)
            })
            .skipped
        });
        let header_key = self.next_header_key.clone();
        let ratchet = Ratchet {
            skipped_before,
            remote: Some(Box::new(RemoteKey { key: header.ratchet_key, point: Some(point) })),
            root_key,
            receiving: Some(Box::new(Receiving {
                chain_key: link.next,
                header_key,
                number: after,
                kept,
            })),
            next_header_key,
        };
        Ok((link.message_key, Step::Ratchet(Box::new(ratchet))))
    }

    pub(crate) fn commit(&mut self, step: Step) {
        match (step, &mut self.receiving) {
            (Step::Take { number }, Some(receiving)) => {
                receiving.kept.remove(number);
                receiving.forget_if_empty();
            }
            (Step::TakeOlder { chain, number }, _) => {
                if let Some(older) = self.older.get_mut(chain) {
                    older.kept.remove(number);
                    if older.kept.is_empty() {
                        self.older.remove(chain);
                    }
                }
            }
            (Step::Advance { chain_key, number, skipped }, Some(receiving)) => {
                receiving.chain_key = chain_key;
                receiving.number = number;
                if !skipped.is_empty() {
                    receiving.kept.append(skipped);
                    self.keep_to_limits();
                }
            }
            (Step::Ratchet(mut ratchet), _) => self.commit_ratchet(&mut ratchet),
            _ => {}
        }
    }

    /// Exchanges what is new for what was: what is moved out of a box stays behind in it, and the
    /// box wipes what it holds.
    fn commit_ratchet(&mut self, ratchet: &mut Ratchet) {
        mem::swap(&mut self.receiving, &mut ratchet.receiving);
        mem::swap(&mut self.root_key, &mut ratchet.root_key);
        mem::swap(&mut self.next_header_key, &mut ratchet.next_header_key);
        mem::swap(&mut self.remote, &mut ratchet.remote);
        if let Some(before) = &mut ratchet.receiving {
            before.kept.append(mem::take(&mut ratchet.skipped_before));
            if !before.kept.is_empty() {
                let (header_key, kept) = (before.header_key.clone(), mem::take(&mut before.kept));
                self.older.push(Box::new(OlderChain { header_key, kept }));
            }
        }
        let (next_header_key, number) = match &self.sending {
            Sending::Awaiting(awaiting) => (&awaiting.next_header_key, 0),
            Sending::Chain(chain) => (&chain.next_header_key, chain.number),
            Sending::Due(header_key) => (&**header_key, self.previous),
        };
        self.previous = number;
        self.sending = Sending::Due(Box::new(next_header_key.clone()));
        self.keep_to_limits();
    }

    fn keep_to_limits(&mut self) {
        let kept = self.kept();
        if kept > chain::MAX_KEPT {
            let current = self.receiving.iter_mut().map(|chain| &mut chain.kept);
            chain::keep_newest(
                self.older.iter_mut().map(|chain| &mut chain.kept).chain(current),
                kept,
                chain::MAX_KEPT,
            );
            self.older.retain(|chain| !chain.kept.is_empty());
        }
        let current =
            self.receiving.as_ref().map_or(0, |chain| usize::from(!chain.kept.is_empty()));
        let most = MAX_CHAINS.saturating_sub(current);
        self.older.drain(..self.older.len().saturating_sub(most)).for_each(drop);
    }

    fn kept(&self) -> usize {
        let older: usize = self.older.iter().map(|chain| chain.kept.len()).sum();
        older.saturating_add(self.receiving.as_ref().map_or(0, |chain| chain.kept.len()))
    }
}

impl Receiving {
    /// A chain without a skipped key is not kept, nor what was dropped from it.
    fn forget_if_empty(&mut self) {
        if self.kept.is_empty() {
            self.kept = KeptKeys::default();
        }
    }
}

fn within_limit(before: u32, after: u32) -> Result<(), Error> {
    let skipped = before.checked_add(after).ok_or(Error::TooFarAhead)?;
    if skipped > MAX_SKIP { Err(Error::TooFarAhead) } else { Ok(()) }
}

/// Walks a chain up to message `number` and takes its key.
fn advance(chain_key: &Secret<32>, from: u32, number: u32) -> (Link, KeptKeys) {
    let walk = chain::walk(chain_key, from, number, |key, _| chain::kdf_ck(key));
    (chain::kdf_ck(&walk.end), walk.skipped)
}

/// `HKDF(RK, dh, "Subrosa v1 root", 96) = RK || CK || NHK`: KDF_RK_HE.
fn root_step(root_key: &Secret<32>, shared: &Secret<32>) -> [Secret<32>; 3] {
    kdf::hkdf(&HmacKey::new(root_key), &[shared.expose()], &[b"Subrosa v1 root"])
}

#[cfg(test)]
impl Sent {
    pub(crate) fn header_bytes(&self) -> [u8; HEADER_LENGTH] {
        self.header.encode()
    }
}

#[cfg(test)]
impl DoubleRatchet {
    /// The state in the form of the vectors.
    pub(crate) fn vector_state(&self) -> serde_json::Value {
        use crate::testing::hex;
        use serde_json::{Value, json};
        let hex = |secret: &Secret<32>| json!(hex(secret.expose()));
        let mut state = json!({
            "DHs": null, "CKs": null, "HKs": null, "NHKs": null, "Ns": 0, "CKr": null, "HKr": null, "Nr": 0,
            "DHr": self.remote.as_ref().map(|remote| crate::testing::hex(remote.key.as_bytes())),
            "RK": hex(&self.root_key), "NHKr": hex(&self.next_header_key), "PN": self.previous,
        });
        match &self.sending {
            Sending::Awaiting(_) => {}
            Sending::Due(header_key) => state["HKs"] = hex(header_key),
            Sending::Chain(chain) => {
                let SendingChain { secret, public, chain_key, header_key, next_header_key, number } =
                    &**chain;
                assert_eq!(secret.public_key(), *public);
                state["DHs"] = hex(secret.secret());
                state["CKs"] = hex(chain_key);
                state["HKs"] = hex(header_key);
                state["NHKs"] = hex(next_header_key);
                state["Ns"] = json!(number);
            }
        }
        let skipped = |header_key: &Secret<32>, kept: &KeptKeys| {
            let (numbers, dropped) = kept.numbers();
            json!({ "hk": hex(header_key), "n": numbers, "dropped": dropped })
        };
        let mut chains: Vec<Value> =
            self.older.iter().map(|chain| skipped(&chain.header_key, &chain.kept)).collect();
        if let Some(receiving) = &self.receiving {
            state["CKr"] = hex(&receiving.chain_key);
            state["HKr"] = hex(&receiving.header_key);
            state["Nr"] = json!(receiving.number);
            if !receiving.kept.is_empty() {
                chains.push(skipped(&receiving.header_key, &receiving.kept));
            }
        }
        state["skipped"] = Value::Array(chains);
        state
    }
}
