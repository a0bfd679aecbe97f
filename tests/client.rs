//! The client, one intention after the other, as an app would use it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a panic is how a test fails"
)]

#[path = "client/decisions.rs"]
mod decisions;
#[path = "client/lost.rs"]
mod lost;
#[path = "support/network.rs"]
mod network;
#[path = "support/post.rs"]
mod post;
#[path = "client/remedies.rs"]
mod remedies;
#[path = "client/sleep.rs"]
mod sleep;

use network::{NOW, Seeded};
use post::{Post, take};
use subrosa::store::{Memory, Store, Table};
use subrosa::{
    Action, Address, Answer, Client, Completed, Error, Event, Incoming, Item, MessageId, NewDevice,
    Policy, Progress, Received, Role, SessionInfo, Text, Trust, UnixTime,
};

const HOUR: u64 = 60 * 60;
const DAY: u64 = 24 * HOUR;

/// Some devices, a server, and what is drawn.
struct World {
    post: Post,
    rng: Seeded,
    now: UnixTime,
}

impl World {
    fn new(name: &str) -> Self {
        Self {
            post: Post::default(),
            rng: Seeded::new(1, name),
            now: UnixTime::from_secs(NOW).unwrap(),
        }
    }

    fn pass(&mut self, seconds: u64) {
        self.now = self.now.after(seconds);
    }

    fn create(&mut self, user: &str) -> Client<Memory> {
        let mut client = Client::create(Memory::new(), user, self.now, &mut self.rng).unwrap();
        self.connect(&mut client);
        client
    }

    /// Alice and Bob, who have a session in which each has read the other.
    fn talking(&mut self) -> (Client<Memory>, Client<Memory>) {
        let (mut alice, mut bob) = (self.create("alice"), self.create("bob"));
        self.write(&mut alice, "bob", "one");
        self.settle(&mut [&mut alice, &mut bob]);
        self.write(&mut bob, "alice", "two");
        self.settle(&mut [&mut alice, &mut bob]);
        (alice, bob)
    }

    /// A further device of the account of `old`.
    fn link(&mut self, old: &mut Client<Memory>, role: Role) -> Client<Memory> {
        let device = NewDevice::generate(&mut self.rng);
        let grant = old.link(&device.code(), role, self.now, &mut self.rng).unwrap();
        self.connect(old);
        let mut new =
            Client::join(Memory::new(), &device, &grant, self.now, &mut self.rng).unwrap();
        self.connect(&mut new);
        new
    }

    /// Does the tasks that there are.
    fn connect(&mut self, client: &mut Client<Memory>) -> Vec<MessageId> {
        self.post.settle(client, self.now, &mut self.rng)
    }

    fn write(&mut self, from: &mut Client<Memory>, to: &str, text: &str) {
        let id = from.write(to, text.as_bytes(), self.now, &mut self.rng).unwrap();
        self.connect(from);
        assert_eq!(from.progress(id).unwrap(), Progress::Sent, "{text}");
    }

    fn encrypt(
        &mut self,
        from: &mut Client<Memory>,
        to: &str,
        text: &str,
    ) -> Result<MessageId, Error> {
        from.encrypt(to, text.as_bytes(), self.now, &mut self.rng)
    }

    fn update(&mut self, at: &mut Client<Memory>, user: &str, list: &[u8]) -> Result<(), Error> {
        at.update_devices(user, list, self.now, &mut self.rng)
    }

    fn sync(&mut self, client: &mut Client<Memory>) -> Vec<Received> {
        let received = self.post.fetch(client, self.now, &mut self.rng);
        self.connect(client);
        received
    }

    /// Until nobody has anything to say.
    fn settle(&mut self, clients: &mut [&mut Client<Memory>]) {
        let mut quiet = 0;
        for _ in 0..20 {
            let idle = clients
                .iter_mut()
                .map(|client| usize::from(self.sync(client).is_empty()))
                .sum::<usize>();
            quiet = if idle == clients.len() { quiet + 1 } else { 0 };
            if quiet == 2 {
                return;
            }
        }
        panic!("they never stop talking");
    }

    /// The encoded list that the server has of a user.
    fn list(&self, user: &str) -> Vec<u8> {
        self.post.list(user).unwrap().encode()
    }

    /// What was ever sent to a user: from whom, and the envelope.
    fn wire_to(&self, user: &str) -> Vec<(Address, Vec<u8>)> {
        let all = self.post.past.iter().filter(|mail| mail.to.user == user);
        all.map(|mail| (mail.from.clone(), mail.envelope.clone())).collect()
    }
}

/// What is in the inbox: from, for whom the copy is, text. Events are left out.
fn texts(client: &mut Client<Memory>) -> Vec<(String, Option<String>, String)> {
    let all = take(client).into_iter();
    all.filter_map(|incoming| match incoming.item {
        Item::Text(text) => Some((text.from.to_string(), text.copy_to.clone(), string(&text))),
        Item::Event(_) => None,
        other => panic!("{other:?}"),
    })
    .collect()
}

fn string(text: &Text) -> String {
    String::from_utf8(text.text.to_vec()).unwrap()
}

/// The events in the inbox, which has nothing else.
fn events(client: &mut Client<Memory>) -> Vec<Event> {
    let event = |incoming: Incoming| match incoming.item {
        Item::Event(event) => event,
        other => panic!("{other:?}"),
    };
    take(client).into_iter().map(event).collect()
}

/// What is held of a user.
fn held(client: &mut Client<Memory>, user: &str) -> Vec<(Trust, String)> {
    let all = client.held(user, 100).unwrap().into_iter();
    all.map(|incoming| match incoming.item {
        Item::Text(text) => (text.trust, string(&text)),
        other => panic!("{other:?}"),
    })
    .collect()
}

/// The session that a client writes in to a user of one device.
fn writing(client: &mut Client<Memory>, user: &str) -> SessionInfo {
    client.sessions(user).unwrap().into_iter().find(|session| session.is_writing).unwrap()
}

fn from(address: &str, text: &str) -> (String, Option<String>, String) {
    (address.into(), None, text.into())
}

fn copy(address: &str, to: &str, text: &str) -> (String, Option<String>, String) {
    (address.into(), Some(to.into()), text.into())
}

#[test]
fn a_conversation() {
    let world = &mut World::new("a conversation");
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    let unknown = world.encrypt(&mut alice, "bob", "hi");
    assert_eq!(unknown, Err(Error::DevicesNeeded("bob".into())));
    for turn in 0..5 {
        world.write(&mut alice, "bob", &format!("ping {turn}"));
        world.sync(&mut bob);
        assert_eq!(texts(&mut bob), [from("alice/1", &format!("ping {turn}"))]);
        world.write(&mut bob, "alice", &format!("pong {turn}"));
        world.sync(&mut alice);
        assert_eq!(texts(&mut alice), [from("bob/1", &format!("pong {turn}"))]);
    }
    let sessions = alice.sessions("bob").unwrap();
    assert_eq!(sessions.len(), 1);
    assert!(sessions[0].is_writing);
    assert_eq!(sessions[0].id, bob.sessions("alice").unwrap()[0].id);
    assert_eq!(alice.tasks(10, world.now, &mut world.rng).unwrap(), []);
}

#[test]
fn both_begin_at_once_and_come_to_use_one_session() {
    let world = &mut World::new("both begin");
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    world.write(&mut alice, "bob", "from alice");
    world.write(&mut bob, "alice", "from bob");
    world.settle(&mut [&mut alice, &mut bob]);
    assert_eq!(texts(&mut alice), [from("bob/1", "from bob")]);
    assert_eq!(texts(&mut bob), [from("alice/1", "from alice")]);
    world.write(&mut alice, "bob", "one");
    world.settle(&mut [&mut alice, &mut bob]);
    world.write(&mut bob, "alice", "two");
    world.settle(&mut [&mut alice, &mut bob]);
    assert_eq!(writing(&mut alice, "bob").id, writing(&mut bob, "alice").id);
    assert_eq!(texts(&mut alice), [from("bob/1", "two")]);
    assert_eq!(texts(&mut bob), [from("alice/1", "one")]);
}

#[test]
fn every_device_gets_it_and_the_own_ones_get_a_copy() {
    let world = &mut World::new("devices");
    let (mut phone, mut bob) = (world.create("alice"), world.create("bob"));
    let mut laptop = world.link(&mut phone, Role::Device);
    assert_eq!(laptop.address().clone(), Address::new("alice", 2));
    world.write(&mut bob, "alice", "hi");
    world.settle(&mut [&mut phone, &mut laptop, &mut bob]);
    assert_eq!(texts(&mut phone), [from("bob/1", "hi")]);
    assert_eq!(texts(&mut laptop), [from("bob/1", "hi")]);
    world.write(&mut laptop, "bob", "hello");
    world.settle(&mut [&mut phone, &mut laptop, &mut bob]);
    assert_eq!(texts(&mut bob), [from("alice/2", "hello")]);
    assert_eq!(texts(&mut phone), [copy("alice/2", "bob", "hello")]);

    // Without the account key it can link nobody; with it, it can.
    let other = NewDevice::generate(&mut world.rng);
    let refused = laptop.link(&other.code(), Role::Device, world.now, &mut world.rng);
    assert_eq!(refused, Err(Error::NotPermitted));
    let mut tablet = world.link(&mut phone, Role::Manager);
    let watch = world.link(&mut tablet, Role::Device);
    assert_eq!(tablet.devices("alice").unwrap().unwrap().devices().len(), 4);
    drop(watch);
}

#[test]
fn the_own_devices_get_their_copy_though_the_list_of_the_user_came_late() {
    let world = &mut World::new("late list");
    let (mut phone, mut bob) = (world.create("alice"), world.create("bob"));
    let mut laptop = world.link(&mut phone, Role::Device);
    let id = phone.write("bob", b"hello", world.now, &mut world.rng).unwrap();
    assert_eq!(phone.progress(id).unwrap(), Progress::Waiting);
    assert_eq!(world.connect(&mut phone), [id]);
    assert_eq!(phone.progress(id).unwrap(), Progress::Sent);
    world.settle(&mut [&mut phone, &mut laptop, &mut bob]);
    assert_eq!(texts(&mut bob), [from("alice/1", "hello")]);
    assert_eq!(texts(&mut laptop), [copy("alice/1", "bob", "hello")]);
}

#[test]
fn a_removed_device_gets_nothing_more() {
    let world = &mut World::new("removed");
    let (mut phone, mut bob) = (world.create("alice"), world.create("bob"));
    let mut laptop = world.link(&mut phone, Role::Device);
    world.write(&mut bob, "alice", "to both");
    world.settle(&mut [&mut phone, &mut laptop, &mut bob]);
    world.write(&mut phone, "bob", "from the phone");
    world.settle(&mut [&mut phone, &mut laptop, &mut bob]);
    phone.remove_device(2, world.now, &mut world.rng).unwrap();
    world.connect(&mut phone);
    world.write(&mut phone, "bob", "the laptop is gone");
    world.settle(&mut [&mut phone, &mut laptop, &mut bob]);
    texts(&mut phone);
    texts(&mut laptop);
    texts(&mut bob);
    world.write(&mut bob, "alice", "to one");
    world.settle(&mut [&mut phone, &mut laptop, &mut bob]);
    assert_eq!(texts(&mut phone), [from("bob/1", "to one")]);
    assert_eq!(texts(&mut laptop), []);
    // For 7 days what it says itself is late mail: shown apart, and not answered.
    world.write(&mut laptop, "bob", "it is still me");
    world.sync(&mut bob);
    let late = take(&mut bob);
    let [Incoming { item: Item::Late(text), .. }] = &late[..] else { panic!("{late:?}") };
    assert_eq!((text.from.to_string(), string(text)), ("alice/2".into(), "it is still me".into()));
    // Then it is not taken any more.
    world.pass(7 * DAY + HOUR);
    let id = laptop.write("bob", b"and still", world.now, &mut world.rng).unwrap();
    world.connect(&mut laptop);
    assert_eq!(laptop.progress(id).unwrap(), Progress::Sent);
    let refused = world.sync(&mut bob);
    assert!(matches!(refused[..], [Received::SetAside]), "{refused:?}");
    world.pass(HOUR);
    world.connect(&mut bob);
    assert_eq!(take(&mut bob), []);
    assert_eq!(bob.trust("alice").unwrap().unwrap().trust, Trust::FirstUse);
}

#[test]
fn a_manager_that_is_removed_takes_the_account_key_with_it() {
    let world = &mut World::new("manager");
    let (mut phone, mut bob) = (world.create("alice"), world.create("bob"));
    let (mut laptop, mut tablet) =
        (world.link(&mut phone, Role::Manager), world.link(&mut phone, Role::Manager));
    world.write(&mut phone, "bob", "hi");
    world.write(&mut laptop, "bob", "hi");
    world.write(&mut tablet, "bob", "hi");
    world.settle(&mut [&mut phone, &mut laptop, &mut tablet, &mut bob]);
    let before = phone.trust("alice").unwrap().unwrap().account;
    let old_list = world.list("alice");
    phone.remove_device(2, world.now, &mut world.rng).unwrap();
    world.connect(&mut phone);
    world.settle(&mut [&mut phone, &mut tablet, &mut bob]);
    let after = phone.trust("alice").unwrap().unwrap().account;
    assert_ne!(before, after);
    // The other manager was given the new key, and can go on with it.
    assert_eq!(tablet.trust("alice").unwrap().unwrap().account, after);
    let watch = world.link(&mut tablet, Role::Device);
    drop(watch);
    // Bob is told, and has to accept it before he writes again.
    world.write(&mut phone, "bob", "a new key");
    let list = world.list("alice");
    world.update(&mut bob, "alice", &list).unwrap();
    let trust = bob.trust("alice").unwrap().unwrap();
    assert_eq!((trust.account, trust.new_account), (before, Some(after)));
    let refused = world.encrypt(&mut bob, "alice", "?");
    assert_eq!(refused, Err(Error::IdentityChanged("alice".into())));
    // What he writes all the same waits, and is no task.
    let waits = bob.write("alice", b"it waits", world.now, &mut world.rng).unwrap();
    world.settle(&mut [&mut bob, &mut phone]);
    assert_eq!(bob.progress(waits).unwrap(), Progress::Waiting);
    let changed = Event::KeyChanged { user: "alice".into(), account: after };
    assert!(take(&mut bob).iter().any(|incoming| incoming.item == Item::Event(changed.clone())));
    let other = bob.trust("bob").unwrap().unwrap().account;
    let accepted = bob.accept_new_key("alice", &other, world.now, &mut world.rng);
    assert_eq!(accepted, Err(Error::IdentityChanged("alice".into())));
    bob.accept_new_key("alice", &after, world.now, &mut world.rng).unwrap();
    bob.verify("alice", &after, world.now, &mut world.rng).unwrap();
    world.connect(&mut bob);
    assert_eq!(bob.progress(waits).unwrap(), Progress::Sent);
    // Who shows the old key again is late.
    assert_eq!(world.update(&mut bob, "alice", &old_list), Err(Error::StaleDeviceList));
    assert_eq!(bob.trust("alice").unwrap().unwrap().trust, Trust::Verified);
    world.settle(&mut [&mut phone, &mut tablet, &mut bob]);
    assert!(texts(&mut phone).contains(&from("bob/1", "it waits")));
    world.write(&mut bob, "alice", "well met");
    world.settle(&mut [&mut phone, &mut tablet, &mut bob]);
    assert_eq!(texts(&mut phone), [from("bob/1", "well met")]);
}

#[test]
fn what_cannot_be_opened_comes_again_and_once() {
    let world = &mut World::new("heal");
    let (mut alice, mut bob) = world.talking();
    texts(&mut alice);
    texts(&mut bob);
    // Bob loses every session.
    let mut store = bob.into_store();
    store
        .transact(|tx| {
            tx.scan(Table::Session, b"", 10)?
                .iter()
                .try_for_each(|(key, _)| tx.delete(Table::Session, key))
        })
        .unwrap();
    let mut bob = Client::open(store).unwrap();
    for text in ["three", "four", "five"] {
        world.write(&mut alice, "bob", text);
    }
    let received = world.sync(&mut bob);
    assert!(received.iter().all(|one| matches!(one, Received::AskedAgain(_))), "{received:?}");
    world.settle(&mut [&mut alice, &mut bob]);
    let expected = ["three", "four", "five"].map(|text| from("alice/1", text));
    assert_eq!(texts(&mut bob), expected);
    // The envelopes themselves, redelivered, show nothing twice.
    for (sender, envelope) in world.wire_to("bob") {
        let received = bob.receive(Some(&sender), &envelope, world.now, &mut world.rng).unwrap();
        assert!(!matches!(received, Received::Incoming(_)), "{received:?}");
    }
    world.settle(&mut [&mut alice, &mut bob]);
    assert_eq!(texts(&mut bob), []);
    world.write(&mut alice, "bob", "six");
    world.write(&mut bob, "alice", "seven");
    world.settle(&mut [&mut alice, &mut bob]);
    assert_eq!(texts(&mut bob), [from("alice/1", "six")]);
    assert_eq!(texts(&mut alice), [from("bob/1", "seven")]);
}

#[test]
fn an_open_envelope_of_no_known_sender_is_refused_and_changes_nothing() {
    let world = &mut World::new("no sender");
    let (mut alice, mut bob) = world.talking();
    world.write(&mut alice, "bob", "three");
    world.connect(&mut alice);
    let mail = world.post.take(bob.address());
    let received = bob.receive(None, &mail[0].envelope, world.now, &mut world.rng).unwrap();
    assert_eq!(received, Received::Refused(Error::NoSender));
    let from = Some(&mail[0].from);
    let received = bob.receive(from, &mail[0].envelope, world.now, &mut world.rng).unwrap();
    assert!(matches!(received, Received::Incoming(_)), "{received:?}");
}

#[test]
fn a_session_begun_to_ask_in_is_begun_again_once_it_is_lost() {
    let world = &mut World::new("lost again");
    let (mut alice, mut bob) = world.talking();
    texts(&mut alice);
    texts(&mut bob);
    let mut store = bob.into_store();
    let kept = store.transact(|tx| tx.scan(Table::Session, b"", 10)).unwrap();
    for text in ["three", "four"] {
        let mut bob = Client::open(store).unwrap();
        world.connect(&mut bob);
        world.write(&mut alice, "bob", text);
        // It is damaged on the way.
        let mut mail = world.post.take(&Address::new("bob", 1)).pop().unwrap();
        *mail.envelope.last_mut().unwrap() ^= 1;
        let received =
            bob.receive(Some(&mail.from), &mail.envelope, world.now, &mut world.rng).unwrap();
        assert!(matches!(received, Received::AskedAgain(_)), "{received:?}");
        world.connect(&mut bob);
        // Bob loses the session that he asked in.
        store = bob.into_store();
        let lost = store.transact(|tx| {
            let rows = tx.scan(Table::Session, b"", 10)?;
            assert_eq!(rows.len(), kept.len() + 1);
            let is_lost = |key: &[u8]| kept.iter().all(|row| row.0 != key);
            let mut lost = rows.iter().filter(|row| is_lost(&row.0));
            lost.try_for_each(|(key, _)| tx.delete(Table::Session, key))
        });
        lost.unwrap();
    }
    let mut bob = Client::open(store).unwrap();
    world.settle(&mut [&mut alice, &mut bob]);
    let mut read = texts(&mut bob);
    read.sort();
    assert_eq!(read, [from("alice/1", "four"), from("alice/1", "three")]);
}

#[test]
fn a_bundle_handed_out_twice_heals() {
    let world = &mut World::new("twice");
    let (mut alice, mut bob, mut carol) =
        (world.create("alice"), world.create("bob"), world.create("carol"));
    let before = world.post.users["bob"].clone();
    world.write(&mut alice, "bob", "from alice");
    world.sync(&mut bob);
    world.pass(1);
    world.post.users.insert("bob".into(), before);
    world.write(&mut carol, "bob", "from carol");
    // What one message used up, no thief finds with Bob, and no other message opens by it.
    assert!(matches!(world.sync(&mut bob)[..], [Received::AskedAgain(_)]));
    world.settle(&mut [&mut alice, &mut bob, &mut carol]);
    assert_eq!(texts(&mut bob), [from("alice/1", "from alice"), from("carol/1", "from carol")]);
    assert_eq!(bob.tasks(10, world.now, &mut world.rng).unwrap(), []);
}

#[test]
fn an_account_key_that_changed_stops_the_writing() {
    let world = &mut World::new("changed");
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    world.write(&mut alice, "bob", "one");
    world.settle(&mut [&mut alice, &mut bob]);
    let before = alice.trust("bob").unwrap().unwrap();
    assert_eq!(before.trust, Trust::FirstUse);
    alice.verify("bob", &before.account, world.now, &mut world.rng).unwrap();
    texts(&mut bob);
    // Bob loses his phone, and begins anew under the same name.
    world.post.users.remove("bob");
    let mut bob = world.create("bob");
    world.write(&mut bob, "alice", "it is me, honestly");
    world.settle(&mut [&mut alice, &mut bob]);
    let expected = [(Trust::Unaccepted, "it is me, honestly".to_string())];
    assert_eq!(held(&mut alice, "bob"), expected);
    let refused = world.encrypt(&mut alice, "bob", "?");
    assert_eq!(refused, Err(Error::IdentityChanged("bob".into())));
    let changed = alice.trust("bob").unwrap().unwrap();
    assert_eq!((changed.account, changed.trust), (before.account, Trust::Verified));
    let new = changed.new_account.unwrap();
    let told = [
        Event::KeyChanged { user: "bob".into(), account: new },
        Event::Held { user: "bob".into() },
    ];
    assert_eq!(events(&mut alice), told);
    alice.accept_new_key("bob", &new, world.now, &mut world.rng).unwrap();
    assert_eq!(alice.trust("bob").unwrap().unwrap().trust, Trust::FirstUse);
    assert_eq!(texts(&mut alice), [from("bob/1", "it is me, honestly")]);
    assert_eq!(held(&mut alice, "bob"), []);
    world.write(&mut alice, "bob", "so it is");
    world.settle(&mut [&mut alice, &mut bob]);
    assert_eq!(texts(&mut bob), [from("alice/1", "so it is")]);
}

/// Forged initial messages, made from a genuine one. Returns how many of them were looked at, set
/// aside without looking, and refused without looking.
fn flood(world: &mut World, at: &mut Client<Memory>, count: u32) -> [usize; 3] {
    let (sender, genuine) = world.wire_to("bob")[0].clone();
    let mut seen = [0; 3];
    for forgery in 0..count {
        let mut envelope = genuine.clone();
        // Another reference, another ephemeral key.
        envelope[2..6].copy_from_slice(&forgery.to_be_bytes());
        envelope[18 + 2 + 32..][..4].copy_from_slice(&forgery.to_be_bytes());
        match at.receive(Some(&sender), &envelope, world.now, &mut world.rng).unwrap() {
            Received::AskedAgain(_) => seen[0] += 1,
            Received::SetAside => seen[1] += 1,
            Received::Refused(Error::RateLimited) => seen[2] += 1,
            other => panic!("{other:?}"),
        }
    }
    seen
}

#[test]
fn a_flood_of_forged_initial_messages_is_refused_cheaply() {
    let world = &mut World::new("flood");
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    world.write(&mut alice, "bob", "genuine");
    // Bob knows who Alice is: what cannot be opened is asked for, and shows what was looked at.
    let list = world.list("alice");
    world.update(&mut bob, "alice", &list).unwrap();
    assert_eq!(flood(world, &mut bob, 200), [32, 32, 200 - 64]);
    world.pass(30);
    assert_eq!(flood(world, &mut bob, 5), [1, 0, 4]);
    // An hour later the genuine one is looked at again.
    world.pass(HOUR);
    world.settle(&mut [&mut bob, &mut alice]);
    assert_eq!(texts(&mut bob), [from("alice/1", "genuine")]);
}

#[test]
fn a_flood_of_a_stranger_is_asked_for_in_part_and_kept_in_part() {
    let world = &mut World::new("flood of a stranger");
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    world.write(&mut alice, "bob", "genuine");
    assert_eq!(flood(world, &mut bob, 200), [16, 32, 200 - 48]);
    world.pass(HOUR);
    world.settle(&mut [&mut bob, &mut alice]);
    assert_eq!(texts(&mut bob), [from("alice/1", "genuine")]);
}

#[test]
fn of_sessions_that_a_device_begins_without_end_few_are_kept() {
    let world = &mut World::new("sessions without end");
    let (mut alice, mut bob) = world.talking();
    for turn in 0..30 {
        bob.reset(alice.address()).unwrap();
        world.write(&mut bob, "alice", &format!("{turn}"));
        world.settle(&mut [&mut alice, &mut bob]);
    }
    assert_eq!(texts(&mut alice).len(), 31);
    for client in [alice, bob] {
        let rows: Result<_, Error> =
            client.into_store().transact(|tx| tx.scan(Table::Session, &[], usize::MAX));
        let count = rows.unwrap().len();
        assert!(count <= 5, "{count}");
    }
}

#[test]
fn a_clock_that_was_ahead_locks_nobody_out() {
    let world = &mut World::new("clock");
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    world.write(&mut alice, "bob", "genuine");
    let before = world.now;
    world.pass(DAY);
    flood(world, &mut bob, 40);
    world.now = before;
    world.settle(&mut [&mut bob, &mut alice]);
    assert_eq!(texts(&mut bob), [from("alice/1", "genuine")]);
}

#[test]
fn nobody_else_is_sent_again_what_was_written_to_somebody() {
    let world = &mut World::new("somebody else");
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    world.write(&mut alice, "bob", "for bob alone");
    world.settle(&mut [&mut alice, &mut bob]);
    // The server gives the name to an account of its own, which asks for all that it has seen go
    // by.
    world.post.users.remove("bob");
    let mut mallory = world.create("bob");
    let seen = world.wire_to("bob");
    for (sender, envelope) in &seen {
        let received = mallory.receive(Some(sender), envelope, world.now, &mut world.rng).unwrap();
        assert!(!matches!(received, Received::Incoming(_)), "{received:?}");
    }
    world.settle(&mut [&mut alice, &mut mallory]);
    assert_eq!(texts(&mut mallory), []);
    // Not even once Alice took the account for Bob's.
    let new = alice.trust("bob").unwrap().unwrap().new_account.unwrap();
    alice.accept_new_key("bob", &new, world.now, &mut world.rng).unwrap();
    world.pass(HOUR);
    for (sender, envelope) in &seen {
        let received = mallory.receive(Some(sender), envelope, world.now, &mut world.rng).unwrap();
        assert!(!matches!(received, Received::Incoming(_)), "{received:?}");
    }
    world.settle(&mut [&mut alice, &mut mallory]);
    assert_eq!(texts(&mut mallory), []);
    // Nor one that comes after she forgot him.
    alice.forget("bob").unwrap();
    world.pass(HOUR);
    for (sender, envelope) in &seen {
        let received = mallory.receive(Some(sender), envelope, world.now, &mut world.rng).unwrap();
        assert!(!matches!(received, Received::Incoming(_)), "{received:?}");
    }
    world.settle(&mut [&mut alice, &mut mallory]);
    assert_eq!(texts(&mut mallory), []);
}

#[test]
fn a_session_that_nobody_answers_expires() {
    let world = &mut World::new("expiry");
    let (mut alice, _bob) = (world.create("alice"), world.create("bob"));
    world.write(&mut alice, "bob", "one");
    world.pass(30 * DAY);
    assert!(world.encrypt(&mut alice, "bob", "two").is_ok());
    world.pass(1);
    let expired = world.encrypt(&mut alice, "bob", "three");
    assert_eq!(expired, Err(Error::BundlesNeeded([Address::new("bob", 1)].into())));
}

#[test]
fn a_restored_copy_that_is_noticed_renews_its_sessions() {
    let world = &mut World::new("restored");
    let (alice, mut bob) = world.talking();
    let backup = alice.into_store();
    let mut alice = Client::open(backup.clone()).unwrap();
    for turn in 0..3 {
        world.write(&mut alice, "bob", &format!("after the backup {turn}"));
        world.settle(&mut [&mut alice, &mut bob]);
    }
    texts(&mut alice);
    texts(&mut bob);
    let mut alice = Client::open(backup).unwrap();
    world.connect(&mut alice);
    let restored = take(&mut alice);
    assert!(restored.iter().any(|one| one.item == Item::Event(Event::Restored)), "{restored:?}");
    let refused = world.encrypt(&mut alice, "bob", "?");
    assert!(matches!(refused, Err(Error::BundlesNeeded(_))), "{refused:?}");
    world.write(&mut alice, "bob", "renewed");
    world.write(&mut bob, "alice", "to the restored one");
    world.settle(&mut [&mut alice, &mut bob]);
    assert_eq!(texts(&mut bob), [from("alice/1", "renewed")]);
    let shown = texts(&mut alice);
    assert!(shown.contains(&from("bob/1", "to the restored one")), "{shown:?}");
}

/// A server takes no prekeys whose ids are below those that it had.
#[test]
fn a_restored_copy_replaces_what_the_server_has_though_it_made_many_prekeys_since() {
    let world = &mut World::new("prekeys since");
    let mut policy = Policy::default();
    (policy.prekeys_low, policy.prekeys_target) = (100, 400);
    let copy = world.create("bob").into_store();
    let mut bob = Client::open(copy.clone()).unwrap().with_policy(policy);
    world.connect(&mut bob);
    let mut alice = world.create("alice");
    world.write(&mut alice, "bob", "before");
    world.sync(&mut bob);
    world.pass(25 * 60 * 60);
    world.connect(&mut bob);
    let held = |world: &World| world.post.users["bob"].summary(1).prekeys.unwrap();
    let before = held(world);
    assert_eq!(before.one_time, 400);
    let mut bob = Client::open(copy).unwrap();
    world.connect(&mut bob);
    assert_ne!(held(world).stamp, before.stamp);
    world.write(&mut alice, "bob", "after");
    world.settle(&mut [&mut alice, &mut bob]);
    assert!(texts(&mut bob).contains(&from("alice/1", "after")));
}

/// The server is behind once, and then the copy has signed as many uploads as the device before:
/// each made another signed prekey under one name.
#[test]
fn a_restored_copy_is_noticed_by_an_upload_of_the_same_number() {
    let world = &mut World::new("as many uploads");
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    let behind = world.post.users["bob"].summary(1).encode();
    let copy = bob.into_store();
    world.pass(10 * DAY);
    bob = Client::open(copy.clone()).unwrap();
    world.connect(&mut bob);
    let mut bob = Client::open(copy).unwrap();
    for _ in 0..2 {
        let (now, rng) = (world.now, &mut world.rng);
        for task in bob.tasks(10, now, rng).unwrap() {
            let answer = match &task.action {
                Action::FetchSummary => Answer::Summary(&behind),
                Action::Upload(_) => Answer::Failed,
                other => panic!("{other:?}"),
            };
            drop(bob.complete(&task.id, answer, now, rng).unwrap());
        }
    }
    world.pass(61);
    world.connect(&mut bob);
    assert_eq!(events(&mut bob), [Event::Restored]);
    world.write(&mut alice, "bob", "at once");
    assert!(matches!(world.sync(&mut bob)[..], [Received::Incoming(_)]));
}

/// The app ends once the copy was noticed, before anything is uploaded. The server shows the same.
#[test]
fn a_restored_copy_is_noticed_once_though_nothing_was_uploaded_since() {
    let world = &mut World::new("noticed once");
    let (_, mut bob) = (world.create("alice"), world.create("bob"));
    let copy = bob.into_store();
    bob = Client::open(copy.clone()).unwrap();
    world.connect(&mut bob);
    let shown = world.post.users["bob"].summary(1).encode();
    let mut bob = Client::open(copy).unwrap();
    for _ in 0..3 {
        let (now, rng) = (world.now, &mut world.rng);
        let task = bob.tasks(10, now, rng).unwrap().remove(0);
        assert_eq!(task.action, Action::FetchSummary);
        drop(bob.complete(&task.id, Answer::Summary(&shown), now, rng).unwrap());
        bob = Client::open(bob.into_store()).unwrap();
    }
    assert_eq!(events(&mut bob), [Event::Restored]);
}

#[test]
fn a_store_that_was_opened_again_is_not_taken_for_a_restored_copy() {
    let world = &mut World::new("opened again");
    let (mut alice, mut bob) = world.talking();
    for turn in 0..5 {
        alice = Client::open(alice.into_store()).unwrap();
        world.write(&mut alice, "bob", &format!("turn {turn}"));
        world.settle(&mut [&mut alice, &mut bob]);
    }
    assert!(take(&mut alice).iter().all(|incoming| incoming.item != Item::Event(Event::Restored)));
    assert_eq!(alice.sessions("bob").unwrap().len(), 1);
}

/// The server was restored as well, so that its stamp does not say so.
#[test]
fn a_restored_copy_that_is_not_noticed_heals() {
    let world = &mut World::new("restored unnoticed");
    let (alice, mut bob) = world.talking();
    let (backup, directory) = (alice.into_store(), world.post.users["alice"].clone());
    let mut alice = Client::open(backup.clone()).unwrap();
    for turn in 0..3 {
        world.write(&mut alice, "bob", &format!("ping {turn}"));
        world.write(&mut bob, "alice", &format!("pong {turn}"));
        world.settle(&mut [&mut alice, &mut bob]);
    }
    texts(&mut alice);
    texts(&mut bob);
    world.post.users.insert("alice".into(), directory);
    let mut alice = Client::open(backup).unwrap();
    texts(&mut alice);
    world.write(&mut alice, "bob", "from the copy");
    world.write(&mut bob, "alice", "to the copy");
    world.settle(&mut [&mut alice, &mut bob]);
    assert_eq!(texts(&mut bob), [from("alice/1", "from the copy")]);
    assert_eq!(texts(&mut alice), [from("bob/1", "to the copy")]);
}

#[test]
fn several_intentions_happen_together_or_not_at_all() {
    let world = &mut World::new("together");
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    world.write(&mut alice, "bob", "one");
    world.settle(&mut [&mut alice, &mut bob]);
    let (now, rng) = (world.now, &mut world.rng);
    let failed = alice.transact(|client| {
        client.write("bob", b"two", now, rng)?;
        client.encrypt("carol", b"three", now, rng)?;
        Ok::<(), Error>(())
    });
    assert_eq!(failed, Err(Error::DevicesNeeded("carol".into())));
    assert_eq!(alice.tasks(10, now, &mut world.rng).unwrap(), []);
    world.settle(&mut [&mut bob]);
    assert_eq!(texts(&mut bob), [from("alice/1", "one")]);
}

#[test]
fn lists_that_are_stale_forked_or_not_signed_are_refused() {
    let world = &mut World::new("lists");
    let (phone, mut bob) = (world.create("alice"), world.create("bob"));
    let first = world.list("alice");
    let copy = Client::open(phone.into_store()).unwrap().into_store();
    let (mut phone, mut fork) = (Client::open(copy.clone()).unwrap(), Client::open(copy).unwrap());
    let laptop = world.link(&mut phone, Role::Device);
    let second = world.list("alice");
    let other = NewDevice::generate(&mut world.rng);
    fork.link(&other.code(), Role::Device, world.now, &mut world.rng).unwrap();
    let forked = fork.devices("alice").unwrap().unwrap().encode();
    world.update(&mut bob, "alice", &second).unwrap();
    assert_eq!(world.update(&mut bob, "alice", &first), Err(Error::StaleDeviceList));
    assert_eq!(world.update(&mut bob, "alice", &forked), Err(Error::ForkedDeviceList));
    assert_eq!(world.update(&mut bob, "alice", &second), Ok(()));
    for at in 0..second.len() {
        let mut bad = second.clone();
        bad[at] ^= 1;
        assert!(world.update(&mut bob, "alice", &bad).is_err(), "byte {at}");
        assert!(world.update(&mut bob, "alice", &second[..at]).is_err(), "length {at}");
    }
    assert_eq!(bob.devices("alice").unwrap().unwrap().devices().len(), 2);
    drop(laptop);
}

#[test]
fn two_managers_who_remove_a_third_at_once_come_to_one_account_key() {
    for seed in 0..8 {
        let world = &mut World::new(&format!("split {seed}"));
        let mut phone = world.create("alice");
        let (mut laptop, mut tablet) =
            (world.link(&mut phone, Role::Manager), world.link(&mut phone, Role::Manager));
        world.write(&mut phone, "alice", "a note");
        world.write(&mut laptop, "alice", "another");
        world.settle(&mut [&mut phone, &mut laptop, &mut tablet]);
        phone.remove_device(3, world.now, &mut world.rng).unwrap();
        laptop.remove_device(3, world.now, &mut world.rng).unwrap();
        world.connect(&mut phone);
        world.connect(&mut laptop);
        world.settle(&mut [&mut phone, &mut laptop]);
        // A person compares the two screens, and accepts the key that the server has.
        let accepted = world.post.list("alice").unwrap().account();
        for client in [&mut phone, &mut laptop] {
            client.accept_new_key("alice", &accepted, world.now, &mut world.rng).unwrap();
        }
        world.settle(&mut [&mut phone, &mut laptop]);
        let list = |client: &mut Client<Memory>| client.devices("alice").unwrap().unwrap();
        assert_eq!(list(&mut phone), list(&mut laptop), "seed {seed}");
        assert_eq!(list(&mut phone).devices().len(), 2);
        // Both hold the key.
        world.link(&mut phone, Role::Device);
        world.settle(&mut [&mut phone, &mut laptop]);
        world.link(&mut laptop, Role::Device);
        assert_eq!(list(&mut laptop).devices().len(), 4, "seed {seed}");
    }
}

/// Only what the device itself signed says that its store is old.
#[test]
fn a_server_cannot_make_up_a_restoration() {
    let world = &mut World::new("made up");
    let (alice, mut bob) = world.talking();
    let (now, rng) = (world.now, &mut world.rng);
    let genuine = world.post.users["alice"].summary(1).encode();
    let of_bob = world.post.users["bob"].summary(1).encode();
    let mut answers = vec![of_bob, genuine[..genuine.len() - 1].to_vec(), Vec::new()];
    answers.extend((0..genuine.len()).map(|at| {
        let mut bad = genuine.clone();
        bad[at] ^= 1;
        bad
    }));
    let store = alice.into_store();
    for answer in answers {
        let mut alice = Client::open(store.clone()).unwrap();
        let tasks = alice.tasks(10, now, rng).unwrap();
        assert_eq!((tasks.len(), &tasks[0].action), (1, &Action::FetchSummary));
        let completed = alice.complete(&tasks[0].id, Answer::Summary(&answer), now, rng).unwrap();
        assert!(matches!(completed, Completed::Handled | Completed::Rejected(_)), "{completed:?}");
        assert!(take(&mut alice).iter().all(|one| one.item != Item::Event(Event::Restored)));
        assert!(writing(&mut alice, "bob").is_writing);
    }
    let mut alice = Client::open(store).unwrap();
    world.write(&mut alice, "bob", "as before");
    world.settle(&mut [&mut alice, &mut bob]);
    assert_eq!(texts(&mut bob).last(), Some(&from("alice/1", "as before")));
}

#[test]
fn nobody_who_takes_bundles_without_end_makes_more_prekeys_be_kept() {
    let world = &mut World::new("bundles");
    let mut alice = world.create("alice");
    for _ in 0..15 {
        let directory = world.post.users.get_mut("alice").unwrap();
        for asker in 0..100 {
            directory.bundle(1, &format!("asker {asker}"), world.now.as_secs()).unwrap();
        }
        world.pass(DAY + 1);
        world.connect(&mut alice);
        let held = world.post.users["alice"].summary(1).prekeys.unwrap();
        assert!(held.one_time >= 50, "{held:?}");
    }
    // A row each, of two kinds.
    let mut store = alice.into_store();
    let mut rows =
        |kind: u8| store.transact(|tx| tx.scan(Table::Prekey, &[kind], usize::MAX)).unwrap();
    assert_eq!([rows(2).len(), rows(4).len()], [1_000, 1_000]);
}

#[test]
fn a_key_that_was_accepted_by_mistake_silences_nobody() {
    let world = &mut World::new("mistake");
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    world.write(&mut alice, "bob", "one");
    world.settle(&mut [&mut alice, &mut bob]);
    let genuine = bob.trust("alice").unwrap().unwrap().account;
    // The server shows an account of its own, and Bob takes it for Alice's.
    let mallory = Client::create(Memory::new(), "alice", world.now, &mut world.rng);
    let fake = mallory.unwrap().devices("alice").unwrap().unwrap();
    world.update(&mut bob, "alice", &fake.encode()).unwrap();
    bob.accept_new_key("alice", &fake.account(), world.now, &mut world.rng).unwrap();
    texts(&mut bob);
    // Alice herself is heard all the same, apart, and can be taken back.
    alice.reset(&Address::new("bob", 1)).unwrap();
    world.write(&mut alice, "bob", "it is still me");
    world.settle(&mut [&mut bob]);
    assert_eq!(held(&mut bob, "alice"), [(Trust::Unaccepted, "it is still me".to_string())]);
    bob.accept_new_key("alice", &genuine, world.now, &mut world.rng).unwrap();
    assert_eq!(bob.trust("alice").unwrap().unwrap().account, genuine);
    assert_eq!(texts(&mut bob), [from("alice/1", "it is still me")]);
}
