//! What is known of groups, by row.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::backoff::Earliest;
use super::timers;
use super::transaction::{CHANGED_USER, Open, Place, Tag, changed_user};
use crate::address::Address;
use crate::at_rest;
use crate::error::Error;
use crate::group::{
    Change, ChangeId, GroupId, GroupMember, Label, MemberId, Roster, SenderKey, SenderKeyRecord,
};
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
    kept: u32,
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

/// What a device gave this one.
#[derive(Serialize, Deserialize)]
pub(super) struct GiverRow {
    pub(super) address: Address,
    #[serde(with = "identity::checked")]
    pub(super) identity: IdentityKey,
    pub(super) member: MemberId,
    /// Since when it is no device of a member.
    pub(super) gone: Option<UnixTime>,
    /// Texts since then.
    pub(super) late: u32,
    /// Keys that are kept of messages that have not come.
    kept: u32,
    #[serde(with = "at_rest::run")]
    record: Vec<u8>,
}

const GROUP: u8 = 0;
const CHANGE: u8 = 1;
const KEY: u8 = 2;
const GIVER: u8 = 3;
const PEER: u8 = 4;
const LABEL: u8 = 5;
// 6, 7, 10, 11, 16 and 20 are in `group_texts`, 8, 9 and 19 in `group_outs`, 12 is in
// `transaction`, 17 in `group_proposals`.
const MEMBER: u8 = 18;
const STEP: u8 = 13;
const GONE: u8 = 14;
const FRESH: u8 = 15;

/// Keys that are kept of messages of a group that have not come, of all devices.
const MOST_KEPT: u32 = 20_000;

impl GiverRow {
    pub(super) const fn new(address: Address, identity: IdentityKey, member: MemberId) -> Self {
        Self { address, identity, member, gone: None, late: 0, kept: 0, record: Vec::new() }
    }

    pub(super) fn record(&self) -> Result<SenderKeyRecord, Error> {
        if self.record.is_empty() {
            return Ok(SenderKeyRecord::new());
        }
        SenderKeyRecord::decode(&self.record)
    }

    fn set_record(&mut self, record: &SenderKeyRecord) {
        self.kept = u32::try_from(record.kept()).unwrap_or(u32::MAX);
        let before = core::mem::replace(&mut self.record, record.encode().to_vec());
        drop(zeroize::Zeroizing::new(before));
    }
}

/// As a row's value is wiped, so is what was read of it.
impl Drop for GiverRow {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.record);
    }
}

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

fn member_key(user: Tag, group: Tag) -> Vec<u8> {
    [&[MEMBER][..], &user.0, &group.0].concat()
}

/// Whether somebody of this name is in a group that is known here.
pub(super) fn is_member(open: &mut Open<'_>, user: Tag) -> Result<bool, Error> {
    Ok(!open.scan(Table::Group, &[&[MEMBER][..], &user.0].concat(), 1)?.is_empty())
}

/// Whether a user is, under this account key, in a group that this user has joined.
pub(super) fn shares_group(
    open: &mut Open<'_>,
    user: Tag,
    account: &IdentityKey,
) -> Result<bool, Error> {
    for (key, row) in open.scan(Table::Group, &[&[MEMBER][..], &user.0].concat(), usize::MAX)? {
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

/// Forgets a group that this account is out of.
pub(super) fn forget(open: &mut Open<'_>, group: Tag) -> Result<(), Error> {
    for (place, giver) in givers(open, group)? {
        delete_labels(open, group, place, &giver)?;
    }
    for kind in [GROUP, CHANGE, KEY, GIVER, PEER, STEP, GONE] {
        open.delete_all(Table::Group, &of(kind, group, &[]))?;
    }
    Ok(())
}

// ---- What this device encrypts with, and what others gave it.

pub(super) fn key(open: &mut Open<'_>, group: Tag) -> Result<Option<SenderKey>, Error> {
    let row = open.get(Table::Group, &of(KEY, group, &[]))?;
    row.map(|row| SenderKey::decode(&row)).transpose()
}

pub(super) fn put_key(open: &mut Open<'_>, group: Tag, key: &SenderKey) -> Result<(), Error> {
    open.put(Table::Group, &of(KEY, group, &[]), &key.encode())
}

pub(super) fn delete_key(open: &mut Open<'_>, group: Tag) -> Result<(), Error> {
    open.delete(Table::Group, &of(KEY, group, &[]))
}

pub(super) fn giver(
    open: &mut Open<'_>,
    group: Tag,
    place: Place,
) -> Result<Option<GiverRow>, Error> {
    open.get_as(Table::Group, &of(GIVER, group, &place.key()))
}

/// Writes what is known of a device, and not what it gave.
pub(super) fn put_giver(
    open: &mut Open<'_>,
    group: Tag,
    place: Place,
    row: &GiverRow,
) -> Result<(), Error> {
    let capacity = row.record.len().saturating_add(408);
    open.put_as(Table::Group, &of(GIVER, group, &place.key()), row, capacity)
}

/// Writes what a device gave. Says whether the group's row changed, which the caller writes then.
pub(super) fn put_record(
    open: &mut Open<'_>,
    (group, row): (Tag, &mut GroupRow),
    place: Place,
    giver: &mut GiverRow,
    record: &SenderKeyRecord,
) -> Result<bool, Error> {
    let before = giver.kept;
    giver.set_record(record);
    put_giver(open, group, place, giver)?;
    row.kept = row.kept.saturating_sub(before).saturating_add(giver.kept);
    if row.kept > MOST_KEPT {
        trim(open, group, row)?;
    }
    Ok(giver.kept != before)
}

/// The device of which most keys are kept loses the oldest half of them, until there are few
/// enough.
fn trim(open: &mut Open<'_>, group: Tag, row: &mut GroupRow) -> Result<(), Error> {
    let mut all = givers(open, group)?;
    row.kept = all.iter().fold(0, |sum, (_, giver)| sum.saturating_add(giver.kept));
    while row.kept > MOST_KEPT {
        let Some((place, giver)) = all.iter_mut().max_by_key(|(_, giver)| giver.kept) else {
            break;
        };
        let (before, mut record) = (giver.kept, giver.record()?);
        record.keep(usize::try_from(before / 2).unwrap_or(0));
        giver.set_record(&record);
        put_giver(open, group, *place, giver)?;
        row.kept = row.kept.saturating_sub(before).saturating_add(giver.kept);
    }
    Ok(())
}

/// Writes by which labels a device is found, and when what it gave is to be looked at.
pub(super) fn put_labels(
    open: &mut Open<'_>,
    group: Tag,
    place: Place,
    record: &SenderKeyRecord,
    before: &[Label],
) -> Result<(), Error> {
    let after = labels(record);
    for label in before.iter().filter(|label| !after.contains(label)) {
        open.delete(Table::Group, &label_key(label, group, place))?;
    }
    for label in after.iter().filter(|label| !before.contains(label)) {
        open.put(Table::Group, &label_key(label, group, place), &[])?;
    }
    match record.next_expiry() {
        Some(due) => timers::set_giver(open, due, group, place),
        None => Ok(()),
    }
}

pub(super) fn labels(record: &SenderKeyRecord) -> Vec<Label> {
    record.label_keys().map(crate::group::LabelKey::label).collect()
}

/// `5 || label:8 || tag of the user:16 || device:16 || group:16`
fn label_key(label: &Label, group: Tag, place: Place) -> Vec<u8> {
    [&[LABEL][..], label.as_bytes(), &place.key(), &group.0].concat()
}

/// The groups and devices of a user that a label may stand for.
///
/// Nobody displaces the label of somebody else: it is looked for among the user's own.
pub(super) fn labelled(
    open: &mut Open<'_>,
    label: &Label,
    user: Tag,
) -> Result<Vec<(Tag, Place)>, Error> {
    let prefix = [&[LABEL][..], label.as_bytes(), &user.0].concat();
    let rows = open.scan(Table::Group, &prefix, usize::MAX)?;
    rows.iter().map(|(key, _)| Ok((tag_at(key, 41)?, place_at(key, 9)?))).collect()
}

pub(super) fn givers(open: &mut Open<'_>, group: Tag) -> Result<Vec<(Place, GiverRow)>, Error> {
    devices(open, GIVER, group)
}

/// Deletes what a device gave. The caller writes the group's row.
pub(super) fn delete_giver(
    open: &mut Open<'_>,
    (group, row): (Tag, &mut GroupRow),
    place: Place,
    giver: &GiverRow,
) -> Result<(), Error> {
    row.kept = row.kept.saturating_sub(giver.kept);
    delete_labels(open, group, place, giver)?;
    open.delete(Table::Group, &of(GIVER, group, &place.key()))
}

fn delete_labels(
    open: &mut Open<'_>,
    group: Tag,
    place: Place,
    giver: &GiverRow,
) -> Result<(), Error> {
    for label in labels(&giver.record()?) {
        open.delete(Table::Group, &label_key(&label, group, place))?;
    }
    Ok(())
}

// ---- Whom it is given to.

pub(super) fn peers(open: &mut Open<'_>, group: Tag) -> Result<Vec<(Place, PeerRow)>, Error> {
    devices(open, PEER, group)
}

/// The rows of a kind, one for each device.
fn devices<T: DeserializeOwned>(
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

pub(super) fn set_step(open: &mut Open<'_>, group: Tag) -> Result<(), Error> {
    open.put(Table::Group, &of(STEP, group, &[]), &[])
}

pub(super) fn step_done(open: &mut Open<'_>, group: Tag) -> Result<(), Error> {
    open.delete(Table::Group, &of(STEP, group, &[]))
}

/// The groups that there is work for.
pub(super) fn steps(open: &mut Open<'_>, most: usize) -> Result<Vec<Tag>, Error> {
    let rows = open.peek(Table::Group, &[STEP], most)?;
    rows.iter().map(|(key, _)| tag_at(key, 1)).collect()
}

/// When there is more to do for groups; `most` were looked at.
pub(super) fn next_due(open: &mut Open<'_>, next: &mut Earliest, most: usize) -> Result<(), Error> {
    for (at, group) in steps(open, most.saturating_add(1))?.into_iter().enumerate() {
        if at == most {
            next.soon();
        }
        let waits = get(open, group)?.and_then(|row| row.waits);
        waits.into_iter().for_each(|time| next.take(time));
    }
    Ok(())
}

/// Something that a device was told could not be opened: it is told again what groups it is in.
pub(super) fn lost(open: &mut Open<'_>, place: Place) -> Result<(), Error> {
    for (group, _) in all(open)? {
        if let Some(mut peer) = peer(open, group, place)? {
            (peer.due, peer.owed_changes) = (true, true);
            peer.told.clear();
            put_peer(open, group, place, &peer)?;
            set_step(open, group)?;
        }
    }
    Ok(())
}

/// Whether what is known of a user changed; it is forgotten that it did.
pub(super) fn take_changed(open: &mut Open<'_>) -> Result<bool, Error> {
    let rows = open.peek(Table::Group, &[CHANGED_USER], 64)?;
    for (key, _) in &rows {
        open.delete(Table::Group, key)?;
    }
    Ok(!rows.is_empty())
}

fn tag_at(key: &[u8], at: usize) -> Result<Tag, Error> {
    key.get(at..).and_then(|key| key.first_chunk()).copied().map(Tag).ok_or(Error::BadState)
}

fn place_at(key: &[u8], at: usize) -> Result<Place, Error> {
    key.get(at..).and_then(|key| key.first_chunk()).map(Place::read).ok_or(Error::BadState)
}

#[cfg(all(test, feature = "getrandom"))]
mod tests {
    use super::*;
    use crate::client::Client;
    use crate::group::{Distribution, Envelope, LabelKey, Sender};
    use crate::identity::IdentityKeyPair;
    use crate::random::SystemRng;
    use crate::store::Memory;

    #[test]
    fn of_a_group_20000_keys_are_kept_at_most_and_the_device_with_most_pays() {
        let (now, rng) = (UnixTime::from_secs(1_800_000_000).unwrap(), &mut SystemRng);
        let mut client = Client::create(Memory::new(), "ada", now, rng).unwrap();
        let (group, member) = ([1; 32], [2; 16]);
        let identity = IdentityKeyPair::generate(rng).public_key();
        // The last of a thousand: the keys of the others are kept.
        let address = Address::new("bea", 1);
        let sender =
            Sender { group: &group, member: &member, identity: &identity, address: &address };
        let mut key = SenderKey::new(&group, LabelKey::random(rng), now, rng);
        let given = key.distribution(&group, &[0; 8], &[group]).unwrap();
        let last = (0..1_000).map(|_| key.seal(&sender, b"", rng).unwrap().envelope).last();
        let last = last.unwrap();
        let mut record = SenderKeyRecord::new();
        record.take(Distribution::decode(&given).unwrap(), now);
        let envelope = Envelope::decode(&last).unwrap();
        let hint = record.label_keys().find_map(|key| envelope.hint(key)).unwrap();
        let opened = record.receive(&envelope, &hint, &sender).unwrap();
        record.commit(opened.step);
        let one = u32::try_from(record.kept()).unwrap();
        assert_eq!(one, 999);
        client
            .run(|open| {
                let tag = open.group_tag(&group);
                let mut row = GroupRow::new(GroupId::from(group), GroupStanding::Joined, now);
                for at in 0..30_u32 {
                    let identity = IdentityKeyPair::generate(rng).public_key();
                    let place = open.place(tag, &identity);
                    let address = Address::new("bea", at);
                    let mut giver = GiverRow::new(address, identity, MemberId::from(member));
                    put_record(open, (tag, &mut row), place, &mut giver, &record)?;
                    let all = givers(open, tag)?;
                    let kept: u32 = all.iter().map(|(_, giver)| giver.kept).sum();
                    assert_eq!(kept, row.kept);
                    assert!(kept <= MOST_KEPT, "{kept}");
                    assert!(kept >= MOST_KEPT.min((at + 1) * one) - 999, "{kept}");
                    for (_, giver) in &all {
                        let kept = u32::try_from(giver.record()?.kept()).unwrap();
                        assert_eq!(giver.kept, kept);
                    }
                }
                // What is deleted is not counted.
                for (place, giver) in givers(open, tag)? {
                    delete_giver(open, (tag, &mut row), place, &giver)?;
                }
                assert_eq!(row.kept, 0);
                Ok(())
            })
            .unwrap();
    }
}
