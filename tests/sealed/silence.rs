//! Devices that cannot read what is written to them, and cannot say so.

use subrosa::protocol::IdentityKeyPair;
use subrosa::store::{Memory, Store, Table};
use subrosa::{Client, DeviceList, Error, Received};

use super::post::Mail;
use super::world::{App, DAY, MINUTE, World, is_initial, read};

/// Days pass; the app of the one who wrote is open once a day, and the other's receives.
fn days(world: &mut World, count: u64, from: &mut App, to: &mut App) {
    for _ in 0..count {
        world.pass(DAY);
        world.work(from);
        drop(world.fetch(to));
    }
}

#[test]
fn what_was_written_to_a_copy_older_than_the_contact_comes_by_itself() {
    let world = &mut World::with_certificates("older copy");
    let (mut alice, mut bob) = world.with_older_copy();
    days(world, 3, &mut alice, &mut bob);
    assert_eq!(read(&mut bob), Vec::<String>::new());
    days(world, 3, &mut alice, &mut bob);
    assert_eq!(read(&mut bob), ["three", "four", "five"]);
    world.write(&mut bob, "alice", "so much at once");
    world.settle_all(&mut [&mut bob, &mut alice]);
    assert!(read(&mut alice).contains(&"so much at once".to_owned()));
}

#[test]
fn more_than_a_device_looks_at_in_one_go_comes_though_the_app_was_closed_for_days() {
    let world = &mut World::with_certificates("much, and closed");
    let (mut alice, mut bob) = world.with_older_copy();
    for number in 0..150 {
        world.write(&mut alice, "bob", &format!("of many {number}"));
    }
    world.work(&mut alice);
    drop(world.fetch(&mut bob));
    assert_eq!(read(&mut bob), Vec::<String>::new());
    // It is noticed, and looked at some hours later; but then the app is closed.
    world.pass(4 * DAY + MINUTE);
    world.work(&mut alice);
    world.pass(4 * DAY);
    world.settle_all(&mut [&mut alice, &mut bob]);
    assert_eq!(read(&mut bob).len(), 153);
}

#[test]
fn what_is_to_be_sent_again_waits_for_the_network() {
    let world = &mut World::with_certificates("silence, and no network");
    let (mut alice, mut bob) = world.with_older_copy();
    world.pass(4 * DAY + MINUTE);
    world.work(&mut alice);
    // The app is open each day, and the server away.
    for _ in 0..6 {
        world.pass(DAY);
        drop(alice.tasks(100, world.now, &mut world.rng).unwrap());
    }
    world.pass(MINUTE);
    world.settle_all(&mut [&mut alice, &mut bob]);
    assert_eq!(read(&mut bob), ["three", "four", "five"]);
}

#[test]
fn the_silence_of_a_user_whom_a_person_is_to_decide_about_is_not_over_before_that() {
    let world = &mut World::with_certificates("silence in doubt");
    let (mut alice, mut bob) = world.with_older_copy();
    // The server shows another account key of Bob's, and Alice takes her time.
    let known = alice.trust("bob").unwrap().unwrap().account;
    let rogue = IdentityKeyPair::generate(&mut world.rng);
    let list = DeviceList::first(&rogue, rogue.public_key()).encode();
    alice.update_devices("bob", &list, world.now, &mut world.rng).unwrap();
    days(world, 6, &mut alice, &mut bob);
    alice.accept_new_key("bob", &known, world.now, &mut world.rng).unwrap();
    assert_eq!(read(&mut bob), Vec::<String>::new());
    world.pass(DAY);
    world.settle_all(&mut [&mut alice, &mut bob]);
    assert_eq!(read(&mut bob), ["three", "four", "five"]);
}

/// A copy has the keys of none of the tickets that it gave in its former life.
#[test]
fn the_tickets_of_a_new_session_count_though_its_first_text_was_here_before() {
    let world = &mut World::new("here before");
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    world.write(&mut bob, "alice", "one");
    let copy = bob.into_store();
    let mut bob = world.open(copy.clone());
    world.settle_all(&mut [&mut alice, &mut bob]);
    world.write(&mut alice, "bob", "two");
    world.write(&mut bob, "alice", "three");
    world.settle_all(&mut [&mut alice, &mut bob]);
    assert_eq!((read(&mut alice), read(&mut bob)), (texts(&["one", "three"]), texts(&["two"])));
    drop(bob);
    let mut bob = world.open(copy);
    world.work(&mut bob);
    assert_eq!(world.fetch(&mut alice), [Received::Duplicate]);
    for text in ["four", "five"] {
        world.write(&mut alice, "bob", text);
    }
    world.settle_all(&mut [&mut alice, &mut bob]);
    // "three" was no answer to "two", which the copy has not seen.
    assert_eq!(read(&mut bob), ["four", "five", "two"]);
}

#[test]
fn who_could_not_read_a_first_message_gets_it_once_they_write_themselves() {
    let world = &mut World::with_certificates("neither reads");
    let (mut alice, mut bob) = with_gone_prekey(world);
    world.write(&mut alice, "bob", "two");
    world.write(&mut bob, "alice", "are you there?");
    world.settle_all(&mut [&mut alice, &mut bob]);
    assert_eq!(read(&mut alice), ["are you there?"]);
    assert_eq!(read(&mut bob), ["one", "two"]);
}

#[test]
fn what_was_written_to_a_copy_comes_once_it_writes_itself() {
    let world = &mut World::with_certificates("writes itself");
    let (mut alice, mut bob) = world.with_older_copy();
    world.write(&mut bob, "alice", "are you there?");
    world.settle_all(&mut [&mut alice, &mut bob]);
    assert!(read(&mut alice).contains(&"are you there?".to_owned()));
    assert_eq!(read(&mut bob), ["three", "four", "five"]);
    // It asks nothing more, and nothing comes twice.
    days(world, 9, &mut alice, &mut bob);
    assert_eq!(read(&mut bob), Vec::<String>::new());
}

#[test]
fn tickets_of_a_former_life_that_come_late_are_not_used() {
    let world = &mut World::with_certificates("former life");
    let bob = world.create("bob");
    let copy = bob.into_store();
    let (mut bob, mut alice) = (world.open(copy.clone()), world.create("alice"));
    world.write(&mut alice, "bob", "one");
    world.settle_all(&mut [&mut alice, &mut bob]);
    for text in ["two", "three"] {
        world.write(&mut bob, "alice", text);
        world.work(&mut bob);
    }
    let late = world.post.take(alice.address());
    drop(bob);
    let mut bob = world.open(copy);
    world.work(&mut bob);
    world.write(&mut bob, "alice", "four");
    world.settle_all(&mut [&mut alice, &mut bob]);
    for mail in &late {
        assert!(matches!(world.give(&mut alice, mail), Received::Incoming(_)));
    }
    assert_eq!(read(&mut alice), ["four", "two", "three"]);
    drop(read(&mut bob));
    for text in ["five", "six", "seven", "eight", "nine", "ten"] {
        world.write(&mut alice, "bob", text);
    }
    world.settle_all(&mut [&mut alice, &mut bob]);
    assert_eq!(read(&mut bob), ["five", "six", "seven", "eight", "nine", "ten"]);
}

/// Bob is restored to before he knew Alice, who has twelve tickets of his, and two texts of his that
/// are still on their way. What she writes then he refuses.
fn restored(world: &mut World) -> (App, App, Vec<Mail>) {
    let bob = world.create("bob");
    let copy = bob.into_store();
    let (mut bob, mut alice) = (world.open(copy.clone()), world.create("alice"));
    world.write(&mut alice, "bob", "one");
    world.settle_all(&mut [&mut alice, &mut bob]);
    for text in ["two", "three", "four"] {
        world.write(&mut bob, "alice", text);
    }
    world.settle_all(&mut [&mut alice, &mut bob]);
    for text in ["five", "six"] {
        world.write(&mut bob, "alice", text);
    }
    world.work(&mut bob);
    let late = world.post.take(alice.address());
    drop((read(&mut alice), bob));
    let mut bob = world.open(copy);
    world.work(&mut bob);
    world.write(&mut alice, "bob", "seven");
    world.work(&mut alice);
    assert_eq!(world.fetch(&mut bob), [Received::Refused(Error::UnknownHeader)]);
    (alice, bob, late)
}

#[test]
fn tickets_of_a_former_life_go_with_the_first_answer_in_a_session() {
    let world = &mut World::with_certificates("first answer");
    let (mut alice, mut bob, _) = restored(world);
    days(world, 6, &mut alice, &mut bob);
    assert_eq!(read(&mut bob), ["seven"]);
    world.write(&mut bob, "alice", "eight");
    world.settle_all(&mut [&mut alice, &mut bob]);
    let all = ["nine", "ten", "eleven", "twelve"];
    all.iter().for_each(|text| world.write(&mut alice, "bob", text));
    world.settle_all(&mut [&mut alice, &mut bob]);
    assert_eq!(read(&mut bob), all);
}

#[test]
fn what_was_written_before_a_text_came_does_not_end_the_silence() {
    let world = &mut World::with_certificates("no answer");
    let (mut alice, mut bob, late) = restored(world);
    for mail in &late {
        assert!(matches!(world.give(&mut alice, mail), Received::Incoming(_)));
    }
    days(world, 6, &mut alice, &mut bob);
    assert_eq!(read(&mut bob), ["seven"]);
}

#[test]
fn who_begins_sessions_without_end_is_sent_each_text_again_once() {
    let world = &mut World::with_certificates("without end");
    let bob = world.create("bob");
    let copy = bob.into_store();
    let mut alice = world.create("alice");
    world.write(&mut alice, "bob", "one");
    world.work(&mut alice);
    let mut sent = Vec::new();
    for _ in 0..6 {
        let mut bob = world.open(copy.clone());
        world.work(&mut bob);
        world.write(&mut bob, "alice", "hi");
        world.work(&mut bob);
        world.pass(20 * MINUTE);
        drop(world.fetch(&mut alice));
        world.pass(20 * MINUTE);
        world.work(&mut alice);
        sent.push(world.post.take(bob.address()).len());
    }
    // The first text, and that once more.
    assert_eq!(sent.iter().sum::<usize>(), 2, "{sent:?}");
}

#[test]
fn two_who_begin_at_once_see_each_text_once_and_come_to_rest() {
    let world = &mut World::with_certificates("both at once");
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    for text in ["one", "two"] {
        world.write(&mut alice, "bob", text);
        world.write(&mut bob, "alice", text);
        world.work(&mut alice);
        world.work(&mut bob);
    }
    world.settle_all(&mut [&mut alice, &mut bob]);
    assert_eq!(
        (read(&mut alice), read(&mut bob)),
        (texts(&["one", "two"]), texts(&["one", "two"]))
    );
    let sent = world.post.past.len();
    days(world, 9, &mut alice, &mut bob);
    days(world, 9, &mut bob, &mut alice);
    assert_eq!(read(&mut alice).len() + read(&mut bob).len(), 0);
    assert!(world.post.past.len() <= sent + 2, "{} more", world.post.past.len() - sent);
}

fn texts(all: &[&str]) -> Vec<String> {
    all.iter().map(|text| (*text).to_owned()).collect()
}

/// Alice, and Bob, who refuses what she wrote: his store is older than the prekeys that he uploaded.
fn with_gone_prekey(world: &mut World) -> (App, App) {
    let created = Client::create(Memory::new(), "bob", world.now, &mut world.rng).unwrap();
    let before = created.into_store();
    let mut bob = world.open(before.clone());
    world.work(&mut bob);
    let mut alice = world.create("alice");
    world.write(&mut alice, "bob", "one");
    world.work(&mut alice);
    drop(bob);
    let mut bob = world.open(before);
    world.work(&mut bob);
    let [received] = &world.fetch(&mut bob)[..] else { panic!("one") };
    assert_eq!(*received, Received::Refused(Error::UnknownPrekey));
    (alice, bob)
}

#[test]
fn a_first_message_whose_prekey_is_gone_comes_again_by_another_one() {
    let world = &mut World::with_certificates("prekey gone");
    let (mut alice, mut bob) = with_gone_prekey(world);
    world.write(&mut alice, "bob", "two");
    world.work(&mut alice);
    drop(world.fetch(&mut bob));
    days(world, 7, &mut alice, &mut bob);
    assert_eq!(read(&mut bob), ["one", "two"]);
}

/// An app that is opened less often than texts are kept for, and a text that waited for the network
/// as long.
#[test]
fn what_nobody_could_read_comes_though_the_app_was_closed_for_longer_than_texts_are_kept() {
    for name in ["closed for weeks", "waits for weeks"] {
        let world = &mut World::with_certificates(name);
        let (mut alice, mut bob) = with_gone_prekey(world);
        world.write(&mut alice, "bob", "two");
        let waits = name == "waits for weeks";
        if waits {
            world.pass(20 * DAY);
        }
        world.work(&mut alice);
        drop(world.fetch(&mut bob));
        world.pass(20 * DAY);
        days(world, 3, &mut alice, &mut bob);
        assert_eq!(read(&mut bob), ["one", "two"], "{name}");
        // Then it is kept no longer.
        days(world, 2, &mut alice, &mut bob);
        let log = alice.into_store().transact(|tx| tx.scan(Table::Log, &[], usize::MAX)).unwrap();
        assert!(log.iter().all(|(_, row)| !row.windows(3).any(|text| text == b"two")), "{name}");
    }
}

/// A person is on holiday while a server shows a key of its own.
#[test]
fn what_nobody_could_read_comes_once_a_person_decided_about_a_key() {
    let world = &mut World::with_certificates("a key waits");
    let (mut alice, mut bob) = with_gone_prekey(world);
    let account = alice.trust("bob").unwrap().unwrap().account;
    let mut rogue = Client::create(Memory::new(), "bob", world.now, &mut world.rng).unwrap();
    let list = rogue.devices("bob").unwrap().unwrap().encode();
    alice.update_devices("bob", &list, world.now, &mut world.rng).unwrap();
    days(world, 20, &mut alice, &mut bob);
    alice.accept_new_key("bob", &account, world.now, &mut world.rng).unwrap();
    days(world, 7, &mut alice, &mut bob);
    assert_eq!(read(&mut bob), ["one"]);
}

#[test]
fn what_nobody_could_read_comes_though_the_session_was_reset() {
    let world = &mut World::with_certificates("reset");
    let (mut alice, mut bob) = with_gone_prekey(world);
    alice.reset(bob.address()).unwrap();
    days(world, 7, &mut alice, &mut bob);
    assert_eq!(read(&mut bob), ["one"]);
}

#[test]
fn somebody_who_reads_and_says_nothing_sees_each_text_once_and_costs_a_session_a_week() {
    let world = &mut World::with_certificates("silent reader");
    let (mut alice, mut bob) = world.talking();
    let mut said = Vec::new();
    for day in 0..28 {
        said.push(format!("{day}"));
        world.write(&mut alice, "bob", &format!("{day}"));
        days(world, 1, &mut alice, &mut bob);
    }
    assert_eq!(read(&mut bob), said);
    let begun = |world: &World| {
        let past = world.post.past.iter().filter(|mail| mail.from.user == "alice");
        let first = past.filter(|mail| is_initial(&mail.envelope));
        let mut keys: Vec<Vec<u8>> = first.map(|mail| mail.envelope[36..68].to_vec()).collect();
        keys.sort();
        keys.dedup();
        keys.len()
    };
    // One of the first conversation, and one for each four to six days.
    assert!((4..=8).contains(&begun(world)), "{}", begun(world));
    // Nothing more is written: what is left of it ends, and then there is nothing at all.
    days(world, 14, &mut alice, &mut bob);
    let (sessions, mail) = (begun(world), world.post.past.len());
    days(world, 60, &mut alice, &mut bob);
    assert_eq!((begun(world), world.post.past.len()), (sessions, mail));
    assert_eq!(read(&mut bob), Vec::<String>::new());
}

#[test]
fn who_answers_is_written_to_in_the_same_session() {
    let world = &mut World::with_certificates("they answer");
    let (mut alice, mut bob) = world.talking();
    let first = world.post.past.len();
    for day in 0..30 {
        let (from, to) = if day % 5 == 4 { (&mut bob, "alice") } else { (&mut alice, "bob") };
        world.write(from, to, &format!("{day}"));
        for _ in 0..2 {
            world.work(&mut alice);
            drop(world.fetch(&mut bob));
            world.work(&mut bob);
            drop(world.fetch(&mut alice));
        }
        world.pass(DAY);
    }
    assert!(world.post.past[first..].iter().all(|mail| !is_initial(&mail.envelope)));
    assert_eq!((read(&mut bob).len(), read(&mut alice).len()), (24, 6));
}

#[test]
fn what_could_not_leave_is_not_taken_for_silence() {
    let world = &mut World::with_certificates("offline");
    let (mut alice, mut bob) = world.talking();
    world.write(&mut alice, "bob", "on a long journey");
    world.pass(20 * DAY);
    let first = world.post.past.len();
    world.settle_all(&mut [&mut alice, &mut bob]);
    assert_eq!(read(&mut bob), ["on a long journey"]);
    // Bob, whose last word was not answered, says it again. Alice does not.
    let mut of_alice = world.post.past[first..].iter().filter(|mail| mail.from.user == "alice");
    assert!(of_alice.all(|mail| !is_initial(&mail.envelope)));
    assert_eq!(read(&mut alice), Vec::<String>::new());
}

#[test]
fn what_is_written_to_a_device_whose_clock_starts_anew_each_day_comes() {
    let world = &mut World::with_certificates("clock");
    let (mut alice, mut bob) = world.talking();
    let mut carol = world.create("carol");
    for _ in 0..12 {
        // Before the network says what time it is.
        let now = subrosa::UnixTime::from_secs(1_600_000_000).unwrap();
        alice.write("carol", b"as it starts", now, &mut world.rng).unwrap();
        world.write(&mut alice, "carol", "later");
        world.settle(&mut [&mut alice, &mut carol]);
        world.pass(DAY);
    }
    world.write(&mut bob, "alice", "is it you?");
    world.settle(&mut [&mut bob, &mut alice]);
    assert_eq!(read(&mut alice), ["is it you?"]);
}
