//! In, of groups: what a device says of one in a session: changes, chains, and texts.

use alloc::vec::Vec;

use rand_core::CryptoRng;

use super::allowances::{self, ANSWERS, LISTS, Party};
use super::events::EnvelopeId;
use super::group_changes::{self, From};
use super::group_envelopes::{count_late, shown};
use super::group_keys::{self, GiverRow};
use super::group_members;
use super::group_owed;
use super::group_proposed;
use super::group_rows::{self, GroupRow, GroupStanding};
use super::group_send;
use super::group_serve;
use super::group_texts;
use super::inbox::{self, Incoming, Item};
use super::outbox::Target;
use super::transaction::{Open, Tag};
use super::wants::{self, Want};
use crate::content::attachment::Files;
use crate::content::{GroupBody, MessageId, Written};
use crate::error::Error;
use crate::group::{Change, Distribution, GroupId, MemberId, Roster, Taken};
use crate::sesame::UserRecord;
use crate::time::UnixTime;

/// Seconds for which nobody waits again for changes that a device named.
const WAITED_AGAIN: u64 = 24 * 60 * 60;

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
            // A text waits once, however many devices a member has one after the other.
            if row.waits.is_none() || group_texts::pending(open, tag, 1)?.is_empty() {
                row.waits = Some(from.now.after(group_send::HEADS_WAIT));
                group_rows::put(open, tag, &row)?;
            }
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
    let (before, due) = (group_keys::labels(&record), record.next_expiry());
    record.expire(from.now);
    let taken = record.take(given, from.now);
    if group_keys::put_record(open, (tag, &mut *row), from.place, giver, &record)? {
        group_rows::put(open, tag, row)?;
    }
    group_keys::put_labels(open, tag, from.place, &record, (&before, due))?;
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
