//! The blobs that the relay keeps and cannot read: a file each, and a row that says whose it is.
//!
//! A blob comes in parts, in order, from the user who began it and from nobody else. It is given to
//! anybody who knows its name, but not before it is whole. How much is there is the length of the
//! file, so an upload goes on wherever it ended. What a user stores is counted, and goes by age.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use redb::{ReadableTable, TableDefinition, WriteTransaction};
use subrosa::Address;

use crate::Result;
use crate::wire::{BlobId, BlobPart, MAX_BLOB, MAX_PART, Refused, Response};

/// By id: the user who began it, its length, and when it was begun.
const BLOBS: TableDefinition<'_, BlobId, (&str, u64, u64)> = TableDefinition::new("blobs");

/// Bytes that one user may have here, and all of them.
const MAX_OF_USER: u64 = 4 << 30;
const MAX_OF_ALL: u64 = 64 << 30;

/// Seconds for which a blob that is not whole yet waits for the rest.
const UNFINISHED: u64 = 24 * 60 * 60;

pub(crate) struct Blobs {
    folder: PathBuf,
    /// Seconds for which a blob is kept.
    keep: u64,
}

impl Blobs {
    /// Deletes what is too old, and files that no row knows.
    pub(crate) fn open(
        folder: PathBuf,
        keep: u64,
        tx: &WriteTransaction,
        now: u64,
    ) -> Result<Self> {
        fs::create_dir_all(&folder)?;
        let blobs = Self { folder, keep };
        blobs.sweep(tx, now)?;
        let rows = tx.open_table(BLOBS)?;
        for file in fs::read_dir(&blobs.folder)? {
            let path = file?.path();
            let id = path.file_name().and_then(|name| name.to_str()).and_then(read_name);
            let is_known = match id {
                Some(id) => rows.get(id)?.is_some(),
                None => false,
            };
            if !is_known {
                fs::remove_file(path)?;
            }
        }
        Ok(blobs)
    }

    /// Stores a part, and says how much there is. A part that does not follow what is there changes
    /// nothing: so an empty one asks where to go on.
    pub(crate) fn store(
        &self,
        tx: &WriteTransaction,
        from: &Address,
        part: &BlobPart,
        now: u64,
    ) -> Result<Response> {
        let BlobPart { id, length, offset, bytes } = part;
        let size = u64::try_from(bytes.len())?;
        if *length > MAX_BLOB || size > MAX_PART || offset.saturating_add(size) > *length {
            return Ok(because("the file is too long for this relay"));
        }
        let row = tx.open_table(BLOBS)?.get(id)?.map(|row| {
            let (user, length, _) = row.value();
            (user.to_owned(), length)
        });
        let path = self.path(id);
        match row {
            Some(row) if row != (from.user.clone(), *length) => {
                return Ok(because("another blob has this name"));
            }
            Some(_) => {}
            None => {
                self.sweep(tx, now)?;
                if let Some(full) = is_full(tx, &from.user, *length)? {
                    return Ok(because(full));
                }
                tx.open_table(BLOBS)?.insert(id, (from.user.as_str(), *length, now))?;
                File::create(&path)?;
            }
        }
        // One whose file is gone begins again.
        let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
        let held = file.metadata()?.len();
        if held != *offset || size == 0 {
            return Ok(Response::Held(held));
        }
        file.write_all(bytes)?;
        file.sync_data()?;
        Ok(Response::Held(held.saturating_add(size)))
    }

    /// A part of a blob that is whole.
    pub(crate) fn read(
        &self,
        tx: &redb::ReadTransaction,
        id: &BlobId,
        offset: u64,
    ) -> Result<Response> {
        let rows = tx.open_table(BLOBS)?;
        let Some(length) = rows.get(id)?.map(|row| row.value().1) else {
            return Ok(Response::Found(None));
        };
        let Ok(mut file) = File::open(self.path(id)) else { return Ok(Response::Found(None)) };
        if file.metadata()?.len() < length {
            return Ok(Response::Found(None));
        }
        let offset = offset.min(length);
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(MAX_PART).read_to_end(&mut bytes)?;
        Ok(Response::Found(Some(bytes)))
    }

    /// The user is gone, and so is what they stored.
    pub(crate) fn forget(&self, tx: &WriteTransaction, user: &str) -> Result<()> {
        self.remove(tx, |(of, _, _), _| of == user)
    }

    /// Deletes what is too old.
    fn sweep(&self, tx: &WriteTransaction, now: u64) -> Result<()> {
        self.remove(tx, |(_, length, begun_at), held| {
            let keep = if held < length { UNFINISHED.min(self.keep) } else { self.keep };
            now.saturating_sub(begun_at) > keep
        })
    }

    fn remove(
        &self,
        tx: &WriteTransaction,
        is_gone: impl Fn((&str, u64, u64), u64) -> bool,
    ) -> Result<()> {
        let mut gone = Vec::new();
        tx.open_table(BLOBS)?.retain(|id, row| {
            let path = self.path(&id);
            let held = fs::metadata(&path).map_or(0, |file| file.len());
            let stays = !is_gone(row, held);
            if !stays {
                gone.push(path);
            }
            stays
        })?;
        // Where the row comes back because the transaction fails, the blob begins again.
        gone.iter().for_each(|path| drop(fs::remove_file(path)));
        Ok(())
    }

    fn path(&self, id: &BlobId) -> PathBuf {
        self.folder.join(name(id))
    }
}

/// Makes the table, which a read transaction does not.
pub(crate) fn create(tx: &WriteTransaction) -> Result<()> {
    tx.open_table(BLOBS)?;
    Ok(())
}

/// Where the blobs are.
pub(crate) fn folder(data: &Path) -> PathBuf {
    data.join("blobs")
}

/// Why there is no room for a blob of this length, if there is none. A blob that was begun counts
/// whole.
fn is_full(tx: &WriteTransaction, user: &str, length: u64) -> Result<Option<&'static str>> {
    let (mut theirs, mut all) = (length, length);
    for row in tx.open_table(BLOBS)?.iter()? {
        let (_, row) = row?;
        let (of, length, _) = row.value();
        all = all.saturating_add(length);
        if of == user {
            theirs = theirs.saturating_add(length);
        }
    }
    Ok(if theirs > MAX_OF_USER {
        Some("you have as much here as one user may have")
    } else if all > MAX_OF_ALL {
        Some("the relay has no room for more files")
    } else {
        None
    })
}

/// The name of its file.
fn name(id: &BlobId) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read_name(name: &str) -> Option<BlobId> {
    u128::from_str_radix(name, 16).ok().filter(|_| name.len() == 32).map(u128::to_be_bytes)
}

fn because(why: &str) -> Response {
    Response::Refused(Refused::Because(why.into()))
}
