//! Sender keys: in a group, each device encrypts for all others with one chain of its own
//! (docs/groups.md, 2).
//!
//! ```text
//! chain       = H("Subrosa v1 group chain" || group:32 || verifying key:32)[..8]
//! mk, next CK = KDF_CK(CK)
//! ```

use core::fmt;

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use super::chain::{self, KeptKeys, kdf_ck};
use crate::at_rest;
use crate::crypto::kdf;
use crate::crypto::secret::Secret;
use crate::crypto::signature::{SigningKey, VerifyingKey};
use crate::error::Error;

/// A chain has messages number 0 to 999. That bounds what a message can skip to 1 ms of steps.
pub(crate) const MAX_MESSAGES: u32 = 1_000;

/// The most skipped message keys that are kept of one device in one group, over all its chains.
pub(crate) const MAX_KEPT: usize = 1_000;

/// The name of a chain: 8 bytes that follow from the group and the chain's verifying key.
///
/// A device that was restored from a copy would give the same serial number to two chains.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChainId(#[serde(with = "at_rest::array")] pub(crate) [u8; 8]);

/// The chain that this device encrypts with.
#[derive(Serialize, Deserialize)]
pub(crate) struct SendingChain {
    id: ChainId,
    #[serde(with = "seed")]
    signing_key: SigningKey,
    chain_key: Secret<32>,
    /// Of the next message.
    number: u32,
}

/// A chain of another device.
#[derive(Serialize, Deserialize)]
pub(crate) struct ReceivingChain {
    id: ChainId,
    #[serde(with = "checked")]
    verifying_key: VerifyingKey,
    chain_key: Secret<32>,
    /// Of the message that `chain_key` gives.
    number: u32,
    /// No number from here on is taken.
    end: u32,
    kept: KeptKeys,
}

/// What receiving changes. Nothing does before [`ReceivingChain::commit`].
#[derive(Debug)]
pub(crate) enum Step {
    /// A kept key is used.
    Take { number: u32 },
    /// The chain moves on.
    Advance { chain_key: Secret<32>, number: u32, skipped: KeptKeys },
}

impl ChainId {
    fn of(group: &[u8; 32], verifying_key: &[u8; 32]) -> Self {
        let hash = kdf::hash(&[b"Subrosa v1 group chain", group, verifying_key]);
        let [a, b, c, d, e, f, g, h, ..] = hash;
        Self([a, b, c, d, e, f, g, h])
    }

    /// The 8 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl SendingChain {
    /// A new chain. Draws 32 bytes (the chain key), then 32 (the seed of the signing key).
    pub(crate) fn new(group: &[u8; 32], rng: &mut dyn CryptoRng) -> Self {
        let chain_key = Secret::random(rng);
        let signing_key = SigningKey::from_seed(&Secret::random(rng));
        let id = ChainId::of(group, &signing_key.public_key());
        Self { id, signing_key, chain_key, number: 0 }
    }

    pub(crate) const fn id(&self) -> ChainId {
        self.id
    }

    /// The number of the next message.
    pub(crate) const fn number(&self) -> u32 {
        self.number
    }

    /// What opens the next message and all after it.
    pub(crate) const fn chain_key(&self) -> &Secret<32> {
        &self.chain_key
    }

    pub(crate) fn verifying_key(&self) -> [u8; 32] {
        self.signing_key.public_key()
    }

    /// Whether what was stored is something that this type made.
    pub(crate) const fn is_sound(&self) -> bool {
        self.number <= MAX_MESSAGES
    }

    /// Whether another message can be sent.
    ///
    /// # Errors
    /// [`Error::Exhausted`] at the end of the chain.
    pub(crate) const fn can_send(&self) -> Result<(), Error> {
        if self.number < MAX_MESSAGES { Ok(()) } else { Err(Error::Exhausted) }
    }

    /// The key of the next message.
    ///
    /// # Errors
    /// As [`SendingChain::can_send`], and nothing changes.
    pub(crate) fn send(&mut self) -> Result<Secret<32>, Error> {
        self.can_send()?;
        let link = kdf_ck(&self.chain_key);
        self.chain_key = link.next;
        self.number = self.number.saturating_add(1);
        Ok(link.message_key)
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.signing_key.sign(message)
    }
}

impl ReceivingChain {
    /// As another device gives it: the key of message `number`. What came before is lost on us.
    pub(crate) fn new(
        group: &[u8; 32],
        verifying_key: VerifyingKey,
        chain_key: Secret<32>,
        number: u32,
    ) -> Self {
        let id = ChainId::of(group, verifying_key.as_bytes());
        let kept = KeptKeys::without(number.checked_sub(1));
        Self { id, verifying_key, chain_key, number, end: MAX_MESSAGES, kept }
    }

    pub(crate) const fn id(&self) -> ChainId {
        self.id
    }

    pub(crate) const fn verifying_key(&self) -> &VerifyingKey {
        &self.verifying_key
    }

    /// The number after the highest that was received.
    #[cfg(test)]
    pub(crate) const fn number(&self) -> u32 {
        self.number
    }

    /// No number from `end` on is taken any more.
    pub(crate) fn close(&mut self, end: u32) {
        self.end = self.end.min(end);
    }

    /// The keys that are kept of messages that have not come.
    pub(crate) const fn kept(&self) -> &KeptKeys {
        &self.kept
    }

    pub(crate) const fn kept_mut(&mut self) -> &mut KeptKeys {
        &mut self.kept
    }

    /// Whether what was stored is something that this type made.
    pub(crate) fn is_sound(&self) -> bool {
        self.number <= MAX_MESSAGES && self.end <= MAX_MESSAGES && self.kept.is_sound(self.number)
    }

    /// The key of message `number`, and what receiving it changes.
    ///
    /// # Errors
    /// [`Error::TooFarAhead`]: there is no such message, and no step was made.
    /// [`Error::Duplicate`], [`Error::TooOld`]: its key was used, or never here or dropped.
    pub(crate) fn receive(&self, number: u32) -> Result<(Secret<32>, Step), Error> {
        if number >= self.end {
            return Err(Error::TooFarAhead);
        }
        if number < self.number {
            return Ok((self.kept.get(number)?, Step::Take { number }));
        }
        let walk = chain::walk(&self.chain_key, self.number, number, |key, _| kdf_ck(key));
        let link = kdf_ck(&walk.end);
        let after = number.saturating_add(1);
        let step = Step::Advance { chain_key: link.next, number: after, skipped: walk.skipped };
        Ok((link.message_key, step))
    }

    pub(crate) fn commit(&mut self, step: Step) {
        match step {
            Step::Take { number } => self.kept.remove(number),
            Step::Advance { chain_key, number, skipped } => {
                self.chain_key = chain_key;
                self.number = number;
                if !skipped.is_empty() {
                    self.kept.append(skipped);
                }
            }
        }
    }
}

/// In hexadecimal.
impl fmt::Debug for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::codec::hex(f, &self.0)
    }
}

/// Shows where it stands, and no key.
impl fmt::Debug for SendingChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SendingChain({:?}, {})", self.id, self.number)
    }
}

/// Shows where it stands, and no key.
impl fmt::Debug for ReceivingChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReceivingChain({:?}, {})", self.id, self.number)
    }
}

/// State at rest: a signing key is its seed.
mod seed {
    use super::{Deserialize, Secret, Serialize, SigningKey};
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        key: &SigningKey,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        key.seed().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<SigningKey, D::Error> {
        Secret::deserialize(deserializer).map(|seed| SigningKey::from_seed(&seed))
    }
}

/// State at rest: a verifying key that was checked before it was stored.
mod checked {
    use super::{VerifyingKey, at_rest};
    use serde::de::Error;
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        key: &VerifyingKey,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        at_rest::array::serialize(key.as_bytes(), serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<VerifyingKey, D::Error> {
        let bytes = at_rest::array::deserialize(deserializer)?;
        VerifyingKey::checked(&bytes).ok_or_else(|| D::Error::custom("no point"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Replay;
    use alloc::vec::Vec;

    const GROUP: [u8; 32] = [7; 32];

    fn pair(skip: u32) -> (SendingChain, ReceivingChain) {
        let mut sending = SendingChain::new(&GROUP, &mut Replay::counting());
        (0..skip).for_each(|_| drop(sending.send().unwrap()));
        let verifying_key = VerifyingKey::decode(&sending.verifying_key()).unwrap();
        let chain_key = sending.chain_key().clone();
        let receiving = ReceivingChain::new(&GROUP, verifying_key, chain_key, sending.number());
        assert_eq!(receiving.id(), sending.id());
        (sending, receiving)
    }

    fn take(chain: &mut ReceivingChain, number: u32) -> Result<Secret<32>, Error> {
        let (key, step) = chain.receive(number)?;
        chain.commit(step);
        Ok(key)
    }

    #[test]
    fn both_ends_have_the_same_keys_in_any_order() {
        let (mut sending, _) = pair(0);
        let keys: Vec<Secret<32>> = (0..MAX_MESSAGES).map(|_| sending.send().unwrap()).collect();
        assert_eq!(sending.send().unwrap_err(), Error::Exhausted);
        assert_eq!(sending.number(), MAX_MESSAGES);
        for stride in [1, 7, 333, 999] {
            let (_, mut chain) = pair(0);
            for (number, n) in (0..MAX_MESSAGES).map(|n| (n * stride % MAX_MESSAGES, n)) {
                let at = usize::try_from(number).unwrap();
                assert_eq!(take(&mut chain, number).unwrap(), keys[at], "{n}");
                assert_eq!(take(&mut chain, number).unwrap_err(), Error::Duplicate);
                assert!(chain.is_sound());
            }
            assert!(chain.kept().is_empty());
        }
    }

    #[test]
    fn receiving_changes_nothing_before_the_commit() {
        let (_, chain) = pair(0);
        let (one, step) = chain.receive(900).unwrap();
        drop(step);
        assert_eq!((chain.number(), chain.kept().len()), (0, 0));
        assert_eq!(chain.receive(900).unwrap().0, one);
    }

    #[test]
    fn no_number_from_1000_on_is_stepped_to() {
        let (_, mut chain) = pair(0);
        for number in [MAX_MESSAGES, 24_633, u32::MAX] {
            assert_eq!(chain.receive(number).unwrap_err(), Error::TooFarAhead);
        }
        assert!(take(&mut chain, MAX_MESSAGES - 1).is_ok());
        assert_eq!(chain.kept().len(), 999);
        assert!(chain.is_sound());
    }

    #[test]
    fn a_closed_chain_takes_what_is_below_its_end_and_never_more() {
        let (mut sending, mut chain) = pair(0);
        let keys: Vec<Secret<32>> = (0..20).map(|_| sending.send().unwrap()).collect();
        take(&mut chain, 3).unwrap();
        chain.close(10);
        chain.close(15);
        assert_eq!(chain.receive(10).unwrap_err(), Error::TooFarAhead);
        assert_eq!(take(&mut chain, 9).unwrap(), keys[9]);
        assert_eq!(take(&mut chain, 1).unwrap(), keys[1]);
        assert_eq!(chain.receive(12).unwrap_err(), Error::TooFarAhead);
    }

    #[test]
    fn what_was_sent_before_the_chain_was_given_is_too_old() {
        let (_, mut chain) = pair(5);
        assert_eq!(chain.receive(4).unwrap_err(), Error::TooOld);
        assert!(take(&mut chain, 5).is_ok());
        assert_eq!(chain.receive(5).unwrap_err(), Error::Duplicate);
        assert_eq!(chain.receive(0).unwrap_err(), Error::TooOld);
    }

    #[test]
    fn chains_go_on_from_their_stored_form() {
        let (mut sending, mut chain) = pair(3);
        take(&mut chain, 7).unwrap();
        let stored = postcard::to_allocvec(&sending).unwrap();
        let mut again: SendingChain = postcard::from_bytes(&stored).unwrap();
        assert_eq!(stored.len(), 9 + 33 + 33 + 1);
        assert_eq!(again.id(), sending.id());
        assert_eq!(again.sign(b"x"), sending.sign(b"x"));
        assert_eq!(again.send().unwrap(), sending.send().unwrap());
        let stored = postcard::to_allocvec(&chain).unwrap();
        let again: ReceivingChain = postcard::from_bytes(&stored).unwrap();
        assert!(again.is_sound());
        for number in [0, 4, 7, 8, 500] {
            let keys = [&chain, &again].map(|chain| chain.receive(number).map(|(key, _)| key));
            assert_eq!(keys[0], keys[1]);
        }
    }

    #[test]
    fn debug_shows_no_key() {
        let (sending, chain) = pair(0);
        let shown = alloc::format!("{sending:?} {chain:?} {:?}", chain.receive(2).unwrap().1);
        for secret in [sending.chain_key(), &sending.signing_key.seed()] {
            assert!(!shown.contains(&crate::testing::hex(secret.expose())));
        }
        let id = crate::testing::hex(&sending.id().0);
        assert!(
            shown.starts_with(&alloc::format!("SendingChain({id}, 0) ReceivingChain({id}, 0)"))
        );
    }
}
