//! Prekeys: what a device leaves with a server so that others can write to it while it is away
//! (protocol.md, 3).

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::fmt;
use core::ops::Bound::{Excluded, Unbounded};

use rand_core::CryptoRng;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::at_rest;
use crate::codec::Writer;
use crate::crypto::curve::{KeyPair, PublicKey};
use crate::crypto::kdf;
use crate::crypto::kem::whole as kem;
use crate::error::Error;
use crate::identity::IdentityKeyPair;

mod bundle;
mod published;
mod rows;
#[cfg(test)]
mod tests;

pub use bundle::{Bundle, VerifiedBundle};
pub use published::PublishedPrekeys;
pub(crate) use rows::{RowChanges, RowKey};

const DAY: u64 = 24 * 60 * 60;

/// The secrets of a device's prekeys.
///
/// | key | lives |
/// | --- | --- |
/// | signed prekey (X25519) and last-resort KEM prekey (ML-KEM-1024) | [`Prekeys::ROTATION`], then kept until they are [`Prekeys::GRACE`] old |
/// | one-time prekey (X25519) and one-time KEM prekey (ML-KEM-1024) | until one handshake has used them |
///
/// [`Prekeys::publish`] gives the public halves for the server. Store this whenever it changed:
/// after generating, before uploading; and together with the session that
/// [`Session::respond`](crate::protocol::Session::respond) makes.
///
/// ```
/// use subrosa::protocol::{IdentityKeyPair, Prekeys};
/// use subrosa::SystemRng;
///
/// let rng = &mut SystemRng;
/// let identity = IdentityKeyPair::generate(rng);
/// let now = 1_800_000_000; // seconds since the Unix epoch
/// let mut prekeys = Prekeys::generate(100, now, rng)?;
/// let mut server = prekeys.publish(&identity);
/// assert_eq!(server.one_time_count(), 100);
///
/// // Once a day: rotate what is due, top up what the server gave away, upload what is new.
/// let known = prekeys.last_id();
/// prekeys.rotate_if_due(now, rng)?;
/// prekeys.refill(server.one_time_count(), 100, now, rng)?;
/// server.merge(prekeys.publish_since(known, &identity));
/// # Ok::<(), subrosa::Error>(())
/// ```
#[must_use = "secrets that are not stored answer nobody"]
pub struct Prekeys {
    keys: Keys,
}

#[derive(Default, Serialize, Deserialize)]
struct Keys {
    /// The highest id given out; ids are unique over all kinds.
    last_id: u32,
    signed: PrekeysById<KeyPair>,
    one_time: PrekeysById<KeyPair>,
    one_time_kem: PrekeysById<kem::SecretKey>,
    last_resort: PrekeysById<LastResort>,
    /// The handshakes accepted on a last-resort key alone.
    accepted: BTreeSet<Accepted>,
}

/// Prekeys of one kind. Boxed, so that no copy of a secret stays where the map has moved it from.
type PrekeysById<S> = BTreeMap<u32, Box<Prekey<S>>>;

#[derive(Serialize, Deserialize)]
struct Prekey<S> {
    created_at: u64,
    secret: S,
}

#[derive(Serialize, Deserialize)]
struct LastResort {
    secret: kem::SecretKey,
    /// How many handshakes used it and no one-time prekey. It never falls.
    accepted: u32,
}

/// A handshake that used no one-time prekey, so that it is not accepted twice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Accepted {
    /// The id of the last-resort key that it used.
    last_resort: u32,
    /// The first 28 bytes of `H(EK_A)`: 224 bits, so that two handshakes have the same one only
    /// where somebody spends 2^112 hashes to have a handshake of their own refused.
    #[serde(with = "at_rest::array")]
    digest: [u8; 28],
}

/// The kinds of signed prekey, as they are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Signed,
    OneTimeKem,
    LastResort,
}

/// Which of the responder's prekeys a handshake uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PrekeyIds {
    pub(crate) signed: u32,
    pub(crate) one_time: Option<u32>,
    pub(crate) kem: u32,
}

/// The secrets that answer a handshake.
pub(crate) struct PrekeySecrets<'a> {
    pub(crate) signed: &'a KeyPair,
    pub(crate) one_time: Option<&'a KeyPair>,
    pub(crate) kem: &'a kem::SecretKey,
    pub(crate) kem_kind: Kind,
}

impl Prekeys {
    /// A signed prekey and a last-resort key are due for rotation at this age: 7 days, in seconds.
    pub const ROTATION: u64 = 7 * DAY;

    /// They are kept up to this age: 67 days, in seconds. That is the age at which initiators
    /// refuse a bundle and one rotation, so that no bundle that passes goes unanswered.
    pub const GRACE: u64 = 67 * DAY;

    /// Handshakes on the last-resort key alone that make a rotation due: 4,096, which take 140 KB
    /// to remember.
    pub const MOST_ACCEPTED: usize = 4_096;

    /// None yet. [`Prekeys::generate`] is the usual start.
    pub fn new() -> Self {
        Self { keys: Keys::default() }
    }

    /// A signed prekey, a last-resort KEM prekey and `one_time` sets of one-time prekeys.
    ///
    /// # Errors
    /// [`Error::Exhausted`]: as [`Prekeys::refill`].
    pub fn generate(one_time: usize, now: u64, rng: &mut dyn CryptoRng) -> Result<Self, Error> {
        let mut prekeys = Self::new();
        prekeys.rotate_if_due(now, rng)?;
        prekeys.refill(0, one_time, now, rng)?;
        Ok(prekeys)
    }

    /// Makes a new signed prekey and a new last-resort key if they are due, deletes replaced ones
    /// that are past their grace period, and says whether there is something new to publish.
    ///
    /// They are due at the age of [`Prekeys::ROTATION`], when [`Prekeys::MOST_ACCEPTED`] handshakes
    /// used the last-resort key alone, or when the clock was wrong: they were made more than a day
    /// after `now`, so that nobody takes them. In that case the one-time KEM prekeys of that time
    /// are of no use either: [`PublishedPrekeys::merge`] drops them from the server, and
    /// [`Prekeys::refill`] replaces them.
    ///
    /// Those that are replaced are deleted by a later call at the earliest; a device that comes
    /// back after months still answers what was written to it meanwhile, if it reads that before it
    /// calls this a second time.
    ///
    /// # Errors
    /// [`Error::Exhausted`]: as [`Prekeys::refill`].
    pub fn rotate_if_due(&mut self, now: u64, rng: &mut dyn CryptoRng) -> Result<bool, Error> {
        let due = self.rotation_due(now);
        if due {
            self.has_ids(2)?;
        }
        // Before the new keys: those they replace outlast this call, for the messages that already
        // wait.
        self.keys.expire(now);
        if due {
            self.add_signed(now, rng)?;
            self.add_last_resort(now, rng)?;
        }
        Ok(due)
    }

    /// Whether [`Prekeys::rotate_if_due`] would make new keys.
    #[must_use]
    pub fn rotation_due(&self, now: u64) -> bool {
        let keys = &self.keys;
        let (Some((_, one)), Some((_, two))) =
            (keys.signed.last_key_value(), keys.last_resort.last_key_value())
        else {
            return true;
        };
        let age = now.saturating_sub(one.created_at.min(two.created_at));
        let ahead = one.created_at.max(two.created_at).saturating_sub(now);
        let accepted = usize::try_from(two.secret.accepted).unwrap_or(usize::MAX);
        age >= Self::ROTATION || ahead > Bundle::MAX_AHEAD || accepted >= Self::MOST_ACCEPTED
    }

    /// Makes one-time sets (a one-time prekey and a one-time KEM prekey each) so that the server,
    /// which still holds `on_server`, has `target`. Returns how many.
    ///
    /// # Errors
    /// [`Error::Exhausted`]: the 2^32 - 1 ids of this device are used up; a new identity starts
    /// again.
    pub fn refill(
        &mut self,
        on_server: usize,
        target: usize,
        now: u64,
        rng: &mut dyn CryptoRng,
    ) -> Result<usize, Error> {
        let count = target.saturating_sub(on_server);
        self.has_ids(count.saturating_mul(2))?;
        for _ in 0..count {
            self.add_one_time(now, rng)?;
            self.add_one_time_kem(now, rng)?;
        }
        Ok(count)
    }

    /// Makes a signed prekey and returns its id. Draws 32 bytes.
    ///
    /// # Errors
    /// [`Error::Exhausted`]: as [`Prekeys::refill`].
    pub fn add_signed(&mut self, now: u64, rng: &mut dyn CryptoRng) -> Result<u32, Error> {
        let id = self.keys.next_id()?;
        Ok(put(&mut self.keys.signed, id, now, KeyPair::generate(rng)))
    }

    /// Makes a last-resort KEM prekey and returns its id. Draws 64 bytes.
    ///
    /// # Errors
    /// [`Error::Exhausted`]: as [`Prekeys::refill`].
    pub fn add_last_resort(&mut self, now: u64, rng: &mut dyn CryptoRng) -> Result<u32, Error> {
        let id = self.keys.next_id()?;
        let secret = LastResort { secret: kem::SecretKey::generate(rng), accepted: 0 };
        Ok(put(&mut self.keys.last_resort, id, now, secret))
    }

    /// Makes a one-time prekey and returns its id. Draws 32 bytes.
    ///
    /// # Errors
    /// [`Error::Exhausted`]: as [`Prekeys::refill`].
    pub fn add_one_time(&mut self, now: u64, rng: &mut dyn CryptoRng) -> Result<u32, Error> {
        let id = self.keys.next_id()?;
        Ok(put(&mut self.keys.one_time, id, now, KeyPair::generate(rng)))
    }

    /// Makes a one-time KEM prekey and returns its id. Draws 64 bytes.
    ///
    /// # Errors
    /// [`Error::Exhausted`]: as [`Prekeys::refill`].
    pub fn add_one_time_kem(&mut self, now: u64, rng: &mut dyn CryptoRng) -> Result<u32, Error> {
        let id = self.keys.next_id()?;
        Ok(put(&mut self.keys.one_time_kem, id, now, kem::SecretKey::generate(rng)))
    }

    /// The highest id given out so far, 0 if none.
    #[must_use]
    pub const fn last_id(&self) -> u32 {
        self.keys.last_id
    }

    /// How many one-time sets have not been used by a handshake. Those that the server gave away
    /// and nobody has used yet are among them.
    #[must_use]
    pub fn one_time_count(&self) -> usize {
        self.keys.one_time.len().min(self.keys.one_time_kem.len())
    }

    /// The public halves of all current prekeys, signed, for a server to hold: once, at the start.
    /// Later uploads are those of [`Prekeys::publish_since`].
    pub fn publish(&self, identity: &IdentityKeyPair) -> PublishedPrekeys {
        self.publish_since(0, identity)
    }

    /// As [`Prekeys::publish`], of the prekeys with an id above `id` alone: what is new since
    /// [`Prekeys::last_id`] was that. Remember the new [`Prekeys::last_id`] when the upload has
    /// succeeded, not before.
    pub fn publish_since(&self, id: u32, identity: &IdentityKeyPair) -> PublishedPrekeys {
        PublishedPrekeys::new(&self.keys, (id, id), identity)
    }

    /// As [`Prekeys::publish_since`], with the current signed prekey and last-resort key whatever
    /// their ids: a server that lost them has them again.
    pub(crate) fn publish_current(&self, id: u32, identity: &IdentityKeyPair) -> PublishedPrekeys {
        PublishedPrekeys::new(&self.keys, (id, 0), identity)
    }

    /// The state at rest: a version byte, then the keys. Secret; wiped when dropped.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        // An upper bound: growing would leave copies of the secrets behind.
        let keys = &self.keys;
        let kem = keys.one_time_kem.len().saturating_add(keys.last_resort.len());
        let x25519 = keys.signed.len().saturating_add(keys.one_time.len());
        let all = kem.saturating_add(x25519).saturating_add(keys.accepted.len());
        let capacity = all.saturating_mul(90).saturating_add(64);
        at_rest::state::encode(VERSION, &self.keys, capacity)
    }

    /// From what [`Prekeys::encode`] made.
    ///
    /// # Errors
    /// [`Error::BadState`]
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let keys: Keys = at_rest::state::decode(VERSION, bytes)?;
        if keys.is_sound() { Ok(Self { keys }) } else { Err(Error::BadState) }
    }

    /// Ids go on this much higher, since those up to there may have been given out by a newer copy
    /// of these keys.
    pub(crate) fn skip_ids(&mut self, count: u32) -> Result<(), Error> {
        self.keys.last_id = self.keys.last_id.checked_add(count).ok_or(Error::Exhausted)?;
        Ok(())
    }

    /// Deletes one-time prekeys, the oldest first, until there are no more than so many of each
    /// kind.
    pub(crate) fn keep_newest(&mut self, most: usize) {
        while self.keys.one_time.len() > most {
            self.keys.one_time.pop_first();
        }
        while self.keys.one_time_kem.len() > most {
            self.keys.one_time_kem.pop_first();
        }
    }

    /// How many one-time sets have ids above `id`.
    pub(crate) fn one_time_above(&self, id: u32) -> usize {
        let after = (Excluded(id), Unbounded);
        let kem = self.keys.one_time_kem.range(after).count();
        kem.min(self.keys.one_time.range(after).count())
    }

    /// The secrets that a handshake asks for.
    ///
    /// # Errors
    /// [`Error::UnknownPrekey`], [`Error::Replay`]
    pub(crate) fn secrets(
        &self,
        ids: &PrekeyIds,
        ephemeral_key: &PublicKey,
    ) -> Result<PrekeySecrets<'_>, Error> {
        let keys = &self.keys;
        let signed = &keys.signed.get(&ids.signed).ok_or(Error::UnknownPrekey)?.secret;
        let (kem, kem_kind) =
            match (keys.one_time_kem.get(&ids.kem), keys.last_resort.get(&ids.kem)) {
                (Some(kem), _) => (&kem.secret, Kind::OneTimeKem),
                // One that would have to be remembered, on a key that accepted its share.
                (None, Some(kem))
                    if ids.one_time.is_none() && kem.secret.accepted >= ACCEPTED_BY_A_KEY =>
                {
                    return Err(Error::UnknownPrekey);
                }
                (None, Some(kem)) => (&kem.secret.secret, Kind::LastResort),
                (None, None) => return Err(Error::UnknownPrekey),
            };
        let one_time = match ids.one_time {
            Some(id) => Some(&keys.one_time.get(&id).ok_or(Error::UnknownPrekey)?.secret),
            None => None,
        };
        if keys.accepted.contains(&Accepted::new(ids.kem, ephemeral_key)) {
            return Err(Error::Replay);
        }
        Ok(PrekeySecrets { signed, one_time, kem, kem_kind })
    }

    /// A handshake was accepted: deletes the one-time secrets it used, or remembers it where it
    /// used none.
    pub(crate) fn consume(&mut self, ids: &PrekeyIds, ephemeral_key: &PublicKey) {
        let keys = &mut self.keys;
        let one_time = ids.one_time.and_then(|id| keys.one_time.remove(&id));
        let one_time_kem = keys.one_time_kem.remove(&ids.kem);
        if one_time.is_some() || one_time_kem.is_some() {
            return;
        }
        if let Some(last_resort) = keys.last_resort.get_mut(&ids.kem) {
            last_resort.secret.accepted = last_resort.secret.accepted.saturating_add(1);
            keys.accepted.insert(Accepted::new(ids.kem, ephemeral_key));
        }
    }

    fn has_ids(&self, count: usize) -> Result<(), Error> {
        let count = u32::try_from(count).map_err(|_| Error::Exhausted)?;
        self.keys.last_id.checked_add(count).map(|_| ()).ok_or(Error::Exhausted)
    }
}

/// The version of the stored form.
const VERSION: u8 = 1;

/// Handshakes that one last-resort key accepts without a one-time prekey: 8,192. A sender who is
/// refused then fetches a fresh bundle.
///
/// Not fewer: the key is still handed out, and bundles that were fetched before it was replaced are
/// still answered, after the 4,096 that make a rotation due, for as long as the device takes to
/// upload its successor; the next 4,096 senders are served meanwhile. Not more: somebody who uses
/// one bundle over and over makes the device remember each handshake, in 34 bytes (or a row), until
/// the key is deleted; 8,192 are 280 KB.
const ACCEPTED_BY_A_KEY: u32 = 8_192;

/// Signed prekeys, and last-resort keys, that a rotation keeps beside the new one: 32.
///
/// Not fewer: a rotation each week and 67 days make 11, so that 20 rotations may come early. Not
/// more: each may have accepted 8,192 handshakes, which makes 9 MB in all. Somebody who wants the
/// oldest key deleted before its time has to have 80,000 handshakes accepted.
const MOST_KEPT: usize = 32;

impl Keys {
    fn next_id(&mut self) -> Result<u32, Error> {
        self.last_id = self.last_id.checked_add(1).ok_or(Error::Exhausted)?;
        Ok(self.last_id)
    }

    /// Deletes what is past its grace period or has accepted its share of handshakes, but for the
    /// current keys, and the handshakes remembered for it.
    fn expire(&mut self, now: u64) {
        fn expire<S>(keys: &mut PrekeysById<S>, now: u64, is_used_up: impl Fn(&S) -> bool) {
            let current = keys.last_key_value().map(|(id, _)| *id);
            let fresh =
                |prekey: &Prekey<S>| now.saturating_sub(prekey.created_at) <= Prekeys::GRACE;
            keys.retain(|id, prekey| {
                Some(*id) == current || (fresh(prekey) && !is_used_up(&prekey.secret))
            });
            while keys.len() > MOST_KEPT {
                keys.pop_first();
            }
        }
        expire(&mut self.signed, now, |_| false);
        expire(&mut self.last_resort, now, |key| key.accepted >= ACCEPTED_BY_A_KEY);
        let last_resort = &self.last_resort;
        self.accepted.retain(|accepted| last_resort.contains_key(&accepted.last_resort));
    }

    fn is_sound(&self) -> bool {
        fn ids<S>(keys: &PrekeysById<S>) -> impl Iterator<Item = u32> + '_ {
            keys.keys().copied()
        }
        let x25519 = ids(&self.signed).chain(ids(&self.one_time));
        let mut all: Vec<u32> =
            x25519.chain(ids(&self.one_time_kem)).chain(ids(&self.last_resort)).collect();
        all.sort_unstable();
        all.is_sorted_by(|one, other| one < other)
            && all.first().is_none_or(|id| *id > 0)
            && all.last().is_none_or(|id| *id <= self.last_id)
    }
}

fn put<S>(keys: &mut PrekeysById<S>, id: u32, created_at: u64, secret: S) -> u32 {
    keys.insert(id, Box::new(Prekey { created_at, secret }));
    id
}

impl Accepted {
    fn new(last_resort: u32, ephemeral_key: &PublicKey) -> Self {
        let [digest @ .., _, _, _, _] = kdf::hash(&[ephemeral_key.as_bytes()]);
        Self { last_resort, digest }
    }
}

impl Kind {
    /// The byte of the kind.
    pub(crate) const fn byte(self) -> u8 {
        match self {
            Self::Signed => 1,
            Self::OneTimeKem => 2,
            Self::LastResort => 3,
        }
    }

    /// What is signed of a prekey:
    /// `"Subrosa v1 prekey" || kind:u8 || id:u32 || created_at:u64 || EncodeX(public)`
    fn signed_bytes(self, id: u32, created_at: u64, public: &[u8]) -> Vec<u8> {
        let label = b"Subrosa v1 prekey";
        let encoding = match self {
            Self::Signed => ENCODE_EC,
            Self::OneTimeKem | Self::LastResort => ENCODE_KEM_1024,
        };
        let prefix =
            Writer::with_capacity(public.len().saturating_add(31)).bytes(label).u8(self.byte());
        prefix.u32(id).u64(created_at).u8(encoding).bytes(public).done()
    }
}

/// `EncodeEC`, `EncodeIdentity` and `EncodeKEM1024` put these before a key: disjoint ranges (PQXDH,
/// 2.1).
pub(crate) const ENCODE_EC: u8 = 1;
pub(crate) const ENCODE_IDENTITY: u8 = 2;
pub(crate) const ENCODE_KEM_1024: u8 = 3;

impl Default for Prekeys {
    fn default() -> Self {
        Self::new()
    }
}

/// Shows how many keys there are.
impl fmt::Debug for Prekeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prekeys")
            .field("signed", &self.keys.signed.len())
            .field("one_time", &self.keys.one_time.len())
            .field("one_time_kem", &self.keys.one_time_kem.len())
            .field("last_resort", &self.keys.last_resort.len())
            .finish_non_exhaustive()
    }
}

/// As [`Prekeys::encode`], version byte included.
impl Serialize for Prekeys {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.encode())
    }
}

/// As [`Prekeys::decode`].
impl<'de> Deserialize<'de> for Prekeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        at_rest::state::deserialize(deserializer, Self::decode)
    }
}
