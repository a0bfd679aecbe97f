//! A call by its rules, and a world of calls.

use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::crypto::secret::Secret;
use crate::identity::{IdentityKey, IdentityKeyPair};
use crate::testing::Replay;
use crate::time::UnixTime;

mod world;

const CALL: CallId = CallId::new([1; 16]);
const START: u64 = 1_800_000_000_000;

fn identity(number: u64) -> IdentityKey {
    IdentityKeyPair::generate(&mut Replay::stream("device", number)).public_key()
}

fn at(number: u32) -> usize {
    usize::try_from(number).unwrap()
}

fn address(number: u32) -> Address {
    Address::new(["alice", "bob", "carol", "dave"][at(number) % 4], number / 4 + 1)
}

fn members(of: impl IntoIterator<Item = u32>) -> Members {
    let device = |number| (address(number), identity(u64::from(number)));
    Members { devices: of.into_iter().map(device).collect() }
}

/// As a client hands it out.
fn received(from: u32, signal: &Signal) -> ReceivedSignal {
    ReceivedSignal {
        from: address(from),
        identity: identity(u64::from(from)),
        call: signal.call,
        kind: signal.kind,
        expires: UnixTime::MAX,
        body: signal.body.clone(),
    }
}

/// Calls of devices, all of whose signals arrive at once.
struct Room {
    calls: Vec<Option<Call>>,
    rng: Replay,
    now: u64,
    /// Every signal, with who sent it and to whom.
    said: Vec<(u32, Address, Signal)>,
}

impl Room {
    fn new(count: u32) -> Self {
        let mut room =
            Self { calls: Vec::new(), rng: Replay::counting(), now: START, said: Vec::new() };
        for number in 0..count {
            let call = Call::new(CALL, &address(number), Suite::default(), room.now, &mut room.rng);
            room.calls.push(Some(call));
            room.members(number, 0..count);
        }
        room.settle();
        room
    }

    fn call(&mut self, number: u32) -> &mut Call {
        self.calls[at(number)].as_mut().unwrap()
    }

    fn members(&mut self, number: u32, of: impl IntoIterator<Item = u32>) {
        let now = self.now;
        let call = self.calls[at(number)].as_mut().unwrap();
        call.set_members(&members(of), now, &mut self.rng);
    }

    /// Sends the signals that are due, until none is.
    fn settle(&mut self) {
        for _ in 0..10 {
            let mut sent = Vec::new();
            for (number, call) in (0..).zip(&mut self.calls) {
                let Some(call) = call else { continue };
                for Outgoing { to, signal } in call.tick(self.now, &mut self.rng) {
                    sent.extend(to.into_iter().map(|to| (number, to, signal.clone())));
                }
            }
            if sent.is_empty() {
                return;
            }
            for (from, to, signal) in &sent {
                self.deliver(*from, to, signal);
            }
            self.said.extend(sent);
        }
        panic!("signals without end");
    }

    fn deliver(&mut self, from: u32, to: &Address, signal: &Signal) {
        for (number, call) in (0..).zip(&mut self.calls) {
            if let Some(call) = call.as_mut().filter(|_| address(number) == *to) {
                drop(call.take(&received(from, signal), self.now));
            }
        }
    }

    fn pass(&mut self, milliseconds: u64) {
        let end = self.now + milliseconds;
        while self.now < end {
            self.now = end.min(self.now + 250);
            self.settle();
        }
    }

    fn frame(&mut self, from: u32) -> Vec<u8> {
        let now = self.now;
        let mut frame = vec![from.to_le_bytes()[0], 7, 7, 7];
        self.call(from).seal(Stream::Video, 1, &mut frame, now).unwrap();
        frame
    }

    fn hears(&mut self, by: u32, from: u32, frame: &[u8]) -> Result<Stream, Error> {
        let (now, from) = (self.now, address(from));
        self.call(by).open(&from, 1, &mut frame.to_vec(), now)
    }

    fn generation(&mut self, of: u32) -> u32 {
        self.call(of).sending.newest().number
    }
}

#[test]
fn who_is_in_hears_who_is_in() {
    let mut room = Room::new(4);
    room.pass(2_000);
    for from in 0..4 {
        let frame = room.frame(from);
        for by in (0..4).filter(|by| *by != from) {
            assert_eq!(room.hears(by, from, &frame), Ok(Stream::Video), "{by} hears {from}");
            assert_eq!(room.hears(by, from, &frame), Err(Error::Duplicate));
            // Under another name it is nobody's.
            let other = (0..4).find(|other| ![by, from].contains(other)).unwrap();
            let refused = room.hears(by, other, &frame);
            assert!(matches!(refused, Err(Error::Decrypt | Error::Duplicate)), "{refused:?}");
        }
        assert_eq!(room.call(from).present().count(), 3);
    }
}

#[test]
fn who_joins_gets_a_young_key_or_a_new_one() {
    for (age, expected) in [(YOUNG - 1, 0), (YOUNG, 1)] {
        let mut room = Room::new(2);
        let before = room.generation(0);
        assert_eq!(before, 0);
        room.pass(age);
        let late = room.frame(0);
        let now = room.now;
        room.calls.push(Some(Call::new(CALL, &address(2), Suite::default(), now, &mut room.rng)));
        for number in 0..3 {
            room.members(number, 0..3);
        }
        room.settle();
        assert_eq!(room.generation(0), expected);
        // What was said before is open to who joins within ten seconds, and to nobody after.
        assert_eq!(room.hears(2, 0, &late).is_ok(), expected == 0);
        room.pass(1_000);
        let frame = room.frame(0);
        assert_eq!(room.hears(2, 0, &frame), Ok(Stream::Video));
        assert_eq!(room.hears(1, 0, &frame), Ok(Stream::Video));
    }
}

#[test]
fn who_leaves_hears_a_second_more_and_who_is_removed_nothing() {
    let mut room = Room::new(3);
    room.pass(2_000);
    // The third leaves, and goes on listening with the keys that it has.
    let instance = room.call(2).instance;
    let signal = Signal {
        call: CALL,
        kind: SignalKind::Leave,
        keep: KEEP,
        body: message::instance(instance),
    };
    for number in 0..2 {
        room.deliver(2, &address(number), &signal);
    }
    let now = room.now;
    let told: Vec<Outgoing> = room.calls[0].as_mut().unwrap().tick(now, &mut room.rng);
    assert!(told.iter().all(|outgoing| !outgoing.to.contains(&address(2))), "{told:?}");
    room.settle();
    let frame = room.frame(0);
    assert_eq!(room.hears(2, 0, &frame), Ok(Stream::Video));
    room.now += LEAD;
    let frame = room.frame(0);
    assert_eq!(room.hears(2, 0, &frame), Err(Error::WaitingForKey));
    // It cannot come back as the same instance.
    let join = Signal { kind: SignalKind::Join, ..signal };
    let (join, now) = (received(2, &join), room.now);
    assert_eq!(room.call(0).take(&join, now), Err(Error::StaleKey));

    let mut room = Room::new(3);
    room.pass(2_000);
    room.members(0, 0..2);
    let frame = room.frame(0);
    assert_eq!(room.hears(2, 0, &frame), Err(Error::WaitingForKey));
    room.settle();
    let frame = room.frame(0);
    assert_eq!(room.hears(1, 0, &frame), Ok(Stream::Video));
    assert_eq!(room.hears(2, 0, &frame), Err(Error::WaitingForKey));
    // Nor is it heard, or told anything, whatever it says.
    let frame = room.frame(2);
    assert!(matches!(room.hears(0, 2, &frame), Err(Error::UnknownDevice(_))));
    let before = room.said.len();
    room.pass(120_000);
    assert!(room.said[before..].iter().all(|(from, to, _)| *from != 0 || *to != address(2)));
}

#[test]
fn a_device_that_has_the_number_of_another_one_by_now_is_in_and_that_one_is_out() {
    let mut room = Room::new(2);
    room.pass(2_000);
    let mut members = members(0..2);
    members.devices.insert(address(1), identity(9));
    let now = room.now;
    room.calls[0].as_mut().unwrap().set_members(&members, now, &mut room.rng);
    let body = message::instance(room.call(1).instance);
    let join = Signal { call: CALL, kind: SignalKind::Join, keep: KEEP, body };
    let join = received(1, &join);
    let unknown = Err(Error::UnknownDevice(Box::new(address(1))));
    assert_eq!(room.call(0).take(&join, now), unknown);
    let frame = room.frame(0);
    assert_eq!(room.hears(1, 0, &frame), Err(Error::WaitingForKey));
    let join = ReceivedSignal { identity: identity(9), ..join };
    assert_eq!(room.call(0).take(&join, now), Ok(Taken::Handled));
}

#[test]
fn a_silent_device_is_out_after_ninety_seconds() {
    let mut room = Room::new(3);
    room.pass(2_000);
    let last = room.frame(0);
    let crashed = room.calls[2].take().unwrap();
    room.pass(roster::SILENT + RENEWED);
    assert_eq!(room.call(0).present().count(), 1);
    room.pass(LEAD);
    let frame = room.frame(0);
    room.calls[2] = Some(crashed);
    assert_eq!(room.hears(2, 0, &last), Ok(Stream::Video));
    assert_eq!(room.hears(2, 0, &frame), Err(Error::WaitingForKey));
    // It was away for long, and comes back as it was.
    room.pass(2_000);
    for (from, by) in [(0, 2), (2, 0), (1, 2), (2, 1)] {
        let frame = room.frame(from);
        assert_eq!(room.hears(by, from, &frame), Ok(Stream::Video), "{by} hears {from}");
    }
}

/// A device is heard of this often at least.
const RENEWED: u64 = roster::RENEW;

#[test]
fn a_new_instance_replaces_the_keys_of_the_one_before() {
    let mut room = Room::new(2);
    room.pass(2_000);
    let late = room.frame(1);
    let old =
        room.said.iter().find(|(from, _, signal)| *from == 1 && signal.kind == SignalKind::Key);
    let old = received(1, &old.unwrap().2);
    room.now += 1;
    let now = room.now;
    room.calls[1] = Some(Call::new(CALL, &address(1), Suite::default(), now, &mut room.rng));
    room.members(1, 0..2);
    room.settle();
    let now = room.now;
    assert_eq!(room.call(0).take(&old, now), Err(Error::StaleKey));
    assert_eq!(room.hears(0, 1, &late), Err(Error::Decrypt));
    let frame = room.frame(1);
    assert_eq!(room.hears(0, 1, &frame), Ok(Stream::Video));
    room.pass(2_000);
    let frame = room.frame(0);
    assert_eq!(room.hears(1, 0, &frame), Ok(Stream::Video));
}

#[test]
fn a_lost_key_is_asked_for_once_a_second() {
    let mut room = Room::new(2);
    room.pass(30_000);
    // The key of the next generation gets lost.
    let now = room.now;
    room.call(0).rotate_within(LEAD);
    let rng = &mut Replay::stream("lost", 0);
    assert!(!room.call(0).tick(now, rng).is_empty());
    room.now += LEAD;
    let mut asked = 0;
    for _ in 0..30 {
        room.now += 100;
        let now = room.now;
        let frame = room.frame(0);
        assert_eq!(room.hears(1, 0, &frame), Err(Error::WaitingForKey));
        let said = room.call(1).tick(now, rng);
        asked += said.iter().filter(|said| said.signal.kind == SignalKind::KeyWanted).count();
    }
    assert_eq!(asked, 3);
    room.now += 1_000;
    let frame = room.frame(0);
    assert_eq!(room.hears(1, 0, &frame), Err(Error::WaitingForKey));
    room.settle();
    assert_eq!(room.hears(1, 0, &frame), Ok(Stream::Video));
}

#[test]
fn signals_that_are_not_meant_change_nothing() {
    let mut room = Room::new(2);
    room.pass(1_000);
    let now = room.now;
    let key = |instance: u64, generation: u32, secret: u8| {
        let secret = Secret::new([secret; 32]);
        let message = KeyMessage { instance, suite: Suite::default(), generation, secret };
        Signal { call: CALL, kind: SignalKind::Key, keep: 60, body: message.encode() }
    };
    let with = |kind, body: &[u8]| {
        let body = Zeroizing::new(body.to_vec());
        Signal { call: CALL, kind, keep: 60, body }
    };
    let instance = room.call(1).instance;
    let other = Signal { call: CallId::new([2; 16]), ..key(instance, 9, 9) };
    let cases = [
        ("another call", received(1, &other), Ok(Taken::OtherCall)),
        ("the app's", received(1, &with(SignalKind::Offer, b"sdp")), Ok(Taken::ForApp)),
        ("its own", received(0, &key(instance, 9, 9)), Err(Error::OwnIdentity)),
        ("an earlier instance", received(1, &key(instance - 1, 9, 9)), Err(Error::StaleKey)),
        ("another secret", received(1, &key(instance, 0, 9)), Err(Error::StaleKey)),
        ("no instance", received(1, &with(SignalKind::Join, b"")), Err(Error::Malformed)),
        ("a long join", received(1, &with(SignalKind::Join, &[0; 9])), Err(Error::Malformed)),
        ("a short key", received(1, &with(SignalKind::Key, &[0; 45])), Err(Error::Malformed)),
        (
            "another identity",
            ReceivedSignal { identity: identity(9), ..received(1, &key(instance, 9, 9)) },
            Err(Error::UnknownDevice(Box::new(address(1)))),
        ),
        (
            "a device that the server made up",
            received(2, &key(instance, 0, 9)),
            Err(Error::UnknownDevice(Box::new(address(2)))),
        ),
    ];
    for (name, signal, expected) in cases {
        assert_eq!(room.call(0).take(&signal, now), expected, "{name}");
    }
    let frame = room.frame(1);
    assert_eq!(room.hears(0, 1, &frame), Ok(Stream::Video));
    assert_eq!(room.call(0).present().count(), 1);
}

#[test]
fn a_device_that_comes_and_goes_makes_no_flood() {
    let mut room = Room::new(8);
    room.pass(15_000);
    let (before, generation) = (room.said.len(), room.generation(0));
    // For ten seconds it leaves and joins as fast as it can, each time as a new instance.
    for turn in 0..1_000_u64 {
        room.now += 10;
        for kind in [SignalKind::Leave, SignalKind::Join] {
            let body = message::instance(
                START + 1_000_000 + turn * 2 + u64::from(kind == SignalKind::Join),
            );
            let signal = received(1, &Signal { call: CALL, kind, keep: 60, body });
            let now = room.now;
            room.call(0).take(&signal, now).unwrap();
        }
        room.settle();
    }
    // A new key at most once a second, and at most two signals a second to anybody.
    assert!(room.generation(0) - generation <= 11, "{}", room.generation(0));
    let sent = room.said[before..].iter().filter(|(from, ..)| *from == 0).count();
    assert!(sent <= 7 * 30, "{sent}");
}

#[test]
fn devices_that_come_and_go_without_a_word_leave_nothing() {
    let mut room = Room::new(4);
    room.pass(15_000);
    // Somebody who is in the call links and removes devices as fast as they can.
    for turn in 1..200 {
        room.members(0, (0..4).chain((0..8).map(|number| turn * 32 + number * 4 + 1)));
        room.now += 10;
    }
    assert_eq!(room.call(0).roster.devices.len(), 3 + 8);
    // Who was heard of and is out is remembered.
    room.members(0, 0..3);
    assert_eq!(room.call(0).roster.devices.len(), 3);
}

#[test]
fn time_that_goes_back_stands_still() {
    let mut room = Room::new(2);
    room.pass(2_000);
    let mut frame = b"?sound".to_vec();
    room.call(0).seal(Stream::Audio, 1, &mut frame, 0).unwrap();
    assert_eq!(room.call(1).open(&address(0), 1, &mut frame, 0), Ok(Stream::Audio));
    assert!(room.call(0).next_at() >= Some(START + 2_000));
}

#[test]
fn what_is_exported_is_what_is_used() {
    let mut room = Room::new(2);
    room.pass(2_000);
    let frame = room.frame(0);
    let kid = frame::split(1, &frame).unwrap().0.kid;
    let keys = room.call(1).export(&address(0));
    let key = keys.iter().find(|key| key.kid == kid).unwrap();
    let mut opener = Opener::new(key.suite, key.kid, key.base_key());
    opener.open(1, &mut { frame }).unwrap();
    assert_eq!(key.stream, Stream::Video);
    let now = room.now;
    let sent = room.call(0).export_sender(Stream::Data, now).unwrap();
    let mut sealer = Sealer::new(sent.suite, sent.kid, sent.base_key());
    let mut data = b"data".to_vec();
    sealer.seal(0, &mut data).unwrap();
    assert_eq!(room.call(1).open(&address(0), 0, &mut data, now), Ok(Stream::Data));
    assert!(room.call(0).export_sender(Stream::Video, now).is_none());
    assert!(room.call(0).take_sender(Stream::Video, now).is_some());
    assert!(room.call(0).take_sender(Stream::Video, now).is_none());
    let mut more = b"more".to_vec();
    let refused = room.call(0).seal(Stream::Video, 0, &mut more, now);
    assert_eq!((refused, more.as_slice()), (Err(Error::NotPermitted), &b"more"[..]));
    // A new key comes with new sealers.
    room.call(0).rotate_within(0);
    room.settle();
    let now = room.now;
    assert!(room.call(0).take_sender(Stream::Video, now).is_some());
    assert!(room.call(1).export(&address(3)).is_empty());
}

#[test]
fn a_worker_that_has_only_keys_hears_on_when_they_change() {
    let mut room = Room::new(2);
    room.pass(2_000);
    let mut worker = Openers::new();
    let mut seen = Vec::new();
    for turn in 0..3 {
        let now = room.now;
        let key = room.call(0).export_sender(Stream::Video, now).unwrap();
        assert!(room.call(0).export_sender(Stream::Video, now).is_none(), "in one place");
        let mut sealer = Sealer::from(key);
        let mut frame = b"a picture".to_vec();
        sealer.seal(0, &mut frame).unwrap();
        if turn == 2 {
            // Keys that were lost on the way to the worker.
            assert_eq!(worker.open(0, &mut frame.clone()), Err(Error::WaitingForKey));
        }
        worker.set(&room.call(1).export(&address(0)));
        assert_eq!(worker.open(0, &mut frame.clone()), Ok(Stream::Video));
        assert_eq!(worker.open(0, &mut frame.clone()), Err(Error::Duplicate));
        seen.push(frame);
        room.call(0).rotate_within(0);
        room.settle();
    }
    worker.set(&room.call(1).export(&address(0)));
    for frame in seen {
        assert_eq!(worker.open(0, &mut frame.clone()), Err(Error::Duplicate));
    }
}

#[test]
fn what_a_worker_misses_is_asked_for() {
    let mut room = Room::new(2);
    room.pass(2_000);
    let (now, before) = (room.now, room.said.len());
    room.call(1).missed(&address(0), now).unwrap();
    room.settle();
    let said: Vec<_> =
        room.said[before..].iter().map(|(from, _, said)| (*from, said.kind)).collect();
    assert!(said.contains(&(1, SignalKind::KeyWanted)), "{said:?}");
    assert!(said.contains(&(0, SignalKind::Key)), "{said:?}");
    let stranger = address(9);
    let unknown = Err(Error::UnknownDevice(Box::new(stranger.clone())));
    assert_eq!(room.call(1).missed(&stranger, now), unknown);
    // Frames of somebody who left, or never came, ask for nothing.
    assert_eq!(room.call(1).instance_of(&address(0)), Some(room.call(0).instance()));
    let left = room.calls[0].take().unwrap().leave();
    for signal in &left {
        room.call(1).take(&received(0, &signal.signal), now).unwrap();
    }
    assert_eq!(room.call(1).instance_of(&address(0)), None);
    let before = room.said.len();
    room.call(1).missed(&address(0), now).unwrap();
    room.settle();
    assert!(room.said[before..].iter().all(|(.., said)| said.kind != SignalKind::KeyWanted));
}

#[test]
fn debug_shows_no_secret() {
    let mut room = Room::new(2);
    let text = alloc::format!("{:?}", room.call(0));
    assert_eq!(text, "Call(01010101010101010101010101010101, alice/1, 1 others)".to_string());
    let key = room.said.iter().find(|(.., signal)| signal.kind == SignalKind::Key).unwrap();
    let text = alloc::format!("{:?} {:?}", key.2, received(0, &key.2));
    assert_eq!(
        text,
        "Signal(Key, 01010101010101010101010101010101, 46 bytes, 60 s) ReceivedSignal(Key, \
         01010101010101010101010101010101, from alice/1, 46 bytes)"
    );
    let keys = room.call(0).export(&address(1));
    assert_eq!(alloc::format!("{:?}", keys[0]), "ExportedKey(0, Audio, Aes256Gcm)");
    let now = room.now;
    let sender = room.call(0).take_sender(Stream::Audio, now).unwrap();
    assert_eq!(alloc::format!("{sender:?}"), "Sealer(0, 0 frames)");
    assert_eq!(alloc::format!("{:?}", Opener::new(Suite::default(), 3, &[1])), "Opener(3)");
}
