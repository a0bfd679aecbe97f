//! Texts to groups on their way: those that wait to be encrypted, envelopes that wait to be sent,
//! and what single devices are owed.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::backoff::{BackOff, Earliest};
use super::group_rows::{PeerRow, of};
use super::log::{self, TextKey};
use super::messages::{self, Progress};
use super::outbox;
use super::transaction::{Open, Place, RowName, Tag};
use crate::address::Address;
use crate::at_rest;
use crate::content::MessageId;
use crate::error::Error;
use crate::reference::Reference;
use crate::store::Table;
use crate::time::UnixTime;

/// The key of a device's row: [`Place::key`].
pub(super) type PlaceKey = [u8; 32];

/// How far a text to a group is. The row goes once it has left for everybody.
#[derive(Serialize, Deserialize)]
struct StateRow {
    group: Tag,
    text: TextKey,
    /// It is to be encrypted for the group.
    is_pending: bool,
    /// Devices that get it apart.
    owed: u32,
    /// Its envelopes for the group that wait.
    outs: Vec<Name>,
    /// Its envelopes for single devices that wait.
    apart: Vec<Name>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Name(#[serde(with = "at_rest::array")] RowName);

/// A text that waits to be encrypted.
#[derive(Serialize, Deserialize)]
pub(super) struct PendingRow {
    pub(super) id: MessageId,
    pub(super) text: TextKey,
    /// The devices that it is for, where it was encrypted before. None: everybody who is in.
    pub(super) only: Option<BTreeSet<PlaceKey>>,
}

/// An envelope for many.
#[derive(Serialize, Deserialize)]
pub(super) struct OutRow {
    pub(super) group: Tag,
    pub(super) message: MessageId,
    pub(super) text: TextKey,
    pub(super) to: Vec<ReceiverRow>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ReceiverRow {
    pub(super) address: Address,
    pub(super) place: PlaceKey,
    pub(super) is_sent: bool,
    attempts: u8,
    pub(super) not_before: Option<UnixTime>,
}

/// A text that is owed to a device, or that an envelope held.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct TextAt {
    pub(super) group: Tag,
    pub(super) id: MessageId,
    pub(super) text: TextKey,
    /// The envelope that could not be opened.
    pub(super) reference: Option<Reference>,
}

const OWED: u8 = 6;
const PENDING: u8 = 7;
const OUT: u8 = 8;
const ENVELOPE: u8 = 9;
const REFERENCE: u8 = 10;
const REFERENCES: u8 = 11;
const STATE: u8 = 16;

/// Texts that one device is owed at most.
const MOST_OWED: u32 = 1_000;

const BACK_OFF: BackOff = BackOff { first: 5, last: 60 * 60 };

impl ReceiverRow {
    pub(super) const fn new(address: Address, place: PlaceKey) -> Self {
        Self { address, place, is_sent: false, attempts: 0, not_before: None }
    }

    pub(super) fn is_due(&self, now: UnixTime) -> bool {
        !self.is_sent && self.not_before.is_none_or(|time| BACK_OFF.is_due(time, now))
    }

    pub(super) fn failed(&mut self, now: UnixTime) {
        self.not_before = Some(BACK_OFF.failed(&mut self.attempts, now));
    }

    const fn hurry(&mut self) {
        (self.attempts, self.not_before) = (0, None);
    }
}

impl StateRow {
    fn progress(&self) -> Progress {
        if self.is_pending || self.owed > 0 {
            Progress::Waiting
        } else if self.outs.is_empty() && self.apart.is_empty() {
            Progress::Sent
        } else {
            Progress::Queued
        }
    }
}

// ---- How far a text is.

fn state_key(id: MessageId) -> Vec<u8> {
    [&[STATE][..], id.as_bytes()].concat()
}

fn state(open: &mut Open<'_>, id: MessageId) -> Result<Option<StateRow>, Error> {
    open.get_as(Table::Group, &state_key(id))
}

/// Writes how far a text is. True where it has left for everybody.
fn put_state(open: &mut Open<'_>, id: MessageId, row: &StateRow) -> Result<bool, Error> {
    if row.progress() == Progress::Sent {
        return open.delete(Table::Group, &state_key(id)).map(|()| true);
    }
    let names = row.outs.len().saturating_add(row.apart.len()).saturating_mul(24);
    open.put_as(Table::Group, &state_key(id), row, names.saturating_add(128)).map(|()| false)
}

/// Changes how far a text is. True where that was the last of it.
fn change(
    open: &mut Open<'_>,
    id: MessageId,
    change: impl FnOnce(&mut StateRow),
) -> Result<bool, Error> {
    let Some(mut row) = state(open, id)? else { return Ok(false) };
    change(&mut row);
    put_state(open, id, &row)
}

/// How far a text is; none where it is no text to a group that is on its way.
pub(super) fn progress(open: &mut Open<'_>, id: MessageId) -> Result<Option<Progress>, Error> {
    Ok(state(open, id)?.map(|row| row.progress()))
}

/// Takes back what has not left of a text: false where nothing of it is here.
pub(super) fn withdraw(open: &mut Open<'_>, id: MessageId) -> Result<bool, Error> {
    let Some(row) = state(open, id)? else { return Ok(false) };
    for Name(name) in &row.apart {
        outbox::remove(open, name)?;
    }
    for Name(name) in &row.outs {
        delete_out(open, name)?;
    }
    delete_pending(open, row.group, &row.text)?;
    log::remove(open, &row.text)?;
    open.delete(Table::Group, &state_key(id))?;
    Ok(true)
}

/// The envelope of a text for a single device has left. True where that was the last of it.
pub(super) fn left(open: &mut Open<'_>, id: MessageId, name: &RowName) -> Result<bool, Error> {
    change(open, id, |row| row.apart.retain(|one| one.0 != *name))
}

/// Whether a text waits to be encrypted.
pub(super) fn is_pending(open: &mut Open<'_>, id: MessageId) -> Result<bool, Error> {
    Ok(state(open, id)?.is_some_and(|row| row.is_pending || row.owed > 0))
}

// ---- Texts that wait to be encrypted.

/// A text waits to be encrypted for the first time.
pub(super) fn begin(
    open: &mut Open<'_>,
    group: Tag,
    text: TextKey,
    id: MessageId,
) -> Result<(), Error> {
    let (outs, apart) = (Vec::new(), Vec::new());
    messages::delete(open, id)?;
    put_state(open, id, &StateRow { group, text, is_pending: true, owed: 0, outs, apart })?;
    put_pending(open, group, &PendingRow { id, text, only: None })
}

fn put_pending(open: &mut Open<'_>, group: Tag, row: &PendingRow) -> Result<(), Error> {
    let only = row.only.as_ref().map_or(0, BTreeSet::len).saturating_mul(32);
    let key = of(PENDING, group, &row.text.order());
    open.put_as(Table::Group, &key, row, only.saturating_add(96))
}

/// The texts that wait, the oldest first.
pub(super) fn pending(
    open: &mut Open<'_>,
    group: Tag,
    most: usize,
) -> Result<Vec<PendingRow>, Error> {
    let rows = open.scan(Table::Group, &of(PENDING, group, &[]), most)?;
    rows.iter().map(|(_, row)| at_rest::state::decode(1, row)).collect()
}

fn delete_pending(open: &mut Open<'_>, group: Tag, text: &TextKey) -> Result<(), Error> {
    open.delete(Table::Group, &of(PENDING, group, &text.order()))
}

/// A text was encrypted, and its envelope waits in this row, if anybody gets it; or the text is
/// gone.
pub(super) fn sealed(
    open: &mut Open<'_>,
    group: Tag,
    row: &PendingRow,
    out: Option<RowName>,
) -> Result<(), Error> {
    delete_pending(open, group, &row.text)?;
    change(open, row.id, |state| {
        state.is_pending = false;
        state.outs.extend(out.map(Name));
    })?;
    Ok(())
}

/// This account is out of a group: what waits to be encrypted is not.
pub(super) fn drop_pending(open: &mut Open<'_>, group: Tag) -> Result<(), Error> {
    for row in pending(open, group, usize::MAX)? {
        sealed(open, group, &row, None)?;
    }
    Ok(())
}

/// Somebody holds the chain who may not have keys any more: envelopes that wait are not sent. Their
/// texts are encrypted anew for those who have not got them.
pub(super) fn again(open: &mut Open<'_>, group: Tag) -> Result<(), Error> {
    for (name, out) in outs(open)? {
        if out.group != group {
            continue;
        }
        let OutRow { message: id, text, to, .. } = out;
        let left = to.iter().filter(|one| !one.is_sent).map(|one| one.place);
        let mut only: BTreeSet<PlaceKey> = left.collect();
        let waits: Option<PendingRow> =
            open.get_as(Table::Group, &of(PENDING, group, &text.order()))?;
        only.extend(waits.and_then(|waits| waits.only).into_iter().flatten());
        let only = Some(only);
        delete_out(open, &name)?;
        put_pending(open, group, &PendingRow { id, text, only })?;
        change(open, id, |row| {
            row.is_pending = true;
            row.outs.retain(|one| one.0 != name);
        })?;
    }
    Ok(())
}

// ---- Texts that single devices are owed.

fn owed_key(place: Place, text: &TextAt) -> Vec<u8> {
    of(OWED, text.group, &[&place.key()[..], &text.text.order()].concat())
}

/// A device gets a text apart. The caller writes the peer's row.
pub(super) fn owe(
    open: &mut Open<'_>,
    place: Place,
    peer: &mut PeerRow,
    text: TextAt,
) -> Result<(), Error> {
    let key = owed_key(place, &text);
    if peer.owed >= MOST_OWED || open.get(Table::Group, &key)?.is_some() {
        return Ok(());
    }
    peer.owed = peer.owed.saturating_add(1);
    open.put_as(Table::Group, &key, &text, 136)?;
    if text.reference.is_none() {
        change(open, text.id, |row| row.owed = row.owed.saturating_add(1))?;
    }
    Ok(())
}

/// What a device is owed, the oldest first.
pub(super) fn owed(
    open: &mut Open<'_>,
    group: Tag,
    place: Place,
    most: usize,
) -> Result<Vec<TextAt>, Error> {
    let rows = open.scan(Table::Group, &of(OWED, group, &place.key()), most)?;
    rows.iter().map(|(_, row)| at_rest::state::decode(1, row)).collect()
}

/// A device gets a text in this row of the outbox, or will never. The caller writes the peer's row.
pub(super) fn paid(
    open: &mut Open<'_>,
    place: Place,
    peer: &mut PeerRow,
    text: &TextAt,
    envelope: Option<RowName>,
) -> Result<(), Error> {
    peer.owed = peer.owed.saturating_sub(1);
    open.delete(Table::Group, &owed_key(place, text))?;
    if text.reference.is_none() {
        change(open, text.id, |row| {
            row.owed = row.owed.saturating_sub(1);
            row.apart.extend(envelope.map(Name));
        })?;
    }
    Ok(())
}

/// A device that is out is owed nothing any more. The caller writes its row.
pub(super) fn owe_nothing(
    open: &mut Open<'_>,
    group: Tag,
    place: Place,
    peer: &mut PeerRow,
) -> Result<(), Error> {
    for text in owed(open, group, place, usize::MAX)? {
        paid(open, place, peer, &text, None)?;
    }
    peer.owed = 0;
    Ok(())
}

// ---- Which text an envelope held.

fn reference_key(reference: &[u8; 16]) -> Vec<u8> {
    [&[REFERENCE][..], reference].concat()
}

/// Notes which text an envelope holds, the last of each group. True where there are no more than
/// before.
pub(super) fn refer(
    open: &mut Open<'_>,
    text: TextAt,
    reference: &[u8; 16],
    is_full: bool,
) -> Result<(), Error> {
    let order = [&text.text.order()[..], reference].concat();
    open.put(Table::Group, &of(REFERENCES, text.group, &order), &[])?;
    open.put_as(Table::Group, &reference_key(reference), &text, 136)?;
    if is_full {
        for (key, _) in open.scan(Table::Group, &of(REFERENCES, text.group, &[]), 1)? {
            open.delete(Table::Group, &[&[REFERENCE][..], last_16(&key)].concat())?;
            open.delete(Table::Group, &key)?;
        }
    }
    Ok(())
}

fn last_16(key: &[u8]) -> &[u8] {
    key.last_chunk::<16>().map_or(&[], |reference| reference)
}

/// The text that an envelope held.
pub(super) fn referred(open: &mut Open<'_>, reference: Reference) -> Result<Option<TextAt>, Error> {
    open.get_as(Table::Group, &reference_key(&reference.0))
}

/// The last texts of a group that were encrypted after the one of a number.
pub(super) fn since(open: &mut Open<'_>, group: Tag, number: u64) -> Result<Vec<TextAt>, Error> {
    let mut texts = Vec::new();
    for (key, _) in open.scan(Table::Group, &of(REFERENCES, group, &[]), usize::MAX)? {
        let key = [&[REFERENCE][..], last_16(&key)].concat();
        let text = open.get_as::<TextAt>(Table::Group, &key)?;
        texts.extend(text.filter(|text| text.text.number() > number));
    }
    Ok(texts)
}

/// Forgets what was written to a group. What waits to be sent is sent.
pub(super) fn forget(open: &mut Open<'_>, group: Tag) -> Result<(), Error> {
    drop_pending(open, group)?;
    for (key, _) in open.scan(Table::Group, &of(REFERENCES, group, &[]), usize::MAX)? {
        open.delete(Table::Group, &[&[REFERENCE][..], last_16(&key)].concat())?;
    }
    for kind in [OWED, REFERENCES] {
        open.delete_all(Table::Group, &of(kind, group, &[]))?;
    }
    Ok(())
}

// ---- Envelopes that wait.

fn out_key(name: &RowName) -> Vec<u8> {
    [&[OUT][..], name].concat()
}

fn envelope_key(name: &RowName) -> Vec<u8> {
    [&[ENVELOPE][..], name].concat()
}

pub(super) fn set_out(
    open: &mut Open<'_>,
    name: &RowName,
    row: &OutRow,
    envelope: &[u8],
) -> Result<(), Error> {
    open.put(Table::Group, &envelope_key(name), envelope)?;
    put_out(open, name, row).map(drop)
}

pub(super) fn out(open: &mut Open<'_>, name: &RowName) -> Result<Option<OutRow>, Error> {
    open.get_as(Table::Group, &out_key(name))
}

/// Writes who has an envelope; removes it where all have. True where that was the last of its text.
pub(super) fn put_out(open: &mut Open<'_>, name: &RowName, row: &OutRow) -> Result<bool, Error> {
    if row.to.iter().all(|receiver| receiver.is_sent) {
        delete_out(open, name)?;
        return change(open, row.message, |state| state.outs.retain(|one| one.0 != *name));
    }
    let capacity = row
        .to
        .iter()
        .fold(128_usize, |sum, one| sum.saturating_add(one.address.user.len()).saturating_add(72));
    open.put_as(Table::Group, &out_key(name), row, capacity)?;
    Ok(false)
}

fn delete_out(open: &mut Open<'_>, name: &RowName) -> Result<(), Error> {
    open.delete(Table::Group, &envelope_key(name))?;
    open.delete(Table::Group, &out_key(name))
}

/// All envelopes that wait, the oldest first.
pub(super) fn outs(open: &mut Open<'_>) -> Result<Vec<(RowName, OutRow)>, Error> {
    let rows = open.peek(Table::Group, &[OUT], usize::MAX)?;
    let name = |key: &[u8]| key.get(1..).and_then(|name| name.try_into().ok());
    rows.iter()
        .map(|(key, row)| Ok((name(key).ok_or(Error::BadState)?, at_rest::state::decode(1, row)?)))
        .collect()
}

pub(super) fn envelope(open: &mut Open<'_>, name: &RowName) -> Result<Option<Vec<u8>>, Error> {
    let row = open.get(Table::Group, &envelope_key(name))?;
    Ok(row.map(|row| row.to_vec()))
}

/// When what waits may be sent to its receivers.
pub(super) fn next_due(open: &mut Open<'_>, next: &mut Earliest) -> Result<(), Error> {
    for (_, row) in outs(open)? {
        let waiting = row.to.iter().filter(|receiver| !receiver.is_sent);
        waiting.filter_map(|receiver| receiver.not_before).for_each(|time| next.take(time));
    }
    Ok(())
}

/// Everything may be sent at once now.
pub(super) fn hurry_all(open: &mut Open<'_>) -> Result<(), Error> {
    for (name, mut row) in outs(open)? {
        row.to.iter_mut().for_each(ReceiverRow::hurry);
        put_out(open, &name, &row)?;
    }
    Ok(())
}
