//! What does a text to a large group cost its sender, through the client?
//!
//! A group of 1,000 members with two devices each, over a store in memory. Each row is one text of 64
//! bytes, from `write_to_group` until no task is left; what the server does is not counted.
//!
//! | row | what |
//! | --- | --- |
//! | `first` | nobody has a session with the sender: 1,999 bundles, handshakes, chains and texts apart |
//! | `renewal` | a new chain for all, and one envelope |
//! | `next` | one envelope |
//!
//! `cargo bench --bench group_client` prints a table; an argument is another number of members.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a bench that fails should stop"
)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use subrosa::directory::Directory;
use subrosa::group::GroupId;
use subrosa::store::Memory;
use subrosa::{Action, Answer, Client, NewDevice, Policy, Role, SystemRng, UnixTime};

const TEXT: [u8; 64] = [7; 64];

fn main() {
    let members = std::env::args().filter_map(|arg| arg.parse().ok()).next_back().unwrap_or(1_000);
    let mut world = World::new(members);
    let group = world.found(members);
    println!("{members} members with two devices each");
    println!("| text | seconds | envelopes | bytes to send |");
    println!("| --- | --- | --- | --- |");
    world.row("first", group);
    world.alice.refresh_group(group).unwrap();
    world.row("renewal", group);
    world.row("next", group);
    world.row("next", group);
}

/// The sender, and the server.
struct World {
    alice: Client<Memory>,
    users: BTreeMap<String, Directory>,
    now: UnixTime,
}

/// What was done for a text.
#[derive(Default)]
struct Done {
    took: Duration,
    envelopes: usize,
    bytes: usize,
}

impl World {
    fn new(members: usize) -> Self {
        let now = UnixTime::from_secs(1_800_000_000).unwrap();
        let alice = Client::create(Memory::new(), "alice", now, &mut SystemRng).unwrap();
        let mut world = Self { alice, users: BTreeMap::new(), now };
        world.work(&mut Done::default());
        for member in 1..members {
            world.register(&format!("member {member}"));
        }
        world
    }

    /// Two devices of a user, of which the server has a list and prekeys.
    fn register(&mut self, user: &str) {
        let (now, rng) = (self.now, &mut SystemRng);
        let mut policy = Policy::default();
        (policy.prekeys_low, policy.prekeys_target) = (1, 1);
        let phone = Client::create(Memory::new(), user, now, rng).unwrap();
        let mut phone = phone.with_policy(policy.clone());
        let directory = self.users.entry(user.into()).or_default();
        register(directory, &mut phone, now);
        let new = NewDevice::generate(rng);
        let grant = phone.link(&new.code(), Role::Device, now, rng).unwrap();
        register(directory, &mut phone, now);
        let laptop = Client::join(Memory::new(), &new, &grant, now, rng).unwrap();
        register(directory, &mut laptop.with_policy(policy), now);
        let list = directory.list().unwrap().encode();
        self.alice.update_devices(user, &list, now, rng).unwrap();
    }

    fn found(&mut self, members: usize) -> GroupId {
        let names: Vec<String> = (1..members).map(|member| format!("member {member}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.alice.create_group(&names, b"roses", self.now, &mut SystemRng).unwrap()
    }

    fn row(&mut self, name: &str, group: GroupId) {
        let (began, mut done) = (Instant::now(), Done::default());
        self.alice.write_to_group(group, &TEXT, self.now, &mut SystemRng).unwrap();
        done.took += began.elapsed();
        self.work(&mut done);
        let Done { took, envelopes, bytes } = done;
        println!("| {name} | {:.3} | {envelopes} | {bytes} |", took.as_secs_f64());
    }

    /// Does every task.
    fn work(&mut self, done: &mut Done) {
        loop {
            let began = Instant::now();
            let tasks = self.alice.tasks(64, self.now, &mut SystemRng).unwrap();
            done.took += began.elapsed();
            if tasks.is_empty() {
                return;
            }
            for task in tasks {
                let bytes = serve(&mut self.users, "alice", 1, &task.action, self.now);
                if let Action::Send { envelope, .. } = &task.action {
                    done.envelopes += 1;
                    done.bytes += envelope.len();
                }
                let answer = answer(&task.action, &bytes);
                let began = Instant::now();
                self.alice.complete(&task.id, answer, self.now, &mut SystemRng).unwrap();
                done.took += began.elapsed();
            }
        }
    }
}

/// A device tells the server what it has.
fn register(directory: &mut Directory, client: &mut Client<Memory>, now: UnixTime) {
    let device = client.address().device;
    loop {
        let tasks = client.tasks(64, now, &mut SystemRng).unwrap();
        if tasks.is_empty() {
            return;
        }
        for task in tasks {
            let summary = match &task.action {
                Action::FetchSummary => directory.summary(device).encode(),
                Action::Upload(upload) => {
                    drop(directory.upload(device, upload).unwrap());
                    Vec::new()
                }
                _ => Vec::new(),
            };
            let answer = match &task.action {
                Action::FetchSummary => Answer::Summary(&summary),
                Action::Upload(_) | Action::Send { .. } => Answer::Done,
                _ => Answer::Failed,
            };
            client.complete(&task.id, answer, now, &mut SystemRng).unwrap();
        }
    }
}

/// What the server has for a task.
fn serve(
    users: &mut BTreeMap<String, Directory>,
    user: &str,
    device: u32,
    action: &Action,
    now: UnixTime,
) -> Vec<u8> {
    match action {
        Action::FetchSummary => users.entry(user.into()).or_default().summary(device).encode(),
        Action::Upload(upload) => {
            drop(users.entry(user.into()).or_default().upload(device, upload).unwrap());
            Vec::new()
        }
        Action::FetchDevices(of) => users[of].list().unwrap().encode(),
        Action::FetchBundle(of) => {
            let directory = users.get_mut(&of.user).unwrap();
            directory.bundle(of.device, user, now.as_secs()).unwrap().encode()
        }
        _ => Vec::new(),
    }
}

fn answer<'a>(action: &Action, bytes: &'a [u8]) -> Answer<'a> {
    match action {
        Action::FetchSummary => Answer::Summary(bytes),
        Action::FetchDevices(_) => Answer::Devices(bytes),
        Action::FetchBundle(_) => Answer::Bundle(bytes),
        _ => Answer::Done,
    }
}
