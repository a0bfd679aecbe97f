//! A store encrypted at rest.
//!
//! A random data key encrypts every value; a lock (a passphrase through Argon2id, or a key that the app keeps) encrypts the data
//! key. So changing the lock rewrites one row.
//!
//! ```text
//! lock row  = version:u8 = 1 || kind:u8 (1 = passphrase, 2 = key) ||
//!             memory in KiB:u32 || passes:u32 || lanes:u32 || salt:16 (none of which a key needs) || sealed(data key:32)
//! sealed(x) = nonce:24 || XChaCha20-Poly1305(key, nonce, x, ad)
//! ad        = "Subrosa v1 vault lock" || lock row before `sealed`, or
//!             "Subrosa v1 vault row" || length of the table's name:u8 || name || key
//! ```

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use chacha20poly1305::{AeadInOut, KeyInit, XChaCha20Poly1305};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::{Row, Store, StoreFault, Table, Transaction, Value};
use crate::codec::{Reader, Writer};
use crate::crypto::kdf;
use crate::crypto::secret::Secret;
use crate::error::Error;

/// Any store, with every value encrypted.
///
/// A value is bound to its table and key, so that rows cannot be exchanged; a whole older copy of the store, or of a row, can be put
/// back by who can write to it. Keys are not encrypted; those of this crate show no names. For a store that answers later there is
/// [`VaultKey`]. One passphrase or key opens the store:
///
/// ```
/// use subrosa::store::{Lock, Memory, Store, Table, Vault};
/// use subrosa::{Error, SystemRng};
///
/// let mut memory = Memory::new();
/// let mut vault = Vault::open(&mut memory, Lock::Passphrase("under the rose"), &mut SystemRng)?;
/// vault.transact(|tx| tx.put(Table::Inbox, b"key", b"value"))?;
/// vault.change_lock(Lock::Passphrase("another one"), &mut SystemRng)?;
///
/// let wrong = Vault::open(&mut memory, Lock::Passphrase("a guess"), &mut SystemRng);
/// assert_eq!(wrong.err(), Some(Error::WrongPassphrase));
/// # Ok::<(), Error>(())
/// ```
pub struct Vault<S> {
    store: S,
    key: VaultKey,
}

/// A vault that was unlocked, without its store: for transactions that come one by one, say from an
/// [`Overlay`](super::Overlay).
pub struct VaultKey {
    /// In a box, so that a vault that is moved leaves no copy of it where it was.
    data_key: Box<Secret<32>>,
    nonces: Nonces,
    cost: Argon2Cost,
}

/// What opens a vault.
#[derive(Clone, Copy)]
pub enum Lock<'a> {
    /// A person's passphrase, stretched by Argon2id. Takes a tenth of a second or more, and 64 MiB for that time.
    Passphrase(&'a str),
    /// 32 random bytes that the app keeps, say in the system's keychain.
    Key(&'a [u8; 32]),
}

/// What Argon2id costs, to you and to who guesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Argon2Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl Argon2Cost {
    /// Memory in MiB (8 to 1,024) and passes over it (1 to 64), in one lane; what is outside is brought inside.
    #[must_use]
    pub fn new(memory_mib: u32, passes: u32) -> Self {
        let memory_kib = memory_mib.clamp(8, 1_024).saturating_mul(1_024);
        Self { memory_kib, passes: passes.clamp(1, 64), lanes: 1 }
    }

    /// Whether who opened this row with these numbers should do so, or somebody made them up to exhaust the machine.
    const fn is_bearable(self) -> bool {
        self.memory_kib <= 1_024 * 1_024 && self.passes <= 64 && self.lanes <= 16
    }

    /// Whichever costs more, in memory and in passes.
    fn and_at_least(self, other: Self) -> Self {
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

impl<S: Store> Vault<S> {
    /// Opens the vault in `store`; an empty store becomes one. Draws 88 bytes.
    ///
    /// # Errors
    /// [`Error::WrongPassphrase`]: nothing changed, ask again. [`StoreFault::Corrupt`]: the store has rows but no lock that this
    /// crate wrote.
    pub fn open(store: S, lock: Lock<'_>, rng: &mut impl CryptoRng) -> Result<Self, Error> {
        Self::open_with(store, lock, Argon2Cost::default(), rng)
    }

    /// As [`Vault::open`], with a cost of one's own. Where the stored cost is below it, it is raised.
    ///
    /// # Errors
    /// As [`Vault::open`].
    pub fn open_with(
        mut store: S,
        lock: Lock<'_>,
        cost: Argon2Cost,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, Error> {
        let key = store.transact(|tx| VaultKey::unlock(tx, lock, cost, rng))?;
        Ok(Self { store, key })
    }

    /// From now on this opens the vault, and what opened it before does not. Draws 40 bytes.
    ///
    /// # Errors
    /// [`Error::Store`]
    pub fn change_lock(&mut self, lock: Lock<'_>, rng: &mut impl CryptoRng) -> Result<(), Error> {
        let Self { store, key } = self;
        store.transact(|tx| key.change_lock(tx, lock, rng))
    }
}

impl VaultKey {
    /// Unlocks the vault whose rows this transaction sees; without any rows there is one afterwards. Draws 88 bytes.
    ///
    /// # Errors
    /// As [`Vault::open`].
    pub fn unlock(
        tx: &mut dyn Transaction,
        lock: Lock<'_>,
        cost: Argon2Cost,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, Error> {
        let nonces = Nonces::draw(rng);
        let fresh = Secret::random(rng);
        match tx.get(Table::Vault, LOCK)? {
            Some(row) => {
                let locked = Locked::decode(&row)?;
                let data_key = Box::new(locked.open(lock)?);
                let raised = locked.cost.and_at_least(cost);
                let key = Self { data_key, nonces, cost: raised };
                if matches!(lock, Lock::Passphrase(_)) && raised != locked.cost {
                    key.change_lock(tx, lock, rng)?;
                }
                Ok(key)
            }
            None if is_empty(tx)? => {
                let key = Self { data_key: Box::new(fresh), nonces, cost };
                key.change_lock(tx, lock, rng)?;
                Ok(key)
            }
            None => Err(Error::Store(StoreFault::Corrupt)),
        }
    }

    /// As [`Vault::change_lock`].
    ///
    /// # Errors
    /// [`Error::Store`]
    pub fn change_lock(
        &self,
        tx: &mut dyn Transaction,
        lock: Lock<'_>,
        rng: &mut impl CryptoRng,
    ) -> Result<(), Error> {
        let (mut salt, mut nonce) = ([0; 16], [0; 24]);
        rng.fill_bytes(&mut salt);
        rng.fill_bytes(&mut nonce);
        tx.put(Table::Vault, LOCK, &Locked::seal(lock, self.cost, salt, nonce, &self.data_key)?)
    }

    /// Does `work` over a transaction, with its values decrypted.
    pub fn within<T>(&mut self, tx: &mut dyn Transaction, work: impl FnOnce(&mut dyn Transaction) -> T) -> T {
        let Self { data_key, nonces, .. } = self;
        work(&mut Sealed { inner: tx, data_key, nonces })
    }
}

const LOCK: &[u8] = b"lock";
const VERSION: u8 = 1;
const PASSPHRASE: u8 = 1;
const KEY: u8 = 2;
const TAG_LENGTH: usize = 16;

fn is_empty(tx: &mut dyn Transaction) -> Result<bool, Error> {
    for table in Table::ALL {
        if !tx.scan(table, &[], 1)?.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The lock row.
struct Locked<'a> {
    kind: u8,
    cost: Argon2Cost,
    salt: [u8; 16],
    head: &'a [u8],
    sealed: &'a [u8],
}

impl<'a> Locked<'a> {
    const HEAD_LENGTH: usize = 30;

    fn decode(row: &'a [u8]) -> Result<Self, Error> {
        let corrupt = |_| Error::Store(StoreFault::Corrupt);
        let (head, sealed) =
            row.split_at_checked(Self::HEAD_LENGTH).ok_or(Error::Malformed).map_err(corrupt)?;
        let mut reader = Reader::new(head);
        let (version, kind) = (reader.u8().map_err(corrupt)?, reader.u8().map_err(corrupt)?);
        let mut number = || reader.u32().map_err(corrupt);
        let cost = Argon2Cost { memory_kib: number()?, passes: number()?, lanes: number()? };
        let salt = *reader.array().map_err(corrupt)?;
        if version != VERSION || !matches!(kind, PASSPHRASE | KEY) || !cost.is_bearable() {
            return Err(Error::Store(StoreFault::Corrupt));
        }
        Ok(Self { kind, cost, salt, head, sealed })
    }

    fn open(&self, lock: Lock<'_>) -> Result<Secret<32>, Error> {
        if lock.kind() != self.kind {
            return Err(Error::WrongPassphrase);
        }
        let key = lock.key(self.cost, &self.salt)?;
        let opened = open(&key, self.sealed, &lock_data(self.head)).map_err(|_| Error::WrongPassphrase)?;
        opened.as_slice().try_into().map(Secret::new).map_err(|_| Error::Store(StoreFault::Corrupt))
    }

    fn seal(
        lock: Lock<'_>,
        cost: Argon2Cost,
        salt: [u8; 16],
        nonce: [u8; 24],
        data_key: &Secret<32>,
    ) -> Result<Vec<u8>, Error> {
        let head = Writer::with_capacity(128).u8(VERSION).u8(lock.kind());
        let head = head.u32(cost.memory_kib).u32(cost.passes).u32(cost.lanes).bytes(&salt).done();
        let key = lock.key(cost, &salt)?;
        let sealed = seal(&key, &nonce, data_key.expose(), &lock_data(&head));
        Ok([head, sealed].concat())
    }
}

fn lock_data(head: &[u8]) -> Vec<u8> {
    [b"Subrosa v1 vault lock", head].concat()
}

impl Lock<'_> {
    const fn kind(self) -> u8 {
        match self {
            Self::Passphrase(_) => PASSPHRASE,
            Self::Key(_) => KEY,
        }
    }

    /// The key that encrypts the data key.
    fn key(self, cost: Argon2Cost, salt: &[u8; 16]) -> Result<Secret<32>, Error> {
        match self {
            Self::Passphrase(passphrase) => {
                let mut key = Secret::new([0; 32]);
                Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32))
                    .and_then(|params| {
                        // The key follows from the last block, without the passphrase.
                        let mut memory = Zeroizing::new(vec![Block::default(); params.block_count()]);
                        let (out, memory) = (key.expose_mut(), memory.as_mut_slice());
                        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
                        argon2.hash_password_into_with_memory(passphrase.as_bytes(), salt, out, memory)
                    })
                    .map_err(|_| Error::Store(StoreFault::Corrupt))?;
                Ok(key)
            }
            Self::Key(key) => {
                let [key] = kdf::hkdf(&kdf::NO_SALT, &[key], &[b"Subrosa v1 vault key"]);
                Ok(key)
            }
        }
    }
}

/// Shows which kind it is.
impl core::fmt::Debug for Lock<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Passphrase(_) => "Lock::Passphrase",
            Self::Key(_) => "Lock::Key",
        })
    }
}

/// 16 bytes drawn when the vault is opened, and a counter: no two values are sealed under one nonce, and no generator is
/// needed for the second one.
struct Nonces {
    drawn: [u8; 16],
    count: u64,
}

impl Nonces {
    fn draw(rng: &mut impl CryptoRng) -> Self {
        let mut drawn = [0; 16];
        rng.fill_bytes(&mut drawn);
        Self { drawn, count: 0 }
    }

    fn next(&mut self) -> [u8; 24] {
        let mut nonce = [0; 24];
        nonce[..16].copy_from_slice(&self.drawn);
        nonce[16..].copy_from_slice(&self.count.to_be_bytes());
        self.count = self.count.wrapping_add(1);
        nonce
    }
}

fn seal(key: &Secret<32>, nonce: &[u8; 24], value: &[u8], associated_data: &[u8]) -> Vec<u8> {
    let length = nonce.len().saturating_add(value.len()).saturating_add(TAG_LENGTH);
    let mut sealed = Vec::with_capacity(length);
    sealed.extend_from_slice(nonce);
    sealed.extend_from_slice(value);
    let text = sealed.get_mut(nonce.len()..).unwrap_or_default();
    let tag = XChaCha20Poly1305::new(key.expose().into())
        .encrypt_inout_detached(nonce.into(), associated_data, text.into())
        .expect("shorter than 256 GiB");
    sealed.extend_from_slice(&tag);
    sealed
}

fn open(key: &Secret<32>, sealed: &[u8], associated_data: &[u8]) -> Result<Value, Error> {
    let corrupt = Error::Store(StoreFault::Corrupt);
    let (nonce, sealed) = sealed.split_first_chunk::<24>().ok_or(corrupt.clone())?;
    let (encrypted, tag) = sealed.split_last_chunk::<TAG_LENGTH>().ok_or(corrupt.clone())?;
    let mut value = Value::new(vec![0; encrypted.len()]);
    let text =
        chacha20poly1305::aead::inout::InOutBuf::new(encrypted, &mut value).map_err(|_| corrupt.clone())?;
    XChaCha20Poly1305::new(key.expose().into())
        .decrypt_inout_detached(nonce.into(), associated_data, text, tag.into())
        .map_err(|_| corrupt)?;
    Ok(value)
}

impl<S: Store> Store for Vault<S> {
    fn transact<T, E: From<Error>>(
        &mut self,
        work: impl FnOnce(&mut dyn Transaction) -> Result<T, E>,
    ) -> Result<T, E> {
        let Self { store, key } = self;
        store.transact(|tx| key.within(tx, work))
    }
}

/// A transaction that encrypts on the way in and decrypts on the way out.
struct Sealed<'a> {
    inner: &'a mut dyn Transaction,
    data_key: &'a Secret<32>,
    nonces: &'a mut Nonces,
}

fn row_data(table: Table, key: &[u8]) -> Vec<u8> {
    let name = table.name();
    let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
    [b"Subrosa v1 vault row", &[length][..], name.as_bytes(), key].concat()
}

impl Sealed<'_> {
    /// The lock is not for the app to write.
    fn guard(table: Table) -> Result<(), Error> {
        if table == Table::Vault { Err(Error::NotPermitted) } else { Ok(()) }
    }
}

impl Transaction for Sealed<'_> {
    fn get(&mut self, table: Table, key: &[u8]) -> Result<Option<Value>, Error> {
        Self::guard(table)?;
        let found = self.inner.get(table, key)?;
        found.map(|sealed| open(self.data_key, &sealed, &row_data(table, key))).transpose()
    }

    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), Error> {
        Self::guard(table)?;
        let sealed = seal(self.data_key, &self.nonces.next(), value, &row_data(table, key));
        self.inner.put(table, key, &sealed)
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), Error> {
        Self::guard(table)?;
        self.inner.delete(table, key)
    }

    fn scan(&mut self, table: Table, prefix: &[u8], most: usize) -> Result<Vec<Row>, Error> {
        Self::guard(table)?;
        let rows = self.inner.scan(table, prefix, most)?.into_iter();
        rows.map(|(key, sealed)| {
            open(self.data_key, &sealed, &row_data(table, &key)).map(|value| (key, value))
        })
        .collect()
    }
}

/// Shows nothing of it.
impl core::fmt::Debug for VaultKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("VaultKey")
    }
}

/// Shows nothing of what is in it.
impl<S> core::fmt::Debug for Vault<S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Vault")
    }
}
