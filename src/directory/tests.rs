use alloc::vec;
use std::collections::BTreeSet;

use rand_core::Rng;

use super::*;
use crate::identity::IdentityKeyPair;
use crate::prekey::{Prekeys, PublishedPrekeys};
use crate::testing::Replay;

const NOW: u64 = 1_800_000_000;
const DAY: u64 = 24 * 60 * 60;

/// A device, as its owner's app would keep it.
#[derive(Clone)]
struct Device {
    identity: IdentityKeyPair,
    prekeys: Vec<u8>,
    uploaded: u32,
    number: u64,
}

impl Device {
    fn new(one_time: usize, rng: &mut Replay) -> Self {
        let prekeys = Prekeys::generate(one_time, NOW, rng).unwrap().encode().to_vec();
        Self { identity: IdentityKeyPair::generate(rng), prekeys, uploaded: 0, number: 0 }
    }

    fn key(&self) -> IdentityKey {
        self.identity.public_key()
    }

    fn change<T>(&mut self, change: impl FnOnce(&mut Prekeys) -> T) {
        let mut prekeys = Prekeys::decode(&self.prekeys).unwrap();
        drop(change(&mut prekeys));
        self.prekeys = prekeys.encode().to_vec();
    }

    fn published(&self, since: u32) -> PublishedPrekeys {
        Prekeys::decode(&self.prekeys).unwrap().publish_since(since, &self.identity)
    }

    fn upload(&mut self, list: &DeviceList, mode: Mode) -> Vec<u8> {
        self.number += 1;
        let since = if mode == Mode::Add { self.uploaded } else { 0 };
        let prekeys = self.published(since);
        self.uploaded = prekeys.last_id();
        Upload::new(&self.identity, self.number, list.clone(), prekeys, mode).unwrap().encode()
    }
}

/// An account of two managers and a plain device (1, 2, 3), with nothing uploaded.
struct Account {
    key: IdentityKeyPair,
    list: DeviceList,
    devices: Vec<Device>,
}

impl Account {
    fn new(rng: &mut Replay) -> Self {
        let key = IdentityKeyPair::generate(rng);
        let devices: Vec<Device> = (0..3).map(|_| Device::new(3, rng)).collect();
        let list = DeviceList::first(&key, devices[0].key());
        let (list, _) = list.with(&key, devices[1].key(), Role::Manager).unwrap();
        let (list, _) = list.with(&key, devices[2].key(), Role::Device).unwrap();
        Self { key, list, devices }
    }

    fn upload(&mut self, device: u32) -> Vec<u8> {
        let at = usize::try_from(device).unwrap() - 1;
        self.devices[at].upload(&self.list, Mode::Add)
    }

    fn registered(rng: &mut Replay) -> (Self, Directory) {
        let (mut account, mut directory) = (Self::new(rng), Directory::new());
        for device in 1..=3 {
            let upload = account.upload(device);
            assert_eq!(directory.upload(device, &upload), Ok(Accepted::default()));
        }
        (account, directory)
    }
}

fn one_time(directory: &Directory, device: u32) -> u32 {
    directory.summary(device).prekeys.map_or(0, |held| held.one_time)
}

/// Through the rows that a server keeps.
fn stored(directory: &Directory) -> Directory {
    let Some(user) = directory.encode_user() else { return Directory::new() };
    let rows: Vec<(u32, Vec<u8>)> =
        (0..40).filter_map(|device| Some((device, directory.encode_device(device)?))).collect();
    Directory::decode(&user, rows.iter().map(|(device, row)| (*device, &row[..]))).unwrap()
}

fn pick(rng: &mut Replay, bound: usize) -> usize {
    let mut bytes = [0; 2];
    rng.fill_bytes(&mut bytes);
    usize::from(u16::from_be_bytes(bytes)) % bound
}

fn assert_refused(directory: &mut Directory, device: u32, upload: &[u8], refusal: &Refusal) {
    let before = directory.clone();
    assert_eq!(directory.upload(device, upload).as_ref(), Err(refusal));
    assert_eq!(*directory, before, "a refused upload changed something");
}

#[test]
fn an_upload_is_held_and_its_bundles_verify() {
    let rng = &mut Replay::counting();
    let (account, mut directory) = Account::registered(rng);
    assert_eq!(stored(&directory), directory);
    assert_eq!(directory.account(), Some(account.key.public_key()));
    let other = IdentityKeyPair::generate(rng).public_key();
    for expected in [true, true, true, false, false] {
        let bundle = directory.bundle(1, "bob", NOW).unwrap().verify(&other, NOW).unwrap();
        assert_eq!(bundle.identity(), account.devices[0].key());
        assert_eq!(bundle.is_one_time(), expected);
    }
    assert_eq!((one_time(&directory, 1), one_time(&directory, 2)), (0, 3));
    assert_eq!(directory.bundle(4, "bob", NOW).err(), Some(NoBundle::UnknownDevice));
    assert_eq!(Directory::new().bundle(1, "bob", NOW).err(), Some(NoBundle::UnknownDevice));
}

#[test]
fn a_device_that_is_listed_and_has_uploaded_nothing_has_no_bundle() {
    let rng = &mut Replay::counting();
    let (mut account, mut directory) = (Account::new(rng), Directory::new());
    drop(directory.upload(1, &account.upload(1)).unwrap());
    assert_eq!(directory.bundle(2, "bob", NOW).err(), Some(NoBundle::NoPrekeys));
    assert_eq!(directory.summary(2).prekeys, None);
}

#[test]
fn any_changed_byte_of_an_upload_is_refused() {
    let rng = &mut Replay::counting();
    let (mut account, mut directory) = Account::registered(rng);
    account.devices[0].change(|prekeys| prekeys.refill(0, 1, NOW, rng).unwrap());
    let good = account.upload(1);
    // Every byte before the KEM keys, and some of those.
    for at in (0..700).chain((700..good.len()).step_by(97)).chain(good.len() - 70..good.len()) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(matches!(directory.upload(1, &bad), Err(Refusal::Invalid(_))), "byte {at}");
        assert!(
            matches!(directory.upload(1, &good[..at]), Err(Refusal::Invalid(_))),
            "length {at}"
        );
    }
    let long = [&good[..], &[0]].concat();
    assert!(matches!(directory.upload(1, &long), Err(Refusal::Invalid(_))));
    let huge = vec![1; Upload::MAX_LENGTH + 1];
    assert_refused(&mut directory, 1, &huge, &Refusal::Invalid(Error::TooLong));
    assert!(directory.upload(1, &good).is_ok());
}

#[test]
fn hostile_rows_and_summaries_are_refused_or_read_and_never_panic() {
    let rng = &mut Replay::counting();
    let (_, mut directory) = Account::registered(rng);
    directory.bundle(1, "bob", NOW).unwrap();
    let (user, row) = (directory.encode_user().unwrap(), directory.encode_device(1).unwrap());
    for at in (0..400).chain((400..row.len()).step_by(89)).chain(row.len() - 70..row.len()) {
        for bit in [1, 0x80, 0xff] {
            let mut bad = row.clone();
            bad[at] ^= bit;
            if let Ok(mut read) = Directory::decode(&user, [(1, &bad[..])]) {
                assert!(read.summary(1).encode().len() == Summary::LENGTH);
                read.bundle(1, "carol", NOW).ok();
                stored(&read);
            }
        }
        assert!(Directory::decode(&user, [(1, &row[..at])]).is_err(), "length {at}");
    }
    for at in 0..user.len() {
        let mut bad = user.clone();
        bad[at] ^= 1;
        assert_eq!(Directory::decode(&bad, []).err(), Some(Error::BadState), "byte {at}");
        assert_eq!(Directory::decode(&user[..at], []).err(), Some(Error::BadState), "length {at}");
    }
    for summary in [directory.summary(1), directory.summary(9), Directory::new().summary(1)] {
        let good = summary.encode();
        assert_eq!(Summary::decode(&good).as_ref(), Ok(&summary));
        for at in 0..good.len() {
            let mut other = good.clone();
            other[at] ^= 1;
            if let Ok(other_summary) = Summary::decode(&other) {
                assert_eq!(other_summary.encode(), other, "byte {at}");
                assert_ne!(other_summary, summary, "byte {at}");
            }
            assert!(Summary::decode(&good[..at]).is_err(), "length {at}");
        }
        assert!(Summary::decode(&[&good[..], &[0]].concat()).is_err());
    }
}

#[test]
fn the_same_upload_twice_changes_nothing_and_an_older_one_is_refused() {
    let rng = &mut Replay::counting();
    let (mut account, mut directory) = (Account::new(rng), Directory::new());
    let first = account.upload(1);
    drop(directory.upload(1, &first).unwrap());
    directory.bundle(1, "bob", NOW).unwrap();
    let before = directory.clone();
    assert_eq!(directory.upload(1, &first), Ok(Accepted::default()));
    assert_eq!(directory, before);
    account.devices[0].change(|prekeys| prekeys.refill(2, 3, NOW, rng).unwrap());
    let second = account.upload(1);
    drop(directory.upload(1, &second).unwrap());
    assert_eq!(one_time(&directory, 1), 3);
    assert_refused(&mut directory, 1, &first, &Refusal::OldUpload);
}

#[test]
fn an_upload_for_another_device_or_account_is_refused() {
    let rng = &mut Replay::counting();
    let (mut account, mut directory) = Account::registered(rng);
    let upload = account.upload(1);
    for device in [0, 2, 3, 4, u32::MAX] {
        assert_refused(&mut directory, device, &upload, &Refusal::NotListed);
    }
    let stranger = Account::new(rng).upload(1);
    assert_refused(&mut directory, 1, &stranger, &Refusal::AccountExists);
    let prekeys = account.devices[1].published(0);
    let made = Upload::new(&account.devices[0].identity, 9, account.list, prekeys, Mode::Add);
    assert_eq!(made.err(), Some(Error::OwnIdentity));
}

#[test]
fn prekeys_with_a_repeated_id_are_refused() {
    let rng = &mut Replay::counting();
    let (account, directory) = (Account::new(rng), &mut Directory::new());
    let device = &account.devices[0];
    let bytes = device.published(0).encode();
    // version, IK, last id; signed prekey; last-resort key; count: then one-time prekeys of 36
    // bytes.
    let at = 37 + 109 + 1645 + 4;
    let mut twice = bytes.clone();
    twice.copy_within(at..at + 36, at + 36);
    for (bytes, accepted) in [(bytes, true), (twice, false)] {
        let prekeys = PublishedPrekeys::decode(&bytes).unwrap();
        let upload = Upload::new(&device.identity, 1, account.list.clone(), prekeys, Mode::Add);
        assert_eq!(directory.upload(1, &upload.unwrap().encode()).is_ok(), accepted);
    }
}

#[test]
fn the_list_with_the_higher_version_counts() {
    let rng = &mut Replay::counting();
    let (mut account, mut directory) = Account::registered(rng);
    let old = account.list.clone();
    let (next, _) = old.with(&account.key, Device::new(1, rng).key(), Role::Device).unwrap();
    let (fork, _) = old.with(&account.key, Device::new(1, rng).key(), Role::Device).unwrap();
    let upload = account.devices[1].upload(&next, Mode::Add);
    assert_eq!(directory.upload(2, &upload), Ok(Accepted::default()));
    assert_eq!(directory.list(), Some(&next));
    let upload = account.devices[0].upload(&fork, Mode::Add);
    assert_refused(&mut directory, 1, &upload, &Refusal::ForkedList);
    // A device that has not heard of the new list still uploads prekeys.
    account.devices[2].change(|prekeys| prekeys.refill(0, 2, NOW, rng).unwrap());
    let upload = account.devices[2].upload(&old, Mode::Add);
    drop(directory.upload(3, &upload).unwrap());
    assert_eq!((directory.list(), one_time(&directory, 3)), (Some(&next), 5));
}

#[test]
fn a_removed_device_loses_its_prekeys_and_uploads_no_more() {
    let rng = &mut Replay::counting();
    let (mut account, mut directory) = Account::registered(rng);
    let old = account.list.clone();
    account.list = old.without(&account.key, 3).unwrap();
    let accepted = directory.upload(1, &account.upload(1)).unwrap();
    assert_eq!(accepted.removed, [3]);
    assert_eq!(directory.encode_device(3), None);
    assert_eq!(directory.bundle(3, "bob", NOW).err(), Some(NoBundle::UnknownDevice));
    let upload = account.devices[2].upload(&old, Mode::Add);
    assert_refused(&mut directory, 3, &upload, &Refusal::Unlinked);
}

#[test]
fn rows_of_devices_that_were_not_read_are_named_when_they_are_to_be_deleted() {
    let rng = &mut Replay::counting();
    let (mut account, directory) = Account::registered(rng);
    account.list = account.list.without(&account.key, 3).unwrap();
    let (user, row) = (directory.encode_user().unwrap(), directory.encode_device(1).unwrap());
    let mut partly = Directory::decode(&user, [(1, &row[..])]).unwrap();
    assert_eq!(partly.upload(1, &account.upload(1)).unwrap().removed, [3]);
    // A row that was left behind is not read.
    let left = directory.encode_device(3).unwrap();
    let read = Directory::decode(&partly.encode_user().unwrap(), [(3, &left[..])]).unwrap();
    assert_eq!(read.encode_device(3), None);
}

#[test]
fn a_renewed_account_key_comes_from_a_manager_of_both_lists() {
    let rng = &mut Replay::counting();
    let (mut account, mut directory) = Account::registered(rng);
    let renewed = IdentityKeyPair::generate(rng);
    let list = account.list.without(&renewed, 2).unwrap();
    // A plain device cannot bring a new account key, but its prekeys count.
    let upload = account.devices[2].upload(&list, Mode::Add);
    drop(directory.upload(3, &upload).unwrap());
    assert_eq!(directory.account(), Some(account.key.public_key()));
    // Nor can a device that the old list does not have.
    let mut new = Device::new(1, rng);
    let (with_new, device) = list.with(&renewed, new.key(), Role::Manager).unwrap();
    let upload = new.upload(&with_new, Mode::Add);
    assert_refused(&mut directory, device, &upload, &Refusal::AccountExists);
    let upload = account.devices[0].upload(&list, Mode::Add);
    assert_eq!(directory.upload(1, &upload).unwrap().removed, [2]);
    assert_eq!(directory.account(), Some(renewed.public_key()));
    // The manager that was removed still has the old account key. It is of no use any more.
    let (back, _) =
        account.list.with(&account.key, Device::new(1, rng).key(), Role::Device).unwrap();
    for _ in 0..3 {
        let upload = account.devices[1].upload(&back, Mode::Add);
        assert_refused(&mut directory, 2, &upload, &Refusal::AccountExists);
    }
    let upload = new.upload(&with_new, Mode::Add);
    drop(directory.upload(device, &upload).unwrap());
}

#[test]
fn re_registration_throws_away_all_of_the_old_account() {
    let rng = &mut Replay::counting();
    let (mut old, mut directory) = Account::registered(rng);
    let mut new = Account::new(rng);
    new.list = DeviceList::first(&new.key, new.devices[0].key());
    let upload = new.upload(1);
    assert_refused(&mut directory, 1, &upload, &Refusal::AccountExists);
    let accepted = directory.re_register(1, &upload).unwrap();
    assert_eq!(accepted.removed, [1, 2, 3]);
    assert_eq!(directory.list(), Some(&new.list));
    let other = IdentityKeyPair::generate(rng).public_key();
    let bundle = directory.bundle(1, "bob", NOW).unwrap().verify(&other, NOW).unwrap();
    assert_eq!(bundle.identity(), new.devices[0].key());
    assert_refused(&mut directory, 1, &old.upload(1), &Refusal::AccountExists);
    // With an upload of the account that is held it is an upload like any other.
    let before = directory.clone();
    assert_eq!(directory.re_register(1, &upload), Ok(Accepted::default()));
    assert_eq!(directory, before);
    assert_eq!(directory.re_register(2, &upload), Err(Refusal::NotListed));
}

#[test]
fn a_restored_device_learns_it_from_its_own_stamp_and_replaces_its_prekeys() {
    let rng = &mut Replay::counting();
    let (mut account, mut directory) = Account::registered(rng);
    let copy = account.devices[0].clone();
    account.devices[0].change(|prekeys| prekeys.refill(0, 5, NOW, rng).unwrap());
    drop(directory.upload(1, &account.upload(1)).unwrap());
    // Not restored: its own last number.
    let summary = Summary::decode(&directory.summary(1).encode()).unwrap();
    let own = account.devices[0].key();
    assert_eq!(summary.verify_stamp(&own).unwrap().number, account.devices[0].number);
    assert_eq!(summary.verify_stamp(&account.devices[1].key()), None);
    // Restored.
    account.devices[0] = copy;
    let device = &mut account.devices[0];
    let info = summary.verify_stamp(&own).unwrap();
    assert!(info.number > device.number);
    device.number = info.number;
    let last_id = device.published(0).last_id();
    device.change(|prekeys| {
        prekeys.skip_ids(info.last_id - last_id).unwrap();
        prekeys.refill(0, 2, NOW, rng).unwrap();
    });
    let upload = account.devices[0].upload(&account.list, Mode::Replace);
    drop(directory.upload(1, &upload).unwrap());
    assert_eq!(one_time(&directory, 1), 2, "what the copy had may have been handed out");
    // One that does not look is told so.
    let mut careless = account.devices[0].clone();
    careless.number = 0;
    let upload = careless.upload(&account.list, Mode::Add);
    assert_refused(&mut directory, 1, &upload, &Refusal::OldUpload);
}

#[test]
fn a_stamp_that_the_device_did_not_make_is_not_believed() {
    let rng = &mut Replay::counting();
    let (account, directory) = Account::registered(rng);
    let (own, good) = (account.devices[0].key(), directory.summary(1).encode());
    assert!(Summary::decode(&good).unwrap().verify_stamp(&own).is_some());
    let stamp = 50 + 1..50 + 1 + Stamp::LENGTH;
    for at in stamp {
        let mut forged = good.clone();
        forged[at] ^= 1;
        let forged = Summary::decode(&forged).unwrap();
        assert_eq!(forged.verify_stamp(&own), None, "byte {at}");
    }
    assert_eq!(directory.summary(2).verify_stamp(&own), None);
}

#[test]
fn prekeys_that_no_client_accepts_are_not_handed_out() {
    let rng = &mut Replay::counting();
    let (_, mut directory) = Account::registered(rng);
    let before = directory.clone();
    let (stale, early) = (NOW + 60 * DAY + 1, NOW - DAY - 1);
    assert_eq!(directory.bundle(1, "bob", stale).err(), Some(NoBundle::Stale));
    assert_eq!(directory.bundle(1, "bob", early).err(), Some(NoBundle::Future));
    assert_eq!(directory, before);
    assert!(directory.bundle(1, "bob", stale - 1).is_ok());
    assert!(directory.bundle(1, "bob", early + 1).is_ok());
}

#[test]
fn one_asker_gets_32_one_time_sets_an_hour_and_all_get_100() {
    let rng = &mut Replay::counting();
    let (mut account, mut directory) = (Account::new(rng), Directory::new());
    account.devices[0].change(|prekeys| prekeys.refill(3, 300, NOW, rng).unwrap());
    drop(directory.upload(1, &account.upload(1)).unwrap());
    let mut taken = |asker: &str, now: u64| {
        let before = one_time(&directory, 1);
        for _ in 0..40 {
            directory = stored(&directory);
            assert!(directory.bundle(1, asker, now).is_ok());
        }
        before - one_time(&directory, 1)
    };
    assert_eq!(taken("bob", NOW), 32);
    assert_eq!(taken("bob", NOW), 0);
    assert_eq!(taken("carol", NOW), 32);
    assert_eq!(taken("dave", NOW), 32);
    assert_eq!(taken("erin", NOW), 4);
    assert_eq!(taken("frank", NOW), 0);
    assert_eq!(taken("bob", NOW + 3_600), 32);
}

#[test]
fn no_more_than_1000_one_time_sets_are_held() {
    let rng = &mut Replay::counting();
    let (mut account, mut directory) = (Account::new(rng), Directory::new());
    account.devices[0].change(|prekeys| prekeys.refill(3, 700, NOW, rng).unwrap());
    drop(directory.upload(1, &account.upload(1)).unwrap());
    account.devices[0].change(|prekeys| prekeys.refill(0, 400, NOW, rng).unwrap());
    drop(directory.upload(1, &account.upload(1)).unwrap());
    assert_eq!(one_time(&directory, 1), 1_000);
    let largest = directory.encode_device(1).unwrap().len();
    assert!(largest < Upload::MAX_LENGTH, "{largest}");
}

/// What a device uploads that was restored from a copy. Unless it `looks` at the ids in its stamp,
/// it publishes old ids again.
fn restored(
    copy: &mut Device,
    summary: &Summary,
    list: &DeviceList,
    looks: bool,
    rng: &mut Replay,
) -> Vec<u8> {
    let info = summary.verify_stamp(&copy.key()).unwrap();
    copy.number = info.number;
    if looks {
        let more = info.last_id.saturating_sub(copy.published(0).last_id());
        copy.change(|prekeys| prekeys.skip_ids(more).unwrap());
    }
    copy.change(|prekeys| prekeys.refill(0, 2, NOW, rng).unwrap());
    copy.upload(list, Mode::Replace)
}

/// Uploads of three devices in any order, early, late and repeated, with restored copies, removals
/// and bundles in between, always through the stored rows.
#[test]
fn no_one_time_prekey_is_ever_handed_out_twice() {
    let mut all = 0;
    for seed in 0..12 {
        let rng = &mut Replay::stream("directory", seed * 1_000_000);
        let (mut account, mut directory) = Account::registered(rng);
        let (mut sent, mut copies) = (Vec::new(), Vec::new());
        let mut handed = BTreeSet::new();
        for step in 0..150 {
            let at = pick(rng, 3);
            let device = u32::try_from(at).unwrap() + 1;
            let list = account.list.clone();
            match pick(rng, 10) {
                0 | 1 => {
                    let held = usize::try_from(one_time(&directory, device)).unwrap();
                    account.devices[at]
                        .change(|prekeys| prekeys.refill(held, 4, NOW, rng).unwrap());
                    let upload = account.devices[at].upload(&list, Mode::Add);
                    sent.push((device, upload.clone()));
                    directory.upload(device, &upload).ok();
                }
                2 => copies.push((at, account.devices[at].clone())),
                3 => {
                    let Some((at, copy)) = copies.pop() else { continue };
                    account.devices[at] = copy;
                    let device = u32::try_from(at).unwrap() + 1;
                    let looks = step % 2 == 0;
                    let upload = restored(
                        &mut account.devices[at],
                        &directory.summary(device),
                        &list,
                        looks,
                        rng,
                    );
                    sent.push((device, upload.clone()));
                    directory.upload(device, &upload).ok();
                }
                4 | 5 if !sent.is_empty() => {
                    let (device, upload) = &sent[pick(rng, sent.len())];
                    directory.upload(*device, upload).ok();
                }
                6 => {
                    account.list = list.without(&account.key, 9).unwrap();
                    let upload = account.devices[at].upload(&account.list, Mode::Add);
                    let accepted = directory.upload(device, &upload);
                    assert!(accepted.is_err() || accepted == Ok(Accepted::default()));
                }
                _ => {
                    let asker = std::format!("asker {step}");
                    let Ok(bundle) = directory.bundle(device, &asker, NOW + step * 3_600) else {
                        continue;
                    };
                    let bytes = bundle.encode();
                    // The KEM prekey where it is a one-time one (kind 2), and the one-time prekey.
                    if bytes[141] == 2 {
                        assert!(
                            handed.insert((device, bytes[142..146].to_vec())),
                            "seed {seed}, {step}"
                        );
                    }
                    if bytes[1_786] == 1 {
                        assert!(
                            handed.insert((device, bytes[1_787..1_791].to_vec())),
                            "seed {seed}, {step}"
                        );
                    }
                }
            }
            directory = stored(&directory);
        }
        all += handed.len();
    }
    assert!(all > 300, "{all} were handed out");
}

#[test]
fn an_upload_is_made_with_a_list_and_prekeys_of_the_device_alone() {
    let rng = &mut Replay::counting();
    let (account, other) = (Account::new(rng), Account::new(rng));
    let (device, stranger) = (&account.devices[0], &other.devices[0]);
    let made = |list: &DeviceList, prekeys| {
        Upload::new(&device.identity, 1, list.clone(), prekeys, Mode::Replace).map(drop)
    };
    assert_eq!(made(&account.list, device.published(0)), Ok(()));
    assert_eq!(made(&other.list, device.published(0)), Err(Error::OwnIdentity));
    assert_eq!(made(&account.list, stranger.published(0)), Err(Error::OwnIdentity));
}
