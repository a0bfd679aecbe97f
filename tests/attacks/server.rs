//! A server that lies: about lists, bundles, mail and what it holds.

use subrosa::directory::{HeldPrekeys, Summary};
use subrosa::protocol::IdentityKeyPair;
use subrosa::store::Table;
use subrosa::{Action, Address, Answer, Event, Item, Progress, Received, Role, Trust};

use crate::liar::{Liar, Saying, noise};
use crate::sibling::join;
use crate::world::{App, Disk, World, events, inbox, incoming, texts};

#[test]
fn a_rogue_account_under_a_contacts_name_is_held_and_leaves_the_contacts_rows_alone() {
    let mut world = World::new("rogue");
    let (mut alice, _) = world.app("alice");
    let mut bob = Liar::new(&mut world, "bob");
    let talk = bob.befriend(&mut world, &mut alice);
    let key = bob.account.public_key();
    alice.verify("bob", &key, world.now, &mut world.rng).unwrap();
    let pay = bob.say(&mut world, talk, &Saying::text(50, "pay carol 100"));
    let from = bob.address.clone();
    assert!(matches!(incoming(world.give(&mut alice, &from, &pay)), Item::Text(_)));
    inbox(&mut alice);
    // The rogue: sessions without end, and texts that nobody accepts.
    let rng = &mut world.rng;
    let (account, identity) = (IdentityKeyPair::generate(rng), IdentityKeyPair::generate(rng));
    let list = subrosa::DeviceList::first(&account, identity.public_key());
    let mut rogue = Liar::posing(&mut world, "bob", 1, account, identity, list);
    let to = alice.address().clone();
    let mut held = 0;
    for number in 0..20 {
        let talk = rogue.begin(&mut world, &to);
        for part in 0..10 {
            let saying = Saying::text(100 + number * 10 + part, "believe me");
            match rogue.tell(&mut world, &mut alice, talk, &saying) {
                Received::Held => held += 1,
                Received::SetAside | Received::Refused(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(held, 64);
    assert_eq!(alice.held("bob", 1_000).unwrap().len(), 64);
    let told = events(&mut alice);
    assert_eq!(told.len(), 2, "{told:?}");
    alice.accept_new_key("bob", &key, world.now, &mut world.rng).unwrap();
    assert_eq!(alice.held("bob", 1_000).unwrap(), []);
    assert_eq!(alice.trust("bob").unwrap().unwrap().trust, Trust::Verified);
    // What was seen of bob is remembered, and his session goes on.
    assert_eq!(world.give(&mut alice, &from, &pay), Received::Duplicate);
    let more = bob.tell(&mut world, &mut alice, talk, &Saying::text(51, "thanks"));
    assert!(matches!(incoming(more), Item::Text(_)));
    assert_eq!(texts(&mut alice), ["thanks"]);
}

#[test]
fn rogue_accounts_without_end_leave_rows_of_one_and_none_once_a_person_decides() {
    let mut world = World::new("rogues");
    let (mut alice, disk) = world.app("alice");
    let mut bob = Liar::new(&mut world, "bob");
    let talk = bob.befriend(&mut world, &mut alice);
    let key = bob.account.public_key();
    let rows = |disk: &Disk| (disk.count(Table::Device), disk.count(Table::Session));
    let before = rows(&disk);
    for number in 0..20 {
        let rng = &mut world.rng;
        let (account, identity) = (IdentityKeyPair::generate(rng), IdentityKeyPair::generate(rng));
        let list = subrosa::DeviceList::first(&account, identity.public_key());
        // Bob's own device is in it, under another number.
        let (list, _) = list.with(&account, bob.identity.public_key(), Role::Device).unwrap();
        let mut rogue = Liar::posing(&mut world, "bob", 1, account, identity, list);
        let to = alice.address().clone();
        let talk = rogue.begin(&mut world, &to);
        let saying = Saying::text(100 + number, "believe me");
        assert_eq!(rogue.tell(&mut world, &mut alice, talk, &saying), Received::Held);
        world.pass(60);
    }
    assert_eq!(rows(&disk), (before.0 + 1, before.1 + 1));
    alice.accept_new_key("bob", &key, world.now, &mut world.rng).unwrap();
    assert_eq!(rows(&disk), before);
    let more = bob.tell(&mut world, &mut alice, talk, &Saying::text(51, "thanks"));
    assert!(matches!(incoming(more), Item::Text(_)));
}

#[test]
fn long_texts_of_a_rogue_are_held_within_a_megabyte() {
    let mut world = World::new("long texts of a rogue");
    let (mut alice, disk) = world.app("alice");
    let mut bob = Liar::new(&mut world, "bob");
    bob.befriend(&mut world, &mut alice);
    let rng = &mut world.rng;
    let (account, identity) = (IdentityKeyPair::generate(rng), IdentityKeyPair::generate(rng));
    let list = subrosa::DeviceList::first(&account, identity.public_key());
    let mut rogue = Liar::posing(&mut world, "bob", 1, account, identity, list);
    let talk = rogue.begin(&mut world, &alice.address().clone());
    for number in 0..12 {
        drop(rogue.tell(&mut world, &mut alice, talk, &Saying::text(number, &"x".repeat(500_000))));
    }
    let held = alice.held("bob", 1_000).unwrap();
    let bytes: usize = held
        .iter()
        .map(|one| match &one.item {
            Item::Text(text) => text.text.len(),
            _ => 0,
        })
        .sum();
    assert!((500_000..=1 << 20).contains(&bytes), "{bytes}");
    assert!(disk.count(Table::Inbox) < 64);
}

#[test]
fn a_ghost_list_at_first_contact_is_noticed_by_the_one_whom_it_lies_about() {
    let mut world = World::new("ghost");
    let (mut alice, _) = world.app("alice");
    let (mut bob, _) = world.app("bob");
    // An account of the server's own, with bob's identity and one more.
    let rng = &mut world.rng;
    let (account, ghost) = (IdentityKeyPair::generate(rng), IdentityKeyPair::generate(rng));
    let list = subrosa::DeviceList::first(&account, bob.identity_key());
    let genuine = world.directory("bob").list().unwrap().clone();
    world.lists.insert("bob".into(), list.encode());
    assert_eq!(list.version(), genuine.version());
    world.write(&mut alice, "bob", "hello");
    world.settle(&mut alice);
    world.rest(&mut [&mut alice, &mut bob]);
    drop(ghost);
    let told = events(&mut alice);
    let key = genuine.account();
    assert!(told.contains(&Event::KeyChanged { user: "bob".into(), account: key }), "{told:?}");
}

#[test]
fn mail_that_is_repeated_or_goes_astray_is_shown_once_and_by_its_receiver_alone() {
    let mut world = World::new("replays");
    let (mut alice, _) = world.app("alice");
    let (mut bob, _) = world.app("bob");
    let (mut carol, _) = world.app("carol");
    world.acquaint(&mut alice, &mut bob);
    world.acquaint(&mut alice, &mut carol);
    for number in 0..20 {
        world.write(&mut alice, "bob", &format!("{number}"));
    }
    world.rest(&mut [&mut alice, &mut bob, &mut carol]);
    assert_eq!(texts(&mut bob).len(), 20);
    let past = world.post.past.clone();
    for mail in &past {
        for from in [&mail.from, &mail.to, &Address::new("carol", 1), &Address::new("eve", 1)] {
            for app in [&mut alice, &mut bob, &mut carol] {
                drop(world.give(app, from, &mail.envelope));
            }
        }
    }
    world.rest(&mut [&mut alice, &mut bob, &mut carol]);
    for app in [&mut alice, &mut bob, &mut carol] {
        assert_eq!(texts(app), Vec::<String>::new(), "{}", app.address());
    }
}

#[test]
fn ones_own_address_sends_nothing() {
    let mut world = World::new("own address");
    let (mut alice, _) = world.app("alice");
    let own = alice.address().clone();
    let bytes = noise(&mut world);
    assert_eq!(
        world.give(&mut alice, &own, &bytes),
        Received::Refused(subrosa::Error::OwnIdentity)
    );
}

#[test]
fn a_bundle_of_another_identity_is_not_taken() {
    let mut world = World::new("bundle of another");
    let (mut alice, disk) = world.app("alice");
    let bob = Liar::new(&mut world, "bob");
    let eve = Liar::new(&mut world, "eve");
    world.bundles.insert(bob.address.clone(), eve.bundle().encode());
    world.write(&mut alice, "bob", "for bob");
    world.settle(&mut alice);
    assert_eq!(world.mail(&bob.address), []);
    assert_eq!(disk.count(Table::Session), 0);
}

#[test]
fn used_bundles_make_two_devices_ask_each_other_within_an_allowance() {
    let mut world = World::new("used bundles");
    let (mut alice, _) = world.app("alice");
    let (mut bob, _) = world.app("bob");
    let now = world.now.as_secs();
    for user in ["alice", "bob"] {
        let bundle = world.directory(user).bundle(1, "nobody", now).unwrap().encode();
        world.bundles.insert(Address::new(user, 1), bundle);
    }
    let mut eve = Liar::new(&mut world, "eve");
    for app in [&mut alice, &mut bob] {
        let bundle = world.bundles[app.address()].clone();
        let bundle = subrosa::protocol::Bundle::decode(&bundle).unwrap();
        let talk = eve.begin_with(&mut world, &app.address().clone(), bundle);
        drop(eve.tell(&mut world, app, talk, &Saying::text(talk as u128, "it is used now")));
        inbox(app);
    }
    world.write(&mut alice, "bob", "hello");
    let mut sent = 0;
    for _ in 0..200 {
        sent += world.settle(&mut alice).len() + world.settle(&mut bob).len();
        world.fetch(&mut alice);
        world.fetch(&mut bob);
        world.pass(10);
    }
    eprintln!("used bundles: {sent} tasks in 2,000 seconds");
    assert!(sent < 1_500, "{sent}");
    // Once the server hands out fresh ones, it heals at the next text.
    world.bundles.clear();
    world.write(&mut alice, "bob", "again");
    for _ in 0..40 {
        world.pass(1_200);
        world.settle(&mut alice);
        world.settle(&mut bob);
        world.fetch(&mut alice);
        world.fetch(&mut bob);
    }
    let shown = texts(&mut bob);
    eprintln!("after used bundles: {shown:?}");
    assert!(shown.contains(&"again".into()), "{shown:?}");
}

/// A session to ask in takes a prekey of the contact's. A server that makes up mail of the contact
/// all day has its client begin few of them; and the requests that it kept back bring nothing back.
#[test]
fn noise_all_day_takes_few_prekeys_of_a_contact_and_leaves_the_session_as_it_is() {
    let mut world = World::new("noise all day");
    let (mut alice, _) = world.app("alice");
    let (mut bob, _) = world.app("bob");
    world.write(&mut alice, "bob", "hello");
    world.rest(&mut [&mut alice, &mut bob]);
    world.write(&mut bob, "alice", "hello");
    world.rest(&mut [&mut alice, &mut bob]);
    let before = [writing(&mut alice, "bob"), writing(&mut bob, "alice")];
    let (from, mut taken, mut kept) = (bob.address().clone(), 0, Vec::new());
    for _ in 0..2 * 24 * 6 {
        world.pass(600);
        let envelope = noise(&mut world);
        let received = world.give(&mut alice, &from, &envelope);
        assert!(matches!(received, Received::AskedAgain(_)), "{received:?}");
        let done = world.settle(&mut alice);
        taken += done.iter().filter(|action| matches!(action, Action::FetchBundle(_))).count();
        kept.extend(world.post.take(&from));
    }
    assert!((2..10).contains(&taken), "{taken} in two days");
    for mail in kept.into_iter().rev() {
        drop(world.give(&mut bob, &mail.from.clone(), &mail.envelope));
    }
    world.rest(&mut [&mut alice, &mut bob]);
    assert_eq!([writing(&mut alice, "bob"), writing(&mut bob, "alice")], before);
    inbox(&mut alice);
    let from = world.post.past.len();
    world.write(&mut bob, "alice", "in the same session");
    world.rest(&mut [&mut alice, &mut bob]);
    assert_eq!(texts(&mut alice), ["in the same session"]);
    assert_eq!(world.post.past.len(), from + 1, "somebody asked");
}

/// The session that an app writes to a user's only device in.
fn writing(app: &mut App, user: &str) -> Vec<u8> {
    let sessions = app.sessions(user).unwrap();
    let writing = sessions.iter().find(|session| session.is_writing);
    writing.map_or_else(Vec::new, |session| session.id.as_bytes().to_vec())
}

/// Summaries of `of` that say what is not so.
fn false_summaries(world: &World, of: &Address, other: &Address) -> Vec<(&'static str, Vec<u8>)> {
    let summary = |of: &Address| world.post.users[&of.user].summary(of.device);
    let (genuine, others) = (summary(of), summary(other));
    let change = |change: &dyn Fn(&mut Summary)| {
        let mut summary = genuine.clone();
        change(&mut summary);
        summary.encode()
    };
    let held = |change_held: &dyn Fn(&mut HeldPrekeys)| {
        change(&|summary| change_held(summary.prekeys.as_mut().unwrap()))
    };
    let mut stamp_damaged = genuine.encode();
    stamp_damaged[50] ^= 1;
    vec![
        ("nothing is held", Summary::default().encode()),
        ("no list", change(&|summary| summary.list = None)),
        ("the list of another", change(&|summary| summary.list = others.list)),
        ("a newer list", change(&|summary| summary.list.as_mut().unwrap().version += 5)),
        ("a list beyond any", change(&|summary| summary.list.as_mut().unwrap().version = u64::MAX)),
        ("another list", change(&|summary| summary.list.as_mut().unwrap().digest = [7; 8])),
        ("no prekeys", change(&|summary| summary.prekeys = None)),
        ("prekeys of another", change(&|summary| summary.prekeys = others.prekeys.clone())),
        ("one-time keys without end", held(&|held| held.one_time = u32::MAX)),
        ("no one-time keys", held(&|held| held.one_time = 0)),
        ("no signed prekey", held(&|held| held.signed = None)),
        (
            "a signed prekey of the future",
            held(&|held| {
                held.signed.as_mut().unwrap().created_at = u64::MAX;
            }),
        ),
        (
            "another last-resort prekey",
            held(&|held| held.last_resort.as_mut().unwrap().id = u32::MAX),
        ),
        ("a stamp that is damaged", stamp_damaged),
        ("no summary", Vec::new()),
        ("noise", vec![0x5a; Summary::LENGTH]),
    ]
}

#[test]
fn summaries_that_lie_cost_uploads_and_neither_sessions_nor_texts() {
    let mut world = World::new("false summaries");
    let (mut alice, disk) = world.app("alice");
    let (mut bob, _) = world.app("bob");
    world.acquaint(&mut alice, &mut bob);
    let session = alice.sessions("bob").unwrap()[0].id;
    let (of, other) = (alice.address().clone(), bob.address().clone());
    for (what, lie) in false_summaries(&world, &of, &other) {
        world.pass(24 * 60 * 60);
        alice.connected().unwrap();
        world.write(&mut alice, "bob", what);
        let mut uploads = 0;
        for _ in 0..20 {
            for task in alice.tasks(100, world.now, &mut world.rng).unwrap() {
                uploads += u32::from(matches!(task.action, Action::Upload(_)));
                if matches!(task.action, Action::FetchSummary) {
                    let lie = Answer::Summary(&lie);
                    alice.complete(&task.id, lie, world.now, &mut world.rng).unwrap();
                } else {
                    world.post.perform(&mut alice, &task, world.now, &mut world.rng).unwrap();
                }
            }
            world.pass(61);
        }
        world.rest(&mut [&mut bob]);
        assert!(uploads <= 3, "{what}: {uploads}");
        assert_eq!(texts(&mut bob), [what]);
        assert_eq!(events(&mut alice), [], "{what}");
        assert_eq!(alice.sessions("bob").unwrap()[0].id, session, "{what}");
    }
    // What it keeps does not grow with the lies: a signed prekey and its predecessors, and sets
    // that the server may have handed out.
    assert!(disk.count(Table::Prekey) < 2_100, "{}", disk.count(Table::Prekey));
}

#[test]
fn a_text_that_waits_goes_to_the_devices_that_there_are_when_it_can() {
    let mut world = World::new("a list that changes under drafts");
    let (mut alice, _) = world.app("alice");
    let (mut bob, _) = world.app("bob");
    let (mut old, _) = join(&mut world, &mut bob, Role::Device);
    let gone = old.address().clone();
    // The server has no bundle of one of them for now.
    world.bundles.insert(gone.clone(), Vec::new());
    let text = world.write(&mut alice, "bob", "which of you reads this?");
    world.settle(&mut alice);
    assert_eq!(alice.progress(text).unwrap(), Progress::Waiting);
    world.rest(&mut [&mut bob]);
    assert_eq!(texts(&mut bob), ["which of you reads this?"]);
    bob.remove_device(gone.device, world.now, &mut world.rng).unwrap();
    let (mut new, _) = join(&mut world, &mut bob, Role::Device);
    world.settle(&mut bob);
    alice
        .update_devices("bob", &world.post.list("bob").unwrap().encode(), world.now, &mut world.rng)
        .unwrap();
    world.settle(&mut alice);
    assert_eq!(alice.progress(text).unwrap(), Progress::Sent);
    world.rest(&mut [&mut bob, &mut new, &mut alice]);
    assert_eq!(texts(&mut bob), Vec::<String>::new());
    assert_eq!(texts(&mut new), ["which of you reads this?"]);
    world.fetch(&mut old);
    assert_eq!(texts(&mut old), Vec::<String>::new());
    assert!(!events(&mut alice).iter().any(|event| matches!(event, Event::Undelivered { .. })));
}
