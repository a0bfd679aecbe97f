//! Somebody who copied a store or has its keys, and brings back what was.

use subrosa::store::Table;
use subrosa::{Address, Client, Event, Received};

use crate::liar::{Liar, Saying, noise};
use crate::world::{World, events, inbox, stolen, texts};

const DAY: u64 = 24 * 60 * 60;

#[test]
fn noise_and_a_bundle_of_a_stolen_identity_do_not_replace_a_healed_session() {
    let mut world = World::new("stolen identity");
    let (mut alice, _) = world.app("alice");
    let (mut bob, disk) = world.app("bob");
    world.acquaint(&mut alice, &mut bob);
    let account = stolen(&disk, b"account key");
    let list = world.directory("bob").list().unwrap().clone();
    let mut thief = Liar::posing(&mut world, "bob", 1, account, stolen(&disk, b"identity"), list);
    let writing = |alice: &mut crate::world::App| {
        alice.sessions("bob").unwrap().into_iter().find(|session| session.is_writing).unwrap().id
    };
    let before = writing(&mut alice);
    for _ in 0..6 {
        let envelope = noise(&mut world);
        drop(world.give(&mut alice, &thief.address.clone(), &envelope));
        world.bundles.insert(thief.address.clone(), thief.bundle().encode());
        world.settle(&mut alice);
        thief.hear_all(&mut world);
        world.pass(301);
    }
    assert_eq!(writing(&mut alice), before);
    world.write(&mut alice, "bob", "for bob alone");
    world.settle(&mut alice);
    let mail = world.mail(bob.address());
    let heard = mail.iter().filter_map(|mail| thief.hear(mail)).filter(|heard| heard.kind == 1);
    assert_eq!(heard.count(), 0, "the thief reads nothing");
    world.fetch(&mut bob);
    assert_eq!(texts(&mut bob), ["for bob alone"]);
}

#[test]
fn a_held_back_message_does_not_revive_its_session() {
    let mut world = World::new("held back");
    let (mut alice, _) = world.app("alice");
    let mut bob = Liar::new(&mut world, "bob");
    let old = bob.befriend(&mut world, &mut alice);
    let held = bob.say(&mut world, old, &Saying::text(10, "held back"));
    world.pass(100);
    let to = alice.address().clone();
    let new = bob.begin(&mut world, &to);
    drop(bob.tell(&mut world, &mut alice, new, &Saying::text(11, "a new session")));
    world.write(&mut alice, "bob", "an answer");
    world.settle(&mut alice);
    assert!(bob.hear_all(&mut world).iter().all(|heard| heard.talk == new));
    world.pass(100 * DAY);
    drop(world.give(&mut alice, &bob.address.clone(), &held));
    world.write(&mut alice, "bob", "after it came");
    world.settle(&mut alice);
    let heard = bob.hear_all(&mut world);
    assert!(heard.iter().any(|heard| heard.kind == 1));
    assert!(heard.iter().all(|heard| heard.talk == new), "{heard:?}");
    assert_eq!(texts(&mut alice), ["a new session", "held back"]);
}

#[test]
fn what_was_sent_is_not_in_the_store_after_a_week_nor_after_forget_nor_after_the_policy_is_lowered()
{
    let mut world = World::new("sent texts");
    let (mut alice, disk) = world.app("alice");
    let (mut bob, _) = world.app("bob");
    world.acquaint(&mut alice, &mut bob);
    world.write(&mut alice, "bob", "the eagle lands at noon");
    world.settle(&mut alice);
    assert!(disk.holds(b"the eagle lands at noon"));
    world.pass(7 * DAY + 1);
    world.settle(&mut alice);
    assert!(!disk.holds(b"the eagle lands at noon"));
    world.write(&mut alice, "bob", "the second eagle");
    world.settle(&mut alice);
    world.write(&mut alice, "bob", "the second eagle waits");
    alice.forget("bob").unwrap();
    assert!(!disk.holds(b"the second eagle"));
    world.rest(&mut [&mut alice, &mut bob]);
    world.write(&mut alice, "bob", "the third eagle");
    world.settle(&mut alice);
    let policy = {
        let mut policy = subrosa::Policy::default();
        policy.log_age = 0;
        policy
    };
    let mut alice = alice.with_policy(policy);
    world.pass(1);
    alice.apply_policy(world.now).unwrap();
    assert!(!disk.holds(b"the third eagle"));
}

#[test]
fn of_a_long_text_nothing_waits_any_more_once_it_has_left_and_was_taken() {
    let mut world = World::new("long texts");
    let (mut alice, at_alice) = world.app("alice");
    let (mut bob, at_bob) = world.app("bob");
    world.acquaint(&mut alice, &mut bob);
    let text = "the eagle lands at noon, ".repeat(2_000);
    world.write(&mut alice, "bob", &text);
    world.rest(&mut [&mut alice, &mut bob]);
    assert!(at_bob.holds(text.as_bytes()));
    assert!(texts(&mut bob).contains(&text));
    assert!(!at_bob.holds(b"the eagle"));
    assert_eq!((at_alice.count(Table::Outbox), at_bob.count(Table::Outbox)), (0, 0));
}

#[test]
fn keys_of_rows_say_nothing_of_names_sessions_or_references() {
    let mut world = World::new("row keys");
    let (mut alice, disk) = world.app("alice");
    let (mut bob, _) = world.app("bob");
    world.acquaint(&mut alice, &mut bob);
    for text in ["one", "two"] {
        world.write(&mut alice, "bob", text);
        world.write(&mut bob, "alice", text);
        let envelope = noise(&mut world);
        drop(world.give(&mut alice, bob.address(), &envelope));
    }
    let mut public: Vec<Vec<u8>> = vec![b"alice".to_vec(), b"bob".to_vec()];
    public.extend(
        alice.sessions("bob").unwrap().iter().map(|session| session.id.as_bytes()[..12].to_vec()),
    );
    for (_, (key, _)) in disk.rows() {
        assert!(
            public.iter().all(|name| !key.windows(name.len()).any(|part| part == name)),
            "{key:?}"
        );
    }
    world.rest(&mut [&mut alice, &mut bob]);
    let references: Vec<[u8; 8]> =
        world.post.past.iter().map(|mail| mail.envelope[2..10].try_into().unwrap()).collect();
    for (table, (key, _)) in disk.rows() {
        let is_in = |name: &[u8; 8]| key.windows(8).any(|part| part == name);
        assert!(!references.iter().any(is_in), "{table:?}: {key:?}");
    }
}

#[test]
fn a_restored_copy_is_noticed_before_anything_leaves_under_used_keys() {
    let mut world = World::new("restored copy");
    let (mut alice, disk) = world.app("alice");
    let (mut bob, _) = world.app("bob");
    world.acquaint(&mut alice, &mut bob);
    let copy = disk.copy();
    // The original goes on, and connects once more.
    world.write(&mut alice, "bob", "under this key");
    alice.connected().unwrap();
    world.rest(&mut [&mut alice, &mut bob]);
    drop(alice);
    let mut alice = Client::open(copy).unwrap();
    world.write(&mut alice, "bob", "and not under it again");
    let first = alice.tasks(100, world.now, &mut world.rng).unwrap();
    assert!(
        first.iter().all(|task| matches!(task.action, subrosa::Action::FetchSummary)),
        "{first:?}"
    );
    world.pass(61);
    world.settle(&mut alice);
    assert!(events(&mut alice).contains(&Event::Restored));
    world.rest(&mut [&mut alice, &mut bob]);
    assert_eq!(texts(&mut bob), ["under this key", "and not under it again"]);
}

#[test]
fn a_store_that_joins_with_a_grant_a_second_time_is_noticed() {
    let mut world = World::new("one grant, two stores");
    let (mut alice, _) = world.app("alice");
    let new = subrosa::NewDevice::generate(&mut world.rng);
    let grant = alice.link(&new.code(), subrosa::Role::Device, world.now, &mut world.rng).unwrap();
    world.settle(&mut alice);
    let [mut one, mut two] = [(); 2].map(|()| {
        let disk = crate::world::Disk::default();
        Client::join(disk, &new, &grant, world.now, &mut world.rng).unwrap()
    });
    world.settle(&mut one);
    world.settle(&mut two);
    assert!(events(&mut two).contains(&Event::Restored));
}

#[test]
fn the_stolen_identity_of_another_device_opens_no_references_of_this_one() {
    let mut world = World::new("references of others");
    let (mut alice, _) = world.app("alice");
    let mut bob = Liar::new(&mut world, "bob");
    let talk = bob.befriend(&mut world, &mut alice);
    world.write(&mut alice, "bob", "for the first device");
    world.settle(&mut alice);
    let reference = bob.hear_all(&mut world).pop().unwrap().reference;
    // A device is linked afterwards, and handed the old envelope by the server.
    let identity = subrosa::protocol::IdentityKeyPair::generate(&mut world.rng);
    let (list, number) =
        bob.list.with(&bob.account, identity.public_key(), subrosa::Role::Manager).unwrap();
    bob.list = list.clone();
    drop(bob.tell(&mut world, &mut alice, talk, &Saying::devices().with(&list)));
    let mut other = Liar::posing(&mut world, "bob", number, bob.account.clone(), identity, list);
    let asking = other.begin(&mut world, &Address::new("alice", 1));
    drop(other.tell(&mut world, &mut alice, asking, &Saying::text(77, "hello")));
    for _ in 0..3 {
        let received =
            other.tell(&mut world, &mut alice, asking, &Saying::request([0; 8], &[reference]));
        assert_eq!(received, Received::Handled);
        world.settle(&mut alice);
    }
    let heard = other.hear_all(&mut world);
    assert!(heard.iter().all(|heard| heard.kind != 1), "{heard:?}");
    inbox(&mut alice);
}
