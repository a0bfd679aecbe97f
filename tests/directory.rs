//! A server made of `Directory` values: what devices upload comes back to others as bundles that
//! work.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a panic is how a test fails"
)]

use std::collections::BTreeMap;

use subrosa::directory::{Directory, Mode, NoBundle, Refusal, Summary, Upload};
use subrosa::protocol::{Bundle, IdentityKeyPair, Message, Prekeys, Session};
use subrosa::{DeviceList, Role};

#[path = "support/network.rs"]
mod network;

use network::{NOW, Seeded};

/// Rows, as a server's database has them.
#[derive(Default)]
struct Server {
    users: BTreeMap<String, Vec<u8>>,
    devices: BTreeMap<(String, u32), Vec<u8>>,
}

impl Server {
    /// One request: reads the rows of a user and a device, and writes them back.
    fn with<T>(&mut self, user: &str, device: u32, request: impl FnOnce(&mut Directory) -> T) -> T {
        let row = self.devices.get(&(user.to_owned(), device)).map(|row| (device, &row[..]));
        let mut directory = match self.users.get(user) {
            Some(list) => Directory::decode(list, row).unwrap(),
            None => Directory::new(),
        };
        let answer = request(&mut directory);
        if let Some(list) = directory.encode_user() {
            self.users.insert(user.to_owned(), list);
        }
        match directory.encode_device(device) {
            Some(row) => drop(self.devices.insert((user.to_owned(), device), row)),
            None => drop(self.devices.remove(&(user.to_owned(), device))),
        }
        answer
    }

    fn upload(&mut self, user: &str, device: u32, upload: &[u8]) -> Result<(), Refusal> {
        let accepted = self.with(user, device, |directory| directory.upload(device, upload))?;
        for removed in accepted.removed {
            assert_ne!(removed, device, "a device does not remove itself");
            self.devices.remove(&(user.to_owned(), removed));
        }
        Ok(())
    }

    fn bundle(&mut self, user: &str, device: u32, asker: &str) -> Result<Vec<u8>, NoBundle> {
        let bundle = self.with(user, device, |directory| directory.bundle(device, asker, NOW))?;
        Ok(bundle.encode())
    }

    fn summary(&mut self, user: &str, device: u32) -> Vec<u8> {
        self.with(user, device, |directory| directory.summary(device).encode())
    }
}

struct Device {
    identity: IdentityKeyPair,
    prekeys: Prekeys,
}

impl Device {
    fn new(rng: &mut Seeded) -> Self {
        let identity = IdentityKeyPair::generate(rng);
        Self { identity, prekeys: Prekeys::generate(2, NOW, rng).unwrap() }
    }

    fn upload(&self, number: u64, list: &DeviceList, mode: Mode) -> Vec<u8> {
        let prekeys = self.prekeys.publish(&self.identity);
        Upload::new(&self.identity, number, list.clone(), prekeys, mode).unwrap().encode()
    }

    /// Begins a session with what the server hands out, and has it answered.
    fn writes_to(&self, peer: &mut Self, bundle: &[u8], rng: &mut Seeded) {
        let bundle =
            Bundle::decode(bundle).unwrap().verify(&self.identity.public_key(), NOW).unwrap();
        assert_eq!(bundle.identity(), peer.identity.public_key());
        let mut session = Session::initiate(&self.identity, &bundle, rng).unwrap();
        let message = session.encrypt(b"hello", b"", rng).unwrap();
        let message = Message::decode(message.as_bytes()).unwrap();
        let (mut answering, text) =
            Session::respond(&peer.identity, &mut peer.prekeys, &message, b"").unwrap();
        assert_eq!(text, b"hello");
        let answer = answering.encrypt(b"and you", b"", rng).unwrap();
        assert_eq!(session.decrypt(&answer, b"").unwrap(), b"and you");
    }
}

#[test]
fn sessions_begin_with_the_bundles_of_every_device() {
    let (rng, server) = (&mut Seeded::new(1, "directory"), &mut Server::default());
    let (account, bobs) = (IdentityKeyPair::generate(rng), IdentityKeyPair::generate(rng));
    let (mut phone, mut laptop, mut bob) = (Device::new(rng), Device::new(rng), Device::new(rng));
    let list = DeviceList::first(&account, phone.identity.public_key());
    let (list, second) = list.with(&account, laptop.identity.public_key(), Role::Device).unwrap();
    let bobs_list = DeviceList::first(&bobs, bob.identity.public_key());
    server.upload("alice", 1, &phone.upload(1, &list, Mode::Add)).unwrap();
    server.upload("alice", second, &laptop.upload(1, &list, Mode::Add)).unwrap();
    server.upload("bob", 1, &bob.upload(1, &bobs_list, Mode::Add)).unwrap();
    // Two with one-time prekeys, two with the last-resort key.
    for _ in 0..4 {
        let (one, two) = (server.bundle("alice", 1, "bob"), server.bundle("alice", second, "bob"));
        bob.writes_to(&mut phone, &one.unwrap(), rng);
        bob.writes_to(&mut laptop, &two.unwrap(), rng);
        phone.writes_to(&mut bob, &server.bundle("bob", 1, "alice").unwrap(), rng);
    }
    // The laptop is removed.
    let list = list.without(&account, second).unwrap();
    server.upload("alice", 1, &phone.upload(2, &list, Mode::Add)).unwrap();
    assert_eq!(server.bundle("alice", second, "bob"), Err(NoBundle::UnknownDevice));
    assert_eq!(DeviceList::decode(&server.users["alice"]), Ok(list));
    assert_eq!(server.devices.len(), 2);
}

#[test]
fn newcomers_reach_a_restored_device_after_its_next_connect() {
    let (rng, server) = (&mut Seeded::new(2, "directory"), &mut Server::default());
    let account = IdentityKeyPair::generate(rng);
    let (mut phone, bob) = (Device::new(rng), Device::new(rng));
    let list = DeviceList::first(&account, phone.identity.public_key());
    server.upload("alice", 1, &phone.upload(1, &list, Mode::Add)).unwrap();
    let copy = phone.prekeys.encode();
    // After the copy: all prekeys are new ones, and some are handed out.
    phone.prekeys.add_signed(NOW, rng).unwrap();
    phone.prekeys.add_last_resort(NOW, rng).unwrap();
    phone.prekeys.refill(0, 20, NOW, rng).unwrap();
    server.upload("alice", 1, &phone.upload(2, &list, Mode::Add)).unwrap();
    phone.prekeys = Prekeys::decode(&copy).unwrap();

    let summary = Summary::decode(&server.summary("alice", 1)).unwrap();
    let own_number = 1;
    let info = summary.verify_stamp(&phone.identity.public_key()).unwrap();
    assert!(info.number > own_number, "it was restored");
    while phone.prekeys.last_id() < info.last_id {
        phone.prekeys.add_one_time(NOW, rng).unwrap();
    }
    phone.prekeys.add_signed(NOW, rng).unwrap();
    phone.prekeys.add_last_resort(NOW, rng).unwrap();
    phone.prekeys.refill(0, 3, NOW, rng).unwrap();
    server.upload("alice", 1, &phone.upload(info.number + 1, &list, Mode::Replace)).unwrap();
    for _ in 0..5 {
        bob.writes_to(&mut phone, &server.bundle("alice", 1, "bob").unwrap(), rng);
    }
}

#[test]
fn who_lost_all_devices_begins_anew_when_the_server_says_so() {
    let (rng, server) = (&mut Seeded::new(3, "directory"), &mut Server::default());
    let (old, new) = (IdentityKeyPair::generate(rng), IdentityKeyPair::generate(rng));
    let (lost, mut phone, bob) = (Device::new(rng), Device::new(rng), Device::new(rng));
    let list = DeviceList::first(&old, lost.identity.public_key());
    server.upload("alice", 1, &lost.upload(1, &list, Mode::Add)).unwrap();
    let list = DeviceList::first(&new, phone.identity.public_key());
    let upload = phone.upload(1, &list, Mode::Add);
    assert_eq!(server.upload("alice", 1, &upload), Err(Refusal::AccountExists));
    let accepted = server.with("alice", 1, |directory| directory.re_register(1, &upload)).unwrap();
    assert_eq!(accepted.removed, [1]);
    bob.writes_to(&mut phone, &server.bundle("alice", 1, "bob").unwrap(), rng);
}
