//! In: what waits for the app, the oldest first. Within one second, what different devices sent is
//! in no particular order.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::offer::HistoryOffer;
use super::transaction::{Open, RowName, Tag};
use super::{Client, Scope};
use crate::address::Address;
use crate::at_rest;
use crate::codec;
use crate::content::attachment::{self, Attachment};
use crate::content::{MessageId, ProposedChange};
use crate::error::Error;
use crate::group::{GroupId, GroupRole, MemberId};
use crate::identity::IdentityKey;
use crate::reference::Reference;
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

/// Something that a person should hear of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Event {
    /// The user has a device more. Of this account: say so clearly, somebody may have linked it.
    DeviceAdded {
        /// Whose device it is.
        user: String,
        /// Its number.
        device: u32,
    },
    /// The user has another account key. Nothing is written to the user, and what comes under that
    /// key is held, until somebody accepts it: [`Client::trust`], [`Client::accept_new_key`].
    KeyChanged {
        /// Whose account key it is.
        user: String,
        /// The new one.
        account: IdentityKey,
    },
    /// Another device of this account says that people compared the user's account key, or took
    /// that back. [`Client::trust`] has changed.
    VerifiedElsewhere {
        /// The user.
        user: String,
        /// Whether the key is verified now.
        verified: bool,
    },
    /// Somebody wrote under an account key that nobody has accepted: [`Client::held`] has it.
    Held {
        /// Under whose name.
        user: String,
    },
    /// Texts that were held went away: their author's account key was replaced before anybody
    /// accepted it, and the device that wrote them is not listed under the new one.
    HeldGone {
        /// Under whose name they were held.
        user: String,
        /// How many.
        texts: u32,
    },
    /// A message of this device could not be opened and cannot be sent again: it is lost.
    Lost {
        /// The device that wrote it.
        by: Address,
        /// The envelope that could not be opened.
        envelope: EnvelopeId,
    },
    /// A text of this user cannot be had by this device any more, which asked for it too late.
    NotReadable {
        /// The device that could not open it.
        by: Address,
        /// The text, where that is still known.
        message: Option<MessageId>,
    },
    /// A text was given up for a device that could not be reached.
    Undelivered {
        /// The text.
        message: MessageId,
        /// The user, and the device where it is known.
        to: String,
        /// The device; none where the user is not known to the server.
        device: Option<u32>,
    },
    /// A device wrote something that only a later version of this crate can show.
    Unsupported {
        /// The device.
        from: Address,
    },
    /// Another device of this account offers the account's history to this one, which was linked
    /// lately: [`Client::take_history`] takes it. Ask the person first: what a stolen device offers
    /// is whatever its thief wants.
    History {
        /// The device that offers it.
        from: Address,
        /// What it offers.
        offer: Box<HistoryOffer>,
    },
    /// This store was restored from a copy. What was sent and received after the copy was made may
    /// be missing here; everything is being renewed.
    Restored,
    /// This device was removed from the account.
    Unlinked,
    /// What was shown as [`Trust::Unvouched`] under a user's name came under an account key that is
    /// not the user's: the server's device list of the user has another one. Say so beside those
    /// texts.
    NotTheirs {
        /// The user whose name it was under.
        user: String,
        /// The account key that it was under.
        account: IdentityKey,
    },
    /// The server takes no sealed mail for this user from this account: it asks for a pass that the
    /// user did not give. The texts wait; [`Client::deliver`] sends them openly.
    SealedRefused {
        /// The user.
        to: String,
    },
    /// Sealed envelopes came for contacts that this device does not know
    /// ([`Client::unknown_contacts`]). Where the store was restored from a copy, ask the people
    /// whom it may lack to write anew.
    UnknownContact {
        /// How many came so far.
        envelopes: u64,
    },
    /// The code that this device shows was scanned: [`Client::confirm_scan`], once the person sees
    /// that the other phone shows success.
    CodeScanned {
        /// Whom the code was for.
        user: String,
    },
    /// The user wants to compare emoji or numbers: [`Client::accept_sas`].
    SasAsked {
        /// Who wants to.
        user: String,
    },
    /// There is something to compare: [`Client::sas`] has it.
    SasReady {
        /// With whom.
        user: String,
    },
    /// A comparison is over, and nobody was verified by it.
    SasEnded {
        /// With whom.
        user: String,
        /// Why.
        why: SasEnd,
    },
    /// Somebody added this user to a group: [`Client::join_group`] or [`Client::decline_group`].
    GroupInvited {
        /// The group.
        group: GroupId,
        /// The device that told this one.
        by: Address,
    },
    /// Another device of this account is in a group, and so is this one.
    GroupJoined {
        /// The group.
        group: GroupId,
    },
    /// This user is not in a group any more.
    GroupLeft {
        /// The group.
        group: GroupId,
    },
    /// Something changed in a group.
    GroupChanged {
        /// The group.
        group: GroupId,
        /// The user who did it. None where it follows from changes that do not count any more.
        by: Option<String>,
        /// What changed.
        what: GroupEvent,
    },
    /// A change of a group was made in another state than this device has for it: one of the two
    /// judges changes wrongly. Have people compare who is in.
    GroupSplit {
        /// The group.
        group: GroupId,
    },
    /// Another device of this account, which does not hold the account key, wants this change.
    /// Where `made` is true, this device signed it: the account left the group. Otherwise the
    /// person decides: ask, and give what was proposed to [`Client::change_group`], or
    /// do nothing. A stolen device proposes what its thief wants.
    GroupProposal {
        /// The group.
        group: GroupId,
        /// The device.
        by: Address,
        /// What it wants.
        changes: Vec<ProposedChange>,
        /// Whether this device signed it.
        made: bool,
    },
    /// No manager of this account signed in 7 days what this device proposed.
    GroupProposalExpired {
        /// The group.
        group: GroupId,
    },
    /// A user who was removed or demoted had changed the group without knowing of that, and it
    /// does not count: [`GroupInfo::voided`](super::GroupInfo::voided) says what it was.
    /// [`GroupIntention::Restore`](super::GroupIntention::Restore) does it after all.
    GroupVoided {
        /// The group.
        group: GroupId,
        /// The user who had made the changes.
        by: String,
    },
    /// A group that this user is invited to is to take the place of another one, by the word of
    /// its founder. [`Event::GroupInvited`] comes beside this one.
    GroupContinued {
        /// The group.
        group: GroupId,
        /// The group whose place it is to take.
        of: GroupId,
        /// The user who founded it.
        founder: String,
        /// What the founder is, or was, in the other group.
        was: FounderRole,
    },
}

/// What the founder of a group is in the group that it is to continue, as this device knows that
/// one. Say it to people before they join: anybody can found a group and say that it continues
/// another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum FounderRole {
    /// An admin of it.
    Admin,
    /// A member of it.
    Member,
    /// It was a member, and is not any more.
    Former,
    /// Nobody who ever was a member of it, or somebody under another account key.
    Stranger,
    /// This device does not know the other group.
    Unknown,
}

/// Why a comparison is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SasEnd {
    /// The other person does not want to compare now, or stopped.
    Cancelled,
    /// The other person says that the two values differ. Somebody may be in between: compare again,
    /// and if they differ again, talk about nothing secret. Where the person here had said that
    /// they are the same, the user is not verified any more.
    Mismatch,
    /// Another device compares: one of this account that answered first, or the other user's, which
    /// began at the same time.
    Taken,
    /// The other device compares with somebody else of this account.
    Busy,
    /// Ten minutes are over.
    Expired,
    /// One of the two users has another account key than when it began.
    KeyChanged,
    /// The other device did not keep to what it had committed itself to. No honest one does that.
    Forged,
    /// This store was restored from a copy.
    Interrupted,
}

/// What changed in a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum GroupEvent {
    /// Somebody is in.
    Added {
        /// Who.
        user: String,
    },
    /// Somebody left, or was removed.
    Removed {
        /// Who.
        user: String,
    },
    /// Somebody became an admin, or is one no more.
    Role {
        /// Who.
        user: String,
        /// What the member is now.
        role: GroupRole,
    },
    /// Somebody is given no keys any more, or is again.
    Suspended {
        /// Who.
        user: String,
        /// Whether the member is suspended.
        suspended: bool,
    },
    /// The settings changed.
    Settings,
}

/// Names an envelope that came and could not be opened, until what was in it comes again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EnvelopeId(#[serde(with = "at_rest::array")] [u8; 16]);

impl EnvelopeId {
    /// Its sender is in the name: nobody else can say that a text stands for it.
    pub(super) fn of(open: &Open<'_>, from: &Address, reference: Reference) -> Self {
        Self(open.envelope_name(from, &reference.0))
    }

    /// The 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl core::fmt::Debug for EnvelopeId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("EnvelopeId(")?;
        codec::hex(f, &self.0)?;
        f.write_str(")")
    }
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
