//! Which devices a user has, as the user's account key says.

use alloc::vec::Vec;

use serde::{Deserializer, Serializer};

use crate::codec::{self, Reader, Writer};
use crate::error::Error;
use crate::identity::{IdentityKey, IdentityKeyPair};

/// A user's devices, signed by the account key. Whatever is one of these has a valid signature.
///
/// ```text
/// version:u8 = 1 || account:32 || number:u64 || last_device:u32 || count:u8 (1 to 32) ||
/// count * (device:u32 || identity:32 || manager:u8 (0|1)) || signature:64
/// ```
///
/// Devices are in ascending order, and no identity is in it twice. `number` (1 to 2^48) goes up with each change; `last_device` (up to 2^31) is the highest
/// number that a device was ever given, so that none is given twice. A manager holds the account key. The signature is Ed25519 over
/// `"Subrosa v1 device list"` and all that is before it. 110 bytes and 37 for each device.
///
/// Of two lists the one with the higher number counts; one that is older than the one known is refused, and so are two with the same
/// number that differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceList {
    account: IdentityKey,
    number: u64,
    last_device: u32,
    devices: Vec<ListedDevice>,
    signature: [u8; 64],
}

/// A device in a [`DeviceList`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedDevice {
    /// Its number, from 1, never given to another one.
    pub device: u32,
    /// Its identity key.
    pub identity: IdentityKey,
    /// Whether it holds the account key, and so can link and remove devices.
    pub manager: bool,
}

impl DeviceList {
    /// More devices than this a user cannot have: every message is encrypted for each of them.
    pub const MAX_DEVICES: usize = 32;

    const VERSION: u8 = 1;

    /// More changes and more devices than anybody makes. Whoever signs numbers near these wants there to be no next one.
    const MAX_NUMBER: u64 = 1 << 48;
    const MAX_DEVICE: u32 = 1 << 31;

    /// So far a list may be ahead of the one known: changes go up by 256 at most.
    const MAX_JUMP: u64 = 1 << 16;

    /// The list of a new account: its first device.
    pub(crate) fn first(account: &IdentityKeyPair, identity: IdentityKey) -> Self {
        let device = ListedDevice { device: 1, identity, manager: true };
        Self::signed(account, 1, 1, Vec::from([device]))
    }

    /// The next list, with one device more, and its number.
    ///
    /// # Errors
    /// [`Error::Exhausted`]: 32 devices are linked, or 2^31 were. [`Error::AccountExists`]: the device is linked already.
    pub(crate) fn with(
        &self,
        account: &IdentityKeyPair,
        identity: IdentityKey,
        manager: bool,
    ) -> Result<(Self, u32), Error> {
        if self.device_of(&identity).is_some() {
            return Err(Error::AccountExists);
        }
        let device = self.last_device.saturating_add(1);
        if device > Self::MAX_DEVICE {
            return Err(Error::Exhausted);
        }
        let mut devices = self.devices.clone();
        devices.push(ListedDevice { device, identity, manager });
        if devices.len() > Self::MAX_DEVICES {
            return Err(Error::Exhausted);
        }
        Ok((Self::signed(account, self.next_number(0)?, device, devices), device))
    }

    /// The next list, without a device. `account` may be another key than before: then the number goes up by some more, which that key
    /// says, so that of two managers who make a new key at the same time one has the higher number.
    ///
    /// # Errors
    /// [`Error::Exhausted`]
    pub(crate) fn without(&self, account: &IdentityKeyPair, device: u32) -> Result<Self, Error> {
        let devices = self.devices.iter().filter(|listed| listed.device != device).copied().collect();
        let key = account.public_key();
        let [more, ..] = *key.as_bytes();
        let more = if key == self.account { 0 } else { u64::from(more) };
        Ok(Self::signed(account, self.next_number(more)?, self.last_device, devices))
    }

    fn next_number(&self, more: u64) -> Result<u64, Error> {
        let next = self.number.saturating_add(1).saturating_add(more);
        if next > Self::MAX_NUMBER { Err(Error::Exhausted) } else { Ok(next) }
    }

    fn signed(account: &IdentityKeyPair, number: u64, last_device: u32, devices: Vec<ListedDevice>) -> Self {
        let account_key = account.public_key();
        let mut list = Self { account: account_key, number, last_device, devices, signature: [0; 64] };
        list.signature = account.sign(&[LABEL, &list.unsigned()].concat());
        list
    }

    fn unsigned(&self) -> Vec<u8> {
        let count = u8::try_from(self.devices.len()).expect("at most 32");
        let capacity = self.devices.len().saturating_mul(37).saturating_add(110);
        let out = Writer::with_capacity(capacity).u8(Self::VERSION).bytes(self.account.as_bytes());
        let out = out.u64(self.number).u32(self.last_device).u8(count);
        let devices = self.devices.iter();
        devices
            .fold(out, |out, listed| {
                out.u32(listed.device).bytes(listed.identity.as_bytes()).u8(u8::from(listed.manager))
            })
            .done()
    }

    /// The bytes, for a server to keep and to hand to anyone.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.unsigned();
        bytes.extend_from_slice(&self.signature);
        bytes
    }

    /// From bytes, of which everything is checked but whose account it is.
    ///
    /// # Errors
    /// [`Error::UnsupportedVersion`], [`Error::Malformed`], [`Error::InvalidKey`], [`Error::BadSignature`]
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let list = Self::read(bytes, IdentityKey::decode)?;
        let (_, account) = IdentityKey::verifying(list.account.as_bytes())?;
        account.verify(&[LABEL, &list.unsigned()].concat(), &list.signature)?;
        Ok(list)
    }

    fn read(bytes: &[u8], identity: impl Fn(&[u8]) -> Result<IdentityKey, Error>) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != Self::VERSION {
            return Err(Error::UnsupportedVersion);
        }
        let account = identity(reader.array::<32>()?)?;
        let (number, last_device, count) = (reader.u64()?, reader.u32()?, usize::from(reader.u8()?));
        let in_range = (1..=Self::MAX_NUMBER).contains(&number) && last_device <= Self::MAX_DEVICE;
        if !in_range || !(1..=Self::MAX_DEVICES).contains(&count) {
            return Err(Error::Malformed);
        }
        let mut devices: Vec<ListedDevice> = Vec::with_capacity(count);
        for _ in 0..count {
            let device = reader.u32()?;
            let before = devices.last().map_or(0, |listed| listed.device);
            let identity = identity(reader.array::<32>()?)?;
            let manager = match reader.u8()? {
                0 => false,
                1 => true,
                _ => return Err(Error::Malformed),
            };
            if device <= before || device > last_device || devices.iter().any(|one| one.identity == identity)
            {
                return Err(Error::Malformed);
            }
            devices.push(ListedDevice { device, identity, manager });
        }
        let signature = *reader.array()?;
        reader.end()?;
        Ok(Self { account, number, last_device, devices, signature })
    }

    /// The account key that signed it, which people compare.
    #[must_use]
    pub const fn account(&self) -> IdentityKey {
        self.account
    }

    /// Its number: the higher, the newer.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// The devices, in ascending order.
    #[must_use]
    pub fn devices(&self) -> &[ListedDevice] {
        &self.devices
    }

    /// The device of a number.
    #[must_use]
    pub fn get(&self, device: u32) -> Option<&ListedDevice> {
        self.devices.iter().find(|listed| listed.device == device)
    }

    pub(crate) fn device_of(&self, identity: &IdentityKey) -> Option<&ListedDevice> {
        self.devices.iter().find(|listed| listed.identity == *identity)
    }

    /// Whether it is too far ahead to be what honest devices made of the one known.
    fn jumps(&self, known: &Self) -> bool {
        let devices = u64::from(self.last_device.saturating_sub(known.last_device));
        self.number.saturating_sub(known.number) > Self::MAX_JUMP || devices > Self::MAX_JUMP
    }

    /// Whether this list, by another account key of the same user, takes the place of the one known: the higher number does, and the
    /// higher key where they are the same.
    pub(crate) fn succeeds(&self, known: &Self) -> bool {
        let order = |list: &Self| (list.number, list.account);
        order(self) > order(known) && !self.jumps(known)
    }

    /// Whether this list, of the same account, takes the place of the one known.
    ///
    /// # Errors
    /// [`Error::StaleDeviceList`], [`Error::ForkedDeviceList`]
    pub(crate) fn replaces(&self, known: &Self) -> Result<bool, Error> {
        if self.number < known.number {
            Err(Error::StaleDeviceList)
        } else if self.jumps(known) {
            Err(Error::ForkedDeviceList)
        } else if self.number > known.number {
            Ok(true)
        } else if self.unsigned() == known.unsigned() {
            Ok(false)
        } else {
            Err(Error::ForkedDeviceList)
        }
    }
}

const LABEL: &[u8] = b"Subrosa v1 device list";

/// State at rest, for `#[serde(with = "...")]`: a list that was checked before it was stored, in our own state.
pub(crate) mod checked {
    use super::{Deserializer, DeviceList, Error, IdentityKey, Serializer, codec};

    pub(crate) fn serialize<S: Serializer>(list: &DeviceList, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&list.encode())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DeviceList, D::Error> {
        codec::state::deserialize(deserializer, |bytes| {
            DeviceList::read(bytes, |key| IdentityKey::unchecked(key).ok_or(Error::BadState))
        })
    }
}
