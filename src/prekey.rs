//! Prekeys: what a device leaves with a server so that others can write to it while it is away (protocol.md, 3).

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Bound::{Excluded, Unbounded};

use rand_core::CryptoRng;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::codec::{self, Writer};
use crate::crypto::curve::{KeyPair, PublicKey};
use crate::crypto::kdf;
use crate::crypto::kem::whole as kem;
use crate::error::Error;
use crate::identity::IdentityKeyPair;

mod bundle;
mod published;

pub use bundle::{Bundle, VerifiedBundle};
pub use published::PublishedPrekeys;

const DAY: u64 = 24 * 60 * 60;

/// The secrets of a device's prekeys.
///
/// | key | lives |
/// | --- | --- |
/// | signed prekey (X25519) and last-resort KEM prekey (ML-KEM-1024) | [`Prekeys::ROTATION`], then kept until they are [`Prekeys::GRACE`] old |
/// | one-time prekey (X25519) and one-time KEM prekey (ML-KEM-1024) | until one handshake has used them |
///
/// [`Prekeys::publish`] gives the public halves for the server. Store this whenever it changed: after generating,
/// before uploading; and together with the session that [`Session::respond`](crate::Session::respond) makes.
///
/// ```
/// use subrosa::{IdentityKeyPair, Prekeys, SystemRng};
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
pub struct Prekeys {
    keys: Keys,
}

#[derive(Default, Serialize, Deserialize)]
struct Keys {
    /// The highest id given out; ids are unique over all kinds.
    last_id: u32,
    signed: Shelf<KeyPair>,
    one_time: Shelf<KeyPair>,
    one_time_kem: Shelf<kem::SecretKey>,
    last_resort: Shelf<kem::SecretKey>,
    /// `H(EK_A)` of each handshake accepted on a last-resort key alone, with the two prekeys it used.
    accepted: BTreeMap<[u8; 32], (u32, u32)>,
}

/// Prekeys of one kind by id. Boxed, so that no copy of a secret stays where the map has moved it from.
type Shelf<S> = BTreeMap<u32, Box<Prekey<S>>>;

#[derive(Serialize, Deserialize)]
struct Prekey<S> {
    created_at: u64,
    secret: S,
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

    /// They are kept up to this age: 67 days, in seconds. That is the age at which initiators refuse a bundle and one
    /// rotation, so that no bundle that passes goes unanswered.
    pub const GRACE: u64 = 67 * DAY;

    /// So many handshakes on the last-resort key alone make a rotation due: 4,096, or 160 KB to remember.
    pub const MOST_ACCEPTED: usize = 4_096;

    /// None yet. [`Prekeys::generate`] is the usual start.
    #[must_use]
    pub fn new() -> Self {
        Self { keys: Keys::default() }
    }

    /// A signed prekey, a last-resort KEM prekey and `one_time` sets of one-time prekeys.
    ///
    /// # Errors
    /// [`Error::Exhausted`]: as [`Prekeys::refill`].
    pub fn generate(one_time: usize, now: u64, rng: &mut impl CryptoRng) -> Result<Self, Error> {
        let mut prekeys = Self::new();
        prekeys.rotate_if_due(now, rng)?;
        prekeys.refill(0, one_time, now, rng)?;
        Ok(prekeys)
    }

    /// Makes a new signed prekey and a new last-resort key if they are due, deletes replaced ones that are past their
    /// grace period, and says whether there is something new to publish.
    ///
    /// They are due at the age of [`Prekeys::ROTATION`], when [`Prekeys::MOST_ACCEPTED`] handshakes used the last-resort
    /// key alone, or when the clock was wrong: they were made more than a day after `now`, so that nobody takes them.
    ///
    /// Those that are replaced are deleted by a later call at the earliest; a device that comes back after months still
    /// answers what was written to it meanwhile, if it reads that before it calls this a second time.
    ///
    /// # Errors
    /// [`Error::Exhausted`]: as [`Prekeys::refill`].
    pub fn rotate_if_due(&mut self, now: u64, rng: &mut impl CryptoRng) -> Result<bool, Error> {
        let due = self.rotation_due(now);
        if due {
            self.has_ids(2)?;
        }
        // Before the new keys: those they replace outlast this call, for the messages that already wait.
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
        let (Some((signed, one)), Some((last_resort, two))) =
            (keys.signed.last_key_value(), keys.last_resort.last_key_value())
        else {
            return true;
        };
        let age = now.saturating_sub(one.created_at.min(two.created_at));
        let ahead = one.created_at.max(two.created_at).saturating_sub(now);
        let used = keys.accepted.values().filter(|ids| ids.0 == *signed || ids.1 == *last_resort);
        age >= Self::ROTATION || ahead > Bundle::MAX_AHEAD || used.count() >= Self::MOST_ACCEPTED
    }

    /// Makes one-time sets (a one-time prekey and a one-time KEM prekey each) so that the server, which still holds
    /// `on_server`, has `target`. Returns how many.
    ///
    /// # Errors
    /// [`Error::Exhausted`]: the 2^32 - 1 ids of this device are used up; a new identity starts again.
    pub fn refill(
        &mut self,
        on_server: usize,
        target: usize,
        now: u64,
        rng: &mut impl CryptoRng,
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
    pub fn add_signed(&mut self, now: u64, rng: &mut impl CryptoRng) -> Result<u32, Error> {
        let id = self.keys.next_id()?;
        Ok(put(&mut self.keys.signed, id, now, KeyPair::generate(rng)))
    }

    /// Makes a last-resort KEM prekey and returns its id. Draws 64 bytes.
    ///
    /// # Errors
    /// [`Error::Exhausted`]: as [`Prekeys::refill`].
    pub fn add_last_resort(&mut self, now: u64, rng: &mut impl CryptoRng) -> Result<u32, Error> {
        let id = self.keys.next_id()?;
        Ok(put(&mut self.keys.last_resort, id, now, kem::SecretKey::generate(rng)))
    }

    /// Makes a one-time prekey and returns its id. Draws 32 bytes.
    ///
    /// # Errors
    /// [`Error::Exhausted`]: as [`Prekeys::refill`].
    pub fn add_one_time(&mut self, now: u64, rng: &mut impl CryptoRng) -> Result<u32, Error> {
        let id = self.keys.next_id()?;
        Ok(put(&mut self.keys.one_time, id, now, KeyPair::generate(rng)))
    }

    /// Makes a one-time KEM prekey and returns its id. Draws 64 bytes.
    ///
    /// # Errors
    /// [`Error::Exhausted`]: as [`Prekeys::refill`].
    pub fn add_one_time_kem(&mut self, now: u64, rng: &mut impl CryptoRng) -> Result<u32, Error> {
        let id = self.keys.next_id()?;
        Ok(put(&mut self.keys.one_time_kem, id, now, kem::SecretKey::generate(rng)))
    }

    /// The highest id given out so far, 0 if none.
    #[must_use]
    pub const fn last_id(&self) -> u32 {
        self.keys.last_id
    }

    /// How many one-time sets have not been used by a handshake. Those that the server gave away and nobody has used
    /// yet are among them.
    #[must_use]
    pub fn one_time_count(&self) -> usize {
        self.keys.one_time.len().min(self.keys.one_time_kem.len())
    }

    /// The public halves of all current prekeys, signed, for a server to hold: once, at the start. Later uploads are
    /// those of [`Prekeys::publish_since`].
    #[must_use]
    pub fn publish(&self, identity: &IdentityKeyPair) -> PublishedPrekeys {
        self.publish_since(0, identity)
    }

    /// As [`Prekeys::publish`], of the prekeys with an id above `id` alone: what is new since [`Prekeys::last_id`] was
    /// that. Remember the new [`Prekeys::last_id`] when the upload has succeeded, not before.
    #[must_use]
    pub fn publish_since(&self, id: u32, identity: &IdentityKeyPair) -> PublishedPrekeys {
        PublishedPrekeys::new(&self.keys, (id, id), identity)
    }

    /// As [`Prekeys::publish_since`], with the current signed prekey and last-resort key whatever their ids: a server that lost them
    /// has them again.
    pub(crate) fn publish_current(&self, id: u32, identity: &IdentityKeyPair) -> PublishedPrekeys {
        PublishedPrekeys::new(&self.keys, (id, 0), identity)
    }

    /// The state at rest: a version byte, then the keys. Secret; wiped when dropped.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        // An upper bound: growing would leave copies of the secrets behind.
        let [signed, one_time] = [&self.keys.signed, &self.keys.one_time].map(BTreeMap::len);
        let [kem, last_resort] = [&self.keys.one_time_kem, &self.keys.last_resort].map(BTreeMap::len);
        let keys = signed.saturating_add(one_time).saturating_add(kem).saturating_add(last_resort);
        let capacity = keys.saturating_add(self.keys.accepted.len()).saturating_mul(90).saturating_add(64);
        codec::state::encode(VERSION, &self.keys, capacity)
    }

    /// From what [`Prekeys::encode`] made.
    ///
    /// # Errors
    /// [`Error::BadState`]
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let keys: Keys = codec::state::decode(VERSION, bytes)?;
        if keys.is_sound() { Ok(Self { keys }) } else { Err(Error::BadState) }
    }

    /// Ids go on this much higher, since those up to there may have been given out by a newer copy of these keys.
    pub(crate) fn skip_ids(&mut self, count: u32) -> Result<(), Error> {
        self.keys.last_id = self.keys.last_id.checked_add(count).ok_or(Error::Exhausted)?;
        Ok(())
    }

    /// Deletes one-time prekeys, the oldest first, until there are no more than so many of each kind.
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
        let (kem, kem_kind) = match (keys.one_time_kem.get(&ids.kem), keys.last_resort.get(&ids.kem)) {
            (Some(kem), _) => (&kem.secret, Kind::OneTimeKem),
            (None, Some(kem)) => (&kem.secret, Kind::LastResort),
            (None, None) => return Err(Error::UnknownPrekey),
        };
        let one_time = match ids.one_time {
            Some(id) => Some(&keys.one_time.get(&id).ok_or(Error::UnknownPrekey)?.secret),
            None => None,
        };
        if keys.accepted.contains_key(&kdf::hash(&[ephemeral_key.as_bytes()])) {
            return Err(Error::Replay);
        }
        Ok(PrekeySecrets { signed, one_time, kem, kem_kind })
    }

    /// A handshake was accepted: deletes the one-time secrets it used, or remembers it where it used none.
    pub(crate) fn consume(&mut self, ids: &PrekeyIds, ephemeral_key: &PublicKey) {
        let keys = &mut self.keys;
        let one_time = ids.one_time.and_then(|id| keys.one_time.remove(&id));
        let one_time_kem = keys.one_time_kem.remove(&ids.kem);
        if one_time.is_none() && one_time_kem.is_none() {
            keys.accepted.insert(kdf::hash(&[ephemeral_key.as_bytes()]), (ids.signed, ids.kem));
        }
    }

    fn has_ids(&self, count: usize) -> Result<(), Error> {
        let count = u32::try_from(count).map_err(|_| Error::Exhausted)?;
        self.keys.last_id.checked_add(count).map(|_| ()).ok_or(Error::Exhausted)
    }
}

/// The version of the stored form.
const VERSION: u8 = 1;

impl Keys {
    fn next_id(&mut self) -> Result<u32, Error> {
        self.last_id = self.last_id.checked_add(1).ok_or(Error::Exhausted)?;
        Ok(self.last_id)
    }

    /// Deletes what is past its grace period, but for the current keys, and the handshakes remembered for it.
    fn expire(&mut self, now: u64) {
        fn expire<S>(shelf: &mut Shelf<S>, now: u64) {
            let current = shelf.last_key_value().map(|(id, _)| *id);
            let fresh = |prekey: &Prekey<S>| now.saturating_sub(prekey.created_at) <= Prekeys::GRACE;
            shelf.retain(|id, prekey| Some(*id) == current || fresh(prekey));
        }
        expire(&mut self.signed, now);
        expire(&mut self.last_resort, now);
        let (signed, last_resort) = (&self.signed, &self.last_resort);
        self.accepted.retain(|_, ids| signed.contains_key(&ids.0) && last_resort.contains_key(&ids.1));
    }

    fn is_sound(&self) -> bool {
        fn ids<S>(shelf: &Shelf<S>) -> impl Iterator<Item = u32> + '_ {
            shelf.keys().copied()
        }
        let x25519 = ids(&self.signed).chain(ids(&self.one_time));
        let mut all: Vec<u32> = x25519.chain(ids(&self.one_time_kem)).chain(ids(&self.last_resort)).collect();
        all.sort_unstable();
        all.is_sorted_by(|one, other| one < other)
            && all.first().is_none_or(|id| *id > 0)
            && all.last().is_none_or(|id| *id <= self.last_id)
    }
}

fn put<S>(shelf: &mut Shelf<S>, id: u32, created_at: u64, secret: S) -> u32 {
    shelf.insert(id, Box::new(Prekey { created_at, secret }));
    id
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
        let prefix = Writer::with_capacity(public.len().saturating_add(31)).bytes(label).u8(self.byte());
        prefix.u32(id).u64(created_at).u8(encoding).bytes(public).done()
    }
}

/// `EncodeEC`, `EncodeIdentity` and `EncodeKEM1024` put these before a key: disjoint ranges (PQXDH, 2.1).
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
        codec::state::deserialize(deserializer, Self::decode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::IdentityKey;
    use crate::testing::{Replay, array, bytes, hex, number, vectors};
    use serde_json::Value;

    const NOW: u64 = 1_800_000_000;

    fn stranger() -> IdentityKey {
        IdentityKeyPair::generate(&mut Replay::stream("stranger", 0)).public_key()
    }

    fn pair() -> (IdentityKeyPair, Prekeys) {
        let mut rng = Replay::stream("prekeys", 0);
        (IdentityKeyPair::generate(&mut rng), Prekeys::generate(2, NOW, &mut rng).unwrap())
    }

    #[test]
    fn known_prekeys_and_what_is_signed_of_them() {
        let file = vectors("prekeys.json");
        let identity = IdentityKeyPair::generate(&mut Replay::new([bytes(&file["identity_seed"])]));
        assert_eq!(hex(&identity.public_key().encode()), file["identity"]);
        let mut prekeys = Prekeys::new();
        for case in file["prekeys"].as_array().unwrap() {
            let created = if case["created"].is_null() { 0 } else { number(&case["created"]) };
            let rng = &mut Replay::new([bytes(&case["secret"])]);
            let (kind, id, public) = match number::<u8>(&case["kind"]) {
                0 => {
                    let id = prekeys.add_one_time(created, rng).unwrap();
                    assert_eq!(prekeys.keys.one_time[&id].secret.public.as_bytes(), &array(&case["public"]));
                    assert_eq!(id, number::<u32>(&case["id"]));
                    continue;
                }
                1 => {
                    let id = prekeys.add_signed(created, rng).unwrap();
                    (Kind::Signed, id, prekeys.keys.signed[&id].secret.public.as_bytes().to_vec())
                }
                2 => {
                    let id = prekeys.add_one_time_kem(created, rng).unwrap();
                    (Kind::OneTimeKem, id, prekeys.keys.one_time_kem[&id].secret.public_key().to_vec())
                }
                _ => {
                    let id = prekeys.add_last_resort(created, rng).unwrap();
                    (Kind::LastResort, id, prekeys.keys.last_resort[&id].secret.public_key().to_vec())
                }
            };
            assert_eq!(id, number::<u32>(&case["id"]));
            assert_eq!(hex(&public), case["public"]);
            let signed = kind.signed_bytes(id, created, &public);
            assert_eq!(hex(&signed), case["signed"]);
            assert_eq!(hex(&identity.sign(&signed)), case["signature"]);
        }
        bundles(&file, &identity, &prekeys);
    }

    /// The bundles, put together from the prekeys they name.
    fn bundles(file: &Value, identity: &IdentityKeyPair, prekeys: &Prekeys) {
        let id = |name: &Value| {
            let named = file["prekeys"].as_array().unwrap().iter().find(|case| case["name"] == *name);
            named.map(|case| number::<u32>(&case["id"]))
        };
        for case in file["bundles"].as_array().unwrap() {
            let (signed, kem, one_time) = (id(&case["spk"]), id(&case["kem"]), id(&case["opk"]));
            let only = |wanted: Option<u32>| {
                let mut keys: Keys = postcard::from_bytes(&prekeys.encode()[1..]).unwrap();
                keys.signed.retain(|id, _| Some(*id) == signed);
                keys.one_time.retain(|id, _| Some(*id) == one_time);
                keys.one_time_kem.retain(|id, _| Some(*id) == wanted);
                keys.last_resort.retain(|id, _| Some(*id) == wanted);
                keys
            };
            let bundle = PublishedPrekeys::new(&only(kem), (0, 0), identity).take_bundle().unwrap();
            assert_eq!(bundle.encode(), bytes(&case["encoding"]));
            assert_eq!(bundle.encode().len(), number::<usize>(&case["length"]));
            assert_eq!(Bundle::decode(&bundle.encode()).as_ref(), Ok(&bundle));
            let own = stranger();
            assert_eq!(bundle.verify(&own, number(&file["now"])).unwrap().identity(), identity.public_key());
        }
    }

    #[test]
    fn rotation_keeps_the_previous_keys_for_their_grace_period() {
        let (_, mut prekeys) = pair();
        let rng = &mut Replay::stream("rotation", 0);
        assert_eq!(prekeys.rotate_if_due(NOW + Prekeys::ROTATION - 1, rng), Ok(false));
        assert_eq!(prekeys.rotate_if_due(NOW + Prekeys::ROTATION, rng), Ok(true));
        assert_eq!((prekeys.keys.signed.len(), prekeys.keys.last_resort.len()), (2, 2));
        prekeys.keys.expire(NOW + Prekeys::GRACE);
        assert_eq!((prekeys.keys.signed.len(), prekeys.keys.last_resort.len()), (2, 2));
        prekeys.keys.expire(NOW + Prekeys::GRACE + 1);
        assert_eq!((prekeys.keys.signed.len(), prekeys.keys.last_resort.len()), (1, 1));
        // The current ones are kept whatever their age, and through the rotation that replaces them.
        prekeys.keys.expire(u64::MAX);
        assert_eq!((prekeys.keys.signed.len(), prekeys.keys.last_resort.len()), (1, 1));
        assert_eq!(prekeys.rotate_if_due(NOW + 3 * Prekeys::GRACE, rng), Ok(true));
        assert_eq!((prekeys.keys.signed.len(), prekeys.keys.last_resort.len()), (2, 2));
        assert_eq!(prekeys.rotate_if_due(NOW + 3 * Prekeys::GRACE, rng), Ok(false));
        assert_eq!((prekeys.keys.signed.len(), prekeys.keys.last_resort.len()), (1, 1));
    }

    #[test]
    fn a_clock_that_was_ahead_is_mended_by_a_rotation() {
        let (_, mut prekeys) = pair();
        let rng = &mut Replay::stream("rotation", 0);
        assert!(!prekeys.rotation_due(NOW - DAY));
        assert_eq!(prekeys.rotate_if_due(NOW - DAY - 1, rng), Ok(true));
        assert!(!prekeys.rotation_due(NOW - DAY - 1));
    }

    #[test]
    fn refilling_counts_what_the_server_holds() {
        let (identity, mut prekeys) = pair();
        let mut server = prekeys.publish(&identity);
        assert!(server.take_bundle().is_some());
        let (known, rng) = (prekeys.last_id(), &mut Replay::stream("refill", 0));
        assert_eq!(prekeys.refill(server.one_time_count(), 4, NOW, rng), Ok(3));
        server.merge(prekeys.publish_since(known, &identity));
        assert_eq!((server.one_time_count(), prekeys.one_time_count()), (4, 5));
        assert_eq!(PublishedPrekeys::decode(&server.encode()), Ok(server.clone()));
        // Uploading the same again, or all of it, adds nothing twice, not even when all was given away.
        while server.one_time_count() > 0 {
            server.take_bundle();
        }
        server.merge(prekeys.publish(&identity));
        assert_eq!(server.one_time_count(), 0);
        assert_eq!(prekeys.refill(4, 4, NOW, rng), Ok(0));
    }

    #[test]
    fn without_one_time_prekeys_the_last_resort_key_serves() {
        let (identity, prekeys) = pair();
        let mut server = prekeys.publish(&identity);
        let bundles: Vec<Bundle> = core::iter::from_fn(|| server.take_bundle()).take(4).collect();
        let verified = bundles.into_iter().map(|bundle| bundle.verify(&stranger(), NOW));
        let one_time: Vec<bool> = verified.map(|bundle| bundle.unwrap().is_one_time()).collect();
        assert_eq!(one_time, [true, true, false, false]);
    }

    #[test]
    fn ids_end() {
        let (_, mut prekeys) = pair();
        prekeys.keys.last_id = u32::MAX - 3;
        let before = prekeys.encode();
        let rng = &mut Replay::counting();
        assert_eq!(prekeys.refill(0, 2, NOW, rng), Err(Error::Exhausted));
        assert_eq!(prekeys.encode(), before);
        assert_eq!(prekeys.refill(0, 1, NOW, rng), Ok(1));
        assert!(prekeys.add_signed(NOW, rng).is_ok());
        assert_eq!(prekeys.add_signed(NOW, rng), Err(Error::Exhausted));
        assert_eq!(prekeys.rotate_if_due(u64::MAX, rng), Err(Error::Exhausted));
    }

    #[test]
    fn remembered_handshakes_make_a_rotation_due_and_go_with_the_key() {
        let (_, mut prekeys) = pair();
        let ids = PrekeyIds { signed: 1, one_time: None, kem: 2 };
        assert!(!prekeys.rotation_due(NOW));
        for number in 0..4_096_u16 {
            let mut key = [0; 32];
            key[..2].copy_from_slice(&number.to_be_bytes());
            prekeys.consume(&ids, &PublicKey::new(key));
            assert_eq!(prekeys.secrets(&ids, &PublicKey::new(key)).map(drop), Err(Error::Replay));
        }
        assert!(prekeys.rotation_due(NOW));
        let rng = &mut Replay::stream("rotation", 0);
        assert_eq!(prekeys.rotate_if_due(NOW, rng), Ok(true));
        assert!(!prekeys.rotation_due(NOW));
        assert_eq!(prekeys.keys.accepted.len(), 4_096);
        prekeys.keys.expire(NOW + Prekeys::GRACE + 1);
        assert_eq!(prekeys.keys.accepted.len(), 0);
    }

    #[test]
    fn the_stored_form_is_read_back_and_nothing_else_is() {
        let (identity, mut prekeys) = pair();
        prekeys.consume(&PrekeyIds { signed: 1, one_time: None, kem: 2 }, &PublicKey::new([1; 32]));
        let stored = prekeys.encode();
        let again = Prekeys::decode(&stored).unwrap();
        assert_eq!(again.encode(), stored);
        assert_eq!(again.publish(&identity), prekeys.publish(&identity));
        for length in 0..stored.len() {
            assert_eq!(Prekeys::decode(&stored[..length]).map(drop), Err(Error::BadState));
        }
        let json = serde_json::to_vec(&prekeys).unwrap();
        assert_eq!(serde_json::from_slice::<Prekeys>(&json).unwrap().encode(), stored);
    }
}
