//! Large groups, of real clients: what a text costs its sender, and how it gets to everybody; the
//! first text of one as large as it may be, and first messages of all devices to one.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use subrosa::group::{GroupId, Roster};
use subrosa::{
    Action, Answer, Client, Completed, Delivery, Error, Item, MessageId, NewDevice, Policy,
    Received, Role, UnixTime,
};

use crate::counting::{Counter, Counting};
use crate::network::{NOW, Seeded};
use crate::post::{Post, take};

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

    fn create(&mut self, user: &str) -> (Client<Counting>, Counter) {
        let store = Counting::default();
        let cost = Rc::clone(&store.counter);
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

/// Ada founded a group of so many others, each with one device, of whom all hold her chain.
fn founded(others: usize) -> (Crowd, Client<Counting>, Counter, GroupId, Vec<String>) {
    let mut crowd = Crowd::new(Delivery::Open);
    let names: Vec<String> = (0..others).map(|at| format!("member {at}")).collect();
    let (mut ada, cost) = crowd.create("ada");
    for name in &names {
        drop(crowd.create(name));
        crowd.meet(&mut ada, name);
    }
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let group = ada.create_group(&all, b"many", crowd.now, &mut crowd.rng).unwrap();
    // The first text brings the chain, to each apart.
    crowd.write(&mut ada, group, "first");
    (crowd, ada, cost, group, names)
}

impl Crowd {
    /// A text that waits.
    fn begin(&mut self, client: &mut Client<Counting>, group: GroupId) -> MessageId {
        client.write_to_group(group, b"second", self.now, &mut self.rng).unwrap()
    }

    /// Sends what waits, as far as it `goes`. Returns to whom it went, and what came of all.
    fn send(
        &mut self,
        client: &mut Client<Counting>,
        mut goes: impl FnMut() -> bool,
    ) -> (Vec<String>, Vec<Completed>) {
        let (mut sent, mut done) = (Vec::new(), Vec::new());
        loop {
            let tasks = client.tasks(50, self.now, &mut self.rng).unwrap();
            if tasks.is_empty() {
                return (sent, done);
            }
            for task in tasks {
                let completed = match &task.action {
                    Action::Send { .. } if !goes() => {
                        client.complete(&task.id, Answer::Failed, self.now, &mut self.rng)
                    }
                    action => {
                        if let Action::Send { to, .. } = action {
                            sent.push(to.user.clone());
                        }
                        self.post.perform(client, &task, self.now, &mut self.rng)
                    }
                };
                done.push(completed.unwrap());
            }
        }
    }
}

#[test]
fn to_note_that_one_of_many_has_a_text_costs_no_more_where_they_are_more() {
    let most = [70, 200].map(|others| {
        let (mut crowd, mut ada, cost, group, _) = founded(others);
        crowd.begin(&mut ada, group);
        let tasks = ada.tasks(1_000, crowd.now, &mut crowd.rng).unwrap();
        assert_eq!(tasks.len(), others);
        let bytes = tasks.iter().map(|task| {
            cost.take();
            ada.complete(&task.id, Answer::Done, crowd.now, &mut crowd.rng).unwrap();
            cost.take().bytes
        });
        bytes.max().unwrap()
    });
    assert!(most[0] > 1_000 && most[1] < 6_000 && most[1] < most[0] * 5 / 4, "{most:?}");
}

#[test]
fn each_of_many_gets_one_envelope_whatever_fails_on_the_way() {
    let (mut crowd, mut ada, _, group, names) = founded(150);
    let text = crowd.begin(&mut ada, group);
    let is_last = |done: &&Completed| **done == Completed::Sent(text);
    // Every third does not get through, and the app is closed then.
    let mut turn = 0;
    let every_third = || {
        turn += 1;
        turn % 3 != 0
    };
    let (mut sent, done) = crowd.send(&mut ada, every_third);
    assert_eq!((sent.len(), done.iter().filter(is_last).count()), (100, 0));
    let mut ada = Client::open(ada.into_store()).unwrap();
    ada.connected().unwrap();
    let (rest, done) = crowd.send(&mut ada, || true);
    assert_eq!(done.iter().filter(is_last).count(), 1);
    sent.extend(rest);
    assert_eq!(sent.len(), names.len());
    let (got, all): (BTreeSet<_>, BTreeSet<_>) = (sent.iter().collect(), names.iter().collect());
    assert_eq!(got, all);
}

#[test]
fn what_is_withdrawn_reaches_no_more_of_many() {
    let (mut crowd, mut ada, _, group, _) = founded(130);
    let text = crowd.begin(&mut ada, group);
    let tasks = ada.tasks(10, crowd.now, &mut crowd.rng).unwrap();
    for task in &tasks {
        ada.complete(&task.id, Answer::Done, crowd.now, &mut crowd.rng).unwrap();
    }
    assert!(ada.withdraw(text).unwrap());
    let (sent, _) = crowd.send(&mut ada, || true);
    assert_eq!((tasks.len(), sent.len()), (10, 0));
}

#[test]
fn the_devices_of_somebody_who_is_in_no_group_have_no_group_looked_through() {
    let rows = [1, 8].map(|groups| {
        let mut crowd = Crowd::new(Delivery::Open);
        let ((mut ada, cost), (mut eve, _)) = (crowd.create("ada"), crowd.create("eve"));
        drop(crowd.create("bea"));
        crowd.meet(&mut ada, "bea");
        crowd.meet(&mut ada, "eve");
        for _ in 0..groups {
            ada.create_group(&["bea"], b"", crowd.now, &mut crowd.rng).unwrap();
        }
        crowd.work(&mut ada);
        let new = NewDevice::generate(&mut crowd.rng);
        drop(eve.link(&new.code(), Role::Device, crowd.now, &mut crowd.rng).unwrap());
        crowd.work(&mut eve);
        crowd.meet(&mut ada, "eve");
        let before = cost.get().rows;
        crowd.work(&mut ada);
        cost.get().rows - before
    });
    assert_eq!(rows[0], rows[1]);
}
