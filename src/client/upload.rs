//! What this device leaves with the server, and what the server says it holds.
//!
//! At each connect the server's summary is compared with the store. So a store that was restored
//! from a copy is noticed by what the server cannot make up: a stamp with a higher number than this
//! store ever signed. Until the summary was looked at, nothing leaves.

use alloc::vec::Vec;

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use super::backoff::Earliest;
use super::compare;
use super::delivery;
use super::events::Event;
use super::group_send;
use super::inbox;
use super::prekeys::{self, Which};
use super::send;
use super::tickets;
use super::transaction::Open;
use super::wants::{self, Want};
use crate::directory::{HeldList, Mode, Summary, Upload};
use crate::error::Error;
use crate::prekey::Bundle;
use crate::store::Table;
use crate::time::UnixTime;

/// How it stands with the server.
#[derive(Default, Serialize, Deserialize)]
struct ServerRow {
    /// The number of the last upload that was signed.
    number: u64,
    /// The server has the prekeys up to this id.
    uploaded: u32,
    /// When a summary was last looked at.
    checked_at: Option<UnixTime>,
    due: Due,
    /// What the last upload that was signed brings the server to.
    signed: Option<u32>,
    /// One-time sets that the server said it has.
    on_server: u32,
    /// Neither is asked of the network before this time.
    not_before: Option<UnixTime>,
}

/// What is to be uploaded.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Due {
    Nothing,
    /// What the server does not have.
    Add,
    /// Prekeys with ids above this one in the place of all that the server has. None: those that
    /// will be made.
    Replace(Option<u32>),
    /// As `Replace`, where the server showed no stamp of this device: nothing else leaves before it
    /// took this.
    Introduce(Option<u32>),
}

impl Default for Due {
    fn default() -> Self {
        Self::Replace(None)
    }
}

const SERVER: &[u8] = b"server";

/// The row of what the last upload that was signed says of its content.
const SIGNED: &[u8] = b"signed";

/// Seconds after which a summary is fetched anew: a day.
const CHECK_AFTER: u64 = 24 * 60 * 60;

/// Seconds between two attempts.
const WAIT: u64 = 60;

/// One-time sets that are kept, whether the server handed them out or not.
const MOST_ONE_TIME: usize = 1_000;

/// Prekey ids that are left out after a restoration: more than were made since the last upload.
const LOST_IDS: u32 = 1 << 12;

fn get(open: &mut Open<'_>) -> Result<ServerRow, Error> {
    Ok(open.get_as(Table::Account, SERVER)?.unwrap_or_default())
}

fn put(open: &mut Open<'_>, row: &ServerRow) -> Result<(), Error> {
    open.put_as(Table::Account, SERVER, row, 96)
}

/// Whether it is time to ask the server what it holds.
pub(super) fn check_due(open: &mut Open<'_>, now: UnixTime) -> Result<bool, Error> {
    let row = get(open)?;
    let checked_at = row.checked_at;
    Ok(!row.waits(now) && checked_at.is_none_or(|at| now.apart(at) > CHECK_AFTER))
}

/// When the server may be asked again.
pub(super) fn next_due(open: &mut Open<'_>, next: &mut Earliest) -> Result<(), Error> {
    let row = get(open)?;
    let check_at = row.checked_at.map(|at| at.after(CHECK_AFTER.saturating_add(1)));
    row.not_before.into_iter().chain(check_at).for_each(|time| next.take(time));
    Ok(())
}

/// Whether the server lacks something of this device.
pub(super) fn is_due(open: &mut Open<'_>) -> Result<bool, Error> {
    Ok(get(open)?.due != Due::Nothing)
}

/// Whether the server showed nothing of this device, and took no upload since. The device may have
/// been removed, and the store may be a copy; a server takes uploads of a listed device alone.
pub(super) fn is_introducing(open: &mut Open<'_>) -> Result<bool, Error> {
    Ok(matches!(get(open)?.due, Due::Introduce(_)))
}

/// The device connected anew: what the server holds is to be looked at.
pub(super) fn connected(open: &mut Open<'_>) -> Result<(), Error> {
    let mut row = get(open)?;
    (row.checked_at, row.not_before) = (None, None);
    put(open, &row)
}

/// A task was made of it.
pub(super) fn check_handed_out(open: &mut Open<'_>, now: UnixTime) -> Result<(), Error> {
    failed(open, now)
}

/// The server did not take the upload. What it holds is looked at before the next one: it may be a
/// later upload of this device.
pub(super) fn refused(open: &mut Open<'_>, now: UnixTime) -> Result<(), Error> {
    let mut row = get(open)?;
    (row.checked_at, row.not_before) = (None, Some(now.wait(WAIT)));
    put(open, &row)?;
    match row.due {
        Due::Introduce(_) => {
            let own = open.account.user.clone();
            wants::want(open, Want::Devices(own), now)
        }
        Due::Nothing | Due::Add | Due::Replace(_) => Ok(()),
    }
}

/// The server could not be asked, or did not answer: a minute later again.
pub(super) fn failed(open: &mut Open<'_>, now: UnixTime) -> Result<(), Error> {
    let mut row = get(open)?;
    row.not_before = Some(now.wait(WAIT));
    put(open, &row)
}

impl ServerRow {
    fn waits(&self, now: UnixTime) -> bool {
        self.not_before.is_some_and(|time| (1..=WAIT).contains(&time.since(now)))
    }
}

/// There is something new for the server.
pub(super) fn request(open: &mut Open<'_>) -> Result<(), Error> {
    let mut row = get(open)?;
    row.due = row.due.or(Due::Add);
    // An upload that is under way does not have it.
    (row.signed, row.not_before) = (None, None);
    put(open, &row)
}

/// Compares what the server holds of this device with what it should. None: it has nothing.
pub(super) fn compare(
    open: &mut Open<'_>,
    summary: Option<&[u8]>,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let summary = summary.map(Summary::decode).transpose()?.unwrap_or_default();
    let own = match open.linked() {
        // It was removed after it asked: it has nothing more to leave with the server.
        Err(Error::Unlinked) => return Ok(()),
        own => own?,
    };
    let mut row = get(open)?;
    (row.checked_at, row.not_before) = (Some(now), None);
    // Each connect leaves a stamp, so that a copy of the store that is older than it is noticed.
    row.due = row.due.or(Due::Add);
    let is_old_or_same = |list: &HeldList| {
        list.account == own.user.list.account()
            && (list.version < own.user.stamp().version
                || list.version == own.user.stamp().version
                    && list.digest == own.user.stamp().digest)
    };
    if summary.list.is_some_and(|list| !is_old_or_same(&list)) {
        wants::want(open, Want::Devices(own.user.name.clone()), now)?;
    }
    let stamp = summary.verify_stamp(&open.account.identity);
    let (Some(stamp), Some(held)) = (stamp, &summary.prekeys) else {
        row.due = Due::Introduce(None);
        return put(open, &row);
    };
    if let Due::Introduce(since) = row.due {
        row.due = Due::Replace(since);
    }
    // An upload that the server refused had a number as well, so the number alone would not show it
    // for ever: but no store makes fewer prekeys than it signed.
    let last_id = prekeys::load(open, &Which::Rotating)?.prekeys.last_id();
    // Both may have signed as many since. A store signs one upload of each number.
    let signed = open.get(Table::Account, SIGNED)?;
    let is_another = stamp.number == row.number
        && signed.is_some_and(|signed| *signed != held.stamp.content()[..]);
    if stamp.number > row.number || stamp.last_id > last_id || is_another {
        row.number = row.number.max(stamp.number);
        row.due = Due::Replace(None);
        put(open, &row)?;
        // The number may be the stamp's from now on, and that upload was another one's.
        open.delete(Table::Account, SIGNED)?;
        return restored(open, stamp.last_id, now, rng);
    }
    // An upload whose answer was lost counts, and one that was lost does not.
    row.uploaded = stamp.last_id;
    row.on_server = held.one_time;
    let too_new = now.as_secs().saturating_add(Bundle::MAX_AHEAD);
    let is_ahead = held.signed.is_some_and(|key| key.created_at > too_new);
    // The clock was ahead when these were made: nobody takes them.
    if is_ahead {
        row.due = Due::Replace(None);
    }
    put(open, &row)
}

impl Due {
    fn or(self, other: Self) -> Self {
        if self == Self::Nothing { other } else { self }
    }
}

/// The store is older than what this device uploaded: it was restored from a copy. No session is
/// written in any more, and what waits to leave is encrypted anew.
fn restored(
    open: &mut Open<'_>,
    last_id: u32,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    open.count_restoration(now)?;
    let mut some = prekeys::load(open, &Which::Rotating)?;
    let skipped = last_id.saturating_sub(some.prekeys.last_id()).saturating_add(LOST_IDS);
    some.prekeys.skip_ids(skipped)?;
    some.prekeys.add_signed(now.as_secs(), rng)?;
    some.prekeys.add_last_resort(now.as_secs(), rng)?;
    some.save(open)?;
    tickets::renew(open, now, rng)?;
    delivery::make_anew(open, now, rng, |_| true)?;
    compare::interrupt_all(open, now, rng)?;
    group_send::restored(open)?;
    let own = open.own()?;
    wants::want(open, Want::Devices(own.user.name.clone()), now)?;
    send::note_drafts(open, None, now)?;
    inbox::tell(open, Event::Restored, now, rng)
}

/// The next upload and its number, if there is something to upload.
pub(super) fn next(
    open: &mut Open<'_>,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<Option<(u64, Vec<u8>)>, Error> {
    let mut row = get(open)?;
    if row.due == Due::Nothing || row.waits(now) {
        return Ok(None);
    }
    row.not_before = Some(now.wait(WAIT));
    let own = open.linked()?;
    let mut some = prekeys::load(open, &Which::All)?;
    let before = some.prekeys.last_id();
    some.prekeys.rotate_if_due(now.as_secs(), rng)?;
    let (mode, since, there) = match &mut row.due {
        // Only keys that nobody was ever given.
        Due::Replace(since) | Due::Introduce(since) => {
            let since = *since.get_or_insert(before);
            (Mode::Replace, since, some.prekeys.one_time_above(since))
        }
        Due::Nothing | Due::Add => {
            let waiting = some.prekeys.one_time_above(row.uploaded);
            let there =
                usize::try_from(row.on_server).unwrap_or(usize::MAX).saturating_add(waiting);
            (Mode::Add, row.uploaded, there)
        }
    };
    if there < open.policy.prekeys_low {
        some.prekeys.refill(there, open.policy.prekeys_target, now.as_secs(), rng)?;
        some.prekeys.keep_newest(MOST_ONE_TIME.max(open.policy.prekeys_target));
    }
    let identity = open.identity()?;
    let published = some.prekeys.publish_current(since, &identity);
    row.number = row.number.saturating_add(1);
    row.signed = Some(some.prekeys.last_id());
    let upload = Upload::new(&identity, row.number, own.user.list.clone(), published, mode)?;
    open.put(Table::Account, SIGNED, upload.stamp().content())?;
    some.save(open)?;
    put(open, &row)?;
    Ok(Some((row.number, upload.encode())))
}

/// The server has the upload of this number. Says whether that was the last one signed.
pub(super) fn done(open: &mut Open<'_>, number: u64) -> Result<bool, Error> {
    let mut row = get(open)?;
    if row.number == number
        && let Some(uploaded) = row.signed.take()
    {
        row.uploaded = uploaded;
        (row.due, row.not_before) = (Due::Nothing, None);
        row.on_server = u32::try_from(open.policy.prekeys_target).unwrap_or(u32::MAX);
        put(open, &row)?;
        return Ok(true);
    }
    Ok(false)
}
