//! Somebody whom the account does not know.

use subrosa::store::Table;
use subrosa::{Action, Address, Error, Event, Item, Received};

use crate::liar::{Liar, Saying, noise};
use crate::world::{World, events, inbox, incoming, texts};

#[test]
fn noise_of_a_stranger_leaves_nothing_in_the_store_and_asks_the_server_for_nothing() {
    let mut world = World::new("noise of a stranger");
    let (mut alice, disk) = world.app("alice");
    let (before, _) = (disk.size(), disk.written());
    for number in 0..500 {
        let bytes = noise(&mut world);
        let received = world.give(&mut alice, &Address::new("mallory", number), &bytes);
        assert_eq!(received, Received::Refused(Error::UnknownHeader));
    }
    assert_eq!((disk.size(), disk.written()), (before, (0, 0)));
    assert_eq!(world.settle(&mut alice), []);
}

/// An initial message that names prekeys which are not there, under a name that is not there.
fn forged_initial(world: &mut World, liar: &mut Liar, to: &Address) -> Vec<u8> {
    let bundle = liar.bundle();
    let mut other = Liar::new(world, "other");
    let talk = other.begin_with(world, to, bundle);
    other.say(world, talk, &Saying::text(1, "for somebody else"))
}

#[test]
fn made_up_names_leave_a_bounded_number_of_rows_that_go_when_the_server_knows_no_such_user() {
    let mut world = World::new("made-up names");
    let (mut alice, disk) = world.app("alice");
    let mut liar = Liar::new(&mut world, "mallory");
    let envelope = forged_initial(&mut world, &mut liar, &alice.address().clone());
    let before = disk.size();
    for number in 0..3_000 {
        let from = Address::new(&format!("made up {number}"), 1 + number % 7);
        let received = world.give(&mut alice, &from, &envelope);
        assert!(!matches!(received, Received::Incoming(_)));
    }
    let (rows, bytes) = disk.size();
    eprintln!("3,000 made-up names: {} rows, {} bytes", rows - before.0, bytes - before.1);
    assert!(rows - before.0 < 16_000 && bytes - before.1 < 4 << 20);
    // None of it stands in front of what a person does.
    let (mut bob, _) = world.app("bob");
    world.write(&mut alice, "bob", "hello");
    let most = alice.tasks(100, world.now, &mut world.rng).unwrap();
    assert!(!most.is_empty());
    world.pass(120);
    world.settle(&mut alice);
    world.fetch(&mut bob);
    assert_eq!(texts(&mut bob), ["hello"]);
    for _ in 0..3 {
        world.pass(3_600);
        world.settle(&mut alice);
    }
    let (left, _) = disk.size();
    let allowances = disk.count(Table::Allowance);
    assert_eq!((disk.count(Table::Request), disk.count(Table::Inbox)), (0, 0));
    assert!(left - allowances < before.0 + 60, "{left} rows, {allowances} of them allowances");
}

#[test]
fn a_flood_of_made_up_names_hides_no_user_that_a_person_writes_to() {
    let mut world = World::new("wants");
    let (mut alice, _) = world.app("alice");
    let mut liar = Liar::new(&mut world, "mallory");
    let envelope = forged_initial(&mut world, &mut liar, &alice.address().clone());
    for number in 0..3_000 {
        let from = Address::new(&format!("made up {number}"), 1);
        drop(world.give(&mut alice, &from, &envelope));
    }
    // Wherever its tag sorts, each user that is written to is asked for.
    for number in 0..300 {
        world.write(&mut alice, &format!("friend {number}"), "hello");
    }
    let done = world.settle(&mut alice);
    for number in 0..300 {
        assert!(
            done.contains(&Action::FetchDevices(format!("friend {number}"))),
            "friend {number}"
        );
    }
}

#[test]
fn a_copy_by_a_stranger_is_not_shown() {
    let mut world = World::new("copy by a stranger");
    let (mut alice, _) = world.app("alice");
    let mut liar = Liar::new(&mut world, "mallory");
    let talk = liar.begin(&mut world, &alice.address().clone());
    let copy = Saying::copy(1, "bob", "what alice never wrote");
    assert_eq!(liar.tell(&mut world, &mut alice, talk, &copy), Received::Handled);
    assert_eq!(inbox(&mut alice), []);
}

#[test]
fn an_account_key_from_a_stranger_is_not_taken() {
    let mut world = World::new("account key from a stranger");
    let (mut alice, disk) = world.app("alice");
    let before = disk.row(Table::Account, b"account key").unwrap();
    let mut liar = Liar::new(&mut world, "mallory");
    let talk = liar.begin(&mut world, &alice.address().clone());
    for key in [liar.account.clone(), crate::world::stolen(&disk, b"account key")] {
        let saying = Saying::account(&key);
        assert_eq!(liar.tell(&mut world, &mut alice, talk, &saying), Received::Handled);
    }
    assert_eq!(disk.row(Table::Account, b"account key").unwrap(), before);
}

#[test]
fn a_first_message_that_skips_as_many_as_it_may_is_charged_before_the_work() {
    let mut world = World::new("skipping strangers");
    let (mut alice, _) = world.app("alice");
    let mut liar = Liar::new(&mut world, "mallory");
    // Without a list, the first leaves its sender unknown.
    let first = Saying::text(1, "far ahead").bare().rank(world.now.as_secs());
    for saying in [first, Saying::text(2, "far ahead")] {
        let talk = liar.begin(&mut world, &alice.address().clone());
        for _ in 0..24_000 {
            drop(liar.talks[talk].session.encrypt(b"", b"", &mut world.rng).unwrap());
        }
        let received = liar.tell(&mut world, &mut alice, talk, &saying);
        assert_eq!(received, Received::SetAside);
    }
    assert_eq!(inbox(&mut alice), []);
}

#[test]
fn what_a_later_version_says_moves_the_session_on_and_is_told() {
    let mut world = World::new("later version");
    let (mut alice, _) = world.app("alice");
    let mut liar = Liar::new(&mut world, "mallory");
    let talk = liar.begin(&mut world, &alice.address().clone());
    let unsupported = Item::Event(Event::Unsupported { from: liar.address.clone() });
    for (kind, told) in [(30, true), (127, true), (128, false), (255, false)] {
        let received = liar.tell(&mut world, &mut alice, talk, &Saying::raw(kind, &[7; 100_000]));
        match told {
            true => assert_eq!(incoming(received), unsupported),
            false => assert_eq!(received, Received::Handled),
        }
    }
    let field = Saying::text(1, "with a field").field(77, &[0; 60_000]);
    assert_eq!(incoming(liar.tell(&mut world, &mut alice, talk, &field)), unsupported);
    let field = Saying::text(2, "with a field").field(177, &[0; 60_000]);
    assert!(matches!(incoming(liar.tell(&mut world, &mut alice, talk, &field)), Item::Text(_)));
    assert_eq!(events(&mut alice).len(), 3);
}

#[test]
fn a_content_that_breaks_the_layout_is_refused_and_changes_nothing() {
    let mut world = World::new("malformed");
    let (mut alice, disk) = world.app("alice");
    let mut liar = Liar::new(&mut world, "mallory");
    let talk = liar.befriend(&mut world, &mut alice);
    world.settle(&mut alice);
    let before = disk.rows();
    for saying in [
        Saying::raw(0, b""),
        Saying::raw(3, &[0; 7]),
        Saying::raw(4, b"x"),
        Saying::raw(6, &[0; 15]),
        Saying::text(1, "").claiming([0; 16]),
        Saying::text(1, "").rank(0),
        Saying::text(1, "").field(1, b"long rank"),
        Saying::text(1, "").field(4, b"not a list"),
        Saying::text(1, "").field(5, b"").field(5, b""),
    ] {
        let received = liar.tell(&mut world, &mut alice, talk, &saying);
        assert!(matches!(received, Received::Refused(_)), "{received:?}");
    }
    let changed = disk.rows().into_iter().filter(|row| !before.contains(row)).collect::<Vec<_>>();
    assert!(changed.iter().all(|(table, _)| *table == Table::Allowance), "{changed:?}");
}

#[test]
fn what_is_asked_of_a_stranger_is_bounded_however_long_it_goes_on() {
    let mut world = World::new("a stranger for days");
    let (mut alice, disk) = world.app("alice");
    let mut liar = Liar::new(&mut world, "mallory");
    let envelope = forged_initial(&mut world, &mut liar, &alice.address().clone());
    for number in 0..100_u8 {
        let (mut other, from) =
            (envelope.clone(), Address::new("mallory", 1 + u32::from(number % 3)));
        other[2] = number;
        drop(world.give(&mut alice, &from, &other));
        world.pass(600);
    }
    // 16 references, and how many there are of each device.
    let rows = disk.count(Table::Request);
    assert!((16..=16 + 3).contains(&rows), "{rows}");
}

#[test]
fn names_that_the_server_says_nothing_of_are_forgotten_after_a_while() {
    let mut world = World::new("no answer");
    let (mut alice, disk) = world.app("alice");
    let mut liar = Liar::new(&mut world, "mallory");
    let envelope = forged_initial(&mut world, &mut liar, &alice.address().clone());
    let rows = |disk: &crate::world::Disk| {
        [Table::Request, Table::Inbox, Table::Task].map(|of| disk.count(of))
    };
    let before = rows(&disk);
    drop(world.give(&mut alice, &Address::new("made up", 1), &envelope));
    assert_ne!(rows(&disk), before);
    for _ in 0..40 {
        for _ in 0..5 {
            for task in alice.tasks(100, world.now, &mut world.rng).unwrap() {
                if matches!(task.action, Action::FetchDevices(_)) {
                    let failed = subrosa::Answer::Failed;
                    drop(alice.complete(&task.id, failed, world.now, &mut world.rng).unwrap());
                } else {
                    drop(world.post.perform(&mut alice, &task, world.now, &mut world.rng));
                }
            }
            world.pass(6 * 60 * 60);
        }
    }
    assert_eq!(rows(&disk)[..2], before[..2]);
}

#[test]
fn a_first_list_counts_only_from_a_device_that_is_in_it() {
    let mut world = World::new("somebody else's list");
    let (mut alice, _) = world.app("alice");
    let (bob, mut mallory) = (Liar::new(&mut world, "bob"), Liar::new(&mut world, "mallory"));
    // Mallory writes as Bob, with Bob's genuine list.
    mallory.address = bob.address;
    mallory.list = bob.list;
    let talk = mallory.begin(&mut world, &alice.address().clone());
    let received = mallory.tell(&mut world, &mut alice, talk, &Saying::text(1, "I am Bob"));
    assert_eq!(received, Received::SetAside);
    assert_eq!(alice.devices("bob").unwrap(), None);
}

#[test]
fn a_known_users_list_is_asked_for_though_as_many_as_may_be_are_wanted() {
    let mut world = World::new("wants are full");
    let (mut alice, disk) = world.app("alice");
    let mut mallory = Liar::new(&mut world, "mallory");
    mallory.befriend(&mut world, &mut alice);
    for number in 0..2_048 {
        world.write(&mut alice, &format!("friend {number}"), "are you there?");
    }
    // A device that the known list does not have.
    let identity = subrosa::protocol::IdentityKeyPair::generate(&mut world.rng);
    let (account, list) = (mallory.account.clone(), mallory.list.clone());
    let mut second = Liar::posing(&mut world, "mallory", 2, account, identity, list);
    let talk = second.begin(&mut world, &alice.address().clone());
    let received = second.tell(&mut world, &mut alice, talk, &Saying::text(7, "hello"));
    assert_eq!(received, Received::SetAside);
    let tasks = alice.tasks(5_000, world.now, &mut world.rng).unwrap();
    let is_it = |task: &subrosa::Task| task.action == Action::FetchDevices("mallory".into());
    assert!(tasks.iter().any(is_it));
    // It is never listed: what was set aside is looked at for a week, and then goes.
    let kept = disk.count(Table::Inbox);
    for _ in 0..20 {
        world.pass(12 * 60 * 60);
        world.settle(&mut alice);
    }
    assert!(kept > 0 && disk.count(Table::Inbox) == 0, "{} of {kept}", disk.count(Table::Inbox));
}
