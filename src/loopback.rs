//! A server in memory.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use rand_core::CryptoRng;

use crate::address::Address;
use crate::client::{Action, Answer, Client, Received, Scope, Task};
use crate::directory::Directory;
use crate::error::Error;
use crate::time::UnixTime;

/// A server in memory, for tests and first steps: a directory of each user and a mailbox of each
/// device, with everything lost when it is dropped.
///
/// It stands where an app has its connection to a server, and shows all that there is to do:
/// [`Loopback::perform`] does one task, as the app's own code would over the network.
///
/// ```
/// use subrosa::store::Memory;
/// use subrosa::{Client, Error, Loopback, SystemRng, UnixTime};
///
/// let (rng, now) = (&mut SystemRng, UnixTime::now()?);
/// let mut server = Loopback::new();
/// let mut alice = Client::create(Memory::new(), "alice", now, rng)?;
/// let mut bob = Client::create(Memory::new(), "bob", now, rng)?;
/// // Bob is not registered yet: the text waits, and leaves once he is.
/// alice.write("bob", b"hello", now, rng)?;
/// server.sync(&mut alice, now, rng)?;
/// server.sync(&mut bob, now, rng)?;
/// server.sync(&mut alice, now.after(60), rng)?;
/// assert_eq!(server.sync(&mut bob, now.after(60), rng)?.len(), 1);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Loopback {
    users: BTreeMap<String, Directory>,
    mail: BTreeMap<Address, VecDeque<Mail>>,
}

/// An envelope in a mailbox.
#[derive(Clone, Debug)]
struct Mail {
    /// None: the envelope is sealed.
    from: Option<Address>,
    envelope: Vec<u8>,
}

impl Loopback {
    /// A server that knows nobody.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Does every task of a client, and hands it its mail. Returns what became of each envelope.
    ///
    /// # Errors
    /// Those of [`Client::tasks`], [`Client::complete`] and [`Client::receive`].
    pub fn sync(
        &mut self,
        client: &mut Client<impl Scope>,
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<Vec<Received>, Error> {
        let mut all = Vec::new();
        loop {
            let tasks = client.tasks(100, now, rng)?;
            let mail = self.mail.remove(client.address()).unwrap_or_default();
            if tasks.is_empty() && mail.is_empty() {
                return Ok(all);
            }
            for task in tasks {
                self.perform(client, &task, now, rng)?;
            }
            for Mail { from, envelope } in mail {
                all.push(client.receive(from.as_ref(), &envelope, now, rng)?);
            }
        }
    }

    /// Does one task, and completes it.
    ///
    /// # Errors
    /// Those of [`Client::complete`].
    pub fn perform(
        &mut self,
        client: &mut Client<impl Scope>,
        task: &Task,
        now: UnixTime,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), Error> {
        let own = client.address().clone();
        let bytes;
        let answer = match &task.action {
            Action::FetchSummary => {
                bytes = self.directory(&own.user).summary(own.device).encode();
                Answer::Summary(&bytes)
            }
            Action::Upload(upload) => match self.directory(&own.user).upload(own.device, upload) {
                Ok(accepted) => {
                    for device in accepted.removed {
                        self.mail.remove(&Address::new(&own.user, device));
                    }
                    Answer::Done
                }
                Err(_) => Answer::Failed,
            },
            Action::FetchDevices(user) => match self.users.get(user).and_then(Directory::list) {
                Some(list) => {
                    bytes = list.encode();
                    Answer::Devices(&bytes)
                }
                None => Answer::Missing,
            },
            Action::FetchBundle(of) => {
                let directory = self.directory(&of.user);
                match directory.bundle(of.device, &own.user, now.as_secs()) {
                    Ok(bundle) => {
                        bytes = bundle.encode();
                        Answer::Bundle(&bytes)
                    }
                    Err(_) => Answer::Missing,
                }
            }
            Action::Send { to, envelope, .. } => {
                let mail = Mail { from: Some(own), envelope: envelope.clone() };
                self.mail.entry(to.clone()).or_default().push_back(mail);
                Answer::Done
            }
            // It shows passes to nobody, and so it takes any.
            Action::SendSealed { to, envelope, .. } => {
                let mail = Mail { from: None, envelope: envelope.clone() };
                self.mail.entry(to.clone()).or_default().push_back(mail);
                Answer::Done
            }
            Action::SetPass(_) => Answer::Done,
            // It issues none.
            Action::FetchCertificate => Answer::Failed,
        };
        client.complete(&task.id, answer, now, rng).map(drop)
    }

    fn directory(&mut self, user: &str) -> &mut Directory {
        self.users.entry(user.into()).or_default()
    }
}
