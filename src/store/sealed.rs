//! Values of a vault at rest, and a transaction over them.
//!
//! ```text
//! value = number:u32 || nonce:24 || XChaCha20-Poly1305(data key, nonce, plaintext, ad)
//! ad    = "Subrosa v1 vault row" || number || length of the table's name:u8 || name || key
//! data key = HKDF(0, MK of that number, "Subrosa v1 vault data", 32)
//! nonce = 16 bytes drawn when the vault is opened || counter:u64
//! ```

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::{AeadInOut, KeyInit, XChaCha20Poly1305};
use rand_core::CryptoRng;

use super::lock_row::{self, LOCK};
use super::{MAX_VALUE, Row, StoreFault, Table, Transaction, Value};
use crate::crypto::kdf;
use crate::crypto::mark;
use crate::crypto::secret::Secret;
use crate::crypto::stack;
use crate::error::Error;

/// The keys that values are sealed under: one for new ones, and those of values that were not
/// rotated yet.
pub(super) struct DataKeys {
    vault: [u8; 16],
    number: u32,
    /// Ascending. In boxes, so that a vault that is moved leaves no copy of them where it was.
    keys: Vec<(u32, Box<Secret<32>>)>,
    nonces: Nonces,
}

impl DataKeys {
    /// Those of the vault `vault` that follow from its master keys.
    pub(super) fn new<'a>(
        vault: [u8; 16],
        number: u32,
        masters: impl Iterator<Item = (u32, &'a Secret<32>)>,
        nonces: Nonces,
    ) -> Self {
        let derive = |master: &Secret<32>| {
            let [key] = kdf::hkdf(&kdf::NO_SALT, &[master.expose()], &[b"Subrosa v1 vault data"]);
            Box::new(key)
        };
        let keys = masters.map(|(number, master)| (number, derive(master))).collect();
        Self { vault, number, keys, nonces }
    }

    /// # Errors
    /// [`StoreFault::Corrupt`]: not without a key, which is a mistake here.
    pub(super) fn seal(
        &mut self,
        table: Table,
        key: &[u8],
        value: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let nonce = self.nonces.next();
        let data_key = self.key(self.number).ok_or(StoreFault::Corrupt)?;
        let mut sealed = Vec::with_capacity(value.len().saturating_add(OVERHEAD));
        sealed.extend_from_slice(&self.number.to_be_bytes());
        sealed.extend_from_slice(&nonce);
        let head = sealed.len();
        sealed.extend_from_slice(value);
        let text = sealed.get_mut(head..).unwrap_or_default();
        let tag = XChaCha20Poly1305::new(data_key.expose().into())
            .encrypt_inout_detached(
                (&nonce).into(),
                &row_data(self.number, table, key),
                text.into(),
            )
            .expect("shorter than 256 GiB");
        sealed.extend_from_slice(&tag);
        Ok(sealed)
    }

    pub(super) fn open(&self, table: Table, key: &[u8], sealed: &[u8]) -> Result<Value, Unopened> {
        let damaged = Unopened::Damaged;
        let (number, sealed) = sealed.split_first_chunk::<4>().ok_or(damaged)?;
        let (nonce, sealed) = sealed.split_first_chunk::<24>().ok_or(damaged)?;
        let (encrypted, tag) = sealed.split_last_chunk::<TAG_LENGTH>().ok_or(damaged)?;
        let number = u32::from_be_bytes(*number);
        let data_key = self.key(number).ok_or(Unopened::OtherKey)?;
        let mut value = Value::new(vec![0; encrypted.len()]);
        let text = InOutBuf::new(encrypted, &mut value).map_err(|_| damaged)?;
        let opened = XChaCha20Poly1305::new(data_key.expose().into()).decrypt_inout_detached(
            nonce.into(),
            &row_data(number, table, key),
            text,
            tag.into(),
        );
        // Whether the tag holds is what the caller is told.
        if mark::public(opened.is_ok()) { Ok(value) } else { Err(damaged) }
    }

    /// Whether it is sealed under the key for new values.
    pub(super) fn is_current(&self, sealed: &[u8]) -> bool {
        sealed.first_chunk() == Some(&self.number.to_be_bytes())
    }

    /// # Errors
    /// [`StoreFault::Relocked`]: by now new values are sealed under another key than this one's.
    pub(super) fn check(&self, inner: &mut dyn Transaction) -> Result<(), Error> {
        match inner.get(Table::Vault, LOCK)? {
            Some(row) if lock_row::is_current(&row, &self.vault, self.number) => Ok(()),
            _ => Err(StoreFault::Relocked.into()),
        }
    }

    fn key(&self, number: u32) -> Option<&Secret<32>> {
        self.keys.iter().find(|(of, _)| *of == number).map(|(_, key)| &**key)
    }
}

/// Why a value did not open.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unopened {
    /// It says that it is sealed under a key that is not here.
    OtherKey,
    Damaged,
}

/// Number, nonce and tag.
const OVERHEAD: usize = 44;
const TAG_LENGTH: usize = 16;

fn row_data(number: u32, table: Table, key: &[u8]) -> Vec<u8> {
    let name = table.name();
    let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
    [b"Subrosa v1 vault row", &number.to_be_bytes()[..], &[length], name.as_bytes(), key].concat()
}

/// 16 bytes drawn when the vault is opened, and a counter: no two values are sealed under one
/// nonce, and no generator is needed for the second one.
pub(super) struct Nonces {
    drawn: [u8; 16],
    count: u64,
}

impl Nonces {
    pub(super) fn draw(rng: &mut dyn CryptoRng) -> Self {
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

/// A transaction that encrypts on the way in and decrypts on the way out.
pub(super) struct Sealed<'a> {
    inner: &'a mut dyn Transaction,
    keys: &'a mut DataKeys,
    /// Whether it was looked that new values are still sealed under this key.
    checked: bool,
}

impl<'a> Sealed<'a> {
    pub(super) fn new(inner: &'a mut dyn Transaction, keys: &'a mut DataKeys) -> Self {
        Self { inner, keys, checked: false }
    }

    /// The locks are not for the app to write.
    fn guard(table: Table) -> Result<(), Error> {
        if table == Table::Vault { Err(Error::NotPermitted) } else { Ok(()) }
    }

    fn open(&mut self, table: Table, key: &[u8], sealed: &[u8]) -> Result<Value, Error> {
        match stack::apart(|| self.keys.open(table, key, sealed)) {
            Ok(value) => Ok(value),
            Err(Unopened::Damaged) => Err(StoreFault::Corrupt.into()),
            Err(Unopened::OtherKey) => {
                self.keys.check(self.inner)?;
                Err(StoreFault::Corrupt.into())
            }
        }
    }
}

impl Transaction for Sealed<'_> {
    fn get(&mut self, table: Table, key: &[u8]) -> Result<Option<Value>, Error> {
        Self::guard(table)?;
        let found = self.inner.get(table, key)?;
        found.map(|sealed| self.open(table, key, &sealed)).transpose()
    }

    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), Error> {
        Self::guard(table)?;
        if value.len() > MAX_VALUE {
            return Err(StoreFault::TooLarge.into());
        }
        if !self.checked {
            self.keys.check(self.inner)?;
            self.checked = true;
        }
        let sealed = stack::apart(|| self.keys.seal(table, key, value))?;
        self.inner.put(table, key, &sealed)
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), Error> {
        Self::guard(table)?;
        self.inner.delete(table, key)
    }

    fn scan(&mut self, table: Table, prefix: &[u8], most: usize) -> Result<Vec<Row>, Error> {
        Self::guard(table)?;
        let rows = self.inner.scan(table, prefix, most)?.into_iter();
        rows.map(|(key, sealed)| self.open(table, &key, &sealed).map(|value| (key, value)))
            .collect()
    }

    fn peek(&mut self, table: Table, prefix: &[u8], most: usize) -> Result<Vec<Row>, Error> {
        Self::guard(table)?;
        let rows = self.inner.peek(table, prefix, most)?.into_iter();
        rows.map(|(key, sealed)| self.open(table, &key, &sealed).map(|value| (key, value)))
            .collect()
    }

    fn prefetch(&mut self, rows: &[(Table, &[u8])]) -> Result<(), Error> {
        rows.iter().try_for_each(|(table, _)| Self::guard(*table))?;
        if self.checked || rows.is_empty() {
            return self.inner.prefetch(rows);
        }
        // The first write looks at it.
        let with_lock: Vec<(Table, &[u8])> =
            rows.iter().copied().chain([(Table::Vault, LOCK)]).collect();
        self.inner.prefetch(&with_lock)
    }
}
