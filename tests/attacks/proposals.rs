//! A device that was linked without the account key, and proposes what its thief wants; and others
//! who propose what is none of theirs.

use subrosa::group::{GroupId, GroupRole, MemberId};
use subrosa::{Action, Event, GroupInfo, GroupIntention, GroupStanding, Item, Received, Role};

use crate::liar::{Liar, Saying};
use crate::sibling::linked;
use crate::world::{App, Disk, World, inbox};

const DAY: u64 = 24 * 60 * 60;
const LEAVE: &[u8] = &[0];

/// Ada, who is in bea's group, and a laptop of hers that lies.
struct Home {
    world: World,
    ada: App,
    disk: Disk,
    bea: App,
    laptop: Liar,
    talk: usize,
    group: GroupId,
    said: u128,
}

impl Home {
    fn new(name: &str, role: GroupRole) -> Self {
        let mut world = World::new(name);
        let (mut ada, disk) = world.app("ada");
        let (mut bea, _) = world.app("bea");
        world.acquaint(&mut ada, &mut bea);
        let mut laptop = linked(&mut world, &mut ada, &disk, Role::Device);
        let (now, rng) = (world.now, &mut world.rng);
        let group = bea.create_group(&["ada"], b"roses", now, rng).unwrap();
        if role == GroupRole::Admin {
            bea.change_group(group, &[GroupIntention::Promote("ada")], now, rng).unwrap();
        }
        world.rest(&mut [&mut bea, &mut ada]);
        ada.join_group(group, world.now, &mut world.rng).unwrap();
        world.rest(&mut [&mut bea, &mut ada]);
        let talk = laptop.begin(&mut world, &ada.address().clone());
        inbox(&mut ada);
        Self { world, ada, disk, bea, laptop, talk, group, said: 1_000 }
    }

    fn info(&mut self) -> GroupInfo {
        self.ada.group(self.group).unwrap()
    }

    fn member(&mut self, user: &str) -> MemberId {
        self.info().members.iter().find(|member| member.user == user).unwrap().id
    }

    /// `group:32 || id:16 || made:u64 || member:16 || changes`
    fn saying(&mut self, group: GroupId, age: u64, member: MemberId, changes: &[u8]) -> Saying {
        self.said += 1;
        let made = self.world.now.as_secs() - age;
        let head = [group.as_bytes(), &self.said.to_be_bytes()[..], &made.to_be_bytes()].concat();
        Saying::raw(16, &[&head[..], member.as_bytes(), changes].concat())
    }

    fn propose(&mut self, age: u64, member: MemberId, changes: &[u8]) -> Received {
        let saying = self.saying(self.group, age, member, changes);
        self.laptop.tell(&mut self.world, &mut self.ada, self.talk, &saying)
    }

    /// What the person is asked, and told.
    fn told(&mut self) -> Vec<bool> {
        let items = inbox(&mut self.ada).into_iter();
        let proposals = items.filter_map(|item| match item {
            Item::Event(Event::GroupProposal { made, .. }) => Some(made),
            _ => None,
        });
        proposals.collect()
    }
}

#[test]
fn a_linked_device_that_lies_changes_nothing_without_a_person_but_for_leaving() {
    let mut home = Home::new("a lying laptop", GroupRole::Admin);
    let (adas, before) = (home.member("ada"), home.info());
    let bea = [3, b'b', b'e', b'a'];
    let eve = [3, b'e', b'v', b'e'];
    for changes in [
        [&[1], &eve[..]].concat(),
        [&[2], &bea[..]].concat(),
        [&[3], &eve[..]].concat(),
        [&[4], &bea[..]].concat(),
        [&[5, 0, 1], &b"x"[..]].concat(),
        [&[6], &bea[..]].concat(),
        // An admin's leaving, and leaving beside something else.
        LEAVE.to_vec(),
        [LEAVE, &[5, 0, 1, b'x']].concat(),
    ] {
        assert_eq!(home.propose(0, adas, &changes), Received::Handled, "{changes:?}");
    }
    // Of what ada may not do herself, nobody is asked.
    assert_eq!(home.told(), [false; 5]);
    let mut done = home.world.settle(&mut home.ada);
    // The laptop says that it knows no list.
    done.retain(|action| !matches!(action, Action::Send { to, .. } if *to == home.laptop.address));
    assert!(done.is_empty(), "{done:?}");
    assert_eq!(home.info(), before);
    // Sixteen at once, whatever it says, and one more in an hour.
    let size = home.disk.size();
    for at in 0..200_u8 {
        assert_eq!(home.propose(0, adas, &[5, 0, 1, at]), Received::Handled);
    }
    assert_eq!(home.told().len(), 8);
    assert!(home.disk.size().0 < size.0 + 1_000, "{size:?}");
    home.world.pass(60 * 60);
    for _ in 0..3 {
        let _told = home.propose(0, adas, LEAVE);
    }
    assert_eq!(home.told(), [false]);
    assert_eq!(home.info(), before);
}

#[test]
fn leaving_is_signed_once_and_only_for_the_membership_that_it_was_meant_for() {
    let mut home = Home::new("leaving", GroupRole::Member);
    let (adas, beas) = (home.member("ada"), home.member("bea"));
    // For bea, for nobody, for another time; and from a clock that is far ahead.
    let _told = home.propose(0, beas, LEAVE);
    let _told = home.propose(0, MemberId::from([7; 16]), LEAVE);
    let _told = home.propose(8 * DAY, adas, LEAVE);
    let saying = home.saying(GroupId::from([9; 32]), 0, adas, LEAVE);
    let _told = home.laptop.tell(&mut home.world, &mut home.ada, home.talk, &saying);
    let saying = Saying::raw(
        16,
        &[home.group.as_bytes(), &[0xff; 16][..], &[0xff; 8], &[7; 16], LEAVE].concat(),
    );
    let _told = home.laptop.tell(&mut home.world, &mut home.ada, home.talk, &saying);
    assert_eq!((home.told(), home.info().standing), (vec![], GroupStanding::Joined));
    // The same proposal twice is one.
    let saying = home.saying(home.group, 0, adas, LEAVE);
    for _ in 0..2 {
        let _told = home.laptop.tell(&mut home.world, &mut home.ada, home.talk, &saying);
    }
    assert_eq!((home.told(), home.info().standing), (vec![true], GroupStanding::Out));
    home.world.rest(&mut [&mut home.ada, &mut home.bea]);
    assert_eq!(home.bea.group(home.group).unwrap().members.len(), 1);
    // Added again, she is another member: what is old takes nothing from her.
    let (now, rng) = (home.world.now, &mut home.world.rng);
    home.bea.change_group(home.group, &[GroupIntention::Add("ada")], now, rng).unwrap();
    home.world.rest(&mut [&mut home.ada, &mut home.bea]);
    assert_eq!(home.info().standing, GroupStanding::Invited);
    let _told = home.propose(0, adas, LEAVE);
    assert_eq!((home.told(), home.info().standing), (vec![], GroupStanding::Invited));
}

#[test]
fn nobody_proposes_but_a_device_of_the_account() {
    let mut home = Home::new("proposals of others", GroupRole::Member);
    let adas = home.member("ada");
    let mut mallory = Liar::new(&mut home.world, "mallory");
    let talk = mallory.befriend(&mut home.world, &mut home.ada);
    let saying = home.saying(home.group, 0, adas, LEAVE);
    let received = mallory.tell(&mut home.world, &mut home.ada, talk, &saying);
    assert_eq!(received, Received::Handled);
    // A removed device proposes nothing.
    let (now, rng) = (home.world.now, &mut home.world.rng);
    home.ada.remove_device(home.laptop.address.device, now, rng).unwrap();
    inbox(&mut home.ada);
    let _told = home.propose(0, adas, LEAVE);
    assert_eq!((home.told(), home.info().standing), (vec![], GroupStanding::Joined));
}
