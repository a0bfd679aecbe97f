//! The account: its keys, what is to be uploaded, its devices.

use alloc::vec::Vec;

use rand_core::CryptoRng;

use super::Policy;
use super::actions::{Account, Actions};
use super::receive::Arrival;
use super::send::{Fan, Logged, LoggedBody, NOT_LOGGED, Target};
use crate::address::Address;
use crate::crypto::secret::Secret;
use crate::envelope::{Body, Reference};
use crate::error::Error;
use crate::identity::{IdentityKey, IdentityKeyPair};
use crate::prekey::{Prekeys, PublishedPrekeys};
use crate::sesame::devices::DeviceList;
use crate::sesame::link::{Code, Grant, NewDevice};
use crate::sesame::{Place, User};
use crate::store::Transaction;

/// What a device leaves with the server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Upload {
    /// The public prekeys that are new. The server adds them to those it has: [`PublishedPrekeys::merge`].
    pub prekeys: PublishedPrekeys,
    /// The user's device list. The server keeps the one with the highest number.
    pub devices: DeviceList,
    up_to: u32,
}

/// A hint that is further ahead is no generation: no store does so many transactions.
const MOST_LOST: u64 = 1 << 40;

/// One-time sets above this many are given up, the oldest first: whoever takes bundles without end makes no more of them be kept.
const MOST_ONE_TIME: usize = 1_000;

/// After a store was restored from a copy, ids go on so far above those of the copy: more than were given out since.
const LOST_IDS: u32 = 1 << 20;

impl Actions<'_> {
    /// As [`Client::create`](crate::Client::create), in a transaction of your own.
    ///
    /// # Errors
    /// As there.
    pub fn create(
        tx: &mut dyn Transaction,
        policy: &Policy,
        user: &str,
        now: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<(), Error> {
        let (account_key, identity) = (IdentityKeyPair::generate(rng), IdentityKeyPair::generate(rng));
        let list = DeviceList::first(&account_key, identity.public_key());
        let grant = Grant { user: user.into(), device: 1, list, account: Some(account_key) };
        Self::found(tx, policy, (&identity, grant), now, rng)
    }

    /// As [`Client::join`](crate::Client::join), in a transaction of your own.
    ///
    /// # Errors
    /// As there.
    pub fn join(
        tx: &mut dyn Transaction,
        policy: &Policy,
        (device, grant): (&NewDevice, &[u8]),
        now: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<(), Error> {
        let (identity, grant) = device.accept(grant)?;
        Self::found(tx, policy, (&identity, grant), now, rng)
    }

    fn found(
        tx: &mut dyn Transaction,
        policy: &Policy,
        (identity, grant): (&IdentityKeyPair, Grant),
        now: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<(), Error> {
        let keys = [Secret::random(rng), Secret::random(rng)];
        let account = Account::new(grant.user.clone(), grant.device, identity.public_key(), keys);
        let mut actions = Actions::first(tx, policy, account)?;
        let tag = actions.tag(&grant.user)?;
        let mut user = User::new(&grant.user, grant.list);
        user.verified = true;
        actions.put_user(tag, &user)?;
        actions.put_identity(identity)?;
        if let Some(account_key) = &grant.account {
            actions.put_account_key(Some(account_key))?;
        }
        actions.put_prekeys(&Prekeys::generate(0, now, rng)?)?;
        actions.finish()
    }

    /// The store is an older copy where it has seen fewer transactions than the app knows of: see
    /// [`Client::open_after`](crate::Client::open_after). Says whether it is.
    ///
    /// # Errors
    /// [`Error::Exhausted`]: `generation` is no generation, or prekey ids are used up. [`Error::Store`].
    pub fn notice_restored(
        &mut self,
        generation: u64,
        now: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<bool, Error> {
        let Some(lost) = generation.checked_sub(self.commit.generation).filter(|lost| *lost > 0) else {
            return Ok(false);
        };
        if lost > MOST_LOST {
            return Err(Error::Exhausted);
        }
        let mut prekeys = self.prekeys()?;
        // A second restoration of the same copy must not come to the same ids: more transactions were lost with it.
        let more = u32::try_from(lost.saturating_mul(256)).unwrap_or(u32::MAX).min(LOST_IDS);
        prekeys.skip_ids(LOST_IDS.saturating_add(more))?;
        prekeys.add_signed(now, rng)?;
        prekeys.add_last_resort(now, rng)?;
        self.commit.generation = generation;
        self.commit.epoch = self.commit.epoch.saturating_add(1);
        self.put_prekeys(&prekeys)?;
        self.set_uploaded((0, 0));
        Ok(true)
    }

    /// This device's address.
    #[must_use]
    pub fn address(&self) -> Address {
        Address::new(&self.account.user, self.account.device)
    }

    /// This device's identity key.
    #[must_use]
    pub const fn identity_key(&self) -> IdentityKey {
        self.account.identity
    }

    /// See [`Client::generation`](crate::Client::generation).
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.commit.generation
    }

    /// See [`Client::upload`](crate::Client::upload).
    ///
    /// # Errors
    /// As there.
    pub fn upload(
        &mut self,
        on_server: usize,
        now: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<Option<Upload>, Error> {
        self.whole(|actions| {
            let (_, own) = actions.linked_user()?;
            let mut prekeys = actions.prekeys()?;
            let before = prekeys.last_id();
            let rotated = prekeys.rotate_if_due(now, rng)?;
            // Those made but not uploaded yet are on the way.
            let (up_to, list_number) = actions.commit.uploaded;
            let waiting = prekeys.one_time_above(up_to);
            let there = on_server.saturating_add(waiting);
            if there < actions.policy.prekeys_low {
                prekeys.refill(there, actions.policy.prekeys_target, now, rng)?;
                prekeys.keep_newest(MOST_ONE_TIME.max(actions.policy.prekeys_target));
            }
            if rotated || prekeys.last_id() != before {
                actions.put_prekeys(&prekeys)?;
            }
            if prekeys.last_id() == up_to && own.list.number() <= list_number {
                return Ok(None);
            }
            let published = prekeys.publish_current(up_to, &actions.identity()?);
            Ok(Some(Upload { prekeys: published, devices: own.list, up_to: prekeys.last_id() }))
        })
    }

    /// See [`Client::uploaded`](crate::Client::uploaded).
    ///
    /// # Errors
    /// As there.
    pub fn uploaded(&mut self, upload: &Upload) -> Result<(), Error> {
        let (up_to, number) = self.commit.uploaded;
        self.set_uploaded((up_to.max(upload.up_to), number.max(upload.devices.number())));
        Ok(())
    }

    /// See [`Client::link`](crate::Client::link).
    ///
    /// # Errors
    /// As there.
    pub fn link(
        &mut self,
        code: &str,
        manager: bool,
        now: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, Error> {
        self.whole(|actions| {
            let account_key = actions.account_key()?;
            let code = Code::decode(code)?;
            let (tag, mut own) = actions.linked_user()?;
            let (list, device) = own.list.with(&account_key, code.identity, manager)?;
            let account = manager.then_some(account_key);
            let grant = Grant { user: own.name.clone(), device, list: list.clone(), account };
            let grant = code.grant(&grant, rng)?;
            actions.adopt(tag, &mut own, list)?;
            actions.tell_own_devices(false, now, rng)?;
            Ok(grant)
        })
    }

    /// See [`Client::remove_device`](crate::Client::remove_device).
    ///
    /// # Errors
    /// As there.
    pub fn remove_device(&mut self, device: u32, now: u64, rng: &mut impl CryptoRng) -> Result<(), Error> {
        self.whole(|actions| {
            let mut account_key = actions.account_key()?;
            let (tag, mut own) = actions.linked_user()?;
            let removed = own.list.get(device).copied();
            let address = || Address::new(&own.name, device);
            let removed = removed.ok_or_else(|| Error::UnknownDevice(address().into()))?;
            if device == actions.account.device {
                return Err(Error::NotPermitted);
            }
            // Who held the account key knows it still: what it certifies from now on must count for nothing.
            if removed.manager {
                account_key = IdentityKeyPair::generate(rng);
                actions.put_account_key(Some(&account_key))?;
            }
            let list = own.list.without(&account_key, device)?;
            actions.adopt(tag, &mut own, list)?;
            actions.tell_own_devices(removed.manager, now, rng)
        })
    }

    /// Tells one's own other devices of a new list, or of a new account key with it: those that there is a session with. The others learn it
    /// with the first message.
    fn tell_own_devices(&mut self, new_key: bool, now: u64, rng: &mut impl CryptoRng) -> Result<(), Error> {
        let (tag, own) = self.own_user()?;
        let mut fan = Fan::default();
        self.add_targets(&mut fan, (tag, &own), false, now)?;
        for mut target in fan.targets {
            if new_key {
                let row = Logged::new(&own, now, LoggedBody::Account);
                let place = self.log(row, rng)?;
                self.post_account(&mut target, (place, None), rng)?;
            } else {
                self.post(&mut target, Body::Devices, (NOT_LOGGED, None), rng)?;
            }
        }
        Ok(())
    }

    /// The account's key, for a manager; that there is a new one, for any other device.
    pub(super) fn post_account(
        &mut self,
        target: &mut Target,
        again: (u64, Option<Reference>),
        rng: &mut impl CryptoRng,
    ) -> Result<(), Error> {
        let (_, own) = self.own_user()?;
        let is_manager = own.list.get(target.place.device).is_some_and(|listed| listed.manager);
        let key = match self.account_key() {
            Ok(key) if is_manager => Some(key),
            Ok(_) | Err(Error::NotPermitted) => None,
            Err(error) => return Err(error),
        };
        let seed = key.map(|key| key.seed());
        self.post(target, Body::Account(seed.as_ref().map(Secret::expose)), again, rng)
    }

    /// Takes the account's new key from a device that may give it: one that holds the old one.
    pub(super) fn take_account(
        &mut self,
        arrival: Arrival<'_>,
        list: Option<&[u8]>,
        seed: Option<&[u8; 32]>,
    ) -> Result<(), Error> {
        let (tag, mut own) = self.own_user()?;
        let is_manager = own.list.get(arrival.from.device).is_some_and(|listed| listed.manager);
        let Some(Ok(list)) = list.map(DeviceList::decode) else { return Ok(()) };
        if !is_manager || !list.succeeds(&own.list) {
            return Ok(());
        }
        let key = seed.map(|seed| IdentityKeyPair::from_seed(&Secret::new(*seed)));
        let key = key.filter(|key| key.public_key() == list.account());
        if list.account() != own.list.account() {
            self.put_account_key(key.as_ref())?;
        }
        self.adopt(tag, &mut own, list)
    }

    /// Ends every session with a device.
    pub(super) fn end_sessions(&mut self, place: Place) -> Result<(), Error> {
        let mut device = self.device(place)?;
        for entry in &device.sessions {
            self.delete_session(place, entry)?;
        }
        device.sessions.clear();
        device.asking.clear();
        self.put_device(place, &device)
    }
}
