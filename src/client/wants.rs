//! What the network should bring, and what waits for it: one row each, with its back-off.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::backoff::{BackOff, Earliest};
use super::transaction::{Open, Tag};
use crate::address::Address;
use crate::at_rest;
use crate::error::Error;
use crate::store::Table;
use crate::time::UnixTime;

/// Something that is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Want {
    /// The device list of a user.
    Devices(String),
    /// A bundle of a device, to begin a session with.
    Bundle(Address),
    /// Nothing from outside: there is work to go on with for a device.
    Work(Address),
    /// Nothing from outside: envelopes that were set aside are to be looked at once more.
    Aside(String),
    /// A sender certificate of this account.
    Certificate,
    /// That the server knows this account's pass.
    Pass,
}

/// How it stands with a want.
#[derive(Serialize, Deserialize)]
struct WantRow {
    want: Want,
    since: UnixTime,
    attempts: u8,
    not_before: UnixTime,
}

/// The first byte of these rows in the table of tasks. They come in this order: a list before the
/// bundles of its devices.
const ASIDE: u8 = 1;
const WORK: u8 = 2;
const DEVICES: u8 = 3;
const BUNDLE: u8 = 4;
const CERTIFICATE: u8 = 5;
const PASS: u8 = 6;

/// Those that are of a user.
const KINDS: [u8; 4] = [ASIDE, WORK, DEVICES, BUNDLE];

/// Wants that need nothing from outside, and those that do.
pub(super) const INSIDE: &[u8] = &[ASIDE, WORK];
pub(super) const OUTSIDE: &[u8] = &[PASS, CERTIFICATE, DEVICES, BUNDLE];

/// A stranger brings about no want where there are this many already.
const MOST_WANTS: usize = 2_048;

/// It begins with a second: a device that was just linked leaves its prekeys a moment later.
const BACK_OFF: BackOff = BackOff { first: 1, last: 6 * 60 * 60 };

/// A want is given up after this many attempts at the earliest, which take four and a half hours.
const LEAST_ATTEMPTS: u8 = 14;

impl WantRow {
    fn is_due(&self, now: UnixTime) -> bool {
        BACK_OFF.is_due(self.not_before, now)
    }
}

impl Want {
    /// The row that says so.
    pub(super) fn stored_in(&self, open: &Open<'_>) -> Result<(Table, Vec<u8>), Error> {
        Ok((Table::Task, self.key(open)?))
    }

    fn key(&self, open: &Open<'_>) -> Result<Vec<u8>, Error> {
        let of_device = |kind: u8, address: &Address| {
            let Tag(tag) = open.tag(&address.user)?;
            Ok([&[kind][..], &tag, &address.device.to_be_bytes()].concat())
        };
        match self {
            Self::Aside(user) => Ok([&[ASIDE][..], &open.tag(user)?.0].concat()),
            Self::Devices(user) => Ok([&[DEVICES][..], &open.tag(user)?.0].concat()),
            Self::Bundle(address) => of_device(BUNDLE, address),
            Self::Work(address) => of_device(WORK, address),
            Self::Certificate => Ok([CERTIFICATE].into()),
            Self::Pass => Ok([PASS].into()),
        }
    }
}

/// Notes that something is wanted, unless that is known. What a sealed envelope brought about is
/// wanted from outside a while later, or the server would learn whose envelope it was.
pub(super) fn want(open: &mut Open<'_>, want: Want, now: UnixTime) -> Result<(), Error> {
    let is_telling = match &want {
        // Nothing is sent before the own list is fetched.
        Want::Devices(user) => !open.is_own(user),
        Want::Bundle(_) => true,
        _ => false,
    };
    let since = if is_telling { now.after(open.quiet) } else { now };
    want_from(open, want, since)
}

/// As [`want`], of work that would show the server whose envelope came.
pub(super) fn want_quietly(open: &mut Open<'_>, want: Want, now: UnixTime) -> Result<(), Error> {
    want_from(open, want, now.after(open.quiet))
}

fn want_from(open: &mut Open<'_>, want: Want, since: UnixTime) -> Result<(), Error> {
    let key = want.key(open)?;
    let Some(mut row) = open.get_as::<WantRow>(Table::Task, &key)? else {
        return put(open, &key, &WantRow { want, since, attempts: 0, not_before: since });
    };
    // What is new for a device does not wait for what could not be gone on with.
    if matches!(want, Want::Work(_)) && row.attempts > 0 && row.not_before > since {
        row.not_before = since;
        put(open, &key, &row)?;
    }
    Ok(())
}

/// Whether something is wanted.
pub(super) fn is_wanted(open: &mut Open<'_>, want: &Want) -> Result<bool, Error> {
    let key = want.key(open)?;
    Ok(open.get(Table::Task, &key)?.is_some())
}

/// Whether something is wanted that was never tried.
pub(super) fn is_untried(open: &mut Open<'_>, want: &Want) -> Result<bool, Error> {
    let key = want.key(open)?;
    Ok(open.get_as::<WantRow>(Table::Task, &key)?.is_some_and(|row| row.attempts == 0))
}

/// As [`is_untried`], and wanted for `most` seconds at most.
pub(super) fn is_fresh(
    open: &mut Open<'_>,
    want: &Want,
    now: UnixTime,
    most: u64,
) -> Result<bool, Error> {
    let key = want.key(open)?;
    let row = open.get_as::<WantRow>(Table::Task, &key)?;
    Ok(row.is_some_and(|row| row.attempts == 0 && now.since(row.since) <= most))
}

/// Whether there is room for a want that a stranger brings about.
pub(super) fn has_room(open: &mut Open<'_>) -> Result<bool, Error> {
    Ok(open.peek(Table::Task, &[DEVICES], MOST_WANTS)?.len() < MOST_WANTS)
}

/// It is there.
pub(super) fn have(open: &mut Open<'_>, want: &Want) -> Result<(), Error> {
    let key = want.key(open)?;
    match open.get(Table::Task, &key)? {
        Some(_) => open.delete(Table::Task, &key),
        None => Ok(()),
    }
}

/// It could not be had. Says whether it is given up by now.
///
/// Age alone says nothing: the device may have been off for a month, or its clock was.
pub(super) fn failed(open: &mut Open<'_>, want: &Want, now: UnixTime) -> Result<bool, Error> {
    let key = want.key(open)?;
    let Some(mut row) = open.get_as::<WantRow>(Table::Task, &key)? else { return Ok(false) };
    row.not_before = BACK_OFF.failed(&mut row.attempts, now);
    put(open, &key, &row)?;
    let is_old = now.since(row.since) > open.policy.give_up_after;
    Ok(is_old && row.attempts >= LEAST_ATTEMPTS)
}

/// It may be had at once now, whatever its back-off.
pub(super) fn hurry(open: &mut Open<'_>, want: &Want, now: UnixTime) -> Result<(), Error> {
    let key = want.key(open)?;
    let Some(mut row) = open.get_as::<WantRow>(Table::Task, &key)? else { return Ok(()) };
    row.not_before = now;
    put(open, &key, &row)
}

/// Everything from outside may be had at once now: the network is back, or a process that was doing
/// it is gone.
pub(super) fn hurry_all(open: &mut Open<'_>) -> Result<(), Error> {
    for kind in OUTSIDE {
        for (key, row) in open.scan(Table::Task, &[*kind], usize::MAX)? {
            let mut row: WantRow = at_rest::state::decode(1, &row)?;
            if row.not_before > row.since {
                row.not_before = row.since;
                put(open, &key, &row)?;
            }
        }
    }
    Ok(())
}

/// A task is made of it, if it is still due: it is not before `until`.
pub(super) fn hand_out(
    open: &mut Open<'_>,
    want: &Want,
    now: UnixTime,
    until: UnixTime,
) -> Result<bool, Error> {
    let key = want.key(open)?;
    let row = open.get_as::<WantRow>(Table::Task, &key)?.filter(|row| row.is_due(now));
    let Some(mut row) = row else { return Ok(false) };
    row.not_before = until;
    put(open, &key, &row)?;
    Ok(true)
}

/// The wants that are due, at most `most`, by turns: whoever has much wanted without end keeps
/// nobody else waiting.
pub(super) fn due(
    open: &mut Open<'_>,
    now: UnixTime,
    kinds: &[u8],
    most: usize,
) -> Result<Vec<Want>, Error> {
    let mut all = Vec::new();
    for kind in kinds {
        for (_, row) in open.peek(Table::Task, &[*kind], usize::MAX)? {
            let row: WantRow = at_rest::state::decode(1, &row)?;
            if row.is_due(now) {
                all.push(row.want);
            }
        }
    }
    open.by_turns(&mut all, most, now);
    Ok(all)
}

/// When what is wanted is due.
pub(super) fn next_due(open: &mut Open<'_>, next: &mut Earliest) -> Result<(), Error> {
    for kind in INSIDE.iter().chain(OUTSIDE) {
        for (_, row) in open.peek(Table::Task, &[*kind], usize::MAX)? {
            let row: WantRow = at_rest::state::decode(1, &row)?;
            if INSIDE.contains(kind) && row.is_due(next.now()) {
                // It is one of more than are gone on with at once.
                next.soon();
            }
            next.take(row.not_before);
        }
    }
    Ok(())
}

/// Forgets what is wanted of a user.
pub(super) fn forget(open: &mut Open<'_>, tag: Tag) -> Result<(), Error> {
    for kind in KINDS {
        open.delete_all(Table::Task, &[&[kind][..], &tag.0].concat())?;
    }
    Ok(())
}

fn put(open: &mut Open<'_>, key: &[u8], row: &WantRow) -> Result<(), Error> {
    open.put_as(Table::Task, key, row, 320)
}
