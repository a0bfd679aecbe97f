//! What people decide about users: by the key on the screen, and about nobody else.

use subrosa::protocol::IdentityKeyPair;
use subrosa::store::{Memory, Store, Table};
use subrosa::{
    Action, Address, Answer, Client, DeviceList, Error, Event, Item, NewDevice, Policy, Progress,
    Role, Trust,
};

use super::{DAY, World, events, from, take, texts};

/// The device list of an account that somebody else made under a user's name.
fn other_account(world: &mut World, user: &str) -> DeviceList {
    let other = Client::create(Memory::new(), user, world.now, &mut world.rng);
    other.unwrap().devices(user).unwrap().unwrap()
}

#[test]
fn a_key_is_verified_only_if_it_is_the_users_and_no_other_waits() {
    let world = &mut World::new("verified keys");
    let (mut alice, _) = world.talking();
    let genuine = alice.trust("bob").unwrap().unwrap().account;
    let list = other_account(world, "bob");
    let changed = Err(Error::IdentityChanged("bob".into()));
    let wrong = alice.verify("bob", &list.account(), world.now, &mut world.rng);
    assert_eq!(wrong, changed);
    assert_eq!(alice.trust("bob").unwrap().unwrap().trust, Trust::FirstUse);
    world.update(&mut alice, "bob", &list.encode()).unwrap();
    for key in [genuine, list.account()] {
        assert_eq!(alice.verify("bob", &key, world.now, &mut world.rng), changed);
        assert_eq!(alice.trust("bob").unwrap().unwrap().trust, Trust::FirstUse);
    }
    alice.accept_new_key("bob", &genuine, world.now, &mut world.rng).unwrap();
    alice.verify("bob", &genuine, world.now, &mut world.rng).unwrap();
    assert_eq!(alice.trust("bob").unwrap().unwrap().trust, Trust::Verified);
}

#[test]
fn a_decision_for_a_key_that_is_none_of_the_two_is_refused_and_changes_nothing() {
    let world = &mut World::new("neither");
    let (mut alice, _) = world.talking();
    let (second, third) = (other_account(world, "bob"), other_account(world, "bob").account());
    let changed = Err(Error::IdentityChanged("bob".into()));
    let genuine = alice.trust("bob").unwrap().unwrap().account;
    alice.accept_new_key("bob", &genuine, world.now, &mut world.rng).unwrap();
    // Whether or not another key waits.
    for waits in [false, true] {
        if waits {
            world.update(&mut alice, "bob", &second.encode()).unwrap();
        }
        let before = alice.trust("bob").unwrap();
        let refused = alice.accept_new_key("bob", &third, world.now, &mut world.rng);
        assert_eq!(refused, changed);
        assert_eq!(alice.trust("bob").unwrap(), before);
    }
}

#[test]
fn a_key_that_people_decided_against_does_not_come_back_by_mail() {
    let world = &mut World::new("dismissed");
    let (mut alice, _bob) = world.talking();
    let genuine = alice.trust("bob").unwrap().unwrap().account;
    let honest = world.post.users.remove("bob").unwrap();
    let mut rogue = world.create("bob");
    world.write(&mut rogue, "alice", "one");
    world.settle(&mut [&mut alice]);
    rogue.reset(alice.address()).unwrap();
    world.write(&mut rogue, "alice", "two");
    let late = world.post.take(alice.address()).pop().unwrap();
    world.post.users.insert("bob".into(), honest);
    assert!(alice.trust("bob").unwrap().unwrap().new_account.is_some());
    alice.accept_new_key("bob", &genuine, world.now, &mut world.rng).unwrap();
    take(&mut alice);
    drop(alice.receive(Some(&late.from), &late.envelope, world.now, &mut world.rng).unwrap());
    world.settle(&mut [&mut alice]);
    assert_eq!(alice.trust("bob").unwrap().unwrap().new_account, None);
    assert_eq!(events(&mut alice), []);
}

#[test]
fn what_waits_for_others_stays_when_a_user_is_forgotten() {
    let world = &mut World::new("forgotten");
    let (mut alice, mut bob) = world.talking();
    let mut carol = world.create("carol");
    world.write(&mut alice, "carol", "one");
    world.settle(&mut [&mut alice, &mut carol]);
    for user in ["bob", "carol"] {
        alice.write(user, b"on its way", world.now, &mut world.rng).unwrap();
    }
    alice.forget("bob").unwrap();
    let tasks = alice.tasks(9, world.now, &mut world.rng).unwrap();
    let sent: Vec<&str> = tasks
        .iter()
        .filter_map(|task| match &task.action {
            Action::Send { to, .. } => Some(&*to.user),
            _ => None,
        })
        .collect();
    assert_eq!(sent, ["carol"]);
    world.pass(120);
    texts(&mut carol);
    world.settle(&mut [&mut alice, &mut bob, &mut carol]);
    assert_eq!(texts(&mut carol), [from("alice/1", "on its way")]);
}

#[test]
fn a_new_key_is_told_once_though_its_list_changes() {
    let world = &mut World::new("told once");
    let (mut alice, _) = world.talking();
    let mut other = Client::create(Memory::new(), "bob", world.now, &mut world.rng).unwrap();
    texts(&mut alice);
    for round in 0..3 {
        let list = other.devices("bob").unwrap().unwrap();
        world.update(&mut alice, "bob", &list.encode()).unwrap();
        let told = [Event::KeyChanged { user: "bob".into(), account: list.account() }];
        assert_eq!(events(&mut alice), if round == 0 { &told[..] } else { &[] }, "{round}");
        let code = NewDevice::generate(&mut world.rng).code();
        other.link(&code, Role::Device, world.now, &mut world.rng).unwrap();
    }
}

#[test]
fn a_text_that_is_longer_than_all_that_is_kept_arrives() {
    let world = &mut World::new("small log");
    let (alice, mut bob) = (world.create("alice"), world.create("bob"));
    let mut policy = Policy::default();
    policy.log_bytes = 10;
    let mut alice = alice.with_policy(policy);
    // Written before anything is known of Bob, so that it waits in the log.
    world.write(&mut alice, "bob", "more than ten bytes");
    world.settle(&mut [&mut alice, &mut bob]);
    assert_eq!(texts(&mut bob), [from("alice/1", "more than ten bytes")]);
}

#[test]
fn what_one_call_hands_out_is_bounded_and_the_rest_follows() {
    let world = &mut World::new("portions");
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    let list = world.list("bob");
    world.update(&mut alice, "bob", &list).unwrap();
    let texts: Vec<String> = (0..40).map(|at| format!("{at} {}", "x".repeat(200_000))).collect();
    for text in &texts {
        alice.write("bob", text.as_bytes(), world.now, &mut world.rng).unwrap();
    }
    // The bundle comes, and two texts are encrypted at once: a quarter of a mebibyte is passed.
    let tasks = alice.tasks(100, world.now, &mut world.rng).unwrap();
    let is_bundle = |task: &&subrosa::Task| matches!(task.action, Action::FetchBundle(_));
    let fetch = tasks.iter().find(is_bundle).expect("a bundle");
    world.post.perform(&mut alice, fetch, world.now, &mut world.rng).unwrap();
    let mut outbox = alice.into_store();
    let rows = outbox.transact(|tx| tx.scan(Table::Outbox, &[], usize::MAX)).unwrap();
    let bytes: usize = rows.iter().map(|(_, row)| row.len()).sum();
    assert!((400_000..600_000).contains(&bytes), "{bytes}");
    let mut alice = Client::open(outbox).unwrap();
    world.pass(120);
    let mut most = 0;
    for _ in 0..100 {
        let tasks = alice.tasks(100, world.now, &mut world.rng).unwrap();
        let sends = tasks.iter().filter(|task| matches!(task.action, Action::Send { .. })).count();
        most = most.max(sends);
        for task in tasks {
            world.post.perform(&mut alice, &task, world.now, &mut world.rng).unwrap();
        }
        world.pass(1);
    }
    drop(world.post.fetch(&mut bob, world.now, &mut world.rng));
    let mut shown = Vec::new();
    loop {
        let page = bob.inbox(100).unwrap();
        // Four mebibytes are passed with the 21st.
        assert!(page.len() <= 21, "{}", page.len());
        if page.is_empty() {
            break;
        }
        for incoming in page {
            bob.acknowledge(incoming.id).unwrap();
            if let Item::Text(text) = incoming.item {
                shown.push(String::from_utf8(text.text.to_vec()).unwrap());
            }
        }
    }
    assert!(shown == texts && most <= 21, "{} of 40, {most} at once", shown.len());
}

#[test]
fn while_another_key_waits_no_session_is_begun_with_the_user_and_no_group() {
    let world = &mut World::new("in doubt");
    let (mut alice, _) = world.talking();
    let list = other_account(world, "bob");
    world.update(&mut alice, "bob", &list.encode()).unwrap();
    let changed = Error::IdentityChanged("bob".into());
    let (of, now) = (Address::new("bob", 1), world.now);
    let directory = world.post.users.get_mut("bob").unwrap();
    let bundle = directory.bundle(of.device, "alice", now.as_secs()).unwrap().encode();
    let refused = alice.add_bundle(&of, &bundle, now, &mut world.rng);
    assert_eq!(refused, Err(changed.clone()));
    let refused = alice.create_group(&["bob"], b"roses", now, &mut world.rng);
    assert_eq!(refused.err(), Some(changed));
}

/// To whom envelopes leave within a day.
fn leaving(world: &mut World, client: &mut Client<Memory>) -> Vec<Address> {
    let mut all = Vec::new();
    for _ in 0..24 {
        for task in client.tasks(usize::MAX, world.now, &mut world.rng).unwrap() {
            if let Action::Send { to, .. } = &task.action {
                all.push(to.clone());
                client.complete(&task.id, Answer::Done, world.now, &mut world.rng).unwrap();
            }
        }
        world.pass(60 * 60);
    }
    all
}

#[test]
fn what_waits_for_a_device_does_not_leave_while_a_new_key_says_that_it_is_removed() {
    for is_accepted in [true, false] {
        let world = &mut World::new("held back");
        let (mut alice, mut bob) = world.talking();
        let mut tablet = world.link(&mut bob, Role::Manager);
        world.write(&mut bob, "bob", "a note");
        world.settle(&mut [&mut bob, &mut tablet]);
        world.write(&mut tablet, "alice", "a new tablet");
        world.settle(&mut [&mut alice, &mut bob, &mut tablet]);
        world.write(&mut alice, "bob", "good");
        world.settle(&mut [&mut alice, &mut bob, &mut tablet]);
        let before = alice.trust("bob").unwrap().unwrap().account;
        // Somebody took Bob's phone, and he removes it; Alice wrote something shortly before.
        let id = alice.write("bob", b"the key is in the jar", world.now, &mut world.rng).unwrap();
        tablet.remove_device(1, world.now, &mut world.rng).unwrap();
        let list = tablet.devices("bob").unwrap().unwrap();
        world.update(&mut alice, "bob", &list.encode()).unwrap();
        assert_eq!(leaving(world, &mut alice), [Address::new("bob", 2)]);
        assert_eq!(alice.progress(id).unwrap(), Progress::Queued);
        // And nobody is woken for what waits for a person.
        assert!(alice.next_due(world.now).unwrap() > world.now);
        let account = if is_accepted { list.account() } else { before };
        alice.accept_new_key("bob", &account, world.now, &mut world.rng).unwrap();
        let to_the_phone = leaving(world, &mut alice).contains(&Address::new("bob", 1));
        assert_eq!(to_the_phone, !is_accepted);
    }
}

/// Somebody has another account under a user's name, and writes.
fn write_as_other(world: &mut World, alice: &mut Client<Memory>, user: &str) {
    world.post.users.remove(user);
    let mut other = world.create(user);
    world.write(&mut other, "alice", user);
    world.settle(&mut [alice, &mut other]);
}

#[test]
fn a_decision_about_one_user_leaves_what_is_held_of_another() {
    let world = &mut World::new("two are held");
    let (mut alice, mut bob) = world.talking();
    let mut carol = world.create("carol");
    world.write(&mut carol, "alice", "one");
    world.settle(&mut [&mut alice, &mut bob, &mut carol]);
    drop(texts(&mut alice));
    for user in ["bob", "carol"] {
        write_as_other(world, &mut alice, user);
        assert_eq!(alice.held(user, 10).unwrap().len(), 1);
    }
    let account = alice.trust("bob").unwrap().unwrap().new_account.unwrap();
    alice.accept_new_key("bob", &account, world.now, &mut world.rng).unwrap();
    assert_eq!(texts(&mut alice).len(), 1);
    assert_eq!(
        (alice.held("bob", 10).unwrap().len(), alice.held("carol", 10).unwrap().len()),
        (0, 1)
    );
}

#[test]
fn what_waits_for_a_device_leaves_though_one_of_another_user_with_its_number_is_removed() {
    let world = &mut World::new("the same number");
    let (mut alice, mut bob) = world.talking();
    let mut carol = world.create("carol");
    world.write(&mut carol, "alice", "one");
    let mut tablet = world.link(&mut bob, Role::Device);
    let mut laptop = world.link(&mut carol, Role::Device);
    for _ in 0..2 {
        world.write(&mut bob, "alice", "I have a tablet");
        world.write(&mut carol, "alice", "I have a laptop");
        world.settle(&mut [&mut alice, &mut bob, &mut carol, &mut tablet, &mut laptop]);
        for user in ["bob", "carol"] {
            world.write(&mut alice, user, "good");
        }
        world.settle(&mut [&mut alice, &mut bob, &mut carol, &mut tablet, &mut laptop]);
    }
    for user in ["bob", "carol"] {
        alice.write(user, b"to both", world.now, &mut world.rng).unwrap();
    }
    bob.remove_device(2, world.now, &mut world.rng).unwrap();
    let list = bob.devices("bob").unwrap().unwrap();
    world.update(&mut alice, "bob", &list.encode()).unwrap();
    let mut left = leaving(world, &mut alice);
    left.sort();
    assert_eq!(
        left,
        [("bob", 1), ("carol", 1), ("carol", 2)].map(|(user, at)| Address::new(user, at))
    );
}

#[test]
fn nobody_forgets_the_own_user_or_takes_back_that_it_is_verified() {
    let world = &mut World::new("the own user");
    let (mut alice, _) = world.talking();
    let before = (alice.trust("alice"), alice.devices("alice"));
    let unverified = alice.unverify("alice", world.now, &mut world.rng);
    assert_eq!(
        (alice.forget("alice"), unverified),
        (Err(Error::OwnIdentity), Err(Error::OwnIdentity))
    );
    assert_eq!((alice.trust("alice"), alice.devices("alice")), before);
}

#[test]
fn what_waits_for_a_device_that_was_in_doubt_leaves_once_a_list_with_it_is_accepted() {
    let world = &mut World::new("in doubt for a while");
    let (mut alice, bob) = world.talking();
    alice.write("bob", b"the key is in the jar", world.now, &mut world.rng).unwrap();
    let without = other_account(world, "bob");
    world.update(&mut alice, "bob", &without.encode()).unwrap();
    assert_eq!(leaving(world, &mut alice), []);
    let account = IdentityKeyPair::generate(&mut world.rng);
    let with = DeviceList::first(&account, bob.identity_key());
    world.update(&mut alice, "bob", &with.encode()).unwrap();
    assert_eq!(leaving(world, &mut alice), []);
    alice.accept_new_key("bob", &with.account(), world.now, &mut world.rng).unwrap();
    assert_eq!(leaving(world, &mut alice), [bob.address().clone()]);
}

/// The server takes the list of the phone, and not that of the tablet.
fn two_managers(
    world: &mut World,
    change: impl FnOnce(&mut World, &mut Client<Memory>, &mut Client<Memory>),
) -> (Client<Memory>, Client<Memory>, Client<Memory>) {
    let (mut phone, mut bob) = (world.create("alice"), world.create("bob"));
    let mut laptop = world.link(&mut phone, Role::Device);
    let mut tablet = world.link(&mut phone, Role::Manager);
    world.write(&mut bob, "alice", "hello");
    world.settle(&mut [&mut phone, &mut laptop, &mut tablet, &mut bob]);
    change(world, &mut phone, &mut tablet);
    for _ in 0..4 {
        world.settle(&mut [&mut phone, &mut tablet, &mut bob]);
        world.pass(DAY);
    }
    let list = Some(phone.devices("alice").unwrap().unwrap());
    assert_eq!(list.as_ref().map(DeviceList::encode), Some(world.list("alice")));
    assert_eq!(tablet.devices("alice").unwrap(), list);
    for client in [&mut phone, &mut laptop, &mut tablet] {
        let incoming = client.inbox(100).unwrap();
        incoming.iter().for_each(|incoming| client.acknowledge(incoming.id).unwrap());
    }
    world.write(&mut bob, "alice", "are you there?");
    world.settle(&mut [&mut phone, &mut tablet, &mut bob]);
    assert_eq!(bob.devices("alice").unwrap(), list);
    for client in [&mut phone, &mut tablet] {
        assert_eq!(texts(client), [from("bob/1", "are you there?")]);
    }
    (phone, tablet, laptop)
}

#[test]
fn of_two_devices_that_two_managers_link_at_once_one_is_linked_again() {
    let world = &mut World::new("linked at once");
    let mut new = Vec::new();
    let (phone, mut tablet, _) = two_managers(world, |world, phone, tablet| {
        for manager in [phone, tablet] {
            let device = NewDevice::generate(&mut world.rng);
            let grant =
                manager.link(&device.code(), Role::Device, world.now, &mut world.rng).unwrap();
            world.connect(manager);
            let store = Memory::new();
            new.push(Client::join(store, &device, &grant, world.now, &mut world.rng).unwrap());
        }
    });
    let [listed, other] = &mut new[..] else { unreachable!() };
    world.settle(&mut [listed, other]);
    world.pass(DAY);
    world.settle(&mut [listed, other]);
    assert_eq!(events(listed), []);
    // It hears of the device that has its number, too.
    assert_eq!(events(other).first(), Some(&Event::Unlinked));
    let again = world.link(&mut tablet, Role::Device);
    assert_eq!(again.address().device, 5);
    drop(phone);
}

#[test]
fn what_one_manager_removes_while_another_links_is_gone_and_what_that_one_links_is_in() {
    for removes_first in [true, false] {
        let world = &mut World::new("removed while another is linked");
        let mut new = None;
        let (mut phone, _, mut laptop) = two_managers(world, |world, phone, tablet| {
            let (removes, links) = if removes_first { (phone, tablet) } else { (tablet, phone) };
            removes.remove_device(2, world.now, &mut world.rng).unwrap();
            let device = NewDevice::generate(&mut world.rng);
            let grant =
                links.link(&device.code(), Role::Device, world.now, &mut world.rng).unwrap();
            if removes_first {
                world.connect(removes);
                world.connect(links);
            } else {
                world.connect(links);
                world.connect(removes);
            }
            let store = Memory::new();
            new = Some(Client::join(store, &device, &grant, world.now, &mut world.rng).unwrap());
        });
        let mut new = new.unwrap();
        world.settle(&mut [&mut new, &mut laptop]);
        assert_eq!(events(&mut new), []);
        assert_eq!(events(&mut laptop).first(), Some(&Event::Unlinked));
        let list = phone.devices("alice").unwrap().unwrap();
        let numbers: Vec<u32> = list.devices().iter().map(|listed| listed.device).collect();
        assert_eq!(numbers, [1, 3, 4]);
    }
}

#[test]
fn what_one_manager_removes_stays_out_where_another_one_made_a_newer_list() {
    for removes_first in [true, false] {
        let world = &mut World::new("removed, and listed again");
        let (mut phone, _, mut laptop) = two_managers(world, |world, phone, tablet| {
            phone.remove_device(2, world.now, &mut world.rng).unwrap();
            if removes_first {
                world.connect(phone);
            }
            for _ in 0..2 {
                let code = NewDevice::generate(&mut world.rng).code();
                tablet.link(&code, Role::Device, world.now, &mut world.rng).unwrap();
            }
            world.connect(tablet);
        });
        let list = phone.devices("alice").unwrap().unwrap();
        let numbers: Vec<u32> = list.devices().iter().map(|listed| listed.device).collect();
        assert_eq!(numbers, [1, 3, 4, 5]);
        world.settle(&mut [&mut laptop]);
        assert_eq!(events(&mut laptop).first(), Some(&Event::Unlinked));
    }
}

/// The numbers of the devices that a client knows of the account.
fn numbers(client: &mut Client<Memory>) -> Vec<u32> {
    let list = client.devices("alice").unwrap().unwrap();
    list.devices().iter().map(|listed| listed.device).collect()
}

#[test]
fn a_removed_manager_stays_out_where_another_manager_made_a_list_of_a_higher_version() {
    for removes_first in [true, false] {
        let world = &mut World::new("removed, and overtaken");
        let mut phone = world.create("alice");
        let mut tablet = world.link(&mut phone, Role::Manager);
        let mut stolen = world.link(&mut phone, Role::Manager);
        world.settle(&mut [&mut phone, &mut tablet, &mut stolen]);
        phone.remove_device(3, world.now, &mut world.rng).unwrap();
        if removes_first {
            world.connect(&mut phone);
        }
        let version =
            |client: &mut Client<Memory>| client.devices("alice").unwrap().unwrap().version();
        let renewed = version(&mut phone);
        while version(&mut tablet) <= renewed {
            let code = NewDevice::generate(&mut world.rng).code();
            tablet.link(&code, Role::Device, world.now, &mut world.rng).unwrap();
            let added = *numbers(&mut tablet).last().unwrap();
            tablet.remove_device(added, world.now, &mut world.rng).unwrap();
        }
        world.connect(&mut tablet);
        for _ in 0..3 {
            world.settle(&mut [&mut phone, &mut tablet]);
            world.pass(DAY + 1);
        }
        for client in [&mut phone, &mut tablet] {
            assert_eq!(numbers(client), [1, 2]);
            assert_eq!(client.devices("alice").unwrap().unwrap().encode(), world.list("alice"));
        }
    }
}

#[test]
fn what_was_removed_is_kept_out_by_a_manager_that_gets_the_account_key_after_the_list() {
    let world = &mut World::new("removed, and the key came later");
    let mut phone = world.create("alice");
    let mut tablet = world.link(&mut phone, Role::Manager);
    world.link(&mut phone, Role::Manager);
    world.link(&mut phone, Role::Device);
    world.settle(&mut [&mut phone, &mut tablet]);
    phone.remove_device(4, world.now, &mut world.rng).unwrap();
    tablet.remove_device(3, world.now, &mut world.rng).unwrap();
    world.connect(&mut tablet);
    world.pass(DAY + 1);
    // The server's list comes before what the tablet says.
    world.connect(&mut phone);
    let account = tablet.trust("alice").unwrap().unwrap().account;
    phone.accept_new_key("alice", &account, world.now, &mut world.rng).unwrap();
    world.connect(&mut phone);
    assert_eq!(numbers(&mut phone), [1, 2, 4]);
    for _ in 0..3 {
        world.settle(&mut [&mut phone, &mut tablet]);
        world.pass(DAY + 1);
    }
    assert_eq!((numbers(&mut phone), numbers(&mut tablet)), (vec![1, 2], vec![1, 2]));
}

#[test]
fn a_code_of_a_device_that_was_removed_is_not_taken_again() {
    let world = &mut World::new("linked again by the same code");
    let mut phone = world.create("alice");
    let code = NewDevice::generate(&mut world.rng).code();
    phone.link(&code, Role::Device, world.now, &mut world.rng).unwrap();
    phone.remove_device(2, world.now, &mut world.rng).unwrap();
    let again = phone.link(&code, Role::Device, world.now, &mut world.rng);
    assert_eq!(again.err(), Some(Error::AccountExists));
    assert_eq!(numbers(&mut phone), [1]);
}

#[test]
fn managers_whose_people_accepted_contrary_keys_do_not_overtake_each_other_for_ever() {
    let world = &mut World::new("contrary keys");
    let mut phone = world.create("alice");
    let mut tablet = world.link(&mut phone, Role::Manager);
    world.link(&mut phone, Role::Manager);
    world.settle(&mut [&mut phone, &mut tablet]);
    for manager in [&mut phone, &mut tablet] {
        manager.remove_device(3, world.now, &mut world.rng).unwrap();
    }
    let keys = [&mut phone, &mut tablet].map(|one| one.trust("alice").unwrap().unwrap().account);
    for _ in 0..2 {
        world.settle(&mut [&mut phone, &mut tablet]);
        world.pass(DAY + 1);
    }
    for (manager, other) in [(&mut phone, keys[1]), (&mut tablet, keys[0])] {
        manager.accept_new_key("alice", &other, world.now, &mut world.rng).unwrap();
    }
    let mut versions = Vec::new();
    for _ in 0..8 {
        world.settle(&mut [&mut phone, &mut tablet]);
        world.pass(DAY + 1);
        versions.push(DeviceList::decode(&world.list("alice")).unwrap().version());
    }
    assert_eq!(versions[7], versions[2], "{versions:?}");
}

/// A server, or a history that a stolen device offers, says that Alice's own device is all that
/// Carol has.
#[test]
fn a_text_to_a_user_whose_only_device_is_this_one_is_not_called_sent() {
    let world = &mut World::new("nobody else");
    let mut alice = world.create("alice");
    let made_up = IdentityKeyPair::generate(&mut world.rng);
    let list = DeviceList::first(&made_up, alice.identity_key());
    world.update(&mut alice, "carol", &list.encode()).unwrap();
    let text = alice.write("carol", b"hello", world.now, &mut world.rng).unwrap();
    world.connect(&mut alice);
    assert_eq!(alice.progress(text), Ok(Progress::Waiting));
    let refused = alice.encrypt("carol", b"hello", world.now, &mut world.rng);
    assert_eq!(refused, Err(Error::OwnIdentity));
    // The genuine one is another account, which Alice accepts.
    let mut carol = world.create("carol");
    let genuine = carol.trust("carol").unwrap().unwrap().account;
    let list = world.list("carol");
    world.update(&mut alice, "carol", &list).unwrap();
    alice.accept_new_key("carol", &genuine, world.now, &mut world.rng).unwrap();
    world.settle(&mut [&mut alice, &mut carol]);
    assert_eq!(texts(&mut carol), [from("alice/1", "hello")]);
    assert_eq!(alice.progress(text), Ok(Progress::Sent));
}

#[test]
fn a_text_to_a_user_whose_only_device_is_this_one_has_the_server_asked() {
    let world = &mut World::new("somebody else");
    let mut alice = world.create("alice");
    let made_up = IdentityKeyPair::generate(&mut world.rng);
    let list = DeviceList::first(&made_up, alice.identity_key());
    world.update(&mut alice, "carol", &list.encode()).unwrap();
    drop(world.create("carol"));
    alice.write("carol", b"hello", world.now, &mut world.rng).unwrap();
    let tasks = alice.tasks(9, world.now, &mut world.rng).unwrap();
    let asks = |action: &Action| matches!(action, Action::FetchDevices(user) if user == "carol");
    assert!(tasks.iter().any(|task| asks(&task.action)), "{tasks:?}");
}
