//! Identity keys: one Ed25519 key pair for each device (protocol.md, 2).

use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use data_encoding::HEXLOWER_PERMISSIVE;
use rand_core::CryptoRng;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::at_rest;
use crate::codec;
use crate::crypto::curve::SecretKey;
use crate::crypto::secret::Secret;
use crate::crypto::signature::{SigningKey, VerifyingKey};
use crate::error::Error;

/// A device's identity key pair: an Ed25519 seed.
///
/// It signs the device's prekeys, and takes part in handshakes in its X25519 form.
///
/// ```
/// use subrosa::protocol::IdentityKeyPair;
/// use subrosa::SystemRng;
///
/// let identity = IdentityKeyPair::generate(&mut SystemRng);
/// let stored = identity.encode();
/// assert_eq!(IdentityKeyPair::decode(&stored)?.public_key(), identity.public_key());
/// # Ok::<(), subrosa::Error>(())
/// ```
#[derive(Clone)]
pub struct IdentityKeyPair {
    signing: SigningKey,
    public: IdentityKey,
}

impl IdentityKeyPair {
    /// Draws 32 bytes, the seed.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        Self::from_seed(&Secret::random(rng))
    }

    pub(crate) fn from_seed(seed: &Secret<32>) -> Self {
        let signing = SigningKey::from_seed(seed);
        let public = IdentityKey(signing.public_key());
        Self { signing, public }
    }

    /// The public half, which names the device.
    #[must_use]
    pub const fn public_key(&self) -> IdentityKey {
        self.public
    }

    /// The state at rest: `1 || 32 || seed:32`. Secret; wiped when dropped.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        at_rest::state::encode(VERSION, &self.signing.seed(), 34)
    }

    /// From what [`IdentityKeyPair::encode`] made.
    ///
    /// # Errors
    /// [`Error::BadState`]
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        at_rest::state::decode(VERSION, bytes).map(|seed| Self::from_seed(&seed))
    }

    pub(crate) fn seed(&self) -> Secret<32> {
        self.signing.seed()
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.signing.sign(message)
    }

    pub(crate) fn to_x25519(&self) -> SecretKey {
        self.signing.to_x25519()
    }
}

/// The version of the stored form.
const VERSION: u8 = 1;

/// Shows the public key alone.
impl fmt::Debug for IdentityKeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IdentityKeyPair").field(&self.public).finish()
    }
}

/// As [`IdentityKeyPair::encode`], version byte included.
impl Serialize for IdentityKeyPair {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.encode())
    }
}

/// As [`IdentityKeyPair::decode`].
impl<'de> Deserialize<'de> for IdentityKeyPair {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        at_rest::state::deserialize(deserializer, Self::decode)
    }
}

/// A device's public identity key: 32 bytes that are the canonical encoding of a point of Ed25519's
/// prime-order subgroup other than the neutral element.
///
/// Two people who compare these know that nobody is in between. `Display` writes 64 hexadecimal
/// digits, which `FromStr` reads again, in either case.
///
/// ```
/// use subrosa::protocol::IdentityKeyPair;
/// use subrosa::{IdentityKey, SystemRng};
///
/// let key = IdentityKeyPair::generate(&mut SystemRng).public_key();
/// assert_eq!(key.to_string().parse::<IdentityKey>()?, key);
/// assert_eq!(IdentityKey::try_from(key.as_ref())?, key);
/// # Ok::<(), subrosa::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdentityKey([u8; 32]);

impl IdentityKey {
    /// The 32 bytes, as they travel.
    #[must_use]
    pub const fn encode(&self) -> [u8; 32] {
        self.0
    }

    /// From 32 bytes, which are checked.
    ///
    /// # Errors
    /// [`Error::Malformed`] unless they are 32, [`Error::InvalidKey`] unless they are an identity
    /// key.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let bytes = bytes.try_into().map_err(|_| Error::Malformed)?;
        Self::verifying(bytes).map(|(key, _)| key)
    }

    /// With what verifies its signatures.
    pub(crate) fn verifying(bytes: &[u8; 32]) -> Result<(Self, VerifyingKey), Error> {
        Ok((Self(*bytes), VerifyingKey::decode(bytes)?))
    }

    /// A key that was checked before, in our own state.
    pub(crate) fn unchecked(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    pub(crate) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// As [`IdentityKey::encode`].
impl AsRef<[u8]> for IdentityKey {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// As [`IdentityKey::decode`].
impl TryFrom<&[u8]> for IdentityKey {
    type Error = Error;

    fn try_from(bytes: &[u8]) -> Result<Self, Error> {
        Self::decode(bytes)
    }
}

/// From 64 hexadecimal digits. [`Error::Malformed`] unless they are, [`Error::InvalidKey`] unless
/// they stand for an identity key.
impl FromStr for IdentityKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).map_err(|_| Error::Malformed)?;
        Self::decode(&bytes)
    }
}

impl fmt::Display for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        codec::hex(f, &self.0)
    }
}

impl fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdentityKey({self})")
    }
}

impl Serialize for IdentityKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        at_rest::array::serialize(&self.0, serializer)
    }
}

/// Checks the key, as [`IdentityKey::decode`] does.
impl<'de> Deserialize<'de> for IdentityKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = at_rest::array::deserialize::<D, 32>(deserializer)?;
        Self::decode(&bytes).map_err(serde::de::Error::custom)
    }
}

/// State at rest, for `#[serde(with = "...")]`: a key that was checked before it was stored, in our
/// own state.
pub(crate) mod checked {
    use super::{Deserializer, IdentityKey, Serialize, Serializer, at_rest};

    pub(crate) fn serialize<S: Serializer>(
        key: &IdentityKey,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        key.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<IdentityKey, D::Error> {
        at_rest::array::deserialize(deserializer).map(IdentityKey)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{array, bytes, vectors};

    #[test]
    fn identities_to_take_and_to_refuse() {
        let file = vectors("identity.json");
        for case in file["keys"].as_array().unwrap() {
            let key = IdentityKeyPair::from_seed(&Secret::new(array(&case["seed"])));
            assert_eq!(key.public_key().encode(), array(&case["public"]));
        }
        for case in file["decode"].as_array().unwrap() {
            let decoded = IdentityKey::decode(&bytes(&case["encoding"]));
            assert_eq!(decoded.is_ok(), case["result"] == "ok", "{}", case["name"]);
        }
    }
}
