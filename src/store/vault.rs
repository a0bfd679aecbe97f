//! A store encrypted at rest.
//!
//! A master key is drawn for the vault. A data key that follows from it encrypts every value; each
//! lock (a passphrase through Argon2id, a key that the app keeps, a recovery code) encrypts the
//! master key. The bytes of the lock row stand in `lock_row.rs`, those of a value in `sealed.rs`.

use alloc::boxed::Box;
use alloc::vec::Vec;

use rand_core::CryptoRng;

use super::lock_row::{LOCK, ListedLock, LockId, LockRow, MOST_LOCKS};
use super::rotation::{self, Rotation};
use super::sealed::{DataKeys, Nonces, Sealed};
use super::{Store, StoreFault, Table, Transaction};
use crate::crypto::mark;
use crate::crypto::secret::Secret;
use crate::error::Error;
use crate::lock::{Argon2Cost, Lock, LockKind};

/// Any store, with every value encrypted. One to eight locks open it.
///
/// **What it shows** to someone who reads the storage: the tables and how many rows each has; the
/// keys of all rows, those of [`Table::App`] as the app wrote them (this crate's own say nothing by
/// themselves, docs/client.md, section 10); how long each value is; which rows were written since an
/// earlier look; how many locks there are, of which kinds, and what Argon2id costs. It does not
/// show values, and not which values are equal.
///
/// **What somebody who can write to it can do**: put back an older copy of the whole store or of a
/// row, and delete rows. A value is bound to its table and key, so that rows cannot be exchanged,
/// and one that was made up or altered is [`StoreFault::Corrupt`].
///
/// For a store that answers later there is [`VaultKey`].
///
/// ```
/// use subrosa::store::{Lock, Memory, RecoveryCode, Store, Table, Vault};
/// use subrosa::{Error, SystemRng};
///
/// let rng = &mut SystemRng;
/// let mut memory = Memory::new();
/// let mut vault = Vault::open(&mut memory, Lock::Passphrase("under the rose"), rng)?;
/// vault.transact(|tx| tx.put(Table::Inbox, b"key", b"value"))?;
/// let code = RecoveryCode::generate(rng);
/// vault.add_lock(Lock::Code(&code), rng)?;
///
/// let wrong = Vault::open(&mut memory, Lock::Passphrase("a guess"), rng);
/// assert_eq!(wrong.err(), Some(Error::WrongPassphrase));
/// Vault::open(&mut memory, Lock::Code(&code), rng)?;
/// # Ok::<(), Error>(())
/// ```
pub struct Vault<S> {
    store: S,
    key: VaultKey,
}

/// A vault that was unlocked, without its store: for transactions that come one by one, say from an
/// [`Overlay`](super::Overlay).
///
/// Several may be unlocked for one vault. When one of them changes the data key
/// ([`VaultKey::set_locks`]), the others are refused with [`StoreFault::Relocked`] at their next
/// write, and have to be unlocked again.
pub struct VaultKey {
    /// In a box, so that a vault that is moved leaves no copy of it where it was.
    master: Box<Secret<32>>,
    keys: DataKeys,
    cost: Argon2Cost,
}

impl<S: Store> Vault<S> {
    /// Opens the vault in `store`; an empty store becomes one. Draws 16 bytes, and 80 more for a
    /// new vault.
    ///
    /// # Errors
    /// [`Error::WrongPassphrase`]: nothing changed, ask again. [`Error::WeakPassphrase`]: a new
    /// vault is not locked with it. [`StoreFault::NotAVault`]: the store has rows and no lock.
    /// [`StoreFault::Newer`]: a later version locked it. [`StoreFault::Corrupt`]: the locks are
    /// damaged.
    pub fn open(store: S, lock: Lock<'_>, rng: &mut dyn CryptoRng) -> Result<Self, Error> {
        Self::open_with(store, lock, Argon2Cost::default(), rng)
    }

    /// As [`Vault::open`], with a cost of your choice for passphrases. A lock that was cheaper is
    /// raised to it.
    ///
    /// # Errors
    /// As [`Vault::open`].
    pub fn open_with(
        mut store: S,
        lock: Lock<'_>,
        cost: Argon2Cost,
        rng: &mut dyn CryptoRng,
    ) -> Result<Self, Error> {
        let key = store.transact(|tx| VaultKey::unlock(tx, lock, cost, rng))?;
        Ok(Self { store, key })
    }

    /// The store below, whose rows are encrypted: a copy of it is a vault with the same locks.
    pub const fn store(&mut self) -> &mut S {
        &mut self.store
    }

    /// The locks that there are.
    ///
    /// # Errors
    /// [`Error::Store`]
    pub fn locks(&mut self) -> Result<Vec<ListedLock>, Error> {
        let Self { store, key } = self;
        store.transact(|tx| key.locks(tx))
    }

    /// From now on this opens the vault too. Draws 32 bytes.
    ///
    /// # Errors
    /// [`Error::WeakPassphrase`]. [`Error::BadLocks`]: there are eight. [`Error::Store`].
    pub fn add_lock(&mut self, lock: Lock<'_>, rng: &mut dyn CryptoRng) -> Result<LockId, Error> {
        let Self { store, key } = self;
        store.transact(|tx| key.add_lock(tx, lock, rng))
    }

    /// From now on this lock does not open the vault: a keychain that is gone, a code that was
    /// lost.
    ///
    /// The keys stay as they are. Someone who has **a copy of the store or of its lock row from
    /// before**, say in a backup, and what opened this lock, can open everything that is in the
    /// vault now **and everything written later**, until [`Vault::set_locks`] renews the keys.
    /// Where the lock may be known to somebody, call that instead.
    ///
    /// # Errors
    /// [`Error::BadLocks`]: there is no such lock, or no other. [`Error::Store`].
    pub fn remove_lock(&mut self, id: LockId) -> Result<(), Error> {
        let Self { store, key } = self;
        store.transact(|tx| key.remove_lock(tx, id))
    }

    /// As [`Vault::set_locks`] with this one: nothing else opens the vault afterwards.
    ///
    /// # Errors
    /// As [`Vault::set_locks`].
    pub fn change_lock(&mut self, lock: Lock<'_>, rng: &mut dyn CryptoRng) -> Result<(), Error> {
        self.set_locks(&[lock], rng)
    }

    /// From now on these open the vault, one to eight, and nothing else does; and the keys are new
    /// ones. Draws 48 bytes, and 32 more for each lock.
    ///
    /// All that is written from now on is sealed under the new keys. What was written before is
    /// still sealed under the older ones: someone who has **a copy of the lock row from before**
    /// and what opened it can read **these rows**, until [`Vault::rotate`] has sealed them anew.
    /// Copies of the store that were made before stay as they are; nothing can lock those.
    ///
    /// # Errors
    /// [`Error::WeakPassphrase`]. [`Error::BadLocks`]: none, or more than eight.
    /// [`StoreFault::TooLarge`]: the keys were renewed 255 times without a rotation.
    /// [`Error::Store`].
    pub fn set_locks(&mut self, locks: &[Lock<'_>], rng: &mut dyn CryptoRng) -> Result<(), Error> {
        let Self { store, key } = self;
        self.key = store.transact(|tx| key.set_locks(tx, locks, rng))?;
        Ok(())
    }

    /// Seals rows that are still under an older key under the newest one, `most` of them or a few
    /// more, in a transaction. Call it until it is finished; the vault can be used meanwhile. After
    /// a crash, or when the vault is opened again, it goes on where it was.
    ///
    /// ```
    /// use subrosa::store::{Lock, Memory, Rotation, Vault};
    /// use subrosa::{Error, SystemRng};
    ///
    /// let mut vault = Vault::open(Memory::new(), Lock::Key(&[1; 32]), &mut SystemRng)?;
    /// vault.change_lock(Lock::Key(&[2; 32]), &mut SystemRng)?;
    /// while let Rotation::Unfinished { rows, table } = vault.rotate(500)? {
    ///     println!("{rows} rows done, now {}", table.name());
    /// }
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Store`]. A row that is damaged is left as it is.
    pub fn rotate(&mut self, most: usize) -> Result<Rotation, Error> {
        let Self { store, key } = self;
        store.transact(|tx| key.rotate(tx, most))
    }
}

impl VaultKey {
    /// Unlocks the vault whose rows this transaction sees; without any rows there is one
    /// afterwards. Draws 16 bytes, and 80 more for a new vault.
    ///
    /// # Errors
    /// As [`Vault::open`].
    pub fn unlock(
        tx: &mut dyn Transaction,
        lock: Lock<'_>,
        cost: Argon2Cost,
        rng: &mut dyn CryptoRng,
    ) -> Result<Self, Error> {
        let nonces = Nonces::draw(rng);
        let Some(row) = tx.get(Table::Vault, LOCK)? else {
            return Self::make(tx, lock, cost, nonces, rng);
        };
        let mut locks = LockRow::decode(&row)?;
        let (master, id, paid) = locks.open(&row, lock)?;
        let is_passphrase = lock.kind() == LockKind::Passphrase;
        let raised = if is_passphrase { paid.and_at_least(cost) } else { cost };
        if is_passphrase && raised != paid {
            locks.replace(id);
            locks.add(lock, raised, &master, rng)?;
            tx.put(Table::Vault, LOCK, &locks.encode(&master))?;
        }
        Self::of(&locks, master, nonces, raised)
    }

    fn make(
        tx: &mut dyn Transaction,
        lock: Lock<'_>,
        cost: Argon2Cost,
        nonces: Nonces,
        rng: &mut dyn CryptoRng,
    ) -> Result<Self, Error> {
        if !is_empty(tx)? {
            return Err(StoreFault::NotAVault.into());
        }
        let mut id = [0; 16];
        rng.fill_bytes(&mut id);
        let id = mark::public(id);
        let master = Box::new(Secret::random(rng));
        let mut locks = LockRow::new(id, 1);
        locks.add(lock, cost, &master, rng)?;
        tx.put(Table::Vault, LOCK, &locks.encode(&master))?;
        Self::of(&locks, master, nonces, cost)
    }

    fn of(
        locks: &LockRow,
        master: Box<Secret<32>>,
        nonces: Nonces,
        cost: Argon2Cost,
    ) -> Result<Self, Error> {
        let older = locks.older(&master)?;
        let masters = older.iter().map(|(number, master)| (*number, &**master));
        let masters = masters.chain([(locks.number, &*master)]);
        let keys = DataKeys::new(locks.id, locks.number, masters, nonces);
        Ok(Self { master, keys, cost })
    }

    /// The lock row as it is now.
    fn stored(&self, tx: &mut dyn Transaction) -> Result<LockRow, Error> {
        self.keys.check(tx)?;
        let row = tx.get(Table::Vault, LOCK)?.ok_or(StoreFault::Relocked)?;
        let locks = LockRow::decode(&row)?;
        locks.verify(&row, &self.master)?;
        Ok(locks)
    }

    /// As [`Vault::locks`].
    ///
    /// # Errors
    /// [`Error::Store`]
    pub fn locks(&self, tx: &mut dyn Transaction) -> Result<Vec<ListedLock>, Error> {
        Ok(self.stored(tx)?.locks().collect())
    }

    /// As [`Vault::add_lock`].
    ///
    /// # Errors
    /// As [`Vault::add_lock`].
    pub fn add_lock(
        &self,
        tx: &mut dyn Transaction,
        lock: Lock<'_>,
        rng: &mut dyn CryptoRng,
    ) -> Result<LockId, Error> {
        let mut locks = self.stored(tx)?;
        let id = locks.add(lock, self.cost, &self.master, rng)?;
        tx.put(Table::Vault, LOCK, &locks.encode(&self.master))?;
        Ok(id)
    }

    /// As [`Vault::remove_lock`].
    ///
    /// # Errors
    /// As [`Vault::remove_lock`].
    pub fn remove_lock(&self, tx: &mut dyn Transaction, id: LockId) -> Result<(), Error> {
        let mut locks = self.stored(tx)?;
        locks.remove(id)?;
        tx.put(Table::Vault, LOCK, &locks.encode(&self.master))
    }

    /// As [`Vault::set_locks`]. Returns the key to go on with once the transaction is committed;
    /// this one cannot write any more then.
    ///
    /// # Errors
    /// As [`Vault::set_locks`].
    #[must_use = "the vault is written with the new key from now on"]
    pub fn set_locks(
        &self,
        tx: &mut dyn Transaction,
        locks: &[Lock<'_>],
        rng: &mut dyn CryptoRng,
    ) -> Result<Self, Error> {
        let before = self.stored(tx)?;
        if locks.is_empty() || locks.len() > MOST_LOCKS {
            return Err(Error::BadLocks);
        }
        let nonces = Nonces::draw(rng);
        let master = Box::new(Secret::random(rng));
        let number = before.number.checked_add(1).ok_or(StoreFault::TooLarge)?;
        let mut after = LockRow::new(before.id, number);
        locks.iter().try_for_each(|lock| after.add(*lock, self.cost, &master, rng).map(drop))?;
        for (number, older) in before.older(&self.master)? {
            after.keep_older(number, &older, &master)?;
        }
        after.keep_older(before.number, &self.master, &master)?;
        tx.put(Table::Vault, LOCK, &after.encode(&master))?;
        Self::of(&after, master, nonces, self.cost)
    }

    /// As [`Vault::rotate`].
    ///
    /// # Errors
    /// As [`Vault::rotate`].
    pub fn rotate(&mut self, tx: &mut dyn Transaction, most: usize) -> Result<Rotation, Error> {
        let mut locks = self.stored(tx)?;
        if !locks.has_older() {
            return Ok(Rotation::Finished);
        }
        let done = rotation::step(tx, &mut self.keys, most)?;
        if done == Rotation::Finished {
            locks.drop_older();
            tx.put(Table::Vault, LOCK, &locks.encode(&self.master))?;
        }
        Ok(done)
    }

    /// Does `work` over a transaction, with its values decrypted.
    pub fn within<T>(
        &mut self,
        tx: &mut dyn Transaction,
        work: impl FnOnce(&mut dyn Transaction) -> T,
    ) -> T {
        work(&mut Sealed::new(tx, &mut self.keys))
    }
}

fn is_empty(tx: &mut dyn Transaction) -> Result<bool, Error> {
    for &table in Table::ALL {
        if !tx.scan(table, &[], 1)?.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
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
