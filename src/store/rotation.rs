//! Rows of a vault that are sealed under an older key are sealed under the new one, some at a time.

use alloc::vec::Vec;

use super::sealed::DataKeys;
use super::{Table, Transaction};
use crate::codec::{Reader, Writer};
use crate::error::Error;

/// How far a rotation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rotation {
    /// Rows are left: call again.
    Unfinished {
        /// Rows that this rotation has looked at so far. A step that finds none, behind long keys
        /// that begin alike, has gone on all the same.
        rows: u64,
        /// The table that it is at. Tables are done in the order of [`Table::ALL`].
        table: Table,
    },
    /// Every row is sealed under the newest key. The older ones are gone.
    Finished,
}

/// Goes on where the last step ended, for `most` rows or a few more.
pub(super) fn step(
    tx: &mut dyn Transaction,
    keys: &mut DataKeys,
    most: usize,
) -> Result<Rotation, Error> {
    let (mut cursor, mut left) = (Cursor::load(tx, keys)?, most.max(1));
    for _ in 0..MOST_SCANS {
        let Some(table) = cursor.table() else {
            tx.delete(Table::Vault, ROTATION)?;
            return Ok(Rotation::Finished);
        };
        if left == 0 {
            break;
        }
        let sealed = cursor.go(tx, keys, table)?;
        left = left.saturating_sub(sealed);
    }
    let Some(table) = cursor.table() else {
        tx.delete(Table::Vault, ROTATION)?;
        return Ok(Rotation::Finished);
    };
    cursor.save(tx, keys)?;
    Ok(Rotation::Unfinished { rows: cursor.rows, table })
}

/// Key of the row that says how far it is.
const ROTATION: &[u8] = b"rotation";

/// Rows read at once: at most 34 MiB.
const AT_ONCE: usize = 16;

/// Reads of one step. Most are of a few rows or none.
const MOST_SCANS: usize = 1_024;

/// Where a rotation is: keys below `prefix` are done.
///
/// A scan has a prefix and no beginning, so the walk is one through a tree: where a prefix has few
/// rows they are done and it goes on with the next prefix of the same length; where it has more it
/// goes on with a longer one.
#[derive(Default)]
struct Cursor {
    /// Its place in the tables.
    table: usize,
    prefix: Vec<u8>,
    rows: u64,
}

impl Cursor {
    fn tables() -> impl Iterator<Item = Table> {
        Table::ALL.iter().copied().filter(|table| *table != Table::Vault)
    }

    fn table(&self) -> Option<Table> {
        Self::tables().nth(self.table)
    }

    /// That of a rotation to another key, or one that is damaged, begins again.
    fn load(tx: &mut dyn Transaction, keys: &DataKeys) -> Result<Self, Error> {
        let stored = tx.get(Table::Vault, ROTATION)?.filter(|sealed| keys.is_current(sealed));
        let opened = stored.and_then(|sealed| keys.open(Table::Vault, ROTATION, &sealed).ok());
        Ok(opened.and_then(|bytes| Self::decode(&bytes).ok()).unwrap_or_default())
    }

    fn save(&self, tx: &mut dyn Transaction, keys: &mut DataKeys) -> Result<(), Error> {
        let sealed = keys.seal(Table::Vault, ROTATION, &self.encode())?;
        tx.put(Table::Vault, ROTATION, &sealed)
    }

    /// `length:u8 || the table's name || rows:u64 || prefix`
    fn encode(&self) -> Vec<u8> {
        let name = self.table().map_or("", Table::name);
        let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
        let bytes = Writer::with_capacity(160).u8(length).bytes(name.as_bytes());
        bytes.u64(self.rows).bytes(&self.prefix).done()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let length = usize::from(reader.u8()?);
        let name = reader.bytes(length)?;
        let table = Self::tables().position(|table| table.name().as_bytes() == name);
        let table = table.ok_or(Error::Malformed)?;
        Ok(Self { table, rows: reader.u64()?, prefix: reader.rest().to_vec() })
    }

    /// Does the rows of the prefix, or goes on to a longer one. Returns how many rows it sealed
    /// anew: those that are under the new key already cost little, and a busy app may write as many
    /// as a step does.
    fn go(
        &mut self,
        tx: &mut dyn Transaction,
        keys: &mut DataKeys,
        table: Table,
    ) -> Result<usize, Error> {
        let rows = tx.scan(table, &self.prefix, AT_ONCE.saturating_add(1))?;
        let is_few = rows.len() <= AT_ONCE;
        // Of many, the one whose key is the prefix.
        let now = rows.iter().filter(|(key, _)| is_few || *key == self.prefix);
        let mut anew = 0_usize;
        for (key, sealed) in now {
            self.rows = self.rows.saturating_add(1);
            // What is damaged stays so: it could not be read before.
            if !keys.is_current(sealed)
                && let Ok(value) = keys.open(table, key, sealed)
            {
                let sealed = keys.seal(table, key, &value)?;
                tx.put(table, key, &sealed)?;
                anew = anew.saturating_add(1);
            }
        }
        match rows.iter().find_map(|(key, _)| key.get(self.prefix.len())) {
            Some(next) if !is_few => self.prefix.push(*next),
            _ => self.advance(),
        }
        Ok(anew)
    }

    /// To the next prefix that does not begin with this one.
    fn advance(&mut self) {
        while let Some(last) = self.prefix.pop() {
            if let Some(next) = last.checked_add(1) {
                return self.prefix.push(next);
            }
        }
        self.table = self.table.saturating_add(1);
    }
}
