//! What was sent lately, in case a device cannot open it.
//!
//! A text is one row, whatever the number of its receivers: it goes by age, by number and by bytes,
//! for each user apart. Each device that it was encrypted for has a small row that leads there, by
//! the number in the envelope's reference: a device without such a row is never sent the text.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::timers;
use super::transaction::{Open, Place, Tag};
use crate::at_rest;
use crate::content::attachment::Files;
use crate::content::{Body, MessageId, Written};
use crate::error::Error;
use crate::sesame::DeviceRecord;
use crate::store::Table;
use crate::time::UnixTime;

/// The key of a text: `tag:16 || 0 || time:u64 || number:u64 || id:8`. `number` counts the texts to
/// the user, so that those of one second stay in the order in which they were written; `id` is the
/// beginning of the text's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TextKey(#[serde(with = "at_rest::array")] [u8; 41]);

/// A text that was written.
#[derive(Serialize, Deserialize)]
pub(super) struct TextRow {
    pub(super) id: MessageId,
    /// The user. Empty where it is to a group, whose tag is in the key.
    pub(super) to: String,
    /// Seconds after which it goes, whether it has left or not.
    pub(super) keep: Option<u64>,
    #[serde(with = "at_rest::run")]
    pub(super) text: Zeroizing<Vec<u8>>,
    /// [`Files`], as they travel.
    #[serde(with = "at_rest::run")]
    pub(super) files: Zeroizing<Vec<u8>>,
}

impl TextRow {
    /// What a device of a user is sent: the text, or a copy of it for the account's own.
    pub(super) fn body(&self, of_user: &str) -> Body<'_> {
        let files = Files::of(&self.files);
        let written = Written { id: self.id, text: &self.text, files };
        if self.to == of_user { Body::Text(written) } else { Body::Copy { to: &self.to, written } }
    }

    /// Bytes that count: of the text, and of what opens its files.
    pub(super) fn length(&self) -> usize {
        self.text.len().saturating_add(self.files.len())
    }
}

/// What leads from the number of an envelope to its text.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct Pointer {
    pub(super) at: UnixTime,
    pub(super) text: TextKey,
    /// How often it may still be sent again to this device.
    left: u8,
    /// Where it was sent again: the number of the envelope that it was in first, which counts that.
    first: Option<u64>,
    /// Whether the app was told that the device cannot have it.
    told: bool,
}

/// What a user's texts come to.
#[derive(Default, Serialize, Deserialize)]
struct Totals {
    texts: u64,
    bytes: u64,
    /// Texts that were ever written to the user.
    written: u64,
}

const TEXT: u8 = 0;
const POINTER: u8 = 1;
const TOTALS: u8 = 2;

/// A text is sent to a device again at most this often.
const RESENDS: u8 = 16;

impl Pointer {
    /// To a text that was just encrypted for the first time.
    pub(super) const fn new(text: TextKey, now: UnixTime) -> Self {
        Self { at: now, text, left: RESENDS, first: None, told: false }
    }

    /// To the same text in an envelope that stands for the one of this number.
    pub(super) fn of_resent(self, number: u64, now: UnixTime) -> Self {
        Self { at: now, first: self.first.or(Some(number)), ..self }
    }
}

impl TextKey {
    fn new(tag: Tag, at: UnixTime, number: u64, id: MessageId) -> Self {
        let mut key = [TEXT; 41];
        key[..16].copy_from_slice(&tag.0);
        key[17..25].copy_from_slice(&at.as_secs().to_be_bytes());
        key[25..33].copy_from_slice(&number.to_be_bytes());
        key[33..].copy_from_slice(&id.as_bytes()[..8]);
        Self(key)
    }

    /// Its time and number: those of a user's texts sort in the order in which they were written.
    pub(super) fn order(&self) -> [u8; 16] {
        self.0[17..].first_chunk().copied().unwrap_or_default()
    }

    /// Which of the user's texts it is, from 1.
    pub(super) fn number(&self) -> u64 {
        let [.., a, b, c, d, e, f, g, h] = self.order();
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// When it was written, in seconds.
    fn at(&self) -> u64 {
        self.order().first_chunk().map_or(0, |at| u64::from_be_bytes(*at))
    }

    /// Whether it was written no earlier than another one, which may be to somebody else.
    pub(super) fn is_since(&self, other: &Self) -> bool {
        self.tag() == other.tag() && self.number() >= other.number() || self.at() >= other.at()
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    pub(super) const fn as_bytes(&self) -> &[u8; 41] {
        &self.0
    }

    pub(super) fn tag(&self) -> Tag {
        self.0.first_chunk().map_or(Tag([0; 16]), |tag| Tag(*tag))
    }
}

/// Adds a text, and makes room for it.
pub(super) fn add(
    open: &mut Open<'_>,
    tag: Tag,
    row: &TextRow,
    now: UnixTime,
) -> Result<TextKey, Error> {
    let mut totals = totals(open, tag)?;
    totals.written = totals.written.saturating_add(1);
    let key = TextKey::new(tag, now, totals.written, row.id);
    let length = row.length();
    open.put_as(Table::Log, &key.0, row, length.saturating_add(320))?;
    timers::set_text(
        open,
        now.after(row.keep.unwrap_or(u64::MAX).min(open.policy.log_age)),
        &key.0,
    )?;
    totals.texts = totals.texts.saturating_add(1);
    totals.bytes = totals.bytes.saturating_add(as_u64(length));
    trim(open, tag, &mut totals)?;
    put_totals(open, tag, &totals)?;
    Ok(key)
}

/// How many texts were ever written under a tag.
pub(super) fn written(open: &mut Open<'_>, tag: Tag) -> Result<u64, Error> {
    Ok(totals(open, tag)?.written)
}

/// Removes the oldest texts above the limits.
fn trim(open: &mut Open<'_>, tag: Tag, totals: &mut Totals) -> Result<(), Error> {
    while totals.texts > open.policy.log_messages.max(1) || totals.bytes > open.policy.log_bytes {
        let oldest = open.scan(Table::Log, &prefix(tag, TEXT), 1)?;
        let Some((key, row)) = oldest.into_iter().next() else {
            (totals.texts, totals.bytes) = (0, 0);
            break;
        };
        if totals.texts <= 1 {
            // The one that was just added stays: it is being sent.
            break;
        }
        let text: TextRow = at_rest::state::decode(1, &row)?;
        totals.texts = totals.texts.saturating_sub(1);
        totals.bytes = totals.bytes.saturating_sub(as_u64(text.length()));
        open.delete(Table::Log, &key)?;
    }
    Ok(())
}

pub(super) fn text(open: &mut Open<'_>, key: &TextKey) -> Result<Option<TextRow>, Error> {
    open.get_as(Table::Log, &key.0)
}

/// Deletes a text: it is withdrawn, or its time is over.
pub(super) fn remove(open: &mut Open<'_>, key: &TextKey) -> Result<(), Error> {
    let Some(row) = text(open, key)? else { return Ok(()) };
    let tag = key.tag();
    let mut totals = totals(open, tag)?;
    totals.texts = totals.texts.saturating_sub(1);
    totals.bytes = totals.bytes.saturating_sub(as_u64(row.length()));
    put_totals(open, tag, &totals)?;
    open.delete(Table::Log, &key.0)
}

/// Notes that the envelope of a number holds a text, and forgets the oldest such note of the
/// device. The caller writes the record.
pub(super) fn point(
    open: &mut Open<'_>,
    place: Place,
    record: &mut DeviceRecord,
    (number, pointer): (u64, Pointer),
) -> Result<(), Error> {
    put_pointer(open, place, number, &pointer)?;
    record.logged = record.logged.saturating_add(1);
    if u64::from(record.logged) > open.policy.log_messages.max(1) {
        let oldest = open.scan(Table::Log, &pointers(place), 1)?;
        for (key, _) in oldest {
            open.delete(Table::Log, &key)?;
        }
        record.logged = record.logged.saturating_sub(1);
    }
    Ok(())
}

pub(super) fn pointer(
    open: &mut Open<'_>,
    place: Place,
    number: u64,
) -> Result<Option<Pointer>, Error> {
    open.get_as(Table::Log, &pointer_key(place, number))
}

/// Counts that a text is sent to a device again. False where it was too often.
pub(super) fn take_resend(
    open: &mut Open<'_>,
    place: Place,
    number: u64,
    pointer: &Pointer,
) -> Result<bool, Error> {
    let (number, mut counted) = counted(open, place, number, pointer)?;
    let Some(left) = counted.left.checked_sub(1) else { return Ok(false) };
    counted.left = left;
    put_pointer(open, place, number, &counted).map(|()| true)
}

/// Notes that the app is told that a device cannot have a text. False where it was told before.
pub(super) fn take_telling(
    open: &mut Open<'_>,
    place: Place,
    number: u64,
    pointer: &Pointer,
) -> Result<bool, Error> {
    let (number, mut counted) = counted(open, place, number, pointer)?;
    if core::mem::replace(&mut counted.told, true) {
        return Ok(false);
    }
    put_pointer(open, place, number, &counted).map(|()| true)
}

/// The pointer that counts for a text: that of the envelope that it was in first, while it is kept.
fn counted(
    open: &mut Open<'_>,
    place: Place,
    number: u64,
    pointer: &Pointer,
) -> Result<(u64, Pointer), Error> {
    if let Some(first) = pointer.first
        && let Some(row) = self::pointer(open, place, first)?
    {
        return Ok((first, row));
    }
    Ok((number, *pointer))
}

fn put_pointer(
    open: &mut Open<'_>,
    place: Place,
    number: u64,
    pointer: &Pointer,
) -> Result<(), Error> {
    open.put_as(Table::Log, &pointer_key(place, number), pointer, 64)
}

/// Forgets what was written to a user.
pub(super) fn forget(open: &mut Open<'_>, tag: Tag) -> Result<(), Error> {
    open.delete_all(Table::Log, &tag.0)
}

/// Forgets which texts a device may have again.
pub(super) fn forget_device(open: &mut Open<'_>, place: Place) -> Result<(), Error> {
    open.delete_all(Table::Log, &pointers(place))
}

/// Applies lowered limits to every text at once.
pub(super) fn apply_policy(open: &mut Open<'_>, now: UnixTime) -> Result<(), Error> {
    for (key, _) in open.scan(Table::User, &[], usize::MAX)? {
        let tag = key.as_slice().try_into().map(Tag).map_err(|_| Error::BadState)?;
        apply_to(open, tag, now)?;
    }
    Ok(())
}

/// Applies lowered limits to the texts of a user or group.
pub(super) fn apply_to(open: &mut Open<'_>, tag: Tag, now: UnixTime) -> Result<(), Error> {
    loop {
        let oldest = open.scan(Table::Log, &prefix(tag, TEXT), 1)?;
        let Some(key) = oldest.first().and_then(|(key, _)| TextKey::read(key)) else { break };
        if now.as_secs().saturating_sub(key.at()) <= open.policy.log_age {
            break;
        }
        remove(open, &key)?;
    }
    let mut totals = totals(open, tag)?;
    trim(open, tag, &mut totals)?;
    put_totals(open, tag, &totals)
}

fn prefix(tag: Tag, kind: u8) -> [u8; 17] {
    let mut key = [kind; 17];
    key[..16].copy_from_slice(&tag.0);
    key
}

fn pointers(place: Place) -> Vec<u8> {
    [&prefix(place.tag, POINTER)[..], &place.device].concat()
}

fn pointer_key(place: Place, number: u64) -> Vec<u8> {
    [&pointers(place)[..], &number.to_be_bytes()].concat()
}

/// The row of what a user's texts come to.
pub(super) fn totals_stored_in(tag: Tag) -> (Table, [u8; 17]) {
    (Table::Log, prefix(tag, TOTALS))
}

/// Whether this device ever wrote to a user.
pub(super) fn has_written(open: &mut Open<'_>, tag: Tag) -> Result<bool, Error> {
    Ok(totals(open, tag)?.written > 0)
}

fn totals(open: &mut Open<'_>, tag: Tag) -> Result<Totals, Error> {
    Ok(open.get_as(Table::Log, &prefix(tag, TOTALS))?.unwrap_or_default())
}

fn put_totals(open: &mut Open<'_>, tag: Tag, totals: &Totals) -> Result<(), Error> {
    open.put_as(Table::Log, &prefix(tag, TOTALS), totals, 34)
}

fn as_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
