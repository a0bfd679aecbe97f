//! Clients on a hostile transport, all of whose doings are the fuzzer's choice.

use std::collections::VecDeque;

use subrosa::store::{Memory, Store, Table};
use subrosa::{Address, Client, Error, Received, UnixTime};

use crate::household::{BEGIN, open};
use crate::input::{Input, changed};
use crate::network::Seeded;
use crate::post::{Mail, Post};

/// What a sender keeps for a week is enough for this many steps, and they are few enough to be
/// quick.
pub(crate) const MOST_STEPS: usize = 80;

/// Everybody has an allowance of handshakes to be looked at; forgeries use it up, which is no
/// finding.
const MOST_FORGED: usize = 16;

/// What is sent is kept for a week, to be sent again.
const LATEST: UnixTime = BEGIN.after(5 * 24 * 60 * 60);

/// Some clients, their server, and what lies between.
pub(crate) struct Transport {
    pub(crate) clients: Vec<Client<Memory>>,
    pub(crate) rng: Seeded,
    pub(crate) now: UnixTime,
    post: Post,
    forged: usize,
    /// Envelopes that were delivered.
    past: Vec<Mail>,
}

impl Transport {
    pub(crate) fn new(clients: Vec<Client<Memory>>, post: Post, name: &str) -> Self {
        let (rng, now) = (Seeded::new(1, name), BEGIN.after(100_000));
        Self { clients, rng, now, post, forged: 0, past: Vec::new() }
    }

    /// Which device this is.
    pub(crate) fn address(&self, at: usize) -> Address {
        self.clients[at].address().clone()
    }

    /// Time goes on.
    pub(crate) fn pass(&mut self, minutes: usize) {
        self.now = self.now.after(60 * minutes as u64).min(LATEST);
    }

    /// The client's tasks are done.
    pub(crate) fn settle(&mut self, at: usize) {
        self.post.settle(&mut self.clients[at], self.now, &mut self.rng);
    }

    /// The envelope that has waited so long is delivered, out of turn perhaps.
    pub(crate) fn deliver(&mut self, at: usize, which: usize) {
        let mailbox = self.post.mail.entry(self.address(at)).or_default();
        let which = which % mailbox.len().max(1);
        let Some(mail) = mailbox.remove(which) else { return };
        if self.arrive(&mail) == Received::Refused(Error::RateLimited) {
            self.post.mail.entry(mail.to.clone()).or_default().push_back(mail);
        } else {
            self.past.push(mail);
        }
    }

    /// An envelope is delivered again, though it was acknowledged, to this device perhaps.
    pub(crate) fn repeat(&mut self, to: Option<usize>, input: &mut Input<'_>) {
        if self.past.is_empty() {
            return;
        }
        let mut mail = self.past[input.below(self.past.len())].clone();
        if let Some(at) = to {
            mail.to = self.address(at);
        }
        drop(self.arrive(&mail));
    }

    fn arrive(&mut self, mail: &Mail) -> Received {
        let at = self.clients.iter().position(|client| *client.address() == mail.to);
        let at = at.expect("it is there");
        let client = &mut self.clients[at];
        let received = client.receive(Some(&mail.from), &mail.envelope, self.now, &mut self.rng);
        self.settle(at);
        received.expect("the store is sound")
    }

    /// An envelope that waits is delivered with changes.
    pub(crate) fn forge(&mut self, at: usize, input: &mut Input<'_>) {
        if self.forged >= MOST_FORGED {
            return;
        }
        let mailbox = self.post.mail.entry(self.address(at)).or_default();
        let Some(mail) = mailbox.get(input.below(mailbox.len())).cloned() else { return };
        self.forged += 1;
        let received = self.arrive(&Mail { envelope: changed(&mail.envelope, input), ..mail });
        assert!(!matches!(received, Received::Incoming(_) | Received::Handled), "a forgery opened");
    }

    /// The process ends, and begins again.
    pub(crate) fn restart(&mut self, at: usize) {
        self.with_store(at, |_| {});
    }

    /// A device loses its sessions, all or one; or writes no more in them.
    pub(crate) fn break_sessions(&mut self, at: usize, how: usize) {
        if how.is_multiple_of(4) {
            for other in 0..self.clients.len() {
                let device = self.address(other);
                self.clients[at].reset(&device).expect("the store is sound");
            }
            return;
        }
        self.with_store(at, |store| {
            let lose = store.transact(|tx| {
                let rows = tx.scan(Table::Session, b"", 100)?;
                let first = if how % 4 == 1 { 0 } else { how / 4 % rows.len().max(1) };
                let most = if how % 4 == 1 { 100 } else { 1 };
                let lost = rows.iter().skip(first).take(most);
                lost.clone().try_for_each(|(key, _)| tx.delete(Table::Session, key))
            });
            lose.map_err(|error: Error| error).expect("memory does not fail");
        });
    }

    /// Something happens to the store of a device whose process does not run.
    fn with_store(&mut self, at: usize, change: impl FnOnce(&mut Memory)) {
        let mut store = self.clients.remove(at).into_store();
        change(&mut store);
        self.clients.insert(at, open(store));
    }

    /// Everything is delivered, until nobody has anything to say for a while: `most_quiet` times
    /// three hours, since what the last ones asked for may be on the way to the first.
    pub(crate) fn calm(&mut self, most_quiet: usize) {
        let mut quiet = 0;
        for _ in 0..90 {
            self.now = self.now.after(600);
            for at in 0..self.clients.len() {
                self.settle(at);
                let to = self.address(at);
                for _ in 0..self.post.mail.get(&to).map_or(0, VecDeque::len) {
                    self.deliver(at, 0);
                }
                self.settle(at);
            }
            if self.post.mail.values().all(VecDeque::is_empty) {
                if quiet == most_quiet {
                    return;
                }
                quiet += 1;
                self.now = self.now.after(3 * 60 * 60);
            }
        }
        panic!("they never stop talking");
    }
}
