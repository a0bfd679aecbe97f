//! Whatever fails, and whenever the process is killed: nothing is lost, nothing is shown twice, no key is used twice, and the
//! conversation goes on.
//!
//! The one half makes a store fail at every single operation of every method of the client. The other half kills a process that is
//! busy with stores on disk, 25 times; `SUBROSA_KILLS=1000 cargo test --test crash kill` does it a thousand times, `SUBROSA_SEED=7` with
//! other dice.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::panic,
    reason = "a panic is how a test fails"
)]

#[path = "support/faulty.rs"]
mod faulty;
#[cfg(feature = "redb")]
#[path = "support/killed.rs"]
mod killed;
#[path = "support/network.rs"]
mod network;
#[path = "support/server.rs"]
mod server;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use faulty::{FAULT, Faulty, though_nobody_notices, through_every_failure};
use network::{NOW, Seeded};
use server::Server;
use subrosa::store::{Store, Table};
use subrosa::{
    Actions, Address, Client, Error, MessageId, Needed, NewDevice, Policy, Received, Trust, Upload,
};

/// One method of a client through every failure: by itself, and inside a transaction whose app takes no notice.
macro_rules! step {
    ($world:expr, $device:expr, |$rng:pat_param| $method:ident($($argument:expr),*)) => {
        $world.step(
            $device,
            stringify!($method),
            |client, $rng| client.$method($($argument),*),
            |actions, $rng| actions.$method($($argument),*),
        )
    };
}

struct Device {
    address: Address,
    store: Faulty,
    policy: Policy,
}

/// What is to be shown, or was: the device, the sender, the text.
type Showings = BTreeMap<(String, String, String), usize>;

struct World {
    server: Server,
    rng: Seeded,
    failures: usize,
    kinds: BTreeMap<&'static str, usize>,
    expected: Showings,
    shown: Showings,
}

impl World {
    fn new(name: &str) -> Self {
        Self {
            server: Server::default(),
            rng: Seeded::new(1, name),
            failures: 0,
            kinds: BTreeMap::new(),
            expected: Showings::new(),
            shown: Showings::new(),
        }
    }

    fn step<T>(
        &mut self,
        device: &mut Device,
        what: &str,
        mut by_client: impl FnMut(&mut Client<&mut Faulty>, &mut Seeded) -> Result<T, Error>,
        mut by_actions: impl FnMut(&mut Actions<'_>, &mut Seeded) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let Device { store, policy, .. } = device;
        let rng = &mut self.rng;
        though_nobody_notices(store, policy, what, |actions| by_actions(actions, rng));
        let (done, failures) = through_every_failure(store, what, |store| {
            by_client(&mut Client::open(store)?.with_policy(policy.clone()), rng)
        });
        self.failures += failures;
        done
    }

    /// What is no intention inside a transaction.
    fn whole<T>(
        &mut self,
        store: &mut Faulty,
        what: &str,
        mut work: impl FnMut(&mut Faulty, &mut Seeded) -> Result<T, Error>,
    ) -> T {
        let (done, failures) = through_every_failure(store, what, |store| work(store, &mut self.rng));
        self.failures += failures;
        done.unwrap()
    }

    fn create(&mut self, user: &str) -> Device {
        let mut store = Faulty::default();
        self.whole(&mut store, "create", |store, rng| Client::create(store, user, NOW, rng).map(drop));
        self.device(store)
    }

    /// A further device of the account of `old`.
    fn link(&mut self, old: &mut Device, manager: bool) -> Device {
        let seed = self.rng.below(1 << 30);
        let new = || NewDevice::generate(&mut Seeded::new(seed as u64, "a new device"));
        let grant = step!(self, old, |rng| link(&new().code(), manager, NOW, rng)).unwrap();
        self.upload(old);
        let mut store = Faulty::default();
        self.whole(&mut store, "join", |store, rng| Client::join(store, &new(), &grant, NOW, rng).map(drop));
        self.device(store)
    }

    fn device(&mut self, mut store: Faulty) -> Device {
        let address =
            self.whole(&mut store, "address", |store, _| Ok(Client::open(store)?.address().clone()));
        let mut device = Device { address, store, policy: Policy::default() };
        self.upload(&mut device);
        device
    }

    fn upload(&mut self, device: &mut Device) {
        let on_server = self.server.one_time_count(&device.address);
        let upload: Upload = step!(self, device, |rng| upload(on_server, NOW, rng)).unwrap().unwrap();
        self.server.upload(&device.address, upload.clone());
        step!(self, device, |_| uploaded(&upload)).unwrap();
        self.flush(device);
    }

    /// Encrypts, fetching what it takes.
    fn write(&mut self, from: &mut Device, to: &str, text: &str) -> MessageId {
        loop {
            match step!(self, from, |rng| encrypt(to, text.as_bytes(), NOW, rng)) {
                Err(Error::DevicesNeeded(user)) => self.fetch_devices(from, &user),
                Err(Error::BundlesNeeded(all)) => all.iter().for_each(|one| self.fetch_bundle(from, one)),
                done => {
                    self.expect(from, to, text, &[]);
                    self.flush(from);
                    return done.unwrap();
                }
            }
        }
    }

    /// All devices of both users are to show it, but for its sender and those that it missed.
    fn expect(&mut self, from: &Device, to: &str, text: &str, missed: &[Address]) {
        for user in BTreeSet::from([to, &from.address.user]) {
            for listed in self.server.devices[user].devices() {
                let address = Address::new(user, listed.device);
                if address != from.address && !missed.contains(&address) {
                    let row = (address.to_string(), from.address.to_string(), text.to_owned());
                    *self.expected.entry(row).or_default() += 1;
                }
            }
        }
    }

    fn fetch_devices(&mut self, device: &mut Device, user: &str) {
        let list = self.server.devices[user].encode();
        step!(self, device, |_| take_devices(user, &list)).unwrap();
    }

    fn fetch_bundle(&mut self, device: &mut Device, of: &Address) {
        let bundle = self.server.bundle(of).unwrap();
        step!(self, device, |rng| take_bundle(of, &bundle, NOW, rng)).unwrap();
    }

    fn flush(&mut self, device: &mut Device) {
        for outgoing in step!(self, device, |_| outbox(100)).unwrap() {
            self.server.send(&device.address, &outgoing.to, outgoing.envelope);
            step!(self, device, |_| sent(outgoing.id)).unwrap();
        }
    }

    fn receive(&mut self, device: &mut Device, from: &Address, envelope: &[u8]) -> Received {
        let received = step!(self, device, |rng| receive(from, envelope, NOW, rng)).unwrap();
        let kind = match &received {
            Received::Message(_) => "message",
            Received::Handled => "handled",
            Received::Duplicate => "duplicate",
            Received::AskedAgain => "asked again",
            Received::BundleNeeded(_) => "bundle needed",
            _ => "refused",
        };
        *self.kinds.entry(kind).or_default() += 1;
        received
    }

    /// Receives the mail, shows what it brings, fetches what is needed. Returns whether there was any.
    fn sync(&mut self, device: &mut Device) -> bool {
        let mut any = false;
        while let Some((from, envelope)) =
            self.server.mail.get_mut(&device.address).and_then(VecDeque::pop_front)
        {
            any = true;
            self.receive(device, &from, &envelope);
        }
        for incoming in step!(self, device, |_| inbox(100)).unwrap() {
            let text = String::from_utf8(incoming.text.to_vec()).unwrap();
            let row = (device.address.to_string(), incoming.from.to_string(), text);
            *self.shown.entry(row).or_default() += 1;
            step!(self, device, |_| done(incoming.id)).unwrap();
        }
        for needed in step!(self, device, |_| needed(100)).unwrap() {
            match &needed {
                Needed::Devices(user) => self.fetch_devices(device, user),
                Needed::Bundle(of) => self.fetch_bundle(device, of),
                _ => unreachable!("there are two"),
            }
        }
        self.flush(device);
        any
    }

    /// Until nobody has anything to say; then everything was shown, once.
    fn settle(&mut self, devices: &mut [&mut Device]) {
        for _ in 0..20 {
            let busy: Vec<bool> = devices.iter_mut().map(|device| self.sync(device)).collect();
            if !busy.contains(&true) {
                assert_eq!(self.shown, self.expected);
                return;
            }
        }
        panic!("they never stop talking");
    }

    /// What was run failed often enough to show something, and these came in.
    fn report(&self, kinds: &[&str]) {
        println!("{} failures; {:?}", self.failures, self.kinds);
        assert!(self.failures > 200, "{}", self.failures);
        assert!(kinds.iter().all(|kind| self.kinds.contains_key(kind)), "{:?}", self.kinds);
    }
}

fn lose_sessions(device: &mut Device) {
    let lost = device.store.transact(|tx| {
        let all = tx.scan(Table::Session, b"", 100)?;
        all.iter().try_for_each(|(key, _)| tx.delete(Table::Session, key))
    });
    lost.unwrap();
}

#[test]
fn a_conversation_goes_on_through_every_failure() {
    let world = &mut World::new("a conversation");
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    for turn in 0..2 {
        world.write(&mut alice, "bob", &format!("ping {turn}"));
        world.write(&mut alice, "bob", &format!("ping again {turn}"));
        world.settle(&mut [&mut alice, &mut bob]);
        world.write(&mut bob, "alice", &format!("pong {turn}"));
        world.settle(&mut [&mut alice, &mut bob]);
    }
    for (from, to, envelope) in world.server.wire.clone() {
        let device = if to.user == "alice" { &mut alice } else { &mut bob };
        assert_eq!(world.receive(device, &from, &envelope), Received::Duplicate);
    }
    // Places of the log, and of what was seen, are used again.
    for device in [&mut alice, &mut bob] {
        (device.policy.log_messages, device.policy.seen) = (2, 2);
    }
    for turn in 2..6 {
        world.write(&mut alice, "bob", &format!("ping {turn}"));
        world.settle(&mut [&mut alice, &mut bob]);
    }
    let nothing = step!(world, &mut alice, |rng| upload(100, NOW, rng)).unwrap();
    assert_eq!(nothing, None);
    let generation =
        world.whole(&mut alice.store, "generation", |store, _| Client::open(store)?.generation());
    assert!(generation > 0);
    world.settle(&mut [&mut alice, &mut bob]);
    world.report(&["message", "duplicate"]);
}

#[test]
fn devices_come_and_go_through_every_failure() {
    let world = &mut World::new("devices");
    let (mut phone, mut bob) = (world.create("alice"), world.create("bob"));
    world.write(&mut phone, "bob", "from the phone");
    world.settle(&mut [&mut phone, &mut bob]);
    let mut laptop = world.link(&mut phone, true);
    // Before there is a session with the laptop.
    let reached =
        step!(world, &mut phone, |rng| encrypt_to_reachable("bob", b"not for all", NOW, rng)).unwrap();
    assert_eq!(reached.missed, [laptop.address.clone()]);
    world.expect(&phone, "bob", "not for all", &reached.missed);
    world.flush(&mut phone);
    world.settle(&mut [&mut phone, &mut laptop, &mut bob]);
    world.write(&mut bob, "alice", "to both");
    world.write(&mut laptop, "bob", "from the laptop");
    world.settle(&mut [&mut phone, &mut laptop, &mut bob]);
    world.write(&mut phone, "bob", "for all");
    world.settle(&mut [&mut phone, &mut laptop, &mut bob]);
    let mut tablet = world.link(&mut phone, true);
    world.write(&mut tablet, "bob", "from the tablet");
    world.settle(&mut [&mut phone, &mut laptop, &mut tablet, &mut bob]);
    let mut watch = world.link(&mut laptop, false);
    world.write(&mut watch, "alice", "from the watch");
    world.settle(&mut [&mut phone, &mut laptop, &mut tablet, &mut watch, &mut bob]);
    world.write(&mut phone, "alice", "to ourselves");
    world.settle(&mut [&mut phone, &mut laptop, &mut tablet, &mut watch, &mut bob]);
    // One that never held the account key, then one that did.
    step!(world, &mut phone, |rng| remove_device(watch.address.device, NOW, rng)).unwrap();
    world.upload(&mut phone);
    world.settle(&mut [&mut phone, &mut laptop, &mut tablet, &mut bob]);
    step!(world, &mut phone, |rng| remove_device(laptop.address.device, NOW, rng)).unwrap();
    world.upload(&mut phone);
    world.settle(&mut [&mut phone, &mut tablet, &mut bob]);
    // The tablet was given the new account key, so it can link one more.
    let mut reader = world.link(&mut tablet, false);
    world.fetch_devices(&mut bob, "alice");
    let safety = step!(world, &mut bob, |_| safety("alice")).unwrap().unwrap();
    assert_eq!(safety.trust, Trust::Changed);
    step!(world, &mut bob, |_| accept("alice", &safety.changed_to.unwrap())).unwrap();
    step!(world, &mut bob, |_| verify("alice", &safety.changed_to.unwrap())).unwrap();
    let known = step!(world, &mut bob, |_| devices("alice")).unwrap().unwrap();
    assert_eq!(known.devices().len(), 3);
    world.write(&mut bob, "alice", "to those who are left");
    world.write(&mut reader, "bob", "from the reader");
    world.settle(&mut [&mut phone, &mut tablet, &mut reader, &mut bob]);
    world.report(&["message", "handled"]);
}

#[test]
fn what_cannot_be_read_comes_again_through_every_failure() {
    let world = &mut World::new("healing");
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    let mut laptop = world.link(&mut alice, false);
    world.write(&mut alice, "bob", "one");
    world.settle(&mut [&mut alice, &mut laptop, &mut bob]);
    world.write(&mut bob, "alice", "two");
    world.settle(&mut [&mut alice, &mut laptop, &mut bob]);
    lose_sessions(&mut bob);
    world.write(&mut alice, "bob", "three");
    world.write(&mut alice, "bob", "four");
    let lost = world.server.mail[&bob.address].clone();
    world.sync(&mut bob);
    // By now there is a session to ask in.
    world.write(&mut alice, "bob", "five");
    world.settle(&mut [&mut alice, &mut laptop, &mut bob]);
    for (from, envelope) in lost {
        assert_eq!(world.receive(&mut bob, &from, &envelope), Received::Duplicate);
    }
    // What nobody wrote is given up, and what is no envelope is refused.
    let (from, _, mut forged) = world.server.wire.last().unwrap().clone();
    forged[2] ^= 1;
    let user = if from.user == "bob" { "alice" } else { "bob" };
    let device = if user == "bob" { &mut bob } else { &mut laptop };
    lose_sessions(device);
    assert_eq!(world.receive(device, &from, &forged), Received::BundleNeeded(from.clone()));
    assert!(matches!(world.receive(device, &from, b"?"), Received::Refused(_)));
    let needed = step!(world, device, |_| needed(10)).unwrap();
    assert_eq!(needed, [Needed::Bundle(from)]);
    step!(world, device, |_| give_up(&needed[0])).unwrap();
    world.write(&mut alice, "bob", "six");
    world.write(&mut bob, "alice", "seven");
    world.settle(&mut [&mut alice, &mut laptop, &mut bob]);
    world.report(&["message", "handled", "duplicate", "asked again", "bundle needed", "refused"]);
}

#[test]
fn sessions_are_renewed_and_people_forgotten_through_every_failure() {
    let world = &mut World::new("renewed");
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    for round in 0..3 {
        world.write(&mut alice, "bob", &format!("ping {round}"));
        world.settle(&mut [&mut alice, &mut bob]);
        world.write(&mut bob, "alice", &format!("pong {round}"));
        world.settle(&mut [&mut alice, &mut bob]);
        match round {
            0 => step!(world, &mut alice, |_| reset(&bob.address)).unwrap(),
            1 => step!(world, &mut alice, |_| forget("bob")).unwrap(),
            _ => {}
        }
    }
    let sessions = step!(world, &mut bob, |_| sessions("alice", NOW)).unwrap();
    assert_eq!(sessions.len(), 3);
    let generation = 1_000_000;
    let restored = world.whole(&mut alice.store, "open_after", |store, rng| {
        Client::open_after(store, generation, NOW, rng).map(|(_, restored)| restored)
    });
    assert!(restored);
    world.upload(&mut alice);
    world.write(&mut alice, "bob", "renewed");
    world.write(&mut bob, "alice", "so it is");
    world.settle(&mut [&mut alice, &mut bob]);
    world.report(&["message"]);
}

#[test]
fn several_intentions_fail_together() {
    let world = &mut World::new("several");
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    world.write(&mut alice, "bob", "one");
    world.settle(&mut [&mut alice, &mut bob]);
    world.write(&mut bob, "alice", "two");
    let (from, envelope) = world.server.mail.get_mut(&alice.address).unwrap().pop_front().unwrap();
    // Reads, answers twice, and says that it is done, in one.
    world.whole(&mut alice.store, "transact", |store, rng| {
        Client::open(store)?.transact(|actions| {
            let Received::Message(incoming) = actions.receive(&from, &envelope, NOW, rng)? else {
                panic!("it is a message");
            };
            actions.encrypt("bob", b"three", NOW, rng)?;
            actions.encrypt("bob", b"four", NOW, rng)?;
            actions.done(incoming.id)
        })
    });
    world.expected.remove(&("alice/1".into(), "bob/1".into(), "two".into()));
    ["three", "four"].iter().for_each(|text| world.expect(&alice, "bob", text, &[]));
    world.settle(&mut [&mut alice, &mut bob]);
    assert_eq!(step!(world, &mut alice, |_| inbox(10)).unwrap(), []);
}

#[test]
fn a_first_intention_is_not_harmed_by_a_second_that_fails_unnoticed() {
    let world = &mut World::new("unnoticed");
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    world.write(&mut alice, "bob", "one");
    world.settle(&mut [&mut alice, &mut bob]);
    let before = alice.store.dump();
    let dice = || Seeded::new(1, "the same for both");
    let mut first_alone = alice.store.clone();
    Client::open(&mut first_alone).unwrap().encrypt("bob", b"two", NOW, &mut dice()).unwrap();
    let first_alone = first_alone.dump();
    let (mut refused, mut committed) = (0, 0);
    for operations in 0.. {
        let mut trial = alice.store.clone();
        trial.fail_after(operations);
        let mut second = None;
        let done = trial.transact(|tx| {
            Actions::within(tx, &alice.policy, |actions| {
                actions.encrypt("bob", b"two", NOW, &mut dice())?;
                second = actions.encrypt("bob", b"three", NOW, &mut dice()).err();
                Ok::<(), Error>(())
            })
        });
        if !trial.mend() {
            break;
        }
        if done.is_err() {
            refused += 1;
            assert_eq!(done, Err(FAULT));
            assert!(trial.dump() == before, "operation {operations}");
        } else {
            committed += 1;
            assert_eq!(second, Some(FAULT), "operation {operations}");
            assert!(trial.dump() == first_alone, "operation {operations}");
        }
    }
    assert!(refused > 10 && committed > 0, "{refused} {committed}");
}

#[cfg(feature = "redb")]
#[test]
fn a_kill_at_any_moment_loses_nothing_and_repeats_nothing() {
    killed::kill_and_see();
}

#[cfg(feature = "redb")]
#[test]
#[ignore = "this is what the test above kills"]
fn the_app_that_is_killed() {
    killed::be_killed();
}
