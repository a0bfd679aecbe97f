//! Which envelopes of a device were opened lately, so that each is shown once.

use alloc::vec::Vec;

use super::transaction::{Open, Place};
use crate::error::Error;
use crate::sesame::DeviceRecord;
use crate::store::Table;

/// Kinds of the rows that say what is to be forgotten next.
const TEXTS: u8 = 1;
const OTHERS: u8 = 2;

/// What an envelope or a text is known by: its reference, or the name of the message.
pub(super) type Name = [u8; 16];

pub(super) fn was_seen(open: &mut Open<'_>, place: Place, name: &Name) -> Result<bool, Error> {
    let key = open.seen_key(place, name);
    Ok(open.get(Table::Seen, &key)?.is_some())
}

/// Where it stands that a device sent something under one of these names.
pub(super) fn keys(open: &Open<'_>, place: Place, names: &[Name]) -> Vec<Vec<u8>> {
    names.iter().map(|name| open.seen_key(place, name)).collect()
}

/// Whether anything under these [`keys`] was sent before.
pub(super) fn any(open: &mut Open<'_>, keys: &[Vec<u8>]) -> Result<bool, Error> {
    let rows: Vec<(Table, &[u8])> = keys.iter().map(|key| (Table::Seen, key.as_slice())).collect();
    open.prefetch(&rows)?;
    let mut is_any = false;
    for key in keys {
        is_any |= open.get(Table::Seen, key)?.is_some();
    }
    Ok(is_any)
}

/// Records an opened envelope under its [`keys`] and evicts the oldest of its kind: only a text
/// makes a text be forgotten, since the other side keeps texts by their number. The caller writes
/// the record.
pub(super) fn note(
    open: &mut Open<'_>,
    place: Place,
    record: &mut DeviceRecord,
    keys: &[Vec<u8>],
    is_text: bool,
) -> Result<(), Error> {
    let count = if is_text { &mut record.texts } else { &mut record.others };
    let number = *count;
    *count = number.saturating_add(1);
    let kind = if is_text { TEXTS } else { OTHERS };
    let turn = |number: u64| place.key_with(&[&[kind], &number.to_be_bytes()[..]].concat());
    for key in keys {
        open.put(Table::Seen, key, &[])?;
    }
    open.put(Table::Seen, &turn(number), &keys.concat())?;
    if let Some(old) = number.checked_sub(open.policy.seen.max(1)) {
        let keys = open.get(Table::Seen, &turn(old))?.unwrap_or_default();
        for key in keys.as_chunks::<49>().0 {
            open.delete(Table::Seen, key)?;
        }
        open.delete(Table::Seen, &turn(old))?;
    }
    record.opened = record.opened.saturating_add(1);
    Ok(())
}

/// Forgets what a device sent.
pub(super) fn forget(open: &mut Open<'_>, place: Place) -> Result<(), Error> {
    open.delete_all(Table::Seen, &place.key())
}
