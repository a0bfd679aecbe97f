//! What is known of groups, by row.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::backoff::{BackOff, Earliest};
use super::transaction::{CHANGED_USER, Open, Place, Tag, changed_user};
use crate::address::Address;
use crate::at_rest;
use crate::error::Error;
use crate::group::{Change, ChangeId, GroupId, GroupMember, MemberId, Roster};
use crate::identity::{self, IdentityKey};
use crate::store::Table;
use crate::time::UnixTime;

/// How this account stands to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum GroupStanding {
    /// Somebody added this user, who has not joined yet: this device gives nothing and answers
    /// nothing.
    Invited,
    /// This user is in.
    Joined,
    /// This user left, declined, or was removed.
    Out,
}

#[derive(Serialize, Deserialize)]
pub(super) struct GroupRow {
    pub(super) id: GroupId,
    pub(super) standing: GroupStanding,
    /// Changes in the roster.
    pub(super) changes: u32,
    /// Whether the chain is to be renewed before the next text.
    pub(super) renew: bool,
    /// Texts whose references are kept.
    pub(super) referenced: u32,
    /// This device made a change, which everybody is to be told.
    pub(super) tell: bool,
    /// Members whose devices are not known, and the last text that was written before.
    pub(super) absent: Vec<(MemberId, u64)>,
    /// Since when this device knows the group.
    pub(super) since: UnixTime,
    /// Nothing is encrypted before this time: somebody knows of changes that are not here.
    pub(super) waits: Option<UnixTime>,
    /// When the chain was last renewed since a device that holds it asked for an envelope.
    pub(super) asked: Option<UnixTime>,
    /// When the app was told that devices do not agree.
    pub(super) split: Option<UnixTime>,
    /// Keys that are kept of messages that have not come.
    pub(super) kept: u32,
}

/// A device that is, or was, one of a member's.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PeerRow {
    pub(super) address: Address,
    #[serde(with = "identity::checked")]
    pub(super) identity: IdentityKey,
    pub(super) tag: Tag,
    /// It was given the chain that is in use, however long ago: it holds it until the next one.
    pub(super) holds: bool,
    /// It is to be given the chain before the next text.
    pub(super) due: bool,
    /// Changes are to be told to it.
    pub(super) owed_changes: bool,
    /// It knows these, and what they are built on.
    pub(super) told: Vec<ChangeId>,
    /// Texts that it gets apart.
    pub(super) owed: u32,
    /// It was no device of a member when the text of this number was written, nor before.
    pub(super) since: u64,
    /// It is no device of a member any more, and is only told so.
    pub(super) is_out: bool,
    /// The version of this account's device list that it was told.
    pub(super) list: u64,
    /// When changes were last waited for that it named.
    pub(super) waited: Option<UnixTime>,
    /// When it was last written to about the group, or is to be.
    pub(super) wrote: Option<UnixTime>,
}

impl PeerRow {
    /// A device that gets what is written after the text of this number.
    pub(super) const fn new(address: Address, identity: IdentityKey, tag: Tag, since: u64) -> Self {
        Self {
            address,
            identity,
            tag,
            holds: false,
            due: true,
            owed_changes: false,
            told: Vec::new(),
            owed: 0,
            since,
            is_out: false,
            list: 0,
            waited: None,
            wrote: None,
        }
    }
}

pub(super) const GROUP: u8 = 0;
pub(super) const CHANGE: u8 = 1;
pub(super) const PEER: u8 = 4;
// 2, 3 and 5 are in `group_keys`, 6, 7, 10, 11, 16 and 20 in `group_texts`, 8, 9 and 19 in
// `group_outs`, 12 is in `transaction`, 17 in `group_proposals`, 21 in `group_parts`.
const MEMBER: u8 = 18;
pub(super) const STEP: u8 = 13;
pub(super) const GONE: u8 = 14;
const FRESH: u8 = 15;

/// What stands in the row of a group that was looked at, where there is more to do at once.
const AGAIN: u8 = 1;

/// When a group is looked at again that no allowance was left for: after 10 minutes, each time.
const SHORT: BackOff = BackOff { first: 10 * 60, last: 10 * 60 };

impl GroupRow {
    pub(super) const fn new(id: GroupId, standing: GroupStanding, since: UnixTime) -> Self {
        Self {
            id,
            standing,
            changes: 0,
            renew: false,
            referenced: 0,
            tell: false,
            absent: Vec::new(),
            since,
            waits: None,
            asked: None,
            split: None,
            kept: 0,
        }
    }
}

/// The key of a row of a group.
pub(super) fn of(kind: u8, group: Tag, more: &[u8]) -> Vec<u8> {
    [&[kind][..], &group.0, more].concat()
}

// ---- The group and its roster.

pub(super) fn get(open: &mut Open<'_>, group: Tag) -> Result<Option<GroupRow>, Error> {
    open.get_as(Table::Group, &of(GROUP, group, &[]))
}

/// A group that this account is in or invited to.
///
/// # Errors
/// [`Error::UnknownGroup`]
pub(super) fn known(open: &mut Open<'_>, group: Tag) -> Result<GroupRow, Error> {
    let row = get(open, group)?;
    row.filter(|row| row.standing != GroupStanding::Out).ok_or(Error::UnknownGroup)
}

pub(super) fn put(open: &mut Open<'_>, group: Tag, row: &GroupRow) -> Result<(), Error> {
    let capacity = row.absent.len().saturating_mul(27).saturating_add(160);
    open.put_as(Table::Group, &of(GROUP, group, &[]), row, capacity)
}

/// All groups, those that this account is out of among them.
pub(super) fn all(open: &mut Open<'_>) -> Result<Vec<(Tag, GroupRow)>, Error> {
    let rows = open.scan(Table::Group, &[GROUP], usize::MAX)?;
    rows.iter().map(|(key, row)| Ok((tag_at(key, 1)?, at_rest::state::decode(1, row)?))).collect()
}

pub(super) fn roster(open: &mut Open<'_>, group: Tag) -> Result<Roster, Error> {
    let rows = open.scan(Table::Group, &of(CHANGE, group, &[]), usize::MAX)?;
    let changes: Result<Vec<Change>, Error> =
        rows.iter().map(|(_, row)| Change::restore(row)).collect();
    Roster::restore(changes?)
}

/// Adds changes. The caller writes the group's row.
pub(super) fn add_change(
    open: &mut Open<'_>,
    group: Tag,
    row: &mut GroupRow,
    change: &Change,
) -> Result<(), Error> {
    let key = of(CHANGE, group, &row.changes.to_be_bytes());
    row.changes = row.changes.saturating_add(1);
    open.put(Table::Group, &key, change.encode())
}

/// A member is known not to be in any more.
pub(super) fn note_gone(
    open: &mut Open<'_>,
    group: Tag,
    member: MemberId,
    now: UnixTime,
) -> Result<(), Error> {
    let key = of(GONE, group, member.as_bytes());
    if open.get(Table::Group, &key)?.is_some() {
        return Ok(());
    }
    open.put(Table::Group, &key, &now.as_secs().to_be_bytes())
}

/// Since when a member is known not to be in any more, where that was seen to happen.
pub(super) fn gone_since(
    open: &mut Open<'_>,
    group: Tag,
    member: MemberId,
) -> Result<Option<UnixTime>, Error> {
    time(open, &of(GONE, group, member.as_bytes()))
}

/// Notes who is in: `18 || tag of the user:16 || group:16`, with the account keys.
pub(super) fn note_members(
    open: &mut Open<'_>,
    group: Tag,
    before: Option<&Roster>,
    after: &Roster,
) -> Result<(), Error> {
    let known = before.map_or(&[][..], Roster::members);
    let ids = |all: &[GroupMember]| all.iter().map(|one| one.id).collect::<BTreeSet<MemberId>>();
    let (was_in, is_in) = (ids(known), ids(after.members()));
    let is_gone = |one: &&GroupMember| !is_in.contains(&one.id);
    for member in known.iter().filter(is_gone) {
        // Two ids of a user are one person.
        if !after.ids_in(&member.user).is_empty() {
            continue;
        }
        let key = member_key(open.tag(&member.user)?, group);
        open.delete(Table::Group, &key)?;
    }
    for member in after.members().iter().filter(|member| !was_in.contains(&member.id)) {
        let key = member_key(open.tag(&member.user)?, group);
        open.put(Table::Group, &key, member.account.as_bytes())?;
    }
    Ok(())
}

/// Forgets who is in.
pub(super) fn forget_members(open: &mut Open<'_>, group: Tag) -> Result<(), Error> {
    for member in roster(open, group)?.members() {
        let key = member_key(open.tag(&member.user)?, group);
        open.delete(Table::Group, &key)?;
    }
    Ok(())
}

/// What the keys of a user's memberships begin with.
fn memberships(user: Tag) -> Vec<u8> {
    [&[MEMBER][..], &user.0].concat()
}

fn member_key(user: Tag, group: Tag) -> Vec<u8> {
    [&memberships(user)[..], &group.0].concat()
}

/// Whether somebody of this name is in a group that is known here.
pub(super) fn is_member(open: &mut Open<'_>, user: Tag) -> Result<bool, Error> {
    Ok(!open.scan(Table::Group, &memberships(user), 1)?.is_empty())
}

/// Whether a user is, under this account key, in a group that this user has joined.
pub(super) fn shares_group(
    open: &mut Open<'_>,
    user: Tag,
    account: &IdentityKey,
) -> Result<bool, Error> {
    for (key, row) in open.scan(Table::Group, &memberships(user), usize::MAX)? {
        let group = get(open, tag_at(&key, 17)?)?;
        let is_in = group.is_some_and(|group| group.standing == GroupStanding::Joined);
        if is_in && row.as_slice() == account.as_bytes() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The server was asked for the device list of a user.
pub(super) fn note_fresh(open: &mut Open<'_>, user: Tag, now: UnixTime) -> Result<(), Error> {
    open.put(Table::Group, &of(FRESH, user, &[]), &now.as_secs().to_be_bytes())
}

/// When the server was last asked for the device list of a user.
pub(super) fn fresh(open: &mut Open<'_>, user: Tag) -> Result<Option<UnixTime>, Error> {
    time(open, &of(FRESH, user, &[]))
}

/// A user is forgotten: nothing is given to the user's devices any more.
pub(super) fn forget_user(open: &mut Open<'_>, user: Tag) -> Result<(), Error> {
    open.delete(Table::Group, &of(FRESH, user, &[]))?;
    open.put(Table::Group, &changed_user(user), &[])
}

fn time(open: &mut Open<'_>, key: &[u8]) -> Result<Option<UnixTime>, Error> {
    let Some(row) = open.get(Table::Group, key)? else { return Ok(None) };
    let secs = row.as_slice().try_into().map(u64::from_be_bytes).map_err(|_| Error::BadState)?;
    UnixTime::from_secs(secs).map(Some).map_err(|_| Error::BadState)
}

// ---- Whom it is given to.

pub(super) fn peers(open: &mut Open<'_>, group: Tag) -> Result<Vec<(Place, PeerRow)>, Error> {
    devices(open, PEER, group)
}

/// The rows of a kind, one for each device.
pub(super) fn devices<T: DeserializeOwned>(
    open: &mut Open<'_>,
    kind: u8,
    group: Tag,
) -> Result<Vec<(Place, T)>, Error> {
    let rows = open.scan(Table::Group, &of(kind, group, &[]), usize::MAX)?;
    rows.iter()
        .map(|(key, row)| Ok((place_at(key, 17)?, at_rest::state::decode(1, row)?)))
        .collect()
}

pub(super) fn peer(
    open: &mut Open<'_>,
    group: Tag,
    place: Place,
) -> Result<Option<PeerRow>, Error> {
    open.get_as(Table::Group, &of(PEER, group, &place.key()))
}

pub(super) fn put_peer(
    open: &mut Open<'_>,
    group: Tag,
    place: Place,
    row: &PeerRow,
) -> Result<(), Error> {
    open.put_as(Table::Group, &of(PEER, group, &place.key()), row, 1_040)
}

/// Forgets a device that is owed nothing.
pub(super) fn delete_peer(open: &mut Open<'_>, group: Tag, place: Place) -> Result<(), Error> {
    open.delete(Table::Group, &of(PEER, group, &place.key()))
}

// ---- Groups with work to do.

/// Something is new of a group: nothing of it leaves before it was looked at.
pub(super) fn set_step(open: &mut Open<'_>, group: Tag) -> Result<(), Error> {
    open.put(Table::Group, &of(STEP, group, &[]), &[])
}

/// A group was looked at, and there is more to do.
pub(super) fn set_step_again(open: &mut Open<'_>, group: Tag) -> Result<(), Error> {
    open.put(Table::Group, &of(STEP, group, &[]), &[AGAIN])
}

/// There is work for which no allowance is left: it stands in front of no other group.
pub(super) fn set_step_later(open: &mut Open<'_>, group: Tag, now: UnixTime) -> Result<(), Error> {
    let at = now.after(SHORT.first).as_secs();
    open.put(Table::Group, &of(STEP, group, &[]), &at.to_be_bytes())
}

pub(super) fn step_done(open: &mut Open<'_>, group: Tag) -> Result<(), Error> {
    open.delete(Table::Group, &of(STEP, group, &[]))
}

/// The groups that there is work for, and from when on, where that is later.
fn all_steps(open: &mut Open<'_>) -> Result<Vec<(Tag, Option<UnixTime>)>, Error> {
    let rows = open.peek(Table::Group, &[STEP], usize::MAX)?;
    let steps = rows.iter().map(|(key, row)| {
        let at = row.as_slice().try_into().map(u64::from_be_bytes).ok();
        Ok((tag_at(key, 1)?, at.and_then(|at| UnixTime::from_secs(at).ok())))
    });
    steps.collect()
}

/// The groups that there is work for now, at most `most`, by turns: whoever has some of them looked
/// at without end keeps no other one waiting.
pub(super) fn steps(open: &mut Open<'_>, now: UnixTime, most: usize) -> Result<Vec<Tag>, Error> {
    let due = all_steps(open)?.into_iter().filter(|(_, at)| is_due(*at, now));
    let mut due: Vec<Tag> = due.map(|(group, _)| group).collect();
    open.by_turns(&mut due, most, now);
    Ok(due)
}

/// The groups of which something is new that was not looked at yet.
pub(super) fn unlooked(open: &mut Open<'_>) -> Result<BTreeSet<Tag>, Error> {
    let rows = open.peek(Table::Group, &[STEP], usize::MAX)?;
    let new = rows.iter().filter(|(_, row)| row.is_empty());
    new.map(|(key, _)| tag_at(key, 1)).collect()
}

fn is_due(at: Option<UnixTime>, now: UnixTime) -> bool {
    at.is_none_or(|at| SHORT.is_due(at, now))
}

/// When there is more to do for groups; `most` were looked at, unless something is new since.
pub(super) fn next_due(open: &mut Open<'_>, next: &mut Earliest, most: usize) -> Result<(), Error> {
    let steps = all_steps(open)?;
    let due = steps.iter().filter(|(_, at)| is_due(*at, next.now())).count();
    if due > most || !unlooked(open)?.is_empty() {
        next.soon();
    }
    for (group, at) in steps {
        let waits = get(open, group)?.and_then(|row| row.waits);
        at.into_iter().chain(waits).for_each(|time| next.take(time));
    }
    Ok(())
}

/// Something that a device was told could not be opened: it is given its chains anew. Returns the
/// groups that it may have been about.
pub(super) fn lost(open: &mut Open<'_>, place: Place) -> Result<Vec<Tag>, Error> {
    let mut groups = Vec::new();
    for (group, row) in all(open)? {
        let peer = peer(open, group, place)?.filter(|peer| !peer.is_out);
        if let Some(mut peer) = peer.filter(|_| row.standing == GroupStanding::Joined) {
            peer.due = true;
            put_peer(open, group, place, &peer)?;
            set_step(open, group)?;
            groups.push(group);
        }
    }
    Ok(groups)
}

/// The groups of users of whom something else is known than before; it is forgotten that it is.
pub(super) fn take_changed(open: &mut Open<'_>) -> Result<BTreeSet<Tag>, Error> {
    let mut groups = BTreeSet::new();
    for (key, _) in open.peek(Table::Group, &[CHANGED_USER], usize::MAX)? {
        open.delete(Table::Group, &key)?;
        let user = tag_at(&key, 1)?;
        if user == open.own()?.tag {
            groups.extend(all(open)?.into_iter().map(|(group, _)| group));
        }
        for (key, _) in open.scan(Table::Group, &memberships(user), usize::MAX)? {
            groups.insert(tag_at(&key, 17)?);
        }
    }
    // Of what somebody is only invited to, there is nothing to do: invitations are many.
    let mut some = BTreeSet::new();
    for group in groups {
        if get(open, group)?.is_some_and(|row| row.standing != GroupStanding::Invited) {
            some.insert(group);
        }
    }
    Ok(some)
}

pub(super) fn tag_at(key: &[u8], at: usize) -> Result<Tag, Error> {
    key.get(at..).and_then(|key| key.first_chunk()).copied().map(Tag).ok_or(Error::BadState)
}

pub(super) fn place_at(key: &[u8], at: usize) -> Result<Place, Error> {
    key.get(at..).and_then(|key| key.first_chunk()).map(Place::read).ok_or(Error::BadState)
}
