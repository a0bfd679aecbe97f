//! Calls of clients: signals through the server, keys, and frames that an SFU carries.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a panic is how a test fails"
)]

#[path = "support/network.rs"]
mod network;
#[path = "support/post.rs"]
mod post;

use network::Seeded;
use post::{Post, take};
use subrosa::store::Memory;
use subrosa::{
    Action, Address, CallId, Client, Error, NewDevice, Policy, Received, Role, Signal, SignalKind,
    UnixTime,
};

const CALL: CallId = CallId::new([7; 16]);

fn start() -> UnixTime {
    UnixTime::from_secs(1_800_000_000).unwrap()
}

/// Clients and their server.
struct World {
    post: Post,
    clients: Vec<Client<Memory>>,
    now: UnixTime,
    rng: Seeded,
}

impl World {
    fn new(users: &[&str]) -> Self {
        let (mut rng, now) = (Seeded::new(1, "calls"), start());
        let mut create =
            |user: &&str| small(Client::create(Memory::new(), user, now, &mut rng).unwrap());
        let clients = users.iter().map(&mut create).collect();
        let mut world = Self { post: Post::default(), clients, now, rng };
        world.settle();
        world
    }

    /// Everybody has written to everybody.
    fn acquainted(users: &[&str]) -> Self {
        let mut world = Self::new(users);
        for (at, client) in world.clients.iter_mut().enumerate() {
            for (_, other) in users.iter().enumerate().filter(|(other, _)| *other != at) {
                client.write(other, b"hello", world.now, &mut world.rng).unwrap();
            }
        }
        world.settle();
        world.clients.iter_mut().for_each(|client| drop(take(client)));
        world
    }

    fn link(&mut self, at: usize) -> usize {
        let device = NewDevice::generate(&mut self.rng);
        let code = device.code();
        let grant = self.clients[at].link(&code, Role::Device, self.now, &mut self.rng).unwrap();
        let joined = Client::join(Memory::new(), &device, &grant, self.now, &mut self.rng).unwrap();
        self.clients.push(small(joined));
        self.settle();
        self.clients.len() - 1
    }

    fn settle(&mut self) -> Vec<Received> {
        let mut all = Vec::new();
        loop {
            for client in &mut self.clients {
                self.post.settle(client, self.now, &mut self.rng);
            }
            let before = all.len();
            for client in &mut self.clients {
                all.extend(self.post.fetch(client, self.now, &mut self.rng));
            }
            if all.len() == before {
                return all;
            }
        }
    }

    fn address(&self, at: usize) -> Address {
        self.clients[at].address().clone()
    }

    fn signal(&mut self, from: usize, to: usize, kind: SignalKind) -> Vec<Address> {
        let to = self.address(to);
        let signal = Signal::new(CALL, kind, b"sdp").unwrap();
        self.clients[from].signal(&[to], &signal, self.now, &mut self.rng).unwrap()
    }

    fn signals(&mut self, at: usize) -> Vec<subrosa::ReceivedSignal> {
        self.clients[at].take_signals(1_000, self.now).unwrap()
    }
}

fn small(client: Client<Memory>) -> Client<Memory> {
    let mut policy = Policy::default();
    (policy.prekeys_low, policy.prekeys_target) = (4, 8);
    client.with_policy(policy)
}

fn rows(client: &mut Client<Memory>) -> usize {
    use subrosa::store::{Store, Table};
    let mut store = std::mem::replace(
        client,
        small(Client::create(Memory::new(), "x", start(), &mut Seeded::new(9, "x")).unwrap()),
    )
    .into_store();
    let tables = [Table::Inbox, Table::Outbox, Table::Draft, Table::Log, Table::Task];
    let count = store
        .transact(|tx| {
            tables.iter().try_fold(0, |sum, table| {
                Ok::<_, Error>(sum + tx.scan(*table, b"", usize::MAX)?.len())
            })
        })
        .unwrap();
    *client = small(Client::open(store).unwrap());
    count
}

#[test]
fn a_signal_comes_once_and_leaves_nothing_behind() {
    let mut world = World::acquainted(&["alice", "bob"]);
    let laptop = world.link(1);
    world.clients[0].write("bob", b"have you another device?", world.now, &mut world.rng).unwrap();
    world.settle();
    let texts = world.clients.iter_mut().map(|client| take(client).len()).sum::<usize>();
    assert!(texts > 0, "events of the device that was added");
    let before: Vec<usize> = (0..3).map(|at| rows(&mut world.clients[at])).collect();
    world.settle();
    assert!(world.signal(0, 1, SignalKind::Offer).is_empty());
    let mail_before = world.post.past.len();
    let received = world.settle();
    assert_eq!(received, [Received::Signal]);
    assert_eq!(world.post.past.len(), mail_before + 1, "one envelope, and no copies");
    let signals = world.signals(1);
    assert_eq!(
        (signals.len(), signals[0].kind(), signals[0].body()),
        (1, SignalKind::Offer, &b"sdp"[..])
    );
    assert_eq!((signals[0].from(), signals[0].call()), (&world.address(0), CALL));
    assert_eq!(signals[0].expires(), world.now.after(60));
    assert!(world.signals(1).is_empty() && world.signals(laptop).is_empty());
    assert!(world.clients.iter_mut().all(|client| take(client).is_empty()));
    // A repetition by the server is nothing.
    let again = world.post.past.last().unwrap().clone();
    let (now, rng) = (world.now, &mut world.rng);
    let received = world.clients[1].receive(Some(&again.from), &again.envelope, now, rng).unwrap();
    assert_eq!(received, Received::Duplicate);
    world.now = world.now.after(200);
    world.settle();
    let after: Vec<usize> = (0..3).map(|at| rows(&mut world.clients[at])).collect();
    assert_eq!(after, before);
}

#[test]
fn a_signal_goes_before_everything_else() {
    let mut world = World::acquainted(&["alice", "bob"]);
    for _ in 0..5 {
        world.clients[0].write("bob", b"a text", world.now, &mut world.rng).unwrap();
    }
    world.now = world.now.after(1);
    for kind in [SignalKind::Offer, SignalKind::Candidates, SignalKind::Hangup] {
        assert!(world.signal(0, 1, kind).is_empty());
    }
    let tasks = world.clients[0].tasks(100, world.now, &mut world.rng).unwrap();
    let messages: Vec<bool> = tasks
        .iter()
        .filter_map(|task| match &task.action {
            Action::Send { message, .. } => Some(message.is_some()),
            _ => None,
        })
        .collect();
    assert_eq!(messages, [false, false, false, true, true, true, true, true]);
    for task in tasks {
        world.post.perform(&mut world.clients[0], &task, world.now, &mut world.rng).unwrap();
    }
    world.settle();
    let kinds: Vec<SignalKind> = world.signals(1).iter().map(|signal| signal.kind()).collect();
    assert_eq!(kinds, [SignalKind::Offer, SignalKind::Candidates, SignalKind::Hangup]);
}

#[test]
fn a_signal_waits_for_a_session_and_no_longer_than_it_is_worth_something() {
    for (wait, arrives) in [(59, true), (61, false)] {
        let mut world = World::new(&["alice", "bob"]);
        let list = world.post.list("bob").unwrap().encode();
        let (now, rng) = (world.now, &mut world.rng);
        world.clients[0].update_devices("bob", &list, now, rng).unwrap();
        assert!(world.signal(0, 1, SignalKind::Candidates).is_empty());
        world.now = world.now.after(wait);
        let received = world.settle();
        assert_eq!(received.contains(&Received::Signal), arrives, "{received:?}");
        assert_eq!(world.signals(1).len(), usize::from(arrives));
    }
    // Several of one second wait in their order.
    let mut world = World::new(&["alice", "bob"]);
    let list = world.post.list("bob").unwrap().encode();
    let (now, rng) = (world.now, &mut world.rng);
    world.clients[0].update_devices("bob", &list, now, rng).unwrap();
    let kinds = [SignalKind::Answer, SignalKind::Candidates, SignalKind::Hangup, SignalKind::Busy];
    for kind in kinds {
        assert!(world.signal(0, 1, kind).is_empty());
    }
    world.settle();
    assert!(world.signals(1).iter().map(|signal| signal.kind()).eq(kinds));
    // In the outbox, and with the server, it is the same.
    for (kept, late, arrives) in [(61, 0, false), (0, 119, true), (0, 121, false)] {
        let mut world = World::acquainted(&["alice", "bob"]);
        assert!(world.signal(0, 1, SignalKind::Offer).is_empty());
        world.now = world.now.after(kept);
        world.post.settle(&mut world.clients[0], world.now, &mut world.rng);
        world.now = world.now.after(late);
        world.settle();
        assert_eq!(world.signals(1).len(), usize::from(arrives), "{kept} and {late}");
        assert!(take(&mut world.clients[1]).is_empty());
    }
    // It came in time, and the app looked too late.
    let mut world = World::acquainted(&["alice", "bob"]);
    assert!(world.signal(0, 1, SignalKind::Offer).is_empty());
    world.settle();
    world.now = world.now.after(121);
    assert!(world.signals(1).is_empty());
}

#[test]
fn signals_do_not_flood() {
    let mut world = World::acquainted(&["alice", "bob"]);
    let signal = Signal::new(CALL, SignalKind::Candidates, &[7; 1_000]).unwrap();
    let to = [world.address(1)];
    for _ in 0..1_100 {
        world.clients[0].signal(&to, &signal, world.now, &mut world.rng).unwrap();
    }
    let received = world.settle();
    let taken = received.iter().filter(|received| **received == Received::Signal).count();
    assert_eq!(taken, 256, "what waits for the app is bounded");
    assert_eq!(world.signals(1).len(), 256);
    // Of all that came, 1,024 were looked at; the rest is an allowance.
    for _ in 0..50 {
        world.clients[0].signal(&to, &signal, world.now, &mut world.rng).unwrap();
    }
    assert!(!world.settle().contains(&Received::Signal));
    world.now = world.now.after(10);
    for _ in 0..50 {
        world.clients[0].signal(&to, &signal, world.now, &mut world.rng).unwrap();
    }
    world.settle();
    assert_eq!(world.signals(1).len(), 10);
    // Texts come all the same.
    world.clients[0].write("bob", b"are you there?", world.now, &mut world.rng).unwrap();
    world.settle();
    assert_eq!(take(&mut world.clients[1]).len(), 1);
    // The longest body fits, and nothing longer.
    let most = vec![1; Signal::MAX_BODY];
    let signal = Signal::new(CALL, SignalKind::Answer, &most).unwrap();
    world.clients[0].signal(&to, &signal, world.now, &mut world.rng).unwrap();
    world.now = world.now.after(30);
    world.settle();
    assert_eq!(world.signals(1)[0].body(), most);
    let long = vec![1; Signal::MAX_BODY + 1];
    assert_eq!(Signal::new(CALL, SignalKind::Answer, &long), Err(Error::TooLong));
    for kind in [SignalKind::Key, SignalKind::KeyWanted, SignalKind::Join, SignalKind::Leave] {
        assert_eq!(Signal::new(CALL, kind, b""), Err(Error::NotPermitted));
    }
}

#[test]
fn who_was_never_written_to_rings_three_times() {
    let mut world = World::new(&["alice", "bob"]);
    world.clients[0].write("bob", b"you do not know me", world.now, &mut world.rng).unwrap();
    world.settle();
    for _ in 0..10 {
        assert!(world.signal(0, 1, SignalKind::Offer).is_empty());
    }
    world.settle();
    assert_eq!(world.signals(1).len(), 3);
    world.now = world.now.after(600);
    for _ in 0..10 {
        assert!(world.signal(0, 1, SignalKind::Offer).is_empty());
    }
    world.settle();
    assert_eq!(world.signals(1).len(), 1);
    // Bob writes: then they are acquainted.
    world.clients[1].write("alice", b"now I do", world.now, &mut world.rng).unwrap();
    world.settle();
    for _ in 0..10 {
        assert!(world.signal(0, 1, SignalKind::Offer).is_empty());
    }
    world.settle();
    assert_eq!(world.signals(1).len(), 10);
}

#[test]
fn an_account_that_changed_neither_rings_nor_is_called() {
    let mut world = World::acquainted(&["alice", "bob"]);
    // Another Alice, as the server has her now.
    let (now, rng) = (world.now, &mut world.rng);
    let mallory = small(Client::create(Memory::new(), "alice", now, rng).unwrap());
    world.post.users.remove("alice");
    world.post.mail.clear();
    world.clients[0] = mallory;
    world.settle();
    world.clients[0].write("bob", b"it is me", world.now, &mut world.rng).unwrap();
    world.settle();
    assert!(world.clients[1].trust("alice").unwrap().unwrap().new_account.is_some());
    drop(take(&mut world.clients[1]));
    assert!(world.signal(0, 1, SignalKind::Offer).is_empty());
    world.settle();
    assert!(world.signals(1).is_empty() && take(&mut world.clients[1]).is_empty());
    // Nor does she get what is said in a call, or may she be in one.
    let to = world.address(0);
    assert_eq!(world.signal(1, 0, SignalKind::Offer), [to]);
    let members = world.clients[1].call_members(&["alice"]).unwrap();
    assert!(members.devices().all(|(address, _)| address.user == "bob"));
}

#[test]
fn a_signal_to_nobody_is_refused() {
    let mut world = World::acquainted(&["alice", "bob"]);
    let signal = Signal::new(CALL, SignalKind::Offer, b"").unwrap();
    let own = world.address(0);
    let (now, rng) = (world.now, &mut world.rng);
    let alice = &mut world.clients[0];
    let mut send = |to: Address| alice.signal(&[Address::new("bob", 1), to], &signal, now, rng);
    assert_eq!(send(own), Err(Error::OwnIdentity));
    assert_eq!(send(Address::new("carol", 1)), Err(Error::DevicesNeeded("carol".into())));
    assert_eq!(send(Address::new("", 1)), Err(Error::BadName));
    // None of these sent anything; a device that is not listed is left out of it.
    assert_eq!(send(Address::new("bob", 2)), Ok(vec![Address::new("bob", 2)]));
    world.settle();
    assert_eq!(world.signals(1).len(), 1);
    assert_eq!(
        world.clients[0].call_members(&["carol"]),
        Err(Error::DevicesNeeded("carol".into()))
    );
}

#[cfg(feature = "calls")]
mod frames {
    use super::*;
    use subrosa::call::{Call, Outgoing, Stream, Suite, Taken};

    /// Signals go until there are none. Milliseconds of a call are the world's seconds.
    fn talk(world: &mut World, calls: &mut [(usize, Call)]) {
        for _ in 0..20 {
            let mut is_done = true;
            for (at, call) in calls.iter_mut() {
                let now = world.now.as_secs() * 1_000;
                for signal in world.clients[*at].take_signals(100, world.now).unwrap() {
                    is_done = false;
                    let taken = call.take(&signal, now);
                    assert!(!matches!(taken, Ok(Taken::ForApp | Taken::OtherCall)), "{taken:?}");
                }
                for Outgoing { to, signal, .. } in call.tick(now, &mut world.rng) {
                    is_done = false;
                    world.clients[*at].signal(&to, &signal, world.now, &mut world.rng).unwrap();
                }
            }
            world.settle();
            if is_done {
                return;
            }
        }
        panic!("signals without end");
    }

    fn enter(world: &mut World, at: usize, users: &[&str]) -> (usize, Call) {
        let now = world.now.as_secs() * 1_000;
        let me = world.address(at);
        let mut call = Call::new(CALL, &me, Suite::default(), now, &mut world.rng);
        let members = world.clients[at].call_members(users).unwrap();
        call.set_members(&members, now, &mut world.rng);
        (at, call)
    }

    fn hears(world: &World, calls: &mut [(usize, Call)], from: usize, by: usize) -> bool {
        let now = world.now.as_secs() * 1_000;
        let mut frame = b"a picture".to_vec();
        let me = world.address(calls[from].0);
        calls[from].1.seal(Stream::Video, 2, &mut frame, now).unwrap();
        let is_open = calls[by].1.open(&me, 2, &mut frame, now).is_ok();
        assert_eq!(is_open, frame == b"a picture");
        is_open
    }

    #[test]
    fn devices_that_are_in_a_call_hear_each_other_and_others_do_not() {
        let users = ["alice", "bob", "carol"];
        let mut world = World::acquainted(&users);
        let mut calls: Vec<_> = (0..2).map(|at| enter(&mut world, at, &users)).collect();
        talk(&mut world, &mut calls);
        assert!(hears(&world, &mut calls, 0, 1) && hears(&world, &mut calls, 1, 0));
        assert_eq!(calls[0].1.present().cloned().collect::<Vec<_>>(), [world.address(1)]);
        // Carol's device has had the joins, and no key.
        let kinds: Vec<SignalKind> = world.signals(2).iter().map(|signal| signal.kind()).collect();
        assert_eq!(kinds, [SignalKind::Join, SignalKind::Join]);
        // She comes, half a minute later; and Bob's other device, which nobody knows of yet.
        world.now = world.now.after(30);
        talk(&mut world, &mut calls);
        calls.push(enter(&mut world, 2, &users));
        let laptop = world.link(1);
        for user in ["alice", "carol"] {
            world.clients[laptop].write(user, b"me too", world.now, &mut world.rng).unwrap();
        }
        world.settle();
        calls.push(enter(&mut world, laptop, &users));
        for (at, call) in &mut calls {
            world.clients[*at].write("bob", b"?", world.now, &mut world.rng).unwrap();
            world.settle();
            let members = world.clients[*at].call_members(&users).unwrap();
            call.set_members(&members, world.now.as_secs() * 1_000, &mut world.rng);
        }
        world.now = world.now.after(1);
        talk(&mut world, &mut calls);
        world.now = world.now.after(2);
        talk(&mut world, &mut calls);
        for from in 0..4 {
            for by in (0..4).filter(|by| *by != from) {
                assert!(hears(&world, &mut calls, from, by), "{by} hears {from}");
            }
        }
        // Bob removes the laptop: nobody's next frame is for it.
        let own = world.address(laptop);
        world.clients[1].remove_device(own.device, world.now, &mut world.rng).unwrap();
        world.clients[1].write("carol", b"!", world.now, &mut world.rng).unwrap();
        world.clients[1].write("alice", b"!", world.now, &mut world.rng).unwrap();
        world.settle();
        for (at, call) in &mut calls[..3] {
            let members = world.clients[*at].call_members(&users).unwrap();
            assert!(members.devices().all(|(address, _)| *address != own));
            call.set_members(&members, world.now.as_secs() * 1_000, &mut world.rng);
        }
        for from in 0..3 {
            assert!(!hears(&world, &mut calls, from, 3), "the laptop hears {from}");
            assert!(!hears(&world, &mut calls, 3, from), "{from} hears the laptop");
        }
        calls.pop();
        world.clients.pop();
        talk(&mut world, &mut calls);
        assert!(hears(&world, &mut calls, 0, 1) && hears(&world, &mut calls, 2, 0));
        // Alice leaves.
        let (_, alice) = calls.remove(0);
        for Outgoing { to, signal, .. } in alice.leave() {
            world.clients[0].signal(&to, &signal, world.now, &mut world.rng).unwrap();
        }
        world.settle();
        talk(&mut world, &mut calls);
        assert_eq!(calls[0].1.present().cloned().collect::<Vec<_>>(), [world.address(2)]);
    }
}

#[test]
fn a_signal_that_waits_for_a_session_is_not_sent_once_it_is_worth_nothing() {
    let mut world = World::new(&["alice", "bob"]);
    let list = world.post.list("bob").unwrap().encode();
    world.clients[0].update_devices("bob", &list, world.now, &mut world.rng).unwrap();
    assert!(world.signal(0, 1, SignalKind::Offer).is_empty());
    // The bundle comes when nobody waits any more.
    let tasks = world.clients[0].tasks(9, world.now, &mut world.rng).unwrap();
    let fetch = tasks.iter().find(|task| matches!(task.action, Action::FetchBundle(_))).unwrap();
    world.now = world.now.after(61);
    world.post.perform(&mut world.clients[0], fetch, world.now, &mut world.rng).unwrap();
    let tasks = world.clients[0].tasks(9, world.now, &mut world.rng).unwrap();
    let sends = |task: &subrosa::Task| matches!(task.action, Action::Send { .. });
    assert!(!tasks.iter().any(sends), "{tasks:?}");
}

#[test]
fn a_signal_that_waits_for_a_session_is_for_no_other_device_that_has_the_number_by_then() {
    let mut world = World::new(&["alice", "bob"]);
    let list = world.post.list("bob").unwrap().encode();
    world.clients[0].update_devices("bob", &list, world.now, &mut world.rng).unwrap();
    assert!(world.signal(0, 1, SignalKind::Offer).is_empty());
    // Bob begins anew, and Alice accepts that.
    let (now, rng) = (world.now, &mut world.rng);
    world.clients[1] = small(Client::create(Memory::new(), "bob", now, rng).unwrap());
    world.post.users.remove("bob");
    world.post.settle(&mut world.clients[1], now, &mut world.rng);
    let list = world.post.list("bob").unwrap().clone();
    let (alice, rng) = (&mut world.clients[0], &mut world.rng);
    alice.update_devices("bob", &list.encode(), now, rng).unwrap();
    alice.accept_new_key("bob", &list.account(), now, rng).unwrap();
    assert!(!world.settle().contains(&Received::Signal));
    assert!(world.signal(0, 1, SignalKind::Offer).is_empty());
    assert!(world.settle().contains(&Received::Signal));
    assert_eq!(world.signals(1).len(), 1);
}

#[test]
fn of_the_signals_that_wait_for_a_session_the_newest_64_are_kept() {
    let mut world = World::new(&["alice", "bob"]);
    let list = world.post.list("bob").unwrap().encode();
    world.clients[0].update_devices("bob", &list, world.now, &mut world.rng).unwrap();
    let to = [world.address(1)];
    for number in 0..70_u8 {
        let signal = Signal::new(CALL, SignalKind::Candidates, &[number]).unwrap();
        world.clients[0].signal(&to, &signal, world.now, &mut world.rng).unwrap();
    }
    world.settle();
    let bodies: Vec<u8> = world.signals(1).iter().map(|signal| signal.body()[0]).collect();
    assert_eq!(bodies, (6..70).collect::<Vec<u8>>());
}

#[test]
fn the_own_devices_and_verified_users_ring_as_often_as_they_like() {
    let mut world = World::new(&["alice", "bob"]);
    world.link(1);
    world.clients[0].write("bob", b"you do not know me", world.now, &mut world.rng).unwrap();
    world.settle();
    let account = world.clients[0].trust("alice").unwrap().unwrap().account;
    world.clients[1].verify("alice", &account, world.now, &mut world.rng).unwrap();
    for from in [0, 2] {
        for _ in 0..10 {
            assert!(world.signal(from, 1, SignalKind::Offer).is_empty());
        }
        world.settle();
        assert_eq!(world.signals(1).len(), 10, "{from}");
    }
}

#[test]
fn strangers_ring_sixteen_times_all_together() {
    let users = ["bob", "a", "b", "c", "d", "e", "f"];
    let mut world = World::new(&users);
    for from in 1..users.len() {
        world.clients[from].write("bob", b"hello", world.now, &mut world.rng).unwrap();
        world.settle();
        for _ in 0..3 {
            assert!(world.signal(from, 0, SignalKind::Offer).is_empty());
        }
    }
    world.settle();
    assert_eq!(world.signals(0).len(), 16);
}

#[test]
fn signals_of_many_users_are_bounded_all_together() {
    let names: Vec<String> = (0..18).map(|number| format!("user {number}")).collect();
    let users: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut world = World::new(&users);
    let to = [world.address(0)];
    // A mebibyte of each, of 17 users.
    let signal = Signal::new(CALL, SignalKind::Candidates, &vec![7; Signal::MAX_BODY]).unwrap();
    for from in 1..users.len() {
        world.clients[from].write(users[0], b"hello", world.now, &mut world.rng).unwrap();
        world.settle();
        for _ in 0..16 {
            world.clients[from].signal(&to, &signal, world.now, &mut world.rng).unwrap();
        }
        world.settle();
    }
    assert_eq!(world.signals(0).len(), 256);
}

#[test]
fn a_body_that_is_too_long_is_refused_however_the_signal_was_made() {
    let mut world = World::acquainted(&["alice", "bob"]);
    let mut signal = Signal::new(CALL, SignalKind::Answer, b"").unwrap();
    signal.body = vec![1; Signal::MAX_BODY + 1].into();
    let to = [world.address(1)];
    let refused = world.clients[0].signal(&to, &signal, world.now, &mut world.rng);
    assert_eq!(refused, Err(Error::TooLong));
}

#[test]
fn a_signal_that_comes_too_late_is_not_even_kept() {
    let mut world = World::acquainted(&["alice", "bob"]);
    for (late, received) in [(120, Received::Signal), (121, Received::Handled)] {
        assert!(world.signal(0, 1, SignalKind::Offer).is_empty());
        world.post.settle(&mut world.clients[0], world.now, &mut world.rng);
        world.now = world.now.after(late);
        let of_bob = world.post.fetch(&mut world.clients[1], world.now, &mut world.rng);
        assert_eq!(of_bob, [received], "{late}");
    }
}
