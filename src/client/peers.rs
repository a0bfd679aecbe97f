//! Other users: their devices, bundles of them, what is known of who they are, the sessions with them.

use alloc::vec::Vec;

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use super::actions::Actions;
use super::send::Target;
use crate::address::Address;
use crate::codec;
use crate::error::Error;
use crate::identity::IdentityKey;
use crate::prekey::Bundle;
use crate::sesame::devices::DeviceList;
use crate::sesame::{Device, Entry, Needed, Place, Tag, User};
use crate::session::{Session, SessionId};
use crate::store::Table;

/// What is known of who a user is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Trust {
    /// The account key is the one that was seen first. Nobody has compared it.
    FirstUse,
    /// The people compared the account key.
    Verified,
    /// This is signed by another account key than the one known, and nobody has accepted it.
    Changed,
}

impl Trust {
    pub(super) const fn of(user: &User) -> Self {
        if user.verified { Self::Verified } else { Self::FirstUse }
    }
}

/// What is known of who a user is, and what people compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Safety {
    /// The account key that is taken for the user's.
    pub account: IdentityKey,
    /// First use or verified; changed, where there is another one that nobody has accepted.
    pub trust: Trust,
    /// The other one.
    pub changed_to: Option<IdentityKey>,
}

/// A session, as a list of them shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionInfo {
    /// The device at the other end.
    pub with: Address,
    /// The session's name, the same on both sides.
    pub id: SessionId,
    /// When it was begun.
    pub created_at: u64,
    /// Whether a message of the other side was read in it.
    pub answered: bool,
    /// Whether the next message is written in it.
    pub active: bool,
}

impl Actions<'_> {
    /// See [`Client::take_devices`](crate::Client::take_devices).
    ///
    /// # Errors
    /// As there.
    pub fn take_devices(&mut self, user: &str, list: &[u8]) -> Result<(), Error> {
        let list = DeviceList::decode(list)?;
        self.whole(|actions| {
            let tag = actions.tag(user)?;
            match actions.user(tag)? {
                None => actions.put_user(tag, &User::new(user, list))?,
                Some(known) => {
                    let same = list.account() == known.list.account();
                    let older = same && list.number() < known.list.number();
                    if older || known.has_replaced(&list.account()) {
                        return Err(Error::StaleDeviceList);
                    }
                    actions.learn(tag, known, list)??;
                }
            }
            actions.need_no_more(&Needed::Devices(user.into()))
        })
    }

    /// See [`Client::devices`](crate::Client::devices).
    ///
    /// # Errors
    /// As there.
    pub fn devices(&mut self, user: &str) -> Result<Option<DeviceList>, Error> {
        let tag = self.tag(user)?;
        Ok(self.user(tag)?.map(|user| user.list))
    }

    /// See [`Client::take_bundle`](crate::Client::take_bundle).
    ///
    /// # Errors
    /// As there.
    pub fn take_bundle(
        &mut self,
        of: &Address,
        bundle: &[u8],
        now: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<(), Error> {
        self.whole(|actions| {
            let bundle = Bundle::decode(bundle)?.verify(&actions.account.identity, now)?;
            let (tag, user) = actions.known_user(&of.user)?;
            if user.changed.is_some() {
                return Err(Error::IdentityChanged(of.user.as_str().into()));
            }
            let listed = user.list.get(of.device);
            if listed.is_none_or(|listed| listed.identity != bundle.identity()) {
                return Err(Error::UnknownDevice(of.clone().into()));
            }
            let place = Place { tag, device: of.device };
            let session = Session::initiate(&actions.identity()?, &bundle, rng)?;
            let (id, identity, epoch) = (session.id(), session.peer(), actions.commit.epoch);
            let mut device = actions.device(place)?;
            let asking = core::mem::take(&mut device.asking);
            let healing = !asking.is_empty();
            let entry = Entry { id, identity, created_at: now, answered: false, used: 0, healing, epoch };
            actions.put_session(place, &session)?;
            actions.activate(place, &mut device, entry)?;
            actions.need_no_more(&Needed::Bundle(of.clone()))?;
            if asking.is_empty() {
                return Ok(());
            }
            let known = user.number();
            let mut target = Target { address: of.clone(), place, session, known, copy: false };
            actions.ask(&mut target, asking.as_flattened(), now, rng)
        })
    }

    /// See [`Client::needed`](crate::Client::needed).
    ///
    /// # Errors
    /// As there.
    pub fn needed(&mut self, most: usize) -> Result<Vec<Needed>, Error> {
        let rows = self.scan(Table::Needed, &[], most)?;
        rows.iter().map(|(_, row)| codec::state::decode(1, row)).collect()
    }

    /// See [`Client::supply`](crate::Client::supply).
    ///
    /// # Errors
    /// As there.
    pub fn supply(
        &mut self,
        needed: &Needed,
        found: Option<&[u8]>,
        now: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<(), Error> {
        match (needed, found) {
            (_, None) => self.give_up(needed),
            (Needed::Bundle(of), Some(bundle)) => self.take_bundle(of, bundle, now, rng),
            (Needed::Devices(user), Some(list)) => match self.take_devices(user, list) {
                // The server has no newer one either.
                Err(Error::StaleDeviceList) => self.give_up(needed),
                taken => taken,
            },
        }
    }

    /// See [`Client::give_up`](crate::Client::give_up).
    ///
    /// # Errors
    /// As there.
    pub fn give_up(&mut self, needed: &Needed) -> Result<(), Error> {
        self.whole(|actions| {
            if let Needed::Bundle(address) = needed {
                let place = actions.place(address)?;
                let mut device = actions.device(place)?;
                if !device.asking.is_empty() {
                    device.asking.clear();
                    actions.put_device(place, &device)?;
                }
            }
            actions.need_no_more(needed)
        })
    }

    /// See [`Client::safety`](crate::Client::safety).
    ///
    /// # Errors
    /// As there.
    pub fn safety(&mut self, user: &str) -> Result<Option<Safety>, Error> {
        let tag = self.tag(user)?;
        Ok(self.user(tag)?.map(|user| {
            let changed_to = user.changed.as_ref().map(|changed| changed.0.account());
            let trust = if changed_to.is_some() { Trust::Changed } else { Trust::of(&user) };
            Safety { account: user.list.account(), trust, changed_to }
        }))
    }

    /// See [`Client::verify`](crate::Client::verify).
    ///
    /// # Errors
    /// As there.
    pub fn verify(&mut self, user: &str, account: &IdentityKey) -> Result<(), Error> {
        let (tag, mut known) = self.known_user(user)?;
        if known.changed.is_some() || known.list.account() != *account {
            return Err(Error::IdentityChanged(user.into()));
        }
        known.verified = true;
        self.put_user(tag, &known)
    }

    /// See [`Client::accept`](crate::Client::accept).
    ///
    /// # Errors
    /// As there.
    pub fn accept(&mut self, user: &str, account: &IdentityKey) -> Result<(), Error> {
        self.whole(|actions| {
            let (tag, mut known) = actions.known_user(user)?;
            match known.changed.take() {
                Some(changed) if changed.0.account() == *account => {
                    known.verified = false;
                    actions.adopt(tag, &mut known, changed.0)
                }
                // What was shown in its place is dismissed.
                Some(_) if known.list.account() == *account => actions.put_user(tag, &known),
                None if known.list.account() == *account => Ok(()),
                _ => Err(Error::IdentityChanged(user.into())),
            }
        })
    }

    /// See [`Client::sessions`](crate::Client::sessions).
    ///
    /// # Errors
    /// As there.
    pub fn sessions(&mut self, user: &str, now: u64) -> Result<Vec<SessionInfo>, Error> {
        let tag = self.tag(user)?;
        let Some(known) = self.user(tag)? else { return Ok(Vec::new()) };
        let (epoch, expiry) = (self.commit.epoch, self.policy.unanswered_expiry);
        let mut all = Vec::new();
        for (number, device) in self.devices_of(tag)? {
            let with = Address::new(user, number);
            let identity = known.list.get(number).map(|listed| listed.identity);
            let active = identity.and_then(|identity| device.active(&identity, epoch, now, expiry));
            let active = active.map(|entry| entry.id);
            all.extend(device.sessions.iter().map(|entry| SessionInfo {
                with: with.clone(),
                id: entry.id,
                created_at: entry.created_at,
                answered: entry.answered,
                active: active == Some(entry.id),
            }));
        }
        Ok(all)
    }

    fn devices_of(&mut self, tag: Tag) -> Result<Vec<(u32, Device)>, Error> {
        let rows = self.scan(Table::Device, &tag.0, usize::MAX)?.into_iter();
        rows.map(|(key, row)| {
            let number = key.last_chunk().copied().map(u32::from_be_bytes).ok_or(Error::BadState)?;
            Ok((number, Device::decode(&row)?))
        })
        .collect()
    }

    /// See [`Client::reset`](crate::Client::reset).
    ///
    /// # Errors
    /// As there.
    pub fn reset(&mut self, with: &Address) -> Result<(), Error> {
        self.whole(|actions| {
            let place = actions.place(with)?;
            let mut device = actions.device(place)?;
            // Of no epoch that there ever is: to be read, not to be written in.
            device.sessions.iter_mut().for_each(|entry| entry.epoch = 0);
            actions.put_device(place, &device)
        })
    }

    /// See [`Client::forget`](crate::Client::forget).
    ///
    /// # Errors
    /// As there.
    pub fn forget(&mut self, user: &str) -> Result<(), Error> {
        self.whole(|actions| {
            if user == actions.account.user {
                return Err(Error::NotPermitted);
            }
            let tag = actions.tag(user)?;
            // Which envelopes were opened stays: they are not to be shown a second time.
            for (device, _) in actions.devices_of(tag)? {
                actions.end_sessions(Place { tag, device })?;
            }
            actions.delete(Table::User, &tag.0)?;
            for needed in actions.needed(usize::MAX)? {
                if needed.user() == user {
                    actions.need_no_more(&needed)?;
                }
            }
            Ok(())
        })
    }
}
