//! Apps that sleep: they look again when something was written or came, and when `next_due` says.

use subrosa::{Delivery, Policy};

use super::*;

/// Does the tasks that are due. The server takes none of them while it is away.
fn drain(world: &mut World, client: &mut Client<Memory>, is_away: bool) {
    for _ in 0..100 {
        let tasks = client.tasks(100, world.now, &mut world.rng).unwrap();
        if tasks.is_empty() {
            return;
        }
        for task in tasks {
            let reply = world.post.serve(&client.address().clone(), &task.action, world.now);
            let answer = if is_away { Answer::Failed } else { reply.answer() };
            client.complete(&task.id, answer, world.now, &mut world.rng).unwrap();
        }
    }
    panic!("there are tasks without end");
}

/// Sleeps until it is time, and has nothing to do before.
fn sleep(world: &mut World, client: &mut Client<Memory>) {
    let next = client.next_due(world.now).unwrap();
    assert!(next > world.now && next <= world.now.after(HOUR), "{next}");
    let before = UnixTime::from_secs(next.as_secs() - 1).unwrap();
    assert_eq!(client.tasks(100, before, &mut world.rng).unwrap(), []);
    world.now = next;
}

#[test]
fn what_failed_is_tried_again_when_it_is_said_and_not_all_the_time() {
    let mut world = World::new("a server that is away");
    let (mut alice, mut bob) = world.talking();
    alice.write("bob", b"three", world.now, &mut world.rng).unwrap();
    let (began, mut looked) = (world.now, 0);
    while world.now.since(began) < 6 * HOUR {
        drain(&mut world, &mut alice, true);
        sleep(&mut world, &mut alice);
        looked += 1;
    }
    // Later each time: 5 s, 10 s, .., an hour.
    assert!((14..=20).contains(&looked), "{looked}");
    drain(&mut world, &mut alice, false);
    world.sync(&mut bob);
    assert!(take(&mut bob).iter().any(|incoming| is_text(&incoming.item, b"three")));
}

#[test]
fn a_device_that_was_off_for_a_month_tries_for_hours_before_it_gives_anything_up() {
    let mut world = World::new("a month");
    let mut alice = world.create("alice");
    let text = alice.write("bob", b"are you there", world.now, &mut world.rng).unwrap();
    drain(&mut world, &mut alice, false);
    world.now = world.now.after(31 * 24 * HOUR);
    let began = world.now;
    let is_given_up = |incoming: &Incoming| match incoming.item {
        Item::Event(Event::Undelivered { message, .. }) => message == text,
        _ => false,
    };
    while !take(&mut alice).iter().any(is_given_up) {
        assert_eq!(alice.progress(text), Ok(Progress::Waiting));
        assert!(world.now.since(began) < 24 * HOUR, "it waits for good");
        drain(&mut world, &mut alice, false);
        sleep(&mut world, &mut alice);
    }
    assert!(world.now.since(began) > 2 * HOUR, "{}", world.now);
}

#[test]
fn who_wrote_a_sealed_text_is_looked_up_in_minutes_and_not_in_an_hour() {
    let mut world = World::new("a stranger");
    let sealed = || {
        let mut policy = Policy::default();
        policy.delivery = Delivery::Sealed;
        policy
    };
    let mut alice = world.create("alice").with_policy(sealed());
    let mut bob = world.create("bob").with_policy(sealed());
    world.write(&mut bob, "alice", "it is me");
    world.sync(&mut alice);
    let trust = |alice: &mut Client<Memory>| alice.trust("bob").unwrap().unwrap().trust;
    assert_eq!(trust(&mut alice), Trust::Unvouched);
    let (began, mut looked) = (world.now, 0);
    while trust(&mut alice) == Trust::Unvouched {
        sleep(&mut world, &mut alice);
        drain(&mut world, &mut alice, false);
        looked += 1;
    }
    // At once would tell the server whose envelope it was.
    let passed = world.now.since(began);
    assert!((1..=10 * 60).contains(&passed) && looked < 10, "{passed} s, {looked} times");
}

#[test]
fn who_asks_for_more_than_is_sent_at_once_keeps_nobody_else_waiting() {
    let mut world = World::new("more than is sent at once");
    let (mut alice, mut bob) = world.talking();
    let mut devices: Vec<_> = (0..23).map(|_| world.link(&mut bob, Role::Device)).collect();
    devices.push(bob);
    for text in ["three", "four"] {
        world.write(&mut alice, "bob", text);
        devices.iter_mut().for_each(|device| drop(world.sync(device)));
        world.sync(&mut alice);
    }
    // Nothing of a megabyte opens on any of his devices: each asks for 4 of them.
    for _ in 0..4 {
        world.write(&mut alice, "bob", &"long".repeat(250_000));
    }
    for device in &mut devices {
        for mut mail in world.post.take(&device.address().clone()) {
            *mail.envelope.last_mut().unwrap() ^= 1;
            let came = device.receive(mail.named(), &mail.envelope, world.now, &mut world.rng);
            assert!(matches!(came, Ok(Received::AskedAgain(_))), "{came:?}");
        }
        world.connect(device);
    }
    world.sync(&mut alice);
    // What others are to get leaves all the same.
    let others = ["carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy"];
    for name in others {
        world.create(name);
        world.write(&mut alice, name, "hello");
    }
    // And nobody looks every second whether more may be sent.
    let mut looked = 0;
    let began = world.now;
    while world.now.since(began) < HOUR {
        world.now = alice.next_due(world.now).unwrap();
        world.connect(&mut alice);
        looked += 1;
    }
    assert!(looked < 400, "{looked}");
}

fn is_text(item: &Item, text: &[u8]) -> bool {
    matches!(item, Item::Text(Text { text: found, .. }) if **found == *text)
}

/// An app may bring a wrong clock inside the limits by itself.
#[test]
fn a_wait_at_the_end_of_time_is_a_wait_all_the_same() {
    let mut world = World::new("the end of time");
    world.now = UnixTime::MAX;
    let mut alice = world.create("alice");
    alice.write("nobody", b"is anybody there", world.now, &mut world.rng).unwrap();
    for is_away in [false, true] {
        drain(&mut world, &mut alice, is_away);
        assert!(alice.next_due(world.now).unwrap() > world.now);
        alice.connected().unwrap();
    }
}

/// Does what is due, but of some devices there is nothing to begin a session with.
fn drain_without(world: &mut World, client: &mut Client<Memory>, without: &[Address]) {
    for _ in 0..100 {
        let tasks = client.tasks(100, world.now, &mut world.rng).unwrap();
        if tasks.is_empty() {
            return;
        }
        for task in tasks {
            let is_of = matches!(&task.action, Action::FetchBundle(of) if without.contains(of));
            let reply = world.post.serve(&client.address().clone(), &task.action, world.now);
            let answer = if is_of { Answer::Missing } else { reply.answer() };
            client.complete(&task.id, answer, world.now, &mut world.rng).unwrap();
        }
    }
    panic!("there are tasks without end");
}

/// What a device is told within days. Of some devices there is nothing to begin a session with.
fn told(
    world: &mut World,
    client: &mut Client<Memory>,
    without: &[Address],
    days: u64,
) -> Vec<Event> {
    let (began, mut told) = (world.now, Vec::new());
    while world.now.since(began) < days * DAY {
        drain_without(world, client, without);
        told.extend(events(client));
        sleep(world, client);
    }
    told
}

#[test]
fn what_was_written_to_a_device_that_cannot_be_reached_for_a_month_is_given_up() {
    let mut world = World::new("devices that cannot be reached");
    let [mut alice, mut bob, mut carol] = ["alice", "bob", "carol"].map(|user| world.create(user));
    let [tablet, bobs, carols] =
        [&mut alice, &mut bob, &mut carol].map(|old| world.link(old, Role::Device));
    world.write(&mut alice, "bob", "hello");
    world.write(&mut alice, "carol", "hello");
    let write = |world: &mut World, alice: &mut Client<Memory>, to, text: &str| {
        alice.write(to, text.as_bytes(), world.now, &mut world.rng).unwrap()
    };
    let mut without = Vec::new();
    let mut lose = |alice: &mut Client<Memory>, of: &Client<Memory>| {
        alice.reset(of.address()).unwrap();
        without.push(of.address().clone());
        without.clone()
    };
    // The second device gets the first text, and not the second one.
    let of = lose(&mut alice, &bob);
    let half = write(&mut world, &mut alice, "bob", "half");
    drain_without(&mut world, &mut alice, &of);
    let of = lose(&mut alice, &bobs);
    let none = write(&mut world, &mut alice, "bob", "none");
    drain_without(&mut world, &mut alice, &of);
    world.now = world.now.after(29 * DAY);
    // Others, two of them of the same number, cannot be reached for some days alone.
    let [_, of] = [&carols, &tablet].map(|other| lose(&mut alice, other));
    let to_carol = write(&mut world, &mut alice, "carol", "late");
    let to_bob = write(&mut world, &mut alice, "bob", "copy");
    let mut told = told(&mut world, &mut alice, &of, 3);
    told.sort_by_key(|event| format!("{event:?}"));
    let lost = |message, device| {
        let device = Some(device);
        Event::Undelivered { message, to: "bob".into(), device }
    };
    let texts_lost = [(half, 1), (none, 1), (to_bob, 1), (none, 2), (to_bob, 2)];
    let mut expected = texts_lost.map(|(message, device)| lost(message, device));
    expected.sort_by_key(|event| format!("{event:?}"));
    assert_eq!(told, expected);
    let progress = [half, none, to_bob, to_carol].map(|text| alice.progress(text).unwrap());
    let (sent, waiting) = (Progress::Sent, Progress::Waiting);
    assert_eq!(progress, [sent, sent, waiting, waiting]);
    // They are there after all: what is written from now on comes.
    let later = write(&mut world, &mut alice, "bob", "later");
    assert_eq!(self::told(&mut world, &mut alice, &[], 1), []);
    for text in [to_bob, to_carol, later] {
        assert_eq!(alice.progress(text), Ok(sent));
    }
    let mut shown = |mut client: Client<Memory>| {
        world.sync(&mut client);
        let mut all: Vec<String> = texts(&mut client).into_iter().map(|(.., text)| text).collect();
        all.sort();
        all
    };
    assert_eq!(shown(bob), ["hello", "later"]);
    assert_eq!(shown(bobs), ["half", "hello", "later"]);
    assert_eq!(shown(carol), ["hello", "late"]);
    assert_eq!(shown(carols), ["hello", "late"]);
    assert_eq!(shown(tablet), ["copy", "half", "hello", "hello", "late", "later", "none"]);
}

#[test]
fn a_device_of_the_account_that_cannot_be_reached_for_a_month_is_given_up() {
    let mut world = World::new("an own device that cannot be reached");
    let mut alice = world.create("alice");
    let tablet = world.link(&mut alice, Role::Device);
    let mut bob = world.create("bob");
    let mut bobs = world.link(&mut bob, Role::Device);
    alice.reset(tablet.address()).unwrap();
    let without = [tablet.address().clone()];
    let text = alice.write("bob", b"one", world.now, &mut world.rng).unwrap();
    drain_without(&mut world, &mut alice, &without);
    world.now = world.now.after(31 * DAY);
    let told = told(&mut world, &mut alice, &without, 3);
    let lost = Event::Undelivered { message: text, to: "alice".into(), device: Some(2) };
    assert_eq!(told, [lost]);
    assert_eq!(alice.progress(text), Ok(Progress::Sent));
    for client in [&mut bob, &mut bobs] {
        world.sync(client);
        assert_eq!(texts(client), [from("alice/1", "one")]);
    }
}
