//! What stands before the chunks: who may open an archive, and what says that one did.

use std::io::{ErrorKind, Read, Result};

use alloc::vec::Vec;

use rand_core::CryptoRng;

use crate::codec::{self, Writer};
use crate::crypto::kdf::{self, HmacKey};
use crate::crypto::mark;
use crate::crypto::secret::Secret;
use crate::error::Error;
use crate::lock::{Argon2Cost, Context, Lock, LockKind, Opened, Slot};

/// What an archive is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ArchiveKind {
    /// A backup of the account, which its owner keeps.
    Backup,
    /// History on its way to a device that was linked lately. It has no account key and no marks.
    Transfer,
}

/// The most locks that an archive has: 4.
pub const MAX_LOCKS: usize = 4;

/// What stands before the chunks.
pub(super) struct Header {
    pub(super) kind: ArchiveKind,
    pub(super) id: [u8; 16],
    pub(super) bytes: Vec<u8>,
    /// What the chunks are sealed under.
    pub(super) file_key: Secret<32>,
}

impl ArchiveKind {
    const fn to_u8(self) -> u8 {
        match self {
            Self::Backup => 1,
            Self::Transfer => 2,
        }
    }

    const fn from_u8(kind: u8) -> Option<Self> {
        match kind {
            1 => Some(Self::Backup),
            2 => Some(Self::Transfer),
            _ => None,
        }
    }
}

impl Header {
    /// Draws 48 bytes, and 32 for each lock.
    ///
    /// # Errors
    /// [`Error::BadLocks`], [`Error::WeakPassphrase`]
    pub(super) fn new(
        kind: ArchiveKind,
        locks: &[Lock<'_>],
        cost: Argon2Cost,
        rng: &mut dyn CryptoRng,
    ) -> core::result::Result<Self, Error> {
        if locks.is_empty() || locks.len() > MAX_LOCKS {
            return Err(Error::BadLocks);
        }
        locks.iter().try_for_each(|lock| lock.refuse_weak())?;
        let mut id = [0; 16];
        rng.fill_bytes(&mut id);
        let id = mark::public(id);
        let key = Secret::random(rng);
        let count = u8::try_from(locks.len()).map_err(|_| Error::BadLocks)?;
        let head = Writer::with_capacity(HEAD).bytes(MAGIC).u8(VERSION).u8(kind.to_u8());
        let mut bytes = head.bytes(&id).u8(count).done();
        for lock in locks {
            let slot = Slot::new(*lock, bearable(cost), context(kind, &id, &bytes), &key, rng)?;
            bytes.extend_from_slice(&slot.encode());
        }
        let commit = mark::public(*commit(&key, &bytes).expose());
        bytes.extend_from_slice(&commit);
        Ok(Self { kind, id, bytes, file_key: file_key(&key, &commit) })
    }

    /// Reads a header, and opens it.
    pub(super) fn read(inner: &mut impl Read, lock: Lock<'_>) -> Result<Self> {
        let mut bytes = Vec::from([0; HEAD]);
        fill(inner, &mut bytes)?;
        let (kind, id, count) = head(&bytes)?;
        let slots = bytes.len();
        bytes.resize(slots.saturating_add(usize::from(count).saturating_mul(Slot::LENGTH)), 0);
        fill(inner, bytes.get_mut(slots..).unwrap_or_default())?;
        let mut found = [0; 32];
        fill(inner, &mut found)?;
        // Before any lock is tried: all of it has to be what an archive begins with.
        let slots = self::slots(&bytes)?;
        let key = open(kind, &id, &bytes, &slots, lock)?;
        if commit(&key, &bytes) != Secret::new(found) {
            return Err(Error::DamagedArchive { chunk: None }.into());
        }
        bytes.extend_from_slice(&found);
        Ok(Self { kind, id, bytes, file_key: file_key(&key, &found) })
    }
}

/// Finds the slot that a lock opens.
fn open(
    kind: ArchiveKind,
    id: &[u8; 16],
    bytes: &[u8],
    slots: &[Slot],
    lock: Lock<'_>,
) -> core::result::Result<Secret<32>, Error> {
    let mut before = HEAD;
    for slot in slots {
        let head = bytes.get(..before).unwrap_or_default();
        match slot.open(lock, context(kind, id, head))? {
            // A copy, so that the one on the heap is wiped there.
            Opened::Secret(key) => return Ok(Secret::clone(&key)),
            Opened::Damaged => return Err(Error::DamagedArchive { chunk: None }),
            Opened::Other => before = before.saturating_add(Slot::LENGTH),
        }
    }
    Err(Error::WrongPassphrase)
}

fn head(bytes: &[u8]) -> core::result::Result<(ArchiveKind, [u8; 16], u8), Error> {
    let mut reader = codec::Reader::new(bytes);
    if reader.array()? != MAGIC {
        return Err(Error::Malformed);
    }
    match reader.u8()? {
        VERSION => {}
        0 => return Err(Error::Malformed),
        _ => return Err(Error::NewerArchive),
    }
    let kind = ArchiveKind::from_u8(reader.u8()?).ok_or(Error::Malformed)?;
    let (id, count) = (*reader.array()?, reader.u8()?);
    let is_right = (1..=MAX_LOCKS).contains(&usize::from(count));
    if is_right { Ok((kind, id, count)) } else { Err(Error::Malformed) }
}

fn slots(bytes: &[u8]) -> core::result::Result<Vec<Slot>, Error> {
    let mut reader = codec::Reader::new(bytes.get(HEAD..).unwrap_or_default());
    let count = bytes.len().saturating_sub(HEAD).div_euclid(Slot::LENGTH);
    let mut slots = Vec::with_capacity(count);
    for _ in 0..count {
        let slot = Slot::read(&mut reader)?;
        if slot.kind == LockKind::Passphrase && slot.cost.work() > MOST_WORK {
            return Err(Error::Malformed);
        }
        slots.push(slot);
    }
    reader.end()?;
    Ok(slots)
}

const MAGIC: &[u8; 8] = b"SUBROSAA";
const VERSION: u8 = 1;

/// Before the slots: 27 bytes.
const HEAD: usize = 27;

/// KiB that Argon2 writes for one slot at most, in all passes: 4 GiB. It is a few seconds. Somebody
/// may have made the numbers up to exhaust the machine that opens the archive.
const MOST_WORK: u64 = 4 << 20;

/// A cost with as many passes as a reader bears.
fn bearable(cost: Argon2Cost) -> Argon2Cost {
    let most = MOST_WORK.checked_div(u64::from(cost.memory_kib)).unwrap_or(1);
    let passes = u64::from(cost.passes).min(most);
    Argon2Cost { passes: u32::try_from(passes).unwrap_or(cost.passes), ..cost }
}

fn context<'a>(kind: ArchiveKind, id: &'a [u8; 16], before: &'a [u8]) -> Context<'a> {
    const KINDS: [&[u8]; 2] = [&[1], &[2]];
    let [backup, transfer] = KINDS;
    let more = match kind {
        ArchiveKind::Backup => backup,
        ArchiveKind::Transfer => transfer,
    };
    Context { label: b"Subrosa v1 archive slot", id, more, before }
}

/// The AEAD commits to no key: this says that the one that a slot had is the archive's.
fn commit(key: &Secret<32>, before: &[u8]) -> Secret<32> {
    let [key] = kdf::hkdf(&kdf::NO_SALT, &[key.expose()], &[b"Subrosa v1 archive commit"]);
    HmacKey::new(&key).mac(&[before])
}

fn file_key(key: &Secret<32>, commit: &[u8; 32]) -> Secret<32> {
    let [key] = kdf::hkdf(&kdf::NO_SALT, &[key.expose()], &[b"Subrosa v1 archive file", commit]);
    key
}

/// What ends early is no archive.
fn fill(inner: &mut impl Read, bytes: &mut [u8]) -> Result<()> {
    inner.read_exact(bytes).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => Error::Malformed.into(),
        _ => error,
    })
}
