use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

use super::*;
use crate::testing::{array, hex, number, vectors};
use serde_json::Value;

fn key(value: &Value) -> IdentityKey {
    IdentityKey::unchecked(&array::<32>(value)).unwrap()
}

fn of(byte: u8) -> IdentityKey {
    IdentityKey::unchecked(&[byte; 32]).unwrap()
}

fn copy(sas: &Sas) -> Sas {
    at_rest::state::decode(1, &at_rest::state::encode(1, sas, 512)).unwrap()
}

/// Made by another implementation, from the text.
#[test]
fn known_answers() {
    let file = vectors("verification.json");
    let cases = file["sas"].as_array().unwrap();
    assert!(cases.len() >= 4);
    for case in cases {
        let accounts = (key(&case["starter_account"]), key(&case["other_account"]));
        let devices = (key(&case["starter_device"]), key(&case["other_device"]));
        let starter = Party { user: case["starter"].as_str().unwrap(), account: &accounts.0 };
        let other = Party { user: case["other"].as_str().unwrap(), account: &accounts.1 };
        let at_starter = Pair { own: starter, device: &devices.0, other };
        let at_other = Pair { own: other, device: &devices.1, other: starter };
        let (id, nonces) =
            (array(&case["id"]), [&case["starter_nonce"], &case["other_nonce"]].map(array));

        let transcript = transcript(&id, (starter, &devices.0), (other, &devices.1));
        assert_eq!(hex(&transcript), case["transcript"]);
        let begun = Sas::start(id, Secret::new(nonces[0]));
        let Some(LastMove::Start(commitment)) = begun.last_move(at_starter, &devices.1) else {
            panic!("it has begun");
        };
        assert_eq!(hex(&commitment), case["commitment"]);
        let asked = Sas::asked(id, commitment, devices.0);
        let (answered, nonce) = asked.answer(Secret::new(nonces[1])).unwrap();
        assert_eq!(nonce, nonces[1]);
        let Heard::Compare { next: begun, reveal: Some(nonce) } =
            begun.hear(at_starter, &devices.1, &nonce)
        else {
            panic!("the first answer is taken");
        };
        let Heard::Compare { next: answered, reveal: None } =
            answered.hear(at_other, &devices.0, &nonce)
        else {
            panic!("it is what was committed to");
        };
        let SasStage::Compare(value) = begun.stage() else { panic!("there is a value") };
        assert_eq!(answered.stage(), begun.stage());
        assert_eq!(hex(&value.0), case["value"]);
        let emoji: Vec<u64> = value.emoji().iter().map(|emoji| emoji.number().into()).collect();
        assert_eq!(Value::from(emoji), case["emoji"]);
        assert_eq!(Value::from(value.emoji().map(|emoji| emoji.name()).to_vec()), case["names"]);
        let numbers: Vec<u16> = case["numbers"].as_array().unwrap().iter().map(number).collect();
        assert_eq!(value.numbers()[..], numbers);
    }
}

#[test]
fn every_emoji_has_a_symbol_and_a_name_of_its_own() {
    let all: Vec<Emoji> = (0..64).map(Emoji::of).collect();
    let symbols: BTreeSet<&str> = all.iter().map(Emoji::symbol).collect();
    let names: BTreeSet<&str> = all.iter().map(Emoji::name).collect();
    assert_eq!((symbols.len(), names.len()), (64, 64));
    assert_eq!((all[0].name(), all[35].name(), all[63].name()), ("Dog", "Santa", "Pin"));
}

#[test]
fn the_numbers_have_four_digits_at_both_ends() {
    assert_eq!(SasValue([0; 11]).numbers(), [1_000; 3]);
    assert_eq!(SasValue([0xff; 11]).numbers(), [9_191; 3]);
    assert_eq!(SasValue([0xff; 11]).emoji().map(|emoji| emoji.number()), [63; 7]);
}

#[test]
fn debug_shows_nothing_of_what_is_compared() {
    let value = SasValue([0xa5; 11]);
    let shown = std::format!("{:?} {:?}", SasStage::Compare(value), value.emoji()[0]);
    assert_eq!(shown, "Compare(SasValue) Emoji");
}

#[test]
fn a_commitment_is_opened_for_the_first_nonce_alone() {
    let (alice, bob) = (of(1), of(2));
    let own = Party { user: "alice", account: &alice };
    let pair = Pair { own, device: &of(3), other: Party { user: "bob", account: &bob } };
    let begun = Sas::start([9; 16], Secret::new([7; 32]));
    let first = begun.hear(pair, &of(4), &[1; 32]);
    let Heard::Compare { next, reveal: Some(_) } = first else { panic!("it is the first") };
    assert!(matches!(next.hear(pair, &of(4), &[1; 32]), Heard::Again(nonce) if nonce == [7; 32]));
    assert!(matches!(next.hear(pair, &of(4), &[2; 32]), Heard::Ignored));
    assert!(matches!(next.hear(pair, &of(5), &[1; 32]), Heard::Taken));
    assert!(matches!(next.hear(pair, &of(5), &[2; 32]), Heard::Taken));
    let last = next.last_move(pair, &of(4));
    assert!(matches!(last, Some(LastMove::Nonce(nonce)) if nonce == [7; 32]));
    assert!(next.last_move(pair, &of(5)).is_none());
    let SasStage::Compare(value) = next.stage() else { panic!("there is a value") };
    assert!(copy(&next).confirm(&SasValue([0; 11])).is_none());
    let confirmed = next.confirm(&value).unwrap();
    assert!(matches!(confirmed.hear(pair, &of(4), &[1; 32]), Heard::Ignored));
}

#[test]
fn an_asked_device_shows_nothing_before_the_commitment_is_opened() {
    let (alice, bob) = (of(1), of(2));
    let own = Party { user: "bob", account: &bob };
    let pair = Pair { own, device: &of(4), other: Party { user: "alice", account: &alice } };
    let transcript = transcript(&[9; 16], (pair.other, &of(3)), (own, &of(4)));
    let asked = Sas::asked([9; 16], commitment(&transcript, &[7; 32]), of(3));
    assert!(matches!(asked.hear(pair, &of(3), &[7; 32]), Heard::Ignored), "nobody accepted");
    let (answered, _) = asked.answer(Secret::new([8; 32])).unwrap();
    assert!(matches!(answered.hear(pair, &of(3), &[6; 32]), Heard::Forged));
    assert!(matches!(answered.hear(pair, &of(5), &[7; 32]), Heard::Ignored), "another device");
    assert!(matches!(answered.hear(pair, &of(3), &[7; 32]), Heard::Compare { reveal: None, .. }));
    assert!(copy(&answered).answer(Secret::new([1; 32])).is_none(), "an id is answered once");
    assert!(copy(&answered).confirm(&SasValue([0; 11])).is_none(), "there is nothing to confirm");
}

// ---- Somebody in between, with every strategy of one try.

/// One of the two, as the one in between sees them.
struct Side {
    account: u8,
    device: u8,
    /// The keys that are shown to this side for the other's: those of the one in between.
    shown: (u8, u8),
    sas: Option<Sas>,
    /// Counts the nonces that this side drew.
    attempt: u8,
    /// The attempts whose nonce the one in between knows.
    known: BTreeSet<u8>,
}

impl Side {
    fn copy(&self) -> Self {
        let sas = self.sas.as_ref().map(copy);
        Self { sas, known: self.known.clone(), ..*self }
    }

    fn nonce(&self) -> [u8; 32] {
        [self.account.wrapping_mul(16).wrapping_add(self.attempt); 32]
    }
}

/// What the one in between does next.
#[derive(Clone, Copy)]
enum Act {
    /// The person of a side begins, or accepts.
    Begin(usize),
    Accept(usize),
    /// To a side: a start under the n-th id with the n-th commitment, or the n-th nonce.
    Start(usize, usize, usize),
    Nonce(usize, usize),
}

struct World {
    sides: [Side; 2],
    ids: Vec<[u8; 16]>,
    nonces: Vec<[u8; 32]>,
    commitments: Vec<[u8; 32]>,
}

const NAMES: [&str; 2] = ["alice", "bob"];

/// What each attempt of each side came to show.
type Shown = BTreeMap<(usize, u8), BTreeSet<[u8; 11]>>;

impl World {
    /// Both sides believe that the keys of the one in between are the other's.
    fn new() -> Self {
        let side = |account, device, shown| {
            let (attempt, known) = (0, BTreeSet::new());
            Side { account, device, shown, sas: None, attempt, known }
        };
        Self {
            sides: [side(1, 2, (5, 6)), side(3, 4, (7, 8))],
            ids: Vec::from([[200; 16]]),
            nonces: Vec::from([[201; 32], [202; 32]]),
            commitments: Vec::new(),
        }
    }

    fn copy(&self) -> Self {
        Self {
            sides: [self.sides[0].copy(), self.sides[1].copy()],
            ids: self.ids.clone(),
            nonces: self.nonces.clone(),
            commitments: self.commitments.clone(),
        }
    }

    fn with_pair<T>(&self, at: usize, work: impl FnOnce(Pair<'_>, &IdentityKey) -> T) -> T {
        let side = &self.sides[at];
        let (account, device) = (of(side.account), of(side.device));
        let (shown, theirs) = (of(side.shown.0), of(side.shown.1));
        let own = Party { user: NAMES[at], account: &account };
        let other = Party { user: NAMES[1 - at], account: &shown };
        work(Pair { own, device: &device, other }, &theirs)
    }

    /// The commitments that can be sent to a side: to each known nonce, and those that were seen.
    fn commitments(&self, at: usize, id: &[u8; 16]) -> Vec<[u8; 32]> {
        let made = self.nonces.iter().map(|nonce| {
            self.with_pair(at, |pair, theirs| {
                let transcript = transcript(id, (pair.other, theirs), (pair.own, pair.device));
                commitment(&transcript, nonce)
            })
        });
        made.chain(self.commitments.iter().copied()).collect()
    }

    fn acts(&self) -> Vec<Act> {
        let mut all = Vec::new();
        for at in 0..2 {
            all.extend([Act::Begin(at), Act::Accept(at)]);
            for id in 0..self.ids.len() {
                let commitments = self.nonces.len() + self.commitments.len();
                all.extend((0..commitments).map(|commitment| Act::Start(at, id, commitment)));
            }
            all.extend((0..self.nonces.len()).map(|nonce| Act::Nonce(at, nonce)));
        }
        all
    }

    fn learn(&mut self, at: usize, nonce: [u8; 32]) {
        let side = &mut self.sides[at];
        side.known.insert(side.attempt);
        if !self.nonces.contains(&nonce) {
            self.nonces.push(nonce);
        }
    }

    /// None where nothing comes of it.
    fn after(&self, act: Act) -> Option<Self> {
        let mut next = self.copy();
        match act {
            Act::Begin(at) => {
                let side = &mut next.sides[at];
                if side.sas.is_some() {
                    return None;
                }
                side.attempt += 1;
                let id = [side.account + side.attempt * 16; 16];
                let sas = Sas::start(id, Secret::new(side.nonce()));
                let sent = next.with_pair(at, |pair, theirs| sas.last_move(pair, theirs));
                let Some(LastMove::Start(commitment)) = sent else { panic!("it has begun") };
                next.commitments.push(commitment);
                next.ids.push(id);
                next.sides[at].sas = Some(sas);
            }
            Act::Accept(at) => {
                let side = &mut next.sides[at];
                side.attempt += 1;
                let (sas, nonce) = side.sas.take()?.answer(Secret::new(side.nonce()))?;
                side.sas = Some(sas);
                next.learn(at, nonce);
            }
            Act::Start(at, id, commitment) => {
                let (id, side) = (self.ids[id], &self.sides[at]);
                let is_open = side.sas.as_ref().is_none_or(|sas| sas.stage() == SasStage::Asked);
                if !is_open || side.sas.as_ref().is_some_and(|sas| sas.id == id) {
                    return None;
                }
                let commitment = self.commitments(at, &id)[commitment];
                next.sides[at].sas = Some(Sas::asked(id, commitment, of(side.shown.1)));
            }
            Act::Nonce(at, nonce) => {
                let sas = self.sides[at].sas.as_ref()?;
                let nonce = self.nonces[nonce];
                match self.with_pair(at, |pair, theirs| sas.hear(pair, theirs, &nonce)) {
                    Heard::Compare { next: sas, reveal } => {
                        next.sides[at].sas = Some(sas);
                        if let Some(nonce) = reveal {
                            next.learn(at, nonce);
                        }
                    }
                    Heard::Forged => next.sides[at].sas = None,
                    Heard::Again(_) | Heard::Taken | Heard::Ignored => return None,
                }
            }
        }
        Some(next)
    }

    fn shown(&self, at: usize) -> Option<SasValue> {
        match self.sides[at].sas.as_ref()?.stage() {
            SasStage::Compare(value) => Some(value),
            _ => None,
        }
    }

    /// Tries everything from here on. Returns what can come to be shown.
    fn explore(&self, depth: usize, worlds: &mut usize, compared: &mut usize) -> Shown {
        *worlds += 1;
        let mut all = Shown::new();
        for at in 0..2 {
            if let Some(value) = self.shown(at) {
                all.entry((at, self.sides[at].attempt)).or_default().insert(value.0);
            }
        }
        if let (Some(one), Some(other)) = (self.shown(0), self.shown(1)) {
            *compared += 1;
            assert_ne!(one, other, "both sides show the same, and somebody is in between");
        }
        if depth > 0 {
            for act in self.acts() {
                let Some(next) = self.after(act) else { continue };
                for (of, values) in next.explore(depth - 1, worlds, compared) {
                    all.entry(of).or_default().extend(values);
                }
            }
        }
        // Once a side's nonce is known, nothing that is done changes what that side will show:
        // there is nothing to choose among, and so one guess.
        for ((at, attempt), values) in &all {
            if self.sides[*at].known.contains(attempt) {
                assert!(values.len() <= 1, "{} can be made to show {values:?}", NAMES[*at]);
            }
        }
        all
    }
}

/// Begins, answers, opens and accepts in every order, with every commitment, nonce and id that the
/// one in between has or was sent, on both sides at once.
#[test]
fn nobody_in_between_chooses_what_is_shown_nor_makes_it_the_same() {
    let (mut worlds, mut compared) = (0, 0);
    World::new().explore(5, &mut worlds, &mut compared);
    assert!(worlds > 5_000, "{worlds}");
    // The shortest way to two values: begin, start, accept, two nonces, and the opening.
    let (mut worlds, mut compared) = (0, 0);
    let begun = World::new().after(Act::Begin(0)).unwrap();
    let asked = begun.after(Act::Start(1, 0, 0)).unwrap();
    asked.explore(4, &mut worlds, &mut compared);
    assert!(compared > 0, "{worlds}");
}

#[test]
#[ignore = "it takes minutes"]
fn nobody_in_between_chooses_what_is_shown_in_seven_moves() {
    let (mut worlds, mut compared) = (0, 0);
    World::new().explore(7, &mut worlds, &mut compared);
    assert!(compared > 1_000, "{worlds} {compared}");
}
