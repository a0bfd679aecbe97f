//! Two parties, and a seeded network between them that loses, repeats, reorders, delays and forges.
#![allow(dead_code, unused_imports, reason = "each test crate uses a part of it")]
#![allow(
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a panic is how a test fails"
)]

use std::convert::Infallible;
use std::rc::Rc;

use rand_core::{Rng, TryCryptoRng, TryRng};
use sha2::{Digest, Sha256};
use subrosa::Error;
use subrosa::protocol::{Bundle, IdentityKeyPair, Message, Prekeys, Session};

#[path = "ledger.rs"]
mod ledger;

pub(crate) use ledger::{Ledger, MOST_CHAINS, MOST_KEPT, MOST_SKIPPED, OLD_EPOCHS, Place};

/// Seconds since the Unix epoch.
pub(crate) const NOW: u64 = 1_800_000_000;

/// What every message is bound to.
pub(crate) const ASSOCIATED_DATA: &[u8] = b"a chat";

/// `SHA-256(seed || counter)`: the same on every machine, so that a seed is a whole run.
pub(crate) struct Seeded {
    seed: [u8; 32],
    counter: u64,
    /// What is left of the last digest. Bytes are taken from its end.
    left: Vec<u8>,
    /// What was drawn as bytes, draw by draw.
    pub(crate) draws: Vec<Vec<u8>>,
}

impl Seeded {
    pub(crate) fn new(seed: u64, name: &str) -> Self {
        let digest = Sha256::new().chain_update(seed.to_be_bytes()).chain_update(name).finalize();
        Self { seed: digest.into(), counter: 0, left: Vec::new(), draws: Vec::new() }
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next_u64() % bound as u64) as usize
    }

    /// True in so many cases of a thousand.
    pub(crate) fn chance(&mut self, of_a_thousand: usize) -> bool {
        self.below(1000) < of_a_thousand
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    fn fill(&mut self, mut out: &mut [u8]) {
        while !out.is_empty() {
            if self.left.is_empty() {
                let digest =
                    Sha256::new().chain_update(self.seed).chain_update(self.counter.to_be_bytes());
                self.left = digest.finalize().to_vec();
                self.counter += 1;
            }
            let taken = self.left.len().min(out.len());
            let (now, later) = out.split_at_mut(taken);
            now.copy_from_slice(&self.left.split_off(self.left.len() - taken));
            now.reverse();
            out = later;
        }
    }
}

impl TryRng for Seeded {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_be_bytes(self.bytes()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_be_bytes(self.bytes()))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        self.fill(out);
        self.draws.push(out.to_vec());
        Ok(())
    }
}

impl TryCryptoRng for Seeded {}

/// Names the seed of a run that fails. `SUBROSA_SEED` runs that one alone.
pub(crate) struct Seed(pub(crate) u64);

impl Seed {
    /// As many as `SUBROSA_WORLDS` says, and what a world comes to for each, on as many threads as
    /// there are processors.
    pub(crate) fn worlds<T: Send>(default: u64, run: impl Fn(u64) -> T + Sync) -> Vec<T> {
        let worlds = std::env::var("SUBROSA_WORLDS").map_or(default, |said| said.parse().unwrap());
        let seeds = Self::chosen_or(1..=worlds);
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            let share = |first| seeds.iter().skip(first).step_by(threads).copied();
            let run = &run;
            let runs: Vec<_> = (0..threads)
                .map(|first| scope.spawn(move || share(first).map(run).collect::<Vec<T>>()))
                .collect();
            runs.into_iter().flat_map(|run| run.join().unwrap()).collect()
        })
    }

    pub(crate) fn chosen_or(defaults: impl IntoIterator<Item = u64>) -> Vec<u64> {
        match std::env::var("SUBROSA_SEED") {
            Ok(seed) => vec![seed.parse().expect("SUBROSA_SEED is a number")],
            Err(_) => defaults.into_iter().collect(),
        }
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with the seed {seed}; SUBROSA_SEED={seed} repeats it", seed = self.0);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Initiator,
    Responder,
}

impl Side {
    pub(crate) const BOTH: [Self; 2] = [Self::Initiator, Self::Responder];

    pub(crate) fn other(self) -> Self {
        match self {
            Self::Initiator => Self::Responder,
            Self::Responder => Self::Initiator,
        }
    }
}

/// A device.
pub(crate) struct Party {
    pub(crate) identity: IdentityKeyPair,
    pub(crate) prekeys: Prekeys,
    pub(crate) rng: Seeded,
}

impl Party {
    pub(crate) fn new(seed: u64, name: &str) -> Self {
        let mut rng = Seeded::new(seed, name);
        let identity = IdentityKeyPair::generate(&mut rng);
        let prekeys = Prekeys::generate(2, NOW, &mut rng).expect("there are ids");
        Self { identity, prekeys, rng }
    }

    /// By way of a bundle, as a server would hand it out.
    pub(crate) fn initiate(&mut self, responder: &Self) -> Session {
        let bundle =
            responder.prekeys.publish(&responder.identity).pop_bundle().expect("there are prekeys");
        let bundle = Bundle::decode(&bundle.encode()).expect("a bundle decodes");
        let bundle = bundle.verify(&self.identity.public_key(), NOW).expect("a bundle verifies");
        Session::initiate(&self.identity, &bundle, &mut self.rng).expect("a session is initiated")
    }
}

/// A session's copy, by way of its stored form.
pub(crate) fn stored_and_loaded(session: &Session) -> Session {
    Session::decode(&session.encode()).expect("what was stored loads")
}

/// A message, and what is known of it.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) from: Side,
    pub(crate) bytes: Vec<u8>,
    pub(crate) plaintext: Vec<u8>,
    pub(crate) place: Place,
}

/// One end of the conversation.
pub(crate) struct End {
    pub(crate) party: Party,
    /// None for the responder before the first message.
    pub(crate) session: Option<Session>,
    pub(crate) ledger: Ledger,
}

impl End {
    pub(crate) fn session(&self) -> &Session {
        self.session.as_ref().expect("there is a session")
    }

    pub(crate) fn session_mut(&mut self) -> &mut Session {
        self.session.as_mut().expect("there is a session")
    }

    /// All that a message could change.
    pub(crate) fn state(&self) -> Vec<u8> {
        match &self.session {
            Some(session) => session.encode().to_vec(),
            None => self.party.prekeys.encode().to_vec(),
        }
    }

    /// Decrypts, or responds where there is no session yet.
    pub(crate) fn open(&mut self, bytes: &[u8], associated_data: &[u8]) -> Result<Vec<u8>, Error> {
        let message = Message::decode(bytes)?;
        if let Some(session) = &mut self.session {
            return session.decrypt(&message, associated_data);
        }
        let (identity, prekeys) = (&self.party.identity, &mut self.party.prekeys);
        let (session, plaintext) = Session::respond(identity, prekeys, &message, associated_data)?;
        assert!(session.matches(&message));
        self.session = Some(session);
        Ok(plaintext)
    }
}

/// Two parties with one session. Every delivery is checked against the [`Ledger`].
pub(crate) struct Pair {
    pub(crate) initiator: End,
    pub(crate) responder: End,
    sent: u64,
}

impl Pair {
    /// Initiated; nothing was sent yet.
    pub(crate) fn new(seed: u64) -> Self {
        let mut initiator = Party::new(seed, "initiator");
        let responder = Party::new(seed, "responder");
        let session = Some(initiator.initiate(&responder));
        Self {
            initiator: End { party: initiator, session, ledger: Ledger::initiator() },
            responder: End { party: responder, session: None, ledger: Ledger::responder() },
            sent: 0,
        }
    }

    /// After one message each way.
    pub(crate) fn settled(seed: u64) -> Self {
        let mut pair = Self::new(seed);
        pair.turn(Side::Initiator);
        pair.turn(Side::Responder);
        pair
    }

    /// The same pair again, to try something on. The copy draws other randomness.
    pub(crate) fn copy(&self) -> Self {
        let copy = |end: &End| {
            let identity = IdentityKeyPair::decode(&end.party.identity.encode())
                .expect("what was stored loads");
            let prekeys =
                Prekeys::decode(&end.party.prekeys.encode()).expect("what was stored loads");
            let rng = Seeded::new(self.sent, "a copy's");
            let party = Party { identity, prekeys, rng };
            End {
                party,
                session: end.session.as_ref().map(stored_and_loaded),
                ledger: end.ledger.clone(),
            }
        };
        Self { initiator: copy(&self.initiator), responder: copy(&self.responder), sent: self.sent }
    }

    pub(crate) fn end(&self, side: Side) -> &End {
        match side {
            Side::Initiator => &self.initiator,
            Side::Responder => &self.responder,
        }
    }

    pub(crate) fn end_mut(&mut self, side: Side) -> &mut End {
        match side {
            Side::Initiator => &mut self.initiator,
            Side::Responder => &mut self.responder,
        }
    }

    /// A short message, different each time.
    pub(crate) fn send(&mut self, from: Side) -> Letter {
        let plaintext = format!("message {}", self.sent).into_bytes();
        self.send_text(from, plaintext)
    }

    pub(crate) fn send_text(&mut self, from: Side, plaintext: Vec<u8>) -> Letter {
        self.sent += 1;
        let End { party, session, ledger } = self.end_mut(from);
        let session = session.as_mut().expect("there is a session");
        party.rng.draws.clear();
        let before = session.post_quantum_epochs();
        let message =
            session.encrypt(&plaintext, ASSOCIATED_DATA, &mut party.rng).expect("it encrypts");
        let place = ledger.sent(before, session.post_quantum_epochs());
        Letter { from, bytes: message.encode(), plaintext, place }
    }

    pub(crate) fn send_many(&mut self, from: Side, count: u32) -> Vec<Letter> {
        (0..count).map(|_| self.send(from)).collect()
    }

    /// Sends a message and delivers it.
    pub(crate) fn turn(&mut self, from: Side) -> Letter {
        let letter = self.send(from);
        assert_eq!(self.deliver(&letter), Ok(()), "{letter:?}");
        letter
    }

    /// There and back.
    pub(crate) fn round_trip(&mut self, first: Side) {
        self.turn(first);
        self.turn(first.other());
    }

    /// Delivers a genuine message: the outcome is exactly what the ledger says, the plaintext is
    /// the one sent, and an error changes nothing.
    pub(crate) fn deliver(&mut self, letter: &Letter) -> Result<(), Error> {
        let end = self.end_mut(letter.from.other());
        let expected = end.ledger.expected(&letter.place);
        match expected {
            Ok(()) => {
                let opened = end.open(&letter.bytes, ASSOCIATED_DATA);
                assert_eq!(opened.as_ref(), Ok(&letter.plaintext), "{:?}", letter.place);
                end.ledger.received(&letter.place, end.session().post_quantum_epochs());
            }
            Err(ref error) => {
                let before = end.state();
                let opened = end.open(&letter.bytes, ASSOCIATED_DATA);
                assert_eq!(opened.as_ref(), Err(error), "{:?}", letter.place);
                assert!(before == end.state(), "an error changed the state: {:?}", letter.place);
            }
        }
        expected
    }

    /// Delivers what nobody sent: an error, and nothing changes.
    pub(crate) fn deliver_forged(
        &mut self,
        to: Side,
        bytes: &[u8],
        associated_data: &[u8],
    ) -> Error {
        let end = self.end_mut(to);
        let (before, prekeys) = (end.state(), end.party.prekeys.encode());
        let opened = end.open(bytes, associated_data);
        let error = opened.expect_err("a forgery is refused");
        assert!(before == end.state(), "a forgery changed the state");
        assert!(prekeys == end.party.prekeys.encode(), "a forgery changed the prekeys");
        error
    }

    /// The process ends and begins again from what is stored.
    pub(crate) fn restart(&mut self, side: Side) {
        let end = self.end_mut(side);
        end.session = end.session.as_ref().map(stored_and_loaded);
        let stored = end.party.prekeys.encode();
        end.party.prekeys = Prekeys::decode(&stored).expect("what was stored loads");
        let stored = end.party.identity.encode();
        end.party.identity = IdentityKeyPair::decode(&stored).expect("what was stored loads");
    }
}

/// How the network is for a while. Chances are of a thousand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// A message sent takes the long way: it comes late, or never.
    loss: usize,
    /// A delivered message comes again.
    repeat: usize,
    /// The next delivery is any of those on the way, instead of the oldest.
    reorder: usize,
    forge: usize,
    restart: usize,
    /// A message that took the long way arrives.
    late: usize,
    /// It is the initiator's turn to speak.
    initiator_speaks: usize,
    /// How many messages at once, at most.
    burst: usize,
    /// Only to this side does anything get through.
    only_to: Option<Side>,
}

impl Weather {
    const CALM: Self = Self {
        loss: 10,
        repeat: 10,
        reorder: 20,
        forge: 20,
        restart: 10,
        late: 20,
        initiator_speaks: 500,
        burst: 2,
        only_to: None,
    };

    fn next(rng: &mut Seeded) -> Self {
        let towards = if rng.chance(500) { Side::Initiator } else { Side::Responder };
        let speaks = if towards == Side::Responder { 980 } else { 20 };
        match rng.below(8) {
            0 => Self { loss: 0, burst: 1, ..Self::CALM },
            1 => Self { loss: 300, late: 200, burst: 4, ..Self::CALM },
            2 => Self { reorder: 900, repeat: 200, burst: 30, ..Self::CALM },
            3 => {
                Self { initiator_speaks: speaks, loss: 100, reorder: 300, burst: 10, ..Self::CALM }
            }
            4 => Self { initiator_speaks: speaks, only_to: Some(towards), burst: 8, ..Self::CALM },
            5 => Self { loss: 995, burst: 900, initiator_speaks: speaks, ..Self::CALM },
            6 => Self { forge: 400, repeat: 400, loss: 100, late: 200, restart: 100, ..Self::CALM },
            _ => Self::CALM,
        }
    }
}

/// What happened in a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) deliveries: u64,
    pub(crate) opened: u64,
    pub(crate) duplicate: u64,
    pub(crate) too_old: u64,
    pub(crate) unknown_header: u64,
    pub(crate) too_far_ahead: u64,
    pub(crate) forged: u64,
    pub(crate) restarts: u64,
    pub(crate) crashes: u64,
    pub(crate) epochs: u64,
    pub(crate) most_kept: usize,
}

/// A [`Pair`] with the network between them.
pub(crate) struct World {
    pub(crate) pair: Pair,
    rng: Seeded,
    weather: Weather,
    weather_left: usize,
    on_the_way: Vec<Rc<Letter>>,
    long_way: Vec<Rc<Letter>>,
    past: Vec<Rc<Letter>>,
    pub(crate) tally: Tally,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            pair: Pair::new(seed),
            rng: Seeded::new(seed, "network"),
            weather: Weather::CALM,
            weather_left: 200,
            on_the_way: Vec::new(),
            long_way: Vec::new(),
            past: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// Runs until so many messages were delivered; then the network recovers, and both sides still
    /// understand each other.
    pub(crate) fn run(&mut self, deliveries: u64) {
        while self.tally.deliveries < deliveries {
            self.step();
        }
        self.weather = Weather { loss: 0, only_to: None, ..Weather::CALM };
        while !self.on_the_way.is_empty() {
            self.arrive();
        }
        for side in Side::BOTH {
            if self.pair.end(side).session.is_some() {
                self.pair.round_trip(side);
            }
        }
        self.tally.epochs = self.pair.initiator.session().post_quantum_epochs();
    }

    /// Something happens: perhaps somebody speaks, something arrives, something goes wrong.
    pub(crate) fn step(&mut self) {
        if self.weather_left == 0 {
            self.weather = Weather::next(&mut self.rng);
            // A flood is short: it sends hundreds of messages for one that arrives.
            self.weather_left =
                if self.weather.burst > 100 { 10 } else { 20 + self.rng.below(300) };
        }
        self.weather_left -= 1;
        // While much is on the way nobody speaks, or an outage would outgrow everything else.
        if self.on_the_way.len() < 200 && self.rng.chance(600) {
            self.speak();
        }
        self.arrive();
        if self.rng.chance(self.weather.late) && !self.long_way.is_empty() {
            let at = self.rng.below(self.long_way.len());
            let letter = self.long_way.swap_remove(at);
            self.deliver(letter);
        }
        if self.rng.chance(self.weather.repeat) && !self.past.is_empty() {
            let letter = self.any_past();
            self.deliver(letter);
        }
        if self.rng.chance(self.weather.forge) {
            self.forge();
        }
        if self.rng.chance(self.weather.restart) {
            for side in Side::BOTH {
                self.pair.restart(side);
            }
            self.tally.restarts += 1;
        }
        for side in Side::BOTH {
            self.tally.most_kept = self.tally.most_kept.max(self.pair.end(side).ledger.kept());
        }
    }

    fn speak(&mut self) {
        let initiator = self.rng.chance(self.weather.initiator_speaks);
        let side = if initiator { Side::Initiator } else { Side::Responder };
        if self.pair.end(side).session.is_none() {
            return;
        }
        for _ in 0..=self.rng.below(self.weather.burst) {
            let plaintext = self.plaintext();
            let letter = Rc::new(self.pair.send_text(side, plaintext));
            if self.rng.chance(self.weather.loss) {
                self.long_way.push(letter);
            } else {
                self.on_the_way.push(letter);
            }
        }
    }

    /// Mostly short, at times empty, at times long; the same never twice but for the shortest.
    fn plaintext(&mut self) -> Vec<u8> {
        let most = [1, 40, 40, 40, 200, 200, 200, 5_000][self.rng.below(8)];
        let mut plaintext = vec![0; self.rng.below(most)];
        self.rng.fill(&mut plaintext);
        plaintext
    }

    fn arrive(&mut self) {
        if self.on_the_way.is_empty() {
            return;
        }
        let any = self.rng.chance(self.weather.reorder);
        let at = if any { self.rng.below(self.on_the_way.len()) } else { 0 };
        let letter = self.on_the_way.remove(at);
        match self.weather.only_to {
            Some(side) if side == letter.from => self.long_way.push(letter),
            _ => self.deliver(letter),
        }
    }

    fn deliver(&mut self, letter: Rc<Letter>) {
        if self.pair.end(letter.from.other()).session.is_some() && self.rng.chance(10) {
            self.crash(&letter);
        }
        self.tally.deliveries += 1;
        match self.pair.deliver(&letter) {
            Ok(()) => self.tally.opened += 1,
            Err(Error::Duplicate) => self.tally.duplicate += 1,
            Err(Error::TooOld) => self.tally.too_old += 1,
            Err(Error::UnknownHeader) => self.tally.unknown_header += 1,
            Err(Error::TooFarAhead) => {
                self.tally.too_far_ahead += 1;
                self.long_way.push(letter);
                return;
            }
            Err(other) => panic!("{other:?} of a genuine message: {letter:?}"),
        }
        self.past.push(letter);
    }

    /// The process ends after decrypting, before anything was stored: the message is as good as
    /// new.
    fn crash(&mut self, letter: &Letter) {
        let end = self.pair.end_mut(letter.from.other());
        let stored = end.state();
        let lost = end.open(&letter.bytes, ASSOCIATED_DATA);
        assert_eq!(lost.map(drop), end.ledger.expected(&letter.place));
        end.session = Some(Session::decode(&stored).expect("what was stored loads"));
        self.tally.crashes += 1;
    }

    fn any_past(&mut self) -> Rc<Letter> {
        let count = self.past.len();
        // Half of them recent.
        let among = if self.rng.chance(500) { count.min(100) } else { count };
        Rc::clone(&self.past[count - 1 - self.rng.below(among)])
    }

    fn forge(&mut self) {
        let fresh = !self.on_the_way.is_empty() && (self.past.is_empty() || self.rng.chance(700));
        let letter = if fresh {
            Rc::clone(&self.on_the_way[self.rng.below(self.on_the_way.len())])
        } else if self.past.is_empty() {
            return;
        } else {
            self.any_past()
        };
        let (bytes, associated_data) = self.forgery(&letter);
        self.tally.deliveries += 1;
        self.tally.forged += 1;
        self.pair.deliver_forged(letter.from.other(), &bytes, associated_data);
    }

    fn forgery(&mut self, letter: &Letter) -> (Vec<u8>, &'static [u8]) {
        let mut bytes = letter.bytes.clone();
        let at = self.rng.below(bytes.len());
        match self.rng.below(8) {
            0 => bytes.truncate(at),
            1 => bytes.push(0),
            2 => return (bytes, b"another chat"),
            3 if !self.past.is_empty() => {
                // The front of this one, the rest of another: a header from here with a payload
                // from there.
                let other = self.any_past();
                let cut = if self.rng.chance(500) { at } else { 118 };
                if other.bytes.get(cut..) == bytes.get(cut..) {
                    bytes[at] ^= 1;
                } else {
                    bytes.truncate(cut);
                    bytes.extend_from_slice(other.bytes.get(cut..).unwrap_or(b"."));
                }
                if bytes == letter.bytes || bytes == other.bytes {
                    bytes.push(1);
                }
            }
            _ => bytes[at] ^= 1 << self.rng.below(8),
        }
        (bytes, ASSOCIATED_DATA)
    }
}
