//! What people want to change in a group, and the signed change that does it.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::fmt;

use rand_core::CryptoRng;

use super::group_changes;
use super::group_members;
use super::group_rows::{self, GroupRow};
use super::group_send;
use super::transaction::{Open, Tag};
use crate::content::ProposedChange;
use crate::error::Error;
use crate::group::{Change, GroupId, GroupRole, MemberId, Op, Roster};
use crate::time::UnixTime;

/// What a person wants to change in a group: see
/// [`Client::change_group`](crate::Client::change_group).
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupIntention<'a> {
    /// Add this user, whose account key is the one that is known here. A member that stands for the
    /// user under another account key is removed by the same change: so whoever has a new key is in
    /// again, as no admin.
    Add(&'a str),
    /// Remove this user, and every member that stands for the user.
    Remove(&'a str),
    /// Make this user an admin.
    Promote(&'a str),
    /// Take the rights of this admin. They can only be given back with another `Remove` and `Add`.
    Demote(&'a str),
    /// Set the title, the picture and whatever else the app keeps for the group: at most 4 KiB,
    /// which this crate does not read.
    Set(&'a [u8]),
    /// Leave.
    Leave,
    /// Do what this user did and what does not count
    /// ([`GroupInfo::voided`](crate::GroupInfo::voided)): the same people are added, under the
    /// account keys that are known here, the same members promoted, the same settings set. Beside
    /// a `Remove` of the user, it does what this removal voids. Of more than 64 of these, the rest
    /// takes another call.
    Restore(&'a str),
}

/// Shows how long the settings are.
impl fmt::Debug for GroupIntention<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&ProposedChange::from(*self), f)
    }
}

impl From<GroupIntention<'_>> for ProposedChange {
    fn from(intention: GroupIntention<'_>) -> Self {
        match intention {
            GroupIntention::Add(user) => Self::Add(user.into()),
            GroupIntention::Remove(user) => Self::Remove(user.into()),
            GroupIntention::Promote(user) => Self::Promote(user.into()),
            GroupIntention::Demote(user) => Self::Demote(user.into()),
            GroupIntention::Set(bytes) => Self::Set(bytes.to_vec()),
            GroupIntention::Leave => Self::Leave,
            GroupIntention::Restore(user) => Self::Restore(user.into()),
        }
    }
}

impl<'a> From<&'a ProposedChange> for GroupIntention<'a> {
    fn from(change: &'a ProposedChange) -> Self {
        match change {
            ProposedChange::Add(user) => Self::Add(user),
            ProposedChange::Remove(user) => Self::Remove(user),
            ProposedChange::Promote(user) => Self::Promote(user),
            ProposedChange::Demote(user) => Self::Demote(user),
            ProposedChange::Set(bytes) => Self::Set(bytes),
            ProposedChange::Leave => Self::Leave,
            ProposedChange::Restore(user) => Self::Restore(user),
        }
    }
}

/// A change as it would be.
pub(super) struct Draft {
    pub(super) tag: Tag,
    pub(super) row: GroupRow,
    pub(super) roster: Roster,
    /// The member that this account is.
    pub(super) by: MemberId,
    pub(super) ops: Vec<Op>,
}

/// What a change would do, in a group that this account is in or invited to.
///
/// # Errors
/// [`Error::UnknownGroup`], [`Error::NotPermitted`], [`Error::DevicesNeeded`],
/// [`Error::IdentityChanged`], [`Error::Unlinked`].
pub(super) fn draft(
    open: &mut Open<'_>,
    group: GroupId,
    intentions: &[GroupIntention<'_>],
) -> Result<Draft, Error> {
    let own = open.linked()?;
    let tag = open.group_tag(group.as_bytes());
    let row = group_rows::known(open, tag)?;
    let roster = group_rows::roster(open, tag)?;
    let own_ids = roster.ids_in(&own.user.name);
    let by = own_ids.first().copied().ok_or(Error::UnknownGroup)?;
    let mut ops = Vec::new();
    for intention in intentions {
        match *intention {
            GroupIntention::Add(name) => {
                let op = add(open, name, GroupRole::Member)?;
                ops.extend(under_other_keys(&roster, &op).map(Op::Remove));
                ops.push(op);
            }
            GroupIntention::Set(bytes) => ops.push(Op::Settings(bytes.to_vec())),
            GroupIntention::Leave => ops.extend(own_ids.iter().copied().map(Op::Remove)),
            GroupIntention::Remove(name) => ops.extend(some_of(&roster, name)?.map(Op::Remove)),
            GroupIntention::Promote(name) => ops.extend(some_of(&roster, name)?.map(Op::Promote)),
            GroupIntention::Demote(name) => ops.extend(some_of(&roster, name)?.map(Op::Demote)),
            GroupIntention::Restore(_) => {}
        }
    }
    // With a `Remove` of the same user there is nothing more to remove.
    let mut removed = BTreeSet::new();
    ops.retain(|op| !matches!(op, Op::Remove(id) if !removed.insert(*id)));
    restore(open, (&roster, by), intentions, &mut ops)?;
    Ok(Draft { tag, row, roster, by, ops })
}

/// Adds the ops that do after all what is void once the other ops are done.
fn restore(
    open: &mut Open<'_>,
    (roster, by): (&Roster, MemberId),
    intentions: &[GroupIntention<'_>],
    ops: &mut Vec<Op>,
) -> Result<(), Error> {
    let of: Vec<&str> = intentions
        .iter()
        .filter_map(|intention| match intention {
            GroupIntention::Restore(user) => Some(*user),
            _ => None,
        })
        .collect();
    if of.is_empty() {
        return Ok(());
    }
    let voided = roster.preview(by, ops)?.voided();
    for one in voided.into_iter().filter(|one| of.contains(&&*one.by)) {
        let op = match one.op {
            Op::Add { user, role, .. } => add(open, &user, role)?,
            other => other,
        };
        if ops.len() < Change::MAX_OPS && !ops.iter().any(|known| known.excludes(&op)) {
            ops.push(op);
        }
    }
    Ok(())
}

/// Makes one signed change with all of these intentions.
pub(super) fn change(
    open: &mut Open<'_>,
    group: GroupId,
    intentions: &[GroupIntention<'_>],
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let draft = draft(open, group, intentions)?;
    if leave_here(open, &draft, intentions)? {
        return Ok(());
    }
    let account = open.account_key()?;
    let Draft { tag, mut row, roster: before, by, ops } = draft;
    // There is nothing to restore any more.
    if ops.is_empty() && !intentions.is_empty() {
        return Ok(());
    }
    let mut roster = before.clone();
    let change = roster.sign(by, &ops, &account)?;
    let accepted = roster.merge([change]).accepted;
    group_changes::keep(open, (tag, &mut row), Some(&before), &roster, &accepted, now)?;
    row.tell = true;
    let is_out = roster.ids_in(&open.account.user).is_empty();
    group_rows::put(open, tag, &row)?;
    if is_out {
        group_members::out(open, tag)?;
    }
    group_send::step(open, tag, now, rng)
}

/// Leaves a group in which this account is only under a key that was replaced. Nobody can sign for
/// that membership any more: it ends on this device, and the others see a member without keys, whom
/// an admin can remove. Says whether that is what is wanted.
pub(super) fn leave_here(
    open: &mut Open<'_>,
    draft: &Draft,
    intentions: &[GroupIntention<'_>],
) -> Result<bool, Error> {
    let own = open.own()?;
    let is_replaced = group_members::member_of(&draft.roster, &own.user).is_none();
    if intentions != [GroupIntention::Leave] || !is_replaced {
        return Ok(false);
    }
    group_members::out(open, draft.tag).map(|()| true)
}

/// Adds a user under the account key that is known here.
///
/// # Errors
/// [`Error::DevicesNeeded`], [`Error::IdentityChanged`], [`Error::BadName`].
pub(super) fn add(open: &mut Open<'_>, name: &str, role: GroupRole) -> Result<Op, Error> {
    let (_, user) = open.known_user(name)?;
    if user.waits() {
        return Err(Error::IdentityChanged(name.into()));
    }
    Ok(Op::Add { user: name.into(), account: user.list.account(), role })
}

/// The members that stand for the user of an add, under another account key than that.
fn under_other_keys<'r>(roster: &'r Roster, op: &'r Op) -> impl Iterator<Item = MemberId> {
    roster.members().iter().filter_map(move |member| match op {
        Op::Add { user, account, .. } => {
            (member.user == *user && member.account != *account).then_some(member.id)
        }
        _ => None,
    })
}

fn some_of(roster: &Roster, user: &str) -> Result<impl Iterator<Item = MemberId>, Error> {
    let ids = roster.ids_in(user);
    if ids.is_empty() { Err(Error::NotPermitted) } else { Ok(ids.into_iter()) }
}

/// As a device without the account key proposes it.
pub(super) fn proposed(intentions: &[GroupIntention<'_>]) -> Vec<ProposedChange> {
    intentions.iter().copied().map(ProposedChange::from).collect()
}
