//! What the relay keeps, and how it answers. Each request is one transaction, durable before it is
//! answered.
//!
//! Of a user and of a device it keeps the rows of the crate's [`Directory`], which knows what may
//! be uploaded and what is handed out; and of an account the row of [`Doors`], which knows with
//! which passes sealed mail is taken. Mail and grants are the relay's own; so are blobs, which are
//! in `blobs.rs`.

use std::fs;
use std::path::Path;

use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition,
    WriteTransaction,
};
use subrosa::directory::{Directory, Doors, Refusal};
use subrosa::protocol::IdentityKeyPair;
use subrosa::{Address, SenderCertificate, SystemRng, UnixTime};

use crate::Result;
use crate::blobs::{self, Blobs};
use crate::names::is_name;
use crate::wire::{self, Mail, Refused, Request, Response};

const MAX_USERS: u64 = 10_000;
const MAX_MAIL: usize = 1_000;
/// A little more than the longest envelope that the crate makes: of a group, that may be the
/// changes that made it what it is.
const MAX_ENVELOPE: usize = 1_100_000;
const MAX_GRANT: usize = 64 * 1024;
const MAX_MAIL_BYTES: usize = 64 << 20;
/// Of those, by nobody knows whom: so a flood of sealed mail leaves room for mail with a name.
const MAX_SEALED: usize = 750;
const MAX_GRANTS: u64 = 1_000;
const MAX_GRANT_ID: usize = 64;
const HOUR: u64 = 60 * 60;

/// By user: [`Directory::encode_user`].
const USERS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("users");
/// By user and device: [`Directory::encode_device`].
const DEVICES: TableDefinition<'_, (&str, u32), &[u8]> = TableDefinition::new("devices");
/// By user, device and number: frames, as they go out.
const MAIL: TableDefinition<'_, (&str, u32, u64), &[u8]> = TableDefinition::new("mail");
/// By id: when it was left, and the grant.
const GRANTS: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("grants");
/// By user: [`Doors::encode`].
const DOORS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("doors");
/// What certificates are signed with: the key's number, and the key as the crate encodes it.
const ISSUER: TableDefinition<'_, (), &[u8]> = TableDefinition::new("issuer");
/// How many pieces of mail there ever were.
const COUNT: TableDefinition<'_, (), u64> = TableDefinition::new("count");

pub(crate) struct Desk {
    database: Database,
    blobs: Blobs,
    issuer: Issuer,
}

/// The key that certificates are signed with, and its number.
struct Issuer {
    id: u8,
    key: IdentityKeyPair,
}

/// Who asks.
#[derive(Clone, Copy)]
pub(crate) enum Caller<'a> {
    /// A device that gave its name.
    Device(&'a Address),
    /// Nobody says who. Prekeys are counted by this.
    Nobody(&'a str),
}

impl Desk {
    /// Blobs are kept for `keep_blobs` seconds.
    pub(crate) fn open(folder: &Path, keep_blobs: u64) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let database = Database::create(folder.join("relay.redb"))?;
        let tx = database.begin_write()?;
        // A read transaction does not make them.
        tx.open_table(MAIL)?;
        tx.open_table(USERS)?;
        blobs::create(&tx)?;
        let now = UnixTime::now()?.as_secs();
        let blobs = Blobs::open(blobs::folder(folder), keep_blobs, &tx, now)?;
        let issuer = Issuer::load(&tx)?;
        tx.commit()?;
        Ok(Self { database, blobs, issuer })
    }

    /// The next mail of a device, from a number on.
    pub(crate) fn mail(&self, to: &Address, next: u64) -> Result<Option<(u64, Vec<u8>)>> {
        let mail = self.database.begin_read()?.open_table(MAIL)?;
        let user = to.user.as_str();
        let first = mail
            .range((user, to.device, next)..=(user, to.device, u64::MAX))?
            .next()
            .transpose()?;
        Ok(first.map(|(key, frame)| (key.value().2, frame.value().to_vec())))
    }

    /// A user's device list.
    pub(crate) fn devices(&self, user: &str) -> Result<Option<Vec<u8>>> {
        let users = self.database.begin_read()?.open_table(USERS)?;
        // It is the user's row.
        Ok(users.get(user)?.map(|row| row.value().to_vec()))
    }

    pub(crate) fn answer(&self, caller: Caller<'_>, request: Request) -> Result<Response> {
        match &request {
            // Nothing is written for these, and each waits for no other.
            Request::Blob { id, offset } => {
                return self.blobs.read(&self.database.begin_read()?, id, *offset);
            }
            Request::Devices(user) => return Ok(Response::Found(self.devices(user)?)),
            Request::Ping => return Ok(Response::Done),
            Request::IssuerKey => return Ok(Response::Found(Some(self.issuer.public()))),
            _ => {}
        }
        let tx = self.database.begin_write()?;
        let response = match caller {
            Caller::Device(from) => self.answer_device(&tx, from, request)?,
            Caller::Nobody(asker) => answer_nobody(&tx, asker, request)?,
        };
        tx.commit()?;
        Ok(response)
    }

    fn answer_device(
        &self,
        tx: &WriteTransaction,
        from: &Address,
        request: Request,
    ) -> Result<Response> {
        let now = UnixTime::now()?;
        Ok(match request {
            Request::Hello(_) => because("one hello is enough"),
            Request::SendSealed { .. } | Request::AwaitDevices(_) => {
                because("not on a connection that carries a name")
            }
            Request::Grant(id) => find_grant(tx, &id)?,
            Request::Summary => {
                Response::Found(Some(load(tx, from)?.summary(from.device).encode()))
            }
            Request::Upload(bytes) => upload(tx, from, &bytes)?,
            Request::Bundle(of) => bundle(tx, &of, &from.user)?,
            Request::Send { .. }
            | Request::StoreBlob(_)
            | Request::SetPass { .. }
            | Request::Certificate
                if !is_listed(tx, from)? =>
            {
                Response::Refused(Refused::Outdated)
            }
            Request::Send { to, envelope } => send(tx, Some(from), &to, envelope)?,
            Request::Acknowledge(number) => {
                tx.open_table(MAIL)?.remove((from.user.as_str(), from.device, number))?;
                Response::Done
            }
            Request::LeaveGrant { id, grant } => leave_grant(tx, &id, &grant)?,
            Request::StoreBlob(part) => self.blobs.store(tx, from, &part, now.as_secs())?,
            Request::SetPass { number, pass } => {
                let mut doors = doors(tx, &from.user)?;
                // An older one is none to complain of: the device will hear of the newer one.
                doors.set(number, &pass, now.as_secs());
                tx.open_table(DOORS)?.insert(from.user.as_str(), doors.encode().as_slice())?;
                Response::Done
            }
            Request::Certificate => {
                let account = load(tx, from)?.account();
                let Issuer { id, key } = &self.issuer;
                let issued = account
                    .map(|account| SenderCertificate::issue(key, *id, &from.user, account, now));
                Response::Found(issued.transpose()?.map(|issued| issued.encode()))
            }
            // They were answered before.
            Request::Blob { .. } | Request::Devices(_) | Request::Ping | Request::IssuerKey => {
                Response::Done
            }
        })
    }

    /// Frees a name.
    pub(crate) fn forget(&self, user: &str) -> Result<()> {
        let tx = self.database.begin_write()?;
        tx.open_table(USERS)?.remove(user)?;
        tx.open_table(DOORS)?.remove(user)?;
        tx.open_table(DEVICES)?.retain_in((user, 0)..=(user, u32::MAX), |_, _| false)?;
        tx.open_table(MAIL)?.retain_in((user, 0, 0)..=(user, u32::MAX, u64::MAX), |_, _| false)?;
        self.blobs.forget(&tx, user)?;
        Ok(tx.commit()?)
    }
}

impl Issuer {
    /// The key, which is drawn when the relay first starts.
    fn load(tx: &WriteTransaction) -> Result<Self> {
        let mut table = tx.open_table(ISSUER)?;
        let row = table.get(())?.map(|row| row.value().to_vec());
        if let Some((id, key)) = row.as_deref().and_then(<[u8]>::split_first) {
            return Ok(Self { id: *id, key: IdentityKeyPair::decode(key)? });
        }
        let key = IdentityKeyPair::generate(&mut SystemRng);
        // Another number than that of a key that was lost, as a rule: so devices see that the
        // certificates that they have are worth nothing any more.
        let [id, ..] = key.public_key().encode();
        table.insert((), [&[id][..], &key.encode()].concat().as_slice())?;
        Ok(Self { id, key })
    }

    fn public(&self) -> Vec<u8> {
        [&[self.id][..], &self.key.public_key().encode()].concat()
    }
}

/// What anybody may ask for without saying who they are.
fn answer_nobody(tx: &WriteTransaction, asker: &str, request: Request) -> Result<Response> {
    Ok(match request {
        Request::Grant(id) => find_grant(tx, &id)?,
        Request::Bundle(of) => bundle(tx, &of, asker)?,
        Request::SendSealed { to, envelope, pass } => {
            let now = UnixTime::now()?.as_secs();
            if !is_listed(tx, &to)? {
                Response::Found(None)
            } else if !doors(tx, &to.user)?.admits(pass.as_ref(), now) {
                Response::Refused(Refused::BadPass)
            } else {
                send(tx, None, &to, envelope)?
            }
        }
        _ => because("say hello first"),
    })
}

fn because(why: &str) -> Response {
    Response::Refused(Refused::Because(why.into()))
}

/// With which passes sealed mail for an account is taken.
fn doors(tx: &WriteTransaction, user: &str) -> Result<Doors> {
    let doors = tx.open_table(DOORS)?.get(user)?.map(|row| Doors::decode(row.value()));
    Ok(doors.transpose()?.unwrap_or_default())
}

/// What is kept of a user, and of one of their devices.
fn load(tx: &WriteTransaction, of: &Address) -> Result<Directory> {
    let (users, devices) = (tx.open_table(USERS)?, tx.open_table(DEVICES)?);
    let Some(user) = users.get(of.user.as_str())? else { return Ok(Directory::new()) };
    let device = devices.get((of.user.as_str(), of.device))?;
    let device = device.iter().map(|row| (of.device, row.value()));
    Ok(Directory::decode(user.value(), device)?)
}

fn save(tx: &WriteTransaction, of: &Address, directory: &Directory) -> Result<()> {
    if let Some(row) = directory.encode_user() {
        tx.open_table(USERS)?.insert(of.user.as_str(), row.as_slice())?;
    }
    if let Some(row) = directory.encode_device(of.device) {
        tx.open_table(DEVICES)?.insert((of.user.as_str(), of.device), row.as_slice())?;
    }
    Ok(())
}

/// A name belongs to the account that uploads first.
fn upload(tx: &WriteTransaction, from: &Address, bytes: &[u8]) -> Result<Response> {
    if !is_name(&from.user) {
        return Ok(Response::Refused(Refused::BadName));
    }
    let mut directory = load(tx, from)?;
    if directory.list().is_none() && tx.open_table(USERS)?.len()? >= MAX_USERS {
        return Ok(because("the relay has no room for another user"));
    }
    let accepted = match directory.upload(from.device, bytes) {
        Ok(accepted) => accepted,
        Err(Refusal::AccountExists) => return Ok(Response::Refused(Refused::NameTaken)),
        Err(Refusal::Unlinked | Refusal::ForkedList | Refusal::OldUpload) => {
            return Ok(Response::Refused(Refused::Outdated));
        }
        Err(_) => return Ok(because("that is not an upload of this device")),
    };
    for device in accepted.removed {
        let user = from.user.as_str();
        tx.open_table(DEVICES)?.remove((user, device))?;
        tx.open_table(MAIL)?
            .retain_in((user, device, 0)..=(user, device, u64::MAX), |_, _| false)?;
    }
    save(tx, from, &directory)?;
    Ok(Response::Done)
}

fn bundle(tx: &WriteTransaction, of: &Address, asker: &str) -> Result<Response> {
    let mut directory = load(tx, of)?;
    let bundle = directory.bundle(of.device, asker, UnixTime::now()?.as_secs());
    if bundle.is_ok() {
        save(tx, of, &directory)?;
    }
    Ok(Response::Found(bundle.ok().map(|bundle| bundle.encode())))
}

fn is_listed(tx: &WriteTransaction, device: &Address) -> Result<bool> {
    Ok(load(tx, device)?.list().is_some_and(|list| list.get(device.device).is_some()))
}

/// Puts an envelope into a mailbox. Of a sealed one, nobody knows where it is from.
fn send(
    tx: &WriteTransaction,
    from: Option<&Address>,
    to: &Address,
    envelope: Vec<u8>,
) -> Result<Response> {
    if envelope.len() > MAX_ENVELOPE {
        return Ok(because("the message is too long"));
    }
    if !is_listed(tx, to)? {
        return Ok(Response::Found(None));
    }
    let (mut mail, mut count) = (tx.open_table(MAIL)?, tx.open_table(COUNT)?);
    let user = to.user.as_str();
    let most = if from.is_none() { MAX_SEALED } else { MAX_MAIL };
    let (mut waiting, mut bytes) = (0_usize, 0_usize);
    for row in mail.range((user, to.device, 0)..=(user, to.device, u64::MAX))? {
        waiting = waiting.saturating_add(1);
        bytes = bytes.saturating_add(row?.1.value().len());
    }
    if waiting >= most || bytes >= MAX_MAIL_BYTES {
        return Ok(because("the mailbox is full"));
    }
    let number = count.get(())?.map_or(0, |count| count.value());
    count.insert((), number.saturating_add(1))?;
    let frame = wire::encode(&Response::Mail(Mail { number, from: from.cloned(), envelope }))?;
    mail.insert((user, to.device, number), frame.as_slice())?;
    Ok(Response::Done)
}

fn find_grant(tx: &WriteTransaction, id: &str) -> Result<Response> {
    let grants = tx.open_table(GRANTS)?;
    Ok(Response::Found(grants.get(id)?.map(|grant| grant.value().1.to_vec())))
}

/// It can be had for an hour.
fn leave_grant(tx: &WriteTransaction, id: &str, grant: &[u8]) -> Result<Response> {
    let now = UnixTime::now()?.as_secs();
    let mut grants = tx.open_table(GRANTS)?;
    grants.retain(|_, (left_at, _)| now.saturating_sub(left_at) <= HOUR)?;
    if grants.len()? >= MAX_GRANTS || grant.len() > MAX_GRANT || id.len() > MAX_GRANT_ID {
        return Ok(because("the relay has no room for a grant"));
    }
    grants.insert(id, (now, grant))?;
    Ok(Response::Done)
}
