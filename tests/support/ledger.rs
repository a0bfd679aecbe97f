//! What the documents say of the numbers of messages, written down without any key: which message
//! opens, and which error the others give (protocol.md, 5 and 9; spqr.md, 8).
//!
//! It is a second implementation of the bookkeeping, so that a test can foretell every outcome
//! exactly instead of being content with "some error".

use std::collections::{BTreeMap, BTreeSet};

use subrosa::Error;

pub(crate) const MOST_SKIPPED: u32 = 25_000;
pub(crate) const MOST_KEPT: usize = 2_000;
pub(crate) const MOST_CHAINS: usize = 16;
pub(crate) const OLD_EPOCHS: u64 = 4;

/// Where a message stands in its sender's chains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The sender's chains, counted from 0.
    pub(crate) chain: u64,
    /// PN
    pub(crate) previous: u32,
    /// N
    pub(crate) number: u32,
    /// The chain epoch of the post-quantum ratchet that keys it: one below the braid's.
    pub(crate) epoch: u64,
    /// Its number in there, from 1.
    pub(crate) index: u32,
}

/// One side's numbers.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    double: Double,
    sparse: Sparse,
}

impl Ledger {
    pub(crate) fn initiator() -> Self {
        Self::new(Sending::Due)
    }

    pub(crate) fn responder() -> Self {
        Self::new(Sending::Awaiting)
    }

    fn new(sending: Sending) -> Self {
        let double =
            Double { sending, previous: 0, begun: 0, receiving: None, kept: Kept::default() };
        Self { double, sparse: Sparse::default() }
    }

    /// A message was sent, before and after which so many epochs were complete.
    pub(crate) fn sent(&mut self, before: u64, after: u64) -> Place {
        let (chain, previous, number) = self.double.sent();
        let (epoch, index) = self.sparse.sent(before, after);
        Place { chain, previous, number, epoch, index }
    }

    /// What decrypting the message must give.
    pub(crate) fn expected(&self, place: &Place) -> Result<(), Error> {
        self.double.expected(place)?;
        self.sparse.expected(place)
    }

    /// The message was decrypted, after which so many epochs are complete.
    pub(crate) fn received(&mut self, place: &Place, after: u64) {
        self.double.received(place);
        self.sparse.received(place, after);
    }

    /// How many skipped messages are remembered: by the one ratchet or the other.
    pub(crate) fn kept(&self) -> usize {
        self.double.kept.count.max(self.sparse.kept.count)
    }

    /// Of how many chains there are skipped messages.
    pub(crate) fn kept_chains(&self) -> usize {
        self.double.kept.chains.len()
    }

    /// The chain epoch of the message sent last.
    pub(crate) fn send_epoch(&self) -> u64 {
        self.sparse.send_epoch
    }
}

#[derive(Clone, Debug)]
struct Double {
    sending: Sending,
    previous: u32,
    /// How many sending chains there were.
    begun: u64,
    /// The receiving chain, and Nr.
    receiving: Option<(u64, u32)>,
    kept: Kept,
}

#[derive(Clone, Debug)]
enum Sending {
    /// The responder before its first message.
    Awaiting,
    /// The next message begins a chain.
    Due,
    /// Ns
    Chain(u32),
}

impl Double {
    fn sent(&mut self) -> (u64, u32, u32) {
        let number = match self.sending {
            Sending::Awaiting => panic!("a responder answers"),
            Sending::Due => {
                self.begun += 1;
                0
            }
            Sending::Chain(number) => number,
        };
        self.sending = Sending::Chain(number + 1);
        (self.begun - 1, self.previous, number)
    }

    fn expected(&self, place: &Place) -> Result<(), Error> {
        let skipped = match self.receiving {
            Some((chain, next)) if chain == place.chain => match place.number.checked_sub(next) {
                Some(skipped) => skipped,
                None => return self.kept.get(chain, place.number),
            },
            _ if place.chain == self.next_chain() => {
                let before =
                    self.receiving.map_or(0, |(_, next)| place.previous.saturating_sub(next));
                before + place.number
            }
            _ if self.kept.chains.contains_key(&place.chain) => {
                return self.kept.get(place.chain, place.number);
            }
            _ => return Err(Error::UnknownHeader),
        };
        if skipped > MOST_SKIPPED { Err(Error::TooFarAhead) } else { Ok(()) }
    }

    fn received(&mut self, place: &Place) {
        match self.receiving {
            Some((chain, next)) if chain == place.chain && place.number >= next => {
                self.kept.skip(chain, next, place.number);
                self.receiving = Some((chain, place.number + 1));
            }
            _ if place.chain == self.next_chain() => {
                if let Some((chain, next)) = self.receiving {
                    self.kept.skip(chain, next, place.previous);
                }
                self.kept.skip(place.chain, 0, place.number);
                self.receiving = Some((place.chain, place.number + 1));
                match self.sending {
                    Sending::Awaiting => self.previous = 0,
                    Sending::Due => {}
                    Sending::Chain(number) => self.previous = number,
                }
                self.sending = Sending::Due;
            }
            _ => self.kept.take(place.chain, place.number),
        }
        self.kept.forget_empty();
        while self.kept.chains.len() > MOST_CHAINS {
            self.kept.drop_chain();
        }
    }

    fn next_chain(&self) -> u64 {
        self.receiving.map_or(0, |(chain, _)| chain + 1)
    }
}

#[derive(Clone, Debug, Default)]
struct Sparse {
    /// The newest epoch that has chains.
    completed: u64,
    /// The epoch completed last came from sending, and the peer has not gone on to it: the chains
    /// before it are the ones in use (spqr.md, 9).
    behind: bool,
    send_epoch: u64,
    /// The oldest epoch that has chains.
    oldest: u64,
    sent: BTreeMap<u64, u32>,
    received: BTreeMap<u64, u32>,
    kept: Kept,
}

impl Sparse {
    fn sent(&mut self, before: u64, after: u64) -> (u64, u32) {
        assert_eq!(self.completed, before, "epochs complete in a message sent or received");
        let epoch = self.completed - u64::from(self.behind);
        self.behind |= after > before;
        self.completed = after;
        self.send_epoch = epoch;
        self.oldest = self.oldest.max(epoch.saturating_sub(OLD_EPOCHS));
        while self.kept.chains.first_key_value().is_some_and(|(epoch, _)| *epoch < self.oldest) {
            self.kept.drop_chain();
        }
        let index = self.sent.entry(epoch).or_default();
        *index += 1;
        (epoch, *index)
    }

    fn expected(&self, place: &Place) -> Result<(), Error> {
        if place.epoch > self.completed {
            return Err(Error::Decrypt);
        }
        if place.epoch < self.oldest {
            return Err(Error::TooOld);
        }
        match place.index.checked_sub(self.newest(place.epoch) + 1) {
            None => self.kept.get(place.epoch, place.index),
            Some(skipped) if skipped > MOST_SKIPPED => Err(Error::TooFarAhead),
            Some(_) => Ok(()),
        }
    }

    fn received(&mut self, place: &Place, after: u64) {
        let received = self.newest(place.epoch);
        if place.index > received {
            self.kept.skip(place.epoch, received + 1, place.index);
            self.received.insert(place.epoch, place.index);
        } else {
            self.kept.take(place.epoch, place.index);
        }
        if place.epoch == self.completed || after > self.completed {
            self.behind = false;
        }
        self.completed = after;
    }

    /// The highest number received in an epoch.
    fn newest(&self, epoch: u64) -> u32 {
        self.received.get(&epoch).copied().unwrap_or(0)
    }
}

/// Numbers of messages that were skipped, by chain or by epoch, the oldest first.
#[derive(Clone, Debug, Default)]
struct Kept {
    chains: BTreeMap<u64, Skipped>,
    count: usize,
}

#[derive(Clone, Debug, Default)]
struct Skipped {
    numbers: BTreeSet<u32>,
    /// The highest that the limit dropped.
    dropped: Option<u32>,
}

impl Kept {
    fn get(&self, chain: u64, number: u32) -> Result<(), Error> {
        match self.chains.get(&chain) {
            Some(skipped) if skipped.numbers.contains(&number) => Ok(()),
            Some(skipped) if skipped.dropped.is_some_and(|dropped| number <= dropped) => {
                Err(Error::TooOld)
            }
            _ => Err(Error::Duplicate),
        }
    }

    fn skip(&mut self, chain: u64, from: u32, to: u32) {
        for number in from..to {
            self.chains.entry(chain).or_default().numbers.insert(number);
            self.count += 1;
            if self.count > MOST_KEPT {
                self.drop_number();
            }
        }
    }

    fn take(&mut self, chain: u64, number: u32) {
        let taken =
            self.chains.get_mut(&chain).is_some_and(|skipped| skipped.numbers.remove(&number));
        assert!(taken, "only a kept number is taken");
        self.count -= 1;
    }

    fn drop_number(&mut self) {
        let oldest = self.chains.values_mut().find(|skipped| !skipped.numbers.is_empty());
        if let Some(oldest) = oldest {
            oldest.dropped = oldest.numbers.pop_first();
            self.count -= 1;
        }
    }

    fn drop_chain(&mut self) {
        if let Some((_, skipped)) = self.chains.pop_first() {
            self.count -= skipped.numbers.len();
        }
    }

    fn forget_empty(&mut self) {
        self.chains.retain(|_, skipped| !skipped.numbers.is_empty());
    }
}
