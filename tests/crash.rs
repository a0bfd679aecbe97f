//! Whatever fails, and whenever the process ends: nothing is lost, nothing is shown twice, no key
//! is used twice, and the conversation goes on.
//!
//! Three things are done to the client. A store fails at every single operation of every method;
//! the app ends between any two steps of its loop; and a process that is busy with stores on disk
//! is killed, 25 times. `SUBROSA_KILLS=1000 cargo test --test crash kill` kills it a thousand
//! times, `SUBROSA_SEED=7` with other dice.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::panic,
    reason = "a panic is how a test fails"
)]

#[path = "support/calls.rs"]
mod calls;
#[path = "support/faulty.rs"]
mod faulty;
#[path = "crash/groups.rs"]
mod groups;
#[cfg(feature = "redb")]
#[path = "support/killed.rs"]
mod killed;
#[path = "support/network.rs"]
mod network;
#[path = "support/post.rs"]
mod post;
#[path = "crash/sealed.rs"]
mod sealed;
#[path = "support/stopped.rs"]
mod stopped;

use std::collections::{BTreeMap, BTreeSet};

use calls::{Call, Did};
use faulty::{FAULT, Faulty, though_nobody_notices, through_every_failure};
use network::Seeded;
use post::{Mail, Post, Reply};
use subrosa::store::{Store, Table};
use subrosa::{
    Action, Address, Client, Completed, Error, Item, MessageId, NewDevice, Policy, Progress,
    Received, Role, SasStage, SasValue, Scanned, Trust, UnixTime, UserTrust,
};

struct Device {
    address: Address,
    client: Client<Faulty>,
    store: Faulty,
    policy: Policy,
    /// The first summary was looked at.
    is_checked: bool,
}

/// What is to be shown, or was: the device, the sender, the text.
type Showings = BTreeMap<(String, String, String), usize>;

struct World {
    post: Post,
    policy: Policy,
    now: UnixTime,
    /// Draws, from call to call.
    turn: u64,
    failures: usize,
    /// Methods, and what they returned.
    seen: BTreeMap<String, usize>,
    expected: Showings,
    shown: Showings,
}

fn policy() -> Policy {
    let mut policy = Policy::default();
    // Fewer keys, fewer operations.
    (policy.prekeys_low, policy.prekeys_target) = (2, 4);
    policy
}

impl World {
    fn new() -> Self {
        Self {
            post: Post::default(),
            policy: policy(),
            now: UnixTime::from_secs(1_800_000_000).unwrap(),
            turn: 0,
            failures: 0,
            seen: BTreeMap::new(),
            expected: Showings::new(),
            shown: Showings::new(),
        }
    }

    /// Makes a call, which fails at each operation first: by itself, and inside a transaction whose
    /// app takes no notice. Done at last, it does what it does inside a transaction.
    #[expect(clippy::needless_pass_by_value, reason = "a call is made once")]
    fn call(&mut self, device: &mut Device, call: Call) -> Result<Did, Error> {
        self.turn += 1;
        let (turn, now, what) = (self.turn, self.now, call.name());
        let dice = || Seeded::new(turn, "a call");
        let Device { client, store, policy, is_checked, .. } = device;
        though_nobody_notices(store, what, |trial, swallowed| {
            trial.transact(|tx| {
                Client::within(tx, policy, |client| {
                    *swallowed = call.make(client, now, &mut dice()).err();
                    Ok(())
                })
            })
        });
        let mut within = store.fork();
        let expected = within.transact(|tx| {
            Client::within(tx, policy, |client| call.make(client, now, &mut dice()))
        });
        let (done, failures) =
            through_every_failure(store, what, || call.make(client, now, &mut dice()));
        // A client that was just opened has a first task, and one inside a transaction has not.
        if *is_checked || !matches!(call, Call::Tasks(_)) {
            assert_eq!(done, expected, "{what} inside a transaction and by itself");
            assert!(store.dump() == within.dump(), "{what} leaves other rows by itself");
        }
        self.failures += failures;
        self.saw(what.to_owned());
        match &done {
            Ok(Did::Completed(completed)) => self.saw(kind(completed)),
            Ok(Did::Received(received)) => self.saw(kind(received)),
            Ok(_) => {}
            Err(error) => self.saw(kind(error)),
        }
        done
    }

    fn saw(&mut self, what: String) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn device(&self, client: Client<Faulty>, store: Faulty) -> Device {
        let policy = self.policy.clone();
        let client = client.with_policy(policy.clone());
        Device { address: client.address().clone(), client, store, policy, is_checked: false }
    }

    fn create(&mut self, user: &str) -> Device {
        let (store, now) = (Faulty::default(), self.now);
        let (client, failures) = through_every_failure(&store, "create", || {
            Client::create(store.clone(), user, now, &mut Seeded::new(1, user))
        });
        self.failures += failures;
        let mut device = self.device(client.unwrap(), store);
        self.work(&mut device);
        device
    }

    /// A further device of the account of `old`.
    fn link(&mut self, old: &mut Device, role: Role) -> Device {
        let seed = self.turn;
        let new = || NewDevice::generate(&mut Seeded::new(seed, "a new device"));
        let grant = match self.call(old, Call::Link(new().code().to_string(), role)) {
            Ok(Did::Grant(grant)) => grant,
            other => panic!("{other:?}"),
        };
        self.work(old);
        let (store, now) = (Faulty::default(), self.now);
        let (client, failures) = through_every_failure(&store, "join", || {
            Client::join(store.clone(), &new(), &grant, now, &mut Seeded::new(seed, "join"))
        });
        self.failures += failures;
        let mut device = self.device(client.unwrap(), store);
        self.work(&mut device);
        device
    }

    /// Writes a text that all devices of both users are to show, but for the one that writes it.
    fn write(&mut self, from: &mut Device, to: &str, text: &str) -> MessageId {
        let written = self.call(from, Call::Write(to.into(), text.into()));
        self.expect(from, to, text);
        message(written)
    }

    fn expect(&mut self, from: &mut Device, to: &str, text: &str) {
        for user in BTreeSet::from([to, &from.address.user]) {
            let known = from.client.devices(user).unwrap();
            let list = known.as_ref().or_else(|| self.post.list(user)).unwrap();
            for listed in list.devices() {
                let address = Address::new(user, listed.device);
                if address != from.address {
                    let row = (address.to_string(), from.address.to_string(), text.to_owned());
                    *self.expected.entry(row).or_default() += 1;
                }
            }
        }
    }

    /// Does all tasks. Returns whether there was one.
    fn work(&mut self, device: &mut Device) -> bool {
        let mut any = false;
        loop {
            let tasks = match self.call(device, Call::Tasks(100)) {
                Ok(Did::Tasks(tasks)) if tasks.is_empty() => return any,
                Ok(Did::Tasks(tasks)) => tasks,
                other => panic!("{other:?}"),
            };
            any = true;
            for task in tasks {
                self.answer_wrongly(device, &task);
                let reply = self.post.serve(&device.address, &task.action, self.now);
                let completed =
                    self.call(device, Call::Complete(task.id.clone(), reply.clone())).unwrap();
                let is_handled =
                    matches!(completed, Did::Completed(Completed::Handled | Completed::Sent(_)));
                assert!(is_handled, "{task:?}: {completed:?} to {reply:?}");
                device.is_checked |= matches!(task.action, Action::FetchSummary);
            }
        }
    }

    /// The first task of each kind gets every answer, in a copy of the store.
    fn answer_wrongly(&mut self, device: &Device, task: &subrosa::Task) {
        let kind = format!("task {}", kind(&task.action));
        if self.seen.contains_key(&kind) {
            return;
        }
        self.saw(kind);
        let bytes = || b"?".to_vec();
        for reply in [
            Reply::Done,
            Reply::Summary(bytes()),
            Reply::Devices(bytes()),
            Reply::Bundle(bytes()),
            Reply::Certificate(bytes()),
            Reply::Refused,
            Reply::Missing,
            Reply::Failed,
        ] {
            let store = device.store.fork();
            let mut copy = self.device(Client::open(store.clone()).unwrap(), store);
            self.call(&mut copy, Call::Complete(task.id.clone(), reply)).unwrap();
        }
    }

    fn receive(&mut self, device: &mut Device, mail: &Mail) -> Received {
        match self.call(device, Call::Receive(mail.named().cloned(), mail.envelope.clone())) {
            Ok(Did::Received(received)) => received,
            other => panic!("{other:?}"),
        }
    }

    /// Receives the mail, shows what it brings, does the tasks. Returns whether there was any.
    fn sync(&mut self, device: &mut Device) -> bool {
        let mail = self.post.take(&device.address);
        for mail in &mail {
            let received = self.receive(device, mail);
            assert!(!matches!(received, Received::Refused(_)), "{mail:?}: {received:?}");
        }
        // Doing the tasks may bring something too.
        let any = self.work(device) || !mail.is_empty();
        let inbox = inbox(self.call(device, Call::Inbox(100)));
        let any = any || !inbox.is_empty();
        for incoming in inbox {
            match incoming.item {
                Item::Text(text) | Item::Late(text) => {
                    let content = String::from_utf8(text.text.to_vec()).unwrap();
                    let row = (device.address.to_string(), text.from.to_string(), content);
                    *self.shown.entry(row).or_default() += 1;
                }
                Item::Event(event) => self.saw(kind(&event)),
                Item::Group(text) => {
                    let content = String::from_utf8(text.text.text.to_vec()).unwrap();
                    let row = (device.address.to_string(), text.text.from.to_string(), content);
                    *self.shown.entry(row).or_default() += 1;
                }
                other => panic!("{other:?}"),
            }
            self.call(device, Call::Acknowledge(incoming.id)).unwrap();
        }
        any
    }

    /// Until nobody has anything to say; then everything was shown, once.
    fn settle(&mut self, devices: &mut [&mut Device]) {
        for _ in 0..20 {
            let busy: Vec<bool> = devices.iter_mut().map(|device| self.sync(device)).collect();
            if !busy.contains(&true) {
                assert_eq!(self.shown, self.expected);
                return;
            }
        }
        panic!("they never stop talking");
    }

    /// What was run failed often enough to show something, and all of these came in.
    fn report(&self, kinds: &[&str]) {
        println!("{} failures; {:#?}", self.failures, self.seen);
        assert!(self.failures > 200, "{}", self.failures);
        let missing: Vec<_> = kinds.iter().filter(|kind| !self.seen.contains_key(**kind)).collect();
        assert!(missing.is_empty(), "{missing:?} of {:#?}", self.seen);
    }
}

/// The name of a variant.
fn kind(value: &impl std::fmt::Debug) -> String {
    let shown = format!("{value:?}");
    let end = shown.find(|c: char| !c.is_alphanumeric()).unwrap_or(shown.len());
    shown[..end].to_owned()
}

fn message(did: Result<Did, Error>) -> MessageId {
    match did {
        Ok(Did::Message(message)) => message,
        other => panic!("{other:?}"),
    }
}

fn inbox(did: Result<Did, Error>) -> Vec<subrosa::Incoming> {
    match did {
        Ok(Did::Inbox(inbox)) => inbox,
        other => panic!("{other:?}"),
    }
}

fn lose_sessions(device: &mut Device) {
    let lost = device.store.transact(|tx| {
        let all = tx.scan(Table::Session, b"", 100)?;
        all.iter().try_for_each(|(key, _)| tx.delete(Table::Session, key))
    });
    lost.unwrap();
}

#[test]
fn a_conversation_goes_on_through_every_failure() {
    let world = &mut World::new();
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    // Drafts, of which one is taken back.
    let first = world.write(&mut alice, "bob", "ping");
    let waits = world.call(&mut alice, Call::Progress(first));
    assert_eq!(waits, Ok(Did::Progress(Progress::Waiting)));
    let regretted = message(world.call(&mut alice, Call::Write("bob".into(), b"no".into())));
    assert_eq!(world.call(&mut alice, Call::Withdraw(regretted)), Ok(Did::Flag(true)));
    let refused = world.call(&mut alice, Call::Encrypt("bob".into(), b"no".into()));
    assert_eq!(refused, Err(Error::DevicesNeeded("bob".into())));
    world.settle(&mut [&mut alice, &mut bob]);
    for turn in 0..2 {
        world.write(&mut bob, "alice", &format!("pong {turn}"));
        world.settle(&mut [&mut alice, &mut bob]);
        world.write(&mut alice, "bob", &format!("ping {turn}"));
        world.write(&mut alice, "bob", &format!("ping again {turn}"));
        world.settle(&mut [&mut alice, &mut bob]);
    }
    world.call(&mut alice, Call::Encrypt("bob".into(), b"at once".into())).unwrap();
    world.expect(&mut alice, "bob", "at once");
    // A long text has a row of its own, on both sides.
    let long = "long ".repeat(2_000);
    world.call(&mut alice, Call::WriteDisappearing("bob".into(), long.clone().into(), 60)).unwrap();
    world.expect(&mut alice, "bob", &long);
    let regretted = message(world.call(&mut alice, Call::Write("bob".into(), b"no".into())));
    assert_eq!(
        world.call(&mut alice, Call::Progress(regretted)),
        Ok(Did::Progress(Progress::Queued))
    );
    assert_eq!(world.call(&mut alice, Call::Withdraw(regretted)), Ok(Did::Flag(true)));
    world.settle(&mut [&mut alice, &mut bob]);
    for mail in world.post.past.clone() {
        let device = if mail.to.user == "alice" { &mut alice } else { &mut bob };
        assert_eq!(world.receive(device, &mail), Received::Duplicate);
    }
    // Places of the log, and of what was seen, are used again; and what is too old goes.
    for device in [&mut alice, &mut bob] {
        (device.policy.log_messages, device.policy.seen) = (2, 2);
        let store = device.store.clone();
        device.client = Client::open(store).unwrap().with_policy(device.policy.clone());
        device.is_checked = false;
        world.call(device, Call::ApplyPolicy).unwrap();
    }
    for turn in 2..5 {
        world.now = world.now.after(120);
        world.write(&mut alice, "bob", &format!("ping {turn}"));
        world.settle(&mut [&mut alice, &mut bob]);
    }
    world.call(&mut alice, Call::Connected).unwrap();
    world.now = world.now.after(8 * 24 * 60 * 60);
    world.settle(&mut [&mut alice, &mut bob]);
    world.report(&[
        "write",
        "write, disappearing",
        "encrypt",
        "withdraw",
        "progress",
        "tasks",
        "complete",
        "receive",
        "inbox",
        "acknowledge",
        "apply_policy",
        "connected",
        "Incoming",
        "Duplicate",
        "Handled",
        "Sent",
        "Later",
        "Rejected",
        "task FetchSummary",
        "task Upload",
        "task FetchDevices",
        "task FetchBundle",
        "task Send",
        "DevicesNeeded",
    ]);
}

#[test]
fn a_group_goes_on_through_every_failure() {
    let world = &mut World::new();
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    let mut carol = world.create("carol");
    let to_group = |world: &mut World, from: &mut Device, to: &[&Device], group, text: &str| {
        message(world.call(from, Call::WriteToGroup(group, text.into())));
        for device in to {
            let by = from.address.to_string();
            let row = (device.address.to_string(), by, text.to_owned());
            *world.expected.entry(row).or_default() += 1;
        }
    };
    let found = Call::CreateGroup(Vec::from(["bob".into()]), b"roses".to_vec());
    let refused = world.call(&mut alice, found.clone());
    assert_eq!(refused, Err(Error::DevicesNeeded("bob".into())));
    for user in ["bob", "carol"] {
        let list = world.post.list(user).unwrap().encode();
        world.call(&mut alice, Call::UpdateDevices(user.into(), list)).unwrap();
    }
    let Ok(Did::Groups(groups)) = world.call(&mut alice, found) else { panic!("no group") };
    let group = groups[0];
    world.settle(&mut [&mut alice, &mut bob, &mut carol]);
    world.call(&mut bob, Call::JoinGroup(group)).unwrap();
    world.settle(&mut [&mut alice, &mut bob, &mut carol]);
    to_group(world, &mut alice, &[&bob], group, "to bob");
    to_group(world, &mut bob, &[&alice], group, "to alice");
    world.settle(&mut [&mut alice, &mut bob, &mut carol]);
    world.call(&mut alice, Call::AddToGroup(group, "carol".into())).unwrap();
    world.settle(&mut [&mut alice, &mut bob, &mut carol]);
    world.call(&mut carol, Call::JoinGroup(group)).unwrap();
    world.call(&mut alice, Call::RefreshGroup(group)).unwrap();
    world.settle(&mut [&mut alice, &mut bob, &mut carol]);
    to_group(world, &mut alice, &[&bob, &carol], group, "to both");
    to_group(world, &mut carol, &[&alice, &bob], group, "from carol");
    world.settle(&mut [&mut alice, &mut bob, &mut carol]);
    // What waits is taken back, and what waits for a removed holder is encrypted anew.
    let taken = message(world.call(&mut alice, Call::WriteToGroup(group, "taken back".into())));
    assert_eq!(world.call(&mut alice, Call::Withdraw(taken)), Ok(Did::Flag(true)));
    to_group(world, &mut alice, &[&carol], group, "bob is still in");
    world.call(&mut alice, Call::RemoveFromGroup(group, "bob".into())).unwrap();
    to_group(world, &mut alice, &[&carol], group, "without bob");
    let waits = world.call(&mut alice, Call::Progress(taken));
    assert_eq!(waits, Ok(Did::Progress(Progress::Sent)));
    world.settle(&mut [&mut alice, &mut bob, &mut carol]);
    world.call(&mut carol, Call::LeaveGroup(group)).unwrap();
    world.settle(&mut [&mut alice, &mut bob, &mut carol]);
    let again = world.call(&mut carol, Call::DeclineGroup(group));
    assert_eq!(again, Err(Error::UnknownGroup));
    world.call(&mut alice, Call::Group(group)).unwrap();
    assert_eq!(world.call(&mut carol, Call::Groups), Ok(Did::Groups(Vec::new())));
    world.report(&["create_group", "write_to_group", "GroupInvited", "GroupChanged", "GroupLeft"]);
}

#[test]
fn devices_come_and_go_through_every_failure() {
    let world = &mut World::new();
    let (mut phone, mut bob) = (world.create("alice"), world.create("bob"));
    world.write(&mut phone, "bob", "from the phone");
    world.settle(&mut [&mut phone, &mut bob]);
    let mut laptop = world.link(&mut phone, Role::Manager);
    world.settle(&mut [&mut phone, &mut laptop, &mut bob]);
    world.write(&mut laptop, "bob", "from the laptop");
    world.settle(&mut [&mut phone, &mut laptop, &mut bob]);
    world.write(&mut bob, "alice", "to both");
    world.settle(&mut [&mut phone, &mut laptop, &mut bob]);
    let mut watch = world.link(&mut laptop, Role::Device);
    world.settle(&mut [&mut phone, &mut laptop, &mut watch, &mut bob]);
    world.write(&mut watch, "alice", "to ourselves");
    world.settle(&mut [&mut phone, &mut laptop, &mut watch, &mut bob]);
    // One that never held the account key, then one that did.
    world.call(&mut phone, Call::RemoveDevice(watch.address.device)).unwrap();
    world.settle(&mut [&mut phone, &mut laptop, &mut bob]);
    world.call(&mut phone, Call::RemoveDevice(laptop.address.device)).unwrap();
    world.settle(&mut [&mut phone, &mut bob]);
    // The renewed account key is certified by the old one, and waits for Bob all the same.
    let list = world.post.list("alice").unwrap().encode();
    world.call(&mut bob, Call::UpdateDevices("alice".into(), list)).unwrap();
    let trust = |did| match did {
        Ok(Did::Trust(Some(trust))) => trust,
        other => panic!("{other:?}"),
    };
    let UserTrust { new_account, .. } = trust(world.call(&mut bob, Call::Trust("alice".into())));
    let new_account = new_account.unwrap();
    // A new device of the new account is not believed yet.
    let mut tablet = world.link(&mut phone, Role::Device);
    world.work(&mut phone);
    world.sync(&mut tablet);
    message(world.call(&mut tablet, Call::Write("bob".into(), b"is it me?".into())));
    world.work(&mut tablet);
    for mail in world.post.take(&bob.address) {
        assert_eq!(world.receive(&mut bob, &mail), Received::Held);
    }
    let held = inbox(world.call(&mut bob, Call::Held("alice".into(), 10)));
    assert_eq!(held.len(), 1);
    world.call(&mut bob, Call::Verify("alice".into(), new_account)).unwrap_err();
    world.call(&mut bob, Call::AcceptNewKey("alice".into(), new_account)).unwrap();
    world.call(&mut bob, Call::Verify("alice".into(), new_account)).unwrap();
    world.call(&mut bob, Call::Unverify("alice".into())).unwrap();
    world.call(&mut bob, Call::Verify("alice".into(), new_account)).unwrap();
    let verified = trust(world.call(&mut bob, Call::Trust("alice".into())));
    assert_eq!((verified.trust, verified.new_account), (Trust::Verified, None));
    for (device, text) in [("alice/1", "is it me?"), ("bob/1", "is it me?")] {
        let row = (device.into(), tablet.address.to_string(), text.into());
        *world.expected.entry(row).or_default() += 1;
    }
    world.settle(&mut [&mut phone, &mut tablet, &mut bob]);
    let devices = world.call(&mut bob, Call::Devices("alice".into()));
    assert!(matches!(devices, Ok(Did::Devices(Some(list))) if list.devices().len() == 2));
    world.write(&mut bob, "alice", "to those who are left");
    world.settle(&mut [&mut phone, &mut tablet, &mut bob]);
    // What was removed is forgotten.
    world.now = world.now.after(8 * 24 * 60 * 60);
    world.settle(&mut [&mut phone, &mut tablet, &mut bob]);
    world.report(&[
        "link",
        "remove_device",
        "update_devices",
        "trust",
        "verify",
        "unverify",
        "accept_new_key",
        "held",
        "devices",
        "Held",
        "Incoming",
        "Handled",
        "DeviceAdded",
        "KeyChanged",
        "IdentityChanged",
    ]);
}

#[test]
fn people_compare_keys_through_every_failure() {
    let world = &mut World::new();
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    world.write(&mut alice, "bob", "hello");
    world.settle(&mut [&mut alice, &mut bob]);
    world.write(&mut bob, "alice", "hello");
    world.settle(&mut [&mut alice, &mut bob]);
    let numbers = [(&mut alice, "bob"), (&mut bob, "alice")]
        .map(|(device, of)| world.call(device, Call::SafetyNumber(of.into())).unwrap());
    assert_eq!(numbers[0], numbers[1]);
    let code = match world.call(&mut alice, Call::ShowCode("bob".into())) {
        Ok(Did::Letters(code)) => code,
        other => panic!("{other:?}"),
    };
    let scanned = world.call(&mut bob, Call::Scan("alice".into(), code));
    assert_eq!(scanned, Ok(Did::Scanned(Scanned::Match)));
    world.settle(&mut [&mut alice, &mut bob]);
    world.call(&mut alice, Call::ConfirmScan("bob".into())).unwrap();
    world.call(&mut alice, Call::HideCode("bob".into())).unwrap();

    let value = |did: Result<Did, Error>| -> SasValue {
        match did {
            Ok(Did::Sas(Some(SasStage::Compare(value)))) => value,
            other => panic!("{other:?}"),
        }
    };
    for round in 0..3 {
        world.call(&mut alice, Call::StartSas("bob".into())).unwrap();
        world.settle(&mut [&mut alice, &mut bob]);
        world.call(&mut bob, Call::AcceptSas("alice".into())).unwrap();
        if round == 0 {
            world.call(&mut alice, Call::CancelSas("bob".into())).unwrap();
        }
        world.settle(&mut [&mut alice, &mut bob]);
        if round == 0 {
            continue;
        }
        let shown = value(world.call(&mut alice, Call::Sas("bob".into())));
        assert_eq!(value(world.call(&mut bob, Call::Sas("alice".into()))), shown);
        world.call(&mut alice, Call::ConfirmSas("bob".into(), shown)).unwrap();
        match round {
            1 => world.call(&mut bob, Call::RejectSas("alice".into())).unwrap(),
            _ => world.call(&mut bob, Call::ConfirmSas("alice".into(), shown)).unwrap(),
        };
        world.settle(&mut [&mut alice, &mut bob]);
        let trust = alice.client.trust("bob").unwrap().unwrap().trust;
        assert_eq!(trust, if round == 1 { Trust::FirstUse } else { Trust::Verified });
    }
    // What nobody answers is over after ten minutes.
    world.call(&mut bob, Call::StartSas("alice".into())).unwrap();
    world.now = world.now.after(601);
    world.settle(&mut [&mut alice, &mut bob]);
    world.report(&[
        "safety_number",
        "show_code",
        "hide_code",
        "scan",
        "confirm_scan",
        "start_sas",
        "accept_sas",
        "sas",
        "confirm_sas",
        "reject_sas",
        "cancel_sas",
        "CodeScanned",
        "SasAsked",
        "SasReady",
        "SasEnded",
    ]);
}

#[test]
fn what_cannot_be_read_comes_again_through_every_failure() {
    let world = &mut World::new();
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    let mut laptop = world.link(&mut alice, Role::Device);
    world.settle(&mut [&mut alice, &mut laptop, &mut bob]);
    world.write(&mut alice, "bob", "one");
    world.settle(&mut [&mut alice, &mut laptop, &mut bob]);
    world.write(&mut bob, "alice", "two");
    world.settle(&mut [&mut alice, &mut laptop, &mut bob]);
    lose_sessions(&mut bob);
    world.write(&mut alice, "bob", "three");
    world.write(&mut alice, "bob", "four");
    world.work(&mut alice);
    let lost: Vec<Mail> = world.post.mail[&bob.address].iter().cloned().collect();
    world.settle(&mut [&mut alice, &mut laptop, &mut bob]);
    for mail in lost {
        assert_eq!(world.receive(&mut bob, &mail), Received::Duplicate);
    }
    // A text that is not kept any more is lost, and both sides say so.
    let gone = world.call(&mut alice, Call::WriteDisappearing("bob".into(), b"gone".into(), 10));
    message(gone);
    world.work(&mut alice);
    let in_vain = world.expected.clone();
    lose_sessions(&mut bob);
    world.now = world.now.after(60);
    world.work(&mut alice);
    // The laptop has its copy.
    world.sync(&mut laptop);
    world.expected = in_vain;
    *world.expected.entry(("alice/2".into(), "alice/1".into(), "gone".into())).or_default() += 1;
    world.settle(&mut [&mut alice, &mut laptop, &mut bob]);
    // What nobody wrote is asked for in vain, and what is no envelope is refused.
    let mut forged = world.post.past.last().unwrap().clone();
    forged.envelope[2] ^= 1;
    let device = match (&*forged.to.user, forged.to.device) {
        ("bob", _) => &mut bob,
        (_, 1) => &mut alice,
        _ => &mut laptop,
    };
    lose_sessions(device);
    assert!(matches!(world.receive(device, &forged), Received::AskedAgain(_)));
    forged.envelope = b"?".into();
    assert!(matches!(world.receive(device, &forged), Received::Refused(_)));
    world.write(&mut alice, "bob", "six");
    world.write(&mut bob, "alice", "seven");
    world.settle(&mut [&mut alice, &mut laptop, &mut bob]);
    world.report(&[
        "Incoming",
        "Handled",
        "Duplicate",
        "AskedAgain",
        "Refused",
        "Lost",
        "NotReadable",
    ]);
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story")]
fn sessions_are_renewed_and_people_forgotten_through_every_failure() {
    let world = &mut World::new();
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    for round in 0..3 {
        world.write(&mut alice, "bob", &format!("ping {round}"));
        world.settle(&mut [&mut alice, &mut bob]);
        world.write(&mut bob, "alice", &format!("pong {round}"));
        world.settle(&mut [&mut alice, &mut bob]);
        match round {
            0 => drop(world.call(&mut alice, Call::Reset(bob.address.clone())).unwrap()),
            1 => {
                // There is something of every kind to forget.
                message(world.call(&mut alice, Call::Write("bob".into(), b"forgotten".into())));
                world.call(&mut alice, Call::Forget("bob".into())).unwrap();
            }
            _ => {}
        }
    }
    let sessions = world.call(&mut bob, Call::Sessions("alice".into()));
    assert!(matches!(sessions, Ok(Did::Sessions(sessions)) if !sessions.is_empty()));
    // A bundle that nobody asked for begins nothing, where there is a session.
    let action = Action::FetchBundle(alice.address.clone());
    let Reply::Bundle(bundle) = world.post.serve(&bob.address, &action, world.now) else {
        panic!("there is one");
    };
    world.call(&mut bob, Call::AddBundle(alice.address.clone(), bundle)).unwrap();
    // The store of Alice is a copy that was made before the server's last upload.
    let copy = alice.store.fork();
    world.now = world.now.after(2 * 24 * 60 * 60);
    world.settle(&mut [&mut alice, &mut bob]);
    world.write(&mut alice, "bob", "after the copy");
    world.settle(&mut [&mut alice, &mut bob]);
    let mut alice = world.device(Client::open(copy.clone()).unwrap(), copy);
    message(world.call(&mut alice, Call::Write("bob".into(), b"from a copy".into())));
    world.expect(&mut alice, "bob", "from a copy");
    world.settle(&mut [&mut alice, &mut bob]);
    world.write(&mut bob, "alice", "so it is");
    world.settle(&mut [&mut alice, &mut bob]);
    // Sessions that begin too quickly are set aside, and opened later.
    let (now, rng) = (world.now, &mut Seeded::new(1, "too many"));
    for turn in 0..36 {
        alice.client.reset(&bob.address).unwrap();
        alice.client.write("bob", format!("again {turn}").as_bytes(), now, rng).unwrap();
        world.expect(&mut alice, "bob", &format!("again {turn}"));
        world.post.settle(&mut alice.client, now, rng);
    }
    for mail in world.post.take(&bob.address) {
        let is_tried = world.seen.contains_key("SetAside");
        let trial = bob.store.fork();
        let mut trial = Client::open(trial).unwrap();
        let would =
            trial.receive(Some(&mail.from), &mail.envelope, now, &mut Seeded::new(2, "would"));
        if would == Ok(Received::SetAside) && !is_tried {
            assert_eq!(world.receive(&mut bob, &mail), Received::SetAside);
        } else {
            let received = bob.client.receive(Some(&mail.from), &mail.envelope, now, rng).unwrap();
            assert!(!matches!(received, Received::Refused(_)), "{received:?}");
        }
    }
    world.now = world.now.after(24 * 60 * 60);
    world.settle(&mut [&mut alice, &mut bob]);
    // Who was forgotten is a stranger, who has to begin anew.
    world.call(&mut bob, Call::Forget("alice".into())).unwrap();
    message(world.call(&mut alice, Call::Write("bob".into(), b"who?".into())));
    world.work(&mut alice);
    for mail in world.post.take(&bob.address) {
        let received = world.receive(&mut bob, &mail);
        // Nothing of the old sessions opens; a message that could begin one is asked for, and
        // comes.
        match received {
            Received::AskedAgain(_) => world.expect(&mut alice, "bob", "who?"),
            Received::Refused(_) => {}
            other => panic!("{other:?}"),
        }
    }
    world.settle(&mut [&mut alice, &mut bob]);
    world.report(&[
        "reset",
        "forget",
        "sessions",
        "add_bundle",
        "Incoming",
        "SetAside",
        "Restored",
    ]);
}

#[test]
fn several_intentions_fail_together() {
    let world = &mut World::new();
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    world.write(&mut alice, "bob", "one");
    world.settle(&mut [&mut alice, &mut bob]);
    world.write(&mut bob, "alice", "two");
    world.work(&mut bob);
    let mail = world.post.take(&alice.address).pop().unwrap();
    // Reads, answers twice, and says that it is done, in one.
    let (now, Device { client, store, .. }) = (world.now, &mut alice);
    let (done, failures) = through_every_failure(store, "transact", || {
        client.transact(|client| {
            let rng = &mut Seeded::new(1, "several");
            let Received::Incoming(incoming) =
                client.receive(Some(&mail.from), &mail.envelope, now, rng)?
            else {
                panic!("it is a text");
            };
            client.write("bob", b"three", now, rng)?;
            client.write("bob", b"four", now, rng)?;
            client.rows().put(b"row", b"of the app")?;
            client.acknowledge(incoming.id)
        })
    });
    done.unwrap();
    assert!(failures > 40, "{failures}");
    world.expected.remove(&("alice/1".into(), "bob/1".into(), "two".into()));
    ["three", "four"].iter().for_each(|text| world.expect(&mut alice, "bob", text));
    world.settle(&mut [&mut alice, &mut bob]);
    assert_eq!(inbox(world.call(&mut alice, Call::Inbox(10))), []);
}

#[test]
fn a_first_intention_is_not_harmed_by_a_second_that_fails_unnoticed() {
    let world = &mut World::new();
    let (mut alice, mut bob) = (world.create("alice"), world.create("bob"));
    world.write(&mut alice, "bob", "one");
    world.settle(&mut [&mut alice, &mut bob]);
    let (now, before) = (world.now, alice.store.dump());
    let dice = || Seeded::new(1, "the same for both");
    let first_alone = alice.store.fork();
    Client::open(first_alone.clone()).unwrap().write("bob", b"two", now, &mut dice()).unwrap();
    let (mut refused, mut committed) = (0, 0);
    for operations in 0.. {
        let trial = alice.store.fork();
        let mut client = Client::open(trial.clone()).unwrap();
        trial.fail_after(operations);
        let mut second = None;
        let done = client.transact(|client| {
            client.write("bob", b"two", now, &mut dice())?;
            second = client.write("bob", b"three", now, &mut dice()).err();
            Ok::<(), Error>(())
        });
        if !trial.mend() {
            break;
        }
        if done.is_err() {
            refused += 1;
            assert_eq!(done, Err(FAULT));
            assert!(trial.dump() == before, "operation {operations}");
        } else {
            committed += 1;
            assert_eq!(second, Some(FAULT), "operation {operations}");
            assert!(trial.dump() == first_alone.dump(), "operation {operations}");
        }
    }
    assert!(refused > 10 && committed > 0, "{refused} {committed}");
}

#[test]
fn a_summary_whose_transaction_failed_is_asked_for_again() {
    let world = &mut World::new();
    let (now, rng) = (world.now, &mut Seeded::new(1, "summary"));
    let store = Faulty::default();
    drop(Client::create(store.clone(), "alice", now, rng).unwrap());
    for operations in 0.. {
        let trial = store.fork();
        let mut alice = Client::open(trial.clone()).unwrap();
        let first = alice.tasks(1, now, rng).unwrap().remove(0);
        let reply = world.post.serve(&alice.address().clone(), &first.action, now);
        trial.fail_after(operations);
        let done = alice.transact(|client| client.complete(&first.id, reply.answer(), now, rng));
        if !trial.mend() {
            assert_eq!(done, Ok(Completed::Handled));
            assert!(operations > 3, "{operations}");
            return;
        }
        assert_eq!(done, Err(FAULT), "operation {operations}");
        // Nothing leaves before the server's summary was looked at.
        let again = alice.tasks(10, now.after(61), rng).unwrap();
        assert!(
            matches!(&again[..], [task] if task.action == Action::FetchSummary),
            "operation {operations}: {again:?}"
        );
    }
}

#[test]
fn an_app_that_ends_between_any_two_steps_loses_nothing_and_repeats_nothing() {
    stopped::at_every_step();
}

#[cfg(feature = "redb")]
#[test]
fn a_kill_at_any_moment_loses_nothing_and_repeats_nothing() {
    killed::kill_and_see();
}

#[cfg(feature = "redb")]
#[test]
#[ignore = "this is what the test above kills"]
fn the_app_that_is_killed() {
    killed::be_killed();
}
