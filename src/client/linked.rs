//! When devices of the account were linked, for as long as that matters: a day.

use alloc::vec::Vec;

use super::transaction::Open;
use crate::devices::DeviceList;
use crate::error::Error;
use crate::identity::IdentityKey;
use crate::store::Table;
use crate::time::UnixTime;

/// Seconds for which a device counts as linked lately: a day.
const LATELY: u64 = 24 * 60 * 60;

/// When this device joined the account.
const JOINED: &[u8] = b"joined";

/// `"linked" || device:16`, by what the device is called in keys of rows.
const LINKED: &[u8] = b"linked";

/// This device begins.
pub(super) fn joined(open: &mut Open<'_>, now: UnixTime) -> Result<(), Error> {
    open.put(Table::Account, JOINED, &now.as_secs().to_be_bytes())
}

/// Whether this device joined the account lately.
pub(super) fn is_new_here(open: &mut Open<'_>, now: UnixTime) -> Result<bool, Error> {
    Ok(open.get(Table::Account, JOINED)?.is_some_and(|row| is_lately(&row, now)))
}

/// The account has this list now, in which some devices are new. Those that are not any more, and
/// those that are not listed, are forgotten: so there are no more rows than devices.
pub(super) fn note(
    open: &mut Open<'_>,
    list: &DeviceList,
    added: &[u32],
    now: UnixTime,
) -> Result<(), Error> {
    let mut listed = Vec::new();
    for device in list.devices() {
        listed.push((key(open, &device.identity)?, added.contains(&device.device)));
    }
    for (key, row) in open.scan(Table::Account, LINKED, usize::MAX)? {
        if !is_lately(&row, now) || !listed.iter().any(|(listed, _)| *listed == key) {
            open.delete(Table::Account, &key)?;
        }
    }
    for (key, _) in listed.iter().filter(|(_, is_added)| *is_added) {
        open.put(Table::Account, key, &now.as_secs().to_be_bytes())?;
    }
    Ok(())
}

/// Whether a device of the account was linked lately, as far as this one knows.
pub(super) fn is_new(
    open: &mut Open<'_>,
    identity: &IdentityKey,
    now: UnixTime,
) -> Result<bool, Error> {
    let key = key(open, identity)?;
    Ok(open.get(Table::Account, &key)?.is_some_and(|row| is_lately(&row, now)))
}

fn key(open: &Open<'_>, identity: &IdentityKey) -> Result<Vec<u8>, Error> {
    let tag = open.tag(&open.account.user)?;
    Ok([LINKED, &open.place(tag, identity).device].concat())
}

/// A time that is ahead was written by a clock that was, and is not believed.
fn is_lately(row: &[u8], now: UnixTime) -> bool {
    let at = row.try_into().map(u64::from_be_bytes).ok();
    at.and_then(|at| now.as_secs().checked_sub(at)).is_some_and(|since| since <= LATELY)
}
