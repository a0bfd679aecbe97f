//! Who may reach an account.

use subrosa::{Action, Delivery, Error, Event, Received, Role};

use super::forgers::rows;
use super::world::{App, DAY, World, events, is_initial, read};

#[test]
fn who_is_blocked_is_refused_whatever_they_send() {
    let world = &mut World::new("blocked");
    let (mut alice, mut bob) = world.talking();
    alice.block("bob", world.now, &mut world.rng).unwrap();
    assert!(alice.is_blocked("bob").unwrap());
    world.write(&mut bob, "alice", "by a ticket");
    world.work(&mut bob);
    assert_eq!(world.fetch(&mut alice), [Received::Refused(Error::Blocked)]);
    // In a session of his own making, which says who he is once it is open.
    bob.reset(alice.address()).unwrap();
    world.write(&mut bob, "alice", "by a handshake");
    world.work(&mut bob);
    for received in world.fetch(&mut alice) {
        assert_eq!(received, Received::Refused(Error::Blocked));
    }
    // Openly.
    bob.deliver("alice", Delivery::Open, world.now, &mut world.rng).unwrap();
    world.write(&mut bob, "alice", "openly");
    world.work(&mut bob);
    assert_eq!(world.fetch(&mut alice), [Received::Refused(Error::Blocked)]);
    assert_eq!(read(&mut alice), Vec::<String>::new());
    alice.unblock("bob").unwrap();
    world.write(&mut bob, "alice", "sorry");
    world.settle_all(&mut [&mut bob, &mut alice]);
    assert!(read(&mut alice).contains(&"sorry".to_owned()));
    assert_eq!(alice.block("alice", world.now, &mut world.rng), Err(Error::OwnIdentity));
}

#[test]
fn a_pass_is_told_and_shown_and_changed_when_somebody_is_blocked() {
    let world = &mut World::new("pass");
    world.policy.requires_pass = true;
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    let mut carol = world.create("carol");
    // A stranger has no pass: the text waits, the app is told, and nothing leaves openly.
    world.write(&mut bob, "alice", "one");
    world.work(&mut bob);
    for _ in 0..3 {
        world.pass(DAY);
        world.work(&mut bob);
    }
    assert_eq!(world.post.past.len(), 0);
    assert_eq!(events(&mut bob), [Event::SealedRefused { to: "alice".into() }]);
    // A person decides to write openly; the answer is sealed, and brings the pass.
    bob.deliver("alice", Delivery::Open, world.now, &mut world.rng).unwrap();
    world.settle_all(&mut [&mut bob, &mut alice]);
    assert_eq!(read(&mut alice), ["one"]);
    assert!(world.post.past.iter().all(|mail| !mail.is_sealed()));
    alice.deliver("bob", Delivery::Open, world.now, &mut world.rng).unwrap();
    world.write(&mut alice, "bob", "two");
    world.settle_all(&mut [&mut bob, &mut alice]);
    for (app, other) in [(&mut alice, "bob"), (&mut bob, "alice")] {
        app.deliver(other, Delivery::Sealed, world.now, &mut world.rng).unwrap();
    }
    let open = world.post.past.len();
    for round in 0..3 {
        world.write(&mut bob, "alice", &format!("b{round}"));
        world.settle_all(&mut [&mut bob, &mut alice]);
        world.write(&mut alice, "bob", &format!("a{round}"));
        world.settle_all(&mut [&mut bob, &mut alice]);
    }
    assert!(world.post.past[open..].iter().all(super::post::Mail::is_sealed));
    assert_eq!(read(&mut alice), ["b0", "b1", "b2"]);
    // Alice blocks Carol: the pass changes, Bob hears of it with the next text, and goes on.
    alice.block("carol", world.now, &mut world.rng).unwrap();
    world.work(&mut alice);
    assert_eq!(world.post.passes["alice"].len(), 2);
    world.write(&mut alice, "bob", "a3");
    world.settle_all(&mut [&mut bob, &mut alice]);
    // The server takes the one before for a while; then no more.
    world.post.passes.get_mut("alice").unwrap().remove(0);
    world.write(&mut bob, "alice", "b3");
    world.settle_all(&mut [&mut bob, &mut alice]);
    assert_eq!(read(&mut alice), ["b3"]);
    world.write(&mut carol, "alice", "let me in");
    world.work(&mut carol);
    assert_eq!(events(&mut carol), [Event::SealedRefused { to: "alice".into() }]);
}

/// Two who have talked openly and then sealed, and have each other's pass.
fn who_have_passes(world: &mut World) -> (App, App) {
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    for delivery in [Delivery::Open, Delivery::Sealed] {
        alice.deliver("bob", delivery, world.now, &mut world.rng).unwrap();
        bob.deliver("alice", delivery, world.now, &mut world.rng).unwrap();
        for _ in 0..2 {
            world.write(&mut alice, "bob", "hi");
            world.settle_all(&mut [&mut alice, &mut bob]);
            world.write(&mut bob, "alice", "hi");
            world.settle_all(&mut [&mut alice, &mut bob]);
        }
    }
    (alice, bob)
}

#[test]
fn a_pass_that_a_removed_device_made_up_keeps_nobody_out() {
    let world = &mut World::new("made up");
    world.policy.requires_pass = true;
    let (mut alice, mut bob) = who_have_passes(world);
    let mut tablet = world.link(&mut bob);
    for _ in 0..3 {
        world.write(&mut alice, "bob", "to both");
        world.settle_all(&mut [&mut alice, &mut bob, &mut tablet]);
    }
    // Its thief makes a pass of a number far ahead, and tells it to Alice alone.
    let later = world.now.after(DAY - 60);
    tablet.block("nobody", later, &mut world.rng).unwrap();
    world.write(&mut tablet, "alice", "mine");
    let own = tablet.address().clone();
    for task in tablet.tasks(50, world.now, &mut world.rng).unwrap() {
        if matches!(&task.action, Action::SendSealed { to, .. } if to.user == "alice") {
            let reply = world.post.serve(&own, &task.action, world.now);
            assert_eq!(reply, super::post::Reply::Done);
        }
    }
    world.settle_all(&mut [&mut alice]);
    assert_eq!(read(&mut alice).last().unwrap(), "mine");
    // Another one is shown with the next attempt, also while nobody knows of the theft.
    world.write(&mut alice, "bob", "one");
    world.work(&mut alice);
    world.pass(10);
    world.settle_all(&mut [&mut alice, &mut bob]);
    let is_refused = |event: &Event| matches!(event, Event::SealedRefused { .. });
    assert!(!events(&mut alice).iter().any(is_refused));
    bob.remove_device(2, world.now, &mut world.rng).unwrap();
    world.write(&mut bob, "alice", "it was stolen");
    world.settle_all(&mut [&mut alice, &mut bob]);
    for text in ["two", "three"] {
        world.pass(DAY);
        world.write(&mut alice, "bob", text);
        world.settle_all(&mut [&mut alice, &mut bob]);
    }
    let heard = read(&mut bob);
    assert!(
        ["one", "two", "three"].iter().all(|text| heard.contains(&(*text).into())),
        "{heard:?}"
    );
}

#[test]
fn a_pass_that_was_drawn_while_the_clock_was_ahead_is_drawn_anew() {
    let world = &mut World::new("a year ahead");
    world.policy.requires_pass = true;
    world.pass(365 * DAY);
    let mut alice = world.create("alice");
    let ahead = world.post.passes["alice"].last().unwrap().number();
    world.now = subrosa::UnixTime::from_secs(super::network::NOW).unwrap();
    world.work(&mut alice);
    let right = world.post.passes["alice"].last().unwrap().number();
    assert!(right < ahead && u64::from(right) <= world.now.as_secs());
    alice.block("mallory", world.now, &mut world.rng).unwrap();
    world.work(&mut alice);
    let blocked = world.post.passes["alice"].last().unwrap().number();
    assert!(right < blocked && u64::from(blocked) <= world.now.as_secs() + 1);
}

#[test]
fn the_devices_of_an_account_have_one_pass() {
    let world = &mut World::new("one pass");
    world.policy.requires_pass = true;
    let mut alice = world.create("alice");
    let mut phone = world.link(&mut alice);
    world.write(&mut alice, "alice", "a note");
    world.settle_all(&mut [&mut alice, &mut phone]);
    world.write(&mut phone, "alice", "another");
    world.settle_all(&mut [&mut alice, &mut phone]);
    assert_eq!(read(&mut phone), ["a note"]);
    assert_eq!(read(&mut alice), ["another"]);
    let before = world.post.passes["alice"].last().unwrap().clone();
    phone.block("mallory", world.now, &mut world.rng).unwrap();
    world.write(&mut phone, "alice", "a third");
    world.settle_all(&mut [&mut alice, &mut phone]);
    let last = world.post.passes["alice"].last().unwrap();
    assert!(last.number() > before.number() && last != &before);
    assert_eq!(world.post.passes["alice"].iter().filter(|pass| *pass == last).count(), 2);
    assert_eq!(read(&mut alice), ["a third"]);
}

#[test]
fn an_app_that_asks_for_nothing_sends_openly_and_gives_no_tickets() {
    let world = &mut World::new("open");
    world.policy = subrosa::Policy::default();
    let (mut alice, mut bob) = world.talking();
    world.write(&mut alice, "bob", "three");
    let tasks = alice.tasks(9, world.now, &mut world.rng).unwrap();
    assert!(tasks.iter().all(|task| matches!(task.action, Action::Send { .. })), "{tasks:?}");
    world.pass(DAY);
    world.settle(&mut [&mut alice, &mut bob]);
    assert!(world.post.past.iter().all(|mail| !mail.is_sealed()));
}

#[test]
fn a_pass_of_a_time_far_ahead_is_not_taken_and_keeps_out_no_later_one() {
    let world = &mut World::new("far ahead");
    world.policy.requires_pass = true;
    let (start, year) = (world.now, 365 * DAY);
    let mut alice = world.create("alice");
    // Bob's clock is a year ahead when his pass is drawn, as a stolen device could claim.
    world.pass(year);
    let mut bob = world.create("bob");
    let drawn = world.post.passes["bob"].last().unwrap().number();
    assert!(u64::from(drawn) >= start.as_secs() + year);
    world.now = start;
    world.post.passes.clear();
    world.write(&mut bob, "alice", "hello");
    world.settle_all(&mut [&mut bob, &mut alice]);
    assert_eq!(read(&mut alice), ["hello"]);
    world.write(&mut alice, "bob", "hello yourself");
    let shown = |tasks: Vec<subrosa::Task>| {
        let sends = tasks.into_iter().filter_map(|task| match task.action {
            Action::SendSealed { pass, .. } => Some(pass),
            _ => None,
        });
        sends.collect::<Vec<_>>()
    };
    let tasks = alice.tasks(9, world.now, &mut world.rng).unwrap();
    // The one that Bob drew once his clock was right.
    let [Some(pass)] = &shown(tasks)[..] else { panic!("one, with a pass") };
    assert!(pass.number() < drawn);
}

#[test]
fn a_handshake_of_a_blocked_contact_that_shows_a_ticket_costs_no_row() {
    let world = &mut World::new("blocked with a ticket");
    let (mut alice, mut bob) = world.talking();
    bob.reset(alice.address()).unwrap();
    world.write(&mut bob, "alice", "by a handshake");
    world.work(&mut bob);
    let [mail] = &world.post.take(alice.address())[..] else { panic!("one") };
    assert!(is_initial(&mail.envelope));
    alice.block("bob", world.now, &mut world.rng).unwrap();
    let mut before = alice.into_store();
    let mut alice = world.open(before.clone());
    assert_eq!(world.give(&mut alice, mail), Received::Refused(Error::Blocked));
    assert!(rows(&mut before) == rows(&mut alice.into_store()), "not even an allowance");
}

#[test]
fn who_is_blocked_again_changes_no_pass() {
    let world = &mut World::new("blocked twice");
    world.policy.requires_pass = true;
    let mut alice = world.create("alice");
    let block = |world: &mut World, alice: &mut App| {
        alice.block("bob", world.now, &mut world.rng).unwrap();
        world.work(alice);
        world.pass(DAY);
        world.post.passes["alice"].last().cloned()
    };
    let drawn = world.post.passes["alice"].last().cloned();
    let first = block(world, &mut alice);
    assert_ne!(first, drawn);
    assert_eq!(block(world, &mut alice), first);
}

/// Two who want passes, and have written to each other openly.
fn openly(world: &mut World) -> (App, App) {
    world.policy.requires_pass = true;
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    for (app, other) in [(&mut alice, "bob"), (&mut bob, "alice")] {
        app.deliver(other, Delivery::Open, world.now, &mut world.rng).unwrap();
    }
    world.write(&mut bob, "alice", "one");
    world.settle_all(&mut [&mut bob, &mut alice]);
    (alice, bob)
}

#[test]
fn an_older_pass_that_comes_late_takes_the_place_of_no_newer_one() {
    let world = &mut World::new("late pass");
    let (mut alice, mut bob) = openly(world);
    let mut texts = Vec::new();
    for text in ["with the first pass", "with the second"] {
        world.write(&mut alice, "bob", text);
        world.work(&mut alice);
        texts.extend(world.post.take(bob.address()));
        alice.block(text, world.now, &mut world.rng).unwrap();
        world.pass(1);
        world.work(&mut alice);
    }
    for mail in texts.iter().rev() {
        assert!(matches!(world.give(&mut bob, mail), Received::Incoming(_)));
    }
    // The server takes the last two: the second, and the one that Bob was not told.
    bob.deliver("alice", Delivery::Sealed, world.now, &mut world.rng).unwrap();
    world.write(&mut bob, "alice", "two");
    world.work(&mut bob);
    assert!(world.post.past.last().unwrap().is_sealed(), "it is taken");
}

#[test]
fn who_is_blocked_is_not_told_the_pass_by_a_text_to_them() {
    let world = &mut World::new("text to a blocked user");
    let (mut alice, mut bob) = openly(world);
    alice.block("bob", world.now, &mut world.rng).unwrap();
    world.write(&mut alice, "bob", "I do not want to hear of you");
    world.settle_all(&mut [&mut bob, &mut alice]);
    assert_eq!(read(&mut bob), ["I do not want to hear of you"]);
    world.post.passes.get_mut("alice").unwrap().remove(0);
    bob.deliver("alice", Delivery::Sealed, world.now, &mut world.rng).unwrap();
    world.write(&mut bob, "alice", "two");
    let before = world.post.past.len();
    world.work(&mut bob);
    assert_eq!(world.post.past.len(), before, "the server takes nothing sealed of Bob's");
    assert_eq!(events(&mut bob), [Event::SealedRefused { to: "alice".into() }]);
}

#[test]
fn a_pass_that_was_set_meanwhile_is_not_taken_for_the_one_that_came_after() {
    let world = &mut World::new("two passes at once");
    world.policy.requires_pass = true;
    let mut alice = world.create("alice");
    alice.block("bob", world.now, &mut world.rng).unwrap();
    let is_pass = |task: &subrosa::Task| matches!(task.action, Action::SetPass(_));
    let mut tasks = alice.tasks(9, world.now, &mut world.rng).unwrap();
    let first = tasks.remove(tasks.iter().position(is_pass).expect("a pass"));
    // The second one is drawn while the first one is on its way.
    alice.block("carol", world.now, &mut world.rng).unwrap();
    world.post.perform(&mut alice, &first, world.now, &mut world.rng).unwrap();
    let set = world.post.passes["alice"].last().cloned();
    world.pass(DAY);
    world.work(&mut alice);
    assert_ne!(world.post.passes["alice"].last().cloned(), set);
}

#[test]
fn who_heard_the_pass_of_a_device_that_was_removed_writes_on() {
    let world = &mut World::new("a phone that was replaced");
    world.policy.requires_pass = true;
    let (mut alice, mut bob) = who_have_passes(world);
    // Bob has a tablet, with which he never wrote to Alice. His phone is lost.
    let mut tablet = world.link_as(&mut bob, Role::Manager);
    world.write(&mut bob, "bob", "a note");
    world.settle_all(&mut [&mut bob, &mut tablet, &mut alice]);
    world.write(&mut tablet, "bob", "a note");
    world.settle_all(&mut [&mut bob, &mut tablet, &mut alice]);
    tablet.remove_device(1, world.now, &mut world.rng).unwrap();
    world.settle_all(&mut [&mut tablet]);
    let list = tablet.devices("bob").unwrap().unwrap();
    alice.update_devices("bob", &list.encode(), world.now, &mut world.rng).unwrap();
    alice.accept_new_key("bob", &list.account(), world.now, &mut world.rng).unwrap();
    for text in ["one", "two"] {
        world.write(&mut alice, "bob", text);
        world.pass(DAY);
        world.settle_all(&mut [&mut alice, &mut tablet]);
    }
    assert!(read(&mut tablet).ends_with(&["one".to_owned(), "two".to_owned()]));
}

#[test]
fn what_waits_when_mail_is_to_be_sealed_from_now_on_is_not_sent_openly() {
    let world = &mut World::new("from now on");
    let (mut alice, mut bob) = world.talking();
    let sealed = world.policy.clone();
    alice.set_policy(subrosa::Policy::default());
    world.write(&mut alice, "bob", "three");
    alice.set_policy(sealed);
    let before = world.post.past.len();
    world.settle_all(&mut [&mut alice, &mut bob]);
    assert!(world.post.past[before..].iter().all(super::post::Mail::is_sealed));
    assert_eq!(read(&mut bob).last().map(String::as_str), Some("three"));
}

#[test]
fn what_is_delivered_otherwise_is_not_sent_twice_and_can_be_taken_back() {
    for is_withdrawn in [true, false] {
        let world = &mut World::new("taken back");
        let (mut alice, mut bob) = world.talking();
        let mut tablet = world.link(&mut alice);
        world.settle_all(&mut [&mut alice, &mut bob, &mut tablet]);
        world.write(&mut alice, "bob", "hello");
        world.settle_all(&mut [&mut alice, &mut bob, &mut tablet]);
        drop((read(&mut bob), read(&mut tablet)));
        let text = alice.write("bob", b"three", world.now, &mut world.rng).unwrap();
        alice.deliver("bob", Delivery::Open, world.now, &mut world.rng).unwrap();
        if is_withdrawn {
            assert!(alice.withdraw(text).unwrap());
        }
        let before = world.post.past.len();
        world.work(&mut alice);
        let left = world.post.past[before..].iter().filter(|mail| mail.from == *alice.address());
        let to: Vec<String> = left.map(|mail| mail.to.to_string()).collect();
        let expected: &[&str] = if is_withdrawn { &[] } else { &["alice/2", "bob/1"] };
        let mut sorted = to.clone();
        sorted.sort();
        assert_eq!(sorted, expected);
        assert_eq!(alice.progress(text), Ok(subrosa::Progress::Sent));
    }
}

#[test]
fn what_is_sealed_in_a_session_that_was_begun_openly_comes() {
    for by_policy in [true, false] {
        let world = &mut World::new("begun openly");
        let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
        let (sealed, now) = (world.policy.clone(), world.now);
        if by_policy {
            alice.set_policy(subrosa::Policy::default());
        } else {
            alice.deliver("bob", Delivery::Open, now, &mut world.rng).unwrap();
        }
        world.write(&mut alice, "bob", "one");
        world.settle_all(&mut [&mut alice, &mut bob]);
        // Bob reads, and says nothing.
        if by_policy {
            alice.set_policy(sealed);
        } else {
            alice.deliver("bob", Delivery::Sealed, now, &mut world.rng).unwrap();
        }
        world.write(&mut alice, "bob", "two");
        let before = world.post.past.len();
        world.settle_all(&mut [&mut alice, &mut bob]);
        assert!(world.post.past[before..].iter().all(super::post::Mail::is_sealed));
        assert_eq!(read(&mut bob), ["one", "two"]);
    }
}

#[test]
fn what_is_sealed_anew_and_takes_another_session_leaves_in_one_go() {
    let world = &mut World::new("another session");
    let sealed = core::mem::take(&mut world.policy);
    let (mut alice, mut bob) = world.talking();
    world.write(&mut alice, "bob", "three");
    alice.set_policy(sealed);
    // Bob gave no tickets, so nothing can be sealed in the session that there is.
    world.work(&mut alice);
    world.fetch(&mut bob);
    assert_eq!(read(&mut bob), ["three"]);
}

#[test]
fn what_waits_for_many_when_mail_is_to_be_sealed_leaves_in_one_go() {
    let world = &mut World::new("many from now on");
    let mut alice = world.create("alice");
    let mut others = ["bob", "carol", "dave", "erin"].map(|user| world.create(user));
    let [bob, carol, dave, erin] = &mut others;
    for user in ["bob", "carol", "dave", "erin"] {
        world.write(&mut alice, user, "one");
    }
    world.settle_all(&mut [&mut alice, bob, carol, dave, erin]);
    for other in [&mut *bob, carol, dave, erin] {
        world.write(other, "alice", "two");
    }
    world.settle_all(&mut [&mut alice, bob, carol, dave, erin]);
    let sealed = world.policy.clone();
    alice.set_policy(subrosa::Policy::default());
    for user in ["bob", "carol", "dave", "erin"] {
        world.write(&mut alice, user, "three");
    }
    // Mail to her stays open.
    alice.deliver("erin", Delivery::Open, world.now, &mut world.rng).unwrap();
    alice.set_policy(sealed);
    let mut left = Vec::new();
    while let Some(task) = alice.tasks(1, world.now, &mut world.rng).unwrap().pop() {
        match &task.action {
            Action::SendSealed { to, .. } => left.push((to.user.clone(), true)),
            Action::Send { to, .. } => left.push((to.user.clone(), false)),
            _ => panic!("{task:?}"),
        }
        let done = subrosa::Answer::Done;
        alice.complete(&task.id, done, world.now, &mut world.rng).unwrap();
    }
    left.sort();
    let expected = [("bob", true), ("carol", true), ("dave", true), ("erin", false)];
    assert_eq!(left, expected.map(|(user, is_sealed)| (user.to_owned(), is_sealed)));
}
