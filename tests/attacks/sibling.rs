//! A device of one's own, or of a contact, that was stolen or lies.

use subrosa::protocol::IdentityKeyPair;
use subrosa::store::Table;
use subrosa::{Action, Address, Client, DeviceList, Event, Item, NewDevice, Received, Role, Trust};

use crate::liar::{Liar, Saying};
use crate::world::{App, Disk, World, events, inbox, incoming, stolen, texts};

/// Links a device of keys that the test has, and returns it with the account key that it knows.
pub(crate) fn linked(world: &mut World, app: &mut App, disk: &Disk, role: Role) -> Liar {
    let account = stolen(disk, b"account key");
    let new = NewDevice::generate(&mut world.rng);
    let grant = app.link(&new.code(), role, world.now, &mut world.rng).unwrap();
    let other = Disk::default();
    let client = Client::join(other.clone(), &new, &grant, world.now, &mut world.rng).unwrap();
    world.settle(app);
    let user = app.address().user.clone();
    let list = app.devices(&user).unwrap().unwrap();
    let device = client.address().device;
    let identity = stolen(&other, b"identity");
    let mut liar = Liar::posing(world, &user, device, account, identity, list);
    liar.upload(world);
    liar
}

/// Another device of the account, honest.
pub(crate) fn join(world: &mut World, app: &mut App, role: Role) -> (App, Disk) {
    let new = NewDevice::generate(&mut world.rng);
    let grant = app.link(&new.code(), role, world.now, &mut world.rng).unwrap();
    let disk = Disk::default();
    let mut other = Client::join(disk.clone(), &new, &grant, world.now, &mut world.rng).unwrap();
    world.rest(&mut [app, &mut other]);
    inbox(app);
    inbox(&mut other);
    (other, disk)
}

#[test]
fn a_removed_manager_does_not_vouch_for_itself_with_a_list_of_its_own_making() {
    let mut world = World::new("own list of a removed manager");
    let (mut alice, disk) = world.app("alice");
    let (mut bob, _) = world.app("bob");
    let mut phone = linked(&mut world, &mut alice, &disk, Role::Manager);
    world.acquaint(&mut alice, &mut bob);
    let key = bob.trust("alice").unwrap().unwrap().account;
    bob.verify("alice", &key, world.now, &mut world.rng).unwrap();
    let talk = phone.begin(&mut world, &bob.address().clone());
    let hello = phone.tell(&mut world, &mut bob, talk, &Saying::text(1, "while it is listed"));
    assert!(matches!(incoming(hello), Item::Text(_)));
    // It is stolen and removed; bob learns that from the server.
    alice.remove_device(phone.address.device, world.now, &mut world.rng).unwrap();
    world.settle(&mut alice);
    let list = world.directory("alice").list().unwrap().encode();
    bob.update_devices("alice", &list, world.now, &mut world.rng).unwrap();
    let late = phone.tell(&mut world, &mut bob, talk, &Saying::text(2, "after it was removed"));
    let Item::Late(text) = incoming(late) else { panic!("it is late") };
    assert_eq!(text.trust, Trust::Unaccepted, "nobody vouches for a device that was removed");
    // It makes an account key and a list of its own.
    let own = IdentityKeyPair::generate(&mut world.rng);
    let others =
        phone.list.devices().iter().find(|one| one.device != phone.address.device).unwrap().device;
    for list in [
        phone.list.renewed_without(&phone.account, &own, others).unwrap(),
        DeviceList::first(&own, phone.identity.public_key()),
    ] {
        let saying = Saying::text(3 + u128::from(list.version()), "pay carol").with(&list);
        let received = phone.tell(&mut world, &mut bob, talk, &saying);
        assert!(
            !matches!(received, Received::Incoming(ref one) if matches!(one.item, Item::Text(_))),
            "{received:?}"
        );
    }
    // Nor after the person decided for the new key.
    let new = bob.trust("alice").unwrap().unwrap().new_account.unwrap();
    let genuine = world.directory("alice").account().unwrap();
    if new != genuine {
        bob.update_devices(
            "alice",
            &world.directory("alice").list().unwrap().encode(),
            world.now,
            &mut world.rng,
        )
        .unwrap();
    }
    bob.accept_new_key("alice", &genuine, world.now, &mut world.rng).unwrap();
    let list = DeviceList::first(&own, phone.identity.public_key());
    let received = phone.tell(&mut world, &mut bob, talk, &Saying::text(9, "again").with(&list));
    assert!(matches!(incoming(received), Item::Late(_)));
    assert_eq!(
        bob.trust("alice").unwrap().unwrap().new_account,
        None,
        "a removed device brings no list"
    );
}

#[test]
fn nothing_is_copied_to_a_stolen_manager_once_its_removal_is_known() {
    let mut world = World::new("copies to a stolen manager");
    let (mut alice, disk) = world.app("alice");
    let (mut laptop, _) = join(&mut world, &mut alice, Role::Manager);
    let mut phone = linked(&mut world, &mut alice, &disk, Role::Manager);
    world.rest(&mut [&mut alice, &mut laptop]);
    let talk = phone.begin(&mut world, &laptop.address().clone());
    let hello = phone.tell(&mut world, &mut laptop, talk, &Saying::copy(1, "bob", "hello"));
    assert!(matches!(incoming(hello), Item::Text(_)));
    world.settle(&mut laptop);
    alice.remove_device(phone.address.device, world.now, &mut world.rng).unwrap();
    world.settle(&mut alice);
    // The laptop hears of it from the server alone; then the thief brings its own list.
    world.post.take(&laptop.address().clone());
    let genuine = world.directory("alice").list().unwrap().encode();
    laptop.update_devices("alice", &genuine, world.now, &mut world.rng).unwrap();
    let own = IdentityKeyPair::generate(&mut world.rng);
    let list = phone.list.renewed_without(&phone.account, &own, alice.address().device).unwrap();
    let received = phone.tell(&mut world, &mut laptop, talk, &Saying::devices().with(&list));
    assert_eq!(received, Received::Handled);
    let received = phone.tell(&mut world, &mut laptop, talk, &Saying::account(&own).with(&list));
    assert_eq!(received, Received::Handled);
    world.post.take(&phone.address);
    world.write(&mut laptop, "alice", "a note to myself");
    world.settle(&mut laptop);
    let heard = phone.hear_all(&mut world);
    assert!(heard.is_empty(), "{heard:?}");
    // The person compares both screens, and the laptop is back.
    laptop.update_devices("alice", &genuine, world.now, &mut world.rng).unwrap();
    let key = world.directory("alice").account().unwrap();
    laptop.accept_new_key("alice", &key, world.now, &mut world.rng).unwrap();
    world.write(&mut laptop, "alice", "another note");
    world.rest(&mut [&mut laptop, &mut alice]);
    assert!(texts(&mut alice).contains(&"another note".into()));
    assert_eq!(world.mail(&phone.address), []);
}

/// A manager of the account that was stolen, and that the account's new key is without. The laptop
/// heard of that key from the server, and nobody has decided.
fn in_doubt(world: &mut World) -> (App, App, Liar, usize) {
    let (mut alice, disk) = world.app("alice");
    let (mut laptop, _) = join(world, &mut alice, Role::Manager);
    let mut phone = linked(world, &mut alice, &disk, Role::Manager);
    world.rest(&mut [&mut alice, &mut laptop]);
    let talk = phone.begin(world, &laptop.address().clone());
    let hello = phone.tell(world, &mut laptop, talk, &Saying::copy(1, "bob", "hello"));
    assert!(matches!(incoming(hello), Item::Text(_)));
    world.settle(&mut laptop);
    alice.remove_device(phone.address.device, world.now, &mut world.rng).unwrap();
    world.settle(&mut alice);
    world.post.take(&laptop.address().clone());
    let genuine = world.directory("alice").list().unwrap().encode();
    laptop.update_devices("alice", &genuine, world.now, &mut world.rng).unwrap();
    (alice, laptop, phone, talk)
}

#[test]
fn a_device_that_the_former_key_adds_while_another_one_waits_is_in_doubt() {
    let mut world = World::new("added in doubt");
    let (_alice, mut laptop, phone, _) = in_doubt(&mut world);
    // The thief links a device of its own by the key that it still has, and the server helps.
    let identity = IdentityKeyPair::generate(&mut world.rng);
    let (list, device) =
        phone.list.with(&phone.account, identity.public_key(), Role::Device).unwrap();
    laptop.update_devices("alice", &list.encode(), world.now, &mut world.rng).unwrap();
    let mut thief = Liar::posing(&mut world, "alice", device, phone.account, identity, list);
    let talk = thief.begin(&mut world, &laptop.address().clone());
    let received = thief.tell(&mut world, &mut laptop, talk, &Saying::copy(2, "bob", "hi"));
    assert!(matches!(incoming(received), Item::Late(_)));
    world.write(&mut laptop, "alice", "a note to myself");
    let to_thief = |action: &Action| match action {
        Action::Send { to, .. } => *to == thief.address || *to == phone.address,
        _ => false,
    };
    let sent = world.settle(&mut laptop);
    assert!(!sent.iter().any(to_thief), "{sent:?}");
}

#[test]
fn while_another_key_waits_a_device_in_doubt_brings_no_list() {
    let mut world = World::new("lists in doubt");
    let (alice, mut laptop, mut phone, talk) = in_doubt(&mut world);
    let genuine = world.directory("alice").account();
    // By the former key: without the laptop, and with another device, which brings it.
    let without = phone.list.without(&phone.account, laptop.address().device).unwrap();
    let identity = IdentityKeyPair::generate(&mut world.rng);
    let (with, device) = without.with(&phone.account, identity.public_key(), Role::Device).unwrap();
    let received = phone.tell(&mut world, &mut laptop, talk, &Saying::devices().with(&without));
    assert_eq!(received, Received::Handled);
    let mut thief =
        Liar::posing(&mut world, "alice", device, phone.account.clone(), identity, with);
    let theirs = thief.begin(&mut world, &laptop.address().clone());
    let received = thief.tell(&mut world, &mut laptop, theirs, &Saying::copy(2, "bob", "hi"));
    assert_eq!(received, Received::SetAside);
    // By a key of the thief's own.
    let own = IdentityKeyPair::generate(&mut world.rng);
    let list = phone.list.renewed_without(&phone.account, &own, alice.address().device).unwrap();
    let received = phone.tell(&mut world, &mut laptop, talk, &Saying::devices().with(&list));
    assert_eq!(received, Received::Handled);
    world.settle(&mut laptop);
    assert!(!events(&mut laptop).contains(&Event::Unlinked));
    assert_eq!(laptop.trust("alice").unwrap().unwrap().new_account, genuine);
}

#[test]
fn an_account_key_counts_only_from_a_manager_and_only_the_one_of_the_list() {
    let mut world = World::new("account keys");
    let (mut alice, disk) = world.app("alice");
    let mut manager = linked(&mut world, &mut alice, &disk, Role::Manager);
    let mut device = linked(&mut world, &mut alice, &disk, Role::Device);
    manager.list = device.list.clone();
    let genuine = disk.row(Table::Account, b"account key").unwrap();
    let other = IdentityKeyPair::generate(&mut world.rng);
    for (liar, key) in [(&mut manager, other.clone()), (&mut device, other)] {
        let talk = liar.begin(&mut world, &alice.address().clone());
        assert_eq!(
            liar.tell(&mut world, &mut alice, talk, &Saying::account(&key)),
            Received::Handled
        );
        assert_eq!(disk.row(Table::Account, b"account key").unwrap(), genuine);
    }
}

/// A device without the account's key renews the account, by the old key that it stole.
fn renewed_by_a_device(world: &mut World) -> (App, Liar, IdentityKeyPair) {
    let (mut alice, disk) = world.app("alice");
    let mut device = linked(world, &mut alice, &disk, Role::Device);
    let own = IdentityKeyPair::generate(&mut world.rng);
    let list = device.list.renewed_without(&device.account, &own, 99).unwrap();
    let talk = device.begin(world, &alice.address().clone());
    let received = device.tell(world, &mut alice, talk, &Saying::account(&own).with(&list));
    assert_eq!(received, Received::Handled);
    (alice, device, own)
}

#[test]
fn an_ordinary_device_cannot_renew_the_account_even_with_the_old_key() {
    let mut world = World::new("ordinary device renews");
    let (mut alice, device, own) = renewed_by_a_device(&mut world);
    let trust = alice.trust("alice").unwrap().unwrap();
    assert_eq!(
        (trust.account, trust.new_account),
        (device.account.public_key(), Some(own.public_key()))
    );
    assert!(events(&mut alice).iter().any(|event| matches!(event, Event::KeyChanged { .. })));
}

#[test]
fn a_list_counts_only_from_a_device_that_is_in_it_under_its_number() {
    let mut world = World::new("lists of others");
    let (mut alice, _) = world.app("alice");
    let mut liar = Liar::new(&mut world, "mallory");
    let talk = liar.befriend(&mut world, &mut alice);
    let other = IdentityKeyPair::generate(&mut world.rng).public_key();
    let (with, device) = liar.list.with(&liar.account, other, Role::Device).unwrap();
    let (moved, _) = with
        .without(&liar.account, 1)
        .unwrap()
        .with(&liar.account, liar.identity.public_key(), Role::Device)
        .unwrap();
    for list in [with.without(&liar.account, 1).unwrap(), moved] {
        let received = liar.tell(&mut world, &mut alice, talk, &Saying::devices().with(&list));
        assert!(matches!(received, Received::Handled), "{received:?}");
        assert_eq!(alice.devices("mallory").unwrap().unwrap(), liar.list);
    }
    assert_eq!(device, 2);
    // Under the number of another device it is nobody.
    let from = Address::new("mallory", 2);
    let mut posing =
        Liar::posing(&mut world, "mallory", 2, liar.account.clone(), liar.identity.clone(), with);
    let talk = posing.begin(&mut world, &alice.address().clone());
    let envelope = posing.say(&mut world, talk, &Saying::text(7, "from the other number"));
    let received = world.give(&mut alice, &from, &envelope);
    assert_eq!(received, Received::SetAside);
    assert_eq!(texts(&mut alice), Vec::<String>::new());
}

#[test]
fn a_device_cannot_remove_itself_and_a_removed_one_is_read_late_and_written_to_never() {
    let mut world = World::new("removed");
    let (mut alice, disk) = world.app("alice");
    assert!(alice.remove_device(1, world.now, &mut world.rng).is_err());
    let (mut bob, _) = world.app("bob");
    let mut tablet = linked(&mut world, &mut alice, &disk, Role::Device);
    world.acquaint(&mut alice, &mut bob);
    let talk = tablet.begin(&mut world, &bob.address().clone());
    assert!(matches!(
        incoming(tablet.tell(&mut world, &mut bob, talk, &Saying::text(1, "hello"))),
        Item::Text(_)
    ));
    world.rest(&mut [&mut alice, &mut bob]);
    alice.remove_device(tablet.address.device, world.now, &mut world.rng).unwrap();
    world.settle(&mut alice);
    let list = world.directory("alice").list().unwrap().encode();
    bob.update_devices("alice", &list, world.now, &mut world.rng).unwrap();
    world.post.take(&tablet.address);
    world.write(&mut bob, "alice", "not for the tablet");
    world.settle(&mut bob);
    assert_eq!(world.mail(&tablet.address), []);
    assert!(matches!(
        incoming(tablet.tell(&mut world, &mut bob, talk, &Saying::text(2, "late"))),
        Item::Late(_)
    ));
    let fresh = tablet.begin(&mut world, &bob.address().clone());
    let received = tablet.tell(&mut world, &mut bob, fresh, &Saying::text(3, "a new session"));
    assert_eq!(received, Received::SetAside, "a removed device begins no session");
    // After the grace nothing of it is left.
    world.pass(8 * 24 * 60 * 60);
    world.settle(&mut bob);
    let received = tablet.tell(&mut world, &mut bob, talk, &Saying::text(4, "too late"));
    assert!(!matches!(received, Received::Incoming(_)), "{received:?}");
}

#[test]
fn a_device_that_is_no_manager_keeps_no_account_key() {
    let mut world = World::new("no manager");
    let (mut alice, disk) = world.app("alice");
    let (mut tablet, tablets) = join(&mut world, &mut alice, Role::Device);
    let mut manager = linked(&mut world, &mut alice, &disk, Role::Manager);
    let list = world.directory("alice").list().unwrap().encode();
    tablet.update_devices("alice", &list, world.now, &mut world.rng).unwrap();
    let talk = manager.begin(&mut world, &tablet.address().clone());
    let key = manager.account.clone();
    let received = manager.tell(&mut world, &mut tablet, talk, &Saying::account(&key));
    assert_eq!(received, Received::Handled);
    assert!(tablets.row(Table::Account, b"account key").is_none());
}

#[test]
fn a_contact_who_links_and_removes_devices_without_end_leaves_rows_of_no_more_than_33() {
    let mut world = World::new("devices without end");
    let (mut alice, here) = world.app("alice");
    let (mut bob, disk) = world.app("bob");
    world.acquaint(&mut alice, &mut bob);
    let mut read = 0;
    for turn in 0..50 {
        let mut liar = linked(&mut world, &mut bob, &disk, Role::Device);
        let list = world.directory("bob").list().unwrap().encode();
        alice.update_devices("bob", &list, world.now, &mut world.rng).unwrap();
        let talk = liar.begin(&mut world, &alice.address().clone());
        let received = liar.tell(&mut world, &mut alice, talk, &Saying::text(turn, "hello"));
        read += usize::from(matches!(received, Received::Incoming(_)));
        bob.remove_device(liar.address.device, world.now, &mut world.rng).unwrap();
        world.settle(&mut bob);
        let list = world.directory("bob").list().unwrap().encode();
        alice.update_devices("bob", &list, world.now, &mut world.rng).unwrap();
        world.now = world.now.after(60);
    }
    assert_eq!(read, 50);
    // One that is listed, and 32 that were removed lately.
    assert_eq!(here.count(Table::Device), 33);
    assert!(here.count(Table::Session) <= 34, "{}", here.count(Table::Session));
}

#[test]
fn a_contact_who_removes_devices_every_second_leaves_one_note_of_when_they_are_forgotten() {
    let mut world = World::new("every second");
    let (mut alice, disk) = world.app("alice");
    let mut liar = Liar::new(&mut world, "mallory");
    let talk = liar.befriend(&mut world, &mut alice);
    let rows = disk.count(Table::Task);
    for _ in 0..40 {
        let identity = IdentityKeyPair::generate(&mut world.rng).public_key();
        let (list, device) = liar.list.with(&liar.account, identity, Role::Device).unwrap();
        for list in [list.clone(), list.without(&liar.account, device).unwrap()] {
            liar.list = list.clone();
            let _told = liar.tell(&mut world, &mut alice, talk, &Saying::devices().with(&list));
        }
        world.pass(1);
    }
    world.settle(&mut alice);
    assert!(disk.count(Table::Task) <= rows + 2, "{} and {rows}", disk.count(Table::Task));
    for _ in 0..9 {
        world.pass(24 * 60 * 60);
        world.settle(&mut alice);
    }
    let user = disk.rows().into_iter().filter(|(table, _)| *table == Table::User);
    // None of them is remembered.
    let longest = user.map(|(_, (_, value))| value.len()).max();
    assert!(longest.unwrap() < 600, "{longest:?}");
}

#[test]
fn of_a_user_who_is_forgotten_no_row_stays_of_devices_that_were_removed() {
    let mut world = World::new("forgotten with removed devices");
    let (mut alice, disk) = world.app("alice");
    let (mut bob, bobs) = world.app("bob");
    world.acquaint(&mut alice, &mut bob);
    let mut phone = linked(&mut world, &mut bob, &bobs, Role::Device);
    let list = world.directory("bob").list().unwrap().encode();
    alice.update_devices("bob", &list, world.now, &mut world.rng).unwrap();
    let talk = phone.begin(&mut world, &alice.address().clone());
    let hello = phone.tell(&mut world, &mut alice, talk, &Saying::text(1, "hello"));
    assert!(matches!(incoming(hello), Item::Text(_)));
    bob.remove_device(phone.address.device, world.now, &mut world.rng).unwrap();
    world.rest(&mut [&mut alice, &mut bob]);
    assert_eq!(disk.count(Table::Session), 2);
    alice.forget("bob").unwrap();
    for table in [Table::Session, Table::Device, Table::Ticket, Table::Seen] {
        assert_eq!(disk.count(table), 0, "{table:?}");
    }
}

#[test]
fn devices_of_the_account_that_are_linked_and_removed_without_end_leave_no_rows_behind() {
    let mut world = World::new("linked without end");
    let (mut alice, disk) = world.app("alice");
    let rows = |disk: &Disk| {
        let all = disk.rows();
        all.iter().filter(|(_, (key, _))| key.starts_with(b"linked")).count()
    };
    for _ in 0..40 {
        let code = NewDevice::generate(&mut world.rng).code();
        alice.link(&code, Role::Device, world.now, &mut world.rng).unwrap();
        assert_eq!(rows(&disk), 1);
        let device = alice.devices("alice").unwrap().unwrap().devices().last().unwrap().device;
        alice.remove_device(device, world.now, &mut world.rng).unwrap();
    }
    assert_eq!(rows(&disk), 0);
}

/// `verified:u8 || account:32 || user`
fn mark(verified: bool, account: &subrosa::IdentityKey, user: &str) -> Saying {
    Saying::raw(7, &[&[u8::from(verified)][..], &account.encode(), user.as_bytes()].concat())
}

#[test]
fn marks_count_from_listed_devices_of_the_account_alone() {
    let mut world = World::new("marks");
    let (mut alice, disk) = world.app("alice");
    let mut bob = Liar::new(&mut world, "bob");
    let talk = bob.befriend(&mut world, &mut alice);
    let key = bob.account.public_key();
    let trust = |alice: &mut App| alice.trust("bob").unwrap().unwrap().trust;
    // Bob says of himself, and of another, that people compared the key.
    let mut eve = Liar::new(&mut world, "eve");
    let of_eve = eve.befriend(&mut world, &mut alice);
    for (liar, talk) in [(&mut bob, talk), (&mut eve, of_eve)] {
        let received = liar.tell(&mut world, &mut alice, talk, &mark(true, &key, "bob"));
        assert_eq!((received, trust(&mut alice)), (Received::Handled, Trust::FirstUse));
    }
    // A device of the account that was removed, in the session that it had.
    let mut phone = linked(&mut world, &mut alice, &disk, Role::Device);
    let talk = phone.begin(&mut world, &alice.address().clone());
    let hello = phone.tell(&mut world, &mut alice, talk, &Saying::copy(1, "bob", "hello"));
    assert!(matches!(hello, Received::Incoming(_)), "{hello:?}");
    inbox(&mut alice);
    alice.remove_device(phone.address.device, world.now, &mut world.rng).unwrap();
    let received = phone.tell(&mut world, &mut alice, talk, &mark(true, &key, "bob"));
    assert_eq!((received, trust(&mut alice)), (Received::Handled, Trust::FirstUse));
    assert_eq!(events(&mut alice), []);
}

#[test]
fn a_mark_counts_for_the_key_that_it_was_made_for_and_is_told_once() {
    let mut world = World::new("marks of others");
    let (mut alice, disk) = world.app("alice");
    let bob = {
        let mut bob = Liar::new(&mut world, "bob");
        bob.befriend(&mut world, &mut alice);
        bob
    };
    let key = bob.account.public_key();
    let mut phone = linked(&mut world, &mut alice, &disk, Role::Device);
    let talk = phone.begin(&mut world, &alice.address().clone());
    let mut say = |world: &mut World, alice: &mut App, saying: &Saying| {
        assert_eq!(phone.tell(world, alice, talk, saying), Received::Handled);
        (events(alice), alice.trust("bob").unwrap().unwrap().trust)
    };
    let other = IdentityKeyPair::generate(&mut world.rng).public_key();
    let none = (Vec::new(), Trust::FirstUse);
    assert_eq!(say(&mut world, &mut alice, &mark(true, &other, "bob")), none);
    // Nobody compared anything: there is nothing to take back, and nothing to tell.
    // (It counts all the same: the next one from elsewhere does not set it.)
    let own = alice.trust("alice").unwrap().unwrap();
    assert_eq!(say(&mut world, &mut alice, &mark(false, &own.account, "alice")), none);
    assert_eq!(alice.trust("alice").unwrap().unwrap(), own);
    // While another key waits, the person at this device decides.
    let renewed = IdentityKeyPair::generate(&mut world.rng);
    let list = DeviceList::first(&renewed, bob.identity.public_key());
    alice.update_devices("bob", &list.encode(), world.now, &mut world.rng).unwrap();
    events(&mut alice);
    assert_eq!(say(&mut world, &mut alice, &mark(true, &key, "bob")), none);
    alice.accept_new_key("bob", &key, world.now, &mut world.rng).unwrap();
    // Its own key, and nothing waits: it counts, and is told once.
    let told = vec![Event::VerifiedElsewhere { user: "bob".into(), verified: true }];
    assert_eq!(say(&mut world, &mut alice, &mark(true, &key, "bob")), (told, Trust::Verified));
    let again = say(&mut world, &mut alice, &mark(true, &key, "bob"));
    assert_eq!(again, (Vec::new(), Trust::Verified));
    let told = vec![Event::VerifiedElsewhere { user: "bob".into(), verified: false }];
    assert_eq!(say(&mut world, &mut alice, &mark(false, &key, "bob")), (told, Trust::FirstUse));
}

#[test]
fn a_withdrawal_where_nobody_compared_anything_is_not_told_and_counts() {
    let mut world = World::new("withdrawal");
    let (mut alice, disk) = world.app("alice");
    let mut bob = Liar::new(&mut world, "bob");
    bob.befriend(&mut world, &mut alice);
    let key = bob.account.public_key();
    let mut phone = linked(&mut world, &mut alice, &disk, Role::Device);
    let talk = phone.begin(&mut world, &alice.address().clone());
    for verified in [false, true] {
        let received = phone.tell(&mut world, &mut alice, talk, &mark(verified, &key, "bob"));
        assert_eq!((received, events(&mut alice)), (Received::Handled, vec![]));
        assert_eq!(alice.trust("bob").unwrap().unwrap().trust, Trust::FirstUse);
    }
}

#[test]
fn history_is_offered_by_listed_devices_of_the_account_alone() {
    let mut world = World::new("offers of history");
    let (mut alice, disk) = world.app("alice");
    let (mut tablet, _) = join(&mut world, &mut alice, Role::Device);
    let (descriptor, _) = {
        let chunks = subrosa::file::ChunkSize::DEFAULT;
        subrosa::file::seal(b"history", chunks, &mut world.rng).unwrap()
    };
    let offer = Saying::raw(20, &[&[7; 32][..], &descriptor.encode(), b"blob 7"].concat());
    let mut phone = linked(&mut world, &mut alice, &disk, Role::Device);
    let list = world.directory("alice").list().unwrap().encode();
    tablet.update_devices("alice", &list, world.now, &mut world.rng).unwrap();
    inbox(&mut tablet);
    let of_phone = phone.begin(&mut world, &tablet.address().clone());
    let offered = |events: &[Event]| matches!(events, [Event::History { .. }]);
    drop(phone.tell(&mut world, &mut tablet, of_phone, &offer));
    let told = events(&mut tablet);
    assert!(offered(&told), "{told:?}");
    // A contact.
    let mut bob = Liar::new(&mut world, "bob");
    let talk = bob.befriend(&mut world, &mut tablet);
    assert_eq!(bob.tell(&mut world, &mut tablet, talk, &offer), Received::Handled);
    // A device that was removed.
    alice.remove_device(phone.address.device, world.now, &mut world.rng).unwrap();
    world.settle(&mut alice);
    let list = world.directory("alice").list().unwrap().encode();
    tablet.update_devices("alice", &list, world.now, &mut world.rng).unwrap();
    drop(phone.tell(&mut world, &mut tablet, of_phone, &offer));
    let told = events(&mut tablet);
    assert!(!told.iter().any(|event| matches!(event, Event::History { .. })), "{told:?}");
}

#[test]
fn while_another_account_key_waits_a_manager_changes_no_device() {
    let mut world = World::new("contested account");
    let (mut alice, device, _) = renewed_by_a_device(&mut world);
    let before = alice.devices("alice").unwrap();
    let changed = subrosa::Error::IdentityChanged("alice".into());
    let code = NewDevice::generate(&mut world.rng).code();
    let linked = alice.link(&code, Role::Device, world.now, &mut world.rng);
    assert_eq!(linked.err(), Some(changed.clone()));
    let removed = alice.remove_device(device.address.device, world.now, &mut world.rng);
    assert_eq!(removed.err(), Some(changed));
    assert_eq!(alice.devices("alice").unwrap(), before);
}

#[test]
fn what_a_removed_device_asks_for_is_not_looked_at() {
    let mut world = World::new("removed device asks");
    let (mut alice, disk) = world.app("alice");
    let (mut bob, of_bob) = world.app("bob");
    let mut tablet = linked(&mut world, &mut alice, &disk, Role::Device);
    world.acquaint(&mut alice, &mut bob);
    let talk = tablet.begin(&mut world, &bob.address().clone());
    let hello = tablet.tell(&mut world, &mut bob, talk, &Saying::text(1, "hello"));
    assert!(matches!(hello, Received::Incoming(_)), "{hello:?}");
    alice.remove_device(tablet.address.device, world.now, &mut world.rng).unwrap();
    world.settle(&mut alice);
    let list = world.directory("alice").list().unwrap().encode();
    bob.update_devices("alice", &list, world.now, &mut world.rng).unwrap();
    world.settle(&mut bob);
    let before = of_bob.count(Table::Request);
    let asks = Saying::request([0; 8], &[[7; 16], [8; 16]]);
    assert_eq!(tablet.tell(&mut world, &mut bob, talk, &asks), Received::Handled);
    assert_eq!(of_bob.count(Table::Request), before);
    assert_eq!(world.settle(&mut bob), []);
}
