//! Many users, many devices, a network on which nobody should rely: everything converges, and every
//! message is shown exactly once on every device that is entitled to it, and on no other.
//!
//! **Entitled** to a text are the devices that the sender's own lists name when it calls `write`:
//! those of the user it is for, and the sender's own others, which get the copy. Where the sender
//! has no list of the user yet, or waits for somebody to accept a new account key, they are those
//! that its lists name once it has one. Each text is checked to be encrypted once for a device, as
//! long as its sender is not restored.
//!
//! **Owed** is a text to every entitled device, except where one of these happens before the device
//! has opened it:
//!
//! - the device, or the one that wrote, is removed from its account: it may be shown then, or not;
//! - the sender is restored from a backup that is older than the text, and the envelope had not
//!   left the outbox, or nothing opens it when it comes, or nothing would if it were not set aside:
//!   what the sender no longer knows of, it cannot send again;
//! - the device or the sender is restored while the text is being asked for, or is set aside: a
//!   request or an answer that was received after the backup is gone with it, and nobody says it a
//!   second time;
//! - where mail is sealed, the device refused it, since its prekey is not there, or since it was
//!   restored to before it knew the sender, so that nothing says whom to ask. It is owed even so,
//!   and comes once the silence is over (sealed.md, 5), when these worlds end; but not where the
//!   device is restored afterwards, or was restored and not told so, or where something comes to
//!   the sender afterwards that the device sent before it was restored, since that may end the
//!   silence; nor where the sender is restored afterwards, or keeps it no more by then;
//!
//! and except for what a device opened after a backup that it is restored from: its app's memory is
//! that of the backup as well, so it is shown again or not at all. In one life, the backup's past
//! included, nothing is shown twice, but for what was shown of somebody whom nobody vouched for and
//! who then was not that user, as a server said that is behind (sealed.md, 4). Nothing else is
//! lost, and no event says so of anything else, but for a text that a device asked for so often
//! that its sender gave up, while what it had sent last came after all. That holds whether or not
//! the server has a stamp that shows that a store is a copy; where it has, no two envelopes of a
//! device have the same header nonce.
//!
//! Not in these worlds, since nobody could keep a promise then: two managers change the device list
//! at the same time (a device that the second one linked may have to be linked again), and a
//! manager is restored to before it renewed the account key (it held the only copy).
//!
//! The network acknowledges: what it loses stays in the outbox and goes again, what it delivers may
//! go again too. Answers to tasks are lost, late, doubled, or say that something failed. It
//! repeats, delays and reorders at will, hands out stale lists and bundles, mutates envelopes and
//! lies about where they come from. An app keeps what is refused for its rate, and gives it once
//! more. People reset sessions, and set clocks that are wrong by up to 20 hours.
#![allow(
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::unwrap_used,
    reason = "a panic is how a test fails"
)]

use subrosa::directory::Directory;
use subrosa::store::{Memory, Store, Table};
use subrosa::{
    Action, Address, Answer, Client, Completed, Delivery, DeviceList, Error, Event, Item,
    NewDevice, Policy, Progress, Received, Role, Task, UnixTime,
};

#[path = "support/network.rs"]
mod network;
#[path = "support/post.rs"]
mod post;
#[path = "support/promise.rs"]
mod promise;
#[path = "support/society.rs"]
mod society;

use network::{NOW, Seed, Seeded};
use post::{Mail, Post, take};
use society::{HOUR, Tally, World};

const STEPS: usize = 300;

/// Without `SUBROSA_WORLDS`.
const WORLDS: u64 = 12;

#[test]
fn every_message_is_shown_once_on_each_device_that_it_is_for() {
    all_worlds(Delivery::Open);
}

#[test]
fn the_same_holds_where_the_server_does_not_learn_who_writes() {
    all_worlds(Delivery::Sealed);
}

fn all_worlds(delivery: Delivery) {
    let outcomes: Vec<Result<Tally, u64>> = Seed::worlds(WORLDS, |seed| {
        let tally = std::panic::catch_unwind(|| run(seed, delivery));
        let how = if tally.is_ok() { "holds" } else { "DOES NOT HOLD" };
        eprintln!("{delivery:?} world {seed} {how}");
        tally.map_err(|_| seed)
    });
    let failed: Vec<u64> =
        outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).copied().collect();
    let tallies: Vec<Tally> = outcomes.into_iter().flatten().collect();
    let total = |count: fn(&Tally) -> usize| tallies.iter().map(count).sum::<usize>();
    println!(
        "{} worlds: {} written, {} owed, {} shown, {} excused; {} late answers; {} envelopes delivered, of which {} were asked for again and {} duplicates; \
         {} forged; {} linked, {} removed, {} of them managers; {} restored and told so, {} not told; {} rounds at most",
        tallies.len(),
        total(|tally| tally.written),
        total(|tally| tally.owed),
        total(|tally| tally.shown),
        total(|tally| tally.excused),
        total(|tally| tally.late),
        total(|tally| tally.delivered),
        total(|tally| tally.asked),
        total(|tally| tally.duplicate),
        total(|tally| tally.forged),
        total(|tally| tally.linked),
        total(|tally| tally.removed),
        total(|tally| tally.managers_removed),
        total(|tally| tally.restored[1]),
        total(|tally| tally.restored[0]),
        tallies.iter().map(|tally| tally.rounds).max().unwrap_or(0),
    );
    assert!(failed.is_empty(), "these worlds do not hold: {failed:?}");
    // Worlds in which nothing went wrong would show nothing.
    if tallies.len() >= 10 {
        let all = [
            total(|tally| tally.asked),
            total(|tally| tally.forged),
            total(|tally| tally.managers_removed),
        ];
        assert!(
            all.iter().chain(&[total(|tally| tally.restored[1])]).all(|count| *count > 0),
            "{all:?}"
        );
        assert!(total(|tally| tally.owed) > total(|tally| tally.written), "too little is owed");
    }
}

fn run(seed: u64, delivery: Delivery) -> Tally {
    let mut world = World::new(seed, delivery);
    world.run(STEPS);
    world.tally.clone()
}

// What the worlds found, each reduced to a few lines.

/// A server that does as it should.
struct Calm {
    post: Post,
    rng: Seeded,
    now: UnixTime,
}

impl Calm {
    fn new(name: &str) -> Self {
        Self {
            post: Post::default(),
            rng: Seeded::new(1, name),
            now: UnixTime::from_secs(NOW).unwrap(),
        }
    }

    fn create(&mut self, user: &str) -> Client<Memory> {
        let mut client = Client::create(Memory::new(), user, self.now, &mut self.rng).unwrap();
        self.connect(&mut client);
        client
    }

    fn connect(&mut self, client: &mut Client<Memory>) {
        self.post.settle(client, self.now, &mut self.rng);
    }

    fn link(&mut self, old: &mut Client<Memory>, role: Role) -> Client<Memory> {
        let device = NewDevice::generate(&mut self.rng);
        let grant = old.link(&device.code(), role, self.now, &mut self.rng).unwrap();
        self.connect(old);
        let mut new =
            Client::join(Memory::new(), &device, &grant, self.now, &mut self.rng).unwrap();
        self.connect(&mut new);
        new
    }

    fn remove(&mut self, by: &mut Client<Memory>, device: u32) {
        by.remove_device(device, self.now, &mut self.rng).unwrap();
        self.connect(by);
    }

    fn write(&mut self, from: &mut Client<Memory>, to: &str, text: &str) {
        from.write(to, text.as_bytes(), self.now, &mut self.rng).unwrap();
        self.connect(from);
    }

    fn sync(&mut self, client: &mut Client<Memory>) -> Vec<Received> {
        let received = self.post.fetch(client, self.now, &mut self.rng);
        self.connect(client);
        received
    }

    /// Gives a client an envelope of the other one of alice and bob, and does its tasks.
    fn receive(&mut self, client: &mut Client<Memory>, envelope: &[u8]) -> Received {
        let from = if client.address().user == "alice" { "bob" } else { "alice" };
        let from = Address::new(from, 1);
        let received = client.receive(Some(&from), envelope, self.now, &mut self.rng).unwrap();
        self.connect(client);
        received
    }

    /// Opens a copy of a store, and notices it.
    fn restore(&mut self, copy: Memory) -> Client<Memory> {
        let mut client = Client::open(copy).unwrap();
        self.connect(&mut client);
        let told = client.inbox(100).unwrap();
        assert!(
            told.iter().any(|incoming| incoming.item == Item::Event(Event::Restored)),
            "{told:?}"
        );
        client
    }

    /// Whether they come to rest, with ten minutes between the rounds.
    fn settles(&mut self, clients: &mut [&mut Client<Memory>]) -> bool {
        (0..30).any(|_| {
            self.now = self.now.after(HOUR / 6);
            let received: Vec<_> =
                clients.iter_mut().map(|client| self.sync(client).len()).collect();
            received.iter().all(|count| *count == 0)
        })
    }
}

fn texts(client: &mut Client<Memory>) -> Vec<String> {
    let all = take(client).into_iter();
    all.filter_map(|one| match one.item {
        Item::Text(text) => Some(String::from_utf8(text.text.to_vec()).unwrap()),
        Item::Event(_) => None,
        other => panic!("{other:?}"),
    })
    .collect()
}

/// The same device, and a copy of its store. The server has heard of it since the copy was made.
fn copy_of(calm: &mut Calm, client: Client<Memory>) -> (Client<Memory>, Memory) {
    let store = client.into_store();
    let mut client = Client::open(store.clone()).unwrap();
    calm.connect(&mut client);
    (client, store)
}

#[test]
fn a_stale_account_key_that_the_server_shows_again_can_be_dismissed() {
    let calm = &mut Calm::new("stale account");
    let (mut phone, mut bob) = (calm.create("alice"), calm.create("bob"));
    let stale = calm.post.list("alice").unwrap().encode();
    drop(calm.link(&mut phone, Role::Manager));
    calm.remove(&mut phone, 2);
    calm.write(&mut bob, "alice", "hi");
    let known = bob.trust("alice").unwrap().unwrap().account;
    // Refused would be as good.
    drop(bob.update_devices("alice", &stale, calm.now, &mut calm.rng));
    bob.accept_new_key("alice", &known, calm.now, &mut calm.rng).unwrap();
    assert_eq!(bob.trust("alice").unwrap().unwrap().new_account, None);
    calm.write(&mut bob, "alice", "still there?");
    calm.sync(&mut phone);
    assert_eq!(texts(&mut phone), ["hi", "still there?"]);
}

#[test]
fn two_users_who_renewed_their_account_keys_come_to_rest() {
    let calm = &mut Calm::new("two renewed");
    let (mut alice, mut bob) = (calm.create("alice"), calm.create("bob"));
    drop((calm.link(&mut alice, Role::Manager), calm.link(&mut bob, Role::Manager)));
    calm.write(&mut alice, "bob", "hi");
    calm.write(&mut bob, "alice", "hi");
    assert!(calm.settles(&mut [&mut alice, &mut bob]));
    calm.write(&mut alice, "bob", "one");
    calm.remove(&mut alice, 2);
    calm.remove(&mut bob, 2);
    calm.write(&mut alice, "bob", "two");
    assert!(calm.settles(&mut [&mut alice, &mut bob]), "they never stop talking");
}

#[test]
fn another_own_device_learns_a_new_account_key_though_there_was_no_session() {
    let calm = &mut Calm::new("no session yet");
    let mut phone = calm.create("alice");
    let (laptop, mut tablet) =
        (calm.link(&mut phone, Role::Manager), calm.link(&mut phone, Role::Device));
    drop(laptop);
    calm.remove(&mut phone, 2);
    calm.write(&mut phone, "alice", "a note");
    assert!(calm.settles(&mut [&mut phone, &mut tablet]));
    let account = phone.trust("alice").unwrap().unwrap().account;
    assert_eq!(tablet.trust("alice").unwrap().unwrap().account, account);
}

#[test]
fn another_own_device_that_is_restored_learns_the_new_account_key_again() {
    let calm = &mut Calm::new("restored before");
    let mut phone = calm.create("alice");
    let (laptop, mut tablet) =
        (calm.link(&mut phone, Role::Manager), calm.link(&mut phone, Role::Manager));
    drop(laptop);
    calm.write(&mut phone, "alice", "a note");
    calm.write(&mut tablet, "alice", "a note");
    assert!(calm.settles(&mut [&mut phone, &mut tablet]));
    let (mut tablet, backup) = copy_of(calm, tablet);
    calm.remove(&mut phone, 2);
    assert!(calm.settles(&mut [&mut phone, &mut tablet]));
    drop(tablet);
    let mut tablet = calm.restore(backup);
    calm.write(&mut tablet, "alice", "I am back");
    calm.write(&mut phone, "alice", "so am I");
    assert!(calm.settles(&mut [&mut phone, &mut tablet]));
    let account = phone.trust("alice").unwrap().unwrap().account;
    assert_eq!(tablet.trust("alice").unwrap().unwrap().account, account);
}

#[test]
fn nothing_is_written_in_a_session_of_before_a_restoration_not_even_an_answer() {
    let calm = &mut Calm::new("an answer");
    let (mut alice, mut bob) = (calm.create("alice"), calm.create("bob"));
    calm.write(&mut alice, "bob", "one");
    calm.write(&mut bob, "alice", "two");
    assert!(calm.settles(&mut [&mut alice, &mut bob]));
    calm.write(&mut bob, "alice", "three");
    calm.sync(&mut alice);
    drop(calm.link(&mut alice, Role::Device));
    // A chain is begun, so that the next key in it is the same in the copy.
    calm.write(&mut alice, "bob", "before the backup");
    let (mut alice, backup) = copy_of(calm, alice);
    calm.write(&mut alice, "bob", "after the backup");
    drop(alice);
    let mut alice = calm.restore(backup);
    // Bob knows the old device list: he is told in the session that he writes in.
    calm.write(&mut bob, "alice", "four");
    calm.sync(&mut alice);
    let from_alice =
        calm.post.past.iter().filter(|mail| mail.from.user == "alice" && mail.to.user == "bob");
    let regular = from_alice.filter(|mail| mail.envelope[19] == 1);
    let mut nonces: Vec<_> = regular.map(|mail| mail.envelope[20..32].to_vec()).collect();
    let count = nonces.len();
    nonces.sort();
    nonces.dedup();
    assert_eq!(nonces.len(), count, "the key of a header was used twice");
}

#[test]
fn what_is_asked_for_by_two_of_its_envelopes_is_shown_once() {
    let calm = &mut Calm::new("asked twice");
    let (mut alice, bob) = (calm.create("alice"), calm.create("bob"));
    let (mut bob, before) = copy_of(calm, bob);
    calm.write(&mut alice, "bob", "once");
    // Bob cannot read it, asks, and is restored: the answer comes to a device that knows nothing of
    // the session it is in.
    let mut damaged = calm.post.past[0].envelope.clone();
    *damaged.last_mut().unwrap() ^= 1;
    calm.post.mail.clear();
    let address = alice.address().clone();
    let asked = bob.receive(Some(&address), &damaged, calm.now, &mut calm.rng).unwrap();
    assert!(matches!(asked, Received::AskedAgain(_)), "{asked:?}");
    calm.sync(&mut bob);
    calm.sync(&mut alice);
    drop(bob);
    let mut bob = calm.restore(before);
    // Now it asks for the answer, and for a damaged copy of the first envelope.
    let asked = bob.receive(Some(&address), &damaged, calm.now, &mut calm.rng).unwrap();
    assert!(matches!(asked, Received::AskedAgain(_)), "{asked:?}");
    assert!(calm.settles(&mut [&mut bob, &mut alice]));
    assert_eq!(texts(&mut bob), ["once"]);
}

#[test]
fn a_stranger_is_not_taken_for_another() {
    let calm = &mut Calm::new("another name");
    let (mut alice, mut bob) = (calm.create("alice"), calm.create("bob"));
    calm.write(&mut alice, "bob", "it is alice");
    let envelope = calm.post.past[0].envelope.clone();
    let received =
        bob.receive(Some(&Address::new("carol", 1)), &envelope, calm.now, &mut calm.rng).unwrap();
    assert!(!matches!(received, Received::Incoming(_)), "{received:?}");
    assert_eq!(texts(&mut bob), Vec::<String>::new());
}

#[test]
fn what_cannot_be_opened_comes_again_though_the_account_key_was_renewed_meanwhile() {
    let calm = &mut Calm::new("renewed meanwhile");
    let (mut alice, mut bob) = (calm.create("alice"), calm.create("bob"));
    drop(calm.link(&mut bob, Role::Manager));
    calm.write(&mut alice, "bob", "first");
    let letter = calm.post.mail.get_mut(&Address::new("bob", 1)).unwrap();
    // Nothing opens it.
    *letter[0].envelope.last_mut().unwrap() ^= 1;
    calm.remove(&mut bob, 2);
    calm.sync(&mut bob);
    let list = calm.post.list("bob").unwrap().clone();
    alice.update_devices("bob", &list.encode(), calm.now, &mut calm.rng).unwrap();
    alice.accept_new_key("bob", &list.account(), calm.now, &mut calm.rng).unwrap();
    assert!(calm.settles(&mut [&mut alice, &mut bob]));
    assert_eq!(texts(&mut bob), ["first"]);
}

#[test]
fn answers_that_are_left_come_once_a_new_account_key_is_accepted() {
    let calm = &mut Calm::new("answers left");
    let (mut phone, mut bob) = (calm.create("alice"), calm.create("bob"));
    drop(calm.link(&mut phone, Role::Manager));
    let known = calm.post.list("bob").unwrap().encode();
    phone.update_devices("bob", &known, calm.now, &mut calm.rng).unwrap();
    // More than are answered at once.
    for at in 0..40 {
        calm.write(&mut bob, "alice", &at.to_string());
    }
    for Mail { from, mut envelope, .. } in calm.post.take(phone.address()) {
        *envelope.last_mut().unwrap() ^= 1;
        calm.now = calm.now.after(HOUR);
        let asked = phone.receive(Some(&from), &envelope, calm.now, &mut calm.rng).unwrap();
        assert!(matches!(asked, Received::AskedAgain(_)), "{asked:?}");
    }
    calm.connect(&mut phone);
    let requests = calm.post.take(bob.address());
    calm.remove(&mut phone, 2);
    for Mail { from, envelope, .. } in requests {
        drop(bob.receive(Some(&from), &envelope, calm.now, &mut calm.rng).unwrap());
    }
    let renewed = calm.post.list("alice").unwrap().clone();
    bob.update_devices("alice", &renewed.encode(), calm.now, &mut calm.rng).unwrap();
    calm.connect(&mut bob);
    assert_eq!(calm.post.mail[phone.address()].len(), 32);
    bob.accept_new_key("alice", &renewed.account(), calm.now, &mut calm.rng).unwrap();
    calm.connect(&mut bob);
    calm.sync(&mut phone);
    assert_eq!(texts(&mut phone).len(), 40);
}

#[test]
fn a_device_that_is_restored_twice_from_one_backup_can_be_written_to() {
    let calm = &mut Calm::new("restored twice");
    let (mut alice, bob) = (calm.create("alice"), calm.create("bob"));
    let (mut bob, backup) = copy_of(calm, bob);
    for _ in 0..2 {
        drop(bob);
        bob = calm.restore(backup.clone());
    }
    // Those of the backup are taken by others.
    let directory = calm.post.users.get_mut("bob").unwrap();
    let mut asker = 0;
    while directory.summary(1).prekeys.unwrap().one_time > 0 {
        asker += 1;
        if asker % 50 == 0 {
            calm.now = calm.now.after(HOUR);
        }
        drop(directory.bundle(1, &format!("asker {asker}"), calm.now.as_secs()).unwrap());
    }
    calm.write(&mut alice, "bob", "hi");
    let received = calm.sync(&mut bob);
    assert!(matches!(received[..], [Received::Incoming(_)]), "{received:?}");
}

#[test]
fn two_devices_that_cannot_open_what_the_other_began_come_to_talk() {
    let calm = &mut Calm::new("neither opens");
    let (mut alice, mut bob, mut carol) =
        (calm.create("alice"), calm.create("bob"), calm.create("carol"));
    let before: Vec<_> = ["alice", "bob"].map(|user| (user, calm.post.users[user].clone())).into();
    for user in ["alice", "bob"] {
        calm.write(&mut carol, user, "hi");
    }
    calm.sync(&mut alice);
    calm.sync(&mut bob);
    // The server hands out once more what Carol had.
    for (user, directory) in before {
        calm.post.users.insert(user.into(), directory);
    }
    calm.write(&mut alice, "bob", "from alice");
    calm.write(&mut bob, "alice", "from bob");
    assert!(calm.settles(&mut [&mut alice, &mut bob, &mut carol]), "they never stop talking");
    assert_eq!(texts(&mut alice), ["hi", "from bob"]);
    assert_eq!(texts(&mut bob), ["hi", "from alice"]);
}

#[test]
fn an_account_key_that_was_dismissed_does_not_come_back_with_a_request_that_was_set_aside() {
    let calm = &mut Calm::new("dismissed");
    let (_, mut bob, mut tablet, renewed) = asked_under_an_old_key(calm);
    assert!(bob.trust("alice").unwrap().unwrap().new_account.is_some());
    bob.accept_new_key("alice", &renewed.account(), calm.now, &mut calm.rng).unwrap();
    calm.connect(&mut bob);
    assert_eq!(bob.trust("alice").unwrap().unwrap().new_account, None, "it is back");
    calm.sync(&mut tablet);
    assert_eq!(texts(&mut tablet), ["hi"]);
}

#[test]
fn an_old_account_key_that_a_request_set_aside_brings_takes_no_other_ones_place() {
    let calm = &mut Calm::new("set aside before");
    let (mut phone, mut bob, mut tablet, _) = asked_under_an_old_key(calm);
    // The account key is renewed once more, and Bob hears of it from the server.
    drop(calm.link(&mut phone, Role::Manager));
    calm.remove(&mut phone, 5);
    let third = calm.post.list("alice").unwrap().clone();
    bob.update_devices("alice", &third.encode(), calm.now, &mut calm.rng).unwrap();
    for _ in 0..3 {
        calm.now = calm.now.after(7 * HOUR);
        calm.connect(&mut bob);
        let waits = bob.trust("alice").unwrap().unwrap().new_account;
        assert_eq!(waits, Some(third.account()), "the old one waits in its place");
    }
    bob.accept_new_key("alice", &third.account(), calm.now, &mut calm.rng).unwrap();
    calm.connect(&mut bob);
    // The key between is the old one, however often it is brought.
    bob.accept_new_key("alice", &third.account(), calm.now, &mut calm.rng).unwrap();
    calm.connect(&mut bob);
    assert_eq!(bob.trust("alice").unwrap().unwrap().new_account, None);
    calm.sync(&mut tablet);
    assert_eq!(texts(&mut tablet), ["hi"]);
}

#[test]
fn a_request_that_was_set_aside_has_the_server_asked_where_an_older_account_key_waits() {
    let calm = &mut Calm::new("ahead of what waits");
    let (mut phone, mut bob, [second, _]) = three_account_keys(calm);
    drop(calm.link(&mut phone, Role::Manager));
    calm.remove(&mut phone, 5);
    let newest = calm.post.list("alice").unwrap().account();
    let mut damaged = calm.post.past[0].envelope.clone();
    *damaged.last_mut().unwrap() ^= 1;
    calm.post.mail.clear();
    let asked = phone.receive(Some(bob.address()), &damaged, calm.now, &mut calm.rng).unwrap();
    assert!(matches!(asked, Received::AskedAgain(_)), "{asked:?}");
    calm.connect(&mut phone);
    assert_eq!(calm.sync(&mut bob), [Received::SetAside]);
    assert_eq!(bob.trust("alice").unwrap().unwrap().new_account, Some(newest));
    // The server is behind.
    bob.update_devices("alice", &second, calm.now, &mut calm.rng).unwrap();
    assert_ne!(bob.trust("alice").unwrap().unwrap().new_account, Some(newest));
    calm.now = calm.now.after(7 * HOUR);
    calm.connect(&mut bob);
    assert_eq!(bob.trust("alice").unwrap().unwrap().new_account, Some(newest));
}

#[test]
fn the_old_list_of_a_device_that_was_removed_is_no_reason_to_ask_the_server_again() {
    let calm = &mut Calm::new("removed");
    let (mut phone, mut bob) = (calm.create("alice"), calm.create("bob"));
    let mut laptop = calm.link(&mut phone, Role::Manager);
    calm.write(&mut bob, "alice", "hi");
    calm.write(&mut laptop, "bob", "as if I were one of them");
    let mail = calm.post.take(bob.address());
    calm.remove(&mut phone, 2);
    let renewed = calm.post.list("alice").unwrap().clone();
    bob.update_devices("alice", &renewed.encode(), calm.now, &mut calm.rng).unwrap();
    bob.accept_new_key("alice", &renewed.account(), calm.now, &mut calm.rng).unwrap();
    calm.connect(&mut bob);
    for Mail { from, envelope, .. } in mail {
        let received = bob.receive(Some(&from), &envelope, calm.now, &mut calm.rng).unwrap();
        assert_eq!(received, Received::SetAside);
    }
    calm.connect(&mut bob);
    calm.now = calm.now.after(7 * HOUR);
    let tasks = bob.tasks(100, calm.now, &mut calm.rng).unwrap();
    assert!(!tasks.iter().any(|task| matches!(task.action, Action::FetchDevices(_))), "{tasks:?}");
}

#[test]
fn what_was_set_aside_is_looked_at_once_more_however_long_a_device_was_off() {
    let calm = &mut Calm::new("off for ten days");
    let (mut bob, alice) = (calm.create("bob"), calm.create("alice"));
    // More handshakes at once than a user may cost, after the first as a stranger's.
    let store = alice.into_store();
    for at in 0..34 {
        let mut copy = Client::open(store.clone()).unwrap();
        calm.write(&mut copy, "bob", &at.to_string());
    }
    assert_eq!(calm.sync(&mut bob).last(), Some(&Received::SetAside));
    assert_eq!(texts(&mut bob).len(), 33);
    calm.now = calm.now.after(10 * 24 * HOUR);
    calm.connect(&mut bob);
    assert_eq!(texts(&mut bob), ["33"]);
}

#[test]
fn a_text_waits_for_no_copy_to_a_device_that_was_removed() {
    let calm = &mut Calm::new("a copy for nobody");
    let (mut phone, mut bob) = (calm.create("alice"), calm.create("bob"));
    calm.write(&mut bob, "alice", "hi");
    calm.sync(&mut phone);
    // It never leaves any prekeys.
    let code = NewDevice::generate(&mut calm.rng).code();
    drop(phone.link(&code, Role::Device, calm.now, &mut calm.rng).unwrap());
    calm.connect(&mut phone);
    let text = phone.write("bob", b"hello", calm.now, &mut calm.rng).unwrap();
    calm.connect(&mut phone);
    assert_eq!(phone.progress(text).unwrap(), Progress::Waiting);
    calm.remove(&mut phone, 2);
    assert_eq!(phone.progress(text).unwrap(), Progress::Sent);
}

#[test]
fn what_waits_to_be_sent_to_a_device_that_was_removed_does_not_leave() {
    for delivery in [Delivery::Open, Delivery::Sealed] {
        let calm = &mut Calm::new("waits for a removed device");
        let mut policy = Policy::default();
        policy.delivery = delivery;
        let create = |calm: &mut Calm, user| calm.create(user).with_policy(policy.clone());
        let (mut alice, mut bob) = (create(calm, "alice"), create(calm, "bob"));
        let mut tablet = calm.link(&mut bob, Role::Device).with_policy(policy.clone());
        for round in 0..4 {
            calm.write(&mut alice, "bob", &format!("{round}"));
            calm.write(&mut bob, "alice", &format!("{round}"));
            for _ in 0..2 {
                for client in [&mut alice, &mut bob, &mut tablet] {
                    calm.now = calm.now.after(11 * 60);
                    calm.sync(client);
                }
            }
        }
        assert_eq!(texts(&mut tablet).last().unwrap(), "3");
        let text = alice.write("bob", b"waits", calm.now, &mut calm.rng).unwrap();
        let copy = bob.write("alice", b"a copy waits", calm.now, &mut calm.rng).unwrap();
        bob.remove_device(2, calm.now, &mut calm.rng).unwrap();
        let list = bob.devices("bob").unwrap().unwrap().encode();
        alice.update_devices("bob", &list, calm.now, &mut calm.rng).unwrap();
        for (client, text) in [(&mut alice, text), (&mut bob, copy)] {
            assert_eq!(client.progress(text), Ok(Progress::Queued), "{delivery:?}");
            let before = calm.post.past.len();
            calm.sync(client);
            assert_eq!(client.progress(text), Ok(Progress::Sent), "{delivery:?}");
            let to: Vec<&Address> = calm.post.past[before..].iter().map(|mail| &mail.to).collect();
            assert!(!to.contains(&&Address::new("bob", 2)), "{delivery:?} {to:?}");
        }
        let undelivered = |item: &Item| matches!(item, Item::Event(Event::Undelivered { .. }));
        assert!(!alice.inbox(100).unwrap().iter().any(|incoming| undelivered(&incoming.item)));
    }
}

#[test]
fn a_text_that_waits_for_the_only_device_of_a_user_who_has_another_one_now_is_said_to_be_lost() {
    let calm = &mut Calm::new("another phone");
    let (mut alice, mut bob) = (calm.create("alice"), calm.create("bob"));
    calm.write(&mut alice, "bob", "hi");
    calm.sync(&mut bob);
    calm.write(&mut bob, "alice", "hi");
    calm.sync(&mut alice);
    let message = alice.write("bob", b"waits", calm.now, &mut calm.rng).unwrap();
    let mut phone = calm.link(&mut bob, Role::Manager);
    calm.remove(&mut phone, 1);
    let list = phone.devices("bob").unwrap().unwrap();
    alice.update_devices("bob", &list.encode(), calm.now, &mut calm.rng).unwrap();
    alice.accept_new_key("bob", &list.account(), calm.now, &mut calm.rng).unwrap();
    let (to, device) = ("bob".into(), Some(1));
    let lost = Item::Event(Event::Undelivered { message, to, device });
    assert!(alice.inbox(100).unwrap().iter().any(|incoming| incoming.item == lost));
    assert_eq!(alice.progress(message), Ok(Progress::Sent));
}

#[test]
fn what_the_server_says_of_a_device_that_was_removed_meanwhile_is_taken() {
    let calm = &mut Calm::new("removed meanwhile");
    let mut phone = calm.create("alice");
    let mut laptop = Client::open(calm.link(&mut phone, Role::Device).into_store()).unwrap();
    let tasks = laptop.tasks(1, calm.now, &mut calm.rng).unwrap();
    assert_eq!(tasks[0].action, Action::FetchSummary);
    calm.remove(&mut phone, 2);
    let list = calm.post.list("alice").unwrap().encode();
    laptop.update_devices("alice", &list, calm.now, &mut calm.rng).unwrap();
    let completed = calm.post.perform(&mut laptop, &tasks[0], calm.now, &mut calm.rng).unwrap();
    assert_eq!(completed, Completed::Handled);
}

/// Nothing shows that it is a copy: the server forgot the stamp along with the device.
#[test]
fn a_copy_of_a_removed_device_sends_nothing_whatever_list_the_server_shows() {
    let calm = &mut Calm::new("copied and removed");
    let (mut phone, mut bob) = (calm.create("alice"), calm.create("bob"));
    let mut laptop = calm.link(&mut phone, Role::Device);
    calm.write(&mut laptop, "bob", "hi");
    calm.sync(&mut bob);
    let (mut laptop, copy) = copy_of(calm, laptop);
    calm.write(&mut laptop, "bob", "under the next key");
    let stale = calm.post.list("alice").unwrap().encode();
    calm.remove(&mut phone, 2);
    let mut copy = Client::open(copy).unwrap();
    copy.write("bob", b"under the same key", calm.now, &mut calm.rng).unwrap();
    let mut asked = 0;
    for _ in 0..5 {
        for task in copy.tasks(100, calm.now, &mut calm.rng).unwrap() {
            assert!(!matches!(task.action, Action::Send { .. }), "{task:?}");
            if let Action::FetchDevices(_) = task.action {
                let answer = Answer::Devices(&stale);
                drop(copy.complete(&task.id, answer, calm.now, &mut calm.rng).unwrap());
                asked += 1;
            } else {
                drop(calm.post.perform(&mut copy, &task, calm.now, &mut calm.rng).unwrap());
            }
        }
        calm.now = calm.now.after(HOUR / 6);
    }
    assert!(asked > 1, "it does not ask again");
    calm.connect(&mut copy);
    assert!(copy.inbox(9).unwrap().iter().any(|one| one.item == Item::Event(Event::Unlinked)));
}

#[test]
fn what_a_device_wrote_leaves_once_a_server_that_lost_everything_took_its_upload() {
    let calm = &mut Calm::new("a server that lost everything");
    let (mut alice, mut bob) = (calm.create("alice"), calm.create("bob"));
    calm.write(&mut alice, "bob", "hi");
    calm.post.users.clear();
    alice.write("bob", b"still there?", calm.now, &mut calm.rng).unwrap();
    alice.connected().unwrap();
    bob.connected().unwrap();
    calm.connect(&mut bob);
    let tasks = alice.tasks(1, calm.now, &mut calm.rng).unwrap();
    drop(calm.post.perform(&mut alice, &tasks[0], calm.now, &mut calm.rng).unwrap());
    let tasks = alice.tasks(100, calm.now, &mut calm.rng).unwrap();
    assert!(matches!(tasks.as_slice(), [Task { action: Action::Upload(_), .. }]), "{tasks:?}");
    calm.post.perform(&mut alice, &tasks[0], calm.now, &mut calm.rng).unwrap();
    calm.connect(&mut alice);
    calm.sync(&mut bob);
    assert_eq!(texts(&mut bob), ["hi", "still there?"]);
}

#[test]
fn a_copy_whose_uploads_are_refused_is_noticed_however_often_it_tried() {
    let calm = &mut Calm::new("refused uploads");
    let bob = calm.create("bob");
    let stale = calm.post.users["bob"].summary(1).encode();
    let (bob, copy) = copy_of(calm, bob);
    // It made prekeys that the copy does not have.
    let mut policy = Policy::default();
    (policy.prekeys_low, policy.prekeys_target) = (200, 200);
    let mut bob = Client::open(bob.into_store()).unwrap().with_policy(policy);
    calm.connect(&mut bob);
    // For a while, the server does not say what it has.
    let mut copy = Client::open(copy).unwrap();
    let mut refused = 0;
    for _ in 0..20 {
        for task in copy.tasks(100, calm.now, &mut calm.rng).unwrap() {
            refused += usize::from(matches!(task.action, Action::Upload(_)));
            match task.action {
                Action::FetchSummary => {
                    let answer = Answer::Summary(&stale);
                    copy.complete(&task.id, answer, calm.now, &mut calm.rng).unwrap();
                }
                _ => drop(calm.post.perform(&mut copy, &task, calm.now, &mut calm.rng).unwrap()),
            }
        }
        calm.now = calm.now.after(HOUR / 6);
    }
    assert!(refused > 5, "{refused}");
    calm.restore(copy.into_store());
}

#[test]
fn a_refused_upload_is_followed_by_a_look_at_what_the_server_has() {
    let calm = &mut Calm::new("a look first");
    let mut bob = Client::open(calm.create("bob").into_store()).unwrap();
    let tasks = bob.tasks(1, calm.now, &mut calm.rng).unwrap();
    calm.post.perform(&mut bob, &tasks[0], calm.now, &mut calm.rng).unwrap();
    let tasks = bob.tasks(1, calm.now, &mut calm.rng).unwrap();
    assert!(matches!(tasks[0].action, Action::Upload(_)), "{tasks:?}");
    bob.complete(&tasks[0].id, Answer::Failed, calm.now, &mut calm.rng).unwrap();
    calm.now = calm.now.after(61);
    let tasks = bob.tasks(100, calm.now, &mut calm.rng).unwrap();
    assert!(matches!(&tasks[..], [Task { action: Action::FetchSummary, .. }]), "{tasks:?}");
}

#[test]
fn what_a_copy_asked_for_before_it_was_noticed_is_asked_for_again() {
    let calm = &mut Calm::new("asked by a copy");
    let (mut alice, mut bob) = (calm.create("alice"), calm.create("bob"));
    calm.write(&mut bob, "alice", "a session to ask in");
    let stale = calm.post.users["bob"].summary(1).encode();
    let (bob, before) = copy_of(calm, bob);
    drop(bob);
    calm.write(&mut alice, "bob", "hi");
    let mut damaged = calm.post.past.last().unwrap().envelope.clone();
    *damaged.last_mut().unwrap() ^= 1;
    calm.post.mail.clear();
    // The server's first word does not say that this is a copy.
    let mut bob = Client::open(before).unwrap();
    let tasks = bob.tasks(1, calm.now, &mut calm.rng).unwrap();
    bob.complete(&tasks[0].id, Answer::Summary(&stale), calm.now, &mut calm.rng).unwrap();
    let asked = bob.receive(Some(alice.address()), &damaged, calm.now, &mut calm.rng).unwrap();
    assert!(matches!(asked, Received::AskedAgain(_)), "{asked:?}");
    let mut bob = calm.restore(bob.into_store());
    assert!(calm.settles(&mut [&mut alice, &mut bob]));
    assert_eq!(texts(&mut bob), ["hi"]);
}

#[test]
fn what_an_answer_shows_to_be_known_already_is_not_asked_for_a_day_later() {
    let calm = &mut Calm::new("known already");
    let (mut alice, mut bob) = (calm.create("alice"), calm.create("bob"));
    calm.write(&mut alice, "bob", "once");
    let first = calm.post.take(bob.address()).remove(0).envelope;
    let damaged = |envelope: &[u8]| {
        let mut damaged = envelope.to_vec();
        *damaged.last_mut().unwrap() ^= 1;
        damaged
    };
    let asked = calm.receive(&mut bob, &damaged(&first));
    assert!(matches!(asked, Received::AskedAgain(_)), "{asked:?}");
    calm.sync(&mut alice);
    // The first envelope comes after all, so that its answer is one too many; and that is damaged.
    let received = calm.receive(&mut bob, &first);
    assert!(matches!(received, Received::Incoming(_)), "{received:?}");
    let answer = calm.post.take(bob.address()).remove(0).envelope;
    let asked = calm.receive(&mut bob, &damaged(&answer));
    assert!(matches!(asked, Received::AskedAgain(_)), "{asked:?}");
    calm.sync(&mut alice);
    assert_eq!(calm.sync(&mut bob), [Received::Duplicate]);
    assert!(calm.settles(&mut [&mut alice, &mut bob]));
    calm.now = calm.now.after(25 * HOUR);
    calm.connect(&mut bob);
    assert_eq!(calm.sync(&mut alice), []);
    assert_eq!(texts(&mut bob), ["once"]);
}

/// Alice renewed her account key twice, and Bob accepted the newest one. Her tablet knows the one
/// between, of which he never heard, and asked him for a text under it: that is set aside. Returns
/// her phone, Bob, the tablet, and her list under the newest key.
fn asked_under_an_old_key(
    calm: &mut Calm,
) -> (Client<Memory>, Client<Memory>, Client<Memory>, DeviceList) {
    let (mut phone, mut bob) = (calm.create("alice"), calm.create("bob"));
    let (laptop, mut tablet) =
        (calm.link(&mut phone, Role::Manager), calm.link(&mut phone, Role::Device));
    drop(laptop);
    calm.write(&mut bob, "alice", "hi");
    calm.remove(&mut phone, 2);
    let between = calm.post.list("alice").unwrap().clone();
    let (now, own) = (calm.now, between.account());
    tablet.update_devices("alice", &between.encode(), now, &mut calm.rng).unwrap();
    tablet.accept_new_key("alice", &own, now, &mut calm.rng).unwrap();
    drop(calm.link(&mut phone, Role::Manager));
    calm.remove(&mut phone, 4);
    let renewed = calm.post.list("alice").unwrap().clone();
    bob.update_devices("alice", &renewed.encode(), now, &mut calm.rng).unwrap();
    bob.accept_new_key("alice", &renewed.account(), now, &mut calm.rng).unwrap();
    let to_tablet = |mail: &&Mail| mail.to == *tablet.address();
    let mut damaged = calm.post.past.iter().find(to_tablet).unwrap().envelope.clone();
    *damaged.last_mut().unwrap() ^= 1;
    calm.post.mail.clear();
    let asked = tablet.receive(Some(bob.address()), &damaged, calm.now, &mut calm.rng).unwrap();
    assert!(matches!(asked, Received::AskedAgain(_)), "{asked:?}");
    calm.connect(&mut tablet);
    assert_eq!(calm.sync(&mut bob), [Received::SetAside]);
    (phone, bob, tablet, renewed)
}

/// Alice has the third account key, and each certified the next. A tablet that she linked under the
/// second one wrote to Bob then. Returns her lists under the two.
fn three_account_keys(calm: &mut Calm) -> (Client<Memory>, Client<Memory>, [Vec<u8>; 2]) {
    let (mut phone, mut bob) = (calm.create("alice"), calm.create("bob"));
    drop(calm.link(&mut phone, Role::Manager));
    calm.write(&mut bob, "alice", "hi");
    calm.remove(&mut phone, 2);
    let mut tablet = calm.link(&mut phone, Role::Device);
    drop(calm.link(&mut phone, Role::Manager));
    let second = calm.post.list("alice").unwrap().encode();
    calm.write(&mut tablet, "bob", "under the second key");
    calm.remove(&mut phone, 4);
    let third = calm.post.list("alice").unwrap().encode();
    (phone, bob, [second, third])
}

/// Bob accepted Alice's new account key while a text that she wrote before was on its way: with the
/// list that it encloses nobody asks him to decide once more, about the old key. The server may.
#[test]
fn mail_of_before_a_new_account_key_was_accepted_does_not_bring_the_old_one_back() {
    let calm = &mut Calm::new("on its way");
    let (mut phone, mut bob) = (calm.create("alice"), calm.create("bob"));
    drop(calm.link(&mut phone, Role::Manager));
    calm.write(&mut bob, "alice", "hi");
    let old = calm.post.list("alice").unwrap().clone();
    calm.write(&mut phone, "bob", "before");
    calm.remove(&mut phone, 2);
    let renewed = calm.post.list("alice").unwrap().clone();
    let now = calm.now;
    bob.update_devices("alice", &renewed.encode(), now, &mut calm.rng).unwrap();
    bob.accept_new_key("alice", &renewed.account(), now, &mut calm.rng).unwrap();
    calm.sync(&mut bob);
    assert_eq!(texts(&mut bob), ["before"]);
    assert_eq!(bob.trust("alice").unwrap().unwrap().new_account, None);
    bob.update_devices("alice", &old.encode(), now, &mut calm.rng).unwrap();
    assert_eq!(bob.trust("alice").unwrap().unwrap().new_account, Some(old.account()));
}

#[test]
fn a_text_that_is_held_stays_when_its_account_key_is_followed_by_another() {
    let calm = &mut Calm::new("held");
    let (phone, mut bob, [_, third]) = three_account_keys(calm);
    assert_eq!(calm.sync(&mut bob), [Received::Held]);
    let now = calm.now;
    bob.update_devices("alice", &third, now, &mut calm.rng).unwrap();
    bob.accept_new_key("alice", &calm.post.list("alice").unwrap().account(), now, &mut calm.rng)
        .unwrap();
    drop(phone);
    assert_eq!(texts(&mut bob), ["under the second key"]);
}

#[test]
fn a_text_that_is_held_stays_though_a_key_between_its_own_and_the_newest_never_came() {
    let calm = &mut Calm::new("a key between");
    let (mut phone, mut bob, _) = three_account_keys(calm);
    drop(calm.link(&mut phone, Role::Manager));
    calm.remove(&mut phone, 5);
    let fourth = calm.post.list("alice").unwrap().clone();
    assert_eq!(calm.sync(&mut bob), [Received::Held]);
    let now = calm.now;
    bob.update_devices("alice", &fourth.encode(), now, &mut calm.rng).unwrap();
    bob.accept_new_key("alice", &fourth.account(), now, &mut calm.rng).unwrap();
    assert_eq!(texts(&mut bob), ["under the second key"]);
}

#[test]
fn what_an_own_device_wrote_under_a_new_account_key_is_shown_once_a_manager_brings_that_key() {
    let calm = &mut Calm::new("held of the own account");
    let (mut phone, bob) = (calm.create("alice"), calm.create("bob"));
    let mut laptop = calm.link(&mut phone, Role::Manager);
    drop(calm.link(&mut phone, Role::Manager));
    calm.write(&mut phone, "bob", "hi");
    calm.sync(&mut laptop);
    assert_eq!(texts(&mut laptop), ["hi"]);
    calm.remove(&mut phone, 3);
    let mut tablet = calm.link(&mut phone, Role::Device);
    calm.write(&mut phone, "bob", "from the phone");
    let of_the_phone = calm.post.take(laptop.address());
    calm.write(&mut tablet, "bob", "from the tablet");
    assert!(calm.sync(&mut laptop).contains(&Received::Held));
    assert_eq!(texts(&mut laptop), Vec::<String>::new());
    for mail in of_the_phone {
        drop(laptop.receive(Some(&mail.from), &mail.envelope, calm.now, &mut calm.rng).unwrap());
    }
    assert_eq!(sorted(texts(&mut laptop)), ["from the phone", "from the tablet"]);
    drop(bob);
}

/// A person need not decide: what is kept aside for the decision is gone by then.
#[test]
fn what_is_set_aside_while_nobody_decides_is_not_kept_for_good() {
    let calm = &mut Calm::new("nobody decides");
    let (_phone, mut bob, _tablet, _) = asked_under_an_old_key(calm);
    let aside = |bob: Client<Memory>| {
        let mut store = bob.into_store();
        let all = store.transact(|tx| tx.scan(Table::Inbox, &[3], 100)).unwrap();
        let all: Vec<(Vec<u8>, _)> = all;
        (Client::open(store).unwrap(), all.len())
    };
    let (kept, count) = aside(bob);
    assert_eq!(count, 1);
    bob = kept;
    for _ in 0..9 {
        calm.now = calm.now.after(24 * 60 * 60);
        calm.connect(&mut bob);
    }
    assert_eq!(aside(bob).1, 0);
}

#[test]
fn an_account_key_that_was_followed_by_another_does_not_take_its_place() {
    let calm = &mut Calm::new("followed");
    let (_, mut bob, [second, third]) = three_account_keys(calm);
    bob.update_devices("alice", &third, calm.now, &mut calm.rng).unwrap();
    let newest = bob.trust("alice").unwrap().unwrap().new_account;
    let stale = bob.update_devices("alice", &second, calm.now, &mut calm.rng);
    assert_eq!(stale, Err(Error::StaleDeviceList));
    assert_eq!(bob.trust("alice").unwrap().unwrap().new_account, newest);
}

#[test]
fn what_a_stranger_sent_is_asked_for_though_the_server_is_behind_with_the_list() {
    let calm = &mut Calm::new("behind");
    let (mut phone, mut bob) = (calm.create("alice"), calm.create("bob"));
    let behind = calm.post.users["alice"].clone();
    let mut laptop = calm.link(&mut phone, Role::Device);
    let newest = calm.post.users["alice"].clone();
    calm.write(&mut laptop, "bob", "hi");
    let mut damaged = calm.post.past.last().unwrap().envelope.clone();
    *damaged.last_mut().unwrap() ^= 1;
    calm.post.mail.clear();
    let asked = bob.receive(Some(laptop.address()), &damaged, calm.now, &mut calm.rng).unwrap();
    assert!(matches!(asked, Received::AskedAgain(_)), "{asked:?}");
    calm.post.users.insert("alice".into(), behind);
    calm.connect(&mut bob);
    calm.post.users.insert("alice".into(), newest);
    bob.update_devices(
        "alice",
        &calm.post.list("alice").unwrap().encode(),
        calm.now,
        &mut calm.rng,
    )
    .unwrap();
    assert!(calm.settles(&mut [&mut bob, &mut laptop]));
    assert_eq!(texts(&mut bob), ["hi"]);
}

#[test]
fn while_an_account_key_waits_what_cannot_be_opened_has_the_server_asked_for_a_newer_one() {
    let calm = &mut Calm::new("a newer one");
    let (mut phone, mut bob, [second, _]) = three_account_keys(calm);
    bob.update_devices("alice", &second, calm.now, &mut calm.rng).unwrap();
    calm.write(&mut phone, "bob", "hi");
    let mut damaged = calm.post.past.last().unwrap().envelope.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let asked = bob.receive(Some(phone.address()), &damaged, calm.now, &mut calm.rng).unwrap();
    assert!(matches!(asked, Received::AskedAgain(_)), "{asked:?}");
    calm.connect(&mut bob);
    let newest = calm.post.list("alice").unwrap().account();
    assert_eq!(bob.trust("alice").unwrap().unwrap().new_account, Some(newest));
}

#[test]
fn a_request_of_a_device_that_is_in_doubt_is_answered_once_people_decide() {
    let calm = &mut Calm::new("in doubt");
    let (mut phone, mut bob) = (calm.create("alice"), calm.create("bob"));
    drop(calm.link(&mut phone, Role::Manager));
    let stale = calm.post.list("alice").unwrap().encode();
    calm.remove(&mut phone, 2);
    let mut tablet = calm.link(&mut phone, Role::Device);
    calm.write(&mut bob, "alice", "hi");
    let to_tablet = |mail: &&Mail| mail.to == *tablet.address();
    let mut damaged = calm.post.past.iter().find(to_tablet).unwrap().envelope.clone();
    *damaged.last_mut().unwrap() ^= 1;
    calm.post.mail.clear();
    drop(tablet.receive(Some(bob.address()), &damaged, calm.now, &mut calm.rng).unwrap());
    calm.connect(&mut tablet);
    // The server shows an account key that does not count any more, nor have the tablet.
    bob.update_devices("alice", &stale, calm.now, &mut calm.rng).unwrap();
    assert_eq!(calm.sync(&mut bob), [Received::SetAside]);
    let known = bob.trust("alice").unwrap().unwrap().account;
    bob.accept_new_key("alice", &known, calm.now, &mut calm.rng).unwrap();
    calm.connect(&mut bob);
    calm.sync(&mut tablet);
    assert_eq!(texts(&mut tablet), ["hi"]);
}

#[test]
fn requests_that_there_is_no_room_for_wait() {
    let calm = &mut Calm::new("no room");
    let (mut alice, mut bob) = (calm.create("alice"), calm.create("bob"));
    for text in 0..12 {
        calm.write(&mut alice, "bob", &text.to_string());
    }
    let mail = calm.post.take(bob.address());
    // Bob can neither open them nor be written to.
    let server = calm.post.users["bob"].clone();
    for Mail { from, mut envelope, .. } in mail {
        *envelope.last_mut().unwrap() ^= 1;
        drop(bob.receive(Some(&from), &envelope, calm.now, &mut calm.rng).unwrap());
        calm.connect(&mut bob);
    }
    alice.reset(bob.address()).unwrap();
    // Whoever has nothing for them cannot write to Bob either.
    calm.post.users.insert("bob".into(), Directory::default());
    calm.sync(&mut alice);
    calm.post.users.insert("bob".into(), server);
    assert!(calm.settles(&mut [&mut alice, &mut bob]));
    assert_eq!(texts(&mut bob).len(), 12);
}

/// A device whose sessions cannot be read any more.
fn without_sessions(client: Client<Memory>) -> Client<Memory> {
    let mut store = client.into_store();
    let lost: Result<(), Error> = store.transact(|tx| {
        let rows = tx.scan(Table::Session, b"", 100)?;
        rows.iter().try_for_each(|(key, _)| tx.delete(Table::Session, key))
    });
    lost.unwrap();
    Client::open(store).unwrap()
}

/// What Bob cannot open comes little by little, and so do the answers: they are in sessions that he
/// began to ask in long ago.
#[test]
fn two_whose_mail_takes_longer_than_it_takes_to_ask_again_come_to_talk() {
    for (minutes, late) in [(10, 1), (10, 3), (60, 3), (8 * 60, 3)] {
        let calm = &mut Calm::new("late mail");
        let (mut alice, mut bob) = (calm.create("alice"), calm.create("bob"));
        calm.write(&mut alice, "bob", "hello");
        calm.sync(&mut bob);
        calm.write(&mut bob, "alice", "hello");
        calm.sync(&mut alice);
        let mut clients = [alice, without_sessions(bob)];
        let mut under_way = Vec::new();
        let mut all = vec!["hello".to_owned()];
        let is_over = (0..60).any(|meeting| {
            calm.now = calm.now.after(60 * minutes);
            for (at, to) in [(0, "bob"), (1, "alice")] {
                if meeting < 5 {
                    calm.write(&mut clients[at], to, &meeting.to_string());
                }
                let client = &mut clients[at];
                under_way.extend(
                    calm.post.take(client.address()).into_iter().map(|mail| (meeting, mail)),
                );
                let is_due = |(sent, mail): &mut (usize, Mail)| {
                    *sent + late <= meeting && mail.to == *client.address()
                };
                let due: Vec<Mail> =
                    under_way.extract_if(.., is_due).map(|(_, mail)| mail).collect();
                for mail in due {
                    drop(calm.receive(client, &mail.envelope));
                }
            }
            meeting >= 5 && under_way.is_empty()
        });
        assert!(is_over, "{late} times {minutes} minutes: they never stop talking");
        all.extend((0..5).map(|meeting| meeting.to_string()));
        for client in &mut clients {
            assert_eq!(
                sorted(texts(client)),
                sorted(all.clone()),
                "{late} times {minutes} minutes"
            );
        }
    }
}

/// Alice answers in Bob's asking session, and writes there; Bob writes in another of his. When they
/// meet, his asking session is too old to ask in, and what he cannot open has him begin one anew.
#[test]
fn two_that_meet_every_ten_minutes_with_mail_under_way_are_healed_in_four_meetings() {
    for order in [[0, 1], [1, 0]] {
        let calm = &mut Calm::new("ten minutes");
        let (mut alice, mut bob) = (calm.create("alice"), calm.create("bob"));
        calm.write(&mut alice, "bob", "hello");
        calm.sync(&mut bob);
        calm.write(&mut bob, "alice", "hello");
        calm.sync(&mut alice);
        let mut noise = calm.post.past[0].envelope.clone();
        noise[2..18].reverse();
        calm.write(&mut alice, "bob", "one");
        calm.write(&mut alice, "bob", "two");
        let mut clients = [alice, without_sessions(bob)];
        let asked = calm.receive(&mut clients[1], &noise);
        assert!(matches!(asked, Received::AskedAgain(_)), "{asked:?}");
        let one = calm.post.mail.get_mut(&Address::new("bob", 1)).unwrap().pop_front().unwrap();
        let asked = calm.receive(&mut clients[1], &one.envelope);
        assert!(matches!(asked, Received::AskedAgain(_)), "{asked:?}");
        // Of the two requests, the later one comes first.
        let later = calm.post.mail.get_mut(&Address::new("alice", 1)).unwrap().pop_back().unwrap();
        assert_eq!(calm.receive(&mut clients[0], &later.envelope), Received::Handled);
        for text in ["three", "four", "five"] {
            calm.write(&mut clients[0], "bob", text);
            calm.write(&mut clients[1], "alice", text);
        }
        let meetings = (0..30).find(|_| {
            calm.now = calm.now.after(HOUR / 6);
            let came = order.map(|at: usize| {
                let mail = calm.post.take(clients[at].address());
                for letter in &mail {
                    drop(calm.receive(&mut clients[at], &letter.envelope));
                }
                mail.len()
            });
            came == [0, 0]
        });
        assert!(meetings.is_some_and(|meetings| meetings <= 4), "{meetings:?}");
        let [alice, bob] = &mut clients;
        let all = ["hello", "one", "two", "three", "four", "five"];
        assert_eq!(sorted(texts(bob)), sorted(all.map(String::from).into()));
        assert_eq!(texts(alice), ["hello", "three", "four", "five"]);
    }
}

fn sorted(mut all: Vec<String>) -> Vec<String> {
    all.sort();
    all
}
