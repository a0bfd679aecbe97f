//! Groups on a network on which nobody should rely: every device of a member at the time shows each
//! text exactly once, and nobody else ever does; rosters converge; nobody adds anybody but members.
#![allow(
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::unwrap_used,
    reason = "a panic is how a test fails"
)]

#[path = "support/counting.rs"]
mod counting;
#[path = "groups/crossings.rs"]
mod crossings;
#[path = "groups/handshakes.rs"]
mod handshakes;
#[path = "groups/healing.rs"]
mod healing;
#[path = "groups/large.rs"]
mod large;
#[path = "attacks/liar.rs"]
#[allow(dead_code, reason = "the worlds use a part of it")]
mod liar;
#[path = "groups/mallory.rs"]
mod mallory;
#[path = "support/network.rs"]
mod network;
#[path = "support/post.rs"]
mod post;
#[path = "groups/proposals.rs"]
mod proposals;
#[path = "groups/safety.rs"]
mod safety;
#[path = "groups/story.rs"]
mod story;
#[path = "groups/successors.rs"]
mod successors;
#[path = "groups/world.rs"]
mod world;

use subrosa::group::{Change, GroupId, GroupRole};
use subrosa::store::Memory;
use subrosa::{
    Address, Client, Error, Event, GroupEvent, GroupIntention, GroupStanding, Received, Role,
};

use world::{HOUR, Mail, World, collect, receive};

#[test]
fn a_text_is_shown_once_on_every_device_of_every_member() {
    let (mut world, all) = World::with_group(1, &["bea", "cyd"]);
    let laptop = world.link(&all[0], Role::Device);
    let beas = world.link(&all[1], Role::Manager);
    world.settle();
    // Whoever wrote to each other knows which devices there are.
    for _ in 0..2 {
        for by in [&all[0], &all[1], &all[2], &laptop, &beas] {
            world.write(by).unwrap();
            world.connect(by, 0);
        }
        world.settle();
    }
    world.check_nobody_else();
    world.check_all(&|_| true);
    for written in &world.written[5..] {
        assert_eq!(written.to.len(), 4, "{}", written.by);
    }
    let all: Vec<Address> = world.devices.keys().cloned().collect();
    for address in &all {
        assert_eq!(world.members(address), ["ada", "bea", "cyd"], "{address}");
        assert!(world.devices[address].late.is_empty());
    }
}

#[test]
fn added_means_invited_and_before_that_nothing_is_given() {
    let mut world = World::new(2);
    let (ada, bea) = (world.create("ada"), world.create("bea"));
    world.meet(&ada, "bea");
    let (now, keys) = (world.now, &mut world.keys);
    let client = &mut world.devices.get_mut(&ada).unwrap().client;
    let group = client.create_group(&["bea"], b"roses", now, keys).unwrap();
    world.group = Some(group);
    world.settle();
    let invited = Event::GroupInvited { group, by: ada.clone() };
    assert!(world.devices[&bea].events.contains(&invited));
    let info = world.client(&bea).group(group).unwrap();
    assert_eq!((info.standing, &info.settings[..]), (GroupStanding::Invited, &b"roses"[..]));
    assert_eq!(info.members[0].role, GroupRole::Admin);
    assert_eq!(world.write(&bea), Err(Error::UnknownGroup));
    world.join(&bea);
    world.write(&bea).unwrap();
    world.write(&ada).unwrap();
    world.settle();
    world.check_nobody_else();
    assert_eq!(world.check_all(&|_| true), 2);
    // And who declines is out for all.
    world.change(&bea, GroupIntention::Leave).unwrap();
    world.settle();
    assert_eq!(world.members(&ada), ["ada"]);
    assert_eq!(world.write(&bea), Err(Error::UnknownGroup));
    let what = GroupEvent::Removed { user: "bea".into() };
    let left = Event::GroupChanged { group, by: Some("bea".into()), what };
    assert!(world.devices[&ada].events.contains(&left), "{:?}", world.devices[&ada].events);
}

#[test]
fn a_member_who_is_removed_and_added_before_anybody_hears_of_it_is_read_on() {
    for world in [World::new(83), World::sealed(83)] {
        let (mut world, all) = world.founding(&["bea", "cyd"]);
        let [ada, bea, cyd] = &all[..] else { panic!("three") };
        for by in &all {
            world.write(by).unwrap();
            world.settle();
        }
        // Under the id of before, which is on its way while she gets another one.
        world.write(cyd).unwrap();
        remove_and_add(&mut world, ada, "cyd", &all);
        world.settle();
        for _ in 0..2 {
            for by in &all {
                world.write(by).unwrap();
                world.settle();
            }
        }
        world.check_nobody_else();
        assert_eq!(world.check_all(&|_| true), 2 * 10);
        // Bea hears of it after what Cyd writes under the new id.
        remove_and_add(&mut world, ada, "cyd", &all);
        world.connect(ada, 0);
        let told = world.post.take(bea);
        world.connect(cyd, 0);
        world.write(cyd).unwrap();
        world.connect(cyd, 0);
        world.connect(bea, 0);
        let (now, keys) = (world.now, &mut world.keys);
        let device = world.devices.get_mut(bea).unwrap();
        told.iter().for_each(|mail| receive(device, mail, now, keys));
        world.settle();
        world.check_nobody_else();
        assert_eq!(world.check_all(&|_| true), 2 * 11);
        for address in [ada, bea] {
            assert!(world.devices[address].late.is_empty(), "{address}");
        }
    }
}

#[test]
fn who_was_removed_is_told_of_each_invitation_and_by_whom() {
    let (mut world, all) = World::new(86).founding(&["bea", "cyd"]);
    let group = world.group.unwrap();
    let told = |world: &mut World, event: Event| {
        let is_it = |one: &&Event| **one == event;
        world.devices[&all[2]].events.iter().filter(is_it).count()
    };
    for round in 1..=2 {
        world.change(&all[0], GroupIntention::Remove("cyd")).unwrap();
        world.settle();
        assert_eq!(told(&mut world, Event::GroupLeft { group }), round);
        world.change(&all[0], GroupIntention::Add("cyd")).unwrap();
        world.settle();
        let invited = Event::GroupInvited { group, by: all[0].clone() };
        assert_eq!(told(&mut world, invited), round + 1);
    }
}

/// Somebody is removed and added again, and there is no session by which anybody hears of the first
/// without the second.
fn remove_and_add(world: &mut World, by: &Address, user: &str, all: &[Address]) {
    for device in all.iter().filter(|device| *device != by) {
        world.client(by).reset(device).unwrap();
    }
    world.change(by, GroupIntention::Remove(user)).unwrap();
    world.change(by, GroupIntention::Add(user)).unwrap();
}

#[test]
fn what_waits_when_new_chains_begin_opens_all_the_same() {
    let (mut world, all) = World::with_group(82, &["bea"]);
    for by in &all {
        world.write(by).unwrap();
        world.settle();
    }
    // Nothing leaves, and nobody keeps the label keys of so many chains.
    let group = world.group.unwrap();
    for _ in 0..6 {
        world.write(&all[0]).unwrap();
        world.client(&all[0]).refresh_group(group).unwrap();
    }
    world.write(&all[0]).unwrap();
    world.connect(&all[0], 0);
    let mail = world.post.take(&all[1]);
    let (now, keys) = (world.now, &mut world.keys);
    let bea = &mut world.devices.get_mut(&all[1]).unwrap().client;
    let received: Vec<Received> = mail
        .iter()
        .map(|mail| bea.receive(mail.named(), &mail.envelope, now, keys).unwrap())
        .collect();
    let is_text = |received: &&Received| matches!(received, Received::Incoming(_));
    assert_eq!(received.iter().filter(is_text).count(), 7, "{received:?}");
    let is_in_vain = |received: &Received| matches!(received, Received::AskedAgain(_));
    assert!(!received.iter().any(is_in_vain), "{received:?}");
}

#[test]
fn nothing_that_a_removed_member_holds_opens_what_is_written_afterwards() {
    let (mut world, all) = World::with_group(3, &["bea", "cyd"]);
    remove_unawares(&mut world, &all);
    // The server gives him everything.
    let before = world.post.past.len();
    for by in &all[..2] {
        world.write(by).unwrap();
        world.connect(by, 0);
    }
    let stolen: Vec<Mail> = world.post.past[before..].to_vec();
    let groups = stolen.iter().filter(|mail| mail.envelope.starts_with(&[1, 2])).count();
    assert_eq!(groups, 2);
    let (now, keys) = (world.now, &mut world.keys);
    let cyd = world.devices.get_mut(&all[2]).unwrap();
    for mail in &stolen {
        receive(cyd, mail, now, keys);
    }
    world.settle();
    world.check_nobody_else();
    assert_eq!(world.check_all(&|of| of.user != "cyd"), 4);
    // What cyd, who has heard of it by now, would write leaves nowhere.
    assert_eq!(world.write(&all[2]), Err(Error::UnknownGroup));
}

#[test]
fn what_a_removed_member_writes_is_shown_apart_and_not_for_long() {
    let (mut world, all) = World::with_group(4, &["bea", "cyd"]);
    world.write(&all[2]).unwrap();
    world.settle();
    world.devices.get_mut(&all[2]).unwrap().on = false;
    world.change(&all[0], GroupIntention::Remove("cyd")).unwrap();
    for _ in 0..3 {
        world.connect_all(0);
    }
    // He has not heard of it, and writes on.
    let late = world.write(&all[2]).unwrap();
    world.devices.get_mut(&all[2]).unwrap().on = true;
    world.connect(&all[2], 0);
    world.connect_all(0);
    assert!(world.devices[&all[0]].late.contains(&late));
    world.devices.get_mut(&all[2]).unwrap().on = false;
    world.now = world.now.after(25 * HOUR);
    world.check_nobody_else();
}

#[test]
fn the_same_holds_under_sealed_delivery_where_nobody_gives_a_chain() {
    let (mut world, all) = removed_unawares(36);
    // He has not heard of it, and writes on: as much as is shown apart, and one more.
    let late: Vec<_> = (0..33).map(|_| world.write(&all[2]).unwrap()).collect();
    world.devices.get_mut(&all[2]).unwrap().on = true;
    world.connect(&all[2], 0);
    world.connect_all(0);
    for reader in &all[..2] {
        let seen = &world.devices[reader].late;
        assert_eq!(late.iter().filter(|id| seen.contains(*id)).count(), 32, "{reader}");
    }
    world.check_nobody_else();
}

#[test]
fn what_a_removed_member_writes_a_day_later_is_not_shown_under_sealed_delivery() {
    let (mut world, all) = removed_unawares(37);
    world.now = world.now.after(25 * HOUR);
    let late = world.write(&all[2]).unwrap();
    world.devices.get_mut(&all[2]).unwrap().on = true;
    world.connect(&all[2], 0);
    world.connect_all(0);
    for reader in &all[..2] {
        assert!(!world.devices[reader].late.contains(&late), "{reader}");
        assert!(!world.devices[reader].shown.contains_key(&late), "{reader}");
    }
}

#[test]
fn a_server_adds_nobody_and_no_member_writes_as_another() {
    let (mut world, all) = World::with_group(5, &["bea"]);
    world.create("eve");
    world.write(&all[0]).unwrap();
    world.write(&all[1]).unwrap();
    world.settle();
    let before = world.post.past.len();
    world.write(&all[0]).unwrap();
    world.connect(&all[0], 0);
    let mail = world.post.past[before..].iter().find(|mail| mail.envelope.starts_with(&[1, 2]));
    let mail = mail.unwrap().clone();
    let (now, keys) = (world.now, &mut world.keys);
    let bea = world.devices.get_mut(&all[1]).unwrap();
    // Every bit is bound: head, reference, label, hint, text; and so is the sender's address.
    for at in 0..mail.envelope.len() {
        let mut forged = mail.clone();
        forged.envelope[at] ^= 0x40;
        let received = bea.client.receive(Some(&forged.from), &forged.envelope, now, keys).unwrap();
        assert!(!matches!(received, Received::Incoming(_)), "byte {at}");
    }
    let other = Address::new("bea", 2);
    let received = bea.client.receive(Some(&other), &mail.envelope, now, keys).unwrap();
    assert!(!matches!(received, Received::Incoming(_)));
    collect(bea);
    world.settle();
    world.check_nobody_else();
    assert_eq!(world.check_all(&|_| true), 3);
    let everybody: Vec<Address> = world.devices.keys().cloned().collect();
    assert_eq!(everybody.len(), 3);
    assert_eq!(world.members(&all[1]), ["ada", "bea"]);
}

#[test]
fn a_wrong_call_is_refused_and_changes_nothing() {
    let (mut world, all) = World::with_group(6, &["bea"]);
    let [ada, bea] = [&all[0], &all[1]];
    world.create("cyd");
    let group = world.group.unwrap();
    let rows = world.client(ada).group(group);
    use GroupIntention::{Add, Demote, Promote, Remove, Set};
    for (by, what, why) in [
        (bea, Remove("ada"), Error::NotPermitted),
        (bea, Set(b"thorns"), Error::NotPermitted),
        (bea, Promote("bea"), Error::NotPermitted),
        (ada, Add("bea"), Error::NotPermitted),
        (ada, Add("cyd"), Error::DevicesNeeded("cyd".into())),
        (ada, Add(""), Error::BadName),
        (ada, Remove("cyd"), Error::NotPermitted),
        (ada, Demote("dot"), Error::NotPermitted),
        (ada, Set(&[0; Change::MAX_SETTINGS + 1]), Error::Malformed),
    ] {
        assert_eq!(world.change(by, what), Err(why), "{what:?}");
    }
    assert_eq!(world.client(ada).group(group), rows);
    let other = GroupId::from([7; 32]);
    let (now, keys) = (world.now, &mut world.keys);
    let client = &mut world.devices.get_mut(ada).unwrap().client;
    assert_eq!(client.group(other), Err(Error::UnknownGroup));
    assert_eq!(client.join_group(other, now, keys), Err(Error::UnknownGroup));
    assert_eq!(client.decline_group(other, now, keys), Err(Error::UnknownGroup));
    assert_eq!(client.refresh_group(other), Err(Error::UnknownGroup));
    assert_eq!(client.write_to_group(other, b"", now, keys), Err(Error::UnknownGroup));
    let long = vec![0; Client::<Memory>::MAX_TEXT + 1];
    assert_eq!(client.write_to_group(group, &long, now, keys), Err(Error::TooLong));
    let twice = client.create_group(&["bea", "bea"], b"", now, keys);
    assert_eq!(twice, Err(Error::Malformed));
}

/// Cyd, the third of a group whose mail is sealed, is off while Ada removes him.
fn removed_unawares(seed: u64) -> (World, Vec<Address>) {
    let (mut world, all) = World::sealed(seed).founding(&["bea", "cyd"]);
    remove_unawares(&mut world, &all);
    (world, all)
}

/// All have written. Then Ada removes Cyd, who is off and knows nothing of it yet.
fn remove_unawares(world: &mut World, all: &[Address]) {
    for by in all {
        world.write(by).unwrap();
    }
    world.settle();
    world.devices.get_mut(&all[2]).unwrap().on = false;
    world.change(&all[0], GroupIntention::Remove("cyd")).unwrap();
    for _ in 0..3 {
        world.connect_all(0);
    }
}
