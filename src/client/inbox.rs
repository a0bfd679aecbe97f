//! In: what waits for the app, the oldest first. Within one second, what different devices sent is
//! in no particular order.

use alloc::string::String;
use alloc::vec::Vec;

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::events::{EnvelopeId, Event};
use super::offer::HistoryOffer;
use super::transaction::{Open, RowName, Tag};
use super::{Client, Scope};
use crate::address::Address;
use crate::at_rest;
use crate::content::attachment::{self, Attachment};
use crate::content::{MessageId, ProposedChange};
use crate::error::Error;
use crate::group::{GroupId, MemberId};
use crate::sesame::Trust;
use crate::store::Table;
use crate::time::UnixTime;

/// Something for the app: a text, or an event that a person should hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Incoming {
    /// What [`Client::acknowledge`] takes.
    pub id: InboxId,
    /// When it came, by the time given to the call that brought it.
    pub received_at: UnixTime,
    /// What it is.
    pub item: Item,
}

/// What an [`Incoming`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Item {
    /// A text of a device of the user: show it.
    Text(Text),
    /// A text of a device that its user removed less than 7 days ago, or is about to remove with a
    /// changed account key. It may be late mail, or the work of somebody who stole the device: show
    /// it apart, and say so.
    Late(Text),
    /// Something happened.
    Event(Event),
    /// A text to a group: show it there.
    Group(GroupText),
}

/// A text to a group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupText {
    /// The group.
    pub group: GroupId,
    /// The member that wrote it.
    pub member: MemberId,
    /// Its device was a member's, and is not any more. It may be late mail, or the work of somebody
    /// who was removed: show it apart, and say so.
    pub is_late: bool,
    /// The text.
    pub text: Text,
}

/// A text.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Text {
    /// The device that wrote it. The session proves it.
    pub from: Address,
    /// Where another device of this account wrote it: to whom. None where it is for this user.
    pub copy_to: Option<String>,
    /// The name of the text, the same on every device.
    pub message: MessageId,
    /// The text itself; wiped when dropped.
    pub text: Zeroizing<Vec<u8>>,
    /// The files that belong to it, at most [`Attachment::MOST`]. Their blobs are still to be
    /// fetched.
    pub files: Vec<Attachment>,
    /// What is known of its author.
    pub trust: Trust,
    /// The envelope that could not be opened, and that this text was in:
    /// [`Received::AskedAgain`](super::Received::AskedAgain) named it.
    pub resent: Option<EnvelopeId>,
}

/// The name of a row of the inbox: 24 bytes that sort by time, and never come twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InboxId(RowName);

impl InboxId {
    /// From the 24 bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 24]) -> Self {
        Self(bytes)
    }

    /// The 24 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 24] {
        &self.0
    }
}

/// Shows who wrote it, how long it is, and what its files show.
impl core::fmt::Debug for Text {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { message, from, text, files, .. } = self;
        write!(f, "Text({message}, from {from}, {} bytes, files: {files:?})", text.len())
    }
}

impl<S: Scope> Client<S> {
    /// What the app has not taken yet, the oldest first: at most `most`, and no more after 4 MiB of
    /// text. It stays until [`Client::acknowledge`]. What one device sent is in order; what
    /// different devices sent within one second is in no particular one.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::BadState`]
    pub fn inbox(&mut self, most: usize) -> Result<Vec<Incoming>, Error> {
        self.run(|open| list(open, &[ORDINARY], most))
    }

    /// What was written under an account key of the user that nobody has accepted, the oldest
    /// first, as [`Client::inbox`] lists it. It goes to the inbox when the key is accepted, and
    /// goes away when the known key is.
    ///
    /// # Errors
    /// [`Error::BadName`], [`Error::Store`], [`Error::BadState`]
    pub fn held(&mut self, user: &str, most: usize) -> Result<Vec<Incoming>, Error> {
        self.run(|open| {
            let tag = open.tag(user)?;
            list(open, &held_prefix(tag), most)
        })
    }

    /// The app has it safe: it leaves the inbox.
    ///
    /// # Errors
    /// [`Error::Store`]
    pub fn acknowledge(&mut self, id: InboxId) -> Result<(), Error> {
        self.run(|open| open.whole(|open| remove(open, &[ORDINARY], &id.0)))
    }
}

/// As it is stored: a long text is in a row of its own, so that listing reads none of those.
#[derive(Serialize, Deserialize)]
struct Row {
    received_at: UnixTime,
    item: RowItem,
}

#[derive(Serialize, Deserialize)]
enum RowItem {
    Text(RowText),
    Late(RowText),
    Event(Event),
    Group(GroupId, MemberId, bool, RowText),
}

#[derive(Serialize, Deserialize)]
struct RowText {
    from: Address,
    copy_to: Option<String>,
    message: MessageId,
    /// Bytes of the text, and of what opens its files.
    length: u32,
    /// None: in its own row.
    text: Option<Inline>,
    /// As they travel.
    files: Inline,
    trust: Trust,
    resent: Option<EnvelopeId>,
}

#[derive(Serialize, Deserialize)]
struct Inline(#[serde(with = "at_rest::run")] Zeroizing<Vec<u8>>);

/// `ORDINARY || name`, `HELD || tag:16 || name`, `LONG || name`
const ORDINARY: u8 = 0;
const HELD: u8 = 1;
const LONG: u8 = 2;

/// Texts up to this length are in the row that lists them.
const INLINE: usize = 4_096;

/// A list ends after this many bytes of text.
const MOST_BYTES: usize = 4 << 20;

/// What is held of one user, in messages and in bytes.
const MOST_HELD: usize = 64;
const MOST_HELD_BYTES: usize = 1 << 20;

fn held_prefix(tag: Tag) -> [u8; 17] {
    let mut prefix = [HELD; 17];
    prefix[1..].copy_from_slice(&tag.0);
    prefix
}

fn key(prefix: &[u8], name: &RowName) -> Vec<u8> {
    [prefix, name].concat()
}

/// Adds something to the inbox.
pub(super) fn add(
    open: &mut Open<'_>,
    item: Item,
    number: u64,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<Incoming, Error> {
    let name = open.row_name(now, number, rng);
    put(open, &[ORDINARY], name, item, now)
}

/// Adds an event to the inbox.
pub(super) fn tell(
    open: &mut Open<'_>,
    event: Event,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    add(open, Item::Event(event), 0, now, rng).map(drop)
}

/// Whether a text of this length can be held of a user.
pub(super) fn can_hold(open: &mut Open<'_>, tag: Tag, length: usize) -> Result<bool, Error> {
    let held = open.scan(Table::Inbox, &held_prefix(tag), MOST_HELD)?;
    let mut bytes = length;
    for (_, row) in &held {
        if let RowItem::Text(text) = at_rest::state::decode::<Row>(1, row)?.item {
            bytes = bytes.saturating_add(usize::try_from(text.length).unwrap_or(usize::MAX));
        }
    }
    Ok(held.len() < MOST_HELD && (bytes <= MOST_HELD_BYTES || held.is_empty()))
}

/// Holds a text whose author nobody has accepted.
pub(super) fn hold(
    open: &mut Open<'_>,
    tag: Tag,
    text: Text,
    number: u64,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let prefix = held_prefix(tag);
    if open.scan(Table::Inbox, &prefix, 1)?.is_empty() {
        tell(open, Event::Held { user: text.from.user.clone() }, now, rng)?;
    }
    let name = open.row_name(now, number, rng);
    put(open, &prefix, name, Item::Text(text), now).map(drop)
}

/// Moves what was held of a user to the inbox, under the trust that its author has now.
pub(super) fn release(open: &mut Open<'_>, tag: Tag, trust: Trust) -> Result<(), Error> {
    let prefix = held_prefix(tag);
    for (row_key, row) in open.scan(Table::Inbox, &prefix, MOST_HELD)? {
        let mut row: Row = at_rest::state::decode(1, &row)?;
        if let RowItem::Text(text) = &mut row.item {
            text.trust = trust;
        }
        let name = row_key.get(prefix.len()..).and_then(|name| name.try_into().ok());
        let name: RowName = name.ok_or(Error::BadState)?;
        put_row(open, &key(&[ORDINARY], &name), &row)?;
        open.delete(Table::Inbox, &row_key)?;
    }
    Ok(())
}

/// Deletes what was held of a user.
pub(super) fn dismiss(open: &mut Open<'_>, tag: Tag) -> Result<(), Error> {
    dismiss_others(open, tag, |_| false).map(drop)
}

/// Deletes what was held of a user, but for what devices sent that `is_kept` names. Returns how
/// many texts went.
pub(super) fn dismiss_others(
    open: &mut Open<'_>,
    tag: Tag,
    is_kept: impl Fn(u32) -> bool,
) -> Result<u32, Error> {
    let prefix = held_prefix(tag);
    let mut count: u32 = 0;
    for (row_key, row) in open.scan(Table::Inbox, &prefix, MOST_HELD)? {
        let row: Row = at_rest::state::decode(1, &row)?;
        if matches!(&row.item, RowItem::Text(text) if is_kept(text.from.device)) {
            continue;
        }
        if let Some(name) = row_key.get(prefix.len()..).and_then(|name| name.try_into().ok()) {
            remove(open, &prefix, name)?;
            count = count.saturating_add(1);
        }
    }
    Ok(count)
}

fn put(
    open: &mut Open<'_>,
    prefix: &[u8],
    name: RowName,
    item: Item,
    received_at: UnixTime,
) -> Result<Incoming, Error> {
    let mut store = |text: &Text| {
        let is_long = text.text.len() > INLINE;
        if is_long {
            open.put(Table::Inbox, &key(&[LONG], &name), &text.text)?;
        }
        let files = attachment::encode(&text.files)?;
        let length = text.text.len().saturating_add(files.len());
        Ok::<_, Error>(RowText {
            from: text.from.clone(),
            copy_to: text.copy_to.clone(),
            message: text.message,
            length: u32::try_from(length).unwrap_or(u32::MAX),
            text: (!is_long).then(|| Inline(text.text.clone())),
            files: Inline(files),
            trust: text.trust,
            resent: text.resent,
        })
    };
    let row_item = match &item {
        Item::Text(text) => RowItem::Text(store(text)?),
        Item::Late(text) => RowItem::Late(store(text)?),
        Item::Event(event) => RowItem::Event(event.clone()),
        Item::Group(text) => {
            RowItem::Group(text.group, text.member, text.is_late, store(&text.text)?)
        }
    };
    put_row(open, &key(prefix, &name), &Row { received_at, item: row_item })?;
    Ok(Incoming { id: InboxId(name), received_at, item })
}

fn put_row(open: &mut Open<'_>, row_key: &[u8], row: &Row) -> Result<(), Error> {
    let length = match &row.item {
        RowItem::Text(RowText { text, files, .. })
        | RowItem::Late(RowText { text, files, .. })
        | RowItem::Group(.., RowText { text, files, .. }) => {
            text.as_ref().map_or(0, |text| text.0.len()).saturating_add(files.0.len())
        }
        RowItem::Event(Event::History { .. }) => HistoryOffer::MOST,
        RowItem::Event(Event::GroupProposal { changes, .. }) => ProposedChange::stored(changes),
        RowItem::Event(_) => 0,
    };
    open.put_as(Table::Inbox, row_key, row, length.saturating_add(700))
}

fn list(open: &mut Open<'_>, prefix: &[u8], most: usize) -> Result<Vec<Incoming>, Error> {
    let mut all = Vec::new();
    let mut bytes: usize = 0;
    // `remove` looks again whether it is still there.
    for (row_key, row) in open.peek(Table::Inbox, prefix, most)? {
        let name: RowName = row_key
            .get(prefix.len()..)
            .and_then(|name| name.try_into().ok())
            .ok_or(Error::BadState)?;
        let row: Row = at_rest::state::decode(1, &row)?;
        let item = match row.item {
            RowItem::Text(text) => Item::Text(load(open, &name, text)?),
            RowItem::Late(text) => Item::Late(load(open, &name, text)?),
            RowItem::Event(event) => Item::Event(event),
            RowItem::Group(group, member, is_late, text) => {
                let text = load(open, &name, text)?;
                Item::Group(GroupText { group, member, is_late, text })
            }
        };
        if let Item::Text(text) | Item::Late(text) | Item::Group(GroupText { text, .. }) = &item {
            bytes = bytes.saturating_add(text.text.len());
        }
        all.push(Incoming { id: InboxId(name), received_at: row.received_at, item });
        if bytes > MOST_BYTES {
            break;
        }
    }
    Ok(all)
}

fn load(open: &mut Open<'_>, name: &RowName, row: RowText) -> Result<Text, Error> {
    let text = match row.text {
        Some(text) => text.0,
        None => open.get(Table::Inbox, &key(&[LONG], name))?.ok_or(Error::BadState)?,
    };
    let RowText { from, copy_to, message, trust, resent, .. } = row;
    let files = attachment::decode(&row.files.0).map_err(|_| Error::BadState)?;
    Ok(Text { from, copy_to, message, text, files, trust, resent })
}

/// Removes a row that is listed, and the long text that belongs to it.
fn remove(open: &mut Open<'_>, prefix: &[u8], name: &RowName) -> Result<(), Error> {
    let listed = key(prefix, name);
    let Some(row) = open.get_as::<Row>(Table::Inbox, &listed)? else { return Ok(()) };
    if let RowItem::Text(RowText { text: None, .. })
    | RowItem::Late(RowText { text: None, .. })
    | RowItem::Group(.., RowText { text: None, .. }) = row.item
    {
        open.delete(Table::Inbox, &key(&[LONG], name))?;
    }
    open.delete(Table::Inbox, &listed)
}
