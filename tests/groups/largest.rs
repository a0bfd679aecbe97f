//! A group as large as it may be, of real clients with two devices each: its first text, and first
//! messages of all devices to one.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use subrosa::group::{GroupId, Roster};
use subrosa::store::{Memory, Row, Store, Table, Transaction, Value};
use subrosa::{Action, Client, Delivery, Error, Item, NewDevice, Policy, Received, Role, UnixTime};

use crate::network::{NOW, Seeded};
use crate::post::{Post, take};

/// What was done to a store.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    transactions: u64,
    rows: u64,
    bytes: u64,
}

/// A store in memory that counts transactions, and rows and bytes that are written.
#[derive(Default)]
struct Counting {
    rows: Memory,
    cost: Rc<Cell<Cost>>,
}

impl Store for Counting {
    fn transact<T, E: From<Error>>(
        &mut self,
        work: impl FnOnce(&mut dyn Transaction) -> Result<T, E>,
    ) -> Result<T, E> {
        let cost = Rc::clone(&self.cost);
        let Cost { transactions, rows, bytes } = cost.get();
        cost.set(Cost { transactions: transactions + 1, rows, bytes });
        self.rows.transact(|tx| work(&mut Counted { tx, cost }))
    }
}

struct Counted<'t> {
    tx: &'t mut dyn Transaction,
    cost: Rc<Cell<Cost>>,
}

impl Transaction for Counted<'_> {
    fn get(&mut self, table: Table, key: &[u8]) -> Result<Option<Value>, Error> {
        self.tx.get(table, key)
    }

    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), Error> {
        let Cost { transactions, rows, bytes } = self.cost.get();
        let bytes = bytes + (key.len() + value.len()) as u64;
        self.cost.set(Cost { transactions, rows: rows + 1, bytes });
        self.tx.put(table, key, value)
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), Error> {
        self.tx.delete(table, key)
    }

    fn scan(&mut self, table: Table, prefix: &[u8], most: usize) -> Result<Vec<Row>, Error> {
        self.tx.scan(table, prefix, most)
    }
}

/// What a client did until it had no more tasks. Time is that of its calls.
#[derive(Debug, Default)]
struct Done {
    took: Duration,
    lists: usize,
    bundles: usize,
    bundle_bytes: usize,
    sent: usize,
    sent_bytes: usize,
}

struct Crowd {
    post: Post,
    policy: Policy,
    now: UnixTime,
    rng: Seeded,
}

impl Crowd {
    fn new(delivery: Delivery) -> Self {
        let mut policy = Policy::default();
        policy.delivery = delivery;
        // Of one-time prekeys one: to make a hundred takes longer than all the rest.
        (policy.prekeys_low, policy.prekeys_target) = (1, 1);
        let (now, rng) = (UnixTime::from_secs(NOW).unwrap(), Seeded::new(82, "a large group"));
        Self { post: Post::default(), policy, now, rng }
    }

    fn create(&mut self, user: &str) -> (Client<Counting>, Rc<Cell<Cost>>) {
        let store = Counting::default();
        let cost = Rc::clone(&store.cost);
        let client = Client::create(store, user, self.now, &mut self.rng).unwrap();
        let mut client = client.with_policy(self.policy.clone());
        self.work(&mut client);
        (client, cost)
    }

    /// Two devices of a user.
    fn pair(&mut self, user: &str) -> [Client<Counting>; 2] {
        let (mut phone, _) = self.create(user);
        let new = NewDevice::generate(&mut self.rng);
        let grant = phone.link(&new.code(), Role::Device, self.now, &mut self.rng).unwrap();
        self.work(&mut phone);
        let store = Counting::default();
        let laptop = Client::join(store, &new, &grant, self.now, &mut self.rng).unwrap();
        let mut laptop = laptop.with_policy(self.policy.clone());
        self.work(&mut laptop);
        [phone, laptop]
    }

    fn meet(&mut self, client: &mut Client<Counting>, user: &str) {
        let list = self.post.list(user).unwrap().encode();
        match client.update_devices(user, &list, self.now, &mut self.rng) {
            Ok(()) | Err(Error::StaleDeviceList) => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// Does every task of a client.
    fn work(&mut self, client: &mut Client<Counting>) -> Done {
        let mut done = Done::default();
        loop {
            let began = Instant::now();
            let tasks = client.tasks(64, self.now, &mut self.rng).unwrap();
            done.took += began.elapsed();
            if tasks.is_empty() {
                return done;
            }
            for task in tasks {
                let reply = self.post.serve(client.address(), &task.action, self.now);
                self.post.past.clear();
                match (&task.action, &reply) {
                    (Action::FetchDevices(_), _) => done.lists += 1,
                    (Action::FetchBundle(_), crate::post::Reply::Bundle(bundle)) => {
                        done.bundles += 1;
                        done.bundle_bytes += bundle.len();
                    }
                    (Action::Send { envelope, .. } | Action::SendSealed { envelope, .. }, _) => {
                        done.sent += 1;
                        done.sent_bytes += envelope.len();
                    }
                    _ => {}
                }
                let began = Instant::now();
                client.complete(&task.id, reply.answer(), self.now, &mut self.rng).unwrap();
                done.took += began.elapsed();
            }
        }
    }

    /// A client gets its mail, and does what follows. Returns what became of the mail.
    fn fetch(&mut self, client: &mut Client<Counting>) -> Vec<Received> {
        let mut received = self.post.fetch(client, self.now, &mut self.rng);
        // Lists and bundles are asked for at a drawn time, where mail is sealed.
        for _ in 0..2 {
            self.work(client);
            received.extend(self.post.fetch(client, self.now, &mut self.rng));
            self.now = self.now.after(1);
        }
        received
    }

    fn write(&mut self, client: &mut Client<Counting>, group: GroupId, what: &str) -> Done {
        let began = Instant::now();
        client.write_to_group(group, &[7; 64], self.now, &mut self.rng).unwrap();
        let took = began.elapsed();
        let mut done = self.work(client);
        done.took += took;
        println!("{what}: {done:?}");
        done
    }
}

/// How many texts to groups a client shows now, and how many others.
fn shown(client: &mut Client<Counting>) -> (usize, usize) {
    let (mut group, mut direct) = (0, 0);
    for incoming in take(client) {
        match incoming.item {
            Item::Group(_) => group += 1,
            Item::Text(_) => direct += 1,
            _ => {}
        }
    }
    (group, direct)
}

/// So many members: Ada, who writes first; Zoe, to whom everybody writes; and others.
fn first_text(members: usize, delivery: Delivery) {
    let (began, mut crowd) = (Instant::now(), Crowd::new(delivery));
    let (mut ada, cost) = crowd.create("ada");
    let names: Vec<String> = (2..members).map(|at| format!("member {at}")).collect();
    let mut others: Vec<Client<Counting>> =
        names.iter().flat_map(|name| crowd.pair(name)).collect();
    let [mut zoe, laptop] = crowd.pair("zoe");
    others.push(laptop);
    let devices = others.len() + 1;
    let all: Vec<&str> = names.iter().map(String::as_str).chain(["zoe"]).collect();
    all.iter().for_each(|user| crowd.meet(&mut ada, user));
    println!("{members} members, {devices} devices to write to; made in {:?}", began.elapsed());
    let began = Instant::now();
    let group = ada.create_group(&all, b"roses", crowd.now, &mut crowd.rng).unwrap();
    println!("founded in {:?}", began.elapsed());
    cost.take();
    let first = crowd.write(&mut ada, group, "first");
    println!("first: {:?}", cost.take());
    assert_eq!(first.bundles, devices);
    // The changes, the chain, the text.
    assert!(first.sent >= devices && first.sent <= 4 * devices, "{first:?}");
    ada.refresh_group(group).unwrap();
    crowd.write(&mut ada, group, "renewal");
    println!("renewal: {:?}", cost.take());
    crowd.write(&mut ada, group, "next");
    println!("next: {:?}", cost.take());
    let began = Instant::now();
    crowd.fetch(&mut zoe);
    zoe.join_group(group, crowd.now, &mut crowd.rng).unwrap();
    assert_eq!(shown(&mut zoe), (3, 0), "zoe");
    crowd.work(&mut zoe);
    for mut other in others {
        crowd.fetch(&mut other);
        assert_eq!(shown(&mut other).0, 3, "{}", other.address());
        crowd.meet(&mut other, "zoe");
        if other.address().user != "zoe" {
            other.write("zoe", "here I am", crowd.now, &mut crowd.rng).unwrap();
        }
        crowd.work(&mut other);
    }
    println!("every device got three texts and wrote one in {:?}", began.elapsed());
    let began = Instant::now();
    let received = crowd.post.fetch(&mut zoe, crowd.now, &mut crowd.rng);
    println!("zoe got {} envelopes in {:?}", received.len(), began.elapsed());
    let refused = |one: &&Received| matches!(one, Received::Refused(_));
    assert_eq!(received.iter().filter(refused).count(), 0, "{received:?}");
    assert_eq!(shown(&mut zoe).1, devices - 2);
}

#[test]
fn the_first_text_reaches_every_device_and_every_device_may_begin() {
    for delivery in [Delivery::Open, Delivery::Sealed] {
        first_text(8, delivery);
    }
}

#[test]
#[ignore = "1,024 members with two devices each: by hand, in release, with --nocapture"]
fn the_same_in_the_largest_group() {
    first_text(Roster::MAX_MEMBERS, Delivery::Open);
}

#[test]
#[ignore = "the same where mail is sealed"]
fn the_same_in_the_largest_group_whose_mail_is_sealed() {
    first_text(Roster::MAX_MEMBERS, Delivery::Sealed);
}
