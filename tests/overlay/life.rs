//! Every intention over rows that are read later. It is run again until nothing is missing, and
//! draws anew each time: what it draws must not be what it reads by.

use std::collections::BTreeMap;

use subrosa::store::{Change, Memory, Overlay, Ran, Transaction};
use subrosa::{
    Address, Admins, CallId, Client, Delivery, Error, GroupIntention, Incoming, Item, Loopback,
    NewDevice, Open, Policy, Role, SasStage, Scanned, Signal, SignalKind, Trust, UnixTime,
};

use subrosa::group::GroupId;

use super::network::Seeded;
use super::{Database, find};

/// More runs than any intention needs.
const RUNS: usize = 200;

struct Life {
    stores: BTreeMap<&'static str, Database>,
    server: Loopback,
    rng: Seeded,
    policy: Policy,
    now: UnixTime,
}

const BOTH: [Delivery; 2] = [Delivery::Open, Delivery::Sealed];

impl Life {
    fn new(delivery: Delivery) -> Self {
        let (server, rng) = (Loopback::new(), Seeded::new(1, "a life"));
        let mut policy = Policy::default();
        policy.delivery = delivery;
        let now = super::now();
        let mut life = Self { stores: BTreeMap::new(), server, rng, policy, now };
        for user in ["alice", "bob", "carol"] {
            life.begin(user, |tx, rng| Client::create_within(tx, user, now, rng)).unwrap();
        }
        life
    }

    fn begin<T>(
        &mut self,
        store: &'static str,
        mut work: impl FnMut(&mut dyn Transaction, &mut Seeded) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let rng = &mut self.rng;
        let database =
            self.stores.entry(store).or_insert_with(|| Database::of(Memory::new(), false));
        let mut overlay = Overlay::new();
        let mut last = Vec::new();
        for _ in 0..RUNS {
            match overlay.run(|tx| work(tx, rng)) {
                Ran::Missing(all) => {
                    last.clone_from(&all);
                    for missing in all {
                        let (_, rows) = find(&database.rows.lock().unwrap(), &missing);
                        overlay.supply(missing, rows);
                    }
                }
                Ran::Done(done, changes) => {
                    let mut rows = database.rows.lock().unwrap();
                    for Change { table, key, value } in changes.into_writes() {
                        match value {
                            Some(value) => drop(rows.insert((table, key), (0, value))),
                            None => drop(rows.remove(&(table, key))),
                        }
                    }
                    return done;
                }
            }
        }
        panic!("an intention never ends: {last:?} is missing")
    }

    fn of<T>(
        &mut self,
        store: &'static str,
        mut work: impl FnMut(&mut Client<Open<'_>>, UnixTime, &mut Seeded) -> Result<T, Error>,
    ) -> T {
        let (policy, now) = (self.policy.clone(), self.now);
        let done = self
            .begin(store, |tx, rng| Client::within(tx, &policy, |client| work(client, now, rng)));
        done.unwrap()
    }

    fn sync(&mut self) {
        self.rounds(1);
    }

    /// What is asked of the server for sealed mail has its time, which is up to ten minutes.
    fn rest(&mut self) {
        self.rounds(240);
    }

    /// All that there is to do, each device's in one operation.
    fn rounds(&mut self, seconds: u64) {
        for _ in 0..3 {
            self.now = self.now.after(seconds);
            for store in self.stores.keys().copied().collect::<Vec<_>>() {
                let before = self.server.clone();
                self.server = self.of(store, |client, now, rng| {
                    let mut server = before.clone();
                    server.sync(client, now, rng)?;
                    Ok(server)
                });
            }
        }
    }
}

fn roses(life: &mut Life) -> GroupId {
    // The first text goes in the operation that founds the group.
    let group = life.of("alice", |client, now, rng| {
        let group = client.create_group(&["bob", "carol"], b"roses", now, rng)?;
        client.write_to_group(group, "hello", now, rng)?;
        client.preview_change(group, &[GroupIntention::Remove("bob")])?;
        Ok(group)
    });
    life.rest();
    group
}

fn acquainted(delivery: Delivery) -> Life {
    let mut life = Life::new(delivery);
    life.rest();
    for other in ["bob", "carol"] {
        life.of("alice", |client, now, rng| client.write(other, "hello", now, rng));
    }
    life.rest();
    for other in ["bob", "carol"] {
        life.of(other, |client, now, rng| client.write("alice", "hello", now, rng));
    }
    life.rest();
    life
}

#[test]
fn texts_and_devices() {
    for delivery in BOTH {
        let mut life = acquainted(delivery);
        life.of("bob", |client, now, rng| {
            let message = client.write("carol", "hello", now, rng)?;
            client.progress(message)?;
            client.withdraw(message)?;
            client.encrypt("alice", "hello", now, rng)
        });
        let tablet = NewDevice::generate(&mut life.rng);
        let code = tablet.code();
        let grant =
            life.of("alice", |client, now, rng| client.link(&code, Role::Manager, now, rng));
        let at = life.now;
        life.begin("tablet", |tx, rng| Client::join_within(tx, &tablet, &grant, at, rng)).unwrap();
        life.rest();
        life.of("bob", |client, now, rng| client.write("alice", "to both", now, rng));
        life.rest();
        assert_eq!(life.of("tablet", |client, _, _| Ok(client.inbox(100)?.len())), 1);
        life.of("tablet", |client, now, rng| client.remove_device(1, now, rng));
        life.rest();
        life.of("bob", |client, now, rng| client.write("alice", "who is there?", now, rng));
        life.rest();
        life.of("bob", |client, now, rng| {
            let new = client.trust("alice")?.and_then(|trust| trust.new_account).unwrap();
            client.accept_new_key("alice", &new, now, rng)?;
            client.write("alice", "and now", now, rng)
        });
        life.rest();
        assert_eq!(life.of("tablet", |client, _, _| Ok(texts(&client.inbox(100)?))), 3);
        life.of("bob", |client, now, rng| {
            client.block("carol", now, rng)?;
            client.unblock("carol")?;
            client.forget("carol")?;
            client.reset(&Address::new("alice", 2))
        });
        life.rest();
        life.of("carol", |client, now, rng| client.write("bob", "still there?", now, rng));
        life.rest();
        assert_eq!(life.of("bob", |client, _, _| Ok(texts(&client.inbox(100)?))), 2);
    }
}

fn texts(all: &[Incoming]) -> usize {
    all.iter().filter(|incoming| matches!(incoming.item, Item::Text(_))).count()
}

#[test]
fn groups() {
    for delivery in BOTH {
        let mut life = acquainted(delivery);
        let group = roses(&mut life);
        life.of("bob", |client, now, rng| {
            client.join_group(group, now, rng)?;
            client.write_to_group(group, "here I am", now, rng)
        });
        life.of("carol", |client, now, rng| client.decline_group(group, now, rng));
        life.rest();
        let changes: [&[GroupIntention<'_>]; 3] = [
            &[GroupIntention::Promote("bob"), GroupIntention::Set(b"tulips")],
            &[GroupIntention::Demote("bob")],
            &[GroupIntention::Leave],
        ];
        for (who, change) in ["alice", "bob", "bob"].into_iter().zip(changes) {
            life.of(who, |client, now, rng| {
                client.refresh_group(group)?;
                client.change_group(group, change, now, rng)
            });
            life.rest();
        }
        let next = life.of("alice", |client, now, rng| {
            let next = client.continue_group(group, &["carol"], Admins::Founder, now, rng)?;
            client.change_group(next, &[GroupIntention::Add("bob")], now, rng)?;
            Ok(next)
        });
        life.rest();
        life.of("bob", |client, now, rng| client.join_group(next, now, rng));
        life.rest();
        let members = life.of("alice", |client, _, _| Ok(client.group(next)?.members.len()));
        assert_eq!(members, 2);
    }
}

/// Two that are founded at the same time with the same members are two.
#[test]
fn each_group_is_one_of_its_own() {
    for delivery in BOTH {
        let mut life = acquainted(delivery);
        let mut all: Vec<_> = (0..3).map(|_| roses(&mut life)).collect();
        let two = life.of("alice", |client, now, rng| {
            let found = |_| client.create_group(&["bob", "carol"], b"roses", now, rng);
            (0..2).map(found).collect::<Result<Vec<_>, Error>>()
        });
        all.extend(two);
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        assert_eq!(life.of("alice", |client, _, _| Ok(client.groups()?.len())), count);
    }
}

#[test]
fn verification_and_calls() {
    for delivery in BOTH {
        let mut life = acquainted(delivery);
        let code = life.of("alice", |client, now, rng| client.show_code("bob", now, rng));
        let scanned = life.of("bob", |client, now, rng| client.scan("alice", &code, now, rng));
        assert_eq!(scanned, Scanned::Match);
        life.sync();
        life.of("alice", |client, now, rng| client.confirm_scan("bob", now, rng));
        life.of("bob", |client, now, rng| client.unverify("alice", now, rng));
        life.of("alice", |client, now, rng| client.start_sas("bob", now, rng));
        life.sync();
        life.of("bob", |client, now, rng| client.accept_sas("alice", now, rng));
        life.sync();
        for (one, other) in [("alice", "bob"), ("bob", "alice")] {
            life.of(one, |client, now, rng| {
                let Some(SasStage::Compare(value)) = client.sas(other, now)? else {
                    panic!("nothing to compare")
                };
                client.confirm_sas(other, &value, now, rng)
            });
        }
        life.sync();
        assert_eq!(
            life.of("bob", |client, _, _| Ok(client.trust("alice")?.unwrap().trust)),
            Trust::Verified
        );
        let call = CallId::new([7; 16]);
        let offer = Signal::new(call, SignalKind::Offer, b"sdp").unwrap();
        life.of("alice", |client, now, rng| {
            client.signal(&[Address::new("bob", 1)], &offer, now, rng)
        });
        life.sync();
        assert_eq!(life.of("bob", |client, now, _| client.take_signals(9, now)).len(), 1);
    }
}
