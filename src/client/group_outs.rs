//! Envelopes for many that wait, and who of their receivers has them.
//!
//! The receivers are in blocks, so that to note that one has the envelope costs the same in a large
//! group as in a small one. A block goes once all of it have the envelope, and the envelope with
//! the last block.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::backoff::{BackOff, Earliest};
use super::log::TextKey;
use super::transaction::{Open, RowName, Tag};
use crate::address::Address;
use crate::at_rest;
use crate::content::MessageId;
use crate::error::Error;
use crate::store::Table;
use crate::time::UnixTime;

/// The key of a device's row: `Place::key`.
pub(super) type PlaceKey = [u8; 32];

/// An envelope for many.
#[derive(Serialize, Deserialize)]
pub(super) struct OutRow {
    pub(super) group: Tag,
    pub(super) message: MessageId,
    pub(super) text: TextKey,
    /// How many blocks of receivers there were at first.
    blocks: u16,
}

/// One whom it is for.
#[derive(Serialize, Deserialize)]
pub(super) struct ReceiverRow {
    pub(super) address: Address,
    pub(super) place: PlaceKey,
    pub(super) is_sent: bool,
    attempts: u8,
    pub(super) not_before: Option<UnixTime>,
}

/// Some of its receivers.
pub(super) struct Block {
    number: u16,
    pub(super) receivers: Vec<ReceiverRow>,
}

/// `OUT || name`, `ENVELOPE || name`, `RECEIVERS || name || block:u16`.
const OUT: u8 = 8;
const ENVELOPE: u8 = 9;
const RECEIVERS: u8 = 19;

/// Receivers in a block: a row of some 5 KB.
const IN_A_BLOCK: usize = 64;

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

impl Block {
    /// The receivers, each with its number in the whole.
    pub(super) fn numbered(&mut self) -> impl Iterator<Item = (u32, &mut ReceiverRow)> {
        let first = usize::from(self.number).saturating_mul(IN_A_BLOCK);
        let first = u32::try_from(first).unwrap_or(u32::MAX);
        (first..).zip(&mut self.receivers)
    }
}

fn out_key(name: &RowName) -> Vec<u8> {
    [&[OUT][..], name].concat()
}

fn envelope_key(name: &RowName) -> Vec<u8> {
    [&[ENVELOPE][..], name].concat()
}

fn block_key(name: &RowName, number: u16) -> Vec<u8> {
    [&[RECEIVERS][..], name, &number.to_be_bytes()].concat()
}

/// An envelope of a text of a group is to be sent to these receivers.
pub(super) fn add(
    open: &mut Open<'_>,
    name: &RowName,
    (group, message, text): (Tag, MessageId, TextKey),
    envelope: &[u8],
    mut receivers: Vec<ReceiverRow>,
) -> Result<(), Error> {
    open.put(Table::Group, &envelope_key(name), envelope)?;
    let mut blocks = 0_u16;
    while !receivers.is_empty() {
        let rest = receivers.split_off(receivers.len().min(IN_A_BLOCK));
        put(open, name, &Block { number: blocks, receivers })?;
        (receivers, blocks) = (rest, blocks.checked_add(1).ok_or(Error::Exhausted)?);
    }
    let row = OutRow { group, message, text, blocks };
    open.put_as(Table::Group, &out_key(name), &row, 128)
}

/// All envelopes that wait, the oldest first.
pub(super) fn all(open: &mut Open<'_>) -> Result<Vec<(RowName, OutRow)>, Error> {
    let rows = open.peek(Table::Group, &[OUT], usize::MAX)?;
    let name = |key: &[u8]| key.get(1..).and_then(|name| name.try_into().ok());
    rows.iter()
        .map(|(key, row)| Ok((name(key).ok_or(Error::BadState)?, at_rest::state::decode(1, row)?)))
        .collect()
}

pub(super) fn get(open: &mut Open<'_>, name: &RowName) -> Result<Option<OutRow>, Error> {
    open.get_as(Table::Group, &out_key(name))
}

pub(super) fn envelope(open: &mut Open<'_>, name: &RowName) -> Result<Option<Vec<u8>>, Error> {
    let row = open.get(Table::Group, &envelope_key(name))?;
    Ok(row.map(|row| row.to_vec()))
}

/// The blocks in which somebody lacks the envelope.
pub(super) fn blocks(open: &mut Open<'_>, name: &RowName) -> Result<Vec<Block>, Error> {
    let keys = block_keys(open, name)?;
    let rows: Vec<(Table, &[u8])> = keys.iter().map(|key| (Table::Group, &key[..])).collect();
    open.prefetch(&rows)?;
    let mut blocks = Vec::new();
    for (number, key) in (0..).zip(&keys) {
        if let Some(receivers) = open.get_as(Table::Group, key)? {
            blocks.push(Block { number, receivers });
        }
    }
    Ok(blocks)
}

/// The keys of all blocks, those that went among them. Nothing is scanned for: an envelope has
/// another name each time that its operation is run, and no row may be missing by that.
fn block_keys(open: &mut Open<'_>, name: &RowName) -> Result<Vec<Vec<u8>>, Error> {
    let blocks = get(open, name)?.map_or(0, |row| row.blocks);
    Ok((0..blocks).map(|number| block_key(name, number)).collect())
}

/// The block of the receiver of a number, and its place there.
pub(super) fn block_of(
    open: &mut Open<'_>,
    name: &RowName,
    index: u32,
) -> Result<Option<(Block, usize)>, Error> {
    let index = usize::try_from(index).unwrap_or(usize::MAX);
    let (block, at) = (index.checked_div(IN_A_BLOCK), index.checked_rem(IN_A_BLOCK));
    let Some((block, at)) = block.zip(at) else { return Ok(None) };
    let Ok(number) = u16::try_from(block) else { return Ok(None) };
    let receivers = open.get_as(Table::Group, &block_key(name, number))?;
    Ok(receivers.map(|receivers| (Block { number, receivers }, at)))
}

/// Writes a block; it goes where all of it have the envelope. True where it went.
pub(super) fn put(open: &mut Open<'_>, name: &RowName, block: &Block) -> Result<bool, Error> {
    let key = block_key(name, block.number);
    if block.receivers.iter().all(|receiver| receiver.is_sent) {
        return open.delete(Table::Group, &key).map(|()| true);
    }
    let capacity = block
        .receivers
        .iter()
        .fold(16_usize, |sum, one| sum.saturating_add(one.address.user.len()).saturating_add(72));
    open.put_as(Table::Group, &key, &block.receivers, capacity).map(|()| false)
}

/// Removes an envelope that all receivers have. False where one lacks it.
pub(super) fn remove_if_done(open: &mut Open<'_>, name: &RowName) -> Result<bool, Error> {
    let is_done = blocks(open, name)?.is_empty();
    if is_done {
        remove(open, name)?;
    }
    Ok(is_done)
}

pub(super) fn remove(open: &mut Open<'_>, name: &RowName) -> Result<(), Error> {
    for key in block_keys(open, name)? {
        open.delete(Table::Group, &key)?;
    }
    open.delete(Table::Group, &envelope_key(name))?;
    open.delete(Table::Group, &out_key(name))
}

/// The devices that lack an envelope.
pub(super) fn left(open: &mut Open<'_>, name: &RowName) -> Result<BTreeSet<PlaceKey>, Error> {
    let blocks = blocks(open, name)?;
    let receivers = blocks.iter().flat_map(|block| &block.receivers);
    Ok(receivers.filter(|one| !one.is_sent).map(|one| one.place).collect())
}

/// When what waits may be sent to its receivers.
pub(super) fn next_due(open: &mut Open<'_>, next: &mut Earliest) -> Result<(), Error> {
    for (_, row) in open.peek(Table::Group, &[RECEIVERS], usize::MAX)? {
        let receivers: Vec<ReceiverRow> = at_rest::state::decode(1, &row)?;
        let waiting = receivers.iter().filter(|receiver| !receiver.is_sent);
        waiting.filter_map(|receiver| receiver.not_before).for_each(|time| next.take(time));
    }
    Ok(())
}

/// Everything may be sent at once now.
pub(super) fn hurry_all(open: &mut Open<'_>) -> Result<(), Error> {
    for (name, _) in all(open)? {
        for mut block in blocks(open, &name)? {
            block.receivers.iter_mut().for_each(ReceiverRow::hurry);
            put(open, &name, &block)?;
        }
    }
    Ok(())
}
