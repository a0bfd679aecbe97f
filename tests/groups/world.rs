//! Devices of several users in one group, a server, and who is to show what.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use subrosa::directory::Directory;
use subrosa::group::GroupId;
use subrosa::store::{Memory, Store, Table, Transaction};
use subrosa::{
    Action, Address, Answer, Client, Delivery, Error, Event, GroupChange, GroupEvent, GroupInfo,
    GroupIntention, GroupStanding, IdentityKey, Item, MessageId, NewDevice, Policy, Progress, Role,
    Trust, UnixTime,
};

use crate::mallory::LIAR;
use crate::network::{NOW, Seeded};
pub(crate) use crate::post::Mail;
use crate::post::{Post, take};

pub(crate) const HOUR: u64 = 60 * 60;
pub(crate) const USERS: [&str; 5] = ["ada", "bea", "cyd", "dot", "eve"];

/// A store that can be copied while a client has it.
#[derive(Clone, Default)]
pub(crate) struct Disk(Rc<RefCell<Memory>>);

impl Disk {
    pub(crate) fn copy(&self) -> Self {
        Self(Rc::new(RefCell::new(self.0.borrow().clone())))
    }
}

impl Store for Disk {
    fn transact<T, E: From<Error>>(
        &mut self,
        work: impl FnOnce(&mut dyn Transaction) -> Result<T, E>,
    ) -> Result<T, E> {
        self.0.borrow_mut().transact(work)
    }
}

/// A copy of a device, and what it showed when it was made.
pub(crate) struct Backup {
    disk: Disk,
    shown: BTreeMap<MessageId, usize>,
}

pub(crate) struct Device {
    pub(crate) client: Client<Disk>,
    pub(crate) disk: Disk,
    pub(crate) backup: Option<Backup>,
    /// What was written before this one of the world's texts may be lost, or come again: the device
    /// was restored from a copy.
    pub(crate) restored: Option<usize>,
    pub(crate) on: bool,
    /// The texts that it shows, and how often.
    pub(crate) shown: BTreeMap<MessageId, usize>,
    pub(crate) late: BTreeSet<MessageId>,
    /// Whom it shows as the author of a text.
    authors: BTreeMap<MessageId, Address>,
    /// The texts of the member who lies, and how often it shows them.
    pub(crate) lies: BTreeMap<MessageId, usize>,
    /// It was removed from its account; its thief gets all mail.
    pub(crate) gone: bool,
    pub(crate) events: Vec<Event>,
}

/// Who is to show a text.
pub(crate) struct Written {
    pub(crate) by: Address,
    pub(crate) id: MessageId,
    pub(crate) to: BTreeSet<Address>,
    /// Members whose devices its author did not know for certain yet: those that they have once it
    /// does get it.
    pub(crate) absent: BTreeSet<String>,
}

pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) post: Post,
    pub(crate) rng: Seeded,
    pub(crate) keys: Seeded,
    pub(crate) now: UnixTime,
    pub(crate) devices: BTreeMap<Address, Device>,
    pub(crate) written: Vec<Written>,
    /// What the server lost, of each device.
    pub(crate) lost: BTreeSet<(Address, MessageId)>,
    /// Of a thousand envelopes, so many are lost, and so many come later.
    pub(crate) losing: usize,
    pub(crate) delivery: Delivery,
    pub(crate) keeping: usize,
    /// What the server keeps back until the end, of whom and for whom.
    pub(crate) withheld: Option<(Address, Address)>,
    pub(crate) group: Option<GroupId>,
    /// Changes that were made, and of those such as were made on a part of the others.
    pub(crate) made: usize,
    pub(crate) stale: usize,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            post: Post::default(),
            rng: Seeded::new(seed, "groups"),
            keys: Seeded::new(seed, "keys of groups"),
            now: UnixTime::from_secs(NOW).unwrap(),
            devices: BTreeMap::new(),
            written: Vec::new(),
            lost: BTreeSet::new(),
            losing: 0,
            delivery: Delivery::Open,
            keeping: 0,
            withheld: None,
            group: None,
            made: 0,
            stale: 0,
        }
    }

    /// One in which mail is sealed.
    pub(crate) fn sealed(seed: u64) -> Self {
        Self::delivering(seed, Delivery::Sealed)
    }

    pub(crate) fn delivering(seed: u64, delivery: Delivery) -> Self {
        Self { delivery, ..Self::new(seed) }
    }

    fn policy(&self) -> Policy {
        let mut policy = Policy::default();
        policy.delivery = self.delivery;
        policy
    }

    pub(crate) fn keep(&mut self, client: Client<Disk>, disk: Disk) -> Address {
        let client = client.with_policy(self.policy());
        let address = client.address().clone();
        let device = Device {
            client,
            disk,
            backup: None,
            restored: None,
            on: true,
            shown: BTreeMap::new(),
            late: BTreeSet::new(),
            authors: BTreeMap::new(),
            lies: BTreeMap::new(),
            gone: false,
            events: Vec::new(),
        };
        self.devices.insert(address.clone(), device);
        self.connect(&address, 0);
        address
    }

    pub(crate) fn create(&mut self, user: &str) -> Address {
        let disk = Disk::default();
        let client = Client::create(disk.clone(), user, self.now, &mut self.keys).unwrap();
        self.keep(client, disk)
    }

    pub(crate) fn link(&mut self, old: &Address, role: Role) -> Address {
        let device = NewDevice::generate(&mut self.keys);
        let client = &mut self.devices.get_mut(old).unwrap().client;
        let grant = client.link(&device.code(), role, self.now, &mut self.keys).unwrap();
        self.connect(old, 0);
        let disk = Disk::default();
        let new = Client::join(disk.clone(), &device, &grant, self.now, &mut self.keys).unwrap();
        self.keep(new, disk)
    }

    pub(crate) fn client(&mut self, of: &Address) -> &mut Client<Disk> {
        &mut self.devices.get_mut(of).unwrap().client
    }

    /// Keeps a copy of a device.
    pub(crate) fn back_up(&mut self, of: &Address) {
        let device = self.devices.get_mut(of).unwrap();
        let (disk, shown) = (device.disk.copy(), device.shown.clone());
        device.backup = Some(Backup { disk, shown });
    }

    /// Puts the copy in the place of what the device is now. False where there is none.
    pub(crate) fn restore(&mut self, of: &Address) -> bool {
        let policy = self.policy();
        let device = self.devices.get_mut(of).unwrap();
        let Some(Backup { disk, shown }) = device.backup.take() else { return false };
        device.client = Client::open(disk.clone()).unwrap().with_policy(policy);
        (device.disk, device.shown) = (disk, shown);
        device.lies.clear();
        device.restored = Some(self.written.len());
        true
    }

    /// A device is opened anew, under the policy of now.
    pub(crate) fn reopen(&mut self, of: &Address) {
        let policy = self.policy();
        let device = self.devices.get_mut(of).unwrap();
        device.client = Client::open(device.disk.clone()).unwrap().with_policy(policy);
    }

    /// Tells a device the list of a user, as an app does that looks for somebody.
    pub(crate) fn meet(&mut self, of: &Address, user: &str) {
        if of.user == user {
            return;
        }
        let list = self.post.list(user).unwrap().encode();
        let (now, keys) = (self.now, &mut self.keys);
        let client = &mut self.devices.get_mut(of).unwrap().client;
        match client.update_devices(user, &list, now, keys) {
            Ok(()) | Err(Error::StaleDeviceList) => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// The account key that a device takes for a user's.
    pub(crate) fn account(&mut self, of: &Address, user: &str) -> IdentityKey {
        self.client(of).devices(user).unwrap().unwrap().account()
    }

    pub(crate) fn accept(&mut self, of: &Address, user: &str, key: &IdentityKey) {
        let (now, keys) = (self.now, &mut self.keys);
        self.devices.get_mut(of).unwrap().client.accept_new_key(user, key, now, keys).unwrap();
    }

    /// The server makes up a list of a user, and gives it to a device.
    pub(crate) fn make_up_list(&mut self, of: &Address, user: &str) {
        let (now, keys) = (self.now, &mut self.keys);
        let mut other = Client::create(Memory::new(), user, now, keys).unwrap();
        let list = other.devices(user).unwrap().unwrap().encode();
        let client = &mut self.devices.get_mut(of).unwrap().client;
        client.update_devices(user, &list, now, keys).unwrap();
    }

    /// A device does its tasks, of which some of a thousand fail, and fetches its mail, of which as
    /// many come in another order or twice.
    pub(crate) fn connect(&mut self, of: &Address, failing: usize) {
        let policy = self.policy();
        let Self { post, rng, keys, now, devices, lost, losing, keeping, withheld, .. } = self;
        let device = devices.get_mut(of).unwrap();
        if !device.on {
            return;
        }
        for _ in 0..200 {
            let tasks = device.client.tasks(50, *now, keys).unwrap();
            if tasks.is_empty() {
                if failing > 0 {
                    check_asleep(device, *now, &policy);
                }
                break;
            }
            for task in tasks {
                let fails = rng.chance(failing) && !matches!(task.action, Action::FetchSummary);
                let reply = post.serve(of, &task.action, *now);
                let answer = if fails { Answer::Failed } else { reply.answer() };
                drop(device.client.complete(&task.id, answer, *now, keys).unwrap());
            }
        }
        let mut mail = post.take(of);
        for at in 0..mail.len() {
            if rng.chance(failing) {
                let other = rng.below(mail.len());
                mail.swap(at, other);
            }
            if rng.chance(failing) {
                mail.push(mail[at].clone());
            }
        }
        for mail in mail {
            if rng.chance(*losing) {
                lost.extend(mail.message.map(|id| (of.clone(), id)));
            } else if rng.chance(*keeping)
                || withheld.as_ref().is_some_and(|(from, to)| (&mail.from, of) == (from, to))
            {
                post.mail.entry(of.clone()).or_default().push_back(mail);
            } else {
                receive(device, &mail, *now, keys);
            }
        }
        collect(device);
    }

    pub(crate) fn connect_all(&mut self, failing: usize) {
        let all: Vec<Address> = self.devices.keys().cloned().collect();
        for address in all {
            self.connect(&address, failing);
        }
    }

    /// Until nothing is left to say.
    pub(crate) fn settle(&mut self) {
        self.devices.values_mut().for_each(|device| device.on = !device.gone);
        (self.losing, self.keeping, self.withheld) = (0, 0, None);
        for _ in 0..9 {
            self.now = self.now.after(3 * HOUR);
            for _ in 0..4 {
                self.connect_all(0);
            }
        }
    }

    /// The devices that are to show a text that this one writes now.
    pub(crate) fn entitled(&mut self, by: &Address) -> BTreeSet<Address> {
        let group = self.group.unwrap();
        let info = self.client(by).group(group).unwrap();
        let mut to = BTreeSet::new();
        for member in info.members.iter().filter(|member| !member.suspended) {
            if member.trust.is_some() {
                let list = self.client(by).devices(&member.user).unwrap().unwrap();
                let devices = list.devices().iter();
                to.extend(devices.map(|one| Address::new(&member.user, one.device)));
            }
        }
        to.remove(by);
        to
    }

    pub(crate) fn write(&mut self, by: &Address) -> Result<MessageId, Error> {
        let group = self.group.unwrap();
        let (now, keys) = (self.now, &mut self.keys);
        let device = self.devices.get_mut(by).unwrap();
        let id = device.client.write_to_group(group, b"to all", now, keys)?;
        let to = self.entitled(by);
        let info = self.client(by).group(group).unwrap();
        // Of an unvouched user the server's list is to come, which may have other devices; and of
        // one with a new account key those that it has once that is accepted.
        let mut absent = BTreeSet::new();
        for member in info.members {
            let known = self.client(by).trust(&member.user).unwrap();
            let waits = known.is_some_and(|known| known.new_account.is_some());
            if waits || matches!(member.trust, None | Some(Trust::Unvouched)) {
                absent.insert(member.user);
            }
        }
        self.written.push(Written { by: by.clone(), id, to, absent });
        Ok(id)
    }

    /// Changes the group, which does what its preview says.
    pub(crate) fn change(&mut self, by: &Address, what: GroupIntention<'_>) -> Result<(), Error> {
        let group = self.group.unwrap();
        let known = self.changes(by);
        let (now, keys) = (self.now, &mut self.keys);
        let client = &mut self.devices.get_mut(by).unwrap().client;
        let users = |info: &GroupInfo| -> BTreeSet<String> {
            info.members.iter().map(|member| member.user.clone()).collect()
        };
        let (before, preview) = (client.group(group), client.preview_change(group, &[what]));
        if client.change_group(group, &[what], now, keys)? == GroupChange::Made {
            self.stale += usize::from(known <= self.made);
            self.made += 1;
            let before = before?;
            let own = before.members.iter().find(|member| member.user == by.user);
            // Under a former account key somebody leaves for themselves alone.
            if what == GroupIntention::Leave && own.is_none_or(|own| own.trust.is_none()) {
                assert_eq!(client.group(group)?.standing, GroupStanding::Out);
                return Ok(());
            }
            let mut expected = users(&before);
            for event in preview?.changes {
                match event {
                    GroupEvent::Added { user } => drop(expected.insert(user)),
                    GroupEvent::Removed { user } => drop(expected.remove(&user)),
                    _ => {}
                }
            }
            assert_eq!(users(&client.group(group)?), expected, "seed {}: {what:?}", self.seed);
        }
        Ok(())
    }

    /// How many changes of the group a device has.
    pub(crate) fn changes(&self, of: &Address) -> usize {
        let mut disk = self.devices[of].disk.copy();
        let count =
            disk.transact(|tx| Ok::<_, Error>(tx.scan(Table::Group, &[1], usize::MAX)?.len()));
        count.unwrap()
    }

    pub(crate) fn join(&mut self, of: &Address) {
        let group = self.group.unwrap();
        let (now, keys) = (self.now, &mut self.keys);
        self.devices.get_mut(of).unwrap().client.join_group(group, now, keys).unwrap();
    }

    /// What the server has of a user.
    pub(crate) fn directory(&mut self, user: &str) -> &mut Directory {
        self.post.users.entry(user.into()).or_default()
    }

    pub(crate) fn members(&mut self, of: &Address) -> Vec<String> {
        let group = self.group.unwrap();
        let info = self.client(of).group(group).unwrap();
        info.members.into_iter().map(|member| member.user).collect()
    }

    /// A group of `ada` and others, who have joined.
    pub(crate) fn with_group(seed: u64, others: &[&str]) -> (Self, Vec<Address>) {
        Self::new(seed).founding(others)
    }

    /// A group of three in a world that there is, who hold each other's chains: all have written.
    pub(crate) fn talking(self) -> (Self, Vec<Address>) {
        let (mut world, all) = self.founding(&["bea", "cyd"]);
        for by in &all {
            world.write(by).unwrap();
        }
        world.settle();
        (world, all)
    }

    /// As [`World::with_group`], in a world that there is.
    pub(crate) fn founding(self, others: &[&str]) -> (Self, Vec<Address>) {
        let mut world = self;
        let mut all = vec![world.create("ada")];
        for user in others {
            let address = world.create(user);
            world.meet(&all[0].clone(), user);
            all.push(address);
        }
        let (now, keys) = (world.now, &mut world.keys);
        let client = &mut world.devices.get_mut(&all[0]).unwrap().client;
        world.group = Some(client.create_group(others, b"roses", now, keys).unwrap());
        for _ in 0..3 {
            world.connect_all(0);
        }
        for address in &all[1..] {
            world.join(address);
        }
        for _ in 0..3 {
            world.connect_all(0);
        }
        (world, all)
    }

    /// Nobody shows what is not for them, and nobody shows anything twice.
    pub(crate) fn check_nobody_else(&self) {
        for (address, device) in &self.devices {
            for (id, count) in &device.shown {
                assert_eq!(*count, 1, "seed {}: {address} shows {id} twice", self.seed);
                let written = self.written.iter().find(|written| written.id == *id);
                let Written { by, to, absent, .. } = written.unwrap();
                let author = &device.authors[id];
                assert_eq!(author, by, "seed {}: {id} on {address}", self.seed);
                let may = to.contains(address) || absent.contains(&address.user);
                assert!(may, "seed {}: {address} shows {id}", self.seed);
            }
            for (id, count) in &device.lies {
                assert_eq!(*count, 1, "seed {}: {address} shows the lie {id} twice", self.seed);
            }
        }
    }

    /// Everybody shows what is for them, who was in from then on, as its author was.
    pub(crate) fn check_all(&mut self, stayed: &dyn Fn(&Address) -> bool) -> usize {
        self.check_owed(&|_, of| stayed(of))
    }

    /// The same, where it depends on the text who was in.
    pub(crate) fn check_owed(&mut self, stayed: &dyn Fn(usize, &Address) -> bool) -> usize {
        let mut owed = 0;
        for (at, Written { by, id, to, .. }) in self.written.iter().enumerate() {
            let is_known = |of: &Address| self.devices[of].restored.is_none_or(|since| since <= at);
            let is_owed = |of: &&Address| {
                stayed(at, by)
                    && stayed(at, of)
                    && is_known(by)
                    && is_known(of)
                    && !self.lost.contains(&((*of).clone(), *id))
            };
            let honest = to.iter().filter(|of| self.devices.contains_key(*of));
            for address in honest.filter(is_owed) {
                let device = &self.devices[address];
                owed += 1;
                assert!(
                    device.shown.contains_key(id),
                    "seed {}: {address} does not show {id} of {by}",
                    self.seed
                );
            }
        }
        owed
    }

    /// Nothing waits any more, of what devices wrote that are there.
    pub(crate) fn check_progress(&mut self) {
        let all: Vec<(Address, MessageId)> =
            self.written.iter().map(|written| (written.by.clone(), written.id)).collect();
        for (by, id) in all {
            if !self.devices[&by].gone {
                let progress = self.client(&by).progress(id).unwrap();
                let group = self.group.unwrap();
                let known = self.client(&by).group(group);
                // Whoever is in under a former account key waits to be added again, and whoever was
                // added again for a person to join.
                let waits = known.as_ref().is_ok_and(|info| {
                    info.standing == GroupStanding::Invited
                        || info.members.iter().any(|one| one.user == by.user && one.trust.is_none())
                });
                if waits {
                    continue;
                }
                assert_eq!(progress, Progress::Sent, "seed {}: {id} of {by}: {known:?}", self.seed);
            }
        }
    }
}

/// Before the time that `next_due` says there is nothing to do.
fn check_asleep(device: &mut Device, now: UnixTime, policy: &Policy) {
    let next = device.client.next_due(now).unwrap();
    assert!(next > now && next <= now.after(HOUR), "{next}");
    let before = UnixTime::from_secs(next.as_secs() - 1).unwrap();
    let mut keys = Seeded::new(0, "asleep");
    let tasks = device
        .disk
        .copy()
        .transact(|tx| Client::within(tx, policy, |client| client.tasks(50, before, &mut keys)));
    assert_eq!(tasks.unwrap(), [], "{} at {before}, of {now} to {next}", device.client.address());
}

pub(crate) fn receive(device: &mut Device, mail: &Mail, now: UnixTime, keys: &mut Seeded) {
    drop(device.client.receive(mail.named(), &mail.envelope, now, keys).unwrap());
    collect(device);
}

pub(crate) fn collect(device: &mut Device) {
    for incoming in take(&mut device.client) {
        match incoming.item {
            Item::Group(text) if text.text.from.user == LIAR => {
                *device.lies.entry(text.text.message).or_default() += 1;
            }
            Item::Text(text) | Item::Late(text) if text.from.user == LIAR => {}
            Item::Group(text) => {
                device.authors.insert(text.text.message, text.text.from.clone());
                assert_eq!(text.text.text[..], b"to all"[..]);
                *device.shown.entry(text.text.message).or_default() += 1;
                if text.is_late {
                    device.late.insert(text.text.message);
                }
            }
            Item::Event(event) => device.events.push(event),
            other => panic!("{other:?}"),
        }
    }
}
