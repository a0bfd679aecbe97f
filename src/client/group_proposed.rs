//! What the other devices of the account propose to this one, which holds the account key.
//!
//! A device that was linked without the account key was not meant to speak for the account. So it
//! can have the account leave a group in which it is no admin, and nothing else: everything else a
//! person decides on a device that holds the key.

use alloc::vec::Vec;

use rand_core::CryptoRng;

use super::allowances::{self, PROPOSALS, Party};
use super::events::Event;
use super::group_changes::From;
use super::group_intentions::{self, GroupIntention};
use super::group_proposals;
use super::group_rows;
use super::inbox;
use super::transaction::{Open, Tag};
use crate::content::{ProposalBody, ProposedChange};
use crate::error::Error;
use crate::group::{GroupId, GroupRole, MemberId};
use crate::time::UnixTime;

/// Takes in a proposal of a listed device.
pub(super) fn take(
    open: &mut Open<'_>,
    from: &From<'_>,
    proposal: ProposalBody<'_>,
    rng: &mut dyn CryptoRng,
) -> Result<(), Error> {
    let (group, tag) = (proposal.group, open.group_tag(proposal.group.as_bytes()));
    if !open.is_own(&from.user.name) || !is_young(proposal.made, from.now) {
        return Ok(());
    }
    match open.account_key() {
        Ok(_) => {}
        Err(Error::NotPermitted) => return Ok(()),
        Err(error) => return Err(error),
    }
    match group_rows::known(open, tag) {
        Ok(_) => {}
        Err(Error::UnknownGroup) => return Ok(()),
        Err(error) => return Err(error),
    }
    let roster = group_rows::roster(open, tag)?;
    // It was meant for another membership: the user left since, and is in again.
    let member = MemberId::from(*proposal.member);
    if !roster.ids_in(&from.user.name).contains(&member) {
        return Ok(());
    }
    let party = Party::Contact(Tag(from.place.device));
    if !allowances::take(open, &PROPOSALS, party, 1, from.now)? {
        return Ok(());
    }
    let changes = ProposedChange::decode_all(proposal.changes)?;
    // A person is not asked for what could not be done.
    if !is_possible(open, group, &changes)? {
        return Ok(());
    }
    let made = changes == [ProposedChange::Leave]
        && roster.role_in(&from.user.name) != Some(GroupRole::Admin)
        && leave(open, from, &proposal, rng)?;
    let by = from.address.clone();
    inbox::tell(open, Event::GroupProposal { group, by, changes, made }, from.now, rng)
}

/// Whether a proposal is no older than its device waits for it. A clock may be ahead.
fn is_young(made: u64, now: UnixTime) -> bool {
    UnixTime::from_secs(made).is_ok_and(|made| now.apart(made) <= group_proposals::AGE)
}

/// Whether this device could make these changes now, as far as it can tell.
fn is_possible(
    open: &mut Open<'_>,
    group: GroupId,
    changes: &[ProposedChange],
) -> Result<bool, Error> {
    let intentions: Vec<GroupIntention<'_>> = changes.iter().map(GroupIntention::from).collect();
    let previewed = group_intentions::draft(open, group, &intentions)
        .and_then(|draft| draft.roster.preview(draft.by, &draft.ops));
    match previewed {
        // The person may see to the account key first.
        Ok(_) | Err(Error::DevicesNeeded(_) | Error::IdentityChanged(_)) => Ok(true),
        Err(
            Error::NotPermitted
            | Error::Malformed
            | Error::BadName
            | Error::Exhausted
            | Error::UnknownGroup
            | Error::Unlinked,
        ) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Leaves a group. False where this device may not.
fn leave(
    open: &mut Open<'_>,
    from: &From<'_>,
    proposal: &ProposalBody<'_>,
    rng: &mut dyn CryptoRng,
) -> Result<bool, Error> {
    let leave = [GroupIntention::Leave];
    match group_intentions::change(open, proposal.group, &leave, from.now, rng) {
        Ok(()) => Ok(true),
        // The group is full of changes, or this device is none of the account any more.
        Err(Error::Exhausted | Error::NotPermitted | Error::Unlinked) => Ok(false),
        Err(error) => Err(error),
    }
}
