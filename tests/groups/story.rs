//! What may happen to a group, by many seeds.

use std::collections::{BTreeMap, BTreeSet};

use subrosa::group::GroupRole;
use subrosa::{
    Address, Client, Delivery, GroupInfo, GroupIntention, GroupStanding, Item, MessageId, Received,
    Role, UnixTime,
};

use crate::mallory::{LIAR, Mallory};
use crate::network::{Seed, Seeded};
use crate::post::take;
use crate::world::{Disk, HOUR, USERS, World, receive};

/// The first three stay, so that there is something to be owed.
const STAY: [&str; 3] = ["ada", "bea", "cyd"];

/// A world, and who is out of the group, or was and may not be in again for all.
struct Story {
    world: World,
    left: BTreeSet<String>,
    /// Who is in again for all, and the number of the first text that they are owed.
    back: BTreeMap<String, usize>,
    /// Account keys that were renewed.
    renewed: usize,
    is_backed_up: bool,
    thieves: Vec<Thief>,
    mallory: Option<Mallory>,
}

/// What a device held when its user was removed.
struct Thief {
    of: Address,
    disk: Disk,
    /// When that was, and how much mail there had been.
    at: UnixTime,
    since: usize,
}

/// Copies that are made of removed devices.
const MOST_THIEVES: usize = 4;

/// How mail is delivered, and whether there is a member who lies.
#[derive(Clone, Copy)]
struct Setting {
    delivery: Delivery,
    has_liar: bool,
}

const OPEN: Setting = Setting { delivery: Delivery::Open, has_liar: false };
const SEALED: Setting = Setting { delivery: Delivery::Sealed, has_liar: false };
/// She does not seal what she writes, and reads nothing that is sealed: openly alone.
const WITH_LIAR: Setting = Setting { delivery: Delivery::Open, has_liar: true };

impl Story {
    fn new(seed: u64, setting: Setting) -> Self {
        let mut world = World::new(seed);
        world.delivery = setting.delivery;
        let (mut world, all) = world.founding(&["bea", "cyd"]);
        for user in &USERS[3..] {
            world.create(user);
        }
        // In every second world there are two admins.
        if seed.is_multiple_of(2) {
            world.change(&all[0], GroupIntention::Promote("bea")).unwrap();
            world.connect_all(0);
        }
        // Something is withheld in every third one.
        let (from, to) = (world.rng.below(3), world.rng.below(3));
        if seed.is_multiple_of(3) && from != to {
            world.withheld = Some((all[from].clone(), all[to].clone()));
        }
        // Of four worlds, one loses envelopes, and one knows copies that are restored.
        world.losing = if seed % 4 == 1 { 30 } else { 0 };
        world.keeping = 100;
        let is_backed_up = seed % 4 == 2;
        // In two of three she is an admin, the most junior one.
        let role = if seed.is_multiple_of(3) { GroupRole::Member } else { GroupRole::Admin };
        let mallory = setting.has_liar.then(|| Mallory::join(&mut world, &all[0], role));
        let (left, back, thieves) = (BTreeSet::new(), BTreeMap::new(), Vec::new());
        Self { world, left, back, renewed: 0, is_backed_up, thieves, mallory }
    }

    /// Removes somebody, who keeps a copy.
    fn remove(&mut self, by: &Address, user: &str) {
        let Self { world, left, thieves, .. } = self;
        if world.change(by, GroupIntention::Remove(user)).is_err() {
            return;
        }
        left.insert(user.into());
        let (at, since) = (world.now, world.post.past.len());
        for (of, device) in world.devices.iter().filter(|(of, _)| of.user == user) {
            if thieves.len() < MOST_THIEVES {
                thieves.push(Thief { of: of.clone(), disk: device.disk.copy(), at, since });
            }
        }
    }

    /// An admin changes who is in, or who is an admin.
    fn administer(&mut self) {
        let by = Address::new(STAY[self.world.rng.below(2)], 1);
        let user = USERS[2 + self.world.rng.below(3)];
        match self.world.rng.below(8) {
            0..=3 => {
                self.world.meet(&by, user);
                drop(self.world.change(&by, GroupIntention::Add(user)));
            }
            4 | 5 if !STAY.contains(&user) => self.remove(&by, user),
            6 => drop(self.world.change(&by, GroupIntention::Promote(user))),
            _ => drop(self.world.change(&by, GroupIntention::Demote(user))),
        }
    }

    /// Something that a person does at a device.
    fn act(&mut self, by: &Address) {
        let Self { world, left, .. } = self;
        let group = world.group.unwrap();
        let user = USERS[3 + world.rng.below(2)];
        let stays = STAY.contains(&&*by.user);
        match world.rng.below(25) {
            21 => self.decide(by),
            24 => {
                let all: Vec<Address> = world.devices.keys().cloned().collect();
                let with = &all[world.rng.below(all.len())];
                drop(world.client(by).reset(with));
            }
            // What a liar says days after her removal may count only for those who heard it in
            // time.
            22 if self.mallory.is_none() && world.rng.chance(600) => self.rest(),
            18..=20 => self.administer(),
            0..=5 => drop(world.write(by)),
            6 => {
                world.meet(by, user);
                if world.change(by, GroupIntention::Add(user)).is_ok() {
                    left.insert(user.into());
                }
            }
            7 => self.remove(by, user),
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
                let role = if world.rng.chance(600) { Role::Manager } else { Role::Device };
                world.link(by, role);
            }
            11 | 23 => self.lose_device(&by.user),
            12 => {
                let device = world.devices.get_mut(by).unwrap();
                device.on = !device.on;
            }
            13 => drop(world.client(by).refresh_group(group)),
            // Admins against each other, and against those whom they do not outrank.
            14 if world.rng.chance(300) => {
                let other = USERS[world.rng.below(5)];
                self.remove(by, other);
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

    /// What does not count of all changes, as the device says that knows most of it.
    fn voided(&mut self) -> usize {
        let world = &mut self.world;
        let group = world.group.unwrap();
        let all: Vec<Address> = world.devices.keys().cloned().collect();
        let known = all.iter().filter_map(|of| world.client(of).group(group).ok());
        known.map(|info| info.voided.len()).max().unwrap_or(0)
    }

    /// The newest device of a user is lost, and the first one removes it. Where it was a manager,
    /// the account gets a new key, and whoever was in under the old one is to be added again.
    fn lose_device(&mut self, user: &str) {
        let world = &mut self.world;
        let mut own = world.devices.iter().filter(|(of, one)| of.user == user && !one.gone);
        let Some((lost, _)) = own.next_back().filter(|(of, _)| of.device > 1) else { return };
        let (lost, first) = (lost.clone(), Address::new(user, 1));
        let (now, keys) = (world.now, &mut world.keys);
        let client = &mut world.devices.get_mut(&first).unwrap().client;
        let list = client.devices(user).unwrap().unwrap();
        let is_manager = list.get(lost.device).is_some_and(|one| one.role == Role::Manager);
        // The group needs an admin whom nobody has to add again, and copies bring old keys back.
        if is_manager && (user == STAY[0] || self.is_backed_up) {
            return;
        }
        if client.remove_device(lost.device, now, keys).is_ok() {
            world.devices.get_mut(&lost).unwrap().gone = true;
            world.connect(&first, 0);
            if is_manager {
                self.renewed += 1;
                self.left.insert(user.into());
            }
        }
    }

    /// A person decides for the right account keys, where they are asked to. The app looks first
    /// which one the server has.
    fn decide(&mut self, by: &Address) {
        let world = &mut self.world;
        for user in USERS {
            let Some(trust) = world.client(by).trust(user).unwrap() else { continue };
            if trust.new_account.is_none() {
                continue;
            }
            world.meet(by, user);
            let trust = world.client(by).trust(user).unwrap().unwrap();
            let right = world.post.list(user).unwrap().account();
            if trust.account == right || trust.new_account == Some(right) {
                world.accept(by, user, &right);
            }
        }
    }

    /// Until nothing is left to say, and nothing to decide.
    fn settle(&mut self) {
        self.world.settle();
        self.decide_all();
        // Whoever has another account key by now is added anew.
        let (group, first) = (self.world.group.unwrap(), Address::new(STAY[0], 1));
        for member in self.world.client(&first).group(group).unwrap().members {
            if member.trust.is_none() {
                drop(self.world.change(&first, GroupIntention::Add(&member.user)));
            }
        }
        self.world.connect_all(0);
    }

    fn decide_all(&mut self) {
        let present = self.world.devices.iter().filter(|(_, device)| !device.gone);
        let present: Vec<Address> = present.map(|(of, _)| of.clone()).collect();
        present.iter().for_each(|of| self.decide(of));
    }

    /// For a while everything comes, and everybody decides. Whoever is in by then for all is owed
    /// what is written from now on.
    fn rest(&mut self) {
        let group = self.world.group.unwrap();
        let weather = (self.world.losing, self.world.keeping, self.world.withheld.take());
        let off: Vec<Address> = self
            .world
            .devices
            .iter()
            .filter(|(_, one)| !one.on)
            .map(|(of, _)| of.clone())
            .collect();
        (0..2).for_each(|_| self.settle());
        for of in self.world.devices.keys().cloned().collect::<Vec<_>>() {
            let (now, keys) = (self.world.now, &mut self.world.keys);
            let device = self.world.devices.get_mut(&of).unwrap();
            if !device.gone && self.left.contains(&of.user) {
                drop(device.client.join_group(group, now, keys));
            }
        }
        self.settle();
        self.note_back();
        (self.world.losing, self.world.keeping, self.world.withheld) = weather;
        off.iter().for_each(|of| self.world.devices.get_mut(of).unwrap().on = false);
    }

    /// Notes who is in for all, in the same group for all.
    fn note_back(&mut self) {
        let Self { world, left, back, .. } = self;
        let group = world.group.unwrap();
        let all: Vec<Address> = world.devices.keys().cloned().collect();
        let present = all.iter().filter(|of| !world.devices[*of].gone).cloned();
        let present: Vec<Address> = present.collect();
        let mut infos = Vec::new();
        for of in &present {
            infos.push((of, world.client(of).group(group).ok()));
        }
        let is_in = |info: &GroupInfo, user: &str| {
            let mut members = info.members.iter();
            members.any(|one| one.user == user && !one.suspended && one.trust.is_some())
        };
        let joined = |user: &str| {
            infos.iter().filter(|(of, _)| of.user == user).all(|(_, info)| {
                info.as_ref().is_some_and(|info| info.standing == GroupStanding::Joined)
            })
        };
        let (next, first) = (world.written.len(), STAY[0]);
        for user in left.clone() {
            let is_known = infos
                .iter()
                .filter(|(of, _)| of.user == first || !left.contains(&of.user) || of.user == user)
                .filter_map(|(_, info)| info.as_ref())
                .filter(|info| info.standing == GroupStanding::Joined)
                .all(|info| is_in(info, &user));
            if is_known && joined(&user) {
                left.remove(&user);
                back.insert(user, next);
            }
        }
    }

    /// A member who lies does something, and somebody removes her at last.
    fn lie(&mut self) {
        let Self { world, mallory: Some(mallory), left, .. } = self else { return };
        for _ in 0..world.rng.below(4) {
            mallory.act(world);
        }
        left.extend(mallory.targets.iter().cloned());
        if world.rng.chance(20) {
            let by = Address::new(STAY[0], 1);
            drop(world.change(&by, GroupIntention::Remove(LIAR)));
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

    /// The server makes something up: it changes an envelope, or says that another device sent it.
    fn forge(&mut self) {
        let world = &mut self.world;
        if world.post.past.is_empty() || !world.rng.chance(150) {
            return;
        }
        let mut mail = world.post.past[world.rng.below(world.post.past.len())].clone();
        if mail.to.user == LIAR {
            return;
        }
        let all: Vec<Address> = world.devices.keys().cloned().collect();
        if world.rng.chance(500) {
            let at = world.rng.below(mail.envelope.len());
            mail.envelope[at] ^= 1 << world.rng.below(8);
        } else {
            let other = &all[world.rng.below(all.len())];
            if *other == mail.from || mail.is_sealed() {
                return;
            }
            mail.from = other.clone();
        }
        let (now, keys) = (world.now, &mut world.keys);
        let device = world.devices.get_mut(&mail.to).unwrap();
        let received = device.client.receive(mail.named(), &mail.envelope, now, keys).unwrap();
        let opened = matches!(received, Received::Incoming(_) | Received::Handled);
        assert!(!opened, "seed {}: {received:?}", world.seed);
        crate::world::collect(device);
    }

    /// What a removed device held opens nothing that was not written for it.
    fn rob(&mut self) {
        let Self { world, thieves, .. } = self;
        for Thief { of, disk, at, since } in thieves {
            let mut client = Client::open(disk.copy()).unwrap();
            let mut keys = Seeded::new(world.seed, "the thief's");
            for mail in world.post.past[*since..].iter().filter(|mail| mail.is_of_group()) {
                drop(client.receive(mail.named(), &mail.envelope, *at, &mut keys).unwrap());
            }
            for item in take(&mut client).into_iter().map(|incoming| incoming.item) {
                let Item::Group(text) = item else { continue };
                if text.text.from.user == LIAR {
                    continue;
                }
                let id: MessageId = text.text.message;
                let written = world.written.iter().find(|written| written.id == id).unwrap();
                let may = written.to.contains(of);
                assert!(may, "seed {}: {id} opens to the removed {of}", world.seed);
            }
        }
    }

    /// Everybody who is in writes twice more, under new keys: who lacks a change learns so, and
    /// what is asked for along with a text, where mail is sealed, is asked for.
    fn end(&mut self) {
        let group = self.world.group.unwrap();
        let all: Vec<Address> = self.world.devices.keys().cloned().collect();
        for _ in 0..2 {
            for by in &all {
                if self.world.devices[by].gone {
                    continue;
                }
                if self.world.client(by).refresh_group(group).is_ok() {
                    drop(self.world.write(by));
                }
                self.world.connect(by, 0);
            }
            self.settle();
        }
        // A device that was restored may know nobody's ticket any more. What it refused comes once
        // the silence is over (docs/sealed.md, 5): after four days and 13 hours at most.
        if self.world.delivery == Delivery::Sealed {
            (0..5).for_each(|_| self.settle());
        }
        // What a device cannot have that never comes back is given up.
        for _ in 0..2 {
            self.world.now = self.world.now.after(20 * 24 * HOUR);
            self.settle();
        }
    }

    fn check(&mut self) -> usize {
        let (seed, group) = (self.world.seed, self.world.group.unwrap());
        self.world.check_nobody_else();
        self.world.check_progress();
        self.rob();
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
        let (left, back) = (&self.left, &self.back);
        let stayed = |at: usize, of: &Address| {
            let since = if STAY.contains(&&*of.user) { Some(0) } else { None };
            let since = back.get(&of.user).copied().or(since);
            since.is_some_and(|since| since <= at) && !left.contains(&of.user) && !gone.contains(of)
        };
        let owed = self.world.check_owed(&stayed);
        let all: Vec<Address> = self.world.devices.keys().cloned().collect();
        let mut rosters = BTreeMap::<_, Vec<String>>::new();
        for address in all.iter().filter(|address| !gone.contains(*address)) {
            // Nobody tells a suspended member of what comes later, or one under a former key.
            let is_suspended = |info: &GroupInfo| {
                let mut own = info.members.iter().filter(|one| one.user == address.user);
                own.any(|one| one.suspended || one.trust.is_none())
            };
            if let Ok(info) = self.world.client(address).group(group)
                && info.standing == GroupStanding::Joined
                && !is_suspended(&info)
            {
                let members = info.members.into_iter();
                let members = members.map(|one| (one.id, one.user, one.suspended));
                let seen = (members.collect::<Vec<_>>(), info.settings);
                rosters.entry(seen).or_default().push(address.to_string());
            }
        }
        assert!(rosters.len() <= 1, "seed {seed}: {rosters:?}");
        owed
    }
}

fn run(seed: u64, setting: Setting) -> Tally {
    let mut story = Story::new(seed, setting);
    for _ in 0..60 {
        let world = &mut story.world;
        world.now = world.now.after(world.rng.below(600) as u64);
        let all: Vec<Address> = world.devices.keys().cloned().collect();
        let by = all[world.rng.below(all.len())].clone();
        if world.devices[&by].gone {
            continue;
        }
        story.act(&by);
        story.lie();
        story.repeat();
        story.forge();
        if story.world.rng.chance(700) {
            story.world.connect_all(100);
        }
    }
    story.settle();
    story.end();
    let owed = story.check();
    let (made, stale) = (story.world.made, story.world.stale);
    let lies = story.world.devices.values().map(|device| device.lies.len()).sum();
    let (renewed, back) = (story.renewed, story.back.len());
    let (voided, removed) = (story.voided(), story.thieves.len());
    Tally { owed, made, stale, voided, removed, renewed, back, lies }
}

/// What happened in a world.
#[derive(Debug, Default)]
struct Tally {
    owed: usize,
    /// Changes; those that were made on a part of the others; and what does not count of them.
    made: usize,
    stale: usize,
    voided: usize,
    /// Devices that were removed with their users, and copied.
    removed: usize,
    /// Account keys that were renewed, and users who were out or under such a key and are in again.
    renewed: usize,
    back: usize,
    /// Texts of the member who lies that are shown.
    lies: usize,
}

fn run_all(setting: Setting, worlds: u64) {
    let seeds = Seed::chosen_or(1..=worlds);
    let mut sum = Tally::default();
    for seed in &seeds {
        let Tally { owed, made, stale, voided, removed, renewed, back, lies } = run(*seed, setting);
        sum.owed += owed;
        sum.made += made;
        sum.stale += stale;
        sum.voided += voided;
        sum.removed += removed;
        sum.renewed += renewed;
        sum.back += back;
        sum.lies += lies;
    }
    println!("{sum:?}");
    if let count @ 4.. = seeds.len() {
        assert!(sum.owed > 6 * count && sum.made > 2 * count && sum.removed > 0, "{sum:?}");
        assert!(count < 12 || sum.renewed > 0 && sum.back > 0, "{sum:?}");
        assert!(!setting.has_liar || sum.lies > 2 * count, "{sum:?}");
    }
}

#[test]
fn in_every_world_members_show_every_text_once_and_nobody_else_does() {
    run_all(OPEN, 16);
}

#[test]
fn the_same_holds_in_every_world_whose_mail_is_sealed() {
    run_all(SEALED, 5);
}

#[test]
fn the_same_holds_in_every_world_with_a_member_who_lies() {
    run_all(WITH_LIAR, 6);
}
