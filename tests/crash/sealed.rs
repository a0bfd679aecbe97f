//! The same of sealed mail: tickets, certificates, passes, blocks, and what waits to be vouched
//! for.

use subrosa::protocol::IdentityKeyPair;
use subrosa::{Delivery, Error, Received, ServerKey};

use crate::calls::{Call, Did};
use crate::network::Seeded;
use crate::{World, lose_sessions};

const MINUTE: u64 = 60;
const DAY: u64 = 24 * 60 * MINUTE;

fn world() -> World {
    let mut world = World::new();
    world.policy.delivery = Delivery::Sealed;
    world
}

#[test]
fn sealed_mail_goes_on_through_every_failure() {
    let world = &mut world();
    let issuer = IdentityKeyPair::generate(&mut Seeded::new(1, "issuer"));
    world.policy.trusted_servers = vec![ServerKey { id: 1, key: issuer.public_key() }];
    world.post.issuer = Some(issuer);
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    for turn in 0..2 {
        world.write(&mut alice, "bob", &format!("ping {turn}"));
        world.settle(&mut [&mut alice, &mut bob]);
        world.write(&mut bob, "alice", &format!("pong {turn}"));
        world.settle(&mut [&mut alice, &mut bob]);
    }
    for mail in world.post.past.clone() {
        assert!(mail.is_sealed());
        let device = if mail.to.user == "alice" { &mut alice } else { &mut bob };
        assert_eq!(world.receive(device, &mail), Received::Duplicate);
    }
    // What cannot be opened is asked for, at a time that is drawn.
    lose_sessions(&mut bob);
    world.write(&mut alice, "bob", "once more");
    world.work(&mut alice);
    for mail in world.post.take(&bob.address) {
        let received = world.receive(&mut bob, &mail);
        assert!(matches!(received, Received::AskedAgain(_)), "{received:?}");
    }
    for _ in 0..4 {
        world.now = world.now.after(11 * MINUTE);
        world.work(&mut bob);
        world.work(&mut alice);
        for mail in world.post.take(&alice.address) {
            drop(world.receive(&mut alice, &mail));
        }
        world.work(&mut alice);
        for mail in world.post.take(&bob.address) {
            drop(world.receive(&mut bob, &mail));
        }
    }
    world.settle(&mut [&mut alice, &mut bob]);
    // Openly for once, and sealed again: what waits is made anew.
    for delivery in [Delivery::Open, Delivery::Sealed, Delivery::Open] {
        world.call(&mut bob, Call::Deliver("alice".into(), delivery)).unwrap();
    }
    world.write(&mut bob, "alice", "openly");
    world.call(&mut bob, Call::Deliver("alice".into(), Delivery::Sealed)).unwrap();
    world.settle(&mut [&mut alice, &mut bob]);
    // A certificate that is too old makes the message wait until the list is fetched.
    let mut carol = world.create("carol");
    world.write(&mut alice, "carol", "hello");
    world.work(&mut alice);
    world.now = world.now.after(8 * DAY);
    for mail in world.post.take(&carol.address) {
        assert_eq!(world.receive(&mut carol, &mail), Received::SetAside);
    }
    for _ in 0..3 {
        world.now = world.now.after(11 * MINUTE);
        world.work(&mut carol);
    }
    world.settle(&mut [&mut alice, &mut bob, &mut carol]);
    // A user who is forgotten is known by number alone.
    world.call(&mut bob, Call::Forget("alice".into())).unwrap();
    let before = world.call(&mut bob, Call::UnknownContacts);
    assert_eq!(before, Ok(Did::Count(0)));
    world.call(&mut alice, Call::Write("bob".into(), b"who?".into())).unwrap();
    world.work(&mut alice);
    for mail in world.post.take(&bob.address) {
        assert_eq!(world.receive(&mut bob, &mail), Received::Refused(Error::UnknownHeader));
    }
    let after = world.call(&mut bob, Call::UnknownContacts);
    assert_eq!(after, Ok(Did::Count(1)));
    world.report(&[
        "deliver",
        "unknown_contacts",
        "task SendSealed",
        "task FetchCertificate",
        "AskedAgain",
        "SetAside",
        "Duplicate",
        "Refused",
    ]);
}

#[test]
fn strangers_and_passes_go_through_every_failure() {
    let world = &mut world();
    world.policy.requires_pass = true;
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    // A stranger's text waits, until a person lets it go openly.
    let text = world.call(&mut bob, Call::Write("alice".into(), b"let me in".into()));
    world.expect(&mut bob, "alice", "let me in");
    assert!(matches!(text, Ok(Did::Message(_))), "{text:?}");
    for _ in 0..2 {
        refused(world, &mut bob);
        world.now = world.now.after(DAY);
    }
    assert!(world.post.past.is_empty());
    world.call(&mut bob, Call::Deliver("alice".into(), Delivery::Open)).unwrap();
    world.settle(&mut [&mut alice, &mut bob]);
    world.write(&mut alice, "bob", "come in");
    world.settle(&mut [&mut alice, &mut bob]);
    world.call(&mut bob, Call::Deliver("alice".into(), Delivery::Sealed)).unwrap();
    let open = world.post.past.len();
    world.write(&mut bob, "alice", "sealed");
    world.settle(&mut [&mut alice, &mut bob]);
    assert!(world.post.past[open..].iter().all(crate::post::Mail::is_sealed));
    // A new pass, which the other side hears of with the next text.
    for user in ["mallory", "mallory", "bob"] {
        world.call(&mut alice, Call::Block(user.into())).unwrap();
    }
    let blocked = world.call(&mut alice, Call::IsBlocked("bob".into()));
    assert_eq!(blocked, Ok(Did::Flag(true)));
    world.call(&mut bob, Call::Write("alice".into(), b"please".into())).unwrap();
    world.work(&mut bob);
    for mail in world.post.take(&alice.address) {
        assert_eq!(world.receive(&mut alice, &mail), Received::Refused(Error::Blocked));
    }
    world.call(&mut alice, Call::Unblock("bob".into())).unwrap();
    for turn in 0..2 {
        world.write(&mut alice, "bob", &format!("sorry {turn}"));
        world.settle(&mut [&mut alice, &mut bob]);
        world.write(&mut bob, "alice", &format!("never mind {turn}"));
        world.settle(&mut [&mut alice, &mut bob]);
    }
    world.report(&["block", "unblock", "is_blocked", "deliver", "task SetPass", "SealedRefused"]);
}

/// Does the tasks of a device whose sealed mail the server refuses.
fn refused(world: &mut World, device: &mut crate::Device) {
    for _ in 0..10 {
        let tasks = match world.call(device, Call::Tasks(100)) {
            Ok(Did::Tasks(tasks)) if tasks.is_empty() => return,
            Ok(Did::Tasks(tasks)) => tasks,
            other => panic!("{other:?}"),
        };
        for task in tasks {
            let reply = world.post.serve(&device.address, &task.action, world.now);
            world.call(device, Call::Complete(task.id.clone(), reply)).unwrap();
            device.is_checked |= matches!(task.action, subrosa::Action::FetchSummary);
        }
    }
    panic!("there are tasks without end");
}
