//! What honest devices do, with what gets lost, repeated, delayed and interrupted on the way.

use subrosa::store::{Store, Table};
use subrosa::{
    Audit, Client, DeviceList, Error, Event, NewDevice, Received, Role, SasEnd, SasStage, SasValue,
    Scanned, Trust,
};

use crate::world::{App, Disk, World, events, inbox};

/// Another device of the account.
pub(crate) fn join(world: &mut World, app: &mut App) -> (App, Disk) {
    let new = NewDevice::generate(&mut world.rng);
    let grant = app.link(&new.code(), Role::Manager, world.now, &mut world.rng).unwrap();
    let disk = Disk::default();
    let mut other = Client::join(disk.clone(), &new, &grant, world.now, &mut world.rng).unwrap();
    world.rest(&mut [app, &mut other]);
    inbox(app);
    inbox(&mut other);
    (other, disk)
}

/// Alice's other device hears of Bob.
fn meet(world: &mut World, laptop: &mut App, bob: &mut App) {
    world.write(laptop, "bob", "from the laptop");
    world.rest(&mut [laptop, bob]);
    inbox(laptop);
    inbox(bob);
}

/// Alice and Bob, who have written to each other.
pub(crate) fn acquainted(name: &str) -> (World, (App, Disk), (App, Disk)) {
    let mut world = World::new(name);
    let (mut alice, mut bob) = (world.app("alice"), world.app("bob"));
    world.acquaint(&mut alice.0, &mut bob.0);
    (world, alice, bob)
}

pub(crate) fn trust(app: &mut App, user: &str) -> Trust {
    app.trust(user).unwrap().unwrap().trust
}

pub(crate) fn start(world: &mut World, app: &mut App, user: &str) {
    app.start_sas(user, world.now, &mut world.rng).unwrap();
}

pub(crate) fn accept(world: &mut World, app: &mut App, user: &str) {
    app.accept_sas(user, world.now, &mut world.rng).unwrap();
}

pub(crate) fn value(world: &World, app: &mut App, user: &str) -> SasValue {
    match app.sas(user, world.now).unwrap() {
        Some(SasStage::Compare(value)) => value,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn ended(app: &mut App, why: SasEnd) {
    let ended = |event: &Event| matches!(event, Event::SasEnded { why: of, .. } if *of == why);
    let events = events(app);
    assert!(events.iter().any(ended), "{events:?}");
}

fn asked(app: &mut App, by: &str) {
    let events = events(app);
    assert!(events.contains(&Event::SasAsked { user: by.into() }), "{events:?}");
}

/// Nothing of a verification is left in a store but what it led to.
pub(crate) fn is_over(disk: &Disk) {
    let rows = disk.rows();
    let left = rows.iter().filter(|(table, (key, _))| {
        *table == Table::Task && matches!(key.first(), Some(0x18 | 0x30..=0x32))
    });
    assert_eq!(left.count(), 0);
}

fn delete_sessions(disk: &mut Disk) {
    let sessions: Vec<Vec<u8>> = disk
        .rows()
        .into_iter()
        .filter(|(table, _)| *table == Table::Session)
        .map(|(_, (key, _))| key)
        .collect();
    let deleted =
        disk.transact(|tx| sessions.iter().try_for_each(|key| tx.delete(Table::Session, key)));
    deleted.unwrap();
}

#[test]
fn a_safety_number_is_the_same_on_every_device_of_both_and_on_no_other() {
    let (mut world, (mut alice, _), (mut bob, _)) = acquainted("numbers");
    let (mut laptop, _) = join(&mut world, &mut alice);
    world.write(&mut laptop, "bob", "from the laptop");
    world.rest(&mut [&mut alice, &mut laptop, &mut bob]);
    let number = alice.safety_number("bob").unwrap();
    assert_eq!(laptop.safety_number("bob").unwrap().to_string(), number.to_string());
    assert_eq!(bob.safety_number("alice").unwrap().to_string(), number.to_string());
    assert_eq!(number.account(), bob.trust("bob").unwrap().unwrap().account);
    alice.verify("bob", &number.account(), world.now, &mut world.rng).unwrap();
    assert_eq!(trust(&mut alice, "bob"), Trust::Verified);
    world.rest(&mut [&mut alice, &mut laptop, &mut bob]);
    assert_eq!(trust(&mut laptop, "bob"), Trust::Verified);
    assert_eq!(trust(&mut bob, "alice"), Trust::FirstUse);
    // A name in other case is another person.
    inbox(&mut alice);
    let (mut other, _) = world.app("Bob");
    world.acquaint(&mut alice, &mut other);
    assert_ne!(alice.safety_number("Bob").unwrap().to_string(), number.to_string());
    assert_eq!(alice.safety_number("alice").unwrap_err(), Error::OwnIdentity);
    assert!(matches!(alice.safety_number("carol"), Err(Error::DevicesNeeded(_))));
    assert_eq!(alice.safety_number("").unwrap_err(), Error::BadName);
}

#[test]
fn one_scan_verifies_both_once_the_person_has_looked() {
    let (mut world, (mut alice, disk), (mut bob, bobs)) = acquainted("a scan");
    let now = world.now;
    let code = alice.show_code("bob", now, &mut world.rng).unwrap();
    assert_eq!(alice.confirm_scan("bob", now, &mut world.rng), Err(Error::OutOfTurn));
    let scanned = bob.scan("alice", &code, now, &mut world.rng);
    assert_eq!(scanned, Ok(Scanned::Match));
    assert_eq!(trust(&mut bob, "alice"), Trust::Verified);
    world.rest(&mut [&mut alice, &mut bob]);
    assert_eq!(events(&mut alice), [Event::CodeScanned { user: "bob".into() }]);
    assert_eq!(trust(&mut alice, "bob"), Trust::FirstUse, "nobody has looked yet");
    alice.confirm_scan("bob", now, &mut world.rng).unwrap();
    assert_eq!(trust(&mut alice, "bob"), Trust::Verified);
    assert_eq!(alice.confirm_scan("bob", now, &mut world.rng), Err(Error::OutOfTurn));
    world.pass(601);
    world.rest(&mut [&mut alice, &mut bob]);
    is_over(&disk);
    is_over(&bobs);
}

#[test]
fn a_code_says_who_is_not_meant_and_changes_nothing_then() {
    let (mut world, (mut alice, _), (mut bob, bobs)) = acquainted("other codes");
    let (mut carol, _) = world.app("carol");
    let (mut other, _) = world.app("Bob");
    for app in [&mut carol, &mut other] {
        world.acquaint(&mut alice, app);
    }
    let now = world.now;
    let before = bobs.rows();
    for user in ["carol", "Bob"] {
        let code = alice.show_code(user, now, &mut world.rng).unwrap();
        let scanned = bob.scan("alice", &code, now, &mut world.rng);
        assert_eq!(scanned, Ok(Scanned::OtherPerson), "{user}");
    }
    let code = alice.show_code("bob", now, &mut world.rng).unwrap();
    for (text, result) in [
        (code.replacen('1', "2", 1), Ok(Scanned::OtherVersion)),
        (code[..100].into(), Err(Error::BadScan)),
        ("hello".into(), Err(Error::BadScan)),
    ] {
        assert_eq!(bob.scan("alice", &text, now, &mut world.rng), result);
    }
    assert!(bobs.rows() == before);
    assert!(matches!(bob.scan("dave", &code, now, &mut world.rng), Err(Error::DevicesNeeded(_))));
    assert_eq!(bob.scan("bob", &code, now, &mut world.rng), Err(Error::OwnIdentity));
}

#[test]
fn a_scan_counts_while_the_code_is_shown_and_for_ten_minutes() {
    let (mut world, (mut alice, _), (mut bob, _)) = acquainted("late scans");
    for how in ["hidden", "late", "replaced", "confirmed late"] {
        let code = alice.show_code("bob", world.now, &mut world.rng).unwrap();
        assert_eq!(bob.scan("alice", &code, world.now, &mut world.rng), Ok(Scanned::Match));
        match how {
            "hidden" => alice.hide_code("bob").unwrap(),
            "late" => world.pass(601),
            "replaced" => drop(alice.show_code("bob", world.now, &mut world.rng).unwrap()),
            _ => {
                world.pass(600);
                world.rest(&mut [&mut alice, &mut bob]);
                assert_eq!(events(&mut alice).len(), 1, "{how}");
                world.pass(601);
            }
        }
        world.rest(&mut [&mut alice, &mut bob]);
        assert_eq!(events(&mut alice), [], "{how}");
        let confirmed = alice.confirm_scan("bob", world.now, &mut world.rng);
        assert_eq!(confirmed, Err(Error::OutOfTurn), "{how}");
        assert_eq!(trust(&mut alice, "bob"), Trust::FirstUse, "{how}");
    }
}

#[test]
fn seven_emoji_verify_both_and_one_device_of_each_compares() {
    let (mut world, (mut alice, disk), (mut bob, _)) = acquainted("emoji");
    let (mut tablet, tablets) = join(&mut world, &mut bob);
    // Alice hears of the tablet.
    world.write(&mut bob, "alice", "hello");
    world.rest(&mut [&mut alice, &mut bob, &mut tablet]);
    inbox(&mut alice);
    start(&mut world, &mut alice, "bob");
    assert_eq!(alice.sas("bob", world.now), Ok(Some(SasStage::Started)));
    let again = alice.start_sas("bob", world.now, &mut world.rng);
    assert_eq!(again, Err(Error::OutOfTurn), "one at a time");
    // The tablet has no session with Alice: one is begun for it.
    world.rest(&mut [&mut alice, &mut bob, &mut tablet]);
    asked(&mut bob, "alice");
    asked(&mut tablet, "alice");
    assert_eq!(bob.sas("alice", world.now), Ok(Some(SasStage::Asked)));
    accept(&mut world, &mut tablet, "alice");
    assert_eq!(tablet.sas("alice", world.now), Ok(Some(SasStage::Answered)));
    world.rest(&mut [&mut alice, &mut tablet, &mut bob]);
    ended(&mut bob, SasEnd::Taken);
    assert_eq!(bob.sas("alice", world.now), Ok(None));
    assert_eq!(events(&mut alice).last(), Some(&Event::SasReady { user: "bob".into() }));
    assert_eq!(events(&mut tablet), [Event::SasReady { user: "alice".into() }]);
    let shown = value(&world, &mut alice, "bob");
    assert_eq!(value(&world, &mut tablet, "alice"), shown);
    let now = world.now;
    alice.confirm_sas("bob", &shown, now, &mut world.rng).unwrap();
    assert_eq!(alice.sas("bob", now), Ok(Some(SasStage::Confirmed)));
    assert_eq!(trust(&mut alice, "bob"), Trust::Verified);
    assert_eq!(trust(&mut tablet, "alice"), Trust::FirstUse, "each person says so");
    tablet.confirm_sas("alice", &shown, now, &mut world.rng).unwrap();
    world.rest(&mut [&mut alice, &mut tablet, &mut bob]);
    assert_eq!(trust(&mut bob, "alice"), Trust::Verified, "told by the tablet");
    let again = alice.confirm_sas("bob", &shown, now, &mut world.rng);
    assert_eq!(again, Err(Error::OutOfTurn));
    world.pass(601);
    world.rest(&mut [&mut alice, &mut tablet, &mut bob]);
    assert_eq!(events(&mut alice), []);
    is_over(&disk);
    is_over(&tablets);
}

#[test]
fn where_both_begin_one_counts_and_nobody_is_asked() {
    for first in [0, 1] {
        let (mut world, (mut alice, _), (mut bob, _)) = acquainted("both begin");
        let (mut tablet, _) = join(&mut world, &mut bob);
        world.write(&mut tablet, "alice", "hello");
        world.rest(&mut [&mut alice, &mut bob, &mut tablet]);
        inbox(&mut alice);
        start(&mut world, &mut alice, "bob");
        start(&mut world, &mut bob, "alice");
        let apps = &mut [&mut alice, &mut bob];
        let order = if first == 0 { [0, 1] } else { [1, 0] };
        for at in order {
            world.settle(apps[at]);
        }
        world.rest(&mut [&mut alice, &mut bob]);
        let shown = value(&world, &mut alice, "bob");
        assert_eq!(value(&world, &mut bob, "alice"), shown);
        world.rest(&mut [&mut alice, &mut bob, &mut tablet]);
        assert_eq!(tablet.sas("alice", world.now), Ok(None), "it asks nobody any more");
        let ready = |user: &str| [Event::SasReady { user: user.into() }];
        assert_eq!(events(&mut alice), ready("bob"));
        assert_eq!(events(&mut bob), ready("alice"));
    }
}

#[test]
fn who_presses_start_while_being_asked_accepts() {
    let (mut world, (mut alice, _), (mut bob, _)) = acquainted("start is accept");
    start(&mut world, &mut alice, "bob");
    world.rest(&mut [&mut alice, &mut bob]);
    start(&mut world, &mut bob, "alice");
    world.rest(&mut [&mut alice, &mut bob]);
    assert_eq!(value(&world, &mut bob, "alice"), value(&world, &mut alice, "bob"));
}

#[test]
fn either_side_can_stop_and_both_hear_why() {
    for who in ["asked", "asker", "asker after the answer", "nobody", "the clock"] {
        let (mut world, (mut alice, disk), (mut bob, bobs)) = acquainted("stops");
        start(&mut world, &mut alice, "bob");
        world.rest(&mut [&mut alice, &mut bob]);
        asked(&mut bob, "alice");
        let now = world.now;
        match who {
            "asked" => bob.cancel_sas("alice", now, &mut world.rng).unwrap(),
            "asker" => alice.cancel_sas("bob", now, &mut world.rng).unwrap(),
            "asker after the answer" => {
                accept(&mut world, &mut bob, "alice");
                alice.cancel_sas("bob", now, &mut world.rng).unwrap();
            }
            _ => world.pass(601),
        }
        world.rest(&mut [&mut alice, &mut bob]);
        match who {
            "asked" => ended(&mut alice, SasEnd::Cancelled),
            "asker" | "asker after the answer" => ended(&mut bob, SasEnd::Cancelled),
            _ => {
                ended(&mut alice, SasEnd::Expired);
                ended(&mut bob, SasEnd::Expired);
            }
        }
        for (app, user) in [(&mut alice, "bob"), (&mut bob, "alice")] {
            assert_eq!(app.sas(user, world.now), Ok(None), "{who}");
            let late = app.accept_sas(user, world.now, &mut world.rng);
            assert_eq!(late, Err(Error::OutOfTurn), "{who}");
            app.cancel_sas(user, world.now, &mut world.rng).unwrap();
        }
        // And they can begin anew.
        start(&mut world, &mut bob, "alice");
        world.rest(&mut [&mut alice, &mut bob]);
        accept(&mut world, &mut alice, "bob");
        world.rest(&mut [&mut alice, &mut bob]);
        assert_eq!(value(&world, &mut bob, "alice"), value(&world, &mut alice, "bob"));
        world.pass(700);
        world.rest(&mut [&mut alice, &mut bob]);
        is_over(&disk);
        is_over(&bobs);
    }
}

#[test]
fn values_that_differ_take_back_what_the_other_side_confirmed() {
    for is_confirmed in [false, true] {
        let (mut world, (mut alice, _), (mut bob, _)) = acquainted("they differ");
        let (mut laptop, _) = join(&mut world, &mut alice);
        meet(&mut world, &mut laptop, &mut bob);
        start(&mut world, &mut alice, "bob");
        world.rest(&mut [&mut alice, &mut bob]);
        accept(&mut world, &mut bob, "alice");
        world.rest(&mut [&mut alice, &mut bob]);
        let (now, shown) = (world.now, value(&world, &mut alice, "bob"));
        if is_confirmed {
            alice.confirm_sas("bob", &shown, now, &mut world.rng).unwrap();
            world.rest(&mut [&mut alice, &mut laptop]);
            assert_eq!(trust(&mut laptop, "bob"), Trust::Verified);
        }
        bob.reject_sas("alice", now, &mut world.rng).unwrap();
        world.rest(&mut [&mut alice, &mut bob, &mut laptop]);
        ended(&mut alice, SasEnd::Mismatch);
        for app in [&mut alice, &mut laptop] {
            assert_eq!(trust(app, "bob"), Trust::FirstUse);
        }
        let late = alice.confirm_sas("bob", &shown, now, &mut world.rng);
        assert_eq!(late, Err(Error::OutOfTurn));
    }
}

#[test]
fn who_sees_values_that_differ_takes_back_what_they_said_before() {
    let (mut world, (mut alice, _), (mut bob, _)) = acquainted("they saw");
    let account = bob.trust("alice").unwrap().unwrap().account;
    bob.verify("alice", &account, world.now, &mut world.rng).unwrap();
    assert_eq!(trust(&mut bob, "alice"), Trust::Verified);
    start(&mut world, &mut alice, "bob");
    world.rest(&mut [&mut alice, &mut bob]);
    accept(&mut world, &mut bob, "alice");
    world.rest(&mut [&mut alice, &mut bob]);
    bob.reject_sas("alice", world.now, &mut world.rng).unwrap();
    assert_eq!(trust(&mut bob, "alice"), Trust::FirstUse);
}

#[test]
fn five_comparisons_at_once_and_then_one_in_five_hours() {
    let (mut world, (mut alice, disk), (mut bob, bobs)) = acquainted("five");
    for _ in 0..5 {
        start(&mut world, &mut alice, "bob");
        world.rest(&mut [&mut alice, &mut bob]);
        asked(&mut bob, "alice");
        alice.cancel_sas("bob", world.now, &mut world.rng).unwrap();
        world.rest(&mut [&mut alice, &mut bob]);
    }
    for (app, disk, user) in [(&mut alice, &disk, "bob"), (&mut bob, &bobs, "alice")] {
        let before = disk.rows();
        let sixth = app.start_sas(user, world.now, &mut world.rng);
        assert_eq!(sixth, Err(Error::RateLimited));
        assert!(disk.rows() == before);
    }
    world.pass(5 * 60 * 60);
    start(&mut world, &mut alice, "bob");
    world.rest(&mut [&mut alice, &mut bob]);
    asked(&mut bob, "alice");
}

#[test]
fn a_repeated_move_changes_nothing_and_a_lost_one_comes_again() {
    let (mut world, (mut alice, mut disk), (mut bob, mut bobs)) = acquainted("lost moves");
    start(&mut world, &mut alice, "bob");
    world.settle(&mut alice);
    // The start does not open: Bob lost his sessions.
    delete_sessions(&mut bobs);
    for _ in 0..3 {
        world.pass(20);
        world.rest(&mut [&mut alice, &mut bob]);
    }
    asked(&mut bob, "alice");
    accept(&mut world, &mut bob, "alice");
    world.settle(&mut bob);
    // Nor does the answer.
    delete_sessions(&mut disk);
    for _ in 0..10 {
        world.pass(20);
        world.fetch(&mut alice);
        world.settle(&mut alice);
        if matches!(alice.sas("bob", world.now), Ok(Some(SasStage::Compare(_)))) {
            break;
        }
        world.fetch(&mut bob);
        world.settle(&mut bob);
    }
    // Nor the opening.
    assert_eq!(bob.sas("alice", world.now), Ok(Some(SasStage::Answered)));
    delete_sessions(&mut bobs);
    for _ in 0..3 {
        world.pass(20);
        world.rest(&mut [&mut alice, &mut bob]);
    }
    let shown = value(&world, &mut alice, "bob");
    assert_eq!(value(&world, &mut bob, "alice"), shown);
    inbox(&mut alice);
    inbox(&mut bob);
    // Everything that was ever sent comes once more.
    for mail in world.post.past.clone() {
        let app = if mail.to.user == "alice" { &mut alice } else { &mut bob };
        let received = world.give(app, &mail.from, &mail.envelope);
        assert!(!matches!(received, Received::Incoming(_)), "{received:?}");
    }
    world.rest(&mut [&mut alice, &mut bob]);
    assert_eq!(value(&world, &mut alice, "bob"), shown);
    assert_eq!(value(&world, &mut bob, "alice"), shown);
    assert!(!events(&mut bob).iter().any(|event| matches!(event, Event::SasAsked { .. })));
}

#[test]
fn moves_that_overtake_each_other_end_in_one_value_or_in_none() {
    // Two starts and a stop, in every order that the network can make of them.
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let (mut world, (mut alice, _), (mut bob, _)) = acquainted("overtaking");
        start(&mut world, &mut alice, "bob");
        alice.cancel_sas("bob", world.now, &mut world.rng).unwrap();
        start(&mut world, &mut alice, "bob");
        world.settle(&mut alice);
        let mail = world.post.take(&bob.address().clone());
        assert_eq!(mail.len(), 3);
        for at in order {
            let received = world.give(&mut bob, &mail[at].from, &mail[at].envelope);
            assert_eq!(received, Received::Handled);
        }
        if order == [2, 0, 1] {
            // The stop of the older start came after it, and that one after the newer.
            assert_eq!(bob.sas("alice", world.now), Ok(None));
            continue;
        }
        assert_eq!(bob.sas("alice", world.now), Ok(Some(SasStage::Asked)), "{order:?}");
        accept(&mut world, &mut bob, "alice");
        world.rest(&mut [&mut alice, &mut bob]);
        match bob.sas("alice", world.now).unwrap() {
            Some(SasStage::Compare(shown)) => {
                assert_eq!(value(&world, &mut alice, "bob"), shown, "{order:?}");
            }
            // The older start came last: Alice has nothing to open, and it ends by the clock.
            Some(SasStage::Answered) => {
                assert_eq!(alice.sas("bob", world.now), Ok(Some(SasStage::Started)));
            }
            other => panic!("{order:?}: {other:?}"),
        }
    }
}

#[test]
fn a_process_that_ends_after_every_call_compares_all_the_same() {
    let (mut world, (alice, disk), (bob, bobs)) = acquainted("reopened");
    drop((alice, bob));
    let open = |disk: &Disk| Client::open(disk.clone()).unwrap();
    let rest = |world: &mut World| {
        for _ in 0..6 {
            for disk in [&disk, &bobs] {
                world.settle(&mut open(disk));
                world.fetch(&mut open(disk));
            }
        }
    };
    start(&mut world, &mut open(&disk), "bob");
    rest(&mut world);
    accept(&mut world, &mut open(&bobs), "alice");
    rest(&mut world);
    let shown = value(&world, &mut open(&disk), "bob");
    assert_eq!(value(&world, &mut open(&bobs), "alice"), shown);
    open(&disk).confirm_sas("bob", &shown, world.now, &mut world.rng).unwrap();
    assert_eq!(trust(&mut open(&disk), "bob"), Trust::Verified);
    let code = open(&disk).show_code("bob", world.now, &mut world.rng).unwrap();
    let scanned = open(&bobs).scan("alice", &code, world.now, &mut world.rng);
    assert_eq!(scanned, Ok(Scanned::Match));
    rest(&mut world);
    open(&disk).confirm_scan("bob", world.now, &mut world.rng).unwrap();
}

#[test]
fn a_restored_store_goes_on_with_no_comparison() {
    let (mut world, (mut alice, disk), (mut bob, _)) = acquainted("restored");
    start(&mut world, &mut alice, "bob");
    let copy = disk.copy();
    world.rest(&mut [&mut alice, &mut bob]);
    world.pass(60);
    alice.connected().unwrap();
    world.rest(&mut [&mut alice, &mut bob]);
    drop(alice);
    let mut alice = Client::open(copy).unwrap();
    assert_eq!(alice.sas("bob", world.now), Ok(Some(SasStage::Started)));
    accept(&mut world, &mut bob, "alice");
    world.settle(&mut bob);
    world.settle(&mut alice);
    assert_eq!(alice.sas("bob", world.now), Ok(None));
    ended(&mut alice, SasEnd::Interrupted);
    world.fetch(&mut alice);
    assert_eq!(alice.sas("bob", world.now), Ok(None));
}

/// Bob's account, made anew under the same name.
fn replaced(world: &mut World, app: &mut App) -> DeviceList {
    let mut other = Client::create(Disk::default(), "bob", world.now, &mut world.rng).unwrap();
    let list = other.devices("bob").unwrap().unwrap();
    app.update_devices("bob", &list.encode(), world.now, &mut world.rng).unwrap();
    list
}

#[test]
fn nothing_is_verified_while_a_changed_key_waits_nor_for_the_key_before() {
    let (mut world, (mut alice, _), (mut bob, _)) = acquainted("changed");
    start(&mut world, &mut alice, "bob");
    world.rest(&mut [&mut alice, &mut bob]);
    accept(&mut world, &mut bob, "alice");
    world.rest(&mut [&mut alice, &mut bob]);
    let shown = value(&world, &mut alice, "bob");
    let code = alice.show_code("bob", world.now, &mut world.rng).unwrap();
    assert_eq!(bob.scan("alice", &code, world.now, &mut world.rng), Ok(Scanned::Match));
    world.settle(&mut bob);
    let bobs = bob.show_code("alice", world.now, &mut world.rng).unwrap();
    inbox(&mut alice);
    let list = replaced(&mut world, &mut alice);
    world.fetch(&mut alice);
    assert!(!events(&mut alice).contains(&Event::CodeScanned { user: "bob".into() }));
    let (now, rng) = (world.now, &mut world.rng);
    let changed = Error::IdentityChanged("bob".into());
    assert_eq!(alice.safety_number("bob").unwrap_err(), changed);
    assert_eq!(alice.show_code("bob", now, rng).unwrap_err(), changed);
    assert_eq!(alice.scan("bob", &bobs, now, rng), Err(changed.clone()));
    assert_eq!(alice.confirm_scan("bob", now, rng), Err(changed.clone()));
    assert_eq!(alice.sas("bob", now), Err(changed.clone()));
    assert_eq!(alice.start_sas("bob", now, rng), Err(changed.clone()));
    assert_eq!(alice.confirm_sas("bob", &shown, now, rng), Err(changed));
    let known = alice.trust("bob").unwrap().unwrap().account;
    for (account, audit) in [
        (known, Audit::Known),
        (list.account(), Audit::Waiting),
        (alice.trust("alice").unwrap().unwrap().account, Audit::Differs),
    ] {
        assert_eq!(alice.audit("bob", &account), Ok(audit));
    }
    // The new key is accepted, which is not verifying it.
    alice.accept_new_key("bob", &list.account(), now, rng).unwrap();
    assert_eq!(trust(&mut alice, "bob"), Trust::FirstUse);
    assert_eq!(alice.confirm_sas("bob", &shown, now, rng), Err(Error::OutOfTurn));
    assert_eq!(alice.confirm_scan("bob", now, rng), Err(Error::OutOfTurn));
    assert_eq!(alice.scan("bob", &bobs, now, rng), Ok(Scanned::Mismatch));
    assert_eq!(alice.audit("bob", &known), Ok(Audit::Differs));
    world.pass(601);
    world.settle(&mut alice);
    ended(&mut alice, SasEnd::KeyChanged);
}

#[test]
fn a_withdrawn_mark_is_set_again_by_the_person_at_the_device_alone() {
    let (mut world, (mut alice, _), (mut bob, _)) = acquainted("withdrawn");
    let (mut laptop, _) = join(&mut world, &mut alice);
    meet(&mut world, &mut laptop, &mut bob);
    world.rest(&mut [&mut alice, &mut laptop]);
    let account = alice.trust("bob").unwrap().unwrap().account;
    let now = world.now;
    // Both orders: what was withdrawn on one device and set on the other is withdrawn on both.
    alice.verify("bob", &account, now, &mut world.rng).unwrap();
    world.rest(&mut [&mut alice, &mut laptop]);
    assert_eq!(trust(&mut laptop, "bob"), Trust::Verified);
    alice.unverify("bob", now, &mut world.rng).unwrap();
    laptop.verify("bob", &account, now, &mut world.rng).unwrap();
    world.rest(&mut [&mut alice, &mut laptop]);
    assert_eq!(trust(&mut alice, "bob"), Trust::FirstUse);
    assert_eq!(trust(&mut laptop, "bob"), Trust::FirstUse);
    for _ in 0..3 {
        laptop.verify("bob", &account, now, &mut world.rng).unwrap();
        world.rest(&mut [&mut alice, &mut laptop]);
    }
    assert_eq!(trust(&mut alice, "bob"), Trust::FirstUse, "the laptop may be stolen");
    alice.verify("bob", &account, now, &mut world.rng).unwrap();
    world.rest(&mut [&mut alice, &mut laptop, &mut bob]);
    assert_eq!(trust(&mut alice, "bob"), Trust::Verified);
    // It is forgotten with the user.
    alice.unverify("bob", now, &mut world.rng).unwrap();
    world.rest(&mut [&mut alice, &mut laptop]);
    for app in [&mut alice, &mut laptop] {
        app.forget("bob").unwrap();
    }
    for app in [&mut alice, &mut laptop] {
        world.write(app, "bob", "is it you?");
    }
    for _ in 0..3 {
        world.pass(20);
        world.rest(&mut [&mut alice, &mut laptop, &mut bob]);
    }
    alice.verify("bob", &account, now, &mut world.rng).unwrap();
    world.rest(&mut [&mut alice, &mut laptop]);
    assert_eq!(trust(&mut laptop, "bob"), Trust::Verified);
}

#[test]
fn who_is_forgotten_has_nothing_under_way() {
    let (mut world, (mut alice, disk), (mut bob, _)) = acquainted("forgotten");
    start(&mut world, &mut alice, "bob");
    drop(alice.show_code("bob", world.now, &mut world.rng).unwrap());
    let code = bob.show_code("alice", world.now, &mut world.rng).unwrap();
    assert_eq!(alice.scan("bob", &code, world.now, &mut world.rng), Ok(Scanned::Match));
    alice.forget("bob").unwrap();
    let left = disk.rows().into_iter().filter(|(table, (key, _))| {
        *table == Table::Task && matches!(key.first(), Some(0x30..=0x32))
    });
    assert_eq!(left.count(), 0);
    world.pass(601);
    world.settle(&mut alice);
    assert_eq!(events(&mut alice), []);
    is_over(&disk);
}
