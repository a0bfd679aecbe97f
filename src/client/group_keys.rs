//! What this device encrypts with for groups, and what others gave it, by row.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::group_rows::{CHANGE, GONE, GROUP, GroupRow, PEER, STEP, devices, of, place_at, tag_at};
use super::timers;
use super::transaction::{Open, Place, Tag};
use crate::address::Address;
use crate::at_rest;
use crate::error::Error;
use crate::group::{Label, MemberId, SenderKey, SenderKeyRecord};
use crate::identity::{self, IdentityKey};
use crate::store::Table;
use crate::time::UnixTime;

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

const KEY: u8 = 2;
const GIVER: u8 = 3;
const LABEL: u8 = 5;

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

/// Writes by which labels a device is found, and when what it gave is to be looked at. `before`:
/// its labels, and when that was to be done anyhow; it is noted again then.
pub(super) fn put_labels(
    open: &mut Open<'_>,
    group: Tag,
    place: Place,
    record: &SenderKeyRecord,
    (before, due): (&[Label], Option<UnixTime>),
) -> Result<(), Error> {
    let after = labels(record);
    for label in before.iter().filter(|label| !after.contains(label)) {
        open.delete(Table::Group, &label_key(label, group, place))?;
    }
    for label in after.iter().filter(|label| !before.contains(label)) {
        open.put(Table::Group, &label_key(label, group, place), &[])?;
    }
    let is_noted = |next: &UnixTime| due.is_some_and(|due| due <= *next);
    match record.next_expiry().filter(|next| !is_noted(next)) {
        Some(next) => timers::set_giver(open, next, group, place),
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

#[cfg(all(test, feature = "getrandom"))]
mod tests {
    use super::*;
    use crate::client::Client;
    use crate::client::group_rows::GroupStanding;
    use crate::group::{Distribution, Envelope, GroupId, LabelKey, Sender};
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
