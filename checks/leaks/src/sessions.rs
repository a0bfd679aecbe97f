//! Two sessions over a bad link, and forgeries.

use std::collections::VecDeque;

use subrosa::protocol::{Bundle, IdentityKeyPair, Message, Prekeys, PublishedPrekeys, Session};
use subrosa::{Error, Zeroizing};

use crate::{Drawn, NOW};

const CHAT: &[u8] = b"a chat";

/// How it went.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    pub opened: usize,
    /// Forgeries, and duplicates.
    pub refused: usize,
    /// Of the post-quantum ratchet.
    pub epochs: u64,
}

/// A handshake with one-time prekeys or without, then so many messages: some come late, some never,
/// some changed or twice; both sides are stored and loaded again now and then.
///
/// # Errors
/// None, unless the crate breaks a promise.
pub fn tell(one_time: usize, messages: usize, rng: &mut Drawn) -> Result<Tally, Error> {
    let mut pair =
        Pair { sides: begin(one_time, rng)?, links: Default::default(), tally: Tally::default() };
    for number in 0..messages {
        pair.turn(number, rng)?;
    }
    pair.tally.epochs = pair.sides[0].post_quantum_epochs();
    Ok(pair.tally)
}

/// One side writes so many messages, of which the last comes first and many never, over and over;
/// so that keys are kept up to the limit, dropped, and taken in any order.
///
/// # Errors
/// None, unless the crate breaks a promise.
pub fn skip(messages: usize, turns: usize, rng: &mut Drawn) -> Result<Tally, Error> {
    let mut pair =
        Pair { sides: begin(1, rng)?, links: Default::default(), tally: Tally::default() };
    for _ in 0..turns {
        let mut all = Vec::with_capacity(messages);
        for _ in 0..messages {
            let text = Zeroizing::new(rng.text(30));
            all.push(sent(pair.sides[0].encrypt(&text, CHAT, rng)?));
        }
        let orders: [Vec<usize>; 3] = [
            vec![messages - 1],
            (0..messages).step_by(7).collect(),
            (0..messages).rev().step_by(5).collect(),
        ];
        for at in orders.into_iter().flatten() {
            pair.open(1, &all[at])?;
        }
        pair.sides[1] = Session::decode(&pair.sides[1].encode())?;
        let text = Zeroizing::new(rng.text(5_000));
        let answer = sent(pair.sides[1].encrypt(&text, CHAT, rng)?);
        pair.open(0, &answer)?;
    }
    Ok(pair.tally)
}

/// A handshake, in which everything is stored and loaded on the way.
fn begin(one_time: usize, rng: &mut Drawn) -> Result<[Session; 2], Error> {
    let identities = [IdentityKeyPair::generate(rng), IdentityKeyPair::generate(rng)];
    let identities = identities.map(|identity| IdentityKeyPair::decode(&identity.encode()));
    let [alice, bob] = identities.map(|identity| identity.expect("as encoded"));
    let mut prekeys = Prekeys::generate(one_time, NOW, rng)?;
    prekeys = Prekeys::decode(&prekeys.encode())?;
    let mut published = PublishedPrekeys::decode(&prekeys.publish(&bob).encode())?;
    let bundle = published.pop_bundle().expect("there are prekeys").encode();
    let bundle = Bundle::decode(&bundle)?.verify(&alice.public_key(), NOW)?;
    let mut to_bob = Session::initiate(&alice, &bundle, rng)?;

    let text = Zeroizing::new(rng.text(40));
    let first = sent(to_bob.encrypt(&text, CHAT, rng)?);
    let (to_alice, opened) = Session::respond(&bob, &mut prekeys, &Message::decode(&first)?, CHAT)?;
    let opened = Zeroizing::new(opened);
    assert_eq!(opened.len(), text.len());
    Ok([to_bob, to_alice])
}

struct Pair {
    sides: [Session; 2],
    /// What is on its way to each.
    links: [VecDeque<Vec<u8>>; 2],
    tally: Tally,
}

impl Pair {
    fn turn(&mut self, number: usize, rng: &mut Drawn) -> Result<(), Error> {
        let from = rng.below(2);
        let length = [0, 1, 31, 64, 150, 300, 1_000, 5_000][rng.below(8)];
        let text = Zeroizing::new(rng.text(length));
        let envelope = sent(self.sides[from].encrypt(&text, CHAT, rng)?);
        let link = &mut self.links[1 - from];
        match rng.below(10) {
            0 => {}
            1 => link.push_front(envelope),
            2 => {
                link.push_back(envelope.clone());
                link.push_back(envelope);
            }
            3 => {
                let mut forged = envelope.clone();
                let at = 2 + rng.below(forged.len() - 2);
                forged[at] ^= 1;
                link.push_back(forged);
                link.push_back(envelope);
            }
            _ => link.push_back(envelope),
        }
        for side in 0..2 {
            for _ in 0..rng.below(4) {
                let Some(envelope) = self.links[side].pop_front() else { break };
                self.open(side, &envelope)?;
            }
        }
        if number.is_multiple_of(16) {
            let stored = self.sides[from].encode();
            self.sides[from] = Session::decode(&stored)?;
        }
        Ok(())
    }

    fn open(&mut self, side: usize, envelope: &[u8]) -> Result<(), Error> {
        match self.sides[side].decrypt(&Message::decode(envelope)?, CHAT) {
            Ok(text) => {
                drop(Zeroizing::new(text));
                self.tally.opened += 1;
            }
            Err(_) => self.tally.refused += 1,
        }
        Ok(())
    }
}

fn sent(message: Message<'_>) -> Vec<u8> {
    let mut bytes = message.encode();
    subrosa_marks::sent(&mut bytes);
    bytes
}
