//! The Sparse Post-Quantum Ratchet: epochs of the braid, a chain for each and for each direction, a
//! key for each message (Double Ratchet, section 5; spqr.md, 6 and 8 to 10).
//!
//! A message that the braid tags with epoch `E` takes its key from the chains of epoch `E - 1`,
//! whose secret both sides hold by then; the chains of epoch 0 come from the handshake.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem;

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use super::braid::{self, Braid, Refusal};
use super::chain::{self, KeptKeys, Link, MAX_SKIP};
use super::message::{Bytes, Message};
use crate::crypto::kdf::{self, HmacKey, NO_SALT};
use crate::crypto::secret::Secret;
use crate::error::Error;

/// An epoch takes both sides 36 messages at the very least: this one is never reached.
const MAX_EPOCH: u64 = 1 << 35;

/// How many epochs before the one that is sent in are kept, for late messages: some ten turns of 40
/// messages, or more than the Double Ratchet's 16 chains where turns are short. Each costs 52 bytes
/// and, while kept, what it could open.
const OLD_EPOCHS: u64 = 4;

/// Those, the one that is sent in, and the one after it.
const MAX_LINKS: usize = 6;

/// One side of the ratchet.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SparseRatchet {
    direction: Direction,
    braid: Braid,
    next_root: Secret<32>,
    /// The newest epoch that has chains.
    current_epoch: u64,
    /// The epoch whose chains are sent in.
    send_epoch: u64,
    /// The chains of consecutive epochs, the current one last. Boxed, so that no copy of a key
    /// stays where a longer or shorter list was.
    #[expect(clippy::vec_box, reason = "moving the keys would leave copies of them behind")]
    epochs: Vec<Box<EpochChains>>,
}

/// Who the messages come from.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Direction {
    /// From the session's initiator: `A2B`.
    Initiator,
    /// From its responder: `B2A`.
    Responder,
}

#[derive(Debug, Serialize, Deserialize)]
struct EpochChains {
    sent: u32,
    /// Zero, and so stored as none, when a later epoch is sent in.
    #[serde(with = "erased")]
    sending: Secret<32>,
    received: u32,
    receiving: Secret<32>,
    kept: KeptKeys,
}

/// The bytes that travel with a message, and the key they stand for.
pub(crate) struct Sent {
    pub(crate) message: Bytes,
    pub(crate) message_key: Secret<32>,
}

/// The next root key, and the chains of a new epoch. Boxed, so that the steps that add none, nearly
/// all, have less to move.
type Added = (Box<Secret<32>>, Box<EpochChains>);

/// What receiving changes. Nothing does before [`SparseRatchet::commit`].
pub(crate) struct Step {
    braid: braid::Step,
    added: Option<Added>,
    epoch: u64,
    chain: ChainStep,
}

enum ChainStep {
    /// The key of this number was kept, and is used now.
    Take(u32),
    /// The chain moves on to this number.
    Advance { received: u32, receiving: Secret<32>, skipped: KeptKeys },
}

impl SparseRatchet {
    /// The session's initiator.
    pub(crate) fn initiator(auth_key: &Secret<32>) -> Self {
        Self::new(auth_key, Direction::Initiator, Braid::initiator(auth_key))
    }

    /// The session's responder.
    pub(crate) fn responder(auth_key: &Secret<32>) -> Self {
        Self::new(auth_key, Direction::Responder, Braid::responder(auth_key))
    }

    fn new(auth_key: &Secret<32>, direction: Direction, braid: Braid) -> Self {
        // Two spaces before "Start" (spqr.md, K1).
        let info: &[u8] = b"Signal PQ Ratchet V1 Chain  Start";
        let derived = kdf::hkdf(&NO_SALT, &[auth_key.expose()], &[info]);
        let (next_root, first) = EpochChains::new(direction, derived);
        let mut epochs = Vec::with_capacity(MAX_LINKS);
        epochs.push(Box::new(first));
        Self { direction, braid, next_root, current_epoch: 0, send_epoch: 0, epochs }
    }

    /// Whether what was stored is something that this type made.
    pub(crate) fn is_sound(&self) -> bool {
        let oldest = self
            .epochs
            .len()
            .checked_sub(1)
            .and_then(|n| self.current_epoch.checked_sub(n.try_into().ok()?));
        let mut chains = self.epochs.iter();
        self.braid.is_sound()
            && self.braid.epoch() <= MAX_EPOCH
            && self.epochs.len() <= MAX_LINKS
            && oldest.is_some_and(|oldest| oldest <= self.send_epoch)
            && self.send_epoch <= self.tagged_epoch()
            && self.tagged_epoch() <= self.current_epoch
            && chains.all(|epoch| epoch.kept.is_sound(epoch.received.saturating_add(1)))
            && self.epochs_from(self.send_epoch).all(|epoch| !epoch.sending.is_zero())
            && self.kept() <= chain::MAX_KEPT
    }

    /// An upper bound of the stored form, in bytes: see spqr.md, 12, for the braid.
    pub(crate) fn most_bytes(&self) -> usize {
        let chains = self.epochs.len().saturating_mul(92);
        self.kept()
            .saturating_mul(KeptKeys::RECORD_LENGTH)
            .saturating_add(chains)
            .saturating_add(1600)
    }

    /// How many epochs of the braid are complete on this side.
    pub(crate) const fn completed_epochs(&self) -> u64 {
        self.current_epoch
    }

    /// Whether another message can be sent.
    ///
    /// # Errors
    /// [`Error::Exhausted`] at the end of a chain.
    pub(crate) fn can_send(&self) -> Result<(), Error> {
        let chains = self.epochs.get(self.place(self.tagged_epoch())?).ok_or(Error::BadState)?;
        if self.tagged_epoch() < self.send_epoch {
            Err(Error::BadState)
        } else if chains.sent == u32::MAX || self.braid.epoch() >= MAX_EPOCH {
            Err(Error::Exhausted)
        } else {
            Ok(())
        }
    }

    /// The next message. Draws what [`Braid::send`] draws.
    ///
    /// # Errors
    /// As [`SparseRatchet::can_send`], before anything is drawn.
    pub(crate) fn send(&mut self, rng: &mut dyn CryptoRng) -> Result<Sent, Error> {
        self.can_send()?;
        let tag = self.braid.epoch();
        let (payload, secret) = self.braid.send(rng);
        if let Some(secret) = secret {
            let added = self.chains_of(&secret);
            self.add(added);
        }
        let epoch = tag.saturating_sub(1);
        if epoch != self.send_epoch {
            self.send_in(epoch);
        }
        let place = self.place(epoch)?;
        let chains = self.epochs.get_mut(place).ok_or(Error::BadState)?;
        let index = chains.sent.checked_add(1).ok_or(Error::Exhausted)?;
        let link = step(&chains.sending, index);
        chains.sent = index;
        chains.sending = link.next;
        let message = Message { epoch: tag, index, payload }.encode();
        Ok(Sent { message, message_key: link.message_key })
    }

    /// The key of a received message, and what receiving it changes.
    ///
    /// # Errors
    /// [`Error::TooFarAhead`], [`Error::TooOld`], [`Error::Duplicate`]: its key.
    /// [`Error::Decrypt`]: the braid refuses it.
    pub(crate) fn receive(&self, message: &Message) -> Result<(Secret<32>, Step), Error> {
        let Message { epoch: tag, index, payload } = message;
        let (tag, index) = (*tag, *index);
        let (braid, secret) = self.braid.receive(tag, payload)?;
        let added = secret.map(|secret| self.chains_of(&secret));
        let epoch = tag.saturating_sub(1);
        let chains = self.epochs.get(self.place(epoch)?).ok_or(Error::TooOld)?;
        let Some(skipped) =
            index.checked_sub(chains.received).and_then(|ahead| ahead.checked_sub(1))
        else {
            let message_key = chains.kept.get(index)?;
            return Ok((message_key, Step { braid, added, epoch, chain: ChainStep::Take(index) }));
        };
        if skipped > MAX_SKIP {
            return Err(Error::TooFarAhead);
        }
        let walk = chain::walk(&chains.receiving, chains.received.saturating_add(1), index, step);
        let link = step(&walk.end, index);
        let chain =
            ChainStep::Advance { received: index, receiving: link.next, skipped: walk.skipped };
        Ok((link.message_key, Step { braid, added, epoch, chain }))
    }

    pub(crate) fn commit(&mut self, step: Step) {
        self.braid.commit(step.braid);
        let place = self.place(step.epoch).unwrap_or(usize::MAX);
        if let Some(chains) = self.epochs.get_mut(place) {
            match step.chain {
                ChainStep::Take(index) => chains.kept.remove(index),
                ChainStep::Advance { received, receiving, skipped } => {
                    chains.received = received;
                    chains.receiving = receiving;
                    if !skipped.is_empty() {
                        chains.kept.append(skipped);
                        let kept = self.kept();
                        chain::keep_newest(
                            self.epochs.iter_mut().map(|epoch| &mut epoch.kept),
                            kept,
                            chain::MAX_KEPT,
                        );
                    }
                }
            }
        }
        if let Some(added) = step.added {
            self.add(added);
        }
    }

    /// The chain epoch of the messages sent now.
    const fn tagged_epoch(&self) -> u64 {
        self.braid.epoch().saturating_sub(1)
    }

    fn kept(&self) -> usize {
        self.epochs.iter().map(|epoch| epoch.kept.len()).sum()
    }

    fn epochs_from(&self, epoch: u64) -> impl Iterator<Item = &EpochChains> {
        let newer = self.current_epoch.saturating_sub(epoch).saturating_add(1);
        let newer = usize::try_from(newer).unwrap_or(usize::MAX);
        self.epochs.iter().rev().take(newer).map(|chains| &**chains)
    }

    /// Where the chains of an epoch are.
    ///
    /// # Errors
    /// [`Error::TooOld`] where they are no longer, [`Error::Decrypt`] where they are not yet.
    fn place(&self, epoch: u64) -> Result<usize, Error> {
        let back = self.current_epoch.checked_sub(epoch).ok_or(Error::Decrypt)?;
        let back = usize::try_from(back).map_err(|_| Error::TooOld)?.saturating_add(1);
        self.epochs.len().checked_sub(back).ok_or(Error::TooOld)
    }

    /// `HKDF(next_root, secret, "Signal PQ Ratchet V1 Chain Add Epoch", 96)` (spqr.md, K2)
    fn chains_of(&self, secret: &Secret<32>) -> Added {
        let info: &[u8] = b"Signal PQ Ratchet V1 Chain Add Epoch";
        let derived = kdf::hkdf(&HmacKey::new(&self.next_root), &[secret.expose()], &[info]);
        let (next_root, chains) = EpochChains::new(self.direction, derived);
        (Box::new(next_root), Box::new(chains))
    }

    fn add(&mut self, (mut next_root, added): Added) {
        mem::swap(&mut self.next_root, &mut next_root);
        self.current_epoch = self.current_epoch.saturating_add(1);
        self.epochs.push(added);
    }

    /// Goes on to sending in `epoch`: drops the chains that are too old and erases the older
    /// sending chains.
    fn send_in(&mut self, epoch: u64) {
        self.send_epoch = epoch;
        let kept = self.epochs_from(epoch.saturating_sub(OLD_EPOCHS)).count();
        self.epochs.drain(..self.epochs.len().saturating_sub(kept)).for_each(drop);
        let newer = self.epochs_from(epoch).count();
        let older = self.epochs.len().saturating_sub(newer);
        self.epochs.iter_mut().take(older).for_each(|chains| chains.sending = ERASED);
    }
}

impl EpochChains {
    /// From `next_root || A2B || B2A`.
    fn new(direction: Direction, [next_root, a2b, b2a]: [Secret<32>; 3]) -> (Secret<32>, Self) {
        let (sending, receiving) = match direction {
            Direction::Initiator => (a2b, b2a),
            Direction::Responder => (b2a, a2b),
        };
        let kept = KeptKeys::default();
        (next_root, Self { sent: 0, sending, received: 0, receiving, kept })
    }
}

/// No chain derives a key that is zero.
const ERASED: Secret<32> = Secret::new([0; 32]);

/// State at rest: a key that may be erased.
mod erased {
    use super::{Deserialize, ERASED, Secret, Serialize};
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        key: &Secret<32>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        (!key.is_zero()).then_some(key).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Secret<32>, D::Error> {
        Option::deserialize(deserializer).map(|key| key.unwrap_or(ERASED))
    }
}

impl From<Refusal> for Error {
    fn from(_: Refusal) -> Self {
        Self::Decrypt
    }
}

/// `HKDF(0, next, index:u32 || "Signal PQ Ratchet V1 Chain Next", 64) = next || message key`
/// (spqr.md, K3)
fn step(chain: &Secret<32>, index: u32) -> Link {
    let info: [&[u8]; 2] = [&index.to_be_bytes(), b"Signal PQ Ratchet V1 Chain Next"];
    let [next, message_key] = kdf::hkdf(&NO_SALT, &[chain.expose()], &info);
    Link { message_key, next }
}

#[cfg(test)]
impl SparseRatchet {
    /// The state in the form of the vectors.
    pub(crate) fn vector_state(&self) -> serde_json::Value {
        use crate::testing::hex;
        use serde_json::{Value, json};
        let [auth_root, mac_key] = self.braid.authenticator().map(|secret| hex(secret.expose()));
        let newest = self.current_epoch;
        let links = self.epochs.iter().rev().zip(0..).map(|(link, back)| {
            let (kept, dropped) = link.kept.numbers();
            json!({
                "epoch": newest - back,
                "send_ctr": link.sent,
                "send_next": (!link.sending.is_zero()).then(|| hex(link.sending.expose())),
                "recv_ctr": link.received,
                "recv_next": hex(link.receiving.expose()),
                "recv_kept": kept,
                "recv_dropped": dropped,
            })
        });
        let mut links: Vec<Value> = links.collect();
        links.reverse();
        json!({
            "state": self.braid.state_name(), "epoch": self.braid.epoch(),
            "auth_root": auth_root, "mac_key": mac_key, "next_root": hex(self.next_root.expose()),
            "current_epoch": newest, "send_epoch": self.send_epoch, "links": links,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::at_rest;
    use crate::testing::{Replay, array, bytes, number, vectors};
    use serde_json::Value;
    use std::collections::BTreeMap;

    /// Plays a transcript, both sides or one, through the stored form every so often.
    fn play(transcript: &Value, sides: &[&str]) {
        let auth_key = Secret::new(array(&transcript["auth_key"]));
        let mut ratchets = BTreeMap::from([
            ("A", SparseRatchet::initiator(&auth_key)),
            ("B", SparseRatchet::responder(&auth_key)),
        ]);
        let mut sent: BTreeMap<u64, (Vec<u8>, Secret<32>)> = BTreeMap::new();
        for (at, event) in transcript["events"].as_array().unwrap().iter().enumerate() {
            let (op, side) = (event[0].as_str().unwrap(), event[1].as_str().unwrap());
            if op == "send" {
                let known = (bytes(&event[3]), Secret::new(array(&event[4])));
                if sides.contains(&side) {
                    let mut rng = Replay::of(&event[7]);
                    let made = ratchets.get_mut(side).unwrap().send(&mut rng).unwrap();
                    rng.finish();
                    assert_eq!(made.message.as_slice(), known.0, "event {at}");
                    assert_eq!(made.message_key, known.1, "event {at}");
                }
                sent.insert(number(&event[2]), known);
            } else if sides.contains(&side) {
                receive(ratchets.get_mut(side).unwrap(), op, event, &sent);
            }
            if sides.contains(&side) {
                let ratchet = ratchets.get_mut(side).unwrap();
                if op != "recv_copy" {
                    let after = &event.as_array().unwrap()[if op == "send" { 5 } else { 4 }..];
                    assert_eq!(ratchet.braid.state_name(), after[0], "event {at}");
                    assert_eq!(ratchet.braid.epoch(), number::<u64>(&after[1]), "event {at}");
                }
                assert!(ratchet.is_sound(), "event {at}");
                let stored = at_rest::state::encode(0, ratchet, ratchet.most_bytes());
                if at % 3 == 0 {
                    *ratchet = at_rest::state::decode(0, &stored).unwrap();
                }
            }
        }
    }

    fn receive(
        ratchet: &mut SparseRatchet,
        op: &str,
        event: &Value,
        sent: &BTreeMap<u64, (Vec<u8>, Secret<32>)>,
    ) {
        let (message, key) = match op {
            "recv" => sent
                .get(&number(&event[2]))
                .map(|(message, key)| (message.clone(), Some(key)))
                .unwrap(),
            _ => (bytes(&event[2]), None),
        };
        let decoded = Message::decode(&message);
        let refused = decoded
            .as_ref()
            .ok()
            .and_then(|message| ratchet.braid.receive(message.epoch, &message.payload).err());
        let result = decoded.and_then(|message| ratchet.receive(&message));
        let expected = match event[3].as_str().unwrap() {
            "ok" => {
                let (message_key, step) = result.unwrap();
                assert!(key.is_none_or(|key| *key == message_key));
                if op != "recv_copy" {
                    ratchet.commit(step);
                }
                return;
            }
            "parse" => (Error::Malformed, None),
            "mac" => (Error::Decrypt, Some(Refusal::Mac)),
            "epoch" => (Error::Decrypt, Some(Refusal::Epoch)),
            "key" => (Error::Decrypt, Some(Refusal::Key)),
            "old" => (Error::TooOld, None),
            "used" => (Error::Duplicate, None),
            "jump" => (Error::TooFarAhead, None),
            other => panic!("{other}"),
        };
        assert_eq!((result.err(), refused), (Some(expected.0), expected.1));
    }

    #[test]
    fn transcripts_replay_byte_for_byte() {
        let file = vectors("spqr.json");
        for name in ["section_13", "lockstep", "lossy"] {
            play(&file[name], &["A", "B"]);
        }
    }

    #[test]
    fn forgeries_are_refused() {
        for transcript in vectors("spqr.json")["forged"].as_array().unwrap() {
            // A's key is forged in this one, so only B's half can be played.
            let forged = transcript["name"].as_str().unwrap().contains("modulus");
            play(transcript, if forged { &["B"] } else { &["A", "B"] });
        }
    }

    #[test]
    fn the_chains() {
        let file = vectors("spqr.json");
        let auth_key = Secret::new(array(&file["authenticator"]["auth_key"]));
        let epoch_secret = Secret::new(array(&file["authenticator"]["K4"]));
        let mut ratchet = SparseRatchet::initiator(&auth_key);
        for (epoch, case) in file["chain"].as_array().unwrap().iter().enumerate() {
            if epoch > 0 {
                let added = ratchet.chains_of(&epoch_secret);
                ratchet.add(added);
            }
            assert_eq!(ratchet.next_root, Secret::new(array(&case["next_root"])));
            let chains = &ratchet.epochs[epoch];
            for (name, start) in [("A2B", &chains.sending), ("B2A", &chains.receiving)] {
                let mut chain = start.clone();
                for (index, key) in (1..).zip(case[name].as_array().unwrap()) {
                    let link = step(&chain, index);
                    assert_eq!(link.message_key, Secret::new(array(key)));
                    chain = link.next;
                }
            }
        }
    }

    #[test]
    fn the_wire_format() {
        for case in vectors("spqr.json")["wire"].as_array().unwrap() {
            let known = bytes(&case["bytes"]);
            let decoded = Message::decode(&known);
            if case["result"] != "ok" {
                assert_eq!(decoded, Err(Error::Malformed), "{case}");
                continue;
            }
            let message = decoded.unwrap();
            assert_eq!(message.epoch, number::<u64>(&case["epoch"]));
            assert_eq!(message.index, number::<u32>(&case["index"]));
            // Epochs of 2^35 and above are read, but never written.
            if message.epoch < MAX_EPOCH {
                assert_eq!(message.encode().as_slice(), known);
            }
        }
    }

    #[test]
    fn a_chain_ends() {
        let mut ratchet = SparseRatchet::initiator(&Secret::new([1; 32]));
        let mut rng = Replay::counting();
        ratchet.epochs[0].sent = u32::MAX - 1;
        assert!(ratchet.send(&mut rng).is_ok());
        assert_eq!(ratchet.send(&mut rng).map(drop), Err(Error::Exhausted));
    }
}
