//! A small world: a server that can be told to lie, and stores whose rows can be counted and read.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use subrosa::directory::Directory;
use subrosa::store::{Memory, Row, Store, Table, Transaction, Value};
use subrosa::{
    Action, Address, Answer, Client, Completed, Error, Event, Item, Received, Text, UnixTime,
    Zeroizing,
};

use crate::counting::{Cost, Counted, Counter};
use crate::liar::{Liar, Saying};
use crate::network::Seeded;
use crate::post::{Mail, Post};

/// A store that several can hold: the client, and whoever looks at it or steals it.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    rows: Rc<RefCell<Memory>>,
    written: Counter,
}

/// A client over such a store.
pub(crate) type App = Client<Disk>;

impl Disk {
    /// Every row.
    pub(crate) fn rows(&self) -> Vec<(Table, Row)> {
        let read = |tx: &mut dyn Transaction| {
            let mut all = Vec::new();
            for table in Table::ALL {
                all.extend(tx.scan(*table, &[], usize::MAX)?.into_iter().map(|row| (*table, row)));
            }
            Ok::<_, Error>(all)
        };
        self.rows.borrow_mut().transact(read).unwrap()
    }

    /// Rows and bytes that it holds.
    pub(crate) fn size(&self) -> (usize, usize) {
        let rows = self.rows();
        (rows.len(), rows.iter().map(|(_, (key, value))| key.len() + value.len()).sum())
    }

    /// Rows of a table.
    pub(crate) fn count(&self, table: Table) -> usize {
        self.rows().iter().filter(|(of, _)| *of == table).count()
    }

    /// Whether these bytes stand in a row.
    pub(crate) fn holds(&self, bytes: &[u8]) -> bool {
        let is_in = |row: &[u8]| row.windows(bytes.len()).any(|window| window == bytes);
        self.rows().iter().any(|(_, (key, value))| is_in(key) || is_in(value))
    }

    /// Rows and bytes that were written since this was asked last.
    pub(crate) fn written(&self) -> (u64, u64) {
        let Cost { rows, bytes, .. } = self.written.take();
        (rows, bytes)
    }

    /// How often a row was read since this or what was written was asked last.
    pub(crate) fn read(&self) -> u64 {
        self.written.take().reads
    }

    /// A copy, as a thief or a backup makes it.
    pub(crate) fn copy(&self) -> Self {
        Self { rows: Rc::new(RefCell::new(self.rows.borrow().clone())), written: Rc::default() }
    }

    pub(crate) fn row(&self, table: Table, key: &[u8]) -> Option<Value> {
        self.rows.borrow_mut().transact(|tx| tx.get(table, key)).unwrap()
    }
}

impl Store for Disk {
    fn transact<T, E: From<Error>>(
        &mut self,
        work: impl FnOnce(&mut dyn Transaction) -> Result<T, E>,
    ) -> Result<T, E> {
        let written = &self.written;
        self.rows.borrow_mut().transact(|tx| work(&mut Counted::begin(tx, written)))
    }
}

/// The server, the clock and the generator.
pub(crate) struct World {
    pub(crate) post: Post,
    pub(crate) now: UnixTime,
    pub(crate) rng: Seeded,
    /// Device lists that the server gives in the place of those that it has. Empty: it has none.
    pub(crate) lists: BTreeMap<String, Vec<u8>>,
    /// Bundles that the server gives in the place of those that it has. Empty: it has none.
    pub(crate) bundles: BTreeMap<Address, Vec<u8>>,
    /// Receivers for whom the server takes nothing now.
    pub(crate) full: Vec<Address>,
}

impl World {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            post: Post::default(),
            now: UnixTime::from_secs(1_800_000_000).unwrap(),
            rng: Seeded::new(1, name),
            lists: BTreeMap::new(),
            bundles: BTreeMap::new(),
            full: Vec::new(),
        }
    }

    /// Makes an account, and has it registered.
    pub(crate) fn app(&mut self, user: &str) -> (App, Disk) {
        let disk = Disk::default();
        let mut app = Client::create(disk.clone(), user, self.now, &mut self.rng).unwrap();
        self.settle(&mut app);
        (app, disk)
    }

    pub(crate) fn pass(&mut self, secs: u64) {
        self.now = self.now.after(secs);
    }

    /// Does every task of a client. Returns what it did.
    pub(crate) fn settle(&mut self, app: &mut App) -> Vec<Action> {
        let mut done = Vec::new();
        for _ in 0..2_000 {
            let tasks = app.tasks(100, self.now, &mut self.rng).unwrap();
            if tasks.is_empty() {
                return done;
            }
            for task in tasks {
                let rng = &mut self.rng;
                match &task.action {
                    Action::FetchDevices(user) if self.lists.contains_key(user) => {
                        let list = &self.lists[user];
                        let answer =
                            if list.is_empty() { Answer::Missing } else { Answer::Devices(list) };
                        app.complete(&task.id, answer, self.now, rng).unwrap();
                    }
                    Action::FetchBundle(of) if self.bundles.contains_key(of) => {
                        let bundle = &self.bundles[of];
                        let answer = if bundle.is_empty() {
                            Answer::Missing
                        } else {
                            Answer::Bundle(bundle)
                        };
                        app.complete(&task.id, answer, self.now, rng).unwrap();
                    }
                    Action::Send { to, .. } if self.full.contains(to) => {
                        let completed =
                            app.complete(&task.id, Answer::Failed, self.now, rng).unwrap();
                        assert_eq!(completed, Completed::Later);
                    }
                    _ => drop(self.post.perform(app, &task, self.now, rng).unwrap()),
                }
                done.push(task.action);
            }
        }
        panic!("{} has tasks without end", app.address());
    }

    /// Hands an envelope to a client.
    pub(crate) fn give(&mut self, app: &mut App, from: &Address, envelope: &[u8]) -> Received {
        app.receive(Some(from), envelope, self.now, &mut self.rng).unwrap()
    }

    /// A client fetches its mail.
    pub(crate) fn fetch(&mut self, app: &mut App) -> Vec<Received> {
        self.post.fetch(app, self.now, &mut self.rng)
    }

    /// Tasks and mail of all, until nothing moves any more.
    pub(crate) fn rest(&mut self, apps: &mut [&mut App]) {
        for _ in 0..20 {
            let mut moved = false;
            for app in &mut *apps {
                moved |= !self.settle(app).is_empty();
                moved |= !self.fetch(app).is_empty();
            }
            if !moved {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    pub(crate) fn write(&mut self, app: &mut App, to: &str, text: &str) -> subrosa::MessageId {
        app.write(to, text.as_bytes(), self.now, &mut self.rng).unwrap()
    }

    /// The two write to each other, so that their session is answered on both sides.
    pub(crate) fn acquaint(&mut self, one: &mut App, two: &mut App) {
        let (first, second) = (one.address().user.clone(), two.address().user.clone());
        self.write(one, &second, "hello");
        self.rest(&mut [one, two]);
        self.write(two, &first, "hello");
        self.rest(&mut [one, two]);
        assert_eq!((texts(one), texts(two)), (vec!["hello".into()], vec!["hello".into()]));
    }

    /// Mail to a device, which stays with the server.
    pub(crate) fn mail(&self, to: &Address) -> Vec<Mail> {
        self.post.mail.get(to).map(|mail| mail.iter().cloned().collect()).unwrap_or_default()
    }

    pub(crate) fn directory(&mut self, user: &str) -> &mut Directory {
        self.post.users.entry(user.into()).or_default()
    }
}

impl Liar {
    /// Says something to a client, and hands it over.
    pub(crate) fn tell(
        &mut self,
        world: &mut World,
        app: &mut App,
        talk: usize,
        saying: &Saying,
    ) -> Received {
        let envelope = self.say(world, talk, saying);
        world.give(app, &self.address.clone(), &envelope)
    }

    /// Becomes a contact with an answered session: it writes, is written to, and opens that.
    /// Returns the session.
    pub(crate) fn befriend(&mut self, world: &mut World, app: &mut App) -> usize {
        let talk = self.begin(world, &app.address().clone());
        let hello = self.tell(world, app, talk, &Saying::text(1, "hello"));
        assert!(matches!(hello, Received::Incoming(_)), "{hello:?}");
        inbox(app);
        let user = self.address.user.clone();
        world.write(app, &user, "hello");
        world.settle(app);
        assert!(!self.hear_all(world).is_empty());
        assert!(self.talks[talk].session.is_answered());
        talk
    }
}

/// Takes everything from the inbox.
pub(crate) fn inbox(app: &mut App) -> Vec<Item> {
    let mut all = Vec::new();
    loop {
        let some = app.inbox(1_000).unwrap();
        if some.is_empty() {
            return all;
        }
        for incoming in some {
            app.acknowledge(incoming.id).unwrap();
            all.push(incoming.item);
        }
    }
}

/// Takes everything from the inbox, and returns the texts that are to be shown.
pub(crate) fn texts(app: &mut App) -> Vec<String> {
    let text = |item| match item {
        Item::Text(text) => Some(shown(&text)),
        _ => None,
    };
    inbox(app).into_iter().filter_map(text).collect()
}

/// Takes everything from the inbox, and returns the events.
pub(crate) fn events(app: &mut App) -> Vec<Event> {
    let event = |item| match item {
        Item::Event(event) => Some(event),
        _ => None,
    };
    inbox(app).into_iter().filter_map(event).collect()
}

pub(crate) fn shown(text: &Text) -> String {
    String::from_utf8_lossy(&text.text).into_owned()
}

/// The text of what was received.
pub(crate) fn incoming(received: Received) -> Item {
    match received {
        Received::Incoming(incoming) => incoming.item,
        other => panic!("{other:?}"),
    }
}

/// The key pair in a row of the account: what a thief of the store has.
pub(crate) fn stolen(disk: &Disk, row: &[u8]) -> subrosa::protocol::IdentityKeyPair {
    let bytes: Zeroizing<Vec<u8>> = disk.row(Table::Account, row).expect("it is there");
    subrosa::protocol::IdentityKeyPair::decode(&bytes).unwrap()
}
