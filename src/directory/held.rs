//! What a server keeps of one device, and how it hands out bundles.

use alloc::vec::Vec;

use super::summary::{HeldPrekey, HeldPrekeys};
use super::upload::{Mode, Stamp};
use crate::codec::{Reader, Writer};
use crate::crypto::kdf;
use crate::error::Error;
use crate::prekey::{Bundle, PublishedPrekeys};

/// One device's row.
///
/// ```text
/// format:u8 = 1 || stamp:140 || hour:u64 || count:u8 || count * (asker:8 || taken:u8) ||
/// prekeys (to the end: PublishedPrekeys)
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    stamp: Stamp,
    prekeys: PublishedPrekeys,
    /// Since the epoch: the hour that `taken` is about.
    hour: u64,
    /// How many one-time sets each asker had in that hour.
    taken: Vec<([u8; 8], u8)>,
}

/// Why there is no bundle of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NoBundle {
    /// The user has no such device, or the user is not known.
    UnknownDevice,
    /// The device has not uploaded all that a bundle takes.
    NoPrekeys,
    /// The device has not renewed its prekeys for 60 days, so that any client would refuse the
    /// bundle. It was probably given up.
    Stale,
    /// The device's prekeys were made more than a day after the server's time: one of the two
    /// clocks is wrong. Any client would refuse the bundle.
    Future,
}

impl Held {
    /// One-time sets above this many are dropped, the oldest first.
    pub(super) const MAX_ONE_TIME: usize = 1_000;

    /// How many one-time sets one asker gets in an hour.
    pub(super) const PER_ASKER: u8 = 32;

    /// How many one-time sets all askers get in an hour.
    pub(super) const PER_HOUR: u32 = 100;

    const FORMAT: u8 = 1;

    pub(super) fn new(stamp: Stamp, mut prekeys: PublishedPrekeys) -> Self {
        prekeys.keep_newest(Self::MAX_ONE_TIME);
        Self { stamp, prekeys, hour: 0, taken: Vec::new() }
    }

    pub(super) const fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    /// Takes in a later upload of the same identity.
    pub(super) fn update(&mut self, mode: Mode, stamp: Stamp, prekeys: PublishedPrekeys) {
        match mode {
            Mode::Add => self.prekeys.merge(prekeys),
            Mode::Replace => self.prekeys.replace(prekeys),
        }
        self.prekeys.keep_newest(Self::MAX_ONE_TIME);
        self.stamp = stamp;
    }

    pub(super) fn bundle(&mut self, asker: &str, now: u64) -> Result<Bundle, NoBundle> {
        let signed = self.prekeys.signed_prekey().ok_or(NoBundle::NoPrekeys)?;
        check_age(signed.1, now)?;
        if self.prekeys.one_time_count() > 0 && self.allow(asker, now) {
            return self.prekeys.pop_bundle().ok_or(NoBundle::NoPrekeys);
        }
        let last_resort = self.prekeys.last_resort_prekey().ok_or(NoBundle::NoPrekeys)?;
        check_age(last_resort.1, now)?;
        self.prekeys.last_resort_bundle().ok_or(NoBundle::NoPrekeys)
    }

    /// Whether the asker may have another one-time set in this hour; if so, counts it.
    fn allow(&mut self, asker: &str, now: u64) -> bool {
        let hour = now.div_euclid(HOUR);
        if hour != self.hour {
            self.hour = hour;
            self.taken.clear();
        }
        let all =
            self.taken.iter().fold(0_u32, |all, (_, taken)| all.saturating_add(u32::from(*taken)));
        let asker = tag(asker);
        let known = self.taken.iter_mut().find(|(tag, _)| *tag == asker);
        if all >= Self::PER_HOUR
            || known.as_ref().is_some_and(|(_, taken)| *taken >= Self::PER_ASKER)
        {
            return false;
        }
        match known {
            Some((_, taken)) => *taken = taken.saturating_add(1),
            None => self.taken.push((asker, 1)),
        }
        true
    }

    pub(super) fn summary(&self) -> HeldPrekeys {
        let held = |(id, created_at)| HeldPrekey { id, created_at };
        HeldPrekeys {
            stamp: self.stamp.clone(),
            one_time: u32::try_from(self.prekeys.one_time_count()).unwrap_or(u32::MAX),
            signed: self.prekeys.signed_prekey().map(held),
            last_resort: self.prekeys.last_resort_prekey().map(held),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let prekeys = self.prekeys.encode();
        let count =
            u8::try_from(self.taken.len()).expect("at most 100 askers have a set in an hour");
        let capacity =
            prekeys.len().saturating_add(self.taken.len().saturating_mul(9)).saturating_add(150);
        let out = self.stamp.write(Writer::with_capacity(capacity).u8(Self::FORMAT));
        let out = out.u64(self.hour).u8(count);
        let taken = self.taken.iter();
        taken.fold(out, |out, (asker, taken)| out.bytes(asker).u8(*taken)).bytes(&prekeys).done()
    }

    /// # Errors
    /// Any: these are not bytes that [`Held::encode`] made.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != Self::FORMAT {
            return Err(Error::UnsupportedVersion);
        }
        let stamp = Stamp::read(&mut reader)?;
        let (hour, count) = (reader.u64()?, reader.u8()?);
        if u32::from(count) > Self::PER_HOUR {
            return Err(Error::Malformed);
        }
        let mut taken = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            taken.push((*reader.array()?, reader.u8()?));
        }
        let prekeys = PublishedPrekeys::decode(reader.rest())?;
        if !prekeys.is_in_order() || prekeys.identity() != stamp.identity() {
            return Err(Error::Malformed);
        }
        Ok(Self { stamp, prekeys, hour, taken })
    }
}

fn check_age(created_at: u64, now: u64) -> Result<(), NoBundle> {
    if now > created_at.saturating_add(Bundle::MAX_AGE) {
        Err(NoBundle::Stale)
    } else if created_at > now.saturating_add(Bundle::MAX_AHEAD) {
        Err(NoBundle::Future)
    } else {
        Ok(())
    }
}

/// `H("Subrosa v1 asker" || asker)[..8]`
fn tag(asker: &str) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = kdf::hash(&[b"Subrosa v1 asker", asker.as_bytes()]);
    [a, b, c, d, e, f, g, h]
}

const HOUR: u64 = 60 * 60;
