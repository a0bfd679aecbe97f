//! The server's half: a desk answers what devices ask about users.
//!
//! It keeps nothing itself. What there is of a user is one row in a bucket, which is read, given to
//! the crate's [`Directory`], and written back. So a desk may die at any time, and be started again
//! anywhere. The users are divided among the desks, and each desk answers one request about a user
//! at a time: a server of version 2.9 with several copies takes two writes that both expect the
//! same revision, if they come at the same moment, and would hand out a one-time prekey twice.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Message;
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::kv::{self, Operation, UpdateErrorKind};
use async_nats::jetstream::{Context, stream::Stream};
use futures_util::StreamExt;
use futures_util::stream::select_all;
use subrosa::directory::Directory;
use subrosa::{Address, UnixTime};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::wire::{MAIL, PARTS, PATIENCE, USERS, is_name, mailbox, name, part, requests};
use crate::{Result, wire};

/// Tries to write a row that others write too.
const TRIES: u32 = 20;
/// Envelopes that a device may have at a time without acknowledging them.
const MAX_UNACKNOWLEDGED: i64 = 256;
/// What was on its way to a device that lost its connection comes again after this.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(5);

pub(crate) struct Desk {
    servers: Context,
    users: kv::Store,
    mail: Stream,
    /// Whoever holds that of a user's part is alone with the user.
    parts: Vec<Mutex<()>>,
}

/// As it goes over the wire: a byte, and what was asked for.
pub(crate) enum Response {
    Found(Vec<u8>),
    Missing,
    /// Why is for the desk's log.
    Refused,
}

impl Desk {
    /// Answers requests about every `count`th part of the users, from the one of that index on,
    /// until the connection ends for good.
    pub(crate) async fn serve(servers: &[String], index: u32, count: u32) -> Result {
        let servers = wire::connect(servers, "desk").await?;
        let users = servers.get_key_value(USERS).await?;
        let mail = servers.get_stream(MAIL).await?;
        let mut listening = Vec::new();
        for part in (index..PARTS).step_by(usize::try_from(count)?) {
            // Where there are two for a moment, one of them answers.
            let group = "desks".to_owned();
            listening.push(servers.client().queue_subscribe(requests(part), group).await?);
        }
        let mut requests = select_all(listening);
        let parts = (0..PARTS).map(|_| Mutex::default()).collect();
        let desk = Arc::new(Self { servers, users, mail, parts });
        while let Some(request) = requests.next().await {
            let desk = Arc::clone(&desk);
            tokio::spawn(async move {
                // Where there is no answer, the device asks again.
                if let Err(error) = desk.reply(request).await {
                    eprintln!("desk: {error}");
                }
            });
        }
        Ok(())
    }

    async fn reply(&self, request: Message) -> Result {
        let Some(to) = request.reply.clone() else { return Ok(()) };
        let response = self.answer(&request).await?.encode();
        Ok(self.servers.client().publish(to, response.into()).await?)
    }

    async fn answer(&self, request: &Message) -> Result<Response> {
        let (in_part, verb, by) = match request.subject.split('.').collect::<Vec<_>>()[..] {
            ["desk", in_part, verb, user, device] if is_name(user) => {
                (in_part.parse::<u32>()?, verb, Address::new(user, device.parse()?))
            }
            _ => return Ok(Response::Refused),
        };
        let words = String::from_utf8_lossy(&request.payload);
        let about = match verb {
            "summary" | "upload" => by.clone(),
            "devices" => Address::new(&words, 0),
            "bundle" => match words.rsplit_once('-') {
                Some((user, device)) => Address::new(user, device.parse()?),
                None => return Ok(Response::Refused),
            },
            _ => return Ok(Response::Refused),
        };
        // Another desk may be about to change the user.
        if part(&about.user) != in_part {
            return Ok(Response::Refused);
        }
        match verb {
            "upload" => self.upload(&by, &request.payload).await,
            "bundle" => self.bundle(&about, &by.user).await,
            "devices" => Ok(Response::of(self.read(&about.user).await?.0.encode_user())),
            _ => {
                let (directory, _) = self.read(&by.user).await?;
                Ok(Response::Found(directory.summary(by.device).encode()))
            }
        }
    }

    async fn upload(&self, by: &Address, upload: &[u8]) -> Result<Response> {
        let uploaded =
            self.change(&by.user, |directory| directory.upload(by.device, upload)).await?;
        let accepted = match uploaded {
            Ok(accepted) => accepted,
            Err(refusal) => {
                eprintln!("desk: {by}: {refusal:?}");
                return Ok(Response::Refused);
            }
        };
        for device in accepted.removed {
            let gone = Address::new(&by.user, device);
            self.mail.delete_consumer(&name(&gone)).await?;
            self.mail.purge().filter(mailbox(&gone)).await?;
        }
        // Again with each upload: if this fails, the device uploads once more.
        let mailbox = pull::Config {
            durable_name: Some(name(by)),
            filter_subject: mailbox(by),
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACKNOWLEDGED_WITHIN,
            max_ack_pending: MAX_UNACKNOWLEDGED,
            ..Default::default()
        };
        self.mail.get_or_create_consumer(&name(by), mailbox).await?;
        Ok(Response::Found(Vec::new()))
    }

    async fn bundle(&self, of: &Address, asker: &str) -> Result<Response> {
        let now = UnixTime::now()?.as_secs();
        let bundle =
            self.change(&of.user, |directory| directory.bundle(of.device, asker, now)).await?;
        Ok(Response::of(bundle.ok().map(|bundle| bundle.encode())))
    }

    /// Reads a user, asks something that may change them, and writes them back. Where another desk
    /// has written them meanwhile, once more from the beginning.
    async fn change<T, E>(
        &self,
        user: &str,
        mut ask: impl FnMut(&mut Directory) -> Result<T, E>,
    ) -> Result<Result<T, E>> {
        let part = self.parts.get(usize::try_from(part(user))?).ok_or("no such part")?;
        // Who waited longer has given up.
        let _alone = timeout(PATIENCE, part.lock()).await?;
        for _ in 0..TRIES {
            let (mut directory, revision) = self.read(user).await?;
            let answer = ask(&mut directory);
            if answer.is_err() {
                return Ok(answer);
            }
            match self.users.update(user, row(&directory).into(), revision).await {
                Ok(_) => return Ok(answer),
                Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err("others are faster all the time".into())
    }

    /// A user, and the revision that the row has now.
    async fn read(&self, user: &str) -> Result<(Directory, u64)> {
        if !is_name(user) {
            return Ok((Directory::new(), 0));
        }
        match self.users.entry(user).await? {
            Some(entry) if entry.operation == Operation::Put => {
                Ok((directory(&entry.value)?, entry.revision))
            }
            Some(deleted) => Ok((Directory::new(), deleted.revision)),
            None => Ok((Directory::new(), 0)),
        }
    }
}

impl Response {
    fn of(found: Option<Vec<u8>>) -> Self {
        found.map_or(Self::Missing, Self::Found)
    }

    fn encode(self) -> Vec<u8> {
        match self {
            Self::Found(bytes) => [&[0], &bytes[..]].concat(),
            Self::Missing => vec![1],
            Self::Refused => vec![2],
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Self {
        match bytes.split_first() {
            Some((0, found)) => Self::Found(found.to_vec()),
            Some((1, _)) => Self::Missing,
            _ => Self::Refused,
        }
    }
}

/// All of a user, since no transaction spans two keys of a bucket:
/// `length:u32 || list || count * (device:u32 || length:u32 || row)`
fn row(directory: &Directory) -> Vec<u8> {
    let mut row = Vec::new();
    let mut add = |bytes: &[u8]| {
        row.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
        row.extend(bytes);
    };
    add(&directory.encode_user().unwrap_or_default());
    for listed in directory.list().into_iter().flat_map(subrosa::DeviceList::devices) {
        if let Some(held) = directory.encode_device(listed.device) {
            add(&[&listed.device.to_be_bytes(), &held[..]].concat());
        }
    }
    row
}

fn directory(mut row: &[u8]) -> Result<Directory> {
    let mut parts = Vec::new();
    while let Some((length, rest)) = row.split_first_chunk() {
        let length = usize::try_from(u32::from_be_bytes(*length))?;
        let (part, rest) = rest.split_at_checked(length).ok_or("a row is damaged")?;
        parts.push(part);
        row = rest;
    }
    let (list, devices) = parts.split_first().ok_or("a row is empty")?;
    let devices = devices
        .iter()
        .filter_map(|part| part.split_first_chunk())
        .map(|(device, held)| (u32::from_be_bytes(*device), held));
    Ok(Directory::decode(list, devices)?)
}
