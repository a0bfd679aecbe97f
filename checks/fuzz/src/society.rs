//! Three clients of two users and a hostile transport, all of whose doings are the fuzzer's choice.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use subrosa::store::{Memory, Store, Table};
use subrosa::{Address, Client, Error, Received};

use crate::household::{HOUSEHOLD, address, copy, open};
use crate::input::{Input, changed};
use crate::network::{NOW, Seeded};
use crate::server::{Server, connect, fetch_bundle, fetch_devices, flush, take, write};

/// What a sender keeps for so long is enough for so many, and few enough to be quick.
const MOST_STEPS: usize = 80;
/// Everybody has an allowance of handshakes to be looked at; forgeries use it up, which is no finding.
const MOST_FORGED: usize = 16;

/// What is sent is kept for a week, to be sent again.
const LATEST: u64 = NOW + 5 * 24 * 60 * 60;

struct Society {
    clients: Vec<Client<Memory>>,
    server: Server,
    rng: Seeded,
    now: u64,
    written: usize,
    forged: usize,
    /// By device: which messages it is owed, and which it has shown.
    owed: BTreeMap<Address, BTreeSet<String>>,
    shown: BTreeMap<Address, BTreeSet<String>>,
    /// Envelopes that were delivered.
    past: Vec<(Address, Address, Vec<u8>)>,
}

/// Each message is shown at most once on each device; when the transport is calm again, all that was written is shown on every device.
pub fn society(data: &[u8]) {
    let mut input = Input::new(data);
    let mut society = Society::new();
    for _ in 0..MOST_STEPS {
        let Some(choice) = input.byte() else { break };
        society.step(choice, &mut input);
    }
    society.end();
}

impl Society {
    fn new() -> Self {
        let (clients, server) = HOUSEHOLD.with(|household| {
            let stores = [&household.alice, &household.phone, &household.laptop];
            (stores.map(|store| open(store.clone())).into(), copy(&household.server))
        });
        let rng = Seeded::new(1, "society");
        let devices = [address("alice", 1), address("bob", 1), address("bob", 2)];
        let none: BTreeMap<_, _> = devices.into_iter().map(|device| (device, BTreeSet::new())).collect();
        Self {
            clients,
            server,
            rng,
            now: NOW + 100_000,
            written: 0,
            forged: 0,
            owed: none.clone(),
            shown: none,
            past: Vec::new(),
        }
    }

    fn step(&mut self, choice: u8, input: &mut Input<'_>) {
        let at = usize::from(choice / 16) % 3;
        match choice % 16 {
            0..4 => self.write(at),
            4..8 => self.deliver(at, 0),
            8 => self.deliver(at, input.below(64)),
            9 => {
                // Again, though it was acknowledged.
                if !self.past.is_empty() {
                    let (to, from, envelope) = self.past[input.below(self.past.len())].clone();
                    self.arrive(&to, &from, &envelope);
                }
            }
            10 => self.forge(at, input),
            11 => self.fetch(at),
            12 => self.show(at),
            13 => self.now = self.now.saturating_add(60 * input.small() as u64).min(LATEST),
            14 => self.restart(at),
            _ => self.break_sessions(at, input.small()),
        }
    }

    fn write(&mut self, at: usize) {
        let text = format!("message {}", self.written);
        self.written += 1;
        let client = &mut self.clients[at];
        let to = if client.address().user == "alice" { "bob" } else { "alice" };
        let (server, rng) = (&mut self.server, &mut self.rng);
        write(client, server, (to, text.as_bytes()), self.now, rng).expect("everybody is known");
        for (device, owed) in &mut self.owed {
            if device != client.address() {
                owed.insert(text.clone());
            }
        }
        flush(client, server).expect("the store is sound");
    }

    /// The envelope that has waited so long is delivered, out of turn perhaps.
    fn deliver(&mut self, at: usize, which: usize) {
        let to = self.clients[at].address().clone();
        let mail = self.server.mail.entry(to.clone()).or_default();
        let which = which % mail.len().max(1);
        let Some((from, envelope)) = mail.remove(which) else { return };
        let received = self.arrive(&to, &from, &envelope);
        if received == Some(Received::Refused(Error::RateLimited)) {
            self.server.mail.entry(to).or_default().push_back((from, envelope));
        } else {
            self.past.push((to, from, envelope));
        }
    }

    fn arrive(&mut self, to: &Address, from: &Address, envelope: &[u8]) -> Option<Received> {
        let (now, rng) = (self.now, &mut self.rng);
        let client = self.clients.iter_mut().find(|client| client.address() == to)?;
        let mut received = client.receive(from, envelope, now, rng).expect("the store is sound");
        if let Received::Refused(Error::UnknownDevice(_) | Error::DevicesNeeded(_)) = received {
            fetch_devices(client, &self.server, &from.user).expect("the store is sound");
            received = client.receive(from, envelope, now, rng).expect("the store is sound");
        }
        flush(client, &mut self.server).expect("the store is sound");
        Some(received)
    }

    fn forge(&mut self, at: usize, input: &mut Input<'_>) {
        if self.forged >= MOST_FORGED {
            return;
        }
        let to = self.clients[at].address().clone();
        let mail = self.server.mail.entry(to.clone()).or_default();
        let Some((from, envelope)) = mail.get(input.below(mail.len())).cloned() else { return };
        self.forged += 1;
        let received = self.arrive(&to, &from, &changed(&envelope, input));
        assert!(!matches!(received, Some(Received::Message(_))), "a forgery opened");
    }

    /// What the client needs is fetched.
    fn fetch(&mut self, at: usize) {
        let (client, server, now, rng) = (&mut self.clients[at], &mut self.server, self.now, &mut self.rng);
        connect(client, server, now, rng).expect("the store is sound");
        for needed in client.needed(100).expect("the store is sound") {
            let had = match &needed {
                subrosa::Needed::Devices(user) => fetch_devices(client, server, user).is_ok(),
                subrosa::Needed::Bundle(of) => {
                    fetch_bundle(client, server, of, now, rng).expect("the store is sound")
                }
                _ => false,
            };
            if !had {
                client.give_up(&needed).expect("the store is sound");
            }
        }
        flush(client, server).expect("the store is sound");
    }

    /// The app takes what is in the inbox.
    fn show(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let device = client.address().clone();
        for incoming in take(client).expect("the store is sound") {
            let text = String::from_utf8(incoming.text.to_vec()).expect("it was written as text");
            assert!(self.owed[&device].contains(&text), "{device} shows {text:?}, which is not for it");
            let is_copy = incoming.from.user == device.user;
            assert_eq!(incoming.copy_to.is_some(), is_copy, "{text:?} on {device}");
            let first = self.shown.get_mut(&device).expect("it is there").insert(text.clone());
            assert!(first, "{device} shows {text:?} twice");
        }
    }

    /// The process ends, and begins again.
    fn restart(&mut self, at: usize) {
        let client = self.clients.remove(at);
        self.clients.insert(at, open(client.into_store()));
    }

    /// A device loses its sessions, all or one; or writes no more in them.
    fn break_sessions(&mut self, at: usize, how: usize) {
        if how.is_multiple_of(4) {
            for device in [address("alice", 1), address("bob", 1), address("bob", 2)] {
                self.clients[at].reset(&device).expect("the store is sound");
            }
            return;
        }
        let mut store = self.clients.remove(at).into_store();
        let lose = store.transact(|tx| {
            let rows = tx.scan(Table::Session, b"", 100)?;
            let lost = rows.iter().skip(if how % 4 == 1 { 0 } else { how / 4 % rows.len().max(1) });
            let most = if how % 4 == 1 { 100 } else { 1 };
            lost.take(most).try_for_each(|(key, _)| tx.delete(Table::Session, key))
        });
        lose.map_err(|error: Error| error).expect("memory does not fail");
        self.clients.insert(at, open(store));
    }

    /// Everything is delivered, until nobody has anything to say. What is refused as one of too many is given once more later.
    fn calm(&mut self) {
        for _ in 0..40 {
            self.now += 600;
            for at in 0..self.clients.len() {
                let to = self.clients[at].address().clone();
                self.fetch(at);
                for _ in 0..self.server.mail.get(&to).map_or(0, VecDeque::len) {
                    self.deliver(at, 0);
                }
                self.fetch(at);
            }
            // What the last ones asked for may be on the way to the first.
            if self.server.mail.values().all(VecDeque::is_empty) {
                return;
            }
        }
        panic!("they never stop talking");
    }

    fn end(mut self) {
        // After a while every allowance is whole.
        self.now += 20_000;
        self.calm();
        for at in 0..self.clients.len() {
            self.show(at);
        }
        for (device, owed) in &self.owed {
            let missing: Vec<_> = owed.difference(&self.shown[device]).collect();
            assert!(missing.is_empty(), "{device} never shows {missing:?}");
        }
    }
}
