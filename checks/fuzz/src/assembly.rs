//! Four clients of three users in one group and a hostile transport, all of whose doings are the
//! fuzzer's choice.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use subrosa::group::{GroupId, MemberId};
use subrosa::store::{Memory, Store, Table};
use subrosa::{
    Address, Client, Error, GroupInfo, GroupIntention, GroupStanding, Item, MessageId, NewDevice,
    Received, Role, UnixTime,
};

use crate::household::{BEGIN, copy, create, open, settle};
use crate::input::{Input, changed};
use crate::network::Seeded;
use crate::post::{Mail, Post};

/// As in a society of two users.
const MOST_STEPS: usize = 80;
const MOST_FORGED: usize = 16;

/// A chain of a removed member is used for its late texts until then.
const LATEST: UnixTime = BEGIN.after(5 * 24 * 60 * 60);

/// Alice, who founded the group; two devices of Bob; and Carol, who comes and goes.
const COUNT: usize = 4;
const ALICE: usize = 0;
const CAROL: usize = 3;

/// Everybody has talked with everybody, and has joined.
pub(crate) struct Hall {
    stores: [Memory; COUNT],
    pub(crate) post: Post,
    group: GroupId,
}

thread_local! {
    pub(crate) static HALL: Hall = Hall::new();
}

impl Hall {
    fn new() -> Self {
        let rng = &mut Seeded::new(1, "hall");
        let mut post = Post::default();
        let (alice, mut phone, carol) =
            (create("alice", rng), create("bob", rng), create("carol", rng));
        let device = NewDevice::generate(rng);
        let grant = phone.link(&device.code(), Role::Manager, BEGIN, rng).expect("it is linked");
        let laptop = Client::join(Memory::new(), &device, &grant, BEGIN, rng).expect("it joins");
        let mut all = [alice, phone, open(laptop.into_store()), carol];
        let everybody = |all: &mut [Client<Memory>; COUNT], post: &mut Post, rng: &mut Seeded| {
            let [alice, phone, laptop, carol] = all;
            settle(&mut [laptop, phone, carol, alice], post, rng);
            for client in all {
                drop(shown(client));
            }
        };
        everybody(&mut all, &mut post, rng);
        for user in ["bob", "carol"] {
            let list = post.list(user).expect("it was uploaded").encode();
            all[ALICE].update_devices(user, &list, BEGIN, rng).expect("it is signed");
        }
        let group = all[ALICE].create_group(&["bob", "carol"], b"roses", BEGIN, rng);
        let group = group.expect("they are known");
        everybody(&mut all, &mut post, rng);
        for at in [1, CAROL] {
            all[at].join_group(group, BEGIN, rng).expect("it is an invitation");
        }
        everybody(&mut all, &mut post, rng);
        for _ in 0..2 {
            for at in 0..COUNT {
                all[at].write_to_group(group, "hello", BEGIN, rng).expect("it has joined");
                everybody(&mut all, &mut post, rng);
            }
        }
        Self { stores: all.map(Client::into_store), post, group }
    }
}

/// A text, and for whom it is.
struct Written {
    by: usize,
    id: MessageId,
    to: BTreeSet<Address>,
}

struct Assembly {
    clients: Vec<Client<Memory>>,
    post: Post,
    group: GroupId,
    rng: Seeded,
    now: UnixTime,
    forged: usize,
    written: Vec<Written>,
    shown: Vec<BTreeSet<MessageId>>,
    /// Envelopes that were delivered.
    past: Vec<Mail>,
}

/// Each text is shown at most once on each device, and on those alone that were devices of members
/// when it was written. When the transport is calm again, the devices of those who were never
/// removed have shown all that they wrote to each other, and those who are in agree who that is.
pub fn assembly(data: &[u8]) {
    let mut input = Input::new(data);
    let mut assembly = Assembly::new();
    for _ in 0..MOST_STEPS {
        let Some(choice) = input.byte() else { break };
        assembly.step(choice, &mut input);
    }
    assembly.end();
}

impl Assembly {
    fn new() -> Self {
        let (clients, post, group) = HALL.with(|hall| {
            let clients = hall.stores.clone().map(open);
            (clients.into(), copy(&hall.post), hall.group)
        });
        Self {
            clients,
            post,
            group,
            rng: Seeded::new(1, "assembly"),
            now: BEGIN.after(100_000),
            forged: 0,
            written: Vec::new(),
            shown: vec![BTreeSet::new(); COUNT],
            past: Vec::new(),
        }
    }

    fn step(&mut self, choice: u8, input: &mut Input<'_>) {
        let at = usize::from(choice / 16) % COUNT;
        match choice % 16 {
            0..3 => self.write(at),
            3..6 => self.deliver(at, 0),
            6 => self.deliver(at, input.below(64)),
            7 => {
                // Again, though it was acknowledged, and to anybody.
                if !self.past.is_empty() {
                    let mut mail = self.past[input.below(self.past.len())].clone();
                    mail.to = self.clients[at].address().clone();
                    drop(self.arrive(&mail));
                }
            }
            8 => self.forge(at, input),
            9 => self.settle(at),
            10 => self.show(at),
            11 => self.now = self.now.after(60 * input.small() as u64).min(LATEST),
            12 => self.clients[at] = open(self.take(at)),
            13 => self.break_sessions(at, input.small()),
            _ => self.change(at, input.small()),
        }
    }

    /// The store of a device whose process ends.
    fn take(&mut self, at: usize) -> Memory {
        let none = open(HALL.with(|hall| hall.stores[at].clone()));
        core::mem::replace(&mut self.clients[at], none).into_store()
    }

    fn write(&mut self, at: usize) {
        let (group, now, rng) = (self.group, self.now, &mut self.rng);
        let client = &mut self.clients[at];
        let id = match client.write_to_group(group, "to all", now, rng) {
            Ok(id) => id,
            // It is out, or suspended.
            Err(Error::UnknownGroup | Error::NotPermitted) => return,
            Err(error) => panic!("{error}"),
        };
        let mut to = BTreeSet::new();
        for member in self.info(at).members.iter().filter(|member| !member.suspended) {
            let list = self.clients[at].devices(&member.user).expect("the store is sound");
            let listed = list.expect("it is known").devices().to_vec();
            to.extend(listed.iter().map(|one| Address::new(&member.user, one.device)));
        }
        self.written.push(Written { by: at, id, to });
        self.settle(at);
    }

    /// Somebody does something to the group, who may not be allowed to.
    fn change(&mut self, at: usize, what: usize) {
        let (group, now, rng) = (self.group, self.now, &mut self.rng);
        let client = &mut self.clients[at];
        let intention = match what % 8 {
            0 | 1 => GroupIntention::Add("carol"),
            2 => GroupIntention::Remove("carol"),
            3 => GroupIntention::Promote("bob"),
            4 => GroupIntention::Set(b"thorns"),
            5 if at == CAROL => GroupIntention::Leave,
            5 => GroupIntention::Restore("bob"),
            6 => {
                drop(client.refresh_group(group));
                return;
            }
            _ => {
                drop(client.join_group(group, now, rng));
                self.settle(at);
                return;
            }
        };
        drop(client.change_group(group, &[intention], now, rng));
        self.settle(at);
    }

    /// The envelope that has waited so long is delivered, out of turn perhaps.
    fn deliver(&mut self, at: usize, which: usize) {
        let mailbox = self.post.mail.entry(self.clients[at].address().clone()).or_default();
        let which = which % mailbox.len().max(1);
        let Some(mail) = mailbox.remove(which) else { return };
        if self.arrive(&mail) == Received::Refused(Error::RateLimited) {
            self.post.mail.entry(mail.to.clone()).or_default().push_back(mail);
        } else {
            self.past.push(mail);
        }
    }

    fn arrive(&mut self, mail: &Mail) -> Received {
        let at = self.clients.iter().position(|client| *client.address() == mail.to);
        let at = at.expect("it is there");
        let client = &mut self.clients[at];
        let received = client.receive(Some(&mail.from), &mail.envelope, self.now, &mut self.rng);
        self.settle(at);
        received.expect("the store is sound")
    }

    fn forge(&mut self, at: usize, input: &mut Input<'_>) {
        if self.forged >= MOST_FORGED {
            return;
        }
        let mailbox = self.post.mail.entry(self.clients[at].address().clone()).or_default();
        let Some(mail) = mailbox.get(input.below(mailbox.len())).cloned() else { return };
        self.forged += 1;
        let received = self.arrive(&Mail { envelope: changed(&mail.envelope, input), ..mail });
        assert!(!matches!(received, Received::Incoming(_) | Received::Handled), "a forgery opened");
    }

    /// The client's tasks are done.
    fn settle(&mut self, at: usize) {
        self.post.settle(&mut self.clients[at], self.now, &mut self.rng);
    }

    /// The app takes what is in the inbox.
    fn show(&mut self, at: usize) {
        let device = self.clients[at].address().clone();
        for id in shown(&mut self.clients[at]) {
            let written = self.written.iter().find(|written| written.id == id);
            let is_for_it = written.is_some_and(|written| written.to.contains(&device));
            assert!(is_for_it, "{device} shows {id}, which is not for it");
            assert!(self.shown[at].insert(id), "{device} shows {id} twice");
        }
    }

    /// A device loses its sessions, all or one; or writes no more in them.
    fn break_sessions(&mut self, at: usize, how: usize) {
        if how.is_multiple_of(4) {
            for other in 0..COUNT {
                let device = self.clients[other].address().clone();
                self.clients[at].reset(&device).expect("the store is sound");
            }
            return;
        }
        let mut store = self.take(at);
        let lose = store.transact(|tx| {
            let rows = tx.scan(Table::Session, b"", 100)?;
            let lost = rows.iter().skip(if how % 4 == 1 { 0 } else { how / 4 % rows.len().max(1) });
            let most = if how % 4 == 1 { 100 } else { 1 };
            lost.take(most).try_for_each(|(key, _)| tx.delete(Table::Session, key))
        });
        lose.map_err(|error: Error| error).expect("memory does not fail");
        self.clients[at] = open(store);
    }

    /// Everything is delivered, until nobody has anything to say for half a day.
    fn calm(&mut self) {
        let mut quiet = 0;
        for _ in 0..90 {
            self.now = self.now.after(600);
            for at in 0..COUNT {
                self.settle(at);
                let to = self.clients[at].address().clone();
                for _ in 0..self.post.mail.get(&to).map_or(0, VecDeque::len) {
                    self.deliver(at, 0);
                }
                self.settle(at);
            }
            if self.post.mail.values().all(VecDeque::is_empty) {
                if quiet == 8 {
                    return;
                }
                quiet += 1;
                self.now = self.now.after(3 * 60 * 60);
            }
        }
        panic!("they never stop talking");
    }

    fn end(mut self) {
        // After a while every allowance is whole.
        self.now = self.now.after(20_000);
        self.calm();
        // Who lacks a change learns so from a new chain.
        for at in 0..COUNT {
            if self.clients[at].refresh_group(self.group).is_ok() {
                self.write(at);
            }
        }
        self.calm();
        (0..COUNT).for_each(|at| self.show(at));
        for Written { by, id, to } in self.written.iter().filter(|written| written.by != CAROL) {
            for at in (0..CAROL).filter(|at| at != by) {
                let device = self.clients[at].address();
                let is_shown = !to.contains(device) || self.shown[at].contains(id);
                assert!(is_shown, "{device} never shows {id} of {}", self.clients[*by].address());
            }
        }
        let mut rosters = BTreeMap::<_, Vec<usize>>::new();
        for at in 0..COUNT {
            let info = self.info(at);
            if info.standing == GroupStanding::Joined {
                let seen = info.members.iter().map(|member| (member.id, member.suspended));
                let seen: Vec<(MemberId, bool)> = seen.collect();
                rosters.entry((seen, info.settings)).or_default().push(at);
            }
        }
        assert_eq!(rosters.len(), 1, "{:?}", rosters.values());
    }

    fn info(&mut self, at: usize) -> GroupInfo {
        self.clients[at].group(self.group).expect("it is known")
    }
}

/// The app takes the texts to groups that are in the inbox.
fn shown(client: &mut Client<Memory>) -> Vec<MessageId> {
    let mut all = Vec::new();
    for incoming in client.inbox(10_000).expect("the store is sound") {
        client.acknowledge(incoming.id).expect("the store is sound");
        match incoming.item {
            Item::Group(text) => all.push(text.text.message),
            Item::Event(_) => {}
            other => panic!("{}: {other:?}", client.address()),
        }
    }
    all
}
