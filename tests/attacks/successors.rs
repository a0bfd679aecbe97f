//! Somebody who says that a group takes the place of another one.

use subrosa::group::{Change, GroupId, GroupRole, Op, Roster};
use subrosa::{Event, FounderRole, GroupIntention, GroupStanding, Received};

use crate::liar::{Liar, Saying};
use crate::world::{App, World, events};

fn say(roster: &Roster) -> Saying {
    let mut body = roster.group().as_bytes().to_vec();
    for change in roster.changes() {
        body.extend_from_slice(&(change.encode().len() as u32).to_be_bytes());
        body.extend_from_slice(change.encode());
    }
    Saying::raw(13, &body)
}

fn ada_of(ada: &mut App) -> Op {
    let account = ada.trust("ada").unwrap().unwrap().account;
    Op::Add { user: "ada".into(), account, role: GroupRole::Admin }
}

#[test]
fn whoever_founds_a_successor_is_shown_for_what_it_was_and_nothing_is_joined() {
    let mut world = World::new("successors");
    let (mut ada, disk) = world.app("ada");
    let mut mallory = Liar::new(&mut world, "mallory");
    let talk = mallory.befriend(&mut world, &mut ada);
    let (now, rng) = (world.now, &mut world.rng);
    let with = ada.create_group(&["mallory"], b"roses", now, rng).unwrap();
    let without = ada.create_group(&[], b"lilies", now, rng).unwrap();
    let left = ada.create_group(&["mallory"], b"irises", now, rng).unwrap();
    ada.change_group(left, &[GroupIntention::Remove("mallory")], now, rng).unwrap();
    world.settle(&mut ada);
    let before = [with, without, left].map(|group| ada.group(group).unwrap());
    let own = ada_of(&mut ada);
    for (of, was) in [
        (with, FounderRole::Member),
        (without, FounderRole::Stranger),
        (left, FounderRole::Former),
        (GroupId::from([7; 32]), FounderRole::Unknown),
    ] {
        let ops = [own.clone(), Op::Continues(of)];
        let roster =
            Roster::found("mallory", &ops, &mallory.account, &mut subrosa::SystemRng).unwrap();
        let group = roster.group();
        assert_eq!(mallory.tell(&mut world, &mut ada, talk, &say(&roster)), Received::Handled);
        let told = events(&mut ada);
        let founder = String::from("mallory");
        assert!(told.contains(&Event::GroupContinued { group, of, founder, was }), "{told:?}");
        let info = ada.group(group).unwrap();
        assert_eq!(info.standing, GroupStanding::Invited);
        assert_eq!(info.continues.map(|one| (one.group, one.was)), Some((of, was)));
    }
    // The groups themselves are what they were.
    assert_eq!([with, without, left].map(|group| ada.group(group).unwrap()), before);
    // No other change than the first says so.
    let roster =
        Roster::found("mallory", &[own], &mallory.account, &mut subrosa::SystemRng).unwrap();
    let (first, by) = (roster.changes().next().unwrap(), roster.members()[0].id);
    let mut later = roster.sign(by, &[], &mallory.account).unwrap().encode().to_vec();
    let at = later.len() - 65;
    later[at] = 1;
    later.splice(at + 1..at + 1, [&[5][..], with.as_bytes()].concat());
    assert!(Change::decode(&later).is_err());
    let size = disk.size();
    let length = (later.len() as u32).to_be_bytes();
    let body = [roster.group().as_bytes(), &length[..], &later].concat();
    assert_eq!(
        mallory.tell(&mut world, &mut ada, talk, &Saying::raw(13, &body)),
        Received::Handled
    );
    assert_eq!(ada.group(roster.group()), Err(subrosa::Error::UnknownGroup), "{first:?}");
    assert!(disk.size().0 < size.0 + 8, "{size:?}");
}

#[test]
fn successors_are_invitations_and_bounded_as_these() {
    let mut world = World::new("many successors");
    let (mut ada, _) = world.app("ada");
    let mut mallory = Liar::new(&mut world, "mallory");
    let talk = mallory.befriend(&mut world, &mut ada);
    let group = ada.create_group(&[], b"roses", world.now, &mut world.rng).unwrap();
    let own = ada_of(&mut ada);
    for at in 0..100_u8 {
        let ops = [own.clone(), Op::Continues(group), Op::Settings(vec![at])];
        let roster =
            Roster::found("mallory", &ops, &mallory.account, &mut subrosa::SystemRng).unwrap();
        let _told = mallory.tell(&mut world, &mut ada, talk, &say(&roster));
    }
    let told = events(&mut ada);
    let continued = told.iter().filter(|event| matches!(event, Event::GroupContinued { .. }));
    assert_eq!(continued.count(), 32);
}
