//! Many users, many devices, a network on which nobody should rely: everything converges, and every message is shown exactly once on
//! every device that is entitled to it, and on no other.
//!
//! **Entitled** to a message are the devices that the sender's own lists name when it calls `encrypt`: those of the user it is for, and the
//! sender's own others, which get the copy; `encrypt_to_reachable` leaves out those that it says it missed. Each call is checked to put
//! one envelope for each of them into the outbox, and no other.
//!
//! **Owed** is a message to every entitled device, except where one of these happens before the device has opened it:
//!
//! - the device, or the one that wrote, is removed from its account: it may be shown then, or not;
//! - the sender is restored from a backup that is older than the message, and the envelope had not left the outbox, or nothing opens it
//!   when it comes: what the sender no longer knows of, it cannot send again;
//! - the device or the sender is restored while the message is being asked for: a request or an answer that was received after the backup
//!   is gone with it, and nobody says it a second time;
//!
//! and except for what a device opened after a backup that it is restored from: its app's memory is that of the backup as well, so it
//! is shown again or not at all. In one life, the backup's past included, nothing is shown twice. Nothing else is lost, whether or not the app
//! gives the hint to `open_after`; with it, no two envelopes of a device have the same header nonce.
//!
//! Not in these worlds, since nobody could keep a promise then: two managers change the device list at the same time (a server lets the
//! first one in, and a manager takes in the server's list before it makes the next), and a manager is restored to before it renewed the account
//! key (it held the only copy).
//!
//! The network acknowledges: what it loses stays in the outbox and goes again, what it delivers may go again too. It repeats, delays and
//! reorders at will, hands out stale lists and bundles, mutates envelopes and lies about where they come from. An app keeps what is refused
//! for want of a device list or for its rate, and gives it once more.
#![allow(
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::unwrap_used,
    reason = "a panic is how a test fails"
)]

use subrosa::store::Memory;
use subrosa::{Address, Client, NewDevice, Received};

#[path = "support/network.rs"]
mod network;
#[path = "support/promise.rs"]
mod promise;
#[path = "support/server.rs"]
mod server;
#[path = "support/society.rs"]
mod society;

use network::{NOW, Seed, Seeded};
use server::{Server, connect, fetch_devices, flush, sync, take, write};
use society::{HOUR, Tally, World};

const STEPS: usize = 300;

/// Without `SUBROSA_WORLDS`.
const WORLDS: u64 = 12;

#[test]
fn every_message_is_shown_once_on_each_device_that_it_is_for() {
    let worlds = std::env::var("SUBROSA_WORLDS").map_or(WORLDS, |worlds| worlds.parse().unwrap());
    let seeds = Seed::chosen_or(1..=worlds);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let share = |thread| seeds.iter().skip(thread).step_by(threads);
        let runs: Vec<_> = (0..threads)
            .map(|thread| scope.spawn(move || share(thread).map(|seed| run(*seed)).collect::<Vec<_>>()))
            .collect();
        runs.into_iter().flat_map(|run| run.join().unwrap()).collect()
    });
    let total = |count: fn(&Tally) -> usize| tallies.iter().map(count).sum::<usize>();
    println!(
        "{} worlds: {} written, {} owed, {} shown; {} envelopes delivered, of which {} were asked for again and {} duplicates; \
         {} forged; {} linked, {} removed, {} of them managers; {} restored with the hint, {} without; {} rounds at most",
        tallies.len(),
        total(|tally| tally.written),
        total(|tally| tally.owed),
        total(|tally| tally.shown),
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
    // Worlds in which nothing went wrong would show nothing.
    if tallies.len() >= 10 {
        let all =
            [total(|tally| tally.asked), total(|tally| tally.forged), total(|tally| tally.managers_removed)];
        assert!(all.iter().chain(&[total(|tally| tally.restored[1])]).all(|count| *count > 0), "{all:?}");
        assert!(total(|tally| tally.owed) > total(|tally| tally.written), "too little is owed");
    }
}

fn run(seed: u64) -> Tally {
    let mut world = World::new(seed);
    world.run(STEPS);
    world.tally.clone()
}

// What the worlds found, each reduced to a few lines.

/// A server that does as it should.
struct Calm {
    server: Server,
    rng: Seeded,
    now: u64,
}

impl Calm {
    fn new(name: &str) -> Self {
        Self { server: Server::default(), rng: Seeded::new(1, name), now: NOW }
    }

    fn create(&mut self, user: &str) -> Client<Memory> {
        let mut client = Client::create(Memory::new(), user, self.now, &mut self.rng).unwrap();
        connect(&mut client, &mut self.server, self.now, &mut self.rng).unwrap();
        client
    }

    fn link(&mut self, old: &mut Client<Memory>, manager: bool) -> Client<Memory> {
        let device = NewDevice::generate(&mut self.rng);
        let grant = old.link(&device.code(), manager, self.now, &mut self.rng).unwrap();
        connect(old, &mut self.server, self.now, &mut self.rng).unwrap();
        let mut new = Client::join(Memory::new(), &device, &grant, self.now, &mut self.rng).unwrap();
        connect(&mut new, &mut self.server, self.now, &mut self.rng).unwrap();
        new
    }

    fn remove(&mut self, by: &mut Client<Memory>, device: u32) {
        by.remove_device(device, self.now, &mut self.rng).unwrap();
        connect(by, &mut self.server, self.now, &mut self.rng).unwrap();
    }

    fn write(&mut self, from: &mut Client<Memory>, to: &str, text: &str) {
        write(from, &mut self.server, (to, text.as_bytes()), self.now, &mut self.rng).unwrap();
        flush(from, &mut self.server).unwrap();
    }

    fn sync(&mut self, client: &mut Client<Memory>) -> Vec<Received> {
        sync(client, &mut self.server, self.now, &mut self.rng).unwrap()
    }

    /// Whether they come to rest, with ten minutes between the rounds.
    fn settles(&mut self, clients: &mut [&mut Client<Memory>]) -> bool {
        (0..30).any(|_| {
            self.now += HOUR / 6;
            let received: Vec<_> = clients.iter_mut().map(|client| self.sync(client).len()).collect();
            received.iter().all(|count| *count == 0)
        })
    }
}

fn texts(client: &mut Client<Memory>) -> Vec<String> {
    take(client).unwrap().into_iter().map(|one| String::from_utf8(one.text.to_vec()).unwrap()).collect()
}

fn copy_of(client: Client<Memory>) -> (Client<Memory>, Memory) {
    let store = client.into_store();
    (Client::open(store.clone()).unwrap(), store)
}

#[test]
fn a_stale_account_key_that_the_server_shows_again_can_be_dismissed() {
    let calm = &mut Calm::new("stale account");
    let (mut phone, mut bob) = (calm.create("alice"), calm.create("bob"));
    let stale = calm.server.devices["alice"].encode();
    drop(calm.link(&mut phone, true));
    calm.remove(&mut phone, 2);
    calm.write(&mut bob, "alice", "hi");
    let known = bob.safety("alice").unwrap().unwrap().account;
    // Refused would be as good.
    drop(bob.take_devices("alice", &stale));
    bob.accept("alice", &known).unwrap();
    assert_eq!(bob.safety("alice").unwrap().unwrap().changed_to, None);
    calm.write(&mut bob, "alice", "still there?");
}

#[test]
fn two_users_who_renewed_their_account_keys_come_to_rest() {
    let calm = &mut Calm::new("two renewed");
    let (mut alice, mut bob) = (calm.create("alice"), calm.create("bob"));
    drop((calm.link(&mut alice, true), calm.link(&mut bob, true)));
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
fn ones_own_device_learns_a_new_account_key_though_there_was_no_session() {
    let calm = &mut Calm::new("no session yet");
    let mut phone = calm.create("alice");
    let (laptop, mut tablet) = (calm.link(&mut phone, true), calm.link(&mut phone, false));
    drop(laptop);
    calm.remove(&mut phone, 2);
    calm.write(&mut phone, "alice", "a note");
    assert!(calm.settles(&mut [&mut phone, &mut tablet]));
    let account = phone.safety("alice").unwrap().unwrap().account;
    assert_eq!(tablet.safety("alice").unwrap().unwrap().account, account);
}

#[test]
fn ones_own_device_that_is_restored_learns_the_new_account_key_again() {
    let calm = &mut Calm::new("restored before");
    let mut phone = calm.create("alice");
    let (laptop, mut tablet) = (calm.link(&mut phone, true), calm.link(&mut phone, true));
    drop(laptop);
    calm.write(&mut phone, "alice", "a note");
    calm.write(&mut tablet, "alice", "a note");
    assert!(calm.settles(&mut [&mut phone, &mut tablet]));
    let (mut tablet, backup) = copy_of(tablet);
    calm.remove(&mut phone, 2);
    flush(&mut phone, &mut calm.server).unwrap();
    assert!(calm.settles(&mut [&mut phone, &mut tablet]));
    let generation = tablet.generation().unwrap();
    let (mut tablet, _) = Client::open_after(backup, generation, calm.now, &mut calm.rng).unwrap();
    connect(&mut tablet, &mut calm.server, calm.now, &mut calm.rng).unwrap();
    calm.write(&mut tablet, "alice", "I am back");
    calm.write(&mut phone, "alice", "so am I");
    assert!(calm.settles(&mut [&mut phone, &mut tablet]));
    let account = phone.safety("alice").unwrap().unwrap().account;
    assert_eq!(tablet.safety("alice").unwrap().unwrap().account, account);
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
    drop(calm.link(&mut alice, false));
    // A chain is begun, so that the next key in it is the same in the copy.
    calm.write(&mut alice, "bob", "before the backup");
    let (mut alice, backup) = copy_of(alice);
    calm.write(&mut alice, "bob", "after the backup");
    let generation = alice.generation().unwrap();
    let (mut alice, _) = Client::open_after(backup, generation, calm.now, &mut calm.rng).unwrap();
    // Bob knows the old device list: he is told in the session that he writes in.
    calm.write(&mut bob, "alice", "four");
    calm.sync(&mut alice);
    let from_alice =
        calm.server.wire.iter().filter(|letter| letter.0.user == "alice" && letter.1.user == "bob");
    let regular = from_alice.filter(|letter| letter.2[19] == 1);
    let mut nonces: Vec<_> = regular.map(|letter| letter.2[20..32].to_vec()).collect();
    let count = nonces.len();
    nonces.sort();
    nonces.dedup();
    assert_eq!(nonces.len(), count, "the key of a header was used twice");
}

#[test]
fn what_is_asked_for_by_two_of_its_envelopes_is_shown_once() {
    let calm = &mut Calm::new("asked twice");
    let (mut alice, bob) = (calm.create("alice"), calm.create("bob"));
    let (mut bob, before) = copy_of(bob);
    calm.write(&mut alice, "bob", "once");
    // Bob cannot read it, asks, and is restored: the answer comes to a device that knows nothing of the session it is in.
    let mut damaged = calm.server.wire[0].2.clone();
    *damaged.last_mut().unwrap() ^= 1;
    calm.server.mail.clear();
    let address = alice.address().clone();
    bob.receive(&address, &damaged, calm.now, &mut calm.rng).unwrap();
    calm.sync(&mut bob);
    calm.sync(&mut alice);
    let generation = bob.generation().unwrap();
    let (mut bob, _) = Client::open_after(before, generation, calm.now, &mut calm.rng).unwrap();
    connect(&mut bob, &mut calm.server, calm.now, &mut calm.rng).unwrap();
    // Now it asks for the answer, and for a damaged copy of the first envelope.
    bob.receive(&address, &damaged, calm.now, &mut calm.rng).unwrap();
    assert!(calm.settles(&mut [&mut bob, &mut alice]));
    assert_eq!(texts(&mut bob), ["once"]);
}

#[test]
fn a_stranger_is_not_taken_for_another() {
    let calm = &mut Calm::new("another name");
    let (mut alice, mut bob) = (calm.create("alice"), calm.create("bob"));
    calm.write(&mut alice, "bob", "it is alice");
    let (_, _, envelope) = calm.server.wire[0].clone();
    let received = bob.receive(&Address::new("carol", 1), &envelope, calm.now, &mut calm.rng).unwrap();
    assert!(!matches!(received, Received::Message(_)), "{received:?}");
    assert_eq!(texts(&mut bob), Vec::<String>::new());
}

#[test]
fn what_cannot_be_opened_comes_again_though_the_account_key_was_renewed_meanwhile() {
    let calm = &mut Calm::new("renewed meanwhile");
    let (mut alice, mut bob) = (calm.create("alice"), calm.create("bob"));
    drop(calm.link(&mut bob, true));
    calm.write(&mut alice, "bob", "first");
    let letter = calm.server.mail.get_mut(&Address::new("bob", 1)).unwrap();
    // Nothing opens it.
    *letter[0].1.last_mut().unwrap() ^= 1;
    calm.remove(&mut bob, 2);
    calm.sync(&mut bob);
    fetch_devices(&mut alice, &calm.server, "bob").unwrap();
    let renewed = calm.server.devices["bob"].account();
    alice.accept("bob", &renewed).unwrap();
    assert!(calm.settles(&mut [&mut alice, &mut bob]));
    assert_eq!(texts(&mut bob), ["first"]);
}

#[test]
fn a_device_that_is_restored_twice_from_one_backup_can_be_written_to() {
    let calm = &mut Calm::new("restored twice");
    let (mut alice, bob) = (calm.create("alice"), calm.create("bob"));
    let (mut bob, backup) = copy_of(bob);
    for _ in 0..2 {
        let generation = bob.generation().unwrap() + 5;
        let copy = backup.clone();
        (bob, _) = Client::open_after(copy, generation, calm.now, &mut calm.rng).unwrap();
        connect(&mut bob, &mut calm.server, calm.now, &mut calm.rng).unwrap();
    }
    // Those of the backup are taken by others.
    let prekeys = calm.server.prekeys.get_mut(&Address::new("bob", 1)).unwrap();
    while prekeys.one_time_count() > 0 {
        drop(prekeys.take_bundle());
    }
    calm.write(&mut alice, "bob", "hi");
    let received = calm.sync(&mut bob);
    assert!(matches!(received[..], [Received::Message(_)]), "{received:?}");
}
