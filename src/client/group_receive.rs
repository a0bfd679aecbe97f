//! In, of groups: what a device says of one in a session, chains, and texts for all.

use alloc::boxed::Box;
use alloc::vec::Vec;

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::allowances::{self, ANSWERS, LISTS, Party};
use super::events::{EnvelopeId, Event};
use super::group_changes::{self, From};
use super::group_keys::{self, GiverRow};
use super::group_members;
use super::group_owed;
use super::group_proposed;
use super::group_rows::{self, GroupRow, GroupStanding};
use super::group_send;
use super::group_serve;
use super::inbox::{self, GroupText, Incoming, Item, Text};
use super::outbox::Target;
use super::seen;
use super::transaction::{Open, Place, Tag};
use super::wants::{self, Want};
use crate::address::Address;
use crate::content::attachment::Files;
use crate::content::{Body, Content, GroupBody, MessageId, Written, attachment};
use crate::crypto::stack;
use crate::error::Error;
use crate::group::{
    Change, Distribution, Envelope, GroupId, Hint, MemberId, Roster, Sender, Taken,
};
use crate::sesame::{Standing, Trust, UserRecord};
use crate::time::UnixTime;

/// Seconds for which nobody waits again for changes that a device named.
const WAITED_AGAIN: u64 = 24 * 60 * 60;

/// Late texts of a device that is no member's any more.
const MOST_LATE: u32 = 32;

/// What became of an envelope for a group.
pub(super) enum Arrived {
    Incoming(Box<Incoming>),
    Handled,
    Duplicate,
    /// Nothing here opens the envelope of this reference.
    Unreadable(Error, [u8; 16]),
    Refused(Error),
}

/// Takes in a content about a group that came in a session with a listed device.
pub(super) fn take(
    open: &mut Open<'_>,
    from: &From<'_>,
    body: GroupBody<'_>,
    mut reply: Option<Target>,
    rng: &mut dyn CryptoRng,
) -> Result<Option<Incoming>, Error> {
    match body {
        GroupBody::Changes { group, changes } => {
            group_changes::take_changes(open, from, group, changes, reply.as_mut(), rng)?
        }
        GroupBody::Chain(bytes) => take_chain(open, from, bytes, reply.as_mut(), rng)?,
        GroupBody::Heads { group, heads } if heads.len() <= Change::MAX_PARENTS => {
            drop(take_heads(open, from, group, heads, reply.as_mut(), rng)?);
        }
        GroupBody::Heads { .. } => {}
        GroupBody::Ask { group, heads } => take_ask(open, from, group, heads)?,
        GroupBody::Proposal(proposal) => group_proposed::take(open, from, proposal, rng)?,
        GroupBody::Text { group, id, text, files } => {
            let (id, files) = (MessageId::new(*id), Files::of(files));
            let written = Written { id, text, files };
            return take_text(open, from, group, written, reply.as_mut(), rng);
        }
    }
    Ok(None)
}

/// A device knows the roster up to some changes: it is told the others.
fn take_ask(
    open: &mut Open<'_>,
    from: &From<'_>,
    group: GroupId,
    heads: &[[u8; 32]],
) -> Result<(), Error> {
    let tag = open.group_tag(group.as_bytes());
    let Some(mut peer) = group_rows::peer(open, tag, from.place)? else { return Ok(()) };
    if heads.len() > Change::MAX_PARENTS {
        return Ok(());
    }
    peer.owed_changes = true;
    peer.told = group_changes::change_ids(heads);
    // Without the roster, it had no use for the chain.
    peer.due |= heads.is_empty();
    group_rows::put_peer(open, tag, from.place, &peer)?;
    group_rows::set_step(open, tag)
}

/// A device does not know that a user is no member any more: it is told that, and of nothing that
/// came later.
fn tell_removal(
    open: &mut Open<'_>,
    from: &From<'_>,
    (roster, user): (&Roster, &str),
    heads: &[[u8; 32]],
    reply: Option<&mut Target>,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let known = group_changes::change_ids(heads);
    let ids = roster.ids_of(user).into_iter();
    let removals = ids.flat_map(|member| roster.removal_of(member, &known));
    tell(open, from, roster.group(), removals, reply, rng)
}

/// Tells a device changes at once, if they are not too many.
fn tell<'c>(
    open: &mut Open<'_>,
    from: &From<'_>,
    group: GroupId,
    changes: impl IntoIterator<Item = &'c Change>,
    reply: Option<&mut Target>,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let Some(target) = reply else { return Ok(()) };
    let mut content = Vec::new();
    group_serve::append(&mut content, changes);
    let (party, size) = (Party::Contact(from.place.tag), content.len());
    let units = allowances::units(size);
    if size == 0
        || size > group_serve::MOST_CHANGES
        || !allowances::take(open, &LISTS, party, 1, from.now)?
        || !allowances::take(open, &ANSWERS, party, units, from.now)?
    {
        return Ok(());
    }
    let body = GroupBody::Changes { group, changes: &content };
    group_serve::post(open, target, body, None, from.now, rng)?;
    open.put_record(target.place, &target.record)
}

/// A member writes to a group that this account is out of, and is told so.
fn tell_own_removal(
    open: &mut Open<'_>,
    from: &From<'_>,
    tag: Tag,
    heads: &[[u8; 32]],
    reply: Option<&mut Target>,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let (roster, own) = (group_rows::roster(open, tag)?, open.account.user.clone());
    if open.is_own(&from.user.name) || group_members::member_of(&roster, from.user).is_none() {
        return Ok(());
    }
    tell_removal(open, from, (&roster, &own), heads, reply, rng)
}

/// A group of which a member says something, and that member.
struct Heard {
    tag: Tag,
    row: GroupRow,
    member: MemberId,
}

/// A device names changes that it knows, and gives its chain perhaps. None where nothing else of
/// that counts: this account is out, or the device is no member's.
fn take_heads(
    open: &mut Open<'_>,
    from: &From<'_>,
    group: GroupId,
    heads: &[[u8; 32]],
    mut reply: Option<&mut Target>,
    rng: &mut dyn CryptoRng,
) -> Result<Option<Heard>, Error> {
    let tag = open.group_tag(group.as_bytes());
    let Some(mut row) = group_rows::get(open, tag)? else {
        let nothing = (&[][..], Vec::new());
        return group_changes::invited(open, from, (group, tag), nothing, reply, rng)
            .map(|()| None);
    };
    if row.standing == GroupStanding::Out {
        return tell_own_removal(open, from, tag, heads, reply, rng).map(|()| None);
    }
    group_changes::join_with(open, from, (tag, &mut row), rng)?;
    let roster = group_rows::roster(open, tag)?;
    let named = group_changes::change_ids(heads);
    let knows = named.iter().all(|head| roster.contains(head));
    if !knows {
        let known = group_serve::told(&roster);
        group_changes::ask(open, from, (group, &known), reply.as_deref_mut(), rng)?;
    }
    if let Some(mut peer) = group_rows::peer(open, tag, from.place)? {
        if knows && group_changes::tell_again(open, &roster, &mut peer, &named) {
            group_rows::set_step(open, tag)?;
        }
        peer.told = named;
        let is_first = |at: UnixTime| from.now.apart(at) > WAITED_AGAIN;
        if !knows && peer.waited.is_none_or(is_first) {
            peer.waited = Some(from.now);
            row.waits = Some(from.now.after(group_send::HEADS_WAIT));
            group_rows::put(open, tag, &row)?;
        }
        group_rows::put_peer(open, tag, from.place, &peer)?;
    }
    match group_members::member_of(&roster, from.user) {
        Some(member) => {
            // Nobody gives it a chain, which would name what it lacks.
            if member.suspended && knows {
                let known = group_changes::change_ids(heads);
                tell(open, from, group, roster.changes_since(&known), reply, rng)?;
            }
            Ok(Some(Heard { tag, row, member: member.id }))
        }
        None => {
            tell_removal(open, from, (&roster, &from.user.name), heads, reply, rng).map(|()| None)
        }
    }
}

fn take_chain(
    open: &mut Open<'_>,
    from: &From<'_>,
    bytes: &[u8],
    reply: Option<&mut Target>,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let Ok(given) = Distribution::decode(bytes) else { return Ok(()) };
    let group = GroupId::from(given.group);
    let heard = take_heads(open, from, group, &given.heads, reply, rng)?;
    let Some(Heard { tag, mut row, member }) = heard else { return Ok(()) };
    let mut giver = match group_keys::giver(open, tag, from.place)? {
        Some(giver) => giver,
        None => GiverRow::new(from.address.clone(), from.identity, member),
    };
    (giver.member, giver.gone, giver.late) = (member, None, 0);
    let taken = take_given(open, from, (tag, &mut row), &mut giver, given)?;
    if taken == Taken::New
        && row.standing == GroupStanding::Joined
        && let Some(mut peer) = group_rows::peer(open, tag, from.place)?
    {
        group_owed::answer_later(open, tag, from.place, &mut peer, from.now, rng)?;
        group_rows::put_peer(open, tag, from.place, &peer)?;
    }
    // What came before its chain may open now.
    wants::hurry(open, &Want::Aside(from.user.name.clone()), from.now)
}

/// Keeps the chain that a device gave.
fn take_given(
    open: &mut Open<'_>,
    from: &From<'_>,
    (tag, row): (Tag, &mut GroupRow),
    giver: &mut GiverRow,
    given: Distribution,
) -> Result<Taken, Error> {
    let mut record = giver.record()?;
    let before = group_keys::labels(&record);
    record.expire(from.now);
    let taken = record.take(given, from.now);
    if group_keys::put_record(open, (tag, &mut *row), from.place, giver, &record)? {
        group_rows::put(open, tag, row)?;
    }
    group_keys::put_labels(open, tag, from.place, &record, &before)?;
    Ok(taken)
}

/// Takes in what a device of a member wrote before it was removed from its account: its texts are
/// shown apart, as those in envelopes for the group are, and its chain opens such. Nothing else of
/// it counts.
pub(super) fn take_late(
    open: &mut Open<'_>,
    from: &From<'_>,
    body: GroupBody<'_>,
    rng: &mut dyn CryptoRng,
) -> Result<Option<Incoming>, Error> {
    let (group, given) = match body {
        GroupBody::Text { group, .. } => (group, None),
        GroupBody::Chain(bytes) => match Distribution::decode(bytes) {
            Ok(given) => (GroupId::from(given.group), Some(given)),
            Err(_) => return Ok(None),
        },
        _ => return Ok(None),
    };
    let tag = open.group_tag(group.as_bytes());
    let row = group_rows::get(open, tag)?.filter(|row| row.standing != GroupStanding::Out);
    let Some(mut row) = row else { return Ok(None) };
    let Some(mut giver) = removed_giver(open, tag, from)? else { return Ok(None) };
    if let Some(given) = given {
        return take_given(open, from, (tag, &mut row), &mut giver, given).map(|_| None);
    }
    let GroupBody::Text { id, text, files, .. } = body else { return Ok(None) };
    if !count_late(&mut giver, from.now) {
        return Ok(None);
    }
    group_keys::put_giver(open, tag, from.place, &giver)?;
    let written = Written { id: MessageId::new(*id), text, files: Files::of(files) };
    show(open, from, (group, giver.member), written, true, rng).map(Some)
}

/// What a device gave that was removed from its account less than a day ago, or will have given.
fn removed_giver(
    open: &mut Open<'_>,
    tag: Tag,
    from: &From<'_>,
) -> Result<Option<GiverRow>, Error> {
    if let Some(giver) = group_keys::giver(open, tag, from.place)? {
        return Ok(Some(giver));
    }
    let roster = group_rows::roster(open, tag)?;
    let since = from.user.gone_since(&from.identity);
    let since = since.filter(|since| from.now.since(*since) <= group_members::LATE);
    // Whatever its account key: the one under which the device was listed may be replaced.
    let member = roster.ids_in(&from.user.name).first().copied();
    let Some((since, member)) = since.zip(member) else { return Ok(None) };
    let mut giver = GiverRow::new(from.address.clone(), from.identity, member);
    group_members::set_gone(open, tag, from.place, &mut giver, since)?;
    Ok(Some(giver))
}

/// Whether a text in a session came before the changes that say that its sender is a member.
pub(super) fn is_early(
    open: &mut Open<'_>,
    group: GroupId,
    user: &UserRecord,
) -> Result<bool, Error> {
    let tag = open.group_tag(group.as_bytes());
    match group_rows::get(open, tag)? {
        None => Ok(true),
        Some(row) if row.standing == GroupStanding::Out => Ok(false),
        Some(_) => Ok(!group_changes::was_member(&group_rows::roster(open, tag)?, user)),
    }
}

/// Whether a content counts only once its sender was asked for the group that it names, or for
/// changes of it.
pub(super) fn asks_back(open: &mut Open<'_>, body: &GroupBody<'_>) -> Result<bool, Error> {
    let (group, heads) = match body {
        GroupBody::Heads { group, heads } => (*group, *heads),
        GroupBody::Chain(bytes) => match Distribution::decode(bytes) {
            // Where the group is known, the chain counts at once.
            Ok(given) => (GroupId::from(given.group), &[][..]),
            Err(_) => return Ok(false),
        },
        _ => return Ok(false),
    };
    let tag = open.group_tag(group.as_bytes());
    let Some(row) = group_rows::get(open, tag)? else { return Ok(true) };
    if row.standing == GroupStanding::Out || heads.is_empty() {
        return Ok(false);
    }
    let roster = group_rows::roster(open, tag)?;
    Ok(group_changes::change_ids(heads).iter().any(|head| !roster.contains(head)))
}

fn take_text(
    open: &mut Open<'_>,
    from: &From<'_>,
    group: GroupId,
    written: Written<'_>,
    reply: Option<&mut Target>,
    rng: &mut dyn CryptoRng,
) -> Result<Option<Incoming>, Error> {
    let tag = open.group_tag(group.as_bytes());
    let Some(mut row) = group_rows::get(open, tag)? else { return Ok(None) };
    if row.standing == GroupStanding::Out {
        return tell_own_removal(open, from, tag, &[], reply, rng).map(|()| None);
    }
    group_changes::join_with(open, from, (tag, &mut row), rng)?;
    let roster = group_rows::roster(open, tag)?;
    let (member, is_late) = match group_members::member_of(&roster, from.user) {
        Some(member) => (member.id, false),
        None => {
            // A device whose mail is sealed gives no chain: its text shows what it does not know.
            tell_removal(open, from, (&roster, &from.user.name), &[], reply, rng)?;
            let giver = match group_keys::giver(open, tag, from.place)? {
                Some(giver) => Some(giver),
                None => {
                    let device = (from.address, from.identity, from.place);
                    group_members::late_giver(open, (tag, &roster), from.user, device, from.now)?
                }
            };
            let Some(mut giver) = giver else { return Ok(None) };
            if !count_late(&mut giver, from.now) {
                return Ok(None);
            }
            group_keys::put_giver(open, tag, from.place, &giver)?;
            (giver.member, true)
        }
    };
    show(open, from, (group, member), written, is_late, rng).map(Some)
}

/// Shows the app a text that came in a session.
fn show(
    open: &mut Open<'_>,
    from: &From<'_>,
    by: (GroupId, MemberId),
    written: Written<'_>,
    is_late: bool,
    rng: &mut dyn CryptoRng,
) -> Result<Incoming, Error> {
    let mut text = shown((from.address, from.user), by, written, is_late)?;
    text.text.resent = from.resent.map(|resent| EnvelopeId::of(open, from.address, resent));
    inbox::add(open, Item::Group(text), from.number, from.now, rng)
}

/// A text as the app gets it.
fn shown(
    (from, user): (&Address, &UserRecord),
    (group, member): (GroupId, MemberId),
    written: Written<'_>,
    is_late: bool,
) -> Result<GroupText, Error> {
    let text = Text {
        from: from.clone(),
        copy_to: None,
        message: written.id,
        text: Zeroizing::new(written.text.to_vec()),
        files: attachment::decode(written.files.as_bytes())?,
        trust: if is_late { Trust::Unaccepted } else { user.trust() },
        resent: None,
    };
    Ok(GroupText { group, member, is_late, text })
}

/// Counts a text of a device that is no member's any more. False where there were enough, or it is
/// gone for too long.
fn count_late(giver: &mut GiverRow, now: UnixTime) -> bool {
    let is_over = giver.gone.is_some_and(|since| now.since(since) > group_members::LATE);
    if is_over || giver.late >= MOST_LATE {
        return false;
    }
    giver.late = giver.late.saturating_add(1);
    true
}

/// Opens an envelope for a group, which came as the transport says `from` there.
pub(super) fn open_envelope(
    open: &mut Open<'_>,
    from: &Address,
    known: Option<&UserRecord>,
    bytes: &[u8],
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<Arrived, Error> {
    let envelope = match Envelope::decode(bytes) {
        Ok(envelope) => envelope,
        Err(error) => return Ok(Arrived::Refused(error)),
    };
    let tag = open.tag(&from.user)?;
    let Some(user) = known else {
        return Ok(Arrived::Refused(Error::DevicesNeeded(from.user.as_str().into())));
    };
    let mut found = None;
    for (group, place) in group_keys::labelled(open, &envelope.label(), tag)? {
        let giver = group_keys::giver(open, group, place)?;
        if let Some(giver) = giver.filter(|giver| giver.address == *from) {
            found = Some((group, place, giver));
        }
    }
    let Some((group, place, giver)) = found else {
        // It may be a repetition of one whose chain is gone, which its device is known for.
        for identity in user.candidates(from.device) {
            let place = open.place(tag, &identity);
            if seen::was_seen(open, place, &envelope.reference())? {
                return Ok(Arrived::Duplicate);
            }
        }
        return Ok(Arrived::Unreadable(Error::UnknownHeader, envelope.reference()));
    };
    open_given(open, (from, user), (group, place, giver), &envelope, now, rng)
}

/// Whether an envelope is asked for that does not open for this reason. One beyond the end of its
/// chain is a thief's, or that of a sender that does not know that it was restored from a copy: the
/// device itself has to say that it wrote it.
const fn is_asked_for(why: &Error) -> bool {
    matches!(why, Error::UnknownHeader | Error::Duplicate | Error::TooOld | Error::TooFarAhead)
}

/// As whom a device says that it wrote an envelope.
enum Author {
    /// As a member that its user is, or was.
    Theirs(MemberId),
    SomebodyElse,
    /// Changes may come that give an id to its user.
    Unknown,
}

/// Whoever is removed and added again has another id than when they gave their chain.
fn author(
    open: &mut Open<'_>,
    group: Tag,
    user: &UserRecord,
    giver: &GiverRow,
    hint: &Hint,
) -> Result<Author, Error> {
    let is_named = |id: &MemberId| hint.names(id.as_bytes(), giver.address.device);
    if is_named(&giver.member) {
        return Ok(Author::Theirs(giver.member));
    }
    let roster = group_rows::roster(open, group)?;
    let Some(id) = roster.ids().find(is_named) else { return Ok(Author::Unknown) };
    let theirs = Some((user.name.as_str(), user.list.account()));
    let is_theirs = roster.was_given_for(id) == theirs;
    Ok(if is_theirs { Author::Theirs(id) } else { Author::SomebodyElse })
}

fn open_given(
    open: &mut Open<'_>,
    (from, user): (&Address, &UserRecord),
    (group, place, mut giver): (Tag, Place, GiverRow),
    envelope: &Envelope<'_>,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<Arrived, Error> {
    let Some(mut row) = group_rows::get(open, group)? else {
        return Ok(Arrived::Refused(Error::UnknownGroup));
    };
    if row.standing == GroupStanding::Out {
        return Ok(Arrived::Refused(Error::UnknownGroup));
    }
    let mut record = giver.record()?;
    // What nobody who holds the label key wrote is noise, and so is what names another device.
    let is_of = |hint: &Hint| hint.device() == from.device;
    let Some(hint) = record.label_keys().find_map(|key| envelope.hint(key)).filter(is_of) else {
        return Ok(Arrived::Refused(Error::Decrypt));
    };
    let member = match author(open, group, user, &giver, &hint)? {
        Author::Theirs(member) => member,
        Author::SomebodyElse => return Ok(Arrived::Refused(Error::Decrypt)),
        Author::Unknown => {
            return Ok(Arrived::Unreadable(Error::UnknownHeader, envelope.reference()));
        }
    };
    let sender = Sender {
        group: row.id.as_bytes(),
        member: member.as_bytes(),
        identity: &giver.identity,
        address: from,
    };
    let opened = match record.receive(envelope, &hint, &sender) {
        Ok(opened) => opened,
        Err(_) if seen::was_seen(open, place, &envelope.reference())? => {
            return Ok(Arrived::Duplicate);
        }
        Err(error) if is_asked_for(&error) => {
            return Ok(Arrived::Unreadable(error, envelope.reference()));
        }
        Err(error) => return Ok(Arrived::Refused(error)),
    };
    let (content, step) = (Zeroizing::new(opened.content), opened.step);
    let content = match Content::decode(&content) {
        Ok(content) => content,
        Err(error) => return Ok(Arrived::Refused(error)),
    };
    let standing = user.standing(from.device, &giver.identity, now);
    let is_late = giver.gone.is_some() || standing != Standing::Listed;
    if is_late && (standing == Standing::Unknown || !count_late(&mut giver, now)) {
        return Ok(Arrived::Refused(Error::UnknownDevice(Box::new(from.clone()))));
    }
    record.commit(step);
    if group_keys::put_record(open, (group, &mut row), place, &mut giver, &record)? {
        group_rows::put(open, group, &row)?;
    }
    if content.list.version > user.list.version() {
        wants::want(open, Want::Devices(user.name.clone()), now)?;
    }
    let message = content.body.message();
    let names: Vec<seen::Name> = [Some(envelope.reference()), message.map(|id| *id.as_bytes())]
        .into_iter()
        .flatten()
        .collect();
    let keys = seen::keys(open, place, &names);
    if seen::any(open, &keys)? {
        return Ok(Arrived::Duplicate);
    }
    let mut device = open.record(place, &giver.identity)?;
    seen::note(open, place, &mut device, &keys, message.is_some())?;
    open.put_record(place, &device)?;
    // What is built from here on has room to spare, and the app has it.
    stack::wipe();
    let item = match content.body {
        Body::Text(written) => {
            Item::Group(shown((from, user), (row.id, member), written, is_late)?)
        }
        Body::Unsupported => Item::Event(Event::Unsupported { from: from.clone() }),
        _ => return Ok(Arrived::Handled),
    };
    let number = u64::from(hint.number());
    Ok(Arrived::Incoming(Box::new(inbox::add(open, item, number, now, rng)?)))
}
