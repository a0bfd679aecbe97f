//! Two sessions and a hostile network, all of whose doings are the fuzzer's choice.

use crate::decode::PARTIES;
use crate::input::{Input, changed};
use crate::network::{ASSOCIATED_DATA, Letter, Pair, Side};

/// More messages than a session keeps the keys of, and few enough to be quick.
const MOST_SENT: usize = 3_000;
const MOST_STEPS: usize = 400;

/// The network: what is on the way, what was lost (and may come late), what came.
#[derive(Default)]
struct Network {
    on_the_way: Vec<Letter>,
    lost: Vec<Letter>,
    past: Vec<Letter>,
    sent: usize,
}

/// Every genuine message gives what the ledger of `tests/support` foretells: it opens once, within
/// the limits. An error changes nothing, and what is forged opens never.
pub fn conversation(data: &[u8]) {
    let mut input = Input::new(data);
    let mut pair = PARTIES.with(|parties| match input.small() % 2 {
        0 => parties.new.copy(),
        _ => parties.talking.copy(),
    });
    let mut network = Network::default();
    for _ in 0..MOST_STEPS {
        let Some(choice) = input.byte() else { break };
        network.step(&mut pair, choice, &mut input);
    }
    for letter in network.on_the_way {
        // Opened, or refused as foretold.
        let _: Result<(), _> = pair.deliver(&letter);
    }
    for side in Side::BOTH {
        if pair.end(side).session.is_some() {
            pair.round_trip(side);
        }
    }
}

impl Network {
    fn step(&mut self, pair: &mut Pair, choice: u8, input: &mut Input<'_>) {
        let side = Side::BOTH[usize::from(choice >> 7)];
        match choice % 16 {
            0..3 => self.send(pair, side, 1),
            3 => self.send(pair, side, input.small() % 8),
            4 => {
                // A burst of which the last one alone arrives; once in a while it is a flood.
                let (short, is_flood) = (1 + input.small() % 64, input.small() > 250);
                self.send(pair, side, if is_flood { 2_100 } else { short });
                let last = self.on_the_way.pop();
                self.lost.append(&mut self.on_the_way);
                self.on_the_way.extend(last);
            }
            5..9 => {
                if !self.on_the_way.is_empty() {
                    let letter = self.on_the_way.remove(0);
                    self.deliver(pair, letter);
                }
            }
            9 => {
                if let Some(letter) = take(&mut self.on_the_way, input) {
                    self.deliver(pair, letter);
                }
            }
            10 => self.lost.extend(take(&mut self.on_the_way, input)),
            11 => {
                if let Some(letter) = take(&mut self.lost, input) {
                    self.deliver(pair, letter);
                }
            }
            12 => {
                if let Some(letter) = take(&mut self.past, input) {
                    self.deliver(pair, letter);
                }
            }
            13 => pair.restart(side),
            _ => self.forge(pair, choice.is_multiple_of(2), input),
        }
    }

    fn send(&mut self, pair: &mut Pair, side: Side, count: usize) {
        let count = count.min(MOST_SENT - self.sent);
        if pair.end(side).session.is_some() {
            self.sent += count;
            self.on_the_way.extend((0..count).map(|_| pair.send(side)));
        }
    }

    fn deliver(&mut self, pair: &mut Pair, letter: Letter) {
        let _: Result<(), _> = pair.deliver(&letter);
        self.past.push(letter);
    }

    /// A letter that was changed, or put together of two, or goes back to its sender, or came with
    /// other associated data.
    fn forge(&mut self, pair: &mut Pair, is_changed: bool, input: &mut Input<'_>) {
        let letters = self.on_the_way.iter().chain(&self.lost).chain(&self.past);
        let letters: Vec<&Letter> = letters.collect();
        let Some(letter) = letters.get(input.below(letters.len())) else { return };
        let to = letter.from.other();
        if is_changed {
            pair.deliver_forged(to, &changed(&letter.bytes, input), ASSOCIATED_DATA);
            return;
        }
        match input.small() % 3 {
            0 => drop(pair.deliver_forged(letter.from, &letter.bytes, ASSOCIATED_DATA)),
            1 => drop(pair.deliver_forged(to, &letter.bytes, b"another chat")),
            _ => {
                let other = letters[input.below(letters.len())];
                let at = input.below(letter.bytes.len().min(other.bytes.len()));
                let spliced = [&letter.bytes[..at], &other.bytes[at..]].concat();
                if letters.iter().all(|letter| letter.bytes != spliced) {
                    pair.deliver_forged(to, &spliced, ASSOCIATED_DATA);
                }
            }
        }
    }
}

fn take(letters: &mut Vec<Letter>, input: &mut Input<'_>) -> Option<Letter> {
    if letters.is_empty() { None } else { Some(letters.swap_remove(input.below(letters.len()))) }
}
