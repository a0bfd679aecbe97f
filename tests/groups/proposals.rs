//! A device without the account key, which asks the managers of its account.

use subrosa::{
    Address, Error, Event, GroupChange, GroupEvent, GroupIntention, GroupStanding, ProposedChange,
    Role,
};

use crate::world::{HOUR, World};

const DAY: u64 = 24 * HOUR;

/// Ada's group, with bea, who has a phone and a laptop without the account key.
fn with_laptop(seed: u64) -> (World, Vec<Address>, Address) {
    let (mut world, all) = World::with_group(seed, &["bea", "cyd"]);
    let laptop = world.link(&all[1], Role::Device);
    world.settle();
    for by in &all {
        world.write(by).unwrap();
    }
    world.settle();
    world.write(&laptop).unwrap();
    world.settle();
    (world, all, laptop)
}

fn propose(
    world: &mut World,
    by: &Address,
    all: &[GroupIntention<'_>],
) -> Result<GroupChange, Error> {
    let group = world.group.unwrap();
    let (now, keys) = (world.now, &mut world.keys);
    world.devices.get_mut(by).unwrap().client.change_group(group, all, now, keys)
}

fn waits(world: &mut World, of: &Address) -> Vec<Vec<ProposedChange>> {
    let group = world.group.unwrap();
    let info = world.client(of).group(group).unwrap();
    info.proposed.into_iter().map(|proposal| proposal.changes).collect()
}

#[test]
fn a_laptop_leaves_a_group_by_its_manager_and_both_people_see_it() {
    let (mut world, all, laptop) = with_laptop(50);
    let group = world.group.unwrap();
    let proposed = propose(&mut world, &laptop, &[GroupIntention::Leave]);
    assert_eq!(proposed, Ok(GroupChange::Proposed));
    assert_eq!(waits(&mut world, &laptop), [[ProposedChange::Leave]]);
    assert_eq!(world.client(&laptop).group(group).unwrap().standing, GroupStanding::Joined);
    world.settle();
    for of in [&all[1], &laptop] {
        let info = world.client(of).group(group).unwrap();
        assert_eq!((info.standing, info.proposed.len()), (GroupStanding::Out, 0), "{of}");
    }
    let (by, changes) = (laptop.clone(), vec![ProposedChange::Leave]);
    let shown = Event::GroupProposal { group, by, changes, made: true };
    assert!(world.devices[&all[1]].events.contains(&shown));
    assert!(world.devices[&laptop].events.contains(&Event::GroupLeft { group }));
    assert_eq!(world.members(&all[0]), ["ada", "cyd"]);
    assert_eq!(world.write(&laptop), Err(Error::UnknownGroup));
    world.check_nobody_else();
}

#[test]
fn what_else_a_laptop_wants_a_person_decides_at_the_manager() {
    let (mut world, all, laptop) = with_laptop(51);
    let group = world.group.unwrap();
    world.change(&all[0], GroupIntention::Promote("bea")).unwrap();
    world.settle();
    let wanted = [GroupIntention::Set(b"thorns"), GroupIntention::Remove("cyd")];
    assert_eq!(propose(&mut world, &laptop, &wanted), Ok(GroupChange::Proposed));
    // The same again is the same.
    assert_eq!(propose(&mut world, &laptop, &wanted), Ok(GroupChange::Proposed));
    // An admin who leaves cannot be one again by itself: that is asked as well.
    assert_eq!(propose(&mut world, &laptop, &[GroupIntention::Leave]), Ok(GroupChange::Proposed));
    world.settle();
    assert_eq!(world.members(&all[1]), ["ada", "bea", "cyd"]);
    let events = world.devices[&all[1]].events.clone();
    let asked: Vec<&Vec<ProposedChange>> = events
        .iter()
        .filter_map(|event| match event {
            Event::GroupProposal { by, changes, made: false, .. } if *by == laptop => Some(changes),
            _ => None,
        })
        .collect();
    assert_eq!(asked.len(), 2, "{events:?}");
    assert_eq!(waits(&mut world, &laptop).len(), 2);
    // The person says yes to the first.
    let changes: Vec<GroupIntention<'_>> = asked[0].iter().map(GroupIntention::from).collect();
    assert_eq!(changes, wanted);
    assert_eq!(propose(&mut world, &all[1], &changes), Ok(GroupChange::Made));
    world.settle();
    assert_eq!(waits(&mut world, &laptop), [[ProposedChange::Leave]]);
    assert_eq!(world.members(&laptop), ["ada", "bea"]);
    // And nothing to the second: it is given up, and told.
    world.now = world.now.after(8 * DAY);
    world.settle();
    assert_eq!(waits(&mut world, &laptop), [[]; 0]);
    let expired = Event::GroupProposalExpired { group };
    let told = world.devices[&laptop].events.iter().filter(|event| **event == expired);
    assert_eq!(told.count(), 1);
    assert_eq!(world.members(&all[0]), ["ada", "bea"]);
}

#[test]
fn what_a_laptop_may_not_want_is_refused_at_once() {
    let (mut world, all, laptop) = with_laptop(52);
    for (wanted, why) in [
        (GroupIntention::Remove("ada"), Error::NotPermitted),
        (GroupIntention::Set(b"thorns"), Error::NotPermitted),
        (GroupIntention::Add("eve"), Error::DevicesNeeded("eve".into())),
    ] {
        assert_eq!(propose(&mut world, &laptop, &[wanted]), Err(why));
    }
    assert_eq!(waits(&mut world, &laptop), [[]; 0]);
    // Sixteen wait, and no more.
    world.change(&all[0], GroupIntention::Promote("bea")).unwrap();
    world.settle();
    world.devices.get_mut(&all[1]).unwrap().on = false;
    for at in 0..16 {
        let set = [at; 1];
        propose(&mut world, &laptop, &[GroupIntention::Set(&set)]).unwrap();
    }
    let more = propose(&mut world, &laptop, &[GroupIntention::Set(b"more")]);
    assert_eq!(more, Err(Error::RateLimited));
}

#[test]
fn a_proposal_waits_for_a_manager_that_is_away_and_for_a_session() {
    let (mut world, all, laptop) = with_laptop(53);
    world.devices.get_mut(&all[1]).unwrap().on = false;
    world.client(&laptop).reset(&all[1]).unwrap();
    propose(&mut world, &laptop, &[GroupIntention::Leave]).unwrap();
    // The laptop is restarted.
    let disk = world.devices[&laptop].disk.clone();
    world.devices.get_mut(&laptop).unwrap().client = subrosa::Client::open(disk).unwrap();
    world.connect_all(0);
    assert_eq!(waits(&mut world, &laptop), [[ProposedChange::Leave]]);
    world.now = world.now.after(5 * DAY);
    world.settle();
    assert_eq!(world.members(&all[0]), ["ada", "cyd"]);
    assert_eq!(waits(&mut world, &laptop), [[]; 0]);
}

#[test]
fn who_comes_back_meanwhile_is_not_taken_out_by_what_was_proposed_before() {
    let (mut world, all, laptop) = with_laptop(54);
    world.devices.get_mut(&laptop).unwrap().on = false;
    propose(&mut world, &laptop, &[GroupIntention::Leave]).unwrap();
    world.change(&all[1], GroupIntention::Leave).unwrap();
    world.connect_all(0);
    world.connect_all(0);
    world.change(&all[0], GroupIntention::Add("bea")).unwrap();
    for _ in 0..3 {
        world.connect_all(0);
    }
    world.join(&all[1]);
    world.settle();
    assert_eq!(world.members(&all[0]), ["ada", "cyd", "bea"]);
    assert_eq!(waits(&mut world, &laptop), [[]; 0]);
}

#[test]
fn who_declines_on_a_laptop_or_on_a_phone_is_out_for_all() {
    let (mut world, all, laptop) = with_laptop(55);
    let (dot, eve) = (world.create("dot"), world.create("eve"));
    let dots = world.link(&dot, Role::Device);
    world.settle();
    for user in ["dot", "eve"] {
        world.meet(&all[0], user);
        world.change(&all[0], GroupIntention::Add(user)).unwrap();
    }
    world.settle();
    world.write(&all[0]).unwrap();
    world.settle();
    let group = world.group.unwrap();
    for of in [&dots, &eve] {
        assert_eq!(world.client(of).group(group).unwrap().standing, GroupStanding::Invited);
        let (now, keys) = (world.now, &mut world.keys);
        let client = &mut world.devices.get_mut(of).unwrap().client;
        client.decline_group(group, now, keys).unwrap();
        assert_eq!(client.group(group).unwrap().standing, GroupStanding::Out);
    }
    world.settle();
    // Whom the two did not know learns it with the next chain.
    world.write(&all[0]).unwrap();
    world.settle();
    world.check_nobody_else();
    for of in [&all[0], &all[1], &laptop] {
        assert_eq!(world.members(of), ["ada", "bea", "cyd"], "{of}");
    }
    // The account's own devices know it; of what comes later nobody tells them.
    for of in [&dot, &dots] {
        assert_eq!(world.client(of).group(group).unwrap().standing, GroupStanding::Out);
        assert!(!world.members(of).contains(&"dot".into()), "{of}");
    }
    for user in ["dot", "eve"] {
        let what = GroupEvent::Removed { user: user.into() };
        let left = Event::GroupChanged { group, by: Some(user.into()), what };
        assert!(world.devices[&all[0]].events.contains(&left));
    }
}

#[test]
fn who_is_in_a_group_declines_nothing() {
    let (mut world, all, laptop) = with_laptop(56);
    let group = world.group.unwrap();
    world.devices.get_mut(&all[0]).unwrap().on = false;
    for of in [&all[1], &laptop] {
        // What it wrote stays as well.
        world.write(of).unwrap();
        let (now, keys) = (world.now, &mut world.keys);
        let client = &mut world.devices.get_mut(of).unwrap().client;
        assert_eq!(client.decline_group(group, now, keys), Err(Error::UnknownGroup), "{of}");
        assert_eq!(client.group(group).unwrap().standing, GroupStanding::Joined);
    }
    world.devices.get_mut(&all[0]).unwrap().on = true;
    world.settle();
    assert_eq!(world.members(&all[0]), ["ada", "bea", "cyd"]);
    world.check_all(&|_| true);
}

#[test]
fn a_laptop_that_declined_joins_after_all_where_no_manager_had_the_account_leave() {
    let (mut world, all) = World::with_group(70, &["bea"]);
    let group = world.group.unwrap();
    let laptop = world.link(&all[1], Role::Device);
    world.settle();
    // An admin is asked whether to leave, and does not answer.
    world.change(&all[0], GroupIntention::Promote("bea")).unwrap();
    world.settle();
    let next = {
        let (now, keys) = (world.now, &mut world.keys);
        let ada = &mut world.devices.get_mut(&all[0]).unwrap().client;
        ada.continue_group(group, &[], subrosa::Admins::Kept, now, keys).unwrap()
    };
    world.settle();
    let (now, keys) = (world.now, &mut world.keys);
    let device = &mut world.devices.get_mut(&laptop).unwrap().client;
    device.decline_group(next, now, keys).unwrap();
    assert_eq!(device.group(next).unwrap().standing, GroupStanding::Out);
    world.settle();
    world.group = Some(next);
    world.join(&all[1]);
    world.settle();
    world.join(&laptop);
    world.settle();
    for by in [&all[0], &all[1], &laptop] {
        world.write(by).unwrap();
    }
    world.settle();
    world.check_all(&|_| true);
    // Whom an admin removed cannot come back by that.
    world.change(&all[0], GroupIntention::Remove("bea")).unwrap();
    world.settle();
    let (now, keys) = (world.now, &mut world.keys);
    let device = &mut world.devices.get_mut(&laptop).unwrap().client;
    assert_eq!(device.join_group(next, now, keys), Err(Error::UnknownGroup));
}

#[test]
fn to_add_somebody_under_a_new_account_key_waits_until_that_is_done() {
    let (mut world, all, laptop) = with_laptop(59);
    let [ada, bea, cyd] = &all[..] else { panic!("three") };
    world.change(ada, GroupIntention::Promote("bea")).unwrap();
    let tablet = world.link(cyd, Role::Manager);
    world.settle();
    let (now, keys) = (world.now, &mut world.keys);
    let client = &mut world.devices.get_mut(cyd).unwrap().client;
    client.remove_device(tablet.device, now, keys).unwrap();
    world.devices.remove(&tablet);
    world.connect(cyd, 0);
    for of in [ada, bea, &laptop] {
        world.meet(of, "cyd");
        let waits = world.client(of).trust("cyd").unwrap().unwrap().new_account.unwrap();
        let (now, keys) = (world.now, &mut world.keys);
        let client = &mut world.devices.get_mut(of).unwrap().client;
        client.accept_new_key("cyd", &waits, now, keys).unwrap();
    }
    let add = [GroupIntention::Add("cyd")];
    assert_eq!(propose(&mut world, &laptop, &add), Ok(GroupChange::Proposed));
    // Something else of the group changes.
    world.change(ada, GroupIntention::Set(b"lilies")).unwrap();
    world.settle();
    let wanted = ProposedChange::Add("cyd".into());
    assert_eq!(waits(&mut world, &laptop), [[wanted]]);
    world.change(bea, add[0]).unwrap();
    world.settle();
    assert!(waits(&mut world, &laptop).is_empty());
}
