//! What another device gave us in a group: its chains, and label keys (docs/groups.md, 2).

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::distribution::{Distribution, Previous};
use super::label::{Hint, LabelKey};
use super::message::{Envelope, Sender};
use crate::at_rest;
use crate::error::Error;
use crate::ratchet::chain;
use crate::ratchet::sender_key::{self, ChainId, MAX_KEPT, ReceivingChain};
use crate::time::UnixTime;

/// What a device of a member gave this device in a group.
///
/// The newest chain is taken whole. Of an older one nothing is taken from the end on that the chain
/// after it names. Where the chain after it is not here yet, its end is not known, and it waits: it
/// opens nothing, so that a thief of an old chain cannot go on with it by holding back one
/// distribution. 7 days after it was superseded a chain is deleted.
#[derive(Default)]
pub struct SenderKeyRecord {
    /// So that one that is moved leaves no copy of its keys where it was.
    state: Box<State>,
}

#[derive(Default, Serialize, Deserialize)]
struct State {
    /// The oldest first; the last is the current one.
    #[expect(clippy::vec_box, reason = "moving the keys would leave copies of them behind")]
    chains: Vec<Box<Held>>,
    /// The oldest first; the last is the one in use.
    #[expect(clippy::vec_box, reason = "moving the keys would leave copies of them behind")]
    labels: Vec<Box<HeldLabel>>,
}

#[derive(Serialize, Deserialize)]
struct Held {
    chain: ReceivingChain,
    previous: Option<Previous>,
    standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Standing {
    Current,
    /// Superseded at this time, by a chain that names another one as the one before it.
    Waiting(UnixTime),
    /// Superseded at this time, with an end.
    Closed(UnixTime),
}

#[derive(Serialize, Deserialize)]
struct HeldLabel {
    key: LabelKey,
    replaced: Option<UnixTime>,
}

/// What a distribution was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// A chain that was not here: envelopes that wait for it may open now.
    New,
    /// The chain was here, and stays as it is.
    Known,
}

/// A message that opened.
pub struct Opened {
    /// What the device wrote.
    pub content: Vec<u8>,
    /// What it changes. Nothing does before [`SenderKeyRecord::commit`].
    pub step: Step,
}

/// What opening a message changes.
#[derive(Debug)]
pub struct Step {
    chain: ChainId,
    step: sender_key::Step,
}

/// Chains that were superseded, of one device.
const MAX_OLDER: usize = 16;

/// Label keys of one device.
const MAX_LABELS: usize = 3;

/// How long a chain or a label key is kept after there is a newer one, in seconds: 7 days.
const KEPT_FOR: u64 = 7 * 24 * 60 * 60;

impl SenderKeyRecord {
    /// Of a device that has given nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what the device gives. Of a chain that is here, its state stays.
    pub fn take(&mut self, distribution: Distribution, now: UnixTime) -> Taken {
        self.expire(now);
        let Distribution { label_key, previous, chain, .. } = distribution;
        self.take_label(label_key, now);
        if self.held(chain.id()).is_some() {
            return Taken::Known;
        }
        let mut held = Held { chain, previous, standing: Standing::Current };
        // The one after it is here already, and says where it ends.
        let id = held.chain.id();
        let after = self.state.chains.iter().enumerate().find_map(|(at, other)| {
            other.previous.filter(|previous| previous.chain == id).map(|own| (at, own.end))
        });
        let at = after.map_or(self.state.chains.len(), |(at, _)| at);
        // The one before it ends, if it is here. A device that lies names one that came after.
        if let Some(previous) = previous {
            let mut older = self.state.chains.iter_mut().take(at);
            if let Some(before) = older.find(|held| held.chain.id() == previous.chain) {
                before.close(previous.end, now);
            }
        }
        match after {
            Some((_, end)) => held.close(end, now),
            None => self.state.chains.iter_mut().for_each(|other| other.supersede(now)),
        }
        self.state.chains.insert(at, Box::new(held));
        let excess = self.state.chains.len().saturating_sub(MAX_OLDER.saturating_add(1));
        self.state.chains.drain(..excess).for_each(drop);
        Taken::New
    }

    fn take_label(&mut self, key: LabelKey, now: UnixTime) {
        let labels = &mut self.state.labels;
        if labels.last().is_some_and(|last| last.key == key) {
            return;
        }
        labels.retain(|held| held.key != key);
        labels.iter_mut().for_each(|held| held.replaced = held.replaced.or(Some(now)));
        labels.push(Box::new(HeldLabel { key, replaced: None }));
        labels.drain(..labels.len().saturating_sub(MAX_LABELS)).for_each(drop);
    }

    /// Deletes what was superseded 7 days ago or more.
    pub fn expire(&mut self, now: UnixTime) {
        let is_old = |since: UnixTime| now.since(since) >= KEPT_FOR;
        self.state.chains.retain(|held| match held.standing {
            Standing::Current => true,
            Standing::Waiting(since) | Standing::Closed(since) => !is_old(since),
        });
        self.state.labels.retain(|held| !held.replaced.is_some_and(is_old));
    }

    /// When [`SenderKeyRecord::expire`] next has something to delete.
    #[must_use]
    pub fn next_expiry(&self) -> Option<UnixTime> {
        let chains = self.state.chains.iter().filter_map(|held| match held.standing {
            Standing::Current => None,
            Standing::Waiting(since) | Standing::Closed(since) => Some(since),
        });
        let labels = self.state.labels.iter().filter_map(|held| held.replaced);
        chains.chain(labels).min().map(|since| since.after(KEPT_FOR))
    }

    /// The label keys that the device gave, the one in use last: at most 3.
    pub fn label_keys(&self) -> impl DoubleEndedIterator<Item = &LabelKey> {
        self.state.labels.iter().map(|held| &held.key)
    }

    /// Whether a message of this chain may open: it is here, and its end is known.
    #[must_use]
    pub fn has(&self, chain: ChainId) -> bool {
        self.open_chain(chain).is_some()
    }

    /// Opens an envelope of the device and verifies it. Nothing changes before
    /// [`SenderKeyRecord::commit`].
    ///
    /// # Errors
    /// [`Error::UnknownHeader`]: the chain is not here, or waits for the one after it: keep the
    /// envelope until it comes, and ask for it.
    /// [`Error::TooFarAhead`]: the chain has no such message; drop it.
    /// [`Error::Duplicate`]: the key was used, by this envelope, or by another one where a sender
    /// was restored from a copy. [`Error::TooOld`]: the key is not here: from before the chain was
    /// given, or dropped.
    /// [`Error::Decrypt`]: its hint names another device, it was changed on the way, or nobody who
    /// has the chain sealed it.
    /// [`Error::BadSignature`]: another member forged it; drop it and never ask for it.
    pub fn receive(
        &self,
        envelope: &Envelope<'_>,
        hint: &Hint,
        sender: &Sender<'_>,
    ) -> Result<Opened, Error> {
        let chain = self.open_chain(hint.chain()).ok_or(Error::UnknownHeader)?;
        let (message_key, step) = chain.receive(hint.number())?;
        let content = envelope.open(hint, sender, &message_key, chain.verifying_key())?;
        Ok(Opened { content, step: Step { chain: chain.id(), step } })
    }

    /// Takes up what opening a message changes.
    pub fn commit(&mut self, step: Step) {
        if let Some(held) = self.held_mut(step.chain) {
            held.chain.commit(step.step);
            self.keep(MAX_KEPT);
        }
    }

    /// Uses up the key of a message that came in another way.
    pub fn use_up(&mut self, chain: ChainId, number: u32) {
        let step = self.open_chain(chain).and_then(|chain| chain.receive(number).ok());
        if let Some((_, step)) = step {
            self.commit(Step { chain, step });
        }
    }

    /// How many keys are kept of messages that have not come, at most 1,000.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.state.chains.iter().map(|held| held.chain.kept().len()).sum()
    }

    /// Drops the oldest kept keys until `most` are left.
    pub fn keep(&mut self, most: usize) {
        let kept = self.kept();
        if kept > most {
            let chains = self.state.chains.iter_mut().map(|held| held.chain.kept_mut());
            chain::keep_newest(chains, kept, most);
        }
    }

    fn held(&self, chain: ChainId) -> Option<&Held> {
        self.state.chains.iter().rev().find(|held| held.chain.id() == chain).map(|held| &**held)
    }

    fn held_mut(&mut self, chain: ChainId) -> Option<&mut Held> {
        let mut chains = self.state.chains.iter_mut();
        chains.find(|held| held.chain.id() == chain).map(|held| &mut **held)
    }

    fn open_chain(&self, chain: ChainId) -> Option<&ReceivingChain> {
        let held = self.held(chain)?;
        (!matches!(held.standing, Standing::Waiting(_))).then_some(&held.chain)
    }

    /// The state at rest: a version byte, then the state. Secret; wiped when dropped.
    ///
    /// Some 150 bytes, 150 more at most for each older chain and 36 for each kept key.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let chains = self.state.chains.len().saturating_mul(150);
        let labels = self.state.labels.len().saturating_mul(50);
        let kept = self.kept().saturating_mul(chain::KeptKeys::RECORD_LENGTH);
        let most = chains.saturating_add(labels).saturating_add(kept).saturating_add(16);
        at_rest::state::encode(VERSION, &*self.state, most)
    }

    /// From what [`SenderKeyRecord::encode`] made.
    ///
    /// # Errors
    /// [`Error::BadState`]
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let state: Box<State> = at_rest::state::decode(VERSION, bytes)?;
        if state.is_sound() { Ok(Self { state }) } else { Err(Error::BadState) }
    }
}

/// The version of the stored form.
const VERSION: u8 = 1;

impl State {
    /// Whether what was stored is something that [`SenderKeyRecord`] made.
    fn is_sound(&self) -> bool {
        let kept: usize = self.chains.iter().map(|held| held.chain.kept().len()).sum();
        let (last, older) = match self.chains.split_last() {
            Some((last, older)) => (last.standing == Standing::Current, older),
            None => (true, &[][..]),
        };
        let (label, older_labels) = match self.labels.split_last() {
            Some((label, older)) => (label.replaced.is_none(), older),
            None => (true, &[][..]),
        };
        self.chains.iter().all(|held| held.chain.is_sound())
            && last
            && older.len() <= MAX_OLDER
            && older.iter().all(|held| held.standing != Standing::Current)
            && kept <= MAX_KEPT
            && label
            && older_labels.len() < MAX_LABELS
            && older_labels.iter().all(|held| held.replaced.is_some())
    }
}

impl Held {
    /// An end, once known, stays.
    fn close(&mut self, end: u32, now: UnixTime) {
        let since = match self.standing {
            Standing::Current => now,
            Standing::Waiting(since) => since,
            Standing::Closed(_) => return,
        };
        self.chain.close(end);
        self.standing = Standing::Closed(since);
    }

    const fn supersede(&mut self, now: UnixTime) {
        if matches!(self.standing, Standing::Current) {
            self.standing = Standing::Waiting(now);
        }
    }
}

/// Shows nothing of the content.
impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("step", &self.step).finish_non_exhaustive()
    }
}

/// Shows where its chains stand, and no key.
impl fmt::Debug for SenderKeyRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chains = self.state.chains.iter().map(|held| (&held.chain, held.standing));
        f.debug_list().entries(chains).finish()
    }
}
