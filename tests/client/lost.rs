//! What is lost on the way, in a restored store or between two decisions, comes again or is told.

use subrosa::protocol::IdentityKeyPair;
use subrosa::store::{Lock, Memory, Store, Table, Vault};
use subrosa::{
    Action, Client, DeviceList, Error, Event, Item, Loopback, NewDevice, Received, Role, Trust,
};

use super::{DAY, World, copy, events, from, take, texts};

/// Bob gets an envelope of Alice's that is damaged, and asks for it.
fn damaged(world: &mut World, alice: &mut Client<Memory>, bob: &mut Client<Memory>, text: &str) {
    world.write(alice, "bob", text);
    let mut mail = world.post.take(bob.address()).pop().unwrap();
    *mail.envelope.last_mut().unwrap() ^= 1;
    let received =
        bob.receive(Some(&mail.from), &mail.envelope, world.now, &mut world.rng).unwrap();
    assert!(matches!(received, Received::AskedAgain(_)), "{received:?}");
}

#[test]
fn a_text_that_is_taken_back_is_not_sent_again_either() {
    let world = &mut World::new("taken back and asked for");
    let (mut alice, mut bob) = world.talking();
    let mut tablet = world.link(&mut bob, Role::Device);
    world.write(&mut alice, "bob", "to both");
    world.settle(&mut [&mut alice, &mut bob, &mut tablet]);
    world.write(&mut bob, "alice", "of one");
    world.settle(&mut [&mut alice, &mut bob, &mut tablet]);
    take(&mut bob);
    take(&mut tablet);
    let id = alice.write("bob", b"three", world.now, &mut world.rng).unwrap();
    // The server takes it for the one device, and is away then.
    let is_for = |action: &Action, of: &Client<Memory>| match action {
        Action::Send { to, .. } => to == of.address(),
        _ => false,
    };
    for task in alice.tasks(100, world.now, &mut world.rng).unwrap() {
        if is_for(&task.action, &bob) {
            world.post.perform(&mut alice, &task, world.now, &mut world.rng).unwrap();
        }
    }
    let mut mail = world.post.take(bob.address()).pop().unwrap();
    *mail.envelope.last_mut().unwrap() ^= 1;
    let asked = bob.receive(Some(&mail.from), &mail.envelope, world.now, &mut world.rng).unwrap();
    assert!(matches!(asked, Received::AskedAgain(_)), "{asked:?}");
    world.connect(&mut bob);
    assert!(!world.post.fetch(&mut alice, world.now, &mut world.rng).is_empty());
    assert!(alice.withdraw(id).unwrap());
    world.pass(DAY);
    world.settle(&mut [&mut alice, &mut bob, &mut tablet]);
    assert_eq!((texts(&mut bob), texts(&mut tablet)), (vec![], vec![]));
}

/// The requests in a mailbox, which the network loses.
fn lose_mail(world: &mut World, of: &Client<Memory>) -> usize {
    world.post.take(of.address()).len()
}

#[test]
fn a_request_that_is_lost_is_made_again() {
    let world = &mut World::new("a lost request");
    let (mut alice, mut bob) = world.talking();
    texts(&mut bob);
    damaged(world, &mut alice, &mut bob, "three");
    world.connect(&mut bob);
    assert_eq!(lose_mail(world, &alice), 1);
    world.settle(&mut [&mut alice, &mut bob]);
    assert_eq!(texts(&mut bob), []);
    world.pass(DAY);
    world.settle(&mut [&mut bob, &mut alice]);
    assert_eq!(texts(&mut bob), [from("alice/1", "three")]);
    // It came, so nobody asks again.
    for _ in 0..8 {
        world.pass(DAY);
        world.connect(&mut bob);
    }
    assert_eq!(lose_mail(world, &alice), 0);
    assert_eq!(events(&mut bob), []);
}

/// A server has to keep what it took (docs/server.md, 12).
#[test]
fn what_the_server_loses_after_it_took_it_nobody_asks_for() {
    let world = &mut World::new("a lost mailbox");
    let (mut alice, mut bob) = world.talking();
    drop((texts(&mut alice), texts(&mut bob)));
    world.write(&mut alice, "bob", "three");
    assert_eq!(lose_mail(world, &bob), 1);
    world.write(&mut alice, "bob", "four");
    for _ in 0..8 {
        world.settle(&mut [&mut bob, &mut alice]);
        world.pass(DAY);
    }
    assert_eq!(texts(&mut bob), [from("alice/1", "four")]);
    assert_eq!((events(&mut alice), events(&mut bob)), (vec![], vec![]));
}

#[test]
fn what_nobody_answers_is_asked_for_three_times_and_made_no_event() {
    let world = &mut World::new("no answer");
    let (mut alice, mut bob) = world.talking();
    take(&mut bob);
    damaged(world, &mut alice, &mut bob, "three");
    let mut asked = 0;
    for _ in 0..20 {
        world.connect(&mut bob);
        asked += lose_mail(world, &alice);
        world.pass(DAY);
    }
    assert_eq!(asked, 3);
    assert_eq!(events(&mut bob), []);
}

#[test]
fn a_device_that_forgot_a_contact_gets_what_the_contact_wrote() {
    let world = &mut World::new("forgotten contact");
    let bob = world.create("bob");
    let copy = bob.into_store();
    let mut bob = Client::open(copy.clone()).unwrap();
    let mut alice = world.create("alice");
    world.write(&mut bob, "alice", "hello");
    world.settle(&mut [&mut alice, &mut bob]);
    world.write(&mut alice, "bob", "hello to you");
    world.settle(&mut [&mut alice, &mut bob]);
    world.write(&mut bob, "alice", "answered");
    world.settle(&mut [&mut alice, &mut bob]);
    bob.connected().unwrap();
    world.connect(&mut bob);
    drop(bob);
    let mut bob = Client::open(copy).unwrap();
    world.connect(&mut bob);
    assert!(events(&mut bob).contains(&Event::Restored));
    world.write(&mut alice, "bob", "are you there?");
    world.settle(&mut [&mut bob, &mut alice]);
    assert_eq!(texts(&mut bob), [from("alice/1", "are you there?")]);
}

#[test]
fn a_removed_device_that_was_restored_sends_nothing_before_it_hears_of_its_removal() {
    let world = &mut World::new("removed and restored");
    let (mut alice, mut bob) = world.talking();
    let mut laptop = world.link(&mut alice, Role::Device);
    world.settle(&mut [&mut alice, &mut laptop, &mut bob]);
    world.write(&mut laptop, "bob", "from the laptop");
    world.settle(&mut [&mut alice, &mut laptop, &mut bob]);
    let copy = laptop.into_store();
    alice.remove_device(laptop_number(&copy), world.now, &mut world.rng).unwrap();
    world.settle(&mut [&mut alice, &mut bob]);
    let mut laptop = Client::open(copy).unwrap();
    laptop.write("bob", b"under a used key", world.now, &mut world.rng).unwrap();
    let mut sent = 0;
    for _ in 0..20 {
        for task in laptop.tasks(100, world.now, &mut world.rng).unwrap() {
            sent += usize::from(matches!(task.action, Action::Send { .. }));
            world.post.perform(&mut laptop, &task, world.now, &mut world.rng).unwrap();
        }
    }
    assert_eq!(sent, 0);
    assert!(events(&mut laptop).contains(&Event::Unlinked));
}

fn laptop_number(store: &Memory) -> u32 {
    Client::open(store.clone()).unwrap().address().device
}

#[test]
fn a_manager_reaches_devices_that_it_has_no_session_with() {
    let world = &mut World::new("a new manager");
    let mut first = world.create("alice");
    let mut second = world.link(&mut first, Role::Manager);
    let device = NewDevice::generate(&mut world.rng);
    let grant = second.link(&device.code(), Role::Device, world.now, &mut world.rng).unwrap();
    world.connect(&mut second);
    let mut third =
        Client::join(Memory::new(), &device, &grant, world.now, &mut world.rng).unwrap();
    world.connect(&mut third);
    world.settle(&mut [&mut first, &mut second, &mut third]);
    assert_eq!(first.devices("alice").unwrap().unwrap().devices().len(), 3);
    // Those who did it know it.
    let added = |device| Event::DeviceAdded { user: "alice".into(), device };
    assert_eq!(events(&mut second), []);
    assert_eq!(events(&mut first), [added(3)]);
}

#[test]
fn a_copy_for_a_device_in_doubt_waits_for_the_decision() {
    let world = &mut World::new("in doubt");
    let (mut alice, mut bob) = world.talking();
    let mut laptop = world.link(&mut alice, Role::Device);
    world.settle(&mut [&mut alice, &mut laptop, &mut bob]);
    let known = alice.trust("alice").unwrap().unwrap().account;
    // The server shows another account of Alice's, which the laptop is not in.
    let rogue = IdentityKeyPair::generate(&mut world.rng);
    let list = DeviceList::first(&rogue, alice.identity_key()).encode();
    world.update(&mut alice, "alice", &list).unwrap();
    assert!(alice.trust("alice").unwrap().unwrap().new_account.is_some());
    alice.write("bob", b"written meanwhile", world.now, &mut world.rng).unwrap();
    world.settle(&mut [&mut alice, &mut laptop, &mut bob]);
    texts(&mut bob);
    assert_eq!(texts(&mut laptop), []);
    alice.accept_new_key("alice", &known, world.now, &mut world.rng).unwrap();
    world.settle(&mut [&mut alice, &mut laptop, &mut bob]);
    assert_eq!(texts(&mut laptop), [copy("alice/1", "bob", "written meanwhile")]);
}

/// Somebody who begins anew under the name of Bob, and writes to Alice.
fn begin_anew(world: &mut World, alice: &mut Client<Memory>) {
    world.post.users.remove("bob");
    let mut bob = world.create("bob");
    world.write(&mut bob, "alice", "it is me");
    world.settle(&mut [alice, &mut bob]);
}

#[test]
fn held_texts_that_another_key_displaces_are_told() {
    let world = &mut World::new("displaced");
    let (mut alice, _) = world.talking();
    take(&mut alice);
    begin_anew(world, &mut alice);
    begin_anew(world, &mut alice);
    let gone = Event::HeldGone { user: "bob".into(), texts: 1 };
    assert!(events(&mut alice).contains(&gone));
    let held = alice.held("bob", 10).unwrap();
    assert!(
        matches!(&held[..], [one] if matches!(&one.item, Item::Text(text) if text.trust == Trust::Unaccepted))
    );
}

/// The disk damaged every session of a store that is in a vault.
#[test]
fn a_session_that_a_vault_cannot_open_heals_as_any_that_is_lost() {
    let world = &mut World::new("a damaged vault");
    let (now, rng) = (world.now, &mut world.rng);
    let (mut server, mut disk) = (Loopback::new(), Memory::new());
    let lock = Lock::Key(&[1; 32]);
    let mut bob = Client::create(Memory::new(), "bob", now, rng).unwrap();
    let vault = Vault::open(&mut disk, lock, rng).unwrap();
    let mut alice = Client::create(vault, "alice", now, rng).unwrap();
    server.sync(&mut bob, now, rng).unwrap();
    alice.write("bob", b"one", now, rng).unwrap();
    for _ in 0..2 {
        server.sync(&mut alice, now, rng).unwrap();
        server.sync(&mut bob, now, rng).unwrap();
        bob.write("alice", b"two", now, rng).unwrap();
    }
    // Both are on their way.
    server.sync(&mut bob, now, rng).unwrap();
    drop(alice);
    let damaged = disk.transact(|tx| {
        let sessions = tx.scan(Table::Session, &[], 9)?;
        for (key, mut value) in sessions.clone() {
            *value.last_mut().unwrap() ^= 1;
            tx.put(Table::Session, &key, &value)?;
        }
        Ok::<_, Error>(sessions.len())
    });
    assert_eq!(damaged, Ok(1));
    let mut alice = Client::open(Vault::open(&mut disk, lock, rng).unwrap()).unwrap();
    let received = server.sync(&mut alice, now, rng).unwrap();
    let is_asked = |received: &Received| matches!(received, Received::AskedAgain(_));
    assert!(received.len() == 2 && received.iter().all(is_asked), "{received:?}");
    alice.write("bob", b"three", now, rng).unwrap();
    for _ in 0..2 {
        server.sync(&mut alice, now, rng).unwrap();
        server.sync(&mut bob, now, rng).unwrap();
    }
    server.sync(&mut alice, now, rng).unwrap();
    let count = |items: Vec<subrosa::Incoming>| {
        items.iter().filter(|incoming| matches!(incoming.item, Item::Text(_))).count()
    };
    assert_eq!((count(alice.inbox(9).unwrap()), count(bob.inbox(9).unwrap())), (2, 2));
    alice.forget("bob").unwrap();
}

#[test]
fn nothing_that_is_told_to_a_device_in_doubt_leaves_before_the_decision() {
    let world = &mut World::new("told in doubt");
    let (mut alice, mut bob) = world.talking();
    let mut laptop = world.link(&mut alice, Role::Device);
    world.settle(&mut [&mut alice, &mut laptop, &mut bob]);
    for text in ["three", "four"] {
        world.write(&mut alice, "bob", text);
        world.settle(&mut [&mut alice, &mut laptop, &mut bob]);
        world.write(&mut bob, "alice", text);
        world.settle(&mut [&mut alice, &mut laptop, &mut bob]);
    }
    let known = alice.trust("alice").unwrap().unwrap().account;
    let rogue = IdentityKeyPair::generate(&mut world.rng);
    let list = DeviceList::first(&rogue, alice.identity_key()).encode();
    world.update(&mut alice, "alice", &list).unwrap();
    // The laptop may have been stolen, and is told whom people compared.
    let key = bob.trust("bob").unwrap().unwrap().account;
    alice.verify("bob", &key, world.now, &mut world.rng).unwrap();
    let before = world.wire_to("alice").len();
    world.connect(&mut alice);
    assert_eq!(world.wire_to("alice").len(), before);
    alice.accept_new_key("alice", &known, world.now, &mut world.rng).unwrap();
    world.settle(&mut [&mut alice, &mut laptop, &mut bob]);
    assert_eq!(laptop.trust("bob").unwrap().map(|bob| bob.trust), Some(Trust::Verified));
}
