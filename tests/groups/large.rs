//! What a text to many costs, however many they are.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use subrosa::directory::Directory;
use subrosa::store::{Memory, Row, Store, Table, Transaction, Value};
use subrosa::{Action, Address, Answer, Client, Completed, Error, Policy, SystemRng, UnixTime};

const NOW: u64 = 1_800_000_000;

fn now() -> UnixTime {
    UnixTime::from_secs(NOW).unwrap()
}

/// Memory that counts the bytes that are written.
#[derive(Clone, Default)]
struct Counted {
    rows: Memory,
    written: Rc<Cell<usize>>,
}

struct Counting<'a>(&'a mut dyn Transaction, &'a Cell<usize>);

impl Store for Counted {
    fn transact<T, E: From<Error>>(
        &mut self,
        work: impl FnOnce(&mut dyn Transaction) -> Result<T, E>,
    ) -> Result<T, E> {
        let written = &*self.written;
        self.rows.transact(|tx| work(&mut Counting(tx, written)))
    }
}

impl Transaction for Counting<'_> {
    fn get(&mut self, table: Table, key: &[u8]) -> Result<Option<Value>, Error> {
        self.0.get(table, key)
    }

    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.1.set(self.1.get() + key.len() + value.len());
        self.0.put(table, key, value)
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), Error> {
        self.0.delete(table, key)
    }

    fn scan(&mut self, table: Table, prefix: &[u8], most: usize) -> Result<Vec<Row>, Error> {
        self.0.scan(table, prefix, most)
    }
}

/// The server's half, for users of one device.
type Users = BTreeMap<String, Directory>;

fn register(users: &mut Users, user: &str) {
    let mut policy = Policy::default();
    (policy.prekeys_low, policy.prekeys_target) = (1, 1);
    let mut client = Client::create(Memory::new(), user, now(), &mut SystemRng).unwrap();
    client = client.with_policy(policy);
    work(&mut client, users, |_, _| true);
}

/// Does every task; `goes`: whether an envelope gets there.
fn work<S: Store>(
    client: &mut Client<S>,
    users: &mut Users,
    mut goes: impl FnMut(&Address, &[u8]) -> bool,
) -> Vec<Completed> {
    let own = client.address().clone();
    let mut all = Vec::new();
    loop {
        let tasks = client.tasks(50, now(), &mut SystemRng).unwrap();
        if tasks.is_empty() {
            return all;
        }
        for task in tasks {
            let mut of = |user: &str| users.entry(user.to_owned()).or_default().clone();
            let bytes = match &task.action {
                Action::FetchSummary => of(&own.user).summary(own.device).encode(),
                Action::FetchDevices(user) => of(user).list().unwrap().encode(),
                Action::FetchBundle(to) => {
                    let directory = users.get_mut(&to.user).unwrap();
                    directory.bundle(to.device, &own.user, NOW).unwrap().encode()
                }
                Action::Upload(upload) => {
                    let directory = users.entry(own.user.clone()).or_default();
                    drop(directory.upload(own.device, upload).unwrap());
                    Vec::new()
                }
                _ => Vec::new(),
            };
            let answer = match &task.action {
                Action::FetchSummary => Answer::Summary(&bytes),
                Action::FetchDevices(_) => Answer::Devices(&bytes),
                Action::FetchBundle(_) => Answer::Bundle(&bytes),
                Action::Send { to, envelope, .. } if !goes(to, envelope) => Answer::Failed,
                _ => Answer::Done,
            };
            all.push(client.complete(&task.id, answer, now(), &mut SystemRng).unwrap());
        }
    }
}

/// Who founded a group of so many, of whom all hold her chain; the server; the others' names.
fn founded(store: Counted, others: usize) -> (Client<Counted>, Users, Vec<String>) {
    let mut users = Users::new();
    let names: Vec<String> = (0..others).map(|at| format!("member {at}")).collect();
    let mut ada = Client::create(store, "ada", now(), &mut SystemRng).unwrap();
    work(&mut ada, &mut users, |_, _| true);
    for name in &names {
        register(&mut users, name);
        let list = users[name].list().unwrap().encode();
        ada.update_devices(name, &list, now(), &mut SystemRng).unwrap();
    }
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let group = ada.create_group(&all, b"many", now(), &mut SystemRng).unwrap();
    // The first text brings the chain, to each apart.
    ada.write_to_group(group, b"first", now(), &mut SystemRng).unwrap();
    work(&mut ada, &mut users, |_, _| true);
    (ada, users, names)
}

/// The most bytes that an answer to the task of sending one envelope makes the client write.
fn most_written(ada: &mut Client<Counted>, written: &Cell<usize>) -> usize {
    let tasks = ada.tasks(1_000, now(), &mut SystemRng).unwrap();
    let written_by = |task: &subrosa::Task, ada: &mut Client<Counted>| {
        let before = written.get();
        ada.complete(&task.id, Answer::Done, now(), &mut SystemRng).unwrap();
        written.get() - before
    };
    tasks.iter().map(|task| written_by(task, ada)).max().unwrap()
}

#[test]
fn to_note_that_one_of_many_has_a_text_costs_no_more_where_they_are_more() {
    let most = [70, 200].map(|others| {
        let store = Counted::default();
        let written = Rc::clone(&store.written);
        let (mut ada, _, _) = founded(store, others);
        let group = ada.groups().unwrap()[0];
        ada.write_to_group(group, b"second", now(), &mut SystemRng).unwrap();
        most_written(&mut ada, &written)
    });
    assert!(most[0] > 1_000 && most[1] < 6_000 && most[1] < most[0] * 5 / 4, "{most:?}");
}

#[test]
fn each_of_many_gets_one_envelope_whatever_fails_on_the_way() {
    let (mut ada, mut users, names) = founded(Counted::default(), 150);
    let group = ada.groups().unwrap()[0];
    let text = ada.write_to_group(group, b"second", now(), &mut SystemRng).unwrap();
    // Every third does not get through, and the app is closed then.
    let (mut sent, mut turn) = (Vec::new(), 0);
    let first = work(&mut ada, &mut users, |to, _| {
        turn += 1;
        let goes = turn % 3 != 0;
        sent.extend(goes.then(|| to.user.clone()));
        goes
    });
    assert_eq!((sent.len(), first.contains(&Completed::Sent(text))), (100, false));
    let mut ada = Client::open(ada.into_store()).unwrap();
    ada.connected().unwrap();
    let second = work(&mut ada, &mut users, |to, _| {
        sent.push(to.user.clone());
        true
    });
    assert_eq!(second.iter().filter(|done| **done == Completed::Sent(text)).count(), 1);
    assert_eq!(sent.len(), names.len());
    let (got, all): (BTreeSet<_>, BTreeSet<_>) = (sent.iter().collect(), names.iter().collect());
    assert_eq!(got, all);
}

#[test]
fn what_is_withdrawn_reaches_no_more_of_many() {
    let (mut ada, mut users, _) = founded(Counted::default(), 130);
    let group = ada.groups().unwrap()[0];
    let text = ada.write_to_group(group, b"second", now(), &mut SystemRng).unwrap();
    let tasks = ada.tasks(10, now(), &mut SystemRng).unwrap();
    for task in &tasks {
        ada.complete(&task.id, Answer::Done, now(), &mut SystemRng).unwrap();
    }
    assert!(ada.withdraw(text).unwrap());
    let mut sent = 0;
    work(&mut ada, &mut users, |_, _| {
        sent += 1;
        true
    });
    assert_eq!((tasks.len(), sent), (10, 0));
}
