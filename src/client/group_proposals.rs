//! Changes of groups that this device proposes to the managers of its account, and that wait until
//! one of them signs them.

use alloc::vec::Vec;

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use super::events::Event;
use super::group_rows::of;
use super::inbox;
use super::outbox::{self, Target};
use super::timers;
use super::transaction::{Open, Tag};
use super::wants::{self, Want};
use crate::address::Address;
use crate::at_rest;
use crate::content::{Body, GroupBody, MessageId, ProposalBody, ProposedChange};
use crate::devices::{ListedDevice, Role};
use crate::error::Error;
use crate::group::{GroupId, GroupRole, MemberId, Roster};
use crate::store::Table;
use crate::time::UnixTime;

/// What this device proposed to the managers of its account: see
/// [`Client::change_group`](crate::Client::change_group).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Proposal {
    /// When.
    pub made: UnixTime,
    /// The changes.
    pub changes: Vec<ProposedChange>,
}

#[derive(Serialize, Deserialize)]
struct Row {
    group: GroupId,
    id: MessageId,
    made: UnixTime,
    /// The member that this account was then.
    member: MemberId,
    changes: Vec<ProposedChange>,
    /// Managers that are not told yet.
    waiting: Vec<u32>,
}

/// `17 || group:16 || name:24` in the table of groups.
const PROPOSAL: u8 = 17;

/// Proposals for one group that wait.
const MOST: usize = 16;

/// Seconds after which a proposal is worth nothing any more: 7 days.
pub(super) const AGE: u64 = 7 * 24 * 60 * 60;

/// Proposes changes to every manager of the account.
///
/// # Errors
/// [`Error::NotPermitted`]: the account has no other manager. [`Error::RateLimited`]: 16 proposals
/// for the group wait already. [`Error::Malformed`]: nobody can propose these.
pub(super) fn propose(
    open: &mut Open<'_>,
    (tag, group): (Tag, GroupId),
    member: MemberId,
    changes: Vec<ProposedChange>,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    ProposedChange::encode_all(&changes)?;
    let own = open.linked()?;
    let here = open.account.identity;
    let is_meant = |one: &&ListedDevice| one.role == Role::Manager && one.identity != here;
    let managers: Vec<ListedDevice> =
        own.user.list.devices().iter().filter(is_meant).copied().collect();
    if managers.is_empty() {
        return Err(Error::NotPermitted);
    }
    let known = rows(open, &of(PROPOSAL, tag, &[]))?;
    if known.iter().any(|(_, row)| row.member == member && row.changes == changes) {
        return Ok(());
    }
    if known.len() >= MOST {
        return Err(Error::RateLimited);
    }
    let id = MessageId::random(rng);
    let mut row = Row { group, id, made: now, member, changes, waiting: Vec::new() };
    for listed in managers {
        match outbox::target(open, own.tag, &own.user, &listed, now)? {
            Some(mut target) => post(open, &mut target, &row, now, rng)?,
            None => {
                row.waiting.push(listed.device);
                let address = Address::new(&own.user.name, listed.device);
                wants::want(open, Want::Bundle(address), now)?;
            }
        }
    }
    let name = open.row_name(now, 0, rng);
    put(open, &of(PROPOSAL, tag, &name), &row)?;
    timers::set_proposal(open, now.after(AGE.saturating_add(1)), tag, &name)
}

fn post(
    open: &mut Open<'_>,
    target: &mut Target,
    row: &Row,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let changes = ProposedChange::encode_all(&row.changes)?;
    let body = GroupBody::Proposal(ProposalBody {
        group: row.group,
        id: row.id.as_bytes(),
        made: row.made.as_secs(),
        member: row.member.as_bytes(),
        changes: &changes,
    });
    outbox::tell(open, target, Body::Group(body), None, now, rng).map(drop)
}

/// What waits for a group.
pub(super) fn all(open: &mut Open<'_>, group: Tag) -> Result<Vec<Proposal>, Error> {
    let rows = rows(open, &of(PROPOSAL, group, &[]))?.into_iter();
    Ok(rows.map(|(_, Row { made, changes, .. })| Proposal { made, changes }).collect())
}

/// Whether a manager of the account is to be told a proposal.
pub(super) fn any_for(open: &mut Open<'_>, of: &Address) -> Result<bool, Error> {
    if !open.is_own(&of.user) {
        return Ok(false);
    }
    let rows = rows(open, &[PROPOSAL])?;
    Ok(rows.iter().any(|(_, row)| row.waiting.contains(&of.device)))
}

/// Tells a manager what it is to be told, now that there is a session.
pub(super) fn go_on(
    open: &mut Open<'_>,
    target: &mut Target,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let device = target.address.device;
    for (key, mut row) in rows(open, &[PROPOSAL])? {
        if open.is_own(&target.address.user) && row.waiting.contains(&device) {
            row.waiting.retain(|waiting| *waiting != device);
            post(open, target, &row, now, rng)?;
            put(open, &key, &row)?;
        }
    }
    Ok(())
}

/// A device of the account could not open something that may have been a proposal: it is told all
/// of them again, and takes in each once.
pub(super) fn again(
    open: &mut Open<'_>,
    target: &mut Target,
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let own = open.own()?;
    let listed = own.user.list.device_of(&target.record.identity);
    if !listed.is_some_and(|listed| listed.role == Role::Manager) {
        return Ok(());
    }
    for (_, row) in rows(open, &[PROPOSAL])? {
        post(open, target, &row, now, rng)?;
    }
    Ok(())
}

/// What a roster has by now waits no more.
pub(super) fn settle(open: &mut Open<'_>, group: Tag, roster: &Roster) -> Result<(), Error> {
    for (key, row) in rows(open, &of(PROPOSAL, group, &[]))? {
        let mut is_left = false;
        for change in &row.changes {
            is_left |= !is_made(open, roster, row.member, change)?;
        }
        if !is_left {
            open.delete(Table::Group, &key)?;
        }
    }
    Ok(())
}

fn is_made(
    open: &mut Open<'_>,
    roster: &Roster,
    member: MemberId,
    change: &ProposedChange,
) -> Result<bool, Error> {
    Ok(match change {
        ProposedChange::Leave => roster.member(member).is_none(),
        // A user who has another account key by now may be in under a former one.
        ProposedChange::Add(user) => {
            let known = open.user(open.tag(user)?)?.map(|user| user.list.account());
            let mut members = roster.members().iter().filter(|one| *one.user == **user);
            members.any(|one| known.is_none_or(|known| known == one.account))
        }
        ProposedChange::Remove(user) => roster.role_in(user).is_none(),
        ProposedChange::Promote(user) => roster.role_in(user) == Some(GroupRole::Admin),
        ProposedChange::Demote(user) => roster.role_in(user) != Some(GroupRole::Admin),
        ProposedChange::Set(bytes) => roster.settings() == Some(&bytes[..]),
        ProposedChange::Restore(user) => !roster.voided().iter().any(|one| *one.by == **user),
    })
}

/// Nobody signed it in time: the person is told.
pub(super) fn expire(
    open: &mut Open<'_>,
    subject: &[u8],
    now: UnixTime,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let key = [&[PROPOSAL][..], subject].concat();
    let Some(row) = open.get_as::<Row>(Table::Group, &key)? else { return Ok(()) };
    open.delete(Table::Group, &key)?;
    inbox::tell(open, Event::GroupProposalExpired { group: row.group }, now, rng)
}

/// Forgets what waits for a group.
pub(super) fn forget(open: &mut Open<'_>, group: Tag) -> Result<(), Error> {
    open.delete_all(Table::Group, &of(PROPOSAL, group, &[]))
}

fn rows(open: &mut Open<'_>, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Row)>, Error> {
    let rows = open.scan(Table::Group, prefix, usize::MAX)?.into_iter();
    rows.map(|(key, row)| Ok((key, at_rest::state::decode(1, &row)?))).collect()
}

fn put(open: &mut Open<'_>, key: &[u8], row: &Row) -> Result<(), Error> {
    let length = ProposedChange::stored(&row.changes).saturating_add(256);
    open.put_as(Table::Group, key, row, length)
}
