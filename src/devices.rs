//! Which devices a user has, as the user's account key says.

use alloc::boxed::Box;
use alloc::vec::Vec;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::at_rest;
use crate::codec::{Reader, Writer};
use crate::crypto::kdf;
use crate::error::Error;
use crate::identity::{IdentityKey, IdentityKeyPair};

/// A user's devices, signed by the account key. A value of this type has a valid signature.
///
/// ```text
/// format:u8 = 1 || account:32 || present:u8 (0|1) [|| previous:32 || certificate:64] ||
/// version:u64 || last_device:u32 || count:u8 (1 to 32) ||
/// count * (device:u32 || identity:32 || role:u8 (0 = device, 1 = manager)) || signature:64
/// ```
///
/// The list takes 111 bytes, 96 where the account key is not the first, and 37 for each device.
/// Devices are in ascending order, and no identity is listed twice. `version` (1 to 2^48) goes up
/// with each change. `last_device` (at most 2^31) is the highest number that any device of the user
/// was ever given, so that no number is given twice. The signature is Ed25519 by the account key
/// over `"Subrosa v1 device list"` and everything before the signature (docs/client.md, 4).
///
/// `previous` is the account key before this one, and `certificate` its Ed25519 signature over
/// `"Subrosa v1 account key" || previous || account`. It lets the account's other devices follow a
/// renewal. It proves nothing to other users: a device that was removed holds the old key too.
///
/// Of two lists by one account key, the one with the higher version counts. A list that is older
/// than the known one is refused. So are two different lists of one version, and a list whose
/// version or `last_device` is 2^16 or more ahead of the known one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceList {
    account: IdentityKey,
    /// In a box: where there is none, the room for it would hold what the stack held before.
    previous: Option<Box<Previous>>,
    version: u64,
    last_device: u32,
    devices: Vec<ListedDevice>,
    signature: [u8; 64],
}

/// The account key before, and what it says of the one after it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Previous {
    account: IdentityKey,
    certificate: [u8; 64],
}

/// A device in a [`DeviceList`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedDevice {
    /// The device's number, from 1. No other device of the user ever gets it.
    pub device: u32,
    /// The device's identity key.
    pub identity: IdentityKey,
    /// What the device may do to the list.
    pub role: Role,
}

/// Which device list somebody has: `version:u64 || digest:8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ListStamp {
    pub(crate) version: u64,
    pub(crate) digest: [u8; 8],
}

/// What becomes of the account's other devices when it is restored from an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Others {
    /// They stay: the old phone still works.
    Keep,
    /// They are removed, and the account gets a new key: the old phone was lost or stolen.
    /// Everybody who knows the user sees a changed key, and has to accept it.
    Remove,
}

/// What a device may do to its user's [`DeviceList`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It holds the account key, and so can link and remove devices.
    Manager,
    /// It sends and receives like any other, but cannot change the list.
    Device,
}

impl DeviceList {
    /// The most devices that a user can have: every message is encrypted for each of them.
    pub const MAX_DEVICES: usize = 32;

    const FORMAT: u8 = 1;

    /// More changes and more devices than anybody makes. A list near these limits is an attempt to
    /// leave no room for the next one.
    const MAX_VERSION: u64 = 1 << 48;
    const MAX_DEVICE: u32 = 1 << 31;

    /// A list this far ahead of the known one is refused. One change adds at most 256.
    const MAX_JUMP: u64 = 1 << 16;

    /// The list of a new account: its first device, a manager.
    #[must_use]
    pub fn first(account: &IdentityKeyPair, identity: IdentityKey) -> Self {
        let device = ListedDevice { device: 1, identity, role: Role::Manager };
        Self::signed(account, None, 1, 1, Vec::from([device]))
    }

    /// The next list, with one more device, and the number of that device.
    ///
    /// # Errors
    /// [`Error::TooManyDevices`]: 32 devices are linked. [`Error::Exhausted`]: 2^31 were.
    /// [`Error::AccountExists`]: the device is linked already; correct the call.
    pub fn with(
        &self,
        account: &IdentityKeyPair,
        identity: IdentityKey,
        role: Role,
    ) -> Result<(Self, u32), Error> {
        if self.device_of(&identity).is_some() {
            return Err(Error::AccountExists);
        }
        let device = self.last_device.saturating_add(1);
        if device > Self::MAX_DEVICE {
            return Err(Error::Exhausted);
        }
        let mut devices = self.devices.clone();
        devices.push(ListedDevice { device, identity, role });
        if devices.len() > Self::MAX_DEVICES {
            return Err(Error::TooManyDevices);
        }
        let version = self.next_version(0)?;
        Ok((Self::signed(account, self.previous.clone(), version, device, devices), device))
    }

    /// The next list, without this device.
    ///
    /// # Errors
    /// [`Error::Exhausted`]: the list has no next version. [`Error::NotPermitted`]: it is the only
    /// device; correct the call.
    pub fn without(&self, account: &IdentityKeyPair, device: u32) -> Result<Self, Error> {
        let devices = self.others(device)?;
        let version = self.next_version(0)?;
        Ok(Self::signed(account, self.previous.clone(), version, self.last_device, devices))
    }

    /// The next list, without this device, under a new account key that the old one certifies. The
    /// first byte of the new key says how much further the version goes up, so that when two
    /// managers each make a new key at the same time, one of the lists has the higher version.
    ///
    /// # Errors
    /// As [`DeviceList::without`].
    pub fn renewed_without(
        &self,
        old: &IdentityKeyPair,
        new: &IdentityKeyPair,
        device: u32,
    ) -> Result<Self, Error> {
        self.renewed_with(old, new, self.others(device)?)
    }

    fn renewed_with(
        &self,
        old: &IdentityKeyPair,
        new: &IdentityKeyPair,
        devices: Vec<ListedDevice>,
    ) -> Result<Self, Error> {
        let (previous, next) = (old.public_key(), new.public_key());
        let certificate = old.sign(&certified(&previous, &next));
        let previous = Some(Box::new(Previous { account: previous, certificate }));
        let [more, ..] = *next.as_bytes();
        let version = self.next_version(u64::from(more))?;
        Ok(Self::signed(new, previous, version, self.last_device, devices))
    }

    /// The list under a new account key that the old one certifies, with the same devices; its
    /// version as in [`DeviceList::renewed_without`].
    ///
    /// # Errors
    /// [`Error::Exhausted`]
    pub(crate) fn renewed(
        &self,
        old: &IdentityKeyPair,
        new: &IdentityKeyPair,
    ) -> Result<Self, Error> {
        self.renewed_with(old, new, self.devices.clone())
    }

    /// The list of an account that is restored on a new device, a manager: besides the others of
    /// this list, or in their place. The version is 256 above those of this list and of `archived`,
    /// so that nothing that was made since can be ahead; no device has a number of either.
    ///
    /// # Errors
    /// [`Error::TooManyDevices`], [`Error::Exhausted`], [`Error::AccountExists`].
    #[cfg(feature = "std")]
    pub(crate) fn restored(
        &self,
        archived: &Self,
        account: &IdentityKeyPair,
        identity: IdentityKey,
        others: Others,
    ) -> Result<(Self, u32), Error> {
        let devices = match others {
            Others::Keep => self.devices.clone(),
            Others::Remove => Vec::new(),
        };
        let version = self.version.max(archived.version);
        let last_device = self.last_device.max(archived.last_device);
        let base = Self { devices, version, last_device, ..self.clone() };
        let (list, device) = base.with(account, identity, Role::Manager)?;
        let version = list.next_version(RESTORED.saturating_sub(2))?;
        let Self { previous, last_device, devices, .. } = list;
        Ok((Self::signed(account, previous, version, last_device, devices), device))
    }

    /// The list after this one and another one of the same version, where two managers each made
    /// one. It has the devices of this list but for those that the other one removed, and those
    /// that the other one added under numbers which this one never gave. A manager of this list
    /// stays: removing one takes a new account key.
    ///
    /// # Errors
    /// [`Error::ForkedDeviceList`]: the two are no such lists. [`Error::Exhausted`].
    pub(crate) fn merged(&self, other: &Self, account: &IdentityKeyPair) -> Result<Self, Error> {
        if (self.account, self.version) != (other.account, other.version) {
            return Err(Error::ForkedDeviceList);
        }
        let was_removed = |listed: &&ListedDevice| {
            listed.role == Role::Device
                && listed.device <= other.last_device
                && other.get(listed.device).is_none()
        };
        let is_new = |listed: &&ListedDevice| {
            listed.device > self.last_device && self.device_of(&listed.identity).is_none()
        };
        let kept = self.devices.iter().filter(|listed| !was_removed(listed));
        let added = other.devices.iter().filter(is_new);
        let devices = kept.chain(added).copied().take(Self::MAX_DEVICES).collect();
        let last_device = self.last_device.max(other.last_device);
        let version = self.next_version(0)?;
        Ok(Self::signed(account, self.previous.clone(), version, last_device, devices))
    }

    /// This list again, with a version above that of another one, by an account key of before.
    ///
    /// # Errors
    /// [`Error::Exhausted`]
    pub(crate) fn ahead_of(&self, other: &Self, account: &IdentityKeyPair) -> Result<Self, Error> {
        let version = self.next_version(0)?.max(other.next_version(0)?);
        let last_device = self.last_device.max(other.last_device);
        let (previous, devices) = (self.previous.clone(), self.devices.clone());
        Ok(Self::signed(account, previous, version, last_device, devices))
    }

    fn others(&self, device: u32) -> Result<Vec<ListedDevice>, Error> {
        let others: Vec<ListedDevice> =
            self.devices.iter().filter(|listed| listed.device != device).copied().collect();
        if others.is_empty() { Err(Error::NotPermitted) } else { Ok(others) }
    }

    /// Whether this account key certified the list's.
    pub(crate) fn is_certified_by(&self, account: &IdentityKey) -> bool {
        let previous = self.previous.as_ref().filter(|previous| previous.account == *account);
        let Some(previous) = previous else {
            return false;
        };
        let message = certified(account, &self.account);
        IdentityKey::verifying(account.as_bytes())
            .and_then(|(_, key)| key.verify(&message, &previous.certificate))
            .is_ok()
    }

    fn next_version(&self, more: u64) -> Result<u64, Error> {
        let next = self.version.saturating_add(1).saturating_add(more);
        if next > Self::MAX_VERSION { Err(Error::Exhausted) } else { Ok(next) }
    }

    fn signed(
        account: &IdentityKeyPair,
        previous: Option<Box<Previous>>,
        version: u64,
        last_device: u32,
        devices: Vec<ListedDevice>,
    ) -> Self {
        let (account_key, signature) = (account.public_key(), [0; 64]);
        let mut list =
            Self { account: account_key, previous, version, last_device, devices, signature };
        list.signature = account.sign(&[LABEL, &list.unsigned()].concat());
        list
    }

    fn unsigned(&self) -> Vec<u8> {
        let count = u8::try_from(self.devices.len()).expect("at most 32");
        let capacity = self.devices.len().saturating_mul(37).saturating_add(207);
        let out = Writer::with_capacity(capacity).u8(Self::FORMAT).bytes(self.account.as_bytes());
        let out = match &self.previous {
            None => out.u8(0),
            Some(previous) => {
                out.u8(1).bytes(previous.account.as_bytes()).bytes(&previous.certificate)
            }
        };
        let out = out.u64(self.version).u32(self.last_device).u8(count);
        let devices = self.devices.iter();
        devices
            .fold(out, |out, listed| {
                out.u32(listed.device).bytes(listed.identity.as_bytes()).u8(listed.role.byte())
            })
            .done()
    }

    /// The bytes, which a server keeps and hands to anyone.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.unsigned();
        bytes.extend_from_slice(&self.signature);
        bytes
    }

    /// The first 8 bytes of `H("Subrosa v1 device list" || encoded list)`, `H` being SHA-256: two
    /// devices that hold the same list have the same digest.
    #[must_use]
    pub fn digest(&self) -> [u8; 8] {
        let [a, b, c, d, e, f, g, h, ..] = kdf::hash(&[LABEL, &self.encode()]);
        [a, b, c, d, e, f, g, h]
    }

    pub(crate) fn stamp(&self) -> ListStamp {
        ListStamp { version: self.version, digest: self.digest() }
    }

    /// From bytes. Everything is checked except whose account it is.
    ///
    /// # Errors
    /// [`Error::UnsupportedVersion`], [`Error::Malformed`], [`Error::InvalidKey`],
    /// [`Error::BadSignature`]: these bytes are not a device list; drop them.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let list = Self::read(bytes, IdentityKey::decode)?;
        let (_, account) = IdentityKey::verifying(list.account.as_bytes())?;
        account.verify(&[LABEL, &list.unsigned()].concat(), &list.signature)?;
        Ok(list)
    }

    fn read(
        bytes: &[u8],
        identity: impl Fn(&[u8]) -> Result<IdentityKey, Error>,
    ) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != Self::FORMAT {
            return Err(Error::UnsupportedVersion);
        }
        let account = identity(reader.array::<32>()?)?;
        let previous = match reader.u8()? {
            0 => None,
            1 => Some(Box::new(Previous {
                account: identity(reader.array::<32>()?)?,
                certificate: *reader.array()?,
            })),
            _ => return Err(Error::Malformed),
        };
        let (version, last_device, count) =
            (reader.u64()?, reader.u32()?, usize::from(reader.u8()?));
        let in_range =
            (1..=Self::MAX_VERSION).contains(&version) && last_device <= Self::MAX_DEVICE;
        if !in_range || !(1..=Self::MAX_DEVICES).contains(&count) {
            return Err(Error::Malformed);
        }
        let mut devices: Vec<ListedDevice> = Vec::with_capacity(count);
        for _ in 0..count {
            let device = reader.u32()?;
            let before = devices.last().map_or(0, |listed| listed.device);
            let identity = identity(reader.array::<32>()?)?;
            let role = Role::of(reader.u8()?)?;
            if device <= before
                || device > last_device
                || devices.iter().any(|one| one.identity == identity)
            {
                return Err(Error::Malformed);
            }
            devices.push(ListedDevice { device, identity, role });
        }
        let signature = *reader.array()?;
        reader.end()?;
        Ok(Self { account, previous, version, last_device, devices, signature })
    }

    /// The account key that signed the list. It is what people compare.
    #[must_use]
    pub const fn account(&self) -> IdentityKey {
        self.account
    }

    /// The version of the list: it goes up with each change.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// The devices, in ascending order.
    #[must_use]
    pub fn devices(&self) -> &[ListedDevice] {
        &self.devices
    }

    /// The device of this number.
    #[must_use]
    pub fn get(&self, device: u32) -> Option<&ListedDevice> {
        self.devices.iter().find(|listed| listed.device == device)
    }

    pub(crate) fn device_of(&self, identity: &IdentityKey) -> Option<&ListedDevice> {
        self.devices.iter().find(|listed| listed.identity == *identity)
    }

    /// Whether the list is too far ahead to be what honest devices made of the known one.
    fn jumps(&self, known: &Self) -> bool {
        let devices = u64::from(self.last_device.saturating_sub(known.last_device));
        self.version.saturating_sub(known.version) >= Self::MAX_JUMP || devices >= Self::MAX_JUMP
    }

    /// Whether this list, by another account key of the same user, takes the place of the known
    /// one: the higher version does, and the higher key where the versions are equal.
    pub(crate) fn succeeds(&self, known: &Self) -> bool {
        let order = |list: &Self| (list.version, list.account);
        order(self) > order(known) && !self.jumps(known)
    }

    /// Whether this list, by the same account key, takes the place of the known one.
    ///
    /// # Errors
    /// [`Error::StaleDeviceList`]: it is older. [`Error::ForkedDeviceList`]: it differs from a list
    /// of the same version, or is 2^16 or more ahead.
    pub(crate) fn replaces(&self, known: &Self) -> Result<bool, Error> {
        if self.version < known.version {
            Err(Error::StaleDeviceList)
        } else if self.jumps(known) {
            Err(Error::ForkedDeviceList)
        } else if self.version > known.version {
            Ok(true)
        } else if self.unsigned() == known.unsigned() {
            Ok(false)
        } else {
            Err(Error::ForkedDeviceList)
        }
    }
}

impl Role {
    const fn byte(self) -> u8 {
        match self {
            Self::Device => 0,
            Self::Manager => 1,
        }
    }

    const fn of(byte: u8) -> Result<Self, Error> {
        match byte {
            0 => Ok(Self::Device),
            1 => Ok(Self::Manager),
            _ => Err(Error::Malformed),
        }
    }
}

/// What an account key signs to certify the next one.
fn certified(previous: &IdentityKey, next: &IdentityKey) -> Vec<u8> {
    [&b"Subrosa v1 account key"[..], previous.as_bytes(), next.as_bytes()].concat()
}

const LABEL: &[u8] = b"Subrosa v1 device list";

/// How far the version goes up when an account is restored.
#[cfg(feature = "std")]
const RESTORED: u64 = 256;

/// State at rest, for `#[serde(with = "...")]`: a list that was checked before it was stored.
pub(crate) mod checked {
    use super::{Deserializer, DeviceList, Error, IdentityKey, Serializer, at_rest};

    pub(crate) fn serialize<S: Serializer>(
        list: &DeviceList,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&list.encode())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<DeviceList, D::Error> {
        at_rest::state::deserialize(deserializer, |bytes| {
            DeviceList::read(bytes, |key| IdentityKey::unchecked(key).ok_or(Error::BadState))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Replay;

    fn key(rng: &mut Replay) -> IdentityKeyPair {
        IdentityKeyPair::generate(rng)
    }

    /// A list of three devices, and its account key.
    fn three(rng: &mut Replay) -> (IdentityKeyPair, DeviceList) {
        let account = key(rng);
        let list = DeviceList::first(&account, key(rng).public_key());
        let (list, _) = list.with(&account, key(rng).public_key(), Role::Device).unwrap();
        let (list, device) = list.with(&account, key(rng).public_key(), Role::Manager).unwrap();
        assert_eq!((list.version(), device), (3, 3));
        (account, list)
    }

    #[test]
    fn a_list_has_one_encoding_and_any_changed_byte_is_refused() {
        let (_, list) = three(&mut Replay::counting());
        let good = list.encode();
        assert_eq!(good.len(), 111 + 3 * 37);
        assert_eq!(DeviceList::decode(&good), Ok(list));
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(DeviceList::decode(&bad).is_err(), "byte {at}");
            assert!(DeviceList::decode(&good[..at]).is_err(), "length {at}");
        }
        assert!(DeviceList::decode(&[&good[..], &[0]].concat()).is_err());
    }

    #[test]
    fn a_renewed_key_is_certified_by_the_one_before_alone() {
        let rng = &mut Replay::counting();
        let (account, list) = three(rng);
        let (next, other) = (key(rng), key(rng));
        let renewed = list.renewed_without(&account, &next, 3).unwrap();
        assert!(renewed.is_certified_by(&account.public_key()));
        assert!(!renewed.is_certified_by(&other.public_key()));
        assert!(!list.is_certified_by(&account.public_key()));
        let later = renewed.without(&next, 2).unwrap();
        assert!(later.is_certified_by(&account.public_key()), "later lists keep the certificate");
        // Somebody who does not hold the old key cannot certify in its name.
        let forged = list.renewed_without(&other, &next, 3).unwrap();
        assert!(!forged.is_certified_by(&account.public_key()));
        let mut bytes = renewed.encode();
        assert_eq!(DeviceList::decode(&bytes), Ok(renewed));
        bytes[33] = 2;
        assert_eq!(DeviceList::decode(&bytes), Err(Error::Malformed));
    }

    #[test]
    fn one_identity_under_two_numbers_is_refused() {
        let rng = &mut Replay::counting();
        let (account, identity, other) = (key(rng), key(rng).public_key(), key(rng).public_key());
        let listed = |device, identity| ListedDevice { device, identity, role: Role::Device };
        let twice = Vec::from([listed(1, identity), listed(2, other), listed(3, identity)]);
        let list = DeviceList::signed(&account, None, 3, 3, twice);
        assert_eq!(DeviceList::decode(&list.encode()), Err(Error::Malformed));
        let once = Vec::from([listed(1, identity), listed(2, other)]);
        assert!(
            DeviceList::decode(&DeviceList::signed(&account, None, 3, 3, once).encode()).is_ok()
        );
    }

    #[test]
    fn numbers_out_of_order_or_above_the_last_given_are_refused() {
        let rng = &mut Replay::counting();
        let (account, one, two) = (key(rng), key(rng).public_key(), key(rng).public_key());
        for (last, first, second) in [(3, 2, 1), (3, 0, 1), (3, 2, 2), (3, 2, 4)] {
            let listed = |device, identity| ListedDevice { device, identity, role: Role::Device };
            let devices = Vec::from([listed(first, one), listed(second, two)]);
            let list = DeviceList::signed(&account, None, 3, last, devices);
            assert_eq!(
                DeviceList::decode(&list.encode()),
                Err(Error::Malformed),
                "{first}, {second}"
            );
        }
    }

    #[test]
    fn a_list_65536_ahead_is_refused_and_one_65535_ahead_is_not() {
        let rng = &mut Replay::counting();
        let (account, known) = three(rng);
        let renewed = key(rng);
        for (versions, devices, taken) in
            [(65_535, 0, true), (65_536, 0, false), (1, 65_535, true), (1, 65_536, false)]
        {
            let made = |by: &IdentityKeyPair| {
                DeviceList::signed(by, None, 3 + versions, 3 + devices, known.devices().to_vec())
            };
            let expected = if taken { Ok(true) } else { Err(Error::ForkedDeviceList) };
            assert_eq!(made(&account).replaces(&known), expected, "{versions}, {devices}");
            assert_eq!(made(&renewed).succeeds(&known), taken, "{versions}, {devices}");
        }
    }

    #[test]
    fn lists_that_differ_have_digests_that_differ() {
        let rng = &mut Replay::counting();
        let (account, list) = three(rng);
        let next = list.without(&account, 2).unwrap();
        assert_ne!(next.digest(), list.digest());
        assert_eq!(DeviceList::decode(&list.encode()).unwrap().digest(), list.digest());
        let role = |role| {
            let device = ListedDevice { device: 1, identity: account.public_key(), role };
            DeviceList::signed(&account, None, 1, 1, Vec::from([device])).digest()
        };
        assert_ne!(role(Role::Manager), role(Role::Device));
    }

    #[test]
    fn the_only_device_cannot_be_taken_off_the_list() {
        let rng = &mut Replay::counting();
        let (account, list) = three(rng);
        let list = list.without(&account, 1).and_then(|list| list.without(&account, 2)).unwrap();
        assert_eq!(list.without(&account, 3), Err(Error::NotPermitted));
        assert!(DeviceList::decode(&list.encode()).is_ok());
    }

    #[test]
    fn a_device_is_listed_once_and_numbers_end() {
        let rng = &mut Replay::counting();
        let (account, list) = three(rng);
        let listed = list.devices()[1].identity;
        assert_eq!(list.with(&account, listed, Role::Manager).err(), Some(Error::AccountExists));
        let new = key(rng).public_key();
        for (version, last_device) in
            [(DeviceList::MAX_VERSION, 3), (DeviceList::MAX_VERSION - 1, DeviceList::MAX_DEVICE)]
        {
            let last = DeviceList { version, last_device, ..list.clone() };
            assert_eq!(last.with(&account, new, Role::Device).err(), Some(Error::Exhausted));
        }
    }

    #[test]
    fn versions_devices_and_numbers_out_of_range_are_refused_though_they_are_signed() {
        let rng = &mut Replay::counting();
        let (account, list) = three(rng);
        let signed = |version, last_device, devices: &[ListedDevice]| {
            let list = DeviceList::signed(&account, None, version, last_device, devices.to_vec());
            DeviceList::decode(&list.encode()).map(drop)
        };
        let (version, device) = (DeviceList::MAX_VERSION, DeviceList::MAX_DEVICE);
        let devices = list.devices();
        assert_eq!(signed(1, 3, devices), Ok(()));
        assert_eq!(signed(version, device, devices), Ok(()));
        assert_eq!(signed(0, 3, devices), Err(Error::Malformed));
        assert_eq!(signed(version + 1, 3, devices), Err(Error::Malformed));
        assert_eq!(signed(1, device + 1, devices), Err(Error::Malformed));
        assert_eq!(signed(1, 3, &[]), Err(Error::Malformed));
        let of = |device| ListedDevice {
            device,
            identity: IdentityKeyPair::generate(&mut Replay::counting()).public_key(),
            role: Role::Device,
        };
        let mut many = Vec::new();
        for device in 1..=33 {
            many.push(ListedDevice { identity: key(rng).public_key(), ..of(device) });
        }
        assert_eq!(signed(1, 33, &many[..32]), Ok(()));
        assert_eq!(signed(1, 33, &many), Err(Error::Malformed));
    }
}
