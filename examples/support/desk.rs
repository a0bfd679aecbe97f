//! What the relay keeps, and how it answers: each request is one transaction, durable before it is answered.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction,
};
use subrosa::{Address, DeviceList, PublishedPrekeys};

use crate::Result;
use crate::wire::{self, MAX_ENVELOPE, MAX_FRAME, Mail, Request, Response};

const MAX_USERS: u64 = 10_000;
const MAX_NAME: usize = 64;
const MAX_MAIL: usize = 1_000;
const MAX_GRANTS: u64 = 1_000;
const HOUR: u64 = 60 * 60;

/// By user.
const DEVICES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("devices");
/// By user and device.
const PREKEYS: TableDefinition<'_, (&str, u32), &[u8]> = TableDefinition::new("prekeys");
/// By user, device and number: frames, as they go out.
const MAIL: TableDefinition<'_, (&str, u32, u64), &[u8]> = TableDefinition::new("mail");
/// By id: when it was left, and the grant.
const GRANTS: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("grants");
/// How much mail there ever was.
const COUNT: TableDefinition<'_, (), u64> = TableDefinition::new("count");

pub(crate) struct Desk {
    database: Database,
}

impl Desk {
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let database = Database::create(folder.join("relay.redb"))?;
        let tx = database.begin_write()?;
        // So that those who only read find it.
        tx.open_table(MAIL)?;
        tx.commit()?;
        Ok(Self { database })
    }

    /// The next mail of a device, from a number on.
    pub(crate) fn mail(&self, to: &Address, next: u64) -> Result<Option<(u64, Vec<u8>)>> {
        let mail = self.database.begin_read()?.open_table(MAIL)?;
        let user = to.user.as_str();
        let first = mail.range((user, to.device, next)..=(user, to.device, u64::MAX))?.next().transpose()?;
        Ok(first.map(|(key, frame)| (key.value().2, frame.value().to_vec())))
    }

    pub(crate) fn answer(&self, from: Option<&Address>, request: Request) -> Result<Response> {
        let tx = self.database.begin_write()?;
        let response = match (request, from) {
            (Request::Grant(id), _) => {
                let grants = tx.open_table(GRANTS)?;
                Response::Found(grants.get(id.as_str())?.map(|grant| grant.value().1.to_vec()))
            }
            (_, None) => refused("say hello first"),
            (Request::Hello(_), Some(_)) => refused("one hello is enough"),
            (Request::Count, Some(from)) => {
                Response::Count(prekeys(&tx, from)?.map_or(0, |prekeys| prekeys.one_time_count()))
            }
            (Request::Upload { devices, prekeys }, Some(from)) => upload(&tx, from, &devices, &prekeys)?,
            (Request::Devices(user), _) => Response::Found(devices(&tx, &user)?.map(|list| list.encode())),
            (Request::Bundle(of), _) => {
                let mut prekeys = prekeys(&tx, &of)?;
                let bundle = prekeys.as_mut().and_then(PublishedPrekeys::take_bundle);
                if let Some(prekeys) = prekeys {
                    let key = (of.user.as_str(), of.device);
                    tx.open_table(PREKEYS)?.insert(key, prekeys.encode().as_slice())?;
                }
                Response::Found(bundle.map(|bundle| bundle.encode()))
            }
            (Request::Send { to, envelope }, Some(from)) => send(&tx, from, &to, envelope)?,
            (Request::Acknowledge(number), Some(from)) => {
                tx.open_table(MAIL)?.remove((from.user.as_str(), from.device, number))?;
                Response::Done
            }
            (Request::LeaveGrant { id, grant }, Some(_)) => leave_grant(&tx, &id, &grant)?,
        };
        tx.commit()?;
        Ok(response)
    }

    /// Frees a name.
    pub(crate) fn forget(&self, user: &str) -> Result<()> {
        let tx = self.database.begin_write()?;
        tx.open_table(DEVICES)?.remove(user)?;
        drop_all_but(&tx, user, |_| false)?;
        Ok(tx.commit()?)
    }
}

fn refused(why: &str) -> Response {
    Response::Refused(why.into())
}

fn devices(tx: &WriteTransaction, user: &str) -> Result<Option<DeviceList>> {
    let table = tx.open_table(DEVICES)?;
    let list = table.get(user)?.map(|list| DeviceList::decode(list.value()));
    Ok(list.transpose()?)
}

fn prekeys(tx: &WriteTransaction, of: &Address) -> Result<Option<PublishedPrekeys>> {
    let table = tx.open_table(PREKEYS)?;
    let prekeys = table.get((of.user.as_str(), of.device))?;
    Ok(prekeys.map(|prekeys| PublishedPrekeys::decode(prekeys.value())).transpose()?)
}

/// A name belongs to the account key that came first. The list with the highest number stays; prekeys are added.
fn upload(tx: &WriteTransaction, from: &Address, list: &[u8], new: &[u8]) -> Result<Response> {
    let (Ok(mut list), Ok(new)) = (DeviceList::decode(list), PublishedPrekeys::decode(new)) else {
        return Ok(refused("these are not a device list and prekeys"));
    };
    match devices(tx, &from.user)? {
        Some(known) if known.account() != list.account() => return Ok(refused("the name is taken")),
        Some(known) if known.number() >= list.number() => list = known,
        None if from.user.len() > MAX_NAME => return Ok(refused("the name is too long")),
        None if tx.open_table(DEVICES)?.len()? >= MAX_USERS => return Ok(refused("there is no room left")),
        _ => drop(tx.open_table(DEVICES)?.insert(from.user.as_str(), list.encode().as_slice())?),
    }
    drop_all_but(tx, &from.user, |device| list.get(device).is_some())?;
    if list.get(from.device).is_none() {
        return Ok(refused("the account has no such device"));
    }
    let all = match prekeys(tx, from)? {
        Some(mut known) => {
            known.merge(new);
            known.encode()
        }
        None => new.encode(),
    };
    if all.len() > MAX_FRAME {
        return Ok(refused("too many prekeys"));
    }
    tx.open_table(PREKEYS)?.insert((from.user.as_str(), from.device), all.as_slice())?;
    Ok(Response::Done)
}

/// Of a user's devices, what is kept for those that are gone.
fn drop_all_but(tx: &WriteTransaction, user: &str, is_listed: impl Fn(u32) -> bool) -> Result<()> {
    tx.open_table(PREKEYS)?.retain_in((user, 0)..=(user, u32::MAX), |key, _| is_listed(key.1))?;
    let mailboxes = (user, 0, 0)..=(user, u32::MAX, u64::MAX);
    tx.open_table(MAIL)?.retain_in(mailboxes, |key, _| is_listed(key.1))?;
    Ok(())
}

fn send(tx: &WriteTransaction, from: &Address, to: &Address, envelope: Vec<u8>) -> Result<Response> {
    if envelope.len() > MAX_ENVELOPE {
        return Ok(refused("the message is too long"));
    }
    for (address, why) in [(from, "you were removed from the account"), (to, "there is no such device")] {
        if devices(tx, &address.user)?.is_none_or(|list| list.get(address.device).is_none()) {
            return Ok(refused(why));
        }
    }
    let (mut mail, mut count) = (tx.open_table(MAIL)?, tx.open_table(COUNT)?);
    let user = to.user.as_str();
    if mail.range((user, to.device, 0)..=(user, to.device, u64::MAX))?.count() >= MAX_MAIL {
        return Ok(refused("the mailbox is full"));
    }
    let number = count.get(())?.map_or(0, |count| count.value());
    count.insert((), number.saturating_add(1))?;
    let frame = wire::encode(&Response::Mail(Mail { number, from: from.clone(), envelope }))?;
    mail.insert((user, to.device, number), frame.as_slice())?;
    Ok(Response::Done)
}

/// It can be had for an hour.
fn leave_grant(tx: &WriteTransaction, id: &str, grant: &[u8]) -> Result<Response> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let mut grants = tx.open_table(GRANTS)?;
    grants.retain(|_, (left_at, _)| now.saturating_sub(left_at) <= HOUR)?;
    if grants.len()? >= MAX_GRANTS || grant.len() > MAX_ENVELOPE || id.len() > MAX_NAME {
        return Ok(refused("there is no room for it"));
    }
    grants.insert(id, (now, grant))?;
    Ok(Response::Done)
}
