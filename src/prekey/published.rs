//! The public halves of a device's prekeys, as a server holds them.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use super::bundle::{Bundle, KemPrekey, OneTimePrekey, SignedPrekey};
use super::{Keys, Kind};
use crate::codec::{Reader, Writer};
use crate::crypto::kem::whole::SecretKey as KemSecretKey;
use crate::error::Error;
use crate::identity::IdentityKeyPair;

/// What a device uploads, and what a server hands bundles out of.
///
/// ```text
/// version:u8 = 1 || IK:32 || last_id:u32 (the highest id that the device had given out) ||
/// present:u8 (0|1) [|| spk_id:u32 || spk_created:u64 || SPK:32 || spk_sig:64] ||
/// present:u8 (0|1) [|| id:u32 || created:u64 || last-resort PQPK:1568 || sig:64] ||
/// count:u32 || count * (opk_id:u32 || OPK:32) ||
/// count:u32 || count * (id:u32 || created:u64 || one-time PQPK:1568 || sig:64)
/// ```
///
/// A server that is written in Rust can use this type as it is; any other needs nothing but the
/// layout, and the one of [`Bundle`]. It checks nothing, and can forge nothing: initiators verify
/// what it hands them.
#[must_use = "it is for a server"]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedPrekeys {
    identity: [u8; 32],
    last_id: u32,
    signed: Option<SignedPrekey>,
    last_resort: Option<KemPrekey>,
    one_time: VecDeque<OneTimePrekey>,
    one_time_kem: VecDeque<KemPrekey>,
}

impl PublishedPrekeys {
    const VERSION: u8 = 1;

    /// Of the keys with ids above two: all one-time prekeys, the newest of the others.
    pub(super) fn new(
        keys: &Keys,
        (since, others_since): (u32, u32),
        identity: &IdentityKeyPair,
    ) -> Self {
        fn newer<S>(
            keys: &BTreeMap<u32, S>,
            since: u32,
        ) -> impl DoubleEndedIterator<Item = (u32, &S)> {
            keys.iter().filter(move |(id, _)| **id > since).map(|(id, prekey)| (*id, prekey))
        }
        let signed = newer(&keys.signed, others_since).next_back().map(|(id, prekey)| {
            let key = prekey.secret.public;
            let message = Kind::Signed.signed_bytes(id, prekey.created_at, key.as_bytes());
            SignedPrekey {
                id,
                created_at: prekey.created_at,
                key,
                signature: identity.sign(&message),
            }
        });
        let kem = |kind: Kind, id: u32, created_at: u64, secret: &KemSecretKey| {
            let key = secret.public_key();
            let message = kind.signed_bytes(id, created_at, &*key);
            KemPrekey { id, created_at, key, signature: identity.sign(&message) }
        };
        let last_resort = newer(&keys.last_resort, others_since).next_back();
        let one_time_kem = newer(&keys.one_time_kem, since);
        Self {
            identity: identity.public_key().encode(),
            last_id: keys.last_id,
            signed,
            last_resort: last_resort.map(|(id, prekey)| {
                kem(Kind::LastResort, id, prekey.created_at, &prekey.secret.secret)
            }),
            one_time: newer(&keys.one_time, since)
                .map(|(id, prekey)| OneTimePrekey { id, key: prekey.secret.public })
                .collect(),
            one_time_kem: one_time_kem
                .map(|(id, prekey)| kem(Kind::OneTimeKem, id, prekey.created_at, &prekey.secret))
                .collect(),
        }
    }

    /// Adds what a device uploaded later: its signed prekey and last-resort key replace those
    /// before.
    ///
    /// What was there before, or comes late, adds nothing: ids only go up. A set of another
    /// identity replaces all, since the device began anew; who may upload for a device is for the
    /// server to know.
    ///
    /// One-time KEM keys that were made more than [`Bundle::MAX_AHEAD`] after a newer signed prekey
    /// are dropped: the device's clock was ahead then, and initiators would refuse them.
    pub fn merge(&mut self, newer: Self) {
        if newer.identity != self.identity {
            *self = newer;
            return;
        }
        let known = self.last_id;
        self.last_id = known.max(newer.last_id);
        let is_new = |id: u32| id > known;
        self.signed = newer.signed.filter(|prekey| is_new(prekey.id)).or(self.signed.take());
        self.last_resort =
            newer.last_resort.filter(|prekey| is_new(prekey.id)).or(self.last_resort.take());
        self.one_time.extend(newer.one_time.into_iter().filter(|prekey| is_new(prekey.id)));
        self.one_time_kem.extend(newer.one_time_kem.into_iter().filter(|prekey| is_new(prekey.id)));
        if let Some(signed) = &self.signed {
            let latest = signed.created_at.saturating_add(Bundle::MAX_AHEAD);
            self.one_time_kem.retain(|prekey| prekey.id > signed.id || prekey.created_at <= latest);
        }
    }

    /// Takes a bundle for one initiator: one-time prekeys go with it while there are any, the
    /// oldest first; then the last-resort key, again and again. A server limits how many it hands
    /// to whom.
    ///
    /// None where the signed prekey or every KEM prekey is missing: the device has not uploaded all
    /// it should.
    #[must_use = "the one-time prekeys in it are gone from here"]
    pub fn pop_bundle(&mut self) -> Option<Bundle> {
        let signed = self.signed.clone()?;
        let (kem_kind, kem) = match self.one_time_kem.pop_front() {
            Some(kem) => (Kind::OneTimeKem, kem),
            None => (Kind::LastResort, self.last_resort.clone()?),
        };
        let one_time = self.one_time.pop_front();
        Some(Bundle { identity: self.identity, signed, kem_kind, kem, one_time })
    }

    /// Puts what a device uploaded later in the place of all that is here. A one-time prekey whose
    /// id is not above all earlier ones is left out, since it may have been taken before.
    pub(crate) fn replace(&mut self, newer: Self) {
        let known = self.last_id;
        *self = newer;
        self.last_id = self.last_id.max(known);
        self.one_time.retain(|prekey| prekey.id > known);
        self.one_time_kem.retain(|prekey| prekey.id > known);
    }

    /// Drops one-time prekeys, the oldest first, until at most this many of each kind are left.
    pub(crate) fn keep_newest(&mut self, most: usize) {
        self.one_time.drain(..self.one_time.len().saturating_sub(most)).for_each(drop);
        self.one_time_kem.drain(..self.one_time_kem.len().saturating_sub(most)).for_each(drop);
    }

    /// A bundle without one-time prekeys, as [`pop_bundle`](Self::pop_bundle) gives it when none
    /// are left.
    pub(crate) fn last_resort_bundle(&self) -> Option<Bundle> {
        let (signed, kem) = (self.signed.clone()?, self.last_resort.clone()?);
        Some(Bundle {
            identity: self.identity,
            signed,
            kem_kind: Kind::LastResort,
            kem,
            one_time: None,
        })
    }

    /// Whether the ids of one-time prekeys of each kind go up, and no id is above `last_id`: so
    /// none of them is there twice.
    pub(crate) fn is_in_order(&self) -> bool {
        let newest = [self.signed_prekey(), self.last_resort_prekey()];
        newest.iter().flatten().all(|(id, _)| *id <= self.last_id)
            && ascends(self.one_time.iter().map(|prekey| prekey.id), self.last_id)
            && ascends(self.one_time_kem.iter().map(|prekey| prekey.id), self.last_id)
    }

    pub(crate) const fn identity(&self) -> &[u8; 32] {
        &self.identity
    }

    pub(crate) const fn last_id(&self) -> u32 {
        self.last_id
    }

    /// The id of the signed prekey, and when it was made.
    pub(crate) fn signed_prekey(&self) -> Option<(u32, u64)> {
        self.signed.as_ref().map(|prekey| (prekey.id, prekey.created_at))
    }

    /// The id of the last-resort prekey, and when it was made.
    pub(crate) fn last_resort_prekey(&self) -> Option<(u32, u64)> {
        self.last_resort.as_ref().map(|prekey| (prekey.id, prekey.created_at))
    }

    /// How many whole one-time sets there are: what the device needs to know to
    /// [`refill`](super::Prekeys::refill) them.
    #[must_use]
    pub fn one_time_count(&self) -> usize {
        self.one_time.len().min(self.one_time_kem.len())
    }

    /// The bytes to upload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let kem = self.one_time_kem.len().saturating_add(1).saturating_mul(1644);
        let capacity =
            self.one_time.len().saturating_mul(36).saturating_add(kem).saturating_add(160);
        let out = Writer::with_capacity(capacity)
            .u8(Self::VERSION)
            .bytes(&self.identity)
            .u32(self.last_id);
        let out = match &self.signed {
            Some(prekey) => prekey.write(out.u8(1)),
            None => out.u8(0),
        };
        let out = match &self.last_resort {
            Some(prekey) => prekey.write(out.u8(1)),
            None => out.u8(0),
        };
        let out = self
            .one_time
            .iter()
            .fold(out.u32(count(&self.one_time)), |out, prekey| prekey.write(out));
        let kem = &self.one_time_kem;
        kem.iter().fold(out.u32(count(kem)), |out, prekey| prekey.write(out)).done()
    }

    /// From bytes, of which the layout is checked.
    ///
    /// # Errors
    /// [`Error::UnsupportedVersion`], [`Error::Malformed`]
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != Self::VERSION {
            return Err(Error::UnsupportedVersion);
        }
        let (identity, last_id) = (*reader.array()?, reader.u32()?);
        let signed = optional(&mut reader, SignedPrekey::read)?;
        let last_resort = optional(&mut reader, KemPrekey::read)?;
        let one_time = several(&mut reader, OneTimePrekey::read)?;
        let one_time_kem = several(&mut reader, KemPrekey::read)?;
        reader.end()?;
        Ok(Self { identity, last_id, signed, last_resort, one_time, one_time_kem })
    }
}

/// As [`PublishedPrekeys::decode`].
impl TryFrom<&[u8]> for PublishedPrekeys {
    type Error = Error;

    fn try_from(bytes: &[u8]) -> Result<Self, Error> {
        Self::decode(bytes)
    }
}

fn ascends(mut ids: impl Iterator<Item = u32>, most: u32) -> bool {
    let mut before = 0;
    ids.all(|id| core::mem::replace(&mut before, id) < id && id <= most)
}

fn count<T>(prekeys: &VecDeque<T>) -> u32 {
    u32::try_from(prekeys.len()).expect("ids are u32 and unique")
}

fn optional<T>(
    reader: &mut Reader<'_>,
    read: impl Fn(&mut Reader<'_>) -> Result<T, Error>,
) -> Result<Option<T>, Error> {
    match reader.u8()? {
        0 => Ok(None),
        1 => read(reader).map(Some),
        _ => Err(Error::Malformed),
    }
}

/// Grows as bytes are found, not as a count promises.
fn several<T>(
    reader: &mut Reader<'_>,
    read: impl Fn(&mut Reader<'_>) -> Result<T, Error>,
) -> Result<VecDeque<T>, Error> {
    let count = reader.u32()?;
    (0..count).map(|_| read(reader)).collect()
}
