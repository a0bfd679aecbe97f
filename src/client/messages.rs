//! Texts on their way: for which devices they still have to be encrypted, and which envelopes wait.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::log::{self, Pointer, TextKey};
use super::outbox::{self, WaitingFor};
use super::transaction::{Open, Place, RowName, Tag};
use crate::at_rest;
use crate::content::MessageId;
use crate::error::Error;
use crate::identity::{self, IdentityKey};
use crate::store::Table;

/// A text that has not left for every device. The row goes when it has.
#[derive(Serialize, Deserialize)]
pub(super) struct MessageRow {
    pub(super) to: String,
    pub(super) text: TextKey,
    /// Whether a device may be left that it has to be encrypted for.
    pub(super) is_draft: bool,
    /// The devices that it was encrypted for, or given up for.
    done: Vec<Done>,
    /// Whether it is listed as a draft, by a row of its own.
    #[serde(skip)]
    is_listed: bool,
}

#[derive(Serialize, Deserialize)]
struct Done {
    #[serde(with = "identity::checked")]
    identity: IdentityKey,
    /// The envelope, while it waits in the outbox.
    unsent: Option<Envelope>,
}

#[derive(Serialize, Deserialize)]
struct Envelope(#[serde(with = "at_rest::array")] RowName);

/// How far a text has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Progress {
    /// It waits to be encrypted for a device: for a device list, a bundle, or a person who accepts
    /// a changed account key.
    Waiting,
    /// It is encrypted for every device. The server has not taken every envelope yet.
    Queued,
    /// The server has every envelope; or the text was withdrawn, or is not known here.
    Sent,
}

const MESSAGE: u8 = 0;
const DRAFT: u8 = 1;

impl MessageRow {
    pub(super) const fn new(to: String, text: TextKey) -> Self {
        Self { to, text, is_draft: true, done: Vec::new(), is_listed: false }
    }

    pub(super) fn is_done(&self, identity: &IdentityKey) -> bool {
        self.done.iter().any(|done| done.identity == *identity)
    }

    /// Encrypted for a device, in this row of the outbox; or given up for it.
    pub(super) fn did(&mut self, identity: IdentityKey, envelope: Option<RowName>) {
        self.done.push(Done { identity, unsent: envelope.map(Envelope) });
    }

    /// Forgets the devices that are none of the receivers any more: a user may have ever new ones.
    pub(super) fn keep(&mut self, is_kept: impl Fn(&IdentityKey) -> bool) {
        self.done.retain(|done| done.unsent.is_some() || is_kept(&done.identity));
    }

    fn progress(&self) -> Progress {
        match (self.is_draft, self.done.iter().any(|done| done.unsent.is_some())) {
            (true, _) => Progress::Waiting,
            (false, true) => Progress::Queued,
            (false, false) => Progress::Sent,
        }
    }
}

fn key(id: MessageId) -> [u8; 17] {
    let mut key = [MESSAGE; 17];
    key[1..].copy_from_slice(id.as_bytes());
    key
}

/// `1 || tag:16 || time:u64 || number:u64 || id:16`
fn draft_key(tag: Tag, text: &TextKey, id: MessageId) -> [u8; 49] {
    let mut key = [DRAFT; 49];
    key[1..17].copy_from_slice(&tag.0);
    key[17..33].copy_from_slice(&text.order());
    key[33..].copy_from_slice(id.as_bytes());
    key
}

/// The row of a text on its way.
pub(super) fn stored_in(id: MessageId) -> (Table, [u8; 17]) {
    (Table::Draft, key(id))
}

/// A new text is none to a user: so that nobody has to look for its row.
pub(super) fn delete(open: &mut Open<'_>, id: MessageId) -> Result<(), Error> {
    open.delete(Table::Draft, &key(id))
}

pub(super) fn get(open: &mut Open<'_>, id: MessageId) -> Result<Option<MessageRow>, Error> {
    let row: Option<MessageRow> = open.get_as(Table::Draft, &key(id))?;
    Ok(row.map(|row| MessageRow { is_listed: row.is_draft, ..row }))
}

/// Adds a text, or writes what became of one that was read; removes it where everything was sent.
///
/// Nothing is read, so that no read is of a row that this operation named: run again over an
/// [`Overlay`](crate::store::Overlay), it would draw another name.
#[expect(clippy::needless_pass_by_value, reason = "the row that was read is not the row any more")]
pub(super) fn put(
    open: &mut Open<'_>,
    tag: Tag,
    id: MessageId,
    row: MessageRow,
) -> Result<(), Error> {
    let draft = draft_key(tag, &row.text, id);
    match (row.is_listed, row.is_draft) {
        (false, true) => open.put(Table::Draft, &draft, &[])?,
        (true, false) => open.delete(Table::Draft, &draft)?,
        _ => {}
    }
    if row.progress() == Progress::Sent {
        return open.delete(Table::Draft, &key(id));
    }
    let capacity = row.done.len().saturating_mul(60).saturating_add(400);
    open.put_as(Table::Draft, &key(id), &row, capacity)
}

/// Drafts to a user, or to anyone, the oldest first within a user.
pub(super) fn drafts(
    open: &mut Open<'_>,
    to: Option<Tag>,
    most: usize,
) -> Result<Vec<(Tag, MessageId)>, Error> {
    let prefix = to.map_or_else(|| Vec::from([DRAFT]), |tag| [&[DRAFT][..], &tag.0].concat());
    let rows = open.scan(Table::Draft, &prefix, most)?;
    let read = |key: &[u8]| {
        let tag = key.get(1..17)?.first_chunk()?;
        let id = key.get(33..)?.first_chunk()?;
        Some((Tag(*tag), MessageId::new(*id)))
    };
    rows.iter().map(|(key, _)| read(key).ok_or(Error::BadState)).collect()
}

pub(super) fn progress(open: &mut Open<'_>, id: MessageId) -> Result<Progress, Error> {
    Ok(get(open, id)?.map_or(Progress::Sent, |row| row.progress()))
}

/// An envelope has left, or never will. Says whether that was the last of its text.
pub(super) fn left(open: &mut Open<'_>, id: MessageId, envelope: &RowName) -> Result<bool, Error> {
    let Some(mut row) = get(open, id)? else { return Ok(false) };
    let tag = open.tag(&row.to)?;
    for done in &mut row.done {
        done.unsent.take_if(|unsent| unsent.0 == *envelope);
    }
    let is_last = row.progress() == Progress::Sent;
    put(open, tag, id, row)?;
    Ok(is_last)
}

/// Takes back what has not left: the envelopes, the draft and the text. False where everything had.
pub(super) fn withdraw(open: &mut Open<'_>, tag: Tag, id: MessageId) -> Result<bool, Error> {
    let Some(mut row) = get(open, id)? else { return Ok(false) };
    for envelope in row.done.iter_mut().filter_map(|done| done.unsent.take()) {
        outbox::remove(open, &envelope.0)?;
    }
    row.is_draft = false;
    log::remove(open, &row.text)?;
    put(open, tag, id, row)?;
    Ok(true)
}

/// A person takes a text back: the envelopes that send it again do not leave either.
pub(super) fn withhold_resent(open: &mut Open<'_>, text: &TextKey) -> Result<(), Error> {
    for waiting in outbox::waiting_for(open, |_| true)? {
        if waiting.message.is_none()
            && pointer(open, &waiting)?.is_some_and(|(_, pointer)| pointer.text == *text)
        {
            outbox::remove(open, &waiting.name)?;
        }
    }
    Ok(())
}

/// Which text an envelope holds that waits for a single device, and where the rows of that are.
pub(super) fn pointer(
    open: &mut Open<'_>,
    waiting: &WaitingFor,
) -> Result<Option<(Place, Pointer)>, Error> {
    let WaitingFor { to, number, .. } = waiting;
    let tag = open.tag(&to.user)?;
    let user = open.user(tag)?;
    let Some(listed) = user.as_ref().and_then(|user| user.list.get(to.device)) else {
        return Ok(None);
    };
    let place = open.place(tag, &listed.identity);
    Ok(log::pointer(open, place, *number)?.map(|pointer| (place, pointer)))
}

/// Makes a text a draft again for the device that this envelope, which does not leave, is for.
/// Those that wait for other devices leave as they are.
pub(super) fn encrypt_again(
    open: &mut Open<'_>,
    tag: Tag,
    id: MessageId,
    envelope: &RowName,
) -> Result<(), Error> {
    let Some(mut row) = get(open, id)? else { return Ok(()) };
    row.done.retain(|done| done.unsent.as_ref().is_none_or(|unsent| unsent.0 != *envelope));
    row.is_draft = true;
    put(open, tag, id, row)
}
