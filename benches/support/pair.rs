//! Two accounts that write to each other, and rows of others beside them.

use subrosa::directory::Directory;
use subrosa::store::{Memory, Store, Table, Transaction};
use subrosa::{
    Action, Address, Answer, Client, Delivery, Error, Policy, Scope, SystemRng, UnixTime,
};

/// Messages in one commit.
pub(crate) const MANY: usize = 100;

const TEXT: [u8; 64] = [7; 64];

pub(crate) type Envelopes = Vec<Vec<u8>>;

fn now() -> UnixTime {
    UnixTime::from_secs(1_800_000_000).unwrap()
}

/// Two accounts with a session that was answered.
pub(crate) struct Pair<S> {
    pub(crate) ours: Client<S>,
    pub(crate) peer: Client<Memory>,
}

impl<S: Store> Pair<S> {
    pub(crate) fn talking(store: S, delivery: Delivery, peers: usize) -> Self {
        let mut policy = Policy::default();
        policy.delivery = delivery;
        let ours = Client::create(store, "ours", now(), &mut SystemRng).unwrap();
        let peer = Client::create(Memory::new(), "peer", now(), &mut SystemRng).unwrap();
        let ours = ours.with_policy(policy.clone());
        let mut pair = Self { ours, peer: peer.with_policy(policy.clone()) };
        let mut directories = [Directory::new(), Directory::new()];
        settle(&mut pair.peer, &mut directories, 1);
        let first = send_with(&mut pair.ours, "peer", 1, |ours| settle(ours, &mut directories, 0));
        receive(&mut pair.peer, "ours", &first);
        // Nobody vouches for who wrote first in sealed mail: people compare keys.
        let account = pair.ours.trust("ours").unwrap().unwrap().account;
        pair.peer.verify("ours", &account, now(), &mut SystemRng).unwrap();
        let answer = send(&mut pair.peer, "ours", 1);
        receive(&mut pair.ours, "peer", &answer);
        let mut store = pair.ours.into_store();
        fill(&mut store, peers);
        let mut ours = Client::open(store).unwrap().with_policy(policy);
        settle(&mut ours, &mut directories, 0);
        Self { ours, peer: pair.peer }
    }
}

/// Rows of the size of a session, its device and its user, under keys that nobody asks for.
fn fill<S: Store>(store: &mut S, peers: usize) {
    let value = |store: &mut S, table| {
        store.transact::<_, Error>(|tx| Ok(tx.scan(table, &[], 1)?.remove(0).1)).unwrap()
    };
    let mut rows: Vec<_> = [Table::Session, Table::Device, Table::User]
        .map(|table| (table, value(store, table)))
        .into();
    // Contacts of sealed mail: a row of each, and of its number.
    let tickets = store.transact::<_, Error>(|tx| tx.scan(Table::Ticket, &[], 4)).unwrap();
    rows.extend(tickets.into_iter().map(|(_, row)| (Table::Ticket, row)));
    let numbers: Vec<usize> = (1..peers).collect();
    for numbers in numbers.chunks(5_000) {
        let work = |tx: &mut dyn Transaction| {
            for number in numbers {
                // Spread over all keys, as tags are.
                let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
                for (at, (table, value)) in (0_u8..).zip(&rows) {
                    let key = [&spread[..], &[0; 11], &[at]].concat();
                    tx.put(*table, &key, value)?;
                }
            }
            Ok::<(), Error>(())
        };
        store.transact(work).unwrap();
    }
}

/// Writes messages and hands them to the transport.
pub(crate) fn send<S: Scope>(from: &mut Client<S>, to: &str, count: usize) -> Envelopes {
    send_with(from, to, count, |from| drain(from, |_| panic!("there is nothing to fetch")))
}

fn send_with<S: Scope>(
    from: &mut Client<S>,
    to: &str,
    count: usize,
    drain: impl FnOnce(&mut Client<S>) -> Envelopes,
) -> Envelopes {
    for _ in 0..count {
        from.write(to, &TEXT, now(), &mut SystemRng).unwrap();
    }
    let envelopes = drain(from);
    assert_eq!(envelopes.len(), count);
    envelopes
}

/// Receives envelopes, and takes what is in the inbox.
pub(crate) fn receive<S: Scope>(to: &mut Client<S>, from: &str, envelopes: &[Vec<u8>]) {
    let from = Address::new(from, 1);
    for envelope in envelopes {
        let named = Some(&from).filter(|_| !envelope.starts_with(&[1, 3]));
        to.receive(named, envelope, now(), &mut SystemRng).map(drop).unwrap();
    }
    let inbox = to.inbox(MANY).unwrap();
    assert_eq!(inbox.len(), envelopes.len());
    for incoming in inbox {
        to.acknowledge(incoming.id).unwrap();
    }
}

/// Does the tasks once. Returns the envelopes among them.
fn drain<S: Scope>(of: &mut Client<S>, mut fetch: impl FnMut(&Action) -> Vec<u8>) -> Envelopes {
    let mut envelopes = Envelopes::new();
    for task in of.tasks(MANY, now(), &mut SystemRng).unwrap() {
        let bytes;
        let answer = match task.action {
            Action::Send { envelope, .. } | Action::SendSealed { envelope, .. } => {
                envelopes.push(envelope);
                Answer::Done
            }
            action => {
                bytes = fetch(&action);
                match action {
                    Action::FetchSummary => Answer::Summary(&bytes),
                    Action::FetchDevices(_) => Answer::Devices(&bytes),
                    Action::FetchBundle(_) => Answer::Bundle(&bytes),
                    _ => Answer::Done,
                }
            }
        };
        of.complete(&task.id, answer, now(), &mut SystemRng).unwrap();
    }
    envelopes
}

/// Does the tasks, with the directories of both, until there are none.
fn settle<S: Scope>(of: &mut Client<S>, directories: &mut [Directory; 2], own: usize) -> Envelopes {
    let mut envelopes = Envelopes::new();
    for _ in 0..5 {
        envelopes.extend(drain(of, |action| match action {
            Action::FetchSummary => directories[own].summary(1).encode(),
            Action::Upload(upload) => {
                directories[own].upload(1, upload).map(drop).unwrap();
                Vec::new()
            }
            Action::FetchDevices(_) => directories[1 - own].list().unwrap().encode(),
            Action::FetchBundle(_) => {
                directories[1 - own].bundle(1, "ours", now().as_secs()).unwrap().encode()
            }
            _ => panic!("there is something new to do"),
        }));
    }
    envelopes
}
