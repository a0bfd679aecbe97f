//! The client, one intention after the other, as an app would use it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a panic is how a test fails"
)]

#[path = "support/network.rs"]
mod network;
#[path = "support/server.rs"]
mod server;

use network::{NOW, Seeded};
use server::{Server, connect, flush, sync, take, write};
use subrosa::store::{Memory, Store, Table};
use subrosa::{Address, Client, Error, Needed, NewDevice, Prekeys, Received, Trust};

const HOUR: u64 = 60 * 60;
const DAY: u64 = 24 * HOUR;

/// Some devices, a server, and what is drawn.
struct World {
    server: Server,
    rng: Seeded,
    now: u64,
}

impl World {
    fn new(name: &str) -> Self {
        Self { server: Server::default(), rng: Seeded::new(1, name), now: NOW }
    }

    fn create(&mut self, user: &str) -> Client<Memory> {
        let mut client = Client::create(Memory::new(), user, self.now, &mut self.rng).unwrap();
        connect(&mut client, &mut self.server, self.now, &mut self.rng).unwrap();
        client
    }

    /// Alice and Bob, who have a session in which each has read the other.
    fn talking(&mut self) -> (Client<Memory>, Client<Memory>) {
        let (mut alice, mut bob) = (self.create("alice"), self.create("bob"));
        self.write(&mut alice, "bob", "one");
        self.settle(&mut [&mut alice, &mut bob]);
        self.write(&mut bob, "alice", "two");
        self.settle(&mut [&mut alice, &mut bob]);
        (alice, bob)
    }

    /// A further device of the account of `old`.
    fn link(&mut self, old: &mut Client<Memory>, manager: bool) -> Client<Memory> {
        let device = NewDevice::generate(&mut self.rng);
        let grant = old.link(&device.code(), manager, self.now, &mut self.rng).unwrap();
        self.connect(old);
        let mut new = Client::join(Memory::new(), &device, &grant, self.now, &mut self.rng).unwrap();
        self.connect(&mut new);
        new
    }

    fn connect(&mut self, client: &mut Client<Memory>) {
        connect(client, &mut self.server, self.now, &mut self.rng).unwrap();
        flush(client, &mut self.server).unwrap();
    }

    fn write(&mut self, from: &mut Client<Memory>, to: &str, text: &str) {
        write(from, &mut self.server, (to, text.as_bytes()), self.now, &mut self.rng).unwrap();
        flush(from, &mut self.server).unwrap();
    }

    fn sync(&mut self, client: &mut Client<Memory>) -> Vec<Received> {
        sync(client, &mut self.server, self.now, &mut self.rng).unwrap()
    }

    /// Until nobody has anything to say.
    fn settle(&mut self, clients: &mut [&mut Client<Memory>]) {
        let mut quiet = 0;
        for _ in 0..20 {
            let idle =
                clients.iter_mut().map(|client| usize::from(self.sync(client).is_empty())).sum::<usize>();
            quiet = if idle == clients.len() { quiet + 1 } else { 0 };
            if quiet == 2 {
                return;
            }
        }
        panic!("they never stop talking");
    }
}

/// What is in the inbox: from, for whom the copy is, text.
fn texts(client: &mut Client<Memory>) -> Vec<(String, Option<String>, String)> {
    let all = take(client).unwrap().into_iter();
    all.map(|incoming| {
        (incoming.from.to_string(), incoming.copy_to, String::from_utf8(incoming.text.to_vec()).unwrap())
    })
    .collect()
}

fn from(address: &str, text: &str) -> (String, Option<String>, String) {
    (address.into(), None, text.into())
}

fn copy(address: &str, to: &str, text: &str) -> (String, Option<String>, String) {
    (address.into(), Some(to.into()), text.into())
}

#[test]
fn a_conversation() {
    let world = &mut World::new("a conversation");
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    let unknown = alice.encrypt("bob", b"hi", world.now, &mut world.rng);
    assert_eq!(unknown, Err(Error::DevicesNeeded("bob".into())));
    for turn in 0..5 {
        world.write(&mut alice, "bob", &format!("ping {turn}"));
        world.sync(&mut bob);
        assert_eq!(texts(&mut bob), [from("alice/1", &format!("ping {turn}"))]);
        world.write(&mut bob, "alice", &format!("pong {turn}"));
        world.sync(&mut alice);
        assert_eq!(texts(&mut alice), [from("bob/1", &format!("pong {turn}"))]);
    }
    let sessions = alice.sessions("bob", world.now).unwrap();
    assert_eq!(sessions.len(), 1);
    assert!(sessions[0].active && sessions[0].answered);
    assert_eq!(sessions[0].id, bob.sessions("alice", world.now).unwrap()[0].id);
}

#[test]
fn both_begin_at_once_and_come_to_use_one_session() {
    let world = &mut World::new("both begin");
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    world.write(&mut alice, "bob", "from alice");
    world.write(&mut bob, "alice", "from bob");
    world.settle(&mut [&mut alice, &mut bob]);
    assert_eq!(texts(&mut alice), [from("bob/1", "from bob")]);
    assert_eq!(texts(&mut bob), [from("alice/1", "from alice")]);
    world.write(&mut alice, "bob", "one");
    world.settle(&mut [&mut alice, &mut bob]);
    world.write(&mut bob, "alice", "two");
    world.settle(&mut [&mut alice, &mut bob]);
    let active = |client: &mut Client<Memory>, user: &str| {
        let all = client.sessions(user, NOW).unwrap();
        all.into_iter().find(|session| session.active).unwrap().id
    };
    assert_eq!(active(&mut alice, "bob"), active(&mut bob, "alice"));
    assert_eq!(texts(&mut alice), [from("bob/1", "two")]);
    assert_eq!(texts(&mut bob), [from("alice/1", "one")]);
}

#[test]
fn every_device_gets_it_and_ones_own_get_a_copy() {
    let world = &mut World::new("devices");
    let (mut phone, mut bob) = (world.create("alice"), world.create("bob"));
    let mut laptop = world.link(&mut phone, false);
    assert_eq!(laptop.address().clone(), Address::new("alice", 2));
    world.write(&mut bob, "alice", "hi");
    world.settle(&mut [&mut phone, &mut laptop, &mut bob]);
    assert_eq!(texts(&mut phone), [from("bob/1", "hi")]);
    assert_eq!(texts(&mut laptop), [from("bob/1", "hi")]);
    world.write(&mut laptop, "bob", "hello");
    world.settle(&mut [&mut phone, &mut laptop, &mut bob]);
    assert_eq!(texts(&mut bob), [from("alice/2", "hello")]);
    assert_eq!(texts(&mut phone), [copy("alice/2", "bob", "hello")]);

    // Without the account key it can link nobody; with it, it can.
    let other = NewDevice::generate(&mut world.rng);
    let refused = laptop.link(&other.code(), false, world.now, &mut world.rng);
    assert_eq!(refused, Err(Error::NotPermitted));
    let mut tablet = world.link(&mut phone, true);
    let watch = world.link(&mut tablet, false);
    assert_eq!(tablet.devices("alice").unwrap().unwrap().devices().len(), 4);
    drop(watch);
}

#[test]
fn a_removed_device_gets_nothing_more() {
    let world = &mut World::new("removed");
    let (mut phone, mut bob) = (world.create("alice"), world.create("bob"));
    let mut laptop = world.link(&mut phone, false);
    world.write(&mut bob, "alice", "to both");
    world.settle(&mut [&mut phone, &mut laptop, &mut bob]);
    world.write(&mut phone, "bob", "from the phone");
    world.settle(&mut [&mut phone, &mut laptop, &mut bob]);
    phone.remove_device(2, world.now, &mut world.rng).unwrap();
    world.connect(&mut phone);
    world.write(&mut phone, "bob", "the laptop is gone");
    world.settle(&mut [&mut phone, &mut laptop, &mut bob]);
    texts(&mut phone);
    texts(&mut laptop);
    texts(&mut bob);
    world.write(&mut bob, "alice", "to one");
    world.settle(&mut [&mut phone, &mut laptop, &mut bob]);
    assert_eq!(texts(&mut phone), [from("bob/1", "to one")]);
    assert_eq!(texts(&mut laptop), []);
    // What it says itself is not taken any more.
    world.write(&mut laptop, "bob", "it is still me");
    let refused = world.sync(&mut bob);
    assert!(matches!(refused[..], [Received::Refused(Error::UnknownDevice(_))]), "{refused:?}");
    assert_eq!(texts(&mut bob), []);
    assert_eq!(bob.safety("alice").unwrap().unwrap().trust, Trust::FirstUse);
}

#[test]
fn a_manager_that_is_removed_takes_the_account_key_with_it() {
    let world = &mut World::new("manager");
    let (mut phone, mut bob) = (world.create("alice"), world.create("bob"));
    let (mut laptop, mut tablet) = (world.link(&mut phone, true), world.link(&mut phone, true));
    world.write(&mut phone, "bob", "hi");
    world.write(&mut laptop, "bob", "hi");
    world.write(&mut tablet, "bob", "hi");
    world.settle(&mut [&mut phone, &mut laptop, &mut tablet, &mut bob]);
    let before = phone.safety("alice").unwrap().unwrap().account;
    let old_list = world.server.devices["alice"].encode();
    phone.remove_device(2, world.now, &mut world.rng).unwrap();
    world.connect(&mut phone);
    world.settle(&mut [&mut phone, &mut tablet, &mut bob]);
    let after = phone.safety("alice").unwrap().unwrap().account;
    assert_ne!(before, after);
    // The other manager was given the new key, and can go on with it.
    assert_eq!(tablet.safety("alice").unwrap().unwrap().account, after);
    let watch = world.link(&mut tablet, false);
    drop(watch);
    // Bob is told, and has to accept it before he writes again.
    world.write(&mut phone, "bob", "a new key");
    server::fetch_devices(&mut bob, &world.server, "alice").unwrap();
    let safety = bob.safety("alice").unwrap().unwrap();
    assert_eq!((safety.trust, safety.changed_to), (Trust::Changed, Some(after)));
    let refused = bob.encrypt("alice", b"?", world.now, &mut world.rng);
    assert_eq!(refused, Err(Error::IdentityChanged("alice".into())));
    let other = bob.safety("bob").unwrap().unwrap().account;
    assert_eq!(bob.accept("alice", &other), Err(Error::IdentityChanged("alice".into())));
    bob.accept("alice", &after).unwrap();
    bob.verify("alice", &after).unwrap();
    // Who shows the old key again is late.
    assert_eq!(bob.take_devices("alice", &old_list), Err(Error::StaleDeviceList));
    assert_eq!(bob.safety("alice").unwrap().unwrap().trust, Trust::Verified);
    texts(&mut phone);
    world.write(&mut bob, "alice", "well met");
    world.settle(&mut [&mut phone, &mut tablet, &mut bob]);
    assert_eq!(texts(&mut phone), [from("bob/1", "well met")]);
}

#[test]
fn what_cannot_be_opened_comes_again_and_once() {
    let world = &mut World::new("heal");
    let (mut alice, mut bob) = world.talking();
    texts(&mut alice);
    texts(&mut bob);
    // Bob loses every session.
    let mut store = bob.into_store();
    store
        .transact(|tx| {
            tx.scan(Table::Session, b"", 10)?.iter().try_for_each(|(key, _)| tx.delete(Table::Session, key))
        })
        .unwrap();
    let mut bob = Client::open(store).unwrap();
    for text in ["three", "four", "five"] {
        world.write(&mut alice, "bob", text);
    }
    let received = world.sync(&mut bob);
    assert!(received.iter().all(|one| matches!(one, Received::BundleNeeded(_))), "{received:?}");
    world.settle(&mut [&mut alice, &mut bob]);
    let expected = ["three", "four", "five"].map(|text| from("alice/1", text));
    assert_eq!(texts(&mut bob), expected);
    // The envelopes themselves, redelivered, show nothing twice.
    let wire: Vec<_> = world.server.wire.iter().filter(|one| one.1.user == "bob").cloned().collect();
    for (sender, _, envelope) in wire {
        let received = bob.receive(&sender, &envelope, world.now, &mut world.rng).unwrap();
        assert!(!matches!(received, Received::Message(_)), "{received:?}");
    }
    world.settle(&mut [&mut alice, &mut bob]);
    assert_eq!(texts(&mut bob), []);
    world.write(&mut alice, "bob", "six");
    world.write(&mut bob, "alice", "seven");
    world.settle(&mut [&mut alice, &mut bob]);
    assert_eq!(texts(&mut bob), [from("alice/1", "six")]);
    assert_eq!(texts(&mut alice), [from("bob/1", "seven")]);
}

#[test]
fn a_bundle_handed_out_twice_heals() {
    let world = &mut World::new("twice");
    let (mut alice, mut bob, mut carol) = (world.create("alice"), world.create("bob"), world.create("carol"));
    let before = world.server.prekeys[&Address::new("bob", 1)].clone();
    world.write(&mut alice, "bob", "from alice");
    world.server.prekeys.insert(Address::new("bob", 1), before);
    world.write(&mut carol, "bob", "from carol");
    world.settle(&mut [&mut alice, &mut bob, &mut carol]);
    assert_eq!(texts(&mut bob), [from("alice/1", "from alice"), from("carol/1", "from carol")]);
    assert_eq!(bob.needed(10).unwrap(), []);
}

#[test]
fn an_account_key_that_changed_stops_the_writing() {
    let world = &mut World::new("changed");
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    world.write(&mut alice, "bob", "one");
    world.settle(&mut [&mut alice, &mut bob]);
    let before = alice.safety("bob").unwrap().unwrap();
    assert_eq!(before.trust, Trust::FirstUse);
    alice.verify("bob", &before.account).unwrap();
    texts(&mut bob);
    // Bob loses his phone, and begins anew under the same name.
    world.server.devices.remove("bob");
    world.server.prekeys.remove(&Address::new("bob", 1));
    let mut bob = world.create("bob");
    world.write(&mut bob, "alice", "it is me, honestly");
    world.settle(&mut [&mut alice, &mut bob]);
    let incoming = take(&mut alice).unwrap();
    assert_eq!(incoming.len(), 1);
    assert_eq!(incoming[0].trust, Trust::Changed);
    let refused = alice.encrypt("bob", b"?", world.now, &mut world.rng);
    assert_eq!(refused, Err(Error::IdentityChanged("bob".into())));
    let changed = alice.safety("bob").unwrap().unwrap();
    assert_eq!((changed.account, changed.trust), (before.account, Trust::Changed));
    alice.accept("bob", &changed.changed_to.unwrap()).unwrap();
    assert_eq!(alice.safety("bob").unwrap().unwrap().trust, Trust::FirstUse);
    world.write(&mut alice, "bob", "so it is");
    world.settle(&mut [&mut alice, &mut bob]);
    assert_eq!(texts(&mut bob), [from("alice/1", "so it is")]);
}

/// So many forged initial messages, made from a genuine one. How many are refused without looking.
fn flood(world: &mut World, at: &mut Client<Memory>, count: u32) -> usize {
    let (sender, _, genuine) = world.server.wire[0].clone();
    let mut refused = 0;
    for forgery in 0..count {
        let mut envelope = genuine.clone();
        // Another reference, another ephemeral key.
        envelope[2..6].copy_from_slice(&forgery.to_be_bytes());
        envelope[18 + 2 + 32..][..4].copy_from_slice(&forgery.to_be_bytes());
        let received = at.receive(&sender, &envelope, world.now, &mut world.rng).unwrap();
        refused += usize::from(received == Received::Refused(Error::RateLimited));
    }
    refused
}

#[test]
fn a_flood_of_forged_initial_messages_is_refused_cheaply() {
    let world = &mut World::new("flood");
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    world.write(&mut alice, "bob", "genuine");
    assert_eq!(flood(world, &mut bob, 200), 200 - 32);
    world.now += 30;
    assert_eq!(flood(world, &mut bob, 5), 4);
    // An hour later the genuine one is looked at again.
    world.now += HOUR;
    world.settle(&mut [&mut bob, &mut alice]);
    assert_eq!(texts(&mut bob), [from("alice/1", "genuine")]);
}

#[test]
fn a_clock_that_was_ahead_locks_nobody_out() {
    let world = &mut World::new("clock");
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    world.write(&mut alice, "bob", "genuine");
    world.now += DAY;
    flood(world, &mut bob, 40);
    world.now -= DAY;
    world.settle(&mut [&mut bob, &mut alice]);
    assert_eq!(texts(&mut bob), [from("alice/1", "genuine")]);
}

#[test]
fn nobody_else_is_sent_again_what_was_written_to_somebody() {
    let world = &mut World::new("somebody else");
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    world.write(&mut alice, "bob", "for bob alone");
    world.settle(&mut [&mut alice, &mut bob]);
    // The server gives the name to an account of its own, which asks for all that it has seen go by.
    world.server.devices.remove("bob");
    world.server.prekeys.remove(&Address::new("bob", 1));
    let mut mallory = world.create("bob");
    let seen: Vec<_> = world.server.wire.iter().filter(|one| one.1.user == "bob").cloned().collect();
    for (sender, _, envelope) in &seen {
        let received = mallory.receive(sender, envelope, world.now, &mut world.rng).unwrap();
        assert!(!matches!(received, Received::Message(_)), "{received:?}");
    }
    world.settle(&mut [&mut alice, &mut mallory]);
    assert_eq!(texts(&mut mallory), []);
    // Not even once Alice took the account for Bob's.
    let new = alice.safety("bob").unwrap().unwrap().changed_to.unwrap();
    alice.accept("bob", &new).unwrap();
    world.now += HOUR;
    for (sender, _, envelope) in &seen {
        mallory.receive(sender, envelope, world.now, &mut world.rng).unwrap();
    }
    world.settle(&mut [&mut alice, &mut mallory]);
    assert_eq!(texts(&mut mallory), []);
    // Nor one that comes after she forgot him.
    alice.forget("bob").unwrap();
    world.now += HOUR;
    for (sender, _, envelope) in &seen {
        mallory.receive(sender, envelope, world.now, &mut world.rng).unwrap();
    }
    world.settle(&mut [&mut alice, &mut mallory]);
    assert_eq!(texts(&mut mallory), []);
}

#[test]
fn a_session_that_nobody_answers_expires() {
    let world = &mut World::new("expiry");
    let (mut alice, _bob) = (world.create("alice"), world.create("bob"));
    world.write(&mut alice, "bob", "one");
    world.now += 30 * DAY;
    assert!(alice.encrypt("bob", b"two", world.now, &mut world.rng).is_ok());
    world.now += 1;
    let expired = alice.encrypt("bob", b"three", world.now, &mut world.rng);
    assert_eq!(expired, Err(Error::BundlesNeeded([Address::new("bob", 1)].into())));
}

#[test]
fn a_restored_copy_that_is_noticed_renews_its_sessions() {
    let world = &mut World::new("restored");
    let (alice, mut bob) = world.talking();
    let backup = alice.into_store();
    let mut alice = Client::open(backup.clone()).unwrap();
    for turn in 0..3 {
        world.write(&mut alice, "bob", &format!("after the backup {turn}"));
        world.settle(&mut [&mut alice, &mut bob]);
    }
    let generation = alice.generation().unwrap();
    texts(&mut alice);
    texts(&mut bob);
    let (mut alice, restored) = Client::open_after(backup, generation, world.now, &mut world.rng).unwrap();
    assert!(restored);
    assert!(alice.generation().unwrap() > generation);
    let refused = alice.encrypt("bob", b"?", world.now, &mut world.rng);
    assert!(matches!(refused, Err(Error::BundlesNeeded(_))), "{refused:?}");
    world.connect(&mut alice);
    world.write(&mut alice, "bob", "renewed");
    world.write(&mut bob, "alice", "to the restored one");
    world.settle(&mut [&mut alice, &mut bob]);
    assert_eq!(texts(&mut bob), [from("alice/1", "renewed")]);
    let shown = texts(&mut alice);
    assert!(shown.contains(&from("bob/1", "to the restored one")), "{shown:?}");
}

#[test]
fn a_restored_copy_that_is_not_noticed_heals() {
    let world = &mut World::new("restored unnoticed");
    let (alice, mut bob) = world.talking();
    let backup = alice.into_store();
    let mut alice = Client::open(backup.clone()).unwrap();
    for turn in 0..3 {
        world.write(&mut alice, "bob", &format!("ping {turn}"));
        world.write(&mut bob, "alice", &format!("pong {turn}"));
        world.settle(&mut [&mut alice, &mut bob]);
    }
    texts(&mut alice);
    texts(&mut bob);
    let mut alice = Client::open(backup).unwrap();
    texts(&mut alice);
    world.write(&mut alice, "bob", "from the copy");
    world.write(&mut bob, "alice", "to the copy");
    world.settle(&mut [&mut alice, &mut bob]);
    assert_eq!(texts(&mut bob), [from("alice/1", "from the copy")]);
    assert_eq!(texts(&mut alice), [from("bob/1", "to the copy")]);
}

#[test]
fn several_intentions_happen_together_or_not_at_all() {
    let world = &mut World::new("together");
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    world.write(&mut alice, "bob", "one");
    world.settle(&mut [&mut alice, &mut bob]);
    let (now, rng) = (world.now, &mut world.rng);
    let failed = alice.transact(|actions| {
        actions.encrypt("bob", b"two", now, rng)?;
        actions.encrypt("carol", b"three", now, rng)?;
        Ok::<(), Error>(())
    });
    assert_eq!(failed, Err(Error::DevicesNeeded("carol".into())));
    assert_eq!(alice.outbox(10).unwrap(), []);
    assert_eq!(alice.needed(10).unwrap(), Vec::<Needed>::new());
}

#[test]
fn lists_that_are_stale_forked_or_not_signed_are_refused() {
    let world = &mut World::new("lists");
    let (phone, mut bob) = (world.create("alice"), world.create("bob"));
    let first = world.server.devices["alice"].encode();
    let copy = Client::open(phone.into_store()).unwrap().into_store();
    let (mut phone, mut fork) = (Client::open(copy.clone()).unwrap(), Client::open(copy).unwrap());
    let laptop = world.link(&mut phone, false);
    let second = world.server.devices["alice"].encode();
    let other = NewDevice::generate(&mut world.rng);
    fork.link(&other.code(), false, world.now, &mut world.rng).unwrap();
    let forked = fork.devices("alice").unwrap().unwrap().encode();
    bob.take_devices("alice", &second).unwrap();
    assert_eq!(bob.take_devices("alice", &first), Err(Error::StaleDeviceList));
    assert_eq!(bob.take_devices("alice", &forked), Err(Error::ForkedDeviceList));
    assert_eq!(bob.take_devices("alice", &second), Ok(()));
    for at in 0..second.len() {
        let mut bad = second.clone();
        bad[at] ^= 1;
        assert!(bob.take_devices("alice", &bad).is_err(), "byte {at}");
        assert!(bob.take_devices("alice", &second[..at]).is_err(), "length {at}");
    }
    assert_eq!(bob.devices("alice").unwrap().unwrap().devices().len(), 2);
    drop(laptop);
}

#[test]
fn two_managers_who_remove_a_third_at_once_come_to_one_account_key() {
    for seed in 0..8 {
        let world = &mut World::new(&format!("split {seed}"));
        let mut phone = world.create("alice");
        let (mut laptop, mut tablet) = (world.link(&mut phone, true), world.link(&mut phone, true));
        world.write(&mut phone, "alice", "a note");
        world.write(&mut laptop, "alice", "another");
        world.settle(&mut [&mut phone, &mut laptop, &mut tablet]);
        phone.remove_device(3, world.now, &mut world.rng).unwrap();
        laptop.remove_device(3, world.now, &mut world.rng).unwrap();
        world.connect(&mut phone);
        world.connect(&mut laptop);
        world.settle(&mut [&mut phone, &mut laptop]);
        let list = |client: &mut Client<Memory>| client.devices("alice").unwrap().unwrap();
        assert_eq!(list(&mut phone), list(&mut laptop), "seed {seed}");
        assert_eq!(list(&mut phone).devices().len(), 2);
        // Both hold the key.
        world.link(&mut phone, false);
        world.settle(&mut [&mut phone, &mut laptop]);
        world.link(&mut laptop, false);
        assert_eq!(list(&mut laptop).devices().len(), 4, "seed {seed}");
    }
}

#[test]
fn a_hint_that_no_store_reaches_is_refused() {
    let world = &mut World::new("hint");
    let mut store = world.create("alice").into_store();
    for hint in [u64::MAX, 1 << 50] {
        let refused = Client::open_after(&mut store, hint, world.now, &mut world.rng);
        assert_eq!(refused.err(), Some(Error::Exhausted));
    }
    let (mut alice, restored) = Client::open_after(store, 1, world.now, &mut world.rng).unwrap();
    assert!(!restored);
    assert!(alice.generation().unwrap() < 10);
}

#[test]
fn whoever_takes_bundles_without_end_makes_no_more_prekeys_be_kept() {
    let world = &mut World::new("bundles");
    let mut alice = world.create("alice");
    for day in 0..15 {
        let upload = alice.upload(0, world.now + day * DAY, &mut world.rng).unwrap().unwrap();
        alice.uploaded(&upload).unwrap();
    }
    let kept = alice.into_store().transact(|tx| tx.get(Table::Account, b"prekeys")).unwrap().unwrap();
    assert_eq!(Prekeys::decode(&kept).unwrap().one_time_count(), 1_000);
}

#[test]
fn a_key_that_was_accepted_by_mistake_silences_nobody() {
    let world = &mut World::new("mistake");
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    world.write(&mut alice, "bob", "one");
    world.settle(&mut [&mut alice, &mut bob]);
    let genuine = bob.safety("alice").unwrap().unwrap().account;
    // The server shows an account of its own, and Bob takes it for Alice's.
    let mallory = Client::create(Memory::new(), "alice", world.now, &mut world.rng);
    let fake = mallory.unwrap().devices("alice").unwrap().unwrap();
    bob.take_devices("alice", &fake.encode()).unwrap();
    bob.accept("alice", &fake.account()).unwrap();
    texts(&mut bob);
    // Alice herself is heard all the same, marked, and can be taken back.
    alice.reset(&Address::new("bob", 1)).unwrap();
    world.write(&mut alice, "bob", "it is still me");
    world.settle(&mut [&mut bob]);
    let incoming = take(&mut bob).unwrap();
    assert_eq!((incoming.len(), incoming[0].trust), (1, Trust::Changed));
    bob.accept("alice", &genuine).unwrap();
    assert_eq!(bob.safety("alice").unwrap().unwrap().account, genuine);
}
