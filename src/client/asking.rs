//! What healing remembers: envelopes that are to be asked for, requests that were sent, and
//! requests of others that are being answered.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use super::timers;
use super::transaction::{Open, Place, Tag};
use crate::at_rest;
use crate::error::Error;
use crate::reference::Reference;
use crate::sesame::DeviceRecord;
use crate::session::SessionId;
use crate::store::Table;
use crate::time::UnixTime;

/// `tag:16 || kind || ..`:
/// `ASKING || device:u32 || (2^64 - 1 - time):u64 || reference:16`, so that the newest comes first;
/// `COUNT || device:u32`; `SENT || device:16 || number:u64`; `QUEUE || device:16 || name:24`.
const ASKING: u8 = 0;
const COUNT: u8 = 1;
const SENT: u8 = 2;
const QUEUE: u8 = 3;

/// Envelopes of one device that wait to be asked for.
const MOST_ASKING: u32 = 1_000;

/// Envelopes of a stranger that wait to be asked for.
const MOST_STRANGE: usize = 16;

/// Requests to one device that are remembered, in case they get lost themselves.
const MOST_SENT: u32 = 32;

/// Requests of one device that are being answered.
const MOST_QUEUED: usize = 8;

/// A request that was sent.
#[derive(Serialize, Deserialize)]
pub(super) struct SentRequest {
    pub(super) at: UnixTime,
    /// How often the references were asked for in vain.
    pub(super) attempts: u8,
    #[serde(with = "at_rest::records")]
    pub(super) references: Vec<[u8; 16]>,
}

/// A request that is being answered.
#[derive(Serialize, Deserialize)]
pub(super) struct Queued {
    pub(super) asked_in: SessionId,
    #[serde(with = "at_rest::array")]
    pub(super) holds: [u8; 8],
    /// Whether they are in the order in which their envelopes were made.
    pub(super) is_ordered: bool,
    /// Those that are left.
    #[serde(with = "at_rest::records")]
    pub(super) references: Vec<[u8; 16]>,
}

/// Seconds after which a request without an answer is made again: a day after the first one, two
/// after the second. The third is the last.
const fn again_after(attempts: u8) -> Option<u64> {
    const DAY: u64 = 24 * 60 * 60;
    match attempts {
        0 => Some(DAY),
        1 => Some(2 * DAY),
        _ => None,
    }
}

fn prefix(tag: Tag, kind: u8) -> [u8; 17] {
    let mut key = [kind; 17];
    key[..16].copy_from_slice(&tag.0);
    key
}

fn of_number(tag: Tag, kind: u8, device: u32) -> Vec<u8> {
    [&prefix(tag, kind)[..], &device.to_be_bytes()].concat()
}

fn of_device(place: Place, kind: u8) -> Vec<u8> {
    [&prefix(place.tag, kind)[..], &place.device].concat()
}

/// As [`note`], of a stranger: of whom there are no more than 16, whatever device they name.
pub(super) fn note_strange(
    open: &mut Open<'_>,
    tag: Tag,
    device: u32,
    reference: Reference,
    now: UnixTime,
) -> Result<bool, Error> {
    let rows = open.scan(Table::Request, &prefix(tag, ASKING), MOST_STRANGE)?;
    Ok(rows.len() < MOST_STRANGE && note(open, tag, device, (reference, 0), now)?)
}

/// Notes that an envelope is to be asked for, and how often it was asked for in vain. False where
/// there is no room.
pub(super) fn note(
    open: &mut Open<'_>,
    tag: Tag,
    device: u32,
    (reference, attempts): (Reference, u8),
    now: UnixTime,
) -> Result<bool, Error> {
    let count = count(open, tag, device)?;
    if count >= MOST_ASKING {
        return Ok(false);
    }
    let newest_first = u64::MAX.saturating_sub(now.as_secs()).to_be_bytes();
    let key = [&of_number(tag, ASKING, device)[..], &newest_first, &reference.0].concat();
    if open.get(Table::Request, &key)?.is_none() {
        open.put(Table::Request, &key, &[attempts])?;
        put_count(open, tag, device, count.saturating_add(1))?;
    }
    Ok(true)
}

fn count(open: &mut Open<'_>, tag: Tag, device: u32) -> Result<u32, Error> {
    let row = open.get(Table::Request, &of_number(tag, COUNT, device))?;
    Ok(row.and_then(|row| row.as_slice().try_into().ok()).map_or(0, u32::from_be_bytes))
}

fn put_count(open: &mut Open<'_>, tag: Tag, device: u32, count: u32) -> Result<(), Error> {
    let key = of_number(tag, COUNT, device);
    match count {
        0 => open.delete(Table::Request, &key),
        count => open.put(Table::Request, &key, &count.to_be_bytes()),
    }
}

/// Whether anything is to be asked for.
pub(super) fn any(open: &mut Open<'_>, tag: Tag, device: u32) -> Result<bool, Error> {
    Ok(count(open, tag, device)? > 0)
}

/// Takes what is to be asked for, the newest first.
pub(super) fn take(
    open: &mut Open<'_>,
    tag: Tag,
    device: u32,
    now: UnixTime,
) -> Result<SentRequest, Error> {
    let most = usize::try_from(MOST_ASKING).unwrap_or(usize::MAX);
    let rows = open.scan(Table::Request, &of_number(tag, ASKING, device), most)?;
    let mut references = Vec::with_capacity(rows.len());
    let mut attempts = None;
    for (key, row) in rows {
        references.extend(key.last_chunk::<16>());
        // Those of a request are counted together, and none of them is given up too early.
        attempts = attempts.into_iter().chain(row.first().copied()).min();
        open.delete(Table::Request, &key)?;
    }
    put_count(open, tag, device, 0)?;
    Ok(SentRequest { at: now, attempts: attempts.unwrap_or(0), references })
}

/// Forgets what is to be asked for of devices other than those that `is_known` names, where the
/// last of it was noted more than `age` seconds ago: a server may be behind with the list.
pub(super) fn keep(
    open: &mut Open<'_>,
    tag: Tag,
    (now, age): (UnixTime, u64),
    is_known: impl Fn(u32) -> bool,
) -> Result<(), Error> {
    for (key, _) in open.scan(Table::Request, &prefix(tag, COUNT), usize::MAX)? {
        let Some(device) = key.last_chunk().map(|device| u32::from_be_bytes(*device)) else {
            continue;
        };
        if is_known(device) {
            continue;
        }
        let newest = open.scan(Table::Request, &of_number(tag, ASKING, device), 1)?;
        let noted_at = newest.first().and_then(|(key, _)| key.get(21..29)?.first_chunk().copied());
        let noted_at = noted_at.map_or(0, |time| u64::MAX.saturating_sub(u64::from_be_bytes(time)));
        if now.as_secs().saturating_sub(noted_at) >= age {
            take(open, tag, device, now)?;
        }
    }
    Ok(())
}

/// Forgets all that is to be asked for of a user's devices.
pub(super) fn forget(open: &mut Open<'_>, tag: Tag) -> Result<(), Error> {
    open.delete_all(Table::Request, &prefix(tag, ASKING))?;
    open.delete_all(Table::Request, &prefix(tag, COUNT))
}

/// Remembers a request that was sent. The caller writes the record.
pub(super) fn sent(
    open: &mut Open<'_>,
    place: Place,
    record: &mut DeviceRecord,
    number: u64,
    request: &SentRequest,
) -> Result<(), Error> {
    let prefix = of_device(place, SENT);
    let key = [&prefix[..], &number.to_be_bytes()].concat();
    let capacity = request.references.len().saturating_mul(16).saturating_add(32);
    open.put_as(Table::Request, &key, request, capacity)?;
    if let Some(after) = again_after(request.attempts) {
        timers::set_request(open, request.at.after(after), place, number)?;
    }
    record.requests = record.requests.saturating_add(1);
    if record.requests > MOST_SENT {
        for (key, _) in open.scan(Table::Request, &prefix, 1)? {
            open.delete(Table::Request, &key)?;
        }
        record.requests = record.requests.saturating_sub(1);
    }
    Ok(())
}

/// A request that was sent in the envelope of this number.
pub(super) fn sent_in(
    open: &mut Open<'_>,
    place: Place,
    number: u64,
) -> Result<Option<SentRequest>, Error> {
    let key = [&of_device(place, SENT)[..], &number.to_be_bytes()].concat();
    open.get_as(Table::Request, &key)
}

/// Those of some references that were asked for of a device. Each is one once.
pub(super) fn take_asked(
    open: &mut Open<'_>,
    place: Place,
    references: &[[u8; 16]],
) -> Result<Vec<[u8; 16]>, Error> {
    let wanted: BTreeSet<&[u8; 16]> = references.iter().collect();
    let mut found = BTreeSet::new();
    let most = usize::try_from(MOST_SENT).unwrap_or(usize::MAX);
    for (key, row) in open.scan(Table::Request, &of_device(place, SENT), most)? {
        let mut request: SentRequest = at_rest::state::decode(1, &row)?;
        let before = request.references.len();
        request.references.retain(|asked| {
            let is_one = wanted.contains(asked);
            if is_one {
                found.insert(*asked);
            }
            !is_one
        });
        if request.references.len() != before {
            let capacity = request.references.len().saturating_mul(16).saturating_add(32);
            open.put_as(Table::Request, &key, &request, capacity)?;
        }
    }
    Ok(found.into_iter().collect())
}

/// Whether there is room for a further request to answer.
pub(super) fn has_room(open: &mut Open<'_>, place: Place) -> Result<bool, Error> {
    Ok(open.scan(Table::Request, &of_device(place, QUEUE), MOST_QUEUED)?.len() < MOST_QUEUED)
}

/// Whether a request of a device is being answered.
pub(super) fn is_answering(open: &mut Open<'_>, place: Place) -> Result<bool, Error> {
    Ok(!open.scan(Table::Request, &of_device(place, QUEUE), 1)?.is_empty())
}

/// Queues a request to answer. False where there is no room.
pub(super) fn queue(
    open: &mut Open<'_>,
    place: Place,
    queued: &Queued,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<bool, Error> {
    if !has_room(open, place)? {
        return Ok(false);
    }
    let prefix = of_device(place, QUEUE);
    let name = open.row_name(now, 0, rng);
    put_queued(open, &[&prefix[..], &name].concat(), queued)?;
    Ok(true)
}

/// The requests that are being answered, the oldest first.
pub(super) fn queued(open: &mut Open<'_>, place: Place) -> Result<Vec<(Vec<u8>, Queued)>, Error> {
    let rows = open.scan(Table::Request, &of_device(place, QUEUE), MOST_QUEUED)?.into_iter();
    rows.map(|(key, row)| Ok((key, at_rest::state::decode(1, &row)?))).collect()
}

/// Writes what is left of a request, or removes it where nothing is.
pub(super) fn put_queued(open: &mut Open<'_>, key: &[u8], queued: &Queued) -> Result<(), Error> {
    if queued.references.is_empty() {
        return open.delete(Table::Request, key);
    }
    let capacity = queued.references.len().saturating_mul(16).saturating_add(64);
    open.put_as(Table::Request, key, queued, capacity)
}

/// Forgets what a device was sent and asked for.
pub(super) fn forget_device(open: &mut Open<'_>, place: Place) -> Result<(), Error> {
    open.delete_all(Table::Request, &of_device(place, SENT))?;
    open.delete_all(Table::Request, &of_device(place, QUEUE))
}
