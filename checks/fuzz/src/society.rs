//! Three clients of two users and a hostile transport, all of whose doings are the fuzzer's choice.

use std::collections::{BTreeMap, BTreeSet};

use subrosa::{Address, Item};

use crate::household::{HOUSEHOLD, copy, open};
use crate::input::Input;
use crate::transport::{MOST_STEPS, Transport};

/// Three hours each: half a day.
const MOST_QUIET: usize = 4;

struct Society {
    all: Transport,
    written: usize,
    /// By device: which messages it is owed, and which it has shown.
    owed: BTreeMap<Address, BTreeSet<String>>,
    shown: BTreeMap<Address, BTreeSet<String>>,
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
        let all = Transport::new(clients, post, "society");
        let devices = (0..all.clients.len()).map(|at| (all.address(at), BTreeSet::new()));
        let none: BTreeMap<_, _> = devices.collect();
        Self { all, written: 0, owed: none.clone(), shown: none }
    }

    fn step(&mut self, choice: u8, input: &mut Input<'_>) {
        let at = usize::from(choice / 16) % 3;
        match choice % 16 {
            0..4 => self.write(at),
            4..8 => self.all.deliver(at, 0),
            8 => self.all.deliver(at, input.below(64)),
            9 => self.all.repeat(None, input),
            10 => self.all.forge(at, input),
            11 => self.all.settle(at),
            12 => self.show(at),
            13 => self.all.pass(input.small()),
            14 => self.all.restart(at),
            _ => self.all.break_sessions(at, input.small()),
        }
    }

    fn write(&mut self, at: usize) {
        let text = format!("message {}", self.written);
        self.written += 1;
        let Transport { clients, rng, now, .. } = &mut self.all;
        let client = &mut clients[at];
        let to = if client.address().user == "alice" { "bob" } else { "alice" };
        client.write(to, text.as_bytes(), *now, rng).expect("it is short");
        for (device, owed) in &mut self.owed {
            if device != client.address() {
                owed.insert(text.clone());
            }
        }
        self.all.settle(at);
    }

    /// The app takes what is in the inbox.
    fn show(&mut self, at: usize) {
        let client = &mut self.all.clients[at];
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

    fn end(mut self) {
        // After a while every allowance is whole.
        self.all.now = self.all.now.after(20_000);
        self.all.calm(MOST_QUIET);
        for at in 0..self.all.clients.len() {
            self.show(at);
        }
        for (device, owed) in &self.owed {
            let missing: Vec<_> = owed.difference(&self.shown[device]).collect();
            assert!(missing.is_empty(), "{device} never shows {missing:?}");
        }
    }
}
