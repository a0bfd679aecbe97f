//! Stolen state: how much it opens, of what came before and of what comes after, and for how long.
//!
//! Everything is measured in a ping-pong, message by message, for thefts at every phase of a
//! post-quantum epoch. A thief sees every message on the wire but touches none.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a panic is how a test fails"
)]

use std::convert::Infallible;

use rand_core::{TryCryptoRng, TryRng};
use subrosa::protocol::{Message, Session};

#[path = "support/network.rs"]
mod network;

use network::{ASSOCIATED_DATA, Letter, Pair, Seed, Seeded, Side, stored_and_loaded};

/// Messages of one post-quantum epoch in a ping-pong (spqr.md, 12); the first has one less.
const EPOCH: usize = 87;

/// What a thief learns of the victim's randomness after the theft: the secrets that a break of one
/// of the two primitives would give.
///
/// A message draws a ratchet key first (protocol.md, 7: in a ping-pong every message begins a
/// turn), then what the braid needs.
#[derive(Clone, Copy, Debug)]
struct Broken {
    /// All of X25519: every ratchet key is known.
    x25519: bool,
    /// All of ML-KEM: every key pair and every encapsulation is known.
    ml_kem: bool,
}

const NOTHING: Broken = Broken { x25519: false, ml_kem: false };
const X25519: Broken = Broken { x25519: true, ml_kem: false };
const ML_KEM: Broken = Broken { x25519: false, ml_kem: true };
const BOTH: Broken = Broken { x25519: true, ml_kem: true };

/// A copy of the victim's session in other hands.
struct Thief {
    session: Session,
    broken: Broken,
    own: Seeded,
}

impl Thief {
    fn new(victim: &Session, broken: Broken) -> Self {
        Self { session: stored_and_loaded(victim), broken, own: Seeded::new(0, "the thief's") }
    }

    /// Tries a message to the victim.
    fn reads(&mut self, letter: &Letter) -> bool {
        let message = Message::decode(&letter.bytes).unwrap();
        match self.session.decrypt(&message, ASSOCIATED_DATA) {
            Ok(plaintext) => {
                assert_eq!(plaintext, letter.plaintext);
                true
            }
            Err(_) => false,
        }
    }

    /// Keeps in step with the victim, who sent a message with these draws, as far as they are
    /// known.
    fn follow(&mut self, draws: &[Vec<u8>]) {
        let known = draws.iter().enumerate().map(|(at, draw)| {
            let known = if at == 0 { self.broken.x25519 } else { self.broken.ml_kem };
            known.then(|| draw.clone())
        });
        let known = known.collect();
        let mut rng = Partly { known, at: 0, own: &mut self.own };
        drop(self.session.encrypt(b"", ASSOCIATED_DATA, &mut rng).unwrap());
    }
}

/// Gives the known draws, and others in place of the unknown.
struct Partly<'a> {
    known: Vec<Option<Vec<u8>>>,
    at: usize,
    own: &'a mut Seeded,
}

impl TryRng for Partly<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        panic!("everything is drawn as bytes");
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        panic!("everything is drawn as bytes");
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        match self.known.get(self.at) {
            Some(Some(draw)) if draw.len() == out.len() => out.copy_from_slice(draw),
            _ => self.own.try_fill_bytes(out)?,
        }
        self.at += 1;
        Ok(())
    }
}

impl TryCryptoRng for Partly<'_> {}

/// What a theft gave.
#[derive(Debug)]
struct Haul {
    /// For each message to the victim after the theft: how many messages there were since, itself
    /// included, the chain epoch that keys it, and whether the thief read it.
    tries: Vec<(usize, u64, bool)>,
    /// The epochs complete on both sides at the theft.
    complete: u64,
    /// After how many messages two more were complete on both sides.
    two_more: usize,
}

impl Haul {
    fn read(&self) -> usize {
        self.tries.iter().filter(|(.., read)| *read).count()
    }

    /// After how many messages the thief read no more.
    fn healed_after(&self) -> usize {
        self.tries.iter().filter(|(.., read)| *read).map(|(at, ..)| *at).max().unwrap_or(0)
    }
}

/// Speaks `before` messages in turn, steals the victim's state, and goes on for four epochs.
fn rob(victim: Side, before: usize, broken: Broken) -> Haul {
    let mut pair = Pair::settled(before as u64);
    let mut speaker = Side::Initiator;
    for _ in 2..before {
        pair.turn(speaker);
        speaker = speaker.other();
    }
    let complete = both_complete(&pair);
    let mut thief = Thief::new(pair.end(victim).session(), broken);
    let (mut tries, mut two_more) = (Vec::new(), None);
    for at in 1..=4 * EPOCH {
        let letter = pair.turn(speaker);
        if letter.from == victim {
            thief.follow(&pair.end(victim).party.rng.draws);
        } else {
            tries.push((at, letter.place.epoch, thief.reads(&letter)));
        }
        if two_more.is_none() && both_complete(&pair) >= complete + 2 {
            two_more = Some(at);
        }
        speaker = speaker.other();
    }
    Haul { tries, complete, two_more: two_more.unwrap() }
}

fn both_complete(pair: &Pair) -> u64 {
    let [one, other] = Side::BOTH.map(|side| pair.end(side).session().post_quantum_epochs());
    one.min(other)
}

/// Every phase of the first two epochs, in which each side is once the one that makes the key and
/// once the one that encapsulates to it.
fn thefts() -> impl Iterator<Item = (Side, usize)> {
    Side::BOTH
        .into_iter()
        .flat_map(|victim| (2..2 + 2 * EPOCH).step_by(5).map(move |before| (victim, before)))
}

fn report(what: &str, numbers: &[usize]) {
    let (least, most) = (numbers.iter().min().unwrap(), numbers.iter().max().unwrap());
    let mean = numbers.iter().sum::<usize>() as f64 / numbers.len() as f64;
    println!("{what}: {least} to {most}, on average {mean:.1} ({} thefts)", numbers.len());
}

/// The Double Ratchet heals with the first chain that answers a ratchet key made after the theft.
/// New keys are deferred to the next message sent, so a state that is stolen
///
/// - after the victim spoke holds the secret of the ratchet key it sent: the answer to it is read,
///   and nothing after;
/// - after the victim listened holds none: what the peer says next answers a key that the thief
///   never had.
///
/// So one message in a ping-pong, two with the victim's own: one round trip.
#[test]
fn a_thief_reads_at_most_the_answer_that_is_on_its_way() {
    let mut numbers = Vec::new();
    for (victim, before) in thefts() {
        // Message number `before` is the initiator's where that is odd.
        let spoke_last = (before % 2 == 1) == (victim == Side::Initiator);
        let haul = rob(victim, before, NOTHING);
        let read: Vec<usize> =
            haul.tries.iter().filter(|(.., read)| *read).map(|(at, ..)| *at).collect();
        let expected: &[usize] = if spoke_last { &[1] } else { &[] };
        assert_eq!(read, expected, "{victim:?} robbed after {before} messages");
        numbers.push(haul.healed_after());
    }
    report("messages until a thief reads nothing", &numbers);
}

#[test]
fn a_thief_reads_the_turn_that_is_going_on_and_no_other() {
    let mut pair = Pair::settled(70);
    pair.turn(Side::Initiator);
    let mut thief = Thief::new(pair.responder.session(), NOTHING);
    // The responder has not answered yet: this is still the chain whose keys were stolen.
    for _ in 0..50 {
        assert!(thief.reads(&pair.turn(Side::Initiator)));
    }
    for _ in 0..50 {
        for _ in 0..3 {
            pair.turn(Side::Responder);
        }
        for _ in 0..3 {
            assert!(!thief.reads(&pair.turn(Side::Initiator)));
        }
    }
}

/// As without any break: what of ML-KEM the thief knows is of no use against a fresh ratchet key.
#[test]
fn the_double_ratchet_heals_alone() {
    let mut numbers = Vec::new();
    for (victim, before) in thefts() {
        let haul = rob(victim, before, ML_KEM);
        assert!(
            haul.read() <= 1 && haul.healed_after() <= 1,
            "{victim:?} robbed after {before} messages"
        );
        numbers.push(haul.healed_after());
    }
    report("messages until a thief who breaks ML-KEM reads nothing", &numbers);
}

/// A thief who breaks X25519 has every ratchet key, so that the post-quantum ratchet stands alone.
///
/// The epoch that is under way may rest on what was stolen: a KEM key or an encapsulation that the
/// victim had made already. To the next one, as to every one, the victim gives new randomness, so
/// its secret is new. Messages are keyed with it from its end on: what is left of the one epoch and
/// all of the other, two epochs at the most.
///
/// `post_quantum_epochs` shows the same from the outside: two more are complete on both sides.
#[test]
fn the_post_quantum_ratchet_heals_alone_within_two_epochs() {
    let (mut healed, mut two_more) = (Vec::new(), Vec::new());
    for (victim, before) in thefts() {
        let haul = rob(victim, before, X25519);
        let name = format!("{victim:?} robbed after {before} messages: {haul:?}");
        // The secrets that a thief may have: of the epochs that were complete, and of the one under
        // way.
        let under_way = haul.complete + 1;
        assert!(haul.tries.iter().all(|(_, epoch, read)| !read || *epoch <= under_way), "{name}");
        assert!(haul.healed_after() <= 2 * EPOCH, "{name}");
        assert!(haul.healed_after() <= haul.two_more && haul.two_more <= 2 * EPOCH, "{name}");
        // Until then it is the thief's conversation: but for the messages at the end of the epoch,
        // which carry what only the victim can take in, it reads all that the stolen epochs key.
        let keyed = haul.tries.iter().filter(|(_, epoch, _)| *epoch <= haul.complete).count();
        assert!(haul.read() + 1 >= keyed, "{name}");
        healed.push(haul.healed_after());
        two_more.push(haul.two_more);
    }
    report("messages until a thief who breaks X25519 reads nothing", &healed);
    report("messages until two more epochs are complete on both sides", &two_more);
    assert!(
        healed.iter().any(|messages| *messages > EPOCH),
        "some thefts catch an epoch at its beginning"
    );
}

/// The measure of the measures: with all of the victim's randomness the thief is the victim.
#[test]
fn a_thief_who_breaks_both_reads_everything() {
    for (victim, before) in thefts().step_by(7) {
        let haul = rob(victim, before, BOTH);
        assert_eq!(haul.read(), haul.tries.len());
    }
}

#[test]
fn a_stolen_state_opens_nothing_that_was_decrypted_before() {
    for seed in Seed::chosen_or(80..83) {
        let seed = Seed(seed);
        let mut pair = Pair::new(seed.0);
        let mut rng = Seeded::new(seed.0, "what comes late");
        let (mut read, mut late) = (Vec::new(), Vec::new());
        read.push(pair.turn(Side::Initiator));
        for n in 0..600 {
            let speaker = if rng.chance(500) { Side::Initiator } else { Side::Responder };
            let letter = pair.send(speaker);
            if rng.chance(50) {
                late.push((n, letter));
                continue;
            }
            assert_eq!(pair.deliver(&letter), Ok(()));
            read.push(letter);
            // Some of the late ones arrive after all: their keys are gone then, too.
            if rng.chance(20) && !late.is_empty() {
                let (_, letter) = late.swap_remove(rng.below(late.len()));
                if pair.deliver(&letter).is_ok() {
                    read.push(letter);
                }
            }
        }
        for victim in Side::BOTH {
            let mut thief = Thief::new(pair.end(victim).session(), NOTHING);
            let mine: Vec<&Letter> = read.iter().filter(|letter| letter.from != victim).collect();
            assert!(mine.len() > 100);
            assert!(mine.iter().all(|letter| !thief.reads(letter)));
            // What is still awaited can be read: that is why no more than so many are kept.
            let awaited = late.iter().filter(|(_, letter)| letter.from != victim);
            let (awaited, opened) = awaited.fold((0, 0), |(awaited, opened), (_, letter)| {
                let expected = pair.end(victim).ledger.expected(&letter.place).is_ok();
                (awaited + usize::from(expected), opened + usize::from(thief.reads(letter)))
            });
            assert!(opened > 0 && opened == awaited, "{opened} of {awaited}");
        }
    }
}

/// A device is robbed of its prekeys after it answered: the one-time ones are gone, and the first
/// messages with them.
#[test]
fn stolen_prekeys_open_no_first_message_that_used_a_one_time_prekey() {
    let mut pair = Pair::new(90);
    let first = pair.turn(Side::Initiator);
    let party = &pair.responder.party;
    let mut prekeys = subrosa::protocol::Prekeys::decode(&party.prekeys.encode()).unwrap();
    let message = Message::decode(&first.bytes).unwrap();
    let opened = Session::respond(&party.identity, &mut prekeys, &message, ASSOCIATED_DATA);
    assert_eq!(opened.unwrap_err(), subrosa::Error::UnknownPrekey);
}
