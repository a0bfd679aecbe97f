//! Archives: backups of an account and its history, and what moves to a new device
//! (docs/archive.md).
//!
//! ```text
//! archive = "SUBROSAA" || version:u8 = 1 || kind:u8 (1 backup, 2 transfer) || id:16 ||
//!           count:u8 (1 to 4) || count * slot || commit:32 || chunks
//! commit  = HMAC(HKDF(0, AK, "Subrosa v1 archive commit", 32), all before)
//! F       = HKDF(0, AK, "Subrosa v1 archive file" || commit, 32)
//! chunks  = frames || zeros, |P| = Padme(max(|frames|, 1024)), sealed as those of a file under F
//! frame   = type:u16 || length:u32 (at most 2^20) || body
//! ```
//!
//! The archive key AK is drawn for each archive, and each of its [`Lock`]s opens a slot that has
//! it. A lock that opens no slot is [`Error::WrongPassphrase`]; once one did, whatever is wrong is
//! [`Error::DamagedArchive`], and no other passphrase helps.
//!
//! An app makes archives with [`Client::export`](crate::Client::export) and begins from one with
//! [`Client::restore`](crate::Client::restore). [`Writer`] and [`Archive`] are the format alone.
//! Both hold one chunk of 64 KiB and one frame, however long the archive is.
//!
//! ```
//! use std::io::Cursor;
//! use subrosa::archive::Archive;
//! use subrosa::store::{Lock, Memory, Passphrase};
//! use subrosa::{Client, Contents, SystemRng, UnixTime};
//!
//! # fn main() -> std::io::Result<()> {
//! let (now, rng) = (UnixTime::now()?, &mut SystemRng);
//! let mut client = Client::create(Memory::new(), "rosa", now, rng)?;
//! let passphrase = Passphrase::generate(6, rng);
//! let history = ["a line", "another"].map(|line| Ok(line.as_bytes().to_vec()));
//! let locks = [Lock::Generated(&passphrase)];
//! let file = client.export(&locks, &Contents::default(), history, Vec::new(), now, rng)?;
//!
//! let typed = Lock::Passphrase(passphrase.as_str());
//! let mut archive = Archive::open(Cursor::new(file), typed)?;
//! assert_eq!(archive.info().user, "rosa");
//! assert_eq!(archive.check()?.app_frames, 2); // all of it is there, and as it was written
//! # Ok(())
//! # }
//! ```
//!
//! What is never in an archive: sessions, ratchets, prekeys, a device's identity, inbox, outbox and
//! log. Restored twice they would use keys twice; stolen they would open recorded traffic.

mod frame;
mod header;
mod reader;
mod writer;

pub use crate::lock::{Argon2Cost, Lock, LockKind, Passphrase, RecoveryCode};
pub use frame::{Contact, Frame, Info, MAX_FRAME};
pub use header::{ArchiveKind, MAX_LOCKS};
pub use reader::{Archive, Checked};
pub use writer::Writer;

#[cfg(doc)]
use crate::error::Error;
