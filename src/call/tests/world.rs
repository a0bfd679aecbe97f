//! A world of up to eight devices in one call, with a server that does what it likes: who is in
//! hears who is in, nobody else does, and nothing else than what was said is heard.

use alloc::collections::{BTreeMap, BTreeSet};

use super::*;

/// Milliseconds between two frames of a device.
const FRAME: u64 = 40;

/// What the server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    Honest,
    /// One signal in eight is lost for good, others come seconds late, many come twice.
    Hostile,
}

/// How long somebody was not heard who should have been.
#[derive(Debug, Default)]
struct Gaps {
    /// From when both were in the call.
    joining: u64,
    /// After that.
    between: u64,
    frames: u64,
    lost: u64,
}

struct World {
    seed: u64,
    state: u64,
    server: Server,
    now: u64,
    rng: Replay,
    /// By number; those that are out of the call, too, listen on with what they have.
    calls: BTreeMap<u32, Call>,
    /// Since when a device is in the call.
    is_in: BTreeMap<u32, u64>,
    listed: BTreeSet<u32>,
    /// When each device learned that another one is gone, as which instance, and whether it was
    /// removed.
    gone: BTreeMap<(u32, u32), (u64, Option<u64>, bool)>,
    /// When each device learned that another one is there.
    met: BTreeMap<(u32, u32), u64>,
    signals: Vec<(u64, u32, u32, Signal)>,
    frames: Vec<(u64, u32, Vec<u8>)>,
    past: Vec<(u32, u32, Signal)>,
    heard: BTreeMap<(u32, u32), (u64, bool)>,
    gaps: Gaps,
}

/// The device that the server adds to nobody's list.
const GHOST: u32 = 31;

impl World {
    fn new(seed: u64, server: Server) -> Self {
        Self {
            seed,
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            server,
            now: START,
            rng: Replay::stream("world", seed << 32),
            calls: BTreeMap::new(),
            is_in: BTreeMap::new(),
            listed: (0..8).collect(),
            gone: BTreeMap::new(),
            met: BTreeMap::new(),
            signals: Vec::new(),
            frames: Vec::new(),
            past: Vec::new(),
            heard: BTreeMap::new(),
            gaps: Gaps::default(),
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 11) % bound
    }

    fn enter(&mut self, number: u32) {
        let mut call = Call::new(CALL, &address(number), Suite::default(), self.now, &mut self.rng);
        call.set_members(&members(self.listed.iter().copied()), self.now, &mut self.rng);
        self.calls.insert(number, call);
        self.is_in.insert(number, self.now);
        self.heard.retain(|(from, by), _| *from != number && *by != number);
        // A new instance does not know who left before.
        self.gone.retain(|(by, of), _| *by != number && *of != number);
        self.met.retain(|(by, of), _| *by != number && *of != number);
    }

    fn out(&mut self, number: u32) {
        self.is_in.remove(&number);
        self.heard.retain(|(from, by), _| *from != number && *by != number);
    }

    /// Somebody does something, now and then.
    fn act(&mut self) {
        if self.below(100) != 0 {
            return;
        }
        let number = u32::try_from(self.below(8)).unwrap();
        match (self.is_in.contains_key(&number), self.below(6)) {
            (false, _) if self.listed.contains(&number) => self.enter(number),
            // It leaves, and listens on.
            (true, 0) => {
                let instance = message::instance(self.calls[&number].instance);
                let to: Vec<Address> = self.calls[&number].present().cloned().collect();
                let outgoing = self.calls[&number].outgoing(to, SignalKind::Leave, instance);
                self.out(number);
                outgoing.into_iter().for_each(|outgoing| self.post(number, outgoing));
            }
            // It crashes, and comes back.
            (true, 1) => self.enter(number),
            // It is removed from its user's list, and listens on.
            (true, 2) if self.listed.len() > 6 => {
                self.listed.remove(&number);
                self.out(number);
                self.lists();
                for by in 0..8 {
                    self.gone.insert((by, number), (self.now, None, true));
                }
            }
            (_, 3) => {
                // It may be in again, and what it said before may come late.
                if self.listed.insert(number) {
                    self.gone.retain(|(_, of), _| *of != number);
                }
                self.lists();
            }
            _ => {}
        }
    }

    fn lists(&mut self) {
        let members = members(self.listed.iter().copied());
        for (number, call) in &mut self.calls {
            if self.is_in.contains_key(number) {
                call.set_members(&members, self.now, &mut self.rng);
            }
        }
    }

    fn post(&mut self, from: u32, outgoing: Outgoing) {
        for to in outgoing.to {
            let Some(to) = (0..8).find(|number| address(*number) == to) else {
                panic!("seed {}: a key for {to}", self.seed);
            };
            let mut at = self.now + 30 + self.below(120);
            if self.server == Server::Hostile {
                match self.below(8) {
                    0 => continue,
                    1 => at += self.below(10_000),
                    2 => {
                        let again = self.now + self.below(20_000);
                        self.signals.push((again, from, to, outgoing.signal.clone()));
                    }
                    _ => {}
                }
            }
            self.past.push((from, to, outgoing.signal.clone()));
            self.signals.push((at, from, to, outgoing.signal.clone()));
        }
    }

    fn deliver(&mut self) {
        let due: Vec<_> = self.signals.extract_if(.., |(at, ..)| *at <= self.now).collect();
        for (_, from, to, signal) in due {
            // A device that is out takes what comes: it might have a key.
            let Some(call) = self.calls.get_mut(&to) else { continue };
            let before = call.present().any(|device| *device == address(from));
            drop(call.take(&received(from, &signal), self.now));
            let after = call.present().any(|device| *device == address(from));
            let instance = call.roster.devices.get(&address(from)).and_then(|of| of.instance);
            if before && !after {
                self.gone.insert((to, from), (self.now, instance, false));
            }
            // Only a newer instance is there again.
            if !before && after && self.gone.get(&(to, from)).is_some_and(|gone| instance > gone.1)
            {
                self.gone.remove(&(to, from));
            }
            if after && (!before || signal.kind == SignalKind::Join) {
                self.met.entry((to, from)).or_insert(self.now);
            }
        }
        // A device on nobody's list says that it is there.
        if self.now.is_multiple_of(5_000) {
            for (number, call) in &mut self.calls {
                let ghost = Signal {
                    call: CALL,
                    kind: SignalKind::Join,
                    keep: 60,
                    body: message::instance(self.now),
                };
                if self.is_in.contains_key(number) {
                    assert!(call.take(&received(GHOST, &ghost), self.now).is_err());
                }
            }
        }
    }

    fn step(&mut self) {
        self.now += 10;
        self.act();
        self.deliver();
        let numbers: Vec<u32> = self.is_in.keys().copied().collect();
        for number in &numbers {
            let call = self.calls.get_mut(number).unwrap();
            for outgoing in call.tick(self.now, &mut self.rng) {
                self.post(*number, outgoing);
            }
        }
        if self.now.is_multiple_of(FRAME) {
            for number in numbers {
                let mut frame = [&number.to_be_bytes()[..], &self.now.to_be_bytes()].concat();
                let call = self.calls.get_mut(&number).unwrap();
                call.seal(Stream::Audio, 0, &mut frame, self.now).unwrap();
                for _ in 0..=u64::from(self.below(10) == 0) {
                    if self.below(50) != 0 {
                        let at = self.now + 10 + self.below(100);
                        self.frames.push((at, number, frame.clone()));
                    }
                }
            }
        }
        let due: Vec<_> = self.frames.extract_if(.., |(at, ..)| *at <= self.now).collect();
        for (_, from, frame) in due {
            self.forward(from, &frame);
        }
    }

    /// The SFU gives a frame to everybody that it likes.
    fn forward(&mut self, from: u32, frame: &[u8]) {
        let everybody: Vec<u32> = self.calls.keys().copied().filter(|by| *by != from).collect();
        for by in everybody {
            let mut opened = frame.to_vec();
            let call = self.calls.get_mut(&by).unwrap();
            let result = call.open(&address(from), 0, &mut opened, self.now);
            let should = self.is_in.get(&by).zip(self.is_in.get(&from));
            let should = should.map(|(one, other)| *one.max(other));
            match result {
                Ok(_) => self.check(from, by, &opened),
                Err(_) => assert_eq!(opened, frame),
            }
            let Some(since) = should else { continue };
            let (last, has_heard) = *self.heard.entry((from, by)).or_insert((since, false));
            self.gaps.frames += 1;
            match result {
                Ok(_) => {
                    self.heard.insert((from, by), (self.now, true));
                    let gap = self.now - last;
                    let most =
                        if has_heard { &mut self.gaps.between } else { &mut self.gaps.joining };
                    *most = gap.max(*most);
                }
                Err(Error::Duplicate) => {}
                Err(_) => self.gaps.lost += 1,
            }
        }
    }

    /// What was opened is what was said, and was for who opened it.
    fn check(&self, from: u32, by: u32, opened: &[u8]) {
        let said = u64::from_be_bytes(opened[4..].try_into().unwrap());
        assert_eq!(opened[..4], from.to_be_bytes(), "seed {}", self.seed);
        assert!(said <= self.now && self.now - said < 1_000);
        let place =
            alloc::format!("seed {}: {by} hears {from}, said at {}", self.seed, said - START);
        if let Some((gone, _, is_removed)) = self.gone.get(&(from, by)) {
            let more = if *is_removed { 0 } else { LEAD };
            assert!(said < gone + more, "{place}, gone at {}", gone - START);
        }
        // Who came later than ten seconds before hears nothing of it.
        if let Some(met) = self.met.get(&(from, by)) {
            assert!(said + YOUNG + LEAD >= *met, "{place}, met at {}", met - START);
        }
    }
}

fn run(seed: u64, server: Server, seconds: u64) -> Gaps {
    let mut world = World::new(seed, server);
    for number in 0..4 {
        world.enter(number);
    }
    for _ in 0..seconds * 100 {
        world.step();
    }
    assert!(world.gaps.frames > seconds * 50, "seed {seed}: {:?}", world.gaps);
    world.gaps
}

/// `SUBROSA_SEEDS` has the last seed, for a long run.
fn seeds() -> u64 {
    std::env::var("SUBROSA_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(4)
}

fn most(server: Server) -> Gaps {
    let mut most = Gaps::default();
    for seed in 1..=seeds() {
        let Gaps { joining, between, frames, lost } = run(seed, server, 60);
        most.joining = most.joining.max(joining);
        most.between = most.between.max(between);
        (most.frames, most.lost) = (most.frames + frames, most.lost + lost);
    }
    std::println!("{server:?}: {most:?}");
    most
}

#[test]
fn nobody_waits_long_where_signals_arrive() {
    let gaps = most(Server::Honest);
    assert!(gaps.joining <= 2_000, "{gaps:?}");
    assert!(gaps.between <= 1_000, "{gaps:?}");
    assert!(gaps.lost * 20 < gaps.frames, "{gaps:?}");
}

#[test]
fn nobody_else_hears_anything_whatever_the_server_does() {
    let gaps = most(Server::Hostile);
    assert!(gaps.joining <= 30_000, "{gaps:?}");
    assert!(gaps.between <= 20_000, "{gaps:?}");
}
