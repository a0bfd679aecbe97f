//! A thief of a member's state, who sees every envelope and touches none: how long it reads on.
//!
//! One who took the chains alone reads until their devices renew them. One who took the sessions
//! too is given the new chains, until the sessions have healed: once the member wrote in them.

use std::collections::{BTreeMap, BTreeSet};

use subrosa::store::{Store, Table};
use subrosa::{Address, Client, Error, Item, MessageId, UnixTime};

use crate::network::Seeded;
use crate::post::take;
use crate::world::{Disk, HOUR, Mail, World};

const DAY: u64 = 24 * HOUR;

/// What is stolen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loot {
    Chains,
    Everything,
}

struct Thief {
    loot: Loot,
    since: UnixTime,
    client: Client<Disk>,
    read: BTreeSet<MessageId>,
    keys: Seeded,
}

impl Thief {
    fn new(world: &World, victim: &Address, loot: Loot) -> Self {
        let mut disk = world.devices[victim].disk.copy();
        if loot == Loot::Chains {
            let emptied = disk.transact(|tx| {
                let sessions = tx.scan(Table::Session, &[], usize::MAX)?;
                sessions.iter().try_for_each(|(key, _)| tx.delete(Table::Session, key))
            });
            emptied.unwrap_or_else(|error: Error| panic!("{error}"));
        }
        let client = Client::open(disk).unwrap();
        let keys = Seeded::new(world.seed, "the thief's");
        Self { loot, since: world.now, client, read: BTreeSet::new(), keys }
    }

    fn listen(&mut self, mail: &Mail, now: UnixTime) {
        drop(self.client.receive(mail.named(), &mail.envelope, now, &mut self.keys).unwrap());
        for incoming in take(&mut self.client) {
            if let Item::Group(text) = incoming.item {
                self.read.insert(text.text.message);
            }
        }
    }
}

/// Days after which a thief read nothing more, and texts that it read, of the others.
#[derive(Debug, Default)]
struct Haul {
    days: Vec<f64>,
    texts: Vec<usize>,
}

impl Haul {
    fn most(&self) -> (f64, usize) {
        let days = self.days.iter().copied().fold(0.0, f64::max);
        (days, self.texts.iter().copied().max().unwrap())
    }

    fn report(&self, what: &str) {
        let count = self.days.len();
        let mean = self.days.iter().sum::<f64>() / count as f64;
        let (days, texts) = self.most();
        println!(
            "{what}: {mean:.1} days on average, {days:.1} and {texts} texts at most ({count} thefts)"
        );
    }
}

/// Everybody writes `texts` texts a day, but for the victim if it only reads. A thief of each kind
/// comes on each of the first `thefts` days, and all listen until the last day.
fn rob(seed: u64, texts: usize, is_silent: bool, thefts: u64, days: u64) -> [Haul; 2] {
    let (mut world, all) = World::with_group(seed, &["bea", "cyd"]);
    for by in &all {
        world.write(by).unwrap();
    }
    world.settle();
    let victim = &all[1];
    let mut thieves: Vec<Thief> = Vec::new();
    let mut written: BTreeMap<MessageId, UnixTime> = BTreeMap::new();
    for day in 0..days {
        if day < thefts {
            let loot = [Loot::Chains, Loot::Everything];
            thieves.extend(loot.map(|loot| Thief::new(&world, victim, loot)));
        }
        for _ in 0..texts {
            world.now = world.now.after(DAY / texts as u64);
            for by in all.iter().filter(|by| *by != victim || !is_silent) {
                let id = world.write(by).unwrap();
                if by != victim {
                    written.insert(id, world.now);
                }
            }
            world.connect_all(0);
            world.connect_all(0);
        }
        let heard: Vec<Mail> = std::mem::take(&mut world.post.past);
        for mail in heard.iter().filter(|mail| mail.to == *victim) {
            thieves.iter_mut().for_each(|thief| thief.listen(mail, world.now));
        }
    }
    let haul = |loot: Loot| {
        let mut haul = Haul::default();
        for thief in thieves.iter().filter(|thief| thief.loot == loot) {
            let read = thief.read.iter().filter_map(|id| written.get(id));
            let read: Vec<UnixTime> = read.filter(|at| **at > thief.since).copied().collect();
            let last = read.iter().max().map_or(0, |at| at.since(thief.since));
            haul.days.push(last as f64 / DAY as f64);
            haul.texts.push(read.len());
        }
        haul
    };
    // The measure of the measure: the victim shows everything.
    let shown = &world.devices[victim].shown;
    assert!(written.keys().all(|id| shown.contains_key(id)));
    [haul(Loot::Chains), haul(Loot::Everything)]
}

#[test]
fn a_thief_of_chains_reads_until_they_are_renewed_and_one_of_sessions_until_they_heal() {
    for (what, texts, is_silent, thefts, days) in [
        ("chatty, 4 texts a day", 4, false, 10, 32),
        ("silent, 4 texts a day", 4, true, 10, 32),
        ("chatty, 34 texts a day", 34, false, 4, 14),
        ("silent, 34 texts a day", 34, true, 4, 22),
    ] {
        let [chains, everything] = rob(70, texts, is_silent, thefts, days);
        chains.report(&format!("{what}, chains stolen"));
        everything.report(&format!("{what}, everything stolen"));
        // A chain is renewed after 7 days or 100 texts, of each of two senders.
        let (most, read) = chains.most();
        assert!(most <= 7.5 && read <= 202, "{what}: {chains:?}");
        assert!(chains.texts.iter().all(|texts| *texts > 0), "it is a thief: {chains:?}");
        // One more renewal is read: the answer to it brings a key that the thief never had.
        let (most, _) = everything.most();
        assert!(most <= 14.5, "{what}: {everything:?}");
        assert!(everything.texts.iter().sum::<usize>() > chains.texts.iter().sum(), "{what}");
    }
}
