//! Each error that a client or a session gives names a remedy, and following it to the letter
//! helps. The remedies of a store are in `tests/stores/remedies.rs`, those of a file in
//! `tests/files.rs`.

use subrosa::protocol::{IdentityKeyPair, Message, Prekeys, PublishedPrekeys, Session};
use subrosa::store::{Memory, Store, StoreFault, Table};
use subrosa::{Action, Address, Client, Error, NewDevice, Remedy, Role};

use super::network::{NOW, Seeded};
use super::{DAY, HOUR, World, from, texts};

fn refused<T>(done: Result<T, Error>, error: &Error, remedy: Remedy) {
    let refused = done.err().unwrap();
    assert_eq!(refused, *error);
    assert_eq!(refused.remedy(), remedy);
}

/// Somebody's server side: an identity with prekeys.
struct Peer {
    identity: IdentityKeyPair,
    prekeys: Prekeys,
    published: PublishedPrekeys,
}

impl Peer {
    fn new(rng: &mut Seeded) -> Self {
        let identity = IdentityKeyPair::generate(rng);
        let prekeys = Prekeys::generate(4, NOW, rng).unwrap();
        let published = prekeys.publish(&identity);
        Self { identity, prekeys, published }
    }

    /// A session that somebody begins with this one, and its first message.
    fn begun(&mut self, by: &IdentityKeyPair, text: &[u8], rng: &mut Seeded) -> (Session, Vec<u8>) {
        let bundle = self.published.pop_bundle().unwrap().verify(&by.public_key(), NOW).unwrap();
        let mut session = Session::initiate(by, &bundle, rng).unwrap();
        let message = session.encrypt(text, b"", rng).unwrap().as_bytes().to_vec();
        (session, message)
    }

    fn respond(&mut self, message: &[u8]) -> Result<(Session, Vec<u8>), Error> {
        let message = Message::decode(message)?;
        Session::respond(&self.identity, &mut self.prekeys, &message, b"")
    }
}

#[test]
fn other_session_new_session_and_ask_again() {
    let rng = &mut Seeded::new(1, "remedies of sessions");
    let (alice, mut bob) = (IdentityKeyPair::generate(rng), Peer::new(rng));
    let (_, first) = bob.begun(&alice, b"one", rng);
    let (mut ours, second) = bob.begun(&alice, b"two", rng);
    let (mut other, _) = bob.respond(&first).unwrap();
    let (mut right, _) = bob.respond(&second).unwrap();
    let reply = right.encrypt(b"three", b"", rng).unwrap().as_bytes().to_vec();
    ours.decrypt(&Message::decode(&reply).unwrap(), b"").unwrap();
    let message = ours.encrypt(b"four", b"", rng).unwrap().as_bytes().to_vec();
    let message = Message::decode(&message).unwrap();
    refused(other.decrypt(&message, b""), &Error::UnknownHeader, Remedy::OtherSession);
    assert_eq!(right.decrypt(&message, b"").unwrap(), b"four");
    refused(right.decrypt(&message, b""), &Error::Duplicate, Remedy::Drop);
    // More are missing than a session skips.
    for _ in 0..25_100 {
        drop(ours.encrypt(b"", b"", rng).unwrap());
    }
    let far = ours.encrypt(b"five", b"", rng).unwrap().as_bytes().to_vec();
    let far = right.decrypt(&Message::decode(&far).unwrap(), b"");
    refused(far, &Error::TooFarAhead, Remedy::NewSession);
    let (_, again) = bob.begun(&alice, b"five", rng);
    assert_eq!(bob.respond(&again).unwrap().1, b"five");
    // The prekeys are gone by now, and others are made.
    let (_, lost) = bob.begun(&alice, b"six", rng);
    bob.prekeys = Prekeys::new();
    refused(bob.respond(&lost), &Error::UnknownPrekey, Remedy::AskAgain);
    bob.prekeys.rotate_if_due(NOW, rng).unwrap();
    bob.published = bob.prekeys.publish(&bob.identity);
    let (_, again) = bob.begun(&alice, b"six", rng);
    assert_eq!(bob.respond(&again).unwrap().1, b"six");
}

/// What the server has of a device.
fn bundle(world: &mut World, of: &Address) -> Vec<u8> {
    let now = world.now.as_secs();
    let directory = world.post.users.get_mut(&of.user).unwrap();
    directory.bundle(of.device, "alice", now).unwrap().encode()
}

#[test]
fn fetch_devices_fetch_bundle_and_check_clock() {
    let world = &mut World::new("fetching");
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    let of = Address::new("bob", 1);
    let needed = Error::DevicesNeeded("bob".into());
    refused(world.encrypt(&mut alice, "bob", "one"), &needed, Remedy::FetchDevices);
    let list = world.list("bob");
    world.update(&mut alice, "bob", &list).unwrap();
    let needed = Error::BundlesNeeded([of.clone()].into());
    refused(world.encrypt(&mut alice, "bob", "one"), &needed, Remedy::FetchBundle);
    let old = bundle(world, &of);
    world.pass(61 * DAY);
    let stale = alice.add_bundle(&of, &old, world.now, &mut world.rng);
    refused(stale, &Error::StaleBundle, Remedy::FetchBundle);
    world.connect(&mut bob);
    let fresh = bundle(world, &of);
    // The clock of this device is behind.
    let (now, behind) = (world.now, super::UnixTime::from_secs(NOW).unwrap());
    let future = alice.add_bundle(&of, &fresh, behind, &mut world.rng);
    refused(future, &Error::FutureBundle, Remedy::CheckClock);
    alice.add_bundle(&of, &fresh, now, &mut world.rng).unwrap();
    world.encrypt(&mut alice, "bob", "one").unwrap();
    refused(super::UnixTime::from_secs(1_000), &Error::ImplausibleClock, Remedy::CheckClock);
}

#[test]
fn check_identity() {
    let world = &mut World::new("check identity");
    let (mut alice, _) = world.talking();
    world.post.users.remove("bob");
    let mut bob = world.create("bob");
    let list = world.list("bob");
    world.update(&mut alice, "bob", &list).unwrap();
    let changed = Error::IdentityChanged("bob".into());
    refused(world.encrypt(&mut alice, "bob", "?"), &changed, Remedy::CheckIdentity);
    let shown = alice.trust("bob").unwrap().unwrap().new_account.unwrap();
    alice.accept_new_key("bob", &shown, world.now, &mut world.rng).unwrap();
    world.write(&mut alice, "bob", "it is you");
    world.settle(&mut [&mut bob, &mut alice]);
    assert_eq!(texts(&mut bob), [from("alice/1", "it is you")]);
}

#[test]
fn remove_device_and_link_again() {
    let world = &mut World::new("devices");
    let mut alice = world.create("alice");
    let link = |world: &mut World, alice: &mut Client<Memory>| {
        let device = NewDevice::generate(&mut world.rng);
        let grant = alice.link(&device.code(), Role::Device, world.now, &mut world.rng)?;
        Client::join(Memory::new(), &device, &grant, world.now, &mut world.rng)
    };
    let mut last = None;
    for _ in 1..32 {
        last = Some(link(world, &mut alice).unwrap());
    }
    refused(link(world, &mut alice), &Error::TooManyDevices, Remedy::RemoveDevice);
    let mut last = last.unwrap();
    let device = last.address().device;
    alice.remove_device(device, world.now, &mut world.rng).unwrap();
    world.connect(&mut alice);
    let list = world.list("alice");
    world.update(&mut last, "alice", &list).unwrap();
    let unlinked = last.write("bob", b"?", world.now, &mut world.rng);
    refused(unlinked, &Error::Unlinked, Remedy::LinkAgain);
    let mut again = link(world, &mut alice).unwrap();
    again.write("bob", b"!", world.now, &mut world.rng).unwrap();
}

#[test]
fn fix_call_restore_state_and_update_app() {
    let world = &mut World::new("stores");
    refused(Client::open(Memory::new()).map(drop), &Error::NoAccount, Remedy::FixCall);
    let alice = world.create("alice");
    let copy = alice.into_store();
    let change = |key: &[u8], value: &[u8]| {
        let mut store = copy.clone();
        store.transact(|tx| tx.put(Table::Account, key, value)).unwrap();
        Client::open(store).map(drop)
    };
    refused(change(b"account", b"\x01damaged"), &Error::BadState, Remedy::RestoreState);
    Client::open(copy.clone()).unwrap();
    let newer = Error::from(StoreFault::Newer);
    refused(change(b"format", &[0, 0, 0, 9]), &newer, Remedy::UpdateApp);
    // What the later version wrote is of the format that it knows, as this one knows format 1.
    change(b"format", &[0, 0, 0, 1]).unwrap();
}

#[test]
fn drop_and_retry() {
    let world = &mut World::new("drop and retry");
    let (mut alice, mut bob) = world.talking();
    let old = world.list("alice");
    world.link(&mut alice, Role::Device);
    let new = world.list("alice");
    world.update(&mut bob, "alice", &new).unwrap();
    let stale = world.update(&mut bob, "alice", &old);
    refused(stale, &Error::StaleDeviceList, Remedy::Drop);
    assert_eq!(bob.devices("alice").unwrap().unwrap().devices().len(), 2);
    // Too much at once waits, and is taken later.
    texts(&mut bob);
    world.write(&mut alice, "bob", "genuine");
    super::flood(world, &mut bob, 200);
    assert_eq!(Error::RateLimited.remedy(), Remedy::Retry);
    world.pass(HOUR);
    world.settle(&mut [&mut bob, &mut alice]);
    assert!(texts(&mut bob).contains(&from("alice/1", "genuine")));
    let due = bob.tasks(10, world.now, &mut world.rng).unwrap();
    assert!(due.iter().all(|task| !matches!(task.action, Action::Send { .. })));
}
