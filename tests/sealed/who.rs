//! Who it is, without the server's word.

use subrosa::{Error, Event, Received, Trust};

use super::world::{App, DAY, MINUTE, World, events, is_initial, read, shown, ticket};

fn from(address: &str, trust: Trust, text: &str) -> (String, Trust, String) {
    (address.to_owned(), trust, text.to_owned())
}

#[test]
fn people_read_each_other_and_no_envelope_says_who_wrote() {
    let world = &mut World::new("conversation");
    let (mut alice, mut bob) = world.talking();
    let mut phone = world.link(&mut alice);
    for round in 0..20 {
        world.write(&mut alice, "bob", &format!("a{round}"));
        world.settle_all(&mut [&mut alice, &mut bob, &mut phone]);
        world.write(&mut bob, "alice", &format!("b{round}"));
        world.settle_all(&mut [&mut alice, &mut bob, &mut phone]);
    }
    assert_eq!(read(&mut bob), (0..20).map(|round| format!("a{round}")).collect::<Vec<_>>());
    assert_eq!(read(&mut alice), (0..20).map(|round| format!("b{round}")).collect::<Vec<_>>());
    // The phone has both sides: the copies of its own user, and what Bob wrote.
    assert_eq!(read(&mut phone).len(), 40);
    assert!(world.post.past.iter().all(super::post::Mail::is_sealed), "all mail is sealed");
    // Each ticket is shown once: they answer each other, so nobody runs out of them.
    let regular = world.post.past.iter().filter(|mail| !is_initial(&mail.envelope));
    let tickets: Vec<[u8; 16]> = regular.map(|mail| ticket(&mail.envelope)).collect();
    let once: std::collections::BTreeSet<&[u8; 16]> = tickets.iter().collect();
    assert!(
        tickets.len() > 30 && once.len() == tickets.len(),
        "{} of {}",
        once.len(),
        tickets.len()
    );
}

#[test]
fn nothing_is_written_to_somebody_nobody_vouches_for() {
    let world = &mut World::new("unvouched");
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    world.write(&mut alice, "bob", "hello");
    world.work(&mut alice);
    world.fetch(&mut bob);
    assert_eq!(shown(&mut bob), [from("alice/1", Trust::Unvouched, "hello")]);
    assert_eq!(bob.trust("alice").unwrap().unwrap().trust, Trust::Unvouched);
    world.write(&mut bob, "alice", "who are you?");
    let refused = bob.encrypt("alice", b"who?", world.now, &mut world.rng);
    assert_eq!(refused, Err(Error::DevicesNeeded("alice".into())));
    let before = world.post.past.len();
    // A server that does not answer, and then one that does.
    for _ in 0..10 {
        let tasks = bob.tasks(100, world.now, &mut world.rng).unwrap();
        for task in tasks {
            drop(bob.complete(&task.id, subrosa::Answer::Failed, world.now, &mut world.rng));
        }
        world.pass(MINUTE);
    }
    assert_eq!(world.post.past.len(), before);
    world.pass(DAY);
    world.settle_all(&mut [&mut bob, &mut alice]);
    assert_eq!(bob.trust("alice").unwrap().unwrap().trust, Trust::FirstUse);
    assert_eq!(read(&mut alice), ["who are you?"]);
}

#[test]
fn the_list_of_somebody_nobody_vouches_for_is_asked_for_anew_once_it_was_given_up() {
    // By a text to them, and by one of theirs.
    for writes in [true, false] {
        let world = &mut World::new("given up");
        let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
        world.write(&mut alice, "bob", "hello");
        world.work(&mut alice);
        world.fetch(&mut bob);
        for _ in 0..32 * 4 {
            world.pass(6 * 60 * MINUTE);
            for task in bob.tasks(100, world.now, &mut world.rng).unwrap() {
                drop(bob.complete(&task.id, subrosa::Answer::Failed, world.now, &mut world.rng));
            }
        }
        let list = subrosa::Action::FetchDevices("alice".into());
        let is_asked = |task: &subrosa::Task| task.action == list;
        world.pass(DAY);
        assert!(!bob.tasks(100, world.now, &mut world.rng).unwrap().iter().any(is_asked));
        if writes {
            world.write(&mut bob, "alice", "who are you?");
        } else {
            world.write(&mut alice, "bob", "it is me");
            world.work(&mut alice);
            world.fetch(&mut bob);
            world.pass(10 * MINUTE);
        }
        world.settle_all(&mut [&mut bob, &mut alice]);
        assert_eq!(bob.trust("alice").unwrap().unwrap().trust, Trust::FirstUse, "{writes}");
        assert_eq!(read(&mut alice).len(), usize::from(writes));
    }
}

#[test]
fn the_list_of_somebody_who_wrote_sealed_is_not_fetched_at_once() {
    // Otherwise the server would see whose envelope came.
    let mut delays = Vec::new();
    for seed in 0..40 {
        let world = &mut World::new(&format!("delay {seed}"));
        let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
        world.write(&mut alice, "bob", "hello");
        world.work(&mut alice);
        world.fetch(&mut bob);
        let asks = |world: &mut World, bob: &mut App| {
            let tasks = bob.tasks(9, world.now, &mut world.rng).unwrap();
            tasks.iter().any(|task| matches!(task.action, subrosa::Action::FetchDevices(_)))
        };
        let delay = (0..=20).find(|_| {
            let is_asked = asks(world, &mut bob);
            world.pass(MINUTE / 2);
            is_asked
        });
        delays.push(delay.expect("it is asked within 10 minutes"));
    }
    // They are drawn: not all alike, and few at once.
    assert!(delays.iter().filter(|delay| **delay == 0).count() < 10, "{delays:?}");
    assert!(delays.iter().any(|delay| *delay < 8) && delays.iter().any(|delay| *delay > 12));
}

#[test]
fn people_who_compare_keys_need_no_server() {
    let world = &mut World::new("compared");
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    world.write(&mut alice, "bob", "hello");
    world.work(&mut alice);
    world.fetch(&mut bob);
    world.write(&mut bob, "alice", "is it you?");
    let account = alice.trust("alice").unwrap().unwrap().account;
    bob.verify("alice", &account, world.now, &mut world.rng).unwrap();
    assert_eq!(bob.trust("alice").unwrap().unwrap().trust, Trust::Verified);
    // What was written before goes now.
    world.settle(&mut [&mut bob, &mut alice]);
    assert_eq!(read(&mut alice), ["is it you?"]);
    world.write(&mut bob, "alice", "it is you");
    world.settle(&mut [&mut bob, &mut alice]);
    assert_eq!(read(&mut alice), ["it is you"]);
}

/// Mallory, who has an account "bob" at a server of her own, writes to Alice.
fn lie(world: &mut World, alice: &App, text: &str) -> Vec<super::post::Mail> {
    lie_with(world, alice, text, |world| world.create("bob"))
}

fn lie_with(
    world: &mut World,
    alice: &App,
    text: &str,
    account: impl FnOnce(&mut World) -> App,
) -> Vec<super::post::Mail> {
    let list = world.post.users[&alice.address().user].clone();
    let mut real = std::mem::take(&mut world.post);
    world.post.users.insert(alice.address().user.clone(), list);
    world.post.issuer.clone_from(&real.issuer);
    let mut mallory = account(world);
    world.write(&mut mallory, "alice", text);
    world.work(&mut mallory);
    let mail = world.post.take(alice.address());
    std::mem::swap(&mut world.post, &mut real);
    mail
}

#[test]
fn a_liar_with_a_list_of_her_own_is_found_out_and_stops_no_mail() {
    let world = &mut World::new("liar first");
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    for mail in lie(world, &alice, "send money") {
        drop(world.give(&mut alice, &mail));
    }
    assert_eq!(shown(&mut alice), [from("bob/1", Trust::Unvouched, "send money")]);
    world.write(&mut alice, "bob", "how much?");
    world.pass(11 * MINUTE);
    world.work(&mut alice);
    let told = events(&mut alice);
    assert!(matches!(&told[..], [Event::NotTheirs { user, .. }] if user == "bob"), "{told:?}");
    // What was written in the meantime goes to Bob.
    world.settle_all(&mut [&mut alice, &mut bob]);
    assert_eq!(read(&mut bob), ["how much?"]);
    world.write(&mut bob, "alice", "what do you mean?");
    world.settle_all(&mut [&mut bob, &mut alice]);
    assert_eq!(shown(&mut alice), [from("bob/1", Trust::FirstUse, "what do you mean?")]);
}

#[test]
fn a_sealed_list_under_another_account_key_changes_nothing() {
    let world = &mut World::new("liar later");
    let (mut alice, mut bob) = world.talking();
    let before = alice.trust("bob").unwrap();
    for round in 0..100 {
        for mail in lie(world, &alice, "send money") {
            let received = world.give(&mut alice, &mail);
            let is_refused = matches!(received, Received::Refused(Error::RateLimited));
            assert!(is_refused || received == Received::SetAside, "{round}: {received:?}");
        }
        world.pass(5);
    }
    assert_eq!(alice.trust("bob").unwrap(), before);
    world.write(&mut alice, "bob", "three");
    world.settle_all(&mut [&mut alice, &mut bob]);
    world.write(&mut bob, "alice", "four");
    world.settle_all(&mut [&mut alice, &mut bob]);
    assert_eq!(read(&mut bob), ["three"]);
    assert_eq!(read(&mut alice), ["four"]);
    assert_eq!(alice.trust("bob").unwrap(), before);
}

#[test]
fn a_new_account_key_that_the_server_has_waits_for_a_person() {
    let world = &mut World::new("renewed");
    let (mut alice, mut bob) = world.talking();
    world.post.users.remove("bob");
    let mut bob_anew = world.create("bob");
    world.write(&mut bob_anew, "alice", "I lost my phone");
    world.settle_all(&mut [&mut bob_anew, &mut alice]);
    world.pass(DAY);
    world.settle_all(&mut [&mut bob_anew, &mut alice]);
    let trust = alice.trust("bob").unwrap().unwrap();
    assert_eq!(trust.new_account, Some(bob_anew.trust("bob").unwrap().unwrap().account));
    assert_eq!(alice.held("bob", 9).unwrap().len(), 1);
    let account = trust.new_account.unwrap();
    alice.accept_new_key("bob", &account, world.now, &mut world.rng).unwrap();
    assert_eq!(shown(&mut alice), [from("bob/1", Trust::FirstUse, "I lost my phone")]);
    assert_eq!(read(&mut bob), Vec::<String>::new());
}

#[test]
fn a_certificate_says_at_once_who_it_is() {
    let world = &mut World::with_certificates("certificate");
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    world.write(&mut alice, "bob", "hello");
    world.work(&mut alice);
    world.fetch(&mut bob);
    assert_eq!(shown(&mut bob), [from("alice/1", Trust::FirstUse, "hello")]);
    world.write(&mut bob, "alice", "hello yourself");
    world.settle(&mut [&mut bob, &mut alice]);
    assert_eq!(read(&mut alice), ["hello yourself"]);
    // One of a server that the app does not trust says nothing.
    let mut carol = world.create("carol").with_policy(World::new("").policy);
    world.write(&mut alice, "carol", "hello");
    world.work(&mut alice);
    world.fetch(&mut carol);
    assert_eq!(shown(&mut carol), [from("alice/1", Trust::Unvouched, "hello")]);
}

#[test]
fn an_expired_certificate_makes_the_message_wait_and_not_vanish() {
    let world = &mut World::with_certificates("expired");
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    world.write(&mut alice, "bob", "hello");
    world.work(&mut alice);
    let mail = world.post.take(bob.address());
    world.pass(7 * DAY + 1);
    for mail in &mail {
        assert_eq!(world.give(&mut bob, mail), Received::SetAside);
    }
    assert_eq!(bob.trust("alice").unwrap(), None);
    assert_eq!(shown(&mut bob), []);
    world.settle_all(&mut [&mut bob, &mut alice]);
    assert_eq!(shown(&mut bob), [from("alice/1", Trust::FirstUse, "hello")]);
}

/// What was set aside has not used up the prekey that it names.
#[test]
fn what_is_set_aside_comes_though_another_message_used_up_its_prekey() {
    let world = &mut World::with_certificates("twice");
    world.policy.log_age = 30 * DAY;
    let mut alice = world.create("alice");
    world.work(&mut alice);
    let (mut bob, mut carol) = (world.create("bob"), world.create("carol"));
    // The server hands out one prekey to both.
    let before = world.post.users["bob"].clone();
    world.write(&mut alice, "bob", "one");
    world.work(&mut alice);
    // Her certificate has expired when it comes.
    world.pass(8 * DAY);
    let mail = world.post.take(bob.address());
    assert!(mail.iter().all(|mail| world.give(&mut bob, mail) == Received::SetAside));
    world.post.users.insert("bob".into(), before);
    world.work(&mut carol);
    world.write(&mut carol, "bob", "two");
    world.work(&mut carol);
    assert!(matches!(world.fetch(&mut bob)[..], [Received::Incoming(_)]));
    world.settle_all(&mut [&mut alice, &mut bob, &mut carol]);
    assert_eq!(read(&mut bob), ["two", "one"]);
}

/// Otherwise a server that makes up a message, and has its prekey used up, sees who knows whom.
#[test]
fn what_a_liar_had_set_aside_is_not_asked_for_of_whom_it_names() {
    let world = &mut World::new("made up");
    let (mut alice, mut bob) = world.talking();
    let mut carol = world.create("carol");
    for mail in lie(world, &alice, "send money") {
        assert_eq!(world.give(&mut alice, &mail), Received::SetAside);
    }
    // She is given the prekey that Mallory took from a copy of Alice's directory.
    world.write(&mut carol, "alice", "hello");
    world.work(&mut carol);
    assert!(matches!(world.fetch(&mut alice)[..], [Received::Incoming(_)]));
    let from = world.post.past.len();
    for _ in 0..3 {
        world.pass(DAY);
        world.settle_all(&mut [&mut alice, &mut bob, &mut carol]);
    }
    let asked = world.post.past[from..].iter().filter(|mail| mail.to == *bob.address());
    assert_eq!(asked.count(), 0);
    assert_eq!(read(&mut alice), ["hello"]);
}

#[test]
fn certificates_are_renewed_before_they_expire() {
    let world = &mut World::with_certificates("renewal");
    let mut alice = world.create("alice");
    for day in 0..30 {
        world.pass(DAY);
        world.work(&mut alice);
        let name = format!("bob{day}");
        let mut bob = world.create(&name);
        world.write(&mut alice, &name, "hello");
        world.work(&mut alice);
        world.fetch(&mut bob);
        assert_eq!(shown(&mut bob), [from("alice/1", Trust::FirstUse, "hello")], "day {day}");
    }
}

#[test]
fn a_name_that_the_server_does_not_know_is_nobodys_and_what_came_under_it_goes() {
    let world = &mut World::new("no such name");
    let mut alice = world.create("alice");
    for mail in lie(world, &alice, "send money") {
        drop(world.give(&mut alice, &mail));
    }
    assert_eq!(shown(&mut alice), [from("bob/1", Trust::Unvouched, "send money")]);
    world.pass(11 * MINUTE);
    world.work(&mut alice);
    let told = events(&mut alice);
    assert!(matches!(&told[..], [Event::NotTheirs { user, .. }] if user == "bob"), "{told:?}");
    assert_eq!(alice.trust("bob").unwrap(), None);
    assert_eq!(alice.sessions("bob").unwrap(), []);
    // What a person wrote waits for the one who has that name in the end.
    for mail in lie(world, &alice, "send more") {
        drop(world.give(&mut alice, &mail));
    }
    world.write(&mut alice, "bob", "who are you?");
    world.pass(11 * MINUTE);
    world.work(&mut alice);
    let mut bob = world.create("bob");
    world.pass(DAY);
    world.settle_all(&mut [&mut alice, &mut bob]);
    assert_eq!(read(&mut bob), ["who are you?"]);
}

#[test]
fn users_nobody_vouches_for_are_no_more_than_can_be_asked_for() {
    let world = &mut World::new("made up");
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    // As many lists as may be wanted are wanted.
    for number in 0..2_048 {
        world.write(&mut alice, &format!("friend{number}"), "are you there?");
    }
    world.write(&mut bob, "alice", "hello");
    world.work(&mut bob);
    let [mail] = &world.post.take(alice.address())[..] else { panic!("one") };
    assert_eq!(world.give(&mut alice, mail), Received::SetAside);
    assert_eq!(alice.trust("bob").unwrap(), None);
    // Once there is room, it is looked at.
    for number in 0..2_048 {
        alice.forget(&format!("friend{number}")).unwrap();
    }
    for _ in 0..3 {
        world.pass(11 * MINUTE);
        world.work(&mut alice);
    }
    assert_eq!(read(&mut alice), ["hello"]);
}

/// Alice with a phone, and with a manager that she is going to remove.
fn to_be_renewed(world: &mut World) -> (App, App) {
    to_be_renewed_as(world, "alice")
}

fn to_be_renewed_as(world: &mut World, user: &str) -> (App, App) {
    let mut alice = world.create(user);
    let new = subrosa::NewDevice::generate(&mut world.rng);
    let role = subrosa::Role::Manager;
    drop(alice.link(&new.code(), role, world.now, &mut world.rng).unwrap());
    world.work(&mut alice);
    let phone = world.link(&mut alice);
    (alice, phone)
}

#[test]
fn what_was_written_before_an_account_key_was_renewed_is_read_by_who_knows_only_the_new_one() {
    let world = &mut World::new("before the renewal");
    let (mut alice, mut phone) = to_be_renewed(world);
    let mut bob = world.create("bob");
    world.write(&mut phone, "bob", "before");
    world.work(&mut phone);
    let before = world.post.take(bob.address());
    alice.remove_device(2, world.now, &mut world.rng).unwrap();
    world.work(&mut alice);
    world.write(&mut alice, "bob", "after");
    world.settle_all(&mut [&mut alice, &mut bob]);
    assert_eq!(read(&mut bob), ["after"]);
    let known = bob.trust("alice").unwrap();
    // The list in it is of the old account key. The session says which device it is, and the new
    // list has that.
    for mail in &before {
        let received = world.give(&mut bob, mail);
        assert!(matches!(received, Received::Incoming(_)), "{received:?}");
    }
    assert_eq!(shown(&mut bob), [from("alice/3", Trust::FirstUse, "before")]);
    assert_eq!(bob.trust("alice").unwrap(), known);
}

#[test]
fn a_device_that_the_servers_list_has_too_is_not_forgotten_with_the_claim() {
    let world = &mut World::new("theirs after all");
    let (mut alice, _) = to_be_renewed(world);
    let mut bob = world.create("bob");
    world.write(&mut alice, "bob", "once");
    world.work(&mut alice);
    let once = world.post.take(bob.address());
    for mail in &once {
        drop(world.give(&mut bob, mail));
    }
    assert_eq!(shown(&mut bob), [from("alice/1", Trust::Unvouched, "once")]);
    alice.remove_device(2, world.now, &mut world.rng).unwrap();
    world.settle_all(&mut [&mut alice, &mut bob]);
    let told = events(&mut bob);
    assert!(matches!(&told[..], [Event::NotTheirs { user, .. }] if user == "alice"), "{told:?}");
    for mail in &once {
        assert_eq!(world.give(&mut bob, mail), Received::Duplicate);
    }
    world.write(&mut alice, "bob", "twice");
    world.settle_all(&mut [&mut alice, &mut bob]);
    assert_eq!(read(&mut bob), ["twice"]);
}

#[test]
fn a_text_waits_for_a_person_where_the_server_shows_a_list_from_before_the_account_key() {
    let world = &mut World::new("behind the claim");
    let (mut alice, mut phone) = to_be_renewed(world);
    let mut bob = world.create("bob");
    let behind = world.post.users["alice"].clone();
    alice.remove_device(2, world.now, &mut world.rng).unwrap();
    world.work(&mut alice);
    let mut tablet = world.link(&mut alice);
    world.write(&mut alice, "bob", "hello");
    world.work(&mut alice);
    world.fetch(&mut bob);
    assert_eq!(shown(&mut bob), [from("alice/1", Trust::Unvouched, "hello")]);
    world.write(&mut bob, "alice", "hello yourself");
    // The key of this list certified the one that Alice's device showed, which does not have the
    // device that was removed.
    let newest = world.post.users.insert("alice".into(), behind).unwrap();
    let before = world.post.past.len();
    world.pass(11 * MINUTE);
    world.work(&mut bob);
    let account = alice.trust("alice").unwrap().unwrap().account;
    assert_eq!(events(&mut bob), [Event::KeyChanged { user: "alice".into(), account }]);
    assert_eq!(bob.trust("alice").unwrap().unwrap().new_account, Some(account));
    assert_eq!(world.post.past.len(), before, "nothing goes to a device that was removed");
    world.post.users.insert("alice".into(), newest);
    bob.accept_new_key("alice", &account, world.now, &mut world.rng).unwrap();
    world.settle_all(&mut [&mut bob, &mut alice, &mut phone, &mut tablet]);
    for device in [&mut alice, &mut phone, &mut tablet] {
        let texts = read(device);
        let of_bob: Vec<_> = texts.iter().filter(|text| *text == "hello yourself").collect();
        assert_eq!(of_bob.len(), 1, "{}: {texts:?}", device.address());
    }
}

#[test]
fn a_liar_whose_account_key_another_of_her_own_certified_is_found_out_as_well() {
    let world = &mut World::new("renewed liar");
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    let mail = lie_with(world, &alice, "send money", |world| {
        let (mut mallory, _) = to_be_renewed_as(world, "bob");
        mallory.remove_device(2, world.now, &mut world.rng).unwrap();
        world.work(&mut mallory);
        mallory
    });
    for mail in mail {
        drop(world.give(&mut alice, &mail));
    }
    assert_eq!(shown(&mut alice), [from("bob/1", Trust::Unvouched, "send money")]);
    world.write(&mut alice, "bob", "how much?");
    world.pass(11 * MINUTE);
    world.settle_all(&mut [&mut alice, &mut bob]);
    let told = events(&mut alice);
    assert!(matches!(&told[..], [Event::NotTheirs { user, .. }] if user == "bob"), "{told:?}");
    assert_eq!(read(&mut bob), ["how much?"]);
}

#[test]
fn an_open_envelope_vouches_for_who_wrote_sealed_before() {
    let world = &mut World::new("vouched openly");
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    world.write(&mut alice, "bob", "sealed");
    world.work(&mut alice);
    world.fetch(&mut bob);
    assert_eq!(shown(&mut bob), [from("alice/1", Trust::Unvouched, "sealed")]);
    // With a list that is newer: one that is known says nothing new.
    let _tablet = world.link(&mut alice);
    alice.deliver("bob", subrosa::Delivery::Open, world.now, &mut world.rng).unwrap();
    alice.reset(bob.address()).unwrap();
    world.write(&mut alice, "bob", "open");
    world.work(&mut alice);
    world.fetch(&mut bob);
    assert_eq!(shown(&mut bob), [from("alice/1", Trust::FirstUse, "open")]);
    assert_eq!(bob.trust("alice").unwrap().unwrap().trust, Trust::FirstUse);
}

#[test]
fn no_session_is_begun_with_somebody_nobody_vouches_for() {
    let world = &mut World::new("bundle of an unvouched user");
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    world.write(&mut alice, "bob", "hello");
    world.work(&mut alice);
    world.fetch(&mut bob);
    assert_eq!(bob.trust("alice").unwrap().unwrap().trust, Trust::Unvouched);
    let (of, now) = (alice.address().clone(), world.now);
    let directory = world.post.users.get_mut("alice").unwrap();
    let bundle = directory.bundle(of.device, "bob", now.as_secs()).unwrap().encode();
    let refused = bob.add_bundle(&of, &bundle, now, &mut world.rng);
    assert_eq!(refused, Err(Error::DevicesNeeded("alice".into())));
}
