//! Texts to groups on their way: how far they are, those that wait to be encrypted, and what single
//! devices are owed.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use super::events::Event;
use super::group_outs::{self, OutRow, PlaceKey};
use super::group_rows::{self, PeerRow, of};
use super::inbox;
use super::log::{self, TextKey};
use super::messages::{self, Progress};
use super::outbox::{self, WaitingFor};
use super::transaction::{Open, Place, RowName, Tag};
use crate::address::Address;
use crate::at_rest;
use crate::content::MessageId;
use crate::error::Error;
use crate::reference::Reference;
use crate::store::Table;
use crate::time::UnixTime;

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
    /// Its envelopes for single devices that wait, a row each.
    apart: u32,
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
const REFERENCE: u8 = 10;
const REFERENCES: u8 = 11;
const STATE: u8 = 16;
const APART: u8 = 20;

/// Texts that one device is owed at most.
const MOST_OWED: u32 = 1_000;

impl StateRow {
    fn progress(&self) -> Progress {
        if self.is_pending || self.owed > 0 {
            Progress::Waiting
        } else if self.outs.is_empty() && self.apart == 0 {
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
    let names = row.outs.len().saturating_mul(24);
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
    let Some(row) = state(open, id)? else { return withdraw_from_absent(open, id) };
    let prefix = [&[APART][..], id.as_bytes()].concat();
    for (key, _) in open.scan(Table::Group, &prefix, usize::MAX)? {
        let name = key.last_chunk().ok_or(Error::BadState)?;
        outbox::remove(open, name)?;
        open.delete(Table::Group, &key)?;
    }
    for Name(name) in &row.outs {
        group_outs::remove(open, name)?;
    }
    messages::withhold_resent(open, &row.text)?;
    delete_pending(open, row.group, &row.text)?;
    log::remove(open, &row.text)?;
    open.delete(Table::Group, &state_key(id))?;
    Ok(true)
}

/// Takes back a text that has left for all devices that are known, and that members are still to
/// get whose devices are not.
fn withdraw_from_absent(open: &mut Open<'_>, id: MessageId) -> Result<bool, Error> {
    for (group, row) in group_rows::all(open)? {
        let Some(first) = row.absent.iter().map(|(_, since)| *since).min() else { continue };
        let texts = since(open, group, first)?;
        if let Some(TextAt { text, .. }) = texts.into_iter().find(|text| text.id == id)
            && log::text(open, &text)?.is_some()
        {
            log::remove(open, &text)?;
            return Ok(true);
        }
    }
    Ok(false)
}

fn apart_key(id: MessageId, name: &RowName) -> Vec<u8> {
    [&[APART][..], id.as_bytes(), name].concat()
}

/// The envelope of a text for a single device has left. True where that was the last of it.
pub(super) fn left(open: &mut Open<'_>, id: MessageId, name: &RowName) -> Result<bool, Error> {
    let key = apart_key(id, name);
    if open.get(Table::Group, &key)?.is_none() {
        return Ok(false);
    }
    open.delete(Table::Group, &key)?;
    change(open, id, |row| row.apart = row.apart.saturating_sub(1))
}

/// An envelope of a text for the group has left for all. True where that was the last of it.
pub(super) fn left_for_all(
    open: &mut Open<'_>,
    id: MessageId,
    name: &RowName,
) -> Result<bool, Error> {
    change(open, id, |row| row.outs.retain(|one| one.0 != *name))
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
    let (outs, apart) = (Vec::new(), 0);
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
    again_where(open, group, |_, _| Ok(true))
}

/// A new chain begins: the same, but what is too old for the log leaves as it is.
pub(super) fn again_from_log(open: &mut Open<'_>, group: Tag) -> Result<(), Error> {
    again_where(open, group, |open, text| Ok(log::text(open, text)?.is_some()))
}

fn again_where(
    open: &mut Open<'_>,
    group: Tag,
    is_to_be: impl Fn(&mut Open<'_>, &TextKey) -> Result<bool, Error>,
) -> Result<(), Error> {
    for (name, out) in group_outs::all(open)? {
        if out.group != group || !is_to_be(open, &out.text)? {
            continue;
        }
        let OutRow { message: id, text, .. } = out;
        let mut only = group_outs::left(open, &name)?;
        let waits: Option<PendingRow> =
            open.get_as(Table::Group, &of(PENDING, group, &text.order()))?;
        only.extend(waits.and_then(|waits| waits.only).into_iter().flatten());
        let only = Some(only);
        group_outs::remove(open, &name)?;
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

/// A device gets a text apart: false where it is owed as many as it may be. The caller writes the
/// peer's row.
pub(super) fn owe(
    open: &mut Open<'_>,
    place: Place,
    peer: &mut PeerRow,
    text: TextAt,
) -> Result<bool, Error> {
    let key = owed_key(place, &text);
    if open.get(Table::Group, &key)?.is_some() {
        return Ok(true);
    }
    if peer.owed >= MOST_OWED {
        return Ok(false);
    }
    peer.owed = peer.owed.saturating_add(1);
    open.put_as(Table::Group, &key, &text, 136)?;
    if text.reference.is_none() {
        change(open, text.id, |row| row.owed = row.owed.saturating_add(1))?;
    }
    Ok(true)
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

/// As [`owe`]. Where it is one too many, the person is told.
pub(super) fn owe_or_tell(
    open: &mut Open<'_>,
    place: Place,
    peer: &mut PeerRow,
    text: TextAt,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let id = text.id;
    if owe(open, place, peer, text)? {
        return Ok(());
    }
    tell_lost(open, id, &peer.address, now, rng)
}

/// The time of a text was over before a device could have it, or it is one too many: the person is
/// told, unless the text was taken back.
pub(super) fn tell_lost(
    open: &mut Open<'_>,
    message: MessageId,
    of: &Address,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    if state(open, message)?.is_none() {
        return Ok(());
    }
    let (to, device) = (of.user.clone(), Some(of.device));
    inbox::tell(open, Event::Undelivered { message, to, device }, now, rng)
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
        let is_apart = envelope.is_some();
        change(open, text.id, |row| {
            row.owed = row.owed.saturating_sub(1);
            row.apart = row.apart.saturating_add(u32::from(is_apart));
        })?;
        if let Some(name) = envelope {
            open.put(Table::Group, &apart_key(text.id, &name), &[])?;
        }
    }
    Ok(())
}

/// The envelope of a text for a single device does not leave as it is: the device is owed the text
/// again. False where nobody knows any more which text it is, or the device is owed too many.
pub(super) fn encrypt_again(
    open: &mut Open<'_>,
    id: MessageId,
    name: &RowName,
) -> Result<bool, Error> {
    let mut is_known = false;
    if let Some(waiting) = outbox::waiting(open, name)?
        && let Some((place, pointer)) = messages::pointer(open, &waiting)?
    {
        is_known = true;
        let text = TextAt { group: pointer.text.tag(), id, text: pointer.text, reference: None };
        // One that is out is not to have it.
        let peer = group_rows::peer(open, text.group, place)?.filter(|peer| !peer.is_out);
        if let Some(mut peer) = peer {
            is_known = owe(open, place, &mut peer, text)?;
            // What was to come before it may be gone as well.
            peer.due = true;
            group_rows::put_peer(open, text.group, place, &peer)?;
            group_rows::set_step(open, text.group)?;
        }
    }
    left(open, id, name)?;
    Ok(is_known)
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

/// Devices are no member's any more: texts to the group that wait in envelopes for one of them
/// alone do not leave.
pub(super) fn withhold(
    open: &mut Open<'_>,
    group: Tag,
    from: &BTreeMap<Address, Vec<Place>>,
) -> Result<(), Error> {
    if from.is_empty() {
        return Ok(());
    }
    for waiting in outbox::waiting_for(open, |to| from.contains_key(to))? {
        let WaitingFor { name, to, number, message } = waiting;
        for place in from.get(&to).into_iter().flatten() {
            let pointer = log::pointer(open, *place, number)?;
            if pointer.is_some_and(|pointer| pointer.text.tag() == group) {
                outbox::remove(open, &name)?;
                if let Some(id) = message {
                    left(open, id, &name)?;
                }
            }
        }
    }
    Ok(())
}

/// Whether an envelope for a single device, which waits, holds a text to one of these groups.
pub(super) fn is_of_one(
    open: &mut Open<'_>,
    name: &RowName,
    groups: &BTreeSet<Tag>,
) -> Result<bool, Error> {
    let Some(waiting) = outbox::waiting(open, name)? else { return Ok(false) };
    let Some((_, pointer)) = messages::pointer(open, &waiting)? else { return Ok(false) };
    Ok(groups.contains(&pointer.text.tag()))
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
