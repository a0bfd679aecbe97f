//! The device's prekeys, each in a row of its own: a handshake touches those that it uses.

use alloc::vec::Vec;

use super::transaction::Open;
use crate::error::Error;
use crate::prekey::{Prekeys, RowChanges, RowKey};
use crate::session::Message;
use crate::store::{Row, Table};

/// Some of the prekeys, and the rows that they were read from.
pub(super) struct Loaded {
    rows: Vec<Row>,
    pub(super) prekeys: Prekeys,
}

/// What a handshake used up.
pub(super) struct Used(RowChanges);

/// The row of the highest id given out.
const LAST_ID: &[u8] = b"prekeys";

/// Which rows to read.
pub(super) enum Which {
    /// The keys that rotate.
    Rotating,
    /// All but the accepted handshakes.
    All,
}

/// Kinds of rows, as their keys begin.
const ROTATING: [u8; 2] = [1, 3];
const ALL: [u8; 4] = [1, 2, 3, 4];

fn last_id(open: &mut Open<'_>) -> Result<u32, Error> {
    let row = open.get(Table::Account, LAST_ID)?;
    let Some(row) = row else { return Ok(0) };
    row.as_slice().try_into().map(u32::from_be_bytes).map_err(|_| Error::BadState)
}

/// The prekeys that decide about an initial message.
pub(super) fn for_message(open: &mut Open<'_>, message: &Message<'_>) -> Result<Loaded, Error> {
    let keys = message.prekey_rows().unwrap_or_default();
    let keys: Vec<Vec<u8>> = keys.iter().map(RowKey::encode).collect();
    let mut wanted: Vec<(Table, &[u8])> =
        keys.iter().map(|key| (Table::Prekey, key.as_slice())).collect();
    wanted.push((Table::Account, LAST_ID));
    open.prefetch(&wanted)?;
    let mut rows = Vec::with_capacity(keys.len());
    for key in keys {
        if let Some(row) = open.get(Table::Prekey, &key)? {
            rows.push((key, row));
        }
    }
    from_rows(open, rows)
}

pub(super) fn load(open: &mut Open<'_>, which: &Which) -> Result<Loaded, Error> {
    let kinds = match which {
        Which::Rotating => &ROTATING[..],
        Which::All => &ALL,
    };
    let mut rows = Vec::new();
    for kind in kinds {
        rows.extend(open.scan(Table::Prekey, &[*kind], usize::MAX)?);
    }
    from_rows(open, rows)
}

fn from_rows(open: &mut Open<'_>, rows: Vec<Row>) -> Result<Loaded, Error> {
    let last_id = last_id(open)?;
    let prekeys = Prekeys::from_rows(last_id, rows.iter().map(|(key, row)| (key, row.as_slice())))?;
    Ok(Loaded { rows, prekeys })
}

impl Loaded {
    /// What became of them.
    pub(super) fn used(&self) -> Result<Used, Error> {
        self.prekeys.changes(self.rows.iter().map(|(key, row)| (key, row.as_slice()))).map(Used)
    }

    /// Writes what became of them.
    pub(super) fn save(self, open: &mut Open<'_>) -> Result<(), Error> {
        let last_id = self.prekeys.last_id();
        if last_id != self::last_id(open)? {
            open.put(Table::Account, LAST_ID, &last_id.to_be_bytes())?;
        }
        consume(open, self.used()?)
    }
}

/// Writes what a handshake used up.
pub(super) fn consume(open: &mut Open<'_>, Used(changes): Used) -> Result<(), Error> {
    for key in changes.deleted {
        open.delete(Table::Prekey, &key.encode())?;
        if let RowKey::LastResort(id) = key {
            open.delete_all(Table::Prekey, &RowKey::accepted_on(id))?;
        }
    }
    for (key, row) in changes.put {
        open.put(Table::Prekey, &key.encode(), &row)?;
    }
    Ok(())
}
