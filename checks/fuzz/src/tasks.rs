//! A client whose network gives any answers, in any order, early, late, twice and never.

use std::collections::{BTreeMap, BTreeSet};

use subrosa::store::Memory;
use subrosa::{Action, Answer, Client, Completed, MessageId, Task, UnixTime};

use crate::household::{BEGIN, HOUSEHOLD, copy, create, open, texts};
use crate::input::{Input, changed};
use crate::network::Seeded;
use crate::post::Post;

const MOST_STEPS: usize = 60;

/// What is given up after a month may be lost.
const LATEST: u64 = 14 * 24 * 60 * 60;

struct Network {
    phone: Client<Memory>,
    post: Post,
    rng: Seeded,
    now: UnixTime,
    /// Those handed out, answered or not.
    tasks: Vec<Task>,
    written: BTreeMap<MessageId, &'static str>,
    sent: BTreeSet<MessageId>,
    /// Texts and users that the server told a lie about which nobody could know for one.
    lied_about: BTreeSet<&'static str>,
}

/// Whatever the answers are, the client goes on. Where no lie was of a kind that it cannot know for
/// one, everything that was written arrives once the network is sound again.
pub fn tasks(data: &[u8]) {
    let mut input = Input::new(data);
    let mut network = Network::new();
    for _ in 0..MOST_STEPS {
        let Some(choice) = input.byte() else { break };
        network.step(choice, &mut input);
    }
    network.end();
}

const USERS: [&str; 3] = ["alice", "dave", "nobody"];

impl Network {
    fn new() -> Self {
        let (phone, post) = HOUSEHOLD.with(|all| (open(all.phone.clone()), copy(&all.post)));
        Self {
            phone,
            post,
            rng: Seeded::new(1, "tasks"),
            now: BEGIN,
            tasks: Vec::new(),
            written: BTreeMap::new(),
            sent: BTreeSet::new(),
            lied_about: BTreeSet::new(),
        }
    }

    fn step(&mut self, choice: u8, input: &mut Input<'_>) {
        let (now, rng) = (self.now, &mut self.rng);
        match choice % 8 {
            0 => {
                let user = USERS[usize::from(choice / 8) % 3];
                let message = self.phone.write(user, b"text", now, rng).expect("it is short");
                self.written.insert(message, user);
            }
            1 | 2 => {
                let most = usize::from(choice / 8);
                self.tasks.extend(self.phone.tasks(most, now, rng).expect("the store is sound"));
            }
            3 => {
                let seconds = 60 * u64::from(choice / 8) * u64::from(choice / 8);
                let latest = BEGIN.after(LATEST);
                self.now = now.after(seconds).min(latest);
            }
            4 if (choice / 8).is_multiple_of(4) => {
                self.phone.connected().expect("the store is sound")
            }
            4 if choice / 8 % 4 == 1 => {
                let other = open(HOUSEHOLD.with(|household| household.phone.clone()));
                self.phone = open(std::mem::replace(&mut self.phone, other).into_store());
            }
            _ => {
                if !self.tasks.is_empty() {
                    let task = self.tasks[input.below(self.tasks.len())].clone();
                    self.answer(&task, choice / 8, input);
                }
            }
        }
    }

    fn answer(&mut self, task: &Task, choice: u8, input: &mut Input<'_>) {
        let genuine = self.genuine(task);
        let other;
        let (answer, is_lie) = match choice % 8 {
            0..3 => {
                let completed = self.post.perform(&mut self.phone, task, self.now, &mut self.rng);
                self.note(completed.expect("the store is sound"));
                return;
            }
            3 => (Answer::Failed, false),
            4 => (Answer::Done, matches!(task.action, Action::Send { .. })),
            5 => (Answer::Missing, matches!(task.action, Action::Send { .. })),
            6 => {
                other = changed(&genuine, input);
                (of_kind(&task.action, &other), true)
            }
            _ => {
                other = input.run().to_vec();
                (
                    match input.small() % 3 {
                        0 => Answer::Summary(&other),
                        1 => Answer::Devices(&other),
                        _ => Answer::Bundle(&other),
                    },
                    true,
                )
            }
        };
        let completed = self.phone.complete(&task.id, answer, self.now, &mut self.rng);
        let completed = completed.expect("the store is sound");
        if is_lie && !matches!(completed, Completed::Rejected(_) | Completed::Later) {
            self.lied_about.insert(match &task.action {
                Action::FetchDevices(user) => name(user),
                Action::FetchBundle(of) => name(&of.user),
                Action::Send { to, .. } => name(&to.user),
                _ => "bob",
            });
        }
        self.note(completed);
    }

    fn note(&mut self, completed: Completed) {
        let Completed::Sent(message) = completed else { return };
        assert!(self.written.contains_key(&message), "nobody wrote it");
        assert!(self.sent.insert(message), "it was sent twice");
    }

    /// What the server would give.
    fn genuine(&self, task: &Task) -> Vec<u8> {
        let user = |user: &str| self.post.users.get(user).cloned().unwrap_or_default();
        match &task.action {
            Action::FetchSummary => user("bob").summary(1).encode(),
            Action::FetchDevices(of) => user(of).encode_user().unwrap_or_default(),
            Action::FetchBundle(of) => user(&of.user)
                .bundle(of.device, "bob", self.now.as_secs())
                .map_or_else(|_| Vec::new(), |bundle| bundle.encode()),
            _ => Vec::new(),
        }
    }

    /// The network is sound again, and Dave has an account now.
    fn end(mut self) {
        let mut now = self.now;
        let Self { phone, post, rng, .. } = &mut self;
        let mut alice = open(HOUSEHOLD.with(|household| household.alice.clone()));
        let mut dave = create("dave", rng);
        let mut read: BTreeMap<MessageId, usize> = BTreeMap::new();
        for _ in 0..12 {
            now = now.after(7 * 60 * 60);
            for client in [&mut dave, phone, &mut alice] {
                post.settle(client, now, rng);
                post.fetch(client, now, rng);
                post.settle(client, now, rng);
            }
            for client in [&mut alice, &mut dave] {
                for text in texts(client) {
                    *read.entry(text.message).or_default() += 1;
                }
            }
        }
        for (message, to) in &self.written {
            let count = read.get(message).copied().unwrap_or(0);
            let is_lost = count == 0 && (*to == "nobody" || self.lied_about.contains(to));
            assert!(count == 1 || is_lost, "{to} reads {message} {count} times");
        }
    }
}

fn of_kind<'a>(action: &Action, bytes: &'a [u8]) -> Answer<'a> {
    match action {
        Action::FetchSummary => Answer::Summary(bytes),
        Action::FetchDevices(_) => Answer::Devices(bytes),
        Action::FetchBundle(_) => Answer::Bundle(bytes),
        _ => Answer::Done,
    }
}

fn name(user: &str) -> &'static str {
    USERS.into_iter().find(|known| *known == user).unwrap_or("bob")
}
