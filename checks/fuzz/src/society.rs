//! Three clients of two users and a hostile transport, all of whose doings are the fuzzer's choice.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use subrosa::store::{Memory, Store, Table};
use subrosa::{Address, Client, Error, Item, Received, UnixTime};

use crate::household::{BEGIN, HOUSEHOLD, address, copy, open};
use crate::input::{Input, changed};
use crate::network::Seeded;
use crate::post::{Mail, Post};

/// What a sender keeps for a week is enough for this many, and they are few enough to be quick.
const MOST_STEPS: usize = 80;
/// Everybody has an allowance of handshakes to be looked at; forgeries use it up, which is no
/// finding.
const MOST_FORGED: usize = 16;

/// What is sent is kept for a week, to be sent again.
const LATEST: UnixTime = BEGIN.after(5 * 24 * 60 * 60);

struct Society {
    clients: Vec<Client<Memory>>,
    post: Post,
    rng: Seeded,
    now: UnixTime,
    written: usize,
    forged: usize,
    /// By device: which messages it is owed, and which it has shown.
    owed: BTreeMap<Address, BTreeSet<String>>,
    shown: BTreeMap<Address, BTreeSet<String>>,
    /// Envelopes that were delivered.
    past: Vec<Mail>,
}

/// Each message is shown at most once on each device. When the transport is calm again, all that
/// was written is shown on every device.
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
        let (clients, post) = HOUSEHOLD.with(|household| {
            let stores = [&household.alice, &household.phone, &household.laptop];
            (stores.map(|store| open(store.clone())).into(), copy(&household.post))
        });
        let rng = Seeded::new(1, "society");
        let devices = [address("alice", 1), address("bob", 1), address("bob", 2)];
        let none: BTreeMap<_, _> =
            devices.into_iter().map(|device| (device, BTreeSet::new())).collect();
        Self {
            clients,
            post,
            rng,
            now: BEGIN.after(100_000),
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
                    let mail = self.past[input.below(self.past.len())].clone();
                    drop(self.arrive(&mail));
                }
            }
            10 => self.forge(at, input),
            11 => self.settle(at),
            12 => self.show(at),
            13 => self.now = self.now.after(60 * input.small() as u64).min(LATEST),
            14 => self.restart(at),
            _ => self.break_sessions(at, input.small()),
        }
    }

    fn write(&mut self, at: usize) {
        let text = format!("message {}", self.written);
        self.written += 1;
        let client = &mut self.clients[at];
        let to = if client.address().user == "alice" { "bob" } else { "alice" };
        client.write(to, text.as_bytes(), self.now, &mut self.rng).expect("it is short");
        for (device, owed) in &mut self.owed {
            if device != client.address() {
                owed.insert(text.clone());
            }
        }
        self.settle(at);
    }

    /// The envelope that has waited so long is delivered, out of turn perhaps.
    fn deliver(&mut self, at: usize, which: usize) {
        let mailbox = self.post.mail.entry(self.clients[at].address().clone()).or_default();
        let which = which % mailbox.len().max(1);
        let Some(mail) = mailbox.remove(which) else { return };
        if self.arrive(&mail) == Received::Refused(Error::RateLimited) {
            self.post.mail.entry(mail.to.clone()).or_default().push_back(mail);
        } else {
            self.past.push(mail);
        }
    }

    fn arrive(&mut self, mail: &Mail) -> Received {
        let at = self
            .clients
            .iter()
            .position(|client| *client.address() == mail.to)
            .expect("it is there");
        let client = &mut self.clients[at];
        let received = client.receive(Some(&mail.from), &mail.envelope, self.now, &mut self.rng);
        self.settle(at);
        received.expect("the store is sound")
    }

    fn forge(&mut self, at: usize, input: &mut Input<'_>) {
        if self.forged >= MOST_FORGED {
            return;
        }
        let mailbox = self.post.mail.entry(self.clients[at].address().clone()).or_default();
        let Some(mail) = mailbox.get(input.below(mailbox.len())).cloned() else { return };
        self.forged += 1;
        let received = self.arrive(&Mail { envelope: changed(&mail.envelope, input), ..mail });
        assert!(!matches!(received, Received::Incoming(_) | Received::Handled), "a forgery opened");
    }

    /// The client's tasks are done.
    fn settle(&mut self, at: usize) {
        self.post.settle(&mut self.clients[at], self.now, &mut self.rng);
    }

    /// The app takes what is in the inbox.
    fn show(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let device = client.address().clone();
        for incoming in client.inbox(1_000).expect("the store is sound") {
            client.acknowledge(incoming.id).expect("the store is sound");
            let text = match incoming.item {
                Item::Text(text) => text,
                Item::Event(_) => continue,
                other => panic!("{device}: {other:?}"),
            };
            let name = String::from_utf8(text.text.to_vec()).expect("it was written as text");
            assert!(
                self.owed[&device].contains(&name),
                "{device} shows {name:?}, which is not for it"
            );
            let is_copy = text.from.user == device.user;
            assert_eq!(text.copy_to.is_some(), is_copy, "{name:?} on {device}");
            let first = self.shown.get_mut(&device).expect("it is there").insert(name.clone());
            assert!(first, "{device} shows {name:?} twice");
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

    /// Everything is delivered, until nobody has anything to say for half a day.
    fn calm(&mut self) {
        let mut quiet = 0;
        for _ in 0..60 {
            self.now = self.now.after(600);
            for at in 0..self.clients.len() {
                self.settle(at);
                let to = self.clients[at].address().clone();
                for _ in 0..self.post.mail.get(&to).map_or(0, VecDeque::len) {
                    self.deliver(at, 0);
                }
                self.settle(at);
            }
            // What the last ones asked for may be on the way to the first.
            if self.post.mail.values().all(VecDeque::is_empty) {
                if quiet == 4 {
                    return;
                }
                quiet += 1;
                self.now = self.now.after(3 * 60 * 60);
            }
        }
        panic!("they never stop talking");
    }

    fn end(mut self) {
        // After a while every allowance is whole.
        self.now = self.now.after(20_000);
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
