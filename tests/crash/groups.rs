//! What laptops propose, what does not count, and successors, through every failure.

use subrosa::{Error, Role};

use super::calls::{Call, Did};
use super::{Device, World};

fn list(world: &mut World, of: &mut Device, user: &str) {
    let list = world.post.list(user).unwrap().encode();
    world.call(of, Call::UpdateDevices(user.into(), list)).unwrap();
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
    world.call(&mut laptop, Call::DeclineGroup(group)).unwrap();
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
