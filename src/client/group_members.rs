//! Which devices may have keys of a group, and what is known of those that may not any more.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;

use super::group_keys::{self, GiverRow};
use super::group_proposals;
use super::group_rows::{self, GroupRow, GroupStanding, PeerRow};
use super::group_texts;
use super::log;
use super::timers;
use super::transaction::{Open, Place, Tag};
use super::wants::{self, Want};
use crate::address::Address;
use crate::devices::ListedDevice;
use crate::error::Error;
use crate::group::{GroupMember, MemberId, Roster};
use crate::identity::IdentityKey;
use crate::sesame::{Pending, UserRecord};
use crate::time::UnixTime;

/// Seconds for which late mail of a device that is no member's any more is shown.
pub(super) const LATE: u64 = 24 * 60 * 60;

/// A device of a member, who may have keys.
pub(super) struct Target {
    pub(super) tag: Tag,
    pub(super) user: Arc<UserRecord>,
    pub(super) listed: ListedDevice,
}

/// The devices of members that may have keys, by the keys of their rows.
pub(super) type Targets = BTreeMap<[u8; 32], Target>;

/// The devices of members that may have keys, and the members whose devices are not
/// known: their lists are wanted, or a person has to accept an account key, which may be the one
/// that the group has for the member. Of a member under a key that is not the user's any more, there
/// are none.
pub(super) fn targets(
    open: &mut Open<'_>,
    roster: &Roster,
    now: UnixTime,
) -> Result<(Targets, Vec<MemberId>), Error> {
    let (mut targets, mut absent) = (BTreeMap::new(), Vec::new());
    let here = open.account.identity;
    for member in roster.members().iter().filter(|member| !member.suspended) {
        let tag = open.tag(&member.user)?;
        let Some(user) = open.user(tag)? else {
            wants::want(open, Want::Devices((*member.user).into()), now)?;
            absent.push(member.id);
            continue;
        };
        let is_known = user.list.account() == member.account;
        if !is_known && user.is_former(&member.account) {
            continue;
        }
        if !is_known || user.waits() {
            absent.push(member.id);
            continue;
        }
        let user = Arc::new(user);
        let is_kept = |one: &&ListedDevice| one.identity != here && !user.is_doubted(&one.identity);
        for listed in user.list.devices().iter().filter(is_kept) {
            let place = open.place(tag, &listed.identity);
            let user = Arc::clone(&user);
            targets.insert(place.key(), Target { tag, user, listed: *listed });
        }
    }
    Ok((targets, absent))
}

fn has_session(open: &mut Open<'_>, target: &Target) -> Result<bool, Error> {
    let place = open.place(target.tag, &target.listed.identity);
    Ok(open.record(place, &target.listed.identity)?.writing().is_some())
}

/// The other devices of this account.
fn own_targets(open: &mut Open<'_>) -> Result<Targets, Error> {
    let (own, here) = (open.own()?, open.account.identity);
    let others = own.user.list.devices().iter().filter(|listed| listed.identity != here);
    let all = others.map(|listed| {
        let user = Arc::clone(&own.user);
        let target = Target { tag: own.tag, user, listed: *listed };
        (open.place(own.tag, &listed.identity).key(), target)
    });
    Ok(all.collect())
}

/// The member that this account is.
pub(super) fn own_member(open: &mut Open<'_>, roster: &Roster) -> Result<Option<MemberId>, Error> {
    let own = open.own()?;
    let own = member_of(roster, &own.user).filter(|member| !member.suspended);
    Ok(own.map(|member| member.id))
}

/// The member that a user is, under the account key that is known here.
pub(super) fn member_of<'r>(roster: &'r Roster, user: &UserRecord) -> Option<&'r GroupMember> {
    roster
        .members()
        .iter()
        .find(|member| *member.user == *user.name && member.account == user.list.account())
}

/// A device that something may be told to, as it is stored and as it is to be.
pub(super) struct Peer {
    pub(super) place: Place,
    pub(super) row: PeerRow,
    pub(super) stored: Option<PeerRow>,
}

/// Brings what is known of devices up to date with a roster.
pub(super) struct Settling<'a> {
    pub(super) group: Tag,
    pub(super) row: &'a mut GroupRow,
    pub(super) roster: &'a Roster,
    pub(super) targets: &'a Targets,
    /// The number of the last text that is not for a device that is new now.
    pub(super) before: u64,
}

impl Settling<'_> {
    /// The devices: those that are no member's any more go once they are told so, and the chain is
    /// renewed if one of them holds it.
    pub(super) fn peers(
        &mut self,
        open: &mut Open<'_>,
        own: Option<MemberId>,
        absent: &[MemberId],
    ) -> Result<Vec<Peer>, Error> {
        let Self { group, targets, roster, before, .. } = *self;
        let is_out = self.row.standing == GroupStanding::Out;
        let (mut peers, mut known, mut is_lost) = (Vec::new(), BTreeSet::new(), false);
        let mut withheld = BTreeMap::new();
        for (place, mut peer) in group_rows::peers(open, group)? {
            let stored = Some(peer.clone());
            // Whoever was out before is told nothing of what comes later.
            peer.owed_changes |= self.row.tell && !peer.is_out;
            let is_in = targets.contains_key(&place.key()) && !is_out;
            let is_undecided =
                !is_in && !is_out && !peer.is_out && self.is_undecided(open, &peer)?;
            match (is_in, peer.is_out) {
                (true, false) => {}
                // It gets what is written once that is decided, and the chain with it.
                (false, false) if is_undecided => {
                    is_lost |= mem::take(&mut peer.holds);
                    peer.due = true;
                }
                (true, true) => {
                    (peer.is_out, peer.due) = (false, true);
                    peer.owed_changes |= self.row.tell;
                    self.catch_up(open, place, &mut peer)?;
                }
                (false, _) => {
                    is_lost |= mem::take(&mut peer.holds);
                    // What somebody wrote who leaves is for those who were in.
                    if !peer.is_out && !is_out {
                        withheld.entry(peer.address.clone()).or_insert_with(Vec::new).push(place);
                    }
                    (peer.is_out, peer.due) = (true, false);
                    group_texts::owe_nothing(open, group, place, &mut peer)?;
                    if !peer.owed_changes {
                        group_rows::delete_peer(open, group, place)?;
                        continue;
                    }
                }
            }
            known.insert(place.key());
            peers.push(Peer { place, row: peer, stored });
        }
        group_texts::withhold(open, group, &withheld)?;
        if is_lost && !is_out {
            // What is encrypted under a chain that it holds does not leave any more.
            self.row.renew = true;
            group_texts::again(open, group)?;
        }
        let made = |member: MemberId| roster.changes().any(|change| change.author() == member);
        let tells = self.row.tell || own.is_some_and(made);
        // Who declines tells that, and nothing else, and begins no session for it.
        let own = if is_out && self.row.tell { own_targets(open)? } else { Targets::new() };
        let all = targets.iter().chain(&own).filter(|_| !is_out || self.row.tell);
        for (_, target) in all.filter(|(key, _)| !known.contains(*key)) {
            if is_out && !has_session(open, target)? {
                continue;
            }
            let (place, mut row) = self.add(open, target, tells)?;
            (row.is_out, row.due) = (is_out, !is_out);
            peers.push(Peer { place, row, stored: None });
        }
        self.row.tell = false;
        let known = mem::take(&mut self.row.absent);
        self.row.absent = absent
            .iter()
            .map(|id| known.iter().find(|known| known.0 == *id).copied().unwrap_or((*id, before)))
            .collect();
        Ok(peers)
    }

    /// Whether a device is one of a member's by the list that is known, while something has to be
    /// found out about the account key of its user. The member may be in under either of two keys.
    fn is_undecided(&self, open: &mut Open<'_>, peer: &PeerRow) -> Result<bool, Error> {
        let user = open.user(peer.tag)?.filter(UserRecord::waits);
        let Some(user) = user else { return Ok(false) };
        let waits = user.pending.as_deref().map(|Pending(list)| list.account());
        let is_member = self.roster.members().iter().any(|member| {
            let is_theirs = member.account == user.list.account() || Some(member.account) == waits;
            *member.user == *user.name && is_theirs && !member.suspended
        });
        Ok(is_member && user.list.device_of(&peer.identity).is_some())
    }

    /// A device is a member's again, or for the first time: it gets what is written from now on,
    /// and is owed what was written while its user's devices were not known.
    fn catch_up(&self, open: &mut Open<'_>, place: Place, peer: &mut PeerRow) -> Result<(), Error> {
        let user = open.user(peer.tag)?;
        let member = user.as_ref().and_then(|user| member_of(self.roster, user));
        let mut absent = self.row.absent.iter();
        let absent = absent.find(|(id, _)| member.is_some_and(|member| member.id == *id));
        peer.since = absent.map_or(self.before, |(_, since)| *since);
        if absent.is_some() {
            for text in group_texts::since(open, self.group, peer.since)? {
                group_texts::owe(open, place, peer, text)?;
            }
        }
        Ok(())
    }

    /// A device that is a member's now.
    fn add(
        &self,
        open: &mut Open<'_>,
        target: &Target,
        tells: bool,
    ) -> Result<(Place, PeerRow), Error> {
        let place = open.place(target.tag, &target.listed.identity);
        let address = Address::new(&target.user.name, target.listed.device);
        let mut peer = PeerRow::new(address, target.listed.identity, target.tag, self.before);
        peer.owed_changes = tells || open.is_own(&target.user.name);
        self.catch_up(open, place, &mut peer)?;
        Ok((place, peer))
    }
}

/// What a device that is no member's gave is used for late mail alone, and then goes.
pub(super) fn mark_gone(
    open: &mut Open<'_>,
    (group, row): (Tag, &mut GroupRow),
    targets: &Targets,
    now: UnixTime,
) -> Result<(), Error> {
    for (place, mut giver) in group_keys::givers(open, group)? {
        let is_in = targets.contains_key(&place.key());
        match giver.gone {
            Some(since) if !is_in && now.since(since) > LATE => {
                group_keys::delete_giver(open, (group, &mut *row), place, &giver)?;
            }
            None if !is_in => set_gone(open, group, place, &mut giver, now)?,
            Some(_) if is_in => {
                (giver.gone, giver.late) = (None, 0);
                group_keys::put_giver(open, group, place, &giver)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// What is kept of a device that gave no chain, since its mail is sealed, while its late mail is
/// shown. None where its user was never seen to leave, or too long ago.
pub(super) fn late_giver(
    open: &mut Open<'_>,
    (group, roster): (Tag, &Roster),
    user: &UserRecord,
    (address, identity, place): (&Address, IdentityKey, Place),
    now: UnixTime,
) -> Result<Option<GiverRow>, Error> {
    let was = Some((user.name.as_str(), user.list.account()));
    let ids = roster.ids_of(&user.name).into_iter();
    for id in ids.filter(|id| roster.was_given_for(*id) == was) {
        let since = group_rows::gone_since(open, group, id)?;
        if let Some(since) = since.filter(|since| now.since(*since) <= LATE) {
            let mut giver = GiverRow::new(address.clone(), identity, id);
            set_gone(open, group, place, &mut giver, since)?;
            return Ok(Some(giver));
        }
    }
    Ok(None)
}

/// A device is no member's any more.
pub(super) fn set_gone(
    open: &mut Open<'_>,
    group: Tag,
    place: Place,
    giver: &mut GiverRow,
    now: UnixTime,
) -> Result<(), Error> {
    giver.gone = Some(now);
    timers::set_giver(open, now.after(LATE.saturating_add(1)), group, place)?;
    group_keys::put_giver(open, group, place, giver)
}

/// Deletes what is kept of a device longer than it may be.
pub(super) fn expire(open: &mut Open<'_>, subject: &[u8], now: UnixTime) -> Result<(), Error> {
    let Some((group, place)) = timers::of_group(subject) else { return Ok(()) };
    let Some(mut row) = group_rows::get(open, group)? else { return Ok(()) };
    let Some(mut giver) = group_keys::giver(open, group, place)? else { return Ok(()) };
    if giver.gone.is_some_and(|since| now.since(since) > LATE) {
        group_keys::delete_giver(open, (group, &mut row), place, &giver)?;
    } else {
        let mut record = giver.record()?;
        let before = group_keys::labels(&record);
        record.expire(now);
        group_keys::put_record(open, (group, &mut row), place, &mut giver, &record)?;
        group_keys::put_labels(open, group, place, &record, (&before, None))?;
    }
    group_rows::put(open, group, &row)
}

/// This account is out of a group, if it is in.
pub(super) fn out(open: &mut Open<'_>, group: Tag) -> Result<(), Error> {
    let Some(mut row) = group_rows::get(open, group)? else { return Ok(()) };
    leave(open, group, &mut row)?;
    group_rows::put(open, group, &row)
}

/// This account is out of a group: what it encrypted with goes, and what others gave it. The caller
/// writes the group's row.
pub(super) fn leave(open: &mut Open<'_>, group: Tag, row: &mut GroupRow) -> Result<(), Error> {
    row.standing = GroupStanding::Out;
    group_proposals::forget(open, group)?;
    group_keys::delete_key(open, group)?;
    for (place, giver) in group_keys::givers(open, group)? {
        group_keys::delete_giver(open, (group, &mut *row), place, &giver)?;
    }
    group_texts::drop_pending(open, group)
}

/// Forgets a group that this account is out of.
pub(super) fn forget(open: &mut Open<'_>, group: Tag) -> Result<(), Error> {
    group_texts::forget(open, group)?;
    log::forget(open, group)?;
    group_proposals::forget(open, group)?;
    group_rows::forget_members(open, group)?;
    group_keys::forget(open, group)
}
