//! What may happen to a group, by many seeds.

use std::collections::{BTreeMap, BTreeSet};

use subrosa::{Address, GroupIntention, GroupStanding, Role};

use crate::network::Seed;
use crate::world::{HOUR, USERS, World, receive};

/// The first three stay, so that there is something to be owed.
const STAY: [&str; 3] = ["ada", "bea", "cyd"];

/// A world, and who was out of the group for a while.
struct Story {
    world: World,
    left: BTreeSet<String>,
    is_backed_up: bool,
}

impl Story {
    fn new(seed: u64) -> Self {
        let (mut world, _) = World::with_group(seed, &["bea", "cyd"]);
        for user in &USERS[3..] {
            world.create(user);
        }
        // Of four worlds, one loses envelopes, and one knows copies that are restored.
        world.losing = if seed % 4 == 1 { 30 } else { 0 };
        world.keeping = 100;
        Self { world, left: BTreeSet::new(), is_backed_up: seed % 4 == 2 }
    }

    /// Something that a person does at a device.
    fn act(&mut self, by: &Address) {
        let Self { world, left, .. } = self;
        let group = world.group.unwrap();
        let user = USERS[3 + world.rng.below(2)];
        let stays = STAY.contains(&&*by.user);
        match world.rng.below(18) {
            0..=5 => drop(world.write(by)),
            6 => {
                world.meet(by, user);
                if world.change(by, GroupIntention::Add(user)).is_ok() {
                    left.insert(user.into());
                }
            }
            7 => {
                if world.change(by, GroupIntention::Remove(user)).is_ok() {
                    left.insert(user.into());
                }
            }
            8 if world.rng.chance(300) => {
                let of = USERS[world.rng.below(5)];
                if world.change(by, GroupIntention::Restore(of)).is_ok() {
                    left.extend(USERS[3..].iter().map(|user| (*user).to_owned()));
                }
            }
            8 => drop(world.change(by, GroupIntention::Promote(user))),
            9 if !stays && world.change(by, GroupIntention::Leave).is_ok() => {
                left.insert(by.user.clone());
            }
            10 if world.devices.len() < 9 && by.device == 1 => {
                world.link(by, Role::Device);
            }
            11 if by.device > 1 => self.remove_device(by),
            12 => {
                let device = world.devices.get_mut(by).unwrap();
                device.on = !device.on;
            }
            13 => drop(world.client(by).refresh_group(group)),
            // Admins against each other, and against those whom they do not outrank.
            14 if world.rng.chance(300) => {
                let other = USERS[world.rng.below(5)];
                if world.change(by, GroupIntention::Remove(other)).is_ok() {
                    left.insert(other.into());
                }
            }
            14 => drop(world.change(by, GroupIntention::Demote(user))),
            15 if self.is_backed_up => {
                if !world.restore(by) {
                    world.back_up(by);
                }
            }
            16 => drop(world.change(by, GroupIntention::Set(b"thorns"))),
            _ => {
                let (now, keys) = (world.now, &mut world.keys);
                let client = &mut world.devices.get_mut(by).unwrap().client;
                drop(client.join_group(group, now, keys));
            }
        }
    }

    fn remove_device(&mut self, by: &Address) {
        let world = &mut self.world;
        let first = Address::new(&by.user, 1);
        let (now, keys) = (world.now, &mut world.keys);
        let client = &mut world.devices.get_mut(&first).unwrap().client;
        if client.remove_device(by.device, now, keys).is_ok() {
            world.devices.get_mut(by).unwrap().gone = true;
            world.connect(&first, 0);
        }
    }

    /// The server repeats something, to anybody.
    fn repeat(&mut self) {
        let world = &mut self.world;
        if !world.post.past.is_empty() && world.rng.chance(300) {
            let at = world.rng.below(world.post.past.len());
            let mail = world.post.past[at].clone();
            let all: Vec<Address> = world.devices.keys().cloned().collect();
            let to = all[world.rng.below(all.len())].clone();
            let (now, keys) = (world.now, &mut world.keys);
            receive(world.devices.get_mut(&to).unwrap(), &mail, now, keys);
        }
    }

    /// Everybody who is in writes once more, under a new key: who lacks a change learns so.
    fn end(&mut self) {
        let group = self.world.group.unwrap();
        let all: Vec<Address> = self.world.devices.keys().cloned().collect();
        for by in &all {
            if self.world.devices[by].gone {
                continue;
            }
            if self.world.client(by).refresh_group(group).is_ok() {
                drop(self.world.write(by));
            }
            self.world.connect(by, 0);
        }
        self.world.settle();
        // What a device cannot have that never comes back is given up.
        for _ in 0..2 {
            self.world.now = self.world.now.after(20 * 24 * HOUR);
            self.world.settle();
        }
    }

    fn check(&mut self) -> usize {
        let (seed, group) = (self.world.seed, self.world.group.unwrap());
        self.world.check_nobody_else();
        self.world.check_progress();
        // The list that has a device can be lost with a manager that is restored from a copy.
        let world = &self.world;
        let is_gone = |of: &Address| {
            let (device, list) = (&world.devices[of], world.post.list(&of.user));
            let listed = list.and_then(|list| list.get(of.device));
            let key = device.client.identity_key();
            device.gone || listed.is_none_or(|listed| listed.identity != key)
        };
        let gone: BTreeSet<Address> =
            self.world.devices.keys().filter(|of| is_gone(of)).cloned().collect();
        let left = &self.left;
        let stayed = |of: &Address| {
            STAY.contains(&&*of.user) && !left.contains(&of.user) && !gone.contains(of)
        };
        let owed = self.world.check_all(&stayed);
        let all: Vec<Address> = self.world.devices.keys().cloned().collect();
        let mut rosters = BTreeMap::<_, Vec<String>>::new();
        for address in all.iter().filter(|address| !gone.contains(*address)) {
            if let Ok(info) = self.world.client(address).group(group)
                && info.standing == GroupStanding::Joined
            {
                let members = info.members.iter().map(|member| (member.id, member.suspended));
                let seen = (members.collect::<Vec<_>>(), info.settings);
                rosters.entry(seen).or_default().push(address.to_string());
            }
        }
        assert!(rosters.len() <= 1, "seed {seed}: {rosters:?}");
        owed
    }
}

fn run(seed: u64) -> usize {
    let mut story = Story::new(seed);
    for _ in 0..60 {
        let world = &mut story.world;
        world.now = world.now.after(world.rng.below(600) as u64);
        let all: Vec<Address> = world.devices.keys().cloned().collect();
        let by = all[world.rng.below(all.len())].clone();
        if world.devices[&by].gone {
            continue;
        }
        story.act(&by);
        story.repeat();
        if story.world.rng.chance(700) {
            story.world.connect_all(100);
        }
    }
    story.world.settle();
    story.end();
    story.check()
}

#[test]
fn in_every_world_members_show_every_text_once_and_nobody_else_does() {
    let seeds = Seed::chosen_or(1..=16);
    let owed: usize = seeds.iter().map(|seed| run(*seed)).sum();
    println!("{owed} texts owed");
    assert!(seeds.len() < 10 || owed > 100, "{owed}");
}
