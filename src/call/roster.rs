//! Who is in a call: the devices that may be, and what is known of each.

use alloc::collections::BTreeMap;

use super::receiving::Receiving;
use crate::address::Address;
use crate::error::Error;
use crate::identity::IdentityKey;
use crate::signal::Members;

/// Milliseconds between two joins to a device that is in the call.
pub(super) const RENEW: u64 = 30_000;

/// The longest wait between two joins to a device that may be in the call and is not: it doubles.
pub(super) const LONGEST_WAIT: u64 = 600_000;

/// Milliseconds after which a device that is not heard of is not in the call any more.
pub(super) const SILENT: u64 = 90_000;

/// Milliseconds between two signals of one kind that a device brings about.
pub(super) const PAUSE: u64 = 1_000;

/// Every device that may be in the call, or might be once.
#[derive(Default)]
pub(super) struct Roster {
    pub(super) devices: BTreeMap<Address, Device>,
}

/// A device, as far as this call is concerned. Once it was heard of, it is remembered until the
/// call ends: what comes late from an earlier instance is known by that.
pub(super) struct Device {
    pub(super) identity: IdentityKey,
    /// Whether it may be in the call.
    pub(super) is_member: bool,
    pub(super) presence: Presence,
    /// The highest instance that it named.
    pub(super) instance: Option<u64>,
    /// When it was heard of.
    pub(super) heard_at: u64,
    pub(super) receiving: Receiving,
    /// When it is told next that this device is in the call.
    pub(super) join_at: u64,
    pub(super) join_wait: u64,
    pub(super) joined_at: Option<u64>,
    /// The lowest generation of this device that it may have; none where that is not decided yet.
    pub(super) may_have: Option<u32>,
    /// Whether it is to be told the newest generation, and the one in use.
    pub(super) owed_newest: bool,
    pub(super) owed_current: bool,
    /// The generation that it was told last, and when.
    pub(super) told: Option<(u32, u64)>,
    /// Whether its key is wanted, and when that was said.
    pub(super) is_wanted: bool,
    pub(super) wanted_at: Option<u64>,
}

/// Whether a device is in the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    Here,
    /// It may come, or come back.
    Away,
    /// It said that it leaves. Only a new instance brings it back.
    Left,
}

/// What a signal of a device means for the roster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It was here before.
    Again,
    /// It was not, or not as this instance.
    Arrived,
}

impl Device {
    fn new(identity: IdentityKey, now: u64) -> Self {
        Self {
            identity,
            is_member: true,
            presence: Presence::Away,
            instance: None,
            heard_at: now,
            receiving: Receiving::default(),
            join_at: now,
            join_wait: RENEW,
            joined_at: None,
            may_have: None,
            owed_newest: false,
            owed_current: false,
            told: None,
            is_wanted: false,
            wanted_at: None,
        }
    }

    pub(super) fn is_here(&self) -> bool {
        self.is_member && self.presence == Presence::Here
    }

    /// It says, as this instance, that it is in the call.
    ///
    /// # Errors
    /// [`Error::StaleKey`]: there was a newer instance, or this one has left.
    pub(super) fn heard(&mut self, instance: u64, now: u64) -> Result<Heard, Error> {
        let is_new = self.check(instance)?;
        if is_new {
            self.receiving = Receiving::default();
            self.instance = Some(instance);
        }
        let heard =
            if is_new || self.presence != Presence::Here { Heard::Arrived } else { Heard::Again };
        if heard == Heard::Arrived {
            // What it is told now says that this device is here.
            (self.join_at, self.join_wait) = (now.saturating_add(RENEW), RENEW);
            (self.may_have, self.owed_newest) = (None, true);
        }
        self.presence = Presence::Here;
        self.heard_at = now;
        Ok(heard)
    }

    /// It says, as this instance, that it leaves. Says whether it was here.
    ///
    /// # Errors
    /// [`Error::StaleKey`]: there was a newer instance.
    pub(super) fn left(&mut self, instance: u64, now: u64) -> Result<bool, Error> {
        if self.presence == Presence::Left && self.instance == Some(instance) {
            return Ok(false);
        }
        self.check(instance)?;
        self.instance = Some(instance);
        self.receiving = Receiving::default();
        let was_here = self.is_here();
        self.go(Presence::Left, now);
        Ok(was_here)
    }

    /// It is not in the call any more. Its keys stay: should it come back as the same instance, no
    /// frame is opened twice.
    pub(super) fn go(&mut self, to: Presence, now: u64) {
        self.presence = to;
        self.may_have = None;
        (self.owed_newest, self.owed_current, self.is_wanted) = (false, false, false);
        (self.join_at, self.join_wait) = (now.saturating_add(RENEW), RENEW);
    }

    /// Whether an instance is newer than the one known.
    ///
    /// # Errors
    /// [`Error::StaleKey`]: there was a newer instance, or this one has left.
    pub(super) fn check(&self, instance: u64) -> Result<bool, Error> {
        match self.instance {
            Some(known) if instance < known => Err(Error::StaleKey),
            Some(known) if instance == known && self.presence == Presence::Left => {
                Err(Error::StaleKey)
            }
            Some(known) => Ok(instance > known),
            None => Ok(true),
        }
    }

    /// It was told that this device is here.
    pub(super) fn joined(&mut self, now: u64) {
        self.joined_at = Some(now);
        self.join_wait = if self.is_here() { RENEW } else { self.join_wait };
        self.join_at = now.saturating_add(self.join_wait);
        self.join_wait = self.join_wait.saturating_mul(2).min(LONGEST_WAIT);
    }

    /// Frames come from it, and nothing says that it is here: it may not know that this device is.
    pub(super) fn hurry_join(&mut self, now: u64) {
        let soonest = self.joined_at.map_or(now, |at| at.saturating_add(PAUSE).max(now));
        self.join_at = self.join_at.min(soonest);
    }

    /// A frame of it came for which there is no key.
    pub(super) fn miss(&mut self, now: u64) {
        match self.presence {
            Presence::Here => self.is_wanted = true,
            Presence::Away => self.hurry_join(now),
            Presence::Left => {}
        }
    }

    /// When it is to be told a key, of which the newest is `newest`. One that this instance of it
    /// was told already is told again after a pause.
    pub(super) fn key_at(&self, newest: u32) -> Option<u64> {
        if !self.is_here() || !(self.owed_newest || self.owed_current) {
            return None;
        }
        match self.told {
            Some((told, at)) if told == newest => Some(at.saturating_add(PAUSE)),
            _ => Some(0),
        }
    }

    /// When it is to be asked for its key.
    pub(super) fn want_at(&self) -> Option<u64> {
        let at = self.wanted_at.map_or(0, |at| at.saturating_add(PAUSE));
        (self.is_here() && self.is_wanted).then_some(at)
    }
}

impl Roster {
    /// Takes who may be in the call. Says whether somebody who was here may not any more.
    pub(super) fn set(&mut self, me: &Address, members: &Members, now: u64) -> bool {
        let mut is_anyone_removed = false;
        for (address, device) in &mut self.devices {
            if members.devices.get(address) != Some(&device.identity) && device.is_member {
                is_anyone_removed |= device.is_here();
                device.is_member = false;
                device.go(Presence::Away, now);
            }
        }
        for (address, identity) in members.devices.iter().filter(|(address, _)| *address != me) {
            let device =
                self.devices.entry(address.clone()).or_insert_with(|| Device::new(*identity, now));
            if device.identity != *identity {
                *device = Device::new(*identity, now);
            }
            if !device.is_member {
                device.is_member = true;
                device.join_at = now;
            }
        }
        // A user may have ever new devices. What nothing was heard of, nothing late can come of.
        self.devices.retain(|_, device| device.is_member || device.instance.is_some());
        is_anyone_removed
    }

    /// The devices that are not heard of any more go. Says whether there were any.
    pub(super) fn expire(&mut self, now: u64) -> bool {
        let mut is_any = false;
        for device in self.devices.values_mut().filter(|device| device.is_here()) {
            if now.saturating_sub(device.heard_at) >= SILENT {
                device.go(Presence::Away, now);
                // It may be this device that could not be heard.
                device.join_at = now;
                is_any = true;
            }
        }
        is_any
    }

    /// A member.
    ///
    /// # Errors
    /// [`Error::UnknownDevice`]
    pub(super) fn member(&mut self, address: &Address) -> Result<&mut Device, Error> {
        let device = self.devices.get_mut(address).filter(|device| device.is_member);
        device.ok_or_else(|| Error::UnknownDevice(address.clone().into()))
    }

    pub(super) fn here(&self) -> impl Iterator<Item = (&Address, &Device)> {
        self.devices.iter().filter(|(_, device)| device.is_here())
    }

    pub(super) fn here_mut(&mut self) -> impl Iterator<Item = (&Address, &mut Device)> {
        self.devices.iter_mut().filter(|(_, device)| device.is_here())
    }
}
