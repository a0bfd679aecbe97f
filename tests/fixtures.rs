//! Stores that earlier versions wrote: this one opens them, reads everything, and goes on.
//!
//! `tests/fixtures/store-1.json` has what four devices and their server held at one moment. It was
//! written once, by the first version with stores of format 1, and stays as it is.
//! `groups-1.json` is the same of a group.
//! `cargo test --test fixtures -- --ignored` writes them anew, which is right only before a
//! release.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]

#[path = "support/faulty.rs"]
mod faulty;
#[path = "support/network.rs"]
mod network;
#[path = "support/post.rs"]
mod post;

use std::collections::BTreeMap;
use std::path::PathBuf;

use data_encoding::HEXLOWER;
use faulty::dump;
use network::Seeded;
use post::{Mail, Post};
use serde_json::{Map, Value, json};
use subrosa::directory::Directory;
use subrosa::group::GroupId;
use subrosa::store::{Memory, Store, StoreError, StoreFault, Table};
use subrosa::{
    Address, Client, Error, Event, GroupStanding, Item, MessageId, NewDevice, Policy, Progress,
    Received, Role, Trust, UnixTime,
};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

const STORES: &str = "store-1.json";
const GROUPS: &str = "groups-1.json";

fn start() -> UnixTime {
    UnixTime::from_secs(1_800_000_000).unwrap()
}

fn open(store: Memory) -> Client<Memory> {
    let mut policy = Policy::default();
    // Fewer keys make a smaller file.
    (policy.prekeys_low, policy.prekeys_target) = (2, 3);
    Client::open(store).unwrap().with_policy(policy)
}

fn write(client: &mut Client<Memory>, to: &str, text: &str, rng: &mut Seeded) -> MessageId {
    client.write(to, text.as_bytes(), start(), rng).unwrap()
}

/// Reads the mail, and nothing else.
fn fetch(post: &mut Post, client: &mut Client<Memory>, rng: &mut Seeded) -> Vec<Received> {
    post.fetch(client, start(), rng)
}

fn settle(post: &mut Post, client: &mut Client<Memory>, rng: &mut Seeded) {
    drop(post.settle(client, start(), rng));
}

#[test]
#[ignore = "it writes the fixture anew"]
fn the_fixture_is_written() {
    let (rng, post) = (&mut Seeded::new(1, "fixture"), &mut Post::default());
    let now = start();
    let new = |user: &str, rng: &mut Seeded| {
        open(Client::create(Memory::new(), user, now, rng).unwrap().into_store())
    };
    let (mut phone, mut bob, mut carol) = (new("alice", rng), new("bob", rng), new("carol", rng));
    for client in [&mut phone, &mut bob, &mut carol] {
        settle(post, client, rng);
    }
    // Answered sessions, and people who compared.
    write(&mut phone, "bob", "one", rng);
    write(&mut phone, "carol", "hello", rng);
    settle(post, &mut phone, rng);
    for client in [&mut bob, &mut carol] {
        fetch(post, client, rng);
    }
    write(&mut bob, "alice", "two", rng);
    settle(post, &mut bob, rng);
    fetch(post, &mut phone, rng);
    let account = bob.trust("bob").unwrap().unwrap().account;
    phone.verify("bob", &account, now, rng).unwrap();
    // Another device, which Bob hears of.
    let device = NewDevice::generate(rng);
    let grant = phone.link(&device.code(), Role::Manager, now, rng).unwrap();
    settle(post, &mut phone, rng);
    let mut laptop =
        open(Client::join(Memory::new(), &device, &grant, now, rng).unwrap().into_store());
    settle(post, &mut laptop, rng);
    write(&mut laptop, "bob", "from the laptop", rng);
    settle(post, &mut laptop, rng);
    for client in [&mut bob, &mut phone] {
        fetch(post, client, rng);
        settle(post, client, rng);
    }
    write(&mut bob, "alice", &"long ".repeat(1_000), rng);
    settle(post, &mut bob, rng);
    fetch(post, &mut phone, rng);
    fetch(post, &mut laptop, rng);
    settle(post, &mut laptop, rng);
    // Carol lost everything and begins anew; nobody has accepted that.
    drop(carol);
    let mut carol = new("carol", rng);
    let first = carol.tasks(1, now, rng).unwrap().remove(0);
    post.users.remove("carol");
    post.perform(&mut carol, &first, now, rng).unwrap();
    settle(post, &mut carol, rng);
    write(&mut carol, "alice", "it is me", rng);
    settle(post, &mut carol, rng);
    fetch(post, &mut phone, rng);
    // The laptop lost its sessions, and asks for what it cannot read.
    settle(post, &mut laptop, rng);
    let mut store = laptop.into_store();
    let lost: Result<(), Error> = store.transact(|tx| {
        let all = tx.scan(Table::Session, b"", 100)?;
        all.iter().try_for_each(|(key, _)| tx.delete(Table::Session, key))
    });
    lost.unwrap();
    let mut laptop = open(store);
    settle(post, &mut laptop, rng);
    write(&mut bob, "alice", "can you read this?", rng);
    settle(post, &mut bob, rng);
    let received = fetch(post, &mut laptop, rng);
    assert!(received.iter().any(|one| matches!(one, Received::AskedAgain(_))), "{received:?}");
    // A draft, and envelopes that wait.
    let draft = write(&mut phone, "dave", "a draft", rng);
    let queued = write(&mut phone, "bob", "it waits", rng);
    let ids = [("draft", draft.as_bytes().to_vec()), ("queued", queued.as_bytes().to_vec())];
    save(STORES, [phone, laptop, bob, carol], post, &ids);
}

/// Writes what clients and their server hold.
fn save<const N: usize>(
    name: &str,
    clients: [Client<Memory>; N],
    post: &Post,
    ids: &[(&str, Vec<u8>)],
) {
    let mut stores = Map::new();
    for client in clients {
        let name = client.address().to_string();
        let rows = dump(&mut client.into_store());
        let rows = rows.iter().map(|(table, (key, value))| {
            json!([table.name(), HEXLOWER.encode(key), HEXLOWER.encode(value)])
        });
        stores.insert(name, rows.collect());
    }
    let mut server = Map::new();
    for (user, directory) in &post.users {
        let Some(list) = directory.encode_user() else { continue };
        let devices: Map<String, Value> = (1..=2)
            .filter_map(|device| Some((device, directory.encode_device(device)?)))
            .map(|(device, row)| (device.to_string(), HEXLOWER.encode(&row).into()))
            .collect();
        server.insert(user.clone(), json!({ "list": HEXLOWER.encode(&list), "devices": devices }));
    }
    let mail: Vec<Value> = post
        .mail
        .values()
        .flatten()
        .map(|mail| {
            json!([mail.from.to_string(), mail.to.to_string(), HEXLOWER.encode(&mail.envelope)])
        })
        .collect();
    let ids: Map<String, Value> =
        ids.iter().map(|(id, bytes)| ((*id).into(), HEXLOWER.encode(bytes).into())).collect();
    let fixture = json!({ "ids": ids, "mail": mail, "server": server, "stores": stores });
    std::fs::write(path(name), format!("{fixture:#}\n")).unwrap();
}

#[test]
#[ignore = "it writes the fixture anew"]
fn the_fixture_of_groups_is_written() {
    let (rng, post) = (&mut Seeded::new(1, "fixture of groups"), &mut Post::default());
    let now = start();
    let new = |user: &str, rng: &mut Seeded| {
        open(Client::create(Memory::new(), user, now, rng).unwrap().into_store())
    };
    let (mut alice, mut bob) = (new("alice", rng), new("bob", rng));
    settle(post, &mut alice, rng);
    settle(post, &mut bob, rng);
    write(&mut bob, "alice", "hello", rng);
    settle(post, &mut bob, rng);
    fetch(post, &mut alice, rng);
    let group = alice.create_group(&["bob"], b"roses", now, rng).unwrap();
    settle(post, &mut alice, rng);
    fetch(post, &mut bob, rng);
    bob.join_group(group, now, rng).unwrap();
    bob.write_to_group(group, "one", now, rng).unwrap();
    settle(post, &mut bob, rng);
    fetch(post, &mut alice, rng);
    // Two chains, and keys of messages that have not come.
    for text in ["two", "three", "four"] {
        alice.write_to_group(group, text, now, rng).unwrap();
        settle(post, &mut alice, rng);
    }
    let mut mail = post.take(bob.address());
    mail.remove(mail.len() - 2);
    for mail in &mail {
        drop(bob.receive(mail.named(), &mail.envelope, now, rng).unwrap());
    }
    alice.refresh_group(group).unwrap();
    // A device that is owed a text, and an envelope that waits.
    let device = NewDevice::generate(rng);
    let grant = bob.link(&device.code(), Role::Device, now, rng).unwrap();
    settle(post, &mut bob, rng);
    let mut laptop =
        open(Client::join(Memory::new(), &device, &grant, now, rng).unwrap().into_store());
    settle(post, &mut laptop, rng);
    let list = post.list("bob").unwrap().encode();
    alice.update_devices("bob", &list, now, rng).unwrap();
    let owed = alice.write_to_group(group, "five", now, rng).unwrap();
    let ids = [("group", group.as_bytes().to_vec()), ("owed", owed.as_bytes().to_vec())];
    save(GROUPS, [alice, bob, laptop], post, &ids);
}

#[test]
fn a_group_goes_on_from_a_store_of_format_1() {
    let fixture = Fixture::read(GROUPS);
    let clients = ["alice/1", "bob/1", "bob/2"].map(|name| open(fixture.store(name)));
    let [mut alice, mut bob, laptop] = clients;
    let group = GroupId::from(fixture.id::<32>("group"));
    for client in [&mut alice, &mut bob] {
        assert_eq!(client.groups().unwrap(), [group]);
        let info = client.group(group).unwrap();
        let users: Vec<&str> = info.members.iter().map(|member| &*member.user).collect();
        assert_eq!((info.standing, users), (GroupStanding::Joined, vec!["alice", "bob"]));
        assert_eq!(info.settings, b"roses");
    }
    let owed = MessageId::new(fixture.id("owed"));
    assert_eq!(alice.progress(owed).unwrap(), Progress::Waiting);
    assert_eq!(read(&mut alice), ["bob/1 to all: one", "bob/1: hello", "bob/2 added"]);
    assert_eq!(read(&mut bob), ["alice/1 invites", "alice/1 to all: four", "alice/1 to all: two"]);
    let (mut post, rng) = (fixture.post, &mut Seeded::new(2, "a group that goes on"));
    let now = start().after(1_000);
    bob.write_to_group(group, "six", now, rng).unwrap();
    let mut clients = [alice, bob, laptop];
    for _ in 0..8 {
        for client in &mut clients {
            drop(post.settle(client, now, rng));
            drop(post.fetch(client, now, rng));
        }
    }
    let [alice, bob, laptop] = &mut clients;
    assert_eq!(alice.progress(owed).unwrap(), Progress::Sent);
    assert_eq!(read(alice), ["bob/1 to all: six"]);
    assert_eq!(read(bob), ["alice/1 to all: five"]);
    let shown = read(laptop);
    for text in ["alice/1 to all: five", "bob/1 to all: six"] {
        assert!(shown.contains(&text.to_owned()), "{shown:?}");
    }
}

/// What is in the fixture.
struct Fixture {
    json: Value,
    post: Post,
}

impl Fixture {
    fn read(name: &str) -> Self {
        let json: Value = serde_json::from_slice(&std::fs::read(path(name)).unwrap()).unwrap();
        let mut post = Post::default();
        for (user, held) in json["server"].as_object().unwrap() {
            let devices = held["devices"].as_object().unwrap().iter();
            let devices: BTreeMap<u32, Vec<u8>> =
                devices.map(|(device, row)| (device.parse().unwrap(), bytes(row))).collect();
            let rows = devices.iter().map(|(device, row)| (*device, row.as_slice()));
            let directory = Directory::decode(&bytes(&held["list"]), rows).unwrap();
            post.users.insert(user.clone(), directory);
        }
        for mail in json["mail"].as_array().unwrap() {
            let (from, to) = (address(&mail[0]), address(&mail[1]));
            post.send(Mail { from, to, envelope: bytes(&mail[2]), message: None });
        }
        Self { json, post }
    }

    fn store(&self, name: &str) -> Memory {
        let mut store = Memory::new();
        let filled: Result<(), Error> = store.transact(|tx| {
            for row in self.json["stores"][name].as_array().unwrap() {
                let table = Table::ALL.iter().find(|table| *table.name() == row[0]).unwrap();
                tx.put(*table, &bytes(&row[1]), &bytes(&row[2]))?;
            }
            Ok(())
        });
        filled.unwrap();
        store
    }

    fn id<const N: usize>(&self, name: &str) -> [u8; N] {
        bytes(&self.json["ids"][name]).try_into().unwrap()
    }

    fn message(&self, name: &str) -> MessageId {
        MessageId::new(self.id(name))
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    HEXLOWER.decode(value.as_str().unwrap().as_bytes()).unwrap()
}

fn address(value: &Value) -> Address {
    let (user, device) = value.as_str().unwrap().split_once('/').unwrap();
    Address::new(user, device.parse().unwrap())
}

/// Texts and events of an inbox, sorted, and nothing is in it afterwards.
fn read(client: &mut Client<Memory>) -> Vec<String> {
    let shown = |incoming: subrosa::Incoming| match incoming.item {
        Item::Text(text) => {
            let content = String::from_utf8(text.text.to_vec()).unwrap();
            format!("{}: {}", text.from, &content[..content.len().min(20)])
        }
        Item::Group(group) => {
            let content = String::from_utf8(group.text.text.to_vec()).unwrap();
            format!("{} to all: {content}", group.text.from)
        }
        Item::Event(Event::GroupInvited { by, .. }) => format!("{by} invites"),
        Item::Event(Event::DeviceAdded { user, device }) => format!("{user}/{device} added"),
        Item::Event(Event::KeyChanged { user, .. }) => format!("{user} changed"),
        Item::Event(Event::Held { user }) => format!("{user} is held"),
        other => format!("{other:?}"),
    };
    let mut all: Vec<String> = post::take(client).into_iter().map(shown).collect();
    all.sort_unstable();
    all
}

#[test]
fn everything_in_a_store_of_format_1_is_read() {
    let fixture = Fixture::read(STORES);
    let mut phone = open(fixture.store("alice/1"));
    assert_eq!(phone.address(), &Address::new("alice", 1));
    let bob = phone.trust("bob").unwrap().unwrap();
    assert_eq!((bob.trust, bob.new_account), (Trust::Verified, None));
    let carol = phone.trust("carol").unwrap().unwrap();
    assert_eq!(carol.trust, Trust::FirstUse);
    assert!(carol.new_account.is_some_and(|new| new != carol.account));
    assert_eq!(phone.held("carol", 10).unwrap().len(), 1);
    assert_eq!(phone.progress(fixture.message("draft")).unwrap(), Progress::Waiting);
    assert_eq!(phone.progress(fixture.message("queued")).unwrap(), Progress::Queued);
    assert_eq!(phone.devices("alice").unwrap().unwrap().devices().len(), 2);
    assert_eq!(
        phone.sessions("bob").unwrap().iter().filter(|session| session.is_writing).count(),
        1
    );
    assert_eq!(phone.sessions("alice").unwrap().len(), 1);
    assert_eq!(
        read(&mut phone),
        [
            "alice/2: from the laptop",
            "bob/1: long long long long ",
            "bob/1: two",
            "carol changed",
            "carol is held",
        ]
    );
    let mut bob = open(fixture.store("bob/1"));
    assert_eq!(read(&mut bob), ["alice/1: one", "alice/2 added", "alice/2: from the laptop"]);
    // To the laptop, which never heard of Carol before, her new account key is the first.
    let mut laptop = open(fixture.store("alice/2"));
    assert_eq!(read(&mut laptop), ["bob/1: long long long long ", "carol/1: it is me"]);
}

#[test]
fn a_conversation_goes_on_from_a_store_of_format_1() {
    let fixture = Fixture::read(STORES);
    let clients = ["alice/1", "alice/2", "bob/1", "carol/1"].map(|name| open(fixture.store(name)));
    let [mut phone, mut laptop, mut bob, mut carol] = clients;
    let (mut post, rng) = (fixture.post, &mut Seeded::new(2, "going on"));
    let now = start().after(1_000);
    for client in [&mut phone, &mut laptop, &mut bob, &mut carol] {
        drop(post::take(client));
    }
    // The held text comes when the key is accepted.
    let new = phone.trust("carol").unwrap().unwrap().new_account.unwrap();
    phone.accept_new_key("carol", &new, now, rng).unwrap();
    bob.write("alice", b"are you there?", now, rng).unwrap();
    carol.write("alice", b"and you?", now, rng).unwrap();
    let mut clients = [phone, laptop, bob, carol];
    for _ in 0..6 {
        for client in &mut clients {
            drop(post.settle(client, now, rng));
            for received in post.fetch(client, now, rng) {
                assert!(
                    !matches!(received, Received::Refused(_)),
                    "{}: {received:?}",
                    client.address()
                );
            }
        }
    }
    let [phone, laptop, bob, carol] = &mut clients;
    assert_eq!(
        read(phone),
        [
            "bob/1: are you there?",
            "bob/1: can you read this?",
            "carol/1 added",
            "carol/1: and you?",
            "carol/1: it is me",
        ]
    );
    assert!(read(laptop).contains(&"bob/1: can you read this?".to_owned()), "it was healed");
    assert_eq!(read(bob), ["alice/1: it waits"]);
    assert_eq!(read(carol), Vec::<String>::new());
}

#[test]
fn a_store_of_a_later_format_is_refused() {
    let mut store = Fixture::read(STORES).store("alice/1");
    let format = |store: &mut Memory, format: Option<u32>| {
        let put: Result<(), Error> = store.transact(|tx| match format {
            Some(format) => tx.put(Table::Account, b"format", &format.to_be_bytes()),
            None => tx.delete(Table::Account, b"format"),
        });
        put.unwrap();
    };
    format(&mut store, Some(2));
    let before = dump(&mut store);
    let refused = Client::open(&mut store).err();
    assert_eq!(refused, Some(Error::Store(StoreError::new(StoreFault::Newer))));
    let rng = &mut Seeded::new(1, "refused");
    assert_eq!(Client::create(&mut store, "alice", start(), rng).err(), Some(Error::AccountExists));
    assert!(dump(&mut store) == before);
    // One that no version wrote.
    format(&mut store, None);
    let before = dump(&mut store);
    assert_eq!(Client::open(&mut store).err(), Some(Error::BadState));
    assert_eq!(Client::create(&mut store, "alice", start(), rng).err(), Some(Error::AccountExists));
    assert!(dump(&mut store) == before);
    format(&mut store, Some(1));
    Client::open(&mut store).unwrap();
}
