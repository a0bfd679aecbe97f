//! Groups that take the place of others, and what does not count any more.

use subrosa::group::{GroupId, GroupRole};
use subrosa::{
    Address, Admins, Error, Event, FounderRole, GroupEvent, GroupIntention, GroupStanding,
};

use crate::world::World;

fn continue_group(
    world: &mut World,
    by: &Address,
    without: &[&str],
    admins: Admins,
) -> Result<GroupId, Error> {
    let group = world.group.unwrap();
    let (now, keys) = (world.now, &mut world.keys);
    let client = &mut world.devices.get_mut(by).unwrap().client;
    client.continue_group(group, without, admins, now, keys)
}

/// What a device was told of a group, but for the invitation itself.
fn told(world: &World, of: &Address, group: GroupId) -> Vec<(GroupId, String, FounderRole)> {
    let is_invited =
        |event: &&Event| matches!(event, Event::GroupInvited { group: of, .. } if *of == group);
    assert_eq!(world.devices[of].events.iter().filter(is_invited).count(), 1, "{of}");
    let continued = world.devices[of].events.iter().filter_map(|event| match event {
        Event::GroupContinued { group: told, of, founder, was } if *told == group => {
            Some((*of, founder.clone(), *was))
        }
        _ => None,
    });
    continued.collect()
}

#[test]
fn a_successor_has_the_people_the_settings_and_the_roles_and_everybody_decides() {
    let (mut world, all) = World::with_group(60, &["bea", "cyd", "dot"]);
    world.change(&all[0], GroupIntention::Promote("cyd")).unwrap();
    world.settle();
    let group = world.group.unwrap();
    // Ada's account key was stolen. Bea founds a group without her.
    let next = continue_group(&mut world, &all[1], &["ada"], Admins::Kept).unwrap();
    world.settle();
    for of in [&all[2], &all[3]] {
        assert_eq!(told(&world, of, next), [(group, "bea".into(), FounderRole::Member)]);
        let info = world.client(of).group(next).unwrap();
        assert_eq!((info.standing, &info.settings[..]), (GroupStanding::Invited, &b"roses"[..]));
        let roles: Vec<_> = info.members.iter().map(|one| (&*one.user, one.role)).collect();
        let (admin, member) = (GroupRole::Admin, GroupRole::Member);
        assert_eq!(roles, [("bea", admin), ("cyd", admin), ("dot", member)]);
        let continues = info.continues.unwrap();
        assert_eq!((continues.group, &*continues.founder), (group, "bea"));
        assert_eq!(continues.was, FounderRole::Member);
    }
    assert_eq!(world.client(&all[0]).group(next), Err(Error::UnknownGroup));
    // The other one stays as it is.
    assert_eq!(world.members(&all[3]), ["ada", "bea", "cyd", "dot"]);
    assert_eq!(world.client(&all[3]).group(group).unwrap().continues, None);
    // Who joins writes.
    world.group = Some(next);
    world.join(&all[2]);
    world.write(&all[1]).unwrap();
    world.write(&all[2]).unwrap();
    assert_eq!(world.write(&all[3]), Err(Error::UnknownGroup), "nobody joined for dot");
    world.settle();
    world.check_nobody_else();
    world.check_all(&|_| true);
}

#[test]
fn an_admin_founds_a_successor_alone_and_of_a_removed_founder_it_is_said() {
    let (mut world, all) = World::with_group(61, &["bea", "cyd"]);
    let group = world.group.unwrap();
    world.change(&all[0], GroupIntention::Promote("bea")).unwrap();
    world.settle();
    let next = continue_group(&mut world, &all[0], &[], Admins::Founder).unwrap();
    world.settle();
    let info = world.client(&all[2]).group(next).unwrap();
    let admins = info.members.iter().filter(|one| one.role == GroupRole::Admin);
    assert_eq!(admins.map(|one| &*one.user).collect::<Vec<_>>(), ["ada"]);
    assert_eq!(told(&world, &all[2], next), [(group, "ada".into(), FounderRole::Admin)]);
    // A thief of Ada's key removes Bea, who goes on with the others.
    world.change(&all[0], GroupIntention::Remove("bea")).unwrap();
    world.settle();
    let next = continue_group(&mut world, &all[1], &["ada"], Admins::Kept).unwrap();
    world.settle();
    assert_eq!(told(&world, &all[2], next), [(group, "bea".into(), FounderRole::Former)]);
}

#[test]
fn nobody_who_never_was_a_member_continues_a_group() {
    let (mut world, all) = World::with_group(62, &["bea"]);
    let eve = world.create("eve");
    assert_eq!(continue_group(&mut world, &eve, &[], Admins::Kept), Err(Error::UnknownGroup));
    let laptop = world.link(&all[1], subrosa::Role::Device);
    world.settle();
    let refused = continue_group(&mut world, &laptop, &[], Admins::Kept);
    assert_eq!(refused, Err(Error::NotPermitted), "without the account key");
}

#[test]
fn what_somebody_removed_did_meanwhile_is_shown_and_done_after_all() {
    let (mut world, all) = World::with_group(63, &["bea", "cyd"]);
    world.create("dot");
    world.meet(&all[0], "dot");
    world.meet(&all[1], "dot");
    world.change(&all[0], GroupIntention::Promote("bea")).unwrap();
    world.settle();
    let group = world.group.unwrap();
    let preview = |world: &mut World, all: &[GroupIntention<'_>], of: &Address| {
        world.client(of).preview_change(group, all).unwrap()
    };
    let before = world.client(&all[0]).group(group).unwrap();
    let removes = preview(&mut world, &[GroupIntention::Remove("bea")], &all[0]);
    assert_eq!(removes.changes, [GroupEvent::Removed { user: "bea".into() }]);
    assert_eq!(removes.voided, []);
    assert_eq!(world.client(&all[0]).group(group).unwrap(), before, "nothing is done");
    // Both at once.
    world.change(&all[0], GroupIntention::Remove("bea")).unwrap();
    world.change(&all[1], GroupIntention::Add("dot")).unwrap();
    world.change(&all[1], GroupIntention::Promote("cyd")).unwrap();
    world.change(&all[1], GroupIntention::Set(b"thorns")).unwrap();
    world.settle();
    assert_eq!(world.members(&all[0]), ["ada", "cyd"]);
    let voided = Event::GroupVoided { group, by: "bea".into() };
    assert!(world.devices[&all[0]].events.contains(&voided));
    assert!(!world.devices[&all[2]].events.contains(&voided), "cyd can do nothing about it");
    let info = world.client(&all[0]).group(group).unwrap();
    assert_eq!(info.voided.len(), 3, "{:?}", info.voided);
    assert!(info.voided.iter().all(|one| one.by == "bea"));
    let restore = [GroupIntention::Restore("bea")];
    let restores = preview(&mut world, &restore, &all[0]);
    let role = GroupRole::Admin;
    assert_eq!(restores.changes.len(), 3);
    assert!(restores.changes.contains(&GroupEvent::Role { user: "cyd".into(), role }));
    world.change(&all[0], restore[0]).unwrap();
    // Twice is once.
    let count = world.client(&all[0]).group(group).unwrap();
    world.change(&all[0], restore[0]).unwrap();
    assert_eq!(world.client(&all[0]).group(group).unwrap(), count);
    world.settle();
    for of in [&all[0], &all[2]] {
        assert_eq!(world.members(of), ["ada", "cyd", "dot"], "{of}");
        let info = world.client(of).group(group).unwrap();
        assert_eq!((&info.settings[..], info.voided), (&b"thorns"[..], Vec::new()));
        assert_eq!(info.members[1].role, role);
    }
    // Nobody may who is no admin.
    world.settle();
    let dot = Address::new("dot", 1);
    world.join(&dot);
    assert_eq!(world.change(&dot, GroupIntention::Restore("bea")), Ok(()), "nothing is left");
    let refused = world.client(&dot).preview_change(group, &[GroupIntention::Remove("ada")]);
    assert_eq!(refused, Err(Error::NotPermitted));
}
