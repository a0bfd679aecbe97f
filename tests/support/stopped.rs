//! An app that ends between two steps of its loop, and what is expected of it afterwards.

use std::collections::BTreeMap;

use subrosa::{Address, Client, InboxId, Item, NewDevice, Policy, Role, UnixTime};

use super::faulty::Faulty;
use super::network::Seeded;
use super::post::Post;

/// The app ended here.
struct Stopped;

struct App {
    address: Address,
    client: Client<Faulty>,
    store: Faulty,
    /// What was shown, by its name in the inbox.
    shown: BTreeMap<InboxId, String>,
}

struct Apps {
    post: Post,
    apps: Vec<App>,
    rng: Seeded,
    now: UnixTime,
    /// How many steps are made before everything ends.
    left: Option<usize>,
}

/// What is written, after what was written before has come.
const SCRIPT: &[&[(usize, &str, &str)]] = &[
    &[(0, "bob", "one"), (0, "bob", "two")],
    &[(2, "alice", "three"), (1, "bob", "four")],
    &[(0, "alice", "five"), (2, "alice", "six"), (1, "bob", "seven")],
];

fn open(store: &Faulty) -> Client<Faulty> {
    let mut policy = Policy::default();
    // Fewer keys make it quicker.
    (policy.prekeys_low, policy.prekeys_target) = (2, 4);
    Client::open(store.clone()).unwrap().with_policy(policy)
}

impl Apps {
    /// Alice with two devices, and Bob with one, who have not heard of each other.
    fn new(left: usize) -> Self {
        let (rng, now) =
            (&mut Seeded::new(1, "founding"), UnixTime::from_secs(1_800_000_000).unwrap());
        let stores = [(); 3].map(|()| Faulty::default());
        let mut phone = Client::create(stores[0].clone(), "alice", now, rng).unwrap();
        let new = NewDevice::generate(rng);
        let grant = phone.link(&new.code(), Role::Manager, now, rng).unwrap();
        drop(Client::join(stores[1].clone(), &new, &grant, now, rng).unwrap());
        drop(Client::create(stores[2].clone(), "bob", now, rng).unwrap());
        let apps = stores.map(|store| {
            let client = open(&store);
            App { address: client.address().clone(), client, store, shown: BTreeMap::new() }
        });
        let rng = Seeded::new(left as u64, "stopped");
        Self { post: Post::default(), apps: apps.into(), rng, now, left: Some(left) }
    }

    fn step(&mut self) -> Result<(), Stopped> {
        match &mut self.left {
            Some(0) => Err(Stopped),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// What an app does in its loop. Returns whether there was anything to do.
    fn drive(&mut self, at: usize) -> Result<bool, Stopped> {
        let (own, now) = (self.apps[at].address.clone(), self.now);
        let tasks = self.apps[at].client.tasks(3, now, &mut self.rng).unwrap();
        let mut any = !tasks.is_empty();
        self.step()?;
        for task in tasks {
            let reply = self.post.serve(&own, &task.action, now);
            self.step()?;
            self.apps[at].client.complete(&task.id, reply.answer(), now, &mut self.rng).unwrap();
            self.step()?;
        }
        while let Some(mail) = self.post.mail.get(&own).and_then(|mail| mail.front()).cloned() {
            any = true;
            let received =
                self.apps[at].client.receive(Some(&mail.from), &mail.envelope, now, &mut self.rng);
            let is_good = !matches!(received, Ok(subrosa::Received::Refused(_)) | Err(_));
            assert!(is_good, "{own} from {}: {received:?}", mail.from);
            self.step()?;
            // Acknowledged to the server.
            self.post.mail.get_mut(&own).unwrap().pop_front();
            self.step()?;
        }
        for incoming in self.apps[at].client.inbox(10).unwrap() {
            any = true;
            if let Item::Text(text) | Item::Late(text) = &incoming.item {
                let text = String::from_utf8(text.text.to_vec()).unwrap();
                self.apps[at].shown.insert(incoming.id, text);
            }
            self.step()?;
            self.apps[at].client.acknowledge(incoming.id).unwrap();
            self.step()?;
        }
        Ok(any)
    }

    fn settle(&mut self) {
        let mut idle = 0;
        for _ in 0..100 {
            let mut busy = false;
            for at in 0..self.apps.len() {
                match self.drive(at) {
                    Ok(any) => busy |= any,
                    Err(Stopped) => {
                        busy = true;
                        self.restart();
                    }
                }
            }
            // What failed comes again after a while.
            (idle, self.now) =
                if busy { (0, self.now) } else { (idle + 1, self.now.after(60 * 60)) };
            if idle == 2 {
                return;
            }
        }
        panic!("they never stop talking");
    }

    /// Nothing of what was in memory is left.
    fn restart(&mut self) {
        self.left = None;
        self.now = self.now.after(120);
        for app in &mut self.apps {
            app.client = open(&app.store);
        }
    }

    /// Returns whether it ended on the way.
    fn run(mut self) -> bool {
        for at in 0..self.apps.len() {
            // The prekeys are with the server before anybody writes, as far as this comes.
            if let Err(Stopped) = self.drive(at).and_then(|_| self.drive(at)) {
                self.restart();
            }
        }
        self.settle();
        for texts in SCRIPT {
            for (at, to, text) in *texts {
                let client = &mut self.apps[*at].client;
                client.write(to, text.as_bytes(), self.now, &mut self.rng).unwrap();
                if let Err(Stopped) = self.step() {
                    self.restart();
                }
            }
            self.settle();
        }
        for (at, app) in self.apps.iter().enumerate() {
            let mut shown: Vec<&str> = app.shown.values().map(|text| &**text).collect();
            shown.sort_unstable();
            let all = SCRIPT.iter().flat_map(|texts| texts.iter());
            let is_for = |writer: usize, to: &str| {
                writer != at
                    && (app.address.user == to
                        || app.address.user == self.apps[writer].address.user)
            };
            let mut expected: Vec<&str> = all
                .filter(|(writer, to, _)| is_for(*writer, to))
                .map(|(_, _, text)| *text)
                .collect();
            expected.sort_unstable();
            assert_eq!(shown, expected, "{}", app.address);
        }
        self.left.is_none()
    }
}

/// Ends everything after the first step, then after the second, and so on.
pub(crate) fn at_every_step() {
    for left in 0.. {
        let ended = std::panic::catch_unwind(|| Apps::new(left).run());
        match ended {
            Ok(true) => {}
            Ok(false) => {
                println!("{left} steps");
                assert!(left > 50, "{left} steps are not enough to show something");
                return;
            }
            Err(panic) => {
                eprintln!("it ended at step {left}");
                std::panic::resume_unwind(panic);
            }
        }
    }
}
