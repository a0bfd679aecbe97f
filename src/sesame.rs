//! Users, their devices, and the sessions with each (Sesame, 3).
//!
//! A device of a user has at most five sessions, the active one first: that is the one to write in. A session that decrypts becomes the active
//! one, so that two devices which began sessions at the same time come to use the same one. One that was begun and never answered
//! expires.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::codec;
use crate::crypto::kdf::HmacKey;
use crate::crypto::mark;
use crate::crypto::secret::Secret;
use crate::envelope::Reference;
use crate::error::Error;
use crate::identity::{self, IdentityKey};
use crate::session::SessionId;

pub(crate) mod devices;
pub(crate) mod link;

use devices::DeviceList;

/// The most sessions with one device. One is used; the others may still have messages on the way.
pub(crate) const MAX_SESSIONS: usize = 5;

/// The most messages of one device that are waited for to be sent again.
pub(crate) const MAX_ASKING: usize = 1_000;

/// What stands for a user's name in keys of rows, so that a store does not show it: `HMAC(tag key, name)[..16]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag(pub(crate) [u8; 16]);

impl Tag {
    /// # Errors
    /// [`Error::BadName`]
    pub(crate) fn new(key: &Secret<32>, name: &str) -> Result<Self, Error> {
        if !(1..=255).contains(&name.len()) {
            return Err(Error::BadName);
        }
        let mac = HmacKey::new(key).mac(&[name.as_bytes()]);
        mac.expose().first_chunk().copied().map(mark::public).map(Self).ok_or(Error::BadName)
    }

    /// One of 4,096, which nobody else can choose.
    pub(crate) const fn bucket(self) -> [u8; 2] {
        let [a, b, ..] = self.0;
        [a & 0x0f, b]
    }
}

/// Where the rows of a device are: `tag:16 || device:u32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) tag: Tag,
    pub(crate) device: u32,
}

impl Place {
    pub(crate) fn key(self) -> [u8; 20] {
        let mut key = [0; 20];
        key[..16].copy_from_slice(&self.tag.0);
        key[16..].copy_from_slice(&self.device.to_be_bytes());
        key
    }

    /// `place || more`
    pub(crate) fn key_with(self, more: &[u8]) -> Vec<u8> {
        [&self.key(), more].concat()
    }
}

/// What is known of a user.
#[derive(Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) name: String,
    /// Whether the people compared their keys.
    pub(crate) verified: bool,
    #[serde(with = "devices::checked")]
    pub(crate) list: DeviceList,
    /// A list by another account key, which nobody has accepted yet.
    pub(crate) changed: Option<Changed>,
    /// The account keys before this one, the newest last: a list by one of them is old.
    replaced: Vec<Replaced>,
}

#[derive(Serialize, Deserialize)]
struct Replaced(#[serde(with = "identity::checked")] IdentityKey);

/// So many replaced account keys are remembered.
const MAX_REPLACED: usize = 16;

#[derive(Serialize, Deserialize)]
pub(crate) struct Changed(#[serde(with = "devices::checked")] pub(crate) DeviceList);

impl User {
    pub(crate) fn new(name: &str, list: DeviceList) -> Self {
        Self { name: name.into(), verified: false, list, changed: None, replaced: Vec::new() }
    }

    /// Puts a list in the place of the one known. One by another account key ends what the old one can say.
    pub(crate) fn replace(&mut self, list: DeviceList) {
        if list.account() != self.list.account() {
            self.replaced.push(Replaced(self.list.account()));
            self.replaced.drain(..self.replaced.len().saturating_sub(MAX_REPLACED)).for_each(drop);
        }
        self.list = list;
    }

    /// Whether a key is an old one for certain, since people compared the one after it. Else a wrong one that was accepted by mistake would
    /// silence the right one.
    pub(crate) fn has_replaced(&self, account: &IdentityKey) -> bool {
        self.verified && self.replaced.iter().any(|replaced| replaced.0 == *account)
    }

    /// The number of the newest list of theirs that is here, accepted or not.
    pub(crate) fn number(&self) -> u64 {
        let changed = self.changed.as_ref().map_or(0, |changed| changed.0.number());
        self.list.number().max(changed)
    }

    /// Whether a list of theirs has a device of this number.
    pub(crate) fn may_have(&self, device: u32) -> bool {
        let changed = self.changed.as_ref().and_then(|changed| changed.0.get(device));
        self.list.get(device).or(changed).is_some()
    }

    pub(crate) fn encode(&self) -> Zeroizing<Vec<u8>> {
        codec::state::encode(1, self, 4_096)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        codec::state::decode(1, bytes)
    }
}

/// What is known of a device.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Device {
    /// The sessions, the active one first.
    pub(crate) sessions: Vec<Entry>,
    /// How many of its envelopes were opened.
    pub(crate) opened: u64,
    /// References of the envelopes that it is to be asked for, once there is a session to ask in.
    #[serde(with = "codec::records")]
    pub(crate) asking: Vec<[u8; Reference::LENGTH]>,
}

/// A session with a device.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) id: SessionId,
    #[serde(with = "identity::checked")]
    pub(crate) identity: IdentityKey,
    /// When it was begun, by this device's clock.
    pub(crate) created_at: u64,
    pub(crate) answered: bool,
    /// How many envelopes of the device were opened when one was in this session.
    pub(crate) used: u64,
    /// Whether this device began it to ask for what it could not open.
    pub(crate) healing: bool,
    /// Sessions of an earlier epoch were in a store that was restored from a copy, or were reset: they may be read, and
    /// are not written in.
    pub(crate) epoch: u32,
}

impl Device {
    /// Whether there is nothing to remember of it.
    pub(crate) const fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.opened == 0 && self.asking.is_empty()
    }

    pub(crate) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let sessions = self.sessions.len().saturating_mul(96);
        let capacity = self.asking.len().saturating_mul(17).saturating_add(sessions).saturating_add(32);
        codec::state::encode(1, self, capacity)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        codec::state::decode(1, bytes)
    }

    /// The session to write in to a device of this identity: the first of this epoch that has not gone unanswered for
    /// `expiry` seconds.
    pub(crate) fn active(&self, identity: &IdentityKey, epoch: u32, now: u64, expiry: u64) -> Option<&Entry> {
        let expired = |entry: &Entry| !entry.answered && now.saturating_sub(entry.created_at) > expiry;
        let mut sessions = self.sessions.iter();
        sessions.find(|entry| entry.identity == *identity && entry.epoch == epoch && !expired(entry))
    }

    /// The session to ask for an envelope in: one that was begun for that less than `age` seconds ago.
    pub(crate) fn healing(&self, identity: &IdentityKey, epoch: u32, now: u64, age: u64) -> Option<&Entry> {
        let is_young = |entry: &Entry| now.saturating_sub(entry.created_at) <= age;
        let mut sessions = self.sessions.iter().filter(|entry| entry.healing && is_young(entry));
        sessions.find(|entry| entry.identity == *identity && entry.epoch == epoch)
    }

    /// Makes a session the active one. Returns those that there is no more room for, and those in which none of the last `idle` envelopes
    /// was: what is still held back of them would come after it was forgotten that it was asked for and shown.
    pub(crate) fn activate(&mut self, mut entry: Entry, idle: u64) -> Vec<Entry> {
        entry.used = self.opened;
        self.sessions.retain(|other| other.id != entry.id);
        self.sessions.insert(0, entry);
        let opened = self.opened;
        let is_kept = |entry: &Entry| opened.saturating_sub(entry.used) <= idle;
        let (mut kept, mut dropped): (Vec<Entry>, Vec<Entry>) = self.sessions.drain(..).partition(is_kept);
        dropped.extend(kept.split_off(kept.len().min(MAX_SESSIONS)));
        self.sessions = kept;
        dropped
    }

    /// Remembers to ask for an envelope again. The oldest is given up where there are too many.
    pub(crate) fn ask(&mut self, reference: Reference) {
        if !self.asking.contains(&reference.0) {
            self.asking.push(reference.0);
            self.asking.drain(..self.asking.len().saturating_sub(MAX_ASKING)).for_each(drop);
        }
    }
}

/// What the app should fetch, and give to the client.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Needed {
    /// A bundle of this device: for a session in which to ask for what could not be read.
    Bundle(crate::address::Address),
    /// The device list of this user: there seems to be a newer one.
    Devices(Box<str>),
}

impl Needed {
    /// Whom it is about.
    #[must_use]
    pub fn user(&self) -> &str {
        match self {
            Self::Bundle(address) => &address.user,
            Self::Devices(user) => user,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::IdentityKeyPair;
    use crate::testing::Replay;

    fn entries(count: usize) -> Vec<Entry> {
        let identity = IdentityKeyPair::generate(&mut Replay::counting()).public_key();
        let entry = |number: usize| {
            let id =
                postcard::from_bytes(&[&[32][..], &[u8::try_from(number).unwrap(); 32]].concat()).unwrap();
            let created_at = 1_000 + u64::try_from(number).unwrap();
            Entry { id, identity, created_at, answered: false, used: 0, healing: false, epoch: 1 }
        };
        (0..count).map(entry).collect()
    }

    #[test]
    fn five_sessions_are_kept_the_active_one_first() {
        let mut device = Device::default();
        let entries = entries(7);
        let dropped: Vec<Entry> =
            entries.iter().flat_map(|entry| device.activate(entry.clone(), 100)).collect();
        let ids = |entries: &[Entry]| entries.iter().map(|entry| entry.id).collect::<Vec<_>>();
        assert_eq!(ids(&dropped), ids(&entries[..2]));
        assert!(device.activate(entries[4].clone(), 100).is_empty());
        assert_eq!(device.sessions[0].id, entries[4].id);
        assert_eq!(device.sessions.len(), MAX_SESSIONS);
        let again = Device::decode(&device.encode()).unwrap();
        assert_eq!(ids(&again.sessions), ids(&device.sessions));
    }

    #[test]
    fn a_session_is_written_in_while_it_is_of_this_epoch_and_not_expired() {
        let mut device = Device::default();
        let [old, new] = entries(2).try_into().unwrap_or_else(|_| unreachable!());
        let identity = new.identity;
        device.activate(old.clone(), 100);
        device.activate(new.clone(), 100);
        let active =
            |device: &Device, epoch, now| device.active(&identity, epoch, now, 100).map(|entry| entry.id);
        assert_eq!(active(&device, 1, 1_101), Some(new.id));
        assert_eq!(active(&device, 1, 1_102), None);
        assert_eq!(active(&device, 2, 1_001), None);
        device.sessions[1].answered = true;
        assert_eq!(active(&device, 1, 1_102), Some(old.id));
        // A clock that went back expires nothing.
        assert_eq!(active(&device, 1, 0), Some(new.id));
    }

    #[test]
    fn what_is_asked_for_is_bounded() {
        let mut device = Device::default();
        for number in 0..u16::try_from(MAX_ASKING + 10).unwrap() {
            let mut reference = [0; 16];
            reference[..2].copy_from_slice(&number.to_be_bytes());
            device.ask(Reference(reference));
            device.ask(Reference(reference));
        }
        assert_eq!(device.asking.len(), MAX_ASKING);
        assert_eq!(device.asking[0][1], 10);
        assert_eq!(Device::decode(&device.encode()).unwrap().asking, device.asking);
    }

    #[test]
    fn a_name_shows_in_no_tag() {
        let rng = &mut Replay::counting();
        let (key, other) = (Secret::random(rng), Secret::random(rng));
        assert_eq!(Tag::new(&key, "rosa").unwrap(), Tag::new(&key, "rosa").unwrap());
        assert_ne!(Tag::new(&key, "rosa").unwrap(), Tag::new(&other, "rosa").unwrap());
        assert_ne!(Tag::new(&key, "rosa").unwrap(), Tag::new(&key, "rose").unwrap());
        for name in ["", &"x".repeat(256)] {
            assert_eq!(Tag::new(&key, name), Err(Error::BadName));
        }
        assert!(Tag::new(&key, &"x".repeat(255)).is_ok());
    }
}
