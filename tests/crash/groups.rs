//! What laptops propose, what does not count, successors, what is asked for and owed, and sealed
//! groups, through every failure.

use subrosa::group::GroupId;
use subrosa::protocol::IdentityKeyPair;
use subrosa::{Client, Delivery, Error, Received, Role, ServerKey};

use super::calls::{Call, Did};
use super::network::Seeded;
use super::{Device, World, lose_sessions};

fn list(world: &mut World, of: &mut Device, user: &str) {
    let list = world.post.list(user).unwrap().encode();
    world.call(of, Call::UpdateDevices(user.into(), list)).unwrap();
}

const DAY: u64 = 24 * 60 * 60;

/// Alice founds a group with others, who join.
fn found(world: &mut World, alice: &mut Device, others: &mut [&mut Device]) -> GroupId {
    let mut users: Vec<String> = others.iter().map(|one| one.address.user.clone()).collect();
    users.dedup();
    users.iter().for_each(|user| list(world, alice, user));
    let found = Call::CreateGroup(users, b"roses".to_vec());
    let Ok(Did::Groups(groups)) = world.call(alice, found) else { panic!("no group") };
    settle(world, alice, others);
    for other in others.iter_mut() {
        world.call(other, Call::JoinGroup(groups[0])).unwrap();
    }
    settle(world, alice, others);
    groups[0]
}

fn settle(world: &mut World, alice: &mut Device, others: &mut [&mut Device]) {
    let mut all: Vec<&mut Device> = Vec::from([alice]);
    all.extend(others.iter_mut().map(|one| &mut **one));
    world.settle(&mut all);
}

/// Writes a text that these devices are to show.
fn write(world: &mut World, from: &mut Device, to: &[&Device], group: GroupId, text: &str) {
    world.call(from, Call::WriteToGroup(group, text.into())).unwrap();
    expect(world, from, to, text);
}

fn expect(world: &mut World, from: &Device, to: &[&Device], text: &str) {
    for device in to {
        let row = (device.address.to_string(), from.address.to_string(), text.to_owned());
        *world.expected.entry(row).or_default() += 1;
    }
}

#[test]
fn what_a_group_cannot_read_is_asked_for_and_owed_through_every_failure() {
    let world = &mut World::new();
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    let mut laptop = world.link(&mut bob, Role::Device);
    let group = found(world, &mut alice, &mut [&mut bob, &mut laptop]);
    // A device without a session is owed the text.
    write(world, &mut alice, &[&bob, &laptop], group, "one");
    write(world, &mut bob, &[&alice, &laptop], group, "two");
    world.settle(&mut [&mut alice, &mut bob, &mut laptop]);
    world.call(&mut bob, Call::WriteFileToGroup(group, b"a file".to_vec())).unwrap();
    expect(world, &bob, &[&alice, &laptop], "a file");
    world.settle(&mut [&mut alice, &mut bob, &mut laptop]);
    // The new chain comes in a session that is lost: it is asked for, and so is the text.
    world.call(&mut alice, Call::RefreshGroup(group)).unwrap();
    write(world, &mut alice, &[&bob, &laptop], group, "three");
    world.work(&mut alice);
    lose_sessions(&mut bob);
    for mail in world.post.take(&bob.address) {
        let received = world.receive(&mut bob, &mail);
        assert!(matches!(received, Received::AskedAgain(_)), "{received:?}");
    }
    world.settle(&mut [&mut alice, &mut bob, &mut laptop]);
    // The chain and the lists are old, and silent devices answer.
    world.now = world.now.after(8 * DAY);
    world.settle(&mut [&mut alice, &mut bob, &mut laptop]);
    write(world, &mut alice, &[&bob, &laptop], group, "five");
    for _ in 0..2 {
        world.settle(&mut [&mut alice, &mut bob, &mut laptop]);
        world.now = world.now.after(DAY);
    }
    // The store of Alice is a copy that was made before the server's last upload.
    let copy = alice.store.fork();
    world.call(&mut alice, Call::PromoteInGroup(group, "bob".into())).unwrap();
    world.call(&mut alice, Call::DemoteInGroup(group, "bob".into())).unwrap();
    world.now = world.now.after(2 * DAY);
    world.settle(&mut [&mut alice, &mut bob, &mut laptop]);
    let mut alice = world.device(Client::open(copy.clone()).unwrap(), copy);
    write(world, &mut alice, &[&bob, &laptop], group, "from a copy");
    world.settle(&mut [&mut alice, &mut bob, &mut laptop]);
    world.report(&[
        "AskedAgain",
        "Restored",
        "change_group, demote",
        "write_to_group, with a file",
        "task FetchDevices",
    ]);
}

#[test]
fn what_somebody_removed_writes_comes_late_or_not_at_all_through_every_failure() {
    let world = &mut World::new();
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    let mut carol = world.create("carol");
    let group = found(world, &mut alice, &mut [&mut bob, &mut carol]);
    write(world, &mut carol, &[&alice, &bob], group, "one");
    write(world, &mut alice, &[&bob, &carol], group, "two");
    world.settle(&mut [&mut alice, &mut bob, &mut carol]);
    world.call(&mut alice, Call::RemoveFromGroup(group, "carol".into())).unwrap();
    world.settle(&mut [&mut alice, &mut bob]);
    // She has not heard of it: shown apart, and a day later not at all.
    write(world, &mut carol, &[&alice, &bob], group, "late");
    world.work(&mut carol);
    world.settle(&mut [&mut alice, &mut bob]);
    world.now = world.now.after(2 * DAY);
    world.call(&mut carol, Call::WriteToGroup(group, b"too late".to_vec())).unwrap();
    world.work(&mut carol);
    for device in [&mut alice, &mut bob] {
        for mail in world.post.take(&device.address) {
            let received = world.receive(device, &mail);
            let is_shown = matches!(received, Received::Incoming(_));
            assert!(!is_shown, "{received:?}");
        }
    }
    world.settle(&mut [&mut alice, &mut bob, &mut carol]);
    // And comes back.
    world.call(&mut alice, Call::AddToGroup(group, "carol".into())).unwrap();
    world.settle(&mut [&mut alice, &mut bob, &mut carol]);
    world.call(&mut carol, Call::JoinGroup(group)).unwrap();
    write(world, &mut carol, &[&alice, &bob], group, "back");
    world.settle(&mut [&mut alice, &mut bob, &mut carol]);
    world.report(&["GroupLeft", "GroupInvited", "change_group, remove"]);
}

#[test]
fn a_sealed_group_goes_on_through_every_failure() {
    let world = &mut World::new();
    world.policy.delivery = Delivery::Sealed;
    let issuer = IdentityKeyPair::generate(&mut Seeded::new(1, "issuer"));
    world.policy.trusted_servers = vec![ServerKey { id: 1, key: issuer.public_key() }];
    world.post.issuer = Some(issuer);
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    let mut carol = world.create("carol");
    let group = found(world, &mut alice, &mut [&mut bob, &mut carol]);
    write(world, &mut alice, &[&bob, &carol], group, "one");
    write(world, &mut bob, &[&alice, &carol], group, "two");
    pass(world, &mut [&mut alice, &mut bob, &mut carol]);
    // It is encrypted in her session at once, and does not leave for her.
    write(world, &mut alice, &[&bob], group, "it waits");
    world.call(&mut alice, Call::RemoveFromGroup(group, "carol".into())).unwrap();
    write(world, &mut alice, &[&bob], group, "without carol");
    pass(world, &mut [&mut alice, &mut bob, &mut carol]);
    assert!(world.post.past.iter().all(|mail| mail.is_sealed()));
    world.report(&["task SendSealed", "GroupLeft", "create_group", "write_to_group"]);
}

/// What waits for a time that is drawn comes too.
fn pass(world: &mut World, devices: &mut [&mut Device]) {
    for _ in 0..4 {
        world.now = world.now.after(11 * 60);
        for device in devices.iter_mut() {
            world.sync(device);
        }
    }
    world.settle(devices);
}

#[test]
fn a_laptop_proposes_and_a_manager_signs_through_every_failure() {
    let world = &mut World::new();
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    let mut laptop = world.link(&mut bob, Role::Device);
    world.settle(&mut [&mut alice, &mut bob, &mut laptop]);
    list(world, &mut alice, "bob");
    let found = Call::CreateGroup(Vec::from(["bob".into()]), b"roses".to_vec());
    let Ok(Did::Groups(groups)) = world.call(&mut alice, found) else { panic!("no group") };
    let group = groups[0];
    world.call(&mut alice, Call::PromoteInGroup(group, "bob".into())).unwrap();
    world.settle(&mut [&mut alice, &mut bob, &mut laptop]);
    world.call(&mut bob, Call::JoinGroup(group)).unwrap();
    world.settle(&mut [&mut alice, &mut bob, &mut laptop]);
    // Without a session, and with one.
    world.call(&mut laptop, Call::Reset(bob.address.clone())).unwrap();
    world.call(&mut laptop, Call::SetInGroup(group, b"thorns".to_vec())).unwrap();
    world.settle(&mut [&mut alice, &mut bob, &mut laptop]);
    world.call(&mut bob, Call::SetInGroup(group, b"thorns".to_vec())).unwrap();
    world.settle(&mut [&mut alice, &mut bob, &mut laptop]);
    assert_eq!(laptop.client.group(group).unwrap().proposed, []);
    world.call(&mut laptop, Call::SetInGroup(group, b"lilies".to_vec())).unwrap();
    world.settle(&mut [&mut alice, &mut bob, &mut laptop]);
    world.now = world.now.after(8 * 24 * 60 * 60);
    world.settle(&mut [&mut alice, &mut bob, &mut laptop]);
    let found = Call::CreateGroup(Vec::from(["bob".into()]), b"tulips".to_vec());
    let Ok(Did::Groups(groups)) = world.call(&mut alice, found) else { panic!("no group") };
    world.settle(&mut [&mut alice, &mut bob, &mut laptop]);
    world.call(&mut laptop, Call::DeclineGroup(groups[0])).unwrap();
    world.settle(&mut [&mut alice, &mut bob, &mut laptop]);
    world.report(&["GroupProposal", "GroupProposalExpired", "change_group, set"]);
}

#[test]
fn what_does_not_count_is_restored_and_a_successor_founded_through_every_failure() {
    let world = &mut World::new();
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    let mut carol = world.create("carol");
    for (of, user) in [(&mut alice, "bob"), (&mut bob, "carol")] {
        list(world, of, user);
    }
    list(world, &mut alice, "carol");
    let found = Call::CreateGroup(Vec::from(["bob".into()]), b"roses".to_vec());
    let Ok(Did::Groups(groups)) = world.call(&mut alice, found) else { panic!("no group") };
    let group = groups[0];
    world.call(&mut alice, Call::PromoteInGroup(group, "bob".into())).unwrap();
    world.settle(&mut [&mut alice, &mut bob, &mut carol]);
    world.call(&mut bob, Call::JoinGroup(group)).unwrap();
    world.settle(&mut [&mut alice, &mut bob, &mut carol]);
    let preview = world.call(&mut alice, Call::PreviewRemoval(group, "bob".into()));
    assert!(matches!(preview, Ok(Did::Preview(preview)) if preview.changes.len() == 1));
    world.call(&mut alice, Call::RemoveFromGroup(group, "bob".into())).unwrap();
    world.call(&mut bob, Call::AddToGroup(group, "carol".into())).unwrap();
    world.settle(&mut [&mut alice, &mut bob, &mut carol]);
    world.call(&mut alice, Call::RestoreInGroup(group, "bob".into())).unwrap();
    world.settle(&mut [&mut alice, &mut bob, &mut carol]);
    let next = world.call(&mut alice, Call::ContinueGroup(group, "bob".into()));
    let Ok(Did::Groups(next)) = next else { panic!("no successor") };
    world.settle(&mut [&mut alice, &mut bob, &mut carol]);
    let info = carol.client.group(next[0]).unwrap();
    assert_eq!(info.members.len(), 2);
    let refused = world.call(&mut bob, Call::ContinueGroup(next[0], "carol".into()));
    assert_eq!(refused, Err(Error::UnknownGroup));
    world.report(&["continue_group", "GroupVoided", "GroupContinued", "preview_change"]);
}
