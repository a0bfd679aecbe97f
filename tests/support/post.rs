//! A server that keeps a directory of each user and a mailbox of each device, and the loop of an
//! app that does the tasks of its client with it.
#![allow(dead_code, reason = "each test crate uses a part of it")]
#![allow(clippy::panic, reason = "a panic is how a test fails")]

use std::collections::{BTreeMap, VecDeque};

use rand_core::CryptoRng;
use subrosa::directory::{Directory, Refusal};
use subrosa::protocol::IdentityKeyPair;
use subrosa::{
    Action, Address, Answer, Client, Completed, DeviceList, Error, Incoming, MessageId, Pass,
    Received, Scope, SenderCertificate, Task, UnixTime,
};

/// An envelope on its way. Of a sealed one, the server does not know where it is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mail {
    pub(crate) from: Address,
    pub(crate) to: Address,
    pub(crate) envelope: Vec<u8>,
    pub(crate) message: Option<MessageId>,
}

impl Mail {
    /// Where it is from, as far as the server can say.
    pub(crate) fn named(&self) -> Option<&Address> {
        (!self.is_sealed()).then_some(&self.from)
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.envelope.starts_with(&[1, 3])
    }

    /// Whether it is one for many.
    pub(crate) fn is_of_group(&self) -> bool {
        self.envelope.starts_with(&[1, 2])
    }
}

/// The server. It sees ciphertext alone.
#[derive(Default)]
pub(crate) struct Post {
    pub(crate) users: BTreeMap<String, Directory>,
    /// Every list that a user ever had, the oldest first.
    pub(crate) past_lists: BTreeMap<String, Vec<DeviceList>>,
    pub(crate) mail: BTreeMap<Address, VecDeque<Mail>>,
    /// What was ever taken, for whoever repeats it.
    pub(crate) past: Vec<Mail>,
    /// The last two passes of each account that has any.
    pub(crate) passes: BTreeMap<String, Vec<Pass>>,
    /// What it signs sender certificates with, as key 1.
    pub(crate) issuer: Option<IdentityKeyPair>,
}

/// What the server says to a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Done,
    Summary(Vec<u8>),
    Devices(Vec<u8>),
    Bundle(Vec<u8>),
    Certificate(Vec<u8>),
    Refused,
    Missing,
    Failed,
}

impl Reply {
    pub(crate) fn answer(&self) -> Answer<'_> {
        match self {
            Self::Done => Answer::Done,
            Self::Summary(bytes) => Answer::Summary(bytes),
            Self::Devices(bytes) => Answer::Devices(bytes),
            Self::Bundle(bytes) => Answer::Bundle(bytes),
            Self::Certificate(bytes) => Answer::Certificate(bytes),
            Self::Refused => Answer::Refused,
            Self::Missing => Answer::Missing,
            Self::Failed => Answer::Failed,
        }
    }
}

impl Post {
    /// Does what a device asks for.
    pub(crate) fn serve(&mut self, own: &Address, action: &Action, now: UnixTime) -> Reply {
        match action {
            Action::FetchSummary => {
                let directory = self.users.entry(own.user.clone()).or_default();
                Reply::Summary(directory.summary(own.device).encode())
            }
            Action::Upload(upload) => self.upload(own, upload),
            Action::FetchDevices(user) => match self.list(user) {
                Some(list) => Reply::Devices(list.encode()),
                None => Reply::Missing,
            },
            Action::FetchBundle(of) => {
                let directory = self.users.entry(of.user.clone()).or_default();
                let bundle = directory.bundle(of.device, &own.user, now.as_secs());
                bundle.map_or(Reply::Missing, |bundle| Reply::Bundle(bundle.encode()))
            }
            Action::Send { to, envelope, message } => {
                if self.list(&to.user).is_none_or(|list| list.get(to.device).is_none()) {
                    return Reply::Missing;
                }
                let (from, to) = (own.clone(), to.clone());
                self.send(Mail { from, to, envelope: envelope.clone(), message: *message });
                Reply::Done
            }
            Action::SendSealed { to, envelope, pass, message } => {
                if self.list(&to.user).is_none_or(|list| list.get(to.device).is_none()) {
                    return Reply::Missing;
                }
                let passes = self.passes.get(&to.user);
                if passes.is_some_and(|all| pass.as_ref().is_none_or(|pass| !all.contains(pass))) {
                    return Reply::Refused;
                }
                let (from, to) = (own.clone(), to.clone());
                self.send(Mail { from, to, envelope: envelope.clone(), message: *message });
                Reply::Done
            }
            Action::SetPass(pass) => {
                let passes = self.passes.entry(own.user.clone()).or_default();
                passes.push(pass.clone());
                passes.drain(..passes.len().saturating_sub(2)).for_each(drop);
                Reply::Done
            }
            Action::FetchCertificate => match (&self.issuer, self.list(&own.user)) {
                (Some(issuer), Some(list)) => {
                    let issued =
                        SenderCertificate::issue(issuer, 1, &own.user, list.account(), now);
                    Reply::Certificate(issued.expect("it has a name").encode())
                }
                _ => Reply::Failed,
            },
            other => panic!("{other:?}"),
        }
    }

    fn upload(&mut self, own: &Address, upload: &[u8]) -> Reply {
        let directory = self.users.entry(own.user.clone()).or_default();
        match directory.upload(own.device, upload) {
            Ok(accepted) => {
                for device in accepted.removed {
                    self.mail.remove(&Address::new(&own.user, device));
                }
                let past = self.past_lists.entry(own.user.clone()).or_default();
                if past.last() != directory.list() {
                    past.extend(directory.list().cloned());
                }
                Reply::Done
            }
            Err(
                Refusal::AccountExists
                | Refusal::OldUpload
                | Refusal::ForkedList
                | Refusal::Unlinked,
            ) => Reply::Failed,
            Err(refusal) => panic!("{own}: {refusal:?}"),
        }
    }

    /// Puts an envelope into the mailbox that it is for.
    pub(crate) fn send(&mut self, mail: Mail) {
        self.past.push(mail.clone());
        self.mail.entry(mail.to.clone()).or_default().push_back(mail);
    }

    /// The list of a user.
    pub(crate) fn list(&self, user: &str) -> Option<&DeviceList> {
        self.users.get(user).and_then(Directory::list)
    }

    /// Does one task as a server would, and completes it.
    pub(crate) fn perform<S: Scope>(
        &mut self,
        client: &mut Client<S>,
        task: &Task,
        now: UnixTime,
        rng: &mut impl CryptoRng,
    ) -> Result<Completed, Error> {
        let reply = self.serve(&client.address().clone(), &task.action, now);
        client.complete(&task.id, reply.answer(), now, rng)
    }

    /// Does every task there is. Returns the texts that were sent to the last device by that.
    pub(crate) fn settle<S: Scope>(
        &mut self,
        client: &mut Client<S>,
        now: UnixTime,
        rng: &mut impl CryptoRng,
    ) -> Vec<MessageId> {
        let mut sent = Vec::new();
        for _ in 0..1_000 {
            let tasks = client.tasks(100, now, rng).expect("tasks");
            if tasks.is_empty() {
                return sent;
            }
            for task in tasks {
                match self.perform(client, &task, now, rng).expect("complete") {
                    Completed::Sent(message) => sent.push(message),
                    Completed::Handled | Completed::Later => {}
                    other => panic!("{:?}: {other:?}", task.action),
                }
            }
        }
        panic!("{} has tasks without end", client.address());
    }

    /// Takes the mail of a device.
    pub(crate) fn take(&mut self, of: &Address) -> Vec<Mail> {
        self.mail.remove(of).unwrap_or_default().into()
    }

    /// A device fetches its mail. Returns what became of it.
    pub(crate) fn fetch<S: Scope>(
        &mut self,
        client: &mut Client<S>,
        now: UnixTime,
        rng: &mut impl CryptoRng,
    ) -> Vec<Received> {
        let mail = self.take(&client.address().clone());
        mail.into_iter()
            .map(|mail| client.receive(mail.named(), &mail.envelope, now, rng).expect("receive"))
            .collect()
    }
}

/// Takes everything out of the inbox.
pub(crate) fn take<S: Scope>(client: &mut Client<S>) -> Vec<Incoming> {
    let mut all = Vec::new();
    loop {
        let batch = client.inbox(100).expect("inbox");
        if batch.is_empty() {
            return all;
        }
        for incoming in batch {
            client.acknowledge(incoming.id).expect("acknowledge");
            all.push(incoming);
        }
    }
}
