//! The row that keeps the locks of a vault.
//!
//! ```text
//! lock row = version:u8 = 1 || id:16 || number:u32 || count:u8 (1 to 8) || count * slot ||
//!            count:u8 || count * older || commit:32
//! slot     = kind:u8 (1 passphrase, 2 key, 3 recovery code) ||
//!            memory in KiB:u32 || passes:u32 || lanes:u32 (0 without a passphrase) ||
//!            salt:32 || check:32 || AEAD(KEK, 12 zero bytes, MK, the slot before it):48
//! KEK || check = HKDF(salt, ikm, "Subrosa v1 vault slot" || id || kind, 64)
//! ikm      = Argon2id(passphrase, salt):32, or the key:32, or the code's secret:20
//! older    = number:u32 || AEAD(ring, 8 zero bytes || number, the MK of that number, number):48
//! ring     = HKDF(0, MK, "Subrosa v1 vault ring", 32)
//! commit   = HMAC(HKDF(0, MK, "Subrosa v1 vault commit", 32), all before)
//! ```
//!
//! `AEAD` is ChaCha20-Poly1305 (RFC 8439). It commits to no key: without `check` a slot could open
//! under several passphrases. Where `check` is right, so is the passphrase, and what fails after
//! that is damage.

use alloc::boxed::Box;
use alloc::vec::Vec;

use rand_core::CryptoRng;

use super::StoreFault;
use crate::codec::{Reader, Writer};
use crate::crypto::kdf::{self, HmacKey};
use crate::crypto::mark;
use crate::crypto::secret::Secret;
use crate::error::Error;
use crate::lock::{Argon2Cost, Context, Lock, LockKind, Opened, Slot, slot};

/// Which of a vault's locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockId([u8; 8]);

/// A lock of a vault, as a settings page lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedLock {
    /// What [`Vault::remove_lock`](super::Vault::remove_lock) takes. Opening a vault at a higher
    /// cost changes it.
    pub id: LockId,
    /// Which kind it is.
    pub kind: LockKind,
}

/// Key of the lock row, in [`Table::Vault`](super::Table::Vault).
pub(super) const LOCK: &[u8] = b"lock";

/// The most locks that a vault has.
pub(super) const MOST_LOCKS: usize = 8;

/// Whether a stored lock row is of this vault, and data is written under this key by now.
pub(super) fn is_current(row: &[u8], id: &[u8; 16], number: u32) -> bool {
    row.get(1..17) == Some(id) && row.get(17..21) == Some(&number.to_be_bytes())
}

/// The lock row.
pub(super) struct LockRow {
    pub(super) id: [u8; 16],
    /// Of the key that new rows are written under.
    pub(super) number: u32,
    slots: Vec<Slot>,
    older: Vec<Older>,
}

impl LockRow {
    /// A row without locks.
    pub(super) const fn new(id: [u8; 16], number: u32) -> Self {
        Self { id, number, slots: Vec::new(), older: Vec::new() }
    }

    pub(super) fn locks(&self) -> impl Iterator<Item = ListedLock> {
        self.slots.iter().map(|slot| ListedLock { id: id_of(slot), kind: slot.kind })
    }

    /// The master key, and what the lock that opened it cost.
    ///
    /// # Errors
    /// [`Error::WrongPassphrase`]; [`StoreFault::Corrupt`]: the lock is right, and something else
    /// in the row is not.
    pub(super) fn open(
        &self,
        row: &[u8],
        lock: Lock<'_>,
    ) -> Result<(Box<Secret<32>>, LockId, Argon2Cost), Error> {
        for slot in &self.slots {
            match slot.open(lock, context(&self.id))? {
                Opened::Secret(master) => {
                    self.verify(row, &master)?;
                    return Ok((master, id_of(slot), slot.cost));
                }
                Opened::Damaged => return Err(StoreFault::Corrupt.into()),
                Opened::Other => {}
            }
        }
        Err(Error::WrongPassphrase)
    }

    /// # Errors
    /// [`StoreFault::Corrupt`]: who wrote the row does not have this master key.
    pub(super) fn verify(&self, row: &[u8], master: &Secret<32>) -> Result<(), Error> {
        let corrupt = || Error::from(StoreFault::Corrupt);
        let (body, found) = row.split_last_chunk::<32>().ok_or_else(corrupt)?;
        if commit(master, body) == Secret::new(*found) { Ok(()) } else { Err(corrupt()) }
    }

    /// # Errors
    /// [`Error::WeakPassphrase`]; [`Error::BadLocks`]: there are eight.
    pub(super) fn add(
        &mut self,
        lock: Lock<'_>,
        cost: Argon2Cost,
        master: &Secret<32>,
        rng: &mut dyn CryptoRng,
    ) -> Result<LockId, Error> {
        lock.refuse_weak()?;
        if self.slots.len() >= MOST_LOCKS {
            return Err(Error::BadLocks);
        }
        let slot = Slot::new(lock, cost, context(&self.id), master, rng)?;
        let id = id_of(&slot);
        self.slots.push(slot);
        Ok(id)
    }

    /// # Errors
    /// [`Error::BadLocks`]: there is none of this id, or no other.
    pub(super) fn remove(&mut self, id: LockId) -> Result<(), Error> {
        let at = self.slots.iter().position(|slot| id_of(slot) == id).ok_or(Error::BadLocks)?;
        if self.slots.len() == 1 {
            return Err(Error::BadLocks);
        }
        self.slots.remove(at);
        Ok(())
    }

    /// Takes a lock away even if there is no other, to put one in its place.
    pub(super) fn replace(&mut self, id: LockId) {
        self.slots.retain(|slot| id_of(slot) != id);
    }

    /// The older master keys that rows may still be written under.
    ///
    /// # Errors
    /// [`StoreFault::Corrupt`]
    pub(super) fn older(&self, master: &Secret<32>) -> Result<Vec<(u32, Box<Secret<32>>)>, Error> {
        let ring = ring(master);
        let open = |older: &Older| {
            let number = older.number.to_be_bytes();
            let opened = slot::unwrap(&ring, &nonce(number), &older.sealed, &number);
            Ok((older.number, opened.ok_or(StoreFault::Corrupt)?))
        };
        self.older.iter().map(open).collect()
    }

    /// # Errors
    /// [`StoreFault::TooLarge`]: there are 255, none of which was rotated away.
    pub(super) fn keep_older(
        &mut self,
        number: u32,
        older: &Secret<32>,
        master: &Secret<32>,
    ) -> Result<(), Error> {
        if self.older.len() >= usize::from(u8::MAX) {
            return Err(StoreFault::TooLarge.into());
        }
        let bytes = number.to_be_bytes();
        let sealed = slot::wrap(&ring(master), &nonce(bytes), older, &bytes);
        self.older.push(Older { number, sealed });
        Ok(())
    }

    pub(super) const fn has_older(&self) -> bool {
        !self.older.is_empty()
    }

    pub(super) fn drop_older(&mut self) {
        self.older.clear();
    }

    pub(super) fn encode(&self, master: &Secret<32>) -> Vec<u8> {
        let length = |count: usize| u8::try_from(count).unwrap_or(u8::MAX);
        let mut row = Writer::with_capacity(512).u8(VERSION).bytes(&self.id).u32(self.number);
        row = row.u8(length(self.slots.len()));
        for slot in &self.slots {
            row = row.bytes(&slot.encode());
        }
        row = row.u8(length(self.older.len()));
        for older in &self.older {
            row = row.u32(older.number).bytes(&older.sealed);
        }
        let mut row = row.done();
        // A tag, which stands in the row for anyone to see.
        let commit = mark::public(*commit(master, &row).expose());
        row.extend_from_slice(&commit);
        row
    }

    /// # Errors
    /// [`StoreFault::Newer`], [`StoreFault::Corrupt`]
    pub(super) fn decode(row: &[u8]) -> Result<Self, Error> {
        match row.first() {
            Some(version) if *version > VERSION => Err(StoreFault::Newer.into()),
            _ => Self::read(row).map_err(|_| StoreFault::Corrupt.into()),
        }
    }

    fn read(row: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(row);
        let (version, id, number) = (reader.u8()?, *reader.array()?, reader.u32()?);
        let count = usize::from(reader.u8()?);
        if version != VERSION || count == 0 || count > MOST_LOCKS {
            return Err(Error::Malformed);
        }
        let slots = (0..count).map(|_| Slot::read(&mut reader)).collect::<Result<_, _>>()?;
        let count = reader.u8()?;
        let older =
            (0..count).map(|_| Ok(Older { number: reader.u32()?, sealed: *reader.array()? }));
        let older = older.collect::<Result<_, Error>>()?;
        reader.array::<32>()?;
        reader.end()?;
        Ok(Self { id, number, slots, older })
    }
}

const VERSION: u8 = 1;

struct Older {
    number: u32,
    sealed: [u8; 48],
}

fn context(id: &[u8; 16]) -> Context<'_> {
    Context { label: b"Subrosa v1 vault slot", id, more: &[], before: &[] }
}

const fn id_of(slot: &Slot) -> LockId {
    let [a, b, c, d, e, f, g, h, ..] = slot.salt;
    LockId([a, b, c, d, e, f, g, h])
}

fn commit(master: &Secret<32>, body: &[u8]) -> Secret<32> {
    let [key] = kdf::hkdf(&kdf::NO_SALT, &[master.expose()], &[b"Subrosa v1 vault commit"]);
    HmacKey::new(&key).mac(&[body])
}

/// The key that older master keys are sealed under.
fn ring(master: &Secret<32>) -> Secret<32> {
    let [key] = kdf::hkdf(&kdf::NO_SALT, &[master.expose()], &[b"Subrosa v1 vault ring"]);
    key
}

fn nonce(number: [u8; 4]) -> [u8; 12] {
    let [a, b, c, d] = number;
    [0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d]
}
