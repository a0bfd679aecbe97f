//! What opens a vault or an archive: passphrases, keys, and codes on paper.

use alloc::vec;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use zeroize::Zeroizing;

use crate::crypto::secret::Secret;
use crate::error::{Error, StoreFault};

mod passphrase;
mod recovery;
pub(crate) mod slot;

pub use passphrase::Passphrase;
pub use recovery::RecoveryCode;
pub(crate) use slot::{Context, Opened, Slot};

/// What opens a [`Vault`](crate::store::Vault) or an [`Archive`](crate::archive).
#[derive(Clone, Copy)]
pub enum Lock<'a> {
    /// A person's passphrase, stretched by Argon2id. Takes a tenth of a second or more, and 64 MiB
    /// for that time. One that is empty or a single character is refused.
    Passphrase(&'a str),
    /// A passphrase of this crate's making, stretched in the same way: the same words, given as
    /// [`Lock::Passphrase`], open what it locks.
    Generated(&'a Passphrase),
    /// 32 random bytes that the app keeps, say in the system's keychain.
    Key(&'a [u8; 32]),
    /// A code that a person keeps on paper.
    Code(&'a RecoveryCode),
}

impl Lock<'_> {
    /// Which kind it is.
    #[must_use]
    pub const fn kind(self) -> LockKind {
        match self {
            Self::Passphrase(_) | Self::Generated(_) => LockKind::Passphrase,
            Self::Key(_) => LockKind::Key,
            Self::Code(_) => LockKind::Code,
        }
    }

    /// Whether it was drawn, so that nobody guesses it. A passphrase that a person thought up was
    /// not.
    #[cfg(feature = "std")]
    pub(crate) const fn is_random(self) -> bool {
        !matches!(self, Self::Passphrase(_))
    }

    /// # Errors
    /// [`Error::WeakPassphrase`]
    pub(crate) fn refuse_weak(self) -> Result<(), Error> {
        match self {
            Self::Passphrase(passphrase) if passphrase.chars().nth(1).is_none() => {
                Err(Error::WeakPassphrase)
            }
            _ => Ok(()),
        }
    }
}

/// Shows which kind it is.
impl core::fmt::Debug for Lock<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Lock::{:?}", self.kind())
    }
}

/// A kind of lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LockKind {
    /// [`Lock::Passphrase`], [`Lock::Generated`]
    Passphrase,
    /// [`Lock::Key`]
    Key,
    /// [`Lock::Code`]
    Code,
}

impl LockKind {
    pub(crate) const fn to_u8(self) -> u8 {
        match self {
            Self::Passphrase => 1,
            Self::Key => 2,
            Self::Code => 3,
        }
    }

    pub(crate) const fn from_u8(kind: u8) -> Option<Self> {
        match kind {
            1 => Some(Self::Passphrase),
            2 => Some(Self::Key),
            3 => Some(Self::Code),
            _ => None,
        }
    }
}

/// What Argon2id costs: you once, and someone who guesses each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Argon2Cost {
    pub(crate) memory_kib: u32,
    pub(crate) passes: u32,
    pub(crate) lanes: u32,
}

impl Argon2Cost {
    /// Memory in MiB (8 to 1,024) and passes over it (1 to 64), in one lane; what is outside is
    /// brought inside.
    #[must_use]
    pub fn new(memory_mib: u32, passes: u32) -> Self {
        let memory_kib = memory_mib.clamp(8, 1_024).saturating_mul(1_024);
        Self { memory_kib, passes: passes.clamp(1, 64), lanes: 1 }
    }

    /// No numbers, where there is no passphrase.
    pub(crate) const NONE: Self = Self { memory_kib: 0, passes: 0, lanes: 0 };

    /// Whether Argon2id takes these numbers, and a caller should pay them: somebody may have made
    /// the numbers up to exhaust the machine.
    pub(crate) const fn is_bearable(self) -> bool {
        let lanes = self.lanes >= 1 && self.lanes <= 16;
        let least = self.lanes.saturating_mul(8);
        lanes
            && self.memory_kib >= least
            && self.memory_kib <= 1_024 * 1_024
            && self.passes >= 1
            && self.passes <= 64
    }

    /// KiB that are written.
    #[cfg(feature = "std")]
    pub(crate) fn work(self) -> u64 {
        u64::from(self.memory_kib).saturating_mul(u64::from(self.passes))
    }

    /// Whichever costs more, in memory and in passes.
    pub(crate) fn and_at_least(self, other: Self) -> Self {
        let memory_kib = self.memory_kib.max(other.memory_kib);
        Self { memory_kib, passes: self.passes.max(other.passes), lanes: self.lanes }
    }
}

/// 64 MiB, 3 passes: RFC 9106's second choice.
impl Default for Argon2Cost {
    fn default() -> Self {
        Self::new(64, 3)
    }
}

/// `Argon2id(passphrase, salt)`, RFC 9106: 32 bytes.
fn argon2id(passphrase: &str, salt: &[u8; 32], cost: Argon2Cost) -> Result<Secret<32>, Error> {
    let mut key = Secret::new([0; 32]);
    Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32))
        .and_then(|params| {
            // The key follows from the last block, without the passphrase.
            let mut memory = Zeroizing::new(vec![Block::default(); params.block_count()]);
            let (out, memory) = (key.expose_mut(), memory.as_mut_slice());
            let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
            argon2.hash_password_into_with_memory(passphrase.as_bytes(), salt, out, memory)
        })
        .map_err(|_| Error::from(StoreFault::Corrupt))?;
    Ok(key)
}
