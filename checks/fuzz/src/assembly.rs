//! Four clients of three users in one group and a hostile transport, all of whose doings are the
//! fuzzer's choice.

use std::collections::{BTreeMap, BTreeSet};

use subrosa::group::{GroupId, MemberId};
use subrosa::store::Memory;
use subrosa::{
    Address, Client, Error, GroupInfo, GroupIntention, GroupStanding, Item, MessageId, NewDevice,
    Role,
};

use crate::household::{BEGIN, copy, create, open, settle};
use crate::input::Input;
use crate::network::Seeded;
use crate::post::Post;
use crate::transport::{MOST_STEPS, Transport};

/// Alice, who founded the group; two devices of Bob; and Carol, who comes and goes.
const COUNT: usize = 4;
const ALICE: usize = 0;
const CAROL: usize = 3;

/// Three hours each: a chain is answered within a day.
const MOST_QUIET: usize = 8;

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
    all: Transport,
    group: GroupId,
    written: Vec<Written>,
    shown: Vec<BTreeSet<MessageId>>,
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
        let all = Transport::new(clients, post, "assembly");
        Self { all, group, written: Vec::new(), shown: vec![BTreeSet::new(); COUNT] }
    }

    fn step(&mut self, choice: u8, input: &mut Input<'_>) {
        let at = usize::from(choice / 16) % COUNT;
        match choice % 16 {
            0..3 => self.write(at),
            3..6 => self.all.deliver(at, 0),
            6 => self.all.deliver(at, input.below(64)),
            7 => self.all.repeat(Some(at), input),
            8 => self.all.forge(at, input),
            9 => self.all.settle(at),
            10 => self.show(at),
            11 => self.all.pass(input.small()),
            12 => self.all.restart(at),
            13 => self.all.break_sessions(at, input.small()),
            _ => self.change(at, input.small()),
        }
    }

    fn write(&mut self, at: usize) {
        let Transport { clients, rng, now, .. } = &mut self.all;
        let id = match clients[at].write_to_group(self.group, "to all", *now, rng) {
            Ok(id) => id,
            // It is out, or suspended.
            Err(Error::UnknownGroup | Error::NotPermitted) => return,
            Err(error) => panic!("{error}"),
        };
        let mut to = BTreeSet::new();
        for member in self.info(at).members.iter().filter(|member| !member.suspended) {
            let list = self.all.clients[at].devices(&member.user).expect("the store is sound");
            let listed = list.expect("it is known").devices().to_vec();
            to.extend(listed.iter().map(|one| Address::new(&member.user, one.device)));
        }
        self.written.push(Written { by: at, id, to });
        self.all.settle(at);
    }

    /// Somebody does something to the group, who may not be allowed to.
    fn change(&mut self, at: usize, what: usize) {
        let Transport { clients, rng, now, .. } = &mut self.all;
        let (group, client) = (self.group, &mut clients[at]);
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
                drop(client.join_group(group, *now, rng));
                self.all.settle(at);
                return;
            }
        };
        drop(client.change_group(group, &[intention], *now, rng));
        self.all.settle(at);
    }

    /// The app takes what is in the inbox.
    fn show(&mut self, at: usize) {
        let device = self.all.address(at);
        for id in shown(&mut self.all.clients[at]) {
            let written = self.written.iter().find(|written| written.id == id);
            let is_for_it = written.is_some_and(|written| written.to.contains(&device));
            assert!(is_for_it, "{device} shows {id}, which is not for it");
            assert!(self.shown[at].insert(id), "{device} shows {id} twice");
        }
    }

    fn end(mut self) {
        // After a while every allowance is whole.
        self.all.now = self.all.now.after(20_000);
        self.all.calm(MOST_QUIET);
        // Who lacks a change learns so from a new chain.
        for at in 0..COUNT {
            if self.all.clients[at].refresh_group(self.group).is_ok() {
                self.write(at);
            }
        }
        self.all.calm(MOST_QUIET);
        (0..COUNT).for_each(|at| self.show(at));
        for Written { by, id, to } in self.written.iter().filter(|written| written.by != CAROL) {
            for at in (0..CAROL).filter(|at| at != by) {
                let device = self.all.address(at);
                let is_shown = !to.contains(&device) || self.shown[at].contains(id);
                assert!(is_shown, "{device} never shows {id} of {}", self.all.address(*by));
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
        self.all.clients[at].group(self.group).expect("it is known")
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
