//! What a server hands to one initiator, and what of it can be believed.

use alloc::vec::Vec;

use super::{DAY, Kind};
use crate::codec::{Reader, Writer};
use crate::crypto::curve::{Point, PublicKey};
use crate::crypto::kem::whole::{PublicKey as KemPublicKey, check as check_kem};
use crate::crypto::signature::VerifyingKey;
use crate::error::Error;
use crate::identity::IdentityKey;

/// A device's prekey bundle, as a server hands it to one initiator. Nothing in it is verified yet.
///
/// ```text
/// version:u8 = 1 || IK:32 || spk_id:u32 || spk_created:u64 || SPK:32 || spk_sig:64 ||
/// kem_kind:u8 (2|3) || kem_id:u32 || kem_created:u64 || PQPK:1568 || kem_sig:64 ||
/// opk_present:u8 (0|1) [|| opk_id:u32 || OPK:32]
/// ```
///
/// 1,787 bytes without a one-time prekey, 1,823 with one (protocol.md, section 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    pub(super) identity: [u8; 32],
    pub(super) signed: SignedPrekey,
    pub(super) kem_kind: Kind,
    pub(super) kem: KemPrekey,
    pub(super) one_time: Option<OneTimePrekey>,
}

/// The public half of a signed prekey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignedPrekey {
    pub(crate) id: u32,
    pub(crate) created_at: u64,
    pub(crate) key: PublicKey,
    pub(crate) signature: [u8; 64],
}

/// The public half of a KEM prekey, one-time or last-resort.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KemPrekey {
    pub(crate) id: u32,
    pub(crate) created_at: u64,
    pub(crate) key: KemPublicKey,
    pub(crate) signature: [u8; 64],
}

/// The public half of a one-time prekey.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OneTimePrekey {
    pub(crate) id: u32,
    pub(crate) key: PublicKey,
}

impl Bundle {
    /// A signed prekey or last-resort key above this age is refused: 60 days, in seconds. Long
    /// enough for a device that is switched off for a holiday, short enough that a stolen one is
    /// not written to for ever.
    pub const MAX_AGE: u64 = 60 * DAY;

    /// A signed key from so far in the future is still accepted: 1 day, in seconds, since clocks
    /// differ.
    pub const MAX_AHEAD: u64 = DAY;

    const VERSION: u8 = 1;

    /// The bundle's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let out = Writer::with_capacity(1823).u8(Self::VERSION).bytes(&self.identity);
        let out = self.signed.write(out).u8(self.kem_kind.byte());
        let out = self.kem.write(out);
        match &self.one_time {
            Some(prekey) => prekey.write(out.u8(1)).done(),
            None => out.u8(0).done(),
        }
    }

    /// From bytes, of which the layout is checked here and the rest by [`Bundle::verify`].
    ///
    /// # Errors
    /// [`Error::UnsupportedVersion`], [`Error::Malformed`]
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != Self::VERSION {
            return Err(Error::UnsupportedVersion);
        }
        let identity = *reader.array()?;
        let signed = SignedPrekey::read(&mut reader)?;
        let kem_kind = match reader.u8()? {
            2 => Kind::OneTimeKem,
            3 => Kind::LastResort,
            _ => return Err(Error::Malformed),
        };
        let kem = KemPrekey::read(&mut reader)?;
        let one_time = match reader.u8()? {
            0 => None,
            1 => Some(OneTimePrekey::read(&mut reader)?),
            _ => return Err(Error::Malformed),
        };
        reader.end()?;
        Ok(Self { identity, signed, kem_kind, kem, one_time })
    }

    /// Checks the bundle at the time `now`, for the device whose identity key is `own`: its
    /// identity, that this is not `own`, both signatures, the ages, the KEM key.
    ///
    /// Whether the identity is the *person's* is not for cryptography to say: compare it with the
    /// one seen before, and let people compare theirs.
    ///
    /// # Errors
    /// [`Error::InvalidKey`], [`Error::OwnIdentity`], [`Error::BadSignature`],
    /// [`Error::StaleBundle`], [`Error::FutureBundle`]
    pub fn verify(self, own: &IdentityKey, now: u64) -> Result<VerifiedBundle, Error> {
        let (identity, key) = IdentityKey::verifying(&self.identity)?;
        if identity == *own {
            return Err(Error::OwnIdentity);
        }
        let Self { signed, kem, kem_kind, one_time, .. } = self;
        let message =
            Kind::Signed.signed_bytes(signed.id, signed.created_at, signed.key.as_bytes());
        key.verify(&message, &signed.signature)?;
        let message = kem_kind.signed_bytes(kem.id, kem.created_at, &*kem.key);
        key.verify(&message, &kem.signature)?;
        let ages = [(Kind::Signed, signed.created_at), (kem_kind, kem.created_at)];
        ages.into_iter().try_for_each(|(kind, created_at)| check_age(kind, created_at, now))?;
        check_kem(&kem.key)?;
        let signed_point = signed.key.point();
        Ok(VerifiedBundle { identity, key, signed, signed_point, kem_kind, kem, one_time })
    }
}

/// As [`Bundle::decode`].
impl TryFrom<&[u8]> for Bundle {
    type Error = Error;

    fn try_from(bytes: &[u8]) -> Result<Self, Error> {
        Self::decode(bytes)
    }
}

/// A one-time KEM key may be of any age, since it is kept until it is used.
fn check_age(kind: Kind, created_at: u64, now: u64) -> Result<(), Error> {
    if created_at > now.saturating_add(Bundle::MAX_AHEAD) {
        Err(Error::FutureBundle)
    } else if kind != Kind::OneTimeKem && now > created_at.saturating_add(Bundle::MAX_AGE) {
        Err(Error::StaleBundle)
    } else {
        Ok(())
    }
}

/// A bundle that [`Bundle::verify`] checked. Nothing else makes one, and [`Session::initiate`]
/// takes nothing else.
///
/// It is good for one session, soon: the device answers a one-time prekey once, and its signed
/// prekey for a limited time.
///
/// [`Session::initiate`]: crate::protocol::Session::initiate
#[must_use = "it is good for a session"]
#[derive(Clone, Debug)]
pub struct VerifiedBundle {
    identity: IdentityKey,
    pub(crate) key: VerifyingKey,
    pub(crate) signed: SignedPrekey,
    pub(crate) signed_point: Point,
    pub(crate) kem_kind: Kind,
    pub(crate) kem: KemPrekey,
    pub(crate) one_time: Option<OneTimePrekey>,
}

impl VerifiedBundle {
    /// The identity that signed the bundle.
    #[must_use]
    pub const fn identity(&self) -> IdentityKey {
        self.identity
    }

    /// Whether the server still had one-time prekeys of both kinds. A session without any is begun
    /// just as safely, but who steals the device's identity and prekeys while it keeps them (67
    /// days or more) opens what was sent before the first answer.
    #[must_use]
    pub fn is_one_time(&self) -> bool {
        self.one_time.is_some() && self.kem_kind == Kind::OneTimeKem
    }
}

impl SignedPrekey {
    /// `id:u32 || created_at:u64 || key:32 || signature:64`
    pub(super) fn write(&self, out: Writer) -> Writer {
        out.u32(self.id).u64(self.created_at).bytes(self.key.as_bytes()).bytes(&self.signature)
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let (id, created_at) = (read_id(reader)?, reader.u64()?);
        let (key, signature) = (PublicKey::new(*reader.array()?), *reader.array()?);
        Ok(Self { id, created_at, key, signature })
    }
}

impl KemPrekey {
    /// `id:u32 || created_at:u64 || key:1568 || signature:64`
    pub(super) fn write(&self, out: Writer) -> Writer {
        out.u32(self.id).u64(self.created_at).bytes(&*self.key).bytes(&self.signature)
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let (id, created_at) = (read_id(reader)?, reader.u64()?);
        let (key, signature) = ((*reader.array()?).into(), *reader.array()?);
        Ok(Self { id, created_at, key, signature })
    }
}

impl OneTimePrekey {
    /// `id:u32 || key:32`
    pub(super) fn write(&self, out: Writer) -> Writer {
        out.u32(self.id).bytes(self.key.as_bytes())
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(Self { id: read_id(reader)?, key: PublicKey::new(*reader.array()?) })
    }
}

/// 0 is no id.
fn read_id(reader: &mut Reader<'_>) -> Result<u32, Error> {
    match reader.u32()? {
        0 => Err(Error::Malformed),
        id => Ok(id),
    }
}
