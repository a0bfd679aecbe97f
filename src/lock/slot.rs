//! A key that is sealed under one lock.
//!
//! ```text
//! slot = kind:u8 (1 passphrase, 2 key, 3 recovery code) ||
//!        memory in KiB:u32 || passes:u32 || lanes:u32 (0 without a passphrase) ||
//!        salt:32 || check:32 || AEAD(KEK, 12 zero bytes, secret, all before):48
//! KEK || check = HKDF(salt, ikm, label || id || more || kind, 64)
//! ikm  = Argon2id(passphrase, salt):32, or the key:32, or the code's secret:20
//! ```
//!
//! `AEAD` is ChaCha20-Poly1305 (RFC 8439). It commits to no key: without `check` a slot could open
//! under several passphrases. Where `check` is right, so is the lock, and what fails after that is
//! damage.

use alloc::boxed::Box;
use alloc::vec::Vec;

use rand_core::CryptoRng;

use super::{Argon2Cost, Lock, LockKind, argon2id};
use crate::codec::{Reader, Writer};
use crate::crypto::aead::{self, TAG_LENGTH};
use crate::crypto::kdf::{self, HmacKey};
use crate::crypto::mark;
use crate::crypto::secret::Secret;
use crate::error::Error;

/// What a slot belongs to.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) label: &'static [u8],
    pub(crate) id: &'a [u8; 16],
    pub(crate) more: &'a [u8],
    /// What comes before the slot, and is to be what it was when the slot was made.
    pub(crate) before: &'a [u8],
}

/// What a lock does to a slot.
pub(crate) enum Opened {
    /// It is the right one.
    Secret(Box<Secret<32>>),
    /// It is the right one, and something else is not.
    Damaged,
    /// It is another one.
    Other,
}

pub(crate) struct Slot {
    pub(crate) kind: LockKind,
    pub(crate) cost: Argon2Cost,
    pub(crate) salt: [u8; 32],
    check: [u8; 32],
    sealed: [u8; 48],
}

impl Slot {
    /// 125 bytes.
    #[cfg(feature = "std")]
    pub(crate) const LENGTH: usize = 125;

    /// Draws 32 bytes.
    ///
    /// # Errors
    /// [`Error::WeakPassphrase`]
    pub(crate) fn new(
        lock: Lock<'_>,
        cost: Argon2Cost,
        context: Context<'_>,
        secret: &Secret<32>,
        rng: &mut dyn CryptoRng,
    ) -> Result<Self, Error> {
        lock.refuse_weak()?;
        let kind = lock.kind();
        let cost = if kind == LockKind::Passphrase { cost } else { Argon2Cost::NONE };
        let mut slot = Self { kind, cost, salt: [0; 32], check: [0; 32], sealed: [0; 48] };
        rng.fill_bytes(&mut slot.salt);
        let [key, check] = slot.keys(lock, context)?;
        slot.check = mark::public(*check.expose());
        slot.sealed = wrap(&key, &[0; 12], secret, &slot.associated(context));
        Ok(slot)
    }

    /// Tries a lock.
    pub(crate) fn open(&self, lock: Lock<'_>, context: Context<'_>) -> Result<Opened, Error> {
        if self.kind != lock.kind() {
            return Ok(Opened::Other);
        }
        let [key, check] = self.keys(lock, context)?;
        if check != Secret::new(self.check) {
            return Ok(Opened::Other);
        }
        let secret = unwrap(&key, &[0; 12], &self.sealed, &self.associated(context));
        Ok(secret.map_or(Opened::Damaged, Opened::Secret))
    }

    /// # Errors
    /// [`Error::Malformed`], also where Argon2 is to cost more than anybody should bear.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let kind = LockKind::from_u8(reader.u8()?).ok_or(Error::Malformed)?;
        let cost =
            Argon2Cost { memory_kib: reader.u32()?, passes: reader.u32()?, lanes: reader.u32()? };
        let is_right = match kind {
            LockKind::Passphrase => cost.is_bearable(),
            LockKind::Key | LockKind::Code => cost == Argon2Cost::NONE,
        };
        if !is_right {
            return Err(Error::Malformed);
        }
        Ok(Self {
            kind,
            cost,
            salt: *reader.array()?,
            check: *reader.array()?,
            sealed: *reader.array()?,
        })
    }

    /// The 125 bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        [&self.head()[..], &self.sealed].concat()
    }

    /// All but what is sealed.
    fn head(&self) -> Vec<u8> {
        let head = Writer::with_capacity(77).u8(self.kind.to_u8());
        let head = head.u32(self.cost.memory_kib).u32(self.cost.passes).u32(self.cost.lanes);
        head.bytes(&self.salt).bytes(&self.check).done()
    }

    fn associated(&self, context: Context<'_>) -> Vec<u8> {
        [context.before, &self.head()].concat()
    }

    /// `KEK || check`
    fn keys(&self, lock: Lock<'_>, context: Context<'_>) -> Result<[Secret<32>; 2], Error> {
        let salt = HmacKey::new(&Secret::new(self.salt));
        // It is stored in the clear: it was a key for the length of this line alone.
        let _: [u8; 32] = mark::public(self.salt);
        let Context { label, id, more, .. } = context;
        let info: [&[u8]; 4] = [label, id, more, &[self.kind.to_u8()]];
        let from_passphrase = |passphrase| {
            let stretched = argon2id(passphrase, &self.salt, self.cost)?;
            Ok(kdf::hkdf(&salt, &[stretched.expose()], &info))
        };
        match lock {
            Lock::Passphrase(passphrase) => from_passphrase(passphrase),
            Lock::Generated(passphrase) => from_passphrase(passphrase.as_str()),
            Lock::Key(key) => Ok(kdf::hkdf(&salt, &[key], &info)),
            Lock::Code(code) => Ok(kdf::hkdf(&salt, &[code.secret()], &info)),
        }
    }
}

/// Seals a key under another one.
pub(crate) fn wrap(
    key: &Secret<32>,
    nonce: &[u8; 12],
    secret: &Secret<32>,
    associated_data: &[u8],
) -> [u8; 48] {
    let mut sealed = Secret::new([0; 48]);
    let (text, _) = sealed.expose_mut().split_at_mut(32);
    text.copy_from_slice(secret.expose());
    aead::seal(key, nonce, sealed.expose_mut(), associated_data);
    // It is stored in the clear, and dropped as the ciphertext that it is by now.
    mark::public(*sealed.expose())
}

/// Opens what [`wrap`] made. `None`: it is not that.
pub(crate) fn unwrap(
    key: &Secret<32>,
    nonce: &[u8; 12],
    sealed: &[u8; 48],
    associated_data: &[u8],
) -> Option<Box<Secret<32>>> {
    let mut secret = Box::new(Secret::new([0; 48 - TAG_LENGTH]));
    aead::open(key, nonce, sealed, associated_data, secret.expose_mut()).ok()?;
    Some(secret)
}
