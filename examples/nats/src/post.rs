//! The device's half, and all that an app would take from here: it does the client's tasks, and
//! brings its mail.
//!
//! ```text
//! loop {
//!     let due = post.settle(&mut client).await?;   // after writing, after receiving, when due
//!     show(client.inbox(100)?)
//!     if let Some(mail) = post.next(until due, or until somebody writes).await {
//!         post.take(&mut client, mail).await?;
//!     }
//! }
//! ```
//!
//! An error means that the server could not be had: begin again, with the same client, after
//! [`Client::connected`]. Whatever was under way then comes again by itself.

use std::time::Duration;

use async_nats::jetstream::consumer::{PullConsumer, pull};
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::AckKind;
use async_nats::jetstream::{self, Context};
use futures_util::StreamExt;
use futures_util::future::join_all;
use subrosa::{Action, Address, Answer, Client, Error, Received, Scope, SystemRng, Task, UnixTime};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use crate::Result;
use crate::desk::Response;
use crate::wire::{self, BLOBS, MAIL};

/// A connection of a device.
pub(crate) struct Post {
    servers: Context,
    own: Address,
    /// What comes; none before the first upload.
    mail: Option<pull::Stream>,
}

/// An envelope, which its server keeps until it is taken.
pub(crate) type Mail = jetstream::Message;

/// For how long an envelope waits that could not be taken.
const LATER: Duration = Duration::from_secs(60);
/// Tasks at a time.
const MOST: usize = 50;

impl Post {
    pub(crate) async fn connect(servers: &[String], own: &Address) -> Result<Self> {
        let servers = wire::connect(servers, &wire::name(own)).await?;
        Ok(Self { servers, own: own.clone(), mail: None })
    }

    /// Does what is to do, and returns when there is more, if nothing is written or received
    /// before.
    pub(crate) async fn settle<S: Scope>(&self, client: &mut Client<S>) -> Result<UnixTime> {
        loop {
            let tasks = client.tasks(MOST, UnixTime::now()?, &mut SystemRng)?;
            if tasks.is_empty() {
                return Ok(client.next_due(UnixTime::now()?)?);
            }
            // All at the same time: none waits for another.
            let responses = join_all(tasks.iter().map(|task| self.perform(task))).await;
            let (now, mut offline) = (UnixTime::now()?, None);
            for (task, response) in tasks.iter().zip(responses) {
                let answer = match (&task.action, &response) {
                    (Action::FetchSummary, Ok(Response::Found(bytes))) => Answer::Summary(bytes),
                    (Action::FetchDevices(_), Ok(Response::Found(bytes))) => Answer::Devices(bytes),
                    (Action::FetchBundle(_), Ok(Response::Found(bytes))) => Answer::Bundle(bytes),
                    (_, Ok(Response::Found(_))) => Answer::Done,
                    (_, Ok(Response::Missing)) => Answer::Missing,
                    (_, Ok(Response::Refused) | Err(_)) => Answer::Failed,
                };
                client.complete(&task.id, answer, now, &mut SystemRng)?;
                offline = response.err().or(offline);
            }
            if let Some(error) = offline {
                return Err(error);
            }
        }
    }

    async fn perform(&self, task: &Task) -> Result<Response> {
        match &task.action {
            Action::FetchSummary => self.ask(&self.own.user, "summary", Vec::new()).await,
            Action::Upload(upload) => self.ask(&self.own.user, "upload", upload.clone()).await,
            Action::FetchDevices(user) => self.ask(user, "devices", user.clone().into()).await,
            Action::FetchBundle(of) => self.ask(&of.user, "bundle", wire::name(of).into()).await,
            Action::Send { to, envelope, .. } => {
                let subject = wire::mail(to, &self.own);
                // The first wait is for the connection, the second for most of the servers.
                match self.servers.publish(subject, envelope.clone().into()).await?.await {
                    Ok(_) => Ok(Response::Found(Vec::new())),
                    // It is full, as a rule.
                    Err(error) if error.kind() == PublishErrorKind::Other => {
                        eprintln!("{} to {to}: {error}", self.own);
                        Ok(Response::Refused)
                    }
                    Err(error) => Err(error.into()),
                }
            }
            _ => Ok(Response::Refused),
        }
    }

    /// The device list of a user, for [`Client::update_devices`].
    pub(crate) async fn devices(&self, user: &str) -> Result<Option<Vec<u8>>> {
        match self.ask(user, "devices", user.into()).await? {
            Response::Found(list) => Ok(Some(list)),
            _ => Ok(None),
        }
    }

    async fn ask(&self, about: &str, verb: &str, what: Vec<u8>) -> Result<Response> {
        let subject = wire::request(about, verb, &self.own);
        let response = self.servers.client().request(subject, what.into()).await?;
        Ok(Response::decode(&response.payload))
    }

    /// The next envelope, if one comes in time.
    pub(crate) async fn next(&mut self, most: Duration) -> Option<Mail> {
        let Some(mail) = &mut self.mail else {
            // There is none before the first upload, or while its servers choose who leads.
            match self.mailbox().await {
                Ok(mailbox) => self.mail = Some(mailbox),
                Err(_) => tokio::time::sleep(most).await,
            }
            return None;
        };
        match timeout(most, mail.next()).await {
            Ok(Some(Ok(mail))) => return Some(mail),
            // The server is gone, or the mailbox has moved to another one.
            Ok(_) => self.mail = None,
            Err(_elapsed) => {}
        }
        None
    }

    async fn mailbox(&self) -> Result<pull::Stream> {
        let name = wire::name(&self.own);
        let mailbox: PullConsumer = self.servers.get_consumer_from_stream(name, MAIL).await?;
        let (at_once, alive) = (64, Duration::from_secs(2));
        Ok(mailbox.stream().max_messages_per_batch(at_once).heartbeat(alive).messages().await?)
    }

    /// Gives an envelope to the client, and tells the server that it has it.
    pub(crate) async fn take<S: Scope>(
        &self,
        client: &mut Client<S>,
        mail: Mail,
    ) -> Result<Received> {
        let from = wire::sender(&mail.subject);
        let now = UnixTime::now()?;
        let received = client.receive(from.as_ref(), &mail.payload, now, &mut SystemRng)?;
        // If the server does not hear it, the envelope comes again, and is a duplicate then.
        match &received {
            Received::Refused(Error::RateLimited) => {
                mail.ack_with(AckKind::Nak(Some(LATER))).await?;
            }
            _ => mail.ack().await?,
        }
        Ok(received)
    }

    /// Stores a blob under a name that nobody guesses.
    pub(crate) async fn store(&self, name: &str, mut blob: &[u8]) -> Result {
        self.servers.get_object_store(BLOBS).await?.put(name, &mut blob).await?;
        Ok(())
    }

    pub(crate) async fn fetch(&self, name: &str, length: u64) -> Result<Vec<u8>> {
        let (servers, name) = (self.servers.clone(), name.to_owned());
        // A task of its own: reading an object panics where the servers take too long.
        let fetched = tokio::spawn(async move {
            let mut blob = Vec::new();
            let object = servers.get_object_store(BLOBS).await?.get(name).await?;
            timeout(wire::PATIENCE, object.take(length).read_to_end(&mut blob)).await??;
            Ok(blob)
        });
        fetched.await?
    }
}
