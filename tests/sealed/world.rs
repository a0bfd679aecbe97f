//! People whose apps seal their mail, and a server.

use subrosa::protocol::IdentityKeyPair;
use subrosa::store::Memory;
use subrosa::{
    Client, Delivery, Error, Event, Item, NewDevice, Policy, Received, Role, ServerKey, Trust,
    UnixTime,
};

use super::network::{NOW, Seeded};
use super::post::{Mail, Post, take};

pub(crate) const MINUTE: u64 = 60;
pub(crate) const DAY: u64 = 24 * 60 * MINUTE;

pub(crate) type App = Client<Memory>;

pub(crate) struct World {
    pub(crate) post: Post,
    pub(crate) rng: Seeded,
    pub(crate) now: UnixTime,
    pub(crate) policy: Policy,
}

impl World {
    pub(crate) fn new(name: &str) -> Self {
        let mut policy = Policy::default();
        policy.delivery = Delivery::Sealed;
        Self {
            post: Post::default(),
            rng: Seeded::new(1, name),
            now: UnixTime::from_secs(NOW).unwrap(),
            policy,
        }
    }

    /// A server that issues certificates, which every app trusts.
    pub(crate) fn with_certificates(name: &str) -> Self {
        let mut world = Self::new(name);
        let issuer = IdentityKeyPair::generate(&mut world.rng);
        world.policy.trusted_servers = vec![ServerKey { id: 1, key: issuer.public_key() }];
        world.post.issuer = Some(issuer);
        world
    }

    pub(crate) fn pass(&mut self, seconds: u64) {
        self.now = self.now.after(seconds);
    }

    pub(crate) fn create(&mut self, user: &str) -> App {
        let client = Client::create(Memory::new(), user, self.now, &mut self.rng).unwrap();
        let mut client = client.with_policy(self.policy.clone());
        self.post.settle(&mut client, self.now, &mut self.rng);
        client
    }

    /// Alice, and Bob on a copy of his store that is older than the contact: it refuses the three
    /// texts that Alice wrote since.
    pub(crate) fn with_older_copy(&mut self) -> (App, App) {
        let mut bob = self.create("bob");
        let copy = bob.into_store();
        bob = self.open(copy.clone());
        let mut alice = self.create("alice");
        self.write(&mut alice, "bob", "one");
        self.settle_all(&mut [&mut alice, &mut bob]);
        self.write(&mut bob, "alice", "two");
        self.settle_all(&mut [&mut alice, &mut bob]);
        drop(bob);
        let mut bob = self.open(copy);
        self.work(&mut bob);
        for text in ["three", "four", "five"] {
            self.write(&mut alice, "bob", text);
            self.work(&mut alice);
            for received in self.fetch(&mut bob) {
                assert_eq!(received, Received::Refused(Error::UnknownHeader));
            }
        }
        (alice, bob)
    }

    pub(crate) fn open(&mut self, store: Memory) -> App {
        Client::open(store).unwrap().with_policy(self.policy.clone())
    }

    pub(crate) fn link(&mut self, old: &mut App) -> App {
        self.link_as(old, Role::Device)
    }

    pub(crate) fn link_as(&mut self, old: &mut App, role: Role) -> App {
        let new = NewDevice::generate(&mut self.rng);
        let grant = old.link(&new.code(), role, self.now, &mut self.rng).unwrap();
        let client = Client::join(Memory::new(), &new, &grant, self.now, &mut self.rng).unwrap();
        self.post.settle(old, self.now, &mut self.rng);
        let mut client = client.with_policy(self.policy.clone());
        self.post.settle(&mut client, self.now, &mut self.rng);
        client
    }

    pub(crate) fn write(&mut self, from: &mut App, to: &str, text: &str) {
        from.write(to, text.as_bytes(), self.now, &mut self.rng).unwrap();
    }

    /// Does the tasks of a device, which leave its mail with the server.
    pub(crate) fn work(&mut self, app: &mut App) {
        drop(self.post.settle(app, self.now, &mut self.rng));
    }

    pub(crate) fn fetch(&mut self, app: &mut App) -> Vec<Received> {
        self.post.fetch(app, self.now, &mut self.rng)
    }

    pub(crate) fn give(&mut self, app: &mut App, mail: &Mail) -> Received {
        app.receive(mail.named(), &mail.envelope, self.now, &mut self.rng).unwrap()
    }

    /// Everybody's mail and tasks, in rounds, until there is none.
    pub(crate) fn settle(&mut self, apps: &mut [&mut App]) {
        for _ in 0..50 {
            let mut any = false;
            for app in &mut *apps {
                self.work(app);
                any |= !self.fetch(app).is_empty();
                self.work(app);
            }
            let is_left = |app: &&mut App| {
                self.post.mail.get(app.address()).is_some_and(|mail| !mail.is_empty())
            };
            if !any && !apps.iter().any(is_left) {
                return;
            }
        }
        panic!("there is mail without end");
    }

    /// As [`World::settle`], and what is asked at a time that is drawn is asked.
    pub(crate) fn settle_all(&mut self, apps: &mut [&mut App]) {
        for _ in 0..3 {
            self.settle(apps);
            self.pass(11 * MINUTE);
        }
        self.settle(apps);
    }

    /// Two people who read each other.
    pub(crate) fn talking(&mut self) -> (App, App) {
        let (mut alice, mut bob) = (self.create("alice"), self.create("bob"));
        self.write(&mut alice, "bob", "one");
        self.settle_all(&mut [&mut alice, &mut bob]);
        self.write(&mut bob, "alice", "two");
        self.settle_all(&mut [&mut alice, &mut bob]);
        assert_eq!(read(&mut bob), ["one"]);
        assert_eq!(read(&mut alice), ["two"]);
        (alice, bob)
    }
}

/// What a device shows, oldest first.
pub(crate) fn read(app: &mut App) -> Vec<String> {
    shown(app).into_iter().map(|(_, _, text)| text).collect()
}

/// Who wrote it, how far that is believed, and what.
pub(crate) fn shown(app: &mut App) -> Vec<(String, Trust, String)> {
    let texts = take(app).into_iter().filter_map(|incoming| match incoming.item {
        Item::Text(text) => Some(text),
        _ => None,
    });
    texts
        .map(|text| {
            let plain = String::from_utf8_lossy(&text.text).into_owned();
            (text.from.to_string(), text.trust, plain)
        })
        .collect()
}

pub(crate) fn events(app: &mut App) -> Vec<Event> {
    let events = take(app).into_iter().filter_map(|incoming| match incoming.item {
        Item::Event(event) => Some(event),
        _ => None,
    });
    events.collect()
}

/// The ticket of a sealed envelope.
pub(crate) fn ticket(envelope: &[u8]) -> [u8; 16] {
    assert_eq!(envelope[..2], [1, 3], "it is sealed");
    envelope[18..34].try_into().unwrap()
}

/// Whether the message in a sealed envelope is an initial one.
pub(crate) fn is_initial(envelope: &[u8]) -> bool {
    envelope[35] == 2
}
